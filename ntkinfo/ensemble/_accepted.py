"""Which engines a quantity of an ensemble takes: sums over the spectrum any, eigenvectors the dense one alone."""

from typing import Any

from ntkinfo._common import check
from ntkinfo.ensemble._ensemble import Ensemble
from ntkinfo.ensemble._features import FeatureEnsemble
from ntkinfo.ensemble._krylov import KrylovEnsemble
from ntkinfo.ensemble._spectral_sums import SpectralSums


def spectral(name: str, ens: Any) -> Any:
    """What answers sums over the spectrum for an ensemble: itself where it is exact, else its `SpectralSums`.

    Raises:
      TypeError: no `Ensemble`, `FeatureEnsemble`, `KrylovEnsemble` or `SpectralSums`.
    """
    if isinstance(ens, KrylovEnsemble):
        return ens.default_sums
    if not isinstance(ens, SpectralSums | FeatureEnsemble):
        check.instance(name, ens, Ensemble, maker="`Ensemble.fit`")
    return ens


def exact(name: str, ens: Any, what: str) -> Any:
    """An ensemble of the dense engine or of features, whose predictions are exact; `what` needs them.

    Raises:
      TypeError: no ensemble.
      ValueError: an ensemble of the Krylov engine.
    """
    return ens if isinstance(ens, FeatureEnsemble) else dense(name, ens, what)


def dense(name: str, ens: Any, what: str) -> Any:
    """An ensemble of the dense engine; `what` needs its eigenvectors.

    Raises:
      TypeError: no ensemble.
      ValueError: an ensemble of another engine, which has none.
    """
    if isinstance(ens, KrylovEnsemble | SpectralSums | FeatureEnsemble):
        engine = "features" if isinstance(ens, FeatureEnsemble) else "krylov"
        raise ValueError(
            f'`{name}` must be of engine="dense" for {what}, which needs all eigenvectors; engine="{engine}" has none. '
            'Fit with `Ensemble.fit(..., engine="dense")`, on fewer training inputs if they are too many.'
        )
    check.instance(name, ens, Ensemble, maker="`Ensemble.fit`")
    return ens
