"""The objectives of the variational bottlenecks: VIB, CEB and the variational dual, term by term.

    L = E[log p(z|x) - log b] + β E[-log q(y|z)] + γ E KL[q(y|z) ‖ p̃(y|x)]

b is a prior b(z) ("fixed" or "learned") or the backward encoder b(z|y) ("backward"). The first term is a closed form;
of categorical Z, and of a Gaussian Z read by a linear Gaussian decoder, so are all of them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntkinfo.networks import Network
from ntkinfo.variational import encoders

OBJECTIVES = ("vib", "ceb", "dual")
PRIORS = ("fixed", "learned", "backward")
LATENTS = ("gaussian", "categorical")
TASKS = ("classes", "regression")


class Spec(NamedTuple):
    """What is fixed during a fit, all that is no array; hashable, a static argument.

    Attributes:
      objective: "vib", "ceb" or "dual".
      prior: what b is: "fixed", "learned" or "backward".
      kind: of Z, "gaussian" or "categorical".
      latent: dimension of Z, or number of its values.
      task: "classes" or "regression".
      outputs: number of classes, or dimension of y.
      encoder: network with 2 `latent` outputs (mean and log standard deviation), or `latent` logits.
      decoder: network of Z with `outputs` outputs (logits, or the mean of y).
      exact: whether E over z of the decoder's terms is a closed form.
      samples: draws of z for each row, where it is not.
    """

    objective: str
    prior: str
    kind: str
    latent: int
    task: str
    outputs: int
    encoder: Network
    decoder: Network
    exact: bool
    samples: int


class Terms(NamedTuple):
    """The terms of L for each row, in nats, each (n,).

    Attributes:
      divergence: E_z[log p(z|x) - log b]: the rate with a prior, the residual with a backward encoder.
      cross_entropy: E_z[-log q(y|z)].
      dual: E_z KL[q(y|z) ‖ p̃(y|x)]; 0 where the objective has none.
    """

    divergence: Array
    cross_entropy: Array
    dual: Array


def total(terms: Terms, beta, gamma) -> Array:
    """L in nats: the mean over rows of divergence + β cross-entropy + γ dual."""
    return jnp.mean(terms.divergence + beta * terms.cross_entropy + gamma * terms.dual)


def initial(spec: Spec, key: Array, x: Array):
    """Parameters at the start, in the dtype of x: of the encoder, the decoder, and b."""
    key_encoder, key_decoder, key_prior = jax.random.split(key, 3)
    d, dtype = spec.latent, x.dtype
    params = {
        "encoder": spec.encoder.init(key_encoder, x),
        "decoder": spec.decoder.init(key_decoder, jnp.zeros((1, d), dtype)),
    }
    if spec.task == "regression":
        params["log_std"] = jnp.zeros(spec.outputs, dtype)
    width = 2 * d if spec.kind == "gaussian" else d
    if spec.prior == "learned":
        params["prior"] = jnp.zeros(width, dtype)
    elif spec.prior == "backward":
        params["prior"] = encoders.linear(width).init(key_prior, jnp.zeros((1, spec.outputs), dtype))
    return params


def encode(spec: Spec, params, x: Array) -> tuple[Array, Array] | Array:
    """p(z|x): mean and log standard deviation, each (n, d); or log probabilities, (n, K)."""
    return _distribution(spec, spec.encoder.apply(params["encoder"], x))


def decode(spec: Spec, params, z: Array) -> Array:
    """q(y|z) for rows of z: log probabilities (n, classes), or the mean (n, k)."""
    out = spec.decoder.apply(params["decoder"], z)
    return jax.nn.log_softmax(out) if spec.task == "classes" else out


def gaussian_divergence(mean, log_std, mean_b, log_std_b) -> Array:
    """KL[N(mean, std²) ‖ N(mean_b, std_b²)] of diagonal Gaussians in nats, summed over the last axis."""
    gap = (mean - mean_b) * jnp.exp(-log_std_b)
    ratio = 2 * (log_std - log_std_b)
    return jnp.sum(gap**2 + jnp.expm1(ratio) - ratio, axis=-1) / 2


def categorical_divergence(log_p, log_b) -> Array:
    """KL[p ‖ b] of log probabilities in nats, over the last axis."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_b), axis=-1)


def divergence(spec: Spec, params, encoder_output, y: Array) -> Array:
    """E over z (and over y, where it is a distribution) of log p(z|x) - log b, in nats, (n,). Exact."""
    if spec.prior == "backward" and spec.task == "classes":
        # Every class in turn, weighted by its probability: for integers that is the one class.
        b = _distribution(spec, encoders.linear(1).apply(params["prior"], jnp.eye(spec.outputs, dtype=y.dtype)))
        return jnp.sum(y * _against(spec, encoder_output, b, every=True), axis=1)
    if spec.prior == "backward":
        return _against(spec, encoder_output, _distribution(spec, encoders.linear(1).apply(params["prior"], y)))
    width = 2 * spec.latent if spec.kind == "gaussian" else spec.latent
    flat = params["prior"] if spec.prior == "learned" else jnp.zeros(width, y.dtype)
    return _against(spec, encoder_output, _distribution(spec, flat[None]))


