"""Posteriors of a kernel given by features, Q = ΦΦᵀ: Bayesian linear regression, exact at any number of inputs."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import kernels
from ntkinfo._common import check, memory, pytree, tables
from ntkinfo._numerics import spectrum
from ntkinfo.ensemble import Ensemble, FeatureEnsemble
from ntkinfo.gaussian import Gaussian
from ntkinfo.posterior import _noise
from ntkinfo.posterior._noise import NoiseFit
from ntkinfo.posterior._process import OfProcess


@pytree.dataclass("prior", "prior_saw_data")
class FeaturePosterior(OfProcess):
    """A `Posterior` whose prior kernel is given by p features. Made by `Posterior.fit(..., engine="features")`.

    f(x) = φ(x)·θ with θ ~ N(0, I): exact for that kernel, from p x p numbers. With projected features it is exact for
    the projected kernel; `projection_bias` says what that does to log-determinants.

    Attributes:
      process: the features in their eigenbasis: a `FeatureEnsemble`.
      noise: σ², a scalar.
      noise_fit: how σ² was chosen, or None where it was given.
      prior: "nngp" or "ntk", which are one kernel here.
      prior_saw_data: as of `Posterior`.

    Source: theory, sections 1, 4 and 15; Bishop 2006, section 3.3.
    """

    process: FeatureEnsemble
    noise: Array
    noise_fit: NoiseFit | None
    prior: str
    prior_saw_data: bool

    _table = tables.Table(
        ("mode", "output"), plain="eigenvalues y_rotated", where={"eigenvalues": ("mode",)}, totals="noise prior"
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def eigenvalues(self) -> Float[Array, " r"]:
        """q > 0 of the prior kernel Q in ascending order, (r,); all others are 0."""
        return self.process.eigenvalues

    @property
    def y_rotated(self) -> Float[Array, "r k"]:
        """UᵀY, (r, k); with a mean function Uᵀ(Y - f(X; θ₀))."""
        return self.process.y_rotated

    @property
    def around(self) -> str:
        """Whose distribution it is: "laplace", a linear model with θ ~ N(0, I) or N(θ₀, τ²I)."""
        return "laplace"

    def predict(
        self,
        x_test: Float[ArrayLike, "m ..."],
        joint: bool = False,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Gaussian:
        """The posterior of the outputs f at test inputs, as `Posterior.predict`. Exact.

            μ = Φ_*V √q/(q + σ²) UᵀY,      Σ = Q_rest + Φ_*V σ²/(q + σ²) (Φ_*V)ᵀ

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          joint: whether to compute the covariance between inputs as well.
          batch_size: rows of a block of features; None chooses.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Returns:
          `Gaussian` with mean (m, k), variance (m,) and, if `joint`, covariance (m, m).

        Raises:
          TypeError: `x_test` does not hold floating-point numbers; traced values.
          ValueError: inputs of another shape than trained on, NaN or Inf, features that are not finite; more memory
            than there is.

        Source: theory, sections 1 and 15.
        """
        check.on_host(locals())
        check.flag("joint", joint)
        check.flag("progress", progress, none=True)
        x_test = self.process.check_inputs("x_test", x_test)
        m = len(x_test)
        memory.require(
            f"`x_test` with m = {m} inputs", 8.0 * (3 * m * self.process.rank + 2 * joint * m**2), "Take fewer."
        )
        coordinates, rest, offset = self._coordinates(x_test, joint, batch_size, progress)
        q, noise, rotated = self._spectrum
        mean = coordinates @ (rotated * (np.sqrt(q) / (q + noise))[:, None])
        mean = mean if offset is None else mean + np.asarray(offset, np.float64)
        left = coordinates * np.sqrt(noise / (q + noise))
        covariance = rest + left @ left.T if joint else None
        variance = np.diagonal(covariance) if covariance is not None else rest + np.sum(left**2, axis=1)
        dtype = self.y.dtype
        return Gaussian(*(None if part is None else jnp.asarray(part, dtype) for part in (mean, variance, covariance)))

    def predict_train(self, joint: bool = False) -> Gaussian:
        """The posterior of the outputs on the training inputs: `predict` there."""
        return self.predict(self.x, joint)

    def _coordinates(self, x, joint, batch_size, progress):
        """Coordinates (m, r) of features, what is beside them, (m,) or (m, m), and the prior mean; float64, host."""
        cross = self.process.cross_kernels(x, joint=joint, batch_size=batch_size, progress=progress)
        return np.asarray(cross.ntk, np.float64), np.asarray(cross.rest, np.float64), cross.offset

    @property
    def _spectrum(self) -> tuple[np.ndarray, float, np.ndarray]:
        """q (r,), σ² and UᵀY (r, k), float64 on the host."""
        return (
            np.asarray(self.process.eigenvalues, np.float64),
            float(np.asarray(self.noise)),
            np.asarray(self.process.y_rotated, np.float64),
        )

    @property
    def log_marginal_likelihood(self) -> Float[Array, ""]:
        """log p(Y|X) = log N(Y; 0, (Q + σ²I) ⊗ I_k) in nats, a scalar. Exact."""
        q, noise, rotated = self._spectrum
        quadratic = np.sum(rotated**2 / (q + noise)[:, None]) + float(np.sum(self.process.unexplained)) / noise
        log_det = np.sum(np.log(q + noise)) + (self.n - len(q)) * np.log(noise)
        return self._scalar(-0.5 * (quadratic + self.k * (log_det + self.n * np.log(2 * np.pi))))

    @property
    def information_gain(self) -> Float[Array, ""]:
        """I(f;Y|X) = (k/2) log det(I + Q/σ²) in nats, a scalar. Exact for this kernel, see `projection_bias`.

        Source: theory, section 4, "Bayesian posteriors".
        """
        q, noise, _ = self._spectrum
        return self._scalar(0.5 * self.k * np.sum(np.log1p(q / noise)))

    @property
    def kl(self) -> Float[Array, ""]:
        """KL[posterior ‖ prior] in nats, a scalar, exact, as `Posterior.kl`.

        Source: theory, section 4, "Bayesian posteriors".
        """
        q, noise, rotated = self._spectrum
        spread = self.k * np.sum(np.log1p(q / noise) - q / (q + noise))
        return self._scalar(0.5 * (spread + np.sum(rotated**2 * (q / (q + noise) ** 2)[:, None])))

    @property
    def projection_bias(self) -> Float[Array, ""]:
        """How much a projection changes `information_gain` on average, in nats, a scalar, never positive; 0 without.

            -(k / 4p) [(tr H)² + tr H²],      H = Q(Q + σ²I)⁻¹,  p directions

        The average over projections of log det(I + Q/σ²) lies below that of the kernel they stand for, by concavity;
        this is the leading term of the difference, an estimate that takes H of the projected kernel: good where tr H is
        small beside p. The evidence is too large by as much. Beside it one projection has a spread of its own.

        Source: theory, section 15.
        """
        if self.process.kernel_fn.projection is None:  # pyright: ignore[reportFunctionMemberAccess]
            return self._scalar(0.0)
        q, noise, _ = self._spectrum
        hat = q / (q + noise)
        return self._scalar(-0.25 * self.k / self.process.n_features * (np.sum(hat) ** 2 + np.sum(hat**2)))

    def leave_one_out(self, *, batch_size: int | None = None, progress: bool | None = None) -> Gaussian:
        """The posterior of each training output given all *other* labels: mean (n, k), variance (n,). Exact.

        As `Posterior.leave_one_out`; one more pass over the training inputs.

        Args:
          batch_size: rows of a block of features; None chooses.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Source: Rasmussen & Williams 2006, eq. 5.12; theory, section 15.
        """
        check.flag("progress", progress, none=True)
        coordinates, _, offset = self._coordinates(self.x, False, batch_size, progress)
        q, noise, rotated = self._spectrum
        labels = np.asarray(self.y, np.float64)
        before = 0.0 if offset is None else np.asarray(offset, np.float64)
        hat = np.sum(coordinates**2 / (q + noise), axis=1)
        fitted = coordinates @ (rotated * (np.sqrt(q) / (q + noise))[:, None]) + before
        # The part of each label's weight that is its own is left out; what remains is no difference of large numbers
        # unless the input has a direction to itself.
        rest = np.maximum(1.0 - hat, np.finfo(np.float64).tiny)
        mean = labels - (labels - fitted) / rest[:, None]
        return Gaussian(*(jnp.asarray(part, self.y.dtype) for part in (mean, noise * hat / rest)))

    def _scalar(self, value) -> Array:
        found = jnp.asarray(value, self.y.dtype)
        check.finite_result("the evidence", found, "`noise` and the features")
        return found


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
) -> FeaturePosterior:
    """`Posterior.fit` for engine="features", of arguments that it has checked.

    Raises:
      ValueError: a scale that is to be fitted, or a noise for each label; a noise below the rounding of the kernel.
    """
    if isinstance(scale, str) or np.ndim(noise) > 0 or (isinstance(noise, str) and noise != "fit"):
        name, value = ("scale", scale) if isinstance(scale, str) else ("noise", noise)
        got = repr(value) if isinstance(value, str) else f"shape {np.shape(value)}"
        accepted = "a number" if name == "scale" else 'one number, or "fit",'
        raise ValueError(
            f'`{name}` must be {accepted} under engine="features"; got {got}. Take engine="dense" on fewer training '
            "inputs, or one posterior for each label."
        )
    check.on_host({"noise": None if isinstance(noise, str) else noise, "scale": scale})
    kernel = kernels.as_features(kernel_fn)
    mean_fn = kernels.mean_function(mean, kernel)
    saw = kernels.saw_data(kernel, mean_fn, prior_saw_data)
    kernel = kernel.scaled(float(scale)).as_prior()
    options: Any = {"mean": mean, "prior_saw_data": saw, "batch_size": batch_size, "progress": progress}
    process: Any = Ensemble.fit(kernel, x, y, engine="features", **options)
    q = np.asarray(process.eigenvalues, np.float64)
    noise_fit = None
    if isinstance(noise, str):
        noise, noise_fit = _fitted(process)
        residual = y if process.mean_fn is None else y - kernels.offset(process.mean_fn, x, process.k)
        _noise.warn_fit(noise, noise_fit, residual)
    # Where Q has null directions the noise alone is what labels vary by along them.
    floor = float(spectrum.rounding(q))
    least = _noise.RESOLUTION_FACTOR * floor
    if (float(q[0]) if len(q) == process.n else 0.0) + float(noise) < least:
        raise ValueError(
            f"`noise` must exceed the rounding error of the kernel's eigenvalues, about {floor:.2g}; got "
            f"{float(noise):.3g}. Take at least {least:.2g}."
        )
    return FeaturePosterior(process, jnp.asarray(noise, y.dtype), noise_fit, prior, saw)


def _fitted(process: FeatureEnsemble) -> tuple[Array, NoiseFit]:
    """σ² of the largest marginal likelihood, in the dtype of the labels."""
    dtype, r = process.y.dtype, process.rank
    squares = np.sum(np.asarray(process.y_rotated, np.float64) ** 2, axis=1)
    # All null directions as one that counts as many times, with the labels off the range of Q.
    values = np.append(np.asarray(process.eigenvalues, np.float64), 0.0)
    squares = np.append(squares, float(np.sum(process.unexplained)))
    weights = np.append(np.ones(r), process.n - r)
    parts = (np.asarray(part, dtype) for part in (values, squares, weights))
    return _noise.maximised(*parts, np.asarray(process.k, dtype))
