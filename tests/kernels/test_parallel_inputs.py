"""Kernels of equal and parallel inputs are exact, whatever the activation and the depth."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import kernels, stax

ACTIVATIONS = {
    "relu": (stax.Relu, 0.0, 1.0),
    "abs": (stax.Abs, -1.0, 1.0),
    "leaky": (lambda: stax.LeakyRelu(0.2), 0.2, 1.0),
    "ab": (lambda: stax.ABRelu(0.5, -2.0), 0.5, -2.0),
}
OTHERS = {
    "sign": stax.Sign,
    "monomial": lambda: stax.RectifiedMonomial(2),
    "step": lambda: stax.RectifiedMonomial(0),
    "erf": stax.Erf,
    "gelu": stax.Gelu,
}
QUICK = ((1, 4, 0.3), (6, 784, None))


def network(activation, depth, b_std=None, w_std=1.5):
    layers = [(stax.Dense(1, W_std=w_std, b_std=b_std), activation()) for _ in range(depth)]
    return stax.serial(*itertools.chain(*layers), stax.Dense(1, W_std=w_std, b_std=b_std))


def along_a_ray(a, b, depth, w_std, q, sign):
    """Kernels of a network without biases on x and ± x, by the recursion of moments at angle zero; q = ‖x‖²/d."""
    rho, theta = w_std**2 * q * sign, w_std**2 * q * sign
    for _ in range(depth):
        moment = (a**2 + b**2) / 2 if rho > 0 else a * b
        rho, theta = moment * rho, moment * theta
        rho, theta = w_std**2 * rho, w_std**2 * (rho + theta)
    return rho, theta


CASES = [
    # The other combinations are marked slow. Deeper networks of monomials overflow.
    pytest.param(name, depth, d, b, marks=() if (depth, d, b) in QUICK else pytest.mark.slow)
    for name, depth, d, b in itertools.product((*ACTIVATIONS, *OTHERS), (1, 3, 6), (4, 784), (None, 0.3))
    if name != "monomial" or depth < 6
]


@pytest.mark.parametrize(("name", "depth", "d", "b_std"), CASES)
def test_equal_rows_have_equal_kernels(name, depth, d, b_std, rng):
    activation = ACTIVATIONS[name][0] if name in ACTIVATIONS else OTHERS[name]
    net = network(activation, depth, b_std)
    x = rng.normal(size=(9, d))
    x = np.concatenate([x, x[:3]])
    # Blocks of four: equal rows stand in different blocks.
    square = kernels.kernels(net, x, batch_size=4)
    cross = kernels.kernels(net, x[:4], x, batch_size=4)
    for part, other in zip(square, cross, strict=True):
        part, other = np.asarray(part), np.asarray(other)
        size = np.abs(part).max()
        np.testing.assert_allclose(part[9:], part[:3], rtol=0, atol=1e-14 * size)
        np.testing.assert_allclose(part[[9, 10, 11], [0, 1, 2]], np.diag(part)[:3], rtol=0, atol=1e-14 * size)
        np.testing.assert_allclose(other, part[:4], rtol=0, atol=1e-14 * size)


# Behind one layer x and -x are no longer opposite.
@pytest.mark.parametrize(("depth", "sign"), [(1, 1), (2, 1), (5, 1), (1, -1)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inputs_along_a_ray_follow_the_recursion(name, depth, sign, rng):
    activation, a, b = ACTIVATIONS[name]
    x = rng.normal(size=(1, 50))
    scales = np.array([1.0, 2.5, 1e3])[:, None]
    nngp, ntk = kernels.kernels(network(activation, depth), scales * x, sign * x)
    want = along_a_ray(a, b, depth, 1.5, float(np.mean(x**2)), sign)
    np.testing.assert_allclose(np.asarray(nngp), want[0] * scales, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(ntk), want[1] * scales, rtol=1e-13)


@pytest.mark.parametrize("seed", range(6))
def test_repeated_rows_of_a_relu_network_are_seen(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(7, 4))
    x, y = np.concatenate([x, x[:1]]), rng.normal(size=8)
    net = network(stax.Relu, 1, 0.05)
    with pytest.raises(ValueError, match="singular"):
        ni.Ensemble.fit(net, x, y)
    # The same as the projected labels on the seven: the distance is of their size, not of 1e7.
    both = ni.Ensemble.fit(net, x, y, singular="project")
    mean = np.concatenate([[(y[0] + y[7]) / 2], y[1:7]])
    alone = ni.Ensemble.fit(net, x[:7], mean)
    np.testing.assert_allclose(both.predict(x[:7], jnp.inf).mean, alone.predict(x[:7], jnp.inf).mean, atol=1e-9)
    assert float(ni.information.parameter_distance(both, jnp.inf)) < 100


@pytest.mark.parametrize("name", ["relu", "abs"])
def test_derivatives_at_parallel_inputs_are_finite_and_right(name, rng):
    x = rng.normal(size=(4, 5))
    x = jnp.asarray(np.concatenate([x, 2 * x[:1], x[1:2]]))

    def total(w_std):
        return jnp.sum(jnp.sin(0.01 * kernels.kernels(network(ACTIVATIONS[name][0], 2, None, w_std), x).ntk))

    step = 1e-5
    want = (total(1.5 + step) - total(1.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(1.5), want, rtol=1e-6)
