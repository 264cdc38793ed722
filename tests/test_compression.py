"""Bounds between layers against sampled densities and closed forms; the inequality of relaxation times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

import ntkinfo as ni
from ntkinfo import compression


def test_gaussian_bound_is_the_information_of_a_gaussian_channel(rng):
    weight, a, b = rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(2, 2))
    cov_t, noise = a @ a.T, b @ b.T + 0.1 * np.eye(2)
    # From the joint covariance of (T, W T + noise): ½ log det Σ_T det Σ_Z / det Σ.
    cross = cov_t @ weight
    joint = np.block([[cov_t, cross], [cross.T, weight.T @ cross + noise]])
    logs = [np.linalg.slogdet(each)[1] for each in (cov_t, joint[3:, 3:], joint)]
    want = 0.5 * (logs[0] + logs[1] - logs[2])
    got = ni.compression.gaussian_layer_bound(weight, cov_t, noise)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    many = ni.compression.gaussian_layer_bound(np.stack([weight, 2 * weight]), cov_t[None], noise[None])
    np.testing.assert_allclose(many[0], want, rtol=1e-10)
    gradient = jax.grad(lambda w: compression.gaussian_layer_bound(w, jnp.asarray(cov_t), jnp.asarray(noise)))(
        jnp.asarray(weight)
    )
    step = 1e-6 * np.eye(3, 2)
    slope = (
        compression.gaussian_layer_bound(weight + step, cov_t, noise)
        - compression.gaussian_layer_bound(weight - step, cov_t, noise)
    ) / 2
    np.testing.assert_allclose(np.sum(gradient * step), slope, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_weight_noise_bound_against_sampled_information(rng, scale):
    t = rng.normal(size=(12, 3)) * rng.choice([0.2, 1.0, 4.0], size=(12, 1))
    weight, std, n = scale * rng.normal(size=(3, 2)), 0.3, 100_000
    i = rng.integers(12, size=n)
    deviation = std * np.linalg.norm(t, axis=1)
    z = t[i] @ weight + deviation[i, None] * rng.normal(size=(n, 2))
    logs = -((z[:, None] - (t @ weight)[None]) ** 2).sum(-1) / (2 * deviation**2)[None] - 2 * np.log(deviation)[None]
    ratio = logs[np.arange(n), i] - np.log(np.exp(logs).mean(1))
    bound = float(compression.weight_noise_bound(weight, t, std=std))
    assert ratio.mean() - 5 * ratio.std() / n**0.5 < bound
    # At W = 0 the formula for independent noise says 0, and the truth is far from it.
    if scale == 0:
        cov = np.mean(deviation**2) * np.eye(2)
        assert float(compression.gaussian_layer_bound(weight, np.cov(t.T), cov)) == 0
        assert ratio.mean() > 0.3


def test_weight_noise_bound_on_spheres_is_the_gaussian_one(rng):
    t = rng.normal(size=(50, 4))
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    weight = rng.normal(size=(4, 3))
    want = compression.gaussian_layer_bound(weight, np.cov(t.T, bias=True), 0.04 * np.eye(3))
    np.testing.assert_allclose(compression.weight_noise_bound(weight, t, std=0.2), want, rtol=1e-10)
    both = compression.weight_noise_bound(np.stack([weight, -weight]), np.stack([t, t]), std=0.2)
    np.testing.assert_allclose(both, [want, want], rtol=1e-10)


def test_weight_noise_bound_of_normal_inputs(rng):
    # W = 0, T standard normal in d dimensions: ½ k [log d - E log χ²_d], with E log χ²_d = ψ(d/2) + log 2.
    d, k = 4, 3
    t = rng.normal(size=(200_000, d))
    want = 0.5 * k * (np.log(d) - digamma(d / 2) - np.log(2))
    got = float(compression.weight_noise_bound(np.zeros((d, k)), t, std=0.7))
    assert got == pytest.approx(want, abs=0.02)


def test_relaxation_times(rng):
    times = compression.relaxation_times(np.array([[0.0, 0.0], [2 * np.log(2), 0.0], [1.0, 2.0]]))
    np.testing.assert_allclose(times.layers, [2, 5, np.e + np.e**2])
    np.testing.assert_allclose(times.single, [1, 4, np.e**3])
    # The claim as it was made fails for the first two; what is left beyond the layers' own times never does.
    assert times.faster.tolist() == [False, False, True]
    # Equality counts as faster: one layer is as fast as itself.
    assert compression.relaxation_times(np.array([[0.0], [1.0], [300.0]])).faster.tolist() == [True] * 3
    # A layer that forgets nothing only costs time, though it is lost in the rounding of exp 40, or of an overflow.
    for delta in ([40.0, 0.0], [0.0, 40.0], [800.0, 0.0], [1e-300, 600.0, 0.0]):
        assert compression.relaxation_times(np.array(delta)).faster.item() is False
    # exp(600 + 1e-300) is above exp 600 by 4e-40, less than the 2 of the other layers; exp(800 + 1e-300) by e^109.
    assert compression.relaxation_times(np.array([1e-300, 800.0, 0.0])).faster.item() is True
    assert compression.relaxation_times(np.array([800.0, 800.0])).faster.item() is True
    assert compression.relaxation_times(np.zeros((2, 3))).faster.tolist() == [False, False]
    delta = rng.exponential(size=(500, 4)) * rng.choice([0.01, 1.0, 3.0], size=(500, 1))
    times = compression.relaxation_times(delta)
    assert (times.layers_beyond <= times.single_beyond * (1 + 1e-12)).all()
    others = delta.sum(1, keepdims=True) - delta
    np.testing.assert_array_equal(times.faster, np.exp(-others).sum(1) <= 1)


def test_measured_compression_time():
    epochs = [0, 1, 2, 5, 10, 20]
    falls = np.array([[1, 4, 3.5, 2.9, 2, 2], [1, 2, 3, 4, 5, 5], [6, 1, 6, 5, 4, 4.0]])
    assert compression.measured_compression_time(epochs, falls).tolist() == [5, -1, 1]
    assert compression.measured_compression_time(epochs, falls, fraction=1.0).tolist() == [10, -1, 1]


SQUARE = np.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compression.gaussian_layer_bound(SQUARE, np.eye(3), SQUARE), ValueError, r"`cov_t` must have shape"),
        (lambda: compression.gaussian_layer_bound(SQUARE, SQUARE, 0 * SQUARE), ValueError, "positive definite"),
        (lambda: compression.gaussian_layer_bound(np.ones(2), SQUARE, SQUARE), ValueError, "`weight` must have shape"),
        (lambda: compression.weight_noise_bound(SQUARE, np.ones((4, 3)), std=1.0), ValueError, r"\(..., n, 2\)"),
        (lambda: compression.weight_noise_bound(SQUARE, np.ones((4, 2)), std=0.0), ValueError, "`std`"),
        (lambda: compression.weight_noise_bound(SQUARE, np.eye(3)[:, :2], std=1.0), ValueError, "row of zeros"),
        (lambda: compression.relaxation_times(np.array([-1.0])), ValueError, "`delta_s`"),
        (lambda: compression.relaxation_times(np.array([1])), TypeError, "floating-point"),
        (lambda: compression.measured_compression_time([0, 1], np.ones(3)), ValueError, "as `epochs`"),
        (lambda: compression.measured_compression_time([1, 0], np.ones(2)), ValueError, "ascending"),
        (lambda: compression.measured_compression_time([0, 1], np.ones(2), fraction=0.0), ValueError, "`fraction`"),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bounds_of_huge_and_tiny_matrices(rng):
    weight, t = rng.normal(size=(3, 2)), rng.normal(size=(9, 3))
    expected = compression.weight_noise_bound(weight, t, std=0.1)
    for scale in (1e-120, 1e120):
        # Noise and signal grow together: the bound does not change.
        np.testing.assert_allclose(compression.weight_noise_bound(weight, scale * t, std=0.1), expected, rtol=1e-12)
        np.testing.assert_allclose(
            compression.weight_noise_bound(scale * weight, t, std=0.1 * scale), expected, rtol=1e-12
        )
    with pytest.raises(
        ValueError, match=r"`weight`, `activations` and `std` must not be so large.*float64; got (inf|nan)"
    ):
        compression.weight_noise_bound(weight, 1e200 * t, std=0.1)
    with pytest.raises(ValueError, match="`weight`, `cov_t` and `cov_noise` must not be so large"):
        compression.gaussian_layer_bound(1e200 * weight, np.eye(3), np.eye(2))


@pytest.mark.parametrize(
    ("cov_t", "cov_noise", "message"),
    [
        (-np.eye(3), np.eye(2), r"`cov_t` must be positive semidefinite.*got eigenvalue -1"),
        (np.triu(np.ones((3, 3))), np.eye(2), "`cov_t` must be symmetric"),
        (np.eye(3), np.triu(np.ones((2, 2))), "`cov_noise` must be symmetric"),
    ],
)
def test_what_is_no_covariance_is_refused(cov_t, cov_noise, message):
    with pytest.raises(ValueError, match=message):
        compression.gaussian_layer_bound(np.ones((3, 2)), cov_t, cov_noise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": [0.0, np.nan, 2.0]}, "`epochs`"),
        ({"epochs": ["a", "b", "c"]}, "`epochs`"),
        ({"epochs": np.ma.array([0, 1, 2], mask=[0, 1, 0])}, "`epochs` must have no masked entries"),
        ({"fraction": [0.5]}, "`fraction` must be one number"),
        ({"fraction": 1.5}, "`fraction` must lie in"),
        ({"least": np.nan}, "`least`"),
    ],
)
def test_times_of_compression_check_what_they_are_given(options, message):
    arguments = {"epochs": [0, 1, 2], "i_xt": np.array([1.0, 3.0, 2.0])} | options
    with pytest.raises((TypeError, ValueError), match=message):
        compression.measured_compression_time(**arguments)
