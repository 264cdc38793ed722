"""How fast the prediction error falls with the number of observations: Chernoff information after compression.

With n independent observations of Z for one label, the Bayes error between two classes decays as e^{-n C},
C the Chernoff information of p(z|y_1) and p(z|y_2); with more classes the closest pair decides.
"""

import math
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, compiling, tables
from ntkinfo._numerics.entropy import plogq

# Bisections of the exponent in [0, 1]: to the rounding of float64.
N_BISECTIONS = 60
# The Bayes error is summed exactly over at most so many count vectors.
MAX_COUNT_VECTORS = 1_000_000


class Exponent(NamedTuple):
    """Prediction-error exponents of an encoder, nats per observation.

    Attributes:
      worst: (...) the smallest over pairs of classes: the exponent of the Bayes error.
      mean: (...) the mean over pairs, weighted by p(y_1) p(y_2).
      pairs: (..., y, y) every pair, zero on the diagonal.
    """

    worst: Array
    mean: Array
    pairs: Array

    _table = tables.Table((), nats="worst mean")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


class BayesError(NamedTuple):
    """Bayes error from n observations: `value` and `stderr`, its standard error, zero where exact."""

    value: Array
    stderr: Array

    _table = tables.Table((), plain="value stderr")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def chernoff(p: Float[ArrayLike, "... z"], q: Float[ArrayLike, "... z"]) -> Float[Array, "..."]:
    """Chernoff information C(p, q) between two distributions, in nats.

        C = -min_{0 ≤ a ≤ 1} log Σ_z p(z)^a q(z)^(1-a)

    Args:
      p: (..., z) probabilities; zeros allowed.
      q: (..., z) probabilities, the shape of `p`.

    Returns:
      C, nats, shape (...), to machine precision. Symmetric, at least 0, at most min(KL(p ‖ q), KL(q ‖ p)). Under
      tracing distributions without common support give infinity.

    Raises:
      TypeError, ValueError: not distributions along the last axis; shapes that differ; disjoint supports (the
        classes are told apart without error and C is infinite).

    Source: Chernoff (1952); Cover & Thomas, section 11.9; theory, section 8.

    Example:
      >>> print(f"{float(chernoff(jnp.array([0.9, 0.1]), jnp.array([0.1, 0.9]))):.4f}")
      0.5108
    """
    p, q = _distributions("p", p), _distributions("q", q)
    if p.shape != q.shape:
        raise ValueError(f"`q` must have the shape of `p`; got {q.shape} and {p.shape}.")
    _check_overlap("p", p, q)
    return _chernoff(p, q)


def prediction_exponent(p_xy: Float[ArrayLike, "x y"], encoder: Float[ArrayLike, "... x z"]) -> Exponent:
    """Prediction-error exponent after compression: Chernoff information between the classes' p(z|y), in nats.

    p(z|y) = Σ_x p(z|x) p(x|y). The encoder of Z = X gives the exponent without compression, never exceeded.

    Args:
      p_xy: joint distribution (x, y), every class of positive mass, at least two classes.
      encoder: p(z|x), (..., x, z), such as the field `encoder` of a bottleneck curve.

    Returns:
      An `Exponent`, exact, leading axes those of `encoder`. Under tracing disjoint classes give infinity.

    Raises:
      TypeError, ValueError: not distributions; shapes; a class without mass; classes with disjoint p(z|y).

    Source: Piran, Shwartz-Ziv & Tishby (2020), section 5; theory, section 8.

    Example:
      >>> p_xy = jnp.array([[0.4, 0.1], [0.1, 0.4]])
      >>> print(f"{float(prediction_exponent(p_xy, jnp.eye(2)).worst):.4f}")
      0.2231
    """
    p_xy = discrete.check_joint("p_xy", p_xy)
    encoder = _distributions("encoder", encoder)
    if encoder.ndim < 2 or encoder.shape[-2] != p_xy.shape[0]:
        raise ValueError(f"`encoder` must have shape (..., {p_xy.shape[0]}, z), rows p(z|x); got {encoder.shape}.")
    p_y, p_z = _of_clusters(p_xy, encoder)
    if p_y.shape[0] < 2 or (check.concrete(p_y) and float(p_y.min()) <= 0):
        raise ValueError("`p_xy` must have two classes or more, each of positive mass. Drop the empty columns first.")
    if check.concrete(p_z):
        first, second = _pairs(p_y.shape[0])
        host = np.asarray(p_z)
        _check_overlap("encoder", host[..., first, :], host[..., second, :])
    return _exponent(p_y, p_z)


@compiling.on_host
def _of_clusters(xp, p_xy, encoder):
    """p(y), and p(z|y), (..., y, z)."""
    p_y = xp.sum(p_xy, axis=0)
    return p_y, xp.einsum("...xz,xy->...yz", encoder, p_xy / p_y[None, :])


