"""Ensembles of small fully connected networks, trained by minibatches, with every layer over training.

`train_layers` trains tens of networks at once in compiled programs and keeps their parameters on a log-spaced schedule;
`activations` computes every layer from them; `gradients.gradient_phases` and `plane.information_plane` read the result.
"""

import dataclasses
import functools
import os
import threading
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tqdm import tqdm

from ntkinfo import _check, _checkpoint, _finite_door, parallel, perceptron, sgd
from ntkinfo.perceptron import ACTIVATIONS, LOSSES

# A bar appears for work longer than this many seconds; unfinished networks are saved that often.
_PATIENCE = 3.0
_SAVED_EVERY = 30.0
# Networks side by side on the CPU: more outgrow its cache.
_LANES = 5
# Of the threads that want the same programs, one compiles them.
_COMPILING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """N networks of L layers at T epochs of their training. A pytree; made by `train_layers`.

    Attributes:
      epochs: the recorded epochs, (T,); 0 is before training.
      weights: of each layer, (N, T, d_in, d_out).
      biases: of each layer, (N, T, d_out).
      train_loss: mean loss over the training rows, (N, T).
      test_loss: over the test rows, (N, T); None without any.
      train_error: mean probability that the label is another than the likeliest output, (N, T).
      test_error: likewise, (N, T); None without test rows.
      gradient_mean: for each layer the norm ‖∇W‖ of the gradient averaged over the minibatches of the coming epoch,
        at the weights of now, (N, T, L).
      gradient_std: the norm of its standard deviation over them, (N, T, L); 0 for full-batch training.
      weight_norm: ‖W‖, (N, T, L). All norms are Frobenius's.
      train_rows: the rows each network is trained on, (N, n_train).
      labels: the labels drawn for each network, (N, n); None where they were not drawn.
      sizes: units of every layer, the inputs first.
      activations: of the hidden layers: names, or functions.
      loss: "cross_entropy" or "mse".
      steps_per_epoch: minibatches of an epoch.
    """

    epochs: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    train_loss: Array
    test_loss: Array | None
    train_error: Array
    test_error: Array | None
    gradient_mean: Array
    gradient_std: Array
    weight_norm: Array
    train_rows: Array
    labels: Array | None
    sizes: tuple[int, ...]
    activations: tuple
    loss: str
    steps_per_epoch: int


_STATIC = ("sizes", "activations", "loss", "steps_per_epoch")
jax.tree_util.register_dataclass(
    LayerRun,
    data_fields=[field.name for field in dataclasses.fields(LayerRun) if field.name not in _STATIC],
    meta_fields=list(_STATIC),
)


class DivergedError(ValueError):
    """Training diverged. `step` (from 0) and `epoch` say where; `run` is what was recorded before, or None."""

    def __init__(self, message: str, step: int, epoch: int, run: LayerRun | None):
        super().__init__(message)
        self.step = step
        self.epoch = epoch
        self.run = run


