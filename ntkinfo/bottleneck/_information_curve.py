"""The information curve as the concave hull of what was found, and how far a representation is from it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, tables
from ntkinfo._numerics import entropy
from ntkinfo.bottleneck._curve import BottleneckCurve, concave_hull


class Closest(NamedTuple):
    """How far points of the information plane are from the curve. Arrays of the shape of the points.

    Attributes:
      beta: the β whose optimum is closest: the inverse slope of the curve at the nearest point; infinite where that is
        the plateau at I(X;Y).
      distance: Euclidean distance to the region that representations can reach without waste, its upper edge, in nats;
        negative above the curve as found, which no exact point can be by more than the certified gap allows.
      deficit: how much less about Y than the curve allows at the same I(X;Z), in nats.
    """

    beta: np.ndarray
    distance: np.ndarray
    deficit: np.ndarray

    _table = tables.Table((), nats="distance deficit", plain="beta")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def hull(curve: BottleneckCurve) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The information curve: the upper concave hull of (0, 0), the points found and (H(X'), I(X;Y)), in nats.

    X' is X with inputs of equal p(y|x) taken as one. Between points the hull is reached by using two encoders in turn
    and telling which.

    Args:
      curve: a `BottleneckCurve`.

    Returns:
      (i_xz, i_zy), ascending vectors. Each point can be reached: a lower bound on the true curve, and where certified
      gaps are small the curve itself at its points.

    Raises:
      TypeError: not a `BottleneckCurve`.

    Source: theory, section 7.
    """
    check.instance("curve", curve, BottleneckCurve, maker="`bottleneck.ib`")
    return concave_hull(curve.i_xz, curve.i_zy, curve.h_x, curve.i_xy)


def encoder_point(p_xy: Float[ArrayLike, "x y"], encoder: Float[ArrayLike, "x z"]) -> tuple[float, float]:
    """The point (I(X;Z), I(Z;Y)) of any encoder, in nats, exact.

    Args:
      p_xy: joint distribution, (x, y).
      encoder: p(z|x), (x, z).

    Returns:
      (I(X;Z), I(Z;Y)) in nats, two numbers.

    Raises:
      TypeError, ValueError: not a joint distribution; rows of the encoder that are no distributions; sizes that differ.

    Example:
      >>> i_xz, i_zy = encoder_point(p_xy, jnp.eye(len(p_xy)))  # Z = X
      >>> abs(i_zy - discrete.mutual_information(p_xy)) < 1e-12
      Array(True, dtype=bool)
    """
    check.on_host(locals())
    p_xy = discrete.check_joint("p_xy", p_xy)
    encoder = discrete.check_conditional("encoder", encoder, (p_xy.shape[0], None))
    p_xy, encoder = np.asarray(p_xy), np.asarray(encoder)
    p_x = p_xy.sum(axis=1)
    # Both have been checked: their product may be off by the tolerances of both.
    return (
        float(entropy.mutual_information(p_x[:, None] * encoder)),
        float(entropy.mutual_information(encoder.T @ p_xy)),
    )


def closest(curve: BottleneckCurve, i_xz: ArrayLike, i_zy: ArrayLike) -> Closest:
    """How far points of the information plane are from an information curve, and the β they are closest to.

    Args:
      curve: a `BottleneckCurve`; its grid of β limits the resolution (between its points the hull is a chord).
      i_xz: I(X;Z) of the points, nats, any shape.
      i_zy: I(Z;Y), of the same shape.

    Returns:
      A `Closest`.

    Raises:
      TypeError, ValueError: not a `BottleneckCurve`; not finite numbers, shapes that differ, negative I(X;Z).

    Source: theory, section 7; the points of layers as in Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), section 3.
    """
    check.instance("curve", curve, BottleneckCurve, maker="`bottleneck.ib`")
    i_xz, i_zy = (check.real_numbers(name, v, ends=False) for name, v in (("i_xz", i_xz), ("i_zy", i_zy)))
    check.small_enough("i_xz", i_xz)
    check.small_enough("i_zy", i_zy)
    if i_xz.shape != i_zy.shape:
        raise ValueError(f"`i_zy` must have the shape of `i_xz`, {i_xz.shape}; got {i_zy.shape}.")
    check.positive("i_xz", i_xz, zero=True)
    x, y = hull(curve)
    # The plateau: more about X than the minimal sufficient statistic helps nobody.
    x, y = np.append(x, max(x[-1], float(i_xz.max())) + 1.0), np.append(y, y[-1])
    start, direction = np.stack([x[:-1], y[:-1]], 1), np.stack([np.diff(x), np.diff(y)], 1)
    points = np.stack([i_xz.ravel(), i_zy.ravel()], 1)
    projection = np.einsum("pse,se->ps", points[:, None] - start[None], direction) / np.sum(direction**2, 1)[None]
    nearest = start[None] + np.clip(projection, 0, 1)[:, :, None] * direction[None]
    offset = points[:, None] - nearest
    distance = np.sqrt(np.sum(offset**2, axis=2))
    chord = np.argmin(distance, axis=1)
    closest_chord = np.arange(len(points)), chord
    projection, offset, distance, direction = (
        projection[closest_chord],
        offset[closest_chord],
        distance[closest_chord],
        direction[chord],
    )
    deficit = np.interp(points[:, 0], x, y) - points[:, 1]
    # The normal of the curve at the nearest point is (1, -β); on a chord, and at distance 0, that of the chord.
    dx, dy = offset.T
    with np.errstate(divide="ignore", invalid="ignore"):
        beta_of_chord = np.where(direction[:, 1] > 0, direction[:, 0] / direction[:, 1], np.inf)
        inside = (projection > 0) & (projection < 1)
        beta = np.where(inside | (distance < 1e-12) | (dx <= 0), beta_of_chord, -dy / dx)
    distance = np.where(deficit < 0, -1.0, 1.0) * distance
    return Closest(beta.reshape(i_xz.shape), distance.reshape(i_xz.shape), deficit.reshape(i_xz.shape))
