"""Block Lanczos on small dense matrices."""

import numpy as np
import pytest

from ntkinfo._numerics.block_lanczos import BlockLanczos


def matrices(rng, n=40):
    roots = rng.normal(size=(2, n, n))
    return [root @ root.T / n for root in roots]


def run(ntk, nngp, start, steps):
    lanczos = BlockLanczos(start)
    for _ in range(steps):
        if not lanczos.exhausted:
            lanczos.step(lambda v: (ntk @ v, nngp @ v))
    return lanczos


def test_the_projections_are_those_of_the_basis(rng):
    ntk, nngp = matrices(rng)
    lanczos = run(ntk, nngp, rng.normal(size=(40, 3)), 4)
    v = lanczos.basis[:, : lanczos.sizes[-1]]
    np.testing.assert_allclose(lanczos.basis.T @ lanczos.basis, np.eye(15), atol=1e-13)
    np.testing.assert_allclose(lanczos.ntk, v.T @ ntk @ v, atol=1e-13)
    np.testing.assert_allclose(lanczos.nngp, v.T @ nngp @ v, atol=1e-13)
    assert lanczos.sizes == [3, 6, 9, 12]
    for size in (6, 12):
        # What Θ makes of the basis lies in the basis and in the block that comes next.
        rest = ntk @ lanczos.basis[:, :size] - lanczos.basis[:, :size] @ lanczos.ntk[:size, :size]
        np.testing.assert_allclose(lanczos.basis[:, size : size + 3] @ lanczos.beyond(size), rest, atol=1e-12)


def test_dependent_columns_are_dropped(rng):
    ntk, nngp = matrices(rng)
    columns = rng.normal(size=(40, 2))
    # One-hot labels less their mean: the last is minus the sum of the others; and a column of zeros.
    lanczos = run(ntk, nngp, np.column_stack([columns, -columns.sum(1), np.zeros(40)]), 3)
    assert lanczos.sizes == [2, 4, 6]


@pytest.mark.parametrize("rank", [5, 40])
def test_a_closed_space_is_exhausted_and_exact(rng, rank):
    root = rng.normal(size=(40, rank))
    ntk = root @ root.T
    start = root @ rng.normal(size=(rank, 3))
    lanczos = run(ntk, ntk, start, 40)
    assert lanczos.exhausted and lanczos.sizes[-1] == rank
    v = lanczos.basis
    np.testing.assert_allclose(v @ lanczos.ntk @ v.T, ntk, atol=1e-10 * np.abs(ntk).max())


def test_columns_of_very_different_lengths_are_all_kept(rng):
    ntk, nngp = matrices(rng)
    start = rng.normal(size=(40, 3)) * np.array([1.0, 1e-9, 1e9])
    assert run(ntk, nngp, start, 2).sizes == [3, 6]
