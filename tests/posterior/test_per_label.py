"""One noise for each label, against a posterior of each label alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import Posterior
from ntkinfo.gaussian import Gaussian
from ntkinfo.posterior import _learn
from ntkinfo.sklearn import NTKClassifier, NTKRegressor
from tests.fuzz.objects import of_scale
from tests.problems import network, problem

NOISES = [0.05, 0.3, 2.0]
K = len(NOISES)


@pytest.fixture
def data(rng):
    x, y, x_test, _ = problem(rng, k=K)
    return x, y + 0.1 * rng.normal(size=y.shape), x_test


def apart(x, y, noises=NOISES, **options):
    means = options.pop("means", [None] * K)
    return [Posterior.fit(network(), x, y[:, c], noise=noises[c], mean=means[c], **options) for c in range(y.shape[1])]


@pytest.mark.parametrize("with_mean", [False, True])
def test_predictions_are_those_of_the_labels_alone(data, with_mean):
    x, y, x_test = data
    mean = (lambda x: 0.3 * x[:, :1] + jnp.arange(3.0)[None]) if with_mean else None
    means = [(lambda x, c=c: 0.3 * x[:, :1] + c) if with_mean else None for c in range(K)]
    post, alone = Posterior.fit(network(), x, y, noise=NOISES, mean=mean), apart(x, y, means=means)
    for predict in (
        lambda one: one.predict(x_test, joint=True),
        lambda one: one.predict(x_test),
        lambda one: one.predict_train(joint=True),
        lambda one: one.leave_one_out(),
    ):
        z = predict(post)
        for c, one in enumerate(alone):
            for ours, theirs in zip(z, predict(one), strict=True):
                assert (ours is None) == (theirs is None)
                if ours is not None:
                    np.testing.assert_allclose(ours[c], theirs, atol=1e-10)
    # Every function of predictions takes them, along the leading axis.
    z = post.predict(x_test)
    assert z.mean.shape == (K, len(x_test), 1) and z.variance.shape == (K, len(x_test))
    own = [one.predict(x_test).log_prob(np.zeros((len(x_test), 1)), noise=0.1) for one in alone]
    np.testing.assert_allclose(z.log_prob(np.zeros(z.mean.shape), noise=0.1), own, atol=1e-10)


@pytest.mark.parametrize("quantity", ["log_marginal_likelihood", "information_gain", "kl"])
def test_quantities_are_sums_over_labels(data, quantity):
    x, y, _ = data
    total = sum(float(getattr(one, quantity)) for one in apart(x, y))
    assert float(getattr(Posterior.fit(network(), x, y, noise=NOISES), quantity)) == pytest.approx(total, rel=1e-10)
    # As long as noises are equal it is what one noise gives.
    same = Posterior.fit(network(), x, y, noise=[0.3] * K)
    one = Posterior.fit(network(), x, y, noise=0.3)
    assert float(getattr(same, quantity)) == pytest.approx(float(getattr(one, quantity)), rel=1e-10)
    # Exchanged afterwards it is taken as well.
    exchanged = dataclasses.replace(one, noise=jnp.asarray(NOISES))
    assert float(getattr(exchanged, quantity)) == pytest.approx(total, rel=1e-10)


def test_each_noise_is_fitted_as_alone(data):
    x, y, _ = data
    y = y + np.array([0.2, 0.5, 1.0]) * np.random.default_rng(1).normal(size=y.shape)
    post = Posterior.fit(network(), x, y, noise="fit_each")
    alone = apart(x, y, ["fit"] * K)
    np.testing.assert_allclose(post.noise, [float(one.noise) for one in alone], rtol=1e-8)
    assert post.noise_fit.converged.shape == (K,) and post.noise_fit.converged.all()
    assert list(post.noise_fit.to_dataframe()["converged"]) == [True] * K
    with pytest.warns(UserWarning, match=r'noise="fit_each", label 1, .*smallest noise tried'):
        Posterior.fit(network(), x, np.stack([y[:, 0], 0 * y[:, 1]], axis=1), noise="fit_each")


def test_derivatives_by_the_noises_and_the_inputs(data):
    x, y, _ = data
    x, y = x[:6], y[:6]

    def evidence(noises, x):
        return Posterior.fit(network(), x, y, noise=noises).log_marginal_likelihood

    slopes, by_x = jax.jit(jax.grad(evidence, (0, 1)))(jnp.asarray(NOISES), x)
    expected = [
        jax.grad(lambda noise, c=c: Posterior.fit(network(), x, y[:, c], noise=noise).log_marginal_likelihood)(one)
        for c, one in enumerate(NOISES)
    ]
    np.testing.assert_allclose(slopes, expected, rtol=1e-8)
    step = 1e-5 * np.eye(x.size)[1].reshape(x.shape)
    up, down = (float(evidence(np.array(NOISES), x + sign * step)) for sign in (1, -1))
    assert float(by_x.ravel()[1]) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_a_scale_is_fitted_to_all_labels_at_their_noises(data):
    x, y, _ = data
    post = Posterior.fit(network(), x, y, noise=NOISES, scale="fit")
    q = np.asarray(Posterior.fit(network(), x, y).q)
    found = float(np.trace(post.q) / np.trace(q))

    def evidence(scale):
        return float(Posterior.from_kernel(network()[2], x, y, scale * q, noise=NOISES).log_marginal_likelihood)

    assert evidence(found) == pytest.approx(float(post.log_marginal_likelihood), rel=1e-10)
    assert evidence(found) > max(evidence(1.01 * found), evidence(found / 1.01))
    with pytest.raises(ValueError, match=r'`noise` must be numbers or "fit" with scale="fit"'):
        Posterior.fit(network(), x, y, noise="fit_each", scale="fit")


@pytest.mark.parametrize("objective", ["evidence", pytest.param("leave_one_out", marks=pytest.mark.slow)])
def test_noises_are_learned(objective, tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(16, 2))
    y = np.sin(x) + np.array([0.1, 0.6]) * rng.normal(size=(16, 2))
    start = {"w_std": 1.2, "noise": np.array([0.1, 0.3])}
    learned = Posterior.learn(of_scale, x, y, start, objective=objective)
    assert learned.converged and learned.parameters["noise"].shape == (2,)
    post = learned.posterior
    z = post.leave_one_out()
    if objective == "evidence":
        assert float(learned.value) == pytest.approx(float(post.log_marginal_likelihood), rel=1e-9)
    else:
        total = z.variance + post.noise[:, None]
        expected = -0.5 * jnp.sum((y.T - z.mean[:, :, 0]) ** 2 / total + jnp.log(2 * np.pi * total))
        assert float(learned.value) == pytest.approx(float(expected), rel=1e-9)
    # A step away along each noise the objective is smaller.
    for noise in np.asarray(post.noise) * np.exp(0.05 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])):
        assert float(_learn._OBJECTIVES[objective](post.q, jnp.asarray(y), jnp.asarray(noise))) < float(learned.value)
    # It comes back, its network made again of the parameters.
    ni.save(learned, tmp_path / "learned.npz")
    again = ni.load(tmp_path / "learned.npz", of_scale)
    np.testing.assert_array_equal(again.posterior.leave_one_out().mean, z.mean)
    assert repr(again) == repr(learned) and again.to_dataframe().equals(learned.to_dataframe())
    with pytest.raises(ValueError, match="`net` must be the network that the file's result was made with"):
        ni.load(tmp_path / "learned.npz", lambda p: of_scale({"w_std": 2.0}))
    with pytest.raises(ValueError, match=r"`net` must make a network of the parameters in the file, .*w_std; it asks"):
        ni.load(tmp_path / "learned.npz", lambda p: of_scale({"w_std": p["scale"]}))


def test_it_is_saved_and_drawn(data, tmp_path):
    x, y, x_test = data
    net = network()
    post = Posterior.fit(net, x, y, noise=NOISES)
    ni.save(post, tmp_path / "post.npz")
    np.testing.assert_array_equal(ni.load(tmp_path / "post.npz", net).predict(x_test).mean, post.predict(x_test).mean)
    assert post.to_dataframe().attrs["noise"] == tuple(NOISES) and "noise=[0.05, 0.3, 2]" in repr(post)
    ax = ni.plot.posterior(post, output=2)
    alone = ni.plot.posterior(apart(x, y)[2])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), alone.lines[1].get_ydata(), atol=1e-10)


def test_estimators_of_scikit_learn(data):
    x, y, x_test = data
    model = NTKRegressor(noise=NOISES).fit(x, y)
    alone = [NTKRegressor(noise=noise).fit(x, y[:, c]) for c, noise in enumerate(NOISES)]
    for option in ("return_std", "return_cov"):
        (mean, spread), others = model.predict(x_test, **{option: True}), [
            one.predict(x_test, **{option: True}) for one in alone
        ]  # fmt: skip
        for c, (own_mean, own_spread) in enumerate(others):
            np.testing.assert_allclose(mean[:, c], own_mean, atol=1e-10)
            np.testing.assert_allclose(spread[..., c], own_spread, atol=1e-10)
    draws = model.sample_y(x_test, 4000)
    std = model.predict(x_test, return_std=True)[1]
    np.testing.assert_allclose(draws.std(axis=2), std, rtol=5 / np.sqrt(2 * 4000))
    assert model.noise_.tolist() == NOISES
    with pytest.raises(ValueError, match="`noise` must be one number"):
        NTKClassifier(noise=NOISES).fit(x, np.arange(len(x)) % 3)


@pytest.mark.any_precision
def test_the_dtype_stays():
    rng = np.random.default_rng(0)
    x = np.asarray(rng.normal(size=(9, 2)), np.float32)
    post = Posterior.fit(network(), x, np.sin(x), noise=[0.1, 0.4])
    z = post.predict(x[:2], joint=True)
    assert {value.dtype.name for value in (*z, post.noise, post.kl, post.log_marginal_likelihood)} == {"float32"}


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([0.1, 0.2], r"`noise` must be one number, or one for each label, of shape \(3,\); got shape \(2,\)"),
        ([[0.1] * K], r"got shape \(1, 3\)"),
        ([0.1, -1.0, 1.0], "`noise` must be positive"),
        ([0.1, np.nan, 1.0], "`noise` must be positive"),
        ("each", "`noise` must be one of 'fit', 'fit_each'"),
        ([1e-18, 1.0, 1.0], "`noise` must exceed the rounding error"),
    ],
)
def test_bad_noises(data, noise, message):
    x, y, _ = data
    x, y = np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]])
    with pytest.raises(ValueError, match=message):
        Posterior.fit(network(), x, y, noise=noise)


def test_what_has_one_noise_only_says_so(data):
    x, y, _ = data
    post = Posterior.fit(network(), x, y, noise=NOISES)
    with pytest.raises(ValueError, match=r"`source` must have one noise for all labels; got noise of shape \(3,\)"):
        ni.examples.value(post)
    with pytest.raises(ValueError, match="one noise for all labels"):
        ni.learning.forecast(post)


def test_losses_of_predictions_of_each_label_are_taken_one_by_one(data):
    x, y, _ = data
    z = Posterior.fit(network(), x, y, noise=NOISES).predict_train()
    for function, name in ((ni.information.losses, "y"), (ni.information.label_information, "labels")):
        with pytest.raises(ValueError, match=rf"`{name}` must have .*one noise for each label.* with {name}\[:, j\]"):
            function(z, y)
    one = ni.information.losses(Gaussian(z.mean[1], z.variance[1]), y[:, 1]).gibbs_mse
    np.testing.assert_allclose(one, np.mean((z.mean[1, :, 0] - y[:, 1]) ** 2 + z.variance[1]), rtol=1e-12)
