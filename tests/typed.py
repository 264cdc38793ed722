"""The shapes in the signatures of public functions, held against every successful call of the tests.

A plugin of pytest: each public function is wrapped where users find it. After a call has returned, its array
arguments and its result must be what the annotations say, with one size for each letter. Calls that raise are left to
their tests.
"""

import functools
import inspect
import types
import typing

import jax
import numpy as np
from beartype.door import is_bearable
from jaxtyping import jaxtyped

import ntkinfo


def _hints(function) -> dict:
    try:
        return typing.get_type_hints(function)
    except Exception:
        return {}


def _has_shapes(hint) -> bool:
    """Whether a hint says more than `jax.Array`, for which NumPy arrays are taken as well."""
    return hint is not jax.Array and jax.Array not in typing.get_args(hint)


def _checked(function):
    hints, signature = _hints(function), inspect.signature(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs).arguments
        with jaxtyped("context"):
            for name, value in bound.items():
                if name in hints and isinstance(value, jax.Array | np.ndarray) and _has_shapes(hints[name]):
                    assert is_bearable(value, hints[name]), _message(function, f"`{name}`", value, hints[name])
            if "return" in hints:
                # A scalar of NumPy is as good as an array without axes.
                kept = np.asarray(result) if isinstance(result, np.generic) else result
                assert is_bearable(kept, hints["return"]), _message(function, "the result", result, hints["return"])
        return result

    return call


def _message(function, what, value, hint):
    shapes = jax.tree.map(lambda leaf: f"{getattr(leaf, 'dtype', type(leaf))}{getattr(leaf, 'shape', '')}", value)
    return f"{function.__module__}.{function.__name__}: {what} is {shapes}, annotated {hint}"


def pytest_configure(config):
    """Wraps the functions that public modules define or hand on."""
    for module in (getattr(ntkinfo, name) for name in ntkinfo.__all__):
        for name in getattr(module, "__all__", ()) if isinstance(module, types.ModuleType) else ():
            function = getattr(module, name)
            if isinstance(function, types.FunctionType) and function.__module__.startswith("ntkinfo."):
                setattr(module, name, _checked(function))
