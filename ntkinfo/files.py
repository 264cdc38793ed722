"""Shared. Results on disk: `save` and `load`, one file for one result, without pickle.

A file is an `.npz` archive: plain arrays, and a header in JSON that says which result they make, in which format, by
which version, in which unit and dtype. Reading one executes nothing of it. What a result knows only as a function (the
network of an ensemble) is not in its file; it is given again to `load`, and held against what the file says.
"""

import io
import json
import math
import os
import types
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import check, checkpoint, npz, pytree, registry

__all__ = ["load", "save"]

# Of the layout of the file. What an older one means stays readable.
FORMAT, VERSION = "ntkinfo result", 1
_HEADER = "header"
# Numbers of a type that NumPy knows only as bytes.
_AS_INTEGERS = {"bfloat16": np.uint16}


def save(result: Any, path: str | os.PathLike) -> None:
    """Writes a result, or a list or dictionary of them, to one file; the file is there whole or not at all.

    Args:
      result: any result of this package: an `Ensemble` or `Posterior` of any engine, a `VariationalFit`, `Curve`,
        `Sweep`, `Run`, `LayerRun`, `Plane`, `BottleneckCurve`, `Gaussian`, `Information`, `Dataset` and all others; or
        a list, a tuple or a dictionary by text of them.
      path: the file, by custom `something.npz`; replaced where it is there.

    Raises:
      TypeError: something else than a result, one that is being traced, or one that holds a function that `load` could
        not be given again (own activations of `finite.train_layers`, a label noise given as a function).
      OSError: the file cannot be written.

    Example:
      >>> ni.save(ens.predict(x_test, 1.0), "prediction.npz")
      >>> ni.load("prediction.npz").mean.shape
      (7, 1)
    """
    file = check.path("path", path)
    check.known("result", result)
    _check_results(result)
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(result, "result", arrays)
    floats = sorted({str(value.dtype) for value in arrays.values() if value.dtype.kind == "f"})
    header = {
        "format": FORMAT,
        "version": VERSION,
        "ntkinfo": _own_version(),
        "type": registry.name_of(type(result)) or type(result).__name__,
        "unit": getattr(result, "unit", "nats"),
        "dtype": floats,
        "options": _options(result),
        "result": tree,
    }
    text = np.frombuffer(json.dumps(header, allow_nan=False).encode(), np.uint8)
    try:
        checkpoint.write_whole(file, lambda opened: opened.write(_archive({_HEADER: text} | arrays)))
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(error.errno, f"`path` cannot be written, {file}: {reason}. Choose another place") from error


def load(path: str | os.PathLike, net: Any = None, *, mean: Any = None) -> Any:
    """Reads what `save` has written. Arrays come back bit by bit, of JAX where they were.

    Args:
      path: the file.
      net: for an ensemble or a posterior of any engine the network (or kernel function) it was made with, which is
        evaluated on a few of the training inputs and refused where it differs; for a `LearnedPosterior` that network,
        or the `build` of `Posterior.learn`, which makes it of the parameters in the file; for a `VariationalFit` with
        own networks the pair (encoder, decoder). Other results need none.
      mean: the mean function an ensemble or posterior was made with; held against the file too, but for that of
        features, of which the file says nothing.

    Returns:
      The result. Where several were saved, a list, tuple or dictionary of them.

    Raises:
      TypeError: a path that is none; a network for a result that has none.
      OSError: a file that cannot be opened.
      ValueError: a file that is no result, of a later format, damaged or cut short; a missing network or another one
        than the result was made with; numbers in float64 that JAX would round, as `jax_enable_x64` is off.

    Example:
      >>> ni.save(ens, 'ens.npz')
      >>> again = load('ens.npz', net)
      >>> bool((again.predict(x_test, t).mean == ens.predict(x_test, t).mean).all())
      True
    """
    file = check.path("path", path)
    try:
        names, stored = npz.load(file)
    except ValueError as error:
        raise ValueError(f"`path` must be a file written by `ni.save`; {file} cannot be read: {error}.") from error
    if _HEADER not in names:
        raise ValueError(
            f"`path` must be a file written by `ni.save`; {file} holds the arrays {', '.join(names[:5]) or 'none'} and "
            "no header. Data are read by `ni.datasets.npz`."
        )
    header = _read_header(file, stored.pop(_HEADER))
    try:
        unused = set(stored)
        given = _Given(net, mean)
        result = _decode(header["result"], stored, unused, given)
        if unused:
            raise _DamagedError(f"its header does not name the arrays {', '.join(sorted(unused)[:5])}")
        _check_results(result)
        given.refuse_unused(str(header.get("type"))[:40])
        return result
    except (_DamagedError, RecursionError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, TypeError) and str(error).startswith(("`net", "`mean")):
            raise
        raise ValueError(
            f"`path` must be a file written by `ni.save`; {file}, of ntkinfo {str(header.get('ntkinfo'))[:20]!r}, does "
            f"not hold what its header claims: {str(error)[:300]}."
        ) from error


