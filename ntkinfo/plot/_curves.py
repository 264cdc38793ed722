"""Quantities of a `Curve` over training time, alone and beside finite networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ntkinfo._common import check
from ntkinfo.plot._axes import (
    COLORS,
    MARKERS,
    as_vector,
    axes_of,
    by_name,
    check_axes,
    check_curve,
    check_names,
    check_title,
    draw_legend,
    draw_level,
    log_axis,
    unit_factor,
)
from ntkinfo.plot._fields import (
    AT_LEAST,
    AXES,
    LOSSES,
    METHODS,
    field_of,
    has_classes,
    is_lower_bound,
    quantities_of,
    symbols_of,
    value_of,
)
from ntkinfo.plot._planes import check_bound, plane
from ntkinfo.plot._times import draw_line, inner_times, time_axis


def curve(
    result: Any, quantities: str | Sequence[str] | None = None, *, unit: str = "nats", ax: Axes | None = None
) -> Axes:
    """Information quantities over training time, with their bounds and sampling errors.

    Lines are values; the light band reaches from `lower` to `upper` (none above the bound of a decoder), the darker one
    is the value ± 2 standard errors where it is sampled. With I(X;Z|D) comes its ceiling log m (dashed), with I(Y;Z|D)
    for classes its ceiling H(Y) (dotted); a ceiling far above is named at the edge instead. "≥" marks lower bounds.

    Args:
      result: a `Curve`, a cell of a sweep (`Sweep.curve`), a list of them, or a mapping from names to them: each has a
        colour, and each quantity a kind of line.
      quantities: names out of "input_information", "label_information", "output_divergence", "output_divergence_joint".
        None for the first two; the divergences are usually much larger and have their own figure, `divergence`.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit or quantity, or none.
    """
    factor = unit_factor(unit)
    if not isinstance(result, Mapping | list | tuple) or hasattr(result, "_fields"):
        check_curve("result", result)
    results = by_name("result", result, "input_information", "Curve", "`information.curve`")
    for one in results.values():
        check_curve("result", one)
    first = next(iter(results.values()))
    default = ("input_information", "label_information")
    symbols = symbols_of(first, "information")
    names = check_names("quantities", default if quantities is None else quantities, symbols)
    ax = axes_of(ax)
    place = time_axis(ax, *(one.t for one in results.values()))
    for i, (title, one) in enumerate(results.items()):
        for j, (name, style) in enumerate(zip(names, ("-", "--", "-.", ":"), strict=False)):
            color = COLORS[(i if len(results) > 1 else j) % len(COLORS)]
            label = f"{title}: {symbols[name]}" if title else symbols[name]
            _information(ax, place, one, name, label, factor, color, style if len(results) > 1 else "-")
    for name, kept, symbol, style in (
        ("label_information", has_classes, "H(Y)", ":"),
        ("input_information", lambda one: True, r"\log m", "--"),
    ):
        field = "label_entropy" if name == "label_information" else "log_m"
        for level in sorted({round(float(getattr(one, field)), 12) for one in results.values() if kept(one)}):
            if name in names:
                draw_level(ax, factor * level, f"${symbol}$ = {factor * level:.3g} {unit}", style)
    if len(names) == 1:
        bounded = all(is_lower_bound(one, names[0]) for one in results.values())
        ax.set_ylabel(f"{symbols[names[0]]}{AT_LEAST if bounded else ''} [{unit}]")
    else:
        ax.set_ylabel(f"information [{unit}]")
    draw_legend(ax)
    return ax


def divergence(result: Any, *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """Divergence of the outputs from their prior over training time; logarithmic, without t = 0.

    Pointwise, and joint where the result has it.

    Args:
      result: a `Curve`.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit.
    """
    factor = unit_factor(unit)
    check_curve("result", result)
    series = {"output_divergence": "mean over test inputs", "output_divergence_joint": "joint over test inputs"}
    if result.output_divergence_joint is None:
        del series["output_divergence_joint"]
    ax = axes_of(ax)
    _growth(ax, result, series, factor, COLORS[2:])
    ax.set_ylabel(f"{quantities_of(result)['output_divergence'].symbol} [{unit}]")
    draw_legend(ax)
    return ax


def losses(result: Any, kind: str = "mse", *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """Losses of the ensemble over training time: of one network drawn from it, and of the ensemble; errors as bands.

    Args:
      result: a `Curve`.
      kind: "mse" (squared error, on a logarithmic axis down to a millionth of the largest; training inputs dashed),
        "nll" (negative log-likelihood) or "error" (0-1 error; classes only).
      unit: "nats" or "bits", of the negative log-likelihood.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown kind or unit, a 0-1 error of a regression, or a log-likelihood without a noise.
    """
    factor = unit_factor(unit)
    check.option("kind", kind, LOSSES)
    check_curve("result", result)
    if kind != "nll":
        factor = 1.0
    symbols = symbols_of(result, kind)
    values = {name: value_of(result, name) for name in symbols}
    ax = axes_of(ax)
    place = time_axis(ax, result.t)
    for i, (name, label) in enumerate(symbols.items()):
        style = "--" if name.startswith("train") else "-"
        draw_line(ax, place, result.t, factor * values[name], label=label, color=COLORS[i % 2], linestyle=style)
        t = as_vector(result.t)
        _errors(ax, t, field_of(result, name), factor, COLORS[i % 2], np.full(t.shape, True))
    if kind == "mse":
        log_axis(ax, values.values())
        positive = np.concatenate([value[value > 0] for value in values.values()])
        if positive.size:
            # Training errors of an interpolating ensemble end at rounding: they would take the whole axis.
            ax.set_ylim(max(positive.min() / 2, 1e-6 * positive.max()), 2 * positive.max())
    if kind == "error":
        ax.set_ylim(bottom=0)
    ax.set_ylabel(AXES[kind] + (f" [{unit}]" if kind == "nll" else ""))
    draw_legend(ax)
    return ax


def geometry(result: Any, *, ax: Axes | None = None) -> Axes:
    """Distance from the initial parameters and the two actions over training time; logarithmic, without t = 0.

    Args:
      result: a `Curve`. Its Fisher trace, constant in time, heads the legend.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.
    """
    check_curve("result", result)
    ax = axes_of(ax)
    _growth(ax, result, symbols_of(result, "geometry"), 1.0, COLORS)
    ax.set_ylabel(AXES["geometry"])
    trace = float(getattr(result.fisher_trace, "value", result.fisher_trace))
    number = f"{trace:,.0f}" if 100 <= trace < 1e6 else f"{trace:.3g}"
    draw_legend(ax, title=rf"Fisher trace $k\,\mathrm{{tr}}\,\Theta$ = {number}")
    return ax


def finite(result: Any, samples: Mapping, *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """Finite networks beside the closed form: lines from `result`, points with ± 2 standard errors from `samples`.

    Args:
      result: a `Curve`.
      samples: a mapping from quantity names to (t, mean, stderr), three vectors of one length; information in nats. The
        names are the fields of `Curve` and of its `losses`; those of one call share an axis, so must be of one kind.
      unit: "nats" or "bits", of information and of negative log-likelihoods.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit or quantity, none, quantities of different kinds, or vectors of different lengths.
    """
    factor = unit_factor(unit)
    check_curve("result", result)
    check_axes(ax)
    if not isinstance(samples, Mapping):
        raise TypeError(
            "`samples` must be a mapping from names to (t, mean, stderr), as `finite.summary` returns; got "
            f"{check.described(samples)}."
        )
    quantities = quantities_of(result)
    names = check_names("samples", list(samples), quantities)
    kinds = list(dict.fromkeys(quantities[name].kind for name in names))
    if len(kinds) > 1:
        raise ValueError(
            f"`samples` must be quantities of one kind for one axis; got {' and '.join(kinds)}. Call once for each."
        )
    points = {name: _parts(name, samples[name]) for name in names}
    for name, parts in points.items():
        if len(parts) != 3 or len({part.shape for part in parts}) != 1:
            raise ValueError(
                f"`samples[{name!r}]` must be (t, mean, stderr), three vectors of one length; got shapes "
                f"{', '.join(str(part.shape) for part in parts)}."
            )
    unit_less = not quantities[names[0]].unit
    factor = 1.0 if unit_less else factor
    values = {name: factor * value_of(result, name) for name in names}
    ax = axes_of(ax)
    place = time_axis(ax, result.t, *(parts[0] for parts in points.values()))
    for i, name in enumerate(names):
        color, label = COLORS[i % len(COLORS)], quantities[name].symbol
        draw_line(ax, place, result.t, values[name], label=f"{label}, infinite width", color=color)
        t, mean, stderr = points[name]
        ax.errorbar(
            place(t),
            factor * mean,
            2 * factor * stderr,
            fmt=MARKERS[i % len(MARKERS)],
            ms=4,
            color=color,
            mfc="white",
            capsize=2,
            lw=1,
            zorder=4,
            label=f"{label}, finite networks",
        )
    ax.set_ylabel(AXES[kinds[0]] + ("" if unit_less else f" [{unit}]"))
    draw_legend(ax)
    return ax


def summary(result: Any, *, unit: str = "nats", bound: tuple | None = None, title: str | None = None) -> Figure:
    """One figure of six panels: information, information plane, divergence from the prior, two losses, geometry.

    The fifth panel is the 0-1 error for classes and the negative log-likelihood for regression (empty without a noise).

    Args:
      result: a `Curve`.
      unit: "nats" or "bits".
      bound: as in `plane`.
      title: above the panels; None for none.

    Returns:
      The figure. Close it with `matplotlib.pyplot.close(figure)` when it is saved.

    Raises:
      ValueError: an unknown unit, or a bound that is no pair of vectors of one length.
    """
    unit_factor(unit)
    check_curve("result", result)
    check_bound(bound)
    check_title(title)
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    curve(result, unit=unit, ax=axes[0, 0])
    plane(result, unit=unit, bound=bound, ax=axes[0, 1])
    divergence(result, unit=unit, ax=axes[0, 2])
    losses(result, "mse", ax=axes[1, 0])
    if has_classes(result) or result.losses.gibbs_nll is not None:
        losses(result, "error" if has_classes(result) else "nll", unit=unit, ax=axes[1, 1])
    else:
        axes[1, 1].set_axis_off()
    geometry(result, ax=axes[1, 2])
    for letter, ax in zip("abcdef", axes.flat, strict=True):
        # Beside the legend, which stands above the axes.
        ax.set_title(letter, loc="left", weight="bold", size="medium", x=-0.14)
    if title is not None:
        figure.suptitle(title)
    return figure


def _parts(name, parts) -> tuple:
    """Three vectors of numbers."""
    if not isinstance(parts, list | tuple):
        raise TypeError(f"`samples[{name!r}]` must be (t, mean, stderr); got {check.described(parts)}.")
    return tuple(np.atleast_1d(check.real_numbers(f"samples[{name!r}]", part)) for part in parts)


def _growth(ax, result, series, factor, colors):
    """Lines of quantities that grow from 0 at t = 0, on a logarithmic axis, without it."""
    t = as_vector(result.t)
    later = t > 0
    place = time_axis(ax, t[later])
    values = {name: factor * value_of(result, name)[later] for name in series}
    for (name, label), color in zip(series.items(), colors, strict=False):
        draw_line(ax, place, t[later], values[name], label=label, color=color)
        _errors(ax, t, field_of(result, name), factor, color, later)
    log_axis(ax, values.values())


def _errors(ax, t, field, factor, color, shown):
    """What the errors of an estimate leave open, as a band, at the times `shown` between 0 and infinity."""
    if not hasattr(field, "truncation"):
        return
    value, low, high = (factor * as_vector(part) for part in (field.value, field.lower, field.upper))
    at = [i for i in inner_times(t) if shown[i] and np.isfinite(low[i]) and np.isfinite(high[i])]
    # A logarithmic axis has no place for what may be zero.
    ax.fill_between(t[at], np.maximum(low, 1e-3 * value)[at], high[at], color=color, alpha=0.2, lw=0)


def _information(ax, place, result, name, label, factor, color, linestyle):
    """A line with its bounds and its sampling error."""
    field, t = field_of(result, name), as_vector(result.t)
    value = factor * value_of(result, name)
    if hasattr(field, "value"):
        stderr = factor * np.broadcast_to(as_vector(field.stderr), value.shape)
        lower, upper = (factor * np.broadcast_to(as_vector(end), value.shape) for end in (field.lower, field.upper))
        method = getattr(field, "method", "")
        label += "" if method in ("", "exact") else f", {METHODS.get(method, method)}"
        # What a decoder leaves open reaches to the ceiling: a band over everything else. An estimate bounds nothing.
        bounded = method != "decoder" and bool(np.isfinite(lower).all() and np.isfinite(upper).all())
        bands = [(lower, upper, 0.15)] * bounded
        bands += [(value - 2 * stderr, value + 2 * stderr, 0.3)] * bool((stderr > 0).any())
        inner = inner_times(t)
        ends = np.setdiff1d(np.arange(len(t)), inner)
        for low, high, alpha in bands:
            ax.fill_between(t[inner], low[inner], high[inner], color=color, alpha=alpha, lw=0)
            ax.vlines(place(t[ends]), low[ends], high[ends], color=color, alpha=alpha, lw=5)
    if is_lower_bound(result, name):
        label = f"{label} ≥"
    draw_line(ax, place, t, value, color=color, label=label, linestyle=linestyle)
