"""What labels are, decided once, by value, on the host.

`read` tells classes (integers, ±1, one-hot rows) from real numbers, `distributions` reads p(y|x), of which classes are
a case, and `real_targets` takes numbers as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from ntkinfo._common import check, tracing
from ntkinfo._numerics import entropy as _entropy

TASKS = ("auto", "classes", "regression")


class Labels(NamedTuple):
    """Labels as targets and, where they name classes, as class numbers.

    Attributes:
      targets: (m, k) real targets that a network is trained on, or None if only class numbers were given.
      classes: (m,) integers from 0 to n_classes - 1, or None for regression.
      n_classes: number of classes; 0 for regression.
    """

    targets: np.ndarray | jax.Array | None
    classes: np.ndarray | None
    n_classes: int


def read(name: str, labels, m: int, task: str = "auto") -> Labels:
    """Reads labels for m inputs.

    Integers (m,) are class numbers. Floating-point labels are classes where every entry is -1 or 1 (one output), or
    every row has one entry above k - 1 equal ones and only two values occur (one-hot, centred or not); else numbers.

    Args:
      name: what to call the argument in messages.
      labels: (m,) integers, or (m,) or (m, k) floating point.
      m: number of inputs.
      task: "auto" decides by value; "classes" insists on classes; "regression" takes numbers as numbers.

    Raises:
      TypeError: labels that are neither integers nor floating point.
      ValueError: wrong shape, NaN or Inf, negative class numbers, no classes where insisted on, or labels traced by
        jit with task="auto": their values decide what is computed.
    """
    check.option("task", task, TASKS)
    labels = check.values(name, labels)
    if not check.concrete(labels):
        if task != "regression":
            raise ValueError(
                f"the values of `{name}` decide whether they are classes, so they must be known outside `jit`: "
                'close over them, or pass task="regression".'
            )
    elif jnp.issubdtype(labels.dtype, jnp.integer) and labels.ndim == 1 and task != "regression":
        return _from_integers(name, np.asarray(labels), m)
    _refuse_names(name, labels)
    check.small_enough(name, check.array(name, labels, (1, 2)))
    # On the host where it can be: inside `jit` even a constant that JAX has touched cannot be read any more.
    targets = np.asarray(labels) if check.concrete(labels) else labels
    targets = targets[:, None] if targets.ndim == 1 else targets
    if len(targets) != m:
        raise ValueError(f"`{name}` must have one row per input; got {len(targets)} rows for {m} inputs.")
    classes = None if task == "regression" else _classes(np.asarray(targets))
    if classes is None:
        if task == "classes":
            raise ValueError(
                f"`{name}` must name classes: integers (m,), -1 and 1 (m, 1), or one-hot rows (m, k); "
                f"got other numbers, for instance {np.asarray(targets)[0]}."
            )
        return Labels(targets, None, 0)
    return Labels(targets, classes, max(2, targets.shape[1]))


def _refuse_names(name: str, labels) -> None:
    """Refuses text and objects, which name classes but number none."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "USO":
        raise TypeError(
            f"`{name}` must be numbers; got {'objects' if labels.dtype == object else 'text'}. Number classes first, "
            f"for instance by `np.unique({name}, return_inverse=True)[1]`."
        )


def _from_integers(name, labels, m):
    if len(labels) != m:
        raise ValueError(f"`{name}` must have one entry per input; got {len(labels)} for {m} inputs.")
    if labels.min() < 0:
        raise ValueError(
            f"`{name}` must hold class numbers from 0; got {labels.min()}. Labels -1 and 1 are floating point."
        )
    _check_gaps(name, int(labels.max()), m)
    return Labels(None, labels, int(labels.max()) + 1)


def _check_gaps(name, most: int, n: int) -> None:
    """Refuses class numbers so large that a table of one entry for each input and class is out of the question."""
    if n * (most + 1) > check.MOST_ENTRIES:
        raise ValueError(
            f"`{name}` must number its classes without gaps; got classes up to {most} for {n} inputs. Renumber "
            "them first, for instance by `np.unique(y, return_inverse=True)[1]`."
        )


