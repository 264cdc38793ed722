"""Distributions of networks trained on part of the examples until any time: one decomposition for each, on the host."""

from typing import NamedTuple

import numpy as np
import scipy.linalg


class Whole(NamedTuple):
    """What all parts share, in float64.

    Attributes:
      ntk: Θ of all n examples, (n, n).
      nngp: K, likewise.
      y: labels less the mean before training, (n, k).
      precision: the rounding error of one number as the kernels were computed.
    """

    ntk: np.ndarray
    nngp: np.ndarray
    y: np.ndarray
    precision: float


class Rows(NamedTuple):
    """Inputs whose outputs are asked for.

    Attributes:
      ntk: Θ between r inputs and all n examples, (r, n).
      nngp: K, likewise.
      own: K(x, x), (r,).
    """

    ntk: np.ndarray
    nngp: np.ndarray
    own: np.ndarray


def n_bytes(n: int, k: int, times: int, rows: int, threads: int) -> float:
    """About what `whole` of n examples and `predict` at so many rows and times, in so many threads at once, hold."""
    each = 5 * n**2 + 4 * rows * n + times * rows * (k + 1)
    return 8.0 * (6 * n**2 + threads * each)


def whole(eigenvectors, eigenvalues, nngp_rotated, y_rotated) -> Whole:
    """From the eigendecomposition Θ = U diag(λ) Uᵀ, UᵀKU and UᵀY."""
    precision = float(np.finfo(np.asarray(y_rotated).dtype).eps)
    u, rates, nngp, y = (np.asarray(part, np.float64) for part in (eigenvectors, eigenvalues, nngp_rotated, y_rotated))
    return Whole((u * rates) @ u.T, u @ nngp @ u.T, u @ y, precision)


def examples(full: Whole, index: np.ndarray, further: Rows | None = None) -> Rows:
    """The examples `index` as inputs whose outputs are asked for, and `further` ones after them."""
    rows = Rows(full.ntk[index], full.nngp[index], np.diagonal(full.nngp)[index])
    return rows if further is None else Rows(*(np.concatenate(pair) for pair in zip(rows, further, strict=True)))


def predict(full: Whole, kept: np.ndarray, rows: Rows, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means less those before training (T, r, k) and variances (T, r) of networks trained on `kept` (p,) until t (T,).

    Directions below rounding are never learned. A variance below its rounding error is 0.
    """
    block = np.ix_(kept, kept)
    rates, u = scipy.linalg.eigh(full.ntk[block], driver="evd", check_finite=False)
    positive = rates > full.precision * np.sqrt(len(kept)) * rates[-1]
    rates = np.where(positive, rates, 1.0)
    s = t / (len(kept) * full.y.shape[1])
    reach = (rows.ntk[:, kept] @ u) * np.where(positive, 1 / rates, 0.0)
    rotated, cross, prior = u.T @ full.y[kept], rows.nngp[:, kept], full.nngp[block]
    means, variances = np.empty((len(s), *reach.shape[:1], full.y.shape[1])), np.empty((len(s), len(reach)))
    for at, time in enumerate(s):
        moved = reach * -np.expm1(-time * rates)
        a = moved @ u.T
        means[at] = moved @ rotated
        variances[at] = rows.own + np.einsum("ij,ij->i", a @ prior - 2 * cross, a)
    return means, np.where(variances > 16 * full.precision * rows.own, variances, 0.0)
