"""Rows of stored kernels in a folder, written as they are evaluated: read again by any number of processes.

A file holds the rows that its name says, whatever device evaluated them; the folder's arguments are the manifest, of
which kernel and inputs they are.
"""

import re
from collections.abc import Callable

import numpy as np

from ntkinfo._common.checkpoint import Checkpoint

_FILE = re.compile(r"rows_(?P<start>\d+)_(?P<stop>\d+)\.npz")
_FIXED = "diagonals"


class RowShards:
    """Files `rows_START_STOP.npz` of one or two kernels (n, n) less their mean, with zeros on the diagonal.

    Args:
      folder: the folder, of a run that agrees in kernel, inputs and dtype.
      names: of the kernels, in the order of the arrays that come and go.
    """

    def __init__(self, folder: Checkpoint, names: tuple[str, ...]):
        self._folder = folder
        self._names = names
        matches = [_FILE.fullmatch(file.name) for file in folder.path.glob("rows_*.npz")]
        self._ranges = sorted((int(m["start"]), int(m["stop"])) for m in matches if m is not None)
        self._open: tuple[tuple[int, int], dict[str, np.ndarray]] | None = None

    def fixed(self, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What all rows are relative to, as the first run has found it."""
        stored = self._folder.load(_FIXED)
        if stored is None:
            stored = compute()
            self._folder.save(_FIXED, stored)
        return stored

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of rows from `start` to `stop` that no file has."""
        gaps, at = [], start
        while at < stop:
            found = self._covering(at)
            if found is not None:
                at = found[1]
                continue
            end = self._next(at, stop)
            gaps.append((at, end))
            at = end
        return gaps

    def read(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        """Fills rows of arrays, which begin at row `start`, up to `stop`, where there are files.

        Raises:
          ValueError: a damaged file.
        """
        at = start
        while at < stop:
            found = self._covering(at)
            if found is None:
                at = self._next(at, stop)
                continue
            parts, end = self._loaded(found), min(found[1], stop)
            for name, array in zip(self._names, arrays, strict=False):
                array[at - start : end - start] = parts[name][at - found[0] : end - found[0]]
            at = end

    def write(self, start: int, stop: int, arrays: list[np.ndarray]) -> None:
        """Writes rows from `start` to `stop`, (stop - start, n) each."""
        self._folder.save(f"rows_{start}_{stop}", dict(zip(self._names, arrays, strict=False)))

    def _covering(self, row: int) -> tuple[int, int] | None:
        """The file with this row that goes on furthest."""
        there = [each for each in self._ranges if each[0] <= row < each[1]]
        return max(there, key=lambda each: each[1]) if there else None

    def _next(self, row: int, stop: int) -> int:
        """Where the first file after a row that none has begins, at most `stop`."""
        return min([first for first, _ in self._ranges if first > row] + [stop])

    def _loaded(self, found: tuple[int, int]) -> dict[str, np.ndarray]:
        if self._open is None or self._open[0] != found:
            parts = self._folder.load(f"rows_{found[0]}_{found[1]}")
            file = self._folder.path / f"rows_{found[0]}_{found[1]}.npz"
            wanted = found[1] - found[0]
            if parts is None or set(parts) != set(self._names) or any(len(part) != wanted for part in parts.values()):
                raise ValueError(f"`{self._folder.argument}` holds a damaged file, {file}. Delete that file.")
            self._open = found, parts
        return self._open[1]
