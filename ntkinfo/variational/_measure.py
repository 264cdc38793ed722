"""What a variational fit reaches: bounds on I(X;Z) and I(Y;Z) named as such, errors, and calibration."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, compiling, labels, pytree, tables
from ntkinfo._numerics import entropy
from ntkinfo.variational import _objectives, _predict, _validate
from ntkinfo.variational._fit import VariationalFit
from ntkinfo.variational._validate import Inputs, Labels, Rows

# Bins of the expected calibration error, as is usual.
_BINS = 15


@pytree.dataclass()
class Measurement:
    """A fit on given rows; scalars in nats. A pytree; made by `measure`.

    Attributes:
      rate: E[log p(z|x) - log b(z)], upper bound on I(X;Z); None with a backward encoder.
      residual: E[log p(z|x) - log b(z|y)] (h_zy - h_zx of CEB), upper bound on I(X;Z|Y), not on I(X;Z); None with a
        prior.
      i_xz_lower: InfoNCE with the known p(z|x), lower bound on I(X;Z) for the population; for X uniform over these rows
        its mean is their exact I(X;Z). At most `ceiling`.
      i_xz_upper: leave-one-out upper bound for the population.
      i_xz_lower_stderr: standard error of `i_xz_lower` over rows.
      i_xz_upper_stderr: of `i_xz_upper`.
      ceiling: log of the number of rows that the two bounds saw.
      saturated: whether `i_xz_lower` is within 1 % of the ceiling, where it says little else.
      cross_entropy: E[-log q(y|z)], upper bound on H(Y|Z).
      i_yz_lower: H(Y) - cross_entropy, lower bound on I(Y;Z) up to the error of H(Y); None for a regression without
        `label_entropy`.
      label_entropy: H(Y) of the rows' labels, or as given.
      error: 0-1 error of the predictive distribution, q(y|z) averaged over z; mean squared error for a regression.
      log_loss: -log of the predictive probability of the label; None for a regression.
      calibration_error: expected calibration error of the predictive distribution in 15 equal bins of confidence
        (Guo et al. 2017, arXiv 1706.04599); None for a regression.
      brier: mean squared distance of the predictive distribution from the label (Brier 1950); None for a regression.
    """

    rate: Array | None
    residual: Array | None
    i_xz_lower: Array
    i_xz_upper: Array
    i_xz_lower_stderr: Array
    i_xz_upper_stderr: Array
    ceiling: Array
    saturated: Array
    cross_entropy: Array
    i_yz_lower: Array | None
    label_entropy: Array | None
    error: Array
    log_loss: Array | None
    calibration_error: Array | None
    brier: Array | None

    _table = tables.Table(
        (),
        nats="rate residual i_xz_lower i_xz_upper i_xz_lower_stderr i_xz_upper_stderr ceiling cross_entropy i_yz_lower "
        "label_entropy log_loss",
        plain="saturated error calibration_error brier",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def measure(
    fit: VariationalFit,
    x: Inputs,
    y: Labels,
    *,
    key: Array,
    samples: int = 16,
    batch: int = 2048,
    label_entropy: float | Float[ArrayLike, ""] | None = None,
) -> Measurement:
    """Measures a fit on rows, trained on or not.

    Args:
      fit: a `VariationalFit`.
      x: inputs, (n, ...).
      y: labels, as for `fit`.
      key: random key, of the draws of z.
      samples: draws of z for each row.
      batch: the first so many rows for the bounds on I(X;Z), whose cost grows with its square.
      label_entropy: H(Y), or h(Y) for a regression; None takes that of the labels given.

    Returns:
      A `Measurement`: which number bounds what, and which way, is said there.

    Raises:
      TypeError, ValueError: rows that do not fit the networks, labels that are no classes, counts out of range, a
        `label_entropy` that is no finite number, or for classes negative or above log of their number.

    Source: theory, sections 3 and 8; van den Oord et al. 2018 (arXiv 1807.03748); Poole et al. 2019 (arXiv 1905.06922).
    """
    check.on_host(locals())
    check.instance("fit", fit, VariationalFit, maker="`variational.fit`")
    check.key("key", key)
    rows = _validate.read_like(fit.model, fit.params, x, y)
    samples, batch = check.integer("samples", samples), check.integer("batch", batch, least=2)
    if label_entropy is not None:
        labels.check_entropy(label_entropy, rows.y.shape[1] if fit.model.task == "classes" else 0)
    return measure_rows(fit, rows, key, samples, batch, label_entropy)


def measure_rows(
    fit: VariationalFit,
    rows: Rows,
    key: Array,
    samples: int = 16,
    batch: int = 2048,
    label_entropy: float | None = None,
) -> Measurement:
    """`measure` of rows already read."""
    spec, batch = fit.model, min(batch, len(rows.x))
    measured = _measure(spec, samples, batch, fit.params, *rows, key)
    if label_entropy is None and spec.task == "classes":
        label_entropy = label_entropy_of(rows.y)
    divergence, cross_entropy = measured.pop("divergence"), measured["cross_entropy"]
    ceiling, dtype = np.log(batch), rows.x.dtype
    return Measurement(
        rate=None if spec.prior == "backward" else divergence,
        residual=divergence if spec.prior == "backward" else None,
        ceiling=jnp.asarray(ceiling, dtype),
        saturated=measured["i_xz_lower"] >= 0.99 * ceiling,
        i_yz_lower=None if label_entropy is None else label_entropy - cross_entropy,
        label_entropy=None if label_entropy is None else jnp.asarray(label_entropy, dtype),
        **{"log_loss": None, "calibration_error": None, "brier": None} | measured,
    )


def label_entropy_of(y) -> float:
    """H(Y) in nats of label distributions (n, classes), each row as likely as any other."""
    return float(entropy.entropy(np.mean(np.asarray(y, np.float64), axis=0)))


@compiling.jit(static_argnums=(0, 1, 2))
def _measure(spec, samples, batch, params, x, y, key):
    keys = jax.random.split(key, 3)
    # The objective may be read with several draws, whatever it was trained with.
    several = spec._replace(objective="vib" if spec.objective == "dual" else spec.objective, samples=samples)
    encoded = _objectives.encode(spec, params, x)
    terms = _objectives.terms_encoded(several, params, encoded, y, jnp.zeros((), x.dtype), keys[0])
    lower, upper, lower_stderr, upper_stderr = _predict.information(spec, encoded, keys[1], batch)
    result = {
        "divergence": jnp.mean(terms.divergence),
        "cross_entropy": jnp.mean(terms.cross_entropy),
        "i_xz_lower": lower,
        "i_xz_upper": upper,
        "i_xz_lower_stderr": lower_stderr,
        "i_xz_upper_stderr": upper_stderr,
    }
    guess = _predict.predict_encoded(spec, params, encoded, keys[2], samples)
    if spec.task == "regression":
        return result | {"error": jnp.mean(jnp.sum((guess - y) ** 2, axis=1))}
    best = jnp.argmax(guess, axis=1)
    hit = jnp.take_along_axis(y, best[:, None], axis=1)[:, 0]
    confidence = jnp.max(guess, axis=1)
    bins = jnp.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    gaps = jax.ops.segment_sum(hit - confidence, bins, _BINS)
    tiny = jnp.finfo(guess.dtype).tiny
    return result | {
        "error": 1 - jnp.mean(hit),
        "log_loss": -jnp.mean(jnp.sum(y * jnp.log(jnp.maximum(guess, tiny)), axis=1)),
        "calibration_error": jnp.sum(jnp.abs(gaps)) / len(x),
        "brier": jnp.mean(jnp.sum((guess - y) ** 2, axis=1)),
    }


def error_under_noise(
    fit: VariationalFit, x: Inputs, y: Labels, stds: Float[ArrayLike, " s"], *, key: Array, samples: int = 16
) -> Float[Array, " s"]:
    """Error of a fit with Gaussian noise of each standard deviation added to the inputs.

    Args:
      fit: a `VariationalFit`.
      x: inputs, (n, ...).
      y: labels, as for `fit`.
      stds: standard deviations of the noise, (S,), in units of x; 0 is allowed.
      key: random key; every standard deviation scales the same noise.
      samples: draws of z for each row.

    Returns:
      (S,): the 0-1 error of the predictive distribution on these rows, mean squared error for a regression; estimates
      with one draw of the noise for each row.

    Raises:
      TypeError, ValueError: as `measure`; negative standard deviations.
    """
    check.instance("fit", fit, VariationalFit, maker="`variational.fit`")
    check.key("key", key)
    rows = _validate.read_like(fit.model, fit.params, x, y)
    stds = jnp.asarray(check.array("stds", stds, 1), rows.x.dtype)
    check.small_enough("stds", stds)
    check.positive("stds", stds, zero=True)
    return _errors_under_noise(fit.model, check.integer("samples", samples), fit.params, *rows, stds, key)


@compiling.jit(static_argnums=(0, 1))
def _errors_under_noise(spec, samples, params, x, y, stds, key):
    key_noise, key_latent = jax.random.split(key)
    noise = jax.random.normal(key_noise, x.shape, x.dtype)

    def errors(std):
        encoded = _objectives.encode(spec, params, x + std * noise)
        return jnp.mean(_predict.errors(spec, params, encoded, y, key_latent, samples))

    return jax.lax.map(errors, stds)
