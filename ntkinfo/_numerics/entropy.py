"""p log p, and the sums made of it: exact at p = 0 in value and in gradient, on the host as on a device."""

import jax.numpy as jnp
import numpy as np


def _namespace(*values):
    return np if all(isinstance(value, np.ndarray | np.generic | float) for value in values) else jnp


def plogp(p):
    """p log p, 0 at p = 0; NaN for negative p. NumPy in, NumPy out; else JAX.

    The gradient at p = 0 is 0: probabilities that never occur do not move.
    """
    xp = _namespace(p)
    zero = p == 0
    return xp.where(zero, 0.0 * p, p * xp.log(xp.where(zero, 1.0, p)))


def plogq(p, q):
    """p log q, 0 where p = 0 whatever q is. NumPy in, NumPy out; else JAX."""
    xp = _namespace(p, q)
    zero = p == 0
    return xp.where(zero, 0.0 * p, p * xp.log(xp.where(zero, 1.0, q)))


def entropy(p, axis=-1):
    """H(p) = -Σ p log p in nats along `axis` (None: of the whole table)."""
    return -_namespace(p).sum(plogp(p), axis=axis)


def kl(p, q, axis=-1):
    """D[p ‖ q] = Σ p log(p/q) in nats along `axis` (None: of the whole table); infinite where q = 0 < p."""
    return _namespace(p, q).sum(plogp(p) - plogq(p, q), axis=axis)


def mutual_information(p_xy):
    """I(X;Y) in nats of joint tables (..., x, y), shape (...): Σ p log(p / p(x) p(y)), as sums of log ratios."""
    xp = _namespace(p_xy)
    p_x, p_y = p_xy.sum(axis=-1, keepdims=True), p_xy.sum(axis=-2, keepdims=True)
    zero = p_xy == 0
    # One after the other: p(x) p(y) may underflow where p(x, y) does not.
    ratio = xp.where(zero, 1.0, p_xy) / xp.where(zero, 1.0, p_x) / xp.where(zero, 1.0, p_y)
    return xp.sum(p_xy * xp.log(ratio), axis=(-2, -1))
