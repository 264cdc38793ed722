"""Computations that do not fit are refused before they begin, and the estimates are those of what they take."""

import json
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import datasets, ensemble, kernels, mixture, stax
from ntkinfo._common import eigenproblems, memory
from tests.problems import network

MEASURE = r"""
import ctypes, gc, json, re, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import ntkinfo as ni
from ntkinfo import kernels, stax
from ntkinfo._common import memory

rng = np.random.default_rng(0)
net = stax.serial(stax.Dense(8, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1))

def status(name):
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", open("/proc/self/status").read(), re.M)[1])

def data(n):
    return rng.normal(size=(n, 10)), rng.normal(size=(n, 1))

def joint(n):
    ens = ni.Ensemble.fit(net, *data(150))
    x, t = data(n)[0], np.geomspace(1, 1e4, 6)
    return lambda: ens.predict(x, t, joint=True)

def train(n):
    x, y = data(200)
    times = np.linspace(0, 1, 2 + n // 25)
    return lambda: ni.finite.train(net, x, y, times, n_networks=n, key=jax.random.key(0), learning_rate=0.5)

def exact(m):
    mean, variance = rng.normal(size=(m, 1)), np.full(m, 1e-2)
    return lambda: ni.mixture.exact(mean, variance)

def bound(call):
    return lambda n: (lambda arguments: lambda: call(*arguments))(data(n))

cases = {
    "kernels": (bound(lambda x, y: kernels.kernels(net, x)), 2000),
    "fit": (bound(lambda x, y: ni.Ensemble.fit(net, x, y, engine="dense")), 1800),
    "posterior": (bound(lambda x, y: ni.Posterior.fit(net, x, y, noise=0.1)), 2000),
    "evidence": (bound(lambda x, y: ni.Posterior.fit(net, x, y, noise="fit")), 2000),
    "joint": (joint, 1500),
    "train": (train, 1000),
    "exact": (exact, 150_000),
}
found = {}
for name, (make, n) in ((name, cases[name]) for name in (sys.argv[1:] or cases)):
    jax.block_until_ready(make(20)())
    call = make(n)
    estimates = []
    kept, memory.require = memory.require, lambda what, n_bytes, remedy: estimates.append(n_bytes)
    # What earlier cases have freed, and the allocator keeps, would be taken again unseen.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    jax.block_until_ready(call())
    memory.require = kept
    found[name] = (max(estimates), status("VmHWM") - before)
print(json.dumps(found))
"""


def peak_can_be_reset():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not peak_can_be_reset(), reason="the peak of a process can be read on Linux alone")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "names", [("kernels", "posterior", "joint"), pytest.param(("all",), marks=pytest.mark.slow)], ids=len
)
def test_estimates_are_what_is_taken(names):
    # Eigenvectors of a thousand and more rows take seconds.
    few = names if names != ("all",) else ()
    command = [sys.executable, "-c", MEASURE, *few]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found) == (len(few) or 7)
    for name, (estimate, taken) in found.items():
        assert estimate > 2**26, f"{name}: {estimate}, too little to be looked at"
        # What the compiler takes for itself comes on top where no program is found in a cache.
        assert estimate / 2 < taken < 2 * estimate + 2**28, f"{name}: {taken:.3g} bytes taken, {estimate:.3g} foreseen"


