"""Equal networks and optimisers are one object, and find the programs compiled for the first."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkinfo as ni
from ntkinfo import architectures, kernels, networks, stax
from ntkinfo._common import interning, tracing
from tests.compilations import counted

# Whether anything is compiled is asked here, not what.
pytestmark = pytest.mark.usefixtures("little_time_to_compile")

LAYERS = {
    "Dense": lambda: stax.Dense(3, W_std=1.5, b_std=0.1),
    "Conv": lambda: stax.Conv(3, (3, 3), padding="SAME"),
    "Gelu": stax.Gelu,
    "LeakyRelu": lambda: stax.LeakyRelu(0.3),
    "Dropout": lambda: stax.Dropout(0.9, mode="test"),
    "LayerNorm": stax.LayerNorm,
    "AvgPool": lambda: stax.AvgPool((2, 2), padding="VALID"),
    "DotGeneral": lambda: stax.DotGeneral(rhs=jnp.ones((2, 2))),
    "repeat": lambda: stax.repeat(stax.serial(stax.Dense(3), stax.Erf()), 2),
    "residual": lambda: architectures.network("residual", depth=2),
    "conv": lambda: architectures.network("conv", activation="relu"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_made_again_is_the_same_layer(name):
    first, second = LAYERS[name](), LAYERS[name]()
    assert all(a is b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: stax.Dense(3, W_std=1.5), lambda: stax.Dense(3, W_std=1.6)),
        (lambda: stax.Dense(3, b_std=0.0), lambda: stax.Dense(3, b_std=-0.0)),
        (lambda: stax.Dense(3, W_std=1), lambda: stax.Dense(3, W_std=1.0)),
        (lambda: stax.Dense(3), lambda: stax.Dense(3, parameterization="standard")),
        (lambda: stax.DotGeneral(rhs=jnp.ones((2, 2))), lambda: stax.DotGeneral(rhs=jnp.eye(2))),
        (lambda: stax.serial(stax.Dense(3), stax.Erf()), lambda: stax.serial(stax.Erf(), stax.Dense(3))),
        (lambda: architectures.network(depth=2), lambda: architectures.network(depth=3)),
    ],
)
def test_other_arguments_make_another_layer(one, other):
    assert one()[2] is not other()[2]


def test_arguments_by_place_and_by_name_are_the_same():
    assert stax.Dense(3, 1.5, 0.1)[2] is stax.Dense(out_dim=3, b_std=0.1, W_std=1.5)[2]


def test_what_cannot_be_described_is_new_each_time():
    def activation(x):
        return jnp.tanh(x)

    own = stax.Elementwise(activation, lambda c, v1, v2: c, d_nngp_fn=lambda c, v1, v2: c)
    assert own[2] is not stax.Elementwise(activation, lambda c, v1, v2: c, d_nngp_fn=lambda c, v1, v2: c)[2]
    assert stax.serial(stax.Dense(3), own)[2] is not stax.serial(stax.Dense(3), own)[2]
    # A layer with another init than it was made with is not that layer.
    dense = stax.Dense(3)
    other = (lambda key, shape: dense[0](key, shape), *dense[1:])
    assert stax.serial(other)[2] is not stax.serial(other)[2]
    # An array of NumPy may change after the network is made.
    assert stax.DotGeneral(rhs=np.ones((2, 2)))[2] is not stax.DotGeneral(rhs=np.ones((2, 2)))[2]


def test_nothing_made_while_tracing_is_kept():
    x = jnp.ones((3, 2))

    def total(scale):
        # A constructor that makes an array: under jit it is one of that trace.
        net = stax.serial(stax.Dense(1, W_std=1.31), stax.DotGeneral(rhs=2 * jnp.ones(())), stax.Erf())
        return scale * net[2](x, None, "nngp").sum()

    want = jax.jit(total)(1.0)
    np.testing.assert_allclose(total(1.0), want, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(total)(1.0), want, rtol=1e-6)


def test_traced_scales_still_differentiate():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

    def total(scale):
        net = stax.serial(stax.Dense(1, W_std=scale), stax.Erf(), stax.Dense(1, W_std=scale))
        return net[2](x, None, "ntk").sum()

    slope = (total(1.5 + 1e-5) - total(1.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(total)(1.5), slope, rtol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(1.5), slope, rtol=1e-7)


def test_tracing_is_seen_and_only_while_it_lasts():
    seen = {}

    def look(x, name):
        seen[name] = tracing.is_tracing()
        return 2.0 * x

    jax.jit(functools.partial(look, name="jit"))(1.0)
    jax.grad(functools.partial(look, name="grad"))(1.0)
    jax.vmap(functools.partial(look, name="vmap"))(jnp.ones(2))
    jax.eval_shape(functools.partial(look, name="eval_shape"), 1.0)
    assert all(seen.values()) and len(seen) == 4
    assert not tracing.is_tracing()


def test_a_network_made_again_compiles_nothing(rng):
    x, y, x_test = rng.normal(size=(9, 3)), rng.normal(size=(9, 1)), rng.normal(size=(5, 3))

    def call(w_std):
        net = architectures.network(depth=1, activation="erf", w_std=w_std)
        ens = ni.Ensemble.fit(net, x, y)
        ni.information.curve(ens, x_test, rng.normal(size=(5, 1)), np.array([0.0, 1.0, 10.0]))
        kernels.hessian(net, x)
        ni.finite.train(net, x, y, [0.0, 1.0], n_networks=2, key=jax.random.key(0), learning_rate=0.5)

    with counted() as first:
        call(1.4321)
    with counted() as again:
        call(1.4321)
    with counted() as other:
        call(1.4322)
    assert first.number > 5 and other.number > 2
    assert again.number == 0


def test_networks_of_stax_and_flax_compare_by_what_they_are():
    a, b = (networks.from_stax(architectures.network(depth=1)) for _ in range(2))
    assert a == b and hash(a) == hash(b)
    assert a != networks.from_stax(architectures.network(depth=2))

    class Module:
        """As a Flax module: equal by its fields."""

        def __init__(self, scale):
            self.scale = scale

        def __eq__(self, other):
            return self.scale == other.scale

        def __hash__(self):
            return hash(self.scale)

        def __repr__(self):
            return f"Module({self.scale!r})"

        def init(self, key, x):
            return {"params": {"w": self.scale * jax.random.normal(key, (x.shape[1], 1))}}

        def apply(self, variables, x):
            return x @ variables["params"]["w"]

    one, other = networks.from_flax(Module(1.0)), networks.from_flax(Module(1.0))
    assert one == other and hash(one) == hash(other)
    assert one != networks.from_flax(Module(2.0)) and one != networks.from_flax(Module(1))
    assert one.init != one.apply
    params = one.init(jax.random.key(0), jnp.ones((2, 3)))
    assert one.apply(params, jnp.ones((2, 3))).shape == (2, 1)


def test_modules_that_cannot_be_compared_are_themselves():
    class Module:
        __hash__ = None

        def __eq__(self, other):
            return np.array([True, True])

        def init(self, key, x):
            return {"params": {}}

        def apply(self, variables, x):
            return x

    module = Module()
    assert networks.from_flax(module) == networks.from_flax(module)
    assert networks.from_flax(module) != networks.from_flax(Module())
    assert hash(networks.from_flax(module)) == hash(networks.from_flax(module))


@pytest.mark.parametrize(
    "make",
    [
        optax.adam,
        optax.sgd,
        optax.adamw,
        lambda rate: optax.chain(optax.clip_by_global_norm(rate), optax.adam(0.1)),
        lambda rate: optax.adam(optax.cosine_decay_schedule(rate, 100)),
        lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate),
    ],
)
def test_optimisers_made_again_are_one(make):
    first = interning.transformation(make(0.01))
    assert interning.transformation(make(0.01)) is first
    other = make(0.02)
    assert interning.transformation(other) is other


def test_optimisers_with_functions_of_their_own_stay_themselves():
    for _ in range(2):
        own = optax.adam(lambda count: 0.01)
        assert interning.transformation(own) is own


def test_an_optimiser_made_again_compiles_nothing(rng):
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 2, 40)

    def call():
        ni.variational.fit(
            x, y, optimizer=optax.adam(3e-3), steps=2, key=jax.random.key(0), latent=2, record=1,
            encoder=ni.variational.encoders.mlp(4, (5,)), beta=2.0,
        )  # fmt: skip
        ni.finite.train_layers(
            (4, 3, 2), x, y, epochs=1, n_networks=1, key=jax.random.key(0), optimizer=optax.sgd(0.01, momentum=0.9),
            record=2, batch_size=None,
        )  # fmt: skip

    call()
    with counted() as again:
        call()
    assert again.number == 0


def test_the_oldest_descriptions_are_forgotten(monkeypatch):
    monkeypatch.setattr(interning, "_most", 8)
    monkeypatch.setattr(interning, "_made", type(interning._made)())
    first = stax.Dense(3, W_std=1.0)
    for i in range(8):
        stax.Dense(3, W_std=2.0 + i)
    assert len(interning._made) == 8
    assert stax.Dense(3, W_std=1.0)[2] is not first[2]
