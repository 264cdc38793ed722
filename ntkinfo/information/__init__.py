"""Infinite width. Named quantities of an ensemble: information of input, label and data; losses; geometry of training.

Functions of a prediction `z` take the `Gaussian` of `Ensemble.predict`; functions of an ensemble take the ensemble and
times. `curve` computes them all at once, and `QUANTITIES` says what each is. Everything is in nats.
"""

from ntkinfo._common.quantities import MEANING, QUANTITIES, Quantity
from ntkinfo._common.results import Estimate, Information, is_saturated
from ntkinfo.information._certificate import Certificate, certificate
from ntkinfo.information._curve import Curve, curve
from ntkinfo.information._geometry import action, fisher_trace, output_divergence, parameter_distance
from ntkinfo.information._label_covariance import data_information
from ntkinfo.information._losses import Losses, losses
from ntkinfo.information._mutual_information import input_information, label_information
from ntkinfo.information._parameter_divergence import ParameterDivergence, parameter_divergence

__all__ = [
    "MEANING",
    "QUANTITIES",
    "Certificate",
    "Curve",
    "Estimate",
    "Information",
    "Losses",
    "ParameterDivergence",
    "Quantity",
    "action",
    "certificate",
    "curve",
    "data_information",
    "fisher_trace",
    "input_information",
    "is_saturated",
    "label_information",
    "losses",
    "output_divergence",
    "parameter_distance",
    "parameter_divergence",
]
