"""Greedy choice of training examples by information gain: a pivoted Cholesky factorisation of the prior kernel."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels, networks
from ntkinfo._common import check, compiling, pytree, tables
from ntkinfo.posterior import PRIORS

# As in `Posterior.fit`: rounding is so many times below variance and noise.
_RESOLUTION = 10.0


@pytree.dataclass()
class Selection:
    """Examples chosen from a pool one after the other. Made by `select`.

    Attributes:
      index: rows of the pool in the order chosen, (n,).
      information: I(f;Y|X) of the first 1, 2, ... of them in nats, per output, (n,). Exact.
      bound: at least the information of the best n examples of the pool, a scalar, in nats per output: the smallest of
        what n more examples could add to any of the first ones. Never above information / (1 - 1/e).
    """

    index: Array
    information: Array
    bound: Array

    _table = tables.Table(("chosen",), nats="information", plain="index", totals="bound*")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def select(
    net: Any,
    x: Float[ArrayLike, "pool ..."],
    n: int,
    *,
    noise: ArrayLike = 0.1,
    prior: str = "nngp",
    batch_size: int | None = None,
) -> Selection:
    """The n examples of a pool that tell most about the function, one after the other, without looking at labels.

    Each step takes the input of the largest posterior variance v given those chosen, which adds ½ log(1 + v/σ²) to the
    information gain ½ log det(I + Q/σ²). The gain is submodular and grows with the set, so the greedy choice has at
    least 1 - (1 - 1/n)ⁿ > 1 - 1/e ≈ 63 % of what the best n examples have (Nemhauser, Wolsey & Fisher 1978); `bound`
    says how much that can be for this pool, and by their proof is at most that many times what was chosen.

    Args:
      net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`.
      x: the pool of inputs, (pool, ...), floating point.
      n: how many to choose, at most as many as there are.
      noise: the variance σ² of the noise on labels, positive.
      prior: "nngp" or "ntk", the kernel taken for Q.
      batch_size: rows of a block of the evaluation of kernels; None chooses.

    Returns:
      `Selection`; the choice is greedy, its information exact. Of equal inputs the first is taken.

    Raises:
      TypeError: `net` is no network; `x` are no floating-point numbers; `n` is no integer; traced arguments.
      ValueError: a pool smaller than `n`, a noise that is not positive, an unknown prior, a kernel that is no
        covariance; a noise lost in rounding, where all that is left of the pool repeats what was chosen.

    Cost: n columns of the kernel and O(pool n²); the kernel of the whole pool is never formed.

    Example:
      >>> chosen = select(net, x, 4, noise=0.1)
      >>> chosen.index.shape, bool(chosen.information[-1] <= chosen.bound)
      ((4,), True)

    Source: theory, section 12; Krause, Singh & Guestrin 2008 (JMLR 9, 235).
    """
    kernel_fn = networks.kernel_function(net)
    check.on_host({"x": x, "noise": noise})
    x = check.inputs("x", x)
    n = check.integer("n", n)
    check.option("prior", prior, PRIORS)
    check.positive("noise", noise, scalar=True)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    kernels.refuse_full("net", kernel_fn)
    if n > len(x):
        raise ValueError(f"`n` must be at most the number of inputs in the pool, {len(x)}; got {n}.")
    own = kernels.diagonal(kernel_fn, x, kernel=prior)
    variance, noise = own, jnp.asarray(noise, own.dtype)
    factor = jnp.zeros((n, len(x)), own.dtype)
    index, gains, most = [], [], np.inf
    total = 0.0
    open_ = jnp.ones(len(x), bool)
    for step in range(n):
        best, gain, potential = (np.asarray(part) for part in _pick(variance, open_, noise, n))
        _require_noise(float(variance[int(best)]), noise, own, step)
        # What was chosen so far and the n largest gains beside it: no set of n has more, by submodularity.
        most = min(most, total + float(potential))
        total += float(gain)
        index.append(int(best))
        gains.append(total)
        column = getattr(kernels.kernels(kernel_fn, x, x[int(best)][None], batch_size=batch_size), prior)[:, 0]
        factor, variance = _update(factor, variance, column, best, step, noise)
        open_ = open_.at[int(best)].set(False)
    information = jnp.asarray(np.array(gains), own.dtype)
    result = Selection(jnp.asarray(np.array(index)), information, jnp.asarray(max(most, total), own.dtype))
    check.finite_result("the information", result, "`x` and `noise`")
    return result


def _require_noise(variance: float, noise, own, step: int) -> None:
    """Refuses a noise beside which the rounding error of the next posterior variance passes for information."""
    rounding = float(jnp.finfo(own.dtype).eps) * math.sqrt(step + 1) * float(jnp.max(own))
    if max(variance, 0.0) + float(noise) < _RESOLUTION * rounding:
        raise ValueError(
            f"`noise` must exceed the rounding error of posterior variances, about {rounding:.2g}, where examples of "
            f"the pool are as good as repeated; got {float(noise):.3g}. Take at least "
            f"{_RESOLUTION * rounding:.2g}, or at most {step} examples."
        )


def _gain(variance, noise):
    return 0.5 * jnp.log1p(jnp.maximum(variance, 0.0) / noise)


@compiling.jit
def _open_gain(variance, open_, noise):
    return jnp.where(open_, _gain(variance, noise), -1.0)


def _pick(variance, open_, noise, n):
    """The row of the largest gain, that gain, and the n largest ones together."""
    gains = _open_gain(variance, open_, noise)
    best = jnp.argmax(gains)
    return best, gains[best], jnp.sum(jnp.maximum(jax.lax.top_k(gains, n)[0], 0.0))


@compiling.jit
def _update(factor, variance, column, best, step, noise):
    """One step of the Cholesky factorisation of Q + σ²I with the pivot `best`: rows of the factor, variances of f."""
    pivot = jnp.sqrt(jnp.maximum(variance[best], 0.0) + noise)
    row = (column - factor[:, best] @ factor) / pivot
    return factor.at[step].set(row), variance - row**2
