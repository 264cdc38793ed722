"""The information plane of the infinite ensemble."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from ntkinfo._common import check
from ntkinfo.plot._axes import (
    END,
    MARKERS,
    REFERENCE,
    as_vector,
    axes_of,
    by_name,
    check_curve,
    draw_legend,
    draw_level,
    unit_factor,
)
from ntkinfo.plot._fields import field_of, has_classes, symbols_of, value_of
from ntkinfo.plot._times import inner_times, shown_range


def plane(results: Any, *, unit: str = "nats", ax: Axes | None = None, bound: tuple | None = None) -> Axes:
    """The information plane: I(Y;Z|D) against I(X;Z|D), one point for each training time, coloured by it.

    The dashed vertical line is the ceiling log m, the dotted horizontal one H(Y) for classes. Error bars are ± 2
    standard errors where values are sampled. The open circle is t = 0, the open square t = ∞.

    Args:
      results: a `Curve`, a list of them, or a mapping from names to them.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.
      bound: (i_xz, i_zy) in nats, arrays of one length: a curve no representation can exceed, drawn in black.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit, no curve, or a bound that is no pair of vectors of one length.
    """
    factor = unit_factor(unit)
    results = by_name("results", results, "input_information", "Curve", "`information.curve`")
    for result in results.values():
        check_curve("results", result)
    checked_bound = check_bound(bound)
    ax = axes_of(ax)
    times = np.concatenate([as_vector(result.t) for result in results.values()])
    low, high = shown_range(times)
    norm = LogNorm(low, high if high > low else 10 * low)
    if checked_bound is not None:
        ax.plot(
            factor * checked_bound[0],
            factor * checked_bound[1],
            color="black",
            lw=1.2,
            label="bottleneck bound",
            zorder=1,
        )
    for i, (name, result) in enumerate(results.items()):
        _plane_points(ax, result, factor, norm, MARKERS[i % len(MARKERS)], name)
    for present, shape, label in (((times == 0).any(), "o", "$t=0$"), (np.isinf(times).any(), "s", r"$t=\infty$")):
        if present:
            ax.plot([], [], ls="", marker=shape, label=label, **END)
    ax.figure.colorbar(ScalarMappable(norm, "viridis"), ax=ax, label="training time $t$")
    for height in sorted({float(result.log_m) for result in results.values()}):
        ax.axvline(factor * height, color=REFERENCE, lw=0.9, ls="--", zorder=0)
        ax.annotate(
            rf"$\log m$ = {factor * height:.3g} {unit}",
            (factor * height, 0.5),
            (-3, 0),
            rotation=90,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="center",
            size="small",
            color=REFERENCE,
        )
    for height in sorted({float(result.label_entropy) for result in results.values() if has_classes(result)}):
        draw_level(ax, factor * height, rf"$H(Y)$ = {factor * height:.3g} {unit}", ":")
    symbols = symbols_of(next(iter(results.values())), "information")
    ax.set_xlabel(f"{symbols['input_information']} [{unit}]")
    ax.set_ylabel(f"{symbols['label_information']} [{unit}]")
    draw_legend(ax)
    return ax


def _plane_points(ax, result, factor, norm, marker, title):
    """One curve in the information plane."""
    t = as_vector(result.t)
    names = ("input_information", "label_information")
    x, y = (factor * value_of(result, name) for name in names)
    errors = [
        2 * factor * np.broadcast_to(as_vector(getattr(field_of(result, name), "stderr", 0.0)), t.shape)
        for name in names
    ]
    order, inner = np.argsort(t, kind="stable"), inner_times(t)
    ax.plot(x[order], y[order], color="0.75", lw=0.8, zorder=1)
    if any((error > 0).any() for error in errors):
        ax.errorbar(x, y, errors[1], errors[0], fmt="none", ecolor="0.6", elinewidth=0.7, zorder=1)
    if title:
        ax.plot([], [], color="0.4", lw=0.8, marker=marker, ms=4, label=title)
    for end, shape in ((t == 0, "o"), (np.isinf(t), "s")):
        ax.plot(x[end], y[end], ls="", marker=shape, zorder=4, **END)
    ax.scatter(x[inner], y[inner], c=t[inner], norm=norm, cmap="viridis", marker=marker, s=18, lw=0, zorder=3)


def check_bound(bound):
    """`bound` as two vectors of one length, or None."""
    if bound is None:
        return None
    if not isinstance(bound, list | tuple | np.ndarray):
        raise TypeError(f"`bound` must be (i_xz, i_zy), two vectors; got {check.described(bound)}.")
    bound = [check.values("bound", axis) for axis in bound]
    if len(bound) != 2 or bound[0].ndim != 1 or bound[0].shape != bound[1].shape:
        shapes = ", ".join(str(axis.shape) for axis in bound)
        raise ValueError(f"`bound` must be (i_xz, i_zy), two vectors of one length; got shapes {shapes}.")
    return [check.real_numbers("bound", axis, ends=False) for axis in bound]
