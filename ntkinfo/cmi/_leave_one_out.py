"""Leave-one-out conditional mutual information of the interpolating ensemble: one inverse, nothing sampled."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo import ensemble, examples
from ntkinfo._common import check, pytree, tables
from ntkinfo._numerics.entropy import plogp
from ntkinfo.ensemble import Ensemble


@pytree.dataclass()
class LeaveOneOut:
    """Information between the losses of one network and which of n + 1 examples it was not trained on.

    Attributes:
      information: I(L;U) in nats for these examples, a scalar between 0 and log(n + 1). Exact.
      error: mean 0-1 error of one network, trained to the end on n of the examples, at the one left out. Exact for
        these examples, and unbiased for the expected error of networks trained on n.
      bound: information / log(n + 1), never below `error`; its average over data bounds the expected error.
    """

    information: Array
    error: Array
    bound: Array

    _table = tables.Table((), nats="information", plain="error bound")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def leave_one_out(ens: Ensemble) -> LeaveOneOut:
    """I(L;U) in nats between the 0-1 losses L of one network and which example U was left out of its training.

    U is uniform over the n + 1 examples of `ens`; networks are trained to the end and meet the labels of those kept.
    With p_j the probability that one trained on the others is wrong at example j, and p̄ their mean, an error reveals U,
    and no error leaves U ∝ 1 - p_j:

        I(L;U) = log(n + 1) - (1 - p̄) H(U | no error),      E risk ≤ E I(L;U) / log(n + 1).

    Args:
      ens: the ensemble, fit on all n + 1 examples with labels -1 and 1 or one-hot rows.

    Returns:
      `LeaveOneOut`, exact; the inequality holds for every set of examples.

    Raises:
      TypeError: no ensemble, or a traced one.
      ValueError: one example; labels that name no classes; a singular tangent kernel, which was projected.

    Cost: O(n³), once.

    Example:
      >>> found = leave_one_out(ens)
      >>> bool(found.error <= found.bound)
      True

    Source: Haghifam et al. 2022 (arXiv 2206.14800); Rammal et al. 2022 (arXiv 2207.00581); theory, section 13.
    """
    ens = ensemble.dense("ens", ens, "`leave_one_out`")
    check.known("ens", ens)
    if ens.n < 2:
        raise ValueError("`ens` must have at least two training examples, so that one can be left out; got one.")
    probability = examples.value(ens).probability
    if probability is None:
        raise ValueError("`ens` must have labels that name classes, -1 and 1 or one-hot rows; got other numbers.")
    right = np.asarray(probability, np.float64)
    most, share = math.log(ens.n), float(right.mean())
    # (1 - p̄) H(U | no error) = share log Σ right - Σ right log right / (n + 1).
    unknown = share * math.log(right.sum()) - float(np.sum(plogp(right))) / ens.n if share > 0 else 0.0
    information = min(max(most - unknown, 0.0), most)
    parts = (information, 1.0 - share, information / most)
    return LeaveOneOut(*(jnp.asarray(part, ens.y.dtype) for part in parts))
