"""The information plane of the infinite ensemble."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from ntkinfo._common import check
from ntkinfo.plot import _grid_planes
from ntkinfo.plot._axes import (
    END,
    MARKERS,
    as_vector,
    axes_of,
    by_name,
    check_curve,
    draw_legend,
    draw_level,
    unit_factor,
)
from ntkinfo.plot._fields import field_of, has_classes, is_lower_bound, symbols_of, value_of
from ntkinfo.plot._plane_axes import LINES, NAMES, SWEEP_COLORS, SWEEP_COLORS_SHOWN, name_axes, vertical
from ntkinfo.plot._times import inner_times, shown_range


def plane(
    results: Any, *, unit: str = "nats", ax: Axes | None = None, bound: tuple | None = None, samples: Any = None
) -> Axes:
    """The information plane: I(Y;Z|D) against I(X;Z|D), one point for each training time, coloured by it.

    The dashed vertical line is the ceiling log m, the dotted horizontal one H(Y) for classes; ceilings far off are
    named at the edge. Error bars are ± 2 standard errors where values are sampled. The open circle is t = 0, the open
    square t = ∞. "≥" on an axis says that a decoder's lower bound is drawn.

    A sweep is one line for each of its cells, coloured by σ_w, the kinds of line being σ_b. Several sweeps over one
    grid are replicates: lines are their mean, bands their standard deviation. Of a `Grid` likewise, coloured by its
    first axis of several values, the kinds of line being the second; draws of the data (axis "seed") are replicates.

    Args:
      results: a `Curve`, a list of them, or a mapping from names to them; a `Sweep` of `ni.sweep`, or a list of them;
        a `Grid`, such as one over numbers of training examples.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.
      bound: (i_xz, i_zy) in nats, arrays of one length: a curve no representation can exceed, drawn in black.
      samples: finite networks, as `finite.summary` returns them, or a list of those: points with ± 2 standard errors.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit, no curve, a bound that is no pair of vectors of one length, sweeps over other grids,
        a `Grid` of more than two axes beside "seed" or without a cell that was computed.

    Example:
      >>> grid = ni.sweep.grid(lambda: net, ni.datasets.gaussian(20, 8), [0.0, 10.0], axes={"n": [5, 10, 20]})
      >>> len(plane(grid).get_legend().get_texts())
      3
    """
    factor = unit_factor(unit)
    points = _finite_points(samples)
    if _grid_planes.is_grid(results):
        ax = _grid_planes.draw(results, factor, unit, ax, check_bound(bound))
        _draw_finite(ax, points, factor)
        if points:
            draw_legend(ax)
        return ax
    if _is_sweep(results) or (
        isinstance(results, list | tuple)
        and len(results)
        and not hasattr(results, "t")
        and all(map(_is_sweep, results))
    ):
        return _sweeps(
            list(results) if not _is_sweep(results) else [results], factor, unit, ax, check_bound(bound), points
        )
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
    _draw_finite(ax, points, factor)
    for height in sorted({float(result.log_m) for result in results.values()}):
        vertical(ax, factor * height, rf"$\log m$ = {factor * height:.3g} {unit}")
    for height in sorted({float(result.label_entropy) for result in results.values() if has_classes(result)}):
        draw_level(ax, factor * height, rf"$H(Y)$ = {factor * height:.3g} {unit}", ":", side="left")
    symbols = symbols_of(next(iter(results.values())), "information")
    bounded = {name: any(is_lower_bound(result, name) for result in results.values()) for name in NAMES}
    name_axes(ax, symbols, bounded, unit)
    draw_legend(ax)
    return ax


def _is_sweep(value) -> bool:
    return all(hasattr(value, field) for field in ("w_std", "b_std", "values", "t")) and np.ndim(value.w_std) == 1


def _sweeps(sweeps, factor, unit, ax, bound, points):
    """Every cell of a sweep in the plane, means and bands over replicates."""
    first = sweeps[0]
    for sweep in sweeps[1:]:
        if any(not np.array_equal(getattr(sweep, field), getattr(first, field)) for field in ("w_std", "b_std", "t")):
            raise ValueError("`results` must be sweeps over one grid of scales and times; they differ.")
    # A cell that failed in one replicate is a mean of the others.
    values = {name: factor * np.stack([sweep.values[name] for sweep in sweeps]) for name in NAMES}
    ax = axes_of(ax)
    scales = np.asarray(first.w_std, float)
    norm = LogNorm(scales.min(), scales.max() if scales.max() > scales.min() else 2 * scales.min())
    if bound is not None:
        ax.plot(factor * bound[0], factor * bound[1], color="black", lw=1.2, label="bottleneck bound", zorder=1)
    order = np.argsort(first.t, kind="stable")
    for i, w in enumerate(scales):
        for j in range(len(first.b_std)):
            cell = [values[name][:, i, j][:, order] for name in NAMES]
            kept = [np.isfinite(replicate).all() for replicate in np.stack(cell, axis=1)]
            if not any(kept):
                continue
            (x, y), (_, spread) = ([function(part[kept], axis=0) for part in cell] for function in (np.mean, np.std))
            color = SWEEP_COLORS(0.9 * norm(w))
            if sum(kept) > 1:
                ax.fill_between(x, y - spread, y + spread, color=color, alpha=0.2, lw=0)
            ax.plot(x, y, color=color, lw=1.4, ls=LINES[j % len(LINES)], marker=".", ms=3)
    if len(first.b_std) > 1:
        for j, b in enumerate(first.b_std):
            ax.plot([], [], color="0.3", lw=1.4, ls=LINES[j % len(LINES)], label=rf"$\sigma_b$ = {b:.3g}")
    if len(sweeps) > 1:
        ax.fill_between([], [], [], color="0.3", alpha=0.2, lw=0, label=f"± 1 std over {len(sweeps)} replicates")
    _draw_finite(ax, points, factor)
    mappable = ScalarMappable(norm, SWEEP_COLORS_SHOWN)
    bar = ax.figure.colorbar(mappable, ax=ax, label=r"weight scale $\sigma_w$")
    bar.set_ticks(scales, labels=[f"{scale:.3g}" for scale in scales])
    bar.minorticks_off()
    ceilings = first.ceilings
    vertical(ax, factor * ceilings["log_m"], rf"$\log m$ = {factor * ceilings['log_m']:.3g} {unit}")
    classes = "gibbs_error" in first.values
    if classes:
        entropies = sorted({round(sweep.ceilings["label_entropy"], 12) for sweep in sweeps})
        height = factor * entropies[-1]
        draw_level(ax, height, rf"$H(Y)$ = {height:.3g} {unit}", ":", side="left")
    symbols = symbols_of(first, "information")
    name_axes(ax, symbols, {"input_information": False, "label_information": not classes}, unit)
    draw_legend(ax)
    return ax


def _finite_points(samples) -> list:
    """What `finite.summary` returns, one or several, as vectors."""
    several = [samples] if isinstance(samples, Mapping) else samples
    if several is None:
        return []
    if not isinstance(several, list | tuple):
        raise TypeError(f"`samples` must be what `finite.summary` returns, or a list; got {check.described(samples)}.")
    points = []
    for one in several:
        if not isinstance(one, Mapping) or any(name not in one for name in NAMES):
            raise ValueError(
                "`samples` must hold input_information and label_information, as `finite.summary(run, y_test)` returns."
            )
        parts = []
        for name in NAMES:
            vectors = [np.atleast_1d(check.real_numbers("samples", part)) for part in one[name]]
            if len(vectors) != 3 or len({vector.shape for vector in vectors}) != 1:
                raise ValueError(f"`samples`: {name} must be (t, mean, stderr), three vectors of one length.")
            parts.append(vectors)
        points.append(parts)
    return points


def _draw_finite(ax, points, factor):
    for i, ((_, x, x_error), (_, y, y_error)) in enumerate(points):
        errors, marker = (2 * factor * y_error, 2 * factor * x_error), MARKERS[(i + 2) % len(MARKERS)]
        label = f"finite networks{f' {i + 1}' if len(points) > 1 else ''}, ± 2 stderr"
        style = {"ms": 5, "color": "black", "mfc": "white", "lw": 0.8, "zorder": 4}
        ax.errorbar(factor * x, factor * y, *errors, fmt=marker, label=label, **style)


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
