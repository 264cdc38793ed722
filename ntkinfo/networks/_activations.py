"""What the layers of a network compute: recorded while its own library runs it."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from ntkinfo._common import check
from ntkinfo.networks._network import Network, cast


def activations(
    net: Network, x: Float[ArrayLike, "n ..."], *, history: Iterable[Any] | None = None
) -> dict[str, np.ndarray]:
    """The outputs of every layer of a network on inputs; what `finite.information_plane` takes, with a `history`.

    Layers are the submodules, in the order of their calls: what is a plain function, such as an activation between two
    modules, is no layer. One that is called again has its number behind its name.

    Args:
      net: a `Network` of `from_flax` with variables, `from_nnx`, or `from_equinox` of a module.
      x: inputs, (n, ...).
      history: parameters at several epochs, each as `net.params`; None for those it has.

    Returns:
      Name of a layer to its outputs, (n, units), or (epochs, n, units) with a history; "output" is the network's own.

    Raises:
      TypeError: a network of a library whose layers cannot be told apart.
      ValueError: no parameters, an empty history.
    """
    check.instance("net", net, Network, maker="`from_flax`, `from_nnx` or `from_equinox`")
    net.require_params("net")
    x = check.inputs("x", x)
    function = getattr(net.apply, "function", None)
    record = getattr(function, "activations", None)
    if record is None:
        raise TypeError(
            "`net` must come from `from_flax` with variables, `from_nnx` or `from_equinox` of a module, whose layers "
            f"have names; got {net!r} of {type(function or net.apply).__name__}."
        )
    net.check("net", x)
    state = net.taken_apart[1]
    # Not jitted across calls: names of layers are found while the program is traced.
    run = jax.jit(lambda params: record(cast(params, x.dtype), state, x))
    if history is None:
        return {name: _units(value, len(x)) for name, value in run(net.params).items()}
    epochs = [{name: _units(value, len(x)) for name, value in run(params).items()} for params in history]
    if not epochs:
        raise ValueError("`history` must hold the parameters of at least one epoch; got none.")
    return {name: np.stack([epoch[name] for epoch in epochs]) for name in epochs[0]}


def _units(value, n: int) -> np.ndarray:
    return np.asarray(value).reshape(n, -1)


def numbered(names: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of values by name, with a number behind names that come again."""
    found: dict[str, Any] = {}
    for name, value in names:
        count, numbered_name = 1, name
        while numbered_name in found:
            count += 1
            numbered_name = f"{name}:{count}"
        found[numbered_name] = value
    return found


def flattened(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Intermediate values of linen, tuples under the name of a method, by the path of their module."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flattened(value, path if name == "__call__" else (*path, name))
    else:
        for value in tree if isinstance(tree, tuple) else (tree,):
            if isinstance(value, jax.Array):
                yield ".".join(path) or "output", value


@contextlib.contextmanager
def recorded(parts: dict[int, str], kinds: Iterable[type]) -> Iterator[list[tuple[str, Any]]]:
    """Records what calls of modules return, by `parts`, id(module) -> name, while their classes `kinds` are wrapped."""
    calls: list[tuple[str, Any]] = []
    originals = {}

    def wrapped(original):
        def call(self, *args, **kwargs):
            value = original(self, *args, **kwargs)
            first = value[0] if isinstance(value, tuple) and value else value
            if id(self) in parts and isinstance(first, jax.Array):
                calls.append((parts[id(self)], first))
            return value

        return call

    try:
        for kind in set(kinds):
            if "__call__" in vars(kind):
                originals[kind] = vars(kind)["__call__"]
                type.__setattr__(kind, "__call__", wrapped(originals[kind]))
        yield calls
    finally:
        for kind, original in originals.items():
            type.__setattr__(kind, "__call__", original)
