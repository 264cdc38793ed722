"""Losses of an ensemble: of one network drawn from it (Gibbs) and of its average."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import gaussian
from ntkinfo._common import check, compiling, labels, tables
from ntkinfo._common.results import Estimate
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.ensemble import Ensemble
from ntkinfo.gaussian import Gaussian


class Losses(NamedTuple):
    """Mean losses over m inputs, (...) for predictions with leading axes (...). Exact, given the predictions.

    Those of a curve of a `KrylovEnsemble` are `Estimate`s, of which the predictions' errors are the truncation.

    Attributes:
      gibbs_mse: E‖f(x) - y‖², squared error of one network drawn from the ensemble, summed over outputs.
      mean_mse: ‖μ(x) - y‖², of the ensemble mean.
      gibbs_nll: -E log N(y; f, σ²I) in nats; None without a noise.
      ensemble_nll: -log E N(y; f, σ²I) in nats, never above `gibbs_nll` (Jensen); None without a noise.
      gibbs_error: probability that one network drawn from the ensemble names a wrong class; None for regression.
      mean_error: 0-1 error of the ensemble mean, ties shared equally; None for regression.
    """

    gibbs_mse: Array | Estimate
    mean_mse: Array | Estimate
    gibbs_nll: Array | Estimate | None
    ensemble_nll: Array | Estimate | None
    gibbs_error: Array | Estimate | None
    mean_error: Array | Estimate | None

    _table = tables.Table((), nats="gibbs_nll ensemble_nll", plain="gibbs_mse mean_mse gibbs_error mean_error")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def jensen_gap(self) -> Array | None:
        """`gibbs_nll` - `ensemble_nll` in nats: what averaging the networks gains; never negative."""
        if self.gibbs_nll is None or self.ensemble_nll is None:
            return None
        return _value(self.gibbs_nll) - _value(self.ensemble_nll)


def _value(loss: Array | Estimate) -> Array:
    return loss.value if isinstance(loss, Estimate) else loss


def losses(
    z: Gaussian,
    y: Float[ArrayLike, "m k"] | Float[ArrayLike, " m"],
    *,
    noise: ArrayLike | None = None,
    task: str = "auto",
) -> Losses:
    """Squared error, log-likelihood and 0-1 error of the ensemble and of one network drawn from it.

    Args:
      z: predictions at m inputs; leading axes are free.
      y: labels, (m, k), or (m,) for one output. Entries -1 and 1, or one-hot rows (centred or not), are classes;
        other numbers are real labels.
      noise: variance σ² of observation noise for the log-likelihoods; None leaves them out.
      task: "auto", "classes" or "regression"; under `jit` only "regression" may be left to values not yet known.

    Returns:
      `Losses` of arrays (...), averaged over inputs. Under tracing a variance that is negative gives `nan`.

    Raises:
      TypeError: labels that are not floating-point numbers.
      ValueError: shapes that do not fit, NaN or Inf, a negative variance, a noise that is not positive.

    Source: theory, section 2.
    """
    z = gaussian.check_marginals("z", z, zero=True)
    if noise is not None:
        check.positive("noise", noise, scalar=True)
    read = labels.read("y", y, z.mean.shape[-2], task)
    if read.targets is None:
        raise TypeError("`y` must hold floating-point targets; got integers. Code classes as -1 and 1 or one-hot rows.")
    targets = jnp.asarray(read.targets, z.mean.dtype)
    labels.require_shape("y", targets.shape, z.mean.shape)
    result = of_known(z, targets, read.classes, noise)
    check.finite_result("a loss", result, "`z`, `y` and `noise`")
    return result


def average(values: Float[Array, "... m"], weights: Float[Array, " m"] | None) -> Float[Array, "..."]:
    """The mean over inputs; with weights that add up to one, theirs."""
    return values.mean(axis=-1) if weights is None else values @ weights


@compiling.on_host
def of_known(xp, z, targets, classes, noise):
    """`compute`, which compiles nothing for known predictions on the host."""
    return compute(z, targets, classes, noise, xp=xp)


def compute(
    z: Gaussian,
    targets: Array,
    classes: np.ndarray | Array | None,
    noise: float | Array | None,
    weights: Array | None = None,
    xp: Any = jnp,
) -> Losses:
    """The core of `losses`, jittable: targets (m, k), class numbers (m,) or None, `weights` as in `average`.

    With `xp` NumPy of arrays of NumPy.
    """
    k = z.mean.shape[-1]
    of_mean = xp.sum((z.mean - xp.broadcast_to(targets, z.mean.shape)) ** 2, axis=-1)
    expected = of_mean + k * z.variance
    gibbs_nll = ensemble_nll = gibbs_error = mean_error = None
    if noise is not None:
        # The logarithm in parts: 2πσ² may overflow where σ² does not.
        noise = xp.asarray(noise, z.variance.dtype)
        constant, total = math.log(2 * math.pi), z.variance + noise
        gibbs_nll = average(0.5 * (k * (constant + xp.log(noise)) + expected / noise), weights)
        ensemble_nll = average(0.5 * (k * (constant + xp.log(total)) + of_mean / total), weights)
    if classes is not None:
        gibbs, mean = _errors(z, targets, xp.asarray(classes), xp)
        gibbs_error, mean_error = average(gibbs, weights), average(mean, weights)
    return Losses(
        average(expected, weights), average(of_mean, weights), gibbs_nll, ensemble_nll, gibbs_error, mean_error
    )


def _errors(z, targets, classes, xp):
    """0-1 error at each input of one network and of the mean, (..., m)."""
    if z.mean.shape[-1] == 1:
        margin = z.mean[..., 0] * xp.broadcast_to(targets[:, 0], z.variance.shape)
        return xp.asarray(gaussian.sign_error(z, targets)), 0.5 * (1.0 - xp.sign(margin))
    wins = xp.asarray(gaussian.winning_of(z.mean, z.variance, classes))
    best = (z.mean == xp.max(z.mean, axis=-1, keepdims=True)).astype(z.mean.dtype)
    index = xp.broadcast_to(classes[:, None], (*z.variance.shape, 1))

    chosen = best / xp.sum(best, axis=-1, keepdims=True)
    return 1.0 - wins, 1.0 - xp.take_along_axis(chosen, index, axis=-1)[..., 0]


def training(ens: Ensemble, filters: Filters, n: int | Array) -> tuple[Array, Array]:
    """Squared errors on the n training inputs at T times: of one network and of the mean, (T,) each. O(n) per time.

        (1/n) [‖e^{-sΘ}Y‖² + k tr(e^{-sΘ} K e^{-sΘ})],      (1/n) ‖e^{-sΘ}Y‖²

    Source: theory, section 1.
    """

    def squared_decay(filters):
        return filters.decay**2

    mean_mse = ens.spectral_sum(squared_decay, "labels", filters) / n
    spread = ens.spectral_sum(squared_decay, "nngp", filters) * (ens.k / n)
    return mean_mse + spread, mean_mse
