"""Claim: predictive variances at 100 training times cost little more than one eigendecomposition.

Ours (`Ensemble.fit` and `predict`, `curve`) beside one `jnp.linalg.eigh` of the same matrix plus the kernel evaluation,
and beside `neural_tangents.predict.gradient_descent_mse_ensemble` computing the same means and variances, in one run.

    uv run python benchmarks/predict.py
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


def peer_seconds(net, x, y, x_test, times):
    """neural-tangents: means and covariances time by time, as its predictor offers them; (fit, per time)."""
    import neural_tangents

    start = time.perf_counter()
    predict = neural_tangents.predict.gradient_descent_mse_ensemble(net[2], x, y, diag_reg=0.0)
    jax.block_until_ready(predict(t=float(times[0]), x_test=x_test, get="ntk", compute_cov=True))
    first = time.perf_counter() - start
    seconds, results = [], []
    for t in times:
        start = time.perf_counter()
        z = jax.block_until_ready(predict(t=float(t), x_test=x_test, get="ntk", compute_cov=True))
        seconds.append(time.perf_counter() - start)
        results.append((np.asarray(z.mean), np.diag(np.asarray(z.covariance))))
    return first, float(np.median(seconds)), results


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
    parser.add_argument(
        "--peer-times", type=int, default=100, help="times computed by the peer; the rest is extrapolated"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "predict.json")
    parser.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    n, m, repeats = options.n, options.m, options.repeats
    if options.resident:
        print(resident(n, m))
        return
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
    first, each, theirs = peer_seconds(net, x, y, x_test, np.asarray(t)[:: max(1, options.times // options.peer_times)])
    peer_total = first + each * (options.times - 1)
    ours_z = ens.predict(x_test, t)
    picked = slice(None, None, max(1, options.times // options.peer_times))
    differences = [
        (np.abs(mean - z_mean).max(), np.abs(variance - z_variance).max())
        for (mean, variance), z_mean, z_variance in zip(
            theirs, np.asarray(ours_z.mean)[picked], np.asarray(ours_z.variance)[picked], strict=True
        )
    ]
    temporary, output = peak_memory(n, m)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": os.environ["OPENBLAS_NUM_THREADS"]}
    grown = subprocess.run(
        [sys.executable, __file__, "--resident", "--n", str(n), "--m", str(m)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    ours = per_round["fit"] + per_round["predict"]
    basis = ens.time_basis(t)
    rows = [
        ("(fit + predict) / (eigh + kernel)", np.median(ours / (per_round["eigh"] + per_round["kernel"])), "<= 2"),
        ("neural-tangents / (fit + predict), means and variances", peer_total / np.median(ours), ">= 10"),
        ("neural-tangents / predict, after each one's fit", each * options.times / seconds["predict"], ""),
        ("10 times as many times / predict",
         np.median(per_round["predict, 10 times as many times"] / per_round["predict"]), "<= 2"),
        ("what curve adds to fit + predict", np.median((per_round["curve"] - per_round["predict"]) / ours), "<= 0.3"),
        ("the same without the joint divergence",
         np.median((per_round["curve without the joint divergence"] - per_round["predict"]) / ours), ""),
        ("kernel / matrix product n x n", np.median(per_round["kernel"] / per_round["matrix product n x n"]), ""),
        ("temporary memory of predict, n x n matrices (XLA)", temporary, "< 3"),
        ("growth of resident memory in predict, n x n matrices", float(grown.stdout), "< 3 + output"),
        ("output of predict, n x n matrices", output, ""),
        ("largest difference of means from neural-tangents", max(d[0] for d in differences), ""),
        ("largest difference of variances from neural-tangents", max(d[1] for d in differences), ""),
    ]  # fmt: skip
    print(
        f"n = {n}, m = {m}, {options.times} times, k = 1, float64, {os.cpu_count()} cores, median of {repeats} rounds\n"
    )
    for name, value in seconds.items():
        print(f"{name:<60} {value:9.3f} s")
    print(f"{'neural-tangents: first call':<60} {first:9.3f} s")
    print(f"{'neural-tangents: each time':<60} {each:9.3f} s\n")
    for name, value, target in rows:
        print(f"{name:<60} {value:9.3g}   {target}")
    few = options.times if basis is None else basis.shape[1]
    flops = 2 * m * few * n * n * (1 + 1 / spectral_filters.BLOCKS) / 2
    rate = flops / seconds["predict"] / 1e9
    print(f"\npredict multiplies by K~ for {few} functions of time: {flops:.3g} flops, {rate:.1f} GFLOP/s")
    record = {
        "n": n, "m": m, "times": options.times, "repeats": repeats, "jax": jax.__version__, "cores": os.cpu_count(),
        "machine": platform.machine(), "blas_threads": os.environ["OPENBLAS_NUM_THREADS"], "seconds": seconds,
        "seconds_all": rounds, "neural_tangents": {"first": first, "each": each},
        "rows": [{"name": name, "value": float(value), "target": target} for name, value, target in rows],
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(1800, exit=True)
    main()
