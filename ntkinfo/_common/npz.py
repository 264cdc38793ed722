"""Arrays of `.npz` files: what the headers claim is checked before anything is made room for or unpacked."""

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from ntkinfo._common import memory

# A header says dtype and shape; NumPy's own are below 200 bytes.
_LONGEST_HEADER = 10_000
_CHUNK = 2**20
# How `zipfile` says so, by what is damaged.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, struct.error)


def load(path: str | os.PathLike, names: Collection[str] | None = None) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays of an `.npz` file, and those arrays of it that are asked for (None for all).

    Raises:
      OSError: a file that cannot be opened.
      ValueError: no `.npz` file of plain arrays, a damaged one, one whose headers claim what it does not hold, or more
        than memory holds.
    """
    # Opened here: of a damaged file `zipfile` would leave its own handle open.
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                wanted = members if names is None else [name for name in names if name in members]
                return list(members), {name: _member(archive, name, members[name]) for name in wanted}
        except _DAMAGED as error:
            raise ValueError(str(error) or "it is cut short") from error
        except MemoryError as error:
            raise ValueError("it holds more than memory does") from error


def _member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        shape, in_columns, dtype, header = _header(name, file)
        claimed, held = math.prod(shape) * dtype.itemsize, info.file_size - header
        if claimed != held:
            raise ValueError(f"the header of {name} claims {memory.readable(claimed)}; it holds {held} bytes")
        memory.require(f"{name} of shape {shape}", claimed, "Keep fewer rows, or a smaller dtype.")
        array = np.empty(math.prod(shape), dtype)
        if claimed:
            _fill(name, file, memoryview(array.view(np.uint8)))
        # One byte more is read, so that what follows is seen, and the checksum compared.
        if file.read(1):
            raise ValueError(f"{name} goes on after the {claimed} bytes that its header claims")
        return array.reshape(shape, order="F" if in_columns else "C")


def _header(name, file) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether columns come first, dtype, and the length of the header itself."""
    try:
        version = np.lib.format.read_magic(file)
        prefix = file.read(2 if version == (1, 0) else 4)
        length = struct.unpack("<H" if version == (1, 0) else "<I", prefix)[0]
        if version not in ((1, 0), (2, 0)) or length > _LONGEST_HEADER:
            raise ValueError
        text = io.BytesIO(prefix + file.read(length))
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(text)
    except (ValueError, struct.error) as error:
        raise ValueError(f"{name} has no header of a plain array") from error
    if dtype.hasobject or any(size < 0 for size in shape):
        raise ValueError(f"{name} is no plain array: dtype {dtype}, shape {shape}")
    return shape, in_columns, dtype, np.lib.format.MAGIC_LEN + len(prefix) + length


def _fill(name, file: IO[bytes], room: memoryview) -> None:
    done = 0
    while done < len(room):
        part = file.read(min(_CHUNK, len(room) - done))
        if not part:
            raise ValueError(f"{name} is cut short: {len(room)} bytes are claimed; it holds {done}")
        room[done : done + len(part)] = part
        done += len(part)


def read_at_most(file: Any, n: int) -> bytearray:
    """At most n bytes of an open file, in pieces: room is made for what is there, not for what is claimed."""
    content = bytearray()
    while len(content) < n:
        part = file.read(min(_CHUNK, n - len(content)))
        if not part:
            break
        content += part
    return content
