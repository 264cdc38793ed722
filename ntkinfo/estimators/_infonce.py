"""InfoNCE: a lower bound on mutual information by a critic that tells true pairs from wrong ones.

The critic is trained on one part of the samples and judged on another, so that what it reports is a bound in
expectation, however badly or however long it was trained.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Shaped

from ntkinfo._common import check, compiling, results, tables
from ntkinfo._common.progress import bar
from ntkinfo._common.results import Information
from ntkinfo._numerics import mlp, padding
from ntkinfo.estimators import _samples

CRITICS = ("separable", "concatenated", "bilinear")
# How often training stops to look at the validation samples, and at how many batches of them at most.
_CHECKS = 40
_VALIDATION = 20
# A loss this many times log(batch size), that of a critic which tells nothing, counts as divergence.
_DIVERGED = 1e3


class _Settings(NamedTuple):
    """The static arguments: one compiled program for each."""

    critic: str | Callable
    hidden: tuple[int, ...]
    embedding: int
    batch: int


class _State(NamedTuple):
    params: object
    optimizer: object
    order: Array  # of the training rows in this epoch
    step: Array
    failed: Array  # the first diverged step, -1 if there is none


def infonce(
    x: Shaped[ArrayLike, "n ..."],
    t: Shaped[ArrayLike, "n ..."],
    *,
    key: Array,
    critic: str | Callable = "separable",
    hidden: tuple[int, ...] = (64, 64),
    embedding: int = 32,
    batch_size: int = 256,
    steps: int = 2000,
    learning_rate: float = 1e-3,
    test_fraction: float = 0.5,
    progress: bool | None = None,
    unit: str = "nats",
) -> Information:
    """Lower bound on I(X;T) from samples, by a critic f trained to tell the t of each x from those of others.

        I(X;T) ≥ E (1/K) Σ_i [f(x_i, t_i) - log (1/K) Σ_j exp f(x_i, t_j)]          K = `batch_size`

    The bound cannot exceed log K, and an information above that stays hidden:
    `mixture.is_saturated(estimate)` says whether it is that high. Larger batches raise the ceiling, and need more
    samples.

    The samples are shuffled and split: `test_fraction` of them, in whole batches, are held out for the value. Of the
    rest one fifth (one to 20 batches) is for validation, and on what remains Adam trains the critic. Of the critics met
    in 40 checks the one best in validation is kept: that is the early stopping. The first of them is the critic that is
    0 everywhere: where none is better, value and error are 0, as they should be of independent samples.

    Floats are shifted and scaled to mean 0 and variance 1, column by column, by the samples not held out. Integers and
    text are classes, given to the critic as unit vectors, column by column. Critics compute in float32.

    Args:
      x: samples (n,) or (n, d), floats, or integers or text for classes.
      t: samples (n,) or (n, e), likewise.
      key: random key, for the split, the first weights and the batches.
      critic: "separable" f = a(x) . b(t), a and b networks; "concatenated" f = a(x, t), one network on all K² pairs
        of a batch, the most flexible and the slowest; "bilinear" f = x W t; or a function of one x (d,) and
        one t (e,) that returns a number. Such a function is taken as it is: it sees the values as given, nothing is
        trained or standardised, and all samples are held out. The bound is tightest for log p(t|x)/p(t) plus any
        function of x; -inf is allowed for pairs that never occur.
      hidden: widths of the hidden layers, of rectified linear units.
      embedding: width of a(x) and b(t) of separable critics.
      batch_size: K, from 2 to n/3 at most: every one of the three parts holds a batch.
      steps: minibatches that the critic is trained on.
      learning_rate: of Adam.
      test_fraction: share of the samples that is held out, above 0 and below 1.
      progress: whether to show a bar; None shows one for work longer than three seconds.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information with method "infonce": `value` and `lower` are the bound, which holds in expectation over the
      samples; `upper` is infinite: nothing is known from above. `stderr` is the infinitesimal jackknife's over the
      held-out samples, for the critic as trained: it does not see what a better critic would find.

    Raises:
      TypeError: neither floats nor integers, traced arrays, an unknown kind of critic.
      ValueError: lengths that differ, fewer samples than the batches need, values that are not finite, columns without
        variation, options outside their range, training that diverges (with the step), scores of a given critic that
        are not finite for a true pair.

    Source: van den Oord, Li & Vinyals 2018, arXiv 1807.03748; Poole et al. 2019, arXiv 1905.06922 (eq. 10).

    Example:
      >>> x, noise = np.random.default_rng(0).normal(size=(2, 4000))
      >>> estimate = infonce(x, x + noise, key=jax.random.key(0))  # the truth is (1/2) log 2 = 0.347
      >>> bool(abs(estimate.value - 0.347) < 0.1)
      True
    """
    check.on_host(locals())
    tables.factor(unit)
    settings = _settings(critic, hidden, embedding, batch_size)
    steps = check.integer("steps", steps)
    for name, number in (("learning_rate", learning_rate), ("test_fraction", test_fraction)):
        check.positive(name, number, scalar=True)
    check.key("key", key)
    check.flag("progress", progress, none=True)
    if test_fraction >= 1:
        raise ValueError(f"`test_fraction` must be below 1, to leave samples to train on; got {test_fraction}.")
    variables = dict(zip("xt", _samples.samples(least=1, varying=True, x=x, t=t), strict=True))
    n = len(variables["x"])
    n_test, n_validation = _split(settings, n, float(test_fraction))
    of_split, of_training = jax.random.split(key)
    order = padding.permutation(of_split, n)
    if callable(critic):
        pair = tuple(jnp.asarray(columns[order]) for columns in variables.values())
        _check_critic(settings, pair)
        return results.in_unit(_judge(settings, None, pair, n_test), unit)
    # On the host, where slices compile nothing.
    pair = tuple(_encode(name, columns[order], n_test).astype(np.float32) for name, columns in variables.items())
    first = settings.hidden[0] * max(each.shape[1] for each in pair)
    check.entries("hidden", first, f"{first} weights of the first layer")
    edges = (0, n_test, n_test + n_validation, n)
    _, validation, train = (tuple(columns[a:b] for columns in pair) for a, b in itertools.pairwise(edges))
    params = _train(settings, of_training, train, validation, steps, float(learning_rate), progress)
    return results.in_unit(_judge(settings, params, pair, n_test), unit)


def _settings(critic, hidden, embedding, batch_size) -> _Settings:
    if not callable(critic):
        if not isinstance(critic, str):
            raise TypeError(f"`critic` must be a name or a function of one x and one t; got {type(critic).__name__}.")
        check.option("critic", critic, CRITICS)
    else:
        check.function("critic", critic, "a name or a function of one x and one t", arguments=2)
    widths = check.widths("hidden", hidden)
    if not widths:
        raise ValueError("`hidden` must name at least one layer; got none. critic='bilinear' has no hidden layers.")
    embedding = check.size("embedding", embedding)
    check.entries("embedding", widths[-1] * embedding, f"{widths[-1]} x {embedding} weights")
    batch = check.size("batch_size", batch_size, least=2)
    return _Settings(critic, widths, embedding, batch)


def _split(settings, n, test_fraction) -> tuple[int, int]:
    """The numbers of samples held out and for validation, both whole batches."""
    k = settings.batch
    if callable(settings.critic):
        n_test, enough = n // k * k, n >= k
    else:
        n_test = int(n * test_fraction) // k * k
        enough = n_test >= k and n - n_test >= 2 * k
    if not enough:
        parts = "one batch" if callable(settings.critic) else "three: to be held out, to validate and to train on"
        raise ValueError(
            f"`batch_size` = {k} is too large for n = {n} samples with `test_fraction` = {test_fraction}: they must "
            f"fill {parts}. Take smaller batches, or more samples."
        )
    return n_test, min(max((n - n_test) // 5 // k, 1), _VALIDATION) * k


def _encode(name, columns, n_test) -> np.ndarray:
    """Columns as critics see them: floats standardised by the samples from `n_test` on, integers as unit vectors."""
    if columns.dtype != np.float64:
        values = (np.unique(column, return_inverse=True)[1] for column in columns.T)
        return np.concatenate([np.eye(codes.max() + 1)[codes] for codes in values], axis=1)
    known = columns[n_test:]
    std = known.std(axis=0)
    if (std == 0).any():
        raise ValueError(
            f"`{name}` must vary in every column among the samples not held out; got a constant column "
            f"{int(np.argmin(std))}. Leave it out, or hold fewer samples out."
        )
    return (columns - known.mean(axis=0)) / std


def _check_critic(settings, pair):
    try:
        shape = jax.eval_shape(
            settings.critic, *(jax.ShapeDtypeStruct(columns.shape[1:], columns.dtype) for columns in pair)
        )
    except (TypeError, ValueError) as error:
        raise TypeError(f"`critic` must take one x and one t, and return a number; got an error: {error}") from error
    if not (hasattr(shape, "shape") and shape.shape == () and jnp.issubdtype(shape.dtype, jnp.floating)):
        raise TypeError(f"`critic` must return one floating-point number for one x and one t; got {shape}.")


def _initialise(settings, key, d, e):
    """Parameters of the critic that is 0 everywhere, though its gradient is not."""
    if settings.critic == "bilinear":
        return jnp.zeros((d, e), jnp.float32)
    first, second = jax.random.split(key)
    if settings.critic == "concatenated":
        return _ending_in_zero(mlp.initialise((d + e, *settings.hidden, 1), 1.0, first, jnp.float32))
    sizes = (*settings.hidden, settings.embedding)
    left = mlp.initialise((d, *sizes), 1.0, first, jnp.float32)
    return _ending_in_zero(left), mlp.initialise((e, *sizes), 1.0, second, jnp.float32)


def _ending_in_zero(layers):
    return (*layers[:-1], jax.tree.map(jnp.zeros_like, layers[-1]))


def _scores(settings, params, x, t) -> Array:
    """f(x_i, t_j) of all pairs of a batch, (K, K)."""
    if callable(settings.critic):
        return jax.vmap(lambda a: jax.vmap(lambda b: settings.critic(a, b))(t))(x)
    if settings.critic == "bilinear":
        return x @ params @ t.T
    hidden = (jax.nn.relu,) * len(settings.hidden)
    if settings.critic == "separable":
        left, right = (mlp.layers(hidden, tower, columns.T)[-1] for tower, columns in zip(params, (x, t), strict=True))
        return left.T @ right
    # The first layer is a sum over both variables: K products each instead of K² of their pairs.
    (weight, bias), *rest = params
    d, k = x.shape[1], len(x)
    units = (x @ weight[:d] + bias[None]).T[:, :, None] + (t @ weight[d:]).T[:, None, :]
    return mlp.layers(hidden[1:], tuple(rest), jax.nn.relu(units).reshape(-1, k * k))[-1].reshape(k, k)


def _terms(settings, params, x, t):
    """Of each sample of a batch its term of the bound, and what it adds as the wrong t of the others, both (K,)."""
    scores = _scores(settings, params, x, t)
    log_sum = jax.nn.logsumexp(scores, axis=1)
    return jnp.diagonal(scores) - log_sum + math.log(len(x)), jnp.sum(jnp.exp(scores - log_sum[:, None]), axis=0)


@compiling.jit(static_argnames="settings")
def _over_batches(settings, params, pair):
    x, t = (columns.reshape(-1, settings.batch, columns.shape[1]) for columns in pair)
    terms, as_wrong = jax.lax.map(lambda batch: _terms(settings, params, *batch), (x, t))
    return terms.reshape(-1), as_wrong.reshape(-1)


def _judge(settings, params, pair, n_test) -> Information:
    """The bound on the held-out samples, the first `n_test`."""
    # Whole batches, filled up to a number that neighbouring ones share.
    full = padding.near(n_test // settings.batch) * settings.batch
    held_out = tuple(padding.repeat_last(np.asarray(columns)[:n_test], full) for columns in pair)
    found = _over_batches(settings, params, held_out)
    terms, as_wrong = (np.asarray(values, np.float64)[:n_test] for values in found)
    bad = ~np.isfinite(terms)
    if bad.any():
        raise ValueError(f"`critic` must give finite scores to pairs that occur; got {terms[bad][0]} for one of them.")
    # The derivative of the bound by the weight of a sample, which stands in a sum of its own and in those of others.
    error = np.std(terms - as_wrong, ddof=1) / math.sqrt(len(terms))
    numbers = (terms.mean(), error, np.inf, math.log(settings.batch))
    value, error, infinite, ceiling = (jnp.asarray(np.array(number)) for number in numbers)
    return Information(value, value, infinite, error, "infonce", ceiling=ceiling)


def _loss(settings, params, x, t):
    return -jnp.mean(_terms(settings, params, x, t)[0])


@compiling.jit(static_argnames="settings")
def _advance(settings, key, pair, learning_rate, state: _State, n_steps) -> _State:
    """The critic after `n_steps` more minibatches."""
    n = len(pair[0])
    batches = n // settings.batch
    limit = _DIVERGED * math.log(settings.batch)

    def minibatch(_, state):
        position = state.step % batches
        order = jax.lax.cond(
            position == 0,
            lambda: jax.random.permutation(jax.random.fold_in(key, state.step), n),
            lambda: state.order,
        )
        rows = jax.lax.dynamic_slice_in_dim(order, position * settings.batch, settings.batch)
        loss, gradient = jax.value_and_grad(functools.partial(_loss, settings))(
            state.params, *(columns[rows] for columns in pair)
        )
        updates, optimizer = optax.adam(learning_rate).update(gradient, state.optimizer, state.params)
        # NaN compares false with everything, so it must fail a test rather than pass one.
        fails = ~(loss <= limit) & (state.failed < 0)
        failed = jnp.where(fails, state.step, state.failed)
        return _State(optax.apply_updates(state.params, updates), optimizer, order, state.step + 1, failed)

    return jax.lax.fori_loop(0, n_steps, minibatch, state)


def _train(settings, key, train, validation, steps, learning_rate, progress):
    """Parameters of the critic that is best in validation."""
    of_weights, of_batches = jax.random.split(key)
    params = _initialise(settings, of_weights, *(columns.shape[1] for columns in train))
    zero = jnp.zeros((), jnp.int32)
    order = jnp.asarray(np.arange(len(train[0])))
    state = _State(params, optax.adam(learning_rate).init(params), order, zero, zero - 1)
    best, best_value = params, 0.0  # of the critic that is 0 everywhere
    every = -(-steps // _CHECKS)
    with bar(total=steps, desc="critic", unit="step", progress=progress) as shown:
        for done in range(0, steps, every):
            ahead = min(every, steps - done)
            state = _advance(settings, of_batches, train, jnp.float32(learning_rate), state, ahead)
            value = float(jnp.mean(_over_batches(settings, state.params, validation)[0]))
            if (step := int(state.failed)) >= 0 or not math.isfinite(value):
                raise ValueError(
                    f"training of the critic diverged at step {step if step >= 0 else done + ahead} of {steps}; got "
                    f"`learning_rate` = {learning_rate}. Lower it."
                )
            if value > best_value:
                best, best_value = state.params, value
            shown.update(ahead)
    return best
