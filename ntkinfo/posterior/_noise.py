"""The variance of observation noise that makes the labels most probable: one number, in the eigenbasis of the prior.

With Q = U diag(q) Uᵀ the marginal likelihood costs O(n) per value, so a scan finds the right valley and L-BFGS the
bottom of it.
"""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check, compiling, tables, tracing
from ntkinfo._numerics import padding, spectrum

_SCAN = 128
_STEPS = 60
# The smallest noise tried, in units of the mean eigenvalue, unless rounding is coarser.
_SMALLEST = 1e-8
# Rounding of an eigenvalue, eps √n of the largest, must be this many times below noise + eigenvalue.
RESOLUTION_FACTOR = 10.0
# Up to this many times that rounding an eigenvalue counts as zero; less than the noise by the factor above.
NULL_FACTOR = 4.0
# Below this many times rounding, what is divided by the noise has lost its second digit.
_INACCURATE_FACTOR = 100.0


class NoiseFit(NamedTuple):
    """How the noise was chosen.

    Attributes:
      gradient: derivative of the log marginal likelihood with respect to log σ² at the value chosen, in nats; a scalar,
        as all here, or (k,) for one noise for each label.
      steps: steps of L-BFGS taken.
      converged: whether that derivative vanishes to the precision of the dtype.
      at_limit: whether the likelihood still grows at the smallest noise tried, so that no best value exists.
    """

    gradient: Array
    steps: Array
    converged: Array
    at_limit: Array

    _table = tables.Table(("output",), nats="gradient", plain="steps converged at_limit")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def log_marginal_likelihood(eigenvalues: Array, quadratic: Array, k: int, noise: Array) -> Array:
    """log N(Y; 0, (Q + σ²I) ⊗ I_k) in nats, from the eigenvalues q (n,) and Σ_c y_cᵀ(Q + σ²I)⁻¹y_c."""
    return _log_likelihood(eigenvalues, 1.0, quadratic, k, noise)


def _log_likelihood(eigenvalues, weights, quadratic, k, noise):
    return -0.5 * (quadratic + k * jnp.sum(weights * jnp.log(2 * np.pi * (eigenvalues + noise))))


def maximise_marginal_likelihood(eigenvalues: Array, squares: Array, k: int) -> tuple[Array, NoiseFit]:
    """σ² of the largest marginal likelihood, and how it was fit. Jittable.

    Args:
      eigenvalues: of the prior kernel on the training inputs, ascending, (n,).
      squares: Σ_c (UᵀY)², (n,).
      k: number of outputs.

    Returns:
      σ², a scalar, and the `NoiseFit`.
    """
    weights = np.ones(eigenvalues.shape, eigenvalues.dtype)
    values = (eigenvalues, squares, weights)
    if tracing.is_known(values):
        # One program for neighbouring numbers of inputs: what fills up weighs nothing.
        values = tuple(padding.fill(value, (padding.near(len(weights)),)) for value in values)
    return maximised(*values, np.asarray(k, eigenvalues.dtype))


@compiling.jit
def maximised(eigenvalues, squares, weights, k):
    """The core of `maximise_marginal_likelihood`: eigenvalues and squares count by their weights, (n,)."""
    import optax

    count, dtype = jnp.sum(weights), eigenvalues.dtype

    def loss(log_noise):
        # Per label: gradients of order one for any amount of data.
        noise = jnp.exp(log_noise)
        quadratic = jnp.sum(squares / (eigenvalues + noise))
        return -_log_likelihood(eigenvalues, weights, quadratic, k, noise) / (count * k)

    mean = jnp.sum(weights * eigenvalues) / count
    rounding = jnp.finfo(dtype).eps * jnp.sqrt(count) * jnp.max(weights * eigenvalues)
    low = jnp.log(jnp.maximum(_SMALLEST * mean, RESOLUTION_FACTOR * rounding))
    # From the mean square of the labels on the likelihood can only fall.
    high = jnp.log(jnp.maximum(jnp.max(squares) / k, mean) * 10)
    grid = low + (high - low) * jnp.linspace(0.0, 1.0, _SCAN, dtype=dtype)
    values = jax.vmap(loss)(grid)
    start = jnp.argmin(values)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)
    tolerance = jnp.sqrt(jnp.finfo(dtype).eps) * 1e-2

    def step(carry):
        log_noise, state, _, count = carry
        value, gradient = value_and_grad(log_noise, state=state)
        updates, state = solver.update(gradient, state, log_noise, value=value, grad=gradient, value_fn=loss)
        # Never out of the two neighbouring cells of the scan: the valley chosen is the lowest one seen.
        low_cell, high_cell = grid[jnp.maximum(start - 1, 0)], grid[jnp.minimum(start + 1, _SCAN - 1)]
        log_noise = jnp.clip(optax.apply_updates(log_noise, updates), low_cell, high_cell)
        return log_noise, state, jax.grad(loss)(log_noise), count + 1

    def unfinished(carry):
        return (jnp.abs(carry[2]) > tolerance) & (carry[3] < _STEPS)

    begin = (grid[start], solver.init(grid[start]), jax.grad(loss)(grid[start]), jnp.asarray(0))
    log_noise, _, slope, steps = jax.lax.while_loop(unfinished, step, begin)
    at_limit = (log_noise <= low) & (slope > 0)
    return jnp.exp(log_noise), NoiseFit(-slope * count * k, steps, jnp.abs(slope) <= tolerance, at_limit)


