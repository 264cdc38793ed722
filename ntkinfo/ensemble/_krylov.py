"""The ensemble of many data: predictions from Krylov spaces of the tangent kernel, with the error of each number.

The eigenbasis of the dense engine is replaced by an orthonormal basis V of few columns, found by block Lanczos from
what is asked about; the formulas are the same, with Θ projected to VᵀΘV.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels
from ntkinfo._common import check, memory, pickling, pytree, tables, tracing
from ntkinfo._common import progress as progress_bar
from ntkinfo._common.checkpoint import Checkpoint, content_hash, fingerprint
from ntkinfo._numerics import padding, spectrum
from ntkinfo._numerics.block_lanczos import BlockLanczos
from ntkinfo.ensemble import _moments, _projection, _spectral_sums, _stored
from ntkinfo.ensemble._spectral_sums import SpectralSums
from ntkinfo.gaussian import Gaussian
from ntkinfo.kernels import EvaluatedKernels, StoredKernels

STORAGES = ("auto", "float64", "float32", "none")
# Test inputs of a batch, which share a Krylov space, and most steps of one.
BATCH, MAX_STEPS = 128, 40
# Steps between two looks at the errors, and times looked at before the last.
STRIDE, _WATCHED_TIMES = 2, 16
# Rounding is what is left where truncation is this share of it.
_ROUNDING_LEFT = 0.1
# A direction is a difference of equal inputs where its sums over them are below this.
_REPEATED = 1e-6
# What the basis and its projections need beside the kernels: columns of n numbers.
_BASIS_COPIES = 4


@pytree.dataclass("tolerance", "steps", "reached", "reason")
class Prediction:
    """Predictions at m test inputs, with an estimate of the error of each number. Made by `KrylovEnsemble.predict`.

    Attributes:
      mean: (T, m, k), without the first axis for a scalar time.
      variance: (T, m), likewise.
      error: what is known of the errors: `error.mean` like `mean`, `error.variance` like `variance`; absolute values,
        of truncation (from the residuals of the steps taken) and of rounding (of the kernels as they are stored).
        Estimates that are made not to fall below the true error, no bounds. Of singular="project" they are those of
        an ensemble that never learns what float64 would project out; what float32 projects out beside that counts as
        an error, which is large late in training.
      tolerance: the error that was asked for: of means as a share of the root mean square of the labels, of variances
        of the prior variances.
      steps: Lanczos steps of each batch of test inputs.
      reached: whether every batch reached the tolerance.
      reason: why not, as a sentence; empty where it did.
    """

    mean: Array
    variance: Array
    error: Gaussian
    tolerance: float
    steps: tuple[int, ...]
    reached: bool
    reason: str = ""

    _table = tables.Table(
        # The times are not kept: where there are several they are numbered, as of a `Gaussian`.
        ("input", "output"),
        plain="mean variance std",
        where={"variance": ("input",), "std": ("input",)},
        totals="tolerance reached reason",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def gaussian(self) -> Gaussian:
        """The prediction without its errors: what `ntkinfo.information` and `ntkinfo.gaussian` take."""
        return Gaussian(self.mean, self.variance)

    @property
    def std(self) -> Array:
        """√variance, like `variance`."""
        return jnp.sqrt(self.variance)


@pytree.dataclass("kernel_fn", "prior_saw_data", "mean_fn", "singular", "tolerance")
class KrylovEnsemble:
    """An `Ensemble` of many training inputs, answered by block Lanczos. Made by `Ensemble.fit(..., engine="krylov")`.

    No eigendecomposition is made: memory is 2 n² numbers (both kernels), or none where they are evaluated for every
    product; a prediction for m inputs costs about 14 products of both kernels with m + k columns.

    Attributes:
      x: training inputs, (n, ...).
      y: training labels, (n, k).
      targets: what is fitted: labels less the mean before training, (n, k), float64 on the host.
      stored: both kernels on the training inputs.
      kernel_fn: the kernel function `kernel_fn(x1, x2, get)`.
      prior_saw_data: as of `Ensemble`.
      mean_fn: as of `Ensemble`.
      singular: "error" or "project", as in `Ensemble.fit`.
      tolerance: what errors are to be below, see `Prediction`.

    Source: theory, section 15.
    """

    x: Array
    y: Array
    targets: np.ndarray
    stored: StoredKernels | EvaluatedKernels
    kernel_fn: Callable
    prior_saw_data: bool
    mean_fn: Callable | None
    singular: str
    tolerance: float

    __repr__ = tables.one_line
    _repr_html_ = tables.html
    _to_stored = _stored.krylov_to_stored
    _from_stored = classmethod(_stored.krylov_from_stored)

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
    def storage(self) -> str:
        """How the kernels are held: "float64", "float32", or "none" where they are evaluated for every product."""
        return "none" if isinstance(self.stored, EvaluatedKernels) else str(self.stored.ntk.dtype)

    def check_inputs(self, name: str, x: Float[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """`x` as inputs of the shape trained on, in their dtype."""
        return kernels.inputs_like(name, x, self.x, self.kernel_fn)

    def rescaled_time(self, t: Num[ArrayLike, "*T"]) -> Float[Array, "*T"]:
        """s = t / (n k): in this time a mode of eigenvalue λ decays as e^{-sλ}."""
        return _moments.rescaled_time(t, self.n * self.k, self.x.dtype)

    def predict(
        self,
        x_test: Float[ArrayLike, "m ..."],
        t: Num[ArrayLike, "*T"],
        joint: bool = False,
        *,
        batch_size: int | None = None,
        max_steps: int | None = None,
        checkpoint: str | os.PathLike | None = None,
        progress: bool | None = None,
    ) -> Prediction:
        """The distribution p_t(z | x, D) of the outputs at training time t, as `Ensemble.predict`, with its errors.

        Test inputs come in batches; of each, block Lanczos from [Θ(x, X)ᵀ, Y] makes one basis for all times. Steps are
        added until the errors are below `tolerance` at all times.

        Args:
          x_test: inputs, (m, ...), of the shape trained on.
          t: training time, scalar or (T,), as in `Ensemble.predict`.
          joint: False; covariances between inputs are the dense engine's.
          batch_size: test inputs of a batch; None takes up to 128.
          max_steps: most Lanczos steps of a batch; None takes up to 40.
          checkpoint: a folder that batches are written to as they come; a call with the same arguments goes on from
            there.
          progress: whether to show a progress bar; None shows it for work that takes long.

        Returns:
          `Prediction`.

        Raises:
          TypeError: `x_test` does not hold floating-point numbers; traced values.
          ValueError: `joint=True`; inputs of another shape than trained on, NaN or Inf, negative times; a tangent
            kernel that turns out singular to rounding; a basis that does not fit into memory; a checkpoint of another
            run.

        Warns:
          UserWarning: a batch did not reach the tolerance; `Prediction.reason` says so as well.

        Source: theory, section 15.
        """
        check.on_host(locals())
        check.flag("joint", joint)
        check.flag("progress", progress, none=True)
        refuse_joint(joint)
        x_test = self.check_inputs("x_test", x_test)
        t = check.times("t", t)
        s = np.atleast_1d(np.asarray(t, np.float64)) / (self.n * self.k)
        parts = self._batches(
            lambda x, *how: self._predict_batch(x, s, *how), x_test, {"t": content_hash(np.asarray(t))},
            batch_size=batch_size, max_steps=max_steps, checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
        return self._assembled(parts, t)

    def _batches(
        self,
        predict: Callable,
        x_test: Array,
        arguments: dict[str, str],
        *,
        batch_size,
        max_steps,
        checkpoint,
        progress,
    ) -> list[dict[str, np.ndarray]]:
        """What `predict(x, most, products)` makes of each batch of test inputs, read from a checkpoint if it is there.

        `products` are those of both kernels, and move the bar.
        """
        batch = min(BATCH if batch_size is None else check.integer("batch_size", batch_size), len(x_test))
        most = MAX_STEPS if max_steps is None else check.integer("max_steps", max_steps)
        self._require_memory(batch + self.k, most)
        folder = None
        if checkpoint is not None:
            path = check.path("checkpoint", checkpoint)
            folder = Checkpoint(path, self._arguments(x_test, batch, most) | arguments)
        starts = range(0, len(x_test), batch)
        parts = []
        # By steps: one batch of many training inputs takes minutes.
        with self._steps(most * len(starts), "predictions", progress) as (shown, products):
            for i in range(len(starts)):
                part = None if folder is None else folder.load(f"batch_{i}")
                if folder is None or not self._all_have(part is not None):
                    part = predict(x_test[starts[i] : starts[i] + batch], most, products)
                    if folder is not None:
                        folder.save(f"batch_{i}", part)
                shown.update((i + 1) * most - shown.n)
                parts.append(part)
        return parts

    @contextlib.contextmanager
    def _steps(self, total: int, desc: str, progress: bool | None = None):
        """A bar of Lanczos steps, and the products of both kernels that move it."""
        with progress_bar.bar(total=total, desc=desc, unit="step", progress=progress) as shown:

            def products(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                both = self.stored.products(columns)
                shown.update()
                return both

            yield shown, products

    def _all_have(self, found: bool) -> bool:
        """Whether all processes that kernels are sharded over have found something: they go on together."""
        held = self.stored
        if isinstance(held, EvaluatedKernels) or held.ntk.is_fully_addressable:
            return found
        from jax.experimental import multihost_utils

        return bool(np.all(multihost_utils.process_allgather(np.array(found))))

    def _predict_batch(self, x_test: Array, s: np.ndarray, most: int, products: Callable) -> dict[str, np.ndarray]:
        """Means, variances and their errors of one batch, as arrays."""
        cross = kernels.kernels(self.kernel_fn, x_test, self.x, progress=False)
        nngp, ntk = (np.asarray(part, np.float64) for part in cross)
        prior = np.asarray(kernels.diagonal(self.kernel_fn, x_test), np.float64)
        run = BlockLanczos(np.concatenate([ntk.T, self.targets], axis=1))
        watched = np.unique(np.linspace(0, len(s) - 1, _WATCHED_TIMES).astype(int))
        scales = self._label_scale(), np.maximum(prior, np.finfo(np.float64).tiny)
        while len(run.sizes) < most and not run.exhausted:
            run.step(products)
            if len(run.sizes) % STRIDE or run.exhausted:
                continue
            if self._enough(self._level(run, ntk, nngp, prior, s[watched]), scales):
                break
        final = self._level(run, ntk, nngp, prior, s)
        truncation = final.truncation
        error = [cut + rest for cut, rest in zip(truncation, final.rounding, strict=True)]
        offset = kernels.offset(self.mean_fn, x_test, self.k)
        return {
            "mean": final.mean if offset is None else final.mean + np.asarray(offset, np.float64)[None],
            "variance": final.variance,
            "mean_error": error[0],
            "variance_error": error[1],
            "steps": np.array(len(run.sizes)),
            "truncation": np.array(self._worst(truncation, scales)),
            "rounding": np.array(self._worst(final.rounding, scales)),
            "worst": np.array(self._worst(error, scales)),
            "within": np.array([self._worst([part[[i]] for part in error], scales) for i in range(len(s))]),
        }

    def _enough(self, level: _projection.Level, scales) -> bool:
        """Whether more steps are of no use: the tolerance is reached, or rounding is what is left."""
        truncation, rounding = (self._worst(errors, scales) for errors in (level.truncation, level.rounding))
        return truncation <= max(self.tolerance, _ROUNDING_LEFT * rounding)

    def _level(self, run, ntk, nngp, prior, s) -> _projection.Level:
        """Predictions from all steps of a run, with their errors; from none where there is nothing to learn from."""
        size, before = [0, 0, *run.sizes][-1:-3:-1]
        v = run.basis[:, :size]
        projected = _projection.Projection(
            run.ntk[:size, :size],
            run.nngp[:size, :size],
            v.T @ self.targets,
            v.T @ ntk.T,
            v.T @ nngp.T,
            prior,
            run.beyond(size),
            size - before,
        )
        return _projection.moments(projected, s, self._check_ritz_values, self._noise)

    @functools.cached_property
    def _noise(self) -> _projection.Noise:
        """Errors of the entries of the kernels, as they are stored and evaluated."""
        totals = self.totals
        evaluation = float(jnp.finfo(self.x.dtype).eps)
        ntk = self.stored.epsilon * totals.ntk_spread + evaluation * np.sqrt(totals.ntk_square) / self.n
        nngp = self.stored.epsilon * totals.nngp_spread + evaluation * totals.nngp_trace / self.n
        pairs = totals.ntk_pair, totals.nngp_pair
        return _projection.Noise(float(ntk), float(nngp), *pairs, evaluation, self._resolution)

    @property
    def _resolution(self) -> float:
        """Share of the largest eigenvalue that float64 does not tell from zero below; 0 where nothing less is held."""
        return float(np.finfo(np.float64).eps * np.sqrt(self.n)) if self._in_float32 else 0.0

    @property
    def _in_float32(self) -> bool:
        """Whether kernels are stored, or evaluated, in less than float64."""
        return self.stored.epsilon > float(np.finfo(np.float64).eps)

    @property
    def rounding_of_eigenvalues(self) -> float:
        """How far rounding of Θ, as it is stored and evaluated, moves its eigenvalues: 2 √n of its entries' error."""
        return 2 * float(np.sqrt(self.n)) * self._noise.ntk

    @functools.cached_property
    def totals(self):
        """Sums over all entries of the kernels: one pass."""
        return self.stored.totals()

    def _check_ritz_values(self, values: np.ndarray) -> np.ndarray:
        """Ritz values (q,), ascending, with those below rounding set to 0.

        Raises:
          ValueError: there are such values, and null directions are not to be projected out.
        """
        # Each lies above the least eigenvalue: one that is zero shows that Θ is singular.
        floor = self._floor(values)
        if len(values) and values[0] < -spectrum.INDEFINITE_FACTOR * floor:
            raise ValueError(
                "The tangent kernel must be positive semidefinite and not zero; its projection has eigenvalues from "
                f"{values[0]:.3g} to {values[-1]:.3g}. Check that `kernel_fn` is symmetric, or compute in float64."
            )
        null = values <= floor
        if null.any() and self.singular == "error":
            remedy = (
                'Store it in float64 (storage="float64"), or as it is evaluated (storage="none")'
                if self.storage == "float32" and self.x.dtype == np.float64
                else "Drop inputs that are alike, or compute in float64"
            )
            raise ValueError(
                f"The tangent kernel is singular to rounding: it has an eigenvalue of at most {values[0]:.2g}, below "
                f'{floor:.2g}. {remedy}, or pass singular="project" to treat such directions as never learned.'
            )
        return np.where(null, 0.0, values)

    def _floor(self, values: np.ndarray) -> float:
        """What Ritz values (q,), ascending, are not told from zero below.

        They are decomposed in float64 whatever kernels are held in. What float32 rounds is entry by entry, and moves
        them by far less than a share of the largest one.
        """
        floor = float(np.finfo(np.float64).eps) * np.sqrt(self.n) * (values[-1] if len(values) else 0.0)
        return float(max(floor, self.rounding_of_eigenvalues) if self._in_float32 else floor)

    def _label_scale(self) -> float:
        return float(np.sqrt(np.mean(self.targets**2))) or 1.0

    @staticmethod
    def _worst(errors, scales) -> float:
        """The largest error as a share of its scale, of means and variances."""
        mean, variance = errors
        return float(max(np.max(mean) / scales[0], np.max(variance / scales[1][None, :])))

    def _assembled(
        self, parts, t, remedy="Allow more steps (`max_steps`) or a larger `tolerance`, or ask for earlier times"
    ) -> Prediction:
        dtype = self.x.dtype

        def joined(name):
            value = jnp.asarray(np.concatenate([part[name] for part in parts], axis=1), dtype)
            return value if t.ndim else jnp.asarray(np.asarray(value)[0])

        worst = max(float(part["worst"]) for part in parts)
        truncation = max(float(part["truncation"]) for part in parts)
        reason = ""
        if worst > self.tolerance:
            # Batches that an earlier version has written do not hold it.
            rounding = max(float(part.get("rounding", 0.0)) for part in parts)
            if truncation <= max(self.tolerance, _ROUNDING_LEFT * rounding):
                remedy = "Rounding of the kernels as they are held is why: give inputs in float64"
                if self.x.dtype == np.float64 and self.storage == "float32":
                    remedy = (
                        'Rounding of the kernels as they are stored is why: take storage="float64", or "none" '
                        "(evaluated for every product)"
                    )
                elif self.x.dtype == np.float64:
                    remedy = "Rounding in float64 is why: the kernel has eigenvalues that are hardly more than zero"
                remedy += self._until(parts, t)
            reason = (
                f"The error of the predictions is up to {worst:.2g} of the scale of labels and prior variances, above "
                f"tolerance={self.tolerance:.2g}. {remedy}."
            )
            warnings.warn(reason, stacklevel=3)
        steps = tuple(int(part["steps"]) for part in parts)
        error = Gaussian(joined("mean_error"), joined("variance_error"))
        return Prediction(joined("mean"), joined("variance"), error, self.tolerance, steps, not reason, reason)

    def _until(self, parts, t) -> str:
        """Up to which of the times asked for the tolerance is reached, as the end of a sentence."""
        if not all("within" in part for part in parts):
            return ", or ask for earlier times"
        worst = np.max([part["within"] for part in parts], axis=0)
        times = np.sort(np.atleast_1d(np.asarray(t, np.float64)))
        beyond = np.flatnonzero(worst[np.argsort(np.atleast_1d(np.asarray(t)))] > self.tolerance)
        if len(times) < 2 or not len(beyond) or beyond[0] == 0:
            return ", or ask for earlier times"
        return f", or ask for times up to t = {times[beyond[0] - 1]:.3g}, where it is below the tolerance"

    def _require_memory(self, columns: int, steps: int, fewer: str = "a smaller `batch_size`") -> None:
        q = min(self.n, columns * (steps + 1))
        memory.require(
            f"A Krylov basis of {q} columns for n = {self.n} training inputs",
            8 * (_BASIS_COPIES * self.n * min(columns, self.n) + 2 * self.n * q + 8 * q * q),
            f"Take {fewer}, or fewer `max_steps`.",
        )

    def _identity(self) -> dict[str, str]:
        """What a stored run must agree in, whatever was asked of it."""
        few = self.x[: min(2, self.n)]
        return {
            "kernel_fn": fingerprint(lambda x: tuple(kernels.evaluate(self.kernel_fn, x)), few),
            "x": content_hash(np.asarray(self.x)),
            "targets": content_hash(self.targets),
            "storage": self.storage,
            "tolerance": repr(self.tolerance),
            "singular": self.singular,
        }

    def _arguments(self, x_test, batch, most) -> dict[str, str]:
        return self._identity() | {
            "x_test": content_hash(np.asarray(x_test)),
            "mean": content_hash(np.asarray(0.0 if self.mean_fn is None else self.mean_fn(x_test))),
            "batch_size": str(batch),
            "max_steps": str(most),
        }

    def predict_train(self, t: Num[ArrayLike, "*T"], joint: bool = False) -> Prediction:
        """The distribution of the outputs on the training inputs: `predict` there, in batches; see `predict`."""
        return self.predict(self.x, t, joint)

    def spectral_sums(
        self,
        *,
        key: Array | None = None,
        n_probes: int = 32,
        max_steps: int | None = None,
        checkpoint: str | os.PathLike | None = None,
    ) -> SpectralSums:
        """What sums over the spectrum are estimated from, for all times and functions: one run of block Lanczos.

        It starts from the labels, for which no sampling is needed, and from random probes. The functions of
        `ntkinfo.information` take it in the place of the ensemble, which makes one with the defaults by itself.

        Args:
          key: random key of the probes; None takes `jax.random.key(0)`.
          n_probes: random probes, at least 8; standard errors fall like the inverse root of their number. Those of few
            are widened, so that three of them cover 99.7 % (Student's t).
          max_steps: most Lanczos steps; None takes up to 40.
          checkpoint: a folder that they are written to; a call with the same arguments reads them there.

        Raises:
          TypeError, ValueError: no random key; numbers that are too small; a kernel that is singular to rounding; a
            checkpoint of another run.

        Source: theory, section 15.
        """
        check.on_host(locals())
        key = jax.random.key(0) if key is None else check.key("key", key)
        n_probes = check.integer("n_probes", n_probes, least=8)
        most = MAX_STEPS if max_steps is None else check.integer("max_steps", max_steps, least=3)
        folder = None
        if checkpoint is not None:
            arguments = {"key": content_hash(key), "n_probes": str(n_probes), "max_steps": str(most), "sums": "3"}
            folder = Checkpoint(check.path("checkpoint", checkpoint), self._identity() | arguments)
            stored = folder.load("sums")
            if self._all_have(stored is not None) and stored is not None:
                return _spectral_sums.from_arrays(stored, (self.n, self.k), np.dtype(self.x.dtype))
        sums = self._sums(key, n_probes, most)
        if folder is not None:
            folder.save("sums", _spectral_sums.to_arrays(sums))
        return sums

    def _sums(self, key: Array, n_probes: int, most: int) -> SpectralSums:
        """The core of `spectral_sums`."""
        self._require_memory(n_probes + self.k, most, "fewer `n_probes`")
        draw = functools.partial(jax.random.rademacher, dtype=jnp.int8)
        probes = np.asarray(padding.draws(draw, key, (self.n, n_probes)), np.float64)
        run = BlockLanczos(np.concatenate([self.targets, probes], axis=1))
        sums = None
        with self._steps(most, "sums over the spectrum") as (_, products):
            while len(run.sizes) < most and not run.exhausted:
                run.step(products)
                steps = len(run.sizes)
                if (steps >= 3 and steps % STRIDE == 0) or run.exhausted:
                    sums = self._sums_of(run, probes)
                    if run.exhausted or sums.resolved(self.tolerance):
                        break
        return self._sums_of(run, probes) if sums is None else sums

    def _sums_of(self, run, probes) -> SpectralSums:
        coefficients = run.basis.T @ np.concatenate([self.targets, probes], axis=1)
        ritz = np.linalg.eigvalsh(run.ntk)
        floor = self._floor(ritz)
        count = int(np.sum(ritz <= floor))
        unknown = False
        if self._resolution > 0 and count:
            vectors = np.linalg.eigh(run.ntk)[1][:, :count]
            unknown = not self._repeated(run.basis[:, : len(ritz)] @ vectors)
        # Their decomposition, in float64, moves eigenvalues by some units in the last place of the largest one.
        moved = self.rounding_of_eigenvalues + float(np.finfo(np.float64).eps) * np.max(ritz, initial=0.0)
        return _spectral_sums.make(
            run,
            coefficients,
            self.totals,
            self._check_ritz_values,
            (self.n, self.k),
            np.dtype(self.x.dtype),
            (floor, float(moved)),
            self._resolution * float(np.max(ritz, initial=0.0)) if unknown else 0.0,
        )

    def _repeated(self, directions: np.ndarray) -> bool:
        """Whether directions (n, r) are differences of equal inputs alone, which have no eigenvalue in truth."""
        group = self._equal_inputs
        sums = np.zeros((group.max() + 1, directions.shape[1]))
        np.add.at(sums, group, directions)
        return bool(np.all(np.linalg.norm(sums, axis=0) <= _REPEATED))

    @functools.cached_property
    def _equal_inputs(self) -> np.ndarray:
        """The number (n,) of the group of equal inputs that each one is of."""
        return np.unique(np.asarray(self.x).reshape(self.n, -1), axis=0, return_inverse=True)[1].ravel()

    @functools.cached_property
    def default_sums(self) -> SpectralSums:
        """`spectral_sums` with the defaults, made where first asked for."""
        return self.spectral_sums()


