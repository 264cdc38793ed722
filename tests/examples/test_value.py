"""The value of examples: against refits, the chain rule, groups, and labels that are known to be wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import ntkinfo as ni
from tests.problems import network, problem

N = 12


@pytest.fixture(scope="module", params=[1, 3])
def data(request):
    k = request.param
    x, y, x_test, _ = problem(np.random.default_rng(3), n=N, k=k)
    return network(outputs=k), x, y, x_test


@pytest.fixture(scope="module")
def kernels(data):
    """NNGP and tangent kernel of training and test inputs together, dense."""
    net, x, _, x_test = data
    return tuple(np.asarray(part) for part in ni.kernels.kernels(net, np.concatenate([x, x_test])))


def conditioned(q, y, noise, kept, asked):
    """Posterior mean and covariance at rows `asked` given the labels of rows `kept`, dense."""
    solve = np.linalg.solve(q[np.ix_(kept, kept)] + noise * np.eye(len(kept)), np.eye(len(kept)))
    gain = q[np.ix_(asked, kept)] @ solve
    return gain @ y[kept], q[np.ix_(asked, asked)] - gain @ q[np.ix_(kept, asked)]


def trained(kernels, y, kept, asked):
    """Mean and covariance of networks trained to the end on `kept`, dense."""
    nngp, ntk = kernels
    a = np.linalg.solve(ntk[np.ix_(kept, kept)], ntk[np.ix_(kept, asked)]).T
    cross = a @ nngp[np.ix_(kept, asked)]
    covariance = nngp[np.ix_(asked, asked)] - cross - cross.T + a @ nngp[np.ix_(kept, kept)] @ a.T
    return a @ y[kept], covariance


def divergence(p, q):
    """KL of Gaussians (mean (m, k), covariance (m, m)), dense."""
    (mean, first), (other, second) = p, q
    inverse, shift = np.linalg.inv(second), mean - other
    log_dets = np.linalg.slogdet(second)[1] - np.linalg.slogdet(first)[1]
    k = mean.shape[1]
    return 0.5 * (k * (np.trace(inverse @ first) - len(first) + log_dets) + np.sum(shift * (inverse @ shift)))


def pointwise(p, q):
    """Mean over points of the divergences of single outputs."""
    cut = [
        (p[0][i : i + 1], p[1][i : i + 1, i : i + 1], q[0][i : i + 1], q[1][i : i + 1, i : i + 1])
        for i in range(len(p[0]))
    ]
    return np.mean([divergence((a, b), (c, d)) for a, b, c, d in cut])


def without(index):
    return np.setdiff1d(np.arange(N), index)


TEST = np.arange(N, N + 7)


def test_of_a_posterior_is_the_divergence_from_refits(data, kernels):
    net, x, y, x_test = data
    post = ni.Posterior.fit(net, x, y, noise=0.2)
    got, at_test = ni.examples.value(post), ni.examples.value(post, x_test)
    q = kernels[0]
    for i in range(N):
        everything, rest = (conditioned(q, y, 0.2, kept, np.arange(N)) for kept in (np.arange(N), without(i)))
        np.testing.assert_allclose(got.information[i], divergence(everything, rest), rtol=1e-8)
        np.testing.assert_allclose(got.residual[i], y[i] - rest[0][i], atol=1e-10)
        np.testing.assert_allclose(got.variance[i], rest[1][i, i], rtol=1e-8)
        everything, rest = (conditioned(q, y, 0.2, kept, TEST) for kept in (np.arange(N), without(i)))
        np.testing.assert_allclose(at_test.information[i], pointwise(everything, rest), rtol=1e-8)
    # A refit by the library, and what the outputs at test inputs can know at most.
    np.testing.assert_allclose(got.residual, y - post.leave_one_out().mean, atol=1e-12)
    assert np.all(at_test.information <= got.information + 1e-12)


@pytest.mark.parametrize("noise", [1e-4, 100.0])
def test_by_the_factor_as_by_the_spectrum(data, noise):
    net, x, y, x_test = data
    post = ni.Posterior.fit(net, x, y, noise=noise, mean=lambda x: jnp.zeros((len(x), y.shape[1])) + x[:, :1])
    assert post.factor is not None
    for test in (None, x_test):
        got, want = (ni.examples.value(given, test, np.arange(N) % 3) for given in (post, post.with_spectrum()))
        for first, second in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-14)


def test_contributions_along_any_order_add_up_to_the_divergence_from_the_prior(data):
    """The chain rule: the last example contributes `information`, the first that and `shared`."""
    net, x, y, _ = data
    post = ni.Posterior.fit(net, x, y, noise=0.2)
    got = ni.examples.value(post)
    fitted = post.predict_train()
    # E log p(y_i | f) under the posterior, less log p(y_i | labels before), by refits.
    seen = -0.5 * (post.k * (np.log(2 * np.pi * 0.2) + fitted.variance / 0.2) + np.sum((y - fitted.mean) ** 2, 1) / 0.2)
    for order in (np.arange(N), np.random.default_rng(0).permutation(N)):
        evidence = [0.0] + [
            float(ni.Posterior.fit(net, x[order[: j + 1]], y[order[: j + 1]], noise=0.2).log_marginal_likelihood)
            for j in range(N)
        ]
        contributions = np.asarray(seen)[order] - np.diff(evidence)
        np.testing.assert_allclose(contributions.sum(), post.kl, rtol=1e-8)
        first, last = order[0], order[-1]
        np.testing.assert_allclose(contributions[-1], got.information[last], rtol=1e-8)
        np.testing.assert_allclose(contributions[0], got.information[first] + got.shared[first], rtol=1e-8, atol=1e-9)


def test_increments_of_the_divergence_do_not_add_up():
    """Divergences between successive posteriors are no chain rule: each is an average under another distribution."""
    x = np.eye(2)
    post = ni.Posterior.from_kernel(
        network()[2], x, np.array([2.0, -1.0]), np.array([[1.0, 0.8], [0.8, 1.0]]), noise=0.5
    )
    alone = ni.Posterior.from_kernel(network()[2], x[:1], np.array([2.0]), np.array([[1.0]]), noise=0.5)
    increments = alone.kl + ni.examples.value(post).information[1]
    assert abs(increments - post.kl) > 0.1


def test_groups_of_a_posterior(data, kernels):
    net, x, y, x_test = data
    post = ni.Posterior.fit(net, x, y, noise=0.2)
    groups = np.array([7, 2, 7, 5, 5, 2, 7, 2, 2, 5, 5, 2])
    got, at_test = (ni.examples.value(post, test, groups).groups for test in (None, x_test))
    np.testing.assert_array_equal(got.group, [2, 5, 7])
    np.testing.assert_array_equal(got.size, [5, 4, 3])
    for j, number in enumerate((2, 5, 7)):
        rest, own = np.flatnonzero(groups != number), np.flatnonzero(groups == number)
        left = conditioned(kernels[0], y, 0.2, rest, np.arange(N))
        full = conditioned(kernels[0], y, 0.2, np.arange(N), np.arange(N))
        np.testing.assert_allclose(got.information[j], divergence(full, left), rtol=1e-8)
        at = [conditioned(kernels[0], y, 0.2, kept, TEST) for kept in (np.arange(N), rest)]
        np.testing.assert_allclose(at_test.information[j], pointwise(*at), rtol=1e-8)
        losses = ni.information.losses(ni.gaussian.Gaussian(left[0][own], np.diag(left[1])[own]), y[own])
        np.testing.assert_allclose(got.error[j], losses.gibbs_error, atol=1e-9)
    # Two groups: unique and shared parts are all there is.
    halves = ni.examples.value(post, groups=np.arange(N) % 2).groups
    np.testing.assert_allclose(halves.shared[0], halves.shared[1], atol=1e-9)
    np.testing.assert_allclose(halves.information.sum() + halves.shared[0], post.kl, rtol=1e-8)
    # Groups of one example are examples.
    single = ni.examples.value(post, x_test, np.arange(N))
    np.testing.assert_allclose(single.groups.information, single.information, rtol=1e-8)
    np.testing.assert_allclose(single.groups.shared, single.shared, atol=1e-9)
    np.testing.assert_allclose(single.groups.error, 1 - single.probability, atol=1e-9)


def test_of_an_ensemble_is_that_of_refits(data, kernels):
    net, x, y, x_test = data
    ens = ni.Ensemble.fit(net, x, y)
    groups = np.arange(N) // 4
    got = ni.examples.value(ens, x_test, groups)
    full = trained(kernels, y, np.arange(N), TEST)

    def left(rest):
        return pointwise(full, trained(kernels, y, rest, TEST))

    for i in range(N):
        mean, covariance = trained(kernels, y, without(i), np.arange(N))
        np.testing.assert_allclose(got.residual[i], y[i] - mean[i], atol=1e-8)
        np.testing.assert_allclose(got.variance[i], covariance[i, i], atol=1e-8)
        np.testing.assert_allclose(
            got.information[i], pointwise(full, trained(kernels, y, without(i), TEST)), rtol=1e-6
        )
        z = ni.Ensemble.fit(net, x[without(i)], y[without(i)]).predict(x[i : i + 1], jnp.inf)
        np.testing.assert_allclose(
            1 - got.probability[i], ni.information.losses(z, y[i : i + 1]).gibbs_error, atol=1e-8
        )
    for j in range(3):
        rest = without(np.flatnonzero(groups == j))
        np.testing.assert_allclose(
            got.groups.information[j], pointwise(full, trained(kernels, y, rest, TEST)), rtol=1e-6
        )
        mean, covariance = trained(kernels, y, rest, np.flatnonzero(groups == j))
        losses = ni.information.losses(ni.gaussian.Gaussian(mean, np.diag(covariance)), y[groups == j])
        np.testing.assert_allclose(got.groups.error[j], losses.gibbs_error, atol=1e-8)
    assert got.shared is None and got.groups.shared is None
    assert ni.examples.value(ens).information is None


def test_of_an_ensemble_at_finite_times_is_that_of_refits(data):
    net, x, y, x_test = data
    times, groups = np.array([0.0, 3.0, 100.0, 1e5]), np.arange(N) // 4
    ens = ni.Ensemble.fit(net, x, y)
    got, end = ni.examples.value(ens, x_test, groups, t=times), ni.examples.value(ens, x_test, groups)
    full = ens.predict(x_test, times)

    def apart(rest):
        z = ni.Ensemble.fit(net, x[rest], y[rest]).predict(x_test, times)
        pair = (ni.gaussian.Gaussian(full.mean, full.variance), ni.gaussian.Gaussian(z.mean, z.variance))
        return np.mean(ni.gaussian.kl_divergence(*pair), axis=-1)

    for i in range(N):
        rest = without(i)
        z = ni.Ensemble.fit(net, x[rest], y[rest]).predict(x[i : i + 1], times)
        np.testing.assert_allclose(got.residual[:, i], y[i][None] - z.mean[:, 0], atol=1e-8)
        np.testing.assert_allclose(got.variance[:, i], z.variance[:, 0], atol=1e-8)
        np.testing.assert_allclose(got.information[:, i], apart(rest), rtol=1e-6, atol=1e-9)
        error = ni.information.losses(z, y[i : i + 1]).gibbs_error
        np.testing.assert_allclose(1 - got.probability[:, i], error, atol=1e-8)
    for j in range(3):
        rest, own = without(np.flatnonzero(groups == j)), np.flatnonzero(groups == j)
        z = ni.Ensemble.fit(net, x[rest], y[rest]).predict(x[own], times)
        error = ni.information.losses(z, y[own]).gibbs_error
        np.testing.assert_allclose(got.groups.error[:, j], error, atol=1e-8)
        np.testing.assert_allclose(got.groups.information[:, j], apart(rest), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(got.information[0], 0, atol=1e-12)
    # At the end, and as one number.
    for first, second in zip(
        jax.tree.leaves(ni.examples.value(ens, x_test, groups, t=[1.0, np.inf])), jax.tree.leaves(end), strict=True
    ):
        np.testing.assert_allclose(first[-1] if first.ndim > second.ndim else first, second, rtol=1e-7, atol=1e-9)
    one = ni.examples.value(ens, x_test, groups, t=3.0)
    np.testing.assert_array_equal(one.information, got.information[1])
    assert one.groups.error.shape == (3,) and ni.examples.value(ens, t=[np.inf]).residual.shape == (1, *y.shape)


def test_finite_times_take_a_mean_and_repeated_examples(rng):
    x, y, *_ = problem(rng)
    x, y = np.concatenate([x, x[:1]]), np.concatenate([y, -y[:1]])
    ens = ni.Ensemble.fit(network(), x, y, singular="project", mean=lambda x: 0.3 * x[:, :1])
    got = ni.examples.value(ens, t=20.0)
    for i in (0, 4, 12):
        rest = np.arange(13) != i
        fit = ni.Ensemble.fit(network(), x[rest], y[rest], singular="project", mean=lambda x: 0.3 * x[:, :1])
        z = fit.predict(x[i : i + 1], 20.0)
        np.testing.assert_allclose(got.residual[i], y[i] - z.mean[0], atol=1e-8)
        np.testing.assert_allclose(got.variance[i], z.variance[0], atol=1e-8)
        np.testing.assert_allclose(
            1 - got.probability[i], ni.information.losses(z, y[i : i + 1]).gibbs_error, atol=1e-8
        )


def test_of_real_labels_and_a_mean(rng):
    x, *_ = problem(rng)
    y = rng.normal(size=(12, 1))
    net = network()
    post = ni.Posterior.fit(net, x, y, noise=0.2, mean=lambda x: 3.0 + 0.0 * x[:, :1])
    shifted = ni.Posterior.fit(net, x, y - 3.0, noise=0.2)
    got, want = ni.examples.value(post, groups=np.arange(12) % 2), ni.examples.value(shifted, groups=np.arange(12) % 2)
    for first, second in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-9)
    assert got.probability is None and got.groups.error is None


def test_float32_keeps_its_dtype(rng):
    x, y, x_test, _ = (part.astype(np.float32) for part in problem(rng))
    for source in (ni.Posterior.fit(network(), x, y, noise=0.2), ni.Ensemble.fit(network(), x, y)):
        got = ni.examples.value(source, x_test, np.arange(12) % 3)
        assert {leaf.dtype for leaf in jax.tree.leaves(got) if leaf.dtype.kind == "f"} == {np.dtype("float32")}


def test_wrong_labels_are_found():
    """Digits, 10 % wrong: by the information, and about as well by the residual."""
    digits = ni.datasets.digits(1000, 100, task="classes")
    classes, rng, wrong = np.argmax(np.asarray(digits.y_train), axis=1), np.random.default_rng(0), np.zeros(1000, bool)
    wrong[rng.choice(1000, 100, replace=False)] = True
    given = np.where(wrong, (classes + rng.integers(1, 10, 1000)) % 10, classes)
    net = network(activation=ni.stax.Relu(), depth=3, outputs=10, b_std=0.1)
    got = ni.examples.value(ni.Posterior.fit(net, digits.x_train, np.eye(10)[given] - 0.1, noise=0.01))
    assert roc_auc_score(wrong, got.information) > 0.98
    # The ranking by the residual, or by the probability of the label, is no worse.
    assert roc_auc_score(wrong, np.sum(np.asarray(got.residual) ** 2, axis=1)) > 0.99
    assert roc_auc_score(wrong, -got.probability) > 0.99
    assert roc_auc_score(wrong, got.variance) < 0.6


@pytest.mark.slow
def test_wrong_labels_of_garments_are_found_better_by_the_residual():
    """Fashion-MNIST, 10 % wrong: by the information less well than by the residual."""
    try:
        data = ni.datasets.fashion_mnist(n_train=2000, n_test=10, task="classes")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    classes, rng, wrong = np.argmax(np.asarray(data.y_train), axis=1), np.random.default_rng(0), np.zeros(2000, bool)
    wrong[rng.choice(2000, 200, replace=False)] = True
    given = np.where(wrong, (classes + rng.integers(1, 10, 2000)) % 10, classes)
    net = ni.stax.serial(
        ni.stax.Dense(64, W_std=1.5, b_std=0.1), ni.stax.Erf(), ni.stax.Dense(10, W_std=1.5, b_std=0.1)
    )
    got = ni.examples.value(ni.Posterior.fit(net, data.x_train, np.eye(10)[given] - 0.1, noise=1e-3))
    by_information = roc_auc_score(wrong, got.information)
    assert by_information > 0.95
    assert roc_auc_score(wrong, np.sum(np.asarray(got.residual) ** 2, axis=1)) > by_information
    assert roc_auc_score(wrong, -got.probability) > by_information


def test_refusals(rng):
    x, y, x_test, _ = problem(rng)
    post, ens = ni.Posterior.fit(network(), x, y, noise=0.2), ni.Ensemble.fit(network(), x, y)
    with pytest.raises(TypeError, match="`source` must be of type `Posterior` or `Ensemble`"):
        ni.examples.value(ens.x)
    with pytest.raises(ValueError, match="`source` must have at least two training examples"):
        ni.examples.value(ni.Posterior.fit(network(), x[:1], y[:1]))
    with pytest.raises(TypeError, match="`groups` must hold integers"):
        ni.examples.value(post, groups=np.ones(12))
    with pytest.raises(ValueError, match=r"`groups` must have shape \(12,\)"):
        ni.examples.value(post, groups=np.ones(3, int))
    with pytest.raises(ValueError, match="`groups` must name at least two groups"):
        ni.examples.value(post, groups=np.ones(12, int))
    with pytest.raises(ValueError, match="`test` must hold inputs of the shape trained on"):
        ni.examples.value(post, x_test[:, :2])
    with pytest.raises(ValueError, match="`test` must not hold inputs whose outputs are known"):
        ni.examples.value(ens, x[:2])
    double = ni.Ensemble.fit(network(), np.concatenate([x, x[:1]]), np.concatenate([y, y[:1]]), singular="project")
    with pytest.raises(ValueError, match="tangent kernel that is not singular"):
        ni.examples.value(double)
    with pytest.raises(ValueError, match="tangent kernel that is not singular"):
        ni.examples.value(double, t=[1.0, np.inf])
    with pytest.raises(ValueError, match="`t` must be left out"):
        ni.examples.value(post, t=1.0)
    with pytest.raises(ValueError, match="`t` must be times from 0 to infinity"):
        ni.examples.value(ens, t=-1.0)
    with pytest.raises(ValueError, match="`test` must not hold inputs whose outputs are known"):
        ni.examples.value(ens, x[:2], t=[1.0, np.inf])
    # Labels of one class, and equal examples, are answered.
    alike = ni.examples.value(ni.Posterior.fit(network(), x[[0, 0, 1]], np.ones((3, 1)), noise=0.2))
    np.testing.assert_allclose(alike.information[0], alike.information[1], rtol=1e-9)
    assert np.all(np.asarray(alike.probability) > 0.5)
