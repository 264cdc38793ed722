"""The folder that a job writes: files whole or not at all; those of an earlier run are replaced, others left alone."""

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
# What versions before manifests wrote in its place.
_FORMER_LIST = ".ntkinfo.json"
# Every job writes its page twice: for reading as text, and as one file for a browser.
PAGES = ("report.md", "report.html")


class Output:
    """A folder to write into, and what was written.

    What an earlier run wrote there is listed in its manifest. It is replaced by name, and `finish` removes what is left
    of it: a folder never holds figures of two runs. A symbolic link is replaced, not written through. Each file is
    written beside its place and moved there.

    Args:
      folder: made where it does not exist.
      names: every file that the job may write.
      force: whether to write beside files of others, and over those under `names`.
      keep: a path below the folder that belongs to the run, such as its checkpoint.
      about: what the manifest says of the run, besides the files.

    Raises:
      ValueError: a file in the folder's place, or files of others in it, hidden ones apart.
      OSError: the folder cannot be made or written.
    """

    def __init__(
        self, folder: Path, names: tuple[str, ...], *, force: bool = False, keep: Path | None = None,
        about: dict[str, Any] | None = None,
    ):  # fmt: skip
        self.folder, self.written, self.about = folder, [], dict(about or {})
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--out must be a folder, or not exist yet; got the file {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"--out cannot be made: {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"--out must be a folder that can be written; got {folder}")
        self.earlier = self._listed()
        own = {*self.earlier, MANIFEST, *([] if keep is None else [_top(keep, folder)])}
        if self.earlier == set() and os.path.lexists(folder / MANIFEST) and not _is_manifest(folder / MANIFEST):
            own.discard(MANIFEST)
        foreign = sorted(
            path.name for path in folder.iterdir() if path.name not in own and not path.name.startswith(".")
        )
        if foreign and not force:
            listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
            taken = [name for name in foreign if name in (*names, MANIFEST)]
            over = f", which replaces {', '.join(taken)}" if taken else ", which leaves them alone"
            raise ValueError(
                f"--out must hold no files of others; {folder} holds {listed}. Choose another folder, move them away, "
                f"or pass --force{over}."
            )

    @classmethod
    def of(cls, options, job: str, names: tuple[str, ...]) -> "Output":
        """The folder of a job's options, its manifest with versions and the command."""
        from ntkinfo._cli import arguments

        about = {"command": arguments.command(job, options), "options": arguments.line(options), **versions()}
        keep = getattr(options, "checkpoint", None)
        return cls(options.out, names, force=options.force, keep=keep, about=about)

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

    def page(self, text: str, *, after: dict[str, str] | None = None) -> None:
        """Writes report.md and, with its figures inside, report.html.

        Args:
          text: Markdown (CommonMark with tables).
          after: further HTML by the heading that it follows, for report.html only.
        """
        from ntkinfo._cli import html

        self.text("report.md", text)
        self.text("report.html", html.page(text, self.folder, about=self.about, after=after or {}))

    def finish(self) -> str:
        """Removes what an earlier run wrote and this one did not; says what was written."""
        for name in self.earlier - set(self.written):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / _FORMER_LIST).unlink(missing_ok=True)
        self._list(set(self.written))
        return f"\nWritten to {self.folder}: {', '.join(sorted(self.written))}"

    def _listed(self) -> set[str]:
        for name in (MANIFEST, _FORMER_LIST):
            try:
                listed = json.loads((self.folder / name).read_text())
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(listed, dict):
                listed = list(listed["files"]) if isinstance(listed.get("files"), dict) else []
            # Names alone: what stands in a file of the folder is never followed out of it.
            if isinstance(listed, list):
                names = {each for each in listed if isinstance(each, str) and each == Path(each).name}
                return names - {MANIFEST, _FORMER_LIST}
        return set()

    def _list(self, names: set[str]) -> None:
        files = {name: _described(self.folder / name) for name in sorted(names)}
        unfinished = self.folder / f".{secrets.token_hex(4)}-{MANIFEST}"
        unfinished.write_text(json.dumps({**self.about, "files": files}, indent=1, ensure_ascii=False) + "\n", "utf-8")
        unfinished.replace(self.folder / MANIFEST)


def _described(path: Path) -> dict[str, Any]:
    """Size and digest of a file; nothing while it is not there yet."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _is_manifest(path: Path) -> bool:
    """Whether a file is a manifest, be it one without files."""
    try:
        return isinstance(json.loads(path.read_text())["files"], dict)
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return False


def _top(path: Path, folder: Path) -> str:
    """The first name of a path below a folder; nothing that a file can be called where it is elsewhere."""
    try:
        return path.resolve().relative_to(folder.resolve()).parts[0]
    except (ValueError, IndexError, OSError):
        return ""


def versions() -> dict[str, str]:
    """Versions that a result depends on, and the device that it is computed on."""
    import jax
    import numpy as np

    import ntkinfo

    device = jax.devices()[0]
    return {"ntkinfo": ntkinfo.__version__, "JAX": jax.__version__, "NumPy": np.__version__,
            "Python": platform.python_version(), "device": f"{device.platform} ({device.device_kind})"}  # fmt: skip


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
