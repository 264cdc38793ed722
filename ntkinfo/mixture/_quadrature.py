"""Entropy integrals of one-dimensional Gaussian mixtures, by Gauss-Legendre panels fitted to the components.

Behind `mixture.exact`: pure functions of arrays, no checks. The line is cut into panels no wider than a
constant times the narrowest component that has mass there; how many are needed depends on the values, so the loop
over panels has a trip count that is only known when it runs, and derivatives are written by hand.

A row of zeros among the classes marks a point that is absent, with whatever mean and a positive variance: it fills up
arrays to a size that is compiled already. Memory is O(m log m).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._numerics.entropy import plogp

# Beyond 9 standard deviations a component has less than 2e-19 of its mass.
WINDOW = 9.0
# log p has its complex zeros where two components cross: at a distance of about 0.3 standard deviations from the
# real axis where the crossing still matters to 1e-9. 20 nodes on a panel of 2 standard deviations resolve that.
WIDTH = 2.0
ORDER = 20
# Components looked at together.
CHUNK = 16
NODES, WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
# Rows give the last four Legendre coefficients of the interpolant through the nodes: its convergence, for the error.
TAIL = np.stack([(k + 0.5) * WEIGHTS * np.polynomial.legendre.Legendre.basis(k)(NODES) for k in range(ORDER)[-4:]])


def _block(m: int) -> int:
    """Panels evaluated at once: enough to fill vector units, few enough to stay in the cache."""
    return int(np.clip(2**16 // (ORDER * m), 4, 32))


def entries_of_a_point(m: int, n_classes: int) -> int:
    """Entries of memory for each of m points, about: the table of `_narrowest`, and some vectors."""
    return 2 * (2 * m).bit_length() + 30 + 3 * n_classes


def _standardise(mean, variance, present):
    """Means and standard deviations in units of the typical one, so that logarithms stay of order one.

    The unit is a power of two: dividing by it rounds nothing. Nor are means shifted: that would round their gaps.
    """
    sigma = jnp.sqrt(variance)
    unit = _power_of_two(jnp.exp(jnp.sum(present * jnp.log(sigma)) / jnp.sum(present)))
    return mean / unit, sigma / unit, unit


def _power_of_two(x):
    """The largest that is at most positive x, a normal number: its exponent without its other bits."""
    bits, exponent = (jnp.int64, 0x7FF << 52) if x.dtype == jnp.float64 else (jnp.int32, 0xFF << 23)
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, bits) & exponent, x.dtype)


def _narrowest(sigma, low, high):
    """The least sigma that covers each interval j, low <= j < high; infinite where none does. O(m log m).

    Every range of intervals is the union of two, overlapping, whose length is a power of two. From the longest down,
    each of those hands its minimum to its two halves.
    """
    size = 2 * sigma.size
    length = 31 - jax.lax.clz((high - low).astype(jnp.int32))
    levels = size.bit_length()
    table = jnp.full((levels, size), jnp.inf, sigma.dtype)
    # Both at once: each way of writing to places is a program of its own.
    places = jnp.concatenate([low, high - (1 << length)])
    table = table.at[jnp.tile(length, 2), places].min(jnp.tile(sigma, 2))
    index = jnp.arange(size)

    def halve(least, level):
        half = 1 << (level - 1)
        least = jnp.minimum(least, table[level])
        later = jnp.where(index >= half, least[jnp.maximum(index - half, 0)], jnp.inf)
        return jnp.minimum(least, later), None

    least, _ = jax.lax.scan(halve, jnp.full((size,), jnp.inf, sigma.dtype), jnp.arange(levels - 1, 0, -1))
    return jnp.minimum(least, table[0])[:-1]


def _mesh(mean, sigma, present):
    """The cut of the line: knots, the panel number reached at each, and the islands that no panel may leave.

    Between two neighbouring ends of windows the local scale is that of the narrowest component covering the
    interval. Intervals covered by none are gaps without mass; between gaps lie the islands.
    """
    low, high = mean - WINDOW * sigma, mean + WINDOW * sigma
    # Windows of absent points are empty, at the end of the line.
    top = jnp.max(jnp.where(present > 0, high, -jnp.inf))
    ends = jnp.concatenate([jnp.where(present > 0, low, top), jnp.where(present > 0, high, top)])
    order = jnp.argsort(ends)
    knots = ends[order]
    # Knots on a coarse binary grid make panel centres and half-widths exact: panels then tile without rounding,
    # and z - mean stays accurate for components far narrower than their distance from the origin.
    grid = _power_of_two(jnp.max(jnp.abs(knots))) * 2.0 ** (4 - jnp.finfo(sigma.dtype).nmant)
    left, right = knots[:-1], knots[1:]
    # Covering is decided by ranks: a compiler may round the same end differently in two places.
    rank = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    scale = _narrowest(sigma, rank[: mean.size], rank[mean.size :])
    gap = jnp.isinf(scale)
    need = jnp.where(gap, 0.0, (right - left) / (WIDTH * scale))
    island = jnp.cumsum(gap)
    n_islands = left.size
    needed = jax.ops.segment_sum(need, island, n_islands)
    count = jnp.ceil(needed)
    need = need * (count / jnp.where(needed > 0, needed, 1.0))[island]
    level = jnp.concatenate([jnp.zeros((1,), need.dtype), jnp.cumsum(need)])
    ends = jnp.where(gap[:, None], jnp.inf, jnp.stack([left, -right], axis=1))
    first, last = jax.ops.segment_min(ends, island, n_islands).T
    most = mean.size * (int(2 * WINDOW / WIDTH) + 2)
    total = jnp.nan_to_num(jnp.sum(count), nan=0.0, posinf=0.0).astype(jnp.int32)
    return (knots, level, jnp.cumsum(count), first, -last, grid), jnp.clip(total, 0, most)


def _panels(mesh, index):
    """Centres and half-widths of the panels with these numbers; half-width 0 beyond the last."""
    knots, level, ends, first, last, grid = mesh
    position = index.astype(knots.dtype)
    edges = jnp.stack([position, position + 1.0])
    # One search for all: of the island of each panel, and of the interval of each of its edges.
    sought = jax.vmap(lambda sorted_values: jnp.searchsorted(sorted_values, edges, side="right"))
    islands, intervals = sought(jnp.stack([jnp.append(ends, jnp.inf), level]))
    island = jnp.minimum(islands[0], ends.size - 1)
    right = jnp.clip(intervals, 1, knots.size - 1)
    before, step = level[right - 1], level[right] - level[right - 1]
    share = jnp.where(step > 0, (edges - before) / jnp.where(step > 0, step, 1.0), 0.0)
    z = knots[right - 1] + share * (knots[right] - knots[right - 1])
    a, b = jnp.round(jnp.clip(z, first[island][None], last[island][None]) / grid) * grid
    inside = position < ends[-1]
    return jnp.where(inside, 0.5 * (a + b), knots[0]), jnp.where(inside, 0.5 * (b - a), 0.0)


def _log(x):
    return jnp.log(jnp.where(x > 0, x, 1.0))


def _present(one_hot):
    """1 for points, 0 for absent ones, (m,)."""
    return jnp.sum(one_hot, axis=1)


def _components(mean, sigma, one_hot):
    """Components in the order of their windows, absent ones last, filled up with empty ones to whole chunks."""
    present = _present(one_hot)
    order = jnp.argsort(jnp.where(present > 0, mean - WINDOW * sigma, jnp.inf))
    mean, sigma, one_hot, present = mean[order], sigma[order], one_hot[order], present[order]
    chunk = min(mean.size, CHUNK)
    fill = (0, -mean.size % chunk)
    low = jnp.pad(jnp.where(present > 0, mean - WINDOW * sigma, jnp.inf), fill, constant_values=np.inf)
    reach = jax.lax.cummax(jnp.where(present > 0, mean + WINDOW * sigma, jnp.inf))
    reach = jnp.pad(reach, fill, constant_values=np.inf)
    height = present / (sigma * (jnp.sum(present) * math.sqrt(2 * np.pi)))
    values = jnp.pad(mean, fill), jnp.pad(1.0 / sigma, fill), jnp.pad(height, fill), jnp.pad(one_hot, (fill, (0, 0)))
    return low, reach, values, order, chunk


def _densities(values, start, chunk, centre, half):
    """Standardised z and densities / m at the nodes of some panels, (nodes, chunk), and the classes of the chunk."""
    mean, inverse, height, one_hot = (jax.lax.dynamic_slice_in_dim(v, start, chunk) for v in values)
    offset = half[:, None] * jnp.asarray(NODES, mean.dtype)[None, :]
    distance = (centre[:, None] - mean[None, :])[:, None, :] + offset[:, :, None]
    u = (distance * inverse[None, None, :]).reshape(-1, chunk)
    return u, jnp.exp(-0.5 * u * u) * height[None, :], one_hot


def _loop(mean, sigma, one_hot, body, start):
    """Sums `body(half-widths, weights, class densities, over_components)` over blocks of panels.

    Only chunks of components with mass on the block are looked at; `over_components(f, x)` runs f(x, start, u, p,
    one_hot) over them. Where all components are apart, this saves a factor of m.
    """
    mesh, total = _mesh(mean, sigma, _present(one_hot))
    low, reach, values, _, chunk = _components(mean, sigma, one_hot)
    block = _block(chunk)
    rule = jnp.asarray(WEIGHTS, mean.dtype)

    def step(i, carry):
        centre, half = _panels(mesh, i * block + jnp.arange(block))
        inside = half > 0
        # Of those in order, chunks that end before the block, and that begin before its end.
        first = jnp.sum(reach[chunk - 1 :: chunk] < jnp.min(jnp.where(inside, centre - half, jnp.inf)))
        last = jnp.sum(low[::chunk] <= jnp.max(jnp.where(inside, centre + half, -jnp.inf)))

        def over_components(function, x):
            def of_chunk(j, x):
                return function(x, j * chunk, *_densities(values, j * chunk, chunk, centre, half))

            return jax.lax.fori_loop(first, last, of_chunk, x)

        classes = jnp.zeros((block * ORDER, one_hot.shape[1]), mean.dtype)
        classes = over_components(lambda x, _, u, p, member: x + p @ member, classes)
        weights = (half[:, None] * rule[None, :]).reshape(-1)
        return jax.tree.map(jnp.add, carry, body(half, weights, classes, over_components))

    return jax.lax.fori_loop(0, (total + block - 1) // block, step, start)


def _integrals(mean, variance, one_hot):
    present = _present(one_hot)
    count = jnp.sum(present)
    mu, sigma, _ = _standardise(mean, variance, present)
    dtype = mean.dtype
    tail = jnp.asarray(TAIL, dtype)

    def body(half, w, classes, _):
        density = jnp.sum(classes, axis=1)
        entropy = -plogp(density)
        f = jnp.stack([entropy, entropy + jnp.sum(plogp(classes), axis=1)])
        panel = f.reshape(2, -1, ORDER)
        # Coefficients fall like r^-k and the error of the rule like r^-2k: last coefficient squared over the largest.
        last = jnp.max(jnp.abs(jnp.einsum("kq,fbq->fbk", tail, panel)), axis=2)
        size = jnp.max(jnp.abs(panel), axis=2)
        error = 20 * half[None, :] * last * last / jnp.where(size > 0, size, 1.0)
        return f @ w, w @ density, jnp.sum(error, axis=1), jnp.abs(f) @ w

    zero, two = jnp.zeros((), dtype), jnp.zeros((2,), dtype)
    integral, mass, error, size = _loop(mu, sigma, one_hot, body, (two, zero, two, two))
    share = jnp.sum(one_hot, axis=0) / count
    noise = jnp.sum(present * jnp.log(sigma)) / count + 0.5 * math.log(2 * np.pi * np.e)
    value = integral - jnp.stack([noise, jnp.sum(plogp(share))])
    # Mass that the panels missed or doubled counts with the largest |log p| inside a window.
    largest = 0.5 * WINDOW**2 + 2.0 + jnp.log(count) + jnp.max(jnp.abs(jnp.log(sigma)))
    error = error + jnp.abs(1.0 - mass) * largest + 16 * float(jnp.finfo(dtype).eps) * (1.0 + size + jnp.abs(noise))
    valid = jnp.all(variance > 0) & jnp.all(jnp.isfinite(mean)) & jnp.all(jnp.isfinite(variance))
    return jnp.where(valid, value, jnp.nan), jnp.where(valid, error, jnp.nan)


@jax.custom_jvp
def information_pair(mean, variance, one_hot):
    """I(X;Z) and I(Y;Z) for X uniform over m points and Z | x_i ~ N(mean_i, variance_i), in nats, with error estimates.

        I(X;Z) = h(p) - (1/m) Σ_i h(p_i),    I(Y;Z) = h(p) - Σ_c p(c) h(p_c)

    First derivatives in `mean` and `variance` are exact integrals on the same panels; `one_hot` carries none.
    O(nodes m) time, about 20 nodes for each 2 standard deviations of the narrowest components.

    Args:
      mean: (m,).
      variance: (m,), positive; otherwise `nan` comes out.
      one_hot: (m, C), the class of each point as a row of a unit matrix; a row of zeros for a point that is absent.

    Returns:
      Two arrays of shape (2,): the informations (X, Y), and estimates of the error of each.

    Source: theory, section 3.
    """
    return _integrals(mean, variance, one_hot)


@information_pair.defjvp
def _information_pair_jvp(primals, tangents):
    mean, variance, one_hot = primals
    value, error = _integrals(mean, variance, one_hot)
    present = _present(one_hot)
    mu, sigma, unit = _standardise(mean, variance, present)
    share = jnp.sum(one_hot, axis=0) / jnp.sum(present)
    log_share = _log(share)

    _, _, (_, _, _, member), order, _ = _components(mu, sigma, one_hot)

    def body(_, w, classes, over_components):
        # dI/d(p_i) = -log p and dI(Y;Z)/d(p_i) = log p(c(i)|z)/p(c(i)) up to constants, which integrate to nothing.
        log_density = _log(jnp.sum(classes, axis=1))
        log_ratio = _log(classes) - log_share[None, :] - log_density[:, None]

        def add(sums, start, u, p, member):
            weighted = w[:, None] * p
            slopes = jnp.stack([-log_density[:, None] * weighted, (log_ratio @ member.T) * weighted])
            new = jnp.stack([jnp.sum(slopes * u[None], axis=1), jnp.sum(slopes * (u * u - 1.0)[None], axis=1)])
            old = jax.lax.dynamic_slice_in_dim(sums, start, u.shape[1], axis=2)
            return jax.lax.dynamic_update_slice_in_dim(sums, old + new, start, axis=2)

        return over_components(add, jnp.zeros((2, 2, member.shape[0]), mean.dtype))

    sums = _loop(mu, sigma, one_hot, body, jnp.zeros((2, 2, member.shape[0]), mean.dtype))
    by_mean, by_variance = jnp.zeros((2, 2, mean.size), mean.dtype).at[:, :, order].set(sums[:, :, : mean.size])
    by_mean = by_mean / (sigma * unit)[None, :]
    noise_share = jnp.stack([present, jnp.zeros_like(variance)]) / jnp.sum(present)
    by_variance = 0.5 * (by_variance - noise_share) / variance[None, :]
    return (value, error), (by_mean @ tangents[0] + by_variance @ tangents[1], jnp.zeros_like(error))
