"""Variational fits over training-set sizes."""

import inspect
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Integer

from ntkinfo._common import check, tables
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo._common import progress as progress_bar
from ntkinfo.variational import _fit, _validate
from ntkinfo.variational._measure import measure_rows
from ntkinfo.variational._validate import Inputs, Labels, TestInputs, TestLabels


class LearningCurve(NamedTuple):
    """Errors of fits on R random subsets of each of S sizes. Made by `learning_curve`.

    Attributes:
      sizes: (S,).
      error: test error, (S, R).
      i_xz_lower: InfoNCE on the test rows, nats, (S, R).
      i_yz_lower: H(Y) - cross-entropy there, nats, (S, R); NaN for a regression.
    """

    sizes: np.ndarray
    error: np.ndarray
    i_xz_lower: np.ndarray
    i_yz_lower: np.ndarray

    _table = tables.Table(("sizes", "repeat"), nats="i_xz_lower i_yz_lower", plain="error")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def learning_curve(
    x: Inputs,
    y: Labels,
    sizes: Integer[ArrayLike, "*s"] | Sequence[int],
    *,
    x_test: TestInputs,
    y_test: TestLabels,
    key: Array,
    repeats: int = 3,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
    **options,
) -> LearningCurve:
    """Test error of `fit` against the size of the training set.

    Args:
      x: inputs, (n, ...), of which subsets are drawn.
      y: labels, as for `fit`.
      sizes: training rows, (S,), integers.
      x_test: test inputs.
      y_test: their labels.
      key: random key, of the subsets and the fits.
      repeats: R subsets of each size.
      checkpoint: a folder that finished fits are written to; the same call goes on from it, with further sizes and
        repeats too.
      progress: whether to show a bar over fits; None shows it for work longer than three seconds.
      **options: of `fit`: objective, beta, gamma, ...; a table of `label_noise.model` has a row for each row of `x`.

    Returns:
      A `LearningCurve`.

    Raises:
      TypeError, ValueError: as `fit`; sizes out of range.
      DivergedError: as `fit`.
    """
    check.on_host(locals())
    check.key("key", key)
    check.flag("progress", progress, none=True)
    if checkpoint is not None:
        checkpoint = check.path("checkpoint", checkpoint)
    sizes = _sizes(sizes)
    repeats = check.integer("repeats", repeats)
    task = options.get("task", "classes")
    rows, test = _validate.read_rows(x, y, x_test, y_test, task, _n_classes(y, y_test))
    if max(sizes) > len(rows.x):
        raise ValueError(f"`sizes` must be at most the {len(rows.x)} rows of `x`; got {max(sizes)}.")
    folder = None
    if checkpoint is not None:
        folder = _checkpoint.Checkpoint(checkpoint, _arguments(rows, test, key, options))
    x, y = np.asarray(rows.x), np.asarray(rows.y)
    noise = options.pop("label_noise", None)
    values = np.empty((3, len(sizes), repeats))
    cells = [(i, r) for i in range(len(sizes)) for r in range(repeats)]
    for i, r in progress_bar.bar(cells, desc="learning curve", unit="fit", progress=progress):
        name = f"size_{sizes[i]}_{r}"
        stored = folder.load(name) if folder else None
        if stored is None:
            cell_key = jax.random.fold_in(jax.random.fold_in(key, sizes[i]), r)
            key_rows, key_fit, key_test = jax.random.split(cell_key, 3)
            chosen = np.asarray(jax.random.permutation(key_rows, len(x)))[: sizes[i]]
            noise_there = _validate.noise_of_rows(noise, chosen, len(x))
            fit = _fit.fit(x[chosen], y[chosen], key=key_fit, label_noise=noise_there, progress=False, **options)
            measurement = measure_rows(fit, test, key_test)
            i_yz_lower = np.nan if measurement.i_yz_lower is None else float(measurement.i_yz_lower)
            stored = {"values": np.array([float(measurement.error), float(measurement.i_xz_lower), i_yz_lower])}
            if folder:
                folder.save(name, stored)
        values[:, i, r] = stored["values"]
    return LearningCurve(np.asarray(sizes), *values)


def _sizes(sizes) -> list[int]:
    sizes = np.atleast_1d(np.asarray(check.values("sizes", sizes)))
    if sizes.ndim != 1 or not sizes.size:
        raise ValueError(f"`sizes` must be one integer or a list of them, not empty; got shape {sizes.shape}.")
    return [check.integer("sizes", size, least=2) for size in sizes.tolist()]


def _n_classes(y, y_test) -> int | None:
    """How many classes integer labels name together: a subset, or the rows to fit, may lack one; None for others."""
    labels = [np.asarray(check.values(name, given)) for name, given in (("y", y), ("y_test", y_test))]
    integers = [y for y in labels if y.ndim == 1 and y.size and np.issubdtype(y.dtype, np.integer)]
    return max(int(y.max()) + 1 for y in integers) if len(integers) == len(labels) else None


def _arguments(rows, test, key, options) -> dict[str, str]:
    """What must be the same to go on: that of the fit of all rows, with the test rows and the key of the curve."""
    given = inspect.signature(_fit.fit).bind(*rows, key=key, **options)
    given.apply_defaults()
    rest = {
        name: value
        for name, value in given.arguments.items()
        if name not in ("x", "y", "x_test", "y_test", "checkpoint", "progress")
    }
    return _fit.make_plan(rows, None, **rest).arguments() | {"x_test or y_test": _validate.hashes(test)}
