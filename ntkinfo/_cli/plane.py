"""The information plane of trained networks from the command line: `python -m ntkinfo plane`.

Trains an ensemble on the 12-bit task and writes its layers' information by several estimators, its gradient phases and
losses, beside the bottleneck curve and the closed-form ensemble of the same depth.
"""

import argparse
import csv
import dataclasses
import time
from pathlib import Path

import numpy as np

from ntkinfo._cli import activations, arguments, output
from ntkinfo._cli.arguments import integer, number, option
from ntkinfo._common import tables

SIZES = (12, 10, 7, 5, 4, 3, 2)
# The infinite ensemble's activation: erf is tanh to 2 % once scaled, and has a closed-form kernel.
_INFINITE = {"tanh": "erf", "erf": "erf", "relu": "relu", "gelu": "gelu"}
_CAPTIONS = {
    "plane.png": "Every layer, by bins. The black line is the bottleneck curve: nothing lies above it.",
    "estimators.png": "The same networks by other bins and by kernel densities: what one sees depends on it.",
    "gradients.png": "Norms of the mean and of the standard deviation of the minibatch gradients, over the weights.",
    "training.png": "Loss and error over the epochs; shades are two standard errors over networks.",
}


EPILOG = activations.listed("trained layers")


@dataclasses.dataclass(frozen=True)
class Options(arguments.OutputOptions):
    """The options of the job."""

    labels: str = option("hard", None, "labels of the 12-bit task", group="task", choices=("hard", "soft"))
    n_train: int = option(3481, integer(2, 4096), "training patterns, of 4096", group="task")
    seed: int = option(0, integer(0, arguments.MOST_SEED), "of the split, of weights and batches", group="task")
    hidden: str = option("10,7,5,4,3", None, "units of the hidden layers, with commas", group="networks")
    activation: str = option(
        "tanh", activations.reader("trained layers"), "of the hidden layers; listed below", group="networks"
    )
    networks: int = option(6, integer(1, 10**6), "how many are trained", group="networks", also=("n_networks",))
    epochs: int = option(2000, integer(1, 10**9), "of training", group="training")
    batch_size: int = option(512, integer(0, 4096), "0 for all patterns at once", group="training")
    learning_rate: float = option(0.1, number(1e-12, 1e30), "of gradient descent", group="training")
    records: int = option(
        40, integer(2, arguments.MOST_VALUES), "epochs to measure at, log-spaced", group="training", also=("record",)
    )
    bins: int = option(30, integer(1, 10**6), "of each unit's activation", group="measurement")
    variance: float = option(1e-3, number(1e-12, 1e12), "of the noise of the kernel densities", group="measurement")
    kde_networks: int = option(
        2, integer(0, 10**6), "networks measured by kernel densities; 0: none", group="measurement"
    )
    unit: str = option("bits", None, "of figures and of the printed table", group="output", choices=("nats", "bits"))
    out: Path = arguments.out_option("ntkinfo-plane")
    checkpoint: Path | None = arguments.checkpoint_option("networks, as they are trained")


