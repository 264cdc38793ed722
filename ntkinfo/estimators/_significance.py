"""Whether there is any information between samples: the estimate among those of shuffled samples."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Shaped

from ntkinfo._common import check, pytree, tables
from ntkinfo.estimators import _statistic

if TYPE_CHECKING:
    import pandas as pd

# Values that differ by less than this, in nats, are equal: the same counts summed in another order.
_TIE = 1e-10


@pytree.dataclass("unit")
class Significance:
    """An estimate of I(X;Y) among those of shuffled samples. Made by `estimators.significance`.

    Attributes:
      value: the estimate, a scalar.
      p_value: (1 + number of shuffles with at least this value)/(1 + number of shuffles): the probability of such a
        value, or an even smaller one, under independence. Never 0.
      null: the estimates of the shuffled samples, (n_shuffles,): draws for independent variables of these margins.
      unit: "nats" or "bits", of `value` and `null`.
    """

    value: jax.Array
    p_value: jax.Array
    null: jax.Array
    unit: str = "nats"

    _repr_html_ = tables.html

    @property
    def null_mean(self) -> jax.Array:
        """Mean estimate of the shuffled samples: the bias for independent variables of these margins."""
        return jnp.mean(self.null)

    @property
    def excess(self) -> jax.Array:
        """The estimate less `null_mean`. Of dependent variables the bias is another: a rough correction."""
        return self.value - self.null_mean

    def __repr__(self):
        return (
            f"Significance(value {float(self.value):.4g} {self.unit}, p = {float(self.p_value):.3g}; of "
            f"{len(self.null)} shuffles mean {float(self.null_mean):.4g}, largest {float(jnp.max(self.null)):.4g})"
        )

    def to_dataframe(self, *, unit: str | None = None) -> "pd.DataFrame":
        """A pandas table of one row: value, p_value, null_mean, null_std, excess, n_shuffles, unit.

        Args:
          unit: "nats" or "bits"; None keeps that of the result.
        """
        import pandas as pd

        factor = tables.factor(self.unit if unit is None else unit) / tables.factor(self.unit)
        null = np.asarray(self.null, np.float64) * factor
        row = {"value": float(self.value) * factor, "p_value": float(self.p_value), "null_mean": null.mean()}
        row |= {"null_std": null.std(), "excess": float(self.value) * factor - null.mean(), "n_shuffles": len(null)}
        return pd.DataFrame([row | {"unit": unit or self.unit}])


def significance(
    x: Shaped[ArrayLike, "n ..."],
    y: Shaped[ArrayLike, "n ..."],
    *,
    key: Array,
    estimator: str | Callable = "binned",
    n_shuffles: int = 1000,
    unit: str = "nats",
    **options,
) -> Significance:
    """Whether I(X;Y) > 0, by a permutation test: the estimate among those of samples with y shuffled.

        p = (1 + #{shuffles with a value ≥ that of the samples}) / (1 + n_shuffles)

    Exact for independent pairs, whatever the estimator and its bias: under independence p ≤ a has at most probability
    a. Ties count as at least the value. Samples must be exchangeable: of a time series that remembers, shuffling
    destroys what the test does not ask about, and p is too small.

    Args:
      x: samples (n,) or (n, d), as the estimator takes them.
      y: samples (n,) or (n, e), likewise: whole rows are shuffled.
      key: random key of the shuffles.
      estimator: "binned" or "ksg", or a function of x and y that returns `Information` or a number.
      n_shuffles: number of shuffles: p is at least 1/(1 + n_shuffles).
      unit: "nats" or "bits", of the estimates returned.
      **options: of the estimator, such as `correction="grassberger"`, `bins=8` or `k=4`.

    Returns:
      Significance: value, p_value and the estimates of the shuffled samples.

    Raises:
      TypeError, ValueError: as the estimator; options that it does not take; an estimate that is not finite.

    Source: Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, 39; theory, section 9,
    "Counted samples".

    Example:
      >>> spikes, stimulus = np.tile([0, 1, 2, 3], 10), np.tile(["left", "left", "right", "right"], 10)
      >>> found = significance(spikes, stimulus, key=jax.random.key(0), n_shuffles=99, unit="bits")
      >>> round(float(found.value), 6), round(float(found.p_value), 6)
      (1.0, 0.01)
    """
    check.on_host({"x": x, "y": y, **options})
    factor = tables.factor(unit)
    n_shuffles = check.integer("n_shuffles", n_shuffles, most=check.MOST_ENTRIES)
    rng = _statistic.generator(key)
    statistic = _statistic.statistic(x, y, estimator, options)
    rows = np.arange(statistic.n)
    value = statistic.value(rows, rows)
    null = np.array([statistic.value(rows, rng.permutation(statistic.n)) for _ in range(n_shuffles)])
    if not np.isfinite(null).all():
        raise ValueError(
            "`estimator` must be finite for shuffled samples; got repeated ones, whose nearest neighbours lie at "
            'distance 0. Take a larger k, or estimator="binned".'
        )
    p_value = (1 + np.count_nonzero(null >= value - _TIE * max(1.0, abs(value)))) / (1 + n_shuffles)
    return Significance(*(jnp.asarray(np.asarray(one)) for one in (factor * value, p_value, factor * null)), unit)
