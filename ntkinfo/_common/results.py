"""A mutual information with what is known about its error, the result of every estimator."""

import math

import jax
import jax.numpy as jnp

from ntkinfo._common import check, pytree


@pytree.dataclass("method")
class Information:
    """A mutual information in nats, with what is known about its error. All arrays have the shape of `value`.

    Attributes:
      value: the information, by `method`.
      lower: a lower bound on it: for exact results the value less its estimated numerical error.
      upper: an upper bound, likewise. Where sampled, bounds hold in expectation; see the standard errors.
      stderr: standard error of `value` over the sampling of z; 0 where nothing is sampled.
      method: "exact", "monte_carlo", "minibatch", "pairwise" or "decoder"; of samples "binned", "kde" or "ksg".
      lower_stderr: standard error of `lower`; None stands for that of `value`.
      upper_stderr: standard error of `upper`; None stands for that of `value`.
    """

    value: jax.Array
    lower: jax.Array
    upper: jax.Array
    stderr: jax.Array
    method: str
    lower_stderr: jax.Array | None = None
    upper_stderr: jax.Array | None = None


def is_saturated(information: Information, m: int) -> jax.Array:
    """Whether I(X;Z) is within 1 % of its ceiling log m, where it says little but that the points are told apart.

    Args:
      information: information about the input.
      m: number of points X is uniform over, at least 2.

    Returns:
      Booleans of the shape of `information.value`.
    """
    check.instance("information", information, Information, maker="`information.input_information`")
    return jnp.asarray(information.value) >= 0.99 * math.log(check.integer("m", m, least=2))
