"""A mutual information with what is known about its error, the result of every estimator."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from ntkinfo._common import check, pytree, tables


@pytree.dataclass("method", "unit")
class Information:
    """A mutual information in nats, with what is known about its error. All arrays have the shape of `value`.

    The estimators from samples take `unit="bits"`; what they return says so in `unit`. They return entropies likewise.

    Attributes:
      value: the information, by `method`.
      lower: a lower bound on it: for exact results the value less its estimated numerical error; -inf where the method
        bounds nothing from below.
      upper: an upper bound, likewise; inf where nothing is known from above. Where sampled, bounds hold in expectation;
        see the standard errors.
      stderr: standard error of `value` over the sampling of z; 0 where nothing is sampled, inf where the estimate is
        saturated and its spread therefore says nothing.
      method: "exact", "monte_carlo", "minibatch", "pairwise" or "decoder"; of samples "binned", "kde",
        "ksg" or "infonce"; of entropies the correction.
      lower_stderr: standard error of `lower`; None stands for that of `value`.
      upper_stderr: standard error of `upper`; None stands for that of `value`.
      ceiling: the most this method could have returned for these points or samples, whatever the truth; None where it
        has no such limit. See `is_saturated`.
      unit: "nats", or "bits" where an estimator was asked for them: of all numbers above.
    """

    value: jax.Array
    lower: jax.Array
    upper: jax.Array
    stderr: jax.Array
    method: str
    lower_stderr: jax.Array | None = None
    upper_stderr: jax.Array | None = None
    ceiling: jax.Array | None = None
    unit: str = "nats"

    _table = tables.Table((), nats="value lower upper stderr lower_stderr upper_stderr ceiling", totals="method")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def in_unit(information: Information, unit: str) -> Information:
    """The same information in another unit."""
    factor = tables.factor(unit) / tables.factor(information.unit)
    if factor == 1:
        return information
    numbers = jax.tree.map(lambda number: number * factor, information)
    return dataclasses.replace(numbers, unit=unit)


@pytree.dataclass("method")
class Estimate:
    """A number that was estimated, with its error, sampling and truncation apart. All arrays have one shape.

    Attributes:
      value: the estimate.
      stderr: standard error of `value` over random probes; 0 where nothing is sampled.
      truncation: an estimate of the rest of the error, of an algorithm that was stopped, made not to fall below it.
      method: how it was estimated.
    """

    value: jax.Array
    stderr: jax.Array
    truncation: jax.Array
    method: str

    @property
    def lower(self) -> jax.Array:
        """The value less truncation and three standard errors."""
        return self.value - self.truncation - 3 * self.stderr

    @property
    def upper(self) -> jax.Array:
        """The value with truncation and three standard errors."""
        return self.value + self.truncation + 3 * self.stderr

    def reshape(self, *shape) -> "Estimate":
        """All three arrays in another shape."""
        parts = (part.reshape(*shape) for part in (self.value, self.stderr, self.truncation))
        return Estimate(*parts, self.method)

    def __add__(self, other: "Estimate") -> "Estimate":
        # The same probes may serve both: standard errors add up at most.
        pairs = ((self.value, other.value), (self.stderr, other.stderr), (self.truncation, other.truncation))
        return Estimate(*(one + two for one, two in pairs), self.method)

    def __mul__(self, factor: float) -> "Estimate":
        return Estimate(self.value * factor, self.stderr * abs(factor), self.truncation * abs(factor), self.method)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Estimate":
        return self * (1.0 / divisor)

    _table = tables.Table((), plain="value stderr truncation lower upper", totals="method")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


# A value so near its ceiling says little but that the ceiling was reached.
SATURATED = 0.99


def full(like: jax.Array, number: float | jax.Array) -> jax.Array:
    """One number in the shape of `like`; a known one is made on the host, where nothing is compiled for it."""
    if not check.concrete(number):
        return jnp.full_like(like, number)
    return jnp.asarray(np.full(jnp.shape(like), number, like.dtype))


def estimate(value: jax.Array, stderr: jax.Array, method: str, ceiling: jax.Array | None) -> Information:
    """An estimate that bounds nothing: its bounds are infinite."""
    return Information(value, full(value, -np.inf), full(value, np.inf), stderr, method, stderr, stderr, ceiling)


def is_saturated(information: Information, m: int | None = None) -> Bool[jax.Array, "..."]:
    """Whether a value is within 1 % of its ceiling, where it says little but that points or samples are told apart.

    A value whose standard error is infinite is saturated too: `estimators.ksg` is too low long before its ceiling. The
    ceiling is the method's own, `information.ceiling`: log m for information about an input that is one of m
    points, H(Y) for that about classes, ψ(n) - ψ(k) for `estimators.ksg`, the logarithm of the batch for `infonce`.

    Args:
      information: the information.
      m: number of points or samples, at least 2; log m is then a second ceiling. None takes the method's own alone.

    Returns:
      Booleans of the shape of `information.value`.

    Raises:
      ValueError: no `m` for information without a ceiling of its own.

    Example:
      >>> found = ni.information.input_information(ens.predict(x_test, t))
      >>> is_saturated(found).shape
      (2,)
    """
    check.instance("information", information, Information, maker="`information.input_information`")
    ceilings = [] if information.ceiling is None else [information.ceiling]
    if m is not None:
        ceilings.append(math.log(check.integer("m", m, least=2)) * tables.factor(information.unit))
    if not ceilings:
        raise ValueError(
            f"`m` must be given: an information by the method {information.method!r} has no ceiling of its own."
        )
    near = jnp.asarray(information.value) >= SATURATED * functools.reduce(jnp.minimum, ceilings)
    return near if information.stderr is None else near | jnp.isinf(information.stderr)
