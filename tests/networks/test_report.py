"""The report of a trained network against what it is made of."""

import types

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import networks

KEY = jax.random.key(0)
# A report has the numbers of its parts, which have tests of their own.
pytestmark = pytest.mark.usefixtures("little_time_to_compile")


def problem(outputs):
    data = ni.datasets.digits(n_train=40, n_test=30, task="parity" if outputs == 1 else "classes")
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(64, 16)) / 8, "c": rng.normal(size=(16, outputs)) / 4}
    return networks.from_apply(lambda p, x: jnp.tanh(x @ p["a"]) @ p["c"], params), data


def test_a_report_says_what_its_parts_say():
    net, data = problem(1)
    found = networks.report(net, data, key=KEY, progress=False, noise=0.1, prior_variance=0.5, origin="initialisation")
    x, y = data.x_train, data.y_train
    kernel = ni.kernels.empirical(net, around="laplace", prior_variance=0.5, origin="initialisation")
    post = ni.Posterior.fit(kernel, x, y, noise=0.1, mean=net)
    z = post.predict(data.x_test)
    tangent = np.asarray(ni.kernels.empirical(net)(x, None, "ntk"))
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(tangent)[::-1], rtol=1e-8)
    dimension = np.trace(tangent @ np.linalg.inv(tangent + 0.2 * np.eye(40)))
    np.testing.assert_allclose(found.effective_dimension, dimension, rtol=1e-8)
    np.testing.assert_allclose(found.log_evidence, post.log_marginal_likelihood, rtol=1e-10)
    np.testing.assert_allclose(found.input_information.value, ni.information.input_information(z).value, rtol=1e-8)
    np.testing.assert_allclose(found.mean, z.mean, rtol=1e-10)
    vectors = np.linalg.eigh(tangent)[1][:, ::-1]
    residual = vectors.T @ (y - np.asarray(net(x)))
    np.testing.assert_allclose(found.residual_alignment[4], np.sum(residual[:5] ** 2) / np.sum(residual**2), rtol=1e-8)
    assert found.test_error == np.mean(np.sign(np.asarray(net(data.x_test))) != data.y_test)
    risk = ni.information.losses(post.predict_train(), y).gibbs_error
    assert found.bounds["PAC-Bayes-kl"] == pytest.approx(float(ni.bounds.pac_bayes_kl(risk, post, n=40)), rel=1e-8)
    # Linearised training is that of `Ensemble.fit`, up to its steps; early both agree with real training.
    ens = ni.Ensemble.fit(ni.kernels.empirical(net), x, y, mean=net)
    trained = 0.5 * np.mean((np.asarray(ens.predict_train(found.t).mean) - y[None]) ** 2, axis=(1, 2))
    np.testing.assert_allclose(found.linear_mse, trained, rtol=2e-3)
    assert found.disagreement[1] < found.disagreement[-1] < 0.5 and np.isnan(found.disagreement[0])
    table = found.to_dataframe(unit="bits").set_index("quantity")
    assert table.loc["log evidence", "value"] == pytest.approx(found.log_evidence / np.log(2))
    assert repr(found).startswith("NetworkReport(1040 parameters, n = 40: effective dimension")
    figure = ni.plot.network(found, title="a network")
    assert len(figure.axes) == 4
    plt.close(figure)


def test_several_outputs_and_what_was_fitted():
    net, data = problem(10)
    found = networks.report(net, data, key=KEY, progress=False, n_samples=4, origin="split")
    assert found.k == 10 and found.input_information.method == "monte_carlo" and found.mean.shape == (30, 10)
    assert 0 <= float(found.label_information.value) <= np.log(10) and 0 < found.coverage[0.5] < found.coverage[0.9]
    # Of ten outputs that share a kernel, the one averaged over them.
    jacobians = jax.vmap(jax.jacrev(lambda p, x: net.apply(p, x[None])[0]), (None, 0))(net.params, data.x_train)
    rows = np.concatenate([np.asarray(leaf).reshape(40, 10, -1) for leaf in jax.tree.leaves(jacobians)], axis=2)
    tangent = np.einsum("ikp,jkp->ij", rows, rows) / 10
    smoother = tangent @ np.linalg.inv(tangent + found.noise / found.prior_variance * np.eye(40))
    np.testing.assert_allclose(found.effective_dimension, 10 * np.trace(smoother), rtol=1e-6)
    # The prior variance was fitted to the data.
    assert not found.bounds and "fixed before the data" in found.no_bounds
    assert found.to_dataframe().attrs["no_bounds"] == found.no_bounds


def test_regression_has_no_errors_and_what_is_no_data_is_refused():
    net, digits = problem(1)
    rng = np.random.default_rng(1)
    arrays = {"x_train": digits.x_train, "x_test": digits.x_test, "task": "regression"}
    data = types.SimpleNamespace(y_train=rng.normal(size=(40, 1)), y_test=rng.normal(size=(30, 1)), **arrays)
    found = networks.report(net, data, key=KEY, progress=False, noise=0.5, prior_variance=0.1)
    assert found.test_error is None and found.label_information.method == "decoder" and "no classes" in found.no_bounds
    for name in ("noise", "prior_variance"):
        with pytest.raises(ValueError, match=f"`{name}` must lie in"):
            networks.report(net, data, key=KEY, **{name: 1e308})
    vectors = types.SimpleNamespace(y_train=data.y_train[:, 0], y_test=data.y_test[:, 0], **arrays)
    again = networks.report(net, vectors, key=KEY, progress=False, noise=0.5, prior_variance=0.1)
    assert again.log_evidence == found.log_evidence and again.coverage == found.coverage
    constant = types.SimpleNamespace(y_train=data.y_train, y_test=np.full((30, 1), 0.3), **arrays)
    with pytest.raises(ValueError, match=r"`data.y_test` must hold numbers that vary.*\(30, 1\), of rank 0"):
        networks.report(net, constant, key=KEY, progress=False)
    with pytest.raises(TypeError, match="`data` must be a `Dataset`"):
        networks.report(net, digits.x_train, key=KEY)
    with pytest.raises(ValueError, match=r"`mean` must return \(40, 2\) numbers"):
        data.y_train = np.ones((40, 2))
        networks.report(net, data, key=KEY, progress=False)
