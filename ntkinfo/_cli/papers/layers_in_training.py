"""Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810): layers of trained networks in the information plane."""

import functools

import numpy as np

from ntkinfo import bottleneck, datasets, finite, plot
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo._cli.papers.layers_of_images import IMAGES
from ntkinfo._cli.papers.weights_in_training import WEIGHTS
from ntkinfo._common import tables

SIZES = (12, 10, 7, 5, 4, 3, 2)
# Patterns to train on: 5, 45 and 85 % of 4096.
PATTERNS = (205, 1843, 3481)
BINS = 30
LEARNT = 0.1


@functools.cache
def task():
    """The 12-bit task with hard labels, and its certified curve."""
    found = datasets.twelve_bit(dtype=np.float32)
    p_y_given_x = found.p_y_given_x.astype(float)
    curve = bottleneck.ib(p_y_given_x / len(p_y_given_x), np.geomspace(1.02, 500, 30), progress=False)
    return found, p_y_given_x, curve


def trained(full: bool, seed: int, patterns: int = PATTERNS[-1], sizes: tuple[int, ...] = SIZES):
    """Networks by minibatch gradient descent, and their layers in the plane: figures share them."""
    return _trained(full, seed, patterns, sizes)


@functools.cache
def _trained(full: bool, seed: int, patterns: int, sizes: tuple[int, ...]):
    # A cache tells arguments that are left out from the same ones given.
    import jax

    few, n_networks = (1500, 4) if full else (20, 2)
    # A small set needs as many steps: more epochs, of fewer batches.
    epochs = few * max(1, round(PATTERNS[-1] / max(patterns, 512)))
    run = finite.train_layers(
        sizes, task()[0].x, task()[0].labels, epochs=epochs, n_networks=n_networks, key=jax.random.key(seed),
        n_train=patterns, batch_size=min(512, patterns), learning_rate=0.1, record=30 if full else 5, progress=False,
    )  # fmt: skip
    plane = finite.information_plane(run, task()[0].x, task()[1], curve=task()[2], bins=BINS, progress=False)
    return run, plane


def hidden(plane) -> slice:
    """Hidden layers that can lose information: the first keeps nearly all, the last few have little."""
    return slice(2, max(3, len(plane.names) - 1))


def summary(plane) -> dict:
    """Means over networks, in nats."""
    return {"epochs": np.asarray(plane.epochs), "layers": list(plane.names), "i_xt": plane.i_xt.mean(0),
            "i_ty": plane.i_ty.mean(0), "distance": np.mean(plane.distance, axis=0)}  # fmt: skip


def settings(full: bool, seed: int, run) -> dict:
    """For the record."""
    return {"sizes": SIZES, "networks": int(np.shape(run.train_error)[0]), "epochs": int(run.epochs[-1]), "bins": BINS,
            "learning_rate": 0.1, "seed": seed}  # fmt: skip


def fall(plane) -> tuple[float, float]:
    """Largest less last I(X;T), mean over hidden layers: mean over networks and its standard error."""
    lost = (plane.i_xt.max(1) - plane.i_xt[:, -1])[:, hidden(plane)].mean(1)
    return float(lost.mean()), float(lost.std(ddof=1) / len(lost) ** 0.5)


def below_the_curve(planes) -> Claim:
    """No layer knows more about the label than the input does."""
    most = max(float(np.max(plane.i_ty)) for plane in planes) - float(task()[0].mutual_information)
    return Claim("largest I(T;Y) of any layer, less I(X;Y)", most, "at most", 0.0, 1e-5, unit="nats")


def draw_bound(ax, scale: float) -> None:
    """The curve of the bottleneck: a line, and a plateau as far as log n."""
    i_xt, i_ty = (np.asarray(part) for part in bottleneck.hull(task()[2]))
    ax.plot(scale * np.append(i_xt, np.log(4096)), scale * np.append(i_ty, i_ty[-1]), color="black", lw=1.2)


def draw_plane(ax, plane, title: str, unit: str) -> None:
    """One plane, its title inside: above it stands the legend."""
    plot.layers(plane, bound=bottleneck.hull(task()[2]), unit=unit, ax=ax)
    ax.set_title("")
    ax.text(0.5, 0.06, title, transform=ax.transAxes, fontsize="small")


def draw_planes(planes: dict, unit: str):
    """A panel for each, three in a row."""
    import matplotlib.pyplot as plt

    columns = min(3, len(planes))
    rows = -(-len(planes) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1 + 4.8 * columns, 4.4 * rows), layout="constrained", squeeze=False
    )
    for ax, (title, plane) in zip(axes.flat, planes.items(), strict=False):
        draw_plane(ax, plane, title, unit)
    for ax in list(axes.flat)[len(planes) :]:
        ax.set_axis_off()
    return figure


