"""The objectives of the variational bottlenecks: VIB, CEB and the variational dual, term by term.

    L = E[log p(z|x) - log b] + β E[-log q(y|z)] + γ E KL[q(y|z) || p̃(y|x)]

b is a prior b(z) ("fixed" or "learned") or the backward encoder b(z|y) ("backward"). The first term is a closed form;
of categorical Z, and of a Gaussian Z read by a linear Gaussian decoder, so are all of them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntkinfo import networks
from ntkinfo.variational import encoders

OBJECTIVES = ("vib", "ceb", "dual")
PRIORS = ("fixed", "learned", "backward")
LATENTS = ("gaussian", "categorical")
TASKS = ("classes", "regression")


class Model(NamedTuple):
    """What is fixed during a fit; hashable, a static argument.

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
    encoder: networks.Network
    decoder: networks.Network
    exact: bool
    samples: int


class Terms(NamedTuple):
    """The terms of L for each row, in nats, each (n,).

    Attributes:
      divergence: E_z[log p(z|x) - log b]: the rate with a prior, the residual with a backward encoder.
      cross_entropy: E_z[-log q(y|z)].
      dual: E_z KL[q(y|z) || p̃(y|x)]; 0 where the objective has none.
    """

    divergence: Array
    cross_entropy: Array
    dual: Array


def total(terms: Terms, beta, gamma) -> Array:
    """L in nats: the mean over rows of divergence + β cross-entropy + γ dual."""
    return jnp.mean(terms.divergence + beta * terms.cross_entropy + gamma * terms.dual)


def initial(model: Model, key: Array, x: Array):
    """Parameters at the start, in the dtype of x: of the encoder, the decoder, and b."""
    of_encoder, of_decoder, of_prior = jax.random.split(key, 3)
    d, dtype = model.latent, x.dtype
    params = {
        "encoder": model.encoder.init(of_encoder, x),
        "decoder": model.decoder.init(of_decoder, jnp.zeros((1, d), dtype)),
    }
    if model.task == "regression":
        params["log_std"] = jnp.zeros(model.outputs, dtype)
    width = 2 * d if model.kind == "gaussian" else d
    if model.prior == "learned":
        params["prior"] = jnp.zeros(width, dtype)
    elif model.prior == "backward":
        params["prior"] = encoders.linear(width).init(of_prior, jnp.zeros((1, model.outputs), dtype))
    return params


def encode(model: Model, params, x: Array) -> tuple[Array, Array] | Array:
    """p(z|x): mean and log standard deviation, each (n, d); or log probabilities, (n, K)."""
    return _law(model, model.encoder.apply(params["encoder"], x))


def decode(model: Model, params, z: Array) -> Array:
    """q(y|z) for rows of z: log probabilities (n, classes), or the mean (n, k)."""
    out = model.decoder.apply(params["decoder"], z)
    return jax.nn.log_softmax(out) if model.task == "classes" else out


def gaussian_divergence(mean, log_std, mean_b, log_std_b) -> Array:
    """KL[N(mean, std²) || N(mean_b, std_b²)] of diagonal Gaussians in nats, summed over the last axis."""
    gap = (mean - mean_b) * jnp.exp(-log_std_b)
    ratio = 2 * (log_std - log_std_b)
    return jnp.sum(gap**2 + jnp.expm1(ratio) - ratio, axis=-1) / 2


def categorical_divergence(log_p, log_b) -> Array:
    """KL[p || b] of log probabilities in nats, over the last axis."""
    return jnp.sum(jnp.exp(log_p) * (log_p - log_b), axis=-1)


def divergence(model: Model, params, law, y: Array) -> Array:
    """E over z (and over y, where it is a distribution) of log p(z|x) - log b, in nats, (n,). Exact."""
    if model.prior == "backward" and model.task == "classes":
        # Every class in turn, weighted by its probability: for integers that is the one class.
        b = _law(model, encoders.linear(1).apply(params["prior"], jnp.eye(model.outputs, dtype=y.dtype)))
        return jnp.sum(y * _against(model, law, b, every=True), axis=1)
    if model.prior == "backward":
        return _against(model, law, _law(model, encoders.linear(1).apply(params["prior"], y)))
    width = 2 * model.latent if model.kind == "gaussian" else model.latent
    flat = params["prior"] if model.prior == "learned" else jnp.zeros(width, y.dtype)
    return _against(model, law, _law(model, flat[None]))


