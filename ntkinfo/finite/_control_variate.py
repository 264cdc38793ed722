"""The control variate of a sample of finite networks: the same at the start, trained with the kernel of infinite width.

What it says has the expectation of the closed forms, and most of the sampling error of the networks themselves:
in the difference of the two, the effect of finite width stands out from the noise.
"""

import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from ntkinfo import ensemble
from ntkinfo._common import check, compiling
from ntkinfo._numerics import spectral_filters
from ntkinfo.ensemble import Ensemble
from ntkinfo.finite._run import Run


def kernel_flow(run: Run, ens: Ensemble, x_test: Float[ArrayLike, "m ..."] | None = None) -> Run:
    """The trajectory each network of `run` would take from its start if its tangent kernel were that of infinite width.

    With f₀ the outputs of the network at initialisation, r₀ = f₀(X) - Y, and A_t as in `Ensemble.predict`,

        f_t(X) = Y + e^{-sΘ} r₀,      f_t(x) = f₀(x) - A_t r₀,      ‖θ_t - θ_0‖² = r₀ᵀ Θ⁻¹ (I - e^{-sΘ})² r₀,

    and likewise for the actions. Averages over networks have the closed forms as expectations where E f₀ f₀ᵀ = K, which
    holds exactly for one hidden layer and up to O(1/width) for more.

    Args:
      run: of `ntkinfo.finite.train`, with outputs on the training inputs and 0 among its times.
      ens: the ensemble of the same network on the same data.
      x_test: the test inputs of the run, (m, ...); not needed where it has none.

    Returns:
      A `Run` like `run`, in the dtype of the ensemble; with `summary(run, y_test, control=...)` it gives differences
      from infinite width.

    Raises:
      TypeError: not a `Run`, not an `Ensemble`.
      ValueError: 0 is not among the times, training outputs were not kept, or test inputs do not fit.

    Source: theory, sections 1 and 5.
    """
    check.on_host(locals())
    check.instance("run", run, Run, maker="`finite.train`")
    ens = ensemble.dense("ens", ens, "`kernel_flow`")
    zero = jnp.flatnonzero(run.t == 0)
    if run.t.ndim != 1 or zero.size == 0 or run.train_outputs is None:
        raise ValueError(
            "`run` must hold the networks at t = 0, with train_outputs: the control starts where they start. "
            "Put 0 among the times of `train`."
        )
    if run.y.shape != ens.y.shape:
        raise ValueError(f"`ens` must be fitted on the data of `run`, labels {run.y.shape}; got {ens.y.shape}.")
    cross = None
    if run.outputs is not None:
        if x_test is None:
            raise ValueError(f"`x_test` must be the {run.outputs.shape[2]} test inputs of `run`; got None.")
        x_test = ens.check_inputs("x_test", x_test)
        if len(x_test) != run.outputs.shape[2]:
            raise ValueError(f"`x_test` must be the {run.outputs.shape[2]} test inputs of `run`; got {len(x_test)}.")
        cross = ens.cross_kernels(x_test).ntk
    start = None if run.outputs is None else run.outputs[:, zero[0]]
    return run._replace(**_flowed(ens, run.t, run.train_outputs[:, zero[0]], start, cross))


@compiling.jit
def _flowed(ens, t, train_start, start, cross):
    s, rates = ens.rescaled_time(t), ens.eigenvalues
    residual = jnp.einsum("ij,nic->njc", ens.eigenvectors, train_start - ens.y[None])
    power = jnp.sum(residual**2, axis=2)
    growth, decay = spectral_filters.growth(rates, s), spectral_filters.decay(rates, s)
    after = jnp.einsum("ij,tj,njc->ntic", ens.eigenvectors, decay, residual)
    twice = 0.5 * spectral_filters.growth(rates, 2 * s)
    quantities = {
        "train_outputs": after + ens.y[None, None],
        "loss": 0.5 * jnp.mean(after**2, axis=(2, 3)),
        "parameter_distance": power @ (growth**2 * spectral_filters.pseudo_inverse(rates)[None, :]).T,
        "action": power @ twice.T,
        "fisher_action": power @ (twice * rates[None, :]).T,
        "fisher_trace": jnp.full((len(power), len(s)), ens.k * jnp.sum(rates)),
    }
    if start is not None:
        vectors = cross * spectral_filters.pseudo_inverse(rates)[None, :]
        quantities["outputs"] = start[:, None] - jnp.einsum("ij,tj,njc->ntic", vectors, growth, residual)
    return quantities
