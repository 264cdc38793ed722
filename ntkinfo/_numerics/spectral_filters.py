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
# Numbers that a processor keeps at hand.
_CACHED_ENTRIES = 2**19
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


class PartedBasis(NamedTuple):
    """A basis over times, and of its span what a block of neighbouring eigenvalues needs: far fewer functions.

    Attributes:
      whole: orthonormal columns, (T, r).
      parts: for each of `BLOCKS` blocks of eigenvalues orthonormal columns (r, r_b).
    """

    whole: Array
    parts: tuple[Array, ...]

    def spanned(self, functions: Array) -> Array:
        """The projections of functions (T, n) on what their blocks need, (T, n)."""
        few = self.whole.T @ functions
        of_blocks = [q @ (q.T @ few[:, block]) for q, block in zip(self.parts, _blocks(few.shape[1]), strict=True)]
        return self.whole @ jnp.concatenate(of_blocks, axis=1)


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
    density, tolerances = (_FINE_SAMPLES, _FINE_TOLERANCE) if fine else (_SAMPLES, _TOLERANCE)
    functions = _sampled(eigenvalues, s, density)
    if functions is None:
        return np.zeros((len(s), 1), s.dtype)
    return _span(functions, tolerances[str(eigenvalues.dtype)]).astype(s.dtype)


def parted(basis: np.ndarray, eigenvalues: np.ndarray, s: np.ndarray, *, fine: bool = False) -> PartedBasis:
    """A basis (T, r) of `time_basis` with what blocks of ascending eigenvalues (n,) need of it; on the host.

    Most eigenvalues of a large problem lie close together, where functions of time are fewer than over all of them.
    """
    dtype = str(eigenvalues.dtype)
    # Closer than the whole: in most blocks the multiple of eight has room for it.
    density, tolerance = (_FINE_SAMPLES, _FINE_TOLERANCE[dtype]) if fine else (_SAMPLES, _TOLERANCE[dtype] / 10)
    parts = []
    for block in _blocks(len(eigenvalues)):
        functions = _sampled(eigenvalues[block], s, density)
        if functions is None:
            parts.append(np.zeros((basis.shape[1], 1), basis.dtype))
        else:
            part = _span(basis.T @ functions, tolerance).astype(basis.dtype)
            # Of a block that needs nearly all of the basis all: what is left out is then nothing.
            all_of_it = fine and 4 * part.shape[1] > 3 * basis.shape[1]
            parts.append(np.eye(basis.shape[1], dtype=basis.dtype) if all_of_it else part)
    return PartedBasis(basis, tuple(parts))


def _sampled(eigenvalues, s, density):
    """1 - e^{-sλ} (T, samples) between the least and the largest positive eigenvalue; None where there is none."""
    positive = eigenvalues[eigenvalues > 0]
    if positive.size == 0:
        return None
    low, high = np.log(positive.min()), np.log(positive.max())
    samples = np.exp(np.linspace(low, high, int(density * (high - low)) + 16))
    return -np.expm1(-s.astype(np.float64)[:, None] * samples[None, :].astype(np.float64))


