"""Networks of other libraries as one type: pairs (init, apply), and the kernel function of a stax network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Network", "from_equinox", "from_flax", "from_stax", "kernel_function"]


class Network(NamedTuple):
    """A network as two functions.

    Attributes:
      init: init(key, x) -> params; x a batch (n, ...).
      apply: apply(params, x) -> outputs (n, outputs).
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


def from_flax(module) -> Network:
    """A Flax linen module as a `Network`: `module.init(key, x)` and `module.apply(variables, x)`.

    Modules whose outputs depend on more than their parameters (dropout, running averages) are called as they are by
    default, without random keys or mutable collections.

    Raises:
      TypeError: no `init` or no `apply`.
    """
    if not (callable(getattr(module, "init", None)) and callable(getattr(module, "apply", None))):
        raise TypeError(
            f"`module` must have `init` and `apply`, as Flax linen modules do; got {type(module).__name__}."
        )
    return Network(module.init, module.apply)


def from_equinox(make: Callable[[jax.Array], Any]) -> Network:
    """An Equinox module as a `Network`.

    Args:
      make: make(key) -> module, for instance `lambda key: eqx.nn.MLP(64, 16, 128, 2, key=key)`. The module is a pytree
        and a function of one input, over which it is mapped. Its floating-point arrays are trained.

    Raises:
      TypeError: `make` is a module itself, or does not make a function.
    """
    made = make(jax.random.key(0)) if callable(make) and not _arrays(make) else None
    if not callable(made):
        raise TypeError(
            "`make` must be a function of a key that returns an Equinox module; got "
            f"{type(make).__name__}. For instance `from_equinox(lambda key: eqx.nn.MLP(..., key=key))`."
        )
    leaves, structure = jax.tree.flatten(made)
    trained = [_is_float(leaf) for leaf in leaves]

    def init(key, x):
        found = jax.tree.leaves(make(key))
        return [jnp.asarray(leaf, x.dtype) for leaf, keep in zip(found, trained, strict=True) if keep]

    def apply(params, x):
        rest = iter(params)
        merged = [next(rest) if keep else leaf for leaf, keep in zip(leaves, trained, strict=True)]
        return jax.vmap(jax.tree.unflatten(structure, merged))(x)

    return Network(init, apply)


def from_stax(network) -> Network:
    """A stax pair or triple as a `Network`: `init(key, input_shape) -> (output_shape, params)`, `apply(params, x)`.

    Raises:
      TypeError: not a tuple that begins with two functions.
    """
    if not (isinstance(network, tuple) and len(network) >= 2 and all(callable(each) for each in network[:2])):
        raise TypeError(f"`network` must be a stax tuple (init, apply, ...); got {type(network).__name__}.")
    stax_init, stax_apply = network[:2]

    def init(key, x):
        return jax.tree.map(lambda leaf: leaf.astype(x.dtype), stax_init(key, (-1, *x.shape[1:]))[1])

    return Network(init, lambda params, x: stax_apply(params, x))


def _is_float(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _arrays(tree) -> bool:
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(tree))


def kernel_function(net) -> Callable:
    """The kernel function of `net`: the third of a stax triple `(init, apply, kernel)`, or `net` itself.

    Raises:
      TypeError: `net` is neither.
    """
    if isinstance(net, tuple | list) and len(net) == 3 and callable(net[2]):
        return net[2]
    if callable(net):
        return net
    raise TypeError(
        "`net` must be a network of `ntkinfo.stax`, that is a triple (init, apply, kernel), "
        f"or a function kernel_fn(x1, x2, get); got {type(net).__name__}."
    )
