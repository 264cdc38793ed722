"""Derivatives against differences, on inputs whose kernels have equal eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import stax

ANGLES = 2 * np.pi * np.arange(8) / 8
# Eight inputs each.
INPUTS = {
    "repeated": np.repeat(np.random.default_rng(5).normal(size=(4, 3)), 2, axis=0),
    "one_hot": np.eye(8),
    "cube": np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(8, 3),
    "circle": np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1),
    "low_rank": np.random.default_rng(6).normal(size=(8, 3)),
    "distinct": np.random.default_rng(7).normal(size=(8, 3)),
}


def scaled(kind, w_std, outputs=2):
    """A network of the scale to differentiate by; linear for kernels of low rank."""
    if kind == "low_rank":
        return stax.serial(stax.Dense(8, W_std=w_std, b_std=None), stax.Dense(outputs, W_std=w_std, b_std=None))
    dense = stax.Dense(8, W_std=w_std, b_std=0.2), stax.Erf(), stax.Dense(outputs, W_std=w_std, b_std=0.2)
    return stax.serial(*dense)


def flat(*values):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(values)])


def check_derivative(function, at, step=1e-4, rtol=2e-6, atol=2e-7, compiled=False):
    """Forward and reverse mode of a vector-valued function of one number against differences of the fourth order."""
    values = {i: np.asarray(function(at + i * step)) for i in (-2, -1, 1, 2)}
    numeric = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
    scale = np.abs(values[1]) + np.abs(numeric)
    forward = jax.jvp(function, (at,), (1.0,))[1]
    np.testing.assert_array_less(np.abs(forward - numeric), atol + rtol * scale)
    weights = np.random.default_rng(8).normal(size=numeric.shape) / (atol + scale)
    reverse = jax.grad(lambda a: jnp.vdot(weights, function(a)))
    for gradient in (reverse, jax.jit(reverse)) if compiled else (reverse,):
        np.testing.assert_allclose(gradient(at), np.vdot(weights, forward), atol=1e-6 * np.sqrt(len(weights)))
