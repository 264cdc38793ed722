"""Plug-in mutual information of binned samples, with its jackknife error."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import ArrayLike, Shaped

from ntkinfo._common import check
from ntkinfo._common.results import Information
from ntkinfo.estimators import _binning, _samples
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
) -> Information:
    """I(X;Y) of the discretised variables in nats, from samples, by counting: H(X) + H(Y) - H(X,Y).

    The discretisation is part of the measurement: report it with the value. Discretising loses information, but the
    plug-in value is biased upward by about (K_xy - K_x - K_y + 1) / 2n, K the numbers of occupied cells. The
    Miller-Madow correction subtracts that, to first order in 1/n: no help where most cells hold a single sample.

    Args:
      x: samples (n,) or (n, d). Integers are discrete and taken as they are; floats are binned column by column.
      y: samples (n,) or (n, e), likewise.
      bins: number of equal bins for each column, the last closed.
      width: width of the bins instead, from multiples of it on, or from lo where limits are given.
      range: limits (lo, hi) of the bins, the same for all floats, or a pair of those (or None) for x and y; None takes
        the least and the largest value of each column.
      adaptive: bins of equal occupancy for each column instead; equal values stay together.
      correction: None or "miller_madow".

    Returns:
      Information, an estimate that bounds nothing: `lower` and `upper` are infinite. `stderr` is the jackknife's,
      leaving out every 20th sample, with the bins as they are: it sees the sampling, not the bias. `ceiling` is the
      smaller of the two entropies.

    Raises:
      TypeError: neither floats nor integers, or traced arrays.
      ValueError: fewer than two samples or lengths that differ, values that are not finite or outside the range,
        widths or numbers of bins that are not positive, options that exclude each other.

    Warns:
      UserWarning: one `width` or range for float columns, of both variables, whose standard deviations differ more than
        tenfold.

    Source: theory, section 9; Paninski 2003, Neural Computation 15, 1191 (bias); Miller 1955 (correction).

    Example:
      >>> round(float(binned(np.array([0, 0, 1, 1]), np.array([5, 5, 7, 7])).value), 6)  # log 2
      0.693147
    """
    check.on_host(locals())
    check.option("correction", correction, (None, "miller_madow"))
    check.flag("adaptive", adaptive)
    _samples.check_bins(bins, width)
    if adaptive and not (width is None and range is None):
        raise ValueError("`adaptive` bins follow from the samples; got a `width` or `range` as well. Leave it out.")
    limits = _samples.bin_ranges(range)
    ids = []
    variables = list(map(_samples.renumbered, _samples.samples(x=x, y=y)))
    _warn_scales(variables, limits, width)
    for name, columns, bounds in zip("xy", variables, limits, strict=True):
        if columns.dtype == np.float64 and adaptive:
            columns = _binning.adaptive(columns, bins)
        elif columns.dtype == np.float64:
            columns = _samples.codes(name, columns, bins, width, bounds)
        ids.append(_binning.symbols(columns))
    ceiling = min(_binning.entropy(np.bincount(codes)) for codes in ids)
    return _samples.estimate(*_binning.plug_in(*ids, correction is not None), "binned", ceiling)


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
        )
