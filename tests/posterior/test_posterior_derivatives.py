import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo.posterior import Posterior
from tests.differences import INPUTS, LOW_RANK, X_TEST, Derivative, Y, flat, scaled

NETWORK = scaled(1.5, outputs=1)


def everything(a, x, d_w, d_x, d_rest, linear=False):
    """All quantities with the scale of the weights, inputs, or labels and noise moving at given rates."""
    net, moved, y, noise = scaled(1.5 + a * d_w, linear=linear), x + a * d_x, Y + a * d_rest, 0.1 + a * d_rest
    post = Posterior.fit(net, moved, y, noise=noise, prior="ntk")
    joint = post.predict(X_TEST, joint=True)
    nngp = Posterior.fit(net, moved, y, noise=noise)
    return flat(
        post.log_marginal_likelihood,
        post.kl,
        post.information_gain,
        post.leave_one_out(),
        joint.mean,
        joint.covariance,
        post.predict(X_TEST).variance,
        post.predict_train(joint=True),
        post.predict_train().variance,
        nngp.log_marginal_likelihood,
        nngp.kl,
    )


DERIVATIVE = Derivative(everything)
STILL, LEAVING = np.zeros((8, 8)), np.random.default_rng(3).normal(size=(8, 8))


@pytest.mark.parametrize("kind", INPUTS)
def test_derivatives_on_equal_eigenvalues(kind):
    # By the scale of the weights, by inputs that leave the symmetry, by labels and noise.
    DERIVATIVE.check(0.0, INPUTS[kind], 1.0, STILL, 0.0)
    DERIVATIVE.check(0.0, INPUTS[kind], 0.0, LEAVING, 1.0)


def test_derivatives_are_the_same_outside_of_compiled_functions():
    def few(a):
        post = Posterior.fit(scaled(1.5 + a), INPUTS["repeated"], Y, noise=0.1, prior="ntk")
        return flat(post.log_marginal_likelihood, post.kl, post.predict(X_TEST).variance)

    derivative = Derivative(few)
    forward, slopes = derivative.compiled[1](0.0)
    eager, eager_slopes = derivative.forward(0.0)
    np.testing.assert_allclose(eager, forward, rtol=1e-9)
    np.testing.assert_allclose(eager_slopes, slopes, rtol=1e-7)
    ones = np.ones(len(slopes))
    np.testing.assert_allclose(derivative.reverse(0.0, ones), np.sum(slopes), rtol=1e-7)


def test_derivatives_on_kernels_of_low_rank():
    derivative = Derivative(functools.partial(everything, linear=True))
    derivative.check(0.0, LOW_RANK, 1.0, STILL, 0.0)
    derivative.check(0.0, LOW_RANK, 0.0, LEAVING, 1.0)


def test_a_fitted_noise_is_a_constant_on_equal_eigenvalues():
    x = INPUTS["repeated"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noise = float(Posterior.fit(scaled(1.5), x, Y, noise="fit").noise)

    def value(w_std, noise):
        return Posterior.fit(scaled(w_std), x, Y, noise=noise).kl

    np.testing.assert_allclose(jax.grad(value)(1.5, "fit"), jax.grad(value)(1.5, noise), rtol=1e-9)


def test_second_derivatives_are_right_or_refused():
    def value(w_std, kind="distinct"):
        return Posterior.fit(scaled(w_std), INPUTS[kind], Y, noise=0.1).log_marginal_likelihood

    slope, step = jax.jit(jax.grad(value)), 1e-4
    numeric = (slope(1.5 + step) - slope(1.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.hessian(value))(1.5), numeric, rtol=1e-6)
    with pytest.raises(ValueError, match="Second derivatives need a kernel whose eigenvalues are distinct"):
        jax.hessian(lambda w_std: value(w_std, "repeated"))(1.5)
    assert np.isnan(jax.jit(jax.hessian(lambda w_std: value(w_std, "cube")))(1.5))


def test_what_fit_refuses_it_refuses_under_differentiation():
    def value(w_std):
        return Posterior.fit(scaled(w_std), INPUTS["repeated"], Y, noise=1e-18).kl

    with pytest.raises(ValueError, match="`noise` must exceed the rounding error"):
        jax.grad(value)(1.5)


@pytest.mark.parametrize("n", [4, 30])
def test_singular_kernels_at_the_smallest_noise(n):
    # Rank one, with labels in its range and out of it: KL of a line through the origin, in closed form.
    rng = np.random.default_rng(n)
    a, y, noise = rng.normal(size=(n, 1)), rng.normal(size=(n, 1)), 1e-10

    def line(x1, x2, get):
        q = x1 @ (x1 if x2 is None else x2).T
        return q, q

    post = Posterior.fit(line, a, y, noise=noise)
    size = float(np.sum(a**2))
    fit = float(a[:, 0] @ y[:, 0]) / (size + noise)
    gain = 0.5 * np.log1p(size / noise)
    np.testing.assert_allclose(post.information_gain, gain, rtol=1e-10)
    np.testing.assert_allclose(post.kl, gain + 0.5 * (-size / (size + noise) + fit**2), rtol=1e-9)
    rest = np.sum(y**2) - np.sum(a * y) ** 2 / (size + noise)
    evidence = -0.5 * (rest / noise + np.log1p(size / noise) + n * np.log(2 * np.pi * noise))
    np.testing.assert_allclose(post.log_marginal_likelihood, evidence, rtol=1e-9)
    out, i = post.leave_one_out(), 1
    others = np.delete(np.arange(n), i)
    left = float(np.sum(a[others] ** 2))
    np.testing.assert_allclose(out.mean[i], a[i] * np.sum(a[others] * y[others]) / (left + noise), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out.variance[i], noise * a[i, 0] ** 2 / (left + noise), rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_variances_are_never_negative(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(10, 1 + seed % 3)), rng.normal(size=(10, 1))
    x_test = np.concatenate([x, x[:4], x + 1e-9 * rng.normal(size=x.shape), rng.normal(size=x.shape)])
    for noise in (1e-9, 1e-3):
        post = Posterior.fit(NETWORK, x, y, noise=noise, prior="ntk" if seed % 2 else "nngp")
        z, joint = post.predict(x_test), post.predict(x_test, joint=True)
        assert (z.variance >= 0).all() and (jnp.diagonal(joint.covariance) >= 0).all()
        np.testing.assert_array_equal(joint.variance, jnp.diagonal(joint.covariance))
        assert (post.predict_train().variance >= 0).all() and (post.leave_one_out().variance >= 0).all()
