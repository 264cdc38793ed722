"""Crosstabs: their names come back in everything that follows from them, and what is no table of counts is named."""

import jax
import numpy as np
import pandas as pd
import pytest

import ntkinfo as ni

ROWS, COLUMNS = ("cat", "dog", "car", "boat"), ("pet", "road", "water")
COUNTS = np.array([[20, 3, 0], [18, 4, 1], [2, 30, 5], [1, 6, 25]])
TABLE = pd.DataFrame(COUNTS, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def curve():
    return ni.bottleneck.ib(ni.discrete.from_counts(TABLE), [1.5, 5.0], certificate=True)


def plug_in(counts):
    """I(X;Y) of frequencies, from the definition."""
    p = counts / counts.sum()
    total = 0.0
    for i, j in np.argwhere(p > 0):
        total += p[i, j] * np.log(p[i, j] / (p[i].sum() * p[:, j].sum()))
    return total


def test_frequencies_and_names():
    joint = ni.discrete.from_counts(TABLE)
    assert (joint.names.rows, joint.names.columns, joint.n) == (ROWS, COLUMNS, 115)
    np.testing.assert_array_equal(joint.p_xy, COUNTS / 115)
    assert joint.to_dataframe().attrs["mutual_information"] == pytest.approx(plug_in(COUNTS))
    assert joint.to_dataframe(unit="bits").attrs["mutual_information"] == pytest.approx(plug_in(COUNTS) / np.log(2))
    assert float(ni.discrete.mutual_information(joint)) == pytest.approx(plug_in(COUNTS))
    plain = ni.discrete.from_counts(COUNTS.tolist())
    assert plain.names.rows == ("0", "1", "2", "3") and np.array_equal(plain.p_xy, joint.p_xy)
    floats = ni.discrete.from_counts(TABLE.astype(float))
    assert floats.names == joint.names


def test_names_come_back(curve):
    assert curve.names.rows == ROWS
    same = ni.bottleneck.ib(COUNTS / 115, [1.5, 5.0], certificate=True)
    assert np.array_equal(curve.i_xz, same.i_xz) and same.names is None
    frame = curve.assignments()
    assert list(frame["x"]) == [*ROWS, *ROWS] and list(frame["beta"]) == [1.5] * 4 + [5.0] * 4
    late = curve.assignments(-1).set_index("x")
    assert late["cluster"]["cat"] == late["cluster"]["dog"] != late["cluster"]["car"]
    encoder, decoder = curve.encoder_table(1), curve.decoder_table(1)
    assert tuple(encoder.index) == ROWS and tuple(decoder.columns) == COLUMNS
    np.testing.assert_allclose(encoder.sum(axis=1), 1)
    np.testing.assert_allclose(decoder.sum(axis=1), 1)
    assert decoder.shape[0] == encoder.shape[1] == int(curve.n_clusters[1])
    assert list(same.assignments(0)["x"]) == ["0", "1", "2", "3"]
    # Names are no arrays: they cross what maps over arrays.
    assert jax.tree.map(lambda leaf: leaf, curve).names == curve.names
    assert jax.jit(lambda c: c)(curve).names == curve.names


def test_every_bottleneck_takes_the_table():
    joint = ni.discrete.from_counts(TABLE + 1)
    for function in (ni.bottleneck.deterministic_ib, ni.bottleneck.dual_ib, ni.bottleneck.squared_ib):
        assert function(joint, [3.0]).names == joint.names
    assert len(ni.bottleneck.critical_betas(joint).local)


def test_empty_rows_and_columns_are_named():
    table = TABLE.assign(air=0)
    table.loc["ghost"] = 0
    with pytest.raises(ValueError, match=r"no rows or columns of zeros; got row 'ghost', column 'air'\. empty='drop'"):
        ni.discrete.from_counts(table)
    with pytest.warns(UserWarning, match="Left out of `table`, as they hold no counts: row 'ghost', column 'air'"):
        joint = ni.discrete.from_counts(table, empty="drop")
    assert joint.names == ni.discrete.from_counts(TABLE).names
    with (
        pytest.warns(UserWarning, match="and 2 more"),
        pytest.raises(ValueError, match="at least two rows and two columns that hold counts; got 0 and 0"),
    ):
        ni.discrete.from_counts(np.zeros((5, 5), int), empty="drop")


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (-TABLE, ValueError, "got -20 in row 'cat', column 'pet'"),
        (TABLE / 2, ValueError, "got 1.5 in row 'cat', column 'road'"),
        (TABLE.where(TABLE != 30), ValueError, "got missing in row 'car', column 'road'"),
        (TABLE.astype("Int64").where(TABLE != 30), ValueError, "got missing in row 'car', column 'road'"),
        (TABLE.astype(float).replace(30, np.inf), ValueError, "got inf in row 'car'"),
        (TABLE.astype(str).replace("30", "many"), TypeError, r"`table` must hold counts, whole .*pandas\.crosstab"),
        (TABLE > 3, TypeError, "got dtype bool"),
        (TABLE.rename(index={"dog": "cat"}), ValueError, "must name every row once; got 'cat' several times"),
        (TABLE["pet"], ValueError, "must have rows and columns"),
        (COUNTS[0], ValueError, r"must have rows and columns; got shape \(3,\)"),
        (TABLE[["pet"]], ValueError, "at least two rows and two columns that hold counts; got 4 and 1"),
        (pd.crosstab(list("abca"), list("uvvv"), margins=True), ValueError, "row 'All' and column 'All' are the sums"),
        (5, ValueError, "must have rows and columns"),
    ],
)
def test_what_is_no_table_of_counts(table, error, message):
    with pytest.raises(error, match=message):
        ni.discrete.from_counts(table)


@pytest.mark.parametrize("counts", [np.array([[10, 2], [3, 7]]), np.array([[10.0, 2.0], [3.0, 7.0]])])
@pytest.mark.parametrize(
    "call", [lambda p: ni.bottleneck.ib(p, [2.0]), ni.bottleneck.critical_betas, ni.discrete.mutual_information]
)
def test_counts_given_as_probabilities_are_sent_here(call, counts):
    with pytest.raises((TypeError, ValueError), match=r"`ni\.discrete\.from_counts`"):
        call(counts)
