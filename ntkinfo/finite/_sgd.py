"""Minibatch training of many small layered networks at once, with statistics of their gradients.

The room behind `ntkinfo.layered`: no checks. A network is a pure function of the key and its index: three compiled
programs draw the networks, train them for some epochs, and measure them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ntkinfo._numerics.mlp import Layer, errors, initialise, layers, losses

# A loss this many times that at the start (of zero outputs and of the network, together) counts as divergence.
DIVERGED = 1e4


class Settings(NamedTuple):
    """The static arguments: one compiled program for each."""

    sizes: tuple[int, ...]
    activations: tuple[Callable, ...]  # of the hidden layers
    optimizer: optax.GradientTransformation
    loss: str
    n_train: int
    batch: int
    subset: bool  # whether each network has training rows of its own
    draw: bool  # whether each network has labels of its own, drawn from y
    shuffle: bool
    weight_std: float
    lanes: int  # networks trained side by side

    @property
    def n_batches(self) -> int:
        """Steps of an epoch; the last batch holds what is left."""
        return -(-self.n_train // self.batch)


class Data(NamedTuple):
    """Inputs (n, d) and targets (n, c); test inputs None where they are the rows left over, if any."""

    x: Array
    y: Array
    x_test: Array | None
    y_test: Array | None


class State(NamedTuple):
    """All that training goes on from."""

    params: tuple[Layer, ...]
    optimizer: object
    epoch: Array
    limit: Array  # a loss above it counts as divergence
    failed: Array  # the first step with a diverged loss, -1 if there is none


class Record(NamedTuple):
    """What is kept of a network at one epoch; L layers."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    train_loss: Array
    test_loss: Array | None
    train_error: Array
    test_error: Array | None
    gradient_mean: Array  # (L,)
    gradient_std: Array  # (L,)
    weight_norm: Array  # (L,)


class _Keys(NamedTuple):
    start: Array
    subset: Array
    labels: Array
    batches: Array


def keys(key: Array, index) -> _Keys:
    """The keys of one network."""
    return _Keys(*jax.random.split(jax.random.fold_in(key, index), 4))


def rows(settings: Settings, keys: _Keys, n: int) -> Array:
    """The n rows of the data in an order whose first `n_train` are the training rows."""
    return jax.random.permutation(keys.subset, n) if settings.subset else jnp.arange(n)


def targets(settings: Settings, key: Array, y: Array) -> Array:
    """The targets of one network: `y`, or one-hot rows drawn from it."""
    if not settings.draw:
        return y
    # The number of thresholds passed, of all but the last: rounding must not lead beyond the last class.
    uniform = jax.random.uniform(key, (len(y), 1), y.dtype)
    label = jnp.sum(uniform >= jnp.cumsum(y, axis=1)[:, :-1], axis=1)
    return jax.nn.one_hot(label, y.shape[1], dtype=y.dtype)


def order(settings: Settings, keys: _Keys, epoch) -> Array:
    """The training rows in the order of an epoch, (n_train,), as indices into them.

    Random numbers and row numbers share a word, sorted at once: a fifth of the time of `jax.random.permutation`. Equal
    random numbers leave rows in their order, which matters only to the one group astride the edge of two batches.
    """
    n, key = settings.n_train, jax.random.fold_in(keys.batches, epoch if settings.shuffle else 0)
    if settings.n_batches == 1:
        return jnp.arange(n)
    bits = (n - 1).bit_length()
    if bits > 16:
        return jax.random.permutation(key, n)
    words = (jax.random.bits(key, (n,), jnp.uint32) << bits) | jnp.arange(n, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & jnp.uint32(2**bits - 1)).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="settings")
def begin(settings: Settings, key: Array, indices: Array, data: Data) -> State:
    """The networks of these indices before training."""

    def one(index):
        own = keys(key, index)
        params = initialise(settings.sizes, settings.weight_std, own.start, data.x.dtype)
        train = _sets(settings, own, data)[0]
        start = _loss(settings, params, *train)
        zero = jnp.mean(losses(settings.loss, jnp.zeros_like(train[1]), train[1]))
        epoch = jnp.zeros((), jnp.int32)
        return State(params, settings.optimizer.init(params), epoch, DIVERGED * (start + zero), epoch - 1)

    return _over_networks(settings, one, indices)


@functools.partial(jax.jit, static_argnames="settings")
def advance(settings: Settings, key: Array, indices: Array, data: Data, state: State, n_epochs) -> State:
    """The networks after `n_epochs` more epochs."""

    def one(item):
        index, state = item
        own = keys(key, index)
        table = _table(settings, own, data)
        fixed = (
            None if settings.shuffle and settings.n_batches > 1 else _batches(settings, table, order(settings, own, 0))
        )

        def epoch(_, state):
            batches = fixed
            if batches is None:
                batches = _batches(settings, table, order(settings, own, state.epoch))
            state = jax.lax.fori_loop(0, settings.n_batches, lambda i, s: _step(settings, batches, i, s), state)
            return state._replace(epoch=state.epoch + 1)

        return jax.lax.fori_loop(0, n_epochs, epoch, state)

    return _over_networks(settings, one, (indices, state))