def refuse_joint(joint: bool, accepted: str = "False") -> None:
    """Refuses covariances between inputs; `accepted` says what `joint` may be."""
    if joint:
        raise ValueError(
            f'`joint` must be {accepted} under engine="krylov", which gives no covariances between inputs. Fit with '
            'engine="dense".'
        )


def refuse_empirical(kernel_fn: Callable) -> None:
    """Refuses empirical kernels."""
    if isinstance(kernel_fn, kernels.EmpiricalKernel):
        raise ValueError(
            '`net` must be a network of infinite width under engine="krylov"; got an empirical kernel. Take '
            'engine="dense".'
        )


def fit(
    kernel_fn: Callable,
    x: Array,
    y: Array,
    *,
    mean: Any,
    singular: str,
    prior_saw_data: bool | None,
    batch_size: int | None,
    progress: bool | None,
    tolerance: float,
    storage: str,
    mesh: Mesh | None,
    checkpoint: Any = None,
) -> KrylovEnsemble:
    """`Ensemble.fit` for engine="krylov", of inputs and labels that it has checked."""
    if tracing.is_tracing():
        raise ValueError('`engine` must be "dense" under `jit`, `vmap` and `grad`: engine="krylov" runs on the host.')
    check.on_host({"x": x, "y": y, "mean": mean})
    refuse_empirical(kernel_fn)
    y = y.astype(x.dtype)
    mean_fn = kernels.mean_function(mean, kernel_fn)
    if singular == "error":
        _refuse_repeated(np.asarray(x))
    offset = kernels.offset(mean_fn, x, y.shape[1])
    targets = np.asarray(y, np.float64) - (0.0 if offset is None else np.asarray(offset, np.float64))
    if storage == "auto" and checkpoint is not None:
        # As rows are kept already: how much memory was free then must not matter now.
        kept = (Checkpoint.stored(check.path("checkpoint", checkpoint)) or {}).get("storage")
        storage = kept if kept in ("float64", "float32") else storage
    asked, storage = storage, _storage(storage, x, mesh, 2 if isinstance(kernel_fn, kernels.OneKernel) else 3)
    if storage == "none":
        # Where it was not asked for there is nothing to be kept, and all the same to be computed.
        if checkpoint is not None and asked == "none":
            raise ValueError('`checkpoint` must be None with storage="none", which stores no rows that could be kept.')
        held = kernels.evaluated(kernel_fn, x, batch_size=batch_size)
    else:
        folder = None if checkpoint is None else _rows_folder(checkpoint, kernel_fn, x, storage)
        options = {"dtype": storage, "mesh": mesh, "batch_size": batch_size, "progress": progress}
        held = kernels.stored(kernel_fn, x, **options, checkpoint=folder)  # pyright: ignore[reportArgumentType]
    saw = kernels.saw_data(kernel_fn, mean_fn, prior_saw_data)
    return KrylovEnsemble(x, y, targets, held, kernel_fn, saw, mean_fn, singular, float(tolerance))


