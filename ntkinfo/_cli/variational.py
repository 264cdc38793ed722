"""Variational bottlenecks on images from the command line: `python -m ntkinfo variational`.

Sweeps VIB, CEB and the variational dual over their trade-off on digits or MNIST files and writes the information plane,
errors, dynamics and a comparison of I(X;Z) at equal I(Y;Z).
"""

import csv
import dataclasses
import time
from pathlib import Path

import numpy as np

from ntkinfo import variational
from ntkinfo._cli import arguments, output
from ntkinfo._cli.arguments import integer, number, option
from ntkinfo._common import tables
from ntkinfo.variational import encoders, label_noise

_CAPTIONS = {
    "plane.png": "I(Y;Z) at least, against I(X;Z): InfoNCE to the leave-one-out upper bound, on the test images.",
    "error.png": "Test error against the trade-off.",
    "calibration.png": "Expected calibration error against the trade-off.",
    "dynamics.png": "I(X;Z) over training, on training images.",
}


@dataclasses.dataclass(frozen=True)
class Options(arguments.OutputOptions):
    """The options of the job."""

    data: str = option("digits", arguments.name, "digits, or a folder of MNIST files", group="data")
    n_train: int = option(1000, integer(2, 10**7), "training images", group="data")
    n_test: int | None = option(
        None, integer(1, 10**7), "test images", group="data", default_text="all the rest of digits, 1000 of MNIST"
    )
    seed: int = option(0, integer(0, arguments.MOST_SEED), "of the split and of the first fit", group="data")
    objectives: str = option("vib,ceb,dual", None, "with commas", group="fits", also=("names",))
    betas: str = option("0.1:1000:7", None, "first:last:number, log-spaced, or numbers with commas", group="fits")
    seeds: int = option(1, integer(1, 10**4), "fits of each trade-off", group="fits")
    latent: int = option(8, integer(1, 10**4), "dimensions of the latent", group="fits")
    hidden: int = option(128, integer(1, 10**5), "units of each of two hidden layers", group="fits")
    steps: int = option(1500, integer(1, 10**7), "of training", group="fits")
    epsilon: float = option(0.1, number(0, 1, ends=False), "label smoothing of the dual's noise model", group="fits")
    out: Path = arguments.out_option("ntkinfo-variational")
    checkpoint: Path | None = arguments.checkpoint_option("fits, as they are trained")


def run(options) -> None:
    """Sweeps, prints a table and writes the folder."""
    import jax

    from ntkinfo import datasets

    started = time.perf_counter()
    betas = arguments.grid("--betas", options.betas)
    output.require_figures()
    out = output.Output.of(options, "variational", ("sweep.csv", *_CAPTIONS, *output.PAGES))
    common = {"task": "classes", "seed": options.seed, "dtype": np.float32}
    if options.data == "digits":
        data = datasets.digits(options.n_train, options.n_test, **common)
    else:
        data = datasets.mnist(Path(options.data), options.n_train, options.n_test or 1000, **common)
    sweep = variational.sweep(
        data.x_train, data.labels_train, betas=betas, names=tuple(options.objectives.split(",")), seeds=options.seeds,
        x_test=data.x_test, y_test=data.labels_test, key=jax.random.key(options.seed), latent=options.latent,
        encoder=encoders.mlp(2 * options.latent, (options.hidden, options.hidden)), steps=options.steps,
        noise=label_noise.smoothing(options.epsilon), record=20, checkpoint=options.checkpoint,
    )  # fmt: skip
    text = table(sweep, options.unit)
    verdict = claim(sweep)
    print(f"{text}\n\n{verdict}", flush=True)
    _write_csv(out, sweep)
    names = _figures(out, options, sweep)
    page = [
        "# Variational bottlenecks",
        "",
        f"{data.name}: {len(data.x_train)} training images, {len(data.x_test)} test images; {options.steps} steps, "
        f"{options.latent} latent dimensions. {time.perf_counter() - started:.0f} s.",
        "",
        "Everything is measured on the test images. InfoNCE is a lower bound on I(X;Z), at most "
        f"{float(sweep.ceiling):.3f} nats here; leave-one-out is an upper one; I(Y;Z) is the decoder's lower bound.",
        "",
        "```",
        text,
        "```",
        "",
        verdict,
        *(line for name in names for line in ("", f"![{name}]({name})", "", _CAPTIONS[name])),
    ]
    out.page("\n".join(page) + "\n")
    print(out.finish())


