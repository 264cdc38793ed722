import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import information
from tests.problems import network

LATE = jnp.array([0.0, 10.0, 1e4, 1e7, jnp.inf])
# The same for all seeds: what is compiled for one serves the others.
NETWORKS = network(w_std=1.0), network(w_std=2.0)
MANY = jnp.append(jnp.logspace(-2, 9, 60), jnp.inf)


def setting(seed, dtype=np.float64, n=10):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 1 + seed % 2 * 2)).astype(dtype), rng.normal(size=(n, 1)).astype(dtype)
    ens = ni.Ensemble.fit(NETWORKS[seed % 2], x, y, singular="project")
    near = x + (1e-9 * rng.normal(size=x.shape)).astype(dtype)
    honest = rng.uniform(x.min(), x.max(), size=(10, x.shape[1])).astype(dtype)
    return ens, x, near, honest


@pytest.mark.filterwarnings("ignore:float(32|64) resolves")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(6))
def test_variances_are_never_negative(seed, dtype):
    ens, x, near, honest = setting(seed, dtype)
    x_test = np.concatenate([x, x[:3], near, near[:3], honest])
    for t in (LATE, MANY):
        z, joint, train = ens.predict(x_test, t), ens.predict(x_test, t, joint=True), ens.predict_train(t, joint=True)
        for variance in (z.variance, joint.variance, train.variance, ens.predict_train(t).variance):
            assert (variance >= 0).all()
        np.testing.assert_array_equal(joint.variance, jnp.diagonal(joint.covariance, axis1=1, axis2=2))
        # Zero where training has taken all of it, on and beside the training inputs; not elsewhere.
        if dtype == np.float64 and ens.eigenvalues[0] > 0:
            assert (z.variance[-1, : 2 * len(x) + 6] == 0).all() and (z.variance[0] > 0).all()


def test_a_curve_goes_on_where_variances_of_other_inputs_are_lost_in_rounding():
    ens, _, near, honest = setting(1)
    x_test, y_test = np.concatenate([near[:3], honest]), np.linspace(-1.0, 2.0, 13)
    with pytest.warns(UserWarning, match=r"predictive variance of rows 0, 1, 2.* below its rounding error from t = "):
        late = information.curve(ens, x_test, y_test, LATE, joint=False, task="regression")
    assert all(np.isfinite(column).all() for name, column in late.columns().items() if name != "t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        early = information.curve(ens, x_test, y_test, LATE[:2], joint=False, task="regression")
    np.testing.assert_allclose(late.output_divergence[:2], early.output_divergence, rtol=1e-12)
    with pytest.warns(UserWarning, match="below its rounding error"):
        divergence = information.output_divergence(ens, x_test, LATE)
    np.testing.assert_allclose(divergence, late.output_divergence, rtol=1e-9)


def test_what_is_known_varies_with_nothing(rng):
    x, y, other = rng.normal(size=(12, 3)), rng.normal(size=(12, 1)), rng.normal(size=(2, 3))
    rows = np.concatenate([x[:3], other, x[:2]])
    z = ni.Ensemble.fit(NETWORKS[0], x, y).predict(rows, jnp.inf, joint=True)
    known = np.r_[True, True, True, False, False, True, True]
    covariance = np.asarray(z.covariance)
    assert (covariance[known] == 0).all() and (covariance[:, known] == 0).all()
    assert np.linalg.eigvalsh(covariance[3:5, 3:5])[0] > 1e-6
    draws = np.asarray(z.sample(jax.random.key(0), (5,)))
    np.testing.assert_array_equal(draws[:, known], np.broadcast_to(z.mean[known], (5, 5, 1)))
    assert draws[:, ~known].std(0).min() > 0


def test_inputs_trained_on_are_named():
    ens, x, _, honest = setting(1)
    x_test, y_test = np.concatenate([honest[:2], x[:1], honest[2:], x[4:5]]), np.linspace(-1.0, 2.0, 12)
    message = "got 0 to working precision from t = .* for rows 2, 11 of `x_test`, which are inputs trained on"
    with pytest.raises(ValueError, match=message):
        information.curve(ens, x_test, y_test, LATE, joint=False, task="regression")
    with pytest.raises(ValueError, match=message):
        information.output_divergence(ens, x_test, LATE)
    with pytest.raises(ValueError, match=message):
        information.curve(ens, ens.cross_kernels(x_test), y_test, LATE, joint=False, task="regression")


def test_an_input_without_prior_variance_is_named():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)), np.ones(6)
    ens = ni.Ensemble.fit(network(b_std=0.0), x, y)
    x_test = np.concatenate([x + 1.0, np.zeros((1, 3))])
    with pytest.raises(ValueError, match=r"must be positive; got 0 at t = 0 for row 6 of `x_test`.*without biases"):
        information.curve(ens, x_test, np.linspace(-1.0, 2.0, 7), LATE[:2], joint=False, task="regression")


def test_a_kernel_that_is_no_covariance_keeps_its_negative_variance():
    def kernel(x1, x2, get):
        same = x2 is None
        x2 = x1 if same else x2
        both = x1 @ x2.T * (1.0 if same else 4.0) + jnp.eye(len(x1), len(x2)) * same
        return both, both

    ens = ni.Ensemble.fit(kernel, np.eye(3), np.ones(3))
    assert float(ens.predict(np.eye(3), jnp.inf).variance[0]) < -0.1
