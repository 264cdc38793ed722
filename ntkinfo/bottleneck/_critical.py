"""Where the clusters of a bottleneck split: local and global critical beta, and the branches of the bifurcation.

*Local*: a cluster becomes unstable, beta lambda_2 = 1; annealing upwards sees these. *Global*: the optimum changes, a
cluster of zero mass at finite distance becoming profitable, max_s G(s) = 1; never later than the local one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import discrete
from ntkinfo._common import check
from ntkinfo.bottleneck._distortion import decode, distortion
from ntkinfo.bottleneck._duality_gap import maximise

STEP = 1.05  # factor between neighbouring beta while a branch is followed
PAST = 2e-3  # relative distance past a transition at which the new branch is entered
SAME = 1e-4  # decoders closer than this in every probability are one cluster
PROFIT = 1e-9  # log G above this is a missing cluster
SWEEPS = 20_000


class CriticalBetas(NamedTuple):
    """Critical values of beta, in order of the splits.

    Attributes:
      local: (n,) where a cluster of the branch annealed upwards becomes unstable, beta lambda_2 = 1.
      local_cluster: (n,) which cluster splits, clusters ordered by their decoder p(y|z), first class first.
      local_clusters: (n,) number of clusters after the split.
      global_: (m,) where the global optimum changes.
      global_clusters: (m,) number of clusters after the change.
    """

    local: jax.Array
    local_cluster: jax.Array
    local_clusters: jax.Array
    global_: jax.Array
    global_clusters: jax.Array


class Branch(NamedTuple):
    """The clusters of one branch over beta, ordered by their decoder.

    Attributes:
      beta: (B,) as given.
      decoder: (B, z, y) p(y|z) of the distinct clusters; `nan` in the slots not in use.
      mass: (B, z) p(z), zero in the slots not in use.
      n_clusters: (B,) number of distinct clusters.
    """

    beta: jax.Array
    decoder: jax.Array
    mass: jax.Array
    n_clusters: jax.Array


class Bifurcation(NamedTuple):
    """Three branches over one grid: annealed upwards, annealed downwards from Z = X, and the global optimum."""

    upward: Branch
    downward: Branch
    optimum: Branch


class _Problem(NamedTuple):
    p_x: jax.Array
    rows: jax.Array
    dual: bool


def stability(weights, rows, dual: bool = False):
    """Largest eigenvalue of the stability matrix of a cluster, but for the trivial one; it splits at 1/lambda_2.

    IB: C_{xx'} = sum_y p(y|x) p(y|x') p(x'|z) / p(y|z), whose largest eigenvalue 1 is left out. Dual:
    C_{xx'} = p(x'|z) Cov_{y ~ p(y|z)}[log p(y|x), log p(y|x')], centred over x. Both symmetrised as B B^T.

    Args:
      weights: (x,) p(x|z).
      rows: (x, y) p(y|x), positive where `dual`.
      dual: the dual bottleneck.

    Returns:
      (lambda_2, (x,) the direction in p(x|z) along which it splits). Exact.

    Source: theory, sections 7 and 8. Cost O(|X| |Y| min(|X|, |Y|)).
    """
    s = decode(weights[None, :], rows, dual)[0]
    if dual:
        logs = jnp.log(rows)
        logs = logs - (logs @ s)[:, None]
        scaled = (logs - (weights @ logs)[None, :]) * jnp.sqrt(s)[None, :]
    else:
        scaled = jnp.where(s > 0, (rows - s[None, :]) / jnp.sqrt(jnp.where(s > 0, s, 1))[None, :], 0)
    left, values, _ = jnp.linalg.svd(jnp.sqrt(weights)[:, None] * scaled, full_matrices=False)
    return values[0] ** 2, jnp.sqrt(weights) * left[:, 0]


def critical_betas(p_xy, *, dual: bool = False, beta_max: float | None = None) -> CriticalBetas:
    """The critical values of beta of the information bottleneck or its dual, local and global.

    Local: the trivial solution splits at beta = 1/lambda_2, later clusters where beta lambda_2(beta) = 1 along the
    stable branch, found by bisection. Global: first transition inf_w KL(w || p(x)) / gain(w); later ones where
    max_s G(s) passes 1 for the optimum so far.

    Args:
      p_xy: joint distribution (x, y); positive where `dual`.
      dual: the dual bottleneck.
      beta_max: splits beyond this are not looked for; ten times the first local value if None.

    Returns:
      A `CriticalBetas`. The first local value is exact; the first global one is exact where the search of `maximise`
      finds the maximum; later ones by bisection to 1e-8 along branches settled by at most 20,000 sweeps (float64).
      Splits less than 0.2 % apart are one. Empty where X and Y are independent.

    Raises:
      TypeError, ValueError: not a joint distribution; zeros in `p_xy` where `dual`; `beta_max` not positive.

    Source: theory, sections 7 and 8; Parker, Gedeon & Dimitrov (2003) for the local ones.

    Example:
      >>> found = critical_betas(jnp.array([[0.4, 0.1], [0.1, 0.4]]))
      >>> print(f"{float(found.local[0]):.4f}")
      2.7778
    """
    problem = _problem(p_xy, dual)
    first = float(stability(problem.p_x, problem.rows, dual)[0])
    if first <= 1e3 * float(jnp.finfo(problem.p_x.dtype).eps) ** 2:
        none, count = jnp.zeros(0, problem.p_x.dtype), jnp.zeros(0, int)
        return CriticalBetas(none, count, count, none, count)
    if beta_max is None:
        beta_max = 10 / first
    check.positive("beta_max", beta_max)
    local = _transitions(problem, 1 / first, beta_max, optimal=False)
    globally = _transitions(problem, _first_global(problem, 1 / first), beta_max, optimal=True)
    dtype = problem.p_x.dtype
    values, which, after = (np.array([row[i] for row in local]) for i in range(3))
    at, _, clusters = (np.array([row[i] for row in globally]) for i in range(3))
    return CriticalBetas(
        jnp.asarray(values, dtype),
        jnp.asarray(which, int),
        jnp.asarray(after, int),
        jnp.asarray(at, dtype),
        jnp.asarray(clusters, int),
    )


def bifurcation(p_xy, beta, *, dual: bool = False) -> Bifurcation:
    """The clusters of the three branches over a grid of beta: what a bifurcation diagram shows.

    Args:
      p_xy: joint distribution (x, y); positive where `dual`.
      beta: (B,) positive, increasing.
      dual: the dual bottleneck.

    Returns:
      A `Bifurcation`. The upward branch splits a cluster only once it is unstable, the downward one starts from Z = X;
      where they differ there is hysteresis. The optimum is certified by max_s G(s) <= 1 (two classes: proven).

    Raises:
      TypeError, ValueError: as `critical_betas`; `beta` not increasing.

    Source: theory, section 7.
    """
    problem = _problem(p_xy, dual)
    beta = check.array("beta", beta, ndim=1)
    check.positive("beta", beta)
    host = np.asarray(beta, float)
    if (np.diff(host) <= 0).any():
        raise ValueError("`beta` must increase; got values that do not. Sort it with `jnp.unique(beta)`.")
    upward, optimum, state = [], [], [_trivial(problem), _trivial(problem)]
    for value in host:
        state = [_grow(problem, value, state[i], optimal=bool(i)) for i in range(2)]
        upward.append(state[0])
        optimum.append(state[1])
    downward, current = [], (np.asarray(problem.p_x), np.asarray(problem.rows))
    for value in host[::-1]:
        current = _settle(problem, value, current)
        downward.append(current)
    return Bifurcation(*(_branch(problem, beta, states) for states in (upward, downward[::-1], optimum)))


def _problem(p_xy, dual: bool) -> _Problem:
    p_xy = discrete.check_joint("p_xy", p_xy)
    if dual and not bool(jnp.all(p_xy > 0)):
        raise ValueError(
            "`p_xy` must be positive for the dual bottleneck, whose distortion is infinite at zeros; got "
            f"{int(jnp.sum(p_xy <= 0))} zeros. Smooth it first, for instance (p_xy + 1e-6) / (p_xy + 1e-6).sum()."
        )
    p_xy = p_xy[jnp.sum(p_xy, axis=1) > 0]
    p_x = jnp.sum(p_xy, axis=1)
    return _Problem(p_x, p_xy / p_x[:, None], dual)


def _trivial(problem):
    s = decode(problem.p_x[None, :], problem.rows, problem.dual)
    return np.ones(1), np.asarray(s)


def _first_global(problem, local: float) -> float:
    """inf_w KL(w || p(x)) / gain(w), by Dinkelbach's iteration downwards from the local value."""
    p_x, rows, dual = problem
    prior, s_0 = (jnp.asarray(part, p_x.dtype) for part in _trivial(problem))
    beta = local
    for _ in range(100):
        found = maximise(p_x, rows, beta, prior, s_0, dual)
        saved = distortion(rows, s_0, dual)[:, 0] - distortion(rows, found.s[None, :], dual)[:, 0]
        w = jax.nn.softmax(jnp.log(p_x) + beta * saved)
        cost = float(jnp.sum(jax.scipy.special.xlogy(w, w / p_x)))
        s = decode(w[None, :], rows, dual)
        gain = float(w @ (distortion(rows, s_0, dual) - distortion(rows, s, dual))[:, 0])
        if float(found.log_g_found) <= 1e-11 or gain <= 0 or cost / gain >= beta * (1 - 1e-13):
            break
        beta = cost / gain
    return beta


@partial(jax.jit, static_argnames=("dual",))
def _converge(p_x, rows, beta, prior, decoders, dual):
    """Alternating minimisation from the clusters given, to rounding."""

    def sweep(state):
        prior, decoders, count, _ = state
        logits = jnp.log(prior)[None, :] - beta * distortion(rows, decoders, dual)
        joint = p_x[:, None] * jax.nn.softmax(logits, axis=1)
        mass = jnp.sum(joint, axis=0)
        used = mass > 0
        weights = jnp.where(used[:, None], (joint / jnp.where(used, mass, 1)[None, :]).T, p_x[None, :])
        s = jnp.where(used[:, None], decode(weights, rows, dual), decoders)
        change = jnp.max(mass[:, None] * jnp.abs(s - decoders)) + jnp.max(jnp.abs(mass - prior))
        return mass, s, count + 1, change

    def unfinished(state):
        return (state[2] < SWEEPS) & (state[3] > 8 * jnp.finfo(rows.dtype).eps)

    far = jnp.asarray(jnp.inf, rows.dtype)
    return jax.lax.while_loop(unfinished, sweep, (prior, decoders, 0, far))[:2]


@partial(jax.jit, static_argnames=("dual",))
def _inspect(p_x, rows, beta, prior, decoders, dual):
    """beta lambda_2 and the splitting direction in the decoder, per cluster."""
    logits = jnp.log(prior)[None, :] - beta * distortion(rows, decoders, dual)
    weights = p_x[:, None] * jax.nn.softmax(logits, axis=1)
    used = prior > 0
    weights = jnp.where(used[:, None], (weights / jnp.where(used, prior, 1)[None, :]).T, p_x[None, :])
    weights = weights / jnp.sum(weights, axis=1)[:, None]

    def one(w):
        value, direction = stability(w, rows, dual)
        tilt = 0.3 * direction / jnp.max(jnp.abs(direction) / jnp.where(w > 0, w, 1))
        return value, decode(jnp.stack([w + tilt, w - tilt]), rows, dual)

    values, pairs = jax.lax.map(one, weights)
    return jnp.where(used, beta * values, 0), pairs


def _padded(problem, state):
    """Clusters as arrays of one shape, |X| + 1 slots, so that everything compiles once."""
    slots, dtype = problem.p_x.shape[0] + 1, problem.p_x.dtype
    prior, decoders = state
    free = slots - len(prior)
    prior = np.concatenate([prior, np.zeros(free)])
    decoders = np.concatenate([decoders, np.repeat(decoders[:1], free, axis=0)])
    return jnp.asarray(prior, dtype), jnp.asarray(decoders, dtype)


def _settle(problem, beta, state):
    """Converged distinct clusters, ordered by decoder."""
    prior, decoders = _converge(problem.p_x, problem.rows, beta, *_padded(problem, state), problem.dual)
    prior, decoders = np.asarray(prior, float), np.asarray(decoders, float)
    order = [i for i in np.lexsort(decoders.T[::-1]) if prior[i] > 1e-7]
    masses, kept = [], []
    for i in order:
        same = [j for j, s in enumerate(kept) if np.abs(s - decoders[i]).max() < SAME]
        if same:
            share = prior[i] / (masses[same[0]] + prior[i])
            kept[same[0]] = (1 - share) * kept[same[0]] + share * decoders[i]
            masses[same[0]] += prior[i]
        else:
            masses.append(prior[i])
            kept.append(decoders[i])
    return np.array(masses) / np.sum(masses), np.array(kept)


def _event(problem, beta, state, optimal: bool):
    """None where the branch goes on, else (cluster, state with one cluster more)."""
    prior, decoders = _padded(problem, state)
    unstable, pairs = _inspect(problem.p_x, problem.rows, beta, prior, decoders, problem.dual)
    z = int(jnp.argmax(unstable))
    masses, kept = state
    if float(unstable[z]) > 1 + 1e-10:
        masses = np.concatenate([masses, masses[z : z + 1] / 2])
        masses[z] /= 2
        kept = np.concatenate([kept, np.asarray(pairs[z, 1])[None]])
        kept[z] = np.asarray(pairs[z, 0])
        return z, (masses, kept)
    if optimal:
        found = maximise(problem.p_x, problem.rows, beta, prior, decoders, problem.dual)
        if float(found.log_g) > PROFIT:
            added = np.concatenate([kept, np.asarray(found.s)[None]])
            nearest = int(np.abs(kept - np.asarray(found.s)[None]).max(axis=1).argmin())
            return nearest, (np.concatenate([0.95 * masses, [0.05]]), added)
    return None


def _grow(problem, beta, state, optimal: bool):
    """The branch at `beta`: settled, and split for as long as it can be."""
    state = _settle(problem, beta, state)
    for _ in range(problem.p_x.shape[0]):
        event = _event(problem, beta, state, optimal) if len(state[0]) <= problem.p_x.shape[0] else None
        if event is None:
            break
        state = _settle(problem, beta, event[1])
    if optimal and len(state[0]) > 2:
        # Near a transition a dying cluster outlives the sweeps: one without which the certificate holds is none.
        for z in np.argsort(state[0]):
            fewer = _settle(problem, beta, tuple(np.delete(part, z, axis=0) for part in state))
            if _event(problem, beta, fewer, optimal) is None:
                return fewer
    return state


def _transitions(problem, first: float, beta_max: float, optimal: bool):
    """(beta, cluster, clusters after) for every transition up to `beta_max`."""
    found, beta, state, cluster = [], first, _trivial(problem), 0
    while beta <= beta_max:
        before, beta = beta, beta * (1 + PAST)
        state = _grow(problem, beta, state, optimal)
        found.append((before, cluster, len(state[0])))
        event, low, low_state = None, beta, state
        while event is None and beta <= beta_max:
            if len(state[0]) >= problem.p_x.shape[0]:
                return found
            low, low_state = beta, state
            beta = min(beta * STEP, beta_max * (1 + 1e-12))
            state = _settle(problem, beta, low_state)
            event = _event(problem, beta, state, optimal)
            if event is None and beta >= beta_max:
                return found
        high = beta
        while high - low > 1e-8 * high and event is not None:
            middle = (low + high) / 2
            tried = _settle(problem, middle, low_state)
            seen = _event(problem, middle, tried, optimal)
            if seen is None:
                low, low_state = middle, tried
            else:
                high, event = middle, seen
        if event is not None:
            beta, state, cluster = high, low_state, event[0]
    return found


def _branch(problem, beta, states) -> Branch:
    slots = max(len(masses) for masses, _ in states)
    mass = np.zeros((len(states), slots))
    decoder = np.full((len(states), slots, problem.rows.shape[1]), np.nan)
    for i, (masses, kept) in enumerate(states):
        mass[i, : len(masses)], decoder[i, : len(masses)] = masses, kept
    dtype = problem.p_x.dtype
    return Branch(
        beta, jnp.asarray(decoder, dtype), jnp.asarray(mass, dtype), jnp.asarray([len(m) for m, _ in states], int)
    )
