"""Newton steps on the clusters of a bottleneck, near a transition, where iterations hardly move.

Unknowns are a and u with log p(z) = a - LSE(a) and log p(y|z) = u - LSE(u). With ψ(x, z) = log p(z) - β d(x, z) the
free energy is F = -α Σ_x p(x) LSE_z ψ/α, so that d²F = -Σ_x p(x) (E_q d²ψ + Var_q[dψ]/α), q = p(z|x).
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from ntkinfo.bottleneck._distortion import Problem, log_sum_exp, slopes

_MAX_STEPS = 150
# Shares of a step that are tried where it is too long.
_SHORTER = (0.5, 0.2, 0.05, 0.01)


class _Derivatives(NamedTuple):
    """F, its gradient (n,), and the Hessian (n, n) of n = z (1 + y) unknowns, those of a cluster side by side.

    The Hessian is empty where it was not asked for.
    """

    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def derivatives(problem: Problem, beta: float, alpha: float, a, u, hessian: bool = True) -> _Derivatives:
    """F at `a` (z,) and `u` (z, y), exact, and its derivatives with respect to them."""
    log_p_z, log_s = a - log_sum_exp(a), u - log_sum_exp(u)
    p_z, s, features = np.exp(log_p_z), np.exp(log_s), problem.features
    vector, number = slopes(problem, log_s)
    logits = ((log_p_z - beta * number)[:, None] + beta * (vector @ features.T)) / alpha
    total = log_sum_exp(logits, 0)
    q = np.exp(logits - total)
    value = float(problem.p_x @ (beta * problem.own - alpha * total[0]))
    joint = problem.p_x * q
    mass = joint.sum(1)
    n_z, n_y = u.shape
    # dψ(x, z) with respect to the unknowns of z; the shift of log p(z), common to all z, drops out of the variance.
    phi = np.ones((n_z, len(problem.p_x), 1 + n_y))
    if problem.dual:
        cost = features[None] - log_s[:, None]
        phi[:, :, 1:] = beta * s[:, None] * (cost - np.sum(s[:, None] * cost, axis=2, keepdims=True))
    else:
        phi[:, :, 1:] = beta * (features[None] - s[:, None])
    mean = (joint[:, None] @ phi)[:, 0]
    gradient = -mean
    gradient[:, 0] += p_z
    if not hessian:
        return _Derivatives(value, gradient.ravel(), np.zeros((0, 0)))
    root = (np.sqrt(problem.p_x) * q)[:, :, None] * phi
    root = root.swapaxes(0, 1).reshape(len(problem.p_x), -1)
    matrix = (root.T @ root / alpha).reshape(n_z, 1 + n_y, n_z, 1 + n_y)
    own = -(phi * joint[:, :, None]).swapaxes(1, 2) @ phi / alpha
    spread = s[:, :, None] * (np.eye(n_y) - s[:, None])
    if problem.dual:
        tilt = mean[:, 1:]
        own[:, 1:, 1:] -= tilt[:, :, None] * np.eye(n_y) - tilt[:, :, None] * s[:, None] - s[:, :, None] * tilt[:, None]
    own[:, 1:, 1:] += beta * mass[:, None, None] * spread
    z = np.arange(n_z)
    matrix[z, :, z, :] += own
    matrix[:, 0, :, 0] += np.diag(p_z) - p_z[:, None] * p_z
    return _Derivatives(value, gradient.ravel(), matrix.reshape(n_z * (1 + n_y), -1))


def _step(now: _Derivatives, n_z: int) -> tuple[np.ndarray, float]:
    """Newton's step (n,), and the least curvature met; downhill along negative curvature too.

    Flat directions, the normalisations, are left as they are.
    """
    matrix = now.hessian
    n = len(matrix)
    # The normalisations, made curved, change no other direction.
    curved = matrix.reshape(n_z, n // n_z, n_z, n // n_z).copy()
    z = np.arange(n_z)
    curved[:, 0, :, 0] += np.abs(np.trace(matrix)) / n_z**2
    curved[z, 1:, z, 1:] += np.trace(curved[z, 1:, z, 1:], axis1=1, axis2=2)[:, None, None] + 1e-300
    curved = curved.reshape(n, n)
    scale = 1 / np.sqrt(np.maximum(np.diag(curved), 1e-300))
    try:
        factor = scipy.linalg.cho_factor(curved * scale[:, None] * scale, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        size = np.where(np.abs(values) > 1e-14, np.abs(values), np.inf)
        return -vectors @ ((vectors.T @ now.gradient) / size), float(values[0])
    # Positive definite: several times as fast as the eigenvalues.
    return -scale * scipy.linalg.cho_solve(factor, scale * now.gradient, check_finite=False), 0.0


def refine(problem: Problem, beta: float, alpha: float, log_p_z, log_p_y_given_z) -> tuple[np.ndarray, np.ndarray]:
    """Damped Newton steps from log p(z) (z,) and log p(y|z) (z, y) to the next stationary point downhill."""
    n_z, n_y = log_p_y_given_z.shape

    def unknowns(point):
        blocks = point.reshape(n_z, 1 + n_y)
        return blocks[:, 0], blocks[:, 1:]

    point = np.concatenate([log_p_z[:, None], log_p_y_given_z], axis=1).ravel()
    now = derivatives(problem, beta, alpha, *unknowns(point))
    for _ in range(_MAX_STEPS):
        # Downhill along negative curvature too, in which a cluster of little mass grows.
        step, _ = _step(now, n_z)
        step /= max(1, np.abs(step).max() / 2)
        tried = derivatives(problem, beta, alpha, *unknowns(point + step), False)
        # At rounding F cannot tell any more; the gradient can.
        level = tried.value <= now.value + 1e-14 * (1 + abs(now.value))
        if not (level and np.linalg.norm(tried.gradient) < 0.5 * np.linalg.norm(now.gradient)):
            # Along a flat valley only a short part of the step goes down.
            parts = [1.0, *_SHORTER]
            values = [tried.value]
            values += [derivatives(problem, beta, alpha, *unknowns(point + by * step), False).value for by in _SHORTER]
            best = int(np.argmin(values))
            if not values[best] < now.value:
                break
            step = parts[best] * step
        point = point + step
        now = derivatives(problem, beta, alpha, *unknowns(point))
    a, u = unknowns(point)
    return a - log_sum_exp(a), u - log_sum_exp(u)


def is_minimum(problem: Problem, beta: float, log_p_z, log_p_y_given_z) -> bool:
    """Whether nothing is left of the gradient of F at α = 1, and F curves down nowhere; but for rounding."""
    now = derivatives(problem, beta, 1.0, log_p_z, log_p_y_given_z)
    return bool(np.abs(now.gradient).max() < 1e-11) and _step(now, len(log_p_z))[1] > -1e-9
