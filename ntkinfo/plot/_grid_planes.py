"""The information plane of a grid: a line for each network or number of examples."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ntkinfo.plot._axes import axes_of, draw_legend, draw_level
from ntkinfo.plot._fields import symbols_of
from ntkinfo.plot._plane_axes import LINES, NAMES, SWEEP_COLORS, name_axes, vertical

_REPLICATES = "seed"


def is_grid(value: Any) -> bool:
    """Whether it has the fields of a `Grid`."""
    return all(hasattr(value, field) for field in ("axes", "t", "values", "ceilings", "failed")) and isinstance(
        value.axes, dict
    )


def draw(grid: Any, factor: float, unit: str, ax: Axes | None, bound: tuple | None) -> Axes:
    """Cells as lines: colours are the first axis of several values, kinds of line the second, draws of data a band."""
    several = [name for name, values in grid.axes.items() if len(values) > 1 and name != _REPLICATES]
    if len(several) > 2:
        raise ValueError(
            f"`results` must vary along at most two axes beside {_REPLICATES!r}, for colour and kind of line; got "
            f"{', '.join(several)}."
        )
    if any(name not in grid.values for name in NAMES):
        raise ValueError("`results` must hold input_information and label_information; no cell has both.")
    order = np.argsort(grid.t, kind="stable")
    lines = []
    for values in itertools.product(*(enumerate(grid.axes[name]) for name in several)):
        chosen = {name: place for name, (place, _) in zip(several, values, strict=True)}
        cell = tuple(slice(None) if name == _REPLICATES else chosen.get(name, 0) for name in grid.axes)
        x, y = (factor * np.atleast_2d(grid.values[name][cell])[:, order] for name in NAMES)
        kept = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        if kept.any():
            lines.append((values, x[kept], y[kept]))
    if not lines:
        raise ValueError("`results` must have a cell that was computed; all failed.")
    ax = axes_of(ax)
    if bound is not None:
        ax.plot(factor * bound[0], factor * bound[1], color="black", lw=1.2, label="bottleneck bound", zorder=1)
    colors = SWEEP_COLORS(np.linspace(0.0, 0.9, len(grid.axes[several[0]]) if several else 1))
    for values, x, y in lines:
        color = colors[values[0][0]] if values else colors[0]
        style = LINES[values[1][0] % len(LINES)] if len(values) > 1 else LINES[0]
        if len(x) > 1:
            spread = y.std(axis=0)
            ax.fill_between(
                x.mean(axis=0), y.mean(axis=0) - spread, y.mean(axis=0) + spread, color=color, alpha=0.2, lw=0
            )
        ax.plot(x.mean(axis=0), y.mean(axis=0), color=color, lw=1.4, ls=style, marker=".", ms=3)
    for name, palette, styles in zip(several, (colors, None), (None, LINES), strict=False):
        for place, value in enumerate(grid.axes[name]):
            color = "0.3" if palette is None else palette[place]
            style = LINES[0] if styles is None else styles[place % len(styles)]
            shown = f"{value:.4g}" if isinstance(value, float) else value
            ax.plot([], [], color=color, ls=style, lw=1.4, label=f"{name} = {shown}")
    replicates = max(len(x) for _, x, _ in lines)
    if replicates > 1:
        ax.fill_between([], [], [], color="0.3", alpha=0.2, lw=0, label=f"± 1 std over {replicates} draws")
    for height in sorted(set(np.round(grid.ceilings["log_m"][np.isfinite(grid.ceilings["log_m"])], 12))):
        vertical(ax, factor * height, rf"$\log m$ = {factor * height:.3g} {unit}")
    classes = "gibbs_error" in grid.values
    entropies = grid.ceilings["label_entropy"][np.isfinite(grid.ceilings["label_entropy"])]
    if classes and entropies.size:
        height = factor * float(entropies.max())
        draw_level(ax, height, rf"$H(Y)$ = {height:.3g} {unit}", ":", side="left")
    name_axes(ax, symbols_of(grid, "information"), {NAMES[0]: False, NAMES[1]: not classes}, unit)
    draw_legend(ax)
    return ax