def terms(model: Model, params, x: Array, y: Array, noise: Array, key: Array) -> Terms:
    """The terms of L for each row, by `samples` draws of z where they are not closed forms.

    Args:
      model: what is fixed.
      params: parameters.
      x: inputs, (n, ...).
      y: label distributions (n, classes), or targets (n, k).
      noise: log p̃(y|x), (n, classes); for regression the log standard deviation of p̃ around y, ().
      key: random key.
    """
    law = encode(model, params, x)
    first = divergence(model, params, law, y)
    if model.task == "regression":
        square = _square_error(model, params, law, y, key)
        log_std = params["log_std"][None]
        entropy = jnp.sum(square * jnp.exp(-2 * log_std) + 2 * log_std + math.log(2 * math.pi), axis=1) / 2
        if model.objective != "dual":
            return Terms(first, entropy, jnp.zeros_like(first))
        ratio = 2 * (log_std - noise)
        return Terms(first, entropy, jnp.sum(square * jnp.exp(-2 * noise) + jnp.expm1(ratio) - ratio, axis=1) / 2)
    if model.kind == "categorical":
        p, log_q = jnp.exp(law), decode(model, params, jnp.eye(model.latent, dtype=x.dtype))
        entropy = -jnp.sum(p * (y @ log_q.T), axis=1)
        if model.objective != "dual":
            return Terms(first, entropy, jnp.zeros_like(first))
        q = jnp.exp(log_q)
        return Terms(first, entropy, jnp.sum(p * (jnp.sum(q * log_q, axis=1)[None] - noise @ q.T), axis=1))
    log_q = decode_samples(model, params, law, key, model.samples)
    entropy = -jnp.mean(jnp.sum(y[None] * log_q, axis=2), axis=0)
    if model.objective != "dual":
        return Terms(first, entropy, jnp.zeros_like(first))
    return Terms(first, entropy, jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - noise[None]), axis=2), axis=0))


def draw(law, key: Array, samples: int) -> Array:
    """Draws of a Gaussian Z, (samples, n, d)."""
    mean, log_std = law
    return mean[None] + jnp.exp(log_std)[None] * jax.random.normal(key, (samples, *mean.shape), mean.dtype)


def decode_samples(model: Model, params, law, key: Array, samples: int) -> Array:
    """The decoder at draws of a Gaussian Z, (samples, n, outputs)."""
    z = draw(law, key, samples)
    return decode(model, params, z.reshape(-1, model.latent)).reshape(samples, -1, model.outputs)


def _law(model, out):
    if model.kind == "categorical":
        return jax.nn.log_softmax(out)
    return out[:, : model.latent], out[:, model.latent :]


def _against(model, law, b, every=False):
    """Divergence of each row of `law` from its row of b, (n,); from every row, (n, rows)."""
    if model.kind == "categorical":
        log_b = b[None] if every else jnp.broadcast_to(b, law.shape)
        return categorical_divergence(law[:, None] if every else law, log_b)
    if every:
        return gaussian_divergence(law[0][:, None], law[1][:, None], b[0][None], b[1][None])
    return gaussian_divergence(*law, *(jnp.broadcast_to(each, law[0].shape) for each in b))


def _square_error(model, params, law, y, key):
    """E over z of (y - f(z))² for the decoder's mean f, (n, k)."""
    if model.kind == "categorical":
        means = decode(model, params, jnp.eye(model.latent, dtype=y.dtype))
        return jnp.sum(jnp.exp(law)[:, :, None] * (y[:, None] - means[None]) ** 2, axis=1)
    if model.exact:
        mean, log_std = law
        spread = jnp.exp(2 * log_std) @ params["decoder"][-1]["w"] ** 2
        return (y - decode(model, params, mean)) ** 2 + spread
    return jnp.mean((y[None] - decode_samples(model, params, law, key, model.samples)) ** 2, axis=0)
