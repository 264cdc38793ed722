"""Conditional mutual information of pairs: which of two examples a network was trained on, told by its losses there."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import bounds, kernels, mixture, networks
from ntkinfo._common import check, compiling, eigenproblems, labels, memory, parallel, pytree, tables
from ntkinfo._numerics import padding
from ntkinfo.cmi import _moments, _outcomes

# Groups of draws whose differences give standard errors, and networks drawn for each choice with several classes.
_GROUPS, _NETWORKS = 8, 16
# Choices whose probabilities are held at once.
_AT_ONCE = 8


@pytree.dataclass("enumerated")
class Supersample:
    """What the losses of one network at pairs of examples tell about which of each was trained on. Arrays like `t`.

    Attributes:
      information: (1/n) Σ I(Δ_i;U_i) in nats (ld-CMI), Δ_i the difference of the two 0-1 losses.
      stderr: its standard error over the choices drawn, and losses of several classes sampled; 0 where `enumerated`.
      bias: how much too large it is, about, since few choices are told apart too easily; not subtracted. 0 likewise.
      e_information: (1/n) Σ I(L_i⁰, L_i¹;U_i) in nats (e-CMI), never below `information`.
      f_information: (1/n) Σ I(f(x_i⁰), f(x_i¹);U_i) in nats (f-CMI), never below the second but for the error of its
        Monte Carlo integral; None where it was not asked for.
      f_stderr: the standard error of that integral; None likewise.
      train_error: mean 0-1 error of one network at the examples trained on.
      error: at the others.
      square_root: (1/n) Σ √(2 I(Δ_i;U_i)), a bound on |error - train_error|.
      interpolation: information / log 2, a bound on `error` where `train_error` is 0; infinite elsewhere.
      binary_kl: a bound on `error`: the largest L with kl(train_error ‖ (train_error + L)/2) ≤ e_information.
      bound: the smallest of these bounds on `error`, at most 1.
      enumerated: whether all 2ⁿ choices were taken, of labels -1 and 1: everything is exact for these pairs then.
        Otherwise the bounds hold for the choices drawn, and as bounds on the average over all of them up to `stderr`
        and `bias`.
      t: the training times.
    """

    information: Array
    stderr: Array
    bias: Array
    e_information: Array
    f_information: Array | None
    f_stderr: Array | None
    train_error: Array
    error: Array
    square_root: Array
    interpolation: Array
    binary_kl: Array
    bound: Array
    enumerated: bool
    t: Array | None = None

    _table = tables.Table(
        ("t",),
        nats="information stderr bias e_information f_information f_stderr",
        plain="train_error error square_root interpolation binary_kl bound",
        totals="enumerated",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def gap(self) -> Array:
        """`error` - `train_error`."""
        return self.error - self.train_error


def supersample(
    net: Any,
    x: Float[ArrayLike, "rows ..."],
    y: Float[ArrayLike, "rows k"] | Float[ArrayLike, " rows"],
    t: Num[ArrayLike, "*T"],
    *,
    draws: int = 128,
    key: Array | None = None,
    outputs: bool = False,
    batch_size: int | None = None,
) -> Supersample:
    """Conditional mutual information, given a supersample of n pairs, between losses and which of each pair was used.

    Bits U choose one example of every pair for training, the others test. Given U the outputs of one network of the
    ensemble at time t are Gaussian at all 2n examples, so that probabilities of losses at a pair are closed forms;
    averages over the other bits are taken over all 2ⁿ choices, or over random ones together with their complements.

    Args:
      net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`.
      x: 2n examples, (2n, ...): rows i and n + i make pair i. In random order, pairs are as independent as examples.
      y: their labels, -1 and 1, (2n,) or (2n, 1), or one-hot rows (2n, k).
      t: training times of n examples, scalar or (T,), as in `Ensemble.predict`; infinity is the end of training.
      draws: how many choices U to average over, complements included: even, at least 4; if 2ⁿ is not more, all are
        enumerated.
      key: random key, where choices are drawn, or k > 1 (losses of several classes are sampled, some networks for each
        choice), or `outputs`.
      outputs: whether to compute the information in the outputs (f-CMI) as well, by Monte Carlo over one network for
        each choice. At t = ∞ it is log 2: an output that equals its label was trained on.
      batch_size: rows of a block of kernel evaluation; None chooses.

    Returns:
      `Supersample` of arrays like `t`. Data processing: information ≤ e_information ≤ f_information ≤ log 2.

    Raises:
      TypeError: arrays or network of a wrong kind; traced arguments.
      ValueError: fewer than two pairs, or an odd number of rows; labels of one class or that name none; fewer than 4 or
        an odd number of draws; no key; at t = ∞, a tangent kernel that is singular for some choice,
        as of repeated pairs; an empirical kernel of one network, whose outputs have no covariance.

    Cost: `draws` times O(n³), on the processor's cores: a decomposition and one product for each time, of many times
    for about eight.

    Example:
      >>> found = supersample(net, x, y, [1.0, jnp.inf], draws=64)
      >>> bool(jnp.all(jnp.abs(found.gap) <= found.square_root))
      True

    Source: Harutyunyan et al. 2021 (arXiv 2110.01584); Hellström & Durisi 2022 (arXiv 2210.06422); Wang & Mao 2023
      (arXiv 2302.02432); theory, section 13.
    """
    kernel_fn = networks.kernel_function(net)
    check.on_host({"x": x, "y": y, "t": t, "key": key})
    x = check.inputs("x", x)
    y = labels.real_targets("y", y, len(x)).astype(x.dtype)
    t = check.times("t", t)
    draws = check.integer("draws", draws, least=4)
    check.flag("outputs", outputs)
    if key is not None:
        check.key("key", key)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    kernels.refuse_full("net", kernel_fn)
    if getattr(kernel_fn, "around", None) == "one":
        raise ValueError(
            "`net` must have a covariance of outputs before training; got the empirical kernel of one network. Take "
            'several, around="ensemble".'
        )
    if draws % 2:
        raise ValueError(f"`draws` must be even, since choices come with their complements; got {draws}.")
    if len(x) % 2 or len(x) < 4:
        raise ValueError(f"`x` must hold an even number of examples, at least two pairs; got {len(x)} rows.")
    classes = labels.read("y", y, len(x), "classes").classes
    if classes is None or len(np.unique(classes)) < 2:
        raise ValueError("`y` must hold labels of at least two classes; got one.")
    n, k = len(x) // 2, y.shape[1]
    enumerated = n < 31 and 2**n <= draws
    if not enumerated or k > 1 or outputs:
        key = mixture.require_key(key, "the supersample with more choices than `draws`, several classes or `outputs`")
    key = jax.random.key(0) if key is None else key
    times = np.asarray(t, x.dtype).ravel()
    memory.require(
        f"`x` with {len(x)} examples at {times.size} times",
        8 * (6 * len(x) ** 2 + times.size * n * (16 + 8 * k + outputs * draws * (3 + 2 * k))),
        "Take fewer examples, times or draws.",
    )
    what = "`x` must have at most {} pairs"
    eigenproblems.require(what, n, np.dtype(np.float64), "Take fewer.", host=True)
    key_choices, key_losses, key_outputs = jax.random.split(key, 3)
    sides = _choices(n, draws, enumerated, key_choices)
    both = kernels.kernels(kernel_fn, x, batch_size=batch_size)
    # Decompositions and products are done on the host in float64; losses where arrays are.
    constants = tuple(np.asarray(part, np.float64) for part in (both.nngp, both.ntk, y))
    s, precision = times.astype(np.float64) / (n * k), float(jnp.finfo(x.dtype).eps)
    groups = min(_GROUPS, len(sides) // 2)
    sums = np.zeros((groups, 2, times.size, n, 4), x.dtype)
    counts, smallest, kept = np.zeros(groups, x.dtype), np.inf, []
    y_pairs, numbers = (np.stack([each[:n], each[n:]]) for each in (np.asarray(y), np.asarray(classes)))

    def work(number):
        moments = _moments.moments(*constants, sides[number], s, precision)
        found = jax.tree.map(lambda part: part.astype(x.dtype), moments._replace(smallest=np.zeros(())))
        side = sides[number]
        outcomes = _filled_losses(found, side, y_pairs, numbers, jax.random.fold_in(key_losses, number), k)
        return side, moments.smallest, found, outcomes

    # A few at a time: decompositions use one core each, and what they leave behind is added up.
    for start in range(0, len(sides), _AT_ONCE):
        some = list(range(start, min(start + _AT_ONCE, len(sides))))
        for number, (side, least, found, outcomes) in zip(some, parallel.map(work, some), strict=True):
            smallest = min(smallest, least)
            # Complements, next to each other, share a group.
            group = (number // 2) % groups
            counts[group] += 1
            for value in (0, 1):
                sums[group, value] += (side == value)[:, None] * outcomes
            if outputs:
                kept.append((side, found))
    if smallest <= 1.0 and np.isinf(times).any():
        raise ValueError(
            "`x` must not repeat examples of different pairs at t = inf: the tangent kernel of a training set is "
            f"singular to rounding (smallest eigenvalue {smallest:.2g} times that). Leave repeated examples out, "
            "take finite times, or float64."
        )
    # Losses of several classes are sampled for every choice, though all of them be taken.
    exact = enumerated and k == 1
    result = _result(sums, counts, exact)
    f_information = f_stderr = None
    if outputs:
        f_information, f_stderr = _output_information(kept, key_outputs, times, enumerated)
    return _with_bounds(result, f_information, f_stderr, exact, t, x.dtype)


def _choices(n: int, draws: int, enumerated: bool, key) -> np.ndarray:
    """Choices (draws, n) of 0 and 1, each followed by its complement."""
    if enumerated:
        first = np.array(list(itertools.product((0, 1), repeat=n)))[: 2 ** (n - 1)]
    else:
        first = np.asarray(
            padding.draws(lambda key, shape: jax.random.bernoulli(key, 0.5, shape), key, (draws // 2, n))
        )
        first = first.astype(int)
    return np.stack([first, 1 - first], axis=1).reshape(-1, n)


def _filled_losses(found, side, y, classes, key, k):
    """`_losses` of n pairs, filled up on the host to few numbers of them."""
    n = len(side)
    pairs = padding.near(n)

    def filled(array, axis):
        return padding.repeat_last(array, pairs, axis)

    moments = _moments.PairMoments(*(filled(part, 1) if part.ndim > 1 else part for part in found))
    outcomes = _losses(moments, filled(side, 0), filled(y, 1), filled(classes, 1), key, n, k)
    return np.asarray(outcomes)[:, :n]


@compiling.jit(static_argnames="k")
def _losses(found, side, y, classes, key, n, k):
    """Probabilities of (L⁰, L¹) for one choice, (T, pairs, 4), labels and classes (2, pairs, ...); n pairs count."""
    first, second, variances, covariance = in_order(found, side)
    if k == 1:
        ones = [part[:, 0][None] for part in y]
        return _outcomes.of_signs(first[..., 0], second[..., 0], variances, covariance, *ones)
    numbers = [part[None] for part in classes]
    return _outcomes.of_classes(key, first, second, variances, covariance, numbers, _NETWORKS, n)


def in_order(found: _moments.PairMoments, side: Array | np.ndarray, xp=jnp):
    """Means (T, n, k), both variances and the covariance (T, n) at the first and second examples of the pairs."""
    swap = side[None, :] == 1
    first = xp.where(swap[..., None], found.tested, found.trained)
    second = xp.where(swap[..., None], found.trained, found.tested)
    one = xp.where(swap, found.variance_tested, found.variance_trained)
    two = xp.where(swap, found.variance_trained, found.variance_tested)
    return first, second, (one, two), found.covariance


def _result(sums, counts, exact):
    """Informations, errors and the square-root bound, (T,) each, with the jackknife over groups."""

    def of(total, count):
        # Complements: half of the choices have U_i = 0, for every pair.
        p = total / (0.5 * count)
        ld = _outcomes.information(*_outcomes.differences(p))
        e = _outcomes.information(*p)
        return np.mean(ld, axis=-1), np.mean(e, axis=-1), np.mean(np.sqrt(2 * ld), axis=-1), p

    ld, e, square_root, p = of(np.sum(sums, axis=0), np.sum(counts))
    wrong_first, wrong_second = p[..., 2] + p[..., 3], p[..., 1] + p[..., 3]
    # U = 0: the first example is trained on.
    train_error = 0.5 * np.mean(wrong_first[0] + wrong_second[1], axis=-1)
    error = 0.5 * np.mean(wrong_second[0] + wrong_first[1], axis=-1)
    stderr = bias = np.zeros_like(ld)
    if not exact:
        total, count, groups = np.sum(sums, axis=0), np.sum(counts), len(counts)
        without = np.stack([of(total - one, count - some)[0] for one, some in zip(sums, counts, strict=True)])
        mean = np.mean(without, axis=0, keepdims=True)
        stderr = np.sqrt((groups - 1) / groups * np.sum((without - mean) ** 2, axis=0))
        bias = (groups - 1) * (mean[0] - ld)
    return ld, stderr, bias, e, train_error, error, square_root


def _with_bounds(result, f_information, f_stderr, enumerated, t, dtype) -> Supersample:
    ld, stderr, bias, e, train_error, error, square_root = (np.asarray(part, np.float64) for part in result)
    interpolation = np.where(train_error <= 1e-12, ld / _outcomes.LOG_2, np.inf)
    # kl(q ‖ (q + L)/2) ≤ e, solved for L on the side above q.
    middle = bounds.binary_kl_inverse(np.clip(train_error, 0, 1), e)
    binary_kl = 2 * middle - train_error
    least = np.minimum(np.minimum(train_error + square_root, interpolation), np.minimum(binary_kl, 1.0))

    def array(value):
        return None if value is None else jnp.asarray(np.asarray(value, np.float64).reshape(t.shape), dtype)

    parts = (
        ld,
        stderr,
        bias,
        e,
        f_information,
        f_stderr,
        train_error,
        error,
        square_root,
        interpolation,
        binary_kl,
        least,
    )
    return Supersample(*(array(part) for part in parts), enumerated, array(t))


def _output_information(kept, key, times, enumerated) -> tuple[np.ndarray, np.ndarray]:
    """f-CMI (T,) and the standard error of its integral: one network for each choice, under all choices together."""
    sides = np.stack([side for side, _ in kept])
    ordered = [in_order(found, side, np) for side, found in kept]
    first, second = (np.stack([each[i] for each in ordered]) for i in (0, 1))
    one, two = (np.stack([each[2][i] for each in ordered]) for i in (0, 1))
    covariance = np.stack([each[3] for each in ordered])
    values = _densities(first, second, one, two, covariance, sides, key)
    values = np.asarray(values, np.float64)
    return values.mean(axis=(1, 2)), values.mean(axis=2).std(axis=1, ddof=1) / math.sqrt(values.shape[1])


@compiling.jit
def _densities(first, second, one, two, covariance, sides, key):
    """log p(z | U_i) - log p(z) at one draw z for each choice, (T, draws, n)."""
    times, k = first.shape[1], first.shape[3]

    def at(step):
        first, second, one, two, covariance, key = step
        # A variance of 0: the output is its label, which tells which example was trained on.
        sure = (one <= 0) | (two <= 0)
        a = jnp.where(sure, 1.0, one)
        slope = jnp.where(sure, 0.0, covariance) / a
        rest = jnp.where(sure, 1.0, two) - slope * jnp.where(sure, 0.0, covariance)
        sure = sure | (rest <= 0)
        rest = jnp.where(rest > 0, rest, 1.0)
        u, v = jax.random.normal(key, (2, *first.shape), first.dtype)
        z = first + jnp.sqrt(a)[..., None] * u
        w = second + slope[..., None] * (z - first) + jnp.sqrt(rest)[..., None] * v

        def log_density(z, w):
            d, e = z[None] - first, w[None] - second
            e = e - slope[..., None] * d
            quadratic = jnp.sum(d**2, axis=-1) / a + jnp.sum(e**2, axis=-1) / rest
            return -0.5 * (quadratic + k * (jnp.log(a) + jnp.log(rest)))

        def of_draw(draw):
            z, w, side, certain = draw
            logs = log_density(z, w)
            same = sides == side[None, :]
            own = jax.scipy.special.logsumexp(jnp.where(same, logs, -jnp.inf), axis=0)
            other = jax.scipy.special.logsumexp(jnp.where(same, -jnp.inf, logs), axis=0)
            return jnp.where(certain, _outcomes.LOG_2, own - jnp.logaddexp(own, other) + _outcomes.LOG_2)

        return jax.lax.map(of_draw, (z, w, sides, sure))

    move = functools.partial(jnp.moveaxis, source=1, destination=0)
    return jax.lax.map(
        at, (move(first), move(second), move(one), move(two), move(covariance), jax.random.split(key, times))
    )
