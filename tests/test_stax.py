"""ntkinfo.stax: neural-tangents' layers give the kernels of the textbook and of sampled finite networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import stax
from tests.references.kernels import fully_connected

STDS = [(1.5, 0.1), (1.2, 0.0), (0.9, 0.3), (1.4, 0.2)]
ACTIVATIONS = {"erf": stax.Erf, "relu": stax.Relu}


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 11)), rng.normal(size=(4, 11))


def network(activation, stds=STDS, width=8):
    layers = []
    for w_std, b_std in stds:
        layers += [stax.Dense(width, W_std=w_std, b_std=b_std), ACTIVATIONS[activation]()]
    return stax.serial(*layers[:-1])


def relative(got, want):
    return np.max(np.abs(np.asarray(got) - want)) / np.max(np.abs(want))


def test_every_public_name_of_neural_tangents_is_here():
    import neural_tangents

    theirs = {name for name in vars(neural_tangents.stax) if not name.startswith("_")}
    assert set(stax.__all__) == theirs
    for name in theirs:
        # Layers are wrapped, for their correlated kernels, around neural-tangents' own.
        mine, original = getattr(stax, name), getattr(neural_tangents.stax, name)
        assert mine is original or mine.__wrapped__ is original, name


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_fully_connected_kernels_follow_the_recursion(points, activation, depth):
    x1, x2 = points
    kernel_fn = network(activation, STDS[:depth])[2]
    for a, b in ((x1, None), (x1, x2)):
        nngp, ntk = fully_connected(a, a if b is None else b, STDS[:depth], activation)
        got = kernel_fn(a, b, ("nngp", "ntk"))
        assert relative(got.nngp, nngp) < 1e-12
        assert relative(got.ntk, ntk) < 1e-12
        jitted = jax.jit(lambda a, b, f=kernel_fn: f(a, b, "ntk"))(a, b)
        assert relative(jitted, ntk) < 1e-12


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_kernel_is_differentiable(points, activation):
    x, _ = points
    kernel_fn = network(activation, STDS[:2])[2]
    total = jax.jit(lambda x: kernel_fn(x, None, "ntk").sum())
    gradient = jax.jit(jax.grad(total))(x)
    step = 1e-5 * np.random.default_rng(1).normal(size=x.shape)
    assert np.isclose((total(x + step) - total(x - step)) / 2, np.sum(gradient * step), rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "slopes"),
    [
        (stax.Relu, (0, 1)),
        (lambda: stax.LeakyRelu(0.3), (0.3, 1)),
        (stax.Abs, (-1, 1)),
        (lambda: stax.ABRelu(0.2, 2), (0.2, 2)),
    ],
)
def test_diagonal_of_the_kinked_activations_is_exact(points, layer, slopes):
    x, _ = points
    moment = (slopes[0] ** 2 + slopes[1] ** 2) / 2
    _, _, kernel_fn = stax.serial(
        stax.Dense(1, W_std=1.1, b_std=0.2), layer(), stax.Dense(1, W_std=0.8), layer(), stax.Dense(1, W_std=1.3)
    )
    q = 1.21 * (x**2).mean(1) + 0.04
    theta = q
    for w_std in (0.8, 1.3):
        q, theta = w_std**2 * moment * q, w_std**2 * moment * (q + theta)
    other = np.vstack([x[1:], x[:1]])
    for got in (
        kernel_fn(x, None, "ntk"),
        kernel_fn(x, x.copy(), "ntk"),
        jax.jit(lambda a, b: kernel_fn(a, b, "ntk"))(x, x.copy()),
    ):
        assert np.max(np.abs(np.diagonal(got) / theta - 1)) < 1e-12
    # Where the two sets differ, the diagonal pairs different points and must be left alone.
    assert np.allclose(np.diagonal(kernel_fn(x, other, "ntk")), np.diagonal(np.roll(kernel_fn(x, None, "ntk"), -1, 1)))
    assert np.allclose(
        kernel_fn(x, other, "ntk"), np.asarray(kernel_fn(x, None, "ntk"))[:, [*range(1, 7), 0]], rtol=1e-7
    )


@pytest.mark.parametrize("pool", [stax.Flatten, stax.GlobalAvgPool])
def test_diagonal_mend_reaches_every_pixel_and_no_other(pool):
    """A 1 x 1 convolution maps every pixel as a dense layer maps a point: the kernels must be averages of those."""
    x = np.random.default_rng(3).normal(size=(3, 2, 2, 5))
    _, _, kernel_fn = stax.serial(
        stax.Conv(1, (1, 1), W_std=1.5, b_std=0.1), stax.Relu(), stax.Conv(1, (1, 1), W_std=1.2), pool(), stax.Dense(1)
    )
    pixels = x.reshape(12, 5)
    nngp, ntk = (k.reshape(3, 4, 3, 4) for k in fully_connected(pixels, pixels, [(1.5, 0.1), (1.2, 0.0)], "relu"))
    average = "iaja->ij" if pool is stax.Flatten else "iajb->ij"
    count = 4 if pool is stax.Flatten else 16
    want = np.einsum(average, nngp + ntk) / count
    assert relative(kernel_fn(x, None, "ntk"), want) < 1e-12


def test_finite_networks_agree_with_the_kernels(points):
    """E[f f'] over 400 networks is the NNGP exactly at any width; within 5 standard errors."""
    x = points[0][:4]
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Dense(512, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1)
    )

    def draw(key):
        _, params = init_fn(key, x.shape)
        f = apply_fn(params, jnp.asarray(x))[:, 0]
        return f[:, None] * f[None, :]

    draws = np.asarray(jax.lax.map(draw, jax.random.split(jax.random.PRNGKey(0), 400)))
    stderr = draws.std(0, ddof=1) / np.sqrt(len(draws))
    z = (draws.mean(0) - np.asarray(kernel_fn(x, None, "nngp"))) / stderr
    assert np.max(np.abs(z)) < 5
    # The check has teeth: the NTK is not the covariance of the outputs.
    assert np.max(np.abs((draws.mean(0) - np.asarray(kernel_fn(x, None, "ntk"))) / stderr)) > 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"W_std": float("nan")}, "`W_std` must lie in"),
        ({"W_std": 1e308}, "`W_std` must lie in"),
        ({"W_std": [1.5]}, "`W_std` must be one number"),
        ({"b_std": "a"}, "`b_std` must be a real number"),
        ({"out_dim": 2.5}, "`out_dim` must be an integer"),
        ({"out_dim": 0}, "`out_dim` must be at least 1"),
    ],
)
def test_scales_and_units_of_a_layer_are_checked(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        stax.Dense(**{"out_dim": 1} | options)
