"""`information.curve` of the Krylov engine: every quantity beside the dense engine's, within its errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo._common.results import Estimate
from ntkinfo.ensemble import Prediction
from ntkinfo.gaussian import Gaussian
from ntkinfo.information import _krylov, _losses
from tests.ensemble.test_krylov import TIMES, M, both, data, net

T = TIMES[:-1]
SIGNS = np.sign(np.random.default_rng(1).normal(size=(M, 1)))


def within_errors(exact, found):
    """The share of cells that their errors cover, and the largest error in units of what is shown."""
    shares, shown = [], found.columns()
    for name, value in exact.columns().items():
        if name == "t" or name.endswith(("_lower", "_upper", "_stderr")):
            continue
        error = np.abs(shown[name] - value)
        if f"{name}_truncation" in shown:
            bar = shown[f"{name}_truncation"] + 3 * shown.get(f"{name}_stderr", 0.0)
        else:
            upper = shown.get(f"{name}_upper", np.inf)
            bar = np.where(value < shown[name], shown[name] - shown[f"{name}_lower"], upper - shown[name])
        shares.append(error / (bar + 1e-9 * np.abs(value) + 1e-11))
    shares = np.concatenate(shares)
    return np.mean(shares <= 1), shares.max()


@functools.cache
def curves():
    dense, krylov, x_test = both(tolerance=1e-2)
    options = {"noise": 0.3}
    return (
        ni.information.curve(dense, x_test, SIGNS, T, joint=False, **options),
        ni.information.curve(krylov, x_test, SIGNS, T, **options),
    )


def test_every_quantity_is_that_of_the_dense_engine_within_its_errors():
    exact, found = curves()
    covered, worst = within_errors(exact, found)
    assert covered >= 0.99 and worst <= 3
    assert found.output_divergence_joint is None and found.n == exact.n and found.log_m == exact.log_m
    # Not by bars that say nothing.
    assert np.max(found.input_information.upper - found.input_information.lower) < 0.2
    assert np.max(found.losses.gibbs_error.truncation) < 0.02
    np.testing.assert_array_less(found.losses.gibbs_mse.truncation, 0.05 * found.losses.gibbs_mse.value + 1e-9)


@pytest.mark.slow
def test_several_outputs_are_sampled_with_the_same_draws():
    _, y, _ = data("one-hot", 100)
    x, _, x_test = data("plain", 100)
    y_test = np.eye(4)[np.arange(M) % 4] - 0.25
    options = {"noise": 0.3, "key": jax.random.key(0), "n_samples": 4, "joint": False}
    dense, krylov = (ni.Ensemble.fit(net(), x, y, engine=engine) for engine in ("dense", "krylov"))
    exact, found = (ni.information.curve(ens, x_test, y_test, T, **options) for ens in (dense, krylov))
    assert found.input_information.method == "monte_carlo" and np.isfinite(found.input_information.upper).all()
    covered, worst = within_errors(exact, found)
    assert covered >= 0.99 and worst <= 3


@pytest.mark.slow
def test_real_labels_have_the_decoder_bound_less_its_error():
    dense, krylov, x_test = both(tolerance=1e-2)
    y = np.random.default_rng(2).normal(size=(M, 1))
    exact, found = (
        ni.information.curve(ens, x_test, y, T, noise=0.3, joint=False, label_entropy=2.0) for ens in (dense, krylov)
    )
    assert found.label_information.method == "decoder" and found.losses.gibbs_error is None
    missed = found.label_information.value - found.label_information.lower
    np.testing.assert_array_less(np.abs(found.label_information.value - exact.label_information.value), missed + 1e-9)
    assert np.max(missed) < 0.1


def prediction(seed=0, m=6, k=1, size=0.1):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=(len(T), m, k)), 0.05 + rng.random((len(T), m))
    error = Gaussian(size * rng.random(mean.shape), size * variance * rng.random(variance.shape))
    return Prediction(*(jnp.asarray(a) for a in (mean, variance)), jax.tree.map(jnp.asarray, error), 1e-3, (1,), True)


def moved(z, seed):
    """A prediction within the errors, most often at their ends."""
    rng = np.random.default_rng(seed)
    one, two = (np.clip(3 * rng.normal(size=part.shape), -1, 1) for part in (z.mean, z.variance))
    return z.mean + one * z.error.mean, z.variance + two * z.error.variance


@pytest.mark.parametrize("k", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_loss_within_the_errors_is_beyond_what_is_shown(k):
    z = prediction(k=k, size=0.5)
    classes = np.arange(6) % max(2, k)
    y = np.eye(3)[classes] if k == 3 else 2.0 * classes[:, None] - 1.0
    found, most = _krylov.losses(z, jnp.asarray(y), classes, 0.2), 0.0
    for seed in range(100):
        other = _losses.compute(Gaussian(*moved(z, seed)), jnp.asarray(y), classes, 0.2)
        for name, value in other._asdict().items():
            one = getattr(found, name)
            change = np.abs(value - one.value)
            assert np.all(change <= one.truncation + 1e-12), name
            most = max(most, float(np.max(change / one.truncation)))
    # Of the size that errors do reach.
    assert most > 0.3


@pytest.mark.slow
def test_information_within_small_errors_is_between_its_bounds():
    z = prediction(m=M, size=0.05)
    one_hot = np.eye(2)[np.arange(M) % 2]
    found = _krylov.pair(z, one_hot, method=None, key=None, n_samples=1)
    for seed in range(30):
        for one, other in zip(found, ni.mixture.pair(*moved(z, seed), one_hot), strict=True):
            assert np.all(other.value <= one.upper + 1e-9) and np.all(other.value >= one.lower - 1e-9)


def test_one_class_has_no_information_and_the_value_lies_between_its_bounds():
    z = prediction(m=6, size=1e-6)
    of_label = _krylov.pair(z, np.ones((6, 1)), method=None, key=None, n_samples=1)[1]
    assert np.all(of_label.lower <= of_label.value) and np.all(of_label.value <= of_label.upper)
    np.testing.assert_allclose(of_label.value, 0, atol=1e-12)


def test_a_variance_below_its_error_has_bounds_that_always_hold():
    z = prediction(m=M)
    variance = z.variance.at[1, 2].set(0.0)
    z = Prediction(z.mean, variance, z.error._replace(variance=z.error.variance + 1e-3), 1e-3, (1,), True)
    found = _krylov.pair(z, np.eye(2)[np.arange(M) % 2], method=None, key=None, n_samples=1)
    assert (
        found[0].lower[1] == 0 and np.isclose(found[0].upper[1], np.log(M)) and np.isclose(found[1].upper[1], np.log(2))
    )
    assert np.all(np.delete(found[0].upper, 1) < np.log(M))


@pytest.mark.slow
def test_a_test_input_that_was_trained_on_is_told_of():
    x, y, _ = data(n=30)
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov")
    with pytest.warns(UserWarning, match="predictive variances .* are no larger than their errors"):
        found = ni.information.curve(krylov, x[:M], SIGNS, T)
    assert np.isinf(found.output_divergence.truncation[-1]) and np.isfinite(found.output_divergence.value).all()
    assert found.input_information.lower[-1] == 0


@pytest.mark.filterwarnings("ignore:.* predictive variances")
def test_what_was_written_is_read_again(tmp_path, monkeypatch):
    dense, krylov, x_test = both(tolerance=1e-2)
    first = ni.information.curve(krylov, x_test, SIGNS, T, noise=0.3, batch_size=4, checkpoint=tmp_path)
    (tmp_path / "predictions" / "batch_1.npz").unlink()
    calls = []
    for name in ("_predict_batch", "_sums"):
        own = getattr(type(krylov), name)
        monkeypatch.setattr(type(krylov), name, lambda self, *a, own=own, n=name: calls.append(n) or own(self, *a))
    again = ni.information.curve(krylov, x_test, SIGNS, T, noise=0.3, batch_size=4, checkpoint=tmp_path)
    assert calls == ["_predict_batch"]
    for name, column in first.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name], err_msg=name)
    with pytest.raises(ValueError, match='`checkpoint` must be None under engine="dense"'):
        ni.information.curve(dense, x_test, SIGNS, T, checkpoint=tmp_path)
    with pytest.raises(ValueError, match='`max_steps` must be None under engine="dense"'):
        ni.information.curve(dense, x_test, SIGNS, T, max_steps=50)
    # Far too few, and it says so.
    with pytest.warns(UserWarning, match="Allow more steps"):
        ni.information.curve(krylov, x_test, SIGNS, T, noise=0.3, max_steps=1)


def test_what_the_engine_cannot_give_is_refused_with_the_remedy():
    dense, krylov, x_test = both(tolerance=1e-2)
    with pytest.raises(ValueError, match=r'`joint` must be False or None under engine="krylov".*engine="dense"'):
        ni.information.curve(krylov, x_test, SIGNS, T, joint=True)
    with pytest.raises(ValueError, match=r'`x_test` must be inputs under engine="krylov".*engine="dense"'):
        ni.information.curve(krylov, dense.cross_kernels(x_test), SIGNS, T)


def test_tables_files_and_figures_take_it(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    _, found = curves()
    bits, nats = (found.to_dataframe(unit=unit) for unit in ("bits", "nats"))
    np.testing.assert_allclose(bits["output_divergence_truncation"] * np.log(2), nats["output_divergence_truncation"])
    assert {"input_information_lower", "action_stderr", "gibbs_error_truncation"} <= set(nats)
    assert isinstance(found.losses.gibbs_mse, Estimate) and repr(found).startswith("Curve(")
    ni.save(found, tmp_path / "curve.npz")
    read = ni.load(tmp_path / "curve.npz")
    np.testing.assert_array_equal(read.losses.mean_error.truncation, found.losses.mean_error.truncation)
    plt.close(ni.plot.summary(found))
    ax = ni.plot.curve(found)
    assert len(ax.collections) >= 2
    plt.close(ax.figure)
