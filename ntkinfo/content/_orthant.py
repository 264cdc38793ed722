"""Probability that a Gaussian vector has given signs: importance sampling, and bounds from both sides without sampling.

Everything is about P(z > 0) for z ~ N(0, C); other signs are a matter of flipping rows and columns of C. Cores only,
jittable: `ntkinfo.content` checks the arguments.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import log_ndtr, logsumexp, ndtri

_STEPS = 60
_HALVINGS = 12
_CHUNK = 512


def closed_form(correlation: Array, published: bool) -> Array:
    """Upper bound on -log P(z > 0) by Jensen's inequality from an isotropic Gaussian of variance s on the orthant.

        -log P ≤ n log 2 + ½ log det C - ½ n log s + ½ (s T - n),   T = (1 - 2/π) tr C⁻¹ + (2/π) 1ᵀC⁻¹1

    with s = det(C)^{1/n} (published) or the best, s = n/T.
    """
    n = len(correlation)
    factor = jnp.linalg.cholesky(correlation)
    inverse = solve_triangular(factor, jnp.eye(n, dtype=factor.dtype), lower=True)
    trace = (1 - 2 / jnp.pi) * jnp.sum(inverse**2) + (2 / jnp.pi) * jnp.sum(jnp.sum(inverse, axis=1) ** 2)
    half_log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    if not published:
        return n * math.log(2) + half_log_det + 0.5 * n * jnp.log(trace / n)
    return n * (math.log(2) - 0.5) + 0.5 * jnp.exp(2 * half_log_det / n) * trace


def isotropic(correlation: Array, key: Array, n_samples: int) -> Array:
    """Log weights (n_samples,), of mean P(z > 0), of draws from an isotropic Gaussian of variance det(C)^{1/n}."""
    n = len(correlation)
    factor = jnp.linalg.cholesky(correlation)
    scale = jnp.exp(jnp.sum(jnp.log(jnp.diagonal(factor))) / n)

    def chunk(key):
        g = jnp.abs(jax.random.normal(key, (n, _CHUNK), factor.dtype))
        whitened = solve_triangular(factor, scale * g, lower=True)
        return 0.5 * jnp.sum(g**2 - whitened**2, axis=0) - n * math.log(2)

    return jax.lax.map(chunk, _keys(key, n_samples)).reshape(-1)[:n_samples]


def tilting(correlation: Array) -> tuple[Array, Array, Array, Array]:
    """What draws one coordinate after the other need: their order (n,), Cholesky factor (n, n), shifts, a lower bound.

    The shifts make the largest possible weight least (Botev 2017), which bounds P(z > 0) from above: the last result
    is a lower bound on -log P(z > 0), and 0 where Newton's method did not find the saddle point.
    """
    order, factor = _ordered(correlation)
    return order, factor, *_saddle(_below(factor))


def _below(factor):
    return jnp.tril(factor, -1) / jnp.diagonal(factor)[:, None]


def sequential(factor: Array, shift: Array, key: Array, n_samples: int, then=lambda x: ()) -> tuple:
    """Log weights (n_samples,), of mean P(z > 0), of draws made one coordinate after the other, shifted.

    Without shifts this is the sampler of Geweke, Hajivassiliou and Keane. The second result is `then` of the draws x
    (n, chunk) with z = factor x, whose results (..., chunk) are gathered over chunks, (chunks, ..., chunk).
    """
    below = _below(factor)
    n = len(below)

    def chunk(key):
        uniform = jax.random.uniform(key, (n, _CHUNK), below.dtype, minval=jnp.finfo(below.dtype).tiny)

        def coordinate(carry, item):
            x, weight = carry
            k, row, mean, u = item
            a = -(row @ x) - mean
            tail = log_ndtr(-a)
            value = mean - log_quantile(tail + jnp.log(u))
            weight = weight + 0.5 * mean**2 - mean * value + tail
            return (x.at[k].set(value), weight), None

        start = (jnp.zeros((n, _CHUNK), below.dtype), jnp.zeros(_CHUNK, below.dtype))
        x, weight = jax.lax.scan(coordinate, start, (jnp.arange(n), below, shift, uniform))[0]
        return weight, then(x)

    weights, results = jax.lax.map(chunk, _keys(key, n_samples))
    return weights.reshape(-1)[:n_samples], results


def conditioned(correlation: Array, cross: Array, own: Array, key: Array, n_samples: int) -> tuple[Array, Array]:
    """P(g > 0 | z > 0) for other Gaussian variables g with covariance `cross` (m, n) with z and variance `own` (m,).

    Self-normalised importance sampling of z; given z, exact. Also the effective sample size.
    """
    order, factor, shift, _ = tilting(correlation)
    gain = solve_triangular(factor, cross[:, order].T, lower=True)
    spread = jnp.sqrt(own - jnp.sum(gain**2, axis=0))
    count = -(-n_samples // _CHUNK) * _CHUNK
    log_weights, positive = sequential(
        factor, shift, key, count, lambda x: jnp.exp(log_ndtr((gain.T @ x) / spread[:, None]))
    )
    weights = jnp.exp(log_weights - logsumexp(log_weights))
    probability = jnp.einsum("cms,cs->m", positive, weights.reshape(-1, _CHUNK))
    return probability, 1.0 / jnp.sum(weights**2)


def summarise(log_weights: Array) -> tuple[Array, Array, Array]:
    """-log of the mean weight, its standard error, and the effective sample size (Σw)²/Σw²."""
    count = len(log_weights)
    total, squares = logsumexp(log_weights), logsumexp(2 * log_weights)
    effective = jnp.exp(2 * total - squares)
    relative = jnp.exp(log_weights - total) * count - 1.0
    stderr = jnp.sqrt(jnp.sum(relative**2) / (count * (count - 1)))
    return math.log(count) - total, stderr, effective


def log_quantile(log_p: Array) -> Array:
    """The z with log Φ(z) = log_p ≤ 0, also far in the tail, where Φ underflows."""
    middle = log_p > -10.0
    near = ndtri(jnp.exp(jnp.where(middle, log_p, -1.0)))
    # Newton on log Φ, concave and nearly a parabola in the tail, from the leading term of its expansion.
    deep = jnp.where(middle, -10.0, log_p)
    z = -jnp.sqrt(-2 * deep - jnp.log(2 * jnp.pi) - jnp.log(-2 * deep))

    def step(_, z):
        value = log_ndtr(z)
        return z - (value - deep) * jnp.exp(value + 0.5 * z * z) * math.sqrt(2 * math.pi)

    return jnp.where(middle, near, jax.lax.fori_loop(0, 4, step, z))


def _keys(key, n_samples):
    return jax.random.split(key, -(-n_samples // _CHUNK))


def _hazard(a):
    """φ(a)/Φ(-a) and its derivative: the mean of a standard normal above a."""
    ratio = jnp.exp(-0.5 * a * a - 0.5 * math.log(2 * math.pi) - log_ndtr(-a))
    return ratio, ratio * (ratio - a)


def _ordered(correlation):
    """An order and the Cholesky factor of C in it: the coordinate least likely to be positive next comes first."""
    n = len(correlation)

    def step(j, carry):
        order, factor, means = carry
        permuted = correlation[order][:, order]
        variance = jnp.diagonal(permuted) - jnp.sum(factor**2, axis=1)
        ahead = jnp.arange(n) >= j
        score = jnp.where(ahead, (factor @ means) / jnp.sqrt(jnp.where(ahead, variance, 1.0)), jnp.inf)
        best = jnp.argmin(score)
        swap = jnp.arange(n).at[j].set(best).at[best].set(j)
        order, factor = order[swap], factor[swap]
        pivot = jnp.sqrt(variance[best])
        column = (correlation[order, order[j]] - factor @ factor[j]) / pivot
        column = jnp.where(jnp.arange(n) > j, column, jnp.where(jnp.arange(n) == j, pivot, 0.0))
        means = jnp.where(jnp.arange(n) == j, _hazard(-score[best])[0], means)
        return order, factor.at[:, j].set(column), means

    start = (jnp.arange(n), jnp.zeros_like(correlation), jnp.zeros(n, correlation.dtype))
    return jax.lax.fori_loop(0, n, step, start)[:2]


def _saddle(below):
    """The shifts μ at the saddle point of ψ(x, μ) = Σ ½μ² - xμ + log Φ(μ + L x), and -ψ there.

    ψ is the log weight of a draw; it is concave in x and convex in μ, and its value at the saddle bounds log P from
    above. Newton's method on the gradient, halved where the gradient would grow.
    """
    n = len(below)
    eye = jnp.eye(n, dtype=below.dtype)

    def gradient(x, shift):
        ratio, slope = _hazard(-(below @ x) - shift)
        return shift - x + ratio, below.T @ ratio - shift, slope

    def size(x, shift):
        first, second, _ = gradient(x, shift)
        return jnp.sum(first**2) + jnp.sum(second**2)

    def step(carry):
        x, shift, old, count = carry
        first, second, slope = gradient(x, shift)
        scaled = slope[:, None] * below
        # The equations for the step in μ are unit upper triangular; what is left is for the step in x.
        solved = solve_triangular(
            eye + scaled.T, jnp.concatenate([below.T @ scaled, second[:, None]], axis=1), lower=False
        )
        rest = (1 - slope)[:, None]
        matrix = eye + scaled + rest * solved[:, :n]
        dx = jnp.linalg.solve(matrix, first + rest[:, 0] * solved[:, n])
        dshift = solved[:, n] - solved[:, :n] @ dx

        def halve(trial):
            return 0.5 * trial[0], size(x + 0.5 * trial[0] * dx, shift + 0.5 * trial[0] * dshift), trial[2] + 1

        one = jnp.asarray(1.0, below.dtype)
        length, new, _ = jax.lax.while_loop(
            lambda trial: ~(trial[1] < old) & (trial[2] < _HALVINGS), halve, (one, size(x + dx, shift + dshift), 0)
        )
        return x + length * dx, shift + length * dshift, new, count + 1

    tolerance = n * (100 * float(jnp.finfo(below.dtype).eps)) ** 2
    zero = jnp.zeros(n, below.dtype)
    x, shift, left, _ = jax.lax.while_loop(
        lambda carry: (carry[2] > tolerance) & (carry[3] < _STEPS), step, (zero, zero, size(zero, zero), 0)
    )
    value = jnp.sum(0.5 * shift**2 - x * shift + log_ndtr(shift + below @ x))
    # Away from the saddle ψ bounds nothing; the residual is quadratic in the error of ψ.
    return shift, jnp.where(left < jnp.sqrt(tolerance), -value, 0.0)
