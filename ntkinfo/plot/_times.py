"""A logarithmic axis of training times, on which t = 0 and t = ∞ have a place beyond the two ends."""

import numpy as np
from matplotlib.ticker import NullLocator

from ntkinfo._common import check
from ntkinfo.plot._axes import as_vector


def known_times(name, t):
    """Training times given beside a result, on the host.

    Raises:
      TypeError, ValueError: no numbers, traced, NaN or negative.
    """
    check.on_host({name: t})
    return np.asarray(check.times(name, t), float)


def shown_range(t):
    """The smallest and largest time that a logarithmic axis can show."""
    shown = t[(t > 0) & np.isfinite(t)]
    return (shown.min(), shown.max()) if shown.size else (1.0, 1.0)


def time_axis(ax, *times):
    """Prepares the horizontal axis for these times; returns the map from times to positions on it."""
    times = np.concatenate([as_vector(t) for t in times])
    low, high = shown_range(times)
    before, after = low / 10, high * 10
    decades = np.arange(np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9) + 1)
    if not inner_times(times).size:
        decades = decades[:0]
    ticks = [(10.0**d, f"$10^{{{int(d)}}}$") for d in decades[:: int(np.ceil(len(decades) / 6)) or 1]]
    ax.set_xscale("log")
    for present, at, label, edge in (
        ((times == 0).any(), before, "0", low / 10**0.5),
        (np.isinf(times).any(), after, r"$\infty$", high * 10**0.5),
    ):
        if present:
            ticks.append((at, label))
            ax.axvline(edge, color="0.85", lw=0.8, zorder=0)
    # One decade mark cannot show a scale; the default marks can.
    if len(ticks) > 1:
        ax.set_xticks(*zip(*sorted(ticks), strict=True))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("training time $t$")
    return lambda t: np.where(t == 0, before, np.where(np.isinf(t), after, t))


def inner_times(t):
    """Indices, in order of time, of the times between 0 and infinity."""
    order = np.argsort(t, kind="stable")
    return order[(t[order] > 0) & np.isfinite(t[order])]


def draw_line(ax, place, t, y, *, color, label, linestyle="-"):
    """A line through the times between 0 and infinity, short dashes for these two."""
    t, inner = as_vector(t), inner_times(as_vector(t))
    alone = "o" if len(inner) == 1 else ""
    ax.plot(t[inner], y[inner], color=color, ls=linestyle, lw=1.6, marker=alone, ms=4, label=label)
    ends = np.setdiff1d(np.arange(len(t)), inner)
    if len(ends):
        ax.plot(place(t[ends]), y[ends], color=color, ls="", marker="_", ms=10, mew=1.6, zorder=3)
