"""The solver of the bottlenecks: the self-consistent equations for a whole grid of β at once.

The implementation of `ntkinfo.bottleneck`: no checks, on the host, in NumPy. Nothing is compiled, so that the first
call costs what the next does, whatever the sizes. A solution is a list of clusters, log p(z) and log p(y|z); the
encoder follows from it. Every β starts from Z = X, so they vectorise; solutions of neighbouring β are then exchanged in
both directions, which is what annealing up and down would find, and the lowest free energy is kept.
"""

import functools

import jax
import numpy as np
import scipy.sparse

from ntkinfo._common import parallel
from ntkinfo._numerics.entropy import plogp
from ntkinfo.bottleneck import _branch_and_bound, _duality_gap, _many_clusters, _newton, _newton_cg
from ntkinfo.bottleneck._distortion import (
    Problem,
    decode,
    decoder,
    distortion,
    log_decode,
    log_decoder,
    log_floored,
)
from ntkinfo.bottleneck._sweeps import (
    EMPTY,
    MANY_INPUTS,
    Solution,
    best_share,
    encoders,
    is_used,
    measured,
    merge_costs,
    n_used,
    solve,
)

# A start from a neighbouring β is judged after this many plain steps.
WARMUP_STEPS = 24
# Where Newton steps follow, so many sweeps go before them at most; of many inputs fewer, whose sweeps cost the square.
SWEEPS_BEFORE_NEWTON, _SWEEPS_OF_MANY = 400, 48
# The two closest clusters of a solution that does not converge are tried as one where that costs less than this, in
# nats divided by β.
ALIKE_COST = 1e-4
# But not of more clusters: all pairs are looked at again and again.
MAX_ALIKE = 64
# Up to this many unknowns Newton steps have a matrix; of more they are products. There a decoder of log G above the
# second is missing.
_MAX_NEWTON_UNKNOWNS, _MISSING = 640, 1e-10
# A start of all inputs is thinned to so many numbers (z, x) of an encoder, but not to fewer clusters.
_START_ENTRIES, _LEAST_START = 2**22, 256


def keep_better(first: Solution, second: Solution, least_gain: float = 0.0) -> Solution:
    """Of two solutions for each β the one of the lower free energy."""
    better = second.free_energy < first.free_energy - least_gain
    return _replaced(first, better, _selected(second, better))


def identity_start(problem: Problem, n_beta: int) -> tuple[np.ndarray, np.ndarray]:
    """The start Z = X for each β."""
    log_p_y_given_z = log_decoder(problem, problem.features)
    return np.tile(np.log(problem.p_x), (n_beta, 1)), np.tile(log_p_y_given_z, (n_beta, 1, 1))


