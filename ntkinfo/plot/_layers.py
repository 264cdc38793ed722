"""Layers of trained networks in the information plane, coloured by epoch."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm

from ntkinfo._common import check
from ntkinfo.plot._axes import (
    COLORS,
    LEGEND,
    MARKERS,
    REFERENCE,
    axes_of,
    by_name,
    check_axes,
    check_curve,
    check_title,
    draw_legend,
    draw_level,
    unit_factor,
)
from ntkinfo.plot._planes import check_bound


def layers(
    plane: Any,
    *,
    bound: tuple | None = None,
    ensemble: Any = None,
    networks: bool = False,
    unit: str = "nats",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Every layer in the information plane over training, the mean over networks, coloured by epoch.

    Args:
      plane: a `Plane`.
      bound: (i_xz, i_zy) in nats, the bottleneck curve, drawn in black: `bottleneck.hull(curve)`.
      ensemble: a `Curve` of the infinite ensemble, whose outputs are drawn as crosses.
      networks: whether to show every network instead of their mean.
      unit: "nats" or "bits".
      title: of the axes; None takes the estimator, which is part of the measurement.
      ax: where to draw; None for a new figure.

    Returns:
      The axes. The dashed line is the ceiling log n of I(X;T), the dotted one H(Y). Open markers: within 1 % of the
      ceiling.

    Raises:
      ValueError: an unknown unit.
    """
    _check(plane, bound, unit, ax)
    check.flag("networks", networks)
    check_title(title)
    if ensemble is not None:
        check_curve("ensemble", ensemble)
    ax = axes_of(ax)
    norm, factor = _draw(ax, plane, unit, networks), unit_factor(unit)
    if ensemble is not None:
        i_xz, i_zy = (np.asarray(field.value) for field in (ensemble.input_information, ensemble.label_information))
        ax.plot(factor * i_xz, factor * i_zy, color="#D55E00", lw=0.9, marker="x", ms=4, label="infinite ensemble")
    draw_frame(ax, plane, factor, unit, bound)
    ax.figure.colorbar(ScalarMappable(norm, "viridis"), ax=ax, label="epoch")
    ax.set_title(plane.estimator if title is None else title, size="small")
    draw_legend(ax)
    return ax


def _check(plane, bound, unit, ax=None):
    """What all figures of planes take."""
    check.fields("plane", plane, ("i_xt", "saturated", "estimator"), "Plane", "`finite.information_plane`")
    check_bound(bound)
    unit_factor(unit)
    check_axes(ax)


def _draw(ax, plane, unit, networks):
    """The points; the norm of their colours."""
    factor, norm = unit_factor(unit), _norm(plane)
    x, y = (factor * np.asarray(values) for values in (plane.i_xt, plane.i_ty))
    if not networks:
        x, y = x.mean(0, keepdims=True), y.mean(0, keepdims=True)
    saturated = np.asarray(plane.saturated)
    for layer, name in enumerate(plane.names):
        marker = MARKERS[layer % len(MARKERS)]
        for i in range(len(x)):
            if not networks:
                ax.plot(x[i, :, layer], y[i, :, layer], color="0.85", lw=0.7, zorder=1)
            colors = plt.get_cmap("viridis")(norm(plane.epochs))
            faces = np.where(saturated[:, layer, None], 1.0, colors)
            ax.scatter(
                x[i, :, layer], y[i, :, layer], c=faces, edgecolors=colors, marker=marker, s=22, lw=0.8, zorder=3
            )
        ax.plot([], [], ls="", marker=marker, color="0.4", ms=4, label=name)
    return norm


