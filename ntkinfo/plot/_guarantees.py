"""What is guaranteed of an ensemble: the divergence of its parameters, and the bounds on its error."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, REFERENCE, as_vector, axes_of, draw_legend, log_axis, unit_factor
from ntkinfo.plot._times import draw_line, known_times, time_axis

# The first two often coincide: the second is drawn over it, with gaps.
_BOUNDS = {"pac_bayes_kl": ("PAC-Bayes-kl", "-"), "catoni": ("Catoni", "--"), "mcallester": ("McAllester", ":")}


def bounds(certificate: Any, *, ax: Axes | None = None) -> Axes:
    """Bounds on the true 0-1 error of one network over training time, with its errors on training and test inputs.

    A bound above 1/2 (dotted) says less than guessing does for two classes. Errors are of these inputs, bounds of all,
    with the probability that the axis says.

    Args:
      certificate: a `Certificate` of `ni.certificate`.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: a certificate without bounds, that is, of a regression or of a network with kinks; it says why.

    Example:
      >>> ax = bounds(ni.certificate(ens, x_test, y_test, t))
      >>> ax.get_xscale()
      'log'
    """
    fields = ("t", "pac_bayes_kl", "train_error", "test_error", "delta", "reason")
    check.fields("certificate", certificate, fields, "Certificate", "`ni.certificate`")
    if certificate.pac_bayes_kl is None:
        raise ValueError(
            "`certificate` must have bounds to be drawn; there are none: "
            f"{certificate.reason or 'the labels are no classes'}."
        )
    ax = axes_of(ax)
    place = time_axis(ax, certificate.t)
    for (name, (label, style)), color in zip(_BOUNDS.items(), COLORS[1:], strict=False):
        values = getattr(certificate, name)
        if values is not None:
            # Beyond 1 a bound on an error says nothing.
            shown = np.minimum(as_vector(values), 1.0)
            draw_line(ax, place, certificate.t, shown, color=color, label=label, linestyle=style)
    for name, label, style in (("test_error", "test error", "-"), ("train_error", "training error", "--")):
        draw_line(
            ax,
            place,
            certificate.t,
            as_vector(getattr(certificate, name)),
            color=COLORS[0],
            label=label,
            linestyle=style,
        )
    ax.axhline(0.5, color=REFERENCE, lw=0.9, ls=":", zorder=0)
    ax.set_ylim(0, 1.03)
    ax.set_ylabel(f"0-1 error, bounds with probability {1 - float(certificate.delta):.3g}")
    draw_legend(ax)
    return ax


def parameter_divergence(
    result: Any, t: ArrayLike | None = None, *, unit: str = "nats", ax: Axes | None = None
) -> Axes:
    """KL[p(θ_t|D) ‖ p(θ_0)] over training time and its two parts; logarithmic, without t = 0.

    The linear part alone is dashed: it is no bound on anything by itself.

    Args:
      result: a `ParameterDivergence`, or a `Certificate`, which holds the same.
      t: its times, (T,), for a `ParameterDivergence`; a certificate has its own.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: no such result.
      ValueError: times that do not fit, an unknown unit.

    Example:
      >>> ax = parameter_divergence(ni.information.parameter_divergence(ens, t), t)
      >>> ax.get_xscale()
      'log'
    """
    factor = unit_factor(unit)
    check.fields("result", result, ("linear", "total"), "ParameterDivergence", "`information.parameter_divergence`")
    own = getattr(result, "t", None)
    if own is not None and t is not None:
        raise ValueError("`t` must be None for a result with times of its own; got both.")
    t = own if t is None else t
    if t is None:
        raise ValueError("`t` must be given with a `ParameterDivergence`: the times it was computed for.")
    times = np.atleast_1d(known_times("t", t))
    # Of the Krylov engine it is an estimate, with its bounds.
    estimate = result.linear if hasattr(result.linear, "truncation") else None
    linear = as_vector(result.linear if estimate is None else estimate.value)
    if times.shape != linear.shape:
        raise ValueError(f"`t` must have the {len(linear)} times of `result`; got shape {times.shape}.")
    later = times > 0
    series = {"total": ("total", COLORS[0], "-"), "linear part": ("linear", COLORS[1], "--")}
    series |= (
        {"curvature part": ("curvature", COLORS[2], "-.")} if getattr(result, "curvature", None) is not None else {}
    )
    ax = axes_of(ax)
    place = time_axis(ax, times[later])
    drawn = []
    for label, (name, color, style) in series.items():
        if getattr(result, name) is not None:
            values = linear if name == "linear" else as_vector(getattr(result, name))
            drawn.append(factor * values[later])
            draw_line(ax, place, times[later], drawn[-1], color=color, label=label, linestyle=style)
    if estimate is not None:
        low, high = (np.maximum(factor * as_vector(end)[later], 0) for end in (estimate.lower, estimate.upper))
        order = np.argsort(times[later])
        ax.fill_between(times[later][order], low[order], high[order], color=COLORS[1], alpha=0.2, lw=0)
    log_axis(ax, drawn)
    ax.set_ylabel(rf"$\mathrm{{KL}}[p(\theta_t|D)\,\Vert\,p(\theta_0)]$ [{unit}]")
    draw_legend(ax)
    return ax
