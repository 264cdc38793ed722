"""Where the clusters of a bottleneck split: local and global critical β, and the branches of the bifurcation.

*Local*: a cluster becomes unstable, β λ₂ = 1; annealing upwards sees these. *Global*: the optimum changes, a cluster of
zero mass at finite distance becoming profitable, max_s G(s) = 1; never later than the local one.
"""

from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, tables
from ntkinfo._numerics.entropy import kl
from ntkinfo.bottleneck import _branch_and_bound, _curve, _newton, _solver, _sweeps
from ntkinfo.bottleneck._distortion import (
    SMALLEST_PROBABILITY,
    Problem,
    decode,
    distortion,
    log_decode,
    log_floored,
    log_sum_exp,
)
from ntkinfo.bottleneck._duality_gap import climb, maximise, proven_bounds

# Factor between neighbouring β while a branch is followed.
STEP = 1.05
# Relative distance past a transition at which the new branch is entered.
STEP_PAST_TRANSITION = 2e-3
# log G above this is a missing cluster.
GAP_TOLERANCE = 1e-9
# How far above the largest log G found a proof may end.
PROOF_TOLERANCE = 1e-8
# Maximisers of G closer than this in every probability are one; clusters that move less have not changed.
SAME_DECODER = 1e-4
# Plain steps towards a fixed point before Newton's are tried, each time four times as many, and at most.
FIRST_STEPS, MAX_STEPS = 40, 20_000
# Newton's steps may move masses and decoders by this: what is further away may be another branch; after so many plain
# steps, which leave an unstable point quickly, it is the end of the valley they are in.
NEWTON_REACH, SLOW_STEPS = 0.1, 200


class CriticalBetas(NamedTuple):
    """Critical values of β, in order of the splits.

    Attributes:
      local: (n,) where a cluster of the branch annealed upwards becomes unstable, β λ₂ = 1.
      local_cluster: (n,) which cluster splits, clusters ordered by their decoder p(y|z), first class first.
      local_clusters: (n,) number of clusters after the split.
      global_: (m,) where the global optimum changes.
      global_clusters: (m,) number of clusters after the change.
      certified: (m,) whether it is proven that the optimum just below each global value is the one without the change:
        the largest G there is bounded, for two to four labels. Otherwise it was searched for.
    """

    local: Array
    local_cluster: Array
    local_clusters: Array
    global_: Array
    global_clusters: Array
    certified: Array

    def to_dataframe(self, *, unit: str = "nats"):
        """A pandas table with a row per critical β: kind ("local" or "global"), beta, n_clusters, cluster, certified.

        Args:
          unit: "nats" or "bits"; β has none.

        Raises:
          ValueError: an unknown unit.
        """
        tables.factor(unit)
        n, m = len(self.local), len(self.global_)
        columns = {
            "kind": ["local"] * n + ["global"] * m,
            "beta": np.concatenate([self.local, self.global_]),
            "n_clusters": np.concatenate([self.local_clusters, self.global_clusters]),
            "cluster": [int(z) for z in self.local_cluster] + [None] * m,
            "certified": [None] * n + [bool(c) for c in self.certified],
        }
        return tables.frame(columns, {}, unit)

    __repr__ = tables.one_line
    _repr_html_ = tables.html


