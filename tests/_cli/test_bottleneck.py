"""The job `python -m ntkinfo bottleneck`: a table of counts with names, by its own numbers and by the library's."""

import numpy as np
import pandas as pd
import pytest

import ntkinfo as ni
from ntkinfo import __main__
from ntkinfo._cli import bottleneck

COUNTS = np.array([[30, 2, 1], [25, 3, 2], [1, 40, 0], [3, 33, 1], [0, 1, 28]])
ROWS, COLUMNS = ["vote", "party", "goal", "team", "atom"], ["politics", "sport", "science"]


@pytest.fixture
def table(tmp_path):
    pd.DataFrame(COUNTS, index=ROWS, columns=COLUMNS).to_csv(tmp_path / "words.csv")
    return tmp_path / "words.csv"


def test_it_writes_what_it_says(table, tmp_path, capsys):
    out = tmp_path / "out"
    assert __main__.main(["bottleneck", str(table), "--betas=1:60:6", "--unit=nats", f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "curve.csv", "assignments.csv", "curve.png", "clusters.png", "report.md", "report.html", "manifest.json",
    }  # fmt: skip
    frame = pd.read_csv(out / "curve.csv")
    curve = ni.bottleneck.ib(COUNTS / COUNTS.sum(), np.geomspace(1, 60, 6), certificate=True)
    np.testing.assert_allclose(frame["i_zy"], curve.i_zy, atol=1e-9)
    assert frame["certified"].all() and f"I(X;Y) = {float(curve.i_xy):.4g} nats" in printed
    parts = pd.read_csv(out / "assignments.csv")
    three = parts[parts["n_clusters"] == 3].pivot(index="row", columns="cluster", values="probability")
    np.testing.assert_allclose(three.sum(axis=1), 1, atol=1e-9)
    # Words of one subject go together, and are named.
    chosen = three.idxmax(axis=1)
    assert chosen["vote"] == chosen["party"] != chosen["goal"] == chosen["team"] != chosen["atom"]
    assert "vote" in printed and "politics 0." in printed
    # 133 counts: (5 - 1)(3 - 1)/(2 n) nats by chance.
    page = (out / "report.md").read_text()
    assert f"{COUNTS.sum()} counts" in page and f"about {8 / (2 * COUNTS.sum()):.2g} nats by chance" in page


def test_tables_of_every_kind(tmp_path):
    def read(text, **options):
        (tmp_path / "t.csv").write_text(text)
        return bottleneck.read(tmp_path / "t.csv", **options)

    bare = read("1,2\n3,4\n")
    assert bare.rows == ["x0", "x1"] and bare.columns == ["y0", "y1"] and bare.n == 10
    np.testing.assert_allclose(bare.p_xy, np.array([[1, 2], [3, 4]]) / 10)
    shares = read("a,b\n0.1,0.2\n0.3,0.4\n")
    assert shares.n is None and shares.columns == ["a", "b"]
    # Numbers as names: where their column has no heading, or where it is said.
    for text, options in ((",a,b\n1,1,2\n2,3,4\n", {}), ("id,a,b\n1,1,2\n2,3,4\n", {"row_names": "yes"})):
        named = read(text, **options)
        assert named.rows == ["1", "2"] and named.columns == ["a", "b"] and named.n == 10
    with pytest.warns(UserWarning, match="'id', numbers its rows, and is taken for counts"):
        assert read("id,a,b\n1,1,2\n2,3,4\n").columns == ["id", "a", "b"]
    with pytest.warns(UserWarning, match=r"The rows w of t.csv are all 0 and left out"):
        assert read("n,a,b\nu,1,2\nv,3,4\nw,0,0\n").rows == ["u", "v"]
    with pytest.warns(UserWarning, match=r"The columns b of t.csv are all 0"):
        assert read("n,a,b,c\nu,1,0,2\nv,3,0,4\n").columns == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n,a,b\nu,1,\nv,2,3\n", "row 'u', column 'b' holds ''. Write 0 where nothing was counted"),
        ("n,a,b\nu,1,-2\nv,2,3\n", "counts or probabilities, from 0 on; row 'u', column 'b' holds -2"),
        ("n,a,b\nu,1,nan\nv,2,3\n", "row 'u', column 'b' holds nan"),
        ("n,a,b\nu,0.5,0.2\nv,2,3\n", "probabilities, which sum to 1; they sum to 5.7"),
        ("n,a\nu,1\nv,2\n", "must have two rows and two columns"),
        ("n,a,b\n", "must have rows of numbers below its names"),
        ("", "cannot be read as CSV"),
        ("a,b\n1,2,3,4\n", "cannot be read as CSV"),
    ],
)
def test_bad_tables_get_one_line(text, message, tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert __main__.main(["bottleneck", str(path), f"--out={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_bad_options_get_one_line(table, tmp_path, capsys):
    given = ["bottleneck", str(table), f"--out={tmp_path / 'out'}"]
    for wrong, message in (
        (["--betas=-1"], "--betas must be positive"),
        (["--betas=1:2"], "--betas must be first:last:number"),
        (["--clusters=9"], "--clusters must be"),
    ):
        assert __main__.main([*given, *wrong]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert __main__.main(["bottleneck", str(tmp_path / "none.csv")]) == 2
    assert "PATH must be a .csv file" in capsys.readouterr().err


def test_an_index_taken_for_counts_is_said(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("bin,no,yes\n0,5,2\n1,3,9\n")
    with pytest.warns(UserWarning, match=r"first column of t\.csv, 'bin', numbers its rows.*--row-names yes"):
        assert bottleneck.read(path).columns == ["bin", "no", "yes"]
    assert bottleneck.read(path, "yes").rows == ["0", "1"]
    path.write_text("id|no|yes\na|5|2\nb|3|9\n")
    with pytest.raises(
        ValueError, match=r"must have columns of numbers, with commas, semicolons or tabulators between; .*'a\|5\|2'"
    ):
        bottleneck.read(path)


def test_tables_of_spreadsheets_are_read_as_the_plain_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,no,yes\na,0.5,0.2\nb,0.1,0.2\n")
    want = bottleneck.read(path)
    for text in (
        "id;no;yes\na;0.5;0.2\nb;0.1;0.2\n",
        "id;no;yes\na;0,5;0,2\nb;0,1;0,2\n",
        "id\tno\tyes\na\t0.5\t0.2\nb\t0.1\t0.2\n",
    ):
        path.write_text(text)
        got = bottleneck.read(path)
        assert (got.rows, got.columns) == (want.rows, want.columns) == (["a", "b"], ["no", "yes"])
        np.testing.assert_array_equal(got.p_xy, want.p_xy)
