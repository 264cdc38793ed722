"""Small fully connected networks: activations, initial weights, layers and losses.

The networks of `finite.train_layers`: no checks. Arrays are laid out units by rows: the products of small layers with a
batch then run along the batch, twice as fast on the CPU as the other way round.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

ACTIVATIONS: dict[str, Callable] = {
    "elu": jax.nn.elu,
    "erf": jax.scipy.special.erf,
    "gelu": jax.nn.gelu,
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}
LOSSES = ("cross_entropy", "mse")
# Beyond so many numbers, drawing some in vain takes longer than to compile a draw for each layer.
_MOST_DRAWN = 2**22


class Layer(NamedTuple):
    """Parameters of a layer: weight (d_in, d_out), bias (d_out,)."""

    weight: Array
    bias: Array


def drawn(sample: Callable, keys: Array, shapes: list[tuple[int, int]]) -> list[Array]:
    """`sample(key, shape)` for each of the keys and shapes, by one piece of program for all of them.

    What is drawn of a shape is the beginning of what the same key draws of a larger one.
    """
    sizes = [math.prod(shape) for shape in shapes]
    if len(sizes) * max(sizes) > _MOST_DRAWN:
        return [sample(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    values = jax.vmap(lambda key: sample(key, (max(sizes),)))(keys)
    return [values[i, :size].reshape(shape) for i, (size, shape) in enumerate(zip(sizes, shapes, strict=True))]


def initialise(sizes: tuple[int, ...], weight_std: float | Array, key: Array, dtype) -> tuple[Layer, ...]:
    """Zero biases; weights from a normal distribution of standard deviation weight_std/√d_in, cut off at twice that."""
    shapes = list(itertools.pairwise(sizes))

    def sample(key, shape):
        return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    def layer(drawn, fan_in, fan_out):
        return Layer(drawn * (weight_std / math.sqrt(fan_in)), jnp.zeros(fan_out, dtype))

    weights = drawn(sample, jax.random.split(key, len(shapes)), shapes)
    return tuple(layer(weight, *shape) for weight, shape in zip(weights, shapes, strict=True))


def layers(activations: tuple[Callable, ...], params: tuple[Layer, ...], x: Array) -> list[Array]:
    """Every layer on inputs (d, b): activations of the hidden ones, (units, b), and what the last one puts out."""
    values = []
    for i, (weight, bias) in enumerate(params):
        x = jnp.einsum("io,ib->ob", weight, x) + bias[:, None]
        x = activations[i](x) if i < len(activations) else x
        values.append(x)
    return values


def losses(loss: str, outputs: Array, y: Array) -> Array:
    """The loss of each column of outputs and targets (c, b), (b,)."""
    if loss == "mse":
        return 0.5 * jnp.mean((outputs - y) ** 2, axis=0)
    return -jnp.sum(y * jax.nn.log_softmax(outputs, axis=0), axis=0)


def errors(loss: str, outputs: Array, y: Array) -> Array:
    """The probability of each column that its label is another than that of the outputs, (b,)."""
    if outputs.shape[0] == 1:
        return (jnp.sign(outputs[0]) != jnp.sign(y[0])).astype(outputs.dtype)
    best = jnp.argmax(outputs, axis=0)[None]
    if loss == "mse":
        return (best[0] != jnp.argmax(y, axis=0)).astype(outputs.dtype)
    return 1 - jnp.take_along_axis(y, best, axis=0)[0]
