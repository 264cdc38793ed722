"""Examples left out of a posterior by the Cholesky factor that its fit has found: on the host, a tenth of the work."""

import numpy as np
import scipy.linalg
from jax import Array

from ntkinfo.posterior import Posterior


def usable(post: Posterior) -> bool:
    """Whether the posterior has a factor, found for the noise that it has."""
    return post.factor is not None and float(post.factor.noise) == float(post.noise)


def inverse(post: Posterior) -> np.ndarray:
    """C = (Q + σ²I)⁻¹, (n, n), from the factor: well conditioned, or there would be none."""
    # C order read as Fortran order: the transposed, upper factor.
    upper = np.asarray(post.factor.lower).T  # pyright: ignore[reportOptionalMemberAccess]
    (invert,) = scipy.linalg.get_lapack_funcs(("potri",), (upper,))
    c, failed = invert(upper, lower=False)
    assert not failed
    # Only the upper triangle was written; row by row, so that no second matrix is needed.
    for i in range(1, len(c)):
        c[i, :i] = c[:i, i]
    return c


def parts(post: Posterior, c: np.ndarray) -> tuple[np.ndarray | Array, ...]:
    """Information, shared information, residual, leave-one-out variance and the same with noise: (n,), (n, k) alike."""
    y, noise, k = labels(post), float(post.noise), post.k
    own, q = np.diagonal(c), np.asarray(post.q)
    # Diagonals that add up to one, neither the difference of large numbers: I - σ²C = QC.
    rests, hats = noise * own, np.maximum(np.einsum("ij,ij->i", q, c), 0.0)
    residual = (c @ y) / own[:, None]
    total, before = 1 / own, np.diagonal(q) + noise
    squares = np.sum(residual**2, axis=1) / total
    information = 0.5 * (k * (np.log1p(hats / rests) - hats) + hats * squares)
    shared = 0.5 * (k * np.log(before / total) + np.sum(y**2, axis=1) / before - squares)
    return information, shared, residual, hats / own, total


def labels(post: Posterior) -> np.ndarray:
    """Labels less the prior mean, (n, k)."""
    y = np.asarray(post.y)
    return y if post.offset is None else y - np.asarray(post.offset)
