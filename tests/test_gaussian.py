import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad, quad
from scipy.stats import multivariate_normal, norm

from ntkinfo.gaussian import Gaussian, entropy, kl_divergence, log_prob, sign_error, winning_of, winning_probabilities
from tests.references import mixture as reference


def prediction(m=4, k=2, *, lead=(), seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(*lead, m, m + 2))
    covariance = root @ np.swapaxes(root, -1, -2) / m
    return Gaussian(rng.normal(size=(*lead, m, k)), np.diagonal(covariance, axis1=-2, axis2=-1).copy(), covariance)


def flatten(p, k):
    """Mean and covariance of all m k outputs, point by point."""
    return np.ravel(p.mean), np.kron(p.covariance, np.eye(k))


def textbook_divergence(mean0, cov0, mean1, cov1):
    inverse, shift = np.linalg.inv(cov1), mean1 - mean0
    logs = np.linalg.slogdet(cov1)[1] - np.linalg.slogdet(cov0)[1]
    return 0.5 * (np.trace(inverse @ cov0) + shift @ inverse @ shift - len(shift) + logs)


# Entropies, log-probabilities and divergences


@pytest.mark.parametrize("k", [1, 3])
def test_joint_quantities_agree_with_the_flattened_gaussian(k):
    p, q = prediction(k=k), prediction(k=k, seed=1)
    np.testing.assert_allclose(entropy(p, joint=True), multivariate_normal(*flatten(p, k)).entropy(), rtol=1e-12)
    truth = textbook_divergence(*flatten(p, k), *flatten(q, k))
    np.testing.assert_allclose(kl_divergence(p, q, joint=True), truth, rtol=1e-10)


def test_pointwise_quantities_agree_with_one_point_at_a_time():
    p, q = prediction(), prediction(seed=1)
    y = np.random.default_rng(2).normal(size=(4, 2))
    for i in range(4):
        point, other = (p.mean[i], p.variance[i]), (q.mean[i], q.variance[i])
        np.testing.assert_allclose(kl_divergence(p, q)[i], reference.divergence(*point, *other), rtol=1e-12)
        np.testing.assert_allclose(
            log_prob(p, y, noise=0.3)[i], reference.log_normal(y[i], p.mean[i], p.variance[i] + 0.3)
        )
        np.testing.assert_allclose(entropy(p)[i], 2 * norm(scale=np.sqrt(p.variance[i])).entropy(), rtol=1e-12)


def test_divergence_from_itself_is_zero_and_small_ones_keep_their_digits():
    p = prediction()
    np.testing.assert_allclose(kl_divergence(p, p), 0, atol=1e-15)
    np.testing.assert_allclose(kl_divergence(p, p, joint=True), 0, atol=1e-12)
    near = Gaussian(p.mean, p.variance * (1 + 1e-6))
    np.testing.assert_allclose(kl_divergence(near, Gaussian(p.mean, p.variance)), 2 * 0.25e-12, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_joint_divergence_is_at_least_every_pointwise_one(seed):
    p, q = prediction(seed=seed), prediction(seed=seed + 50)
    assert kl_divergence(p, q, joint=True) >= jnp.max(kl_divergence(p, q)) > 0


def test_independent_points_add_up():
    p, q = (Gaussian(g.mean, g.variance, np.diag(g.variance)) for g in (prediction(), prediction(seed=1)))
    np.testing.assert_allclose(kl_divergence(p, q, joint=True), jnp.sum(kl_divergence(p, q)), rtol=1e-12)
    np.testing.assert_allclose(entropy(p, joint=True), jnp.sum(entropy(p)), rtol=1e-12)


@pytest.mark.parametrize("joint", [False, True])
def test_leading_axes_jit_and_gradients(joint):
    p, prior = prediction(lead=(2, 3)), prediction(seed=9)
    together = kl_divergence(p, prior, joint=joint)
    assert together.shape == ((2, 3) if joint else (2, 3, 4))
    one = jax.tree.map(lambda a: a[1, 2], p)
    np.testing.assert_allclose(together[1, 2], kl_divergence(one, prior, joint=joint), rtol=1e-12)
    same = kl_divergence(p, jax.tree.map(lambda a: np.broadcast_to(a, (2, 3, *a.shape)), prior), joint=joint)
    jitted = jax.jit(lambda a: kl_divergence(a, prior, joint=joint))(p)
    mapped = jax.vmap(jax.vmap(lambda a: kl_divergence(a, prior, joint=joint)))(p)
    for other in (same, jitted, mapped):
        np.testing.assert_allclose(together, other, rtol=1e-12)
    p = jax.tree.map(jnp.asarray, p)

    def total(a):
        return jnp.sum(kl_divergence(a, prior, joint=joint)) + jnp.sum(entropy(a, joint=joint))

    gradient = jax.grad(total)(p)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    step = jax.tree.map(lambda a: 1e-6 * jnp.ones_like(a), p)
    slope = sum(jnp.sum(g * s) for g, s in zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True))
    up, down = (total(jax.tree.map(lambda a, s, c=c: a + c * s, p, step)) for c in (1.0, -1.0))
    np.testing.assert_allclose(slope, (up - down) / 2, rtol=1e-5)


