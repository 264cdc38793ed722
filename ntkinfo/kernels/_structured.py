"""Empirical kernels by neural-tangents' structured derivatives, where they are faster and say the same.

They contract Jacobians layer by layer and never form them: for layers with shared weights and for wide ones that is
often the fastest way by far (Novak et al. 2022, arXiv 2206.08720). Before they are taken they are compared, on a few
rows, with products of rows of the Jacobian: in time, and in value.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import networks
from ntkinfo._common import progress as progress_bar
from ntkinfo._neural_tangents.load import load
from ntkinfo.kernels import _jacobian
from ntkinfo.kernels._jacobian import TRIAL_ROWS
from ntkinfo.networks import Network

# Work expected to take less than so many seconds is not worth compiling another way, once for each network and size.
_WORTH_A_TRIAL = 0.2
# A block has at most so many rows, and so many numbers of inputs on a side: pairs of positions take memory.
_MOST_ROWS = 256
_MOST_NUMBERS = 2**18
# Both ways round differently, by so many units of the dtype (relative to the largest entry).
_ROUNDING = 1e4
# What was found for a function and inputs of one kind: whether this way is taken.
_FOUND: dict[tuple, bool] = {}
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
    function, _ = net.taken_apart
    kind = tuple(leaf.shape for leaf in jax.tree.leaves(net.params))
    shape = (len(x1) // _MOST_ROWS, None if x2 is None else len(x2) // _MOST_ROWS, x1.shape[1:], str(x1.dtype))
    key = (function, kind, outputs, shape)
    if key not in _FOUND:
        while len(_FOUND) >= _MOST_FOUND:
            _FOUND.pop(next(iter(_FOUND)))
        _FOUND[key] = _faster(net, outputs, x1, x2, parts())
    return _FOUND[key]


def _faster(net, outputs, x1, x2, parts) -> bool:
    """The trial."""
    function, state = net.taken_apart
    n_blocks = len(x1) / TRIAL_ROWS * ((len(x1) + 1) / 2 if x2 is None else len(x2)) / TRIAL_ROWS
    n_panels = (len(x1) + (0 if x2 is None else len(x2))) / TRIAL_ROWS
    pairs = [first for (first, _), _ in parts]

    def rows(pair):
        return _jacobian.rows(function, net.params, state, *pair, _jacobian.SIDE_BY_SIDE)

    one = rows(pairs[0])
    seconds = len(parts) * (
        _jacobian.seconds(lambda: rows(pairs[0])) * n_panels
        + _jacobian.seconds(lambda: _jacobian.gram(one, one)) * n_blocks
    )
    if seconds < _WORTH_A_TRIAL:
        return False
    want = sum(weight * np.asarray(_jacobian.gram(rows(pair), rows(pair)))
               for pair, ((_, _), weight) in zip(pairs, parts, strict=True))  # fmt: skip
    try:
        # In blocks of many rows it is faster than in small ones: what is timed is the size that is used.
        many = x1[: _block_rows(x1)]
        alone = x2 is None and len(many) == len(x1)
        share = (len(many) / TRIAL_ROWS) ** 2
        arguments = (function, outputs, net.params, state, many, None if alone else many)
        block = np.asarray(_block(*arguments))[:TRIAL_ROWS, :TRIAL_ROWS]
        structured = _jacobian.seconds(lambda: _block(*arguments)) / share
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
    size = min(_block_rows(x1) if batch_size is None else batch_size, max(shape))
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
