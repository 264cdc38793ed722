"""SQUAREM: extrapolation of many fixed-point iterations at once, each of which lowers its objective.

Source: Varadhan & Roland 2008, scheme S3.
"""

import numpy as np


def squarem_step(step, point, *, norm, project, longest: float = np.inf):
    """Two plain steps, an extrapolation and one more step; the plain two alone where that does not pay.

    Args:
      step: point → (next point, objectives (B,) at the point given); never raises an objective.
      point: a tuple of arrays of leading axis B, one iteration each.
      norm: (differences of points, point after one step) → the lengths (B,) of each of them.
      project: (extrapolated point, point after two steps) → valid points to go on from.
      longest: the extrapolation is at most this many times a step.

    Returns:
      (new point, objectives after one plain step, lengths of the first plain step). The objectives at the new point are
      at most those returned.
    """
    first, _ = step(point)
    second, objective = step(first)
    change = tuple(new - old for new, old in zip(first, point, strict=True))
    turn = tuple(new - old - before for new, old, before in zip(second, first, change, strict=True))
    length, curvature = norm((change, turn), first)
    a = np.clip(length / np.where(curvature > 0, curvature, 1), 1, longest)
    extrapolated = tuple(
        old + _along(a, s) * (2 * s + _along(a, t) * t) for old, s, t in zip(point, change, turn, strict=True)
    )
    third, objective_extrapolated = step(project(extrapolated, second))
    better = objective_extrapolated <= objective
    if better.all():
        return third, objective, length
    new = tuple(np.where(_along(better, a), a, b) for a, b in zip(third, second, strict=True))
    return new, objective, length


def _along(values, array):
    """`values` (B,) with axes of length 1 for the others of `array`."""
    return values.reshape(values.shape + (1,) * (array.ndim - 1))
