"""Gaussian predictions and their entropies, log-probabilities, divergences and probabilities of winning an arg max.

A prediction for m points and k outputs has the covariance Σ ⊗ I_k: the outputs are independent and share Σ.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, compiling, eigenproblems, tables, tracing
from ntkinfo._numerics import normal_rule, padding, variance_ratio
from ntkinfo._numerics.cholesky import cholesky

__all__ = [
    "STEP",
    "VALUES",
    "Gaussian",
    "check_marginals",
    "cholesky",
    "entropy",
    "joint_divergence",
    "kl_divergence",
    "log_prob",
    "sign_error",
    "winning_probabilities",
]


class Gaussian(NamedTuple):
    """A predictive distribution N(mean, Σ ⊗ I_k) over k outputs at m points; leading axes are free.

    Attributes:
      mean: (..., m, k).
      variance: (..., m), the diagonal of Σ: marginal variances, the same for each output.
      covariance: (..., m, m), Σ, where it was asked for.
    """

    mean: jax.Array
    variance: jax.Array
    covariance: jax.Array | None = None

    _table = tables.Table(
        ("point", "output"), plain="mean variance std", where={"variance": ("point",), "std": ("point",)}
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def std(self) -> Float[Array, "... m"]:
        """√variance, (..., m)."""
        return jnp.sqrt(self.variance)

    def log_prob(self, y: Float[ArrayLike, "... m k"], *, noise: ArrayLike = 0.0) -> Float[Array, "... m"]:
        """log N(y; mean, (variance + noise) I_k) in nats at each point; see `gaussian.log_prob`."""
        return log_prob(self, y, noise=noise)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Draws of all outputs: of functions on the m points where there is a covariance, else of each point alone.

        Args:
          key: random key.
          shape: how many draws, leading axes.

        Returns:
          (*shape, ..., m, k).

        Raises:
          TypeError, ValueError: no random key, sizes that are not positive integers, negative variances, a covariance
            that is not positive semidefinite. A singular one is right: equal inputs have equal outputs.
        """
        check.key("key", key)
        if not isinstance(shape, tuple | list):
            raise TypeError(f"`shape` must be a tuple of sizes; got {check.described(shape)}.")
        shape = tuple(check.size("shape", size) for size in shape)
        p = check_marginals("self", self, zero=True)
        check.entries("shape", math.prod(shape) * p.mean.size, f"{math.prod(shape)} draws of {p.mean.size} outputs")
        draw = functools.partial(jax.random.normal, dtype=p.mean.dtype)
        known, full = tracing.is_known(key, p.mean, p.variance), (*shape, *p.mean.shape)
        normal = padding.draws(draw, key, full) if known else draw(key, full)
        if self.covariance is None:
            return _scaled(normal, p.mean, p.variance)
        covariance = _check_arguments("self", self, joint=True).covariance
        what = "`self` must be of at most {} points"
        eigenproblems.require(what, p.mean.shape[-2], p.mean.dtype, "Draw at fewer.")
        root, smallest = _roots(covariance)
        if check.concrete(smallest) and np.any(np.asarray(smallest) < -1e3 * jnp.finfo(smallest.dtype).eps):
            raise ValueError(
                "`self.covariance` must be positive semidefinite; got one with an eigenvalue of "
                f"{float(np.min(smallest)):.3g} of its largest. Where all is rounding, use float64 or an earlier time."
            )
        return _correlated(normal, p.mean, root)


# Leading axes of the draws come first.
@compiling.on_host
def _scaled(xp, normal, mean, variance):
    ahead = (None,) * (normal.ndim - mean.ndim)
    return mean[ahead] + xp.sqrt(variance)[*ahead, ..., None] * normal


@compiling.on_host
def _correlated(xp, normal, mean, root):
    ahead = (None,) * (normal.ndim - mean.ndim)
    return mean[ahead] + root[ahead] @ normal


def check_marginals(name: str, p: Gaussian, *, zero: bool = False) -> Gaussian:
    """`p` as a `Gaussian` of checked means (..., m, k) and variances (..., m), without a covariance.

    Args:
      name: what to call the argument in messages.
      p: prediction.
      zero: whether variances may vanish.

    Raises:
      TypeError: `p` is no `Gaussian`, or does not hold floating-point numbers.
      ValueError: shapes that do not fit, NaN or Inf, a variance that is negative, or zero unless `zero`.

    Example:
      >>> check_marginals('z', ens.predict(x_test, t, joint=True)).covariance is None
      True
    """
    check.flag("zero", zero)
    check.instance(name, p, Gaussian, maker="`Ensemble.predict`")
    mean, variance = _moments(f"{name}.mean", f"{name}.variance", p.mean, p.variance)
    check.positive(f"{name}.variance", variance, zero=zero)
    return Gaussian(mean, variance)


