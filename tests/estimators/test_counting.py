"""Corrections of counted entropies and of information, conditional or not, against loops, closed forms and spreads."""

import itertools
import math

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma

from ntkinfo import discrete, estimators, mixture
from ntkinfo.estimators import _counting, binned, conditional, differential_entropy, entropy, ksg

CORRECTIONS = _counting.CORRECTIONS
UNSEEN = np.array([20, 9, 4, 2, 1, 1, 1, 0, 0])


def samples_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def scalar_entropy(counts, correction):
    """Formulas of the papers, a value at a time."""
    counts = [int(c) for c in counts if c > 0]
    n = sum(counts)
    if correction == "grassberger":
        total = 0.0
        for c in counts:
            # G(c) = G(c - 1) + 2/(c - 1) for odd c > 1, G(even) = G(even - 1): eqs. 28 to 30 of the paper.
            g = -np.euler_gamma - math.log(2)
            for m in range(2, c + 1):
                g += 2 / (m - 1) if m % 2 == 0 else 0.0
            total += c * g
        return math.log(n) - total / n
    if correction == "chao_shen":
        once = sum(c == 1 for c in counts)
        coverage = 1 - (once - (once == n)) / n
        return -sum(coverage * c / n * math.log(coverage * c / n) / (1 - (1 - coverage * c / n) ** n) for c in counts)
    plain = -sum(c / n * math.log(c / n) for c in counts)
    return plain if correction is None else plain + (len(counts) - 1) / (2 * n)


@pytest.mark.parametrize("correction", [None, "miller_madow", "grassberger", "chao_shen"])
def test_entropies_against_the_papers_value_by_value(correction):
    for counts in (UNSEEN, np.ones(12, int), np.array([30]), np.array([7, 8])):
        found = entropy(samples_of(counts), correction=correction)
        assert float(found.value) == pytest.approx(scalar_entropy(counts, correction), abs=1e-12)
        assert float(found.ceiling) == pytest.approx(scalar_entropy(np.ones(counts.sum(), int), correction), abs=1e-10)
        assert found.method == correction or (correction is None and found.method == "plug_in")


def test_grassberger_is_exact_for_poisson_counts():
    # E[c G(c)] = λ log λ up to e^{-2λ}, summed over the Poisson distribution: what the correction promises.
    for mean in (3.0, 6.0):
        counts, weight, total = np.arange(1, 200), math.exp(-mean), 0.0
        for c, g in zip(counts, _counting._grassberger(counts), strict=True):
            weight *= mean / c
            total += weight * c * g
        assert abs(total - mean * math.log(mean)) < 2 * math.exp(-2 * mean)
        naive = sum(math.exp(-mean + c * math.log(mean) - math.lgamma(c + 1)) * c * math.log(c) for c in counts)
        assert naive - mean * math.log(mean) > 0.4


def search_of_the_literature(counts, most):
    """The number of values that can occur, one more at a time, as the search is published."""
    occupied = [c for c in counts if c > 0]
    n, k = sum(occupied), len(occupied)
    if k == most:
        return k
    last, miss, extra = most, sum((1 - c / n) ** n for c in occupied), 0
    while miss < last and k + extra < most:
        extra += 1
        share = extra * (1 - (n / (n + k)) ** (1 / n))
        if share > 1:
            extra -= 1
            break
        expected = sum(1 - (1 - (1 - share) * (c + 1) / (n + k)) ** n for c in occupied)
        expected += extra * (1 - (1 - share / extra) ** n)
        last, miss = miss, abs(k - expected)
    else:
        return k + extra - (miss >= last)
    return k + extra


def test_panzeri_treves_against_the_published_search(rng):
    for _ in range(200):
        counts = rng.multinomial(rng.integers(1, 60), rng.dirichlet(np.full(rng.integers(2, 15), 0.5)))
        most = np.count_nonzero(counts) + rng.integers(0, 20)
        assert _counting.possible_values(counts, most) == search_of_the_literature(counts.tolist(), most)
    found = entropy(samples_of(UNSEEN), correction="panzeri_treves", n_values=9)
    possible = search_of_the_literature(UNSEEN.tolist(), 9)
    assert 7 < possible <= 9
    plain = scalar_entropy(UNSEEN, None)
    assert float(found.value) == pytest.approx(plain + (possible - 1) / (2 * UNSEEN.sum()), abs=1e-12)


