import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import mixture
from ntkinfo.mixture import _channel, _quadrature
from tests.compilations import counted
from tests.references import mixture as reference

KEY = jax.random.key(0)
LABELS = np.array([0, 1, 1, 0, 2, 1])


def channel(m=6, k=1, *, lead=(), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*lead, m, k)), rng.uniform(0.05, 1.5, size=(*lead, m))


def infer(name, mean, variance, labels=None, n_classes=3):
    """One estimator of the input or label information by name."""
    options = {"key": KEY, "n_samples": 3} if name in ("monte_carlo", "minibatch") else {}
    if labels is None:
        return getattr(mixture, name)(mean, variance, **options)
    return getattr(mixture, f"label_{name}")(mean, variance, labels, n_classes, **options)


def bounds(result):
    """Lower and upper bound, of what bounds anything."""
    return [] if result.method == "monte_carlo" else [result.lower, result.upper]


def both(name, mean, variance):
    """Input and label information of one estimator."""
    options = {"key": KEY, "n_samples": 3} if name in SAMPLED else {}
    return getattr(mixture, f"{name}_pair")(mean, variance, mixture.one_hot(LABELS, 3), **options)


ALL = ("exact", "monte_carlo", "minibatch", "pairwise")
SAMPLED = ("monte_carlo", "minibatch")


# Independent references


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_exact_agrees_with_adaptive_quadrature(seed):
    mean, variance = channel(seed=seed)
    result, label = mixture.exact_pair(mean, variance, mixture.one_hot(LABELS, 3))
    assert abs(result.value - reference.input_information(mean[:, 0], variance)) < 1e-11
    assert abs(label.value - reference.label_information(mean[:, 0], variance, LABELS)) < 1e-11


@pytest.mark.parametrize("distance", [1e-3, 0.3, 1.0, 3.0, 5.0, 8.0, 17.9, 18.1, 30.0])
@pytest.mark.parametrize("ratio", [1.0, 1e-2, 1e-6])
def test_two_gaussians(distance, ratio):
    mean, variance = np.array([0.0, distance]), np.array([1.0, ratio])
    result = mixture.exact(mean[:, None], variance)
    truth = reference.input_information(mean, variance, reference.entropy_fine)
    assert abs(result.value - truth) < 2e-11
    assert result.upper - result.lower < 1e-8


STRESS = {
    "equal": lambda rng, m: (np.ones(m), np.full(m, 0.3)),
    "nearly equal": lambda rng, m: (1e-6 * rng.normal(size=m), np.ones(m)),
    "overlapping": lambda rng, m: (rng.normal(size=m), np.full(m, 0.5)),
    "apart": lambda rng, m: (1e4 * rng.normal(size=m), np.ones(m)),
    "variances over 12 decades": lambda rng, m: (rng.normal(size=m), 10 ** rng.uniform(-6, 6, size=m)),
    "half narrow": lambda rng, m: (rng.normal(size=m), np.where(np.arange(m) % 2, 1e-6, 1.0)),
    "one wide": lambda rng, m: (0.01 * rng.normal(size=m), np.where(np.arange(m) == 0, 1e6, 1.0)),
    "late training": lambda rng, m: (np.sign(rng.normal(size=m)), 10 ** rng.uniform(-8, -1, size=m)),
}


