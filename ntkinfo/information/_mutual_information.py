"""Information between input, label and output of an ensemble."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import gaussian, mixture
from ntkinfo._common import check
from ntkinfo._common import labels as _labels
from ntkinfo._common.results import Information
from ntkinfo.gaussian import Gaussian
from ntkinfo.information import _decoder


def input_information(
    z: Gaussian, *, method: str | None = None, key: Array | None = None, n_samples: int = 64
) -> Information:
    """I(X;Z|D) in nats: what the output of a trained network tells about which of the m inputs it was given.

    X is uniform over the m inputs of the prediction and Z | x_i ~ N(μ_i, v_i I_k), so 0 ≤ I ≤ log m; a value within
    1 % of log m is saturated and says only that (`is_saturated`).

    Args:
      z: prediction with mean (..., m, k) and variance (..., m), positive.
      method: "exact" (k = 1, quadrature, error below 1e-8), "monte_carlo" (unbiased), "minibatch" (InfoNCE and
        leave-one-out bounds) or "pairwise" (Kolchinsky-Tracey bounds); None is "exact" for one output, else
        "monte_carlo". `ntkinfo.mixture` says what each one's fields mean.
      key: random key, for the sampled methods.
      n_samples: draws of z per input, for the sampled methods.

    Returns:
      `Information` of shape (...).

    Raises:
      ValueError: an unknown method, "exact" for several outputs, a sampled method without a key, variances that are
        not positive.

    Source: theory, section 3; Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189); Poole et al. 2019 (arXiv 1905.06922).
    """
    z = gaussian.check_marginals("z", z, zero=True)
    one_class = np.ones((z.mean.shape[-2], 1))
    return mixture.pair(z.mean, z.variance, one_class, method=method, key=key, n_samples=n_samples)[0]


def label_information(
    z: Gaussian,
    labels: Num[ArrayLike, " m"] | Float[ArrayLike, "m k"],
    *,
    method: str | None = None,
    key: Array | None = None,
    n_samples: int = 64,
    noise: ArrayLike | str = 1.0,
    label_entropy: float | None = None,
    task: str = "auto",
) -> Information:
    """I(Y;Z|D) in nats: what the output of a trained network tells about the label.

    For classes, Y a function of the input on this sample: I(Y;Z) = I(X;Z) - Σ_c p(c) I(X;Z | Y = c), by the methods
    of `input_information`, at most H(Y). For real labels the decoder bound I(Y;Z) ≥ h(Y) + E log N(y; z, σ²I); without
    `label_entropy` it is a bound if the labels are Gaussian.

    Args:
      z: prediction with mean (..., m, k) and variance (..., m), positive.
      labels: integers (m,), or floating point (m,) or (m, k): entries -1 and 1, or one-hot rows (centred or
        not), are classes; other numbers are real labels.
      method: as for `input_information`, or "decoder": for classes the bound H(Y) + E log q(y|z) with probabilities
        q(y|z) ∝ e^{-‖y - z‖²/2σ²} over their targets (a density would be no bound); the only one for real labels.
      key: random key, for the sampled methods (and the decoder of several classes).
      n_samples: draws of z per input, for the sampled methods.
      noise: variance σ² of the decoder, of no use without one; "fit" takes the best one, for real labels only.
      label_entropy: h(Y) or H(Y) in nats where known, for the decoder. By default the entropy of the class frequencies,
        and for real labels that of a Gaussian with their covariance: too large for other labels, and the bound then no
        bound.
      task: "auto", "classes" or "regression"; under `jit` labels must be closed over, or real.

    Returns:
      `Information` of shape (...). For real labels `upper` is infinite, and log m where `label_entropy` is given.

    Raises:
      TypeError: labels neither integer nor floating point.
      ValueError: shapes that do not fit, an unknown method or one that does not apply, a missing key, variances that
        are not positive, a noise that is not positive, or noise="fit" for classes.

    Warns:
      UserWarning: a bound for real labels above log m (the entropy assumed is wrong), or below -5 nats for each output
        (the noise is).

    Source: theory, section 3.

    Example:
      >>> z = ens.predict(x_test, t)
      >>> label_information(z, y_test).value.shape
      (2,)
    """
    z = gaussian.check_marginals("z", z, zero=True)
    if method is not None:
        check.option("method", method, (*mixture.METHODS, "decoder"))
    if key is not None:
        check.key("key", key)
    n_samples = check.integer("n_samples", n_samples)
    if isinstance(noise, str):
        check.option("noise", noise, ("fit",))
    else:
        check.positive("noise", noise, scalar=True)
    m = z.mean.shape[-2]
    read = _labels.read("labels", labels, m, task)
    if label_entropy is not None:
        _labels.check_entropy(label_entropy, read.n_classes)
    decoded = read.classes is None or method == "decoder"
    if isinstance(noise, str) and read.classes is not None:
        raise ValueError('`noise` must be a number for classes; got "fit", which is for real labels.')
    known = label_entropy is not None
    if label_entropy is None and decoded:
        label_entropy = _labels.entropy(read)
    if read.classes is None:
        if method not in (None, "decoder"):
            raise ValueError(f'`method` must be "decoder" (or None) for real labels; got {method!r}.')
        result = _decode(z, read, noise, label_entropy, known=known)
        _decoder.warn_if_no_bound(result, *z.mean.shape[-2:], known)
        return result
    if method == "decoder":
        return _decode(z, read, noise, label_entropy, key=key, n_samples=n_samples)
    one_hot = _labels.one_hot(read.classes, read.n_classes)
    return mixture.pair(z.mean, z.variance, one_hot, method=method, key=key, n_samples=n_samples)[1]


def _decode(
    z: Gaussian, read: _labels.Labels, noise, label_entropy, *, known: bool = False, key=None, n_samples: int = 64
) -> Information:
    if read.targets is None:
        raise ValueError('`labels` must be the targets (m, k) for method="decoder"; got integer class numbers.')
    _labels.require_shape("labels", read.targets.shape, z.mean.shape)
    targets = jnp.asarray(read.targets, z.mean.dtype)
    if read.classes is None:
        noise = None if isinstance(noise, str) else noise
        return _decoder.gaussian_density(z, targets, noise, label_entropy, known=known)
    if z.mean.shape[-1] == 1:
        return _decoder.signs(z, targets, noise, label_entropy)
    return _decoder.classes(
        z,
        jnp.asarray(read.classes),
        targets,
        noise,
        label_entropy,
        key=mixture.require_key(key, "the decoder of several classes"),
        n_samples=check.integer("n_samples", n_samples, least=2, most=max(2, check.MOST_ENTRIES // z.mean.size)),
    )