def fit_scale(q: Array, y: Array, noise: float | np.ndarray | None) -> tuple[float, float | np.ndarray, tuple]:
    """τ² and σ² of the largest marginal likelihood of labels y (n, k) under τ²Q + σ²I; σ² = `noise` where given.

    That is one number, or one for each label, (k,). Third come the eigenvalues of τ²Q, ascending (n,), its eigenvectors
    U (n, n) and Uᵀy. On the host, in float64. For each ratio σ²/τ² the best τ² is a closed form; the ratio, or τ²
    itself where the noise is given, is scanned and then found within two cells of the scan.

    Raises:
      ValueError: a kernel that is indefinite or zero; residuals that are all 0, where σ² is to be found too.

    Warns:
      UserWarning: the likelihood has no maximum within the values tried.
    """
    import scipy.optimize

    values, vectors = np.linalg.eigh(np.asarray(q, np.float64))
    spectrum.check_semidefinite("prior", values.astype(np.asarray(q).dtype))
    if noise is None and not np.any(np.asarray(y)):
        raise ValueError(
            '`y` must differ from the mean somewhere for scale="fit" with noise="fit": residuals are all 0, and the '
            "likelihood grows without bound towards a scale and a noise of 0."
        )
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ np.asarray(y, np.float64)
    squares, (n, k) = np.sum(rotated**2, axis=1), rotated.shape
    resolution = np.finfo(np.asarray(q).dtype).eps * np.sqrt(n) * values[-1]
    mean, signal = float(values.mean()), float(squares.mean()) / k

    def of_ratio(log_ratio):
        ratio = np.exp(log_ratio)
        scale = float(np.mean(squares / (values + ratio))) / k
        return scale, 0.5 * k * float(np.sum(np.log(values + ratio)) + n * np.log(scale))

    def of_scale(log_scale):
        total = np.exp(log_scale) * values[:, None] + own
        return np.exp(log_scale), 0.5 * float(np.sum(np.log(total)) + np.sum(rotated**2 / total))

    # Of each label, (1, k).
    own = np.broadcast_to(np.asarray(0.0 if noise is None else noise, np.float64), k)[None]
    function = of_ratio if noise is None else of_scale
    if noise is None:
        low, high = np.log(max(_SMALLEST * mean, RESOLUTION_FACTOR * resolution)), np.log(values[-1] * 1e6)
    else:
        low, high = np.log(_SMALLEST * (signal + own.min()) / mean), np.log(1e6 * (signal + own.max()) / mean)
    grid = np.linspace(low, high, _SCAN)
    best = int(np.argmin([function(each)[1] for each in grid]))
    if best in (0, _SCAN - 1):
        end = "smallest" if best == 0 else "largest"
        where = f"the {end} value tried"
        if noise is None:
            explained = "exactly" if best == 0 else "not at all"
            where = f"the {end} share of noise tried, where the kernel explains the residuals {explained}"
        warnings.warn(
            f'scale="fit" (`prior_variance` of a report) stopped at {where}: the marginal likelihood still grows '
            "there. Give values you can defend.",
            stacklevel=4,
        )
        found = float(grid[best])
    else:
        cells = (grid[best - 1], grid[best + 1])
        found = float(scipy.optimize.fminbound(lambda each: function(each)[1], *cells, xtol=1e-10))
    scale = float(function(found)[0])
    parts = (jnp.asarray(part, q.dtype) for part in (scale * values, vectors, rotated))
    return scale, scale * float(np.exp(found)) if noise is None else noise, tuple(parts)


