"""How large a symmetric matrix may be whose eigenvectors are asked for: refused before anything is computed."""

import math

import jax
import numpy as np

from ntkinfo._common import tracing

# LAPACK counts the 1 + 6n + 2n² numbers of its workspace in 32 bits, on the host whatever NumPy was built with.
_LAPACK_LIMIT = 32_766
# JAX 0.7.2 to 0.8.0 hands nothing to cuSOLVER where the bytes of the matrix are no 32-bit number (jax-ml/jax #33062),
# before, and on CUDA 12, its workspace fits up to about 25,000 rows (jax-ml/jax #23413, CUDALibrarySamples #246).
_CUSOLVER_BYTES = 2**31 - 1


def limit(dtype: np.dtype, *, host: bool = False) -> int:
    """The most rows of a matrix of a dtype whose eigenvectors can be computed where JAX computes, or on the host."""
    if host or jax.default_backend() == "cpu":
        return _LAPACK_LIMIT
    return min(_LAPACK_LIMIT, math.isqrt(_CUSOLVER_BYTES // np.dtype(dtype).itemsize))


def require(what: str, n: int, dtype: np.dtype, remedy: str, *, host: bool = False) -> None:
    """Refuses a matrix of more rows. Nothing is checked under tracing.

    Args:
      what: the argument and what it must have at most so many of, such as "`x` must have at most {} training inputs".
      n: how many there are.
      dtype: of the matrix.
      remedy: what to do, as a sentence.
      host: whether the matrix is decomposed there, whatever JAX's devices are.

    Raises:
      ValueError: there are more.
    """
    most = limit(dtype, host=host)
    if n > most and not tracing.is_tracing():
        raise ValueError(f"{what.format(most)}, the most whose eigenvectors can be computed here; got {n}. {remedy}")
