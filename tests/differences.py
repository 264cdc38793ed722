"""Derivatives against differences, on inputs whose kernels have equal eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import stax

ANGLES = 2 * np.pi * np.arange(8) / 8


def padded(x):
    """Inputs with columns of zeros up to eight: one program then serves all of them."""
    return np.pad(x, ((0, 0), (0, 8 - x.shape[1])))


# Eight inputs each.
INPUTS = {
    "repeated": padded(np.repeat(np.random.default_rng(5).normal(size=(4, 3)), 2, axis=0)),
    "one_hot": np.eye(8),
    "cube": padded(np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(8, 3)),
    "circle": padded(np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)),
    "distinct": np.random.default_rng(7).normal(size=(8, 8)),
}
# Of a linear network these have a kernel of rank three.
LOW_RANK = padded(np.random.default_rng(6).normal(size=(8, 3)))
X_TEST, Y = np.random.default_rng(1).normal(size=(3, 8)), np.random.default_rng(2).normal(size=(8, 2))


def scaled(w_std, *, outputs=2, linear=False):
    """A network of the scale to differentiate by."""
    if linear:
        return stax.serial(stax.Dense(8, W_std=w_std, b_std=None), stax.Dense(outputs, W_std=w_std, b_std=None))
    dense = stax.Dense(8, W_std=w_std, b_std=0.2), stax.Erf(), stax.Dense(outputs, W_std=w_std, b_std=0.2)
    return stax.serial(*dense)


def flat(*values):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(values)])


class Derivative:
    """Of a vector-valued function of a number and further arguments, which is compiled once."""

    def __init__(self, function):
        self.function = function
        self.forward = lambda a, *rest: jax.jvp(lambda b: function(b, *rest), (a,), (1.0,))
        self.reverse = jax.grad(lambda a, weights, *rest: jnp.vdot(weights, function(a, *rest)))
        self.compiled = [jax.jit(f) for f in (function, self.forward, self.reverse)]

    def check(self, at, *rest, step=1e-4, rtol=2e-6, atol=2e-7):
        """Forward and reverse mode against differences of the fourth order."""
        value = self.compiled[0]
        values = {i: np.asarray(value(at + i * step, *rest)) for i in (-2, -1, 1, 2)}
        numeric = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
        assert np.isfinite(numeric).all()
        scale = np.abs(values[1]) + np.abs(numeric)
        weights = np.random.default_rng(8).normal(size=numeric.shape) / (atol + scale)
        primal, slopes = self.compiled[1](at, *rest)
        np.testing.assert_allclose(primal, value(at, *rest), rtol=1e-8, atol=1e-9)
        np.testing.assert_array_less(np.abs(slopes - numeric), atol + rtol * scale)
        reverse = self.compiled[2](at, weights, *rest)
        np.testing.assert_allclose(reverse, np.vdot(weights, slopes), atol=1e-6 * len(weights) ** 0.5)