class _DamagedError(Exception):
    """What a header claims is not in the file, or is nothing that `save` writes."""


class _Given:
    """What the caller gives again, and whether anything in the file asked for it."""

    def __init__(self, net: Any, mean: Any):
        self.net, self.mean, self.used = net, mean, False

    def refuse_unused(self, kind: str) -> None:
        for name, value in (("net", self.net), ("mean", self.mean)):
            if value is not None and not self.used:
                raise TypeError(f"`{name}` must be None: the file holds {kind}, which has none.")


def _own_version() -> str:
    # Not at the top: the package imports this module.
    import ntkinfo

    return ntkinfo.__version__


def _check_results(value) -> None:
    """Refuses what is neither a result nor a list, tuple or dictionary of results."""
    if registry.name_of(type(value)) is not None:
        return
    if isinstance(value, list | tuple | dict) and len(value) and type(value) in (list, tuple, dict):
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise TypeError("`result` must be a result, or a dictionary of results by text; got other names.")
        for item in value.values() if isinstance(value, dict) else value:
            if registry.name_of(type(item)) is None:
                raise TypeError(f"`result` must hold results of this package; got {check.described(item)}.")
        return
    raise TypeError(
        f"`result` must be a result of this package, or a list or dictionary of them; got {check.described(value)}."
    )


def _options(result) -> dict[str, str | int | float | bool]:
    """The fields that are no arrays, for whoever reads the header alone."""
    return {
        name: value
        for name, value in _fields(result).items()
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }


