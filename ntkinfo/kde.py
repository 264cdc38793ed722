"""Information of layers with Gaussian noise added to their activations: bounds from distances, nothing sampled."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ntkinfo import _check, mixture
from ntkinfo.mixture import Information


def _kde(t, classes, variance) -> tuple[Information, Information]:
    t = _check.array("t", t)
    if t.ndim < 2 or t.shape[-2] < 2:
        raise ValueError(f"`t` must have shape (..., n, d) with at least two rows; got {t.shape}.")
    if np.ndim(variance):
        raise ValueError(f"`variance` must be a single number; got shape {np.shape(variance)}.")
    _check.positive("variance", variance)
    noise = jnp.broadcast_to(jnp.asarray(variance, t.dtype), t.shape[:-1])
    about_input, about_label = mixture.pairwise_pair(t, noise, classes(t.shape[-2]))
    # lower = B - K_c and the input's lower = B, upper = K: the literature's K - K_c follows.
    label = about_input.upper - about_input.lower + about_label.lower
    return (
        dataclasses.replace(about_input, value=about_input.upper, method="kde"),
        dataclasses.replace(about_label, value=label, method="kde"),
    )


def kde_pair(t, y, *, variance) -> tuple[Information, Information]:
    """I(X;T) and I(T;Y) in nats for the price of one; see `kde`."""
    if not _check.concrete(y):
        raise TypeError("`y` is being traced; close over it instead.")
    labels = np.asarray(y)
    if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool) or labels.ndim != 1:
        raise TypeError(f"`y` must be a vector of integer classes; got dtype {labels.dtype}, shape {labels.shape}.")

    def classes(n):
        if len(labels) != n:
            raise ValueError(f"`y` must hold one class for each row of `t`; got {len(labels)} for {n} rows.")
        values, codes = np.unique(labels, return_inverse=True)
        return mixture.one_hot(codes, len(values))

    return _kde(t, classes, variance)


def kde(t, y=None, *, variance) -> Information:
    """I(X;T) in nats, or I(T;Y) given classes y, for T = t_i + N(0, variance I) and X uniform over the rows: bounds.

        upper = -mean_i log mean_j exp(-|t_i - t_j|^2 / 2 variance),    lower: 8 variance in place of 2 variance

    and I(T;Y) = I(X;T) - sum_c p(c) I(X;T | Y = c), each term bounded so. The noise is part of the measurement:
    without it a deterministic layer has I(X;T) = log n. Differentiable in `t` and `variance`.

    Args:
      t: activations (..., n, d), with leading axes such as epochs.
      y: (n,) integer classes, or None.
      variance: variance of the noise in each unit.

    Returns:
      Information of shape (...): `lower` and `upper` are bounds, and nothing is sampled. `value` is the estimate of
      the literature: `upper` for I(X;T), and distances as in `upper` in both terms for I(T;Y).
      O(n^2 d) time; memory is bounded for any n.

    Raises:
      TypeError: labels that are not integers, activations that are not floats.
      ValueError: fewer than two rows, lengths that differ, NaN, a variance that is not positive.

    Source: theory, section 9; Kolchinsky & Tracey 2017, arXiv 1706.02419; Saxe et al. 2019, J. Stat. Mech. 124020.

    Example:
      >>> round(float(kde(np.array([[0.0], [100.0]]), variance=1.0).value), 6)  # log 2
      0.693147
    """
    if y is None:
        return _kde(t, lambda n: np.ones((n, 1)), variance)[0]
    return kde_pair(t, y, variance=variance)[1]
