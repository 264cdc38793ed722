"""Shared. Information through a Gaussian channel: X uniform over m points, Z | x_i ~ N(mean_i, variance_i I_k).

Four estimators of I(X;Z) = (1/m) sum_i KL(p_i || p), each with its own meaning, never exchanged for one another:

    exact         k = 1    quadrature, error below 1e-8 nats
    monte_carlo   any k    unbiased, with a standard error
    minibatch     any k    InfoNCE lower and leave-one-out upper bound, sampled
    pairwise      any k    lower and upper bound from distances, nothing sampled

`label_*` give I(Y;Z) for classes Y, and `*_pair` both for the price of one. Leading axes, such as times, are mapped
one by one, so memory does not grow with them.
"""

from ntkinfo._common.labels import one_hot
from ntkinfo._common.results import Information, is_saturated
from ntkinfo.mixture._channel import (
    ACCURACY,
    exact,
    exact_pair,
    label_exact,
    label_minibatch,
    label_monte_carlo,
    label_pairwise,
    minibatch,
    minibatch_pair,
    monte_carlo,
    monte_carlo_pair,
    pairwise,
    pairwise_pair,
    refuse_impossible,
    warn_if_inaccurate,
)
from ntkinfo.mixture._dispatch import METHODS, pair, require_key, select_method

__all__ = [
    "ACCURACY",
    "METHODS",
    "Information",
    "exact",
    "exact_pair",
    "is_saturated",
    "label_exact",
    "label_minibatch",
    "label_monte_carlo",
    "label_pairwise",
    "minibatch",
    "minibatch_pair",
    "monte_carlo",
    "monte_carlo_pair",
    "one_hot",
    "pair",
    "pairwise",
    "pairwise_pair",
    "refuse_impossible",
    "require_key",
    "select_method",
    "warn_if_inaccurate",
]
