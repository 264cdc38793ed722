"""Significance by shuffling, extrapolation in 1/n, and the table of estimators."""

import math

import jax
import numpy as np
import pandas as pd
import pytest

from ntkinfo import discrete, estimators, mixture
from ntkinfo.estimators import binned, compare, extrapolate, ksg, significance

KEY = jax.random.key(0)


def spikes(n, seed=0):
    """Counts under four stimuli, and the truth of I in nats."""
    rng = np.random.default_rng(seed)
    stimulus = rng.integers(0, 4, size=n)
    counts = np.arange(40)
    log_p = counts[None] * np.log(np.arange(1, 5.0))[:, None] - np.arange(1, 5.0)[:, None]
    p = np.exp(log_p - [math.lgamma(c + 1) for c in counts]) / 4
    return rng.poisson(1.0 + stimulus), stimulus, float(discrete.mutual_information(p / p.sum()))


# Significance


def test_p_value_counts_ties():
    # Two equal columns of 4 and 4: of the 70 ways to place the second, 2 have as much.
    x = np.repeat([0, 1], 4)
    found = significance(x, x, key=KEY, n_shuffles=2000)
    assert float(found.value) == pytest.approx(math.log(2), abs=1e-12)
    share = 2 / 70
    assert abs(float(found.p_value) - share) < 5 * math.sqrt(share / 2000) + 1 / 2000
    # The null has the average over all ways, from the hypergeometric distribution.
    expected = 0.0
    for a in range(5):
        p = np.array([[a, 4 - a], [4 - a, a]]) / 8
        expected += math.comb(4, a) ** 2 / 70 * float(discrete.mutual_information(p))
    assert float(found.null_mean) == pytest.approx(expected, abs=5 * float(found.null.std()) / 2000**0.5)
    assert float(found.excess) == pytest.approx(math.log(2) - float(found.null_mean), abs=1e-12)
    # A constant ties with all.
    assert significance(x, np.zeros(8, int), key=KEY, n_shuffles=20).p_value == 1


@pytest.mark.parametrize("options", [{}, {"correction": "panzeri_treves"}])
def test_p_values_of_independent_samples_are_not_too_small(options):
    rng = np.random.default_rng(1)
    p = [
        float(significance(*rng.poisson(1, size=(2, 30)), key=jax.random.key(i), n_shuffles=19, **options).p_value)
        for i in range(80)
    ]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) < level + 4 * math.sqrt(level * (1 - level) / len(p))
    assert np.mean(p) > 0.4


def test_dependence_is_seen_by_every_estimator():
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    for estimator, options in (("binned", {"bins": 4}), ("ksg", {"k": 4}), (ksg, {}), (correlation, {})):
        dependent = significance(x, y, estimator=estimator, key=KEY, n_shuffles=99, **options)
        alone = significance(x, rng.permutation(y), estimator=estimator, key=KEY, n_shuffles=99, **options)
        assert float(dependent.p_value) == pytest.approx(0.01) and float(alone.p_value) > 0.01
        assert 0.2 < float(dependent.value) < 0.6
    # What is shuffled is measured as the samples are.
    assert float(significance(x, y, key=KEY, n_shuffles=1, bins=4).value) == pytest.approx(
        float(binned(x, y, bins=4).value), abs=1e-12
    )
    assert float(significance(x, y, estimator="ksg", key=KEY, n_shuffles=1, unit="bits").value) == pytest.approx(
        float(ksg(x, y).value) / math.log(2), abs=1e-12
    )
    classes = np.where(y > 0, "up", "down")
    assert float(significance(x, classes, estimator="ksg", key=KEY, n_shuffles=39).p_value) == pytest.approx(1 / 40)


def correlation(x, y):
    return -0.5 * math.log1p(-(np.corrcoef(x, y)[0, 1] ** 2))


def test_significance_as_a_table():
    counts, stimulus, _ = spikes(60)
    found = significance(counts, stimulus, key=KEY, n_shuffles=50, unit="bits")
    (bits,) = found.to_dataframe().to_dict("records")
    (nats,) = found.to_dataframe(unit="nats").to_dict("records")
    assert bits["unit"] == "bits" and bits["value"] == pytest.approx(float(binned(counts, stimulus, unit="bits").value))
    assert nats["value"] == pytest.approx(bits["value"] * math.log(2)) and nats["p_value"] == bits["p_value"]
    assert nats["excess"] == pytest.approx(nats["value"] - nats["null_mean"])
    assert repr(found).startswith("Significance(value ") and "bits" in repr(found)
    assert jax.tree.map(lambda a: a, found).unit == "bits"


