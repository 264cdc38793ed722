"""Hostile values for an argument, by its kind.

A value is (tag, value, refused): where `refused`, it must never be accepted; else a sane result is as good as an error.
What only spells the valid value in another way (`same`) must give the result of the valid one, where it is accepted.
"""

import decimal
import fractions
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse

# Run last: what they ask for fits in no memory, and only a limit that is checked first stands before it.
LATE = ("2**62", "10**30")


class Value(NamedTuple):
    tag: str
    value: Any
    refused: bool
    same: bool = False


# Spellings of the valid value.
SAME = (
    "big-endian", "long double", "object floats", "list", "no mask", "pandas", "jax", "decimals", "array", "fraction",
)  # fmt: skip
# Those of them that are floating-point numbers, whatever the valid value is.
AS_FLOATS = ("long double", "decimals")


class Traced(NamedTuple):
    """An argument that is traced, as by `jax.jit`: what cannot be traced says so itself, and JAX's errors are raw."""

    value: Any


class Nothing:
    """An object of no known type."""


_RAGGED = [[1.0], [1.0, 2.0]]


def _key():
    return jax.random.key(0)


def _changed(array, value):
    array = np.array(array, float)
    array.flat[0] = value
    return array


def _arrays(valid) -> list[Value]:
    """For arguments that are arrays; `valid` is one that is accepted."""
    v = np.asarray(valid)
    real = v.astype(float)
    masked = np.zeros(v.shape, bool)
    masked.flat[0] = True
    refused = {
        "nan": _changed(v, np.nan),
        "inf": _changed(v, np.inf),
        "empty": v[:0] if v.ndim else np.zeros(0),
        "complex": real + 1j,
        "strings": np.full(v.shape, "a"),
        "nones": np.full(v.shape, None),
        "ragged": _RAGGED,
        "masked": np.ma.array(v, mask=masked),
        "minus inf": _changed(v, -np.inf),
        "dates": np.full(v.shape, np.datetime64("2020-01-01")),
        "bytes": np.full(v.shape, b"a"),
        "set": {1.0, 2.0},
        "sparse": scipy.sparse.csr_matrix(np.atleast_2d(real)),
        "None": None,
        "string": "a",
        "key": _key(),
        "dict": {},
        "object": Nothing(),
    }
    if v.ndim > 1:
        refused["no columns"] = v[..., :0]
    either = {
        "number": 3.0,
        "rank + 1": v[None],
        "rank - 1": v.ravel() if v.ndim > 1 else real.sum(),
        "one row more": np.concatenate([v, v[:1]]) if v.ndim else v,
        "times 1e200": real * 1e200,
        "times 1e-200": real * 1e-200,
        "negative": -np.abs(real) - 1.0,
        "integers": np.ones(v.shape, int),
        "booleans": real > 0,
        "big-endian": v.astype(v.dtype.newbyteorder(">")),
        "long double": real.astype(np.longdouble),
        "float16": real.astype(np.float16),
        "float32": real.astype(np.float32),
        "bfloat16": jnp.asarray(real, jnp.bfloat16),
        "rank + 3": v[None, None, None],
        "object floats": v.astype(object),
        "decimals": np.array([decimal.Decimal(float(x)) for x in real.ravel()], object).reshape(v.shape),
        "list": v.tolist(),
        "no mask": np.ma.array(v),
        "jax": jnp.asarray(v),
        "traced": Traced(v),
    }
    if v.ndim in (1, 2):
        either["pandas"] = (pd.Series if v.ndim == 1 else pd.DataFrame)(v)
    values = _both(refused, either)
    # Integers as floating-point numbers are another value where they stand for classes.
    return [
        value._replace(same=value.same and not (v.dtype.kind in "iu" and value.tag in AS_FLOATS)) for value in values
    ]


def _both(refused: dict[str, Any], either: dict[str, Any]) -> list[Value]:
    return [Value(tag, value, True) for tag, value in refused.items()] + [
        Value(tag, value, False, tag in SAME) for tag, value in either.items()
    ]


def _refusing(values: list[Value], *tags: str) -> list[Value]:
    """The same, with these tags among what must be refused."""
    return [value._replace(refused=value.refused or value.tag in tags) for value in values]


