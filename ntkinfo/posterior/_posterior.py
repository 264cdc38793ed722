"""Bayesian posteriors of infinitely wide networks: exact Gaussian-process regression with the NNGP or tangent kernel.

`Posterior.fit` factorises the prior kernel of the training inputs once; predictions and evidence are then closed forms.
Information gain, divergence from the prior, predictions at the training inputs and with one left out take its
eigenvalues, which are found where the first of these is asked for.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float

from ntkinfo import ensemble, kernels, networks
from ntkinfo._common import check, compiling, data, labels, pickling, pytree, tables, tracing
from ntkinfo._numerics import eigenspaces, padding, regularised, variances
from ntkinfo.datasets import Dataset
from ntkinfo.gaussian import Gaussian
from ntkinfo.posterior import _features, _krylov, _learn, _noise, _per_label, _spectrum, _stored
from ntkinfo.posterior._learn import LearnedPosterior
from ntkinfo.posterior._noise import NoiseFit
from ntkinfo.posterior._spectrum import Factor, Spectrum

PRIORS = ("nngp", "ntk")
# Matrices n x n held at once by `fit`.
_FIT_COPIES = 6


@pytree.dataclass("kernel_fn", "prior", "prior_saw_data", "mean_fn")
class Posterior:
    """A Gaussian process f ~ N(0, Q ⊗ I_k) given labels Y = f + N(0, σ²) noise. Made by `Posterior.fit`.

    A pytree of arrays; the kernel function and the name of the prior are static. Where `dataclasses.replace` exchanges
    labels, kernel or noise, what was found for the former ones is found again; x and kernel function must be q's.

    With one noise for each label outputs have posteriors of their own: predictions are those of k posteriors of one
    label each, along a leading axis, mean (k, m, 1), variance (k, m), covariance (k, m, m). What is said of all labels
    (evidence, `information_gain`, `kl`) is the sum.

    Attributes:
      x: training inputs, (n, ...).
      y: training labels, (n, k).
      q: the prior kernel Q on the training inputs, (n, n).
      noise: σ², a scalar, or (k,) for one of each label.
      noise_fit: how σ² was chosen, or None where it was given.
      kernel_fn: the kernel function `kernel_fn(x1, x2, get)`.
      prior: "nngp" or "ntk", the kernel taken for Q.
      prior_saw_data: whether the kernel was learned from these data; `ntkinfo.bounds` then refuses the divergence.
      mean_fn: the prior mean as a function of inputs; None where it is zero.
      offset: the prior mean at the training inputs, (n, k); None where it is zero.
      factor: the Cholesky factor of Q + σ²I and what it was found for; None where the noise was fitted, is small beside
        the kernel, or the posterior was made under tracing, which take the spectrum.
      given_spectrum: the eigendecomposition of Q, None where `factor` stands in its place. `eigenvalues`,
        `eigenvectors` and `y_rotated` give it in any case.

    Source: Lee et al. 2018 (arXiv 1711.00165); He et al. 2020 (arXiv 2007.05864); theory, sections 1 and 4.
    """

    x: Array
    y: Array
    q: Array
    noise: Array
    noise_fit: NoiseFit | None
    kernel_fn: Callable
    prior: str
    prior_saw_data: bool = False
    mean_fn: Callable | None = None
    offset: Array | None = None
    factor: Factor | None = None
    given_spectrum: Spectrum | None = None

    _table = tables.Table(
        ("mode", "output"), plain="eigenvalues y_rotated", where={"eigenvalues": ("mode",)}, totals="noise prior"
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html
    _to_stored = _stored.to_stored
    _from_stored = classmethod(_stored.from_stored)

    def __reduce_ex__(self, protocol):
        return pickling.reduce(self, protocol, (self.kernel_fn, self.mean_fn), _stored.REMEDY)

    @classmethod
    def fit(
        cls,
        net: Any,
        x: Float[ArrayLike, "n ..."] | Dataset,
        y: Float[ArrayLike, "n k"] | Float[ArrayLike, " n"] | None = None,
        *,
        noise: ArrayLike | str = 0.1,
        prior: str | None = None,
        mean: Any = None,
        scale: ArrayLike | str = 1.0,
        prior_saw_data: bool | None = None,
        batch_size: int | None = None,
        progress: bool | None = None,
        engine: str = "auto",
        tolerance: float = 1e-3,
        storage: str = "auto",
        mesh: Mesh | None = None,
        checkpoint: str | os.PathLike | None = None,
    ) -> "Posterior":
        """Evaluates the prior kernel on the training inputs and factorises it. O(n³), once.

        By Cholesky where the noise is given and no less than about √eps of the kernel's trace; of kernels that are no
        covariances by construction a second factor proves that they are semidefinite. Elsewhere by the eigenvalues of
        Q, at some ten times the cost.

        Differentiable by whatever the kernel depends on: the derivatives of all quantities are exact, of equal
        eigenvalues as well; second ones are refused (under `jit`, `nan`) where eigenvalues are equal or zero.

        Args:
          net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`, as of `kernels.empirical`.
          x: training inputs, (n, ...), floating point; or a `Dataset`, whose training rows are taken.
          y: training labels, (n, k) or (n,) for one output, floating point.
          noise: the variance σ² of observation noise (not its standard deviation), positive, or one for each label,
            (k,); or "fit" for the value of largest marginal likelihood, "fit_each" for that of each label, with
            `noise_fit` saying how well it was found; fitted, it is a constant under differentiation. It is absolute:
            neural-tangents' `diag_reg` is relative, noise = diag_reg · trace(Q)/n.
          prior: "nngp" for the Bayesian network, "ntk" for the process whose covariance is the tangent kernel; None
            is "nngp", but for the empirical kernel of one network, which has the tangent kernel alone.
          mean: the prior mean, such as f(x; θ₀): a `networks.Network`, a pair (apply_fn, params), an empirical kernel,
            or a function x -> (n, k). Labels become residuals, and predictions come with it. None for 0.
          scale: what the prior kernel is multiplied by, of an empirical kernel the prior variance τ² of its parameters;
            "fit" takes the value of largest marginal likelihood, together with the noise where that is "fit" too. It is
            part of the prior, which has then seen the data.
          prior_saw_data: whether the kernel was learned from these data, labels or inputs; None asks the kernel
            function for an attribute of this name, and takes one without for fixed beforehand; a mean of other networks
            than the kernel's is taken to be learned.
          batch_size: rows of a block of kernel evaluation; None chooses.
          progress: whether to show a progress bar; None shows it for work that takes long.
          engine: "dense" factorises; "krylov" makes a `KrylovPosterior`, for many data: predictions, evidence, gain and
            divergence with their errors, n² memory or less; "features" makes a `FeaturePosterior` of a kernel given by
            p features: exact, p² memory; "auto" is "features" for `kernels.features`, and "dense" elsewhere where that
            fits into memory.
          tolerance: of the Krylov engine: the error that predictions are to have at most, see `ensemble.Prediction`.
          storage: of the Krylov engine, as in `Ensemble.fit`.
          mesh: of the Krylov engine, as in `Ensemble.fit`.
          checkpoint: of the Krylov engine, as in `Ensemble.fit`.

        Returns:
          A `Posterior`, or under other engines a `KrylovPosterior` or a `FeaturePosterior`.

        Raises:
          TypeError: `net` is no network, or `x`, `y` or `noise` are not floating-point numbers.
          ValueError: wrong ranks or sizes, NaN or Inf, a noise that is not positive, of another shape than () or (k,),
            or vanishes beside the rounding of a singular kernel; an indefinite kernel, an unknown prior; a mean of
            another shape than the labels; scale="fit" under tracing, or with noise="fit_each"; under engine="krylov"
            scale="fit", a noise that is fitted or one for each label, an empirical kernel, and a noise that vanishes
            beside the rounding of stored kernels; more memory or a larger matrix than there can be.

        Warns:
          UserWarning: "auto" has chosen the Krylov engine; the message says why.
          UserWarning: noise="fit" found no best value (the likelihood grows down to the smallest noise tried), did not
            converge, or took for noise what is the offset of labels that are not centred.

        Example:
          >>> net = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
          >>> post = Posterior.fit(net, x, y, noise="fit")
          >>> z, gain = post.predict(x_test), post.information_gain
        """
        kernel_fn = networks.kernel_function(net)
        x, y = data.train_pair(x, y)
        x = check.inputs("x", x)
        y = labels.real_targets("y", y, len(x)).astype(x.dtype)
        prior = _check_prior(prior, kernel_fn)
        krylov_options = {"tolerance": tolerance, "storage": storage, "mesh": mesh}
        check.option("engine", engine, ensemble.ENGINES)
        check.option("storage", storage, ensemble.STORAGES)
        fitted = isinstance(noise, str) or isinstance(scale, str) or np.ndim(noise) > 0
        if engine == "auto" and fitted and mesh is None and storage == "auto":
            # Noise alone is fitted of given features too.
            alone = isinstance(noise, str) and noise == "fit" and not isinstance(scale, str)
            engine = engine if alone and isinstance(kernel_fn, kernels.FeatureKernel) else "dense"
        chosen = ensemble.choose(engine, kernel_fn, x, None, **krylov_options)
        ensemble.check_checkpoint(checkpoint, chosen)
        options = {"noise": noise, "prior": prior, "mean": mean, "scale": scale, "prior_saw_data": prior_saw_data}
        if chosen == "features":
            _check_noise(noise, y.shape[1], scale)
            return _features.fit(kernel_fn, x, y, batch_size=batch_size, progress=progress, **options)  # pyright: ignore
        if chosen == "krylov":
            _check_noise(noise, y.shape[1], scale)
            options |= {"checkpoint": checkpoint}
            return _krylov.fit(kernel_fn, x, y, batch_size=batch_size, progress=progress, **options, **krylov_options)  # pyright: ignore
        mean_fn = kernels.mean_function(mean, kernel_fn)
        x, y = kernels.trained_on(kernel_fn, x, y)
        _check_noise(noise, y.shape[1], scale)
        # What is fitted, or of each label, asks for eigenvectors; Krylov posteriors have one noise, which is given.
        ensemble.require_dense(x, kernel_fn, copies=_FIT_COPIES, eigenvectors=fitted, krylov=not fitted)
        q = getattr(kernels.kernels(kernel_fn, x, batch_size=batch_size, progress=progress), prior)
        return cls._scaled(kernel_fn, x, y, q, noise, prior, prior_saw_data, mean_fn, scale)

    @classmethod
    def from_kernel(
        cls,
        kernel_fn: Callable,
        x: Float[ArrayLike, "n ..."],
        y: Float[ArrayLike, "n k"] | Float[ArrayLike, " n"],
        q: Float[ArrayLike, "n n"],
        *,
        noise: ArrayLike | str = 0.1,
        prior: str | None = None,
        mean: Any = None,
        scale: ArrayLike | str = 1.0,
        prior_saw_data: bool | None = None,
    ) -> "Posterior":
        """`fit` for a prior kernel `q` already evaluated on `x` (n, ...), with labels `y` (n, k) or (n,).

        Raises:
          TypeError, ValueError: as `fit`; a `q` that is no symmetric matrix (n, n).
        """
        check.function("kernel_fn", kernel_fn, "a function kernel_fn(x1, x2, get)", arguments=3)
        x = check.inputs("x", x)
        y = labels.real_targets("y", y, len(x)).astype(x.dtype)
        prior = _check_prior(prior, kernel_fn)
        _check_noise(noise, y.shape[1], scale)
        q = check.square("q", q, len(x), x.dtype)
        mean_fn = kernels.mean_function(mean, kernel_fn)
        return cls._scaled(kernel_fn, x, y, q, noise, prior, prior_saw_data, mean_fn, scale)

    @classmethod
    def learn(
        cls,
        build: Callable,
        x: Float[ArrayLike, "n ..."],
        y: Float[ArrayLike, "n k"] | Float[ArrayLike, " n"],
        init: dict[str, Any],
        *,
        noise: ArrayLike | None = None,
        objective: str = "evidence",
        prior: str | None = None,
        factor: float = 1e4,
        max_steps: int = 200,
        progress: bool | None = None,
    ) -> LearnedPosterior:
        """The posterior with the parameters, such as σ_w, σ_b and σ², under which the labels are most probable.

            evidence         log N(Y; 0, (Q + σ²I) ⊗ I_k)
            leave_one_out    Σ_i log N(y_i; μ_{-i}, (Σ_{-i} + σ²) I_k), each label predicted from all others

        Their gradients are exact, and L-BFGS moves the logarithms of the parameters, in float64 whatever JAX's
        precision. It finds a local maximum: the best of several starts is surer. O(n³) for each step, O(n²) memory.

        Args:
          build: function of a dictionary of parameters that returns a network of `ntkinfo.stax`, or a kernel function
            `kernel_fn(x1, x2, get)`; it is differentiated through.
          x: training inputs, (n, ...), floating point.
          y: training labels, (n, k) or (n,), floating point.
          init: where to start, a positive number (or an array of them, such as length scales) for each name that
            `build` reads; with "noise" the variance σ² is learned as well, one or, from an array (k,), each label's.
          noise: σ² where it is not learned, a number or one for each label, (k,).
          objective: "evidence" or "leave_one_out".
          prior: "nngp" or "ntk"; None as in `fit`.
          factor: the parameters stay within `init` / factor and `init` * factor.
          max_steps: steps of L-BFGS at most.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Returns:
          `LearnedPosterior`: the posterior, the parameters, the objective and its path, its gradient, and whether the
          search converged. The prior has seen the data: `ntkinfo.bounds` refuses its divergence. `ni.save` writes it,
          and `ni.load(path, build)` makes its network again.

        Raises:
          TypeError: `init` is no dictionary of numbers, `build` no function, arguments that are traced.
          ValueError: parameters that are not positive, noise given twice or never, an objective that is not finite at
            `init`; as `fit`.

        Warns:
          UserWarning: a parameter ended at the limit of its range; the search did not converge.

        Source: Rasmussen & Williams 2006, eqs. 2.30, 5.8 to 5.13; theory, section 1, "Learned hyperparameters".

        Example:
          >>> net = lambda p: stax.serial(stax.Dense(512, p["w_std"]), stax.Erf(), stax.Dense(1, p["w_std"]))
          >>> learned = Posterior.learn(net, x, y, {"w_std": 1.0, "noise": 0.1})
          >>> sorted(learned.parameters), learned.n_steps > 0
          (['noise', 'w_std'], True)
        """
        return _learn.learn(cls, build, x, y, init, noise, objective, prior, factor, max_steps, progress)

    @classmethod
    def _scaled(cls, kernel_fn, x, y, q, noise, prior, prior_saw_data, mean_fn, scale) -> "Posterior":
        """`_of_kernel` around a mean, of the kernel times `scale`, which may be fitted."""
        offset, spectrum = kernels.offset(mean_fn, x, y.shape[1]), None
        if isinstance(scale, str):
            if not check.concrete(q, y, offset):
                raise ValueError('`scale` must be a number under jit and grad; got "fit".')
            fixed = None if isinstance(noise, str) else np.asarray(noise, np.float64)
            scale, noise, parts = _noise.fit_scale(q, _residual(y, offset), fixed)
            spectrum = Spectrum(*parts)
            prior_saw_data = True if prior_saw_data is None else prior_saw_data
        if not (check.concrete(scale) and float(scale) == 1.0):
            _check_range(q, scale)
            kernel_fn, q = kernels.scaled(kernel_fn, scale), jnp.asarray(scale, q.dtype) * q
        return cls._of_kernel(kernel_fn, x, y, q, noise, prior, prior_saw_data, mean_fn, offset, spectrum)

    @classmethod
    def _of_kernel(
        cls, kernel_fn, x, y, q, noise, prior, prior_saw_data, mean_fn=None, offset=None, spectrum=None
    ) -> "Posterior":
        """`from_kernel` of what has been checked; with the eigendecomposition of `q` where it is known."""
        residual, noise_fit = _residual(y, offset), None
        # Outside `jit`, so that `grad` sees values where it has to refuse.
        factor = None
        if isinstance(noise, str):
            spectrum = _spectrum.diagonalised(q, residual, noise)
            together = noise == "fit"
            squares = _spectrum.row_squares(spectrum.y_rotated) if together else spectrum.y_rotated**2
            constants = jax.lax.stop_gradient((spectrum.eigenvalues, squares))
            if together:
                noise, noise_fit = _noise.maximise_marginal_likelihood(*constants, y.shape[1])
            else:
                noise, noise_fit = _per_label.maximise(*constants)
            if check.concrete(noise, noise_fit):
                (_noise if together else _per_label).warn_fit(noise, noise_fit, residual)
        else:
            if spectrum is None:
                factor = _spectrum.factorised(q, residual, noise, kernels.are_covariances(kernel_fn))
            if factor is None:
                spectrum = _spectrum.diagonalised(q, residual, noise, spectrum)
        noise = jnp.asarray(noise, x.dtype)
        saw = kernels.saw_data(kernel_fn, mean_fn, prior_saw_data)
        return cls(x, y, q, noise, noise_fit, kernel_fn, prior, saw, mean_fn, offset, factor, spectrum)

    @property
    def spectrum(self) -> Spectrum:
        """The eigendecomposition Q = U diag(q) Uᵀ and UᵀY: found where first asked for, and kept. O(n³)."""
        kept = self.__dict__.get("_spectrum")
        if kept is None:
            kept, residual = self.given_spectrum, _residual(self.y, self.offset)
            if kept is not None and tracing.is_known(kept, self.q, residual, self.noise):
                # Of another kernel, other labels or a smaller noise where these were exchanged.
                known = kept if _spectrum.is_of(kept, self.q, residual) else None
                kept = _spectrum.diagonalised(self.q, residual, self.noise, known)
            elif kept is None:
                kept = _spectrum.diagonalised(self.q, residual, self.noise)
            if tracing.is_known(kept):
                self.__dict__["_spectrum"] = kept
        return kept

    def with_spectrum(self) -> "Posterior":
        """The same posterior, on its eigendecomposition alone: for jitted functions, which find none that is kept."""
        return dataclasses.replace(self, factor=None, given_spectrum=self.spectrum)

    @property
    def eigenvalues(self) -> Float[Array, " n"]:
        """q of the prior kernel Q = U diag(q) Uᵀ in ascending order, (n,); 0 where they are rounding."""
        return self.spectrum.eigenvalues

    @property
    def eigenvectors(self) -> Float[Array, "n n"]:
        """U, (n, n), one eigenvector a column."""
        return self.spectrum.eigenvectors

    @property
    def y_rotated(self) -> Float[Array, "n k"]:
        """UᵀY, (n, k); with a mean function Uᵀ(Y - f(X; θ₀))."""
        return self.spectrum.y_rotated

    @property
    def coupling(self) -> Float[Array, "n n"] | None:
        """Zeros (n, n) that carry derivatives within eigenspaces (`ntkinfo._numerics.eigenspaces`) under tracing.

        The derivatives of the spectrum are complete only where eigenvalues are distinct; those of every quantity are
        complete everywhere.
        """
        return self.spectrum.coupling

    @property
    def n(self) -> int:
        """Number of training inputs."""
        return self.y.shape[0]

    @property
    def k(self) -> int:
        """Number of outputs of a network."""
        return self.y.shape[1]

    @property
    def around(self) -> str | None:
        """Whose distribution it is: "laplace" or "ensemble" of finite networks; None at infinite width."""
        around = getattr(self.kernel_fn, "around", None)
        return "laplace" if around == "one" else around

    @property
    def y_tilde(self) -> Array:
        """The former name of `y_rotated`, kept for one version."""
        return self.y_rotated

    def predict(
        self, x_test: Float[ArrayLike, "m ..."], joint: bool = False, *, batch_size: int | None = None
    ) -> Gaussian:
        """The posterior of the outputs f: N(Q_*(Q + σ²I)⁻¹Y, (Q_** - Q_*(Q + σ²I)⁻¹Q_*ᵀ) ⊗ I_k).

        Of the noiseless outputs: add `noise` to the variance for a new label.

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          joint: whether to compute the covariance between inputs as well.
          batch_size: rows of a block of kernel evaluation; None chooses.

        Returns:
          `Gaussian` with mean (m, k), variance (m,) and, if `joint`, covariance (m, m); with one noise for each label
          (k, m, 1), (k, m) and (k, m, m). Exact; a variance below its
          rounding error is 0. On training inputs `predict_train` is more accurate where the noise is small.

        Raises:
          TypeError: `x_test` does not hold floating-point numbers.
          ValueError: inputs of another shape than trained on, NaN or Inf.

        Source: theory, section 1, "Bayesian posteriors".
        """
        check.flag("joint", joint)
        x_test = kernels.inputs_like("x_test", x_test, self.x, self.kernel_fn)
        cross = getattr(kernels.kernels(self.kernel_fn, x_test, self.x, batch_size=batch_size), self.prior)
        if joint:
            prior = getattr(kernels.kernels(self.kernel_fn, x_test, batch_size=batch_size), self.prior)
        else:
            prior = kernels.diagonal(self.kernel_fn, x_test, kernel=self.prior)
        return self._shifted(predictive(self, cross, prior, joint), kernels.offset(self.mean_fn, x_test, self.k))

    def predict_train(self, joint: bool = False) -> Gaussian:
        """The posterior of the outputs on the training inputs, in closed form: Σ = σ² Q (Q + σ²I)⁻¹."""
        check.flag("joint", joint)
        if _per_label.given(self.noise):
            z = _per_label.each(_predict_train, self.with_spectrum(), (), (joint,))
        else:
            z = _predict_train(_bare(self.with_spectrum()), joint)
        return self._shifted(z, self.offset)

    def _shifted(self, z: Gaussian, offset) -> Gaussian:
        """A prediction of the residuals with the prior mean (m, k), where there is one."""
        if offset is None:
            return z
        return z._replace(mean=_added(z.mean, offset, each=_per_label.given(self.noise)))

    @property
    def log_marginal_likelihood(self) -> Float[Array, ""]:
        """log p(Y|X) = log N(Y; 0, (Q + σ²I) ⊗ I_k) in nats, a scalar. Exact."""
        return _spectrum.choose(self, _log_marginal_likelihood, _evidence_of_spectrum, self)

    def _quadratic(self, function: Callable[[Array], Array]) -> Array:
        return eigenspaces.quadratic(function, self.eigenvalues, self.y_rotated, self.coupling)

    @property
    def information_gain(self) -> Float[Array, ""]:
        """I(f;Y|X) = (k/2) log det(I + Q/σ²) in nats, a scalar. Exact, and the same for every Y.

        The average of `kl` over labels drawn from the model itself.

        Source: theory, section 4, "Bayesian posteriors".
        """
        return _per_label.total(_information_gain, self)

    @property
    def kl(self) -> Float[Array, ""]:
        """KL[posterior ‖ prior] in nats, a scalar, exact: of the outputs on the training inputs, and of the process.

            ½[k tr(Q_post Q⁻¹) - kn + k log det(I + Q/σ²) + tr(μᵀQ⁻¹μ)],    Q_post = σ²Q(Q + σ²I)⁻¹

        Given its outputs on the training inputs the process is the same under both, so this is the divergence between
        distributions over whole functions that `ntkinfo.bounds` asks for, if the kernel was fixed before the data. The
        noise may be chosen with the data, also by noise="fit": the prior does not depend on it, and the bounds hold for
        all posteriors at once.

        Source: theory, section 4, "Bayesian posteriors".
        """
        return _per_label.total(_kl, self)

    def leave_one_out(self) -> Gaussian:
        """The posterior of each training output given all *other* labels: mean (n, k), variance (n,). Exact, O(n²).

        Of the noiseless outputs, as in `predict`; the noise stays at its value. With one noise for each label mean
        (k, n, 1), variance (k, n).

            μ_i = y_i - [(Q + σ²I)⁻¹Y]_i / [(Q + σ²I)⁻¹]_ii,      Σ_i = 1/[(Q + σ²I)⁻¹]_ii - σ²

        Source: Rasmussen & Williams 2006, eq. 5.12.
        """
        if _per_label.given(self.noise):
            return _per_label.each(_leave_one_out, self.with_spectrum())
        return _leave_one_out(_bare(self.with_spectrum()))


def _check_prior(prior, kernel_fn) -> str:
    """The name of the prior kernel, that of the kernel function where none is given."""
    if prior is not None:
        check.option("prior", prior, PRIORS)
    prior = prior or getattr(kernel_fn, "default_prior", "nngp")
    if prior == "nngp" and getattr(kernel_fn, "around", None) == "one":
        raise ValueError(
            '`prior` must be "ntk" for the empirical kernel of one network, whose outputs have no covariance.'
        )
    return prior


def _check_noise(noise, k: int, scale) -> None:
    _per_label.check_noise(noise, k)
    if not isinstance(scale, str):
        check.positive("scale", scale, scalar=True)
        return
    check.option("scale", scale, ("fit",))
    if isinstance(noise, str) and noise != "fit":
        raise ValueError(f'`noise` must be numbers or "fit" with scale="fit", which fits one scale; got {noise!r}.')


def _check_range(q, scale) -> None:
    """Refuses a known scale that takes the squares of the kernel out of the range of its dtype."""
    if check.concrete(q, scale):
        limits, trace = np.finfo(q.dtype), float(np.trace(np.asarray(q)))
        size = float(scale) * trace
        if trace > 0 and not float(limits.tiny) ** 0.5 < size < float(limits.max) ** 0.5:
            raise ValueError(
                f"`scale` must leave squares of the prior kernel within the range of {q.dtype}; got {float(scale):.3g} "
                f"for a kernel of trace {trace:.3g}. Scale the labels instead."
            )


@compiling.on_host(static_argnames=("each",))
def _added(xp, mean, offset, *, each):
    return mean + (offset.T[..., None] if each else offset)


def _residual(y, offset):
    return y if offset is None else _difference(y, offset)


@compiling.on_host
def _difference(xp, y, offset):
    return y - offset


def _no_kernel(x1, x2, get):
    raise NotImplementedError("a posterior taken apart has no kernel function")


def _bare(post: Posterior) -> Posterior:
    """A posterior without kernel function and mean: programs that call neither are those of all networks."""
    return dataclasses.replace(post, kernel_fn=_no_kernel, mean_fn=None)


def _log_marginal_likelihood(post: Posterior) -> Array:
    return _evidence_of_factor(_bare(post))


@compiling.jit
def _evidence_of_factor(post: Posterior) -> Array:
    inverse = _inverse(post)
    quadratic = regularised.quadratic(*inverse, _residual(post.y, post.offset))
    return -0.5 * (quadratic + post.k * (regularised.log_determinant(*inverse) + post.n * np.log(2 * np.pi)))


def _inverse(post: Posterior) -> tuple[Array, Array, Array]:
    assert post.factor is not None
    return post.factor.lower, post.q, post.noise


def _evidence_of_spectrum(post: Posterior) -> Array:
    return _per_label.total(_log_marginal_likelihood_of_spectrum, _bare(post.with_spectrum()))


def _information_gain(post: Posterior) -> Array:
    return _gain_of_spectrum(post.eigenvalues, post.noise, k=post.k)


@compiling.on_host(static_argnames=("k",))
def _gain_of_spectrum(xp, q, noise, *, k):
    return 0.5 * k * xp.sum(xp.log1p(q / noise))


def _kl(post: Posterior) -> Array:
    if post.coupling is None:
        return _kl_of_spectrum(post.eigenvalues, post.noise, post.y_rotated, k=post.k)
    q = post.eigenvalues
    spread = post.k * jnp.sum(jnp.log1p(q / post.noise) - q / (q + post.noise))
    return 0.5 * (spread + post._quadratic(lambda q: q / (q + post.noise) ** 2))


@compiling.on_host(static_argnames=("k",))
def _kl_of_spectrum(xp, q, noise, y, *, k):
    spread = k * xp.sum(xp.log1p(q / noise) - q / (q + noise))
    return 0.5 * (spread + xp.sum((q / (q + noise) ** 2)[:, None] * y**2))


@compiling.jit
def _log_marginal_likelihood_of_spectrum(post: Posterior) -> Array:
    quadratic = post._quadratic(lambda q: 1 / (q + post.noise))
    return _noise.log_marginal_likelihood(post.eigenvalues, quadratic, post.k, post.noise)


def predictive(
    post: Posterior, cross: Float[Array, "m n"], prior: Float[Array, " m"] | Float[Array, "m m"], joint: bool
) -> Gaussian:
    """The core of `predict`, without checks: Q_* (m, n), and Q(x, x) (m,) or, if `joint`, Q_** (m, m)."""
    if _per_label.given(post.noise):
        return _per_label.each(_predictive_of_spectrum, _bare(post.with_spectrum()), (cross, prior), (joint,))
    by_factor, by_spectrum = (functools.partial(core, joint=joint) for core in (_predictive, _predictive_of_spectrum))
    return _spectrum.choose(
        post, by_factor, lambda post, *kernels: by_spectrum(_bare(post.with_spectrum()), *kernels), post, cross, prior
    )


def _predictive(post: Posterior, cross, prior, joint: bool) -> Gaussian:
    residual = _residual(post.y, post.offset)
    if tracing.is_known(post, cross, prior) and padding.on_host(cross) and padding.on_host(post.q):
        parts = regularised.explained_on_host(joint, _inverse(post)[0], cross, residual)
        return _resolved(*parts, prior, np.trace(np.asarray(post.q)), post.noise, joint)
    return _predictive_in_jax(post, cross, prior, residual, joint)


@compiling.jit(static_argnames="joint")
def _predictive_in_jax(post, cross, prior, residual, joint):
    parts = regularised.explained(joint, *_inverse(post), cross, residual)
    return _resolved(*parts, prior, jnp.trace(post.q), post.noise, joint)


@compiling.jit(static_argnames="joint")
def _resolved(mean, known, prior, trace, noise, joint: bool) -> Gaussian:
    """The posterior of means (m, k) and what labels explain of the prior: (m,), or (m, m) if `joint`."""
    own, explained = (jnp.diagonal(prior), jnp.diagonal(known)) if joint else (prior, known)
    # Σ_i |a_i| std(f_i) of the weights a is no more than √(‖a‖² tr Q), and σ²‖a‖² no more than what they explain.
    stds = jnp.sqrt(jnp.maximum(explained, 0.0) * trace / noise)
    error = jax.lax.stop_gradient(variances.rounding(own, stds))
    if joint:
        covariance = variances.resolved_covariance(prior - 0.5 * (known + known.T), error)
        return Gaussian(mean, jnp.diagonal(covariance), covariance)
    return Gaussian(mean, variances.resolved(prior - known, error))


@compiling.jit(static_argnames="joint")
def _predictive_of_spectrum(post: Posterior, cross, prior, joint: bool) -> Gaussian:
    u, q, y_rotated, coupling = post.eigenvectors, post.eigenvalues, post.y_rotated, post.coupling
    vectors = cross @ u

    def inverse(q):
        return 1 / (q + post.noise)

    mean = eigenspaces.bilinear(vectors, inverse, q, y_rotated, coupling)
    own = jnp.diagonal(prior) if joint else prior
    explained = jnp.abs(vectors) @ (jnp.sqrt(jax.lax.stop_gradient(q)) * inverse(q))
    error = jax.lax.stop_gradient(variances.rounding(own, explained))
    if joint:
        known = eigenspaces.bilinear(vectors, inverse, q, vectors.T, coupling)
        covariance = variances.resolved_covariance(prior - 0.5 * (known + known.T), error)
        return Gaussian(mean, jnp.diagonal(covariance), covariance)
    return Gaussian(mean, variances.resolved(prior - eigenspaces.diagonal(vectors, inverse, q, coupling), error))


@compiling.jit(static_argnames="joint")
def _predict_train(post: Posterior, joint: bool) -> Gaussian:
    u, q, coupling = post.eigenvectors, post.eigenvalues, post.coupling

    def hat(q):
        return q / (q + post.noise)

    mean = eigenspaces.bilinear(u, hat, q, post.y_rotated, coupling)
    if joint:
        covariance = post.noise * eigenspaces.bilinear(u, hat, q, u.T, coupling)
        covariance = 0.5 * (covariance + covariance.T)
        return Gaussian(mean, jnp.diagonal(covariance), covariance)
    return Gaussian(mean, post.noise * eigenspaces.diagonal(u, hat, q, coupling))


@compiling.jit
def _leave_one_out(post: Posterior) -> Gaussian:
    u, q, coupling = post.eigenvectors, post.eigenvalues, post.coupling

    def rest(q):
        return post.noise / (q + post.noise)

    def hat(q):
        return q / (q + post.noise)

    # σ²(Q + σ²I)⁻¹ and the hat matrix Q(Q + σ²I)⁻¹ have diagonals that add up to one; both are computed, so that
    # neither is the small difference of two large numbers.
    rests, hats = (eigenspaces.diagonal(u, function, q, coupling) for function in (rest, hat))
    residual = eigenspaces.bilinear(u, rest, q, post.y_rotated, coupling)
    return Gaussian(post.y - residual / rests[:, None], post.noise * hats / rests)
