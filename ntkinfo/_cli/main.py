"""The main job: from real data and an architecture to a table, figures and a page that explains them."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from ntkinfo import architectures
from ntkinfo._cli import activations, arguments, data_options
from ntkinfo._cli.arguments import integer, number, option

# Those of `Ensemble.fit`, which is imported only when it is needed.
ENGINES = ("auto", "dense", "krylov")
STORAGES = ("auto", "float64", "float32", "none")
EPILOG = activations.listed("closed forms")


@dataclasses.dataclass(frozen=True)
class Options(data_options.DataOptions):
    """The options of the main job."""

    architecture: str = option("dense", None, "kind of layers", group="network", choices=architectures.ARCHITECTURES)
    activation: str = option(
        "erf", activations.reader("closed forms"), "of the hidden layers; listed below", group="network"
    )
    depth: int = option(2, integer(1, 100), "hidden layers", group="network")
    w_std: float = option(1.5, number(1e-6, 1e6), "standard deviation of the weights", group="network")
    b_std: float = option(0.1, number(0, 1e6), "standard deviation of the biases", group="network")
    times: str = option(
        "0,0.1:1e6:60,inf", None, "training times, with commas; first:last:number is a log-spaced range", also=("t",)
    )
    noise: float = option(1.0, number(1e-12, 1e12), "variance of the likelihood and of the decoder")
    samples: int = option(
        16, integer(1, 10**6), "draws per input, where information is sampled (k > 1)", also=("n_samples",)
    )
    singular: str = option("error", None, "what to do with a singular kernel", choices=("error", "project"))
    engine: str = option(
        "auto", None, "dense diagonalises the kernel; krylov is for many data, each number with its error; auto: dense "
        "where that fits", choices=ENGINES,
    )  # fmt: skip
    tolerance: float = option(1e-3, number(0, 1, ends=False), "error that predictions may have, of --engine krylov")
    max_steps: int | None = option(
        None, integer(1, 10**4), "most Lanczos steps of a batch of test inputs, of --engine krylov", default_text="40"
    )
    storage: str = option(
        "auto", None, "of the kernels under --engine krylov: how they are held; none evaluates them for every product, "
        "and auto takes what fits", choices=STORAGES,
    )  # fmt: skip
    delta: float = option(0.05, number(0, 1, ends=False), "probability with which a bound may fail")
    finite: int = option(
        0, integer(0, 10**6), "how many finite networks to train and overlay, at least 4", default_text="0, none"
    )
    width: int = option(256, integer(1, 10**6), "width of the finite networks")
    finite_steps: int = option(1000, integer(1, 10**9), "gradient steps of the finite networks, at most")
    checkpoint: Path | None = arguments.checkpoint_option(
        "finite networks, as they are trained, and what --engine krylov computes, as it comes (kernels: 16 n^2 bytes)"
    )


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


def _finite(options, net, data, times, key, label_options, folder):
    """Quantities of trained finite networks at those times that the steps allow; a note on what was left out."""
    import jax

    from ntkinfo import finite

    # A quarter of the stability limit: gradient descent is then within 0.09 of gradient flow at any time.
    rate = float(finite.stability_limit(net, data.x_train, data.y_train)) / 4
    reached = times[times <= rate * options.finite_steps]
    reached = reached[np.unique(np.linspace(0, len(reached) - 1, min(len(reached), 12)).astype(int))]
    run = finite.train(
        net, data.x_train, data.y_train, reached, n_networks=options.finite, key=key, x_test=data.x_test,
        learning_rate=rate, train_outputs=False, checkpoint=folder,
        # One network a call: the bar moves with each. On the CPU they train one after the other anyway.
        chunk=_stored_chunk(folder) or 1 if jax.default_backend() == "cpu" else None,
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


def run(options: Options) -> None:
    """The main job: prints a table and writes the page, its figures and curve.csv."""
    times = parse_times(options.times)
    if options.finite and options.finite < 4:
        raise ValueError(f"--finite must be 0, or at least 4 for standard errors; got {options.finite}")
    if not np.isfinite(times).any():
        raise ValueError(f"--times must hold at least one finite time; got {options.times!r}")
    if options.checkpoint is not None and not options.finite and options.engine != "krylov":
        raise ValueError(
            "--checkpoint keeps finite networks and what --engine krylov computes: give --finite, take that engine, or "
            "leave it out"
        )
    for name in ("max_steps", "storage"):
        if options.engine != "krylov" and getattr(options, name) != getattr(Options(), name):
            raise ValueError(f"{arguments.flag(name)} is of --engine krylov: take that engine, or leave it out")
    data = data_options.dataset(options, flat=options.architecture != "conv")

    import jax

    jax.config.update("jax_enable_x64", options.dtype == "float64")
    from ntkinfo import information
    from ntkinfo._cli import generalization, output, report
    from ntkinfo.ensemble import Ensemble, KrylovEnsemble
    from ntkinfo.information import certificate

    net = architectures.network(
        options.architecture, activation=options.activation, depth=options.depth, w_std=options.w_std,
        b_std=options.b_std, outputs=data.y_train.shape[1], width=options.width,
    )  # fmt: skip
    output.require_figures()
    out = output.Output.of(options, "curve", report.FILES)
    key = jax.random.key(options.seed)
    started = time.perf_counter()
    # Files of their own: a curve at other times finds the kernels there.
    rows = options.checkpoint / "kernels" if options.checkpoint is not None and options.engine == "krylov" else None
    ens: Any = Ensemble.fit(
        net, data.x_train, data.y_train, singular=options.singular, engine=options.engine, tolerance=options.tolerance,
        storage=options.storage, checkpoint=rows,
    )  # fmt: skip
    krylov, networks_folder = isinstance(ens, KrylovEnsemble), options.checkpoint
    krylov_options: dict[str, Any] = {"max_steps": options.max_steps} if krylov else {}
    if krylov and options.checkpoint is not None:
        krylov_options["checkpoint"], networks_folder = options.checkpoint / "curve", options.checkpoint / "networks"
    label_options = {"label_entropy": None, "task": "regression" if data.task == "regression" else "classes"}
    if data.mutual_information is not None:
        # y = a.x + noise of variance 1: h(Y) = h(noise) + I(X;Y).
        label_options["label_entropy"] = 0.5 * np.log(2 * np.pi * np.e) + data.mutual_information
    curve = information.curve(
        ens, data.x_test, data.y_test, times, noise=options.noise, key=key, n_samples=options.samples,
        **label_options, **krylov_options,
    )  # fmt: skip
    jax.block_until_ready(curve)
    seconds = time.perf_counter() - started
    out.write("curve.csv", lambda path: curve.to_dataframe().to_csv(path, index=False))
    shown = times[report.rows(len(times))]
    if krylov:
        folder = krylov_options.get("checkpoint")
        guaranteed = report.uncertified(ens, curve, shown[np.isfinite(shown)], options.delta, folder)
    else:
        guaranteed = certificate(
            ens, data.x_test, data.y_test, shown[np.isfinite(shown)], delta=options.delta, task=label_options["task"]
        )
    examples = generalization.of(net, ens, data, shown, jax.random.fold_in(key, 1))
    page = report.Report(curve, data, options, seconds, guaranteed, examples)
    print(page.table(options.unit))
    print(f"\nparameters and bounds ({options.unit})\n{page.certificate_table(options.unit)}", flush=True)
    print(f"\nexamples left out ({options.unit})\n{examples.table(options.unit)}", flush=True)
    if options.finite:
        # What is known is there before the networks train, for as long as that takes.
        page.write(out, options.unit)
        samples, note = _finite(options, net, data, times, key, label_options, networks_folder)
        page = page._replace(samples=samples, note=note)
    page.write(out, options.unit)
    print(out.finish())
