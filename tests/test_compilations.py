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
HALF, TABLE, LAYERS = np.full((14, 2), 0.5), RNG.random((14, 3)), [stax.Dense(4), stax.Erf()]
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
    "value": (lambda n, scale: examples.value(ens(n, scale), X[-2:]), 5),
    "ksg": (lambda n, scale: estimators.ksg(scale * X[:n, 0], X[:n, 1]), 0),
    "differential_entropy": (lambda n, scale: estimators.differential_entropy(scale * X[:n]), 0),
    "conditional": (lambda n, scale: estimators.conditional(scale * X[:n, 0], X[:n, 1], X[:n, 2]), 0),
    "kde": (lambda n, scale: estimators.kde(scale * X[:n], variance=0.1, standardize=False), 0),
    "kde_pair": (lambda n, scale: estimators.kde_pair(scale * X[:n], Y[:n, 0] > 0, variance=0.1, standardize=True), 0),
    "binned_layer": (lambda n, scale: estimators.binned_layer(scale * X[:n], HALF[:n], bins=4), 0),
    "posterior": (lambda n, scale: ni.Posterior.fit(NET, scale * X[:n], Y[:n], noise=0.1).predict(X[-2:]), 1),
    "forecast": (lambda n, scale: ni.learning.forecast(ens(n, scale)), 2),
    "select": (lambda n, scale: examples.select(NET, scale * X[:n], 3), 12),
    "supersample": (
        lambda n, scale: cmi.supersample(NET, scale * X[: n - n % 2], Y[: n - n % 2], T, draws=4, key=KEY),
        5,
    ),
    "layers": (lambda n, scale: ni.layers.information(LAYERS, scale * X[:n], snr=10.0), 4),
    "ib": (
        lambda n, scale: ni.bottleneck.ib(TABLE[:n] / TABLE[:n].sum(), [2.0, 9.0], certificate=True),
        0,
    ),
    "critical_betas": (lambda n, scale: ni.bottleneck.critical_betas(TABLE[: n - 8, :2] / TABLE[: n - 8, :2].sum()), 0),
}


# Whose programs take long to compile.
SLOW = ("content", "train", "value", "select", "supersample", "layers")


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