def _pairs(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the second of every pair of classes."""
    return tuple(np.array(index) for index in zip(*combinations(range(n_classes), 2), strict=True))


@compiling.jit
def _exponent(p_y, p_z) -> Exponent:
    first, second = _pairs(p_y.shape[0])
    values = _chernoff(p_z[..., first, :], p_z[..., second, :])
    pairs = jnp.zeros((*p_z.shape[:-1], p_y.shape[0]), p_z.dtype)
    pairs = pairs.at[..., first, second].set(values).at[..., second, first].set(values)
    weights = p_y[first] * p_y[second]
    return Exponent(jnp.min(values, axis=-1), values @ (weights / jnp.sum(weights)), pairs)


def bayes_error(
    p_z_given_y: Float[ArrayLike, "y z"],
    p_y: Float[ArrayLike, " y"],
    n: int,
    *,
    key: Array | None = None,
    n_samples: int = 10_000,
) -> BayesError:
    """Bayes error of the label from n independent observations of Z, a probability.

        1 - Σ_{z_1..z_n} max_y p(y) Π_i p(z_i|y)

    Args:
      p_z_given_y: (y, z), rows p(z|y).
      p_y: (y,) prior of the label.
      n: number of observations.
      key: JAX random key: estimate by Monte Carlo. Without it the sum runs over all counts of the symbols, exactly.
      n_samples: number of Monte Carlo samples, at least 2.

    Returns:
      A `BayesError`: exact without `key`; with it unbiased, with its standard error.

    Raises:
      TypeError, ValueError: not distributions; shapes; more than 1,000,000 count vectors without `key`.

    Source: theory, section 8. Cost without `key` O(C(n + z - 1, z - 1) y z), on the host.

    Example:
      >>> rows = jnp.array([[0.9, 0.1], [0.1, 0.9]])
      >>> print(f"{float(bayes_error(rows, jnp.array([0.5, 0.5]), 3).value):.3f}")
      0.028
    """
    p_z_given_y, p_y = _distributions("p_z_given_y", p_z_given_y), _distributions("p_y", p_y)
    n, n_samples = check.integer("n", n), check.integer("n_samples", n_samples, least=2)
    if key is not None:
        check.key("key", key)
    if p_z_given_y.ndim != 2 or p_y.shape != p_z_given_y.shape[:1]:
        raise ValueError(
            f"`p_y` must have one entry per row of `p_z_given_y`; got {p_y.shape} and {p_z_given_y.shape}."
        )
    if key is not None:
        check.entries("n_samples", n * n_samples, f"n x n_samples = {n} x {n_samples} draws")
        return _sampled(p_z_given_y, p_y, n, key, n_samples)
    z = p_z_given_y.shape[1]
    # With two symbols there are n + 1 of them, with more never fewer: no need to count what is far too many.
    count = math.comb(n + z - 1, z - 1) if z == 1 or n < MAX_COUNT_VECTORS else n + 1
    if count > MAX_COUNT_VECTORS:
        raise ValueError(
            f"`n` must give at most {MAX_COUNT_VECTORS} count vectors; got {count} or more. Pass `key` for an estimate."
        )
    # A count vector is z - 1 bars among n stars.
    bars = np.array(list(combinations(range(n + z - 1), z - 1))).reshape(count, z - 1)
    edges = np.concatenate([np.full((count, 1), -1), bars, np.full((count, 1), n + z - 1)], axis=1)
    counts = (np.diff(edges, axis=1) - 1).astype(p_z_given_y.dtype)
    return _counted(p_z_given_y, p_y, counts, float(n))


@compiling.jit
def _counted(p_z_given_y, p_y, counts, n) -> BayesError:
    log_ways = jax.scipy.special.gammaln(n + 1.0) - jnp.sum(jax.scipy.special.gammaln(counts + 1), axis=1)
    terms = jnp.log(p_y)[None, :] + jnp.sum(plogq(counts[:, None, :], p_z_given_y[None]), axis=-1)
    joint = jnp.exp(log_ways[:, None] + terms)
    # The sum of all but the largest: 1 minus the sum of the largest would cancel for small errors.
    value = jnp.sum(jnp.sort(joint, axis=1)[:, :-1])
    return BayesError(value, jnp.zeros_like(value))


def _sampled(p_z_given_y, p_y, n, key, n_samples) -> BayesError:
    key_y, key_z = jax.random.split(key)
    label = jax.random.choice(key_y, p_y.shape[0], (n_samples,), p=p_y)
    symbols = jax.random.categorical(key_z, jnp.log(p_z_given_y)[label][None], axis=-1, shape=(n, n_samples))
    logits = jnp.log(p_y)[None, :] + jnp.sum(jnp.log(p_z_given_y).T[symbols], axis=0)
    # The posterior chance of error, not whether an error was made: the same mean, a smaller variance.
    errors = 1 - jnp.max(jax.nn.softmax(logits, axis=1), axis=1)
    return BayesError(jnp.mean(errors), jnp.std(errors, ddof=1) / math.sqrt(n_samples))


def _distributions(name: str, value) -> Array:
    value = check.array(name, value)
    if value.ndim == 0:
        raise ValueError(f"`{name}` must hold probabilities along its last axis; got a number.")
    return check.probabilities(name, value)


def _check_overlap(name: str, p, q) -> None:
    if check.concrete(p, q) and not bool(np.all(np.any((np.asarray(p) > 0) & (np.asarray(q) > 0), axis=-1))):
        raise ValueError(
            f"`{name}` must leave every pair of classes a common symbol; got disjoint supports. "
            "The classes are told apart without error, and the exponent is infinite."
        )


@compiling.jit
def _chernoff(p, q):
    both = (p > 0) & (q > 0)
    log_p, log_q = (jnp.where(both, jnp.log(jnp.where(both, distribution, 1)), 0) for distribution in (p, q))

    def log_sum(a):
        return jax.nn.logsumexp(a[..., None] * log_p + (1 - a)[..., None] * log_q, b=both, axis=-1)

    def halve(_, interval):
        low, high = interval
        a = (low + high) / 2
        weights = jnp.where(both, jnp.exp(a[..., None] * log_p + (1 - a)[..., None] * log_q), 0)
        rising = jnp.sum(weights * (log_p - log_q), axis=-1) > 0
        return jnp.where(rising, low, a), jnp.where(rising, a, high)

    ends = jnp.zeros(p.shape[:-1], p.dtype), jnp.ones(p.shape[:-1], p.dtype)
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, N_BISECTIONS, halve, ends))
    # At the minimum the derivative with respect to a vanishes, so a is a constant for the gradient.
    return -log_sum((low + high) / 2)
