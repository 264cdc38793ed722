"""Information in the layers: against wide finite networks, dense formulas, sampling, and depth."""

import jax
import numpy as np
import pytest
import scipy.special

import ntkinfo as ni
from ntkinfo import stax


def erf_layers(depth, w_std=1.5, b_std=0.1, width=64):
    return [layer for _ in range(depth) for layer in (stax.Dense(width, W_std=w_std, b_std=b_std), stax.Erf())]


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 5))
    return x, (x[:, 0] > 0).astype(int)


def test_against_dense_distances(inputs):
    x, y = inputs
    found = ni.layers.information(erf_layers(2), x, y, snr=8.0)
    for depth in range(4):
        k = np.asarray(ni.kernels.kernels(stax.serial(*erf_layers(2)[: depth + 1]), x).nngp)
        square = np.diag(k)[:, None] + np.diag(k)[None] - 2 * k
        noise = np.trace(k) / len(k) / 8.0
        np.testing.assert_allclose(found.noise[depth], noise, rtol=1e-9)
        upper, lower = (-np.mean(np.log(np.mean(np.exp(-square / (c * noise)), axis=1))) for c in (2, 8))
        np.testing.assert_allclose(found.i_xt.upper[depth], upper, rtol=1e-8)
        np.testing.assert_allclose(found.i_xt.lower[depth], lower, rtol=1e-8)


def test_sampled_values_lie_between_the_bounds(inputs):
    x, y = inputs
    bounds = ni.layers.information(erf_layers(2), x, y, snr=8.0)
    sampled = ni.layers.information(erf_layers(2), x, y, snr=8.0, method="monte_carlo", key=jax.random.key(0))
    for name in ("i_xt", "i_ty"):
        value, bound = getattr(sampled, name), getattr(bounds, name)
        assert np.all(bound.lower - 4 * value.stderr <= value.value)
        assert np.all(value.value <= bound.upper + 4 * value.stderr)
    assert np.all(sampled.i_ty.value <= sampled.i_xt.value + 1e-9)
    # More signal tells more.
    more = ni.layers.information(erf_layers(2), x, y, snr=16.0, method="monte_carlo", key=jax.random.key(0))
    assert np.all(more.i_xt.value > sampled.i_xt.value)


def test_wide_finite_networks_have_these_layers(inputs):
    x, y = inputs
    rng, activations, values = np.random.default_rng(1), [], x
    wide = 8192
    for _ in range(2):
        weight = rng.normal(size=(values.shape[1], wide), scale=1.5 / np.sqrt(values.shape[1]))
        values = values @ weight + 0.1 * rng.normal(size=wide)
        activations.append(values)
        values = scipy.special.erf(values)
        activations.append(values)
    found = ni.layers.of_activations(activations, y, snr=8.0)
    limit = ni.layers.information(erf_layers(2), x, y, snr=8.0)
    np.testing.assert_allclose(found.noise, limit.noise, rtol=0.05)
    for bound in ("lower", "upper"):
        np.testing.assert_allclose(getattr(found.i_xt, bound), getattr(limit.i_xt, bound), atol=0.06)


def test_depth_draws_inputs_together_or_apart(inputs):
    """No Markov chain: in the ordered phase information falls from layer to layer, in the chaotic phase it rises."""
    x, _ = inputs
    ordered = ni.layers.information(erf_layers(4, w_std=0.8, b_std=0.5), x, snr=20.0).i_xt.lower[1::2]
    chaotic = ni.layers.information(erf_layers(4, w_std=4.0, b_std=0.0), x, snr=20.0).i_xt.lower[1::2]
    assert np.all(np.diff(chaotic) > -1e-6) and chaotic[-1] > chaotic[0]
    assert np.all(np.diff(ordered) < 0) and ordered[-1] < 0.5 * ordered[0]


def test_layers_alike_for_all_inputs_tell_nothing():
    x = np.ones((4, 3))
    found = ni.layers.information(erf_layers(1), x, np.array([0, 1, 0, 1]), snr=5.0)
    np.testing.assert_allclose(found.i_xt.upper, 0.0, atol=1e-12)
    assert np.all(np.abs(found.i_ty.value) < 1e-12)
    assert ni.layers.information(erf_layers(1), x.astype(np.float32), snr=5.0).noise.dtype == np.float32


