"""Models p̃(y|x) of label noise, the target of the variational dual bottleneck: what the labels might also have been.

The dual's term KL[q(y|z) ‖ p̃(y|x)] is finite only where p̃ > 0, so that every model here must leave each class a
positive probability.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, tables
from ntkinfo._numerics import normal_rule

__all__ = ["LabelNoise", "confusion", "gaussian", "model", "smoothing"]

REMEDY = "Smooth it first: `label_noise.smoothing(epsilon)`, or mix a table with the uniform one."


class LabelNoise(NamedTuple):
    """A noise model; made by `smoothing`, `confusion`, `gaussian` or `model`.

    Attributes:
      kind: "smoothing", "confusion", "gaussian" or "model".
      value: its parameter: ε, the matrix, the standard deviation, or the table or function.
    """

    kind: str
    value: Any

    __repr__ = tables.one_line
    _repr_html_ = tables.html


def smoothing(epsilon: float) -> LabelNoise:
    """p̃(ŷ|x) = (1 - ε) p(ŷ|x) + ε/|Y|: with probability ε the label is drawn uniformly.

    Args:
      epsilon: ε in (0, 1).

    Returns:
      A `LabelNoise`.

    Raises:
      TypeError, ValueError: ε that is no number in (0, 1).

    Source: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    check.on_host(locals())
    check.number("epsilon", epsilon, 0, 1, ends=False)
    return LabelNoise("smoothing", float(epsilon))


def confusion(matrix: Float[ArrayLike, "c c"]) -> LabelNoise:
    """p̃(ŷ|x) = Σ_y p(y|x) M_{yŷ}: label y is taken for ŷ with probability M_{yŷ}.

    Args:
      matrix: M, (classes, classes), every row a distribution.

    Returns:
      A `LabelNoise`.

    Raises:
      TypeError, ValueError: no square table of distributions. Zeros are refused by `fit`, where they matter.

    Example:
      >>> confusion(np.array([[0.9, 0.1], [0.2, 0.8]])).kind
      'confusion'
    """
    check.on_host(locals())
    table = discrete.check_conditional("matrix", matrix, (None, None))
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"`matrix` must be square, (classes, classes); got shape {table.shape}.")
    return LabelNoise("confusion", np.asarray(table))


def gaussian(std: float) -> LabelNoise:
    """Gaussian noise of standard deviation `std` on the label.

    Regression: p̃(ŷ|x) = N(y, std² I). Classes: they are the corners of the simplex (unit vectors); noise
    N(0, std² I) is added to the corner and the nearest corner taken, so that
    p̃(y|x) = ∫ φ(u) Φ(u + 1/std)^(|Y| - 1) du for the true class, the rest spread evenly over the others.

    Args:
      std: positive standard deviation, in units of y, for classes of the vectors' length.

    Returns:
      A `LabelNoise`.

    Raises:
      TypeError, ValueError: `std` that is no positive number.

    Example:
      >>> gaussian(0.1).value
      0.1
    """
    check.on_host(locals())
    check.positive("std", std, scalar=True)
    return LabelNoise("gaussian", float(std))


def model(probabilities: Callable | Float[ArrayLike, "n classes"]) -> LabelNoise:
    """p̃(y|x) of a given model, for instance of an ensemble trained before.

    Args:
      probabilities: a table (n, classes), row i for input i of what is fitted (of `learning_curve`, of all its rows);
        or a function of inputs (n, ...) that returns such a table, needed where `fit` has test inputs too.

    Returns:
      A `LabelNoise`.

    Raises:
      TypeError, ValueError: neither a function nor a table of distributions.

    Example:
      >>> model(np.array([[0.9, 0.1], [0.2, 0.8]])).kind
      'model'
    """
    check.on_host(locals())
    if callable(probabilities):
        return LabelNoise("model", probabilities)
    return LabelNoise("model", np.asarray(discrete.check_conditional("probabilities", probabilities, (None, None))))


def probabilities(noise: LabelNoise | None, x: Array, y: Array, *, name: str = "x") -> Array:
    """The table p̃(y|x) of a noise model.

    Args:
      noise: the model; None leaves y as it is.
      x: inputs, (n, ...).
      y: label distributions, (n, classes).
      name: what to call the inputs in messages.

    Returns:
      (n, classes), positive, in the dtype of y.

    Raises:
      TypeError: not a `LabelNoise`.
      ValueError: a table that does not fit, or zeros in it.
    """
    if noise is None:
        table, where = y, "`y`"
    elif not isinstance(noise, LabelNoise):
        raise TypeError(
            "`label_noise` must be made by `label_noise.smoothing`, `confusion`, `gaussian` or `model`; got "
            f"{type(noise).__name__}."
        )
    else:
        table, where = _table(noise, x, y, name), f"`label_noise.{noise.kind}`"
    host = np.asarray(table)
    if host.min() <= 0:
        raise ValueError(
            f"{where} must give every class a positive probability under the dual objective, whose divergence is "
            f"infinite elsewhere; got {host.min():g}. {REMEDY}"
        )
    return jnp.asarray(table, y.dtype)


def _table(noise, x, y, name):
    classes = y.shape[1]
    if noise.kind == "smoothing":
        return (1 - noise.value) * y + noise.value / classes
    if noise.kind == "confusion":
        if len(noise.value) != classes:
            raise ValueError(
                f"`matrix` of the confusion must have a row for each of the {classes} classes; got {len(noise.value)}."
            )
        if noise.value.min() <= 0:
            row, column = (int(i) for i in np.argwhere(noise.value <= 0)[0])
            raise ValueError(
                "`matrix` of the confusion must be positive under the dual objective, whose divergence is infinite "
                f"elsewhere; got {noise.value[row, column]:g} in row {row}, column {column}. {REMEDY}"
            )
        return y @ noise.value.astype(y.dtype)
    if noise.kind == "gaussian":
        stay = _stays(noise.value, classes)
        off = (1 - stay) / (classes - 1)
        return off + (stay - off) * y
    table = noise.value(x) if callable(noise.value) else noise.value
    return discrete.check_conditional(f"probabilities of the model for {name}", table, (len(x), classes))


def _stays(std: float, classes: int) -> float:
    """Probability that the first of `classes` variables N(0, std²), raised by 1, is the largest."""
    from scipy.special import log_ndtr

    u, weights = normal_rule.trapezoid(step=0.006, reach=12)
    return float(weights @ np.exp((classes - 1) * log_ndtr(u + 1 / std)))