@pytest.fixture
def little(monkeypatch):
    """Little memory, and a look at how much there is for whatever needs any."""
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(memory, "_SMALL", 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x, y, ens: ni.Ensemble.fit(network(), x, y, engine="dense"),
            r"`x` with n = 12 training inputs needs about 9\.22 kB",
        ),
        (lambda x, y, ens: ens.predict_train(np.ones(3)), "`t` of 3 times at n = 12 training inputs needs about"),
        (lambda x, y, ens: ens.predict_train(1.0, joint=True), "`t` of 1 times at n = 12 training inputs needs about"),
        (
            lambda x, y, ens: ni.cmi.leave_one_out(ens, [1.0, 2.0]),
            "`ens` with n = 12 training inputs at 2 times needs about",
        ),
        (lambda x, y, ens: ni.cmi.leave_one_out(ens), "`source` with n = 12 training inputs needs about"),
        (lambda x, y, ens: ni.finite.stability_limit(network(), x, y), "`x` with n = 12 training inputs needs about"),
        (
            lambda x, y, ens: ni.layers.information([stax.Dense(4), stax.Relu()], x, snr=1.0),
            "`x` or `activations` of 12 inputs in 2 layers needs about",
        ),
        (
            lambda x, y, ens: ni.Posterior.fit(network(), x, y, noise="fit"),
            r"`x` with n = 12 training inputs needs about 6\.91 kB",
        ),
        (lambda x, y, ens: kernels.kernels(network(), x), r"`x1` with 12 inputs needs about 6\.91 kB"),
        (lambda x, y, ens: kernels.hessian(network(), x, x[:5]), r"`x1` and `x2` with 12 and 5 inputs needs about"),
        (
            lambda x, y, ens: ens.predict(x, np.ones(3), joint=True),
            r"`x_test` with m = 12 inputs at 3 times needs about",
        ),
        (lambda x, y, ens: mixture.exact(np.zeros((40, 1)), np.ones(40)), "`mean` with m = 40 points needs about"),
        (
            lambda x, y, ens: ni.finite.train(
                network(), x, y, [0.0, 1.0], n_networks=7, key=jax.random.key(0), learning_rate=0.1
            ),
            "`n_networks` = 7 at 2 times needs about",
        ),
        (lambda x, y, ens: datasets.gaussian(100, 100), r"`n_train` \+ `n_test` = 200 rows of `dim` = 30 needs about"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_begins(rng, request, call, message):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    ens = ni.Ensemble.fit(network(), x, np.sign(y))
    request.getfixturevalue("little")
    with pytest.raises(ValueError, match=f"{message}.* of memory; 1 kB are free\\. "):
        call(x, y, ens)


def fitted(fit, **options):
    """A fit of 12 inputs, or of a kernel given by three features of them."""

    def call(x, y, _):
        net = kernels.features(lambda x: x) if options.get("engine") == "features" else network()
        return fit(net, x, y, progress=False, **options)

    return call


@pytest.fixture(scope="module")
def engines():
    """Inputs, labels, and an ensemble of each engine that predicts."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    krylov = fitted(ni.Ensemble.fit, engine="krylov")(x, y, None)
    features = fitted(ni.Ensemble.fit, engine="features", singular="project")(x, y, None)
    return x, y, types.SimpleNamespace(krylov=krylov, features=features)


ROWS = "`x` with n = 12 training inputs"
FEWER = r"Take fewer \(memory grows with n²\), or float32"
STORED, BASIS = f"{ROWS} and kernels stored in", "A Krylov basis of 12 columns for n = 12 training inputs"
NONE = r'storage="none" \(evaluated for every product\)\.'


@pytest.mark.parametrize(
    ("call", "message", "remedy"),
    [
        (fitted(ni.Ensemble.fit, engine="dense"), ROWS, rf'{FEWER}, or engine="krylov"\.'),
        (fitted(ni.Posterior.fit, engine="dense"), ROWS, rf'{FEWER}, or engine="krylov"\.'),
        # The Krylov engine fits no noise, and is no remedy.
        (fitted(ni.Posterior.fit, noise="fit"), ROWS, rf"{FEWER}\."),
        (
            fitted(ni.Ensemble.fit, engine="krylov", storage="float64"),
            f"{STORED} float64",
            rf'Take storage="float32" \(half of it\), or {NONE}',
        ),
        (fitted(ni.Ensemble.fit, engine="krylov", storage="float32"), f"{STORED} float32", f"Take {NONE}"),
        (fitted(ni.Posterior.fit, engine="krylov", storage="float32"), f"{STORED} float32", f"Take {NONE}"),
        (
            lambda x, y, ens: ni.Ensemble.fit(network(), x, y, engine="krylov", mesh=ni.distributed.mesh()),
            f"{STORED} float32",
            r"Take more devices, or fewer inputs\.",
        ),
        (lambda x, y, ens: ens.krylov.predict(x, 1.0), BASIS, "Take a smaller `batch_size`, or fewer `max_steps`"),
        (lambda x, y, ens: ens.krylov.spectral_sums(), BASIS, "Take fewer `n_probes`, or fewer `max_steps`"),
        (
            fitted(ni.Ensemble.fit, engine="features", singular="project"),
            "`net` with p = 3 features of n = 12 training inputs",
            "Take fewer, by `ni.kernels.features",
        ),
        (
            lambda x, y, ens: ens.features.predict(x, 1.0, joint=True),
            "`x_test` with m = 12 inputs at 1 times",
            "Take fewer inputs or times, or joint=False",
        ),
    ],
)
def test_every_engine_says_what_it_needs_what_there_is_and_what_to_do(
    engines, little, monkeypatch, call, message, remedy
):
    monkeypatch.setattr(memory, "available", lambda: 100)
    wanted = rf"{message} needs about [\d.]+ (kB|bytes) of memory; 100 bytes are free\. {remedy}"
    with pytest.raises(ValueError, match=wanted):
        call(*engines)


def test_more_rows_than_the_solver_of_eigenproblems_takes_are_refused(rng, monkeypatch):
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 1))
    post = ni.Posterior.fit(network(), x, y)
    # LAPACK counts the 1 + 6n + 2n² words of its workspace in 32 bits.
    fits = [1 + 6 * n + 2 * n**2 < 2**31 for n in (eigenproblems._LAPACK_LIMIT, eigenproblems._LAPACK_LIMIT + 1)]
    assert fits == [True, False]
    monkeypatch.setattr(eigenproblems, "_LAPACK_LIMIT", 11)
    most = (
        "`x` must have at most 11 training inputs, the most whose eigenvectors can be computed here; got 12. Take fewer"
    )
    with pytest.raises(ValueError, match=rf'^{most}, or engine="krylov"\.$'):
        ni.Ensemble.fit(network(), x, y, engine="dense")
    for call in (lambda: ni.Posterior.fit(network(), x, y, noise="fit"), lambda: post.spectrum):
        with pytest.raises(ValueError, match=rf"^{most}\.$"):
            call()
    z = ni.gaussian.Gaussian(np.zeros((12, 1)), np.ones(12), np.eye(12))
    others = {
        "`self` must be of at most 11 points": lambda: z.sample(jax.random.key(0)),
        "`x` must be a pool of at most 11 examples": lambda: ni.learning.curve(network(), x, y, [3]),
        "`x` or `activations` must be of at most 11 inputs": lambda: ni.layers.information([stax.Dense(4)], x, snr=1.0),
        "`x` must have at most 11 pairs": lambda: ni.cmi.supersample(
            network(), *pairs, 1.0, draws=4, key=jax.random.key(0)
        ),
    }
    pairs = rng.normal(size=(24, 3)), np.sign(rng.normal(size=(24, 1)))
    for message, call in others.items():
        with pytest.raises(ValueError, match=f"^{message}, the most whose eigenvectors can be computed here; got 12"):
            call()
    # A Cholesky factor has no such limit.
    assert np.isfinite(ni.Posterior.fit(network(), x, y, engine="dense").log_marginal_likelihood)


def test_accelerators_take_no_matrix_whose_bytes_are_no_32_bit_number(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for dtype, most in ((np.float64, 16_383), (np.float32, 23_170)):
        assert eigenproblems.limit(np.dtype(dtype)) == most
        assert most**2 * np.dtype(dtype).itemsize < 2**31 <= (most + 1) ** 2 * np.dtype(dtype).itemsize
        # What is decomposed on the host is not an accelerator's.
        assert eigenproblems.limit(np.dtype(dtype), host=True) == 32_766
    with pytest.raises(ValueError, match=r"at most 16383 training inputs.* got 16384\. Take fewer\.$"):
        ensemble.require_solver(np.zeros((16_384, 1)))


def test_nothing_is_refused_under_tracing(rng, little):
    x = rng.normal(size=(12, 3))
    assert jax.jit(lambda x: kernels.kernels(network(), x).ntk)(x).shape == (12, 12)


def test_small_needs_are_not_looked_into(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: pytest.fail("looked"))
    memory.require("a little", 1e6, "")


def test_what_there_is(monkeypatch, tmp_path):
    there = memory.available()
    assert there is None or 1e6 < there < 1e15
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    assert memory.available() == 5000 * 1024
    # A control group of version 2: its own limit, and that of the group above it, less what they hold but for files.
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/above/own\n")
    own = tmp_path / "cgroup" / "above" / "own"
    own.mkdir(parents=True)
    for folder, most in ((own, "max"), (own.parent, "3000000")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("1000000\n")
        (folder / "memory.stat").write_text("anon 5\ninactive_file 400000\n")
    assert memory.available() == 2_400_000
    # Version 1, whose root alone is there in a container.
    (tmp_path / "proc" / "self" / "cgroup").write_text("4:cpu:/\n3:memory:/docker/abc\n")
    root = tmp_path / "cgroup" / "memory"
    root.mkdir()
    (root / "memory.limit_in_bytes").write_text("2000000\n")
    (root / "memory.usage_in_bytes").write_text("500000\n")
    assert memory.available() == 1_500_000
    (root / "memory.usage_in_bytes").write_text("9500000\n")
    assert memory.available() == 0


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1234567, "1.23 MB"), (16e9, "16 GB"), (5e16, "5e+04 TB")]
)
def test_sizes_read_well(n, text):
    assert memory.readable(n) == text
