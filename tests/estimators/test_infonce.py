"""InfoNCE beside loops, closed forms and the distributions of Czyż et al. 2023 (arXiv 2306.11078), as is KSG."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln, logsumexp, ndtr, psi
from scipy.stats import multivariate_t

from ntkinfo import mixture
from ntkinfo.estimators import infonce, ksg

KEY = jax.random.key(0)
RHO = 0.8
NORMAL = -0.5 * math.log(1 - RHO**2)
# Small and quick: a few hundred steps of a small critic.
QUICK = {"key": KEY, "hidden": (32, 32), "embedding": 16, "batch_size": 64, "steps": 400, "learning_rate": 3e-3}


def bivariate(n, rho=RHO, seed=0):
    x, noise = np.random.default_rng(seed).normal(size=(2, n))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def optimal(x, t):
    """log p(t|x) / p(t) of `bivariate`."""
    return NORMAL + 0.5 * t[0] ** 2 - 0.5 * (t[0] - RHO * x[0]) ** 2 / (1 - RHO**2)


def by_weights(scores, weights):
    """The bound of one batch, whose samples carry weights that sum to 1."""
    return weights @ (np.diagonal(scores) - logsumexp(scores, axis=1, b=weights[None]))


# The value and its error, of critics that are given


def test_value_and_error_against_a_loop():
    x, t = bivariate(40)
    found = infonce(x, t, key=KEY, critic=optimal, batch_size=40)  # one batch: shuffling does not matter
    scores = np.array([[optimal([a], [b]) for b in t] for a in x])
    weights = np.full(40, 1 / 40)
    assert float(found.value) == pytest.approx(by_weights(scores, weights), abs=1e-12)
    # The infinitesimal jackknife by differences: a little more of one sample, and less of all the others.
    tilted = (1 - 1e-6) * weights[None] + 1e-6 * np.eye(40)
    slopes = np.array([by_weights(scores, w) - by_weights(scores, weights) for w in tilted]) / 1e-6
    assert float(found.stderr) == pytest.approx(math.sqrt(np.sum(slopes**2) / 40 / 39), rel=1e-4)
    assert found.method == "infonce" and found.lower == found.value and found.upper == math.inf


def test_optimal_critic_reaches_the_truth():
    found = infonce(*bivariate(60_000), key=KEY, critic=optimal, batch_size=500)
    assert abs(float(found.value) - NORMAL) < 4 * float(found.stderr) + 2e-3  # K = 500 costs about 1/K
    assert 0 < float(found.stderr) < 5e-3
    # Adding any function of x changes nothing.
    shifted = infonce(*bivariate(60_000), key=KEY, critic=lambda x, t: optimal(x, t) + x[0] ** 3, batch_size=500)
    assert float(shifted.value) == pytest.approx(float(found.value), abs=1e-9)


def test_errors_match_the_spread_and_the_bound_holds_on_average():
    found = [infonce(*bivariate(256, seed=seed), key=KEY, critic=optimal, batch_size=16) for seed in range(150)]
    values, errors = np.array([[float(f.value), float(f.stderr)] for f in found]).T
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(ddof=1), rel=5 / math.sqrt(300))
    assert values.mean() < NORMAL
    # Expectation for batches of K by drawing them from the normal law: the other route to the finite-K value.
    x, t = np.random.default_rng(1).normal(size=(2, 4000, 16, 1))
    t = RHO * x + math.sqrt(1 - RHO**2) * t
    scores = optimal([x], [np.swapaxes(t, 1, 2)])
    terms = np.diagonal(scores, axis1=1, axis2=2) - logsumexp(scores, axis=2) + math.log(16)
    error = math.hypot(values.std() / 150**0.5, terms.mean(axis=1).std() / 4000**0.5)
    assert abs(values.mean() - terms.mean()) < 5 * error


def test_critic_may_rule_pairs_out():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=20_000)
    t = x + rng.uniform(-0.75, 0.75, size=20_000)

    def ratio(x, t):  # log p(t|x) up to a constant: p(t) is no function of x, so it must be there
        density = (jnp.minimum(1, t[0] + 0.75) - jnp.maximum(0, t[0] - 0.75)) / 1.5
        return jnp.where(jnp.abs(t[0] - x[0]) <= 0.75, -math.log(1.5) - jnp.log(density), -jnp.inf)

    found = infonce(x, t, key=KEY, critic=ratio, batch_size=500)
    assert abs(float(found.value) - 1 / 3) < 4 * float(found.stderr) + 2e-3


# Trained critics


@pytest.mark.parametrize(("critic", "margin"), [("separable", 0.05), ("concatenated", 0.05), ("bilinear", 0.25)])
def test_trained_critics_stay_just_below_the_truth(critic, margin):
    hidden = (48,) if critic == "concatenated" else (32, 32)  # one layer: the first alone must not be linear
    found = infonce(*bivariate(4000), critic=critic, **QUICK | {"hidden": hidden})
    assert NORMAL - margin < float(found.value) + 4 * float(found.stderr)
    assert NORMAL - margin - 0.05 < float(found.value) < NORMAL + 4 * float(found.stderr)
    assert 0 < float(found.stderr) < 0.03


def test_the_data_decide_and_not_their_scale():
    x, t = bivariate(4000)
    plain, scaled = infonce(x, t, **QUICK), infonce(1e5 * x - 3e6, 1e-7 * t, **QUICK)
    assert float(scaled.value) == pytest.approx(float(plain.value), abs=0.01)


def test_critics_are_judged_on_samples_held_out():
    # Where the held-out pairs are broken up, a critic of the others is worse than none.
    x, t = bivariate(4000)
    held = np.asarray(jax.random.permutation(jax.random.split(KEY)[0], 4000))[: 2000 // 64 * 64]
    t[held] = t[np.roll(held, 1)]
    assert float(infonce(x, t, **QUICK).value) < -0.1


def test_pairs_learnt_by_heart_are_forgotten():
    rng = np.random.default_rng(5)
    found = infonce(rng.normal(size=(400, 20)), rng.normal(size=400), **QUICK | {"batch_size": 32})
    assert abs(float(found.value)) <= 4 * float(found.stderr) < 0.2


def test_where_no_critic_helps_the_one_that_is_zero_is_kept():
    # Independent and of many columns: every critic met in training is worse than none on the validation samples.
    rng = np.random.default_rng(0)
    options = {"batch_size": 32, "steps": 400, "learning_rate": 1e-2, "hidden": (32,), "embedding": 8}
    found = infonce(rng.normal(size=(400, 20)), rng.normal(size=(400, 5)), key=KEY, **options)
    assert float(found.value) == float(found.stderr) == 0


@pytest.mark.parametrize("seed", range(3))
def test_independent_samples_have_no_information(seed):
    found = infonce(*bivariate(4000, 0.0, seed), **QUICK)
    assert abs(float(found.value)) <= 4 * float(found.stderr)


def test_copies_saturate_at_the_batch_size():
    x = np.random.default_rng(0).normal(size=(8000, 8))
    found = infonce(x, -2 * x, **QUICK | {"batch_size": 16, "steps": 3000})
    assert mixture.is_saturated(found) and float(found.value) <= math.log(16)
    # The number of samples, a higher ceiling than the method's own, changes nothing.
    assert mixture.is_saturated(found, 8000)
    assert not mixture.is_saturated(infonce(*bivariate(4000), **QUICK))


def test_classes_against_the_exact_mixture():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=4000)
    x = 2.0 * labels + rng.normal(size=4000)
    truth = float(mixture.exact(np.array([[0.0], [2.0]]), np.ones(2)).value)
    for codes in (labels == 1, 7 - 3 * labels):  # only their names differ
        found = infonce(x, codes, **QUICK)
        assert truth - 0.04 < float(found.value) < truth + 4 * float(found.stderr)
    # Both discrete: the information of a table.
    noisy = (labels + (rng.uniform(size=4000) < 0.1)) % 2
    table = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    found = infonce(labels, noisy, **QUICK)
    assert table - 0.04 < float(found.value) < table + 4 * float(found.stderr)


# Distributions with known information


def student(n, dof, dim, seed=0):
    """x and y of `dim` each, correlated in pairs and divided by one common chi."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, n, dim))
    chi = np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
    return x / chi, (RHO * x + math.sqrt(1 - RHO**2) * noise) / chi


