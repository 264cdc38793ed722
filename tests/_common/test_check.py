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


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "got None"),
        (0, "got 0"),
        ("a", "got 'a'"),
        (jax.random.split(jax.random.key(0)), r"got .*shape \(2,\)"),
        (np.zeros(2), r"got ndarray of dtype float64, shape \(2,\)"),
        (np.zeros(3, np.uint32), r"shape \(3,\)"),
        (jax.random.split(jax.random.PRNGKey(0)), r"shape \(2, 2\)"),
    ],
)
def test_what_is_no_random_key_is_named(value, message):
    with pytest.raises(TypeError, match=f"`draw` must be one random key.*{message}"):
        check.key("draw", value)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_keys_pass_typed_raw_and_traced(make):
    assert check.key("key", make(1)) is not None
    assert jax.vmap(lambda key: jax.random.normal(check.key("key", key)))(jax.random.split(make(1))).shape == (2,)
    assert isinstance(check.key("key", np.asarray(jax.random.PRNGKey(1))), jax.Array)


@pytest.mark.parametrize("value", [None, 0, True, np.array("a"), np.array(["a", "b"]), ["a"], "A", {"a"}])
def test_options_of_any_kind_are_compared_without_their_truth_or_hash(value):
    with pytest.raises(ValueError, match="`method` must be one of 'a', 'b'; got "):
        check.option("method", value, ("a", "b"))
    check.option("method", None, ("a", None))
    check.option("method", "b", {"a": 1, "b": 2})


@pytest.mark.parametrize("value", [[0.5], np.array([0.5]), np.array([[0.5]]), Table()])
def test_a_vector_is_no_single_number(value):
    for refuse in (lambda: check.positive("noise", value, scalar=True), lambda: check.number("noise", value)):
        with pytest.raises(ValueError, match=r"`noise` must be one number; got \w+ of shape"):
            refuse()
    with pytest.raises(ValueError, match="`noise` must be one number"):
        jax.jit(lambda noise: check.number("noise", noise))(np.array([0.5]))


@pytest.mark.parametrize("value", ["1", None, 1j, True, [], [[1.0], [1.0, 2.0]], jax.random.key(0), 10**30, object()])
def test_what_is_no_real_number_is_named(value):
    for refuse in (check.positive, check.number, check.real_numbers, check.times, check.array):
        with pytest.raises((TypeError, ValueError), match="`noise` must"):
            refuse("noise", value)


def test_numbers_within_their_ends():
    check.number("x", 1, 0, 1)
    jax.jit(lambda x: check.number("x", x, 0, 1))(7.0)
    for value, ends in ((1, False), (2, True), (np.nan, True), (np.inf, False)):
        with pytest.raises(ValueError, match="`x` must lie in"):
            check.number("x", value, 0, 1, ends=ends)


def test_integers_flags_functions_and_objects():
    assert check.integer("n", np.int32(3)) == 3
    for value in (2**62, 10**30):
        with pytest.raises(ValueError, match="`n` must be at most 2147483647; got"):
            check.integer("n", value)
    check.flag("joint", np.bool_(True))
    check.flag("progress", None, none=True)
    for value in (None, "no", 1, np.array([True])):
        with pytest.raises(TypeError, match="`joint` must be True or False; got"):
            check.flag("joint", value)
    with pytest.raises(TypeError, match="`build` must be a function of x; got 3"):
        check.function("build", 3, "a function of x")
    check.instance("p", np.ones(3), (np.ndarray, list))
    with pytest.raises(TypeError, match=r"`p` must be of type `Table` or `dict`, as made by `f`; got ndarray of dtype"):
        check.instance("p", np.ones(3), (Table, dict), maker="`f`")


def test_sizes_have_limits_and_widths_are_taken_from_lists():
    assert check.size("depth", 3) == 3 and check.widths("hidden", [4, 5]) == check.widths("hidden", np.array([4, 5]))
    assert check.widths("hidden", 4) == (4,) and check.widths("hidden", ()) == ()
    for value in (2**21, 10**30):
        with pytest.raises(ValueError, match="`depth` must be at most 1048576"):
            check.size("depth", value)
    for value in ([2.5], "a", [True], None, [[2], [3]], {"a": 1}):
        with pytest.raises((TypeError, ValueError), match="`hidden` must be"):
            check.widths("hidden", value)
    with pytest.raises(ValueError, match=r"`hidden` must be smaller: 1048576 x 1048576 weights"):
        check.widths("hidden", (2**20, 2**20))


def test_what_is_traced_is_named_where_a_function_runs_on_the_host():
    def on_host(x, ens, options):
        check.on_host(locals())
        return np.asarray(x)

    mixed = {1: "keys that have", "a": "no order"}
    assert len(on_host(np.ones(3), object(), mixed)) == 3
    for number, name in enumerate(("x", "ens", "options")):
        with pytest.raises(TypeError, match=f"`{name}` is being traced; this function runs on the host"):
            jax.eval_shape(lambda v, i=number: on_host(*[{"a": v} if j == i else 1.0 for j in range(3)]), 1.0)


def test_numbers_beyond_the_precision_of_jax_are_refused(keep_settings):
    jax.config.update("jax_enable_x64", False)
    assert check.array("x", np.array([1e38])).dtype == np.float32
    with pytest.raises(ValueError, match=r"`x` must stay within the range of float32.*; got entries up to 1e\+200"):
        check.array("x", np.array([1.0, -1e200]))
    jax.config.update("jax_enable_x64", True)
    assert check.array("x", np.array([1e200])).dtype == np.float64


def test_paths_are_not_empty():
    assert check.path("folder", "a/b").parts == ("a", "b")
    for value in ("", "a\0b", 3, None, b"a"):
        with pytest.raises((TypeError, ValueError), match="`folder` must be a path"):
            check.path("folder", value)


def test_matrices_without_negative_eigenvalues_but_rounding():
    check.semidefinite("h", np.outer([1.0, 2.0], [1.0, 2.0]) - 1e-10 * np.eye(2))
    check.semidefinite("h", np.zeros((2, 2)))
    with pytest.raises(ValueError, match="`h` must be positive semidefinite; got eigenvalues from -1 to 3"):
        check.semidefinite("h", np.array([[1.0, 2.0], [2.0, 1.0]]))


def test_matrices_symmetric_to_rounding_are_symmetric():
    matrix = np.array([[2.0, 1.0], [1.0 + 1e-9, 2.0]])
    assert check.square("q", matrix, 2, np.float64).shape == (2, 2)
    matrix[1, 0] += 1e-6
    with pytest.raises(ValueError, match="`q` must be symmetric"):
        check.square("q", matrix, 2, np.float64)
    with pytest.raises(ValueError, match=r"`q` must have shape \(3, 3\)"):
        check.square("q", matrix, 3, np.float64)
