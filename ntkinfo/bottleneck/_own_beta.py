"""The β at which the bottleneck's encoder, made from a representation's own decoder, is nearest to it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float, Int

from ntkinfo import discrete
from ntkinfo._common import check, tables
from ntkinfo._numerics.entropy import mutual_information, plogp, plogq

# Where β is infinite, in effect: clusters of other decoders have lost all their mass.
_LARGEST = 1e9
# Divergences this close are equal but for rounding.
_SAME = 1e-11


class OwnBeta(NamedTuple):
    """The β nearest to an encoder by its own decoder, and how near it is.

    Attributes:
      beta: argmin_β E_x D[p(z|x) ‖ p_β(z|x)]; 0 where Z tells nothing of Y, infinite where for no input another
        cluster has a nearer decoder.
      divergence: the least, in nats: 0 for encoders that solve the self-consistent equations.
    """

    beta: float
    divergence: float

    _table = tables.Table((), nats="divergence", plain="beta")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def own_beta(
    p_xy: Float[ArrayLike, "x y"], encoder: Float[ArrayLike, "x z"] | Int[ArrayLike, " x"] | Bool[ArrayLike, " x"]
) -> OwnBeta:
    """β of an encoder by its own decoder: argmin_β E_x D[p(z|x) ‖ p_β(z|x)], with the least divergence in nats.

        p_β(z|x) = p(z)/N(x,β) · exp(-β D[p(y|x) ‖ p(y|z)]),     p(z) and p(y|z) those of the encoder itself

    The divergence is I(X;Z) + E_x log N(x,β) + β E D, convex in β: the minimum is the only one. It is 0 for the optima
    of the bottleneck and every other solution of its equations. `closest` is another definition: the β of the nearest
    point of the information curve. Where Y is a function of X it is 1 whatever the encoder, unless Z tells all of Y
    (infinite) or nothing: p_1(z|x) is then p(z|y), of the same E D. It says something of layers for soft labels only.

    Args:
      p_xy: joint distribution, (x, y).
      encoder: p(z|x), (x, z); or the cluster of each input, (x,) integers or booleans, such as
        `estimators.layer_cells` of a layer.

    Returns:
      An `OwnBeta`, exact up to rounding, two numbers of float64.

    Raises:
      TypeError, ValueError: not a joint distribution; rows of the encoder that are no distributions; sizes that differ.

    Source: theory, section 7; Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810), section 3.

    Example:
      >>> p = np.array([[0.4, 0.1], [0.1, 0.4]])
      >>> curve = ni.bottleneck.ib(p, 4.0)
      >>> round(own_beta(p, curve.encoder[0]).beta, 4)
      4.0
    """
    check.on_host(locals())
    check.known("p_xy", p_xy)
    check.known("encoder", encoder)
    discrete.check_joint("p_xy", p_xy)
    joint = np.asarray(check.native("p_xy", p_xy), np.float64)
    joint = joint / joint.sum()
    p_x = joint.sum(axis=1)
    host = np.asarray(check.values("encoder", encoder))
    p_y_given_x = joint / p_x[:, None]
    # Inputs of the same p(y|x) count together.
    rows, row = np.unique(p_y_given_x, axis=0, return_inverse=True)
    row = row.ravel()
    if host.dtype.kind in "iub" and host.ndim == 1:
        if host.shape != p_x.shape:
            raise ValueError(f"`encoder` must have one cluster for each of the {len(p_x)} inputs; got {host.shape}.")
        z = np.unique(host, return_inverse=True)[1]
        p_rz = np.bincount(row * (z.max() + 1) + z, weights=p_x, minlength=len(rows) * (z.max() + 1))
        p_rz = p_rz.reshape(len(rows), -1)
        i_xz = -float(plogp(p_rz.sum(axis=0)).sum())
    else:
        discrete.check_conditional("encoder", encoder, (len(p_x), None))
        given = np.asarray(check.native("encoder", encoder), np.float64)
        given = given / given.sum(axis=1, keepdims=True)
        given = given[:, given.any(axis=0)]
        p_rz = np.zeros((len(rows), given.shape[1]))
        np.add.at(p_rz, row, p_x[:, None] * given)
        i_xz = float(mutual_information(p_x[:, None] * given))
    return OwnBeta(*_nearest(p_rz, rows, i_xz))


def _nearest(p_rz, rows, i_xz) -> tuple[float, float]:
    """β and the divergence, for inputs of the classes r with p(y|r) in `rows`."""
    from scipy.optimize import brentq

    p_r, p_z = p_rz.sum(axis=1), p_rz.sum(axis=0)
    decoder = p_rz.T @ rows / p_z[:, None]
    # Clusters of one decoder count together; N(x,β) is a sum over clusters.
    decoder, cluster = np.unique(decoder, axis=0, return_inverse=True)
    masses = np.bincount(cluster.ravel(), weights=p_z)
    joint = np.stack([np.bincount(cluster.ravel(), weights=one) for one in p_rz])
    with np.errstate(divide="ignore"):
        distortion = plogp(rows).sum(axis=1)[:, None] - plogq(rows[:, None], decoder[None]).sum(axis=2)
    distortion = np.maximum(distortion, 0.0)
    own = float(np.sum(np.where(joint > 0, joint * np.where(joint > 0, distortion, 0.0), 0.0)))
    nearest = distortion.min(axis=1)
    tolerance = _SAME * (1 + own)
    # No cluster is preferred to another: Z tells nothing of Y.
    if (distortion.max(axis=1) - nearest).max() <= tolerance:
        return 0.0, max(0.0, i_xz)
    beyond = distortion - nearest[:, None]

    def log_sum(beta):
        """E_x log N(x,β) + β E min D, and E D under p_β less E min D."""
        weight = masses * np.exp(-beta * beyond)
        total = weight.sum(axis=1)
        apart = np.where(weight > 0, weight * np.where(weight > 0, beyond, 0.0), 0.0).sum(axis=1) / total
        return float(p_r @ np.log(total)), float(p_r @ apart)

    excess = own - float(p_r @ nearest)

    def slope(log_beta):
        return excess - log_sum(np.exp(log_beta))[1]

    low, high = -20.0, float(np.log(_LARGEST))
    if excess <= tolerance or slope(high) < 0:
        beta = np.inf
        least = i_xz + float(p_r @ np.log(np.sum(masses * (beyond <= tolerance), axis=1)))
    else:
        beta = float(np.exp(brentq(slope, low, high, xtol=1e-12))) if slope(low) < 0 else 0.0
        least = i_xz + log_sum(beta)[0] + beta * excess
    return beta, max(0.0, least)
