"""Finite networks. They are drawn and trained here: what the closed forms of the infinite ensemble are checked against.

`train` draws networks of a `stax` description and trains them by gradient descent, in the time convention of
`Ensemble.predict`; `summary` turns the sample into the quantities of `ntkinfo.information`, with standard errors, and
`kernel_flow` takes most of the sampling error out of the comparison. `train_layers` trains ensembles of small layered
networks by minibatches, and `information_plane` shows what each of their layers knows.
"""

from ntkinfo._common.errors import DivergedError
from ntkinfo.finite._control_variate import kernel_flow
from ntkinfo.finite._gradient_phases import GradientPhases, gradient_phases
from ntkinfo.finite._information_plane import Plane, information_plane
from ntkinfo.finite._layer_run import LayerRun, activations
from ntkinfo.finite._run import Run
from ntkinfo.finite._stability import stability_limit
from ntkinfo.finite._summary import summary
from ntkinfo.finite._train import train
from ntkinfo.finite._train_layers import train_layers

__all__ = [
    "DivergedError",
    "GradientPhases",
    "LayerRun",
    "Plane",
    "Run",
    "activations",
    "gradient_phases",
    "information_plane",
    "kernel_flow",
    "stability_limit",
    "summary",
    "train",
    "train_layers",
]
