"""Objectives compared at equal information about the label: the I(X;Z) that each needs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from ntkinfo._common import check, tables
from ntkinfo.variational._sweep import Sweep


class RequiredInformation(NamedTuple):
    """I(X;Z) that each objective of a sweep needs for the same I(Y;Z), in nats. Made by `required_information`.

    Attributes:
      i_yz: the level of I(Y;Z) to be reached.
      i_xz: I(X;Z) where each objective first reaches it, (O,); NaN where none of its fits does.
      objectives: names, (O,).
    """

    i_yz: float
    i_xz: np.ndarray
    objectives: tuple[str, ...]

    _table = tables.Table(("objectives",), nats="i_xz", totals="i_yz*")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def required_information(sweep: Sweep, i_yz: float | Float[ArrayLike, ""] | None = None) -> RequiredInformation:
    """I(X;Z) that each objective needs to reach a given I(Y;Z): the published comparison of the dual with VIB.

    Both are the lower bounds of the sweep, `i_xz_lower` (InfoNCE) and `i_yz_lower`, as means over seeds, joined by
    straight lines from trade-off to trade-off in the order of β; the first crossing counts.

    Args:
      sweep: a `Sweep`.
      i_yz: the level of I(Y;Z) in nats; None takes 95 % of the largest that every objective reaches.

    Returns:
      A `RequiredInformation`. An estimate: a ratio of two lower bounds is no bound.

    Raises:
      TypeError, ValueError: a level that is no finite number.

    Source: Piran, Shwartz-Ziv & Tishby 2020 (arXiv 2006.04641): about 1 nat against VIB's 5 on FashionMNIST.

    Example:
      >>> needed = required_information(swept, i_yz=0.5)  # swept = ni.variational.sweep(x, y, betas=betas, key=key)
      >>> {name: round(float(i_xz), 6) for name, i_xz in zip(needed.objectives, needed.i_xz)}
      {'vib': 1.5, 'dual': 0.75}
    """
    check.on_host(locals())
    check.instance("sweep", sweep, Sweep, maker="`variational.sweep`")
    i_xz_of_fits, i_yz_of_fits = (np.asarray(values).mean(axis=2) for values in (sweep.i_xz_lower, sweep.i_yz_lower))
    if i_yz is None:
        level = 0.95 * float(i_yz_of_fits.max(axis=1).min())
    else:
        check.number("i_yz", i_yz, ends=False)
        level = float(np.asarray(i_yz))
    needed = [first_crossing(*curve, level) for curve in zip(i_xz_of_fits, i_yz_of_fits, strict=True)]
    return RequiredInformation(level, np.array(needed), sweep.objectives)


def first_crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """x where y first reaches the level, along straight lines through the points; NaN where it never does."""
    reached = y >= level
    if not reached.any():
        return np.nan
    i = int(np.argmax(reached))
    if i == 0:
        return float(x[0])
    share = (level - y[i - 1]) / (y[i] - y[i - 1])
    return float(x[i - 1] + share * (x[i] - x[i - 1]))
