"""Kernels of finite rank, given by their features: Θ = ΦΦᵀ, a function's or the gradients of a network.

A model linear in its parameters, f(x) = φ(x)·θ. Its kernel needs no matrix between inputs: what has p features is
answered from p x p numbers, however many inputs there are (`Ensemble.fit(..., engine="features")`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import networks
from ntkinfo._common import check, pickling
from ntkinfo._common import progress as progress_bar
from ntkinfo._common.checkpoint import key_data
from ntkinfo._numerics import padding
from ntkinfo.kernels._empirical import EmpiricalKernel
from ntkinfo.kernels._jacobian import SIDE_BY_SIDE
from ntkinfo.kernels._jacobian import rows as _gradients

# Rows of a block hold about this many features, or gradients that are to be projected.
_ENTRIES = 2**22
# Up to so many rows are filled up: their features take longer to compile than to compute.
_FILLED = 64
# Parameters whose random directions are drawn together.
_BLOCK = 1024
# A few rows alone must have the features that they have among others, up to this many roots of the rounding.
_ALONE = 16.0


def features(function: Any, *, projection: int | None = None, key: Array | None = None) -> "FeatureKernel":
    """The kernel Θ(x, x') = φ(x)·φ(x') of given features φ, as a kernel function: that of f(x) = φ(x)·θ, θ ~ N(0, I).

    What `Ensemble.fit` and `Posterior.fit` take as `net`. Under engine="features", which "auto" chooses for it, they
    are exact for this kernel at any number of inputs, in one pass over them and with memory for p x p numbers.

    The gradients of a network's outputs are features of its empirical kernel. There may be many: `projection` takes q
    random directions of them, φ(x) = Sᵀ∇f(x) with entries of S from N(0, 1/q). Kernels are then right on average, their
    log-determinants too small (`FeaturePosterior.projection_bias`), since log det is concave.

    Args:
      function: a function x -> (n, p) that gives each row of inputs its features, the same whatever rows stand beside
        it; or a `kernels.empirical` of around="one" or "laplace", of one output or "trace".
      projection: q, to how many random directions features are projected; None takes them as they are.
      key: random key of the projection.

    Returns:
      A `FeatureKernel`.

    Raises:
      TypeError: neither a function nor an empirical kernel; no random key, or one without a projection.
      ValueError: an empirical kernel of around="ensemble", whose two kernels have other features each, or of
        outputs="full".

    Source: theory, section 15.

    Example:
      >>> linear = features(lambda x: jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1))
      >>> float(ni.Ensemble.fit(linear, x, y).predict(x_test, 0.0).variance[0]) > 1.0  # 1 + ‖x‖²
      True
    """
    if isinstance(function, EmpiricalKernel):
        if function.around == "ensemble":
            raise ValueError(
                '`function` must be an empirical kernel of around="one" or "laplace"; got one of around="ensemble", '
                "whose two kernels have features of their own each."
            )
        if function.outputs == "full":
            raise ValueError(
                '`function` must be an empirical kernel of outputs="trace" or of one output; got outputs="full". Take '
                'one output after the other, or engine="dense".'
            )
    elif isinstance(function, networks.Network):
        raise TypeError(
            "`function` must be a function x -> (n, p) or an empirical kernel; got a `Network`. The features that are "
            "its gradients are those of `ni.kernels.empirical(net)`."
        )
    else:
        networks.refuse_module("function", function, "a function x -> (n, p) or an empirical kernel")
        check.function("function", function, "a function of inputs x -> (n, p)", arguments=1)
    if projection is not None:
        projection = check.integer("projection", projection)
        check.known("key", key)
        key = check.key("key", key)
    elif key is not None:
        raise TypeError("`key` must be None where nothing is projected; give `projection` with it.")
    return FeatureKernel(function, projection, key)


class FeatureKernel:
    """A kernel function kernel_fn(x1, x2, get) given by features. Made by `features`.

    Attributes:
      function: what gives features: a function, or an `EmpiricalKernel`.
      projection: how many random directions they are projected to, or None.
      key: the random key of the projection, or None.
      factor: what the kernel is multiplied by.
      is_prior: whether it stands for the prior of a posterior, which one network's kernel has too.
    """

    def __init__(
        self, function: Any, projection: int | None, key: Array | None, factor: float = 1.0, is_prior: bool = False
    ):
        self.function = function
        self.projection = projection
        self.key = key
        self.factor = factor
        self.is_prior = is_prior
        self._counts: dict[tuple, int] = {}

    @property
    def _identity(self) -> tuple:
        key = None if self.key is None else key_data(self.key).tobytes()
        return self.function, self.projection, key, self.factor, self.is_prior

    def __reduce_ex__(self, protocol):
        return pickling.reduce(self, protocol, (self.function,), pickling.AGAIN, "functions")

    # Kernels of the same features are the same static argument of compiled functions.

    def __eq__(self, other):
        return isinstance(other, FeatureKernel) and self._identity == other._identity

    def __hash__(self):
        return hash(self._identity)

    def __repr__(self):
        projected = "" if self.projection is None else f", projection={self.projection}"
        return f"FeatureKernel({getattr(self.function, '__name__', self.function)!s}{projected})"

    @property
    def empirical(self) -> EmpiricalKernel | None:
        """The empirical kernel whose features these are; None for those of a function."""
        return self.function if isinstance(self.function, EmpiricalKernel) else None

    @property
    def around(self) -> str:
        """Whose distribution it is: "one" network, which has none, or "laplace", parameters from N(θ₀, τ²I)."""
        return "laplace" if self.empirical is None or self.is_prior else self.empirical.around

    @property
    def prior_saw_data(self) -> bool:
        """Whether the features may have been learned from the data."""
        return networks.saw_data(self.function)

    @property
    def default_prior(self) -> str:
        """The kernel that a posterior takes for its prior."""
        return "ntk"

    def scaled(self, factor: float) -> "FeatureKernel":
        """The kernel times a number."""
        return FeatureKernel(self.function, self.projection, self.key, self.factor * factor, self.is_prior)

    def as_prior(self) -> "FeatureKernel":
        """The same kernel as the covariance of a process, which one network has in its posterior."""
        return FeatureKernel(self.function, self.projection, self.key, self.factor, True)

    def __call__(self, x1, x2=None, get: str | tuple[str, ...] = ("nngp", "ntk")):
        """Kernels (a, b) by the names in `get`: "nngp", "ntk", or a tuple of them."""
        names = (get,) if isinstance(get, str) else tuple(get)
        for name in names:
            check.option("get", name, ("nngp", "ntk"))
        first = self.of(jnp.asarray(x1))
        second = first if x2 is None else self.of(jnp.asarray(x2))
        tangent = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
        values = tuple(
            jnp.zeros_like(tangent) if name == "nngp" and self.around == "one" else tangent for name in names
        )
        return values[0] if isinstance(get, str) else values

    def of(self, x: Float[ArrayLike, "n d ..."]) -> Float[Array, "n p"]:
        """Features of inputs, (n, p), all at once: projected where they are to be.

        Raises:
          TypeError, ValueError: a function that fails, or whose result is no (n, p) of floating-point numbers.
        """
        x = check.inputs("x", x)
        found = self._given(x) if self.empirical is None else self._of_network(self.empirical, x)
        return found if self.factor == 1.0 else found * math.sqrt(self.factor)

    def _given(self, x: Array) -> Array:
        try:
            found = self.function(x)
        except Exception as error:
            raise ValueError(
                f"`net` has a function of features that fails on inputs of shape {x.shape}: {networks.reason(error)}"
            ) from error
        if not jnp.issubdtype(getattr(found, "dtype", object), jnp.floating):
            raise TypeError(f"`net` must have features of floating-point numbers; got {check.described(found)}.")
        if np.ndim(found) != 2 or len(found) != len(x) or not found.shape[1]:
            raise ValueError(
                f"`net` must have features of shape (n, p), one row for each of the {len(x)} inputs; got {found.shape}."
            )
        found = jnp.asarray(found)
        return found if self.projection is None else _projected(found, self.key, self.projection)

    def _of_network(self, kernel: EmpiricalKernel, x: Array) -> Array:
        (net,) = kernel.networks
        function, state = net.taken_apart
        kernel._check(x)
        parts = []
        for i, (((rows, which), _), weight) in enumerate(kernel._parts(x, None)):
            rows = _gradients(function, net.params, state, rows, jnp.asarray(which), SIDE_BY_SIDE)
            rows = rows * jnp.sqrt(jnp.asarray(weight * self._prior_variance, x.dtype))
            # Outputs have parameters side by side: directions of their own.
            key = None if self.key is None else jax.random.fold_in(self.key, i)
            parts.append(rows if self.projection is None else _projected(rows, key, self.projection))
        # Sᵀ of all parameters is the sum of those of each output's.
        return jnp.concatenate(parts, axis=1) if self.projection is None else functools.reduce(jnp.add, parts)

    @property
    def _prior_variance(self):
        kernel = self.empirical
        return kernel.prior_variance if kernel is not None and kernel.around == "laplace" else 1.0

    def n_unprojected(self, x: Array) -> int:
        """How many features there are before a projection, for inputs like `x`."""
        kernel = self.empirical
        if kernel is None:
            return FeatureKernel(self.function, None, None).n_features(x)
        return kernel.networks[0].n_parameters * (kernel._k(x) if kernel.outputs == "trace" else 1)

    def n_features(self, x: Array) -> int:
        """p, for inputs like `x`, (n, ...)."""
        if self.projection is not None:
            return self.projection
        if self.empirical is not None:
            return self.n_unprojected(x)
        kind = (x.shape[1:], str(x.dtype))
        if kind not in self._counts:
            self._counts[kind] = self._given(padding.some(x, slice(1))).shape[1]
        return self._counts[kind]

    def blocks(self, x: Array, batch_size: int | None = None, progress: bool | None = None):
        """Slices of rows and their features on the host, (b, p), block after block.

        Raises:
          TypeError, ValueError: as `of`; features that are NaN or infinite, or that depend on what rows stand beside.
        """
        p = max(self.n_features(x), 1 if self.empirical is None else self.empirical.networks[0].n_parameters)
        size = max(1, min(1024, _ENTRIES // p)) if batch_size is None else batch_size
        self._refuse_together(x)
        starts = range(0, len(x), size)
        for start in progress_bar.bar(starts, desc="features", unit="block", progress=progress):
            rows = slice(start, min(start + size, len(x)))
            found = self._filled_block(x, rows)
            if not np.isfinite(found).all():
                row = rows.start + int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
                raise ValueError(f"`net` must have finite features; those of row {row} have NaN or infinite entries.")
            yield rows, found

    def _filled_block(self, x: Array, rows: slice) -> np.ndarray:
        """Features of some rows, few of them filled up to a number that neighbouring ones share."""
        few, n = padding.some(x, rows), rows.stop - rows.start
        if n <= _FILLED and padding.on_host(few):
            few = jnp.asarray(padding.repeat_last(np.asarray(few), padding.near(n)))
        return np.asarray(self.of(few))[:n]

    def _refuse_together(self, x: Array) -> None:
        """Refuses a function that gives a row other features among other rows: blocks would not fit together."""
        few = padding.some(x, slice(3))
        if self.empirical is not None or len(few) < 2:
            return
        together, alone = np.asarray(self._given(few)), np.asarray(self._given(padding.some(few, slice(1, 2))))
        scale = np.abs(together[np.isfinite(together)]).max(initial=0.0)
        tolerance = _ALONE * float(jnp.finfo(together.dtype).eps) ** 0.5 * scale
        fits = alone.shape[1] == together.shape[1]
        # NaN are told as such later.
        if not fits or np.any(np.abs(together[1] - alone[0]) > tolerance):
            raise ValueError(
                "`net` must have features that depend on their own input alone; those of a row change with the rows "
                "beside it. Take means, scales and the like from all training inputs first, and close over them."
            )


@functools.partial(jax.jit, static_argnames="q")
def _projected(rows: Array, key: Array, q: int) -> Array:
    """Rows (a, P) times S (P, q), entries from N(0, 1/q), drawn block by block."""
    missing = -rows.shape[1] % _BLOCK
    padded = jnp.pad(rows, ((0, 0), (0, missing)))
    blocks = jnp.moveaxis(padded.reshape(len(rows), -1, _BLOCK), 1, 0)

    def add(total, item):
        index, block = item
        directions = jax.random.normal(jax.random.fold_in(key, index), (_BLOCK, q), rows.dtype)
        return total + jnp.matmul(block, directions, precision=jax.lax.Precision.HIGHEST), None

    start = jnp.zeros((len(rows), q), rows.dtype)
    return jax.lax.scan(add, start, (jnp.arange(len(blocks)), blocks))[0] / math.sqrt(q)


def as_features(kernel_fn: Callable) -> FeatureKernel:
    """A kernel function as one given by features: itself, or the gradients of an empirical kernel.

    Raises:
      ValueError: one of which no features are known.
    """
    if isinstance(kernel_fn, FeatureKernel):
        return kernel_fn
    if isinstance(kernel_fn, EmpiricalKernel):
        try:
            return features(kernel_fn)
        except ValueError as error:
            raise ValueError(str(error).replace("`function`", "`net`")) from error
    raise ValueError(
        '`net` must be a kernel with known features under engine="features": `ni.kernels.features(function)`, or '
        f"`ni.kernels.empirical(net)`; got {check.described(kernel_fn)}. Kernels of infinite width have none: take "
        'engine="krylov" or "dense".'
    )
