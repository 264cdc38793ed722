"""Minibatch training of many small layered networks at once, with statistics of their gradients.

The implementation of `finite.train_layers`: no checks. A network is a pure function of the key and its index:
four compiled programs draw what is random about them, begin them, train them for some epochs, and measure them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ntkinfo._common import compiling
from ntkinfo._common.errors import has_diverged
from ntkinfo._numerics.mlp import Layer, errors, initialise, layers, losses


class Config(NamedTuple):
    """The static arguments: one compiled program for each."""

    sizes: tuple[int, ...]
    activations: tuple[Callable, ...]  # of the hidden layers
    optimizer: Any  # of optax; None where it has no part
    loss: str
    n_train: int
    batch: int
    subset: bool  # whether each network has training rows of its own
    draw: bool  # whether each network has labels of its own, drawn from y
    shuffle: bool
    vmap_size: int  # networks vectorised over

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


class Scales(NamedTuple):
    """Numbers that no program is compiled for: what updates are multiplied by, and the spread of weights at first."""

    rate: Array
    weight_std: Array


class State(NamedTuple):
    """All that training goes on from."""

    params: tuple[Layer, ...]
    optimizer: object
    epoch: Array
    loss_scale: Array  # the loss at the start and that of zero outputs, together
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


class Networks(NamedTuple):
    """What is random about networks, one or several: their keys, and the rows of the data in their order."""

    keys: _Keys
    rows: Array


def keys(key: Array, index) -> _Keys:
    """The keys of one network."""
    return _Keys(*jax.random.split(jax.random.fold_in(key, index), 4))


def rows(config: Config, keys: _Keys, n: int) -> Array:
    """The n rows of the data in an order whose first `n_train` are the training rows."""
    return jax.random.permutation(keys.subset, n) if config.subset else jnp.arange(n)


def targets(config: Config, key: Array, y: Array) -> Array:
    """The targets of one network: `y`, or one-hot rows drawn from it."""
    if not config.draw:
        return y
    # The number of thresholds passed, of all but the last: rounding must not lead beyond the last class.
    uniform = jax.random.uniform(key, (len(y), 1), y.dtype)
    label = jnp.sum(uniform >= jnp.cumsum(y, axis=1)[:, :-1], axis=1)
    return jax.nn.one_hot(label, y.shape[1], dtype=y.dtype)


def order(config: Config, keys: _Keys, epoch) -> Array:
    """The training rows in the order of an epoch, (n_train,), as indices into them.

    Random numbers and row numbers share a word, sorted at once: a fifth of the time of `jax.random.permutation`. Equal
    random numbers leave rows in their order, which matters only to the one group astride the edge of two batches.
    """
    n, key = config.n_train, jax.random.fold_in(keys.batches, epoch if config.shuffle else 0)
    if config.n_batches == 1:
        return jnp.arange(n)
    bits = (n - 1).bit_length()
    if bits > 16:
        return jax.random.permutation(key, n)
    words = (jax.random.bits(key, (n,), jnp.uint32) << bits) | jnp.arange(n, dtype=jnp.uint32)
    return (jax.lax.sort(words, is_stable=False) & jnp.uint32(2**bits - 1)).astype(jnp.int32)


@compiling.jit(static_argnames=("config", "n"), once=True)
def networks(config: Config, key: Array, indices: Array, n: int) -> Networks:
    """The networks of these indices, for n rows of data."""

    def one(index):
        own = keys(key, index)
        return Networks(own, rows(config, own, n))

    return _over_networks(config, one, indices)


@compiling.jit(static_argnames="config", once=True)
def begin(config: Config, networks: Networks, data: Data, scales: Scales) -> State:
    """The networks before training."""

    def begin_one(network):
        params = initialise(config.sizes, scales.weight_std, network.keys.start, data.x.dtype)
        train = _sets(config, network, data)[0]
        start = _loss(config, params, *train)
        zero = jnp.mean(losses(config.loss, jnp.zeros_like(train[1]), train[1]))
        epoch = jnp.zeros((), jnp.int32)
        return State(params, config.optimizer.init(params), epoch, start + zero, epoch - 1)

    return _over_networks(config, begin_one, networks)


@compiling.jit(static_argnames="config")
def advance(config: Config, networks: Networks, data: Data, scales: Scales, state: State, n_epochs) -> State:
    """The networks after `n_epochs` more epochs."""

    def advance_one(item):
        network, state = item
        table = _table(config, network, data)
        fixed = None
        if not config.shuffle or config.n_batches == 1:
            fixed = _batches(config, table, order(config, network.keys, 0))

        def epoch(_, state):
            batches = fixed
            if batches is None:
                batches = _batches(config, table, order(config, network.keys, state.epoch))
            of_batch = functools.partial(_step, config, batches, scales.rate)
            state = jax.lax.fori_loop(0, config.n_batches, of_batch, state)
            return state._replace(epoch=state.epoch + 1)

        return jax.lax.fori_loop(0, n_epochs, epoch, state)

    return _over_networks(config, advance_one, (networks, state))


@compiling.jit(static_argnames="config")
def measure(config: Config, networks: Networks, data: Data, state: State) -> Record:
    """What is recorded of the networks where they stand."""

    def measure_one(item):
        network, state = item
        train, test = _sets(config, network, data)
        outputs = _outputs(config, state.params, train[0])
        seen = None if test is None else _outputs(config, state.params, test[0])
        mean, std = _gradients(config, network, data, state)
        return Record(
            tuple(layer.weight for layer in state.params),
            tuple(layer.bias for layer in state.params),
            jnp.mean(losses(config.loss, outputs, train[1])),
            None if test is None else jnp.mean(losses(config.loss, seen, test[1])),
            jnp.mean(errors(config.loss, outputs, train[1])),
            None if test is None else jnp.mean(errors(config.loss, seen, test[1])),
            mean,
            std,
            jnp.stack([jnp.sqrt(jnp.sum(layer.weight**2)) for layer in state.params]),
        )

    return _over_networks(config, measure_one, (networks, state))


@compiling.jit(static_argnames="config")
def drawn(config: Config, keys: _Keys, y: Array) -> Array:
    """The labels drawn for the networks, (c, n)."""
    return _over_networks(config, lambda own: jnp.argmax(_targets(config, own, y)[0], axis=1), keys)


def _over_networks(config, function, items):
    n = len(jax.tree.leaves(items)[0])
    if config.vmap_size >= n:
        return jax.vmap(function)(items)
    return jax.lax.map(function, items, batch_size=config.vmap_size if config.vmap_size > 1 else None)


def _targets(config, keys, y, y_test=None):
    if not config.draw:
        return y, y_test
    first, second = jax.random.split(keys.labels)
    return targets(config, first, y), None if y_test is None else targets(config, second, y_test)


def _table(config, network, data) -> Array:
    """Inputs and targets of the training rows side by side, so that one gather fetches both: (n_train, d + c)."""
    table = jnp.concatenate([data.x, _targets(config, network.keys, data.y)[0]], axis=1)
    return table[network.rows[: config.n_train]] if config.subset else table


def _sets(config, network, data):
    """Inputs and targets, (d, n) and (c, n), of the training set; of the test set, None where there is none."""
    y, y_test = _targets(config, network.keys, data.y, data.y_test)
    chosen = network.rows
    train = data.x[chosen[: config.n_train]].T, y[chosen[: config.n_train]].T
    if y_test is not None:
        return train, (data.x_test.T, y_test.T)
    if config.n_train == len(data.x):
        return train, None
    return train, (data.x[chosen[config.n_train :]].T, y[chosen[config.n_train :]].T)


def _batches(config, table, order) -> Array:
    """The batches of an epoch, (n_batches, d + c, batch); the last is filled up with the first rows of all."""
    missing = config.n_batches * config.batch - config.n_train
    order = jnp.concatenate([order, order[:missing]]) if missing else order
    return table[order].reshape(config.n_batches, config.batch, -1).swapaxes(1, 2)


def _outputs(config, params, x):
    return layers(config.activations, params, x)[-1]


def _loss(config, params, x, y, weights=None):
    per_row = losses(config.loss, _outputs(config, params, x), y)
    return jnp.mean(per_row) if weights is None else jnp.sum(weights * per_row)


def _batch_loss(config, batches, i):
    """The loss on batch i as a function of the parameters: rows that only fill it up weigh nothing."""
    batch = batches[i]
    x, y = batch[: config.sizes[0]], batch[config.sizes[0] :]
    if config.n_train % config.batch == 0:
        return lambda params: _loss(config, params, x, y)
    filled = jnp.minimum(config.batch, config.n_train - i * config.batch)
    weights = jnp.where(jnp.arange(config.batch) < filled, 1 / filled.astype(batch.dtype), 0)
    return lambda params: _loss(config, params, x, y, weights)


def _step(config, batches, rate, i, state):
    of_batch = _batch_loss(config, batches, i)
    value, gradient = jax.value_and_grad(of_batch)(state.params)
    # Some optimisers want to know more than the gradient.
    update = optax.with_extra_args_support(config.optimizer).update
    updates, optimizer = update(gradient, state.optimizer, state.params, value=value, grad=gradient, value_fn=of_batch)
    fails = has_diverged(value, state.loss_scale) & (state.failed < 0)
    return State(
        optax.apply_updates(state.params, jax.tree.map(lambda update: update * rate, updates)),
        optimizer,
        state.epoch,
        state.loss_scale,
        jnp.where(fails, state.epoch * config.n_batches + i, state.failed),
    )


def _gradients(config, network, data, state):
    """Norms of the mean and of the standard deviation over the batches of the coming epoch, at the weights of now."""
    batches = _batches(config, _table(config, network, data), order(config, network.keys, state.epoch))

    def add(i, moments):
        # Welford's recursion: a difference of sums of squares would lose the small variations of float32.
        mean, square = moments
        gradient = [layer.weight for layer in jax.grad(_batch_loss(config, batches, i))(state.params)]
        ahead = [g - m for g, m in zip(gradient, mean, strict=True)]
        mean = [m + d / (i + 1) for m, d in zip(mean, ahead, strict=True)]
        square = [s + d * (g - m) for s, d, g, m in zip(square, ahead, gradient, mean, strict=True)]
        return mean, square

    zero = [jnp.zeros_like(layer.weight) for layer in state.params]
    mean, square = jax.lax.fori_loop(0, config.n_batches, add, (zero, zero))
    return (
        jnp.stack([jnp.sqrt(jnp.sum(m**2)) for m in mean]),
        jnp.stack([jnp.sqrt(jnp.sum(s) / config.n_batches) for s in square]),
    )
