"""Generalization bounds: functions of plain numbers, each a theorem with its assumptions."""

import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo._common import check
from ntkinfo._common.check import real_numbers as numbers
from ntkinfo.bounds._binary_kl import binary_kl_inverse
from ntkinfo.bounds._prior import Divergence, paid

Numbers = Num[ArrayLike, "..."]
Bounds = Float[np.ndarray, "..."]

# The temperatures over which `catoni` takes a union where none is given: neighbours 11 % apart, which costs the bound
# less than one per cent against the best temperature between 0.001 and 50; the union costs log 100 nats.
TEMPERATURES = np.geomspace(1e-3, 50.0, 100)
FORMS = ("published", "sharp")


def pac_bayes_kl(
    risk: Numbers, kl: Numbers | Divergence, *, n: ArrayLike, delta: ArrayLike = 0.05, priors: int | None = None
) -> Bounds:
    """Upper bound on the true risk L of a random network: the largest L with kl(L̂ ‖ L) ≤ (KL + log(2√n/δ))/n.

    Theorem (Seeger 2002 in the form of Maurer 2004): with probability at least 1 - δ over n independent examples, it
    holds for every posterior at once, also for one chosen by looking at the data.

    Assumes a loss in [0, 1], such as the 0-1 error; n independent examples of one distribution, which draws without
    replacement from a small pool, or repeated inputs left out, are only nearly; a prior fixed before the data are seen.
    The noise of a `ntkinfo.Posterior` is no part of its prior and may be fitted to the data; its kernel is.

    Args:
      risk: L̂, expected loss of a network drawn from the posterior on the n training examples, in [0, 1].
      kl: KL[posterior ‖ prior] in nats, from 0 to infinity; or what carries one, a `ntkinfo.Posterior`, whose prior is
        then known to have seen the data or not.
      n: number of training examples, at least 1.
      delta: δ in (0, 1), the probability with which the bound may fail.
      priors: how many priors, all fixed before the data, this one was chosen from with the data: their union is paid
        for by log `priors` nats. None is one.

    Returns:
      Array of the broadcast shape; an upper bound. At most 1 by its nature, and near 1 when vacuous.

    Raises:
      TypeError, ValueError: not numbers, NaN, or outside the ranges above; a posterior whose prior saw the data.

    Source: Maurer 2004 (arXiv cs/0411099), Theorem 5; Germain et al. 2015 (arXiv 1503.08329) for n below 8.

    Example:
      >>> round(float(pac_bayes_kl(0.1, 20.0, n=1000, delta=0.05)), 4)
      0.1839
    """
    risk, kl, n, delta = _check_arguments(risk, kl, n, delta, priors)
    return binary_kl_inverse(risk, _maurer(kl, n, delta))


def mcallester(
    risk: Numbers, kl: Numbers | Divergence, *, n: ArrayLike, delta: ArrayLike = 0.05, priors: int | None = None
) -> Bounds:
    """Upper bound on the true risk in closed form: L ≤ L̂ + √((KL + log(2√n/δ))/(2n)).

    McAllester's bound with Maurer's constant. It follows from `pac_bayes_kl` by Pinsker's inequality: never sharper,
    and much looser where the training risk is small. Arguments, assumptions and errors as there.

    Returns:
      Array of the broadcast shape; an upper bound, above 1 when vacuous.

    Source: McAllester 1999; Maurer 2004 (arXiv cs/0411099).

    Example:
      >>> round(float(mcallester(0.1, 20.0, n=1000, delta=0.05)), 4)
      0.2165
    """
    risk, kl, n, delta = _check_arguments(risk, kl, n, delta, priors)
    return risk + np.sqrt(_maurer(kl, n, delta) / 2)


