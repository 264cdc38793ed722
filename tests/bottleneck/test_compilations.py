"""How many programs the bottlenecks compile: the searches none at all, the closed form one for each size."""

import numpy as np
import pytest

from ntkinfo import bottleneck
from tests.compilations import counted


def table(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(3 * n)).reshape(n, 3)


BETA = np.array([2.0, 6.0, 25.0])
SEARCHES = {
    "ib": lambda p_xy: bottleneck.ib(p_xy, BETA, certificate=True),
    "dual_ib": lambda p_xy: bottleneck.dual_ib(p_xy, BETA, certificate=True),
    "deterministic_ib": lambda p_xy: bottleneck.deterministic_ib(p_xy, BETA),
    "critical_betas": lambda p_xy: bottleneck.critical_betas(p_xy, beta_max=1.5),
    "bifurcation": lambda p_xy: bottleneck.bifurcation(p_xy, BETA[:1]),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_compile_nothing(name):
    with counted() as count:
        for p_xy in (table(5), table(5, seed=1), table(6)):
            SEARCHES[name](p_xy)
    assert count.number == 0


def test_the_closed_form_compiles_one_program_for_each_size():
    def solve(n, scale):
        covariance = scale * (np.eye(n) + 0.2)
        return bottleneck.gaussian_ib(covariance, covariance, 0.5 * covariance, BETA)

    solve(3, 1.0)
    with counted() as same:
        solve(3, 1.0)
        solve(3, 2.0)
    with counted() as neighbour:
        solve(4, 1.0)
    assert same.number == 0 and neighbour.number <= 1
