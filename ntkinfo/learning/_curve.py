"""Learning curves of kernel regression from the spectrum of a pool, corrected for the pool being finite."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels, mixture, networks
from ntkinfo._common import check, labels, memory, pytree, tables
from ntkinfo._numerics import spectrum
from ntkinfo.posterior import PRIORS


@pytree.dataclass()
class LearningCurve:
    """Errors and information over numbers of training examples. Arrays (sizes,). Made by `curve`.

    Attributes:
      n: numbers of training examples.
      error: predicted squared error of the mean prediction at examples of the pool not trained on, summed over outputs.
        An estimate without an error bar: see `measured`.
      train_error: predicted likewise on the examples trained on.
      pool_error: predicted for the whole pool, those trained on among it.
      information: E I(f;Y|X) = (k/2) E log det(I + Q/σ²) in nats predicted, of n examples; too low by some
        per cent where n is no small part of the pool. None without noise.
      effective_dimension: Σ λ_i/(λ_i + κ), modes learned; at most n.
      measured: mean squared error on the rest of the pool over random training sets; None where none were drawn.
      stderr: its standard error over training sets; None likewise.
    """

    n: Array
    error: Array
    train_error: Array
    pool_error: Array
    information: Array | None
    effective_dimension: Array
    measured: Array | None = None
    stderr: Array | None = None

    _table = tables.Table(
        ("size",),
        nats="information",
        plain="n error train_error pool_error effective_dimension measured stderr",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def curve(
    net: Any,
    x: Float[ArrayLike, "pool ..."],
    y: Float[ArrayLike, "pool k"] | Float[ArrayLike, " pool"],
    n: ArrayLike,
    noise: ArrayLike = 0.0,
    *,
    prior: str = "ntk",
    draws: int = 0,
    key: Array | None = None,
    batch_size: int | None = None,
) -> LearningCurve:
    """The error after training on n examples of a pool, predicted from its spectrum, for many n at once.

    With Θ = N U diag(λ) Uᵀ of the pool of N examples and v = UᵀY/√N, κ solves Σ λ_i/(λ_i + κ) + σ²/κ = n, and with the
    learnabilities L_i = λ_i/(λ_i + κ)

        pool_error = n/(n - Σ L_i²) Σ (1 - L_i)² v_i²,      train_error = (σ²/(nκ))² pool_error,
        error      = (pool_error - (n/N) train_error) / (1 - n/N).

    The last line takes the training examples out of the pool again. It is an approximation for kernels whose features
    behave like Gaussian ones: on parities of digits and of Fashion-MNIST's class numbers within 15 % up to n = 0.43 N,
    and too low where n is large (`benchmarks/generalization.py`); ask for `draws` to see.

    Args:
      net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`.
      x: the pool, (N, ...), floating point, a stand-in for the distribution of inputs.
      y: its labels, (N, k) or (N,), floating point. Noise in them is part of the error.
      n: numbers of training examples, an integer or a vector of them, from 1 to N - 1.
      noise: the ridge σ² of regression: 0 for the mean of networks trained to the end (prior="ntk"), positive for
        the mean of a posterior with this noise.
      prior: "ntk" or "nngp", the kernel regressed with.
      draws: how many random training sets to measure the error with, for each n; 0 measures nothing, else at least 2.
      key: random key, where errors are measured.
      batch_size: rows of a block of kernel evaluation; None chooses.

    Returns:
      `LearningCurve` of arrays (sizes,), (1,) for a single n; estimates.

    Raises:
      TypeError: arrays of a wrong kind, sizes that are no integers; traced arguments.
      ValueError: a pool of not more than n examples, a negative noise; a kernel singular to rounding with noise 0, for
        n up to its rank; a single draw; draws without a key.

    Cost: O(N³) once; each draw O(n³).

    Example:
      >>> found = curve(net, x, y, [2, 4, 6])
      >>> bool(jnp.all(jnp.diff(found.effective_dimension) > 0))
      True

    Source: Bordelon et al. 2020 (arXiv 2002.02561); Simon et al. 2021 (arXiv 2110.03922); theory, section 14.
    """
    kernel_fn = networks.kernel_function(net)
    check.on_host({"x": x, "y": y, "n": n, "noise": noise, "key": key})
    x = check.inputs("x", x)
    y = labels.real_targets("y", y, len(x)).astype(x.dtype)
    sizes = _sizes(n, len(x))
    check.positive("noise", noise, zero=True, scalar=True)
    check.option("prior", prior, PRIORS)
    draws = check.integer("draws", draws, least=0)
    if draws == 1:
        raise ValueError("`draws` must be 0, or at least 2, so that errors have a standard error; got 1.")
    if key is not None:
        check.key("key", key)
    if draws:
        key = mixture.require_key(key, "the measured error of random training sets")
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    kernels.refuse_full("net", kernel_fn)
    memory.require(f"`x` with {len(x)} examples", 5 * 8 * len(x) ** 2, "Take a smaller pool.")
    matrix = np.asarray(getattr(kernels.kernels(kernel_fn, x, batch_size=batch_size), prior), np.float64)
    ridge, targets, total = float(np.asarray(noise)), np.asarray(y, np.float64), len(x)
    rates, u = np.linalg.eigh(matrix)
    floor = spectrum.check_semidefinite("prior", rates.astype(x.dtype))
    resolved = rates[0] + ridge > floor
    rates = np.where(rates > floor, rates, 0.0) / total
    if ridge == 0 and max(sizes) >= np.sum(rates > 0):
        raise ValueError(
            f"`n` must be less than the rank of the kernel of the pool with noise 0; got {max(sizes)} and rank "
            f"{int(np.sum(rates > 0))} of {total}. Leave repeated inputs out, or take a noise."
        )
    power = np.sum((u.T @ targets) ** 2, axis=1) / total
    rows = np.array([_predict(rates, power, size, ridge, total) for size in sizes])
    information = None
    if ridge > 0:
        information = y.shape[1] * np.array(
            [_gain(rates, size, ridge, kappa) for size, kappa in zip(sizes, rows[:, 4], strict=True)]
        )
    measured = stderr = None
    if draws:
        seeds = np.random.default_rng(np.asarray(jax.random.randint(key, (4,), 0, 2**31 - 1)))
        null = None if resolved else floor
        errors = [[_measure(matrix, targets, size, ridge, null, seeds) for _ in range(draws)] for size in sizes]
        errors = np.array(errors)
        measured, stderr = errors.mean(axis=1), errors.std(axis=1, ddof=1) / math.sqrt(draws)

    def array(value):
        return None if value is None else jnp.asarray(value, x.dtype)

    error, train_error, pool_error, dimension, _ = rows.T
    result = LearningCurve(
        jnp.asarray(sizes), *(array(part) for part in (error, train_error, pool_error, information, dimension)),
        array(measured), array(stderr),
    )  # fmt: skip
    check.finite_result("the curve", result, "`x`, `y` and `noise`")
    return result


def _sizes(n, total: int) -> list[int]:
    given = np.asarray(check.values("n", n))
    if given.dtype.kind not in "iu" or given.ndim > 1 or given.size == 0:
        raise TypeError(
            f"`n` must be an integer or a vector of integers; got dtype {given.dtype}, shape {given.shape}."
        )
    sizes = [int(size) for size in np.atleast_1d(given)]
    if min(sizes) < 1 or max(sizes) >= total:
        raise ValueError(
            f"`n` must be from 1 to {total - 1}, less than the {total} examples of the pool `x`; got {min(sizes)} to "
            f"{max(sizes)}."
        )
    return sizes


def _predict(rates, power, n, ridge, total):
    """Error, error on the training set and on the pool, effective dimension, κ."""
    kappa = _kappa(rates, n, ridge)
    learned = rates / (rates + kappa)
    pool = n / (n - np.sum(learned**2)) * np.sum((1 - learned) ** 2 * power)
    train = (ridge / (n * kappa)) ** 2 * pool
    error = (pool - n / total * train) / (1 - n / total)
    return error, train, pool, np.sum(learned), kappa


def _kappa(rates, n, ridge):
    """κ > 0 with Σ λ/(λ + κ) + δ/κ = n, which the left side, decreasing, meets once."""

    def excess(log_kappa):
        kappa = math.exp(log_kappa)
        return float(np.sum(rates / (rates + kappa)) + ridge / kappa - n)

    # Without the κ beside λ the left side is larger: an upper end, a little more for what rounding does to it.
    high = math.log((float(rates.sum()) + ridge) / n) + 1e-9
    low = high - 1.0
    while excess(low) < 0:
        low -= 2.0
    return math.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def _gain(rates, n, ridge, kappa):
    """½ E log det(I + Θ_n/δ): its derivative by δ is that of the trace of the resolvent, 1/κ."""
    return 0.5 * (np.sum(np.log1p(rates / kappa)) + ridge / kappa - n + n * math.log(n * kappa / ridge))


def _measure(matrix, targets, n, ridge, null, seeds):
    """Squared error on the rest of the pool after regression on n random examples.

    Eigenvalues up to `null` count as zero, their directions are never learned; None where there are none.
    """
    order = seeds.permutation(len(matrix))
    kept, rest = order[:n], order[n:]
    own = matrix[np.ix_(kept, kept)]
    if null is None:
        factor = scipy.linalg.cho_factor(own + ridge * np.eye(n), lower=True)
        weights = scipy.linalg.cho_solve(factor, targets[kept])
    else:
        # Examples that repeat may be drawn together.
        rates, u = np.linalg.eigh(own)
        inverse = np.where(rates > null, 1 / np.where(rates > null, rates + ridge, 1.0), 0.0)
        weights = (u * inverse[None, :]) @ (u.T @ targets[kept])
    mean = matrix[np.ix_(rest, kept)] @ weights
    return float(np.mean(np.sum((mean - targets[rest]) ** 2, axis=1)))
