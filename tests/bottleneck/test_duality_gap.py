import numpy as np
import pytest
from scipy.special import logsumexp

from ntkinfo.bottleneck import _duality_gap
from ntkinfo.bottleneck._distortion import Problem


def divergence(rows, decoders, dual):
    """The distortion in NumPy, (x, z)."""
    a, b = np.broadcast_arrays(rows[:, None, :], decoders[None, :, :])
    return np.sum(b * np.log(b / a) if dual else a * np.log(a / b), axis=-1)


def joint(n_classes, seed=0):
    p_xy = np.random.default_rng(seed).dirichlet(np.ones(6 * n_classes)).reshape(6, n_classes)
    p_x = p_xy.sum(axis=1)
    return p_x, p_xy / p_x[:, None]


def problem(p_x, rows, dual=False):
    return Problem.from_joint(p_x[:, None] * rows, dual)


def maximise(p_x, rows, beta, prior, decoders, dual=False):
    return _duality_gap.maximise(problem(p_x, rows, dual), beta, np.log(np.maximum(prior, 1e-300)), np.log(decoders))


def gap(p_x, rows, beta, prior, decoders, dual):
    clusters = np.log(np.maximum(prior, 1e-300))[None], np.log(decoders)[None]
    return _duality_gap.proven_bounds(problem(p_x, rows, dual), np.full(1, beta), *clusters)[0].upper


def value(p_x, rows, beta, prior, decoders, dual):
    return -p_x @ np.log(np.exp(-beta * divergence(rows, decoders, dual)) @ prior)


def optimum(p_x, rows, beta, dual, sweeps=6000):
    """Long alternating minimisation from Z = X in NumPy."""
    prior, decoders = p_x, rows
    for _ in range(sweeps):
        kernel = prior[None] * np.exp(-beta * divergence(rows, decoders, dual))
        encoder = kernel / kernel.sum(axis=1, keepdims=True)
        prior = p_x @ encoder
        weights = (p_x[:, None] * encoder / np.maximum(prior, 1e-200)[None]).T
        if dual:
            decoders = np.exp(weights @ np.log(rows))
            decoders = decoders / decoders.sum(axis=1, keepdims=True)
        else:
            decoders = weights @ rows
        decoders = np.where(prior[:, None] > 1e-100, decoders, rows)
    return prior, decoders


def brute(p_x, rows, beta, prior, decoders, dual, points):
    z = np.exp(-beta * divergence(rows, decoders, dual)) @ prior
    return np.log(np.max(np.exp(-beta * divergence(rows, points, dual)).T @ (p_x / z)))


def simplex(n_classes):
    if n_classes == 2:
        t = np.linspace(0, 1, 20001)[1:-1]
        return np.stack([1 - t, t], axis=1)
    t = np.linspace(0, 1, 151)[1:-1]
    a, b = np.meshgrid(t, t)
    grid = np.stack([a.ravel(), b.ravel(), 1 - a.ravel() - b.ravel()], axis=1)
    return grid[grid[:, 2] > 1e-3]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dual", [False, True])
def test_gap_bounds_the_distance_to_the_optimum(n_classes, dual):
    p_x, rows = joint(n_classes)
    for beta in (3.0, 20.0):
        prior, decoders = optimum(p_x, rows, beta, dual)
        best = value(p_x, rows, beta, prior, decoders, dual)
        assert abs(gap(p_x, rows, beta, prior, decoders, dual)) < 1e-9
        for mix in (0.01, 0.2):
            worse = (1 - mix) * decoders + mix * decoders.mean(axis=0)[None]
            excess = value(p_x, rows, beta, prior, worse, dual) - best
            found, bound = (f(p_x, rows, beta, prior, worse, dual) for f in (maximise, gap))
            assert 0 < excess <= bound
            # No smaller than on a grid over the simplex, no larger than at the point returned.
            assert brute(p_x, rows, beta, prior, worse, dual, simplex(n_classes)) <= bound + 1e-12
            here = brute(p_x, rows, beta, prior, worse, dual, np.asarray(found.s)[None])
            np.testing.assert_allclose([found.log_g, bound], here, atol=1e-9)


@pytest.mark.parametrize("dual", [False, True])
def test_missing_cluster_is_the_one_that_lowers_the_value(dual):
    p_x, rows = joint(2)
    decoders = p_x[None] @ rows
    found = maximise(p_x, rows, 20.0, np.ones(1), decoders, dual)
    before = value(p_x, rows, 20.0, np.ones(1), decoders, dual)
    after = value(p_x, rows, 20.0, np.array([0.99, 0.01]), np.concatenate([decoders, found.s[None]]), dual)
    assert after < before


def test_rows_with_certain_labels():
    p_x, rows = np.array([0.3, 0.4, 0.3]), np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    found = maximise(p_x, rows, 2.0, np.ones(1), np.array([[0.5, 0.5]]))
    t = np.linspace(0, 1, 100_001)
    z = np.array([0.25, 1.0, 0.25])
    wanted = np.log(np.max((p_x / z) @ np.stack([(1 - t) ** 2, 4 * t * (1 - t), t**2])))
    np.testing.assert_allclose(found.log_g, wanted, atol=1e-9)
    np.testing.assert_allclose(gap(p_x, rows, 2.0, np.ones(1), np.array([[0.5, 0.5]]), False), wanted, atol=1e-9)


