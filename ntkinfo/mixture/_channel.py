"""The estimators of information through a Gaussian channel."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer

from ntkinfo._common import check, compiling, memory, tracing
from ntkinfo._common import labels as _labels
from ntkinfo._common.results import Information, estimate, full
from ntkinfo._numerics import padding, pair_sums
from ntkinfo._numerics.entropy import entropy
from ntkinfo.mixture import _quadrature

ACCURACY = 1e-8
# Channels of one call: more of them take several calls of the same program.
_TOGETHER = 32

Means = Float[ArrayLike, "*t m k"]
OneMean = Float[ArrayLike, "*t m 1"]
Variances = Float[ArrayLike, "*t m"]
OneHot = Float[ArrayLike, "m c"]
Labels = Integer[ArrayLike, " m"]


def _draws(n_samples, mean) -> int:
    """The number of draws; those of one point, against all others, must fit in memory."""
    return check.integer("n_samples", n_samples, most=max(1, check.MOST_ENTRIES // max(mean.shape[-2:])))


def _points(variance) -> int:
    """m, the number of points; `_check_arguments` refuses what has none."""
    variance = check.native("variance", variance)
    return variance.shape[-1] if variance.ndim else 1


def _check_arguments(mean, variance, classes, *, one_output: bool = False, least: int = 1):
    """Checks a channel; returns its arrays flattened over leading axes, the classes, and the leading shape."""
    mean, variance = (
        # Known values stay on the host, where neither slices nor casts are compiled for every new shape.
        np.asarray(value) if check.concrete(value) else value
        for value in (check.native("mean", mean), check.native("variance", variance))
    )
    if mean.ndim < 2 or variance.shape != mean.shape[:-1]:
        raise ValueError(
            f"`mean` must have shape (..., m, k) and `variance` (..., m); got {mean.shape} and {variance.shape}."
        )
    m, k = mean.shape[-2:]
    if one_output and k != 1:
        raise ValueError(
            f"`mean` must be for one output, k = 1; got k = {k}. "
            "Use `monte_carlo` (unbiased), `minibatch` or `pairwise` (bounds)."
        )
    if m < least:
        raise ValueError(
            f"`mean` must have at least {least} points; got m = {m}, too few to leave one out. Use `monte_carlo`."
        )
    if check.concrete(variance):
        host = np.asarray(variance)
        if (host <= 0).any():
            first = tuple(int(i) for i in np.argwhere(host <= 0)[0])
            raise ValueError(
                f"`variance` must be positive; got {host[first]} at index {first}. An output without variance, as at "
                "t = inf on the training inputs, tells its input exactly: the information is log m, or not finite. "
                "Use a finite t, other inputs, or add the variance of observation noise."
            )
    dtype = jnp.result_type(mean.dtype, variance.dtype)
    classes = check.native("one_hot", classes, 2)
    classes = (np.asarray(classes) if check.concrete(classes) else classes).astype(dtype)
    if classes.shape[0] != m:
        raise ValueError(
            f"`one_hot`, or `labels`, must have one row for each of the m = {m} points; got {len(classes)} rows."
        )
    if check.concrete(classes):
        host = np.asarray(classes)
        if not (((host == 0) | (host == 1)).all() and (host.sum(axis=1) == 1).all()):
            raise ValueError(
                "`one_hot` must hold a single 1 in each row and 0 elsewhere; got "
                f"entries from {host.min()} to {host.max()}, row sums from {host.sum(1).min()} to "
                f"{host.sum(1).max()}. `mixture.one_hot(labels, n_classes)` makes it."
            )
    lead = variance.shape[:-1]
    flat = mean.reshape((-1, m, k)).astype(dtype), variance.reshape((-1, m)).astype(dtype)
    return *flat, classes if check.concrete(classes) else jax.lax.stop_gradient(classes), lead


def _ceilings(classes):
    """log m and H(Y), the most that the m points and their classes (m, C) can be told apart by."""
    share = np.asarray(classes).mean(axis=0) if check.concrete(classes) else jnp.mean(classes, axis=0)
    return math.log(len(classes)), entropy(share)


@compiling.jit
def _exact(mean, variance, classes, count=None):
    """Values and errors (T, 2) of both informations."""

    def of_channel(channel):
        return _quadrature.information_pair(channel[0][:, 0], channel[1], classes)

    return _of_channels(of_channel, (2, 2), mean, variance, count)


def _exact_padded(mean, variance, classes):
    """`_exact` of known values, filled up on the host to a size that serves all neighbouring ones."""
    mean, variance, classes = (np.asarray(a) for a in (mean, variance, classes))
    count, m = variance.shape
    points, channels = padding.size(m, _quadrature.CHUNK), min(padding.size(count), _TOGETHER)
    n_entries = points * (_quadrature.entries_of_a_point(points, classes.shape[1]) + 2 * channels)
    memory.require(f"`mean` with m = {m} points", n_entries * variance.dtype.itemsize, "Take fewer points.")
    full_mean, full_variance = (
        padding.repeat_last(padding.repeat_last(a, points, axis=1), -(-count // channels) * channels)
        for a in (mean, variance)
    )
    # A row without a class is an absent point.
    full_classes = np.zeros((points, classes.shape[1]), classes.dtype)
    full_classes[:m] = classes
    parts = [
        _exact(full_mean[i : i + channels], full_variance[i : i + channels], full_classes, count - i)
        for i in range(0, count, channels)
    ]
    value, error = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    return value[:count], error[:count]


def exact_pair(mean: OneMean, variance: Variances, one_hot: OneHot) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in nats for one output, exactly: `exact` and `label_exact` in one pass.

    Args:
      mean: (..., m, 1).
      variance: (..., m), positive.
      one_hot: (m, C), the class of each point as a row of a unit matrix; see `one_hot`. It carries no gradient.

    Returns:
      Information about the input and about the label, shapes (...).

    Raises:
      ValueError: more than one output, variances that are not positive, shapes or classes that do not fit.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> i_xz, i_yz = exact_pair(mean, variance, np.eye(2))
      >>> round(float(i_xz.value), 3), round(float(i_yz.value), 3)  # two points told apart: log 2
      (0.693, 0.693)
    """
    mean, variance, classes, lead = _check_arguments(mean, variance, one_hot, one_output=True)
    known = tracing.is_known(mean, variance, classes)
    value, error = (_exact_padded if known else _exact)(mean, variance, classes)
    xp = np if known else jnp

    def information(v, e, ceiling):
        v, low, up, zero = (jnp.asarray(xp.reshape(a, lead)) for a in (v, v - e, v + e, xp.zeros_like(v)))
        return Information(v, low, up, zero, "exact", zero, zero, full(v, ceiling))

    about_input, about_label = (
        information(value[:, i], error[:, i], ceiling) for i, ceiling in enumerate(_ceilings(classes))
    )
    refuse_impossible(about_input, mean.shape[-2])
    warn_if_inaccurate(about_input)
    return about_input, about_label


