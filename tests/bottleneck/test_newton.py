"""Derivatives of the free energy against differences of its definition, and Newton's steps down to a minimum."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from ntkinfo.bottleneck import _newton
from ntkinfo.bottleneck._distortion import Problem


@pytest.mark.parametrize("alpha", [1.0, 0.4])
@pytest.mark.parametrize("dual", [False, True])
def test_derivatives_are_those_of_differences(dual, alpha, rng):
    problem = Problem.from_joint(rng.dirichlet(np.ones(15)).reshape(5, 3), dual)
    beta = 7.0

    def free_energy(point):
        log_p, log_s = log_softmax(point[:, 0]), log_softmax(point[:, 1:], axis=1)
        pairs = problem.p_y_given_x[:, None, :], np.exp(log_s)[None]
        first, second = pairs[::-1] if dual else pairs
        d = np.sum(first * (np.log(first) - np.log(second)), axis=2)
        return -alpha * problem.p_x @ logsumexp((log_p[None] - beta * d) / alpha, axis=1)

    def derivatives(point):
        return _newton.derivatives(problem, beta, alpha, point[:, 0], point[:, 1:])

    point, h = rng.normal(size=(4, 4)), 1e-5
    found = derivatives(point)
    np.testing.assert_allclose(found.value, free_energy(point), rtol=1e-13)
    for i, unit in enumerate(np.eye(16).reshape(16, 4, 4)):
        ends = point + h * unit, point - h * unit
        slope = (free_energy(ends[0]) - free_energy(ends[1])) / (2 * h)
        np.testing.assert_allclose(found.gradient[i], slope, atol=1e-8)
        row = (derivatives(ends[0]).gradient - derivatives(ends[1]).gradient) / (2 * h)
        np.testing.assert_allclose(found.hessian[i], row, atol=1e-7)


def test_steps_end_at_a_minimum(rng):
    problem = Problem.from_joint(rng.dirichlet(np.ones(18)).reshape(6, 3), False)
    clusters = np.log(rng.dirichlet(np.ones(3))), np.log(rng.dirichlet(np.ones(3), size=3))
    assert not _newton.is_minimum(problem, 8.0, *clusters)
    refined = _newton.refine(problem, 8.0, 1.0, *clusters)
    before, after = (_newton.derivatives(problem, 8.0, 1.0, *each, False).value for each in (clusters, refined))
    assert after < before and _newton.is_minimum(problem, 8.0, *refined)