def test_many_beta_at_once_find_what_each_finds_alone():
    p_x, rows = joint(3)
    beta, clusters = np.array([2.0, 9.0, 30.0]), (np.zeros(1), np.log(p_x[None] @ rows))
    many = _duality_gap.maxima(problem(p_x, rows), beta, [clusters] * 3)
    one = [_duality_gap.maximise(problem(p_x, rows), each, *clusters) for each in beta]
    np.testing.assert_allclose([each.log_g for each in many], [each.log_g for each in one], atol=1e-12)


def test_a_table_that_looks_like_distances_is_taken_for_a_table():
    p = (np.ones((5, 5)) - np.eye(5)) / 20  # symmetric, zero diagonal: SciPy's tree warned, which is an error here
    centres = _duality_gap.tree_centres(Problem.from_joint(p, False), 5 * p, np.full(5, 0.2))
    assert centres.shape == (4, 5)
    np.testing.assert_allclose(centres[-1], 0.2)


@pytest.mark.parametrize("dual", [False, True])
def test_newton_steps_end_where_plain_steps_do(dual, monkeypatch):
    p_x, rows = joint(3, seed=2)
    of = problem(p_x, rows, dual)
    clusters = np.log([0.5, 0.5]), np.log(rows[:2])
    newton = _duality_gap.maximise(of, 25.0, *clusters)
    monkeypatch.setattr(_duality_gap, "_MANY_LABELS", 2)
    plain = _duality_gap.maximise(of, 25.0, *clusters)
    assert plain.log_g > 0.1
    np.testing.assert_allclose(newton.log_g, plain.log_g, rtol=1e-13)
    np.testing.assert_allclose(newton.s, plain.s, atol=1e-6)
    # Not the largest alone: every decoder that is missing, of which many are added at once.
    for found, other in ((newton, plain), (plain, newton)):
        ends = found.candidates[found.log_g_candidates > 1e-9]
        distance = np.abs(ends[:, None] - other.candidates[None]).max(axis=2).min(axis=1)
        assert len(ends) > 1 and distance.max() < 1e-4


@pytest.mark.parametrize("dual", [False, True])
def test_stability_matrices_are_the_curvature_of_log_g(dual):
    p_x, rows = joint(3, seed=1)
    beta, clusters = 4.0, (np.log([0.5, 0.5]), np.log(rows[:2]))
    landscape = _duality_gap._Landscape(problem(p_x, rows, dual), np.full(1, beta), [clusters])
    s, who = _duality_gap.maximise(problem(p_x, rows, dual), beta, *clusters).s[None], np.zeros(1, int)
    weights, _ = landscape.weights(s, who)
    root, matrix = landscape.scaled(s, weights, np.ones((len(s), 1)), weights @ landscape.problem.features)
    v = np.random.default_rng(0).normal(size=(5, 3))
    v -= np.sum(v * root, axis=1, keepdims=True) * root
    np.testing.assert_allclose(landscape.product(s, weights, v), v @ matrix[0], atol=1e-14)
    step = 1e-4
    values = [landscape.log_g(s + sign * step * root * v, np.zeros(5, int)) for sign in (-1, 0, 1)]
    wanted = -beta * np.sum(v * (v - beta * v @ matrix[0]), axis=1)
    np.testing.assert_allclose((values[0] - 2 * values[1] + values[2]) / step**2, wanted, rtol=1e-4)


def test_small_systems_are_solved_all_at_once_and_those_that_curve_down_named(rng):
    a = rng.normal(size=(30, 5, 5))
    matrices = a @ a.swapaxes(1, 2) + 0.1 * np.eye(5)
    matrices[::3] -= 2 * np.linalg.eigvalsh(matrices[::3])[:, :1, None] * np.eye(5)
    right = rng.normal(size=(30, 5))
    solution, up = _duality_gap._solved(matrices, right)
    np.testing.assert_array_equal(up, np.arange(30) % 3 != 0)
    np.testing.assert_allclose((matrices[up] @ solution[up][:, :, None])[:, :, 0], right[up], atol=1e-9)


@pytest.mark.parametrize("dual", [False, True])
def test_values_far_from_the_optimum_do_not_overflow(dual):
    p_x, rows = joint(6, seed=2)
    beta, clusters = 2e4, (np.zeros(1), np.log(rows[:1]))
    case = problem(p_x, rows, dual)
    landscape = _duality_gap._Landscape(case, np.full(1, beta), [clusters])
    s = rows[1:5]
    exponents = landscape.logits(s, np.zeros(4, int))
    assert exponents.max() > 710
    np.testing.assert_allclose(landscape.log_g(s, np.zeros(4, int)), logsumexp(exponents, axis=1), rtol=1e-12)
