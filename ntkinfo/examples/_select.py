"""Greedy choice of training examples by information gain: a pivoted Cholesky factorisation of the prior kernel."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels, networks
from ntkinfo._common import check, pytree, tables
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
    # On the host, where nothing is compiled for any size.
    variance, noise = np.array(own), np.asarray(noise, own.dtype)
    factor = np.zeros((n, len(x)), own.dtype)
    index, gains, most = [], [], np.inf
    total = 0.0
    inputs = np.asarray(x)
    for step in range(n):
        gain = np.where(np.isin(np.arange(len(x)), index), -1.0, _gain(variance, noise))
        best = int(np.argmax(gain))
        _require_noise(float(variance[best]), noise, own, step)
        # What was chosen so far and the n largest gains beside it: no set of n has more, by submodularity.
        largest = np.partition(gain, len(x) - n)[len(x) - n :]
        most = min(most, total + float(np.maximum(largest, 0.0).sum()))
        total += float(gain[best])
        index.append(best)
        gains.append(total)
        columns = getattr(kernels.kernels(kernel_fn, x, inputs[best][None], batch_size=batch_size), prior)
        # One step of the Cholesky factorisation of Q + σ²I with the pivot `best`.
        pivot = np.sqrt(np.maximum(variance[best], 0.0) + noise)
        # Not by BLAS, which may round equal columns in two ways: of equal inputs the first is taken.
        explained = np.einsum("i,ij->j", factor[:step, best], factor[:step])
        factor[step] = (np.asarray(columns)[:, 0] - explained) / pivot
        variance = variance - factor[step] ** 2
    information = jnp.asarray(np.array(gains), own.dtype)
    result = Selection(jnp.asarray(np.array(index)), information, jnp.asarray(max(most, total), own.dtype))
    check.finite_result("the information", result, "`x` and `noise`")
    return result


def _require_noise(variance: float, noise, own, step: int) -> None:
    """Refuses a noise beside which the rounding error of the next posterior variance passes for information."""
    rounding = float(jnp.finfo(own.dtype).eps) * math.sqrt(step + 1) * float(np.max(np.asarray(own)))
    if max(variance, 0.0) + float(noise) < _RESOLUTION * rounding:
        raise ValueError(
            f"`noise` must exceed the rounding error of posterior variances, about {rounding:.2g}, where examples of "
            f"the pool are as good as repeated; got {float(noise):.3g}. Take at least "
            f"{_RESOLUTION * rounding:.2g}, or at most {step} examples."
        )


def _gain(variance, noise):
    return 0.5 * np.log1p(np.maximum(variance, 0.0) / noise)