def _classes(targets):
    if targets.shape[1] == 1:
        return (targets[:, 0] > 0).astype(np.int32) if np.all(np.abs(targets) == 1) else None
    low, high = targets.min(), targets.max()
    hot = targets == high
    if low < high and np.all(hot | (targets == low)) and np.all(hot.sum(axis=1) == 1):
        return np.argmax(targets, axis=1).astype(np.int32)
    return None


def require_shape(name: str, shape: tuple[int, ...], predicted: tuple[int, ...]) -> None:
    """Refuses targets of a `shape` other than (m, k) of predictions (..., m, k).

    Raises:
      ValueError: with the remedy for one prediction for each label.
    """
    if shape == predicted[-2:]:
        return
    remedy = ""
    if predicted[-1] == 1 and predicted[-3:-1] == (shape[1], shape[0]):
        remedy = (
            " Predictions (k, m, 1), as of a posterior with one noise for each label, are one distribution for each: "
            f"take them one by one, Gaussian(mean[j], variance[j]) with {name}[:, j]."
        )
    raise ValueError(f"`{name}` must have the shape (m, k) = {predicted[-2:]} of the predictions; got {shape}.{remedy}")


def entropy(labels: Labels) -> float:
    """H(Y) in nats of the class frequencies; exact for Y drawn uniformly from these labels.

    For regression h(Y) of the Gaussian with the sample covariance of the targets: exact for Gaussian labels, otherwise
    an upper bound on the entropy of a density with that covariance (maximum entropy).
    """
    if labels.classes is not None:
        share = np.bincount(labels.classes, minlength=labels.n_classes) / len(labels.classes)
        return float(_entropy.entropy(share))
    targets = np.asarray(labels.targets, np.float64)
    if len(targets) <= targets.shape[1]:
        raise ValueError(
            f"`label_entropy` must be given: h(Y) of {targets.shape[1]} outputs cannot be estimated from "
            f"{len(targets)} labels."
        )
    covariance = np.atleast_2d(np.cov(targets.T))
    if _singular(covariance, np.abs(targets).max(0), np.asarray(labels.targets).dtype):
        raise ValueError(
            "`label_entropy` must be given: the labels are constant or linearly dependent, so h(Y) is not finite."
        )
    return float(0.5 * (targets.shape[1] * np.log(2 * np.pi * np.e) + np.linalg.slogdet(covariance)[1]))


def _singular(covariance, largest, dtype) -> bool:
    """Whether labels are constant, or linear functions of each other, up to the rounding of their dtype."""
    std, eps = np.sqrt(np.diag(covariance)), float(np.finfo(np.float64).eps)
    if (std <= 8 * eps * largest).any():
        return True
    correlations = np.linalg.eigvalsh(covariance / np.outer(std, std))
    return bool(correlations[0] <= 8 * len(std) * float(np.finfo(dtype).eps))


def check_entropy(value, n_classes: int = 0) -> None:
    """Refuses a `label_entropy` that is none: for classes below 0 or above log `n_classes`, else beyond float32."""
    if n_classes:
        # Rounded sums may exceed it.
        check.number("label_entropy", value, 0, float(np.log(n_classes)) + check.SUM_TOLERANCE)
    else:
        most = float(np.finfo(np.float32).max)
        check.number("label_entropy", value, -most, most, ends=False)


def real_targets(name: str, y: Float[ArrayLike, "rows ..."], n: int) -> Float[Array, "rows k"]:
    """Labels as (n, k): a vector is one output."""
    n = check.integer("n", n)
    y = check.values(name, y)
    _refuse_names(name, y)
    if y.ndim in (1, 2) and (jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == bool):
        raise TypeError(
            f"`{name}` must hold floating-point targets; got {y.dtype}. Of classes make one output each, by "
            f"`ni.datasets.one_hot({name})`, or ±1, by `ni.datasets.parity({name})`; take numbers as such by "
            f"`np.asarray({name}, float)`."
        )
    y = check.array(name, y, (1, 2))
    check.small_enough(name, y)
    y = y[:, None] if y.ndim == 1 else y
    if len(y) != n:
        raise ValueError(f"`{name}` must have one row per input; got {len(y)} rows for {n} inputs.")
    return y


