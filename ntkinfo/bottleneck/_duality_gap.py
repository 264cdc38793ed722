"""How far a bottleneck solution is from the global optimum: an upper bound from convex duality.

The optimum over all decoders is a convex problem in the measure ν of decoders s. With
G(s) = Σ_x p(x) e^{-β d(x,s)} / Z(x), Z(x) = Σ_z p(z) e^{-β d(x,z)}, the optimum has G ≤ 1 everywhere, and any solution
is within log max_s G(s) nats of it. The maximiser is the cluster that is missing. On the host, in NumPy.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from ntkinfo._common import parallel
from ntkinfo.bottleneck import _branch_and_bound
from ntkinfo.bottleneck._distortion import (
    Problem,
    decoder,
    distortion,
    is_within_range,
    log_floored,
    log_sum_exp,
    slopes,
)
from ntkinfo.bottleneck._squarem import squarem_step

# Ascents of at most so many steps; one has ended when log G has not changed in so many of them, or when a quadratic
# form of negative curvature leaves less to gain than rounding.
MAX_STEPS, STILL_STEPS = 100, 3
ROUNDING = 4 * float(np.finfo(float).eps)
# Of up to so many decoders, the midpoints of their pairs are starts too.
MAX_PAIRED = 8
# Where there are more starts, the so many best after a few plain steps are followed to their end.
N_FOLLOWED = 32
WARMUP_STEPS = 12
# Points of the simplex closer than this are alike; log G above the second is not rounding.
ALIKE, ABOVE_ROUNDING = 1e-2, 1e-9
# Groups of a tree that are starts, at most.
MAX_CENTRES = 256
# Of so many clusters, those closest to a split, both halves are starts that are always followed: the relative change of
# their decoders, and the power iterations that find its direction.
N_SPLIT, SPLIT_CHANGE, POWER_ITERATIONS = 8, 0.1, 30
# A decoder that a plain step moves by no more than this stays where it is.
_STILL = 1e-9
# A Newton step ends at most this share of the way to the edge of the simplex; a curvature below this counts as it.
_WITHIN, _FLAT = 0.9, 1e-12
# Probabilities below this count as this where a label's curvature is divided by them.
_SMALLEST = 1e-100
# Exponents above this overflow, or nearly so.
_OVERFLOWING = 600.0
# Pivots above this are those of a matrix that curves up in all directions.
_CURVED = 1e-6
# Of fewer inputs threads, which do little at a time, wait for one another.
_THREADED = 256
# Eigenvalues of so few matrices take no longer than what there is to call for all at once.
_FEW = 24
# Numbers for points times inputs held at once: what stays in the cache of a CPU core.
_ENTRIES = 2**16
# Of more labels the matrices of Newton's steps cost more than the plain steps that they save.
_MANY_LABELS, _MAX_CYCLES = 16, 300


class Maximum(NamedTuple):
    """The largest G over all decoders s, as far as a search finds it.

    Attributes:
      log_g: log G at the maximiser: a lower bound on the maximum, nats.
      s: (y,) the maximiser.
      candidates: (k, y) all the points the search ended at.
      log_g_candidates: (k,) log G there.
      left: (l, y) points on the way up, with log G above rounding, that were not followed.
      log_g_left: (l,) log G there.
    """

    log_g: float
    s: np.ndarray
    candidates: np.ndarray
    log_g_candidates: np.ndarray
    left: np.ndarray
    log_g_left: np.ndarray


def proven_bounds(
    problem: Problem, beta, log_p_z, log_p_y_given_z, *, known=None, tolerance: float | None = None
) -> list["_branch_and_bound.Bound"]:
    """Proven upper bounds on log max_s G for clusters (B, z) and (B, z, y), for two to four labels.

    Such a bound is one on F - F*, the distance of a solution from the global optimum, in nats:
    F = -Σ_x p(x) log Σ_z p(z) e^{-β d(x,z)} is its free energy, F* the least over all measures of decoders.

    Args:
      problem: the problem.
      beta: (B,).
      log_p_z: (B, z) log p(z) of the clusters; very small or -∞ for a cluster not in use.
      log_p_y_given_z: (B, z, y) log p(y|z), finite.
      known: (B,) values of log G already found.
      tolerance: how far above the largest value found the bounds may end; None for that of the number of labels.

    Source: theory, section 7 (certificate).
    """
    if tolerance is None:
        tolerance = _branch_and_bound.TOLERANCE[problem.p_y_given_x.shape[1]]
    clusters = zip(beta, log_p_z, log_p_y_given_z, strict=True)
    log_c = np.stack([np.log(problem.p_x) - log_partition(problem, *each) for each in clusters])
    options = {"dual": problem.dual, "known": known, "tolerance": tolerance}
    return _branch_and_bound.upper_bounds(log_c, problem.p_y_given_x, np.asarray(beta), **options)


def maximise(problem: Problem, beta: float, log_p_z, log_p_y_given_z) -> Maximum:
    """`maxima` for one β and its clusters (z,) and (z, y)."""
    return maxima(problem, np.full(1, float(beta)), [(np.asarray(log_p_z), np.asarray(log_p_y_given_z))])[0]


def climb(problem: Problem, beta: float, log_p_z, log_p_y_given_z, s) -> float:
    """log G at the local maximum that the ascent from a decoder s (y,) ends at."""
    landscape = _Landscape(problem, np.full(1, float(beta)), [(np.asarray(log_p_z), np.asarray(log_p_y_given_z))])
    who = np.zeros(1, int)
    return float(landscape.log_g(_ascended(landscape, np.asarray(s)[None], who), who)[0])


def row_starts(problem: Problem) -> np.ndarray:
    """Where ascents of G start whatever the clusters, (k, y): near every p(y|x), and the groups of their tree."""
    near = 0.95 * problem.features + 0.05 * (problem.p_x @ problem.features)
    return np.concatenate([decoder(problem, near), tree_centres(problem, problem.p_y_given_x, problem.p_x)])


def maxima(
    problem: Problem, beta: Float[np.ndarray, " b"], clusters: list[tuple], of_rows: np.ndarray | None = None
) -> list[Maximum]:
    """The largest log G(s) over the simplex of decoders s, in nats, for each β and its clusters.

    Ascent from every p(y|x), every decoder, (of few decoders) the midpoint of every two, the groups of agglomerative
    trees of the rows and of the decoders, and both halves of the clusters closest to a split, each step raising G (s ←
    the decoder of the weights p(x) e^{-β d(x,s)}/Z(x), or Newton's step where that raises it more); the best after a
    few steps are followed to their end. The maximum is searched, not proven: see `proven_bounds`.

    Args:
      problem: the problem.
      beta: β, positive, (B,).
      clusters: for each β log p(z) (z,), very small or -∞ for a cluster not in use, and log p(y|z) (z, y), finite.
      of_rows: `row_starts`, where they are known.

    Returns:
      A `Maximum` for each β. Cost O(cycles × starts × |X| × |Y|).

    Source: theory, section 7 (certificate).
    """
    beta = np.asarray(beta, np.float64)
    if of_rows is None:
        of_rows = row_starts(problem)
    # Neighbouring β take about as long: every core takes its β at even distances.
    large = len(problem.p_x) >= _THREADED
    n = max(min(parallel.cores(), len(beta) // 8), 1) if large else 1
    parts = [np.arange(len(beta))[i::n] for i in range(n)]
    found: list = [None] * len(beta)

    def run(part):
        return _maxima(problem, beta[part], [clusters[i] for i in part], of_rows)

    for part, results in zip(parts, parallel.map(run, parts), strict=True):
        for i, result in zip(part, results, strict=True):
            found[i] = result
    return found


def tree_centres(
    problem: Problem, p: Float[ArrayLike, "k y"], mass: Float[ArrayLike, " k"]
) -> Float[np.ndarray, "n y"]:
    """The decoders of the groups of an agglomerative tree of distributions `p`, (n, y) for n = min(k - 1, 256).

    A cluster that gathers many alike distributions lies in the basin of none of them, nor of the middle of two. Ward's
    tree of their square roots (Hellinger's distance) has it as a node; of more nodes the last ones, the largest groups,
    are kept. On the host.
    """
    p, mass = np.asarray(p, np.float64), np.asarray(mass, np.float64)
    if len(p) < 2:
        return np.zeros((0, p.shape[1]))
    pairs = _tree(p)[:, :2].astype(int)
    features, mass = log_floored(p) if problem.dual else p, np.maximum(mass, 1e-12)
    # Sums over the members of each node, its mass first.
    sums = np.zeros((2 * len(p) - 1, 1 + p.shape[1]))
    sums[: len(p), 0], sums[: len(p), 1:] = mass, mass[:, None] * features
    for node, (first, second) in enumerate(pairs, len(p)):
        sums[node] = sums[first] + sums[second]
    sums = sums[len(p) :][-MAX_CENTRES:]
    return decoder(problem, sums[:, 1:] / sums[:, :1])


def groups(problem: Problem, n: int) -> np.ndarray:
    """Numbers (x,) of the group of each input where the tree of p(y|x) is cut into `n` groups, from 0."""
    return fcluster(_tree(problem.p_y_given_x), n, "maxclust") - 1


def _tree(p: np.ndarray) -> np.ndarray:
    """Ward's tree of the square roots of distributions (k, y), as SciPy's `linkage` has it."""
    # Distances, not rows: a square table with a zero diagonal would be taken for a matrix of distances, and warned of.
    return linkage(pdist(np.sqrt(p)), "ward")


def log_partition(
    problem: Problem, beta: float, log_p_z: Float[np.ndarray, " z"], log_p_y_given_z: Float[np.ndarray, "z y"]
) -> Float[np.ndarray, " x"]:
    """log Z(x) = log Σ_z p(z) e^{-β d(x,z)}, (x,), nats."""
    return log_sum_exp(log_p_z[None, :] - beta * distortion(problem, log_p_y_given_z), 1)[:, 0]


class _Landscape:
    """log G of several β: points s (k, y) with the number of their β (k,)."""

    def __init__(self, problem: Problem, beta, clusters):
        self.problem, self.beta = problem, beta
        log_z = (log_partition(problem, one, *each) for one, each in zip(beta, clusters, strict=True))
        self.log_c = np.log(problem.p_x) - np.stack(list(log_z)) - beta[:, None] * problem.own
        self.n_at_once = max(1, _ENTRIES // max(len(problem.p_x), problem.features.shape[1] ** 2))

    @functools.cached_property
    def products(self):
        """f_y(x) f_y'(x) of the features, (x, y y')."""
        features = self.problem.features
        return (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)

    @functools.cached_property
    def with_ones(self):
        """1 and the features, (x, 1 + y)."""
        return np.insert(self.problem.features, 0, 1.0, axis=1)

    def logits(self, s, who):
        """log c(x) - β d(x, s), (k, x), whose log-sum-exp is log G."""
        vector, number = slopes(self.problem, log_floored(s))
        logits = (self.beta[who, None] * vector) @ self.problem.features.T
        logits += self.log_c[who]
        logits -= (self.beta[who] * number)[:, None]
        return logits

    def log_g(self, s, who):
        return np.concatenate([self.odds(s[i], who[i])[3] for i in self.parts(len(s))])

    def parts(self, n):
        """Slices of `n` points, few enough of each to stay in a core's cache."""
        return [slice(i, i + self.n_at_once) for i in range(0, n, self.n_at_once)]

    def odds(self, s, who):
        """Weights of inputs at points (k, x), not normalised, the mean features they give (k, y), and log G there."""
        odds = self.logits(s, who)
        # What would overflow is computed again.
        np.exp(np.minimum(odds, _OVERFLOWING, out=odds), out=odds)
        moments = odds @ self.with_ones
        total, shift = moments[:, :1], np.zeros((len(s), 1))
        # Near the optimum G is at most 1, and there is nothing to overflow; where there is, relative to the largest.
        within = is_within_range(total[:, 0])
        if not within.all():
            i = np.flatnonzero(~within)
            logits = self.logits(s[i], who[i])
            shift[i] = logits.max(axis=1, keepdims=True)
            odds[i] = np.exp(logits - shift[i])
            moments[i] = odds[i] @ self.with_ones
        return odds, total, moments[:, 1:] / total, (shift + np.log(total))[:, 0]

    def weights(self, s, who):
        """The weights e^{logits}/G (k, x) that inputs have at points, and log G there."""
        odds, total, _, value = self.odds(s, who)
        odds /= total
        return odds, value

    def step(self, s, who):
        """The next points, and log G at those given."""
        _, _, mean, value = self.odds(s, who)
        return decoder(self.problem, mean), value

    def scaled(self, s, odds, total, mean):
        """√s (k, y), and the stability matrices (k, y, y) of points in coordinates δs = √s v.

        About a stationary point log G changes by -β vᵀ(1 - β M) v/2, for both distortions: M is
        s^{-½} Cov[p(y|x)] s^{-½}, or for the dual s^{½} Cov[log p(y|x)] s^{½} on changes that keep Σ s = 1, of the
        covariance under the weights odds/total.

        Source: theory, sections 7 and 8.
        """
        root = np.sqrt(np.maximum(s, _SMALLEST))
        n_labels = s.shape[1]
        matrix = (odds @ self.products / total).reshape(-1, n_labels, n_labels) - mean[:, :, None] * mean[:, None, :]
        if not self.problem.dual:
            return root, matrix / root[:, :, None] / root[:, None, :]
        matrix = matrix * root[:, :, None] * root[:, None, :]
        # Σ_y √s v = 0: along √s nothing moves.
        matrix = matrix - root[:, :, None] * (root[:, None, :] @ matrix)
        return root, matrix - (matrix @ root[:, :, None]) * root[:, None, :]

    def product(self, s, weights, v):
        """The stability matrices of `scaled` times v (k, y), without the matrices: for many labels."""
        features, root = self.problem.features, np.sqrt(np.maximum(s, _SMALLEST))

        def pulled(v):
            # δs = √s v that keeps Σ s = 1, for the dual; √s v / s, the change of log s, otherwise.
            return root * (v - root * np.sum(root * v, axis=1, keepdims=True)) if self.problem.dual else v / root

        change = pulled(v) @ features.T
        change -= np.sum(weights * change, axis=1, keepdims=True)
        out = (weights * change) @ features
        return root * (out - np.sum(s * out, axis=1, keepdims=True)) if self.problem.dual else out / root

    def newton(self, s, who):
        """The points that a plain step and Newton's go to, log G at those given, and how much is left to gain there.

        That is the quadratic form's, ∞ where it does not curve down in all directions.
        """
        beta = self.beta[who, None]
        odds, total, mean, value = self.odds(s, who)
        plain = decoder(self.problem, mean)
        root, matrix = self.scaled(s, odds, total, mean)
        if self.problem.dual:
            change = mean - log_floored(s)
            force = root * (change - np.sum(s * change, axis=1, keepdims=True))
        else:
            force = (plain - s) / root
        curved = np.eye(s.shape[1]) - beta[:, :, None] * matrix
        if len(s) > _FEW:
            solution, up = _solved(curved, force)
        else:
            solution, up = np.empty_like(force), np.full(len(s), False)
        left = np.where(up, np.sum(force * solution, axis=1) * beta[:, 0] / 2, np.inf)
        if not up.all():
            i = np.flatnonzero(~up)
            curvature, vectors = np.linalg.eigh(curved[i])
            along = (force[i, None, :] @ vectors)[:, 0]
            size = np.maximum(np.abs(curvature), _FLAT)
            solution[i] = (vectors @ (along / size)[:, :, None])[:, :, 0]
            gain = np.sum(along**2 / size, axis=1) * beta[i, 0] / 2
            left[i] = np.where(curvature.min(axis=1) > 0, gain, np.inf)
        change = root * solution
        room = np.divide(s, -change, out=np.full_like(s, np.inf), where=change < 0).min(axis=1, keepdims=True)
        new = s + np.minimum(_WITHIN * room, 1) * change
        new = np.where(s > _SMALLEST, new, plain)
        return plain, new / new.sum(axis=1, keepdims=True), value, left


def _solved(matrices, right):
    """Solutions (k, y) of symmetric matrices (k, y, y), and which of these have no pivot near or below 0, (k,).

    By L D Lᵀ of all at once: of many small matrices LAPACK's eigenvalues, one after the other, take several times as
    long.
    """
    a, x, n = np.ascontiguousarray(np.moveaxis(matrices, 0, -1)), np.ascontiguousarray(right.T), len(right.T)
    up = np.full(len(right), True)
    for i in range(n):
        up &= a[i, i] > _CURVED
        pivot = np.where(up, a[i, i], 1.0)
        a[i, i] = pivot
        factor = a[i + 1 :, i] / pivot
        a[i + 1 :, i + 1 :] -= factor[:, None] * a[None, i + 1 :, i]
        x[i + 1 :] -= factor * x[i]
    for i in reversed(range(n)):
        # What stands below a pivot is D L.
        x[i] = (x[i] - np.sum(a[i + 1 :, i] * x[i + 1 :], axis=0)) / a[i, i]
    return x.T.copy(), up


def _maxima(problem, beta, clusters, of_rows) -> list[Maximum]:
    """Extrapolated mean-shift ascents from many starts; the best points found."""
    landscape = _Landscape(problem, beta, clusters)
    decoders = [np.exp(each[1]) for each in clusters]
    starts = []
    for i, ((log_p_z, _), s) in enumerate(zip(clusters, decoders, strict=True)):
        # From a decoder that stays where it is no ascent leads away.
        moves = np.abs(landscape.step(s, np.full(len(s), i))[0] - s).max(axis=1) > _STILL
        parts = [of_rows, s[moves], tree_centres(problem, s, np.exp(log_p_z))]
        if len(s) <= MAX_PAIRED:
            first, second = np.triu_indices(len(s), 1)
            parts.append((s[first] + s[second]) / 2)
        starts.append(np.concatenate(parts))
    left = [(np.zeros((0, each.shape[1])), np.zeros(0)) for each in decoders]
    if max(map(len, starts)) > N_FOLLOWED:
        # Most starts run to the decoders there are: a few steps tell which are worth following.
        s, who = _flat(starts)
        s, values = _warmed_up(landscape, s, who)
        higher = values > ABOVE_ROUNDING
        left = [(s[mine], values[mine]) for mine in (higher & (who == i) for i in range(len(beta)))]
        starts = [_worth_following(s[who == i], values[who == i], decoders[i]) for i in range(len(beta))]
    halves = [_halves(landscape, i, s) for i, s in enumerate(decoders)]
    s, who = _flat([np.concatenate(each) for each in zip(starts, halves, strict=True)])
    s, who = _flat_pair(_ascended(landscape, s, who), who, decoders)
    values, result = landscape.log_g(s, who), []
    for i in range(len(beta)):
        mine = np.flatnonzero(who == i)
        best = mine[np.argmax(values[mine])]
        result.append(Maximum(float(values[best]), s[best], s[mine], values[mine], *left[i]))
    return result


def _warmed_up(landscape, s, who):
    """Points (k, y) after a few plain steps, and log G there."""
    s, values = s.copy(), np.empty(len(s))
    for part in landscape.parts(len(s)):
        for _ in range(WARMUP_STEPS):
            s[part] = landscape.step(s[part], who[part])[0]
        values[part] = landscape.step(s[part], who[part])[1]
    return s, values


def _flat(points):
    """Lists of points of each β as one array, and the β of each."""
    return np.concatenate(points), np.repeat(np.arange(len(points)), [len(each) for each in points])


def _flat_pair(s, who, decoders):
    more, of = _flat(decoders)
    return np.concatenate([s, more]), np.concatenate([who, of])


def _ascended(landscape, s, who):
    """Where the ascents from s (k, y) end: plain steps, and Newton's steps that gain."""
    if s.shape[1] > _MANY_LABELS:
        return _extrapolated(landscape, s, who)
    result, active = s.copy(), np.arange(len(s))
    before, still = np.full(len(s), -np.inf), np.zeros(len(s), int)
    for _ in range(MAX_STEPS):
        going = np.full(len(active), False)
        for part in landscape.parts(len(active)):
            here = active[part]
            of = who[here]
            plain, newton, value, left = landscape.newton(result[here], of)
            still[here] = np.where(np.abs(value - before[here]) <= ROUNDING, still[here] + 1, 0)
            before[here] = value
            # A plain step never loses; where log G is not concave, Newton's must gain more than that does.
            wild = ~np.isfinite(left)
            least = value.copy()
            if wild.any():
                least[wild] = landscape.log_g(plain[wild], of[wild])
            better = landscape.log_g(newton, of) > least
            result[here] = np.where(better[:, None], newton, plain)
            going[part] = (still[here] < STILL_STEPS) & (left > ROUNDING)
        active = active[going]
        if not len(active):
            break
    return result


def _extrapolated(landscape, s, who):
    """Where ascents of extrapolated plain steps from s (k, y) end."""
    result, active, still = s.copy(), np.arange(len(s)), np.zeros(len(s), int)
    before, point = np.full(len(s), np.inf), (s,)

    def step(point):
        new, value = landscape.step(point[0], who[active])
        return (new,), -value

    def norm(changes, _):
        return [np.linalg.norm(change, axis=1) for (change,) in changes]

    def project(extrapolated, second):
        # Outside the simplex there is no decoder: there the ascent goes on by plain steps.
        return (np.where(np.all(extrapolated[0] > 0, axis=1, keepdims=True), extrapolated[0], second[0]),)

    for _ in range(_MAX_CYCLES):
        point, value, _ = squarem_step(step, point, norm=norm, project=project)
        still[active] = np.where(np.abs(value - before[active]) <= ROUNDING, still[active] + 1, 0)
        before[active] = value
        result[active] = point[0]
        going = still[active] < STILL_STEPS
        if not going.any():
            break
        active, point = active[going], (point[0][going],)
    return result


def _worth_following(s, values, decoders):
    """Of points s (k, y) with log G = `values` (k,) the `N_FOLLOWED` largest that are neither alike nor at a decoder.

    Many run to the decoders there are, where log G = 0: by their values alone they would crowd out what still climbs.
    """

    def squared_distances(a, b):
        return np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :] - 2 * a @ b.T

    known = squared_distances(s, decoders).min(axis=1) < ALIKE**2
    values = np.where(known & (values < ABOVE_ROUNDING), -np.inf, values)
    index = np.argsort(-values, kind="stable")[: 4 * N_FOLLOWED]
    s, values, place = s[index], values[index], np.arange(len(index))
    alike = (squared_distances(s, s) < ALIKE**2) & (place[None, :] < place[:, None])
    return s[np.argsort(np.where(alike.any(axis=1), np.inf, -values), kind="stable")[:N_FOLLOWED]]