def _span(functions, tolerance):
    """Orthonormal columns that span those of `functions` to a tolerance, relative to the largest."""
    left, weight, _ = np.linalg.svd(functions, full_matrices=False)
    kept = max(1, int(np.sum(weight > tolerance * weight[0])))
    # A multiple of eight: neighbouring problems then share one compiled program.
    return left[:, : min(-(-kept // 8) * 8, left.shape[1])]


def _blocks(n: int) -> list[slice]:
    """`BLOCKS` slices of n numbers, fewer where these are few."""
    edges = [n * i // BLOCKS for i in range(BLOCKS + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]


def symmetric_half(nngp_rotated: Array) -> list[Array]:
    """The block columns of a matrix W with W + Wᵀ = K̃, each down to the diagonal only.

    Multiplying by them costs a little more than half of a multiplication by K̃.
    """
    return [
        jnp.concatenate([nngp_rotated[: block.start, block], 0.5 * nngp_rotated[block, block]])
        for block in _blocks(len(nngp_rotated))
    ]


def symmetric_product(a: Array, b: Array) -> Array:
    """aᵀb of matrices (m, n) whose product (n, n) is symmetric, exactly so: from its blocks above the diagonal."""
    n, columns = a.shape[1], []
    for block in _blocks(n):
        above = a[:, : block.start].T @ b[:, block]
        own = 0.5 * (a[:, block].T @ b[:, block])
        below = jnp.zeros((n - block.stop, own.shape[1]), own.dtype)
        columns.append(jnp.concatenate([above, own, below]))
    half = jnp.concatenate(columns, axis=1)
    return half + half.T


def half_matmul(vectors: Array, columns: list[Array]) -> Array:
    """`vectors` (..., n) times the matrix W of `symmetric_half`, (..., n)."""
    return jnp.concatenate([vectors[..., : len(column)] @ column for column in columns], axis=-1)


def quadratic_forms(
    vectors: Array, functions: Array, nngp_rotated: Array, basis: Array | PartedBasis | None = None
) -> Array:
    """The sums Σ_ij h_ti b_xi K̃_ij b_xj h_tj for all times t and points x.

    Args:
      vectors: b, (m, n).
      functions: h, (T, n).
      nngp_rotated: K̃ = UᵀKU, (n, n), symmetric.
      basis: orthonormal columns (T, r) that span `functions`, also with their parts, or None to take the times one by
        one. Gradients with respect to times are right only without it.

    Returns:
      (T, m).

    Cost: about m r n² flops (1.1 times that), r the number of times or of basis functions, in the mean of blocks where
      these have their own; the working set stays below one n × n matrix.
    """
    if isinstance(basis, PartedBasis):
        return _parted_forms(vectors, functions, nngp_rotated, basis)
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

    return _mapped(of_points, vectors, chunk, len(functions))


def parted_products(vectors: Array, functions: Array, nngp_rotated: Array, basis: PartedBasis) -> Array:
    """What `half_matmul` makes of vectors (m, n) times each of the r functions that span all times, (r, m, n).

    Cost: m n² flops for each function that blocks need, in their mean; beside the result a few of its points.
    """
    m, n = vectors.shape
    blocks, few, rows = _of_blocks(functions, nngp_rotated, basis)
    r_whole = basis.whole.shape[1]
    # So many points that a part of the result stays in cache.
    chunk = max(1, min(m, _CACHED_ENTRIES // (r_whole * n)))

    def of_points(b):
        total = jnp.zeros((r_whole, len(b), n), b.dtype)
        for part, block, each, row in zip(basis.parts, blocks, few, rows, strict=True):
            scaled = b[None, :, block] * each[:, None, :]
            product = (scaled.reshape(-1, row.shape[0]) @ row).reshape(len(each), -1)
            added = (part @ product).reshape(r_whole, len(b), -1)
            total = jax.lax.dynamic_update_slice(total, total[:, :, block.start :] + added, (0, 0, block.start))
        return total

    padded = jnp.pad(vectors, ((0, -m % chunk), (0, 0)))
    values = jax.lax.map(of_points, padded.reshape(-1, chunk, n))
    return jnp.moveaxis(values, 1, 0).reshape(r_whole, -1, n)[:, :m]


def _of_blocks(functions, nngp_rotated, basis):
    """Blocks of eigenvalues, the functions that each needs, and its rows of the matrix W of `symmetric_half`."""
    blocks, whole = _blocks(functions.shape[1]), jnp.matmul(basis.whole.T, functions)
    few = [part.T @ whole[:, block] for part, block in zip(basis.parts, blocks, strict=True)]
    # From the diagonal on to the right; eigenvalues ascend, and the first blocks need the fewest functions.
    rows = [jnp.concatenate([0.5 * nngp_rotated[b, b], nngp_rotated[b, b.stop :]], axis=1) for b in blocks]
    return blocks, few, rows


def _parted_forms(vectors, functions, nngp_rotated, basis):
    m, n = vectors.shape
    blocks, few, rows = _of_blocks(functions, nngp_rotated, basis)
    r = basis.whole.shape[1]
    chunk = max(1, min(m, n // (2 * max(len(each) for each in few))))

    def of_points(b):
        scaled = [b[:, None, block] * each[None, :, :] for block, each in zip(blocks, few, strict=True)]
        total = jnp.zeros((len(b), r, r), b.dtype)
        for i, row in enumerate(rows):
            product = (scaled[i].reshape(-1, row.shape[0]) @ row).reshape(*scaled[i].shape[:2], -1)
            for j in range(i, len(blocks)):
                at = slice(blocks[j].start - blocks[i].start, blocks[j].stop - blocks[i].start)
                gram = jnp.einsum("cri,cqi->crq", product[:, :, at], scaled[j])
                total += jnp.einsum("pr,crq,sq->cps", basis.parts[i], gram, basis.parts[j], optimize=[(0, 1), (0, 1)])
        return 2 * jnp.einsum("tr,crq,tq->ct", basis.whole, total, basis.whole, optimize=[(0, 1), (0, 1)])

    return _mapped(of_points, vectors, chunk, len(functions))


def _mapped(of_points, vectors, chunk, times):
    """What a function makes of so many vectors (m, n) at a time, (T, m)."""
    m, n = vectors.shape
    padded = jnp.pad(vectors, ((0, -m % chunk), (0, 0)))
    values = jax.lax.map(of_points, padded.reshape(-1, chunk, n))
    return values.reshape(-1, times)[:m].T