@functools.partial(jax.jit, static_argnames="settings")
def measure(settings: Settings, key: Array, indices: Array, data: Data, state: State) -> Record:
    """What is recorded of the networks where they stand."""

    def one(item):
        index, state = item
        own = keys(key, index)
        train, test = _sets(settings, own, data)
        outputs = _outputs(settings, state.params, train[0])
        seen = None if test is None else _outputs(settings, state.params, test[0])
        mean, std = _gradients(settings, own, data, state)
        return Record(
            tuple(layer.weight for layer in state.params),
            tuple(layer.bias for layer in state.params),
            jnp.mean(losses(settings.loss, outputs, train[1])),
            None if test is None else jnp.mean(losses(settings.loss, seen, test[1])),
            jnp.mean(errors(settings.loss, outputs, train[1])),
            None if test is None else jnp.mean(errors(settings.loss, seen, test[1])),
            mean,
            std,
            jnp.stack([jnp.sqrt(jnp.sum(layer.weight**2)) for layer in state.params]),
        )

    return _over_networks(settings, one, (indices, state))


@functools.partial(jax.jit, static_argnames=("settings", "n"))
def subsets(settings: Settings, key: Array, indices: Array, n: int) -> Array:
    """The training rows of the networks, (c, n_train)."""
    return _over_networks(settings, lambda i: rows(settings, keys(key, i), n)[: settings.n_train], indices)


@functools.partial(jax.jit, static_argnames="settings")
def drawn(settings: Settings, key: Array, indices: Array, y: Array) -> Array:
    """The labels drawn for the networks, (c, n)."""
    return _over_networks(settings, lambda i: jnp.argmax(_targets(settings, keys(key, i), y)[0], axis=1), indices)


def _over_networks(settings, function, items):
    n = len(jax.tree.leaves(items)[0])
    if settings.lanes >= n:
        return jax.vmap(function)(items)
    return jax.lax.map(function, items, batch_size=settings.lanes if settings.lanes > 1 else None)


def _targets(settings, own, y, y_test=None):
    first, second = jax.random.split(own.labels)
    return targets(settings, first, y), None if y_test is None else targets(settings, second, y_test)


def _table(settings, own, data) -> Array:
    """Inputs and targets of the training rows side by side, so that one gather fetches both: (n_train, d + c)."""
    table = jnp.concatenate([data.x, _targets(settings, own, data.y)[0]], axis=1)
    return table[rows(settings, own, len(data.x))[: settings.n_train]] if settings.subset else table


def _sets(settings, own, data):
    """Inputs and targets, (d, n) and (c, n), of the training set; of the test set, None where there is none."""
    y, y_test = _targets(settings, own, data.y, data.y_test)
    chosen = rows(settings, own, len(data.x))
    train = data.x[chosen[: settings.n_train]].T, y[chosen[: settings.n_train]].T
    if y_test is not None:
        return train, (data.x_test.T, y_test.T)
    if settings.n_train == len(data.x):
        return train, None
    return train, (data.x[chosen[settings.n_train :]].T, y[chosen[settings.n_train :]].T)


def _batches(settings, table, order) -> Array:
    """The batches of an epoch, (n_batches, d + c, batch); the last is filled up with the first rows of all."""
    missing = settings.n_batches * settings.batch - settings.n_train
    order = jnp.concatenate([order, order[:missing]]) if missing else order
    return table[order].reshape(settings.n_batches, settings.batch, -1).swapaxes(1, 2)


def _outputs(settings, params, x):
    return layers(settings.activations, params, x)[-1]


def _loss(settings, params, x, y, weights=None):
    each = losses(settings.loss, _outputs(settings, params, x), y)
    return jnp.mean(each) if weights is None else jnp.sum(weights * each)


def _batch_loss(settings, batches, i):
    """The loss on batch i as a function of the parameters: rows that only fill it up weigh nothing."""
    batch = batches[i]
    x, y = batch[: settings.sizes[0]], batch[settings.sizes[0] :]
    if settings.n_train % settings.batch == 0:
        return lambda params: _loss(settings, params, x, y)
    filled = jnp.minimum(settings.batch, settings.n_train - i * settings.batch)
    weights = jnp.where(jnp.arange(settings.batch) < filled, 1 / filled.astype(batch.dtype), 0)
    return lambda params: _loss(settings, params, x, y, weights)


def _step(settings, batches, i, state):
    of_batch = _batch_loss(settings, batches, i)
    value, gradient = jax.value_and_grad(of_batch)(state.params)
    # Some optimisers want to know more than the gradient.
    update = optax.with_extra_args_support(settings.optimizer).update
    updates, optimizer = update(gradient, state.optimizer, state.params, value=value, grad=gradient, value_fn=of_batch)
    # NaN compares false with everything, so it must fail a test rather than pass one.
    fails = ~(value <= state.limit) & (state.failed < 0)
    return State(
        optax.apply_updates(state.params, updates),
        optimizer,
        state.epoch,
        state.limit,
        jnp.where(fails, state.epoch * settings.n_batches + i, state.failed),
    )


def _gradients(settings, own, data, state):
    """Norms of the mean and of the standard deviation over the batches of the coming epoch, at the weights of now."""
    batches = _batches(settings, _table(settings, own, data), order(settings, own, state.epoch))

    def add(i, moments):
        # Welford's recursion: a difference of sums of squares would lose the small deviations of float32.
        mean, square = moments
        gradient = [layer.weight for layer in jax.grad(_batch_loss(settings, batches, i))(state.params)]
        ahead = [g - m for g, m in zip(gradient, mean, strict=True)]
        mean = [m + d / (i + 1) for m, d in zip(mean, ahead, strict=True)]
        square = [s + d * (g - m) for s, d, g, m in zip(square, ahead, gradient, mean, strict=True)]
        return mean, square

    zero = [jnp.zeros_like(layer.weight) for layer in state.params]
    mean, square = jax.lax.fori_loop(0, settings.n_batches, add, (zero, zero))
    return (
        jnp.stack([jnp.sqrt(jnp.sum(m**2)) for m in mean]),
        jnp.stack([jnp.sqrt(jnp.sum(s) / settings.n_batches) for s in square]),
    )
