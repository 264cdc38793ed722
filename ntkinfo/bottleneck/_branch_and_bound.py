"""Proven upper bounds on the largest G over all decoders of few labels, by branch and bound.

Of the bottleneck, log G(s) = log Σ_x c(x) e^{-β D[p(y|x) ‖ s]} is a log-sum-exp of linear functions of u = log s, hence
convex in u: over a polytope that holds a piece of {u : Σ_y e^{u_y} = 1} it is largest at a vertex. A piece is cut out
by a box, and lies below the tangent plane at any of its points. Of the dual, log G(s) is β H(s) plus a convex function
of s: H lies below its tangents, the rest is largest at a vertex of the piece that a box cuts out of the simplex.
That is good for large boxes. In a small one log G is below its tangent at a point plus a quadratic form: its second
derivatives are a difference, β² Cov[p(y|x)] - β Cov[s] in u and alike for the dual, and how much the weights of either
change within the box is bounded. Around a maximum, where G is flat, a box need then not be cut further.

No decoder outside the box of the rows p(y|x) can be a maximiser: a maximiser is a mean of the rows (geometric, for the
dual, and renormalised), whose ratios of labels lie between those of the rows. On the host, in float64, for many β at
once.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from ntkinfo._numerics.entropy import entropy

# How far above the largest G found a bound may end, nats, by the number of labels that this is used for.
TOLERANCE = {2: 1e-12, 3: 1e-11, 4: 1e-11}
# Probabilities below this count as this: what it adds to a sum of decoders is below rounding.
_SMALLEST = 1e-300
# Boxes looked at together, at least and at most, and numbers for boxes times inputs held at once.
_BATCH, _ENTRIES = (64, 4096), 2**18
# The vertices of a box are looked at where the logarithms of the weights may change by more than this within it.
_WIDE = 0.7
# So are those of a box of logarithms of which one may change by more than this.
_FAR = 2.0
# How often a box is expanded anew, at most.
_EXPANSIONS = 4
# Multipliers of the sides of a box, in units of the one at which a linear function has its bound; the least counts as
# this, so that the direction in which nothing changes does no harm.
_MULTIPLIERS, _LEAST = (0.0, 0.03, 0.2, 1.0), 2e-14


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


def upper_bound(log_c, p_y_given_x, beta: float, *, known: float = -np.inf, **options) -> Bound:
    """`upper_bounds` for one β: `log_c` (x,)."""
    return upper_bounds(np.asarray(log_c)[None], p_y_given_x, np.full(1, float(beta)), known=[known], **options)[0]


def upper_bounds(
    log_c, p_y_given_x, beta, *, dual: bool = False, known=None, tolerance: float = 1e-9, max_boxes: int = 200_000
) -> list[Bound]:
    """Bounds log G(s) = log Σ_x c(x) e^{-β d(x, s)} over the simplex of decoders s, for each of several β.

    Args:
      log_c: log p(x) - log Z(x), (B, x).
      p_y_given_x: (x, y), positive where `dual`.
      beta: β > 0, (B,).
      dual: d = D[s ‖ p(y|x)] in place of D[p(y|x) ‖ s].
      known: values of log G already found, (B,): boxes below them need no look.
      tolerance: how far above the largest value found the bound may end, nats.
      max_boxes: gives up a β after so many boxes; `upper` is a bound all the same.

    Returns:
      A `Bound` for each β.
    """
    rows, log_c, beta = (np.asarray(each, np.float64) for each in (p_y_given_x, log_c, beta))
    n_beta, n_labels = len(beta), rows.shape[1]
    piece = (_Dual if dual else _Markov)(log_c, rows, beta)
    level = np.full(n_beta, -np.inf) if known is None else np.array(known, np.float64)
    best, at, n_boxes = np.full(n_beta, -np.inf), np.tile(rows[0], (n_beta, 1)), np.zeros(n_beta, int)
    # The largest bound of the boxes that need no further look.
    settled, given_up = np.full(n_beta, -np.inf), np.zeros(n_beta, bool)
    batch = int(np.clip(_ENTRIES // len(rows), *_BATCH))
    # Boxes that wait, and those that are new.
    low, high, who, bounds = np.zeros((0, n_labels)), np.zeros((0, n_labels)), np.zeros(0, int), np.zeros(0)
    new_low, new_high, new_who, new_bounds = *piece.root(), np.arange(n_beta), np.full(n_beta, np.inf)
    while len(new_low):
        found = _evaluate(piece, new_low, new_high, new_who, level + tolerance)
        np.add.at(n_boxes, new_who, 1)
        order = np.argsort(found[1], kind="stable")
        top = np.full(n_beta, -1)
        top[new_who[order]] = order
        higher = np.flatnonzero((top >= 0) & (found[1][top] > best))
        best[higher], at[higher] = found[1][top[higher]], found[2][top[higher]]
        level = np.maximum(level, best)
        low, high, who = np.concatenate([low, new_low]), np.concatenate([high, new_high]), np.append(who, new_who)
        # A half is nowhere larger than the whole.
        bounds = np.append(bounds, np.minimum(found[0], new_bounds))
        given_up |= n_boxes >= max_boxes
        done = (bounds <= level[who] + tolerance) | given_up[who]
        np.maximum.at(settled, who[done], bounds[done])
        low, high, who, bounds = low[~done], high[~done], who[~done], bounds[~done]
        # The largest bounds first: they decide.
        order = np.argsort(-bounds)
        now, later = order[:batch], order[batch:]
        new_low, new_high = piece.halve(low[now], high[now])
        new_who, new_bounds = np.tile(who[now], 2), np.tile(bounds[now], 2)
        low, high, who, bounds = low[later], high[later], who[later], bounds[later]
    upper = np.maximum(settled, best)
    proven = upper <= level + tolerance
    return [Bound(*each) for each in zip(upper, best, at, proven, n_boxes, strict=True)]


def _evaluate(piece, low, high, who, level):
    """Bounds of boxes, log G at a decoder in or near each, and those decoders. Bounds below `level` need not be good.

    Where log G is concave around a box, the point to expand it at is its maximum there: the gradient vanishes, and with
    it all that the bound is larger than the maximum.
    """
    at, empty, level = piece.centre(low, high), piece.empty(low, high), level[who]
    own, s, form = piece.expand(low, high, at, who)
    bound = own + form.rise()
    wide = np.flatnonzero(form.wide & ~empty & (bound > level))
    if len(wide):
        bound[wide] = np.minimum(bound[wide], piece.of_vertices(low[wide], high[wide], at[wide], who[wide]))
    again = np.flatnonzero(~empty & (bound > level))
    step = form.step(again)
    for _ in range(_EXPANSIONS):
        concave = np.isfinite(step).all(1)
        again, step = again[concave], step[concave]
        if not len(again):
            break
        # The maximum may lie just outside of the box, which is then bounded from there.
        at[again] += piece.reach(low[again], high[again], at[again], step) * step
        value, point, form = piece.expand(low[again], high[again], at[again], who[again])
        bound[again] = np.minimum(bound[again], value + form.rise())
        higher = value > own[again]
        own[again[higher]], s[again[higher]] = value[higher], point[higher]
        above = np.flatnonzero(bound[again] > level[again])
        again, step = again[above], form.step(above)
    # A box that holds no decoder has neither a bound nor a value.
    own = np.where(empty, -np.inf, own)
    return np.where(empty, -np.inf, np.maximum(bound, own)), own, s


class _SecondOrder:
    """How much log G may rise within boxes from its value at a point of each.

    log G = LSE_x(log c(x) + β f(x)·v) + a concave function of v, |v_y| ≤ half_y (boxes, y). On the way to v, at tv, the
    weights of the first part are by convexity at most w(x) e^{t d(x)}, d(x) = β Σ_y |f_y(x) - E_w f_y| half_y, and a
    covariance grows with its weights. In the remainder ∫ (1 - t) vᵀH(tv)v dt of Taylor's formula that makes them at
    most W(x)/2, W = 2 w (e^d - 1 - d)/d², as a covariance is concave in its weights. So log G rises by at most
    gradient·v + v M v / 2, M = β² Cov_W[f] - β concave.

    Args:
      features: f(x), (x, y).
      beta: β, (boxes,).
      weights: w(x) at the points, (boxes, x).
      mean: E_w f, (boxes, y).
      gradient: of log G at the points, (boxes, y).
      half: the largest |v_y|, (boxes, y).
      concave: two functions of which points to arrays (points, y, y): the second derivatives of the concave part are -β
        times the first at the point, and their mean on the way to a point of the box, by the weights 2 (1 - t), is at
        most -β times the second.
      on_simplex: whether Σ_y v_y = 0.

    Attributes:
      wide: (boxes,) whether the weights may change so much that the vertices may tell more.

    Source: theory, section 7 (certificate).
    """

    def __init__(self, features, beta, weights, mean, gradient, half, concave, *, on_simplex=False):
        self.features, self.beta, self.weights, self.half = features, beta, weights, half
        self.concave, self.on_simplex, self.forces = concave, on_simplex, gradient * half
        shift = np.zeros((1, 1))
        if on_simplex:
            # Where Σ v = 0 a constant may be added to f.
            total = half.sum(1, keepdims=True)
            share = np.divide(half, total, out=np.zeros_like(half), where=total > 0)
            shift = share @ features.T - np.sum(share * mean, axis=1)[:, None]
        deviation = np.zeros_like(weights)
        for y in range(features.shape[1]):
            deviation += np.abs(features[None, :, y] - (mean[:, y, None] + shift)) * half[:, y, None]
        deviation *= beta[:, None]
        self.deviation, self.change = deviation, deviation.max(axis=1)
        self.wide = self.change > _WIDE

    def _form(self, boxes, weights, concave):
        """Gradient (boxes, y) and second derivatives (boxes, y, y) in units of the sides."""
        beta, half, g = self.beta[boxes, None, None], self.half[boxes], self.forces[boxes]
        matrix = beta**2 * _covariance(self.features, weights) - beta * concave(boxes)
        matrix *= half[:, :, None] * half[:, None, :]
        if not self.on_simplex:
            return g, matrix
        length = np.linalg.norm(half, axis=1, keepdims=True)
        normal = np.divide(half, length, out=np.zeros_like(half), where=length > 0)
        across = np.eye(half.shape[1]) - normal[:, :, None] * normal[:, None, :]
        return (across @ g[:, :, None])[:, :, 0], across @ matrix @ across

    def rise(self):
        """A bound on the rise (boxes,).

        g·v + vMv/2 is at most Σ_y λ/2 + gᵀ(λ - M)⁻¹g/2, in units of the sides, for every λ ≥ 0 that makes λ - M
        positive definite.
        """
        result, n_labels = np.full(len(self.half), np.inf), self.half.shape[1]
        small = np.flatnonzero(self.change < 20)
        g, matrix = self._form(small, self.weights[small] * _mean_growth(self.deviation[small]), self.concave[1])
        values, vectors = np.linalg.eigh(matrix)
        squares = (vectors.swapaxes(1, 2) @ g[:, :, None])[:, :, 0] ** 2
        unit = np.sqrt(squares.sum(1, keepdims=True) / n_labels)
        # Beyond every eigenvalue by more than its rounding.
        least = np.maximum(values[:, -1:], 0) + _LEAST + 1e-15 * np.abs(values).max(1, keepdims=True)
        multipliers = (least + multiplier * unit for multiplier in _MULTIPLIERS)
        rises = [(n_labels * each[:, 0] + np.sum(squares / (each - values), axis=1)) / 2 for each in multipliers]
        result[small] = np.min(rises, axis=0)
        return result

    def step(self, boxes):
        """Newton's steps from the points of some boxes (k, y), NaN where log G is not concave at the point."""
        result = np.full((len(boxes), self.half.shape[1]), np.nan)
        small = np.flatnonzero(self.change[boxes] < 20)
        boxes = boxes[small]
        g, matrix = self._form(boxes, self.weights[boxes], self.concave[0])
        values, vectors = np.linalg.eigh(matrix)
        # In one direction nothing changes; in the others the form must be negative.
        values[np.arange(len(values)), np.argmin(np.abs(values), axis=1)] = -np.inf
        inside = values.max(1) < 0
        along = (vectors.swapaxes(1, 2) @ g[:, :, None])[:, :, 0] / -np.where(inside[:, None], values, -1)
        result[small[inside]] = ((vectors @ along[:, :, None])[:, :, 0] * self.half[boxes])[inside]
        return result