def snapshots(full: bool, seed: int) -> Found:
    """Layers of every network before, during and after training."""
    run, plane = trained(full, seed)
    chosen = [0, len(plane.epochs) // 2, len(plane.epochs) - 1]
    lost, error = fall(plane)
    epochs = np.asarray(plane.epochs)
    peak = float(np.median(epochs[plane.i_xt.mean(0).argmax(0)][hidden(plane)]))
    claims = [
        below_the_curve([plane]),
        Claim("fall of I(X;T) after its peak, from layer 3 on, less 3 standard errors", lost - 3 * error,
              "at least", 0.2, 0.0, "abstract", "nats"),
        Claim("share of the epochs after the peak of I(X;T), from layer 3 on", 1 - peak / float(epochs[-1]),
              "at least", 0.5, 0.0, "abstract"),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        scale = tables.factor(unit)
        figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
        for ax, i in zip(axes, chosen, strict=True):
            draw_bound(ax, scale)
            for layer, name in enumerate(plane.names):
                ax.plot(scale * plane.i_xt[:, i, layer], scale * plane.i_ty[:, i, layer], "o", ms=5, label=name)
            ax.set(title=f"epoch {int(plane.epochs[i])}", xlabel=f"$I(X;T)$ [{unit}]")
        axes[0].set_ylabel(f"$I(T;Y)$ [{unit}]")
        axes[-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    return Found(summary(plane), claims, draw, settings(full, seed, run))


def amounts_of_data(full: bool, seed: int) -> Found:
    """Layers over the epochs, trained on few, half and most of the patterns."""
    patterns = PATTERNS if full else PATTERNS[::2]
    planes = {f"{p} of 4096 patterns": trained(full, seed, p)[1] for p in patterns}
    ends = [float(plane.i_ty[:, -1, -2].mean()) for plane in planes.values()]
    claims = [
        below_the_curve(planes.values()),
        Claim("I(T;Y) of the last hidden layer at the end: 3481 less 205 patterns", ends[-1] - ends[0],
              "at least", 0.0, 0.0, "notebook", "nats"),
    ]  # fmt: skip
    numbers = {name: summary(plane) for name, plane in planes.items()}
    run = trained(full, seed)[0]
    return Found(numbers, claims, lambda unit: draw_planes(planes, unit), settings(full, seed, run))


def gradients(full: bool, seed: int) -> Found:
    """Norms of mean and deviation of the gradients, layer by layer."""
    run, plane = trained(full, seed)
    phases = finite.gradient_phases(run)
    ratio = np.asarray(phases.snr).mean(0)
    transition = np.asarray(phases.transition)
    claims = [
        below_the_curve([plane]),
        Claim("signal-to-noise ratio at the first epoch, median over layers", float(np.median(ratio[0])),
              "at least", 1.0, 0.0, "abstract"),
        Claim("signal-to-noise ratio at the end, median over layers", float(np.median(ratio[-1])), "at most", 1.0, 0.0,
              "abstract"),
        Claim("share of layers whose ratio falls below 1 for good", float(np.mean(transition >= 0)),
              "at least", 0.5, 0.0, "abstract"),
    ]  # fmt: skip
    numbers = {"epochs": np.asarray(phases.epochs), "snr": ratio, "transition": transition}
    return Found(numbers, claims, lambda unit: plot.gradients(phases).figure, settings(full, seed, run))


def depths(full: bool, seed: int) -> Found:
    """Networks of one to five hidden layers: the plane, and the epochs to a training error of a tenth."""
    chosen = (1, 2, 3, 4, 5) if full else (1, 5)
    found = {k: trained(full, seed, PATTERNS[-1], (12, *SIZES[1 : k + 1], 2)) for k in chosen}
    learnt = {}
    for k, (run, _) in found.items():
        below = np.asarray(run.train_error) < LEARNT
        first = np.where(below.any(1), np.asarray(run.epochs)[below.argmax(1)], np.inf)
        learnt[k] = float(np.median(first))
    claims = [below_the_curve([plane for _, plane in found.values()])]
    if np.isfinite(learnt[1]):
        ratio = learnt[chosen[-1]] / learnt[1]
        claims.append(
            Claim(
                "epochs to a training error of 0.1: five hidden layers over one", ratio, "at most", 0.5, 0.0, "abstract"
            )
        )
    planes = {f"{k} hidden layer{'s' if k > 1 else ''}": plane for k, (_, plane) in found.items()}
    numbers = {"epochs_to_a_tenth": learnt, **{name: summary(plane) for name, plane in planes.items()}}
    return Found(numbers, claims, lambda unit: draw_planes(planes, unit), settings(full, seed, found[5][0]))


def sample_sizes(full: bool, seed: int) -> Found:
    """Where layers end, against the number of training patterns, 3 to 85 % of 4096."""
    patterns = (123, 205, 615, 1229, 1843, 2662, 3481) if full else PATTERNS[::2]
    planes = {p: trained(full, seed, p)[1] for p in patterns}
    end = {p: (plane.i_xt[:, -1].mean(0), plane.i_ty[:, -1].mean(0)) for p, plane in planes.items()}
    last = [float(i_ty[-2]) for _, i_ty in end.values()]
    claims = [
        below_the_curve(planes.values()),
        Claim(
            "I(T;Y) of the last hidden layer: most less fewest patterns",
            last[-1] - last[0],
            "at least",
            0.0,
            source="notebook",
            unit="nats",
        ),
    ]
    names = list(planes[patterns[0]].names)

    def draw(unit: str):
        import matplotlib.pyplot as plt

        scale = tables.factor(unit)
        figure, ax = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
        draw_bound(ax, scale)
        colors = plt.get_cmap("viridis")(np.linspace(0.95, 0.05, len(patterns)))
        for (p, (i_xt, i_ty)), color in zip(end.items(), colors, strict=True):
            ax.plot(scale * i_xt, scale * i_ty, "o-", ms=4, color=color, label=f"{p} patterns")
        ax.set(xlabel=f"$I(X;T)$ [{unit}]", ylabel=f"$I(T;Y)$ [{unit}]")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    numbers = {"layers": names, "end": {p: {"i_xt": x, "i_ty": y} for p, (x, y) in end.items()}}
    return Found(numbers, claims, draw, settings(full, seed, trained(full, seed)[0]))


def convergence(full: bool, seed: int) -> Found:
    """Distance of the layers from the certified curve, over the epochs."""
    run, plane = trained(full, seed)
    distance = np.mean(plane.distance, axis=0)
    first, last = (float(np.median(distance[i, :-1])) for i in (0, -1))
    # At the corner Z knows all of I(X;Y) and no more; the plateau to its right is as close, and compresses nothing.
    beyond = float(np.median(plane.i_xt[:, -1, :-1]) - task()[0].mutual_information)
    claims = [
        below_the_curve([plane]),
        Claim("distance of hidden layers from the curve at the end, median", last, "at most", 0.05, 0.0, "abstract",
              "nats"),
        Claim("and before training over that, median", first / last, "at least", 2.0, 0.0, "abstract"),
        Claim("I(X;T) beyond the corner of the curve at the end, median", beyond, "at most", 0.5, 0.0, "abstract",
              "nats"),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, (left, right) = plt.subplots(1, 2, figsize=(14, 4.8), layout="constrained")
        draw_plane(left, plane, f"{BINS} bins", unit)
        for layer, name in enumerate(plane.names):
            right.plot(np.asarray(plane.epochs), tables.factor(unit) * distance[:, layer], "o-", ms=3, label=name)
        right.set(xscale="symlog", xlabel="epoch", ylabel=f"distance from the curve [{unit}]", ylim=(0, None))
        right.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    return Found(summary(plane), claims, draw, settings(full, seed, run))


_TASK = "The 12-bit task with hard labels, tanh layers, thirty bins: "
_AGAINST = (
    " What is small, most and close is set by the rules below; no number is read off the figure. I(X;T) of a "
    "deterministic layer is that of its bins: notebook 4 shows other estimators and the controls of the critics."
)
FIGURES = {
    "2": Figure(
        _TASK + "the layers of every network in the information plane, before, during and after training.",
        "The abstract says that most epochs are spent on compression." + _AGAINST,
        snapshots,
    ),
    "3": Figure(
        _TASK + "the layers over the epochs, trained on 5, 45 and 85 % of the patterns.",
        "No number of the paper is compared: that layers end with less about the label where patterns are few is the "
        "finding of our notebook 4." + _AGAINST,
        amounts_of_data,
    ),
    "4": Figure(
        _TASK + "norms of the mean and of the standard deviation of the minibatch gradients over the epochs, by layer.",
        "The abstract says that training passes from a fast drift to a random diffusion." + _AGAINST,
        gradients,
    ),
    "5": Figure(
        _TASK + "networks of one to five hidden layers in the information plane.",
        "The abstract says that more hidden layers reduce the training time dramatically." + _AGAINST,
        depths,
    ),
    "6": Figure(
        _TASK + "where the layers end in the information plane, trained on 3 to 85 % of the patterns.",
        "No number of the paper is compared." + _AGAINST,
        sample_sizes,
    ),
    "7": Figure(
        _TASK + "the layers beside the certified curve of the bottleneck, and their distance from it over the epochs.",
        "The abstract says that converged layers lie on the bound or very close to it. The labels are a function of "
        "the input, so that the curve is a straight line and a plateau, and every point of the plateau is as close."
        + _AGAINST,
        convergence,
    ),
    "weights": WEIGHTS,
    "images": IMAGES,
}
