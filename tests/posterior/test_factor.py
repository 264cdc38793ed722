import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import kernels, stax
from ntkinfo._numerics import regularised
from ntkinfo.posterior import Posterior, _noise, _spectrum
from tests.problems import network, problem


def quantities(post, x_test):
    joint = post.predict(x_test, joint=True)
    return post.log_marginal_likelihood, joint.mean, joint.covariance, post.predict(x_test).variance


def assert_close(found, expected, rtol, atol):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.fixture(params=["nngp", "ntk"])
def case(request, rng):
    x, y, x_test, _ = problem(rng, k=3)
    mean = (lambda x: jnp.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], axis=1)) if request.param == "ntk" else None
    return Posterior.fit(network(outputs=3), x, y, noise=0.3, prior=request.param, mean=mean), x_test


def test_the_factor_gives_what_the_spectrum_gives(case, monkeypatch):
    post, x_test = case
    expected = quantities(post.with_spectrum(), x_test)
    plain = dataclasses.replace(post)
    assert plain.factor is not None and plain.given_spectrum is None
    monkeypatch.setattr(_spectrum, "diagonalised", None)
    assert_close(quantities(plain, x_test), expected, 1e-10, 1e-12)
    # As an argument of a jitted function as well.
    jitted = jax.jit(lambda post, x: quantities(post, x)[1:])
    monkeypatch.undo()
    assert_close(jitted(plain, x_test), expected[1:], 1e-10, 1e-12)
    monkeypatch.setattr(_spectrum, "diagonalised", None)
    with pytest.raises(TypeError):
        _ = plain.kl


def test_the_spectrum_is_found_once_where_it_is_asked_for(case, monkeypatch):
    post, _ = case
    first = post.information_gain
    monkeypatch.setattr(_spectrum, "diagonalised", None)
    assert post.information_gain == first and post.kl > 0 and post.leave_one_out().mean.shape == (12, 3)
    # Under tracing none is kept that would be a tracer.
    other = dataclasses.replace(post)
    monkeypatch.undo()
    np.testing.assert_allclose(jax.jit(lambda: other.kl)(), post.kl, rtol=1e-10)
    np.testing.assert_allclose(other.kl, post.kl, rtol=1e-10)


def test_derivatives_by_what_the_posterior_holds(rng):
    # Kernel, noise, labels and test inputs, of a posterior that was factorised before.
    x, y, x_test, _ = problem(rng, k=3)
    post = Posterior.fit(network(outputs=3), x, y, noise=0.3)
    weight = np.random.default_rng(1).normal(size=(7, 7))

    def value(q, noise, y, x, post):
        moved = dataclasses.replace(post, q=0.5 * (q + q.T), noise=noise, y=y)
        evidence, mean, covariance, variance = quantities(moved, x)
        return 0.1 * evidence + jnp.sum(mean**2) + jnp.sum(weight * covariance) + jnp.sum(variance**2)

    def refitted(q, noise, y, x, post):
        moved = Posterior.from_kernel(
            post.kernel_fn, post.x, y, 0.5 * (q + q.T), noise=noise, prior=post.prior, mean=post.mean_fn
        )
        return sum(
            jnp.sum(part)
            for part in (
                0.1 * moved.log_marginal_likelihood,
                moved.predict(x).mean ** 2,
                weight * moved.predict(x, joint=True).covariance,
                moved.predict(x).variance ** 2,
            )
        )

    at = post.q, post.noise, post.y, jnp.asarray(x_test)
    found, expected = (jax.jit(jax.grad(function, argnums=(0, 1, 2, 3)))(*at, post) for function in (value, refitted))
    assert_close(found, expected, 1e-7, 1e-9)


def test_a_noise_exchanged_afterwards_counts(case):
    post, x_test = case
    noises = jnp.array([0.3, 0.7])
    fitted = [
        Posterior.fit(post.kernel_fn, post.x, post.y, noise=float(noise), prior=post.prior, mean=post.mean_fn)
        for noise in noises
    ]
    expected = [jnp.stack(parts) for parts in zip(*(quantities(one, x_test) for one in fitted), strict=True)]
    eager = [quantities(dataclasses.replace(post, noise=noise), x_test) for noise in noises]
    assert_close([jnp.stack(parts) for parts in zip(*eager, strict=True)], expected, 1e-9, 1e-11)
    mapped = jax.jit(jax.vmap(lambda noise: quantities(dataclasses.replace(post, noise=noise), x_test)))(noises)
    assert_close(mapped, expected, 1e-9, 1e-11)


@pytest.mark.parametrize("by", ["factor", "spectrum", "fitted noise"])
def test_what_is_exchanged_afterwards_counts(rng, by):
    """No factor and no spectrum serves another kernel, other labels or another noise in silence."""
    x, y, x_test, _ = problem(rng, k=3)
    post = Posterior.fit(network(outputs=3), x, y, noise="fit" if by == "fitted noise" else 0.3)
    post = post.with_spectrum() if by == "spectrum" else post
    noise, order = float(post.noise), rng.permutation(12)
    for q, labels, sigma in (
        (2.0 * post.q, y, noise),
        # As large a kernel, of the same trace and determinant.
        (post.q[order][:, order], y, noise),
        (post.q, y[order], noise),
        (post.q + 1e-4 * jnp.eye(12), y, 2 * noise),
    ):
        moved = dataclasses.replace(post, q=q, y=jnp.asarray(labels), noise=jnp.asarray(sigma))
        fresh = Posterior.from_kernel(post.kernel_fn, post.x, labels, q, noise=sigma)
        for _ in range(2):
            assert_close(quantities(moved, x_test), quantities(fresh, x_test), 1e-9, 1e-11)
            assert_close(
                (moved.kl, moved.information_gain, moved.leave_one_out().mean, moved.predict_train().variance),
                (fresh.kl, fresh.information_gain, fresh.leave_one_out().mean, fresh.predict_train().variance),
                1e-9,
                1e-11,
            )
        assert abs(float(moved.log_marginal_likelihood - post.log_marginal_likelihood)) > 1e-3


