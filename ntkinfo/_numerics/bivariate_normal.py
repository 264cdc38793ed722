"""Probabilities of quadrants under a bivariate normal distribution, to rounding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
# Beyond so many standard deviations nothing is left, in float64 as in float32.
_REACH = 38.0


def upper_quadrant(h: Array, k: Array, rho: Array) -> Array:
    """P(X > h, Y > k) for standard normal X, Y of correlation rho; shapes broadcast, h and k may be infinite.

    Plackett's integral over the correlation by 20 Gauss-Legendre nodes; for |rho| > 0.925 the integral from |rho| = 1
    with its singular part taken out. Absolute error below 1e-14 in float64.

    Source: Drezner & Wesolowsky 1990; Genz 2004 (Statistics and Computing 14, 251).
    """
    h, k, rho = jnp.broadcast_arrays(jnp.clip(h, -_REACH, _REACH), jnp.clip(k, -_REACH, _REACH), rho)
    rho = jnp.clip(rho, -1.0, 1.0)
    near = jnp.abs(rho) > 0.925
    value = _weak(h, k, jnp.where(near, 0.0, rho))

    def both():
        return jnp.where(near, _strong(h, k, jnp.where(near, rho, 1.0)), value)

    # Strong correlations are rare, and their integral costs as much as the other.
    return jnp.clip(jax.lax.cond(jnp.any(near), both, lambda: value), 0.0, 1.0)


def _cdf(x):
    return jax.scipy.special.ndtr(x)


def _weak(h, k, rho):
    half, products, squares = 0.5 * jnp.arcsin(rho), h * k, 0.5 * (h * h + k * k)
    total = jnp.zeros_like(h)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        sine = _sine(half * (1 + node))
        total = total + weight * jnp.exp((sine * products - squares) / (1 - sine * sine))
    return total * half / (2 * math.pi) + _cdf(-h) * _cdf(-k)


def _sine(x):
    """sin x for |x| ≤ 1.19 ≥ arcsin 0.925 by its series, to rounding: XLA's own is many times slower on processors."""
    square, total = x * x, jnp.zeros_like(x)
    for power in range(17, 1, -2):
        total = (total + 1.0) * (-square / (power * (power - 1)))
    return x * (total + 1.0)


def _strong(h, k, rho):
    negative = rho < 0
    k = jnp.where(negative, -k, k)
    products = h * k
    square = (1 - rho) * (1 + rho)
    width = jnp.sqrt(square)
    gap = (h - k) ** 2
    c, d = (4 - products) / 8, (12 - products) / 16
    safe = jnp.where(square > 0, square, 1.0)
    exponent = jnp.where(square > 0, -(gap / safe + products) / 2, -200.0)
    series = 1 - c * (gap - square) * (1 - d * gap / 5) / 3 + c * d * square * square / 5
    total = jnp.where(exponent > -100, width * jnp.exp(jnp.maximum(exponent, -100.0)) * series, 0.0)
    distance = jnp.sqrt(gap)
    tail = jnp.exp(-jnp.maximum(products, -100.0) / 2) * math.sqrt(2 * math.pi) * _cdf(-distance / jnp.sqrt(safe))
    tail = tail * distance * (1 - c * gap * (1 - d * gap / 5) / 3)
    total = total - jnp.where((products > -100) & (square > 0), tail, 0.0)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        x = (0.5 * width * (1 + node)) ** 2
        positive = jnp.where(x > 0, x, 1.0)
        root = jnp.sqrt(1 - jnp.where(x > 0, x, 0.0))
        exponent = -(gap / positive + products) / 2
        inner = jnp.exp(-products * (1 - root) / (2 * (1 + root))) / root - (1 + c * x * (1 + d * x))
        term = 0.5 * width * weight * jnp.exp(jnp.maximum(exponent, -100.0)) * inner
        total = total + jnp.where((exponent > -100) & (square > 0), term, 0.0)
    total = -total / (2 * math.pi)
    same = total + _cdf(-jnp.maximum(h, k))
    opposite = -total + jnp.maximum(_cdf(k) - _cdf(h), 0.0)
    return jnp.where(negative, opposite, same)
