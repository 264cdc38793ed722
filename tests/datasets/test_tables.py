"""Arrays, DataFrames and CSV files of one's own: the same numbers by every way in, and every refusal."""

import jax
import numpy as np
import pandas as pd
import pytest

from ntkinfo import __main__, datasets

N = 40


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    size = rng.normal(size=N)
    return pd.DataFrame(
        {
            "size": size,
            "age": rng.integers(1, 90, N),
            "smokes": rng.random(N) < 0.5,
            "price": 2 * size + 1,
            "kind": np.where(size > 0, "large", "small"),
            "grade": np.array(["a", "b", "c"])[rng.integers(0, 3, N)],
        }
    )


INPUTS = ["size", "age", "smokes"]


def same(a, b):
    for field in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-12, atol=1e-12)
    assert (a.task, a.classes) == (b.task, b.classes)


def test_every_way_in_gives_the_same(frame, tmp_path):
    x = frame[INPUTS].to_numpy(float)
    want = datasets.from_arrays(x, frame["kind"].to_numpy(str), n_train=30)
    assert want.y_train.shape == (30, 1) and want.task == "binary" and want.classes == ("large", "small")
    assert set(np.unique(want.y_train)) == {-1.0, 1.0}
    # "small" comes after "large".
    np.testing.assert_array_equal(want.y_train[:, 0] > 0, want.labels_train == 1)
    np.testing.assert_allclose(want.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(want.x_train.std(0), 1, rtol=1e-12)
    same(datasets.from_arrays(frame[INPUTS], frame["kind"], n_train=30), want)
    same(datasets.from_arrays(frame[INPUTS], frame["kind"].astype("category"), n_train=30), want)
    same(datasets.from_arrays(x.tolist(), frame["kind"].tolist(), n_train=30), want)
    same(datasets.from_arrays(frame[INPUTS].convert_dtypes(), frame["kind"].convert_dtypes(), n_train=30), want)
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    same(datasets.csv(path, "kind", n_train=30, columns=INPUTS), want)
    frame[[*INPUTS, "kind"]].to_csv(path, index=False, sep=";")
    got = datasets.csv(str(path), "kind", n_train=30, sep=";")
    same(got, want)
    assert got.name == "mine"


def test_the_task_is_that_of_the_labels(frame):
    x = frame[INPUTS]
    regression = datasets.from_arrays(x, frame["price"])
    assert regression.task == "regression" and regression.labels_train is None
    rows = {tuple(row) for row in frame[["price"]].to_numpy()}
    assert {tuple(row) for row in regression.y_train} <= rows
    three = datasets.from_arrays(x, frame["grade"])
    assert three.task == "classes" and three.y_train.shape == (32, 3) and three.classes == ("a", "b", "c")
    np.testing.assert_allclose(three.y_train.sum(1), 0, atol=1e-15)
    for y in (frame["smokes"], frame["smokes"].astype(int), frame["smokes"].to_numpy()[:, None]):
        data = datasets.from_arrays(x, y)
        assert data.task == "binary" and data.y_train.shape == (32, 1)
    assert datasets.from_arrays(x, frame["smokes"], task="classes").y_train.shape == (32, 2)
    several = datasets.from_arrays(x, frame[["price", "size"]])
    assert several.task == "regression" and several.y_train.shape == (32, 2)


def test_a_test_set_of_ones_own(frame):
    x, y = frame[INPUTS], frame["price"]
    data = datasets.from_arrays(x[:25], y[:25], x_test=x[25:], y_test=y[25:], scale=None)
    assert data.x_train.shape == (25, 3) and data.x_test.shape == (15, 3)
    assert {tuple(row) for row in data.x_test} == {tuple(row) for row in x[25:].to_numpy(float)}
    with pytest.raises(ValueError, match="`y_test` must be given with its partner"):
        datasets.from_arrays(x, y, x_test=x)
    with pytest.raises(ValueError, match="`x_test` must have the columns of `x` in their order, size, age, smokes"):
        datasets.from_arrays(x, y, x_test=x[["age", "size", "smokes"]], y_test=y)
    with pytest.raises(ValueError, match="`x_test` must be like `x`"):
        datasets.from_arrays(x.to_numpy(float), y, x_test=np.ones((3, 2)), y_test=y[:3])
    with pytest.raises(ValueError, match="`y_test` must be like `y`"):
        datasets.from_arrays(x[:25], y[:25], x_test=x[25:], y_test=frame["kind"][25:])


def broken(frame, column, value):
    frame = frame.astype({column: object})
    frame.loc[3, column] = value
    return frame


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: datasets.from_arrays(f, f["price"]), TypeError, r"other kinds: kind \(.*\), grade \(.*\)\. Encode"),
        (
            lambda f: datasets.from_arrays(f[INPUTS].astype(float).mask(f["age"] > 60), f["price"]),
            ValueError,
            r"`x` must have no missing values; got some in 'size' \(\d+\), 'age'",
        ),
        (
            lambda f: datasets.from_arrays(f[INPUTS], f["price"].mask(f["age"] > 60)),
            ValueError,
            "`y` must have no missing values; got ",
        ),
        (
            lambda f: datasets.from_arrays(f[INPUTS], broken(f, "kind", None)["kind"]),
            ValueError,
            "`y` must have no missing values; got 1",
        ),
        (lambda f: datasets.from_arrays(f[INPUTS], broken(f, "kind", 3)["kind"]), TypeError, "objects of type int, s"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["price"][:5]), ValueError, "equally many rows; got 40 and 5"),
        (lambda f: datasets.from_arrays(f["size"], f["price"]), ValueError, r"`x` must have shape \(n, d\)"),
        (lambda f: datasets.from_arrays(np.full((N, 2), np.inf), f["price"]), ValueError, "`x` must be finite; got"),
        (lambda f: datasets.from_arrays(np.ones((N, 2)) * 1j, f["price"]), TypeError, "`x` must hold real numbers"),
        (lambda f: datasets.from_arrays(f[INPUTS], ["yes"] * N), ValueError, "at least two classes; got yes alone"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["grade"], task="binary"), ValueError, "needs two classes; got 3"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["kind"], task="regression"), ValueError, "needs numbers"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["price"], task="two"), ValueError, "`task` must be one of"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["price"], n_train=50), ValueError, "`n_train` \\+ `n_test`"),
        (lambda f: datasets.from_arrays(f[INPUTS] * 0, f["price"]), ValueError, "three rows that differ"),
        (lambda f: datasets.from_arrays(f[INPUTS], f["price"], name=3), TypeError, "`name` must be text; got 3"),
        (lambda f: datasets.from_arrays([[1, 2], [3]], [1.0, 2.0]), ValueError, "`x` must be an array; got list"),
        (lambda f: datasets.from_arrays(f[INPUTS], [object()] * N), TypeError, "got objects of type object"),
        (
            lambda f: jax.jit(lambda y: datasets.from_arrays(f[INPUTS], y))(f["price"].to_numpy()),
            TypeError,
            "`y` is being traced",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(frame, call, error, message):
    with pytest.raises(error, match=message):
        call(frame)


def test_files_that_do_not_fit_are_named(frame, tmp_path):
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"`target` must be one of the columns of mine\.csv, size, .*; got 'cost'"):
        datasets.csv(path, "cost")
    with pytest.raises(TypeError, match="`target` must be a name of a column or a list of them; got 3"):
        datasets.csv(path, 3)
    with pytest.raises(ValueError, match="`columns` must leave out the target; got \\['price'\\]"):
        datasets.csv(path, "price", columns=["price", "age"])
    with pytest.raises(TypeError, match=r"columns of other kinds: kind \('.*'\), grade \('[abc]'\)\. Leave them"):
        datasets.csv(path, "price")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        datasets.csv(tmp_path / "other.csv", "price")
    frame[["price"]].to_csv(path, index=False)
    with pytest.raises(ValueError, match="must have columns besides the target price"):
        datasets.csv(path, "price")
    path.write_text("price,age\n")
    with pytest.raises(ValueError, match="must have rows below its line of names"):
        datasets.csv(path, "price")
    path.write_text("price,age\n1.0,2\n2.0,?\n3.0,4\n")
    with pytest.raises(TypeError, match=r"other kinds: age \('\?'\).*`na_values"):
        datasets.csv(path, "price")
    path.write_text("price|age\n1.0|2\n")
    with pytest.raises(ValueError, match=r"columns of mine.csv, price\|age; got 'price'. One column alone"):
        datasets.csv(path, "price")
    path.write_bytes("größe,age\n1.0,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r'cannot be read as CSV: .*Pass its encoding, such as encoding="latin-1"'):
        datasets.csv(path, "age")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        datasets.csv(path, "price")
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        datasets.csv(path, "price")


def test_columns_of_different_units_are_told(frame):
    frame["metres"] = frame["size"] * 1e6
    with pytest.warns(UserWarning, match="standard deviations from"):
        datasets.from_arrays(frame[["size", "metres"]], frame["price"], scale="global")


def test_the_command_line_reads_a_table(frame, tmp_path, keep_settings, capsys, monkeypatch):
    # Its figures, most of the time, are drawn in the tests of the command line.
    def empty(self, file, **_):
        return file.write(b"") if hasattr(file, "write") else file.write_bytes(b"")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", empty)
    path = tmp_path / "mine.csv"
    frame[[*INPUTS, "kind"]].to_csv(path, index=False)
    given = [f"--data={path}", "--n-train=30", "--depth=1", "--times=0,10", f"--out={tmp_path / 'out'}"]
    assert __main__.main([*given, "--target=kind"]) == 0
    assert "mine" in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    for wrong, message in ((given, "--target must name"), ([*given, "--target=cost"], "--target must be one of")):
        assert __main__.main(wrong) != 0
        assert message in capsys.readouterr().err


def test_files_of_spreadsheets_are_read_as_the_plain_one(frame, tmp_path):
    table = frame[["size", "age", "kind"]]
    path = tmp_path / "mine.csv"
    table.to_csv(path, index=False)
    want = datasets.csv(path, "kind", n_train=30)
    for options in (dict(sep=";"), dict(sep=";", decimal=","), dict(sep="\t"), dict(encoding="utf-8-sig")):
        table.to_csv(path, index=False, **options)
        same(datasets.csv(path, "kind", n_train=30), want)
    table.to_csv(path, index=False)
    path.write_text(path.read_text().replace(",", ", "))
    same(datasets.csv(path, "kind", n_train=30), want)
    table.to_csv(path)
    with pytest.warns(UserWarning, match=r"first column of mine\.csv has no name and numbers the rows; it is left out"):
        same(datasets.csv(path, "kind", n_train=30), want)
    assert datasets.csv(path, "kind", n_train=30, columns=["Unnamed: 0", "size"]).x_train.shape == (30, 2)
    # A column without a name that numbers nothing is a feature.
    table.rename(columns={"size": ""}).to_csv(path, index=False)
    same(datasets.csv(path, "kind", n_train=30), want)


def test_sparse_columns_are_columns(frame):
    x = frame[INPUTS]
    sparse = pd.DataFrame({name: pd.arrays.SparseArray(x[name].to_numpy()) for name in x})
    same(datasets.from_arrays(sparse, frame["kind"], n_train=30), datasets.from_arrays(x, frame["kind"], n_train=30))


def test_rows_in_another_order_are_not_paired(frame):
    x, y = frame[INPUTS], frame["kind"].sample(frac=1.0, random_state=0)
    with pytest.raises(ValueError, match=r"`y` must have its rows in the order of `x`; .*`y.loc\[x.index\]`"):
        datasets.from_arrays(x, y)
    with pytest.raises(ValueError, match="`y_test` must have its rows in the order of `x_test`"):
        datasets.from_arrays(x, frame["kind"], x_test=x[:20], y_test=frame["kind"][:20][::-1])
    # By position where the index says nothing of the order.
    datasets.from_arrays(x.iloc[10:], frame["kind"].iloc[10:].reset_index(drop=True), n_train=20)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (lambda x: x[[]], ValueError, r"`x` must have columns; got a table of shape \(40, 0\)"),
        (lambda x: x.astype(object), TypeError, r"other kinds: size, age, smokes.*converted by `x.astype\(float\)`"),
        (lambda x: pd.DataFrame(x.to_numpy(float), columns=["a", "a", "b"]).mask(np.arange(120).reshape(40, 3) < 3),
         ValueError, r"missing values; got some in 'a' \(1\), 'a' \(1\), 'b' \(1\)"),
    ],
)  # fmt: skip
def test_odd_tables_are_refused_by_name(frame, x, error, message):
    with pytest.raises(error, match=message):
        datasets.from_arrays(x(frame[INPUTS]), frame["kind"])


def test_numbers_as_text_are_told(frame):
    with pytest.warns(UserWarning, match=r"`y` holds numbers as text, such as '.*', .*names of 40 classes"):
        datasets.from_arrays(frame[INPUTS], frame["price"].astype(str))
