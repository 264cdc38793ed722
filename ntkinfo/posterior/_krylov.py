"""Posteriors of many data: by block Lanczos of the prior kernel, each number with its error."""

import os
from collections.abc import Callable
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import ensemble, kernels
from ntkinfo._common import check, pytree, tables
from ntkinfo._common.results import Estimate
from ntkinfo.ensemble import Ensemble, KrylovEnsemble, Prediction, SpectralSums
from ntkinfo.posterior._process import OfProcess

# The noise is to be so many times what float32 rounds off the eigenvalues of the prior kernel.
_NOISE_FACTOR = 8.0


@pytree.dataclass("prior", "prior_saw_data")
class KrylovPosterior(OfProcess):
    """A `Posterior` of many training inputs, answered by block Lanczos. Made by `Posterior.fit(..., engine="krylov")`.

    No factorisation is made: memory is n² numbers (the prior kernel), or none where it is evaluated for every product.

    Attributes:
      process: what products with the prior kernel Q come from: a `KrylovEnsemble` whose kernels are both Q.
      noise: σ², a scalar.
      prior: "nngp" or "ntk", the kernel taken for Q.
      prior_saw_data: as of `Posterior`.

    Source: theory, sections 1, 4 and 15.
    """

    process: KrylovEnsemble
    noise: Array
    prior: str
    prior_saw_data: bool

    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def tolerance(self) -> float:
        """What errors of predictions are to be below, see `ensemble.Prediction`."""
        return self.process.tolerance

    @property
    def spectral_sums(self) -> SpectralSums:
        """What the properties below are estimated from: of the spectrum of Q, made where first asked for."""
        return self.process.default_sums

    def predict(
        self,
        x_test: Float[ArrayLike, "m ..."],
        joint: bool = False,
        *,
        batch_size: int | None = None,
        max_steps: int | None = None,
        checkpoint: str | os.PathLike | None = None,
        progress: bool | None = None,
    ) -> Prediction:
        """The posterior of the outputs f at test inputs, as `Posterior.predict`, with its errors.

        Truncation is told by residuals, ‖r‖ ‖r'‖/(σ² + λ) for means and ‖r‖²/(σ² + λ) for variances, with the least
        Ritz value λ, or less where inputs that are alike prove it: estimates, which λ = 0 would make bounds.

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          joint: False; covariances between inputs are the dense engine's.
          batch_size: test inputs of a batch, which share a Krylov space; None takes up to 128.
          max_steps: most Lanczos steps of a batch; None takes up to 40.
          checkpoint: a folder that batches are written to as they come; a call with the same arguments goes on from
            there.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Returns:
          `Prediction` of mean (m, k) and variance (m,).

        Raises:
          TypeError: `x_test` does not hold floating-point numbers; traced values.
          ValueError: `joint=True`; inputs of another shape than trained on, NaN or Inf; a basis that does not fit into
            memory; a checkpoint of another run.

        Warns:
          UserWarning: a batch did not reach the tolerance; `Prediction.reason` says so as well.

        Source: theory, sections 1 and 15.
        """
        check.on_host(locals())
        check.flag("joint", joint)
        check.flag("progress", progress, none=True)
        ensemble.refuse_joint(joint)
        return ensemble.regress(
            self.process,
            self.process.check_inputs("x_test", x_test),
            float(np.asarray(self.noise)),
            batch_size=batch_size,
            max_steps=max_steps,
            checkpoint=checkpoint,
            progress=progress,
        )

    def predict_train(self, joint: bool = False) -> Prediction:
        """The posterior of the outputs on the training inputs: `predict` there, in batches."""
        return self.predict(self.x, joint)

    @property
    def log_marginal_likelihood(self) -> Estimate:
        """log p(Y|X) = log N(Y; 0, (Q + σ²I) ⊗ I_k) in nats, a scalar, estimated: the determinant is sampled."""
        return self.spectral_sums.log_marginal_likelihood(float(np.asarray(self.noise)))

    @property
    def information_gain(self) -> Estimate:
        """I(f;Y|X) = (k/2) log det(I + Q/σ²) in nats, a scalar, estimated by sampling.

        Source: theory, section 4, "Bayesian posteriors".
        """
        return self.spectral_sums.information_gain(float(np.asarray(self.noise)))

    @property
    def kl(self) -> Estimate:
        """KL[posterior ‖ prior] in nats, a scalar, estimated, as `Posterior.kl`; bounds on a risk take its `upper`.

        Source: theory, section 4, "Bayesian posteriors".
        """
        return self.spectral_sums.posterior_divergence(float(np.asarray(self.noise)))

    def leave_one_out(self) -> NoReturn:
        """Refused: it needs a diagonal of (Q + σ²I)⁻¹ for each training input.

        Raises:
          ValueError: always, with the remedy.
        """
        raise ValueError(
            '`engine` must be "dense" for `leave_one_out`, which needs the whole inverse; engine="krylov" has none. '
            'Fit with `Posterior.fit(..., engine="dense")`, on fewer training inputs if they are too many.'
        )


def fit(
    kernel_fn: Callable,
    x: Array,
    y: Array,
    *,
    noise: Any,
    prior: str,
    mean: Any,
    scale: Any,
    prior_saw_data: bool | None,
    batch_size: int | None,
    progress: bool | None,
    tolerance: float,
    storage: str,
    mesh: Any,
    checkpoint: Any = None,
) -> KrylovPosterior:
    """`Posterior.fit` for engine="krylov", of arguments that it has checked.

    Raises:
      ValueError: noise or scale that are to be fitted, or an empirical kernel; a noise below what rounding of stored
        kernels does to eigenvalues.
    """
    for name, value in (("noise", noise), ("scale", scale)):
        if isinstance(value, str):
            raise ValueError(
                f'`{name}` must be a number under engine="krylov"; got {value!r}. Fit it with engine="dense" on fewer '
                "training inputs."
            )
    if np.ndim(noise) > 0:
        raise ValueError(
            f'`noise` must be one number under engine="krylov"; got shape {np.shape(noise)}. Take engine="dense" on '
            "fewer training inputs, or one posterior for each label."
        )
    ensemble.refuse_empirical(kernel_fn)
    check.on_host({"noise": noise, "scale": scale})
    mean_fn = kernels.mean_function(mean, kernel_fn)
    saw = kernels.saw_data(kernel_fn, mean_fn, prior_saw_data)
    if float(scale) != 1.0:
        kernel_fn = kernels.scaled(kernel_fn, float(scale))
    process: Any = Ensemble.fit(
        kernels.OneKernel(kernel_fn, prior), x, y, mean=mean, singular="project", prior_saw_data=saw,
        batch_size=batch_size, progress=progress, engine="krylov", tolerance=tolerance, storage=storage, mesh=mesh,
        checkpoint=checkpoint,
    )  # fmt: skip
    noise = np.asarray(noise, x.dtype)
    least = _NOISE_FACTOR * process.rounding_of_eigenvalues
    if not float(noise) >= least:
        raise ValueError(
            f"`noise` must be at least {least:.2g}, {_NOISE_FACTOR:g} times what rounding of the kernel as it is "
            f'stored ({process.storage}) does to its eigenvalues; got {float(noise):.3g}. Take storage="float64" and '
            "inputs in float64, or a larger noise."
        )
    return KrylovPosterior(process, jnp.asarray(noise), prior, saw)
