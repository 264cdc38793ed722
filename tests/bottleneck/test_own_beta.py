"""The β of an encoder by its own decoder: against a dense grid, at solutions of the equations, and at hard labels."""

import numpy as np
import pytest
from scipy.special import logsumexp

import ntkinfo as ni
from ntkinfo.bottleneck import own_beta


def divergence(p, encoder, beta):
    """E_x D[p(z|x) ‖ p_β(z|x)] written out, for positive tables."""
    p_x = p.sum(1)
    p_z, p_y_z = p_x @ encoder, (encoder.T @ p) / (p_x @ encoder)[:, None]
    p_y_x = p / p_x[:, None]
    d = np.array([[np.sum(row * np.log(row / other)) for other in p_y_z] for row in p_y_x])
    made = np.log(p_z) - beta * d
    made -= logsumexp(made, axis=1, keepdims=True)
    logs = np.log(np.where(encoder > 0, encoder, 1)) - made
    return np.sum(p_x[:, None] * encoder * logs)


@pytest.fixture
def table(rng):
    return rng.dirichlet(np.full(24, 0.7)).reshape(8, 3)


def test_solutions_of_the_bottleneck_have_their_own_beta(table):
    curve = ni.bottleneck.ib(table, np.array([6.0, 30.0]), progress=False)
    for beta, encoder in zip(curve.beta, np.asarray(curve.encoder), strict=True):
        found = own_beta(table, encoder)
        assert found.beta == pytest.approx(float(beta), rel=1e-3) and found.divergence < 1e-6


def test_against_a_grid(table, rng):
    grid = np.geomspace(0.05, 500, 4000)
    cells = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    for encoder in (rng.dirichlet(np.ones(4), size=8), np.eye(4)[cells], np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]):
        values = [divergence(table, encoder, beta) for beta in grid]
        found = own_beta(table, encoder)
        assert found.divergence == pytest.approx(min(values), abs=1e-4)
        if found.beta < 400:
            assert found.beta == pytest.approx(grid[np.argmin(values)], rel=5e-3)
            assert found.divergence == pytest.approx(divergence(table, encoder, found.beta), abs=1e-9)
    assert own_beta(table, cells) == pytest.approx(own_beta(table, np.eye(4)[cells]), rel=1e-9)
    # Other numbers for the same clusters, inputs of probability spread over copies, float32.
    assert own_beta(table, 7 * cells - 3) == own_beta(table, cells)
    doubled = own_beta(np.repeat(table / 2, 2, axis=0), np.repeat(cells, 2))
    assert doubled == pytest.approx(own_beta(table, cells), rel=1e-9)
    assert own_beta(table.astype(np.float32), cells) == pytest.approx(own_beta(table, cells), rel=1e-4)


def test_the_ends(table):
    assert own_beta(table, np.zeros(8, int)) == (0.0, pytest.approx(0.0, abs=1e-12))
    everything = own_beta(table, np.arange(8))
    assert everything.beta == np.inf and everything.divergence == pytest.approx(0.0, abs=1e-9)


def test_hard_labels_have_beta_one_whatever_the_encoder(rng):
    y = rng.integers(3, size=60)
    for encoder in (rng.integers(9, size=60), rng.dirichlet(np.ones(5), size=60)):
        assert own_beta(np.eye(3)[y] / 60, encoder).beta == pytest.approx(1.0, rel=1e-6)
    assert own_beta(np.eye(3)[y] / 60, y).beta == np.inf


def test_clusters_may_be_booleans(table):
    clusters = np.arange(len(table)) % 2
    assert own_beta(table, clusters == 1) == own_beta(table, clusters)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (np.zeros(5, int), "one cluster for each of the 8 inputs"),
        (np.full((8, 2), 0.6), "`encoder` must"),
        (np.zeros((8, 2), int), "`encoder` must"),
        (np.full(8, 0.5), "`encoder` must"),
    ],
)
def test_bad_encoders_are_refused(table, encoder, said):
    with pytest.raises((TypeError, ValueError), match=said):
        own_beta(table, encoder)
