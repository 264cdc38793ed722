"""Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189): the information plane of infinite ensembles on Gaussian data."""

import numpy as np

from ntkinfo import architectures, bottleneck, datasets, information
from ntkinfo._cli.papers import losses_over_time
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo._common import tables
from ntkinfo.ensemble import Ensemble

# Weight scale -> (I(X;Z|D), I(Y;Z|D)) at t = ∞ in nats, read off Fig. 2.
PUBLISHED = {
    1.5: (1.10, 0.23),
    1.0: (2.05, 0.32),
    0.75: (3.15, 0.335),
    0.5: (4.33, 0.337),
    0.25: (5.97, 0.337),
    0.1: (6.83, 0.345),
}
# The paper does not say its sample: so far may ours be from it.
TOLERANCE = (0.2, 0.04)
INFORMATION = 0.447


def network(w_std: float):
    """Three layers with ReLU between."""
    return architectures.network(activation="relu", depth=2, w_std=w_std, b_std=0.1, width=1024)


def optimum(i_xz):
    """The largest I(Y;Z) at given I(X;Z), for jointly Gaussian X and Y with one mode."""
    correlation = np.sqrt(1 - np.exp(-2 * INFORMATION))
    return np.asarray(bottleneck.gaussian_curve(1.0, 1.0, correlation, i_xz))


def informations(net, data, t) -> dict[str, np.ndarray]:
    """I(X;Z|D), exactly, and the lower bound on I(Y;Z|D) at the times, in nats."""
    z = Ensemble.fit(net, data.x_train, data.y_train).predict(data.x_test, t)
    label_entropy = 0.5 * np.log(2 * np.pi * np.e) + INFORMATION
    label = information.label_information(z, data.y_test, noise=1.0, label_entropy=label_entropy)
    return {"i_xz": np.asarray(information.input_information(z).value), "i_yz": np.asarray(label.value)}


def plane(full: bool, seed: int) -> Found:
    """x ~ N(0, I_30), y = a.x + noise with I(X;Y) = 0.447 nat, six weight scales, over training time."""
    n, m, number, draws = (2000, 1000, 41, 4) if full else (120, 80, 13, 1)
    t = np.concatenate([[0.0], np.logspace(0, 10, number), [np.inf]])
    scales = tuple(PUBLISHED) if full else (1.5, 0.5)
    nets = {w: network(w) for w in scales}
    curves, each = {}, {w: [] for w in scales}
    for draw_number in range(draws):
        data = datasets.gaussian(n, m, information=INFORMATION, seed=seed + draw_number)
        for w in scales:
            found = informations(nets[w], data, t if draw_number == 0 else t[-1:])
            curves.setdefault(w, found)
            each[w].append((found["i_xz"][-1], found["i_yz"][-1]))
    ends = {w: np.mean(pairs, axis=0) for w, pairs in each.items()}
    claims = [
        Claim("largest I(X;Z|D) of any curve, less log m", max(c["i_xz"].max() for c in curves.values()) - np.log(m),
              "at most", 0.0, 1e-6, unit="nats"),
        Claim("I(X;Z|D) at t = inf rises as weights shrink: the smallest step",
              np.diff([ends[w][0] for w in sorted(ends, reverse=True)]).min(), "at least", 0.0, unit="nats"),
    ]  # fmt: skip
    if full:
        for w, (i_xz, i_yz) in PUBLISHED.items():
            for name, one, published, tolerance in zip(("I(X;Z|D)", "I(Y;Z|D)"), ends[w], (i_xz, i_yz), TOLERANCE,
                                                       strict=True):  # fmt: skip
                claims.append(
                    Claim(f"{name} at t = inf, sigma_w = {w}", one, "equals", published, tolerance, "figure", "nats")
                )

    def draw(unit: str):
        import matplotlib.pyplot as plt

        scale = tables.factor(unit)
        figure, ax = plt.subplots(figsize=(7.2, 5), layout="constrained")
        grid = np.linspace(1e-3, np.log(m) + 0.5, 300)
        ax.plot(scale * grid, scale * optimum(grid), color="black", lw=1.4, label="optimum for Gaussian $X$, $Y$")
        colors = plt.get_cmap("viridis")(np.linspace(0.95, 0.05, len(scales)))
        for w, color in zip(scales, colors, strict=True):
            x, y = scale * curves[w]["i_xz"], scale * curves[w]["i_yz"]
            ax.plot(x, y, color=color, lw=1.5, label=rf"$\sigma_w$ = {w}")
            ax.plot(*(scale * ends[w]), "o", color=color, ms=5)
            if full:
                ax.plot(scale * PUBLISHED[w][0], scale * PUBLISHED[w][1], "x", color="#D55E00", ms=8, mew=1.8)
        if full:
            ax.plot([], [], "x", color="#D55E00", ms=8, mew=1.8, label=r"$t\to\infty$, read off the paper")
        ax.plot([], [], "o", color="0.3", ms=5, label=rf"$t\to\infty$, mean over draws ({draws})")
        ax.axvline(scale * np.log(m), color="0.35", ls="--", lw=0.9, label=r"$\log m$")
        ax.set(xlabel=f"$I(X;Z|D)$ [{unit}]", ylabel=f"$I(Y;Z|D)$, lower bound [{unit}]", ylim=(0, scale * 0.5))
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    settings = {"n_train": n, "n_test": m, "draws": draws, "seed": seed, "b_std": 0.1, "I(X;Y)": INFORMATION}
    return Found({"t": t, "curves": curves, "ends": ends, "ends_of_draws": each}, claims, draw, settings)


FIGURES = losses_over_time.FIGURES | {
    "2": Figure(
        "The information plane of infinite ensembles on Gaussian data: a curve over training time for each weight "
        "scale, its end, and the optimum that no representation exceeds on average.",
        "At full size the ends of the curves are compared with points read off the figure of the paper, which does not "
        "say its sample; small sizes are compared with theory alone. The curves are of one draw of the data, so that "
        "one may cross the optimum, which bounds the average; the ends are means over draws.",
        plane,
    )
}
