"""Which engines a quantity of a posterior or of an ensemble takes: eigenvectors are the dense one's alone."""

from typing import Any

from ntkinfo import ensemble
from ntkinfo._common import check
from ntkinfo.ensemble import Ensemble, FeatureEnsemble, KrylovEnsemble, SpectralSums
from ntkinfo.posterior._features import FeaturePosterior
from ntkinfo.posterior._krylov import KrylovPosterior
from ntkinfo.posterior._posterior import Posterior


def dense(name: str, source: Any, what: str) -> Any:
    """A `Posterior` or an `Ensemble`, both of the dense engine; `what` needs their eigenvectors.

    Raises:
      TypeError: neither an ensemble nor a posterior.
      ValueError: one of another engine, with the remedy.
    """
    if isinstance(source, KrylovEnsemble | FeatureEnsemble | SpectralSums):
        return ensemble.dense(name, source, what)
    if isinstance(source, KrylovPosterior | FeaturePosterior):
        engine = "features" if isinstance(source, FeaturePosterior) else "krylov"
        raise ValueError(
            f'`{name}` must be of engine="dense" for {what}, which needs all eigenvectors; engine="{engine}" has none. '
            'Fit with `Posterior.fit(..., engine="dense")`, on fewer training inputs if they are too many.'
        )
    check.instance(name, source, (Posterior, Ensemble), maker="`Posterior.fit` or `Ensemble.fit`")
    return source
