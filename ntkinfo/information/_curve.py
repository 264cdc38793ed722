"""All quantities of an ensemble over a range of training times, in one call and one compiled program."""

import dataclasses
import functools
import os
import warnings
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import ensemble, kernels, mixture
from ntkinfo._common import check, compiling, data, labels, pytree, tables, tracing
from ntkinfo._common.quantities import QUANTITIES, catalogue, scaled
from ntkinfo._common.results import Estimate, Information
from ntkinfo._numerics import padding
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import CrossKernels, Ensemble, FeatureEnsemble, KrylovEnsemble
from ntkinfo.information import _decoder, _geometry, _krylov, _krylov_curve, _losses, _resolution
from ntkinfo.information._losses import Losses

if TYPE_CHECKING:
    import pandas as pd


@pytree.dataclass("n", "m", "k")
class Curve:
    """Quantities of one ensemble over T training times; information in nats. Made by `curve`.

    `quantities` says what each one is, how figures call it, and whether it is exact or a bound. Of a `KrylovEnsemble`
    every array but `t`, `log_m` and `label_entropy`, those of `losses` as well, is an `Estimate` of such arrays, with
    its standard error and truncation.

    Attributes:
      t: times, (T,).
      input_information: I(X;Z|D), `Information` of (T,).
      label_information: I(Y;Z|D), `Information` of (T,).
      output_divergence: mean pointwise KL of the outputs from the prior, (T,).
      output_divergence_joint: KL of all test outputs together, (T,), or None where not asked for or singular.
      parameter_distance: E‖θ_t - θ_0‖², (T,).
      action: action in the Euclidean metric, (T,).
      fisher_action: action in the Fisher metric, (T,).
      fisher_trace: k tr Θ, a scalar.
      losses: `Losses` of (T,) on the test inputs.
      train_gibbs_mse: expected squared error of one network on the training inputs, (T,).
      train_mean_mse: squared error of the mean on the training inputs, (T,).
      log_m: log m, the ceiling of I(X;Z|D), a scalar.
      label_entropy: H(Y) for classes, h(Y) for real labels, a scalar.
      n: number of training inputs.
      m: number of test inputs.
      k: number of outputs.
    """

    t: Array
    input_information: Information
    label_information: Information
    output_divergence: Array | Estimate
    output_divergence_joint: Array | None
    parameter_distance: Array | Estimate
    action: Array | Estimate
    fisher_action: Array | Estimate
    fisher_trace: Array | Estimate
    losses: Losses
    train_gibbs_mse: Array | Estimate
    train_mean_mse: Array | Estimate
    log_m: Array
    label_entropy: Array
    n: int
    m: int
    k: int

    quantities = catalogue
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def columns(self) -> dict[str, np.ndarray]:
        """Every quantity over time by name, (T,) each; bounds (where there are any) and standard errors beside values.

        Infinite bounds, which bound nothing, have no column. An `Estimate` has its standard error (where it is sampled)
        and its truncation beside it.
        """
        columns = {"t": self.t}
        for name in QUANTITIES:
            value = getattr(self if hasattr(self, name) else self.losses, name)
            if isinstance(value, Estimate):
                columns[name] = value.value
                if np.any(np.asarray(value.stderr)):
                    columns[f"{name}_stderr"] = value.stderr
                columns[f"{name}_truncation"] = value.truncation
                continue
            if not isinstance(value, Information):
                columns[name] = value
                continue
            columns[name] = value.value
            if value.method != "exact" or isinstance(self.output_divergence, Estimate):
                bounds = {f"{name}_lower": value.lower, f"{name}_upper": value.upper}
                columns |= {key: bound for key, bound in bounds.items() if np.isfinite(np.asarray(bound)).any()}
                columns[f"{name}_stderr"] = value.stderr
        return {name: np.asarray(column) for name, column in columns.items() if column is not None}

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas DataFrame with a row per time and a column per quantity; `attrs` say units, ceilings and methods.

        Args:
          unit: "nats" or "bits", of information and negative log-likelihoods.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        check.known("self", self)
        attributes = {
            "log_m": scale * float(self.log_m),
            "label_entropy": scale * float(self.label_entropy),
            "fisher_trace": float(getattr(self.fisher_trace, "value", self.fisher_trace)),
            "input_information": self.input_information.method,
            "label_information": self.label_information.method,
        } | {"n": self.n, "m": self.m, "k": self.k}
        return tables.frame(scaled(self.columns(), scale), attributes, unit)


