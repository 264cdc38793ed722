"""What the examples share: the data, and plain gradient descent on half the mean squared error."""

import jax
import jax.numpy as jnp
import numpy as np

import ntkinfo as ni


def data():
    """Digits, even against odd, in the precision that these networks were trained in."""
    return ni.datasets.digits(n_train=200, n_test=100, dtype=np.float32)


def descend(apply, params, *, steps: int = 100, rate: float = 0.5):
    """The parameters after so many steps; apply(params, x) -> outputs."""
    x, y = (jnp.asarray(values) for values in (data().x_train, data().y_train))

    @jax.jit
    def step(params):
        gradient = jax.grad(lambda params: 0.5 * jnp.mean((apply(params, x) - y) ** 2))(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

    for _ in range(steps):
        params = step(params)
    return params
