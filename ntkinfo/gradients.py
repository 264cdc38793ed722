"""Phases of stochastic gradient descent: drift, where gradients agree, and diffusion, where they do not."""

import dataclasses

import jax
import numpy as np

from ntkinfo import layered


@dataclasses.dataclass(frozen=True)
class GradientPhases:
    """Gradients of N networks over T epochs, L layers. A pytree; made by `gradient_phases`.

    Attributes:
      epochs: (T,).
      mean: ‖mean over minibatches of ∇W‖ / ‖W‖, (N, T, L).
      std: ‖standard deviation over minibatches of ∇W‖ / ‖W‖, (N, T, L).
      snr: the signal-to-noise ratio mean / std, (N, T, L).
      transition: the first recorded epoch from which `snr` stays below 1 to the end, (N, L) integers; -1 where it does
        not.
    """

    epochs: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    snr: np.ndarray
    transition: np.ndarray


jax.tree_util.register_dataclass(
    GradientPhases, data_fields=[field.name for field in dataclasses.fields(GradientPhases)], meta_fields=[]
)


def gradient_phases(run: layered.LayerRun) -> GradientPhases:
    """Mean and standard deviation of the minibatch gradients of each layer, normalised by its weights, over training.

    Each layer stands for itself: layers are not added up and no square root is taken twice, as in the figures of the
    original study, whose curves therefore show the sum of all layers before.

    Args:
      run: a `LayerRun` of minibatches.

    Returns:
      `GradientPhases`; means over networks and their standard errors are over the first axis.

    Raises:
      TypeError: not a `LayerRun`.
      ValueError: one minibatch an epoch, which has no deviation; gradients or weights that vanish.

    Source: theory, section 9; Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), section 3.2.

    Example:
      >>> phases = gradient_phases(run)
      >>> phases.snr.mean(axis=0)  # (T, L)
    """
    if not isinstance(run, layered.LayerRun):
        raise TypeError(f"`run` must be a `LayerRun` of `finite.train_layers`; got {type(run).__name__}.")
    if run.steps_per_epoch == 1:
        raise ValueError(
            "`run` must be of several minibatches an epoch: the gradient of all rows at once has no deviation. Train "
            "with a smaller `batch_size`."
        )
    mean, std, weight = (np.asarray(each) for each in (run.gradient_mean, run.gradient_std, run.weight_norm))
    for name, values in (("deviation of the gradients", std), ("norm of the weights", weight)):
        if not (values > 0).all():
            layer = int(np.argwhere(values <= 0)[0][2])
            raise ValueError(f"`run` must have gradients that vary and weights; the {name} of layer {layer + 1} is 0.")
    snr, epochs = mean / std, np.asarray(run.epochs)
    # From the end: below 1 up to here.
    below = np.flip(np.logical_and.accumulate(np.flip(snr < 1, axis=1), axis=1), axis=1)
    transition = np.where(below[:, -1], epochs[below.argmax(axis=1)], -1)
    return GradientPhases(epochs, mean / weight, std / weight, snr, transition)


__all__ = ["GradientPhases", "gradient_phases"]
