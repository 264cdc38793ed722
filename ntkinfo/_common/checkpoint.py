"""Finished parts of a long run on disk: written as they come, read again by a run of the same arguments."""

import hashlib
import json
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

_ARGUMENTS = "arguments.json"


def content_hash(value) -> str:
    """A short hash of an array by shape, dtype and content, or of any text."""
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        content = str(value).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint(function, *args) -> str:
    """A hash of what `function` computes for arguments of these shapes: its jaxpr, without addresses in memory."""
    return content_hash(re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(*args))))


def key_data(key) -> np.ndarray:
    """The words of a random key, of either kind."""
    return np.asarray(jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key)


class Checkpoint:
    """A folder of finished parts; `arguments` name what must be the same for a run to go on where another stopped."""

    def __init__(self, path, arguments: dict[str, str], *, argument: str = "checkpoint"):
        self.argument = argument
        self.path = pathlib.Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`{argument}` must be a folder, or not exist yet; got the file {self.path}.")
        stored = self.stored(path, argument=argument)
        if stored is None and self.path.is_dir() and any(self.path.glob("*.npz")):
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
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(_ARGUMENTS, lambda file: file.write(json.dumps(arguments, indent=1).encode()))

    @staticmethod
    def stored(path, *, argument: str = "checkpoint") -> dict[str, str] | None:
        """The arguments of the run stored in the folder, None where there is none.

        Raises:
          ValueError: they are there and cannot be read.
        """
        try:
            return json.loads((pathlib.Path(path) / _ARGUMENTS).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"`{argument}` cannot be read: {path}/{_ARGUMENTS}: {error}") from error

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays saved under this name, or None where they are not finished."""
        try:
            with np.load(self._file(name), allow_pickle=False) as stored:
                return dict(stored)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise ValueError(
                f"`{self.argument}` holds a damaged file, {self._file(name)}: {error} Delete that file."
            ) from error

    def save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes arrays under this name, whole or not at all."""
        self._write(self._file(name).name, lambda file: np.savez(file, **arrays))

    def _file(self, name):
        return self.path / f"{name}.npz"

    def _write(self, name, write):
        # Beside its place and then moved there: an interruption leaves no half-written file under the name.
        unfinished = self.path / f".{name}.{os.getpid()}"
        with unfinished.open("wb") as file:
            write(file)
        unfinished.replace(self.path / name)


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
