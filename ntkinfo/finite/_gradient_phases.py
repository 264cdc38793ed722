"""Phases of stochastic gradient descent: drift, where minibatches agree, and diffusion, where they do not.

Read from the statistics of the gradients that `train_layers` records.
"""

import warnings

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check, pytree, tables
from ntkinfo.finite._layer_run import LayerRun


@pytree.dataclass()
class GradientPhases:
    """Gradients of N networks of L layers at T epochs. A pytree; made by `gradient_phases`.

    Attributes:
      epochs: the recorded epochs, (T,).
      mean: ‖mean over minibatches of ∇W‖ / ‖W‖, (N, T, L).
      std: ‖standard deviation over minibatches of ∇W‖ / ‖W‖, (N, T, L).
      snr: signal-to-noise ratio mean / std, (N, T, L); ∞ where the minibatches agree, `nan` where all their gradients
        vanish.
      transition: the first recorded epoch from which the snr stays below 1 to the last, (N, L), integers; -1 where
        there is none, that is, where the last snr is not below 1.
    """

    epochs: Array
    mean: Array
    std: Array
    snr: Array
    transition: Array

    _table = tables.Table(
        ("network", "epochs", "layer"), plain="mean std snr transition", where={"transition": ("network", "layer")}
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def gradient_phases(run: LayerRun) -> GradientPhases:
    """Mean and standard deviation of minibatch gradients, as norms over ‖W‖, and where drift becomes diffusion.

    For each layer, with g_b the gradient of the loss on minibatch b = 1..B of an epoch with respect to its weights, at
    the weights the epoch starts from:

        mean = ‖1/B Σ_b g_b‖ / ‖W‖,  std = √(1/B Σ_b ‖g_b - mean_b g_b‖²) / ‖W‖,  snr = mean / std.

    Where the batches are of one size, their mean is the gradient of the whole loss. The standard deviation grows
    with smaller batches, hence so does the number of epochs with an snr below 1: compare runs of the same batch size.

    Each layer stands for itself, and its norm is taken once. The original figures add up the layers up to each one,
    and take the square root twice; both change the slopes and where the curves cross.

    Args:
      run: a `LayerRun` of N networks at T epochs, trained with at least two minibatches an epoch.

    Returns:
      `GradientPhases`: exact for the minibatches of the one epoch that follows each record. A layer whose gradient
      vanishes on all of them (dead units) has an snr of `nan`, with a warning, and no transition.

    Raises:
      TypeError: not a `LayerRun`.
      ValueError: one minibatch an epoch, whose gradient has no standard deviation; weights that are all zero.

    Source: theory, section 9, gradient phases; Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), figure 4.

    Example:
      >>> run = ni.finite.train_layers((12, 5, 2), task.x, task.labels, epochs=20, n_networks=2, key=jax.random.key(0))
      >>> phases = gradient_phases(run)
      >>> phases.transition[:, 0].shape  # of the first layer, for each network
      (2,)
    """
    check.instance("run", run, LayerRun, maker="`finite.train_layers`")
    if run.steps_per_epoch == 1:
        raise ValueError(
            "`run` must have at least 2 minibatches an epoch; got full batches, and one batch has no standard "
            "deviation. Train with a smaller `batch_size`."
        )
    mean, std = run.gradient_mean / run.weight_norm, run.gradient_std / run.weight_norm
    snr = run.gradient_mean / run.gradient_std
    if check.concrete(run):
        if not np.asarray(run.weight_norm).all():
            raise ValueError("`run` must have weights to divide by; got layers whose weights are all zero.")
        if dead := int(np.isnan(np.asarray(snr)).sum()):
            warnings.warn(
                f"The gradients of {dead} of {snr.size} networks, epochs and layers vanish on all minibatches (dead "
                "units, or the loss is zero): their snr is nan.",
                stacklevel=2,
            )
    # From the last epoch backwards: below 1 there, and at all later ones. NaN is not below.
    stays = jnp.flip(jnp.cumprod(jnp.flip(snr < 1, 1), axis=1), 1).astype(bool)
    transition = jnp.where(stays[:, -1], run.epochs[jnp.argmax(stays, axis=1)], -1)
    return GradientPhases(run.epochs, mean, std, snr, transition)
