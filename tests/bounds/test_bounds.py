from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import bounds, information, kernels, stax
from ntkinfo.information import certificate

RISKS = [0.0, 1e-20, 1e-8, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-8]
DIVERGENCES = [1e-200, 1e-30, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.0]


def decimal_kl(q, p):
    """kl(q || p) with many digits."""
    first = q * (q / p).ln() if q > 0 else Decimal(0)
    return first + ((1 - q) * ((1 - q) / (1 - p)).ln() if q < 1 else Decimal(0))


@pytest.mark.parametrize("q", RISKS)
def test_the_inverse_is_right_to_1e12(q):
    upper = bounds.binary_kl_inverse(q, DIVERGENCES)
    lower = bounds.binary_kl_inverse(1 - q, DIVERGENCES, side="lower")
    np.testing.assert_allclose(lower, 1 - upper, atol=2e-15)
    with localcontext() as context:
        context.prec = 450
        for p, c in zip(upper, DIVERGENCES, strict=True):
            step = Decimal("1e-12")
            assert decimal_kl(Decimal(q), max(Decimal(q), Decimal(p) - step)) <= Decimal(c)
            assert Decimal(p) + step >= 1 or decimal_kl(Decimal(q), Decimal(p) + step) >= Decimal(c)


def test_the_inverse_at_its_ends():
    np.testing.assert_array_equal(bounds.binary_kl_inverse([0.0, 0.3, 1.0], 0.0), [0.0, 0.3, 1.0])
    np.testing.assert_array_equal(bounds.binary_kl_inverse([0.0, 0.3, 1.0], np.inf), 1.0)
    np.testing.assert_array_equal(bounds.binary_kl_inverse(1.0, 0.2), 1.0)
    np.testing.assert_allclose(bounds.binary_kl_inverse(0.0, [1e-15, 0.3, 50.0]), -np.expm1([-1e-15, -0.3, -50.0]))
    # 1 - p is beyond float64 here.
    np.testing.assert_array_equal(bounds.binary_kl_inverse([0.1, 1 - 1e-8], [800.0, 1.0]), 1.0)
    np.testing.assert_allclose(bounds.binary_kl_inverse(1.0, 0.2, side="lower"), np.exp(-0.2), rtol=1e-15)


def test_the_inverse_is_monotone_and_undoes_the_divergence(rng):
    q, c = rng.uniform(size=(40, 1)), np.sort(rng.exponential(size=(1, 50)) ** 3)
    p = bounds.binary_kl_inverse(q, c)
    assert (np.diff(p, axis=1) >= 0).all() and (p >= q).all() and (p <= 1).all()
    inside = p < 1 - 1e-6
    error = bounds.binary_kl(q, p) - np.broadcast_to(c, p.shape)
    np.testing.assert_allclose(error[inside], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("q", "p"), [(0.3, 0.3 + 1e-9), (0.4, 0.4 - 1e-13), (0.5, 1e-300), (0.2, 0.7), (1e-5, 1e-300), (1 - 1e-12, 0.5)]
)
def test_binary_kl_is_exact(q, p):
    with localcontext() as context:
        context.prec = 400
        expected = float(decimal_kl(Decimal(q), Decimal(p)))
    np.testing.assert_allclose(bounds.binary_kl(q, p), expected, rtol=1e-13)


def test_binary_kl_at_its_ends():
    np.testing.assert_array_equal(bounds.binary_kl([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]), 0.0)
    np.testing.assert_array_equal(bounds.binary_kl([0.5, 0.5, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]), np.inf)


def test_maurers_constant_holds_from_one_example_on():
    for n in (1, 2, 3, 7, 8, 50, 900):
        counts = np.arange(n + 1)
        logs = np.zeros(n + 1)
        inner = counts[1:-1]
        log_choose = np.cumsum(np.log((n + 1 - counts[1:]) / counts[1:]))[: n - 1]
        logs[1:-1] = log_choose + inner * np.log(inner / n) + (n - inner) * np.log1p(-inner / n)
        assert np.exp(logs).sum() <= 2 * np.sqrt(n) * (1 + 1e-12)


