"""Encoders and decoders for the variational bottlenecks: pairs (init, apply), and adapters for those of others.

`init(key, x)` makes parameters for a batch of inputs, `apply(params, x)` returns one row of outputs for each row of x.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import _check

__all__ = ["Network", "conv", "from_equinox", "from_flax", "from_stax", "linear", "mlp"]


class Network(NamedTuple):
    """A network as two functions.

    Attributes:
      init: init(key, x) -> params; x a batch (n, ...).
      apply: apply(params, x) -> outputs (n, outputs).
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


# Made once for the same arguments, so that a second fit finds the program of the first one compiled.
@functools.cache
def linear(outputs: int) -> Network:
    """One affine map of the flattened input, W x + b."""
    return mlp(outputs, ())


@functools.cache
def mlp(outputs: int, hidden: tuple[int, ...] = (256, 256)) -> Network:
    """Fully connected layers of rectified linear units on the flattened input; the last layer is affine.

    Weights start from N(0, 2/d_in), those of the last layer from N(0, 1/d_in), biases at zero.

    Args:
      outputs: numbers returned for each row.
      hidden: units of the hidden layers, a tuple.

    Returns:
      A `Network`.

    Raises:
      TypeError, ValueError: sizes that are no positive integers.
    """
    sizes = (*(_check.integer("hidden", size) for size in hidden), _check.integer("outputs", outputs))

    def init(key, x):
        widths = (math.prod(x.shape[1:]), *sizes)
        keys = jax.random.split(key, len(sizes))
        return [
            _dense(keys[i], widths[i], widths[i + 1], 1.0 if i + 1 == len(sizes) else 2.0, x.dtype)
            for i in range(len(sizes))
        ]

    def apply(params, x):
        x = x.reshape(len(x), -1)
        for layer in params[:-1]:
            x = jax.nn.relu(_affine(layer, x))
        return _affine(params[-1], x)

    return Network(init, apply)


@functools.cache
def conv(outputs: int, channels: tuple[int, ...] = (16, 32), hidden: int = 128) -> Network:
    """Convolutions of 3 by 3 with stride 2 and rectified linear units, one hidden dense layer, an affine last one.

    Args:
      outputs: numbers returned for each image.
      channels: of the convolutions, a tuple.
      hidden: units of the dense layer.

    Returns:
      A `Network` on images (n, h, w) or (n, h, w, c).

    Raises:
      TypeError, ValueError: sizes that are no positive integers; `init`: inputs that are no images.
    """
    channels = tuple(_check.integer("channels", size) for size in channels)
    head = mlp(outputs, (_check.integer("hidden", hidden),))

    def features(filters, x):
        x = x[..., None] if x.ndim == 3 else x
        for layer in filters:
            x = jax.lax.conv_general_dilated(
                x, layer["w"], window_strides=(2, 2), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + layer["b"].reshape(1, 1, 1, -1))
        return x

    def init(key, x):
        if x.ndim not in (3, 4):
            raise ValueError(f"`x` must be images (n, h, w) or (n, h, w, c) for `conv`; got shape {x.shape}.")
        keys = jax.random.split(key, len(channels) + 1)
        filters, before = [], 1 if x.ndim == 3 else x.shape[-1]
        for i, after in enumerate(channels):
            w = jax.random.normal(keys[i], (3, 3, before, after), x.dtype) * math.sqrt(2 / (9 * before))
            filters.append({"w": w, "b": jnp.zeros(after, x.dtype)})
            before = after
        shape = jax.eval_shape(lambda image: features(filters, image), x[:1]).shape
        return {"filters": filters, "head": head.init(keys[-1], jnp.zeros(shape, x.dtype))}

    def apply(params, x):
        return head.apply(params["head"], features(params["filters"], x))

    return Network(init, apply)


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


def _dense(key, d_in, d_out, gain, dtype):
    w = jax.random.normal(key, (d_in, d_out), dtype) * math.sqrt(gain / d_in)
    return {"w": w, "b": jnp.zeros(d_out, dtype)}


def _affine(layer, x):
    return x @ layer["w"] + layer["b"][None]


def _is_float(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _arrays(tree) -> bool:
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(tree))
