"""The same numbers in the dtype that JAX computes in: what `--float32` runs, and the whole suite in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import bottleneck, stax


def test_kernels_of_one_erf_layer(rng, tolerance):
    x = jnp.asarray(rng.normal(size=(6, 5)))
    _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1))
    x_64 = np.asarray(x, dtype=np.float64)
    nngp = 2.25 * x_64 @ x_64.T / 5 + 0.01
    d = 1 + 2 * np.diag(nngp)
    want = 2.25 * 2 / np.pi * np.arcsin(2 * nngp / np.sqrt(np.outer(d, d))) + 0.01
    got = kernel_fn(x, None, "nngp")
    assert got.dtype == x.dtype
    assert np.max(np.abs(got - want)) <= tolerance * np.max(np.abs(want))


def test_gaussian_bottleneck_of_one_variable(tolerance):
    rho, beta = 0.8, 4.0
    curve = bottleneck.gaussian_ib(1.0, 1.0, rho, jnp.array([beta]))
    # I(X;Z) = (1/2) log((β - 1)(1 - λ)/λ), λ = 1 - ρ².
    want = 0.5 * np.log((beta - 1) * rho**2 / (1 - rho**2))
    assert float(curve.i_xz[0]) == pytest.approx(want, rel=tolerance)
