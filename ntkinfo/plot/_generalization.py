"""Why networks generalize: values of examples, conditional mutual information over time, learning curves."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, axes_of, draw_legend, unit_factor
from ntkinfo.plot._times import draw_line, known_times, time_axis


def examples(value: Any, *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """What each example tells beyond all others against its residual; colours tell the probability of its label.

    Args:
      value: `ExampleValue` with an information (of a posterior, or at test inputs).
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes; examples at the right with dark colours contradict the others.

    Raises:
      TypeError: no `ExampleValue`.
      ValueError: one without an information; an unknown unit.

    Example:
      >>> ax = examples(ni.examples.value(ni.Posterior.fit(net, x, y, noise=0.1)))
      >>> ax.get_ylabel()
      'information of the example (nats)'
    """
    check.fields("value", value, ("information", "residual", "probability"), "ExampleValue", "`examples.value`")
    factor = unit_factor(unit)
    if value.information is None:
        raise ValueError("`value` must have an information; that of an ensemble needs test inputs, `examples.value`.")
    ax = axes_of(ax)
    size = np.sqrt(np.sum(np.asarray(value.residual, float) ** 2, axis=1))
    color = COLORS[0] if value.probability is None else np.asarray(value.probability, float)
    scale = {} if value.probability is None else {"cmap": "viridis", "vmin": 0.0, "vmax": 1.0}
    points = ax.scatter(size, factor * np.asarray(value.information, float), c=color, s=14, **scale)
    if value.probability is not None:
        ax.figure.colorbar(points, ax=ax, label="probability of the label")
    ax.set_xlabel("residual without the example")
    ax.set_ylabel(f"information of the example ({unit})")
    return ax


def cmi(found: Any, t: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """The errors of one network over training time, beside the bounds on its test error from a supersample.

    Args:
      found: `Supersample` of several times.
      t: those times.
      ax: where to draw; None for a new figure.

    Returns:
      The axes, with training time on a logarithmic axis.

    Raises:
      TypeError: no `Supersample`.
      ValueError: times that are none or not as many; a supersample at one time, not a list.
    """
    check.fields("found", found, ("square_root", "binary_kl", "train_error"), "Supersample", "`cmi.supersample`")
    times = known_times("t", t)
    if np.ndim(found.error) != 1:
        raise ValueError(
            "`found` must hold several times, the horizontal axis; got one. Give `cmi.supersample` a list."
        )
    if times.shape != np.shape(found.error):
        raise ValueError(f"`t` must be the times of `found`, shape {np.shape(found.error)}; got {times.shape}.")
    ax = axes_of(ax)
    place = time_axis(ax, times)
    train = np.asarray(found.train_error, float)
    interpolation = np.asarray(found.interpolation, float)
    lines = (
        ("error", found.error, "-", COLORS[0]),
        ("training error", train, "-", COLORS[5]),
        ("square-root bound", train + np.asarray(found.square_root, float), "--", COLORS[1]),
        ("binary-kl bound", found.binary_kl, "--", COLORS[2]),
        ("interpolation bound", np.where(np.isfinite(interpolation), interpolation, np.nan), "--", COLORS[3]),
    )
    for label, values, style, color in lines:
        draw_line(ax, place, times, np.asarray(values, float), color=color, label=label, linestyle=style)
    ax.set_xlabel("training time $t$")
    ax.set_ylabel("0-1 error of one network")
    ax.set_ylim(0.0, 1.02)
    draw_legend(ax)
    return ax


def learning(found: Any, *, ax: Axes | None = None) -> Axes:
    """The predicted error over the number of training examples, and measured errors with two standard errors.

    Args:
      found: `LearningCurve`.
      ax: where to draw; None for a new figure.

    Returns:
      The axes, logarithmic both.

    Raises:
      TypeError: no `LearningCurve`.
    """
    check.fields("found", found, ("n", "error", "measured"), "LearningCurve", "`learning.curve`")
    ax = axes_of(ax)
    n, error = np.asarray(found.n, float), np.asarray(found.error, float)
    order = np.argsort(n)
    ax.plot(n[order], error[order], color=COLORS[0], label="predicted")
    if found.measured is not None:
        bars = 2 * np.asarray(found.stderr, float)
        ax.errorbar(n, np.asarray(found.measured, float), bars, fmt="o", color=COLORS[1], ms=4, label="measured")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("training examples $n$")
    ax.set_ylabel("squared error of the mean")
    draw_legend(ax)
    return ax
