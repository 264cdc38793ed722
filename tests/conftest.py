"""Settings of the whole suite: float64, no silent rank promotion, one BLAS thread, slow tests on request."""

import os

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow simulations as well")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow simulation: pass --slow"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)
