import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from ntkinfo import kernels, stax
from ntkinfo.posterior import Posterior, _noise
from tests.compilations import counted
from tests.problems import network, problem


class Precomputed(Kernel):
    """A kernel of scikit-learn that looks its values up by the index of a row."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, rows, columns=None, eval_gradient=False):
        columns = rows if columns is None else columns
        return self.matrix[np.ix_(rows[:, 0].astype(int), columns[:, 0].astype(int))]

    def diag(self, rows):
        return np.diag(self.matrix)[rows[:, 0].astype(int)]

    def is_stationary(self):
        return False


def dense(net, prior, x, x_test):
    both = np.concatenate([x, x_test])
    q = np.asarray(getattr(kernels.kernels(net, both), prior))
    n = len(x)
    return q, q[:n, :n], q[n:, :n], q[n:, n:]


@pytest.fixture(params=[("nngp", 1), ("ntk", 3)], ids=["nngp", "ntk"])
def case(request, rng):
    prior, k = request.param
    x, y, x_test, _ = problem(rng, k=k)
    y = y + 0.1 * rng.normal(size=y.shape)
    net = network(outputs=k)
    return Posterior.fit(net, x, y, noise=0.3, prior=prior), dense(net, prior, x, x_test), x_test


def test_against_direct_formulas(case):
    post, (_, q, cross, own), x_test = case
    y, n, k = np.asarray(post.y), post.n, post.k
    a = np.linalg.inv(q + 0.3 * np.eye(n))
    z = post.predict(x_test, joint=True)
    np.testing.assert_allclose(z.mean, cross @ a @ y, atol=1e-10)
    np.testing.assert_allclose(z.covariance, own - cross @ a @ cross.T, atol=1e-10)
    np.testing.assert_allclose(z.variance, np.diag(z.covariance), atol=1e-12)
    np.testing.assert_allclose(post.predict(x_test).variance, z.variance, atol=1e-10)
    assert post.predict(x_test).covariance is None

    mean, covariance = q @ a @ y, q - q @ a @ q
    train = post.predict_train(joint=True)
    np.testing.assert_allclose(train.mean, mean, atol=1e-10)
    np.testing.assert_allclose(train.covariance, covariance, atol=1e-10)
    np.testing.assert_allclose(post.predict_train().variance, np.diag(covariance), atol=1e-10)

    log_det = np.linalg.slogdet(np.eye(n) + q / 0.3)[1]
    np.testing.assert_allclose(post.information_gain, 0.5 * k * log_det, rtol=1e-10)
    inverse = np.linalg.inv(q)
    kl = 0.5 * (k * np.trace(covariance @ inverse) - k * n + k * log_det + np.trace(mean.T @ inverse @ mean))
    np.testing.assert_allclose(post.kl, kl, rtol=1e-8)
    log_likelihood = sum(
        -0.5 * column @ a @ column - 0.5 * np.linalg.slogdet(2 * np.pi * (q + 0.3 * np.eye(n)))[1] for column in y.T
    )
    np.testing.assert_allclose(post.log_marginal_likelihood, log_likelihood, rtol=1e-10)


def test_against_scikit_learn(case):
    post, (everything, *_), x_test = case
    n, m = post.n, len(x_test)
    rows, test_rows = np.arange(n)[:, None], np.arange(n, n + m)[:, None]
    theirs = GaussianProcessRegressor(Precomputed(everything), alpha=0.3, optimizer=None)
    theirs.fit(rows, np.asarray(post.y))
    mean, covariance = theirs.predict(test_rows, return_cov=True)
    z = post.predict(x_test, joint=True)
    np.testing.assert_allclose(z.mean, mean.reshape(m, -1), atol=1e-9)
    np.testing.assert_allclose(z.covariance, covariance.reshape(m, m, -1)[..., 0], atol=1e-9)
    # Its value is the sum over outputs.
    np.testing.assert_allclose(post.log_marginal_likelihood, theirs.log_marginal_likelihood_value_, rtol=1e-10)


def test_leave_one_out_is_leaving_one_out(case):
    post, *_ = case
    z = post.leave_one_out()
    for i in (0, 5, 11):
        rest = np.arange(post.n) != i
        without = Posterior.fit(post.kernel_fn, post.x[rest], post.y[rest], noise=0.3, prior=post.prior)
        alone = without.predict(post.x[i : i + 1])
        np.testing.assert_allclose(z.mean[i], alone.mean[0], atol=1e-9)
        np.testing.assert_allclose(z.variance[i], alone.variance[0], atol=1e-9)


def test_leave_one_out_of_one_input_is_the_prior(rng):
    x, y, *_ = problem(rng, n=1)
    z = Posterior.fit(network(), x, y, noise=1e-6).leave_one_out()
    np.testing.assert_allclose(z.mean, 0.0, atol=1e-9)
    np.testing.assert_allclose(z.variance, kernels.diagonal(network(), x), rtol=1e-9)


def test_information_gain_is_the_divergence_averaged_over_the_model(rng):
    x, y, *_ = problem(rng)
    post = Posterior.fit(network(), x, y, noise=0.3)
    q = np.asarray(kernels.kernels(network(), x).nngp)
    draws = rng.multivariate_normal(np.zeros(12), q + 0.3 * np.eye(12), size=400)
    kls = jax.jit(jax.vmap(lambda labels: Posterior.fit(network(), x, labels, noise=0.3).kl))(draws)
    assert abs(np.mean(kls) - post.information_gain) < 5 * np.std(kls) / 20


def test_divergence_on_the_training_inputs_is_that_of_the_process(rng):
    # Adding test inputs to the batch adds nothing; a batch of test inputs alone has less.
    from ntkinfo import gaussian

    x, y, x_test, _ = problem(rng)
    post = Posterior.fit(network(), x, y, noise=0.3)
    for batch, same in ((np.concatenate([x, x_test]), True), (x_test, False)):
        z = post.predict(batch, joint=True)
        prior = np.asarray(kernels.kernels(network(), batch).nngp)
        zero = gaussian.Gaussian(jnp.zeros_like(z.mean), jnp.diagonal(prior), jnp.asarray(prior))
        divergence = gaussian.kl_divergence(z, zero, joint=True)
        assert abs(divergence - post.kl) < 1e-8 if same else divergence < 0.99 * post.kl


def test_limits_of_the_noise(rng):
    x, y, x_test, _ = problem(rng)
    quiet = Posterior.fit(network(), x, y, noise=1e-10)
    np.testing.assert_allclose(quiet.predict(x).mean, y, atol=1e-6)
    np.testing.assert_allclose(quiet.predict_train().variance, 1e-10, rtol=1e-4)
    loud = Posterior.fit(network(), x, y, noise=1e10)
    np.testing.assert_allclose(loud.predict(x_test).variance, kernels.diagonal(network(), x_test), rtol=1e-8)
    assert 0 < loud.kl < loud.information_gain < 1e-8


def test_kernels_of_low_rank_and_repeated_inputs_are_welcome(rng):
    x, y, x_test, _ = problem(rng)
    linear = stax.Dense(1, W_std=1.0, b_std=None)
    z = Posterior.fit(linear, x, y, noise=0.3).predict(x_test)
    d = x.shape[1]
    ridge = np.linalg.solve(x.T @ x + 0.3 * d * np.eye(d), x.T @ y)
    np.testing.assert_allclose(z.mean, x_test @ ridge, atol=1e-10)
    doubled = Posterior.fit(network(), np.concatenate([x, x]), np.concatenate([y, y]), noise=0.6)
    single = Posterior.fit(network(), x, y, noise=0.3)
    np.testing.assert_allclose(doubled.predict(x_test).mean, single.predict(x_test).mean, atol=1e-9)
    np.testing.assert_allclose(doubled.kl, single.kl, rtol=1e-9)


@pytest.mark.parametrize("prior", ["nngp", "ntk"])
def test_the_fitted_noise_has_the_largest_marginal_likelihood(rng, prior):
    x, y, *_ = problem(rng, n=40)
    y = y + 0.5 * rng.normal(size=y.shape)
    post = Posterior.fit(network(), x, y, noise="fit", prior=prior)
    assert post.noise_fit.converged and not post.noise_fit.at_limit and post.noise_fit.steps < 30
    assert abs(post.noise_fit.gradient) < 1e-6
    squares = jnp.sum(post.y_rotated**2, axis=1)
    others = jnp.geomspace(1e-6, 1e3, 2000)

    def evidence(noise):
        quadratic = jnp.sum(squares / (post.eigenvalues + noise))
        return _noise.log_marginal_likelihood(post.eigenvalues, quadratic, 1, noise)

    values = jax.jit(jax.vmap(evidence))(others)
    assert post.log_marginal_likelihood >= values.max()
    given = Posterior.fit(network(), x, y, noise=float(post.noise), prior=prior)
    np.testing.assert_allclose(post.log_marginal_likelihood, given.log_marginal_likelihood)
    assert given.noise_fit is None


def test_the_true_noise_is_found(rng):
    x = rng.normal(size=(300, 3))
    q = np.asarray(kernels.kernels(network(), x).nngp)
    y = rng.multivariate_normal(np.zeros(300), q + 0.2 * np.eye(300), size=4).T
    assert abs(Posterior.fit(network(outputs=4), x, y, noise="fit").noise - 0.2) < 0.03


def test_labels_that_the_prior_explains_without_noise_are_told(rng):
    x, *_ = problem(rng)
    labels = x @ rng.normal(size=(4, 1))
    with pytest.warns(UserWarning, match="stopped at the smallest noise tried.*still grows"):
        post = Posterior.fit(stax.Dense(1, W_std=1.0, b_std=None), x, labels, noise="fit")
    assert post.noise_fit.at_limit and post.noise > 0


def test_jit_vmap_and_gradient(rng):
    x, y, x_test, _ = problem(rng)
    net = network()

    def everything(post, inputs):
        z, out = post.predict(inputs), post.leave_one_out()
        values = post.kl, post.information_gain, post.log_marginal_likelihood
        return jnp.concatenate([z.mean[:, 0], z.variance, out.mean[:, 0], out.variance, jnp.stack(values)])

    post = Posterior.fit(net, x, y, noise=0.3)
    eager = everything(post, x_test)
    np.testing.assert_allclose(jax.jit(everything)(post, x_test), eager, rtol=1e-9, atol=1e-12)
    fitted = jax.jit(lambda a, b, s: everything(Posterior.fit(net, a, b, noise=s), x_test))(x, y, 0.3)
    np.testing.assert_allclose(fitted, eager, rtol=1e-8, atol=1e-10)
    noises = jnp.array([0.1, 0.3, 1.0])
    mapped = jax.jit(jax.vmap(lambda s: everything(Posterior.fit(net, x, y, noise=s), x_test)))(noises)
    np.testing.assert_allclose(mapped[1], eager, rtol=1e-8, atol=1e-10)
    # Labels are mapped with a noise fitted to each.
    several = rng.normal(size=(3, 12, 1))
    found = jax.jit(jax.vmap(lambda labels: Posterior.fit(net, x, labels, noise="fit").noise))(several)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one_by_one = [Posterior.fit(net, x, labels, noise="fit").noise for labels in several]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-6)

    def value(inputs, s):
        p = Posterior.fit(net, inputs, y, noise=s)
        return p.kl + p.log_marginal_likelihood + jnp.sum(p.predict(x_test).variance)

    gradient, slope = jax.jit(jax.grad(value, argnums=(0, 1)))(jnp.asarray(x), 0.3)
    step, direction = 1e-5, rng.normal(size=x.shape)
    numeric = (value(x + step * direction, 0.3) - value(x - step * direction, 0.3)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient * direction), numeric, rtol=1e-5)
    np.testing.assert_allclose(slope, (value(x, 0.3 + step) - value(x, 0.3 - step)) / (2 * step), rtol=1e-5)


def test_float32(rng):
    x, y, x_test, _ = problem(rng)
    post = Posterior.fit(network(), x.astype(np.float32), y.astype(np.float32), noise=0.3)
    exact = Posterior.fit(network(), x, y, noise=0.3)
    z = post.predict(x_test)
    assert z.mean.dtype == post.kl.dtype == post.noise.dtype == jnp.float32
    np.testing.assert_allclose(z.mean, exact.predict(x_test).mean, atol=1e-4)
    np.testing.assert_allclose(post.kl, exact.kl, rtol=1e-4)


def indefinite(x1, x2, get):
    x2 = x1 if x2 is None else x2
    return -(x1 @ x2.T), x1 @ x2.T


X, Y = np.random.default_rng(3).normal(size=(6, 2)), np.ones(6)
LINEAR = stax.Dense(1, W_std=1.0, b_std=None)
BAD = [
    (dict(noise=0.0), ValueError, "`noise` must be positive and finite; got 0.0"),
    (dict(noise=-1.0), ValueError, "`noise` must be positive and finite; got -1.0"),
    (dict(noise=np.nan), ValueError, "`noise` must be positive and finite; got nan"),
    (dict(noise=np.inf), ValueError, "`noise` must be positive and finite; got inf"),
    (dict(noise=np.ones(2)), ValueError, "`noise` must be one number, or one for each label"),
    (dict(noise="best"), ValueError, "`noise` must be one of 'fit', 'fit_each'; got 'best'"),
    (dict(noise=None), TypeError, "`noise` must be a real number, or an array of them; got None"),
    (dict(noise=1e-18), ValueError, "`noise` must exceed the rounding error of the prior kernel.*Take at least"),
    (dict(prior="gp"), ValueError, "`prior` must be one of 'nngp', 'ntk'; got 'gp'"),
    (dict(x=X[:0]), ValueError, "`x` must not be empty"),
    (dict(x=X[:, 0]), ValueError, "`x` must have an axis of samples"),
    (dict(x=X * np.nan), ValueError, "`x` must be finite"),
    (dict(y=Y[:5]), ValueError, "`y` must have one row per input; got 5 rows for 6"),
    (dict(y=Y.astype(int)), TypeError, "`y` must hold floating-point targets"),
    (dict(net=None), TypeError, "`net` must be a network"),
    (dict(net=indefinite), ValueError, "prior kernel must be positive semidefinite and not zero; got eigenvalues"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_is_refused(change, error, message):
    arguments = dict(net=LINEAR, x=X, y=Y, noise=0.1) | change
    with pytest.raises(error, match=message):
        Posterior.fit(arguments.pop("net"), arguments.pop("x"), arguments.pop("y"), **arguments)


def test_test_inputs_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="`x_test` must hold inputs of the shape trained on"):
        Posterior.fit(LINEAR, X, Y).predict(np.ones((3, 5)))


def test_the_fit_of_the_noise_is_compiled_once_for_neighbouring_sizes():
    def fit(n, scale=1.0):
        rng = np.random.default_rng(n)
        x, y = rng.normal(size=(n, 3)), rng.normal(size=(n, 1))
        with counted() as count:
            found = Posterior.fit(network(), x, scale * y, noise="fit")
        return count.number, found

    fit(14)
    assert fit(14)[0] == 0 and fit(14, 0.5)[0] == 0
    # The eigenvectors of another matrix, and sums over the rows of the labels.
    assert fit(13)[0] <= 2
    number, found = fit(15)
    assert number <= 2
    values = found.eigenvalues, jnp.sum(found.y_rotated**2, axis=1)
    exact, how = jax.jit(_noise.maximise_marginal_likelihood, static_argnums=2)(*values, 1)
    np.testing.assert_allclose(found.noise, exact, rtol=1e-6)
    assert found.noise_fit.converged and how.converged


@pytest.mark.parametrize("scale", [1e308, 1e-308])
def test_a_scale_out_of_range_is_named(rng, scale):
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 1))
    with pytest.raises(ValueError, match="`scale` must leave squares of the prior kernel within the range of float64"):
        Posterior.fit(network(), x, y, scale=scale)


def test_the_prior_of_a_known_kernel_is_that_of_fit(rng):
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(6, 1))
    post = Posterior.fit(network(), x, y)
    same = Posterior.from_kernel(post.kernel_fn, post.x, post.y, post.q, prior=None)
    assert same.prior == post.prior == "nngp"
    np.testing.assert_allclose(same.predict(x[:2]).mean, post.predict(x[:2]).mean, rtol=1e-12)
