"""Figures from results: axes in, axes out. Matplotlib is imported here and nowhere else in the package.

Results are read by attribute (a `Curve`, or anything with its fields) and converted to NumPy. They are in nats; with
`unit="bits"` information is divided by log 2 on its way to the page. Training times are on a logarithmic axis, on which
t = 0 and t = ∞ have no place: they stand beyond its two ends, as short dashes, each one
decade away.

Every function draws into `ax`, or into a new figure where `ax` is None, and returns the axes. Nothing is shown or
closed.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator

# Okabe & Ito's colours, told apart with every common kind of colour vision; black is for references.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_REFERENCE = "0.35"
_END = {"ms": 6.5, "mfc": "white", "mec": "black", "mew": 1.0}

_INFORMATION = {
    "input_information": "$I(X;Z|D)$",
    "label_information": "$I(Y;Z|D)$",
    "output_divergence": r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$",
    "output_divergence_joint": r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$, joint",
}
_GEOMETRY = {
    "parameter_distance": r"$\mathrm{E}\,\Vert\theta_t-\theta_0\Vert^2$",
    "action": r"action $\int\Vert\dot\theta\Vert^2$",
    "fisher_action": "action, Fisher metric",
}
_LOSSES = {
    "mse": {
        "gibbs_mse": "one network, test",
        "mean_mse": "ensemble mean, test",
        "train_gibbs_mse": "one network, train",
        "train_mean_mse": "ensemble mean, train",
    },
    "nll": {"gibbs_nll": "one network", "ensemble_nll": "ensemble"},
    "error": {"gibbs_error": "one network", "mean_error": "ensemble mean"},
}
_LOSS_AXIS = {"mse": "squared error", "nll": "negative log-likelihood", "error": "0-1 error"}

# name -> (group that may share one axis, label)
_QUANTITIES = (
    {name: ("information", label) for name, label in _INFORMATION.items()}
    | {name: ("geometry", label) for name, label in _GEOMETRY.items()}
    | {name: (kind, label) for kind, names in _LOSSES.items() for name, label in names.items()}
)
_METHODS = {
    "monte_carlo": "Monte Carlo",
    "minibatch": "minibatch bounds",
    "pairwise": "pairwise bounds",
    "decoder": "decoder bound",
}
_UNITS = {"nats": 1.0, "bits": 1 / np.log(2)}


def curve(result, quantities=None, *, unit: str = "nats", ax=None):
    """Information quantities over training time, with their bounds and sampling errors.

    Lines are values; the light band reaches from `lower` to `upper` (none above the bound of a decoder), the darker one
    is the value ± 2 standard errors where it is sampled. With I(X;Z|D) comes its ceiling log m (dashed), with I(Y;Z|D)
    for classes its ceiling H(Y) (dotted).

    Args:
      result: a `Curve`.
      quantities: names out of "input_information", "label_information", "output_divergence", "output_divergence_joint".
        None for the first two; the divergences are usually much larger and have their own figure, `divergence`.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit or quantity, or none.
    """
    factor = _factor(unit)
    default = ("input_information", "label_information")
    names = _names("quantities", default if quantities is None else quantities, _INFORMATION)
    ax = _axes(ax)
    place = _time_axis(ax, result.t)
    for name, color in zip(names, _COLORS, strict=False):
        _information(ax, place, result, name, factor, color)
    if "label_information" in names and _has_classes(result):
        entropy = factor * float(result.label_entropy)
        _level(ax, entropy, f"$H(Y)$ = {entropy:.3g} {unit}", ":")
    if "input_information" in names:
        ceiling = factor * float(result.log_m)
        _level(ax, ceiling, rf"$\log m$ = {ceiling:.3g} {unit}", "--")
    ax.set_ylabel(_INFORMATION[names[0]] + f" [{unit}]" if len(names) == 1 else f"information [{unit}]")
    # Below the ceiling on the left, where information has not yet risen: "best" does not avoid the references.
    _legend(ax, **({"loc": "upper left", "bbox_to_anchor": (0, 0.88)} if "input_information" in names else {}))
    return ax


def divergence(result, *, unit: str = "nats", ax=None):
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
    factor = _factor(unit)
    series = {"output_divergence": "mean over test inputs", "output_divergence_joint": "joint over test inputs"}
    if result.output_divergence_joint is None:
        del series["output_divergence_joint"]
    ax = _axes(ax)
    _growth(ax, result, series, factor, _COLORS[2:])
    ax.set_ylabel(f"{_INFORMATION['output_divergence']} [{unit}]")
    _legend(ax)
    return ax


def losses(result, kind: str = "mse", *, unit: str = "nats", ax=None):
    """Losses of the ensemble over training time: of one network drawn from it, and of the ensemble.

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
    factor = _factor(unit)
    _option("kind", kind, _LOSSES)
    if kind != "nll":
        factor = 1.0
    values = {name: _value(result, name) for name in _LOSSES[kind]}
    ax = _axes(ax)
    place = _time_axis(ax, result.t)
    for i, (name, label) in enumerate(_LOSSES[kind].items()):
        style = "--" if name.startswith("train") else "-"
        _line(ax, place, result.t, factor * values[name], label=label, color=_COLORS[i % 2], linestyle=style)
    if kind == "mse":
        _log_axis(ax, values.values())
        positive = np.concatenate([value[value > 0] for value in values.values()])
        if positive.size:
            # Training errors of an interpolating ensemble end at rounding: they would take the whole axis.
            ax.set_ylim(max(positive.min() / 2, 1e-6 * positive.max()), 2 * positive.max())
    if kind == "error":
        ax.set_ylim(bottom=0)
    ax.set_ylabel(_LOSS_AXIS[kind] + (f" [{unit}]" if kind == "nll" else ""))
    _legend(ax)
    return ax


