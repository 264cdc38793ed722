"""The scale of inputs, by the training rows alone: one for each column of a table, one for all pixels of an image."""

import warnings

import numpy as np

SCALES = ("auto", "columns", "global")
# Spreads of columns further apart than this leave the small ones nothing to say beside the large.
_APART = 100.0


def kind(x: np.ndarray, scale) -> str | None:
    """What `scale` stands for: "columns", "global" or None.

    "auto" takes rows of numbers for a table, and images (n, height, width, ...) and bytes, which are pixels, for what
    has one unit.
    """
    # `True` and `False` are what the argument was once.
    if scale is None or scale is False:
        return None
    if scale is True:
        scale = "auto"
    if isinstance(scale, str) and scale == "auto":
        return "columns" if x.ndim == 2 and x.dtype != np.uint8 else "global"
    if not isinstance(scale, str) or scale not in SCALES:
        raise ValueError(f"`scale` must be one of {', '.join(map(repr, SCALES))} or None; got {scale!r}.")
    return scale


def scaled(train: np.ndarray, test: np.ndarray, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test inputs (n, ...), shifted by the training mean of each feature and divided, in float64.

    Args:
      train: training inputs, (n, ...); the statistics are theirs.
      test: test inputs, (m, ...).
      scale: "columns" divides each feature by its own training standard deviation, and takes one that never varies for
        0 in both; "global" divides all by one number, such that the training mean of |x|²/d is 1.
    """
    pixels, rounding = train.dtype == np.uint8, 8 * np.finfo(train.dtype).eps if train.dtype.kind == "f" else 0.0
    # In float64 whatever was asked for: sums of many float32 squares lose digits.
    train, test = train.astype(np.float64), test.astype(np.float64)
    # A column that varies by rounding alone has no scale to be taken by.
    constant = np.ptp(train, axis=0) <= rounding * np.abs(train).max(axis=0)
    shift = np.where(constant, train[0], train.mean(axis=0))
    train, test = train - shift[None], test - shift[None]
    with np.errstate(over="ignore", under="ignore"):
        spread = np.sqrt(np.mean(train**2, axis=0))
        size = np.where(constant, 1.0, spread) if scale == "columns" else np.sqrt(np.mean(train**2))
    if constant.all() or not (np.isfinite(size) & (size > 0)).all():
        bad = spread[~(np.isfinite(spread) & (spread > 0))]
        raise ValueError(
            f"`x` must vary, and be of a size whose square is a float64; got a spread of {bad.max()}. Scale it first."
        )
    if scale == "columns":
        unseen = constant & (np.abs(test) > rounding * np.abs(shift)).any(axis=0)
        train = np.where(constant[None], 0.0, train)
        if unseen.any():
            warnings.warn(
                f"{unseen.sum()} of {unseen.size} columns of `x`, the first of them {np.argmax(unseen)}, are constant "
                "in the training rows but not in the test rows. They have no scale, and are set to 0 in both.",
                stacklevel=4,
            )
        test = np.where(constant[None], 0.0, test)
    elif not pixels:
        _warn_apart(spread)
    return train / size, test / size


def _warn_apart(spread):
    """Says where one number scales features of different units: columns of a table, channels of an image."""
    if spread.ndim == 3:
        # Pixels of one channel have one unit, however rarely one of them is lit.
        spread = np.sqrt(np.mean(spread.reshape(-1, spread.shape[-1]) ** 2, axis=0))
    varying = spread[spread > 0]
    if spread.ndim == 1 and len(varying) > 1 and varying.max() > _APART * varying.min():
        warnings.warn(
            f"the columns of `x` have standard deviations from {varying.min():.3g} to {varying.max():.3g}, and one "
            "scale for all leaves the small ones nothing to say. Pass scale='columns', unless they have one unit.",
            stacklevel=5,
        )
