"""Bands for informations from counts: they cover, they are proven step by step, and the bootstrap is near."""

import itertools

import jax
import numpy as np
import pytest

import ntkinfo as ni

P = np.array([[0.2, 0.1], [0.05, 0.25], [0.3, 0.1]])
ENCODERS = np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])


def truth():
    i_xz = [ni.discrete.mutual_information(P.sum(1)[:, None] * e) for e in ENCODERS]
    return np.array(i_xz), np.array([ni.discrete.mutual_information(e.T @ P) for e in ENCODERS])


def samples(m, repeats, seed=0):
    return np.random.default_rng(seed).multinomial(m, P.ravel(), size=repeats).reshape(repeats, 3, 2)


def test_bands_cover_the_truth():
    i_xz, i_zy = truth()
    inside = {"proven": 0, "bootstrap": 0}
    for j, counts in enumerate(samples(400, 60)):
        for method in inside:
            band = ni.bottleneck.confidence_band(
                counts, ENCODERS, delta=0.1, method=method, draws=200, key=jax.random.key(j)
            )
            covers = (band.i_xz_lower <= i_xz) & (i_xz <= band.i_xz_upper)
            covers &= (band.i_zy_lower <= i_zy) & (i_zy <= band.i_zy_upper)
            inside[method] += np.mean(covers)
    # Proven for all together, and wide; the bootstrap each for itself, with 60 tables a few per cent off.
    assert inside["proven"] == 60
    assert inside["bootstrap"] / 60 > 0.75


def test_bands_narrow_and_the_bootstrap_is_narrower():
    widths = []
    for m in (10_000, 1_000_000):
        counts = np.round(P * m)
        proven = ni.bottleneck.confidence_band(counts, ENCODERS[1])
        resampled = ni.bottleneck.confidence_band(counts, ENCODERS[1], method="bootstrap", key=jax.random.key(0))
        np.testing.assert_allclose([proven.i_xz, proven.i_zy], [truth()[0][1], truth()[1][1]], rtol=1e-10)
        assert resampled.i_zy_upper - resampled.i_zy_lower < proven.i_zy_upper - proven.i_zy_lower
        widths.append(float(proven.i_xz_upper - proven.i_xz_lower))
    # Like log(m)/√m.
    assert widths[1] < 0.3 * widths[0] and widths[1] < 0.1


def test_one_example_changes_informations_by_no_more_than_is_said():
    """The constants of the proof, by replacing every example by every other one."""
    m, z, y = 12, 2, 2
    change = [2 / m * np.log(m * cells / 2) for cells in (z, y, z * y)]
    for counts in samples(m, 20, seed=3):
        pairs = list(itertools.product(range(3), range(2)))
        values = {}
        for gone, come in itertools.product(pairs, pairs):
            if counts[gone]:
                moved = counts.copy()
                moved[gone] -= 1
                moved[come] += 1
                band = _values(moved)
                values[gone, come] = band
        here = _values(counts)
        worst = np.max([np.abs(np.array(v) - here) for v in values.values()], axis=0)
        assert np.all(worst[0] <= change[0] + np.log(z) / m) and np.all(worst[1] <= sum(change))


def _values(counts):
    p = counts / counts.sum()
    i_xz = [float(ni.discrete.mutual_information(p.sum(1)[:, None] * e)) for e in ENCODERS]
    return np.array([i_xz, [float(ni.discrete.mutual_information(e.T @ p)) for e in ENCODERS]])


def test_means_are_off_by_no_more_than_is_said():
    m = 30
    values = np.mean([_values(counts) for counts in samples(m, 400, seed=5)], axis=0)
    i_xz, i_zy = truth()
    assert np.all(values[0] <= i_xz + 0.02) and np.all(values[0] >= i_xz - 1 / m - 0.02)
    assert np.all(values[1] >= i_zy - 2 / m - 0.02) and np.all(values[1] <= i_zy + 3 / m + 0.02)


def test_refusals():
    call = ni.bottleneck.confidence_band
    for counts in (P, -np.ones((3, 2)), np.ones((3, 2, 1)), np.eye(3)[:, :2]):
        with pytest.raises(ValueError, match="`counts` must"):
            call(counts, ENCODERS)
    with pytest.raises(ValueError, match="`encoder` must have shape"):
        call(np.ones((4, 2)), ENCODERS)
    with pytest.raises(ValueError, match="`encoder` must hold probabilities"):
        call(np.ones((3, 2)), 2 * ENCODERS)
    with pytest.raises(ValueError, match="`delta` must lie"):
        call(np.ones((3, 2)), ENCODERS, delta=1.0)
    with pytest.raises(ValueError, match="`key` must be given"):
        call(np.ones((3, 2)), ENCODERS, method="bootstrap")
    for name, value in (("draws", 5), ("key", jax.random.key(0))):
        with pytest.raises(TypeError, match=f"`{name}` is being traced"):
            jax.jit(lambda value, name=name: call(P, ENCODERS, **{"method": "bootstrap", name: value}))(value)
    # One cluster tells nothing, for sure.
    band = call(np.ones((3, 2)), np.ones((3, 1)))
    assert band.i_xz_upper == 0 and band.i_zy_upper == 0


def test_the_proven_band_is_that_of_its_formula():
    """McDiarmid for four informations at once, and the bias of frequencies on the side where it counts."""
    m, delta = 10**6, 0.1
    counts = np.round(m * P).astype(int)
    band = ni.bottleneck.confidence_band(counts, ENCODERS, delta=delta)
    root = np.sqrt(m * np.log(2 / (delta / 4)) / 2)
    two, four = 2 / m * np.log(m), 2 / m * np.log(2 * m)
    i_xz, i_zy = truth()
    of_x, of_y = root * (two + np.log(2) / m), root * (2 * two + four)
    assert of_x < i_xz.min() and of_y < i_zy.max()
    np.testing.assert_allclose(band.i_xz_lower, i_xz - of_x, rtol=1e-9)
    np.testing.assert_allclose(band.i_xz_upper, np.minimum(i_xz + of_x + 1 / m, np.log(2)), rtol=1e-9)
    np.testing.assert_allclose(band.i_zy_lower, np.maximum(i_zy - of_y - 3 / m, 0), rtol=1e-9)
    np.testing.assert_allclose(band.i_zy_upper, i_zy + of_y + 2 / m, rtol=1e-9)
