"""Settings of the whole suite: float64, no silent rank promotion, one BLAS thread, slow tests on request."""

import gc
import os
from pathlib import Path

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


MAPS, MOST_MAPS, LOOK_EVERY = Path("/proc/self/maps"), 30_000, 10


def pytest_runtest_teardown(item, nextitem, looked=[0]):  # noqa: B006 - one counter for the process
    """Forgets compiled programs in time: each takes memory maps, of which Linux allows 65530, and XLA crashes there."""
    looked[0] += 1
    if looked[0] % LOOK_EVERY == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def rng():
    return np.random.default_rng(0)
