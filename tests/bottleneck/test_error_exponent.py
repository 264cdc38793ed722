import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from ntkinfo import bottleneck

ROWS = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])


def test_chernoff_against_search():
    p, q = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 5))
    found = np.asarray(bottleneck.chernoff(p, q))
    for i in range(5):

        def f(a, i=i):
            return np.log(np.sum(p[i] ** a * q[i] ** (1 - a)))

        best = scipy.optimize.minimize_scalar(f, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).fun
        np.testing.assert_allclose(found[i], -best, rtol=1e-10)
    kl = np.minimum(np.sum(p * np.log(p / q), axis=1), np.sum(q * np.log(q / p), axis=1))
    assert (found <= kl).all()
    np.testing.assert_allclose(found, bottleneck.chernoff(q, p), rtol=1e-12)


def test_zeros_in_value_and_gradient():
    # Supports that overlap in one symbol: the infimum sits at a = 0, C = -log q(support of p).
    p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.0, 0.25, 0.75])
    np.testing.assert_allclose(bottleneck.chernoff(p, q), np.log(4))
    np.testing.assert_allclose(jax.grad(bottleneck.chernoff, argnums=1)(p, q), [0, -4, 0], atol=1e-12)


def test_gradient_is_that_of_the_minimum():
    p, q = jnp.asarray(ROWS[0]), jnp.asarray(ROWS[1])
    step = jnp.array([1e-5, -1e-5, 0.0])
    wanted = (bottleneck.chernoff(p + step, q) - bottleneck.chernoff(p - step, q)) / 2e-5
    slope = jax.grad(bottleneck.chernoff)(p, q)
    np.testing.assert_allclose(slope[0] - slope[1], wanted, rtol=1e-7)


def test_bayes_error_of_two_binomials_decays_at_the_chernoff_rate():
    a, b, n = 0.2, 0.6, 400
    rows, half = np.array([[1 - a, a], [1 - b, b]]), np.array([0.5, 0.5])
    k = np.arange(n + 1)
    wanted = np.minimum(scipy.stats.binom.pmf(k, n, a), scipy.stats.binom.pmf(k, n, b)).sum() / 2
    found = float(bottleneck.bayes_error(rows, half, n).value)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    c = float(bottleneck.chernoff(rows[0], rows[1]))
    assert found <= np.exp(-n * c) / 2
    # The rate between n and 2n is C up to the log n / n of the prefactor n^{-1/2}.
    twice = float(bottleneck.bayes_error(rows, half, 2 * n).value)
    np.testing.assert_allclose(np.log(found / twice) / n, c, atol=np.log(2) / n)


def test_bayes_error_against_every_sequence_and_sampling():
    prior, error = np.array([0.3, 0.3, 0.4]), 0.0
    for sequence in np.ndindex(3, 3, 3, 3):
        joint = prior * np.prod(ROWS[:, sequence], axis=1)
        error += joint.sum() - joint.max()
    np.testing.assert_allclose(bottleneck.bayes_error(ROWS, prior, 4).value, error, rtol=1e-12)
    sampled = bottleneck.bayes_error(ROWS, prior, 4, key=jax.random.key(0))
    assert abs(sampled.value - error) < 5 * sampled.stderr and 0 < sampled.stderr < 0.01


def test_the_standard_error_of_a_sampled_bayes_error_is_honest():
    rows, p_y = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]]), np.array([0.6, 0.4])
    keys = jax.random.split(jax.random.key(2), 1000)
    found = jax.vmap(lambda key: bottleneck.bayes_error(rows, p_y, 3, key=key, n_samples=50))(keys)
    np.testing.assert_allclose(np.sqrt(np.mean(np.asarray(found.stderr) ** 2)), np.std(found.value), rtol=0.1)
    error = np.std(found.value) / np.sqrt(1000)
    assert abs(np.mean(found.value) - float(bottleneck.bayes_error(rows, p_y, 3).value)) < 5 * error


def test_compression_never_raises_the_exponent():
    rng = np.random.default_rng(1)
    p_xy = rng.dirichlet(np.ones(15)).reshape(5, 3)
    whole = bottleneck.prediction_exponent(p_xy, np.eye(5))
    coarse = bottleneck.prediction_exponent(p_xy, rng.dirichlet(np.ones(3), size=(4, 5)))
    assert (np.asarray(coarse.pairs) <= np.asarray(whole.pairs)[None] + 1e-12).all()
    classes = p_xy / p_xy.sum(axis=0)[None, :]
    np.testing.assert_allclose(whole.pairs[0, 2], bottleneck.chernoff(classes[:, 0], classes[:, 2]), rtol=1e-12)
    p_y = p_xy.sum(axis=0)
    weights = np.outer(p_y, p_y)[np.triu_indices(3, 1)]
    pairs = np.asarray(whole.pairs)[np.triu_indices(3, 1)]
    np.testing.assert_allclose([whole.worst, whole.mean], [pairs.min(), pairs @ weights / weights.sum()])
    constant = bottleneck.prediction_exponent(p_xy, np.ones((5, 1)))
    np.testing.assert_allclose(constant.worst, 0, atol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match="disjoint"):
        bottleneck.chernoff(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="Divide by the sum"):
        bottleneck.chernoff(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="shape of `p`"):
        bottleneck.chernoff(ROWS[0], ROWS)
    with pytest.raises(ValueError, match="disjoint"):
        bottleneck.prediction_exponent(np.eye(2) / 2, np.eye(2))
    with pytest.raises(ValueError, match="encoder"):
        bottleneck.prediction_exponent(np.eye(2) / 2, np.eye(3))
    with pytest.raises(ValueError, match="Pass `key`"):
        bottleneck.bayes_error(ROWS, np.array([0.3, 0.3, 0.4]), 10_000)


@pytest.mark.parametrize("key", [0, "a", jax.random.split(jax.random.key(0)), np.zeros(2), np.zeros(3, np.uint32)])
def test_what_is_no_random_key_is_refused_by_name(key):
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    table = np.array([[0.4, 0.1], [0.1, 0.4]])
    for call in (
        lambda: bottleneck.bayes_error(p, np.array([0.5, 0.5]), 3, key=key),
        lambda: bottleneck.ib(table, 2.0, restarts=1, key=key),
    ):
        with pytest.raises(TypeError, match="`key` must be one random key"):
            call()


def test_what_fits_in_no_memory_is_refused():
    p, p_y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="`n` must give at most 1000000 count vectors"):
        bottleneck.bayes_error(p, p_y, 2**31 - 1)
    with pytest.raises(ValueError, match="`n_samples` must be smaller"):
        bottleneck.bayes_error(p, p_y, 2**20, key=jax.random.key(0), n_samples=2**20)
