"""A trained network of Flax linen: `python examples/linen.py`, then `python -m ntkinfo network examples/linen.py`."""

from pathlib import Path

import flax.linen as nn
import flax.serialization
import jax
from training import data, descend

import ntkinfo as ni

# What the report is made of.
__all__ = ["data", "network"]

FILE = Path(__file__).with_suffix(".msgpack")
MODULE = nn.Sequential([nn.Dense(32), nn.tanh, nn.Dense(32), nn.tanh, nn.Dense(1)])


def start():
    """Random variables."""
    return MODULE.init(jax.random.key(0), data().x_train[:1])


def train():
    """Trains, and keeps the variables as Flax does."""
    FILE.write_bytes(flax.serialization.to_bytes(descend(MODULE.apply, start())))


def network():
    """The network with the variables that were kept."""
    return ni.networks.from_flax(MODULE, flax.serialization.from_bytes(start(), FILE.read_bytes()))


if __name__ == "__main__":
    train()
