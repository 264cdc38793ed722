"""Information content of training labels: -log of the prior probability that a random network fits all of them.

The NNGP prior makes it the probability of an orthant of N(0, K). It is estimated by importance sampling, with a
standard error, an effective sample size and a verdict on whether to believe it, and bounded from both sides in closed
form. `ntkinfo.bounds.information_content` turns it into a generalization bound.
"""

import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo import kernels
from ntkinfo._common import check, compiling, tables
from ntkinfo._common.labels import real_targets
from ntkinfo._numerics import cholesky
from ntkinfo.content import _orthant

METHODS = ("tilted", "isotropic", "sequential")
FORMS = ("sharp", "published")
# Below so many effective samples a standard error is itself a guess.
MIN_EFFECTIVE_SAMPLES = 100
BELIEVED = MIN_EFFECTIVE_SAMPLES  # the former name
_MAX_STANDARD_ERRORS = 5
# The weights of so many draws fit in memory.
_MOST_SAMPLES = 2**26


class Content(NamedTuple):
    """-log P(sign f = labels) under the prior, in nats.

    Attributes:
      value: the estimate, a scalar. Its error is one-sided where the effective sample size is small: too large.
      stderr: its standard error over the sampling; without meaning unless `reliable`.
      effective_samples: (Σw)²/Σw² of the importance weights w, from 1 to the number of samples.
      reliable: whether the effective sample size is at least 100 and the value agrees with both bounds.
      lower: a lower bound on the truth, without sampling, from the largest weight that tilting leaves possible; 0
        where it was not found.
      upper: an upper bound on the truth, without sampling, `upper_bound` in its sharp form.
    """

    value: Array
    stderr: Array
    effective_samples: Array
    reliable: Array
    lower: Array
    upper: Array

    _table = tables.Table((), nats="value stderr lower upper", plain="effective_samples reliable")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def information_content(
    net,
    x: Float[ArrayLike, "n ..."],
    labels: Float[ArrayLike, "n ..."],
    *,
    key: Array,
    n_samples: int = 4096,
    method: str = "tilted",
    batch_size: int | None = None,
) -> Content:
    """C = -log P(sign f(x_i) = y_i for all i), f ~ N(0, K): nats of information in the labels that the prior lacks.

    Args:
      net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`.
      x: inputs, (n, ...), floating point, all distinct.
      labels: -1 and 1, (n,) or (n, 1), floating point.
      key: random key.
      n_samples: draws, at least 2.
      method: "tilted": one output after the other, in the order and with the shifts that make the largest weight least
        (Botev 2017); believable for hundreds of inputs. "sequential": the same without shifts. "isotropic": the
        published estimator, whose few effective samples make it an overestimate beyond a dozen inputs.
      batch_size: rows of a block of kernel evaluation; None chooses.

    Returns:
      `Content` of scalars. Of the identity kernel it is n log 2; scaling an input's variance does not change it.

    Raises:
      TypeError: `net` is no network; inputs or labels that are not floating-point numbers.
      ValueError: labels other than -1 and 1, sizes that do not fit, NaN or Inf, a kernel singular to working
        precision, an unknown method.

    Warns:
      UserWarning: the estimate is not reliable; take the upper bound, more samples or another method.

    Cost: O(n³) and n_samples n² flops.

    Source: Bernstein & Yue 2021 (arXiv 2103.01045); Botev 2017 (arXiv 1603.04166); theory, section 6.

    Example:
      >>> c = information_content(net, x, y, key=jax.random.key(0))
      >>> bound = ni.bounds.information_content(c.value + 3 * c.stderr, n=len(x), delta=0.01)
    """
    x = check.inputs("x", x)
    options = _options(key, n_samples, method)
    kernel = kernels.kernels(net, x, batch_size=batch_size).nngp
    return _content(_check_arguments(kernel, labels, "the kernel of `x`"), *options)


