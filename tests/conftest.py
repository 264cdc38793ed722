"""Settings of the whole suite: float64 or float32, no silent rank promotion, one BLAS thread, slow tests on request."""

import gc
import importlib.metadata
import os
from pathlib import Path

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most of the time of the tests is compilation, and what runs once on a few numbers is ready soonest without optimised
# machine code. `XLA_FLAGS= pytest` compiles as users do, and so do the smoke sets: other versions of JAX than the one
# pinned here may not know these flags, and end the process where they do not.
if importlib.metadata.version("jaxlib").startswith("0.9."):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Tests share next to no programs: to look for each on disk costs more than it brings. Processes of tests do share some.
jax.config.update("jax_enable_compilation_cache", False)

# Shapes in the signatures of public functions, checked at every call.
pytest_plugins = ["tests.typed"]

# What every JAX and Python is tried with: a file or two of each part, about two minutes in all.
SMOKE = (
    "test_package.py",
    "test_precision.py",
    "test_stax.py",
    "test_typed.py",
    "test_discrete.py",
    "test_compression.py",
    "_neural_tangents/test_load.py",
    "kernels/test_kernels.py",
    "posterior/test_posterior.py",
    "mixture/test_channel.py",
    "bounds/test_bounds.py",
    "bottleneck/test_gaussian.py",
    "bottleneck/test_duality_gap.py",
)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow simulations as well")
    parser.addoption("--smoke", action="store_true", help="only a file or two of each part, about two minutes")
    parser.addoption("--fuzz", action="store_true", help="every public function with every hostile argument, hours")
    parser.addoption("--float32", action="store_true", help="leave JAX in float32; only tests that hold in both")


def pytest_configure(config):
    if config.getoption("--float32"):
        jax.config.update("jax_enable_x64", False)


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow simulation: pass --slow"))
    if not config.getoption("--fuzz"):
        for item in items:
            if item.get_closest_marker("fuzz"):
                item.add_marker(pytest.mark.skip(reason="the whole fuzz: pass --fuzz"))
    if config.getoption("--float32"):
        left_out = [item for item in items if "any_precision" not in item.keywords]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_ignore_collect(collection_path, config):
    # Not imported at all: some of the other files need what an environment for the smoke set lacks.
    if config.getoption("--smoke") and collection_path.suffix == ".py" and collection_path != Path(__file__):
        return str(collection_path.relative_to(Path(__file__).parent)) not in SMOKE
    return None


def pytest_collection_finish():
    """What was imported and collected stays: the collector of garbage need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


MAPS, MOST_MAPS, LOOK_EVERY = Path("/proc/self/maps"), 40_000, 30


def pytest_runtest_teardown(item, nextitem, looked=[0]):  # noqa: B006 - one counter for the process
    """Forgets compiled programs in time: each takes memory maps, of which Linux allows 65530, and XLA crashes there."""
    looked[0] += 1
    if looked[0] % LOOK_EVERY == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def _without_optimizations():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def little_time_to_compile():
    """For files whose numbers are tested elsewhere: what runs once is compiled faster than it is made fast."""
    yield from _without_optimizations()


@pytest.fixture
def compiled_quickly():
    """For single tests beside others of the numbers: of refusals, checkpoints, what is reported."""
    yield from _without_optimizations()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tolerance() -> float:
    """Relative tolerance of a quantity computed in the precision JAX is in, with some digits lost on the way."""
    return 1e-9 if jax.config.jax_enable_x64 else 2e-3


@pytest.fixture
def keep_settings():
    """For code that sets the precision of JAX, as the command line does."""
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)
