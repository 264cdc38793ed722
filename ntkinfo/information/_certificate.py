"""What can be guaranteed of an ensemble at a few times: the divergence of its parameters, and bounds from it."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import bounds, ensemble, kernels
from ntkinfo._common import check, data, labels, tables
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import Ensemble
from ntkinfo.information._losses import losses
from ntkinfo.information._parameter_divergence import parameter_divergence


class Certificate(NamedTuple):
    """Parameter divergence and generalization bounds over T finite times. Made by `certificate`.

    Attributes:
      t: training times, (T,).
      linear: linear part of the divergence of the parameters in nats, (T,).
      total: the divergence itself in nats, (T,); None for networks without a Hessian kernel (kinked activations).
      train_error: 0-1 error of one network on the training inputs, (T,); None for regression.
      test_error: the same on the test inputs, (T,).
      pac_bayes_kl: bound on the true 0-1 error of one network, (T,); None without `total` or classes.
      mcallester: a looser bound on the same, (T,).
      catoni: another, with a union over temperatures, (T,).
      delta: probability with which each bound may fail.
      reason: why `total` is missing, or None.
    """

    t: np.ndarray
    linear: np.ndarray
    total: np.ndarray | None
    train_error: np.ndarray | None
    test_error: np.ndarray | None
    pac_bayes_kl: np.ndarray | None
    mcallester: np.ndarray | None
    catoni: np.ndarray | None
    delta: float
    reason: str | None

    _table = tables.Table(
        ("t",),
        nats="linear total",
        plain="train_error test_error pac_bayes_kl mcallester catoni",
        totals="delta reason",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def certificate(
    ens: Ensemble,
    x_test: Float[ArrayLike, "m ..."] | Dataset,
    y_test: Float[ArrayLike, "m k"] | Float[ArrayLike, " m"] | Num[ArrayLike, "*T"] | None = None,
    t: Num[ArrayLike, "*T"] | None = None,
    *,
    delta: float = 0.05,
    task: str = "auto",
) -> Certificate:
    """The divergence of the parameters at finite times t (T,) and, for classes, the PAC-Bayes bounds it gives.

    The bounds hold for all times at once, as they do for all posteriors, under conditions that the data sets here keep
    to only nearly: a prior that does not depend on the training data (inputs are shifted and scaled by training
    statistics), and independent examples (repeated inputs are left out, and the pool is finite).

    The linear part alone gives no bound; for networks whose activation has kinks there is nothing else, and the bounds
    are left out with the reason.

    Args:
      ens: the ensemble.
      x_test: test inputs, (m, ...); or a `Dataset`, then `t`: `certificate(ens, data, t)`.
      y_test: test labels, (m, k) or (m,), floating point, coded like the labels trained on.
      t: training times, (T,) or a scalar, finite.
      delta: probability with which each bound may fail, in (0, 1).
      task: "auto", "classes" or "regression".

    Returns:
      A `Certificate`: exact divergences in nats, and upper bounds on the true 0-1 error of one network.

    Raises:
      TypeError: no ensemble; labels beside a `Dataset`.
      ValueError: infinite times, a delta outside (0, 1), inputs that do not fit, an ensemble whose kernels were learned
        from its data.

    Source: theory, sections 4 and 6.

    Example:
      >>> found = certificate(ens, x_test, y_test, [1.0, 10.0])  # or certificate(ens, data, [1.0, 10.0])
      >>> bool((found.pac_bayes_kl >= found.train_error).all())
      True
    """
    check.on_host({"x_test": x_test, "y_test": y_test, "t": t, "delta": delta})
    ens = ensemble.dense("ens", ens, "`certificate`")
    check.known("ens", ens)
    # Outputs of one example are no independent examples.
    kernels.refuse_full("ens", ens.kernel_fn)
    x_test, y_test, t = data.test_pair(x_test, y_test, t)
    if ens.prior_saw_data:
        raise ValueError(
            "`ens` must have kernels fixed before its data for a bound on the risk; they were learned from these "
            "(`prior_saw_data`). Learn them from other data."
        )
    x_test = ens.check_inputs("x_test", x_test)
    t = jnp.atleast_1d(check.times("t", t))
    check.number("delta", delta, 0, 1, ends=False)
    hessian = reason = None
    try:
        hessian = kernels.hessian(ens.kernel_fn, ens.x)
    except ValueError as error:
        if kernels.has_hessian(ens.kernel_fn):
            raise
        reason = str(error)
    divergence = parameter_divergence(ens, t, curvature=reason is None, hessian=hessian)
    total = None if divergence.total is None else np.asarray(divergence.total)
    train_error = test_error = None
    trained = labels.read("ens.y", ens.y, ens.n, task)
    read = labels.read("y_test", y_test, len(x_test), task)
    if (trained.classes is None) != (read.classes is None):
        kinds = ["numbers" if each.classes is None else "classes" for each in (read, trained)]
        raise ValueError(
            f"`y_test` must be coded like the labels trained on; got {kinds[0]} beside {kinds[1]}. Classes are ±1 or "
            'one-hot rows in both; task="regression" takes both for numbers.'
        )
    if read.classes is not None:
        train_error = np.asarray(losses(ens.predict_train(t), ens.y, task=task).gibbs_error)
        test_error = np.asarray(losses(ens.predict(x_test, t), y_test, task=task).gibbs_error)
    certified: list[np.ndarray | None] = [None, None, None]
    if total is not None and train_error is not None:
        # Rounding may leave an error a hair below zero.
        risk = np.clip(train_error, 0.0, 1.0).astype(float)
        certified = [
            bound(risk, total, n=ens.n, delta=delta)
            for bound in (bounds.pac_bayes_kl, bounds.mcallester, bounds.catoni)
        ]
    return Certificate(
        np.asarray(t), np.asarray(divergence.linear), total, train_error, test_error, *certified, delta, reason
    )
