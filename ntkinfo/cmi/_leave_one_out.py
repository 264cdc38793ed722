"""Leave-one-out conditional mutual information: exact at the end of training from one inverse, loss by loss before."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Num

from ntkinfo import bounds, ensemble, examples, gaussian, kernels
from ntkinfo._common import check, labels, memory, parallel, pytree, tables
from ntkinfo._numerics import refits
from ntkinfo._numerics.entropy import plogp
from ntkinfo.ensemble import Ensemble
from ntkinfo.gaussian import Gaussian


@pytree.dataclass()
class LeaveOneOut:
    """Information between the losses of one network and which of n + 1 examples it was not trained on. Exact.

    Scalars at the end of training; arrays like `t` where times were given.

    Attributes:
      information: I(L;U) in nats for these examples, between 0 and log(n + 1). None where a time is finite: there the
        losses of the examples kept are random too, and their joint distribution has no closed form.
      error: mean 0-1 error of one network, trained on n of the examples, at the one left out: unbiased for the
        expected error of networks trained on n.
      bound: a bound on `error`, and on average over data on the expected error: information / log(n + 1) at the end of
        training, `binary_kl` at finite times.
      train_error: mean 0-1 error of one network at the examples kept.
      single_information: Σ_j I(L_j;1[U = j]) in nats, of each loss alone with whether its example was left out.
      binary_kl: the largest L ≤ 1 with kl(L ‖ (L + n train_error)/(n + 1)) ≤ single_information: never below `error`.
      t: the training times.
    """

    information: Array | None
    error: Array
    bound: Array
    train_error: Array
    single_information: Array
    binary_kl: Array
    t: Array | None = None

    _table = tables.Table(("t",), nats="information single_information", plain="error bound train_error binary_kl")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    @property
    def gap(self) -> Array:
        """`error` - `train_error`."""
        return self.error - self.train_error


def leave_one_out(ens: Ensemble, t: Num[ArrayLike, "*T"] | None = None) -> LeaveOneOut:
    """What the 0-1 losses L of one network tell about which example U was left out of its training, in nats.

    U is uniform over the n + 1 examples of `ens`. Networks trained to the end meet the labels of those kept: with p_j
    the probability that one trained on the others is wrong at example j, and p̄ their mean, an error reveals U, and no
    error leaves U ∝ 1 - p_j:

        I(L;U) = log(n + 1) - (1 - p̄) H(U | no error),      E risk ≤ E I(L;U) / log(n + 1).

    At any time, with q_j the probability of an error at j, mean over the other U, π = 1/(n + 1), m_j = π p_j + (1 - π)
    q_j, each loss alone tells I(L_j;1[U = j]) = π kl(p_j ‖ m_j) + (1 - π) kl(q_j ‖ m_j) of whether its example was left
    out; kl is convex, so that

        kl(p̄ ‖ π p̄ + (1 - π) q̄) ≤ Σ_j I(L_j;1[U = j]).

    Args:
      ens: the ensemble, fit on all n + 1 examples with labels -1 and 1 or one-hot rows.
      t: training times of n examples, scalar or (T,), as in `Ensemble.predict`; None is infinity.

    Returns:
      `LeaveOneOut`, exact; the inequalities hold for every set of examples.

    Raises:
      TypeError: no ensemble, or a traced one.
      ValueError: one example; labels that name no classes; at t = ∞ a singular tangent kernel, which was projected;
        negative times.

    Cost: O(n³), once; at finite times O(n⁴), and as much for each time: for some hundreds of examples.

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
    kernels.refuse_full("ens", ens.kernel_fn)
    classes = labels.read("y", ens.y, ens.n).classes
    if classes is None:
        raise ValueError("`ens` must have labels that name classes, -1 and 1 or one-hot rows; got other numbers.")
    shape, times = (), np.array([np.inf])
    if t is not None:
        check.known("t", t)
        given = check.times("t", t)
        shape, times = given.shape, np.asarray(given, np.float64).ravel()
    if np.isinf(times).all():
        right = np.asarray(examples.value(ens).probability, np.float64)
        wrong, train = 1.0 - right, np.zeros_like(right)
        information = _interpolating(right)
        parts = information, *_single(wrong, train)
        parts = parts[0], parts[1], information / math.log(ens.n), *parts[2:]
        parts = [np.broadcast_to(part, times.shape) for part in parts]
    else:
        if np.isinf(times).any():
            # Refuses what is singular.
            examples.value(ens)
        rows = [_single(*pair) for pair in zip(*_errors(ens, times, jnp.asarray(classes)), strict=True)]
        error, *rest = (np.array(part) for part in zip(*rows, strict=True))
        parts = [None, error, rest[-1], *rest]
    parts = [*parts, times]
    return LeaveOneOut(*(None if part is None else jnp.asarray(np.reshape(part, shape), ens.y.dtype) for part in parts))


