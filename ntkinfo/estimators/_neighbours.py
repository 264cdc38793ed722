"""Information from nearest neighbours in the max norm, on k-d trees. Host NumPy and SciPy, no checks.

Behind `estimators.ksg` and `estimators.differential_entropy`. The `*_terms` return one term for each sample; the
estimate is their mean.
"""

import numpy as np
from scipy.spatial import KDTree
from scipy.special import digamma

# Most blocks of the standard error, and the fewest samples in one beyond which there are more than two.
BLOCKS = 10
BLOCK_SIZE = 4


def _inside(points, radius):
    """Number of points strictly nearer than `radius` (n,) to each of the points (n, d), itself included."""
    if points.shape[1] == 1:
        return _inside_of_line(points[:, 0], radius)
    return KDTree(points).query_ball_point(points, np.nextafter(radius, 0), p=np.inf, return_length=True)


def _inside_of_line(points, radius):
    """`_inside` for points (n,): between the ends of an interval of the sorted ones."""
    order = np.argsort(points)
    line, reach = points[order], radius[order]
    # In their order the ends are found from neighbouring places of memory, ten times as fast.
    first, last = np.searchsorted(line, line - reach), np.searchsorted(line, line + reach)
    # The sum may have rounded across a point: distances decide, as everywhere.
    padded = np.concatenate([[-np.inf], line, [np.inf]])
    while (moved := line - padded[first] < reach).any():
        first -= moved
    while (moved := (padded[first + 1] < line) & (line - padded[first + 1] >= reach)).any():
        first += moved
    while (moved := padded[last + 1] - line < reach).any():
        last += moved
    while (moved := (padded[last] > line) & (padded[last] - line >= reach)).any():
        last -= moved
    counts = np.empty(len(points), np.int64)
    counts[order] = last - first
    return counts


def _distance_to(points, k: int):
    """The distance of each of the points (n, d) to the k-th nearest of the others, (n,)."""
    tree = KDTree(points)
    # Neighbours in the tree are asked for one after the other: what the search reads is in the cache.
    distance = np.empty(len(points))
    distance[tree.indices] = tree.query(points[tree.indices], [k + 1], p=np.inf)[0][:, 0]
    return distance


def continuous_terms(x, y, k: int):
    """Terms of Kraskov's first estimator, ψ(k) + ψ(n) - ψ(n_x + 1) - ψ(n_y + 1), for x (n, d), y (n, e)."""
    both = np.concatenate([x, y], axis=1)
    distance = _distance_to(both, k)
    # The count includes the sample itself: it is n_x + 1.
    return digamma(k) + digamma(len(x)) - digamma(_inside(x, distance)) - digamma(_inside(y, distance))


def discrete_terms(x, labels, k: int):
    """Terms of Ross's estimator, ψ(k) + ψ(n) - ψ(n_y) - ψ(m), for x (n, d) and labels (n,) from 0."""
    distance, size = np.empty(len(x)), np.bincount(labels)[labels]
    for label in np.unique(labels):
        members = x[labels == label]
        distance[labels == label] = _distance_to(members, k)
    return digamma(k) + digamma(len(x)) - digamma(size) - digamma(_inside(x, distance))


def entropy_terms(x, _, k: int):
    """Terms of Kozachenko and Leonenko's estimator, ψ(n) - ψ(k) + d log 2ε, for x (n, d) with distances ε > 0."""
    return digamma(len(x)) - digamma(k) + x.shape[1] * np.log(2 * _distance_to(x, k))


def _block_variance(terms, x, y, k: int, order, smallest: int) -> float:
    """Variance of the whole sample's estimate, from estimates on disjoint blocks: it falls as 1/n."""
    blocks = int(np.clip(smallest // (BLOCK_SIZE * (k + 1)), 2, BLOCKS))
    means = [terms(x[order[b::blocks]], y[order[b::blocks]], k).mean() for b in range(blocks)]
    return float(np.var(means, ddof=1) / blocks)


def _is_rounding(variance: float, value: float) -> bool:
    return variance <= (64 * np.finfo(float).eps * max(1.0, abs(value))) ** 2


def _standard_error(variance: float, value: float) -> float:
    """The root of a variance; infinite where nothing varies, as among copies: that says nothing of the error."""
    return np.inf if _is_rounding(variance, value) else np.sqrt(variance)


def continuous(x, y, k: int) -> tuple[float, float]:
    """Information between x (n, d) and y (n, e) in nats and its standard error."""
    terms = continuous_terms(x, y, k)
    value, variance = terms.mean(), _block_variance(continuous_terms, x, y, k, np.arange(len(x)), len(x))
    if _is_rounding(variance, value):
        # Terms are few numbers, sums of digammas, so that two blocks may agree by chance.
        variance = np.var(terms) / len(x)
    return float(value), _standard_error(variance, value)


def discrete(x, labels, k: int) -> tuple[float, float]:
    """Information between x (n, d) and labels (n,) in nats and its standard error."""
    terms, size = discrete_terms(x, labels, k), np.bincount(labels)
    value = terms.mean()
    # Blocks with the classes in proportion have room for k neighbours, but do not see the proportions vary.
    within = _block_variance(discrete_terms, x, labels, k, np.argsort(labels, kind="stable"), int(size.min()))
    between = np.average((np.bincount(labels, weights=terms) / size - value) ** 2, weights=size) / len(x)
    return float(value), _standard_error(within + between, value)


def entropy(x, k: int) -> tuple[float, float]:
    """Entropy of the density of x (n, d) in nats and its standard error."""
    value = entropy_terms(x, x, k).mean()
    variance = _block_variance(entropy_terms, x, x, k, np.arange(len(x)), len(x))
    return float(value), _standard_error(variance, value)


def distinct(points) -> np.ndarray:
    """The points (n, d) without repeated rows, in their order."""
    return points[np.sort(np.unique(points, axis=0, return_index=True)[1])]


def coincident(points) -> int:
    """Largest number of equal rows of the points (n, d)."""
    return int(np.unique(points, axis=0, return_counts=True)[1].max())
