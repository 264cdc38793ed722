"""Full-batch gradient descent of many finite networks at once, from their random start through the requested times.

The implementation of `finite.train`: no checks. One compiled program trains a chunk of networks through all times.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import kernels
from ntkinfo._common import memory, tracing
from ntkinfo._common.errors import has_diverged

METHODS = ("euler", "heun")
# The default step as a share of the stability limit 2 n k / λ_max: a mode of training is then off by at most 1.8 % of
# where it started by "euler", 0.06 % by "heun".
STEP_SHARE = 0.05
# What a chunk of networks may hold; and what networks that are vectorised over may hold on the CPU, where each should
# stay in the cache: beyond it they train faster one after the other than vectorised, unless they are tiny.
_CHUNK_BYTES = 2**29
_VMAP_BYTES = 2**20
# A call should take about this long, so that progress is seen and a checkpoint written now and then. A gradient step
# goes once through what a network holds: on two CPU cores at 5e9 to 1e10 bytes a second; an accelerator is taken to be
# 50 times as fast.
_CALL_SECONDS = 5.0
_BYTES_PER_SECOND = {"cpu": 1e10, "accelerator": 5e11}


class Trajectory(NamedTuple):
    """What is kept of the training of one network, at T times (in front of it: an axis of networks)."""

    outputs: Array | None  # on x_test, (T, m, k)
    train_outputs: Array | None  # (T, n, k)
    loss: Array  # (T,)
    parameter_distance: Array  # (T,)
    action: Array  # (T,)
    fisher_action: Array  # (T,)
    fisher_trace: Array | None  # (T,)
    diverged_at: Array  # time of the first step with a diverged loss, infinite if there is none


class _State(NamedTuple):
    params: object
    residual: Array  # f - Y, (n, k)
    gradient: object  # Jᵀ(f - Y) = -dθ/ds
    action: Array
    fisher_action: Array
    time: Array
    diverged_at: Array


@dataclasses.dataclass(frozen=True)
class FromInputs:
    """An init(key, x) -> params, as of `networks.Network`, beside those of stax that take a shape."""

    init: Callable


class Config(NamedTuple):
    """The static arguments of `train_chunk`: one compiled program for each."""

    init_fn: Callable
    apply_fn: Callable
    method: str
    vmap_size: int  # networks vectorised over
    train_outputs: bool
    fisher_trace: bool
    by_steps: bool = False  # a program for each step, and not one for all


def segments(t: np.ndarray, learning_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps between consecutive sorted times, the first from 0: sizes, at most `learning_rate`, and numbers, (T,).

    Step sizes are equal within a segment, so that every time is hit exactly.
    """
    gaps = np.diff(t, prepend=0.0)
    # A gap that is a multiple up to rounding takes that many steps.
    counts = np.ceil(gaps / learning_rate * (1 - 1e-9))
    return gaps / np.maximum(counts, 1), counts


def stability_limit(kernel_fn: Callable, x: Array, y: Array) -> float:
    """2 n k / λ_max for the tangent kernel of the training inputs at infinite width; see `finite.stability_limit`."""
    memory.require(f"`x` with n = {len(x)} training inputs", 4 * 8 * len(x) ** 2, "Take fewer.")
    eigenvalues = np.linalg.eigvalsh(np.asarray(kernels.kernels(kernel_fn, x).ntk, np.float64))
    return 2 * y.size / float(eigenvalues[-1])


def network_bytes(config: Config, x: Array) -> int:
    """About what the training of one network holds: parameters, gradients, and values kept for the backward pass."""
    params = jax.eval_shape(lambda: initialise(config.init_fn, jax.random.key(0), x))
    program = jax.make_jaxpr(config.apply_fn)(params, x)
    values = sum(math.prod(v.aval.shape) for eqn in program.jaxpr.eqns for v in eqn.outvars)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return x.dtype.itemsize * (5 * parameters + 2 * values)


