import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo._numerics import decay_forms
from ntkinfo.ensemble import _ensemble
from tests.problems import network

TIMES = np.concatenate([[0.0], np.logspace(-2, 5, 400), [np.inf]])


def spectrum(rng, n, kind):
    """Eigenvalues ascending (n,), eigenvectors and K̃ of kernels that decay, cluster, or fall apart in two."""
    rates = {
        "decaying": np.logspace(-6, 2, n),
        "clustered": np.concatenate([np.full(n // 2, 0.3), np.linspace(1.0, 1.1, n - n // 2 - 1), [500.0]]),
        "singular": np.concatenate([np.zeros(n // 10), np.logspace(-3, 1, n - n // 10)]),
        "apart": np.sort(np.concatenate([np.logspace(-4, -3, n // 2), np.logspace(0, 1, n - n // 2)])),
    }[kind]
    u = np.linalg.qr(rng.normal(size=(n, n)))[0]
    if kind == "apart":
        # Two sets of inputs that have nothing to do with each other: the second never sees the slow modes.
        u = np.zeros((n, n))
        u[: n // 2, : n // 2], u[n // 2 :, n // 2 :] = (
            np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (n // 2, n - n // 2)
        )
    half = rng.normal(size=(n, n)) * np.sqrt(np.maximum(rates, 1e-8))[:, None]
    nngp = half @ half.T / n
    return rates, u, nngp if kind != "apart" else nngp * (u.T @ u > 0.5) + np.diag(np.diagonal(nngp))


@pytest.mark.parametrize("kind", ["decaying", "clustered", "singular", "apart"])
def test_forms_are_those_of_each_time(rng, kind):
    n = 160
    rates, u, nngp = spectrum(rng, n, kind)
    found = decay_forms.variances(rates, u, nngp, TIMES)
    assert found is not None and found.shape == (len(TIMES), n)
    functions = decay_forms.relative_decay(rates, TIMES).astype(np.longdouble)
    assert functions[-1, 0] == 1 and (functions[-1, rates > rates[0]] == 0).all()
    for value, h in list(zip(found, functions, strict=True))[::13]:
        rows = u * h
        exact = np.sum((rows @ nngp.astype(np.longdouble)) * rows, axis=1)
        rounding = 2e-16 * (np.abs(rows) @ np.sqrt(np.diagonal(nngp))) ** 2
        assert (np.abs(value - exact) <= 1e-8 * exact + rounding + 1e-290).all()


def test_an_expansion_that_is_too_coarse_is_seen(rng, monkeypatch):
    # With far too few functions everything it spoils is computed by itself.
    rates, u, nngp = spectrum(rng, 160, "decaying")
    exact = decay_forms.variances(rates, u, nngp, TIMES)
    monkeypatch.setitem(decay_forms._TOLERANCE, "float64", (1e-2, 1e-8))
    functions = decay_forms.relative_decay(rates, TIMES)
    coarse = decay_forms.expansion(rates, functions)
    values = decay_forms.forms(u, nngp, coarse)
    assert np.max(np.abs(values / exact - 1)) > 1e-3
    assert decay_forms.doubtful(u, nngp, coarse, values, functions)[np.abs(values / exact - 1) > 1e-8].all()
    np.testing.assert_allclose(decay_forms.variances(rates, u, nngp, TIMES), exact, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_predict_train_at_many_times_is_that_of_few(rng, dtype, monkeypatch):
    x = rng.normal(size=(140, 6)).astype(dtype)
    y = np.stack([np.sign(x[:, 0]), x[:, 1]], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ens = ni.Ensemble.fit(network(outputs=2), x, y)
    used = []
    original = decay_forms.variances
    monkeypatch.setattr(decay_forms, "variances", lambda *a: used.append(original(*a)) or used[-1])
    found = ens.predict_train(TIMES)
    assert len(used) == 1 and used[0] is not None
    old = _ensemble._predict_train(ens, ens.rescaled_time(jnp.asarray(TIMES)), False)
    assert found.mean.shape == (len(TIMES), 140, 2) and found.variance.dtype == dtype and found.covariance is None
    np.testing.assert_allclose(found.mean, old.mean, atol=1e-12 if dtype == np.float64 else 1e-5)
    error = ens.filters(ens.rescaled_time(jnp.asarray(TIMES))).decay
    error = _ensemble._moments.rounding_errors(error, ens.eigenvectors, None, ens.nngp_rotated)
    rtol = 1e-8 if dtype == np.float64 else 1e-4
    assert (np.abs(found.variance - old.variance) <= rtol * old.variance + 4 * error).all()
    assert (np.asarray(found.variance) >= 0).all() and (found.variance[-1] == 0).all()
    np.testing.assert_allclose(found.mean[-1], y, atol=1e-6 if dtype == np.float64 else 1e-2)
    # Under tracing, and for few times, as before.
    jitted = jax.jit(lambda t: ens.predict_train(t).variance)(jnp.asarray(TIMES))
    np.testing.assert_array_equal(np.asarray(jitted) == 0, np.asarray(old.variance) == 0)
    for joint in (False, True):
        ens.predict_train(TIMES[:5], joint=joint)
    assert len(used) == 1


@pytest.mark.parametrize("share", [0.98, 1.02])
@pytest.mark.parametrize("cause", ["missing", "rounding"])
def test_the_bound_of_what_an_expansion_leaves_out_is_attained(rng, share, cause):
    """A kernel vvᵀ and positive rows: what is missing adds up, so the bound is the change itself and not above it."""
    n, tolerance, eps = 6, 1e-8, np.finfo(float).eps
    rows, v, h = rng.uniform(0.5, 2, (3, n)), rng.uniform(0.5, 2, n), rng.uniform(0.1, 1, (2, n))
    sums = h @ (rows * v).T
    if cause == "missing":
        # (1 + c)² of the value is found: that much, 2c + c², may be tolerated relative to it.
        c = share * (np.sqrt(1 / (1 - tolerance)) - 1)
        found = decay_forms.Expansion([0, n], [(1 + c) * h], np.eye(2), c * h)
        values = ((1 + c) * sums) ** 2
    else:
        # Terms ±M that cancel to h leave a rounding error of eps times the square of their sum, four for its products.
        large = np.sqrt(share * tolerance / (4 * eps))
        functions = np.concatenate([(large + 1) / 2 * h, (large - 1) / 2 * h])
        found = decay_forms.Expansion([0, n], [functions], np.hstack([np.eye(2), -np.eye(2)]), np.zeros((2, n)))
        values = sums**2
    found_doubtful = decay_forms.doubtful(rows, np.outer(v, v), found, values, h)
    np.testing.assert_array_equal(found_doubtful, np.full((2, 3), share > 1))
