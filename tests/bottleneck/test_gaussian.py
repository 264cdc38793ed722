import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from ntkinfo import bottleneck

BETA = np.array([1.1, 2.0, 4.0, 8.0, 30.0])


def covariances(dx=2, dy=3, seed=0):
    draws = np.random.default_rng(seed).normal(size=(dx + dy, dx + dy))
    joint = draws @ draws.T + np.eye(dx + dy)
    return joint[:dx, :dx], joint[dx:, dx:], joint[:dx, dx:]


def informations(cov_x, cov_y, cov_xy, a):
    """I(X;Z), I(Z;Y) of Z = A X + N(0, I) from log-determinants."""
    noise = np.eye(len(a))
    given_y = cov_x - cov_xy @ np.linalg.solve(cov_y, cov_xy.T)
    total = np.linalg.slogdet(a @ cov_x @ a.T + noise)[1]
    return total / 2, (total - np.linalg.slogdet(a @ given_y @ a.T + noise)[1]) / 2


@pytest.fixture(scope="module")
def solved():
    return bottleneck.gaussian_ib(*covariances(), BETA)


def test_informations_are_those_of_the_projection(solved):
    for i in range(len(BETA)):
        wanted = informations(*covariances(), np.asarray(solved.projection[i]))
        np.testing.assert_allclose([solved.i_xz[i], solved.i_zy[i]], wanted, atol=1e-12)
    assert list(solved.n_active) == [0, 0, 1, 2, 2]


def test_theorem_from_the_nonsymmetric_eigenvalues(solved):
    cov_x, cov_y, cov_xy = covariances()
    given_y = cov_x - cov_xy @ np.linalg.solve(cov_y, cov_xy.T)
    lam = np.sort(np.linalg.eigvals(given_y @ np.linalg.inv(cov_x)).real)
    np.testing.assert_allclose(solved.critical_betas, 1 / (1 - lam), rtol=1e-12)
    i_x = sum(np.log(29 * (1 - lam) / lam)) / 2
    np.testing.assert_allclose([solved.i_xz[-1], solved.i_zy[-1]], [i_x, i_x - sum(np.log(30 * (1 - lam))) / 2])
    np.testing.assert_allclose(solved.i_xy, -sum(np.log(lam)) / 2)


def test_no_projection_found_by_search_is_better(solved):
    given = covariances()
    for i, beta in enumerate(BETA):
        best = np.inf
        for seed in range(3):
            start = np.random.default_rng(seed).normal(size=4)

            def value(a, beta=beta):
                i_x, i_y = informations(*given, a.reshape(2, 2))
                return i_x - beta * i_y

            best = min(best, scipy.optimize.minimize(value, start, method="L-BFGS-B").fun)
        np.testing.assert_allclose(best + beta * solved.i_xy, solved.lagrangian[i], atol=1e-7)


def test_one_mode_numbers():
    rho = float(np.sqrt(1 - np.exp(-0.894)))
    found = bottleneck.gaussian_curve(1.0, 1.0, rho, np.array([0.0, 0.5, 1.0, 2.0, 300.0]))
    np.testing.assert_allclose(found, [0, 0.23386, 0.35770, 0.43394, 0.447], atol=5e-6)


def test_curve_inverts_the_solution(solved):
    grid = np.geomspace(2.2, 300, 7)
    many = bottleneck.gaussian_ib(*covariances(3, 3), grid)
    assert set(np.asarray(many.n_active)) >= {1, 2, 3}
    np.testing.assert_allclose(bottleneck.gaussian_curve(*covariances(3, 3), many.i_xz), many.i_zy, atol=1e-13)
    np.testing.assert_allclose(bottleneck.gaussian_curve(*covariances(), solved.i_xz), solved.i_zy, atol=1e-13)


def test_units_are_no_matter():
    cov_x, cov_y, cov_xy = covariances()
    d_x, d_y = np.array([1e-7, 1.0, 1e9])[: len(cov_x)], np.geomspace(1e-6, 1e8, len(cov_y))
    other = bottleneck.gaussian_ib(
        cov_x * np.outer(d_x, d_x), cov_y * np.outer(d_y, d_y), cov_xy * np.outer(d_x, d_y), BETA
    )
    plain = bottleneck.gaussian_ib(cov_x, cov_y, cov_xy, BETA)
    np.testing.assert_allclose(other.i_xz, plain.i_xz, rtol=1e-12)
    np.testing.assert_allclose(other.i_zy, plain.i_zy, rtol=1e-12)
    np.testing.assert_allclose(
        np.abs(np.asarray(other.projection) * d_x), np.abs(plain.projection), rtol=1e-9, atol=1e-12
    )


def test_independent_variables():
    found = bottleneck.gaussian_ib(np.eye(2), np.eye(2), np.zeros((2, 2)), 50.0)
    assert found.i_xz == 0 and found.i_zy == 0 and np.isinf(found.critical_betas).all()
    assert bottleneck.gaussian_curve(np.eye(2), np.eye(2), np.zeros((2, 2)), 1.0) == 0


def test_weak_correlations_are_correlations():
    found = bottleneck.gaussian_ib(1.0, 1.0, 1e-4, np.array([0.9e8, 1.1e8]))
    np.testing.assert_allclose(found.critical_betas, [1e8], rtol=1e-6)
    # One mode: I(X;Z) = ½ log[(β - 1) ρ²/(1 - ρ²)].
    np.testing.assert_allclose(found.i_xz, [0, 0.5 * np.log(1.1)], rtol=1e-6)


def test_gradient_and_jit(solved):
    cov_x, cov_y, cov_xy = covariances()

    def total(c):
        found = bottleneck.gaussian_ib(cov_x, cov_y, c, jnp.asarray(BETA))
        return jnp.sum(found.i_zy + found.i_xz)

    slope = np.asarray(jax.jit(jax.grad(total))(jnp.asarray(cov_xy)))
    change = np.zeros_like(cov_xy)
    change[1, 2] = 1e-6
    np.testing.assert_allclose(slope[1, 2], (total(cov_xy + change) - total(cov_xy - change)) / 2e-6, rtol=1e-6)
    assert np.isfinite(slope).all()


def test_float32():
    given = [each.astype(np.float32) for each in covariances()]
    found = bottleneck.gaussian_ib(*given, BETA)
    assert found.i_xz.dtype == jnp.float32
    np.testing.assert_allclose(found.i_zy, bottleneck.gaussian_ib(*covariances(), BETA).i_zy, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cov_x": np.array([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
        ({"cov_x": np.ones((2, 2))}, "`cov_x` must be positive definite"),
        ({"cov_y": np.ones((2, 3))}, "square"),
        ({"cov_xy": np.ones((2, 2))}, "shape"),
        ({"cov_xy": 10 * np.ones((2, 3))}, "no covariance"),
        ({"beta": -1.0}, "positive"),
        ({"beta": np.inf}, "finite"),
    ],
)
def test_refusals(change, text):
    cov_x, cov_y, cov_xy = covariances()
    with pytest.raises(ValueError, match=text):
        bottleneck.gaussian_ib(**({"cov_x": cov_x, "cov_y": cov_y, "cov_xy": cov_xy, "beta": 2.0} | change))


def test_deterministic_label_is_named():
    with pytest.raises(ValueError, match="function of Y"):
        bottleneck.gaussian_ib(1.0, 1.0, 1.0, 2.0)
