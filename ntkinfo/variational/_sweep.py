"""Many variational fits: over trade-offs, objectives and seeds, those of one objective side by side."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, pytree, tables
from ntkinfo._common import data as _data
from ntkinfo._common import progress as progress_bar
from ntkinfo._common.checkpoint import Checkpoint
from ntkinfo.networks import Network
from ntkinfo.variational import _fit, _objectives, _validate, label_noise
from ntkinfo.variational._measure import Measurement, label_entropy_of, measure_rows
from ntkinfo.variational._validate import Inputs, Labels, TestInputs, TestLabels
from ntkinfo.variational.label_noise import LabelNoise


@pytree.dataclass("objectives")
class Sweep:
    """Fits over O objectives, B trade-offs and S seeds, each at its end; nats. A pytree; made by `sweep`.

    What a field bounds is said in `Measurement`; they are of the test rows, or of the training rows without any. NaN
    stands where a field does not exist (the rate of a backward encoder, the residual of a prior).

    Attributes:
      beta: (B,); of the dual it is γ.
      rate, residual, i_xz_lower, i_xz_upper, cross_entropy, i_yz_lower, error, log_loss, calibration_error, brier:
        (O, B, S).
      ceiling: log of the number of rows the bounds on I(X;Z) saw.
      label_entropy: H(Y) of the rows measured.
      step: recorded steps, (T,).
      i_xz: InfoNCE on the training rows during training, (O, B, S, T).
      i_yz: H(Y) - cross-entropy there, (O, B, S, T).
      failed: the first step with a loss that was not finite, -1 for none, (O, B, S); such fits are measured at their
        last good state.
      objectives: names, (O,).
    """

    beta: Array
    rate: Array
    residual: Array
    i_xz_lower: Array
    i_xz_upper: Array
    cross_entropy: Array
    i_yz_lower: Array
    error: Array
    log_loss: Array
    calibration_error: Array
    brier: Array
    ceiling: Array
    label_entropy: Array
    step: Array
    i_xz: Array
    i_yz: Array
    failed: Array
    objectives: tuple[str, ...]

    _table = tables.Table(
        ("objectives", "beta", "seed"),
        nats="rate residual i_xz_lower i_xz_upper cross_entropy i_yz_lower log_loss",
        plain="error calibration_error brier failed",
        totals="ceiling* label_entropy*",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


# What all fits of a sweep have in common stands in it once.
_SHARED = ("ceiling", "label_entropy")
_PER_FIT = [
    field.name
    for field in dataclasses.fields(Measurement)  # pyright: ignore
    if field.name in Sweep.__dataclass_fields__ and field.name not in _SHARED
]


def sweep(
    x: Inputs | Any,
    y: Labels | None = None,
    *,
    betas: Float[ArrayLike, " b"] | Sequence[float],
    key: Array,
    names: str | Sequence[str] = ("vib", "ceb", "dual"),
    seeds: int = 1,
    x_test: TestInputs | None = None,
    y_test: TestLabels | None = None,
    noise: LabelNoise | None = None,
    dual_prior: str = "learned",
    dual_beta: float = 0.0,
    encoder: Network | None = None,
    decoder: Network | None = None,
    latent: int = 8,
    latent_kind: str = "gaussian",
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float = 1e-3,
    steps: int = 2000,
    batch_size: int | None = 128,
    samples: int = 1,
    record: int = 40,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Sweep:
    """Fits every objective at every trade-off, all of one objective side by side in one compiled program.

    For "vib" and "ceb" the trade-off is β; for "dual" it is γ, with β = `dual_beta` times it.

    Args:
      x: inputs, (n, ...); or a `Dataset`, whose classes and test rows are taken.
      y: classes, as for `fit`.
      betas: trade-offs, (B,), positive.
      key: random key; fits of the same seed and trade-off share it across objectives.
      names: objectives, out of "vib", "ceb" and "dual".
      seeds: S.
      x_test: rows to measure on; None measures on the training rows.
      y_test: their labels.
      noise: p̃(y|x) of the dual, `label_noise` of `fit`; None takes `label_noise.smoothing(0.1)`.
      dual_prior: `prior` of the dual: "learned", "fixed" or "backward".
      dual_beta: β of the dual over its γ; 0 is the pure dual.
      encoder: as for `fit`, and so all that follow.
      decoder: as for `fit`.
      latent: as for `fit`.
      latent_kind: as for `fit`.
      optimizer: as for `fit`.
      learning_rate: as for `fit`.
      steps: as for `fit`.
      batch_size: as for `fit`.
      samples: as for `fit`.
      record: as for `fit`.
      checkpoint: a folder for the state of each objective at each record; the same call goes on from it.
      progress: whether to show a bar over steps; None shows it for work longer than three seconds.

    Returns:
      A `Sweep`.

    Raises:
      TypeError, ValueError: as `fit`; no trade-offs, or not positive.

    Warns:
      UserWarning: fits that diverged.

    Source: theory, section 8; the thesis (arXiv 2202.06749), chapter 4; arXiv 2006.04641.
    """
    check.on_host(locals())
    x, y, x_test, y_test = _data.labelled(x, y, x_test, y_test)
    check.key("key", key)
    check.flag("progress", progress, none=True)
    if checkpoint is not None:
        checkpoint = check.path("checkpoint", checkpoint)
    check.positive("betas", betas)
    host = np.asarray(check.array("betas", np.asarray(check.values("betas", betas), float), 1))
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, list | tuple) or not names:
        raise TypeError(f"`names` must be objectives out of {_objectives.OBJECTIVES}; got {check.described(names)}.")
    names = tuple(names)
    for name in names:
        check.option("names", name, _objectives.OBJECTIVES)
    seeds, steps = check.integer("seeds", seeds), check.integer("steps", steps)
    check.option("dual_prior", dual_prior, _objectives.PRIORS)
    if noise is not None:
        check.instance("noise", noise, LabelNoise, maker="`variational.label_noise.smoothing`")
    check.positive("dual_beta", dual_beta, zero=True, scalar=True)
    _validate.warn_trivial("vib" if "vib" in names else "", host)
    transformation = _validate.optimiser(optimizer, learning_rate)
    record = check.integer("record", record)
    rows, test_rows = _validate.read_rows(x, y, x_test, y_test, "classes")
    batch = _validate.rows_of_a_step(batch_size, len(rows.x))
    seed_keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(seeds))
    keys, trade_off = jnp.tile(seed_keys, (len(host),) + (1,) * (seed_keys.ndim - 1)), np.repeat(host, seeds)
    key_measure = jax.random.fold_in(key, seeds)
    measured = []
    with progress_bar.bar(
        total=steps * len(names), desc="variational sweep", unit="step", progress=progress
    ) as bar:  # fmt: skip
        for name in names:
            dual = name == "dual"
            spec = _validate.build(
                rows, objective=name, encoder=encoder, latent=latent, latent_kind=latent_kind, decoder=decoder,
                prior=dual_prior if dual else None, task="classes", samples=samples,
            )  # fmt: skip
            model_of_noise = (label_noise.smoothing(0.1) if noise is None else noise) if dual else None
            data, test = _validate.with_noise(spec, model_of_noise, rows, test_rows)
            betas = np.repeat((dual_beta * trade_off if dual else trade_off)[:, None], steps, 1)
            gammas = np.repeat((trade_off if dual else 0 * trade_off)[:, None], steps, 1)
            plan = _fit.Plan(spec, transformation, batch, data, test, keys, betas, gammas, record, None)
            folder = None if checkpoint is None else Checkpoint(os.path.join(checkpoint, name), plan.arguments())
            measured.append(_measured(plan, folder, bar.update, test_rows or rows, key_measure))
    shape = (len(names), len(host), seeds)
    stacked = {name: jnp.asarray([values[name] for values in measured]) for name in measured[0]}
    shared = {name: stacked.pop(name)[0] for name in (*_SHARED, "step")}
    per_fit = {name: value.reshape(*shape, *value.shape[2:]) for name, value in stacked.items()}
    diverged = int((np.asarray(per_fit["failed"]) >= 0).sum())
    if diverged:
        warnings.warn(
            f"{diverged} of {per_fit['failed'].size} fits diverged: their `failed` is not -1, and what was measured of "
            "them says nothing. Lower `learning_rate`, or scale `x`.",
            stacklevel=2,
        )
    return Sweep(beta=jnp.asarray(host), objectives=names, **shared, **per_fit)


def _measured(
    plan: _fit.Plan, folder: Checkpoint | None, tick: Callable, rows: _validate.Rows, key: Array
) -> dict[str, np.ndarray]:
    """Trains the fits of one objective; what is measured of each on these rows, by name."""
    trained = plan.train(folder, tick)
    fits = [_fit.result_of(plan.spec, trained, i, plan.betas[i], plan.gammas[i]) for i in range(len(plan.betas))]
    measurements = [measure_rows(fit, rows, key) for fit in fits]
    per_fit = {
        name: np.array([_number(getattr(measurement, name)) for measurement in measurements]) for name in _PER_FIT
    }
    return per_fit | {
        "ceiling": np.asarray(measurements[0].ceiling),
        "label_entropy": np.asarray(measurements[0].label_entropy),
        "step": trained.records["step"][0],
        "i_xz": trained.records["i_xz_lower"],
        "i_yz": label_entropy_of(plan.data.y) - trained.records["cross_entropy"],
        "failed": np.asarray(trained.state.failed),
    }


def _number(value: Array | None) -> float:
    return np.nan if value is None else float(value)
