"""The divergence between two coins and its inverse, to rounding: what the sharpest generalization bounds are made of.

NumPy on the host in float64, whatever the precision of JAX.
"""

import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo._common import check
from ntkinfo._numerics.entropy import plogp


def binary_kl(q: Num[ArrayLike, "..."], p: Num[ArrayLike, "..."]) -> Float[np.ndarray, "..."]:
    """kl(q ‖ p) = q log(q/p) + (1 - q) log((1 - q)/(1 - p)) in nats: divergence of a coin with bias q from one with p.

    Args:
      q: numbers in [0, 1]; any shape.
      p: numbers in [0, 1] that broadcast with `q`.

    Returns:
      Array of float64, exact to rounding, relative, also where q and p almost agree. Infinite where p is 0 or 1 and q
      is not.

    Raises:
      TypeError, ValueError: not numbers, NaN, outside [0, 1].

    Example:
      >>> float(binary_kl(0.0, 0.5))  # log 2
      0.6931471805599453
    """
    q, p = np.broadcast_arrays(check.real_numbers("q", q, 0, 1), check.real_numbers("p", p, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Far apart, the difference p - q would lose a small p or 1 - p.
        apart = np.where(q > 0, q * np.log(q / p), 0.0) + np.where(q < 1, (1 - q) * (np.log1p(-q) - np.log1p(-p)), 0.0)
    close = (np.abs(p - q) < 0.5 * q) & (np.abs(p - q) < 0.5 * (1 - q))
    return np.where(close, _divergence(q, p - q), apart)


def binary_kl_inverse(
    q: Num[ArrayLike, "..."], bound: Num[ArrayLike, "..."], *, side: str = "upper"
) -> Float[np.ndarray, "..."]:
    """The largest p with kl(q ‖ p) ≤ bound; for side="lower" the smallest.

    Args:
      q: numbers in [0, 1]; any shape.
      bound: numbers from 0 to infinity, in nats, that broadcast with `q`.
      side: "upper" or "lower".

    Returns:
      Array of float64, right to 1e-12; "upper" also has p - q right to 1e-12 relative, down to bounds of 1e-200.

    Raises:
      TypeError, ValueError: not numbers, NaN, q outside [0, 1], a negative bound, an unknown side.

    Example:
      >>> round(float(binary_kl_inverse(0.0, 0.05)), 6)  # 1 - exp(-0.05)
      0.048771
    """
    q, bound = np.broadcast_arrays(check.real_numbers("q", q, 0, 1), check.real_numbers("bound", bound, 0))
    check.option("side", side, ("upper", "lower"))
    return q + _excess(q, bound) if side == "upper" else q - _excess(1 - q, bound)


def _divergence(q, d):
    """kl(q ‖ q + d) as a sum of two terms that are not negative, so that nothing cancels for small d."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # At q = 0 the first term is its limit d, at q = 1 the second is -d.
        first = np.where(q > 0, q * _remainder(d / q), d)
        second = np.where(q < 1, (1 - q) * _remainder(-d / (1 - q)), -d)
        # q g(d/q) = d - q log1p(d/q); the product loses d/q when that overflows.
        first = np.where((q > 0) & ~np.isfinite(d / q), d, first)
    return first + second


def _remainder(u):
    """u - log(1 + u), not negative, to relative rounding."""
    r = u / (2 + u)
    # log(1 + u) = 2 artanh r and u - 2 r = u r; for |u| < 1/2 the series needs |r| ≤ 1/3.
    series = np.zeros_like(u)
    square = r * r
    for odd in range(35, 1, -2):
        series = series * square + 1 / odd
    small = np.abs(u) < 0.5
    near = r * (u - 2 * square * series)
    with np.errstate(divide="ignore", invalid="ignore"):
        far = u - np.log1p(np.maximum(u, -1.0))
    return np.where(small, near, far)


def _excess(q, bound):
    """d = p - q ≥ 0 with kl(q ‖ p) = bound. Newton from above: kl is convex, so the steps come down monotonically."""
    rest = 1 - q
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        # Lower bounds of kl give starting points above the solution: q log q + (1 - q) log((1 - q)/(1 - p)), and
        # d²/2v with v the largest variance of a coin between q and p.
        d = -rest * np.expm1((plogp(q) - bound) / rest)
        d = np.minimum(d, np.sqrt(bound) * np.sqrt(2 * np.where(q > 0.5, q * rest, 0.25)))
        d = np.where((rest > 0) & (bound > 0), np.clip(d, 0, rest), np.where(bound > 0, rest, 0.0))
        for _ in range(200):
            p = q + d
            # kl' = d/(p (1 - p))
            step = (_divergence(q, d) - bound) * (p / d) * (rest - d)
            # At p = 1 to rounding, or no step to be taken, stay.
            step = np.where(np.isfinite(step) & (d > 0) & (d < rest), step, 0.0)
            new = np.clip(d - step, 0.0, rest)
            if np.all(np.abs(new - d) <= 1e-16 * d):
                break
            d = new
    return d
