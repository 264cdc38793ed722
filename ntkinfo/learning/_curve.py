"""Learning curves of kernel regression from the spectrum of a finite pool, from which examples are drawn."""

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels, mixture, networks
from ntkinfo._common import check, eigenproblems, labels, memory, pytree, tables
from ntkinfo._numerics import spectrum
from ntkinfo.posterior import PRIORS

# Share of the error that a prediction from the pool may be off by where it is known.
_TRUSTED = 0.15


@pytree.dataclass("reason")
class LearningCurve:
    """Errors and information over numbers of training examples. Arrays (sizes,). Made by `curve`.

    Attributes:
      n: numbers of training examples.
      error: predicted squared error of the mean prediction at examples of the pool not trained on, summed over outputs.
        An estimate without an error bar: see `measured`.
      train_error: predicted likewise on the examples trained on.
      pool_error: predicted for the whole pool, those trained on among it.
      information: E I(f;Y|X) = (k/2) E log det(I + Q/σ²) in nats predicted, of n examples of the pool. None without
        noise.
      effective_dimension: Σ λ_i/(λ_i + κ), modes learned; at most n.
      measured: mean squared error on the rest of the pool over random training sets; None where none were drawn.
      stderr: its standard error over training sets; None likewise.
      reason: why `error` is not to be relied on beyond half the pool, as a sentence; empty where nothing speaks
        against it, or no n is as large.
    """

    n: Array
    error: Array
    train_error: Array
    pool_error: Array
    information: Array | None
    effective_dimension: Array
    measured: Array | None = None
    stderr: Array | None = None
    reason: str = ""

    _table = tables.Table(
        ("size",),
        nats="information",
        plain="n error train_error pool_error effective_dimension measured stderr",
        totals="reason",
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

    With Θ = U diag(λ) Uᵀ of the pool of N examples and v = UᵀY/√N, κ solves Σ (λ_i + σ²)/(λ_i + κ) = n, and with the
    learnabilities L_i = λ_i/(λ_i + κ), without noise

        error      = n/(n - Σ L_i²) Σ (1 - L_i)² v_i² / (1 - n/N),      train_error = 0,

    and with it as theory, section 14, says; for a small part of a large pool those are the formulas of Bordelon et al.
    It is an approximation for eigenvectors that lie as random ones do among the examples: on parities of digits and of
    Fashion-MNIST's class numbers within 15 % up to n = 0.43 N, and too low where n is large (`benchmarks/
    generalization.py`), since some examples are harder than others. By how much can be told at n = N - 1, where leaving
    one out is exact: `reason` says so where that is more than 15 % and n more than half the pool.

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

    Warns:
      UserWarning: `LearningCurve.reason`, where nothing is measured beside it.

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
    pool = "`x` must be a pool of at most {} examples"
    eigenproblems.require(pool, len(x), np.dtype(np.float64), "Take a smaller pool.", host=True)
    matrix = np.asarray(getattr(kernels.kernels(kernel_fn, x, batch_size=batch_size), prior), np.float64)
    ridge, targets, total = float(np.asarray(noise)), np.asarray(y, np.float64), len(x)
    rates, u = np.linalg.eigh(matrix)
    floor = spectrum.check_semidefinite("prior", rates.astype(x.dtype))
    resolved = rates[0] + ridge > floor
    rates = np.where(rates > floor, rates, 0.0)
    if ridge == 0 and max(sizes) >= np.sum(rates > 0):
        raise ValueError(
            f"`n` must be less than the rank of the kernel of the pool with noise 0; got {max(sizes)} and rank "
            f"{int(np.sum(rates > 0))} of {total}. Leave repeated inputs out, or take a noise."
        )
    power = np.sum((u.T @ targets) ** 2, axis=1) / total
    rows = np.array([_predict(rates, power, size, ridge) for size in sizes])
    information = y.shape[1] * rows[:, 4] if ridge > 0 else None
    reason = _reason(rates, u, targets, power, ridge, sizes)
    if reason and not draws:
        warnings.warn(reason, stacklevel=2)
    measured = stderr = None
    if draws:
        seeds = np.random.default_rng(np.asarray(jax.random.randint(key, (4,), 0, 2**31 - 1)))
        null = None if resolved else floor
        errors = [[_measure(matrix, targets, size, ridge, null, seeds) for _ in range(draws)] for size in sizes]
        errors = np.array(errors)
        measured, stderr = errors.mean(axis=1), errors.std(axis=1, ddof=1) / math.sqrt(draws)

    def array(value):
        return None if value is None else jnp.asarray(value, x.dtype)

    error, train_error, pool_error, dimension = rows.T[:4]
    result = LearningCurve(
        jnp.asarray(sizes), *(array(part) for part in (error, train_error, pool_error, information, dimension)),
        array(measured), array(stderr), reason,
    )  # fmt: skip
    check.finite_result("the curve", result, "`x`, `y` and `noise`")
    return result


def _reason(rates, u, targets, power, ridge, sizes) -> str:
    """Why errors beyond half the pool are not to be relied on; empty where they are."""
    total = len(rates)
    if 2 * max(sizes) <= total or rates[0] + ridge <= 0:
        # With null directions and no noise no example is left out exactly; sizes are below the rank.
        return ""
    inverse = 1 / (rates + ridge)
    left_out = ((u * inverse) @ (u.T @ targets)) / (u**2 @ inverse)[:, None]
    exact = float(np.mean(np.sum(left_out**2, axis=1)))
    told = _predict(rates, power, total - 1, ridge)[0]
    if abs(told - exact) <= _TRUSTED * exact:
        return ""
    return (
        f"Errors beyond half the pool of {total} examples are predicted badly: at n = {total - 1}, where leaving one "
        f"out tells the mean squared error exactly, {exact:.3g}, the prediction is {told:.3g}. Take a larger pool, or "
        "measure them beside (`draws`)."
    )


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


def _predict(rates, power, n, ridge):
    """Error, error on the training set and on the pool, effective dimension, information of one output, κ."""
    total = len(rates)
    kappa = _kappa(rates, n, ridge)
    learned = rates / (rates + kappa)
    share, part = n / total, float(np.mean(learned))
    # Of Θ⁻¹ + D/σ² = (Θ⁻¹ + w) + (D/σ² + v) - 1/m: m is the mean variance given the training examples, as is v that
    # of those not trained on, and s follows from changes of w.
    m, s = kappa * part, kappa**2 * float(np.mean(learned**2))
    inside, outside = m / (1 + m * (1 / ridge - 1 / kappa)) if ridge > 0 else 0.0, m / (1 - part)
    inner, outer = share * inside**2, (1 - share) * outside**2
    spread = s - (inner + outer) * (s / m**2 - 1)
    left = float(np.sum((kappa / (rates + kappa)) ** 2 * power))
    error, train = (side**2 / spread * left for side in (outside, inside))
    gain = _gain(rates, n, ridge, kappa) if ridge > 0 else 0.0
    return error, train, share * train + (1 - share) * error, total * part, gain, kappa


def _kappa(rates, n, ridge):
    """κ > δ with Σ (λ + δ)/(λ + κ) = n, which the left side, decreasing, meets once."""

    def excess(log_kappa):
        return float(np.sum((rates + ridge) / (rates + math.exp(log_kappa))) - n)

    # Without the λ below the left side is larger: an upper end, a little more for what rounding does to it.
    high = math.log((float(rates.sum()) + len(rates) * ridge) / n) + 1e-9
    low = high - 1.0
    while excess(low) < 0:
        low -= 2.0
    return math.exp(scipy.optimize.brentq(excess, low, high, xtol=1e-14, rtol=1e-14))


def _gain(rates, n, ridge, kappa):
    """½ E log det(I + Θ_n/δ)."""
    total, part = len(rates), float(np.mean(rates / (rates + kappa)))
    unseen = total * math.log1p(-part) + n * math.log1p(kappa * part / (ridge * (1 - part)))
    return 0.5 * (float(np.sum(np.log1p(rates / kappa))) + unseen)


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
