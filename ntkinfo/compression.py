"""Compression of layers: how much noise lets through, and how long forgetting takes.

Chapter 3 of the thesis, with two corrections: a bound that holds for noise on the weights, whose size depends on the
activations, and the inequality between relaxation times that is true for every depth.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from ntkinfo._common import check, compiling, tables

__all__ = [
    "RelaxationTimes",
    "gaussian_layer_bound",
    "measured_compression_time",
    "relaxation_times",
    "weight_noise_bound",
]


def gaussian_layer_bound(
    weight: Float[ArrayLike, "... i o"], cov_t: Float[ArrayLike, "... i i"], cov_noise: Float[ArrayLike, "... o o"]
) -> Float[Array, "..."]:
    """Upper bound on I(T_{k-1};T_k) in nats for noise that does not depend on T_{k-1}: ½ log det(I + Σ_ξ⁻¹ W Σ_T Wᵀ).

    T_k is any function of W T_{k-1} + b + ξ, ξ ~ N(0, Σ_ξ). With noise on the weights Σ_ξ grows with ‖T_{k-1}‖ and
    tells of it, so that this is no bound: at W = 0 it is 0, and T_k = δ T_{k-1} is not independent of T_{k-1}. Use
    `weight_noise_bound` then.

    Args:
      weight: (..., d_in, d_out), as in a `LayerRun`.
      cov_t: covariance of T_{k-1}, (..., d_in, d_in).
      cov_noise: Σ_ξ, positive definite, (..., d_out, d_out).

    Returns:
      The bound, (...), exact where T_{k-1} is Gaussian and T_k an injective function. Differentiable.

    Raises:
      TypeError, ValueError: not floats, shapes that do not fit, noise that is not positive definite.

    Source: theory, section 9; the thesis (arXiv 2202.06749), chapter 3.

    Example:
      >>> bound = gaussian_layer_bound(np.eye(2), np.eye(2), np.eye(2))
      >>> round(float(bound / np.log(2)), 6)  # bits: two units, each at a signal-to-noise ratio of one
      1.0
    """
    weight, cov_t, noise = (
        check.array(name, value) for name, value in (("weight", weight), ("cov_t", cov_t), ("cov_noise", cov_noise))
    )
    d_in, d_out = _sizes(weight)
    for name, value, d in (("cov_t", cov_t, d_in), ("cov_noise", noise, d_out)):
        if value.ndim < 2 or value.shape[-2:] != (d, d):
            raise ValueError(f"`{name}` must have shape (..., {d}, {d}); got {value.shape}.")
    for name, value in (("cov_t", cov_t), ("cov_noise", noise)):
        if check.concrete(value):
            _check_covariance(name, np.asarray(value, np.float64))
    if check.concrete(noise) and (np.linalg.eigvalsh(np.asarray(noise, np.float64)) <= 0).any():
        raise ValueError("`cov_noise` must be positive definite: without noise the information is infinite.")
    bound = _gaussian_bound(weight, cov_t, noise)
    check.finite_result("the bound", bound, "`weight`, `cov_t` and `cov_noise`")
    return bound


@compiling.jit
def _gaussian_bound(weight, cov_t, noise):
    signal = jnp.einsum("...io,...ij,...jp->...op", weight, cov_t, weight)
    noise = jnp.broadcast_to(noise, jnp.broadcast_shapes(noise.shape, signal.shape))
    return 0.5 * (_log_det(noise + jnp.broadcast_to(signal, noise.shape)) - _log_det(noise))


def _check_covariance(name, value):
    """Refuses matrices that are not symmetric, or have an eigenvalue below zero by more than rounding."""
    scale = np.abs(value).max(axis=(-2, -1), keepdims=True)
    if (np.abs(value - np.swapaxes(value, -2, -1)) > 1e-5 * scale).any():
        raise ValueError(f"`{name}` must be symmetric, as covariances are; got a matrix that is not.")
    lowest = np.linalg.eigvalsh(value).min(axis=-1)
    if (lowest < -1e-5 * scale[..., 0, 0]).any():
        raise ValueError(
            f"`{name}` must be positive semidefinite, as covariances are; got eigenvalue {lowest.min():.3g}."
        )


def weight_noise_bound(
    weight: Float[ArrayLike, "... i o"], activations: Float[ArrayLike, "... n i"], *, std: float
) -> Float[Array, "..."]:
    """Upper bound on I(T_{k-1};T_k) in nats under independent noise of standard deviation `std` on every weight.

        ½ log det(δ² E‖T‖² I + W Σ_T Wᵀ) - ½ E log det(δ² ‖T‖² I),    T = T_{k-1}

    Given T the pre-activation is N(W T + b, δ² ‖T‖² I); its own entropy is at most that of a Gaussian of its
    covariance.

    Args:
      weight: (..., d_in, d_out), as in a `LayerRun`.
      activations: T_{k-1}, (..., n, d_in): X uniform over the n rows, of which the expectations are taken exactly.
      std: δ, positive.

    Returns:
      The bound, (...). Differentiable.

    Raises:
      TypeError, ValueError: not floats, shapes that do not fit, a standard deviation that is not positive, a
        row of zeros, which the noise would not reach.

    Source: theory, section 9, corrected for noise that depends on T; the thesis (arXiv 2202.06749), chapter 3.
    """
    weight, t = check.array("weight", weight), check.array("activations", activations)
    d_in, _ = _sizes(weight)
    if t.ndim < 2 or t.shape[-1] != d_in or t.shape[-2] < 2:
        raise ValueError(f"`activations` must have shape (..., n, {d_in}) with n of at least 2; got {t.shape}.")
    check.positive("std", std, scalar=True)
    with np.errstate(over="ignore", under="ignore"):
        empty = check.concrete(t) and not (np.sum(np.square(np.asarray(t)), axis=-1) > 0).all()
    if empty:
        raise ValueError("`activations` must have no row of zeros: noise on the weights does not reach it.")
    bound = _noise_bound(weight, t, jnp.asarray(std, t.dtype))
    check.finite_result("the bound", bound, "`weight`, `activations` and `std`")
    return bound


@compiling.jit
def _noise_bound(weight, t, std):
    squared = jnp.sum(t**2, axis=-1)
    centred = t - jnp.mean(t, axis=-2, keepdims=True)
    projected = jnp.einsum("...nd,...do->...no", centred, weight)
    signal = jnp.einsum("...no,...np->...op", projected, projected) / t.shape[-2]
    # Relative to the noise: neither its square nor that of the signal over- or underflows where the ratio does not.
    power = jnp.mean(squared, axis=-1)
    d_out = weight.shape[-1]
    ratio = signal / (std**2 * power)[..., None, None]
    total = ratio + jnp.broadcast_to(jnp.eye(d_out, dtype=t.dtype), ratio.shape)
    return 0.5 * (_log_det(total) + d_out * (jnp.log(power) - jnp.mean(jnp.log(squared), axis=-1)))


class RelaxationTimes(NamedTuple):
    """Relaxation times of a chain of layers against one layer that forgets as much, in units of the first step.

    Attributes:
      layers: Σ_k exp ΔS_k, one layer after the other.
      single: exp Σ_k ΔS_k, all in one.
      faster: whether `layers` is at most `single`, as the thesis claims. It is iff Σ_k exp(-Σ_{j≠k} ΔS_j) ≤ 1, for
        which all ΔS_k ≥ log 2 suffice, and not in general: (0, 0) gives 2 against 1.
      layers_beyond: Σ_k (exp ΔS_k - 1), the times beyond those of layers that forget nothing.
      single_beyond: exp Σ_k ΔS_k - 1, never less than `layers_beyond` where every ΔS_k ≥ 0.
    """

    layers: Array
    single: Array
    faster: Array
    layers_beyond: Array
    single_beyond: Array

    _table = tables.Table((), plain="layers single faster layers_beyond single_beyond")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def relaxation_times(delta_s: Float[ArrayLike, "... k"]) -> RelaxationTimes:
    """The claimed benefit of depth, Δt_k ∝ exp ΔS_k with ΔS_k = I(X;T_{k-1}) - I(X;T_k): Σ exp ΔS_k ≤ exp Σ ΔS_k.

    Args:
      delta_s: ΔS_k in nats, (..., K), not negative: layers of a network only forget.

    Returns:
      `RelaxationTimes` of arrays (...); times beyond the range of the dtype are infinite, `faster` is right there too.

    Raises:
      TypeError, ValueError: not floats, negative.

    Source: theory, section 9, corrected; the thesis (arXiv 2202.06749), chapter 3.

    Example:
      >>> bool(relaxation_times(jnp.array([2.0, 2.0])).faster)
      True
    """
    delta_s = check.array("delta_s", delta_s)
    if delta_s.ndim < 1:
        raise ValueError(f"`delta_s` must have shape (..., K); got {delta_s.shape}.")
    check.positive("delta_s", delta_s, zero=True)
    return _relaxation_times(delta_s)


@compiling.jit
def _relaxation_times(delta_s):
    # exp of the sum is the largest, and leaves the range of the dtype first.
    layers, single = jnp.sum(jnp.exp(delta_s), axis=-1), jnp.exp(jnp.sum(delta_s, axis=-1))
    beyond = jnp.sum(jnp.expm1(delta_s), axis=-1), jnp.expm1(jnp.sum(delta_s, axis=-1))
    # Σ_k exp(-Σ_{j≠k} ΔS_j) ≤ 1, free of overflow. The largest term goes to the right, and logarithms are compared:
    # beside it the others may be lost to rounding, and yet they decide. Each sum leaves out its own layer, for the same
    # reason.
    size = delta_s.shape[-1]
    same = jnp.broadcast_to(jnp.eye(size, dtype=bool), (*delta_s.shape, size))
    terms = -jnp.sum(jnp.where(same, 0, delta_s[..., None, :]), axis=-1)
    is_largest = jax.nn.one_hot(jnp.argmax(terms, axis=-1), size, dtype=bool)
    others = jax.nn.logsumexp(jnp.where(is_largest, -jnp.inf, terms), axis=-1)
    faster = others <= jnp.log(-jnp.expm1(jnp.max(terms, axis=-1)))
    return RelaxationTimes(layers, single, faster, *beyond)


def measured_compression_time(
    epochs: Num[ArrayLike, " t"], i_xt: Float[ArrayLike, "*lead t"], *, fraction: float = 0.5, least: float = 1e-3
) -> Num[np.ndarray, "*lead"]:
    """The first recorded epoch by which I(X;T) has fallen `fraction` of the way from its maximum to its last value.

    Args:
      epochs: (T,), ascending.
      i_xt: I(X;T) over epochs, nats, (..., T).
      fraction: in (0, 1].
      least: a fall of no more than this, in nats, counts as none.

    Returns:
      Epochs, (...), counted from 0, not from the maximum; -1 where nothing was compressed.

    Raises:
      TypeError, ValueError: not numbers, lengths that differ, a fraction out of range.

    Example:
      >>> measured_compression_time([0, 1, 10, 100], np.array([1.0, 3.0, 2.0, 1.0])).item()
      10
    """
    check.on_host(locals())
    times = np.asarray(check.values("epochs", epochs))
    values = np.asarray(check.array("i_xt", i_xt), np.float64)
    if times.ndim != 1 or values.ndim < 1 or values.shape[-1] != len(times):
        raise ValueError(f"`i_xt` must have shape (..., {times.size}), as `epochs`; got {values.shape}.")
    times = check.real_numbers("epochs", times, ends=False) if times.dtype.kind == "f" else times
    check.positive("epochs", times, zero=True)
    if (np.diff(times) <= 0).any():
        raise ValueError("`epochs` must be ascending.")
    check.positive("fraction", fraction, scalar=True)
    if fraction > 1:
        raise ValueError(f"`fraction` must lie in (0, 1]; got {fraction}.")
    check.positive("least", least, zero=True, scalar=True)
    most, at, last = values.max(-1), values.argmax(-1), values[..., -1]
    level = most - fraction * (most - last)
    reached = (values <= level[..., None] + 1e-12) & (np.arange(len(times)) >= at[..., None])
    return np.where(most - last > least, times[reached.argmax(-1)], -1)


def _sizes(weight) -> tuple[int, int]:
    if weight.ndim < 2:
        raise ValueError(f"`weight` must have shape (..., d_in, d_out); got {weight.shape}.")
    return weight.shape[-2:]


def _log_det(matrix):
    """log det of positive definite matrices (..., d, d), one factorisation after the other."""
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    log_det = jax.lax.map(lambda square: 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(square)))), flat)
    return log_det.reshape(matrix.shape[:-2])