def train_layers(
    sizes,
    x,
    y,
    *,
    epochs: int,
    n_networks: int,
    key: Array,
    activation="tanh",
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = 512,
    loss: str = "cross_entropy",
    n_train: int | None = None,
    x_test=None,
    y_test=None,
    draw_labels: bool = False,
    record=60,
    weight_std: float = 1.0,
    shuffle: bool = True,
    chunk: int | None = None,
    side_by_side: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> LayerRun:
    """Trains N fully connected networks by minibatch gradient descent and records them on a schedule of epochs.

    Weights start from a normal law of deviation `weight_std`/√d_in cut off at two deviations, biases at zero. The i-th
    network depends on the key and i alone, whatever N and the chunks.

    Args:
      sizes: units of every layer, inputs and outputs included, such as (12, 10, 7, 5, 4, 3, 2).
      x: inputs, (n, d), floating point; their dtype is that of the computation, and float32 is twice as fast.
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
      >>> run = train_layers((12, 10, 7, 5, 4, 3, 2), task.x, task.labels, epochs=100, n_networks=10, n_train=3481,
      ...                    key=jax.random.key(0))
      >>> run.test_error.mean(0)
    """
    data, n_train = _data(x, y, x_test, y_test, loss, draw_labels, n_train)
    sizes = _sizes(sizes, data)
    names, functions = _activations(activation, len(sizes) - 2)
    n_networks, epochs = _check.integer("n_networks", n_networks), _check.integer("epochs", epochs)
    _finite_door.random_key(key)
    batch = n_train if batch_size is None else _check.integer("batch_size", batch_size)
    if batch > n_train:
        raise ValueError(f"`batch_size` must be at most the {n_train} training rows; got {batch}. None takes them all.")
    _check.positive("weight_std", weight_std)
    settings = sgd.Settings(
        sizes,
        functions,
        _optimizer(optimizer, learning_rate),
        loss,
        n_train,
        batch,
        n_train < len(data.x),
        bool(draw_labels),
        bool(shuffle),
        float(weight_std),
        1,
    )
    schedule = _schedule(record, epochs)
    if chunk is None:
        stored = _checkpoint.Folder.stored(checkpoint) if checkpoint is not None else None
        chunk = int(stored["chunk"]) if stored and "chunk" in stored else -(-n_networks // parallel.cores())
    chunk = _check.integer("chunk", chunk)
    wide = min(chunk, _LANES if jax.default_backend() == "cpu" else chunk)
    settings = settings._replace(lanes=wide if side_by_side is None else _check.integer("side_by_side", side_by_side))
    folder = None
    if checkpoint is not None:
        folder = _checkpoint.Folder(checkpoint, _arguments(settings, data, schedule, key, chunk))
    calls = -(-n_networks // chunk)
    bar = tqdm(
        total=int(schedule[-1]) * calls,
        desc="layered networks",
        unit="epoch",
        disable=progress is False,
        delay=0.0 if progress else _PATIENCE,
    )
    stop = threading.Event()
    with bar:
        work = functools.partial(_chunk, settings, data, key, schedule, chunk, n_networks, folder, bar, stop)
        parts = parallel.each(work, list(range(calls)))
    run = functools.partial(_run, settings, names, data, key, n_networks, schedule)
    failed = [part.failed for part in parts if part.failed >= 0]
    if failed:
        raise _divergence(min(failed), settings, parts, run)
    return run(parts)


def activations(run: LayerRun, x, *, index: int | None = None) -> list[Array]:
    """Every layer of the recorded networks on given inputs.

    Args:
      run: a `LayerRun`.
      x: inputs, (n, d).
      index: of one record; None for all of them.

    Returns:
      For each layer (N, T, n, units), or (N, n, units) with `index`; the last holds the softmax of the outputs where
      the loss was cross-entropy, else the outputs.

    Raises:
      TypeError, ValueError: inputs that are not floats of the right size; an index out of range.
    """
    x = _check.array("x", x, 2)
    if x.shape[1] != run.sizes[0]:
        raise ValueError(f"`x` must have {run.sizes[0]} columns, as the networks' inputs; got shape {x.shape}.")
    params = tuple(perceptron.Layer(w, b) for w, b in zip(run.weights, run.biases, strict=True))
    if index is not None:
        if not -len(run.epochs) <= int(index) < len(run.epochs):
            raise ValueError(f"`index` must be that of one of the {len(run.epochs)} records; got {index}.")
        params = jax.tree.map(lambda leaf: leaf[:, int(index)], params)
    functions = tuple(ACTIVATIONS[each] if isinstance(each, str) else each for each in run.activations)
    return _activate(functions, run.loss == "cross_entropy", params, jnp.asarray(x, params[0].weight.dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _activate(functions, softmax, params, x):
    def one(params):
        found = [each.T for each in perceptron.layers(functions, params, x.T)]
        return [*found[:-1], jax.nn.softmax(found[-1], axis=1)] if softmax else found

    for _ in range(params[0].weight.ndim - 2):
        one = jax.vmap(one)
    return one(params)


class _Part(NamedTuple):
    """A chunk of networks: their indices, its records so far, and the first diverged step or -1."""

    indices: np.ndarray
    records: list[sgd.Record]
    failed: int


def _chunk(settings, data, key, schedule, size, n_networks, folder, bar, stop, call) -> _Part:
    """Trains one chunk from where it was left, recording, saving and watching for divergence."""
    indices = call * size + np.arange(size)
    # The last chunk is filled up with networks nobody asked for: their divergence is nobody's concern.
    asked = indices < n_networks
    name = f"chunk_{call:05d}"
    with _COMPILING:
        state = sgd.begin(settings, key, indices, data)
        blank = sgd.measure(settings, key, indices, data, state)
        sgd.advance(settings, key, indices, data, state, 0)
    records: list[sgd.Record] = []
    stored = folder.load(name) if folder else None
    if stored is not None:
        count = int(stored["count"])
        state = _unpack(stored, "state", state)
        records = [_unpack(stored, f"record{i}", blank) for i in range(count)]
        bar.update(int(schedule[count - 1]))
        if (failed := _first(state.failed[asked])) >= 0:
            stop.set()
            before = [
                each for each, epoch in zip(records, schedule, strict=False) if epoch * settings.n_batches < failed
            ]
            return _Part(indices, before, failed)
    saved = time.monotonic()
    while len(records) < len(schedule) and not stop.is_set():
        done = int(schedule[len(records) - 1]) if records else 0
        ahead = int(schedule[len(records)]) - done
        after = sgd.advance(settings, key, indices, data, state, ahead) if ahead else state
        record = jax.tree.map(np.asarray, sgd.measure(settings, key, indices, data, after))
        after = after._replace(failed=_failed(settings, after, record))
        if (failed := _first(after.failed[asked])) >= 0:
            stop.set()
            _save(folder, name, state, records)
            return _Part(indices, records, failed)
        state = after
        records.append(record)
        bar.update(ahead)
        if len(records) == len(schedule) or time.monotonic() - saved > _SAVED_EVERY:
            _save(folder, name, state, records)
            saved = time.monotonic()
    return _Part(indices, records, -1)


def _failed(settings, state, record) -> np.ndarray:
    """The first diverged step of each network: the last update may have left what no step has looked at yet."""
    failed = np.asarray(state.failed)
    fine = (record.train_loss <= np.asarray(state.limit)) & np.isfinite(record.weight_norm).all(axis=1)
    return np.where((failed < 0) & ~fine, np.asarray(state.epoch) * settings.n_batches, failed)


def _first(failed) -> int:
    """The first of the steps that are not -1, -1 if none."""
    return int(min(failed[failed >= 0], default=-1))


def _save(folder, name, state, records) -> None:
    if folder is None or not records:
        return
    arrays = {"count": np.array(len(records))}
    for prefix, tree in (("state", state), *((f"record{i}", each) for i, each in enumerate(records))):
        arrays |= {f"{prefix}_{j}": np.asarray(leaf) for j, leaf in enumerate(jax.tree.leaves(tree))}
    folder.save(name, arrays)


def _unpack(stored, prefix, like):
    """The pytree saved under this prefix, of the structure of another."""
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [stored[f"{prefix}_{j}"] for j in range(len(leaves))])


def _run(settings, names, data, key, n_networks, schedule, parts) -> LayerRun:
    """The run of parts that hold equally many records."""
    chunks = [jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *part.records) for part in parts]
    indices = np.concatenate([part.indices for part in parts])
    asked = indices < n_networks
    indices = indices[asked]
    total = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)[asked]), *chunks)
    every = settings._replace(lanes=len(indices))
    return LayerRun(
        epochs=jnp.asarray(schedule[: len(parts[0].records)]),
        train_rows=sgd.subsets(every, key, indices, len(data.x)),
        labels=sgd.drawn(every, key, indices, data.y) if settings.draw else None,
        sizes=settings.sizes,
        activations=names,
        loss=settings.loss,
        steps_per_epoch=settings.n_batches,
        **total._asdict(),
    )