@pytest.mark.parametrize("m", [1, 2, 30, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STRESS)
def test_exact_everywhere(name, m):
    mean, variance = STRESS[name](np.random.default_rng(m), m)
    result = mixture.exact(mean[:, None], variance)
    truth = reference.input_information(mean, variance, reference.entropy_fine)
    assert abs(result.value - truth) < 1e-10
    assert result.upper - result.lower < 2e-8


def test_exact_with_a_thousand_points():
    mean, variance = STRESS["overlapping"](np.random.default_rng(0), 1000)
    result = mixture.exact(mean[:, None], variance)
    # A trapezoidal sum converges faster than any power for equal widths of this size.
    z = np.linspace(-12, 12, 2001)
    p = np.mean(np.exp(-((z[:, None] - mean[None, :]) ** 2)), axis=1) / np.sqrt(np.pi)
    truth = -np.sum(p * np.log(p)) * (z[1] - z[0]) - 0.5 * np.log(np.pi * np.e)
    assert abs(result.value - truth) < 1e-10


def test_exact_far_from_the_origin():
    gaps, variance = np.array([0.0, 2.0**-33, 3 * 2.0**-33, 1.0]), np.full(4, 2.0**-66)
    near, far = (mixture.exact(gaps[:, None] + shift, variance).value for shift in (0.0, 1.0))
    assert abs(near - far) < 1e-12


def test_minibatch_agrees_with_its_formulas():
    mean, variance = channel(5, 3)
    n = 4
    result = mixture.minibatch(mean, variance, key=KEY, n_samples=n)
    noise = np.stack([jax.random.normal(jax.random.fold_in(KEY, i), (n, 3)) for i in range(5)])
    z = mean[:, None, :] + np.sqrt(variance)[:, None, None] * noise
    nce, leave = reference.minibatch(mean, variance, z)
    np.testing.assert_allclose(result.lower, nce.mean(), rtol=1e-12)
    np.testing.assert_allclose(result.upper, leave.mean(), rtol=1e-12)
    np.testing.assert_allclose(result.stderr, np.sqrt(np.sum(nce.var(axis=1, ddof=1)) / n) / 5, rtol=1e-10)
    np.testing.assert_allclose(result.upper_stderr, np.sqrt(np.sum(leave.var(axis=1, ddof=1)) / n) / 5, rtol=1e-10)


def test_label_minibatch_combines_lower_with_upper():
    mean, variance = channel(6, 2)
    result = mixture.label_minibatch(mean, variance, LABELS, 3, key=KEY, n_samples=2)
    noise = np.stack([jax.random.normal(jax.random.fold_in(KEY, i), (2, 2)) for i in range(6)])
    z = mean[:, None, :] + np.sqrt(variance)[:, None, None] * noise
    nce, leave = (a.mean() for a in reference.minibatch(mean, variance, z))
    lower, value, upper = nce, nce, leave
    for c in (0, 1):  # class 2 has a single point: no information within it
        members = np.flatnonzero(c == LABELS)
        within = [a.mean() for a in reference.minibatch(mean[members], variance[members], z[members])]
        share = len(members) / 6
        lower, value, upper = lower - share * within[1], value - share * within[0], upper - share * within[0]
    np.testing.assert_allclose([result.lower, result.value, result.upper], [lower, value, upper], rtol=1e-11)


def test_pairwise_agrees_with_its_formulas():
    mean, variance = channel(6, 3)
    result, label = mixture.pairwise_pair(mean, variance, mixture.one_hot(LABELS, 3))
    lower = reference.pairwise(mean, variance, reference.bhattacharyya)
    upper = reference.pairwise(mean, variance, reference.divergence)
    np.testing.assert_allclose([result.value, result.lower, result.upper], [lower, lower, upper], rtol=1e-12)
    for c in range(3):
        members = np.flatnonzero(c == LABELS)
        within = mean[members], variance[members]
        share = len(members) / 6
        lower -= share * reference.pairwise(*within, reference.divergence)
        upper -= share * reference.pairwise(*within, reference.bhattacharyya)
    np.testing.assert_allclose([label.value, label.lower, label.upper], [lower, lower, upper], rtol=1e-11)


# Limits


@pytest.mark.parametrize("name", ["exact", "monte_carlo", "pairwise"])
def test_one_point_has_no_information(name):
    result = infer(name, np.ones((1, 1)), np.ones(1))
    np.testing.assert_allclose([result.value, *bounds(result), result.stderr], 0, atol=2e-13)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("labels", [None, LABELS])
def test_identical_points_have_no_information(name, labels):
    result = infer(name, np.full((6, 1), 0.7), np.full(6, 0.2), labels)
    np.testing.assert_allclose([result.value, *bounds(result), result.stderr], 0, atol=2e-13)


@pytest.mark.parametrize("labels", [None, LABELS])
def test_an_estimate_bounds_nothing(labels):
    result = infer("monte_carlo", *channel(lead=(2,)), labels)
    assert (np.asarray(result.lower) == -np.inf).all() and (np.asarray(result.upper) == np.inf).all()
    assert result.lower.shape == result.upper.shape == result.value.shape


@pytest.mark.parametrize("name", ALL)
def test_points_far_apart_have_all_of_it(name):
    mean, variance = 1e3 * np.arange(6.0)[:, None], np.ones(6)
    result, label = infer(name, mean, variance), infer(name, mean, variance, LABELS)
    p = np.array([2, 3, 1]) / 6
    np.testing.assert_allclose(result.value, np.log(6), rtol=1e-12)
    assert mixture.is_saturated(result) and mixture.is_saturated(result, 6)
    np.testing.assert_allclose([result.ceiling, label.ceiling], [np.log(6), -np.sum(p * np.log(p))], rtol=1e-12)
    if name != "minibatch":  # leave-one-out has no ceiling
        np.testing.assert_allclose(label.value, -np.sum(p * np.log(p)), rtol=1e-12)
        assert mixture.is_saturated(label)
        np.testing.assert_allclose(bounds(result), np.log(6), rtol=1e-12)
    for each in (result, label):
        assert np.isfinite([each.value, *bounds(each), each.stderr]).all()


def test_early_information_is_quadratic_in_the_spread():
    mean = 1e-5 * np.random.default_rng(0).normal(size=(50, 1))
    np.testing.assert_allclose(mixture.exact(mean, np.ones(50)).value, 0.5 * np.var(mean), atol=1e-14)


def test_saturation():
    result = mixture.Information(np.log(10) * np.array([0.98, 0.995]), None, None, None, "exact")
    np.testing.assert_array_equal(mixture.is_saturated(result, 10), [False, True])
    own = mixture.Information(result.value, None, None, None, "ksg", ceiling=np.log([9.0, 20.0]))
    np.testing.assert_array_equal(mixture.is_saturated(own), [True, False])
    np.testing.assert_array_equal(mixture.is_saturated(own, 10), [True, True])
    with pytest.raises(ValueError, match=r"`m` must be given.*'exact'"):
        mixture.is_saturated(result)
    with pytest.raises(ValueError, match="`m` must be at least 2"):
        mixture.is_saturated(result, 1)


# Inequalities


@pytest.mark.parametrize("seed", range(2))
def test_bounds_and_data_processing(seed):
    mean, variance = channel(30, lead=(4,), seed=seed)
    classes = mixture.one_hot(np.arange(30) % 3, 3)
    exact, label = mixture.exact_pair(mean, variance, classes)
    for pair in (
        mixture.pairwise_pair(mean, variance, classes),
        mixture.minibatch_pair(mean, variance, classes, key=KEY, n_samples=400),
    ):
        for bound, truth in zip(pair, (exact, label), strict=True):
            assert (bound.lower - 5 * bound.lower_stderr <= truth.value).all()
            assert (truth.value <= bound.upper + 5 * bound.upper_stderr).all()
            assert (bound.upper - bound.lower < 1.5).all()  # and say something
    assert (label.value > 0).all() and (label.value <= exact.value).all() and (label.value <= np.log(3)).all()
    assert (exact.lower <= exact.value).all() and (exact.value <= exact.upper).all()


def test_noise_destroys_information():
    mean, variance = channel(30)
    values = [float(mixture.exact(mean, variance + noise).value) for noise in (0.0, 0.1, 1.0, 10.0)]
    assert (np.diff(values) < 0).all()


# Simulation


@pytest.mark.parametrize("which", [0, 1])
def test_standard_errors_are_honest(which):
    mean, variance = channel(12)
    classes = mixture.one_hot(np.arange(12) % 3, 3)
    truth = mixture.exact_pair(mean, variance, classes)[which].value
    keys = jax.random.split(jax.random.key(7), 400)
    estimate = jax.vmap(lambda key: mixture.monte_carlo_pair(mean, variance, classes, key=key, n_samples=50)[which])(
        keys
    )
    z = (estimate.value - truth) / estimate.stderr
    assert abs(np.mean(z)) < 5 / np.sqrt(400)
    assert abs(np.std(z) - 1) < 5 / np.sqrt(800)


def test_standard_errors_of_bounds_are_honest():
    mean, variance = channel(8, 2)
    keys = jax.random.split(jax.random.key(8), 400)
    result = jax.vmap(lambda key: mixture.minibatch(mean, variance, key=key, n_samples=50))(keys)
    np.testing.assert_allclose(np.mean(result.upper_stderr), np.std(result.upper), rtol=5 / np.sqrt(800))
    np.testing.assert_allclose(np.mean(result.lower_stderr), np.std(result.lower), rtol=5 / np.sqrt(800))


def test_one_sample_gives_a_conservative_standard_error():
    mean, variance = channel(40)
    keys = jax.random.split(jax.random.key(9), 400)
    result = jax.vmap(lambda key: mixture.monte_carlo(mean, variance, key=key, n_samples=1))(keys)
    expected = np.sqrt(np.mean(np.asarray(result.stderr) ** 2))
    assert 0.9 * np.std(result.value) < expected < 2 * np.std(result.value)


def test_one_sample_of_two_points_alike_has_the_right_standard_error():
    # By symmetry KL(p_i ‖ p) is the same for both: their variance is that of the sampling, and the error is unbiased.
    keys = jax.random.split(jax.random.key(3), 4000)
    mean, variance = np.array([[-0.7], [0.7]]), np.ones(2)
    result = jax.vmap(lambda key: mixture.monte_carlo(mean, variance, key=key, n_samples=1))(keys)
    np.testing.assert_allclose(np.mean(np.asarray(result.stderr) ** 2), np.var(result.value), rtol=0.1)


def test_means_on_a_line_have_the_information_of_one_output():
    # Means on a line in four dimensions: across it there is only noise.
    mean, _ = channel(10)
    rotated = (
        np.concatenate([mean, np.zeros((10, 3))], axis=1)
        @ np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    )
    constant = np.full(10, 0.3)
    result = mixture.monte_carlo(rotated, constant, key=KEY, n_samples=2000)
    assert abs(result.value - mixture.exact(mean, constant).value) < 5 * result.stderr


# Transformations


# What is sampled compiles long, and both are made of one program.
@pytest.mark.parametrize(
    "name", ["exact", pytest.param("monte_carlo", marks=pytest.mark.slow), "minibatch", "pairwise"]
)
def test_jit_vmap_and_leading_axes(name):
    mean, variance = channel(lead=(2, 3))
    result = both(name, mean, variance)
    assert result[1].value.shape == (2, 3) and result[1].method == name
    jitted = jax.jit(lambda a, b: both(name, a, b))(mean, variance)
    mapped = jax.jit(jax.vmap(jax.vmap(lambda a, b: both(name, a, b))))(mean, variance)
    for other in (jitted, mapped):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), result, other)
    for i, labels in enumerate((None, LABELS)):
        single = infer(name, mean[1, 2], variance[1, 2], labels)
        np.testing.assert_allclose(single.value, result[i].value[1, 2], rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["exact", "monte_carlo", pytest.param("minibatch", marks=pytest.mark.slow), "pairwise"]
)
def test_gradients_agree_with_differences(name):
    mean, variance = (jnp.asarray(a) for a in channel(lead=(2,)))

    rng = np.random.default_rng(1)
    a, b, weights = rng.normal(size=mean.shape), rng.normal(size=variance.shape), rng.uniform(1, 2, size=(2, 3))

    @jax.jit
    def total_and_slopes(mean, variance):
        def total(mean, variance):
            bounds = ("value",) if name in ("exact", "monte_carlo") else ("value", "lower", "upper")
            pairs = zip(both(name, mean, variance), weights, strict=True)
            return sum(w * jnp.sum(getattr(r, bound)) for r, ws in pairs for bound, w in zip(bounds, ws, strict=False))

        return jax.value_and_grad(total, argnums=(0, 1))(mean, variance)

    _, (by_mean, by_variance) = total_and_slopes(mean, variance)
    slope = np.sum(np.asarray(by_mean) * a) + np.sum(np.asarray(by_variance) * b)
    step = 1e-5
    up, down = (total_and_slopes(mean + at * a, variance + at * b)[0] for at in (step, -step))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_at_extremes(name):
    mean = np.stack([1e3 * np.arange(6.0), np.ones(6), np.arange(6.0)])[..., None]
    variance = np.stack([np.ones(6), np.ones(6), np.array([1e-6, 1, 1e-6, 1, 1, 1e3])])
    total = jax.jit(jax.grad(lambda a, b: sum(jnp.sum(r.value) for r in both(name, a, b)), (0, 1)))
    gradients = total(mean, variance)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", ALL)
