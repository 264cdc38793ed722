"""Weights of trained networks (arXiv 1703.00810): their entropy over training, and what they tell of one another."""

import numpy as np

from ntkinfo import architectures, datasets, estimators, finite, information
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo._common import tables
from ntkinfo.ensemble import Ensemble

SIZES = (12, 5, 3, 2)
GROUPS = 5
# How far the training error may lie above its last value where it counts as settled.
SETTLED = 0.01
WIDTH, TIME = 100_000, 1e3


def entropies(run) -> np.ndarray:
    """Entropy per weight at every epoch, (groups, T, L): of each weight over the networks of a group, layer means."""
    groups = np.array_split(np.arange(len(run.weights[0])), GROUPS)
    found = np.empty((GROUPS, len(run.epochs), len(run.weights)))
    for layer, weights in enumerate(run.weights):
        flat = np.asarray(weights, float).reshape(*weights.shape[:2], -1)
        for i, group in enumerate(groups):
            for epoch, values in enumerate(np.moveaxis(flat[group], 1, 0)):
                found[i, epoch, layer] = np.mean(
                    [float(estimators.differential_entropy(one).value) for one in values.T]
                )
    return found


def initial_entropy(size: int) -> float:
    """Of a normal of deviation 1/√d that is cut off at twice that."""
    from scipy.stats import truncnorm

    return float(truncnorm(-2, 2, scale=size**-0.5).entropy())


