"""Means and variances from a kernel projected to a Krylov space, and how far those of fewer steps are from them.

The formulas are those of the eigenbasis (`_moments`), with the eigenvectors of the projection for eigenvectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Convergence from one level to the next is taken to be no faster than seen, and no slower than by this factor.
_SLOWEST = 0.98
# Root mean square errors of rounding are shown times this.
_ROUNDING_FACTOR = 4.0


class Projection(NamedTuple):
    """What a basis V (n, q) makes of kernels, labels and m test inputs.

    Attributes:
      ntk: VᵀΘV, (q, q).
      nngp: VᵀKV, (q, q).
      targets: VᵀY, (q, k).
      cross_ntk: VᵀΘ(X, x), (q, m).
      cross_nngp: VᵀK(X, x), (q, m).
      prior: K(x, x), (m,).
    """

    ntk: np.ndarray
    nngp: np.ndarray
    targets: np.ndarray
    cross_ntk: np.ndarray
    cross_nngp: np.ndarray
    prior: np.ndarray


class Level(NamedTuple):
    """Predictions with one number of steps: means (T, m, k), variances (T, m), and the rounding errors of both."""

    mean: np.ndarray
    variance: np.ndarray
    rounding: tuple[np.ndarray, np.ndarray]


def moments(
    projection: Projection,
    s: np.ndarray,
    check_ritz_values: Callable[[np.ndarray], np.ndarray],
    noise: tuple[float, float],
) -> Level:
    """Means and variances at rescaled times s (T,), with what rounding of the kernels does to them.

    A perturbation δ of Θ with independent entries moves the mean aᵀY, a = f(Θ)Θ_*ᵀ, by no more than about its entries'
    size times ‖a‖ ‖f(Θ)Y‖: f(λ) = (1 - e^{-sλ})/λ is a mixture of e^{-uλ}, whose divided differences are below
    f(λ)f(λ').

    Args:
      projection: of the kernels.
      s: rescaled times.
      check_ritz_values: takes the eigenvalues of VᵀΘV, and gives back those to use.
      noise: root mean square errors of the entries of Θ and K.
    """
    p = projection
    values, vectors = np.linalg.eigh(p.ntk)
    values = check_ritz_values(values)
    inverse = np.where(values > 0, 1.0 / np.where(values > 0, values, 1.0), 0.0)
    nngp = vectors.T @ p.nngp @ vectors
    targets, cross_ntk, cross_nngp = (vectors.T @ part for part in (p.targets, p.cross_ntk, p.cross_nngp))
    stds = np.sqrt(np.maximum(np.diagonal(nngp), 0.0))
    m, k = cross_ntk.shape[1], targets.shape[1]
    mean, variance = np.empty((len(s), m, k)), np.empty((len(s), m))
    mean_rounding, variance_rounding = np.empty_like(mean), np.empty_like(variance)
    eps = float(np.finfo(np.float64).eps)
    for i, time in enumerate(s):
        positive = values > 0
        exponent = np.where(positive, time * np.where(positive, values, 1.0), 0.0)
        reach = -np.expm1(-exponent) * inverse
        weights = reach[:, None] * cross_ntk
        mean[i] = weights.T @ targets
        rest = nngp @ weights - 2 * cross_nngp
        # Terms as large as these cancel, see `_numerics.variances`.
        cancelled = eps * (np.sqrt(p.prior) + stds @ np.abs(weights)) ** 2
        value = p.prior + np.sum(weights * rest, axis=0)
        lost = (value <= cancelled) & (value >= -cancelled / np.sqrt(eps))
        length = np.linalg.norm(weights, axis=0)
        fitted = np.linalg.norm(reach[:, None] * targets, axis=0)
        gradient = np.linalg.norm(reach[:, None] * (rest + cross_nngp), axis=0)
        mean_rounding[i] = _ROUNDING_FACTOR * noise[0] * length[:, None] * fitted[None, :]
        mean_rounding[i] += eps * np.sum(np.abs(weights), axis=0)[:, None] * np.max(np.abs(targets), initial=0.0)
        variance_rounding[i] = _ROUNDING_FACTOR * (2 * noise[0] * length * gradient + noise[1] * (1 + length) ** 2)
        variance_rounding[i] += cancelled
        variance[i] = np.where(lost, 0.0, value)
    # What is below its own error may come out negative; a variance is not.
    negative = (variance < 0) & (variance >= -variance_rounding)
    return Level(mean, np.where(negative, 0.0, variance), (mean_rounding, variance_rounding))


def truncation(levels: list[Level], exhausted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the means and variances of the last level from those of fewer steps; 0 where the basis is complete.

    The difference from the level before, and where convergence is slow, what a geometric series of such differences
    adds up to. A difference that is small by accident is taken for as large as is usual at its time.
    """
    last = levels[-1]
    if exhausted:
        return np.zeros_like(last.mean), np.zeros_like(last.variance)
    if len(levels) < 2:
        return np.full_like(last.mean, np.inf), np.full_like(last.variance, np.inf)
    errors = []
    for name in ("mean", "variance"):
        values = [getattr(level, name) for level in levels]
        axes = tuple(range(1, values[-1].ndim))
        difference = np.abs(values[-1] - values[-2])
        usual = np.sqrt(np.mean(difference**2, axis=axes, keepdims=True))
        ratio = np.full_like(usual, _SLOWEST)
        if len(levels) > 2:
            before = np.sqrt(np.mean((values[-2] - values[-3]) ** 2, axis=axes, keepdims=True))
            ratio = np.clip(usual / np.where(before > 0, before, 1.0), 0.0, _SLOWEST)
        errors.append(np.maximum(1.0, ratio / (1.0 - ratio)) * np.maximum(difference, usual))
    return errors[0], errors[1]