def _divergence(step, settings, parts, run) -> DivergedError:
    count = min(len(part.records) for part in parts if part.records or part.failed >= 0)
    kept = None
    if count:
        kept = run([part._replace(records=part.records[:count]) for part in parts if len(part.records) >= count])
    epoch = step // settings.n_batches
    return DivergedError(
        f"Training diverged at step {step} (epoch {epoch}): a loss was not finite, or 10⁴ times that at the start. "
        f"Lower the learning rate or scale the inputs; `run` of this error holds "
        f"{f'the {count} records before' if count else 'nothing: there was no record before'}.",
        step,
        epoch,
        kept,
    )


def _data(x, y, x_test, y_test, loss, draw_labels, n_train) -> tuple[sgd.Data, int]:
    _check.option("loss", loss, LOSSES)
    x = jnp.asarray(_check.array("x", x, 2))
    y = _targets("y", y, len(x), loss, None)
    if (x_test is None) != (y_test is None):
        raise ValueError("`x_test` and `y_test` must be given together; got one of them.")
    if x_test is not None:
        x_test = jnp.asarray(_check.array("x_test", x_test, 2), x.dtype)
        if x_test.shape[1] != x.shape[1]:
            raise ValueError(f"`x_test` must have the {x.shape[1]} columns of `x`; got shape {x_test.shape}.")
        y_test = jnp.asarray(_targets("y_test", y_test, len(x_test), loss, y.shape[1]), x.dtype)
    if draw_labels and loss != "cross_entropy":
        raise ValueError(f"`draw_labels` must be False unless the loss is 'cross_entropy'; got loss {loss!r}.")
    count = len(x) if n_train is None else _check.integer("n_train", n_train)
    if count > len(x):
        raise ValueError(f"`n_train` must be at most the {len(x)} rows of `x`; got {count}.")
    return sgd.Data(x, jnp.asarray(y, x.dtype), x_test, y_test), count


