"""Entropies and informations of probability tables, in nats, safe at p = 0 in value and in gradient.

A table is an array whose last axes hold the probabilities; axes in front of them are batches.
"""

import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, compiling, pytree, tables
from ntkinfo._numerics import entropy as _entropy

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "JointTable",
    "Names",
    "check_conditional",
    "check_joint",
    "entropy",
    "from_counts",
    "is_deterministic",
    "kl",
    "merge_rows",
    "mutual_information",
    "smooth",
]


@pytree.dataclass("rows", "columns")
class Names:
    """What the inputs (rows) and labels (columns) of a table are called; a pytree without arrays.

    Attributes:
      rows: one name for each x.
      columns: one name for each y.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]

    __repr__ = tables.one_line
    _repr_html_ = tables.html


@pytree.dataclass()
class JointTable:
    """A joint distribution with the names of its rows and columns; a pytree. Made by `from_counts`.

    Goes wherever `p_xy` is asked for; bottlenecks hand the names on to their results.

    Attributes:
      p_xy: the distribution, (x, y).
      n: the sum of the counts.
      names: `Names` of rows and columns.
    """

    p_xy: np.ndarray
    n: int
    names: Names

    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def __array__(self, dtype=None, copy=None):
        return np.array(self.p_xy, dtype) if copy or dtype is not None else np.asarray(self.p_xy)

    @property
    def shape(self) -> tuple[int, ...]:
        """(x, y)."""
        return np.shape(self.p_xy)

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """The table itself, rows and columns under their names.

        Args:
          unit: "nats" or "bits", of `mutual_information` in `attrs`.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        information = scale * float(_entropy.mutual_information(np.asarray(self.p_xy)))
        made = tables.frame(dict(zip(self.names.columns, np.asarray(self.p_xy).T, strict=True)), {}, unit)
        made.index = list(self.names.rows)
        made.attrs.update({"n": int(self.n), "mutual_information": information})
        return made


def from_counts(table: Any, *, empty: str = "error") -> JointTable:
    """The joint distribution of a table of counts, such as a crosstab, with the names of its rows and columns.

    The frequencies are the maximum likelihood estimate of p(x, y); their information is biased upwards where counts
    are few.

    Args:
      table: whole numbers, not negative, (x, y): a pandas DataFrame (as of `pandas.crosstab`), whose index and columns
        name them, or an array, whose names are the numbers from 0.
      empty: what is done with rows and columns of zeros, which no bottleneck can place: "error" refuses them by name,
        "drop" leaves them out, with a warning that names them.

    Returns:
      A `JointTable`.

    Raises:
      TypeError: a table that holds text or other things that are no numbers.
      ValueError: another rank, negative, missing or fractional entries, repeated names, sums of rows and columns (the
        margins of a crosstab) among them, empty rows or columns, fewer than two that are not empty.

    Warns:
      UserWarning: with empty="drop", rows and columns that are left out.

    Example:
      >>> import pandas as pd
      >>> seen = pd.crosstab(pd.Series(["a", "b", "a", "c"]), pd.Series(["yes", "no", "yes", "yes"]))
      >>> joint = ni.discrete.from_counts(seen)
      >>> joint.names.rows, joint.p_xy[0].tolist()
      (('a', 'b', 'c'), [0.0, 0.5])
    """
    check.known("table", table)
    check.option("empty", empty, ("error", "drop"))
    counts, names = _counts(table)
    for i, j in np.argwhere(~np.isfinite(counts) | (counts < 0) | (counts != np.floor(counts)))[:1]:
        what = "missing" if np.isnan(counts[i, j]) else f"{counts[i, j]:g}"
        raise ValueError(
            "`table` must hold counts: whole numbers, not negative, none missing; got "
            f"{what} in row {names.rows[i]!r}, column {names.columns[j]!r}."
        )
    _refuse_margins(counts, names)
    kept = [counts.sum(axis=axis) > 0 for axis in (1, 0)]
    zeros = [
        f"{what} {name!r}"
        for what, among, keep in (("row", names.rows, kept[0]), ("column", names.columns, kept[1]))
        for name, there in zip(among, keep, strict=True)
        if not there
    ]
    if zeros:
        text = f"{', '.join(zeros[:8])}{f' and {len(zeros) - 8} more' if len(zeros) > 8 else ''}"
        if empty == "error":
            raise ValueError(f"`table` must have no rows or columns of zeros; got {text}. empty='drop' drops them.")
        warnings.warn(f"Left out of `table`, as they hold no counts: {text}.", stacklevel=2)
        counts = counts[kept[0]][:, kept[1]]
        names = Names(
            *(
                tuple(name for name, there in zip(among, keep, strict=True) if there)
                for among, keep in ((names.rows, kept[0]), (names.columns, kept[1]))
            )
        )
    if min(counts.shape, default=0) < 2:
        raise ValueError(
            f"`table` must have at least two rows and two columns that hold counts; got {counts.shape[0]} and "
            f"{counts.shape[1]}. With one of either there is no information."
        )
    total = counts.sum()
    return JointTable(counts / total, int(total), names)


