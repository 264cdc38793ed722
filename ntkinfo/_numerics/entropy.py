"""p log p, and the sums made of it: exact at p = 0 in value and in gradient, on the host as on a device."""

import jax
import jax.numpy as jnp
import numpy as np

# Ratios this many times eps from 1 are 1 but for rounding, for the root of the number of cells that are summed.
_ROUNDING = 8.0


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
    """D[p ‖ q] = Σ p log(p/q) in nats along `axis` (None: of the whole table), never negative; ∞ where q = 0 < p."""
    return _not_negative(_namespace(p, q).sum(plogp(p) - plogq(p, q), axis=axis))


def mutual_information(p_xy):
    """I(X;Y) in nats of joint tables (..., x, y), shape (...): Σ p log(p / p(x) p(y)), as sums of log ratios.

    Never negative, and 0 where every ratio is 1 but for rounding, as of a single value of either variable.
    """
    xp = _namespace(p_xy)
    p_x, p_y = p_xy.sum(axis=-1, keepdims=True), p_xy.sum(axis=-2, keepdims=True)
    zero = p_xy == 0
    # One after the other: p(x) p(y) may underflow where p(x, y) does not. The sum of all is 1 but for rounding, which
    # it takes out of p(y).
    share = p_y / p_y.sum(axis=-1, keepdims=True)
    if xp is np:
        return _on_host(p_xy, np.where(p_x == 0, 1, p_x), np.where(share == 0, 1, share))
    ratio = xp.where(zero, 1.0, p_xy) / xp.where(zero, 1.0, p_x) / xp.where(zero, 1.0, share)
    logs = xp.log(ratio)
    rounding = abs(ratio - 1) <= _width(ratio)
    return _not_negative(xp.sum(p_xy * _moved(logs, xp.where(rounding, -logs, 0.0)), axis=(-2, -1)))


def _on_host(p_xy, p_x, share):
    """`mutual_information` where nothing is traced: in place, and with no mask where there is nothing to mask."""
    ratio = p_xy / p_x
    ratio /= share
    zero = p_xy == 0
    if zero.any():
        ratio[zero] = 1
    off = ratio - 1
    rounding = np.abs(off, out=off) <= _width(ratio)
    logs = np.log(ratio, out=ratio)
    if rounding.any():
        logs[rounding] = 0
    return np.maximum(np.einsum("...xy,...xy->...", p_xy, logs), 0)


def _width(ratio):
    """What the ratios of a table (..., x, y) may be off from 1 by rounding."""
    return _ROUNDING * float(jnp.finfo(ratio.dtype).eps) * max(ratio.shape[-2:]) ** 0.5


def _not_negative(information):
    """0 for what rounding made negative; NaN and derivatives stay as they are."""
    return _moved(information, _namespace(information).where(information < 0, -information, 0.0))


def _moved(value, by):
    """The value moved by an amount that derivatives do not see; NumPy in, NumPy out."""
    return value + (by if _namespace(value) is np else jax.lax.stop_gradient(by))