def of_kernel(
    kernel: Float[ArrayLike, "n n"],
    labels: Float[ArrayLike, "n ..."],
    *,
    key: Array,
    n_samples: int = 4096,
    method: str = "tilted",
) -> Content:
    """`information_content` for a covariance of the outputs, (n, n), that is known already; the rest as there.

    Example:
      >>> found = of_kernel(np.eye(3), np.array([1.0, -1.0, 1.0]), key=key)
      >>> round(float(found.value), 4)  # three independent signs: 3 log 2
      2.0794
    """
    options = _options(key, n_samples, method)
    return _content(_check_arguments(kernel, labels), *options)


def _options(key, n_samples, method):
    check.option("method", method, METHODS)
    return check.key("key", key), check.integer("n_samples", n_samples, least=2, most=_MOST_SAMPLES), method


def _content(correlation, key, n_samples, method) -> Content:
    tilt = jnp.asarray(method == "tilted", jnp.result_type(float))
    result = _estimate(correlation, key, tilt, n_samples, method == "isotropic")
    if check.concrete(result) and not bool(result.reliable):
        warnings.warn(
            f"The information content {float(result.value):.4g} cannot be believed: of {n_samples} samples "
            f"{float(result.effective_samples):.1f} are effective (at least {MIN_EFFECTIVE_SAMPLES} are needed), "
            f"and bounds are {float(result.lower):.4g} and {float(result.upper):.4g}. Take `upper` for a bound, "
            + ("or more samples." if method == "tilted" else 'or method="tilted", or more samples.'),
            stacklevel=3,
        )
    return result


def upper_bound(
    kernel: Float[ArrayLike, "n n"], labels: Float[ArrayLike, "n ..."], *, form: str = "sharp"
) -> Float[Array, ""]:
    """Upper bound on the information content in closed form, in nats: O(n³), nothing is sampled.

        published:  C ≤ n (log 2 - ½) + ½ d T,      d = det(K)^{1/n},  T = (1 - 2/π) tr K⁻¹ + (2/π) yᵀK⁻¹y
        sharp:      C ≤ n log 2 + ½ log det K + ½ n log(T/n)

    after scaling K to unit diagonal, which leaves C unchanged. Both are Jensen's inequality with an isotropic Gaussian
    on the orthant, of variance d or of the best variance, n/T: sharp ≤ published. Of K = I both are n log 2, exactly.
    The paper rounds log 2 - ½ up to 1/5.

    Args:
      kernel: covariance of the outputs, (n, n).
      labels: -1 and 1, (n,) or (n, 1), floating point.
      form: "sharp" or "published".

    Returns:
      Scalar, an upper bound. Differentiable. Under tracing `nan` for a kernel that is not positive definite.

    Raises:
      TypeError, ValueError: as `information_content`; an unknown form.

    Source: Bernstein & Yue 2021 (arXiv 2103.01045); theory, section 6.
    """
    check.option("form", form, FORMS)
    return _upper(_check_arguments(kernel, labels), form == "published")


