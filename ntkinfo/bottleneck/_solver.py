"""The solver of the bottlenecks: the self-consistent equations for a whole grid of β at once.

The implementation of `ntkinfo.bottleneck`: no checks, on the host, in NumPy. Nothing is compiled, so that the first
call costs what the next does, whatever the sizes. A solution is a list of clusters, log p(z) and log p(y|z); the
encoder follows from it. Every β starts from Z = X, so they vectorise; solutions of neighbouring β are then exchanged in
both directions, which is what annealing up and down would find, and the lowest free energy is kept.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np

from ntkinfo._common import parallel
from ntkinfo._numerics.entropy import plogp
from ntkinfo.bottleneck import _branch_and_bound, _duality_gap, _newton, _newton_cg
from ntkinfo.bottleneck._distortion import (
    SMALLEST_PROBABILITY,
    Problem,
    decode,
    distortion,
    log_decode,
    log_decoder,
    log_floored,
    log_sum_exp,
    slopes,
)
from ntkinfo.bottleneck._squarem import squarem_step

# Elements (β, z, x) computed at once: what stays in the cache of a CPU core.
_BATCH_ELEMENTS = 2**16
# Clusters whose merging costs less than this in nats are one, and a cluster of less mass is none.
MERGE_TOLERANCE = 1e-10
# Of more inputs, alike ones are merged before the first step: a step costs the square of their number.
_MANY_INPUTS = 256
# A start from a neighbouring β is judged after this many plain steps.
WARMUP_STEPS = 24
# Where Newton steps follow, so many sweeps go before them at most.
SWEEPS_BEFORE_NEWTON = 400
# The two closest clusters of a solution that does not converge are tried as one where that costs less than this, in
# nats divided by β.
ALIKE_COST = 1e-4
# But not of more clusters: all pairs are looked at again and again.
MAX_ALIKE = 64
# Up to this many unknowns Newton steps have a matrix; of more they are products, ended by so many sweeps, in rounds.
_MAX_NEWTON_UNKNOWNS = 640
_SWEEPS_AFTER_PRODUCTS, _PRODUCT_ROUNDS = 24, 4
# Of many inputs so many sweeps go before them: a sweep costs the square of their number.
_SWEEPS_OF_MANY = 48
_EMPTY = float(np.log(SMALLEST_PROBABILITY))


class Solution(NamedTuple):
    """Solutions over β, on the host.

    Attributes:
      log_p_z: log p(z), (B, z), in order of mass.
      log_p_y_given_z: log p(y|z), (B, z, y).
      free_energy: F = -α Σ_x p(x) log Σ_z e^{(log p(z) - β d(x,z))/α}, (B,), nats.
      residual: length of the last step, (B,).
    """

    log_p_z: np.ndarray
    log_p_y_given_z: np.ndarray
    free_energy: np.ndarray
    residual: np.ndarray


def log_encoder(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """log p(z|x) (B, z, x) of clusters (B, z) and (B, z, y), and the free energies (B,)."""
    logits = _logits(problem, beta, alpha, log_p_z, log_p_y_given_z)
    log_total = log_sum_exp(logits, 1)
    return logits - log_total, _free_energy(problem, beta, alpha, log_total[:, 0])


def _logits(problem, beta, alpha, log_p_z, log_p_y_given_z):
    """(log p(z) - β d(x, z))/α without the part of d that depends on x alone, (B, z, x)."""
    vector, number = slopes(problem, log_p_y_given_z)
    scaled = (beta / alpha)[:, None, None] * vector
    logits = (scaled.reshape(-1, vector.shape[2]) @ problem.features.T).reshape(*log_p_z.shape, -1)
    logits += ((log_p_z - beta[:, None] * number) / alpha)[:, :, None]
    return logits


def _free_energy(problem, beta, alpha, log_total):
    return beta * (problem.p_x @ problem.own) - alpha * (log_total @ problem.p_x)


def blahut_arimoto_step(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """One self-consistent step of clusters (B, z) and (B, z, y): new ones, and the free energies (B,) of the old ones.

    F never rises.
    """
    odds = _logits(problem, beta, alpha, log_p_z, log_p_y_given_z)
    largest = odds.max(axis=1)
    odds -= largest[:, None]
    np.exp(odds, out=odds)
    total = odds.sum(axis=1)
    free_energy = _free_energy(problem, beta, alpha, largest + np.log(total))
    weighted = np.empty((len(beta), len(problem.p_x), 1 + problem.features.shape[1]))
    weighted[:, :, 0] = problem.p_x / total
    weighted[:, :, 1:] = weighted[:, :, :1] * problem.features
    # Masses and mean features in one product.
    moments = odds @ weighted
    p_z = moments[:, :, 0]
    used = p_z > SMALLEST_PROBABILITY
    mean = moments[:, :, 1:] / np.where(used, p_z, 1)[:, :, None]
    return (
        log_floored(p_z),
        np.where(used[:, :, None], log_decoder(problem, mean), log_p_y_given_z),
        free_energy,
    )


def _lengths(change, solution):
    """Lengths (B,) of changes of (log p(z), log p(y|z)), weighted by mass: what a dying cluster does counts little."""
    per_cluster = np.sum(np.exp(solution[1]) * change[1] ** 2, axis=2)
    return np.sqrt(np.sum(np.exp(solution[0]) * (change[0] ** 2 + per_cluster), axis=1))


def _normalised(logarithms, _=None):
    return tuple(np.maximum(logs - log_sum_exp(logs), _EMPTY) for logs in logarithms)


def _run(problem, beta, alpha, log_p_z, log_p_y_given_z, cycles, tolerance):
    """SQUAREM cycles for a batch of β, each until it has converged or `cycles` are done; clusters and residuals."""
    log_p_z, log_p_y_given_z, residual = log_p_z.copy(), log_p_y_given_z.copy(), np.full(len(beta), np.inf)
    active, point = np.arange(len(beta)), (log_p_z, log_p_y_given_z)

    def step(solution):
        *new, free_energy = blahut_arimoto_step(problem, beta[active], alpha, *solution)
        return tuple(new), free_energy

    for cycle in range(cycles):
        point, _, residual[active] = squarem_step(step, point, norm=_lengths, project=_normalised, longest=1e4)
        going = residual[active] > tolerance
        if not going.all() or cycle == cycles - 1:
            # Those that have converged leave the batch.
            log_p_z[active], log_p_y_given_z[active] = point
            active, point = active[going], tuple(array[going] for array in point)
            if not len(active):
                break
    return log_p_z, log_p_y_given_z, residual


def merge(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """Equal clusters as one, those without mass left out, sorted by mass, for each β of a batch.

    Returns:
      log p(z) (B, z), log p(y|z) (B, z, y), the free energies (B,), and how many clusters are left (B,).
    """
    order = np.argsort(-log_p_z, axis=1, kind="stable")
    log_p_z = np.take_along_axis(log_p_z, order, 1)
    log_p_y_given_z = np.take_along_axis(log_p_y_given_z, order[:, :, None], 1)
    counts = np.empty(len(beta), int)
    for i, one_beta in enumerate(beta):
        mass, decoders = np.exp(log_p_z[i]), np.exp(log_p_y_given_z[i])
        # Without mass altogether: what they leave is below rounding.
        some = int(np.sum(mass > 1e-3 * MERGE_TOLERANCE))
        target = _merge_targets(float(one_beta), mass[:some], decoders[:some], log_p_y_given_z[i, :some])
        own = np.arange(some)
        if (target == own).all() and (mass[:some] > MERGE_TOLERANCE).all():
            log_p_z[i, some:], counts[i] = _EMPTY, some
            continue
        merged, centre = np.zeros(some), np.zeros((some, decoders.shape[1]))
        np.add.at(merged, target, mass[:some])
        np.add.at(centre, target, mass[:some, None] * decoders[:some])
        kept = np.flatnonzero(merged > MERGE_TOLERANCE)
        kept = kept[np.argsort(-merged[kept], kind="stable")]
        counts[i] = len(kept)
        log_p_z[i], log_p_y_given_z[i, : len(kept)] = _EMPTY, log_floored(centre[kept] / merged[kept, None])
        log_p_z[i, : len(kept)] = np.log(merged[kept])
    most = int(counts.max())
    free_energy = np.empty(len(beta))
    for part in _chunks(counts, len(problem.p_x)):
        width = int(counts[part].max())
        clusters = log_p_z[part, :width], log_p_y_given_z[part, :width]
        log_total = log_sum_exp(_logits(problem, beta[part], alpha, *clusters), 1)[:, 0]
        free_energy[part] = _free_energy(problem, beta[part], alpha, log_total)
    log_p_y_given_z[:, most:] = log_p_y_given_z[:, :1]
    return log_p_z, log_p_y_given_z, free_energy, counts


def _merge_targets(beta, mass, decoders, log_decoders):
    """Which cluster, itself or a heavier one, each cluster (z,), heaviest first, is to become one with."""
    n, own = len(mass), np.arange(len(mass))
    entropy = -np.sum(decoders * log_decoders, axis=1)
    squares, pairs = np.sum(decoders**2, axis=1), []
    for start in range(1, n, 512):
        rows = own[start : start + 512]
        # By Pinsker's inequality the cost is at least β m m'/(m + m') ‖p - p'‖²/2: few pairs need a closer look.
        squared = squares[rows, None] + squares[None] - 2 * decoders[rows] @ decoders.T
        harmonic = mass[rows, None] * mass[None] / (mass[rows, None] + mass[None])
        close = (beta * harmonic * (squared - 1e-14) < 2 * MERGE_TOLERANCE) & (own[None] < rows[:, None])
        for part in np.array_split(np.argwhere(close), max(1, np.count_nonzero(close) // 2**16)):
            if not len(part):
                continue
            i, j = rows[part[:, 0]], part[:, 1]
            cost = beta * _merge_costs(mass, decoders, entropy, i, j)[0]
            cheap = cost < MERGE_TOLERANCE
            pairs.append(np.stack([i[cheap], j[cheap], cost[cheap]]))
    target = own.copy()
    if pairs:
        i, j, cost = np.concatenate(pairs, axis=1)
        i, j = i.astype(int), j.astype(int)
        # To the nearest of those that are close to no heavier one; where none of them is close enough, to none.
        goes = np.isin(own, i)
        allowed = ~goes[j]
        i, j, cost = i[allowed], j[allowed], cost[allowed]
        order = np.lexsort((cost, i))
        first = np.unique(i[order], return_index=True)[1]
        target[i[order][first]] = j[order][first]
    return target


def _merge_costs(mass, decoders, entropy, i, j):
    """What it costs to make clusters i and j one, in nats divided by β (pairs,), and their decoders then (pairs, y)."""
    share = mass[i] / (mass[i] + mass[j])
    mixture = share[:, None] * decoders[i] + (1 - share)[:, None] * decoders[j]
    divergence = -plogp(mixture).sum(1) - share * entropy[i] - (1 - share) * entropy[j]
    return (mass[i] + mass[j]) * divergence, mixture


def _chunks(counts, n_x):
    """Indices in parts of about as many clusters each, of what is computed at once."""
    order, parts, start = np.argsort(counts, kind="stable"), [], 0
    while start < len(order):
        least = counts[order[start]]
        size = 1
        while start + size < len(order):
            widest = counts[order[start + size]]
            if widest > 1.25 * least + 2 or (size + 1) * widest * n_x > _BATCH_ELEMENTS:
                break
            size += 1
        parts.append(order[start : start + size])
        start += size
    return parts


def _used(log_p_z) -> np.ndarray:
    """Which clusters are in use."""
    return log_p_z > _EMPTY + np.log(2)


def n_used(solution: Solution) -> np.ndarray:
    """Clusters in use, (B,)."""
    return np.sum(_used(solution.log_p_z), axis=1)


def solve(
    problem: Problem, beta, alpha: float, log_p_z, log_p_y_given_z, *, tolerance: float, max_steps: int, callback=None
) -> Solution:
    """Converged solutions from the clusters given, (B, z) and (B, z, y), for all β at once.

    A β that has converged leaves the computation; `callback` is told how many have, after every round of cycles.
    """
    beta = np.asarray(beta, np.float64)
    log_p_z, log_p_y_given_z = np.array(log_p_z, np.float64), np.array(log_p_y_given_z, np.float64)
    residual, free_energy = np.full(len(beta), np.inf), np.full(len(beta), np.inf)
    counts = np.full(len(beta), log_p_z.shape[1])
    pending, done, cycles = np.arange(len(beta)), 0, max(1, min(8, max_steps // 3))

    def take(part, width):
        return beta[part], alpha, log_p_z[part, :width], log_p_y_given_z[part, :width]

    def put(part, width, clusters):
        log_p_z[part], log_p_y_given_z[part, width:] = _EMPTY, log_p_y_given_z[part, :1]
        log_p_z[part, :width], log_p_y_given_z[part, :width] = clusters[:2]

    if log_p_z.shape[1] > _MANY_INPUTS:
        for i in range(len(beta)):
            *clusters, _, counts[[i]] = merge(problem, *take([i], log_p_z.shape[1]))
            put([i], log_p_z.shape[1], clusters)
    while len(pending) and done < max_steps:

        def run(part, cycles=cycles):
            width = int(counts[part].max())
            *clusters, lengths = _run(problem, *take(part, width), cycles, tolerance)
            return width, merge(problem, beta[part], alpha, *clusters), lengths

        parts = [pending[part] for part in _chunks(counts[pending], len(problem.p_x))]
        for part, (width, merged, lengths) in zip(parts, parallel.map(run, parts), strict=True):
            put(part, width, merged)
            free_energy[part], counts[part], residual[part] = merged[2], merged[3], lengths
        done += 3 * cycles
        cycles = min(2 * cycles, 256)
        pending = pending[residual[pending] > tolerance]
        if callback is not None:
            callback(len(beta) - len(pending))
    most = max(int(counts.max(initial=1)), 1)
    return Solution(log_p_z[:, :most], log_p_y_given_z[:, :most], free_energy, residual)


def keep_better(first: Solution, second: Solution, least_gain: float = 0.0) -> Solution:
    """Of two solutions for each β the one of the lower free energy."""
    better = second.free_energy < first.free_energy - least_gain
    return _replaced(first, better, _selected(second, better))


def identity_start(problem: Problem, n_beta: int) -> tuple[np.ndarray, np.ndarray]:
    """The start Z = X for each β."""
    log_p_y_given_z = log_decoder(problem, problem.features)
    return np.tile(np.log(problem.p_x), (n_beta, 1)), np.tile(log_p_y_given_z, (n_beta, 1, 1))


def newton_refine(problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int) -> Solution:
    """Newton steps where the iterations have not converged, then iterations again."""
    slow = np.flatnonzero(solution.residual > tolerance)
    unknowns = n_used(solution)[slow] * (1 + solution.log_p_y_given_z.shape[2])
    many = unknowns > _MAX_NEWTON_UNKNOWNS
    for chosen, method in ((slow[~many], _newton_refine), (slow[many], _newton_refine_many)):
        if len(chosen):
            refined = method(problem, beta[chosen], alpha, _selected(solution, chosen), tolerance, max_steps)
            better = refined.free_energy <= solution.free_energy[chosen] + 1e-13
            better &= np.isfinite(refined.free_energy)
            solution = _replaced(solution, chosen[better], _selected(refined, better))
    return solution


def _newton_refine(problem, beta, alpha, solution, tolerance, max_steps, refine=_newton.refine) -> Solution:
    """Newton steps of every β, then iterations."""
    counts = n_used(solution)

    def run(i):
        clusters = solution.log_p_z[i, : counts[i]], solution.log_p_y_given_z[i, : counts[i]]
        return refine(problem, float(beta[i]), alpha, *clusters)

    log_p_z, log_p_y_given_z = solution.log_p_z.copy(), solution.log_p_y_given_z.copy()
    for i, refined in enumerate(parallel.map(run, list(range(len(beta))))):
        log_p_z[i, : counts[i]], log_p_y_given_z[i, : counts[i]] = refined
    start = np.maximum(log_p_z, _EMPTY), np.maximum(log_p_y_given_z, _EMPTY)
    return solve(problem, beta, alpha, *start, tolerance=tolerance, max_steps=max_steps)


def _newton_refine_many(problem, beta, alpha, solution, tolerance, max_steps) -> Solution:
    """Newton steps by products and a few iterations, which make equal clusters one, in turns."""
    max_steps = min(max_steps, _SWEEPS_AFTER_PRODUCTS)
    refine = functools.partial(_newton_cg.refine, tolerance=tolerance / 2)
    for _ in range(_PRODUCT_ROUNDS):
        left = np.flatnonzero(solution.residual > tolerance)
        if not len(left):
            break
        current = _selected(solution, left)
        tried = _newton_refine(problem, beta[left], alpha, current, tolerance, max_steps, refine)
        drop = current.free_energy - tried.free_energy
        better = (drop > 1e-13) | ((drop > -1e-13) & (tried.residual < current.residual))
        if not better.any():
            break
        solution = _replaced(solution, left[better], _selected(tried, better))
    return solution


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
    for _ in range(rounds):
        loose = np.flatnonzero(gaps > gap_tolerance)
        if not len(loose):
            break
        current = _selected(solution, loose)
        log_missing = log_floored(missing[loose])[:, None]
        share = best_share(problem, beta[loose], current.log_p_z, current.log_p_y_given_z, log_missing)[:, None]
        log_p_z = np.concatenate([current.log_p_z + np.log1p(-share), np.log(share)], 1)
        log_p_y_given_z = np.concatenate([current.log_p_y_given_z, log_missing], 1)
        tried = solve_fast(problem, beta[loose], 1.0, log_p_z, log_p_y_given_z, **solve_options)
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


def solve_fast(
    problem: Problem, beta, alpha, log_p_z, log_p_y_given_z, *, tolerance: float, max_steps: int, callback=None
) -> Solution:
    """`solve` with Newton steps once the first sweeps are done, then sweeps to the end where these were not enough."""
    before = _SWEEPS_OF_MANY if len(problem.p_x) > _MANY_INPUTS else SWEEPS_BEFORE_NEWTON
    options = {"tolerance": tolerance, "max_steps": min(max_steps, before)}
    solution = solve(problem, beta, alpha, log_p_z, log_p_y_given_z, callback=callback, **options)
    options["max_steps"] = min(max_steps, SWEEPS_BEFORE_NEWTON)
    solution = newton_refine(problem, beta, alpha, solution, **options)
    return finish_sweeps(problem, beta, alpha, solution, tolerance=tolerance, max_steps=max_steps)


def finish_sweeps(problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int) -> Solution:
    """Alike clusters as one where that is as good, sweeps to the end, and Newton steps, for the β not converged yet."""
    more = max_steps - SWEEPS_BEFORE_NEWTON
    left = np.flatnonzero(solution.residual > tolerance)
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
    left = np.flatnonzero(solution.residual > tolerance)
    if not len(left):
        return solution
    options["max_steps"] = more
    start = solution.log_p_z[left], solution.log_p_y_given_z[left]
    tried = solve(problem, beta[left], alpha, *start, **options)
    return _replaced(solution, left, newton_refine(problem, beta[left], alpha, tried, **options))


def _closest_merged(log_p_z, log_p_y_given_z):
    """The clusters (z,) and (z, y) at one β with those two as one that cost least to merge, and that cost in nats."""
    used = _used(log_p_z)
    mass, decoders, cost = _merged_pair(np.exp(log_p_z[used]), np.exp(log_p_y_given_z[used]))
    log_p_z, log_p_y_given_z = np.full_like(log_p_z, _EMPTY), log_p_y_given_z.copy()
    log_p_z[: len(mass)], log_p_y_given_z[: len(mass)] = np.log(mass), log_floored(decoders)
    return log_p_z, log_p_y_given_z, cost


def _merged_pair(mass, decoders):
    """Masses (z - 1,) and decoders (z - 1, y) with the two as one that cost least to merge, and that cost in nats."""
    if len(mass) < 2:
        return mass, decoders, np.inf
    first, second = np.triu_indices(len(mass), 1)
    cost, mixture = _merge_costs(mass, decoders, -np.sum(plogp(decoders), axis=1), first, second)
    best = int(np.argmin(cost))
    a, b = first[best], second[best]
    decoders, mass = decoders.copy(), mass.copy()
    decoders[a], mass[a] = mixture[best], mass[a] + mass[b]
    return np.delete(mass, b), np.delete(decoders, b, axis=0), float(cost[best])


def best_share(problem: Problem, beta, log_p_z, log_p_y_given_z, log_new) -> np.ndarray:
    """The mass (B,) at which new clusters of equal mass, log p(y|z) (B, k, y), lower F most: F is convex in it."""
    result = np.empty(len(beta))
    for i, one_beta in enumerate(beta):
        log_z = _duality_gap.log_partition(problem, one_beta, log_p_z[i], log_p_y_given_z[i])
        exponents = np.minimum(-one_beta * distortion(problem, log_new[i]) - log_z[:, None], 700)
        gain = np.mean(np.expm1(exponents), axis=1)
        low, high = 0.0, 0.5
        for _ in range(40):
            middle = (low + high) / 2
            rises = problem.p_x @ (gain / (1 + middle * gain)) > 0
            low, high = (middle, high) if rises else (low, middle)
        result[i] = max(high, 1e-9)
    return result


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
        np.pad(solution.log_p_z, ((0, 0), (0, extra)), constant_values=_EMPTY),
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
    for i, used in enumerate(_used(log_p_z)):
        mass, decoders = np.exp(log_p_z[i, used]), np.exp(log_p_y_given_z[i, used])
        while len(mass) > n_clusters:
            mass, decoders, _ = _merged_pair(mass, decoders)
        log_p_z[i], count = _EMPTY, len(mass)
        log_p_z[i, :count] = np.log(mass)
        log_p_y_given_z[i, :count] = log_floored(decoders)
    start = log_p_z[:, :n_clusters], log_p_y_given_z[:, :n_clusters]
    return solve(problem, beta, alpha, *start, tolerance=tolerance, max_steps=max_steps)


def encoder(problem: Problem, beta: float, alpha, log_p_z, log_p_y_given_z) -> np.ndarray:
    """p(z|x), (x, z), of the clusters (z,) and (z, y) at one β; clusters not in use get 0."""
    log_p_z = np.where(_used(log_p_z), log_p_z, -np.inf)
    clusters = log_p_z[None], log_p_y_given_z[None]
    return np.exp(log_encoder(problem, np.full(1, float(beta)), alpha, *clusters)[0][0]).T