def curve(
    ens: Ensemble | KrylovEnsemble | FeatureEnsemble,
    x_test: Float[ArrayLike, "m ..."] | CrossKernels | Dataset,
    y_test: Float[ArrayLike, "m k"] | Float[ArrayLike, " m"] | Num[ArrayLike, "*T"] | None = None,
    t: Num[ArrayLike, "*T"] | None = None,
    *,
    noise: ArrayLike = 1.0,
    method: str | None = None,
    key: Array | None = None,
    n_samples: int = 16,
    joint: bool | None = None,
    label_entropy: float | None = None,
    task: str = "auto",
    batch_size: int | None = None,
    max_steps: int | None = None,
    checkpoint: str | os.PathLike | None = None,
) -> Curve:
    """Every quantity of theory sections 2, 3, 4 (outputs) and 5 over a vector of times, in one compiled program.

    Args:
      ens: the ensemble, of any engine. Under engine="krylov" every number comes with its error: information with
        `lower` and `upper`, the rest as an `Estimate`.
      x_test: test inputs, (m, ...); or their kernels, evaluated already, as `Ensemble.cross_kernels` returns them (with
        a prior (m, m) where `joint`). Or a `Dataset`, whose test rows are taken, then `t`: `curve(ens, data, t)`.
      y_test: test labels, (m, k) or (m,), floating point, coded like the labels trained on.
      t: training times, (T,), as in `Ensemble.predict`; 0 and infinity are allowed.
      noise: variance σ² of the log-likelihoods, and of the decoder for real labels.
      method: estimator of the information, as in `input_information`; None is exact for k = 1, else Monte Carlo.
      key: random key, needed for k > 1 and the sampled methods.
      n_samples: draws of z per test input, for the sampled methods.
      joint: whether to compute the joint divergence of all test outputs, T (m n² + 2 m² n) flops; None does under
        engine="dense", and under engine="features" for no more inputs than features, of which it is not singular.
      label_entropy: h(Y) in nats where known, for real labels.
      task: "auto", "classes" or "regression".
      batch_size: rows of a block of kernel evaluation; under engine="krylov" test inputs that share a Krylov space.
        None chooses.
      max_steps: of engine="krylov": most Lanczos steps of a batch of test inputs; None takes up to 40.
      checkpoint: of engine="krylov": a folder that predictions and sums over the spectrum are written to as they come;
        a call with the same arguments goes on from there.

    Returns:
      A `Curve`.

    Raises:
      TypeError: arguments that do not hold floating-point numbers.
      ValueError: shapes that do not fit, negative times, a missing key, predictive variances that vanish: of test
        inputs trained on, at late times, which the message names.

    Warns:
      UserWarning: variances of other inputs are below their rounding error, and taken for as large as that; the joint
        divergence is left out because a covariance is singular to working precision; a bound on I(Y;Z) for real labels
        that is above log m, or far below 0 at all times, as `label_information` says; under engine="krylov" errors
        above the tolerance, or variances that their errors do not tell from zero.

    Example:
      >>> c = curve(ens, x_test, y_test, jnp.logspace(-1, 6, 100))
      >>> axes = c.to_dataframe().plot(x="t", y="input_information", logx=True)
    """
    krylov = isinstance(ens, KrylovEnsemble)
    if not krylov:
        ens = ensemble.exact("ens", ens, "`curve`")
        kernels.refuse_full("ens", ens.kernel_fn)
    x_test, y_test, t = data.test_pair(x_test, y_test, t)
    check.flag("joint", joint, none=True)
    # Of more inputs than features the covariance is singular.
    singular = isinstance(ens, FeatureEnsemble) and np.shape(x_test)[:1] > (ens.n_features,)
    joint = not (krylov or singular) if joint is None else joint
    check.positive("noise", noise, scalar=True)
    mixture.select_method(method, ens.k, key)
    n_samples = check.integer("n_samples", n_samples)
    if label_entropy is not None:
        labels.check_entropy(label_entropy)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    if krylov:
        ensemble.refuse_joint(joint, "False or None")
    else:
        for name, given in (("max_steps", max_steps), ("checkpoint", checkpoint)):
            if given is not None:
                engine = "features" if isinstance(ens, FeatureEnsemble) else "dense"
                raise ValueError(f'`{name}` must be None under engine="{engine}", which computes all at once.')
    if not isinstance(ens, Ensemble) and isinstance(x_test, CrossKernels):
        engine = "krylov" if krylov else "features"
        raise ValueError(
            f'`x_test` must be inputs under engine="{engine}", which has no use for kernels; got kernels. Fit with '
            'engine="dense".'
        )
    if isinstance(x_test, CrossKernels):
        m = len(x_test.ntk)
        shapes = tuple(jnp.shape(part) for part in x_test[:3])
        if shapes[:2] != ((m, ens.n),) * 2 or shapes[2] not in ((m,), (m, m)):
            raise ValueError(
                f"`x_test` must be kernels of shapes (m, n), (m, n) and (m,) or (m, m), n = {ens.n}; got {shapes}."
            )
        if joint and x_test.prior.ndim == 1:
            raise ValueError(
                "`x_test` must be kernels with a prior matrix (m, m) for the joint divergence; got one of shape "
                f"{x_test.prior.shape}. Pass joint=False, or `Ensemble.cross_kernels(..., joint=True)`."
            )
    else:
        x_test = ens.check_inputs("x_test", x_test)
        m = len(x_test)
    t = check.times("t", t)
    # Of a vector `jnp.atleast_1d` would compile a copy.
    t = t if t.ndim else t[None]
    read = labels.read("y_test", y_test, m, task)
    if read.targets is None or read.targets.shape[1] != ens.k:
        got = "integers" if read.targets is None else f"{read.targets.shape[1]} outputs"
        raise ValueError(f"`y_test` must have the {ens.k} outputs trained on, as floating-point numbers; got {got}.")
    known = label_entropy is not None and read.classes is None
    ceiling = label_entropy if known else labels.entropy(read)
    classes = None if read.classes is None else jnp.asarray(read.classes)
    one_hot = np.ones((m, 1)) if read.classes is None else np.eye(read.n_classes)[read.classes]
    options = {"method": method, "key": key, "n_samples": n_samples}
    if isinstance(ens, KrylovEnsemble):
        check.on_host({"x_test": x_test, "y_test": y_test, "t": t, "noise": noise})
        targets = np.asarray(read.targets, np.dtype(ens.y.dtype))
        z, fields = _krylov_curve.fields(
            ens, x_test, t, targets, classes, float(np.asarray(noise)), batch_size=batch_size, max_steps=max_steps,
            checkpoint=checkpoint,
        )  # fmt: skip
        pair = _krylov.pair(z, one_hot.astype(targets.dtype), **options)
        if read.classes is None:
            decoded = _decoder.gaussian_density(z.gaussian, targets, noise, ceiling, known=known)
            fields["decoded"] = _krylov.density(decoded, fields["losses"].gibbs_mse, float(np.asarray(noise)))
        sizes = {"n": ens.n, "m": m, "k": ens.k}
        return _checked(_assembled({"decoded": None} | fields, pair, t, ceiling, sizes), known)
    if isinstance(x_test, CrossKernels):
        cross = x_test
        if not joint and x_test.prior.ndim > 1:
            cross = x_test._replace(prior=compiling.diagonal(x_test.prior))
    else:
        cross = ens.cross_kernels(x_test, joint=joint, batch_size=batch_size)
    s, basis = ens.rescaled_time(t), ens.time_basis(t, joint_with=m if joint else None)
    targets = jnp.asarray(read.targets, ens.y.dtype)
    one_hot = np.asarray(one_hot, ens.y.dtype)
    traced = not check.concrete(ens, cross, read.targets, t, noise, ceiling, key)
    if traced or tracing.is_tracing():
        result, *variances = _curve(
            ens, cross, targets, classes, one_hot, t, s, basis, noise, ceiling, key,
            method=method, n_samples=n_samples, joint=joint, known=known, traced=traced,
        )  # fmt: skip
        if not check.concrete(result):
            return result

        def complete():
            return result
    else:
        complete, *variances = _curve_filled(
            ens, cross, targets, classes, one_hot, t, s, basis, noise, ceiling, options, joint=joint, known=known
        )
    _resolution.judge(ens, cross, None if isinstance(x_test, CrossKernels) else x_test, np.asarray(t), *variances)
    # The information only now: variances that vanish are refused in words of their own.
    return _checked(complete(), known)


