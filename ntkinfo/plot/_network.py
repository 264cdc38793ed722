"""The report of one network in one figure: spectrum, alignment, agreement with real training, calibration."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ntkinfo._common import check
from ntkinfo.plot._axes import COLORS, REFERENCE, check_title, draw_legend


def network(report: Any, *, title: str | None = None) -> Figure:
    """One figure of four panels: eigenvalues, alignment of labels and residuals, training beside its linearisation.

    Args:
      report: a `NetworkReport` of `ni.networks.report`.
      title: above the panels; None for none.

    Returns:
      The figure. Close it with `matplotlib.pyplot.close(figure)` when it is saved.

    Raises:
      TypeError: no report.
    """
    fields = ("eigenvalues", "label_alignment", "residual_alignment", "disagreement", "coverage")
    check.fields("report", report, fields, "NetworkReport", "`networks.report`")
    check_title(title)
    figure, axes = plt.subplots(2, 2, figsize=(9.2, 6.6), layout="constrained")
    rank = np.arange(1, report.n + 1)
    positive = np.asarray(report.eigenvalues) > 0
    axes[0, 0].loglog(rank[positive], report.eigenvalues[positive], color=COLORS[0])
    axes[0, 0].axhline(
        report.noise / report.prior_variance, color=REFERENCE, lw=0.9, ls="--", label=r"$\sigma^2/\tau^2$"
    )
    axes[0, 0].set_xlabel("rank")
    axes[0, 0].set_ylabel(r"eigenvalue of $\hat\Theta$")
    for values, name, color in (
        (report.label_alignment, "labels", COLORS[0]),
        (report.residual_alignment, "residuals", COLORS[1]),
    ):
        axes[0, 1].semilogx(rank, values, color=color, label=name)
    axes[0, 1].axvline(max(report.effective_dimension / report.k, 1.0), color=REFERENCE, lw=0.9, ls="--")
    axes[0, 1].set_xlabel("leading eigenvectors (dashed: effective dimension)")
    axes[0, 1].set_ylabel("share of the squared norm")
    axes[0, 1].set_ylim(0, 1.02)
    axes[1, 0].plot(report.t, report.linear_mse, color=COLORS[0], label="linearised")
    axes[1, 0].plot(report.t, report.real_mse, color=COLORS[1], ls="--", label="real")
    axes[1, 0].set_xlabel(r"time from $\theta_0$")
    axes[1, 0].set_ylabel("half mean squared training error")
    axes[1, 1].plot(report.t, report.disagreement, color=COLORS[2], marker="o", ms=3)
    axes[1, 1].set_xlabel(r"time from $\theta_0$")
    axes[1, 1].set_ylabel("disagreement on test inputs")
    axes[1, 1].set_ylim(bottom=0)
    for letter, ax in zip("abcd", axes.flat, strict=True):
        ax.set_title(letter, loc="left", weight="bold", size="medium")
        ax.spines[["top", "right"]].set_visible(False)
        draw_legend(ax)
    if title is not None:
        figure.suptitle(title)
    return figure
