"""The checks of arguments that every public function shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import discrete
from ntkinfo._common import check

VALUES = [[1.0, 2.0], [3.0, 4.0]]


class Table:
    """What a data frame offers to NumPy."""

    def __array__(self, dtype=None, copy=None):
        return np.array(VALUES, dtype)


@pytest.mark.parametrize(
    "value",
    [VALUES, Table(), np.array(VALUES, ">f8"), np.array(VALUES, "<f4"), np.array(VALUES, np.longdouble)],
    ids=["list", "table", "big-endian", "float32", "longdouble"],
)
def test_lists_tables_and_other_layouts_are_taken(value):
    result = check.array("x", value, 2)
    assert isinstance(result, jax.Array) and result.dtype.itemsize in (4, 8)
    np.testing.assert_array_equal(result, VALUES)
    np.testing.assert_array_equal(check.array("x", np.ma.array(VALUES)), VALUES)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3, np.float16), TypeError, r"float32 or float64; got dtype float16.*astype\(np.float32\)"),
        (jnp.ones(3, jnp.bfloat16), TypeError, "float32 or float64; got dtype bfloat16"),
        (np.asarray(jnp.ones(3, jnp.bfloat16)), TypeError, "float32 or float64; got dtype bfloat16"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 1]), ValueError, "no masked entries; got 2"),
        ([1, 2], TypeError, r"floating-point numbers; got dtype int64.*np.asarray\(x, float\)"),
        (["a"], TypeError, r"floating-point numbers; got dtype <U1\.$"),
        ([1.0, np.inf], ValueError, r"must be finite; got inf at index \(1,\)"),
        ([[1.0], [1.0, 2.0]], ValueError, "list with ragged rows"),
    ],
)
def test_what_is_no_array_of_floats_is_named(value, error, message):
    with pytest.raises(error, match=message):
        check.array("x", value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_one_within_the_tolerance_and_not_beyond(dtype):
    def table(excess):
        return np.array([[0.25, 0.25], [0.25, 0.25 + excess]], dtype)

    within, beyond = 0.8 * check.SUM_TOLERANCE, 1.3 * check.SUM_TOLERANCE
    assert check.SUM_TOLERANCE == 1e-6
    discrete.check_joint("p", table(within))
    discrete.check_conditional("p", 2 * table(within / 2), (2, 2))
    with pytest.raises(ValueError, match=r"sum=1\.0000013"):
        discrete.check_joint("p", table(beyond))
    with pytest.raises(ValueError, match=r"in every row; got .*sums from 1 to 1\.0000013"):
        discrete.check_conditional("p", 2 * table(beyond / 2), (2, 2))


def test_values_are_not_looked_at_under_tracing():
    assert jax.jit(lambda p: check.probabilities("p", p))(np.array([3.0, 4.0])).shape == (2,)
    jax.jit(lambda y: check.signs("y", y))(np.array([3.0, 4.0]))


def test_signs():
    check.signs("y", np.array([-1.0, 1.0]))
    with pytest.raises(ValueError, match="`y` must hold -1 and 1 only"):
        check.signs("y", np.array([0.0, 1.0]))