# Extrapolation


def test_a_polynomial_bias_is_taken_off_exactly():
    x = np.arange(128)

    def biased(x, y):
        return 0.5 + 3 / len(x) + 7 / len(x) ** 2

    found = extrapolate(x, x, estimator=biased, key=KEY)
    np.testing.assert_allclose(found.coefficients, [0.5, 3, 7], rtol=1e-8)
    assert float(found.bias) == pytest.approx(3 / 128 + 7 / 128**2) and found.stderr < 1e-6
    assert found.n.tolist() == [128, 64, 32]
    line = extrapolate(x, x, estimator=lambda x, y: 1 - 2 / len(x), degree=1, parts=(1, 2, 3), key=KEY, unit="bits")
    # Parts of 43 and 42 rows are no thirds, and need not be.
    assert float(line.value) == pytest.approx(1 / math.log(2), abs=1e-12)


def test_extrapolation_of_counts():
    values, errors, plain = [], [], []
    for seed in range(20):
        counts, stimulus, truth = spikes(240, seed)
        found = extrapolate(counts, stimulus, key=jax.random.key(seed), n_partitions=4)
        values.append(float(found.value))
        errors.append(float(found.stderr))
        plain.append(float(found.values[0]))
        assert plain[-1] == pytest.approx(float(binned(counts, stimulus).value), abs=1e-12)
    assert np.mean(plain) - truth > 0.02
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / 20**0.5 + 0.005
    assert 0.6 < np.mean(errors) / np.std(values) < 1.7
    table = found.to_dataframe(unit="bits")
    assert table.n.tolist() == [240, 120, 60, math.inf]
    np.testing.assert_allclose(table.value, table.fitted, rtol=1e-5)
    assert "at n = 240" in repr(found)


# The table


def test_compare_counts():
    counts, stimulus, truth = spikes(400)
    found = compare(counts, stimulus, unit="bits")
    table = found.to_dataframe()
    assert table.estimator.tolist() == ["plug_in", "miller_madow", "panzeri_treves", "grassberger", "chao_shen"]
    for name, correction in zip(table.estimator, (None, *table.estimator[1:]), strict=True):
        own = binned(counts, stimulus, correction=correction, unit="bits")
        row = table.set_index("estimator").loc[name]
        assert (row.value, row.stderr, row.ceiling) == (float(own.value), float(own.stderr), float(own.ceiling))
        assert found[name].value == own.value and abs(row.value - truth / math.log(2)) < 5 * row.stderr
    assert not table.saturated.any() and set(table.unit) == {"bits"}
    assert [name for name, _ in found.left_out] == ["ksg"] and "both discrete" in found.left_out[0][1]
    np.testing.assert_allclose(found.to_dataframe(unit="nats").value, table.value * math.log(2))
    assert "plug_in" in repr(found) and "n = 400" in repr(found)
    # As text the same.
    names = np.array(list("abcd"))[stimulus]
    pd.testing.assert_frame_equal(compare(counts, names, unit="bits").to_dataframe(), table)
    cells = np.unique(np.stack([counts, stimulus]), axis=1, return_counts=True)[1]
    assert found.alone == np.count_nonzero(cells == 1) / 400
    same = compare(stimulus, stimulus).to_dataframe()
    assert same[same.estimator == "plug_in"].saturated.all()