def student_truth(dof, dim):
    """The normal truth and the correction of Arellano-Valle et al. 2013."""

    def f(nu):
        return gammaln(nu / 2) - nu / 2 * psi(nu / 2)

    return dim * NORMAL + f(dof) + f(dof + 2 * dim) - 2 * f(dof + dim)


def dense(n, dim, seed=0):
    """Every two of the 2 dim variables with correlation 1/2."""
    rng = np.random.default_rng(seed)
    both = math.sqrt(0.5) * (rng.normal(size=(n, 1)) + rng.normal(size=(n, 2 * dim)))
    return both[:, :dim], both[:, dim:]


def dense_truth(dim):
    def log_det(d):
        return d * math.log(0.5) + math.log(1 + d)

    return log_det(dim) - 0.5 * log_det(2 * dim)


def sparse(n, seed=0):
    """Two of the three coordinates correlated, and three that only disturb; rotated by one matrix each."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, n, 3))
    rho = np.array([RHO, 0.5, 0.0])
    turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2)]
    return x @ turns[0], (rho[None] * x + np.sqrt(1 - rho**2)[None] * noise) @ turns[1]


def uniform_noise(n, eps, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=n)
    return x, x + rng.uniform(-eps, eps, size=n)


def half_cube(x):
    return np.sign(x) * np.abs(x) ** 1.5


def swiss_roll(x):
    angle = 1.5 * math.pi * (1 + 2 * ndtr(x))
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 21


def spiral(x):
    """Rotates the first two columns by an angle that grows with the radius."""
    angle = np.sum(x**2, axis=1) / 3
    first = np.cos(angle) * x[:, 0] - np.sin(angle) * x[:, 1]
    return np.stack([first, np.sin(angle) * x[:, 0] + np.cos(angle) * x[:, 1], *x.T[2:]], axis=1)


def through(function, pair, both=True):
    return function(pair[0]), function(pair[1]) if both else pair[1]


# Where densities end sharply, as those of uniform noise, a small critic loses most: it has to learn -inf.
# Samples, truth, how far below it InfoNCE may be, how far off KSG may be; both besides 4 standard errors.
BENCHMARK = {
    "uniform noise": (lambda n: uniform_noise(n, 0.75), 1 / 3, 0.1, 0.01),
    "half-cube": (lambda n: through(half_cube, bivariate(n)), NORMAL, 0.05, 0.02),
    "asinh": (lambda n: through(np.arcsinh, bivariate(n)), NORMAL, 0.05, 0.01),
    "swiss roll": (lambda n: through(swiss_roll, bivariate(n), False), NORMAL, 0.08, 0.03),
    "dense": (lambda n: dense(n, 3), dense_truth(3), 0.05, 0.03),
    "sparse": (sparse, NORMAL - 0.5 * math.log(0.75), 0.1, 0.06),
    "student": (lambda n: student(n, 5, 3), student_truth(5, 3), 0.25, 0.1),
    "spiral": (lambda n: through(spiral, sparse(n), False), NORMAL - 0.5 * math.log(0.75), 0.2, 0.15),
}
KEPT = ("uniform noise", "half-cube", "dense")


@functools.cache
def samples(name):
    return BENCHMARK[name][0](4000)


def test_truths_of_the_benchmark():
    # Normal ones from the covariance, Student's from the mean of the log density ratio.
    cov = np.full((6, 6), 0.5) + 0.5 * np.eye(6)
    log_det = [np.linalg.slogdet(block)[1] for block in (cov[:3, :3], cov[3:, 3:], cov)]
    assert dense_truth(3) == pytest.approx(0.5 * (log_det[0] + log_det[1] - log_det[2]), abs=1e-12)
    np.testing.assert_allclose(np.cov(np.concatenate(dense(50_000, 3), axis=1).T), cov, atol=0.03)
    x, y = student(100_000, 5, 3)
    scale = np.kron([[1, RHO], [RHO, 1]], np.eye(3))
    ratio = multivariate_t(shape=scale, df=5).logpdf(np.concatenate([x, y], axis=1))
    ratio -= sum(multivariate_t(shape=np.eye(3), df=5).logpdf(each) for each in (x, y))
    assert abs(ratio.mean() - student_truth(5, 3)) < 4 * ratio.std() / 100_000**0.5 < 0.02
    # Embeddings that keep the information can be undone.
    roll = swiss_roll(np.linspace(-2, 2, 50))
    np.testing.assert_allclose(21 * np.hypot(*roll.T), 1.5 * math.pi * (1 + 2 * ndtr(np.linspace(-2, 2, 50))))
    points = samples("sparse")[0]
    back = spiral(spiral(points) * [[1, -1, 1]]) * [[1, -1, 1]]  # mirrored, the rotation goes back
    np.testing.assert_allclose(back, points, atol=1e-12)


@pytest.mark.parametrize("name", BENCHMARK)
def test_ksg_on_the_benchmark(name):
    _, truth, _, margin = BENCHMARK[name]
    found = ksg(*samples(name))
    assert abs(float(found.value) - truth) < 4 * float(found.stderr) + margin


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in KEPT else pytest.mark.slow) for n in BENCHMARK])
def test_infonce_on_the_benchmark(name):
    _, truth, margin, _ = BENCHMARK[name]
    found = infonce(*samples(name), **QUICK | {"steps": 800})
    assert truth - margin - 4 * float(found.stderr) < float(found.value) < truth + 4 * float(found.stderr)


# Refusals

X, T = bivariate(400)


def with_nan():
    bad = X.copy()
    bad[3] = np.nan
    return bad


@pytest.mark.parametrize(
    ("x", "t", "options", "error", "message"),
    [
        (X[:1], T[:1], {}, ValueError, "`batch_size` = 64 is too large for n = 1 samples"),
        (X[:190], T[:190], {}, ValueError, "is too large for n = 190 .*held out, to validate and to train on"),
        (X[:60], T[:60], {"critic": optimal}, ValueError, "is too large for n = 60.*must fill one batch"),
        (X, T[:-1], {}, ValueError, "same number of samples; got 400 and 399"),
        (with_nan(), T, {}, ValueError, r"`x` must be finite; got nan at index \(3,\)"),
        (X, np.full(400, 2.0), {}, ValueError, "`t` must vary in every column; got 1 of 1 constant"),
        (X, np.stack([T, 0 * T], axis=1), {}, ValueError, "got 1 of 2 constant, the first is column 1"),
        (X, np.ones(400, int), {}, ValueError, "`t` must vary in every column"),
        (X, 1.0 * (np.arange(400) == 0), {"test_fraction": 0.6}, ValueError, "among the samples not held out"),
        (X.reshape(4, 10, 10), T, {}, ValueError, r"`x` must have shape \(n,\) or \(n, d\); got \(4, 10, 10\)"),
        (np.array([None, 1.5] * 200), T, {}, ValueError, "`x` must have no missing labels"),
        (X[:0], T[:0], {}, ValueError, "`x` must not be empty"),
        (X, T, {"critic": "deep"}, ValueError, "`critic` must be one of 'separable', 'concatenated', 'bilinear'"),
        (X, T, {"critic": 3}, TypeError, "`critic` must be a name or a function"),
        (X, T, {"critic": lambda x, t: x}, TypeError, "`critic` must return one floating-point number"),
        (
            X,
            T,
            {"critic": lambda x, t: jnp.log(-1 - x[0] ** 2)},
            ValueError,
            "finite scores to pairs that occur; got nan",
        ),
        (X, T, {"hidden": ()}, ValueError, "`hidden` must name at least one layer"),
        (X, T, {"hidden": (0,)}, ValueError, "`hidden` must be at least 1"),
        (X, T, {"embedding": 0}, ValueError, "`embedding` must be at least 1"),
        (X, T, {"batch_size": 1}, ValueError, "`batch_size` must be at least 2"),
        (X, T, {"steps": 0}, ValueError, "`steps` must be at least 1"),
        (X, T, {"learning_rate": 0.0}, ValueError, "`learning_rate` must be positive"),
        (X, T, {"learning_rate": np.ones(2)}, ValueError, "`learning_rate` must be one number"),
        (X, T, {"test_fraction": 1.0}, ValueError, "`test_fraction` must be below 1"),
        (
            X,
            T,
            {"learning_rate": 1e3},
            ValueError,
            r"diverged at step 1 of 400; got `learning_rate` = 1000.0. Lower it",
        ),
    ],
)
def test_refusals(x, t, options, error, message):
    with pytest.raises(error, match=message):
        infonce(x, t, **QUICK | options)


def test_traced_samples_are_refused():
    with pytest.raises(TypeError, match="`x` is being traced"):
        jax.jit(lambda x: infonce(x, T, **QUICK).value)(X)


@pytest.mark.parametrize("key", [None, 0, "a", jax.random.split(KEY), np.zeros(2), np.zeros(3, np.uint32)])
def test_what_is_no_random_key_is_refused_by_name(key):
    with pytest.raises(TypeError, match="`key` must be one random key"):
        infonce(X, T, key=key)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (2**62,)}, "`hidden` must be at most"),
        ({"hidden": (2**20, 2**20)}, "`hidden` must be smaller"),
        ({"hidden": (2**20,), "embedding": 2**20}, "`embedding` must be smaller"),
    ],
)
def test_networks_that_fit_in_no_memory_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        infonce(X, T, key=KEY, **options)
