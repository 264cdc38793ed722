"""A trained network of Equinox: `python examples/equinox_mlp.py`, then `python -m ntkinfo network` with this file."""

from pathlib import Path

import equinox as eqx
import jax
from training import data, descend

import ntkinfo as ni

# What the report is made of.
__all__ = ["data", "network"]

FILE = Path(__file__).with_suffix(".eqx")


def start():
    """A random model."""
    return eqx.nn.MLP(64, 1, 32, 2, activation=jax.nn.tanh, key=jax.random.key(0))


def train():
    """Trains, and keeps the model as Equinox does."""
    params, static = eqx.partition(start(), eqx.is_inexact_array)
    params = descend(lambda params, x: jax.vmap(eqx.combine(params, static))(x), params)
    eqx.tree_serialise_leaves(FILE, eqx.combine(params, static))


def network():
    """The network as it was kept."""
    return ni.networks.from_equinox(eqx.tree_deserialise_leaves(FILE, start()))


if __name__ == "__main__":
    train()
