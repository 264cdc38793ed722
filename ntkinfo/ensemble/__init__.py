"""Infinite width. The ensemble of infinitely wide networks: its Gaussian over outputs at every time of training.

`Ensemble.fit` evaluates the kernels and diagonalises the tangent kernel once; after that `predict` gives the exact
mean and covariance at any number of times of gradient flow.
"""

from ntkinfo._common.labels import real_targets as labels
from ntkinfo.ensemble._accepted import dense as dense
from ntkinfo.ensemble._accepted import exact as exact
from ntkinfo.ensemble._accepted import spectral as spectral
from ntkinfo.ensemble._engine import ENGINES as ENGINES
from ntkinfo.ensemble._engine import check_checkpoint as check_checkpoint
from ntkinfo.ensemble._engine import choose as choose
from ntkinfo.ensemble._engine import require_dense as require_dense
from ntkinfo.ensemble._engine import require_solver as require_solver
from ntkinfo.ensemble._ensemble import Ensemble, predictive
from ntkinfo.ensemble._features import CrossFeatures, FeatureEnsemble
from ntkinfo.ensemble._jackknife import PredictiveError, standard_error
from ntkinfo.ensemble._krylov import STORAGES as STORAGES
from ntkinfo.ensemble._krylov import KrylovEnsemble, Prediction
from ntkinfo.ensemble._krylov import refuse_empirical as refuse_empirical
from ntkinfo.ensemble._krylov import refuse_joint as refuse_joint
from ntkinfo.ensemble._moments import CrossKernels, covariances, means, rotate
from ntkinfo.ensemble._regression import regress as regress
from ntkinfo.ensemble._spectral_sums import SpectralSums

__all__ = [
    "CrossFeatures",
    "CrossKernels",
    "Ensemble",
    "FeatureEnsemble",
    "KrylovEnsemble",
    "Prediction",
    "PredictiveError",
    "SpectralSums",
    "covariances",
    "labels",
    "means",
    "predictive",
    "rotate",
    "standard_error",
]
