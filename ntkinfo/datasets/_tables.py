"""Your own tables: arrays, DataFrames and CSV files as checked NumPy arrays, and data sets of them."""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ntkinfo._common import check
from ntkinfo._common import csv as csv_files
from ntkinfo.datasets import _dataset, _scale
from ntkinfo.datasets._dataset import Dataset
from ntkinfo.datasets._pairs import check_pair, refuse_unlike
from ntkinfo.datasets._targets import TASKS

# Columns that are named in a message.
_NAMED = 5
# What pandas calls a first column without a name.
_NAMELESS = "Unnamed: 0"


def from_arrays(
    x: Any,
    y: Any,
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    x_test: Any = None,
    y_test: Any = None,
    task: str | None = None,
    flat: bool = False,
    scale: str | None = "auto",
    seed: int = 0,
    dtype: DTypeLike = np.float64,
    name: str = "arrays",
) -> Dataset:
    """Your own data in memory: arrays, pandas DataFrames and Series, lists of rows.

    Args:
      x: inputs (n, d) or (n, height, width, channels), numbers; a DataFrame of numbers is (n, columns).
      y: targets (n,) or (n, k): numbers, or labels as integers, booleans, text or categories.
      n_train: training rows, at least 2; None for all of `x` where `x_test` is given, else for four fifths of them.
      n_test: test rows; None for all the rest.
      x_test: test inputs (m, ...) like `x`; None to split them off `x`.
      y_test: their targets.
      task: None takes floating-point `y` as "regression" and labels as "binary" where there are two of them, else as
        "classes". "binary" gives ±1, k = 1, the larger label +1; "classes" one_hot - 1/k; "parity" ±1 by whole numbers
        being even or odd. Floating-point `y` is left as it is under "regression", integers are shifted and scaled to
        mean 0 and variance 1 on the training rows.
      flat: reshape every input to a vector.
      scale: "columns" shifts and scales every feature by its own mean and standard deviation in the training rows;
        "global" shifts each and divides all by one number; None leaves them as they are. "auto" is "columns" for
        tables, "global" for images and bytes.
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32, of inputs and targets.
      name: what to call the data.

    Returns:
      Dataset.

    Warns:
      UserWarning: rows left out because their inputs repeat earlier ones; labels that are numbers as text; columns (or
        channels) whose standard deviations differ more than a hundredfold where one number scales all; columns that
        vary in the test rows only.

    Raises:
      TypeError: inputs that are no numbers, such as columns of text; an object as target.
      ValueError: missing, NaN or infinite values (columns are named), shapes that do not fit, constant targets, a task
        that `y` does not allow, more rows asked for than there are; a `y` with the index of `x` in another order.

    Example:
      >>> import numpy as np
      >>> from ntkinfo import datasets
      >>> x = np.random.default_rng(0).normal(size=(50, 3))
      >>> data = datasets.from_arrays(x, np.where(x[:, 0] > 0, "yes", "no"), n_train=40)
      >>> data.task, data.classes, data.y_train.shape, data.x_test.shape
      ('binary', ('no', 'yes'), (40, 1), (10, 3))
    """
    check.on_host(locals())
    if task is not None:
        check.option("task", task, TASKS)
    if not isinstance(name, str):
        raise TypeError(f"`name` must be text; got {check.described(name)}.")
    _same_order("x", x, "y", y)
    _same_order("x_test", x_test, "y_test", y_test)
    pair = _pair("x", x, "y", y)
    if (x_test is None) != (y_test is None):
        missing = "x_test" if x_test is None else "y_test"
        raise ValueError(f"`{missing}` must be given with its partner, `x_test` and `y_test` together; got None.")
    test = None
    if x_test is not None:
        _same_columns(x, x_test)
        test = _pair("x_test", x_test, "y_test", y_test)
        for key, this, other in zip("xy", test, pair, strict=True):
            if this.shape[1:] != other.shape[1:] or (this.dtype.kind == "U") != (other.dtype.kind == "U"):
                refuse_unlike(key, this, other)
    if task is None:
        task = _task(pair[1])
        _warn_of_numbers(pair[1])
    return _dataset.split(
        name, *pair, n_train, n_test, test=test, task=task, flat=flat, seed=seed, dtype=dtype,
        scale=_scale.kind(pair[0], scale), warn=True,
    )  # fmt: skip


