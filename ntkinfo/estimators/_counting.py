"""Entropies and information of counts, with corrections of their bias in small samples. Host NumPy, no checks.

Behind `estimators.binned`, `entropy` and `conditional`. The plug-in entropy Σ -(c/n) log(c/n) of counts c is too low by
about (K - 1)/2n, K the number of values that can occur; each correction guesses what is missing in its own way.
"""

import numpy as np
from scipy.special import digamma

from ntkinfo.estimators import _binning

CORRECTIONS = ("miller_madow", "panzeri_treves", "grassberger", "chao_shen")
# Groups of the jackknife: enough for a standard error known to about 1/√40 of itself.
GROUPS = 20


def entropy(counts: np.ndarray, correction: str | None = None) -> float:
    """Entropy in nats of counts (K,), some of them perhaps 0, of which at least one is not."""
    counts = counts[counts > 0]
    n = int(counts.sum())
    if correction == "grassberger":
        return float(np.log(n) - counts @ _grassberger(counts) / n)
    if correction == "chao_shen":
        return _chao_shen(counts, n)
    value = _binning.entropy(counts)
    # Panzeri & Treves count which values can occur under a condition; without one it is those that do.
    return value if correction is None else value + (len(counts) - 1) / (2 * n)


def _grassberger(counts):
    """G(c) = ψ(c) + ½ (-1)^c (ψ((c + 1)/2) - ψ(c/2)), in the place of log c."""
    sign = np.where(counts % 2 == 0, 0.5, -0.5)
    return digamma(counts) + sign * (digamma((counts + 1) / 2) - digamma(counts / 2))


def _chao_shen(counts, n) -> float:
    once = np.count_nonzero(counts == 1)
    # Of samples that are all different no share is known to be covered; one fewer is what the literature counts.
    coverage = 1 - (once if once < n else n - 1) / n
    p = coverage * counts / n
    # 1 - (1 - p)^n is the chance that a value is seen at all. A single sample has p = 0: entropy 0.
    p = p[p > 0]
    with np.errstate(divide="ignore"):
        return float(np.sum(p * np.log(p) / np.expm1(n * np.log1p(-p))))


def possible_values(counts: np.ndarray, most: int) -> int:
    """How many of `most` values can occur, by Panzeri & Treves: so many as would leave the occupied ones to be seen.

    Values that can occur are given weights (c + 1)/(n + K), those not seen a share γ in all, and their number grows
    until the expected number of occupied values is nearest to the number K of those that are.
    """
    counts = counts[counts > 0]
    n, occupied = int(counts.sum()), len(counts)
    if occupied >= most:
        return occupied
    sizes, times = np.unique(counts, return_counts=True)
    each = -np.expm1(-np.log1p(occupied / n) / n)
    more = np.arange(1, min(most - occupied, int(1 / each)) + 1)
    seen = (1 - more * each)[:, None] * (sizes + 1) / (n + occupied)
    expected = (1 - (1 - seen) ** n) @ times + more * (1 - (1 - each) ** n)
    without = occupied - (1 - sizes / n) ** n @ times
    misses = np.abs(occupied - np.concatenate([[without], expected]))
    # The first that is nearer than both its neighbours, as the search of the literature stops there.
    rises = np.flatnonzero(misses[1:] >= misses[:-1])
    return occupied + int(rises[0] if len(rises) else len(more))


def _panzeri_treves(of_cell, given, counts, n) -> float:
    """Σ_w (R_w - 1) / 2n, R_w the number of possible values under each condition w.

    Args:
      of_cell: the value of each occupied cell of the table, (cells,).
      given: the condition of each, (cells,).
      counts: samples in each, (cells,).
      n: samples in all.
    """
    there = counts > 0
    given, counts = given[there], counts[there]
    most = len(np.unique(of_cell[there]))
    order = np.argsort(given, kind="stable")
    groups = np.split(counts[order], np.flatnonzero(np.diff(given[order])) + 1)
    return sum(possible_values(group, most) - 1 for group in groups) / (2 * n)


class Table:
    """Occupied cells of the joint table of symbols x, y and z (n,), of which entropies are asked for again and again.

    Without a condition z is None.
    """

    def __init__(self, x, y, z=None):
        """Numbers cells and margins once."""
        z = np.zeros(len(x), int) if z is None else z
        self.xz, self.yz, self.xyz = (
            _binning.symbols(np.stack(columns, axis=1)) for columns in ((x, z), (y, z), (x, y, z))
        )
        self.z, first = z, np.unique(self.xyz, return_index=True)[1]
        self.n, self.conditional = len(x), bool(z.any())
        # Of each cell its value of x, and the margins it belongs to.
        self.cell_x, self.cell_xz, self.cell_yz, self.cell_z = x[first], self.xz[first], self.yz[first], z[first]
        self.cells = np.bincount(self.xyz)

    def _margins(self, cells):
        """Counts of (x, z), of (y, z) and of z from those of the cells."""
        return (
            np.bincount(margin, weights=cells).astype(np.int64) for margin in (self.cell_xz, self.cell_yz, self.cell_z)
        )

    def information(self, cells: np.ndarray, correction: str | None) -> float:
        """I(X;Y|Z) = H(X,Z) + H(Y,Z) - H(X,Y,Z) - H(Z) in nats of counts of the cells."""
        xz, yz, z = self._margins(cells)
        how = None if correction == "panzeri_treves" else correction
        value = entropy(xz, how) + entropy(yz, how) - entropy(cells, how)
        if self.conditional:
            value -= entropy(z, how)
        if correction == "panzeri_treves":
            n = int(cells.sum())
            first = np.unique(self.cell_xz, return_index=True)[1]
            value += _panzeri_treves(self.cell_x[first], self.cell_z[first], xz, n)
            value -= _panzeri_treves(self.cell_x, self.cell_yz, cells, n)
        return value

    def ceiling(self) -> float:
        """The smaller of the plug-in H(X|Z) and H(Y|Z) in nats."""
        xz, yz, z = self._margins(self.cells)
        return min(entropy(xz), entropy(yz)) - (entropy(z) if self.conditional else 0.0)


def smooth(correction: str | None) -> str | None:
    """The correction whose jackknife stands for that of another.

    Grassberger's alternates with odd and even counts, which leaving samples out turns into each other: its own
    jackknife is up to twice too large, while Miller and Madow's agrees with its spread.
    """
    return "miller_madow" if correction == "grassberger" else correction


def jackknife(n: int, without) -> float:
    """Grouped jackknife standard error of a value, `without(rows)` the value without the samples at `rows`.

    Every GROUPS-th sample is left out at a time, so that samples sorted by class do not lose a whole class.
    """
    groups = min(GROUPS, n)
    values = [without(np.arange(g, n, groups)) for g in range(groups)]
    return float(np.sqrt((groups - 1) * np.var(values)))


def information(x, y, z=None, correction: str | None = None) -> tuple[float, float, float]:
    """I(X;Y|Z) of symbols (n,) in nats, its jackknife standard error and the smaller of H(X|Z) and H(Y|Z)."""
    table = Table(x, y, z)

    def without(rows):
        return table.information(
            table.cells - np.bincount(table.xyz[rows], minlength=len(table.cells)), smooth(correction)
        )

    return table.information(table.cells, correction), jackknife(table.n, without), table.ceiling()
