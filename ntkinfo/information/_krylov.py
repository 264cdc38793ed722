"""Quantities of predictions that come with errors, as those of the Krylov engine."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels
from ntkinfo._common import check
from ntkinfo._common.results import Estimate
from ntkinfo.ensemble import KrylovEnsemble


def output_divergence(ens: KrylovEnsemble, x_test: Float[ArrayLike, "m ..."], t: Num[ArrayLike, "*T"]) -> Estimate:
    """`information.output_divergence` of single outputs, averaged over the inputs.

    Its error is the largest that means and variances within their errors can make.

    Raises:
      ValueError: a variance that its error does not tell from zero, where the divergence is not known at all.
    """
    x_test = ens.check_inputs("x_test", x_test)
    t = check.times("t", t)
    z = ens.predict(x_test, t)
    prior = np.asarray(kernels.diagonal(ens.kernel_fn, x_test), np.float64)
    offset = kernels.offset(ens.mean_fn, x_test, ens.k)
    moved = np.asarray(z.mean, np.float64) - (0.0 if offset is None else np.asarray(offset, np.float64))
    error = np.asarray(z.error.mean, np.float64)
    variance, spread = np.asarray(z.variance, np.float64), np.asarray(z.error.variance, np.float64)
    unknown = variance <= spread
    if unknown.any():
        raise ValueError(
            f"The divergence at `x_test` is not known: {int(unknown.sum())} of {unknown.size} variances are no larger "
            'than their errors. Take a smaller `tolerance` in `Ensemble.fit`, earlier times, or engine="dense"; leave '
            "out test inputs that were trained on."
        )
    ratio, low, high = (each / prior for each in (variance, variance - spread, variance + spread))

    def divergence(ratio):
        return 0.5 * ens.k * (ratio - 1.0 - np.log(ratio))

    value = divergence(ratio) + 0.5 * np.sum(moved**2, axis=-1) / prior
    # Convex in the variance: its largest changes are at the ends.
    change = np.maximum(np.abs(divergence(low) - divergence(ratio)), np.abs(divergence(high) - divergence(ratio)))
    change = change + np.sum(error * (np.abs(moved) + 0.5 * error), axis=-1) / prior
    parts = (value.mean(axis=-1), np.zeros(t.shape), change.mean(axis=-1))
    return Estimate(*(jnp.asarray(part, ens.x.dtype) for part in parts), "block Lanczos")