def csv(
    path,
    target: str | list[str],
    n_train: int | None = None,
    n_test: int | None = None,
    *,
    columns: str | list[str] | None = None,
    task: str | None = None,
    scale: str | None = "auto",
    seed: int = 0,
    dtype: DTypeLike = np.float64,
    **read: Any,
) -> Dataset:
    """A CSV file with a line of column names; pandas reads it.

    Args:
      path: the file.
      target: the column of `y`, or a list of several for regression.
      n_train: training rows, at least 2; None for four fifths of them.
      n_test: test rows; None for all the rest.
      columns: the columns of `x` (or the one), which must hold numbers; None for all but the target, and but a first
        column without a name that numbers the rows, as pandas writes its index.
      task: as in `from_arrays`.
      scale: as in `from_arrays`.
      seed: of the permutation that chooses the rows.
      dtype: float64 or float32.
      **read: passed on to `pandas.read_csv`, such as sep="|". Semicolons or tabulators in place of commas, and commas
        before decimals beside semicolons, are found out from the file; blanks after separators are left out.

    Returns:
      Dataset, named after the file.

    Warns:
      UserWarning: as `from_arrays`; a column that numbers the rows left out.

    Raises:
      ImportError: pandas is not installed.
      FileNotFoundError: no such file.
      TypeError: a column of text among the inputs (it is named).
      ValueError: a file that pandas cannot read, a column that is not there, missing values (columns are named), and
        all that `from_arrays` refuses.

    Example:
      >>> rows = [[0.0, 1.0, 7], [1.0, 0.0, 8], [2.0, 1.0, 7], [3.0, 5.0, 8]]
      >>> np.savetxt('own.csv', rows, delimiter=',', header='a,b,label', comments='')
      >>> data = csv('own.csv', 'label', n_train=3, n_test=1)
      >>> data.x_train.shape, data.y_test.shape
      ((3, 2), (1, 1))
    """
    path = check.path("path", path)
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("`datasets.csv` needs pandas, which is not installed: `pip install pandas`.") from error
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a CSV file; there is no file {path}.")
    try:
        table = csv_files.read(path, **read)
    except (ValueError, OSError, TypeError, pd.errors.ParserError) as error:
        remedy = ' Pass its encoding, such as encoding="latin-1".' if isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(f"{path} cannot be read as CSV: {str(error).strip()}.{remedy}") from error
    targets = _names("target", target, table, path)
    inputs = [each for each in table.columns if each not in targets]
    if columns is not None:
        inputs = _names("columns", columns, table, path)
        if set(inputs) & set(targets):
            raise ValueError(f"`columns` must leave out the target; got {sorted(set(inputs) & set(targets))} in both.")
    elif inputs and inputs[0] == _NAMELESS and np.array_equal(table[_NAMELESS], np.arange(len(table))):
        inputs = inputs[1:]
        warnings.warn(
            f"The first column of {path.name} has no name and numbers the rows; it is left out of the inputs. Name "
            "those you want in `columns`.",
            stacklevel=2,
        )
    if not inputs:
        raise ValueError(f"{path} must have columns besides the target {', '.join(targets)}; it has none.")
    if not len(table):
        raise ValueError(f"{path} must have rows below its line of names; it has none.")
    remedy = (
        "Leave them out by `columns`, or encode them first. Marks of missing values and of numbers are options of "
        'pandas: `na_values="?"`, `decimal=","`, `thousands=","`.'
    )
    _refuse_text("x", table[inputs], remedy)
    y = table[targets[0]] if isinstance(target, str) else table[targets]
    return from_arrays(
        table[inputs], y, n_train, n_test, task=task, scale=scale, seed=seed, dtype=dtype, name=path.stem
    )


def _names(argument, given, table, path) -> list[str]:
    """Columns that are there, as a list."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names):
        raise TypeError(f"`{argument}` must be a name of a column or a list of them; got {check.described(given)}.")
    for each in names:
        if each not in table.columns:
            there = [str(column) for column in table.columns]
            shown = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
            remedy = ' One column alone: pass the separator, such as sep="|".' if len(there) == 1 else ""
            raise ValueError(f"`{argument}` must be one of the columns of {path.name}, {shown}; got {each!r}.{remedy}")
    return list(names)


def _task(y: np.ndarray) -> str:
    if y.dtype.kind == "f":
        return "regression"
    return "binary" if y.ndim == 1 and len(np.unique(y)) == 2 else "classes"


def _pair(x_name, x, y_name, y) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets as host arrays of finite numbers, targets perhaps of text."""
    x, y = _inputs(x_name, x), _targets(y_name, y)
    check_pair(x_name, x, y_name, y)
    return x, y


def _same_order(x_name, x, y_name, y) -> None:
    """Refuses a table and a series of the same rows in another order, which would be paired wrongly."""
    # Lists have a method of that name.
    first, second = (value.index if hasattr(value, "iloc") else None for value in (x, y))
    if first is None or second is None or first.equals(second) or not (first.is_unique and second.is_unique):
        return
    if len(first) == len(second) and first.isin(second).all():
        raise ValueError(
            f"`{y_name}` must have its rows in the order of `{x_name}`; got the same index in another order. Take "
            f"`{y_name}.loc[{x_name}.index]`, or `reset_index(drop=True)` of both if they are in one order."
        )