def test_float32(name):
    mean, variance = channel(50)
    wide, narrow = infer(name, mean, variance), infer(name, mean.astype(np.float32), variance.astype(np.float32))
    assert narrow.value.dtype == np.float32
    if name in ("exact", "pairwise"):
        assert abs(narrow.value - wide.value) < 1e-5
    else:
        assert abs(narrow.value - infer("exact", mean, variance).value) < 5 * narrow.stderr


def test_sampling_memory_does_not_grow_with_samples():
    shapes = jax.ShapeDtypeStruct((1, 1000, 10), float), jax.ShapeDtypeStruct((1, 1000), float)
    classes = jax.ShapeDtypeStruct((1000, 10), float)
    compiled = _channel._sampled.lower(KEY, *shapes, classes, 64).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 250e6


# The choice


def test_pair_chooses_as_the_functions_by_name():
    classes = mixture.one_hot(LABELS, 3)
    for k, name in ((1, "exact"), (2, "monte_carlo")):
        mean, variance = channel(k=k)
        chosen = mixture.pair(mean, variance, classes, key=KEY, n_samples=3)
        for a, b in zip(chosen, both(name, mean, variance), strict=True):
            assert a.method == name and a.value == b.value
    assert mixture.select_method("pairwise", 3, None) == "pairwise"
    with pytest.raises(ValueError, match=r"the monte_carlo estimator \(k = 2\) samples\. Pass key="):
        mixture.pair(mean, variance, classes)
    with pytest.raises(ValueError, match='"exact" is for one output'):
        mixture.select_method("exact", 2, None)
    with pytest.raises(ValueError, match="`key` must be given: dropout samples"):
        mixture.require_key(None, "dropout")


