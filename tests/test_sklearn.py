"""Networks as estimators of scikit-learn: its own checks, and the numbers of the library's classes."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn.base
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ntkinfo
from ntkinfo import architectures
from ntkinfo._common import parallel
from ntkinfo.sklearn import NTKClassifier, NTKRegressor

# The numbers are those of `Posterior` and `Ensemble`, which have tests of their own.
pytestmark = pytest.mark.usefixtures("little_time_to_compile")

# Up to some seconds each, of which there are a hundred; these see the most.
IN_CI = {
    "check_dict_unchanged",
    "check_dont_overwrite_attributes",
    "check_estimators_pickle",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_regressors_train",
}


@pytest.fixture
def ranks_promoted():
    """As users have it."""
    import jax

    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


def label(value):
    """Without addresses in memory: every test process has to find the same names."""
    function = getattr(value, "func", value)
    return getattr(function, "__name__", type(value).__name__)


def checks(slow):
    """scikit-learn's checks of both estimators, those of CI or the others."""
    marked = parametrize_with_checks([NTKRegressor(), NTKClassifier()])
    values = [each for each in marked.args[1] if (name(each) in IN_CI) != slow]
    return pytest.mark.parametrize(("estimator", "check"), values, ids=label)


def name(parameters):
    function = (parameters.values if hasattr(parameters, "values") else parameters)[1]
    while hasattr(function, "func"):
        function = function.func
    return function.__name__


@pytest.mark.filterwarnings("ignore")
@checks(slow=False)
def test_checks_of_scikit_learn(estimator, check, ranks_promoted):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@checks(slow=True)
def test_all_checks_of_scikit_learn(estimator, check, ranks_promoted):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    return x, np.sin(x[:, 0]) + 0.1 * rng.normal(size=30) + 5.0, rng.normal(size=(7, 3))


NET = architectures.network(depth=2)


def test_regression_is_the_posterior_of_scaled_labels(data):
    x, y, x_test = data
    model = NTKRegressor(noise=0.05).fit(x, y)
    z = ntkinfo.Posterior.fit(NET, x, (y - y.mean()) / y.std(), noise=0.05).predict(x_test, joint=True)
    mean, std = model.predict(x_test, return_std=True)
    np.testing.assert_allclose(mean, y.mean() + y.std() * z.mean[:, 0], rtol=1e-12)
    np.testing.assert_allclose(std, y.std() * np.sqrt(z.variance), rtol=1e-9)
    same, covariance = model.predict(x_test, return_cov=True)
    np.testing.assert_allclose(same, mean, rtol=1e-12)
    np.testing.assert_allclose(covariance, y.var() * z.covariance, rtol=1e-8, atol=1e-12)
    assert mean.dtype == std.dtype == np.float64 and model.noise_ == 0.05
    assert model.score(x, y) > 0.9
    raw = NTKRegressor(noise=0.05, normalize_y=False, prior="ntk").fit(x, y)
    own = ntkinfo.Posterior.fit(NET, x, y, noise=0.05, prior="ntk").predict(x_test)
    np.testing.assert_allclose(raw.predict(x_test), own.mean[:, 0], rtol=1e-10)
    # A network without nonlinearity is the linear process of scikit-learn: Q = σ_b² + (σ_w²/d)(σ_b² + ... x·x'/d).
    linear = NTKRegressor(1, "linear", 1.3, 0.4, noise=0.1, normalize_y=False).fit(x, y)
    weight, bias = 1.3**4 / 3, 1.3**2 * 0.4**2 + 0.4**2
    kernel = weight * DotProduct(np.sqrt(bias / weight), sigma_0_bounds="fixed")
    theirs = GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None).fit(x, y).predict(x_test, return_std=True)
    np.testing.assert_allclose(linear.predict(x_test, return_std=True), theirs, rtol=1e-6)


def test_training_for_a_time_is_the_ensemble(data):
    x, y, x_test = data
    model = NTKRegressor(time=50.0, normalize_y=False).fit(x, y)
    z = ntkinfo.Ensemble.fit(NET, x, y).predict(x_test, 50.0)
    mean, std = model.predict(x_test, return_std=True)
    np.testing.assert_allclose(mean, z.mean[:, 0], rtol=1e-9)
    np.testing.assert_allclose(std, np.sqrt(z.variance), rtol=1e-7)
    np.testing.assert_allclose(NTKRegressor(time=np.inf).fit(x, y).predict(x), y, rtol=1e-6)
    assert not hasattr(model, "noise_")


