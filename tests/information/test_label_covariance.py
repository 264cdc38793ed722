"""Averages over data sets: against one data set of that second moment, sampled labels, dense formulas, inequalities."""

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import information, kernels
from tests.problems import network, problem
from tests.references import ensemble as reference

TIMES = np.array([0.0, 0.3, 5.0, 60.0])


@pytest.fixture(scope="module", params=[1, 3])
def case(request):
    k = request.param
    x, y, x_test, _ = problem(np.random.default_rng(2), n=6, m=4, d=3, k=k)
    net = network(outputs=k)
    nngp, ntk = (np.asarray(part) for part in kernels.kernels(net, np.concatenate([x, x_test])))
    return ni.Ensemble.fit(net, x, y), x_test, nngp, ntk


def dense(nngp, ntk, t, k):
    """A_t and Σ_t, by the matrix exponential."""
    a = reference.propagator(ntk[:6, :6], ntk[6:, :6], t / (6 * k))
    cross = a @ nngp[:6, 6:]
    return a, nngp[6:, 6:] + a @ nngp[:6, :6] @ a.T - cross - cross.T


def test_second_moment_of_one_data_set_gives_its_divergence(case):
    ens, x_test, *_ = case
    one = np.asarray(ens.y @ ens.y.T) / ens.k
    got, want = (information.parameter_divergence(ens, TIMES, label_covariance=c) for c in (one, None))
    np.testing.assert_allclose(got.total, want.total, rtol=1e-9, atol=1e-12)
    for joint in (False, True):
        pair = [information.output_divergence(ens, x_test, TIMES, joint=joint, label_covariance=c) for c in (one, None)]
        np.testing.assert_allclose(*pair, rtol=1e-8, atol=1e-10)


def test_is_the_average_over_sampled_labels(case):
    ens, x_test, nngp, _ = case
    c = nngp[:6, :6] + 0.3 * np.eye(6)
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(6), c, size=(300, ens.k)).transpose(0, 2, 1)
    both = kernels.kernels(ens.kernel_fn, ens.x)
    hessian = kernels.hessian(ens.kernel_fn, ens.x)

    def divergences(y):
        sampled = ni.Ensemble.from_kernels(ens.kernel_fn, ens.x, y, both)
        total = information.parameter_divergence(sampled, 5.0, hessian=hessian).total
        return total, information.output_divergence(sampled, x_test, 5.0, joint=True)

    total, joint = jax.jit(lambda ys: jax.lax.map(divergences, ys))(draws)
    averaged = information.parameter_divergence(ens, 5.0, label_covariance=c).total
    assert abs(total.mean() - averaged) < 5 * total.std() / np.sqrt(300)
    averaged = information.output_divergence(ens, x_test, 5.0, joint=True, label_covariance=c)
    assert abs(joint.mean() - averaged) < 5 * joint.std() / np.sqrt(300)


def test_information_is_the_dense_formula_and_the_divergence_exceeds_it(case):
    ens, x_test, nngp, ntk = case
    c = nngp[:6, :6] + 0.3 * np.eye(6)
    told = information.data_information(ens, x_test, TIMES, label_covariance=c)
    divergence = information.output_divergence(ens, x_test, TIMES, joint=True, label_covariance=c)
    for j, t in enumerate(TIMES):
        a, covariance = dense(nngp, ntk, t, ens.k)
        marginal = covariance + a @ c @ a.T
        want = 0.5 * ens.k * (np.linalg.slogdet(marginal)[1] - np.linalg.slogdet(covariance)[1])
        np.testing.assert_allclose(told.value[j], want, rtol=1e-7, atol=1e-10)
        # What the divergence has too much is that of the marginal from the prior.
        excess = reference.kl(np.zeros((4, ens.k)), marginal, nngp[6:, 6:])
        np.testing.assert_allclose(divergence[j] - told.value[j], excess, rtol=1e-6, atol=1e-8)
    assert told.method == "exact" and told.value[0] == 0 and np.all(divergence >= told.value - 1e-10)


