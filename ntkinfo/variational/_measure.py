"""What a variational fit reaches: bounds on I(X;Z) and I(Y;Z) named as such, errors, and calibration."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check
from ntkinfo.variational import _objectives, _predict, _validate

# Bins of the expected calibration error, as is usual.
_BINS = 15


@dataclasses.dataclass(frozen=True)
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


jax.tree_util.register_dataclass(
    Measurement, data_fields=[field.name for field in dataclasses.fields(Measurement)], meta_fields=[]
)


def measure(
    fit, x, y, *, key: Array, samples: int = 16, batch: int = 2048, label_entropy: float | None = None
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
      TypeError, ValueError: rows that do not fit the networks, labels that are no classes, counts out of range.

    Source: theory, sections 3 and 8; van den Oord et al. 2018 (arXiv 1807.03748); Poole et al. 2019 (arXiv 1905.06922).
    """
    model = fit.model
    check.key(key)
    x, y = _rows(fit, x, y)
    samples, batch = check.integer("samples", samples), min(check.integer("batch", batch, least=2), len(x))
    found = _measure(model, samples, batch, fit.params, x, y, key)
    classes = model.task == "classes"
    if label_entropy is None and classes:
        p = np.mean(np.asarray(y, np.float64), axis=0)
        label_entropy = float(-np.sum(p * np.log(np.where(p > 0, p, 1))))
    divergence, cross_entropy = found.pop("divergence"), found["cross_entropy"]
    ceiling = np.log(batch)
    return Measurement(
        rate=None if model.prior == "backward" else divergence,
        residual=divergence if model.prior == "backward" else None,
        ceiling=jnp.asarray(ceiling, x.dtype),
        saturated=found["i_xz_lower"] >= 0.99 * ceiling,
        i_yz_lower=None if label_entropy is None else label_entropy - cross_entropy,
        label_entropy=None if label_entropy is None else jnp.asarray(label_entropy, x.dtype),
        **{"log_loss": None, "calibration_error": None, "brier": None} | found,
    )


def _rows(fit, x, y):
    """Rows as a fit takes them."""
    dtype = jax.tree.leaves(fit.params)[0].dtype
    x = jnp.asarray(check.array("x", x), dtype)
    try:
        jax.eval_shape(fit.model.encoder.apply, fit.params["encoder"], x[:1])
    except (TypeError, ValueError) as error:
        raise ValueError(f"`x` must hold inputs of the kind the fit was trained on; got shape {x.shape}.") from error
    return x, _validate.labels_of("y", y, len(x), fit.model.task, dtype, fit.model.outputs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _measure(model, samples, batch, params, x, y, key):
    keys = jax.random.split(key, 3)
    # The objective may be read with several draws, whatever it was trained with.
    read = model._replace(objective="vib" if model.objective == "dual" else model.objective, samples=samples)
    found = _objectives.terms(read, params, x, y, jnp.zeros((), x.dtype), keys[0])
    lower, upper, lower_error, upper_error = _predict.information(model, params, x[:batch], keys[1])
    result = {
        "divergence": jnp.mean(found.divergence),
        "cross_entropy": jnp.mean(found.cross_entropy),
        "i_xz_lower": lower,
        "i_xz_upper": upper,
        "i_xz_lower_stderr": lower_error,
        "i_xz_upper_stderr": upper_error,
    }
    guess = _predict.predict(model, params, x, keys[2], samples)
    if model.task == "regression":
        return result | {"error": jnp.mean(jnp.sum((guess - y) ** 2, axis=1))}
    best = jnp.argmax(guess, axis=1)
    hit = jnp.take_along_axis(y, best[:, None], axis=1)[:, 0]
    confidence = jnp.max(guess, axis=1)
    cell = jnp.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
    apart = jax.ops.segment_sum(hit - confidence, cell, _BINS)
    tiny = jnp.finfo(guess.dtype).tiny
    return result | {
        "error": 1 - jnp.mean(hit),
        "log_loss": -jnp.mean(jnp.sum(y * jnp.log(jnp.maximum(guess, tiny)), axis=1)),
        "calibration_error": jnp.sum(jnp.abs(apart)) / len(x),
        "brier": jnp.mean(jnp.sum((guess - y) ** 2, axis=1)),
    }


def error_under_noise(fit, x, y, stds, *, key: Array, samples: int = 16) -> Array:
    """0-1 error (mean squared error) of a fit with Gaussian noise of each deviation added to the inputs, (S,).

    Args:
      fit: a `VariationalFit`.
      x: inputs, (n, ...).
      y: labels, as for `fit`.
      stds: deviations of the noise, (S,), in units of x; 0 is allowed.
      key: random key; every deviation scales the same noise.
      samples: draws of z for each row.

    Raises:
      TypeError, ValueError: as `measure`; negative deviations.
    """
    model = fit.model
    check.key(key)
    x, y = _rows(fit, x, y)
    stds = jnp.asarray(check.array("stds", stds, 1), x.dtype)
    check.positive("stds", stds, zero=True)
    return _noisy(model, check.integer("samples", samples), fit.params, x, y, stds, key)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _noisy(model, samples, params, x, y, stds, key):
    of_noise, of_latent = jax.random.split(key)
    noise = jax.random.normal(of_noise, x.shape, x.dtype)
    return jax.lax.map(
        lambda std: jnp.mean(_predict.errors(model, params, x + std * noise, y, of_latent, samples)), stds
    )
