import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import norm
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from ntkinfo import estimators, mixture
from ntkinfo.estimators import _binning, binned, binned_layer, kde, kde_pair, ksg, quantised_layer

RHO = 0.8


def bivariate(n, rho=RHO, seed=0):
    x, noise = np.random.default_rng(seed).normal(size=(2, n))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def uniform_noise(n, eps, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=n)
    return x, x + rng.uniform(-eps, eps, size=n)


def uniform_truth(eps):
    """h(Y) - log 2 eps, Y the trapezium of a unit and a 2 eps wide box."""
    return 1 / (4 * eps) if eps >= 0.5 else eps - math.log(2 * eps)


def counted(x, y, weights=None):
    """Information of two lists of symbols by dictionaries, summed as p log p / (p p)."""
    weights = np.full(len(x), 1 / len(x)) if weights is None else weights
    pairs, left, right = Counter(), Counter(), Counter()
    for a, b, w in zip(x, y, weights, strict=True):
        pairs[a, b] += w
        left[a] += w
        right[b] += w
    return sum(p * math.log(p / (left[a] * right[b])) for (a, b), p in pairs.items() if p > 0)


def boxes(columns, bins, lo, hi):
    """Symbols by comparing every entry with every edge."""
    edges = [lo + (hi - lo) * (j / bins) for j in range(bins + 1)]
    return [tuple(next((j for j in range(bins) if edges[j] <= v < edges[j + 1]), bins - 1) for v in r) for r in columns]


# Bins


def test_binned_against_dictionaries(rng):
    x, y = rng.normal(size=(200, 2)).clip(-2, 2), rng.uniform(-2, 2, size=200)
    found = binned(x, y, bins=4, range=(-2, 2))
    assert found.method == "binned" and found.lower == -math.inf and found.upper == math.inf
    assert float(found.value) == pytest.approx(counted(boxes(x, 4, -2, 2), boxes(y[:, None], 4, -2, 2)), abs=1e-12)
    # A width without a range counts from 0; an integer variable is taken as it is.
    labels = rng.integers(-3, 4, size=200)
    symbols = [tuple(math.floor(v / 0.3) for v in row) for row in x]
    assert float(binned(x, labels, width=0.3).value) == pytest.approx(counted(symbols, labels), abs=1e-12)
    # Ranges of their own, and the data's.
    own = binned(x[:, 0], y, bins=5, range=(None, (-3, 3)))
    left = boxes(x[:, :1], 5, x[:, 0].min(), x[:, 0].max())
    assert float(own.value) == pytest.approx(counted(left, boxes(y[:, None], 5, -3, 3)), abs=1e-12)


def test_entries_on_edges_belong_to_the_bin_above_and_the_last_one_is_closed():
    for bins, (lo, hi) in itertools.product((7, 10, 100), ((0.0, 1.0), (-1.0, 1.0), (0.1, 0.7))):
        edges = lo + (hi - lo) * (np.arange(bins + 1) / bins)
        edges[-1] = hi
        codes = _binning.fixed(edges[:, None], bins, lo, hi)[:, 0]
        assert codes.tolist() == [*range(bins), bins - 1]
        below = np.nextafter(edges[1:-1], -np.inf)
        assert _binning.fixed(below[:, None], bins, lo, hi)[:, 0].tolist() == list(range(bins - 1))
    # Widths that divide the range close it, others leave a last narrower bin.
    assert _binning.grid(np.array([[-1.0], [0.9], [1.0]]), 0.5, -1.0, 1.0).ravel().tolist() == [0, 3, 3]
    assert _binning.grid(np.array([[-1.0], [0.9], [1.0]]), 0.8, -1.0, 1.0).ravel().tolist() == [0, 2, 2]


def test_adaptive_bins_hold_equally_many_and_keep_ties_together(rng):
    codes = _binning.adaptive(rng.exponential(size=(120, 2)), 8)
    assert all((np.bincount(column) == 15).all() for column in codes.T)
    tied = _binning.adaptive(np.repeat([0.0, 0.5, 2.0], [70, 20, 10])[:, None], 4)[:, 0]
    assert all(len(set(tied[part])) == 1 for part in (slice(70), slice(70, 90), slice(90, 100)))
    # Ranks only: any increasing transformation leaves the value as it is.
    x, y = bivariate(400)
    same = binned(np.exp(x), y**3, bins=6, adaptive=True).value
    assert float(binned(x, y, bins=6, adaptive=True).value) == pytest.approx(float(same), abs=1e-12)


