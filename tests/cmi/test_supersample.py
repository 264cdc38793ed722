"""Conditional mutual information of a supersample: against refits and dense enumeration, order, bounds, sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import ntkinfo as ni
from ntkinfo._numerics.bivariate_normal import upper_quadrant
from ntkinfo.cmi import _moments, _outcomes
from tests.problems import network

N, TIMES = 4, np.array([0.0, 5.0, 300.0, np.inf])


def pairs(n=N, k=1, seed=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 3))
    score = x[:, 0] + 0.7 * rng.normal(size=2 * n)
    y = np.where(score > 0, 1.0, -1.0)
    return x, y if k == 1 else np.eye(k)[(score > 0).astype(int) + (score > 1)]


@pytest.fixture(scope="module")
def found():
    return ni.cmi.supersample(network(), *pairs(), TIMES, draws=16)


def coin(first, second):
    """I(L;U) of two rows of probabilities, written out."""
    middle, terms = (first + second) / 2, []
    for p in (first, second):
        terms += [a * np.log(a / b) for a, b in zip(p, middle, strict=True) if a > 0]
    return 0.5 * sum(terms)


def test_quadrants_of_the_bivariate_normal(rng):
    for rho in (0.0, 0.4, -0.8, 0.92, 0.94, -0.96, 0.999, -0.9999):
        h = rng.normal(size=(6, 2))
        h[3:, 1] = np.sign(rho) * h[3:, 0] + 0.02 * rng.normal(size=3)
        got = jax.jit(upper_quadrant)(*jnp.asarray(h.T), jnp.asarray(rho))
        want = [multivariate_normal.cdf(-row, cov=[[1, rho], [rho, 1]], abseps=1e-13, releps=1e-13) for row in h]
        np.testing.assert_allclose(got, want, atol=1e-9)
    ends = jax.jit(upper_quadrant)(jnp.array([1.0, -jnp.inf, jnp.inf, 0.5, 0.5]), jnp.array([0.5, 0.5, 0.0, 0.2, 0.2]),
                          jnp.array([1.0, 0.3, 0.3, 1.0, -1.0]))  # fmt: skip
    np.testing.assert_allclose(ends, [0.15865525393145707, 0.3085375387259869, 0, 0.3085375387259869, 0], atol=1e-15)


def test_moments_are_those_of_an_ensemble_of_the_chosen_examples():
    x, y = pairs()
    y = y[:, None]
    both = ni.kernels.kernels(network(), x)
    side = np.array([0, 1, 1, 0])
    kept, left = np.arange(N) + N * side, np.arange(N) + N * (1 - side)
    got = _moments.moments(*(np.asarray(part) for part in both), y, side, TIMES / N, 2.2e-16)
    z = ni.Ensemble.fit(network(), x[kept], y[kept]).predict(np.concatenate([x[kept], x[left]]), TIMES, joint=True)
    np.testing.assert_allclose(got.trained, z.mean[:, :N], atol=1e-9)
    np.testing.assert_allclose(got.tested, z.mean[:, N:], atol=1e-9)
    np.testing.assert_allclose(got.variance_trained, z.variance[:, :N], atol=1e-9)
    np.testing.assert_allclose(got.variance_tested, z.variance[:, N:], atol=1e-9)
    between = np.diagonal(np.asarray(z.covariance)[:, :N, N:], axis1=1, axis2=2)
    np.testing.assert_allclose(got.covariance, between, atol=1e-9)


def test_against_every_choice_written_out(found):
    """Refits of every choice, probabilities by SciPy, informations by hand, at one time."""
    x, y = pairs()
    where = 1
    table = np.zeros((2, N, 4))
    for bits in itertools.product((0, 1), repeat=N):
        bits = np.array(bits)
        kept = np.arange(N) + N * bits
        z = ni.Ensemble.fit(network(), x[kept], y[kept]).predict(x, TIMES[where], joint=True)
        mean, covariance = np.asarray(z.mean[:, 0]) * y, np.asarray(z.covariance) * np.outer(y, y)
        for i in range(N):
            rows = [i, N + i]
            right = multivariate_normal.cdf(mean[rows], cov=covariance[np.ix_(rows, rows)], abseps=1e-12)
            one, two = (multivariate_normal.cdf(mean[j], cov=covariance[j, j]) for j in rows)
            table[bits[i], i] += np.array([right, one - right, two - right, 1 - one - two + right]) / 2 ** (N - 1)
    e = np.mean([coin(*table[:, i]) for i in range(N)])
    merged = np.stack([table[..., 0] + table[..., 3], table[..., 1], table[..., 2]], axis=-1)
    ld = [coin(*merged[:, i]) for i in range(N)]
    wrong = np.stack([table[..., 2] + table[..., 3], table[..., 1] + table[..., 3]])
    np.testing.assert_allclose(found.e_information[where], e, atol=1e-8)
    np.testing.assert_allclose(found.information[where], np.mean(ld), atol=1e-8)
    np.testing.assert_allclose(found.square_root[where], np.mean(np.sqrt(2 * np.array(ld))), atol=1e-7)
    np.testing.assert_allclose(found.train_error[where], 0.5 * np.mean(wrong[0, 0] + wrong[1, 1]), atol=1e-8)
    np.testing.assert_allclose(found.error[where], 0.5 * np.mean(wrong[1, 0] + wrong[0, 1]), atol=1e-8)
    assert found.enumerated and np.all(found.stderr == 0)


def holds(found):
    """Data processing, and every bound above what it bounds."""
    assert np.all(found.information <= found.e_information + 1e-12)
    assert np.all(found.e_information <= np.log(2) + 1e-12)
    assert np.all(np.abs(found.gap) <= found.square_root + 1e-7)
    for bound in (found.interpolation, found.binary_kl, found.bound):
        assert np.all(found.error <= bound + 1e-7)


def test_order_gap_and_ends(found):
    holds(found)
    # Before training nothing tells which example will be used.
    np.testing.assert_allclose([found.information[0], found.e_information[0], found.gap[0]], 0.0, atol=1e-12)
    assert found.train_error[-1] == 0 and np.isfinite(found.interpolation[-1]) and np.isinf(found.interpolation[0])
    assert 0.05 < found.error[-1] < 0.95
    with_outputs = ni.cmi.supersample(network(), *pairs(), TIMES, draws=16, outputs=True, key=jax.random.key(0))
    assert np.all(with_outputs.f_information >= with_outputs.e_information - 4 * with_outputs.f_stderr - 1e-12)
    np.testing.assert_allclose(with_outputs.f_information[np.array([0, -1])], [0, np.log(2)], atol=1e-9)
    assert 0 < with_outputs.f_information[1] < np.log(2)


def test_the_binary_kl_bound_is_its_definition(found):
    middle = (found.train_error + found.binary_kl) / 2
    np.testing.assert_allclose(ni.bounds.binary_kl(found.train_error, middle)[1:], found.e_information[1:], rtol=1e-8)


def test_draws_agree_with_enumeration():
    x, y = pairs(n=8)
    every = ni.cmi.supersample(network(), x, y, np.inf, draws=256)
    some = ni.cmi.supersample(network(), x, y, np.inf, draws=128, key=jax.random.key(2))
    assert every.enumerated and not some.enumerated
    assert abs(some.information - some.bias - every.information) < 5 * some.stderr
    assert 0 <= some.bias < 0.1 and 0 < some.stderr < 0.05
    # Few choices are told apart too easily.
    few = [ni.cmi.supersample(network(), x, y, np.inf, draws=8, key=jax.random.key(i)).information for i in range(8)]
    assert np.mean(few) > every.information
    holds(some)


def test_many_times_cost_few_nodes():
    """Against times one by one: eigenvalues over eight decades, a rank, equal ones, infinity."""
    n, rng = 60, np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=(2 * n, 2 * n)))[0]
    for spectrum in (np.geomspace(1e-6, 100, 2 * n), np.repeat([0.0, 1.0, 3.0], 2 * n // 3)):
        ntk = (u * spectrum) @ u.T
        nngp = np.eye(2 * n) + 0.5 * ntk
        s = np.concatenate([[0.0], np.geomspace(1e-3, 1e8, 60), [np.inf]])
        given = nngp, ntk, rng.normal(size=(2 * n, 2)), rng.integers(0, 2, n)
        many, one = _moments.moments(*given, s, 2.2e-16), _moments.moments(*given, s[::10], 2.2e-16)
        for name, part, want in zip(many._fields, many, one, strict=True):
            if name != "smallest":
                np.testing.assert_allclose(part[::10], want, atol=1e-7 * max(1.0, np.abs(want).max()), err_msg=name)
    rates = np.concatenate([np.zeros(3), np.sort(rng.uniform(0.1, 5.0, 57))])
    cells = _moments.cells(rates)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[cell.rows] for cell in cells]), np.arange(n))
    for cell in cells:
        np.testing.assert_allclose(cell.weights @ np.exp(-2 * cell.nodes), np.exp(-2 * rates[cell.rows]), atol=1e-8)
    assert sum(len(cell.nodes) for cell in cells) < 50


def test_several_classes():
    x, y = pairs(k=3)
    key = jax.random.key(0)
    three = ni.cmi.supersample(network(outputs=3), x, y, TIMES, draws=16, key=key)
    holds(three)
    assert three.train_error[-1] == 0
    # The errors against refits, with the error of sampled networks: 16 for each of 16 choices.
    errors = []
    for bits in itertools.product((0, 1), repeat=N):
        kept, left = np.arange(N) + N * np.array(bits), np.arange(N) + N * (1 - np.array(bits))
        z = ni.Ensemble.fit(network(outputs=3), x[kept], y[kept]).predict(x[left], TIMES)
        errors.append(ni.information.losses(z, y[left]).gibbs_error)
    np.testing.assert_allclose(three.error, np.mean(errors, axis=0), atol=5 * 0.5 / np.sqrt(16 * 16 * N))


def test_sampled_losses_of_classes_are_those_of_signs(rng):
    """Two independent outputs f and g: the first wins where f - g > 0, one output of twice the variance."""
    mean = rng.normal(size=(2, 3, 2))
    variances, covariance = (jnp.array([1.0, 0.5, 2.0]), jnp.array([0.7, 1.0, 1.0])), jnp.array([0.5, -0.3, 0.9])
    classes = jnp.array([0, 1, 0]), jnp.array([1, 1, 0])
    drawn = mean, (*variances, covariance), classes

    def sampled(more):
        """Losses of the three pairs, with as many `more` filled in behind them."""
        (first, second), parts, numbers = jax.tree.map(lambda a: jnp.asarray(a), drawn)
        first, second = (jnp.pad(part, ((0, more), (0, 0)))[None] for part in (first, second))
        *parts, between = (jnp.pad(part, (0, more))[None] for part in parts)
        numbers = [jnp.pad(part, (0, more))[None] for part in numbers]
        found = _outcomes.of_classes(jax.random.key(0), first, second, parts, between, numbers, 20000, 3)
        return np.asarray(found)[0, :3]

    got = sampled(0)
    np.testing.assert_array_equal(sampled(1), got)
    signs = [1.0 - 2.0 * c for c in classes]
    gaps = mean[..., 0] - mean[..., 1]
    want = _outcomes.of_signs(*jnp.asarray(gaps), [2 * v for v in variances], 2 * covariance, *signs)
    np.testing.assert_allclose(got, want, atol=5 * 0.5 / np.sqrt(20000))


def test_float32_keeps_its_dtype():
    x, y = (part.astype(np.float32) for part in pairs())
    got = ni.cmi.supersample(network(), x, y, TIMES[:3], draws=16)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {np.dtype("float32")}
    np.testing.assert_allclose(got.error, ni.cmi.supersample(network(), *pairs(), TIMES[:3], draws=16).error, atol=1e-3)


def test_refusals():
    x, y = pairs()
    call = ni.cmi.supersample
    with pytest.raises(ValueError, match="`x` must hold an even number of examples, at least two pairs; got 2"):
        call(network(), x[:2], y[:2], 1.0)
    with pytest.raises(ValueError, match="`x` must hold an even number"):
        call(network(), x[:5], y[:5], 1.0)
    with pytest.raises(ValueError, match="`y` must hold labels of at least two classes"):
        call(network(), x, np.ones(2 * N), 1.0)
    with pytest.raises(ValueError, match="`y` must name classes"):
        call(network(), x, x[:, 0], 1.0)
    with pytest.raises(ValueError, match="`draws` must be at least 4"):
        call(network(), x, y, 1.0, draws=1)
    with pytest.raises(ValueError, match="`draws` must be even"):
        call(network(), x, y, 1.0, draws=5)
    with pytest.raises(ValueError, match="`key` must be given"):
        call(network(), x, y, 1.0, draws=8)
    double = np.concatenate([x[:N], x[:1], x[N + 1 :]])
    assert np.isfinite(call(network(), double, y, np.inf, draws=16).information)
    double[1] = double[0]
    with pytest.raises(ValueError, match="`x` must not repeat examples of different pairs at t = inf"):
        call(network(), double, y, np.inf, draws=16)
    assert np.isfinite(call(network(), double, y, 10.0, draws=16).information)


def test_several_classes_are_sampled_though_all_choices_are_taken():
    """At t = 0 nothing was learned: the information found is bias, which the standard error and the bias own up to."""
    x, _ = pairs(3)
    found = ni.cmi.supersample(network(), x, np.eye(3)[[0, 1, 2, 1, 0, 2]], [0.0, 5.0], draws=8, key=jax.random.key(0))
    assert not found.enumerated and np.all(found.stderr > 0) and np.all(found.bias != 0)
    assert abs(found.information[0] - found.bias[0]) < 5 * found.stderr[0]
