"""Finite networks of a `stax` description, trained by gradient descent in the time convention of the ensemble."""

import math
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from ntkinfo._common import check, memory
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo._common import data as _data
from ntkinfo._common import progress as _progress
from ntkinfo._common.errors import DivergedError
from ntkinfo._common.labels import real_targets as labels
from ntkinfo.datasets import Dataset
from ntkinfo.finite import _gradient_descent, _validate
from ntkinfo.finite._run import Run
from ntkinfo.information import Curve


def train(
    net,
    x: Float[ArrayLike, "n ..."] | Dataset,
    y: Float[ArrayLike, "n ..."] | Num[ArrayLike, "*T"] | Curve | None = None,
    t: ArrayLike | Curve | None = None,
    *,
    n_networks: int,
    key: Array,
    x_test: Float[ArrayLike, "m ..."] | None = None,
    learning_rate: float | None = None,
    method: str = "euler",
    train_outputs: bool = True,
    fisher_trace: bool = False,
    chunk: int | None = None,
    side_by_side: int | None = None,
    max_steps: int = 1_000_000,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Run:
    """Trains N finite networks by full-batch gradient descent on ½ mean over n k of (f - y)², from their prior.

    Time is t = learning rate x number of steps. Between consecutive times steps are of equal size, the largest not
    above the learning rate of which the times are a multiple: every time is hit exactly. The outcome depends on
    the key and on N alone through the number of networks: the i-th network is the same for every N and chunk.

    Args:
      net: a network of `ntkinfo.stax`, (init, apply, kernel). Its default parameterization is "ntk", as the theory has
        it: parameters start at N(0, 1). Or a `networks.Network`, or a pair (init, apply) with init(key, x) -> params,
        which need a learning rate; `net.continued()` starts all networks from the parameters it has.
      x: training inputs, (n, ...), floating point; their dtype is that of the computation. Or a `Dataset`, whose test
        inputs are taken too, then `t`: `train(net, data, t, ...)`.
      y: training labels, (n, k) or (n,).
      t: training times, scalar or (T,), in any order, finite; 0 gives the networks at initialisation. Or a `Curve` (or
        a cell of a sweep): its finite times as far as `max_steps` allows, with a warning that says how far.
      n_networks: N.
      key: random key.
      x_test: test inputs, (m, ...), or None.
      learning_rate: largest step in t; None takes 1/20 of the stability limit 2 n k / λ_max of the infinite kernel,
        where there is one.
      method: "euler" is gradient descent; a mode of eigenvalue λ is then off gradient flow by at most 0.18 ε of where
        it started, ε = learning rate · λ / (n k). "heun" averages the gradients at both ends of a step: two
        gradients a step, and an error of 0.06 ε² instead.
      train_outputs: whether to keep the outputs on the training inputs.
      fisher_trace: whether to compute tr F at every time, at the cost of about k gradient steps each.
      chunk: networks of one compiled call, the unit of progress and checkpoint; None chooses: some seconds' worth,
        within 0.5 GB.
      side_by_side: networks of a chunk that are vectorised over, the others following; None takes all of them on
        accelerators, and on the CPU as many as share its cache.
      max_steps: refuses times that need more steps.
      checkpoint: a folder that finished chunks are written to; a later call with the same arguments (N may differ)
        goes on from there.
      progress: whether to show a progress bar over chunks; None shows it when they take longer than 3 seconds.

    Returns:
      A `Run`. Under tracing (which needs a learning rate and a concrete t), `nan` where training diverged.

    Warns:
      UserWarning: the times of a curve that are left out, as they need more steps.

    Raises:
      TypeError: no network, no random key, inputs that are not floating-point numbers.
      ValueError: shapes that do not fit, infinite or negative times, too many steps, an unknown method, a learning rate
        that is not positive, a checkpoint of another run.
      DivergedError: a ValueError, when a loss becomes NaN, infinite, or 10⁴ times what it was.

    Example:
      >>> net = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
      >>> run = train(net, x, y, [0.0, 10.0, 100.0], n_networks=50, key=jax.random.key(0), x_test=x_test)
      >>> mean, stderr = run.parameter_distance.mean(0), run.parameter_distance.std(0, ddof=1) / 50**0.5

    Source: theory, sections 1 and 5; Lee et al. 2019 (arXiv 1902.06720).
    """
    init_fn, apply_fn = _validate.network(net)
    if _data.is_dataset(x):
        _data.refuse_beside(x_test=x_test)
        t = _data.last("x", "y", y, "t", t)
        x, y, x_test = x.x_train, x.y_train, x.x_test  # pyright: ignore[reportAttributeAccessIssue]
    else:
        _data.require("x", y=y, t=t)
    x = check.inputs("x", x)
    y = labels("y", y, len(x)).astype(x.dtype)
    if x_test is not None:
        x_test = check.inputs("x_test", x_test).astype(x.dtype)
        if x_test.shape[1:] != x.shape[1:]:
            raise ValueError(f"`x_test` must hold inputs of the shape of `x`, {x.shape[1:]}; got {x_test.shape[1:]}.")
    for name, value in (("train_outputs", train_outputs), ("fisher_trace", fisher_trace)):
        check.flag(name, value)
    check.flag("progress", progress, none=True)
    if checkpoint is not None:
        checkpoint = check.path("checkpoint", checkpoint)
    of_curve = hasattr(t, "t") and hasattr(t, "quantities")
    t, host = _validate.finite_times(_curve_times(t) if of_curve else t)
    check.option("method", method, _gradient_descent.METHODS)
    n_networks, max_steps = check.integer("n_networks", n_networks), check.integer("max_steps", max_steps)
    check.key("key", key)
    config = _gradient_descent.Config(init_fn, apply_fn, method, 1, bool(train_outputs), bool(fisher_trace))
    _validate.outputs(config, x, y)
    rate, limit = _validate.learning_rate(learning_rate, net, x, y)

    times, where = np.unique(np.atleast_1d(host), return_inverse=True)
    sizes, counts = _gradient_descent.segments(times, rate)
    if of_curve and counts.sum() > max_steps:
        t, host = _validate.finite_times(_reached(t, times, counts, max_steps, rate))
        times, where = np.unique(np.atleast_1d(host), return_inverse=True)
        sizes, counts = _gradient_descent.segments(times, rate)
    if counts.sum() > max_steps:
        raise ValueError(
            f"`t` must be reached within `max_steps` = {max_steps} steps; t = {times[-1]:.4g} needs "
            f"{counts.sum():.4g} at learning rate {rate:.4g}. Leave out late times, or raise `max_steps` or, where "
            "training stays stable, `learning_rate`."
        )
    traced = not check.concrete(x, y, x_test, key)
    if traced and checkpoint is not None:
        raise ValueError("`checkpoint` must be None under jit; got a folder. Call `train` outside jit.")
    per_network = _gradient_descent.network_bytes(config, x)
    if chunk is None:
        stored = None if checkpoint is None else _checkpoint.Checkpoint.stored_integer(checkpoint, "chunk")
        gradients = counts.sum() * (2 if method == "heun" else 1)
        per_result = _gradient_descent.result_bytes(len(times), x, x_test, y.shape[1])
        chunk = stored or _gradient_descent.chunk_size(n_networks, gradients, per_network, per_result)
    chunk = check.integer("chunk", chunk)
    vmap_size = (
        _gradient_descent.vmap_size(chunk, per_network)
        if side_by_side is None
        else check.integer("side_by_side", side_by_side)
    )
    memory.require(
        f"`n_networks` = {n_networks} at {len(times)} times",
        # What is kept is held twice while the chunks are put together.
        2 * n_networks * _gradient_descent.result_bytes(len(times), x, x_test, y.shape[1]) + vmap_size * per_network,
        "Train fewer, record fewer times, or pass train_outputs=False.",
    )
    step_by_step = vmap_size == 1 and _gradient_descent.by_steps(config, x, per_network)
    config = config._replace(vmap_size=vmap_size, by_steps=step_by_step)
    arrays = (x, y, x_test, jnp.asarray(sizes, x.dtype), jnp.asarray(counts, jnp.int32))
    folder = None
    if checkpoint is not None:
        folder = _checkpoint.Checkpoint(checkpoint, _validate.checkpoint_arguments(config, chunk, key, arrays))

    trajectories, calls = [], -(-n_networks // chunk)
    for i in _progress.bar(range(calls), desc="finite networks", unit="chunk", progress=progress, hidden=traced):
        trajectory = _chunk(config, key, i, chunk, arrays, folder)
        # The last chunk is filled up, so that all have the one shape compiled for.
        keep = min(chunk, n_networks - i * chunk)
        trajectories.append(jax.tree.map(lambda leaf, keep=keep: leaf[:keep], trajectory))
        if not traced and np.isfinite(trajectories[-1].diverged_at).any():
            break
    total = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trajectories)
    run = _run(total, t, where, y, sizes, limit, counts)
    if traced:
        return run
    failed = np.isfinite(np.asarray(total.diverged_at))
    if failed.any():
        raise _divergence(run, np.asarray(total.diverged_at)[failed], rate, limit)
    return run


def _curve_times(curve) -> np.ndarray:
    """The finite times of a curve."""
    times = np.atleast_1d(np.asarray(curve.t))
    finite = times[np.isfinite(times)]
    if not finite.size:
        raise ValueError("`t` must be a curve with finite times; got one with t = ∞ alone.")
    return finite


def _reached(t, times: np.ndarray, counts: np.ndarray, max_steps: int, rate: float) -> np.ndarray:
    """Those of t (T,) reached within `max_steps`; `counts` are the steps from one of the sorted `times` to the next."""
    reached = times[np.cumsum(counts) <= max_steps]
    if not reached.size:
        raise ValueError(
            f"`t` must have a time that is reached within `max_steps` = {max_steps} steps; the first of the curve, "
            f"{times[0]:.4g}, needs {counts[0]:.4g} at learning rate {rate:.4g}. Raise `max_steps`."
        )
    warnings.warn(
        f"Networks are trained to t = {reached[-1]:.4g}, the last of {len(reached)} of the curve's {len(times)} finite "
        f"times within `max_steps` = {max_steps}; t = {times[-1]:.4g} needs {counts.sum():.4g} steps at learning rate "
        f"{rate:.4g}.",
        stacklevel=3,
    )
    t = np.asarray(t)
    return t[t <= reached[-1]]


def _chunk(config, key, i, chunk, arrays, folder):
    """The trajectory of a chunk: read where it is on disk, else computed, waited for, and written there."""
    template = _gradient_descent.Trajectory._fields
    stored = folder.load(f"chunk_{i:05d}") if folder else None
    if stored is not None:
        return _gradient_descent.Trajectory(
            **{name: jnp.asarray(stored[name]) if name in stored else None for name in template}
        )
    trajectory = _gradient_descent.train_chunk(config, key, i * chunk + jnp.arange(chunk), *arrays)
    if not check.concrete(trajectory):
        return trajectory
    trajectory = jax.block_until_ready(trajectory)
    if folder:
        folder.save(
            f"chunk_{i:05d}",
            {name: np.asarray(leaf) for name, leaf in trajectory._asdict().items() if leaf is not None},
        )
    return trajectory


def _run(trajectory, t, where, y, sizes, limit, counts):
    def arranged(leaf):
        # On the host an index compiles nothing.
        leaf = jnp.asarray(np.asarray(leaf)[:, where]) if check.concrete(leaf) else leaf[:, where]
        return leaf if t.ndim else leaf[:, 0]

    parts = trajectory._asdict()
    del parts["diverged_at"]
    kept = {name: None if leaf is None else arranged(leaf) for name, leaf in parts.items()}
    steps = np.cumsum(counts).astype(np.int64)[where]
    return Run(
        t=t,
        y=y,
        learning_rate=jnp.asarray(sizes.max(), y.dtype),
        stability_limit=jnp.asarray(limit, y.dtype),
        steps=jnp.asarray(steps if t.ndim else steps[0], jnp.int32),
        **kept,
    )


def _divergence(run: Run, times: np.ndarray, rate: float, limit: float) -> DivergedError:
    first = float(times.min())
    before = np.asarray(run.t) < first
    if run.t.ndim:
        per_time = {name: getattr(run, name) for name in _gradient_descent.Trajectory._fields if name != "diverged_at"}
        kept = {name: None if leaf is None else leaf[:, before] for name, leaf in per_time.items()}
        kept_run = run._replace(t=run.t[before], steps=run.steps[before], **kept)
        left = f"`run` of this error holds the {int(before.sum())} times before"
    else:
        left, kept_run = "nothing was finished before", None
    bound = "" if math.isnan(limit) else f" (gradient descent is unstable above {limit:.4g} at infinite width)"
    return DivergedError(
        f"Training diverged at t = {first:.4g} in {len(times)} of the networks trained so far; `learning_rate` was "
        f"{rate:.4g}{bound}. Lower it, or pass None; {left}.",
        time=first,
        run=kept_run,
    )
