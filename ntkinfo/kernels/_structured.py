"""Empirical kernels by neural-tangents' structured derivatives, where they are faster and say the same.

They contract Jacobians layer by layer and never form them: for layers with shared weights and for wide ones that is
often the fastest way by far (Novak et al. 2022, arXiv 2206.08720). Before they are taken they are compared, on a few
rows, with products of rows of the Jacobian: in time, and in value.
"""

import functools
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import networks
from ntkinfo._common import memory
from ntkinfo._common import progress as progress_bar
from ntkinfo._neural_tangents.load import load
from ntkinfo.kernels import _jacobian
from ntkinfo.kernels._jacobian import TRIAL_ROWS
from ntkinfo.networks import Network

# Work expected to take less than so many seconds is not worth compiling another way, once for each network and size.
_WORTH_A_TRIAL = 0.05
# A block has at most so many rows, and so many numbers of inputs on a side: pairs of positions take memory.
_MOST_ROWS = 256
_MOST_NUMBERS = 2**18
# Blocks may be larger where all of them are more flops than this: another program is worth compiling.
_MANY_FLOPS = 2e10
# So many times the seconds of a flop of a product between rows are those of a flop of a row's derivatives.
_DERIVATIVES = 5.0
# A block may take so much memory beside its result, and no more than this share of what is free.
_BLOCK_BYTES = 2**30
_BLOCK_SHARE = 0.25
# Both ways round differently, by so many units of the dtype (relative to the largest entry).
_ROUNDING = 1e4
# What was found for a function and inputs of one kind: whether this way is taken, and rows of a block.
_FOUND: dict[tuple, bool] = {}
_ROWS: dict[tuple, int] = {}
_MOST_FOUND = 256


