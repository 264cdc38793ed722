"""The data sets: shapes, scales, splits, encodings, and every refusal."""

import builtins
import gzip
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from ntkinfo import datasets

SHARED = Path(__file__).parents[3] / "shared" / "data"
shared_mnist = pytest.mark.skipif(
    not (SHARED / "t10k-images-idx3-ubyte.gz").is_file(), reason="the MNIST test images are not in ../shared/data"
)


def rows(x):
    return {row.tobytes() for row in np.ascontiguousarray(x).reshape(len(x), -1)}


def write_idx(path, array):
    content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def images(n, seed=0, size=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, size, size), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for part, n, seed in (("train", 40, 1), ("t10k", 30, 2)):
        x, y = images(n, seed)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", x)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", y)
    return tmp_path


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write


def test_digits_have_the_shapes_the_scale_and_a_disjoint_split():
    data = datasets.digits(1000)
    assert data.x_train.shape == (1000, 64) and data.x_test.shape == (797, 64)
    assert data.y_train.shape == (1000, 1) and data.y_test.shape == (797, 1)
    assert data.x_train.dtype == data.y_train.dtype == np.float64
    np.testing.assert_allclose(data.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose((data.x_train**2).sum(1).mean() / 64, 1, rtol=1e-12)
    assert len(rows(data.x_train)) == 1000
    assert len(rows(data.x_train) | rows(data.x_test)) == 1797
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(data))


def test_digits_are_scikit_learns_up_to_one_shift_and_one_scale():
    from sklearn.datasets import load_digits

    raw = load_digits()
    data = datasets.digits(300, 200, task="classes", seed=3)
    order = np.random.default_rng(3).permutation(1797)
    x = raw.data[order]
    scale = np.sqrt(((x[:300] - x[:300].mean(0)[None]) ** 2).mean())
    np.testing.assert_allclose(data.x_test, (x[300:500] - x[:300].mean(0)[None]) / scale, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(data.labels_train, raw.target[order][:300])
    np.testing.assert_array_equal(data.labels_test, raw.target[order][300:500])
    assert data.classes == tuple("0123456789")


def test_the_three_tasks_agree_on_which_digit_a_row_is():
    sets = {task: datasets.digits(200, 50, task=task, seed=1) for task in ("parity", "classes", "regression")}
    digit = sets["classes"].labels_train
    np.testing.assert_array_equal(sets["parity"].y_train[:, 0], np.where(digit % 2 == 0, 1.0, -1.0))
    np.testing.assert_array_equal(sets["parity"].labels_train, digit % 2 == 0)
    assert sets["parity"].classes == ("odd", "even")
    np.testing.assert_allclose(sets["classes"].y_train, np.eye(10)[digit] - 0.1)
    np.testing.assert_allclose(sets["classes"].y_train.sum(1), 0, atol=1e-15)
    assert sets["regression"].labels_train is None and sets["regression"].classes is None
    np.testing.assert_allclose(sets["regression"].y_train[:, 0], (digit - digit.mean()) / digit.std())
    np.testing.assert_allclose(
        sets["regression"].y_test[:, 0], (sets["classes"].labels_test - digit.mean()) / digit.std()
    )


def test_a_seed_fixes_the_split_and_another_changes_it():
    first, again, other = datasets.digits(100, 50), datasets.digits(100, 50), datasets.digits(100, 50, seed=1)
    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.labels_train, other.labels_train)


def test_images_are_the_same_pixels_and_float32_the_same_numbers():
    flat, image = datasets.digits(50, 20), datasets.digits(50, 20, flat=False)
    assert image.x_train.shape == (50, 8, 8, 1)
    np.testing.assert_allclose(image.x_test.reshape(20, 64), flat.x_test, rtol=0, atol=1e-14)
    single = datasets.digits(50, 20, dtype="float32")
    assert single.x_train.dtype == single.x_test.dtype == single.y_train.dtype == single.y_test.dtype == np.float32
    np.testing.assert_allclose(single.x_train, flat.x_train, rtol=1e-6, atol=1e-6)


def test_a_dataset_is_a_pytree_with_its_names_as_metadata():
    data = datasets.digits(20, 10)
    halved = jax.tree.map(lambda leaf: leaf[:5], data)
    assert halved.x_test.shape == (5, 64) and halved.labels_train.shape == (5,)
    assert (halved.name, halved.task, halved.classes) == ("digits", "parity", ("odd", "even"))