def positive_probability(
    kernel: Float[ArrayLike, "n n"],
    labels: Float[ArrayLike, "n ..."],
    cross: Float[ArrayLike, "m n"],
    own: Float[ArrayLike, " m"],
    *,
    key: Array,
    n_samples: int = 4096,
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """P(f(x_*) > 0 | sign f = labels) at test inputs: the network that the information-content bound is about.

    Args:
      kernel: covariance of the outputs on the training inputs, (n, n).
      labels: -1 and 1, (n,) or (n, 1), floating point.
      cross: covariance of test with training outputs, (m, n).
      own: variance of the test outputs, (m,).
      key: random key.
      n_samples: draws, rounded up to a multiple of 512.

    Returns:
      Probabilities (m,), an estimate by self-normalised importance sampling, and the effective sample size; below 100
      it is not to be believed.

    Raises:
      TypeError, ValueError: as `information_content`; shapes that do not fit.
    """
    key = check.key("key", key)
    n_samples = check.integer("n_samples", n_samples, least=2, most=_MOST_SAMPLES)
    kernel, labels = check.array("kernel", kernel, 2), check.array("labels", labels, (1, 2))
    correlation = _check_arguments(kernel, labels)
    cross, own = check.array("cross", cross, 2), check.array("own", own, 1)
    check.positive("own", own)
    if cross.shape != (len(own), len(correlation)):
        raise ValueError(
            f"`cross` must have the shape (m, n) = {(len(own), len(correlation))} of `own` and `kernel`; "
            f"got {cross.shape}."
        )
    probability, effective = _conditioned(correlation, _scaled(cross, kernel, labels), own, key, n_samples)
    if check.concrete(probability) and not np.isfinite(np.asarray(probability)).all():
        first = int(np.argmin(np.isfinite(np.asarray(probability))))
        raise ValueError(
            "`cross`, `own` and `kernel` must together be a covariance, positive definite to working precision; got "
            f"none at test input {first}. Leave out test inputs that were trained on, or use float64."
        )
    return probability, effective


_conditioned = compiling.jit(_orthant.conditioned, static_argnums=4)


def _check_arguments(kernel, labels, what="`kernel`"):
    """The correlation of the outputs times their labels: its positive orthant is the event."""
    kernel = check.array("kernel", kernel, 2)
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"`kernel` must be square; got shape {kernel.shape}.")
    labels = real_targets("labels", labels, len(kernel))
    if labels.shape[1] != 1:
        raise ValueError(
            f"`labels` must be one of -1 and 1 for each input, (n,) or (n, 1); got shape {labels.shape}. "
            "Information content is of two classes; code one class against the rest."
        )
    check.signs("labels", labels)
    correlation, definite = _correlation(kernel, labels)
    if check.concrete(correlation):
        host = np.asarray(kernel)
        if not np.allclose(host, host.T, rtol=1e-5, atol=1e-5 * float(np.abs(host).max())):
            raise ValueError(f"{what} must be symmetric; got one that is not.")
        if not definite:
            raise ValueError(
                f"{what} must be positive definite to working precision; got one that is not. Remove repeated inputs "
                "(their labels either agree or cannot be fitted), or use float64."
            )
    return correlation


@compiling.on_host
def _correlation(xp, kernel, labels):
    """The correlation of the outputs times labels (n, 1), (n, n), and whether it is positive definite."""
    scaled = labels.ravel().astype(kernel.dtype) / xp.sqrt(xp.diagonal(kernel))
    product = kernel * scaled[:, None] * scaled[None, :]
    correlation = 0.5 * (product + product.T)
    return correlation, xp.all(xp.isfinite(cholesky.cholesky(correlation)))


@compiling.on_host
def _scaled(xp, cross, kernel, labels):
    """The covariance of test outputs (m, n) with outputs of correlation 1 times labels."""
    return cross * (labels.reshape(-1) / xp.sqrt(xp.diagonal(kernel)))[None, :]


_upper = compiling.jit(_orthant.closed_form, static_argnums=1)


@compiling.jit(static_argnums=(3, 4))
def _estimate(correlation, key, tilt, n_samples, isotropic):
    _, factor, shift, lower = _orthant.tilting(correlation)
    if isotropic:
        log_weights = _orthant.isotropic(correlation, key, n_samples)
    else:
        log_weights, _ = _orthant.sequential(factor, shift * tilt.astype(shift.dtype), key, n_samples)
    value, stderr, effective = _orthant.summarise(log_weights)
    upper = _orthant.closed_form(correlation, published=False)
    slack = _MAX_STANDARD_ERRORS * stderr + n_samples * float(jnp.finfo(value.dtype).eps) * jnp.abs(value)
    within = (value > lower - slack) & (value < upper + slack)
    return Content(value, stderr, effective, (effective >= MIN_EFFECTIVE_SAMPLES) & within, lower, upper)
