"""Means and deviations of minibatch gradients over training."""

import numpy as np

from ntkinfo.plot._axes import COLORS, axes_of, draw_legend


def gradients(phases, *, ax=None):
    """Norms of the mean (solid) and the deviation (dashed) of the minibatch gradients of each layer, over its weights.

    Args:
      phases: `GradientPhases`.
      ax: where to draw; None for a new figure.

    Returns:
      The axes. Shades are two standard errors over networks; a dot is where, in the median network, the signal-to-noise
      ratio falls below 1 for good.
    """
    ax = axes_of(ax)
    epochs = np.asarray(phases.epochs)
    for layer in range(phases.mean.shape[2]):
        color = COLORS[layer % len(COLORS)]
        for values, style in ((phases.mean, "-"), (phases.std, "--")):
            one = np.asarray(values)[:, :, layer]
            middle = one.mean(axis=0)
            ax.plot(epochs, middle, color=color, ls=style, lw=1.4, label=f"layer {layer + 1}" if style == "-" else None)
            if len(one) > 1:
                error = 2 * one.std(axis=0, ddof=1) / len(one) ** 0.5
                ax.fill_between(epochs, middle - error, middle + error, color=color, alpha=0.15, lw=0)
        found = np.asarray(phases.transition)[:, layer]
        if (found >= 0).sum() * 2 > len(found):
            at = np.searchsorted(epochs, np.median(found[found >= 0]))
            ax.plot(epochs[at], np.asarray(phases.mean)[:, at, layer].mean(), "o", color=color, ms=6)
    ax.plot([], [], color="0.4", ls="-", label="mean")
    ax.plot([], [], color="0.4", ls="--", label="deviation")
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(r"$\|\nabla W\|\,/\,\|W\|$")
    draw_legend(ax, ncols=2)
    return ax