def geometry(result, *, ax=None):
    """Distance from the initial parameters and the two actions over training time; logarithmic, without t = 0.

    Args:
      result: a `Curve`. Its Fisher trace, constant in time, heads the legend.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.
    """
    ax = _axes(ax)
    _growth(ax, result, _GEOMETRY, 1.0, _COLORS)
    ax.set_ylabel("distance, action")
    trace = float(result.fisher_trace)
    number = f"{trace:,.0f}" if 100 <= trace < 1e6 else f"{trace:.3g}"
    _legend(ax, title=rf"Fisher trace $k\,\mathrm{{tr}}\,\Theta$ = {number}")
    return ax


def plane(results, *, unit: str = "nats", ax=None, bound=None):
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
    factor = _factor(unit)
    if hasattr(results, "input_information"):
        results = {"": results}
    elif not hasattr(results, "items"):
        results = {"": results[0]} if len(results) == 1 else {f"{i + 1}": each for i, each in enumerate(results)}
    if not results:
        raise ValueError("`results` must hold at least one curve; got none.")
    bound = _bound(bound)
    ax = _axes(ax)
    times = np.concatenate([_vector(each.t) for each in results.values()])
    low, high = _range(times)
    norm = LogNorm(low, high if high > low else 10 * low)
    if bound is not None:
        ax.plot(factor * bound[0], factor * bound[1], color="black", lw=1.2, label="bottleneck bound", zorder=1)
    for i, (name, each) in enumerate(results.items()):
        _plane_points(ax, each, factor, norm, _MARKERS[i % len(_MARKERS)], name)
    for present, shape, label in (((times == 0).any(), "o", "$t=0$"), (np.isinf(times).any(), "s", r"$t=\infty$")):
        if present:
            ax.plot([], [], ls="", marker=shape, label=label, **_END)
    ax.figure.colorbar(ScalarMappable(norm, "viridis"), ax=ax, label="training time $t$")
    for height in sorted({float(each.log_m) for each in results.values()}):
        ax.axvline(factor * height, color=_REFERENCE, lw=0.9, ls="--", zorder=0)
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
            color=_REFERENCE,
        )
    for height in sorted({float(each.label_entropy) for each in results.values() if _has_classes(each)}):
        _level(ax, factor * height, rf"$H(Y)$ = {factor * height:.3g} {unit}", ":")
    ax.set_xlabel(f"{_INFORMATION['input_information']} [{unit}]")
    ax.set_ylabel(f"{_INFORMATION['label_information']} [{unit}]")
    _legend(ax)
    return ax


