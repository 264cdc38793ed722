"""Many variational fits: over β, objectives and seeds side by side, and over training-set sizes."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo.variational import _fit, _objectives, _training_loop, _validate, label_noise
from ntkinfo.variational._measure import measure

# A bar appears for work longer than this many seconds.
_PATIENCE = 3.0
MEASURED = (
    "rate",
    "residual",
    "i_xz_lower",
    "i_xz_upper",
    "cross_entropy",
    "i_yz_lower",
    "error",
    "log_loss",
    "calibration_error",
    "brier",
)


@dataclasses.dataclass(frozen=True)
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


jax.tree_util.register_dataclass(
    Sweep,
    data_fields=[field.name for field in dataclasses.fields(Sweep) if field.name != "objectives"],
    meta_fields=["objectives"],
)


def sweep(
    x,
    y,
    *,
    betas,
    key: Array,
    names=("vib", "ceb", "dual"),
    seeds: int = 1,
    x_test=None,
    y_test=None,
    noise=None,
    dual_prior: str = "learned",
    dual_beta: float = 0.0,
    encoder=None,
    decoder=None,
    latent: int = 8,
    latent_kind: str = "gaussian",
    optimizer=None,
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
      x: inputs, (n, ...).
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

    Source: theory, section 8; the thesis (arXiv 2202.06749), chapter 4; arXiv 2006.04641.
    """
    check.key(key)
    host = np.asarray(check.array("betas", np.asarray(betas, float), 1))
    check.positive("betas", host)
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check.option("names", name, _objectives.OBJECTIVES)
    seeds, steps = check.integer("seeds", seeds), check.integer("steps", steps)
    check.positive("dual_beta", dual_beta, zero=True)
    rule = _validate.optimiser(optimizer, learning_rate)
    each_key = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(seeds))
    keys, trade = jnp.tile(each_key, (len(host),) + (1,) * (each_key.ndim - 1)), np.repeat(host, seeds)
    results = []
    with _fit.bar(steps * len(names), "variational sweep", progress) as shown:
        for name in names:
            dual = name == "dual"
            of_dual = (label_noise.smoothing(0.1) if noise is None else noise) if dual else None
            model, data, test = _validate.prepare(
                x, y, x_test, y_test, of_dual, objective=name, encoder=encoder, latent=latent, latent_kind=latent_kind,
                decoder=decoder, prior=dual_prior if dual else None, task="classes", samples=samples,
            )  # fmt: skip
            batch = _validate.batch_of(batch_size, len(data.x))
            beta = np.repeat((dual_beta * trade if dual else trade)[:, None], steps, 1)
            gamma = np.repeat((trade if dual else 0 * trade)[:, None], steps, 1)
            folder = None
            if checkpoint is not None:
                named = _validate.arguments(model, rule, batch, data, test, keys, beta, gamma, record)
                folder = _checkpoint.Checkpoint(os.path.join(checkpoint, name), named)
            trained = _training_loop.train(
                model, rule, data, test, keys, beta, gamma, records=check.integer("record", record), batch=batch,
                patience=None, folder=folder, name="state", tick=shown.update,
            )  # fmt: skip
            of_measure = jax.random.fold_in(key, seeds)
            results.append(_measured(model, trained, beta, gamma, data, test, of_measure))
    shape = (len(names), len(host), seeds)
    stacked = {name: jnp.asarray([one[name] for one in results]) for name in results[0]}
    single = {name: stacked.pop(name)[0] for name in ("ceiling", "label_entropy", "step")}
    flat = {name: value.reshape(*shape, *value.shape[2:]) for name, value in stacked.items()}
    return Sweep(
        beta=jnp.asarray(host),
        objectives=names,
        **single,
        **flat,
    )


def _measured(model, trained, beta, gamma, data, test, key) -> dict[str, np.ndarray]:
    """What is measured of every lane, by name."""
    rows = data if test is None else test
    each = [measure(_fit.lane(model, trained, i, beta[i], gamma[i]), rows.x, rows.y, key=key) for i in range(len(beta))]
    found = {
        name: np.array([np.nan if getattr(one, name) is None else float(getattr(one, name)) for one in each])
        for name in MEASURED
    }
    p = np.mean(np.asarray(data.y, np.float64), axis=0)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1)))
    return found | {
        "ceiling": np.asarray(each[0].ceiling),
        "label_entropy": np.asarray(each[0].label_entropy),
        "step": trained.records["step"][0],
        "i_xz": trained.records["i_xz_lower"],
        "i_yz": entropy - trained.records["cross_entropy"],
        "failed": np.asarray(trained.state.failed),
    }
