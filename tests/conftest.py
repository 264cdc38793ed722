"""Settings of the whole suite: float64 or float32, no silent rank promotion, one BLAS thread, slow tests on request."""

import gc
import os
from pathlib import Path

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


# Two minutes that touch every layer: what runs on the oldest and the newest JAX.
SMOKE = (
    "_neural_tangents/test_load.py",
    "bounds/test_bounds.py",
    "bottleneck/test_gaussian.py",
    "ensemble/test_ensemble.py",
    "test_discrete.py",
    "test_docstrings.py",
    "test_gaussian.py",
    "test_stax.py",
)
# What asks for no more than single precision, for --float32.
FLOAT32 = ("test_float32.py",)
TESTS = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow simulations as well")
    parser.addoption("--float32", action="store_true", help="leave float64 off, and run what is fit for float32 only")


def pytest_configure(config):
    jax.config.update("jax_enable_x64", not config.getoption("--float32"))


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.is_relative_to(TESTS):
            name = item.path.relative_to(TESTS).as_posix()
            if name in SMOKE:
                item.add_marker(pytest.mark.smoke)
            if config.getoption("--float32") and name not in FLOAT32:
                item.add_marker(pytest.mark.skip(reason="not fit for float32"))
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


@pytest.fixture
def tolerance():
    """Relative error allowed in the dtype that the suite computes in."""
    return {"float64": 1e-10, "float32": 1e-4}[jax.dtypes.canonicalize_dtype(float).name]


@pytest.fixture
def keep_settings():
    """Puts float64 back as it was: the jobs of the command line set it."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)
