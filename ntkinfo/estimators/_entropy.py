"""Entropies of samples: discrete ones by counting, those of densities by nearest neighbours."""

import numpy as np
from jaxtyping import ArrayLike, Shaped

from ntkinfo._common import check, results, tables
from ntkinfo._common.results import Information
from ntkinfo.estimators import _binning, _counting, _neighbours, _samples

# Standard errors by which repeated samples must move an estimate to be refused.
_VISIBLE = 3.0


def entropy(
    x: Shaped[ArrayLike, "n ..."], *, correction: str | None = None, n_values: int | None = None, unit: str = "nats"
) -> Information:
    """H(X) of a discrete variable from samples, by counting: -Σ (c/n) log(c/n), c the counts of the values.

    Several columns are one variable: their joint entropy. The plug-in value is too low by about (K - 1)/2n, K the
    number of values that can occur, and never above log n.

    Args:
      x: samples (n,) or (n, d), integers or text.
      correction: None; "miller_madow" adds (K - 1)/2n with K the values seen, "panzeri_treves" with those that can
        occur, of `n_values` at most; "grassberger" puts a digamma function in the place of log c; "chao_shen" weighs
        each value by the chance that it is seen, and shares the chance of those unseen.
      n_values: how many values x could have, for "panzeri_treves" only, which needs it; at least those seen.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information, of which `value` is the entropy, an estimate that bounds nothing: `lower` and `upper` are infinite.
      `stderr` is the jackknife's, leaving out every 20th sample (for "grassberger" that of "miller_madow"): it sees the
      sampling, not the bias. `ceiling` is the value of n samples that are all different.

    Raises:
      TypeError: floats, whose entropy is that of a density (`differential_entropy`), or traced arrays.
      ValueError: fewer than two samples, labels that are missing, `n_values` below the number of values seen, or given
        to another correction.

    Source: theory, section 9, "Counted samples"; Miller 1955; Panzeri & Treves 1996, Network 7, 87; Grassberger 2003,
    arXiv physics/0307138, eqs. 28 to 30; Chao & Shen 2003, Environmental and Ecological Statistics 10, 429.

    Example:
      >>> round(float(entropy(["a", "b", "a", "b"], unit="bits").value), 6)
      1.0
    """
    check.on_host(locals())
    tables.factor(unit)
    check.option("correction", correction, (None, *_counting.CORRECTIONS))
    (columns,) = _samples.samples(x=x)
    if columns.dtype == np.float64:
        raise TypeError(
            "`x` must be discrete, integers or text; got floats. Use `differential_entropy` for a density, or round "
            "the values to integers first."
        )
    codes = _binning.symbols(_samples.renumbered(columns))
    counts, n = np.bincount(codes), len(codes)
    if (correction == "panzeri_treves") != (n_values is not None):
        raise ValueError(
            '`n_values` must be given for correction="panzeri_treves", and for no other; got '
            f"{n_values} with {correction!r}."
        )
    most = None if n_values is None else check.integer("n_values", n_values, least=len(counts), most=check.MOST_ENTRIES)

    def value(counts, correction=correction):
        if most is None:
            return _counting.entropy(counts, correction)
        return _binning.entropy(counts) + (_counting.possible_values(counts, most) - 1) / (2 * counts.sum())

    def without(rows):
        return value(counts - np.bincount(codes[rows], minlength=len(counts)), _counting.smooth(correction))

    all_different = _counting.entropy(np.ones(n, int), "miller_madow" if correction == "panzeri_treves" else correction)
    if most is not None:
        all_different = np.log(n) + (max(most, n) - 1) / (2 * n)
    numbers = value(counts), _counting.jackknife(n, without)
    return results.in_unit(_samples.estimate(*numbers, correction or "plug_in", all_different), unit)


