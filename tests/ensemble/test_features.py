"""The engine of given features beside the dense one with kernel ΦΦᵀ and matrix exponentials; what it refuses."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo._common import memory

TIMES = np.array([0.0, 1.0, 30.0, 1e3, 1e5, np.inf])
N, M, P = 40, 5, 12
WEIGHTS = np.random.default_rng(1).normal(size=(3, P)) / 2


def phi(x):
    return jnp.tanh(x @ jnp.asarray(WEIGHTS, x.dtype))


def data(n=N, k=1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + M, 3))
    y = np.stack([np.sign(x[:, 0] * x[:, 1] + 0.1), x[:, 2] ** 2][:k], axis=1)
    return x[:n], y[:n], x[n:], y[n:]


@functools.cache
def both(n=N):
    """The ensemble of features and the dense one; of fewer inputs than features too."""
    x, y, x_test, y_test = data()
    x, y, kernel = x[:n], y[:n], ni.kernels.features(phi)
    dense = ni.Ensemble.fit(kernel, x, y, engine="dense", singular="project")
    return ni.Ensemble.fit(kernel, x, y), dense, x_test, y_test


def close(found, wanted, tolerance=1e-8):
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("n", [N, 8])
def test_predictions_are_those_of_the_dense_engine_and_of_matrix_exponentials(n):
    ens, dense, x_test, _ = both(n)
    assert isinstance(ens, ni.ensemble.FeatureEnsemble) and ens.rank == min(n, P) and ens.n_features == P
    z, wanted = ens.predict(x_test, TIMES, joint=True), dense.predict(x_test, TIMES, joint=True)
    for one, other in zip(z, wanted, strict=True):
        close(one, other)
    # By themselves: θ_t = e^{-sG}(θ_0 - θ_∞) + θ_∞ with G = ΦᵀΦ.
    features, test = (np.asarray(phi(a)) for a in (np.asarray(ens.x), x_test))
    gram = features.T @ features
    for i, t in enumerate(TIMES[:-1]):
        decay = scipy.linalg.expm(-t / n * gram)
        mean = test @ (np.eye(P) - decay) @ np.linalg.pinv(gram, rcond=1e-12) @ features.T @ np.asarray(ens.y)
        close(z.mean[i], mean, 1e-7)
        close(z.covariance[i], test @ decay @ decay @ test.T)
    alone = ens.predict(x_test, 30.0)
    np.testing.assert_allclose(alone.variance, z.variance[2], rtol=1e-12)
    assert alone.mean.shape == (M, 1) and alone.covariance is None
    close(ens.predict_train(TIMES).mean, dense.predict_train(TIMES).mean)


def test_quantities_of_training_are_those_of_the_dense_engine():
    ens, dense, x_test, y_test = both()
    curve, wanted = (ni.information.curve(each, x_test, y_test, TIMES[:4]) for each in (ens, dense))
    columns = wanted.columns()
    assert curve.columns().keys() == columns.keys() and "output_divergence_joint" in columns
    for name, column in curve.columns().items():
        close(column, columns[name])
    # Labels off the span of the features are never fitted.
    assert float(curve.train_mean_mse[-1]) > 0.1
    kl, dense_kl = (ni.information.parameter_divergence(each, TIMES[:4], curvature=c) for each, c in
                    ((ens, True), (dense, True)))  # fmt: skip
    close(kl.total, dense_kl.total)
    assert not np.any(kl.curvature)
    close(ni.information.output_divergence(ens, x_test, TIMES[:4]), curve.output_divergence)
    # More inputs than features have a singular covariance, which is not asked for.
    many = np.tile(x_test, (3, 1)) + 0.1
    assert ni.information.curve(ens, many, np.tile(y_test, (3, 1)), TIMES[:4]).output_divergence_joint is None


def test_sums_over_the_spectrum_count_null_directions():
    ens, dense, _, _ = both()
    s = ens.rescaled_time(TIMES[1:4])
    for weight in ("trace", "nngp", "labels", "second_moment"):
        found, wanted = (
            each.spectral_sum(lambda f: f.decay + f.growth_twice, weight, each.filters(s)) for each in (ens, dense)
        )
        close(found, wanted)


def test_variances_stay_accurate_where_nearly_all_is_known():
    ens, dense, x_test, _ = both()
    t = 30 * N / float(ens.eigenvalues[0])
    variance = np.asarray(ens.predict(x_test, t).variance)
    # e^{-60} of the prior: below the rounding of the dense engine, which says 0.
    slowest = np.asarray(ens.cross_kernels(x_test).ntk)[:, 0] ** 2 * np.exp(-60.0)
    assert (variance >= 0.999 * slowest).all() and (variance < 1e-20).all()
    assert not np.any(dense.predict(x_test, t).variance)


def test_the_end_of_training_leaves_nothing_to_inform():
    ens, _, x_test, y_test = both()
    with pytest.raises(ValueError, match=r"got 0 from t = inf on .* directions of features .*earlier times"):
        ni.information.curve(ens, x_test, y_test, TIMES)
    # Of fewer inputs than features it is known at these alone.
    few, _, _, _ = both(8)
    variance = few.predict(np.concatenate([np.asarray(few.x), x_test]), np.inf).variance
    assert not np.any(variance[:8]) and np.all(variance[8:] > 0)
    one = ni.Ensemble.fit(ni.kernels.features(lambda x: x[:, :1]), *data()[:2])
    with pytest.raises(ValueError, match="row 0 of `x_test`, whose features are all 0"):
        ni.information.curve(one, np.zeros((2, 3)), y_test[:2], TIMES[:3])


@pytest.mark.parametrize(
    ("function", "rank"),
    [
        (lambda x: x[:, :1], 1),
        (lambda x: jnp.ones((len(x), 1), x.dtype), 1),
        (lambda x: jnp.concatenate([x, x, jnp.ones((len(x), 2), x.dtype)], axis=1), 4),
        (lambda x: jnp.concatenate([x, x @ jnp.ones((3, 2), x.dtype)], axis=1), 3),
    ],
    ids=["one", "constant", "repeated", "dependent"],
)
def test_features_of_low_rank(function, rank):
    x, y, x_test, _ = data()
    x = np.concatenate([x, x[:3]])
    y = np.concatenate([y, -y[:3]])
    kernel = ni.kernels.features(function)
    ens = ni.Ensemble.fit(kernel, x, y)
    dense = ni.Ensemble.fit(kernel, x, y, engine="dense", singular="project")
    assert ens.rank == rank
    for one, other in zip(ens.predict(x_test, TIMES)[:2], dense.predict(x_test, TIMES)[:2], strict=True):
        close(one, other)


def test_one_pass_in_blocks_of_rows_and_least_squares_in_the_end():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 3))
    y = x @ rng.normal(size=(3, 2)) + 1.0 + rng.normal(size=(5000, 2))
    seen = []

    def function(x):
        seen.append(len(x))
        return np.concatenate([np.asarray(x), np.ones((len(x), 1))], axis=1)

    kernel = ni.kernels.features(function)
    ens = ni.Ensemble.fit(kernel, x, y, batch_size=2000, progress=False)
    # A row to count features, and three to see that each stands for itself.
    assert sorted(seen) == [1, 1, 3, 1000, 2000, 2000]
    design = np.concatenate([x, np.ones((5000, 1))], axis=1)
    weights, residuals, *_ = np.linalg.lstsq(design, y, rcond=None)
    close(ens.predict(x[:M], np.inf).mean, design[:M] @ weights)
    np.testing.assert_allclose(ens.unexplained, residuals, rtol=1e-10)


def linear(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]


@functools.cache
def network():
    rng = np.random.default_rng(2)
    params = {"in": rng.normal(size=(3, 4)), "out": rng.normal(size=(4, 2))}
    return ni.networks.from_apply(linear, jax.tree.map(jnp.asarray, params))


@pytest.mark.parametrize(("outputs", "around"), [("trace", "laplace"), (1, "one")])
def test_gradients_of_a_network(outputs, around):
    x, y, x_test, _ = data(k=2)
    y = y if outputs == "trace" else y[:, 1:]
    kernel = ni.kernels.empirical(network(), outputs=outputs, around=around)
    options = {"mean": network(), "prior_saw_data": False}
    ens = ni.Ensemble.fit(kernel, x, y, engine="features", **options)
    dense = ni.Ensemble.fit(kernel, x, y, singular="project", **options)
    for one, other in zip(ens.predict(x_test, TIMES)[:2], dense.predict(x_test, TIMES)[:2], strict=True):
        close(one, other)
    assert ens.around == around and not ens.prior_saw_data
    # The wrapped kernel knows whose gradients it has.
    wrapped = ni.Ensemble.fit(ni.kernels.features(kernel), x, y, mean=network())
    np.testing.assert_array_equal(wrapped.predict(x_test, 1.0).mean, ens.predict(x_test, 1.0).mean)
    assert wrapped.prior_saw_data


@pytest.mark.slow
def test_projections_are_right_on_average_and_drawn_from_their_key():
    x = data()[0][:6]
    kernel = ni.kernels.empirical(network(), around="laplace", origin="initialisation")
    wanted = np.asarray(ni.kernels.kernels(kernel, x).ntk)
    draws = []
    for i in range(200):
        projected = ni.kernels.features(kernel, projection=10, key=jax.random.key(i))
        found = np.asarray(projected.of(x))
        draws.append(found @ found.T)
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - wanted) < 5 * error).all() and not projected.prior_saw_data
    np.testing.assert_allclose(ni.kernels.kernels(projected, x).ntk, draws[-1], rtol=1e-12)
    # The diagonal of a Wishart matrix of 10 degrees of freedom.
    spread = np.std([np.diag(each) for each in draws], axis=0) / np.diag(wanted)
    np.testing.assert_allclose(spread, np.sqrt(2 / 10), rtol=0.25)


@pytest.mark.any_precision
def test_float32_keeps_its_dtype_and_warns_of_what_it_cannot_hold():
    x, y, x_test, _ = (a.astype(np.float32) for a in data())
    kernel = ni.kernels.features(phi)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ens = ni.Ensemble.fit(kernel, x, y)
        z = ens.predict(x_test, TIMES.astype(np.float32))
    assert z.mean.dtype == z.variance.dtype == ens.eigenvalues.dtype == np.float32
    if jax.config.jax_enable_x64:
        wanted = both()[0].predict(x_test.astype(np.float64), TIMES)
        close(z.mean, wanted.mean, 2e-3)
        close(z.variance, wanted.variance, 1e-5)
    with pytest.warns(UserWarning, match="float32 resolves the slowest modes of training poorly.*may be off"):
        ni.Ensemble.fit(ni.kernels.features(lambda x: jnp.concatenate([x, 1e-5 * x**2], axis=1)), x, y)


def test_features_that_are_none_are_refused():
    x, y, _, _ = data()

    def fit(function, **options):
        return ni.Ensemble.fit(ni.kernels.features(function), x, y, **options)

    with pytest.raises(ValueError, match="`net` must have finite features; those of row 3 have NaN"):
        fit(lambda x: jnp.where(x == data()[0][3, 0], jnp.nan, x))
    with pytest.raises(ValueError, match="depend on their own input alone"):
        fit(lambda x: x - x.mean(axis=0, keepdims=True))
    with pytest.raises(ValueError, match="features that are not all 0"):
        fit(lambda x: 0 * x)
    with pytest.raises(ValueError, match=r"features of shape \(n, p\)"):
        fit(lambda x: x[:, 0])
    with pytest.raises(TypeError, match="features of floating-point numbers; got"):
        fit(lambda x: (x > 0).astype(int))
    with pytest.raises(ValueError, match=r"function of features that fails on inputs of shape .*no such thing"):
        fit(lambda x: {}["no such thing"])
    with pytest.raises(ValueError, match="out of the range of float64"):
        fit(lambda x: 1e200 * x)
    ens = fit(lambda x: jnp.sqrt(x - x.min() * 0 + 10.0))
    with pytest.raises(ValueError, match="those of row 1 have NaN"), np.errstate(invalid="ignore"):
        ens.predict(np.array([[1.0] * 3, [-20.0] * 3]), 1.0)


def test_kernels_that_have_no_features_are_refused():
    x, y, _, _ = data()
    net = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))
    with pytest.raises(ValueError, match=r'known features under engine="features".*infinite width have none'):
        ni.Ensemble.fit(net, x, y, engine="features")
    nets = [network(), network()]
    with pytest.raises(ValueError, match='must be an empirical kernel of around="one" or "laplace"'):
        ni.kernels.features(ni.kernels.empirical(nets, around="ensemble"))
    with pytest.raises(ValueError, match=r'`net` must be an empirical kernel of outputs="trace"'):
        ni.Ensemble.fit(ni.kernels.empirical(network(), outputs="full"), x, y, engine="features")
    with pytest.raises(TypeError, match=r"got a `Network`.*ni\.kernels\.empirical"):
        ni.kernels.features(network())
    with pytest.raises(TypeError, match="`key` must be None where nothing is projected"):
        ni.kernels.features(phi, key=jax.random.key(0))
    with pytest.raises(ValueError, match="projected to fewer directions than its 12 features; got projection=12"):
        ni.Ensemble.fit(ni.kernels.features(phi, projection=12, key=jax.random.key(0)), x, y)
    for option in ({"storage": "none"}, {"devices": jax.devices()}):
        with pytest.raises(ValueError, match=f'`{next(iter(option))}` must be .*engine="features"'):
            ni.Ensemble.fit(ni.kernels.features(phi), x, y, engine="features", **option)


def test_what_needs_all_eigenvectors_is_refused_with_the_remedy():
    ens, _, x_test, _ = both()
    for call in (
        lambda: ni.cmi.leave_one_out(ens),
        lambda: ni.examples.value(ens),
        lambda: ni.learning.alignment(ens),
        lambda: ni.information.data_information(ens, x_test, 1.0, label_covariance=np.eye(N)),
        lambda: ni.information.output_divergence(ens, x_test, 1.0, label_covariance=np.eye(N)),
    ):
        with pytest.raises(ValueError, match=r'engine="dense" for .*engine="features" has none'):
            call()
    with pytest.raises(ValueError, match="`hessian` must be None"):
        ni.information.parameter_divergence(ens, 1.0, hessian=np.eye(N))


def test_memory_is_refused_before_it_is_spent(monkeypatch):
    x, y, _, _ = data()
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    with pytest.raises(ValueError, match=r"p = 20000 features .*ni\.kernels\.features\(\.\.\., projection=q"):
        ni.Ensemble.fit(ni.kernels.features(lambda x: jnp.ones((len(x), 20000)) * x[:, :1]), np.tile(x, (1000, 1)),
                        np.tile(y, (1000, 1)))  # fmt: skip
