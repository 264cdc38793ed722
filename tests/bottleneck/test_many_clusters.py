"""Many clusters: products with second derivatives, masses at fixed decoders, all that is missing at once."""

import numpy as np
import pytest

from ntkinfo import bottleneck
from ntkinfo.bottleneck import _duality_gap, _newton, _newton_cg, _solver
from ntkinfo.bottleneck._distortion import Problem


def dense(p_xy, beta, sweeps):
    """The free energy that plain sweeps reach from Z = X, in NumPy."""
    p_x = p_xy.sum(1)
    rows = p_xy / p_x[:, None]
    own = np.sum(rows * np.log(rows), axis=1)
    mass, s = p_x.copy(), rows.copy()
    for _ in range(sweeps):
        odds = mass * np.exp(-beta * (own[:, None] - rows @ np.log(s).T))
        joint = p_x[:, None] * odds / odds.sum(1, keepdims=True)
        mass = joint.sum(0)
        used = mass > 1e-13
        mass, s = mass[used], (joint.T @ rows)[used] / mass[used, None]
    kernel = np.exp(-beta * (own[:, None] - rows @ np.log(s).T))
    return -p_x @ np.log(kernel @ mass)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(3).dirichlet(np.ones(10), 90) / 90


@pytest.fixture
def few(monkeypatch):
    """Counts as many clusters what a small table has, and thins its start."""
    monkeypatch.setattr(_solver, "_MAX_NEWTON_UNKNOWNS", 20)
    monkeypatch.setattr(_solver, "_START_ENTRIES", 0)
    monkeypatch.setattr(_solver, "_LEAST_START", 8)


@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize("dual", [False, True])
def test_products_are_those_of_the_matrix(dual, alpha, rng):
    problem = Problem.from_joint(rng.dirichlet(np.ones(15)).reshape(5, 3), dual)
    a, u, direction = rng.normal(size=4), rng.normal(size=(4, 3)), rng.normal(size=(4, 4))
    point, exact = _newton_cg.Point(problem, 7.0, alpha, a, u), _newton.derivatives(problem, 7.0, alpha, a, u)
    np.testing.assert_allclose(point.value, exact.value, rtol=1e-13)
    np.testing.assert_allclose(point.gradient, point.scale * exact.gradient.reshape(4, 4), atol=1e-12)
    product = point.scale * (exact.hessian @ (point.scale * direction).ravel()).reshape(4, 4)
    np.testing.assert_allclose(point.product(direction), product, atol=1e-11)


@pytest.mark.parametrize("dual", [False, True])
def test_the_factor_solves_for_what_products_make(dual, rng):
    problem = Problem.from_joint(rng.dirichlet(np.ones(60)).reshape(20, 3), dual)
    clusters = np.log(rng.dirichlet(np.ones(4))), np.log(rng.dirichlet(np.ones(3), size=4))
    clusters = _newton.refine(problem, 30.0, 1.0, *clusters)
    point = _newton_cg.Point(problem, 30.0, 1.0, *clusters)
    # A change of the unknowns that no normalisation takes away.
    wanted = rng.normal(size=(4, 4))
    roots = np.sqrt(point.s)
    wanted[:, 0] -= np.sqrt(point.p_z) * (np.sqrt(point.p_z) @ wanted[:, 0])
    wanted[:, 1:] -= roots * np.sum(roots * wanted[:, 1:], axis=1, keepdims=True)
    np.testing.assert_allclose(_newton_cg._Factor(point)(point.product(wanted)), wanted, atol=1e-8)


def descended(problem, beta, clusters, last, *, calls):
    """The point after so many calls for Newton's steps, none of which may raise the free energy `last` of the start."""
    for _ in range(calls):
        log_p_z, log_s = _newton_cg.refine(problem, beta, 1.0, *clusters, tolerance=1e-11)
        used = np.isfinite(log_p_z)
        clusters = log_p_z[used], log_s[used]
        point = _newton_cg.Point(problem, beta, 1.0, *clusters)
        assert point.value < last + 1e-13
        last = point.value
    return point