def table(sweep, unit: str = "nats") -> str:
    """Means over seeds for every objective and trade-off."""
    factor = tables.factor(unit)
    head = ("beta", "I(X;Z) >", "I(X;Z) <", "I(Y;Z) >", "error", "log loss", "calibration")
    lines = [f"{'':6}" + "".join(f"{title:>13}" for title in head) + f"   [{unit}]"]
    for i, name in enumerate(sweep.objectives):
        for b, beta in enumerate(np.asarray(sweep.beta)):
            information = (sweep.i_xz_lower, sweep.i_xz_upper, sweep.i_yz_lower)
            values = [factor * float(bound[i, b].mean()) for bound in information]
            values += [float(loss[i, b].mean()) for loss in (sweep.error, sweep.log_loss, sweep.calibration_error)]
            lines.append(f"{name:6}{beta:13.4g}" + "".join(f"{value:13.4g}" for value in values))
    return "\n".join(lines)


def claim(sweep) -> str:
    """The published claim, that the dual needs a fraction of VIB's I(X;Z) for the same I(Y;Z), and what is found here.

    Source: arXiv 2006.04641 (about 1 nat against 5 at the ceiling on FashionMNIST).
    """
    required = variational.required_information(sweep)
    needed = dict(zip(required.objectives, required.i_xz, strict=True))
    listed = ", ".join(f"{name} {value:.2f}" for name, value in needed.items())
    text = f"I(X;Z) needed for I(Y;Z) of {required.i_yz:.3f} nats: {listed} nats."
    if not {"vib", "dual"} <= set(needed):
        return text
    ratio = needed["dual"] / needed["vib"]
    verdict = "holds" if ratio < 0.5 else "does not hold" if ratio > 0.8 else "holds in part"
    return f"{text} The claim that the dual needs a fraction of VIB's {verdict} here: {ratio:.2f} of it."


def _write_csv(out, sweep) -> None:
    # What is measured of each fit is an array over objectives, trade-offs and seeds.
    fields = [field.name for field in dataclasses.fields(variational.Measurement)]
    names = [name for name in fields if np.ndim(getattr(sweep, name, None)) == 3]

    def write(path):
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("objective", "beta", "seed", *names, "failed"))
            for i, b, s in np.ndindex(*sweep.error.shape):
                values = (getattr(sweep, name)[i, b, s] for name in names)
                texts = ("" if np.isnan(value) else f"{float(value):.8g}" for value in values)
                writer.writerow((sweep.objectives[i], float(sweep.beta[b]), s, *texts, int(sweep.failed[i, b, s])))

    out.write("sweep.csv", write)


def _figures(out, options, sweep) -> list[str]:
    """Writes the figures; their names."""
    import matplotlib.pyplot as plt

    from ntkinfo import plot

    def dynamics():
        figure, axes = plt.subplots(1, len(sweep.objectives), figsize=(5 * len(sweep.objectives), 3.4), squeeze=False,
                                    layout="constrained")  # fmt: skip
        for name, ax in zip(sweep.objectives, axes.flat, strict=True):
            plot.dynamics(sweep, name, unit=options.unit, ax=ax)
        return figure

    drawn = {
        "plane.png": lambda: plot.variational(sweep, unit=options.unit).figure,
        "error.png": lambda: plot.variational_error(sweep).figure,
        "calibration.png": lambda: plot.variational_error(sweep, "calibration_error").figure,
        "dynamics.png": dynamics,
    }
    for name, draw in drawn.items():
        out.figure(name, draw())
    return list(drawn)
