"""The ensemble of a kernel given by features, Θ = ΦΦᵀ: exact at any number of inputs, from p x p numbers.

The eigenvectors of the kernel are never formed. With ΦᵀΦ = V diag(λ) Vᵀ they are ΦVλ^{-1/2}, and all that is asked of
them are products with labels, of which one pass over the data is enough.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels
from ntkinfo._common import check, compiling, memory, pickling, pytree, tables, tracing
from ntkinfo._numerics import spectral_filters, spectrum
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.ensemble import _moments, _stored
from ntkinfo.gaussian import Gaussian

# Matrices p x p, or n x n where that is smaller, held at once: the Gram matrix, its eigenvectors and their workspace.
_GRAM_COPIES = 5
# What is beside all directions is taken for nothing up to so many roundings.
_REST_ROUNDING = 16.0
# Modes slower than so many times the rounding error of eigenvalues are reported.
_RESOLUTION_FACTOR = 1e3


class CrossFeatures(NamedTuple):
    """What m test inputs contribute to predictions, of `FeatureEnsemble.cross_kernels`: features in the eigenbasis.

    Attributes:
      ntk: coordinates Φ_*V along the directions that the training inputs have, (m, r).
      rest: K between what of their features no training input has, (m,), or (m, m).
      prior: K(x, x), (m,), or the matrix K_**, (m, m).
      offset: the mean before training, (m, k); None where it is zero.
    """

    ntk: Array
    rest: Array
    prior: Array
    offset: Array | None = None

    __repr__ = tables.one_line
    _repr_html_ = tables.html


@pytree.dataclass("kernel_fn", "prior_saw_data", "mean_fn")
class FeatureEnsemble:
    """An `Ensemble` whose kernel is given by p features, f(x) = φ(x)·θ. Made by `Ensemble.fit(..., engine="features")`.

    Exact for that kernel. What no training input has a feature along is never learned: its labels stay unexplained,
    and its prior variance stays.

    Attributes:
      x: training inputs, (n, ...).
      y: training labels, (n, k).
      eigenvalues: λ > 0 of Θ = ΦΦᵀ in ascending order, (r,), r ≤ min(n, p) its rank; all others are 0.
      directions: V, the eigenvectors of ΦᵀΦ of the same eigenvalues, (p, r), float64 on the host.
      y_rotated: UᵀY with the eigenvectors U = ΦVλ^{-1/2} of Θ, (r, k); with a mean function Uᵀ(Y - f(X; θ₀)).
      unexplained: squared norm of each output's labels off the range of Θ, (k,).
      kernel_fn: the `kernels.FeatureKernel`.
      prior_saw_data: as of `Ensemble`.
      mean_fn: as of `Ensemble`.

    Source: theory, sections 1 and 15.
    """

    x: Array
    y: Array
    eigenvalues: Array
    directions: np.ndarray
    y_rotated: Array
    unexplained: Array
    kernel_fn: Callable
    prior_saw_data: bool = False
    mean_fn: Callable | None = None

    _table = tables.Table(("mode", "output"), plain="eigenvalues y_rotated", where={"eigenvalues": ("mode",)})
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html
    _to_stored = _stored.features_to_stored
    _from_stored = classmethod(_stored.features_from_stored)

    def __reduce_ex__(self, protocol):
        return pickling.reduce(self, protocol, (self.kernel_fn, self.mean_fn), _stored.REMEDY)

    @property
    def n(self) -> int:
        """Number of training inputs."""
        return self.y.shape[0]

    @property
    def k(self) -> int:
        """Number of outputs of a network."""
        return self.y.shape[1]

    @property
    def rank(self) -> int:
        """r, the rank of Θ: at most n, and at most p."""
        return self.eigenvalues.shape[0]

    @property
    def n_features(self) -> int:
        """p."""
        return self.directions.shape[0]

    @property
    def around(self) -> str:
        """Whose distribution it is: "laplace", θ ~ N(0, I) or N(θ₀, τ²I), or "one" network, which has none."""
        return self.kernel_fn.around  # pyright: ignore[reportFunctionMemberAccess]

    @property
    def _spread(self) -> float:
        """K = Θ where parameters have a distribution, K = 0 of one network."""
        return 0.0 if self.around == "one" else 1.0

    def check_inputs(self, name: str, x: Float[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """`x` as inputs of the shape trained on, in their dtype."""
        return check.inputs_like(name, x, self.x)

    def rescaled_time(self, t: Num[ArrayLike, "*T"]) -> Float[Array, "*T"]:
        """s = t / (n k): in this time a mode of eigenvalue λ decays as e^{-sλ}."""
        return _moments.rescaled_time(t, self.n * self.k, self.y.dtype)

    def predict(
        self,
        x_test: Float[ArrayLike, "m ..."],
        t: Num[ArrayLike, "*T"],
        joint: bool = False,
        *,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> Gaussian:
        """The distribution p_t(z | x, D) of the outputs at training time t, as `Ensemble.predict`. Exact.

            μ_t = Φ_*V λ^{-1/2} (1 - e^{-sλ}) UᵀY,      Σ_t = K_rest + Φ_*V e^{-2sλ} (Φ_*V)ᵀ

        No difference is taken: variances are accurate however small they are.

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          t: training time, scalar or (T,), as in `Ensemble.predict`.
          joint: whether to compute the covariance between inputs as well.
          batch_size: rows of a block of features; None chooses.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Returns:
          `Gaussian` with mean (T, m, k), variance (T, m) and, if `joint`, covariance (T, m, m); without the leading
          axis for a scalar t.

        Raises:
          TypeError: `x_test` does not hold floating-point numbers; traced values.
          ValueError: inputs of another shape than trained on, NaN or Inf, negative times, features that are not finite;
            more memory than there is.

        Cost: T m r flops for T times, with `joint` T m² r.

        Source: theory, sections 1 and 15.
        """
        check.on_host(locals())
        check.flag("joint", joint)
        check.flag("progress", progress, none=True)
        x_test = self.check_inputs("x_test", x_test)
        t = check.times("t", t)
        m, times = len(x_test), t.size
        memory.require(
            f"`x_test` with m = {m} inputs at {times} times",
            8.0 * (m * (3 * self.rank + times * (self.k + 2)) + joint * (times + 2) * m**2),
            "Take fewer inputs or times, or joint=False.",
        )
        cross = self.cross_kernels(x_test, joint=joint, batch_size=batch_size, progress=progress)
        z = _predict(self._engine, cross, jnp.atleast_1d(self.rescaled_time(t)), joint)
        return z if t.ndim else Gaussian(*(None if part is None else part[0] for part in z))

    def predict_train(self, t: Num[ArrayLike, "*T"], joint: bool = False) -> Gaussian:
        """The distribution of the outputs on the training inputs: `predict` there."""
        return self.predict(self.x, t, joint)

    def cross_kernels(
        self,
        x_test: Float[ArrayLike, "m ..."],
        *,
        joint: bool = False,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> CrossFeatures:
        """The features of test inputs in the eigenbasis, and the prior there, (m,) or, if `joint`, (m, m).

        Raises:
          TypeError, ValueError: as `predict`.
        """
        check.flag("joint", joint)
        check.flag("progress", progress, none=True)
        if batch_size is not None:
            check.integer("batch_size", batch_size)
        x_test = self.check_inputs("x_test", x_test)
        dtype, m = self.y.dtype, len(x_test)
        coordinates, own = np.zeros((m, self.rank)), np.zeros(m)
        # Where training inputs have features along all directions, nothing is left over.
        whole = self.rank == self.n_features
        left = np.zeros((m, 0 if whole or not joint else self.n_features))
        rest = np.zeros(m)
        for rows, found in self.kernel_fn.blocks(x_test, batch_size, progress):  # pyright: ignore[reportFunctionMemberAccess]
            found = found.astype(np.float64)
            coordinates[rows] = found @ self.directions
            own[rows] = np.sum(found**2, axis=1)
            if not whole:
                beside = found - coordinates[rows] @ self.directions.T
                rest[rows] = np.sum(beside**2, axis=1)
                # Of features that training inputs have, what is left is the rounding of the difference.
                rounding = (_REST_ROUNDING * float(jnp.finfo(self.y.dtype).eps)) ** 2 * self.n_features * own[rows]
                nothing = rest[rows] <= rounding
                rest[rows] = np.where(nothing, 0.0, rest[rows])
                if joint:
                    left[rows] = np.where(nothing[:, None], 0.0, beside)
        if joint:
            rest = left @ left.T
            prior = coordinates @ coordinates.T + rest
        else:
            prior = own
        parts = (jnp.asarray(part, dtype) for part in (coordinates, self._spread * rest, self._spread * prior))
        offset = kernels.offset(self.mean_fn, x_test, self.k)
        return CrossFeatures(*parts, None if offset is None else offset.astype(dtype))

    # The interface of an engine, see `Ensemble`. Jittable, without checks.

    @property
    def _engine(self) -> "FeatureEnsemble":
        """Itself without what no quantity of training asks for: what compiled functions take."""
        nothing = np.zeros((0,), self.y.dtype)
        return dataclasses.replace(self, x=nothing, directions=np.zeros((self.n_features, 0)))

    def filled(self, cross: CrossFeatures, s: Array, basis: None) -> tuple:
        """As `Ensemble.filled`; nothing is filled up."""
        return self._engine, cross, s, basis

    def time_basis(self, t: Num[ArrayLike, "*T"], *, joint_with: int | None = None) -> None:
        """None: all times cost little as they are."""

    def filters(self, s: Float[Array, " T"]) -> Filters:
        """The spectral filters of training at rescaled times s (T,), at the eigenvalues that are not 0."""
        return spectral_filters.filters(self.eigenvalues, s)

    def spectral_sum(self, function: Callable[[Filters], Array], weight: str, filters: Filters) -> Array:
        """Σ_i f(λ_i) w_i over the whole spectrum, null directions included, as `Ensemble.spectral_sum`."""
        check.option("weight", weight, ("trace", "nngp", "labels", "second_moment"))
        values = function(filters)
        if weight == "nngp":
            return self._spread * (values @ self.eigenvalues)
        null = function(spectral_filters.filters(jnp.zeros(1, self.eigenvalues.dtype), filters.s))[..., 0]
        if weight == "trace":
            return jnp.sum(values, axis=-1) + (self.n - self.rank) * null
        labels = values @ jnp.sum(self.y_rotated**2, axis=1) + null * jnp.sum(self.unexplained)
        return labels if weight == "labels" else self.k * self._spread * (values @ self.eigenvalues) + labels

    def means(self, cross: CrossFeatures, filters: Filters) -> Float[Array, "T m k"]:
        """Means μ_t of the outputs at the test inputs, (T, m, k)."""
        learned = _moments.means(filters.growth, cross.ntk, self.y_rotated / jnp.sqrt(self.eigenvalues)[:, None])
        return learned if cross.offset is None else learned + cross.offset[None]

    def covariances(
        self,
        cross: CrossFeatures,
        filters: Filters,
        then: Callable[[Array, Array], Any],
        basis: None = None,
    ) -> Any:
        """`then(index, Σ_t)` for the covariance (m, m) of each time in turn, stacked."""

        def at_time(item):
            index, decay = item
            rows = cross.ntk * decay[None, :]
            return then(index, cross.rest + self._spread * (rows @ rows.T))

        return jax.lax.map(at_time, (jnp.arange(len(filters.s)), filters.decay))

    def predictive(
        self, cross: CrossFeatures, filters: Filters, basis: None = None, *, joint: bool = False
    ) -> Gaussian:
        """The core of `predict`: the `Gaussian` of T times, with covariances (T, m, m) if `joint`."""
        mean = self.means(cross, filters)
        if joint:
            covariance = self.covariances(cross, filters, lambda _, matrix: matrix)
            return Gaussian(mean, jnp.diagonal(covariance, axis1=-2, axis2=-1), covariance)
        return Gaussian(mean, cross.rest[None] + self._spread * (filters.decay**2 @ (cross.ntk**2).T))

    def rounding_errors(self, cross: CrossFeatures, filters: Filters) -> Float[Array, "T m"]:
        """Rounding errors (T, m) of the variances of `predictive`: some units in their own last place."""
        rest = cross.rest if cross.rest.ndim == 1 else jnp.diagonal(cross.rest)
        variance = rest[None] + self._spread * (filters.decay**2 @ (cross.ntk**2).T)
        return float(jnp.finfo(variance.dtype).eps) * np.sqrt(self.rank) * variance


def fit(
    kernel_fn: Callable,
    x: Array,
    y: Array,
    *,
    mean: Any,
    prior_saw_data: bool | None,
    batch_size: int | None,
    progress: bool | None,
) -> FeatureEnsemble:
    """`Ensemble.fit` for engine="features", of inputs and labels that it has checked.

    Raises:
      ValueError: a kernel of which no features are known; features that are all 0, not finite, or more than fit into
        memory; tracing.

    Warns:
      UserWarning: the slowest modes are poorly resolved.
    """
    if tracing.is_tracing():
        raise ValueError('`engine` must be "dense" under `jit`, `vmap` and `grad`: engine="features" runs on the host.')
    check.on_host({"x": x, "y": y, "mean": mean})
    kernel = kernels.as_features(kernel_fn)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    check.flag("progress", progress, none=True)
    y = y.astype(x.dtype)
    n, k, p = len(x), y.shape[1], kernel.n_features(x)
    if kernel.projection is not None and kernel.projection >= kernel.n_unprojected(x):
        raise ValueError(
            f"`net` must be projected to fewer directions than its {kernel.n_unprojected(x)} features; got projection="
            f"{kernel.projection}. Leave the projection out, and the features as they are."
        )
    few = min(n, p)
    memory.require(
        f"`net` with p = {p} features of n = {n} training inputs",
        8.0 * (_GRAM_COPIES * few**2 + (3 * n * p if n <= p else 2 * p * k)),
        "Take fewer, by `ni.kernels.features(..., projection=q, key=key)`.",
    )
    mean_fn = kernels.mean_function(mean, kernel)
    offset = kernels.offset(mean_fn, x, k)
    residual = np.asarray(y, np.float64) - (0.0 if offset is None else np.asarray(offset, np.float64))
    kept, gram, products = np.zeros((n if n <= p else 0, p)), np.zeros((p, p) if n > p else (0, 0)), np.zeros((p, k))
    eps, trace = 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, found in kernel.blocks(x, batch_size, progress):
            eps = max(eps, float(jnp.finfo(found.dtype).eps))
            block = found.astype(np.float64)
            trace += float(np.sum(block**2))
            if n <= p:
                kept[rows] = block
                continue
            gram += block.T @ block
            products += block.T @ residual[rows]
    if not np.isfinite(trace):
        raise ValueError("`net` has features whose squares are out of the range of float64; scale them down.")
    if n <= p:
        # Of few inputs by their features themselves, whose directions are orthonormal to rounding then.
        left, roots, right = np.linalg.svd(kept, full_matrices=False)
        eigenvalues, directions, rotated = roots[::-1] ** 2, right[::-1].T, left[:, ::-1].T @ residual
    else:
        eigenvalues, directions = np.linalg.eigh(gram)
        rotated = directions.T @ products / np.sqrt(np.maximum(eigenvalues, np.finfo(np.float64).tiny))[:, None]
    used = _resolved(eigenvalues, trace, eps, n * k, np.dtype(x.dtype))
    eigenvalues, directions, rotated = eigenvalues[used], directions[:, used], rotated[used]
    unexplained = np.maximum(np.sum(residual**2, axis=0) - np.sum(rotated**2, axis=0), 0.0)
    if len(eigenvalues) == n:
        unexplained = np.zeros(k)
    saw = kernels.saw_data(kernel, mean_fn, prior_saw_data)
    parts = jnp.asarray(eigenvalues, x.dtype), directions, jnp.asarray(rotated, x.dtype)
    return FeatureEnsemble(x, y, *parts, jnp.asarray(unexplained, x.dtype), kernel, saw, mean_fn)


def _resolved(eigenvalues: np.ndarray, trace: float, eps: float, nk: int, dtype: np.dtype) -> np.ndarray:
    """Which eigenvalues (q,), ascending, of a Gram matrix of features with rounding eps are no rounding, (q,)."""
    largest = float(eigenvalues[-1])
    if not largest > 0:
        raise ValueError("`net` must have features that are not all 0 on the training inputs.")
    # Of the Gram matrix in float64, and of the features themselves, whose squares it holds.
    rounding = float(spectrum.rounding(eigenvalues))
    used = eigenvalues > max(rounding, eps**2 * trace)
    slow = max(
        _RESOLUTION_FACTOR * rounding, (_RESOLUTION_FACTOR * max(eps, float(np.finfo(dtype).eps))) ** 2 * largest
    )
    smallest = float(eigenvalues[used][0])
    if smallest < slow:
        remedy = (
            "fewer features, or such that are less alike."
            if dtype == np.float64
            else 'float64: jax.config.update("jax_enable_x64", True), with float64 inputs.'
        )
        warnings.warn(
            f"{dtype} resolves the slowest modes of training poorly: eigenvalues of the kernel of these features reach "
            f"from {largest:.2g} down to {smallest:.2g}. Results after t = {nk / slow:.1g} may be off in their third "
            f"digit. Use {remedy}",
            stacklevel=4,
        )
    return used


@compiling.jit(static_argnames="joint")
def _predict(ens: FeatureEnsemble, cross: CrossFeatures, s: Array, joint: bool) -> Gaussian:
    return ens.predictive(cross, ens.filters(s), joint=joint)
