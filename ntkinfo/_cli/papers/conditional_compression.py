"""Kawaguchi et al. 2023 (arXiv 2305.18887): what layers keep beyond the label, and the generalization gap."""

import numpy as np

from ntkinfo import bounds, estimators, finite
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo._cli.papers.layers_in_training import BINS, task

SIZES = ((12, 10, 7, 5, 4, 3, 2), (12, 16, 8, 4, 2), (12, 6, 4, 2))
PATTERNS, SPREADS = (205, 410, 819), (0.5, 1.0, 2.0)
# Remembered examples of the decoder that shows the leading term to be no bound.
REMEMBERED = 1000
MEASURES = ("I(X;T|Y), mean over hidden layers", "I(X;T), mean over hidden layers", "I(X;T|Y), last hidden layer",
            "largest gap of a decoder on the last hidden layer")  # fmt: skip


def cells(activations) -> np.ndarray:
    """p(t, y) of a layer of tanh units in bins, over all patterns."""
    t = estimators.layer_cells(activations, bins=BINS, range=(-1.0, 1.0))
    return np.stack([np.bincount(t, weights=column) for column in task()[1].T], axis=1) / len(t)


def overfitted(p_ty, n: int, rng, draws: int) -> np.ndarray:
    """The largest gap of any decoder on T over losses in [0, 1], for so many data sets."""
    counts = rng.multinomial(n, p_ty.ravel() / p_ty.sum(), size=draws)
    return np.maximum(p_ty.ravel() - counts / n, 0).sum(1)


def ranking(full: bool, seed: int) -> Found:
    """Networks of several depths, scales and amounts of data: their gaps beside what their layers keep."""
    import jax
    from scipy.stats import kendalltau

    found_task, rng = task()[0], np.random.default_rng(seed)
    n_networks, epochs, draws = (4, 3000, 400) if full else (2, 20, 100)
    sizes, spreads, patterns = (SIZES, SPREADS, PATTERNS) if full else (SIZES[1:2], SPREADS[1:], PATTERNS[:1])
    columns: dict[str, list] = {name: [] for name in ("patterns", "gap", *MEASURES)}
    ratio, least = [], np.inf
    for i, layers in enumerate(sizes):
        for spread in spreads:
            for n in patterns:
                run = finite.train_layers(
                    layers, found_task.x, found_task.labels, epochs=epochs, n_networks=n_networks, weight_std=spread,
                    key=jax.random.fold_in(jax.random.key(seed), i), n_train=n, batch_size=n, learning_rate=0.3,
                    record=2, progress=False,
                )  # fmt: skip
                plane = finite.information_plane(run, found_task.x, task()[1], bins=BINS, progress=False)
                beyond = plane.i_xt - plane.i_ty
                least = min(least, float(beyond.min()))
                before, after = (finite.activations(run, found_task.x, index=index)[-2] for index in (0, -1))
                p_before = cells(before[0])
                ratio.append(overfitted(p_before, n, rng, draws).mean() / bounds.conditional_compression(p_before, n=n))
                measured = (beyond[:, -1, :-1].mean(1), plane.i_xt[:, -1, :-1].mean(1), beyond[:, -1, -2],
                            [float(bounds.conditional_compression(cells(one), n=n)) for one in after])  # fmt: skip
                columns["gap"].extend((np.asarray(run.test_error) - np.asarray(run.train_error))[:, -1])
                columns["patterns"].extend([n] * n_networks)
                for name, values in zip(MEASURES, measured, strict=True):
                    columns[name].extend(np.asarray(values, float))
    of = {name: np.array(values) for name, values in columns.items()}
    # At a fixed number of patterns, else the smaller set would rank them all.
    same = [of["patterns"] == n for n in patterns]
    tau = {name: [float(kendalltau(of[name][some], of["gap"][some])[0]) for some in same] for name in MEASURES}
    mean = {name: float(np.nan_to_num(values).mean()) for name, values in tau.items()}
    remembered = 0.5 / np.sqrt(2 * np.log(REMEMBERED) / REMEMBERED)
    claims = [
        Claim("tau with the gap of I(X;T|Y), mean over hidden layers, at a fixed number of patterns",
              mean[MEASURES[0]], "at least", 0.2, 0.0, "abstract"),
        Claim("smallest I(X;T|Y)", least, "at least", 0.0, 1e-9, unit="nats"),
        Claim("largest gap of any decoder on layers before training, mean over data, over the bound",
              float(np.mean(ratio)), "equals", 1.0, 0.02),
        Claim("gap of a decoder that remembers, over the root of I(X;Z|Y)/n without a constant", remembered,
              "at least", 4.0),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        from ntkinfo._common import tables

        scale = tables.factor(unit)
        figure, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained", sharey=True)
        for ax, name in zip(axes, (MEASURES[0], MEASURES[3]), strict=True):
            information = name.startswith("I(")
            for i, some in enumerate(same):
                ax.plot((scale if information else 1) * of[name][some], of["gap"][some], "o^s"[i], ms=5,
                        label=f"{patterns[i]} patterns")  # fmt: skip
            ax.set_xlabel(f"${name.split(',')[0]}$ [{unit}], mean over hidden layers" if information else name)
        axes[0].set_ylabel("test error less training error")
        axes[0].legend(fontsize="small")
        return figure

    settings = {"sizes": sizes, "weight_std": spreads, "patterns": patterns, "networks": n_networks, "epochs": epochs,
                "bins": BINS, "learning_rate": 0.3, "seed": seed}  # fmt: skip
    exceeded = float(np.mean(of["gap"] > of[MEASURES[3]]))
    numbers = {"tau": tau, "networks": len(of["gap"]), "gap": of["gap"], "exceeded": exceeded}
    return Found(numbers, claims, draw, settings)


FIGURES = {
    "ranking": Figure(
        "The 12-bit task with hard labels, tanh networks of several depths, scales and numbers of training patterns: "
        "the gap between test and training error beside what layers keep of the input beyond the label, and beside the "
        "most that a decoder could overfit on the last hidden layer.",
        "The abstract says that in many cases generalization errors correlate with the unnecessary information at "
        "hidden layers; what is correlation is set by the rules below, on our task and sizes, not those of the paper. "
        "Its bound is not computed: its constants depend on the encoder. Ours has none left open (theory, section 6).",
        ranking,
    )
}
