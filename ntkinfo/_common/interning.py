"""Equal things made again are one object: functions compare by identity, and so do the programs compiled for them.

A constructor of functions is wrapped by `interned`: called again with equal arguments it returns what it returned
before. Arguments that cannot be described, such as functions of the user, lead to a new object each time.
"""

import collections
import enum
import functools
import hashlib
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from ntkinfo._common import tracing

# What was made, by description; the oldest are forgotten, which costs a compilation where they are made again.
_most = 4096
_made: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_lock = threading.Lock()
# Larger arrays are not read only to compare them.
_MOST_ENTRIES = 2**20


class UnknownError(Exception):
    """A value that cannot be described."""


def describe(value) -> Any:
    """A hashable description of a value, equal for values that no program could tell apart.

    Raises:
      UnknownError: it has none: a traced value, an array that may change, a function, an object of unknown type.
    """
    # Types are part of it: 1, 1.0 and True are equal, and lead to arrays of different dtypes.
    if value is None or isinstance(value, type | np.dtype) or type(value) in (bool, int, str, bytes):
        return type(value), value
    if isinstance(value, enum.Enum):
        return type(value), value.name
    # By representation: 0.0 and -0.0 are equal, nan is not equal to itself.
    if type(value) in (float, complex):
        return type(value), repr(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return value.dtype, value.tobytes()
    if isinstance(value, slice):
        return slice, describe((value.start, value.stop, value.step))
    if type(value) is tuple or type(value) is list:
        return type(value), tuple(describe(item) for item in value)
    if type(value) is dict:
        return dict, tuple((describe(key), describe(item)) for key, item in value.items())
    if isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.size <= _MOST_ENTRIES:
        return jax.Array, value.dtype, value.shape, hashlib.sha256(np.asarray(value).tobytes()).digest()
    raise UnknownError


def describe_function(function: Callable, package: str) -> Any:
    """A description of a function of `package`: its code and what it closes over, functions of that package too.

    Raises:
      UnknownError: a function of elsewhere, or one that closes over what cannot be described.
    """
    if isinstance(function, functools.partial):
        parts = (function.func, *function.args, *function.keywords.values())
        return functools.partial, tuple(function.keywords), _describe_parts(parts, package)
    if not isinstance(function, types.FunctionType) or function.__module__.split(".")[0] != package:
        raise UnknownError
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return function.__module__, function.__code__, _describe_parts((*cells, *defaults), package)


def _describe_parts(values, package):
    def part(value):
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value), tuple(part(item) for item in value)
        if type(value) in (tuple, list):
            return type(value), tuple(part(item) for item in value)
        return describe_function(value, package) if callable(value) and not isinstance(value, type) else describe(value)

    return tuple(part(value) for value in values)


def share(description: Any, value: Any) -> Any:
    """The first value that came with this description; `value` itself where none did."""
    with _lock:
        kept = _made.setdefault(description, value)
        _made.move_to_end(description)
        if len(_made) > _most:
            _made.popitem(last=False)
        return kept


def transformation(optimizer: Any) -> Any:
    """An optimiser of optax: the one that was made first with equal arguments, or itself where that cannot be told."""
    try:
        parts = tuple(describe_function(function, "optax") for function in (optimizer.init, optimizer.update))
    except (AttributeError, ValueError, UnknownError):
        return optimizer
    return share((type(optimizer), jax.config.jax_enable_x64, parts), optimizer)  # pyright: ignore


def interned(
    make: Callable, constructor: Callable, *, describe: Callable[[Any], Any], remember: Callable[[Any], None]
) -> Callable:
    """`make`, which returns what it returned before for arguments with an equal description.

    Args:
      make: constructor of functions.
      constructor: what `make` wraps; its signature and name are those of the result.
      describe: as the function of that name, for the arguments of this constructor.
      remember: called with what was made and will be returned again.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def made(*args, **kwargs):
        description = _described_call(signature, describe, args, kwargs)
        if description is None:
            return make(*args, **kwargs)
        # Constants that a constructor makes have the precision of now.
        description = constructor, jax.config.jax_enable_x64, description  # pyright: ignore
        with _lock:
            if description in _made:
                _made.move_to_end(description)
                return _made[description]
        result = make(*args, **kwargs)
        # What is made while tracing may hold values of that trace.
        if tracing.is_tracing():
            return result
        result = share(description, result)
        remember(result)
        return result

    return made


def _described_call(signature, describe, args, kwargs):
    """Descriptions of the arguments by name; None where they have none, or do not fit the signature."""
    try:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return tuple((name, describe(value)) for name, value in bound.arguments.items())
    except (TypeError, UnknownError):
        return None
