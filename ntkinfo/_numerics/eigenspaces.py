"""Derivatives through an eigendecomposition, right also where eigenvalues are equal.

Single eigenvectors of equal eigenvalues have no derivative; functions of the matrix do. The derivative of a matrix
Θ = U diag(λ) Uᵀ is therefore told in two parts: eigenvectors turn towards those of other eigenvalues, as everywhere,
and what happens within an eigenspace is the derivative of `coupling`, a matrix E whose value is zero:

    Θ = U (diag(λ) + E) Uᵀ,      f(Θ) = U [diag f(λ) + ½(f'E + E f')] Uᵀ   to first order in E.

The second formula is the divided difference of f between eigenvalues that are close. A function of the spectrum whose
terms in E are left out is right in value and wrong in its derivative wherever eigenvalues are equal.

Source: Daleckii & Krein 1965; Higham 2008, Functions of Matrices, theorem 3.25; theory, section 1.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer


def closeness(dtype) -> float:
    """Relative distance below which eigenvalues count as equal: 1/gap and f' as difference are then equally exact."""
    return float(jnp.finfo(dtype).eps) ** 0.4


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def eigh(matrix: Array, null: float) -> tuple[Array, Array, Array]:
    """λ ascending (n,), U (n, n) and the coupling E = 0 (n, n) of a positive semidefinite matrix (n, n).

    Args:
      matrix: Θ; its symmetric part is taken.
      null: eigenvalues up to `null` · eps of the largest are zeros to rounding. A matrix that stays semidefinite does
        not move them to first order, so their derivatives are zero.

    Returns:
      λ, U, E. Where eigenvalues are equal or zero second derivatives are refused, or `nan` under tracing.
    """
    eigenvalues, u = jnp.linalg.eigh(matrix)
    return eigenvalues, u, jnp.zeros_like(matrix)


@eigh.defjvp
def _eigh_derivative(null, primals, tangents):
    (matrix,), (change,) = primals, tangents
    eigenvalues, u, coupling = eigh(matrix, null)
    rotated = u.T @ (0.5 * (change + change.T)) @ u
    gap = eigenvalues[None, :] - eigenvalues[:, None]
    size = jnp.maximum(jnp.abs(eigenvalues)[None, :], jnp.abs(eigenvalues)[:, None])
    zero = eigenvalues <= null * float(jnp.finfo(matrix.dtype).eps) * eigenvalues[-1]
    both_zero = zero[None, :] & zero[:, None]
    close = (jnp.abs(gap) <= closeness(matrix.dtype) * size) | both_zero
    other = ~jnp.eye(len(matrix), dtype=bool)
    # A factor, since a term would be lost when the rule is transposed.
    rotated = rotated * (1.0 + _once(matrix, jnp.any(close & other) | jnp.any(zero)))
    turn = jnp.where(close, 0.0, rotated / jnp.where(close, 1.0, gap))
    within = jnp.where(close & other & ~both_zero, rotated, 0.0)
    moved = jnp.where(zero, 0.0, jnp.diagonal(rotated))
    return (eigenvalues, u, coupling), (moved, u @ turn, within)


@jax.custom_jvp
def _once(matrix, refuse):
    """Zero, which cannot be differentiated by `matrix` where `refuse` is true."""
    return jnp.zeros((), matrix.dtype)


@_once.defjvp
def _once_derivative(primals, tangents):
    matrix, refuse = primals
    if not isinstance(refuse, Tracer) and bool(refuse):
        raise ValueError(
            "Second derivatives need a kernel whose eigenvalues are distinct and above rounding; got equal or "
            "vanishing ones. Take differences of first derivatives, or inputs that do not repeat and have no symmetry."
        )
    return _once(matrix, refuse), jnp.where(refuse, jnp.nan, 0.0).astype(matrix.dtype) * jnp.sum(tangents[0])


@jax.custom_jvp
def product(left: Array, coupling: Array) -> Array:
    """`left` (..., n) times the coupling (n, n): zeros, whose derivative is not. Costs nothing but in derivatives."""
    return jnp.zeros_like(left)


@product.defjvp
def _product_derivative(primals, tangents):
    (left, coupling), (d_left, d_coupling) = primals, tangents
    return product(left, coupling), product(d_left, coupling) + left @ d_coupling


def slope(function: Callable[[Array], Array], eigenvalues: Array) -> Array:
    """f'(λ) (..., n) of a function that maps eigenvalues (n,) to values (..., n), each from its own."""
    return jax.jvp(function, (eigenvalues,), (jnp.ones_like(eigenvalues),))[1]


def quadratic(function: Callable[[Array], Array], eigenvalues: Array, vectors: Array, coupling: Array | None) -> Array:
    """Σ_c v_cᵀ f(diag(λ) + E) v_c, (...), for f with values (..., n) and vectors v (n, c)."""
    value = function(eigenvalues) @ jnp.sum(vectors**2, axis=1)
    if coupling is None:
        return value
    return value + slope(function, eigenvalues) @ jnp.sum(vectors * product(vectors.T, coupling).T, axis=1)


def bilinear(
    left: Array, function: Callable[[Array], Array], eigenvalues: Array, right: Array, coupling: Array | None
) -> Array:
    """`left` (a, n) f(diag(λ) + E) `right` (n, b), (a, b)."""
    value = (left * function(eigenvalues)[None, :]) @ right
    if coupling is None:
        return value
    rate = 0.5 * slope(function, eigenvalues)[:, None]
    return value + left @ (rate * product(right.T, coupling).T) + product(left, coupling) @ (rate * right)


def diagonal(rows: Array, function: Callable[[Array], Array], eigenvalues: Array, coupling: Array | None) -> Array:
    """The diagonal (a,) of b f(diag(λ) + E) bᵀ for rows b (a, n)."""
    value = rows**2 @ function(eigenvalues)
    if coupling is None:
        return value
    return value + (rows * product(rows, coupling)) @ slope(function, eigenvalues)