def _accepting(values: list[Value], *tags: str) -> list[Value]:
    """The same, with these tags among what may be accepted."""
    return [value._replace(refused=value.refused and value.tag not in tags) for value in values]


def _whole(valid) -> list[Value]:
    """For class numbers (n,)."""
    v = np.asarray(valid)
    extra = {"minus 5": v - 5, "plus 2**62": v.astype(np.int64) + 2**62, "halves": v + 0.5}
    return _refusing(_arrays(v), "times 1e200", "negative", "booleans") + [
        Value(tag, value, True) for tag, value in extra.items()
    ]


def _scalars(valid) -> list[Value]:
    """For one number; what is refused whatever its range."""
    one = valid if isinstance(valid, int | float) and not isinstance(valid, bool) else 1.0
    refused = {
        "nan": np.nan,
        "-inf": -np.inf,
        "string": "a",
        "None": None,
        "[v]": [one],
        "array of one": np.array([one]),
        "two": np.array([one, one]),
        "empty": np.zeros(0),
        "bool": True,
        "complex": 1j,
        "key": _key(),
        "dict": {},
        "object": Nothing(),
        "series": pd.Series([one]),
        "bytes": b"1",
        "set": {one},
        "date": np.datetime64("2020-01-01"),
        "function": abs,
    }
    either = {
        "inf": np.inf,
        "1e308": 1e308,
        "1e-308": 1e-308,
        "10**30": 10**30,
        "float32": np.float32(one),
        "array": np.array(one),
        "integer": 1,
        "-1": -1.0,
        "0": 0.0,
        "1.5": 1.5,
        "decimals": decimal.Decimal(one),
        "fraction": fractions.Fraction(one),
        "traced": Traced(one),
    }
    return _both(refused, either)


def _sizes(valid) -> list[Value]:
    values = [value for value in _scalars(valid) if value.tag not in (*SAME, "float32", "integer", "1e-308")]
    values = _refusing(values, "inf", "1e308", "10**30", "-1", "1.5")
    whole = [Value("-3", -3, True), Value("2**62", 2**62, True), Value("whole float", 2.0, True)]
    return [v._replace(value=0) if v.tag == "0" else v for v in values] + whole


