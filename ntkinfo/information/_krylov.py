"""Quantities of predictions that come with errors, as those of the Krylov engine: how far the errors carry.

What is monotone or convex in means and variances is carried by its largest change within their errors; information,
which is neither, to first order, each error with its sign turned the worst way.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import gaussian, kernels, mixture
from ntkinfo._common import check
from ntkinfo._common.results import Estimate, Information
from ntkinfo._numerics import entropy
from ntkinfo.ensemble import KrylovEnsemble, Prediction
from ntkinfo.information import _losses
from ntkinfo.information._losses import Losses

METHOD = "block Lanczos"
# Errors larger than this share of a variance, or of a standard deviation for means, are too large for a first order.
_FIRST_ORDER = 0.5
# Units in the last place that sums over inputs lose.
_ROUNDING = 16.0
# Methods whose bounds are their value's own; the others have bounds with slopes of their own.
_ONE_NUMBER = ("exact", "monte_carlo")


def output_divergence(ens: KrylovEnsemble, x_test: Float[ArrayLike, "m ..."], t: Num[ArrayLike, "*T"]) -> Estimate:
    """`information.output_divergence` of single outputs, averaged over the inputs.

    Its error is the largest that means and variances within their errors can make.

    Raises:
      ValueError: a variance that its error does not tell from zero, where the divergence is not known at all.
    """
    x_test = ens.check_inputs("x_test", x_test)
    z = ens.predict(x_test, check.times("t", t))
    unknown = unresolved(z)
    if unknown.any():
        raise ValueError(
            f"The divergence at `x_test` is not known: {int(unknown.sum())} of {unknown.size} variances are no larger "
            'than their errors. Take a smaller `tolerance` in `Ensemble.fit`, earlier times, or engine="dense"; leave '
            "out test inputs that were trained on."
        )
    return divergence(ens, x_test, z)


def divergence(ens: KrylovEnsemble, x_test: Array, z: Prediction) -> Estimate:
    """The core of `output_divergence`; an infinite error where a variance is not told from zero."""
    prior = np.asarray(kernels.diagonal(ens.kernel_fn, x_test), np.float64)
    offset = kernels.offset(ens.mean_fn, x_test, ens.k)
    mean, error, variance, spread = _numbers(z)
    moved = mean - (0.0 if offset is None else np.asarray(offset, np.float64))
    unknown = unresolved(z)
    variance = np.maximum(variance, np.where(unknown, spread, 0.0))
    # Stands in where nothing is known, and the error says so.
    low = np.where(unknown, variance, variance - spread)

    def divergence(ratio):
        return 0.5 * ens.k * (ratio - 1.0 - np.log(ratio))

    ratio, low, high = (each / prior for each in (variance, low, variance + spread))
    value = divergence(ratio) + 0.5 * np.sum(moved**2, axis=-1) / prior
    # Convex in the variance: its largest changes are at the ends.
    change = np.maximum(np.abs(divergence(low) - divergence(ratio)), np.abs(divergence(high) - divergence(ratio)))
    change = change + np.sum(error * (np.abs(moved) + 0.5 * error), axis=-1) / prior
    return _of_average(value.mean(axis=-1), np.where(unknown, np.inf, change), z)


def losses(z: Prediction, targets: Array, classes: np.ndarray | None, noise: float | None) -> Losses:
    """`information.losses` of a prediction with errors, an `Estimate` each: targets (m, k), class numbers or None."""
    value = _losses.of_known(z.gaussian, targets, classes, noise)
    mean, error, variance, spread = _numbers(z)
    k, y = mean.shape[-1], np.asarray(targets, np.float64)
    low = np.maximum(variance - spread, 0.0)
    of_mean = np.sum((mean - y) ** 2, axis=-1)
    change_of_mean = np.sum((2 * np.abs(mean - y) + error) * error, axis=-1)
    change = change_of_mean + k * spread
    found: dict[str, Any] = {"gibbs_mse": change, "mean_mse": change_of_mean}
    if noise is not None:
        found["gibbs_nll"] = 0.5 * change / float(noise)
        found["ensemble_nll"] = _change_of_ensemble_nll(of_mean, change_of_mean, variance, low, spread, float(noise), k)
    if classes is not None:
        one = _changes_of_signs if k == 1 else _changes_of_classes
        found["gibbs_error"], found["mean_error"] = one(mean, error, variance, low, spread, y, np.asarray(classes))
    averages = {name: None if field is None else np.asarray(field) for name, field in value._asdict().items()}
    return Losses(
        **{name: None if field is None else _of_average(field, found[name], z) for name, field in averages.items()}  # pyright: ignore
    )


def _change_of_ensemble_nll(of_mean, change_of_mean, variance, low, spread, noise, k):
    """The largest change of ½[k log(v + σ²) + d²/(v + σ²)] within errors: rising in d², with one minimum in v."""

    def loss(v):
        return 0.5 * (k * np.log(v + noise) + of_mean / (v + noise))

    here, ends = loss(variance), np.maximum(loss(low), loss(variance + spread))
    least = loss(np.clip(of_mean / k - noise, low, variance + spread))
    return np.maximum(ends - here, here - least) + 0.5 * change_of_mean / (low + noise)


def _changes_of_signs(mean, error, variance, low, spread, y, classes):
    """The largest changes of both 0-1 errors at each input, labels ±1: monotone in the margin and in the variance."""
    del classes
    margin, error = mean[..., 0] * y[:, 0], error[..., 0]

    def wrong(margin, variance):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = margin / np.sqrt(variance)
        return scipy.special.ndtr(-np.where(np.isnan(ratio), 0.0, ratio))

    here = wrong(margin, variance)
    corners = [wrong(margin + sign * error, v) for sign in (-1, 1) for v in (low, variance + spread)]
    gibbs = np.max([np.abs(corner - here) for corner in corners], axis=0)
    # One more where the mean's own error does not tell its sign.
    return gibbs, np.where((np.abs(margin) <= error) & (error > 0), 1.0, 0.0)


def _changes_of_classes(mean, error, variance, low, spread, y, classes):
    """The same for several outputs: monotone in every gap between the right output and another, in its own units."""
    del y
    at = np.broadcast_to(classes[:, None], (*mean.shape[:-1], 1))
    gap = np.take_along_axis(mean, at, axis=-1) - mean
    both = np.take_along_axis(error, at, axis=-1) + error
    own = np.arange(mean.shape[-1]) == at
    gap, both = np.where(own, 0.0, gap), np.where(own, 0.0, both)
    tiny = np.finfo(np.float64).tiny
    stds = [np.sqrt(np.maximum(v, tiny))[..., None] for v in (low, variance + spread)]
    far = 1e3
    least = np.clip(np.min([(gap - both) / std for std in stds], axis=0), -far, far)
    most = np.clip(np.max([(gap + both) / std for std in stds], axis=0), -far, far)
    wins = [
        np.asarray(gaussian.winning_of(jnp.asarray(-gaps), jnp.ones(variance.shape, gaps.dtype), jnp.asarray(classes)))
        for gaps in (least, gap / np.sqrt(np.maximum(variance, tiny))[..., None], most)
    ]
    gibbs = np.maximum(wins[2] - wins[1], wins[1] - wins[0])
    others = np.where(own, np.inf, gap)
    nearest, reach = np.min(others - np.where(own, 0.0, both), axis=-1), np.min(others + np.where(own, 0.0, both), -1)
    return np.abs(gibbs), np.where((nearest <= 0) & (reach >= 0) & np.any(both > 0, axis=-1), 1.0, 0.0)


def density(information: Information, change: Estimate, noise: float) -> Information:
    """The decoder bound of real labels with the error that the Gibbs loss has: lower by what it may have missed."""
    lower = information.lower - 0.5 * change.truncation / noise
    return dataclasses.replace(information, lower=lower)


def pair(z: Prediction, one_hot: np.ndarray, *, method, key, n_samples) -> tuple[Information, Information]:
    """I(X;Z) and I(Y;Z) as `mixture.pair`, of a prediction with errors; `lower` and `upper` are widened by theirs.

    To first order: Σ_i |∂I/∂μ_i| δμ_i + |∂I/∂log v_i| δ log v_i. Where errors are too large for that, and beyond the
    limits of any information, bounds are 0 and log m, or H(Y).
    """
    mean, error, variance, spread = _numbers(z)
    unknown = unresolved(z)
    variance = np.maximum(variance, np.where(unknown, spread, 0.0))
    lead, (m, k) = variance.shape[:-1], mean.shape[-2:]
    flat = mean.reshape(-1, m, k), variance.reshape(-1, m)
    found = mixture.pair(*(jnp.asarray(part, z.mean.dtype) for part in flat), one_hot, method=method, key=key,
                         n_samples=n_samples)  # fmt: skip
    # What the quadrature itself loses; afterwards bounds are those of the predictions' errors.
    mixture.refuse_impossible(found[0], m)
    mixture.warn_if_inaccurate(found[0])
    method = mixture.select_method(method, k, key)
    one_number = method in _ONE_NUMBER
    slopes = _slopes(*map(jnp.asarray, flat), one_hot, key, method, n_samples, one_number)
    slopes = [np.asarray(part, np.float64) for part in slopes]
    share = np.where(unknown, 0.0, spread / np.where(variance > 0, variance, 1.0)).reshape(-1, m)
    large = unknown.reshape(-1, m) | (share > _FIRST_ORDER)
    large |= np.any(error > _FIRST_ORDER * np.sqrt(variance)[..., None], axis=-1).reshape(-1, m)
    # Of the logarithm of a variance the larger change is downwards.
    logarithm = -np.log1p(-np.minimum(share, _FIRST_ORDER))
    changes = []
    for by_mean, by_variance in zip(*slopes, strict=True):
        change = np.sum(np.abs(by_mean) * error.reshape(-1, m, k), axis=(-1, -2))
        change = change + np.sum(np.abs(by_variance) * flat[1] * logarithm, axis=-1)
        changes.append(np.where(large.any(axis=-1), np.inf, change))
    ceilings = np.log(m), float(entropy.entropy(one_hot.mean(axis=0)))
    results = []
    for i, (information, ceiling) in enumerate(zip(found, ceilings, strict=True)):
        own = changes[i : i + 1] * 2 if one_number else changes[2 * i : 2 * i + 2]
        sampled = method == "monte_carlo"
        bounds = (information.value,) * 2 if sampled else (information.lower, information.upper)
        low, high = (np.asarray(bound, np.float64) for bound in bounds)
        low, high = np.maximum(low - own[0], 0.0), np.minimum(high + own[1], ceiling)
        # Sampled values may lie outside of what they estimate.
        low, high = np.minimum(low, ceiling), np.maximum(high, 0.0)
        value = np.asarray(information.value, np.float64)
        if method == "exact":
            # That of no information may be a rounding beside 0, where bounds end.
            value = np.clip(value, low, high)
        numbers = {"value": value, "lower": low, "upper": high}
        widened = dataclasses.replace(
            information, **{name: jnp.asarray(number, z.mean.dtype) for name, number in numbers.items()}
        )
        results.append(jax.tree.map(lambda part: part.reshape(lead) if part.ndim else part, widened))
    return results[0], results[1]


@functools.partial(jax.jit, static_argnames=("method", "n_samples", "one_number"))
def _slopes(mean, variance, one_hot, key, method, n_samples, one_number):
    """Derivatives of the values of both informations, or of their four bounds, by means (q, T, m, k) and variances."""

    def numbers(mean, variance):
        both = mixture.pair(mean, variance, one_hot, method=method, key=key, n_samples=n_samples)
        fields = ("value",) if one_number else ("lower", "upper")
        return jnp.stack([getattr(one, field) for one in both for field in fields])

    value, pull = jax.vjp(numbers, mean, variance)
    units = [jnp.zeros_like(value).at[q].set(1.0) for q in range(len(value))]
    return [jnp.stack(parts) for parts in zip(*(pull(unit) for unit in units), strict=True)]


def _numbers(z: Prediction) -> list[np.ndarray]:
    """Means, their errors, variances, theirs, in float64 on the host."""
    return [np.asarray(part, np.float64) for part in (z.mean, z.error.mean, z.variance, z.error.variance)]


def unresolved(z: Prediction) -> np.ndarray:
    """Whether a variance is not told from zero by its error, (..., m)."""
    return ~(np.asarray(z.variance, np.float64) > np.asarray(z.error.variance, np.float64))


def _of_average(value: np.ndarray, changes: np.ndarray, z: Prediction) -> Estimate:
    """A value that is an average over inputs, with changes (..., m) at each."""
    dtype = z.mean.dtype
    change = changes.mean(axis=-1) + _ROUNDING * float(jnp.finfo(dtype).eps) * np.abs(value)
    return Estimate(*(jnp.asarray(part, dtype) for part in (value, np.zeros_like(change), change)), METHOD)
