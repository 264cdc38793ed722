"""The self-consistent iterations of the bottleneck family, for a whole grid of β at once.

The room behind `ntkinfo.bottleneck`: no checks. A solution is a list of clusters, log p(z) and log p(y|z); the encoder
follows from it. Every β starts from Z = X, so they vectorise; solutions of neighbouring β are then exchanged in both
directions, which is what annealing up and down would find, and the lowest Lagrangian is kept.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import parallel
from ntkinfo.bottleneck import _duality_gap

# Elements (β, x, z) of one compiled call: what stays in the cache of a CPU core.
_BATCH = 2**19
# Clusters whose merging costs less than this in nats are one, and so are masses below it none.
_SAME = 1e-10
# Sweeps that a start from a neighbouring β gets to show its worth.
_SCOUTING = 24
# Newton steps are taken up to this many unknowns.
_NEWTON = 640


class Table(NamedTuple):
    """A problem: p(x), and p(y|x) with its logarithms (those of the dual need no normalisation)."""

    p_x: Array
    rows: Array
    logs: Array
    dual: bool


class Clusters(NamedTuple):
    """Solutions over β: log p(z) (B, z) and log p(y|z) (B, z, y), the free energy F (B,) and the last residual (B,)."""

    prior: Array
    decoders: Array
    energy: Array
    residual: Array


def table(p_xy, dual: bool) -> Table:
    """The problem of a joint distribution."""
    p_x = jnp.sum(p_xy, axis=1)
    rows = p_xy / p_x[:, None]
    return Table(p_x, rows, jnp.log(jnp.where(rows > 0, rows, 1)), dual)


def least(dtype) -> float:
    """The smallest probability kept, so that logarithms stay finite."""
    return 1e-300 if dtype == jnp.float64 else 1e-36


def distances(problem: Table, decoders) -> Array:
    """d(x, z) in nats, (x, z), from log p(y|z)."""
    if problem.dual:
        s = jnp.exp(decoders)
        return jnp.sum(s * decoders, axis=1)[None, :] - problem.logs @ s.T
    return jnp.sum(problem.rows * problem.logs, axis=1)[:, None] - problem.rows @ decoders.T


def encoder(problem: Table, beta, alpha, prior, decoders):
    """log p(z|x) (x, z) and the free energy -α Σ p(x) log Σ_z exp[(log p(z) - β d(x, z))/α]."""
    logits = (prior[None, :] - beta * distances(problem, decoders)) / alpha
    total = jax.nn.logsumexp(logits, axis=1)
    return logits - total[:, None], -alpha * problem.p_x @ total


def sweep(problem: Table, beta, alpha, prior, decoders):
    """One self-consistent step: new log p(z), log p(y|z), and the free energy of the old ones. F never rises."""
    # The exponentials are most of the cost: one for each (x, z), where `encoder` takes two.
    logits = (prior[None, :] - beta * distances(problem, decoders)) / alpha
    largest = jnp.max(logits, axis=1)
    odds = jnp.exp(logits - largest[:, None])
    total = jnp.sum(odds, axis=1)
    energy = -alpha * problem.p_x @ (largest + jnp.log(total))
    floor = least(prior.dtype)
    joint = (problem.p_x / total)[:, None] * odds
    mass = jnp.sum(joint, axis=0)
    used = mass > floor
    weights = (joint / jnp.where(used, mass, 1)[None, :]).T
    if problem.dual:
        new = jax.nn.log_softmax(weights @ problem.logs, axis=1)
    else:
        new = jnp.log(jnp.maximum(weights @ problem.rows, floor))
    return jnp.log(jnp.maximum(mass, floor)), jnp.where(used[:, None], new, decoders), energy


def _cycle(problem, beta, alpha, prior, decoders):
    """SQUAREM on the logarithms: two plain steps, an extrapolation, one more; the plain ones where it does not pay."""
    first = sweep(problem, beta, alpha, prior, decoders)
    second = sweep(problem, beta, alpha, *first[:2])
    step = (first[0] - prior, first[1] - decoders)
    turn = (second[0] - first[0] - step[0], second[1] - first[1] - step[1])
    mass = jnp.exp(first[0])

    def norm(change):
        # By mass: what happens to a cluster that is dying does not count.
        inner = jnp.sum(jnp.exp(first[1]) * change[1] ** 2, axis=1)
        return jnp.sqrt(jnp.sum(mass * (change[0] ** 2 + inner)))

    size, bend = norm(step), norm(turn)
    a = jnp.clip(size / jnp.where(bend > 0, bend, 1), 1, 1e4)
    far = [old + 2 * a * s + a**2 * t for old, s, t in zip((prior, decoders), step, turn, strict=True)]
    lowest = jnp.log(jnp.asarray(least(prior.dtype), prior.dtype))
    far = [jnp.maximum(jax.nn.log_softmax(each, axis=-1), lowest) for each in far]
    third = sweep(problem, beta, alpha, *far)
    better = third[2] <= second[2]
    return jnp.where(better, third[0], second[0]), jnp.where(better, third[1], second[1]), second[2], size


@partial(jax.jit, static_argnames=("dual",))
def _run(p_x, rows, logs, beta, alpha, prior, decoders, cycles, tolerance, dual):
    """Cycles for a batch of β, each until it has settled or its `cycles` (B,) are done."""
    problem = Table(p_x, rows, logs, dual)

    def one(beta, prior, decoders, cycles):
        def body(state):
            prior, decoders, _, _, count = state
            return (*_cycle(problem, beta, alpha, prior, decoders), count + 1)

        def unfinished(state):
            return (state[4] < cycles) & (state[3] > tolerance)

        start = jnp.full((), jnp.inf, prior.dtype)
        prior, decoders, _, residual, _ = jax.lax.while_loop(unfinished, body, (prior, decoders, start, start, 0))
        return prior, decoders, residual

    # One β after the other: none waits for another, and each stays in the cache.
    return jax.lax.map(lambda each: one(*each), (beta, prior, decoders, cycles))


@partial(jax.jit, static_argnames=("dual",))
def _merge(p_x, rows, logs, beta, alpha, prior, decoders, dual):
    """Equal clusters as one, those without mass away, sorted by mass; with the free energy and how many are left."""
    problem = Table(p_x, rows, logs, dual)

    def one(beta, prior, decoders):
        mass, s = jnp.exp(prior), jnp.exp(decoders)
        entropy = -jnp.sum(s * decoders, axis=1)
        share = mass[:, None] / (mass[:, None] + mass[None, :])
        middle = share[:, :, None] * s[:, None] + (1 - share)[:, :, None] * s[None]
        mixed = -jnp.sum(jnp.where(middle > 0, middle * jnp.log(jnp.where(middle > 0, middle, 1)), 0), axis=2)
        apart = mixed - share * entropy[:, None] - (1 - share) * entropy[None, :]
        floor = jnp.maximum(_SAME, 10 * jnp.finfo(mass.dtype).eps)
        close = (mass[:, None] + mass[None, :]) * beta * apart < floor
        # To the first of those close to it, where that one stands for itself.
        target = jnp.argmax(close, axis=1)
        target = jnp.where(target[target] == target, target, jnp.arange(len(mass)))
        member = (target[None, :] == jnp.arange(len(mass))[:, None]) * mass[None, :]
        merged = jnp.sum(member, axis=1)
        kept = merged > floor
        centre = (member @ s) / jnp.where(kept, merged, 1)[:, None]
        order = jnp.argsort(-jnp.where(kept, merged, 0))
        lowest = jnp.asarray(least(mass.dtype), mass.dtype)
        new = jnp.log(jnp.maximum(jnp.where(kept, merged, 0), lowest))[order]
        new_decoders = jnp.where(kept[:, None], jnp.log(jnp.maximum(centre, lowest)), decoders)[order]
        return new, new_decoders, encoder(problem, beta, alpha, new, new_decoders)[1], jnp.sum(kept)

    return jax.lax.map(lambda each: one(*each), (beta, prior, decoders))


@partial(jax.jit, static_argnames=("dual",))
def _newton(p_x, rows, logs, beta, alpha, prior, decoders, dual):
    """Damped Newton steps on the logarithms, for few clusters near a transition, where iterations hardly move."""
    problem = Table(p_x, rows, logs, dual)
    shape, k = decoders.shape[1:], prior.shape[1]
    unused = jnp.log(jnp.asarray(2 * least(prior.dtype), prior.dtype))

    def one(beta, u, v):
        used = u > unused

        def split(point):
            u = jnp.where(used, point[:k], -jnp.inf)
            new = jax.nn.log_softmax(u)
            return jnp.where(used, new, unused), jax.nn.log_softmax(point[k:].reshape(shape), axis=1)

        def energy(point):
            return encoder(problem, beta, alpha, *split(point))[1]

        free = jnp.concatenate([used, jnp.repeat(used, shape[1])])

        def body(state):
            point, value, count, _ = state
            gradient, curvature = jax.grad(energy)(point), jax.hessian(energy)(point)
            values, vectors = jnp.linalg.eigh(curvature)
            # Uphill and flat directions (the normalisations) are left as they are.
            size = jnp.where(values > 1e-14, values, jnp.inf)
            step = -vectors @ ((vectors.T @ gradient) / size)
            step = jnp.where(free, step / jnp.maximum(1, jnp.max(jnp.abs(step)) / 2), 0)
            tried = jnp.stack([point + step, point + step / 8])
            energies = jax.lax.map(energy, tried)
            best = jnp.argmin(energies)
            better = energies[best] < value
            point = jnp.where(better, tried[best], point)
            return point, jnp.where(better, energies[best], value), count + 1, ~better

        start = jnp.concatenate([u, v.ravel()])
        going = (start, energy(start), 0, jnp.asarray(False))
        point = jax.lax.while_loop(lambda state: (state[2] < 60) & ~state[3], body, going)[0]
        return split(point)

    return jax.lax.map(lambda each: one(*each), (beta, prior, decoders))


def _batches(indices, size):
    """Pairs of indices and their positions in vectors of few different lengths: powers of two, filled up by repeating.

    At least one for each core; neighbours, which take alike, go apart.
    """
    size = max(1, 2 ** int(np.log2(size)))
    n = max(-(-len(indices) // size), min(parallel.cores(), len(indices) // 8))
    parts = [indices[i::n] for i in range(max(n, 1))]
    return [(part, np.resize(part, 2 ** int(np.ceil(np.log2(len(part)))))) for part in parts]


def _slots(count: int, most: int) -> int:
    return min(most, max(4, 2 ** int(np.ceil(np.log2(max(count, 1))))))


def settle(problem: Table, beta, alpha, prior, decoders, *, tolerance: float, sweeps: int, watch=None) -> Clusters:
    """Converged solutions from the clusters given, (B, z) and (B, z, y): settled ones leave the computation early."""
    beta = np.asarray(beta)
    dtype = problem.p_x.dtype
    slots = prior.shape[1]
    prior, decoders = np.array(prior, dtype), np.array(decoders, dtype)
    residual, energy = np.full(len(beta), np.inf), np.full(len(beta), np.inf)
    counts = np.full(len(beta), slots)
    pending, done, cycles = np.arange(len(beta)), 0, max(1, min(8, sweeps // 3))
    arrays = problem[:3]
    while len(pending) and done < sweeps:
        sizes = np.array([_slots(counts[i], slots) for i in pending])
        for size in np.unique(sizes):
            group = pending[sizes == size]

            def run(batch, size=size, cycles=cycles):
                part, padded = batch
                u, v = jnp.asarray(prior[padded, :size]), jnp.asarray(decoders[padded, :size])
                b = jnp.asarray(beta[padded], dtype)
                # What only fills up the batch takes no cycles.
                own = jnp.where(jnp.arange(len(padded)) < len(part), cycles, 0)
                u, v, size_of_step = _run(*arrays, b, alpha, u, v, own, tolerance, problem.dual)
                return *_merge(*arrays, b, alpha, u, v, problem.dual), size_of_step

            batches = _batches(group, _BATCH / (len(problem.p_x) * size))
            for (part, _), results in zip(batches, parallel.map(run, batches), strict=True):
                u, v, f, count, size_of_step = (np.asarray(each)[: len(part)] for each in results)
                prior[part], decoders[part] = np.log(least(dtype)), decoders[part][:, :1]
                prior[part, :size], decoders[part, :size] = u, v
                residual[part], energy[part], counts[part] = size_of_step, f, count
        done += 3 * cycles
        cycles = min(2 * cycles, 256)
        pending = pending[residual[pending] > tolerance]
        if watch is not None:
            watch(len(beta) - len(pending))
    return Clusters(prior, decoders, energy, residual)


def lower(first: Clusters, second: Clusters, least_gain=0.0) -> tuple[Clusters, np.ndarray]:
    """Of two solutions for each β the one of the lower free energy; where that is the second."""
    better = second.energy < first.energy - least_gain
    return _replaced(first, better, Clusters(*(each[better] for each in second))), better


def every_input(problem: Table, n_beta: int):
    """The start Z = X for each β."""
    floor = least(problem.p_x.dtype)
    logs = jax.nn.log_softmax(problem.logs, axis=1) if problem.dual else jnp.log(jnp.maximum(problem.rows, floor))
    return np.tile(np.log(problem.p_x), (n_beta, 1)), np.tile(logs, (n_beta, 1, 1))


def polish(problem: Table, beta, alpha, found: Clusters, *, tolerance: float, sweeps: int) -> Clusters:
    """Newton steps where the iterations have not settled and the clusters are few enough, then iterations again."""
    counts = np.sum(found.prior > np.log(2 * least(found.prior.dtype)), axis=1)
    width = 1 + found.decoders.shape[2]
    slow = np.flatnonzero((found.residual > tolerance) & (counts * width <= _NEWTON))
    sizes = np.array([_slots(int(counts[i]), found.prior.shape[1]) for i in slow], int)
    # The cost grows with the cube of the slots: each β with no more of them than it needs.
    for size in np.unique(sizes):
        group = slow[sizes == size]

        def run(i, solutions=(beta, found.prior[:, :size], found.decoders[:, :size])):
            b, u, v = (jnp.asarray(each[[i]]) for each in solutions)
            return _newton(*problem[:3], b.astype(u.dtype), alpha, u, v, problem.dual)

        u, v = (np.concatenate(each) for each in zip(*parallel.map(run, list(group)), strict=True))
        tried = settle(problem, beta[group], alpha, u, v, tolerance=tolerance, sweeps=sweeps)
        better = (tried.energy <= found.energy[group] + 1e-13) & np.isfinite(tried.energy)
        found = _replaced(found, group[better], Clusters(*(each[better] for each in tried)))
    return found


def exchange(problem: Table, beta, alpha, found: Clusters, *, tolerance: float, sweeps: int, rounds: int = 3):
    """Tries the solution of each neighbouring β, from above and from below, until none is better."""
    order = np.argsort(beta, kind="stable")
    for _ in range(rounds):
        changed = False
        for source, target in ((order[1:], order[:-1]), (order[:-1], order[1:])):
            if not len(target):
                continue
            start = (found.prior[source], found.decoders[source])
            # A few sweeps tell whether a start is promising: the solutions it must beat have settled.
            tried = settle(problem, beta[target], alpha, *start, tolerance=1e-5, sweeps=_SCOUTING)
            better = tried.energy < found.energy[target] - 1e-12 * (1 + np.abs(found.energy[target]))
            if better.any():
                changed = True
                start = (tried.prior[better], tried.decoders[better])
                target = target[better]
                tried = settle(problem, beta[target], alpha, *start, tolerance=tolerance, sweeps=sweeps)
                found = _replaced(found, target, tried)
        if not changed:
            break
    return found


def certify(problem: Table, beta, found: Clusters, *, tolerance: float, settle_options: dict, rounds: int = 6):
    """Certified gaps (B,), after adding the cluster that the certificate finds missing wherever it finds one."""
    one = jnp.ones((), problem.p_x.dtype)
    gaps, missing = _gaps(problem, beta, found)
    for _ in range(rounds):
        again = np.flatnonzero(gaps > tolerance)
        if not len(again):
            break
        dtype = found.prior.dtype
        current = Clusters(*(each[again] for each in found))
        start = (jnp.asarray(each) for each in (beta[again], current.prior, current.decoders, missing[again]))
        share = _shares(*problem[:3], *start, problem.dual)
        share = np.asarray(share)[:, None]
        prior = np.concatenate([current.prior + np.log1p(-share), np.log(share)], 1)
        new = np.log(np.maximum(missing[again], least(dtype)))[:, None]
        decoders = np.concatenate([current.decoders, new], 1)
        tried = settle(problem, beta[again], one, prior, decoders, **settle_options)
        tried = polish(problem, beta[again], one, tried, **settle_options)
        gaps_tried, missing_tried = _gaps(problem, beta[again], tried)
        # Near rounding the free energy cannot tell which is better; the certificate can.
        drop = current.energy - tried.energy
        better = (drop > 1e-13) | ((gaps_tried < gaps[again]) & (drop > -1e-13))
        if not better.any():
            break
        chosen, again = Clusters(*(each[better] for each in tried)), again[better]
        found = _replaced(found, again, chosen)
        gaps[again], missing[again] = gaps_tried[better], missing_tried[better]
    return found, gaps


@partial(jax.jit, static_argnames=("dual",))
def _shares(p_x, rows, logs, beta, prior, decoders, new, dual) -> Array:
    """The mass (B,) at which each new cluster lowers the free energy most: F is convex in it."""
    problem = Table(p_x, rows, logs, dual)

    def one(beta, u, v, s):
        log_z = jax.nn.logsumexp(u[None, :] - beta * distances(problem, v), axis=1)
        floor = least(u.dtype)
        gain = jnp.expm1(-beta * distances(problem, jnp.log(jnp.maximum(s, floor))[None])[:, 0] - log_z)

        def halve(_, interval):
            low, high = interval
            middle = (low + high) / 2
            rises = p_x @ (gain / (1 + middle * gain)) > 0
            return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

        start = (jnp.zeros((), u.dtype), jnp.asarray(0.5, u.dtype))
        return jnp.maximum(jax.lax.fori_loop(0, 40, halve, start)[1], 1e-9)

    return jax.lax.map(lambda each: one(*each), (beta, prior, decoders, new))


def _replaced(found: Clusters, where, new: Clusters) -> Clusters:
    """`found` with the solutions `new` in some places; both get the slots of the wider one."""
    width = max(found.prior.shape[1], new.prior.shape[1])
    wide, new = _widened(found, width), _widened(new, width)
    for name in Clusters._fields:
        getattr(wide, name)[where] = getattr(new, name)
    return wide


def _widened(found: Clusters, width: int) -> Clusters:
    """The same solutions with more slots, in arrays of their own."""
    extra = width - found.prior.shape[1]
    empty = np.log(least(found.prior.dtype))
    return Clusters(
        np.pad(found.prior, ((0, 0), (0, extra)), constant_values=empty),
        np.pad(found.decoders, ((0, 0), (0, extra), (0, 0)), mode="edge"),
        np.array(found.energy),
        np.array(found.residual),
    )


@partial(jax.jit, static_argnames=("dual",))
def _maxima(p_x, rows, beta, prior, decoders, dual):
    return jax.vmap(lambda b, u, v: _duality_gap.maximise(p_x, rows, b, jnp.exp(u), jnp.exp(v), dual))(
        beta, prior, decoders
    )


def _gaps(problem: Table, beta, found: Clusters):
    """log max_s G for every β, and the maximisers."""
    gaps, where = np.zeros(len(beta)), np.zeros((len(beta), problem.rows.shape[1]), problem.p_x.dtype)
    counts = np.sum(found.prior > np.log(2 * least(found.prior.dtype)), axis=1)
    sizes = np.array([_slots(count, found.prior.shape[1]) for count in counts])
    for size in np.unique(sizes):

        def run(batch, size=size):
            padded = batch[1]
            solutions = (beta[padded], found.prior[padded, :size], found.decoders[padded, :size])
            return _maxima(problem.p_x, problem.rows, *(jnp.asarray(each) for each in solutions), problem.dual)

        group = np.flatnonzero(sizes == size)
        batches = _batches(group, max(1, _BATCH / (4 * len(problem.p_x) * (len(problem.p_x) + size))))
        for (part, _), maximum in zip(batches, parallel.map(run, batches), strict=True):
            gaps[part], where[part] = np.asarray(maximum.log_g)[: len(part)], np.asarray(maximum.s)[: len(part)]
    return gaps, where


def decode(weights, problem: Table) -> Array:
    """p(y|z) (z, y) from p(x|z) (z, x)."""
    return jax.nn.softmax(weights @ problem.logs, axis=1) if problem.dual else weights @ problem.rows


def trivial(problem: Table, beta) -> Clusters:
    """One cluster for every β."""
    s = jnp.log(jnp.maximum(decode(problem.p_x[None, :], problem), least(problem.p_x.dtype)))
    mean = float(problem.p_x @ distances(problem, s)[:, 0])
    dtype, n = problem.p_x.dtype, len(beta)
    return Clusters(
        np.zeros((n, 1), dtype), np.tile(np.asarray(s)[None], (n, 1, 1)), np.asarray(beta, float) * mean, np.zeros(n)
    )


def random_start(problem: Table, n_beta: int, key):
    """As many clusters as inputs, each a random mixture of few inputs."""
    n = len(problem.p_x)
    weights = jax.random.dirichlet(key, jnp.full(n, 0.3, problem.p_x.dtype), (n,))
    s = jnp.log(jnp.maximum(decode(weights, problem), least(problem.p_x.dtype)))
    return np.full((n_beta, n), -np.log(n), problem.p_x.dtype), np.tile(np.asarray(s)[None], (n_beta, 1, 1))


def hard_start(problem: Table, assignments):
    """The clusters of given partitions of the inputs, one for each β."""
    n, floor = len(problem.p_x), least(problem.p_x.dtype)
    members = np.asarray(assignments)[:, None, :] == np.arange(n)[None, :, None]
    joint = members * np.asarray(problem.p_x)[None, None]
    mass = joint.sum(2)
    weights = np.where(mass[:, :, None] > 0, joint, np.asarray(problem.p_x)) / np.where(mass > 0, mass, 1)[:, :, None]
    s = jax.vmap(lambda each: decode(each, problem))(jnp.asarray(weights))
    return np.log(np.maximum(mass, floor)), np.log(np.maximum(np.asarray(s), floor))


def limit(problem: Table, beta, alpha, found: Clusters, n_clusters: int, **options) -> Clusters:
    """At most `n_clusters` of them: the two that cost least to merge are one, again and again, then all settle."""
    prior, decoders = found.prior[:, : found.prior.shape[1]].copy(), found.decoders.copy()
    empty = np.log(least(prior.dtype))
    for i in range(len(beta)):
        used = np.flatnonzero(prior[i] > np.log(2 * least(prior.dtype)))
        mass, s = np.exp(prior[i, used]), np.exp(decoders[i, used])
        while len(mass) > n_clusters:
            entropy = -np.sum(s * np.log(np.maximum(s, 1e-300)), axis=1)
            share = mass[:, None] / (mass[:, None] + mass[None])
            middle = share[:, :, None] * s[:, None] + (1 - share)[:, :, None] * s[None]
            mixed = -np.sum(middle * np.log(np.maximum(middle, 1e-300)), axis=2)
            cost = (mass[:, None] + mass[None]) * (mixed - share * entropy[:, None] - (1 - share) * entropy[None])
            cost[np.diag_indices(len(mass))] = np.inf
            a, b = sorted(np.unravel_index(np.argmin(cost), cost.shape))
            s[a], mass[a] = middle[a, b], mass[a] + mass[b]
            mass, s = np.delete(mass, b), np.delete(s, b, axis=0)
        prior[i], count = empty, len(mass)
        prior[i, :count] = np.log(mass)
        decoders[i, :count] = np.log(np.maximum(s, least(prior.dtype)))
    return settle(problem, beta, alpha, prior[:, :n_clusters], decoders[:, :n_clusters], **options)


def encoders(problem: Table, beta, alpha, prior, decoders) -> Array:
    """p(z|x), (B, x, z), of the clusters over β; clusters not in use get 0."""
    solutions = (jnp.asarray(each) for each in (beta, prior, decoders))
    return _encoders(*problem[:3], alpha, *solutions, problem.dual)


@partial(jax.jit, static_argnames=("dual",))
def _encoders(p_x, rows, logs, alpha, beta, prior, decoders, dual):
    problem = Table(p_x, rows, logs, dual)
    unused = np.log(2 * least(p_x.dtype))

    def one(beta, u, v):
        return jnp.exp(encoder(problem, beta, alpha, jnp.where(u > unused, u, -jnp.inf), v)[0])

    return jax.lax.map(lambda each: one(*each), (beta, prior, decoders))
