"""SQUAREM: extrapolation of a fixed-point iteration that lowers an objective.

Source: Varadhan & Roland 2008, scheme S3.
"""

import jax
import jax.numpy as jnp


def squarem_step(step, point, *, norm, project, longest: float = jnp.inf):
    """Two plain steps, an extrapolation and one more step; the plain two alone where that does not pay.

    Args:
      step: point → (next point, objective at the point given); never raises the objective.
      point: arrays, a pytree.
      norm: (difference of points, point after one step) → its length; leading axes kept as 1 extrapolate independently.
      project: (extrapolated point, point after two steps) → a valid point to go on from.
      longest: the extrapolation is at most this many times a step.

    Returns:
      (new point, objective after one plain step, length of the first plain step). The objective at the new point is at
      most that returned.
    """
    first, _ = step(point)
    second, objective = step(first)
    change = jax.tree.map(jnp.subtract, first, point)
    turn = jax.tree.map(lambda new, old, before: new - old - before, second, first, change)
    length, curvature = norm(change, first), norm(turn, first)
    a = jnp.clip(length / jnp.where(curvature > 0, curvature, 1), 1, longest)
    extrapolated = jax.tree.map(lambda old, s, t: old + 2 * a * s + a**2 * t, point, change, turn)
    third, objective_extrapolated = step(project(extrapolated, second))
    better = objective_extrapolated <= objective
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), third, second), objective, length
