"""Mean and standard deviation of minibatch gradients over training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, END, REFERENCE, axes_of, draw_legend
from ntkinfo.plot._times import draw_line, inner_times, time_axis


def gradients(phases: Any, *, layers: Sequence[int] | None = None, ax: Axes | None = None) -> Axes:
    """Norms of the mean (solid) and of the standard deviation (dashed) of minibatch gradients over ‖W‖, for each layer.

    Averages over networks, with bands of one standard error. The open circle is on the mean at the transition from
    drift to diffusion, its median over networks; a layer in which half of them have none has no circle.

    Args:
      phases: `GradientPhases`.
      layers: which layers to show, numbers from 1; None for all.
      ax: where to draw; None for a new figure.

    Returns:
      The axes, logarithmic both; epoch 0 stands beyond the left end. Averages that are zero are left out.

    Raises:
      ValueError: no layer, or one that is not there.
    """
    check.fields("phases", phases, ("snr", "transition"), "GradientPhases", "`finite.gradient_phases`")
    epochs, mean, std = np.asarray(phases.epochs, float), np.asarray(phases.mean), np.asarray(phases.std)
    n, _, total = mean.shape
    shown = list(range(1, total + 1)) if layers is None else _numbers(layers, total)
    ax = axes_of(ax)
    place = time_axis(ax, epochs)
    ax.set_yscale("log", nonpositive="mask")
    inner = inner_times(epochs)
    for layer in shown:
        color = COLORS[(layer - 1) % len(COLORS)]
        for values, style, label in ((mean, "-", f"layer {layer}"), (std, "--", None)):
            values = values[:, :, layer - 1]
            center = np.where(values.mean(0) > 0, values.mean(0), np.nan)
            draw_line(ax, place, epochs, center, color=color, label=label, linestyle=style)
            if n > 1:
                error = values.std(0, ddof=1)[inner] / np.sqrt(n)
                # A band that reaches zero has no lower end on this axis: it ends at a tenth of the average.
                low = np.maximum(center[inner] - error, center[inner] / 10)
                ax.fill_between(epochs[inner], low, center[inner] + error, color=color, alpha=0.15, lw=0)
        at = np.asarray(phases.transition)[:, layer - 1]
        median = np.quantile(np.where(at < 0, np.inf, at), 0.5, method="higher")
        if np.isfinite(median):
            height = mean[:, epochs == median, layer - 1].mean()
            ax.plot(place(median), height, ls="", marker="o", zorder=4, **(END | {"mec": color}))
    for style, label in (("-", "mean"), ("--", "standard deviation")):
        ax.plot([], [], color=REFERENCE, ls=style, label=label)
    ax.plot([], [], ls="", marker="o", label="drift to diffusion", **(END | {"mec": REFERENCE}))
    ax.set_xlabel("epoch")
    ax.set_ylabel(r"$\Vert\nabla W\Vert\,/\,\Vert W\Vert$")
    draw_legend(ax)
    return ax


def _numbers(layers, total) -> list[int]:
    """Numbers of layers, from 1 on."""
    layers = np.atleast_1d(check.values("layers", layers))
    if layers.dtype.kind not in "iu" or layers.ndim != 1 or not layers.size or layers.min() < 1 or layers.max() > total:
        raise ValueError(f"`layers` must be numbers from 1 to {total}; got {layers.tolist()}.")
    return [int(layer) for layer in layers]