def test_digits_without_scikit_learn_name_the_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        datasets.digits(10)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"task": "odd"}, ValueError, "`task` must be one of 'parity', 'binary', 'classes', 'regression'; got 'odd'"),
        ({"n_train": 1}, ValueError, "`n_train` must be at least 2; got 1"),
        ({"n_train": 10.0}, TypeError, "`n_train` must be an integer; got 10.0"),
        ({"n_train": None}, TypeError, "`n_train` must be an integer; got None"),
        ({"n_test": 0}, ValueError, "`n_test` must be at least 1; got 0"),
        ({"n_train": 1000, "n_test": 798}, ValueError, r"at most 1797, the distinct rows of digits; got 1000 \+ 798"),
        ({"n_train": 1797}, ValueError, "at most 1797"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"seed": 0.5}, TypeError, "`seed` must be an integer"),
        ({"dtype": int}, ValueError, "`dtype` must be float32 or float64; got the class int"),
        ({"dtype": "float"}, None, None),
        ({"dtype": "no such"}, ValueError, "`dtype` must be float32 or float64; got 'no such'"),
        ({"dtype": None}, ValueError, "`dtype` must be float32 or float64; got None"),
    ],
)
def test_digits_refuse_bad_options(given, error, message):
    if error is None:
        assert datasets.digits(10, 10, dtype="float").x_train.dtype == np.float64
        return
    with pytest.raises(error, match=message):
        datasets.digits(**given)


@pytest.mark.parametrize("information", [0.0, 0.447, 2.0])
def test_gaussian_has_the_stated_mutual_information(information):
    data = datasets.gaussian(20000, 50, dim=5, information=information)
    assert data.mutual_information == information
    a, *_ = np.linalg.lstsq(data.x_train, data.y_train)
    noise = data.y_train - data.x_train @ a
    # |a|² is estimated with standard error near 2 |a| / sqrt(n), the noise variance with sqrt(2 / n).
    truth = np.expm1(2 * information)
    assert abs((a**2).sum() - truth) < 5 * (2 * np.sqrt(truth) + 5 / np.sqrt(20000)) / np.sqrt(20000)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / 20000)
    np.testing.assert_allclose(np.cov(data.x_train.T), np.eye(5), atol=5 * np.sqrt(2 / 20000))


def test_gaussian_defaults_are_the_papers_and_train_differs_from_test():
    data = datasets.gaussian()
    assert data.x_train.shape == (2000, 30) and data.x_test.shape == (1000, 30) and data.y_test.shape == (1000, 1)
    assert data.task == "regression" and data.labels_train is None
    assert not rows(data.x_train) & rows(data.x_test)
    assert not np.array_equal(data.x_train, datasets.gaussian(seed=1).x_train)
    assert datasets.gaussian(5, 5, dtype=np.float32).y_train.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"information": -0.1}, ValueError, "`information` must be not negative and finite; got -0.1"),
        ({"information": np.nan}, ValueError, "`information` must be not negative"),
        ({"information": 400.0}, ValueError, "`information` must be at most 300 nats"),
        ({"dim": 0}, ValueError, "`dim` must be at least 1"),
        ({"n_train": 1}, ValueError, "`n_train` must be at least 2"),
        ({"n_test": 2.5}, TypeError, "`n_test` must be an integer"),
    ],
)
def test_gaussian_refuses_bad_options(given, error, message):
    with pytest.raises(error, match=message):
        datasets.gaussian(**given)


@shared_mnist
def test_mnist_test_images_alone_are_split_in_two():
    data = datasets.mnist(SHARED, 500, 300, task="classes", seed=2)
    assert data.x_train.shape == (500, 784) and data.x_test.shape == (300, 784) and data.y_test.shape == (300, 10)
    assert len(rows(data.x_train) | rows(data.x_test)) == 800
    np.testing.assert_allclose((data.x_train**2).sum(1).mean() / 784, 1, rtol=1e-12)
    # Independently read: the same rows of the raw file, in the order of the same permutation.
    order = np.random.default_rng(2).permutation(10000)[:500]
    with gzip.open(SHARED / "t10k-images-idx3-ubyte.gz") as file:
        raw = np.frombuffer(file.read()[16:], np.uint8).reshape(10000, 784)[order].astype(float)
    with gzip.open(SHARED / "t10k-labels-idx1-ubyte.gz") as file:
        np.testing.assert_array_equal(data.labels_train, np.frombuffer(file.read()[8:], np.uint8)[order])
    raw -= raw.mean(0)[None]
    np.testing.assert_allclose(data.x_train, raw / np.sqrt((raw**2).mean()), rtol=0, atol=1e-12)


