"""One variational bottleneck, trained: `fit`, what it returns, and what it raises where training diverges."""

import dataclasses
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from tqdm import tqdm

from ntkinfo._common import check
from ntkinfo._common import checkpoint as _checkpoint
from ntkinfo.networks import Network
from ntkinfo.variational import _objectives, _predict, _training_loop, _validate
from ntkinfo.variational._objectives import Model
from ntkinfo.variational.label_noise import LabelNoise

# A bar appears for work longer than this many seconds.
_PATIENCE = 3.0


def _dataclass(*static):
    def register(cls):
        names = [field.name for field in dataclasses.fields(cls)]
        data = [name for name in names if name not in static]
        return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))

    return register


@_dataclass()
@dataclasses.dataclass(frozen=True)
class History:
    """A fit over its training; arrays over T records, in nats. What is sampled has one draw of z for each row.

    Attributes:
      step: steps done, 0 is before training, (T,).
      beta: β in force, (T,).
      gamma: γ in force, (T,).
      loss: L over the training rows with them, (T,).
      rate: E[log p(z|x) - log b(z)], an upper bound on I(X;Z); None with a backward encoder, (T,).
      residual: E[log p(z|x) - log b(z|y)], an upper bound on I(X;Z|Y), not on I(X;Z); None with a prior, (T,).
      cross_entropy: E[-log q(y|z)], an upper bound on H(Y|Z), (T,).
      dual: E KL[q(y|z) || p̃(y|x)]; 0 where the objective has none, (T,).
      error: 0-1 error of the training rows, or mean squared error, (T,).
      i_xz_lower: InfoNCE, lower bound on I(X;Z), on up to 512 training rows, whose logarithm is its ceiling, (T,).
      i_xz_upper: leave-one-out upper bound on I(X;Z) from the same rows, (T,).
      test_loss: L over the test rows with the last β and γ, (T,); None without test rows, as the next two.
      test_cross_entropy: (T,).
      test_error: (T,).
    """

    step: Array
    beta: Array
    gamma: Array
    loss: Array
    rate: Array | None
    residual: Array | None
    cross_entropy: Array
    dual: Array
    error: Array
    i_xz_lower: Array
    i_xz_upper: Array
    test_loss: Array | None
    test_cross_entropy: Array | None
    test_error: Array | None


@_dataclass("model")
@dataclasses.dataclass(frozen=True)
class VariationalFit:
    """A trained variational bottleneck; a pytree.

    Attributes:
      params: "encoder", "decoder", and where they are learned "prior" and (regression) "log_std" of the decoder.
      history: what happened.
      beta: β of the last step.
      gamma: γ of the last step.
      step: the step after which these parameters were: the last, or the best under early stopping.
      model: what is not an array: objective, networks, sizes.
    """

    params: dict
    history: History
    beta: Array
    gamma: Array
    step: Array
    model: Model

    def encode(self, x) -> tuple[Array, Array] | Array:
        """p(z|x): mean and log standard deviation, each (n, latent); of categorical Z log probabilities (n, K)."""
        return _objectives.encode(self.model, self.params, jnp.asarray(x))

    def decode(self, z) -> Array:
        """q(y|z) for rows z (n, latent): log probabilities (n, classes), or the mean of y (n, k)."""
        return _objectives.decode(self.model, self.params, jnp.asarray(z))

    def predict(self, x, *, key: Array, samples: int = 16) -> Array:
        """q(y|x) averaged over draws of z, (n, classes), or the mean of y (n, k). An estimate; exact for categories."""
        return _predict.predict(self.model, self.params, jnp.asarray(x), key, check.integer("samples", samples))


class DivergedError(ValueError):
    """Training diverged. `step` (from 0) says where, `fit` is the last good state with the history before it."""

    def __init__(self, message: str, step: int, fit: VariationalFit):
        super().__init__(message)
        self.step = step
        self.fit = fit


