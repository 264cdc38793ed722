"""Examples left out of ensembles that are trained for a finite time: every ensemble without one is decomposed anew."""

import jax.numpy as jnp
import numpy as np

from ntkinfo._common import memory, parallel
from ntkinfo._numerics import refits
from ntkinfo.ensemble import Ensemble
from ntkinfo.examples import _groups


def values(ens: Ensemble, t: np.ndarray, test, groups, read, batch_size) -> tuple:
    """Information (T, n) or None, residual (T, n, k) and variance (T, n), and parts of a `GroupValue` or None.

    Args:
      ens: the ensemble.
      t: training times, (T,), in float64.
      test: test inputs, (m, ...), or None.
      groups: group numbers, (n,), or None.
      read: `Labels` of the ensemble.
      batch_size: rows of a block of kernel evaluation.
    """
    n, m = ens.n, 0 if test is None else len(test)
    needed = refits.n_bytes(n, ens.k, len(t), m + 1, min(parallel.cores(), n))
    memory.require(f"`source` with n = {n} training inputs at {len(t)} times", needed, "Take fewer inputs or times.")
    full = refits.whole(ens.eigenvectors, ens.eigenvalues, ens.nngp_rotated, ens.y_rotated)
    further, known = None, None
    if test is not None:
        u = np.asarray(ens.eigenvectors, np.float64)
        cross = ens.cross_kernels(test, batch_size=batch_size)
        ntk, nngp, own = (np.asarray(part, np.float64) for part in (cross.ntk, cross.nngp, cross.prior))
        further = refits.Rows(ntk @ u.T, nngp @ u.T, own)
        known = refits.predict(full, np.arange(ens.n), further, t)
        _groups.refuse_certain(known[1].min(axis=0))

    def without(index):
        rest = np.setdiff1d(np.arange(ens.n), index)
        means, variances = refits.predict(full, rest, refits.examples(full, index, further), t)
        size = len(index)
        information = None if known is None else _divergence(known, means[:, size:], variances[:, size:])
        return information, full.y[index] - means[:, :size], variances[:, :size]

    rows = parallel.map(without, [np.array([i]) for i in range(ens.n)])
    information = None if known is None else np.stack([row[0] for row in rows], axis=1)
    residual, variance = (np.concatenate([row[i] for row in rows], axis=1) for i in (1, 2))
    found = None
    if groups is not None:
        numbers, sizes = np.unique(groups, return_counts=True)
        members = [np.flatnonzero(groups == number) for number in numbers]
        rows = parallel.map(without, members)
        apart = None if known is None else _array(np.stack([row[0] for row in rows], axis=1), ens)
        error = None
        if read.classes is not None:
            losses = [_error(ens, index, row, read) for index, row in zip(members, rows, strict=True)]
            error = _array(np.stack(losses, axis=1), ens)
        found = jnp.asarray(numbers), jnp.asarray(sizes), apart, None, error
    parts = (None if part is None else _array(part, ens) for part in (information, residual, variance))
    return *parts, found


def _array(value, ens):
    return jnp.asarray(value, ens.y.dtype)


def _divergence(known, means, variances) -> np.ndarray:
    """KL in nats (T,), the mean over inputs, of outputs with all examples from those without some."""
    mean, variance = known
    # Not below rounding of what it is the difference of.
    variances = np.maximum(variances, np.finfo(np.float64).eps * variance)
    ratio = variance / variances
    moved = np.sum((mean - means) ** 2, axis=2) / variances
    return 0.5 * np.mean(means.shape[2] * (ratio - 1 - np.log(ratio)) + moved, axis=1)


def _error(ens, index, row, read) -> np.ndarray:
    """Mean 0-1 error (T,) of one network trained without the examples `index`, at these."""
    y, classes = np.asarray(ens.y, np.float64)[index], np.asarray(read.classes)[index]
    return np.mean(np.asarray(_groups.error_of(*(jnp.asarray(part) for part in (y, row[1], row[2], classes)))), axis=1)
