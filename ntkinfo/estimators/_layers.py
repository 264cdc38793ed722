"""Information of the layers of a deterministic network, exact for discretised activations."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from ntkinfo._common import check, labels, tables
from ntkinfo.estimators import _binning, _samples
from ntkinfo.estimators._samples import Limits

Activations = Float[ArrayLike, "*lead n d"]
Conditionals = Float[ArrayLike, "n c"]
Weights = Float[ArrayLike, " n"]


class LayerInformation(NamedTuple):
    """Information of a discretised layer T in nats (or bits, where asked for), of the leading shape of its activations.

    Attributes:
      i_xt: I(X;T) = H(T).
      i_ty: I(T;Y), at most I(X;T) and H(Y).
    """

    i_xt: Float[Array, "*lead"]
    i_ty: Float[Array, "*lead"]

    _table = tables.Table((), nats="i_xt i_ty")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def _layers(host, p_y_given_x, p_x, codes, unit) -> LayerInformation:
    """Checks the arrays of a layer and measures it for each leading index, with `codes` of rows (n, d)."""
    if host.ndim < 2:
        raise ValueError(f"`activations` must have shape (..., n, d); got {host.shape}.")
    n = host.shape[-2]
    if n < 2:
        raise ValueError(f"`activations` must hold at least two inputs; got shape {host.shape}.")
    check.native("p_y_given_x", p_y_given_x, 2)
    classes = np.asarray(labels.distributions("p_y_given_x", p_y_given_x, n), np.float64)
    inputs = np.full(n, 1 / n) if p_x is None else np.asarray(check.native("p_x", p_x, 1), np.float64)
    if len(inputs) != n:
        raise ValueError(f"`p_x` must have one row for each of the {n} inputs; got shape {inputs.shape}.")
    check.probabilities("p_x", inputs)
    lead = host.shape[:-2]
    pairs = [_binning.layer(codes(rows), inputs, classes) for rows in host.reshape(-1, *host.shape[-2:])]
    values = tables.factor(unit) * np.array(pairs).T
    return LayerInformation(*(jnp.asarray(one.reshape(lead)) for one in values))


def layer_cells(
    activations: Activations, *, bins: int | None = 30, width: float | None = None, range: Limits | None = None
) -> Int[np.ndarray, "*lead n"]:
    """The discretised layer T itself: the cell of every input, numbered from 0 at each leading index.

    Inputs of one number are the same T, as `binned_layer` counts them (`quantised_layer` with `bins=None`).

    Args:
      activations: (..., n, d) floats, with leading axes such as epochs.
      bins: number of equal bins for each unit, the last closed; None for values as they are.
      width: width of the bins instead, as in `binned_layer`.
      range: limits (lo, hi) of the bins, as in `binned_layer`.

    Returns:
      Integers (..., n). The joint table with labels is a sum over them, and `bottleneck.own_beta` takes them as an
      encoder.

    Raises:
      TypeError: activations that are not floats, or traced.
      ValueError: shapes that do not fit, a range together with `bins=None`, and as in `binned`.

    Source: theory, section 9.

    Example:
      >>> layer_cells(np.array([[-0.9], [-0.8], [0.7], [0.9]]), bins=2).tolist()
      [0, 0, 1, 1]
    """
    check.on_host(locals())
    host = _samples.host("activations", activations)
    if host.ndim < 2 or host.shape[-2] < 1:
        raise ValueError(f"`activations` must have shape (..., n, d); got {host.shape}.")
    if bins is None:
        if width is not None or range is not None:
            raise ValueError("`width` and `range` must be left out with `bins=None`, which takes values as they are.")
        codes = _as_they_are
    else:
        _samples.check_bins(bins, width)
        if host.dtype != np.float64:
            raise TypeError(f"`activations` must be floats to be binned; got {host.dtype}. Pass `bins=None`.")

        def codes(rows):
            return _samples.codes("activations", rows, bins, width, range)

    cells = [_binning.symbols(codes(rows)) for rows in host.reshape(-1, *host.shape[-2:])]
    return np.array(cells).reshape(host.shape[:-1])


def _as_they_are(rows):
    return np.unique(rows, return_inverse=True)[1].reshape(rows.shape)


def binned_layer(
    activations: Activations,
    p_y_given_x: Conditionals,
    *,
    p_x: Weights | None = None,
    bins: int = 30,
    width: float | None = None,
    range: Limits | None = None,
    unit: str = "nats",
) -> LayerInformation:
    """I(X;T) and I(T;Y) of a deterministic layer whose activations are binned, unit by unit.

        I(X;T) = H(T),    p(t,y) = Σ_x p(x) p(y|x) [T(x) = t]

    Each row is one distinct input, known with its probabilities, so that nothing is sampled: both are exact for the
    discretisation, which is part of the measurement and to be reported with it.

    Args:
      activations: (..., n, d) floats, with leading axes such as epochs.
      p_y_given_x: (n, c), rows that sum to 1.
      p_x: (n,), uniform if None.
      bins: number of equal bins for each unit, the last closed.
      width: width of the bins instead, from multiples of it on, or from lo where limits are given.
      range: limits (lo, hi) of the bins, such as (-1, 1) for tanh; None takes the least and the largest activation of
        each unit at each leading index.
      unit: "nats" or "bits", of both.

    Returns:
      LayerInformation, two arrays of shape (...), exact for the bins up to rounding.

    Raises:
      TypeError: activations that are not floats, or traced.
      ValueError: shapes that do not fit, probabilities that do not sum to 1, and as in `binned`.

    Source: theory, section 9; Shwartz-Ziv & Tishby 2017, arXiv 1703.00810.

    Example:
      >>> layer = binned_layer(np.array([[-0.9], [-0.8], [0.7], [0.9]]), np.eye(2)[[0, 0, 1, 1]], bins=2)
      >>> round(float(layer.i_xt), 4), round(float(layer.i_ty), 4)
      (0.6931, 0.6931)
    """
    check.on_host(locals())
    tables.factor(unit)
    _samples.check_bins(bins, width)
    host = _samples.host("activations", activations)
    if host.dtype != np.float64:
        raise TypeError(f"`activations` must be floats to be binned; got {host.dtype}. Use `quantised_layer`.")
    return _layers(host, p_y_given_x, p_x, lambda rows: _samples.codes("activations", rows, bins, width, range), unit)


def quantised_layer(
    activations: Shaped[ArrayLike, "*lead n d"],
    p_y_given_x: Conditionals,
    *,
    p_x: Weights | None = None,
    unit: str = "nats",
) -> LayerInformation:
    """I(X;T) and I(T;Y) of a layer with finitely many values: rows are the same T where exactly equal.

    Args:
      activations: (..., n, d) floats or integers.
      p_y_given_x: (n, c), rows that sum to 1.
      p_x: (n,), uniform if None.
      unit: "nats" or "bits", of both.

    Returns:
      LayerInformation, two arrays of shape (...), exact up to rounding.

    Raises:
      TypeError, ValueError: as `binned_layer`.

    Source: theory, section 9; Lorenzen et al. 2022, arXiv 2106.12912 (quantised networks).

    Example:
      >>> layer = quantised_layer(np.array([[0.0], [0.0], [1.0], [1.0]]), np.eye(2)[[0, 0, 1, 1]])
      >>> round(float(layer.i_xt), 4), round(float(layer.i_ty), 4)
      (0.6931, 0.6931)
    """
    check.on_host(locals())
    tables.factor(unit)
    return _layers(_samples.host("activations", activations), p_y_given_x, p_x, _as_they_are, unit)