def preferred(net: Network, method: str | None, outputs, x1: Array, x2: Array | None, parts) -> bool:
    """Whether Θ̂ is computed this way: where it was asked for, or tried and found to be faster.

    Args:
      net: the network.
      method: what was asked for; None for whichever is faster.
      outputs: "trace", "full" or one output.
      x1: rows, (a, ...).
      x2: rows, (b, ...), or None for `x1`.
      parts: a function without arguments, for pairs of (inputs, outputs) with weights that add up to the kernel of the
        first `TRIAL_ROWS` rows.
    """
    if method is not None or len(x1) < 2 * TRIAL_ROWS or (x2 is not None and len(x2) < TRIAL_ROWS):
        return method == "structured"
    shape = (len(x1) // _MOST_ROWS, None if x2 is None else len(x2) // _MOST_ROWS)
    return _remembered(_FOUND, net, outputs, x1, shape, lambda: _faster(net, outputs, x1, x2, parts()))


def _remembered(found: dict, net, outputs, x, shape, find):
    """What `find` finds for networks and inputs of one kind, once."""
    function, _ = net.taken_apart
    kind = tuple(leaf.shape for leaf in jax.tree.leaves(net.params))
    key = (function, kind, outputs, x.shape[1:], str(x.dtype), shape)
    if key not in found:
        while len(found) >= _MOST_FOUND:
            found.pop(next(iter(found)))
        found[key] = find()
    return found[key]


def _faster(net, outputs, x1, x2, parts) -> bool:
    """The trial."""
    function, state = net.taken_apart
    n_blocks = len(x1) / TRIAL_ROWS * ((len(x1) + 1) / 2 if x2 is None else len(x2)) / TRIAL_ROWS
    n_panels = (len(x1) + (0 if x2 is None else len(x2))) / TRIAL_ROWS
    pairs = [first for (first, _), _ in parts]

    def rows(pair):
        return _jacobian.few_rows(function, net.params, state, *pair, _jacobian.SIDE_BY_SIDE)

    one = rows(pairs[0])
    seconds = len(parts) * (
        _jacobian.seconds(lambda: rows(pairs[0])) * n_panels
        + _jacobian.seconds(lambda: _jacobian.gram(one, one)) * n_blocks
    )
    if seconds < _WORTH_A_TRIAL:
        return False
    want = sum(weight * np.asarray(_jacobian.gram(found, found))
               for found, (_, weight) in zip(map(rows, pairs), parts, strict=True))  # fmt: skip
    try:
        # In blocks of many rows it is faster than in small ones: what is timed is the size that is used.
        many = x1[: _few_rows(function, outputs, net.params, state, x1, x2)]
        alone = x2 is None and len(many) == len(x1)
        share = (len(many) / TRIAL_ROWS) ** 2
        arguments = (function, outputs, net.params, state, many, None if alone else many)
        block = np.asarray(_block(*arguments))[:TRIAL_ROWS, :TRIAL_ROWS]
        start = time.perf_counter()
        jax.block_until_ready(_block(*arguments))
        structured = (time.perf_counter() - start) / share
    except Exception:
        # Not installed, or a layer that it does not know: the other ways are always there.
        return False
    largest = float(np.abs(want).max())
    error = float(np.abs(block - want).max())
    same = error <= _ROUNDING * float(np.finfo(x1.dtype).eps) * largest
    return same and structured * n_blocks < seconds


def panels(net: Network, outputs, x1: Array, x2: Array | None, batch_size, progress, devices) -> np.ndarray | Array:
    """Θ̂ of one network in blocks, put together on the host; one block alone stays where it was computed.

    Raises:
      ImportError: neural-tangents is not installed.
      ValueError: a network that its structured derivatives do not know.
    """
    function, state = net.taken_apart
    symmetric = x2 is None
    second = x1 if x2 is None else x2
    shape = (len(x1), len(second))
    if batch_size is None:
        size = _remembered(_ROWS, net, outputs, x1, shape if x2 is not None else shape[:1],
                           lambda: _fastest_rows(function, outputs, net.params, state, x1, x2))  # fmt: skip
    else:
        size = min(batch_size, max(shape))
    if devices:
        # A block for each device at least.
        size = max(1, min(size, -(-min(shape) // len(devices))))
    work = [(i, j) for i in range(0, len(x1), size) for j in range(0, len(second), size) if not symmetric or j >= i]
    places = list(devices or ())
    if len(work) == 1 and symmetric and not places:
        # One block alone: nothing is copied or filled up.
        return _refusing(function, outputs, net.params, state, x1, None)
    total = np.zeros(shape, x1.dtype)
    arguments = [jax.device_put((net.params, state), place) for place in places] or [(net.params, state)]
    running: list = []
    with progress_bar.bar(total=len(work), desc="empirical kernel", unit="block", progress=progress) as bar:

        def add(done):
            _jacobian.add_block(total, done, (size, size), symmetric)
            bar.update()

        for index, (i, j) in enumerate(work):
            pair = (_filled(x1[i : i + size], size), _filled(second[j : j + size], size))
            at = index % len(arguments)
            if places:
                pair = jax.device_put(pair, places[at])
            running.append((i, j, _refusing(function, outputs, *arguments[at], *pair)))
            if len(running) == len(arguments):
                add(running.pop(0))
        for done in running:
            add(done)
    return total


def _refusing(*arguments) -> Array:
    """`_block` of these arguments, with an error of our own where it fails."""
    try:
        return _block(*arguments)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f'`method` must be "jacobian" or "products" for this network: structured derivatives fail on it '
            f"({networks.reason(error)})."
        ) from error


def _block_rows(x: Array) -> int:
    """Rows of a block."""
    return max(TRIAL_ROWS, min(_MOST_ROWS, _MOST_NUMBERS // int(np.prod(x.shape[1:]))))


def _fastest_rows(function, outputs, params, state, x1: Array, x2: Array | None) -> int:
    """Rows of a block with which all of them are fastest, of those that fit into memory.

    The derivatives of a row are taken again for every block that it is in, which is nothing beside a product of many
    positions, and most of the work of a convolution. How many flops are of either kind is read off two sizes.
    """
    n1, n2 = len(x1), len(x1 if x2 is None else x2)
    n, least = max(n1, n2), _few_rows(function, outputs, params, state, x1, x2)
    if n <= least:
        return n
    if least < _block_rows(x1):
        # Memory allows no more.
        return _even(n, _even(n, least))
    program = functools.partial(_program, function, outputs, params, state, x1)

    def blocks(size):
        rows, columns = -(-n1 // size), -(-n2 // size)
        return rows * (rows + 1) // 2 if x2 is None else rows * columns

    try:
        flops, fewer = (_flops(program(size, False)) for size in (least, least // 2))
        if blocks(least) * flops < _MANY_FLOPS:
            return least
        # Flops of a block of B rows with B others are 2 B a + B² b.
        of_pairs = 2 * max(flops - 2 * fewer, 0.0) / least**2
        of_rows = max(flops - of_pairs * least**2, 0.0) / (2 * least)

        def seconds(size):
            alone = x2 is None and size >= n
            return blocks(size) * (_DERIVATIVES * of_rows * (1 if alone else 2) * size + of_pairs * size**2)

        sizes = [least] + [_even(n, parts) for parts in (2**i for i in range(n.bit_length())) if n // parts > least]
        for size in sorted(sizes, key=seconds):
            # The program that is looked at is the one that is used: compiled once.
            if size == least or _temporary(program(size, x2 is None and size >= n)) <= _most_bytes():
                return size
    except Exception:
        # Where XLA does not say, or the function fails: it is called as it is, and refused there.
        pass
    return least


def _few_rows(function, outputs, params, state, x1: Array, x2: Array | None) -> int:
    """Rows of a block that are few enough for its memory, which grows with them at least in proportion."""
    n = len(x1) if x2 is None else max(len(x1), len(x2))
    size = min(n, _block_rows(x1))
    try:
        taken = _temporary(_program(function, outputs, params, state, x1, size, x2 is None and size == n))
    except Exception:
        # Where XLA does not say, or the function fails: it is called as it is, and refused there.
        return size
    most = _most_bytes()
    return size if taken <= most else max(1, int(size * most / taken))


def _program(function, outputs, params, state, x: Array, size: int, alone: bool):
    """The program of a block, as it is called."""
    rows = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
    return _block.lower(function, outputs, params, state, rows, None if alone else rows)


def _most_bytes() -> float:
    there = memory.available()
    return _BLOCK_BYTES if there is None else min(_BLOCK_BYTES, _BLOCK_SHARE * there)


def _even(n: int, parts: int) -> int:
    return -(-n // parts)


def _flops(lowered) -> float:
    found = lowered.cost_analysis()
    return float((found[0] if isinstance(found, list) else found)["flops"])


def _temporary(lowered) -> int:
    """Bytes that a program takes beside its arguments and its result."""
    return lowered.compile().memory_analysis().temp_size_in_bytes


def _filled(rows: Array, size: int) -> Array:
    """Rows with the last repeated up to the one size compiled for."""
    missing = size - len(rows)
    return rows if not missing else jnp.concatenate([rows, jnp.repeat(rows[-1:], missing, axis=0)])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _block(function: Any, outputs, params, state, x1: Array, x2: Array | None) -> Array:
    """Θ̂ between rows (a, ...) and (b, ...), (a, b), averaged over outputs for "trace"; None for the first again."""
    nt = load()

    def apply(params, rows):
        if outputs == "full":
            # Each row is of one output, which stands behind its features.
            which = jnp.round(rows[:, -1].reshape(len(rows), -1)[:, :1]).astype(jnp.int32)
            return jnp.take_along_axis(function(params, state, rows[:, :-1]), which, axis=1)
        value = function(params, state, rows)
        return value if outputs == "trace" else value[:, outputs : outputs + 1]

    kernel = nt.empirical_ntk_fn(
        apply, trace_axes=(-1,), vmap_axes=0, implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES
    )
    with jax.default_matmul_precision("highest"), warnings.catch_warnings():
        # Of layers that it takes the general way for.
        warnings.filterwarnings("ignore", "No Jacobian rule found", UserWarning)
        return kernel(x1, x2, networks.cast(params, x1.dtype))
