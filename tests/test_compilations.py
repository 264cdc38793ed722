"""How many programs public entries compile: none again, none for new values, few for neighbouring sizes."""

import functools

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import architectures, cmi, content, estimators, examples, finite, stax
from tests.compilations import counted

RNG = np.random.default_rng(0)
X, KEY, T = RNG.normal(size=(14, 3)), jax.random.key(0), np.array([1.0, 10.0])
Y = np.sign(X[:, :1])
NET = architectures.network(depth=1)
FINITE = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))


@functools.cache
def ens(n, scale):
    return ni.Ensemble.fit(NET, scale * X[:n], Y[:n])


# What a call compiles for a neighbouring size: `size` training inputs (samples), and two that are not of the data.
CALLS = {
    "predict": (lambda n, scale: ens(n, scale).predict(X[-2:], T), 1),
    "predict_train": (lambda n, scale: ens(n, scale).predict_train(T), 1),
    "content": (lambda n, scale: content.information_content(NET, scale * X[:n], Y[:n], key=KEY), 2),
    "leave_one_out": (lambda n, scale: cmi.leave_one_out(ens(n, scale), T), 1),
    "train": (
        lambda n, scale: finite.train(
            FINITE, scale * X[:n], Y[:n], T, n_networks=2, key=KEY, learning_rate=0.1, progress=False
        ),
        1,
    ),
    "value": (lambda n, scale: examples.value(ens(n, scale), X[-2:]), 8),
    "ksg": (lambda n, scale: estimators.ksg(scale * X[:n, 0], X[:n, 1]), 0),
    "differential_entropy": (lambda n, scale: estimators.differential_entropy(scale * X[:n]), 0),
    "conditional": (lambda n, scale: estimators.conditional(scale * X[:n, 0], X[:n, 1], X[:n, 2]), 0),
    "kde": (lambda n, scale: estimators.kde(scale * X[:n], variance=0.1, standardize=False), 2),
}


# Whose programs take long to compile.
SLOW = ("content", "train", "value")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CALLS])
def test_a_call_like_the_one_before_compiles_nothing_and_a_neighbouring_size_little(name):
    call, most = CALLS[name]
    for n in (11, 12):
        for scale in (1.0, 1.1):
            ens(n, scale)
    call(11, 1.0)
    with counted() as again:
        call(11, 1.0)
    with counted() as values:
        call(11, 1.1)
    with counted() as neighbour:
        call(12, 1.0)
    assert (again.number, values.number) == (0, 0)
    assert neighbour.number <= most
