"""A quantity over the scales of weights and biases."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ntkinfo._common import check
from ntkinfo._common.quantities import QUANTITIES
from ntkinfo.plot._axes import axes_of, unit_factor
from ntkinfo.plot._fields import AXES, LOSSES


def sweep(
    values: ArrayLike,
    w_std: ArrayLike,
    b_std: ArrayLike,
    quantity: Any = "input_information",
    *,
    unit: str = "nats",
    ax: Axes | None = None,
) -> Axes:
    """A heat map of one quantity over the scales of weights (across) and biases (up); missing cells are hatched.

    Args:
      values: (W, B) the quantity, information in nats; `nan` for cells that are missing.
      w_std: (W,) weight scales, in the order of the rows.
      b_std: (B,) bias scales, in the order of the columns.
      quantity: name of the quantity, a field of `Curve` or of its `losses`; or its row of `Sweep.quantities`.
      unit: "nats" or "bits", of information and of negative log-likelihoods.
      ax: where to draw; None for a new figure.

    Returns:
      The axes.

    Raises:
      ValueError: an unknown unit or quantity, or sizes that do not match.
    """
    check.on_host(locals())
    factor = unit_factor(unit)
    if isinstance(quantity, str) or not hasattr(quantity, "symbol"):
        check.option("quantity", quantity, QUANTITIES)
        quantity = QUANTITIES[quantity]
    values = _numbers("values", values)
    w_std, b_std = (_scales(*pair) for pair in (("w_std", w_std), ("b_std", b_std)))
    if values.shape != (len(w_std), len(b_std)):
        raise ValueError(
            f"`values` must have shape (W, B) = ({len(w_std)}, {len(b_std)}), the lengths of `w_std` and `b_std`; got "
            f"{values.shape}."
        )
    label = f"{AXES[quantity.kind]}, {quantity.symbol}" if quantity.kind in LOSSES else quantity.symbol
    ax = axes_of(ax)
    cells = np.ma.masked_invalid((factor if quantity.unit else 1.0) * values.T)
    # Cells of equal size, named at their centres: the scales of a sweep need not be evenly spaced.
    ax.patch.set(hatch="////", edgecolor="0.8", facecolor="white")
    image = ax.pcolormesh(np.arange(len(w_std) + 1) - 0.5, np.arange(len(b_std) + 1) - 0.5, cells, cmap="viridis")
    ax.set_xticks(np.arange(len(w_std)), [f"{scale:.3g}" for scale in w_std])
    ax.set_yticks(np.arange(len(b_std)), [f"{scale:.3g}" for scale in b_std])
    ax.tick_params(length=0)
    ax.set_xlabel(r"weight scale $\sigma_w$")
    ax.set_ylabel(r"bias scale $\sigma_b$")
    ax.figure.colorbar(image, ax=ax, label=label + (f" [{unit}]" if quantity.unit else ""))
    return ax


def _scales(name, values) -> np.ndarray:
    """Scales as a vector of floats."""
    check.positive(name, values, zero=True)
    scales = np.atleast_1d(np.asarray(values, float))
    if scales.ndim != 1:
        raise ValueError(f"`{name}` must be a vector of scales; got shape {scales.shape}.")
    return scales


def _numbers(name, values) -> np.ndarray:
    """Numbers as floats; NaN marks what is missing."""
    values = np.asarray(check.values(name, values))
    if values.dtype.kind not in "fiu" or not values.size:
        raise TypeError(f"`{name}` must hold real numbers; got dtype {values.dtype}, shape {values.shape}.")
    if np.isinf(values).any():
        raise ValueError(f"`{name}` must be finite, or NaN where a cell is missing; got inf.")
    return values.astype(float)
