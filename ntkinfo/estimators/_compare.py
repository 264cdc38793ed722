"""What all estimators that fit some samples say, side by side, each with what it assumes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Shaped

from ntkinfo._common import check, pytree, results, tables
from ntkinfo._common.results import Information, is_saturated
from ntkinfo.estimators import _binning, _samples
from ntkinfo.estimators._binned import counted, discretised
from ntkinfo.estimators._extrapolate import extrapolate
from ntkinfo.estimators._infonce import infonce
from ntkinfo.estimators._ksg import ksg

if TYPE_CHECKING:
    import pandas as pd


class _Row(NamedTuple):
    """What a table says of an estimator."""

    assumes: str
    correction: str
    random: bool = False


_ROWS = {
    "plug_in": _Row("many samples in each occupied cell", "none: too high by about cells/2n"),
    "miller_madow": _Row("every value that can occur was seen", "first order in 1/n, by occupied cells"),
    "panzeri_treves": _Row("x observed under conditions y", "first order in 1/n, by values possible under each y"),
    "grassberger": _Row("counts vary as Poisson's", "of each entropy, by digamma functions"),
    "chao_shen": _Row("unseen values are like those seen once", "of each entropy, by coverage"),
    "extrapolated": _Row("bias is a/n + b/n²", "first two orders in 1/n, by parts of the samples", random=True),
    "ksg": _Row("densities that vary little between neighbours", "small by construction; too low when saturated"),
    "infonce": _Row("a critic that learns from half the samples", "none: a lower bound", random=True),
}
# Beyond this share of samples that no other sample repeats, counts say little but that samples differ.
_ALONE = 0.5
_COUNTED = ("plug_in", "miller_madow", "panzeri_treves", "grassberger", "chao_shen")


@pytree.dataclass("names", "left_out", "n", "alone", "unit")
class Comparison:
    """Estimates of the same I(X;Y) by several estimators. Made by `estimators.compare`.

    Attributes:
      estimates: the `Information` of each, in the order of `names`.
      names: of the estimators.
      left_out: (name, reason) of each that does not fit the samples.
      n: number of samples.
      alone: share of the samples that are alone in their cell (x, y), binned where they are floats: above a half there
        are too few samples for any correction of counts.
      unit: "nats" or "bits", of all estimates.
    """

    estimates: tuple[Information, ...]
    names: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    n: int
    alone: float
    unit: str = "nats"

    _repr_html_ = tables.html

    def __getitem__(self, name: str) -> Information:
        """The estimate of a name."""
        check.option("name", name, self.names)
        return self.estimates[self.names.index(name)]

    def __repr__(self):
        values = ", ".join(f"{k} {float(one.value):.3g}" for k, one in zip(self.names, self.estimates, strict=True))
        return f"Comparison(n = {self.n}, in {self.unit}: {values})"

    def to_dataframe(self, *, unit: str | None = None) -> "pd.DataFrame":
        """A pandas table with a row for each estimator.

        Columns: estimator, value, stderr, ceiling, saturated, correction, assumes, unit. Saturated are values near
        their ceiling, and all from counts where more than half of the samples are alone in their cells.

        Args:
          unit: "nats" or "bits"; None keeps that of the result.
        """
        import pandas as pd

        unit = self.unit if unit is None else unit
        rows = []
        for name, estimate in zip(self.names, self.estimates, strict=True):
            of = results.in_unit(estimate, unit)
            ceiling = np.inf if of.ceiling is None else float(of.ceiling)
            row = {"estimator": name, "value": float(of.value), "stderr": float(of.stderr), "ceiling": ceiling}
            few = self.alone > _ALONE and name not in ("ksg", "infonce")
            row |= {"saturated": few or (of.ceiling is not None and bool(is_saturated(of)))}
            rows.append(row | {"correction": _ROWS[name].correction, "assumes": _ROWS[name].assumes, "unit": unit})
        columns = ["estimator", "value", "stderr", "ceiling", "saturated", "correction", "assumes", "unit"]
        return pd.DataFrame(rows, columns=columns)


def compare(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    *,
    estimators: Sequence[str] | None = None,
    bins: int = 8,
    adaptive: bool = True,
    k: int = 3,
    key: Array | None = None,
    unit: str = "nats",
) -> Comparison:
    """I(X;Y) by every estimator that fits the samples, with assumptions, corrections, errors and ceilings.

    Where they agree within their errors, the value can be told. Where the plug-in value is far above the corrected
    ones, and these apart from each other, there are too few samples for so many values: fewer bins, or more samples.

    Args:
      x: samples (n,) or (n, d): floats are quantities, integers and text labels. For "panzeri_treves" the response.
      y: samples (n,) or (n, e), likewise. For "panzeri_treves" the stimulus.
      estimators: names among "plug_in", "miller_madow", "panzeri_treves", "grassberger", "chao_shen" (`binned` with
        that correction), "extrapolated" (`extrapolate` of the plug-in), "ksg" and "infonce"; None takes all that fit,
        "extrapolated" and "infonce", which draw, only with a `key`.
      bins: number of bins for each float column.
      adaptive: whether bins hold equally many samples; otherwise they are of equal width.
      k: number of neighbours of "ksg".
      key: random key, for "extrapolated" and "infonce".
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Comparison: `result["grassberger"]` is one estimate, `result.to_dataframe()` the table; `left_out` says why an
      estimator does not fit.

    Raises:
      TypeError: neither floats nor labels, or traced arrays.
      ValueError: no `key` for an estimator asked for that draws, unknown names; as `binned`.

    Source: theory, section 9, "Counted samples"; Panzeri et al. 2007, Journal of Neurophysiology 98, 1064
    (corrections compared).

    Example:
      >>> rng = np.random.default_rng(0)
      >>> stimulus = rng.integers(0, 4, size=400)
      >>> table = compare(rng.poisson(1 + stimulus), stimulus, unit="bits").to_dataframe()
      >>> table.estimator.tolist()
      ['plug_in', 'miller_madow', 'panzeri_treves', 'grassberger', 'chao_shen']
    """
    check.on_host({"x": x, "y": y, "bins": bins, "k": k})
    tables.factor(unit)
    check.integer("k", k)
    if key is not None:
        key = check.key("key", key)
    wanted = _names(estimators, key)
    of_bins = {"bins": bins, "adaptive": adaptive}
    # Refuses, by its argument, what no estimator can take.
    codes = discretised({"x": x, "y": y}, **of_bins)
    first = counted(codes, None)
    of_split, of_critic = (None, None) if key is None else jax.random.split(key)
    calls: dict[str, Callable[[], Information]] = {
        name: lambda name=name: counted(codes, name) for name in _COUNTED[1:]
    } | {
        "plug_in": lambda: first,
        "extrapolated": lambda: _extrapolated(x, y, of_split, of_bins, first),
        "ksg": lambda: ksg(x, y, k=k),
        "infonce": lambda: infonce(x, y, key=of_critic, progress=False),
    }
    found, left_out = {}, []
    for name in wanted:
        try:
            found[name] = results.in_unit(calls[name](), unit)
        except ValueError as error:
            # Of the names asked for none is left out in silence, and none of what was found is lost.
            left_out.append((name, str(error)))
    pairs = np.bincount(_binning.symbols(np.stack(codes, axis=1)))
    n = int(pairs.sum())
    alone = np.count_nonzero(pairs == 1) / n
    return Comparison(tuple(found.values()), tuple(found), tuple(left_out), n, alone, unit)


def _names(estimators, key) -> tuple[str, ...]:
    if estimators is None:
        return tuple(name for name, row in _ROWS.items() if key is not None or not row.random)
    if isinstance(estimators, str) or not isinstance(estimators, Sequence):
        raise TypeError(f"`estimators` must be a list of names; got {check.described(estimators)}.")
    for name in estimators:
        check.option("estimators", name, tuple(_ROWS))
        if _ROWS[name].random and key is None:
            raise ValueError(f"`key` must be given for {name!r}, which draws; got None.")
    if not estimators:
        raise ValueError("`estimators` must hold at least one name; got none.")
    return tuple(dict.fromkeys(estimators))


def _extrapolated(x, y, key, of_bins, first) -> Information:
    found = extrapolate(x, y, key=key, **of_bins)
    return _samples.estimate(found.value, found.stderr, "binned", first.ceiling)