def test_identities_of_discrete_variables(rng):
    x, z = rng.integers(0, 5, size=(300, 3)), rng.integers(0, 2, size=300)
    entropy = -sum(c / 300 * math.log(c / 300) for c in Counter(map(tuple, x)).values())
    assert float(binned(x, x).value) == pytest.approx(entropy, abs=1e-12)
    assert float(binned(x, z).value) == pytest.approx(float(binned(z, x).value), abs=1e-12)
    # Relabelling changes nothing, and a function of x has at most what x has.
    assert float(binned(7 - 3 * x, z == 1).value) == pytest.approx(float(binned(x, z).value), abs=1e-12)
    assert binned(x[:, 0], z).value <= binned(x, z).value + 1e-12
    assert float(binned(np.repeat([0, 1], 2), np.tile([0, 1], 2)).value) == pytest.approx(0, abs=1e-12)
    # A constant variable says nothing.
    constant = binned(np.zeros(20), rng.normal(size=20))
    assert abs(constant.value) < 1e-12 and constant.stderr < 1e-12


def test_many_columns_do_not_collide(rng):
    # Packed naively, 40 columns of 1024 values would shift the first ones out of 64 bits.
    rows = np.concatenate([rng.integers(0, 2, size=(500, 20)) * 1023, np.tile([[0], [1023]], (250, 20))], axis=1)
    different = set(map(tuple, rows.tolist()))
    found = _binning.symbols(rows)
    assert len(set(found)) == len({*zip(found, map(tuple, rows.tolist()), strict=True)}) == len(different) > 490


def test_miller_madow_and_jackknife():
    plain, corrected = [], []
    for seed in range(60):
        x, y = np.random.default_rng(seed).integers(0, 6, size=(2, 400))
        plain.append(binned(x, y))
        corrected.append(float(binned(x, y, correction="miller_madow").value))
    values, errors = np.array([p.value for p in plain]), np.array([p.stderr for p in plain])
    # Independent variables with all 36 cells occupied: the bias is 25 / 2n.
    assert values.mean() == pytest.approx(25 / 800, abs=5 * values.std() / 60**0.5 + 2e-3)
    assert abs(np.mean(corrected)) < 5 * np.std(corrected) / 60**0.5 + 1e-3
    dependent = [binned(*bivariate(500, seed=seed), bins=5, range=(-6, 6)) for seed in range(60)]
    spread = np.std([float(d.value) for d in dependent], ddof=1)
    assert np.mean([float(d.stderr) for d in dependent]) == pytest.approx(spread, rel=0.3)
    assert errors.min() > 0


def test_jackknife_of_few_samples_leaves_out_one_at_a_time(rng):
    x, y = rng.integers(0, 3, (2, 12))
    without = [float(estimators.binned(np.delete(x, i), np.delete(y, i)).value) for i in range(12)]
    expected = np.sqrt(11 / 12 * np.sum((without - np.mean(without)) ** 2))
    np.testing.assert_allclose(estimators.binned(x, y).stderr, expected, rtol=1e-12)


def test_binned_approaches_the_normal_truth():
    found = binned(*bivariate(200_000), bins=60, correction="miller_madow")
    truth = -0.5 * math.log(1 - RHO**2)
    # Binning loses information: a little below the truth, by less than the width allows.
    assert truth - 0.02 < float(found.value) < truth + 5 * float(found.stderr)


# Layers