def _interpolating(right: np.ndarray) -> float:
    """I(L;U) in nats of networks that meet all labels, from probabilities (n + 1,) of no error at the one left out."""
    n, share = len(right), float(right.mean())
    # (1 - p̄) H(U | no error) = share log Σ right - Σ right log right / (n + 1).
    unknown = share * math.log(right.sum()) - float(np.sum(plogp(right))) / n if share > 0 else 0.0
    return min(max(math.log(n) - unknown, 0.0), math.log(n))


def _single(wrong: np.ndarray, train: np.ndarray) -> tuple[float, float, float, float]:
    """Error, training error, Σ_j I(L_j;1[U = j]) and the bound from it, for probabilities p_j and q_j, (n + 1,)."""
    share = 1 / len(wrong)
    middle = share * wrong + (1 - share) * train

    def entropy(p):
        return -np.asarray(plogp(p)) - np.asarray(plogp(1 - p))

    terms = entropy(middle) - share * entropy(wrong) - (1 - share) * entropy(train)
    information = float(np.sum(np.maximum(terms, 0.0)))
    error, train_error = float(wrong.mean()), float(train.mean())
    return error, train_error, information, _binary_kl(train_error, information, share)


def _binary_kl(train_error: float, information: float, share: float) -> float:
    """The largest L ≤ 1 with kl(L ‖ share L + (1 - share) train_error) ≤ information: the left side grows above."""
    low, high = train_error, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        value = float(bounds.binary_kl(middle, share * middle + (1 - share) * train_error))
        low, high = (middle, high) if value <= information else (low, middle)
    return high


def _errors(ens: Ensemble, times: np.ndarray, classes: Array) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (T, n + 1) of an error at the example left out, and at each of the others, mean over U."""
    n, k = ens.n, ens.y.shape[1]
    # Those of all pairs of examples, three times over.
    needed = refits.n_bytes(n, k, len(times), n, min(parallel.cores(), n)) + 3 * 8 * len(times) * n**2
    memory.require(f"`ens` with n = {n} training inputs at {len(times)} times", needed, "Take fewer inputs or times.")
    full = refits.whole(ens.eigenvectors, ens.eigenvalues, ens.nngp_rotated, ens.y_rotated)
    y = np.asarray(ens.y, np.float64)
    offset, every = y - full.y, np.arange(ens.n)
    rows = refits.examples(full, every)

    def wrong(left_out):
        means, variances = refits.predict(full, np.delete(every, left_out), rows, times)
        z = Gaussian(jnp.asarray(means + offset, ens.y.dtype), jnp.asarray(variances, ens.y.dtype))
        if y.shape[1] == 1:
            return np.asarray(gaussian.sign_error(z, ens.y), np.float64)
        return 1.0 - np.asarray(gaussian.winning_of(z.mean, z.variance, classes), np.float64)

    found = np.clip(np.stack(parallel.map(wrong, list(range(ens.n))), axis=1), 0.0, 1.0)
    own = np.diagonal(found, axis1=1, axis2=2)
    return own, (found.sum(axis=1) - own) / (ens.n - 1)
