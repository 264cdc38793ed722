"""Finished parts of a long run on disk: written as they come, read again by a run of the same arguments."""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import IO

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ntkinfo._common import npz

_ARGUMENTS = "arguments.json"
# Inside each part: under which name, and of which run, it was saved.
_NAME, _RUN = "checkpoint_name", "checkpoint_run"
# Unfinished files: .NAME.HOST-PROCESS-THREAD-RANDOM.tmp
_UNFINISHED = re.compile(r"\..+\.(?P<host>[^.]*)-(?P<process>\d+)-\d+-[0-9a-f]+\.tmp")
# An unfinished file of another machine that nobody has written to for so many seconds is one of a dead run.
_ABANDONED_S = 3600.0
# Those that threads of this process are writing.
_being_written: set[str] = set()


def content_hash(value) -> str:
    """A short hash of an array by shape, dtype and content, or of any text."""
    if isinstance(value, jax.Array):
        value = key_data(value)
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        content = str(value).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint(function, *args) -> str:
    """A hash of what `function` computes for arguments of these shapes: its jaxpr and the arrays it closes over.

    Addresses in memory do not count, so that the hash is the same in another process.
    """
    program = jax.make_jaxpr(function)(*args)
    text = re.sub(r"0x[0-9a-f]+", "", str(program))
    return content_hash(" ".join([text, *_constants(program, {})]))


def _constants(value, seen: dict) -> list[str]:
    """Hashes of all arrays in a program, those of inner programs too, in order: its text shows their shapes only."""
    # From JAX 0.12 on the two are one class, and `jaxpr` of it is itself.
    if isinstance(value, core.ClosedJaxpr) and value.jaxpr is not value:
        return [*_constants(value.consts, seen), *_constants(value.jaxpr, seen)]
    if isinstance(value, core.Jaxpr):
        # One that is called often is read once. It is kept beside its hashes, so that its id stays its own.
        if id(value) not in seen:
            hashes = _constants(getattr(value, "consts", ()), seen)
            hashes += _constants([v.val for v in value.outvars if isinstance(v, core.Literal)], seen)
            for equation in value.eqns:
                hashes += _constants([v.val for v in equation.invars if isinstance(v, core.Literal)], seen)
                hashes += _constants([equation.params[name] for name in sorted(equation.params)], seen)
            seen[id(value)] = value, hashes
        return seen[id(value)][1]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [content for item in value for content in _constants(item, seen)]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return [content_hash(value if isinstance(value, jax.Array) else np.asarray(value))]
    return []


def key_data(key) -> np.ndarray:
    """The words of a random key, of either kind."""
    return np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)