def test_several_outputs_and_samples(data):
    x, y, x_test = data
    both = np.stack([y, -3 * y], axis=1)
    model = NTKRegressor().fit(x, both)
    mean, std = model.predict(x_test, return_std=True)
    assert mean.shape == std.shape == (7, 2) and model.predict(x_test, return_cov=True)[1].shape == (7, 7, 2)
    np.testing.assert_allclose(mean[:, 1], -3 * mean[:, 0], rtol=1e-9)
    np.testing.assert_allclose(std[:, 1], 3 * std[:, 0], rtol=1e-9)
    draws = model.sample_y(x_test, 4000, random_state=0)
    assert draws.shape == (7, 2, 4000)
    error = std / np.sqrt(4000)
    assert (np.abs(draws.mean(axis=2) - mean) < 5 * error).all()
    covariance = model.predict(x_test, return_cov=True)[1][..., 1]
    scale = np.sqrt(np.outer(std[:, 1], std[:, 1]) ** 2 + covariance**2) / np.sqrt(4000)
    assert (np.abs(np.cov(draws[:, 1]) - covariance) < 5 * scale).all()
    assert model.fit(x, y).sample_y(x_test).shape == (7, 1)
    np.testing.assert_array_equal(model.sample_y(x_test, 3, 1), model.sample_y(x_test, 3, 1))


@pytest.mark.parametrize("kind", ["two classes", "three classes"])
def test_probabilities_are_those_of_networks_that_decide(kind, data):
    x, _, x_test = data
    labels = np.where(x[:, 0] > 0, "b", "a")
    if kind == "three classes":
        labels = np.where(x[:, 0] > 0.7, "c", labels)
    model = NTKClassifier(noise=0.2).fit(x, labels)
    # Targets ±1, or one-hot less 1/k: of as many labels of each class the mean is that of the prior, 0.
    given, k = np.asarray(model.model_.y), len(model.classes_)
    coded = np.searchsorted(model.classes_, labels)
    np.testing.assert_allclose(given, np.eye(k)[coded] - 1 / k if k > 2 else 2.0 * coded[:, None] - 1, rtol=1e-12)
    p = model.predict_proba(x_test)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(model.predict(x_test), model.classes_[np.argmax(p, axis=1)])
    # Drawn outputs decide as often.
    mean, variance, _ = model._predict(x_test)
    rng = np.random.default_rng(1)
    f = mean[..., None] + np.sqrt(variance)[..., None] * rng.normal(size=(*mean.shape, 20_000))
    chosen = (f[:, 0] > 0).astype(int) if mean.shape[1] == 1 else np.argmax(f, axis=1)
    for c in range(len(model.classes_)):
        share = (chosen == c).mean(axis=1)
        assert (np.abs(share - p[:, c]) < 5 * np.sqrt(p[:, c] * (1 - p[:, c]) / 20_000) + 1e-4).all()
    assert model.score(x, labels) > 0.8
    trained = NTKClassifier(time=np.inf).fit(x, labels)
    assert trained.score(x, labels) == 1
    assert np.isfinite(trained.predict_proba(x)).all()


def test_pipelines_searches_and_tables(data):
    x, y, _ = data
    table = pd.DataFrame(x * [1, 100, 0.01], columns=list("abc"))
    pipeline = make_pipeline(StandardScaler(), NTKRegressor())
    grid = {"ntkregressor__noise": [0.1, 10.0], "ntkregressor__depth": [1]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(table, y)
    assert search.best_params_["ntkregressor__noise"] < 10 and search.predict(table).shape == (30,)
    best = search.best_estimator_[-1]
    assert best.get_params()["depth"] == 1 and best.n_features_in_ == 3
    fitted = NTKRegressor(noise="fit").fit(x, y)
    assert 1e-4 < fitted.noise_ < 0.2


def test_copies_and_pickles_predict_the_same(data):
    x, y, x_test = data
    for model in (NTKRegressor().fit(x, y), NTKRegressor(time=3.0).fit(x, y), NTKClassifier().fit(x, y > 5)):
        expected = model.predict(x_test)
        # What is set after the fit is of the next one.
        model.set_params(depth=7, time=None)
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            np.testing.assert_array_equal(other.predict(x_test), expected)
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(other)).predict(x_test), expected)
        assert not hasattr(sklearn.base.clone(model), "model_")
        pickle.loads(pickle.dumps(sklearn.base.clone(model)))


