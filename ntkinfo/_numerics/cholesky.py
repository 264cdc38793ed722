"""Cholesky factors that say where they are lost in rounding."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def cholesky(covariance: Float[jax.Array, "m m"]) -> Float[jax.Array, "m m"]:
    """Cholesky factor of one covariance; `nan` where a pivot is lost in rounding."""
    factor = jnp.linalg.cholesky(covariance)
    # A pivot below rounding is noise: its logarithm would be a number without meaning.
    pivots = jnp.diagonal(factor) ** 2 / jnp.diagonal(covariance)
    floor = covariance.shape[0] * float(jnp.finfo(covariance.dtype).eps)
    return jnp.where(jnp.all(pivots > floor), factor, jnp.nan)
