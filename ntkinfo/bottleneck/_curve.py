"""Optimal representations over β: the result of every bottleneck, and what follows from its encoders."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import discrete
from ntkinfo._common import check, parallel
from ntkinfo.bottleneck import _information_curve, _solver


def in_double(function):
    """`function` of a table and β, computed in float64 within the call; results in the dtype of the table."""

    @functools.wraps(function)
    def wrapped(p_xy, beta, *args, **kwargs):
        p_xy = discrete.check_joint("p_xy", p_xy)
        if not check.concrete(p_xy, beta):
            raise ValueError("`p_xy` and `beta` must be known: the search runs on the host. Call it outside `jit`.")
        host = np.asarray(p_xy, np.float64)
        # A context, not a setting: what other code computes in is left alone.
        with parallel.enable_x64(True):
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


def validate(p_xy, beta):
    """The table and the grid of β as arrays; the table has been checked."""
    beta = check.array("beta", np.atleast_1d(beta), 1)
    check.positive("beta", beta)
    return jnp.asarray(p_xy), beta


def measure(merged, problem, beta, alpha, encoders):
    """Everything that follows from the encoders (B, x, z) of the merged problem."""
    beta = jnp.asarray(beta)
    return (beta, encoders, *_measured(merged, *problem[:3], beta, alpha, encoders, problem.dual))


@functools.partial(jax.jit, static_argnames=("dual",))
def _measured(merged, p_x, rows, logs, beta, alpha, encoders, dual):
    problem = _solver.Table(p_x, rows, logs, dual)

    def one(beta, encoder):
        joint = p_x[:, None] * encoder
        mass = jnp.sum(joint, axis=0)
        used = mass > 0
        weights = jnp.where(used[:, None], (joint / jnp.where(used, mass, 1)[None, :]).T, p_x[None, :])
        weights = weights / jnp.sum(weights, axis=1)[:, None]
        decoder = _solver.decode(weights, problem)
        pairs = _solver.distances(problem, jnp.log(jnp.maximum(decoder, _solver.least(decoder.dtype))))
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


def finish(result, p_xy, index, converged, gaps) -> BottleneckCurve:
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
    return curve._replace(on_hull=jnp.asarray(_information_curve.on_hull(curve)))