def _rows_folder(checkpoint: Any, kernel_fn: Callable, x: Array, storage: str) -> Checkpoint:
    """The folder of rows of these kernels; its arguments are the manifest."""
    arguments = {
        "kernel_fn": fingerprint(lambda x: tuple(kernels.evaluate(kernel_fn, x)), x[: min(2, len(x))]),
        "x": content_hash(np.asarray(x)),
        "n": str(len(x)),
        "storage": storage,
        "rows": "rows_START_STOP.npz: kernels less their means, without diagonals",
    }
    return Checkpoint(check.path("checkpoint", checkpoint), arguments)


def _storage(storage: str, x: Array, mesh: Mesh | None, copies: int) -> str:
    """The dtype that kernels are stored in, or "none"; what was asked for is refused where it does not fit.

    `copies` of n x n numbers are held at once: the kernels, and the one on the host that each is made of.
    """

    def needed(dtype):
        return copies * len(x) ** 2 * np.dtype(dtype).itemsize

    # Devices of the host share its memory.
    share = 1 if mesh is None else 1 / (jax.process_count() if jax.default_backend() == "cpu" else mesh.size)
    widest = str(x.dtype)
    if storage == "float64" and widest == "float32":
        raise ValueError('`storage` must be "float32" or "none" for `x` in float32; got "float64".')
    if storage == "auto":
        there = memory.available()
        for one in dict.fromkeys((widest, "float32")):
            if there is None or share * needed(one) < there:
                return one
        storage = "none" if mesh is None else "float32"
    if storage == "none":
        if mesh is not None:
            raise ValueError('`mesh` must be None with storage="none", which stores no rows to be sharded.')
        return storage
    remedies = ['storage="float32" (half of it)'] if storage == "float64" else []
    remedies.append('storage="none" (evaluated for every product)' if mesh is None else "more devices, or fewer inputs")
    memory.require(
        f"`x` with n = {len(x)} training inputs and kernels stored in {storage}",
        share * needed(storage),
        f"Take {', or '.join(remedies)}.",
    )
    return storage


def _refuse_repeated(x: np.ndarray) -> None:
    cause = spectrum.equal_rows(x)
    if cause is not None:
        raise ValueError(
            f"The tangent kernel is singular: {cause}. Drop repeated rows (average their labels), or pass "
            'singular="project" to treat these directions as never learned.'
        )
