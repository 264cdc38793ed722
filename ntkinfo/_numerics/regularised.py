"""Products with (Q + σ²I)⁻¹ and its determinant, by a Cholesky factor found before.

Values come from the factor alone; derivatives are those of Q and σ², whatever the factor depended on when it was made.
A third of the flops of a matrix product find it, where an eigendecomposition takes some ten products.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array

from ntkinfo._numerics import padding, spectrum

# The condition number of Q + σ²I stays below 1/(4 √eps): solutions then keep more than half of the digits, and no
# predictive variance, σ²/(λ + σ²) of the prior at least, is lost in its rounding.
_CONDITION = 4.0


def factorise(q: Array, noise: Array, *, semidefinite: bool) -> tuple[Array, bool]:
    """The lower Cholesky factor L (n, n) of Q + σ²I, of known arrays, and whether it can be used.

    Args:
      q: a symmetric matrix, (n, n).
      noise: σ², positive.
      semidefinite: whether Q is known to be semidefinite but for rounding; else a second factor, of Q + δI with δ no
        more than the rounding error allowed, has to prove it.

    Returns:
      L, and whether Q + σ²I is well conditioned and Q semidefinite. False proves nothing: its eigenvalues say more.
    """
    on_host = padding.on_host(q)
    array, lower = (np.asarray(q), _lower_on_host) if on_host else (q, _lower)
    trace, eps = float(array.trace()), float(jnp.finfo(q.dtype).eps)
    if not float(noise) >= _CONDITION * eps**0.5 * trace:
        return q, False
    if not semidefinite:
        # Σλ²/Σλ is never above the largest eigenvalue of a semidefinite matrix.
        largest = float((array * array).sum()) / trace
        if lower(array, spectrum.INDEFINITE_FACTOR * eps * len(q) ** 0.5 * largest) is None:
            return q, False
    found = lower(array, float(noise))
    return (q, False) if found is None else (jnp.asarray(found), True)


def _lower(q, shift):
    lower = _jitted_lower(q, shift)
    return lower if bool(jnp.all(jnp.isfinite(jnp.diagonal(lower)))) else None


@jax.jit
def _jitted_lower(q, shift):
    return jax.lax.linalg.cholesky(q + shift * jnp.eye(len(q), dtype=q.dtype), symmetrize_input=False)


def _lower_on_host(q, shift):
    """By LAPACK where the array lies: XLA would transpose the matrix before and after."""
    shifted = np.array(q)
    shifted.flat[:: len(q) + 1] += shift
    (factorise,) = scipy.linalg.get_lapack_funcs(("potrf",), (shifted,))
    # The upper triangle by columns is the lower one by rows.
    upper, failed = factorise(shifted.T, lower=False, clean=True, overwrite_a=True)
    return None if failed or not np.isfinite(upper.diagonal()).all() else upper.T


def explained_on_host(joint: bool, lower: Array, rows: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """`explained` of known arrays on the host, at half the time."""
    (triangular,) = scipy.linalg.get_blas_funcs(("trsm",), (np.asarray(lower),))
    right = np.concatenate([np.asarray(rows), np.asarray(labels).T]).T
    both = triangular(1.0, np.asarray(lower).T, right, trans_a=True, overwrite_b=True).T
    half, half_labels = both[: len(rows)], both[len(rows) :]
    return half @ half_labels.T, half @ half.T if joint else np.sum(half * half, axis=1)


def _half(lower: Array, b: Array) -> Array:
    """L⁻¹b, (n, m)."""
    return jax.lax.linalg.triangular_solve(lower, b, left_side=True, lower=True)


@jax.custom_jvp
def solve(lower: Array, q: Array, noise: Array, b: Array) -> Array:
    """(Q + σ²I)⁻¹b for b (n, m)."""
    return jax.lax.linalg.triangular_solve(lower, _half(lower, b), left_side=True, lower=True, transpose_a=True)


@solve.defjvp
def _solve_derivative(primals, tangents):
    lower, q, noise, b = primals
    _, dq, d_noise, db = tangents
    x = solve(lower, q, noise, b)
    return x, solve(lower, q, noise, db - dq @ x - d_noise * x)


@jax.custom_jvp
def log_determinant(lower: Array, q: Array, noise: Array) -> Array:
    """log det(Q + σ²I)."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))


@log_determinant.defjvp
def _log_determinant_derivative(primals, tangents):
    lower, q, noise = primals
    _, dq, d_noise = tangents
    inverse = solve(lower, q, noise, jnp.eye(len(q), dtype=q.dtype))
    return log_determinant(*primals), jnp.sum(inverse * dq) + d_noise * jnp.trace(inverse)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def explained(joint: bool, lower: Array, q: Array, noise: Array, rows: Array, labels: Array) -> tuple[Array, Array]:
    """b (Q + σ²I)⁻¹ y and b (Q + σ²I)⁻¹ bᵀ for rows b (m, n) and labels y (n, k).

    Returns:
      (m, k), and the matrix (m, m) if `joint`, else its diagonal (m,).
    """
    both = _half(lower, jnp.concatenate([rows.T, labels], axis=1))
    half, half_labels = both[:, : len(rows)], both[:, len(rows) :]
    return half.T @ half_labels, half.T @ half if joint else jnp.sum(half**2, axis=0)


@explained.defjvp
def _explained_derivative(joint, primals, tangents):
    lower, q, noise, rows, labels = primals
    _, dq, d_noise, d_rows, d_labels = tangents
    weights = solve(lower, q, noise, rows.T).T
    turned = weights @ dq + d_noise * weights
    mean = (d_rows - turned) @ solve(lower, q, noise, labels) + weights @ d_labels
    moved = d_rows - 0.5 * turned
    if joint:
        one = moved @ weights.T
        return explained(joint, *primals), (mean, one + one.T)
    return explained(joint, *primals), (mean, 2 * jnp.sum(moved * weights, axis=1))


@jax.custom_jvp
def quadratic(lower: Array, q: Array, noise: Array, labels: Array) -> Array:
    """Σ_c y_cᵀ(Q + σ²I)⁻¹y_c for labels y (n, k)."""
    return jnp.sum(_half(lower, labels) ** 2)


@quadratic.defjvp
def _quadratic_derivative(primals, tangents):
    lower, q, noise, labels = primals
    _, dq, d_noise, d_labels = tangents
    weights = solve(lower, q, noise, labels)
    moved = d_labels - 0.5 * (dq @ weights + d_noise * weights)
    return quadratic(*primals), 2 * jnp.sum(weights * moved)