def _targets(name, y, n, loss, n_outputs) -> np.ndarray:
    """Classes as one-hot rows, probabilities and numbers as they are: (n, c)."""
    host = np.asarray(y)
    if host.ndim == 1 and (np.issubdtype(host.dtype, np.integer) or host.dtype == bool):
        host = host.astype(np.int64)
        n_outputs = max(int(host.max(initial=0)) + 1, 2) if n_outputs is None else n_outputs
        if host.min(initial=0) < 0 or host.max(initial=0) >= n_outputs:
            raise ValueError(
                f"`{name}` must hold classes from 0 to {n_outputs - 1}; got {host.min()} to {host.max()}. Renumber "
                "them, for instance by `np.unique(y, return_inverse=True)[1]`."
            )
        host = np.eye(n_outputs)[host]
    elif loss == "cross_entropy" and (host.ndim != 2 or not np.issubdtype(host.dtype, np.floating)):
        raise TypeError(
            f"`{name}` must be (n,) integer classes, or p(y|x) of shape (n, c); got dtype {host.dtype}, shape "
            f"{host.shape}."
        )
    host = np.asarray(_check.array(name, host, 2))
    if len(host) != n or (n_outputs is not None and host.shape[1] != n_outputs):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs"
            f"{'' if n_outputs is None else f' and {n_outputs} columns'}; got shape {host.shape}."
        )
    if loss == "cross_entropy" and ((host < 0).any() or (np.abs(host.sum(axis=1) - 1) > 1e-5).any()):
        raise ValueError(
            f"`{name}` must hold rows of probabilities that sum to 1; got min={host.min()}, sums from "
            f"{host.sum(axis=1).min()} to {host.sum(axis=1).max()}. Divide by the sums first, or use loss='mse'."
        )
    return host