def test_data_processing_and_ends(case):
    ens, x_test, nngp, _ = case
    c = nngp[:6, :6] + 0.3 * np.eye(6)
    parts = [information.data_information(ens, x_test[:m], TIMES, label_covariance=c).value for m in (1, 2, 4)]
    assert np.all(np.diff(parts, axis=0) >= -1e-12)
    total = information.parameter_divergence(ens, TIMES, label_covariance=c).total
    assert np.all(parts[-1] <= total + 1e-9)
    nothing = information.data_information(ens, x_test, TIMES, label_covariance=np.zeros((6, 6)))
    np.testing.assert_array_equal(nothing.value, 0.0)
    # Linear in the covariance: nats spent on noise are those of the noise.
    signal = information.parameter_divergence(ens, TIMES, label_covariance=nngp[:6, :6]).total
    noise = information.parameter_divergence(ens, TIMES, label_covariance=0.3 * np.eye(6)).total
    none = information.parameter_divergence(ens, TIMES, label_covariance=np.zeros((6, 6))).total
    np.testing.assert_allclose(total - signal, noise - none, rtol=1e-9, atol=1e-10)
    assert np.all(np.diff(noise - none) > 0)


def test_a_bound_on_the_gap_to_fresh_labels():
    """Xu & Raginsky with the average it asks for: networks trained on noise, tested on fresh labels."""
    x, y, *_ = problem(np.random.default_rng(2), n=6, d=3)
    ens = ni.Ensemble.fit(network(), x, y)
    nngp, ntk = (np.asarray(part) for part in kernels.kernels(network(), x))
    kl = information.parameter_divergence(ens, 5.0, label_covariance=np.eye(6)).total
    # 0-1 error of signs, labels fair coins: any network errs half of the time on fresh ones.
    draws = np.sign(np.random.default_rng(0).normal(size=(400, 6)))
    error = []
    for labels in draws:
        mean, covariance = reference.predict_train(nngp, ntk, labels[:, None], 5.0)
        z = ni.gaussian.Gaussian(mean, np.diag(covariance))
        error.append(float(np.mean(ni.gaussian.sign_error(z, labels[:, None]))))
    gap = 0.5 - np.mean(error)
    assert 0.1 < gap < ni.bounds.xu_raginsky(kl, n=6, sub_gaussian=0.5)


def test_derivatives_where_eigenvalues_are_equal(case):
    """By the variance of independent labels, whose covariance has all eigenvalues equal."""
    ens, x_test = case[0], case[1]
    eye = np.eye(ens.n)

    def told(variance):
        return information.data_information(ens, x_test[:2], 3.0, label_covariance=variance * eye).value

    def divergence(variance):
        return information.output_divergence(ens, x_test[:2], 3.0, label_covariance=variance * eye)

    for function in (told, divergence):
        slope = (function(0.701) - function(0.699)) / 0.002
        np.testing.assert_allclose(jax.grad(function)(0.7), slope, rtol=1e-5)


def test_refusals(case):
    ens, x_test, *_ = case
    for function in (
        lambda c: information.data_information(ens, x_test, 1.0, label_covariance=c),
        lambda c: information.output_divergence(ens, x_test, 1.0, label_covariance=c),
        lambda c: information.parameter_divergence(ens, 1.0, label_covariance=c),
    ):
        with pytest.raises(ValueError, match=r"`label_covariance` must have shape \(6, 6\)"):
            function(np.eye(4))
        with pytest.raises(ValueError, match="`label_covariance` must be positive semidefinite"):
            function(-np.eye(6))
        with pytest.raises(ValueError, match="`label_covariance` must be symmetric"):
            function(np.triu(np.ones((6, 6))))
    with pytest.raises(ValueError, match="information at `x_test` is not finite at t = inf"):
        information.data_information(ens, ens.x, np.inf, label_covariance=np.eye(6))
