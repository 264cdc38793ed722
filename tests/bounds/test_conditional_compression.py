import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from ntkinfo import bounds
from ntkinfo.bounds import conditional_compression


def gaps(rng, p, n, draws):
    """Σ (p - p̂)⁺, the largest gap over losses in [0, 1], of so many data sets."""
    return np.maximum(p - rng.multinomial(n, p.ravel(), size=draws).reshape(draws, *p.shape) / n, 0).sum((1, 2))


def test_the_first_term_is_the_largest_gap_on_average(rng):
    p = rng.dirichlet(np.full(12, 0.3)).reshape(6, 2)
    for n in (1, 7, 200):
        k = np.arange(n + 1)
        by_sum = sum(binom.pmf(k, n, each) @ np.abs(k / n - each) for each in p.ravel()) / 2
        found = conditional_compression(p, n=n)
        assert found == pytest.approx(by_sum, rel=1e-10)
        drawn = gaps(rng, p, n, 4000)
        assert abs(drawn.mean() - found) < 5 * drawn.std() / 4000**0.5
        # Rényi's entropy of order one half of Z given Y, and the number of cells.
        p_y = p.sum(0)
        renyi = 2 * np.log(np.sqrt(p / p_y).sum(0))
        by_entropy = np.sum(np.sqrt(p_y / n) * np.exp(renyi / 2)) / 2
        assert found <= by_entropy <= np.sqrt(p.size / n) / 2 + 1e-12


def test_an_encoder_chosen_with_the_data_is_paid_for(rng):
    n, k, draws = 50, 20, 2000
    # Inputs of 16 values, encoders that join them at random into two.
    p_xy = rng.dirichlet(np.ones(32)).reshape(16, 2)
    encoders = np.eye(2)[rng.integers(2, size=(k, 16))]
    tables = np.einsum("kxz,xy->kzy", encoders, p_xy)
    counts = rng.multinomial(n, p_xy.ravel(), size=draws).reshape(draws, 16, 2) / n
    found = np.einsum("kxz,sxy->skzy", encoders, counts)
    gap = np.maximum(tables - found, 0).sum((2, 3))
    chosen = gap.argmax(1)
    fixed = np.array([conditional_compression(table, n=n) for table in tables])
    worst = gap.max(1)
    # The encoder tells at most log k nats of the data; that of a fixed one is exceeded.
    assert worst.mean() > fixed[chosen].mean() + 5 * worst.std() / draws**0.5
    paid = np.mean([conditional_compression(tables[i], n=n, information=np.log(k)) for i in chosen[:200]])
    assert worst.mean() <= paid


def test_the_leading_term_alone_is_no_bound(rng):
    # A decoder that remembers its examples and says 0 elsewhere; the label is a fair coin.
    n = 400
    values = n**2
    z, y = rng.integers(values, size=n), rng.integers(2, size=n)
    memory = np.zeros(values, int)
    memory[z] = y
    # Test error: wrong where the coin falls otherwise than remembered, for every value.
    gap = 0.5 - np.mean(memory[z] != y)
    information = np.log(values)
    assert gap > 0.45 > 2 * np.sqrt(information / n)
    p = np.full((values, 2), 0.5 / values)
    assert gap <= conditional_compression(p, n=n) <= 1


def test_shapes_and_kinds():
    p = np.array([[0.4, 0.1], [0.0, 0.5]])
    many = conditional_compression(p, n=[[10], [100]], information=[0.0, 2.0, np.inf])
    assert many.shape == (2, 3) and many.dtype == np.float64 and np.isinf(many[:, 2]).all()
    assert (np.diff(many[:, :2], axis=0) < 0).all()
    assert many[0, 1] - many[0, 0] == pytest.approx(bounds.xu_raginsky(2.0, n=10, sub_gaussian=0.5))
    # The names of a table are no numbers, and float32 is read as it is.
    for same in (pd.DataFrame(p, columns=["a", "b"]), p.astype(np.float32), p[::-1], p.T):
        assert conditional_compression(same, n=10) == pytest.approx(float(many[0, 0]), rel=1e-6)
    assert conditional_compression(np.ones((1, 1)), n=5) == 0
    # No cancellation where examples are many.
    assert conditional_compression(np.full((1, 2), 0.5), n=1e15) == pytest.approx(np.sqrt(0.5 / np.pi / 1e15), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p_zy": np.array([0.5, 0.5])}, "`p_zy` must have rank 2"),
        ({"p_zy": np.array([[0.5, 0.6]])}, "`p_zy` must hold probabilities that sum to 1"),
        ({"p_zy": np.array([[-0.5, 1.5]])}, "`p_zy` must hold probabilities"),
        ({"p_zy": np.array([[5, 6]])}, "`p_zy` must hold floating-point numbers"),
        ({"n": 0}, "`n` must lie in"),
        ({"n": 2.5}, "`n` must be a whole number"),
        ({"information": -1.0}, "`information` must lie in"),
        ({"information": np.nan}, "`information` must lie in"),
    ],
)
def test_bad_input_is_refused_by_name(change, said):
    with pytest.raises((TypeError, ValueError), match=said):
        conditional_compression(**({"p_zy": np.full((2, 2), 0.25), "n": 10} | change))


def test_traced_tables_are_refused():
    with pytest.raises(TypeError, match="`p_zy`"):
        jax.jit(lambda p: conditional_compression(p, n=10))(np.full((2, 2), 0.25))