# What is refused


def test_errors():
    mean, variance = channel()
    with pytest.raises(ValueError, match=r"`mean` must have shape \(..., m, k\)"):
        mixture.exact(mean, variance[:-1])
    with pytest.raises(ValueError, match=r"for one output, k = 1; got k = 2"):
        mixture.exact(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match="at least 2 points; got m = 1"):
        mixture.minibatch(np.ones((1, 1)), np.ones(1), key=KEY, n_samples=1)
    with pytest.raises(ValueError, match=r"`variance` must be positive; got 0.0 at index \(2,\)"):
        mixture.pairwise(mean, np.where(np.arange(6) == 2, 0.0, variance))
    with pytest.raises(ValueError, match="`variance` must be finite"):
        mixture.exact(mean, np.where(np.arange(6) == 2, np.nan, variance))
    with pytest.raises(TypeError, match="`mean` must hold floating-point numbers"):
        mixture.exact(np.ones((6, 1), int), variance)
    with pytest.raises(ValueError, match="`n_samples` must be at least 1"):
        mixture.monte_carlo(mean, variance, key=KEY, n_samples=0)
    with pytest.raises(TypeError, match="key"):
        mixture.monte_carlo(mean, variance, n_samples=1)


def test_label_errors():
    mean, variance = channel()
    with pytest.raises(TypeError, match="`labels` must be integers"):
        mixture.label_exact(mean, variance, LABELS.astype(float), 3)
    with pytest.raises(ValueError, match=r"from 0 to n_classes - 1 = 1; got 0 to 2"):
        mixture.label_exact(mean, variance, LABELS, 2)
    with pytest.raises(ValueError, match=r"`labels` must be a vector"):
        mixture.label_exact(mean, variance, LABELS[:, None], 3)
    with pytest.raises(ValueError, match="one row for each of the m = 6 points"):
        mixture.label_exact(mean, variance, LABELS[:-1], 3)
    with pytest.raises(ValueError, match="a single 1 in each row"):
        mixture.exact_pair(mean, variance, np.full((6, 2), 0.5))


