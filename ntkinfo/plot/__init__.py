"""Shared. Figures from results: axes in, axes out. Matplotlib is imported here and nowhere else in the package.

Results are read by attribute (a `Curve`, or anything with its fields) and converted to NumPy; what its quantities are
called stands in its table `quantities`. They are in nats; with `unit="bits"` information is divided by log 2 on its way
to the page. Training times are on a logarithmic axis, on which t = 0 and t = ∞ have no place: they stand beyond its two
ends, as short dashes, each one decade away.

Every function draws into `ax`, or into a new figure where `ax` is None, and returns the axes. Nothing is shown or
closed.
"""

from ntkinfo.plot._bottleneck import bifurcation, bottleneck, clusters
from ntkinfo.plot._curves import curve, divergence, finite, geometry, losses, summary
from ntkinfo.plot._generalization import cmi, examples, learning
from ntkinfo.plot._gradients import gradients
from ntkinfo.plot._guarantees import bounds, parameter_divergence
from ntkinfo.plot._layers import animate, estimators, layers, training
from ntkinfo.plot._network import network
from ntkinfo.plot._planes import plane
from ntkinfo.plot._posterior import posterior
from ntkinfo.plot._sweeps import sweep
from ntkinfo.plot._variational import dynamics, variational, variational_error

__all__ = [
    "animate",
    "bifurcation",
    "bottleneck",
    "bounds",
    "clusters",
    "cmi",
    "curve",
    "divergence",
    "dynamics",
    "estimators",
    "examples",
    "finite",
    "geometry",
    "gradients",
    "layers",
    "learning",
    "losses",
    "network",
    "parameter_divergence",
    "plane",
    "posterior",
    "summary",
    "sweep",
    "training",
    "variational",
    "variational_error",
]