RISK, KL = np.linspace(0, 1, 21)[:, None], np.geomspace(1e-3, 1e4, 30)[None, :]


def test_order():
    sharp = bounds.pac_bayes_kl(RISK, KL, n=500)
    assert (sharp >= RISK).all() and (sharp <= 1).all()
    assert (bounds.mcallester(RISK, KL, n=500) >= sharp - 1e-15).all()
    # Catoni's bound at any temperature is above the inverse with its own, smaller, logarithm ...
    limit = bounds.binary_kl_inverse(RISK, (KL + np.log(20)) / 500)
    each = bounds.catoni(RISK[..., None], KL[..., None], n=500, temperature=np.geomspace(1e-3, 50, 400))
    assert (each >= limit[..., None] - 1e-12).all()
    # ... and touches it at the best one.
    moderate = (limit > 0.02) & (limit < 0.98)
    np.testing.assert_allclose(each.min(-1)[moderate], limit[moderate], rtol=2e-3)
    union = bounds.catoni(RISK, KL, n=500)
    assert (union >= each.min(-1) - 1e-12).all()
    assert (np.diff(bounds.information_content(KL, n=500), axis=-1) >= 0).all()
    assert (bounds.information_content(KL, n=500, form="sharp") <= bounds.information_content(KL, n=500)).all()


def test_formulas():
    np.testing.assert_allclose(
        bounds.mcallester(0.1, 20.0, n=1000, delta=0.05),
        0.1 + np.sqrt((20 + np.log(2 * np.sqrt(1000) / 0.05)) / 2000),
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        bounds.catoni(0.1, 20.0, n=1000, delta=0.05, temperature=0.7),
        (1 - np.exp(-0.07 - (20 + np.log(20)) / 1000)) / (1 - np.exp(-0.7)),
        rtol=1e-14,
    )
    np.testing.assert_allclose(bounds.xu_raginsky(3.0, n=50, sub_gaussian=0.5), np.sqrt(2 * 0.25 * 3 / 50))
    bits = 3.0 / np.log(2)
    np.testing.assert_allclose(
        bounds.input_compression(3.0, n=50, delta=0.1), np.sqrt((2**bits + np.log(10)) / 100), rtol=1e-14
    )
    np.testing.assert_allclose(
        bounds.information_content(200.0, n=500, delta=0.01), 1 - np.exp(-(200 + np.log(1000 / 0.01)) / 499)
    )


def test_vacuous_values_are_not_clipped():
    assert bounds.mcallester(0.9, 1e4, n=10) > 20
    assert bounds.catoni(0.9, 100.0, n=10, temperature=1.0) > 1.5
    assert bounds.xu_raginsky(1e6, n=10, sub_gaussian=0.5) > 100
    assert bounds.input_compression(1000.0, n=100) == pytest.approx(np.exp(500) / np.sqrt(200), rel=1e-12)
    assert bounds.input_compression(2000.0, n=100) == np.inf and bounds.mcallester(0.1, np.inf, n=10) == np.inf
    assert bounds.pac_bayes_kl(0.1, np.inf, n=10) == 1


def gibbs(counts, n, prior, inverse_temperature):
    """Gibbs posterior over hypotheses from their numbers of errors (datasets, hypotheses), and its KL to the prior."""
    logits = np.log(prior) - inverse_temperature * counts
    posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    kl = np.sum(np.where(posterior > 0, posterior * np.log(np.maximum(posterior, 1e-300) / prior), 0.0), axis=1)
    return posterior, np.maximum(kl, 0.0)


