"""Claim: predictive variances at 100 training times cost little more than one eigendecomposition.

Ours (`Ensemble.fit` and `predict`, `curve`) beside one `jnp.linalg.eigh` of the same matrix plus the kernel evaluation,
in one process; and beside `neural_tangents.predict.gradient_descent_mse_ensemble`, called as its documentation says,
with the vector of all times. For that every contender has processes of its own, by turns, with the same number of
threads and no compilation cache: cold (fit and predict, compilation included), warm (the same again), and predict alone
after a fit, in wall and in processor time. The peer gives covariances of all test inputs; ours does so too, or not.

    uv run python benchmarks/predict.py
    uv run python benchmarks/predict.py --many    # beside the peer alone, at 1000 times; added to the same JSON
"""

import argparse
import faulthandler
import json
import os
import platform
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import architectures
from ntkinfo._numerics import spectral_filters


def wall_seconds(function):
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def problem(n, m):
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(n, 30)), rng.normal(size=(m, 30))
    return x, np.sign(x[:, :1] + rng.normal(size=(n, 1))), x_test


def neural_tangents_fit(net, x, y, x_test, t):
    """The peer's predictor for `x_test` and all times at once: a function that gives means and covariances.

    Its kernels and eigendecomposition are made in the first call and kept.
    """
    import neural_tangents

    predictor = neural_tangents.predict.gradient_descent_mse_ensemble(net[2], x, y, diag_reg=0.0)
    return lambda: predictor(t=t, x_test=x_test, get="ntk", compute_cov=True)


def ours_fit(net, x, y, x_test, t, joint):
    """The same of ours."""
    ens = ni.Ensemble.fit(net, x, y)
    return lambda: ens.predict(x_test, t, joint=joint)


CONTENDERS = {
    "neural-tangents, covariances": neural_tangents_fit,
    "ntkinfo, covariances": partial(ours_fit, joint=True),
    "ntkinfo, variances": partial(ours_fit, joint=False),
}


def seconds_of(function):
    """Wall and processor seconds of a call, the latter over all threads of this process."""
    wall, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(function())
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}, result


def contend(name, n, m, times):
    """Cold, warm and after-fit seconds of one contender; in a process that has done nothing else."""
    net = architectures.network(depth=3)
    x, y, x_test = problem(n, m)
    t = jnp.logspace(-1, 8, times)
    jax.block_until_ready(t)
    fit = CONTENDERS[name]
    cold, _ = seconds_of(lambda: fit(net, x, y, x_test, t)())
    warm, _ = seconds_of(lambda: fit(net, x, y, x_test, t)())
    predict = fit(net, x, y, x_test, t)
    jax.block_until_ready(predict())
    again, _ = seconds_of(predict)
    return {"cold": cold, "warm": warm, "predict again": again}


