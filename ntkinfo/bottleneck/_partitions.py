"""Hard assignments: the deterministic bottleneck as a search over partitions of the inputs.

The objective H(Z) + β E D[p(y|x) ‖ p(y|z)] is, but for a constant, a sum over clusters of a function of their joint
mass with Y alone: merging two clusters or moving one input changes two terms. On the host.
"""

import itertools

import numpy as np

from ntkinfo._numerics.entropy import plogp

# Entries of the joint masses of candidate clusters held at once.
_ENTRIES = 2**21


def _cost(joint, beta):
    """What a cluster of joint masses p(z, y) (..., y) adds: -p(z) log p(z) - β Σ_y p(z, y) log p(y|z)."""
    # A cluster without its last input has masses of either sign at rounding level.
    joint = np.maximum(joint, 0)
    return (beta - 1) * plogp(joint.sum(axis=-1)) - beta * np.sum(plogp(joint), axis=-1)


class _RowMinima:
    """A matrix that knows the least of each row while a few columns are replaced at a time."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.at = np.argmin(matrix, axis=1)
        self.least = np.take_along_axis(matrix, self.at[:, None], 1)[:, 0]

    def replace(self, columns, values):
        """New columns, (rows, k); rows whose least stood there are searched again, where no new value is as small."""
        self.matrix[:, columns] = values
        first = np.argmin(values, axis=1)
        new = np.take_along_axis(values, first[:, None], 1)[:, 0]
        better = new <= self.least
        self.search(np.flatnonzero(np.isin(self.at, columns) & ~better))
        self.at[better], self.least[better] = columns[first[better]], new[better]

    def search(self, rows):
        self.at[rows] = np.argmin(self.matrix[rows], axis=1)
        self.least[rows] = self.matrix[rows, self.at[rows]]


class _Partition:
    """A partition of the inputs, and what every move of one input and every merger would add to its cost.

    A step changes two clusters, hence two columns of either table. Slots without inputs stand ready for new clusters.
    """

    def __init__(self, p_xy, beta, assignment):
        self.p_xy, self.beta = p_xy, beta
        self.assignment = np.unique(assignment, return_inverse=True)[1]
        n_clusters = int(self.assignment.max()) + 1
        self.n_slots = min(2 * n_clusters, len(p_xy)) + 1
        slots = np.arange(self.n_slots)
        self.joint = np.zeros((self.n_slots, p_xy.shape[1]))
        np.add.at(self.joint, self.assignment, p_xy)
        self.cost = _cost(self.joint, beta)
        self.mergers = _RowMinima(self._mergers(slots))
        self.moves = _RowMinima(self._moves(slots))
        self.left = np.empty(len(p_xy))
        self._leave(np.arange(len(p_xy)))

    def _added(self, parts, slots):
        """The cost of each slot with each of the parts in it, less that of the slot, (parts, slots)."""
        step = max(1, _ENTRIES // (len(slots) * self.joint.shape[1]))
        blocks = [
            _cost(self.joint[slots][None] + parts[i : i + step, None], self.beta) for i in range(0, len(parts), step)
        ]
        return np.concatenate(blocks) - self.cost[slots][None]

    def _mergers(self, slots):
        added = self._added(self.joint, slots) - self.cost[:, None]
        added[slots, np.arange(len(slots))] = np.inf
        return added

    def _moves(self, slots):
        added = self._added(self.p_xy, slots)
        added[self.assignment[:, None] == slots[None]] = np.inf
        return added

    def _leave(self, inputs):
        """What the cluster of each of these inputs adds once it is gone."""
        own = self.assignment[inputs]
        self.left[inputs] = _cost(self.joint[own] - self.p_xy[inputs], self.beta) - self.cost[own]

    def best(self) -> tuple[float, np.ndarray, int, int]:
        """The step that lowers the cost most: by how much, which inputs, from which slot, to which."""
        slot, totals = int(np.argmin(self.mergers.least)), self.left + self.moves.least
        i = int(np.argmin(totals))
        if self.mergers.least[slot] <= totals[i]:
            other = int(self.mergers.at[slot])
            source, target = max(slot, other), min(slot, other)
            return self.mergers.least[slot], np.flatnonzero(self.assignment == source), source, target
        return totals[i], np.array([i]), int(self.assignment[i]), int(self.moves.at[i])

    def step(self, inputs, source, target):
        self.assignment[inputs] = target
        changed = np.array([source, target])
        for slot in changed:
            self.joint[slot] = self.p_xy[self.assignment == slot].sum(0)
        self.cost[changed] = _cost(self.joint[changed], self.beta)
        mergers = self._mergers(changed)
        self.mergers.matrix[changed] = mergers.T
        self.mergers.replace(changed, mergers)
        self.mergers.search(changed)
        self.moves.replace(changed, self._moves(changed))
        self._leave(np.flatnonzero(np.isin(self.assignment, changed)))

    @property
    def n_clusters(self) -> int:
        return len(np.unique(self.assignment))


def _descend(p_xy, beta, assignment):
    """The nearest local optimum: no move of one input, to any cluster or a new one, and no merger lowers the cost."""
    partition = _Partition(p_xy, beta, assignment)
    while True:
        lowered, *step = partition.best()
        if lowered > -1e-12 * (1 + beta):
            return np.unique(partition.assignment, return_inverse=True)[1], partition.cost.sum()
        partition.step(*step)
        n_clusters = partition.n_clusters
        # Tables of few slots are fast, and one must be free wherever a further cluster could be.
        if n_clusters < partition.n_slots // 4 or n_clusters == partition.n_slots < len(p_xy):
            partition = _Partition(p_xy, beta, partition.assignment)


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
