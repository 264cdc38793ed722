"""A trained network that is a function: `python examples/plain.py`, then `python -m ntkinfo network` with this file."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from training import data, descend

import ntkinfo as ni

# What the report is made of.
__all__ = ["data", "network"]

FILE = Path(__file__).with_suffix(".npz")


def apply(params, x):
    """Outputs, (n, 1)."""
    return jnp.tanh(x @ params["in"]) @ params["out"]


def train():
    """Trains, and keeps the parameters."""
    keys = jax.random.split(jax.random.key(0))
    start = {"in": jax.random.normal(keys[0], (64, 32)) / 8, "out": jax.random.normal(keys[1], (32, 1)) / 32**0.5}
    np.savez(FILE, **descend(apply, start))


def network():
    """The network with the parameters that were kept."""
    with np.load(FILE) as arrays:
        return ni.networks.from_apply(apply, dict(arrays))


if __name__ == "__main__":
    train()