def fresh_process(*arguments):
    """What this script prints last in a process of its own that finds no compiled programs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def beside_peer(n, m, times, repeats):
    """Median seconds of every contender, over processes that take turns."""
    runs = {name: [] for name in CONTENDERS}
    for _ in range(repeats):
        for name in CONTENDERS:
            runs[name].append(json.loads(fresh_process("--contend", name, "--n", n, "--m", m, "--times", times)))
    return {
        name: {
            phase: {clock: float(np.median([run[phase][clock] for run in of_name])) for clock in ("wall", "processor")}
            for phase in of_name[0]
        }
        for name, of_name in runs.items()
    }


def train_beside_fit(times, repeats, n=1000):
    """Seconds of `predict_train` and of `Ensemble.fit` by turns, and their ratio within each round, its median."""
    net = architectures.network(depth=3)
    x, y, _ = problem(n, 1)
    t = jnp.logspace(-1, 8, times)
    ens = ni.Ensemble.fit(net, x, y)
    jax.block_until_ready(ens.predict_train(t).variance)
    rounds = []
    for _ in range(repeats):
        fit, _ = seconds_of(lambda: ni.Ensemble.fit(net, x, y).nngp_rotated)
        predict, _ = seconds_of(lambda: tuple(ens.predict_train(t))[:2])
        rounds.append({"fit": fit, "predict_train": predict})
    ratio = {
        clock: float(np.median([each["predict_train"][clock] / each["fit"][clock] for each in rounds]))
        for clock in ("wall", "processor")
    }
    return {"n": n, "times": times, "rounds": rounds, "predict_train / fit": ratio}


def peak_memory(n, m):
    """Peak memory of `predict` beyond the fitted ensemble, in n x n matrices, from XLA's own account of the program."""
    net = architectures.network(depth=3)
    x, y, x_test = problem(n, m)
    ens = ni.Ensemble.fit(net, x, y)
    t = jnp.logspace(-1, 8, 100)
    cross = ens.cross_kernels(x_test)
    core = jax.jit(lambda ens, cross, t, basis: ens.predictive(cross, ens.filters(ens.rescaled_time(t)), basis))
    program = core.lower(ens, cross, t, ens.time_basis(t)).compile()
    account = program.memory_analysis()
    matrix = 8 * n * n
    return account.temp_size_in_bytes / matrix, (account.output_size_in_bytes) / matrix