def test_covariances_that_are_not_definite():
    p = prediction(lead=(3,))
    bad = np.array(p.covariance)
    bad[1] = np.ones((4, 4))  # four copies of one point
    broken = Gaussian(p.mean, p.variance, bad)
    with pytest.raises(ValueError, match=r"`p.covariance` must be positive definite .* at index \(1,\)"):
        entropy(broken, joint=True)
    with pytest.raises(ValueError, match=r"`q.covariance` must be positive definite"):
        kl_divergence(p, broken, joint=True)
    traced = jax.jit(lambda a: kl_divergence(a, p, joint=True))(broken)
    np.testing.assert_array_equal(np.isnan(traced), [False, True, False])


def test_errors():
    p = prediction()
    with pytest.raises(ValueError, match="`p` must have a covariance for a joint result"):
        entropy(Gaussian(p.mean, p.variance), joint=True)
    with pytest.raises(ValueError, match=r"`p.mean` must have shape \(..., m, k\)"):
        entropy(Gaussian(p.mean[:, 0], p.variance))
    with pytest.raises(ValueError, match=r"`p.covariance` must have shape \(4, 4\)"):
        entropy(p._replace(covariance=p.covariance[:, :2]), joint=True)
    with pytest.raises(ValueError, match=r"`p\.variance` must be positive"):
        entropy(p._replace(variance=0 * p.variance))
    with pytest.raises(ValueError, match=r"`noise \+ variance` must be positive"):
        log_prob(p._replace(variance=0 * p.variance), p.mean)
    with pytest.raises(ValueError, match=r"`y` must have the shape \(m, k\) = \(4, 2\)"):
        log_prob(p, p.mean[:, :1])
    with pytest.raises(ValueError, match="`q` must have a mean of the shape of `p`"):
        kl_divergence(p, prediction(m=3))
    with pytest.raises(ValueError, match="`mean` must have at least two outputs"):
        winning_probabilities(np.ones((3, 1)), np.ones(3))
    with pytest.raises(ValueError, match="`variance` must be not negative"):
        winning_probabilities(np.ones((3, 2)), -np.ones(3))
    with pytest.raises(ValueError, match="`y` must hold -1 and 1 only"):
        sign_error(Gaussian(p.mean[:, :1], p.variance), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="`p` must have one output"):
        sign_error(p, np.ones((4, 1)))


# Winning an arg max


# Ten by the reference take 1.5 s each.
@pytest.mark.parametrize(
    ("k", "scale"),
    [(k, scale) for k in (2, 3) for scale in (0.01, 1.0, 5.0)]
    + [(10, 1.0), *(pytest.param(10, scale, marks=pytest.mark.slow) for scale in (0.01, 5.0))],
)
def test_winning_agrees_with_adaptive_quadrature(k, scale):
    mean = np.random.default_rng(k).normal(size=(1, k)) * scale
    result = winning_probabilities(mean, np.array([0.7]))
    np.testing.assert_allclose(result[0], reference.winning_probabilities(mean[0], 0.7), atol=2e-14)


def test_winning_of_three_agrees_with_a_double_integral():
    mean = np.array([0.3, 0.0, -0.4])

    def density(b, a):  # class 0 wins: both differences positive
        gaps = np.array([a - mean[0] + mean[1], b - mean[0] + mean[2]])
        return np.exp(-(gaps @ gaps - gaps[0] * gaps[1]) / 3) / (2 * np.pi * np.sqrt(3))

    truth = dblquad(density, 0, 15, 0, 15, epsabs=1e-13, epsrel=1e-12)[0]
    np.testing.assert_allclose(winning_probabilities(mean[None], np.ones(1))[0, 0], truth, atol=1e-11)


def test_winning_of_two_is_the_closed_form():
    gap = np.concatenate([np.linspace(-12, 12, 49), [-1e3, 1e3, 0.0, 1e-9]])
    mean = np.stack([gap, np.zeros_like(gap)], axis=1)
    np.testing.assert_allclose(winning_probabilities(mean, np.ones(53))[:, 0], norm.cdf(gap / np.sqrt(2)), atol=2e-15)


