import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo.posterior import Posterior
from tests.differences import INPUTS, check_derivative, flat, scaled

X_TEST = {d: np.random.default_rng(1).normal(size=(3, d)) for d in (2, 3, 8)}
Y = np.random.default_rng(2).normal(size=(8, 2))


def everything(post, x_test):
    joint = post.predict(x_test, joint=True)
    return flat(
        post.log_marginal_likelihood,
        post.kl,
        post.information_gain,
        post.leave_one_out(),
        joint.mean,
        joint.covariance,
        post.predict(x_test).variance,
        post.predict_train(joint=True),
        post.predict_train().variance,
    )


@pytest.mark.parametrize("kind", INPUTS)
def test_derivatives_by_the_scale_of_the_weights(kind):
    x = INPUTS[kind]
    for prior in ("nngp", "ntk"):

        def values(w_std, prior=prior):
            post = Posterior.fit(scaled(kind, w_std), x, Y, noise=0.1, prior=prior)
            return everything(post, X_TEST[x.shape[1]])

        check_derivative(values, 1.5, compiled=prior == "ntk")


@pytest.mark.parametrize("kind", ["repeated", "circle", "low_rank"])
def test_derivatives_by_inputs_that_leave_the_symmetry(kind):
    x, direction = INPUTS[kind], np.random.default_rng(3).normal(size=INPUTS[kind].shape)

    def values(a):
        post = Posterior.fit(scaled(kind, 1.5), x + a * direction, Y + a, noise=0.1 + a)
        return everything(post, X_TEST[x.shape[1]])

    check_derivative(values, 0.0)


def test_a_fitted_noise_is_a_constant_on_equal_eigenvalues():
    x = INPUTS["repeated"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noise = float(Posterior.fit(scaled("repeated", 1.5), x, Y, noise="fit").noise)

    def value(w_std, noise):
        return Posterior.fit(scaled("repeated", w_std), x, Y, noise=noise).kl

    np.testing.assert_allclose(jax.grad(value)(1.5, "fit"), jax.grad(value)(1.5, noise), rtol=1e-9)


def test_second_derivatives_are_right_or_refused():
    def value(w_std, kind="distinct"):
        return Posterior.fit(scaled(kind, w_std), INPUTS[kind], Y, noise=0.1).log_marginal_likelihood

    slope, step = jax.grad(value), 1e-4
    numeric = (slope(1.5 + step) - slope(1.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.hessian(value)(1.5), numeric, rtol=1e-6)
    with pytest.raises(ValueError, match="Second derivatives need a kernel whose eigenvalues are distinct"):
        jax.hessian(lambda w_std: value(w_std, "repeated"))(1.5)
    assert np.isnan(jax.jit(jax.hessian(lambda w_std: value(w_std, "cube")))(1.5))


def test_what_fit_refuses_it_refuses_under_differentiation():
    def value(w_std):
        return Posterior.fit(scaled("repeated", w_std), INPUTS["repeated"], Y, noise=1e-18).kl

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
        post = Posterior.fit(scaled("distinct", 1.5, 1), x, y, noise=noise, prior="ntk" if seed % 2 else "nngp")
        z, joint = post.predict(x_test), post.predict(x_test, joint=True)
        assert (z.variance >= 0).all() and (jnp.diagonal(joint.covariance) >= 0).all()
        np.testing.assert_array_equal(joint.variance, jnp.diagonal(joint.covariance))
        assert (post.predict_train().variance >= 0).all() and (post.leave_one_out().variance >= 0).all()
