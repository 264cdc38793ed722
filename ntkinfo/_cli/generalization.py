"""What the main job says of generalization: errors forecast from the training set, bounds by leaving examples out."""

from typing import Any, NamedTuple

import jax
import numpy as np

from ntkinfo import cmi, learning
from ntkinfo._common import tables
from ntkinfo.cmi import LeaveOneOut, Supersample
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import Ensemble, KrylovEnsemble
from ntkinfo.learning import Forecast

# Pairs of training examples and choices among them: seconds.
_PAIRS, _DRAWS = 200, 32
_WIDTH = 12


class Generalization(NamedTuple):
    """Forecasts and bounds of the main job.

    Attributes:
      t: the times of `pairs`, (T,).
      forecast: errors from leaving each training example out at the end of training, or None.
      left_out: the information in the losses on which example was left out, likewise.
      pairs: a supersample of pairs of training examples, or None.
      n_pairs: how many pairs.
      reasons: why something is missing, a sentence each.
    """

    t: np.ndarray
    forecast: Forecast | None
    left_out: LeaveOneOut | None
    pairs: Supersample | None
    n_pairs: int
    reasons: tuple[str, ...]

    def table(self, unit: str = "nats") -> str:
        """Plain tables: at the end of training, and over time."""
        lines, scale = [], tables.factor(unit)
        if self.forecast is not None:
            f = self.forecast
            lines.append(f"squared error forecast {float(f.error):.4g} ± {float(f.stderr):.2g}")
            if f.gibbs_error is not None and f.gibbs_stderr is not None:
                lines.append(f"0-1 error forecast     {float(f.gibbs_error):.4g} ± {float(f.gibbs_stderr):.2g}")
        if self.left_out is not None and self.left_out.information is not None:
            loo = self.left_out
            lines.append(f"leave-one-out I(L;U)   {scale * float(loo.information):.4g}, bound {float(loo.bound):.4g}")
        if self.pairs is not None:
            s = self.pairs
            columns = {"t": self.t, "err train": s.train_error, "err other": s.error, "I(Δ;U)": scale * s.information}
            columns |= {"± ": scale * s.stderr, "bias": scale * s.bias, "sqrt": s.train_error + s.square_root}
            columns |= {"binary kl": s.binary_kl, "least": s.bound}
            lines.append(" ".join(f"{title:>{_WIDTH}}" for title in columns))
            values = {title: np.atleast_1d(np.asarray(column)) for title, column in columns.items()}
            lines += [" ".join(f"{column[i]:>{_WIDTH}.4g}" for column in values.values()) for i in range(len(self.t))]
        return "\n".join([*lines, *self.reasons])

    def sentences(self, unit: str = "nats") -> str:
        """What the tables say."""
        said, scale = [], tables.factor(unit)
        if self.forecast is not None:
            said.append(
                "The forecasts come from the training set alone, by leaving each example out, for networks trained to "
                "the end; standard errors are over examples."
            )
        if self.left_out is not None and self.left_out.information is not None:
            said.append(
                f"The losses of one network tell {scale * float(self.left_out.information):.3g} {unit} of which "
                f"example it was not trained on; its error there, {float(self.left_out.error):.3g} exactly, is at most "
                f"{float(self.left_out.bound):.3g} by this information."
            )
        if self.pairs is not None:
            said.append(
                f"From {self.n_pairs} pairs of training examples networks were trained on one of each: I(Δ;U) is what "
                "the difference of the two losses tells about which, its standard error and bias are over the choices "
                "drawn, and sqrt, binary kl and least bound the error at the others. Here one network is trained on "
                f"{self.n_pairs} examples, not on all. Such bounds hold on average over data and choices and use the "
                "labels left out: they explain generalization and certify nothing."
            )
        return " ".join([*said, *self.reasons])


def of(net: Any, ens: Ensemble | KrylovEnsemble, data: Dataset, t: np.ndarray, key) -> Generalization:
    """Everything that there is for this ensemble and data; what there is not is said in `reasons`."""
    reasons, forecast, left_out, pairs = [], None, None, None
    t, regression = np.asarray(t), data.task == "regression"
    if not isinstance(ens, Ensemble):
        reasons.append(
            "No forecast and no information of leaving one out: they need all eigenvectors, which --engine krylov has "
            "not."
        )
    elif (np.asarray(ens.eigenvalues) <= 0).any():
        reasons.append("No forecast and no information of leaving one out: the tangent kernel is singular.")
        t = t[np.isfinite(t)]
    elif ens.n < 2:
        reasons.append("No forecast: there is one training example.")
    else:
        forecast = learning.forecast(ens)
    n_pairs = min(ens.n // 2, _PAIRS)
    if regression:
        reasons.append("No conditional mutual information: it is of 0-1 losses, and labels here are numbers.")
    else:
        if forecast is not None:
            left_out = cmi.leave_one_out(ens)
        rows = slice(0, 2 * n_pairs)
        if n_pairs < 2 or len(np.unique(np.asarray(ens.y[rows]), axis=0)) < 2:
            reasons.append("No supersample: it needs two pairs of training examples and two classes among them.")
        elif len(t):
            pairs = cmi.supersample(net, ens.x[rows], ens.y[rows], t, draws=_DRAWS, key=key)
    jax.block_until_ready(pairs)
    return Generalization(t, forecast, left_out, pairs, n_pairs, tuple(reasons))