def _counts(table) -> tuple[np.ndarray, Names]:
    """Counts as float64 and their names."""
    if hasattr(table, "columns") and hasattr(table, "index") and hasattr(table, "to_numpy"):
        rows, columns = ([_name(value) for value in axis] for axis in (table.index, table.columns))
        values = table.to_numpy()
        if values.dtype == object:
            # What pandas calls missing is no number; it is refused by its place, as NaN is.
            values = np.where(np.asarray(table.isna()), np.nan, values)
    else:
        values = np.asarray(check.values("table", table))
        rows, columns = None, None
    if values.ndim != 2:
        raise ValueError(f"`table` must have rows and columns; got shape {values.shape}.")
    if values.dtype.kind == "O":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    if values.dtype.kind not in "fiu":
        raise TypeError(
            f"`table` must hold counts, whole numbers; got dtype {values.dtype}. Of columns of text, `pandas.crosstab` "
            "counts how often each pair occurs."
        )
    rows = [str(i) for i in range(values.shape[0])] if rows is None else rows
    columns = [str(j) for j in range(values.shape[1])] if columns is None else columns
    for what, among in (("row", rows), ("column", columns)):
        seen: set[str] = set()
        repeated = [name for name in among if name in seen or seen.add(name)]
        if repeated:
            raise ValueError(f"`table` must name every {what} once; got {repeated[0]!r} several times.")
    return values.astype(np.float64), Names(tuple(rows), tuple(columns))