def terms(spec: Spec, params, x: Array, y: Array, noise: Array, key: Array) -> Terms:
    """The terms of L for each row, by `samples` draws of z where they are not closed forms.

    Args:
      spec: what is fixed.
      params: parameters.
      x: inputs, (n, ...).
      y: label distributions (n, classes), or targets (n, k).
      noise: log p̃(y|x), (n, classes); for regression the log standard deviation of p̃ around y, ().
      key: random key.

    Returns:
      `Terms`.
    """
    return terms_encoded(spec, params, encode(spec, params, x), y, noise, key)


def terms_encoded(spec: Spec, params, encoder_output, y: Array, noise: Array, key: Array) -> Terms:
    """`terms` of what `encode` has returned."""
    first = divergence(spec, params, encoder_output, y)
    if spec.task == "regression":
        square = _square_error(spec, params, encoder_output, y, key)
        log_std = params["log_std"][None]
        entropy = jnp.sum(square * jnp.exp(-2 * log_std) + 2 * log_std + math.log(2 * math.pi), axis=1) / 2
        if spec.objective != "dual":
            return Terms(first, entropy, jnp.zeros_like(first))
        ratio = 2 * (log_std - noise)
        return Terms(first, entropy, jnp.sum(square * jnp.exp(-2 * noise) + jnp.expm1(ratio) - ratio, axis=1) / 2)
    if spec.kind == "categorical":
        p, log_q = jnp.exp(encoder_output), decode(spec, params, jnp.eye(spec.latent, dtype=y.dtype))
        entropy = -jnp.sum(p * (y @ log_q.T), axis=1)
        if spec.objective != "dual":
            return Terms(first, entropy, jnp.zeros_like(first))
        q = jnp.exp(log_q)
        return Terms(first, entropy, jnp.sum(p * (jnp.sum(q * log_q, axis=1)[None] - noise @ q.T), axis=1))
    log_q = decode_samples(spec, params, encoder_output, key, spec.samples)
    entropy = -jnp.mean(jnp.sum(y[None] * log_q, axis=2), axis=0)
    if spec.objective != "dual":
        return Terms(first, entropy, jnp.zeros_like(first))
    return Terms(first, entropy, jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - noise[None]), axis=2), axis=0))


def draw(encoder_output, key: Array, samples: int) -> Array:
    """Draws of a Gaussian Z, (samples, n, d)."""
    mean, log_std = encoder_output
    return mean[None] + jnp.exp(log_std)[None] * jax.random.normal(key, (samples, *mean.shape), mean.dtype)


def decode_samples(spec: Spec, params, encoder_output, key: Array, samples: int) -> Array:
    """The decoder at draws of a Gaussian Z, (samples, n, outputs)."""
    z = draw(encoder_output, key, samples)
    return decode(spec, params, z.reshape(-1, spec.latent)).reshape(samples, -1, spec.outputs)


def _distribution(spec, out):
    """The distribution of Z from outputs of a network: mean and log standard deviation, or log probabilities."""
    if spec.kind == "categorical":
        return jax.nn.log_softmax(out)
    return out[:, : spec.latent], out[:, spec.latent :]


def _against(spec, encoder_output, b, every=False):
    """Divergence of each row of p(z|x) from its row of b, (n,); from every row, (n, rows)."""
    if spec.kind == "categorical":
        log_b = b[None] if every else jnp.broadcast_to(b, encoder_output.shape)
        return categorical_divergence(encoder_output[:, None] if every else encoder_output, log_b)
    if every:
        return gaussian_divergence(encoder_output[0][:, None], encoder_output[1][:, None], b[0][None], b[1][None])
    return gaussian_divergence(*encoder_output, *(jnp.broadcast_to(part, encoder_output[0].shape) for part in b))


def _square_error(spec, params, encoder_output, y, key):
    """E over z of (y - f(z))² for the decoder's mean f, (n, k)."""
    if spec.kind == "categorical":
        means = decode(spec, params, jnp.eye(spec.latent, dtype=y.dtype))
        return jnp.sum(jnp.exp(encoder_output)[:, :, None] * (y[:, None] - means[None]) ** 2, axis=1)
    if spec.exact:
        mean, log_std = encoder_output
        spread = jnp.exp(2 * log_std) @ params["decoder"][-1]["w"] ** 2
        return (y - decode(spec, params, mean)) ** 2 + spread
    return jnp.mean((y[None] - decode_samples(spec, params, encoder_output, key, spec.samples)) ** 2, axis=0)
