"""The distortions of the bottleneck and of its dual, and the decoders that minimise their means."""

import jax
import jax.numpy as jnp
from jax import Array


def distortion(rows, decoders, dual: bool = False) -> Array:
    """d(x, z) in nats, (x, z): D[p(y|x) || s_z], or D[s_z || p(y|x)] for the dual; 0 log 0 = 0.

    Args:
      rows: (x, y) p(y|x); positive for the dual.
      decoders: (z, y) s_z = p(y|z).
      dual: which way round.

    Returns:
      (x, z). Infinite where a decoder excludes a label that its input has.

    Source: theory, sections 7 and 8.
    """
    first, second = (decoders, rows) if dual else (rows, decoders)
    known = second > 0
    # Two matrix products instead of an array (x, z, y).
    logs = jnp.log(jnp.where(known, second, jnp.ones_like(second)))
    own = jnp.sum(jnp.where(first > 0, first * jnp.log(jnp.where(first > 0, first, 1)), 0), axis=1)
    finite = own[:, None] - first @ logs.T
    pairs = jnp.where(first @ (~known).astype(first.dtype).T > 0, jnp.inf, finite)
    return jnp.transpose(pairs) if dual else pairs


def decode(weights, rows, dual: bool = False) -> Array:
    """The decoders (z, y) that minimise Σ_x p(x|z) d(x, z): the mean of p(y|x), or its normalised geometric mean.

    Args:
      weights: (z, x) p(x|z).
      rows: (x, y) p(y|x); positive for the dual.
      dual: the geometric mean.

    Returns:
      (z, y), rows summing to one.

    Source: theory, sections 7 and 8.
    """
    return jax.nn.softmax(weights @ jnp.log(rows), axis=-1) if dual else weights @ rows