def test_kernels_of_functions_are_proven_semidefinite(rng):
    x, y, *_ = problem(rng)
    u = np.linalg.qr(rng.normal(size=(12, 12)))[0]

    def kernel(smallest):
        q = (u * np.r_[smallest, np.linspace(0.5, 3, 11)]) @ u.T
        return lambda x1, x2, get: (0.5 * (q + q.T),) * 2

    # Semidefinite but for rounding: a factor, and as the eigenvalues say.
    for smallest in (0.0, 1e-3):
        post = Posterior.fit(kernel(smallest), x, y, noise=0.3)
        assert post.factor is not None
        np.testing.assert_allclose(post.eigenvalues[0], smallest, atol=1e-14)
    # A factor of Q + σ²I exists, but Q is no covariance.
    for smallest in (-0.1, -1e-6, -1e-12):
        with pytest.raises(ValueError, match="prior kernel must be positive semidefinite"):
            Posterior.fit(kernel(smallest), x, y, noise=0.3)


def test_kernels_known_to_be_covariances(rng):
    x, *_ = problem(rng)
    assert kernels.are_covariances(network()) and kernels.are_covariances(network(activation=stax.Relu()))
    assert not kernels.are_covariances(lambda x1, x2, get: None)
    own = stax.Elementwise(lambda x: x, lambda c12, v1, v2: c12, lambda c12, v1, v2: jnp.ones_like(c12))
    assert not kernels.are_covariances(network(activation=own))
    init, apply, _ = network()
    _, params = init(jax.random.key(0), x.shape)
    assert kernels.are_covariances(kernels.empirical((apply, params)))


def test_a_noise_small_beside_the_kernel_takes_the_spectrum(rng):
    x, y, x_test, _ = problem(rng)
    for dtype, factorised in ((np.float64, True), (np.float32, False)):
        post = Posterior.fit(network(), x.astype(dtype), y.astype(dtype), noise=1e-3)
        assert (post.factor is not None) == factorised and (post.given_spectrum is None) == factorised
    assert Posterior.fit(network(), x, y, noise=1e-9).factor is None
    loud, exact = (Posterior.fit(network(), x.astype(t), y.astype(t), noise=0.3) for t in (np.float32, np.float64))
    assert loud.factor is not None and loud.predict(x_test).variance.dtype == jnp.float32
    assert_close(quantities(loud, x_test), quantities(exact, x_test), 1e-4, 1e-4)


def test_the_same_by_jax_alone_where_the_arrays_do_not_lie_on_the_host(case, monkeypatch):
    post, x_test = case
    expected = quantities(post, x_test)
    monkeypatch.setattr(regularised.padding, "on_host", lambda array: False)
    again = Posterior.from_kernel(
        post.kernel_fn, post.x, post.y, post.q, noise=0.3, prior=post.prior, mean=post.mean_fn
    )
    assert again.factor is not None and post.factor is not None
    np.testing.assert_allclose(again.factor.lower, post.factor.lower, atol=1e-13)
    assert_close(quantities(again, x_test), expected, 1e-11, 1e-12)
    with pytest.raises(ValueError, match="prior kernel must be positive semidefinite"):
        Posterior.fit(lambda x1, x2, get: (-(post.q[:, :1] @ post.q[:1]),) * 2, post.x, post.y, noise=0.3)


@pytest.mark.parametrize("noise", ["fit", 0.3])
def test_a_fitted_scale_takes_one_decomposition(rng, noise, monkeypatch):
    x, y, x_test, _ = problem(rng)
    y = 3 * y + rng.normal(size=y.shape)
    found = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda a: found.append(1) or eigh(a))
    monkeypatch.setattr(_spectrum, "_diagonalise", None)
    post = Posterior.fit(network(), x, y, noise=noise, scale="fit")
    parts = (*quantities(post, x_test), post.kl)
    assert len(found) == 1 and post.factor is None
    monkeypatch.undo()
    scale = float(post.q[0, 0] / kernels.kernels(network(), x).nngp[0, 0])
    again = Posterior.fit(network(), x, y, noise=float(post.noise), scale=scale)
    assert again.factor is not None
    assert_close(parts, (*quantities(again, x_test), again.kl), 1e-9, 1e-10)
    expected = _noise.log_marginal_likelihood(
        post.eigenvalues, jnp.sum(post.y_rotated**2 / (post.eigenvalues + post.noise)[:, None]), 1, post.noise
    )
    np.testing.assert_allclose(parts[0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "message"), [(0, "largest share of noise tried.*not at all"), (-1, "smallest share of noise.*exactly")]
)
def test_residuals_that_are_all_noise_or_none_have_no_best_scale(rng, column, message):
    x = problem(rng)[0]
    # Along the eigenvector of the smallest eigenvalue, which the kernel explains least; or as the kernel itself draws.
    values, vectors = np.linalg.eigh(np.asarray(kernels.kernels(network(), x).nngp))
    labels = vectors[:, :1] if column == 0 else (vectors @ np.sqrt(np.abs(values)))[:, None]
    with pytest.warns(UserWarning, match=message):
        Posterior.fit(network(), x, labels, noise="fit", scale="fit")


def test_a_noise_little_above_the_rounding_of_the_kernel_is_warned_of():
    x = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32)
    with pytest.warns(UserWarning, match="`noise` of 0.001 is little above the rounding error"):
        Posterior.fit(network(), x, np.sin(x[:, :1]), noise=1e-3)
