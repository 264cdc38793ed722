import gzip
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ntkinfo import bounds, content, kernels, stax
from ntkinfo.content import _orthant
from tests.problems import network, problem

KEY = jax.random.key(0)
MNIST = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def covariance(rng, n):
    a = rng.normal(size=(n, n + 2))
    return a @ a.T


def exact(kernel, labels):
    """-log of the orthant probability: closed forms up to three dimensions, SciPy's quadrature beyond."""
    c = kernel * np.outer(labels, labels)
    r = c / np.sqrt(np.outer(np.diag(c), np.diag(c)))
    n = len(r)
    if n == 1:
        return np.log(2)
    if n <= 3:
        angles = np.arcsin(r[np.triu_indices(n, 1)])
        return -np.log(0.25 + angles[0] / (2 * np.pi)) if n == 2 else -np.log(0.125 + angles.sum() / (4 * np.pi))
    p = stats.multivariate_normal.cdf(np.zeros(n), np.zeros(n), r, maxpts=4 * 10**6, abseps=1e-9, releps=1e-7)
    return -np.log(p)


def equicorrelated(rho, labels):
    """The same for correlations that all equal rho, of any dimension: one integral."""
    g = np.linspace(-12, 12, 40001)
    up, down = np.sum(labels > 0), np.sum(labels < 0)
    u = np.sqrt(rho / (1 - rho)) * g
    logs = up * stats.norm.logcdf(u) + down * stats.norm.logcdf(-u) + stats.norm.logpdf(g)
    top = logs.max()
    return -(top + np.log(np.sum(np.exp(logs - top)) * (g[1] - g[0])))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_exact_orthants(rng, n):
    for _ in range(2):
        kernel, labels = covariance(rng, n), rng.choice([-1.0, 1.0], size=n)
        truth = exact(kernel, labels)
        for method in content.METHODS:
            c = content.of_kernel(kernel, labels, key=KEY, method=method)
            assert abs(c.value - truth) <= 5 * c.stderr + 1e-6
            assert c.lower <= truth + 1e-6 and truth <= c.upper + 1e-6
            assert c.upper <= content.upper_bound(kernel, labels, form="published") + 1e-12
            assert c.reliable and 1 <= c.effective_samples <= 4096 * (1 + 1e-9)


@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9])
def test_exact_orthants_in_sixty_dimensions(rng, rho):
    n = 60
    kernel = rho + (1 - rho) * np.eye(n)
    alike, mixed = np.ones(n), rng.choice([-1.0, 1.0], size=n)
    if rho == 0.5:
        assert equicorrelated(rho, alike) == pytest.approx(np.log(n + 1), abs=1e-8)
    for labels in (alike, mixed):
        truth = equicorrelated(rho, labels)
        c = content.of_kernel(kernel, labels, key=KEY)
        assert c.reliable and c.stderr < 0.1
        assert abs(c.value - truth) <= 5 * c.stderr
        assert c.lower <= truth <= c.upper