def test_layers_against_dictionaries(rng):
    n, quantum = 60, 0.5
    activations = np.round(rng.normal(size=(2, 3, n, 2)) / quantum) * quantum
    p_y = rng.dirichlet([1, 1, 1], size=n)
    p_x = rng.dirichlet(np.ones(n))
    few = quantised_layer(activations, p_y, p_x=p_x)
    boxed = binned_layer(activations, p_y, p_x=p_x, bins=5, range=(-4, 4))
    assert few.i_xt.shape == boxed.i_ty.shape == (2, 3)
    inputs, classes = np.divmod(np.arange(3 * n), 3)
    weights = (p_x[:, None] * p_y).ravel()
    for at in np.ndindex(2, 3):
        for result, symbols in (
            (few, [tuple(r) for r in activations[at]]),
            (boxed, boxes(activations[at], 5, -4, 4)),
        ):
            t = [symbols[i] for i in inputs]
            assert float(result.i_xt[at]) == pytest.approx(counted(inputs, t, weights), abs=1e-12)
            assert float(result.i_ty[at]) == pytest.approx(counted(t, classes, weights), abs=1e-12)
    # One symbol for each value is what bins narrower than the quantum give.
    np.testing.assert_allclose(binned_layer(activations, p_y, p_x=p_x, width=quantum / 2), few, atol=1e-12)
    assert (few.i_ty <= few.i_xt + 1e-12).all()
    # Dead units say nothing; signed zeros are equal; integers are taken as they are.
    assert abs(binned_layer(np.zeros((n, 2)), p_y).i_xt) < 1e-12
    assert abs(quantised_layer(np.where(rng.uniform(size=(n, 2)) < 0.5, 0.0, -0.0), p_y).i_xt) < 1e-12
    assert float(quantised_layer(np.arange(n)[:, None], p_y).i_xt) == pytest.approx(math.log(n), abs=1e-12)


def test_uniform_layer_is_the_plug_in_of_its_rows(rng):
    activations, labels = np.tanh(rng.normal(size=(128, 3))), rng.integers(0, 2, size=128)
    layer = binned_layer(activations, np.eye(2)[labels], bins=4, range=(-1, 1))
    assert float(layer.i_xt) == pytest.approx(float(binned(activations, np.arange(128), bins=4, range=(-1, 1)).value))
    assert float(layer.i_ty) == pytest.approx(float(binned(activations, labels, bins=4, range=(-1, 1)).value))


# Kernel density


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(3)
    t, y = rng.normal(size=(2, 12, 1)), np.array([5, 5, 9, 9, 9, -1, -1, 5, 9, 5, -1, 5])
    return t, y, 0.3, kde_pair(t, y, variance=0.3)


def test_kde_against_a_loop(noisy):
    t, y, variance, (about_x, about_y) = noisy

    def term(rows, scale):
        return -np.mean([math.log(np.mean([math.exp(-((a - b) ** 2).sum() / scale) for b in rows])) for a in rows])

    for at in range(2):
        whole = {s: term(t[at], s * variance) for s in (2, 8)}
        of_class = {s: sum(np.mean(y == c) * term(t[at][y == c], s * variance) for c in set(y)) for s in (2, 8)}
        np.testing.assert_allclose(
            [about_x.lower[at], about_x.value[at], about_x.upper[at]], [whole[8], *[whole[2]] * 2]
        )
        np.testing.assert_allclose(
            [about_y.lower[at], about_y.value[at], about_y.upper[at]],
            [whole[8] - of_class[2], whole[2] - of_class[2], whole[2] - of_class[8]],
        )
    assert about_x.method == about_y.method == "kde"
    np.testing.assert_array_equal(kde(t, variance=variance).upper, about_x.upper)
    np.testing.assert_array_equal(kde(t, y, variance=variance).lower, about_y.lower)


def test_kde_with_uncertain_labels(noisy, rng):
    t, y, variance, (_, about_y) = noisy
    certain = kde(t, np.eye(3)[np.unique(y, return_inverse=True)[1]], variance=variance)
    np.testing.assert_allclose(certain.lower, about_y.lower, atol=1e-12)
    # H of a mixture of the rows with weights p(x|c), against a loop.
    p = rng.dirichlet(np.ones(3), t.shape[-2])
    rows = np.asarray(t)[0]
    near = np.exp(-((rows[:, None] - rows[None]) ** 2).sum(-1) / (2 * variance))
    whole = -np.mean(np.log(near.mean(1)))
    within = sum(p[:, c].mean() * -(w @ np.log(near @ w)) for c in range(3) for w in [p[:, c] / p[:, c].sum()])
    np.testing.assert_allclose(kde(t[:1], p, variance=variance).value, [whole - within], atol=1e-12)