class Branch(NamedTuple):
    """The clusters of one branch over β, ordered by their decoder.

    Attributes:
      beta: (B,) as given.
      decoder: (B, z, y) p(y|z) of the distinct clusters; `nan` for clusters not in use.
      mass: (B, z) p(z), zero for clusters not in use.
      n_clusters: (B,) number of distinct clusters.
    """

    beta: Array
    decoder: Array
    mass: Array
    n_clusters: Array

    _table = tables.Table(
        ("beta", "cluster", "label"),
        plain="decoder mass n_clusters",
        where={"mass": ("beta", "cluster"), "n_clusters": ("beta",)},
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


class Bifurcation(NamedTuple):
    """Three branches over one grid: annealed upwards, annealed downwards from Z = X, and the global optimum."""

    upward: Branch
    downward: Branch
    optimum: Branch

    def to_dataframe(self, *, unit: str = "nats"):
        """A pandas table of the three branches, `branch` saying which; see `Branch`.

        Args:
          unit: "nats" or "bits"; there is no information in it.

        Raises:
          ValueError: an unknown unit.
        """
        frames = {name: getattr(self, name).to_dataframe(unit=unit) for name in self._fields}
        columns = {name: np.concatenate([frame[name] for frame in frames.values()]) for name in frames["optimum"]}
        names = np.repeat(list(frames), [len(frame) for frame in frames.values()])
        return tables.frame({"branch": names} | columns, {}, unit)

    __repr__ = tables.one_line
    _repr_html_ = tables.html


class _Clusters(NamedTuple):
    """The clusters of one β on the host: p(z) (z,), and p(y|z) (z, y)."""

    p_z: np.ndarray
    p_y_given_z: np.ndarray

    def __len__(self) -> int:
        return len(self.p_z)


def stability(problem: Problem, p_x_given_z: Float[np.ndarray, "... x"]) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalue λ₂ of the stability matrix of a cluster, but for the trivial one; it splits at β = 1/λ₂.

    IB: C_{xx'} = Σ_y p(y|x) p(y|x') p(x'|z) / p(y|z), whose largest eigenvalue 1 is left out. Dual:
    C_{xx'} = p(x'|z) Cov_{y ~ p(y|z)}[log p(y|x), log p(y|x')], centred over x. Both symmetrised as B Bᵀ.

    Args:
      problem: the problem.
      p_x_given_z: (..., x).

    Returns:
      (λ₂ (...), and (..., x) the direction in p(x|z) along which it splits). Exact. Cost O(|X| |Y| min(|X|, |Y|)).

    Source: theory, sections 7 and 8.
    """
    root = np.sqrt(p_x_given_z)[..., None]
    s = decode(problem, p_x_given_z)[..., None, :]
    if problem.dual:
        logs = problem.log_p_y_given_x - np.sum(problem.log_p_y_given_x * s, axis=-1, keepdims=True)
        scaled = (logs - np.sum(root**2 * logs, axis=-2, keepdims=True)) * np.sqrt(s)
    else:
        scaled = np.where(s > 0, (problem.p_y_given_x - s) / np.sqrt(np.where(s > 0, s, 1)), 0)
    left, values, _ = np.linalg.svd(root * scaled, full_matrices=False)
    return values[..., 0] ** 2, root[..., 0] * left[..., 0]


def critical_betas(
    p_xy: Float[ArrayLike, "x y"], *, dual: bool = False, beta_max: float | None = None
) -> CriticalBetas:
    """The critical values of β of the information bottleneck or its dual, local and global.

    Local: the trivial solution splits at β = 1/λ₂, later clusters where β λ₂(β) = 1 along the stable branch, found by
    bisection. Global: first transition inf_w KL(w ‖ p(x)) / gain(w); later ones where max_s G(s) passes 1 for the
    optimum so far.

    Args:
      p_xy: joint distribution (x, y); positive where `dual`.
      dual: the dual bottleneck.
      beta_max: splits beyond this are not looked for; ten times the first local value if None.

    Returns:
      A `CriticalBetas`. The first local value is exact; the first global one is exact where the search for the largest
      G finds it; later ones to 1e-8 along branches followed by plain iterations and Newton steps. Splits less
      than 0.2 % apart are one. Empty where X and Y are independent. Computed in float64, returned in the dtype of
      `p_xy`. Runs on the host and compiles nothing; not to be traced.

    Raises:
      TypeError, ValueError: not a joint distribution; zeros in `p_xy` where `dual`; `beta_max` not positive.

    Source: theory, sections 7 and 8; Parker, Gedeon & Dimitrov (2003) for the local ones.

    Example:
      >>> critical = critical_betas(jnp.array([[0.4, 0.1], [0.1, 0.4]]))
      >>> print(f"{float(critical.local[0]):.4f}")
      2.7778
    """
    p_xy = discrete.check_joint("p_xy", p_xy)
    check.flag("dual", dual)
    if beta_max is not None:
        check.positive("beta_max", beta_max, scalar=True)
    return _critical_betas(p_xy, bool(dual), beta_max, float(np.finfo(p_xy.dtype).eps))


@_curve.in_double
def _critical_betas(p_xy, dual, beta_max, resolution) -> CriticalBetas:
    problem = _problem(p_xy, dual)
    largest = float(stability(problem, problem.p_x)[0])
    # λ₂ is the square of a correlation, which is known to the rounding of the table.
    if largest <= 1e3 * resolution**2:
        none, count = np.zeros(0), np.zeros(0, int)
        return CriticalBetas(none, count, count, none, count, np.zeros(0, bool))
    if beta_max is None:
        beta_max = 10 / largest
    if not dual and discrete.is_deterministic(p_xy):
        return _of_a_function(int(p_xy.shape[1]), beta_max)
    local = _transitions(problem, 1 / largest, beta_max, optimal=False)
    global_ = _transitions(problem, _first_global(problem, 1 / largest), beta_max, optimal=True)
    return CriticalBetas(
        np.asarray([each.beta for each in local], float),
        np.asarray([each.cluster for each in local], int),
        np.asarray([each.n_clusters for each in local], int),
        np.asarray([each.beta for each in global_], float),
        np.asarray([each.n_clusters for each in global_], int),
        np.asarray([each.proven for each in global_], bool),
    )


def _of_a_function(n_labels: int, beta_max: float) -> CriticalBetas:
    """The one transition where Y is a function of X: to all labels at β = 1.

    I(Z;Y) ≤ I(X;Z), so the least of I(X;Z) - β I(Z;Y) is 0 up to β = 1, and (1 - β) H(Y), that of Z = Y, beyond.
    """
    n = int(beta_max >= 1.0)
    beta, clusters = np.ones(n), np.full(n, n_labels)
    return CriticalBetas(beta, np.zeros(n, int), clusters, beta, clusters, np.ones(n, bool))


@_curve.in_double
def bifurcation(p_xy: Float[ArrayLike, "x y"], beta: Float[ArrayLike, " b"], *, dual: bool = False) -> Bifurcation:
    """The clusters of the three branches over a grid of β: what a bifurcation diagram shows.

    Args:
      p_xy: joint distribution (x, y); positive where `dual`.
      beta: (B,) positive, increasing.
      dual: the dual bottleneck.

    Returns:
      A `Bifurcation`. The upward branch splits a cluster only once it is unstable, the downward one starts from Z = X;
      where they differ there is hysteresis. The optimum is certified by max_s G(s) ≤ 1 (two classes: proven).

    Raises:
      TypeError, ValueError: as `critical_betas`; `beta` not increasing.

    Source: theory, section 7.
    """
    check.flag("dual", dual)
    problem = _problem(p_xy, bool(dual))
    beta = check.array("beta", beta, ndim=1)
    check.positive("beta", beta)
    grid = np.asarray(beta, np.float64)
    if (np.diff(grid) <= 0).any():
        raise ValueError("`beta` must increase; got values that do not. Sort it with `jnp.unique(beta)`.")
    upward, optimum, state = [], [], [_trivial(problem), _trivial(problem)]
    for value in grid:
        state = [_grow(problem, value, state[i], optimal=bool(i), prove=bool(i)) for i in range(2)]
        upward.append(state[0])
        optimum.append(state[1])
    downward, current = [], _Clusters(problem.p_x, problem.p_y_given_x)
    for value in grid[::-1]:
        current = _fixed_point(problem, value, current)
        downward.append(current)
    return Bifurcation(*(_branch(beta, states) for states in (upward, downward[::-1], optimum)))


def _problem(p_xy, dual: bool) -> Problem:
    if dual:
        _curve.check_dual(p_xy)
    return Problem.from_joint(p_xy, dual)


def _trivial(problem) -> _Clusters:
    return _Clusters(np.ones(1), decode(problem, problem.p_x[None, :]))


class _Transition(NamedTuple):
    """Where the branch changes: β, which cluster, how many there are afterwards, and whether it is proven."""

    beta: float
    cluster: int
    n_clusters: int
    proven: bool


def _first_global(problem, local: float) -> float:
    """inf_w KL(w ‖ p(x)) / gain(w), by Dinkelbach's iteration downwards from the local value."""
    beta, trivial = local, _trivial(problem)
    for _ in range(100):
        missing = _largest_g(problem, beta, trivial)
        # Where the search finds none, the proof does.
        if missing.log_g_found <= 1e-11:
            missing = _prove(problem, beta, trivial, missing, tolerance=1e-11)
        tilted = _tilted_beta(problem, beta, missing.s)
        if missing.log_g_found <= 1e-11 or not tilted < beta * (1 - 1e-13):
            break
        beta = tilted
    return beta


def _tilted_beta(problem, beta, s) -> float:
    """KL(w ‖ p(x)) / gain(w) of w ∝ p(x) e^{β saved(x)}, what a cluster at `s` saves over the trivial one."""
    p_x = problem.p_x
    trivial = distortion(problem, log_decode(problem, p_x[None, :]))[:, 0]
    saved = trivial - distortion(problem, log_floored(s)[None, :])[:, 0]
    logits = np.log(p_x) + beta * saved
    w = np.exp(logits - log_sum_exp(logits))
    gain = float(w @ (trivial - distortion(problem, log_decode(problem, w[None, :]))[:, 0]))
    return float(kl(w, p_x)) / gain if gain > 0 else np.inf


def _logs(clusters: _Clusters) -> tuple[np.ndarray, np.ndarray]:
    return log_floored(clusters.p_z), log_floored(clusters.p_y_given_z)


def _inspect(problem, beta, clusters: _Clusters) -> tuple[np.ndarray, np.ndarray]:
    """β λ₂ of every cluster, (z,), and the two decoders it splits into, (z, 2, y)."""
    log_p_z, log_p_y_given_z = _logs(clusters)
    encoder = _solver.encoder(problem, beta, 1.0, log_p_z, log_p_y_given_z)
    w = (problem.p_x[:, None] * encoder).T
    w = w / w.sum(axis=1, keepdims=True)
    # Traces of an input alone with its label have an eigenvalue of their own, and would split off without any mass.
    w = np.where(w > _sweeps.MERGE_TOLERANCE, w, 0.0)
    w = w / w.sum(axis=1, keepdims=True)
    values, direction = stability(problem, w)
    reach = np.max(np.abs(direction) / np.where(w > 0, w, 1), axis=1, keepdims=True)
    # A cluster of one input has nowhere to go.
    tilt = 0.3 * direction / np.where(reach > 0, reach, 1.0)
    return beta * values, decode(problem, np.stack([w + tilt, w - tilt], axis=1))


def _fixed_point(problem, beta, clusters: _Clusters) -> _Clusters:
    """The fixed point that the clusters run to: distinct clusters, ordered by decoder.

    Plain self-consistent steps: extrapolated ones could leave the branch. Newton's steps, where F is convex and they
    go no distance, end what these have begun.
    """
    betas = np.full(1, float(beta))
    log_p_z, log_p_y_given_z = (each[None] for each in _logs(clusters))
    done, steps, change = 0, FIRST_STEPS, np.inf
    while True:
        for _ in range(steps):
            new = _sweeps.blahut_arimoto_step(problem, betas, 1.0, log_p_z, log_p_y_given_z)[:2]
            mass = np.exp(new[0])
            moved = np.abs(np.exp(new[1]) - np.exp(log_p_y_given_z))
            change = np.max(mass[:, :, None] * moved) + np.max(np.abs(mass - np.exp(log_p_z)))
            log_p_z, log_p_y_given_z = new
            if change <= 8 * np.finfo(float).eps:
                break
        *merged, count = _sweeps.merge(betas, log_p_z, log_p_y_given_z)
        log_p_z, log_p_y_given_z = (each[:, : int(count[0])] for each in merged)
        done += steps
        if change <= 8 * np.finfo(float).eps or done >= MAX_STEPS:
            break
        refined = _newton.refine(problem, float(beta), 1.0, log_p_z[0], log_p_y_given_z[0])
        near = done >= SLOW_STEPS or _is_near(log_p_z[0], log_p_y_given_z[0], *refined)
        if near and _newton.is_minimum(problem, float(beta), *refined):
            log_p_z, log_p_y_given_z = (np.maximum(each, np.log(SMALLEST_PROBABILITY))[None] for each in refined)
            *merged, count = _sweeps.merge(betas, log_p_z, log_p_y_given_z)
            log_p_z, log_p_y_given_z = (each[:, : int(count[0])] for each in merged)
            break
        steps *= 4
    p_z, p_y_given_z = np.exp(log_p_z[0]), np.exp(log_p_y_given_z[0])
    order = np.lexsort(p_y_given_z.T[::-1])
    return _Clusters(p_z[order] / p_z.sum(), p_y_given_z[order])


def _is_near(log_p_z, log_p_y_given_z, new_log_p_z, new_log_p_y_given_z) -> bool:
    """Whether Newton's steps have moved no mass and no decoder, weighted by its mass, far."""
    mass, new_mass = np.exp(log_p_z), np.exp(new_log_p_z)
    moved = np.abs(np.exp(new_log_p_y_given_z) - np.exp(log_p_y_given_z)).max(axis=1)
    return bool((np.minimum(mass, new_mass) * moved + np.abs(new_mass - mass) < NEWTON_REACH).all())


class _Missing(NamedTuple):
    """What is known of the largest G: the maximiser, log G there, all maximisers found, and a bound on log G."""

    s: np.ndarray
    log_g_found: float
    candidates: np.ndarray
    log_g_candidates: np.ndarray
    bound: float


def _largest_g(problem, beta, clusters: _Clusters) -> _Missing:
    """The largest G by a search."""
    maximum = maximise(problem, beta, *_logs(clusters))
    return _Missing(maximum.s, maximum.log_g, maximum.candidates, maximum.log_g_candidates, np.inf)


def _prove(problem, beta, clusters: _Clusters, missing: _Missing, tolerance: float) -> _Missing:
    """The same with a proven bound, and with what the search overlooked, for two to four labels."""
    if problem.p_y_given_x.shape[1] not in _branch_and_bound.TOLERANCE:
        return missing
    known = np.full(1, max(missing.log_g_found, 0.0))
    clusters_now = (part[None] for part in _logs(clusters))
    bound = proven_bounds(problem, np.full(1, beta), *clusters_now, known=known, tolerance=tolerance)[0]
    if bound.found <= max(missing.log_g_found, tolerance):
        return missing._replace(bound=bound.upper)
    candidates = np.concatenate([bound.s[None], missing.candidates])
    values = np.concatenate([[bound.found], missing.log_g_candidates])
    return _Missing(bound.s, bound.found, candidates, values, bound.upper)


def _split(problem, beta, clusters: _Clusters, optimal: bool, prove: bool = False) -> tuple | None:
    """None where the branch goes on, else which cluster changes, the clusters with one more, and the missing decoder.

    That is None where a cluster splits because it is unstable.
    """
    unstable, pairs = _inspect(problem, beta, clusters)
    z = int(np.argmax(unstable))
    p_z, p_y_given_z = clusters
    if float(unstable[z]) > 1 + 1e-10:
        p_z, p_y_given_z = np.concatenate([p_z, p_z[z : z + 1]]), np.concatenate([p_y_given_z, pairs[z, 1:]])
        p_z[[z, -1]] /= 2
        p_y_given_z[z] = pairs[z, 0]
        return z, _Clusters(p_z, p_y_given_z), None
    if optimal:
        maximum = _largest_g(problem, beta, clusters)
        if prove and maximum.log_g_found <= GAP_TOLERANCE:
            maximum = _prove(problem, beta, clusters, maximum, PROOF_TOLERANCE)
        if maximum.log_g_found > (PROOF_TOLERANCE if prove else GAP_TOLERANCE):
            # All of them at once: where several set in together, one alone may lead back to where it came from.
            missing = _missing(maximum, len(problem.p_x) + 1 - len(clusters))
            # At the mass that lowers the free energy most: at a larger one the iterations may lead back.
            clusters_now = (part[None] for part in _logs(clusters))
            share = float(_solver.best_share(problem, np.full(1, beta), *clusters_now, log_floored(missing)[None])[0])
            p_z = np.concatenate([(1 - share) * p_z, np.full(len(missing), share / len(missing))])
            nearest = int(np.abs(p_y_given_z - missing[:1]).max(axis=1).argmin())
            return nearest, _Clusters(p_z, np.concatenate([p_y_given_z, missing])), missing[0]
    return None


def _is_proven(problem, beta, clusters: _Clusters) -> bool:
    """Whether it is proven that no decoder lowers the free energy by more than the tolerance of the proof."""
    found = _largest_g(problem, beta, clusters)
    return _prove(problem, beta, clusters, found, PROOF_TOLERANCE).bound <= 2 * PROOF_TOLERANCE


def _missing(maximum: _Missing, most: int) -> np.ndarray:
    """The decoders of the distinct maximisers of G found, the largest first, at most so many; (k, y)."""
    missing, log_g, candidates = [maximum.s], maximum.log_g_candidates, maximum.candidates
    for i in np.argsort(-log_g):
        if log_g[i] <= GAP_TOLERANCE or len(missing) == most:
            break
        if min(np.abs(candidates[i] - s).max() for s in missing) > SAME_DECODER:
            missing.append(candidates[i])
    return np.stack(missing)


def _grow(problem, beta, clusters: _Clusters, optimal: bool, prove: bool = False) -> _Clusters:
    """The branch at `beta`: its fixed point, split for as long as it can be."""
    n_x = len(problem.p_x)
    clusters = _fixed_point(problem, beta, clusters)
    for _ in range(n_x):
        split = _split(problem, beta, clusters, optimal, prove) if len(clusters) <= n_x else None
        if split is None:
            break
        clusters = _fixed_point(problem, beta, split[1])
    if optimal and len(clusters) > 2:
        # Near a transition a dying cluster outlives the iterations: one that the optimum can do without is none.
        for z in np.argsort(clusters.p_z):
            fewer = _fixed_point(problem, beta, _Clusters(*(np.delete(part, z, axis=0) for part in clusters)))
            if _split(problem, beta, fewer, optimal, prove) is None:
                return fewer
    return clusters


def _transitions(problem, first: float, beta_max: float, optimal: bool) -> list[_Transition]:
    """Every transition up to `beta_max`."""
    transitions, beta, cluster, clusters = [], first, 0, _trivial(problem)
    below, before_it = first * (1 - 1e-8), clusters
    while beta <= beta_max:
        critical, beta = beta, beta * (1 + STEP_PAST_TRANSITION)
        before = _fixed_point(problem, beta, clusters)
        clusters = _grow(problem, beta, before, optimal)
        if not _equal(before, clusters):
            proven = optimal and _is_proven(problem, below, before_it)
            transitions.append(_Transition(critical, cluster, len(clusters), proven))
        start, low, low_clusters, split = (beta, clusters), beta, clusters, None
        while split is None:
            if len(clusters) >= len(problem.p_x) or beta >= beta_max:
                return transitions
            low, low_clusters = beta, clusters
            beta = min(beta * STEP, beta_max * (1 + 1e-12))
            clusters = _fixed_point(problem, beta, low_clusters)
            split = _split(problem, beta, clusters, optimal)
        beta, low, low_clusters, split = _bisect(problem, low, low_clusters, beta, split, optimal)
        if optimal and (overlooked := _split(problem, low, low_clusters, optimal, prove=True)) is not None:
            # The transition is earlier than the search found, and where the proof finds it.
            beta, low, low_clusters, split = _bisect(problem, *start, low, overlooked, optimal, prove=True)
        clusters, cluster = low_clusters, split[0]
        below, before_it = low, low_clusters
    return transitions


def _bisect(problem, low, low_clusters, high, split, optimal, prove=False):
    """(β just above the transition, just below, the clusters there, the split above), to 1e-8.

    By the false position of what sets in: the instability of a cluster, or log G of the missing decoder, which is
    negative below. Where that does not narrow the interval, it is halved.
    """
    missing = split[2]
    below = _excess(problem, low, low_clusters, missing)
    above = _excess(problem, high, _fixed_point(problem, high, low_clusters), missing)
    slow = 0
    while high - low > 1e-8 * high:
        width, nudge = high - low, 3e-9 * high
        middle = (low + high) / 2
        if slow < 2 and below < 0 < above:
            root = low + width * below / (below - above)
            # A little beyond the root on the side of the end that is further away, so that both ends come close to it.
            middle = min(max(root - nudge if high - root < 2 * nudge else root + nudge, low + nudge), high - nudge)
        tried = _fixed_point(problem, middle, low_clusters)
        split_there = _split(problem, middle, tried, optimal, prove)
        if split_there is None:
            low, low_clusters, below = middle, tried, _excess(problem, middle, tried, missing)
        else:
            if split_there[2] is None or missing is None or np.abs(split_there[2] - missing).max() > SAME_DECODER:
                missing = split_there[2]
                below = _excess(problem, low, low_clusters, missing)
            high, split, above = middle, split_there, _excess(problem, middle, tried, missing)
        slow = slow + 1 if high - low > width / 2 else 0
    return high, low, low_clusters, split


def _excess(problem, beta, clusters: _Clusters, missing) -> float:
    """What is positive past a transition: log G near the missing decoder (y,), or where there is none β λ₂ - 1."""
    if missing is None:
        return float(_inspect(problem, beta, clusters)[0].max()) - 1
    return climb(problem, beta, *_logs(clusters), missing) - GAP_TOLERANCE


def _equal(first: _Clusters, second: _Clusters) -> bool:
    """Whether a transition from the one to the other changes nothing."""
    return len(first) == len(second) and np.abs(first.p_y_given_z - second.p_y_given_z).max() < SAME_DECODER


def _branch(beta, states: list[_Clusters]) -> Branch:
    counts = [len(clusters) for clusters in states]
    mass = np.zeros((len(states), max(counts)))
    decoder = np.full((*mass.shape, states[0].p_y_given_z.shape[1]), np.nan)
    for i, clusters in enumerate(states):
        mass[i, : counts[i]], decoder[i, : counts[i]] = clusters
    return Branch(beta, decoder, mass, np.asarray(counts, int))
