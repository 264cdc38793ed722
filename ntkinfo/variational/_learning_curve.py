"""Variational fits over training-set sizes."""

import os
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from tqdm import tqdm

from ntkinfo._common import check
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo.variational import _fit
from ntkinfo.variational._measure import measure
from ntkinfo.variational._sweep import _PATIENCE


class LearningCurve(NamedTuple):
    """Errors of fits on R random subsets of each of S sizes. Made by `learning_curve`.

    Attributes:
      sizes: (S,).
      error: test error, (S, R).
      i_xz_lower: InfoNCE on the test rows, nats, (S, R).
      i_yz_lower: H(Y) - cross-entropy there, nats, (S, R).
    """

    sizes: np.ndarray
    error: np.ndarray
    i_xz_lower: np.ndarray
    i_yz_lower: np.ndarray


def learning_curve(
    x,
    y,
    sizes,
    *,
    x_test,
    y_test,
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
      checkpoint: a folder that finished fits are written to; the same call goes on from it.
      progress: whether to show a bar over fits; None shows it for work longer than three seconds.
      **options: of `fit`: objective, beta, gamma, ...

    Raises:
      TypeError, ValueError: as `fit`; sizes out of range.
    """
    check.key(key)
    sizes = [check.integer("sizes", size, least=2) for size in np.atleast_1d(np.asarray(sizes))]
    x, y = np.asarray(x), np.asarray(y)
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer) and y.min(initial=0) >= 0:
        # A subset may lack a class.
        y = np.eye(int(max(y.max(), np.max(y_test))) + 1)[y]
    if max(sizes) > len(x):
        raise ValueError(f"`sizes` must be at most the {len(x)} rows of `x`; got {max(sizes)}.")
    repeats = check.integer("repeats", repeats)
    folder = None
    if checkpoint is not None:
        named = {
            "x or y": _checkpoint.content_hash(x) + _checkpoint.content_hash(y),
            "options": repr(sorted(options.items())),
        }
        named["key"] = _checkpoint.content_hash(_checkpoint.key_data(key))
        folder = _checkpoint.Checkpoint(checkpoint, named)
    found = np.empty((3, len(sizes), repeats))
    cells = [(i, r) for i in range(len(sizes)) for r in range(repeats)]
    for i, r in tqdm(
        cells, desc="learning curve", unit="fit", disable=progress is False, delay=0.0 if progress else _PATIENCE
    ):
        name = f"size_{sizes[i]}_{r}"
        stored = folder.load(name) if folder else None
        if stored is None:
            of_rows, of_fit, of_test = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, sizes[i]), r), 3)
            chosen = np.asarray(jax.random.permutation(of_rows, len(x)))[: sizes[i]]
            one = _fit.fit(x[chosen], y[chosen], key=of_fit, progress=False, **options)
            seen = measure(one, x_test, y_test, key=of_test)
            stored = {"values": np.array([float(seen.error), float(seen.i_xz_lower), float(seen.i_yz_lower)])}
            if folder:
                folder.save(name, stored)
        found[:, i, r] = stored["values"]
    return LearningCurve(np.asarray(sizes), *found)