def catoni(
    risk: Numbers,
    kl: Numbers | Divergence,
    *,
    n: ArrayLike,
    delta: ArrayLike = 0.05,
    temperature: ArrayLike | None = None,
    priors: int | None = None,
) -> Bounds:
    """Upper bound on the true risk: L ≤ [1 - exp(-c L̂ - (KL + log(1/δ))/n)] / (1 - e^{-c}), c the temperature.

    Theorem (Catoni 2007): for a temperature c > 0 fixed before the data are seen, with probability at least 1 - δ over
    n independent examples, for every posterior at once. Without a temperature, the smallest value over the 100
    `TEMPERATURES` from 0.001 to 50 is taken, each with δ/100, so that all of them hold together. Assumptions as for
    `pac_bayes_kl`.

    Args:
      risk: L̂ in [0, 1].
      kl: KL[posterior ‖ prior] in nats, from 0 to infinity, or a `ntkinfo.Posterior`, as in `pac_bayes_kl`.
      n: number of training examples, at least 1.
      delta: δ in (0, 1).
      temperature: c, positive and finite, chosen without the data; None takes the union.
      priors: as in `pac_bayes_kl`.

    Returns:
      Array of the broadcast shape; an upper bound, above 1 when vacuous.

    Raises:
      TypeError, ValueError: as `pac_bayes_kl`.

    Source: Catoni 2007 (arXiv 0712.0248), Theorem 1.2.6.

    Example:
      >>> round(float(catoni(0.1, 20.0, n=1000, delta=0.05)), 4)
      0.1847
    """
    risk, kl, n, delta = _check_arguments(risk, kl, n, delta, priors)
    if temperature is not None:
        c = numbers("temperature", temperature, 0, np.inf, ends=False)
        return _catoni(risk, (kl - np.log(delta)) / n, c)
    excess = (kl + np.log(len(TEMPERATURES)) - np.log(delta)) / n
    risk, excess = np.broadcast_arrays(risk, excess)
    return np.min(_catoni(risk[..., None], excess[..., None], TEMPERATURES), axis=-1)


def xu_raginsky(information: Numbers, *, n: ArrayLike, sub_gaussian: ArrayLike, priors: int | None = None) -> Bounds:
    """Bound on the expected generalization gap: |E[L - L̂]| ≤ √(2 R² I(Θ;D)/n).

    Theorem (Xu & Raginsky 2017) on the average over data sets of n independent examples, and over the randomness of
    training. Assumes that the loss of every fixed network is R-sub-Gaussian under a fresh example: R = (b - a)/2 for a
    loss in [a, b], so 1/2 for the 0-1 error.

    Args:
      information: I(Θ;D) in nats, from 0 to infinity, or an upper bound on it: the *average over data sets* of the
        parameters' divergence from the prior, the same for all data sets. `information.parameter_divergence` with
        `label_covariance` averages over Gaussian labels exactly, for given inputs: the mean of several draws of inputs
        is such an average, that for one draw bounds the gap to fresh labels of these inputs. The divergence for one
        data set gives an estimate, not a bound, and of a prior that saw the data no estimate either.
      n: number of training examples, at least 1.
      sub_gaussian: R, positive and finite.
      priors: how many fixed priors the one was chosen from with the data, for log `priors` nats; None is one.

    Returns:
      Array of the broadcast shape; an upper bound on the absolute gap, in units of the loss.

    Raises:
      TypeError, ValueError: not numbers, NaN, or outside the ranges above; the posterior of one data set.

    Source: Xu & Raginsky 2017 (arXiv 1705.07809), Theorem 1.

    Example:
      >>> round(float(xu_raginsky(20.0, n=1000, sub_gaussian=0.5)), 4)  # the 0-1 loss lies in [0, 1]: R = 1/2
      0.1
    """
    if isinstance(information, Divergence):
        raise ValueError(
            "`information` must be an average over data sets of divergences from one prior; got a "
            f"{type(information).__name__}, of one data set. Average the `kl` of several."
        )
    information = paid("information", information, priors)
    return numbers("sub_gaussian", sub_gaussian, 0, np.inf, ends=False) * np.sqrt(2 * information / _size(n))


