"""Encoders and decoders for the variational bottlenecks: pairs (init, apply), and adapters for those of others.

`init(key, x)` makes parameters for a batch of inputs, `apply(params, x)` returns one row of outputs for each row of x.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ntkinfo._common import check
from ntkinfo._numerics import mlp as mlp_numerics
from ntkinfo.networks import Network, from_equinox, from_flax, from_stax

__all__ = ["Network", "conv", "from_equinox", "from_flax", "from_stax", "linear", "mlp"]


def linear(outputs: int) -> Network:
    """One affine map of the flattened input, W x + b.

    Args:
      outputs: numbers returned for each row.

    Returns:
      A `Network`.

    Raises:
      TypeError, ValueError: `outputs` that is no positive integer.
    """
    return mlp(outputs, ())


def mlp(outputs: int, hidden: Sequence[int] = (256, 256)) -> Network:
    """Fully connected layers of rectified linear units on the flattened input; the last layer is affine.

    Weights start from N(0, 2/d_in), those of the last layer from N(0, 1/d_in), biases at zero.

    Args:
      outputs: numbers returned for each row.
      hidden: units of the hidden layers, a list or tuple.

    Returns:
      A `Network`.

    Raises:
      TypeError, ValueError: sizes that are no positive integers.
    """
    hidden, outputs = check.widths("hidden", hidden), check.size("outputs", outputs)
    check.entries("outputs", outputs * (hidden[-1] if hidden else 1), f"{outputs} outputs of the last layer")
    return _mlp((*hidden, outputs))


# Made once for the same arguments, so that a second fit finds the program of the first one compiled.
@functools.cache
def _mlp(sizes: tuple[int, ...]) -> Network:
    def init(key, x):
        widths = (math.prod(x.shape[1:]), *sizes)
        shapes = list(itertools.pairwise(widths))
        keys = jax.random.split(key, len(sizes))
        weights = mlp_numerics.drawn(lambda key, shape: jax.random.normal(key, shape, x.dtype), keys, shapes)
        gains = [2.0] * (len(sizes) - 1) + [1.0]
        return [_scaled(weight, gain) for weight, gain in zip(weights, gains, strict=True)]

    def apply(params, x):
        x = x.reshape(len(x), -1)
        for layer in params[:-1]:
            x = jax.nn.relu(_affine(layer, x))
        return _affine(params[-1], x)

    # What files say of it.
    apply.__dict__["recipe"] = {"mlp": list(sizes)}
    return Network(init, apply)


def conv(outputs: int, channels: Sequence[int] = (16, 32), hidden: int = 128) -> Network:
    """Convolutions of 3 by 3 with stride 2 and rectified linear units, one hidden dense layer, an affine last one.

    Args:
      outputs: numbers returned for each image.
      channels: of the convolutions, a list or tuple.
      hidden: units of the dense layer.

    Returns:
      A `Network` on images (n, h, w) or (n, h, w, c).

    Raises:
      TypeError, ValueError: sizes that are no positive integers; `init`: inputs that are no images.

    Example:
      >>> net = conv(4)
      >>> net.apply(net.init(key, np.ones((1, 8, 8))), np.ones((5, 8, 8))).shape
      (5, 4)
    """
    return _conv(check.size("outputs", outputs), check.widths("channels", channels), check.size("hidden", hidden))


@functools.cache
def _conv(outputs: int, channels: tuple[int, ...], hidden: int) -> Network:
    head = mlp(outputs, (hidden,))

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

    apply.__dict__["recipe"] = {"conv": [outputs, list(channels), hidden]}
    return Network(init, apply)


def _dense(key, d_in, d_out, gain, dtype):
    return _scaled(jax.random.normal(key, (d_in, d_out), dtype), gain)


def _scaled(normal, gain):
    d_in, d_out = normal.shape
    return {"w": normal * math.sqrt(gain / d_in), "b": jnp.zeros(d_out, normal.dtype)}


def _affine(layer, x):
    return x @ layer["w"] + layer["b"][None]