def _mean_growth(d):
    """2 (e^d - 1 - d)/d², the mean of e^{td} over t by the weights 2 (1 - t), of d ≥ 0."""
    small = np.minimum(d, 1e-2)
    series = 1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 5)))
    return np.where(d > 1e-2, 2 * (np.expm1(d) - d) / np.maximum(d, 1e-2) ** 2, series)


def _mean_spread(s, least):
    """What the mean of `_spread` is at least while log s(t), concave in t, goes from log s to at least log `least`.

    The mean over t in (0, 1) by the weights 2 (1 - t). s(t) ≥ s e^{-tr}, r = log(s/least), is no less than the mixture
    of s and `least` by the share τ = (1 - e^{-tR})/(1 - e^{-R}) of the latter, R the largest r, and `_spread` is
    concave. The mean of τ is at most 1/3 + R/12 + R²/360.
    """
    most = np.log(np.maximum(s, _SMALLEST) / np.maximum(least, _SMALLEST)).max(axis=1)
    share = np.minimum(1 / 3 + most / 12 + most**2 / 360, 1)[:, None, None]
    return (1 - share) * _spread(s) + share * _spread(least)


def _covariance(features, weights):
    """The covariance of f(x) (x, y) under each of the weights (boxes, x), times their sum."""
    n_labels = features.shape[1]
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    first = weights @ features
    second = (weights @ products).reshape(-1, n_labels, n_labels)
    return second - first[:, :, None] * (first / weights.sum(1, keepdims=True))[:, None, :]


