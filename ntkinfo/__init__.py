"""ntkinfo: what infinitely wide neural networks know, in closed form, in JAX.

Start with a network of `ntkinfo.stax` and `Ensemble.fit`; `predict` of the ensemble gives the exact Gaussian over
outputs at any training time. `ntkinfo.information` turns it into information, losses and geometry, `ntkinfo.plot` into
figures, and `ntkinfo.finite` trains the finite networks that check it. All information is in nats. The modules:

Infinite width, in closed form: network, kernels, ensemble, quantities.

    stax, architectures, networks    layers; networks by name; networks of Flax, Equinox, Haiku and stax as one type
    kernels                          covariance of the outputs, tangent kernel, Hessian kernel
    ensemble, posterior              gradient flow at every time; Bayesian posteriors
    information, sweep               information, losses and geometry over time; over scales of initialisation
    content, bounds                  information content of labels; bounds on the error
    distributed                      many devices and hosts
    examples                         value of single examples and groups; informative ones of a pool
    cmi                              exact conditional mutual information, and bounds on the error from it
    learning                         learning curves from the spectrum; errors forecast from the training set
    layers                           information in the layers of infinite width
    sklearn                          regression and classification as estimators of scikit-learn

Finite networks, sampled.

    finite                           training, summaries beside the closed forms, layers in the information plane
    compression                      relaxation times and noise in the weights

Bottlenecks.

    bottleneck                       exact curves of the information bottleneck
    variational                      encoders trained on variational bounds

Shared: distributions, data, figures.

    gaussian, discrete, mixture      Gaussian predictions; tables of probabilities; Gaussian channels
    estimators                       information of samples
    datasets, files, plot            data; results on disk (`save`, `load`); figures
"""

import importlib
from typing import TYPE_CHECKING

from ntkinfo._common.version import check_jax_version

if TYPE_CHECKING:
    from ntkinfo import (
        architectures,
        bottleneck,
        bounds,
        cmi,
        compression,
        content,
        datasets,
        discrete,
        distributed,
        ensemble,
        estimators,
        examples,
        files,
        finite,
        gaussian,
        information,
        kernels,
        layers,
        learning,
        mixture,
        networks,
        plot,
        posterior,
        sklearn,
        stax,
        sweep,
        variational,
    )
    from ntkinfo.ensemble import Ensemble
    from ntkinfo.files import load, save
    from ntkinfo.information import certificate
    from ntkinfo.posterior import Posterior

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "Posterior",
    "architectures",
    "bottleneck",
    "bounds",
    "certificate",
    "cmi",
    "compression",
    "content",
    "datasets",
    "discrete",
    "distributed",
    "ensemble",
    "estimators",
    "examples",
    "files",
    "finite",
    "gaussian",
    "information",
    "kernels",
    "layers",
    "learning",
    "load",
    "mixture",
    "networks",
    "plot",
    "posterior",
    "save",
    "sklearn",
    "stax",
    "sweep",
    "variational",
]

# What has a name here and is defined in a module below.
_HANDED_ON = {
    "Ensemble": "ensemble",
    "Posterior": "posterior",
    "certificate": "information",
    "load": "files",
    "save": "files",
}

check_jax_version()


def __getattr__(name: str):
    # Modules load when first used: `import ntkinfo` stays light, and plots need no neural-tangents.
    if name in _HANDED_ON:
        return getattr(importlib.import_module(f"ntkinfo.{_HANDED_ON[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"ntkinfo.{name}")
    raise AttributeError(f"module 'ntkinfo' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