@pytest.mark.parametrize("n", [1, 60])
@pytest.mark.parametrize("method", content.METHODS)
def test_the_identity_kernel_has_content_n_log_2(rng, n, method):
    labels = rng.choice([-1.0, 1.0], size=n)
    c = content.of_kernel(np.eye(n), labels, key=KEY, method=method)
    np.testing.assert_allclose([c.value, c.lower, c.upper], n * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(content.upper_bound(np.eye(n), labels, form="published"), n * np.log(2), rtol=1e-12)
    assert c.reliable and c.stderr < 1e-9 * n


def test_standard_errors_are_honest(rng):
    kernel, labels = covariance(rng, 3), np.array([1.0, -1.0, 1.0])
    truth = exact(kernel, labels)
    for method in content.METHODS:
        z = []
        for key in jax.random.split(KEY, 100):
            c = content.of_kernel(kernel, labels, key=key, method=method)
            z.append(float((c.value - truth) / c.stderr))
        assert 0.75 < np.sqrt(np.mean(np.square(z))) < 1.25


def test_variances_of_single_inputs_do_not_matter(rng):
    kernel, labels, scale = covariance(rng, 6), rng.choice([-1.0, 1.0], size=6), np.exp(rng.normal(size=6))
    one = content.of_kernel(kernel, labels, key=KEY)
    other = content.of_kernel(kernel * np.outer(scale, scale), labels, key=KEY)
    np.testing.assert_allclose(np.array(one, float), np.array(other, float), rtol=1e-9)


def test_contents_of_all_labellings_are_those_of_a_distribution(rng):
    kernel = covariance(rng, 3)
    labellings = 2.0 * np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T - 1
    found = [content.of_kernel(kernel, y, key=KEY) for y in labellings]
    probabilities = np.exp([-float(c.value) for c in found])
    stderr = probabilities @ np.array([float(c.stderr) for c in found])
    assert abs(probabilities.sum() - 1) < 5 * stderr < 0.02


def test_an_estimate_from_too_few_effective_samples_is_flagged(rng):
    x, y, *_ = problem(rng, n=60, d=10)
    kernel = kernels.kernels(network(depth=3), x).nngp
    with pytest.warns(UserWarning, match=r"cannot be believed: of 4096 samples .* are effective \(at least 100"):
        published = content.of_kernel(kernel, y, key=KEY, method="isotropic")
    believed = content.of_kernel(kernel, y, key=KEY)
    assert not published.reliable and believed.reliable
    assert published.effective_samples < 30 and believed.effective_samples > 500
    # Too few effective samples err to one side.
    assert published.value > believed.value + 5 * believed.stderr
    with pytest.warns(UserWarning, match=r"or more samples\."):
        content.of_kernel(kernel, y, key=KEY, n_samples=64)


def test_of_a_network(rng):
    x, y, *_ = problem(rng)
    c = content.information_content(network(), x, y, key=KEY)
    again = content.of_kernel(kernels.kernels(network(), x).nngp, y[:, 0], key=KEY)
    np.testing.assert_array_equal(np.array(c, float), np.array(again, float))
    assert c.value > content.information_content(network(), x, np.ones(len(x)), key=KEY).value


def test_the_conditioned_network_is_a_ratio_of_orthants(rng):
    both, labels = covariance(rng, 4), np.array([1.0, -1.0, 1.0])
    kernel, cross, own = both[:3, :3], both[3:, :3], np.diag(both)[3:]
    probability, effective = content.positive_probability(kernel, labels, cross, own, key=KEY, n_samples=20000)
    truth = np.exp(exact(kernel, labels) - exact(both, np.append(labels, 1.0)))
    assert effective > 1000 and abs(probability[0] - truth) < 5 * 0.5 / np.sqrt(effective)
    with pytest.raises(ValueError, match=r"`cross` must have the shape \(m, n\) = \(1, 3\)"):
        content.positive_probability(kernel, labels, cross.T, own, key=KEY)


def test_log_quantile_is_the_inverse():
    z = np.concatenate([-np.geomspace(1e-3, 1e4, 200), np.linspace(0, 5, 50)])
    np.testing.assert_allclose(
        _orthant.log_quantile(jax.scipy.special.log_ndtr(jnp.asarray(z))), z, rtol=1e-9, atol=1e-9
    )


def test_jit_vmap_and_gradient(rng):
    matrices = np.stack([covariance(rng, 6) for _ in range(3)])
    labels = rng.choice([-1.0, 1.0], size=6)
    eager = [content.of_kernel(m, labels, key=KEY) for m in matrices]
    jitted = jax.jit(lambda m, y, key: content.of_kernel(m, y, key=key))(matrices[0], labels, KEY)
    np.testing.assert_allclose(np.array(jitted, float), np.array(eager[0], float), rtol=1e-9)
    mapped = jax.vmap(lambda m: content.of_kernel(m, labels, key=KEY))(matrices)
    for field in ("value", "lower", "upper"):
        np.testing.assert_allclose(getattr(mapped, field), [getattr(c, field) for c in eager], rtol=1e-9)
    for form in content.FORMS:
        gradient = jax.grad(lambda m, form=form: content.upper_bound(m, labels, form=form))(jnp.asarray(matrices[0]))
        step, direction = 1e-6, matrices[1]
        both = [content.upper_bound(matrices[0] + s * step * direction, labels, form=form) for s in (1, -1)]
        np.testing.assert_allclose(np.sum(gradient * direction), (both[0] - both[1]) / (2 * step), rtol=1e-5)


def test_float32(rng):
    kernel, labels = covariance(rng, 3), rng.choice([-1.0, 1.0], size=3)
    c = content.of_kernel(kernel.astype(np.float32), labels.astype(np.float32), key=KEY)
    assert c.value.dtype == jnp.float32 and c.reliable
    np.testing.assert_allclose(c.value, exact(kernel, labels), atol=5 * float(c.stderr) + 1e-4)


ONES = np.ones(3)
BAD = [
    (
        lambda: content.of_kernel(np.eye(3), ONES, key=KEY, method="best"),
        ValueError,
        "`method` must be one of 'tilted'",
    ),
    (lambda: content.of_kernel(np.eye(3), ONES, key=KEY, n_samples=1), ValueError, "`n_samples` must be at least 2"),
    (lambda: content.upper_bound(np.eye(3), ONES, form="x"), ValueError, "`form` must be one of 'sharp', 'published'"),
    (lambda: content.upper_bound(np.eye(3), np.array([1.0, 0.5, 1.0])), ValueError, "`labels` must hold -1 and 1 only"),
    (lambda: content.upper_bound(np.eye(3), np.ones(4)), ValueError, "`labels` must have one row per input; got 4"),
    (lambda: content.upper_bound(np.eye(3), np.ones((3, 2))), ValueError, "`labels` must be one of -1 and 1 for each"),
    (lambda: content.upper_bound(np.eye(3), np.ones(3, int)), TypeError, "`labels` must hold floating-point"),
    (lambda: content.upper_bound(np.ones((3, 2)), ONES), ValueError, "`kernel` must be square"),
    (lambda: content.upper_bound(np.eye(3) * np.nan, ONES), ValueError, "`kernel` must be finite"),
    (lambda: content.upper_bound(np.triu(np.ones((3, 3))), ONES), ValueError, "`kernel` must be symmetric"),
    (lambda: content.upper_bound(np.ones((3, 3)), ONES), ValueError, "`kernel` must be positive definite.*repeated"),
    (lambda: content.upper_bound(-np.eye(3), ONES), ValueError, "`kernel` must be positive definite"),
    (lambda: content.information_content(None, np.eye(3), ONES, key=KEY), TypeError, "`net` must be a network"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(not (MNIST / "t10k-images-idx3-ubyte.gz").exists(), reason="no MNIST files in ../shared/data")
def test_published_values_on_mnist(rng):
    """Parity of 500 digits, 7 layers, delta 0.01 (Bernstein & Yue 2021): 0.39, 0.43; random labels 0.55, 0.58."""
    images = np.frombuffer(gzip.open(MNIST / "t10k-images-idx3-ubyte.gz").read(), np.uint8, offset=16)
    digits = np.frombuffer(gzip.open(MNIST / "t10k-labels-idx1-ubyte.gz").read(), np.uint8, offset=8)
    rows, n = rng.permutation(10000)[:500], 500
    x = (images.reshape(-1, 784)[rows] / 255 - 0.1307) / 0.3081
    x *= 28 / np.linalg.norm(x, axis=1)[:, None]
    hidden = [layer for _ in range(6) for layer in (stax.Dense(1, W_std=np.sqrt(2)), stax.Relu())]
    kernel = kernels.kernels(stax.serial(*hidden, stax.Dense(1)), x).nngp
    published = {"parity": (0.39, 0.43), "random": (0.55, 0.58)}
    for name, labels in (("parity", digits[rows] % 2 * 2.0 - 1), ("random", rng.choice([-1.0, 1.0], size=n))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = content.of_kernel(kernel, labels, key=KEY, method="isotropic", n_samples=4096)
        closed = content.upper_bound(kernel, labels, form="published")
        ours = content.of_kernel(kernel, labels, key=KEY)
        values = [float(bounds.information_content(c, n=n, delta=0.01)) for c in (theirs.value, closed)]
        np.testing.assert_allclose(values, published[name], atol=0.012)
        # Their estimator has a handful of effective samples; the content itself is far below it.
        assert not theirs.reliable and theirs.effective_samples < 20
        assert ours.reliable and ours.stderr < 0.15
        assert ours.lower < ours.value < theirs.value - 5
        assert ours.upper < closed


def test_tolerance_of_symmetry():
    kernel = np.eye(3)
    for skew, refused in ((0.8e-5, False), (3e-5, True)):
        kernel[0, 1] = skew
        if refused:
            with pytest.raises(ValueError, match="`kernel` must be symmetric"):
                content.upper_bound(kernel, ONES)
        else:
            content.upper_bound(kernel, ONES)


@pytest.mark.parametrize("key", [None, 0, "a", jax.random.split(KEY), np.zeros(3, np.uint32)])
def test_what_is_no_key_is_named(rng, key):
    kernel, labels = covariance(rng, 3), np.ones(3)
    calls = (
        lambda: content.of_kernel(kernel, labels, key=key),
        lambda: content.information_content(network(), rng.normal(size=(3, 2)), labels, key=key),
        lambda: content.positive_probability(kernel, labels, kernel[:1], np.ones(1), key=key),
    )
    for call in calls:
        with pytest.raises(TypeError, match="`key` must be one random key"):
            call()


def test_what_is_no_joint_covariance_is_refused(rng):
    kernel = covariance(rng, 3)
    with pytest.raises(ValueError, match=r"`cross`, `own` and `kernel` must together be a covariance.*test input 1"):
        content.positive_probability(kernel, np.ones(3), np.array([[0.1] * 3, [1e3] * 3]), np.ones(2), key=KEY)
    with pytest.raises(ValueError, match="`own` must be positive"):
        content.positive_probability(kernel, np.ones(3), kernel[:1], -np.ones(1), key=KEY)
    with pytest.raises(ValueError, match="the kernel of `x` must be positive definite"):
        content.information_content(network(), np.ones((3, 2)), np.ones(3), key=KEY)
