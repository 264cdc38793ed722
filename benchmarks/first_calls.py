"""Claim: a call with other numbers of times, inputs or steps than the one before compiles next to nothing.

Processor seconds and compiled programs of first calls, of the same call again and of calls of neighbouring sizes, each
row of one process that finds no compilation cache; beside them, warm, ours against scikit-learn's nearest neighbours
(where it is installed; both use one thread). The result is written after each row, and keeps the rows that were not
asked for, those of other versions of JAX too: `--beside` adds the rows of this one under its number, and `--tried` what
options of the compiler would bring to a first `curve`.

    uv run python benchmarks/first_calls.py                       # all rows
    uv run python benchmarks/first_calls.py --rows curve layers   # some
    python benchmarks/first_calls.py --beside --tried --rows curve layers bottleneck tables   # with another JAX
"""

import argparse
import faulthandler
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import architectures, datasets, finite, gaussian, mixture, stax, variational
from ntkinfo.estimators import _neighbours

programs = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: programs.append(event) if "backend_compile" in event else None
)
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def cost(call):
    """Processor seconds and compiled programs of a call."""
    programs.clear()
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax.block_until_ready(call())
    return {"seconds": time.process_time() - start, "programs": len(programs)}


def curve():
    """`Ensemble.fit` and `information.curve`, n = 200."""
    net, x = architectures.network(depth=3), RNG.normal(size=(260, 30))
    y, t = np.sign(x[:, :1] + RNG.normal(size=(260, 1))), np.logspace(-1, 6, 40)

    def call(n=200, m=50, times=30):
        ens = ni.Ensemble.fit(net, x[:n], y[:n])
        return ni.information.curve(ens, x[-m:], y[-m:], t[:times])

    yield "first", call
    yield "again", call
    yield "one time more", lambda: call(times=31)
    yield "one test input more", lambda: call(m=51)
    yield "one training input more", lambda: call(n=201)


def posterior():
    """`Posterior.fit(noise="fit")`, n = 200."""
    net, x = architectures.network(depth=3), RNG.normal(size=(260, 30))
    y = np.sign(x[:, :1] + RNG.normal(size=(260, 1)))
    for name, n in (("first", 200), ("again", 200), ("one training input more", 201)):
        yield name, lambda n=n: ni.Posterior.fit(net, x[:n], y[:n], noise="fit")


def layers():
    """`finite.train_layers`, layers of 12, 10, 7, 5, 4, 3 and 2 units on the 12-bit data."""
    task = datasets.twelve_bit(dtype=np.float32)

    def call(**change):
        options = {"epochs": 10, "n_networks": 2, "n_train": 3481, "key": KEY, "progress": False} | change
        return finite.train_layers((12, 10, 7, 5, 4, 3, 2), task.x, task.labels, **options)

    for name, change in (
        ("first", {}),
        ("again", {}),
        ("12 epochs", {"epochs": 12}),
        ("rate", {"learning_rate": 0.05}),
    ):
        yield name, lambda change=change: call(**change)


def bottleneck():
    """`variational.fit`, 1000 digits, 100 steps."""
    data = datasets.digits(1000, task="classes")

    def call(**change):
        options = {"beta": 10.0, "key": KEY, "steps": 100, "progress": False} | change
        return variational.fit(data.x_train, data.labels_train, **options)

    changes = (("first", {}), ("again", {}), ("120 steps", {"steps": 120}), ("beta", {"beta": 5.0}))
    for name, change in (*changes, ("rate", {"learning_rate": 2e-3})):
        yield name, lambda change=change: call(**change)


def tables():
    """`bottleneck.ib` with a certificate: a table of 8 x 4, 20 β."""
    rows = RNG.dirichlet(np.ones(4), 9)
    for name, n in (("first", 8), ("again", 8), ("a table of 9 x 4", 9)):
        yield name, lambda n=n: ni.bottleneck.ib(rows[:n] / n, np.geomspace(1.1, 60, 20), certificate=True).gap


def large_tables():
    """`bottleneck.ib` without a certificate, Dirichlet rows; beside them the exponentials of one sweep."""

    def table(n, k, alpha=1.0):
        return np.random.default_rng(0).dirichlet(np.full(k, alpha), n) / n

    for name, arguments, betas in (
        ("300 x 10, β = 2, 5, 15, 50", (300, 10), [2.0, 5.0, 15.0, 50.0]),
        ("1000 x 10, β = 50", (1000, 10), [50.0]),
        ("1000 x 10, β = 15", (1000, 10), [15.0]),
        ("4096 x 2, β = 50", (4096, 2, 0.5), [50.0]),
    ):
        n = arguments[0]
        yield f"{n}² exponentials", lambda n=n: np.exp(np.full((n, n), -1.0))
        yield name, lambda arguments=arguments, betas=betas: ni.bottleneck.ib(table(*arguments), betas).lagrangian


def neighbours():
    """Nearest neighbours of 100,000 samples, no error bar, and scikit-learn's."""
    x = RNG.normal(size=100_000)
    y = 0.6 * x + 0.8 * RNG.normal(size=100_000)
    for _ in range(3):
        yield "ours", lambda: _neighbours.continuous_terms(x[:, None], y[:, None], 3).mean()
        try:
            from sklearn.feature_selection import _mutual_info
        except ImportError:
            continue
        yield "scikit-learn", lambda: _mutual_info._compute_mi_cc(x.copy(), y.copy(), 3)


