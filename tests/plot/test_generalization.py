"""Figures of generalization draw what the results hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkinfo as ni
from tests.problems import network, problem


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_examples(rng):
    x, y, *_ = problem(rng)
    value = ni.examples.value(ni.Posterior.fit(network(), x, y))
    points = ni.plot.examples(value, unit="bits").collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], value.information / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(points[:, 0], np.abs(value.residual[:, 0]), rtol=1e-6)
    with pytest.raises(ValueError, match="`value` must have an information"):
        ni.plot.examples(ni.examples.value(ni.Ensemble.fit(network(), x, y)))


def test_cmi(rng):
    x, y, *_ = problem(rng, n=8)
    times = np.array([0.0, 1.0, 100.0, np.inf])
    found = ni.cmi.supersample(network(), x, y, times, draws=16)
    ax = ni.plot.cmi(found, times)
    assert {line.get_label() for line in ax.lines} >= {"error", "training error", "binary-kl bound"}
    with pytest.raises(ValueError, match="`t` must be the times of `found`"):
        ni.plot.cmi(found, times[:2])
    with pytest.raises(ValueError, match="`found` must hold several times"):
        ni.plot.cmi(ni.cmi.supersample(network(), x, y, 1.0, draws=16), 1.0)


def test_learning(rng):
    import jax

    x, y, *_ = problem(rng)
    found = ni.learning.curve(network(), x, y, [5, 2, 8], draws=2, key=jax.random.key(0))
    ax = ni.plot.learning(found)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.asarray(found.error)[[1, 0, 2]])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), found.measured)
