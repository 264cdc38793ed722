"""Whether a kernel can be used: its eigenvalues checked against the rounding error of their dtype."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# An eigenvalue of a semidefinite kernel may be this many times its rounding error below zero.
INDEFINITE_FACTOR = 10.0
# Modes slower than this many times the rounding error of eigenvalues are reported.
_RESOLUTION_FACTOR = 1e3
# The smallest eigenvalue kept is this near to rounding where eigenvalues decay, and far above it where there is a rank.
_GRADUAL = 1e4


def rounding(eigenvalues: np.ndarray | jax.Array) -> np.floating | jax.Array:
    """The error of eigenvalues (n,), ascending, from rounding: eps √n times the largest. NumPy or JAX."""
    return float(jnp.finfo(eigenvalues.dtype).eps) * math.sqrt(len(eigenvalues)) * eigenvalues[-1]


def check_semidefinite(name: str, eigenvalues: np.ndarray | jax.Array) -> float:
    """Refuses a kernel that is indefinite beyond rounding, or zero.

    Args:
      name: what to call the kernel in messages.
      eigenvalues: ascending, (n,), NumPy or JAX, known.

    Returns:
      The rounding error of the eigenvalues.

    Raises:
      ValueError: an indefinite kernel, or one that is zero.
    """
    smallest, largest, floor = float(eigenvalues[0]), float(eigenvalues[-1]), float(rounding(eigenvalues))
    if smallest < -INDEFINITE_FACTOR * floor or not largest > 0:
        raise ValueError(
            f"The {name} kernel must be positive semidefinite and not zero; got eigenvalues from {smallest:.3g} to "
            f"{largest:.3g}. Check that `kernel_fn` is symmetric, or compute in float64."
        )
    return floor


def check_spectrum(eigenvalues: np.ndarray, x: np.ndarray, nk: int, singular: str) -> jax.Array:
    """The eigenvalues of a tangent kernel, checked, with those below the rounding error set to 0.

    Args:
      eigenvalues: of the tangent kernel, ascending, (n,).
      x: the inputs it belongs to, (n, ...).
      nk: number of label entries, which scales time.
      singular: "error" or "project", as in `Ensemble.fit`.

    Returns:
      The eigenvalues as they may be used, (n,).

    Raises:
      ValueError: a kernel that is indefinite, zero, or (unless projected) singular to rounding; the message says what
        is wrong with the inputs.

    Warns:
      UserWarning: the slowest modes are poorly resolved.
    """
    floor = check_semidefinite("tangent", eigenvalues)
    null = eigenvalues <= floor
    if null.any() and singular == "error":
        raise ValueError(_singular_message(eigenvalues, floor, x, int(null.sum())))
    if not null.any() and eigenvalues[0] < _RESOLUTION_FACTOR * floor:
        warnings.warn(
            f"{eigenvalues.dtype} resolves the slowest modes of training poorly: the smallest eigenvalue of the "
            f"tangent kernel is {eigenvalues[0]:.2g}, rounding moves eigenvalues by about {floor:.1g}. Results after "
            f"t = {nk / (_RESOLUTION_FACTOR * floor):.1g} may be off in their third digit. "
            + _float64_remedy(eigenvalues.dtype, "fewer or more distinct inputs, or a larger b_std"),
            stacklevel=4,
        )
    return jnp.asarray(np.where(null, np.zeros_like(eigenvalues), eigenvalues))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def checked(eigenvalues: jax.Array, x: jax.Array, nk: int, singular: str) -> jax.Array:
    """`check_spectrum` under `grad` as well; under tracing, `nan` where it would refuse.

    Derivatives are those of eigenvalues above rounding: projected ones stay at 0.
    """
    if not isinstance(eigenvalues, Tracer) and not isinstance(x, Tracer):
        return check_spectrum(np.asarray(eigenvalues), np.asarray(x), nk, singular)
    floor = rounding(eigenvalues)
    null = eigenvalues <= floor
    refused = (eigenvalues[0] < -INDEFINITE_FACTOR * floor) | ~(eigenvalues[-1] > 0)
    if singular == "error":
        refused |= jnp.any(null)
    return jnp.where(refused, jnp.nan, jnp.where(null, 0.0, eigenvalues))


@checked.defjvp
def _checked_derivative(nk, singular, primals, tangents):
    values = checked(*primals, nk, singular)
    return values, jnp.where(values == 0, 0.0, tangents[0])


def equal_rows(x: np.ndarray) -> str | None:
    """A clause that names two equal inputs of (n, ...); None where there are none."""
    flat = x.reshape(len(x), -1)
    _, first, group = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    repeated = np.flatnonzero(first[group] != np.arange(len(flat)))
    if not repeated.size:
        return None
    j = int(repeated[0])
    return f"rows {int(first[group[j]])} and {j} of `x` are equal ({repeated.size} repeated rows in all)"


def _singular_message(eigenvalues, floor, x, count):
    cause, remedy = equal_rows(x), "Drop repeated rows (average their labels)"
    if cause is None:
        cause, remedy = _why_low_rank(eigenvalues, floor, x.reshape(len(x), -1))
    return (
        f"The tangent kernel is singular to rounding: {count} of {len(eigenvalues)} eigenvalues lie below "
        f"{floor:.2g} (smallest {eigenvalues[0]:.2g}, largest {eigenvalues[-1]:.2g}); {cause}. {remedy}, "
        'or pass singular="project" to treat these directions as never learned.'
    )


def _why_low_rank(eigenvalues, floor, flat):
    """Cause and remedy of a singular kernel of inputs (n, d) no two of which are equal."""
    kept = eigenvalues[eigenvalues > floor]
    rank, d = len(kept), flat.shape[1]
    if rank and kept[0] < _GRADUAL * floor:
        # The next eigenvalue would lie just below: no edge of a rank, but a decay.
        what = "no two inputs are equal, but eigenvalues fall gradually below rounding: the kernel is smooth, and"
        cause = f"{what} {len(flat)} inputs of {d} dimension{'s' * (d > 1)} are too alike for it"
        return cause, _float64_remedy(eigenvalues.dtype, "fewer inputs or such further apart, or Relu").rstrip(".")
    parallel = _parallel(flat)
    if parallel is not None:
        cause = (
            f"rows {parallel[0]} and {parallel[1]} of `x` are parallel, and a network without biases tells them apart"
        )
        return f"{cause} by scale alone", "Give the layers biases (b_std)"
    if rank <= d + 1:
        cause = f"no two inputs are equal, but the kernel has low rank, {rank} of at most d + 1 = {d + 1}"
        return f"{cause}: that of a network linear in its d inputs", "Use a nonlinear network"
    return f"no two inputs are equal, but the kernel has low rank, {rank} of {len(flat)}", "Use another network"


def _parallel(flat) -> tuple[int, int] | None:
    """The first two rows (n, d) that are positive multiples of each other, if any."""
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = flat / np.where(length > 0, length, 1)
    nearest = np.round(unit / (64 * np.finfo(flat.dtype).eps))
    _, first, group = np.unique(nearest, axis=0, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[group.ravel()] != np.arange(len(flat)))
    return (int(first[group.ravel()[repeated[0]]]), int(repeated[0])) if repeated.size else None


def _float64_remedy(dtype, otherwise):
    if dtype == np.float64:
        return f"Use {otherwise}."
    return 'Compute in float64: jax.config.update("jax_enable_x64", True), with float64 inputs.'