def test_compare_quantities():
    rng = np.random.default_rng(3)
    x = rng.normal(size=600)
    y = 0.8 * x + 0.6 * rng.normal(size=600)
    found = compare(x, y, estimators=["ksg", "extrapolated", "plug_in", "ksg"], key=KEY)
    assert found.names == ("ksg", "extrapolated", "plug_in") and not found.left_out
    assert found["ksg"].value == ksg(x, y).value
    assert float(found["plug_in"].value) == float(binned(x, y, bins=8, adaptive=True).value)
    assert abs(float(found["ksg"].value) + 0.5 * math.log(0.36)) < 0.1
    assert mixture.is_saturated(found["ksg"]) == found.to_dataframe().saturated[0]
    few = compare(x[:20], y[:20], key=KEY)
    assert [name for name, _ in few.left_out] == ["infonce"] and "extrapolated" in few.names
    # Independent, but with so many values that no correction helps: said, not hidden.
    sparse = compare(rng.integers(0, 900, size=300), rng.integers(0, 90, size=300))
    assert float(sparse["miller_madow"].value) > 1 and sparse.alone > 0.9 and sparse.to_dataframe().saturated.all()
    with pytest.raises(ValueError, match="`name` must be one of"):
        few["infonce"]


X = np.linspace(0.0, 1.0, 20)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: significance(X, X, key=0), TypeError, "`key` must be one random key"),
        (lambda: significance(X, X[:-1], key=KEY), ValueError, "same number of samples; got 20 and 19"),
        (lambda: significance(X, X, key=KEY, n_shuffles=0), ValueError, "`n_shuffles` must be at least 1"),
        (
            lambda: significance(X, X, key=KEY, estimator="kde"),
            ValueError,
            "`estimator` must be one of 'binned', 'ksg'",
        ),
        (lambda: significance(X, X, key=KEY, estimator=3), TypeError, "`estimator` must be a name or a function"),
        (
            lambda: significance(X, X, key=KEY, k=3),
            TypeError,
            "`estimator` binned must take x, y and the options given",
        ),
        (lambda: significance(X, X, key=KEY, bins=0), ValueError, "`bins` must be at least 1"),
        (
            lambda: significance(X, X, key=KEY, estimator=lambda x, y: np.nan),
            ValueError,
            "`estimator` must return `Information` or one finite number",
        ),
        (
            lambda: significance(np.r_[X, X[:1]], np.r_[X, 2.0][::-1], key=KEY, estimator="ksg", k=1, n_shuffles=300),
            ValueError,
            "`x` must come from a density",
        ),
        (lambda: extrapolate(X, X, key=KEY, parts=(1, 2)), ValueError, "`parts` must hold at least 3"),
        (lambda: extrapolate(X, X, key=KEY, parts=(2, 3, 4)), ValueError, "`parts` must increase from 1"),
        (lambda: extrapolate(X, X, key=KEY, parts=(1, 2, 6)), ValueError, "`parts` must leave at least four samples"),
        (lambda: extrapolate(X, X, key=KEY, degree=3), ValueError, "`degree` must be at most 2"),
        (
            lambda: extrapolate(X, X[::-1], key=KEY, estimator="ksg", k=4),
            ValueError,
            "`parts` up to 4 leave too few.*got 4",
        ),
        (
            lambda: extrapolate(X, np.arange(20) % 2, key=KEY, estimator="ksg", k=2),
            ValueError,
            "`parts` up to 4 leave too few .* `k` = 2 neighbours need more samples",
        ),
        (lambda: compare(X, X, estimators="ksg"), TypeError, "`estimators` must be a list of names"),
        (lambda: compare(X, X, estimators=["nsb"]), ValueError, "`estimators` must be one of 'plug_in'"),
        (lambda: compare(X, X, estimators=[]), ValueError, "`estimators` must hold at least one name"),
        (lambda: compare(X, X, estimators=["infonce"]), ValueError, "`key` must be given for 'infonce'"),
        (lambda: compare(X, np.where(X == 1, np.nan, X)), ValueError, "`y` must be finite"),
        (lambda: compare(X, X).to_dataframe(unit="bytes"), ValueError, "`unit` must be one of 'nats', 'bits'"),
        (lambda: jax.jit(lambda x: significance(x, X, key=KEY))(X), TypeError, "`x` is being traced"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_estimators_hand_on_what_they_promise():
    assert {"compare", "significance", "extrapolate", "conditional", "entropy"} <= set(estimators.__all__)


def test_a_table_without_estimates_has_its_columns():
    classes = np.arange(8) % 2
    found = compare(classes, classes, estimators=["ksg"])
    assert found.names == () and found.left_out[0][0] == "ksg"
    assert found.to_dataframe().columns.tolist() == compare(classes, classes).to_dataframe().columns.tolist()