def finite(result, samples, *, unit: str = "nats", ax=None):
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
    factor = _factor(unit)
    names = _names("samples", list(samples), _QUANTITIES)
    groups = list(dict.fromkeys(_QUANTITIES[name][0] for name in names))
    if len(groups) > 1:
        raise ValueError(
            f"`samples` must be quantities of one kind for one axis; got {' and '.join(groups)}. Call once for each."
        )
    points = {name: tuple(_vector(part) for part in samples[name]) for name in names}
    for name, parts in points.items():
        if len(parts) != 3 or len({part.shape for part in parts}) != 1:
            raise ValueError(
                f"`samples[{name!r}]` must be (t, mean, stderr), three vectors of one length; got shapes "
                f"{', '.join(str(part.shape) for part in parts)}."
            )
    factor = factor if groups[0] in ("information", "nll") else 1.0
    values = {name: factor * _value(result, name) for name in names}
    ax = _axes(ax)
    place = _time_axis(ax, result.t, *(parts[0] for parts in points.values()))
    for i, name in enumerate(names):
        color, label = _COLORS[i % len(_COLORS)], _QUANTITIES[name][1]
        _line(ax, place, result.t, values[name], label=f"{label}, infinite width", color=color)
        t, mean, stderr = points[name]
        ax.errorbar(
            place(t),
            factor * mean,
            2 * factor * stderr,
            fmt=_MARKERS[i % len(_MARKERS)],
            ms=4,
            color=color,
            mfc="white",
            capsize=2,
            lw=1,
            zorder=4,
            label=f"{label}, finite networks",
        )
    axis = {"information": "information", "geometry": "distance, action"} | _LOSS_AXIS
    ax.set_ylabel(axis[groups[0]] + (f" [{unit}]" if groups[0] in ("information", "nll") else ""))
    _legend(ax)
    return ax


def sweep(values, w_std, b_std, quantity: str = "input_information", *, unit: str = "nats", ax=None):
    """A heat map of one quantity over the scales of weights (across) and biases (up); missing cells are hatched.

    Args:
      values: (W, B) the quantity, information in nats; `nan` for cells that are missing.
      w_std: (W,) weight scales, in the order of the rows.
      b_std: (B,) bias scales, in the order of the columns.
      quantity: name of the quantity: a field of `Curve` or of its `losses`.
      unit: "nats" or "bits", of information and of negative log-likelihoods.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit or quantity, or sizes that do not match.
    """
    factor = _factor(unit)
    _names("quantity", [quantity], _QUANTITIES)
    values, w_std, b_std = np.asarray(values, float), _vector(w_std), _vector(b_std)
    if values.shape != (len(w_std), len(b_std)):
        raise ValueError(
            f"`values` must have shape (W, B) = ({len(w_std)}, {len(b_std)}), the lengths of `w_std` and `b_std`; got "
            f"{values.shape}."
        )
    group, label = _QUANTITIES[quantity]
    scaled = group in ("information", "nll")
    if group in _LOSS_AXIS:
        label = f"{_LOSS_AXIS[group]}, {label}"
    ax = _axes(ax)
    cells = np.ma.masked_invalid((factor if scaled else 1.0) * values.T)
    # Cells of equal size, named at their centres: the scales of a sweep need not be evenly spaced.
    ax.patch.set(hatch="////", edgecolor="0.8", facecolor="white")
    image = ax.pcolormesh(np.arange(len(w_std) + 1) - 0.5, np.arange(len(b_std) + 1) - 0.5, cells, cmap="viridis")
    ax.set_xticks(np.arange(len(w_std)), [f"{scale:.3g}" for scale in w_std])
    ax.set_yticks(np.arange(len(b_std)), [f"{scale:.3g}" for scale in b_std])
    ax.tick_params(length=0)
    ax.set_xlabel(r"weight scale $\sigma_w$")
    ax.set_ylabel(r"bias scale $\sigma_b$")
    ax.figure.colorbar(image, ax=ax, label=label + (f" [{unit}]" if scaled else ""))
    return ax


