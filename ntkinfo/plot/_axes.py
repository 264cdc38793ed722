"""What all figures share: colours, units, references, and the checks of their arguments."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from ntkinfo._common import check
from ntkinfo._common.tables import factor as unit_factor  # noqa: F401

# Okabe & Ito's colours, told apart with every common kind of colour vision; black is for references.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
REFERENCE = "0.35"
# A ceiling more than so many times as high as the axis without it is named, not drawn.
FLATTENED = 2.5
LEGEND = {"fontsize": "small", "title_fontsize": "small", "frameon": False, "alignment": "left", "columnspacing": 1.2}
END = {"ms": 6.5, "mfc": "white", "mec": "black", "mew": 1.0}


def axes_of(ax):
    """`ax`, or the axes of a new figure."""
    check_axes(ax)
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_legend(ax, title=None):
    """A legend above the axes and their title, where it covers neither data nor text, if there is anything to name."""
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return
    longest = max(map(len, labels))
    columns = 3 if longest <= 10 else 2 if longest <= 34 else 1
    legend = ax.legend(loc="lower left", ncols=columns, borderaxespad=0.2, title=title, **LEGEND)

    def place(_):
        lines = max(text.count("\n") + 1 if (text := ax.get_title(loc)) else 0 for loc in ("left", "center", "right"))
        points = lines * 1.2 * ax.title.get_fontsize() + (plt.rcParams["axes.titlepad"] if lines else 0)
        raised = ScaledTranslation(0, points / 72, ax.figure.dpi_scale_trans)
        legend.set_bbox_to_anchor((0, 1), ax.transAxes + raised)

    place(ax.title)
    # Who names the axes afterwards finds the legend above the title too.
    ax.title.add_callback(place)


def beyond(level: float, low: float, high: float) -> bool:
    """Whether a ceiling is so far above what is drawn that an axis up to it would flatten everything else."""
    return level > low + FLATTENED * (high - low)


def draw_level(ax, y, label, linestyle, side="right"):
    """A labelled horizontal reference; the axis is extended so that its label fits.

    One that is far above everything else is named at the upper edge, with an arrow, and leaves the axis as it is.
    """
    low, high = ax.get_ylim()
    if ax.has_data() and beyond(y, low, high):
        n_above = sum(text.get_gid() == "beyond" for text in ax.texts)
        ax.annotate(
            f"{label} ↑",
            (1 if side == "right" else 0, 1),
            (-2 if side == "right" else 2, -2 - 12 * n_above),
            xycoords="axes fraction",
            textcoords="offset points",
            size="small",
            ha=side,
            va="top",
            color=REFERENCE,
            gid="beyond",
        )
        if ax.get_yscale() == "linear":
            # Curves end on the right at their highest: its line is kept free of them.
            ax.set_ylim(low, high + 0.1 * (high - low))
        return
    ax.axhline(y, color=REFERENCE, lw=0.9, ls=linestyle, zorder=0)
    ax.annotate(
        label,
        (0, y),
        (3, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        size="small",
        va="bottom",
        color=REFERENCE,
    )
    low, high = ax.get_ylim()
    ax.set_ylim(low, max(high, y + 0.1 * (max(high, y) - low)))


def log_axis(ax, values):
    """A logarithmic vertical axis, where there is anything positive to show."""
    if any((value > 0).any() for value in values):
        ax.set_yscale("log", nonpositive="mask")


def check_axes(ax):
    """Refuses what is neither None nor axes of matplotlib."""
    if ax is not None:
        check.instance("ax", ax, Axes, maker="`matplotlib.pyplot.subplots`")


def check_names(argument, names, accepted):
    """One name or several as a list, refused where none or unknown."""
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list | tuple):
        raise TypeError(f"`{argument}` must be a name or a list of names; got {check.described(names)}.")
    if not names:
        raise ValueError(f"`{argument}` must name at least one of {', '.join(map(repr, accepted))}; got none.")
    for name in names:
        check.option(argument, name, accepted)
    return list(names)


def check_title(title):
    """Refuses a title that is neither None nor text."""
    if title is not None and not isinstance(title, str):
        raise TypeError(f"`title` must be text; got {check.described(title)}.")


def check_curve(name, result):
    """Refuses what has neither the fields of a `Curve` nor times and a table of quantities of its own."""
    field = "quantities" if hasattr(result, "quantities") else "input_information"
    check.fields(name, result, ("t", field), "Curve", "`information.curve`")


def by_name(name, values, field, kind, maker) -> dict:
    """One result, a list of results or a mapping from names to them as a mapping, each with a `field`."""
    if hasattr(values, field) and not isinstance(values, type):
        values = {"": values}
    elif isinstance(values, list | tuple):
        values = {"": values[0]} if len(values) == 1 else {f"{i + 1}": value for i, value in enumerate(values)}
    if not isinstance(values, Mapping):
        raise TypeError(f"`{name}` must be a `{kind}`, a list or a mapping of them; got {check.described(values)}.")
    if not values:
        raise ValueError(f"`{name}` must hold at least one `{kind}`; got none.")
    for value in values.values():
        check.fields(name, value, (field,), kind, maker)
    return dict(values)


def as_vector(value) -> np.ndarray:
    """A number or a vector as a vector of floats."""
    return np.atleast_1d(np.asarray(value, float))
