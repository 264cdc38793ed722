"""Labels as training targets: ±1 for two classes and parity, centred one-hot rows for several, numbers as they are."""

import numpy as np
from jaxtyping import ArrayLike, Float, Integer, Shaped
from numpy.typing import DTypeLike

from ntkinfo._common import check
from ntkinfo._common.labels import class_numbers

TASKS = ("parity", "binary", "classes", "regression")


def parity(labels: Shaped[ArrayLike, " n"], *, dtype: DTypeLike = np.float64) -> Float[np.ndarray, "n 1"]:
    """Class labels (n,) as ±1, shape (n, 1): of two classes the larger is +1; of more, the even ones are.

    Raises:
      ValueError: fewer than two classes; more than two that are not whole numbers, or all even, or all odd.

    Example:
      >>> parity(np.array([3, 4, 8])).tolist()
      [[-1.0], [1.0], [1.0]]
    """
    check.on_host(locals())
    labels = np.asarray(check.values("labels", labels))
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"`labels` must be a vector, not empty; got shape {labels.shape}.")
    if labels.dtype.kind not in "iufbUS":
        raise TypeError(f"`labels` must be numbers or text; got dtype {labels.dtype}.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("`labels` must be finite; got NaN or infinite ones.")
    return (2 * _parity(labels)[0] - 1).astype(float_dtype(dtype))[:, None]


def one_hot(
    labels: Integer[ArrayLike, " n"],
    n_classes: int | None = None,
    *,
    centred: bool = True,
    dtype: DTypeLike = np.float64,
) -> Float[np.ndarray, "n k"]:
    """Labels 0 … k - 1, shape (n,), as rows (n, k) of one_hot - 1/k, the convention of the NTK literature.

    Args:
      labels: (n,) integers.
      n_classes: k; None for the largest label plus one.
      centred: subtract 1/k, so that the rows sum to 0, like the mean of the prior over networks.
      dtype: float64 or float32.

    Raises:
      TypeError, ValueError: labels that are no integers, or outside 0 … k - 1.

    Example:
      >>> one_hot(np.array([0, 1, 1])).tolist()
      [[0.5, -0.5], [-0.5, 0.5], [-0.5, 0.5]]
    """
    check.on_host(locals())
    check.flag("centred", centred)
    labels, k = class_numbers(np.asarray(check.values("labels", labels)), n_classes)
    check.entries("labels", len(labels) * k, f"{len(labels)} rows of {k} classes")
    dtype = float_dtype(dtype)
    rows = np.full((len(labels), k), -1 / k if centred else 0, dtype)
    rows[np.arange(len(labels)), labels] += 1
    return rows


def encode(y, task, dtype):
    """Targets (n, k), labels (n,) or None, and the names of the classes or None."""
    if task == "regression":
        if y.dtype.kind not in "fiub":
            raise ValueError(
                f"`task` 'regression' needs numbers; got y of dtype {y.dtype}. Use task 'classes' or 'parity'."
            )
        return cast("y", y if y.ndim == 2 else y[:, None], dtype), None, None
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"`task` {task!r} needs one label for each row; got y of shape {y.shape}. Give y of shape (n,), or "
            "use task 'regression'."
        )
    labels = y.reshape(len(y))
    if labels.dtype.kind == "f":
        if not (labels == np.round(labels)).all():
            raise ValueError(
                f"`task` {task!r} needs whole numbers or text as labels; got y with fractions. Use task 'regression'."
            )
        labels = labels.astype(np.int64)
    if task in ("parity", "binary"):
        if task == "binary" and len(np.unique(labels)) != 2:
            raise ValueError(
                f"`task` 'binary' needs two classes; got {len(np.unique(labels))}. Use 'classes', or 'parity' for "
                "whole numbers that are even or odd."
            )
        labels, classes = _parity(labels)
        return (2 * labels - 1).astype(dtype)[:, None], labels, classes
    values, labels = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        raise ValueError(f"`task` 'classes' needs at least two classes; got {values[0]} alone.")
    return one_hot(labels, len(values), dtype=dtype), labels, tuple(map(str, values))


def _parity(labels):
    """Labels in {0, 1} and the names of the two."""
    labels = np.asarray(labels)
    values = np.unique(labels)
    if len(values) == 2:
        return (labels == values[1]).astype(np.int64), tuple(map(str, values))
    whole = labels.dtype.kind in "iu"
    even = labels % 2 == 0 if whole else np.zeros(0, bool)
    if len(values) < 2 or not whole or even.all() or not even.any():
        raise ValueError(
            "`labels` under task 'parity' must be two classes, or whole numbers of which some are even and some odd; "
            f"got {len(values)} classes: {', '.join(map(str, values[:6]))}{' …' if len(values) > 6 else ''}."
        )
    return even.astype(np.int64), ("odd", "even")


def float_dtype(dtype) -> np.dtype:
    """float32 or float64, however it is spelled."""
    return check.float_dtype("dtype", dtype)


def cast(name: str, value: np.ndarray, dtype) -> np.ndarray:
    """`value` as `dtype`, refused where that overflows."""
    with np.errstate(over="ignore"):
        result = value.astype(dtype)
    if not np.isfinite(result).all():
        raise ValueError(
            f"`{name}` must fit into {dtype}; got entries up to {np.abs(value).max():.3g}. Scale it first."
        )
    return result