def test_panzeri_treves_information_by_its_conditions(rng):
    x, y = rng.poisson(2, size=60), rng.integers(0, 4, size=60)
    most = len(set(x))
    conditions = sum(search_of_the_literature(np.bincount(x[y == v]).tolist(), most) - 1 for v in range(4))
    expected = float(binned(x, y).value) + (most - 1 - conditions) / 120
    assert float(binned(x, y, correction="panzeri_treves").value) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("correction", [None, "miller_madow", "grassberger", "chao_shen"])
def test_conditional_information_is_that_of_its_entropies(rng, correction):
    x, y, z = rng.integers(0, 3, size=(3, 80))
    x = np.where(rng.random(80) < 0.5, y, x)

    def h(*columns):
        rows = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].ravel()
        return scalar_entropy(np.bincount(rows), correction)

    found = conditional(x, y, z, correction=correction)
    assert float(found.value) == pytest.approx(h(x, z) + h(y, z) - h(x, y, z) - h(z), abs=1e-12)
    # A condition that never varies is none.
    alone = conditional(x, y, np.zeros(80, int), correction=correction)
    assert float(alone.value) == pytest.approx(float(binned(x, y, correction=correction).value), abs=1e-12)
    assert alone.stderr == binned(x, y, correction=correction).stderr


def test_chain_rule_and_truth_of_conditional_information(rng):
    x, y, z = rng.integers(0, 3, size=(3, 500))
    together = binned(np.stack([x, z], axis=1), y)
    assert float(together.value) == pytest.approx(
        float(binned(z, y).value) + float(conditional(x, y, z).value), abs=1e-12
    )
    # From a table drawn at random: within five standard errors of the truth of the table.
    p = rng.dirichlet(np.ones(12)).reshape(3, 2, 2)
    truth = sum(p[..., c].sum() * float(discrete.mutual_information(p[..., c] / p[..., c].sum())) for c in range(2))
    x, y, z = np.unravel_index(rng.choice(12, size=20_000, p=p.ravel()), p.shape)
    for correction in (None, *CORRECTIONS):
        found = conditional(x, y, z, correction=correction)
        assert abs(float(found.value) - truth) < 5 * float(found.stderr) + 1e-3
        assert found.value < found.ceiling


def test_corrections_take_off_most_of_the_bias_and_errors_are_those_of_the_spread():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(8, 0.5), size=5) / 5
    truth, n = float(discrete.mutual_information(p)), 200
    found = {correction: [] for correction in (None, *CORRECTIONS)}
    for seed in range(120):
        y, x = np.divmod(np.random.default_rng(seed).choice(40, size=n, p=p.ravel()), 8)
        for correction, values in found.items():
            values.append(_counting.information(x, y, None, correction)[:2])
    bias = {correction: np.mean(values, axis=0)[0] - truth for correction, values in found.items()}
    assert bias[None] > 0.05
    assert all(abs(bias[correction]) < 0.25 * bias[None] for correction in CORRECTIONS)
    # The values that cannot occur under a condition make Miller and Madow's too little.
    assert abs(bias["panzeri_treves"]) < 0.5 * bias["miller_madow"]
    for values in found.values():
        spread, error = np.std(values, axis=0)[0], np.mean(values, axis=0)[1]
        assert 0.7 < error / spread < 1.3


def test_text_and_tables_are_labels(rng):
    numbers = rng.integers(0, 3, size=(60, 2))
    names = np.array(["red", "green", "blue"])[numbers]
    for text in (names, names.astype(object), names.tolist(), pd.DataFrame(names)):
        assert float(entropy(text).value) == pytest.approx(float(entropy(numbers).value), abs=1e-12)
    mixed = pd.DataFrame({"colour": names[:, 0], "count": numbers[:, 1]})
    assert float(entropy(mixed).value) == pytest.approx(float(entropy(numbers).value), abs=1e-12)
    categories = pd.Series(names[:, 0], dtype="category")
    assert binned(categories, numbers[:, 1]).value == binned(numbers[:, 0], numbers[:, 1]).value
    x = rng.normal(size=60)
    assert ksg(x, names[:, 0], k=2).value == ksg(x, numbers[:, 0], k=2).value
    classes = np.unique(names[:, 0], return_inverse=True)[1]
    of_text, of_numbers = (estimators.kde(x[:, None], y, variance=0.1).value for y in (names[:, 0], classes))
    assert of_text == of_numbers


