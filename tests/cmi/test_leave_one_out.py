"""Leave-one-out conditional mutual information: against the joint distribution of losses, written out."""

import numpy as np
import pytest

import ntkinfo as ni
from tests.problems import network, problem


@pytest.mark.parametrize("k", [1, 3])
def test_against_the_joint_distribution(rng, k):
    x, y, *_ = problem(rng, k=k)
    found = ni.cmi.leave_one_out(ni.Ensemble.fit(network(outputs=k), x, y))
    wrong = []
    for i in range(12):
        rest = np.arange(12) != i
        z = ni.Ensemble.fit(network(outputs=k), x[rest], y[rest]).predict(x[i : i + 1], np.inf)
        wrong.append(float(ni.information.losses(z, y[i : i + 1]).gibbs_error))
    # L is 0 everywhere, or 1 at U alone: rows are U, columns "no error", "error at j".
    joint = np.concatenate([(1 - np.array(wrong))[:, None], np.diag(wrong)], axis=1) / 12
    np.testing.assert_allclose(found.information, ni.discrete.mutual_information(joint), rtol=1e-6)
    np.testing.assert_allclose(found.error, np.mean(wrong), rtol=1e-7)
    np.testing.assert_allclose(found.bound, found.information / np.log(12), rtol=1e-12)
    assert found.error <= found.bound


def test_digits_as_in_the_theory():
    """Parity of digits: the information is little more than what the error alone tells."""
    data = ni.datasets.digits(200, 10, task="parity")
    net = ni.stax.serial(ni.stax.Dense(64, W_std=1.5, b_std=0.1), ni.stax.Erf(), ni.stax.Dense(1, W_std=1.5, b_std=0.1))
    found = ni.cmi.leave_one_out(ni.Ensemble.fit(net, data.x_train, data.y_train))
    assert 0.05 < found.error < found.bound < found.error + 0.01


def test_refusals(rng):
    x, y, *_ = problem(rng)
    with pytest.raises(ValueError, match="`ens` must have at least two"):
        ni.cmi.leave_one_out(ni.Ensemble.fit(network(), x[:1], y[:1]))
    with pytest.raises(ValueError, match="`ens` must have labels that name classes"):
        ni.cmi.leave_one_out(ni.Ensemble.fit(network(), x, x[:, :1]))
    with pytest.raises(TypeError, match="`ens` must be of type `Ensemble`"):
        ni.cmi.leave_one_out(x)
    double = ni.Ensemble.fit(network(), np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]]), singular="project")
    with pytest.raises(ValueError, match="singular"):
        ni.cmi.leave_one_out(double)
    # Labels of one class are learned from the others, or not: both are answered.
    alike = ni.cmi.leave_one_out(ni.Ensemble.fit(network(), x, np.ones(12)))
    assert 0 <= alike.error <= alike.bound <= 1