def input_compression(information: Numbers, *, n: ArrayLike, delta: ArrayLike = 0.05) -> Bounds:
    """Input-compression estimate of the gap: L - L̂ ≤ √((e^{I(X;Z)} + log(1/δ))/(2n)), e^I = 2^{I in bits}.

    With probability at least 1 - δ it holds for any classifier that is constant on each of e^{I(X;Z)} cells fixed
    before the data are seen (Hoeffding and a union over the 2^(cells) classifiers, rounded up from e^I log 2). That a
    representation of information I(X;Z) acts like so many cells needs typical sets: inputs of high dimension with
    nearly independent parts, and a representation that did not see the labels. For trained networks it is therefore a
    measure to compare, not a certificate.

    Args:
      information: I(X;Z) in nats, from 0 to infinity. A value that saturates at log m (m test inputs) is too small.
      n: number of training examples, at least 1.
      delta: δ in (0, 1).

    Returns:
      Array of the broadcast shape, in units of a loss in [0, 1]; infinite where it exceeds float64.

    Raises:
      TypeError, ValueError: not numbers, NaN, or outside the ranges above.

    Source: Shwartz-Ziv, Painsky & Tishby 2018; Galloway et al. 2022 (arXiv 2207.09408).
    """
    information, n = numbers("information", information, 0), _size(n)
    delta = numbers("delta", delta, 0, 1, ends=False)
    # The square root is taken of the logarithm, which doubles the range before overflow.
    log_sum = np.logaddexp(information, np.log(-np.log(delta)))
    with np.errstate(over="ignore"):
        return np.exp(0.5 * (log_sum - np.log(2 * n)))


def information_content(
    content: Numbers, *, n: ArrayLike, delta: ArrayLike = 0.05, form: str = "published", priors: int | None = None
) -> Bounds:
    """Upper bound on the true 0-1 risk of a prior network conditioned on fitting all n labels, from C = -log P(fit).

        published:  -log(1 - L) ≤ (C + log(2n/δ))/(n - 1)          sharp:  -log(1 - L) ≤ (C + log(1/δ))/n

    Theorem: with probability at least 1 - δ over n independent examples whose labels are a function of the input. L is
    the average risk of the networks that fit all the labels, weighted by a prior fixed before the data. The sharp form
    is never above the published one. It follows by Markov's inequality, since a network of risk l fits n examples with
    probability (1 - l)^n: E_D[P(fit) E[(1 - l)^{-n} | fit]] ≤ 1, and by Jensen's, (1 - L)^{-n} ≤ E[(1 - l)^{-n} | fit].

    Args:
      content: C in nats, from 0 to infinity: `ntkinfo.content`, or any upper bound on it.
      n: number of training examples; at least 2 for the published form, 1 for the sharp one.
      delta: δ in (0, 1).
      form: "published" or "sharp".
      priors: how many fixed priors the one was chosen from with the data, for log `priors` nats; None is one.

    Returns:
      Array of the broadcast shape; an upper bound, at most 1 by its nature. With an estimate of C it is as sure as
      that estimate.

    Raises:
      TypeError, ValueError: not numbers, NaN, or outside the ranges above; an unknown form.

    Source: Bernstein & Yue 2021 (arXiv 2103.01045); Valle-Pérez et al. 2018 (arXiv 1805.08522); McAllester 1999.

    Example:
      >>> round(float(information_content(200.0, n=500, delta=0.01)), 4)
      0.3455
    """
    check.option("form", form, FORMS)
    content = paid("content", content, priors)
    delta = numbers("delta", delta, 0, 1, ends=False)
    if form == "sharp":
        return -np.expm1(-(content - np.log(delta)) / _size(n))
    n = _size(n, least=2)
    return -np.expm1(-(content + np.log(2 * n) - np.log(delta)) / (n - 1))


def _check_arguments(risk, kl, n, delta, priors):
    return (
        numbers("risk", risk, 0, 1),
        paid("kl", kl, priors),
        _size(n),
        numbers("delta", delta, 0, 1, ends=False),
    )


def _size(n, least=1):
    size = numbers("n", n, least)
    whole = np.isfinite(size) & (size == np.round(size))
    if not whole.all():
        raise ValueError(f"`n` must be a whole number of examples; got {size[~whole].flat[0]}.")
    return size


def _maurer(kl, n, delta):
    return (kl + np.log(2 * np.sqrt(n)) - np.log(delta)) / n


def _catoni(risk, excess, c):
    return np.expm1(-c * risk - excess) / np.expm1(-c)
