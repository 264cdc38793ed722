"""Information curves of the bottleneck, and its bifurcation diagrams."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, MARKERS, REFERENCE, axes_of, by_name, draw_legend, draw_level, unit_factor

_BRANCHES = {"downward": "annealed downwards", "upward": "annealed upwards", "optimum": "optimum"}


def bottleneck(curves: Any, *, points: Mapping | None = None, unit: str = "nats", ax: Axes | None = None) -> Axes:
    """The information curve: I(Z;Y) against I(X;Z), one point for each β; points off the concave hull are open.

    Args:
      curves: a `BottleneckCurve`, or a mapping from names to them.
      points: a mapping from names to (i_xz, i_zy) in nats, representations to show beside the curves.
      unit: "nats" or "bits".
      ax: where to draw; None for a new figure.

    Returns:
      The axes. The dotted line is I(X;Y).

    Raises:
      ValueError: an unknown unit, or no curve.
    """
    factor = unit_factor(unit)
    curves = by_name("curves", curves, "on_hull", "BottleneckCurve", "`bottleneck.ib`")
    points = _points(points)
    ax, any_off = axes_of(ax), False
    for (name, curve), color in zip(curves.items(), COLORS, strict=False):
        x, y = factor * np.asarray(curve.i_xz), factor * np.asarray(curve.i_zy)
        order, kept = np.argsort(x, kind="stable"), np.asarray(curve.on_hull)
        ax.plot(x[order], y[order], color=color, lw=1.2, label=name or "optimum of each β")
        ax.plot(x[kept], y[kept], color=color, ls="", marker="o", ms=3)
        off_hull = "below the hull: another branch" if (~kept).any() and not any_off else None
        any_off |= bool((~kept).any())
        ax.plot(x[~kept], y[~kept], color=color, ls="", marker="o", ms=4, mfc="white", label=off_hull)
    for (name, (i_xz, i_zy)), marker in zip(points.items(), MARKERS[1:], strict=False):
        ax.plot(factor * i_xz, factor * i_zy, color="black", ls="", marker=marker, ms=6, label=name)
    height = factor * float(next(iter(curves.values())).i_xy)
    draw_level(ax, height, f"$I(X;Y)$ = {height:.3g} {unit}", ":")
    ax.set_xlabel(f"$I(X;Z)$ [{unit}]")
    ax.set_ylabel(f"$I(Z;Y)$ [{unit}]")
    draw_legend(ax)
    return ax


def _points(points) -> dict:
    """Pairs of numbers by name."""
    if points is not None and not isinstance(points, Mapping):
        raise TypeError(f"`points` must be a mapping from names to (i_xz, i_zy); got {check.described(points)}.")
    for name, pair in (points or {}).items():
        if check.real_numbers(f"points[{name!r}]", pair, ends=False).shape != (2,):
            raise ValueError(f"`points[{name!r}]` must be (i_xz, i_zy), two numbers; got {check.described(pair)}.")
    return dict(points or {})


def bifurcation(result: Any, *, label: int = 1, critical: Any = None, ax: Axes | None = None) -> Axes:
    """The bifurcation diagram: p(y|z) of every cluster over β, for the branches annealed up and down and the optimum.

    Args:
      result: a `Bifurcation` of `ni.bottleneck.bifurcation`.
      label: the y of which p(y|z) is shown.
      critical: a `CriticalBetas`; local values are dashed lines, global ones dotted.
      ax: where to draw; None for a new figure.

    Returns:
      The axes. The size of a point grows with the mass of its cluster.

    Raises:
      ValueError: a label that there is none of.
    """
    check.fields("result", result, tuple(_BRANCHES), "Bifurcation", "`bottleneck.bifurcation`")
    if critical is not None:
        check.fields("critical", critical, ("local", "global_"), "CriticalBetas", "`bottleneck.critical_betas`")
    label = check.integer("label", label, least=0)
    n_labels = np.asarray(result.optimum.decoder).shape[2]
    if label >= n_labels:
        raise ValueError(f"`label` must be from 0 to {n_labels - 1}; got {label}.")
    ax = axes_of(ax)
    for (name, title), color, marker in zip(_BRANCHES.items(), COLORS, "ox.", strict=False):
        branch = getattr(result, name)
        mass, decoder = np.asarray(branch.mass), np.asarray(branch.decoder)[:, :, label]
        used = mass > 0
        beta = np.broadcast_to(np.asarray(branch.beta)[:, None], mass.shape)
        face = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"color": color}
        ax.scatter(beta[used], decoder[used], s=6 + 40 * mass[used], marker=marker, lw=0.8, label=title, **face)
    if critical is not None:
        for name, style in (("local", "--"), ("global_", ":")):
            for i, value in enumerate(np.asarray(getattr(critical, name))):
                text = f"{name.rstrip('_')} critical β" if i == 0 else None
                ax.axvline(value, color=REFERENCE, lw=0.9, ls=style, zorder=0, label=text)
    ax.set_xscale("log")
    ax.set_xlabel(r"$\beta$")
    ax.set_ylabel(f"$p(y={label}|z)$")
    draw_legend(ax)
    return ax


def clusters(curve: Any, index: int = -1, *, ax: Axes | None = None) -> Axes:
    """The encoder p(z|x) at one β as a heat map: inputs in rows, sorted by cluster, clusters in use in columns.

    Args:
      curve: a `BottleneckCurve`; of a table with names (`discrete.from_counts`) the rows have them, and each cluster
        its likeliest label.
      index: of the β; -1 for the last.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      TypeError: no `BottleneckCurve`.
      ValueError: an index that is none of its β.
    """
    check.fields("curve", curve, ("beta", "encoder", "decoder", "n_clusters"), "BottleneckCurve", "`bottleneck.ib`")
    beta = np.atleast_1d(np.asarray(curve.beta))
    index = check.integer("index", index, least=-len(beta), most=len(beta) - 1)
    count = int(np.asarray(curve.n_clusters)[index])
    encoder, decoder = np.asarray(curve.encoder[index])[:, :count], np.asarray(curve.decoder)[index, :count]
    names = getattr(curve, "names", None)
    rows = list(names.rows) if names is not None else [str(i) for i in range(len(encoder))]
    columns = [f"z{j}" for j in range(count)]
    if names is not None:
        columns = [f"z{j}: {names.columns[int(decoder[j].argmax())]}" for j in range(count)]
    order = np.lexsort((-encoder.max(axis=1), encoder.argmax(axis=1)))
    new = ax is None
    ax = axes_of(ax)
    if new:
        ax.figure.set_size_inches(  # pyright: ignore[reportAttributeAccessIssue]
            2.6 + 0.6 * min(count, 20), 1.6 + 0.22 * min(len(rows), 60)
        )
    image = ax.pcolormesh(encoder[order], cmap="viridis", vmin=0, vmax=1)
    # More names than fit would cover each other.
    step = -(-len(rows) // 60)
    ax.set_yticks(np.arange(len(rows))[::step] + 0.5, [rows[i] for i in order][::step], size="small")
    ax.set_xticks(np.arange(count) + 0.5, columns, size="small", rotation=30 if names is not None else 0)
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.set_xlabel("cluster")
    ax.set_ylabel("input $x$")
    ax.set_title(rf"$\beta$ = {beta[index]:.4g}", size="medium")
    ax.figure.colorbar(image, ax=ax, label="$p(z|x)$")
    return ax
