"""A trained network of Flax nnx: `python examples/nnx.py`, then `python -m ntkinfo network examples/nnx.py`."""

from pathlib import Path

import flax.serialization
import jax
from flax import nnx
from training import data, descend

import ntkinfo as ni

# What the report is made of.
__all__ = ["data", "network"]

FILE = Path(__file__).with_suffix(".msgpack")


class Model(nnx.Module):
    """Two layers."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        """Outputs, (n, 1)."""
        return self.second(jax.nn.tanh(self.first(x)))


def train():
    """Trains, and keeps the state as Flax does."""
    graph, state = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
    state = descend(lambda state, x: nnx.merge(graph, state)(x), state)
    FILE.write_bytes(flax.serialization.msgpack_serialize(nnx.to_pure_dict(state)))


def network():
    """The network with the state that was kept."""
    graph, state = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
    nnx.replace_by_pure_dict(state, flax.serialization.msgpack_restore(FILE.read_bytes()))
    return ni.networks.from_nnx(nnx.merge(graph, state))


if __name__ == "__main__":
    train()
