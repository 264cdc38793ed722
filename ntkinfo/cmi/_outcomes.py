"""Losses and outputs of pairs: probabilities of their outcomes, and what these tell about which one was trained on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._numerics import bivariate_normal
from ntkinfo._numerics.entropy import plogp

LOG_2 = math.log(2)


def _standardised(mean, variance):
    """mean/√variance, infinite where the variance is 0; a mean of 0 stays."""
    random = variance > 0
    sure = jnp.where(mean == 0, 0.0, jnp.where(mean > 0, jnp.inf, -jnp.inf))
    return jnp.where(random, mean / jnp.sqrt(jnp.where(random, variance, 1.0)), sure)


def of_signs(first, second, variances, covariance, y_first, y_second) -> Array:
    """Probabilities (..., 4) of the 0-1 losses (0, 0), (0, 1), (1, 0), (1, 1) of outputs with labels -1 and 1."""
    a, b = _standardised(first * y_first, variances[0]), _standardised(second * y_second, variances[1])
    random = (variances[0] > 0) & (variances[1] > 0)
    scale = jnp.sqrt(jnp.where(random, variances[0] * variances[1], 1.0))
    rho = jnp.where(random, jnp.clip(covariance / scale, -1.0, 1.0), 0.0) * y_first * y_second
    right, one, two = bivariate_normal.upper_quadrant(-a, -b, rho), *(jax.scipy.special.ndtr(x) for x in (a, b))
    # Clipped: differences may round below zero.
    parts = (right, one - right, two - right, 1 - one - two + right)
    return jnp.clip(jnp.stack(parts, axis=-1), 0.0, 1.0)


def _normal(key, shape, n, dtype) -> Array:
    """Draws (2, T, pairs, k); of the first n pairs those of the shape (2, T, n, k), whatever fills the arrays up."""
    flat = jax.random.normal(key, (math.prod(shape),), dtype)
    which, time, pair, output = jnp.ix_(*(jnp.arange(size) for size in shape))
    return flat[((which * shape[1] + time) * n + jnp.minimum(pair, n - 1)) * shape[3] + output]


def of_classes(key, first, second, variances, covariance, classes, n_samples: int, n) -> Array:
    """The same for the largest of k independent outputs of means (T, pairs, k), from `n_samples` networks.

    The first n pairs count; others fill up. (T, pairs, 4).
    """
    var, spread = variances[0], variances[1]
    slope = covariance / jnp.where(var > 0, var, 1.0)
    rest = jnp.sqrt(jnp.maximum(spread - slope * covariance, 0.0))

    def losses(key):
        u, v = _normal(key, (2, *first.shape), n, first.dtype)
        noise = jnp.sqrt(var)[..., None] * u
        one = jnp.argmax(first + noise, axis=-1) != classes[0]
        two = jnp.argmax(second + slope[..., None] * noise + rest[..., None] * v, axis=-1) != classes[1]
        return jax.nn.one_hot(2 * one.astype(int) + two.astype(int), 4, dtype=first.dtype)

    return jax.lax.map(losses, jax.random.split(key, n_samples)).mean(axis=0)


def information(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """I(L;U) in nats for U a fair coin and L distributed as `first` or `second` (..., outcomes): (...)."""
    total = 0.5 * np.sum(plogp(first) + plogp(second), axis=-1) - np.sum(plogp(0.5 * (first + second)), axis=-1)
    return np.clip(total, 0.0, LOG_2)


def differences(outcomes: np.ndarray) -> np.ndarray:
    """Probabilities (..., 3) of Δ = L¹ - L⁰ = 0, 1, -1, from those of (L⁰, L¹), (..., 4)."""
    return np.stack([outcomes[..., 0] + outcomes[..., 3], outcomes[..., 1], outcomes[..., 2]], axis=-1)
