"""Probability tables: against loops, at p = 0, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import discrete
from ntkinfo._numerics import entropy as _entropy

JOINT = np.array([[0.2, 0.0, 0.1], [0.05, 0.25, 0.1], [0.1, 0.1, 0.1]])


def test_informations_are_those_of_a_loop():
    p_x, p_y = JOINT.sum(1), JOINT.sum(0)
    information = sum(
        JOINT[i, j] * np.log(JOINT[i, j] / (p_x[i] * p_y[j]))
        for i, j in itertools.product(range(3), range(3))
        if JOINT[i, j] > 0
    )
    np.testing.assert_allclose(discrete.mutual_information(jnp.asarray(JOINT)), information, rtol=1e-13)
    batch = jnp.stack([JOINT, JOINT.T, np.outer(p_x, p_y)])
    np.testing.assert_allclose(discrete.mutual_information(batch), [information, information, 0], atol=1e-15)
    np.testing.assert_allclose(discrete.entropy(jnp.asarray(p_x)), -sum(p * np.log(p) for p in p_x), rtol=1e-14)


def test_zeros_are_safe_in_value_and_gradient():
    p, q = jnp.array([0.0, 1.0]), jnp.array([0.5, 0.5])
    assert float(discrete.entropy(p)) == 0
    assert float(discrete.kl(p, q)) == pytest.approx(np.log(2))
    assert float(discrete.kl(q, p)) == np.inf
    for gradient in (jax.grad(discrete.entropy)(p), jax.grad(discrete.kl)(p, q)):
        assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("namespace", [np, jnp])
def test_no_information_is_zero_and_rounding_never_makes_it_negative(namespace, rng):
    # Each shape compiles its operations for arrays of JAX.
    many = namespace is np
    for n in (2, 3, 7, 40, 1000) if many else (7,):
        p = rng.dirichlet(np.ones(n))
        for encoder in (np.ones((1, 1)), np.array([[0.3, 0.7]]), rng.dirichlet(np.ones(5))[None]):
            alike = namespace.asarray(p[:, None] * encoder)
            assert float(_entropy.mutual_information(alike)) == float(_entropy.mutual_information(alike.T)) == 0
        # What is little, but more than rounding, is kept, also in a table that is a little off one.
        moved = np.full((n, 2), 0.5 / n) * (1 + 1e-12)
        moved[0] += np.array([1e-5, -1e-5]) / n
        assert float(_entropy.mutual_information(namespace.asarray(moved))) == pytest.approx(
            2e-10 / n * (1 - 1 / n), rel=1e-4
        )
    for _ in range(200 if many else 20):
        p = rng.dirichlet(np.ones(6))
        nearly = p * (1 + 3e-16 * rng.normal(size=6))
        assert float(_entropy.kl(namespace.asarray(p), namespace.asarray(nearly))) >= 0


def test_what_is_zero_keeps_its_derivatives(rng):
    """The second derivative at independence is that of the formula written out."""
    p, direction = np.outer(rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))), rng.normal(size=(3, 4))
    direction -= direction.mean()

    def along(step):
        return _entropy.mutual_information(jnp.asarray(p) + step * direction)

    rows, columns = p.sum(1), p.sum(0)
    expected = (direction**2 / p).sum() - (direction.sum(1) ** 2 / rows).sum() - (direction.sum(0) ** 2 / columns).sum()
    np.testing.assert_allclose(jax.grad(along)(0.0), 0.0, atol=1e-12)
    np.testing.assert_allclose(jax.grad(jax.grad(along))(0.0), expected, rtol=1e-9)


def test_products_of_tiny_probabilities_do_not_underflow():
    tiny = 1e-30
    table = np.array([[1, 0], [0, tiny]], np.float32)
    np.testing.assert_allclose(discrete.mutual_information(table), -tiny * np.log(tiny), rtol=1e-5)


def test_equal_rows_are_merged_and_others_are_not(rng):
    rows = rng.dirichlet(np.ones(3), 4)
    p_x = rng.dirichlet(np.ones(10))
    which = np.array([0, 1, 2, 3, 1, 0, 0, 2, 3, 3])
    merged, index = discrete.merge_rows(p_x[:, None] * rows[which])
    assert len(merged) == 4
    for i, j in itertools.product(range(10), range(10)):
        assert (index[i] == index[j]) == (which[i] == which[j])
    np.testing.assert_allclose((merged / merged.sum(1, keepdims=True))[index], rows[which], rtol=1e-12)
    assert len(discrete.merge_rows(JOINT)[0]) == 3


def test_rows_are_merged_among_many_tiny_probabilities(rng):
    # Levels closer than any coarse rounding, in a mixed order, as the tails of a logistic rule have them.
    p = np.array([1e-13, 3e-13, 1e-12, 2e-12, 0.3, 1 - 1e-12])[rng.integers(6, size=300)]
    table = np.stack([p, 1 - p], 1) / 300
    assert len(discrete.merge_rows(table)[0]) == 6
    tiny = np.array([[1e-16, 1], [1e-18, 1], [1e-18, 1], [0.5, 0.5]]) / 4
    assert len(discrete.merge_rows(tiny)[0]) == 2
    assert len(discrete.merge_rows(tiny, relative=True)[0]) == 3


def test_smoothing_keeps_the_inputs_and_mixes_the_labels():
    smoothed = np.asarray(discrete.smooth(JOINT, 0.1))
    np.testing.assert_allclose(smoothed.sum(1), JOINT.sum(1), rtol=1e-14)
    np.testing.assert_allclose(smoothed[0] / 0.3, 0.9 * JOINT[0] / 0.3 + 0.1 / 3, rtol=1e-14)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.ones((2, 2)), ValueError, "sum=4. Divide by the sum first"),
        (np.array([[-0.1, 0.6], [0.2, 0.3]]), ValueError, r"min=-0\.1"),
        (np.array([[np.nan, 0.6], [0.2, 0.2]]), ValueError, "must be finite"),
        (np.array([[0.5, 0.5], [0.0, 0.0]]), ValueError, "zeros in row 1"),
        (np.array([[0.5, 0.0], [0.5, 0.0]]), ValueError, "zeros in column 1"),
        (np.array([[0.5, 0.5]]), ValueError, "at least two inputs"),
        (np.array([[0.5], [0.5]]), ValueError, r"got shape \(2, 1\)"),
        (np.array([0.5, 0.5]), ValueError, "rank 2"),
        (np.eye(2, dtype=int), TypeError, "floating-point"),
    ],
)
def test_what_is_no_joint_distribution_is_refused(table, error, message):
    with pytest.raises(error, match=message):
        discrete.check_joint("p_xy", table)


def test_conditionals_and_smoothing_refuse_what_they_must():
    with pytest.raises(ValueError, match="sums from 2 to 2"):
        discrete.check_conditional("encoder", np.ones((3, 2)), (3, None))
    with pytest.raises(ValueError, match=r"shape \(4, any\); got \(3, 2\)"):
        discrete.check_conditional("encoder", np.full((3, 2), 0.5), (4, None))
    with pytest.raises(ValueError, match=r"in \(0, 1\]; got 1.5"):
        discrete.smooth(JOINT, 1.5)


def test_smoothing_of_a_table_that_is_not_square():
    table = np.array([[0.2, 0.1, 0.0], [0.3, 0.3, 0.1]])
    smoothed = np.asarray(discrete.smooth(table, 0.3))
    np.testing.assert_allclose(smoothed.sum(1), table.sum(1), rtol=1e-14)
    np.testing.assert_allclose(smoothed[0], 0.7 * table[0] + 0.3 * 0.3 / 3, rtol=1e-14)


FUNCTIONS = {
    "entropy": lambda table: discrete.entropy(table, axis=None),
    "kl": lambda table: discrete.kl(table, JOINT, axis=None),
    "kl of": lambda table: discrete.kl(JOINT, table, axis=None),
    "mutual_information": discrete.mutual_information,
    "merge_rows": lambda table: discrete.merge_rows(table)[0],
    "is_deterministic": discrete.is_deterministic,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_checks_its_tables(name):
    function = FUNCTIONS[name]
    expected = function(JOINT)
    for table in (JOINT.tolist(), JOINT.astype(">f8")):
        np.testing.assert_array_equal(function(table), expected)
    negative = JOINT + np.array([[-0.3, 0.3, 0.0], [0, 0, 0], [0, 0, 0]])
    for table, error, message in (
        (100 * JOINT, ValueError, "probabilities that sum to 1"),
        (negative, ValueError, r"min=-0\.1"),
        (np.where(JOINT == 0, np.nan, JOINT), ValueError, "must be finite"),
        (np.ones((3, 3), int), TypeError, "floating-point numbers"),
    ):
        with pytest.raises(error, match=message):
            function(table)
