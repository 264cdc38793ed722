"""The prior kernel of a posterior taken apart: by Cholesky where that is enough, by its eigenvalues elsewhere."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import ensemble
from ntkinfo._common import check, compiling, tracing
from ntkinfo._numerics import eigenspaces, regularised
from ntkinfo.posterior import _noise


class Factor(NamedTuple):
    """Q + σ²I = L Lᵀ.

    Attributes:
      lower: L, (n, n).
      noise: the σ² that it was found for, a scalar.
    """

    lower: Array
    noise: Array


class Spectrum(NamedTuple):
    """Q = U diag(q) Uᵀ and the labels in its eigenbasis.

    Attributes:
      eigenvalues: q in ascending order, (n,); 0 where they are rounding.
      eigenvectors: U, (n, n), one eigenvector a column.
      y_rotated: Uᵀ(Y - f(X; θ₀)), (n, k).
      coupling: zeros (n, n) that carry derivatives within eigenspaces under tracing, else None.
    """

    eigenvalues: Array
    eigenvectors: Array
    y_rotated: Array
    coupling: Array | None = None


def factorised(q: Array, residual: Array, noise: Any, semidefinite: bool) -> Factor | None:
    """The Cholesky factor of Q + σ²I, or None where something is traced or eigenvalues have to be looked at.

    That is: the noise may be lost in the rounding of the kernel, or is one for each label; or the kernel may be
    indefinite, unless it is known to be `semidefinite` but for rounding.
    """
    if not tracing.is_known(q, residual, noise) or np.ndim(noise):
        return None
    noise = jnp.asarray(noise, q.dtype)
    lower, usable = regularised.factorise(q, noise, semidefinite=semidefinite)
    return Factor(lower, noise) if usable else None


def diagonalised(q: Array, residual: Array, noise: Any, known: Spectrum | None = None) -> Spectrum:
    """The `Spectrum` of a kernel (n, n) with labels less the prior mean (n, k), checked against the noise."""
    if known is None:
        ensemble.require_solver(q)
        decompose = _diagonalise if check.concrete(q) else _diagonalise_coupled
        known = Spectrum(*decompose(q, residual))
    if not isinstance(noise, str) and np.ndim(noise):
        # The smallest is lost in rounding first.
        noise = jnp.min(jnp.asarray(noise))
    return known._replace(eigenvalues=_noise.checked(known.eigenvalues, noise))


@compiling.jit
def _diagonalise(q, y):
    return _diagonalise_coupled(q, y)[:-1]


def _diagonalise_coupled(q, y):
    eigenvalues, u, coupling = eigenspaces.eigh(q, _noise.NULL_FACTOR * np.sqrt(len(q)))
    return eigenvalues, u, u.T @ y, coupling


@compiling.on_host
def row_squares(xp: Any, y: Array) -> Array:
    """Σ_c y_c², (n,)."""
    return xp.sum(y**2, axis=1)


def is_of(spectrum: Spectrum, q: Array, residual: Array) -> bool:
    """Whether a known spectrum belongs to this kernel (n, n) and these labels less the prior mean (n, k)."""
    values, vectors, y_rotated = (np.asarray(part) for part in spectrum[:3])
    kernel, target = np.asarray(q), np.asarray(residual)
    if vectors.shape != kernel.shape or y_rotated.shape != target.shape:
        return False
    v, tolerance = _probe(kernel), _tolerance(kernel)
    return bool(
        np.linalg.norm(vectors @ (values * (vectors.T @ v)) - kernel @ v) <= tolerance * np.linalg.norm(kernel)
        and np.linalg.norm(vectors @ y_rotated - target) <= tolerance * np.linalg.norm(target)
    )


def _probe(q):
    """A vector that no other kernel is likely to treat as this one does, (n,)."""
    return np.cos(np.arange(len(q), dtype=q.dtype) ** 2)


def _tolerance(q) -> float:
    """Backward errors of both decompositions are some eps in all; products with the probe add √n."""
    return 100 * float(jnp.finfo(q.dtype).eps) * len(q) ** 0.5


def _factor_is_of(factor: Factor, q, noise):
    """Whether L Lᵀ = Q + σ²I, as far as one product tells; known or traced."""
    if factor.lower.shape != q.shape:
        return False
    xp = np if check.concrete(factor, q, noise) else jnp
    lower, q, noise, own = (xp.asarray(part) for part in (factor.lower, q, noise, factor.noise))
    v = _probe(q)
    error = xp.linalg.norm(lower @ (lower.T @ v) - q @ v - noise * v)
    return (noise == own) & (error <= _tolerance(q) * (xp.linalg.norm(q) + noise))


def choose(post, by_factor: Callable, by_spectrum: Callable, *arguments):
    """What the factor gives where there is one that belongs to the posterior, else what the spectrum does.

    It does not where kernel or noise were exchanged (`dataclasses.replace`), which only values tell.
    """
    if post.factor is None or np.ndim(post.noise):
        return by_spectrum(*arguments)
    parts = post.factor, post.q, post.noise
    if not check.concrete(parts):
        return jax.lax.cond(_factor_is_of(*jax.lax.stop_gradient(parts)), by_factor, by_spectrum, *arguments)
    # Found once for each posterior: others are other objects.
    if "_factor_belongs" not in post.__dict__:
        post.__dict__["_factor_belongs"] = bool(_factor_is_of(*parts))
    return (by_factor if post.__dict__["_factor_belongs"] else by_spectrum)(*arguments)
