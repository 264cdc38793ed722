"""Finished chunks of a long run on disk: written as they come, read again by a run of the same arguments."""

import hashlib
import json
import os
import pathlib
import re

import jax
import numpy as np

from ntkinfo import training

_ARGUMENTS = "arguments.json"


def digest(value) -> str:
    """A short hash of an array by shape, dtype and content, or of any text."""
    if isinstance(value, np.ndarray):
        content = f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    else:
        content = str(value).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def program(function, *args) -> str:
    """A hash of what `function` computes for arguments of these shapes: its jaxpr, without addresses in memory."""
    return digest(re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(*args))))


def key_data(key) -> np.ndarray:
    """The words of a random key, of either kind."""
    return np.asarray(jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key)


def arguments(settings, chunk, key, arrays):
    """What a checkpoint must agree in, by the names of the arguments of `train`."""
    x, y, x_test, sizes, counts = (None if a is None else np.asarray(a) for a in arrays)
    params = jax.eval_shape(lambda: training.initialise(settings.init_fn, jax.random.key(0), arrays[0]))
    start = program(lambda k: training.initialise(settings.init_fn, k, arrays[0]), jax.random.key(0))
    return {
        "net": digest(start + program(settings.apply_fn, params, arrays[0])),
        "x": digest(x),
        "y": digest(y),
        "x_test": digest(x_test),
        "key": digest(key_data(key)),
        "t or learning_rate": digest(digest(sizes) + digest(counts)),
        "method": settings.method,
        "train_outputs": str(settings.train_outputs),
        "fisher_trace": str(settings.fisher_trace),
        "chunk": str(chunk),
    }


class Folder:
    """A folder of chunks; `arguments` name what must be the same for a run to go on where another stopped."""

    def __init__(self, path, arguments: dict[str, str]):
        self.path = pathlib.Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`checkpoint` must be a folder, or not exist yet; got the file {self.path}.")
        stored = self.stored(path)
        if stored is None and self.path.is_dir() and any(self.path.glob("*.npz")):
            raise ValueError(
                f"`checkpoint` must be a folder of an earlier run, empty or new; {self.path} holds .npz files but no "
                f"{_ARGUMENTS}. Choose another folder."
            )
        if stored is not None and stored != arguments:
            names = sorted(name for name in {*stored, *arguments} if stored.get(name) != arguments.get(name))
            raise ValueError(
                f"`checkpoint` must be of a run with the same arguments; {self.path} differs in {', '.join(names)}. "
                "Choose another folder, or delete this one to start again."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(_ARGUMENTS, lambda file: file.write(json.dumps(arguments, indent=1).encode()))

    @staticmethod
    def stored(path) -> dict[str, str] | None:
        """The arguments of the run stored in the folder, None where there is none.

        Raises:
          ValueError: they are there and cannot be read.
        """
        try:
            return json.loads((pathlib.Path(path) / _ARGUMENTS).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ValueError(f"`checkpoint` cannot be read: {path}/{_ARGUMENTS}: {error}") from error

    def load(self, index: int) -> dict[str, np.ndarray] | None:
        """The arrays of a chunk, or None where it is not finished."""
        try:
            with np.load(self._name(index), allow_pickle=False) as stored:
                return dict(stored)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise ValueError(
                f"`checkpoint` holds a damaged chunk, {self._name(index)}: {error} Delete that file."
            ) from error

    def save(self, index: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes the arrays of a chunk, whole or not at all."""
        self._write(self._name(index).name, lambda file: np.savez(file, **arrays))

    def _name(self, index):
        return self.path / f"chunk_{index:05d}.npz"

    def _write(self, name, write):
        # Beside its place and then moved there: an interruption leaves no half-written file under the name.
        unfinished = self.path / f".{name}.{os.getpid()}"
        with unfinished.open("wb") as file:
            write(file)
        unfinished.replace(self.path / name)
