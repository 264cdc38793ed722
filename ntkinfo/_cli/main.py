"""The main job: from real data and an architecture to a table, figures and a page that explains them."""

import argparse
import time
from pathlib import Path

import numpy as np

from ntkinfo import architectures
from ntkinfo._cli import arguments
from ntkinfo._cli.arguments import JOBS, Parser, integer, number

DATA = ("digits", "gaussian")
TASKS = ("parity", "binary", "classes", "regression")


def parser() -> argparse.ArgumentParser:
    """The parser of the main job."""
    parser = Parser(
        prog="ntkinfo",
        description="Information in the infinite ensemble of infinitely wide networks, over the time of training. "
        "Prints a table and writes curve.csv, figures and report.md. "
        f"Other jobs: {', '.join(f'ntkinfo {name} ({what})' for name, (_, what) in JOBS.items())}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=arguments.name,
        default="digits",
        help="digits, gaussian, a .csv with a line of names, an .npz with x and y, or a folder of MNIST files",
    )
    data.add_argument("--target", type=arguments.name, help="the column of a .csv to be learned")
    data.add_argument(
        "--task", choices=TASKS, help="default: parity for images, regression for gaussian, by y for .csv and .npz"
    )
    data.add_argument(
        "--n-train", type=integer(2, 10**7), help="training inputs; default 1000 (digits, MNIST), 2000 (gaussian)"
    )
    data.add_argument("--n-test", type=integer(1, 10**7), help="test inputs; default all the rest, or 1000")
    data.add_argument(
        "--scale", choices=("auto", "columns", "global", "none"), default="auto",
        help="of the inputs of a .csv or .npz: each column by its own, all by one; auto: by column for tables",
    )  # fmt: skip
    data.add_argument(
        "--seed", type=integer(0, arguments.MOST_SEED), default=0, help="of the split, of finite networks, of sampling"
    )
    network = parser.add_argument_group("network")
    network.add_argument("--architecture", choices=architectures.ARCHITECTURES, default="dense")
    network.add_argument("--activation", choices=architectures.ACTIVATIONS, default="erf")
    network.add_argument("--depth", type=integer(1, 100), default=2, help="hidden layers")
    network.add_argument("--w-std", type=number(1e-6, 1e6), default=1.5, help="standard deviation of the weights")
    network.add_argument("--b-std", type=number(0, 1e6), default=0.1, help="standard deviation of the biases")
    run = parser.add_argument_group("computation")
    run.add_argument(
        "--times",
        default="0,0.1:1e6:60,inf",
        help="training times, with commas; first:last:number is a log-spaced range",
    )
    run.add_argument(
        "--noise", type=number(1e-12, 1e12), default=1.0, help="variance of the likelihood and of the decoder"
    )
    run.add_argument(
        "--samples", type=integer(1, 10**6), default=16, help="draws per input, where information is sampled (k > 1)"
    )
    run.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    run.add_argument(
        "--singular", choices=("error", "project"), default="error", help="what to do with a singular kernel"
    )
    run.add_argument(
        "--delta", type=number(0, 1, ends=False), default=0.05, help="probability with which a bound may fail"
    )
    run.add_argument(
        "--finite",
        type=integer(0, 10**6),
        default=0,
        metavar="N",
        help="train N finite networks and overlay them (N >= 4)",
    )
    run.add_argument("--width", type=integer(1, 10**6), default=256, help="width of the finite networks")
    run.add_argument(
        "--finite-steps", type=integer(1, 10**9), default=1000, help="gradient steps of the finite networks, at most"
    )
    arguments.add_output(parser, out="ntkinfo-report", unit="nats", resumes="finite networks, as they are trained")
    return parser


def parse_times(text: str) -> np.ndarray:
    """Times from "0,0.1:1e6:60,inf": numbers with commas, and log-spaced ranges first:last:number; sorted, distinct."""
    times = []
    for part in text.split(","):
        pieces = part.split(":")
        try:
            if len(pieces) == 1:
                times.append(float(part))
                continue
            first, last, number = float(pieces[0]), float(pieces[1]), int(pieces[2])
            if len(pieces) != 3 or not (0 < first < last < np.inf) or not 2 <= number <= arguments.MOST_VALUES:
                raise ValueError
        except (ValueError, IndexError, OverflowError):
            raise ValueError(
                f"--times must be numbers, or ranges first:last:number with 0 < first < last and number from 2 to "
                f"{arguments.MOST_VALUES}, separated by commas; got {arguments.shown(part)}"
            ) from None
        times.extend(np.geomspace(first, last, number))
    times = np.unique(times)
    if np.isnan(times).any() or (times < 0).any():
        raise ValueError(f"--times must be from 0 to inf; got {arguments.shown(text)}")
    if len(times) > arguments.MOST_VALUES:
        raise ValueError(f"--times must be at most {arguments.MOST_VALUES} times; got {len(times)}")
    return times