@pytest.mark.parametrize("unit", ["nats", "bits"])
def test_units(rng, unit):
    factor = 1 if unit == "nats" else 1 / math.log(2)
    x, y = rng.integers(0, 4, size=(2, 64))
    real = rng.normal(size=(64, 2))
    for call in (
        lambda **u: binned(x, y, **u),
        lambda **u: conditional(x, y, x % 2, **u),
        lambda **u: entropy(x, correction="chao_shen", **u),
        lambda **u: differential_entropy(real, **u),
        lambda **u: ksg(real, y, **u),
        lambda **u: estimators.kde(real, y, variance=0.3, **u),
        lambda **u: estimators.infonce(real, y, key=jax.random.key(0), critic=dot, batch_size=16, **u),
    ):
        plain, other = call(), call(unit=unit)
        assert (plain.unit, other.unit) == ("nats", unit)
        for field in ("value", "lower", "upper", "stderr", "ceiling"):
            if getattr(plain, field) is not None:
                np.testing.assert_allclose(getattr(other, field), factor * getattr(plain, field), rtol=1e-6)
        if plain.ceiling is not None:
            assert mixture.is_saturated(plain, 64) == mixture.is_saturated(other, 64)
    p = np.full((64, 2), 0.5)
    np.testing.assert_allclose(
        estimators.quantised_layer(x[:, None], p, unit=unit)[0], factor * estimators.quantised_layer(x[:, None], p)[0]
    )


def dot(x, t):
    return 0.1 * x.sum() * t.sum()


def test_differential_entropy_against_a_loop_and_truths(rng):
    x = rng.normal(size=(50, 2))
    total = 0.0
    for i, k in itertools.product(range(50), (3,)):
        total += math.log(2 * np.sort(np.abs(x - x[i]).max(axis=1))[k])
    raw = differential_entropy(x, standardize=False)
    assert float(raw.value) == pytest.approx(digamma(50) - digamma(3) + 2 * total / 50, abs=1e-12)
    # Units: h(aX) = h(X) + log a, to rounding, however different the columns are.
    scaled = differential_entropy(x * np.array([1e6, 1e-3]))
    assert float(scaled.value) == pytest.approx(float(differential_entropy(x).value) + math.log(1e3), abs=1e-9)
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    many = rng.multivariate_normal([0, 0], covariance, size=4000)
    truth = 0.5 * math.log((2 * math.pi * math.e) ** 2 * np.linalg.det(covariance))
    found = differential_entropy(many)
    assert abs(float(found.value) - truth) < 5 * float(found.stderr)
    for values, truth in ((rng.exponential(size=4000), 1.0), (rng.uniform(size=4000), 0.0)):
        found = differential_entropy(values)
        assert abs(float(found.value) - truth) < 5 * float(found.stderr)
        assert 0.002 < float(found.stderr) < 0.06
    assert found.ceiling is None


@pytest.mark.parametrize("copies", ["repeat", "tile", "two columns"])
def test_copies_of_samples_are_no_samples_of_a_density(rng, copies):
    """Each sample twice: the third neighbour is the first other one, log 2 - 3/2 too low; and blocks are copies."""
    x = rng.normal(size=(300, 2)) if copies == "two columns" else rng.normal(size=300)
    twice = np.tile(x, 2) if copies == "tile" else np.repeat(x, 2, axis=0)
    with pytest.raises(ValueError, match=r"got 300 repeats among 600, which change the estimate by 0.[79].* nats"):
        differential_entropy(twice)
    # Nothing is left to compare with.
    with pytest.raises(ValueError, match="got 7 repeats among 14"):
        differential_entropy(np.repeat(x[:7], 2, axis=0))
    with pytest.raises(ValueError, match="`\\(x, y\\)` must come from a density, without repeated samples"):
        ksg(twice, np.repeat(rng.normal(size=300), 2) if copies != "tile" else np.tile(rng.normal(size=300), 2))


