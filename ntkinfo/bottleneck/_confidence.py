"""How far informations measured on counts may be from the truth: a proven band, and one by bootstrap."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo._common import check, tables
from ntkinfo._numerics import entropy

METHODS = ("proven", "bootstrap")


class ConfidenceBand(NamedTuple):
    """Informations of encoders measured on counts, with their band, in nats; scalars, or one for each encoder.

    Attributes:
      i_xz: Î(X;Z) of the table of frequencies; `i_xz_lower` and `i_xz_upper` its band.
      i_zy: Î(Z;Y) likewise; `i_zy_lower` and `i_zy_upper` its band.
    """

    i_xz: Array
    i_xz_lower: Array
    i_xz_upper: Array
    i_zy: Array
    i_zy_lower: Array
    i_zy_upper: Array

    _table = tables.Table((), nats="i_xz i_xz_lower i_xz_upper i_zy i_zy_lower i_zy_upper")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def confidence_band(
    counts: Num[ArrayLike, "x y"],
    encoder: Float[ArrayLike, "x z"] | Float[ArrayLike, "encoders x z"],
    *,
    delta: float = 0.05,
    method: str = "proven",
    draws: int = 500,
    key: Array | None = None,
) -> ConfidenceBand:
    """A band for I(X;Z) and I(Z;Y) of given encoders p(z|x), from counts of m independent examples.

    "proven": with probability at least 1 - δ all informations of all encoders lie in their bands together. Replacing
    one example changes H(Z) by at most (2/m) log(m|Z|/2), likewise H(Y) and H(Z,Y), and H(Z|X) by log|Z|/m; by
    McDiarmid's inequality an information, whose changes add up to c, stays within c √(m log(2/δ')/2) of its mean, and
    means of entropies are at most (cells - 1)/m below the truth. Of the type |Z||Y| log(m)/√m of Shamir, Sabato &
    Tishby, with constants of its own; it is wide. "bootstrap": quantiles of resampled counts about the value, for each
    information alone; not proven, and asymptotically right at best.

    Args:
      counts: how often each pair (x, y) was seen, not negative integers (x, y), at least 3 in all.
      encoder: p(z|x), (x, z), or several, (encoders, x, z), as of `BottleneckCurve.encoder`, fixed before these counts
        were seen: found from other counts. Of encoders found from the same counts neither band says what is promised.
      delta: δ in (0, 1).
      method: "proven" or "bootstrap".
      draws: resampled tables of the bootstrap, at least 2.
      key: random key, for the bootstrap.

    Returns:
      `ConfidenceBand`, each bound between 0 and what the information cannot exceed.

    Raises:
      TypeError: counts that are no numbers; traced arguments.
      ValueError: counts that are negative, no integers or too few; an encoder that is none, or of other inputs; δ
        outside (0, 1); the bootstrap without a key.

    Example:
      >>> band = confidence_band(np.array([[300, 100], [50, 550]]), np.eye(2))
      >>> bool(band.i_zy_lower <= band.i_zy) and bool(band.i_zy <= band.i_zy_upper)
      True

    Source: Shamir, Sabato & Tishby 2010 (Theoretical Computer Science 411, 2696); Paninski 2003 (Neural Computation 15,
      1191) for the bias; theory, section 7.
    """
    check.on_host(locals())
    table = check.real_numbers("counts", counts, 0, 2.0**53)
    if table.ndim != 2 or (table != np.round(table)).any() or table.sum() < 3:
        raise ValueError(
            f"`counts` must hold integers (x, y), at least 3 examples in all; got shape {table.shape} with the sum "
            f"{table.sum():.6g}. Frequencies do not say how many examples there were."
        )
    encoders = np.asarray(check.probabilities("encoder", encoder, (2, 3), axis=-1), np.float64)
    if encoders.shape[-2] != len(table):
        raise ValueError(f"`encoder` must have shape (..., x, z) with x = {len(table)}; got {encoders.shape}.")
    check.number("delta", delta, 0, 1, ends=False)
    check.option("method", method, METHODS)
    draws = check.integer("draws", draws, least=2)
    if key is not None:
        check.key("key", key)
    value = _informations(table, encoders)
    if method == "proven":
        low, high = _proven(table, encoders, float(delta), value)
    else:
        if key is None:
            raise ValueError("`key` must be given: the bootstrap samples. Pass key=jax.random.key(0), or another seed.")
        low, high = _bootstrap(table, encoders, float(delta), value, draws, key)
    most = np.log([min(table.shape[0], encoders.shape[-1]), min(table.shape[1], encoders.shape[-1])])
    parts = []
    for i in (0, 1):
        parts += [value[i], np.clip(low[i], 0.0, most[i]), np.clip(high[i], 0.0, most[i])]
    return ConfidenceBand(*(jnp.asarray(part, jnp.result_type(float)) for part in parts))


def _informations(table, encoders):
    """Î(X;Z) and Î(Z;Y), (...) each."""
    p_xy = table / table.sum()
    p_x = p_xy.sum(axis=1)
    return entropy.mutual_information(p_x[:, None] * encoders), entropy.mutual_information(
        np.einsum("...xz,xy->...zy", encoders, p_xy)
    )


def _proven(table, encoders, delta, value):
    m, z, y = float(table.sum()), encoders.shape[-1], table.shape[1]
    # All encoders and both informations at once.
    share = delta / (2 * max(1, encoders[..., 0, 0].size))

    def change(cells):
        return 2 / m * math.log(max(m * cells / 2, 1.0)) if cells > 1 else 0.0

    factor = math.sqrt(0.5 * m * math.log(2 / share))
    spread = factor * (change(z) + math.log(z) / m), factor * (change(z) + change(y) + change(z * y))
    # What entropies of frequencies are too low by, on average, enters with their signs.
    low = value[0] - spread[0], value[1] - spread[1] - (z * y - 1) / m
    high = value[0] + spread[0] + (z - 1) / m, value[1] + spread[1] + (z + y - 2) / m
    return low, high


def _bootstrap(table, encoders, delta, value, draws, key):
    seeds = np.random.default_rng(np.asarray(jax.random.randint(key, (4,), 0, 2**31 - 1)))
    share = (table / table.sum()).ravel()
    drawn = seeds.multinomial(int(table.sum()), share / share.sum(), size=draws).reshape(draws, *table.shape)
    resampled = [_informations(one, encoders) for one in drawn]
    low, high = [], []
    for i in (0, 1):
        # About the value: frequencies of frequencies are as much too informative as these are.
        lower, upper = np.quantile([each[i] for each in resampled], (delta / 2, 1 - delta / 2), axis=0)
        low.append(2 * value[i] - upper)
        high.append(2 * value[i] - lower)
    return low, high
