"""A proven upper bound on the largest G over all decoders of few labels, by branch and bound.

Of the bottleneck, log G(s) = log Σ_x c(x) e^{-β D[p(y|x) ‖ s]} is a log-sum-exp of linear functions of u = log s, hence
convex in u: over a polytope that holds a piece of {u : Σ_y e^{u_y} = 1} it is largest at a vertex. A piece is cut out
by a box, and lies below the tangent plane at any of its points. Of the dual, log G(s) is β H(s) plus a convex function
of s: H lies below its tangents, the rest is largest at a vertex of the piece that a box cuts out of the simplex.

No decoder outside the box of the rows p(y|x) can be a maximiser: a maximiser is a mean of the rows (geometric, for the
dual, and renormalised), whose ratios of labels lie between those of the rows. On the host, in float64.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from ntkinfo._numerics.entropy import entropy

# How far above the largest G found a bound may end, nats, by the number of labels that this is used for.
TOLERANCE = {2: 1e-12, 3: 1e-11, 4: 1e-11}
# Probabilities below this count as this: what it adds to a sum of decoders is below rounding.
_SMALLEST = 1e-300
# Boxes looked at together, and vertices times inputs held at once.
_BATCH, _ENTRIES = 512, 2**19
# The vertices of a box are looked at where the logarithms of the weights may change by more than this within it.
_WIDE = 0.7
# How often a box is expanded anew, at most.
_EXPANSIONS = 4
# Multipliers of the sides of a box, in units of the one at which a linear function has its bound; the least counts as
# this, so that the direction in which nothing changes does no harm.
_MULTIPLIERS, _LEAST = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0), 2e-14


class Bound(NamedTuple):
    """What branch and bound knows of max_s log G(s).

    Attributes:
      upper: no decoder has a larger log G, but for rounding; nats.
      found: the largest log G met.
      s: where, (y,).
      proven: whether `upper` is within the tolerance of `found` or of the value to prove.
      n_boxes: boxes looked at.
    """

    upper: float
    found: float
    s: np.ndarray
    proven: bool
    n_boxes: int


def upper_bound(
    log_c, p_y_given_x, beta: float, *, dual: bool = False, known: float = -np.inf, tolerance: float = 1e-9,
    max_boxes: int = 200_000,
) -> Bound:  # fmt: skip
    """Bounds log G(s) = log Σ_x c(x) e^{-β d(x, s)} over the simplex of decoders s.

    Args:
      log_c: log p(x) - log Z(x), (x,).
      p_y_given_x: (x, y), positive where `dual`.
      beta: β > 0.
      dual: d = D[s ‖ p(y|x)] in place of D[p(y|x) ‖ s].
      known: a value of log G already found: boxes below it need no look.
      tolerance: how far above the largest value found the bound may end, nats.
      max_boxes: gives up after so many boxes; `upper` is a bound all the same.

    Returns:
      A `Bound`.
    """
    rows = np.asarray(p_y_given_x, np.float64)
    log_c = np.asarray(log_c, np.float64)
    piece = _Dual(log_c, rows, beta) if dual else _Markov(log_c, rows, beta)
    low, high = piece.root()
    best, at, n_boxes = -np.inf, rows[0], 0
    settled = -np.inf  # the largest bound of the boxes that need no further look
    bounds, inner, points = _evaluate(piece, low, high, known + tolerance)
    while True:
        n_boxes += len(low)
        top = int(np.argmax(inner))
        if inner[top] > best:
            best, at = float(inner[top]), points[top]
        done = bounds <= max(best, known) + tolerance
        if done.any():
            settled = max(settled, float(bounds[done].max()))
        low, high, bounds = low[~done], high[~done], bounds[~done]
        if not len(low) or n_boxes >= max_boxes:
            break
        # The largest bounds first: they decide.
        order = np.argsort(-bounds)
        now, later = order[:_BATCH], order[_BATCH:]
        halves = piece.halve(low[now], high[now])
        new = _evaluate(piece, *halves, max(best, known) + tolerance)
        # A half is nowhere larger than the whole.
        new_bounds = np.minimum(new[0], np.tile(bounds[now], 2))
        low, high = np.concatenate([halves[0], low[later]]), np.concatenate([halves[1], high[later]])
        rest = len(later)
        inner = np.concatenate([new[1], np.full(rest, -np.inf)])
        points = np.concatenate([new[2], np.repeat(at[None], rest, 0)])
        bounds = np.concatenate([new_bounds, bounds[later]])
        n_boxes -= rest
    left = float(bounds.max()) if len(bounds) else -np.inf
    upper = max(settled, left, best)
    return Bound(upper, best, at, not len(bounds), n_boxes)


def _vertices(low, high, weights, level):
    """Vertices of {low ≤ u ≤ high, Σ weights u ≤ level} (boxes, v, y) and which of them exist (boxes, v)."""
    n, k = low.shape
    corners, exist = [], []
    span = high - low
    for bits in itertools.product((False, True), repeat=k):
        corner = np.where(np.array(bits), high, low)
        corners.append(corner)
        exist.append((weights * corner).sum(1) <= level)
    for y in range(k):
        for bits in itertools.product((False, True), repeat=k - 1):
            mask = np.insert(np.array(bits), y, False)
            edge = np.where(mask, high, low)
            # Along this edge the plane is crossed where the share of the way is between 0 and 1.
            excess = level - (weights * edge).sum(1)
            slope = weights[:, y] * span[:, y]
            share = np.divide(excess, slope, out=np.full(n, -1.0), where=slope > 0)
            edge[:, y] = low[:, y] + np.clip(share, 0, 1) * span[:, y]
            corners.append(edge)
            exist.append((share >= 0) & (share <= 1))
    return np.stack(corners, 1), np.stack(exist, 1)


def _softmax(logits):
    """The softmax along the last axis, and the logarithm of the sum of exponentials."""
    largest = logits.max(axis=-1, keepdims=True)
    odds = np.exp(logits - largest)
    total = odds.sum(axis=-1, keepdims=True)
    return odds / total, (largest + np.log(total))[..., 0]


def _spread(s):
    """diag(s) - s sᵀ/Σ s of each s (boxes, y)."""
    return s[:, :, None] * (np.eye(s.shape[1]) - (s / s.sum(1, keepdims=True))[:, None, :])


def _covariance(features, weights):
    """The covariance of f(x) (x, y) under each of the weights (boxes, x), times their sum."""
    n_labels = features.shape[1]
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    first = weights @ features
    second = (weights @ products).reshape(-1, n_labels, n_labels)
    return second - first[:, :, None] * (first / weights.sum(1, keepdims=True))[:, None, :]


def _second_order(features, beta, weights, mean, gradient, half, concave, *, on_simplex=False):
    """How much log G may rise within boxes from its value at a point of each.

    log G = LSE_x(log c(x) + β f(x)·v) + a concave function of v, |v_y| ≤ half_y (boxes, y). By convexity the weights of
    the first part are at most W(x) = w(x) exp(β Σ_y |f_y(x) - E_w f_y| half_y), and a covariance grows with its weights:
    the second derivatives are at most M = β² Cov_W[f] - β concave. Then gradient·v + v M v / 2 is at most
    Σ_y λ/2 + gᵀ(λ - M)⁻¹g/2, in units of the sides, for every λ that makes λ - M positive definite.

    Args:
      features: f(x), (x, y).
      beta: β.
      weights: w(x) at the points, (boxes, x).
      mean: E_w f, (boxes, y).
      gradient: of log G at the points, (boxes, y).
      half: the largest |v_y|, (boxes, y).
      concave: two arrays (boxes, y, y): the second derivatives of the concave part are -β times the first at the point,
        and at most -β times the second in the box.
      on_simplex: whether Σ_y v_y = 0.

    Returns:
      The bound on the rise (boxes,); whether the weights may change so much that the vertices may tell more (boxes,);
      Newton's step (boxes, y), NaN where log G is not concave at the point.
    """
    n_labels = features.shape[1]
    shift = 0.0
    if on_simplex:
        # Where Σ v = 0 a constant may be added to f.
        total = half.sum(1, keepdims=True)
        share = np.divide(half, total, out=np.zeros_like(half), where=total > 0)
        shift = share @ features.T - np.sum(share * mean, axis=1)[:, None]
    deviation = np.zeros_like(weights)
    for y in range(n_labels):
        deviation += np.abs(features[None, :, y] - mean[:, y, None] - shift) * half[:, y, None]
    deviation *= beta
    change = deviation.max(axis=1)
    sides = half[:, :, None] * half[:, None, :]
    largest = weights * np.exp(np.minimum(deviation, 20))
    now, most = (
        (beta**2 * _covariance(features, w) - beta * each) * sides
        for w, each in zip((weights, largest), concave, strict=True)
    )
    g = gradient * half
    if on_simplex:
        length = np.linalg.norm(half, axis=1, keepdims=True)
        normal = np.divide(half, length, out=np.zeros_like(half), where=length > 0)
        across = np.eye(n_labels) - normal[:, :, None] * normal[:, None, :]
        now, most, g = across @ now @ across, across @ most @ across, np.einsum("bij,bj->bi", across, g)
    sound = np.isfinite(most).all(axis=(1, 2)) & (change < 20)
    values, vectors = np.linalg.eigh(np.where(sound[:, None, None], most, 0))
    squares = np.einsum("bij,bi->bj", vectors, g) ** 2
    unit = np.sqrt(squares.sum(1) / n_labels)[:, None]
    # Beyond every eigenvalue by more than its rounding.
    least = np.maximum(values[:, -1:], 0) + _LEAST + 1e-15 * np.abs(values).max(1, keepdims=True)
    multipliers = (least + multiplier * unit for multiplier in _MULTIPLIERS)
    rises = [(n_labels * each[:, 0] + np.sum(squares / (each - values), axis=1)) / 2 for each in multipliers]
    rise = np.where(sound, np.min(rises, axis=0), np.inf)
    # In one direction nothing changes; in the others the form must be negative.
    step = np.full_like(g, np.nan)
    newton = np.flatnonzero(sound & np.isfinite(now).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(now[newton])
    flat = np.argmin(np.abs(values), axis=1)
    values[np.arange(len(newton)), flat] = -np.inf
    inside = values.max(1) < 0
    along = np.einsum("bij,bi->bj", vectors, g[newton]) / -values
    step[newton[inside]] = np.einsum("bij,bj->bi", vectors, along)[inside] * half[newton[inside]]
    return rise, change > _WIDE, step


def _evaluate(piece, low, high, level):
    """Bounds of boxes, log G at a decoder in or near each, and those decoders. Bounds below `level` need not be good.

    In a box where log G is concave the point to expand it at is its maximum there: there the gradient vanishes, and with
    it all that the bound is larger than the maximum.
    """
    at, empty = piece.centre(low, high), piece.empty(low, high)
    own, s, rise, wide, step = piece.expand(low, high, at)
    bound = own + rise
    wide = np.flatnonzero(wide & ~empty & (bound > level))
    if len(wide):
        bound[wide] = np.minimum(bound[wide], piece.of_vertices(low[wide], high[wide], at[wide]))
    for _ in range(_EXPANSIONS):
        level = max(level, own[~empty].max(initial=-np.inf))
        again = np.flatnonzero(~empty & (bound > level) & np.isfinite(step).all(1))
        if not len(again):
            break
        # The whole step, or as much of it as stays in the box.
        room = np.where(step[again] > 0, high[again] - at[again], at[again] - low[again])
        length = np.abs(step[again])
        share = np.divide(room, length, out=np.ones_like(room), where=length > room).min(1, keepdims=True)
        at[again] += np.maximum(share, 0) * step[again]
        value, point, rise, _, step[again] = piece.expand(low[again], high[again], at[again])
        bound[again] = np.minimum(bound[again], value + rise)
        higher = value > own[again]
        own[again[higher]], s[again[higher]] = value[higher], point[higher]
    # A box that holds no decoder has neither a bound nor a value.
    own = np.where(empty, -np.inf, own)
    return np.where(empty, -np.inf, np.maximum(bound, own)), own, s


class _Markov:
    """d = D[p(y|x) ‖ s]; boxes in u = log s."""

    def __init__(self, log_c, rows, beta):
        self.slopes = beta * rows.T
        self.offset = log_c + beta * entropy(rows)
        self.rows, self.beta = rows, beta

    def root(self):
        low = np.log(np.maximum(self.rows.min(0), _SMALLEST))
        return low[None], np.log(np.maximum(self.rows.max(0), _SMALLEST))[None]

    def value(self, u):
        """log G at points u = log s, of any leading shape."""
        flat = u.reshape(-1, u.shape[-1])
        step = max(1, _ENTRIES // self.slopes.shape[1])
        parts = [logsumexp(self.offset + flat[i : i + step] @ self.slopes, axis=1) for i in range(0, len(flat), step)]
        return np.concatenate(parts).reshape(u.shape[:-1])

    def centre(self, low, high):
        return (low + high) / 2

    def empty(self, low, high):
        # A box that lies wholly inside Σ e^u < 1 or outside holds no decoder.
        return (np.exp(high).sum(1) < 1 - 1e-12) | (np.exp(low).sum(1) > 1 + 1e-12)

    def expand(self, low, high, at):
        # log G of the normalised decoder, LSE_x(offset + β p(y|x) u) - β LSE_y(u), is the same along u + constant.
        log_s = at - logsumexp(at, axis=1, keepdims=True)
        s = np.exp(log_s)
        highest, lowest = np.exp(high), np.exp(low)
        # The least of each probability in the box.
        least = lowest / (lowest + highest.sum(1, keepdims=True) - highest)
        weights, own = _softmax(self.offset + log_s @ self.slopes)
        mean = weights @ self.rows
        half = np.maximum(high - at, at - low)
        gradient = self.beta * (mean - s)
        rises = _second_order(self.rows, self.beta, weights, mean, gradient, half, (_spread(s), _spread(least)))
        return own, s, *rises

    def of_vertices(self, low, high, at):
        log_s = at - logsumexp(at, axis=1, keepdims=True)
        s = np.exp(log_s)
        vertices, exist = _vertices(low, high, s, (s * log_s).sum(1))
        return np.where(exist, self.value(vertices), -np.inf).max(1)

    def halve(self, low, high):
        # The side that matters most: widest in s, which is where G moves.
        side = np.argmax((high - low) * np.exp(high), axis=1)
        middle = (low + high) / 2
        # A range down to probabilities that are nothing is cut near its upper end.
        middle = np.where(high - low > 4, high - 2, middle)
        return _halves(low, high, side, middle)


class _Dual:
    """d = D[s ‖ p(y|x)]; boxes in s."""

    def __init__(self, log_c, rows, beta):
        self.log_rows, self.log_c, self.beta = np.log(rows), log_c, beta

    def root(self):
        # Ratios of labels lie between those of the rows, so s_y = 1 / Σ_y' s_y'/s_y does.
        ratios = self.log_rows[:, None, :] - self.log_rows[:, :, None]
        return 1 / np.exp(ratios.max(0)).sum(1)[None], 1 / np.exp(ratios.min(0)).sum(1)[None]

    def convex(self, s):
        flat = s.reshape(-1, s.shape[-1])
        slopes = self.beta * self.log_rows.T
        step = max(1, _ENTRIES // slopes.shape[1])
        parts = [logsumexp(self.log_c + flat[i : i + step] @ slopes, axis=1) for i in range(0, len(flat), step)]
        return np.concatenate(parts).reshape(s.shape[:-1])

    def centre(self, low, high):
        # The decoder of the box at the same share of the way along every side.
        return low + np.clip(self._share(low, high), 0, 1) * (high - low)

    def empty(self, low, high):
        share = self._share(low, high)
        return ((share < -1e-12) | (share > 1 + 1e-12))[:, 0]

    def _share(self, low, high):
        total = (high - low).sum(1, keepdims=True)
        return np.divide(1 - low.sum(1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)

    def expand(self, low, high, at):
        log_s = np.log(at)
        weights, convex = _softmax(self.log_c + self.beta * (at @ self.log_rows.T))
        mean = weights @ self.log_rows
        half = np.maximum(high - at, at - low)
        curvatures = tuple(np.eye(at.shape[1]) / s[:, :, None] for s in (at, high))
        gradient = self.beta * (mean - log_s)
        rises = _second_order(self.log_rows, self.beta, weights, mean, gradient, half, curvatures, on_simplex=True)
        return convex - self.beta * (at * log_s).sum(1), at, *rises

    def of_vertices(self, low, high, at):
        vertices, exist = _vertices(low, high, np.ones_like(low), np.ones(len(low)))
        # Only the crossings lie on the simplex; a corner does by accident.
        exist &= np.abs(vertices.sum(2) - 1) < 1e-9
        # H under its tangent at s: Σ -v log s for Σ v = Σ s.
        tangent = -(vertices * np.log(at)[:, None, :]).sum(2)
        return np.where(exist, self.convex(vertices) + self.beta * tangent, -np.inf).max(1)

    def halve(self, low, high):
        side = np.argmax(high / low * (high - low), axis=1)
        return _halves(low, high, side, np.sqrt(low * high))


def _halves(low, high, side, middle):
    index = np.arange(len(low))
    first, second = high.copy(), low.copy()
    first[index, side] = second[index, side] = middle[index, side]
    return np.concatenate([low, second]), np.concatenate([first, high])
