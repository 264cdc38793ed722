"""Where data come from: embedded digits, MNIST files, `.npz` files, a Gaussian problem with known I(X;Y)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ntkinfo._common import check, memory
from ntkinfo.datasets import _dataset, _files, _scale
from ntkinfo.datasets._dataset import Dataset
from ntkinfo.datasets._targets import TASKS, float_dtype

# Where Debian's package puts the files.
_FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_GARMENTS = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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
    check.option("task", task, TASKS)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "`datasets.digits` reads the digits that scikit-learn carries, and scikit-learn is not installed. "
            "Install it with `pip install scikit-learn`."
        ) from error
    n_train = check.integer("n_train", n_train, least=2)
    x, y = load_digits(return_X_y=True)
    x = np.asarray(x).astype(np.uint8).reshape(-1, 8, 8, 1)
    return _dataset.split("digits", x, np.asarray(y), n_train, n_test, task=task, flat=flat, seed=seed, dtype=dtype)


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
    place = check.path("folder", folder)
    return _images("mnist", _files.mnist, place, n_train, n_test, task, flat=flat, seed=seed, dtype=dtype)


def fashion_mnist(
    folder=None,
    n_train: int = 1000,
    n_test: int | None = 1000,
    *,
    task: str = "classes",
    flat: bool = True,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """Fashion-MNIST, from IDX files under MNIST's standard names; no download.

    Args:
      folder: the folder of the files; None for where Debian's package `dataset-fashion-mnist` puts them.
      n_train: training rows, at least 2.
      n_test: test rows; None for all the rest.
      task: "classes", under the names of the garments; "parity" or "regression" of their numbers, as in `digits`.
      flat: inputs of shape (n, 784); otherwise images (n, 28, 28, 1).
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32.

    Returns:
      Dataset.

    Raises:
      FileNotFoundError: no folder, or no files in it; the message says where they come from.
      ValueError: as `mnist`.

    Source: Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747.
    """
    place = _FASHION_FOLDER if folder is None else check.path("folder", folder)
    if folder is None and not place.is_dir():
        raise FileNotFoundError(
            f"`folder` must be given: there is no Fashion-MNIST at {place}. Install Debian's package "
            "dataset-fashion-mnist, or pass the folder of its four IDX files."
        )
    data = _images("fashion_mnist", _files.mnist, place, n_train, n_test, task, flat=flat, seed=seed, dtype=dtype)
    return _named(data, _GARMENTS)


def cifar10(
    folder,
    n_train: int = 1000,
    n_test: int | None = 1000,
    *,
    task: str = "classes",
    flat: bool = True,
    seed: int = 0,
    dtype=np.float64,
) -> Dataset:
    """CIFAR-10, from the files of its binary version; no download, and no pickles.

    Args:
      folder: the folder of data_batch_1.bin to data_batch_5.bin and test_batch.bin, or the one above it. Where there is
        no test batch, training and test rows are split from the others.
      n_train: training rows, at least 2.
      n_test: test rows; None for all the rest.
      task: "classes", under the names of the objects; "parity" or "regression" of their numbers, as in `digits`.
      flat: inputs of shape (n, 3072); otherwise images (n, 32, 32, 3).
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32.

    Returns:
      Dataset.

    Raises:
      FileNotFoundError: no folder, or no batches in it.
      ValueError: the Python version, which is pickled; a file that is cut short; an unknown task; too many rows.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    place = check.path("folder", folder)
    data = _images("cifar10", _files.cifar10, place, n_train, n_test, task, flat=flat, seed=seed, dtype=dtype)
    return _named(data, _OBJECTS)


def _images(name: str, read: Callable, folder: Path, n_train, n_test, task, **options) -> Dataset:
    """Rows of the images in a folder; what was asked for is checked before the files are read."""
    check.option("task", task, TASKS)
    n_train = check.integer("n_train", n_train, least=2)
    (x, y), test = read(folder)
    return _dataset.split(name, x, y, n_train, n_test, test=test, task=task, **options)


def _named(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The data with the names of their classes, which are numbers in the files."""
    if data.task != "classes" or data.classes is None:
        return data
    return dataclasses.replace(data, classes=tuple(classes[int(number)] for number in data.classes))


def npz(
    path,
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    task: str | None = None,
    flat: bool = False,
    scale: str | bool | None = "auto",
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
      scale: "columns" shifts and scales every feature by its own mean and standard deviation in the training rows (one
        that does not vary there becomes 0); "global" shifts each and divides all by one number; None leaves them as
        they are. "auto" is "columns" for tables, `x` (n, d), and "global" for images, `x` (n, height, width, ...), and
        for bytes (`uint8`), which are pixels. Pixels stored flat as other numbers look like a table: pass "global".
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32, of inputs and targets.

    Returns:
      Dataset.

    Warns:
      UserWarning: rows left out because their inputs repeat earlier ones; with "global", columns (or channels) whose
        standard deviations differ more than a hundredfold; with "columns", columns that vary in the test rows only.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an `.npz` file, an array missing, of a wrong rank, size or dtype, NaN or infinite entries,
        constant targets, a task that `y` does not allow, or more rows asked for than there are.

    Example:
      >>> np.savez('own.npz', x=np.arange(12.0).reshape(6, 2), y=np.array([0, 1, 0, 1, 0, 1]))
      >>> data = npz('own.npz', n_train=4, n_test=2)
      >>> data.x_train.shape, data.y_test.shape
      ((4, 2), (2, 2))
    """
    if task is not None:
        check.option("task", task, TASKS)
    path = check.path("path", path)
    (x, y), test = _files.npz(path)
    if task is None:
        task = "regression" if y.dtype.kind == "f" else "classes"
    return _dataset.split(
        path.stem,
        x,
        y,
        n_train,
        n_test,
        test=test,
        task=task,
        flat=flat,
        seed=seed,
        dtype=dtype,
        scale=_scale.kind(x, scale),
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
    check.on_host(locals())
    n_train, n_test = (check.integer("n_train", n_train, least=2), check.integer("n_test", n_test))
    dim = check.size("dim", dim)
    check.positive("information", information, zero=True, scalar=True)
    # Drawn in float64, then cast, with copies of both parts.
    memory.require(
        f"`n_train` + `n_test` = {n_train + n_test} rows of `dim` = {dim}",
        3 * 8 * (n_train + n_test) * dim,
        "Take fewer.",
    )
    dtype, rng = float_dtype(dtype), _dataset.generator(seed)
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