def refuse_impossible(information: Information, m: int) -> None:
    """Refuses an exact information that is known to be wrong: outside 0 and log m, or by more than log m uncertain."""
    check.instance("information", information, Information, maker="`mixture.exact`")
    m = check.integer("m", m)
    if information.method != "exact" or not check.concrete(information):
        return
    value = np.atleast_1d(np.asarray(information.value))
    error = np.atleast_1d(np.asarray(information.upper)) - value
    limit = _accuracy(value.dtype)
    possible = (value > -limit) & (value < np.log(m) + limit) & (error < max(np.log(m), limit))
    if not possible.all():
        raise ValueError(
            "`variance` must not be so small beside the means that the information cannot be computed in "
            f"{value.dtype}: got {value[~possible][0]:.3g} nats with an estimated error of {error[~possible][0]:.1e}, "
            f"while it lies between 0 and log m = {np.log(m):.3g}. Shift the means towards 0, or use float64."
        )


def _accuracy(dtype) -> float:
    """What the quadrature promises, in nats."""
    return ACCURACY if dtype == np.float64 else 1e-3


def warn_if_inaccurate(information: Information) -> None:
    """Warns where the quadrature of an exact information could not keep the accuracy promised; not under tracing."""
    check.instance("information", information, Information, maker="`mixture.exact`")
    if information.method != "exact" or not check.concrete(information):
        return
    error = float(np.max(np.asarray(information.upper) - np.asarray(information.value)))
    limit = _accuracy(information.value.dtype)
    if error > limit:
        warnings.warn(
            f"the quadrature of the exact information has an estimated error of {error:.1e} nats, above {limit:.0e}: "
            f"standard deviations are too small beside the means for {information.value.dtype}. "
            "Shift the means towards 0, use float64, or read `lower` and `upper`.",
            stacklevel=3,
        )


