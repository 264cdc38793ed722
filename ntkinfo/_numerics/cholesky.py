"""Cholesky factors that say where they are lost in rounding."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float


def cholesky(covariance: Float[jax.Array | np.ndarray, "m m"]) -> Float[jax.Array | np.ndarray, "m m"]:
    """Cholesky factor of one covariance; `nan` where a pivot is lost in rounding. NumPy in, NumPy out; else JAX.

    Example:
      >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
      [[2.0, 0.0], [1.0, 2.0]]
    """
    xp = np if isinstance(covariance, np.ndarray) else jnp
    try:
        factor = xp.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return np.full_like(covariance, np.nan)
    # A pivot below rounding is noise: its logarithm would be a number without meaning.
    pivots = xp.diagonal(factor) ** 2 / xp.diagonal(covariance)
    floor = covariance.shape[0] * float(jnp.finfo(covariance.dtype).eps)
    return xp.where(xp.all(pivots > floor), factor, xp.nan).astype(covariance.dtype)
