"""Sizes of arrays rounded up to few, so that neighbouring sizes share a compiled program."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Up to here two sizes an octave, where compiling costs more than computing; beyond, eight.
SMALL = 512


def size(n: int, least: int = 1) -> int:
    """The power of two from `n` on, at least `least`."""
    return max(1 << max(int(n) - 1, 0).bit_length(), least)


def near(n: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, ..., 384, 512, 576, ..., 1024, 1152, ... from `n` on."""
    step = max(size(n) // (4 if n <= SMALL else 16), 1)
    return -(-n // step) * step


def repeat_last(values: np.ndarray, n: int, axis: int = 0) -> np.ndarray:
    """`values` with its last entry along `axis` repeated up to `n` entries."""
    width = [(0, 0)] * values.ndim
    width[axis] = (0, n - values.shape[axis])
    return np.pad(values, width, mode="edge")


def on_host(array) -> bool:
    """Whether it is on the host, where new arrays go as well; there, shapes cost no compilation.

    What another device or several of them hold stays with them, be they parts of the processor.
    """
    if isinstance(array, np.ndarray):
        return True
    devices = array.devices()
    return len(devices) == 1 and _is_default(*devices)


def _is_default(device) -> bool:
    """Whether it is a processor, and the one where new arrays go."""
    if device.platform != "cpu":
        return False
    default = getattr(jax.config, "jax_default_device", None)
    if default is None or isinstance(default, str):
        default = jax.local_devices(backend=default)[0]
    return device == default


def fill(array: jax.Array | np.ndarray, shape: tuple[int, ...], value: float = 0.0) -> jax.Array | np.ndarray:
    """A known array, filled up at the ends of its axes to a shape."""
    if array.shape == shape:
        return array
    widths = [(0, wanted - have) for wanted, have in zip(shape, array.shape, strict=True)]
    return (np if on_host(array) else jnp).pad(array, widths, constant_values=value)


def cut(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A known array, cut off at the ends of its axes to a shape."""
    if array.shape == shape:
        return array
    inside = tuple(slice(length) for length in shape)
    return jnp.asarray(np.asarray(array)[inside]) if on_host(array) else array[inside]


def some(array: jax.Array | np.ndarray, rows: slice) -> jax.Array:
    """`array[rows]` of a known array, on the host without a program for each length."""
    return jnp.asarray(np.asarray(array)[rows]) if on_host(array) else jnp.asarray(array[rows])


def rowwise(program: Callable, *arrays: jax.Array | np.ndarray):
    """`program(*arrays)`, known arrays of n rows, each row for itself: filled up on the host to few numbers of rows."""
    n = len(arrays[0])
    if near(n) == n or not all(on_host(array) for array in arrays):
        return program(*arrays)
    found = program(*(repeat_last(np.asarray(array), near(n)) for array in arrays))
    return jax.tree.map(lambda rows: cut(rows, (n, *rows.shape[1:])), found)


def _bits(key, shape):
    return jax.random.bits(key, shape, np.uint32)


def permutation(key: jax.Array, n: int) -> np.ndarray:
    """`jax.random.permutation(key, n)` of a known key: numbers 0, ..., n - 1 sorted by random ones, a few times."""
    order = np.arange(n)
    # So often that equal random numbers, which sorting leaves in order, are rare.
    for _ in range(math.ceil(3 * math.log(max(n, 1)) / math.log(2**32 - 1))):
        key, own = jax.random.split(key)
        order = order[np.argsort(np.asarray(draws(_bits, own, (n,))), kind="stable")]
    return order


def draws(function: Callable, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`function(key, shape)` of `jax.random`, numbers drawn each for itself, on the host for few numbers of draws.

    The same numbers: the first so many of more draws are those of fewer, where keys are counted through (the default)
    and are Threefry's, of which raw ones hold two numbers.
    """
    total = math.prod(shape)
    counted = getattr(jax.config, "jax_threefry_partitionable", True) and (
        key.shape[-1:] == (2,) if key.dtype == np.uint32 else "fry" in str(key.dtype)
    )
    if not counted or not on_host(key):
        return function(key, shape)
    return jnp.asarray(np.asarray(function(key, (near(total),)))[:total].reshape(shape))
