"""The quantities of a `Curve`: what they are called on paper, and how they are read."""

from typing import NamedTuple

import numpy as np

from ntkinfo.plot._axes import as_vector


class Quantity(NamedTuple):
    """What a figure needs to know of a quantity; rows of `Curve.quantities` have these fields and more."""

    kind: str
    symbol: str
    unit: str


# For arrays, and results that carry no table `quantities` of their own.
QUANTITIES = {
    "input_information": Quantity("information", "$I(X;Z|D)$", "nats"),
    "label_information": Quantity("information", "$I(Y;Z|D)$", "nats"),
    "output_divergence": Quantity("information", r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$", "nats"),
    "output_divergence_joint": Quantity("information", r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$, joint", "nats"),
    "parameter_distance": Quantity("geometry", r"$\mathrm{E}\,\Vert\theta_t-\theta_0\Vert^2$", ""),
    "action": Quantity("geometry", r"action $\int\Vert\dot\theta\Vert^2$", ""),
    "fisher_action": Quantity("geometry", "action, Fisher metric", ""),
    "gibbs_mse": Quantity("mse", "one network, test", ""),
    "mean_mse": Quantity("mse", "ensemble mean, test", ""),
    "gibbs_nll": Quantity("nll", "one network", "nats"),
    "ensemble_nll": Quantity("nll", "ensemble", "nats"),
    "gibbs_error": Quantity("error", "one network", ""),
    "mean_error": Quantity("error", "ensemble mean", ""),
    "train_gibbs_mse": Quantity("mse", "one network, train", ""),
    "train_mean_mse": Quantity("mse", "ensemble mean, train", ""),
}
AXES = {
    "information": "information",
    "geometry": "distance, action",
    "mse": "squared error",
    "nll": "negative log-likelihood",
    "error": "0-1 error",
}
LOSSES = ("mse", "nll", "error")
METHODS = {
    "monte_carlo": "Monte Carlo",
    "minibatch": "minibatch bounds",
    "pairwise": "pairwise bounds",
    "decoder": "decoder bound",
}


def quantities_of(result) -> dict:
    """The table of quantities by name: that of the result, over the one here."""
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
