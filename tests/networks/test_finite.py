"""Networks of any library trained, and their layers in the information plane."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import networks, stax

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 2))
T = [0.0, 1.0, 4.0]


def test_training_takes_any_network():
    triple = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(2))
    options = {"n_networks": 3, "key": KEY, "x_test": X[:2], "learning_rate": 0.5, "progress": False}
    want = ni.finite.train(triple, X, Y, T, **options)
    drawn = networks.from_stax(triple)
    run = ni.finite.train((drawn.init, drawn.apply), X, Y, T, **options)
    np.testing.assert_allclose(run.outputs, want.outputs, rtol=1e-12)
    np.testing.assert_allclose(run.parameter_distance, want.parameter_distance, rtol=1e-12)
    # One that starts where it is: all of them are it.
    net = drawn.at(drawn.init(KEY, jnp.asarray(X)))
    run = ni.finite.train(net.continued(), X, Y, T, **options)
    np.testing.assert_allclose(run.outputs[:, 0], np.stack([net(X[:2])] * 3), rtol=1e-12)
    assert float(run.loss[0, 2]) < float(run.loss[0, 0])
    with pytest.raises(ValueError, match="`learning_rate` must be given for a network without a kernel of infinite"):
        ni.finite.train(net, X, Y, T, n_networks=1, key=KEY)
    plain = networks.from_apply(lambda p, x: x @ p, jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="`net` has no random start of its own"):
        ni.finite.train(plain, X, Y, T, **options)
    with pytest.raises(TypeError, match=r"`net` must be a network of `ntkinfo.stax`, a triple"):
        ni.finite.stability_limit(net, X, Y)


def test_linearised_training_is_that_of_a_linear_network():
    """Where the network is linear in its parameters, real training is linearised training."""
    net = networks.from_apply(lambda p, x: jnp.sin(x) @ p, jnp.asarray(RNG.normal(size=(3, 2))))
    x = X[:3]
    run = ni.finite.train(
        net.continued(), x, Y[:3], T, n_networks=1, key=KEY, x_test=X[3:], learning_rate=1e-3, method="heun"
    )
    ens = ni.Ensemble.fit(ni.kernels.empirical(net), x, Y[:3], mean=net)
    np.testing.assert_allclose(run.outputs[0], ens.predict(X[3:], T).mean, rtol=0, atol=1e-6)
