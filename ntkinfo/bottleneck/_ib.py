"""The information bottleneck, its dual, and the family between it and hard assignments."""

import jax
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, memory, parallel, progress
from ntkinfo.bottleneck import _curve, _deterministic, _partitions, _solver, _sweeps
from ntkinfo.bottleneck._curve import BottleneckCurve
from ntkinfo.bottleneck._distortion import Problem, log_sum_exp
from ntkinfo.bottleneck._encoders import Encoders, OfClusters

# A cluster is missing where it would lower the Lagrangian by more than this, in nats.
_GAP_TOLERANCE = 5e-10
# Numbers for the clusters of a search (β, z, 1 + y), and for an encoder (x, z) on each core, that are held at once.
_COPIES = 8
# Of positive α: the search divides by it, and β/α must stay within the range of float64.
_SMALLEST_ALPHA = 1e-100
# A distortion is known to some 1e-15, and β times that is to be small.
_LARGEST_BETA = 1e12
# Encoders of more entries together, 1 GB, are computed when they are asked for.
_MOST_ENTRIES = 2**27


@_curve.in_double
def ib(
    p_xy: Float[ArrayLike, "x y"],
    beta: ArrayLike,
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
    """The information bottleneck: min over p(z|x) of I(X;Z) + β E D[p(y|x) ‖ p(y|z)], in nats.

        p(z|x) = p(z)/N(x,β) e^{-β D[p(y|x) ‖ p(y|z)]},  p(z) = Σ_x p(z|x) p(x),  p(y|z) = Σ_x p(y|x) p(x|z)

    Extrapolated self-consistent iterations from Z = X for all β at once, then from the solutions of the neighbouring β
    in both directions; with `certificate` the clusters that convex duality finds missing are added. Inputs of equal
    p(y|x) are merged first, which is exact.

    Args:
      p_xy: joint distribution, (x, y), floating point.
      beta: trade-off β > 0, scalar or (B,), in any order.
      certificate: whether to bound the distance from the global optimum (`gap`), and to mend what it finds. For two
        to four labels the bound is a proof up to rounding (`certified`); for more its maximum is searched for, from
        every row and from the groups of an agglomerative tree, not proven.
      n_clusters: at most so many clusters; None for as many as inputs. Cannot be certified.
      restarts: additional starts from random decoders; needs `key`.
      key: random key, for `restarts`.
      tolerance: of a step, in the norm of the logarithms weighted by mass; below 1.
      max_sweeps: iterations of one start at most.
      anneal: whether to go on from Z = X to the solutions of neighbouring β and to Newton steps; False is for quick,
        rough curves.
      progress: whether to show a bar over β; None shows it where it takes longer than 3 seconds.

    Returns:
      A `BottleneckCurve`: upper bounds on the optimal Lagrangian, the optimum where `gap` is 0 to rounding. Runs on the
      host and compiles nothing; not to be traced.

    Raises:
      TypeError: tables or β that are not floating-point numbers.
      ValueError: no joint distribution, zero rows or columns, β not positive or above 1e12, more clusters than inputs,
        a key missing; more memory needed than there is.

    Source: theory, section 7; Tishby, Pereira & Bialek 1999.

    Example:
      >>> curve = ib(p_xy, jnp.geomspace(1, 100, 50), certificate=True)
      >>> curve.i_xz.shape, curve.i_zy.shape, bool(curve.gap.max() < 1e-9)
      ((50,), (50,), True)
    """
    options = dict(n_clusters=n_clusters, restarts=restarts, key=key, tolerance=tolerance, max_sweeps=max_sweeps)
    options["anneal"] = anneal
    return _search(p_xy, beta, 1.0, False, certificate, progress, **options)


@_curve.in_double
def generalised_ib(
    p_xy: Float[ArrayLike, "x y"],
    beta: ArrayLike,
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
      TypeError, ValueError: as `ib`; α outside [0, 1], or positive and below 1e-100.

    Source: theory, section 7; Strouse & Schwab 2017 (arXiv 1604.00268).

    Example:
      >>> curve = generalised_ib(p_xy, [2.0, 20.0], 0.5)
      >>> bool(curve.i_zy[1] >= curve.i_zy[0])
      True
    """
    check.number("alpha", alpha, 0, 1)
    check.flag("progress", progress, none=True)
    if key is not None:
        check.key("key", key)
    if float(alpha) == 0:
        if n_clusters is not None or restarts:
            raise ValueError("`n_clusters` and `restarts` must be left out for `alpha` = 0, a search over partitions.")
        return _deterministic.deterministic_ib(p_xy, beta)
    if float(alpha) < _SMALLEST_ALPHA:
        raise ValueError(
            f"`alpha` must be 0, or at least {_SMALLEST_ALPHA:g}; got {float(alpha):.3g}: "
            "the search divides by it. Take 0, the deterministic bottleneck, to which it tends."
        )
    options = dict(n_clusters=n_clusters, restarts=restarts, key=key, tolerance=tolerance, max_sweeps=max_sweeps)
    return _search(p_xy, beta, float(alpha), False, False, progress, **options)


@_curve.in_double
def dual_ib(
    p_xy: Float[ArrayLike, "x y"],
    beta: ArrayLike,
    *,
    certificate: bool = False,
    features: Float[ArrayLike, "x r"] | None = None,
    multipliers: Float[ArrayLike, "y r"] | None = None,
    n_clusters: int | None = None,
    restarts: int = 0,
    key: Array | None = None,
    tolerance: float = 1e-12,
    max_sweeps: int = 6000,
    anneal: bool = True,
    progress: bool | None = None,
) -> BottleneckCurve:
    """The dual bottleneck: min over p(z|x) of I(X;Z) + β E D[p(y|z) ‖ p(y|x)], in nats.

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
    options["anneal"] = anneal
    family = _family(p_xy, features, multipliers)
    curve = _search(p_xy, beta, 1.0, True, certificate, progress, **options)
    if family is None:
        return curve
    mass = np.where(curve.prior > 0, curve.prior, 1)
    weighted = np.sum(p_xy, axis=1)[:, None] * family
    of_clusters = np.stack([np.asarray(encoder).T @ weighted for encoder in curve.encoder])
    return curve._replace(features=of_clusters / mass[:, :, None])


def _family(p_xy, features, multipliers):
    """The features, once p(y|x) has been found to be the family they say."""
    if features is None and multipliers is None:
        return None
    if features is None or multipliers is None:
        raise ValueError("`features` and `multipliers` must be given together: A_r(x) (x, r) and λ_r(y) (y, r).")
    features, multipliers = (
        np.asarray(check.native(name, value, 2), np.float64)
        for name, value in (("features", features), ("multipliers", multipliers))
    )
    shapes = (p_xy.shape[0], p_xy.shape[1])
    if (len(features), len(multipliers)) != shapes or features.shape[1] != multipliers.shape[1]:
        raise ValueError(
            f"`features` must have shape (x, r) and `multipliers` (y, r) with x, y = {shapes}; got {features.shape} "
            f"and {multipliers.shape}."
        )
    exponents = -features @ multipliers.T
    off = float(np.abs(np.exp(exponents - log_sum_exp(exponents)) - p_xy / p_xy.sum(axis=1)[:, None]).max())
    if off > 1e-5:
        raise ValueError(
            f"`features` and `multipliers` must give p(y|x) ∝ exp(-Σ_r λ_r(y) A_r(x)); the family is off by {off:.3g} "
            "from `p_xy`."
        )
    return features


def _search(
    p_xy, beta, alpha, dual, certificate, show, *, n_clusters, restarts, key, tolerance, max_sweeps, anneal=True
):
    grid = _curve.validate(beta)
    if grid.max() > _LARGEST_BETA:
        raise ValueError(
            f"`beta` must be at most {_LARGEST_BETA:.0e}; got {grid.max():.3g}. Beyond, rounding of the distortion "
            "is as large as what is minimised: all inputs with different p(y|x) are kept apart, which is Z = X."
        )
    if dual:
        _curve.check_dual(p_xy)
    for name, value in (("certificate", certificate), ("anneal", anneal)):
        check.flag(name, value)
    check.flag("progress", show, none=True)
    restarts = check.integer("restarts", restarts, least=0)
    if key is not None:
        check.key("key", key)
    elif restarts:
        raise ValueError("`key` must be given for `restarts`; got None. Pass `jax.random.key(0)`.")
    max_sweeps = check.integer("max_sweeps", max_sweeps)
    check.number("tolerance", tolerance, 0, 1, ends=False)
    if n_clusters is not None:
        n_clusters = check.integer("n_clusters", n_clusters)
        if n_clusters > len(p_xy):
            raise ValueError(f"`n_clusters` must be at most the number of inputs, {len(p_xy)}; got {n_clusters}.")
        if certificate:
            raise ValueError("`certificate` must be False with `n_clusters`: the optimum it proves has no such limit.")
    merged, index = discrete.merge_rows(p_xy, relative=dual)
    problem = Problem.from_joint(merged, dual)
    _require_memory(len(grid), *merged.shape)
    options = {"tolerance": tolerance, "max_steps": max_sweeps}
    with progress.bar(total=len(grid), desc="bottleneck", unit="β", progress=show) as bar:

        def solve(start, callback=None):
            method = _solver.solve_fast if anneal else _solver.solve
            return method(problem, grid, alpha, *start, callback=callback, **options)

        # What a thinned start lacks is added below, where convex duality finds it.
        thinned = anneal and alpha == 1 and n_clusters is None
        start = (_solver.thinned_start if thinned else _solver.identity_start)(problem, len(grid))
        solution = solve(start, callback=lambda converged: bar.update(converged - bar.n))
        solution = _solver.keep_better(solution, _solver.single_cluster(problem, grid), -1e-14)
        if alpha < 1:
            start = _solver.partition_start(problem, _partitions.search(merged, grid))
            solution = _solver.keep_better(solution, solve(start))
        for i in range(restarts):
            start = _solver.random_start(problem, len(grid), jax.random.fold_in(key, i))
            solution = _solver.keep_better(solution, solve(start))
        if anneal:
            solution = _solver.warm_start_from_neighbours(problem, grid, alpha, solution, **options)
            solution = _solver.newton_refine(problem, grid, alpha, solution, **options)
        if n_clusters is not None and n_clusters < len(merged):
            solution = _solver.merge_down_to(n_clusters, problem, grid, alpha, solution, **options)
        gaps = certified = None
        left = np.full(len(grid), np.inf)
        if certificate:
            solution, gaps, certified = _solver.certify(
                problem, grid, solution, gap_tolerance=_GAP_TOLERANCE, solve_options=options
            )
            left = gaps
        elif anneal and alpha == 1 and n_clusters is None:
            solution, left, _ = _solver.add_missing_clusters(
                problem, grid, solution, gap_tolerance=_GAP_TOLERANCE, solve_options=options
            )
    used = int(_solver.n_used(solution).max())
    of = problem, grid, alpha, solution.log_p_z[:, :used], solution.log_p_y_given_z[:, :used]
    if len(grid) * len(p_xy) * used <= _MOST_ENTRIES:
        encoders = _sweeps.encoders(*of)
    else:
        encoders = Encoders(OfClusters(*of), np.arange(len(grid)), np.arange(len(merged)), used)
    measured = _curve.measure_all(problem, grid, alpha, encoders)
    # Of many clusters duality tells sooner than the length of a step that nothing is left to gain.
    converged = (solution.residual <= 10 * tolerance) | (_solver.are_many(solution) & (left <= _GAP_TOLERANCE))
    return _curve.finish(p_xy, grid, encoders, measured, index, converged, gaps, certified)


def _require_memory(n_beta: int, n_x: int, n_y: int) -> None:
    """Refuses what does not fit: as many clusters as inputs for every β, and encoders where they are computed."""
    memory.require(
        f"`beta` with {n_beta} values and `p_xy` with {n_x} inputs",
        8.0 * _COPIES * n_x * (n_beta * (1 + n_y) + parallel.cores() * n_x),
        "Pass fewer values of `beta` at a time: they are independent but for warm starts. Or merge alike inputs.",
    )
