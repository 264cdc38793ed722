"""Newton steps on many clusters: products with the second derivatives in place of their matrix, and clusters dropped.

The unknowns are those of `_newton`. A product costs what a sweep does without its exponentials, O(z x y), so that the
conjugate gradients, preconditioned by the metric in which a sweep is a step of steepest descent, end in a small part of
the sweeps. Clusters that die do so at once: at fixed decoders F is convex in the masses, which are solved for with the
constraint that they are positive.

Source: theory, section 7 (large tables); Wang 2007 (masses and all missing clusters at once); Nocedal & Wright 2006,
algorithms 7.1 and 5.3 (conjugate gradients, preconditioned).
"""

import numpy as np
import scipy.linalg

from ntkinfo.bottleneck import _newton
from ntkinfo.bottleneck._distortion import Problem, distortion, log_sum_exp, slopes

# Newton steps, conjugate gradients of each, and exchanges of a masses' problem, at most.
_MAX_STEPS, _MAX_GRADIENTS, _MAX_EXCHANGES = 10, 400, 60
# Conjugate gradients after which the second derivatives of at most so many unknowns are factored, if these times the
# inputs are at most so many; and what is added to them until they curve up in all directions.
_CHEAP_GRADIENTS, _MAX_FACTORED, _MAX_ENTRIES = 80, 3000, 2**22
_SHIFTS = (0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1)
# Shares of a step that are tried where it is too long.
_SHORTER = (0.5, 0.2, 0.05, 0.01)
# Masses below this are none.
_NO_MASS = 1e-13
# Probabilities below this are not moved.
_FROZEN = 1e-250
# Newton steps on the masses alone, at most.
_MAX_MASS_STEPS = 30


class Point:
    """F at a (z,) and u (z, y), and its gradient in scaled unknowns: √p(z) a, √(β m(z) p(y|z)) u, as (z, 1 + y)."""

    def __init__(self, problem: Problem, beta: float, alpha: float, a, u):
        self.problem, self.beta, self.alpha = problem, beta, alpha
        self.log_p_z, self.log_s = a - log_sum_exp(a), u - log_sum_exp(u)
        self.p_z, self.s = np.exp(self.log_p_z), np.exp(self.log_s)
        vector, number = slopes(problem, self.log_s)
        logits = vector @ problem.features.T
        logits *= beta
        logits += (self.log_p_z - beta * number)[:, None]
        logits /= alpha
        largest = logits.max(axis=0)
        logits -= largest
        self.q = np.exp(logits, out=logits)
        total = self.q.sum(axis=0)
        self.q /= total
        self.value = float(problem.p_x @ (beta * problem.own - alpha * (largest + np.log(total))))
        # p(x) and p(x) f(x) side by side: sums of both in one product.
        self.weighted = problem.p_x[:, None] * np.insert(problem.features, 0, 1.0, axis=1)
        moments = self.q @ self.weighted
        self.mass = moments[:, 0]
        self.tilt = self._pulled(moments[:, 0], moments[:, 1:])
        weights = np.concatenate([self.p_z[:, None], beta * self.mass[:, None] * self.s], axis=1)
        self.scale = np.divide(1.0, np.sqrt(weights), out=np.zeros_like(weights), where=weights > _FROZEN)
        gradient = np.concatenate([(self.p_z - self.mass)[:, None], -self.tilt], axis=1)
        self.gradient = self.scale * gradient
        self.length = float(np.linalg.norm(self.gradient))

    def _pulled(self, ones, features):
        """Σ_x r(x, z) dψ/du of weights r with these sums over x of r and r f, (z,) and (z, y): (z, y)."""
        if self.problem.dual:
            cost = features - ones[:, None] * self.log_s
            return self.beta * self.s * (cost - np.sum(self.s * cost, axis=1, keepdims=True))
        return self.beta * (features - ones[:, None] * self.s)

    def product(self, scaled):
        """The second derivatives times a direction (z, 1 + y), both in scaled unknowns."""
        features, s = self.problem.features, self.s
        direction = self.scale * scaled
        da, du = direction[:, 0], direction[:, 1:]
        centred = s * (du - np.sum(s * du, axis=1, keepdims=True))
        if self.problem.dual:
            vector, number = centred, np.sum(centred * self.log_s, axis=1)
        else:
            vector, number = du, np.sum(s * du, axis=1)
        change = vector @ (self.beta * features.T)
        change += (da - self.beta * number)[:, None]
        change -= np.einsum("zx,zx->x", self.q, change)
        change *= self.q
        moments = change @ self.weighted
        of_a = self.p_z * (da - self.p_z @ da) - moments[:, 0] / self.alpha
        of_u = self.beta * self.mass[:, None] * centred - self._pulled(moments[:, 0], moments[:, 1:]) / self.alpha
        if self.problem.dual:
            tilt = self.tilt
            of_u -= tilt * (du - np.sum(s * du, axis=1, keepdims=True)) - s * np.sum(tilt * du, axis=1, keepdims=True)
        return self.scale * np.concatenate([of_a[:, None], of_u], axis=1)


