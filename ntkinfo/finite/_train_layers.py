"""Ensembles of small fully connected networks, trained by minibatches, with every layer over training.

`train_layers` trains tens of networks at once in compiled programs and keeps their parameters on a log-spaced schedule;
`activations` computes every layer from them; `gradient_phases` and `information_plane` read the result.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, parallel
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo._common import data as _data
from ntkinfo._common import progress as _progress
from ntkinfo._common.errors import DivergedError, has_diverged
from ntkinfo.datasets import Dataset
from ntkinfo.finite import _sgd, _validate_layers
from ntkinfo.finite._layer_run import LayerRun

# Unfinished networks are saved each time so many seconds have passed.
_SAVED_EVERY = 30.0
# Networks vectorised over on the CPU: more outgrow its cache.
_VMAP_SIZE = 5
# All threads need the same programs: the first compiles them while the others wait, instead of each compiling them.
_COMPILING = threading.Lock()


def train_layers(
    sizes: Sequence[int],
    x: Float[ArrayLike, "n d"] | Dataset,
    y: ArrayLike | None = None,
    *,
    epochs: int,
    n_networks: int,
    key: Array,
    activation: str | Callable | Sequence[str | Callable] = "tanh",
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = 512,
    loss: str = "cross_entropy",
    n_train: int | None = None,
    x_test: Float[ArrayLike, "m d"] | None = None,
    y_test: ArrayLike | None = None,
    draw_labels: bool = False,
    record: int | Sequence[int] | np.ndarray = 60,
    weight_std: float = 1.0,
    shuffle: bool = True,
    chunk: int | None = None,
    side_by_side: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> LayerRun:
    """Trains N fully connected networks by minibatch gradient descent and records them on a schedule of epochs.

    Weights start from a normal distribution of standard deviation `weight_std`/√d_in, cut off at twice that; biases
    start at zero. The i-th network depends on the key and i alone, whatever N and the chunks.

    Args:
      sizes: units of every layer, inputs and outputs included, such as (12, 10, 7, 5, 4, 3, 2).
      x: inputs, (n, d), floating point; their dtype is that of the computation, and float32 is twice as fast. Or a
        `Dataset`, whose classes (of a regression its targets) and test rows are taken.
      y: classes, (n,) integers from 0; p(y|x), (n, c), which cross-entropy takes as soft labels; any (n, c) for "mse".
      epochs: passes through the training rows.
      n_networks: N.
      key: random key.
      activation: of the hidden layers: a name ("tanh", "relu", "linear", "sigmoid", "erf", "elu", "gelu", "softplus"),
        a function of arrays, or one of those for each hidden layer.
      optimizer: of optax; None is gradient descent with `learning_rate`.
      learning_rate: of gradient descent, 0.1 if None.
      batch_size: rows of a minibatch, the last of an epoch being smaller; None for all at once: gradient descent.
      loss: "cross_entropy" of the softmax of the outputs, or "mse", ½ mean over outputs of (f - y)².
      n_train: each network is trained on so many rows, drawn for it, and tested on the others; None for all rows.
      x_test: test inputs, (m, d), in place of the rows left over.
      y_test: test labels, as `y`.
      draw_labels: whether each network gets labels of its own, drawn from p(y|x), instead of soft ones.
      record: how many epochs to record, log-spaced, with 0 and the last; or the epochs themselves.
      weight_std: as above.
      shuffle: whether every epoch draws new minibatches.
      chunk: networks of one compiled call; None shares them out among the cores of the host.
      side_by_side: networks of a chunk that are vectorised over, the others following; None takes 5 on the CPU (its
        cache), all on accelerators.
      checkpoint: a folder that results are written to as they come; a later call with the same arguments (N may grow)
        goes on where it stopped, and ends bit for bit the same.
      progress: whether to show a bar over epochs of chunks; None shows it where it takes longer than 3 seconds.

    Returns:
      A `LayerRun`. Runs on the host with compiled parts; not to be traced.

    Raises:
      TypeError: arrays that are not numbers, an activation that is neither a name nor a function, no random key.
      ValueError: sizes that do not fit the data, an unknown name, counts out of range, labels that are not classes,
        options that exclude each other, a checkpoint of another run.
      DivergedError: a ValueError, where a loss becomes NaN, infinite or 10⁴ times what it was; its `run` keeps what
        was recorded before.

    Source: theory, section 9; Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810).

    Example:
      >>> task = ni.datasets.twelve_bit(dtype=np.float32)
      >>> run = train_layers((12, 5, 2), task.x, task.labels, epochs=20, n_networks=2, n_train=3481,
      ...                    key=jax.random.key(0))
      >>> run.test_error.shape == (2, len(run.epochs))  # of each network, at each recorded epoch
      True
    """
    check.on_host(locals())
    check.flag("draw_labels", draw_labels)
    check.flag("shuffle", shuffle)
    check.flag("progress", progress, none=True)
    if checkpoint is not None:
        checkpoint = check.path("checkpoint", checkpoint)
    x, y, x_test, y_test = _data.labelled(x, y, x_test, y_test, flat=True)
    data, n_train = _validate_layers.data(x, y, x_test, y_test, loss, draw_labels, n_train)
    sizes = _validate_layers.sizes(sizes, data)
    names, functions = _validate_layers.activations(activation, len(sizes) - 2)
    n_networks, epochs = check.integer("n_networks", n_networks), check.integer("epochs", epochs)
    check.key("key", key)
    batch = n_train if batch_size is None else check.integer("batch_size", batch_size)
    if batch > n_train:
        raise ValueError(f"`batch_size` must be at most the {n_train} training rows; got {batch}. None takes them all.")
    check.positive("weight_std", weight_std, scalar=True)
    transformation, rate = _validate_layers.optimizer(optimizer, learning_rate)
    scales = _sgd.Scales(*(np.asarray(value, data.x.dtype) for value in (rate, weight_std)))
    config = _sgd.Config(
        sizes,
        functions,
        transformation,
        loss,
        n_train,
        batch,
        n_train < len(data.x),
        bool(draw_labels),
        bool(shuffle),
        1,
    )
    schedule = _validate_layers.schedule(record, epochs)
    if chunk is None:
        stored = None if checkpoint is None else _checkpoint.Checkpoint.stored_integer(checkpoint, "chunk")
        chunk = stored or -(-n_networks // parallel.cores())
    chunk = check.integer("chunk", chunk)
    vmap_size = min(chunk, _VMAP_SIZE if jax.default_backend() == "cpu" else chunk)
    config = config._replace(
        vmap_size=vmap_size if side_by_side is None else check.integer("side_by_side", side_by_side)
    )
    folder = None
    if checkpoint is not None:
        folder = _checkpoint.Checkpoint(
            checkpoint, _validate_layers.checkpoint_arguments(config, scales, data, schedule, key, chunk)
        )
    calls = -(-n_networks // chunk)
    bar = _progress.bar(total=int(schedule[-1]) * calls, desc="layered networks", unit="epoch", progress=progress)
    stop = threading.Event()
    with bar:
        work = functools.partial(_chunk, config, scales, data, key, schedule, chunk, n_networks, folder, bar, stop)
        parts = parallel.map(work, list(range(calls)))
    run = functools.partial(_run, config, names, data, n_networks, schedule)
    failed = [part.failed for part in parts if part.failed >= 0]
    if failed:
        raise _divergence(min(failed), config, parts, run)
    return run(parts)


class _Part(NamedTuple):
    """A chunk of networks: their indices and themselves, its records so far, and the first diverged step or -1."""

    indices: np.ndarray
    networks: _sgd.Networks
    records: list[_sgd.Record]
    failed: int


def _chunk(config, scales, data, key, schedule, size, n_networks, folder, bar, stop, call) -> _Part:
    """Trains one chunk from where it was left, recording, saving and watching for divergence."""
    indices = call * size + np.arange(size)
    # The last chunk is filled up with networks nobody asked for: their divergence is nobody's concern.
    asked = indices < n_networks
    name = f"chunk_{call:05d}"
    # What the optimiser has no part in is not compiled for each of them.
    plain = config._replace(optimizer=None)

    def measure(state):
        return jax.tree.map(np.asarray, _sgd.measure(plain, networks, data, state._replace(optimizer=None)))

    with _COMPILING:
        networks = _sgd.networks(plain, key, indices, len(data.x))
        state = _sgd.begin(config, networks, data, scales)
        host_record = measure(state)
        _sgd.advance(config, networks, data, scales, state, 0)
    records: list[_sgd.Record] = []
    stored = folder.load(name) if folder else None
    if stored is not None:
        count = int(stored["count"])
        state = _checkpoint.unpack("state", stored, state)
        records = [_checkpoint.unpack(f"record{i}", stored, host_record) for i in range(count)]
        bar.update(int(schedule[count - 1]))
        if (failed := _first(state.failed[asked])) >= 0:
            stop.set()
            before = [
                record for record, epoch in zip(records, schedule, strict=False) if epoch * config.n_batches < failed
            ]
            return _Part(indices, networks, before, failed)
    saved = time.monotonic()
    while len(records) < len(schedule) and not stop.is_set():
        done = int(schedule[len(records) - 1]) if records else 0
        ahead = int(schedule[len(records)]) - done
        after = _sgd.advance(config, networks, data, scales, state, ahead) if ahead else state
        record = measure(after)
        after = after._replace(failed=_failed(config, after, record))
        if (failed := _first(after.failed[asked])) >= 0:
            stop.set()
            _save(folder, name, state, records)
            return _Part(indices, networks, records, failed)
        state = after
        records.append(record)
        bar.update(ahead)
        if len(records) == len(schedule) or time.monotonic() - saved > _SAVED_EVERY:
            _save(folder, name, state, records)
            saved = time.monotonic()
    return _Part(indices, networks, records, -1)


def _failed(config, state, record) -> np.ndarray:
    """The first diverged step of each network: the last update may have left what no step has looked at yet."""
    failed = np.asarray(state.failed)
    diverged = has_diverged(record.train_loss, np.asarray(state.loss_scale)) | ~np.isfinite(record.weight_norm).all(
        axis=1
    )
    return np.where((failed < 0) & diverged, np.asarray(state.epoch) * config.n_batches, failed)


def _first(failed) -> int:
    """The first of the steps that are not -1, -1 if none."""
    return int(min(failed[failed >= 0], default=-1))


def _save(folder, name, state, records) -> None:
    if folder is None or not records:
        return
    arrays = {"count": np.array(len(records)), **_checkpoint.pack("state", state)}
    for i, record in enumerate(records):
        arrays |= _checkpoint.pack(f"record{i}", record)
    folder.save(name, arrays)


def _run(config, names, data, n_networks, schedule, parts) -> LayerRun:
    """The run of parts that hold equally many records."""
    chunks = [jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *part.records) for part in parts]
    indices = np.concatenate([part.indices for part in parts])
    asked = indices < n_networks
    rows = np.concatenate([np.asarray(part.networks.rows) for part in parts])[asked, : config.n_train]
    total = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[asked]), *chunks)
    labels = None
    if config.draw:
        of_part = [_sgd.drawn(config, part.networks.keys, data.y) for part in parts]
        labels = jnp.asarray(np.concatenate([np.asarray(one) for one in of_part])[asked])
    return LayerRun(
        epochs=jnp.asarray(schedule[: len(parts[0].records)]),
        train_rows=jnp.asarray(rows),
        labels=labels,
        sizes=config.sizes,
        activations=names,
        loss=config.loss,
        steps_per_epoch=config.n_batches,
        **total._asdict(),
    )


def _divergence(step, config, parts, run) -> DivergedError:
    count = min(len(part.records) for part in parts if part.records or part.failed >= 0)
    kept = None
    if count:
        kept = run([part._replace(records=part.records[:count]) for part in parts if len(part.records) >= count])
    epoch = step // config.n_batches
    return DivergedError(
        f"Training diverged at step {step} (epoch {epoch}): a loss was not finite, or 10⁴ times that at the start. "
        f"Lower `learning_rate` or `weight_std`, or scale `x`; `run` of this error holds "
        f"{f'the {count} records before' if count else 'nothing: there was no record before'}.",
        step=step,
        epoch=epoch,
        run=kept,
    )
