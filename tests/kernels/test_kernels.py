import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import kernels, stax
from tests.problems import network


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks_are_the_whole(rng, batch_size, symmetric):
    x1, x2 = rng.normal(size=(10, 4)), None if symmetric else rng.normal(size=(7, 4))
    net = network()
    whole = kernels.evaluate(net[2], x1, x2)
    blocks = kernels.kernels(net, x1, x2, batch_size=batch_size)
    for part, expected in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-12)


def test_only_half_the_blocks_of_a_symmetric_matrix_are_evaluated(rng):
    evaluated = []

    def counting(x1, x2, get):
        jax.debug.callback(lambda: evaluated.append(None))
        x2 = x1 if x2 is None else x2
        return x1 @ x2.T, x1 @ x2.T

    jax.block_until_ready(kernels.kernels(counting, rng.normal(size=(8, 2)), batch_size=2))
    jax.effects_barrier()
    assert len(evaluated) == 10


def test_diagonal_is_that_of_the_matrix(rng):
    x = rng.normal(size=(70, 3))
    np.testing.assert_allclose(kernels.diagonal(network(), x), np.diag(kernels.kernels(network(), x).nngp), rtol=1e-13)


def test_block_size_shrinks_with_the_pairs_of_positions():
    assert kernels.block_size(np.zeros((5, 30))) == 1024
    assert kernels.block_size(np.zeros((5, 8, 8, 1))) == 16
    assert kernels.block_size(np.zeros((5, 28, 28, 1))) == 1


def test_kernels_are_the_covariance_of_sampled_networks(rng):
    x = rng.normal(size=(4, 3))
    init, apply, _ = net = stax.serial(stax.Dense(1024, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5))
    n = 2000
    outputs = jax.lax.map(
        lambda key: apply(init(key, x.shape)[1], x)[:, 0], jax.random.split(jax.random.key(1), n), batch_size=50
    )
    products = np.asarray(outputs)[:, :, None] * np.asarray(outputs)[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    assert np.all(np.abs(products.mean(axis=0) - kernels.kernels(net, x).nngp) < 5 * error)


def test_float32_stays_float32(rng):
    both = kernels.kernels(network(), rng.normal(size=(5, 4)).astype(np.float32))
    assert both.nngp.dtype == both.ntk.dtype == jnp.float32


def test_a_progress_bar_on_request(rng, capsys):
    kernels.kernels(network(), rng.normal(size=(6, 4)), batch_size=2, progress=True)
    assert "6/6" in capsys.readouterr().err
    kernels.kernels(network(), rng.normal(size=(6, 4)), batch_size=2)
    assert capsys.readouterr().err == ""


def test_differentiable_in_the_inputs(rng):
    x = rng.normal(size=(3, 4))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(kernels.kernels(network(), x, x + 1.0).ntk)))(x)
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize(
    ("net", "x1", "x2", "error", "message"),
    [
        (3, np.ones((2, 2)), None, TypeError, "`net` must be a network of `ntkinfo.stax`"),
        (
            network(),
            np.ones((2, 2)),
            np.ones((2, 3)),
            ValueError,
            r"must hold inputs of one shape; got \(2,\) and \(3,\)",
        ),
        (network(), np.ones(2), None, ValueError, "`x1` must have an axis of samples"),
        (network(), [[1.0, np.inf]], None, ValueError, "`x1` must be finite; got inf"),
        (network(), [[1, 2]], None, TypeError, "`x1` must hold floating-point numbers"),
        (lambda a, b, get: (a * jnp.nan, a * jnp.nan), np.ones((2, 2)), None, ValueError, "kernel of `net` has NaN"),
        (
            lambda a, b, get: (a[0], a[0]),
            np.ones((2, 2)),
            None,
            ValueError,
            "kernels of shape .*, samples by samples",
        ),
    ],
)
def test_bad_input(net, x1, x2, error, message):
    with pytest.raises(error, match=message):
        ni.kernels.kernels(net, x1, x2)


def test_correlated_kernel_is_the_covariance_at_one_and_its_slope_the_tangent_kernel(rng):
    net = stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(1))
    x1, x2 = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    both = ni.kernels.kernels(net, x1, x2)
    np.testing.assert_allclose(ni.kernels.correlated(net, x1, x2, rho=1.0), both.nngp, rtol=1e-12)
    slope = jax.jit(jax.jacfwd(lambda rho: ni.kernels.correlated(net, x1, x2, rho=rho)))(1.0)
    np.testing.assert_allclose(slope, both.ntk, rtol=1e-10)
    with pytest.raises(ValueError, match=r"`rho` must lie in \[-1, 1\]"):
        ni.kernels.correlated(net, x1, rho=1.5)
    with pytest.raises(ValueError, match="inputs of one shape"):
        ni.kernels.correlated(net, x1, x2[:, :1], rho=0.5)


def test_has_hessian():
    smooth, kinked = (stax.serial(stax.Dense(8), layer, stax.Dense(1)) for layer in (stax.Erf(), stax.Relu()))
    assert ni.kernels.has_hessian(smooth) and not ni.kernels.has_hessian(kinked)
    assert not ni.kernels.has_hessian(lambda x1, x2, get: None)


@pytest.mark.parametrize(
    ("kernel_fn", "message"),
    [
        (lambda x1, x2: x1 @ x1.T, "which does not take three arguments"),
        (lambda x1, x2, get: x1 @ x1.T, "must return two kernels .* returned "),
        (lambda x1, x2, get: {"nngp": x1 @ x1.T}, "must return two kernels .* returned dict"),
        (lambda x1, x2, get: None, "must return two kernels .* returned None"),
        (lambda x1, x2, get: ("a", "b"), "must return kernels of floating-point numbers; got 'a'"),
    ],
)
def test_own_kernel_functions_that_are_none_are_named(rng, kernel_fn, message):
    x = rng.normal(size=(5, 2))
    for call in (kernels.kernels, kernels.diagonal, lambda net, x: ni.Ensemble.fit(net, x, np.ones(5))):
        with pytest.raises(TypeError, match=f"`net` must.*{message}|`net` {message}"):
            call(kernel_fn, x)


@pytest.mark.parametrize("name", ["kernels", "diagonal", "hessian"])
def test_inputs_whose_squares_overflow_are_refused(rng, name):
    x = 1e200 * rng.normal(size=(5, 2))
    with pytest.raises(ValueError, match=r"`x1?` must not be so large that its squares leave the range of float64"):
        getattr(kernels, name)(network(), x)
    with pytest.raises(ValueError, match="`x1`"):
        kernels.correlated(network(), x, rho=0.5)


def test_a_diagonal_that_overflows_is_refused(rng):
    net = stax.serial(stax.Dense(1, W_std=1e150), stax.Abs(), stax.Dense(1, W_std=1e150))
    with pytest.raises(ValueError, match="`x` and the scales of `net` must not be so large"):
        kernels.diagonal(net, rng.normal(size=(5, 2)))


@pytest.mark.parametrize("devices", [3, "cpu", [3], {}, np.ones(2)])
def test_what_is_no_list_of_devices_is_named(rng, devices):
    with pytest.raises(TypeError, match="`devices` must be a list of devices"):
        kernels.kernels(network(), rng.normal(size=(5, 2)), devices=devices)
    with pytest.raises(TypeError, match="`progress` must be True or False or None"):
        kernels.kernels(network(), rng.normal(size=(5, 2)), progress="no")
