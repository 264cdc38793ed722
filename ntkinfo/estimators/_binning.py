"""Discretised variables: bins column by column, rows as symbols, entropies of weights. Host NumPy, no checks.

Behind `estimators.binned`, `estimators.binned_layer` and `estimators.quantised_layer`.
"""

import numpy as np

from ntkinfo._numerics.entropy import plogp

# Symbols are packed into signed 64-bit integers.
LARGEST = 2**62


def fixed(columns, bins: int, lo, hi):
    """Bin of each entry (n, d) among `bins` equal ones from lo to hi, half open but for the last; lo, hi (d,) or ()."""
    lo, hi = (np.broadcast_to(np.asarray(edge, float), columns.shape[1:]) for edge in (lo, hi))
    # A constant column has one bin.
    span = np.where(hi > lo, hi - lo, 1.0)
    codes = np.minimum((columns - lo) / span * bins, bins - 1).astype(np.int64)

    def edge(code):
        return lo + span * (code / bins)

    # The division rounds: an entry next to an edge may have landed on the wrong side of it.
    codes -= (columns < edge(codes)) & (codes > 0)
    return codes + ((columns >= edge(codes + 1)) & (codes < bins - 1))


def grid(columns, width: float, lo: float | None, hi: float | None):
    """Bin of each entry (n, d) among those of one width from `lo` (0 if None); an entry at hi closes the last one."""
    codes = np.floor((columns - (lo or 0.0)) / width).astype(np.int64)
    if lo is not None and hi is not None:
        last = max(int(np.ceil((hi - lo) / width)) - 1, 0)
        codes = np.where(columns == hi, np.minimum(codes, last), codes)
    return codes


def adaptive(columns, bins: int):
    """Bin of each entry (n, d) among `bins` of equal occupancy; equal entries share a bin."""
    inner = np.quantile(columns, np.arange(1, bins) / bins, axis=0)
    return np.stack([np.searchsorted(e, c, side="right") for e, c in zip(inner.T, columns.T, strict=True)], axis=1)


def symbols(codes):
    """Rows of integers (n, d) as symbols 0 ... K - 1, equal for equal rows only."""
    codes = codes - codes.min(axis=0)
    packed, size = np.zeros(len(codes), np.int64), 1
    for column in codes.T:
        radix = int(column.max()) + 1
        if size > LARGEST // radix:
            # Renumbering leaves at most n symbols; n of them times n values fit.
            packed, column = (np.unique(values, return_inverse=True)[1] for values in (packed, column))
            size, radix = int(packed.max()) + 1, int(column.max()) + 1
        packed, size = packed * radix + column, size * radix
    return np.unique(packed, return_inverse=True)[1]


def entropy(weights) -> float:
    """Entropy in nats of weights that need not be normalised: log W - Σ w log w / W."""
    weights = np.asarray(weights, np.float64)
    total = weights.sum()
    return float(np.log(total) - plogp(weights).sum() / total)


def layer(codes, p_x, p_y_given_x) -> tuple[float, float]:
    """H(T) = I(X;T) and I(T;Y) in nats, exactly, for T the rows of the integers (n, d)."""
    t = symbols(codes)
    p_t = np.bincount(t, weights=p_x)
    joint = np.stack([np.bincount(t, weights=p_x * column) for column in p_y_given_x.T])
    h_t = entropy(p_t)
    return h_t, h_t + entropy(joint.sum(axis=1)) - entropy(joint.ravel())