def test_kde_bounds_the_exact_mixture(noisy):
    t, y, variance, bounds = noisy
    exact = mixture.exact_pair(
        t, np.full(t.shape[:-1], variance), mixture.one_hot(np.unique(y, return_inverse=True)[1], 3)
    )
    for bound, truth in zip(bounds, exact, strict=True):
        assert (bound.lower < truth.value).all() and (truth.value < bound.upper).all()
        assert (bound.lower <= bound.value).all() and (bound.value <= bound.upper).all()


def test_kde_limits_and_gradient(noisy):
    t, y, *_ = noisy
    far = kde(t[0], variance=1e-9)
    assert float(far.lower) == pytest.approx(math.log(12)) and mixture.is_saturated(far, 12)
    assert abs(kde(np.ones((2, 12, 1)), variance=0.3).upper).max() < 1e-12
    np.testing.assert_allclose(kde_pair(t[0], y, variance=1e-9)[1].upper, counted(range(12), y), atol=1e-9)

    def upper(variance):
        return kde(t, variance=variance).upper.sum()

    step = 1e-5
    slope = (upper(0.3 + step) - upper(0.3 - step)) / (2 * step)
    assert float(jax.jit(jax.grad(upper))(0.3)) == pytest.approx(float(slope), rel=1e-6)


# Nearest neighbours


def test_ksg_against_counting(rng):
    n, k = 60, 3
    x, y = rng.normal(size=(n, 2)), rng.normal(size=n)
    total = 0.0
    for i in range(n):
        dx, dy = abs(x - x[i]).max(axis=1), abs(y - y[i])
        radius = np.sort(np.maximum(dx, dy))[k]
        total += digamma(np.sum(dx < radius)) + digamma(np.sum(dy < radius))
    raw = ksg(x, y, k=k, standardize=False)
    assert float(raw.value) == pytest.approx(digamma(k) + digamma(n) - total / n, abs=1e-12)
    assert raw.lower == -math.inf and raw.upper == math.inf
    # By default the same of the normal quantiles of the ranks.
    scores = (norm.ppf((1 + np.argsort(np.argsort(each, axis=0), axis=0)) / (n + 1)) for each in (x, y))
    assert float(ksg(x, y, k=k).value) == pytest.approx(float(ksg(*scores, k=k, standardize=False).value), abs=1e-12)


@pytest.mark.parametrize("k", [1, 4])
def test_ksg_against_sklearn(k):
    x, y = bivariate(500)
    x, y = x / x.std(), y / y.std()
    labels = np.digitize(y, [-0.7, 0.4]) * 3 - 1
    options = {"n_neighbors": k, "random_state": 0}
    theirs = mutual_info_regression(x[:, None], y, **options)[0]
    assert float(ksg(x, y, k=k, standardize=False).value) == pytest.approx(theirs, abs=1e-9)
    classes = mutual_info_classif(x[:, None], labels, **options)[0]
    assert float(ksg(x, labels, k=k, standardize=False).value) == pytest.approx(classes, abs=1e-9)
    assert ksg(labels, x, k=k).value == ksg(x, labels, k=k).value


def test_truth_of_additive_uniform_noise():
    for eps in (0.1, 0.5, 0.9, 3.0):

        def minus_plogp(v, eps=eps):
            p = max(min(1, v + eps) - max(0, v - eps), 0) / (2 * eps)
            return -p * math.log(p) if p > 0 else 0.0

        kinks = sorted({-eps, eps, 1 - eps, 1 + eps})
        entropy = sum(quad(minus_plogp, a, b)[0] for a, b in itertools.pairwise(kinks))
        assert entropy - math.log(2 * eps) == pytest.approx(uniform_truth(eps), abs=1e-8)


@pytest.mark.parametrize("rho", [0.0, RHO, -0.95])
def test_ksg_on_normals(rho):
    found = ksg(*bivariate(4000, rho))
    assert abs(float(found.value) + 0.5 * math.log(1 - rho**2)) < 5 * float(found.stderr) + 0.005


