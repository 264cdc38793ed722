"""The squared bottleneck, which traces the curve where Y is a function of X."""

import numpy as np
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check
from ntkinfo.bottleneck import _curve, _ib
from ntkinfo.bottleneck._curve import BottleneckCurve
from ntkinfo.bottleneck._distortion import Problem
from ntkinfo.bottleneck._information_curve import encoder_point, hull


@_curve.in_double
def squared_ib(
    p_xy: Float[ArrayLike, "x y"], beta: ArrayLike, *, curve: BottleneckCurve | None = None
) -> BottleneckCurve:
    """The squared Lagrangian: min over p(z|x) of I(X;Z)² - β I(Z;Y), which traces a curve with straight pieces too.

    The optimum lies on the information curve. Here it is found on the hull of points of `ib`; between two of them the
    encoder uses one of both at random and tells which.

    Args:
      p_xy: joint distribution, (x, y).
      beta: trade-off β > 0, scalar or (B,), in nats.
      curve: points of `ib` to build on; None for 60 values of its β from 1 to 1000.

    Returns:
      A `BottleneckCurve`; `lagrangian` is I(X;Z)² + β (I(X;Y) - I(Z;Y)). Exact where Y is a function of X (two points
      are then the whole curve); otherwise as fine as the points of `curve`.

    Raises:
      TypeError, ValueError: as `ib`.

    Source: theory, section 7; Kolchinsky, Tracey & Van Kuyk 2019 (arXiv 1808.07593).

    Example:
      >>> labels = np.array([[0.25, 0.0], [0.25, 0.0], [0.0, 0.5]])  # Y is a function of X
      >>> curve = squared_ib(labels, [0.5, 1.0])
      >>> np.asarray(curve.i_zy).round(6).tolist()
      [0.25, 0.5]
    """
    beta = _curve.validate(beta)
    if curve is not None:
        check.instance("curve", curve, BottleneckCurve, maker="`bottleneck.ib`")
        if curve.encoder.shape[1] != len(p_xy):
            raise ValueError(
                f"`curve` must be that of `p_xy`, whose {len(p_xy)} inputs its encoders have; got encoders of "
                f"{curve.encoder.shape[1]}."
            )
    merged, index = discrete.merge_rows(p_xy)
    if curve is None:
        curve = _ib.ib(p_xy, np.geomspace(1.0, 1e3, 60))
    n_x, dtype = len(merged), merged.dtype
    first, given = np.unique(index, return_index=True)[1], np.asarray(curve.encoder)
    max_clusters = max(given.shape[2], n_x)
    candidates = np.zeros((2 + len(given), n_x, max_clusters), dtype)
    candidates[0, :, 0], candidates[1, :, :n_x] = 1, np.eye(n_x)
    candidates[2:, :, : given.shape[2]] = given[:, first]
    p_x = merged.sum(1)
    points = np.array([encoder_point(merged, encoder) for encoder in candidates])
    x, y = hull(curve._replace(i_xz=points[:, 0], i_zy=points[:, 1]))
    vertices = [int(np.argmin(np.abs(points[:, 0] - a) + np.abs(points[:, 1] - b))) for a, b in zip(x, y, strict=True)]
    encoders = np.zeros((len(beta), n_x, 2 * max_clusters), dtype)
    for i, b in enumerate(np.asarray(beta, float)):
        # On each chord the objective is a parabola in I(X;Z): its least point, or an end.
        slope = np.diff(y) / np.diff(x)
        at = np.clip(b * slope / 2, x[:-1], x[1:])
        best = int(np.argmin(at**2 - b * (y[:-1] + slope * (at - x[:-1]))))
        share = (at[best] - x[best]) / (x[best + 1] - x[best])
        encoders[i, :, :max_clusters] = (1 - share) * candidates[vertices[best]]
        encoders[i, :, max_clusters:] = share * candidates[vertices[best + 1]]
    order = np.argsort(-np.einsum("bxz,x->bz", encoders, p_x), axis=1, kind="stable")
    encoders = np.take_along_axis(encoders, order[:, None, :], 2)
    used = int((encoders.sum(1) > 0).sum(1).max())
    encoders = encoders[:, :, :used]
    measured = _curve.measure_all(Problem.from_joint(merged, False), beta, 1.0, encoders)
    result = _curve.finish(p_xy, beta, encoders, measured, index, np.full(len(beta), True))
    return result._replace(lagrangian=result.i_xz**2 + beta * (result.i_xy - result.i_zy))