def test_float64_whatever_jax_is_set_to(data):
    x, y, x_test = data
    expected = NTKRegressor(noise=1e-6).fit(x, y).predict(x_test, return_std=True)
    with parallel.enable_x64(False):
        model = NTKRegressor(noise=1e-6).fit(x, y)
        found = pickle.loads(pickle.dumps(model)).predict(x_test, return_std=True)
        sampled = model.sample_y(x_test, 2)
        p = NTKClassifier().fit(x, np.arange(30) % 3).predict_proba(x_test)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert sampled.dtype == p.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: NTKRegressor(depth=0).fit(x, y), ValueError, "`depth` must be at least 1"),
        (lambda x, y: NTKRegressor(activation="swish").fit(x, y), ValueError, "`activation` must be one of"),
        (lambda x, y: NTKRegressor(noise=0.0).fit(x, y), ValueError, "`noise` must be positive"),
        (lambda x, y: NTKRegressor(noise="best").fit(x, y), ValueError, "`noise` must be one of 'fit'"),
        (lambda x, y: NTKRegressor(time=-1.0).fit(x, y), ValueError, "`time` must lie in"),
        (lambda x, y: NTKRegressor(prior="gp").fit(x, y), ValueError, "`prior` must be one of 'nngp', 'ntk'"),
        (lambda x, y: NTKRegressor(normalize_y="no").fit(x, y), TypeError, "`normalize_y` must be True or False"),
        (lambda x, y: NTKRegressor(time=1.0).fit(np.r_[x, x[:1]], np.r_[y, y[:1]]), ValueError, "leave `time` at None"),
        (lambda x, y: NTKRegressor().fit(x, y).predict(x[:, :2]), ValueError, "features"),
        (lambda x, y: NTKRegressor().fit(x, y).predict(x, True, True), ValueError, "must not both be True"),
        (lambda x, y: NTKRegressor().fit(x, y).sample_y(x, 0), ValueError, "`n_samples` must be at least 1"),
        (lambda x, y: NTKRegressor().predict(x), sklearn.exceptions.NotFittedError, "not fitted"),
        (lambda x, y: NTKClassifier().fit(x, np.ones(30, int)), ValueError, "`y` must hold at least two classes"),
        (lambda x, y: NTKClassifier().fit(x, y), ValueError, "Unknown label type"),
    ],
)
def test_refusals(call, error, message, data):
    with pytest.raises(error, match=message):
        call(*data[:2])


def test_constant_labels_and_single_columns():
    x = np.linspace(0, 1, 8)[:, None]
    mean, std = NTKRegressor().fit(x, np.full(8, 3.0)).predict(x, return_std=True)
    np.testing.assert_allclose(mean, 3.0, rtol=1e-12)
    assert np.isfinite(std).all()
    # In the middle of one sample of each class both are as probable.
    p = NTKClassifier().fit([[-1.0], [1.0]], [0, 1]).predict_proba([[0.0]])
    np.testing.assert_allclose(p, [[0.5, 0.5]], atol=1e-12)


def test_without_scikit_learn_one_sentence_says_what_to_do():
    script = "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.base'] = None; import ntkinfo as ni\n"
    script += "try: ni.sklearn\nexcept ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "`ntkinfo.sklearn` needs scikit-learn, which is not installed: `pip install scikit-learn`." in done.stdout


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_labels_in_any_unit_are_predicted_in_that_unit(unit):
    x = np.linspace(-1, 1, 8)[:, None]
    y = np.sin(3 * x[:, 0])
    plain, scaled = (NTKRegressor().fit(x, factor * y).predict(x, return_std=True) for factor in (1.0, unit))
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(other / unit, one, rtol=1e-9)
    if unit > 1:
        with pytest.raises(ValueError, match="labels `y` must not be so large or so small that the covariance"):
            NTKRegressor().fit(x, unit * y).predict(x, return_cov=True)
