"""Files that claim or unpack to more than they should are refused before room is made for them."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from ntkinfo import datasets
from ntkinfo._common import memory, npz
from ntkinfo._common.checkpoint import Checkpoint


def header(shape, dtype="<f8"):
    """The header of a `.npy` file."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def peak(call):
    tracemalloc.start()
    try:
        call()
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
        np.arange(5, dtype=">f4"),
        np.array("text"),
        np.array(["a", "bcd"]),
        np.zeros((0, 3)),
        np.array(True),
        np.arange(6, dtype=np.complex64).reshape(1, 2, 3),
        np.zeros(2**18 + 3),
    ],
)
def test_it_reads_what_numpy_writes(tmp_path, save, array):
    save(tmp_path / "a.npz", one=array, two=np.ones(2))
    names, read = npz.load(tmp_path / "a.npz")
    assert names == ["one", "two"]
    np.testing.assert_array_equal(read["one"], array)
    assert read["one"].dtype == array.dtype and read["one"].shape == array.shape
    assert list(npz.load(tmp_path / "a.npz", ["two", "three"])[1]) == ["two"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((2**31,)) + bytes(800), r"claims 17\.2 GB; it holds 800 bytes"),
        (header((2**40, 2**40)) + bytes(8), "claims .* TB; it holds 8 bytes"),
        (header((10,)) + bytes(88), "claims 80 bytes; it holds 88 bytes"),
        (header((2,), "|O") + bytes(16), "no plain array"),
        (header((-1, -1)) + bytes(8), "no plain array"),
        (b"hello", "no header of a plain array"),
        (b"", "no header of a plain array"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(50), "no header of a plain array"),
        (b"\x93NUMPY\x03\x00" + struct.pack("<I", 20) + bytes(50), "no header of a plain array"),
    ],
)
def test_headers_that_do_not_fit_are_refused_at_once(tmp_path, content, message):
    path = archive(tmp_path / "a.npz", x=content, y=header((2,)) + bytes(16))

    def read():
        with pytest.raises(ValueError, match=message):
            npz.load(path)

    assert peak(read) < 2**20
    # What is not asked for is not looked at.
    assert list(npz.load(path, ["y"])[1]) == ["y"]
    with pytest.raises(ValueError, match=r"must be an \.npz file of plain arrays"):
        datasets.npz(path)


def test_a_bomb_that_keeps_to_its_header_is_refused_by_its_size(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.npz", x=header((2**24,)) + bytes(2**27), y=header((2,)) + bytes(16))
    assert path.stat().st_size < 2**18
    monkeypatch.setattr(memory, "available", lambda: 2**26)

    def read():
        with pytest.raises(
            ValueError, match=r"x of shape \(16777216,\) needs about 134 MB of memory; 67\.1 MB are free"
        ):
            datasets.npz(path)

    assert peak(read) < 2**22


@pytest.mark.parametrize("cut", [slice(0, 200), slice(0, -40), slice(30, None)])
def test_damaged_files_have_an_error_of_one_kind(tmp_path, cut):
    path = archive(tmp_path / "a.npz", x=header((20,)) + np.random.default_rng(0).bytes(160))
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(ValueError):
        npz.load(path)


def test_every_byte_may_be_wrong(tmp_path):
    good = archive(tmp_path / "a.npz", x=header((5, 2)) + np.random.default_rng(0).bytes(80)).read_bytes()
    refused = 0
    for i in range(0, len(good), 3):
        (tmp_path / "b.npz").write_bytes(good[:i] + bytes([good[i] ^ 0xFF]) + good[i + 1 :])
        try:
            npz.load(tmp_path / "b.npz")
        except ValueError:
            refused += 1
    assert refused > len(good) / 6


def idx(path, shape, data):
    content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + data
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((16, 8, 8), 2**26, "16 x 8 x 8 bytes after its header, as that says; got more"),
        ((2**18, 8, 8), 640, "262144 x 8 x 8 bytes after its header, as that says; got 640"),
        ((2**32 - 1,) * 3, 640, r"needs about .* TB of memory; .* are free"),
    ],
)
def test_idx_files_are_read_as_far_as_their_header_says(tmp_path, suffix, shape, size, message):
    idx(tmp_path / f"train-images-idx3-ubyte{suffix}", shape, bytes(size))
    idx(tmp_path / f"train-labels-idx1-ubyte{suffix}", (16,), bytes(16))

    def read():
        with pytest.raises(ValueError, match=message):
            datasets.mnist(tmp_path)

    assert peak(read) < 2**22


def test_checkpoints_are_read_in_the_same_way(tmp_path):
    folder = Checkpoint(tmp_path, {"a": "b"})
    folder.save("part", {"x": np.arange(3.0)})
    np.testing.assert_array_equal(folder.load("part")["x"], np.arange(3.0))
    archive(tmp_path / "part.npz", x=header((2**40,)) + bytes(8))
    with pytest.raises(ValueError, match=r"damaged file.*claims .* TB"):
        folder.load("part")