def _check_arguments(name: str, p: Gaussian, *, joint: bool) -> Gaussian:
    check.flag("joint", joint)
    if not joint:
        return check_marginals(name, p)
    check.instance(name, p, Gaussian, maker="`Ensemble.predict`")
    mean, variance = _moments(f"{name}.mean", f"{name}.variance", p.mean, p.variance)
    if p.covariance is None:
        raise ValueError(f"`{name}` must have a covariance for a joint result; got None. Predict with `joint=True`.")
    covariance = check.array(f"{name}.covariance", p.covariance)
    if covariance.shape != (*variance.shape, variance.shape[-1]):
        raise ValueError(
            f"`{name}.covariance` must have shape {(*variance.shape, variance.shape[-1])}; got {covariance.shape}."
        )
    return Gaussian(mean, variance, covariance)


def _moments(mean_name, variance_name, mean, variance):
    mean, variance = check.array(mean_name, mean), check.array(variance_name, variance)
    if mean.ndim < 2 or variance.shape != mean.shape[:-1]:
        raise ValueError(
            f"`{mean_name}` must have shape (..., m, k) and `{variance_name}` (..., m); got {mean.shape} and "
            f"{variance.shape}."
        )
    return mean, variance


def _definite(name: str, result, factor):
    """Refuses a covariance whose Cholesky factor failed, where it can be seen."""
    if check.concrete(factor) and np.isnan(np.asarray(factor)).any():
        first = tuple(int(i) for i in np.argwhere(np.isnan(np.asarray(factor)).any(axis=(-2, -1)))[0])
        raise ValueError(
            f"`{name}.covariance` must be positive definite to working precision; got one that is not"
            f"{f' at index {first}' if first else ''}. Duplicated inputs, training inputs at late times and float32 "
            "do this: remove duplicates, use float64, or add the variance of observation noise to the diagonal."
        )
    return result


@compiling.jit
def _factors(covariances):
    m = covariances.shape[-1]
    return jax.lax.map(cholesky, covariances.reshape((-1, m, m))).reshape(covariances.shape)


@compiling.jit
def _roots(covariances):
    """R with R Rᵀ = Σ for semidefinite Σ (..., m, m), and their smallest eigenvalues in units of the largest."""
    m = covariances.shape[-1]

    def one(covariance):
        eigenvalues, vectors = jnp.linalg.eigh(covariance)
        root = vectors * jnp.sqrt(jnp.maximum(eigenvalues, 0.0))[None, :]
        return root, eigenvalues[0] / jnp.maximum(eigenvalues[-1], jnp.finfo(covariance.dtype).tiny)

    roots, smallest = jax.lax.map(one, covariances.reshape((-1, m, m)))
    return roots.reshape(covariances.shape), smallest


def entropy(p: Gaussian, *, joint: bool = False) -> Float[Array, "..."]:
    """Differential entropy h(p) in nats: k/2 log(2πe variance) at each point, or of all m points together.

    Args:
      p: prediction; variances positive.
      joint: over all points, (k/2)(m log(2πe) + log det Σ), from `p.covariance`. O(m³).

    Returns:
      (..., m), or (...) if joint. Exact. `nan` under tracing for a covariance that is not positive definite.

    Raises:
      ValueError: a variance that is not positive, a missing covariance or one that is not positive definite.

    Example:
      >>> entropy(Gaussian(np.zeros((1, 1)), np.ones(1))).round(4).tolist()  # ½ log 2πe
      [1.4189]
    """
    p = _check_arguments("p", p, joint=joint)
    k = p.mean.shape[-1]
    if not joint:
        return _entropy(p.variance, k=k)
    factor = _factors(p.covariance)
    return _definite("p", _joint_entropy(factor, k=k), factor)


@compiling.on_host(static_argnames=("k",))
def _entropy(xp, variance, *, k):
    return 0.5 * k * (math.log(2 * math.pi * math.e) + xp.log(variance))