def overlap(run) -> float:
    """Mean cosine between the weights of two networks at the end."""
    flat = np.concatenate([np.asarray(w[:, -1], float).reshape(len(w), -1) for w in run.weights], axis=1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    n = len(flat)
    return float((np.square(flat.sum(0)).sum() - n) / (n * (n - 1)))


def pairs(rng, count: int) -> dict[str, list]:
    """Pairs of weights of one network, by where they stand: (layer, in, out) of each."""

    def one(layer, out=None, into=None):
        shape = SIZES[layer], SIZES[layer + 1]
        return layer, rng.integers(shape[0]) if into is None else into, rng.integers(shape[1]) if out is None else out

    found: dict[str, list] = {"into one unit": [], "into and out of a unit": [], "into two units": [], "two layers": []}
    for _ in np.arange(count):
        layer = int(rng.integers(len(SIZES) - 2))
        unit, other = rng.permutation(SIZES[layer + 1])[:2]
        first = one(layer, out=unit)
        second = one(layer, out=unit, into=(first[1] + 1) % SIZES[layer])
        found["into one unit"].append((first, second))
        found["into and out of a unit"].append((first, one(layer + 1, into=unit)))
        found["into two units"].append((first, one(layer, out=other)))
        found["two layers"].append((first, one(layer + 1, into=other)))
    return found


def informations(run, chosen) -> dict[str, tuple[float, float]]:
    """Information between the weights of a pair at the end less before training: mean over pairs, standard error."""

    def of(pair, epoch):
        first, second = (np.asarray(run.weights[layer][:, epoch, i, j], float) for layer, i, j in pair)
        return float(estimators.ksg(first, second).value)

    grown = {kind: np.array([of(pair, -1) - of(pair, 0) for pair in several]) for kind, several in chosen.items()}
    return {kind: (float(v.mean()), float(v.std(ddof=1) / len(v) ** 0.5)) for kind, v in grown.items()}


def nats_per_weight(full: bool) -> float:
    """Most by which the marginals of the weights of a wide network move, per weight, in closed form.

    Weights are independent before training, so that their divergences add up to at most that of all of them together.
    """
    task = datasets.twelve_bit()
    rows = np.random.default_rng(0).permutation(len(task.x))[: 200 if full else 40]
    net = architectures.network("dense", activation="erf", depth=1, w_std=1.5, b_std=0.1, outputs=1)
    ens = Ensemble.fit(net, task.x[rows], 2.0 * task.labels[rows, None] - 1)
    divergence = float(np.asarray(information.parameter_divergence(ens, TIME).total))
    return divergence / (12 * WIDTH + WIDTH)


def weights(full: bool, seed: int) -> Found:
    """Trained networks on the 12-bit task: entropies of weights over epochs, overlaps of runs, pairs of weights."""
    import jax

    task = datasets.twelve_bit(dtype=np.float32)
    n_networks, epochs, record, count = (120, 1200, 12, 40) if full else (60, 10, 3, 8)
    run = finite.train_layers(
        SIZES, task.x, task.labels, epochs=epochs, n_networks=n_networks, key=jax.random.key(seed), n_train=1024,
        batch_size=128, learning_rate=0.1, record=record, progress=False,
    )  # fmt: skip
    epoch = np.asarray(run.epochs)
    found = entropies(run)
    error = np.asarray(run.train_error).mean(0)
    # Something must come after it.
    settled = min(int(np.argmax(error <= error[-1] + SETTLED)), len(error) - 2)
    growth = (found[:, -1] - found[:, settled]).mean(1)
    grown, spread = growth.mean(), growth.std(ddof=1) / GROUPS**0.5
    exact = np.array([initial_entropy(size) for size in SIZES[:-1]])
    away = np.abs(found[:, 0].mean(0) - exact).max()
    between = informations(run, pairs(np.random.default_rng(seed), count))
    common = overlap(run)
    per_weight = nats_per_weight(full)
    claims = [
        Claim("entropy per weight before training less its closed form, largest of the layers", away, "at most", 0.1,
              0.0, unit="nats"),
        Claim(f"most that a weight of an infinite network moves, {WIDTH} units wide", per_weight, "at most", 0.05,
              0.0, unit="nats"),
        Claim("growth of the entropy per weight at settled training error, less 3 standard errors",
              grown - 3 * spread, "at least", 0.0, 0.0, "text", "nats"),
        Claim("mean cosine between the weights of two runs at the end", common, "equals", 0.0, 0.05, "text"),
        *(
            Claim(f"information between weights {kind}, gained in training, less 3 standard errors", mean - 3 * se,
                  "at most", 0.0, 0.0, "question", "nats")
            for kind, (mean, se) in between.items()
        ),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        scale = tables.factor(unit)
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for layer in np.arange(len(SIZES) - 1):
            values = scale * found[:, :, layer]
            left.errorbar(epoch, values.mean(0), values.std(0, ddof=1) / GROUPS**0.5, marker="o", ms=3,
                          color=f"C{layer}", label=f"layer {layer + 1}")  # fmt: skip
            left.axhline(scale * exact[layer], color=f"C{layer}", lw=0.8, ls=":")
        left.axvline(epoch[settled], color="black", lw=0.8, ls="--")
        left.set(xscale="symlog", xlim=(0, None), xlabel="epoch", ylabel=f"entropy per weight [{unit}]")
        left.legend(fontsize="small", title="dotted: infinite width\ndashed: training error settled",
                    title_fontsize="small")  # fmt: skip
        names = list(between)
        means, errors = np.array([between[name] for name in names]).T
        right.errorbar(np.arange(len(names)), scale * means, 3 * scale * errors, fmt="o")
        right.axhline(0, color="black", lw=0.8)
        right.set(ylabel=f"information between two weights,\ngained in training [{unit}]")
        right.set_xticks(np.arange(len(names)), [name.replace(" of ", " of\n") for name in names], fontsize="small")
        return figure

    settings = {"sizes": SIZES, "networks": n_networks, "epochs": epochs, "patterns": 1024, "batch_size": 128,
                "learning_rate": 0.1, "seed": seed, "width": WIDTH}  # fmt: skip
    numbers = {"epochs": epoch, "entropy": found.mean(0), "initial": exact, "train_error": error,
               "settled": epoch[settled], "growth": (grown, spread), "information": between}  # fmt: skip
    return Found(numbers, claims, draw, settings)


WEIGHTS = Figure(
    "The 12-bit task with hard labels, small tanh networks that differ in all that is drawn: the entropy of each "
    "weight over the networks, by epoch and layer, and what two weights of one network tell of each other.",
    "The text says that stochastic relaxation lets the entropy of the weights grow at fixed training error, and that "
    "converged weights of different runs are unrelated. A network whose units change places is the same, so that "
    "cosines near zero say little. Whether weights of one network stay independent is asked by us; in the limit of "
    "infinite width they do, and keep their entropy (theory, section 17).",
    weights,
)