@pytest.mark.parametrize("k", [2, 10, 100, 1000])
def test_winning_of_equals_and_sums(k):
    np.testing.assert_allclose(winning_probabilities(np.ones((1, k)), np.full(1, 3.0)), 1 / k, rtol=1e-12)
    mean = np.random.default_rng(0).normal(size=(3, 4, k)) * np.array([1e-6, 1.0, 1e6])[:, None, None]
    result = winning_probabilities(mean, np.ones((3, 4)))
    np.testing.assert_allclose(jnp.sum(result, axis=-1), 1, atol=2e-14)
    assert (result >= 0).all()


def test_winning_of_one_hundred_agrees_with_adaptive_quadrature():
    mean = np.random.default_rng(3).normal(size=100)
    best = int(np.argmax(mean))

    def density(u):
        return norm.pdf(u - mean[best]) * np.prod(norm.cdf(u - np.delete(mean, best)))

    truth = sum(quad(density, a, a + 1, epsabs=1e-15, epsrel=1e-13)[0] for a in np.arange(-8.0, 13.0))
    np.testing.assert_allclose(winning_probabilities(mean[None], np.ones(1))[0, best], truth, atol=1e-14)


def test_winning_without_variance_is_the_indicator():
    mean = np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    expected = np.array([[0, 1, 0], [0.5, 0.5, 0], [1 / 3] * 3])
    np.testing.assert_allclose(winning_probabilities(mean, np.zeros(3)), expected, rtol=1e-15)
    np.testing.assert_allclose(winning_probabilities(mean, np.full(3, 1e-300)), expected, atol=1e-14)


def test_winning_transformations():
    rng = np.random.default_rng(0)
    mean, variance = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.uniform(0.1, 1, size=5))
    eager = winning_probabilities(mean, variance)
    np.testing.assert_allclose(jax.jit(winning_probabilities)(mean, variance), eager, rtol=1e-13)
    mapped = jax.vmap(lambda a, b: winning_probabilities(a[None], b[None])[0])(mean, variance)
    np.testing.assert_allclose(mapped, eager, rtol=1e-13)

    def first(mean, variance):
        return jnp.sum(winning_probabilities(mean, variance)[:, 0])

    gradients = jax.grad(first, (0, 1))(mean, variance)
    a, b = rng.normal(size=mean.shape), rng.normal(size=variance.shape)
    difference = (first(mean + 1e-6 * a, variance + 1e-6 * b) - first(mean - 1e-6 * a, variance - 1e-6 * b)) / 2e-6
    np.testing.assert_allclose(jnp.sum(gradients[0] * a) + jnp.sum(gradients[1] * b), difference, rtol=1e-7)
    extreme = jax.grad(first, (0, 1))(jnp.array([[1e3, 0.0], [0.0, 1e3], [1.0, 1.0]]), jnp.array([1e-3, 0.0, 0.0]))
    assert all(np.isfinite(g).all() for g in extreme)