def estimators(planes: Any, *, bound: tuple | None = None, unit: str = "nats", columns: int = 3) -> np.ndarray:
    """Information planes of the same networks by several estimators, side by side on the same axes.

    Args:
      planes: a list of `Plane`s, or a mapping from titles to them.
      bound: as in `layers`.
      unit: "nats" or "bits".
      columns: panels of a row.

    Returns:
      The array of axes; those without a plane are removed from the figure.

    Raises:
      ValueError: an unknown unit, or no plane.
    """
    columns = check.integer("columns", columns)
    unit_factor(unit)
    check_bound(bound)
    given = by_name("planes", planes, "saturated", "Plane", "`finite.information_plane`")
    planes = given if isinstance(planes, Mapping) else {plane.estimator: plane for plane in given.values()}
    columns = min(columns, len(planes))
    rows = -(-len(planes) // columns)
    _, axes = plt.subplots(
        rows, columns, figsize=(4.4 * columns, 3.4 * rows), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, (title, plane) in zip(axes.flat, planes.items(), strict=False):
        _draw(axes_of(ax), plane, unit, networks=False)
        ax.set_title(title, size="small")
    # The axes are shared, and a reference fixes their ends: first come all points.
    for ax, plane in zip(axes.flat, planes.values(), strict=False):
        draw_frame(ax, plane, unit_factor(unit), unit, bound)
    shown, spare = list(axes.flat)[: len(planes)], list(axes.flat)[len(planes) :]
    for ax in spare:
        ax.remove()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure = axes.flat[0].figure
    figure.legend(handles, labels, loc="outside upper left", ncols=3 * columns, **LEGEND)
    norm = _norm(next(iter(planes.values())))
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=shown, label="epoch")
    return axes


def animate(
    plane: Any, *, bound: tuple | None = None, unit: str = "nats", interval: int = 150, ax: Axes | None = None
) -> FuncAnimation:
    """The same as a film: one frame for each epoch, one point for each network and layer.

    Args:
      plane: a `Plane`.
      bound: as in `layers`.
      unit: "nats" or "bits".
      interval: milliseconds a frame.
      ax: where to draw; None for a new figure.

    Returns:
      A `matplotlib.animation.FuncAnimation`: `.save("plane.gif", writer="pillow")`, or `.to_jshtml()` in a notebook.

    Raises:
      ValueError: an unknown unit.
    """
    _check(plane, bound, unit, ax)
    interval = check.integer("interval", interval)
    factor = unit_factor(unit)
    ax = axes_of(ax)
    draw_frame(ax, plane, factor, unit, bound)
    x, y = (factor * np.asarray(values) for values in (plane.i_xt, plane.i_ty))
    ax.set_xlim(-0.03 * x.max(), 1.05 * max(x.max(), factor * plane.log_n))
    ax.set_ylim(-0.03 * y.max(), 1.1 * max(y.max(), factor * plane.label_entropy))
    points = [
        ax.plot([], [], ls="", marker=MARKERS[i % len(MARKERS)], ms=4, label=name)[0]
        for i, name in enumerate(plane.names)
    ]
    draw_legend(ax)

    def show(record):
        for layer, point in enumerate(points):
            point.set_data(x[:, record, layer], y[:, record, layer])
        ax.set_title(f"epoch {plane.epochs[record]:g}; {plane.estimator}", size="small")
        return points

    return FuncAnimation(ax.figure, show, frames=len(plane.epochs), interval=interval)


def training(run: Any) -> np.ndarray:
    """Loss and error of trained networks over the epochs: means, and two standard errors as shades.

    Args:
      run: a `LayerRun`.

    Returns:
      The array of two axes. Test rows are dashed.
    """
    check.fields("run", run, ("train_loss", "epochs", "loss"), "LayerRun", "`finite.train_layers`")
    _, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    epochs = np.asarray(run.epochs)
    for ax, quantity in zip(axes, ("loss", "error"), strict=True):
        ax = axes_of(ax)
        for part, style in (("train", "-"), ("test", "--")):
            values = getattr(run, f"{part}_{quantity}")
            if values is None:
                continue
            values = np.asarray(values)
            mean = values.mean(axis=0)
            error = values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0 * mean
            ax.plot(epochs, mean, color=COLORS[0], ls=style, label=part)
            ax.fill_between(epochs, mean - 2 * error, mean + 2 * error, color=COLORS[0], alpha=0.2, lw=0)
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlabel("epoch")
        ax.set_ylabel(f"{run.loss.replace('_', ' ')} [nats]" if quantity == "loss" and run.loss != "mse" else quantity)
        draw_legend(ax)
    return axes


def draw_frame(ax, plane, factor, unit, bound):
    """The axes of an information plane around its points: its references and the curve nothing exceeds."""
    bound = check_bound(bound)
    if bound is not None:
        ax.plot(factor * np.asarray(bound[0]), factor * np.asarray(bound[1]), color="black", lw=1.2, zorder=2)
    ax.axvline(factor * plane.log_n, color=REFERENCE, lw=0.9, ls="--", zorder=0)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -0.03 * high), high)
    draw_level(ax, factor * plane.label_entropy, f"$H(Y)$ = {factor * plane.label_entropy:.3g} {unit}", ":")
    ax.set_xlabel(f"$I(X;T)$ [{unit}], at most $\\log n$ = {factor * plane.log_n:.3g}")
    ax.set_ylabel(f"$I(T;Y)$ [{unit}]")


def _norm(plane):
    epochs = np.asarray(plane.epochs, float)
    least = epochs[epochs > 0].min(initial=1.0)
    return SymLogNorm(least, vmin=epochs.min(), vmax=max(epochs.max(), epochs.min() + 1))