def _dataset(options):
    """The data set asked for; the library refuses what does not fit."""
    from ntkinfo import datasets

    common = {"seed": options.seed, "dtype": options.dtype}
    flat = options.architecture != "conv"
    if options.data == "gaussian":
        if options.task not in (None, "regression"):
            raise ValueError(f"--task must be regression for --data gaussian; got {options.task}")
        if not flat:
            raise ValueError("--architecture conv needs images; got --data gaussian")
        return datasets.gaussian(options.n_train or 2000, options.n_test or 1000, **common)
    if options.data == "digits":
        n_train = 1000 if options.n_train is None else options.n_train
        return datasets.digits(n_train, options.n_test, task=options.task or "parity", flat=flat, **common)
    path = Path(options.data)
    if (path.suffix == ".csv") != (options.target is not None):
        raise ValueError("--target must name the column to be learned where --data is a .csv file, and only there")
    if path.is_dir():
        sizes = (1000 if n is None else n for n in (options.n_train, options.n_test))
        return datasets.mnist(path, *sizes, task=options.task or "parity", flat=flat, **common)
    scale = None if options.scale == "none" else options.scale
    if path.suffix == ".csv":
        if not flat:
            raise ValueError(f"--architecture conv needs images; got --data {options.data}")
        sizes = options.n_train, options.n_test
        return datasets.csv(path, options.target, *sizes, task=options.task, scale=scale, **common)
    if path.suffix == ".npz":
        return datasets.npz(path, options.n_train, options.n_test, task=options.task, flat=flat, scale=scale, **common)
    raise ValueError(
        f"--data must be {', '.join(DATA)}, a .csv or .npz file or a folder of MNIST files; got {options.data!r}"
    )


def _finite(options, net, data, times, key, label_options):
    """Quantities of trained finite networks at those times that the steps allow; a note on what was left out."""
    import jax

    from ntkinfo import finite

    # A quarter of the stability limit: gradient descent is then within 0.09 of gradient flow at any time.
    rate = float(finite.stability_limit(net, data.x_train, data.y_train)) / 4
    reached = times[times <= rate * options.finite_steps]
    reached = reached[np.unique(np.linspace(0, len(reached) - 1, min(len(reached), 12)).astype(int))]
    run = finite.train(
        net, data.x_train, data.y_train, reached, n_networks=options.finite, key=key, x_test=data.x_test,
        learning_rate=rate, train_outputs=False, checkpoint=options.checkpoint,
        # One network a call: the bar moves with each. On the CPU they train one after the other anyway.
        chunk=_stored_chunk(options.checkpoint) or 1 if jax.default_backend() == "cpu" else None,
    )  # fmt: skip
    note = (
        f"{options.finite} networks of width {options.width}, trained by gradient descent with learning rate "
        f"{rate:.3g} up to t = {reached[-1]:.3g} ({int(np.max(run.steps))} steps)."
    )
    samples = finite.summary(run, data.y_test, noise=options.noise, key=key, n_samples=options.samples, **label_options)
    return samples, note


def _stored_chunk(folder) -> int | None:
    from ntkinfo._common.checkpoint import Checkpoint

    return None if folder is None else Checkpoint.stored_integer(folder, "chunk")


def run(options: argparse.Namespace) -> None:
    """The main job: prints a table and writes the page, its figures and curve.csv."""
    times = parse_times(options.times)
    if options.finite and options.finite < 4:
        raise ValueError(f"--finite must be 0, or at least 4 for standard errors; got {options.finite}")
    if not np.isfinite(times).any():
        raise ValueError(f"--times must hold at least one finite time; got {options.times!r}")
    if options.checkpoint is not None and not options.finite:
        raise ValueError("--checkpoint keeps finite networks: give their number by --finite, or leave it out")
    data = _dataset(options)

    import jax

    jax.config.update("jax_enable_x64", options.dtype == "float64")
    from ntkinfo import information
    from ntkinfo._cli import output, report
    from ntkinfo._cli.risk_certificate import certificate
    from ntkinfo.ensemble import Ensemble

    net = architectures.network(
        options.architecture, activation=options.activation, depth=options.depth, w_std=options.w_std,
        b_std=options.b_std, outputs=data.y_train.shape[1], width=options.width,
    )  # fmt: skip
    output.require_figures()
    out = output.Output(options.out, report.FILES)
    key = jax.random.key(options.seed)
    started = time.perf_counter()
    ens = Ensemble.fit(net, data.x_train, data.y_train, singular=options.singular)
    label_options = {"label_entropy": None, "task": "regression" if data.task == "regression" else "classes"}
    if data.mutual_information is not None:
        # y = a.x + noise of variance 1: h(Y) = h(noise) + I(X;Y).
        label_options["label_entropy"] = 0.5 * np.log(2 * np.pi * np.e) + data.mutual_information
    curve = information.curve(
        ens, data.x_test, data.y_test, times, noise=options.noise, key=key, n_samples=options.samples,
        **label_options,
    )  # fmt: skip
    jax.block_until_ready(curve)
    seconds = time.perf_counter() - started
    out.write("curve.csv", lambda path: curve.to_dataframe().to_csv(path, index=False))
    shown = times[report.rows(len(times))]
    guaranteed = certificate(
        ens, data.x_test, data.y_test, shown[np.isfinite(shown)], delta=options.delta, task=label_options["task"]
    )
    page = report.Report(curve, data, vars(options), seconds, guaranteed)
    print(page.table(options.unit))
    print(f"\nparameters and bounds ({options.unit})\n{page.certificate_table(options.unit)}", flush=True)
    page.write(out, options.unit)
    if options.finite:
        samples, note = _finite(options, net, data, times, key, label_options)
        page = page._replace(samples=samples, note=note)
    page.write(out, options.unit)
    print(out.finish())
