"""Means and variances of the two outputs of every pair of a supersample, for one choice of the training examples.

On the host in float64: of the n³ work for each choice only the eigendecomposition cannot be shared among times.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

# e^{-sλ} over a cell of so many e-folds of λ is interpolated from so many points, for every s to this error.
_FOLDS, _NODES, _ERROR = 0.7, 8, 1e-8
# Points whose forms are held at once, few enough for a processor's cache.
_POINTS = 64


class PairMoments(NamedTuple):
    """Outputs of one network at the two examples of n pairs at T times: the one trained on, and the other.

    Attributes:
      trained: means (T, n, k) at the examples trained on; `tested` at the others.
      variance_trained, variance_tested, covariance: (T, n), the same for every output.
      smallest: the smallest eigenvalue of the tangent kernel of the training examples, over its rounding error.
    """

    trained: np.ndarray
    tested: np.ndarray
    variance_trained: np.ndarray
    variance_tested: np.ndarray
    covariance: np.ndarray
    smallest: float


class Cell(NamedTuple):
    """Neighbouring eigenvalues, whose functions e^{-sλ} are combinations of those at few nodes.

    Attributes:
      rows: a slice of the ascending eigenvalues.
      nodes: values of λ, (q,); all eigenvalues of the cell themselves where they are few.
      weights: (eigenvalues of the cell, q).
    """

    rows: slice
    nodes: np.ndarray
    weights: np.ndarray


def cells(rates: np.ndarray) -> list[Cell]:
    """Cells of ascending eigenvalues (n,), not negative; zeros are one node of their own."""
    found, start, n = [], int(np.searchsorted(rates, 0.0, side="right")), len(rates)
    if start:
        found.append(Cell(slice(0, start), np.zeros(1), np.ones((start, 1))))
    while start < n:
        stop = int(np.searchsorted(rates, rates[start] * np.exp(_FOLDS), side="right"))
        inside = rates[start:stop]
        found.append(Cell(slice(start, stop), *_nodes(inside)))
        start = stop
    return found


def _nodes(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of one cell: Chebyshev points in log λ, by the barycentric formula."""
    if len(rates) <= _NODES or rates[0] == rates[-1]:
        distinct, place = np.unique(rates, return_inverse=True)
        return distinct, np.eye(len(distinct))[place.ravel()]
    angles = (2 * np.arange(_NODES) + 1) * np.pi / (2 * _NODES)
    logs = np.log(rates)
    middle, half = 0.5 * (logs[0] + logs[-1]), 0.5 * (logs[-1] - logs[0])
    gaps = (logs[:, None] - middle) / half - np.cos(angles)[None, :]
    # At a node the formula is 0/0 and its limit the node's own weight.
    gaps = np.where(np.abs(gaps) < 1e-14, 1e-14, gaps)
    weights = (-1.0) ** np.arange(_NODES) * np.sin(angles) / gaps
    return np.exp(middle + half * np.cos(angles)), weights / weights.sum(axis=1, keepdims=True)