def exact(mean: OneMean, variance: Variances) -> Information:
    """I(X;Z) in nats for one output, X uniform over m points and Z | x_i ~ N(mean_i, variance_i), exactly.

        I(X;Z) = h(p) - (1/m) Σ_i ½ log(2πe variance_i),    p = (1/m) Σ_i N(mean_i, variance_i)

    h(p) by Gauss-Legendre panels that follow the narrowest component. In float64 the error is below 1e-8 nats (about
    1e-13 as a rule), whatever the variances; `lower` and `upper` lie an estimate of it away. In float32 it is about
    1e-5. Under tracing, variances that are not positive give `nan`. First derivatives are exact.

    Args:
      mean: (..., m, 1).
      variance: (..., m), positive.

    Returns:
      Information of shape (...), between 0 and log m up to rounding.

    Raises:
      ValueError: more than one output, or variances that are not positive.

    Source: theory, section 3.

    Example:
      >>> round(float(exact(np.array([[0.0], [100.0]]), np.ones(2)).value), 6)  # log 2
      0.693147
    """
    m = _points(variance)
    return exact_pair(mean, variance, np.ones((m, 1)))[0]


def label_exact(
    mean: OneMean,
    variance: Variances,
    labels: Labels,
    n_classes: int,
) -> Information:
    """I(Y;Z) in nats for one output and classes Y, exactly: Σ_c p(c) KL[p_c ‖ p], p_c the mixture of class c.

    Args:
      mean: (..., m, 1).
      variance: (..., m), positive.
      labels: (m,) integers from 0 to n_classes - 1.
      n_classes: number of classes.

    Returns:
      Information of shape (...), between 0 and H(Y). See `exact`.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> found = label_exact(mean, variance, np.array([0, 1]), 2)
      >>> round(float(found.value), 3)  # two points told apart: log 2
      0.693
    """
    return exact_pair(mean, variance, _labels.one_hot(labels, n_classes))[1]


def _of_channels(function, lengths, mean, variance, count):
    """`function` of each channel (m, k), (m,), in turn; zeros beyond the first `count`, where that is given.

    `lengths` of the vectors that come out: asking `function` would trace it once more.
    """
    if count is None:
        return jax.lax.map(function, (mean, variance))
    nothing = jax.tree.map(lambda length: jnp.zeros(length, mean.dtype), lengths)

    def one(item):
        index, *channel = item
        return jax.lax.cond(index < count, lambda: function(tuple(channel)), lambda: nothing)

    return jax.lax.map(one, (jnp.arange(len(variance)), mean, variance))


def _called(program, mean, variance):
    """`program(mean, variance, count)` of known channels, filled up to few numbers of them; cut off, on the host."""
    if not tracing.is_known(mean, variance):
        return program(mean, variance, None)
    count = len(variance)
    full = (padding.repeat_last(values, padding.near(count)) for values in (mean, variance))
    return jax.tree.map(lambda result: np.asarray(result)[:count], program(*full, count))


def _rows_of(values, lead):
    """The rows of (T, r), each in the leading shape; nothing is compiled for known ones."""
    xp = np if isinstance(values, np.ndarray) else jnp
    return [xp.reshape(values[:, i], lead) for i in range(values.shape[1])]


@compiling.jit(static_argnames="n_samples")
def _sampled(key, mean, variance, classes, n_samples, count=None):
    """Means (T, 5) and their standard errors."""
    m = variance.shape[1]

    def of_channel(channel):
        average, spread = pair_sums.sampled(key, *channel, classes, n_samples)
        if n_samples > 1:
            error = jnp.sqrt(jnp.sum(spread, axis=1) / n_samples) / m
        else:
            error = jnp.std(average, axis=1, ddof=1) / math.sqrt(m) if m > 1 else jnp.zeros_like(average[:, 0])
        return jnp.mean(average, axis=1), error

    return _of_channels(of_channel, (5, 5), mean, variance, count)


def _averages(key, mean, variance, one_hot, n_samples, *, least: int = 1):
    """What `_sampled` draws for checked arguments, averages and standard errors (5, ...), and the ceilings."""
    key = check.key("key", key)
    mean, variance, classes, lead = _check_arguments(mean, variance, one_hot, least=least)
    n_samples = _draws(n_samples, mean)
    found = _called(lambda *channels: _sampled(key, *channels[:2], classes, n_samples, channels[2]), mean, variance)
    return *([jnp.asarray(row) for row in _rows_of(values, lead)] for values in found), _ceilings(classes)


