"""Infinite width. Bayesian posteriors of networks: exact Gaussian-process regression with the NNGP or tangent kernel.

`Posterior.fit` diagonalises the prior kernel of the training inputs once; predictions, evidence, information gain,
divergence from the prior and leave-one-out predictions are then closed forms.
"""

from ntkinfo.posterior._accepted import dense as dense
from ntkinfo.posterior._features import FeaturePosterior
from ntkinfo.posterior._krylov import KrylovPosterior
from ntkinfo.posterior._learn import LearnedPosterior
from ntkinfo.posterior._posterior import PRIORS, Posterior, predictive

__all__ = ["PRIORS", "FeaturePosterior", "KrylovPosterior", "LearnedPosterior", "Posterior", "predictive"]