def images():
    """Kernels of two convolutions and Flatten, 48 x 48 pairs of images."""
    layer = [stax.Conv(8, (3, 3), padding="SAME", W_std=1.5, b_std=0.1), stax.Relu()]
    net = stax.serial(*layer, *layer, stax.Flatten(), stax.Dense(1))
    for size, channels in ((28, 1), (32, 3)):
        a, b = RNG.normal(size=(2, 48, size, size, channels))
        for name in ("first", "again"):
            yield f"{size} x {size} x {channels}, {name}", lambda a=a, b=b: ni.kernels.kernels(net, a, b)


def classes():
    """`information.curve` of ten classes, n = 500, m = 100, 30 times, and its quadrature of the Gibbs error alone."""
    net, x, labels = architectures.network(depth=3), RNG.normal(size=(600, 30)), np.arange(600) % 10
    y, t = np.eye(10)[labels] - 0.1, np.logspace(-1, 6, 30)
    ens = ni.Ensemble.fit(net, x[:500], y[:500])
    cross = ens.cross_kernels(x[500:], joint=True)
    z = ens.predict(x[500:], t)
    for name in ("first", "again"):
        yield f"curve, {name}", lambda: ni.information.curve(ens, cross, y[500:], t, key=KEY)
        yield f"quadrature, {name}", lambda: gaussian.winning_of(z.mean, z.variance, jnp.asarray(labels[500:]))


def mixtures():
    """`mixture.exact`, 20,000 points."""
    mean, variance = RNG.normal(size=(20_000, 1)), RNG.uniform(0.05, 1, size=20_000)
    for name in ("first", "again"):
        yield name, lambda: mixture.exact(mean, variance).value


def train_variances():
    """`predict_train` of 100 times after `Ensemble.fit`, n = 1000."""
    net, x = architectures.network(depth=3), RNG.normal(size=(1000, 30))
    y, t = np.sign(x[:, :1]), jnp.logspace(-1, 8, 100)
    ens = ni.Ensemble.fit(net, x, y)
    jax.block_until_ready(ens.predict_train(t))
    yield "fit", lambda: ni.Ensemble.fit(net, x, y)
    yield "predict_train", lambda: ens.predict_train(t)


CALLS = (
    curve, posterior, layers, bottleneck, tables, large_tables, neighbours, images, classes, mixtures, train_variances
)  # fmt: skip
ROWS = {function.__name__: function for function in CALLS}
# What compilers of programs for the CPU can be told; one that a version does not know is refused, and left out.
TRIED = (
    "", "--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1", "--xla_cpu_use_new_xtile_lowering=true",
    "--xla_cpu_use_fusion_emitters=false",
)  # fmt: skip


def measured(name, flags=""):
    """The calls of a row in a process of its own, its compiler told `flags`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    command = [sys.executable, __file__, "--row", name]
    environment["XLA_FLAGS"] = " ".join((environment.get("XLA_FLAGS", ""), flags)).strip()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def tried(processes):
    """Median processor seconds of a first and a second `curve` with options of the compiler, by option."""
    found = {}
    for flags in TRIED:
        try:
            runs = [measured("curve", flags)[:2] for _ in range(processes)]
        except subprocess.CalledProcessError:
            continue
        seconds = np.median([[call["seconds"] for call in run] for run in runs], axis=0)
        found[flags] = dict(zip(("first", "again"), map(float, seconds), strict=True))
        print(f"    {flags or 'as it is':<45} {found[flags]}", flush=True)
    return found


def add(path, version, name, row):
    """Writes a row, of another version of JAX where one is given, beside what a file holds."""
    # Read again each time: rows may be measured by several at once.
    record = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    rows = record["rows"] if version is None else record.setdefault("versions", {}).setdefault(version, {})
    rows[name] = row
    path.write_text(json.dumps(record, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3, help="fresh processes of each row")
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=list(ROWS), help="what to measure")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "first_calls.json")
    parser.add_argument("--beside", action="store_true", help="keep the rows of other versions of JAX beside these")
    parser.add_argument("--tried", action="store_true", help="options of the compiler too, for a first `curve`")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps([{"call": name, **cost(call)} for name, call in ROWS[options.row]()]))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.rows:
        load = os.getloadavg()[0]
        runs = [measured(name) for _ in range(options.processes)]
        calls: dict[str, list] = {}
        for one in (call for run in runs for call in run):
            calls.setdefault(one["call"], []).append(one)
        print(ROWS[name].__doc__, flush=True)
        # Elsewhere on the machine, while this ran: shared caches and cores make processor seconds longer too.
        setting = {"jax": jax.__version__, "cores": os.cpu_count(), "machine": platform.machine(), "load": load}
        row = {"what": ROWS[name].__doc__, "processes": options.processes, **setting, "calls": []}
        for call, values in calls.items():
            seconds = float(np.median([value["seconds"] for value in values]))
            count = max(value["programs"] for value in values)
            print(f"    {call:<26} {seconds:8.3f} s processor, {count:3d} programs", flush=True)
            row["calls"].append({"call": call, "seconds": seconds, "programs": count})
        add(options.out, jax.__version__ if options.beside else None, name, row)
    if options.tried:
        setting = {"jax": jax.__version__, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        row = {"processes": options.processes, **setting, "seconds": tried(options.processes)}
        add(options.out, jax.__version__ if options.beside else None, "options", row)


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
