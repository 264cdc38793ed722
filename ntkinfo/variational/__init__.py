"""Bottlenecks. Variational bottlenecks on data: encoders trained with optax towards VIB, CEB and the variational dual.

`fit` trains one, `sweep` many over β, objectives and seeds; `measure` says what a fit reaches, with bounds named as
such; `error_under_noise` and `learning_curve` how it generalises, `required_information` what objectives need for the
same I(Y;Z). `encoders` adapts networks of Flax, Equinox and stax, `label_noise` makes the noise models p̃(y|x) of the
dual.
"""

from ntkinfo._common.errors import DivergedError
from ntkinfo.variational import encoders, label_noise
from ntkinfo.variational._fit import History, VariationalFit, fit
from ntkinfo.variational._learning_curve import LearningCurve, learning_curve
from ntkinfo.variational._measure import Measurement, error_under_noise, measure
from ntkinfo.variational._required_information import RequiredInformation, required_information
from ntkinfo.variational._sweep import Sweep, sweep

__all__ = [
    "DivergedError",
    "History",
    "LearningCurve",
    "Measurement",
    "RequiredInformation",
    "Sweep",
    "VariationalFit",
    "encoders",
    "error_under_noise",
    "fit",
    "label_noise",
    "learning_curve",
    "measure",
    "required_information",
    "sweep",
]
