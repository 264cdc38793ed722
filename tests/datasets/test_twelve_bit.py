"""The 12-bit task beside an icosahedron and spherical harmonics of the tests' own, and beside the published files."""

import functools
import itertools
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.io
from scipy.special import lpmv

from ntkinfo import datasets, discrete

SHARED = Path(__file__).parents[3] / "shared" / "data"
twelve_bit = datasets.twelve_bit


@functools.cache
def published(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not in ../shared/data")
    return scipy.io.loadmat(SHARED / name)


@functools.cache
def vertices():
    """The twelve vertices (0, ±1, ±φ) and their cyclic shifts, of length 1, in an order of their own."""
    golden = (1 + 5**0.5) / 2
    signs = np.array(list(itertools.product((1, -1), (1, -1))))
    flat = np.concatenate([np.zeros((4, 1)), signs * [[1, golden]]], axis=1)
    return np.concatenate([np.roll(flat, shift, axis=1) for shift in range(3)]) / math.hypot(1, golden)


def cosines_of_bits():
    """cos of the angle between the vertices of two bits: the score of degree 1 is |v + w| times a number."""
    task = twelve_bit(norms=(0, 1, 0))
    cosines = np.eye(12)
    for i, j in itertools.permutations(range(12), 2):
        row = 2 ** (11 - i) + 2 ** (11 - j)
        length = task.score[row] / (math.pi / 9 * math.sqrt(3 / (4 * math.pi)))
        cosines[i, j] = length**2 / 2 - 1
    return cosines


@functools.cache
def placed():
    """Vertices of the bits 0 to 11: by backtracking, the first placing whose angles are those of the bits."""
    wanted, angles = cosines_of_bits(), vertices() @ vertices().T

    def extend(chosen):
        if len(chosen) == 12:
            return chosen
        for v in set(range(12)) - set(chosen):
            if np.allclose(angles[v, chosen], wanted[len(chosen), : len(chosen)], atol=1e-9):
                found = extend([*chosen, v])
                if found:
                    return found
        return None

    order = extend([0])
    assert order is not None, "the bits do not sit on the vertices of an icosahedron"
    return vertices()[order]


def power(x, degree):
    """Σ_m |Σ_i x_i Y_lm(v_i)|² with complex spherical harmonics of associated Legendre functions."""
    v = placed()
    angle, total = np.arctan2(v[:, 1], v[:, 0]), 0.0
    for m in range(degree + 1):
        scale = (2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m)
        harmonic = math.sqrt(scale) * lpmv(m, degree, v[:, 2]) * np.exp(1j * m * angle)
        total = total + (2 if m else 1) * np.abs(x @ harmonic) ** 2
    return total


def rotations():
    """The 60 rotations as permutations of the bits: each takes one directed edge to another."""
    v = placed()
    edges = [(i, j) for i, j in itertools.permutations(range(12), 2) if abs(v[i] @ v[j] - 5**-0.5) < 1e-9]
    frames = [np.stack([v[i], v[j], np.cross(v[i], v[j])], axis=1) for i, j in edges]
    found = []
    for frame in frames:
        turned = v @ (frame @ np.linalg.inv(frames[0])).T
        found.append(np.argmax(turned @ v.T, axis=1))
        np.testing.assert_allclose(v[found[-1]], turned, atol=1e-12)
    return found


# The sphere


def test_the_bits_sit_on_an_icosahedron():
    cosines = cosines_of_bits()
    near, opposite = np.isclose(cosines, 5**-0.5), np.isclose(cosines, -1)
    assert (near.sum(0) == 5).all() and (opposite.sum(0) == 1).all()
    # Opposite is three edges away, and of the rest none is.
    steps = np.linalg.matrix_power(near + np.eye(12, dtype=int), 2) > 0
    np.testing.assert_array_equal(~steps, opposite)
    np.testing.assert_allclose(placed() @ placed().T, cosines, atol=1e-12)


@pytest.mark.parametrize("norms", [(1, 2, 0), (2, 5, 4), (0.3, 0, 1.7)])
def test_score_against_spherical_harmonics(norms):
    task = twelve_bit(norms=norms)
    expected = sum(math.pi / 3 * norm / (2 * k + 1) * np.sqrt(power(task.x, k)) for k, norm in enumerate(norms))
    np.testing.assert_allclose(task.score, expected, atol=1e-7)  # the root of a power of 0 loses half of the digits


def test_score_is_invariant_under_rotations():
    patterns = twelve_bit().x.astype(int)
    turns = rotations()
    assert len({tuple(turn) for turn in turns}) == 60
    for norms in ((1, 2, 0), (2, 5, 4)):
        score = twelve_bit(norms=norms).score
        assert len(np.unique(score)) == 64  # of equal scores every bit is equal
        for turn in turns:
            np.testing.assert_array_equal(score[patterns[:, turn] @ 2 ** np.arange(11, -1, -1)], score)
        swapped = patterns[:, [1, 0, *range(2, 12)]] @ 2 ** np.arange(11, -1, -1)  # no symmetry
        assert (score[swapped] != score).any()


def test_patterns_are_in_lexicographic_order():
    np.testing.assert_array_equal(twelve_bit().x, list(itertools.product((0, 1), repeat=12)))


# Probabilities


def entropy(p):
    return -sum(q * math.log(q) for q in np.ravel(p) if q > 0)


@pytest.mark.parametrize("options", [{}, {"labels": "soft"}, {"labels": "soft", "norms": (2, 5, 4), "gamma": 3.0}])
def test_probabilities(options):
    task = twelve_bit(**options)
    assert task.p_xy.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(task.p_xy.sum(1), 1 / 4096, rtol=1e-12)
    np.testing.assert_allclose(4096 * task.p_xy, task.p_y_given_x, rtol=1e-12)
    assert abs(task.p_xy[:, 1].sum() - 0.5) < 0.05
    truth = entropy(task.p_xy.sum(0)) - np.mean([entropy(row) for row in task.p_y_given_x])
    assert task.mutual_information == pytest.approx(truth, abs=1e-12)
    assert float(discrete.mutual_information(task.p_xy)) == pytest.approx(truth, abs=1e-12)
    np.testing.assert_array_equal(task.labels, task.score > task.theta)
    if math.isfinite(task.gamma):
        logit = np.log(task.p_y_given_x[:, 1] / task.p_y_given_x[:, 0])
        np.testing.assert_allclose(logit, task.gamma * (task.score - task.theta), rtol=1e-9, atol=1e-9)
    else:
        np.testing.assert_array_equal(task.p_y_given_x[:, 1], task.labels)


def test_threshold_is_the_most_even_one():
    task = twelve_bit()
    values = np.unique(task.score)
    shares = [abs(np.mean(task.score > value) - 0.5) for value in values]
    assert abs(task.labels.mean() - 0.5) == min(shares) < 0.02
    assert task.theta == pytest.approx(np.mean(values[[np.argmin(shares), np.argmin(shares) + 1]]), abs=1e-9)
    assert twelve_bit(theta=2.0).labels.mean() == np.mean(task.score > 2.0)


@pytest.mark.parametrize("information", [1e-6, 0.1, 0.5, 0.692])
def test_information_asked_for_is_reached(information):
    task = twelve_bit(labels="soft", information=information)
    assert task.mutual_information == pytest.approx(information, rel=1e-7, abs=1e-13)
    assert float(discrete.mutual_information(task.p_xy)) == pytest.approx(information, rel=1e-6, abs=1e-13)


def test_default_of_soft_labels_and_the_hard_limit():
    assert twelve_bit(labels="soft").mutual_information == pytest.approx(0.99 * math.log(2), abs=1e-12)
    steep, hard = twelve_bit(labels="soft", gamma=1e6), twelve_bit()
    np.testing.assert_array_equal(steep.p_y_given_x, hard.p_y_given_x)
    assert steep.mutual_information == hard.mutual_information


def test_labels_are_drawn_with_their_probabilities():
    task, repeats = twelve_bit(labels="soft", information=0.3), 200
    drawn = np.stack([task.draw(seed=seed) for seed in range(repeats)])
    assert drawn.shape == (repeats, 4096) and drawn.dtype == np.int64 and set(np.unique(drawn)) == {0, 1}
    p = task.p_y_given_x[:, 1]
    for value in np.unique(task.score):
        rows = task.score == value
        error = math.sqrt(np.mean(p[rows] * (1 - p[rows])) / (repeats * rows.sum()))
        # Nearly certain labels have no normal law: half a count of room.
        assert abs(drawn[:, rows].mean() - p[rows].mean()) < 5 * error + 0.5 / (repeats * rows.sum())
    # Labels of different patterns and seeds are independent.
    z = (drawn - p[None]) / np.sqrt(p * (1 - p))[None]
    usual = (p > 0.05) & (p < 0.95)
    both = z[:, usual][:, ::2][:, :1000] * z[:, usual][:, 1::2][:, :1000]
    assert abs(both.mean()) < 5 / math.sqrt(both.size)
    assert abs((z[1:, usual] * z[:-1, usual]).mean()) < 5 / math.sqrt(z[1:, usual].size)
    np.testing.assert_array_equal(task.draw(seed=3), drawn[3])
    np.testing.assert_array_equal(twelve_bit().draw(seed=0), twelve_bit().labels)


# The published files


def test_hard_labels_are_the_published_ones():
    file = published("var_u.mat")
    task = twelve_bit()
    np.testing.assert_array_equal(task.x, file["F"])
    np.testing.assert_array_equal(task.labels, file["y"][0])
    assert task.labels.mean() == pytest.approx(0.51709, abs=5e-6)
    assert task.mutual_information / math.log(2) == pytest.approx(0.99916, abs=5e-6)


def test_soft_labels_are_the_published_ones():
    file = published("regular_90.mat")
    # The arguments the docstring names are the parameters in the file.
    options = {"norms": (2, 5, 4), "theta": 5.89, "gamma": 12}
    assert tuple(file["ref_norms"][0]) == (2, 5, 4) and file["threshold"] == 5.89 and file["sigma"] == 12
    task = twelve_bit(labels="soft", **options)
    np.testing.assert_array_equal(task.x, file["F"])
    np.testing.assert_allclose(task.p_y_given_x[:, 1], file["y"][0], rtol=0, atol=1e-12)
    assert task.mutual_information / math.log(2) == pytest.approx(0.8995, abs=5e-5)


def test_the_third_file_is_no_function_of_the_score():
    p = published("all.mat")["PYX"][0]  # the first of its rows is that of y = 1
    np.testing.assert_array_equal(p > 0.5, twelve_bit().labels)
    score = twelve_bit().score
    assert max(np.ptp(p[score == value]) for value in np.unique(score)) > 1e-3


# The object and its refusals


def test_float32_and_pytree():
    wide, narrow = twelve_bit(labels="soft"), twelve_bit(labels="soft", dtype=np.float32)
    for name in ("x", "p_y_given_x", "p_xy", "score"):
        assert getattr(wide, name).dtype == np.float64 and getattr(narrow, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(narrow, name), getattr(wide, name).astype(np.float32))
    assert narrow.labels.dtype == np.int64 and narrow.gamma == wide.gamma
    leaves, tree = jax.tree.flatten(wide)
    assert len(leaves) == 8 and isinstance(jax.tree.unflatten(tree, leaves), datasets.TwelveBit)
    total = jax.jit(lambda task: task.p_xy.sum() * task.mutual_information)(wide)
    assert float(total) == pytest.approx(wide.mutual_information, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": "fuzzy"}, ValueError, "`labels` must be one of 'hard', 'soft'; got 'fuzzy'"),
        ({"information": 0.5}, ValueError, "must be None for hard labels.*got 0.5 and None"),
        ({"gamma": 3.0}, ValueError, "must be None for hard labels.*got None and 3.0"),
        ({"labels": "soft", "gamma": 3.0, "information": 0.5}, ValueError, "must not both be given"),
        ({"labels": "soft", "information": 0.7}, ValueError, "must be below 0.692563 nats.*got 0.7"),
        ({"labels": "soft", "information": 0.0}, ValueError, "`information` must be positive and finite; got 0.0"),
        ({"labels": "soft", "information": math.nan}, ValueError, "`information` must be positive and finite; got nan"),
        ({"labels": "soft", "information": "high"}, TypeError, "`information` must be a real number"),
        ({"labels": "soft", "gamma": -1.0}, ValueError, "`gamma` must be positive and finite; got -1.0"),
        ({"labels": "soft", "gamma": math.inf}, ValueError, "`gamma` must be positive and finite; got inf"),
        ({"labels": "soft", "gamma": [1.0, 2.0]}, ValueError, "`gamma` must be one number"),
        ({"theta": "a"}, ValueError, "`theta` must be a finite number"),
        # At a threshold that is a score, that score keeps p = 1/2 whatever the slope.
        (
            {"labels": "soft", "theta": 2.2902360208398838, "information": 0.69},
            ValueError,
            "must be below 0.681801 nats",
        ),
        ({"norms": (1, -2, 0)}, ValueError, "`norms` must be not negative and finite; got -2"),
        ({"norms": (1, math.nan, 0)}, ValueError, "`norms` must be not negative and finite; got nan"),
        ({"norms": (1, 2)}, ValueError, r"`norms` must be the three weights.*got shape \(2,\)"),
        ({"norms": (0, 0, 0)}, ValueError, "`norms` must not all be zero"),
        ({"norms": ("a", "b", "c")}, TypeError, "`norms` must be a real number"),
        ({"theta": math.nan}, ValueError, "`theta` must be a finite number; got nan"),
        ({"theta": np.zeros(2)}, ValueError, "`theta` must be a finite number"),
        ({"dtype": np.float16}, ValueError, "`dtype` must be float32 or float64"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        twelve_bit(**options)


def test_refusals_of_draw():
    with pytest.raises(ValueError, match="`seed` must be at least 0; got -1"):
        twelve_bit().draw(seed=-1)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        twelve_bit().draw(seed=1.5)
