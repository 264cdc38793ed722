"""Errors forecast from the training set alone, and how labels lie along the eigenvectors of the kernel."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import examples, posterior
from ntkinfo._common import check, compiling, pytree, tables
from ntkinfo.ensemble import Ensemble
from ntkinfo.posterior import Posterior

SourceOfForecast = Posterior | Ensemble


@pytree.dataclass()
class Forecast:
    """Errors at new examples, estimated from the training set. Scalars. Made by `forecast`.

    Attributes:
      error: squared error of the mean prediction at a new label, summed over outputs, by leaving each example out: the
        unbiased estimate for n - 1 examples.
      stderr: its standard error over examples, taken as independent: a little too small.
      gibbs_error: 0-1 error of one network, likewise; None for real labels.
      gibbs_stderr: its standard error; None likewise.
      generalised_cross_validation: the same squared error with a mean of the leverages in place of each: smoother, and
        biased low without noise.
    """

    error: Array
    stderr: Array
    gibbs_error: Array | None
    gibbs_stderr: Array | None
    generalised_cross_validation: Array

    _table = tables.Table((), plain="error stderr gibbs_error gibbs_stderr generalised_cross_validation")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def forecast(source: SourceOfForecast) -> Forecast:
    """The error at new examples, estimated from the training set alone by leaving examples out.

    Args:
      source: a posterior; or an ensemble, whose networks are trained to the end.

    Returns:
      `Forecast`; estimates. Recommended is `error`; on training sets with repeated examples all are too low.

    Raises:
      TypeError, ValueError: as `examples.value`.

    Example:
      >>> found = forecast(ens)
      >>> bool(found.error > 0)
      True

    Source: theory, section 14; Golub, Heath & Wahba 1979 (Technometrics 21, 215).
    """
    source = posterior.dense("source", source, "`forecast`")
    found = examples.value(source)
    # On the host, where sums over examples of any number compile nothing.
    squares = np.sum(np.asarray(found.residual) ** 2, axis=1)
    gibbs = gibbs_stderr = None
    if found.probability is not None:
        wrong = 1 - np.asarray(found.probability)
        gibbs, gibbs_stderr = _mean(wrong), _stderr(wrong)
    noise = np.asarray(source.noise) if isinstance(source, Posterior) else 0
    inverse = 1 / (np.asarray(source.eigenvalues) + noise)
    smooth = np.mean(inverse**2 * np.sum(np.asarray(source.y_rotated) ** 2, axis=1)) / np.mean(inverse) ** 2
    return Forecast(_mean(squares), _stderr(squares), gibbs, gibbs_stderr, jnp.asarray(smooth))


def _mean(values):
    return jnp.asarray(values.mean())


def _stderr(values):
    return jnp.asarray(np.std(values, ddof=1) / math.sqrt(len(values)))


@pytree.dataclass()
class Alignment:
    """How labels lie along the eigenvectors of the kernel. Exact. Made by `alignment`.

    Attributes:
      eigenvalues: in descending order, (n,).
      share: of ‖Y‖² that the leading 1, 2, ... eigenvectors carry, (n,), up to 1; of the residuals Y - f₀ where
        there is a mean. Within equal eigenvalues the order is arbitrary.
      target_alignment: ⟨Θ, YYᵀ⟩ / (‖Θ‖ ‖YYᵀ‖) in Frobenius norms, a scalar from 0 to 1.
      effective_rank: (Σ λ)² / Σ λ², from 1 to n.
    """

    eigenvalues: Array
    share: Array
    target_alignment: Array
    effective_rank: Array

    _table = tables.Table(("mode",), plain="eigenvalues share", totals="target_alignment effective_rank")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def alignment(source: SourceOfForecast) -> Alignment:
    """How much of the labels the leading eigenvectors of the kernel carry, which few examples suffice to learn.

    Args:
      source: an ensemble, for the tangent kernel, or a posterior, for its prior kernel.

    Returns:
      `Alignment`, exact for these examples.

    Raises:
      TypeError: neither an ensemble nor a posterior.
      ValueError: labels that are all 0 (or met by the mean before training).

    Example:
      >>> found = alignment(ens)
      >>> found.share.shape, bool(abs(found.share[-1] - 1) < 1e-6)
      ((12,), True)

    Source: Cristianini et al. 2001; theory, section 14.
    """
    source = posterior.dense("source", source, "`alignment`")
    if check.concrete(source.y_rotated) and not np.any(np.asarray(source.y_rotated)):
        raise ValueError("`source` must have labels that are not all 0, or its mean; got none, which lie nowhere.")
    return _alignment(source.eigenvalues, source.y_rotated)


@compiling.jit
def _alignment(rates, y):
    rates, y = rates[::-1], y[::-1]
    # Scaled first: squares of small labels would underflow.
    y = y / jnp.max(jnp.abs(y))
    squares, scaled = jnp.sum(y**2, axis=1), rates / rates[0]
    norm = jnp.sqrt(jnp.sum(scaled**2)) * jnp.sqrt(jnp.sum((y.T @ y) ** 2))
    share = jnp.cumsum(squares) / jnp.sum(squares)
    return Alignment(rates, share, scaled @ squares / norm, jnp.sum(scaled) ** 2 / jnp.sum(scaled**2))
