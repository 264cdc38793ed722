"""Every quantity of a `KrylovEnsemble` over a range of training times, each with its error."""

import os
import warnings
from typing import Any

import numpy as np
from jax import Array

from ntkinfo._common import check
from ntkinfo.ensemble import KrylovEnsemble, Prediction
from ntkinfo.information import _geometry, _krylov


def fields(
    ens: KrylovEnsemble,
    x_test: Array,
    t: Array,
    targets: Array,
    classes: np.ndarray | None,
    noise: float,
    *,
    batch_size: int | None,
    max_steps: int | None,
    checkpoint: str | os.PathLike | None,
) -> tuple[Prediction, dict[str, Any]]:
    """The prediction at the test inputs and every field of a `Curve` that does not depend on how z is drawn.

    Warns:
      UserWarning: variances that their errors do not tell from zero.
    """
    folder = None if checkpoint is None else check.path("checkpoint", checkpoint)
    z = ens.predict(
        x_test, t, batch_size=batch_size, max_steps=max_steps,
        checkpoint=None if folder is None else folder / "predictions",
    )  # fmt: skip
    unknown = _krylov.unresolved(z)
    if unknown.any():
        rows = np.flatnonzero(unknown.any(axis=0))
        warnings.warn(
            f"{int(unknown.sum())} of {unknown.size} predictive variances ({len(rows)} of {len(x_test)} test inputs, "
            f"from t = {np.asarray(t)[unknown.any(axis=1)].min():.4g} on) are no larger than their errors, and are "
            "taken for as large as those: informations and divergences there have no finite error. Take a smaller "
            '`tolerance` in `Ensemble.fit`, earlier times, or engine="dense"; leave out inputs that were trained on.',
            stacklevel=3,
        )
    sums = ens.default_sums if folder is None else ens.spectral_sums(checkpoint=folder / "sums")
    train_gibbs, train_mean = sums.training_losses(t)
    return z, {
        "output_divergence": _krylov.divergence(ens, x_test, z),
        "output_divergence_joint": None,
        "parameter_distance": _geometry.parameter_distance(sums, t),
        "action": _geometry.action(sums, t),
        "fisher_action": _geometry.action(sums, t, metric="fisher"),
        "fisher_trace": _geometry.fisher_trace(sums),
        "losses": _krylov.losses(z, targets, classes, noise),
        "train_gibbs_mse": train_gibbs,
        "train_mean_mse": train_mean,
    }
