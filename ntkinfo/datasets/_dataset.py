"""Training and test data: the type, the choice of rows, the scaling of inputs."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from ntkinfo._common import check, pytree, tables
from ntkinfo.datasets import _scale
from ntkinfo.datasets._targets import cast, encode, float_dtype


@pytree.dataclass("name", "task", "classes", "mutual_information")
class Dataset:
    """Training and test data; a pytree whose leaves are the NumPy arrays.

    Attributes:
      x_train: (n, ...) training inputs, float32 or float64.
      y_train: (n, k) training targets of the same dtype.
      x_test: (m, ...) test inputs; none of them is a training input.
      y_test: (m, k) test targets.
      labels_train: (n,) integers, the index in `classes` of each row; None for regression.
      labels_test: (m,) integers, likewise.
      name: where the data come from.
      task: "parity" or "binary" (k = 1, targets ±1), "classes" (k classes, one-hot minus 1/k) or "regression".
      classes: what each label stands for; None for regression.
      mutual_information: the true I(X;Y) in nats where it is known, else None.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    labels_train: np.ndarray | None
    labels_test: np.ndarray | None
    name: str
    task: str
    classes: tuple[str, ...] | None = None
    mutual_information: float | None = None

    def to_dataframe(self, *, unit: str = "nats"):
        """A pandas table with a row per example: split, inputs x0, x1, ..., targets y0, ..., and the name of its class.

        Args:
          unit: "nats" or "bits", of `mutual_information` in `attrs`.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        n, m = len(self.x_train), len(self.x_test)
        columns: dict = {"split": ["train"] * n + ["test"] * m}
        for letter, parts in (("x", (self.x_train, self.x_test)), ("y", (self.y_train, self.y_test))):
            rows = np.concatenate([np.asarray(part).reshape(len(part), -1) for part in parts])
            columns |= {f"{letter}{j}": rows[:, j] for j in range(rows.shape[1])}
        if self.labels_train is not None and self.labels_test is not None:
            codes = np.concatenate([self.labels_train, self.labels_test])
            columns["label"] = codes if self.classes is None else [self.classes[code] for code in codes]
        known = None if self.mutual_information is None else scale * self.mutual_information
        attributes = {"name": self.name, "task": self.task, "mutual_information": known}
        return tables.frame(columns, attributes, unit)

    __repr__ = tables.one_line
    _repr_html_ = tables.html


def subsample(n: int, sizes: Sequence[int], *, seed: int = 0) -> tuple[Int[np.ndarray, " size"], ...]:
    """Disjoint random index vectors into `n` rows, of the given sizes, from one permutation fixed by `seed`.

    Raises:
      ValueError: sizes that sum to more than `n`.

    Example:
      >>> train, test = subsample(100, (10, 5), seed=1)
      >>> train.shape, test.shape, bool(np.isin(test, train).any())
      ((10,), (5,), False)
    """
    n = check.integer("n", n)
    given = np.atleast_1d(np.asarray(check.values("sizes", sizes)))
    if given.ndim != 1 or given.dtype.kind not in "iuO":
        raise TypeError(f"`sizes` must be a list of positive integers; got {given.dtype}, shape {given.shape}.")
    counts = [check.integer("sizes", size) for size in given.tolist()]
    if sum(counts) > n:
        raise ValueError(
            f"`sizes` must sum to at most n = {n}, the rows there are; got {' + '.join(map(str, counts))}."
        )
    order = generator(seed).permutation(n)
    return tuple(np.split(order, np.cumsum(counts))[: len(counts)])


def split(name, x, y, n_train, n_test, *, task, flat, seed, dtype, test=None, scale="global", warn=False) -> Dataset:
    """Leaves out repeated inputs, chooses the rows, encodes the targets, scales the inputs."""
    check.flag("flat", flat)
    dtype = float_dtype(dtype)
    first = len(x)
    if test is not None:
        x, y = np.concatenate([x, test[0]]), np.concatenate([y, test[1]])
    # Rows that differ only beyond the precision asked for are equal to whoever computes with them.
    keep = distinct(cast("x", x, dtype) if x.dtype.kind == "f" else x)
    if len(keep) < 3:
        raise ValueError(
            f"`x` must have at least three rows that differ, two to train on and one to test; got {len(keep)} of "
            f"{len(x)} in {name}."
        )
    if warn and len(keep) < len(x):
        warnings.warn(
            f"{len(x) - len(keep)} of {len(x)} rows of {name} were left out: their inputs repeat earlier rows.",
            stacklevel=3,
        )
    x, y, first = x[keep], y[keep], int((keep < first).sum())
    targets, labels, classes = encode(y, task, dtype)

    pools = [first, len(x) - first] if test is not None else [first]
    if n_train is None:
        n_train = first if test is not None else (4 * first) // 5
    n_train = check.integer("n_train", n_train, least=2)
    if n_test is None:
        n_test = max(pools[1] if test is not None else first - n_train, 1)
    n_test = check.integer("n_test", n_test)
    if test is None and n_train + n_test > first:
        raise ValueError(
            f"`n_train` + `n_test` must be at most {first}, the distinct rows of {name}; got {n_train} + {n_test}."
        )
    if test is not None and (n_train > pools[0] or n_test > pools[1]):
        raise ValueError(
            f"`n_train` and `n_test` must be at most {pools[0]} and {pools[1]}, the distinct rows of {name}; "
            f"got {n_train} and {n_test}."
        )
    if test is None:
        train, rest = subsample(first, (n_train, n_test), seed=seed)
    else:
        (train,), (rest,) = (subsample(first, (n_train,), seed=seed), subsample(pools[1], (n_test,), seed=seed))
        rest = rest + first

    x_train, x_test = x[train], x[rest]
    if scale is not None:
        x_train, x_test = _scale.scaled(x_train, x_test, scale)
    if flat:
        x_train, x_test = (rows.reshape(len(rows), -1) for rows in (x_train, x_test))
    x_train, x_test = cast("x", x_train, dtype), cast("x", x_test, dtype)
    y_train, y_test = targets[train], targets[rest]
    constant = np.ptp(y_train, axis=0) == 0
    if constant.all() if task == "classes" else constant.any():
        raise ValueError(
            f"The training targets of {name} must not be constant, or nothing is to be learned; got {n_train} "
            f"rows with {y_train[0]}. Take more rows or another seed."
        )
    if task == "regression" and y.dtype.kind != "f":
        shift, size = y_train.mean(0), y_train.std(0)
        y_train, y_test = ((y_train - shift[None]) / size[None], (y_test - shift[None]) / size[None])
    pick = (lambda rows: None) if labels is None else (lambda rows: labels[rows])
    return Dataset(x_train, y_train, x_test, y_test, pick(train), pick(rest), name, task, classes)


def distinct(x) -> np.ndarray:
    """Indices, ascending, of the rows that repeat no earlier row."""
    flat = np.ascontiguousarray(x.reshape(len(x), -1))
    if flat.dtype.kind == "f":
        flat = flat + 0.0  # -0.0 and 0.0 are one number of two bit patterns
    first: dict[bytes, int] = {}
    for i, row in enumerate(flat):
        first.setdefault(row.tobytes(), i)
    return np.fromiter(first.values(), np.int64, len(first))


def generator(seed) -> np.random.Generator:
    return np.random.default_rng(check.integer("seed", seed, least=0))
