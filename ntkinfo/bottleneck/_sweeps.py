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
    is_within_range,
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
# Elements (z, x) of a step from which on several are computed at once: threads that do little wait for one another.
THREADED = 2**16


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


def encoders(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z) -> np.ndarray:
    """p(z|x), (B, x, z), of clusters (B, z) and (B, z, y); those not in use get 0."""
    made = np.empty((len(beta), len(problem.p_x), log_p_z.shape[1]))
    log_p_z = np.where(is_used(log_p_z), log_p_z, -np.inf)
    for part in slices(len(beta), log_p_z.shape[1] * len(problem.p_x)):
        odds, total, _ = _odds(problem, beta[part], alpha, log_p_z[part], log_p_y_given_z[part])
        np.divide(odds.swapaxes(1, 2), total[:, :, None], out=made[part])
    return made


def free_energies(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z, counts) -> np.ndarray:
    """F (B,) of clusters (B, z) and (B, z, y), of which the first `counts` (B,) are in use."""
    found = np.empty(len(beta))
    for part in _chunks(counts, len(problem.p_x)):
        width = int(counts[part].max())
        _, total, shift = _odds(problem, beta[part], alpha, log_p_z[part, :width], log_p_y_given_z[part, :width])
        found[part] = -alpha * ((shift + np.log(total)) @ problem.p_x)
    return found


def _exponents(problem, beta, alpha, log_p_z, log_p_y_given_z):
    """(log p(z) - β d(x, z))/α, (B, z, x)."""
    vector, number = slopes(problem, log_p_y_given_z)
    scale, width = beta / alpha, problem.features.shape[1] + 2
    # The parts that depend on z alone and on x alone come with the product.
    left = np.empty((*log_p_z.shape, width))
    np.multiply(scale[:, None, None], vector, out=left[:, :, :-2])
    left[:, :, -2] = log_p_z / alpha - scale[:, None] * number
    left[:, :, -1] = -scale[:, None]
    right = np.concatenate([problem.features, np.ones_like(problem.own)[:, None], problem.own[:, None]], axis=1)
    return (left.reshape(-1, width) @ right.T).reshape(*log_p_z.shape, -1)


def _odds(problem, beta, alpha, log_p_z, log_p_y_given_z):
    """e^{(log p(z) - β d(x, z))/α - shift(x)} (B, z, x), their sums over z (B, x), and the shifts (B, x).

    Exponents are never above 0, and for most β never all far below: a shift is made only where the sums ask for it.
    """
    of = problem, beta, alpha, log_p_z, log_p_y_given_z
    odds, shift = _exponents(*of), np.zeros((len(beta), len(problem.p_x)))
    with np.errstate(over="ignore"):
        np.exp(odds, out=odds)
    total = (np.ones((1, odds.shape[1])) @ odds)[:, 0]
    within = is_within_range(total).all(axis=1)
    if not within.all():
        i = np.flatnonzero(~within)
        exponents = _exponents(problem, beta[i], alpha, log_p_z[i], log_p_y_given_z[i])
        shift[i] = exponents.max(axis=1)
        exponents -= shift[i][:, None]
        odds[i] = np.exp(exponents, out=exponents)
        total[i] = odds[i].sum(axis=1)
    return odds, total, shift


