"""Sums over pairs of Gaussians: sampled log-densities and closed-form distances, row by row.

The room behind `mixture.monte_carlo`, `mixture.minibatch` and `mixture.pairwise`: pure functions of arrays for one
set of m components, no checks. Rows are mapped in chunks, so memory stays bounded for any m and number of samples.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._numerics import variance_ratio

# Entries of one chunk of score rows: 2**20 float64 numbers are 8 MiB.
CHUNK = 2**20


def rows(function, m: int, width: int):
    """`function(i)` for i = 0 ... m - 1, as many rows at once as `width` entries per row allow.

    Each row is recomputed in the backward pass instead of being kept.
    """
    return jax.lax.map(jax.checkpoint(function), jnp.arange(m), batch_size=int(np.clip(CHUNK // width, 1, m)))


def _logsumexp(x, where):
    """Log of the sum of exp(x) over the last axis where `where`; -inf, with gradient 0, where there is nothing."""
    shift = jax.lax.stop_gradient(jnp.max(jnp.where(where, x, -jnp.inf), axis=-1, keepdims=True))
    shift = jnp.where(jnp.isfinite(shift), shift, 0.0)
    total = jnp.sum(jnp.where(where, jnp.exp(jnp.where(where, x - shift, 0.0)), 0.0), axis=-1)
    return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1.0)) + shift[..., 0], -jnp.inf)


def _parts(own, same, other, size, m):
    """Log-density of the mixture, of the others, of the class and of the class's others, from three disjoint sums.

    own: score of the component itself; same: log-sum over the rest of its class; other: over all other classes.
    """
    mixture = jnp.logaddexp(own, jnp.logaddexp(same, other)) - math.log(m)
    rest = jnp.logaddexp(same, other) - math.log(max(m - 1, 1))
    of_class = jnp.logaddexp(own, same) - jnp.log(size)
    # A class of one point carries no information about which point it is: its bounds are both 0.
    class_rest = jnp.where(size > 1, same - jnp.log(jnp.where(size > 1, size - 1, 1.0)), own)
    return mixture, rest, of_class, class_rest


def sampled(key, mean, variance, one_hot, n_samples: int):
    """Mean and sampling variance, for each component i, of five log-ratios of z ~ p_i.

    In order, with p the mixture, p_c that of the class of i, and -i the mixture without component i:
    log p_i/p, log p_i/p_{-i}, log p_c/p, and bounds of the last, log p_{c,-i}/p and log p_c/p_{-i}.

    Args:
      key: random key.
      mean: (m, k).
      variance: (m,).
      one_hot: (m, C).
      n_samples: draws of z for each component.

    Returns:
      Two arrays of shape (5, m): means over the draws, and their sample variances (over n_samples - 1).
    """
    m, k = mean.shape
    sigma = jnp.sqrt(variance)
    log_scale = 0.5 * k * jnp.log(2 * np.pi * variance)

    def row(i):
        z = mean[i][None, :] + sigma[i] * jax.random.normal(jax.random.fold_in(key, i), (n_samples, k), mean.dtype)
        # One output after another: all differences at once would take k times the memory.
        distance = jax.lax.fori_loop(
            0,
            k,
            lambda d, total: total + (z[:, d, None] - mean[None, :, d]) ** 2,
            jnp.zeros((n_samples, m), mean.dtype),
        )
        score = -0.5 * distance / variance[None, :] - log_scale[None, :]
        same = (one_hot @ one_hot[i] > 0.5)[None, :]
        itself = (jnp.arange(m) == i)[None, :]
        own = score[:, i]
        mixture, rest, of_class, class_rest = _parts(
            own, _logsumexp(score, same & ~itself), _logsumexp(score, ~same), jnp.sum(same).astype(score.dtype), m
        )
        draws = jnp.stack([own - mixture, own - rest, of_class - mixture, class_rest - mixture, of_class - rest])
        return jnp.mean(draws, axis=1), jnp.var(draws, axis=1, ddof=1) if n_samples > 1 else jnp.zeros(5, mean.dtype)

    average, spread = rows(row, m, n_samples * m)
    return average.T, spread.T


def pairwise(mean, variance, one_hot):
    """Kolchinsky-Tracey bounds on I(X;Z) and on the average of I(X;Z | Y = c), from distances between components.

    Args:
      mean: (m, k).
      variance: (m,).
      one_hot: (m, C).

    Returns:
      (4,): lower (Bhattacharyya) and upper (KL) bound of I(X;Z), then of sum_c p(c) I(X;Z | Y = c).
    """
    m, k = mean.shape

    def row(i):
        squared = jnp.sum((mean[i][None, :] - mean) ** 2, axis=1)
        total = variance[i] + variance
        bhattacharyya = 0.25 * squared / total + 0.5 * k * jnp.log(
            1.0 + (jnp.sqrt(variance[i]) - jnp.sqrt(variance)) ** 2 / (2 * jnp.sqrt(variance[i]) * jnp.sqrt(variance))
        )
        divergence = 0.5 * (squared / variance + k * variance_ratio.excess(variance[i], variance))
        same = one_hot @ one_hot[i] > 0.5
        everything = jnp.ones(m, bool)
        size = jnp.sum(same).astype(mean.dtype)
        return jnp.stack(
            [
                math.log(m) - _logsumexp(-bhattacharyya, everything),
                math.log(m) - _logsumexp(-divergence, everything),
                jnp.log(size) - _logsumexp(-bhattacharyya, same),
                jnp.log(size) - _logsumexp(-divergence, same),
            ]
        )

    return jnp.mean(rows(row, m, m * k), axis=0)
