"""Learning curves: the equations solved, measured curves of digits, leaving out by refits, alignment by hand."""

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo.learning import _curve
from tests.problems import network, problem


@pytest.fixture(scope="module")
def digits():
    data = ni.datasets.digits(600, 10, task="parity")
    return network(b_std=0.1), np.asarray(data.x_train), np.asarray(data.y_train)


def test_predicted_errors_are_those_measured(digits):
    """Within 12 % and the error of the measurement, up to half the pool; without the correction not."""
    found = ni.learning.curve(*digits, [30, 75, 150, 300], draws=5, key=jax.random.key(0))
    np.testing.assert_allclose(found.measured, found.error, atol=float(4 * found.stderr.max()), rtol=0.12)
    assert np.all(np.diff(found.error) < 0) and np.all(found.train_error == 0)
    assert abs(found.pool_error[-1] / found.measured[-1] - 1) > 0.3


def test_with_noise_the_information_too(digits):
    net, x, y = digits
    found = ni.learning.curve(net, x, y, [50, 200], 0.5, draws=5, key=jax.random.key(0))
    np.testing.assert_allclose(found.measured, found.error, atol=float(4 * found.stderr.max()), rtol=0.12)
    ntk, rng = np.asarray(ni.kernels.kernels(net, x).ntk), np.random.default_rng(0)
    for n, gain in zip((50, 200), found.information, strict=True):
        rows = [rng.choice(600, n, replace=False) for _ in range(5)]
        gains = [0.5 * np.linalg.slogdet(np.eye(n) + ntk[np.ix_(r, r)] / 0.5)[1] for r in rows]
        np.testing.assert_allclose(gain, np.mean(gains), rtol=0.03 if n == 50 else 0.07)
    post = ni.Posterior.fit(net, x[:50], y[:50], noise=0.5, prior="ntk")
    np.testing.assert_allclose(post.information_gain, found.information[0], rtol=0.1)
    assert np.all(found.train_error > 0) and np.all(found.train_error < found.pool_error)
    assert np.all(found.pool_error < found.error)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_equation_is_solved(ridge, rng):
    rates = rng.exponential(size=40) ** 3
    for n in (1, 7, 30, 39):
        kappa = _curve._kappa(rates, n, ridge)
        np.testing.assert_allclose(np.sum((rates + ridge) / (rates + kappa)), n, rtol=1e-10)
    if ridge:
        # The derivative of the information by the ridge is ½ [tr(Θ_n + δ)⁻¹ - n/δ], the trace from M on the examples.
        def gain(delta):
            return _curve._gain(rates, 7, delta, _curve._kappa(rates, 7, delta))

        kappa = _curve._kappa(rates, 7, ridge)
        m = np.mean(kappa * rates / (rates + kappa))
        inside = 1 / (1 / ridge + 1 / m - 1 / kappa)
        slope = (gain(ridge + 1e-5) - gain(ridge - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, 0.5 * 7 * ((ridge - inside) / ridge**2 - 1 / ridge), rtol=1e-6)
        assert gain(1e9) == pytest.approx(0.5 * 7 * rates.mean() / 1e9, rel=1e-4)


def test_predictions_without_replacement_are_those_of_random_eigenvectors(rng):
    """Errors, training errors and information up to nearly the whole pool, by random training sets."""
    total, draws = 120, 200
    rates = np.arange(1, total + 1.0) ** -1.3 * 50 + 0.02
    u = np.linalg.qr(rng.normal(size=(total, total)))[0]
    matrix, y = (u * rates) @ u.T, u @ np.sqrt(rates) + 0.3 * rng.normal(size=total)
    power = (u.T @ y) ** 2 / total
    for ridge, n in ((0.0, 100), (0.05, 90), (1.0, 60), (1.0, 115), (30.0, 90)):
        found = []
        for _ in range(draws):
            order = rng.permutation(total)
            kept, rest = order[:n], order[n:]
            own = matrix[np.ix_(kept, kept)]
            weights = np.linalg.solve(own + ridge * np.eye(n), y[kept])
            gain = 0.5 * np.linalg.slogdet(np.eye(n) + own / ridge)[1] if ridge else 0.0
            squares = [np.mean((matrix[np.ix_(rows, kept)] @ weights - y[rows]) ** 2) for rows in (rest, kept)]
            found.append([*squares, gain])
        error, train, pool, _, gain, _ = _curve._predict(rates, power, n, ridge)
        mean, stderr = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(draws)
        np.testing.assert_allclose(error, mean[0], atol=4 * stderr[0], rtol=0.02)
        np.testing.assert_allclose(train, mean[1], atol=4 * stderr[1] + 1e-12, rtol=0.02)
        np.testing.assert_allclose(gain, mean[2], rtol=2e-3)
        np.testing.assert_allclose(pool, (n * train + (total - n) * error) / total, rtol=1e-12)
    # All examples: the whole determinant, exactly.
    whole = 0.5 * np.sum(np.log1p(rates / 0.3))
    assert _curve._gain(rates, total, 0.3, _curve._kappa(rates, total - 1e-9, 0.3)) == pytest.approx(whole, rel=1e-9)


def test_beyond_half_the_pool_a_bad_prediction_says_so(digits):
    net, x, y = digits
    x, y = x[:120], y[:120]
    assert not ni.learning.curve(net, x, y, [30, 60]).reason
    with pytest.warns(UserWarning, match=r"beyond half the pool of 120 examples.*at n = 119.*`draws`"):
        found = ni.learning.curve(net, x, y, [60, 110])
    # Left out one by one, each with its own refit.
    matrix = np.asarray(ni.kernels.kernels(net, x).ntk)
    left = [
        y[i] - matrix[i, rest] @ np.linalg.solve(matrix[np.ix_(rest, rest)], y[rest])
        for i in range(120)
        for rest in [np.delete(np.arange(120), i)]
    ]
    assert f"exactly, {np.mean(np.square(left)):.3g}" in found.reason
    # Measured errors stand beside: no warning.
    assert ni.learning.curve(net, x, y, [110], draws=2, key=jax.random.key(0)).reason == found.reason


def test_random_features_with_many_modes(rng):
    """Gaussian features, for which the theory is made: within 5 % off the pool."""
    modes = np.arange(1, 401) ** -1.2
    features = rng.normal(size=(1500, 400)) * np.sqrt(modes)
    y = features @ (rng.normal(size=(400, 1)) * np.sqrt(modes)) + 0.1 * rng.normal(size=(1500, 1))
    matrix = features @ features.T
    rates, u = np.linalg.eigh(matrix)
    power, rates = np.sum((u.T @ y) ** 2, axis=1) / 1500, np.maximum(rates, 0)
    error = _curve._predict(rates, power, 100, 0.05)[0]
    measured = [_curve._measure(matrix, y, 100, 0.05, None, rng) for _ in range(10)]
    np.testing.assert_allclose(error, np.mean(measured), rtol=0.05)


def test_forecast_is_leaving_out_by_refits(rng):
    x, y, *_ = problem(rng, k=3)
    for source in (
        ni.Posterior.fit(network(outputs=3), x, y, noise=0.2),
        ni.Ensemble.fit(network(outputs=3), x, y),
    ):
        squares, wrong = [], []
        for i in range(12):
            rest = np.arange(12) != i
            if isinstance(source, ni.Posterior):
                z = ni.Posterior.fit(network(outputs=3), x[rest], y[rest], noise=0.2).predict(x[i : i + 1])
            else:
                z = ni.Ensemble.fit(network(outputs=3), x[rest], y[rest]).predict(x[i : i + 1], np.inf)
            losses = ni.information.losses(z, y[i : i + 1])
            squares.append(float(losses.mean_mse))
            wrong.append(float(losses.gibbs_error))
        found = ni.learning.forecast(source)
        np.testing.assert_allclose(found.error, np.mean(squares), rtol=1e-7)
        np.testing.assert_allclose(found.stderr, np.std(squares, ddof=1) / np.sqrt(12), rtol=1e-7)
        np.testing.assert_allclose(found.gibbs_error, np.mean(wrong), rtol=1e-6)
    # Generalised cross-validation, dense.
    post = ni.Posterior.fit(network(outputs=3), x, y, noise=0.2)
    c = np.linalg.inv(np.asarray(ni.kernels.kernels(network(outputs=3), x).nngp) + 0.2 * np.eye(12))
    want = np.mean(np.sum((c @ y) ** 2, axis=1)) / (np.trace(c) / 12) ** 2
    np.testing.assert_allclose(ni.learning.forecast(post).generalised_cross_validation, want, rtol=1e-8)


@pytest.mark.slow
def test_forecasts_meet_the_error_on_test_digits():
    data = ni.datasets.digits(300, 400, task="parity")
    ens = ni.Ensemble.fit(network(b_std=0.1), data.x_train, data.y_train)
    found = ni.learning.forecast(ens)
    z = ens.predict(data.x_test, np.inf)
    losses = ni.information.losses(z, data.y_test)
    np.testing.assert_allclose(found.error, losses.mean_mse, atol=4 * float(found.stderr) + 0.02)
    np.testing.assert_allclose(found.gibbs_error, losses.gibbs_error, atol=4 * float(found.gibbs_stderr) + 0.02)


def test_alignment_by_hand(rng):
    x, y, *_ = problem(rng, k=3)
    ens = ni.Ensemble.fit(network(outputs=3), x, y)
    ntk = np.asarray(ni.kernels.kernels(network(outputs=3), x).ntk)
    found, gram = ni.learning.alignment(ens), y @ y.T
    np.testing.assert_allclose(
        found.target_alignment, np.sum(ntk * gram) / np.linalg.norm(ntk) / np.linalg.norm(gram), rtol=1e-9
    )
    np.testing.assert_allclose(found.effective_rank, np.trace(ntk) ** 2 / np.sum(ntk**2), rtol=1e-9)
    rates, u = np.linalg.eigh(ntk)
    share = np.cumsum(np.sum((u.T @ y) ** 2, axis=1)[::-1]) / np.sum(y**2)
    np.testing.assert_allclose(found.share, share, rtol=1e-8)
    np.testing.assert_allclose(found.eigenvalues, rates[::-1], rtol=1e-8)


def test_measured_where_examples_repeat(rng):
    """Training sets that hold an example twice learn nothing in its null direction: the limit of little noise."""
    x, y, *_ = problem(rng)
    x[1:3] = x[0]
    options = {"draws": 20, "key": jax.random.key(0)}
    found, limit = (ni.learning.curve(network(), x, y, [2, 6], noise, **options) for noise in (0.0, 1e-7))
    np.testing.assert_allclose(found.measured, limit.measured, rtol=1e-3)
    np.testing.assert_allclose(found.error, limit.error, rtol=1e-3)


def test_noise_beyond_all_signal_learns_nothing(rng):
    x, y, *_ = problem(rng)
    found = ni.learning.curve(network(), x, y, [2, 6, 11], 1e18)
    np.testing.assert_allclose(found.error, 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.information, 0.0, atol=1e-12)


def test_what_needs_eigenvectors_names_the_remedy_for_other_engines(rng):
    x, y, *_ = problem(rng)
    kernel = ni.kernels.features(lambda x: np.concatenate([np.asarray(x), np.ones((len(x), 1))], axis=1))
    sources = {
        "krylov": [ni.Posterior.fit(network(), x, y, noise=0.1, prior="ntk", engine="krylov")],
        "features": [ni.Posterior.fit(kernel, x, y, noise=0.1), ni.Ensemble.fit(kernel, x, y)],
    }
    for engine, several in sources.items():
        for source in several:
            maker = "Posterior" if "Posterior" in type(source).__name__ else "Ensemble"
            for function in (ni.examples.value, ni.learning.forecast, ni.learning.alignment):
                told = f'engine="{engine}" has none. Fit with `{maker}.fit\\(..., engine="dense"\\)`, on fewer'
                with pytest.raises(ValueError, match=told):
                    function(source)
    with pytest.raises(TypeError, match="`source` must be of type `Posterior` or `Ensemble`"):
        ni.learning.forecast(x)


def test_refusals(rng):
    x, y, *_ = problem(rng)
    with pytest.raises(ValueError, match="`n` must be from 1 to 11, less than the 12 examples of the pool"):
        ni.learning.curve(network(), x, y, [3, 12])
    with pytest.raises(TypeError, match="`n` must be an integer"):
        ni.learning.curve(network(), x, y, 3.0)
    with pytest.raises(ValueError, match="`noise` must be not negative"):
        ni.learning.curve(network(), x, y, 3, -1.0)
    with pytest.raises(ValueError, match="`n` must be less than the rank"):
        ni.learning.curve(network(), np.repeat(x[:3], 4, axis=0), y, 3)
    with pytest.raises(ValueError, match="`draws` must be 0, or at least 2"):
        ni.learning.curve(network(), x, y, 3, draws=1)
    with pytest.raises(ValueError, match="`key` must be given"):
        ni.learning.curve(network(), x, y, 3, draws=2)
    with pytest.raises(ValueError, match="`source` must have labels that are not all 0"):
        ni.learning.alignment(ni.Ensemble.fit(network(), x, 0.0 * y))
    repeated = ni.learning.curve(network(), np.repeat(x[:3], 4, axis=0), y, 3, 0.1)
    assert np.isfinite(repeated.error).all()
    assert ni.learning.curve(network(), x.astype(np.float32), y, [2, 3]).error.dtype == np.float32
