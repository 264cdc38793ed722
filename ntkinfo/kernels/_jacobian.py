"""Rows of the Jacobian of a network: gradients of outputs, many at once, and their products."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import networks
from ntkinfo._common import compiling

# Rows whose gradients are taken side by side, and rows that one way is tried on before it is taken.
SIDE_BY_SIDE, TRIAL_ROWS = 32, 16


@jax.jit
def gram(first: Array, second: Array) -> Array:
    """Products of rows, (a, b)."""
    return jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)


def _rows(function, params, state, x, which, side_by_side) -> Array:
    """Gradients ∇f_c(x) of rows and their outputs, (r, P)."""
    one = functools.partial(gradient, function, networks.cast(params, x.dtype), state)
    size = min(side_by_side, len(x))
    return jax.lax.map(lambda item: one(*item), (x, which), batch_size=None if size == 1 else size)


rows = jax.jit(_rows, static_argnums=(0, 5))
# Of the few rows of a trial: they compile in less time, and take about as long.
few_rows = compiling.jit(_rows, static_argnums=(0, 5))


def gradient(function, params, state, x, c) -> Array:
    """∇f_c(x) of one row, (P,)."""
    tree = jax.grad(lambda params: jnp.take(function(params, state, x[None])[0], c))(params)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def add_block(total: np.ndarray, done, sizes: tuple[int, int], symmetric: bool, weight: float = 1.0) -> None:
    """Adds a block (row, column, values) to the whole, on the host; rows that filled it up to `sizes` are left out."""
    i, j, block = done
    rows, columns = (slice(at, min(at + size, n)) for at, size, n in zip((i, j), sizes, total.shape, strict=True))
    value = weight * np.asarray(block)[: rows.stop - i, : columns.stop - j]
    total[rows, columns] += value
    if symmetric and i != j:
        total[columns, rows] += value.T


def seconds(call: Callable[[], Array]) -> float:
    """Time of a call, once it is compiled."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
