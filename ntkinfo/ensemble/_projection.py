"""Means and variances from a kernel projected to a Krylov space, with what the space leaves out.

The formulas are those of the eigenbasis (`_moments`), with the eigenvectors of the projection for eigenvectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# What the residuals of a space do is shown as this share of what they could at most do, did the least eigenvalue lie at
# the least Ritz value and they along its eigenvector: measured, 0.1 in the median and 0.6 at the 99.9th percentile.
SHARE = 0.6
# Directions count as unseen where the least Ritz value is this many times what pairs of inputs tell of the least
# eigenvalue.
_UNSEEN = 3.0
# Root mean square errors of rounding are shown times this.
ROUNDING_FACTOR = 4.0
# What the eigendecomposition of a matrix (q, q) rounds off each entry, in units of its norm / √q: measured, 0.1 to 0.8
# beside solutions in extended precision.
_DECOMPOSITION = 1.0


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
      last: columns of V that the last step has added.
    """

    ntk: np.ndarray
    nngp: np.ndarray
    targets: np.ndarray
    cross_ntk: np.ndarray
    cross_nngp: np.ndarray
    prior: np.ndarray
    next: np.ndarray
    last: int


class Noise(NamedTuple):
    """What is known of a kernel as it is held.

    Attributes:
      ntk: root mean square error of the entries of Θ.
      nngp: the same of K.
      ntk_pair: the least eigenvalue of Θ, as far as pairs of inputs tell, see `kernels.Totals`.
      nngp_pair: the same of K.
      evaluation: unit in the last place of kernels as they are evaluated.
      resolution: share of the largest eigenvalue that float64 does not tell from zero below, where Θ is held in less:
        what is projected out there may be learned all the same. 0 where Θ is held in float64.
    """

    ntk: float
    nngp: float
    ntk_pair: float
    nngp_pair: float
    evaluation: float
    resolution: float = 0.0


class Level(NamedTuple):
    """Predictions with one number of steps.

    Attributes:
      mean: (T, m, k).
      variance: (T, m).
      rounding: errors of both from rounding of the kernels.
      truncation: errors of both from what the basis leaves out.
    """

    mean: np.ndarray
    variance: np.ndarray
    rounding: tuple[np.ndarray, np.ndarray]
    truncation: tuple[np.ndarray, np.ndarray]