def summary(result, *, unit: str = "nats", bound=None, title: str | None = None):
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
    _factor(unit)
    _bound(bound)
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
    curve(result, unit=unit, ax=axes[0, 0])
    plane(result, unit=unit, bound=bound, ax=axes[0, 1])
    divergence(result, unit=unit, ax=axes[0, 2])
    losses(result, "mse", ax=axes[1, 0])
    if _has_classes(result) or result.losses.gibbs_nll is not None:
        losses(result, "error" if _has_classes(result) else "nll", unit=unit, ax=axes[1, 1])
    else:
        axes[1, 1].set_axis_off()
    geometry(result, ax=axes[1, 2])
    for letter, ax in zip("abcdef", axes.flat, strict=True):
        ax.set_title(letter, loc="left", weight="bold", size="medium")
    if title is not None:
        figure.suptitle(title)
    return figure


def _axes(ax):
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _legend(ax, **options):
    if ax.get_legend_handles_labels()[0]:
        options = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.85} | options
        ax.legend(fontsize="small", title_fontsize="small", **options)


def _factor(unit) -> float:
    _option("unit", unit, _UNITS)
    return _UNITS[unit]


def _option(name, value, accepted):
    if value not in accepted:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, accepted))}; got {value!r}.")


def _names(argument, names, accepted):
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError(f"`{argument}` must name at least one of {', '.join(map(repr, accepted))}; got none.")
    for name in names:
        _option(argument, name, accepted)
    return names


def _bound(bound):
    if bound is None:
        return None
    bound = [np.asarray(axis, float) for axis in bound]
    if len(bound) != 2 or bound[0].ndim != 1 or bound[0].shape != bound[1].shape:
        shapes = ", ".join(str(axis.shape) for axis in bound)
        raise ValueError(f"`bound` must be (i_xz, i_zy), two vectors of one length; got shapes {shapes}.")
    return bound


def _vector(value) -> np.ndarray:
    return np.atleast_1d(np.asarray(value, float))


def _has_classes(result) -> bool:
    return result.losses.gibbs_error is not None


def _field(result, name):
    """A field of the curve or of its losses."""
    value = getattr(result if hasattr(result, name) else result.losses, name)
    if value is None:
        raise ValueError(
            f"{name!r} must be in the results to be drawn; got None. 0-1 errors need classes, log-likelihoods a noise, "
            "the joint divergence joint=True and a covariance that is not singular."
        )
    return value


def _value(result, name) -> np.ndarray:
    field = _field(result, name)
    return _vector(getattr(field, "value", field))


def _range(t):
    """The smallest and largest time that a logarithmic axis can show."""
    shown = t[(t > 0) & np.isfinite(t)]
    return (shown.min(), shown.max()) if shown.size else (1.0, 1.0)


def _time_axis(ax, *times):
    """Prepares the horizontal axis for these times; returns the map from times to positions on it."""
    times = np.concatenate([_vector(t) for t in times])
    low, high = _range(times)
    before, after = low / 10, high * 10
    decades = np.arange(np.ceil(np.log10(low) - 1e-9), np.floor(np.log10(high) + 1e-9) + 1)
    if not _inner(times).size:
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


def _inner(t):
    """Indices, in order of time, of the times between 0 and infinity."""
    order = np.argsort(t, kind="stable")
    return order[(t[order] > 0) & np.isfinite(t[order])]