@compiling.jit(static_argnames=("method", "n_samples", "joint", "known", "traced"))
def _curve(
    ens: Ensemble, cross: CrossKernels, targets, classes, one_hot, t, s, basis, noise, label_entropy, key,
    *, method, n_samples, joint, known, traced,
):  # fmt: skip
    # Under tracing nobody can be told: variances lost in rounding give `nan` and infinity.
    fields, z, resolved, error = _quantities(
        ens, cross, targets, classes, s, basis, noise, label_entropy, None, ens.n,
        joint=joint, known=known, floored=not traced,
    )  # fmt: skip
    pair = mixture.pair(resolved.mean, resolved.variance, one_hot, method=method, key=key, n_samples=n_samples)
    sizes = {"n": ens.n, "m": z.variance.shape[-1], "k": ens.k}
    return _assembled(fields, pair, t, label_entropy, sizes), z.variance, error


def _curve_filled(
    ens: Ensemble, cross: CrossKernels, targets, classes, one_hot, t, s, basis, noise, label_entropy, options,
    *, joint, known,
):  # fmt: skip
    """What `_curve` computes, by programs that serve neighbouring sizes as well; the information has one of its own."""
    sizes = {"n": ens.n, "m": len(targets), "k": ens.k}
    times, m, k = len(s), sizes["m"], sizes["k"]
    filled, cross, s, basis = ens.filled(cross, s, basis)
    rows = len(cross.ntk)
    weights = padding.fill(np.full(m, 1 / m, ens.y.dtype), (rows,))
    if classes is not None:
        classes = padding.fill(np.asarray(classes), (rows,), 0)
        # Signs, where labels are signs: absent inputs have a label like any other, without weight.
        targets = padding.fill(targets, (rows, k), 1.0)
    else:
        targets = padding.fill(targets, (rows, k))
    quantities = _small_quantities if len(filled.eigenvalues) <= _SMALL else _filled_quantities
    fields, z, resolved, error = quantities(
        filled, cross, targets, classes, s, basis, noise, label_entropy, weights, sizes["n"], joint=joint, known=known
    )

    def of_times(field):
        return padding.cut(field, (times, *field.shape[1:])) if field.ndim else field

    fields = jax.tree.map(of_times, fields)
    mean, variance = np.asarray(resolved.mean)[:times, :m], np.asarray(resolved.variance)[:times, :m]

    def result():
        return _assembled(fields, mixture.pair(mean, variance, one_hot, **options), t, label_entropy, sizes)

    return result, *(padding.cut(part, (times, m)) for part in (z.variance, error))