def _archive(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    # Nothing here is an object (`_encode_array`); older NumPy would take a further keyword for an array.
    np.savez(content, **arrays)
    return content.getvalue()


def _read_header(file, content: np.ndarray) -> dict[str, Any]:
    try:
        if content.dtype != np.uint8 or content.ndim != 1:
            raise ValueError("it is no text")
        header = json.loads(content.tobytes().decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise ValueError(f"`path` must be a file written by `ni.save`; the header of {file}: {reason}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or type(header.get("version")) is not int:
        raise ValueError(f"`path` must be a file written by `ni.save`; {file} has the header of another kind of file.")
    if not 1 <= header["version"] <= VERSION:
        raise ValueError(
            f"`path` must be of format {VERSION} or earlier; {file} is of {str(header['version'])[:20]}, written by "
            f"ntkinfo {str(header.get('ntkinfo'))[:20]!r}. Read it with that version, or a later one."
        )
    if "result" not in header:
        raise ValueError(f"`path` must be a file written by `ni.save`; the header of {file} names no result.")
    return header


def _refuse_constant(name):
    raise ValueError(f"it holds {name}")


def _encode(value, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value as JSON, its arrays beside it; `name` is what messages call it."""
    if value is None or isinstance(value, bool | int | str) or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is float:
        return {"float": str(value)}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _encode_array(value, name, arrays)
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    kind = registry.name_in_files(type(value))
    if kind is not None:
        to_stored = getattr(value, "_to_stored", None)
        stored = _fields(value) if to_stored is None else to_stored()
        return {"result": kind, "fields": {key: _encode(item, f"{name}.{key}", arrays) for key, item in stored.items()}}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_encode(item, f"{name}[{i}]", arrays) for i, item in enumerate(value)]}
    if type(value) is dict:
        return {"dict": [[_encode(part, f"{name}[{key!r}]", arrays) for part in (key, value[key])] for key in value]}
    raise TypeError(
        f"`{name}` cannot be saved: {check.described(value)} is neither an array nor a number, text or a result. "
        "Functions are not written to files; take one that has a name."
    )


def _fields(result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in pytree.field_names(result)}


def _encode_array(value, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    node: dict[str, Any] = {"array": f"a{len(arrays)}"}
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.extended):
            raise TypeError(f"`{name}` cannot be saved: random keys are not written to files.")
        node["jax"] = True
    elif isinstance(value, np.generic):
        node["scalar"] = True
    array = np.asarray(value)
    if array.dtype.name in _AS_INTEGERS:
        node["dtype"] = array.dtype.name
        array = array.view(_AS_INTEGERS[array.dtype.name])
    if array.dtype.kind not in "biufcUS":
        raise TypeError(f"`{name}` cannot be saved: it holds {array.dtype}, and not numbers or text.")
    arrays[node["array"]] = array
    return node


def _decode(node, stored: dict[str, np.ndarray], unused: set[str], given) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if not isinstance(node, dict):
        raise _DamagedError("a list stands where a value must be")
    keys = set(node)
    if keys == {"float"} and node["float"] in ("nan", "inf", "-inf"):
        return float(node["float"])
    if "array" in keys and keys <= {"array", "jax", "scalar", "dtype"}:
        return _decode_array(node, stored, unused)
    if keys == {"dtype"} and node["dtype"] in ("float32", "float64"):
        return np.dtype(node["dtype"])
    if keys == {"list"} or keys == {"tuple"}:
        ((kind, items),) = node.items()
        decoded = [_decode(item, stored, unused, given) for item in _list(items)]
        return decoded if kind == "list" else tuple(decoded)
    if keys == {"dict"}:
        pairs = [_list(pair, 2) for pair in _list(node["dict"])]
        return {_decode(key, stored, unused, given): _decode(item, stored, unused, given) for key, item in pairs}
    if keys == {"result", "fields"}:
        return _decode_result(node, stored, unused, given)
    raise _DamagedError(f"{', '.join(sorted(keys))[:60]} is no kind of value")


def _list(value, length: int | None = None) -> list:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise _DamagedError("a list is missing, or has another length")
    return value


def _decode_array(node, stored, unused):
    name = node["array"]
    if not isinstance(name, str) or name not in stored:
        raise _DamagedError(f"the array {str(name)[:20]!r} is not there")
    array = stored[name]
    unused.discard(name)
    if "dtype" in node:
        integers = _AS_INTEGERS.get(node["dtype"]) if isinstance(node["dtype"], str) else None
        if integers is None or array.dtype != integers:
            raise _DamagedError(f"the array {name!r} is not of the dtype it claims")
        array = array.view(jnp.dtype(node["dtype"]))
    if node.get("scalar"):
        return array[()]
    if not node.get("jax"):
        return array
    if array.dtype.kind in "US":
        raise _DamagedError(f"the array {name!r} holds text, which JAX has no arrays of")
    made = jnp.asarray(array)
    if made.dtype != array.dtype:
        raise ValueError(
            f"`path` holds numbers in {array.dtype}, which JAX would round to {made.dtype}. Switch double precision on "
            'first: jax.config.update("jax_enable_x64", True).'
        )
    return made


def _decode_result(node, stored, unused, given):
    name, nodes = node["result"], node["fields"]
    if not isinstance(name, str) or name not in (*registry.RESULTS, *registry.PARTS):
        raise _DamagedError(f"{str(name)[:40]!r} is no result of this version")
    if not isinstance(nodes, dict):
        raise _DamagedError(f"{name} has no fields")
    kind = registry.class_of(name)
    fields = {key: _decode(item, stored, unused, given) for key, item in nodes.items()}
    if hasattr(kind, "_from_stored"):
        given.used = True
        return kind._from_stored(fields, given.net, given.mean)  # pyright: ignore[reportAttributeAccessIssue]
    unknown = set(fields) - set(pytree.field_names(kind))
    if unknown:
        raise _DamagedError(f"{name} has no field {sorted(unknown)[0][:40]!r} in this version")
    hints = typing.get_type_hints(kind)
    for key, value in fields.items():
        if not _fits(value, hints.get(key, Any)):
            raise _DamagedError(f"{name}.{key} cannot be {check.described(value)}")
    return kind(**fields)


def _fits(value, hint) -> bool:
    """Whether a value can be of a field annotated so: arrays and numbers stand for each other."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    kind = origin or hint
    if hint is Any or not isinstance(kind, type):
        return True
    if kind in (jax.Array, np.ndarray, bool, int, float) or hasattr(kind, "array_type"):
        return isinstance(value, np.ndarray | np.generic | jax.Array | bool | int | float)
    if kind in (tuple, list):
        return isinstance(value, tuple | list)
    return isinstance(value, kind)
