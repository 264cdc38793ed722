"""The Krylov engine beside the dense one: predictions, errors shown and true, sums over the spectrum, refusals."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo._common import eigenproblems, memory
from ntkinfo.ensemble import _spectral_sums
from ntkinfo.kernels import _sharded
from tests.scripts import script

# Its data and what it counts as covered are tested here.
coverage = script("benchmarks/coverage.py")
TIMES, M, data = coverage.TIMES, coverage.M, coverage.data
N = 300
net = functools.cache(coverage.network)


@functools.cache
def both(kind="plain", activation="relu", n=N, **options):
    x, y, x_test = data(kind, n)
    dense = ni.Ensemble.fit(net(activation), x, y, engine="dense")
    krylov = ni.Ensemble.fit(net(activation), x, y, engine="krylov", **options)
    return dense, krylov, x_test


def ratios(dense, krylov, x_test, t=TIMES):
    """True errors as shares of those shown, of all means and variances."""
    z, p = dense.predict(x_test, t), krylov.predict(x_test, t)
    # What the dense engine rounds off is no error of the other.
    own = np.asarray(dense.rounding_errors(dense.cross_kernels(x_test), dense.filters(dense.rescaled_time(t))))
    return coverage.of_predictions(p, z, own), p


@pytest.mark.parametrize("storage", ["float64", "float32", "none"])
def test_predictions_are_those_of_the_dense_engine_within_their_errors(storage):
    dense, krylov, x_test = both(storage=storage)
    share, p = ratios(dense, krylov, x_test)
    assert krylov.storage == storage and p.reached and not p.reason
    assert np.mean(share <= 1) >= 0.99 and share.max() <= 3
    # Far from complete: it is the steps that converged, and the errors say so.
    assert all(steps * (M + 1) < N for steps in p.steps)
    assert np.max(p.error.mean) < 1e-3 and np.max(np.abs(p.mean - dense.predict(x_test, TIMES).mean)) < 1e-3
    assert p.mean.dtype == p.variance.dtype == np.float64


# The rest of the grid is in the slow test below.
@pytest.mark.parametrize(
    ("kind", "activation"), [("near-duplicates", "erf"), ("near-duplicates", "relu"), ("ill-conditioned", "relu")]
)
@pytest.mark.filterwarnings("ignore:The error of the predictions", "ignore:float64 resolves")
def test_errors_are_not_below_the_truth_on_hard_data(kind, activation):
    shares = [ratios(*both(kind, activation, tolerance=tolerance))[0] for tolerance in (1e-1, 1e-4)]
    shares = np.concatenate(shares)
    assert np.mean(shares <= 1) >= 0.99 and shares.max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize("n", [600, 2000, 4000])
@pytest.mark.filterwarnings("ignore:The error of the predictions", "ignore:float64 resolves")
def test_errors_are_not_below_the_truth_in_99_of_100_cells(n):
    shares = []
    for activation in ("relu", "erf", "gelu"):
        for kind in ("plain", "near-duplicates", "one-hot", "ill-conditioned"):
            x, y, x_test = data(kind, n)
            dense = ni.Ensemble.fit(net(activation), x, y, engine="dense", singular="project")
            for storage in ("float64", "float32"):
                for tolerance in (1e-1, 1e-3, 1e-5):
                    options = {"engine": "krylov", "storage": storage, "tolerance": tolerance}
                    try:
                        krylov = ni.Ensemble.fit(net(activation), x, y, **options)
                        shares.append(ratios(dense, krylov, x_test)[0])
                    except ValueError as error:
                        # float32 does not hold it, and says so.
                        assert storage == "float32" and "singular to rounding" in str(error)
    shares = np.concatenate(shares)
    assert np.mean(shares <= 1) >= 0.99 and shares.max() <= 3


def test_a_run_that_does_not_reach_its_tolerance_says_so():
    _, krylov, x_test = both()
    with pytest.warns(UserWarning, match="above tolerance=0.001. Allow more steps"):
        p = krylov.predict(x_test, TIMES, max_steps=6)
    assert not p.reached and p.steps == (6,) and "max_steps" in p.reason


@pytest.mark.filterwarnings("ignore:The error of the predictions")
@pytest.mark.parametrize("kind", ["plain", "ill-conditioned"])
def test_errors_hold_after_however_few_steps(kind):
    dense, krylov, x_test = both(kind)
    z = dense.predict(x_test, TIMES)
    for steps in (1, 2, 3, 5, 8):
        p = krylov.predict(x_test, TIMES, max_steps=steps)
        for name in ("mean", "variance"):
            true, told = np.abs(getattr(p, name) - getattr(z, name)), getattr(p.error, name)
            assert np.mean(true <= told + 1e-11) >= 0.99 and np.all(true <= 3 * told + 1e-11), (steps, name)
            # They come from residuals, and are no more than some hundred times too large where it matters.
            late = (true[-1] > 1e-6) & (steps >= 8)
            assert not late.any() or np.median((told[-1] / true[-1])[late]) < 100, (steps, name)


def test_batches_are_independent_and_a_scalar_time_has_no_axis():
    dense, krylov, x_test = both()
    z = dense.predict(x_test, 10.0)
    p = krylov.predict(x_test, 10.0, batch_size=3)
    assert p.mean.shape == (M, 1) and p.variance.shape == (M,) and len(p.steps) == 3
    np.testing.assert_array_less(np.abs(p.mean - z.mean), p.error.mean + 1e-11)
    np.testing.assert_array_less(np.abs(p.variance - z.variance), p.error.variance + 1e-11)
    # It serves where a prediction does.
    assert ni.gaussian.kl_divergence(p.gaussian, z).shape == (M,)


class _FarAway:
    """A mean function that is 0 on inputs at random, and a constant on those far away."""

    def __init__(self, value):
        self.value = value

    def __call__(self, x):
        return self.value * (x[:, :1] > 50.0)


def test_a_checkpoint_knows_a_mean_that_differs_at_the_test_inputs_alone(tmp_path):
    x, y, x_test = data(n=30)
    x_test = x_test + np.eye(8)[0] * 100.0
    one, other = (ni.Ensemble.fit(net(), x, y, mean=_FarAway(c), engine="krylov") for c in (1.0, 2.0))
    np.testing.assert_array_equal(one.targets, other.targets)
    one.predict(x_test, 1.0, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="differs in mean"):
        other.predict(x_test, 1.0, checkpoint=tmp_path)


def test_rounding_is_that_of_storing_and_of_evaluating():
    x, y, _ = data(n=30)
    exact = np.asarray(ni.kernels.kernels(net(), x).ntk)
    for dtype, storage in ((np.float64, "float32"), (np.float32, "float32"), (np.float32, "none")):
        krylov = ni.Ensemble.fit(net(), x.astype(dtype), y.astype(dtype), engine="krylov", storage=storage)
        held = np.asarray(krylov.stored.products(np.eye(30))[0])
        moved = np.abs(np.linalg.eigvalsh((held + held.T) / 2) - np.linalg.eigvalsh(exact)).max()
        assert moved <= krylov.rounding_of_eigenvalues <= 1000 * moved, (dtype, storage)
    # In double precision: eps times the root mean square of the entries, of 30 eigenvalues.
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov", storage="none")
    eps = np.finfo(float).eps
    least = 2 * np.sqrt(30) * eps * np.sqrt(np.mean(exact**2))
    assert least * (1 - 1e-9) <= krylov.rounding_of_eigenvalues <= 2 * least
    # What is no eigenvalue is told as the dense engine tells it.
    values = np.array([0.5, 2.0, 7.0])
    np.testing.assert_allclose(krylov._floor(values), eps * np.sqrt(30) * 7.0, rtol=1e-12)


def test_errors_are_shares_of_the_scales_of_labels_and_of_prior_variances():
    errors, scales = (np.array([[0.5, 2.0]]), np.array([[3.0, 1.0]])), (4.0, np.array([10.0, 1.25]))
    assert ni.ensemble.KrylovEnsemble._worst(errors, scales) == 0.8
    assert ni.ensemble.KrylovEnsemble._worst((errors[0], errors[1] / 4), scales) == 0.5


def test_a_basis_that_spans_all_is_exact():
    x, y, x_test = data(n=30)
    dense = ni.Ensemble.fit(net(), x, y)
    p = ni.Ensemble.fit(net(), x, y, engine="krylov").predict(x_test, TIMES)
    z = dense.predict(x_test, TIMES)
    np.testing.assert_allclose(p.mean, z.mean, atol=1e-10)
    np.testing.assert_allclose(p.variance, z.variance, atol=1e-10)
    assert p.reached and np.max(p.error.mean) < 1e-9


def test_predictions_on_training_inputs_and_a_mean():
    x, y, x_test = data(n=30)
    mean = _Slope()
    dense = ni.Ensemble.fit(net(), x, y, mean=mean)
    krylov = ni.Ensemble.fit(net(), x, y, mean=mean, engine="krylov")
    np.testing.assert_allclose(krylov.predict_train([10.0]).mean, dense.predict_train([10.0]).mean, atol=1e-9)
    np.testing.assert_allclose(krylov.predict(x_test, 10.0).mean, dense.predict(x_test, 10.0).mean, atol=1e-9)
    assert krylov.prior_saw_data == dense.prior_saw_data


class _Slope:
    """A mean before training, known beforehand."""

    def __call__(self, x):
        return 0.3 * x[:, :1]


def test_repeated_inputs_are_refused_or_projected():
    x, y, x_test = data(n=40)
    x, y = np.concatenate([x, x[:3]]), np.concatenate([y, -y[:3]])
    with pytest.raises(ValueError, match="rows 0 and 40 of `x` are equal"):
        ni.Ensemble.fit(net(), x, y, engine="krylov")
    dense = ni.Ensemble.fit(net(), x, y, singular="project")
    p = ni.Ensemble.fit(net(), x, y, singular="project", engine="krylov").predict(x_test, TIMES)
    np.testing.assert_allclose(p.mean, dense.predict(x_test, TIMES).mean, atol=1e-8)


def test_a_singular_kernel_without_repeated_inputs_is_refused_when_it_shows():
    x, y, x_test = data(n=40)
    linear = stax.serial(stax.Dense(1))
    with pytest.raises(ValueError, match="singular to rounding"):
        ni.Ensemble.fit(linear, x, y, engine="krylov").predict(x_test, TIMES)


def test_batches_are_written_and_read_again(tmp_path, monkeypatch):
    _, krylov, x_test = both()
    first = krylov.predict(x_test, 10.0, batch_size=4, checkpoint=tmp_path)
    (tmp_path / "batch_1.npz").unlink()
    calls = []
    predict = type(krylov)._predict_batch
    monkeypatch.setattr(
        type(krylov), "_predict_batch", lambda self, x, *rest: calls.append(len(x)) or predict(self, x, *rest)
    )
    again = krylov.predict(x_test, 10.0, batch_size=4, checkpoint=tmp_path)
    assert calls == [4]
    np.testing.assert_array_equal(first.mean, again.mean)
    np.testing.assert_array_equal(first.error.variance, again.error.variance)
    with pytest.raises(ValueError, match="differs in t"):
        krylov.predict(x_test, 20.0, batch_size=4, checkpoint=tmp_path)


QUANTITIES = {
    "parameter_distance": ni.information.parameter_distance,
    "action": ni.information.action,
    "fisher action": functools.partial(ni.information.action, metric="fisher"),
    "linear": lambda ens, t: ni.information.parameter_divergence(ens, t, curvature=False).linear,
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_sums_over_the_spectrum_are_within_their_errors(name):
    dense, krylov, _ = both()
    t = TIMES[1:-1]
    exact, estimate = np.asarray(QUANTITIES[name](dense, t)), QUANTITIES[name](krylov, t)
    assert estimate.value.shape == estimate.stderr.shape == estimate.truncation.shape == t.shape
    error = np.abs(estimate.value - exact)
    np.testing.assert_array_less(error, 4 * estimate.stderr + estimate.truncation + 1e-9 * exact)
    np.testing.assert_array_less(estimate.lower, estimate.value)
    assert np.all(error < 0.02 * exact) and np.all(estimate.stderr < 0.02 * exact)


def test_what_needs_no_sampling_has_none():
    dense, krylov, _ = both()
    trace = ni.information.fisher_trace(krylov)
    np.testing.assert_allclose(trace.value, ni.information.fisher_trace(dense), rtol=1e-12)
    assert trace.stderr < 1e-10 * trace.value
    z = dense.predict_train(TIMES)
    y = np.asarray(dense.y)[None]
    gibbs, mean = krylov.default_sums.training_losses(TIMES)
    truth = np.mean(np.sum((z.mean - y) ** 2, axis=-1), axis=-1)
    assert np.all(mean.stderr == 0)
    np.testing.assert_array_less(np.abs(mean.value - truth), mean.truncation + 1e-10)
    truth = truth + np.mean(z.variance, axis=-1)
    np.testing.assert_array_less(np.abs(gibbs.value - truth), 4 * gibbs.stderr + gibbs.truncation + 1e-10)


def test_the_log_determinant_the_evidence_and_the_divergence_of_outputs():
    dense, krylov, x_test = both()
    estimate = krylov.default_sums.log_det(0.1)
    exact = np.sum(np.log1p(np.asarray(dense.eigenvalues) / 0.1))
    assert abs(estimate.value - exact) < 4 * estimate.stderr + estimate.truncation < 0.01 * exact
    evidence = krylov.default_sums.log_marginal_likelihood(0.1)
    exact = ni.Posterior.fit(net(), dense.x, dense.y, noise=0.1, prior="ntk").log_marginal_likelihood
    assert abs(evidence.value - exact) < 4 * evidence.stderr + evidence.truncation < 0.01 * abs(exact)
    t = TIMES[:6]
    divergence = ni.information.output_divergence(krylov, x_test, t)
    error = np.abs(divergence.value - ni.information.output_divergence(dense, x_test, t))
    np.testing.assert_array_less(error, divergence.truncation + 1e-10)


def test_a_spectrum_seen_whole_is_exact():
    x, y, _ = data(n=30)
    dense, krylov = (ni.Ensemble.fit(net(), x, y, engine=engine) for engine in ("dense", "krylov"))
    estimate = ni.information.parameter_distance(krylov, TIMES)
    np.testing.assert_allclose(estimate.value, ni.information.parameter_distance(dense, TIMES), rtol=1e-9)
    np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:The error of the predictions")
@pytest.mark.parametrize("activation", ["erf", "gelu"])
def test_what_float32_projects_out_beside_float64_is_part_of_the_errors(activation):
    x, y, x_test = data("near-duplicates", 100)
    options = {"singular": "project", "progress": False}
    dense = ni.Ensemble.fit(net(activation), x, y, engine="dense", **options)
    krylov = ni.Ensemble.fit(net(activation), x, y, engine="krylov", storage="float32", **options)
    share, p = ratios(dense, krylov, x_test)
    # Unlearned they would be 100 times as far off as told.
    assert np.mean(share <= 1) >= 0.99 and share.max() <= 3
    assert not p.reached and 'storage="float64"' in p.reason
    assert np.max(p.error.mean[3]) < 1e-3, "early in training they are told small"
    sums = coverage.of_sums(coverage.sums(krylov, TIMES), coverage.sums(dense, TIMES))
    assert np.max(sums) <= 1
    unlearned = dataclasses.replace(krylov.default_sums, resolution=0.0)
    assert np.max(coverage.of_sums(coverage.sums(unlearned, TIMES), coverage.sums(dense, TIMES))) > 1


def test_equal_inputs_in_float32_lose_nothing():
    x, y, x_test = data("plain", 100)
    x = np.where(np.arange(100)[:, None] % 2, np.roll(x, 1, axis=0), x)
    options = {"singular": "project", "progress": False}
    dense = ni.Ensemble.fit(net(), x, y, engine="dense", **options)
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov", storage="float32", **options)
    share, p = ratios(dense, krylov, x_test)
    assert np.max(share) <= 1 and p.reached and np.max(p.error.mean) < 1e-3
    assert krylov.default_sums.resolution == 0
    assert np.max(coverage.of_sums(coverage.sums(krylov, TIMES), coverage.sums(dense, TIMES))) <= 1


@pytest.mark.parametrize("probes", [8, 32])
def test_three_standard_errors_cover_what_they_do_of_a_known_spread(rng, probes):
    # Quadratures with weights from normal probes, whose mean is known.
    q, draws = 12, 4000
    nodes, exact = np.linspace(1.0, 0.1, q), 2 * np.exp(-3 * np.linspace(1.0, 0.1, q)).sum()
    moments = np.array([2.0 * q, 2 * nodes.sum(), 2 * np.sum(nodes**2)])
    missed = 0
    for _ in range(draws):
        samples = 2 + rng.normal(size=(q, probes))
        measures = _spectral_sums.Measures(nodes, nodes, samples, samples, np.zeros(q, bool), moments, moments[:2])
        value, stderr = _spectral_sums._sum(np.exp(-3 * nodes), measures, "trace")
        missed += abs(value - exact) > 3 * stderr
    # 0.27 % of them, within four standard errors; of 8 probes without Student's t it were 3 %.
    assert missed / draws < 0.0027 + 4 * np.sqrt(0.0027 / draws)


@pytest.mark.slow
def test_standard_errors_are_honest_over_200_repetitions():
    dense, krylov, _ = both()
    t = np.array([1.0, 10.0, 100.0])
    exact = np.asarray(ni.information.parameter_distance(dense, t))
    determinant = np.sum(np.log1p(np.asarray(dense.eigenvalues) / 0.1))
    scores = []
    for seed in range(200):
        sums = krylov.spectral_sums(key=jax.random.key(seed), n_probes=16)
        one, two = ni.information.parameter_distance(sums, t), sums.log_det(0.1)
        scores.append([*((one.value - exact) / one.stderr), float((two.value - determinant) / two.stderr)])
    scores = np.asarray(scores)
    # The spread of errors in units of what is shown, and no bias beside it.
    assert np.all(np.sqrt(np.mean(scores**2, axis=0)) < 1.3) and np.all(np.sqrt(np.mean(scores**2, axis=0)) > 0.6)
    assert np.all(np.abs(scores.mean(axis=0)) < 0.35)


@pytest.mark.parametrize(
    "call",
    [
        lambda ens, x: ni.information.curve(ens, x, np.ones((M, 1)), TIMES, joint=True),
        lambda ens, x: ni.information.parameter_divergence(ens, 1.0),
        lambda ens, x: ni.information.output_divergence(ens, x, 1.0, joint=True),
        lambda ens, x: ens.predict(x, 1.0, joint=True),
    ],
)
def test_what_needs_eigenvectors_is_refused_with_the_remedy(call):
    _, krylov, x_test = both()
    with pytest.raises(ValueError, match='engine="dense"'):
        call(krylov, x_test)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"engine": "lanczos"}, "`engine`"),
        ({"engine": "krylov", "tolerance": 0.0}, "`tolerance`"),
        ({"engine": "krylov", "tolerance": np.nan}, "`tolerance`"),
        ({"engine": "krylov", "storage": "float16"}, "`storage`"),
        ({"engine": "krylov", "mesh": 3}, "`mesh`"),
        ({"engine": "dense", "storage": "float32"}, "`storage`"),
        ({"engine": "krylov", "devices": jax.devices()}, "`devices`"),
    ],
)
def test_options_are_checked(options, match):
    x, y, _ = data(n=10)
    with pytest.raises((ValueError, TypeError), match=match):
        ni.Ensemble.fit(net(), x, y, **options)


def test_auto_is_dense_where_that_fits_and_says_why_where_it_does_not(monkeypatch):
    x, y, x_test = data(n=40)
    assert isinstance(ni.Ensemble.fit(net(), x, y), ni.Ensemble)
    monkeypatch.setattr(eigenproblems, "_LAPACK_LIMIT", 30)
    with pytest.warns(UserWarning, match="n = 40 training inputs are more than the 30"):
        krylov = ni.Ensemble.fit(net(), x, y)
    assert krylov.predict(x_test, 1.0).reached
    with pytest.raises(ValueError, match=r'at most 30 training inputs.*engine="krylov"'):
        ni.Ensemble.fit(net(), x, y, engine="dense")


def test_memory_is_looked_at_before_it_is_spent(monkeypatch):
    x, y, _ = data(n=4200, m=2)
    x = x[:, :2]
    monkeypatch.setattr(memory, "available", lambda: 10**8)
    with pytest.raises(ValueError, match=r'n = 4200 training inputs needs about 1.13 GB.*engine="krylov"'):
        ni.Ensemble.fit(net(), x, y, engine="dense")
    with pytest.raises(ValueError, match="kernels stored in float32 needs about 212 MB"):
        ni.Ensemble.fit(net(), x, y, engine="krylov", storage="float32")
    x, y = x[:400], y[:400]
    monkeypatch.setattr(memory, "available", lambda: 3 * 400**2 * 4 + 1)
    assert ni.Ensemble.fit(net(), x, y, engine="krylov").storage == "float32"
    monkeypatch.setattr(memory, "available", lambda: 3 * 400**2 * 4 - 1)
    assert ni.Ensemble.fit(net(), x, y, engine="krylov").storage == "none"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere kernels are copied to the device")
def test_stored_kernels_are_not_copied(monkeypatch):
    """On a CPU the arrays that kernels are evaluated into become those of JAX: two matrices are held, and no third."""
    filled, zeros = [], _sharded._zeros

    def kept(shape, dtype):
        filled.append(zeros(shape, dtype))
        return filled[-1]

    monkeypatch.setattr(_sharded, "_zeros", kept)
    x, y, _ = data(n=50)
    for storage in ("float64", "float32"):
        filled.clear()
        held = ni.Ensemble.fit(net(), x, y, engine="krylov", storage=storage, progress=False).stored
        for array, own in zip((held.nngp, held.ntk), filled, strict=True):
            assert array.unsafe_buffer_pointer() == own.ctypes.data and array.dtype == storage


def test_float32_inputs_keep_their_precision_and_tell_their_errors():
    x, y, x_test = (part.astype(np.float32) for part in data())
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov")
    p = krylov.predict(x_test, TIMES[:6])
    z = ni.Ensemble.fit(net(), *(part.astype(np.float64) for part in (x, y))).predict(
        x_test.astype(np.float64), TIMES[:6]
    )
    assert p.mean.dtype == p.error.variance.dtype == np.float32 and krylov.storage == "float32"
    assert np.mean(np.abs(p.mean - z.mean) <= p.error.mean + 1e-7) >= 0.99
    assert np.mean(np.abs(p.variance - z.variance) <= p.error.variance + 1e-6) >= 0.99


@pytest.mark.parametrize("storage", ["float32", "none"])
def test_modes_that_float32_evaluation_resolves_are_learned(storage):
    # Pairs of alike inputs have eigenvalues below eps of the largest one times the root of n, in float32, and far above
    # what rounding entry by entry moves.
    x, y, x_test = (part.astype(np.float32) for part in data("near-duplicates", N))
    krylov = ni.Ensemble.fit(net("relu"), x, y, engine="krylov", storage=storage, tolerance=0.1, progress=False)
    wide = [part.astype(np.float64) for part in (x, y, x_test)]
    dense = ni.Ensemble.fit(net("relu"), *wide[:2], engine="dense", progress=False)
    least, largest = float(dense.eigenvalues[0]), float(dense.eigenvalues[-1])
    assert krylov.rounding_of_eigenvalues < least < np.finfo(np.float32).eps * N**0.5 * largest
    p, z = krylov.predict(x_test, TIMES, progress=False), dense.predict(wide[2], TIMES)
    for told, found, true in ((p.error.mean, p.mean, z.mean), (p.error.variance, p.variance, z.variance)):
        assert np.mean(np.abs(found - true) <= told + 1e-7) >= 0.99


@pytest.mark.filterwarnings("ignore:The error of the predictions")
def test_a_run_stops_where_rounding_is_what_is_left_and_says_up_to_when_it_is_small():
    x, y, x_test = (part.astype(np.float32) for part in data())
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov", tolerance=1e-6, progress=False)
    p = krylov.predict(x_test, TIMES, progress=False)
    krylov = dataclasses.replace(krylov, tolerance=1e-12)
    # More steps would be of no use, whatever the tolerance.
    assert not p.reached and krylov.predict(x_test, TIMES, progress=False).steps == p.steps
    until = float(re.search(r"times up to t = ([0-9.e+-]+),", p.reason)[1])
    assert "float64" in p.reason and 0 <= until < TIMES[-1]


def test_traced_values_are_refused():
    x, y, _ = data(n=10)
    with pytest.raises((TypeError, ValueError), match="`engine` must be"):
        jax.jit(lambda y: ni.Ensemble.fit(net(), x, y, engine="krylov").y)(y)


@pytest.mark.parametrize("t", [1.0, [0.0, 1.0]])
def test_tables_of_predictions_at_one_time_and_at_several(t):
    x, y, x_test = data(n=10, m=2)
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov")
    table, same = krylov.predict(x_test, t).to_dataframe(), krylov.predict(x_test, t).gaussian.to_dataframe()
    # No column claims to hold times: a prediction does not keep them.
    assert "t" not in table
    np.testing.assert_array_equal(table[["mean", "variance"]], same[["mean", "variance"]])
    assert repr(krylov).startswith("KrylovEnsemble(x=float64[10, 8]") and len(repr(krylov)) < 200


def test_what_needs_eigenvectors_names_the_remedy():
    x, y, x_test = data(n=10, m=2)
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov")
    for call in (
        lambda: ni.certificate(krylov, x_test, np.ones((2, 1)), 1.0),
        lambda: ni.information.data_information(krylov, x_test, 1.0, label_covariance=np.eye(10)),
        lambda: ni.cmi.leave_one_out(krylov),
        lambda: ni.examples.value(krylov),
        lambda: ni.learning.alignment(krylov),
    ):
        with pytest.raises(ValueError, match=r'must be of engine="dense" for `\w+`, which needs all eigenvectors'):
            call()


def test_the_divergence_of_the_krylov_engine_is_tabled_and_drawn_with_its_errors():
    plt = pytest.importorskip("matplotlib.pyplot")
    x, y, _ = data(n=10, m=2)
    krylov = ni.Ensemble.fit(net(), x, y, engine="krylov")
    times = [0.0, 1.0, 5.0]
    found = ni.information.parameter_divergence(krylov, times, curvature=False)
    table = found.to_dataframe(unit="bits")
    np.testing.assert_allclose(table["linear"] * np.log(2), found.linear.value)
    np.testing.assert_allclose(table["linear_truncation"] * np.log(2), found.linear.truncation)
    ax = ni.plot.parameter_divergence(found, times)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), found.linear.value[1:])
    assert ax.collections
    plt.close(ax.figure)


def test_rows_of_kernels_are_kept_as_they_come(tmp_path, monkeypatch):
    x, y, _ = data(n=50)
    folder = tmp_path / "rows"
    options = {"engine": "krylov", "batch_size": 16, "progress": False}
    alone = ni.Ensemble.fit(net(), x, y, **options)
    evaluated, kernels = [], _sharded._kernels.kernels

    def counted(kernel_fn, x1, x2=None, **given):
        evaluated.append(len(x1))
        return kernels(kernel_fn, x1, x2, **given)

    def interrupted(kernel_fn, x1, x2=None, **given):
        if len(evaluated) > 6:
            raise KeyboardInterrupt
        return counted(kernel_fn, x1, x2, **given)

    monkeypatch.setattr(_sharded._kernels, "kernels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ni.Ensemble.fit(net(), x, y, **options, checkpoint=folder)
    there = sorted(file.name for file in folder.glob("rows_*"))
    assert there == ["rows_0_16.npz"]
    evaluated.clear()
    monkeypatch.setattr(_sharded._kernels, "kernels", counted)
    kept = ni.Ensemble.fit(net(), x, y, **options, checkpoint=folder)
    # Of four blocks of rows three are evaluated, on and above the diagonal.
    assert len(evaluated) == 6 and len(list(folder.glob("rows_*"))) == 4
    for one, other in zip(_sharded.rows_of(kept.stored), _sharded.rows_of(alone.stored), strict=True):
        np.testing.assert_array_equal(one, other)
    # Blocks of other sizes read what they cover, and write what they lack.
    evaluated.clear()
    (folder / "rows_16_32.npz").unlink()
    for size, count in ((25, 3), (50, 0)):
        evaluated.clear()
        again = ni.Ensemble.fit(net(), x, y, engine="krylov", batch_size=size, progress=False, checkpoint=folder)
        assert len(evaluated) == count
        np.testing.assert_allclose(_sharded.rows_of(again.stored)[1], _sharded.rows_of(alone.stored)[1], rtol=1e-12)
    post = ni.Posterior.fit(net(), x, y, engine="krylov", checkpoint=tmp_path / "posterior", progress=False)
    assert post.n == 50 and list((tmp_path / "posterior").glob("rows_*"))
    with pytest.raises(ValueError, match="differs in x"):
        ni.Ensemble.fit(net(), x + 1, y, **options, checkpoint=folder)
    (folder / "rows_0_25.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="holds a damaged file"):
        ni.Ensemble.fit(net(), x, y, **options, checkpoint=folder)
    with pytest.raises(ValueError, match='`checkpoint` must be None with engine="dense"'):
        ni.Ensemble.fit(net(), x, y, engine="dense", checkpoint=folder)
    with pytest.raises(ValueError, match='`checkpoint` must be None with storage="none"'):
        ni.Ensemble.fit(net(), x, y, engine="krylov", storage="none", checkpoint=folder)


def test_sums_tell_of_modes_that_near_duplicates_hide():
    dense, krylov, _ = both("near-duplicates", "erf", tolerance=1e-1)
    sums = krylov.spectral_sums(n_probes=8, max_steps=6)
    t = np.array([1e2, 1e6, np.inf])
    wanted = ni.information.parameter_distance(dense, t)

    def shares(sums):
        found = ni.information.parameter_distance(sums, t)
        return np.abs(found.value - wanted) / (found.truncation + 3 * found.stderr)

    # At the end of training the slowest modes are all that counts, and six steps have seen none of them.
    assert not sums.exhausted and np.max(shares(sums)) <= 1
    assert shares(dataclasses.replace(sums, pair=np.inf))[-1] > 100


def test_sums_tell_what_rounding_of_the_decomposition_moves(monkeypatch):
    _, krylov, _ = both("near-duplicates", "relu", tolerance=1e-1)
    krylov = dataclasses.replace(krylov, tolerance=1e-5)
    t, moved, eigh = np.array([1e2, 1e6, np.inf]), [], np.linalg.eigh
    sums = krylov.spectral_sums()
    # Nothing is truncated, nothing sampled: rounding is all there is.
    assert sums.exhausted

    def rounded(matrix):
        """The decomposition of another matrix, as near to this one as LAPACK promises."""
        values, vectors = eigh(matrix)
        moved.append(np.finfo(np.float64).eps * values[-1])
        return values - moved[-1], vectors

    monkeypatch.setattr(np.linalg, "eigh", rounded)
    others = krylov.spectral_sums()
    np.testing.assert_allclose(sums.fine.nodes - others.fine.nodes, moved[-1], rtol=0.5)
    found, other = (ni.information.parameter_distance(each, t) for each in (sums, others))
    change = np.abs(found.value - other.value)
    assert np.all(change <= found.truncation)
    # Late in training the modes of near-duplicates count, and what the rounding of entries moves is less than that.
    without = dataclasses.replace(sums, rounding=krylov.rounding_of_eigenvalues)
    assert change[-1] > 2 * ni.information.parameter_distance(without, t).truncation[-1]


def test_steps_move_the_bar_and_auto_keeps_what_is_kept(tmp_path, monkeypatch, capsys):
    x, y, x_test = data(n=50)
    options = {"engine": "krylov", "progress": False, "checkpoint": tmp_path}
    assert ni.Ensemble.fit(net(), x, y, storage="float32", **options).storage == "float32"
    # What was kept in float32 goes on in it, however much memory is free by now.
    krylov = ni.Ensemble.fit(net(), x, y, **options)
    assert krylov.storage == "float32"
    krylov.predict(x_test, 1.0, batch_size=5, max_steps=4, progress=True)
    shown = capsys.readouterr().err
    assert "predictions" in shown and "8/8" in shown and "step" in shown
    # Where nothing can be stored there is nothing to be kept.
    monkeypatch.setattr(memory, "available", lambda: 1000)
    assert ni.Ensemble.fit(net(), x + 1, y, **options | {"checkpoint": tmp_path / "none"}).storage == "none"
    assert not list((tmp_path / "none").glob("*.npz"))
