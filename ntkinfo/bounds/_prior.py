"""Where the prior behind a divergence comes from: bounds hold for one that did not see the data they are about."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import ArrayLike

from ntkinfo._common import check
from ntkinfo._common.results import Estimate


@runtime_checkable
class Divergence(Protocol):
    """What carries a divergence from its prior, and says whether that prior saw the data; `ntkinfo.Posterior` does."""

    @property
    def kl(self) -> ArrayLike:
        """KL[posterior ‖ prior] in nats."""
        ...

    @property
    def prior_saw_data(self) -> bool:
        """Whether the prior (its kernel, its mean) was learned from the data the posterior is conditioned on."""
        ...


def paid(name: str, value, priors) -> np.ndarray:
    """A divergence in nats, with the log of the number of priors it was chosen from.

    The divergence from the mixture of K priors exceeds that from one of them by at most log K, and the mixture is as
    fixed as they are.

    Raises:
      TypeError: an estimate of a divergence, with the upper end of its error as the remedy.
      ValueError: a prior that saw the data, unless it was chosen from so many fixed ones.
    """
    kind = type(value).__name__
    if isinstance(value, Divergence):
        if value.prior_saw_data and priors is None:
            raise ValueError(
                f"`{name}` must be a divergence from a prior fixed before the data; that of this "
                f"{kind} was learned from them, and no bound follows. Learn it from other data, or "
                "choose it from finitely many fixed ones and say how many: `priors`."
            )
        value = value.kl
        if isinstance(value, Estimate):
            raise TypeError(
                f"`{name}` must be a divergence that is known; that of this {kind} is estimated, and a bound on the "
                f"risk needs one that it does not exceed. Pass the upper end of its error, `{name}=posterior.kl.upper`."
            )
    if isinstance(value, Estimate):
        raise TypeError(
            f"`{name}` must be a divergence that is known; got an Estimate, {value.value!s:.12} with an error. A bound "
            f"on the risk needs one that it does not exceed: pass its upper end, `{name}=estimate.upper`."
        )
    union = 0.0 if priors is None else np.log(check.integer("priors", priors))
    return check.real_numbers(name, value, 0) + union
