"""Means and covariances of the two outputs of every pair of a supersample, for one choice of the training examples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array

from ntkinfo._common import compiling
from ntkinfo._numerics import spectral_filters, spectrum

# Moments at many times are combinations of those at few, to this relative error; derivatives of none are taken.
_TOLERANCE = {"float64": 1e-8, "float32": 1e-5}
_SAMPLES_PER_FOLD = 12


class PairMoments(NamedTuple):
    """Outputs of one network at the two examples of n pairs at T times: the one trained on, and the other.

    Attributes:
      trained: means (T, n, k) at the examples trained on; `tested` at the others.
      variance_trained, variance_tested, covariance: (T, n), the same for every output.
      smallest: the smallest eigenvalue of the tangent kernel of the training examples, over its rounding error.
    """

    trained: Array
    tested: Array
    variance_trained: Array
    variance_tested: Array
    covariance: Array
    smallest: Array


def few_times(s: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices of the times to compute, and weights (T, r) that give the others; None where all are computed.

    Every moment is a combination of 1 and e^{-sμ}, μ between the smallest eigenvalue and twice the largest: an
    interpolative decomposition over such functions.

    Args:
      s: rescaled times, (T,).
      rates: the smallest and the largest eigenvalue that may occur.
    """
    everything = np.arange(len(s))
    if len(s) <= 8:
        return everything, None
    low, high = np.log(rates[0]), np.log(2 * rates[1])
    mu = np.exp(np.linspace(low, high, int(_SAMPLES_PER_FOLD * (high - low)) + 16))
    with np.errstate(invalid="ignore"):
        functions = np.exp(-np.where(np.isinf(s), np.inf, s)[:, None] * mu[None, :])
    functions = np.concatenate([np.ones((len(s), 1)), functions], axis=1)
    decomposition: Any = scipy.linalg.qr(functions.T, mode="r", pivoting=True)
    triangle, pivots = decomposition
    size = np.abs(np.diag(triangle))
    rank = int(np.sum(size > _TOLERANCE[str(s.dtype)] * size[0]))
    if rank > 0.8 * len(s):
        return everything, None
    weights = np.zeros((len(s), rank))
    weights[pivots[:rank]] = np.eye(rank)
    weights[pivots[rank:]] = scipy.linalg.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]).T
    return pivots[:rank], weights.astype(s.dtype)


@compiling.jit(static_argnames="combined")
def moments(nngp: Array, ntk: Array, y: Array, side: Array, s: Array, weights: Array, combined: bool) -> PairMoments:
    """`PairMoments` of one choice of training examples.

    Args:
      nngp: K of all 2n examples, (2n, 2n); example i and example n + i make pair i.
      ntk: Θ, likewise.
      y: labels, (2n, k).
      side: (n,) 0 or 1, which one of each pair is trained on.
      s: rescaled times, (r,).
      weights: (T, r), combinations of the times computed; ignored unless `combined`.
      combined: whether times are combined.
    """
    n = len(side)
    kept, left = jnp.arange(n) + n * side, jnp.arange(n) + n * (1 - side)
    rates, u = jnp.linalg.eigh(ntk[kept][:, kept])
    floor = spectrum.rounding(rates)
    smallest = rates[0] / floor
    rates = jnp.where(rates > floor, rates, 0.0)
    growth, decay = spectral_filters.growth(rates, s), spectral_filters.decay(rates, s)
    rotated = u.T @ y[kept]
    prior = u.T @ nngp[kept][:, kept] @ u
    reach = (ntk[left][:, kept] @ u) * spectral_filters.pseudo_inverse(rates)[None, :]
    cross = nngp[left][:, kept] @ u
    half = spectral_filters.symmetric_half(0.5 * (prior + prior.T))

    def at(filters):
        up, down = filters
        x, z = reach * up[None, :], u * down[None, :]
        wx, wz = spectral_filters.half_matmul(x, half), spectral_filters.half_matmul(z, half)
        tested = 2 * jnp.sum(wx * x, axis=1) - 2 * jnp.sum(x * cross, axis=1)
        between = jnp.sum(cross * z, axis=1) - jnp.sum(wx * z, axis=1) - jnp.sum(wz * x, axis=1)
        return x @ rotated, z @ rotated, 2 * jnp.sum(wz * z, axis=1), tested, between

    learned, missing, trained, tested, between = jax.lax.map(at, (growth, decay))
    own = jnp.diagonal(nngp)
    tested = own[left][None, :] + tested
    parts = (learned, y[kept][None] - missing, trained, tested, between)
    if combined:
        parts = tuple(jnp.tensordot(weights, part, axes=1) for part in parts)
    learned, fitted, trained, tested, between = parts
    # What cancellation leaves: never below the rounding error of the prior variance, or of the combination.
    error = (_TOLERANCE[str(y.dtype)] if combined else 16 * float(jnp.finfo(y.dtype).eps)) * own
    trained = jnp.where(trained > error[kept][None, :], trained, 0.0)
    tested = jnp.where(tested > error[left][None, :], tested, 0.0)
    return PairMoments(fitted, learned, trained, tested, between, smallest)
