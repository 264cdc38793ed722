"""What the estimators accept as samples and bins, in which units, and how an estimate is returned."""

import warnings

import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from ntkinfo._common import check, results
from ntkinfo._common.results import Information
from ntkinfo.estimators import _binning

# Where bins begin and end: (lo, hi).
Limits = tuple[float, float]


def host(name: str, value, *, labels: bool = False) -> np.ndarray:
    """`value` as a host array of finite floats (float64, whatever JAX's precision), or of integers.

    With `labels`, text and columns of objects are taken for labels, and numbered column by column.
    """
    check.known(name, value)
    host = np.asarray(check.values(name, value))
    if labels and host.dtype.kind in "UO":
        return numbered(name, host)
    if np.issubdtype(host.dtype, np.integer) or host.dtype == bool:
        if not host.size:
            raise ValueError(f"`{name}` must not be empty; got shape {host.shape}.")
        return host
    if host.dtype.kind in "US":
        raise TypeError(
            f"`{name}` must be numbers; got text. Number its values first, for instance by "
            f"`np.unique({name}, return_inverse=True)[1]`: integers are taken for classes."
        )
    return np.asarray(check.native(name, host), np.float64)


def numbered(name: str, values: np.ndarray) -> np.ndarray:
    """Labels (n,) or (n, d), text or objects such as those of a table, as integers from 0 in each column.

    Raises:
      TypeError: a column that holds floats, or more than one kind of labels.
      ValueError: labels that are missing, none at all.
    """
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"`{name}` must have shape (n,) or (n, d), not empty; got {values.shape}.")
    table = values.reshape(len(values), -1)
    return np.stack([_numbers(name, column) for column in table.T], axis=1).reshape(values.shape)


def _is_missing(label) -> bool:
    """None, NaN, and what pandas puts where nothing stands, known by its name: pandas need not be there."""
    return (
        label is None or type(label).__name__ in ("NAType", "NaTType") or (isinstance(label, float) and label != label)
    )


def _numbers(name, column) -> np.ndarray:
    if column.dtype != object:
        return np.unique(column, return_inverse=True)[1]
    labels = column.tolist()
    missing = [row for row, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"`{name}` must have no missing labels; got {labels[missing[0]]} in row {missing[0]} ({len(missing)} "
            "such). Remove these samples first."
        )
    for kind in (str, bool, int):
        if all(isinstance(label, kind) for label in labels):
            return np.unique(np.asarray(labels), return_inverse=True)[1]
    raise TypeError(
        f"`{name}` must hold labels of one kind in each column, text or integers; got "
        f"{' and '.join(sorted({type(label).__name__ for label in labels}))}. Give numbers and labels "
        "as variables apart."
    )


def samples(*, least: int = 2, varying: bool = False, **variables) -> list[np.ndarray]:
    """Samples (n,) or (n, d) of variables as (n, d), floats or integers, equally many; text becomes integers.

    Args:
      least: how many there must be.
      varying: whether to refuse columns that are constant.
      **variables: the samples by the names of the arguments.
    """
    columns = []
    for name, value in variables.items():
        values = host(name, value, labels=True)
        if values.ndim not in (1, 2):
            raise ValueError(f"`{name}` must have shape (n,) or (n, d); got {values.shape}.")
        values = values.reshape(len(values), -1)
        if varying:
            _check_varying(name, values)
        columns.append(values)
    names, sizes = " and ".join(f"`{name}`" for name in variables), [len(values) for values in columns]
    if len(set(sizes)) > 1:
        raise ValueError(f"{names} must hold the same number of samples; got {' and '.join(map(str, sizes))}.")
    if sizes[0] < least:
        raise ValueError(f"{names} must hold at least two samples; got {sizes[0]}.")
    return columns


def _check_varying(name, values):
    constant = np.flatnonzero((values == values[:1]).all(axis=0))
    if len(values) > 1 and len(constant):
        raise ValueError(
            f"`{name}` must vary in every column; got {len(constant)} of {values.shape[1]} constant, the first is "
            f"column {constant[0]}. A constant says nothing about the other variable: leave it out."
        )