@pytest.mark.parametrize("eps", [0.2, 0.9])
def test_ksg_on_uniform_noise(eps):
    found = ksg(*uniform_noise(4000, eps))
    assert abs(float(found.value) - uniform_truth(eps)) < 5 * float(found.stderr) + 0.005
    assert 0.002 < float(found.stderr) < 0.05


def test_ksg_on_multivariate_normals(rng):
    rhos = (0.3, 0.7)
    x, noise = rng.normal(size=(2, 4000, 2))
    y = np.array(rhos)[None, :] * x + np.sqrt(1 - np.square(rhos))[None, :] * noise
    truth = -0.5 * np.log(1 - np.square(rhos)).sum()
    turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    found = ksg(x @ turn, y)
    assert abs(float(found.value) - truth) < 5 * float(found.stderr) + 0.01


def test_ksg_with_classes_against_the_exact_mixture(rng):
    labels = rng.integers(0, 2, size=4000)
    x = 2.0 * labels + rng.normal(size=4000)
    found = ksg(x, labels)
    truth = mixture.exact(np.array([[0.0], [2.0]]), np.ones(2))
    assert abs(float(found.value) - float(truth.value)) < 5 * float(found.stderr) + 0.005


def test_ksg_errors_match_the_spread():
    both = [bivariate(400, seed=seed) for seed in range(60)]
    # Rare and far apart: what varies is how many there are of each class.
    rare = [(n > 1.0, 20 * (n > 1.0) + x) for x, n in (bivariate(400, 0.0, seed) for seed in range(60))]
    for results in (
        [ksg(x, labels) for labels, x in rare],
        [ksg(x, y) for x, y in both],
        [ksg(x, (y > 1.0).astype(int)) for x, y in both],
    ):
        spread = np.std([float(r.value) for r in results], ddof=1)
        assert np.sqrt(np.mean([float(r.stderr) ** 2 for r in results])) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ksg_saturates_at_its_own_ceiling(rng, k):
    n = 1000
    x = rng.normal(size=n)
    for y in (x, 2 * x, -np.exp(x), np.stack([x, x**3], axis=1)):
        found = ksg(x, y, k=k)
        assert float(found.value) == pytest.approx(digamma(n) - digamma(k), abs=1e-12)
        assert mixture.is_saturated(found) and mixture.is_saturated(found, n) and found.stderr == math.inf
    # A strong dependence short of it keeps its error.
    found = ksg(*bivariate(n, 0.95), k=k)
    assert not mixture.is_saturated(found) and 0 < float(found.stderr) < 0.2


@pytest.mark.parametrize(("n", "k", "start"), [(200, 3, 2.5), (2000, 3, 4.0), (2000, 10, 3.5)])
def test_ksg_says_where_it_is_too_low_for_its_ceiling(n, k, start):
    ceiling = digamma(n) - digamma(k)
    for seed in range(3):
        for short in (start, 1.5, 1.0, 0.5, -0.5):
            truth = ceiling - short
            found = ksg(*bivariate(n, math.sqrt(1 - math.exp(-2 * truth)), seed), k=k)
            low = truth - float(found.value)
            # What is not flagged is right within its error; what is flagged is too low, though not at its ceiling.
            assert bool(mixture.is_saturated(found)) == (short < start) == (found.stderr == math.inf)
            if short == start:
                assert abs(low) < 5 * float(found.stderr) + 0.01
            else:
                assert low > 0.05 and float(found.value) < ceiling
        # Nothing to miss: few samples without dependence are never flagged.
        assert not mixture.is_saturated(ksg(*bivariate(20, 0.0, seed), k=k if k < 9 else 9))


def test_ksg_of_classes_saturates_at_their_entropy(rng):
    labels = np.repeat([0, 1, 2], [100, 200, 700])
    x = rng.normal(size=1000)
    found = ksg(x + 100 * labels, labels)
    sizes = np.bincount(labels)
    assert float(found.value) == pytest.approx(digamma(1000) - sizes @ digamma(sizes) / 1000, abs=1e-12)
    assert mixture.is_saturated(found) and not mixture.is_saturated(ksg(x + labels, labels))


