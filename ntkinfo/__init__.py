"""ntkinfo: what infinitely wide neural networks know, in closed form, in JAX.

Start with a network of `ntkinfo.stax` and `Ensemble.fit`; `predict` of the ensemble gives the exact Gaussian over
outputs at any training time. `ntkinfo.information` turns it into information, losses and geometry, `ntkinfo.plot` into
figures, and `ntkinfo.finite` trains the finite networks that check it. All information is in nats.
"""

import importlib
from typing import TYPE_CHECKING

from ntkinfo._version import check_jax_version

if TYPE_CHECKING:
    from ntkinfo import datasets, ensemble, finite, gaussian, information, kernels, mixture, plot, stax, sweep
    from ntkinfo.ensemble import Ensemble

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "datasets",
    "ensemble",
    "finite",
    "gaussian",
    "information",
    "kernels",
    "mixture",
    "plot",
    "stax",
    "sweep",
]

check_jax_version()


def __getattr__(name: str):
    # Modules load when first used: `import ntkinfo` stays light, and plots need no neural-tangents.
    if name == "Ensemble":
        return importlib.import_module("ntkinfo.ensemble").Ensemble
    if name in __all__:
        return importlib.import_module(f"ntkinfo.{name}")
    raise AttributeError(f"module 'ntkinfo' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
