"""Mutual information of densities from the distances to nearest neighbours."""

import numpy as np
from jaxtyping import ArrayLike, Shaped
from scipy.special import digamma

from ntkinfo._common import check, results, tables
from ntkinfo._common.results import Information
from ntkinfo.estimators import _binning, _neighbours, _samples

# Standard errors by which an estimate must be too low for that to be seen.
_VISIBLE = 3.0


def _shortfall(value: float, ceiling: float) -> float:
    """How much too low, in nats, an estimate between two densities is for its ceiling.

    From exp(-value) = exp(-I) (1 - exp(-ceiling)) + exp(-ceiling), which joins I = 0, where nothing is missing, to the
    ceiling. Measured biases at equal distance from the ceiling agree for all n, and this lies between those of Gaussian
    and of uniform noise.
    """
    with np.errstate(divide="ignore"):
        return float(np.log(-np.expm1(-ceiling)) - np.log(-np.expm1(min(value - ceiling, 0.0))))


def _scaled(points, standardize):
    """Float columns on one scale; a single one has no scale to share, and its distances count, whatever their unit."""
    if not standardize or sum(columns.shape[1] for columns in points) == 1:
        return points
    return [_samples.normal_scores(columns) for columns in points]


def value(x: np.ndarray, y: np.ndarray, k: int, standardize: bool) -> float:
    """`ksg` in nats without error and checks, of columns (n, d) and (n, e) of floats, or of one of integers.

    Raises:
      ValueError: no k neighbours, in all or in a class.
    """
    discrete = [columns for columns in (x, y) if columns.dtype != np.float64]
    labels = _binning.symbols(discrete[0]) if discrete else np.zeros(len(x), int)
    if (smallest := int(np.bincount(labels).min())) <= k:
        raise ValueError(f"`k` = {k} neighbours need more samples of each kind than that; got {smallest}.")
    points = _scaled([columns for columns in (x, y) if columns.dtype == np.float64], standardize)
    if discrete:
        return float(_neighbours.discrete_terms(*points, labels, k).mean())
    return float(_neighbours.continuous_terms(*points, k).mean())


def ksg(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    *,
    k: int = 3,
    standardize: bool = True,
    unit: str = "nats",
) -> Information:
    """I(X;Y) from samples of densities, by the distances to k-th nearest neighbours in the max norm.

        ψ(k) + ψ(n) - mean ψ(n_x + 1) - mean ψ(n_y + 1)     Kraskov's first estimator, x and y continuous
        ψ(k) + ψ(n) - mean ψ(n_y) - mean ψ(m)               Ross's, one of them discrete

    ψ the digamma function; n_x, n_y count the samples nearer than the k-th neighbour; for Ross n_y is the size of
    the class and m counts the samples, itself included, nearer than the k-th neighbour within the class. All columns
    share one length scale; by default each is put on the same one by its ranks, so that neither its units nor any
    other increasing map of it counts. Made for a few dimensions; strong dependence needs n of order exp I. Can be
    slightly negative.

    Args:
      x: samples (n,) or (n, d), floats, or integers or text for classes (if y is not).
      y: samples (n,) or (n, e), likewise.
      k: number of neighbours: more have less variance and more bias.
      standardize: whether each of several float columns becomes the normal quantiles of its ranks. Information stays as
        it is, the estimate becomes better where scales differ or tails are long. False takes the samples as they are.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information, an estimate that bounds nothing: `lower` and `upper` are infinite. `stderr` is the spread of the
      estimates on 2 to 10 disjoint blocks, every second to tenth sample, scaled as 1/√n; with classes, blocks
      keep their proportions, and the variance from these is added. It does not see the bias. `ceiling` is
      ψ(n) - ψ(k), or ψ(n) - mean ψ(n_y) with classes: no dependence, however strong, gives more. Between two densities
      the estimate is too low long before it, by log 2 where the information equals it: where what it lacks exceeds
      three standard errors, `stderr` is inf and `is_saturated` true, and the information may be anything above.

    Raises:
      TypeError: neither floats nor labels (integers, text), or traced arrays.
      ValueError: both discrete, repeated samples, fewer than 2 (k + 1) samples (of any class), lengths that differ,
        values that are not finite.

    Warns:
      UserWarning: with `standardize=False`, columns whose standard deviations differ more than tenfold.

    Source: Kraskov, Stögbauer & Grassberger 2004, arXiv cond-mat/0305641; Ross 2014, PLoS ONE 9, e87357;
    Holmes & Nemenman 2019, arXiv 1903.09280 (error by blocks).

    Example:
      >>> a, b = np.random.default_rng(0).normal(size=(2, 500))
      >>> found = ksg(a, a + b)
      >>> bool(abs(found.value - 0.5 * np.log(2)) < 3 * found.stderr)
      True
    """
    tables.factor(unit)
    k = check.integer("k", k)
    check.flag("standardize", standardize)
    variables = dict(zip("xy", map(_samples.renumbered, _samples.samples(x=x, y=y)), strict=True))
    discrete = [name for name in variables if variables[name].dtype != np.float64]
    if len(discrete) == 2:
        raise ValueError(
            "`x` and `y` are both discrete (integers are taken for classes); nearest neighbours need a density. Use "
            "`binned`, or pass what is a quantity as floats."
        )
    labels = _binning.symbols(variables[discrete[0]]) if discrete else np.zeros(len(variables["x"]), int)
    smallest = int(np.bincount(labels).min())
    if smallest < 2 * (k + 1):
        where = f"each class of `{discrete[0]}`" if discrete else "all"
        remedy = "Take a smaller k, or more samples."
        if discrete:
            remedy = (
                f"Integers are taken for classes: where `{discrete[0]}` is a quantity, pass "
                f"`{discrete[0]}.astype(float)`; else take a smaller k, or more samples."
            )
        raise ValueError(
            f"`k` = {k} neighbours and a standard error need at least 2 (k + 1) = {2 * (k + 1)} samples in {where}; "
            f"got {smallest}. {remedy}"
        )
    for name, repeated, most in (
        *((name, _neighbours.coincident(variables[name]), k) for name in variables if name not in discrete),
        ("(x, y)", _neighbours.coincident(np.concatenate(list(variables.values()), axis=1)), 1),
    ):
        if repeated > most:
            raise ValueError(
                f"`{name}` must come from a density, without repeated samples; got one {repeated} times. Use `binned` "
                "for discrete values (as integers), or add noise of a known size yourself."
            )
    points = [variables[name] for name in variables if name not in discrete]
    if not standardize and sum(columns.shape[1] for columns in points) > 1:
        _samples.warn_scales(
            "the columns",
            np.concatenate([_samples.spread(columns) for columns in points]),
            "The small ones do not count: scale them alike, or pass standardize=True.",
        )
    n, points = len(labels), _scaled(points, standardize)
    if discrete:
        size = np.bincount(labels)
        ceiling = float(digamma(n) - digamma(size) @ size / n)
        return results.in_unit(_samples.estimate(*_neighbours.discrete(*points, labels, k), "ksg", ceiling), unit)
    ceiling = float(digamma(n) - digamma(k))
    value, error = _neighbours.continuous(*points, k)
    if _shortfall(value, ceiling) > _VISIBLE * error:
        error = np.inf
    return results.in_unit(_samples.estimate(value, error, "ksg", ceiling), unit)
