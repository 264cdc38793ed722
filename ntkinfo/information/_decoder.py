"""Lower bounds on I(Y;Z) from a decoder q(y|z): the entropy of the labels less the decoder's cross-entropy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check
from ntkinfo._common.results import Information
from ntkinfo._numerics import normal_rule
from ntkinfo.gaussian import Gaussian
from ntkinfo.information import _losses

# For functions that vary no faster than over half a unit.
_NODES, _WEIGHTS = normal_rule.trapezoid(step=0.05, reach=9.5)


# A bound so many nats for each output below 0 is one whose noise does not fit the error.
_USELESS = 5.0


def gaussian_density(
    z: Gaussian,
    targets: Array,
    noise: float | Array | None,
    label_entropy: float,
    *,
    known: bool,
    weights: Array | None = None,
) -> Information:
    """I(Y;Z) ≥ h(Y) + E log N(y; z, σ²I) in nats, for real labels.

    A noise σ² of None takes the best one, the Gibbs loss per output; `weights` as in `_losses.average`.
    `upper` is log m where h(Y) is `known`: Y - X - Z is a Markov chain and X takes m values. An h(Y) taken from the
    labels is that of a Gaussian, another joint distribution, of which nothing is known from above.

    Source: theory, section 3; Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189), whose choice is σ² = 1.
    """
    m, k = z.mean.shape[-2:]
    expected = jnp.asarray(_losses.compute(z, targets, None, None, weights).gibbs_mse)
    variance = expected / k if noise is None else jnp.asarray(noise, expected.dtype)
    value = label_entropy - 0.5 * (k * jnp.log(2 * jnp.pi * variance) + expected / variance)
    ceiling = np.log(m) if weights is None else -jnp.log(jnp.max(weights))
    upper = jnp.full_like(value, ceiling if known else np.inf)
    return Information(value, value, upper, jnp.zeros_like(value), "decoder")


def warn_if_no_bound(information: Information, m: int, k: int, known: bool) -> None:
    """Says where the decoder bound of real labels contradicts log m, or is far below 0. Not under tracing."""
    if information.method != "decoder" or not check.concrete(information):
        return
    most = float(np.max(np.asarray(information.value)))
    if most > np.log(m):
        reason = (
            "the `label_entropy` given is not that of these labels"
            if known
            else "h(Y) was taken for that of Gaussian labels, which these are not if they are a function of the input"
        )
        warnings.warn(
            f"the lower bound on I(Y;Z), {most:.4g} nats, is above log m = {np.log(m):.4g}, the most that m = {m} "
            f"inputs allow: {reason}. Take classes, more inputs, or another `noise` or `label_entropy`.",
            stacklevel=3,
        )
    elif most < -_USELESS * k:
        warnings.warn(
            f"the lower bound on I(Y;Z) is {most:.4g} nats, which says nothing: the variance `noise` of the decoder is "
            'far from the mean squared error of the outputs. Scale the labels to variance 1, or take noise="fit" '
            "(`label_information`) or that error.",
            stacklevel=3,
        )


def _lower_bound(value: Array, stderr: Array, ceiling: float) -> Information:
    """The bound of a decoder of classes, at most `ceiling`."""
    upper = jnp.full_like(value, ceiling)
    return Information(value, value, upper, stderr, "decoder", ceiling=upper)


def signs(z: Gaussian, targets: Array, noise: float | Array, label_entropy: float) -> Information:
    """I(Y;Z) ≥ H(Y) + E log q(y|z) in nats, labels ±1, q(y|z) ∝ e^{-(y-z)²/2σ²} normalised over the two labels.

    By quadrature: -log q = log(1 + e^{-2yz/σ²}), exact to rounding while 2 √variance/σ² stays below about 10.
    """
    margin = z.mean[..., 0] * targets[:, 0].reshape((1,) * (z.variance.ndim - 1) + (-1,))
    scale = jnp.sqrt(z.variance)
    nodes, weights = jnp.asarray(_NODES, z.mean.dtype), jnp.asarray(_WEIGHTS, z.mean.dtype)

    def add_node(total, node_weight):
        node, weight = node_weight
        return total + weight * jnp.mean(jax.nn.softplus(-2 * (margin + scale * node) / noise), axis=-1), None

    cross_entropy, _ = jax.lax.scan(add_node, jnp.zeros(z.variance.shape[:-1], z.mean.dtype), (nodes, weights))
    value = label_entropy - cross_entropy
    return _lower_bound(value, jnp.zeros_like(value), min(label_entropy, np.log(z.mean.shape[-2])))


def classes(
    z: Gaussian,
    numbers: Array,
    targets: Array,
    noise: float | Array,
    label_entropy: float,
    *,
    key: Array,
    n_samples: int,
) -> Information:
    """I(Y;Z) ≥ H(Y) + E log q(c|z) in nats, q(c|z) ∝ e^{-‖e_c - z‖²/2σ²} over the one-hot rows e_c.

    Sampled, with a standard error: `n_samples` draws of z for each input. The rows have one length, so q is a softmax
    of z (high - low)/σ².
    """
    gap = jnp.max(targets) - jnp.min(targets)
    m, k = z.mean.shape[-2:]
    noises = jax.random.normal(key, (n_samples, m, k), z.mean.dtype)

    def at_time(channel):
        mean, variance = channel

        def draw(noise_z):
            logits = (mean + jnp.sqrt(variance)[:, None] * noise_z) * (gap / noise)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), numbers[:, None], axis=1)[:, 0]

        loss = jax.lax.map(draw, noises)
        # Stratified over inputs: only the spread of z within an input is sampling error.
        spread = jnp.var(loss, axis=0, ddof=1)
        return jnp.mean(loss), jnp.sqrt(jnp.mean(spread) / (m * n_samples))

    lead = z.variance.shape[:-1]
    flat = z.mean.reshape((-1, m, k)), z.variance.reshape((-1, m))
    cross_entropy, error = (a.reshape(lead) for a in jax.lax.map(at_time, flat))
    return _lower_bound(label_entropy - cross_entropy, error, min(label_entropy, np.log(m)))