def _name(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _refuse_margins(counts: np.ndarray, names: Names) -> None:
    """Refuses a last row and column that are the sums of the others: as outcomes they would count everything twice."""
    if min(counts.shape) < 3 or not counts.any():
        return
    sums = np.array_equal(counts[:-1].sum(0), counts[-1]) and np.array_equal(counts[:, :-1].sum(1), counts[:, -1])
    if sums:
        raise ValueError(
            f"`table` must hold counts without their sums; row {names.rows[-1]!r} and column {names.columns[-1]!r} are "
            "the sums of the others. Take `margins=False`, or leave them out."
        )


def entropy(p: Float[ArrayLike, "..."], axis: int | tuple[int, ...] | None = -1) -> Float[Array, "..."]:
    """H = -Σ p log p over `axis` (one or several; None: all), in nats, exact; 0 log 0 = 0.

    Raises:
      TypeError, ValueError: no probabilities that sum to 1 over `axis` (under tracing values are not looked at).

    Example:
      >>> round(float(entropy(np.array([0.5, 0.25, 0.25])) / np.log(2)), 6)  # in bits
      1.5
    """
    p = check.array("p", p)
    _check_axis(axis, p.ndim)
    return _entropy_of(check.probabilities("p", p, axis=axis), axis=axis)


# On the host where tables are known: nothing is compiled for a shape.
@compiling.on_host(static_argnames=("axis",))
def _entropy_of(xp, p, *, axis):
    return _entropy.entropy(p, axis=axis)


@compiling.on_host(static_argnames=("axis",))
def _kl_of(xp, p, q, *, axis):
    return _entropy.kl(p, q, axis=axis)


@compiling.on_host
def _information_of(xp, p_xy):
    return _entropy.mutual_information(p_xy)


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

    Example:
      >>> round(float(kl(np.array([0.5, 0.5]), np.array([0.25, 0.75]))), 4)
      0.1438
    """
    p, q = check.array("p", p), check.array("q", q)
    try:
        shape = jnp.broadcast_shapes(p.shape, q.shape)
    except ValueError:
        raise ValueError(f"`p` and `q` must have shapes that broadcast; got {p.shape} and {q.shape}.") from None
    _check_axis(axis, len(shape))
    for name, given in (("p", p), ("q", q)):
        # On the host, where a new shape compiles nothing.
        broad = np.broadcast_to(np.asarray(given), shape) if check.concrete(given) else jnp.broadcast_to(given, shape)
        check.probabilities(name, broad, axis=axis)
    return _kl_of(p, q, axis=axis)


def mutual_information(p_xy: Float[ArrayLike, "... x y"]) -> Float[Array, "..."]:
    """I(X;Y) of joint tables (..., x, y), in nats, exact, shape (...).

    Raises:
      TypeError, ValueError: tables that are no joint distributions (under tracing values are not looked at).

    Source: theory, section 7.
    """
    p_xy = check.values("p_xy", p_xy)
    if p_xy.ndim < 2:
        raise ValueError(f"`p_xy` must have shape (..., x, y); got {p_xy.shape}.")
    return _information_of(check.probabilities("p_xy", p_xy, axis=(-2, -1)))


def check_joint(name: str, p_xy: Float[ArrayLike, "x y"]) -> Float[Array, "x y"]:
    """`p_xy` as a joint distribution (x, y) of at least two inputs and two labels, each of positive probability.

    Raises:
      TypeError: not floating-point numbers.
      ValueError: another rank, a single x or y, negative, NaN or infinite entries, a sum other than one, a row or a
        column of zeros.

    Example:
      >>> check_joint('p_xy', p_xy).shape
      (3, 2)
    """
    p_xy = check.probabilities(name, p_xy, 2, axis=None)
    if min(p_xy.shape) < 2:
        raise ValueError(
            f"`{name}` must hold at least two inputs (rows) and two labels (columns); got shape {p_xy.shape}. With one "
            "of either there is no information to compress."
        )
    if not check.concrete(p_xy):
        return p_xy
    host = np.asarray(p_xy)
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

    Example:
      >>> check_conditional('p_y_given_x', np.array([[0.5, 0.5], [1.0, 0.0]]), (None, 2)).shape
      (2, 2)
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

    Example:
      >>> smooth(np.array([[0.5, 0.0], [0.0, 0.5]]), 0.5).tolist()
      [[0.375, 0.125], [0.125, 0.375]]
    """
    p_xy = check_joint("p_xy", p_xy)
    check.positive("epsilon", epsilon, scalar=True)
    if check.concrete(epsilon) and float(epsilon) > 1:
        raise ValueError(f"`epsilon` must lie in (0, 1]; got {epsilon}.")
    return _smoothed(p_xy, epsilon)


@compiling.on_host
def _smoothed(xp, p_xy, epsilon):
    p_x = xp.sum(p_xy, axis=1, keepdims=True)
    epsilon = xp.asarray(epsilon, p_xy.dtype)
    return (1 - epsilon) * p_xy + epsilon * p_x / p_xy.shape[1]


def merge_rows(p_xy: Float[ArrayLike, "x y"], *, relative: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of equal p(y|x) as one: the merged joint (x', y), and for each input the index of its row there, (x,).

    Exact for the bottleneck and its dual: the encoder of an input depends on it through p(y|x) alone. Rows count as
    equal where every p(y|x) agrees to 64 units of rounding, of 1 or, if `relative`, of itself: the dual takes
    logarithms, which tell small probabilities apart. On the host.

    Raises:
      TypeError, ValueError: not a joint distribution, as for `check_joint`.

    Example:
      >>> merged, index = merge_rows(np.array([[0.1, 0.1], [0.3, 0.1], [0.2, 0.2]]))
      >>> merged.shape, index.tolist()
      ((2, 2), [0, 1, 0])
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

    Example:
      >>> is_deterministic(np.array([[0.5, 0.0], [0.0, 0.5]])), is_deterministic(p_xy)
      (True, False)
    """
    check.on_host(locals())
    host = np.asarray(check.native("p_xy", p_xy, 2))
    check_joint("p_xy", host)
    return bool(((host > 0).sum(axis=1) == 1).all())
