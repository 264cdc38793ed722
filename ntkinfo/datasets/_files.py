"""Data files as checked NumPy arrays: MNIST's IDX format and `.npz`. What is done with them is in `datasets`.

Both readers return `((x, y), test)`, where `test` is a second such pair or None.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ntkinfo._common import memory
from ntkinfo._common import npz as stored_arrays
from ntkinfo.datasets._pairs import check_pair, refuse_unlike


def mnist(folder: Path):
    """Images (n, h, w, 1) and labels (n,), unsigned bytes, of the training pair and of the test pair where both exist.

    Raises:
      FileNotFoundError: no folder, no images in it, or images without labels.
      ValueError: a file that is not IDX, is cut short or does not fit its partner.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be a folder with MNIST's IDX files; {folder} is not a folder.")
    found = [pair for pair in (_idx_pair(folder, part) for part in ("train", "t10k")) if pair is not None]
    if not found:
        raise FileNotFoundError(
            f"{folder} must hold train-images-idx3-ubyte and train-labels-idx1-ubyte, or the same with t10k- in place "
            "of train- (each with .gz or without); it holds no such images."
        )
    if len(found) == 2 and found[0][0].shape[1:] != found[1][0].shape[1:]:
        shapes = " and ".join(str(x.shape) for x, _ in found)
        raise ValueError(f"The train and t10k images in {folder} must be of one size; got {shapes}.")
    return found[0], (found[1] if len(found) == 2 else None)


# A record of CIFAR-10's binary version: a label, then red, green and blue of 32 x 32 pixels.
_CIFAR = 1 + 3 * 32 * 32
_CIFAR_PARTS = tuple(f"data_batch_{i}.bin" for i in range(1, 6))


def cifar10(folder: Path):
    """Images (n, 32, 32, 3) and labels (n,), unsigned bytes, of the training batches and of the test batch.

    Raises:
      FileNotFoundError: no folder, or no batches of the binary version in it.
      ValueError: pickles in the place of binary files, a file that is cut short or holds labels above 9.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be a folder with CIFAR-10's binary files; {folder} is not a folder.")
    if (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    train = [folder / name for name in _CIFAR_PARTS if (folder / name).is_file()]
    if not train:
        places = (folder, folder / "cifar-10-batches-py")
        if any((place / "data_batch_1").is_file() for place in places):
            raise ValueError(
                f"`folder` must hold CIFAR-10's binary version; {folder} holds its Python version. Its pickles "
                "are not read: they can run any program. Take cifar-10-binary.tar.gz of the same page."
            )
        raise FileNotFoundError(
            f"`folder` must hold data_batch_1.bin and so on, CIFAR-10's binary version; {folder} does not."
        )
    test = folder / "test_batch.bin"
    parts = [_cifar_part(path) for path in train]
    first = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return first, (_cifar_part(test) if test.is_file() else None)


def _cifar_part(path: Path):
    size = path.stat().st_size
    if not size or size % _CIFAR:
        raise ValueError(f"{path} must hold records of {_CIFAR} bytes; got {size} bytes. It may be cut short.")
    memory.require(f"{path} of {size} bytes", 2 * size, "Take a part of the data.")
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, _CIFAR)
    labels, images = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if labels.max() > 9:
        raise ValueError(f"{path} must hold labels from 0 to 9; got {labels.max()}. It is no batch of CIFAR-10.")
    return images, labels


def npz(path: Path):
    """The arrays x, y and perhaps x_test, y_test of an `.npz` file, as stored.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an `.npz` file, or an array missing, of a wrong rank, size or dtype, with NaN or infinite entries.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be an .npz file; there is no file {path}.")
    try:
        names, arrays = stored_arrays.load(path, ("x", "y", "x_test", "y_test"))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} must be an .npz file of plain arrays, as `numpy.savez(path, x=x, y=y)` writes it; got: {error}"
        ) from error
    missing = [key for key in ("x", "y") if key not in arrays]
    if ("x_test" in arrays) != ("y_test" in arrays):
        missing.append("y_test" if "x_test" in arrays else "x_test")
    if missing:
        raise ValueError(
            f"{path} must hold arrays named x and y, and x_test with y_test or neither; got "
            f"{', '.join(names) or 'none'}, without {' and '.join(missing)}."
        )
    suffixes = ("", "_test") if "x_test" in arrays else ("",)
    place = f" in {path}"
    for suffix in suffixes:
        for name, kinds in (("x" + suffix, "fiub"), ("y" + suffix, "fiubU")):
            if arrays[name].dtype.kind not in kinds:
                raise ValueError(
                    f"`{name}`{place} must hold real numbers{' or text' if 'U' in kinds else ''}; got dtype "
                    f"{arrays[name].dtype}."
                )
        check_pair("x" + suffix, arrays["x" + suffix], "y" + suffix, arrays["y" + suffix], place)
    for key in ("x", "y") if len(suffixes) == 2 else ():
        test, train = arrays[key + "_test"], arrays[key]
        if test.shape[1:] != train.shape[1:] or test.dtype.kind != train.dtype.kind:
            refuse_unlike(key, test, train, place)
    pairs = [(arrays["x" + suffix], arrays["y" + suffix]) for suffix in suffixes]
    return pairs[0], (pairs[1] if len(pairs) == 2 else None)


def _idx_pair(folder: Path, part: str):
    """Images (n, h, w, 1) and labels (n,) of one part, or None where it has no images."""
    paths = []
    for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
        found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not found and not paths:
            return None
        if not found:
            raise FileNotFoundError(f"{folder} must hold {name} or {name}.gz beside {paths[0].name}; it does not.")
        paths.append(found[0])
    images, labels = _idx(paths[0], rank=3), _idx(paths[1], rank=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{paths[0]} and {paths[1].name} must have equally many rows; got {len(images)} images and "
            f"{len(labels)} labels."
        )
    return images[..., None], labels


def _idx(path: Path, rank: int) -> np.ndarray:
    """The unsigned bytes of an IDX file: magic number 0x000008RR, RR sizes of four big-endian bytes, then the data."""
    start = 4 + 4 * rank
    magic = bytes((0, 0, 8, rank))
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            header = file.read(start)
            if header[:4] != magic:
                raise ValueError(
                    f"{path} must begin with the magic number {magic.hex()} (IDX, bytes, rank {rank}); got "
                    f"{header[:4].hex() or 'an empty file'}."
                )
            if len(header) < start:
                raise ValueError(f"{path} is cut short: its header must have {start} bytes; got {len(header)}.")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", rank, 4))
            size = math.prod(shape)
            memory.require(f"{path} of {' x '.join(map(str, shape))} bytes", size, "Take a part of the data.")
            # One byte more than the header says, never all that a small file may unpack to.
            content = stored_arrays.read_at_most(file, size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read, it may be cut short or not gzipped: {error}") from error
    if len(content) != size:
        raise ValueError(
            f"{path} must hold {' x '.join(map(str, shape))} bytes after its header, as that says; got "
            f"{'more' if len(content) > size else len(content)}. It may be cut short: fetch it again."
        )
    if 0 in shape:
        raise ValueError(f"{path} must not be empty; got shape {shape}.")
    return np.frombuffer(content, np.uint8).reshape(shape)
