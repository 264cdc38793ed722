"""Caches of compiled programs are cleared before the memory maps of the process run out, and never inside a trace."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import mixture
from ntkinfo._common import check, programs
from tests.compilations import counted

pytestmark = pytest.mark.skipif(programs.maps() is None, reason="memory maps are counted on Linux alone")


@pytest.fixture
def guard(monkeypatch, tmp_path):
    """A guard of its own, that looks at every call; sets how many maps are allowed."""

    class Fresh(programs._Guard):
        next_look, floor, warned = 0.0, 0.0, False

    limit = tmp_path / "max_map_count"
    limit.write_text("1000000000")
    monkeypatch.setattr(programs, "_Guard", Fresh)
    monkeypatch.setattr(programs, "_LIMIT", limit)
    monkeypatch.setattr(programs, "_PAUSE_S", 0.0)
    monkeypatch.setattr(programs, "_PAUSE_COST", 0.0)
    return limit


@pytest.fixture
def cleared(monkeypatch):
    calls = []
    clear = jax.clear_caches
    monkeypatch.setattr(jax, "clear_caches", lambda: calls.append(clear()))
    return calls


def test_maps_are_those_of_this_process():
    count, limit = programs.maps()
    assert 10 < count < limit


def test_nothing_happens_below_the_threshold(guard, cleared):
    check.array("x", np.ones(3))
    assert not cleared and programs._Guard.next_look > 0


def test_caches_are_cleared_at_four_fifths_with_one_warning(guard, cleared):
    @jax.jit
    def program(x):
        return jnp.sin(x) @ x

    program(jnp.ones(7))
    guard.write_text(str(programs.maps()[0]))
    with pytest.warns(UserWarning, match="of the .* memory maps that Linux allows .* caches were cleared"):
        check.array("x", np.ones(3))
    assert len(cleared) == 1
    with counted() as again:
        program(jnp.ones(7))
    assert again.number > 0
    # Once is enough for the words; the caches are not cleared at every call, either, where that frees nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check.array("x", np.ones(3))
        assert len(cleared) == 1
        guard.write_text(str(int(programs.maps()[0] / 2)))
        programs._Guard.floor = 0.0
        check.times("t", 1.0)
    assert len(cleared) == 2


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.make_jaxpr])
def test_never_inside_a_trace(guard, cleared, transform):
    guard.write_text("10")

    def inside(x):
        check.array("x", np.ones(3))
        return x * 2

    transform(inside)(1.0)
    assert not cleared


def test_a_call_between_two_looks_costs_nothing(guard, monkeypatch):
    monkeypatch.setattr(programs, "_PAUSE_S", 60.0)
    programs.relieve()
    monkeypatch.setattr(programs, "maps", lambda: pytest.fail("looked again"))
    programs.relieve()


def test_elsewhere_than_on_linux_it_looks_once(guard, monkeypatch):
    guard.unlink()
    assert programs.maps() is None
    programs.relieve()
    assert programs._Guard.next_look == float("inf")


def test_what_was_computed_before_stays_the_same(guard, rng):
    mean, variance = rng.normal(size=(4, 9, 1)), rng.uniform(0.5, 2, (4, 9))
    before = mixture.exact(mean, variance)
    guard.write_text("10")
    with pytest.warns(UserWarning, match="caches were cleared"):
        after = mixture.exact(mean, variance)
    np.testing.assert_array_equal(before.value, after.value)


# Under a limit of its own: that of Linux is as far away as many thousand compilations, and its guard is the same.
SURVIVES = """
import pathlib, sys, warnings
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import ntkinfo as ni
from ntkinfo import stax
from ntkinfo._common import programs

limit, folder = int(sys.argv[2]), pathlib.Path(sys.argv[3])
programs._LIMIT = folder / "max_map_count"
programs._LIMIT.write_text(str(limit))
cleared, clear = [], jax.clear_caches
jax.clear_caches = lambda: cleared.append(clear())
warnings.simplefilter("ignore")

def results(i):
    # Every fourth has a nonlinearity, which takes more to compile; sizes come in twelve combinations.
    rng = np.random.default_rng(i)
    more = [stax.Erf(), stax.Dense(1, b_std=0.1)] if i % 4 == 0 else []
    net = stax.serial(stax.Dense(1, W_std=1 + 1e-4 * i, b_std=0.1), *more)
    n, m, times = 5 + i % 2, 2 + i % 3, 1 + i % 4
    ens = ni.Ensemble.fit(net, rng.normal(size=(n, 3)), rng.normal(size=(n, 1)), singular="project")
    z = ens.predict(rng.normal(size=(m, 3)), np.linspace(0, 10, times))
    return np.asarray(z.mean), np.asarray(ni.mixture.exact(rng.normal(size=(m, 1)), np.ones(m)).value)

first, most = results(0), 0
for i in range(1, int(sys.argv[1])):
    results(i)
    most = max(most, programs.maps()[0])
    if i % 100 == 0:
        print(i, programs.maps()[0], len(cleared), file=sys.stderr, flush=True)
same = all(np.array_equal(a, b) for a, b in zip(first, results(0)))
print(most, len(cleared), programs._Guard.warned, same)
"""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_networks_and_sizes_in_one_process(tmp_path):
    """Each is compiled anew, as a limit of maps is reached again and again: never beyond it, and no number changes."""
    limit = 10_000
    done = subprocess.run(
        [sys.executable, "-c", SURVIVES, "2000", str(limit), str(tmp_path)],
        capture_output=True, text=True, timeout=7000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    most, cleared, warned, same = done.stdout.split()
    # What is counted after a call may already be less than what the guard saw within it.
    assert 0.7 * limit < int(most) < limit and int(cleared) > 3 and warned == same == "True"