def _options(valid) -> list[Value]:
    name = valid if isinstance(valid, str) else "auto"
    refused = {
        "unknown": "nonsense",
        "upper case": name.upper(),
        "number": 3,
        "None": None,
        "array": np.array([name, name]),
        "[v]": [name],
        "numbers": np.ones(2),
        "key": _key(),
        "object": Nothing(),
        "True": True,
        "empty": "",
        "nan": np.nan,
        "bytes": name.encode(),
        "dict": {name: name},
        "function": abs,
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _flags(valid) -> list[Value]:
    refused = {
        "string": "no",
        "number": 2,
        "None": None,
        "fraction": 0.5,
        "one": 1,
        "nan": np.nan,
        "array of one": np.array([True]),
        "array": np.ones(2),
        "[]": [],
        "key": _key(),
        "object": Nothing(),
    }
    return [Value(tag, value, True) for tag, value in refused.items()] + [Value("numpy", np.bool_(False), False)]


def _keys(valid) -> list[Value]:
    refused = {
        "None": None,
        "0": 0,
        "string": "a",
        "two keys": jax.random.split(_key()),
        "float key": np.zeros(2),
        "uint32 (3,)": np.zeros(3, np.uint32),
        "empty": np.zeros(0, np.uint32),
        "list": [0, 1],
        "object": Nothing(),
        "one in an axis": jax.random.split(_key(), 1),
        "two raw keys": jax.random.split(jax.random.PRNGKey(0)),
    }
    return _both(refused, {"raw key": jax.random.PRNGKey(1), "traced": Traced(_key())})


def _objects(valid) -> list[Value]:
    """For results of other functions."""
    from tests.fuzz import objects

    refused = {
        "array": np.ones(3),
        "None": None,
        "string": "a",
        "number": 3,
        "dict": {},
        "object": Nothing(),
        "class": type(valid),
        "tuple": (1.0, 2.0, 3.0),
        "another result": objects.relaxation(),
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _not_callable(valid) -> list[Value]:
    refused = {"None": None, "number": 3, "string": "a", "array": np.ones(2), "dict": {}, "object": Nothing()}
    return [Value(tag, value, True) for tag, value in refused.items()]


def _functions(valid) -> list[Value]:
    refused = {
        "no argument": lambda: np.ones(3),
        "returns None": lambda *args, **kwargs: None,
        "returns a string": lambda *args, **kwargs: "a",
    }
    return _not_callable(valid) + [Value(tag, value, True) for tag, value in refused.items()]


def _networks(valid) -> list[Value]:
    """For networks of stax, and kernel functions."""
    refused = {
        "triple of numbers": (1, 2, 3),
        "pair": valid[:2] if isinstance(valid, tuple) else (1, 2),
        "returns one array": lambda x1, x2, get: np.ones((len(x1), len(x1 if x2 is None else x2))),
        "returns nan": lambda x1, x2, get: (np.full((len(x1), len(x1 if x2 is None else x2)), np.nan),) * 2,
        "two arguments": lambda x1, x2: np.ones((3, 3)),
        "returns a dict": lambda x1, x2, get: {"a": 1},
    }
    return _functions(valid) + [Value(tag, value, True) for tag, value in refused.items()]


def _paths(valid) -> list[Value]:
    refused = {
        "number": 3.5,
        "None": None,
        "array": np.ones(2),
        "dict": {},
        "object": Nothing(),
        "zero byte": "a\0b",
        "empty": "",
        "bytes": b"a",
        "list": ["a"],
        "bool": True,
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _names(valid) -> list[Value]:
    """For one name or several."""
    refused = {
        "unknown": "nonsense",
        "unknown in a list": ["nonsense"],
        "number": 3,
        "numbers": [3],
        "none": [],
        "array": np.ones(2),
        "nested": [["a"]],
        "key": _key(),
        "object": Nothing(),
        "None": None,
        "True": True,
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _size_lists(valid) -> list[Value]:
    """For several sizes, as `hidden` and `sizes`."""
    refused = {
        "negative": [-3],
        "zero": [0],
        "floats": [2.5],
        "nan": [np.nan],
        "strings": ["a"],
        "string": "a",
        "None": None,
        "nested": [[2], [3, 4]],
        "booleans": [True],
        "2**62": [2**62],
        "10**30": [10**30],
        "object": Nothing(),
        "key": _key(),
        "dict": {"a": 1},
    }
    either = {"list": list(valid), "array": np.array(list(valid)), "empty": [], "number": 3}
    return _both(refused, either)


def _pairs(valid) -> list[Value]:
    """For a pair of vectors (i_xz, i_zy)."""
    refused = {
        "one": (np.ones(3),),
        "three": (np.ones(3),) * 3,
        "other lengths": (np.ones(3), np.ones(4)),
        "strings": ("a", "b"),
        "string": "ab",
        "number": 3,
        "nan": (np.full(3, np.nan),) * 2,
        "complex": (np.ones(3) + 1j,) * 2,
        "dict": {"a": 1},
        "object": Nothing(),
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _text(valid) -> list[Value]:
    refused = {"number": 3, "array": np.ones(2), "object": Nothing(), "None": None, "list": ["a"], "dict": {}}
    return [Value(tag, value, True) for tag, value in refused.items()]


def _axes(valid) -> list[Value]:
    """For axes of an array."""
    return [value._replace(refused=value.tag != "None") for value in _things(valid)]


def _shapes(valid) -> list[Value]:
    """For a tuple of sizes, None for any."""
    return [Value(v.tag, v.value, v.tag not in ("list of numbers",)) for v in _things(valid)]


def _labels_of_messages(valid) -> list[Value]:
    """For what only stands in messages: anything will do, as long as nothing breaks."""
    return [value._replace(refused=False) for value in _text(valid)]


def _tuples(valid) -> list[Value]:
    """For a few numbers, as `range` or `norms`."""
    refused = {
        "strings": ("a",) * len(valid),
        "nan": (np.nan,) * len(valid),
        "one more": (*valid, valid[-1]),
        "one": valid[:1],
        "ragged": _RAGGED,
        "complex": (1j,) * len(valid),
        "key": _key(),
        "dict": {},
        "object": Nothing(),
    }
    return [Value(tag, value, True) for tag, value in refused.items()]


def _dtypes(valid) -> list[Value]:
    refused = {
        "unknown": "nonsense",
        "number": 3,
        "integers": np.int32,
        "complex": np.complex128,
        "strings": str,
        "half": np.float16,
        "object": object,
        "instance": Nothing(),
        "array": np.ones(2),
        "None": None,
    }
    return [Value(tag, value, tag not in ("None", "half")) for tag, value in refused.items()]


def _things(valid) -> list[Value]:
    """For what is neither number nor array nor text: devices, optimisers, axes of a figure."""
    refused = {"number": 3, "string": "a", "array": np.ones(2), "list of numbers": [3], "object": Nothing(), "dict": {}}
    return [Value(tag, value, True) for tag, value in refused.items()] + [Value("None", None, True)]


KINDS = {
    # Arrays of floating point: of a rank of their own, or with leading axes.
    "floats": lambda v: _refusing(_arrays(v), "number"),
    "floats or nan": lambda v: _accepting(_arrays(v), "nan", "number"),
    "probabilities": lambda v: _refusing(_arrays(v), "number", "negative", "times 1e200", "times 1e-200"),
    "variances": lambda v: _refusing(_arrays(v), "number", "negative"),
    "times": lambda v: _accepting(_refusing(_arrays(v), "negative", "booleans"), "inf"),
    "finite times": lambda v: _refusing(_arrays(v), "negative", "booleans"),
    "classes": _whole,
    "labels": lambda v: _refusing(_arrays(v), "number"),
    # Any integers.
    "groups": lambda v: _refusing(_arrays(v), "number", "booleans", "negative"),
    # Any samples, numbers or text.
    "samples": lambda v: _accepting(_refusing(_arrays(v), "number"), "strings"),
    "classes or booleans": lambda v: _accepting(_whole(v), "booleans"),
    "number or floats": lambda v: _accepting(KINDS["floats"](v), "number"),
    # Numbers that broadcast.
    "numbers": lambda v: _accepting(_arrays(v), "inf"),
    "finite numbers": _arrays,
    "positive numbers": lambda v: _refusing(_arrays(v), "negative"),
    # One number.
    "number": _scalars,
    "finite": lambda v: _refusing(_scalars(v), "inf"),
    "positive": lambda v: _refusing(_scalars(v), "inf", "-1", "0"),
    "not negative": lambda v: _refusing(_scalars(v), "inf", "-1"),
    # How near iterations must come: no step is as large as one.
    "tolerance": lambda v: _refusing(_scalars(v), "inf", "-1", "0", "1.5", "integer", "1e308", "10**30"),
    # Or a function of the step.
    "number or schedule": lambda v: _accepting(KINDS["not negative"](v), "function"),
    "probability": lambda v: _refusing(_scalars(v), "inf", "-1", "1.5", "1e308", "10**30"),
    "noise": lambda v: [*_refusing(_scalars(v), "inf", "-1", "0"), Value("unknown", "nonsense", True)],
    # Or one for each label, of which there is one.
    "noises": lambda v: _accepting(KINDS["noise"](v), "[v]", "array of one", "series"),
    "size": lambda v: _refusing(_sizes(v), "0"),
    # How many, or which.
    "size or sizes": lambda v: _accepting(KINDS["size"](v), "[v]", "array of one", "two", "series"),
    "count": _sizes,
    "sizes": _size_lists,
    "tuple": _tuples,
    "option": _options,
    # One, or one for each layer.
    "options": lambda v: _accepting(_options(v), "[v]", "function"),
    "names": _names,
    "flag": _flags,
    "key": _keys,
    "object": _objects,
    "function": _functions,
    "callable": _not_callable,
    "network": _networks,
    "path": _paths,
    "pair": _pairs,
    "text": _text,
    "name": _labels_of_messages,
    "mapping": lambda v: _accepting(_things(v), "dict"),
    "axis": _axes,
    "shape": _shapes,
    "option or None": lambda v: _accepting(_options(v), "None"),
    "key or None": lambda v: _accepting(_keys(v), "None"),
    "dtype": _dtypes,
    "thing": _things,
    # A name, or the number of an output.
    "output": lambda v: _accepting(_options(v), "number"),
    "any result": lambda v: _accepting(_objects(v), "another result"),
    # A list of names, or one of them: the text among these values is the name of a column.
    "columns": lambda v: _accepting(_things(v), "string"),
}
