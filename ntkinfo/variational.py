"""Variational bottlenecks on data: encoders trained with optax towards VIB, CEB and the variational dual bottleneck.

`fit` trains one, `sweep` many over β, objectives and seeds; `measure` says what a fit reaches, with bounds named as
such; `error_under_noise` and `learning_curve` how it generalises. `encoders` adapts networks of Flax, Equinox and stax,
`label_noise` makes the noise models p̃(y|x) of the dual.
"""

from ntkinfo import encoders, label_noise
from ntkinfo.measurements import Measurement, error_under_noise, measure
from ntkinfo.variational_fit import DivergedError, History, VariationalFit, fit
from ntkinfo.variational_sweep import LearningCurve, Sweep, learning_curve, sweep

__all__ = [
    "DivergedError",
    "History",
    "LearningCurve",
    "Measurement",
    "Sweep",
    "VariationalFit",
    "encoders",
    "error_under_noise",
    "fit",
    "label_noise",
    "learning_curve",
    "measure",
    "sweep",
]