def run(options) -> None:
    """Trains, measures, prints a table and writes the folder."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ntkinfo import bottleneck, datasets, finite

    started = time.perf_counter()
    sizes = (12, *_hidden(options.hidden), 2)
    output.require_figures()
    if options.activation in _INFINITE:
        # The closed-form ensemble comes last and needs what may not be installed.
        from ntkinfo import stax  # noqa: F401
    out = output.Output.of(options, "plane", ("plane.csv", *_CAPTIONS, *output.PAGES))
    task = datasets.twelve_bit(labels=options.labels, dtype=np.float32)
    p_y_given_x = task.p_y_given_x.astype(float)
    p_y_given_x /= p_y_given_x.sum(axis=1, keepdims=True)
    trained = finite.train_layers(
        sizes, task.x, task.labels if options.labels == "hard" else task.p_y_given_x, epochs=options.epochs,
        n_networks=options.networks, key=jax.random.key(options.seed), activation=options.activation,
        learning_rate=options.learning_rate, batch_size=options.batch_size or None, record=options.records,
        n_train=options.n_train, checkpoint=options.checkpoint,
    )  # fmt: skip
    curve = bottleneck.ib(p_y_given_x / len(p_y_given_x), np.geomspace(1.02, 500, 40))
    measure = {"x": task.x, "p_y_given_x": p_y_given_x, "curve": curve}
    plane = finite.information_plane(trained, **measure, bins=options.bins)
    planes = {plane.estimator: plane}
    print(table(plane, options.unit), flush=True)
    _write_csv(out, planes)
    few = {"n_networks": max(options.kde_networks, 1), "n_records": 12}
    others = {
        f"{options.bins // 3 or 1} bins": {"bins": options.bins // 3 or 1},
        f"{3 * options.bins} bins": {"bins": 3 * options.bins},
        f"{options.bins} bins, each unit's range": {"bins": options.bins, "range": "unit"},
    }
    for name, bins in others.items():
        planes[name] = finite.information_plane(trained, **measure, **bins)
        _write_csv(out, planes)
    if options.kde_networks:
        kde = finite.information_plane(trained, **measure, estimator="kde", variance=options.variance, **few)
        planes[kde.estimator] = kde
        _write_csv(out, planes)
    ensemble = _infinite(options, task, len(sizes) - 2)
    names = _figures(out, options, trained, plane, planes, bottleneck.hull(curve), ensemble)
    seconds = time.perf_counter() - started
    page = [
        "# Layers in the information plane",
        "",
        f"The 12-bit task with {options.labels} labels, I(X;Y) = {task.mutual_information:.4f} nats. "
        f"{options.networks} networks {'-'.join(map(str, sizes))}, {options.activation}, {options.epochs} epochs, "
        f"learning rate {options.learning_rate:g}, {_batches(options)}. {seconds:.0f} s.",
        "",
        "I(X;T) of a deterministic layer is finite only by its discretisation or by noise: the estimator is part of "
        f"each number, and none can exceed log n = {plane.log_n:.3f} nats.",
        "",
        "```",
        table(plane, options.unit),
        "```",
        *(line for name in names for line in ("", f"![{name}]({name})", "", _CAPTIONS[name])),
        "",
        "`plane.csv` holds every point of every network, in nats.",
    ]
    out.page("\n".join(page) + "\n")
    print(out.finish())


def table(plane, unit: str = "nats") -> str:
    """Layers by their means over networks: before training, at most, and at the end."""
    factor = tables.factor(unit)
    x, y = factor * plane.i_xt.mean(axis=0), factor * plane.i_ty.mean(axis=0)
    head = ("layer", "I(X;T) start", "most", "end", "fall", "I(T;Y) start", "end", "distance", "beta", "own beta")
    lines = [
        f"{plane.estimator}; {unit}, mean over {len(plane.i_xt)} networks",
        f"{head[0]:>12}" + "".join(f"{title:>13}" for title in head[1:]),
    ]
    for i, name in enumerate(plane.names):
        most = x[:, i].max()
        numbers = [x[0, i], most, x[-1, i], most - x[-1, i], y[0, i], y[-1, i]]
        numbers += [factor * plane.distance[:, -1, i].mean(), np.median(plane.beta[:, -1, i])]
        numbers += [np.nan if plane.own_beta is None else np.median(plane.own_beta[:, -1, i])]
        lines.append(f"{name:>12}" + "".join(f"{number:>13.4g}" for number in numbers))
    return "\n".join(lines)


def _batches(options) -> str:
    return f"batches of {options.batch_size}" if options.batch_size else "all patterns at once"


def _hidden(text: str) -> tuple[int, ...]:
    try:
        return tuple(arguments.integer(1, 10_000)(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise ValueError(
            "--hidden must be numbers of units from 1 to 10000 with commas, such as 10,7,5; got "
            f"{arguments.shown(text)}"
        ) from None


def _infinite(options, task, depth):
    """The closed-form ensemble of the same depth, trained on 500 patterns and seen on 1000 others; None without one."""
    from ntkinfo import architectures, information
    from ntkinfo.ensemble import Ensemble

    activation = _INFINITE.get(options.activation)
    if activation is None:
        return None
    order = np.random.default_rng(options.seed).permutation(len(task.x))
    x, y = 2 * task.x.astype(float) - 1, 2.0 * task.labels[:, None] - 1
    net = architectures.network("dense", activation=activation, depth=depth, w_std=1.5, b_std=0.1, outputs=1, width=64)
    ens = Ensemble.fit(net, x[order[:500]], y[order[:500]])
    import jax

    seen = order[500:1500]
    return information.curve(ens, x[seen], y[seen], np.r_[0, np.geomspace(0.1, 1e4, 24)], key=jax.random.key(0))


def _write_csv(out, planes) -> None:
    def write(path):
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("estimator", "network", "epoch", "layer", "i_xt", "i_ty", "beta", "distance", "own_beta"))
            for name, plane in planes.items():
                for index in np.ndindex(plane.i_xt.shape):
                    i, t, layer = index
                    own = np.full(plane.beta.shape, np.nan) if plane.own_beta is None else plane.own_beta
                    quantities = (plane.i_xt, plane.i_ty, plane.beta, plane.distance, own)
                    values = (quantity[index] for quantity in quantities)
                    writer.writerow((name, i, int(plane.epochs[t]), plane.names[layer], *(f"{v:.8g}" for v in values)))

    out.write("plane.csv", write)


def _figures(out, options, trained, plane, planes, bound, ensemble) -> list[str]:
    """Writes the figures; their names."""
    from ntkinfo import finite, plot

    drawn = {
        "plane.png": lambda: plot.layers(plane, bound=bound, ensemble=ensemble, unit=options.unit).figure,
        "estimators.png": lambda: plot.estimators(planes, bound=bound, unit=options.unit).flat[0].figure,
        "training.png": lambda: plot.training(trained).flat[0].figure,
    }
    if trained.steps_per_epoch > 1:
        drawn["gradients.png"] = lambda: plot.gradients(finite.gradient_phases(trained)).figure
    for name, draw in drawn.items():
        out.figure(name, draw())
    return list(drawn)
