"""The page that the main job writes: a table, figures, and a sentence for each number."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntkinfo._cli import arguments, html
from ntkinfo._cli.generalization import Generalization
from ntkinfo._cli.output import PAGES, Output
from ntkinfo._common import tables
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import KrylovEnsemble
from ntkinfo.information import Certificate, Curve, parameter_divergence

_ROWS = 9
# Times that the slider of report.html stops at.
_FRAMES = 12
_OVERLAYS = {
    "finite_information": ("input_information", "label_information", "output_divergence"),
    "finite_losses": ("gibbs_mse", "mean_mse"),
    "finite_geometry": ("parameter_distance", "action"),
}
_CAPTIONS = {
    "summary": "All of it over the time of training.",
    "information": "What the output tells about the input and about the label, over the time of training.",
    "plane": "The same two against each other: training goes from the open circle to the open square.",
    "divergence": "How far the outputs have moved from those of random networks.",
    "bounds": "Errors of one network, and what they are guaranteed not to exceed; above 1 a bound says nothing.",
    "generalization": "Errors of one network that saw one example of each pair, and bounds on its error at the others.",
    "finite_information": "The same quantities of trained finite networks.",
    "finite_losses": "Losses of trained finite networks.",
    "finite_geometry": "How far the parameters of trained finite networks have gone.",
}
# All that the job may write.
FILES = ("curve.csv", *(f"{name}.png" for name in _CAPTIONS), *PAGES)
_BAR = r"\|"


def rows(n_times: int) -> np.ndarray:
    """Indices of the times shown in the table: the first and last, and some between."""
    return np.unique(np.linspace(0, n_times - 1, _ROWS).round().astype(int))


def uncertified(ens: KrylovEnsemble, curve: Curve, t: np.ndarray, delta: float, folder: Path | None) -> Certificate:
    """What a certificate says where there are no eigenvectors: the linear part of the divergence, and no bound.

    Args:
      ens: the ensemble.
      curve: its curve, whose errors on test inputs are shown.
      t: finite times of the curve.
      delta: as in `certificate`.
      folder: the checkpoint of the curve, where it has one.
    """
    sums = ens.default_sums if folder is None else ens.spectral_sums(checkpoint=folder / "sums")
    linear = parameter_divergence(sums, t, curvature=False).linear
    errors: Any = curve.losses.gibbs_error
    at = np.searchsorted(np.asarray(curve.t), t)
    test_error = None if errors is None else np.asarray(errors.value)[at]
    reason = (
        "its curvature part needs all eigenvectors, which --engine krylov has not. Take --engine dense, on fewer "
        "training inputs."
    )
    return Certificate(t, np.asarray(linear.value), None, None, test_error, None, None, None, delta, reason)  # pyright: ignore


class Report(NamedTuple):
    """What the main job found.

    Attributes:
      curve: the quantities over time.
      data: the data set.
      options: the options of the run, as `main.Options`.
      seconds: how long kernels and curve took.
      certificate: divergence of the parameters and bounds at the finite times of the table.
      examples: forecasts and bounds from leaving examples out.
      samples: quantities of finite networks as `ntkinfo.finite.summary` returns them, or None.
      note: a sentence about the finite networks, or None.
    """

    curve: Curve
    data: Dataset
    options: Any
    seconds: float
    certificate: Certificate
    examples: Generalization
    samples: dict | None = None
    note: str | None = None

    def table(self, unit: str = "nats") -> str:
        """A plain table of selected times, information in `unit`."""
        columns = self.curve.columns()
        # Those with a heading; curve.csv has every column.
        shown = [quantity for name, quantity in self.curve.quantities.items() if quantity.heading and name in columns]
        scale = tables.factor(unit)
        lines = [" ".join(f"{heading:>11}" for heading in ("t", *(quantity.heading for quantity in shown)))]
        for i in rows(len(self.curve.t)):
            values = (columns[quantity.name][i] * (scale if quantity.unit else 1) for quantity in shown)
            cells = [columns["t"][i], *values]
            lines.append(" ".join(f"{cell:>11.4g}" for cell in cells))
        ceiling = f"ceilings: log m = {scale * float(self.curve.log_m):.4g} {unit}"
        kind = "h(Y)" if self.curve.losses.gibbs_error is None else "H(Y)"
        lines.append(f"{ceiling}, {kind} = {scale * float(self.curve.label_entropy):.4g} {unit}")
        errors = {quantity.heading: self._error(columns, quantity.name) for quantity in shown}
        if any(error is not None for error in errors.values()):
            lines.append("largest errors over all times, truncation and two standard errors:")
            scales = {quantity.heading: scale if quantity.unit else 1 for quantity in shown}
            lines.append(
                ", ".join(f"{name} {scales[name] * error:.2g}" for name, error in errors.items() if error is not None)
            )
        return "\n".join(lines)

    def _error(self, columns, name) -> float | None:
        """The largest error over time of a quantity that is estimated by the Krylov engine; None of any other."""
        errors = self._errors(columns, name)
        return None if errors is None else float(np.max(errors))

    def _errors(self, columns, name) -> np.ndarray | None:
        """The errors (T,), truncation and two standard errors, of a quantity that is estimated by the Krylov engine."""
        if f"{name}_truncation" in columns:
            error = columns[f"{name}_truncation"]
        elif self._estimated and f"{name}_lower" in columns:
            error = np.maximum(
                columns[name] - columns[f"{name}_lower"], columns.get(f"{name}_upper", -np.inf) - columns[name]
            )
        else:
            return None
        return error + 2 * columns.get(f"{name}_stderr", 0.0)

    @property
    def _estimated(self) -> bool:
        return hasattr(self.curve.output_divergence, "truncation")

    def certificate_table(self, unit: str = "nats") -> str:
        """A plain table of the divergence of the parameters and the bounds on the 0-1 error, at the finite times."""
        c, scale = self.certificate, tables.factor(unit)
        columns = {"t": c.t, "KL linear": scale * c.linear}
        columns |= {"KL params": None if c.total is None else scale * c.total}
        columns |= {"err train": c.train_error, "err test": c.test_error}
        columns |= {"PAC-Bayes-kl": c.pac_bayes_kl, "McAllester": c.mcallester, "Catoni": c.catoni}
        shown = {title: column for title, column in columns.items() if column is not None}
        lines = [" ".join(f"{title:>12}" for title in shown)]
        lines += [" ".join(f"{column[i]:>12.4g}" for column in shown.values()) for i in range(len(c.t))]
        return "\n".join(lines)

    def write(self, out: Output, unit: str = "nats") -> None:
        """Writes the figures and the page."""
        from ntkinfo import plot

        summary = plot.summary(self.curve, unit=unit, title=self._title())
        figures = {"summary": summary}
        for name, draw in (("information", plot.curve), ("plane", plot.plane), ("divergence", plot.divergence)):
            figures[name] = draw(self.curve, unit=unit).figure
        if self.certificate.pac_bayes_kl is not None and (self.certificate.t > 0).any():
            figures["bounds"] = plot.bounds(self.certificate).figure
        if self.examples.pairs is not None and len(self.examples.t) > 1:
            figures["generalization"] = plot.cmi(self.examples.pairs, self.examples.t).figure
        if self.samples:
            figures |= self._overlays(self.samples, plot, unit)
        for name, figure in figures.items():
            out.figure(f"{name}.png", figure)
        slider = html.slider(self._frames(plot, unit), "time of training")
        out.page(self.page(unit, list(figures)), after={"Over the time of training": slider})

    def _frames(self, plot, unit) -> list[tuple[str, bytes, str]]:
        """The information plane at some times: the way so far, and what is true there."""
        import matplotlib.pyplot as plt

        curve, columns, scale = self.curve, self.curve.columns(), tables.factor(unit)
        x, y = (scale * columns[name] for name in ("input_information", "label_information"))
        ax = plot.plane(curve, unit=unit)
        order = np.argsort(columns["t"])
        ax.plot(x[order], y[order], color="0.8", lw=0.8, zorder=0)
        (at,) = ax.plot([], [], marker="o", ms=13, mfc="none", mec="#D55E00", mew=2.2, ls="", zorder=5)
        frames = []
        for i in order[np.unique(np.linspace(0, len(order) - 1, _FRAMES).round().astype(int))]:
            at.set_data([x[i]], [y[i]])
            stream = io.BytesIO()
            ax.figure.savefig(stream, dpi=90, format="png")
            error = columns.get("gibbs_error")
            wrong = "" if error is None else f", and one network errs on {100 * error[i]:.3g} % of the test inputs"
            sentence = (
                f"the output tells {x[i]:.3g} {unit} about the input and {'' if error is not None else 'at least '}"
                f"{y[i]:.3g} {unit} about the label; its squared error is {columns['gibbs_mse'][i]:.3g}{wrong}."
            )
            frames.append((f"t = {columns['t'][i]:.3g}", stream.getvalue(), sentence))
        plt.close(ax.figure)
        return frames

    def _overlays(self, samples, plot, unit):
        figures = {}
        for name, members in _OVERLAYS.items():
            shown = {member: samples[member] for member in members if member in samples}
            if shown:
                figures[name] = plot.finite(self.curve, shown, unit=unit).figure
        return figures

    def _title(self):
        o = self.options
        network = f"{o.architecture}, {o.activation}, depth {o.depth}, σ_w {o.w_std:g}, σ_b {o.b_std:g}"
        return f"{self.data.name} ({self.data.task}), n = {self.curve.n}, m = {self.curve.m}; {network}"

    def page(self, unit: str, figures: list[str]) -> str:
        """The text of `report.md`."""
        curve, columns = self.curve, self.curve.columns()
        scale = tables.factor(unit)
        last = {name: float(value[-1]) for name, value in columns.items()}
        best = int(np.argmin(columns["gibbs_mse"]))
        lines = [
            "# Information in the infinite ensemble",
            "",
            f"{self._title()}. {'Predictive' if self._estimated else 'Exact predictive'} distribution of infinitely "
            f"many, infinitely wide networks trained by gradient flow; kernels and curve took {self.seconds:.1f} s."
            + (" By block Lanczos (--engine krylov): every number has an error, in curve.csv and as a band in figures."
               if self._estimated else ""),
            "",
            "Each such network starts from random parameters and is trained on the same data. How much the output of "
            "one of them tells about the input, and about its label, is known here without training any: the numbers "
            "below follow from the network's kernels. " + self._in_short(scale, unit, columns),
            "",
            "![summary](summary.png)",
            "",
            _CAPTIONS["summary"],
            "",
            "## Over the time of training",
            "",
            *(line for name in figures if name in ("information", "plane", "divergence")
              for line in (f"![{name}]({name}.png)", "", _CAPTIONS[name], "")),
            f"## Selected times (information in {unit})",
            "",
            "```",
            self.table(unit),
            "```",
            "",
            "## What the numbers say",
            "",
            f"- At the end of the times shown the output tells {scale * last['input_information']:.4g} {unit} about "
            f"the input, of at most log m = {scale * float(curve.log_m):.4g} for m = {curve.m} test inputs"
            + (" (saturated: within 1 % of the ceiling it says only that the inputs are told apart)." if
               last["input_information"] >= 0.99 * float(curve.log_m) else "."),
            self._labels(scale, unit, last),
            f"- The outputs have moved {scale * last['output_divergence']:.4g} {unit} away from their prior per test "
            "input" + (f", and {scale * last['output_divergence_joint']:.4g} {unit} all together."
               if "output_divergence_joint" in last else "."),
            self._distance(columns) + f"; the trace of their Fisher information is "
            f"{float(getattr(curve.fisher_trace, 'value', curve.fisher_trace)):.4g}.",
            f"- One network's expected squared error on the test inputs is smallest at t = {columns['t'][best]:.4g} "
            f"({columns['gibbs_mse'][best]:.4g}); averaging the ensemble lowers the last one from "
            f"{last['gibbs_mse']:.4g} to {last['mean_mse']:.4g}.",
        ]  # fmt: skip
        lines += ["", f"## What the parameters say, and bounds on the 0-1 error (divergences in {unit})", ""]
        lines += ["```", self.certificate_table(unit), "```", "", self._guarantees()]
        lines += ["", "![bounds](bounds.png)", "", _CAPTIONS["bounds"]] if "bounds" in figures else []
        lines += ["", f"## Examples left out (information in {unit})", ""]
        lines += ["```", self.examples.table(unit), "```", "", self.examples.sentences(unit)]
        if "generalization" in figures:
            lines += ["", "![generalization](generalization.png)", "", _CAPTIONS["generalization"]]
        if self.note:
            lines += ["", "## Finite networks", "", f"Points with bars: {self.note}"]
            lines += [line for name in _OVERLAYS if name in figures
                      for line in ("", f"![{name}]({name}.png)", "", _CAPTIONS[name])]  # fmt: skip
        lines += ["", "## Columns of curve.csv", "", "| column | meaning | last value (nats where information) |"]
        lines += ["| --- | --- | --- |"]
        for name, quantity in curve.quantities.items():
            if name in last:
                # A bar inside a cell would end it.
                lines.append(f"| {name} | {quantity.description.replace('|', _BAR)} | {last[name]:.6g} |")
        lines += [
            "",
            f"I(X;Z|D) by method `{curve.input_information.method}`, I(Y;Z|D) by `{curve.label_information.method}`. "
            "Time is that of gradient flow at learning rate 1 on half the mean squared error over all n k entries.",
            "",
            f"Options: {arguments.line(self.options)}.",
            "",
        ]
        return "\n".join(lines)

    def _in_short(self, scale, unit, columns):
        """The result in two sentences."""
        best = int(np.argmin(columns["gibbs_mse"]))
        t, label = columns["t"][best], scale * columns["label_information"][best]
        error = columns.get("gibbs_error")
        wrong = "" if error is None else f" and errs on {100 * error[best]:.3g} % of them"
        return (
            f"One network does best on test inputs when training stops at t = {t:.4g}: there its output tells "
            f"{'at least ' if error is None else ''}{label:.3g} {unit} about the label{wrong}."
        )

    def _distance(self, columns):
        """How far the parameters have travelled, as far as that is known."""
        squared, errors = columns["parameter_distance"], self._errors(columns, "parameter_distance")
        start, i, when = "- The parameters have travelled a root mean square distance of ", len(squared) - 1, ""
        if errors is not None and errors[-1] > 0.5 * squared[-1]:
            # Late times ask for the smallest eigenvalues, which are found last. At t = 0 nothing is travelled.
            known = np.flatnonzero((errors <= 0.1 * squared) & (squared > 0))
            if not len(known):
                return "- How far the parameters have travelled is not known: its error is above half of it"
            i = int(known[-1])
            when = f" up to t = {columns['t'][i]:.4g}, and how far at the end of the times shown is not known"
        error = "" if errors is None else f" ± {errors[i] / (2 * squared[i] ** 0.5 or 1.0):.2g}"
        return f"{start}{squared[i] ** 0.5:.4g}{error}{when}"

    def _guarantees(self):
        c = self.certificate
        start = (
            "KL params is the divergence of the trained parameters from their prior, linear part and curvature; it is "
            "infinite at t = ∞, so only finite times are shown. "
        )
        if c.reason is not None:
            return (
                "KL linear is the linear part of the divergence of the parameters from their prior. By itself it "
                f"is no upper bound, and there is no bound on the error from it: {c.reason}"
            )
        if c.pac_bayes_kl is None or c.test_error is None:
            return start + "The bounds are for the 0-1 error of classes, which this task has not."
        best = int(np.argmin(c.pac_bayes_kl))
        vacuous = ", which is vacuous" if c.pac_bayes_kl[best] >= 1 else ""
        return start + (
            f"Each bound on the error of one network holds with probability {1 - c.delta:.2g} over training sets, for "
            "all times at once (Maurer 2004; McAllester 1999; Catoni 2007), if the prior does not depend on the data "
            "and the examples are independent. Both hold only nearly here: inputs are centred and scaled by training "
            "statistics, repeated inputs are left out, and the rows are drawn from a finite pool. "
            f"The smallest PAC-Bayes-kl bound is {c.pac_bayes_kl[best]:.3g} at t = {c.t[best]:.4g}{vacuous}; one "
            f"network measured {c.test_error[best]:.3g} there."
        )

    def _labels(self, scale, unit, last):
        value = f"{scale * last['label_information']:.4g} {unit}"
        if self.curve.losses.gibbs_error is None:
            # Where h(Y) was not known nothing is bounded from above: it was taken for that of Gaussian labels.
            assumed = "" if np.isfinite(self.curve.label_information.upper).all() else ", if labels are Gaussian"
            return f"- About the label it tells at least {value}{assumed}, by the decoder bound h(Y) - cross-entropy."
        return (
            f"- About the label it tells {value}, of at most H(Y) = {scale * float(self.curve.label_entropy):.4g}; one "
            f"network errs on {100 * last['gibbs_error']:.3g} % of the test inputs, the ensemble's mean on "
            f"{100 * last['mean_error']:.3g} %."
        )
