"""Information of layers with Gaussian noise added to their activations: bounds from distances, nothing sampled."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo._common import check, labels, results, tables
from ntkinfo._common.results import Information, full
from ntkinfo._numerics import padding, pair_sums
from ntkinfo._numerics.entropy import entropy
from ntkinfo.estimators import _samples


# With the usual optimisations, so that the sums are the same with labels and without, to the bit.
@jax.jit
def _bounds(t, variance, classes, count):
    """Lower and upper bound of I(X;T), then of the average of I(X;T | Y = c), each (B,), of t (B, n, d).

    Of the n rows `count` are data; the others, of no class, only make neighbouring sizes share a program.
    """
    n, d = t.shape[1:]
    data = (jnp.arange(n) < count).astype(t.dtype)
    size = jnp.sum(classes, axis=0)
    log_size = jnp.log(jnp.where(size > 0, size, 1))

    def of_layer(t):
        t = t / jnp.sqrt(8 * variance)

        def row(i):
            squared = jnp.sum((t[i][None, :] - t) ** 2, axis=1)
            # e^{-4s} from e^{-s}; each sum has a term of 1, its own, so that nothing underflows as a whole.
            wide = jnp.exp(-squared)
            narrow = wide**4
            member = classes[i] > 0

            def within(near):
                share = jnp.where(member, near @ classes, 1)
                return jnp.sum(jnp.where(member, classes[i] * (log_size - jnp.log(share)), 0))

            whole = (jnp.log(count) - jnp.log(near @ data) for near in (wide, narrow))
            return jnp.stack([*whole, within(wide), within(narrow)])

        return data @ pair_sums.rows(row, n, n * d) / count

    return jax.lax.map(of_layer, t).T


def _kde(t, classes, variance, standardize, unit) -> tuple[Information, Information]:
    tables.factor(unit)
    check.flag("standardize", standardize, none=True)
    t = check.array("t", t)
    if t.ndim < 2 or t.shape[-2] < 2:
        raise ValueError(f"`t` must have shape (..., n, d) with at least two rows; got {t.shape}.")
    check.positive("variance", variance, scalar=True)
    lead, (n, d) = t.shape[:-2], t.shape[-2:]
    if standardize:
        t = _standardised(t)
    elif standardize is None and check.concrete(t):
        _samples.warn_scales(
            "the units of `t`",
            _samples.spread(np.asarray(t)).reshape(-1, d),
            "One noise for all blots out the small ones: pass standardize=True for a noise in units of each one's "
            "variance, or standardize=False where it is meant.",
        )
    table = np.asarray(classes(n))
    rows, most = table.astype(t.dtype), n
    if check.concrete(t) and padding.on_host(t):
        most = padding.near(n)
        t, rows = padding.repeat_last(np.asarray(t), most, axis=-2), padding.fill(rows, (most, rows.shape[1]))
    bounds = _bounds(t.reshape(-1, most, d), jnp.asarray(variance, t.dtype), rows, np.asarray(n, t.dtype))
    check.finite_result("their distance in units of the noise", bounds, "`t` and `variance`")
    lower, upper, class_lower, class_upper = bounds.reshape((4, *lead))
    zero, i_xy = full(lower, 0.0), float(entropy(table.mean(axis=0)) - entropy(table).mean())
    return tuple(
        results.in_unit(Information(value, low, up, zero, "kde", zero, zero, full(lower, ceiling)), unit)
        for value, low, up, ceiling in (
            (upper, lower, upper, math.log(n)),
            (upper - class_upper, lower - class_upper, upper - class_lower, i_xy),
        )
    )


def _standardised(t):
    """Units of variance 1 over the rows, at each leading index; constant ones stay as they are."""
    xp = np if check.concrete(t) and padding.on_host(t) else jnp
    t = xp.asarray(t)
    variance = xp.var(t, axis=-2, keepdims=True)
    # The root is taken of what is positive only: its slope at 0 would be infinite.
    return (t - xp.mean(t, axis=-2, keepdims=True)) / xp.sqrt(xp.where(variance > 0, variance, 1))


def kde_pair(
    t: Float[ArrayLike, "... n d"],
    y: ArrayLike,
    *,
    variance: float | Array,
    standardize: bool | None = None,
    unit: str = "nats",
) -> tuple[Information, Information]:
    """I(X;T) and I(T;Y) for the price of one; see `kde`.

    Example:
      >>> layer = np.array([[-3.0], [-3.1], [3.0], [3.1]])
      >>> i_xt, i_ty = kde_pair(layer, np.array([0, 0, 1, 1]), variance=0.01, standardize=False)
      >>> bool(i_xt.lower <= i_xt.upper), bool(i_ty.lower <= i_ty.upper)
      (True, True)
    """
    check.known("y", y)
    classes = check.values("y", y)
    if classes.dtype.kind in "UO":
        classes = _samples.numbered("y", classes)
    elif classes.ndim == 1 and classes.size and classes.dtype.kind in "iub":
        # Any integers name classes here, negative ones and with gaps too.
        classes = np.unique(classes, return_inverse=True)[1]
    return _kde(t, lambda n: labels.distributions("y", classes, n), variance, standardize, unit)


def kde(
    t: Float[ArrayLike, "... n d"],
    y: ArrayLike | None = None,
    *,
    variance: float | Array,
    standardize: bool | None = None,
    unit: str = "nats",
) -> Information:
    """I(X;T), or I(T;Y) given classes y, for T = t_i + N(0, variance I) and X uniform over the rows: bounds.

        upper = -mean_i log mean_j exp(-‖t_i - t_j‖² / 2 variance),    lower: 8 variance in place of 2 variance

    and I(T;Y) = I(X;T) - Σ_c p(c) I(X;T | Y = c), each term bounded so. The noise is part of the measurement:
    without it a deterministic layer has I(X;T) = log n. Differentiable in `t` and `variance`.

    Args:
      t: activations (..., n, d), with leading axes such as epochs.
      y: (n,) classes, integers or text, p(y|x) of shape (n, c), or None.
      variance: variance of the noise in each unit.
      standardize: True takes that variance in units of each unit's own, over the rows, so that no unit's scale counts;
        False takes the activations as they are, which None does too, but says where scales differ more than tenfold.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information of shape (...): `lower` and `upper` are bounds, and nothing is sampled. `value` is the estimate of
      the literature: `upper` for I(X;T), and distances as in `upper` in both terms for I(T;Y). `ceiling` is log n,
      and I(X;Y) for I(T;Y).
      O(n² d) time; memory is bounded for any n.

    Raises:
      TypeError: labels that are neither integers nor text, activations that are not floats.
      ValueError: fewer than two rows, lengths that differ, NaN, a variance that is not positive.

    Warns:
      UserWarning: with `standardize=None`, units whose standard deviations differ more than tenfold.

    Source: theory, section 9; Kolchinsky & Tracey 2017, arXiv 1706.02419; Saxe et al. 2019, J. Stat. Mech. 124020.

    Example:
      >>> round(float(kde(np.array([[0.0], [100.0]]), variance=1.0).value), 6)  # log 2
      0.693147
    """
    if y is None:
        return _kde(t, lambda n: np.ones((n, 1)), variance, standardize, unit)[0]
    return kde_pair(t, y, variance=variance, standardize=standardize, unit=unit)[1]