def _line(ax, place, t, y, *, color, label, linestyle="-"):
    """A line through the times between 0 and infinity, short dashes for these two."""
    t, inner = _vector(t), _inner(_vector(t))
    alone = "o" if len(inner) == 1 else ""
    ax.plot(t[inner], y[inner], color=color, ls=linestyle, lw=1.6, marker=alone, ms=4, label=label)
    ends = np.setdiff1d(np.arange(len(t)), inner)
    if len(ends):
        ax.plot(place(t[ends]), y[ends], color=color, ls="", marker="_", ms=10, mew=1.6, zorder=3)


def _growth(ax, result, series, factor, colors):
    """Lines of quantities that grow from 0 at t = 0, on a logarithmic axis, without it."""
    t = _vector(result.t)
    later = t > 0
    place = _time_axis(ax, t[later])
    values = {name: factor * _value(result, name)[later] for name in series}
    for (name, label), color in zip(series.items(), colors, strict=False):
        _line(ax, place, t[later], values[name], label=label, color=color)
    _log_axis(ax, values.values())


def _information(ax, place, result, name, factor, color):
    """A line with its bounds and its sampling error."""
    field, t = _field(result, name), _vector(result.t)
    value = factor * _value(result, name)
    label = _INFORMATION[name]
    if hasattr(field, "value"):
        stderr = factor * np.broadcast_to(_vector(field.stderr), value.shape)
        lower, upper = (factor * np.broadcast_to(_vector(each), value.shape) for each in (field.lower, field.upper))
        method = getattr(field, "method", "")
        label += "" if method in ("", "exact") else f", {_METHODS.get(method, method)}"
        # What a decoder leaves open reaches to the ceiling: a band over everything else.
        bands = [(lower, upper, 0.15)] * (method != "decoder") + [(value - 2 * stderr, value + 2 * stderr, 0.3)] * bool(
            (stderr > 0).any()
        )
        inner = _inner(t)
        ends = np.setdiff1d(np.arange(len(t)), inner)
        for low, high, alpha in bands:
            ax.fill_between(t[inner], low[inner], high[inner], color=color, alpha=alpha, lw=0)
            ax.vlines(place(t[ends]), low[ends], high[ends], color=color, alpha=alpha, lw=5)
    _line(ax, place, t, value, color=color, label=label)


def _level(ax, y, label, linestyle):
    """A labelled horizontal reference; the axis is extended to leave room for its label."""
    ax.axhline(y, color=_REFERENCE, lw=0.9, ls=linestyle, zorder=0)
    ax.annotate(
        label,
        (0, y),
        (3, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        size="small",
        va="bottom",
        color=_REFERENCE,
    )
    low, high = ax.get_ylim()
    ax.set_ylim(low, max(high, y + 0.1 * (max(high, y) - low)))


def _plane_points(ax, result, factor, norm, marker, name):
    """One curve in the information plane."""
    t = _vector(result.t)
    x, y = (factor * _value(result, each) for each in ("input_information", "label_information"))
    errors = [
        2 * factor * np.broadcast_to(_vector(getattr(_field(result, each), "stderr", 0.0)), t.shape)
        for each in ("input_information", "label_information")
    ]
    order, inner = np.argsort(t, kind="stable"), _inner(t)
    ax.plot(x[order], y[order], color="0.75", lw=0.8, zorder=1)
    if any((error > 0).any() for error in errors):
        ax.errorbar(x, y, errors[1], errors[0], fmt="none", ecolor="0.6", elinewidth=0.7, zorder=1)
    if name:
        ax.plot([], [], color="0.4", lw=0.8, marker=marker, ms=4, label=name)
    for end, shape in ((t == 0, "o"), (np.isinf(t), "s")):
        ax.plot(x[end], y[end], ls="", marker=shape, zorder=4, **_END)
    ax.scatter(x[inner], y[inner], c=t[inner], norm=norm, cmap="viridis", marker=marker, s=18, lw=0, zorder=3)


def _log_axis(ax, values):
    """A logarithmic vertical axis, where there is anything positive to show."""
    if any((value > 0).any() for value in values):
        ax.set_yscale("log", nonpositive="mask")
