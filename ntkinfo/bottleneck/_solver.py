"""The solver of the bottlenecks: the self-consistent equations for a whole grid of β at once.

The implementation of `ntkinfo.bottleneck`: no checks. A solution is a list of clusters, log p(z) and log p(y|z); the
encoder follows from it. Every β starts from Z = X, so they vectorise; solutions of neighbouring β are then exchanged in
both directions, which is what annealing up and down would find, and the lowest free energy is kept.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ntkinfo._common import parallel
from ntkinfo._numerics import padding
from ntkinfo._numerics.entropy import plogp
from ntkinfo.bottleneck import _branch_and_bound, _duality_gap
from ntkinfo.bottleneck._distortion import (
    Problem,
    decode,
    distortion,
    log_decode,
    log_floored,
    smallest_probability,
)
from ntkinfo.bottleneck._squarem import squarem_step

# Elements (β, x, z) of one compiled call: what stays in the cache of a CPU core.
_BATCH_ELEMENTS = 2**19
# Clusters whose merging costs less than this in nats are one, and a cluster of less mass is none.
MERGE_TOLERANCE = 1e-10
# A start from a neighbouring β is judged after this many plain steps.
WARMUP_STEPS = 24
# Newton steps are taken up to this many unknowns.
_MAX_NEWTON_UNKNOWNS = 640


class Solution(NamedTuple):
    """Solutions over β, on the host.

    Attributes:
      log_p_z: log p(z), (B, z).
      log_p_y_given_z: log p(y|z), (B, z, y).
      free_energy: F = -α Σ_x p(x) log Σ_z e^{(log p(z) - β d(x,z))/α}, (B,), nats.
      residual: length of the last step, (B,).
    """

    log_p_z: np.ndarray
    log_p_y_given_z: np.ndarray
    free_energy: np.ndarray
    residual: np.ndarray


def log_encoder(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """log p(z|x) (x, z) and the free energy -α Σ_x p(x) log Σ_z exp[(log p(z) - β d(x, z))/α]."""
    logits = (log_p_z[None, :] - beta * distortion(problem, log_p_y_given_z)) / alpha
    log_total = jax.nn.logsumexp(logits, axis=1)
    return logits - log_total[:, None], -alpha * problem.p_x @ log_total


def blahut_arimoto_step(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """One self-consistent step: new log p(z), log p(y|z), and the free energy of the old ones. F never rises."""
    # The exponentials are most of the cost: one for each (x, z), where `log_encoder` takes two.
    logits = (log_p_z[None, :] - beta * distortion(problem, log_p_y_given_z)) / alpha
    largest = jnp.max(logits, axis=1)
    odds = jnp.exp(logits - largest[:, None])
    total = jnp.sum(odds, axis=1)
    free_energy = -alpha * problem.p_x @ (largest + jnp.log(total))
    p_xz = (problem.p_x / total)[:, None] * odds
    p_z = jnp.sum(p_xz, axis=0)
    used = p_z > smallest_probability(p_z.dtype)
    p_x_given_z = (p_xz / jnp.where(used, p_z, 1)[None, :]).T
    return log_floored(p_z), jnp.where(used[:, None], log_decode(problem, p_x_given_z), log_p_y_given_z), free_energy


def _length(change, solution):
    """Length of a change of (log p(z), log p(y|z)), weighted by mass: what a dying cluster does counts little."""
    per_cluster = jnp.sum(jnp.exp(solution[1]) * change[1] ** 2, axis=1)
    return jnp.sqrt(jnp.sum(jnp.exp(solution[0]) * (change[0] ** 2 + per_cluster)))


def _normalised(logarithms, _=None):
    lowest = jnp.log(jnp.asarray(smallest_probability(logarithms[0].dtype), logarithms[0].dtype))
    return tuple(jnp.maximum(jax.nn.log_softmax(logs, axis=-1), lowest) for logs in logarithms)


@jax.jit
def _run(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z, cycles, tolerance):
    """SQUAREM cycles for a batch of β, each until it has converged or its `cycles` (B,) are done."""

    def run_one(arguments):
        beta, log_p_z, log_p_y_given_z, cycles = arguments

        def step(solution):
            *new, free_energy = blahut_arimoto_step(problem, beta, alpha, *solution)
            return tuple(new), free_energy

        def cycle(state):
            solution, _, count = state
            solution, _, length = squarem_step(step, solution, norm=_length, project=_normalised, longest=1e4)
            return solution, length, count + 1

        def unfinished(state):
            return (state[2] < cycles) & (state[1] > tolerance)

        infinite = jnp.full((), jnp.inf, log_p_z.dtype)
        solution, residual, _ = jax.lax.while_loop(unfinished, cycle, ((log_p_z, log_p_y_given_z), infinite, 0))
        return *solution, residual

    # One β after the other: none waits for another, and each stays in the cache.
    return jax.lax.map(run_one, (beta, log_p_z, log_p_y_given_z, cycles))


@jax.jit
def merge(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """Equal clusters as one, those without mass left out, sorted by mass, for each β of a batch.

    Returns:
      log p(z) (B, z), log p(y|z) (B, z, y), the free energy (B,), and how many clusters are left (B,).
    """

    def merge_one(arguments):
        beta, log_p_z, log_p_y_given_z = arguments
        # Heaviest first: an empty cluster costs nothing to merge with any, and must join one of them, never they it.
        heaviest = jnp.argsort(-log_p_z)
        log_p_z, log_p_y_given_z = log_p_z[heaviest], log_p_y_given_z[heaviest]
        mass, decoders = jnp.exp(log_p_z), jnp.exp(log_p_y_given_z)
        entropy = -jnp.sum(decoders * log_p_y_given_z, axis=1)
        share = mass[:, None] / (mass[:, None] + mass[None, :])
        mixture = share[:, :, None] * decoders[:, None] + (1 - share)[:, :, None] * decoders[None]
        divergence = -jnp.sum(plogp(mixture), axis=2) - share * entropy[:, None] - (1 - share) * entropy[None, :]
        tolerance = jnp.maximum(MERGE_TOLERANCE, 10 * float(jnp.finfo(mass.dtype).eps))
        cost = (mass[:, None] + mass[None, :]) * beta * divergence
        own = jnp.arange(len(mass))
        cost = jnp.where(own[None, :] < own[:, None], cost, jnp.inf)
        # To the nearest of those that are close to no heavier one; where none of them is close enough, to none.
        stays = jnp.min(cost, axis=1) >= tolerance
        cost = jnp.where(stays[None, :] & ~stays[:, None], cost, jnp.inf)
        target = jnp.where(jnp.min(cost, axis=1) < tolerance, jnp.argmin(cost, axis=1), own)
        members = (target[None, :] == jnp.arange(len(mass))[:, None]) * mass[None, :]
        merged_mass = jnp.sum(members, axis=1)
        kept = merged_mass > tolerance
        centre = (members @ decoders) / jnp.where(kept, merged_mass, 1)[:, None]
        order = jnp.argsort(-jnp.where(kept, merged_mass, 0))
        new_log_p_z = log_floored(jnp.where(kept, merged_mass, 0))[order]
        new_log_p_y_given_z = jnp.where(kept[:, None], log_floored(centre), log_p_y_given_z)[order]
        free_energy = log_encoder(problem, beta, alpha, new_log_p_z, new_log_p_y_given_z)[1]
        return new_log_p_z, new_log_p_y_given_z, free_energy, jnp.sum(kept)

    return jax.lax.map(merge_one, (beta, log_p_z, log_p_y_given_z))


@jax.jit
def _newton(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z):
    """Damped Newton steps on the logarithms, for few clusters near a transition, where iterations hardly move."""
    shape, n_clusters = log_p_y_given_z.shape[1:], log_p_z.shape[1]
    unused = jnp.log(jnp.asarray(2 * smallest_probability(log_p_z.dtype), log_p_z.dtype))

    def refine_one(arguments):
        beta, log_p_z, log_p_y_given_z = arguments
        used = log_p_z > unused

        def split(point):
            masses = jax.nn.log_softmax(jnp.where(used, point[:n_clusters], -jnp.inf))
            decoders = jax.nn.log_softmax(point[n_clusters:].reshape(shape), axis=1)
            return jnp.where(used, masses, unused), decoders

        def free_energy(point):
            return log_encoder(problem, beta, alpha, *split(point))[1]

        free = jnp.concatenate([used, jnp.repeat(used, shape[1])])

        def newton_step(state):
            point, value, count, _ = state
            gradient, curvature = jax.grad(free_energy)(point), jax.hessian(free_energy)(point)
            values, vectors = jnp.linalg.eigh(curvature)
            # Downhill along negative curvature too, in which a cluster of little mass grows; flat directions (the
            # normalisations) are left as they are.
            size = jnp.where(jnp.abs(values) > 1e-14, jnp.abs(values), jnp.inf)
            step = -vectors @ ((vectors.T @ gradient) / size)
            step = jnp.where(free, step / jnp.maximum(1, jnp.max(jnp.abs(step)) / 2), 0)
            candidates = jnp.stack([point + step, point + step / 8])
            energies = jax.lax.map(free_energy, candidates)
            best = jnp.argmin(energies)
            better = energies[best] < value
            point = jnp.where(better, candidates[best], point)
            return point, jnp.where(better, energies[best], value), count + 1, ~better

        start = jnp.concatenate([log_p_z, log_p_y_given_z.ravel()])
        state = (start, free_energy(start), 0, jnp.asarray(False))
        point = jax.lax.while_loop(lambda state: (state[2] < 60) & ~state[3], newton_step, state)[0]
        return split(point)

    return jax.lax.map(refine_one, (beta, log_p_z, log_p_y_given_z))


def _batches(indices, size):
    """Pairs of indices and the same padded to a length that is a power of two, so that few programs are compiled.

    At least one batch for each core. Every batch takes its indices at even distances: neighbouring β take about as
    long, and the batches are to be done at about the same time.
    """
    size = max(1, 2 ** int(np.log2(size)))
    n = max(-(-len(indices) // size), min(parallel.cores(), len(indices) // 8))
    parts = [indices[i::n] for i in range(max(n, 1))]
    return [(part, np.resize(part, padding.size(len(part)))) for part in parts]


def _padded_size(count: int, max_clusters: int) -> int:
    """The next power of two, at least 4 and at most `max_clusters`."""
    return min(max_clusters, padding.size(count, 4))


def _used(log_p_z) -> np.ndarray:
    """Which clusters are in use."""
    return log_p_z > np.log(2 * smallest_probability(log_p_z.dtype))


def n_used(solution: Solution) -> np.ndarray:
    """Clusters in use, (B,)."""
    return np.sum(_used(solution.log_p_z), axis=1)


def solve(
    problem: Problem, beta, alpha, log_p_z, log_p_y_given_z, *, tolerance: float, max_steps: int, callback=None
) -> Solution:
    """Converged solutions from the clusters given, (B, z) and (B, z, y), for all β at once.

    A β that has converged leaves the computation; `callback` is told how many have, after every round of cycles.
    """
    beta = np.asarray(beta)
    dtype = problem.p_x.dtype
    max_clusters = log_p_z.shape[1]
    log_p_z, log_p_y_given_z = np.array(log_p_z, dtype), np.array(log_p_y_given_z, dtype)
    residual, free_energy = np.full(len(beta), np.inf), np.full(len(beta), np.inf)
    counts = np.full(len(beta), max_clusters)
    pending, done, cycles = np.arange(len(beta)), 0, max(1, min(8, max_steps // 3))
    while len(pending) and done < max_steps:
        sizes = np.array([_padded_size(counts[i], max_clusters) for i in pending])
        for size in np.unique(sizes):
            group = pending[sizes == size]

            def run(batch, size=size, cycles=cycles):
                part, padded = batch
                solution = jnp.asarray(log_p_z[padded, :size]), jnp.asarray(log_p_y_given_z[padded, :size])
                batch_beta = jnp.asarray(beta[padded], dtype)
                # The repeated entries that only pad the batch run no cycles.
                batch_cycles = jnp.where(jnp.arange(len(padded)) < len(part), cycles, 0)
                *solution, lengths = _run(problem, batch_beta, alpha, *solution, batch_cycles, tolerance)
                return *merge(problem, batch_beta, alpha, *solution), lengths

            batches = _batches(group, _BATCH_ELEMENTS / (len(problem.p_x) * size))
            for (part, _), results in zip(batches, parallel.map(run, batches), strict=True):
                masses, decoders, energies, n_left, lengths = (np.asarray(result)[: len(part)] for result in results)
                log_p_z[part], log_p_y_given_z[part] = np.log(smallest_probability(dtype)), log_p_y_given_z[part][:, :1]
                log_p_z[part, :size], log_p_y_given_z[part, :size] = masses, decoders
                residual[part], free_energy[part], counts[part] = lengths, energies, n_left
        done += 3 * cycles
        cycles = min(2 * cycles, 256)
        pending = pending[residual[pending] > tolerance]
        if callback is not None:
            callback(len(beta) - len(pending))
    return Solution(log_p_z, log_p_y_given_z, free_energy, residual)


def keep_better(first: Solution, second: Solution, least_gain: float = 0.0) -> Solution:
    """Of two solutions for each β the one of the lower free energy."""
    better = second.free_energy < first.free_energy - least_gain
    return _replaced(first, better, _selected(second, better))


def identity_start(problem: Problem, n_beta: int) -> tuple[np.ndarray, np.ndarray]:
    """The start Z = X for each β."""
    if problem.dual:
        log_p_y_given_z = jax.nn.log_softmax(problem.log_p_y_given_x, axis=1)
    else:
        log_p_y_given_z = log_floored(problem.p_y_given_x)
    return np.tile(np.log(problem.p_x), (n_beta, 1)), np.tile(log_p_y_given_z, (n_beta, 1, 1))


def newton_refine(problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int) -> Solution:
    """Newton steps where the iterations have not converged and the clusters are few enough, then iterations again."""
    counts = n_used(solution)
    unknowns = counts * (1 + solution.log_p_y_given_z.shape[2])
    slow = np.flatnonzero((solution.residual > tolerance) & (unknowns <= _MAX_NEWTON_UNKNOWNS))
    sizes = np.array([_padded_size(int(counts[i]), solution.log_p_z.shape[1]) for i in slow], int)
    # The cost grows with the cube of the number of clusters: each β gets no more of them than it needs.
    for size in np.unique(sizes):
        group = slow[sizes == size]

        def run(i, arrays=(beta, solution.log_p_z[:, :size], solution.log_p_y_given_z[:, :size])):
            one_beta, log_p_z, log_p_y_given_z = (jnp.asarray(array[[i]]) for array in arrays)
            return _newton(problem, one_beta.astype(log_p_z.dtype), alpha, log_p_z, log_p_y_given_z)

        start = (np.concatenate(parts) for parts in zip(*parallel.map(run, list(group)), strict=True))
        refined = solve(problem, beta[group], alpha, *start, tolerance=tolerance, max_steps=max_steps)
        better = (refined.free_energy <= solution.free_energy[group] + 1e-13) & np.isfinite(refined.free_energy)
        solution = _replaced(solution, group[better], _selected(refined, better))
    return solution


def warm_start_from_neighbours(
    problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int, rounds: int = 3
) -> Solution:
    """Tries the solution of each neighbouring β, from above and from below, until none is better."""
    order = np.argsort(beta, kind="stable")
    for _ in range(rounds):
        changed = False
        for source, target in ((order[1:], order[:-1]), (order[:-1], order[1:])):
            if not len(target):
                continue
            start = (solution.log_p_z[source], solution.log_p_y_given_z[source])
            # A few steps tell whether a start is promising: the solutions it must beat have converged.
            tried = solve(problem, beta[target], alpha, *start, tolerance=1e-5, max_steps=WARMUP_STEPS)
            least_gain = 1e-12 * (1 + np.abs(solution.free_energy[target]))
            better = tried.free_energy < solution.free_energy[target] - least_gain
            if better.any():
                changed = True
                start = (tried.log_p_z[better], tried.log_p_y_given_z[better])
                target = target[better]
                tried = solve(problem, beta[target], alpha, *start, tolerance=tolerance, max_steps=max_steps)
                solution = _replaced(solution, target, tried)
        if not changed:
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
        return solution, gaps, np.full(len(beta), n_labels == 2)
    proven, unproven = np.array(gaps), np.arange(len(beta))
    for _ in range(rounds):
        bounds = parallel.map(partial(_bound, problem, beta, solution, gaps), list(unproven))
        proven[unproven] = [bound.upper for bound in bounds]
        # Where the search has overlooked a cluster, it is added, and the new solution bounded in its turn.
        found = np.array([bound.found for bound in bounds])
        overlooked = found > np.maximum(gaps[unproven], gap_tolerance)
        if not overlooked.any():
            break
        unproven, decoders = unproven[overlooked], np.array([bound.s for bound in bounds])
        gaps[unproven], missing[unproven] = found[overlooked], decoders[overlooked]
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


def _bound(problem: Problem, beta, solution: Solution, gaps, i: int) -> "_branch_and_bound.Bound":
    """`proven_bound` for the i-th β."""
    return proven_bound(
        problem, beta[i], solution.log_p_z[i], solution.log_p_y_given_z[i], known=max(float(gaps[i]), 0.0),
        tolerance=_branch_and_bound.TOLERANCE[problem.p_y_given_x.shape[1]],
    )  # fmt: skip


def proven_bound(
    problem: Problem, beta, log_p_z, log_p_y_given_z, *, known: float, tolerance: float
) -> "_branch_and_bound.Bound":
    """A proven upper bound on log max_s G for clusters (z,) and (z, y) at one β; the rest as `upper_bound`."""
    log_c = np.log(np.asarray(problem.p_x)) - np.asarray(_log_partition(problem, beta, log_p_z, log_p_y_given_z))
    return _branch_and_bound.upper_bound(
        log_c, np.asarray(problem.p_y_given_x), float(beta), dual=problem.dual, known=known, tolerance=tolerance
    )


_log_partition = jax.jit(_duality_gap.log_partition)


def _with_missing_clusters(
    problem: Problem, beta, solution: Solution, gaps, missing, *, gap_tolerance, solve_options, rounds
) -> tuple[Solution, np.ndarray, np.ndarray]:
    """Solutions to which the missing clusters (B, y) were added while that lowers the gap; gaps and what is missing."""
    alpha = jnp.ones((), problem.p_x.dtype)
    gaps, missing = np.array(gaps), np.array(missing)
    for _ in range(rounds):
        loose = np.flatnonzero(gaps > gap_tolerance)
        if not len(loose):
            break
        current = _selected(solution, loose)
        log_missing = log_floored(missing[loose])[:, None]
        arrays = (beta[loose], current.log_p_z, current.log_p_y_given_z, log_missing)
        share = np.asarray(best_share(problem, *(jnp.asarray(array) for array in arrays)))[:, None]
        log_p_z = np.concatenate([current.log_p_z + np.log1p(-share), np.log(share)], 1)
        log_p_y_given_z = np.concatenate([current.log_p_y_given_z, log_missing], 1)
        tried = solve(problem, beta[loose], alpha, log_p_z, log_p_y_given_z, **solve_options)
        tried = newton_refine(problem, beta[loose], alpha, tried, **solve_options)
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


@jax.jit
def best_share(problem: Problem, beta, log_p_z, log_p_y_given_z, log_new) -> Array:
    """The mass (B,) at which new clusters of equal mass, log p(y|z) (B, k, y), lower F most: F is convex in it."""

    def best_one(arguments):
        beta, log_p_z, log_p_y_given_z, log_new = arguments
        log_z = _duality_gap.log_partition(problem, beta, log_p_z, log_p_y_given_z)
        gain = jnp.mean(jnp.expm1(-beta * distortion(problem, log_new) - log_z[:, None]), axis=1)

        def halve(_, interval):
            low, high = interval
            middle = (low + high) / 2
            rises = problem.p_x @ (gain / (1 + middle * gain)) > 0
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        interval = (jnp.zeros((), log_p_z.dtype), jnp.asarray(0.5, log_p_z.dtype))
        return jnp.maximum(jax.lax.fori_loop(0, 40, halve, interval)[1], 1e-9)

    return jax.lax.map(best_one, (beta, log_p_z, log_p_y_given_z, log_new))


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
    empty = np.log(smallest_probability(solution.log_p_z.dtype))
    return Solution(
        np.pad(solution.log_p_z, ((0, 0), (0, extra)), constant_values=empty),
        np.pad(solution.log_p_y_given_z, ((0, 0), (0, extra), (0, 0)), mode="edge"),
        np.array(solution.free_energy),
        np.array(solution.residual),
    )


@jax.jit
def _maxima(problem: Problem, beta, log_p_z, log_p_y_given_z, centres):
    """log max_s G(s) and the maximiser for each β of a batch."""
    arguments = (beta, log_p_z, log_p_y_given_z, centres)
    return jax.vmap(lambda *each: _duality_gap.maximise(problem, *each)[:2])(*arguments)


def _gaps(problem: Problem, beta, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """log max_s G for every β, (B,), and the maximisers, (B, y)."""
    gaps = np.zeros(len(beta))
    maximisers = np.zeros((len(beta), problem.p_y_given_x.shape[1]), problem.p_x.dtype)
    sizes = np.array([_padded_size(count, solution.log_p_z.shape[1]) for count in n_used(solution)])
    of_rows = _duality_gap.tree_centres(problem, np.asarray(problem.p_y_given_x), np.asarray(problem.p_x))
    for size in np.unique(sizes):

        def run(batch, size=size):
            padded = batch[1]
            log_p_z, log_p_y_given_z = solution.log_p_z[padded, :size], solution.log_p_y_given_z[padded, :size]
            # Of the rows and of each solution's decoders.
            centres = [
                np.concatenate([of_rows, _duality_gap.tree_centres(problem, np.exp(p), np.exp(mass))])
                for p, mass in zip(log_p_y_given_z, log_p_z, strict=True)
            ]
            arrays = (beta[padded], log_p_z, log_p_y_given_z, np.stack(centres))
            return _maxima(problem, *(jnp.asarray(array) for array in arrays))

        group = np.flatnonzero(sizes == size)
        n_x = len(problem.p_x)
        batches = _batches(group, max(1, _BATCH_ELEMENTS / (4 * n_x * (n_x + len(of_rows) + 2 * size))))
        for (part, _), (log_g, s) in zip(batches, parallel.map(run, batches), strict=True):
            gaps[part], maximisers[part] = np.asarray(log_g)[: len(part)], np.asarray(s)[: len(part)]
    return gaps, maximisers


def single_cluster(problem: Problem, beta) -> Solution:
    """One cluster for every β."""
    log_p_y = log_decode(problem, problem.p_x[None, :])
    mean_distortion = float(problem.p_x @ distortion(problem, log_p_y)[:, 0])
    dtype, n_beta = problem.p_x.dtype, len(beta)
    return Solution(
        np.zeros((n_beta, 1), dtype),
        np.tile(np.asarray(log_p_y)[None], (n_beta, 1, 1)),
        np.asarray(beta, float) * mean_distortion,
        np.zeros(n_beta),
    )


def random_start(problem: Problem, n_beta: int, key) -> tuple[np.ndarray, np.ndarray]:
    """As many clusters as inputs, each a random mixture of few inputs."""
    n = len(problem.p_x)
    p_x_given_z = jax.random.dirichlet(key, jnp.full(n, 0.3, problem.p_x.dtype), (n,))
    log_p_y_given_z = np.asarray(log_floored(decode(problem, p_x_given_z)))
    return np.full((n_beta, n), -np.log(n), problem.p_x.dtype), np.tile(log_p_y_given_z[None], (n_beta, 1, 1))


def partition_start(problem: Problem, assignments) -> tuple[np.ndarray, np.ndarray]:
    """The clusters of given partitions of the inputs, one for each β."""
    n, p_x = len(problem.p_x), np.asarray(problem.p_x)
    members = np.asarray(assignments)[:, None, :] == np.arange(n)[None, :, None]
    p_zx = members * p_x[None, None]
    p_z = p_zx.sum(2)
    p_x_given_z = np.where(p_z[:, :, None] > 0, p_zx, p_x) / np.where(p_z > 0, p_z, 1)[:, :, None]
    p_y_given_z = jax.vmap(partial(decode, problem))(jnp.asarray(p_x_given_z))
    return log_floored(p_z), np.asarray(log_floored(p_y_given_z))


def merge_down_to(
    n_clusters: int, problem: Problem, beta, alpha, solution: Solution, *, tolerance: float, max_steps: int
) -> Solution:
    """At most `n_clusters` of them: the two that cost least to merge become one, again and again; then solved anew."""
    log_p_z, log_p_y_given_z = solution.log_p_z.copy(), solution.log_p_y_given_z.copy()
    for i, used in enumerate(_used(log_p_z)):
        mass, decoders = np.exp(log_p_z[i, used]), np.exp(log_p_y_given_z[i, used])
        while len(mass) > n_clusters:
            entropy = -np.sum(plogp(decoders), axis=1)
            share = mass[:, None] / (mass[:, None] + mass[None])
            mixture = share[:, :, None] * decoders[:, None] + (1 - share)[:, :, None] * decoders[None]
            divergence = -np.sum(plogp(mixture), axis=2) - share * entropy[:, None] - (1 - share) * entropy[None, :]
            cost = (mass[:, None] + mass[None]) * divergence
            cost[np.diag_indices(len(mass))] = np.inf
            a, b = sorted(np.unravel_index(np.argmin(cost), cost.shape))
            decoders[a], mass[a] = mixture[a, b], mass[a] + mass[b]
            mass, decoders = np.delete(mass, b), np.delete(decoders, b, axis=0)
        log_p_z[i], count = np.log(smallest_probability(log_p_z.dtype)), len(mass)
        log_p_z[i, :count] = np.log(mass)
        log_p_y_given_z[i, :count] = log_floored(decoders)
    start = log_p_z[:, :n_clusters], log_p_y_given_z[:, :n_clusters]
    return solve(problem, beta, alpha, *start, tolerance=tolerance, max_steps=max_steps)


@jax.jit
def encoders(problem: Problem, beta, alpha, log_p_z, log_p_y_given_z) -> Float[Array, "b x z"]:
    """p(z|x), (B, x, z), of the clusters over β; clusters not in use get 0."""
    unused = np.log(2 * smallest_probability(problem.p_x.dtype))

    def encode_one(arguments):
        beta, log_p_z, log_p_y_given_z = arguments
        log_p_z = jnp.where(log_p_z > unused, log_p_z, -jnp.inf)
        return jnp.exp(log_encoder(problem, beta, alpha, log_p_z, log_p_y_given_z)[0])

    return jax.lax.map(encode_one, (beta, log_p_z, log_p_y_given_z))
