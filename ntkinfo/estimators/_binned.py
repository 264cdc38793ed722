"""Mutual information of counted samples, conditional or not, with its jackknife error."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Shaped

from ntkinfo._common import check, results, tables
from ntkinfo._common.results import Information
from ntkinfo.estimators import _binning, _counting, _samples
from ntkinfo.estimators._samples import Limits


def binned(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    *,
    bins: int = 30,
    width: float | None = None,
    range: Limits | Sequence[Limits | None] | None = None,
    adaptive: bool = False,
    correction: str | None = None,
    unit: str = "nats",
) -> Information:
    """I(X;Y) of the discretised variables, from samples, by counting: H(X) + H(Y) - H(X,Y).

    The discretisation is part of the measurement: report it with the value. Discretising loses information, but the
    plug-in value is biased upward by about (K_xy - K_x - K_y + 1) / 2n, K the numbers of occupied cells. Corrections
    are no help where most cells hold a single sample; see `compare` for which to take, `significance` for whether there
    is any information, and `extrapolate` for how the bias falls with n.

    Several columns are one variable: for the information that two variables have together, stack them as columns.

    Args:
      x: samples (n,) or (n, d). Integers and text are discrete and taken as they are; floats are binned column by
        column.
      y: samples (n,) or (n, e), likewise.
      bins: number of equal bins for each column, the last closed.
      width: width of the bins instead, from multiples of it on, or from lo where limits are given.
      range: limits (lo, hi) of the bins, the same for all floats, or a pair of those (or None) for x and y; None takes
        the least and the largest value of each column.
      adaptive: bins of equal occupancy for each column instead; equal values stay together.
      correction: None; "miller_madow" subtracts that bias, to first order in 1/n; "panzeri_treves" does so with the
        values of x that can occur under each y, not those that did, and is not symmetric: x is what is observed (a
        response), y the condition (a stimulus); "grassberger" and "chao_shen" correct each of the three entropies. A
        corrected value may be negative.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information, an estimate that bounds nothing: `lower` and `upper` are infinite. `stderr` is the jackknife's,
      leaving out every 20th sample, with the bins as they are (for "grassberger" that of "miller_madow"): it sees the
      sampling, not the bias. `ceiling` is the
      smaller of the two entropies.

    Raises:
      TypeError: neither floats nor labels (integers, text), or traced arrays.
      ValueError: fewer than two samples or lengths that differ, values that are not finite or outside the range, labels
        that are missing, widths or numbers of bins that are not positive, options that exclude each other.

    Warns:
      UserWarning: one `width` or range for float columns, of both variables, whose standard deviations differ more than
        tenfold.

    Source: theory, section 9, "Counted samples"; Paninski 2003, Neural Computation 15, 1191 (bias); for the
    corrections Miller 1955; Panzeri & Treves 1996, Network 7, 87; Grassberger 2003, arXiv physics/0307138; Chao & Shen
    2003, Environmental and Ecological Statistics 10, 429.

    Example:
      >>> round(float(binned(np.array([0, 0, 1, 1]), np.array([5, 5, 7, 7])).value), 6)  # log 2
      0.693147
    """
    check.on_host(locals())
    tables.factor(unit)
    check.option("correction", correction, (None, *_counting.CORRECTIONS))
    codes = discretised({"x": x, "y": y}, bins=bins, width=width, range=range, adaptive=adaptive)
    return results.in_unit(counted(codes, correction), unit)


def conditional(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    z: Shaped[ArrayLike, "n ..."],
    *,
    bins: int = 30,
    adaptive: bool = False,
    correction: str | None = None,
    unit: str = "nats",
) -> Information:
    """I(X;Y|Z) of the discretised variables, from samples, by counting: H(X,Z) + H(Y,Z) - H(X,Y,Z) - H(Z).

    By the chain rule I(X,Z;Y) = I(Z;Y) + I(X;Y|Z): what x says of y beyond z. The plug-in value is biased upward by
    about (K_xyz - K_xz - K_yz + K_z) / 2n, K the numbers of occupied cells, of which there are many.

    Args:
      x: samples (n,) or (n, d). Integers and text are discrete and taken as they are; floats are binned column by
        column.
      y: samples (n,) or (n, e), likewise.
      z: samples (n,) or (n, f) of the condition, likewise.
      bins: number of equal bins for each float column, from its least to its largest value.
      adaptive: bins of equal occupancy for each column instead; equal values stay together.
      correction: as in `binned`, of all four entropies.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information, an estimate that bounds nothing, with the jackknife's `stderr` as of `binned`. `ceiling` is the
      smaller of H(X|Z) and H(Y|Z).

    Raises:
      TypeError, ValueError: as `binned`.

    Source: theory, section 9, "Counted samples"; Cover & Thomas 2006, eq. 2.60.

    Example:
      >>> x, z = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
      >>> round(float(conditional(x, x ^ z, z).value), 6)  # log 2, though x alone says nothing of x ^ z
      0.693147
    """
    check.on_host(locals())
    tables.factor(unit)
    check.option("correction", correction, (None, *_counting.CORRECTIONS))
    codes = discretised({"x": x, "y": y, "z": z}, bins=bins, adaptive=adaptive)
    return results.in_unit(counted(codes, correction), unit)


def counted(codes: list[np.ndarray], correction: str | None) -> Information:
    """What `binned` (of two) and `conditional` (of three variables) make of symbols (n,), in nats."""
    value, error, ceiling = _counting.information(*codes, correction=correction)
    return _samples.estimate(value, error, "binned", ceiling)


def discretised(variables: dict, *, bins=30, width=None, range=None, adaptive=False) -> list[np.ndarray]:
    """Samples by the names of their arguments as symbols (n,) from 0; floats are binned, of `x` and `y` by `range`."""
    check.flag("adaptive", adaptive)
    _samples.check_bins(bins, width)
    if adaptive and not (width is None and range is None):
        raise ValueError("`adaptive` bins follow from the samples; got a `width` or `range` as well. Leave it out.")
    limits = [*_samples.bin_ranges(range), None]
    columns = list(map(_samples.renumbered, _samples.samples(**variables)))
    _warn_scales(columns, limits[: len(columns)], width)
    codes = []
    for name, values, bounds in zip(variables, columns, limits, strict=False):
        if values.dtype == np.float64 and adaptive:
            values = _binning.adaptive(values, bins)
        elif values.dtype == np.float64:
            values = _samples.codes(name, values, bins, width, bounds)
        codes.append(_binning.symbols(values))
    return codes


def _warn_scales(variables, limits, width):
    """Says where one size of bins serves float columns of different scales."""
    groups = {}
    for columns, bounds in zip(variables, limits, strict=True):
        if columns.dtype == np.float64 and (width is not None or bounds is not None):
            groups.setdefault(None if width is not None else repr(bounds), []).append(_samples.spread(columns))
    for spreads in groups.values():
        _samples.warn_scales(
            "the columns",
            np.concatenate(spreads),
            "Bins of one size serve them badly: scale the columns alike first, or give the number of bins alone.",
            stacklevel=5,
        )