def _spread(s):
    """diag(s) - s sᵀ/Σ s of each s (boxes, y)."""
    return s[:, :, None] * (np.eye(s.shape[1]) - (s / s.sum(1, keepdims=True))[:, None, :])


def _softmax(logits):
    """The softmax along the last axis, and the logarithm of the sum of exponentials."""
    largest = logits.max(axis=-1, keepdims=True)
    odds = np.exp(logits - largest)
    total = odds.sum(axis=-1, keepdims=True)
    return odds / total, (largest + np.log(total))[..., 0]


def _largest(offset, features, points, exist, constant=0.0):
    """The largest LSE_x(offset + features·point) + constant of each box (boxes,), -∞ where there is no point.

    Of points (boxes, v, y) those that exist (boxes, v); offset (boxes, x), features (x, y), constant (boxes, v).
    """
    result = np.full(exist.shape, -np.inf)
    box, _ = np.nonzero(exist)
    points, values = points[exist], np.empty(len(box))
    step = max(1, _ENTRIES // len(features))
    for i in range(0, len(box), step):
        # Inputs first: sums over few of them are then sums of long rows.
        logits = features @ points[i : i + step].T + offset.T[:, box[i : i + step]]
        largest = logits.max(axis=0)
        logits -= largest
        values[i : i + step] = largest + np.log(np.exp(logits, out=logits).sum(axis=0))
    result[exist] = values
    return (result + constant).max(axis=1)


@functools.cache
def _corners(k):
    """Corners of a box of k sides (c, k), its edges by a corner of each (e, k), and along which side they run (e,)."""
    corners = np.array(list(itertools.product((False, True), repeat=k)))
    faces = np.array(list(itertools.product((False, True), repeat=k - 1))).reshape(-1, k - 1)
    edges = np.concatenate([np.insert(faces, y, False, axis=1) for y in range(k)])
    return corners, edges, np.repeat(np.arange(k), len(faces))


def _vertices(low, high, weights, level):
    """Vertices of {low ≤ u ≤ high, Σ weights u ≤ level} (boxes, v, y) and which of them exist (boxes, v)."""
    corners, edges, along = _corners(low.shape[1])
    low, high, weights = low[:, None], high[:, None], weights[:, None]
    span, level = high - low, level[:, None]
    corner, edge = (low + span * mask for mask in (corners, edges))
    # Along an edge the plane is crossed where the share of the way is between 0 and 1.
    excess = level - (weights * edge).sum(2)
    slope = (weights * span)[:, 0, along]
    share = np.divide(excess, slope, out=np.full_like(excess, -1.0), where=slope > 0)
    edge[:, np.arange(len(along)), along] += np.clip(share, 0, 1) * span[:, 0, along]
    exist = (weights * corner).sum(2) <= level, (share >= 0) & (share <= 1)
    return np.concatenate([corner, edge], 1), np.concatenate(exist, 1)


def _halves(low, high, side, middle):
    index = np.arange(len(low))
    first, second = high.copy(), low.copy()
    first[index, side] = second[index, side] = middle[index, side]
    return np.concatenate([low, second]), np.concatenate([first, high])


def _contracted(low, high):
    """Boxes of decoders s without what no decoder in them can reach, but for rounding, as Σ s = 1."""
    least = 1 - (high.sum(1, keepdims=True) - high) - 1e-15
    most = 1 - (low.sum(1, keepdims=True) - low) + 1e-15
    return np.maximum(low, least), np.minimum(high, most)


def _reach(low, high, at, step):
    """How much of each step stays in its box, (boxes, 1)."""
    room = np.maximum(np.where(step > 0, high - at, at - low), 0)
    length = np.abs(step)
    return np.divide(room, length, out=np.ones_like(room), where=length > room).min(1, keepdims=True)


class _Markov:
    """d = D[p(y|x) ‖ s]; boxes in u = log s."""

    def __init__(self, log_c, rows, beta):
        self.offset, self.rows, self.beta = log_c + beta[:, None] * entropy(rows), rows, beta

    def root(self):
        ends = (np.log(np.maximum(end, _SMALLEST)) for end in (self.rows.min(0), self.rows.max(0)))
        return tuple(np.tile(end, (len(self.beta), 1)) for end in ends)

    def centre(self, low, high):
        return (low + high) / 2

    def empty(self, low, high):
        # A box that lies wholly inside Σ e^u < 1 or outside holds no decoder.
        return (np.exp(high).sum(1) < 1 - 1e-12) | (np.exp(low).sum(1) > 1 + 1e-12)

    def expand(self, low, high, at, who):
        # log G of the normalised decoder, LSE_x(offset + β p(y|x) u) - β LSE_y(u), is the same along u + constant.
        s, total = _softmax(at)
        beta = self.beta[who]
        # The least of each probability between there and the box.
        highest, lowest = np.exp(np.maximum(high, at)), np.exp(np.minimum(low, at))
        least = lowest / np.maximum(lowest + highest @ (1 - np.eye(highest.shape[1])), _SMALLEST)
        weights, own = _softmax(self.offset[who] + beta[:, None] * ((at - total[:, None]) @ self.rows.T))
        mean, half = weights @ self.rows, np.maximum(high - at, at - low)
        gradient, concave = (
            beta[:, None] * (mean - s),
            (lambda i: _spread(s[i]), lambda i: _mean_spread(s[i], least[i])),
        )
        form = _SecondOrder(self.rows, beta, weights, mean, gradient, half, concave)
        # Towards probabilities that are nothing log G is nearly linear, but far: its end tells more than its slope.
        form.wide |= half.max(axis=1) > _FAR
        return own, s, form

    def of_vertices(self, low, high, at, who):
        s, total = _softmax(at)
        vertices, exist = _vertices(low, high, s, (s * (at - total[:, None])).sum(1))
        return _largest(self.offset[who], self.rows, self.beta[who, None, None] * vertices, exist)

    def reach(self, low, high, at, step):
        return _reach(2 * low - high, 2 * high - low, at, step)

    def halve(self, low, high):
        # The widest side in the metric of √s, in which a small change counts the same everywhere.
        side = np.argmax(np.exp(high / 2) - np.exp(low / 2), axis=1)
        # A range down to probabilities that are nothing is cut near its upper end.
        middle = np.where(high - low > 4, high - 2, (low + high) / 2)
        low, high = _halves(low, high, side, middle)
        s_low, s_high = np.exp(low), np.exp(high)
        least, most = _contracted(s_low, s_high)
        # Logarithms only where that takes something off: elsewhere they would come back rounded.
        low = np.where(least > s_low, np.log(np.maximum(least, _SMALLEST)), low)
        return low, np.where(most < s_high, np.log(np.maximum(most, _SMALLEST)), high)


class _Dual:
    """d = D[s ‖ p(y|x)]; boxes in s."""

    def __init__(self, log_c, rows, beta):
        self.log_rows, self.log_c, self.beta = np.log(rows), log_c, beta

    def root(self):
        # Ratios of labels lie between those of the rows, so s_y = 1 / Σ_y' s_y'/s_y does.
        ratios = self.log_rows[:, None, :] - self.log_rows[:, :, None]
        ends = (1 / np.exp(ratio).sum(1) for ratio in (ratios.max(0), ratios.min(0)))
        return tuple(np.tile(end, (len(self.beta), 1)) for end in ends)

    def _share(self, low, high):
        total = (high - low).sum(1, keepdims=True)
        return np.divide(1 - low.sum(1, keepdims=True), total, out=np.zeros_like(total), where=total > 0)

    def centre(self, low, high):
        # The decoder of the box at the same share of the way along every side.
        return low + np.clip(self._share(low, high), 0, 1) * (high - low)

    def empty(self, low, high):
        share = self._share(low, high)
        return ((share < -1e-12) | (share > 1 + 1e-12))[:, 0]

    def expand(self, low, high, at, who):
        log_s, beta = np.log(at), self.beta[who]
        weights, convex = _softmax(self.log_c[who] + beta[:, None] * (at @ self.log_rows.T))
        mean, half = weights @ self.log_rows, np.maximum(high - at, at - low)
        # Of H, of which log G has β: the mean of 1/s(t) is at least 1 over the mean of s(t), which is linear in t.
        s, further, one = at.copy(), at + np.maximum(high - at, 0) / 3, np.eye(at.shape[1])
        concave = (lambda i: one / s[i][:, :, None], lambda i: one / further[i][:, :, None])
        gradient = beta[:, None] * (mean - log_s)
        form = _SecondOrder(self.log_rows, beta, weights, mean, gradient, half, concave, on_simplex=True)
        return convex - beta * (at * log_s).sum(1), s, form

    def of_vertices(self, low, high, at, who):
        vertices, exist = _vertices(low, high, np.ones_like(low), np.ones(len(low)))
        # Only the crossings lie on the simplex; a corner does by accident.
        exist &= np.abs(vertices.sum(2) - 1) < 1e-9
        beta = self.beta[who, None]
        # H under its tangent at s: Σ -v log s for Σ v = Σ s.
        tangent = -(vertices * np.log(at)[:, None, :]).sum(2)
        return _largest(self.log_c[who], self.log_rows, beta[:, :, None] * vertices, exist, beta * tangent)

    def reach(self, low, high, at, step):
        return _reach(np.maximum(2 * low - high, low / 2), 2 * high - low, at, step)

    def halve(self, low, high):
        side = np.argmax(np.sqrt(high) - np.sqrt(low), axis=1)
        return _contracted(*_halves(low, high, side, np.sqrt(low * high)))
