"""What a variational fit says of inputs: predictions, errors, bounds on the information in Z."""

import jax
import jax.numpy as jnp
from jax import Array

from ntkinfo.variational import _objectives
from ntkinfo.variational._objectives import Spec


def predict(spec: Spec, params, x, key, samples: int) -> Array:
    """The predictive q(y|x), (n, classes), or mean of y (n, k), averaged over draws of z."""
    return predict_encoded(spec, params, _objectives.encode(spec, params, x), key, samples)


def predict_encoded(spec: Spec, params, encoder_output, key, samples: int) -> Array:
    """`predict` of what `encode` has returned."""
    if spec.kind == "categorical":
        out = _objectives.decode(spec, params, jnp.eye(spec.latent, dtype=encoder_output.dtype))
        return jnp.exp(encoder_output) @ (jnp.exp(out) if spec.task == "classes" else out)
    out = _objectives.decode_samples(spec, params, encoder_output, key, samples)
    return jnp.mean(jnp.exp(out) if spec.task == "classes" else out, axis=0)


def errors(spec: Spec, params, encoder_output, y, key, samples: int = 4) -> Array:
    """Of each row the probability that the label is another than the likeliest; for regression the squared error."""
    guess = predict_encoded(spec, params, encoder_output, key, samples)
    if spec.task == "regression":
        return jnp.sum((guess - y) ** 2, axis=1)
    return 1 - jnp.take_along_axis(y, jnp.argmax(guess, axis=1)[:, None], axis=1)[:, 0]


def information(spec: Spec, encoder_output, key, rows: int) -> tuple[Array, Array, Array, Array]:
    """InfoNCE and leave-one-out of log p(z_i|x_j) on one batch, and their standard errors over its rows, in nats.

    The batch are the first so many rows of what `encode` has returned.

    Of a categorical Z the expectation over z is a sum, and so InfoNCE is the exact I(X;Z) for X uniform over the rows.
    """
    encoder_output = jax.tree.map(lambda part: part[:rows], encoder_output)
    first = jax.tree.leaves(encoder_output)[0]
    m, dtype = len(first), first.dtype
    if spec.kind == "categorical":
        lower, upper = _categorical_ratios(encoder_output)
    else:
        mean, log_std = encoder_output
        z = _objectives.draw(encoder_output, key, 1)[0]
        inverse, log_volume = jnp.exp(-log_std), jnp.sum(log_std, axis=1)

        def row(at):
            z_i, i = at
            scores = -(jnp.sum(((z_i[None] - mean) * inverse) ** 2, axis=1) / 2 + log_volume)
            others = jax.nn.logsumexp(jnp.where(jnp.arange(m) == i, -jnp.inf, scores))
            mixture = jnp.logaddexp(others, scores[i]) - jnp.log(jnp.asarray(m, dtype))
            return scores[i] - mixture, scores[i] - (others - jnp.log(jnp.asarray(m - 1, dtype)))

        lower, upper = jax.lax.map(row, (z, jnp.arange(m)))
    root = jnp.sqrt(jnp.asarray(m, dtype))
    return jnp.mean(lower), jnp.mean(upper), jnp.std(lower, ddof=1) / root, jnp.std(upper, ddof=1) / root


def _categorical_ratios(log_p: Array) -> tuple[Array, Array]:
    """Σ_z p(z|x_i) [log p(z|x_i) - log p(z)], p(z) the mean over all rows, and over all rows but row i, each (m,).

    Everything stays in logarithms: p(z) of a value that is never used underflows, and so does the mean over the others
    of one that row i has for itself.
    """
    m = len(log_p)
    mixture = jax.nn.logsumexp(log_p, axis=0)[None] - jnp.log(jnp.asarray(m, log_p.dtype))
    # Sums over the rows before and after row i: the row is left out without a difference.
    none = jnp.full_like(log_p[:1], -jnp.inf)
    before = jnp.concatenate([none, jax.lax.cumlogsumexp(log_p, axis=0)[:-1]])
    after = jnp.concatenate([jax.lax.cumlogsumexp(log_p, axis=0, reverse=True)[1:], none])
    left_out = jnp.logaddexp(before, after) - jnp.log(jnp.asarray(m - 1, log_p.dtype))
    p = jnp.exp(log_p)
    lower, upper = (jnp.sum(jnp.where(p > 0, p * (log_p - log_mean), 0), axis=1) for log_mean in (mixture, left_out))
    return lower, upper
