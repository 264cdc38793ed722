"""Which engines a quantity of an ensemble takes: sums over the spectrum any, eigenvectors the dense one alone."""

from typing import Any

from ntkinfo._common import check
from ntkinfo.ensemble._ensemble import Ensemble
from ntkinfo.ensemble._krylov import KrylovEnsemble
from ntkinfo.ensemble._spectral_sums import SpectralSums


def spectral(name: str, ens: Any) -> Any:
    """What answers sums over the spectrum for an ensemble: itself under the dense engine, else its `SpectralSums`.

    Raises:
      TypeError: no `Ensemble`, `KrylovEnsemble` or `SpectralSums`.
    """
    if isinstance(ens, KrylovEnsemble):
        return ens.default_sums
    if not isinstance(ens, SpectralSums):
        check.instance(name, ens, Ensemble, maker="`Ensemble.fit`")
    return ens


def dense(name: str, ens: Any, what: str) -> Any:
    """An ensemble of the dense engine; `what` needs its eigenvectors.

    Raises:
      TypeError: no ensemble.
      ValueError: an ensemble of the Krylov engine, which has none.
    """
    if isinstance(ens, KrylovEnsemble | SpectralSums):
        raise ValueError(
            f'`{name}` must be of engine="dense" for {what}, which needs all eigenvectors; engine="krylov" has none. '
            'Fit with `Ensemble.fit(..., engine="dense")`, on fewer training inputs if they are too many.'
        )
    check.instance(name, ens, Ensemble, maker="`Ensemble.fit`")
    return ens
