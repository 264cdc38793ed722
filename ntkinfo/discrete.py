"""Entropies and informations of probability tables, in nats, safe at p = 0 in value and in gradient.

A table is an array whose last axes hold the probabilities; axes in front of them are batches.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check
from ntkinfo._numerics import entropy as _entropy

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


def entropy(p: Float[ArrayLike, "..."], axis: int | tuple[int, ...] | None = -1) -> Float[Array, "..."]:
    """H = -Σ p log p over `axis` (one or several; None: all), in nats, exact; 0 log 0 = 0.

    Raises:
      TypeError, ValueError: no probabilities that sum to 1 over `axis` (under tracing values are not looked at).
    """
    p = check.array("p", p)
    _check_axis(axis, p.ndim)
    return _entropy.entropy(check.probabilities("p", p, axis=axis), axis=axis)


def _check_axis(axis, ndim):
    """Refuses what is neither None nor an axis, or several, of an array of this rank."""
    for one in axis if isinstance(axis, tuple) else () if axis is None else (axis,):
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise TypeError(f"`axis` must be an integer, a tuple of them, or None; got {check.described(axis)}.")
        if not -ndim <= one < ndim:
            raise ValueError(f"`axis` must be an axis of an array of rank {ndim}; got {axis}.")


def kl(
    p: Float[ArrayLike, "..."], q: Float[ArrayLike, "..."], axis: int | tuple[int, ...] | None = -1
) -> Float[Array, "..."]:
    """D[p ‖ q] = Σ p log(p/q) over `axis`, in nats, exact; infinite where q = 0 < p.

    Raises:
      TypeError, ValueError: no probabilities that sum to 1 over `axis` (under tracing values are not looked at).
    """
    p, q = check.array("p", p), check.array("q", q)
    try:
        shape = jnp.broadcast_shapes(p.shape, q.shape)
    except ValueError:
        raise ValueError(f"`p` and `q` must have shapes that broadcast; got {p.shape} and {q.shape}.") from None
    _check_axis(axis, len(shape))
    check.probabilities("p", jnp.broadcast_to(p, shape), axis=axis)
    check.probabilities("q", jnp.broadcast_to(q, shape), axis=axis)
    return _entropy.kl(p, q, axis=axis)


def mutual_information(p_xy: Float[ArrayLike, "... x y"]) -> Float[Array, "..."]:
    """I(X;Y) of joint tables (..., x, y), in nats, exact, shape (...).

    Raises:
      TypeError, ValueError: tables that are no joint distributions (under tracing values are not looked at).

    Source: theory, section 7.
    """
    p_xy = check.array("p_xy", p_xy)
    if p_xy.ndim < 2:
        raise ValueError(f"`p_xy` must have shape (..., x, y); got {p_xy.shape}.")
    check.probabilities("p_xy", p_xy, axis=(-2, -1))
    return _entropy.mutual_information(p_xy)


def check_joint(name: str, p_xy: Float[ArrayLike, "x y"]) -> Float[Array, "x y"]:
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
    host = np.asarray(check.probabilities(name, p_xy, axis=None), np.float64)
    for axis, what in ((1, "row"), (0, "column")):
        empty = np.flatnonzero(host.sum(axis=axis) == 0)
        if len(empty):
            raise ValueError(
                f"`{name}` must give every {what} a positive probability; got zeros in {what} {empty[0]} "
                f"({len(empty)} such). Remove them first."
            )
    return p_xy


def check_conditional(name: str, table: Float[ArrayLike, "..."], shape: tuple[int | None, ...]) -> Float[Array, "..."]:
    """`table` as conditional distributions, rows of the last axis summing to one, of a shape (None: any).

    Raises:
      TypeError: not floating-point numbers.
      ValueError: another shape, negative or NaN entries, rows that do not sum to one.
    """
    if not isinstance(shape, tuple | list):
        raise TypeError(f"`shape` must be a tuple of sizes, None for any; got {check.described(shape)}.")
    table = check.array(name, table, len(shape))
    if any(wanted is not None and wanted != got for wanted, got in zip(shape, table.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"`{name}` must have shape ({wanted}); got {table.shape}.")
    return check.probabilities(name, table)


def smooth(p_xy: Float[ArrayLike, "x y"], epsilon: float) -> Float[Array, "x y"]:
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
    check.positive("epsilon", epsilon, scalar=True)
    if check.concrete(epsilon) and float(epsilon) > 1:
        raise ValueError(f"`epsilon` must lie in (0, 1]; got {epsilon}.")
    p_x = jnp.sum(p_xy, axis=1, keepdims=True)
    return (1 - epsilon) * p_xy + epsilon * p_x / p_xy.shape[1]


def merge_rows(p_xy: Float[ArrayLike, "x y"], *, relative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of equal p(y|x) as one: the merged joint (x', y), and for each input the index of its row there, (x,).

    Exact for the bottleneck and its dual: the encoder of an input depends on it through p(y|x) alone. Rows count as
    equal where every p(y|x) agrees to 64 units of rounding, of 1 or, if `relative`, of itself: the dual takes
    logarithms, which tell small probabilities apart. On the host.

    Raises:
      TypeError, ValueError: not a joint distribution, as for `check_joint`.
    """
    check.on_host(locals())
    check.flag("relative", relative)
    host = np.asarray(check.native("p_xy", p_xy, 2))
    check_joint("p_xy", host)
    rows = (host / host.sum(axis=1, keepdims=True)).astype(np.float64)
    step = 64 * float(np.finfo(host.dtype).eps)
    # Sorted by one number for each row, a weighted sum of it, equal rows are neighbours. A different row of almost the
    # same number may stand between two equal ones: they then stay two inputs, which costs time but is exact.
    order = np.argsort(rows @ np.cos(1 + np.arange(rows.shape[1])), kind="stable")
    new = np.ones(len(rows), bool)
    first, second = rows[order[:-1]], rows[order[1:]]
    new[1:] = (np.abs(second - first) > step * (np.maximum(first, second) if relative else 1)).any(axis=1)
    index = np.empty(len(rows), int)
    index[order] = np.cumsum(new) - 1
    merged = np.zeros((index.max() + 1, host.shape[1]), host.dtype)
    np.add.at(merged, index, host)
    return merged, index


def is_deterministic(p_xy: Float[ArrayLike, "x y"]) -> bool:
    """Whether Y is a function of X: then the information curve is piecewise linear, not strictly concave.

    Raises:
      TypeError, ValueError: not a joint distribution, as for `check_joint`.
    """
    check.on_host(locals())
    host = np.asarray(check.native("p_xy", p_xy, 2))
    check_joint("p_xy", host)
    return bool(((host > 0).sum(axis=1) == 1).all())