def resident(n, m):
    """Growth of the process's largest resident set during `predict`, in n x n matrices (a fresh process runs this)."""
    net = architectures.network(depth=3)
    x, y, x_test = problem(n, m)
    ens = jax.block_until_ready(ni.Ensemble.fit(net, x, y))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jax.block_until_ready(ens.predict(x_test, jnp.logspace(-1, 8, 100)))
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (8 * n * n)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--m", type=int, default=200)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=3, help="fresh processes of each contender beside the peer")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "predict.json")
    parser.add_argument(
        "--many", action="store_true", help="only beside the peer, at 10 times as many times, five minutes"
    )
    parser.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contend", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    n, m, repeats = options.n, options.m, options.repeats
    if options.resident:
        print(resident(n, m))
        return
    if options.contend:
        print(json.dumps(contend(options.contend, n, m, options.times)))
        return
    if options.many:
        record = json.loads(options.out.read_text())
        times = 10 * options.times
        setting = {"jax": jax.__version__, "load": os.getloadavg()[0]}
        found = {"times": times, **setting, "beside_neural_tangents": beside_peer(n, m, times, 1)}
        options.out.write_text(json.dumps(record | {"many_times": found}, indent=1))
        print(json.dumps(found, indent=1))
        return
    load = os.getloadavg()[0]
    net = architectures.network(depth=3)
    x, y, x_test = problem(n, m)
    t, t_many = jnp.logspace(-1, 8, options.times), jnp.logspace(-1, 8, 10 * options.times)
    labels = np.sign(x_test[:, :1])
    both = ni.kernels.kernels(net, x)
    ens = ni.Ensemble.fit(net, x, y)
    matrix_product = jax.jit(lambda a, b: a @ b)
    symmetric = jnp.asarray(x @ x.T)
    gram = jax.jit(lambda a: a @ a.T)
    # Interleaved, so that a busy machine slows all of them alike; ratios are taken within each round.
    tasks = {
        "kernel": lambda: ni.kernels.kernels(net, x),
        "eigh": lambda: jnp.linalg.eigh(both.ntk),
        "fit": lambda: ni.Ensemble.fit(net, x, y),
        "predict": lambda: ens.predict(x_test, t),
        "predict, 10 times as many times": lambda: ens.predict(x_test, t_many),
        "curve": lambda: ni.information.curve(ens, x_test, labels, t),
        "curve without the joint divergence": lambda: ni.information.curve(ens, x_test, labels, t, joint=False),
        "matrix product n x n": lambda: matrix_product(symmetric, symmetric),
        "Gram matrix of the inputs": lambda: gram(jnp.asarray(x)),
    }
    rounds = {name: [] for name in tasks}
    for task in tasks.values():
        jax.block_until_ready(task())
    for _ in range(repeats):
        for name, task in tasks.items():
            rounds[name].append(wall_seconds(task))
    seconds = {name: float(np.median(values)) for name, values in rounds.items()}
    per_round = {name: np.array(values) for name, values in rounds.items()}
    theirs, ours_z = neural_tangents_fit(net, x, y, x_test, t)(), ens.predict(x_test, t)
    covariances = np.asarray(theirs.covariance)
    difference_of_means = np.abs(np.asarray(theirs.mean) - np.asarray(ours_z.mean)).max()
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    difference_of_variances = np.abs(variances - np.asarray(ours_z.variance)).max()
    del theirs, covariances
    beside = beside_peer(n, m, options.times, options.processes)
    temporary, output = peak_memory(n, m)
    grown = fresh_process("--resident", "--n", n, "--m", m)
    ours = per_round["fit"] + per_round["predict"]
    basis = ens.time_basis(t)
    train = train_beside_fit(options.times, repeats)
    rows = [
        ("(fit + predict) / (eigh + kernel)", np.median(ours / (per_round["eigh"] + per_round["kernel"])), "<= 2"),
        ("10 times as many times / predict",
         np.median(per_round["predict, 10 times as many times"] / per_round["predict"]), "<= 2"),
        ("what curve adds to fit + predict", np.median((per_round["curve"] - per_round["predict"]) / ours), "<= 0.3"),
        ("the same without the joint divergence",
         np.median((per_round["curve without the joint divergence"] - per_round["predict"]) / ours), ""),
        ("kernel / matrix product n x n", np.median(per_round["kernel"] / per_round["matrix product n x n"]), ""),
        (f"predict_train / fit, n = {train['n']}, wall", train["predict_train / fit"]["wall"], "<= 1.5"),
        (f"predict_train / fit, n = {train['n']}, processor", train["predict_train / fit"]["processor"], "<= 1.5"),
        ("temporary memory of predict, n x n matrices (XLA)", temporary, "< 3"),
        ("growth of resident memory in predict, n x n matrices", float(grown), "< 3 + output"),
        ("output of predict, n x n matrices", output, ""),
        ("largest difference of means from neural-tangents", difference_of_means, ""),
        ("largest difference of variances from neural-tangents", difference_of_variances, ""),
    ]  # fmt: skip
    print(
        f"n = {n}, m = {m}, {options.times} times, k = 1, float64, {os.cpu_count()} cores, median of {repeats} rounds\n"
    )
    for name, value in seconds.items():
        print(f"{name:<60} {value:9.3f} s")
    print()
    for name, phases in beside.items():
        for phase, clocks in phases.items():
            print(f"{f'{name}, {phase}':<60} {clocks['wall']:9.3f} s wall {clocks['processor']:9.3f} s processor")
    print()
    for name, value, target in rows:
        print(f"{name:<60} {value:9.3g}   {target}")
    few = options.times if basis is None else basis.shape[1]
    flops = 2 * m * few * n * n * (1 + 1 / spectral_filters.BLOCKS) / 2
    rate = flops / seconds["predict"] / 1e9
    print(f"\npredict multiplies by K~ for {few} functions of time: {flops:.3g} flops, {rate:.1f} GFLOP/s")
    record = {
        "n": n, "m": m, "times": options.times, "repeats": repeats, "jax": jax.__version__, "cores": os.cpu_count(),
        "load": load,
        "machine": platform.machine(), "blas_threads": os.environ["OPENBLAS_NUM_THREADS"], "seconds": seconds,
        "predict_train": train, "seconds_all": rounds, "processes": options.processes, "beside_neural_tangents": beside,
        "rows": [{"name": name, "value": float(value), "target": target} for name, value, target in rows],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.exists() and (many := json.loads(options.out.read_text()).get("many_times")):
        record["many_times"] = many
    options.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(1800, exit=True)
    main()
