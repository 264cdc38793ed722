"""What holds in float32 as in float64: every part against references in NumPy float64, at the dtype's tolerance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import trapezoid

import ntkinfo as ni
from ntkinfo import stax

pytestmark = pytest.mark.any_precision

W_STD, B_STD = 1.3, 0.4


@pytest.fixture
def dtype():
    return np.dtype("float64" if jax.config.jax_enable_x64 else "float32")


@pytest.fixture
def net():
    return stax.serial(stax.Dense(16, W_std=W_STD, b_std=B_STD), stax.Relu(), stax.Dense(1, W_std=W_STD, b_std=B_STD))


@pytest.fixture
def data(rng, dtype):
    x, y, x_test = rng.normal(size=(12, 6)), np.sign(rng.normal(size=(12, 1))), rng.normal(size=(5, 6))
    return tuple(a.astype(dtype) for a in (x, y, x_test))


def relu_kernels(x1, x2):
    """NNGP and tangent kernel of one hidden ReLU layer, by the arc-cosine formula, in float64."""
    x1, x2 = x1.astype(np.float64), x2.astype(np.float64)
    d = x1.shape[1]
    k1 = W_STD**2 * (x1**2).sum(1)[:, None] / d + B_STD**2
    k2 = W_STD**2 * (x2**2).sum(1)[None, :] / d + B_STD**2
    k12 = W_STD**2 * x1 @ x2.T / d + B_STD**2
    size = np.sqrt(k1 * k2)
    angle = np.arccos(np.clip(k12 / size, -1, 1))
    nngp = size / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
    slope = (np.pi - angle) / (2 * np.pi)
    return W_STD**2 * nngp + B_STD**2, W_STD**2 * (nngp + slope * k12) + B_STD**2


def test_kernels_are_those_of_the_formula(net, data, dtype, tolerance):
    x, _, x_test = data
    both = ni.kernels.kernels(net, x_test, x)
    assert both.nngp.dtype == both.ntk.dtype == dtype
    for got, want in zip(both, relu_kernels(x_test, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance)


def test_the_ensemble_is_that_of_dense_formulas(net, data, dtype, tolerance):
    x, y, x_test = data
    ens = ni.Ensemble.fit(net, x, y)
    z = ens.predict(jnp.asarray(x_test), jnp.asarray([0.0, 1.0, 10.0]))
    assert z.mean.dtype == z.variance.dtype == dtype
    (k, theta), (k_cross, theta_cross) = relu_kernels(x, x), relu_kernels(x_test, x)
    k_own = relu_kernels(x_test, x_test)[0]
    values, vectors = np.linalg.eigh(theta)
    for i, t in enumerate((0.0, 1.0, 10.0)):
        gain = theta_cross @ vectors @ np.diag(-np.expm1(-t / len(y) * values) / values) @ vectors.T
        covariance = k_own + gain @ k @ gain.T - gain @ k_cross.T - k_cross @ gain.T
        np.testing.assert_allclose(z.mean[i], gain @ y, atol=10 * tolerance)
        np.testing.assert_allclose(z.variance[i], np.diag(covariance), rtol=10 * tolerance)


def test_the_posterior_is_that_of_dense_formulas(net, data, tolerance):
    x, y, _ = data
    post = ni.Posterior.fit(net, x, y, noise=0.3)
    q = relu_kernels(x, x)[0] + 0.3 * np.eye(len(x))
    log_det = np.linalg.slogdet(2 * np.pi * q)[1]
    want = -0.5 * (log_det + (y.T.astype(np.float64) @ np.linalg.solve(q, y)).item())
    np.testing.assert_allclose(post.log_marginal_likelihood, want, rtol=tolerance)
    np.testing.assert_allclose(post.information_gain, 0.5 * np.linalg.slogdet(q / 0.3)[1], rtol=tolerance)


def test_information_of_a_mixture(rng, dtype, tolerance):
    mean, variance = rng.normal(size=(9, 1)).astype(dtype), rng.uniform(0.2, 1, size=9).astype(dtype)
    grid = np.linspace(-9, 9, 40_001)
    p = np.exp(-((grid[:, None] - mean[:, 0]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    mixture = p.mean(1)
    want = trapezoid((p * np.log(np.maximum(p, 1e-300) / mixture[:, None])).mean(1), grid)
    np.testing.assert_allclose(ni.mixture.exact(mean, variance).value, want, rtol=tolerance)


def test_the_bottleneck_of_a_table(rng, dtype):
    p = rng.dirichlet(np.ones(18)).reshape(6, 3).astype(dtype)
    curve = ni.bottleneck.ib(p, np.array([2.0, 8.0], dtype), certificate=True, progress=False)
    assert curve.i_zy.dtype == dtype
    assert (np.asarray(curve.gap) < 2e-6).all() and (np.asarray(curve.i_zy) <= float(curve.i_xy) + 1e-6).all()


def test_tables_of_probabilities(rng, dtype, tolerance):
    p = rng.dirichlet(np.ones(20)).reshape(4, 5)
    want = (p * np.log(p / p.sum(1, keepdims=True) / p.sum(0, keepdims=True))).sum()
    np.testing.assert_allclose(ni.discrete.mutual_information(jnp.asarray(p, dtype)), want, rtol=tolerance)