def checked(eigenvalues: Array, noise: float | str | Array) -> Array:
    """Eigenvalues of the prior kernel, ascending (n,), after `check_noise`, with those lost in rounding set to 0.

    Labels off the range of a singular kernel weigh its null eigenvalues by 1/σ⁴: rounding must not enter there.
    """
    return _checked(eigenvalues, None if isinstance(noise, str) else noise)


@jax.custom_jvp
def _checked(eigenvalues, noise):
    if check.concrete(eigenvalues, noise):
        check_noise(np.asarray(eigenvalues), noise)
        return jnp.asarray(_without_null(np.asarray(eigenvalues), np))
    return _without_null(eigenvalues, jnp)


def _without_null(eigenvalues, xp):
    return xp.where(
        eigenvalues <= NULL_FACTOR * spectrum.rounding(eigenvalues), xp.zeros_like(eigenvalues), eigenvalues
    )


@_checked.defjvp
def _checked_derivative(primals, tangents):
    # A rule, so that values are checked under `grad` as well.
    values = _checked(*primals)
    return values, jnp.where(values == 0, 0.0, tangents[0])


def check_noise(eigenvalues: Array, noise: float | Array | None) -> None:
    """Refuses prior kernels (eigenvalues ascending, (n,)) that are no covariance, and noise lost in their rounding."""
    floor = spectrum.check_semidefinite("prior", eigenvalues)
    if noise is None:
        return
    smallest = float(eigenvalues[0])
    if max(smallest, 0.0) + float(noise) < RESOLUTION_FACTOR * floor:
        remedy = "" if eigenvalues.dtype == jnp.float64 else ", or compute in float64"
        raise ValueError(
            f"`noise` must exceed the rounding error of the prior kernel's eigenvalues, about {floor:.2g}, where the "
            f"smallest of them ({smallest:.2g}) does not; got {float(noise):.3g}. Take at least "
            f"{RESOLUTION_FACTOR * floor:.2g}{remedy}."
        )
    if max(smallest, 0.0) + float(noise) < _INACCURATE_FACTOR * floor:
        warnings.warn(
            f"`noise` of {float(noise):.3g} is little above the rounding error of the prior kernel's eigenvalues, "
            f"about {floor:.2g}: evidence and predictions may be off in their second digit. Take more, or compute in "
            "float64.",
            stacklevel=5,
        )


def warn_fit(noise: Any, fit: NoiseFit, y: Array, what: str = 'noise="fit"', *, stacklevel: int = 4) -> None:
    """Says where the marginal likelihood has no maximum, none was reached, or the offset of y (n, k) became noise."""
    labels = np.asarray(y, np.float64)
    offset, spread = float(np.mean(labels.mean(0) ** 2)), float(np.mean(labels.var(0)))
    if float(noise) > spread and offset > spread:
        warnings.warn(
            f"{what} takes the offset of the labels for noise: {float(noise):.3g}, where their variance is "
            f"{spread:.3g} and their mean square {offset + spread:.3g}. The prior has mean 0 and the scale of its "
            "kernel: subtract the mean of `y`, and divide by its standard deviation.",
            stacklevel=stacklevel,
        )
    if bool(fit.at_limit):
        warnings.warn(
            f"{what} stopped at the smallest noise tried, {float(noise):.3g}: the marginal likelihood still grows "
            "towards zero noise, that is, the prior explains the labels exactly. Give a noise you can defend.",
            stacklevel=stacklevel,
        )
    elif not bool(fit.converged):
        warnings.warn(
            f"{what} did not converge: after {int(fit.steps)} steps the derivative of the log marginal "
            f"likelihood with respect to log noise is {float(fit.gradient):.2g} at noise {float(noise):.3g}.",
            stacklevel=stacklevel,
        )
