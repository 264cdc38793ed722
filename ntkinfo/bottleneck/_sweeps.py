"""Extrapolated sweeps of the self-consistent equations for a whole grid of β at once, and what makes clusters one.

The implementation of `ntkinfo.bottleneck`: no checks, on the host, in NumPy. Nothing is compiled, so that the first
call costs what the next does, whatever the sizes. A solution is a list of clusters, log p(z) and log p(y|z); the
encoder follows from it.
"""

from typing import NamedTuple

import numpy as np

from ntkinfo._common import parallel
from ntkinfo._numerics.entropy import plogp
from ntkinfo.bottleneck import _duality_gap
from ntkinfo.bottleneck._distortion import (
    SMALLEST_PROBABILITY,
    Problem,
    distortion,
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
MANY_INPUTS = 256
EMPTY = float(np.log(SMALLEST_PROBABILITY))


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
    return tuple(np.maximum(logs - log_sum_exp(logs), EMPTY) for logs in logarithms)


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
            log_p_z[i, some:], counts[i] = EMPTY, some
            continue
        merged, centre = np.zeros(some), np.zeros((some, decoders.shape[1]))
        np.add.at(merged, target, mass[:some])
        np.add.at(centre, target, mass[:some, None] * decoders[:some])
        kept = np.flatnonzero(merged > MERGE_TOLERANCE)
        kept = kept[np.argsort(-merged[kept], kind="stable")]
        counts[i] = len(kept)
        log_p_z[i], log_p_y_given_z[i, : len(kept)] = EMPTY, log_floored(centre[kept] / merged[kept, None])
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


def merged(beta: float, log_p_z, log_p_y_given_z, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (z,) and (z, y) at one β with those as one whose merging costs less than a tolerance, in nats."""
    while True:
        order = np.argsort(-log_p_z, kind="stable")
        log_p_z, log_p_y_given_z = log_p_z[order], log_p_y_given_z[order]
        mass, decoders = np.exp(log_p_z), np.exp(log_p_y_given_z)
        target = _merge_targets(beta, mass, decoders, log_p_y_given_z, tolerance)
        kept = np.unique(target)
        if len(kept) == len(mass):
            return log_p_z, log_p_y_given_z
        sums, centres = np.zeros(len(mass)), np.zeros_like(decoders)
        np.add.at(sums, target, mass)
        np.add.at(centres, target, mass[:, None] * decoders)
        log_p_z, log_p_y_given_z = np.log(sums[kept]), log_floored(centres[kept] / sums[kept, None])


def _merge_targets(beta, mass, decoders, log_decoders, tolerance=MERGE_TOLERANCE):
    """Which cluster, itself or a heavier one, each cluster (z,), heaviest first, is to become one with."""
    n, own = len(mass), np.arange(len(mass))
    entropy = -np.sum(decoders * log_decoders, axis=1)
    squares, pairs = np.sum(decoders**2, axis=1), []
    for start in range(1, n, 512):
        rows = own[start : start + 512]
        # By Pinsker's inequality the cost is at least β m m'/(m + m') ‖p - p'‖²/2: few pairs need a closer look.
        squared = squares[rows, None] + squares[None] - 2 * decoders[rows] @ decoders.T
        harmonic = mass[rows, None] * mass[None] / (mass[rows, None] + mass[None])
        close = (beta * harmonic * (squared - 1e-14) < 2 * tolerance) & (own[None] < rows[:, None])
        for part in np.array_split(np.argwhere(close), max(1, np.count_nonzero(close) // 2**16)):
            if not len(part):
                continue
            i, j = rows[part[:, 0]], part[:, 1]
            cost = beta * merge_costs(mass, decoders, entropy, i, j)[0]
            cheap = cost < tolerance
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


def merge_costs(mass, decoders, entropy, i, j):
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


def is_used(log_p_z) -> np.ndarray:
    """Which clusters are in use."""
    return log_p_z > EMPTY + np.log(2)


def n_used(solution: Solution) -> np.ndarray:
    """Clusters in use, (B,)."""
    return np.sum(is_used(solution.log_p_z), axis=1)


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
        log_p_z[part], log_p_y_given_z[part, width:] = EMPTY, log_p_y_given_z[part, :1]
        log_p_z[part, :width], log_p_y_given_z[part, :width] = clusters[:2]

    if log_p_z.shape[1] > MANY_INPUTS:
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


def measured(problem: Problem, beta, alpha: float, log_p_z, log_p_y_given_z) -> Solution:
    """Clusters (B, z) and (B, z, y) as they are, in order of mass, with what a step from there tells."""
    order = np.argsort(-log_p_z, axis=1, kind="stable")
    now = np.take_along_axis(log_p_z, order, 1), np.take_along_axis(log_p_y_given_z, order[:, :, None], 1)
    free_energy, residual = np.empty(len(beta)), np.empty(len(beta))
    for i in range(len(beta)):
        here = now[0][[i]], now[1][[i]]
        *new, free_energy[[i]] = blahut_arimoto_step(problem, beta[[i]], alpha, *here)
        residual[[i]] = _lengths(tuple(a - b for a, b in zip(new, here, strict=True)), new)
    return Solution(*now, free_energy, residual)


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