def class_numbers(labels, n_classes: int | None) -> tuple[np.ndarray | jax.Array, int]:
    """`labels` as integers (m,) from 0 to n_classes - 1, and that number; None takes the largest label plus one.

    Raises:
      TypeError: labels that are not integers.
      ValueError: labels that are not a vector or outside the range.
    """
    labels = check.values("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"`labels` must be integers from 0 to n_classes - 1; got dtype {labels.dtype}.")
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"`labels` must be a vector (m,), not empty; got shape {labels.shape}.")
    n_classes = int(np.max(labels)) + 1 if n_classes is None else check.integer("n_classes", n_classes)
    if check.concrete(labels) and (np.min(labels) < 0 or np.max(labels) >= n_classes):
        raise ValueError(
            f"`labels` must be integers from 0 to n_classes - 1 = {n_classes - 1}; "
            f"got {int(np.min(labels))} to {int(np.max(labels))}."
        )
    return labels, n_classes


def one_hot(labels: Integer[ArrayLike, " m"], n_classes: int, dtype=None) -> Float[Array, "m c"]:
    """Integer class labels (m,) from 0 to n_classes - 1 as rows of a unit matrix, (m, n_classes).

    Raises:
      TypeError, ValueError: as `class_numbers`.

    Example:
      >>> one_hot(np.array([0, 1, 1]), 2).tolist()
      [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    n_classes = check.integer("n_classes", n_classes)
    if dtype is not None:
        check.float_dtype("dtype", dtype)
    labels, n_classes = class_numbers(labels, n_classes)
    check.entries("n_classes", labels.size * n_classes, f"{labels.size} rows of {n_classes} classes")
    dtype = jnp.result_type(float) if dtype is None else dtype
    if tracing.is_known(labels):
        return jnp.asarray(np.equal(np.asarray(labels)[:, None], np.arange(n_classes)).astype(dtype))
    return jax.nn.one_hot(labels, n_classes, dtype=dtype)


def distributions(name: str, y, n: int, n_classes: int | None = None) -> np.ndarray | jax.Array:
    """Labels as distributions p(y|x), (n, classes): classes (n,) become unit rows, rows of probabilities stay.

    Args:
      name: what to call the argument in messages.
      y: (n,) integers from 0, or (n, classes) probabilities.
      n: number of inputs.
      n_classes: how many classes there are; None takes the largest label plus one, or the columns there are.

    Returns:
      float64 on the host for known labels, else a JAX array.

    Raises:
      TypeError: labels that are neither integers nor floating point.
      ValueError: wrong shape, negative or too large class numbers, rows that are no distributions.
    """
    y = check.values(name, y)
    if y.ndim == 0 or len(y) != n:
        raise ValueError(f"`{name}` must have one row for each of the {n} inputs; got shape {y.shape}.")
    if y.ndim == 1:
        if not jnp.issubdtype(y.dtype, jnp.integer):
            raise TypeError(
                f"`{name}` must be integer classes (n,), or distributions p(y|x) (n, classes); got dtype {y.dtype}, "
                f"shape {y.shape}. Number classes first, for instance by `np.unique(y, return_inverse=True)[1]`."
            )
        if check.concrete(y):
            least, most = int(np.min(y)), int(np.max(y))
            if least < 0 or (n_classes is not None and most >= n_classes):
                wanted = "from 0 on" if n_classes is None else f"from 0 to {n_classes - 1}"
                raise ValueError(f"`{name}` must be classes {wanted}; got {least if least < 0 else most}.")
            n_classes = most + 1 if n_classes is None else n_classes
            _check_gaps(name, n_classes - 1, n)
            rows = np.zeros((n, n_classes))
            rows[np.arange(n), np.asarray(y)] = 1
            return rows
        if n_classes is None:
            raise ValueError(f"`{name}` must be known outside `jit`: its values say how many classes there are.")
        return jax.nn.one_hot(y, n_classes, dtype=jnp.result_type(float))
    rows = check.probabilities(name, y, 2)
    if n_classes is not None and rows.shape[1] != n_classes:
        raise ValueError(f"`{name}` must have {n_classes} columns, one for each class; got shape {rows.shape}.")
    return np.asarray(y, np.float64) if check.concrete(rows) else rows
