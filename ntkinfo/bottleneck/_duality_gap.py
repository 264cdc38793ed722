"""How far a bottleneck solution is from the global optimum: an upper bound from convex duality.

The optimum over all decoders is a convex problem in the measure ν of decoders s. With
G(s) = Σ_x p(x) e^{-β d(x,s)} / Z(x), Z(x) = Σ_z p(z) e^{-β d(x,z)}, the optimum has G ≤ 1 everywhere, and any solution
is within log max_s G(s) nats of it. The maximiser is the cluster that is missing.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist

from ntkinfo._numerics.entropy import plogp
from ntkinfo.bottleneck._distortion import Problem, decode, distortion, log_floored
from ntkinfo.bottleneck._squarem import squarem_step

# Two classes: each round of the branch and bound halves the most promising intervals, from twice as many at the start.
# 512 intervals of the arc; 24 halvings narrow one to 2^-32 where no more than 256 of them must be halved.
N_INTERVALS = 256
N_BISECTIONS = 24
# More classes: extrapolated ascents of at most so many cycles.
MAX_CYCLES = 300
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


class Maximum(NamedTuple):
    """The largest G over all decoders s.

    Attributes:
      log_g: log max_s G(s), nats; an upper bound for two classes, otherwise the largest value found.
      s: (y,) the maximiser.
      log_g_found: log G(s) at `s`: a lower bound on the maximum.
      candidates: (k, y) all the points the search ended at.
      log_g_candidates: (k,) log G there.
    """

    log_g: Array
    s: Array
    log_g_found: Array
    candidates: Array
    log_g_candidates: Array


def gap(
    problem: Problem, beta: ArrayLike, log_p_z: Float[ArrayLike, " z"], log_p_y_given_z: Float[ArrayLike, "z y"]
) -> Float[Array, ""]:
    """Upper bound on F - F*, the distance of a bottleneck solution from the global optimum, in nats.

    F = -Σ_x p(x) log Σ_z p(z) e^{-β d(x,z)} is the free energy of the solution, F* the least over all measures of
    decoders. Their distance is at most log max_s G(s). Proof for two classes and search for more: see `maximise`.

    Args:
      problem: the problem.
      beta: β, a positive scalar.
      log_p_z: (z,) as in `maximise`.
      log_p_y_given_z: (z, y).

    Returns:
      The bound, a scalar. At rounding level it may come out as -1e-16.
    """
    return maximise(problem, beta, log_p_z, log_p_y_given_z).log_g


@jax.jit
def maximise(
    problem: Problem,
    beta: ArrayLike,
    log_p_z: Float[ArrayLike, " z"],
    log_p_y_given_z: Float[ArrayLike, "z y"],
    centres: Float[ArrayLike, "k y"] | None = None,
) -> Maximum:
    """The largest log G(s) over the simplex of decoders s, in nats. A pure core; `vmap` over β and solutions.

    Two classes: branch and bound over the interval between the smallest and the largest p(y|x), beyond which G cannot
    be largest; `log_g` is a proven upper bound but for rounding. More classes: ascent from every p(y|x), every decoder,
    (of few decoders) the midpoint of every two, both halves of those closest to a split, and the centres given, each
    step raising G (s ← the decoder of the weights p(x) e^{-β d(x,s)}/Z(x)), the best after a few steps followed to
    their end; the maximum is searched, not proven: see `_branch_and_bound` for three and four classes.

    Args:
      problem: the problem.
      beta: β, a positive scalar.
      log_p_z: (z,) log p(z) of the clusters; very small or -∞ for a cluster not in use.
      log_p_y_given_z: (z, y) log p(y|z), finite.
      centres: (k, y) further decoders to start from, see `tree_centres`.

    Returns:
      A `Maximum`. Cost: two classes O(bisections × 512 × |X|), more O(cycles × starts × |X| × |Y|).

    Source: theory, section 7 (certificate).
    """
    log_p_z, log_p_y_given_z = jnp.asarray(log_p_z), jnp.asarray(log_p_y_given_z)
    log_c = jnp.log(problem.p_x) - log_partition(problem, beta, log_p_z, log_p_y_given_z)
    if problem.p_y_given_x.shape[1] == 2:
        return _interval(problem, log_c, beta, log_p_y_given_z)
    return _ascend(problem, log_c, beta, log_p_y_given_z, centres)


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
    # Distances, not rows: a square table with a zero diagonal would be taken for a matrix of distances, and warned of.
    pairs = linkage(pdist(np.sqrt(p)), "ward")[:, :2].astype(int)
    weights = np.zeros((2 * len(p) - 1, len(p)))
    weights[: len(p)] = np.diag(np.maximum(mass, 1e-12))
    for node, (first, second) in enumerate(pairs, len(p)):
        weights[node] = weights[first] + weights[second]
    weights = weights[len(p) :][-MAX_CENTRES:]
    weights /= weights.sum(axis=1, keepdims=True)
    if not problem.dual:
        return weights @ p
    # The decoder of a group is the geometric mean there.
    logs = weights @ np.log(np.maximum(p, 1e-300))
    centres = np.exp(logs - logs.max(axis=1, keepdims=True))
    return centres / centres.sum(axis=1, keepdims=True)


def log_partition(
    problem: Problem, beta: ArrayLike, log_p_z: Float[Array, " z"], log_p_y_given_z: Float[Array, "z y"]
) -> Float[Array, " x"]:
    """log Z(x) = log Σ_z p(z) e^{-β d(x,z)}, (x,), nats."""
    return jax.nn.logsumexp(log_p_z[None, :] - beta * distortion(problem, log_p_y_given_z), axis=1)


def log_g(
    problem: Problem, log_c: Float[Array, " x"], beta: ArrayLike, log_s: Float[Array, "k y"]
) -> Float[Array, " k"]:
    """log G at the decoders of logarithms `log_s` (k, y), as (k,); `log_c` (x,) is log p(x) - log Z(x)."""
    return jax.nn.logsumexp(log_c[:, None] - beta * distortion(problem, log_s), axis=0)


def _ascend(problem, log_c, beta, log_p_y_given_z, centres):
    """Extrapolated mean-shift ascent from many starts; the best point found."""
    dtype = problem.p_y_given_x.dtype
    decoders = jnp.exp(log_p_y_given_z)
    inside = 0.95 * jnp.eye(len(problem.p_x), dtype=dtype) + 0.05 * problem.p_x[None, :]
    starts = [decode(problem, inside), decoders]
    if len(decoders) <= MAX_PAIRED:
        first, second = jnp.triu_indices(len(decoders), 1)
        starts.append((decoders[first] + decoders[second]) / 2)
    if centres is not None:
        starts.append(jnp.asarray(centres, dtype))
    starts = jnp.concatenate(starts)

    def step(s):
        logits = (log_c[:, None] - beta * distortion(problem, log_floored(s))).T
        return decode(problem, jax.nn.softmax(logits, axis=1)), -jax.nn.logsumexp(logits, axis=1, keepdims=True)

    def norm(change, _):
        return jnp.linalg.norm(change, axis=1, keepdims=True)

    def project(extrapolated, second):
        # Outside the simplex there is no decoder: there the ascent goes on by plain steps.
        return jnp.where(jnp.all(extrapolated > 0, axis=1, keepdims=True), extrapolated, second)

    def cycle(state):
        s, before, count, _ = state
        s, value, _ = squarem_step(step, s, norm=norm, project=project)
        return s, value, count + 1, jnp.max(jnp.abs(value - before))

    def unfinished(state):
        return (state[2] < MAX_CYCLES) & (state[3] > 4 * jnp.finfo(dtype).eps)

    if len(starts) > N_FOLLOWED:
        # Most starts run to the decoders there are: a few steps tell which are worth following.
        starts = jax.lax.fori_loop(0, WARMUP_STEPS, lambda _, s: step(s)[0], starts)
        starts = _worth_following(starts, log_g(problem, log_c, beta, log_floored(starts)), decoders)
    starts = jnp.concatenate([starts, _halves(problem, log_c, beta, decoders)])
    infinite = jnp.full((len(starts), 1), jnp.inf, dtype)
    s = jax.lax.while_loop(unfinished, cycle, (starts, infinite, 0, infinite[0, 0]))[0]
    values = log_g(problem, log_c, beta, jnp.concatenate([log_floored(s), log_p_y_given_z]))
    best, candidates = jnp.argmax(values), jnp.concatenate([s, decoders])
    return Maximum(values[best], candidates[best], values[best], candidates, values)


def _worth_following(s, values, decoders):
    """Of points s (k, y) with log G = `values` (k,) the `N_FOLLOWED` largest that are neither alike nor at a decoder.

    Many run to the decoders there are, where log G = 0: by their values alone they would crowd out what still climbs.
    """

    def squared_distances(a, b):
        return jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None, :] - 2 * a @ b.T

    known = jnp.min(squared_distances(s, decoders), axis=1) < ALIKE**2
    values = jnp.where(known & (values < ABOVE_ROUNDING), -jnp.inf, values)
    values, index = jax.lax.top_k(values, min(4 * N_FOLLOWED, len(s)))
    s, place = s[index], jnp.arange(len(index))
    alike = (squared_distances(s, s) < ALIKE**2) & (place[None, :] < place[:, None])
    return s[jax.lax.top_k(jnp.where(jnp.any(alike, axis=1), -jnp.inf, values), N_FOLLOWED)[1]]


def _halves(problem, log_c, beta, decoders):
    """Decoders to both sides of those along which log G curves up most, (2 k, y) of at most `N_SPLIT` clusters.

    A cluster that is about to split has its decoder at a saddle of G, from which an ascent does not move. The direction
    is that of the largest eigenvalue of the stability matrix (theory, section 7), times √s, for both distortions.
    """
    root = jnp.sqrt(decoders)
    weights = jax.nn.softmax((log_c[:, None] - beta * distortion(problem, log_floored(decoders))).T, axis=1)

    def apply(r):
        if problem.dual:
            u = r * root
            inner = (u - decoders * jnp.sum(u, axis=1, keepdims=True)) @ problem.log_p_y_given_x.T
            inner = weights * (inner - jnp.sum(weights * inner, axis=1, keepdims=True))
            out = inner @ problem.log_p_y_given_x
            return root * (out - jnp.sum(decoders * out, axis=1, keepdims=True))
        u = r / jnp.where(root > 0, root, 1)
        inner = weights * (u @ problem.p_y_given_x.T - jnp.sum(u * decoders, axis=1, keepdims=True))
        out = inner @ problem.p_y_given_x - jnp.sum(inner, axis=1, keepdims=True) * decoders
        return out / jnp.where(root > 0, root, 1)

    def iterate(_, r):
        r = apply(r)
        length = jnp.linalg.norm(r, axis=1, keepdims=True)
        return r / jnp.where(length > 0, length, 1)

    # Any vector will do that no direction of the problem is orthogonal to.
    start = jnp.cos(1 + jnp.arange(decoders.size, dtype=decoders.dtype)).reshape(decoders.shape)
    r = jax.lax.fori_loop(0, POWER_ITERATIONS, iterate, start)
    chosen = jax.lax.top_k(jnp.sum(r * apply(r), axis=1), min(N_SPLIT, len(decoders)))[1]
    change, s = (root * r)[chosen], decoders[chosen]
    room = jnp.min(jnp.where(change != 0, s / jnp.where(change != 0, jnp.abs(change), 1), jnp.inf), axis=1)
    change = change * jnp.where(jnp.isfinite(room), SPLIT_CHANGE * room, 0)[:, None]
    return jnp.concatenate([s + change, s - change])


def _interval(problem, log_c, beta, log_p_y_given_z):
    """Branch and bound over s = (1 - t, t), the intervals with the largest bounds halved each round."""
    bound = partial(_bound_dual if problem.dual else _bound, problem, log_c, beta)
    second_class = problem.p_y_given_x[:, 1]
    angle = jnp.arcsin(jnp.sqrt(jnp.stack([jnp.min(second_class), jnp.max(second_class)])))
    edges = jnp.linspace(angle[0], angle[1], 2 * N_INTERVALS + 1)
    edges = jnp.sin(edges) ** 2

    def halve(_, state):
        low, high, rest = state
        order = jnp.argsort(-bound(low, high)[0])
        rest = jnp.maximum(rest, bound(low[order[N_INTERVALS:]], high[order[N_INTERVALS:]])[0].max())
        low, high = low[order[:N_INTERVALS]], high[order[:N_INTERVALS]]
        middle = jnp.sin((jnp.arcsin(jnp.sqrt(low)) + jnp.arcsin(jnp.sqrt(high))) / 2) ** 2
        return jnp.concatenate([low, middle]), jnp.concatenate([middle, high]), rest

    lowest = jnp.asarray(-jnp.inf, second_class.dtype)
    low, high, rest = jax.lax.fori_loop(0, N_BISECTIONS, halve, (edges[:-1], edges[1:], lowest))
    upper, at_low = bound(low, high)
    at = jnp.concatenate([low, jnp.exp(log_p_y_given_z[:, 1])])
    values = jnp.concatenate([at_low, log_g(problem, log_c, beta, log_p_y_given_z)])
    best, candidates = jnp.argmax(values), jnp.stack([1 - at, at], axis=1)
    return Maximum(jnp.maximum(upper.max(), rest), candidates[best], values[best], candidates, values)


def _bernoulli_kl(a, step):
    """KL(a ‖ a + step) between Bernoulli masses, accurate for small steps; a may be 0 or 1."""
    above = jnp.where(a > 0, -a * jnp.log1p(step / jnp.where(a > 0, a, 1)), 0)
    return above + jnp.where(a < 1, -(1 - a) * jnp.log1p(-step / jnp.where(a < 1, 1 - a, 1)), 0)


def _bound(problem, log_c, beta, low, high):
    """Upper bound of log G on [low, high], and log G at `low`, for D[p(y|x) ‖ s].

    log G is convex and increasing in (log s_0, log s_1), and the arc of decoders lies under its tangents: the maximum
    over the arc is at most that over the triangle of its ends and the crossing of the tangents there.
    """
    width = high - low
    # The tangent at 1 is log s_1 = 0: there the crossing is written from the lower end.
    base, other = jnp.where(high < 1, high, low), jnp.where(high < 1, low, high)
    pull = _bernoulli_kl(other, base - other) / jnp.where(width > 0, base - other, 1)
    cross = jnp.stack([jnp.log1p(-base) + pull * base, jnp.log(base) - pull * (1 - base)])
    at_high = jnp.stack([jnp.log1p(-high), jnp.log(high)])
    at_low = jnp.stack([jnp.log1p(-low), jnp.log(low)])
    rows = problem.p_y_given_x
    negative_entropy = jnp.sum(plogp(rows), axis=1)

    def value(logs):
        # 0 log 0 = 0: a class of probability zero under p(y|x) does not count.
        inner = sum(jnp.where(rows[:, y, None] > 0, rows[:, y, None] * logs[y][None, :], 0) for y in (0, 1))
        return jax.nn.logsumexp((log_c - beta * negative_entropy)[:, None] + beta * inner, axis=0)

    ends = value(at_low)
    return jnp.maximum(jnp.maximum(ends, value(at_high)), value(cross)), ends


def _bound_dual(problem, log_c, beta, low, high):
    """Upper bound of log G on [low, high], and log G at `low`, for D[s ‖ p(y|x)].

    log G = β H(s) + a convex function of t: under its chord, and H under its tangents at both ends.
    """
    width = high - low
    log_rows = problem.log_p_y_given_x

    def parts(t):
        entropy = -(plogp(t) + plogp(1 - t))
        line = (1 - t)[None, :] * log_rows[:, 0, None] + t[None, :] * log_rows[:, 1, None]
        return entropy, jax.nn.logsumexp(log_c[:, None] + beta * line, axis=0)

    (h_low, convex_low), (h_high, convex_high) = parts(low), parts(high)
    slope_low, slope_high = (jnp.log1p(-t) - jnp.log(t) for t in (low, high))
    turn = slope_low - slope_high
    back = jnp.where(turn > 0, _bernoulli_kl(high, -width) / jnp.where(turn > 0, turn, 1), 0)
    share = jnp.where(width > 0, back / jnp.where(width > 0, width, 1), 0)
    cross = beta * (h_high - slope_high * back) + convex_high + share * (convex_low - convex_high)
    ends = beta * h_low + convex_low
    return jnp.maximum(jnp.maximum(ends, beta * h_high + convex_high), cross), ends
