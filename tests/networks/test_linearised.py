"""Linearised networks: whose distribution it is, around f(x; θ₀), against steps and sums over the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

import ntkinfo as ni
from ntkinfo import bounds, information, networks, stax
from ntkinfo.kernels import empirical

RNG = np.random.default_rng(0)
X, X_TEST = jnp.asarray(RNG.normal(size=(5, 3))), jnp.asarray(RNG.normal(size=(4, 3)))
Y = jnp.asarray(RNG.normal(size=(5, 2)))
PARAMS = {"a": jnp.asarray(RNG.normal(size=(3, 6))), "c": jnp.asarray(RNG.normal(size=(6, 2)))}
T = np.array([0.0, 0.5, 5.0, 100.0])


def apply(p, x):
    return jnp.tanh(x @ p["a"]) @ p["c"]


NET = networks.from_apply(apply, PARAMS)


def linear_rows():
    """An ensemble with a row for each output of an input."""
    return ni.Ensemble.fit(empirical(NET, "full", around="laplace", origin="initialisation"), X, jnp.sign(Y), mean=NET)


def jacobian(x):
    """J, (n k, P), with outputs (n k,)."""
    leaves = jax.tree.leaves(jax.jit(jax.jacrev(apply))(PARAMS, x))
    return np.concatenate([np.asarray(leaf).reshape(2 * len(x), -1) for leaf in leaves], axis=1), apply(PARAMS, x)


def test_the_mean_of_one_network_is_linearised_training_in_small_steps():
    j, start = map(np.asarray, jacobian(X))
    j_test, start_test = map(np.asarray, jacobian(X_TEST))

    @jax.jit
    def train(size, steps):
        """Runge-Kutta steps of dθ/ds = -Jᵀ(f - Y) in the parameters, s = t/(n k)."""

        def slope(theta):
            return -j.T @ (start.ravel() + j @ theta - Y.ravel())

        def step(_, theta):
            one = slope(theta)
            two = slope(theta + size / 2 * one)
            three = slope(theta + size / 2 * two)
            return theta + size / 6 * (one + 2 * two + 2 * three + slope(theta + size * three))

        return jax.lax.fori_loop(0, steps, step, jnp.zeros(j.shape[1]))

    ens = ni.Ensemble.fit(empirical(NET, "full"), X, Y, mean=NET)
    assert ens.around == "one" and ens.k == 1 and ens.n == 10
    z, z_train = ens.predict(X_TEST, T), ens.predict_train(T)
    assert not np.any(z.variance) and not np.any(z_train.variance)
    for i, t in enumerate(T):
        steps = 1 + int(t * 400)
        theta = train(t / Y.size / steps, steps)
        np.testing.assert_allclose(z.mean[i, :, 0], start_test.ravel() + j_test @ theta, rtol=0, atol=1e-8)
        np.testing.assert_allclose(z_train.mean[i, :, 0], start.ravel() + j @ theta, rtol=0, atol=1e-8)
        distance = information.parameter_distance(ens, float(t))
        np.testing.assert_allclose(distance, np.sum(np.asarray(theta) ** 2), rtol=1e-7, atol=1e-12)
    with pytest.raises(ValueError, match="`ens` must have a distribution: the mean of one network's linearised flow"):
        information.output_divergence(ens, X_TEST, 1.0)


@pytest.mark.parametrize("kernel", [empirical(NET), stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(2))[2]])
def test_data_and_parameters_that_are_known_are_so_inside_a_traced_function(kernel):
    def evidence(noise):
        return ni.Posterior.fit(kernel, X, Y, noise=noise, mean=NET, prior="ntk").log_marginal_likelihood

    np.testing.assert_allclose(jax.jit(evidence)(0.05), evidence(0.05), rtol=1e-10)


def test_laplace_is_the_posterior_of_the_weights():
    tau, noise = 0.4, 0.05
    (j, start), (j_test, start_test) = jacobian(X), jacobian(X_TEST)
    precision = j.T @ j / noise + np.eye(j.shape[1]) / tau
    covariance = np.linalg.inv(precision)
    theta = covariance @ j.T @ np.asarray(Y - start).ravel() / noise
    kernel = empirical(NET, "full", around="laplace", prior_variance=tau)
    post = ni.Posterior.fit(kernel, X, Y, noise=noise, mean=NET)
    z = post.predict(X_TEST, joint=True)
    np.testing.assert_allclose(z.mean[:, 0], np.asarray(start_test).ravel() + j_test @ theta, rtol=0, atol=1e-8)
    np.testing.assert_allclose(z.covariance, j_test @ covariance @ j_test.T, rtol=0, atol=1e-8)
    fitted = np.asarray(start).ravel() + j @ theta
    np.testing.assert_allclose(post.predict_train().mean[:, 0], fitted, rtol=0, atol=1e-8)
    prior = scipy.stats.multivariate_normal(np.asarray(start).ravel(), tau * j @ j.T + noise * np.eye(10))
    np.testing.assert_allclose(post.log_marginal_likelihood, prior.logpdf(np.asarray(Y).ravel()), rtol=1e-10)
    log_det = np.linalg.slogdet(precision)[1] + j.shape[1] * np.log(tau)
    kl = 0.5 * (np.trace(covariance) / tau + theta @ theta / tau - j.shape[1] + log_det)
    np.testing.assert_allclose(post.kl, kl, rtol=1e-9)
    assert post.around == "laplace" and post.prior == "ntk"
    # The kernel of one network, times the variance given to the maker, is the same; so are other ways to say the mean.
    for mean in (apply, lambda x: apply(PARAMS, x), (apply, PARAMS), kernel):
        if mean is not apply:
            other = ni.Posterior.fit(empirical(NET, "full"), X, Y, noise=noise, mean=mean, scale=tau)
            np.testing.assert_allclose(other.predict(X_TEST).mean, z.mean, rtol=1e-10)
    # Leaving one output out: y less what all others say, by brute force.
    rest = np.arange(10) != 3
    weights = np.linalg.inv(j[rest].T @ j[rest] / noise + np.eye(j.shape[1]) / tau)
    left = j[3] @ weights @ j[rest].T @ np.asarray(Y - start).ravel()[rest] / noise + np.asarray(start).ravel()[3]
    np.testing.assert_allclose(post.leave_one_out().mean[3, 0], left, rtol=1e-8)


def test_evidence_has_derivatives_in_both_variances_and_its_maximum_is_found():
    def evidence(log_variances):
        tau, noise = jnp.exp(log_variances)
        kernel = empirical(NET, around="laplace", prior_variance=tau)
        return ni.Posterior.fit(kernel, X, Y, noise=noise, mean=NET).log_marginal_likelihood

    at, step, both = np.log(np.array([0.4, 0.05])), 1e-5, jax.jit(jax.value_and_grad(evidence))
    slopes = [(both(at + step * e)[0] - both(at - step * e)[0]) / (2 * step) for e in np.eye(2)]
    value, gradient = both(at)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6)
    np.testing.assert_allclose(value, evidence(jnp.asarray(at)), rtol=1e-10)
    x = jnp.asarray(RNG.normal(size=(24, 3)))
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * RNG.normal(size=leaf.shape), PARAMS)
    y = apply(moved, x) + 0.2 * RNG.normal(size=(24, 2))

    def fit(**options):
        return ni.Posterior.fit(empirical(NET), x, y, mean=NET, **options)

    post = fit(noise=0.05, scale="fit")
    tau = post.kernel_fn.prior_variance
    near = [fit(noise=0.05, scale=tau * factor) for factor in (0.99, 1.01)]
    assert all(other.log_marginal_likelihood < post.log_marginal_likelihood for other in near)
    assert post.prior_saw_data and post.around == "laplace"
    both = fit(noise="fit", scale="fit")
    tau, noise = both.kernel_fn.prior_variance, float(both.noise)
    for scale, variance in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert fit(noise=noise * variance, scale=tau * scale).log_marginal_likelihood < both.log_marginal_likelihood
    with pytest.raises(ValueError, match="`y` must differ from the mean somewhere"):
        ni.Posterior.fit(empirical(NET), x, 0 * y, noise="fit", scale="fit")


def test_a_mean_makes_labels_residuals_and_moves_nothing_else():
    kernel = empirical(NET, around="laplace", prior_variance=0.5)
    offset, offset_test = apply(PARAMS, X), apply(PARAMS, X_TEST)
    y_test = jnp.asarray(RNG.normal(size=(4, 2)))
    with_mean = ni.Ensemble.fit(kernel, X, Y, mean=NET)
    without = ni.Ensemble.fit(kernel, X, Y - offset)
    z, z0 = with_mean.predict(X_TEST, T, joint=True), without.predict(X_TEST, T, joint=True)
    np.testing.assert_allclose(z.mean, z0.mean + offset_test[None], rtol=1e-12)
    np.testing.assert_allclose(z.covariance, z0.covariance, rtol=1e-12)
    np.testing.assert_allclose(z.mean[0], offset_test, rtol=1e-12)
    np.testing.assert_allclose(
        with_mean.predict_train(T).mean, without.predict_train(T).mean + offset[None], rtol=1e-10
    )
    options = {"t": T[1:], "method": "pairwise", "task": "regression"}
    moved = information.curve(with_mean, X_TEST, y_test, **options)
    still = information.curve(without, X_TEST, y_test - offset_test, **options)
    for name in ("output_divergence", "output_divergence_joint", "parameter_distance", "action", "train_gibbs_mse"):
        np.testing.assert_allclose(getattr(moved, name), getattr(still, name), rtol=1e-9)
    np.testing.assert_allclose(moved.losses.gibbs_mse, still.losses.gibbs_mse, rtol=1e-9)
    np.testing.assert_allclose(
        information.output_divergence(with_mean, X_TEST, T[1:]), moved.output_divergence, rtol=1e-9
    )
    # A network of infinite width takes a mean as well, and a traced call gives what an eager one does.
    infinite = stax.serial(stax.Dense(8, 1.5, 0.1), stax.Erf(), stax.Dense(2, 1.5, 0.1))
    ens = ni.Ensemble.fit(infinite, X, Y, mean=NET)
    np.testing.assert_allclose(ens.predict(X_TEST, 0.0).mean, offset_test, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda e, x: e.predict(x, 2.0))(ens, X_TEST).mean, ens.predict(X_TEST, 2.0).mean)
    with pytest.raises(ValueError, match="`offset` must be the mean before training"):
        ens.cross_kernels(ni.kernels.kernels(infinite, X_TEST, X), prior=jnp.ones(4))


def test_initialisations_have_their_covariance_and_kernels_know_where_they_came_from():
    net = stax.serial(stax.Dense(16, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1))
    drawn = networks.from_stax(net)
    nets = [drawn.at(drawn.init(key, X)) for key in jax.random.split(jax.random.key(0), 12)]
    kernel = empirical(nets, around="ensemble", origin="initialisation")
    ens = ni.Ensemble.fit(kernel, X, Y[:, :1])
    k, theta = kernel(X)
    given = ni.Ensemble.from_kernels(net[2], X, Y[:, :1], ni.kernels.Kernels(k, theta))
    np.testing.assert_allclose(ens.predict_train(3.0).mean, given.predict_train(3.0).mean, rtol=1e-10)
    assert ens.around == "ensemble" and not ens.prior_saw_data and float(ens.predict(X_TEST, 1.0).variance.min()) > 0
    post = ni.Posterior.fit(kernel, X, Y[:, :1])
    assert post.prior == "nngp" and post.around == "ensemble"
    # A bound needs a prior that did not see the data, or somebody who says so.
    seen = ni.Posterior.fit(empirical(NET), X, Y, mean=NET)
    with pytest.raises(ValueError, match="`kl` must be a divergence from a prior fixed before the data"):
        bounds.pac_bayes_kl(0.1, seen, n=5)
    for origin in ("split", "initialisation"):
        fixed = ni.Posterior.fit(empirical(NET, origin=origin), X, Y, mean=NET)
        assert bounds.pac_bayes_kl(0.1, fixed, n=5) == bounds.pac_bayes_kl(0.1, float(seen.kl), n=5)
    assert bounds.pac_bayes_kl(0.1, ni.Posterior.fit(empirical(NET), X, Y, mean=NET, prior_saw_data=False), n=5) > 0
    # The mean is part of the prior: one of other networks may have seen them.
    assert ni.Posterior.fit(kernel, X, Y[:, :1], mean=lambda x: x[:, :1]).prior_saw_data
    assert not ni.Posterior.fit(kernel, X, Y[:, :1], mean=kernel).prior_saw_data


def test_linearised_networks_have_a_divergence_of_parameters_without_curvature():
    # Weights N(θ₀, τ²I) go through the linear flow to N(θ₀ + b, τ² M Mᵀ): its divergence from dense matrices.
    tau, x, y = 0.3, X, Y
    kernel = empirical(NET, "full", around="laplace", prior_variance=tau)
    ens = ni.Ensemble.fit(kernel, x, y, mean=NET)
    times = jnp.array([0.0, 0.7, 20.0])
    kl = information.parameter_divergence(ens, times)
    assert ni.kernels.has_hessian(kernel) and not np.asarray(kl.curvature).any()
    j = np.sqrt(tau) * jacobian(x)[0]
    residual = np.asarray(y - apply(PARAMS, x)).reshape(-1)
    for t, value in zip(times, kl.total, strict=True):
        s = float(t) / y.size
        m = scipy.linalg.expm(-s * j.T @ j)
        b = np.linalg.pinv(j) @ (np.eye(y.size) - scipy.linalg.expm(-s * j @ j.T)) @ residual
        want = 0.5 * (np.trace(m @ m.T) + b @ b - len(m) + 2 * s * np.trace(j.T @ j))
        np.testing.assert_allclose(value, want, rtol=1e-7, atol=1e-10)
    one = ni.Ensemble.fit(empirical(NET), x, y, mean=NET)
    for curvature in (True, False):
        with pytest.raises(ValueError, match="`ens` must have a distribution of parameters; one network has none"):
            information.parameter_divergence(one, 1.0, curvature=curvature)


@pytest.mark.parametrize(
    "outputs", ["trace", pytest.param("full", marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)]
)
def test_standard_errors_of_predictions_are_those_of_the_jackknife(outputs):
    net = networks.from_stax(stax.serial(stax.Dense(16, 1.5, 0.1), stax.Erf(), stax.Dense(2, 1.5, 0.1)))
    nets = [net.at(net.init(key, X)) for key in jax.random.split(jax.random.key(1), 4)]
    kernel = empirical(nets, outputs, around="ensemble", origin="initialisation")
    y = Y[:, 1:] if outputs == 1 else Y
    for mean in (kernel, None):
        ens = ni.Ensemble.fit(kernel, X, y, mean=mean)
        found = ni.ensemble.standard_error(ens, X_TEST, T)
        left = []
        for i in range(4):
            rest = kernel.leaving_out(i)
            left.append(ni.Ensemble.fit(rest, X, y, mean=rest if mean is kernel else mean).predict(X_TEST, T))
        for name in ("mean", "variance"):
            values = np.stack([getattr(z, name) for z in left])
            np.testing.assert_allclose(getattr(found, name), values.std(0) * 3**0.5, rtol=1e-6, atol=1e-9)
        if outputs != "trace":
            break
    scalar = ni.ensemble.standard_error(ens, X_TEST, 2.0)
    assert scalar.mean.shape == ens.predict(X_TEST, 2.0).mean.shape and scalar.variance.ndim == 1


@pytest.mark.slow
def test_standard_errors_shrink_with_the_number_of_networks():
    # Independent halves of many initialisations differ by about their standard errors.
    net = networks.from_stax(stax.serial(stax.Dense(8, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1)))
    nets = [net.at(net.init(key, X)) for key in jax.random.split(jax.random.key(2), 48)]
    halves = [ni.Ensemble.fit(empirical(part, around="ensemble"), X, Y[:, :1]) for part in (nets[:24], nets[24:])]
    errors = [np.asarray(ni.ensemble.standard_error(half, X_TEST, 2.0).mean) for half in halves]
    apart = halves[0].predict(X_TEST, 2.0).mean - halves[1].predict(X_TEST, 2.0).mean
    scaled = np.asarray(apart) / np.sqrt(errors[0] ** 2 + errors[1] ** 2)
    assert 0.2 < np.sqrt(np.mean(scaled**2)) < 3


def test_error_bars_of_an_untrained_network_cover_digits():
    data = ni.datasets.digits(n_train=120, n_test=200, task="parity")
    rng = np.random.default_rng(3)
    params = {"a": rng.normal(size=(64, 32)) / 8, "b": rng.normal(size=32) / 4, "c": rng.normal(size=(32, 1)) / 32**0.5}
    net = networks.from_apply(lambda p, x: jnp.tanh(x @ p["a"] + p["b"][None]) @ p["c"], params)
    post = ni.Posterior.fit(empirical(net), data.x_train, data.y_train, mean=net, noise="fit", scale="fit")
    z = post.predict(data.x_test)
    scale = np.sqrt(np.asarray(z.variance) + float(post.noise))[:, None]
    distance = np.abs(data.y_test - np.asarray(z.mean)) / scale
    # Labels ± 1 are no Gaussians: 90 % intervals must hold 90 % of them within a few points, and 99 % nearly all.
    assert 0.83 < np.mean(distance < 1.645) < 0.97
    assert np.mean(distance < 2.576) > 0.95


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ni.Ensemble.fit(empirical(NET), X, Y, mean=3),
            TypeError,
            "`mean` must be a `Network` with parameters",
        ),
        (
            lambda: ni.Ensemble.fit(empirical(NET), X, Y, mean=lambda x: x),
            ValueError,
            r"`mean` must return \(5, 2\) num",
        ),
        (
            lambda: ni.Ensemble.fit(empirical(NET, 0), X, Y, mean=NET),
            ValueError,
            r"`mean` must return \(5, 2\) numbers",
        ),
        (lambda: ni.Posterior.fit(empirical(NET), X, Y, prior="nngp"), ValueError, '`prior` must be "ntk"'),
        (lambda: ni.Posterior.fit(empirical(NET), X, Y, scale="best"), ValueError, "`scale` must be one of 'fit'"),
        (lambda: ni.Posterior.fit(empirical(NET), X, Y, scale=0.0), ValueError, "`scale` must be positive"),
        (
            lambda: ni.Ensemble.fit(empirical(NET, "full"), X, Y[:, :1], mean=NET),
            ValueError,
            r"`y` must have the 2 outputs of the network, \(5, 2\).*got 1",
        ),
        (
            lambda: ni.Posterior.fit(empirical(NET, "full"), X, jnp.ones((5, 3))),
            ValueError,
            r"`y` must have the 2 outputs of the network, \(5, 2\).*got 3",
        ),
        # Two outputs of one example are not two examples.
        (lambda: ni.information.curve(linear_rows(), X_TEST, jnp.ones((8, 1)), T), ValueError, "one row for each ex"),
        (lambda: ni.certificate(linear_rows(), X_TEST, jnp.ones((8, 1)), T), ValueError, "one row for each example"),
        (
            lambda: ni.Ensemble.fit(empirical((lambda p, x: x @ p, jnp.ones((3, 1)))), X, Y[:, :1]),
            ValueError,
            '`x` must have at most 3 rows.*Pass singular="project"',
        ),
        (
            lambda: ni.ensemble.standard_error(ni.Ensemble.fit(empirical(NET), X, Y), X_TEST, 1.0),
            ValueError,
            "`ens` must be an ensemble of three initialisations or more",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_else_takes_kernels_takes_empirical_ones():
    kernel = empirical(NET, 0, around="laplace", origin="initialisation")
    signs = np.sign(np.asarray(Y[:, :1]))
    content = ni.content.information_content(kernel, X, signs, key=jax.random.key(0), n_samples=256)
    assert np.isfinite(float(content.value))
    sweep = ni.sweep.scales(
        lambda w, b: empirical(NET, 0, around="laplace", prior_variance=w), X, signs, X_TEST, signs[:4], T[1:3],
        w_std=[1.0, 2.0], joint=False, method="pairwise",
    )  # fmt: skip
    assert np.isfinite(sweep.values["output_divergence"]).all()
