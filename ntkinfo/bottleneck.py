"""The information bottleneck and its family: the curve that no representation can exceed, with a certificate.

Given p(x, y), `ib` minimises I(X;Z) + β E D[p(y|x) || p(y|z)] over all encoders p(z|x); `dual_ib` swaps the arguments
of the divergence, `deterministic_ib` asks for hard assignments, `gaussian_ib` is the closed form for Gaussians.

Which one? `ib` for the limit itself: the largest I(Z;Y) at each I(X;Z). `dual_ib` where Z is to predict with few
samples, or p(y|x) is an exponential family whose form the representation should keep. `deterministic_ib` for a
partition of the inputs. `gaussian_ib` where X and Y are jointly Gaussian: exact, continuous, and fast.

The searches compute in float64 whatever the dtype of the table, in which their results come back: β multiplies the
rounding of a divergence.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from ntkinfo import _check, annealing, discrete, frontier, parallel, partitions
from ntkinfo.critical import bifurcation, critical_betas
from ntkinfo.discrete import smooth
from ntkinfo.exponent import bayes_error, chernoff, prediction_exponent
from ntkinfo.frontier import closest, encoder_point, hull
from ntkinfo.gaussian_bottleneck import gaussian_curve, gaussian_ib

__all__ = [
    "BottleneckCurve",
    "bayes_error",
    "bifurcation",
    "chernoff",
    "closest",
    "critical_betas",
    "deterministic_ib",
    "dual_ib",
    "encoder_point",
    "gaussian_curve",
    "gaussian_ib",
    "generalised_ib",
    "hull",
    "ib",
    "prediction_exponent",
    "smooth",
    "squared_ib",
]

# A bar appears for work longer than this many seconds.
_PATIENCE = 3.0


def _in_double(function):
    """`function` of a table and β, computed in float64 within the call; results in the dtype of the table."""

    @functools.wraps(function)
    def wrapped(p_xy, beta, *args, **kwargs):
        p_xy = discrete.check_joint("p_xy", p_xy)
        if not _check.concrete(p_xy, beta):
            raise ValueError("`p_xy` and `beta` must be known: the search runs on the host. Call it outside `jit`.")
        host = np.asarray(p_xy, np.float64)
        # A context, not a setting: what other code computes in is left alone.
        with parallel.double(True):
            result = function(host / host.sum(), np.asarray(beta, np.float64), *args, **kwargs)

        def cast(leaf):
            host = np.asarray(leaf)
            return jnp.asarray(host.astype(p_xy.dtype) if host.dtype.kind == "f" else host)

        return jax.tree.map(cast, result)

    return wrapped


class BottleneckCurve(NamedTuple):
    """Optimal representations over β; arrays over β in the order given, informations in nats.

    Attributes:
      beta: (B,).
      i_xz: I(X;Z), (B,).
      i_zy: I(Z;Y) with the Markov decoder Σ_x p(y|x) p(x|z): the true information about Y, (B,).
      i_zy_model: with Ŷ drawn from the method's own decoder, I(Z;Ŷ), (B,); for IB the same as `i_zy`, for the dual
        that of the geometric decoder.
      lagrangian: I(X;Z) + β E D, of the method's own distortion and decoder, (B,); H(Z) - α H(Z|X) + β E D for
        `generalised_ib` and `deterministic_ib`.
      gap: upper bound on how far `lagrangian` is above the global optimum, (B,); None unless asked for.
      encoder: p(z|x), (B, x, z); clusters in order of mass, those not in use at the end with probability 0.
      n_clusters: clusters in use, (B,).
      converged: whether the iterations settled to the tolerance, (B,).
      decoder: the method's own p(y|z), (B, z, y).
      prior: p(z), (B, z).
      on_hull: whether the point lies on the concave hull of all points, (B,); False marks a branch that is not optimal.
      strictly_concave: False where Y is a function of X: the curve is then piecewise linear, the Lagrangian finds its
        corners only, and `squared_ib` traces it.
      i_xy: I(X;Y).
      h_x: H of X with inputs of equal p(y|x) taken as one, the largest I(X;Z) worth having.
      features: A_r(z), (B, z, r), where the dual was given features; else None.
    """

    beta: Array
    i_xz: Array
    i_zy: Array
    i_zy_model: Array
    lagrangian: Array
    gap: Array | None
    encoder: Array
    n_clusters: Array
    converged: Array
    decoder: Array
    prior: Array
    on_hull: Array
    strictly_concave: Array
    i_xy: Array
    h_x: Array
    features: Array | None = None


@_in_double
def ib(
    p_xy: Array,
    beta: Array,
    *,
    certificate: bool = False,
    n_clusters: int | None = None,
    restarts: int = 0,
    key: Array | None = None,
    tolerance: float = 1e-12,
    max_sweeps: int = 6000,
    anneal: bool = True,
    progress: bool | None = None,
) -> BottleneckCurve:
    """The information bottleneck: min over p(z|x) of I(X;Z) + β E D[p(y|x) || p(y|z)], in nats.

        p(z|x) = p(z)/N(x,β) e^{-β D[p(y|x) || p(y|z)]},  p(z) = Σ_x p(z|x) p(x),  p(y|z) = Σ_x p(y|x) p(x|z)

    Extrapolated self-consistent iterations from Z = X for all β at once, then from the solutions of the neighbouring β
    in both directions; with `certificate` the clusters that convex duality finds missing are added. Inputs of equal
    p(y|x) are merged first, which is exact.

    Args:
      p_xy: joint distribution, (x, y), floating point.
      beta: trade-off β > 0, scalar or (B,), in any order.
      certificate: whether to bound the distance from the global optimum (`gap`), and to mend what it finds. For two
        labels the bound is a proof up to rounding, for more its maximum is searched for, not proven.
      n_clusters: at most so many clusters; None for as many as inputs. Cannot be certified.
      restarts: additional starts from random decoders; needs `key`.
      key: random key, for `restarts`.
      tolerance: of a step, in the norm of the logarithms weighted by mass.
      max_sweeps: iterations of one start at most.
      anneal: whether to go on from Z = X to the solutions of neighbouring β and to Newton steps; False is for quick,
        rough curves.
      progress: whether to show a bar over β; None shows it where it takes longer than 3 seconds.

    Returns:
      A `BottleneckCurve`: upper bounds on the optimal Lagrangian, the optimum where `gap` is 0 to rounding. Runs on the
      host with compiled parts; not to be traced.

    Raises:
      TypeError: tables or β that are not floating-point numbers.
      ValueError: no joint distribution, zero rows or columns, β not positive, more clusters than inputs, a key missing.

    Source: theory, section 7; Tishby, Pereira & Bialek 1999.

    Example:
      >>> curve = ib(p_xy, jnp.geomspace(1, 100, 50), certificate=True)
      >>> curve.i_xz, curve.i_zy, curve.gap.max()
    """
    options = dict(n_clusters=n_clusters, restarts=restarts, key=key, tolerance=tolerance, max_sweeps=max_sweeps)
    options["anneal"] = bool(anneal)
    return _curve(p_xy, beta, 1.0, False, certificate, progress, **options)


@_in_double
def generalised_ib(
    p_xy: Array,
    beta: Array,
    alpha: float,
    *,
    n_clusters: int | None = None,
    restarts: int = 0,
    key: Array | None = None,
    tolerance: float = 1e-12,
    max_sweeps: int = 6000,
    progress: bool | None = None,
) -> BottleneckCurve:
    """Between the bottleneck (α = 1) and the deterministic one (α = 0): min H(Z) - α H(Z|X) + β E D, in nats.

    Args:
      p_xy: joint distribution, (x, y).
      beta: trade-off β > 0, scalar or (B,).
      alpha: α in [0, 1].
      n_clusters: as in `ib`, and so the rest.
      restarts: as in `ib`.
      key: as in `ib`.
      tolerance: as in `ib`.
      max_sweeps: as in `ib`.
      progress: as in `ib`.

    Returns:
      A `BottleneckCurve`; local optima, without a certificate: for α < 1 the problem is not convex.

    Raises:
      TypeError, ValueError: as `ib`; α outside [0, 1].

    Source: theory, section 7; Strouse & Schwab 2017 (arXiv 1604.00268).
    """
    _check.positive("alpha", alpha, zero=True)
    if float(alpha) > 1:
        raise ValueError(f"`alpha` must lie in [0, 1], 1 for the bottleneck, 0 for the deterministic one; got {alpha}.")
    if float(alpha) == 0:
        if n_clusters is not None or restarts:
            raise ValueError("`n_clusters` and `restarts` must be left out for `alpha` = 0, a search over partitions.")
        return deterministic_ib(p_xy, beta)
    options = dict(n_clusters=n_clusters, restarts=restarts, key=key, tolerance=tolerance, max_sweeps=max_sweeps)
    return _curve(p_xy, beta, float(alpha), False, False, progress, **options)


@_in_double
def dual_ib(
    p_xy: Array,
    beta: Array,
    *,
    certificate: bool = False,
    features: Array | None = None,
    multipliers: Array | None = None,
    n_clusters: int | None = None,
    restarts: int = 0,
    key: Array | None = None,
    tolerance: float = 1e-12,
    max_sweeps: int = 6000,
    anneal: bool = True,
    progress: bool | None = None,
) -> BottleneckCurve:
    """The dual bottleneck: min over p(z|x) of I(X;Z) + β E D[p(y|z) || p(y|x)], in nats.

    Its decoder is the geometric mean p(y|z) ∝ Π_x p(y|x)^{p(x|z)}. An exponential family
    p(y|x) ∝ exp(-Σ_r λ_r(y) A_r(x)) keeps its form, with A_r(z) = Σ_x p(x|z) A_r(x).

    Args:
      p_xy: joint distribution, (x, y), with p(y|x) > 0.
      beta: trade-off β > 0, scalar or (B,).
      certificate: as in `ib`.
      features: A_r(x), (x, r), where p(y|x) is an exponential family; those of the clusters are returned.
      multipliers: λ_r(y), (y, r), together with `features`.
      n_clusters: as in `ib`, and so the rest.
      restarts: as in `ib`.
      key: as in `ib`.
      tolerance: as in `ib`.
      max_sweeps: as in `ib`.
      anneal: as in `ib`.
      progress: as in `ib`.

    Returns:
      A `BottleneckCurve`: `i_zy` is the true I(Z;Y), of the Markov decoder; `i_zy_model` is I(Z;Ŷ) with Ŷ drawn from
      the geometric decoder.

    Raises:
      TypeError, ValueError: as `ib`; zeros in `p_xy` (`smooth` is the remedy); features that do not give p(y|x).

    Source: theory, section 8; Piran, Shwartz-Ziv & Tishby 2020 (arXiv 2006.04641).
    """
    options = dict(n_clusters=n_clusters, restarts=restarts, key=key, tolerance=tolerance, max_sweeps=max_sweeps)
    options["anneal"] = bool(anneal)
    family = _family(p_xy, features, multipliers)
    curve = _curve(p_xy, beta, 1.0, True, certificate, progress, **options)
    if family is None:
        return curve
    p_x = jnp.sum(jnp.asarray(p_xy), axis=1)
    mass = jnp.where(curve.prior > 0, curve.prior, 1)
    of_clusters = jnp.einsum("bxz,x,xr->bzr", curve.encoder, p_x, family) / mass[:, :, None]
    return curve._replace(features=of_clusters)


@_in_double
def deterministic_ib(p_xy: Array, beta: Array) -> BottleneckCurve:
    """The deterministic bottleneck: min over hard assignments of H(Z) + β E D[p(y|x) || p(y|z)], in nats.

    Assignments arg max_z [log p(z) - β D], improved by moving single inputs and merging clusters, from Z = X, from one
    cluster and from the partitions of the neighbouring β. Its I(X;Z) is H(Z).

    Args:
      p_xy: joint distribution, (x, y).
      beta: trade-off β > 0, scalar or (B,).

    Returns:
      A `BottleneckCurve` with encoders of zeros and ones. No move of one input and no merger improves them; they are
      not proven to be the best partitions. Cost of a step O(|X| |Z| |Y|), on the host.

    Raises:
      TypeError, ValueError: as `ib`.

    Source: theory, section 7; Strouse & Schwab 2017 (arXiv 1604.00268).
    """
    p_xy, beta = _door(p_xy, beta)
    merged, index = discrete.merge_rows(p_xy)
    found = partitions.search(merged, np.asarray(beta))
    slots = max(int(each.max()) for each in found) + 1
    encoders = np.zeros((len(beta), len(merged), slots), merged.dtype)
    for i, assignment in enumerate(found):
        order = np.argsort(-np.bincount(assignment, weights=merged.sum(1), minlength=slots), kind="stable")
        encoders[i, np.arange(len(merged)), np.argsort(order)[assignment]] = 1
    problem = annealing.table(jnp.asarray(merged), False)
    result = _measure(jnp.asarray(merged), problem, jnp.asarray(beta), 0.0, jnp.asarray(encoders))
    return _finish(result, p_xy, index, np.full(len(beta), True), None)


@_in_double
def squared_ib(p_xy: Array, beta: Array, *, curve: BottleneckCurve | None = None) -> BottleneckCurve:
    """The squared Lagrangian: min over p(z|x) of I(X;Z)² - β I(Z;Y), which traces a curve with straight pieces too.

    The optimum lies on the information curve. Here it is found on the hull of points of `ib`; between two of them the
    encoder uses one of both at random and tells which.

    Args:
      p_xy: joint distribution, (x, y).
      beta: trade-off β > 0, scalar or (B,), in nats.
      curve: points of `ib` to build on; None for 60 values of its β from 1 to 1000.

    Returns:
      A `BottleneckCurve`; `lagrangian` is I(X;Z)² + β (I(X;Y) - I(Z;Y)). Exact where Y is a function of X (two points
      are then the whole curve); otherwise as fine as the points of `curve`.

    Raises:
      TypeError, ValueError: as `ib`.

    Source: theory, section 7; Kolchinsky, Tracey & Van Kuyk 2019 (arXiv 1808.07593).
    """
    p_xy, beta = _door(p_xy, beta)
    merged, index = discrete.merge_rows(p_xy)
    if curve is None:
        curve = ib(p_xy, np.geomspace(1.0, 1e3, 60))
    n_x, dtype = len(merged), merged.dtype
    first, found = np.unique(index, return_index=True)[1], np.asarray(curve.encoder)
    slots = max(found.shape[2], n_x)
    candidates = np.zeros((2 + len(found), n_x, slots), dtype)
    candidates[0, :, 0], candidates[1, :, :n_x] = 1, np.eye(n_x)
    candidates[2:, :, : found.shape[2]] = found[:, first]
    p_x = merged.sum(1)
    points = np.array([encoder_point(merged, each.astype(dtype)) for each in candidates])
    x, y = hull(curve._replace(i_xz=points[:, 0], i_zy=points[:, 1]))
    vertices = [int(np.argmin(np.abs(points[:, 0] - a) + np.abs(points[:, 1] - b))) for a, b in zip(x, y, strict=True)]
    encoders = np.zeros((len(beta), n_x, 2 * slots), dtype)
    for i, b in enumerate(np.asarray(beta, float)):
        # On each chord the objective is a parabola in I(X;Z): its least point, or an end.
        slope = np.diff(y) / np.diff(x)
        at = np.clip(b * slope / 2, x[:-1], x[1:])
        best = int(np.argmin(at**2 - b * (y[:-1] + slope * (at - x[:-1]))))
        share = (at[best] - x[best]) / (x[best + 1] - x[best])
        encoders[i, :, :slots] = (1 - share) * candidates[vertices[best]]
        encoders[i, :, slots:] = share * candidates[vertices[best + 1]]
    order = np.argsort(-np.einsum("bxz,x->bz", encoders, p_x), axis=1, kind="stable")
    encoders = np.take_along_axis(encoders, order[:, None, :], 2)
    used = int((encoders.sum(1) > 0).sum(1).max())
    problem = annealing.table(jnp.asarray(merged), False)
    result = _measure(jnp.asarray(merged), problem, jnp.asarray(beta), 1.0, jnp.asarray(encoders[:, :, :used]))
    result = _finish(result, p_xy, index, np.full(len(beta), True), None)
    return result._replace(lagrangian=result.i_xz**2 + jnp.asarray(beta) * (result.i_xy - result.i_zy))


def _door(p_xy, beta):
    """The table and the grid of β as arrays; the table has been checked."""
    beta = _check.array("beta", np.atleast_1d(beta), 1)
    _check.positive("beta", beta)
    return jnp.asarray(p_xy), beta


def _family(p_xy, features, multipliers):
    """The features, once p(y|x) has been found to be the family they say."""
    if features is None and multipliers is None:
        return None
    if features is None or multipliers is None:
        raise ValueError("`features` and `multipliers` must be given together: A_r(x) (x, r) and λ_r(y) (y, r).")
    features, multipliers = np.asarray(features, np.float64), np.asarray(multipliers, np.float64)
    features, multipliers = _check.array("features", features, 2), _check.array("multipliers", multipliers, 2)
    shapes = (p_xy.shape[0], p_xy.shape[1])
    if (len(features), len(multipliers)) != shapes or features.shape[1] != multipliers.shape[1]:
        raise ValueError(
            f"`features` must have shape (x, r) and `multipliers` (y, r) with x, y = {shapes}; got {features.shape} "
            f"and {multipliers.shape}."
        )
    rows = p_xy / jnp.sum(p_xy, axis=1)[:, None]
    off = float(jnp.max(jnp.abs(jax.nn.softmax(-features @ multipliers.T, axis=1) - rows)))
    if off > 1e-5:
        raise ValueError(
            f"`features` and `multipliers` must give p(y|x) ∝ exp(-Σ_r λ_r(y) A_r(x)); the family is off by {off:.3g} "
            "from `p_xy`."
        )
    return features


def _curve(
    p_xy, beta, alpha, dual, certificate, progress, *, n_clusters, restarts, key, tolerance, max_sweeps, anneal=True
):
    p_xy, beta = _door(p_xy, beta)
    if dual and not (np.asarray(p_xy) > 0).all():
        raise ValueError(
            f"`p_xy` must be positive for the dual bottleneck, whose distortion is infinite at zeros; got "
            f"{int((np.asarray(p_xy) == 0).sum())} zeros. Smooth it first: `ni.bottleneck.smooth(p_xy, 1e-6)`."
        )
    restarts = _check.integer("restarts", restarts, least=0)
    if restarts and key is None:
        raise ValueError("`key` must be given for `restarts`; got None. Pass `jax.random.key(0)`.")
    max_sweeps = _check.integer("max_sweeps", max_sweeps)
    _check.positive("tolerance", tolerance)
    if n_clusters is not None:
        n_clusters = _check.integer("n_clusters", n_clusters)
        if n_clusters > len(p_xy):
            raise ValueError(f"`n_clusters` must be at most the number of inputs, {len(p_xy)}; got {n_clusters}.")
        if certificate:
            raise ValueError("`certificate` must be False with `n_clusters`: the optimum it proves has no such limit.")
    merged, index = discrete.merge_rows(p_xy, relative=dual)
    limit = None if n_clusters is None or n_clusters >= len(merged) else n_clusters
    problem, grid = annealing.table(jnp.asarray(merged), dual), np.asarray(beta)
    a = jnp.asarray(alpha, merged.dtype)
    options = {"tolerance": tolerance, "sweeps": max_sweeps}
    bar = tqdm(
        total=len(grid), desc="bottleneck", unit="β", disable=progress is False, delay=0.0 if progress else _PATIENCE
    )
    with bar:

        def watch(done):
            bar.update(done - bar.n)

        found = annealing.settle(problem, grid, a, *annealing.every_input(problem, len(grid)), watch=watch, **options)
        found, _ = annealing.lower(found, annealing.trivial(problem, grid), -1e-14)
        if alpha < 1:
            hard = annealing.hard_start(problem, partitions.search(merged, grid))
            found, _ = annealing.lower(found, annealing.settle(problem, grid, a, *hard, **options))
        for i in range(restarts):
            start = annealing.random_start(problem, len(grid), jax.random.fold_in(key, i))
            found, _ = annealing.lower(found, annealing.settle(problem, grid, a, *start, **options))
        if anneal:
            found = annealing.exchange(problem, grid, a, found, **options)
            found = annealing.polish(problem, grid, a, found, **options)
        gaps = None
        if limit is not None:
            found = annealing.limit(problem, grid, a, found, limit, **options)
        if certificate:
            found, gaps = annealing.certify(problem, grid, found, tolerance=5e-10, settle_options=options)
    used = int(np.sum(found.prior > np.log(2 * annealing.least(merged.dtype)), axis=1).max())
    encoders = annealing.encoders(problem, beta, a, found.prior[:, :used], found.decoders[:, :used])
    result = _measure(jnp.asarray(merged), problem, beta, alpha, encoders)
    return _finish(result, p_xy, index, found.residual <= 10 * tolerance, gaps)


def _measure(merged, problem, beta, alpha, encoders):
    """Everything that follows from the encoders (B, x, z) of the merged problem."""
    beta = jnp.asarray(beta)
    return (beta, encoders, *_measured(merged, *problem[:3], beta, alpha, encoders, problem.dual))


@functools.partial(jax.jit, static_argnames=("dual",))
def _measured(merged, p_x, rows, logs, beta, alpha, encoders, dual):
    problem = annealing.Table(p_x, rows, logs, dual)

    def one(beta, encoder):
        joint = p_x[:, None] * encoder
        mass = jnp.sum(joint, axis=0)
        used = mass > 0
        weights = jnp.where(used[:, None], (joint / jnp.where(used, mass, 1)[None, :]).T, p_x[None, :])
        weights = weights / jnp.sum(weights, axis=1)[:, None]
        decoder = annealing.decode(weights, problem)
        pairs = annealing.distances(problem, jnp.log(jnp.maximum(decoder, annealing.least(decoder.dtype))))
        i_xz = discrete.mutual_information(joint)
        mean = jnp.sum(joint * jnp.where(joint > 0, pairs, 0))
        rate = i_xz + (1 - alpha) * (discrete.entropy(mass) - i_xz)
        of_y, of_model = encoder.T @ merged, mass[:, None] * decoder
        return (
            i_xz,
            discrete.mutual_information(of_y),
            discrete.mutual_information(of_model),
            rate + beta * mean,
            decoder,
            mass,
            jnp.sum(used),
        )

    return jax.lax.map(lambda each: one(*each), (beta, encoders))


def _finish(result, p_xy, index, converged, gaps) -> BottleneckCurve:
    beta, encoders, i_xz, i_zy, i_zy_model, lagrangian, decoder, mass, count = result
    merged_mass = np.bincount(index, weights=np.asarray(p_xy.sum(1), float))
    curve = BottleneckCurve(
        beta=beta,
        i_xz=i_xz,
        i_zy=i_zy,
        i_zy_model=i_zy_model,
        lagrangian=lagrangian,
        gap=None if gaps is None else jnp.asarray(gaps, lagrangian.dtype),
        encoder=encoders[:, index],
        n_clusters=count,
        converged=jnp.asarray(converged),
        decoder=decoder,
        prior=mass,
        on_hull=jnp.zeros(0),
        strictly_concave=jnp.asarray(not discrete.is_deterministic(p_xy)),
        i_xy=discrete.mutual_information(p_xy),
        h_x=discrete.entropy(jnp.asarray(merged_mass, p_xy.dtype)),
    )
    return curve._replace(on_hull=jnp.asarray(frontier.on_hull(curve)))