def differential_entropy(
    x: Shaped[ArrayLike, "n ..."], *, k: int = 3, standardize: bool = True, unit: str = "nats"
) -> Information:
    """h(X) of a density from samples, by the distances ε_i to k-th nearest neighbours in the max norm.

        ψ(n) - ψ(k) + d mean log 2ε_i,      ψ the digamma function

    Depends on the units of x, as h(aX) = h(X) + log |a| does, and may be negative.

    Args:
      x: samples (n,) or (n, d), floats.
      k: number of neighbours: more have less variance and more bias.
      standardize: whether columns are divided by their standard deviations, whose logarithms are added again: exact,
        and better where scales differ. False takes distances as they are.
      unit: "nats" or "bits", of all numbers returned.

    Returns:
      Information, of which `value` is the entropy, an estimate that bounds nothing. `stderr` is the spread of the
      estimates on 2 to 10 disjoint blocks, scaled as 1/√n: it does not see the bias. No `ceiling`.

    Raises:
      TypeError: integers or text, whose entropy is `entropy`, or traced arrays.
      ValueError: fewer than 2 (k + 1) samples, more than k equal ones, repeats that change the estimate by more than
        three standard errors, columns without variation, NaN or Inf.

    Warns:
      UserWarning: with `standardize=False`, columns whose standard deviations differ more than tenfold.

    Source: theory, section 9, "Nearest neighbours"; Kozachenko & Leonenko 1987, Problems of Information Transmission
    23, 95; Kraskov, Stögbauer & Grassberger 2004, arXiv cond-mat/0305641, eq. 20.

    Example:
      >>> x = np.random.default_rng(0).uniform(size=4000)
      >>> bool(abs(differential_entropy(x).value) < 0.1)  # the truth is 0
      True
    """
    check.on_host(locals())
    tables.factor(unit)
    k = check.integer("k", k)
    check.flag("standardize", standardize)
    (columns,) = _samples.samples(varying=True, x=x)
    if columns.dtype != np.float64:
        raise TypeError(
            "`x` must hold floats, samples of a density; got integers or text. Use `entropy`, or pass what is a "
            "quantity as floats."
        )
    if len(columns) < 2 * (k + 1):
        raise ValueError(
            f"`k` = {k} neighbours and a standard error need at least 2 (k + 1) = {2 * (k + 1)} samples; got "
            f"{len(columns)}. Take a smaller k, or more samples."
        )
    if (repeated := _neighbours.coincident(columns)) > k:
        raise ValueError(
            f"`x` must come from a density, without repeated samples; got one {repeated} times. Use `entropy` for "
            "discrete values (as integers), or add noise of a known size yourself."
        )
    scale = _samples.spread(columns)
    shift = 0.0
    if not (scale > 0).all():
        raise ValueError("`x` must vary by more than rounding in every column; got one that does not. Leave it out.")
    if standardize:
        columns, shift = columns / scale, float(np.log(scale).sum())
    else:
        _samples.warn_scales(
            "the columns", scale, "The small ones do not count: scale them alike, or pass standardize=True."
        )
    value, error = _neighbours.entropy(columns, k)
    if repeated > 1:
        _check_repeats(columns, k, value, error)
    return results.in_unit(_samples.estimate(value + shift, error, "kozachenko_leonenko", None), unit)


def _check_repeats(columns, k, value, error):
    """Refuses repeated samples that move the estimate by more than its error; a few, made by rounding, do not."""
    distinct = _neighbours.distinct(columns)
    n_repeats, without = len(columns) - len(distinct), np.inf
    if len(distinct) >= 2 * (k + 1):
        without, error_without = _neighbours.entropy(distinct, k)
        if abs(without - value) <= _VISIBLE * (error if np.isfinite(error) else error_without):
            return
    raise ValueError(
        f"`x` must come from a density, without repeated samples; got {n_repeats} repeats among {len(columns)}, which "
        f"change the estimate by {without - value:.3g} nats, beyond its error. Leave the repeats out, or "
        "use `entropy` for discrete values (as integers)."
    )
