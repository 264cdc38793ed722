"""Predictive variances to their rounding error: what is below it is 0, and known to be no more than that.

A predictive variance Σ(x) = E(f(x) - a·f)² is the small rest of a large prior variance where f(x) is all but known.
"""

import jax
import jax.numpy as jnp
from jax import Array


def rounding(prior: Array, explained: Array) -> Array:
    """The rounding error of variances (...), from K(x, x) and `explained`, Σ_i |a_i| std(f_i).

    eps (√K(x, x) + Σ_i |a_i| std(f_i))²: a variance is what cancellation leaves of terms as large as that.

    Source: theory, section 1.
    """
    return float(jnp.finfo(prior.dtype).eps) * (jnp.sqrt(prior) + explained) ** 2


def resolved(variance: Array, error: Array) -> Array:
    """Variances (...) with 0 for those up to their rounding error, of either sign; derivatives stay.

    What is negative beyond any rounding stays as it is: its kernel is no covariance.
    """
    impossible = -error / jnp.sqrt(float(jnp.finfo(variance.dtype).eps))
    lost = (variance <= error) & (variance >= impossible)
    return jnp.where(lost, variance - jax.lax.stop_gradient(variance), variance)


def resolved_covariance(covariance: Array, error: Array) -> Array:
    """A covariance (m, m) with `resolved` variances: a function known at a point varies with none there.

    Derivatives stay.
    """
    variance = resolved(jnp.diagonal(covariance), error)
    known = variance == 0
    rest = jnp.where(known[:, None] | known[None, :], covariance - jax.lax.stop_gradient(covariance), covariance)
    return jnp.where(jnp.eye(len(variance), dtype=bool), variance[None, :], rest)
