"""Means and variances from a kernel projected to a Krylov space, and how far those of fewer steps are from them.

The formulas are those of the eigenbasis (`_moments`), with the eigenvectors of the projection for eigenvectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Convergence from one level to the next is taken to be no faster than seen, and no slower than by this factor.
_SLOWEST = 0.98
# Where convergence speeds up and slows down, one difference may be small by accident: errors are shown times this.
_SAFETY = 3.0
# Directions count as unseen where the least Ritz value is this many times what pairs of inputs tell of the least
# eigenvalue.
_UNSEEN = 3.0
# Root mean square errors of rounding are shown times this.
ROUNDING_FACTOR = 4.0


class Projection(NamedTuple):
    """What a basis V (n, q) makes of kernels, labels and m test inputs.

    Attributes:
      ntk: VᵀΘV, (q, q).
      nngp: VᵀKV, (q, q).
      targets: VᵀY, (q, k).
      cross_ntk: VᵀΘ(X, x), (q, m).
      cross_nngp: VᵀK(X, x), (q, m).
      prior: K(x, x), (m,).
      next: V₊ᵀΘV, (b, q), V₊ the block that comes next: ΘV = V VᵀΘV + V₊ V₊ᵀΘV.
    """

    ntk: np.ndarray
    nngp: np.ndarray
    targets: np.ndarray
    cross_ntk: np.ndarray
    cross_nngp: np.ndarray
    prior: np.ndarray
    next: np.ndarray


class Noise(NamedTuple):
    """What is known of a kernel as it is held.

    Attributes:
      ntk: root mean square error of the entries of Θ.
      nngp: the same of K.
      ntk_pair: the least eigenvalue of Θ, as far as pairs of inputs tell, see `kernels.Totals`.
      nngp_pair: the same of K.
      evaluation: unit in the last place of kernels as they are evaluated.
    """

    ntk: float
    nngp: float
    ntk_pair: float
    nngp_pair: float
    evaluation: float


class Level(NamedTuple):
    """Predictions with one number of steps.

    Attributes:
      mean: (T, m, k).
      variance: (T, m).
      rounding: errors of both from rounding of the kernels.
      unseen: errors of both from directions of small eigenvalues that the basis has not found; zeros where there are
        none.
    """

    mean: np.ndarray
    variance: np.ndarray
    rounding: tuple[np.ndarray, np.ndarray]
    unseen: tuple[np.ndarray, np.ndarray]


def moments(
    projection: Projection,
    s: np.ndarray,
    check_ritz_values: Callable[[np.ndarray], np.ndarray],
    noise: Noise,
) -> Level:
    """Means and variances at rescaled times s (T,), with what rounding of the kernels does to them.

    A perturbation δ of Θ with independent entries moves the mean aᵀY, a = f(Θ)Θ_*ᵀ, by no more than about its entries'
    size times ‖a‖ ‖f(Θ)Y‖: f(λ) = (1 - e^{-sλ})/λ is a mixture of e^{-uλ}, whose divided differences are below
    f(λ)f(λ').

    Where inputs that are alike make eigenvalues far below all Ritz values, differences of levels say nothing of them.
    There a = f(Θ)Θ_*ᵀ is off by as much as f(λ) r, r the residual of the flow da/ds = Θ_*ᵀ - Θa that V leaves, and the
    mean by r f(λ) r' with the residual r' of the labels (Galerkin).

    Args:
      projection: of the kernels.
      s: rescaled times.
      check_ritz_values: takes the eigenvalues of VᵀΘV, and gives back those to use.
      noise: what is known of the kernels.
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
    mean_unseen, variance_unseen = np.zeros_like(mean), np.zeros_like(variance)
    eps = float(np.finfo(np.float64).eps)
    positives = values[values > 0]
    hidden = len(positives) > 0 and positives[0] > _UNSEEN * noise.ntk_pair
    least = max(noise.ntk_pair, eps * np.sqrt(len(values)) * positives[-1]) if hidden else 1.0
    beyond = p.next @ vectors
    cross_size = np.linalg.norm(cross_ntk, axis=0) / np.sqrt(max(len(values), 1))
    for i, time in enumerate(s):
        positive = values > 0
        exponent = np.where(positive, time * np.where(positive, values, 1.0), 0.0)
        reach = -np.expm1(-exponent) * inverse
        weights = reach[:, None] * cross_ntk
        mean[i] = weights.T @ targets
        rest = nngp @ weights - 2 * cross_nngp
        # Terms as large as these cancel, see `_numerics.variances`.
        cancelled = noise.evaluation * (np.sqrt(p.prior) + stds @ np.abs(weights)) ** 2
        value = p.prior + np.sum(weights * rest, axis=0)
        lost = (value <= cancelled) & (value >= -cancelled / np.sqrt(noise.evaluation))
        length = np.linalg.norm(weights, axis=0)
        fitted = np.linalg.norm(reach[:, None] * targets, axis=0)
        gradient = np.linalg.norm(reach[:, None] * (rest + cross_nngp), axis=0)
        mean_rounding[i] = ROUNDING_FACTOR * noise.ntk * length[:, None] * fitted[None, :]
        mean_rounding[i] += noise.evaluation * cross_size[:, None] * fitted[None, :]
        mean_rounding[i] += eps * np.sum(np.abs(weights), axis=0)[:, None] * np.max(np.abs(targets), initial=0.0)
        variance_rounding[i] = ROUNDING_FACTOR * (2 * noise.ntk * length * gradient + noise.nngp * length**2)
        variance_rounding[i] += cancelled
        variance[i] = np.where(lost, 0.0, value)
        if hidden:
            longest = -np.expm1(-time * least) / least
            left = np.linalg.norm(beyond @ weights, axis=0)
            left_targets = np.linalg.norm(beyond @ (reach[:, None] * targets), axis=0)
            mean_unseen[i] = longest * left[:, None] * left_targets[None, :]
            spread = longest * left * np.sqrt(noise.nngp_pair)
            variance_unseen[i] = 2 * spread * np.sqrt(np.maximum(variance[i], 0.0)) + spread**2
    # What is below its own error may come out negative; a variance is not.
    negative = (variance < 0) & (variance >= -variance_rounding)
    return Level(
        mean, np.where(negative, 0.0, variance), (mean_rounding, variance_rounding), (mean_unseen, variance_unseen)
    )


def truncation(levels: list[Level], s: np.ndarray, exhausted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the means and variances of the last level from those of fewer steps; 0 where the basis is complete.

    The difference from the level before, and where convergence is slow, what a geometric series of such differences
    adds up to. A difference that is small by accident is taken for as large as is usual among the test inputs at its
    time and before it, and for as large as the differences before let expect.

    Args:
      levels: two or more, of more and more steps.
      s: rescaled times, (T,).
      exhausted: whether the basis of the last level is complete.
    """
    last = levels[-1]
    if exhausted:
        return np.zeros_like(last.mean), np.zeros_like(last.variance)
    if len(levels) < 2:
        return np.full_like(last.mean, np.inf), np.full_like(last.variance, np.inf)
    order = np.argsort(s)
    errors = []
    for name, unseen in zip(("mean", "variance"), last.unseen, strict=True):
        values = [getattr(level, name) for level in levels]
        difference = np.abs(values[-1] - values[-2])
        usual = _usual(difference, order)
        ratio = np.full_like(usual, _SLOWEST)
        if len(levels) > 2:
            before = _usual(np.abs(values[-2] - values[-3]), order)
            ratio = np.clip(usual / np.where(before > 0, before, 1.0), 0.0, _SLOWEST)
            usual = np.maximum(usual, 0.5 * np.sqrt(usual * before))
        errors.append(_SAFETY * np.maximum(1.0, ratio / (1.0 - ratio)) * np.maximum(difference, usual) + unseen)
    return errors[0], errors[1]


def _usual(difference: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Root mean squares over all axes but the first, that of time, the largest up to each time: (T, 1, ...)."""
    sizes = np.sqrt(np.mean(difference**2, axis=tuple(range(1, difference.ndim)), keepdims=True))
    largest = np.empty_like(sizes)
    largest[order] = np.maximum.accumulate(sizes[order], axis=0)
    return largest