def _halves(landscape, i, decoders):
    """Decoders to both sides of those along which log G curves up most, (2 k, y) of at most `N_SPLIT` clusters.

    A cluster that is about to split has its decoder at a saddle of G, from which an ascent does not move. The direction
    is that of the largest eigenvalue of the stability matrix (theory, section 7), times √s, for both distortions.
    """
    directions, sizes = [], []
    for part in landscape.parts(len(decoders)):
        s = decoders[part]
        who = np.full(len(s), i)
        if s.shape[1] > _MANY_LABELS:
            weights, _ = landscape.weights(s, who)
            # Any vector will do that no direction of the problem is orthogonal to.
            r = np.cos(1.0 + np.arange(s.size)).reshape(s.shape)
            for _ in range(POWER_ITERATIONS):
                r = landscape.product(s, weights, r)
                length = np.linalg.norm(r, axis=1, keepdims=True)
                r = r / np.where(length > 0, length, 1)
            size = np.sum(r * landscape.product(s, weights, r), axis=1)
        else:
            odds, total, mean, _ = landscape.odds(s, who)
            values, vectors = np.linalg.eigh(landscape.scaled(s, odds, total, mean)[1])
            r, size = vectors[:, :, -1], values[:, -1]
        sizes.append(size)
        directions.append(np.sqrt(s) * r)
    chosen = np.argsort(-np.concatenate(sizes), kind="stable")[:N_SPLIT]
    change, s = np.concatenate(directions)[chosen], decoders[chosen]
    room = np.divide(s, np.abs(change), out=np.full_like(s, np.inf), where=change != 0).min(axis=1)
    change = change * np.where(np.isfinite(room), SPLIT_CHANGE * room, 0)[:, None]
    return np.concatenate([s + change, s - change])