def test_traced_variances_that_are_not_positive_give_nan():
    mean, variance = channel()
    for bad in (0.0, -1.0):
        assert np.isnan(jax.jit(mixture.exact)(mean, np.where(np.arange(6) == 2, bad, variance)).value)


def test_lost_precision_is_warned_about():
    with pytest.warns(UserWarning, match="estimated error"):
        mixture.exact(np.array([[1.0], [2.0]]), np.array([1e-30, 1e-30]))
    with pytest.raises(ValueError, match="`variance` must not be so small beside the means"):
        mixture.exact(np.array([[1.0], [2.0]]), np.array([1e-40, 1e-40]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.exact(np.array([[1.0], [2.0]]), np.array([1e-20, 1e-20]))


# Few programs, little memory


@jax.jit
def value_and_slopes(*channel):
    def total(*channel):
        value, error = _quadrature.information_pair(*channel)
        return jnp.sum(value), (value, error)

    return jax.value_and_grad(total, (0, 1), has_aux=True)(*channel)


# One point, and a block of 16 that the absent ones fill up or go beyond.
@pytest.mark.parametrize("m", [1, 7, 16])
def test_absent_points_change_nothing(m):
    mean, variance = channel(m, seed=m)
    one_hot = np.eye(2)[np.arange(m) % 2]
    # Wherever the absent ones stand, and whatever they hold. The first two have one size then, that of the third alone.
    rng, absent = np.random.default_rng(m), 16 - m or 9
    order = rng.permutation(m + absent)
    extra = rng.normal(size=absent) * 5, rng.uniform(1e-4, 10, absent), np.zeros((absent, 2))
    given = (mean[:, 0], variance, one_hot)
    full = tuple(np.concatenate([a, b])[order] for a, b in zip(given, extra, strict=True))
    ((_, (want, _)), slopes), ((_, (got, error)), padded) = value_and_slopes(*given), value_and_slopes(*full)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    assert (np.asarray(error) < 1e-11).all()
    for slope, of_all in zip(slopes, padded, strict=True):
        np.testing.assert_allclose(np.asarray(of_all)[np.argsort(order)], np.r_[slope, np.zeros(absent)], atol=1e-11)


def test_neighbouring_sizes_share_a_program():
    mixture.exact(*channel(20, lead=(3,)))
    with counted() as count:
        for m in (17, 18, 25, 32):
            for lead in ((3,), (4,), (2, 2)):
                got = mixture.exact(*channel(m, lead=lead, seed=m))
                assert got.value.shape == got.stderr.shape == lead
    assert count.number == 0
    want = jax.jit(mixture.exact)(*channel(25, lead=(2, 2), seed=25))
    got = mixture.exact(*channel(25, lead=(2, 2), seed=25))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_the_narrowest_cover_agrees_with_looking_at_all():
    rng = np.random.default_rng(0)
    narrowest = jax.jit(_quadrature._narrowest)
    for m in (1, 2, 3, 9, 40):
        low, high = np.sort(rng.permutation(2 * m).reshape(m, 2), axis=1).T
        sigma = rng.uniform(1, 2, m)
        covers = (low[None] <= np.arange(2 * m - 1)[:, None]) & (high[None] > np.arange(2 * m - 1)[:, None])
        want = np.min(np.where(covers, sigma[None], np.inf), axis=1)
        np.testing.assert_array_equal(narrowest(jnp.asarray(sigma), low, high), want)


def test_memory_of_the_exact_information_grows_with_the_points_alone():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in ((20_000,), (20_000,), (20_000, 1))]
    used = jax.jit(_quadrature.information_pair).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    # The matrix of which window covers which interval had 2 m² entries, 800 MB in bytes alone.
    assert used < 5e7


def test_an_information_known_to_be_wrong_is_refused():
    mean = np.arange(4, dtype=np.float32)[:, None]
    with pytest.raises(ValueError, match=r"`variance` must not be so small .* float32: got -\d\.\d.* log m = 1\.39"):
        mixture.exact(mean, np.full(4, 1e-30, np.float32))
    # The same in float64, and neighbours in float32 that can be computed.
    with pytest.warns(UserWarning, match="estimated error of"):
        value = mixture.exact(mean.astype(float), np.full(4, 1e-30)).value
    np.testing.assert_allclose(value, np.log(4), rtol=1e-5)
    np.testing.assert_allclose(mixture.exact(mean, np.full(4, 1e-6, np.float32)).value, np.log(4), rtol=1e-5)
    assert jax.jit(lambda v: mixture.exact(mean, v).value)(np.full(4, 1e-30, np.float32)).shape == ()


def test_pairwise_bounds_of_variances_far_apart():
    mean, variance = np.zeros((2, 1)), np.array([1e-30, 1e30])
    got = mixture.pairwise(mean, variance)
    # D(p_1, p_2) = ½ (60 log 10 - 1), D(p_2, p_1) = 5e59; Bhattacharyya ½ log(1e30/2).
    upper = np.log(2) - 0.5 * np.log1p(np.exp(-0.5 * (60 * np.log(10) - 1)))
    lower = np.log(2) - np.log1p(np.exp(-0.5 * np.log(0.5e30)))
    np.testing.assert_allclose([got.lower, got.upper], [lower, upper], rtol=1e-12)
    np.testing.assert_allclose(mixture.pairwise(np.array([[0.0], [1e200]]), np.ones(2)).upper, np.log(2))
    with pytest.raises(ValueError, match="`mean` and `variance` must not be so large"):
        mixture.minibatch(np.array([[0.0], [1e200]]), np.ones(2), key=KEY, n_samples=2)


@pytest.mark.parametrize("key", [None, 0, "a", jax.random.split(KEY), np.zeros(3, np.uint32)])
@pytest.mark.parametrize("name", ["monte_carlo", "minibatch"])
def test_what_is_no_key_is_named(name, key):
    with pytest.raises(TypeError, match="`key` must be one random key"):
        getattr(mixture, name)(*channel(), key=key, n_samples=2)
    with pytest.raises(TypeError if key is not None else ValueError, match="`key` must be"):
        mixture.select_method(name, 1, key)


def test_what_is_no_information_is_named():
    for call in (mixture.is_saturated, mixture.refuse_impossible):
        with pytest.raises(TypeError, match="`information` must be of type `Information`"):
            call(np.ones(3), 4)
