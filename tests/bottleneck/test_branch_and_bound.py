"""The proven bound on the largest G: never below a value of G, and within its tolerance of one."""

import numpy as np
import pytest
from scipy.special import logsumexp, xlogy

from ntkinfo.bottleneck import _branch_and_bound
from ntkinfo.bottleneck._branch_and_bound import _mean_growth, upper_bound


def log_g(log_c, rows, beta, s, dual):
    """log G at the decoders s (k, y) by its definition."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs = s[:, None, :], rows[None, :, :]
        first, second = pairs if dual else pairs[::-1]
        distortion = np.sum(xlogy(first, first) - np.where(first > 0, first * np.log(second), 0), axis=2)
    return logsumexp(log_c[None, :] - beta * distortion, axis=1)


def problem(labels, n, beta, dual, seed, zeros=False):
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(labels, 0.7), size=n)
    if zeros:
        rows[rng.random(rows.shape) < 0.4] = 0
        rows[:, 0] += 1e-3
        rows /= rows.sum(1, keepdims=True)
    # Decoders without zeros: those of a solution have a finite divergence from every input.
    clusters, prior = 0.9 * rows[:3] + 0.1 / labels, np.full(3, 1 / 3)
    log_z = logsumexp(
        np.log(prior)[:, None]
        + np.stack([log_g(np.zeros(1), rows[i : i + 1], beta, clusters, dual) for i in range(n)], 1),
        axis=0,
    )
    return np.log(rng.dirichlet(np.ones(n))) - log_z, rows


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("labels", [2, 3, 4])
@pytest.mark.parametrize("beta", [1.2, 7.0, 80.0])
def test_no_decoder_exceeds_the_bound_and_one_comes_close(labels, beta, dual, rng):
    for seed in range(4):
        log_c, rows = problem(labels, 7, beta, dual, seed)
        bound = upper_bound(log_c, rows, beta, dual=dual, tolerance=1e-7)
        assert bound.proven and bound.upper - bound.found <= 1e-7
        np.testing.assert_allclose(
            log_g(log_c, rows, beta, bound.s[None], dual)[0], bound.found, rtol=1e-10, atol=1e-10
        )
        anywhere = rng.dirichlet(np.full(labels, 0.5), size=20_000)
        near = np.abs(bound.s + 1e-3 * rng.normal(size=(2000, labels)))
        for s in (anywhere, near / near.sum(1, keepdims=True), rows):
            assert log_g(log_c, rows, beta, s, dual).max() <= bound.upper + 1e-9


@pytest.mark.parametrize("labels", [3, 4])
def test_labels_that_some_inputs_never_have(labels, rng):
    log_c, rows = problem(labels, 9, 6.0, False, 1, zeros=True)
    bound = upper_bound(log_c, rows, 6.0, tolerance=1e-6)
    s = rng.dirichlet(np.full(labels, 0.3), size=50_000)
    assert bound.proven and log_g(log_c, rows, 6.0, s, False).max() <= bound.upper + 1e-9
    assert np.isfinite(bound.upper)


def test_a_bound_given_up_is_a_bound_all_the_same():
    log_c, rows = problem(4, 9, 20.0, False, 2)
    exact = upper_bound(log_c, rows, 20.0, tolerance=1e-7)
    rough = upper_bound(log_c, rows, 20.0, tolerance=1e-7, max_boxes=20)
    assert exact.proven and not rough.proven
    assert rough.upper >= exact.upper - 1e-7


def test_what_is_known_spares_boxes():
    log_c, rows = problem(3, 9, 20.0, False, 3)
    whole = upper_bound(log_c, rows, 20.0)
    spared = upper_bound(log_c, rows, 20.0, known=whole.found + 0.1)
    assert spared.n_boxes < whole.n_boxes and spared.upper <= whole.found + 0.1 + 1e-9


@pytest.mark.parametrize("alike", [0.0, 0.999])
@pytest.mark.parametrize("dual", [False, True])
def test_second_order_form_bounds_the_remainder_of_the_linear_one_and_the_rise_what_is_in_the_box(dual, alike, rng):
    beta = 30.0
    log_c, rows = problem(3, 7, beta, dual, 5)
    # Of rows that are alike the concave part of log G is nearly all there is.
    rows = (1 - alike) * rows + alike * rows.mean(axis=0)
    piece = (_branch_and_bound._Dual if dual else _branch_and_bound._Markov)(log_c[None], rows, np.full(1, beta))
    centres = rng.dirichlet(np.ones(3), size=100)
    shares = np.concatenate([rng.random((50, 3)), np.indices((2, 2, 2)).reshape(3, -1).T])
    for size in (0.5, 0.02):
        low, high = (centres * np.exp(by) if dual else np.log(centres) + by for by in (-size, size))
        at = piece.centre(low, high)
        own, _, form = piece.expand(low, high, at, np.zeros(len(low), int))
        gradient, matrix = form._form(np.arange(len(low)), form.weights * _mean_growth(form.deviation), form.concave[1])
        ends = low[:, None] + shares * (high - low)[:, None]
        # Decoders alone for the dual, the last probability what the others leave; u + constant is the same otherwise.
        if dual:
            ends[:, :, 2] = 1 - ends[:, :, 0] - ends[:, :, 1]
        inside = np.all((ends >= low[:, None]) & (ends <= high[:, None]), axis=2)
        ends = np.where(inside[:, :, None], ends, at[:, None])
        s = ends if dual else np.exp(ends) / np.exp(ends).sum(axis=2, keepdims=True)
        change = log_g(log_c, rows, beta, s.reshape(-1, 3), dual).reshape(inside.shape) - own[:, None]
        v = np.divide(ends - at[:, None], form.half[:, None])
        remainder = change - np.sum(v * gradient[:, None], axis=2)
        assert inside.mean() > 0.2
        rounding = 1e-11 + 1e-9 * np.abs(matrix).max(axis=(1, 2))[:, None]
        assert np.all(2 * remainder <= np.sum((v @ matrix) * v, axis=2) + rounding)
        assert np.all(change <= form.rise()[:, None] + 1e-11)
