"""What inputs and targets must be, of files and of arrays in memory alike."""

import numpy as np


def check_pair(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray, place: str = "") -> None:
    """Refuses a wrong rank or size, and entries that are not finite; `place` says where the arrays stand.

    Raises:
      ValueError: inputs other than (n, d) or (n, height, width, channels), targets other than (n,) or (n, k), nothing
        in them, NaN or Inf, or unequally many rows.
    """
    for name, value, ranks in ((x_name, x, range(2, 9)), (y_name, y, (1, 2))):
        if value.ndim not in ranks:
            wanted = "(n,) or (n, k)" if name == y_name else "(n, d) or (n, height, width, channels)"
            raise ValueError(f"`{name}`{place} must have shape {wanted}; got shape {value.shape}.")
        if value.size == 0:
            raise ValueError(f"`{name}`{place} must not be empty; got shape {value.shape}.")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            where = tuple(map(int, np.argwhere(~np.isfinite(value))[0]))
            raise ValueError(
                f"`{name}`{place} must be finite; got {value[where]} at index {where}. Remove or impute such rows "
                "first."
            )
    if len(x) != len(y):
        raise ValueError(f"`{x_name}` and `{y_name}`{place} must have equally many rows; got {len(x)} and {len(y)}.")


def refuse_unlike(name: str, test: np.ndarray, train: np.ndarray, place: str = "") -> None:
    """Says that a test array is unlike that of the training rows."""
    raise ValueError(
        f"`{name}_test` must be like `{name}` but for its number of rows; got {test.dtype} {test.shape} beside "
        f"{train.dtype} {train.shape}{place}."
    )
