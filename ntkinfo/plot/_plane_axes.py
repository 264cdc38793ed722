"""What planes of curves, sweeps and grids share: colours, kinds of line, names of the axes and the ceilings."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from ntkinfo.plot._axes import REFERENCE, beyond
from ntkinfo.plot._fields import AT_LEAST

NAMES = ("input_information", "label_information")
LINES = ("-", "--", "-.", ":")
# Without the palest end, which white paper swallows.
SWEEP_COLORS = plt.get_cmap("viridis")
SWEEP_COLORS_SHOWN = ListedColormap(SWEEP_COLORS(np.linspace(0, 0.9, 256)))


def name_axes(ax, symbols, bounded, unit):
    """I(X;Z|D) across and I(Y;Z|D) up, with what is drawn of them."""
    for name, setter in zip(NAMES, (ax.set_xlabel, ax.set_ylabel), strict=True):
        setter(f"{symbols[name]}{AT_LEAST if bounded[name] else ''} [{unit}]")


def vertical(ax, x, label):
    """A labelled vertical ceiling; one far to the right of everything else is named at the edge."""
    low, high = ax.get_xlim()
    off = beyond(x, low, high)
    if not off:
        ax.axvline(x, color=REFERENCE, lw=0.9, ls="--", zorder=0)
    ax.annotate(
        f"{label} →" if off else label,
        (1, 0) if off else (x, 0.5),
        (-3, 3) if off else (-3, 0),
        rotation=0 if off else 90,
        xycoords="axes fraction" if off else ("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        va="bottom" if off else "center",
        size="small",
        color=REFERENCE,
    )
