"""The estimators of information through a Gaussian channel."""

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import check
from ntkinfo._common import labels as _labels
from ntkinfo._common.results import Information
from ntkinfo._numerics import pair_sums
from ntkinfo.mixture import _quadrature

ACCURACY = 1e-8
# Numbers of one array that fit in memory.
_MOST_ENTRIES = 2**28


def _draws(n_samples, mean) -> int:
    """The number of draws; those of one point, against all others, must fit in memory."""
    return check.integer("n_samples", n_samples, most=max(1, _MOST_ENTRIES // max(mean.shape[-2:])))


def _points(variance) -> int:
    """m, the number of points; `_door` refuses what has none."""
    variance = check.native("variance", variance)
    return variance.shape[-1] if variance.ndim else 1


def _door(mean, variance, classes, *, one_output: bool = False, least: int = 1):
    """Checks a channel; returns its arrays flattened over leading axes, the classes, and the leading shape."""
    mean, variance = check.array("mean", mean), check.array("variance", variance)
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
    classes = check.array("one_hot", classes, 2).astype(dtype)
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
    return *flat, jax.lax.stop_gradient(classes), lead


@jax.jit
def _exact(mean, variance, classes):
    return jax.lax.map(lambda c: _quadrature.information_pair(c[0][:, 0], c[1], classes), (mean, variance))


def exact_pair(mean, variance, one_hot) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in nats for one output, exactly: `exact` and `label_exact` in one pass.

    Args:
      mean: (..., m, 1).
      variance: (..., m), positive.
      one_hot: (m, C), the class of each point as a row of a unit matrix; see `one_hot`. It carries no gradient.

    Returns:
      Information about the input and about the label, shapes (...).

    Raises:
      ValueError: more than one output, variances that are not positive, shapes or classes that do not fit.
    """
    mean, variance, classes, lead = _door(mean, variance, one_hot, one_output=True)
    value, error = _exact(mean, variance, classes)
    about_input, about_label = (
        Information(v, v - e, v + e, jnp.zeros_like(v), "exact", jnp.zeros_like(v), jnp.zeros_like(v))
        for v, e in ((value[:, i].reshape(lead), error[:, i].reshape(lead)) for i in range(2))
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


def exact(mean, variance) -> Information:
    """I(X;Z) in nats for one output, X uniform over m points and Z | x_i ~ N(mean_i, variance_i), exactly.

        I(X;Z) = h(p) - (1/m) sum_i (1/2) log(2 pi e variance_i),    p = (1/m) sum_i N(mean_i, variance_i)

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


def label_exact(mean, variance, labels, n_classes: int) -> Information:
    """I(Y;Z) in nats for one output and classes Y, exactly: sum_c p(c) KL(p_c || p), p_c the mixture of class c.

    Args:
      mean: (..., m, 1).
      variance: (..., m), positive.
      labels: (m,) integers from 0 to n_classes - 1.
      n_classes: number of classes.

    Returns:
      Information of shape (...), between 0 and H(Y). See `exact`.
    """
    return exact_pair(mean, variance, _labels.one_hot(labels, n_classes))[1]


@partial(jax.jit, static_argnames="n_samples")
def _sampled(key, mean, variance, classes, n_samples):
    """Means (T, 5) and their standard errors."""
    m = variance.shape[1]

    def one(channel):
        average, spread = pair_sums.sampled(key, *channel, classes, n_samples)
        if n_samples > 1:
            error = jnp.sqrt(jnp.sum(spread, axis=1) / n_samples) / m
        else:
            error = jnp.std(average, axis=1, ddof=1) / math.sqrt(m) if m > 1 else jnp.zeros_like(average[:, 0])
        return jnp.mean(average, axis=1), error

    return jax.lax.map(one, (mean, variance))


def monte_carlo_pair(mean, variance, one_hot, *, key, n_samples: int) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) in nats from the same draws of z: `monte_carlo` and `label_monte_carlo` in one pass."""
    key = check.key("key", key)
    mean, variance, classes, lead = _door(mean, variance, one_hot)
    average, error = _sampled(key, mean, variance, classes, _draws(n_samples, mean))
    check.finite_result("the information", (average[:, ::2][:, :2], error[:, ::2][:, :2]), "`mean` and `variance`")
    return tuple(
        Information(v, v, v, e, "monte_carlo", e, e)
        for v, e in ((average[:, i].reshape(lead), error[:, i].reshape(lead)) for i in (0, 2))
    )


def monte_carlo(mean, variance, *, key, n_samples: int) -> Information:
    """I(X;Z) in nats by sampling, for any number of outputs: the mean of log p_i(z)/p(z) over z ~ p_i and i.

    Unbiased. The draws are stratified, `n_samples` for each point i, and the standard error combines the variances
    within the points. With n_samples = 1 these are unknown, and the variance over all points is taken instead, which
    is too large by the spread of KL(p_i || p) over i. The same draws serve every leading index, so that a curve over
    times is smooth and its errors are correlated; map over split keys for independent ones.

    Args:
      mean: (..., m, k).
      variance: (..., m), positive.
      key: random key.
      n_samples: draws of z for each point. O(n_samples m^2 k) time for each leading index.

    Returns:
      Information of shape (...). An estimate: `lower` and `upper` equal the value, which is right in expectation,
      and `stderr` is its standard error.

    Raises:
      ValueError: shapes that do not fit, or variances that are not positive (`nan` under tracing).

    Source: theory, section 3.
    """
    m = _points(variance)
    return monte_carlo_pair(mean, variance, np.ones((m, 1)), key=key, n_samples=n_samples)[0]


def label_monte_carlo(mean, variance, labels, n_classes: int, *, key, n_samples: int) -> Information:
    """I(Y;Z) in nats for classes Y by sampling: the mean of log p_c(z)/p(z), c the class of i. See `monte_carlo`."""
    return monte_carlo_pair(mean, variance, _labels.one_hot(labels, n_classes), key=key, n_samples=n_samples)[1]


def minibatch_pair(mean, variance, one_hot, *, key, n_samples: int) -> tuple[Information, Information]:
    """Bounds on I(X;Z) and I(Y;Z) in nats from the same scores: `minibatch` and `label_minibatch` in one pass."""
    key = check.key("key", key)
    mean, variance, classes, lead = _door(mean, variance, one_hot, least=2)
    average, error = _sampled(key, mean, variance, classes, _draws(n_samples, mean))
    average, error = (a.T.reshape((5, *lead)) for a in (average, error))
    check.finite_result("the bounds", (average, error), "`mean` and `variance`")
    return tuple(
        Information(average[v], average[low], average[up], error[v], "minibatch", error[low], error[up])
        for v, low, up in ((0, 0, 1), (2, 3, 4))
    )


def minibatch(mean, variance, *, key, n_samples: int) -> Information:
    """Bounds on I(X;Z) in nats from the scores S_ij = log p(z_i | x_j), z_i ~ p_i, of one batch of points.

        lower = mean_i [S_ii - log (1/m) sum_j exp S_ij]                 InfoNCE
        upper = mean_i [S_ii - log 1/(m-1) sum_{j != i} exp S_ij]        leave one out

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
    """
    m = _points(variance)
    return minibatch_pair(mean, variance, np.ones((m, 1)), key=key, n_samples=n_samples)[0]


def label_minibatch(mean, variance, labels, n_classes: int, *, key, n_samples: int) -> Information:
    """Bounds on I(Y;Z) = I(X;Z) - sum_c p(c) I(X;Z | Y = c) in nats for classes Y, from the scores of `minibatch`.

    `value` takes InfoNCE in both places; `lower` is InfoNCE less leave-one-out within the classes, `upper` is
    leave-one-out less InfoNCE within the classes. They bound I(Y;Z) for X uniform over the m points, in expectation
    over z. A class with a single point has I(X;Z | Y = c) = 0.
    """
    return minibatch_pair(mean, variance, _labels.one_hot(labels, n_classes), key=key, n_samples=n_samples)[1]


@jax.jit
def _pairwise(mean, variance, classes):
    return jax.lax.map(lambda channel: pair_sums.pairwise(*channel, classes), (mean, variance))


def pairwise_pair(mean, variance, one_hot) -> tuple[Information, Information]:
    """Bounds on I(X;Z) and I(Y;Z) in nats without sampling: `pairwise` and `label_pairwise` in one pass."""
    mean, variance, classes, lead = _door(mean, variance, one_hot)
    lower, upper, class_lower, class_upper = _pairwise(mean, variance, classes).T.reshape((4, *lead))
    check.finite_result("the bounds", (lower, upper, class_lower, class_upper), "`mean` and `variance`")
    zero = jnp.zeros_like(lower)
    return tuple(
        Information(low, low, up, zero, "pairwise", zero, zero)
        for low, up in ((lower, upper), (lower - class_upper, upper - class_lower))
    )


def pairwise(mean, variance) -> Information:
    """Bounds on I(X;Z) in nats from distances between the components: -(1/m) sum_i log (1/m) sum_j exp(-D(p_i, p_j)).

    D the Bhattacharyya distance gives the lower bound, D = KL(p_i || p_j) the upper. Nothing is sampled; O(m^2 k).

    Args:
      mean: (..., m, k).
      variance: (..., m), positive.

    Returns:
      Information of shape (...): `lower` and `upper`; `value` is the lower bound.

    Source: theory, section 3; Kolchinsky & Tracey 2017, arXiv 1706.02419.
    """
    m = _points(variance)
    return pairwise_pair(mean, variance, np.ones((m, 1)))[0]


def label_pairwise(mean, variance, labels, n_classes: int) -> Information:
    """Bounds on I(Y;Z) in nats for classes Y, lower combined with upper; `value` is the lower bound, even below 0."""
    return pairwise_pair(mean, variance, _labels.one_hot(labels, n_classes))[1]
