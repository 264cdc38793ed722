"""`Posterior.fit(engine="krylov")` beside the dense posterior: predictions and evidence within their errors."""

import functools

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import kernels
from ntkinfo._common import eigenproblems
from tests.ensemble.test_krylov import _Slope, data, net

N, M = 200, 8
QUANTITIES = ("log_marginal_likelihood", "information_gain", "kl")


def both(kind="plain", n=N, **options):
    x, y, x_test = data(kind, n)
    krylov = {name: options.pop(name) for name in ("tolerance", "storage") if name in options}
    dense = ni.Posterior.fit(net(), x, y, engine="dense", **options)
    return dense, ni.Posterior.fit(net(), x, y, engine="krylov", **options, **krylov), x_test


def shares(dense, krylov, x_test):
    """True errors as shares of those shown, of all means, variances and scalars."""
    z, p = dense.predict(x_test), krylov.predict(x_test)
    parts = [
        np.abs(getattr(p, name) - getattr(z, name)).ravel() / (np.ravel(getattr(p.error, name)) + 1e-13)
        for name in ("mean", "variance")
    ]
    for name in QUANTITIES:
        one, exact = getattr(krylov, name), getattr(dense, name)
        parts.append([abs(one.value - exact) / (one.truncation + 3 * one.stderr + 1e-11 * abs(exact))])
    return np.concatenate(parts), p


@pytest.mark.parametrize(
    ("kind", "prior", "noise", "storage", "tolerance"),
    [
        ("plain", "nngp", 0.1, "float64", 1e-1),
        pytest.param("one-hot", "ntk", 0.1, "float64", 1e-3, marks=pytest.mark.slow),
        pytest.param("near-duplicates", "ntk", 1e-3, "none", 1e-2, marks=pytest.mark.slow),
        ("ill-conditioned", "nngp", 1.0, "float32", 1e-3),
    ],
)
@pytest.mark.filterwarnings("ignore:The error of the predictions")
def test_everything_is_that_of_the_dense_posterior_within_its_errors(kind, prior, noise, storage, tolerance):
    options = {"prior": prior, "noise": noise, "storage": storage, "tolerance": tolerance}
    share, p = shares(*both(kind, **options))
    assert np.mean(share <= 1) >= 0.99 and share.max() <= 3
    assert p.reached and np.max(p.error.mean) <= 2 * tolerance


@pytest.mark.slow
@pytest.mark.parametrize("n", [400, 2000])
@pytest.mark.filterwarnings("ignore:The error of the predictions")
def test_errors_are_not_below_the_truth_in_99_of_100_cells(n):
    found = []
    for kind in ("plain", "near-duplicates", "one-hot", "ill-conditioned"):
        for prior in ("nngp", "ntk"):
            for noise in (1.0, 0.1, 1e-3):
                for storage, tolerance in (("float64", 1e-1), ("float64", 1e-3), ("float32", 1e-3)):
                    options = {"prior": prior, "noise": noise, "storage": storage, "tolerance": tolerance}
                    found.append(shares(*both(kind, n, **options))[0])
    found = np.concatenate(found)
    assert np.mean(found <= 1) >= 0.99 and found.max() <= 3


def test_residuals_bound_what_few_steps_leave_out():
    # Few steps leave no differences to estimate by: the bound alone is shown, and a variance is never too small.
    dense, krylov, x_test = both(noise=0.1)
    z = dense.predict(x_test)
    for steps in (1, 2, 3):
        with pytest.warns(UserWarning, match="Allow more steps"):
            p = krylov.predict(x_test, max_steps=steps)
        assert np.all(p.variance >= z.variance - 1e-10) and not p.reached and p.steps == (steps,)
        np.testing.assert_array_less(np.abs(p.variance - z.variance), p.error.variance)
        np.testing.assert_array_less(np.abs(p.mean - z.mean), p.error.mean)


@pytest.mark.slow
def test_mean_scale_and_precision_are_those_of_the_dense_posterior():
    x, y, x_test = (part.astype(np.float32) for part in data(n=30))
    options = {"noise": 0.2, "mean": _Slope(), "scale": 1.7}
    dense, krylov = (ni.Posterior.fit(net(), x, y, engine=engine, **options) for engine in ("dense", "krylov"))
    p = krylov.predict(x_test)
    assert p.mean.dtype == np.float32 and krylov.prior_saw_data == dense.prior_saw_data
    np.testing.assert_allclose(p.mean, dense.predict(x_test).mean, atol=1e-4)
    np.testing.assert_allclose(krylov.predict_train().mean, dense.predict_train().mean, atol=1e-4)
    np.testing.assert_allclose(krylov.kl.value, dense.kl, rtol=1e-4)


