"""The problem of a bottleneck, its distortion, and the decoders that minimise the mean of it. On the host, in NumPy.

Decoders are passed as logarithms, and these stay finite: a probability below `smallest_probability` counts as that.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float

# The smallest probability kept, so that logarithms stay finite.
SMALLEST_PROBABILITY = 1e-300
# Sums of exponentials below this, or above its inverse, are to be made again relative to the largest.
_LEAST_TOTAL = 1e-200


@dataclasses.dataclass(frozen=True)
class Problem:
    """What a bottleneck compresses.

    Attributes:
      p_x: p(x), (x,), positive.
      p_y_given_x: p(y|x), (x, y); positive where `dual`.
      log_p_y_given_x: its logarithm, (x, y); 0 where p(y|x) = 0.
      dual: whether the distortion is D[p(y|z) ‖ p(y|x)], that of the dual bottleneck, in place of D[p(y|x) ‖ p(y|z)].
    """

    p_x: np.ndarray
    p_y_given_x: np.ndarray
    log_p_y_given_x: np.ndarray
    dual: bool

    @classmethod
    def from_joint(cls, p_xy: Float[np.ndarray, "x y"], dual: bool) -> "Problem":
        """The problem of a joint distribution, each x of positive probability."""
        p_xy = np.asarray(p_xy, np.float64)
        p_x = p_xy.sum(axis=1)
        p_y_given_x = p_xy / p_x[:, None]
        return cls(p_x, p_y_given_x, np.log(np.where(p_y_given_x > 0, p_y_given_x, 1)), dual)

    @property
    def features(self) -> np.ndarray:
        """What a decoder meets of an input, (x, y): p(y|x), or log p(y|x) for the dual."""
        return self.log_p_y_given_x if self.dual else self.p_y_given_x

    @functools.cached_property
    def own(self) -> np.ndarray:
        """The part of d(x, z) that depends on x alone, (x,): Σ p(y|x) log p(y|x), or 0 for the dual."""
        return np.zeros(len(self.p_x)) if self.dual else np.sum(self.p_y_given_x * self.log_p_y_given_x, axis=1)


def log_floored(p: np.ndarray) -> np.ndarray:
    """log p, of at least the smallest probability kept, for p of any shape."""
    return np.log(np.maximum(p, SMALLEST_PROBABILITY))


def log_sum_exp(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    """log Σ exp along an axis, which stays with length 1."""
    largest = logits.max(axis=axis, keepdims=True)
    return largest + np.log(np.exp(logits - largest).sum(axis=axis, keepdims=True))


def is_within_range(total: np.ndarray) -> np.ndarray:
    """Whether sums of exponentials that nothing was taken from are far from underflow and overflow."""
    return (total > _LEAST_TOTAL) & (total < 1 / _LEAST_TOTAL)


def slopes(problem: Problem, log_p_y_given_z: Float[np.ndarray, "... y"]) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (..., y) and numbers (...) with d(x, z) = own(x) + number(z) - features(x)·vector(z): one matrix product.

    Source: theory, sections 7 and 8.
    """
    if not problem.dual:
        return log_p_y_given_z, np.zeros(log_p_y_given_z.shape[:-1])
    p_y_given_z = np.exp(log_p_y_given_z)
    return p_y_given_z, np.sum(p_y_given_z * log_p_y_given_z, axis=-1)


def distortion(problem: Problem, log_p_y_given_z: Float[np.ndarray, "... z y"]) -> Float[np.ndarray, "... x z"]:
    """d(x, z) in nats: D[p(y|x) ‖ p(y|z)], or D[p(y|z) ‖ p(y|x)] for the dual.

    Args:
      problem: the problem.
      log_p_y_given_z: log p(y|z), (..., z, y), finite.

    Returns:
      (..., x, z), exact.

    Source: theory, sections 7 and 8.
    """
    vector, number = slopes(problem, log_p_y_given_z)
    return problem.own[:, None] + number[..., None, :] - problem.features @ np.swapaxes(vector, -1, -2)


def decoder(problem: Problem, mean_features: Float[np.ndarray, "... y"]) -> Float[np.ndarray, "... y"]:
    """The decoder of mean features: the mean of p(y|x), or its normalised geometric mean for the dual."""
    if not problem.dual:
        return mean_features
    odds = np.exp(mean_features - mean_features.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def log_decoder(problem: Problem, mean_features: Float[np.ndarray, "... y"]) -> Float[np.ndarray, "... y"]:
    """The logarithm of `decoder`, finite."""
    return mean_features - log_sum_exp(mean_features) if problem.dual else log_floored(mean_features)


def decode(problem: Problem, p_x_given_z: Float[np.ndarray, "... x"]) -> Float[np.ndarray, "... y"]:
    """The decoders that minimise Σ_x p(x|z) d(x, z), of p(x|z) (..., x): (..., y), rows summing to one.

    Source: theory, sections 7 and 8.
    """
    return decoder(problem, p_x_given_z @ problem.features)


def log_decode(problem: Problem, p_x_given_z: Float[np.ndarray, "... x"]) -> Float[np.ndarray, "... y"]:
    """The logarithm of `decode`, finite."""
    return log_decoder(problem, p_x_given_z @ problem.features)
