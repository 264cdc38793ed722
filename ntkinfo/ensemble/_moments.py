"""Means and covariances of an ensemble in the eigenbasis of its tangent kernel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels
from ntkinfo._common import compiling, tables, tracing
from ntkinfo._numerics import eigenspaces, padding, spectral_filters
from ntkinfo._numerics import variances as numerics

# Times whose covariances are computed from products held in memory at once.
_TIMES_TOGETHER = 8


def rescaled_time(t: Num[ArrayLike, "*T"], nk: int, dtype: Any) -> Float[Array, "*T"]:
    """s = t / (n k) in a dtype, of a product nk: divided in float64 where times are known."""
    if tracing.is_known(t):
        return jnp.asarray(np.asarray(t, np.float64) / nk, dtype)
    return jnp.asarray(t, dtype) / nk


class CrossKernels(NamedTuple):
    """What m test inputs contribute to predictions, in the eigenbasis of the training kernel.

    Made by `Ensemble.cross_kernels`; `ntkinfo.information.curve` takes it in the place of test inputs.

    Attributes:
      ntk: Θ_* U, (m, n).
      nngp: K_* U, (m, n).
      prior: K(x, x), (m,), or the matrix K_**, (m, m).
      offset: the mean before training, (m, k); None where it is zero.
    """

    ntk: Array
    nngp: Array
    prior: Array
    offset: Array | None = None

    __repr__ = tables.one_line
    _repr_html_ = tables.html


class Coupled(NamedTuple):
    """What rows a f_t(diag(λ) + E) have besides a f_t(λ): zero in value, their derivative within eigenspaces.

    Attributes:
      coupling: E, (n, n), see `ntkinfo._numerics.eigenspaces`.
      rows: a, (m, n).
      rows_coupled: a E, (m, n).
      slopes: f_t'(λ), (T, n).
      lost: parts of a along null directions, zero in value, (m, n).
      limits: f_t at λ → 0 along these, (T,).
    """

    coupling: Array
    rows: Array
    rows_coupled: Array
    slopes: Array
    lost: Array
    limits: Array

    @property
    def times(self) -> tuple[Array, Array]:
        """What depends on time, with leading axes (T, ...)."""
        return self.slopes, self.limits

    def at(self, slope: Float[Array, " n"], limit: Float[Array, ""]) -> Float[Array, "m n"]:
        """The rows (m, n) at one of `times`."""
        within = eigenspaces.product(self.rows * slope[None, :], self.coupling) + self.rows_coupled * slope[None, :]
        return 0.5 * within + self.lost * limit


def coupled(
    rows: Float[Array, "m n"],
    function: Callable[[Array], Array],
    eigenvalues: Float[Array, " n"],
    coupling: Float[Array, "n n"] | None,
    limits: Float[Array, " T"],
) -> Coupled | None:
    """The `Coupled` part of rows a f_t(diag(λ) + E), f with values (T, n); None without a coupling.

    Null directions never move, f = 0, and test inputs have no part in them. Where a derivative leads out of that, f
    has the limit of small λ: `limits`, taken as 0 where infinite.
    """
    if coupling is None:
        return None
    lost = jnp.where(eigenvalues[None, :] > 0, 0.0, rows - jax.lax.stop_gradient(rows))
    slopes = eigenspaces.slope(function, eigenvalues)
    limits = jnp.where(jnp.isinf(limits), 0.0, limits)
    return Coupled(coupling, rows, eigenspaces.product(rows, coupling), slopes, lost, limits)


def rotate(
    u: Float[Array, "n n"], cross: kernels.Kernels, prior: Float[Array, " m"] | Float[Array, "m m"]
) -> CrossKernels:
    """Kernels between test and training inputs (m, n) in the eigenbasis `u`, with the prior of the test inputs."""
    pair, prior = (cross.ntk, cross.nngp), jnp.asarray(prior)
    m, n = pair[0].shape
    if max(m, n) <= padding.SMALL:
        return CrossKernels(*_rotated_small(u, *pair), prior)
    if m > padding.SMALL or not tracing.is_known(u, pair):
        return CrossKernels(*_rotated(u, *pair), prior)
    # Filled up, so that other numbers of test inputs share the program.
    full = padding.near(m)
    rotated = _rotated(u, *(padding.fill(part, (full, n)) for part in pair))
    return CrossKernels(*(padding.cut(part, (m, n)) for part in rotated), prior)


@compiling.jit
def _rotated(u, ntk, nngp):
    return ntk @ u, nngp @ u


@compiling.on_host
def _rotated_small(xp, u, ntk, nngp):
    return ntk @ u, nngp @ u


def means(
    functions: Float[Array, "T n"],
    vectors: Float[Array, "m n"],
    y_rotated: Float[Array, "n k"],
    extra: Coupled | None = None,
) -> Float[Array, "T m k"]:
    """Σ_i h_ti b_xi ỹ_ic, (T, m, k), one output at a time."""
    per_output = jax.lax.map(lambda column: functions @ (vectors * column[None, :]).T, y_rotated.T)
    value = jnp.moveaxis(per_output, 0, -1)
    if extra is None:
        return value
    return value + jax.lax.map(lambda time: extra.at(*time) @ y_rotated, extra.times)


def variances(
    functions: Float[Array, "T n"],
    vectors: Float[Array, "m n"],
    nngp: Float[Array, "m n"] | None,
    prior: Float[Array, " m"] | None,
    nngp_rotated: Float[Array, "n n"],
    basis: Float[Array, "T r"] | spectral_filters.PartedBasis | None = None,
    extra: Coupled | None = None,
) -> Float[Array, "T m"]:
    """The diagonals (T, m) of `covariances`, whose arguments these are, at a fraction of their cost.

    Those below their rounding error are 0.
    """
    error = rounding_errors(functions, vectors, prior, nngp_rotated)
    own = jnp.zeros(len(vectors), vectors.dtype) if prior is None else prior
    if extra is None:
        value = spectral_filters.quadratic_forms(vectors, functions, nngp_rotated, basis)
        if nngp is not None:
            # The same functions in both terms: their sum is then the variance of a predictor, which is not negative.
            if isinstance(basis, spectral_filters.PartedBasis):
                spanned = basis.spanned(functions)
            else:
                spanned = functions if basis is None else basis @ (basis.T @ functions)
            value = own[None, :] + value - 2 * spanned @ (vectors * nngp).T
        return numerics.resolved(value, error)
    columns = spectral_filters.symmetric_half(nngp_rotated)

    def at_time(item):
        h, time = item
        rows = vectors * h[None, :] + extra.at(*time)
        half = spectral_filters.half_matmul(rows, columns)
        return 2 * jnp.sum((half if nngp is None else half - nngp) * rows, axis=1)

    return numerics.resolved(own[None, :] + jax.lax.map(at_time, (functions, extra.times)), error)


def rounding_errors(
    functions: Float[Array, "T n"],
    vectors: Float[Array, "m n"],
    prior: Float[Array, " m"] | None,
    nngp_rotated: Float[Array, "n n"],
) -> Float[Array, "T m"]:
    """Rounding errors (T, m) of `variances`; constants under differentiation."""
    functions, vectors, prior, own = jax.lax.stop_gradient((functions, vectors, prior, jnp.diagonal(nngp_rotated)))
    stds = jnp.sqrt(jnp.maximum(own, 0.0))
    explained = functions @ (jnp.abs(vectors) * stds[None, :]).T
    if prior is not None:
        return numerics.rounding(prior[None, :], explained)
    # No prior to cancel against: what is left is the rounding of K̃ itself, whose small entries are sums of large ones.
    return numerics.rounding(jnp.max(own) * (functions**2 @ (vectors**2).T), explained)


def covariances(
    functions: Float[Array, "T n"],
    vectors: Float[Array, "m n"],
    nngp: Float[Array, "m n"] | None,
    prior: Float[Array, "m m"] | None,
    nngp_rotated: Float[Array, "n n"],
    then: Callable[[Array, Array], Any],
    basis: Float[Array, "T r"] | spectral_filters.PartedBasis | None = None,
    extra: Coupled | None = None,
) -> Any:
    """`then(index, Σ)` for the covariance Σ (m, m) of each time in turn, stacked.

    Σ = K_** + b K̃ bᵀ - b Cᵀ - C bᵀ with b_xi = `functions`_ti `vectors`_xi, C = `nngp` and K_** = `prior`; without the
    last two, b K̃ bᵀ alone. The diagonal is that of `variances`. With a `basis` (T, r) of the functions the products
    with K̃ are r instead of T, and held in memory; it goes without `extra`, what the rows b of each time have besides.
    """
    columns = spectral_filters.symmetric_half(nngp_rotated)
    own = None if prior is None else jnp.diagonal(prior)
    errors = rounding_errors(functions, vectors, own, nngp_rotated)

    def covariance(index, rows, left):
        # One product and its transpose: exactly symmetric at half the flops.
        half = (left if nngp is None else left - nngp) @ rows.T
        value = half + half.T if prior is None else prior + half + half.T
        return then(index, numerics.resolved_covariance(value, errors[index]))

    def at_time(item):
        index, h, time = item
        rows = vectors * h[None, :]
        if extra is not None:
            rows = rows + extra.at(*time)
        return covariance(index, rows, spectral_filters.half_matmul(rows, columns))

    indices = jnp.arange(len(functions))
    if basis is None:
        return jax.lax.map(at_time, (indices, functions, None if extra is None else extra.times))
    if isinstance(basis, spectral_filters.PartedBasis):
        products = spectral_filters.parted_products(vectors, functions, nngp_rotated, basis)
        basis = basis.whole
    else:
        few = jnp.matmul(basis.T, functions)
        products = jax.lax.map(lambda h: spectral_filters.half_matmul(vectors * h[None, :], columns), few)

    def at_times(chunk):
        # Several times together: each reading of the products is worth that many times as much work.
        index, h, weights = chunk
        items = (index, h, jnp.tensordot(weights, products, axes=1))
        return jax.lax.map(lambda item: covariance(item[0], vectors * item[1][None, :], item[2]), items)

    missing = -len(functions) % _TIMES_TOGETHER
    padded = (jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in (indices, functions, basis))
    chunks = tuple(a.reshape(-1, _TIMES_TOGETHER, *a.shape[1:]) for a in padded)
    results = jax.lax.map(at_times, chunks)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(functions)], results)