def moments(
    projection: Projection,
    s: np.ndarray,
    check_ritz_values: Callable[[np.ndarray], np.ndarray],
    noise: Noise,
) -> Level:
    """Means and variances at rescaled times s (T,), with what truncation and rounding of the kernels do to them.

    A perturbation δ of Θ with independent entries moves the mean aᵀY, a = f(Θ)Θ_*ᵀ, by no more than about its entries'
    size times ‖a‖ ‖f(Θ)Y‖: f(λ) = (1 - e^{-sλ})/λ is a mixture of e^{-uλ}, whose divided differences are below
    f(λ)f(λ').

    The flow da/ds = Θ_*ᵀ - Θa leaves residuals r in the next block, and r' that of the labels. With f(λ) at the least
    Ritz value λ a is off by δ of size f ‖r‖, the mean by f r·r' (Galerkin), and a variance, whose gradient is
    2(Ka - K_*ᵀ), by 2δ·(Ka - K_*ᵀ) + δᵀKδ: the gradient beyond the basis is taken for as large as it is in the last
    block, and K for what it is along the least Ritz vectors. A share of that is what they come to (`SHARE`). Where
    inputs that are alike prove an eigenvalue far below all Ritz values, all of it at that one is added.

    Directions W that are projected out since Θ is held in float32 may have an eigenvalue λ ≥ 0: what they would have
    added to a is Wᵀ Θ_*ᵀ times f(λ), at most f at what float64 resolves.

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
    mean_truncation, variance_truncation = np.zeros_like(mean), np.zeros_like(variance)
    eps = float(np.finfo(np.float64).eps)
    positives = values[values > 0]
    hidden = len(positives) > 0 and positives[0] > _UNSEEN * noise.ntk_pair
    proven = max(noise.ntk_pair, eps * np.sqrt(len(values)) * positives[-1]) if hidden else 1.0
    least = positives[0] if len(positives) else float(np.finfo(np.float64).tiny)
    beyond, newest = p.next @ vectors, vectors[len(values) - p.last :]
    width = max(len(beyond), 1)
    size = np.mean(np.maximum(np.diagonal(nngp)[:width], 0.0)) if len(values) else 0.0
    cross_size = np.linalg.norm(cross_ntk, axis=0) / np.sqrt(max(len(values), 1))
    dropped = values == 0
    unlearned, resolved, dropped_size = np.zeros(m), 1.0, 0.0
    if noise.resolution > 0 and dropped.any():
        # Of inputs that repeat nothing is left beside rounding: there is nothing to be learned.
        whole, part = (np.linalg.norm(cross_ntk[rows], axis=0) for rows in (slice(None), dropped))
        unlearned = np.maximum(part - ROUNDING_FACTOR * noise.evaluation * whole, 0.0)
        resolved = noise.resolution * float(np.max(values, initial=0.0)) or 1.0
        dropped_size = np.linalg.norm(nngp[np.ix_(dropped, dropped)], 2) + noise.nngp * np.sqrt(dropped.sum())
    # Orthogonal transformations leave errors of the size of a matrix's norm, not of its entries.
    entry = noise.ntk + _DECOMPOSITION * eps * np.max(values, initial=0.0) / np.sqrt(max(len(values), 1))
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
        gradient = rest + cross_nngp
        slope = np.linalg.norm(reach[:, None] * gradient, axis=0)
        mean_rounding[i] = ROUNDING_FACTOR * entry * length[:, None] * fitted[None, :]
        mean_rounding[i] += noise.evaluation * cross_size[:, None] * fitted[None, :]
        mean_rounding[i] += eps * np.sum(np.abs(weights), axis=0)[:, None] * np.max(np.abs(targets), initial=0.0)
        variance_rounding[i] = ROUNDING_FACTOR * (2 * entry * length * slope + noise.nngp * length**2)
        variance_rounding[i] += ROUNDING_FACTOR * cancelled
        variance[i] = np.where(lost, 0.0, value)
        if unlearned.any():
            off = _reach(resolved, time) * unlearned
            mean_rounding[i] += off[:, None] * np.linalg.norm(targets[dropped], axis=0)[None, :]
            variance_rounding[i] += 2 * off * np.linalg.norm(gradient[dropped], axis=0) + off**2 * dropped_size
        left = np.linalg.norm(beyond @ weights, axis=0)
        left_targets = np.linalg.norm(beyond @ (reach[:, None] * targets), axis=0)
        longest = _reach(least, time)
        off = longest * left
        mean_truncation[i] = SHARE * off[:, None] * left_targets[None, :]
        variance_truncation[i] = SHARE * (2 * off * np.linalg.norm(newest @ gradient, axis=0) + off**2 * size)
        if hidden:
            off = _reach(proven, time) * left
            mean_truncation[i] += off[:, None] * left_targets[None, :]
            spread = off * np.sqrt(noise.nngp_pair)
            variance_truncation[i] += 2 * spread * np.sqrt(np.maximum(variance[i], 0.0)) + spread**2
    # What is below its own error may come out negative; a variance is not.
    negative = (variance < 0) & (variance >= -variance_rounding)
    variance = np.where(negative, 0.0, variance)
    return Level(mean, variance, (mean_rounding, variance_rounding), (mean_truncation, variance_truncation))


def _reach(value: float, time: float) -> float:
    """f(λ) = (1 - e^{-sλ})/λ."""
    return float(-np.expm1(-time * value) / value)
