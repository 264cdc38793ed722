"""The quantities of a `Curve`: what they are called on paper, and how they are read."""

import numpy as np

from ntkinfo._common.quantities import QUANTITIES
from ntkinfo.plot._axes import as_vector

AXES = {
    "information": "information",
    "geometry": "distance, action",
    "mse": "squared error",
    "nll": "negative log-likelihood",
    "error": "0-1 error",
}
# Behind the name of what is drawn as its lower bound.
AT_LEAST = r" $\geq$"
LOSSES = ("mse", "nll", "error")
METHODS = {
    "monte_carlo": "Monte Carlo",
    "minibatch": "minibatch bounds",
    "pairwise": "pairwise bounds",
    "decoder": "decoder bound",
}


def quantities_of(result) -> dict:
    """The table of quantities by name: the package's, and what the result has of its own over it."""
    return QUANTITIES | dict(getattr(result, "quantities", {}))


def symbols_of(result, kind: str) -> dict[str, str]:
    """What the quantities of one kind are called, by name."""
    return {name: quantity.symbol for name, quantity in quantities_of(result).items() if quantity.kind == kind}


def has_classes(result) -> bool:
    """Whether the labels were classes."""
    return result.losses.gibbs_error is not None


def field_of(result, name):
    """A field of the curve or of its losses."""
    value = getattr(result if hasattr(result, name) else result.losses, name)
    if value is None:
        raise ValueError(
            f"{name!r} must be in the results to be drawn; got None. 0-1 errors need classes, log-likelihoods a noise, "
            "the joint divergence joint=True and a covariance that is not singular."
        )
    return value


def value_of(result, name) -> np.ndarray:
    """Its value, (T,), also where it comes with an error."""
    field = field_of(result, name)
    return as_vector(getattr(field, "value", field))


def is_lower_bound(result, name) -> bool:
    """Whether a quantity of the curve only bounds what it is called, from below: that of a decoder does."""
    return getattr(field_of(result, name), "method", "") == "decoder"
