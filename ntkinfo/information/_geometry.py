"""Geometry of training at infinite width: how far the parameters and outputs move, and at what action."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import ensemble, gaussian
from ntkinfo._common import check, compiling
from ntkinfo._common.results import Estimate
from ntkinfo._numerics import cholesky
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.ensemble import CrossKernels, Ensemble, FeatureEnsemble, KrylovEnsemble, SpectralSums
from ntkinfo.gaussian import Gaussian
from ntkinfo.information import _krylov, _label_covariance, _losses, _resolution

METRICS = ("euclidean", "fisher")


def fisher_trace(ens: Ensemble | KrylovEnsemble | FeatureEnsemble | SpectralSums) -> Float[Array, ""] | Estimate:
    """tr F = k tr Θ: trace of the Fisher information of the parameters (unit-variance likelihood), constant in time.

    Returns:
      Scalar, exact at infinite width; under engine="krylov" an `Estimate`, whose errors are rounding
      alone. It is of the n training inputs together, not their average.

    Source: theory, section 5.
    """
    ens = ensemble.spectral("ens", ens)
    return (_fisher_trace if isinstance(ens, Ensemble) else fisher_trace_core)(ens)


def fisher_trace_core(ens: Ensemble) -> Array:
    """The core of `fisher_trace`, a scalar."""
    return ens.k * ens.spectral_sum(lambda filters: filters.rates, "trace", ens.filters(jnp.zeros(1)))


def parameter_distance(
    ens: Ensemble | KrylovEnsemble | FeatureEnsemble | SpectralSums, t: Num[ArrayLike, "*T"]
) -> Float[Array, "*T"] | Estimate:
    """E‖θ_t - θ_0‖² = tr[(kK + YYᵀ) Θ⁻¹ (I - e^{-sΘ})²]: mean squared distance travelled by the parameters.

    Args:
      ens: the ensemble, of any engine, or its `KrylovEnsemble.spectral_sums`.
      t: training times, scalar or (T,), as in `Ensemble.predict`.

    Returns:
      Array like `t`, exact at infinite width; not decreasing in t. O(n) per time. Under engine="krylov" an `Estimate`
      of such arrays.

    Source: theory, section 5.

    Example:
      >>> float(parameter_distance(ens, jnp.array([0.0, 1.0]))[0])
      0.0
    """
    ens = ensemble.spectral("ens", ens)
    t = check.times("t", t)
    if isinstance(ens, Ensemble):
        return _distance(ens, ens.rescaled_time(jnp.atleast_1d(t))).reshape(t.shape)
    return distance_core(ens, _filters(ens, t)).reshape(t.shape)


# One program each; what is no dense ensemble is summed on the host.
_fisher_trace = compiling.jit(lambda ens: fisher_trace_core(ens))
_distance = compiling.jit(lambda ens, s: distance_core(ens, ens.filters(s)))
_action = compiling.jit(lambda ens, s, metric: action_core(ens, ens.filters(s), metric), static_argnums=2)


def _filters(ens: Ensemble, t: Array) -> Filters:
    return ens.filters(ens.rescaled_time(jnp.atleast_1d(t)))


def distance_core(ens: Ensemble, filters: Filters) -> Array:
    """The core of `parameter_distance`, (T,)."""
    return ens.spectral_sum(
        lambda filters: filters.growth**2 * filters.pseudo_inverse[None, :], "second_moment", filters
    )


def action(
    ens: Ensemble | KrylovEnsemble | FeatureEnsemble | SpectralSums,
    t: Num[ArrayLike, "*T"],
    *,
    metric: str = "euclidean",
) -> Float[Array, "*T"] | Estimate:
    """Action of the path of the parameters, E∫₀^s ‖dθ/du‖² du = ½ tr[(kK + YYᵀ)(I - e^{-2sΘ})], s = t/(nk).

    In the Fisher metric, E∫₀^s (dθ/du)ᵀ F (dθ/du) du = ½ tr[(kK + YYᵀ) Θ (I - e^{-2sΘ})].

    Args:
      ens: the ensemble, of any engine, or its `KrylovEnsemble.spectral_sums`.
      t: training times, scalar or (T,), as in `Ensemble.predict`.
      metric: "euclidean" or "fisher".

    Returns:
      Array like `t`, exact at infinite width; not decreasing in t. O(n) per time. Under engine="krylov" an `Estimate`
      of such arrays.

    Raises:
      ValueError: an unknown metric; negative or NaN times.

    Source: theory, section 5.

    Example:
      >>> path = action(ens, t)
      >>> path.shape, bool(path[0] < path[1])
      ((2,), True)
    """
    ens = ensemble.spectral("ens", ens)
    check.option("metric", metric, METRICS)
    t = check.times("t", t)
    if isinstance(ens, Ensemble):
        return _action(ens, ens.rescaled_time(jnp.atleast_1d(t)), metric).reshape(t.shape)
    return action_core(ens, _filters(ens, t), metric).reshape(t.shape)


def action_core(ens: Ensemble, filters: Filters, metric: str) -> Array:
    """The core of `action`, (T,)."""

    def rise(filters):
        return filters.growth_twice * (filters.rates[None, :] if metric == "fisher" else 1.0)

    return 0.5 * ens.spectral_sum(rise, "second_moment", filters)


def output_divergence(
    ens: Ensemble | KrylovEnsemble | FeatureEnsemble,
    x_test: Float[ArrayLike, "m ..."],
    t: Num[ArrayLike, "*T"],
    *,
    joint: bool = False,
    label_covariance: Float[ArrayLike, "n n"] | None = None,
) -> Float[Array, "*T"] | Estimate:
    """KL[p_t(z|x, D) ‖ p_0(z|x)] in nats: what the outputs say about the training data, against the prior.

    Averaged over data sets D it is an upper bound on I(Z;D|X). At t = 0 it vanishes.

    Args:
      ens: the ensemble, of any engine; not "krylov" for joint=True, and "dense" alone for `label_covariance`.
      x_test: inputs, (m, ...).
      t: training times, scalar or (T,).
      joint: False averages the divergences of single outputs over the m inputs; True takes the outputs on the whole
        batch as one vector, never less than any single one, and at most the divergence of the parameters.
      label_covariance: C, (n, n), positive semidefinite: the average over data sets with these inputs and labels of
        covariance C for each output (less the mean before training), an upper bound on `data_information`. None takes
        the labels of `ens`.

    Returns:
      Array like `t`, exact for this data set, or this average, at infinite width; under engine="krylov" an `Estimate`.
      Under tracing, infinite or `nan` where a variance vanishes or a covariance is singular.

    Raises:
      ValueError: inputs of another shape than trained on, negative times, a `label_covariance` that is none; variances
        that vanish (inputs trained on, at late times; the message names them), or covariances singular to working
        precision (repeated test inputs): the divergence is then not finite.

    Warns:
      UserWarning: variances of other inputs are below their rounding error, and taken for as large as that.

    Source: theory, sections 4 and 16; Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189).
    """
    check.flag("joint", joint)
    average = label_covariance is not None
    if isinstance(ens, KrylovEnsemble) and not joint and not average:
        return _krylov.output_divergence(ens, x_test, t)
    what = "`joint=True`" if joint else "`label_covariance`" if average else "`output_divergence`"
    dense = (ensemble.dense if average else ensemble.exact)("ens", ens, what)
    x_test = dense.check_inputs("x_test", x_test)
    t = check.times("t", t)
    dense = _label_covariance.averaged(dense, label_covariance) if average else dense
    cross = dense.cross_kernels(x_test, joint=joint)
    if average:
        # Labels were less the mean, so means are.
        cross = cross._replace(offset=None)
    basis = dense.time_basis(t, joint_with=len(x_test) if joint else None)
    known = check.concrete(dense, cross, t)
    engine = dense._engine if isinstance(dense, FeatureEnsemble) else dense
    value, *variances = _output_divergence(engine, cross, jnp.atleast_1d(t), basis, joint, known, average)
    if known and not joint:
        _resolution.judge(dense, cross, x_test, np.atleast_1d(np.asarray(t)), *variances)
    if check.concrete(value) and not np.isfinite(np.asarray(value)).all():
        bad = np.atleast_1d(np.asarray(t))[~np.isfinite(np.asarray(value))]
        raise ValueError(
            f"The divergence at `x_test` is not finite at t = {bad[0]:.4g} ({bad.size} of {value.size} times): a "
            "predictive variance or covariance vanishes to working precision. Leave out test inputs that repeat or "
            "that were trained on, use earlier times or float64, or take `joint=False`."
        )
    return value.reshape(t.shape)


@compiling.jit(static_argnames=("joint", "known", "average"))
def _output_divergence(ens, cross, t, basis, joint, known, average):
    filters = _filters(ens, t)
    if joint:
        return (joint_statistics(ens, cross, filters, basis)[1],)
    z, error = ens.predictive(cross, filters, basis), ens.rounding_errors(cross, filters)
    if average:
        # Only E‖μ‖² enters, which k outputs share.
        size = jnp.sqrt(jnp.sum(z.mean**2, axis=-1, keepdims=True) / ens.k)
        z = z._replace(mean=jnp.broadcast_to(size, (*z.variance.shape, ens.k)))
    value = pointwise_divergence(_resolution.floored(z, error) if known else z, cross.prior, cross.offset)
    return value, z.variance, error


def pointwise_divergence(
    z: Gaussian,
    prior: Float[Array, " m"],
    offset: Float[Array, "m k"] | None = None,
    weights: Float[Array, " m"] | None = None,
) -> Float[Array, "..."]:
    """Mean over inputs of KL[N(μ, Σ(x,x) I_k) ‖ N(f₀, K(x,x) I_k)], (...), f₀ the `offset` or zero.

    `weights` as in `_losses.average`.
    """
    before = jnp.zeros(z.mean.shape[-2:], z.mean.dtype) if offset is None else offset
    return _losses.average(gaussian.kl_divergence(z, Gaussian(before, prior)), weights)


def joint_statistics(
    ens: Ensemble, cross: CrossKernels, filters: Filters, basis: Array | None = None
) -> tuple[Gaussian, Array]:
    """Marginal predictions (T, m) and the joint divergence (T,) from covariances that exist one time at a time."""
    mean = ens.means(cross, filters)
    # Of averages over data sets there are more columns than outputs.
    (m, columns), k = mean.shape[1:], ens.k
    factor0 = cholesky.cholesky(cross.prior)
    # The inverse once, instead of a triangular solve for every time: tr K_**⁻¹(Σ - K_**) costs m² then.
    inverse0 = jax.scipy.linalg.cho_solve((factor0, True), jnp.eye(m, dtype=factor0.dtype))
    moved = mean if cross.offset is None else mean - cross.offset[None]
    whitened = jax.scipy.linalg.solve_triangular(factor0, jnp.moveaxis(moved, 0, 1).reshape(m, -1), lower=True)
    shift = jnp.sum((whitened**2).reshape(m, len(mean), columns), axis=(0, 2))

    def variance_and_divergence(index, covariance):
        log_ratio = jnp.log(jnp.diagonal(cholesky.cholesky(covariance)) / jnp.diagonal(factor0))
        spread = jnp.sum(inverse0 * (covariance - cross.prior)) - 2 * jnp.sum(log_ratio)
        return jnp.diagonal(covariance), 0.5 * (k * spread + shift[index])

    variance, divergence = ens.covariances(cross, filters, variance_and_divergence, basis)
    return Gaussian(mean, variance), divergence
