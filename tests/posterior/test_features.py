"""Posteriors of given features beside those of the dense engine with kernel ΦΦᵀ; what a projection does to the gain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni

N, M, P = 40, 5, 12
WEIGHTS = np.random.default_rng(1).normal(size=(3, P)) / 2


def phi(x):
    return jnp.tanh(x @ jnp.asarray(WEIGHTS, x.dtype))


@functools.cache
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N + M, 3))
    y = np.stack([np.sign(x[:, 0] * x[:, 1]) + 0.3 * rng.normal(size=N + M), x[:, 2] ** 2 - 1], axis=1)
    return x[:N], y[:N], x[N:]


def same(post, dense, x_test):
    for name in ("log_marginal_likelihood", "information_gain", "kl", "noise"):
        np.testing.assert_allclose(getattr(post, name), getattr(dense, name), rtol=1e-8, err_msg=name)
    for found, wanted in (
        (post.predict(x_test, joint=True), dense.predict(x_test, joint=True)),
        (post.predict_train(), dense.predict_train()),
        (post.leave_one_out(), dense.leave_one_out()),
    ):
        for one, other in zip(found, wanted, strict=True):
            if other is not None:
                np.testing.assert_allclose(one, other, rtol=0, atol=1e-8 * max(1, np.abs(other).max()))


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (N, {"noise": 0.02, "scale": 2.5}),
        (N, {"noise": "fit"}),
        (8, {"noise": 0.1}),
        pytest.param(8, {"noise": "fit"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_posteriors_are_those_of_the_dense_engine(n, options):
    x, y, x_test = data()
    kernel = ni.kernels.features(phi)
    post, dense = (ni.Posterior.fit(kernel, x[:n], y[:n], **options, engine=e) for e in ("auto", "dense"))
    assert isinstance(post, ni.posterior.FeaturePosterior) and not post.projection_bias
    same(post, dense, x_test)
    assert (post.noise_fit is None) == (options["noise"] != "fit")


def test_the_gradients_of_one_network_have_a_posterior():
    x, y, x_test = data()
    net = ni.networks.from_apply(lambda params, x: jnp.tanh(x @ params), jnp.asarray(WEIGHTS[:, :1]))
    kernel = ni.kernels.empirical(net)
    options = {"mean": net, "noise": 0.1}
    post = ni.Posterior.fit(kernel, x, y[:, :1], engine="features", **options)
    same(post, ni.Posterior.fit(kernel, x, y[:, :1], **options), x_test)
    assert post.around == "laplace" and post.prior_saw_data and post.prior == "ntk"


@pytest.mark.slow
def test_the_gain_of_projected_features_is_too_small_by_what_is_said():
    x, y, _ = data()
    x, y, options = x[:10], y[:10, :1], {"noise": 1.0, "engine": "features"}
    exact = float(ni.Posterior.fit(ni.kernels.features(phi), x, y, **options).information_gain)

    def gain_and_bias(i):
        kernel = ni.kernels.features(phi, projection=11, key=jax.random.key(i))
        post = ni.Posterior.fit(kernel, x, y, **options)
        return float(post.information_gain), float(post.projection_bias)

    gains, biases = np.array([gain_and_bias(i) for i in range(120)]).T
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    # Concave: too small, beyond the error; by the leading term, within a quarter and the error.
    assert gains.mean() + 3 * error < exact and (biases < 0).all()
    assert abs(gains.mean() - exact - biases.mean()) < 4 * error + 0.25 * abs(biases.mean())


def test_what_cannot_be_is_refused():
    x, y, _ = data()
    kernel = ni.kernels.features(phi)
    with pytest.raises(ValueError, match='`noise` must be one number, or "fit", under engine="features"; got shape'):
        ni.Posterior.fit(kernel, x, y, noise=[0.1, 0.2], engine="features")
    with pytest.raises(ValueError, match="`scale` must be a number"):
        ni.Posterior.fit(kernel, x, y, noise=0.1, scale="fit", engine="features")
    with pytest.raises(ValueError, match="`noise` must exceed the rounding error"):
        ni.Posterior.fit(kernel, x, y, noise=1e-18)
    # Left to itself it takes the engine that can.
    assert isinstance(ni.Posterior.fit(kernel, x, y, noise=[0.1, 0.2]), ni.Posterior)
