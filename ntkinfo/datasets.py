"""Data to compute on: embedded digits, MNIST files, `.npz` files, and a Gaussian problem with known I(X;Y).

Everything is NumPy on the host: nothing touches a device, and the same seed gives the same arrays on every machine.
All data sets share three rules. Of rows with equal inputs only the first is kept, so that training and test inputs are
distinct and no kernel is singular for that reason. Train and test come from one permutation fixed by `seed`. Inputs are
shifted by the training mean of each feature and divided by one number, so that the training mean of |x|²/d is 1.
"""

import warnings
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import numpy as np

from ntkinfo import _check, _files
from ntkinfo._targets import TASKS, cast, encode, float_dtype, one_hot, parity
from ntkinfo.twelve_bit import TwelveBit, twelve_bit

__all__ = [
    "TASKS",
    "Dataset",
    "TwelveBit",
    "digits",
    "gaussian",
    "mnist",
    "npz",
    "one_hot",
    "parity",
    "subsample",
    "twelve_bit",
]


@dataclass(frozen=True)
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
      task: "parity" (k = 1, targets ±1), "classes" (k classes, one-hot minus 1/k) or "regression".
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


_META = ("name", "task", "classes", "mutual_information")
jax.tree_util.register_dataclass(
    Dataset, data_fields=[f.name for f in fields(Dataset) if f.name not in _META], meta_fields=list(_META)
)


def digits(
    n_train: int = 1000,
    n_test: int | None = None,
    *,
    task: str = "parity",
    flat: bool = True,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """The 1797 handwritten digits of 8 by 8 pixels that scikit-learn carries; no download.

    Args:
      n_train: training rows, at least 2.
      n_test: test rows; None for all the rest.
      task: "parity": even digits +1, odd -1. "classes": one_hot - 1/10. "regression": the digit as a number, shifted
        and scaled to mean 0 and variance 1 on the training rows.
      flat: inputs of shape (n, 64); otherwise images (n, 8, 8, 1), as convolutions expect.
      seed: of the permutation that splits train from test.
      dtype: float64 or float32.

    Returns:
      Dataset.

    Raises:
      ImportError: scikit-learn is not installed.
      ValueError: an unknown task, or more rows asked for than there are.

    Example:
      >>> from ntkinfo import datasets
      >>> data = datasets.digits(1000)
      >>> data.x_train.shape, data.y_train.shape, data.x_test.shape
      ((1000, 64), (1000, 1), (797, 64))
    """
    _check.option("task", task, TASKS)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "`datasets.digits` reads the digits that scikit-learn carries, and scikit-learn is not installed. "
            "Install it with `pip install scikit-learn`."
        ) from error
    x, y = load_digits(return_X_y=True)
    x = np.asarray(x).astype(np.uint8).reshape(-1, 8, 8, 1)
    return _split("digits", x, np.asarray(y), n_train, n_test, task=task, flat=flat, seed=seed, dtype=dtype)