def test_a_few_repeats_made_by_rounding_are_taken(rng):
    x = np.round(rng.normal(size=400), 3)
    assert 0 < len(x) - len(np.unique(x)) < 60
    found = differential_entropy(x)
    assert abs(float(found.value) - 0.5 * math.log(2 * math.pi * math.e)) < 4 * float(found.stderr) < 0.5


def test_blocks_that_are_copies_have_no_standard_error(rng):
    """Every value once in each class: all terms are the same number, whatever the samples."""
    x, classes = np.repeat(rng.normal(size=300), 2), np.arange(600) % 2
    found = ksg(x, classes)
    assert float(found.value) == pytest.approx(digamma(3) + digamma(600) - digamma(300) - digamma(6), abs=1e-12)
    assert math.isinf(float(found.stderr))


X = np.linspace(0.0, 1.0, 20)
HOLED = np.array(["a", None] * 10, dtype=object)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: entropy(X), TypeError, "`x` must be discrete, integers or text; got floats"),
        (lambda: entropy([1]), ValueError, "`x` must hold at least two samples"),
        (lambda: entropy([1, 2], correction="nsb"), ValueError, "`correction` must be one of None, 'miller_madow'"),
        (lambda: entropy([1, 2], correction="panzeri_treves"), ValueError, "`n_values` must be given"),
        (lambda: entropy([1, 2], n_values=4), ValueError, "`n_values` must be given .* and for no other; got 4"),
        (lambda: entropy([1, 2], correction="panzeri_treves", n_values=1), ValueError, "`n_values` must be at least 2"),
        (lambda: entropy([1, 2], unit="bit"), ValueError, "`unit` must be one of 'nats', 'bits'; got 'bit'"),
        (lambda: binned(HOLED, X), ValueError, "`x` must have no missing labels; got None in row 1 .10 such"),
        (lambda: binned(pd.Series(["a", pd.NA] * 10), X), ValueError, "`x` must have no missing labels"),
        (lambda: binned(np.array(["a", 1.5] * 10, object), X), TypeError, "`x` must hold labels of one kind"),
        (lambda: binned(np.array([1, 1.5] * 10, object), X), TypeError, "`x` must hold labels of one kind"),
        (lambda: binned(np.array([b"a"] * 20), X), TypeError, "`x` must be numbers; got text"),
        (lambda: binned(np.array(["a", 1] * 10, object), X), TypeError, "got int and str"),
        (lambda: binned(np.zeros((0, 2), "U1"), X), ValueError, "not empty"),
        (lambda: conditional(X, X, X[:-1]), ValueError, "`x` and `y` and `z` must hold the same number"),
        (lambda: conditional(X, X, X, correction="nsb"), ValueError, "`correction` must be one of"),
        (lambda: differential_entropy(np.arange(20)), TypeError, "`x` must hold floats.*Use `entropy`"),
        (lambda: differential_entropy(X[:6]), ValueError, "`k` = 3 neighbours .* need at least .* 8 samples; got 6"),
        (lambda: differential_entropy(np.repeat(X, 5)), ValueError, "`x` must come from a density.*one 5 times"),
        (lambda: differential_entropy(np.ones(20)), ValueError, "`x` must vary in every column"),
        (lambda: differential_entropy(1 + 1e-16 * X), ValueError, "`x` must vary"),
        (lambda: ksg(X, X, unit="bytes"), ValueError, "`unit` must be one of"),
        (lambda: estimators.kde(X[:, None], variance=0.1, unit=1), ValueError, "`unit` must be one of"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    """Of equal groups exactly: the standard deviation of their means over the root of their number."""
    x = rng.normal(size=200)
    found = _counting.jackknife(200, lambda rows: np.delete(x, rows).mean())
    groups = np.array([x[g :: _counting.GROUPS].mean() for g in range(_counting.GROUPS)])
    assert found == pytest.approx(groups.std(ddof=1) / math.sqrt(_counting.GROUPS), rel=1e-12)
