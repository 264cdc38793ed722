"""Gaussian-process regression from a Krylov space of its kernel: means and variances with estimates of their errors."""

import os
from collections.abc import Callable

import numpy as np
import scipy.linalg
from jax import Array

from ntkinfo import kernels
from ntkinfo._numerics.block_lanczos import BlockLanczos
from ntkinfo.ensemble import _projection
from ntkinfo.ensemble._krylov import KrylovEnsemble, Prediction

_REMEDY = "Allow more steps (`max_steps`), a larger `tolerance` or a larger `noise`"


def regress(
    ens: KrylovEnsemble,
    x_test: Array,
    noise: float,
    *,
    batch_size: int | None,
    max_steps: int | None,
    checkpoint: str | os.PathLike | None,
    progress: bool | None,
) -> Prediction:
    """The posterior of the outputs under the prior N(0, Θ) and noise σ², as `Posterior.predict`, with its errors.

    With V of a Krylov space of [Θ_*ᵀ, Y] and w = V(VᵀΘV + σ²I)⁻¹Vᵀ the mean is Θ_* w Y and the variance
    Θ_** - Θ_* w Θ_*ᵀ. The residuals r of the columns that w solves for are orthogonal to V (Galerkin), so the
    variance is too large by rᵀ(Θ + σ²I)⁻¹r ≤ ‖r‖²/σ², and the mean off by at most ‖r‖ ‖r'‖/σ², r' that of the labels.
    Shown is that bound with σ² + λ in the place of σ², λ the least Ritz value, or less where inputs that are alike
    prove a lesser eigenvalue: an estimate.

    Source: theory, section 15.
    """
    parts = ens._batches(
        lambda x, most, products: _batch(ens, x, noise, most, products), x_test, {"noise": repr(noise)},
        batch_size=batch_size, max_steps=max_steps, checkpoint=checkpoint, progress=progress,
    )  # fmt: skip
    return ens._assembled(parts, np.zeros(()), _REMEDY)


def _batch(ens: KrylovEnsemble, x_test: Array, noise: float, most: int, products: Callable) -> dict[str, np.ndarray]:
    """Means, variances and their errors of one batch, with a leading axis of one."""
    cross = np.asarray(kernels.kernels(ens.kernel_fn, x_test, ens.x, progress=False).ntk, np.float64)
    prior = np.asarray(kernels.diagonal(ens.kernel_fn, x_test, kernel="ntk"), np.float64)
    run = BlockLanczos(np.concatenate([cross.T, ens.targets], axis=1))
    scales = ens._label_scale(), np.maximum(prior, np.finfo(np.float64).tiny)
    last = _level(ens, run, cross, prior, noise)
    while len(run.sizes) < most and not run.exhausted:
        run.step(products)
        last = _level(ens, run, cross, prior, noise)
        if ens._enough(last, scales):
            break
    truncation = last.truncation
    error = [cut + rest for cut, rest in zip(truncation, last.rounding, strict=True)]
    offset = kernels.offset(ens.mean_fn, x_test, ens.k)
    return {
        "mean": last.mean if offset is None else last.mean + np.asarray(offset, np.float64)[None],
        "variance": last.variance,
        "mean_error": error[0],
        "variance_error": error[1],
        "steps": np.array(len(run.sizes)),
        "truncation": np.array(ens._worst(truncation, scales)),
        "rounding": np.array(ens._worst(last.rounding, scales)),
        "worst": np.array(ens._worst(error, scales)),
        "within": np.array([ens._worst(error, scales)]),
    }


def _level(ens: KrylovEnsemble, run: BlockLanczos, cross, prior, noise: float) -> _projection.Level:
    """Means and variances from all steps of a run, with their errors."""
    size = run.sizes[-1] if run.sizes else 0
    v = run.basis[:, :size]
    rotated, targets = v.T @ cross.T, v.T @ ens.targets
    rounding, eps = ens._noise, float(np.finfo(np.float64).eps)
    least = 0.0
    if size:
        least = max(min(float(np.linalg.eigvalsh(run.ntk)[0]), rounding.ntk_pair), 0.0)
        factor = scipy.linalg.cho_factor(run.ntk[:size, :size] + noise * np.eye(size))
        weights, fitted = (scipy.linalg.cho_solve(factor, part) for part in (rotated, targets))
        residuals = [np.linalg.norm(run.beyond(size) @ part, axis=0) for part in (weights, fitted)]
    else:
        weights, fitted = rotated, targets
        residuals = [np.linalg.norm(cross, axis=1), np.linalg.norm(ens.targets, axis=0)]
    explained = np.sum(rotated * weights, axis=0)
    length, length_fitted = np.linalg.norm(weights, axis=0), np.linalg.norm(fitted, axis=0)
    own = rounding.evaluation * np.linalg.norm(cross, axis=1) / np.sqrt(max(ens.n, 1)) + rounding.ntk
    mean_rounding = _projection.ROUNDING_FACTOR * (rounding.ntk * length + own)[:, None] * length_fitted[None, :]
    variance_rounding = _projection.ROUNDING_FACTOR * (rounding.ntk * length**2 + 2 * own * length)
    # Terms as large as the prior cancel; sums of products are rounded in float64.
    variance_rounding = variance_rounding + 4 * rounding.evaluation * prior + eps * np.sqrt(size + 1) * explained
    mean_rounding = mean_rounding + eps * np.sum(np.abs(weights), axis=0)[:, None] * np.max(
        np.abs(targets), initial=0.0
    )
    variance = prior - explained
    # What is below its own error may come out negative; a variance is not.
    variance = np.where((variance < 0) & (variance >= -variance_rounding), 0.0, variance)
    mean = (weights.T @ targets)[None]
    cut = residuals[0][:, None] * residuals[1][None, :] / (noise + least)
    truncation = cut[None], (residuals[0] ** 2 / (noise + least))[None]
    return _projection.Level(mean, variance[None], (mean_rounding[None], variance_rounding[None]), truncation)
