"""The examples of the docstrings give what they say."""

import doctest
import functools
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import ntkinfo
from ntkinfo import stax
from tests import problems

matplotlib.use("Agg")


def examples():
    for info in pkgutil.walk_packages(ntkinfo.__path__, "ntkinfo."):
        if info.name != "ntkinfo.__main__":
            module = importlib.import_module(info.name)
            for test in doctest.DocTestFinder().find(module):
                if test.examples:
                    yield test


EXAMPLES = {test.name: test for test in examples()}


def swept():
    """A sweep of three trade-offs as if it had been trained: I(X;Z) and I(Y;Z) only."""
    fields = dict.fromkeys(ntkinfo.variational.Sweep.__dataclass_fields__, np.full((2, 3, 1), np.nan))
    fields |= {
        "beta": np.array([1.0, 10.0, 100.0]),
        "i_xz_lower": np.array([[0.0, 1.0, 2.0], [0.0, 0.5, 1.0]])[:, :, None],
        "i_yz_lower": np.array([[0.0, 0.4, 0.6], [0.0, 0.4, 0.6]])[:, :, None],
        "objectives": ("vib", "dual"),
    }
    return ntkinfo.variational.Sweep(**fields)


@functools.cache
def reader_objects():
    """What an example may take as the reader's own: a small problem, a network and its ensemble, a table."""
    x, y, x_test, y_test = problems.problem(np.random.default_rng(0))
    net = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
    return {
        "ni": ntkinfo,
        "jax": jax,
        "jnp": jnp,
        "np": np,
        "stax": stax,
        "key": jax.random.key(0),
        "x": x,
        "y": y,
        "x_test": x_test,
        "y_test": y_test,
        "t": jnp.array([1.0, 10.0]),
        "times": [0.0, 10.0],
        "net": net,
        "build": lambda w, b: stax.serial(stax.Dense(16, W_std=w, b_std=b), stax.Erf(), stax.Dense(1, W_std=w)),
        "ens": ntkinfo.Ensemble.fit(net, x, y),
        "task": ntkinfo.datasets.twelve_bit(dtype=np.float32),
        "swept": swept(),
        "p_xy": np.array([[0.2, 0.1], [0.05, 0.25], [0.3, 0.1]]),
    }


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples(name, tmp_path, monkeypatch):
    # Some write into the current folder.
    monkeypatch.chdir(tmp_path)
    test = EXAMPLES[name]
    # The example's own module comes first: only what it lacks is the reader's.
    test.globs = reader_objects() | test.globs
    printed = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    matplotlib.pyplot.close("all")
    assert not failed, "".join(printed)
