"""Gradient flow in the eigenbasis of the tangent kernel: the algebra shared by all times of training.

With Θ = U diag(λ) Uᵀ, every time enters through the n numbers 1 - e^{-sλ} alone. As functions of λ those of many
times are numerically few, so the variances of any number of times cost what a few dozen cost.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# K̃ is symmetric: this many block columns, of which only the part on and above the diagonal is multiplied.
BLOCKS = 8
# Up to this many times are computed one by one; below it an expansion in few functions saves nothing.
FEW_TIMES = 32
# Functions of time below this share of the largest are left out. By Cauchy-Schwarz a mode of eigenvalue λ enters a
# variance with weight at most √(λ Θ(x, x)), so the error in a variance is this share of Θ(x, x) per function.
_TOLERANCE = {"float64": 1e-11, "float32": 1e-7}
# The same where determinants are taken: they see the smallest eigenvalue of a covariance.
_FINE_TOLERANCE = {"float64": 1e-15, "float32": 1e-8}
# Samples per e-fold of λ. 12 hold the expansion to 3e-10 over nine decades of time, 24 to rounding.
_SAMPLES, _FINE_SAMPLES = 12, 24


class Filters(NamedTuple):
    """Functions of the spectrum at rescaled times s (T,): what every quantity of training is a weighted sum of.

    Attributes:
      s: rescaled times, (T,).
      rates: λ, (n,).
      pseudo_inverse: 1/λ, and 0 where λ = 0, (n,).
      growth: 1 - e^{-sλ}, (T, n).
      decay: e^{-sλ}, (T, n).
      growth_twice: 1 - e^{-2sλ}, (T, n).
    """

    s: Array
    rates: Array
    pseudo_inverse: Array
    growth: Array
    decay: Array
    growth_twice: Array


# One program where a call outside of others would compile one for every operation.
@functools.partial(jax.jit, inline=True)
def filters(eigenvalues: Array, s: Array) -> Filters:
    """The spectral filters of eigenvalues λ (n,) at rescaled times s (T,)."""
    return Filters(
        s,
        eigenvalues,
        pseudo_inverse(eigenvalues),
        growth(eigenvalues, s),
        decay(eigenvalues, s),
        growth(eigenvalues, 2 * s),
    )


def exponents(eigenvalues: Array, s: Array) -> tuple[Array, Array]:
    """Which eigenvalues are positive, (1, n), and sλ, (T, n), for rescaled times s (T,); for null ones s itself."""
    positive = eigenvalues > 0
    return positive[None, :], s[:, None] * jnp.where(positive, eigenvalues, 1.0)[None, :]


def growth(eigenvalues: Array, s: Array) -> Array:
    """1 - e^{-sλ}, (T, n), for rescaled times s (T,); 0 where λ = 0, also at s = ∞."""
    positive, ended, exponent = _finite_exponents(eigenvalues, s)
    return jnp.where(positive, jnp.where(ended, 1.0, -jnp.expm1(-exponent)), 0.0)


def decay(eigenvalues: Array, s: Array) -> Array:
    """e^{-sλ}, (T, n), for rescaled times s (T,); 1 where λ = 0, also at s = ∞."""
    positive, ended, exponent = _finite_exponents(eigenvalues, s)
    return jnp.where(positive, jnp.where(ended, 0.0, jnp.exp(-exponent)), 1.0)


def _finite_exponents(eigenvalues: Array, s: Array) -> tuple[Array, Array, Array]:
    """`exponents` with 0 for those at s = ∞, whose derivatives would be infinity times zero, and which these are."""
    ended = jnp.isinf(s)
    positive, exponent = exponents(eigenvalues, jnp.where(ended, 0.0, s))
    return positive, ended[:, None], exponent


def pseudo_inverse(eigenvalues: Array) -> Array:
    """1/λ, and 0 where λ = 0, since flow never moves along null directions."""
    positive = eigenvalues > 0
    return jnp.where(positive, 1.0 / jnp.where(positive, eigenvalues, 1.0), 0.0)


def reach(eigenvalues: Array, s: Array) -> Array:
    """(1 - e^{-sλ})/λ, (T, n), for rescaled times s (T,); 0 where λ = 0."""
    return growth(eigenvalues, s) * pseudo_inverse(eigenvalues)[None, :]


def time_basis(eigenvalues: np.ndarray, s: np.ndarray, *, fine: bool = False) -> np.ndarray:
    """An orthonormal basis (T, r) over times in which every function λ ↦ (1 - e^{-s_t λ})_t lies, to rounding.

    On the host, since its width r depends on the values. Found from samples in λ that are dense on a log scale, in
    which the functions are analytic; nine decades of time need about 70, or 90 if `fine`, down to rounding.
    """
    positive = eigenvalues[eigenvalues > 0]
    if positive.size == 0:
        return np.zeros((len(s), 1), s.dtype)
    density, tolerances = (_FINE_SAMPLES, _FINE_TOLERANCE) if fine else (_SAMPLES, _TOLERANCE)
    low, high = np.log(positive.min()), np.log(positive.max())
    samples = np.exp(np.linspace(low, high, int(density * (high - low)) + 16))
    functions = -np.expm1(-s.astype(np.float64)[:, None] * samples[None, :].astype(np.float64))
    left, weight, _ = np.linalg.svd(functions, full_matrices=False)
    tolerance = tolerances[str(eigenvalues.dtype)]
    kept = max(1, int(np.sum(weight > tolerance * weight[0])))
    # A multiple of eight: neighbouring problems then share one compiled program.
    kept = min(-(-kept // 8) * 8, left.shape[1])
    return left[:, :kept].astype(s.dtype)


def symmetric_half(nngp_rotated: Array) -> list[Array]:
    """The block columns of a matrix W with W + Wᵀ = K̃, each down to the diagonal only.

    Multiplying by them costs a little more than half of a multiplication by K̃.
    """
    n = len(nngp_rotated)
    edges = [n * i // BLOCKS for i in range(BLOCKS + 1)]
    return [
        jnp.concatenate([nngp_rotated[:start, start:stop], 0.5 * nngp_rotated[start:stop, start:stop]])
        for start, stop in itertools.pairwise(edges)
        if stop > start
    ]


def half_matmul(vectors: Array, columns: list[Array]) -> Array:
    """`vectors` (..., n) times the matrix W of `symmetric_half`, (..., n)."""
    return jnp.concatenate([vectors[..., : len(column)] @ column for column in columns], axis=-1)


def quadratic_forms(vectors: Array, functions: Array, nngp_rotated: Array, basis: Array | None = None) -> Array:
    """The sums Σ_ij h_ti b_xi K̃_ij b_xj h_tj for all times t and points x.

    Args:
      vectors: b, (m, n).
      functions: h, (T, n).
      nngp_rotated: K̃ = UᵀKU, (n, n), symmetric.
      basis: orthonormal columns (T, r) that span `functions`, or None to take the times one by one. Gradients with
        respect to times are right only without it.

    Returns:
      (T, m).

    Cost: about m r n² flops (1.1 times that), r the number of times or of basis functions; the working set stays
    below one n × n matrix.
    """
    columns = symmetric_half(nngp_rotated)
    few = functions if basis is None else jnp.matmul(basis.T, functions)
    n, r = vectors.shape[1], few.shape[0]
    m = len(vectors)
    chunk = max(1, min(m, n // (4 * r)))

    def of_points(b):
        scaled = b[:, None, :] * few[None, :, :]
        product = half_matmul(scaled.reshape(-1, n), columns).reshape(scaled.shape)
        if basis is None:
            return 2 * jnp.sum(product * scaled, axis=-1)
        gram = jnp.einsum("cri,cqi->crq", product, scaled)
        return 2 * jnp.einsum("tr,crq,tq->ct", basis, gram, basis, optimize=[(0, 1), (0, 1)])

    padded = jnp.pad(vectors, ((0, -m % chunk), (0, 0)))
    values = jax.lax.map(of_points, padded.reshape(-1, chunk, n))
    return values.reshape(-1, len(functions))[:m].T
