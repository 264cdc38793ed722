"""The prior kernel of a posterior taken apart: by Cholesky where that is enough, by its eigenvalues elsewhere."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

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

    That is: the noise may be lost in the rounding of the kernel; or the kernel may be indefinite, unless it is known to
    be `semidefinite` but for rounding.
    """
    if not tracing.is_known(q, residual, noise):
        return None
    noise = jnp.asarray(noise, q.dtype)
    lower, usable = regularised.factorise(q, noise, semidefinite=semidefinite)
    return Factor(lower, noise) if usable else None


def diagonalised(q: Array, residual: Array, noise: Any, known: Spectrum | None = None) -> Spectrum:
    """The `Spectrum` of a kernel (n, n) with labels less the prior mean (n, k), checked against the noise."""
    if known is None:
        decompose = _diagonalise if check.concrete(q) else _diagonalise_coupled
        known = Spectrum(*decompose(q, residual))
    return known._replace(eigenvalues=_noise.checked(known.eigenvalues, noise))


@compiling.jit
def _diagonalise(q, y):
    return _diagonalise_coupled(q, y)[:-1]


def _diagonalise_coupled(q, y):
    eigenvalues, u, coupling = eigenspaces.eigh(q, _noise.NULL_FACTOR * np.sqrt(len(q)))
    return eigenvalues, u, u.T @ y, coupling


@compiling.jit
def row_squares(y: Array) -> Array:
    """Σ_c y_c², (n,)."""
    return jnp.sum(y**2, axis=1)


def choose(post, by_factor: Callable, by_spectrum: Callable, *arguments):
    """What the factor gives where there is one that belongs to the noise of the posterior, else what the spectrum does.

    The two differ where the noise was exchanged (`dataclasses.replace`), which only values tell.
    """
    if post.factor is None:
        return by_spectrum(*arguments)
    if check.concrete(post.noise, post.factor.noise):
        # By NumPy: under tracing JAX would not tell.
        same = bool(np.asarray(post.noise) == np.asarray(post.factor.noise))
        return by_factor(*arguments) if same else by_spectrum(*arguments)
    return jax.lax.cond(post.noise == post.factor.noise, by_factor, by_spectrum, *arguments)
