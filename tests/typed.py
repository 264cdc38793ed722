"""The shapes in the signatures of public functions, held against every successful call of the tests.

A plugin of pytest, which `conftest.py` names: each public function is wrapped where users find it, and so is each
public method and property of the public classes. After a call has returned, its array arguments and its result must be
what the annotations say, with one size for each letter. Calls that raise are left to their tests. Without beartype
nothing is checked, and `test_typed.py` is skipped by that name.
"""

import functools
import inspect
import types
import typing

import jax
import numpy as np
from jaxtyping import jaxtyped

import ntkinfo

try:
    from beartype.door import is_bearable
except ImportError:
    is_bearable = None


# Which class they return depends on `engine`; annotated is that of "dense", which most callers get.
BY_ENGINE = {"Ensemble.fit", "Posterior.fit"}


def _has_shapes(hint) -> bool:
    """Whether a hint says more than `jax.Array`, for which NumPy arrays are taken as well."""
    return hint is not jax.Array and jax.Array not in typing.get_args(hint)


def checked(function):
    """The function, whose successful calls are held against its annotations."""
    hints, signature = typing.get_type_hints(function), inspect.signature(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs).arguments
        with jaxtyped("context"):
            for name, value in bound.items():
                if name in hints and isinstance(value, jax.Array | np.ndarray) and _has_shapes(hints[name]):
                    assert is_bearable(value, hints[name]), _message(function, f"`{name}`", value, hints[name])
            if "return" in hints and function.__qualname__ not in BY_ENGINE:
                # A scalar of NumPy is as good as an array without axes.
                kept = np.asarray(result) if isinstance(result, np.generic) else result
                assert is_bearable(kept, hints["return"]), _message(function, "the result", result, hints["return"])
        return result

    return call


def _message(function, what, value, hint):
    shapes = jax.tree.map(lambda leaf: f"{getattr(leaf, 'dtype', type(leaf))}{getattr(leaf, 'shape', '')}", value)
    return f"{function.__module__}.{function.__qualname__}: {what} is {shapes}, annotated {hint}"


def public_functions():
    """(module, name, function) of what public modules define or hand on."""
    for module in (getattr(ntkinfo, name) for name in ntkinfo.__all__):
        for name in getattr(module, "__all__", ()) if isinstance(module, types.ModuleType) else ():
            function = getattr(module, name)
            if isinstance(function, types.FunctionType) and function.__module__.startswith("ntkinfo."):
                yield module, name, function


def public_classes():
    """The classes that public modules define or hand on, with what they inherit from classes of ours, each once."""
    handed_on = [getattr(ntkinfo, name) for name in ntkinfo.__all__]
    for module in (each for each in handed_on if isinstance(each, types.ModuleType)):
        handed_on += [getattr(module, name) for name in getattr(module, "__all__", ())]
    ancestors = [base for each in handed_on if inspect.isclass(each) for base in each.__mro__]
    return dict.fromkeys(each for each in ancestors if each.__module__.startswith("ntkinfo."))


def public_methods():
    """(class, name, what stands in the class, its function) of public methods and properties.

    Those that return tables are left out: these are no arrays, and their library is not imported where they are named.
    """
    for owner in public_classes():
        for name, member in vars(owner).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not name.startswith("_") and isinstance(function, types.FunctionType) and not _makes_table(function):
                yield owner, name, member, function


def _makes_table(function) -> bool:
    return any(kind in str(function.__annotations__.get("return")) for kind in ("pd.", "xr.", "xarray."))


def pytest_configure(config):
    """Wraps them, in the processes that run tests: the one that deals these out need not import the package."""
    deals_out = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if is_bearable is None or deals_out:
        return
    for module, name, function in public_functions():
        setattr(module, name, checked(function))
    for owner, name, member, function in public_methods():
        call = checked(function)
        again = property(call, doc=member.__doc__) if isinstance(member, property) else call
        setattr(owner, name, type(member)(call) if isinstance(member, classmethod | staticmethod) else again)
