"""The infinite ensemble of infinitely wide networks: its Gaussian over outputs at every time of training.

`Ensemble.fit` evaluates the kernels and diagonalises the tangent kernel once; after that `predict` gives the exact
mean and covariance at any number of times of gradient flow.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels, networks
from ntkinfo._common import check, compiling, data, labels, memory, parallel, pickling, pytree, tables, tracing
from ntkinfo._numerics import decay_forms, eigenspaces, padding, spectral_filters, spectrum, variances
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import _engine, _features, _krylov, _moments, _stored
from ntkinfo.ensemble._moments import Coupled, CrossKernels
from ntkinfo.gaussian import Gaussian
from ntkinfo.kernels import Kernels

# Entries that products held for covariances at many times may have, where the ensemble itself is small.
_MAX_CACHED_ENTRIES = 2**26
# Up to here numbers of training inputs, and entries of covariances, are filled up to sizes shared with neighbours.
_MAX_FILLED, _MAX_FILLED_ENTRIES = 1024, 2**22
# From so many modes on variances at the training inputs are expanded in few functions; fewer take no time.
_MANY_MODES = 128


@pytree.dataclass("kernel_fn", "prior_saw_data", "mean_fn")
class Ensemble:
    """Networks of infinite width, infinitely many, trained by gradient flow on one data set. Made by `Ensemble.fit`.

    A pytree of arrays; the kernel function is static, so a jitted function that takes an ensemble is compiled once
    for data of one shape.

    Attributes:
      x: training inputs, (n, ...).
      y: training labels, (n, k).
      eigenvalues: λ of the tangent kernel Θ in ascending order, (n,); 0 marks a null direction.
      eigenvectors: U, (n, n), one eigenvector a column.
      nngp_rotated: K̃ = UᵀKU of the NNGP kernel K, (n, n).
      y_rotated: UᵀY, (n, k); with a mean function Uᵀ(Y - f(X; θ₀)).
      kernel_fn: the kernel function `kernel_fn(x1, x2, get)`.
      prior_saw_data: whether the kernels were learned from these data; no bound on the risk follows then.
      coupling: zeros (n, n) that carry derivatives within eigenspaces (`ntkinfo._numerics.eigenspaces`) where the
        ensemble was made under tracing, else None. The derivatives of the arrays above are complete only where
        eigenvalues are distinct; those of every quantity are complete everywhere.
      mean_fn: the mean of the outputs before training as a function of inputs; None where it is zero.

    Source: Lee et al. 2019 (arXiv 1902.06720); Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189); theory, section 1.
    """

    x: Array
    y: Array
    eigenvalues: Array
    eigenvectors: Array
    nngp_rotated: Array
    y_rotated: Array
    kernel_fn: Callable
    prior_saw_data: bool = False
    coupling: Array | None = None
    mean_fn: Callable | None = None

    _table = tables.Table(("mode", "output"), plain="eigenvalues y_rotated", where={"eigenvalues": ("mode",)})
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
        mean: Any = None,
        singular: str = "error",
        prior_saw_data: bool | None = None,
        batch_size: int | None = None,
        devices: Sequence | None = None,
        progress: bool | None = None,
        engine: str = "auto",
        tolerance: float = 1e-3,
        storage: str = "auto",
        mesh: Mesh | None = None,
        checkpoint: str | os.PathLike | None = None,
    ) -> "Ensemble":
        """Evaluates both kernels on the training inputs and diagonalises Θ = U diag(λ) Uᵀ. O(n³), once.

        Differentiable by whatever the kernels depend on: the derivatives of all quantities are exact, of equal
        eigenvalues as well; second ones are refused (under `jit`, `nan`) where eigenvalues are equal or zero.

        Args:
          net: a network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`, as of `kernels.empirical`.
          x: training inputs, (n, ...), floating point; or a `Dataset`, whose training rows are taken.
          y: training labels, (n, k) or (n,) for one output, floating point.
          mean: the outputs before training, f(x; θ₀): a `networks.Network`, a pair (apply_fn, params), an empirical
            kernel, or a function x -> (n, k). Training then fits residuals, and predictions come with it. None for 0.
          singular: "error" refuses a tangent kernel that is singular to rounding; "project" takes eigenvalues below
            the rounding error as exact zeros: directions never learned, which is right for kernels of low rank
            (linear networks) and for duplicated inputs.
          prior_saw_data: whether the kernels were learned from these data, labels or inputs; None asks the kernel
            function for an attribute of this name, and takes one without for fixed beforehand; a mean of other networks
            than the kernel's is taken to be learned.
          batch_size: rows of a block of kernel evaluation; None chooses.
          devices: devices to deal the blocks out to; None computes where `x` is.
          progress: whether to show a progress bar; None shows it for work that takes long.
          engine: "dense" diagonalises; "krylov" makes a `KrylovEnsemble`, for many data: predictions and sums over the
            spectrum with their errors, n² memory or less; "features" makes a `FeatureEnsemble` of a kernel given by p
            features (`kernels.features`, `kernels.empirical`): exact, p² memory, and directions without features are
            taken as never learned, as by singular="project". "auto" is "features" for `kernels.features`, and "dense"
            elsewhere where that fits into memory.
          tolerance: of the Krylov engine: the error that predictions are to have at most, see `ensemble.Prediction`.
          storage: of the Krylov engine: "float64", "float32" or "none" (kernels evaluated for every product); "auto"
            takes the first of these that fits into memory, in no more than the precision of `x`.
          mesh: of the Krylov engine: a mesh of devices to shard the rows of the kernels over, as of `distributed.mesh`.
          checkpoint: of the Krylov engine: a folder that rows of stored kernels are written to as they are evaluated; a
            call with the same arguments goes on from there, on any number of devices and processes. Where "auto" has
            come to "none", none are.

        Returns:
          An `Ensemble`, or under other engines a `KrylovEnsemble` or a `FeatureEnsemble`.

        Raises:
          TypeError: `net` is no network, or `x` or `y` do not hold floating-point numbers.
          ValueError: wrong ranks or sizes, NaN or Inf, a singular or indefinite kernel (under `jit`, `nan` comes out),
            an unknown option; more memory or a larger matrix than there can be.

        Warns:
          UserWarning: "auto" has chosen the Krylov engine; the message says why.
          UserWarning: float32 (or float64) resolves the slowest modes poorly; the message says from which time on.

        Example:
          >>> net = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
          >>> ens = Ensemble.fit(net, x, y)
          >>> z = ens.predict(x_test, t=100.0)
        """
        kernel_fn = networks.kernel_function(net)
        x, y = data.train_pair(x, y)
        x = check.inputs("x", x)
        y = labels.real_targets("y", y, len(x))
        check.option("singular", singular, ("error", "project"))
        krylov_options = {"tolerance": tolerance, "storage": storage, "mesh": mesh}
        chosen = _engine.choose(engine, kernel_fn, x, devices, **krylov_options)
        _engine.check_checkpoint(checkpoint, chosen)
        if chosen == "features":
            options = {"mean": mean, "prior_saw_data": prior_saw_data, "progress": progress}
            return _features.fit(kernel_fn, x, y, batch_size=batch_size, **options)  # pyright: ignore
        if chosen == "krylov":
            options = {"mean": mean, "singular": singular, "prior_saw_data": prior_saw_data, "progress": progress}
            options |= {"batch_size": batch_size, "checkpoint": checkpoint}
            return _krylov.fit(kernel_fn, x, y, **options, **krylov_options)  # pyright: ignore
        mean_fn = kernels.mean_function(mean, kernel_fn)
        x, y = kernels.trained_on(kernel_fn, x, y)
        kernels.check_rank(kernel_fn, x, singular)
        _engine.require_dense(x, kernel_fn)
        y = y.astype(x.dtype)
        offset = kernels.offset(mean_fn, x, y.shape[1])
        evaluated = kernels.kernels(kernel_fn, x, batch_size=batch_size, devices=devices, progress=progress)
        return cls._of_kernels(kernel_fn, x, y, evaluated, singular, prior_saw_data, mean_fn, offset)

    @classmethod
    def from_kernels(
        cls,
        kernel_fn: Callable,
        x: Float[ArrayLike, "n ..."],
        y: Float[ArrayLike, "n k"] | Float[ArrayLike, " n"],
        both: Kernels,
        *,
        mean: Any = None,
        singular: str = "error",
        prior_saw_data: bool | None = None,
    ) -> "Ensemble":
        """`fit` for kernels `both` already evaluated on `x` (n, ...), with labels `y` (n, k) or (n,).

        Raises:
          TypeError, ValueError: as `fit`; kernels that are no `kernels.Kernels` of symmetric matrices (n, n).
        """
        check.function("kernel_fn", kernel_fn, "a function kernel_fn(x1, x2, get)", arguments=3)
        x = check.inputs("x", x)
        y = labels.real_targets("y", y, len(x)).astype(x.dtype)
        check.option("singular", singular, ("error", "project"))
        check.instance("both", both, Kernels, maker="`kernels.kernels`")
        both = Kernels(*(check.square(f"both: {name}", one, len(x), x.dtype) for name, one in both._asdict().items()))
        mean_fn = kernels.mean_function(mean, kernel_fn)
        offset = kernels.offset(mean_fn, x, y.shape[1])
        return cls._of_kernels(kernel_fn, x, y, both, singular, prior_saw_data, mean_fn, offset)

    @classmethod
    def _of_kernels(
        cls, kernel_fn, x, y, both: Kernels, singular, prior_saw_data, mean_fn=None, offset=None
    ) -> "Ensemble":
        """`from_kernels` of what has been checked."""
        # Outside `jit`, so that `grad` sees values where it has to refuse.
        decompose = _diagonalise if check.concrete(both) else _diagonalise_coupled
        eigenvalues, *parts = decompose(both.nngp, both.ntk, y if offset is None else y - offset)
        if check.concrete(eigenvalues, x):
            eigenvalues = spectrum.check_spectrum(np.asarray(eigenvalues), np.asarray(x), y.size, singular)
        else:
            eigenvalues = spectrum.checked(eigenvalues, x, y.size, singular)
            # Filters take `nan` for a null direction: what is refused shows in all parts.
            parts = [part + 0.0 * eigenvalues[0] for part in parts]
        eigenvectors, nngp_rotated, y_rotated, *coupling = parts
        saw = kernels.saw_data(kernel_fn, mean_fn, prior_saw_data)
        coupled = coupling[0] if coupling else None
        parts = (eigenvalues, eigenvectors, nngp_rotated, y_rotated)
        return cls(x, y, *parts, kernel_fn, saw, coupled, mean_fn)

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
        """Whose distribution it is: "one", "laplace" or "ensemble" of finite networks; None at infinite width."""
        return getattr(self.kernel_fn, "around", None)

    @property
    def k_tilde(self) -> Array:
        """The former name of `nngp_rotated`, kept for one version."""
        return self.nngp_rotated

    @property
    def y_tilde(self) -> Array:
        """The former name of `y_rotated`, kept for one version."""
        return self.y_rotated

    def rescaled_time(self, t: Num[ArrayLike, "*T"]) -> Float[Array, "*T"]:
        """s = t / (n k): in this time a mode of eigenvalue λ decays as e^{-sλ}."""
        if tracing.is_known(t):
            # On the host, where no new number of times is compiled for.
            return jnp.asarray(np.asarray(t).astype(self.eigenvalues.dtype) / (self.n * self.k))
        return jnp.asarray(t, self.eigenvalues.dtype) / (self.n * self.k)

    def predict(
        self,
        x_test: Float[ArrayLike, "m ..."],
        t: Num[ArrayLike, "*T"],
        joint: bool = False,
        *,
        batch_size: int | None = None,
    ) -> Gaussian:
        """The distribution p_t(z | x, D) of the outputs at training time t: N(μ_t, Σ_t ⊗ I_k).

        With A_t = Θ_* U diag((1 - e^{-sλ})/λ) Uᵀ and s = t/(nk),

            μ_t = A_t Y,      Σ_t = K_** + A_t K A_tᵀ - A_t K_*ᵀ - K_* A_tᵀ.

        Differentiable and jittable, in `x_test`, `t` and the ensemble.

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          t: training time, scalar or (T,): time of gradient flow at learning rate 1 on half the mean squared error
            over all n k entries, as in neural-tangents; 0 is the prior, infinity the end of training.
          joint: whether to compute the covariance between inputs as well.
          batch_size: rows of a block of kernel evaluation; None chooses.

        Returns:
          `Gaussian` with mean (T, m, k), variance (T, m) and, if `joint`, covariance (T, m, m); without the leading
          axis for a scalar t. Exact at infinite width. A variance below its rounding error is 0: on and beside
          training inputs at late times no more can be known of it.

        Raises:
          TypeError: `x_test` does not hold floating-point numbers.
          ValueError: inputs of another shape than trained on, NaN or Inf, negative times.

        Cost: T m n² flops for T times, not more than about 80 times' worth where the values of t are concrete: the
          variances of many times are then expanded in few functions (relative error about 1e-10), above 1024 training
          inputs in fewer still: those of the eigenvalues that lie together.

        Source: Lee et al. 2019 (arXiv 1902.06720), eqs. 14-15; theory, section 1.
        """
        check.flag("joint", joint)
        x_test = self.check_inputs("x_test", x_test)
        t = check.times("t", t)
        m, times = len(x_test), t.size
        # Covariances, kernels of the test inputs, and products with the training kernel for some dozens of functions.
        n_entries = (times + 6) * m**2 + (min(times, 40) + 8) * m * self.n + 2 * self.n**2
        memory.require(
            f"`x_test` with m = {m} inputs at {times} times",
            joint * n_entries * x_test.dtype.itemsize,
            "Take fewer inputs or times (each time has a covariance, m²), or joint=False.",
        )
        cross = self.cross_kernels(x_test, joint=joint, batch_size=batch_size)
        basis = self.time_basis(t, joint_with=len(x_test) if joint else None)
        s = jnp.atleast_1d(self.rescaled_time(t))
        if tracing.is_known(self, cross, s) and not (joint and times * m**2 > _MAX_FILLED_ENTRIES):
            z = _predict(*self.filled(cross, s, basis), joint)
            shapes = Gaussian((times, m, self.k), (times, m), (times, m, m) if joint else None)
            z = Gaussian(
                *(None if part is None else padding.cut(part, shape) for part, shape in zip(z, shapes, strict=True))
            )
        else:
            z = _predict(self, cross, s, basis, joint)
        return z if t.ndim else Gaussian(*(None if part is None else part[0] for part in z))

    def predict_train(self, t: Num[ArrayLike, "*T"], joint: bool = False) -> Gaussian:
        """The distribution of the outputs on the training inputs, in closed form: N(e^{-sΘ}-decayed prior).

            μ_t = (I - e^{-sΘ}) Y,      Σ_t = e^{-sΘ} K e^{-sΘ}.

        At t = ∞ every training label is met and the variance is zero. Arguments, result and errors as `predict`.

        Cost: n³ flops per time; variances at many known times about 12 n³ flops together (`ntkinfo._numerics.
          decay_forms`), to a relative error of 1e-8 (float32: 1e-4) or their rounding error.

        Source: theory, section 1.
        """
        check.flag("joint", joint)
        t = check.times("t", t)
        times = jnp.atleast_1d(t)
        # Covariances and what they are made of, means, and some products of the eigenvectors.
        n_entries = (joint * 3 * times.size + 4) * self.n**2 + times.size * self.n * (self.k + 2)
        memory.require(
            f"`t` of {times.size} times at n = {self.n} training inputs",
            n_entries * self.x.dtype.itemsize,
            "Take fewer times" + (" (each has a covariance, n²), or joint=False." if joint else "."),
        )
        forms = None if joint else self._train_forms(times)
        if forms is not None:
            z = _resolved_train(self, times, forms)
        else:
            z = self._predict_train(times, joint)
        return z if t.ndim else jax.tree.map(lambda a: compiling.entries(a, index=0), z)

    def _predict_train(self, t: Array, joint: bool) -> Gaussian:
        """`predict_train` time by time, where it is small filled up as in `filled`."""
        n, s = self.n, self.rescaled_time(t)
        full = padding.near(n)
        known = tracing.is_known(self, t) and padding.on_host(self.nngp_rotated)
        if n > padding.SMALL or (joint and t.size * full**2 > _MAX_FILLED_ENTRIES) or not known:
            return _predict_train(self, s, joint)
        y, u = padding.fill(self.y, (full, self.k)), padding.fill(self.eigenvectors, (full, full))
        engine = dataclasses.replace(self, y=y, eigenvectors=u, mean_fn=None, **self._filled_spectrum(full))
        z = _predict_train(engine, padding.fill(s, (padding.near(len(s)),)), joint)
        times = len(s)
        shapes = Gaussian((times, n, self.k), (times, n), (times, n, n) if joint else None)
        parts = zip(z, shapes, strict=True)
        return Gaussian(*(None if part is None else padding.cut(part, shape) for part, shape in parts))

    def _train_forms(self, t: Array) -> Array | None:
        """The variances of `predict_train` at many known times, (T, n), unresolved; None where they are not many."""
        known = self.coupling is None and tracing.is_known(self, t) and padding.on_host(self.nngp_rotated)
        if np.size(t) <= spectral_filters.FEW_TIMES or self.n < _MANY_MODES or not known:
            return None
        rates, s = np.asarray(self.eigenvalues), np.asarray(self.rescaled_time(t)).astype(np.float64)
        matrices = np.asarray(self.eigenvectors), np.asarray(self.nngp_rotated)
        forms = decay_forms.variances(rates, *matrices, s, parallel.map)
        if forms is None:
            return None
        slowest = float(rates[0])
        scale = np.exp(-2 * s * slowest) if slowest > 0 else np.ones_like(s)
        return jnp.asarray(forms * scale[:, None].astype(forms.dtype))

    def check_inputs(self, name: str, x: Float[ArrayLike, "m ..."]) -> Float[Array, "..."]:
        """`x` as inputs of the shape trained on, in their dtype; as rows of a kernel with outputs="full"."""
        return kernels.inputs_like(name, x, self.x, self.kernel_fn)

    def cross_kernels(
        self,
        x_test: Float[ArrayLike, "m ..."] | Kernels,
        *,
        joint: bool = False,
        prior: Float[ArrayLike, " m"] | Float[ArrayLike, "m m"] | None = None,
        offset: Float[ArrayLike, "m k"] | None = None,
        batch_size: int | None = None,
    ) -> CrossKernels:
        """The kernels between test and training inputs in the eigenbasis, and the prior of the test inputs.

        Args:
          x_test: inputs, (m, ...), of the shape trained on; or `ntkinfo.kernels.Kernels` between them and the training
            inputs, (m, n), evaluated already, with their `prior`.
          joint: whether the prior is wanted between inputs as well.
          prior: K(x, x) at the test inputs, (m,), or the matrix K_**, (m, m), where kernels are given.
          offset: the mean before training at the test inputs, (m, k), where kernels are given and there is a mean.
          batch_size: rows of a block of kernel evaluation; None chooses.

        Returns:
          `CrossKernels`; its prior has shape (m,), or (m, m) if `joint`.

        Raises:
          ValueError: kernels without a prior, or without an offset that is needed; shapes that do not fit.
        """
        check.flag("joint", joint)
        if prior is not None:
            prior = check.array("prior", prior, (1, 2))
            variances = prior if prior.ndim == 1 or prior.shape[0] != prior.shape[1] else compiling.diagonal(prior)
            check.positive("prior", variances, zero=True)
        if offset is not None:
            offset = check.array("offset", offset, 2)
        if batch_size is not None:
            check.integer("batch_size", batch_size)
        if not isinstance(x_test, Kernels):
            if prior is not None:
                raise ValueError("`prior` must be left out where `x_test` are inputs, of which it is computed.")
            x_test = self.check_inputs("x_test", x_test)
            cross = kernels.kernels(self.kernel_fn, x_test, self.x, batch_size=batch_size)
            if joint:
                prior = kernels.kernels(self.kernel_fn, x_test, batch_size=batch_size).nngp
            else:
                prior = kernels.diagonal(self.kernel_fn, x_test)
            rotated = _moments.rotate(self.eigenvectors, cross, prior)
            return rotated._replace(offset=kernels.offset(self.mean_fn, x_test, self.k))
        x_test = Kernels(*(check.array("x_test", part, 2) for part in (x_test.nngp, x_test.ntk)))
        m = len(x_test.ntk)
        shapes = jnp.shape(x_test.nngp), jnp.shape(x_test.ntk)
        if prior is None or shapes != ((m, self.n), (m, self.n)) or jnp.shape(prior) not in ((m,), (m, m)):
            raise ValueError(
                f"`x_test`: kernels already evaluated must have shape (m, n) with n = {self.n} training inputs, and "
                f"come with `prior`, (m,) or (m, m); got {shapes[0]}, {shapes[1]} and "
                f"{'no prior' if prior is None else jnp.shape(prior)}."
            )
        if joint and prior.ndim == 1:
            raise ValueError(f"`prior` must be the matrix K_** for `joint=True`, ({m}, {m}); got {prior.shape}.")
        if (offset is None) != (self.mean_fn is None) or (offset is not None and jnp.shape(offset) != (m, self.k)):
            raise ValueError(
                f"`offset` must be the mean before training at the test inputs, ({m}, {self.k}), for an ensemble "
                f"with a mean, and None otherwise; got {check.described(offset)}."
            )
        own = prior if joint or prior.ndim == 1 else compiling.diagonal(prior)
        return _moments.rotate(self.eigenvectors, x_test, own)._replace(offset=offset)

    def filled(self, cross: CrossKernels, s: Float[Array, " T"], basis: Float[Array, "T r"] | None) -> tuple:
        """This ensemble, test inputs, times and their basis, all known, filled up to sizes shared by neighbouring ones.

        What is added says nothing: null directions of the spectrum, test inputs of variance 1 that are independent of
        everything, times 0 at the end. The ensemble that comes back serves as an engine alone: it has no inputs.
        """
        m, times = len(cross.ntk), padding.near(len(s))
        # Larger problems take longer to compute than to compile.
        n = padding.near(self.n) if self.n <= _MAX_FILLED else self.n
        rows = padding.near(m)
        y, nothing = np.zeros((n, self.k), self.y.dtype), np.zeros((0,), self.y.dtype)
        engine = Ensemble(y=y, eigenvectors=nothing, **self._filled_spectrum(n))
        ntk, nngp = (padding.fill(part, (rows, n)) for part in cross[:2])
        prior = padding.fill(cross.prior, (rows,) * cross.prior.ndim, 0.0 if cross.prior.ndim > 1 else 1.0)
        if cross.prior.ndim > 1 and rows > m:
            prior = np.array(prior)
            prior[range(m, rows), range(m, rows)] = 1.0
        spanning = None
        if basis is not None:
            few = min(padding.near(basis.shape[1]), times) if self.n <= padding.SMALL else basis.shape[1]
            spanning = jnp.asarray(padding.fill(basis, (times, few)))
            if n > _MAX_FILLED and padding.on_host(self.nngp_rotated):
                # Of so many modes most lie close together; covariances ask for all functions to rounding.
                known = (np.asarray(a) for a in (spanning, engine.eigenvalues, padding.fill(s, (times,))))
                spanning = spectral_filters.parted(*known, fine=cross.prior.ndim > 1)
        offset = None if cross.offset is None else padding.fill(cross.offset, (rows, self.k))
        return engine, CrossKernels(ntk, nngp, prior, offset), padding.fill(s, (times,)), spanning

    def _filled_spectrum(self, n: int) -> dict[str, Any]:
        """The fields that an engine of n modes is made of whatever it computes, null directions filled in."""
        return {
            "x": np.zeros((0,), self.y.dtype),
            "eigenvalues": padding.fill(self.eigenvalues, (n,)),
            "nngp_rotated": padding.fill(self.nngp_rotated, (n, n)),
            "y_rotated": padding.fill(self.y_rotated, (n, self.k)),
            "kernel_fn": _no_kernel,
        }

    # The interface of an engine: all that quantities of training ask of an ensemble. Jittable, without checks.

    def filters(self, s: Float[Array, " T"]) -> Filters:
        """The spectral filters of training at rescaled times s (T,): to compute once and hand round."""
        return spectral_filters.filters(self.eigenvalues, s)

    def spectral_sum(self, function: Callable[[Filters], Array], weight: str, filters: Filters) -> Array:
        """Σ_i f(λ_i) w_i over the spectrum, (...) for a function of the filters with values (..., n).

        Args:
          function: f, of the filters.
          weight: "trace", w = 1; "nngp", w = diag UᵀKU; "labels", w_i = ‖(UᵀY)_i‖²; "second_moment", k times the
            second plus the third: expected squared residuals at initialisation, diag Uᵀ(kK + YYᵀ)U.
          filters: as of `filters`.

        Returns:
          tr f(Θ), tr[K f(Θ)], tr[YYᵀ f(Θ)] or tr[(kK + YYᵀ) f(Θ)].
        """
        check.option("weight", weight, ("trace", "nngp", "labels", "second_moment"))
        values = function(filters)
        if weight == "trace":
            return jnp.sum(values, axis=-1)
        weights = self._weights(weight, jnp.diagonal(self.nngp_rotated), jnp.sum(self.y_rotated**2, axis=1))
        if self.coupling is None:
            return values @ weights
        # Of equal eigenvalues the weights next to the diagonal count as well, in derivatives.
        nngp = jnp.sum(self.nngp_rotated * self.coupling, axis=1)
        squares = jnp.sum(self.y_rotated * eigenspaces.product(self.y_rotated.T, self.coupling).T, axis=1)
        slope = eigenspaces.slope(lambda rates: function(spectral_filters.filters(rates, filters.s)), filters.rates)
        return values @ weights + slope @ self._weights(weight, nngp, squares)

    def _weights(self, weight, nngp, squares):
        return {"nngp": nngp, "labels": squares, "second_moment": self.k * nngp + squares}[weight]

    def means(self, cross: CrossKernels, filters: Filters) -> Float[Array, "T m k"]:
        """Means μ_t of the outputs at the test inputs, (T, m, k)."""
        # (1 - e^{-sλ})/λ splits into a factor of time and one of the input, Θ_* U / λ.
        vectors = cross.ntk * filters.pseudo_inverse[None, :]
        learned = _moments.means(filters.growth, vectors, self.y_rotated, self._coupled(cross, filters))
        return learned if cross.offset is None else learned + cross.offset[None]

    def _coupled(self, cross: CrossKernels, filters: Filters) -> Coupled | None:
        def reach(rates):
            return spectral_filters.reach(rates, filters.s)

        return _moments.coupled(cross.ntk, reach, filters.rates, self.coupling, filters.s)

    def covariances(
        self,
        cross: CrossKernels,
        filters: Filters,
        then: Callable[[Array, Array], Any],
        basis: Float[Array, "T r"] | None = None,
    ) -> Any:
        """`then(index, Σ_t)` for the covariance (m, m) of each time in turn, stacked.

        Args:
          cross: kernels with a prior matrix, (m, m).
          filters: as of `filters`, for T times.
          then: what to compute of each covariance; they exist one time at a time.
          basis: as of `time_basis`.

        Returns:
          A pytree of what `then` returns, with a leading axis (T, ...).
        """
        vectors = cross.ntk * filters.pseudo_inverse[None, :]
        extra = self._coupled(cross, filters)
        parts = (vectors, cross.nngp, cross.prior, self.nngp_rotated)
        return _moments.covariances(filters.growth, *parts, then, basis, extra)

    def predictive(
        self, cross: CrossKernels, filters: Filters, basis: Float[Array, "T r"] | None = None, *, joint: bool = False
    ) -> Gaussian:
        """The core of `predict`: the `Gaussian` of T times, with covariances (T, m, m) if `joint`."""
        mean = self.means(cross, filters)
        if joint:
            covariance = self.covariances(cross, filters, lambda _, matrix: matrix, basis)
            return Gaussian(mean, jnp.diagonal(covariance, axis1=-2, axis2=-1), covariance)
        vectors = cross.ntk * filters.pseudo_inverse[None, :]
        parts = (vectors, cross.nngp, cross.prior, self.nngp_rotated)
        return Gaussian(mean, _moments.variances(filters.growth, *parts, basis, self._coupled(cross, filters)))

    def rounding_errors(self, cross: CrossKernels, filters: Filters) -> Float[Array, "T m"]:
        """Rounding errors (T, m) of the variances of `predictive`: those below are 0 there."""
        prior = cross.prior if cross.prior.ndim == 1 else jnp.diagonal(cross.prior)
        vectors = cross.ntk * filters.pseudo_inverse[None, :]
        return _moments.rounding_errors(filters.growth, vectors, prior, self.nngp_rotated)

    def time_basis(self, t: Num[ArrayLike, "*T"], *, joint_with: int | None = None) -> Float[Array, "T_all r"] | None:
        """The expansion of many times in few functions, or None where it saves nothing or values are traced.

        Where the covariance matrix of `joint_with` inputs is wanted, to rounding, and unless it would need more memory
        than some multiples of the ensemble itself.
        """
        known = self.coupling is None and check.concrete(self.eigenvalues, t)
        if np.size(t) <= spectral_filters.FEW_TIMES or not known:
            return None
        s = np.asarray(self.rescaled_time(t)).ravel()
        basis = spectral_filters.time_basis(np.asarray(self.eigenvalues), s, fine=joint_with is not None)
        if joint_with is not None and basis.shape[1] * joint_with > max(8 * self.n, _MAX_CACHED_ENTRIES // self.n):
            return None
        return jnp.asarray(basis) if basis.shape[1] <= 0.75 * np.size(t) else None


def _no_kernel(x1, x2, get):
    raise NotImplementedError("an ensemble that was filled up has no kernel function")


@compiling.jit
def _diagonalise(nngp, ntk, y):
    return _diagonalise_coupled(nngp, ntk, y)[:-1]


def _diagonalise_coupled(nngp, ntk, y):
    # The rounding error that `spectrum` takes for zero.
    eigenvalues, u, coupling = eigenspaces.eigh(ntk, np.sqrt(len(ntk)))
    # Symmetric up to rounding; exactly so, half of it suffices for every quadratic form.
    if len(ntk) > _MAX_FILLED:
        nngp_rotated = spectral_filters.symmetric_product(u, nngp @ u)
    else:
        nngp_rotated = u.T @ (nngp @ u)
        nngp_rotated = 0.5 * (nngp_rotated + nngp_rotated.T)
    return eigenvalues, u, nngp_rotated, u.T @ y, coupling


@compiling.jit(static_argnames="joint")
def _predict(ens: Ensemble, cross: CrossKernels, s: Array, basis: Array | None, joint: bool) -> Gaussian:
    return ens.predictive(cross, ens.filters(s), basis, joint=joint)


def predictive(
    ens: Ensemble, cross: CrossKernels, s: Float[Array, " T"], basis: Float[Array, "T r"] | None, joint: bool
) -> Gaussian:
    """The core of `Ensemble.predict`, for rescaled times s (T,): jittable, without checks."""
    return ens.predictive(cross, ens.filters(s), basis, joint=joint)


@compiling.jit(static_argnames="joint")
def _predict_train(ens: Ensemble, s: Array, joint: bool) -> Gaussian:
    decay, u = ens.filters(s).decay, ens.eigenvectors

    def of_rates(rates):
        return spectral_filters.decay(rates, s)

    extra = _moments.coupled(u, of_rates, ens.eigenvalues, ens.coupling, jnp.zeros_like(s))
    mean = ens.y[None] - _moments.means(decay, u, ens.y_rotated, extra)
    if joint:
        covariance = _moments.covariances(decay, u, None, None, ens.nngp_rotated, lambda _, matrix: matrix, extra=extra)
        return Gaussian(mean, jnp.diagonal(covariance, axis1=-2, axis2=-1), covariance)
    return Gaussian(mean, _moments.variances(decay, u, None, None, ens.nngp_rotated, extra=extra))


@compiling.jit
def _resolved_train(ens: Ensemble, t: Array, forms: Array) -> Gaussian:
    """`_predict_train` without covariances, of variances (T, n) that were found before."""
    decay = ens.filters(ens.rescaled_time(t)).decay
    mean = ens.y[None] - _moments.means(decay, ens.eigenvectors, ens.y_rotated)
    error = _moments.rounding_errors(decay, ens.eigenvectors, None, ens.nngp_rotated)
    return Gaussian(mean, variances.resolved(forms, error))
