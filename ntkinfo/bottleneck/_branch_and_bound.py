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
TOLERANCE = {3: 1e-11, 4: 1e-8}
# Probabilities below this count as this: what it adds to a sum of decoders is below rounding.
_SMALLEST = 1e-300
# Boxes looked at together, and vertices times inputs held at once.
_BATCH, _ENTRIES = 512, 2**22


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
    bounds, inner, points = piece.evaluate(low, high)
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
        new = piece.evaluate(*halves)
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


class _Markov:
    """d = D[p(y|x) ‖ s]; boxes in u = log s."""

    def __init__(self, log_c, rows, beta):
        self.slopes = beta * rows.T
        self.offset = log_c + beta * entropy(rows)
        self.rows = rows

    def root(self):
        low = np.log(np.maximum(self.rows.min(0), _SMALLEST))
        return low[None], np.log(np.maximum(self.rows.max(0), _SMALLEST))[None]

    def value(self, u):
        """log G at points u = log s, of any leading shape."""
        flat = u.reshape(-1, u.shape[-1])
        step = max(1, _ENTRIES // self.slopes.shape[1])
        parts = [logsumexp(self.offset + flat[i : i + step] @ self.slopes, axis=1) for i in range(0, len(flat), step)]
        return np.concatenate(parts).reshape(u.shape[:-1])

    def evaluate(self, low, high):
        """Bounds of the boxes, log G at a decoder in or near each, and those decoders."""
        s = np.exp((low + high) / 2)
        s = s / s.sum(1, keepdims=True)
        log_s = np.log(s)
        vertices, exist = _vertices(low, high, s, (s * log_s).sum(1))
        # A box that lies wholly inside Σ e^u < 1 or outside holds no decoder.
        empty = (np.exp(high).sum(1) < 1 - 1e-12) | (np.exp(low).sum(1) > 1 + 1e-12)
        values = np.where(exist, self.value(vertices), -np.inf)
        return np.where(empty, -np.inf, values.max(1)), self.value(log_s), s

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

    def evaluate(self, low, high):
        # The decoder of the box at the same share of the way along every side.
        width = high - low
        total = width.sum(1, keepdims=True)
        share = np.divide(1 - low.sum(1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)
        empty = ((share < -1e-12) | (share > 1 + 1e-12))[:, 0]
        s = low + np.clip(share, 0, 1) * width
        ones = np.ones_like(low)
        level = np.ones(len(low))
        vertices, exist = _vertices(low, high, ones, level)
        # Only the crossings lie on the simplex; a corner does by accident.
        on_simplex = np.abs(vertices.sum(2) - 1) < 1e-9
        log_s = np.log(s)
        # H under its tangent at s: Σ -v log s for Σ v = Σ s.
        tangent = -(vertices * log_s[:, None, :]).sum(2)
        values = np.where(exist & on_simplex, self.convex(vertices) + self.beta * tangent, -np.inf)
        own = self.convex(s) - self.beta * (s * log_s).sum(1)
        # A box that holds no decoder has neither a bound nor a value.
        bound = np.where(empty, -np.inf, np.maximum(values.max(1), own))
        return bound, np.where(empty, -np.inf, own), s

    def halve(self, low, high):
        side = np.argmax(high / low * (high - low), axis=1)
        return _halves(low, high, side, np.sqrt(low * high))


def _halves(low, high, side, middle):
    index = np.arange(len(low))
    first, second = high.copy(), low.copy()
    first[index, side] = second[index, side] = middle[index, side]
    return np.concatenate([low, second]), np.concatenate([first, high])
