"""The problem of a bottleneck, its distortion, and the decoders that minimise the mean of it.

Decoders are passed as logarithms, and these stay finite: a probability below `smallest_probability` counts as that.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ntkinfo._common import pytree


@pytree.dataclass("dual")
class Problem:
    """What a bottleneck compresses.

    Attributes:
      p_x: p(x), (x,), positive.
      p_y_given_x: p(y|x), (x, y); positive where `dual`.
      log_p_y_given_x: its logarithm, (x, y); 0 where p(y|x) = 0.
      dual: whether the distortion is D[p(y|z) ‖ p(y|x)], that of the dual bottleneck, in place of D[p(y|x) ‖ p(y|z)].
    """

    p_x: Array
    p_y_given_x: Array
    log_p_y_given_x: Array
    dual: bool

    @classmethod
    def from_joint(cls, p_xy: Float[Array, "x y"], dual: bool) -> "Problem":
        """The problem of a joint distribution, each x of positive probability."""
        p_x = jnp.sum(p_xy, axis=1)
        p_y_given_x = p_xy / p_x[:, None]
        return cls(p_x, p_y_given_x, jnp.log(jnp.where(p_y_given_x > 0, p_y_given_x, 1)), dual)


def smallest_probability(dtype) -> float:
    """The smallest probability kept, so that logarithms stay finite."""
    return 1e-300 if dtype == jnp.float64 else 1e-36


def log_floored(p):
    """log p, of at least the smallest probability kept, for p of any shape. NumPy in, NumPy out; else JAX."""
    xp = np if isinstance(p, np.ndarray) else jnp
    return xp.log(xp.maximum(p, smallest_probability(p.dtype)))


def distortion(problem: Problem, log_p_y_given_z: Float[Array, "z y"]) -> Float[Array, "x z"]:
    """d(x, z) in nats: D[p(y|x) ‖ p(y|z)], or D[p(y|z) ‖ p(y|x)] for the dual.

    Args:
      problem: the problem.
      log_p_y_given_z: log p(y|z), (z, y), finite.

    Returns:
      (x, z), exact. Two matrix products instead of an array (x, z, y).

    Source: theory, sections 7 and 8.
    """
    if problem.dual:
        p_y_given_z = jnp.exp(log_p_y_given_z)
        return jnp.sum(p_y_given_z * log_p_y_given_z, axis=1)[None, :] - problem.log_p_y_given_x @ p_y_given_z.T
    negative_entropy = jnp.sum(problem.p_y_given_x * problem.log_p_y_given_x, axis=1)
    return negative_entropy[:, None] - problem.p_y_given_x @ log_p_y_given_z.T


def decode(problem: Problem, p_x_given_z: Float[Array, "z x"]) -> Float[Array, "z y"]:
    """The decoders that minimise Σ_x p(x|z) d(x, z): the mean of p(y|x), or its normalised geometric mean for the dual.

    Args:
      problem: the problem.
      p_x_given_z: (z, x).

    Returns:
      p(y|z), (z, y), rows summing to one.

    Source: theory, sections 7 and 8.
    """
    if problem.dual:
        return jax.nn.softmax(p_x_given_z @ problem.log_p_y_given_x, axis=1)
    return p_x_given_z @ problem.p_y_given_x


def log_decode(problem: Problem, p_x_given_z: Float[Array, "z x"]) -> Float[Array, "z y"]:
    """The logarithm of `decode`, finite."""
    if problem.dual:
        return jax.nn.log_softmax(p_x_given_z @ problem.log_p_y_given_x, axis=1)
    return log_floored(decode(problem, p_x_given_z))
