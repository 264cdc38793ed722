"""Sizes of arrays rounded up to few, so that neighbouring sizes share a compiled program."""

import numpy as np


def size(n: int, least: int = 1) -> int:
    """The power of two from `n` on, at least `least`."""
    return max(1 << max(int(n) - 1, 0).bit_length(), least)


def repeat_last(values: np.ndarray, n: int, axis: int = 0) -> np.ndarray:
    """`values` with its last entry along `axis` repeated up to `n` entries."""
    width = [(0, 0)] * values.ndim
    width[axis] = (0, n - values.shape[axis])
    return np.pad(values, width, mode="edge")
