"""One variational bottleneck, trained: `fit` and what it returns."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, compiling, pickling, pytree, tables
from ntkinfo._common import data as _data
from ntkinfo._common import progress as progress_bar
from ntkinfo._common.checkpoint import Checkpoint
from ntkinfo._common.errors import DivergedError
from ntkinfo.networks import Network
from ntkinfo.variational import _objectives, _predict, _stored, _training_loop, _validate
from ntkinfo.variational._objectives import Spec
from ntkinfo.variational._validate import Inputs, Labels, TestInputs, TestLabels
from ntkinfo.variational.label_noise import LabelNoise


@pytree.dataclass()
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
      dual: E KL[q(y|z) ‖ p̃(y|x)]; 0 where the objective has none, (T,).
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

    _table = tables.Table(
        ("step",),
        nats="loss rate residual cross_entropy dual i_xz_lower i_xz_upper test_loss test_cross_entropy",
        plain="beta gamma error test_error",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


@pytree.dataclass("model")
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
    model: Spec

    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def to_dataframe(self, *, unit: str = "nats"):
        """The history of the fit, a row per record; see `History`.

        Args:
          unit: "nats" or "bits".

        Raises:
          ValueError: an unknown unit.
        """
        return self.history.to_dataframe(unit=unit)

    _to_stored = _stored.to_stored
    _from_stored = classmethod(_stored.from_stored)

    def __reduce_ex__(self, protocol):
        functions = [each for net in (self.model.encoder, self.model.decoder) for each in (net.init, net.apply)]
        return pickling.reduce(self, protocol, tuple(functions), _stored.REMEDY)

    def encode(self, x: Inputs) -> tuple[Float[Array, "n latent"], Float[Array, "n latent"]] | Float[Array, "n latent"]:
        """p(z|x): mean and log standard deviation, each (n, latent); of categorical Z log probabilities (n, K).

        Raises:
          TypeError, ValueError: inputs that are no finite numbers, or not of the kind trained on.
        """
        return _encode(self.model, self.params, _validate.read_inputs(self.model, self.params, x))

    def decode(self, z: Float[ArrayLike, "n latent"]) -> Float[Array, "n k"]:
        """q(y|z) for rows z (n, latent): log probabilities (n, classes), or the mean of y (n, k).

        Of categorical Z, z are rows of a unit matrix.

        Raises:
          TypeError, ValueError: z that are no finite numbers, or have another dimension.
        """
        z = check.array("z", z, 2)
        if z.shape[1] != self.model.latent:
            raise ValueError(f"`z` must have rows of {self.model.latent} numbers, as `latent`; got shape {z.shape}.")
        return _decode(self.model, self.params, z)

    def predict(self, x: Inputs, *, key: Array, samples: int = 16) -> Float[Array, "n k"]:
        """q(y|x) averaged over draws of z, (n, classes), or the mean of y (n, k). An estimate; exact for categories.

        Raises:
          TypeError, ValueError: as `encode`; a key that is none, `samples` below 1.
        """
        check.key("key", key)
        x = _validate.read_inputs(self.model, self.params, x)
        return _predicted(self.model, self.params, x, key, check.integer("samples", samples))


# One program each, in place of one for every operation.
_encode = compiling.jit(_objectives.encode, static_argnums=0)
_decode = compiling.jit(_objectives.decode, static_argnums=0)
_predicted = compiling.jit(_predict.predict, static_argnums=(0, 4))


def fit(
    x: Inputs | Any,
    y: Labels | None = None,
    *,
    objective: str = "vib",
    beta: float | Float[ArrayLike, ""] | Callable,
    gamma: float | Float[ArrayLike, ""] | Callable | None = None,
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
    x_test: TestInputs | None = None,
    y_test: TestLabels | None = None,
    early_stopping: int | None = None,
    record: int = 40,
    checkpoint: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> VariationalFit:
    """Trains an encoder p(z|x) with decoder q(y|z) on a variational bottleneck; everything in nats.

        L = E[log p(z|x) - log b] + β E[-log q(y|z)] + γ E KL[q(y|z) ‖ p̃(y|x)]

    "vib": b = b(z), γ = 0. "ceb": b = b(z|y), γ = 0. "dual": γ > 0, b by `prior`, β = 0 for the pure dual. What the
    best encoder, decoder and b of unlimited capacity reach, with F(β) = min I(X;Z) + β E D of `bottleneck.ib` and
    `bottleneck.dual_ib`:

        VIB           min L = F_ib(β) + β H(Y|X)
        CEB           min L = F_ib(β+1) - (β+1) I(X;Y) + β H(Y): CEB at β is IB at β + 1
        dual, β = 0   min L = F_dual(γ), with a prior b(z) only

    Args:
      x: inputs (n, ...), floating point; parameters have their dtype. Or a `Dataset`: its classes (of a regression its
        targets, which set `task`) and its test rows are taken.
      y: integer classes (n,), or the distribution of each row's label (n, classes); for regression targets (n, k),
        or (n,) for one output.
      objective: "vib", "ceb" or "dual".
      beta: β ≥ 0, or a function of the step (an optax schedule) for annealing. It multiplies the cross-entropy: the β
        of the VIB paper multiplies the rate, and is the inverse. Under "vib" a β of at most 1 trains to nothing.
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

    Warns:
      UserWarning: "vib" with β of at most 1 at every step, for which a Z independent of x is optimal.

    Source: theory, section 8; Alemi et al. 2017 (arXiv 1612.00410); Fischer 2020 (arXiv 2002.05379); Piran, Shwartz-Ziv
    & Tishby 2020 (arXiv 2006.04641).

    Example:
      >>> data = ni.datasets.digits(1000, task="classes")
      >>> trained = fit(data.x_train, data.labels_train, beta=10.0, key=jax.random.key(0), steps=200)
      >>> measured = ni.variational.measure(trained, data.x_test, data.labels_test, key=jax.random.key(1))
      >>> bool(measured.error < 0.2)
      True
    """
    check.on_host(locals())
    if _data.is_dataset(x):
        task = "regression" if getattr(x, "task", None) == "regression" else task
    x, y, x_test, y_test = _data.labelled(x, y, x_test, y_test)
    check.flag("progress", progress, none=True)
    if checkpoint is not None:
        checkpoint = check.path("checkpoint", checkpoint)
    rows, test = _validate.read_rows(x, y, x_test, y_test, task)
    plan = make_plan(
        rows, test, objective=objective, beta=beta, gamma=gamma, key=key, encoder=encoder, latent=latent,
        latent_kind=latent_kind, decoder=decoder, prior=prior, label_noise=label_noise, task=task, optimizer=optimizer,
        learning_rate=learning_rate, steps=steps, batch_size=batch_size, samples=samples, early_stopping=early_stopping,
        record=record,
    )  # fmt: skip
    folder = None if checkpoint is None else Checkpoint(checkpoint, plan.arguments())
    with progress_bar.bar(total=plan.steps, desc="variational", unit="step", progress=progress) as bar:
        trained = plan.train(folder, bar.update)
    result = result_of(plan.spec, trained, 0, plan.betas[0], plan.gammas[0])
    failed = int(trained.state.failed[0])
    if failed >= 0:
        raise DivergedError(
            f"Training must stay finite; loss or parameters were not at step {failed} of {plan.steps}. `error.fit` is "
            "the last good state. Lower `learning_rate` or `beta`, clip the gradient (`optax.clip_by_global_norm`) or "
            "scale `x`.",
            step=failed,
            fit=result,
        )
    return result


class Plan(NamedTuple):
    """A fit, or several side by side, ready to be trained: what is fixed, the rows, and a row of everything for each.

    Attributes:
      spec: objective, networks, sizes.
      optimizer: optax's transformation, and the rate of its updates.
      batch: rows of a step, None for all.
      data: rows to fit.
      test: rows to test on, or None.
      keys: random keys, (fits, ...).
      betas: β at every step, (fits, steps).
      gammas: γ at every step, (fits, steps).
      record: number of records.
      patience: of early stopping, or None.
    """

    spec: Spec
    optimizer: _training_loop.Optimizer
    batch: int | None
    data: _training_loop.Data
    test: _training_loop.Data | None
    keys: Array
    betas: np.ndarray
    gammas: np.ndarray
    record: int
    patience: int | None

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return self.betas.shape[1]

    def arguments(self) -> dict[str, str]:
        """What must be the same for a run to go on where another stopped."""
        return _validate.arguments(*self[:-1]) | {"early_stopping": str(self.patience)}

    def train(self, folder: Checkpoint | None, tick: Callable) -> _training_loop.Trained:
        """Trains; `folder` keeps the state at every record, `tick` is told of steps done."""
        return _training_loop.train(
            self.spec, self.optimizer, self.data, self.test, self.keys, self.betas, self.gammas, records=self.record,
            batch=self.batch, patience=self.patience, folder=folder, name="state", tick=tick,
        )  # fmt: skip


def make_plan(
    rows, test, *, objective, beta, gamma, key, label_noise, optimizer, learning_rate, steps, batch_size,
    early_stopping, record, **options,
) -> Plan:  # fmt: skip
    """One fit of rows already read; `options` are those of `_validate.build`."""
    spec = _validate.build(rows, objective=objective, **options)
    _validate.check_gamma(objective, gamma)
    data, test = _validate.with_noise(spec, label_noise, rows, test)
    steps, record = check.integer("steps", steps), check.integer("record", record)
    betas = _validate.coefficients("beta", beta, steps)[None]
    gammas = _validate.coefficients("gamma", 0.0 if gamma is None else gamma, steps)[None]
    if objective == "dual" and not (gammas > 0).any():
        raise ValueError("`gamma` must be positive for the dual objective; got 0 at every step. Or choose 'vib'.")
    if not (betas > 0).any() and not (gammas > 0).any():
        raise ValueError("`beta` must be positive at some step, or nothing is to be learned; got 0 at every step.")
    _validate.warn_trivial(objective, betas)
    transformation = _validate.optimiser(optimizer, learning_rate)
    batch = _validate.rows_of_a_step(batch_size, len(data.x))
    if early_stopping is not None:
        early_stopping = check.integer("early_stopping", early_stopping)
        if test is None:
            raise ValueError("`early_stopping` judges by the test loss: it needs `x_test` and `y_test`.")
    check.key("key", key)
    return Plan(spec, transformation, batch, data, test, jnp.stack([key]), betas, gammas, record, early_stopping)


def result_of(spec: Spec, trained: _training_loop.Trained, i: int, betas, gammas) -> VariationalFit:
    """Fit i of those trained side by side."""
    kept = trained.state.params if trained.best is None else trained.best.params
    records = {name: jnp.asarray(value[i]) for name, value in trained.records.items()}
    divergence = records.pop("divergence")
    backward = spec.prior == "backward"
    history = History(
        rate=None if backward else divergence,
        residual=divergence if backward else None,
        **{name: records.get(name) for name in History.__dataclass_fields__ if name not in ("rate", "residual")},
    )
    failed = int(trained.state.failed[i])
    last = trained.records["step"][i, -1] if failed < 0 else failed
    step = last if trained.best is None else trained.best.step[i]
    # On the host: elsewhere every shape of a parameter is a program.
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[i]), kept)
    return VariationalFit(params, history, jnp.asarray(betas[-1]), jnp.asarray(gammas[-1]), jnp.asarray(step), spec)
