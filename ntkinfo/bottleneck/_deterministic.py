"""The deterministic bottleneck: hard assignments of the inputs."""

import numpy as np
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo.bottleneck import _curve, _partitions
from ntkinfo.bottleneck._curve import BottleneckCurve
from ntkinfo.bottleneck._distortion import Problem


@_curve.in_double
def deterministic_ib(p_xy: Float[ArrayLike, "x y"], beta: ArrayLike) -> BottleneckCurve:
    """The deterministic bottleneck: min over hard assignments of H(Z) + β E D[p(y|x) ‖ p(y|z)], in nats.

    Assignments arg max_z [log p(z) - β D], improved by moving single inputs and merging clusters, from Z = X, from one
    cluster and from the partitions of the neighbouring β. Its I(X;Z) is H(Z).

    Args:
      p_xy: joint distribution, (x, y).
      beta: trade-off β > 0, scalar or (B,).

    Returns:
      A `BottleneckCurve` with encoders of zeros and ones. No move of one input and no merger improves them; they are
      not proven to be the best partitions. Cost of a step O(|X| |Z| |Y|), on the host.

    Raises:
      TypeError, ValueError: as `ib`.

    Source: theory, section 7; Strouse & Schwab 2017 (arXiv 1604.00268).
    """
    beta = _curve.validate(beta)
    merged, index = discrete.merge_rows(p_xy)
    assignments = _partitions.search(merged, beta)
    max_clusters = max(int(assignment.max()) for assignment in assignments) + 1
    encoders = np.zeros((len(beta), len(merged), max_clusters), merged.dtype)
    for i, assignment in enumerate(assignments):
        order = np.argsort(-np.bincount(assignment, weights=merged.sum(1), minlength=max_clusters), kind="stable")
        encoders[i, np.arange(len(merged)), np.argsort(order)[assignment]] = 1
    measured = _curve.measure_all(Problem.from_joint(merged, False), beta, 0.0, encoders)
    return _curve.finish(p_xy, beta, encoders, measured, index, np.full(len(beta), True))