def test_mnist_takes_train_and_test_from_their_own_files(folder):
    data = datasets.mnist(folder, 40, None, task="classes", flat=False)
    assert data.x_train.shape == (40, 3, 3, 1) and data.x_test.shape == (30, 3, 3, 1)
    x, y = images(30, 2)
    x = x[np.random.default_rng(0).permutation(30)].reshape(30, 9).astype(float)
    test = data.x_test.reshape(30, 9)
    # One shift of each pixel and one scale: differences of rows are proportional.
    ratio = (test[1:] - test[:1])[x[1:] != x[:1]] / (x[1:] - x[:1])[x[1:] != x[:1]]
    np.testing.assert_allclose(ratio, ratio[0])
    np.testing.assert_array_equal(data.labels_test, y[np.random.default_rng(0).permutation(30)])


def test_mnist_keeps_test_rows_out_of_the_training_rows(folder):
    x, _ = images(40, 1)
    write_idx(folder / "t10k-images-idx3-ubyte", np.concatenate([x[:5], images(25, 2)[0]]))
    assert datasets.mnist(folder, 40, None).x_test.shape == (25, 9)
    with pytest.raises(ValueError, match=r"at most 40 and 25, the distinct rows of mnist; got 40 and 26"):
        datasets.mnist(folder, 40, 26)


def test_mnist_refuses_missing_and_damaged_files(folder):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        datasets.mnist(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"must hold train-images-idx3-ubyte.*holds no such images"):
        datasets.mnist(folder / "empty")
    with pytest.raises(ValueError, match="`task` must be one of"):
        datasets.mnist(folder, task="digit")

    whole = (folder / "train-images-idx3-ubyte").read_bytes()
    for content, message in [
        (whole[:-1], r"must hold 40 x 3 x 3 bytes after its header, as that says; got 359\. It may be cut short"),
        (whole + b"0", "must hold 40 x 3 x 3 bytes after its header, as that says; got more"),
        (whole[:10], "is cut short: its header must have 16 bytes; got 10"),
        (b"\x00\x00\x08\x01" + whole[4:], r"magic number 00000803 \(IDX, bytes, rank 3\); got 00000801"),
        (b"", "got an empty file"),
        (whole[:4] + struct.pack(">3I", 0, 3, 3), r"must not be empty; got shape \(0, 3, 3\)"),
        (whole[:4] + struct.pack(">3I", 39, 3, 3) + whole[16:-9], "equally many rows; got 39 images and 40 labels"),
        (whole[:4] + struct.pack(">3I", 40, 9, 1) + whole[16:], "must be of one size"),
    ]:
        (folder / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            datasets.mnist(folder, 10, 10)
    (folder / "train-images-idx3-ubyte").write_bytes(whole)

    zipped = (folder / "train-labels-idx1-ubyte.gz").read_bytes()
    for content in (zipped[:-12], b"not gzip"):
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"labels-idx1-ubyte\.gz cannot be read"):
            datasets.mnist(folder, 10, 10)
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold train-labels-idx1-ubyte or train-labels-idx1-ubyte\.gz"):
        datasets.mnist(folder, 10, 10)