def test_a_scale_and_what_the_prior_saw_count():
    x, y, _ = data(n=30)
    krylov = ni.Posterior.fit(net(), x, y, engine="krylov", noise=0.2, scale=1.7)
    k = 1.7 * np.asarray(ni.kernels.kernels(net(), x).nngp)
    inverse = np.linalg.inv(k + 0.2 * np.eye(30))
    kl = 0.5 * np.sum(y * (inverse @ k @ inverse @ y)) + 0.5 * (
        np.linalg.slogdet(np.eye(30) + k / 0.2)[1] - np.trace(k @ inverse)
    )
    np.testing.assert_allclose(krylov.kl.value, kl, rtol=1e-8)
    # A bound on the risk takes what the divergence does not exceed, and says so.
    for given in (krylov, krylov.kl):
        with pytest.raises(TypeError, match=r"`kl` must be a divergence that is known.*`kl=\w+(\.kl)?\.upper`"):
            ni.bounds.pac_bayes_kl(0.1, given, n=len(x))
    exact = ni.bounds.pac_bayes_kl(0.1, kl, n=len(x))
    assert exact * (1 - 1e-9) <= ni.bounds.pac_bayes_kl(0.1, krylov.kl.upper, n=len(x)) <= exact + 1e-2
    saw = ni.Posterior.fit(net(), x, y, engine="krylov", prior_saw_data=True)
    with pytest.raises(ValueError, match="`kl` must be a divergence from a prior fixed before the data"):
        ni.bounds.pac_bayes_kl(0.1, saw, n=len(x))


def test_the_least_noise_is_eight_times_what_rounding_does_to_eigenvalues():
    x, y, _ = data(n=30)
    fit = functools.partial(ni.Posterior.fit, net(), x, y, engine="krylov", storage="float32")
    rounding = fit(noise=1.0).process.rounding_of_eigenvalues
    # That bounds the change by storing in float32, by the eigenvalues themselves, and by no more than a hundred.
    k = np.asarray(ni.kernels.kernels(net(), x).nngp)
    moved = np.abs(np.linalg.eigvalsh(k.astype(np.float32).astype(float)) - np.linalg.eigvalsh(k)).max()
    assert moved <= rounding <= 100 * moved
    assert float(fit(noise=8.01 * rounding).noise) == pytest.approx(8.01 * rounding)
    with pytest.raises(ValueError, match="`noise` must be at least"):
        fit(noise=7.99 * rounding)


def test_the_prior_kernel_is_stored_and_multiplied_once():
    x, y, _ = data(n=30)
    held = ni.Posterior.fit(net(), x, y, engine="krylov").process.stored
    assert held.nngp is held.ntk
    columns = np.eye(30)
    k = np.asarray(ni.kernels.kernels(net(), x).nngp)
    for product in held.products(columns):
        np.testing.assert_allclose(product, k, rtol=1e-12)
    evaluated = kernels.evaluated(kernels.OneKernel(net()[2], "nngp"), jax.numpy.asarray(x), batch_size=7)
    np.testing.assert_allclose(evaluated.products(columns)[1], k, rtol=1e-12)


def test_batches_are_written_and_read_again(tmp_path, monkeypatch):
    x, y, x_test = data(n=30)
    krylov = ni.Posterior.fit(net(), x, y, engine="krylov")
    first = krylov.predict(x_test, batch_size=4, checkpoint=tmp_path)
    monkeypatch.setattr(type(krylov.process.stored), "products", None)
    np.testing.assert_array_equal(first.mean, krylov.predict(x_test, batch_size=4, checkpoint=tmp_path).mean)
    other = ni.Posterior.fit(net(), x, y, engine="krylov", noise=0.3)
    with pytest.raises(ValueError, match="differs in noise"):
        other.predict(x_test, batch_size=4, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"noise": "fit"}, r'`noise` must be a number under engine="krylov".*engine="dense"'),
        ({"scale": "fit"}, r'`scale` must be a number under engine="krylov".*engine="dense"'),
        ({"noise": 1e-9, "storage": "float32"}, "`noise` must be at least"),
        ({"tolerance": 0.0}, "`tolerance`"),
        ({"engine": "lanczos"}, "`engine`"),
        ({"engine": "dense", "storage": "float32"}, "`storage`"),
    ],
)
def test_options_are_checked(options, match):
    x, y, _ = data(n=10)
    with pytest.raises(ValueError, match=match):
        ni.Posterior.fit(net(), x, y, **{"engine": "krylov"} | options)


def test_what_needs_the_whole_inverse_is_refused_with_the_remedy():
    x, y, x_test = data(n=10)
    krylov = ni.Posterior.fit(net(), x, y, engine="krylov")
    for call in (krylov.leave_one_out, lambda: krylov.predict(x_test, joint=True)):
        with pytest.raises(ValueError, match='engine="dense"'):
            call()


def test_auto_takes_it_where_the_dense_one_does_not_fit(monkeypatch):
    x, y, _ = data(n=40)
    assert isinstance(ni.Posterior.fit(net(), x, y), ni.Posterior)
    monkeypatch.setattr(eigenproblems, "_LAPACK_LIMIT", 30)
    with pytest.warns(UserWarning, match=r'engine="krylov" was chosen'):
        assert isinstance(ni.Posterior.fit(net(), x, y), ni.posterior.KrylovPosterior)
    # A noise to be fitted, or of each label, is of the dense engine, whose eigenvectors cannot be computed here.
    for noise in ("fit", np.array([0.1])):
        with pytest.raises(
            ValueError, match=r"at most 30 training inputs, the most whose eigenvectors.* Take fewer\.$"
        ):
            ni.Posterior.fit(net(), x, y, noise=noise)
