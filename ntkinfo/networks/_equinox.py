"""Modules of Equinox as a `Network`: pytrees that are functions of one input."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import check
from ntkinfo.networks import _activations, _network
from ntkinfo.networks._kernel_function import TRAINING
from ntkinfo.networks._network import Bound, Network


def from_equinox(make: Any, state: Any = None) -> Network:
    """An Equinox module as a `Network`: the module itself, or a function that makes one from a key.

    The module is a pytree and a function of one input, over which it is mapped. Its floating-point arrays are trained;
    what else it has is held fixed.

    Args:
      make: a module, as training left it; or make(key) -> module, for instance
        `lambda key: eqx.nn.MLP(64, 16, 128, 2, key=key)`, for a network that is drawn from: what does not train is
        then held as `make(jax.random.key(0))` made it.
      state: the `eqx.nn.State` of a module with running averages, called as `module(x, state)`; in inference mode
        (`eqx.nn.inference_mode`).

    Returns:
      A `Network`, whose parameters are the list of trained arrays. That of a module has no random start.

    Raises:
      TypeError: neither a module nor what makes a function; parameters that are complex, or of several dtypes.
      ValueError: batch norm or dropout in training mode; no parameters that train, NaN or Inf.
    """
    if callable(make) and _has_arrays(make):
        return _of_module(make, state)
    made = make(jax.random.key(0)) if callable(make) and check.takes(make, 1) else None
    if not callable(made):
        raise TypeError(
            "`make` must be an Equinox module, or a function of a key that returns one; got "
            f"{type(make).__name__}. For instance `from_equinox(lambda key: eqx.nn.MLP(..., key=key))`."
        )
    if state is not None:
        raise ValueError("`state` must be left out for a function that makes modules: give the module itself.")
    _refuse_training("make", made)
    leaves, structure = jax.tree.flatten(made)
    trained = [_network.is_float(leaf) for leaf in leaves]

    def init(key, x):
        made = jax.tree.leaves(make(key))
        return [jnp.asarray(leaf, x.dtype) for leaf, is_trained in zip(made, trained, strict=True) if is_trained]

    held = [None if is_trained else leaf for leaf, is_trained in zip(leaves, trained, strict=True)]
    return Network(init, Bound(_Function(structure, tuple(held), False), ([], None)))


def _of_module(module, state) -> Network:
    _refuse_training("make", module)
    leaves, structure = jax.tree.flatten(module)
    params = [leaf for leaf in leaves if _network.is_float(leaf)]
    # Functions among its leaves are part of the program.
    _network.checked_params("make", [leaf for leaf in leaves if _is_array(leaf)])
    # Arrays that do not train are the state; functions and numbers are part of the program.
    arrays = [leaf for leaf in leaves if _is_array(leaf) and not _network.is_float(leaf)]
    held = tuple(None if _network.is_float(leaf) else _ARRAY if _is_array(leaf) else leaf for leaf in leaves)
    kept = (arrays, state) if arrays or state is not None else None
    function = _Function(structure, held, state is not None)
    init = _network.NoInit("Give `from_equinox` a function make(key) -> module.")
    return Network(init, Bound(function, ([], None) if kept is None else kept), params, kept)


class _Array:
    """In place of an array that is handed in as state."""

    def __repr__(self):
        return "array"


_ARRAY = _Array()


class _Function:
    """function(params, state, x) of a module taken apart, mapped over inputs."""

    def __init__(self, structure, held: tuple, stateful: bool):
        self.structure = structure
        self.held = held
        self.stateful = stateful

    def __call__(self, params, state, x):
        module, kept = self._module(params, state)
        if self.stateful:
            return jax.vmap(lambda one: module(one, kept)[0])(x)
        return jax.vmap(module)(x)

    def _module(self, params, state):
        arrays, kept = state
        trained, fixed = iter(params), iter(arrays)
        leaves = [next(trained) if leaf is None else next(fixed) if leaf is _ARRAY else leaf for leaf in self.held]
        return jax.tree.unflatten(self.structure, leaves), kept

    def activations(self, params, state, x):
        """Outputs of the submodules, by name."""
        module, kept = self._module(params, state)
        parts = {id(part): name or "output" for name, part in _named(module)}
        kinds = [type(part) for _, part in _named(module) if callable(part)]

        def one(x):
            with _activations.recorded(parts, kinds) as calls:
                _ = module(x, kept) if self.stateful else module(x)
            return _activations.numbered(calls)

        return jax.vmap(one)(x)

    def __eq__(self, other):
        if type(other) is not type(self) or self.stateful != other.stateful or len(self.held) != len(other.held):
            return False
        try:
            same = all(a is b or (type(a) is type(b) and bool(a == b)) for a, b in zip(self.held, other.held))  # noqa: B905
            return same and bool(self.structure == other.structure)
        except (TypeError, ValueError):
            return self is other

    def __hash__(self):
        return hash((type(self), self.stateful, len(self.held)))


def _refuse_training(name: str, module) -> None:
    for part in _parts(module):
        trains = getattr(part, "inference", True) is False
        # Dropout of rate 0 does nothing in either mode.
        if trains and (not hasattr(part, "p") or part.p != 0):
            raise ValueError(
                f"`{name}` must be in inference mode; got {type(part).__name__} in training mode: {TRAINING} "
                "Pass it through `eqx.nn.inference_mode` first."
            )


def _parts(value) -> Iterator[Any]:
    """A module and the modules in its fields."""
    return (part for _, part in _named(value))


def _named(value, path: str = "") -> Iterator[tuple[str, Any]]:
    """A module and the modules in its fields, with their paths."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _named(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _named(item, f"{path}[{key!r}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield path, value
        for field in dataclasses.fields(value):
            yield from _named(getattr(value, field.name, None), f"{path}.{field.name}" if path else field.name)


def _is_array(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _has_arrays(tree) -> bool:
    return any(_is_array(leaf) for leaf in jax.tree.leaves(tree))