def _sizes(sizes, data) -> tuple[int, ...]:
    try:
        found = tuple(_check.integer("sizes", size) for size in sizes)
    except TypeError as error:
        raise TypeError(f"`sizes` must be a list of positive integers; got {sizes!r}.") from error
    if len(found) < 2:
        raise ValueError(f"`sizes` must hold the inputs and the outputs at least; got {found}.")
    if found[0] != data.x.shape[1] or found[-1] != data.y.shape[1]:
        raise ValueError(
            f"`sizes` must begin with the {data.x.shape[1]} columns of `x` and end with the {data.y.shape[1]} outputs "
            f"of `y`; got {found}."
        )
    return found


def _activations(activation, n) -> tuple[tuple, tuple]:
    """Names and functions of the n hidden layers."""
    several = isinstance(activation, list | tuple)
    each = tuple(activation) if several else (activation,) * n
    if len(each) != n:
        raise ValueError(f"`activation` must be one, or one for each of the {n} hidden layers; got {len(each)}.")
    for one in each:
        if isinstance(one, str):
            _check.option("activation", one, tuple(sorted(ACTIVATIONS)))
        elif not callable(one):
            raise TypeError(f"`activation` must be a name or a function; got {type(one).__name__}.")
    return each, tuple(ACTIVATIONS[one] if isinstance(one, str) else one for one in each)


@functools.lru_cache
def _descent(learning_rate: float) -> optax.GradientTransformation:
    # The same object for the same rate: a new one would be compiled anew.
    return optax.sgd(learning_rate)


def _optimizer(optimizer, learning_rate) -> optax.GradientTransformation:
    if optimizer is None:
        rate = 0.1 if learning_rate is None else learning_rate
        _check.positive("learning_rate", rate)
        return _descent(float(rate))
    if learning_rate is not None:
        raise ValueError(
            f"`learning_rate` must be left out where an `optimizer` is given, which has its own; got {learning_rate}."
        )
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"`optimizer` must be one of optax, with `init` and `update`; got {type(optimizer).__name__}.")
    return optimizer


def _schedule(record, epochs) -> np.ndarray:
    """The recorded epochs, ascending."""
    if np.ndim(record) == 0:
        count = _check.integer("record", record, least=2)
        # Downwards: the last epoch is there even where there is but one.
        return np.unique(np.r_[0, np.geomspace(epochs, 1, count - 1).round()].astype(np.int64))
    found = np.asarray(record)
    if not np.issubdtype(found.dtype, np.integer) or found.ndim != 1 or not found.size:
        raise TypeError(f"`record` must be a number of epochs, or a list of whole ones; got {record!r}.")
    if found.min() < 0 or found.max() > epochs:
        raise ValueError(f"`record` must lie between 0 and `epochs` = {epochs}; got {found.min()} to {found.max()}.")
    return np.unique(found)


def _arguments(settings, data, schedule, key, chunk) -> dict[str, str]:
    """What a checkpoint must agree in, by the names of the arguments."""
    arrays = {name: _checkpoint.digest(None if a is None else np.asarray(a)) for name, a in data._asdict().items()}
    small = settings._replace(lanes=1)

    def epoch(key, data):
        start = sgd.begin(small, key, jnp.arange(1), data)
        return sgd.advance(small, key, jnp.arange(1), data, start, 1)

    return arrays | {
        "sizes, activation, optimizer, loss, n_train or batch_size": _checkpoint.program(epoch, key, data),
        "key": _checkpoint.digest(_checkpoint.key_data(key)),
        "record or epochs": _checkpoint.digest(schedule),
        "chunk": str(chunk),
    }


__all__ = ["DivergedError", "LayerRun", "activations", "train_layers"]
