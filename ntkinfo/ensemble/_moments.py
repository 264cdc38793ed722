"""Means and covariances of an ensemble in the eigenbasis of its tangent kernel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels
from ntkinfo._numerics import spectral_filters

# Times whose covariances are computed from products held in memory at once.
_TIMES_TOGETHER = 8


class CrossKernels(NamedTuple):
    """What m test inputs contribute to predictions, in the eigenbasis of the training kernel.

    Made by `Ensemble.cross_kernels`; `ntkinfo.information.curve` takes it in the place of test inputs.

    Attributes:
      ntk: Θ_* U, (m, n).
      nngp: K_* U, (m, n).
      prior: K(x, x), (m,), or the matrix K_**, (m, m).
    """

    ntk: Array
    nngp: Array
    prior: Array


@jax.jit
def rotate(
    u: Float[Array, "n n"], cross: kernels.Kernels, prior: Float[ArrayLike, " m"] | Float[ArrayLike, "m m"]
) -> CrossKernels:
    """Kernels between test and training inputs (m, n) in the eigenbasis `u`, with the prior of the test inputs."""
    return CrossKernels(cross.ntk @ u, cross.nngp @ u, prior)


def means(
    functions: Float[Array, "T n"], vectors: Float[Array, "m n"], y_rotated: Float[Array, "n k"]
) -> Float[Array, "T m k"]:
    """Σ_i h_ti b_xi ỹ_ic, (T, m, k), one output at a time."""
    per_output = jax.lax.map(lambda column: functions @ (vectors * column[None, :]).T, y_rotated.T)
    return jnp.moveaxis(per_output, 0, -1)


def covariances(
    functions: Float[Array, "T n"],
    vectors: Float[Array, "m n"],
    nngp: Float[Array, "m n"] | None,
    prior: Float[Array, "m m"] | None,
    nngp_rotated: Float[Array, "n n"],
    then: Callable[[Array, Array], Any],
    basis: Float[Array, "T r"] | None = None,
) -> Any:
    """`then(index, Σ)` for the covariance Σ (m, m) of each time in turn, stacked.

    Σ = K_** + b K̃ bᵀ - b Cᵀ - C bᵀ with b_xi = `functions`_ti `vectors`_xi, C = `nngp` and K_** = `prior`; without the
    last two, b K̃ bᵀ alone. With a `basis` (T, r) of the functions the products with K̃ are r instead of T, and held
    in memory.
    """
    columns = spectral_filters.symmetric_half(nngp_rotated)

    def covariance(index, h, left):
        # One product and its transpose: exactly symmetric at half the flops.
        half = (left if nngp is None else left - nngp) @ (vectors * h[None, :]).T
        return then(index, half + half.T if prior is None else prior + half + half.T)

    def at_time(item):
        index, h = item
        return covariance(index, h, spectral_filters.half_matmul(vectors * h[None, :], columns))

    indices = jnp.arange(len(functions))
    if basis is None:
        return jax.lax.map(at_time, (indices, functions))
    few = jnp.matmul(basis.T, functions)
    products = jax.lax.map(lambda h: spectral_filters.half_matmul(vectors * h[None, :], columns), few)

    def at_times(chunk):
        # Several times together: each reading of the products is worth that many times as much work.
        index, h, weights = chunk
        return jax.lax.map(lambda item: covariance(*item), (index, h, jnp.tensordot(weights, products, axes=1)))

    extra = -len(functions) % _TIMES_TOGETHER
    padded = (jnp.pad(a, [(0, extra)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in (indices, functions, basis))
    chunks = tuple(a.reshape(-1, _TIMES_TOGETHER, *a.shape[1:]) for a in padded)
    results = jax.lax.map(at_times, chunks)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(functions)], results)