class _Directions:
    """Newton's steps in scaled unknowns, (z, 1 + y), by conjugate gradients, until they meet negative curvature.

    Where clusters are alike these take hundreds of products; then they are preconditioned by the factor of the second
    derivatives, if there are not too many of these, and by the same at the next points for as long as it helps.
    """

    def __init__(self):
        self.solve = None

    def at(self, now: Point):
        """The direction from a point."""
        shape = now.gradient.shape
        size = now.gradient.size
        small = size <= _MAX_FACTORED and size * len(now.problem.p_x) <= _MAX_ENTRIES
        if self.solve is None or self.solve.shape != shape:
            self.solve = None
            step, ended = _conjugate_gradients(now, None, _CHEAP_GRADIENTS if small else _MAX_GRADIENTS)
            if ended or not small:
                return step
        else:
            step, ended = _conjugate_gradients(now, self.solve, _CHEAP_GRADIENTS // 4)
            if ended:
                return step
        self.solve = _Factor(now)
        return _conjugate_gradients(now, self.solve, _CHEAP_GRADIENTS)[0]


class _Factor:
    """The factor of the second derivatives at a point, in scaled unknowns, damped where they curve down."""

    def __init__(self, now: Point):
        self.shape = now.gradient.shape
        n_z, width = self.shape
        matrix = _newton.derivatives(now.problem, now.beta, now.alpha, now.log_p_z, now.log_s).hessian
        scale = now.scale.ravel()
        matrix = matrix * scale
        matrix *= scale[:, None]
        # The normalisations, along which nothing changes, made curved: √p(z), and √p(y|z) of each cluster.
        blocks = matrix.reshape(n_z, width, n_z, width)
        root, roots, z = np.sqrt(now.p_z), np.sqrt(now.s), np.arange(n_z)
        blocks[:, 0, :, 0] += root[:, None] * root
        blocks[z, 1:, z, 1:] += roots[:, :, None] * roots[:, None, :]
        diagonal, shift = np.arange(len(matrix)), 0.0
        # What does not move has no scale.
        matrix[diagonal, diagonal] += np.where(scale > 0, 0, 1)
        for more in _SHIFTS:
            matrix[diagonal, diagonal] += more - shift
            shift = more
            try:
                self.factor = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)
                return
            except np.linalg.LinAlgError:
                continue
        self.factor = np.eye(len(matrix)), True

    def __call__(self, residual):
        return scipy.linalg.cho_solve(self.factor, residual.ravel(), check_finite=False).reshape(self.shape)


def _conjugate_gradients(now: Point, precondition, most: int):
    """The step (z, 1 + y) after at most so many products, and whether it ended before: near enough, or downhill."""
    step, residual = np.zeros_like(now.gradient), -now.gradient
    # No nearer than the next step asks for, nor than rounding allows.
    enough = float(np.vdot(residual, residual)) * min(0.01, max(now.length, 1e-5)) ** 2
    nearer = residual if precondition is None else precondition(residual)
    along, square = nearer.copy(), float(np.vdot(residual, nearer))
    for _ in range(most):
        product = now.product(along)
        curvature = float(np.vdot(along, product))
        if curvature <= 1e-11 * float(np.vdot(along, along)):
            return (step if step.any() else along), True
        share = square / curvature
        step += share * along
        residual -= share * product
        if float(np.vdot(residual, residual)) <= enough:
            return step, True
        nearer = residual if precondition is None else precondition(residual)
        new = float(np.vdot(residual, nearer))
        along = nearer + (new / square) * along
        square = new
    return step, False