def test_convolutions_and_layers_without_parameters():
    """Of an image all positions count together; no tangent kernel is asked for, which a leading `Flatten` has not."""
    x = np.random.default_rng(0).normal(size=(4, 5, 5, 1))
    layers = [stax.Conv(8, (3, 3)), stax.Relu(), stax.Flatten(), stax.Dense(1)]
    found = ni.layers.information(layers, x, snr=2.0)
    for depth in (1, 2):
        gram = stax.serial(*layers[:depth])[2](x, None, "nngp")
        gram = np.einsum("xyiijj->xy", np.asarray(gram)) / 9
        np.testing.assert_allclose(found.noise[depth - 1], np.trace(gram) / 4 / 2, rtol=1e-9)
        square = np.add.outer(np.diag(gram), np.diag(gram)) - 2 * gram
        upper = -np.mean(np.log(np.mean(np.exp(-square / (2 * found.noise[depth - 1])), axis=1)))
        np.testing.assert_allclose(found.i_xt.upper[depth - 1], upper, rtol=1e-8)
    np.testing.assert_allclose(found.i_xt.upper[2], found.i_xt.upper[1], rtol=1e-9)
    flat = ni.layers.information([stax.Flatten(), stax.Dense(1)], x, snr=2.0)
    np.testing.assert_allclose(flat.i_xt.upper, ni.layers.of_activations([x.reshape(4, -1)] * 2, snr=2.0).i_xt.upper)


def test_activations_of_any_size_tell_the_same(inputs):
    x, y = inputs
    wanted = ni.layers.of_activations([x, 1e-9 * x], y, snr=8.0)
    for size in (1e-145, 1e140):
        found = ni.layers.of_activations([size * x, x], y, snr=8.0)
        np.testing.assert_allclose(found.i_xt.upper, wanted.i_xt.upper, rtol=1e-12)
        np.testing.assert_allclose(found.i_ty.lower, wanted.i_ty.lower, rtol=1e-12)
        np.testing.assert_allclose(found.noise[0] / size / size, wanted.noise[0], rtol=1e-12)
    # A noise that is no normal number is not handed out as 0, nor is the layer taken for one of zeros.
    for size in (1e-155, 1e-200, 5e-324):
        with pytest.raises(ValueError, match=r"`activations` .* must be larger: the noise of layer 1 underflows"):
            ni.layers.of_activations([x, np.where(x > 0, size, 0.0)], y, snr=8.0)
    with pytest.raises(ValueError, match="the noise of layer 0 underflows in float32"):
        ni.layers.of_activations([np.float32(1e-21) * x.astype(np.float32)], snr=8.0)
    with pytest.raises(ValueError, match="`x` must be larger"):
        ni.layers.information([stax.Dense(8), stax.Erf()], 1e-200 * x, snr=8.0)
    zeros = ni.layers.of_activations([x, 0 * x], y, snr=8.0)
    assert zeros.i_xt.upper[1] == zeros.i_ty.upper[1] == 0 and zeros.i_xt.lower[0] > 0


def test_what_is_left_of_equal_rows_is_no_signal_at_any_noise(inputs):
    x, _ = inputs
    found = ni.layers.of_activations([np.repeat(x[:2], 3, axis=0)], snr=1e13)
    np.testing.assert_allclose([found.i_xt.lower[0], found.i_xt.upper[0]], np.log(2), rtol=1e-9)


def test_the_table_says_what_is_a_bound(inputs):
    """By "pairwise" nothing is estimated: the value alone would pass for one."""
    x, y = inputs
    frame = ni.layers.of_activations([x, np.tanh(x)], y, snr=8.0).to_dataframe(unit="bits")
    assert list(frame) == [
        *("layer", "i_xt", "i_xt_lower", "i_xt_upper", "i_xt_stderr"),
        *("i_ty", "i_ty_lower", "i_ty_upper", "i_ty_stderr", "noise"),
    ]
    assert frame.attrs == {"units": "bits", "method": "pairwise"}
    assert (frame.i_xt == frame.i_xt_lower).all() and (frame.i_xt_lower < frame.i_xt_upper).all()
    found = ni.layers.of_activations([x, np.tanh(x)], y, snr=8.0)
    np.testing.assert_allclose(frame.i_ty_upper * np.log(2), found.i_ty.upper, rtol=1e-12)


def test_refusals(inputs):
    x, _ = inputs
    with pytest.raises(TypeError, match="`net` must be a list of layers"):
        ni.layers.information(stax.Erf(), x, snr=1.0)
    with pytest.raises(TypeError, match="`net` must be a list of layers"):
        ni.layers.information([], x, snr=1.0)
    with pytest.raises(ValueError, match="`snr` must be positive"):
        ni.layers.information(erf_layers(1), x, snr=0.0)
    for snr in (1e308, 1e-308):
        with pytest.raises(ValueError, match="`snr` must leave a noise within the range of float64"):
            ni.layers.information(erf_layers(1), x * (1e200 if snr < 1 else 1e-100) ** 0.5, snr=snr)
        with pytest.raises(ValueError, match="`snr` must leave a noise within the range of float64"):
            ni.layers.of_activations([x], snr=snr)
    with pytest.raises(ValueError, match="at least two inputs"):
        ni.layers.information(erf_layers(1), x[:1], snr=1.0)
    with pytest.raises(ValueError, match="`key` must be given"):
        ni.layers.information(erf_layers(1), x, snr=1.0, method="monte_carlo")
    with pytest.raises(ValueError, match="`activations` must be of the same inputs"):
        ni.layers.of_activations([x, x[:3]], snr=1.0)
