import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo._common import compiling
from tests.compilations import counted


@compiling.jit
def logarithm(x):
    return jnp.sum(jnp.log1p(jnp.exp(x)) / (1 + x**2))


@compiling.jit(static_argnames="power")
def powers(x, *, power):
    return x**power


@pytest.fixture
def x(dtype):
    return jnp.asarray(np.random.default_rng(0).normal(size=1000), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_jit(x, dtype):
    value, expected = logarithm(x), jax.jit(logarithm.__wrapped__)(x)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=100 * float(jnp.finfo(dtype).eps))
    np.testing.assert_array_equal(powers(x, power=3), x**3)


@pytest.mark.parametrize("dtype", [np.float64])
def test_inside_of_other_transformations(x, dtype):
    expected = jax.grad(logarithm.__wrapped__)(x)
    for function in (jax.grad(logarithm), jax.jit(jax.grad(logarithm))):
        np.testing.assert_allclose(function(x), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(logarithm)(x[:, None]), jax.vmap(logarithm.__wrapped__)(x[:, None]), rtol=1e-12)
    assert jax.eval_shape(logarithm, x).shape == ()


@pytest.mark.parametrize("dtype", [np.float64])
def test_is_compiled_once(x, dtype):
    powers(x, power=2)
    with counted() as count:
        powers(x + 0, power=2)
    assert count.number <= 1  # the sum
    with counted() as count:
        powers(x, power=4)
    assert count.number == 1


@pytest.mark.skipif(not compiling._ACCEPTED, reason="this JAX takes no options of the compiler")
def test_options_are_handed_on(monkeypatch):
    seen, jit = [], jax.jit
    monkeypatch.setattr(jax, "jit", lambda function, **settings: seen.append(settings) or jit(function, **settings))
    assert compiling.jit(lambda x: x + 1)(1) == 2
    assert [settings.get("compiler_options") for settings in seen] == [None, compiling.options()]


@pytest.mark.skipif(not compiling._ACCEPTED, reason="this JAX takes no options of the compiler")
def test_options_are_those_that_the_compiler_knows(monkeypatch):
    # What the tests say of them themselves (`conftest.py`) stays.
    given = compiling.options()
    assert given.keys() <= (compiling._LEVEL | compiling._EMITTERS).keys()
    assert not [name for name in given if name in os.environ.get("XLA_FLAGS", "")]
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    assert compiling.options.__wrapped__().keys() <= compiling._EMITTERS.keys()
    monkeypatch.delenv("XLA_FLAGS")
    assert compiling.options.__wrapped__() in (compiling._LEVEL, compiling._LEVEL | compiling._EMITTERS)
    monkeypatch.setattr(compiling, "_EMITTERS", {"xla_no_such_option": 1})
    assert compiling.options.__wrapped__() == compiling._LEVEL
    monkeypatch.setattr(compiling, "_EMITTERS", {})
    jax.jit(lambda: 0).lower().compile(compiler_options=compiling.options.__wrapped__())


@compiling.on_host(static_argnames=("power",))
def share(xp, values, scale, *, power):
    """Rows in units of their sum."""
    powers = scale * values**power
    return powers / xp.sum(powers, axis=1, keepdims=True), xp.max(powers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_on_the_host_nothing_is_compiled_and_values_are_those_of_the_program(dtype):
    values = jnp.asarray(np.random.default_rng(0).uniform(size=(7, 3)), dtype)
    scale = jnp.asarray(2.0, dtype)
    with counted() as count:
        found = share(values, scale, power=2)
    assert count.number == 0
    traced = jax.jit(lambda *arrays: share(*arrays, power=2))(values, scale)
    for one, other in zip(found, traced, strict=True):
        assert isinstance(one, jax.Array) and one.dtype == other.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=10 * float(jnp.finfo(dtype).eps))
    # Derivatives go through JAX.
    gradient = jax.grad(lambda values: share(values, 1.0, power=2)[0][0, 0])(values)
    assert np.all(np.asarray(gradient)[1:] == 0) and gradient[0, 0] > 0


def test_what_numpy_warns_of_stays_silent_as_in_jax():
    found, _ = share(np.zeros((1, 2)), 1.0, power=1)
    assert np.isnan(found).all()
