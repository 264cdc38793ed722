import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import bounds, information, stax
from ntkinfo.information import certificate
from tests.problems import network, problem

TIMES = np.array([0.0, 5.0, 100.0])


@pytest.mark.parametrize("k", [1, 3])
def test_it_is_its_parts(rng, k):
    x, y, x_test, y_test = problem(rng, n=14, k=k)
    ens = ni.Ensemble.fit(network(outputs=k), x, y)
    found = certificate(ens, x_test, y_test, TIMES, delta=0.1)
    divergence = information.parameter_divergence(ens, TIMES)
    np.testing.assert_allclose(found.total, divergence.total, rtol=1e-12)
    np.testing.assert_allclose(found.linear, divergence.linear, rtol=1e-12)
    risk = np.asarray(information.losses(ens.predict_train(TIMES), y).gibbs_error)
    np.testing.assert_allclose(found.train_error, risk, rtol=1e-12)
    np.testing.assert_allclose(found.pac_bayes_kl, bounds.pac_bayes_kl(risk, divergence.total, n=14, delta=0.1))
    assert (found.pac_bayes_kl >= found.train_error).all() and (found.mcallester >= found.pac_bayes_kl - 1e-12).all()


def test_kinked_activations_have_a_linear_part_and_no_bound(rng):
    x, y, x_test, y_test = problem(rng)
    ens = ni.Ensemble.fit(network(activation=stax.Relu()), x, y)
    found = certificate(ens, x_test, y_test, TIMES)
    assert found.total is None and found.pac_bayes_kl is None and "Relu" in found.reason
    assert (np.diff(found.linear) > 0).all() and found.train_error[-1] < 0.5


def test_regression_has_a_divergence_and_no_error(rng):
    x, _, x_test, _ = problem(rng)
    ens = ni.Ensemble.fit(network(), x, rng.normal(size=(12, 1)))
    found = certificate(ens, x_test, rng.normal(size=(7, 1)), TIMES)
    assert found.total.shape == (3,) and found.train_error is None and found.catoni is None


@pytest.mark.parametrize(
    ("times", "delta", "message"), [([1.0, np.inf], 0.05, "`t` must be finite"), ([1.0], 1.0, "delta")]
)
def test_bad_input(rng, times, delta, message):
    x, y, x_test, y_test = problem(rng)
    ens = ni.Ensemble.fit(network(), x, y)
    with pytest.raises(ValueError, match=message):
        certificate(ens, x_test, y_test, times, delta=delta)


def test_labels_of_two_kinds_are_refused_and_traced_ones_too(rng):
    x, y, x_test, y_test = problem(rng)
    numbers = ni.Ensemble.fit(network(), x, rng.normal(size=(12, 1)))
    with pytest.raises(ValueError, match="`y_test` must be coded like the labels trained on; got classes beside num"):
        certificate(numbers, x_test, y_test, TIMES)
    assert certificate(numbers, x_test, y_test, TIMES, task="regression").train_error is None
    with pytest.raises(ValueError, match="got numbers beside classes"):
        certificate(ni.Ensemble.fit(network(), x, y), x_test, 3 * y_test, TIMES)
    with pytest.raises(TypeError, match="`x_test` is being traced"):
        jax.jit(lambda x: certificate(numbers, x, y_test, TIMES).linear)(x_test)
