"""Entropies and informations of probability tables, in nats, safe at p = 0 in value and in gradient.

A table is an array whose last axes hold the probabilities; axes in front of them are batches.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check

__all__ = [
    "check_conditional",
    "check_joint",
    "entropy",
    "is_deterministic",
    "kl",
    "merge_rows",
    "mutual_information",
    "smooth",
]


def entropy(p, axis=-1) -> Array:
    """H = -sum p log p over `axis` (one or several), in nats, exact; 0 log 0 = 0."""
    positive = p > 0
    return -jnp.sum(jnp.where(positive, p * jnp.log(jnp.where(positive, p, 1)), 0), axis=axis)


def kl(p, q, axis=-1) -> Array:
    """D[p || q] = sum p log(p/q) over `axis`, in nats, exact; infinite where q = 0 < p."""
    positive = p > 0
    logs = jnp.log(jnp.where(positive, p, 1)) - jnp.log(jnp.where(positive, q, 1))
    return jnp.sum(jnp.where(positive, p * logs, 0), axis=axis)


def mutual_information(p_xy) -> Array:
    """I(X;Y) of joint tables (..., x, y), in nats, exact, shape (...).

    Source: theory, section 7.
    """
    independent = jnp.sum(p_xy, axis=-1, keepdims=True) * jnp.sum(p_xy, axis=-2, keepdims=True)
    return kl(p_xy, independent, axis=(-2, -1))


def check_joint(name: str, p_xy) -> Array:
    """`p_xy` as a joint distribution (x, y) of at least two inputs and two labels, each of positive probability.

    Raises:
      TypeError: not floating-point numbers.
      ValueError: another rank, a single x or y, negative, NaN or infinite entries, a sum other than one, a row or a
        column of zeros.
    """
    p_xy = check.array(name, p_xy, 2)
    if min(p_xy.shape) < 2:
        raise ValueError(
            f"`{name}` must hold at least two inputs (rows) and two labels (columns); got shape {p_xy.shape}. With one "
            "of either there is no information to compress."
        )
    if not check.concrete(p_xy):
        return p_xy
    host = np.asarray(p_xy, np.float64)
    total, tolerance = host.sum(), 1e3 * float(jnp.finfo(p_xy.dtype).eps)
    if host.min() < 0 or abs(total - 1) > tolerance:
        raise ValueError(
            f"`{name}` must be a joint distribution; got min={host.min():.3g}, sum={total:.9g}. Divide by its sum "
            "first, once no entry is negative."
        )
    for axis, what in ((1, "row"), (0, "column")):
        empty = np.flatnonzero(host.sum(axis=axis) == 0)
        if len(empty):
            raise ValueError(
                f"`{name}` must give every {what} a positive probability; got zeros in {what} {empty[0]} "
                f"({len(empty)} such). Remove them first."
            )
    return p_xy


def check_conditional(name: str, table, shape: tuple[int | None, ...]) -> Array:
    """`table` as conditional distributions, rows of the last axis summing to one, of a shape (None: any).

    Raises:
      TypeError: not floating-point numbers.
      ValueError: another shape, negative or NaN entries, rows that do not sum to one.
    """
    table = check.array(name, table, len(shape))
    if any(wanted is not None and wanted != got for wanted, got in zip(shape, table.shape, strict=True)):
        wanted = ", ".join("any" if each is None else str(each) for each in shape)
        raise ValueError(f"`{name}` must have shape ({wanted}); got {table.shape}.")
    if check.concrete(table):
        host = np.asarray(table, np.float64)
        off = np.abs(host.sum(axis=-1) - 1).max()
        if host.min() < 0 or off > 1e3 * float(jnp.finfo(table.dtype).eps):
            raise ValueError(
                f"`{name}` must hold a distribution in every row; got min={host.min():.3g}, a sum off by {off:.3g}. "
                "Divide each row by its sum first, once no entry is negative."
            )
    return table


def smooth(p_xy, epsilon: float) -> Array:
    """The joint with every p(y|x) replaced by (1 - ε) p(y|x) + ε/|Y|: the explicit remedy for zeros under the dual.

    Args:
      p_xy: joint distribution, (x, y).
      epsilon: ε, in (0, 1].

    Returns:
      (x, y), the same p(x).

    Raises:
      TypeError, ValueError: not a joint distribution, ε outside (0, 1].
    """
    p_xy = check_joint("p_xy", p_xy)
    check.positive("epsilon", epsilon)
    if check.concrete(epsilon) and float(epsilon) > 1:
        raise ValueError(f"`epsilon` must lie in (0, 1]; got {epsilon}.")
    p_x = jnp.sum(p_xy, axis=1, keepdims=True)
    return (1 - epsilon) * p_xy + epsilon * p_x / p_xy.shape[1]


def merge_rows(p_xy, *, relative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of equal p(y|x) as one: the merged joint (x', y), and for each input the index of its row there, (x,).

    Exact for the bottleneck and its dual: the encoder of an input depends on it through p(y|x) alone. Rows count as
    equal where every p(y|x) agrees to 64 units of rounding, of 1 or, if `relative`, of itself: the dual takes
    logarithms, which tell small probabilities apart. On the host.
    """
    host = np.asarray(p_xy)
    rows = (host / host.sum(axis=1, keepdims=True)).astype(np.float64)
    step = 64 * float(np.finfo(host.dtype).eps)
    # Along a direction that no difference of rows is orthogonal to but by accident, equal rows are neighbours; a pair
    # left apart by one is exact all the same.
    order = np.argsort(rows @ np.cos(1 + np.arange(rows.shape[1])), kind="stable")
    new = np.ones(len(rows), bool)
    first, second = rows[order[:-1]], rows[order[1:]]
    new[1:] = (np.abs(second - first) > step * (np.maximum(first, second) if relative else 1)).any(axis=1)
    index = np.empty(len(rows), int)
    index[order] = np.cumsum(new) - 1
    merged = np.zeros((index.max() + 1, host.shape[1]), host.dtype)
    np.add.at(merged, index, host)
    return merged, index


def is_deterministic(p_xy) -> bool:
    """Whether Y is a function of X: then the information curve is piecewise linear, not strictly concave."""
    host = np.asarray(p_xy)
    return bool(((host > 0).sum(axis=1) == 1).all())