def _assembled(fields: dict, pair, t, label_entropy, sizes) -> Curve:
    input_information, label_information = pair
    dtype = input_information.value.dtype
    return Curve(
        t=t,
        input_information=input_information,
        label_information=fields.pop("decoded") or label_information,
        log_m=jnp.asarray(np.log(sizes["m"]), dtype),
        label_entropy=jnp.asarray(label_entropy, dtype),
        **fields,
        **sizes,
    )


def _quantities(
    ens: Ensemble, cross: CrossKernels, targets, classes, s, basis, noise, label_entropy, weights, n,
    *, joint, known, floored,
):  # fmt: skip
    """All fields of a `Curve` but the information, the predictions, these with variances as they are used, and errors.

    `weights` of the test inputs, as in `_losses.average`, and the number n of training inputs, where arrays have more.
    """
    filters = ens.filters(s)
    if joint:
        z, divergence_joint = _geometry.joint_statistics(ens, cross, filters, basis)
        prior = jnp.diagonal(cross.prior)
    else:
        z, divergence_joint, prior = ens.predictive(cross, filters, basis), None, cross.prior
    error = ens.rounding_errors(cross, filters)
    resolved = _resolution.floored(z, error) if floored else z
    decoded = None
    if classes is None:
        decoded = _decoder.gaussian_density(z, targets, noise, label_entropy, known=known, weights=weights)
    train_gibbs, train_mean = _losses.training(ens, filters, n)
    fields = {
        "decoded": decoded,
        "output_divergence": _geometry.pointwise_divergence(resolved, prior, cross.offset, weights),
        "output_divergence_joint": divergence_joint,
        "parameter_distance": _geometry.distance_core(ens, filters),
        "action": _geometry.action_core(ens, filters, "euclidean"),
        "fisher_action": _geometry.action_core(ens, filters, "fisher"),
        "fisher_trace": _geometry.fisher_trace_core(ens),
        "losses": _losses.compute(z, targets, classes, noise, weights),
        "train_gibbs_mse": train_gibbs,
        "train_mean_mse": train_mean,
    }
    return fields, z, resolved, error


# Up to so many eigenvalues, some 50 curves take as much longer as their program takes less to compile.
_SMALL = 256
_filled_quantities, _small_quantities = (
    compiling.jit(functools.partial(_quantities, floored=True), static_argnames=("joint", "known"), once=once)
    for once in (False, True)
)


def _checked(result: Curve, known: bool) -> Curve:
    """Warns where the information is not exact or bounds nothing, or the joint divergence had to be left out."""
    check.finite_result("a loss", result.losses, "`noise` and `y_test`")
    check.finite_result("the information of labels", result.label_information.value, "`noise` and `y_test`")
    if not isinstance(result.output_divergence, Estimate):
        mixture.refuse_impossible(result.input_information, result.m)
        mixture.warn_if_inaccurate(result.input_information)
    _decoder.warn_if_no_bound(result.label_information, result.m, result.k, known)
    divergence = result.output_divergence_joint
    if divergence is not None and not np.isfinite(np.asarray(divergence)).all():
        warnings.warn(
            "The covariance of the test outputs is singular to working precision, so their joint divergence is not "
            "finite and is left out. Remove repeated or trained-on test inputs, use float64, or pass joint=False.",
            stacklevel=3,
        )
        result = dataclasses.replace(result, output_divergence_joint=None)
    return result