def test_winning_in_float32():
    mean = np.random.default_rng(0).normal(size=(20, 10))
    wide = winning_probabilities(mean, np.ones(20))
    narrow = winning_probabilities(mean.astype(np.float32), np.ones(20, np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, atol=2e-6)


def test_sign_error():
    mean = np.array([[0.5], [-1.0], [2.0], [0.0]])
    y = np.array([[1.0], [1.0], [-1.0], [1.0]])
    variance = np.array([0.25, 1.0, 4.0, 1.0])
    np.testing.assert_allclose(sign_error(Gaussian(mean, variance), y), norm.cdf([-1, 1, 1, 0]), rtol=1e-14)
    np.testing.assert_allclose(sign_error(Gaussian(mean, 0 * variance), y), [0, 1, 1, 0.5])
    # A sign is an arg max over the outputs f and -f, whose difference has twice the standard deviation.
    pair = winning_probabilities(np.concatenate([mean, -mean], axis=1), 2 * variance)
    expected = np.where(y[:, 0] > 0, pair[:, 1], pair[:, 0])
    np.testing.assert_allclose(sign_error(Gaussian(mean, variance), y), expected, atol=1e-14)
    gradient = jax.grad(lambda v: jnp.sum(sign_error(Gaussian(mean, v), y)))(jnp.array([0.0, 1.0, 1e-12, 1.0]))
    assert np.isfinite(gradient).all()


def test_divergences_of_far_apart_variances_in_float64():
    def gaussian(variance):
        return Gaussian(np.zeros((1, 1)), np.array([variance]))

    # ½ (r - 1 - log r), r = 1e∓60.
    log_ratio = 60 * np.log(10)
    np.testing.assert_allclose(kl_divergence(gaussian(1e-30), gaussian(1e30)), [0.5 * (log_ratio - 1)], rtol=1e-14)
    np.testing.assert_allclose(kl_divergence(gaussian(1e30), gaussian(1e-30)), [0.5e60], rtol=1e-14)
    gradient = jax.grad(lambda v: kl_divergence(gaussian(1.0)._replace(variance=v[None]), gaussian(1e30))[0])(1e-30)
    np.testing.assert_allclose(gradient, -0.5e30, rtol=1e-12)


def test_divergences_beyond_the_dtype_are_refused():
    def gaussian(variance):
        return Gaussian(jnp.zeros((1, 1), jnp.float32), jnp.array([variance], jnp.float32))

    small, large = gaussian(1e-30), gaussian(1e30)
    np.testing.assert_allclose(kl_divergence(small, large), [0.5 * (60 * np.log(10) - 1)], rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"`p` and `q` must not be so large .* range of float32; got (inf|nan).* float64"
    ):
        kl_divergence(large, small)
    with pytest.raises(ValueError, match="`y`, `noise` and `p` must not be so large"):
        log_prob(small, np.array([[1e30]], np.float32))
    assert jax.jit(kl_divergence)(large, small).shape == (1,)


@pytest.mark.parametrize("value", [None, np.ones(3), "a", {}, (np.ones((2, 1)), np.ones(2), None)])
def test_what_is_no_gaussian_is_named(value):
    p = prediction()
    for call in (lambda: entropy(value), lambda: log_prob(value, p.mean), lambda: kl_divergence(value, p)):
        with pytest.raises(TypeError, match=r"`p` must be of type `Gaussian`, as made by `Ensemble\.predict`"):
            call()
    with pytest.raises(TypeError, match="`q` must be of type `Gaussian`"):
        kl_divergence(p, value)


# Methods of a prediction


def test_draws_have_the_moments_of_the_prediction():
    p, n = prediction(lead=(2,)), 20_000
    draws = np.asarray(p.sample(jax.random.key(0), (n,)))
    assert draws.shape == (n, 2, 4, 2)
    centred = draws - p.mean
    covariance = np.einsum("ntik,ntjk->tij", centred, centred) / (2 * n)
    # Five standard errors of a product of two normals.
    size = np.sqrt(p.variance[:, :, None] * p.variance[:, None, :])
    assert (np.abs(covariance - p.covariance) < 5 * np.sqrt(2) * size / np.sqrt(2 * n)).all()
    assert (np.abs(centred.mean(0)) < 5 * np.sqrt(p.variance)[..., None] / np.sqrt(n)).all()
    between_outputs = np.mean(centred[..., 0] * centred[..., 1], axis=0)
    assert (np.abs(between_outputs) < 5 * p.variance / np.sqrt(n)).all()
    alone = np.asarray(p._replace(covariance=None).sample(jax.random.key(1), (n,))) - p.mean
    assert (np.abs(np.mean(alone[:, :, 0] * alone[:, :, 1], 0)) < 5 * size[:, 0, 1, None] / np.sqrt(n)).all()
    np.testing.assert_allclose(alone.std((0, 3)), p.std, rtol=0.03)
    np.testing.assert_array_equal(p.log_prob(p.mean[0], noise=0.1), log_prob(p, p.mean[0], noise=0.1))


def test_equal_inputs_are_drawn_equal():
    p = prediction(m=3)
    twice = [0, 1, 2, 0]
    p = Gaussian(p.mean[twice], p.variance[twice], p.covariance[np.ix_(twice, twice)])
    draw = np.asarray(p.sample(jax.random.key(0)))
    np.testing.assert_allclose(draw[3], draw[0], atol=1e-7)
    fixed = Gaussian(p.mean, 0 * p.variance, 0 * p.covariance)
    np.testing.assert_array_equal(fixed.sample(jax.random.key(0)), p.mean)
    traced = jax.jit(lambda p, key: p.sample(key))(p, jax.random.key(0))
    np.testing.assert_allclose(traced, draw, rtol=1e-12)


def test_draws_refuse_what_is_no_prediction():
    p = prediction()
    with pytest.raises(TypeError, match="`key` must be one random key"):
        p.sample(0)
    with pytest.raises(TypeError, match="`shape` must be a tuple of sizes; got 3"):
        p.sample(jax.random.key(0), 3)
    with pytest.raises(ValueError, match="positive semidefinite; got one with an eigenvalue of -"):
        p._replace(covariance=p.covariance - 3 * np.eye(4)).sample(jax.random.key(0))


def test_what_is_all_but_certain_is_no_more_than_certain(rng):
    mean = 12 * np.eye(10)[rng.integers(0, 10, 300)] + 0.5 * rng.normal(size=(300, 10))
    for wins in (
        np.asarray(winning_probabilities(mean, np.full(300, 0.3))),
        np.asarray(winning_of(mean, np.full(300, 0.3), mean.argmax(1))),
    ):
        assert wins.max() <= 1 and wins.max() > 1 - 1e-15
