"""Groups of examples left out as a whole: small dense problems on the host, in float64."""

import numpy as np
from jax import Array
from jax import numpy as jnp
from scipy.linalg import cho_factor, cho_solve

from ntkinfo import gaussian
from ntkinfo._common import check
from ntkinfo.examples import _factor
from ntkinfo.gaussian import Gaussian
from ntkinfo.posterior import Posterior


def read(groups, n: int) -> np.ndarray:
    """Group numbers (n,) as integers, at least two of them different."""
    check.known("groups", groups)
    groups = np.asarray(check.values("groups", groups))
    if groups.dtype.kind not in "iu":
        raise TypeError(f"`groups` must hold integers, the group of each example; got dtype {groups.dtype}.")
    if groups.shape != (n,):
        raise ValueError(f"`groups` must have shape ({n},), one entry for each example; got {groups.shape}.")
    if len(np.unique(groups)) < 2:
        raise ValueError(f"`groups` must name at least two groups, so that one can be left out; got {groups[0]} alone.")
    return groups


def values(source, groups: np.ndarray, solve, read_labels) -> tuple:
    """Fields of a `GroupValue`, from `OfPosterior` or `OfEnsemble`."""
    numbers, sizes = np.unique(groups, return_counts=True)
    dtype = source.y.dtype
    rows = [solve(np.flatnonzero(groups == number)) for number in numbers]
    information, shared = (
        None if rows[0][i] is None else jnp.asarray(np.array([row[i] for row in rows]), dtype) for i in (0, 1)
    )
    error = None
    if read_labels.classes is not None:
        error = [
            _error(source, np.flatnonzero(groups == number), *row[2:], read_labels)
            for number, row in zip(numbers, rows, strict=True)
        ]
        error = jnp.asarray(np.array(error), dtype)
    return jnp.asarray(numbers), jnp.asarray(sizes), information, shared, error


def _error(source, index, residual, variance, read_labels):
    y, variance = np.asarray(source.y, np.float64)[index], np.maximum(variance, 0.0)
    arrays = (jnp.asarray(array) for array in (y, residual, variance, read_labels.classes[index]))
    return float(np.mean(np.asarray(error_of(*arrays))))


def error_of(y: Array, residual: Array, variance: Array, classes: Array) -> Array:
    """0-1 error (..., n) of one network: means y - residual (..., n, k), variances (..., n); labels y, classes (n,)."""
    # On the host: a difference of arrays of any length compiles nothing there.
    z = Gaussian(jnp.asarray(np.asarray(y) - np.asarray(residual)), variance)
    if y.shape[1] == 1:
        return gaussian.sign_error(z, y)
    return jnp.asarray(1 - np.asarray(gaussian.winning_of(z.mean, variance, classes)))


def refuse_certain(variance: Array) -> None:
    """Refuses test inputs (m,) whose outputs are known to rounding: the divergence there is infinite."""
    certain = np.flatnonzero(~(np.asarray(variance) > 0))
    if certain.size:
        raise ValueError(
            f"`test` must not hold inputs whose outputs are known to rounding, as inputs trained on are; got variance "
            f"0 at row {certain[0]} ({certain.size} such rows). Leave them out, or compute in float64."
        )


def _double(*arrays):
    return (np.asarray(array, np.float64) for array in arrays)


class OfPosterior:
    """Groups of a posterior, by blocks of C = (Q + σ²I)⁻¹, which may be at hand."""

    def __init__(self, post: Posterior, c: np.ndarray | None, at_test):
        self.noise, self.k = float(post.noise), post.k
        if c is None:
            u, q, y = _double(post.eigenvectors, post.eigenvalues, post.y_rotated)
            self.c, self.covariance = (u / (q + self.noise)) @ u.T, (u * q) @ u.T
            self.y, self.solved = u @ y, (u / (q + self.noise)) @ y
        else:
            self.c, self.covariance, self.y = _double(c, post.q, _factor.labels(post))
            self.solved = self.c @ self.y
        self.at_test = None if at_test is None else tuple(_double(*at_test))

    def __call__(self, index):
        c, z, y, noise, k = self.c[np.ix_(index, index)], self.solved[index], self.y[index], self.noise, self.k
        factor = cho_factor(c, lower=True)
        inverse = cho_solve(factor, np.eye(len(index)))
        residual = inverse @ z
        log_det = 2 * np.sum(np.log(np.diag(factor[0])))
        unique = -log_det - len(index) * np.log(noise) - len(index) + noise * np.trace(c)
        unique = 0.5 * (k * unique + np.sum(z * residual) - noise * np.sum(z**2))
        before = cho_factor(self.covariance[np.ix_(index, index)] + noise * np.eye(len(index)), lower=True)
        shared = k * (log_det + 2 * np.sum(np.log(np.diag(before[0]))))
        shared = 0.5 * (shared + np.sum(y * cho_solve(before, y)) - np.sum(z * residual))
        if self.at_test is not None:
            weights, known = self.at_test
            weights = weights[:, index]
            a = np.sum((weights @ inverse) * weights, axis=1) / known
            moved = np.sum((weights @ residual) ** 2, axis=1) / known
            unique = 0.5 * np.mean(k * (np.log1p(a) - a / (1 + a)) + moved / (1 + a))
        return unique, shared, residual, np.diag(inverse) - noise


class OfEnsemble:
    """Groups of an ensemble at t = ∞, by blocks of Θ⁻¹."""

    def __init__(self, ens, at_test):
        u, rates, nngp, y = _double(ens.eigenvectors, ens.eigenvalues, ens.nngp_rotated, ens.y_rotated)
        rows = u / rates
        self.k = ens.k
        self.inverse, self.solved = rows @ u.T, rows @ y
        self.spread = rows @ nngp @ rows.T
        self.at_test = None if at_test is None else tuple(_double(*at_test))

    def __call__(self, index):
        block = np.ix_(index, index)
        back = np.linalg.inv(self.inverse[block])
        residual = back @ self.solved[index]
        covariance = back @ self.spread[block] @ back.T
        information = None
        if self.at_test is not None:
            influence, joint, known = self.at_test
            influence, joint = influence[:, index], joint[:, index] @ back.T
            without = (
                known + np.sum((influence @ covariance) * influence, axis=1) + 2 * np.sum(influence * joint, axis=1)
            )
            ratio = known / np.maximum(without, np.finfo(np.float64).eps * known)
            moved = np.sum((influence @ residual) ** 2, axis=1) * ratio / known
            information = 0.5 * np.mean(self.k * (ratio - 1 - np.log(ratio)) + moved)
        return information, None, residual, np.diag(covariance)
