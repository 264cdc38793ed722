"""The information curve as the concave hull of what was found, and how far a representation is from it."""

from typing import NamedTuple

import numpy as np
from jax import Array

from ntkinfo import discrete
from ntkinfo._common import check


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


def hull(curve) -> tuple[np.ndarray, np.ndarray]:
    """The information curve: the upper concave hull of (0, 0), the points found and (H(X'), I(X;Y)), in nats.

    X' is X with inputs of equal p(y|x) taken as one. Between points the hull is reached by using two encoders in turn
    and telling which.

    Args:
      curve: a `BottleneckCurve`.

    Returns:
      (i_xz, i_zy), ascending vectors. Each point can be reached: a lower bound on the true curve, and where certified
      gaps are small the curve itself at its points.

    Source: theory, section 7.
    """
    x = np.concatenate([[0.0], np.atleast_1d(np.asarray(curve.i_xz, float)), [float(curve.h_x)]])
    y = np.concatenate([[0.0], np.atleast_1d(np.asarray(curve.i_zy, float)), [float(curve.i_xy)]])
    order = np.lexsort((-y, x))
    kept: list[int] = []
    for i in order:
        if kept and (y[i] <= y[kept[-1]] or x[i] - x[kept[-1]] <= 1e-15):
            continue
        while len(kept) > 1 and (y[kept[-1]] - y[kept[-2]]) * (x[i] - x[kept[-2]]) <= (y[i] - y[kept[-2]]) * (
            x[kept[-1]] - x[kept[-2]]
        ):
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]


def on_hull(curve, tolerance: float = 1e-7) -> np.ndarray:
    """Whether each point lies on the concave hull of all, (B,): points of a branch that is not optimal do not."""
    x, y = hull(curve)
    return np.interp(np.asarray(curve.i_xz), x, y) - np.asarray(curve.i_zy) <= tolerance * max(1.0, float(curve.i_xy))


def encoder_point(p_xy: Array, encoder: Array) -> tuple[float, float]:
    """The point (I(X;Z), I(Z;Y)) of any encoder, in nats, exact.

    Args:
      p_xy: joint distribution, (x, y).
      encoder: p(z|x), (x, z).

    Raises:
      TypeError, ValueError: not a joint distribution; rows of the encoder that are no distributions; sizes that differ.

    Example:
      >>> encoder_point(p_xy, jnp.eye(len(p_xy)))  # Z = X
    """
    p_xy = discrete.check_joint("p_xy", p_xy)
    encoder = discrete.check_conditional("encoder", encoder, (p_xy.shape[0], None))
    p_x = p_xy.sum(axis=1)
    return (
        float(discrete.mutual_information(p_x[:, None] * encoder)),
        float(discrete.mutual_information(encoder.T @ p_xy)),
    )


def closest(curve, i_xz, i_zy) -> Closest:
    """How far points of the information plane are from an information curve, and the β they are closest to.

    Args:
      curve: a `BottleneckCurve`; its grid of β limits the resolution (between its points the hull is a chord).
      i_xz: I(X;Z) of the points, nats, any shape.
      i_zy: I(Z;Y), of the same shape.

    Returns:
      A `Closest`.

    Raises:
      TypeError, ValueError: not finite numbers, shapes that differ, negative I(X;Z).

    Source: theory, section 7; the points of layers as in Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), section 3.
    """
    i_xz, i_zy = (np.asarray(check.array(name, np.asarray(v, float))) for name, v in (("i_xz", i_xz), ("i_zy", i_zy)))
    if i_xz.shape != i_zy.shape:
        raise ValueError(f"`i_zy` must have the shape of `i_xz`, {i_xz.shape}; got {i_zy.shape}.")
    check.positive("i_xz", i_xz, zero=True)
    x, y = hull(curve)
    # The plateau: more about X than the minimal sufficient statistic helps nobody.
    far = max(x[-1], float(i_xz.max())) + 1.0
    x, y = np.append(x, far), np.append(y, y[-1])
    start, way = np.stack([x[:-1], y[:-1]], 1), np.stack([np.diff(x), np.diff(y)], 1)
    points = np.stack([i_xz.ravel(), i_zy.ravel()], 1)
    along = np.einsum("pse,se->ps", points[:, None] - start[None], way) / np.sum(way**2, 1)[None]
    nearest = start[None] + np.clip(along, 0, 1)[:, :, None] * way[None]
    away = points[:, None] - nearest
    apart = np.sqrt(np.sum(away**2, axis=2))
    best = np.argmin(apart, axis=1)
    rows = np.arange(len(points))
    deficit = np.interp(points[:, 0], x, y) - points[:, 1]
    # The normal of the curve at the nearest point is (1, -β); on a chord, and at distance 0, that of the chord.
    dx, dy = away[rows, best].T
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(way[best, 1] > 0, way[best, 0] / way[best, 1], np.inf)
        inside = (along[rows, best] > 0) & (along[rows, best] < 1)
        beta = np.where(inside | (apart[rows, best] < 1e-12) | (dx <= 0), chord, -dy / dx)
    distance = np.where(deficit < 0, -1.0, 1.0) * apart[rows, best]
    return Closest(beta.reshape(i_xz.shape), distance.reshape(i_xz.shape), deficit.reshape(i_xz.shape))
