"""Predictive variances that are lost in rounding: where they are zero in truth, and where they can be stood in for."""

import warnings

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ntkinfo.ensemble import CrossKernels, Ensemble, FeatureEnsemble
from ntkinfo.gaussian import Gaussian


def floored(z: Gaussian, error: Float[Array, "T m"]) -> Gaussian:
    """`z` with the rounding error (T, m) in the place of variances that are 0, that is, below it."""
    return z._replace(variance=jnp.where(z.variance == 0, error, z.variance))


def judge(
    ens: Ensemble, cross: CrossKernels, x_test: Array | None, t: np.ndarray, variance: Array, error: Array
) -> None:
    """Refuses variances (T, m) that are no rounding; warns of those that are, and were replaced by `error` (T, m).

    Raises:
      ValueError: an ensemble of one network; negative variances; variances that vanish, since an input was trained on
        or has none before training.

    Warns:
      UserWarning: variances below rounding of other inputs.
    """
    values = np.asarray(variance)
    if ens.around == "one":
        raise ValueError(
            "`ens` must have a distribution: the mean of one network's linearised flow has no variance. Take "
            '`kernels.empirical(net, around="laplace")`, or initialisations with around="ensemble".'
        )
    if isinstance(ens, FeatureEnsemble):
        _judge_features(ens, cross, t, values)
        return
    vain = ~((values > 0) | ((values == 0) & (np.asarray(error) > 0)))
    if vain.any():
        time, row = np.argwhere(vain)[0]
        rows = _listed(np.flatnonzero(vain.any(axis=0)))
        raise ValueError(
            f"The predictive variance must be positive; got {values[time, row]:.3g} at t = {t[time]:.4g} for {rows} of "
            "`x_test`. A network without biases has none at an input of zeros; otherwise check that the kernel is a "
            "covariance."
        )
    lost = values == 0
    if not lost.any():
        return
    rows = np.flatnonzero(lost.any(axis=0))
    trained = rows[_trained_on(ens, cross, x_test, rows)]
    if trained.size:
        first = t[np.flatnonzero(lost[:, trained].any(axis=1))].min()
        raise ValueError(
            f"The predictive variance must be positive; got 0 to working precision from t = {first:.4g} on for "
            f"{_listed(trained)} of `x_test`, which are inputs trained on: at the end of training they have none, and "
            "what their outputs say is infinite. Leave them out, or use earlier times."
        )
    first = t[lost.any(axis=1)].min()
    warnings.warn(
        f"The predictive variance of {_listed(rows)} of `x_test` is below its rounding error from t = {first:.4g} on, "
        "and is taken for as large as that: `output_divergence` may be too small there."
        + ("" if values.dtype == np.float64 else " Compute in float64."),
        stacklevel=3,
    )


def _judge_features(ens: FeatureEnsemble, cross, t: np.ndarray, values: np.ndarray) -> None:
    """`judge` of a kernel of few features: training ends with a variance of 0 wherever inputs have features seen."""
    if (values > 0).all():
        return
    time, row = np.argwhere(~(values > 0))[0]
    prior = np.asarray(cross.prior) if cross.prior.ndim == 1 else np.diagonal(np.asarray(cross.prior))
    if not prior[row] > 0:
        raise ValueError(
            f"The predictive variance must be positive; got 0 for row {row} of `x_test`, whose features are all 0: "
            "there it is 0 before training. Leave such inputs out."
        )
    rows = _listed(np.flatnonzero(~(values > 0).all(axis=0)))
    raise ValueError(
        f"The predictive variance must be positive; got 0 from t = {t[time]:.4g} on for {rows} of `x_test`: the "
        f"{ens.rank} directions of features that training inputs have are all learned by then, and what outputs say of "
        "these inputs is infinite. Use earlier times."
    )


def _listed(rows):
    """Their numbers in words; of many the first few."""
    shown = ", ".join(map(str, rows[:5])) + (f", ... ({len(rows)} rows)" if len(rows) > 5 else "")
    return f"row {shown}" if len(rows) == 1 else f"rows {shown}"


def _trained_on(ens, cross, x_test, rows):
    """Which rows are training inputs: equal to one or, where only kernels are known, at no distance from one."""
    if x_test is not None:
        # Adding zero makes -0 and 0 the same bytes.
        known = {row.tobytes() for row in np.asarray(ens.x) + 0.0}
        return np.array([row.tobytes() in known for row in np.asarray(x_test)[rows] + 0.0])
    u, prior = np.asarray(ens.eigenvectors), np.asarray(cross.prior)
    own = prior[rows] if prior.ndim == 1 else np.diagonal(prior)[rows]
    training = np.sum((u @ np.asarray(ens.nngp_rotated)) * u, axis=1)
    distance = own[:, None] + training[None, :] - 2 * np.asarray(cross.nngp)[rows] @ u.T
    rounding = 8 * np.finfo(own.dtype).eps * (own[:, None] + training[None, :])
    return (distance <= rounding).any(axis=1)