def _warn_of_numbers(y) -> None:
    """Says where names of classes read like measurements."""
    if y.dtype.kind != "U":
        return
    names = np.unique(y)
    shown = next((name for name in names if not name.strip().lstrip("+-").isdigit()), None)
    try:
        # Decimals with commas too, which pandas leaves as text.
        [float(name.replace(",", ".")) for name in names]
    except ValueError:
        return
    if shown is not None:
        warnings.warn(
            f"`y` holds numbers as text, such as {str(shown)!r}, which are taken for names of {len(names)} classes: "
            "convert them for regression, for instance by `y.astype(float)`.",
            stacklevel=3,
        )


def _is_frame(value) -> bool:
    return hasattr(value, "columns") and hasattr(value, "dtypes") and hasattr(value, "to_numpy")


def _inputs(name, value) -> np.ndarray:
    if _is_frame(value):
        if not value.shape[1]:
            raise ValueError(f"`{name}` must have columns; got a table of shape {value.shape}.")
        _refuse_missing(name, value)
        _refuse_text(name, value, "Encode them first, for instance by `pandas.get_dummies`, or leave them out.")
        dtype = np.result_type(*(_numpy_kind(kind) for kind in value.dtypes))
        if any(hasattr(kind, "fill_value") for kind in value.dtypes):
            # pandas joins sparse columns of several fill values with a warning.
            value = np.stack([np.asarray(value.iloc[:, at], dtype) for at in range(value.shape[1])], axis=1)
        else:
            value = value.to_numpy(dtype=dtype)
    array = np.asarray(check.values(name, value))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"`{name}` must hold real numbers; got {check.described(array)}.")
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def _refuse_text(name, frame, remedy: str) -> None:
    """Refuses columns that hold no numbers, with the first entry of each that is none."""
    found, remedies = [], []
    for at, (column, kind) in enumerate(frame.dtypes.items()):
        if getattr(kind, "kind", "O") in "fiub":
            continue
        entry = next((each for each in frame.iloc[:, at] if not _is_number(each)), None)
        found.append(f"{column}" if entry is None else f"{column} ({check.described(entry)})")
        if entry is None:
            remedies = [f"Numbers kept as objects are converted by `{name}.astype(float)`."]
    if found:
        told = " ".join([remedy, *remedies])
        raise TypeError(f"`{name}` must hold numbers; got columns of other kinds: {_listed(found)}. {told}")


def _is_number(entry) -> bool:
    try:
        float(entry)
    except (TypeError, ValueError):
        return False
    return True


def _targets(name, value) -> np.ndarray:
    if _is_frame(value) or (hasattr(value, "dtype") and hasattr(value, "isna")):
        _refuse_missing(name, value)
    array = np.asarray(check.values(name, value))
    if array.dtype.kind == "O":
        # Text, booleans and whole numbers of pandas and of lists of Python's.
        kinds = {type(each) for each in array.ravel().tolist()}
        if kinds <= {str}:
            array = array.astype(str)
        elif kinds <= {bool, int, float} and not (float in kinds and any(math.isnan(each) for each in array.ravel())):
            array = np.array(array.tolist())
        else:
            raise TypeError(
                f"`{name}` must hold numbers, or labels as integers, booleans or text; got objects of type "
                f"{_listed(sorted(kind.__name__ for kind in kinds))}."
            )
    if array.dtype.kind not in "fiubU":
        raise TypeError(f"`{name}` must hold real numbers or text; got {check.described(array)}.")
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind != "f":
        array = array[:, 0]
    return array


def _numpy_kind(kind) -> np.dtype:
    """The dtype of NumPy behind one of pandas, which may be able to hold missing values, or be sparse."""
    return getattr(kind, "numpy_dtype", getattr(kind, "subtype", kind))


def _refuse_missing(name, value) -> None:
    if getattr(value, "ndim", 1) == 2:
        counts = [int(value.iloc[:, at].isna().sum()) for at in range(value.shape[1])]
        where = [f"{column!r} ({count})" for column, count in zip(value.columns, counts, strict=True) if count]
        if where:
            raise ValueError(f"`{name}` must have no missing values; got some in {_listed(where)}. Drop or fill them.")
    elif value.isna().any():
        raise ValueError(
            f"`{name}` must have no missing values; got {int(value.isna().sum())}. Drop or fill such rows."
        )


def _same_columns(x, x_test) -> None:
    if _is_frame(x) and _is_frame(x_test) and list(x.columns) != list(x_test.columns):
        raise ValueError(
            f"`x_test` must have the columns of `x` in their order, {_listed(list(map(str, x.columns)))}; got "
            f"{_listed(list(map(str, x_test.columns)))}."
        )


def _listed(names) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