def _flow(rates: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - e^{-sλ} and e^{-sλ}, (T, q) each, for eigenvalues (q,) and rescaled times (T,); 0 and 1 where λ = 0."""
    positive = rates > 0
    exponents = np.where(positive, rates, 1.0)[None, :] * s[:, None]
    return np.where(positive, -np.expm1(-exponents), 0.0), np.where(positive, np.exp(-exponents), 1.0)


def moments(nngp, ntk, y, side, s, precision: float) -> PairMoments:
    """`PairMoments` of one choice of training examples.

    Args:
      nngp: K of all 2n examples, (2n, 2n), float64; example i and example n + i make pair i.
      ntk: Θ, likewise.
      y: labels, (2n, k).
      side: (n,) 0 or 1, which one of each pair is trained on.
      s: rescaled times, (T,).
      precision: the rounding error of one number as the kernels were computed.
    """
    n, k = len(side), y.shape[1]
    kept, left = np.arange(n) + n * side, np.arange(n) + n * (1 - side)
    rates, u = scipy.linalg.eigh(ntk[np.ix_(kept, kept)], driver="evd", check_finite=False, overwrite_a=True)
    floor = precision * np.sqrt(n) * rates[-1]
    smallest = float(rates[0] / floor)
    rates = np.where(rates > floor, rates, 0.0)
    inverse = np.where(rates > 0, 1 / np.where(rates > 0, rates, 1.0), 0.0)
    rotated, own = u.T @ y[kept], np.diagonal(nngp)
    prior = u.T @ nngp[np.ix_(kept, kept)] @ u
    reach = (ntk[np.ix_(left, kept)] @ u) * inverse[None, :]
    cross = nngp[np.ix_(left, kept)] @ u
    up, down = _flow(rates, s)
    learned, missing = (
        np.moveaxis((left_ @ (f[:, :, None] * rotated[None]).transpose(1, 0, 2).reshape(n, -1)).reshape(n, -1, k), 1, 0)
        for left_, f in ((reach, up), (u, down))
    )
    exact = len(s) <= _NODES
    forms = _at_each_time if exact else _by_cells
    tested, between, trained = forms(reach, u, prior, rates, s, up, down)
    tested = own[left][None, :] + tested - 2 * up @ (reach * cross).T
    between = down @ (cross * u).T - between
    # What cancellation leaves: never below the rounding error of the prior variance, or of the interpolation.
    error = max(16 * precision, 0.0 if exact else _ERROR) * own
    trained = np.where(trained > error[kept][None, :], trained, 0.0)
    tested = np.where(tested > error[left][None, :], tested, 0.0)
    return PairMoments(y[kept][None] - missing, learned, trained, tested, between, smallest)


def _at_each_time(reach, u, prior, rates, s, up, down):
    """Diagonals (T, n) of X K̃ Xᵀ, X K̃ Zᵀ and Z K̃ Zᵀ with X = reach · up and Z = u · down, a time after the other."""
    tested, between, trained = (np.empty((len(s), len(u))) for _ in range(3))
    for at in range(len(s)):
        x, z = reach * up[at], u * down[at]
        product = x @ prior
        tested[at], between[at] = np.einsum("ij,ij->i", product, x), np.einsum("ij,ij->i", product, z)
        trained[at] = np.einsum("ij,ij->i", z @ prior, z) if np.any(down[at]) else 0.0
    return tested, between, trained


def _by_cells(reach, u, prior, rates, s, up, down):
    """The same for many times: the forms between nodes of all cells first, times last."""
    parts, n = cells(rates), len(u)
    rising, falling = (zip(*(_flow(cell.nodes, s) for cell in parts), strict=True)) if parts else ((), ())
    products = {
        (a, b): _products(rising[a], falling[a], rising[b], falling[b], a == b)
        for a in range(len(parts))
        for b in range(a, len(parts))
    }
    tested, between, trained = (np.zeros((len(s), n)) for _ in range(3))
    for start in range(0, n, _POINTS):
        here = slice(start, min(start + _POINTS, n))
        x, z = reach[here], u[here]
        both = np.stack([x, z])
        for a, cell in enumerate(parts):
            rows, q = cell.rows, len(cell.nodes)
            # K̃ is symmetric: a cell meets only itself and those after it.
            scaled = cell.weights.T[:, None, None, :] * both[None, :, :, rows]
            product = scaled.reshape(-1, scaled.shape[3]) @ prior[rows, rows.start :]
            product = product.reshape(q, 2, len(x), -1)
            for b in range(a, len(parts)):
                other, of_time = parts[b], products[a, b]
                columns = product[..., other.rows.start - rows.start : other.rows.stop - rows.start]
                with_x, with_z = ((columns * v[None, None, :, other.rows]) @ other.weights for v in (x, z))
                tested[:, here] += of_time[0] @ _flat(with_x[:, 0])
                trained[:, here] += of_time[1] @ _flat(with_z[:, 1])
                between[:, here] += of_time[2] @ _flat(with_z[:, 0])
                if a != b:
                    between[:, here] += of_time[3] @ _flat(with_x[:, 1])
    return tested, between, trained


def _products(rising, falling, rising_after, falling_after, same):
    """Products over time (T, q r) of the functions of two cells: both rising, both falling, and crossed."""
    pairs = ((rising, rising_after), (falling, falling_after), (rising, falling_after), (falling, rising_after))
    twice = 1 if same else 2
    return [
        factor * (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)
        for factor, (first, second) in zip((twice, twice, 1, 1), pairs, strict=True)
    ]


def _flat(forms):
    """(q, n, r) as (q r, n)."""
    return forms.transpose(0, 2, 1).reshape(-1, forms.shape[1])
