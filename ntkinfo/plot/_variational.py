"""Sweeps of variational bottlenecks: their information plane, error against the trade-off, and dynamics."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, MARKERS, REFERENCE, axes_of, draw_legend, draw_level, unit_factor

_QUANTITIES = ("error", "log_loss", "calibration_error", "brier")


def _check(sweep):
    """Refuses what has not the fields of a `Sweep`."""
    check.fields("sweep", sweep, ("objectives", "beta", "i_xz_lower"), "Sweep", "`variational.sweep`")


def variational(sweep: Any, *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """The information plane of a `Sweep`: I(Y;Z) against I(X;Z), a point for each trade-off and seed.

    Args:
      sweep: a `Sweep` of `ni.variational`.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes. Bars reach from InfoNCE (the point) to the leave-one-out upper bound on I(X;Z); I(Y;Z) is the decoder's
      lower bound. The dashed line is the ceiling of InfoNCE, the dotted one H(Y).

    Raises:
      ValueError: an unknown unit.
    """
    factor = unit_factor(unit)
    _check(sweep)
    ax = axes_of(ax)
    for i, name in enumerate(sweep.objectives):
        lower, upper, label = (
            factor * np.asarray(values)[i].ravel() for values in (sweep.i_xz_lower, sweep.i_xz_upper, sweep.i_yz_lower)
        )
        reach = np.stack([np.zeros_like(lower), np.maximum(upper - lower, 0)])
        color = COLORS[i % len(COLORS)]
        ax.errorbar(lower, label, xerr=reach, fmt=MARKERS[i], color=color, ms=4, elinewidth=0.7, label=name)
    ceiling = factor * float(sweep.ceiling)
    ax.axvline(ceiling, color=REFERENCE, lw=0.9, ls="--", zorder=0)
    draw_level(
        ax, factor * float(sweep.label_entropy), f"$H(Y)$ = {factor * float(sweep.label_entropy):.3g} {unit}", ":"
    )
    ax.set_xlabel(f"$I(X;Z)$ [{unit}], InfoNCE at most {ceiling:.3g}")
    ax.set_ylabel(f"$I(Y;Z)$ at least [{unit}]")
    draw_legend(ax)
    return ax


def variational_error(sweep: Any, quantity: str = "error", *, ax: Axes | None = None) -> Axes:
    """Error (or another quantity) of a `Sweep` against β, γ for the dual; means over seeds and their range.

    Args:
      sweep: a `Sweep`.
      quantity: "error", "log_loss", "calibration_error" or "brier".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError, ValueError: no `Sweep`, an unknown quantity.
    """
    _check(sweep)
    check.option("quantity", quantity, _QUANTITIES)
    ax = axes_of(ax)
    beta = np.asarray(sweep.beta)
    for i, name in enumerate(sweep.objectives):
        values = np.asarray(getattr(sweep, quantity))[i]
        color = COLORS[i % len(COLORS)]
        ax.plot(beta, values.mean(axis=1), color=color, marker=MARKERS[i], ms=4, label=name)
        ax.fill_between(beta, values.min(axis=1), values.max(axis=1), color=color, alpha=0.15, lw=0)
    ax.set_xscale("log")
    ax.set_xlabel(r"$\beta$ ($\gamma$ of the dual)")
    ax.set_ylabel(quantity.replace("_", " "))
    draw_legend(ax)
    return ax


def dynamics(sweep: Any, objective: str | None = None, *, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """I(X;Z) (InfoNCE) over training steps for every trade-off of one objective, coloured by it; means over seeds.

    Args:
      sweep: a `Sweep`.
      objective: one of `sweep.objectives`; None for the first.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit, an objective that was not swept.
    """
    factor = unit_factor(unit)
    _check(sweep)
    objective = sweep.objectives[0] if objective is None else objective
    check.option("objective", objective, sweep.objectives)
    ax = axes_of(ax)
    beta, values = np.asarray(sweep.beta), np.asarray(sweep.i_xz)[sweep.objectives.index(objective)].mean(axis=1)
    norm = LogNorm(beta.min(), beta.max() if beta.max() > beta.min() else 10 * beta.min())
    mapped = ScalarMappable(norm, "viridis")
    for one_beta, per_step in zip(beta, values, strict=True):
        ax.plot(sweep.step, factor * per_step, color=mapped.to_rgba(one_beta))
    ax.figure.colorbar(mapped, ax=ax, label=r"$\gamma$" if objective == "dual" else r"$\beta$")
    ax.set_xlabel("step")
    ax.set_ylabel(f"$I(X;Z)$, InfoNCE [{unit}]")
    ax.set_title(objective, size="small")
    return ax