def test_npz_splits_one_pair_and_infers_the_task_from_the_dtype(save):
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (50, 4)), rng.normal(5, 1, 50)
    data = datasets.npz(save(x=x, y=y))
    assert data.name == "mine" and data.task == "regression"
    assert data.x_train.shape == (40, 4) and data.x_test.shape == (10, 4) and data.y_train.shape == (40, 1)
    order = rng = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(data.y_train[:, 0], y[order[:40]])  # left as they are
    np.testing.assert_allclose((data.x_train**2).mean(), 1)
    raw = datasets.npz(save(x=x, y=y), 10, 5, scale=False)
    np.testing.assert_array_equal(raw.x_test, x[order[10:15]])

    classes = datasets.npz(save(x=x, y=np.arange(50) % 3 + 7))
    assert classes.task == "classes" and classes.classes == ("7", "8", "9") and classes.y_train.shape == (40, 3)
    np.testing.assert_array_equal(classes.labels_train, order[:40] % 3)
    text = datasets.npz(save(x=x, y=np.array(["cat", "dog"])[np.arange(50) % 2]), task="parity")
    assert text.classes == ("cat", "dog")
    np.testing.assert_array_equal(text.y_train[:, 0], 2 * (order[:40] % 2) - 1)
    assert datasets.npz(save(x=x, y=np.arange(50) % 2 == 0)).classes == ("False", "True")
    column = datasets.npz(save(x=x, y=(np.arange(50.0) % 10)[:, None]), task="parity")
    np.testing.assert_array_equal(column.y_train[:, 0], np.where(order[:40] % 2 == 0, 1, -1))
    numbers = datasets.npz(save(x=x, y=np.arange(50)), task="regression")
    np.testing.assert_allclose([numbers.y_train.mean(), numbers.y_train.std()], [0, 1], atol=1e-12)
    assert datasets.npz(save(x=x, y=rng.reshape(25, 2)[np.arange(50) % 25] * 0.5)).y_train.shape == (40, 2)


def test_columns_of_a_table_have_scales_of_their_own(save):
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 2, (60, 4)), rng.normal(size=60)
    units = np.array([1e4, 1.0, 1e-4, 1e-9])
    plain, scaled = datasets.npz(save(x=x, y=y), 40, 20), datasets.npz(save(x=x * units + 1e-3, y=y), 40, 20)
    order = np.random.default_rng(0).permutation(60)
    train = x[order[:40]]
    for found in (plain, scaled):  # by the training rows alone
        np.testing.assert_allclose(found.x_train, (train - train.mean(0)) / train.std(0), atol=1e-7)
        np.testing.assert_allclose(found.x_test, (x[order[40:]] - train.mean(0)) / train.std(0), atol=1e-7)
    np.testing.assert_array_equal(datasets.npz(save(x=x, y=y), 40, 20, scale="columns").x_test, plain.x_test)
    with pytest.warns(UserWarning, match=r"deviations from .*e-09 to .*e\+04, and one scale .*scale='columns'"):
        one = datasets.npz(save(x=x * units, y=y), 40, 20, scale="global")
    np.testing.assert_allclose((one.x_train**2).mean(), 1)
    assert one.x_train[:, 2].std() < 1e-7
    datasets.npz(save(x=x * [1, 9, 1, 40], y=y), 40, 20, scale="global")  # spreads near enough
    # Scaled in the precision of the file: 1e-47 is 0 in float32.
    small = datasets.npz(save(x=x * [1, 1e-47, 1, 1], y=y), 40, 20, dtype=np.float32)
    np.testing.assert_allclose(small.x_train, plain.x_train, rtol=1e-5, atol=1e-6)


def test_pixels_have_one_scale(save):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    lit = rng.uniform(size=(40, 3, 3, 1)) < np.linspace(0.05, 1, 9).reshape(3, 3, 1)
    images = np.where(lit, rng.integers(1, 256, lit.shape), 0)
    flat = images.reshape(40, 9).astype(np.uint8)
    for x in (images, images.astype(float), flat):
        data = datasets.npz(save(x=x, y=y), 30, 10, flat=True)
        train = flat[np.random.default_rng(0).permutation(40)[:30]].astype(float)
        centred = train - train.mean(0)
        np.testing.assert_allclose(data.x_train, centred / np.sqrt((centred**2).mean()), rtol=0, atol=1e-12)
    # Channels in units of their own are told.
    two = np.concatenate([images, 1e-4 * rng.normal(size=images.shape)], axis=-1)
    with pytest.warns(UserWarning, match="scale='columns'"):
        datasets.npz(save(x=two, y=y), 30, 10)
    datasets.npz(save(x=two, y=y), 30, 10, scale="columns")


