"""A posterior over functions: the functions themselves for one input, else what it says of each example left out."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, REFERENCE, axes_of, draw_legend

_POINTS = 200


def posterior(post: Any, *, output: int = 0, ax: Axes | None = None) -> Axes:
    """The posterior mean ± 2 standard deviations, without the noise (dark) and with it (light), and the labels.

    For inputs of one number over these; else each training label against its prediction from all others
    (`leave_one_out`), where labels on the dotted diagonal are predicted exactly.

    Args:
      post: a `Posterior`.
      output: which of the k outputs.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: no `Posterior`.
      ValueError: an output that there is none of.
    """
    check.fields("post", post, ("x", "y", "noise", "leave_one_out"), "Posterior", "`Posterior.fit`")
    y = np.asarray(post.y)
    output = check.integer("output", output, least=0, most=y.shape[1] - 1)
    x = np.asarray(post.x).reshape(len(y), -1)
    noise = np.asarray(post.noise)
    # With one noise for each label predictions have a leading axis of labels.
    each = noise.ndim > 0
    noise = float(noise[output] if each else noise)

    def marginals(z):
        mean, variance = np.asarray(z.mean), np.asarray(z.variance)
        return (mean[output, :, 0], variance[output]) if each else (mean[:, output], variance)

    ax = axes_of(ax)
    if x.shape[1] == 1:
        low, high = x.min(), x.max()
        margin = 0.25 * (high - low) or 1.0
        grid = np.linspace(low - margin, high + margin, _POINTS, dtype=x.dtype)
        z = post.predict(grid.reshape(-1, *np.asarray(post.x).shape[1:]))
        mean, variance = marginals(z)
        for width, alpha, label in (
            (np.sqrt(variance + noise), 0.12, "± 2 std of a label"),
            (np.sqrt(variance), 0.25, "± 2 std of the function"),
        ):
            ax.fill_between(grid, mean - 2 * width, mean + 2 * width, color=COLORS[0], alpha=alpha, lw=0, label=label)
        ax.plot(grid, mean, color=COLORS[0], lw=1.6, label="posterior mean")
        ax.plot(x[:, 0], y[:, output], color="black", ls="", marker="o", ms=4, mfc="white", label="training labels")
        ax.set_xlabel("input $x$")
        ax.set_ylabel("output")
    else:
        z = post.leave_one_out()
        mean, variance = marginals(z)
        std = np.sqrt(variance + noise)
        ends = [min(y[:, output].min(), mean.min()), max(y[:, output].max(), mean.max())]
        ax.plot(ends, ends, color=REFERENCE, lw=0.9, ls=":", zorder=0)
        ax.errorbar(
            y[:, output], mean, 2 * std, fmt="o", ms=4, mfc="white", color=COLORS[0], lw=0.8,
            label="leave-one-out prediction ± 2 std of a label",
        )  # fmt: skip
        ax.set_xlabel("training label")
        ax.set_ylabel("predicted from the others")
    draw_legend(ax)
    return ax
