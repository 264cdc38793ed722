"""The part of a divergence between Gaussians that their variances make."""

import jax.numpy as jnp


def excess(variance, reference):
    """r - 1 - log r for r = variance/reference, not negative: to rounding also near r = 1 and for r that vanish."""
    relative = (variance - reference) / reference
    # log1p keeps divergences between nearly equal variances accurate; far below the reference it would be log 0.
    near = relative > -0.5
    log_ratio = jnp.where(near, jnp.log1p(jnp.where(near, relative, 0.0)), jnp.log(variance) - jnp.log(reference))
    return relative - log_ratio
