"""The bias of an estimate against 1/n, and the estimate without it: from parts of the samples."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Shaped

from ntkinfo._common import check, pytree, tables
from ntkinfo.estimators import _counting, _statistic

if TYPE_CHECKING:
    import pandas as pd


@pytree.dataclass("unit")
class Extrapolation:
    """Estimates of I(X;Y) from parts of the samples, extrapolated to endlessly many. Made by `estimators.extrapolate`.

    Attributes:
      value: the extrapolated estimate, a scalar.
      stderr: its standard error, by the jackknife over groups of samples.
      n: numbers of samples, (levels,), from all of them downwards.
      values: mean estimates from so many, (levels,).
      coefficients: of the polynomial in 1/n from the constant, `value`, upwards, (degree + 1,).
      unit: "nats" or "bits", of `value`, `stderr`, `values` and `coefficients`.
    """

    value: jax.Array
    stderr: jax.Array
    n: jax.Array
    values: jax.Array
    coefficients: jax.Array
    unit: str = "nats"

    _repr_html_ = tables.html

    @property
    def bias(self) -> jax.Array:
        """The estimate from all samples less the extrapolated one."""
        return self.values[0] - self.value

    def __repr__(self):
        return (
            f"Extrapolation(value {float(self.value):.4g} ± {float(self.stderr):.2g} {self.unit}, from "
            f"{float(self.values[0]):.4g} at n = {int(self.n[0])})"
        )

    def to_dataframe(self, *, unit: str | None = None) -> "pd.DataFrame":
        """A pandas table with a row for each number of samples: n, value, fitted, unit; the last has n = inf.

        Args:
          unit: "nats" or "bits"; None keeps that of the result.
        """
        import pandas as pd

        factor = tables.factor(self.unit if unit is None else unit) / tables.factor(self.unit)
        n = np.append(np.asarray(self.n, float), np.inf)
        values = np.append(np.asarray(self.values), self.value) * factor
        fitted = np.polynomial.polynomial.polyval(1 / n, np.asarray(self.coefficients, float)) * factor
        return pd.DataFrame({"n": n, "value": values, "fitted": fitted, "unit": unit or self.unit})


def extrapolate(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    *,
    key: Array,
    estimator: str | Callable = "binned",
    parts: Sequence[int] = (1, 2, 4),
    degree: int = 2,
    n_partitions: int = 10,
    unit: str = "nats",
    **options,
) -> Extrapolation:
    """I(X;Y) without the bias of few samples: the estimate from n, n/2 and n/4 of them, extrapolated to 1/n = 0.

        estimate(n) = I + a/n + b/n²

    The samples are split into so many parts at random, the estimates of the parts averaged, and a polynomial in 1/n
    fitted by least squares. Where most cells of a table hold a single sample the bias is no such polynomial, and the
    extrapolation is as wrong as the estimate.

    Args:
      x: samples (n,) or (n, d), as the estimator takes them.
      y: samples (n,) or (n, e), likewise.
      key: random key of the partitions.
      estimator: "binned" or "ksg", or a function of x and y that returns `Information` or a number.
      parts: numbers of parts, increasing, the first 1; more of them than `degree`.
      degree: of the polynomial in 1/n, 1 or 2.
      n_partitions: random partitions into each number of parts, to average over.
      unit: "nats" or "bits", of all estimates returned.
      **options: of the estimator, such as `bins=8` or `k=4`.

    Returns:
      Extrapolation, an estimate that bounds nothing; `stderr` is the jackknife's, leaving out a 20th of the samples
      at a time. It is larger than that of the estimate itself: that is the price.

    Raises:
      TypeError, ValueError: as the estimator; options that it does not take; parts too small for it.

    Source: Strong et al. 1998, Physical Review Letters 80, 197; theory, section 9, "Counted samples".

    Example:
      >>> x, y = np.random.default_rng(0).integers(0, 8, size=(2, 400))  # independent
      >>> found = extrapolate(x, y, key=jax.random.key(0))
      >>> bool(found.values[0] > 0.04), bool(abs(found.value) < 0.03)
      (True, True)
    """
    check.on_host({"x": x, "y": y, **options})
    factor = tables.factor(unit)
    degree = check.integer("degree", degree, most=2)
    n_partitions = check.size("n_partitions", n_partitions)
    rng = _statistic.generator(key)
    statistic = _statistic.statistic(x, y, estimator, options)
    n, parts = statistic.n, _check_parts(parts, degree, statistic.n)
    partitions = [[rng.permutation(n) for _ in range(1 if m == 1 else n_partitions)] for m in parts]
    groups = rng.permutation(n) % _counting.GROUPS

    def level(m, orders, kept):
        parts = [np.sort(part[kept[part]]) for order in orders for part in np.array_split(order, m)]
        if min(map(len, parts)) < 2:
            raise ValueError("a part of fewer than two samples")
        powers = np.array([[(n / len(rows)) ** d for d in range(3)] for rows in parts])
        return np.mean([statistic.value(rows, rows) for rows in parts]), powers.mean(axis=0)

    def fitted(kept):
        try:
            levels = [level(m, orders, kept) for m, orders in zip(parts, partitions, strict=True)]
        except (ValueError, IndexError) as error:
            raise ValueError(f"`parts` up to {parts[-1]} leave too few samples for the estimator: {error}") from error
        values, powers = (np.array(column) for column in zip(*levels, strict=True))
        if not np.isfinite(values).all():
            raise ValueError(f"`parts` up to {parts[-1]} leave too few samples for the estimator; got no finite value.")
        # In powers of n over the size of a part, the mean over parts: numbers of order one.
        solution = np.linalg.lstsq(powers[:, : degree + 1], values, rcond=None)[0]
        return n / powers[:, 1], values, solution * float(n) ** np.arange(degree + 1)

    sizes, values, coefficients = fitted(np.ones(n, bool))
    count = int(groups.max()) + 1
    without = [fitted(groups != g)[2][0] for g in range(count)]
    stderr = np.sqrt((count - 1) * np.var(without))
    numbers = (coefficients[0], stderr, sizes / factor, values, coefficients)
    return Extrapolation(*(jnp.asarray(np.asarray(one * factor)) for one in numbers), unit)


def _check_parts(parts, degree, n) -> tuple[int, ...]:
    parts = check.widths("parts", parts, least=degree + 1)
    if parts[0] != 1 or any(b <= a for a, b in itertools.pairwise(parts)):
        raise ValueError(f"`parts` must increase from 1; got {parts}.")
    if n < 4 * parts[-1]:
        raise ValueError(
            f"`parts` must leave at least four samples in each part; got {parts[-1]} parts of {n} samples. Take fewer."
        )
    return parts