@pytest.fixture(scope="module")
def finite_class():
    """4000 data sets of 40 examples for 200 hypotheses, which err independently with known probabilities."""
    rng = np.random.default_rng(1)
    n, truth, prior = 40, rng.uniform(0.2, 0.6, size=200), rng.dirichlet(np.ones(200))
    counts = rng.binomial(n, truth, size=(4000, 200))
    return n, truth, prior, counts


NAMES = ("pac_bayes_kl", "mcallester", "catoni")


@pytest.mark.parametrize("inverse_temperature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("name", NAMES)
def test_pac_bayes_bounds_cover(finite_class, name, inverse_temperature):
    n, truth, prior, counts = finite_class
    posterior, kl = gibbs(counts, n, prior, inverse_temperature)
    bound = getattr(bounds, name)(risks(posterior, counts, n), kl, n=n, delta=0.1)
    failures = bound < posterior @ truth
    assert failures.mean() <= 0.1 + 5 * np.sqrt(0.09 / len(failures))


def risks(posterior, counts, n):
    return np.sum(posterior * counts, axis=1) / n


def test_coverage_without_the_divergence_fails(rng):
    # The best of 5000 fair coins: without its log 5000 nats the bound fails nearly always, with them hardly ever.
    best = rng.binomial(40, 0.5, size=(300, 5000)).min(axis=1) / 40
    assert np.mean(bounds.pac_bayes_kl(best, 0.0, n=40, delta=0.1) < 0.5) > 0.5
    assert np.mean(bounds.pac_bayes_kl(best, np.log(5000), n=40, delta=0.1) < 0.5) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_pac_bayes_bounds_are_tight_for_one_hypothesis(rng, name):
    # The bounds shrink to the risk at the rate of the sampling error, and their excess is a few of its sizes.
    for n in (10**3, 10**5, 10**7):
        counts = rng.binomial(n, 0.2, size=2000)
        bound = getattr(bounds, name)(counts / n, 0.0, n=n, delta=0.05)
        excess = (bound - 0.2) / np.sqrt(0.16 / n)
        assert np.mean(excess < 0) <= 0.05
        assert 1 < excess.mean() < 8


def test_catoni_is_exact_where_its_proof_is(rng):
    # For one hypothesis that always errs or never, E exp(...) = 1 and Markov's inequality alone is lost.
    assert bounds.catoni(1.0, 0.0, n=10**9, delta=0.5, temperature=1.0) == pytest.approx(1.0, abs=1e-8)
    assert bounds.catoni(0.0, 0.0, n=10**9, delta=0.5, temperature=1.0) == pytest.approx(0.0, abs=1e-8)


def test_information_content_covers_a_realizable_class(rng):
    n, prior = 30, rng.dirichlet(np.ones(300))
    truth = rng.uniform(0.0, 0.3, size=300)
    truth[0] = 0.0
    fits = rng.binomial(n, truth, size=(4000, 300)) == 0
    mass = fits @ prior
    risk = (fits * prior) @ truth / mass
    for form in ("published", "sharp"):
        bound = bounds.information_content(-np.log(mass), n=n, delta=0.1, form=form)
        assert np.mean(bound < risk) <= 0.1 + 5 * np.sqrt(0.09 / 4000)
    assert np.mean(bounds.information_content(0.0, n=n, delta=0.1) < risk) == 0
    # A posterior that picks the worst of those that fit is not the prior restricted: the bound does not cover it.
    worst = np.max(np.where(fits, truth, 0.0), axis=1)
    assert np.mean(bounds.information_content(0.0, n=n, delta=0.1, form="sharp") < worst) > 0.1


def test_the_sharp_information_content_is_tight():
    # One hypothesis: it fits n examples with probability (1 - L)^n, and the bound fails with just that where L exceeds
    # it. At the smallest such L this is delta: no smaller bound holds.
    n, delta = 40, 0.1
    bound = bounds.information_content(0.0, n=n, delta=delta, form="sharp")
    np.testing.assert_allclose((1 - bound) ** n, delta, rtol=1e-12)


@pytest.mark.parametrize("hypotheses", [10, 10**6])
def test_xu_raginsky_holds_and_is_tight_for_the_best_of_many(rng, hypotheses):
    # Losses N(0, 1) of independent hypotheses: the gap of the best one is the largest of normals, I(W;D) = log M.
    draws = 400
    gap = np.mean([np.max(rng.standard_normal(hypotheses)) for _ in range(draws if hypotheses < 100 else 40)])
    bound = bounds.xu_raginsky(np.log(hypotheses), n=1, sub_gaussian=1.0)
    assert gap < bound < (1.6 if hypotheses < 100 else 1.1) * gap


def test_input_compression_covers_cell_classifiers(rng):
    # A classifier constant on 8 cells, the best of all 2^8 on the data: empirical majority in each cell.
    cells, n, delta = 8, 60, 0.1
    p_one = rng.uniform(0.3, 0.7, size=cells)
    where = rng.integers(0, cells, size=(3000, n))
    label = rng.uniform(size=where.shape) < p_one[where]
    hot = where[..., None] == np.arange(cells)
    ones, total = np.sum(hot & label[..., None], axis=1), np.sum(hot, axis=1)
    chosen = 2 * ones > total
    training = np.sum(np.where(chosen, total - ones, ones), axis=1) / n
    true = np.mean(np.where(chosen, 1 - p_one, p_one), axis=1)
    bound = bounds.input_compression(np.log(cells), n=n, delta=delta)
    assert np.mean(true - training > bound) <= delta
    assert np.mean(true - training) > bound / 4


def test_arrays_of_every_kind_broadcast():
    value = bounds.pac_bayes_kl(jnp.array([0.1, 0.2]), np.array([[1.0], [2.0], [3.0]]), n=100, delta=[0.05, 0.1])
    assert value.shape == (3, 2) and value.dtype == np.float64
    assert value[2, 1] == bounds.pac_bayes_kl(0.2, 3, n=100, delta=0.1)
    assert bounds.catoni([0.1, 0.2], 1.0, n=np.array([[50], [100]])).shape == (2, 2)


BAD = [
    (lambda: bounds.pac_bayes_kl(-0.1, 1.0, n=10), ValueError, r"`risk` must lie in \[0, 1\].*got -0.1"),
    (lambda: bounds.mcallester(1.1, 1.0, n=10), ValueError, r"`risk` must lie in \[0, 1\].*got 1.1"),
    (lambda: bounds.catoni(np.nan, 1.0, n=10), ValueError, r"`risk` must lie in \[0, 1\].*got nan"),
    (lambda: bounds.pac_bayes_kl(0.1, -1e-9, n=10), ValueError, r"`kl` must lie in \[0, inf\).*got -1e-09"),
    (lambda: bounds.pac_bayes_kl(0.1, [1.0, np.nan], n=10), ValueError, "`kl` must lie in .* not be NaN; got nan"),
    (lambda: bounds.pac_bayes_kl(0.1, 1.0, n=0), ValueError, r"`n` must lie in \[1, inf\).*got 0"),
    (lambda: bounds.pac_bayes_kl(0.1, 1.0, n=2.5), ValueError, "`n` must be a whole number of examples; got 2.5"),
    (lambda: bounds.pac_bayes_kl(0.1, 1.0, n=np.inf), ValueError, "`n` must be a whole number of examples; got inf"),
    (lambda: bounds.pac_bayes_kl(0.1, 1.0, n=9, delta=0.0), ValueError, r"`delta` must lie in \(0, 1\).*got 0.0"),
    (lambda: bounds.catoni(0.1, 1.0, n=9, delta=1), ValueError, r"`delta` must lie in \(0, 1\).*got 1.0"),
    (lambda: bounds.catoni(0.1, 1.0, n=9, temperature=0), ValueError, r"`temperature` must lie in \(0, inf\)"),
    (lambda: bounds.xu_raginsky(-1.0, n=9, sub_gaussian=1), ValueError, "`information` must lie in"),
    (lambda: bounds.xu_raginsky(1.0, n=9, sub_gaussian=-1), ValueError, "`sub_gaussian` must lie in"),
    (lambda: bounds.input_compression(np.nan, n=9), ValueError, "`information` must lie in .*got nan"),
    (lambda: bounds.input_compression(1.0, n=9, delta=2), ValueError, "`delta` must lie in"),
    (lambda: bounds.information_content(-1.0, n=9), ValueError, "`content` must lie in"),
    (lambda: bounds.information_content(1.0, n=1), ValueError, r"`n` must lie in \[2, inf\).*got 1"),
    (lambda: bounds.information_content(1.0, n=9, form="best"), ValueError, "`form` must be one of 'published'"),
    (lambda: bounds.binary_kl(1.5, 0.1), ValueError, "`q` must lie in"),
    (lambda: bounds.binary_kl_inverse(0.1, -1), ValueError, "`bound` must lie in"),
    (lambda: bounds.binary_kl_inverse(0.1, 1, side="left"), ValueError, "`side` must be one of 'upper', 'lower'"),
    (lambda: bounds.pac_bayes_kl("0.1", 1.0, n=10), TypeError, "`risk` must be a real number, .*; got '0.1'"),
    (lambda: bounds.pac_bayes_kl(True, 1.0, n=10), TypeError, "`risk` must be a real number, .*; got True"),
    (lambda: bounds.pac_bayes_kl([[0.1], [0.1, 0.2]], 1.0, n=10), ValueError, "`risk` .* ragged rows"),
    (lambda: jax.jit(lambda r: bounds.mcallester(r, 1.0, n=9))(0.1), TypeError, "got a traced value.*outside jit"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_docstring_examples():
    assert round(float(bounds.pac_bayes_kl(0.1, 20.0, n=1000, delta=0.05)), 4) == 0.1839
    assert round(float(bounds.information_content(200.0, n=500, delta=0.01)), 4) == 0.3455
    assert round(float(bounds.binary_kl_inverse(0.0, 0.05)), 6) == 0.048771


# Where the prior comes from


def signs(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.choice([-1.0, 1.0], size=(n, 1))


def test_a_prior_that_saw_the_labels_is_refused():
    x, y = signs()

    def learned(x1, x2, get):
        raise NotImplementedError

    learned.prior_saw_data = True
    # Labels are coin flips, so that every network errs on half of new ones; the kernel has them by heart.
    q = jnp.asarray(y @ y.T + 1e-3 * np.eye(len(y)))
    post = ni.Posterior.from_kernel(learned, jnp.asarray(x), jnp.asarray(y), q, noise=0.01)
    risk = float(information.losses(post.predict_train(), y).gibbs_error)
    assert bounds.pac_bayes_kl(risk, float(post.kl), n=len(y)) < 0.4  # a number, and no bound
    for bound in (bounds.pac_bayes_kl, bounds.mcallester, bounds.catoni):
        with pytest.raises(ValueError, match="`kl` must be a divergence from a prior fixed before the data;"):
            bound(risk, post, n=len(y))
        assert bound(risk, post, n=len(y), priors=3) == bound(risk, float(post.kl) + np.log(3), n=len(y))
    with pytest.raises(ValueError, match=r"`information` must be an average over data sets .* of one data set"):
        bounds.xu_raginsky(post, n=len(y), sub_gaussian=0.5)
    ens = ni.Ensemble.from_kernels(learned, jnp.asarray(x), jnp.asarray(y), kernels.Kernels(q, q))
    assert ens.prior_saw_data and jax.tree.map(lambda leaf: leaf, ens).prior_saw_data
    with pytest.raises(ValueError, match="`ens` must have kernels fixed before its data"):
        certificate(ens, x, y, [1.0])


def test_the_noise_is_no_part_of_the_prior():
    x, y = signs(n=30)
    net = stax.serial(stax.Dense(1, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1))
    fixed = ni.Posterior.fit(net, x, y, noise=0.3)
    for post in (fixed, ni.Posterior.fit(net, x, np.tanh(x[:, :1]) + 0.3 * y, noise="fit")):
        assert not post.prior_saw_data
        assert bounds.pac_bayes_kl(0.2, post, n=30) == bounds.pac_bayes_kl(0.2, float(post.kl), n=30)
    assert ni.Posterior.fit(net, x, y, noise=0.3, prior_saw_data=True).prior_saw_data
    assert ni.Ensemble.fit(net, x, y, prior_saw_data=True).prior_saw_data
    with pytest.raises(TypeError, match="`prior_saw_data` must be True, False or None; got 'yes'"):
        ni.Posterior.fit(net, x, y, prior_saw_data="yes")


def test_priors_are_paid_for_by_their_share_of_delta():
    risk, kl, n = 0.1, np.array([1.0, 20.0]), 500
    for bound in (bounds.pac_bayes_kl, bounds.mcallester, bounds.catoni):
        shared = bound(risk, kl, n=n, delta=0.05 / 24)
        np.testing.assert_allclose(bound(risk, kl, n=n, delta=0.05, priors=24), shared, rtol=1e-12)
        np.testing.assert_array_equal(bound(risk, kl, n=n, priors=1), bound(risk, kl, n=n))
    for form in bounds.FORMS:
        shared = bounds.information_content(kl, n=n, delta=0.05 / 24, form=form)
        np.testing.assert_allclose(bounds.information_content(kl, n=n, form=form, priors=24), shared, rtol=1e-12)
    # The divergence from the mixture of fixed priors is at most that much larger.
    rng = np.random.default_rng(0)
    posterior, fixed = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6), size=5)
    of_mixture = float(np.sum(posterior * np.log(posterior / fixed.mean(0))))
    own = np.sum(posterior * np.log(posterior / fixed), axis=1)
    given = bounds.xu_raginsky(own, n=n, sub_gaussian=0.5, priors=5)
    assert (given >= bounds.xu_raginsky(of_mixture, n=n, sub_gaussian=0.5)).all()
    with pytest.raises(ValueError, match="`priors` must be at least 1"):
        bounds.pac_bayes_kl(risk, kl, n=n, priors=0)


def test_the_grid_of_temperatures_costs_less_than_one_per_cent():
    from ntkinfo.bounds import _bounds

    risk, excess = (each.reshape(-1, 1) for each in np.meshgrid([0.0, 0.01, 0.1, 0.3, 0.5], np.geomspace(1e-3, 1, 30)))
    fine = np.geomspace(bounds.TEMPERATURES[0], bounds.TEMPERATURES[-1], 100_000)
    best = _bounds._catoni(risk, excess, fine).min(axis=1)
    assert (_bounds._catoni(risk, excess, bounds.TEMPERATURES).min(axis=1) <= 1.01 * best).all()


def test_the_smallest_probabilities_leave_bounds_finite():
    """log(a/δ) as a difference: a/δ overflows."""
    delta, logs = 1e-308, 308 * np.log(10)
    excess = (20 + np.log(2 * np.sqrt(1000)) + logs) / 1000
    np.testing.assert_allclose(bounds.mcallester(0.1, 20.0, n=1000, delta=delta), 0.1 + np.sqrt(excess / 2), rtol=1e-13)
    for name in ("pac_bayes_kl", "catoni"):
        assert 0.1 < getattr(bounds, name)(0.1, 20.0, n=1000, delta=delta) < 1
    content = bounds.information_content(20.0, n=1000, delta=delta)
    np.testing.assert_allclose(content, 1 - np.exp(-(20 + np.log(2000) + logs) / 999), rtol=1e-13)
