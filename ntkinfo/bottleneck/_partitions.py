"""Hard assignments: the deterministic bottleneck as a search over partitions of the inputs.

The objective H(Z) + β E D[p(y|x) ‖ p(y|z)] is, but for a constant, a sum over clusters of a function of their joint
mass with Y alone: merging two clusters or moving one input changes two terms. On the host.
"""

import itertools

import numpy as np

from ntkinfo._numerics.entropy import plogp, plogq


def _cost(joint, beta):
    """What a cluster of joint masses p(z, y) (..., y) adds: -p(z) log p(z) - β Σ_y p(z, y) log p(y|z)."""
    # A cluster without its last input has masses of either sign at rounding level.
    joint = np.maximum(joint, 0)
    mass = joint.sum(axis=-1, keepdims=True)
    return -plogp(mass[..., 0]) - beta * np.sum(plogq(joint, joint / np.where(mass > 0, mass, 1)), axis=-1)


def _sums(p_xy, assignment, n_clusters):
    joint = np.zeros((n_clusters, p_xy.shape[1]))
    np.add.at(joint, assignment, p_xy)
    return joint


def _descend(p_xy, beta, assignment):
    """The nearest local optimum: no move of one input, to any cluster or a new one, and no merger lowers the cost."""
    assignment = np.unique(assignment, return_inverse=True)[1]
    n = len(p_xy)
    scale = 1e-12 * (1 + beta)
    while True:
        joint = _sums(p_xy, assignment, assignment.max() + 2)
        cost = _cost(joint, beta)
        pairs = _cost(joint[:, None] + joint[None], beta) - cost[:, None] - cost[None]
        pairs[np.tril_indices(len(joint))] = np.inf
        pairs[:, -1] = np.inf
        best_pair = np.unravel_index(np.argmin(pairs), pairs.shape)
        left = _cost(joint[assignment] - p_xy, beta) - cost[assignment]
        moves = left[:, None] + _cost(joint[None] + p_xy[:, None], beta) - cost[None]
        moves[np.arange(n), assignment] = np.inf
        best_move = np.unravel_index(np.argmin(moves), moves.shape)
        if min(pairs[best_pair], moves[best_move]) > -scale:
            return assignment, cost.sum()
        if pairs[best_pair] <= moves[best_move]:
            assignment = np.where(assignment == best_pair[1], best_pair[0], assignment)
        else:
            assignment = assignment.copy()
            assignment[best_move[0]] = best_move[1]
        assignment = np.unique(assignment, return_inverse=True)[1]


def search(p_xy, beta, starts=()) -> list[np.ndarray]:
    """The best partition found for each β, vectors (x,) of cluster numbers.

    From Z = X, from one cluster, from the starts given, and from the partitions of the neighbouring β in both
    directions, each followed downhill; the lowest cost is kept.
    """
    p_xy, beta = np.asarray(p_xy, float), np.asarray(beta, float)
    order = np.argsort(beta)
    starts = [np.arange(len(p_xy)), np.zeros(len(p_xy), int), *starts]
    best = {i: min((_descend(p_xy, beta[i], start) for start in starts), key=lambda result: result[1]) for i in order}
    for path in (order, order[::-1]):
        for before, i in itertools.pairwise(path):
            tried = _descend(p_xy, beta[i], best[before][0])
            if tried[1] < best[i][1]:
                best[i] = tried
    return [best[i][0] for i in range(len(beta))]