def monte_carlo_pair(
    mean: Means,
    variance: Variances,
    one_hot: OneHot,
    *,
    key: Array,
    n_samples: int,
) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in nats from the same draws of z: `monte_carlo` and `label_monte_carlo` in one pass.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> i_xz, i_yz = monte_carlo_pair(mean, variance, np.eye(2), key=key, n_samples=64)
      >>> round(float(i_xz.value), 2), round(float(i_yz.value), 2)
      (0.69, 0.69)
    """
    average, error, ceilings = _averages(key, mean, variance, one_hot, n_samples)
    check.finite_result("the information", (average[0], average[2], error[0], error[2]), "`mean` and `variance`")
    return tuple(
        estimate(average[i], error[i], "monte_carlo", full(average[i], ceiling))
        for i, ceiling in zip((0, 2), ceilings, strict=True)
    )


def monte_carlo(mean: Means, variance: Variances, *, key: Array, n_samples: int) -> Information:
    """I(X;Z) in nats by sampling, for any number of outputs: the mean of log p_i(z)/p(z) over z ~ p_i and i.

    Unbiased. The draws are stratified, `n_samples` for each point i, and the standard error combines the variances
    within the points. With n_samples = 1 these are unknown, and the variance over all points is taken instead, which
    is too large by the spread of KL[p_i ‖ p] over i. The same draws serve every leading index, so that a curve over
    times is smooth and its errors are correlated; map over split keys for independent ones.

    Args:
      mean: (..., m, k).
      variance: (..., m), positive.
      key: random key.
      n_samples: draws of z for each point. O(n_samples m² k) time for each leading index.

    Returns:
      Information of shape (...). An estimate, right in expectation, with the standard error `stderr`; it bounds
      nothing, and `lower` and `upper` are infinite.

    Raises:
      ValueError: shapes that do not fit, or variances that are not positive (`nan` under tracing).

    Source: theory, section 3.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> round(float(monte_carlo(mean, variance, key=key, n_samples=64).value), 2)  # two points told apart: log 2
      0.69
    """
    m = _points(variance)
    return monte_carlo_pair(mean, variance, np.ones((m, 1)), key=key, n_samples=n_samples)[0]


def label_monte_carlo(
    mean: Means,
    variance: Variances,
    labels: Labels,
    n_classes: int,
    *,
    key: Array,
    n_samples: int,
) -> Information:
    """I(Y;Z) in nats for classes Y by sampling: the mean of log p_c(z)/p(z), c the class of i. See `monte_carlo`.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> found = label_monte_carlo(mean, variance, np.array([0, 1]), 2, key=key, n_samples=64)
      >>> round(float(found.value), 2)
      0.69
    """
    return monte_carlo_pair(mean, variance, _labels.one_hot(labels, n_classes), key=key, n_samples=n_samples)[1]


def minibatch_pair(
    mean: Means,
    variance: Variances,
    one_hot: OneHot,
    *,
    key: Array,
    n_samples: int,
) -> tuple[Information, Information]:
    """Bounds on I(X;Z) and I(Y;Z) in nats from the same scores: `minibatch` and `label_minibatch` in one pass.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> i_xz, i_yz = minibatch_pair(mean, variance, np.eye(2), key=key, n_samples=64)
      >>> round(float(i_xz.value), 2), round(float(i_yz.value), 2)
      (0.69, 0.69)
    """
    average, error, ceilings = _averages(key, mean, variance, one_hot, n_samples, least=2)
    check.finite_result("the bounds", (average, error), "`mean` and `variance`")
    rows = zip(((0, 0, 1), (2, 3, 4)), (full(average[0], ceiling) for ceiling in ceilings), strict=True)
    return tuple(
        Information(average[v], average[low], average[up], error[v], "minibatch", error[low], error[up], ceiling)
        for (v, low, up), ceiling in rows
    )


def minibatch(mean: Means, variance: Variances, *, key: Array, n_samples: int) -> Information:
    """Bounds on I(X;Z) in nats from the scores S_ij = log p(z_i | x_j), z_i ~ p_i, of one batch of points.

        lower = mean_i [S_ii - log (1/m) Σ_j exp S_ij]                 InfoNCE
        upper = mean_i [S_ii - log 1/(m-1) Σ_{j≠i} exp S_ij]           leave one out

    What they bound: the information between Z and X drawn from the population of which the m points are a random
    sample. For X uniform over exactly these points, InfoNCE with the whole batch has the exact value as its
    expectation (it is `monte_carlo`), and leave-one-out is an upper bound. Both hold in expectation over z.

    Args:
      mean: (..., m, k), m at least 2.
      variance: (..., m), positive.
      key: random key; the draws are those of `monte_carlo`.
      n_samples: draws of z for each point.

    Returns:
      Information of shape (...): `value` and `lower` are InfoNCE, `upper` is leave-one-out; `stderr` (of InfoNCE) and
      `upper_stderr` their standard errors over z.

    Raises:
      ValueError: fewer than two points, shapes that do not fit, or variances that are not positive.

    Source: theory, section 3; Poole et al. 2019, arXiv 1905.06922.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> round(float(minibatch(mean, variance, key=key, n_samples=64).value), 2)  # two points told apart: log 2
      0.69
    """
    m = _points(variance)
    return minibatch_pair(mean, variance, np.ones((m, 1)), key=key, n_samples=n_samples)[0]


def label_minibatch(
    mean: Means,
    variance: Variances,
    labels: Labels,
    n_classes: int,
    *,
    key: Array,
    n_samples: int,
) -> Information:
    """Bounds on I(Y;Z) = I(X;Z) - Σ_c p(c) I(X;Z | Y = c) in nats for classes Y, from the scores of `minibatch`.

    `value` takes InfoNCE in both places; `lower` is InfoNCE less leave-one-out within the classes, `upper` is
    leave-one-out less InfoNCE within the classes. They bound I(Y;Z) for X uniform over the m points, in expectation
    over z. A class with a single point has I(X;Z | Y = c) = 0.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> found = label_minibatch(mean, variance, np.array([0, 1]), 2, key=key, n_samples=64)
      >>> round(float(found.value), 2)
      0.69
    """
    return minibatch_pair(mean, variance, _labels.one_hot(labels, n_classes), key=key, n_samples=n_samples)[1]


@compiling.jit
def _pairwise(mean, variance, classes, count=None):
    return _of_channels(lambda channel: pair_sums.pairwise(*channel, classes), 4, mean, variance, count)


def pairwise_pair(mean: Means, variance: Variances, one_hot: OneHot) -> tuple[Information, Information]:
    """Bounds on I(X;Z) and I(Y;Z) in nats without sampling: `pairwise` and `label_pairwise` in one pass.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> i_xz, i_yz = pairwise_pair(mean, variance, np.eye(2))
      >>> bool(i_xz.lower <= i_xz.upper), bool(i_yz.lower <= i_yz.upper)
      (True, True)
    """
    mean, variance, classes, lead = _check_arguments(mean, variance, one_hot)
    found = _called(lambda *channels: _pairwise(*channels[:2], classes, channels[2]), mean, variance)
    lower, upper, class_lower, class_upper = _rows_of(found, lead)
    check.finite_result("the bounds", (lower, upper, class_lower, class_upper), "`mean` and `variance`")
    of_input, of_label = (lower, upper), (lower - class_upper, upper - class_lower)
    bounds = [[jnp.asarray(bound) for bound in pair] for pair in (of_input, of_label)]
    zero = full(bounds[0][0], 0.0)
    return tuple(
        Information(low, low, up, zero, "pairwise", zero, zero, full(zero, ceiling))
        for (low, up), ceiling in zip(bounds, _ceilings(classes), strict=True)
    )


def pairwise(mean: Means, variance: Variances) -> Information:
    """Bounds on I(X;Z) in nats from distances between the components: -(1/m) Σ_i log (1/m) Σ_j exp(-D(p_i, p_j)).

    D the Bhattacharyya distance gives the lower bound, D = KL[p_i ‖ p_j] the upper. Nothing is sampled; O(m² k).

    Args:
      mean: (..., m, k).
      variance: (..., m), positive.

    Returns:
      Information of shape (...): `lower` and `upper`; `value` is the lower bound.

    Source: theory, section 3; Kolchinsky & Tracey 2017, arXiv 1706.02419.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> found = pairwise(mean, variance)
      >>> bool(found.lower <= found.upper)
      True
    """
    m = _points(variance)
    return pairwise_pair(mean, variance, np.ones((m, 1)))[0]


def label_pairwise(
    mean: Means,
    variance: Variances,
    labels: Labels,
    n_classes: int,
) -> Information:
    """Bounds on I(Y;Z) in nats for classes Y, lower combined with upper; `value` is the lower bound, even below 0.

    Example:
      >>> mean, variance = np.array([[-5.0], [5.0]]), np.ones(2)
      >>> found = label_pairwise(mean, variance, np.array([0, 1]), 2)
      >>> bool(found.lower <= found.upper)
      True
    """
    return pairwise_pair(mean, variance, _labels.one_hot(labels, n_classes))[1]
