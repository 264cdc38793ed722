"""Networks of other libraries as one type: the same outputs as their own, parameters and state apart, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import kernels, networks, stax
from ntkinfo.networks._network import is_float

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(4, 3))


def same(net, want):
    """Outputs of a network are those of its library, and its parameters alone train."""
    np.testing.assert_allclose(net(X), want, rtol=1e-5, atol=1e-6)
    assert net(X).dtype == np.float64 and all(map(is_float, jax.tree.leaves(net.params)))
    moved = net.at(jax.tree.map(lambda leaf: leaf + 0.1, net.params))
    assert moved != net and moved.apply == net.apply and np.abs(np.asarray(moved(X)) - want).max() > 1e-3


def test_linen():
    nn = pytest.importorskip("flax.linen")

    class Mine(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
            return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))

    module = Mine()
    variables = module.init(KEY, X, train=False)
    variables = {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])}
    net = networks.from_flax(module, variables, train=False)
    same(net, module.apply(variables, X, train=False))
    assert set(net.params) == {"params"} and net.n_parameters == 3 * 5 + 5 + 10 + 12
    assert set(net.state[0]) == {"batch_stats"} and jax.tree.structure(net.init(KEY, X)) == jax.tree.structure(
        net.params
    )
    # Programs are compiled for the function, which two networks of one module share; their states differ.
    other = networks.from_flax(Mine(), module.init(KEY, X, train=False), train=False)
    assert other.apply.function == net.apply.function and other.apply != net.apply
    with pytest.raises(ValueError, match=r"`net` .*a layer is in training mode \(Cannot update .*running averages"):
        networks.from_flax(module, variables, train=True)(X)
    with pytest.raises(ValueError, match=r"`net` .*draws at random \(.* needs PRNG.*Turn dropout off"):
        networks.from_flax(nn.Dropout(0.5, deterministic=False), {"params": variables["params"]})(X)


def test_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Mine(nnx.Module):
        def __init__(self, rngs):
            self.one, self.two = nnx.Linear(3, 5, rngs=rngs), nnx.Linear(5, 2, rngs=rngs)
            self.norm, self.drop = nnx.BatchNorm(5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.two(self.drop(nnx.relu(self.norm(self.one(x)))))

    model = Mine(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`model` must be in inference mode; got \w+ in training mode.*model.eval"):
        networks.from_nnx(model)
    model.eval()
    net = networks.from_nnx(model)
    same(net, model(jnp.asarray(X, jnp.float32)))
    assert net.n_parameters == 3 * 5 + 5 + 10 + 12 and net.state is not None
    assert networks.from_nnx(model).apply.function == net.apply.function
    with pytest.raises(ValueError, match=r"`net` has no random start of its own. Make modules of other seeds"):
        net.init(KEY, X)
    with pytest.raises(TypeError, match=r"`model` must be a module of `flax.nnx`; got int"):
        networks.from_nnx(3)


def test_an_nnx_model_that_draws_says_so():
    nnx = pytest.importorskip("flax.nnx")

    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.one, self.rngs = nnx.Linear(3, 2, rngs=rngs), rngs

        def __call__(self, x):
            return self.one(x) + jax.random.normal(self.rngs.noise(), (2,))[None]

    with pytest.raises(ValueError, match=r"`net` .* it draws at random \(.*RngCount.*Turn dropout off"):
        networks.from_nnx(Noisy(nnx.Rngs(0)))(X)


def test_arrays_of_equinox_that_do_not_train_are_told_by_their_gradient():
    """A buffer is an array like a weight: counted, and without effect on the kernel."""
    eqx = pytest.importorskip("equinox")

    class Mine(eqx.Module):
        weight: jax.Array
        buffer: jax.Array

        def __call__(self, x):
            return jnp.tanh(x @ self.weight) + jax.lax.stop_gradient(self.buffer)

    weight = np.random.default_rng(1).normal(size=(3, 2))
    net = networks.from_equinox(Mine(jnp.asarray(weight), jnp.ones(2)))
    slopes = 1 - np.tanh(X @ weight) ** 2
    assert net.n_parameters == 8
    found = kernels.empirical(net)(X, None, "ntk")
    np.testing.assert_allclose(found, (X @ X.T) * (slopes @ slopes.T) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda p, x: jax.lax.scan(lambda c, _: (c + x @ p, None), jnp.zeros((4, 2), jnp.float32), None, 2)[0],
         "parameters take the dtype of the inputs. Make the initial state in the dtype"),
        (lambda p, x: p[x].mean(1), r"looks entries up by number .*`from_apply\(lambda params, x"),
    ],
)  # fmt: skip
def test_dtypes_of_a_networks_own_functions_are_explained(apply, message):
    """Recurrent layers with a state of float32, and tables of entries: inputs of float64 do not fit."""
    net = networks.from_apply(apply, np.ones((3, 2)))
    with pytest.raises(ValueError, match=f"`net` cannot be applied to inputs .*{message}"):
        net(X)


def test_equinox():
    eqx = pytest.importorskip("equinox")

    class Mine(eqx.Module):
        one: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        drop: eqx.nn.Dropout
        shift: jax.Array

        def __init__(self, key):
            self.one, self.norm = eqx.nn.Linear(3, 2, key=key), eqx.nn.BatchNorm(2, "batch", mode="batch")
            self.drop, self.shift = eqx.nn.Dropout(0.5), jnp.arange(2)

        def __call__(self, x, state):
            x, state = self.norm(self.one(x), state)
            return self.drop(x) + self.shift, state

    model, state = eqx.nn.make_with_state(Mine)(KEY)
    with pytest.raises(ValueError, match=r"`make` must be in inference mode; got \w+ in training.*inference_mode"):
        networks.from_equinox(model, state)
    model = eqx.nn.inference_mode(model)
    net = networks.from_equinox(model, state)
    same(net, jax.vmap(lambda x: model(x, state)[0])(X))
    assert [leaf.dtype.kind for leaf in net.state[0]] == ["i"]

    def make(key):
        return eqx.nn.MLP(3, 2, 4, 1, key=key)

    drawn, given = networks.from_equinox(make), networks.from_equinox(make(KEY))
    same(given, jax.vmap(make(KEY))(X))
    np.testing.assert_array_equal(drawn.at(drawn.init(KEY, X))(X), given(X))
    with pytest.raises(ValueError, match=r"`net` has no random start .*make\(key\) -> module"):
        given.init(KEY, X)


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x, is_training):
        x = hk.BatchNorm(True, True, 0.9)(hk.Linear(4)(x), is_training)
        return hk.Linear(2)(jax.nn.relu(x))

    with_state = hk.transform_with_state(forward)
    params, state = with_state.init(KEY, X, True)
    net = networks.from_haiku(with_state, params, state, is_training=False)
    same(net, with_state.apply(params, state, None, X, False)[0])
    # Nothing in the call says so, but batch norm in training mode shows in outputs that depend on the batch.
    training = networks.from_haiku(with_state, params, state, is_training=True)
    with pytest.raises(ValueError, match=r"`net` must give each input an output of its own.*Batch norm must be in"):
        training.check("net", jnp.asarray(X))
    assert net.check("net", jnp.asarray(X)) == 2
    plain = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(x)))
    same(networks.from_haiku(plain, plain.init(KEY, X)), plain.apply(plain.init(KEY, X), X))
    drops = hk.transform(lambda x: hk.dropout(hk.next_rng_key(), 0.5, hk.Linear(2)(x)))
    with pytest.raises(ValueError, match=r"`net` .*draws at random \(You must pass a non-None PRNGKey"):
        networks.from_haiku(drops, drops.init(KEY, X))(X)
    with pytest.raises(ValueError, match=r"`state` must be given for a function of `hk.transform_with_state`"):
        networks.from_haiku(with_state, params)


def test_stax_and_plain_functions():
    init, apply, _ = triple = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(2))
    params = init(KEY, X.shape)[1]
    net = networks.from_stax(triple, params)
    same(net, apply(params, X))
    # Integers are held, floats are trained, and both come back together.
    tree = {"w": jnp.ones((3, 2)), "columns": jnp.array([2, 0, 1])}
    held = networks.from_apply(lambda p, x: jnp.sin(x[:, p["columns"]] @ p["w"]), tree)
    same(held, np.sin(X[:, [2, 0, 1]] @ np.ones((3, 2))))
    assert held.n_parameters == 6 and held.params["columns"] is None and held.state["w"] is None
    one = networks.from_apply(lambda p, x: x @ p, jnp.ones(3))
    assert one(X).shape == (4, 1) and repr(one) == "Network with 3 parameters"


def test_parameters_of_another_stax_network_are_refused_by_their_number():
    layers = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(2, b_std=0.1))
    images = stax.serial(stax.Conv(2, (3, 3)), stax.Flatten(), stax.Dense(1))
    of_layers = [(np.ones((3, 4)), None), (), (np.ones((4, 2)), np.ones((1, 2)))]
    of_images = [(np.ones((3, 3, 1, 2)), None), (), (np.ones((72, 1)), None)]
    for triple, params in ((layers, of_layers), (images, of_images)):
        assert networks.from_stax(triple, tuple(params)).params is not None
        for wrong in (jnp.ones(2), params[:1], [params[0], params]):
            with pytest.raises(ValueError, match=r"`params` must be as `init` of `network` returns them, . arrays in"):
                networks.from_stax(triple, wrong)
    # A layer of one's own may have one array, and one that says nothing for any of our shapes is taken at its word.
    plain = (lambda key, shape: (shape, jnp.ones(3)), lambda params, x: x @ params)
    for init in (plain[0], lambda key, shape: 1 / 0):
        assert networks.from_stax((init, plain[1]), jnp.ones(3)).n_parameters == 3


W = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("apply", "params", "error", "message"),
    [
        (lambda p, x: (x @ p, x), W, TypeError, "`net` must return one array of outputs; got tuple of 2"),
        (lambda p, x: {"a": x @ p}, W, TypeError, "`net` must return one array of outputs; got dict of 1"),
        (lambda p, x: (x @ p > 0), W, TypeError, "`net` must return floating-point outputs; got dtype bool"),
        (lambda p, x: (x @ p)[:, :, None], W, ValueError, r"outputs of shape \(n, k\), n = 4; got \(4, 2, 1\)"),
        (lambda p, x: x @ p @ p, W, ValueError, r"`net` cannot be applied to inputs of shape \(4, 3\)"),
        (lambda p, x: x @ p, W * 1j, TypeError, "`params` must be real; got dtype complex"),
        (lambda p, x: x @ p, W * jnp.nan, ValueError, "`params` must be finite"),
        (lambda p, x: x @ p, jnp.ones((3, 2), int), ValueError, "`params` must hold floating-point arrays that train"),
        (lambda p, x: x @ p, W.astype(jnp.bfloat16), TypeError, "`params` must be all float32 or all float64; got bf"),
        (lambda p, x: x, [W, W.astype(jnp.float32)], TypeError, "all float64; got float32 and float64. Convert them"),
        (lambda x: x, W, TypeError, r"`apply_fn` must be a function apply_fn\(params, x\).* does not take 2"),
        (dict, W, TypeError, r"`apply_fn` must be a function apply_fn\(params, x\); got the class dict"),
        (lambda p, x: x @ p, np.ma.masked_less(np.ones((3, 2)) - np.eye(3, 2), 0.5), ValueError, "no masked entries"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused_by_name(apply, params, error, message):
    with pytest.raises(error, match=message):
        networks.from_apply(apply, params)(X)


def test_networks_without_parameters_say_so():
    net = networks.from_stax(stax.serial(stax.Dense(2)))
    with pytest.raises(ValueError, match=r"`net` must have parameters; got a network without"):
        net(X)
    with pytest.raises(TypeError, match=r"`net` must be a `Network` with parameters.*or a pair"):
        networks.as_network("net", (1, 2))
    with pytest.raises(TypeError, match=r"Flax module.*from_flax"):
        networks.as_network("net", type("M", (type("B", (), {"__module__": "flax.linen.module"}),), {})())
    with pytest.raises(ValueError, match=r"`params` must have the structure"):
        networks.from_apply(lambda p, x: x @ p, W).at([W])