def thinned_start(problem: Problem, n_beta: int) -> tuple[np.ndarray, np.ndarray]:
    """The start Z = X for each β, of many inputs with alike ones as one: what they lack, duality finds."""
    n = len(problem.p_x)
    most = max(_START_ENTRIES // n, _LEAST_START)
    if n <= most:
        return identity_start(problem, n_beta)
    group = _duality_gap.groups(problem, most)
    members = scipy.sparse.csr_array((problem.p_x, (group, np.arange(n))))
    mass = members.sum(axis=1)
    log_s = log_floored(decoder(problem, (members @ problem.features) / mass[:, None]))
    return np.tile(np.log(mass), (n_beta, 1)), np.tile(log_s, (n_beta, 1, 1))


def newton_refine(problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int) -> Solution:
    """Newton steps where the iterations have not converged, then iterations again."""
    slow = np.flatnonzero(solution.residual > tolerance)
    many = are_many(solution)[slow]
    for chosen, refine in ((slow[~many], _newton.refine), (slow[many], functools.partial(_refine_many, tolerance))):
        if len(chosen):
            start = _refined(problem, beta[chosen], alpha, _selected(solution, chosen), refine)
            if refine is _newton.refine or alpha < 1:
                refined = solve(problem, beta[chosen], alpha, *start, tolerance=tolerance, max_steps=max_steps)
            else:
                # Sweeps would take them away from where duality has nothing left to add.
                refined = measured(problem, beta[chosen], alpha, *start)
            better = refined.free_energy <= solution.free_energy[chosen] + 1e-13
            better &= np.isfinite(refined.free_energy)
            solution = _replaced(solution, chosen[better], _selected(refined, better))
    return solution


def are_many(solution: Solution) -> np.ndarray:
    """Whether clusters are too many for a matrix of all their unknowns, (B,)."""
    return n_used(solution) * (1 + solution.log_p_y_given_z.shape[2]) > _MAX_NEWTON_UNKNOWNS


def _refined(problem, beta, alpha, solution, refine) -> tuple[np.ndarray, np.ndarray]:
    """The clusters (B, z) and (B, z, y) that `refine` makes of those of each β."""
    counts = n_used(solution)

    def run(i):
        clusters = solution.log_p_z[i, : counts[i]], solution.log_p_y_given_z[i, : counts[i]]
        return refine(problem, float(beta[i]), alpha, *clusters)

    clusters = parallel.map(run, list(range(len(beta))))
    width = max(len(log_p_z) for log_p_z, _ in clusters)
    log_p_z = [np.pad(z, (0, width - len(z)), constant_values=EMPTY) for z, _ in clusters]
    log_p_y_given_z = [np.pad(s, ((0, width - len(s)), (0, 0)), mode="edge") for _, s in clusters]
    return np.maximum(log_p_z, EMPTY), np.maximum(log_p_y_given_z, EMPTY)


def _refine_many(tolerance, problem, beta, alpha, log_p_z, log_p_y_given_z):
    """As `_newton.refine`; where α = 1 with all that duality finds missing."""
    if alpha < 1:
        return _newton_cg.refine(problem, beta, alpha, log_p_z, log_p_y_given_z, tolerance=tolerance / 2)
    options = {"tolerance": tolerance, "gap_tolerance": _MISSING}
    return _many_clusters.improve(problem, beta, log_p_z, log_p_y_given_z, **options)


def warm_start_from_neighbours(
    problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int, rounds: int = 3
) -> Solution:
    """Tries the solution of each neighbouring β, from above and from below, until none is better."""
    order = np.argsort(beta, kind="stable")
    # Where nothing has changed since the last round, there is nothing new to try.
    fresh = np.full(len(beta), True)
    for _ in range(rounds):
        changed = np.full(len(beta), False)
        for source, target in ((order[1:], order[:-1]), (order[:-1], order[1:])):
            new = fresh[source] | changed[source]
            source, target = source[new], target[new]
            if not len(target):
                continue
            start = (solution.log_p_z[source], solution.log_p_y_given_z[source])
            # A few steps tell whether a start is promising: the solutions it must beat have converged.
            tried = solve(problem, beta[target], alpha, *start, tolerance=1e-5, max_steps=WARMUP_STEPS)
            least_gain = 1e-12 * (1 + np.abs(solution.free_energy[target]))
            better = tried.free_energy < solution.free_energy[target] - least_gain
            if better.any():
                start = (tried.log_p_z[better], tried.log_p_y_given_z[better])
                target = target[better]
                changed[target] = True
                tried = solve(problem, beta[target], alpha, *start, tolerance=tolerance, max_steps=max_steps)
                solution = _replaced(solution, target, tried)
        fresh = changed
        if not changed.any():
            break
    return solution


def certify(
    problem: Problem, beta, solution: Solution, *, gap_tolerance: float, solve_options: dict, rounds: int = 6
) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solutions with the clusters found missing, their duality gaps (B,), and which of these are proven (B,).

    Two to four labels: the gap is a proven upper bound. More: that of the largest G found.
    """
    options = {"gap_tolerance": gap_tolerance, "solve_options": solve_options, "rounds": rounds}
    n_labels = problem.p_y_given_x.shape[1]
    solution, gaps, missing = add_missing_clusters(problem, beta, solution, **options)
    if n_labels not in _branch_and_bound.TOLERANCE:
        return solution, gaps, np.full(len(beta), False)
    proven, unproven = np.array(gaps), np.arange(len(beta))
    for _ in range(rounds):
        clusters = solution.log_p_z[unproven], solution.log_p_y_given_z[unproven]
        known = np.maximum(gaps[unproven], 0)
        bounds = _duality_gap.proven_bounds(problem, beta[unproven], *clusters, known=known)
        proven[unproven] = [bound.upper for bound in bounds]
        # Where the search has overlooked a cluster, it is added, and the new solution bounded in its turn.
        found = np.array([bound.found for bound in bounds])
        overlooked = found > np.maximum(gaps[unproven], gap_tolerance)
        if not overlooked.any():
            break
        unproven, decoders = unproven[overlooked], np.array([bound.s for bound in bounds])[overlooked]
        gaps[unproven], missing[unproven] = found[overlooked], decoders
        solution, gaps, missing = _with_missing_clusters(problem, beta, solution, gaps, missing, **options)
    return solution, np.maximum(proven, gaps), np.full(len(beta), True)


def add_missing_clusters(
    problem: Problem, beta, solution: Solution, *, gap_tolerance: float, solve_options: dict, rounds: int = 6
) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solutions with the clusters that a search for the largest G finds missing; log max G (B,), and where (B, y).

    What one β lacks does not depend on which others are asked for: neighbours alone leave a sparse grid behind.
    """
    gaps, missing = _gaps(problem, beta, solution)
    options = {"gap_tolerance": gap_tolerance, "solve_options": solve_options, "rounds": rounds}
    return _with_missing_clusters(problem, beta, solution, gaps, missing, **options)


def _with_missing_clusters(
    problem: Problem, beta, solution: Solution, gaps, missing, *, gap_tolerance, solve_options, rounds
) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solutions to which the missing clusters (B, y) were added while that lowers the gap; gaps and what is missing."""
    gaps, missing = np.array(gaps), np.array(missing)
    for i in range(rounds):
        # Of many clusters the first round has added all it can.
        loose = np.flatnonzero((gaps > gap_tolerance) & (~are_many(solution) | (i == 0)))
        if not len(loose):
            break
        current = _selected(solution, loose)
        # Of many clusters as many may be missing: all of them at once.
        many = are_many(current)
        tried = current
        for chosen, add in ((~many, _with_one_more), (many, _with_all_missing)):
            if chosen.any():
                part = _selected(current, chosen)
                added = add(problem, beta[loose][chosen], part, missing[loose][chosen], solve_options)
                tried = _replaced(tried, chosen, added)
        gaps_tried, missing_tried = _gaps(problem, beta[loose], tried)
        # Near rounding the free energy cannot tell which is better; the gap can.
        drop = current.free_energy - tried.free_energy
        better = (drop > 1e-13) | ((gaps_tried < gaps[loose]) & (drop > -1e-13))
        if not better.any():
            break
        loose = loose[better]
        solution = _replaced(solution, loose, _selected(tried, better))
        gaps[loose], missing[loose] = gaps_tried[better], missing_tried[better]
    return solution, gaps, missing


def _with_one_more(problem: Problem, beta, solution: Solution, missing, solve_options) -> Solution:
    """Solutions from the clusters of each β and one of the decoders that are missing (B, y)."""
    log_missing = log_floored(missing)[:, None]
    share = best_share(problem, beta, solution.log_p_z, solution.log_p_y_given_z, log_missing)[:, None]
    log_p_z = np.concatenate([solution.log_p_z + np.log1p(-share), np.log(share)], 1)
    log_p_y_given_z = np.concatenate([solution.log_p_y_given_z, log_missing], 1)
    return solve_fast(problem, beta, 1.0, log_p_z, log_p_y_given_z, **solve_options)


def _with_all_missing(problem: Problem, beta, solution: Solution, _, solve_options) -> Solution:
    """Solutions from the clusters of each β and all that are found missing."""
    refine = functools.partial(_refine_many, solve_options["tolerance"])
    return measured(problem, beta, 1.0, *_refined(problem, beta, 1.0, solution, refine))


def solve_fast(
    problem: Problem, beta, alpha, log_p_z, log_p_y_given_z, *, tolerance: float, max_steps: int, callback=None
) -> Solution:
    """`solve` with Newton steps once the first sweeps are done, then sweeps to the end where these were not enough."""
    before = _SWEEPS_OF_MANY if len(problem.p_x) > MANY_INPUTS else SWEEPS_BEFORE_NEWTON
    options = {"tolerance": tolerance, "max_steps": min(max_steps, before)}
    solution = solve(problem, beta, alpha, log_p_z, log_p_y_given_z, callback=callback, **options)
    options["max_steps"] = min(max_steps, SWEEPS_BEFORE_NEWTON)
    solution = newton_refine(problem, beta, alpha, solution, **options)
    return finish_sweeps(problem, beta, alpha, solution, tolerance=tolerance, max_steps=max_steps)


def finish_sweeps(problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int) -> Solution:
    """Alike clusters as one where that is as good, sweeps to the end, and Newton steps, for the β not converged yet."""
    more = max_steps - SWEEPS_BEFORE_NEWTON
    # Of many clusters Newton steps and duality have made what can be made.
    left = np.flatnonzero((solution.residual > tolerance) & ~are_many(solution))
    if not len(left) or more <= 0:
        return solution
    options = {"tolerance": tolerance, "max_steps": min(more, SWEEPS_BEFORE_NEWTON)}
    # Just past a transition F hardly depends on how many of the new clusters there are, and no step tells them apart.
    left = left[n_used(solution)[left] <= MAX_ALIKE]
    while len(left):
        clusters = zip(solution.log_p_z[left], solution.log_p_y_given_z[left], strict=True)
        fewer = [_closest_merged(*each) for each in clusters]
        left = left[[cost < ALIKE_COST for *_, cost in fewer]]
        if not len(left):
            break
        fewer = [each for each in fewer if each[2] < ALIKE_COST]
        start = [np.stack([each[part] for each in fewer]) for part in (0, 1)]
        tried = solve(problem, beta[left], alpha, *start, **options)
        tried = newton_refine(problem, beta[left], alpha, tried, **options)
        better = tried.free_energy <= solution.free_energy[left] + 1e-13
        solution = _replaced(solution, left[better], _selected(tried, better))
        left = left[better & (tried.residual > tolerance)]
    left = np.flatnonzero((solution.residual > tolerance) & ~are_many(solution))
    if not len(left):
        return solution
    options["max_steps"] = more
    start = solution.log_p_z[left], solution.log_p_y_given_z[left]
    tried = solve(problem, beta[left], alpha, *start, **options)
    return _replaced(solution, left, newton_refine(problem, beta[left], alpha, tried, **options))


def _closest_merged(log_p_z, log_p_y_given_z):
    """The clusters (z,) and (z, y) at one β with those two as one that cost least to merge, and that cost in nats."""
    used = is_used(log_p_z)
    mass, decoders, cost = _merged_pair(np.exp(log_p_z[used]), np.exp(log_p_y_given_z[used]))
    log_p_z, log_p_y_given_z = np.full_like(log_p_z, EMPTY), log_p_y_given_z.copy()
    log_p_z[: len(mass)], log_p_y_given_z[: len(mass)] = np.log(mass), log_floored(decoders)
    return log_p_z, log_p_y_given_z, cost


def _merged_pair(mass, decoders):
    """Masses (z - 1,) and decoders (z - 1, y) with the two as one that cost least to merge, and that cost in nats."""
    if len(mass) < 2:
        return mass, decoders, np.inf
    first, second = np.triu_indices(len(mass), 1)
    cost, mixture = merge_costs(mass, decoders, -np.sum(plogp(decoders), axis=1), first, second)
    best = int(np.argmin(cost))
    a, b = first[best], second[best]
    decoders, mass = decoders.copy(), mass.copy()
    decoders[a], mass[a] = mixture[best], mass[a] + mass[b]
    return np.delete(mass, b), np.delete(decoders, b, axis=0), float(cost[best])


def _selected(solution: Solution, where) -> Solution:
    return Solution(*(array[where] for array in solution))


def _replaced(solution: Solution, where, new: Solution) -> Solution:
    """`solution` with those of `new` in some places; both get as many clusters as the wider one has."""
    width = max(solution.log_p_z.shape[1], new.log_p_z.shape[1])
    result, new = _widened(solution, width), _widened(new, width)
    for name in Solution._fields:
        getattr(result, name)[where] = getattr(new, name)
    return result


def _widened(solution: Solution, width: int) -> Solution:
    """A copy of the solutions, `width` clusters each."""
    extra = width - solution.log_p_z.shape[1]
    return Solution(
        np.pad(solution.log_p_z, ((0, 0), (0, extra)), constant_values=EMPTY),
        np.pad(solution.log_p_y_given_z, ((0, 0), (0, extra), (0, 0)), mode="edge"),
        np.array(solution.free_energy),
        np.array(solution.residual),
    )


def _gaps(problem: Problem, beta, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """log max_s G for every β, (B,), and the maximisers, (B, y), as far as a search finds them."""
    counts = n_used(solution)
    clusters = [
        (log_p_z[:count], log_p_y_given_z[:count])
        for log_p_z, log_p_y_given_z, count in zip(solution.log_p_z, solution.log_p_y_given_z, counts, strict=True)
    ]
    maxima = _duality_gap.maxima(problem, beta, clusters)
    return np.array([each.log_g for each in maxima]), np.array([each.s for each in maxima])


def single_cluster(problem: Problem, beta) -> Solution:
    """One cluster for every β."""
    log_p_y = log_decode(problem, problem.p_x[None, :])
    mean_distortion = float(problem.p_x @ distortion(problem, log_p_y)[:, 0])
    n_beta = len(beta)
    return Solution(
        np.zeros((n_beta, 1)),
        np.tile(log_p_y[None], (n_beta, 1, 1)),
        np.asarray(beta, float) * mean_distortion,
        np.zeros(n_beta),
    )


def random_start(problem: Problem, n_beta: int, key) -> tuple[np.ndarray, np.ndarray]:
    """As many clusters as inputs, each a random mixture of few inputs."""
    n = len(problem.p_x)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    log_p_y_given_z = log_floored(decode(problem, rng.dirichlet(np.full(n, 0.3), n)))
    return np.full((n_beta, n), -np.log(n)), np.tile(log_p_y_given_z[None], (n_beta, 1, 1))


def partition_start(problem: Problem, assignments) -> tuple[np.ndarray, np.ndarray]:
    """The clusters of given partitions of the inputs, one for each β."""
    n, p_x = len(problem.p_x), problem.p_x
    members = np.asarray(assignments)[:, None, :] == np.arange(n)[None, :, None]
    p_zx = members * p_x[None, None]
    p_z = p_zx.sum(2)
    p_x_given_z = np.where(p_z[:, :, None] > 0, p_zx, p_x) / np.where(p_z > 0, p_z, 1)[:, :, None]
    return log_floored(p_z), log_floored(decode(problem, p_x_given_z))


def merge_down_to(
    n_clusters: int, problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int
) -> Solution:
    """At most `n_clusters` of them: the two that cost least to merge become one, again and again; then solved anew."""
    log_p_z, log_p_y_given_z = solution.log_p_z.copy(), solution.log_p_y_given_z.copy()
    for i, used in enumerate(is_used(log_p_z)):
        mass, decoders = np.exp(log_p_z[i, used]), np.exp(log_p_y_given_z[i, used])
        while len(mass) > n_clusters:
            mass, decoders, _ = _merged_pair(mass, decoders)
        log_p_z[i], count = EMPTY, len(mass)
        log_p_z[i, :count] = np.log(mass)
        log_p_y_given_z[i, :count] = log_floored(decoders)
    start = log_p_z[:, :n_clusters], log_p_y_given_z[:, :n_clusters]
    return solve(problem, beta, alpha, *start, tolerance=tolerance, max_steps=max_steps)


def encoder(problem: Problem, beta: float, alpha, log_p_z, log_p_y_given_z) -> np.ndarray:
    """p(z|x), (x, z), of the clusters (z,) and (z, y) at one β; clusters not in use get 0."""
    return encoders(problem, np.full(1, float(beta)), alpha, log_p_z[None], log_p_y_given_z[None])[0]
