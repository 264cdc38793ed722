"""How sure predictions are that stand on a few initialisations: standard errors by the jackknife."""

import math
import warnings
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels
from ntkinfo._common import check, tables
from ntkinfo.ensemble._ensemble import Ensemble, predictive


class PredictiveError(NamedTuple):
    """Standard errors of predictions over the initialisations that they stand on. Made by `standard_error`.

    Attributes:
      mean: of the means, (T, m, k), or (m, k) for a scalar time.
      variance: of the variances, (T, m), or (m,).
    """

    mean: Array
    variance: Array

    # The times are not kept: where there are several they are numbered, as of a `Gaussian`.
    _table = tables.Table(("input", "output"), plain="mean variance", where={"variance": ("input",)})
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def standard_error(ens: Ensemble, x_test: Float[ArrayLike, "m ..."], t: Num[ArrayLike, "*T"]) -> PredictiveError:
    """Standard errors of `Ensemble.predict` for around="ensemble": how much other initialisations would change it.

    The jackknife: predictions are made again without each of the N networks, whose kernels are evaluated once, and

        s² = (N - 1)/N Σ_i (z_{-i} - z̄)².

    It is of the estimate from N networks of this width; what the width changes is not in it.

    Args:
      ens: an ensemble of `kernels.empirical(nets, around="ensemble")` of three networks or more.
      x_test: inputs, (m, ...), of the shape trained on.
      t: training time, scalar or (T,), as in `Ensemble.predict`.

    Returns:
      `PredictiveError`, an estimate itself.

    Raises:
      TypeError: no ensemble; `x_test` does not hold floating-point numbers.
      ValueError: another kernel, fewer than three networks, inputs of another shape, negative times.

    Cost: N kernels between training inputs and N eigendecompositions, O(N n³), and N kernels (n, n) in memory.

    Source: theory, section 11; Efron & Stein 1981.
    """
    check.instance("ens", ens, Ensemble, maker="`Ensemble.fit`")
    check.on_host({"x_test": x_test, "t": t})
    kernel = ens.kernel_fn
    if not isinstance(kernel, kernels.EmpiricalKernel) or kernel.around != "ensemble" or len(kernel.networks) < 3:
        raise ValueError(
            '`ens` must be an ensemble of three initialisations or more, as of `kernels.empirical(nets, '
            f'around="ensemble")`; its kernel is {kernel!r}.'
        )  # fmt: skip
    x_test, t = ens.check_inputs("x_test", x_test), check.times("t", t)
    s = jnp.atleast_1d(ens.rescaled_time(t))
    n_networks = len(kernel.networks)
    trained, crossed = kernel.member_tangents(ens.x), kernel.member_tangents(x_test, ens.x)
    outputs, outputs_test = (np.asarray(kernel.member_outputs(x)) for x in (ens.x, x_test))
    # Directions that were left unlearned stay so.
    singular = "project" if bool(jnp.any(ens.eigenvalues == 0)) else "error"
    means, variances = [], []
    for i in range(n_networks):
        rest = kernel.leaving_out(i)
        # A mean of all the networks is one of the others as well.
        of_all = getattr(ens.mean_fn, "__self__", None) is kernel
        mean = rest if of_all else ens.mean_fn
        both = kernels.Kernels(_covariance(outputs, outputs, i), jnp.asarray(_without(trained, i)))
        cross = kernels.Kernels(_covariance(outputs_test, outputs, i), jnp.asarray(_without(crossed, i)))
        with warnings.catch_warnings():
            # What the precision cannot resolve was said when the ensemble was made.
            warnings.simplefilter("ignore")
            one = Ensemble.from_kernels(rest, ens.x, ens.y, both, mean=mean, singular=singular)
        offset = None if one.mean_fn is None else jnp.asarray(one.mean_fn(x_test), ens.y.dtype)
        left = np.delete(outputs_test, i, axis=0)
        prior = np.mean(np.var(left, axis=0, ddof=1), axis=1)
        z = predictive(one, one.cross_kernels(cross, prior=jnp.asarray(prior), offset=offset), s, None, False)
        means.append(z.mean)
        variances.append(z.variance)
    errors = [jnp.std(jnp.stack(parts), axis=0) * math.sqrt(n_networks - 1) for parts in (means, variances)]
    return PredictiveError(*(error if t.ndim else error[0] for error in errors))


def _without(parts: np.ndarray, i: int) -> np.ndarray:
    """The mean of all but one."""
    return np.delete(parts, i, axis=0).mean(axis=0)


def _covariance(first: np.ndarray, second: np.ndarray, i: int) -> Array:
    """K̂ of all but one, from outputs (N, a, j) and (N, b, j)."""
    first, second = (np.delete(part, i, axis=0) for part in (first, second))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    return jnp.asarray(np.einsum("sic,sjc->ij", first, second) / ((len(first) - 1) * first.shape[2]))
