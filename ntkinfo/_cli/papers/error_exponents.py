"""Piran, Shwartz-Ziv & Tishby 2020 (arXiv 2006.04641): prediction-error exponents of the dual and of the bottleneck."""

import numpy as np

from ntkinfo import bottleneck
from ntkinfo._cli.papers.figure import Claim, Figure, Found

# Levels of I(X;Z), as shares of what both curves reach, and how far apart exponents count as equal: those between two
# neighbouring β are interpolated.
LEVELS = np.linspace(0.1, 0.95, 18)
TOLERANCE = 5e-3
# Two neighbouring β whose I(X;Z) is farther apart, as a share of the largest, have no optimum between them.
JUMP = 0.06


def tables(full: bool, seed: int) -> dict[str, list[np.ndarray]]:
    """Joint tables (x, y) of three kinds, none with a zero: what the dual asks for."""
    rng, number = np.random.default_rng(seed), 10 if full else 2
    found: dict[str, list[np.ndarray]] = {"two labels": [], "three labels": [], "exponential family": []}
    for _ in range(number):
        for name, labels in (("two labels", 2), ("three labels", 3)):
            rows = 0.96 * rng.dirichlet(np.ones(labels), size=6) + 0.04 / labels
            found[name].append(rows * rng.dirichlet(np.full(6, 3.0))[:, None])
        rows = np.exp(-np.outer(rng.uniform(-1.5, 1.5, size=6), [1.0, -1.0]))
        found["exponential family"].append(rows / rows.sum(axis=1, keepdims=True) / 6)
    return found


def along(curve, p_xy, levels) -> np.ndarray:
    """Mean exponents at given I(X;Z), between neighbouring β; `nan` where the curve jumps over a level."""
    i_xz = np.asarray(curve.i_xz)
    rate = np.asarray(bottleneck.prediction_exponent(p_xy, np.asarray(curve.encoder)).mean)
    order = np.argsort(i_xz, kind="stable")
    at = np.clip(np.searchsorted(i_xz[order], levels), 1, len(order) - 1)
    jump = i_xz[order][at] - i_xz[order][at - 1] > JUMP * i_xz.max()
    return np.where(jump, np.nan, np.interp(levels, i_xz[order], rate[order]))


def listed(several) -> list[list[float | None]]:
    """Rows of numbers, None where a curve jumps."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in several]


def exponents(full: bool, seed: int) -> Found:
    """Mean prediction-error exponents of both methods at equal I(X;Z), over the exponent of X itself."""
    beta = np.geomspace(1.05, 300, 90 if full else 24)
    differences: dict[str, list[np.ndarray]] = {}
    excess = gap = -np.inf
    for kind, several in tables(full, seed).items():
        for p_xy in several:
            whole = float(bottleneck.prediction_exponent(p_xy, np.eye(len(p_xy))).mean)
            curves = [
                method(p_xy, beta, certificate=True, progress=False) for method in (bottleneck.ib, bottleneck.dual_ib)
            ]
            gap = max(gap, *(float(np.max(curve.gap)) for curve in curves))
            levels = LEVELS * min(float(np.max(curve.i_xz)) for curve in curves)
            rates = [along(curve, p_xy, levels) / whole for curve in curves]
            excess = max(excess, *(float(np.nanmax(rate, initial=0.0)) - 1 for rate in rates))
            differences.setdefault(kind, []).append(rates[1] - rates[0])
    proven = "largest proven distance of a Lagrangian from its optimum"
    claims = [
        Claim("largest exponent of any encoder over that of X, less 1", excess, "at most", 0.0, 1e-9),
        Claim(proven, gap, "at most", 0.0, 1e-6, unit="nats"),
    ]
    for kind, found in differences.items():
        values = np.array(found)
        values = values[np.isfinite(values)]
        claims += [
            Claim(f"{kind}: dual less bottleneck, mean over tables and I(X;Z)", float(values.mean()), "at least", 0.0,
                  TOLERANCE, "abstract"),
            Claim(f"{kind}: the smallest difference", float(values.min()), "at least", 0.0, TOLERANCE, "abstract"),
        ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, len(differences), figsize=(12, 3.8), sharey=True, layout="constrained")
        for ax, (kind, found) in zip(axes, differences.items(), strict=True):
            ax.plot(LEVELS, np.array(found).T, color="C0", lw=0.9, alpha=0.7)
            ax.axhline(0, color="0.4", lw=0.8)
            ax.set(title=kind, xlabel="$I(X;Z)$, share of what both reach")
        axes[0].set_ylabel("exponent of the dual less the\nbottleneck's, over that of $X$")
        return figure

    numbers = {"levels": LEVELS, "differences": {kind: listed(found) for kind, found in differences.items()}}
    settings = {"tables": sum(map(len, differences.values())), "betas": len(beta), "seed": seed}
    return Found(numbers, claims, draw, settings)


FIGURES = {
    "exponents": Figure(
        "Mean prediction-error exponents at equal I(X;Z): the dual's less the bottleneck's, as shares of the exponent "
        "of X, on random tables of two and three labels and on exponential families.",
        "The abstract claims that the dual is superior in the mean prediction-error exponent. Held against it: the "
        "mean of the differences, and the smallest one. The exponent is the Chernoff information between labels given "
        "Z, for observations of one label, mean over pairs of labels; all points are optima, proven. Levels that a "
        "curve jumps over are left out.",
        exponents,
    )
}
