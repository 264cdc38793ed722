"""What a variational fit says of inputs: predictions, errors, bounds on the information in Z."""

import jax
import jax.numpy as jnp
from jax import Array

from ntkinfo.variational import _objectives
from ntkinfo.variational._objectives import Model


def predict(model: Model, params, x, key, samples: int):
    """The predictive q(y|x), (n, classes), or mean of y (n, k), averaged over draws of z."""
    law = _objectives.encode(model, params, x)
    if model.kind == "categorical":
        out = _objectives.decode(model, params, jnp.eye(model.latent, dtype=x.dtype))
        return jnp.exp(law) @ (jnp.exp(out) if model.task == "classes" else out)
    out = _objectives.decode_samples(model, params, law, key, samples)
    return jnp.mean(jnp.exp(out) if model.task == "classes" else out, axis=0)


def errors(model: Model, params, x, y, key, samples: int = 4):
    """Of each row the probability that the label is another than the likeliest; for regression the squared error."""
    guess = predict(model, params, x, key, samples)
    if model.task == "regression":
        return jnp.sum((guess - y) ** 2, axis=1)
    return 1 - jnp.take_along_axis(y, jnp.argmax(guess, axis=1)[:, None], axis=1)[:, 0]


def information(model: Model, params, x, key) -> tuple[Array, Array, Array, Array]:
    """InfoNCE and leave-one-out of log p(z_i|x_j) on one batch, and their standard errors over its rows, in nats.

    Of a categorical Z the expectation over z is a sum, and so InfoNCE is the exact I(X;Z) for X uniform over the rows.
    """
    law, m = _objectives.encode(model, params, x), len(x)
    if model.kind == "categorical":
        p = jnp.exp(law)
        others = jnp.log(jnp.sum(p, axis=0)[None] - p) - jnp.log(jnp.asarray(m - 1, x.dtype))
        average = jnp.log(jnp.mean(p, axis=0))[None]
        lower, upper = (jnp.sum(p * (law - each), axis=1) for each in (average, others))
    else:
        z = _objectives.draw(law, key, 1)[0]

        def row(at):
            z_i, i = at
            gap = (z_i[None] - law[0]) * jnp.exp(-law[1])
            scores = -jnp.sum(gap**2 / 2 + law[1], axis=1)
            mixed = jax.nn.logsumexp(scores) - jnp.log(jnp.asarray(m, x.dtype))
            rest = jnp.where(jnp.arange(m) == i, -jnp.inf, scores)
            alone = jax.nn.logsumexp(rest) - jnp.log(jnp.asarray(m - 1, x.dtype))
            return scores[i] - mixed, scores[i] - alone

        lower, upper = jax.lax.map(row, (z, jnp.arange(m)))
    root = jnp.sqrt(jnp.asarray(m, x.dtype))
    spread = [jnp.std(each, ddof=1) / root for each in (lower, upper)]
    return jnp.mean(lower), jnp.mean(upper), spread[0], spread[1]
