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


@pytest.mark.parametrize("k", [1, 3])
def test_at_any_time_against_refits(rng, k):
    x, y, *_ = problem(rng, k=k)
    times = np.array([0.0, 2.0, 200.0, np.inf])
    ens = ni.Ensemble.fit(network(outputs=k), x, y)
    found = ni.cmi.leave_one_out(ens, times)
    wrong = np.empty((4, 12, 12))
    for i in range(12):
        rest = np.arange(12) != i
        z = ni.Ensemble.fit(network(outputs=k), x[rest], y[rest]).predict(x, times)
        for at in range(4):
            one = ni.gaussian.Gaussian(z.mean[at], z.variance[at])
            for j in range(12):
                single = ni.gaussian.Gaussian(one.mean[j : j + 1], one.variance[j : j + 1])
                wrong[at, i, j] = ni.information.losses(single, y[j : j + 1]).gibbs_error
    for at in range(4):
        out = np.diagonal(wrong[at])
        kept = (wrong[at].sum(axis=0) - out) / 11
        tables = [np.array([[p, 1 - p], [11 * q, 11 * (1 - q)]]) / 12 for p, q in zip(out, kept, strict=True)]
        want = sum(float(ni.discrete.mutual_information(table)) for table in tables)
        np.testing.assert_allclose(found.single_information[at], want, atol=1e-8)
        np.testing.assert_allclose([found.error[at], found.train_error[at]], [out.mean(), kept.mean()], atol=1e-8)
        # The bound is its definition, and holds.
        middle = (found.bound[at] + 11 * found.train_error[at]) / 12
        assert found.error[at] <= found.bound[at] <= 1
        if 1e-6 < found.bound[at] < 1:
            np.testing.assert_allclose(ni.bounds.binary_kl(found.bound[at], middle), want, atol=1e-7)
    assert found.information is None and abs(found.single_information[0]) < 1e-12
    # The end of training, by itself: everything is what the one inverse says.
    end = ni.cmi.leave_one_out(ens, np.inf)
    for name in ("error", "train_error", "single_information", "binary_kl"):
        np.testing.assert_allclose(getattr(found, name)[-1], getattr(end, name), atol=1e-8)
    assert end.information == ni.cmi.leave_one_out(ens).information and end.error <= end.binary_kl
    assert np.shape(ni.cmi.leave_one_out(ens, [np.inf, np.inf]).information) == (2,)


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
    with pytest.raises(ValueError, match="singular"):
        ni.cmi.leave_one_out(double, [1.0, np.inf])
    assert np.isfinite(ni.cmi.leave_one_out(double, 5.0).bound)
    with pytest.raises(ValueError, match="`t` must be times from 0 to infinity"):
        ni.cmi.leave_one_out(double, -1.0)
    # Labels of one class are learned from the others, or not: both are answered.
    alike = ni.cmi.leave_one_out(ni.Ensemble.fit(network(), x, np.ones(12)))
    assert 0 <= alike.error <= alike.bound <= 1
