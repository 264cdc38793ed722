"""Greedy selection: against exhaustive search, determinants, and its guarantee."""

import itertools

import numpy as np
import pytest

import ntkinfo as ni
from tests.problems import network


@pytest.mark.parametrize("prior", ["nngp", "ntk"])
def test_against_exhaustive_search(prior):
    ratios = []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(10, 3))
        q = np.asarray(getattr(ni.kernels.kernels(network(), x), prior))

        def gain(rows, q=q):
            return 0.5 * np.linalg.slogdet(np.eye(len(rows)) + q[np.ix_(rows, rows)] / 0.1)[1]

        chosen = ni.examples.select(network(), x, 4, noise=0.1, prior=prior)
        index = list(np.asarray(chosen.index))
        assert len(set(index)) == 4
        np.testing.assert_allclose(chosen.information, [gain(index[: j + 1]) for j in range(4)], rtol=1e-9)
        best = max(gain(list(rows)) for rows in itertools.combinations(range(10), 4))
        assert (1 - 1 / np.e) * best <= chosen.information[-1] <= best + 1e-9 <= chosen.bound + 2e-9
        # What the theorem guarantees follows from the bound, which is sharper: their proof, for each n.
        assert chosen.bound <= chosen.information[-1] / (1 - (1 - 1 / 4) ** 4) * (1 + 1e-12)
        # The bound itself, by submodularity at each of the first choices.
        potentials = []
        for have in (index[:j] for j in range(4)):
            more = sorted(gain([*have, i]) - gain(have) for i in range(10) if i not in have)
            potentials.append(gain(have) + sum(more[-4:]))
        np.testing.assert_allclose(chosen.bound, min(potentials), rtol=1e-9)
        # Each step takes the best there is.
        for j in range(4):
            rest = [gain([*index[:j], i]) for i in range(10) if i not in index[:j]]
            np.testing.assert_allclose(chosen.information[j], max(rest), rtol=1e-9)
        ratios.append(chosen.information[-1] / best)
    assert max(ratios) > 0.97


def test_equal_inputs_are_taken_last(rng):
    x = rng.normal(size=(3, 4))
    chosen = ni.examples.select(network(), np.concatenate([x, x]), 4, noise=0.01)
    assert set(np.asarray(chosen.index)[:3] % 3) == {0, 1, 2}
    everything = ni.examples.select(network(), x, 3, noise=0.01)
    # The whole pool: nothing better is left.
    np.testing.assert_allclose(everything.bound, everything.information[-1], rtol=1e-9)
    assert ni.examples.select(network(), x.astype(np.float32), 2).information.dtype == np.float32


def test_refusals(rng):
    x = rng.normal(size=(5, 3))
    with pytest.raises(ValueError, match="`n` must be at most the number of inputs in the pool, 5; got 6"):
        ni.examples.select(network(), x, 6)
    with pytest.raises(ValueError, match="`noise` must be positive"):
        ni.examples.select(network(), x, 2, noise=0.0)
    with pytest.raises(ValueError, match="`prior` must be one of"):
        ni.examples.select(network(), x, 2, prior="nothing")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_does_not_pass_for_information(rng, dtype):
    """Repeated examples add half log 2 each, at a noise above rounding; below it they are refused."""
    x = np.repeat(rng.normal(size=(3, 4)), 2, axis=0).astype(dtype)
    noise = 1e-9 if dtype == np.float64 else 1e-3
    found = ni.examples.select(network(), x, 6, noise=noise)
    np.testing.assert_allclose(np.diff(found.information)[2:], 0.5 * np.log(2), rtol=0.02)
    with pytest.raises(ValueError, match="`noise` must exceed the rounding error of posterior variances"):
        ni.examples.select(network(), x, 6, noise=1e-30)
    assert np.isfinite(ni.examples.select(network(), x, 3, noise=1e-30).information).all()
