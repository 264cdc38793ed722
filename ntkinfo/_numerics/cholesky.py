"""Cholesky factors that say where they are lost in rounding."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def cholesky(covariance: Float[jax.Array, "m m"]) -> Float[jax.Array, "m m"]:
    """Cholesky factor of one covariance; `nan` where a pivot is lost in rounding.

    Example:
      >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
      [[2.0, 0.0], [1.0, 2.0]]
    """
    factor = jnp.linalg.cholesky(covariance)
    # A pivot below rounding is noise: its logarithm would be a number without meaning.
    pivots = jnp.diagonal(factor) ** 2 / jnp.diagonal(covariance)
    floor = covariance.shape[0] * float(jnp.finfo(covariance.dtype).eps)
    return jnp.where(jnp.all(pivots > floor), factor, jnp.nan)
