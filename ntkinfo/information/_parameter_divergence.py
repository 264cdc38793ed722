"""What the parameters of a trained network say about its data: their divergence from the prior, in closed form.

The linear part is what the tangent kernel alone gives; the curvature part comes from the Hessian kernel, which training
feels at any width although the tangent kernel stays constant.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import ensemble, kernels
from ntkinfo._common import check, compiling, tables
from ntkinfo._common.results import Estimate
from ntkinfo._numerics import eigenspaces, spectral_filters
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.ensemble import Ensemble, FeatureEnsemble, KrylovEnsemble, SpectralSums
from ntkinfo.information import _geometry, _label_covariance

# Below this z the first terms of a series replace z + expm1(-z), which cancels; 12 terms hold it to rounding.
_SERIES_BELOW = 0.5
_SERIES_TERMS = 12


class ParameterDivergence(NamedTuple):
    """KL[p(θ_t | D) ‖ N(0, I)] in nats and its two parts. Made by `parameter_divergence`.

    Attributes:
      linear: the linear part, not negative, never decreasing in t. By itself it is no upper bound: the divergence of
        the outputs, which is below the total, may exceed it. Under engine="krylov" an `Estimate`.
      curvature: the curvature part, not negative, which may decrease; None where it was not asked for.
      total: their sum, the divergence of the network itself, which may decrease; None where the curvature is.
    """

    linear: Array | Estimate
    curvature: Array | None
    total: Array | None

    _table = tables.Table((), nats="linear curvature total")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def parameter_divergence(
    ens: Ensemble | KrylovEnsemble | FeatureEnsemble | SpectralSums,
    t: Num[ArrayLike, "*T"],
    *,
    curvature: bool = True,
    hessian: Float[ArrayLike, "n n"] | None = None,
    label_covariance: Float[ArrayLike, "n n"] | None = None,
    batch_size: int | None = None,
) -> ParameterDivergence:
    """KL[p(θ_t | D) ‖ N(0, I)] in nats: what the parameters at time t say about the training data.

    Averaged over data sets D it is an upper bound on I(Θ;D). With s = t/(nk) and A = Θ⁻¹(I - e^{-sΘ}),

        linear    = k [s tr Θ - tr(I - e^{-sΘ})] + ½ tr[(kK + YYᵀ) Θ⁻¹ (I - e^{-sΘ})²]
        curvature = ½ tr[(kK + YYᵀ) A H A],

    H the Hessian kernel. The curvature is the integral of the theory carried out: its integrand, symmetrised, is the
    derivative of ½ A H A. At t = 0 all vanish. The linear part never decreases in t; the curvature part can, and
    the total with it. Linearised networks, of `kernels.empirical(net, around="laplace")`, have no curvature: H = 0, and
    the total is exact for them, whatever their width.

    Args:
      ens: the ensemble; with `curvature=False` of any engine, or its `KrylovEnsemble.spectral_sums`.
      t: training times, scalar or (T,), as in `Ensemble.predict`, but finite.
      curvature: False leaves the curvature part out: all there is for kinked activations (Relu) and for kernel
        functions that are not of `ntkinfo.stax`, nor empirical ones of around="laplace".
      hessian: H on the training inputs, (n, n), where it is known; None computes it by `ntkinfo.kernels.hessian`.
      label_covariance: C, (n, n), positive semidefinite: the average over data sets with these inputs and labels of
        covariance C for each output (less the mean before training), kC in place of YYᵀ. It is affine in C: that of
        C = K + σ²I less that of K are the nats spent on noise. None takes the labels of `ens`.
      batch_size: rows of a block of the evaluation of H; None chooses.

    Returns:
      `ParameterDivergence` of arrays like `t`; exact for this data set, or this average, at infinite width, up to
      O(1/width) at finite width. Under tracing, infinite for infinite times. Under engine="krylov" `linear` is an
      `Estimate`.

    Raises:
      TypeError: `t` or `hessian` do not hold numbers.
      ValueError: an ensemble of one network; negative, NaN or infinite times (the divergence grows like t tr Θ / n,
        without bound); networks without a Hessian kernel, see `ntkinfo.kernels.hessian`; a `hessian` of another shape,
        or together with `curvature=False`; a `label_covariance` that is none.

    Cost: O(n³) once, then O(n²) per time; the linear part alone O(n) per time.

    Example:
      >>> kl = parameter_divergence(Ensemble.fit(net, x, y), [1.0, 10.0, 100.0])
      >>> bool(jnp.allclose(kl.total, kl.linear + kl.curvature))
      True

    Source: theory, sections 4 and 16.
    """
    check.flag("curvature", curvature)
    # Of features H is 0, and no eigenvectors are needed.
    needs_all = curvature and not isinstance(ens, FeatureEnsemble)
    engine: Any = ensemble.dense("ens", ens, "`curvature=True`") if needs_all else ensemble.spectral("ens", ens)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    if getattr(engine, "around", None) == "one":
        raise ValueError(
            "`ens` must have a distribution of parameters; one network has none. Take "
            '`kernels.empirical(net, around="laplace")`.'
        )
    t = _finite_times(t)
    if label_covariance is not None:
        engine = _label_covariance.averaged(ensemble.dense("ens", ens, "`label_covariance`"), label_covariance)
    s = engine.rescaled_time(jnp.atleast_1d(t))
    if not curvature or isinstance(engine, FeatureEnsemble):
        if hessian is not None and not curvature:
            raise ValueError("`hessian` must be None with `curvature=False`, which has no use for it; got an array.")
        if hessian is not None:
            raise ValueError('`hessian` must be None under engine="features", whose networks are linear: it is 0.')
        # Estimates are made on the host.
        linear = _linear(engine, s) if isinstance(engine, Ensemble) else linear_core(engine, engine.filters(s))
        linear = linear.reshape(t.shape)
        return ParameterDivergence(linear, *((jnp.zeros_like(linear), linear) if curvature else (None, None)))
    if hessian is None:
        hessian = kernels.hessian(engine.kernel_fn, engine.x, batch_size=batch_size)
    else:
        hessian = check.square("hessian", hessian, engine.n, engine.x.dtype)
        check.semidefinite("hessian", hessian)
    parts = _both(engine, hessian.astype(engine.x.dtype), s)
    linear, curvature_part = (part.reshape(t.shape) for part in parts)
    check.finite_result("the divergence", (linear, curvature_part), "`t`, `hessian` and `ens`")
    return ParameterDivergence(linear, curvature_part, linear + curvature_part)


def _finite_times(t) -> Array:
    t = check.times("t", t)
    if check.concrete(t) and not np.isfinite(np.asarray(t)).all():
        raise ValueError(
            "`t` must be finite; got inf. The divergence of the parameters grows like t tr Θ / n and is infinite at "
            "the end of training. Ask for a late time instead, for instance 10 n k over the smallest eigenvalue."
        )
    return t


@compiling.jit
def _linear(ens, s):
    return linear_core(ens, ens.filters(s))


@compiling.jit
def _both(ens, hessian, s):
    filters = ens.filters(s)
    return linear_core(ens, filters), curvature_core(ens, hessian, filters)


def linear_core(ens: Ensemble, filters: Filters) -> Array:
    """The linear part, (T,), without checks: k Σ [sλ - 1 + e^{-sλ}] + ½ E‖θ_t - θ_0‖²."""

    def volume(filters):
        # Null modes contribute nothing, also at s = ∞.
        positive, exponent = spectral_filters.exponents(filters.rates, filters.s)
        return jnp.where(positive, excess(exponent), 0.0)

    return ens.k * ens.spectral_sum(volume, "trace", filters) + 0.5 * _geometry.distance_core(ens, filters)


def curvature_core(ens: Ensemble, hessian: Array, filters: Filters) -> Array:
    """The curvature part, (T,), for H (n, n), without checks: ½ Σ_ij M_ij H̃_ij g_i g_j.

    M = Uᵀ(kK + YYᵀ)U, H̃ = UᵀHU and g = (1 - e^{-sλ})/λ: no differences are left that could cancel. Null modes have
    g = 0; H vanishes along them, since a combination of outputs without a gradient has no Hessian. No sum over the
    spectrum: it needs the eigenvectors.
    """
    second_moment = ens.k * ens.nngp_rotated + ens.y_rotated @ ens.y_rotated.T
    hessian_rotated = ens.eigenvectors.T @ (hessian @ ens.eigenvectors)
    reach = filters.growth * filters.pseudo_inverse[None, :]
    if ens.coupling is None:
        return 0.5 * jnp.sum((reach @ (second_moment * hessian_rotated)) * reach, axis=1)
    # Under differentiation: H leaves its zeros along null modes, where g has the limit s, and A has terms within the
    # eigenspaces, see `eigenspaces`.
    null = ~(filters.rates > 0)
    either = null[:, None] | null[None, :]
    hessian_rotated = hessian_rotated - jnp.where(either, jax.lax.stop_gradient(hessian_rotated), 0.0)
    limits = jnp.where(jnp.isinf(filters.s), 0.0, filters.s)
    reach = jnp.where(null[None, :], limits[:, None], reach)
    slope = eigenspaces.slope(lambda rates: spectral_filters.reach(rates, filters.s), filters.rates)
    within = second_moment * eigenspaces.product(hessian_rotated, ens.coupling)
    within = within + eigenspaces.product(second_moment, ens.coupling) * hessian_rotated
    value = jnp.sum((reach @ (second_moment * hessian_rotated)) * reach, axis=1)
    return 0.5 * (value + jnp.sum((reach @ within) * slope, axis=1))


def excess(z: Array) -> Array:
    """e^{-z} - 1 + z for z ≥ 0, to rounding also for tiny z: about z²/2."""
    small = z < _SERIES_BELOW
    tiny, large = jnp.where(small, z, 0.0), jnp.where(small, 1.0, z)
    # z²/2 (1 - z/3 (1 - z/4 (1 - ...)))
    tail = functools.reduce(lambda inner, j: 1.0 - tiny / j * inner, range(_SERIES_TERMS + 2, 2, -1), 1.0)
    return jnp.where(small, 0.5 * tiny**2 * tail, large + jnp.expm1(-large))