def test_units_do_not_count(rng):
    x, y = rng.normal(size=(2, 400, 2))
    y = y + x
    maps = [np.array([1.0, 1.0]), np.array([1e4, 1.0]), np.array([-1e-6, 1e9])]
    for estimator in (ksg, lambda x, y: binned(x, y, bins=5)):
        found = [estimator(x * scale + shift, y * scale[::-1]) for scale in maps[:2] for shift in (0.0, 1e3)]
        found += [estimator(x, y * scale) for scale in maps] if estimator is ksg else []
        for other in found[1:]:
            assert float(other.value) == pytest.approx(float(found[0].value), abs=1e-12)
    u, v = bivariate(2000, math.sqrt(1 - math.exp(-1)))
    for left, right in ((1e4 * u, v), (u, 1e-8 * v), (np.exp(4 * u), v**3)):
        assert abs(float(ksg(left, right).value) - 0.5) < 5 * float(ksg(u, v).stderr) + 0.01
    with pytest.warns(UserWarning, match=r"the columns have standard deviations that differ by a factor of .*e\+0.*"):
        assert abs(float(ksg(1e4 * u, v, standardize=False).value)) < 0.1


def test_one_size_of_bins_for_columns_of_different_scales_is_told(rng):
    x, y = rng.normal(size=(2, 100))
    for options in ({"width": 0.5}, {"bins": 5, "range": (-1e5, 1e5)}):
        with pytest.warns(UserWarning, match="Bins of one size"):
            binned(1e4 * x, y, **options)
    with pytest.warns(UserWarning, match="Bins of one size"):
        binned(np.stack([x, 20 * x], axis=1), y, range=((-100, 100), None))
    # Ranges of their own, integers and constants are no such case.
    binned(1e4 * x, y, range=((-1e5, 1e5), (-5, 5)))
    binned(np.stack([x, np.full(100, 0.1)], axis=1), np.arange(100) * 1000, width=0.5)


def test_binned_saturates_at_the_smaller_entropy(rng):
    x = rng.normal(size=(300, 6))
    labels = rng.integers(0, 3, size=300)
    found = binned(x, labels)  # every sample has a cell of its own: all of H(Y), though they are independent
    p = np.bincount(labels) / 300
    assert float(found.value) == pytest.approx(-np.sum(p * np.log(p))) and mixture.is_saturated(found)
    assert not mixture.is_saturated(binned(x[:, 0], labels, bins=4))


def test_kde_saturates_at_its_ceilings(rng):
    t, y = rng.normal(size=(30, 2)), np.arange(30) % 3
    soft = np.full((30, 3), 0.1) + 0.7 * np.eye(3)[y]
    for classes, i_xy in ((y, math.log(3)), (soft, math.log(3) + 0.8 * math.log(0.8) + 0.2 * math.log(0.1))):
        for variance, saturated in ((1e-9, True), (10.0, False)):
            about_x, about_y = kde_pair(t, classes, variance=variance)
            assert mixture.is_saturated(about_x) == mixture.is_saturated(about_y) == saturated
            np.testing.assert_allclose([about_x.ceiling, about_y.ceiling], [math.log(30), i_xy], rtol=1e-12)


def test_scales_of_units_in_kde(rng):
    t, y = rng.normal(size=(2, 50, 3)), rng.integers(0, 2, size=50)
    scaled = t * np.array([1.0, 1e4, 1e-3]) + 5
    with pytest.warns(UserWarning, match=r"the units of `t` have standard deviations .*standardize=True"):
        kde(scaled, variance=0.1)
    for labels in (None, y):
        found, other = (kde(each, labels, variance=0.1, standardize=True) for each in (t, scaled))
        np.testing.assert_allclose(found.value, other.value, rtol=1e-9)
        unit = (t - t.mean(1, keepdims=True)) / t.std(1, keepdims=True)
        np.testing.assert_allclose(found.value, kde(unit, labels, variance=0.1).value, rtol=1e-12)
    # Where one noise for all is meant, nothing is said, nor of a unit that is constant.
    kde(scaled, variance=0.1, standardize=False)
    kde(t * np.array([1.0, 0.0, 1.0]) + 0.1, variance=0.1)
    for standardize in (None, True):
        slope = jax.grad(lambda t, s=standardize: kde(t, variance=0.1, standardize=s).value.sum())
        assert np.isfinite(slope(jnp.asarray(t * np.array([1.0, 0.0, 1.0])))).all()