def mnist(
    folder,
    n_train: int = 1000,
    n_test: int | None = 1000,
    *,
    task: str = "parity",
    flat: bool = True,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """MNIST, or any data in its format, from IDX files under their standard names, gzipped or not.

    Training rows come from `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, test rows from the `t10k-` pair.
    Where a folder holds one pair only, train and test are split from that one.

    Args:
      folder: the folder of the files.
      n_train: training rows, at least 2.
      n_test: test rows; None for all the rest (memory grows with them).
      task: as in `digits`, with as many classes as the labels have.
      flat: inputs of shape (n, 784); otherwise images (n, 28, 28, 1).
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32.

    Returns:
      Dataset.

    Raises:
      FileNotFoundError: no folder, or neither pair of files in it.
      ValueError: a file that is not IDX, is cut short or does not fit its partner; an unknown task; too many rows
        asked for.
    """
    _check.option("task", task, TASKS)
    (x, y), test = _files.mnist(Path(folder))
    return _split("mnist", x, y, n_train, n_test, test=test, task=task, flat=flat, seed=seed, dtype=dtype)


def npz(
    path,
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    task: str | None = None,
    flat: bool = False,
    scale: bool = True,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """Your own data: an `.npz` file with arrays `x` (n, ...) and `y` (n,) or (n, k), and perhaps `x_test` and `y_test`.

    Args:
      path: the file, as `numpy.savez(path, x=..., y=...)` writes it.
      n_train: training rows, at least 2; None for all of `x` where `x_test` is given, else for four fifths of them.
      n_test: test rows; None for all the rest.
      task: None takes integer, boolean and text `y` as "classes" and floating-point `y` as "regression". "parity"
        gives ±1: of two classes the larger is +1, of more (whole numbers only) the even ones. Under "regression"
        floating-point `y` is left as it is, integers are shifted and scaled to mean 0 and variance 1 on the
        training rows.
      flat: reshape every input to a vector.
      scale: shift and scale the inputs as the head of this module says; otherwise leave them as they are.
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32, of inputs and targets.

    Returns:
      Dataset. A warning says how many rows were left out because their inputs repeat earlier ones.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an `.npz` file, an array missing, of a wrong rank, size or dtype, NaN or infinite entries,
        constant targets, a task that `y` does not allow, or more rows asked for than there are.
    """
    if task is not None:
        _check.option("task", task, TASKS)
    (x, y), test = _files.npz(Path(path))
    if task is None:
        task = "regression" if y.dtype.kind == "f" else "classes"
    return _split(
        Path(path).stem,
        x,
        y,
        n_train,
        n_test,
        test=test,
        task=task,
        flat=flat,
        seed=seed,
        dtype=dtype,
        scale=scale,
        warn=True,
    )


def gaussian(
    n_train: int = 2000,
    n_test: int = 1000,
    *,
    dim: int = 30,
    information: float = 0.447,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """A linear Gaussian problem with known I(X;Y): x ~ N(0, I_dim), y = a·x + ε, ε ~ N(0, 1), |a|² = e^{2 I(X;Y)} - 1.

    The direction of `a` is uniform on the sphere. Nothing is shifted or scaled: E|x|²/dim is 1 already.

    Args:
      n_train: training rows, at least 2.
      n_test: test rows.
      dim: dimension of x.
      information: I(X;Y) = ½ log(1 + |a|²) in nats; the default is the paper's.
      seed: of a, x and ε.
      dtype: float64 or float32.

    Returns:
      Dataset for regression, k = 1, with `mutual_information` the true I(X;Y).

    Raises:
      TypeError, ValueError: sizes that are no integers or too small, `information` negative or not finite.

    Source:
      Shwartz-Ziv & Alemi 2019, arXiv 1911.09189, Fig. 2.

    Example:
      >>> from ntkinfo import datasets
      >>> data = datasets.gaussian(information=0.447)
      >>> data.x_train.shape, data.y_train.shape, data.mutual_information
      ((2000, 30), (2000, 1), 0.447)
    """
    n_train, n_test = (_check.integer("n_train", n_train, least=2), _check.integer("n_test", n_test))
    dim = _check.integer("dim", dim)
    _check.positive("information", information, zero=True)
    dtype, rng = float_dtype(dtype), _generator(seed)
    a = rng.standard_normal(dim)
    if information > 300:
        raise ValueError(f"`information` must be at most 300 nats, or |a|² overflows; got {information}.")
    a *= np.sqrt(np.expm1(2 * information)) / np.linalg.norm(a)
    x = rng.standard_normal((n_train + n_test, dim))
    y = (x @ a + rng.standard_normal(n_train + n_test))[:, None]
    x, y = x.astype(dtype), y.astype(dtype)
    return Dataset(
        x[:n_train],
        y[:n_train],
        x[n_train:],
        y[n_train:],
        None,
        None,
        "gaussian",
        "regression",
        mutual_information=float(information),
    )


def subsample(n: int, sizes, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Disjoint random index vectors into `n` rows, of the given sizes, from one permutation fixed by `seed`.

    Raises:
      ValueError: sizes that sum to more than `n`.
    """
    sizes = [_check.integer("sizes", size) for size in sizes]
    if sum(sizes) > n:
        raise ValueError(f"`sizes` must sum to at most n = {n}, the rows there are; got {' + '.join(map(str, sizes))}.")
    order = _generator(seed).permutation(n)
    return tuple(np.split(order, np.cumsum(sizes))[: len(sizes)])


def _split(name, x, y, n_train, n_test, *, task, flat, seed, dtype, test=None, scale=True, warn=False) -> Dataset:
    """Leaves out repeated inputs, chooses the rows, encodes the targets, scales the inputs."""
    dtype = float_dtype(dtype)
    first = len(x)
    if test is not None:
        x, y = np.concatenate([x, test[0]]), np.concatenate([y, test[1]])
    if x.dtype.kind == "f":
        # Rows that differ only beyond the precision asked for are equal to whoever computes with them.
        x = cast("x", x, dtype)
    keep = _distinct(x)
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
    n_train = _check.integer("n_train", n_train, least=2)
    if n_test is None:
        n_test = max(pools[1] if test is not None else first - n_train, 1)
    n_test = _check.integer("n_test", n_test)
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

    x_train, x_test = (x[rows].reshape(len(rows), -1) if flat else x[rows] for rows in (train, rest))
    if scale:
        # In float64 whatever was asked for: sums of many float32 squares lose digits.
        x_train, x_test = x_train.astype(np.float64), x_test.astype(np.float64)
        shift = x_train.mean(0)
        with np.errstate(over="ignore"):
            size = np.sqrt(np.mean((x_train - shift[None]) ** 2))
        if not (np.isfinite(size) and size > 0):
            raise ValueError(
                f"`x` must be of a size whose square is a float64; got a spread of {size}. Scale it first."
            )
        x_train, x_test = (x_train - shift[None]) / size, (x_test - shift[None]) / size
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


def _distinct(x) -> np.ndarray:
    """Indices, ascending, of the rows that repeat no earlier row."""
    flat = np.ascontiguousarray(x.reshape(len(x), -1))
    if flat.dtype.kind == "f":
        flat = flat + 0.0  # -0.0 and 0.0 are one number of two bit patterns
    first: dict[bytes, int] = {}
    for i, row in enumerate(flat):
        first.setdefault(row.tobytes(), i)
    return np.fromiter(first.values(), np.int64, len(first))


def _generator(seed) -> np.random.Generator:
    return np.random.default_rng(_check.integer("seed", seed, least=0))