def blahut_arimoto_step(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """One self-consistent step of clusters (B, z) and (B, z, y): new ones, and the free energies (B,) of the old ones.

    F never rises.
    """
    odds, total, shift = _odds(problem, beta, alpha, log_p_z, log_p_y_given_z)
    free_energy = -alpha * ((shift + np.log(total)) @ problem.p_x)
    weighted = np.empty((len(beta), len(problem.p_x), 1 + problem.features.shape[1]))
    weighted[:, :, 0] = problem.p_x / total
    np.multiply(weighted[:, :, :1], problem.features, out=weighted[:, :, 1:])
    # Masses and mean features in one product.
    moments = odds @ weighted
    p_z = moments[:, :, 0]
    used = p_z > SMALLEST_PROBABILITY
    if used.all():
        return log_floored(p_z), log_decoder(problem, moments[:, :, 1:] / p_z[:, :, None]), free_energy
    mean = moments[:, :, 1:] / np.where(used, p_z, 1)[:, :, None]
    return (
        log_floored(p_z),
        np.where(used[:, :, None], log_decoder(problem, mean), log_p_y_given_z),
        free_energy,
    )


def _lengths(changes, solution):
    """Lengths (B,) of changes of (log p(z), log p(y|z)), weighted by mass: what a dying cluster does counts little."""
    mass = np.exp(solution[0])
    joint = mass[:, :, None] * np.exp(solution[1])
    return [
        np.sqrt(np.einsum("bz,bz,bz->b", mass, a, a) + np.einsum("bzy,bzy,bzy->b", joint, u, u)) for a, u in changes
    ]


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


def merge(beta, log_p_z, log_p_y_given_z):
    """Equal clusters as one, those without mass left out, sorted by mass, for each β of a batch.

    Returns:
      log p(z) (B, z), log p(y|z) (B, z, y), and how many clusters are left (B,).
    """
    order = np.argsort(-log_p_z, axis=1, kind="stable")
    log_p_z = np.take_along_axis(log_p_z, order, 1)
    log_p_y_given_z = np.take_along_axis(log_p_y_given_z, order[:, :, None], 1)
    mass, decoders = np.exp(log_p_z), np.exp(log_p_y_given_z)
    # Without mass altogether: what they leave is below rounding.
    some = mass > 1e-3 * MERGE_TOLERANCE
    target = _merge_targets(beta, np.where(some, mass, 0), decoders, log_p_y_given_z, MERGE_TOLERANCE)
    counts, places = some.sum(axis=1), np.arange(mass.shape[1])
    log_p_z[~some] = EMPTY
    changed = np.flatnonzero(((target != places) | (some & (mass <= MERGE_TOLERANCE))).any(axis=1))
    for i in changed:
        few = int(counts[i])
        merged, centre = np.zeros(few), np.zeros((few, decoders.shape[2]))
        np.add.at(merged, target[i, :few], mass[i, :few])
        np.add.at(centre, target[i, :few], mass[i, :few, None] * decoders[i, :few])
        kept = np.flatnonzero(merged > MERGE_TOLERANCE)
        kept = kept[np.argsort(-merged[kept], kind="stable")]
        counts[i] = len(kept)
        log_p_z[i], log_p_y_given_z[i, : len(kept)] = EMPTY, log_floored(centre[kept] / merged[kept, None])
        log_p_z[i, : len(kept)] = np.log(merged[kept])
    most = int(counts.max())
    log_p_y_given_z[:, most:] = log_p_y_given_z[:, :1]
    return log_p_z, log_p_y_given_z, counts


def merged(beta: float, log_p_z, log_p_y_given_z, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (z,) and (z, y) at one β with those as one whose merging costs less than a tolerance, in nats."""
    while True:
        order = np.argsort(-log_p_z, kind="stable")
        log_p_z, log_p_y_given_z = log_p_z[order], log_p_y_given_z[order]
        mass, decoders = np.exp(log_p_z), np.exp(log_p_y_given_z)
        grid, batch = np.full(1, float(beta)), (mass[None], decoders[None], log_p_y_given_z[None])
        target = _merge_targets(grid, *batch, tolerance)[0]
        kept = np.unique(target)
        if len(kept) == len(mass):
            return log_p_z, log_p_y_given_z
        sums, centres = np.zeros(len(mass)), np.zeros_like(decoders)
        np.add.at(sums, target, mass)
        np.add.at(centres, target, mass[:, None] * decoders)
        log_p_z, log_p_y_given_z = np.log(sums[kept]), log_floored(centres[kept] / sums[kept, None])


def _merge_targets(beta, mass, decoders, log_decoders, tolerance):
    """Which cluster, itself or a heavier one, each cluster (B, z), heaviest first, is to become one with.

    Clusters of mass 0 stay as they are.
    """
    n_beta, n = mass.shape
    entropy = -np.sum(decoders * log_decoders, axis=2).ravel()
    flat_mass, flat_decoders, own, close = mass.ravel(), decoders.reshape(n_beta * n, -1), np.arange(n), []
    # By Pinsker's inequality the cost is at least β ‖p - p'‖²/2 over 1/m + 1/m': few pairs need a closer look, where
    # ‖p - p'‖² < ball + ball'. Some ten roundings of it are left to it; what has no mass has no ball.
    rounding = 1e-14
    ball = 2 * tolerance / (beta[:, None] * np.where(mass > 0, mass, 1))
    ball = np.where(mass > 0, ball, -1e300)
    outside = np.sum(decoders**2, axis=2) - ball
    left = np.concatenate([-2 * decoders, outside[:, :, None] - rounding, np.ones((n_beta, n, 1))], axis=2)
    right = np.concatenate([decoders, np.ones((n_beta, n, 1)), outside[:, :, None]], axis=2).swapaxes(1, 2)
    for start in range(1, n, 512):
        rows = own[start : start + 512]
        before = int(rows[-1])
        apart = left[:, rows] @ right[:, :, :before]
        pair = np.flatnonzero((apart < 0) & (own[:before] < rows[:, None]))
        first, place = np.divmod(pair, len(rows) * before)
        i, j = np.divmod(place, before)
        i, j = first * n + rows[i], first * n + j
        # And it is at most β Σ (p - p')²/p'' over 1/m + 1/m', p'' their mean.
        both = ball.ravel()[i] + ball.ravel()[j]
        sure = 2 * (apart.ravel()[pair] + both + 2 * rounding) < both * decoders.min(axis=(1, 2))[first]
        close.append(np.stack([i, j, sure]))
    i, j, sure = np.concatenate(close, axis=1) if close else np.zeros((3, 0), int)
    target, goes = np.arange(n_beta * n), np.zeros(n_beta * n, bool)
    # Those that are close to others for sure go to the heaviest of them, without a closer look.
    sure = np.flatnonzero(sure)[::-1]
    target[i[sure]] = j[sure]
    goes[i[sure]] = True
    left = ~goes[i] & ~goes[j]
    i, j, pairs = i[left], j[left], []
    for part in np.array_split(np.stack([i, j]), max(1, len(i) // 2**16), axis=1):
        if part.size:
            cost = beta[part[0] // n] * merge_costs(flat_mass, flat_decoders, entropy, *part)[0]
            cheap = cost < tolerance
            pairs.append(np.stack([*part[:, cheap], cost[cheap]]))
    if pairs:
        i, j, cost = np.concatenate(pairs, axis=1)
        i, j = i.astype(int), j.astype(int)
        # To the nearest of those that are close to no heavier one; where none of them is close enough, to none.
        goes[i] = True
        allowed = ~goes[j]
        i, j, cost = i[allowed], j[allowed], cost[allowed]
        order = np.lexsort((cost, i))
        first = np.unique(i[order], return_index=True)[1]
        target[i[order][first]] = j[order][first]
    return target.reshape(n_beta, n) - n * np.arange(n_beta)[:, None]


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


def slices(n: int, size: int) -> list[slice]:
    """Slices of `n` items of `size` elements each, of what is computed at once."""
    n_at_once = max(1, _BATCH_ELEMENTS // size)
    return [slice(i, i + n_at_once) for i in range(0, n, n_at_once)]


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
    residual = np.full(len(beta), np.inf)
    counts = np.full(len(beta), log_p_z.shape[1])
    pending, done, cycles = np.arange(len(beta)), 0, max(1, min(8, max_steps // 3))

    def take(part, width):
        return beta[part], alpha, log_p_z[part, :width], log_p_y_given_z[part, :width]

    def put(part, width, clusters):
        log_p_z[part], log_p_y_given_z[part, width:] = EMPTY, log_p_y_given_z[part, :1]
        log_p_z[part, :width], log_p_y_given_z[part, :width] = clusters[:2]

    if log_p_z.shape[1] > MANY_INPUTS:
        for i in range(len(beta)):
            *clusters, counts[[i]] = merge(beta[[i]], log_p_z[[i]], log_p_y_given_z[[i]])
            put([i], log_p_z.shape[1], clusters)
    while len(pending) and done < max_steps:

        def run(part, cycles=cycles):
            width = int(counts[part].max())
            *clusters, lengths = _run(problem, *take(part, width), cycles, tolerance)
            return width, merge(beta[part], *clusters), lengths

        parts = [pending[part] for part in _chunks(counts[pending], len(problem.p_x))]
        large = len(problem.p_x) * int(counts[pending].max()) >= THREADED
        for part, (width, merged, lengths) in zip(parts, (parallel.map if large else map)(run, parts), strict=True):
            put(part, width, merged)
            counts[part], residual[part] = merged[2], lengths
        done += 3 * cycles
        cycles = min(2 * cycles, 256)
        pending = pending[residual[pending] > tolerance]
        if callback is not None:
            callback(len(beta) - len(pending))
    most = max(int(counts.max(initial=1)), 1)
    free_energy = free_energies(problem, beta, alpha, log_p_z, log_p_y_given_z, counts)
    return Solution(log_p_z[:, :most], log_p_y_given_z[:, :most], free_energy, residual)


def measured(problem: Problem, beta, alpha: float, log_p_z, log_p_y_given_z) -> Solution:
    """Clusters (B, z) and (B, z, y) as they are, in order of mass, with what a step from there tells."""
    order = np.argsort(-log_p_z, axis=1, kind="stable")
    now = np.take_along_axis(log_p_z, order, 1), np.take_along_axis(log_p_y_given_z, order[:, :, None], 1)
    free_energy, residual = np.empty(len(beta)), np.empty(len(beta))
    for i in range(len(beta)):
        here = now[0][[i]], now[1][[i]]
        *new, free_energy[[i]] = blahut_arimoto_step(problem, beta[[i]], alpha, *here)
        residual[[i]] = _lengths([tuple(a - b for a, b in zip(new, here, strict=True))], new)[0]
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