def test_columns_that_do_not_vary_are_zero(save):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    x[:, 1] = np.where(np.arange(20) % 2, 0.3, 0.1 + 0.2)  # by rounding alone
    arrays = {"x": x, "y": np.arange(20.0), "x_test": rng.normal(size=(5, 3)), "y_test": np.arange(5.0)}
    with pytest.warns(UserWarning, match=r"1 of 3 columns of `x`, the first of them 1, are constant in the training"):
        data = datasets.npz(save(**arrays))
    assert (data.x_train[:, 1] == 0).all() and (data.x_test[:, 1] == 0).all()
    np.testing.assert_allclose(data.x_train[:, ::2].std(0), 1)
    arrays["x_test"][:, 1] = 0.3
    assert (datasets.npz(save(**arrays)).x_test[:, 1] == 0).all()


def test_npz_keeps_a_given_split(save):
    rng = np.random.default_rng(1)
    arrays = {"x": rng.normal(size=(20, 2, 2, 1)), "y": np.arange(20) % 2}
    arrays |= {"x_test": rng.normal(size=(8, 2, 2, 1)), "y_test": np.arange(8) % 2}
    data = datasets.npz(save(**arrays), scale=False, seed=4)
    assert data.x_train.shape == (20, 2, 2, 1)
    assert rows(data.x_train) == rows(arrays["x"]) and rows(data.x_test) == rows(arrays["x_test"])
    for x, labels in ((data.x_train, data.labels_train), (data.x_test, data.labels_test)):
        for row, label in zip(x, labels, strict=True):
            source = "x" if row.tobytes() in rows(arrays["x"]) else "x_test"
            (where,) = np.flatnonzero((arrays[source] == row[None]).all((1, 2, 3)))
            assert label == where % 2
    assert datasets.npz(save(**arrays), flat=True).x_test.shape == (8, 4)


def test_npz_drops_rows_whose_inputs_repeat_and_says_so(save):
    x = np.arange(24.0).reshape(12, 2)
    x[3], x[4] = x[0], x[1]
    x[0, 0], x[3, 0] = 0.0, -0.0
    with pytest.warns(UserWarning, match=r"2 of 12 rows of mine were left out: their inputs repeat earlier rows"):
        data = datasets.npz(save(x=x, y=np.arange(12.0)), 5, 5, scale=False)
    assert not {3.0, 4.0} & set(data.y_train[:, 0]) | {3.0, 4.0} & set(data.y_test[:, 0])
    x[:, 0] = 1 + np.arange(12) * 1e-9
    x[:, 1] = np.arange(12) // 2
    with pytest.warns(UserWarning, match="6 of 12 rows"):
        datasets.npz(save(x=x, y=np.arange(12.0)), 3, 3, dtype=np.float32)
    with pytest.warns(UserWarning, match="2 of 20 rows"):
        x = np.arange(20.0)[:, None]
        y = np.arange(20.0)
        data = datasets.npz(save(x=x[:12], y=y[:12], x_test=x[10:18], y_test=y[10:18]), scale=False)
    assert data.x_test.shape == (6, 1) and data.x_train.shape == (12, 1)