@compiling.on_host(static_argnames=("k",))
def _joint_entropy(xp, factor, *, k):
    log_det = 2 * xp.sum(xp.log(xp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
    return 0.5 * k * (factor.shape[-1] * math.log(2 * math.pi * math.e) + log_det)


def log_prob(p: Gaussian, y: Float[ArrayLike, "... m k"], *, noise: ArrayLike = 0.0) -> Float[Array, "... m"]:
    """log N(y; mean, (variance + noise) I_k) in nats at each point.

    Args:
      p: prediction.
      y: (m, k) observations, or with the leading axes of `p`.
      noise: variance of observation noise, a number; variance + noise must be positive.

    Returns:
      (..., m). Exact.

    Raises:
      ValueError: a shape of `y` that does not fit, or variance + noise not positive.

    Example:
      >>> log_prob(Gaussian(np.zeros((1, 1)), np.ones(1)), np.zeros((1, 1))).round(4).tolist()
      [-0.9189]
    """
    p = check_marginals("p", p, zero=True)
    y = check.array("y", y)
    check.positive("noise", noise, zero=True, scalar=True)
    if y.shape[-2:] != p.mean.shape[-2:] or y.ndim > p.mean.ndim:
        raise ValueError(f"`y` must have the shape (m, k) = {p.mean.shape[-2:]} of one prediction; got {y.shape}.")
    if check.concrete(p.variance, noise):
        check.positive("noise + variance", np.asarray(p.variance) + np.asarray(noise, p.variance.dtype))
    noise = noise if isinstance(noise, jax.Array) else np.asarray(noise)
    result = _log_prob(p.mean, p.variance, y, noise.astype(p.variance.dtype))
    check.finite_result("the log-probability", result, "`y`, `noise` and `p`")
    return result


@compiling.on_host
def _log_prob(xp, mean, variance, y, noise):
    variance = variance + noise
    # Divided before it is squared, and the logarithm in parts: neither overflows where the result does not.
    scaled = (xp.broadcast_to(y, mean.shape) - mean) / xp.sqrt(variance)[..., None]
    return -0.5 * (xp.sum(scaled**2, axis=-1) + mean.shape[-1] * (math.log(2 * math.pi) + xp.log(variance)))


def joint_divergence(
    mean: Float[Array, "m k"], factor: Float[Array, "m m"], factor0: Float[Array, "m m"]
) -> Float[Array, ""]:
    """KL of one pair of joint Gaussians from the difference of means (m, k) and the Cholesky factors.

    Example:
      >>> float(joint_divergence(jnp.ones((2, 1)), jnp.eye(2), jnp.eye(2)))  # half the squared distance of the means
      1.0
    """
    m, k = mean.shape
    whitened = jax.scipy.linalg.solve_triangular(factor0, jnp.concatenate([factor, mean], axis=1), lower=True)
    ratio, shift = whitened[:, :m], whitened[:, m:]
    diagonal = jnp.diagonal(ratio)
    spread = jnp.sum(jnp.tril(ratio, -1) ** 2) + jnp.sum(diagonal**2 - 1.0 - 2 * jnp.log(diagonal))
    return 0.5 * (k * spread + jnp.sum(shift**2))


@compiling.jit
def _joint_divergences(mean, other, factor, factor0):
    mean = mean - jnp.broadcast_to(other, mean.shape)
    m, k = mean.shape[-2:]
    lead = mean.shape[:-2]
    flat = mean.reshape((-1, m, k)), factor.reshape((-1, m, m))
    if factor0.ndim == 2:
        return jax.lax.map(lambda a: joint_divergence(*a, factor0), flat).reshape(lead)
    return jax.lax.map(lambda a: joint_divergence(*a), (*flat, factor0.reshape((-1, m, m)))).reshape(lead)


def kl_divergence(p: Gaussian, q: Gaussian, *, joint: bool = False) -> Float[Array, "..."]:
    """KL[p ‖ q] in nats of two predictions at the same points, at each point or of all points together.

        KL = ½ [k tr(Σ_q⁻¹ Σ_p) + tr(dᵀ Σ_q⁻¹ d) - k m + k log(det Σ_q / det Σ_p)]

    with d = mean_p - mean_q and, at each point, m = 1. The joint divergence is never below the largest of the
    pointwise ones. No jitter is added: a nearly singular Σ_q makes the value depend on rounding.

    Args:
      p: prediction; leading axes (...).
      q: reference with the same leading axes, or with none (a prior against predictions at many times).
      joint: over all m points, from the covariances, by Cholesky. O(m³) for each leading index.

    Returns:
      (..., m), or (...) if joint. Exact. `nan` under tracing for variances that are not positive or covariances that
      are not positive definite.

    Raises:
      TypeError: `p` or `q` is no `Gaussian`.
      ValueError: shapes that do not fit, a variance that is not positive, a covariance that is missing or not
        positive definite to working precision; a divergence beyond the range of the dtype.

    Source: theory, section 4, "Output against prior".

    Example:
      >>> p, q = Gaussian(np.ones((2, 1)), np.ones(2)), Gaussian(np.zeros((2, 1)), np.ones(2))
      >>> kl_divergence(p, q).tolist()
      [0.5, 0.5]
    """
    p, q = _check_arguments("p", p, joint=joint), _check_arguments("q", q, joint=joint)
    if q.mean.shape != p.mean.shape and q.mean.shape != p.mean.shape[-2:]:
        raise ValueError(
            f"`q` must have a mean of the shape of `p`, {p.mean.shape}, or without its leading axes; "
            f"got {q.mean.shape}."
        )
    if not joint:
        result = _pointwise(p.mean, p.variance, q.mean, q.variance)
    else:
        factor, factor0 = _factors(p.covariance), _factors(q.covariance)
        result = _joint_divergences(p.mean, q.mean, factor, factor0)
        result = _definite("q", _definite("p", result, factor), factor0)
    check.finite_result("the divergence", result, "`p` and `q`")
    return result


@compiling.jit
def _pointwise(mean, variance, other, reference):
    """KL at each point, (..., m)."""
    shift, reference = mean - jnp.broadcast_to(other, mean.shape), jnp.broadcast_to(reference, variance.shape)
    scaled = shift / jnp.sqrt(reference)[..., None]
    k = mean.shape[-1]
    return 0.5 * (k * variance_ratio.excess(variance, reference) + jnp.sum(scaled**2, axis=-1))


def sign_error(p: Gaussian, y: Float[ArrayLike, "m 1"]) -> Float[Array, "... m"]:
    """P(sign of the output differs from y) = Φ(-y mean / √variance) at each point, for one output.

    Args:
      p: prediction with k = 1; a variance of 0 gives 0, 1, or 1/2 where the mean is 0 as well.
      y: (m, 1) labels -1 or 1.

    Returns:
      (..., m) probabilities. Exact.

    Source: theory, section 2.

    Example:
      >>> sign_error(Gaussian(np.array([[0.0], [2.0]]), np.ones(2)), np.ones((2, 1))).round(4).tolist()
      [0.5, 0.0228]
    """
    p = check_marginals("p", p, zero=True)
    y = check.array("y", y, 2)
    if p.mean.shape[-1] != 1 or y.shape != p.mean.shape[-2:]:
        raise ValueError(f"`p` must have one output and `y` the shape (m, 1); got means {p.mean.shape}, y {y.shape}.")
    check.signs("y", y)
    return _sign_error(p.mean, p.variance, y)


@compiling.on_host
def _sign_error(xp, mean, variance, y):
    margin = xp.broadcast_to(y, mean.shape)[..., 0] * mean[..., 0]
    random = variance > 0
    normal = jax.scipy.special.ndtr if xp is jnp else scipy.special.ndtr
    error = normal(-margin / xp.sqrt(xp.where(random, variance, 1.0)))
    return xp.where(random, error, 0.5 * (1.0 - xp.sign(margin)))


# Trapezoidal rule for the value u of the winning output, in standard deviations above the largest mean: it must be
# above -9.5 and, up to k Φ(-9.5), below 9.5. The integrand is entire and vanishes at both ends, so the rule
# converges faster than any power of its step.
STEP = 0.1
VALUES, _ = normal_rule.trapezoid(STEP, 9.5)


def _rule(k: int) -> tuple[np.ndarray, float]:
    """Values and step for k outputs.

    The Fourier transform of a product of k + 1 densities or distribution functions falls as e^{-ω²/2(k+1)}, and what
    the rule misses is its value at ω = 2π/step: below 1e-14. Of many outputs that asks for too much: `STEP` is enough.
    """
    step = max(STEP, 2 * math.pi / math.sqrt(2 * (k + 1) * 32))
    return (VALUES, STEP) if step == STEP else (normal_rule.trapezoid(step, step * math.ceil(9.5 / step))[0], step)


def _standing(mean, variance):
    """Gaps (k,) to the largest mean, and u (values, k), what each output has to be above its mean."""
    gap = mean - jnp.max(mean)
    # 50 standard deviations below the best, the density underflows: going further changes nothing but NaN gradients.
    gap_in_sd = jnp.maximum(gap / jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), -50.0)
    values, step = _rule(len(mean))
    return gap, jnp.asarray(values, mean.dtype)[:, None] - gap_in_sd[None, :], step / math.sqrt(2 * np.pi)


def _below(u):
    """Φ(u), for u from -9.5."""
    return 0.5 * jax.lax.erfc(-math.sqrt(0.5) * u)


def _wins(mean, variance):
    """P(arg max = c) at one point, (k,)."""
    gap, u, scale = _standing(mean, variance)
    below = jnp.log(_below(u))
    others = jnp.sum(below, axis=1, keepdims=True) - below
    # Rounding may lift what is all but certain above one.
    noisy = jnp.minimum(jnp.sum(jnp.exp(-0.5 * u * u + others), axis=0) * scale, 1.0)
    winners = (gap == 0).astype(mean.dtype)
    return jnp.where(variance > 0, noisy, winners / jnp.sum(winners))


def _win(mean, variance, index):
    """P(arg max = index) at one point."""
    gap, u, scale = _standing(mean, variance)
    own = jnp.arange(len(mean)) == index
    others = jnp.prod(jnp.where(own[None, :], 1.0, _below(u)), axis=1)
    noisy = jnp.minimum(jnp.sum(jnp.exp(-0.5 * u[:, index] ** 2) * others) * scale, 1.0)
    winners = (gap == 0).astype(mean.dtype)
    return jnp.where(variance > 0, noisy, winners[index] / jnp.sum(winners))


def _batch(k: int, size: int) -> int:
    """Points together: their functions of u stay in the cache."""
    return int(np.clip(2**15 // (VALUES.size * k), 1, size))


@compiling.jit
def _winning(mean, variance):
    k = mean.shape[-1]
    flat = mean.reshape((-1, k)), variance.reshape(-1)
    wins = jax.checkpoint(lambda a: _wins(*a))
    return jax.lax.map(wins, flat, batch_size=_batch(k, variance.size)).reshape(mean.shape)


@compiling.jit
def _winning_of(mean, variance, classes):
    wins = jax.checkpoint(lambda a: _win(*a))
    return jax.lax.map(wins, (mean, variance, classes), batch_size=_batch(mean.shape[-1], variance.size))


def winning_of(mean: Float[Array, "*lead m k"], variance: Float[Array, "*lead m"], classes: Array) -> Array:
    """`winning_probabilities` of one class at each point, `classes` (m,): (..., m), without checks, at a fraction."""
    known = tracing.is_known(mean, variance, classes) and padding.on_host(mean)
    xp, program = (np, functools.partial(padding.rowwise, _winning_of)) if known else (jnp, _winning_of)
    index = xp.broadcast_to(xp.asarray(classes), variance.shape)
    rows = xp.asarray(mean).reshape((-1, mean.shape[-1])), xp.asarray(variance).ravel(), index.ravel()
    return jnp.asarray(xp.asarray(program(*rows)).reshape(variance.shape))


def winning_probabilities(
    mean: Float[ArrayLike, "*lead m k"], variance: Float[ArrayLike, "*lead m"]
) -> Float[Array, "*lead m k"]:
    """P(class c has the largest of k outputs), for independent outputs N(mean_c, variance) at each point.

        P(c wins) = ∫ φ(u - mean_c / s) Π_{j≠c} Φ(u - mean_j / s) du,    s = √variance

    One-dimensional quadrature shared by the classes, exact to rounding (absolute); nothing is sampled. O(190 k) for
    each point.

    Args:
      mean: (..., m, k), k at least 2.
      variance: (..., m), not negative. A variance of 0 gives the indicator of the largest mean, ties shared equally.

    Returns:
      (..., m, k) probabilities that sum to 1 over classes.

    Raises:
      ValueError: one output (see `sign_error`), shapes that do not fit, a negative variance.

    Source: theory, section 2.

    Example:
      >>> winning_probabilities(np.zeros((1, 4)), np.ones(1)).round(6).tolist()
      [[0.25, 0.25, 0.25, 0.25]]
    """
    mean, variance = _moments("mean", "variance", mean, variance)
    check.positive("variance", variance, zero=True)
    if mean.shape[-1] < 2:
        raise ValueError(
            f"`mean` must have at least two outputs, one for each class; got shape {mean.shape}. "
            "For one output and labels -1 and 1 use `sign_error`."
        )
    if not (tracing.is_known(mean, variance) and padding.on_host(mean)):
        return _winning(mean, variance)
    k = mean.shape[-1]
    rows = padding.rowwise(_winning, np.asarray(mean).reshape(-1, k), np.asarray(variance).ravel())
    return jnp.asarray(np.asarray(rows).reshape(mean.shape))