def renumbered(columns: np.ndarray) -> np.ndarray:
    """Integers as 0, 1, ... in their order; floats stay as they are."""
    if columns.dtype == np.float64:
        return columns
    return np.unique(columns, return_inverse=True)[1].reshape(columns.shape)


# Scales of columns that one length serves; beyond, the user is told.
SCALES = 10.0


def normal_scores(columns: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks in each column of floats (n, d); equal values share theirs.

    An increasing map of a column leaves them as they are, a decreasing one turns their signs, both exactly: distances,
    and so what is counted within them, stay the same to the bit.
    """
    n = len(columns)
    from_middle = 2 * rankdata(columns, axis=0) - (n + 1)
    return np.sign(from_middle) * ndtri((n + 1 + np.abs(from_middle)) / (2 * (n + 1)))


def spread(columns: np.ndarray) -> np.ndarray:
    """Standard deviations (..., d) of columns (..., n, d); 0 where a column varies by rounding alone."""
    size = np.abs(columns).max(axis=-2, keepdims=True)
    relative = np.std(columns / np.where(size > 0, size, 1), axis=-2)
    return np.where(relative > 8 * np.finfo(columns.dtype).eps, relative * size[..., 0, :], 0.0)


def warn_scales(names: str, spreads: np.ndarray, remedy: str, stacklevel: int = 4) -> None:
    """Says where the standard deviations (..., d) of columns differ more than tenfold; constant columns have none."""
    largest = spreads.max(axis=-1)
    smallest = np.where(spreads > 0, spreads, np.inf).min(axis=-1)
    with np.errstate(over="ignore"):
        ratio = float(np.max(largest / smallest))
    if ratio > SCALES:
        warnings.warn(
            f"{names} have standard deviations that differ by a factor of {ratio:.3g}. {remedy}",
            stacklevel=stacklevel,
        )


def estimate(value: float, error: float, method: str, ceiling: float | None) -> Information:
    numbers = (jnp.asarray(np.array(number)) for number in (value, error))
    return results.estimate(*numbers, method, None if ceiling is None else jnp.asarray(np.array(ceiling)))


def bin_range(limits) -> tuple[float, float]:
    try:
        lo, hi = (float(edge) for edge in limits)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`range` must be a pair (lo, hi) of numbers; got {limits!r}.") from error
    if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
        raise ValueError(f"`range` must be finite with lo < hi; got ({lo}, {hi}).")
    return lo, hi


def bin_ranges(limits) -> tuple:
    """The ranges of x and of y: one pair of numbers serves both."""
    if limits is None:
        return None, None
    try:
        pair = first, second = tuple(limits)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`range` must be (lo, hi) or a pair of those for `x` and `y`; got {limits!r}.") from error
    one = all(edge is not None and np.ndim(edge) == 0 for edge in pair)
    return (pair, pair) if one else (first, second)


def codes(name: str, columns: np.ndarray, bins: int, width: float | None, limits) -> np.ndarray:
    """Bin of each float of the columns (n, d)."""
    lo, hi = (None, None) if limits is None else bin_range(limits)
    if lo is not None and hi is not None:
        outside = int(np.count_nonzero((columns < lo) | (columns > hi)))
        if outside:
            raise ValueError(
                f"`{name}` must lie within `range` = ({lo}, {hi}); got {outside} values outside, of "
                f"{columns.min()} to {columns.max()}. Widen the range, or leave it out."
            )
    if width is None:
        return _binning.fixed(columns, bins, *((columns.min(0), columns.max(0)) if lo is None else (lo, hi)))
    if np.abs(columns - (lo or 0.0)).max() / width > 2**53:
        raise ValueError(f"`width` must be at least 1e-16 of the size of `{name}`; got {width}. Use a larger one.")
    return _binning.grid(columns, width, lo, hi)


def check_bins(bins, width) -> None:
    if check.integer("bins", bins) > 2**31:
        raise ValueError(f"`bins` must be at most 2**31; got {bins}.")
    if width is not None:
        check.positive("width", width, scalar=True)