X, Y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
NAN = np.where(np.arange(20).reshape(10, 2) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"x": X}, {}, "must hold arrays named x and y.*got x, without y"),
        ({"a": X}, {}, "got a, without x and y"),
        ({}, {}, "got none, without x and y"),
        ({"x": X, "y": Y, "x_test": X}, {}, "without y_test"),
        ({"x": X, "y": Y, "y_test": Y}, {}, "without x_test"),
        ({"x": Y, "y": Y}, {}, r"`x` in .* must have shape \(n, d\).*got shape \(10,\)"),
        (
            {"x": X, "y": np.ones((10, 1, 1))},
            {},
            r"`y` in .* must have shape \(n,\) or \(n, k\); got shape \(10, 1, 1\)",
        ),
        ({"x": X, "y": np.float64(1)}, {}, r"`y` in .* got shape \(\)"),
        ({"x": X, "y": Y[:9]}, {}, "`x` and `y` in .* must have equally many rows; got 10 and 9"),
        ({"x": X[:0], "y": Y[:0]}, {}, r"`x` in .* must not be empty; got shape \(0, 2\)"),
        ({"x": NAN, "y": Y}, {}, r"`x` in .* must be finite; got nan at index \(3, 1\)"),
        ({"x": X, "y": np.where(Y == 4, np.inf, Y)}, {}, r"`y` in .* must be finite; got inf at index \(4,\)"),
        ({"x": X * 1j, "y": Y}, {}, "`x` in .* must hold real numbers; got dtype complex128"),
        ({"x": X, "y": Y * 1j}, {}, "`y` in .* must hold real numbers or text; got dtype complex128"),
        ({"x": X, "y": np.array([None] * 10)}, {}, "must be an .npz file of plain arrays"),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, {}, "`x_test` must be like `x` but for its number of rows"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y.astype(int)}, {}, "`y_test` must be like `y`"),
        ({"x": X, "y": np.ones(10)}, {}, "must not be constant"),
        ({"x": X, "y": np.ones(10, int)}, {}, "`task` 'classes' needs at least two classes; got 1 alone"),
        (
            {"x": X, "y": np.ones(10, int)},
            {"task": "parity"},
            "`labels` under task 'parity' must be two classes.*got 1 classes: 1",
        ),
        (
            {"x": X, "y": 2 * np.arange(10)},
            {"task": "parity"},
            "some are even and some odd; got 10 classes: 0, 2, 4",
        ),
        ({"x": X, "y": Y / 3}, {"task": "parity"}, "`task` 'parity' needs whole numbers or text as labels"),
        ({"x": X, "y": Y / 3}, {"task": "classes"}, "`task` 'classes' needs whole numbers or text as labels"),
        ({"x": X, "y": X.astype(int)}, {}, r"`task` 'classes' needs one label for each row; got y of shape \(10, 2\)"),
        (
            {"x": X, "y": np.array(list("abcabcabca"))},
            {"task": "regression"},
            "`task` 'regression' needs numbers; got y of dtype",
        ),
        ({"x": X, "y": np.array(list("abcabcabca"))}, {"task": "parity"}, "got 3 classes: a, b, c"),
        (
            {"x": X, "y": Y},
            {"task": "other"},
            "`task` must be one of 'parity', 'binary', .*; got 'other'",
        ),
        ({"x": X, "y": Y}, {"n_train": 8, "n_test": 3}, r"at most 10, the distinct rows of mine; got 8 \+ 3"),
        ({"x": X * 1e300, "y": Y}, {"dtype": np.float32}, "`x` must fit into float32; got entries up to 1.9e.301"),
        ({"x": X, "y": Y * 1e300}, {"dtype": np.float32}, "`y` must fit into float32"),
        ({"x": X * 1e200, "y": Y}, {}, "be of a size whose square is a float64; got a spread of inf"),
        ({"x": X * 1e-200, "y": Y}, {}, "got a spread of 0.0"),
        ({"x": X * [1.0, 1e-200], "y": Y}, {}, "got a spread of 0.0"),
        ({"x": X * [1.0, 1e200], "y": Y}, {}, "got a spread of inf"),
        ({"x": X * 1e200, "y": Y}, {"scale": "global"}, "`x` must .*got a spread of inf"),
        ({"x": X, "y": Y}, {"scale": "rows"}, "`scale` must be one of 'auto', 'columns', 'global' or None; got 'rows'"),
    ],
)
def test_npz_refuses_bad_files(save, arrays, options, message):
    path = save(**arrays)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        datasets.npz(path, **options)


def test_npz_refuses_what_is_no_npz_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`path` must be an \.npz file; there is no file"):
        datasets.npz(tmp_path / "absent.npz")
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_text("")
    np.savez(tmp_path / "cut.npz", x=X, y=Y)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    for name in ("one.npy", "text.npz", "empty.npz", "cut.npz"):
        with pytest.raises(ValueError, match=rf"{name} must be an \.npz file of plain arrays"):
            datasets.npz(tmp_path / name)


