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


def layers_of(library):
    """A network of two layers, and what its layers compute, by hand."""
    if library == "linen":
        nn = pytest.importorskip("flax.linen")
        module = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])
        variables = module.init(KEY, X)
        (w1, b1), (w2, b2) = ((p["kernel"], p["bias"]) for p in variables["params"].values())
        return networks.from_flax(module, variables), ("layers_0", "layers_2"), (w1, b1, w2, b2)
    if library == "nnx":
        nnx = pytest.importorskip("flax.nnx")

        class Mine(nnx.Module):
            def __init__(self, rngs):
                self.one, self.two = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

            def __call__(self, x):
                return self.two(jnp.tanh(self.one(x)))

        model = Mine(nnx.Rngs(0))
        parts = (model.one.kernel, model.one.bias, model.two.kernel, model.two.bias)
        return networks.from_nnx(model), ("one", "two"), tuple(part[...] for part in parts)
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=KEY)
    one, two = model.layers
    return networks.from_equinox(model), ("layers[0]", "layers[1]"), (one.weight.T, one.bias, two.weight.T, two.bias)


@pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
def test_layers_of_every_library_are_recorded(library):
    net, names, (w1, b1, w2, b2) = layers_of(library)
    found = networks.activations(net, X)
    hidden = X @ w1 + b1[None]
    np.testing.assert_allclose(found[names[0]], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[names[1]], np.tanh(hidden) @ w2 + b2[None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["output"], net(X), rtol=1e-12)
    assert next(iter(found)) == names[0] or library == "linen"
    # As it was: the library's own classes call what they called before.
    np.testing.assert_allclose(networks.activations(net, X)["output"], net(X), rtol=1e-12)


def test_the_information_plane_takes_activations_of_any_library():
    net, names, _ = layers_of("equinox")
    history = [net.params, jax.tree.map(lambda leaf: 3 * leaf, net.params)]
    run = networks.activations(net, X, history=history)
    assert run[names[0]].shape == (2, 5, 4) and run["output"].shape == (2, 5, 2)
    labels = np.array([0, 1, 0, 1, 1])
    plane = ni.finite.information_plane(run, None, labels, bins=3)
    assert plane.i_xt.shape == (1, 2, 3) and plane.names == tuple(run)
    alone = ni.estimators.binned_layer(run["output"][1], np.eye(2)[labels], bins=3, range=(
        run["output"].min(), run["output"].max()))  # fmt: skip
    np.testing.assert_allclose(plane.i_xt[0, 1, -1], alone.i_xt)
    assert ni.plot.layers(plane) is not None
    with pytest.raises(ValueError, match="`run` must map at least one layer to activations"):
        ni.finite.information_plane({"a": np.ones((2, 5, 1)), "b": np.ones((3, 5, 1))}, None, labels)
    with pytest.raises(TypeError, match="`net` must come from `from_flax` with variables"):
        networks.activations(networks.from_apply(lambda p, x: x @ p, jnp.ones((3, 1))), X)
    with pytest.raises(ValueError, match="`history` must hold the parameters of at least one epoch"):
        networks.activations(net, X, history=[])