# Refusals

X = np.linspace(0.0, 1.0, 20)
Y = np.sin(7 * X)
HALF = np.full((20, 2), 0.5)
HOLE = np.where(X == 1, np.nan, X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: binned(X, Y[:-1]), ValueError, "`x` and `y` must hold the same number of samples; got 20 and 19"),
        (lambda: binned(X[:1], Y[:1]), ValueError, "at least two samples; got 1"),
        (lambda: binned(HOLE, Y), ValueError, "`x` must be finite; got nan"),
        (lambda: binned_layer(np.full((20, 1), "a"), HALF), TypeError, "`activations` must be numbers; got text"),
        (lambda: binned(X[:, None, None], Y), ValueError, r"`x` must have shape \(n,\) or \(n, d\)"),
        (lambda: binned([[1.0], [1.0, 2.0]], Y), ValueError, "ragged rows"),
        (lambda: binned(np.zeros(0, int), Y), ValueError, "`x` must not be empty"),
        (lambda: binned(X, Y, bins=0), ValueError, "`bins` must be at least 1; got 0"),
        (lambda: binned(X, Y, bins=2.5), TypeError, "`bins` must be an integer"),
        (lambda: binned(X, Y, bins=2**40), ValueError, r"`bins` must be at most 2147483647"),
        (lambda: binned(X, Y, width=0.0), ValueError, "`width` must be positive"),
        (lambda: binned(X, Y, width=1e-20), ValueError, "`width` must be at least"),
        (lambda: binned(X, Y, width=[0.1, 0.2]), ValueError, "`width` must be one number"),
        (
            lambda: binned(X, Y, range=(0.0, 1.0)),
            ValueError,
            r"`y` must lie within `range` = \(0.0, 1.0\); got 9 values",
        ),
        (lambda: binned(X, Y, range=(1.0, 0.0)), ValueError, "lo < hi"),
        (lambda: binned(X, Y, range=(0.0, np.nan)), ValueError, "lo < hi"),
        (lambda: binned(X, Y, range=(0.0, None)), ValueError, r"`range` must be a pair \(lo, hi\)"),
        (lambda: binned(X, Y, range=1.0), ValueError, r"`range` must be \(lo, hi\) or a pair of those"),
        (lambda: binned(X, Y, adaptive=True, range=(0, 1)), ValueError, "`adaptive` bins follow from the samples"),
        (lambda: binned(X, Y, correction="jackknife"), ValueError, "`correction` must be one of None, 'miller_madow'"),
        (lambda: jax.jit(lambda x: binned(x, Y).value)(X), TypeError, "`x` is being traced"),
        (lambda: jax.jit(lambda w: binned(X, Y, width=w).value)(0.1), TypeError, "`width` is being traced"),
        (lambda: kde(X[:, None], variance=1e-320), ValueError, "`t` and `variance` must not be so large or so small"),
        (lambda: binned_layer(X, HALF), ValueError, r"`activations` must have shape \(..., n, d\)"),
        (lambda: binned_layer(X[:1, None], HALF[:1]), ValueError, "`activations` must hold at least two inputs"),
        (lambda: binned_layer(X[:, None], HALF[:-1]), ValueError, "`p_y_given_x` must have one row for each"),
        (lambda: binned_layer(X[:, None], 2 * HALF), ValueError, "`p_y_given_x` must hold probabilities that sum to 1"),
        (lambda: binned_layer(X[:, None], HALF, p_x=X), ValueError, "`p_x` must hold probabilities that sum to 1"),
        (lambda: binned_layer(X[:, None], HALF, p_x=HALF[:3, 0]), ValueError, "`p_x` must have one row for each"),
        (lambda: binned_layer(np.arange(20)[:, None], HALF), TypeError, "Use `quantised_layer`"),
        (lambda: binned_layer(2 * X[:, None], HALF, range=(0, 1)), ValueError, "`activations` must lie within `range`"),
        (lambda: quantised_layer(HOLE[:, None], HALF), ValueError, "`activations` must be finite"),
        (lambda: kde(X, variance=1.0), ValueError, "`t` must have shape"),
        (lambda: kde(X[:1, None], variance=1.0), ValueError, "at least two rows"),
        (lambda: kde(HOLE[:, None], variance=1.0), ValueError, "`t` must be finite"),
        (lambda: kde(X[:, None], variance=0.0), ValueError, "`variance` must be positive"),
        (lambda: kde(X[:, None], variance=X), ValueError, "`variance` must be one number"),
        (lambda: kde(X[:, None], Y, variance=1.0), TypeError, "`y` must be integer classes"),
        (
            lambda: kde(X[:, None], np.arange(3), variance=1.0),
            ValueError,
            "`y` must have one row for each of the 20 inputs",
        ),
        (lambda: kde(X[:, None], np.ones((20, 2)), variance=1.0), ValueError, "probabilities that sum to 1"),
        (lambda: jax.jit(lambda y: kde(X[:, None], y, variance=1.0).value)(jnp.arange(20)), TypeError, "close over"),
        (lambda: ksg(X, Y, k=0), ValueError, "`k` must be at least 1; got 0"),
        (lambda: ksg(X, Y, k=20), ValueError, r"at least 2 \(k \+ 1\) = 42 samples in all; got 20"),
        (lambda: ksg(X, (X > 0.8) * 1), ValueError, r"samples in each class of `y`; got 4"),
        (lambda: ksg(X > 0.5, X > 0.3), ValueError, "both discrete"),
        (lambda: ksg(np.zeros(20), Y), ValueError, r"`x` must come from a density.*one 20 times.*add noise"),
        (lambda: ksg(np.tile(X, 2), np.tile(Y, 2)), ValueError, r"`\(x, y\)` must come from a density.*one 2 times"),
        (lambda: ksg(np.tile(X, 2), np.tile(X > 0.5, 2)), ValueError, r"`\(x, y\)`"),
        (lambda: ksg(X, Y[:-1]), ValueError, "the same number of samples"),
        (lambda: ksg(HOLE, Y), ValueError, "`x` must be finite"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_precision_of_the_host_does_not_depend_on_jax():
    # Float64 samples that float32 could not tell apart stay apart.
    x = 1.0 + 1e-12 * np.random.default_rng(0).permutation(40)
    assert float(binned(x, np.arange(40), bins=40).value) > 3.0
    assert set(estimators.__all__) <= set(dir(estimators))


def test_miller_madow_is_the_number_of_occupied_cells():
    # 3 values of x, 2 of y, 4 pairs of them, 8 samples: (3 + 2 - 4 - 1) / 16 = 0; without the last pair 1 / 14.
    x, y = np.array([0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 0, 1])
    for n, correction in ((8, 0.0), (7, 1 / 14), (6, 1 / 12)):
        plain, corrected = (binned(x[:n], y[:n], correction=name).value for name in (None, "miller_madow"))
        assert float(corrected - plain) == pytest.approx(correction, abs=1e-12)


@pytest.mark.parametrize(("n", "blocks"), [(32, 2), (64, 4), (100, 6), (160, 10), (400, 10)])
def test_number_of_blocks_of_the_ksg_error(rng, n, blocks):
    x, y = rng.normal(size=(2, n))
    parts = [(x[b::blocks], y[b::blocks]) for b in range(blocks)]
    estimates = [float(ksg(*part, standardize=False).value) for part in parts]
    assert float(ksg(x, y, standardize=False).stderr) == pytest.approx(
        np.std(estimates, ddof=1) / np.sqrt(blocks), rel=1e-9
    )


def test_integers_are_told_to_be_classes():
    integers = np.random.default_rng(0).integers(0, 100, 50)
    with pytest.raises(ValueError, match=r"`k` = 3 .*Integers are taken for classes.*`x.astype\(float\)`"):
        ksg(integers, np.random.default_rng(1).normal(size=50))
    with pytest.raises(ValueError, match="`y` must have no masked entries"):
        binned(np.arange(4), np.ma.array(np.arange(4), mask=[0, 0, 0, 1]))