class Checkpoint:
    """A folder of finished parts; `arguments` name what must be the same for a run to go on where another stopped.

    Several threads and processes may work on one folder: each part is there whole or not at all, and the last to finish
    it, which wrote the same, counts.

    Args:
      path: the folder; made where it does not exist.
      arguments: names of arguments and what they were, as text.
      argument: what the public argument is called in messages.

    Raises:
      ValueError: a file, a folder of a run with other arguments, or a folder of something else.
      OSError: a folder that cannot be written.
    """

    def __init__(self, path: str | os.PathLike, arguments: dict[str, str], *, argument: str = "checkpoint"):
        self.argument = argument
        self.path = pathlib.Path(path)
        self._run = content_hash(json.dumps(arguments, sort_keys=True))
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`{argument}` must be a folder, or not exist yet; got the file {self.path}.")
        # Parts first: a run beside this one may be writing its arguments just now, and they come before its parts.
        has_parts = self.path.is_dir() and any(self.path.glob("*.npz"))
        stored = self.stored(path, argument=argument)
        if stored is None and has_parts:
            raise ValueError(
                f"`{argument}` must be a folder of an earlier run, empty or new; {self.path} holds .npz files but no "
                f"{_ARGUMENTS}. Choose another folder."
            )
        if stored is not None and stored != arguments:
            names = sorted(name for name in {*stored, *arguments} if stored.get(name) != arguments.get(name))
            raise ValueError(
                f"`{argument}` must be of a run with the same arguments; {self.path} differs in {', '.join(names)}. "
                "Choose another folder, or delete this one to start again."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._remove_abandoned()
        if stored is None:
            self._write(_ARGUMENTS, lambda file: file.write(json.dumps(arguments, indent=1).encode()))

    @staticmethod
    def stored(path: str | os.PathLike, *, argument: str = "checkpoint") -> dict[str, str] | None:
        """The arguments of the run stored in the folder, None where there is none.

        Raises:
          ValueError: they are there and cannot be read, or are no arguments of a run.
        """
        file = pathlib.Path(path) / _ARGUMENTS
        try:
            stored = json.loads(file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"`{argument}` cannot be read: {file}: {error}") from error
        if not isinstance(stored, dict) or not all(isinstance(value, str) for value in stored.values()):
            raise ValueError(
                f"`{argument}` must be a folder of an earlier run, empty or new; {file} does not hold the arguments of "
                "one. Choose another folder."
            )
        return stored

    @staticmethod
    def stored_integer(path: str | os.PathLike, name: str, *, argument: str = "checkpoint") -> int | None:
        """A whole number, from 1 on, among the arguments of the run stored in the folder; None where there is no run.

        Raises:
          ValueError: the arguments cannot be read, or lack it.
        """
        stored = Checkpoint.stored(path, argument=argument)
        if stored is None:
            return None
        # Longer numbers count nothing, and Python refuses to read very long ones.
        if not re.fullmatch("[1-9][0-9]{0,17}", stored.get(name, "")):
            raise ValueError(
                f"`{argument}` must be of a run with the same arguments; {pathlib.Path(path) / _ARGUMENTS} holds no "
                f"whole number `{name}`. Choose another folder, or delete this one to start again."
            )
        return int(stored[name])

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays saved under this name, or None where they are not finished.

        Raises:
          ValueError: a damaged file, or one that was saved under another name or by another run.
        """
        file = self._file(name)
        try:
            arrays = npz.load(file)[1]
        except FileNotFoundError:
            return None
        except Exception as error:
            raise ValueError(f"`{self.argument}` holds a damaged file, {file}: {error} Delete that file.") from error
        if str(arrays.pop(_NAME, "")) != name or str(arrays.pop(_RUN, "")) != self._run:
            raise ValueError(
                f"`{self.argument}` holds a file that was saved under another name or by another run, {file}. Delete "
                "that file."
            )
        return arrays

    def save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes arrays under this name, whole or not at all.

        Raises:
          OSError: the folder cannot be written, as on a full disk.
        """
        arrays = {**arrays, _NAME: np.array(name), _RUN: np.array(self._run)}
        self._write(self._file(name).name, lambda file: np.savez(file, **arrays))

    def _file(self, name):
        return self.path / f"{name}.npz"

    def _unwritable(self, error: OSError) -> OSError:
        reason = error.strerror or error
        text = f"`{self.argument}` cannot be written to {self.path}: {reason}. Make room, or choose another folder"
        return OSError(error.errno, text)

    def _write(self, name, write):
        try:
            write_whole(self.path / name, write)
        except OSError as error:
            raise self._unwritable(error) from error

    def _remove_abandoned(self):
        """Removes the unfinished files of runs that died while they wrote."""
        host = re.sub(r"[^0-9A-Za-z]", "_", platform.node())
        for file in self.path.glob(".*.tmp"):
            match = _UNFINISHED.fullmatch(file.name)
            if match is None:
                continue
            # It may be gone by now: its run has finished it, or another has removed it.
            with contextlib.suppress(OSError):
                if match["host"] != host:
                    abandoned = time.time() - file.stat().st_mtime > _ABANDONED_S
                elif int(match["process"]) == os.getpid():
                    abandoned = file.name not in _being_written
                else:
                    abandoned = not _is_alive(int(match["process"]))
                if abandoned:
                    file.unlink()


def write_whole(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
    """Has `write` fill a file, which takes the place of `path` when it is finished: it is there whole or not at all.

    Raises:
      OSError: it cannot be written, as on a full disk.
    """
    # Beside its place and then moved there: an interruption leaves no half-written file under the name.
    host = re.sub(r"[^0-9A-Za-z]", "_", platform.node())
    mark = f"{host}-{os.getpid()}-{threading.get_ident()}-{secrets.token_hex(8)}"
    unfinished = path.with_name(f".{path.name}.{mark}.tmp")
    _being_written.add(unfinished.name)
    try:
        with unfinished.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        # It is there only where something went wrong.
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        _being_written.discard(unfinished.name)


def _is_alive(process: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be told."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def pack(prefix: str, tree) -> dict[str, np.ndarray]:
    """The leaves of a pytree as arrays with names of their own, for `Checkpoint.save`."""
    return {f"{prefix}_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def unpack(prefix: str, stored: dict[str, np.ndarray], like):
    """The pytree saved by `pack` under this prefix, of the structure of `like`; leaves are JAX arrays where its are."""
    leaves, structure = jax.tree.flatten(like)
    read = (stored[f"{prefix}_{i}"] for i in range(len(leaves)))
    return jax.tree.unflatten(
        structure, [jnp.asarray(a) if isinstance(b, jax.Array) else a for a, b in zip(read, leaves, strict=True)]
    )
