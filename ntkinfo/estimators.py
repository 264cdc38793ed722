"""Mutual information from samples: bins, kernel-density bounds, nearest neighbours and critics, in nats.

    binned           any variables     plug-in value of the discretised variables, with jackknife error
    binned_layer     layer activations exact for the discretisation; `quantised_layer` where values are few
    kde              layer activations bounds for activations plus Gaussian noise, nothing sampled
    ksg              few dimensions    nearest neighbours, small bias, with a standard error
    infonce          any variables     lower bound by a trained critic, with a standard error

No estimate from n samples can exceed about log n, and `infonce` the logarithm of its batch size;
`mixture.is_saturated(information, n)` says when one is that high, and then it says little more. `binned*`,
`quantised_layer`, `ksg` and `infonce` start on the host and cannot be traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import _check, binning, neighbours
from ntkinfo.contrastive import infonce
from ntkinfo.kde import kde, kde_pair
from ntkinfo.mixture import Information

__all__ = ["LayerInformation", "binned", "binned_layer", "infonce", "kde", "kde_pair", "ksg", "quantised_layer"]


class LayerInformation(NamedTuple):
    """Information of a discretised layer T in nats, of the leading shape of its activations.

    Attributes:
      i_xt: I(X;T) = H(T).
      i_ty: I(T;Y), at most I(X;T) and H(Y).
    """

    i_xt: jax.Array
    i_ty: jax.Array


def _host(name: str, value) -> np.ndarray:
    """`value` as a host array of finite floats (float64, whatever JAX's precision), or of integers."""
    if not _check.concrete(value):
        raise TypeError(f"`{name}` is being traced; this estimator runs on the host. Call it outside `jit` and `grad`.")
    try:
        host = np.asarray(value)
    except ValueError:
        host = np.empty(0)
    if np.issubdtype(host.dtype, np.integer) or host.dtype == bool:
        if not host.size:
            raise ValueError(f"`{name}` must not be empty; got shape {host.shape}.")
        return host
    _check.array(name, value)
    return host.astype(np.float64)


def _samples(**variables) -> list[np.ndarray]:
    """Samples (n,) or (n, d) of variables as (n, d), integer ones renumbered; at least two, and equally many."""
    columns = []
    for name, value in variables.items():
        host = _host(name, value)
        if host.ndim not in (1, 2):
            raise ValueError(f"`{name}` must have shape (n,) or (n, d); got {host.shape}.")
        if host.dtype != np.float64:
            host = np.unique(host, return_inverse=True)[1].reshape(host.shape)
        columns.append(host.reshape(len(host), -1))
    names, sizes = " and ".join(f"`{name}`" for name in variables), [len(column) for column in columns]
    if len(set(sizes)) > 1:
        raise ValueError(f"{names} must hold the same number of samples; got {' and '.join(map(str, sizes))}.")
    if sizes[0] < 2:
        raise ValueError(f"{names} must hold at least two samples; got {sizes[0]}.")
    return columns


def _estimate(value: float, error: float, method: str) -> Information:
    value, error = jnp.asarray(np.array(value)), jnp.asarray(np.array(error))
    return Information(value, value, value, error, method)


def _range(limits) -> tuple[float, float]:
    try:
        lo, hi = (float(edge) for edge in limits)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`range` must be a pair (lo, hi) of numbers; got {limits!r}.") from error
    if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
        raise ValueError(f"`range` must be finite with lo < hi; got ({lo}, {hi}).")
    return lo, hi


def _ranges(limits) -> tuple:
    """The ranges of x and of y: one pair of numbers serves both."""
    if limits is None:
        return None, None
    try:
        pair = first, second = tuple(limits)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`range` must be (lo, hi) or a pair of those for `x` and `y`; got {limits!r}.") from error
    one = all(edge is not None and np.ndim(edge) == 0 for edge in pair)
    return (pair, pair) if one else (first, second)


def _codes(name: str, columns: np.ndarray, bins: int, width: float | None, limits) -> np.ndarray:
    """Bin of each float of the columns (n, d)."""
    lo, hi = (None, None) if limits is None else _range(limits)
    if lo is not None and hi is not None:
        outside = int(np.count_nonzero((columns < lo) | (columns > hi)))
        if outside:
            raise ValueError(
                f"`{name}` must lie within `range` = ({lo}, {hi}); got {outside} values outside, of "
                f"{columns.min()} to {columns.max()}. Widen the range, or leave it out."
            )
    if width is None:
        return binning.fixed(columns, bins, *((columns.min(0), columns.max(0)) if lo is None else (lo, hi)))
    if np.abs(columns - (lo or 0.0)).max() / width > 2**53:
        raise ValueError(f"`width` must be at least 1e-16 of the size of `{name}`; got {width}. Use a larger one.")
    return binning.grid(columns, width, lo, hi)


def _check_bins(bins, width) -> None:
    if _check.integer("bins", bins) > 2**31:
        raise ValueError(f"`bins` must be at most 2**31; got {bins}.")
    if width is not None:
        if np.ndim(width):
            raise ValueError(f"`width` must be a single number; got shape {np.shape(width)}.")
        _check.positive("width", width)


def binned(
    x, y, *, bins: int = 30, width: float | None = None, range=None, adaptive: bool = False, correction=None
) -> Information:
    """I(X;Y) of the discretised variables in nats, from samples, by counting: H(X) + H(Y) - H(X,Y).

    The discretisation is part of the measurement: report it with the value. Discretising loses information, but the
    plug-in value is biased upward by about (K_xy - K_x - K_y + 1) / 2n, K the numbers of occupied cells. The
    Miller-Madow correction subtracts that, to first order in 1/n: no help where most cells hold a single sample.

    Args:
      x: samples (n,) or (n, d). Integers are discrete and taken as they are; floats are binned column by column.
      y: samples (n,) or (n, e), likewise.
      bins: number of equal bins for each column, the last closed.
      width: width of the bins instead, from multiples of it on, or from lo where a range is given.
      range: (lo, hi) for all floats, or a pair of those (or None) for x and y; None takes each column's own.
      adaptive: bins of equal occupancy for each column instead; equal values stay together.
      correction: None or "miller_madow".

    Returns:
      Information, an estimate that bounds nothing: `lower` and `upper` equal the value. `stderr` is the jackknife's,
      leaving out every 20th sample, with the bins as they are: it sees the sampling, not the bias.

    Raises:
      TypeError: neither floats nor integers, or traced arrays.
      ValueError: fewer than two samples or lengths that differ, values that are not finite or outside the range,
        widths or numbers of bins that are not positive, options that exclude each other.

    Source: theory, section 9; Paninski 2003, Neural Computation 15, 1191 (bias); Miller 1955 (correction).

    Example:
      >>> round(float(binned(np.array([0, 0, 1, 1]), np.array([5, 5, 7, 7])).value), 6)  # log 2
      0.693147
    """
    _check.option("correction", correction, (None, "miller_madow"))
    _check_bins(bins, width)
    if adaptive and not (width is None and range is None):
        raise ValueError("`adaptive` bins follow from the samples; got a `width` or `range` as well. Leave it out.")
    limits = _ranges(range)
    ids = []
    for name, columns, own in zip("xy", _samples(x=x, y=y), limits, strict=True):
        if columns.dtype == np.float64:
            columns = binning.adaptive(columns, bins) if adaptive else _codes(name, columns, bins, width, own)
        ids.append(binning.symbols(columns))
    return _estimate(*binning.plug_in(*ids, correction is not None), "binned")


def _layers(host, p_y_given_x, p_x, codes) -> LayerInformation:
    """Checks the arrays of a layer and measures it for each leading index, with `codes` of rows (n, d)."""
    if host.ndim < 2:
        raise ValueError(f"`activations` must have shape (..., n, d); got {host.shape}.")
    n = host.shape[-2]
    if n < 2:
        raise ValueError(f"`activations` must hold at least two inputs; got shape {host.shape}.")
    classes = np.asarray(_check.array("p_y_given_x", p_y_given_x, 2), np.float64)
    inputs = np.full(n, 1 / n) if p_x is None else np.asarray(_check.array("p_x", p_x, 1), np.float64)
    for name, p, rows in (("p_y_given_x", classes, len(classes)), ("p_x", inputs, len(inputs))):
        if rows != n:
            raise ValueError(f"`{name}` must have one row for each of the n = {n} inputs; got shape {p.shape}.")
        if (p < 0).any() or (abs(p.sum(axis=-1) - 1) > 1e-5).any():
            raise ValueError(
                f"`{name}` must hold probabilities that sum to 1 along the last axis; got min={p.min()}, "
                f"sums from {p.sum(axis=-1).min()} to {p.sum(axis=-1).max()}. Divide by the sums first."
            )
    lead = host.shape[:-2]
    pairs = [binning.layer(codes(rows), inputs, classes) for rows in host.reshape(-1, *host.shape[-2:])]
    return LayerInformation(*(jnp.asarray(np.array(values).reshape(lead)) for values in zip(*pairs, strict=True)))


def binned_layer(
    activations, p_y_given_x, *, p_x=None, bins: int = 30, width: float | None = None, range=None
) -> LayerInformation:
    """I(X;T) and I(T;Y) in nats of a deterministic layer whose activations are binned, unit by unit.

        I(X;T) = H(T),    p(t,y) = sum_x p(x) p(y|x) [T(x) = t]

    Each row is one distinct input, known with its probabilities, so that nothing is sampled: both are exact for the
    discretisation, which is part of the measurement and to be reported with it.

    Args:
      activations: (..., n, d) floats, with leading axes such as epochs.
      p_y_given_x: (n, c), rows that sum to 1.
      p_x: (n,), uniform if None.
      bins: number of equal bins for each unit, the last closed.
      width: width of the bins instead, from multiples of it on, or from lo where a range is given.
      range: (lo, hi), such as (-1, 1) for tanh; None takes each unit's own at each leading index.

    Returns:
      LayerInformation, two arrays of shape (...), exact for the bins up to rounding.

    Raises:
      TypeError: activations that are not floats, or traced.
      ValueError: shapes that do not fit, probabilities that do not sum to 1, and as in `binned`.

    Source: theory, section 9; Shwartz-Ziv & Tishby 2017, arXiv 1703.00810.
    """
    _check_bins(bins, width)
    host = _host("activations", activations)
    if host.dtype != np.float64:
        raise TypeError(f"`activations` must be floats to be binned; got {host.dtype}. Use `quantised_layer`.")
    return _layers(host, p_y_given_x, p_x, lambda rows: _codes("activations", rows, bins, width, range))


def quantised_layer(activations, p_y_given_x, *, p_x=None) -> LayerInformation:
    """I(X;T) and I(T;Y) in nats of a layer with finitely many values: rows are the same T where exactly equal.

    Args:
      activations: (..., n, d) floats or integers.
      p_y_given_x: (n, c), rows that sum to 1.
      p_x: (n,), uniform if None.

    Returns:
      LayerInformation, two arrays of shape (...), exact up to rounding.

    Raises:
      TypeError, ValueError: as `binned_layer`.

    Source: theory, section 9; Lorenzen et al. 2022, arXiv 2106.12912 (quantised networks).
    """

    def codes(rows):
        return np.unique(rows, return_inverse=True)[1].reshape(rows.shape)

    return _layers(_host("activations", activations), p_y_given_x, p_x, codes)


def ksg(x, y, *, k: int = 3) -> Information:
    """I(X;Y) in nats from samples of densities, by the distances to k-th nearest neighbours in the max norm.

        psi(k) + psi(n) - mean psi(n_x + 1) - mean psi(n_y + 1)     Kraskov's first estimator, x and y continuous
        psi(k) + psi(n) - mean psi(n_y) - mean psi(m)               Ross's, one of them discrete

    psi the digamma function; n_x, n_y count the samples nearer than the k-th neighbour; for Ross n_y is the size of
    the class and m counts the samples, itself included, nearer than the k-th neighbour within the class. x and y
    share one length scale: scale them alike first, for instance to unit variance. Made for a few dimensions; strong
    dependence needs n of order exp I. Can be slightly negative.

    Args:
      x: samples (n,) or (n, d), floats, or integers for classes (if y is not).
      y: samples (n,) or (n, e), likewise.
      k: number of neighbours: more have less variance and more bias.

    Returns:
      Information, an estimate that bounds nothing: `lower` and `upper` equal the value. `stderr` is the spread of the
      estimates on 2 to 10 disjoint blocks, every second to tenth sample, scaled as 1/sqrt(n); with classes, blocks
      keep their proportions, and the variance from these is added. It does not see the bias.

    Raises:
      TypeError: neither floats nor integers, or traced arrays.
      ValueError: both discrete, repeated samples, fewer than 2 (k + 1) samples (of any class), lengths that differ,
        values that are not finite.

    Source: Kraskov, Stögbauer & Grassberger 2004, arXiv cond-mat/0305641; Ross 2014, PLoS ONE 9, e87357;
    Holmes & Nemenman 2019, arXiv 1903.09280 (error by blocks).
    """
    k = _check.integer("k", k)
    variables = dict(zip("xy", _samples(x=x, y=y), strict=True))
    discrete = [name for name in variables if variables[name].dtype != np.float64]
    if len(discrete) == 2:
        raise ValueError("`x` and `y` are both discrete; nearest neighbours need a density. Use `binned`.")
    labels = binning.symbols(variables[discrete[0]]) if discrete else np.zeros(len(variables["x"]), int)
    smallest = int(np.bincount(labels).min())
    if smallest < 2 * (k + 1):
        where = f"each class of `{discrete[0]}`" if discrete else "all"
        raise ValueError(
            f"`k` = {k} neighbours and a standard error need at least 2 (k + 1) = {2 * (k + 1)} samples in {where}; "
            f"got {smallest}. Take a smaller k, or more samples."
        )
    points = [variables[name] for name in variables if name not in discrete]
    for name, repeated, most in (
        *((name, neighbours.coincident(variables[name]), k) for name in variables if name not in discrete),
        ("(x, y)", neighbours.coincident(np.concatenate(list(variables.values()), axis=1)), 1),
    ):
        if repeated > most:
            raise ValueError(
                f"`{name}` must come from a density, without repeated samples; got one {repeated} times. Use `binned` "
                "for discrete values (as integers), or add noise of a known size yourself."
            )
    estimate = neighbours.discrete(*points, labels, k) if discrete else neighbours.continuous(*points, k)
    return _estimate(*estimate, "ksg")
