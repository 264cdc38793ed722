"""A `Dataset` in the place of its four arrays gives what its arrays give, and never both."""

import jax
import numpy as np
import pytest

import ntkinfo as ni
from tests import problems, results

T = np.array([0.5, 5.0])
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    x, y, x_test, y_test = problems.problem(np.random.default_rng(0))
    labels, labels_test = ((part[:, 0] > 0).astype(int) for part in (y, y_test))
    return ni.datasets.Dataset(x, y, x_test, y_test, labels, labels_test, "small", "binary", ("no", "yes"))


@pytest.fixture(scope="module")
def ens(data):
    return ni.Ensemble.fit(problems.network(), data)


def test_infinite_width(data, ens):
    net = problems.network()
    assert results.same(ens.eigenvalues, ni.Ensemble.fit(net, data.x_train, data.y_train).eigenvalues)
    post = ni.Posterior.fit(net, data, noise=0.2)
    assert results.same(post.y_rotated, ni.Posterior.fit(net, data.x_train, data.y_train, noise=0.2).y_rotated)
    one = ni.information.curve(ens, data.x_test, data.y_test, T)
    assert results.same(one, ni.information.curve(ens, data, T))
    assert results.same(one, ni.information.curve(ens, data, t=T))
    assert results.same(ni.certificate(ens, data, T), ni.certificate(ens, data.x_test, data.y_test, T))


def test_sweeps(data):
    def build(w, b):
        return ni.stax.serial(ni.stax.Dense(1, w, b), ni.stax.Erf(), ni.stax.Dense(1, w, b))

    arrays = (data.x_train, data.y_train, data.x_test, data.y_test)
    one = ni.sweep.scales(build, *arrays, T, w_std=[1.0], b_std=[0.1])
    two = ni.sweep.scales(build, data, T, w_std=[1.0], b_std=[0.1])
    assert results.same(one.values, two.values)
    with pytest.raises(TypeError, match="`x_test` must not be given beside a `Dataset`"):
        ni.sweep.scales(build, data, T, data.x_test, w_std=[1.0])
    with pytest.raises(TypeError, match="`y_test` must be given, or a `Dataset` in the place of `x`"):
        ni.sweep.scales(build, data.x_train, data.y_train, data.x_test, t=T, w_std=[1.0])


def test_finite_networks(data):
    options = {"n_networks": 2, "key": KEY, "progress": False}
    net = problems.network()
    run = ni.finite.train(net, data, [0.0, 0.5], **options)
    arrays = ni.finite.train(net, data.x_train, data.y_train, [0.0, 0.5], x_test=data.x_test, **options)
    assert results.same(run, arrays)
    layered = {"epochs": 1, "batch_size": None, "record": 2} | options
    run = ni.finite.train_layers((4, 3, 2), data, **layered)
    test = {"x_test": data.x_test, "y_test": data.labels_test}
    assert results.same(run, ni.finite.train_layers((4, 3, 2), data.x_train, data.labels_train, **test, **layered))
    with pytest.raises(TypeError, match="`y` must not be given beside a `Dataset`"):
        ni.finite.train_layers((4, 3, 2), data, data.labels_train, **layered)


def test_finite_networks_go_along_a_curve_as_far_as_the_steps(data, ens):
    curve = ni.information.curve(ens, data, np.array([0.0, 0.5, 1.0, 1e6, np.inf]))
    options = {"n_networks": 2, "key": KEY, "progress": False, "learning_rate": 0.25}
    with pytest.warns(UserWarning, match=r"trained to t = 1, the last of 3 of the curve's 4 finite times within"):
        run = ni.finite.train(problems.network(), data, curve, max_steps=100, **options)
    assert np.asarray(run.t).tolist() == [0.0, 0.5, 1.0]
    direct = ni.finite.train(problems.network(), data, [0.0, 0.5, 1.0], **options)
    assert results.same(run.loss, direct.loss)
    with pytest.raises(ValueError, match="`t` must have a time that is reached within `max_steps` = 1"):
        late = ni.information.curve(ens, data, np.array([1.0, np.inf]))
        ni.finite.train(problems.network(), data, late, max_steps=1, **options)


def test_variational(data):
    options = {"key": KEY, "steps": 2, "record": 1, "latent": 2, "progress": False}
    options |= {"encoder": ni.variational.encoders.linear(4)}
    fit = ni.variational.fit(data, beta=5.0, **options)
    test = {"x_test": data.x_test, "y_test": data.labels_test}
    arrays = ni.variational.fit(data.x_train, data.labels_train, beta=5.0, **test, **options)
    assert results.same(fit.history, arrays.history)
    with pytest.raises(TypeError, match="`y_test` must not be given beside a `Dataset`"):
        ni.variational.fit(data, beta=5.0, y_test=data.labels_test, **options)
    with pytest.raises(TypeError, match="`y` must be given, or a `Dataset` in the place of `x`"):
        ni.variational.fit(data.x_train, beta=5.0, **options)


def test_both_and_neither(data, ens):
    net = problems.network()
    for fit in (ni.Ensemble.fit, ni.Posterior.fit):
        with pytest.raises(TypeError, match="`y` must not be given beside a `Dataset`"):
            fit(net, data, data.y_train)
        with pytest.raises(TypeError, match="`y` must be given, or a `Dataset` in the place of `x`"):
            fit(net, data.x_train)
    with pytest.raises(TypeError, match="`y_test` must not be given beside a `Dataset`"):
        ni.information.curve(ens, data, data.y_test, T)
    with pytest.raises(TypeError, match="`t` must be given after the `Dataset`"):
        ni.information.curve(ens, data)
    with pytest.raises(TypeError, match="`t` must be given, or"):
        ni.information.curve(ens, data.x_test, data.y_test)