def result_bytes(n_times: int, x: Array, x_test: Array | None, k: int) -> int:
    """What is kept of one network."""
    rows = len(x) + (0 if x_test is None else len(x_test))
    return x.dtype.itemsize * n_times * (rows * k + 8)


def chunk_size(n_networks: int, n_steps: float, per_network: int, per_result: int) -> int:
    """Networks of a call, evenly dealt: as many as memory holds and as train in about `_CALL_SECONDS`."""
    fits = max(1, _CHUNK_BYTES // (per_network + per_result))
    speed = _BYTES_PER_SECOND["cpu" if jax.default_backend() == "cpu" else "accelerator"]
    batches = n_networks * n_steps * per_network / (speed * _CALL_SECONDS)
    calls = max(-(-n_networks // fits), min(n_networks, math.ceil(batches)), 1)
    return -(-n_networks // calls)


def vmap_size(chunk: int, per_network: int) -> int:
    """Networks of a chunk that are vectorised over: all of them, but on the CPU those that share the cache."""
    return max(1, min(chunk, _VMAP_BYTES // per_network)) if jax.default_backend() == "cpu" else chunk


def initialise(init_fn: Callable, key: Array, x: Array):
    """Parameters from their prior, in the dtype of the inputs."""
    params = init_fn.init(key, x) if isinstance(init_fn, FromInputs) else init_fn(key, x.shape)[1]
    return jax.tree.map(lambda leaf: leaf.astype(x.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, params)


def applied(apply_fn: Callable, params, x: Array) -> Array:
    """Outputs in the dtype of the inputs: some layers promote float32 where float64 is enabled."""
    return apply_fn(params, x).astype(x.dtype)


def train_chunk(
    config: Config,
    key: Array,
    indices: Array,
    x: Array,
    y: Array,
    x_test: Array | None,
    sizes: Array,
    counts: Array,
) -> Trajectory:
    """Trains the networks of these indices; the i-th is the same in whatever chunk it is trained.

    Args:
      config: static arguments.
      key: random key of the ensemble.
      indices: (c,), which networks.
      x: training inputs, (n, ...).
      y: training labels, (n, k).
      x_test: test inputs, (m, ...), or None.
      sizes: step sizes in time t, (T,), see `segments`.
      counts: numbers of steps, (T,).

    Returns:
      `Trajectory` of arrays (c, T, ...).
    """
    train = _train_by_steps if config.by_steps else _train_at_once
    return train(config, key, indices, x, y, x_test, sizes, counts)


@functools.partial(jax.jit, static_argnames="config")
def _train_at_once(config, key, indices, x, y, x_test, sizes, counts):
    """In one program."""

    def train_one(index):
        state, start, scale = _begun(config, jax.random.fold_in(key, index), x, y)

        def segment(state, item):
            size, count = item
            state = jax.lax.fori_loop(0, count, lambda _, s: _step(config, x, y, scale, size, s), state)
            return state, _measured(config, state, start, x, y, x_test)

        state, trajectory = jax.lax.scan(segment, state, (sizes, counts))
        return trajectory._replace(diverged_at=state.diverged_at)

    if config.vmap_size >= len(indices):
        return jax.vmap(train_one)(indices)
    return jax.lax.map(train_one, indices, batch_size=config.vmap_size if config.vmap_size > 1 else None)


def _train_by_steps(config, key, indices, x, y, x_test, sizes, counts):
    """In a program for a step, called from the host."""
    trajectories = []
    for index in indices:
        state, start, scale = _begun_alone(config, jax.random.fold_in(key, index), x, y)
        rows = []
        for size, count in zip(sizes, np.asarray(counts), strict=True):
            for _ in range(count):
                state = _step_alone(config, x, y, scale, size, state)
            # Steps are handed over before they are done: no more of them than these.
            rows.append(jax.block_until_ready(_measured_alone(config, state, start, x, y, x_test)))
        trajectory = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
        trajectories.append(trajectory._replace(diverged_at=state.diverged_at))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trajectories)


def by_steps(config: Config, x: Array, per_network: int) -> bool:
    """Whether a network trains faster by a program for each step.

    Inside of a loop XLA compiles derivatives of convolutions for the CPU by loops of its own, 20 times as slow as those
    of a program alone (JAX 0.9).
    """
    if tracing.is_tracing() or jax.default_backend() != "cpu" or vmap_size(2, per_network) > 1:
        return False
    params = jax.eval_shape(lambda: initialise(config.init_fn, jax.random.key(0), x))
    return "conv_general_dilated" in str(jax.make_jaxpr(config.apply_fn)(params, x))


def _begun(config, key, x, y) -> tuple[_State, object, Array]:
    """A network at its start, its parameters there, and the loss that others are compared with."""
    start = initialise(config.init_fn, key, x)
    residual, gradient = _descent(config, start, x, y)
    # The loss of the network and that of zero outputs, together.
    scale = jnp.sum(residual**2) + jnp.sum(y**2)
    zero = jnp.zeros((), x.dtype)
    return _State(start, residual, gradient, zero, zero, zero, jnp.full_like(zero, jnp.inf)), start, scale


def _descent(config, params, x, y):
    f, pullback = jax.vjp(lambda p: applied(config.apply_fn, p, x), params)
    return f - y, pullback(f - y)[0]


def _step(config, x, y, scale, size, state: _State) -> _State:
    h = size / y.size
    velocity = state.gradient
    if config.method == "heun":
        ahead = _descent(config, _moved(state.params, velocity, h), x, y)[1]
        velocity = jax.tree.map(lambda a, b: 0.5 * (a + b), velocity, ahead)
    params = _moved(state.params, velocity, h)
    residual, gradient = _descent(config, params, x, y)
    power, time = jnp.sum(residual**2), state.time + size
    fails = has_diverged(power, scale) & jnp.isinf(state.diverged_at)
    return _State(
        params,
        residual,
        gradient,
        # Both actions are those of the polygon through the steps: |Δ/h|² h.
        state.action + h * _power(velocity),
        state.fisher_action + jnp.sum((residual - state.residual) ** 2) / h,
        time,
        jnp.where(fails, time, state.diverged_at),
    )


def _measured(config, state, start, x, y, x_test):
    moved = jax.tree.map(jnp.subtract, state.params, start)
    trajectory = Trajectory(
        outputs=None if x_test is None else applied(config.apply_fn, state.params, x_test),
        train_outputs=state.residual + y if config.train_outputs else None,
        loss=0.5 * jnp.mean(state.residual**2),
        parameter_distance=_power(moved),
        action=state.action,
        fisher_action=state.fisher_action,
        fisher_trace=_fisher_trace(config.apply_fn, state.params, x, y.shape[1]) if config.fisher_trace else None,
        diverged_at=state.diverged_at,
    )
    # A network that has diverged may still be finite; what it says is not to be taken for a result.
    return jax.tree.map(lambda leaf: jnp.where(jnp.isinf(state.diverged_at), leaf, jnp.nan), trajectory)


_begun_alone, _step_alone, _measured_alone = (
    functools.partial(jax.jit, static_argnames="config")(function) for function in (_begun, _step, _measured)
)


def _fisher_trace(apply_fn, params, x, k):
    """Σ ‖∇f_c(x_i)‖² over outputs and training inputs: the trace of the tangent kernel of this one network."""

    def at_input(point):
        def of_output(c):
            return _power(jax.grad(lambda p: applied(apply_fn, p, point[None])[0, c])(params))

        return jnp.sum(jax.lax.map(of_output, jnp.arange(k)))

    return jnp.sum(jax.lax.map(at_input, x))


def _moved(params, velocity, h):
    return jax.tree.map(lambda p, v: p - h * v, params, velocity)


def _power(tree) -> Array:
    return functools.reduce(jnp.add, [jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)])
