"""The folder that a job writes: files whole or not at all; those of an earlier run are replaced, others left alone."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

_LIST = ".ntkinfo.json"


class Output:
    """A folder to write into, and what was written.

    What an earlier run wrote there is listed in the folder. It is replaced by name, and `finish` removes what is left
    of it: a folder never holds figures of two runs. A symbolic link is replaced, not written through.

    Args:
      folder: made where it does not exist.
      names: every file that the job may write.

    Raises:
      ValueError: a file in the folder's place, or files of the user's under one of the names.
      OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, names: tuple[str, ...]):
        self.folder, self.written = folder, []
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out must be a folder, or not exist yet; got the file {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"--out cannot be made: {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"--out must be a folder that can be written; got {folder}")
        self.earlier = self._listed()
        foreign = [name for name in names if name not in self.earlier and os.path.lexists(folder / name)]
        if foreign:
            raise ValueError(
                f"--out must hold no files of others under the names of this job; {folder} holds {', '.join(foreign)}. "
                "Choose another folder, or move them away."
            )

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Has `write` write a file beside its place, and moves it there."""
        unfinished = self.folder / f".{secrets.token_hex(4)}-{name}"
        try:
            write(unfinished)
            self._list({*self.earlier, *self.written, name})
            unfinished.replace(self.folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        if name not in self.written:
            self.written.append(name)

    def text(self, name: str, text: str) -> None:
        """Writes text."""
        self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def figure(self, name: str, figure) -> None:
        """Writes a figure of matplotlib as PNG, and closes it."""
        import matplotlib.pyplot as plt

        self.write(name, lambda path: figure.savefig(path, dpi=150, format="png"))
        plt.close(figure)

    def finish(self) -> str:
        """Removes what an earlier run wrote and this one did not; says what was written."""
        for name in self.earlier - set(self.written):
            (self.folder / name).unlink(missing_ok=True)
        self._list(set(self.written))
        return f"\nWritten to {self.folder}: {', '.join(sorted(self.written))}"

    def _listed(self) -> set[str]:
        try:
            names = json.loads((self.folder / _LIST).read_text())
        except (OSError, ValueError, RecursionError):
            return set()
        # Names alone: what stands in a file of the folder is never followed out of it.
        return (
            {name for name in names if isinstance(name, str) and name == Path(name).name and name != _LIST}
            if (isinstance(names, list))
            else set()
        )

    def _list(self, names: set[str]) -> None:
        unfinished = self.folder / f".{secrets.token_hex(4)}{_LIST}"
        unfinished.write_text(json.dumps(sorted(names)))
        unfinished.replace(self.folder / _LIST)


def require_figures() -> None:
    """Refuses before anything is computed what could not be drawn afterwards.

    Raises:
      ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("figures need matplotlib; it is not installed. Run: pip install matplotlib") from error
    mpl.use("Agg")
