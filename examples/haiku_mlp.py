"""A trained network of Haiku: `python examples/haiku_mlp.py`, then `python -m ntkinfo network` with this file."""

from pathlib import Path

import haiku as hk
import jax
import numpy as np
from training import data, descend

import ntkinfo as ni

# What the report is made of.
__all__ = ["data", "network"]

FILE = Path(__file__).with_suffix(".npz")
FORWARD = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([32, 32, 1], activation=jax.nn.tanh)(x)))


def train():
    """Trains, and keeps the parameters as arrays by name."""
    params = descend(FORWARD.apply, FORWARD.init(jax.random.key(0), data().x_train[:1]))
    np.savez(FILE, **{f"{module}|{name}": value for module, name, value in hk.data_structures.traverse(params)})


def network():
    """The network with the parameters that were kept."""
    params: dict = {}
    with np.load(FILE) as arrays:
        for key, value in arrays.items():
            module, name = key.split("|")
            params.setdefault(module, {})[name] = value
    return ni.networks.from_haiku(FORWARD, params)


if __name__ == "__main__":
    train()