def test_steps_of_the_factor_end_where_the_gradient_is_gone(table, monkeypatch):
    monkeypatch.setattr(_newton_cg, "_CHEAP_GRADIENTS", 8)
    problem = Problem.from_joint(table, False)
    point = descended(problem, 15.0, (np.log(problem.p_x), problem.log_p_y_given_x), np.inf, calls=12)
    # No plain steps from Z = X end lower.
    assert point.length < 1e-7 and point.value <= dense(table, 15.0, 2000) + 1e-9


def test_masses_at_fixed_decoders_meet_the_conditions_of_their_optimum(table, rng):
    problem, beta = Problem.from_joint(table, False), 12.0
    decoders = np.concatenate([problem.p_y_given_x, rng.dirichlet(np.ones(10), 30)])
    found = np.exp(_newton_cg.masses(problem, beta, np.full(120, -np.log(120)), np.log(decoders)))
    assert (found == 0).sum() > 30
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-13)
    own = np.sum(problem.p_y_given_x * problem.log_p_y_given_x, axis=1)
    kernel = np.exp(-beta * (own[:, None] - problem.p_y_given_x @ np.log(decoders).T))
    g = (problem.p_x / (kernel @ found)) @ kernel
    np.testing.assert_allclose(g[found > 0], 1, atol=1e-9)
    assert g.max() < 1 + 1e-9


@pytest.mark.parametrize("dual", [False, True])
def test_steps_lower_the_free_energy_until_the_gradient_is_gone(dual, rng):
    problem = Problem.from_joint(rng.dirichlet(np.ones(60)).reshape(20, 3), dual)
    clusters = np.log(rng.dirichlet(np.ones(6))), np.log(rng.dirichlet(np.ones(3), size=6))
    before = _newton_cg.Point(problem, 30.0, 1.0, *clusters)
    # From anywhere the first steps are short: each call takes so many of them at most.
    after = descended(problem, 30.0, clusters, before.value, calls=8)
    assert after.value < before.value - 0.1 and after.length < 1e-9


def test_nothing_is_missing_in_a_table_of_many_clusters(table):
    curve = bottleneck.ib(table, [20.0], certificate=True)
    assert int(curve.n_clusters[0]) * 11 > _solver._MAX_NEWTON_UNKNOWNS
    assert float(curve.gap[0]) < 1e-9 and bool(curve.converged[0])
    plain = dense(table, 20.0, 500)
    assert plain - 1e-6 < float(curve.lagrangian[0]) <= plain + 1e-12


@pytest.mark.parametrize("dual", [False, True])
def test_a_thinned_start_ends_where_all_inputs_do(dual, few, rng):
    solve = bottleneck.dual_ib if dual else bottleneck.ib
    table, betas = rng.dirichlet(np.full(3, 0.8), 40) / 40, np.array([4.0, 25.0, 90.0])
    if dual:
        table = bottleneck.smooth(table, 1e-3)
    thinned = solve(table, betas, certificate=True)
    assert thinned.certified.all() and (thinned.gap < 1e-8).all()
    whole = solve(table, betas, anneal=False, max_sweeps=3000)
    assert (thinned.lagrangian <= whole.lagrangian + 1e-9).all()
    assert (thinned.lagrangian >= whole.lagrangian - 1e-4).all()


def test_groups_of_a_tree_hold_all_inputs(table):
    problem = Problem.from_joint(table, False)
    log_p_z, log_s = _solver.thinned_start(problem, 2)
    assert log_p_z.shape == (2, 90)
    group = _duality_gap.groups(problem, 7)
    assert sorted(set(group)) == list(range(7))
    np.testing.assert_allclose(np.exp(log_p_z).sum(1), 1)
    np.testing.assert_allclose(np.exp(log_s).sum(2), 1)