def refine(problem: Problem, beta: float, alpha: float, log_p_z, log_p_y_given_z, *, tolerance: float):
    """Damped Newton steps from log p(z) (z,) and log p(y|z) (z, y) to the next stationary point downhill.

    Where α = 1 clusters that the others make needless are dropped, and have log p(z) = -∞.

    Returns:
      log p(z) and log p(y|z), of the shapes given.
    """
    log_p_z, u = np.array(log_p_z), np.array(log_p_y_given_z)
    used = np.arange(len(log_p_z))
    if alpha == 1:
        log_p_z = masses(problem, beta, log_p_z, u)
        used = np.flatnonzero(np.isfinite(log_p_z))
    now, directions = Point(problem, beta, alpha, log_p_z[used], u[used]), _Directions()
    for _ in range(_MAX_STEPS):
        if now.length <= tolerance:
            break
        step = now.scale * directions.at(now)
        # A cluster that is about to die asks for a long step, which must not make those of the others short.
        step /= np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / 2)
        for share in (1.0, *_SHORTER):
            tried = Point(problem, beta, alpha, now.log_p_z + share * step[:, 0], now.log_s + share * step[:, 1:])
            # At rounding F cannot tell any more; the gradient can.
            level = tried.value <= now.value + 1e-14 * (1 + abs(now.value))
            if tried.value < now.value - 1e-14 * (1 + abs(now.value)) or (level and tried.length < 0.5 * now.length):
                break
        else:
            break
        now = tried
    result = np.full(len(log_p_z), -np.inf)
    result[used], u[used] = now.log_p_z, now.log_s
    return result, u


def masses(problem: Problem, beta: float, log_p_z, log_p_y_given_z) -> np.ndarray:
    """log p(z) (z,) of the least F at these decoders (z, y), -∞ where a cluster is not needed; α = 1.

    F + Σ p(z) is convex in p(z) ≥ 0, and least where Σ p(z) = 1: Newton steps, each a quadratic problem with positive
    masses.
    """
    logs = -beta * distortion(problem, log_p_y_given_z).T
    odds = np.exp(logs - logs.max(axis=0))
    p_x, w = problem.p_x, np.exp(log_p_z)

    def objective(w):
        return w.sum() - p_x @ np.log(w @ odds)

    value = objective(w)
    for _ in range(_MAX_MASS_STEPS):
        ratios = odds / (w @ odds)
        gradient = 1 - ratios @ p_x
        if max(-gradient.min(), np.abs(w * gradient).max()) < 1e-14:
            break
        curvature = (ratios * p_x) @ ratios.T
        # Σ p curvature w = G, so that the least of the quadratic form about w is that of xᵀCx/2 - (2 G - 1) x.
        goal = _positive_quadratic(curvature, 1 - 2 * gradient, w > _NO_MASS)
        for share in (1.0, *_SHORTER):
            tried = w + share * (goal - w)
            new = objective(tried)
            if new < value:
                break
        else:
            break
        w, done = tried, value - new < 1e-15 * (1 + abs(value))
        value = new
        if done:
            break
    w = np.where(w > _NO_MASS, w, 0)
    with np.errstate(divide="ignore"):
        return np.log(w / w.sum())


def _positive_quadratic(matrix, linear, free):
    """The least of xᵀ matrix x/2 - linear·x over x ≥ 0, (z,), by exchanges of what is held at 0, from `free` (z,).

    Source: Kim & Park 2011 (block principal pivoting).
    """
    n = len(linear)
    ridge = 1e-13 * np.trace(matrix) / n
    free, x, least, tries = free.copy(), np.zeros(n), n + 1, 3
    for _ in range(_MAX_EXCHANGES):
        x = np.zeros(n)
        index = np.flatnonzero(free)
        if len(index):
            block = matrix[np.ix_(index, index)] + ridge * np.eye(len(index))
            try:
                factor = scipy.linalg.cho_factor(block, lower=True, check_finite=False)
                x[index] = scipy.linalg.cho_solve(factor, linear[index], check_finite=False)
            except np.linalg.LinAlgError:
                x[index] = np.linalg.lstsq(block, linear[index], rcond=None)[0]
        slack = matrix @ x - linear
        wrong = np.where(free, x < 0, slack < -1e-14)
        count = int(wrong.sum())
        if not count:
            break
        if count < least:
            least, tries = count, 3
        elif tries:
            tries -= 1
        else:
            # One at a time cannot run in circles.
            wrong[: np.flatnonzero(wrong)[-1]] = False
        free = free ^ wrong
    return np.maximum(x, 0)