def fit(
    x,
    y,
    *,
    objective: str = "vib",
    beta: float | Callable,
    gamma: float | Callable | None = None,
    key: Array,
    encoder: Network | None = None,
    latent: int = 8,
    latent_kind: str = "gaussian",
    decoder: Network | None = None,
    prior: str | None = None,
    label_noise: LabelNoise | None = None,
    task: str = "classes",
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float = 1e-3,
    steps: int = 2000,
    batch_size: int | None = 128,
    samples: int = 1,
    x_test=None,
    y_test=None,
    early_stopping: int | None = None,
    record: int = 40,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> VariationalFit:
    """Trains an encoder p(z|x) with decoder q(y|z) on a variational bottleneck; everything in nats.

        L = E[log p(z|x) - log b] + β E[-log q(y|z)] + γ E KL[q(y|z) || p̃(y|x)]

    "vib": b = b(z), γ = 0. "ceb": b = b(z|y), γ = 0. "dual": γ > 0, b by `prior`, β = 0 for the pure dual. What the
    best encoder, decoder and b of unlimited capacity reach, with F(β) = min I(X;Z) + β E D of `bottleneck.ib` and
    `bottleneck.dual_ib`:

        VIB           min L = F_ib(β) + β H(Y|X)
        CEB           min L = F_ib(β+1) - (β+1) I(X;Y) + β H(Y): CEB at β is IB at β + 1
        dual, β = 0   min L = F_dual(γ), with a prior b(z) only

    Args:
      x: inputs (n, ...), floating point; parameters have their dtype.
      y: integer classes (n,), or the distribution of each row's label (n, classes); for regression targets (n, k).
      objective: "vib", "ceb" or "dual".
      beta: β ≥ 0, or a function of the step (an optax schedule) for annealing.
      gamma: γ, likewise; for "dual" only, where it is required.
      key: random key, of the first parameters, batches and draws of z.
      encoder: an (init, apply) pair with `init(key, x) -> params` and `apply(params, x)` of 2 `latent` outputs (mean
        and log standard deviation of Z), or `latent` logits of a categorical Z; see `encoders` for those of Flax,
        Equinox and stax. None: `encoders.mlp` for vectors, `encoders.conv` for images (n, h, w) or (n, h, w, c).
      latent: dimension of Z, or the number of its values.
      latent_kind: "gaussian" (diagonal covariance) or "categorical", for which every expectation over z is a sum.
      decoder: pair from z (a unit vector, if categorical) to logits, or to the mean of y, whose standard deviations are
        learned. None: affine, for which regression needs no draws of z.
      prior: "learned" or "fixed" (N(0, I), or uniform) for b(z), "backward" for b(z|y), affine in y. None: "learned";
        for "ceb" only "backward" makes sense, for "vib" only the others.
      label_noise: p̃(y|x) of the dual, from `label_noise`; None takes y as it is, which for classes must be positive.
      task: "classes" or "regression".
      optimizer: any of optax; None is Adam.
      learning_rate: of Adam.
      steps: of the optimiser.
      batch_size: rows of a step, drawn independently each time; None for all rows.
      samples: draws of z for each row, where needed.
      x_test: test rows, for the history and early stopping.
      y_test: their labels.
      early_stopping: stop after so many records without a lower test loss, and keep the best state; None never.
      record: number of records of the history, besides that before training.
      checkpoint: a folder for the state at each record; the same call goes on from it, bit for bit.
      progress: whether to show a bar; None shows it for work longer than three seconds.

    Returns:
      A `VariationalFit`.

    Raises:
      TypeError: arguments of a wrong kind.
      ValueError: labels that are no classes, β or γ negative, zeros in p̃ under the dual, encoder or decoder outputs
        that do not fit, shapes that do not.
      DivergedError: a loss or parameter that is not finite; its `step` and `fit` say where and what was before.

    Source: theory, section 8; Alemi et al. 2017 (arXiv 1612.00410); Fischer 2020 (arXiv 2002.05379); Piran, Shwartz-Ziv
    & Tishby 2020 (arXiv 2006.04641).

    Example:
      >>> data = ni.datasets.digits(1000, task="classes")
      >>> found = fit(data.x_train, data.labels_train, beta=10.0, key=jax.random.key(0), steps=500)
      >>> ni.variational.measure(found, data.x_test, data.labels_test, key=jax.random.key(1)).error
    """
    if objective in _objectives.OBJECTIVES:
        _validate.gamma_of(objective, gamma)
    settings = dict(
        objective=objective, encoder=encoder, latent=latent, latent_kind=latent_kind, decoder=decoder, prior=prior,
        task=task, samples=samples,
    )  # fmt: skip
    model, data, test = _validate.prepare(x, y, x_test, y_test, label_noise, **settings)
    steps, record = check.integer("steps", steps), check.integer("record", record)
    betas = _validate.coefficients("beta", beta, steps)[None]
    gammas = _validate.coefficients("gamma", 0.0 if gamma is None else gamma, steps)[None]
    if objective == "dual" and not (gammas > 0).any():
        raise ValueError("`gamma` must be positive for the dual objective; got 0 at every step. Or choose 'vib'.")
    if not (betas > 0).any() and not (gammas > 0).any():
        raise ValueError("`beta` must be positive at some step, or nothing is to be learned; got 0 at every step.")
    rule = _validate.optimiser(optimizer, learning_rate)
    batch = _validate.batch_of(batch_size, len(data.x))
    if early_stopping is not None:
        early_stopping = check.integer("early_stopping", early_stopping)
        if test is None:
            raise ValueError("`early_stopping` judges by the test loss: it needs `x_test` and `y_test`.")
    keys = jnp.stack([key])
    folder = None
    if checkpoint is not None:
        names = _validate.arguments(model, rule, batch, data, test, keys, betas, gammas, record)
        folder = _checkpoint.Checkpoint(checkpoint, names | {"early_stopping": str(early_stopping)})
    with bar(steps, "variational", progress) as shown:
        trained = _training_loop.train(
            model, rule, data, test, keys, betas, gammas, records=record, batch=batch, patience=early_stopping,
            folder=folder, name="state", tick=shown.update,
        )  # fmt: skip
    found = lane(model, trained, 0, betas[0], gammas[0])
    failed = int(trained.state.failed[0])
    if failed >= 0:
        raise DivergedError(
            f"Training must stay finite; loss or parameters were not at step {failed} of {steps}. `error.fit` is the "
            "last good state. Lower the learning rate, clip the gradient (`optax.clip_by_global_norm`) or scale x.",
            failed,
            found,
        )
    return found


def bar(total, what, progress):
    """A progress bar over steps."""
    return tqdm(total=total, desc=what, unit="step", disable=progress is False, delay=0.0 if progress else _PATIENCE)


def lane(model, trained, i: int, betas, gammas) -> VariationalFit:
    """One of the fits trained side by side."""
    kept = trained.state.params if trained.best is None else trained.best.params
    records = {name: jnp.asarray(value[i]) for name, value in trained.records.items()}
    divergence = records.pop("divergence")
    backward = model.prior == "backward"
    history = History(
        rate=None if backward else divergence,
        residual=divergence if backward else None,
        **{name: records.get(name) for name in History.__dataclass_fields__ if name not in ("rate", "residual")},
    )
    failed = int(trained.state.failed[i])
    last = trained.records["step"][i, -1] if failed < 0 else failed
    step = last if trained.best is None else trained.best.step[i]
    params = jax.tree.map(lambda leaf: leaf[i], kept)
    return VariationalFit(params, history, jnp.asarray(betas[-1]), jnp.asarray(gammas[-1]), jnp.asarray(step), model)
