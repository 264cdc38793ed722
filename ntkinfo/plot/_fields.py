"""The quantities of a `Curve`: what they are called on paper, and how they are read."""

import numpy as np

from ntkinfo.plot._axes import as_vector

INFORMATION = {
    "input_information": "$I(X;Z|D)$",
    "label_information": "$I(Y;Z|D)$",
    "output_divergence": r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$",
    "output_divergence_joint": r"$\mathrm{KL}[p_t(z|x)\,\Vert\,p_0(z|x)]$, joint",
}
GEOMETRY = {
    "parameter_distance": r"$\mathrm{E}\,\Vert\theta_t-\theta_0\Vert^2$",
    "action": r"action $\int\Vert\dot\theta\Vert^2$",
    "fisher_action": "action, Fisher metric",
}
LOSSES = {
    "mse": {
        "gibbs_mse": "one network, test",
        "mean_mse": "ensemble mean, test",
        "train_gibbs_mse": "one network, train",
        "train_mean_mse": "ensemble mean, train",
    },
    "nll": {"gibbs_nll": "one network", "ensemble_nll": "ensemble"},
    "error": {"gibbs_error": "one network", "mean_error": "ensemble mean"},
}
LOSS_AXIS = {"mse": "squared error", "nll": "negative log-likelihood", "error": "0-1 error"}

# name -> (group that may share one axis, label)
QUANTITIES = (
    {name: ("information", label) for name, label in INFORMATION.items()}
    | {name: ("geometry", label) for name, label in GEOMETRY.items()}
    | {name: (kind, label) for kind, names in LOSSES.items() for name, label in names.items()}
)
METHODS = {
    "monte_carlo": "Monte Carlo",
    "minibatch": "minibatch bounds",
    "pairwise": "pairwise bounds",
    "decoder": "decoder bound",
}


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
