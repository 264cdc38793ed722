"""Sizes rounded up to few: what fills up changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo._common import check
from ntkinfo._numerics import padding
from tests.compilations import counted

KEY = jax.random.key(3)


def test_rows_each_for_itself_share_a_program():
    @jax.jit
    def norms(rows, scale):
        return jnp.sum(rows**2, axis=1) * scale, rows[:, :1]

    rows, scale = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12.0)
    whole = [np.asarray(part) for part in norms(rows, scale)]
    padding.rowwise(norms, rows[:9], scale[:9])
    with counted() as count:
        for n in (9, 10, 11, 12):
            found = padding.rowwise(norms, rows[:n], scale[:n])
            for one, other in zip(found, whole, strict=True):
                assert isinstance(one, jax.Array)
                np.testing.assert_array_equal(one, other[:n])
    assert count.number == 0


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(3)])
@pytest.mark.parametrize("draw", [jax.random.normal, lambda key, shape: jax.random.bernoulli(key, 0.5, shape)])
def test_draws_are_those_of_the_shape_itself(key, draw):
    padding.draws(draw, key, (3, 3))
    with counted() as count:
        found = [padding.draws(draw, key, shape) for shape in ((5, 2), (3, 4), (11,))]
    assert count.number == 0
    for part in found:
        np.testing.assert_array_equal(part, draw(key, part.shape))


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(3)])
@pytest.mark.parametrize("n", [1, 2, 9, 12, 2000])
def test_permutations_are_those_of_jax(key, n):
    np.testing.assert_array_equal(padding.permutation(key, n), jax.random.permutation(key, n))


def test_keys_that_are_not_counted_through_draw_their_own_shape():
    key = jax.random.key(3, impl="rbg")
    np.testing.assert_array_equal(padding.draws(jax.random.normal, key, (5, 2)), jax.random.normal(key, (5, 2)))
    check.key("key", jax.random.PRNGKey(3))
    with jax.default_prng_impl("rbg"):
        raw = check.key("key", jax.random.PRNGKey(3))
        np.testing.assert_array_equal(padding.draws(jax.random.normal, raw, (5, 2)), jax.random.normal(raw, (5, 2)))
        np.testing.assert_array_equal(padding.permutation(raw, 9), jax.random.permutation(raw, 9))
