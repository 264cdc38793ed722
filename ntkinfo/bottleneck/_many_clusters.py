"""The optimum of a bottleneck with many clusters: all that are missing added at once, those not needed dropped.

F is convex in the measure of decoders. Each round adds every decoder that an ascent of G finds above 1, solves for the
masses, makes alike clusters one, and moves what is left by Newton steps: what a single cluster a round, and sweeps in
between, take hundreds of times as long for.

Source: theory, section 7 (large tables); Wang 2007 (constrained Newton method for mixing distributions).
"""

import numpy as np

from ntkinfo.bottleneck import _duality_gap, _newton_cg, _sweeps
from ntkinfo.bottleneck._distortion import Problem, log_floored

# Clusters whose merging costs less than the first, in nats, are one at the start; less than the last at the end.
_COARSE, _FINE = 1e-6, 1e-10
# Sweeps of a round.
_SWEEPS = 24
# Rounds without a gain after which nothing more is expected; rounds at most, fewer where the encoder has more entries
# than this number says (x z rounds).
_PATIENCE, _LEAST_ROUNDS, _MOST_ROUNDS, _ENTRIES_OF_ROUNDS = 3, 6, 30, 2**24


def improve(problem: Problem, beta: float, log_p_z, log_p_y_given_z, *, tolerance, gap_tolerance):
    """Clusters (z,) and (z, y) of a lower F at α = 1, from those given, until no decoder is found to be missing.

    Args:
      problem: the problem.
      beta: β.
      log_p_z: log p(z), (z,).
      log_p_y_given_z: log p(y|z), (z, y), finite.
      tolerance: of a step.
      gap_tolerance: a decoder of a smaller log G is not missing.

    Returns:
      log p(z) and log p(y|z), as many clusters as are in use.

    Source: theory, section 7 (large tables).
    """
    grid, starts = np.full(1, float(beta)), _duality_gap.row_starts(problem)
    log_z, log_s = np.asarray(log_p_z), np.asarray(log_p_y_given_z)
    best, merging, idle = (_free_energy(problem, grid, log_z, log_s), np.inf, log_z, log_s), _COARSE, 0
    rounds = _ENTRIES_OF_ROUNDS // (len(problem.p_x) * len(log_z))
    for _ in range(min(max(rounds, _LEAST_ROUNDS), _MOST_ROUNDS)):
        log_z = _newton_cg.masses(problem, beta, log_z, log_s)
        needed = np.isfinite(log_z)
        log_z, log_s = _sweeps.merged(beta, log_z[needed], log_s[needed], merging)
        options = {"tolerance": tolerance, "max_steps": _SWEEPS}
        swept = _sweeps.solve(problem, grid, 1.0, log_z[None], log_s[None], **options)
        count = int(_sweeps.n_used(swept)[0])
        swept = swept.log_p_z[0, :count], swept.log_p_y_given_z[0, :count]
        log_z, log_s = _newton_cg.refine(problem, beta, 1.0, *swept, tolerance=tolerance / 2)
        needed = np.isfinite(log_z)
        log_z, log_s = log_z[needed], log_s[needed]
        free_energy = _free_energy(problem, grid, log_z, log_s)
        gain = best[0] - free_energy
        if gain < -1e-13 and merging > _FINE:
            # What was made one was not alike enough.
            merging, log_z, log_s = _FINE, *best[2:]
            continue
        found = _duality_gap.maxima(problem, grid, [(log_z, log_s)], starts)[0]
        if gain > 1e-13 or (gain > -1e-13 and found.log_g < best[1]):
            best = free_energy, found.log_g, log_z, log_s
        idle = 0 if gain > 1e-13 else idle + 1
        if found.log_g <= gap_tolerance or idle == _PATIENCE:
            break
        if gain < 10 * merging:
            merging = max(merging / 10, _FINE)
        missing = log_floored(_apart(found, gap_tolerance))
        share = _sweeps.best_share(problem, grid, log_z[None], log_s[None], missing[None])[0]
        log_z = np.concatenate([log_z + np.log1p(-share), np.full(len(missing), np.log(share / len(missing)))])
        log_s = np.concatenate([log_s, missing])
    return best[2:]


def _free_energy(problem, grid, log_p_z, log_p_y_given_z) -> float:
    counts = np.full(1, len(log_p_z))
    return float(_sweeps.free_energies(problem, grid, 1.0, log_p_z[None], log_p_y_given_z[None], counts)[0])


def _apart(found: _duality_gap.Maximum, gap_tolerance: float) -> np.ndarray:
    """The decoders (k, y) of a search with log G above a tolerance, of alike ones the best."""
    s = np.concatenate([found.candidates, found.left])
    values = np.concatenate([found.log_g_candidates, found.log_g_left])
    order = np.argsort(-values, kind="stable")
    s = s[order[values[order] > gap_tolerance]]
    kept = np.full(len(s), True)
    for i in range(len(s)):
        if kept[i]:
            kept[i + 1 :] &= np.sum((s[i + 1 :] - s[i]) ** 2, axis=1) > _duality_gap.ALIKE**2
    return s[kept]