def test_parity_and_one_hot_follow_their_conventions():
    np.testing.assert_array_equal(datasets.parity([0, 1, 2, 5]), [[1], [-1], [1], [-1]])
    np.testing.assert_array_equal(datasets.parity([0, 1, 1]), [[-1], [1], [1]])
    np.testing.assert_array_equal(datasets.parity([-1, 1]), [[-1], [1]])
    assert datasets.parity([0, 1], dtype=np.float32).dtype == np.float32
    np.testing.assert_allclose(datasets.one_hot([1, 0], 4), [[-0.25, 0.75, -0.25, -0.25], [0.75, -0.25, -0.25, -0.25]])
    np.testing.assert_array_equal(datasets.one_hot([1, 0, 2], centred=False), np.eye(3)[[1, 0, 2]])
    assert datasets.one_hot([0, 1], dtype=np.float32).dtype == np.float32
    for labels, error, message in [
        ([0, 4], ValueError, "`labels` must be integers from 0 to n_classes - 1 = 3; got 0 to 4"),
        ([-1, 0], ValueError, "got -1 to 0"),
        ([0.0, 1.0], TypeError, "`labels` must be integers .* got dtype float64"),
        ([[0, 1]], ValueError, r"`labels` must be a vector \(m,\), not empty; got shape \(1, 2\)"),
    ]:
        with pytest.raises(error, match=message):
            datasets.one_hot(labels, 4)


def test_subsample_gives_disjoint_rows_of_one_permutation():
    a, b = datasets.subsample(10, (3, 7), seed=5)
    assert sorted(np.concatenate([a, b])) == list(range(10))
    np.testing.assert_array_equal(a, datasets.subsample(10, (3,), seed=5)[0])
    assert not np.array_equal(a, datasets.subsample(10, (3,), seed=6)[0])
    with pytest.raises(ValueError, match=r"`sizes` must sum to at most n = 10, the rows there are; got 8 \+ 3"):
        datasets.subsample(10, (8, 3))


def write_cifar(folder, n=20):
    """Records of CIFAR-10's binary version; the red channel of the first picture is its row number."""
    for name, count in (("data_batch_1.bin", n), ("data_batch_2.bin", n), ("test_batch.bin", 10)):
        records = np.random.default_rng(len(name) + count).integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / name).write_bytes(records.tobytes())
    return folder


def test_cifar10_reads_the_binary_version(tmp_path):
    first = np.zeros((1, 3073), np.uint8)
    first[0, 0], first[0, 1:1025], first[0, 1025:2049] = 9, np.repeat(np.arange(32), 32), 7
    write_cifar(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(first.tobytes() * 1)
    from ntkinfo.datasets import _files

    (x, y), test = _files.cifar10(tmp_path)
    assert x.shape == (21, 32, 32, 3) and len(test[0]) == 10
    # Records hold red, green and blue one after the other, each by rows.
    assert y[0] == 9 and (x[0, 5, :, 0] == 5).all() and (x[0, :, :, 1] == 7).all() and (x[0, :, :, 2] == 0).all()
    data = datasets.cifar10(tmp_path, 16, 8, flat=False)
    assert data.x_train.shape == (16, 32, 32, 3) and data.y_train.shape == (16, len(data.classes))
    assert set(data.classes) <= {
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    }
    assert data.name == "cifar10"


def test_cifar10_refuses_pickles_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`folder` must hold data_batch_1\.bin"):
        datasets.cifar10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"a pickle")
    with pytest.raises(ValueError, match=r"pickles are not read: .* Take cifar-10-binary\.tar\.gz"):
        datasets.cifar10(tmp_path)
    write_cifar(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"12345")
    with pytest.raises(ValueError, match="must hold records of 3073 bytes; got 5 bytes"):
        datasets.cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes([10]) * 3073)
    with pytest.raises(ValueError, match="must hold labels from 0 to 9; got 10"):
        datasets.cifar10(tmp_path)


def test_fashion_mnist_names_its_garments(tmp_path, monkeypatch):
    from tests.fuzz.calls import _mnist

    folder = _mnist()
    data = datasets.fashion_mnist(folder, 12, 6)
    assert data.name == "fashion_mnist" and data.task == "classes" and data.classes[0] == "T-shirt"
    assert datasets.mnist(folder, 12, 6, task="classes").classes[0] == "0"
    assert datasets.fashion_mnist(folder, 12, 6, task="parity").y_train.shape == (12, 1)
    monkeypatch.setattr("ntkinfo.datasets._sources._FASHION_FOLDER", tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="Install Debian's package dataset-fashion-mnist, or pass the folder"):
        datasets.fashion_mnist()
