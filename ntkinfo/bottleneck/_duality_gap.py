"""How far a bottleneck solution is from the global optimum: a certificate from convex duality.

The optimum over all decoders is a convex problem in the measure nu of decoders s. With
G(s) = sum_x p(x) e^{-beta d(x,s)} / Z(x), Z(x) = sum_z prior_z e^{-beta d(x, s_z)}, the optimum has G <= 1 everywhere
and any solution is within log max_s G(s) nats of it. The maximiser is the cluster that is missing.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkinfo.bottleneck._distortion import decode, distortion

ROUNDS = 24  # halvings of the interval search: 512 intervals, so a width of 2^-32 where 256 of them suffice
KEPT = 256
SWEEPS = 300
PAIRED = 8  # up to this many decoders, the middles of their pairs are starts too
FOLLOWED, SCOUTING = 32, 12  # starts followed to their end, after a few steps of all


class Maximum(NamedTuple):
    """The largest G over all decoders s.

    Attributes:
      log_g: log max_s G(s), nats; an upper bound for two classes, otherwise the largest value found.
      s: (y,) the maximiser.
      log_g_found: log G(s) at `s`: a lower bound on the maximum.
    """

    log_g: jax.Array
    s: jax.Array
    log_g_found: jax.Array


def gap(p_x, rows, beta, prior, decoders, dual: bool = False) -> jax.Array:
    """Upper bound on F - F*, the distance of a bottleneck solution from the global optimum, in nats.

    F = -sum_x p(x) log sum_z prior_z e^{-beta d(x, s_z)} is the value of the solution, F* the least over all measures
    of decoders. Their distance is at most log max_s G(s). Arguments, proof for two classes and search for more: see
    `maximise`. At rounding level it may come out as -1e-16.
    """
    return maximise(p_x, rows, beta, prior, decoders, dual).log_g


@partial(jax.jit, static_argnames=("dual",))
def maximise(p_x, rows, beta, prior, decoders, dual: bool = False) -> Maximum:
    """The largest log G(s) over the simplex of decoders s, in nats. A pure core; `vmap` over beta and solutions.

    Two classes: branch and bound over the interval between the smallest and the largest p(y|x), beyond which G cannot
    be largest; `log_g` is a proven upper bound but for rounding. More classes: ascent from every row, decoder and
    (of few decoders) middle of two, each step raising G (s <- the decoder of the weights p(x) e^{-beta d(x,s)}/Z(x)),
    the best after a few steps followed to their end; the maximum is searched, not proven.

    Args:
      p_x: (x,) masses of the inputs, positive.
      rows: (x, y) p(y|x); positive where `dual`.
      beta: trade-off, a positive scalar.
      prior: (z,) masses of the clusters; zero for a cluster not in use.
      decoders: (z, y) the decoders.
      dual: the distortion of the dual bottleneck, D[s || p(y|x)], in place of D[p(y|x) || s].

    Returns:
      A `Maximum`. Cost: two classes O(rounds x 512 x |X|), more O(sweeps x starts x |X| x |Y|).

    Source: theory, section 7 (certificate).
    """
    log_c = jnp.log(p_x) - log_partition(rows, beta, prior, decoders, dual)
    search = _interval if rows.shape[1] == 2 else _ascend
    return search(log_c, p_x, rows, beta, decoders, dual)


def log_partition(rows, beta, prior, decoders, dual: bool = False) -> jax.Array:
    """log Z(x) = log sum_z prior_z e^{-beta d(x, s_z)}, (x,), nats."""
    return jax.nn.logsumexp(-beta * distortion(rows, decoders, dual), b=prior[None, :], axis=1)


def log_g(log_c, rows, beta, s, dual: bool = False) -> jax.Array:
    """log G at the decoders `s` (k, y), as (k,); `log_c` (x,) is log p(x) - log Z(x)."""
    return jax.nn.logsumexp(log_c[:, None] - beta * distortion(rows, s, dual), axis=0)


def _ascend(log_c, p_x, rows, beta, decoders, dual):
    """Extrapolated mean-shift ascent from many starts; the best point found."""
    inside = 0.95 * jnp.eye(rows.shape[0], dtype=rows.dtype) + 0.05 * p_x[None, :]
    starts = [decode(inside, rows, dual), decoders]
    if len(decoders) <= PAIRED:
        first, second = jnp.triu_indices(len(decoders), 1)
        starts.append((decoders[first] + decoders[second]) / 2)
    starts = jnp.concatenate(starts)

    def step(s):
        logits = (log_c[:, None] - beta * distortion(rows, s, dual)).T
        value = jax.nn.logsumexp(logits, axis=1)
        return decode(jax.nn.softmax(logits, axis=1), rows, dual), value

    def sweep(state):
        s, _, count, _ = state
        once, _ = step(s)
        twice, value_once = step(once)
        # SQUAREM: s - 2 a r + a^2 v; refused where it leaves the simplex or G falls behind the plain step.
        r, v = once - s, twice - 2 * once + s
        norms = jnp.linalg.norm(r, axis=1), jnp.linalg.norm(v, axis=1)
        a = -jnp.maximum(norms[0] / jnp.where(norms[1] > 0, norms[1], 1), 1)[:, None]
        far = s - 2 * a * r + a**2 * v
        usable = jnp.all(far > 0, axis=1)
        far, far_value = step(jnp.where(usable[:, None], far, twice))
        twice_value = log_g(log_c, rows, beta, twice, dual)
        better = usable & (far_value >= twice_value)
        new = jnp.where(better[:, None], far, twice)
        value = jnp.where(better, far_value, twice_value)
        return new, value, count + 1, jnp.max(jnp.abs(value - value_once))

    def unfinished(state):
        return (state[2] < SWEEPS) & (state[3] > 4 * jnp.finfo(rows.dtype).eps)

    far = jnp.asarray(jnp.inf, rows.dtype)
    if len(starts) > FOLLOWED:
        # Most starts run to the decoders there are: a few steps tell which are worth following.
        starts = jax.lax.fori_loop(0, SCOUTING, lambda _, s: step(s)[0], starts)
        starts = starts[jax.lax.top_k(log_g(log_c, rows, beta, starts, dual), FOLLOWED)[1]]
    s = jax.lax.while_loop(unfinished, sweep, (starts, jnp.zeros(starts.shape[0], rows.dtype), 0, far))[0]
    s = jnp.concatenate([s, decoders])
    values = log_g(log_c, rows, beta, s, dual)
    best = jnp.argmax(values)
    return Maximum(values[best], s[best], values[best])


def _interval(log_c, p_x, rows, beta, decoders, dual):
    """Branch and bound over s = (1 - t, t), the intervals with the largest bounds halved each round."""
    bound = partial(_bound_dual if dual else _bound, log_c, rows, beta)
    angle = jnp.arcsin(jnp.sqrt(jnp.stack([jnp.min(rows[:, 1]), jnp.max(rows[:, 1])])))
    edges = jnp.linspace(angle[0], angle[1], 2 * KEPT + 1)
    edges = jnp.sin(edges) ** 2

    def halve(_, state):
        low, high, rest = state
        order = jnp.argsort(-bound(low, high)[0])
        rest = jnp.maximum(rest, bound(low[order[KEPT:]], high[order[KEPT:]])[0].max())
        low, high = low[order[:KEPT]], high[order[:KEPT]]
        middle = jnp.sin((jnp.arcsin(jnp.sqrt(low)) + jnp.arcsin(jnp.sqrt(high))) / 2) ** 2
        return jnp.concatenate([low, middle]), jnp.concatenate([middle, high]), rest

    lowest = jnp.asarray(-jnp.inf, rows.dtype)
    low, high, rest = jax.lax.fori_loop(0, ROUNDS, halve, (edges[:-1], edges[1:], lowest))
    upper, found = bound(low, high)
    at = jnp.concatenate([low, decoders[:, 1]])
    values = jnp.concatenate([found, log_g(log_c, rows, beta, decoders, dual)])
    best = jnp.argmax(values)
    return Maximum(jnp.maximum(upper.max(), rest), jnp.stack([1 - at[best], at[best]]), values[best])


def _bernoulli_kl(a, step):
    """KL(a || a + step) between Bernoulli masses, accurate for small steps; a may be 0 or 1."""
    above = jnp.where(a > 0, -a * jnp.log1p(step / jnp.where(a > 0, a, 1)), 0)
    return above + jnp.where(a < 1, -(1 - a) * jnp.log1p(-step / jnp.where(a < 1, 1 - a, 1)), 0)


def _bound(log_c, rows, beta, low, high):
    """Upper bound of log G on [low, high], and log G at `low`, for D[p(y|x) || s].

    log G is convex and increasing in (log s_0, log s_1), and the arc of decoders lies under its tangents: the maximum
    over the arc is at most that over the triangle of its ends and the crossing of the tangents there.
    """
    width = high - low
    # The tangent at 1 is log s_1 = 0: there the crossing is written from the lower end.
    base, other = jnp.where(high < 1, high, low), jnp.where(high < 1, low, high)
    pull = _bernoulli_kl(other, base - other) / jnp.where(width > 0, base - other, 1)
    cross = jnp.stack([jnp.log1p(-base) + pull * base, jnp.log(base) - pull * (1 - base)])
    at_high = jnp.stack([jnp.log1p(-high), jnp.log(high)])
    at_low = jnp.stack([jnp.log1p(-low), jnp.log(low)])
    entropy = jnp.sum(jnp.where(rows > 0, rows * jnp.log(jnp.where(rows > 0, rows, 1)), 0), axis=1)

    def value(logs):
        # 0 log 0 = 0: a class of probability zero under p(y|x) does not count.
        inner = sum(jnp.where(rows[:, y, None] > 0, rows[:, y, None] * logs[y][None, :], 0) for y in (0, 1))
        return jax.nn.logsumexp((log_c - beta * entropy)[:, None] + beta * inner, axis=0)

    ends = value(at_low)
    return jnp.maximum(jnp.maximum(ends, value(at_high)), value(cross)), ends


def _bound_dual(log_c, rows, beta, low, high):
    """Upper bound of log G on [low, high], and log G at `low`, for D[s || p(y|x)].

    log G = beta H(s) + a convex function of t: under its chord, and H under its tangents at both ends.
    """
    width = high - low
    log_rows = jnp.log(rows)

    def parts(t):
        entropy = -(jax.scipy.special.xlogy(t, t) + jax.scipy.special.xlogy(1 - t, 1 - t))
        line = (1 - t)[None, :] * log_rows[:, 0, None] + t[None, :] * log_rows[:, 1, None]
        return entropy, jax.nn.logsumexp(log_c[:, None] + beta * line, axis=0)

    (h_low, convex_low), (h_high, convex_high) = parts(low), parts(high)
    slope_low, slope_high = (jnp.log1p(-t) - jnp.log(t) for t in (low, high))
    turn = slope_low - slope_high
    back = jnp.where(turn > 0, _bernoulli_kl(high, -width) / jnp.where(turn > 0, turn, 1), 0)
    share = jnp.where(width > 0, back / jnp.where(width > 0, width, 1), 0)
    cross = beta * (h_high - slope_high * back) + convex_high + share * (convex_low - convex_high)
    ends = beta * h_low + convex_low
    return jnp.maximum(jnp.maximum(ends, beta * h_high + convex_high), cross), ends
