"""Claim: evidence, means and variances of a posterior with given noise take at most 1.2 times what tinygp takes.

tinygp (by Cholesky too) as its documentation says: a kernel class, `GaussianProcess(..., diag=noise).condition` in a
jitted function; its variances come with its default jitter, √eps. Each contender has processes of its own, by turns,
with the same number of threads and no compilation cache: cold (the first call, compilation included) and warm, in wall
and in processor time. Two problems:

- "kernel given": both look kernel entries up in a matrix, so that what is compared is the posterior;
- "from inputs": both evaluate the NNGP kernel of the same network. Ours evaluates the tangent kernel along with it.

Ours also with a kernel function of which nothing is known, which is proven semidefinite by a second factor, and by the
eigenvalues of the kernel, as it was before the factor.

    uv run --with tinygp python benchmarks/posterior.py
"""

import argparse
import faulthandler
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from ntkinfo import kernels, stax
from ntkinfo.posterior import Posterior

NOISE, W_STD, B_STD = 0.1, 1.5, 0.1
PROBLEMS = ("kernel given", "from inputs")


def network():
    layers = [stax.Dense(512, W_std=W_STD, b_std=B_STD), stax.Erf()] * 2
    return stax.serial(*layers, stax.Dense(1, W_std=W_STD, b_std=B_STD))


def data(n, m):
    rng = np.random.default_rng(0)
    x, x_test = (jnp.asarray(rng.normal(size=(size, 30))) for size in (n, m))
    return x, jnp.asarray(np.sign(x[:, :1] + rng.normal(size=(n, 1)))), x_test


def matrix_of(x, x_test):
    """The kernel of all inputs, trained on and not, as an array of JAX."""
    return jnp.asarray(kernels.kernels(network(), jnp.concatenate([x, x_test])).nngp)


def tinygp(problem, x, y, x_test):
    """The peer's function, its arguments in a closure: log evidence, means and variances."""
    import tinygp as peer  # pyright: ignore

    class Lookup(peer.kernels.Kernel):
        matrix: jax.Array

        def evaluate(self, X1, X2):
            return self.matrix[X1, X2]

    class Network(peer.kernels.Kernel):
        def evaluate(self, X1, X2):
            def dense(covariances):
                return [W_STD**2 * each + B_STD**2 for each in covariances]

            own1, cross, own2 = dense([jnp.mean(X1 * X1), jnp.mean(X1 * X2), jnp.mean(X2 * X2)])
            for _ in range(2):
                scale = jnp.sqrt((1 + 2 * own1) * (1 + 2 * own2))
                parts = 2 * own1 / (1 + 2 * own1), 2 * cross / scale, 2 * own2 / (1 + 2 * own2)
                own1, cross, own2 = dense([2 / np.pi * jnp.arcsin(part) for part in parts])
            return cross

    @jax.jit
    def condition(kernel, x, y, x_test):
        process = peer.GaussianProcess(kernel, x, diag=NOISE)
        log_evidence, conditioned = process.condition(y, x_test)
        return log_evidence, conditioned.loc, conditioned.variance

    if problem == "from inputs":
        return lambda: condition(Network(), x, y[:, 0], x_test)
    given, n = matrix_of(x, x_test), len(x)
    return lambda: condition(Lookup(given), jnp.arange(n), y[:, 0], jnp.arange(n, n + len(x_test)))


def ours(problem, x, y, x_test, *, known=True, by_eigenvalues=False):
    """The same of `Posterior`."""
    net = network()

    def measured(post, x_test):
        post = post.with_spectrum() if by_eigenvalues else post
        z = post.predict(x_test)
        return post.log_marginal_likelihood, z.mean, z.variance

    if problem == "from inputs":
        described = net if known else lambda x1, x2, get: net[2](x1, x2, get)
        return lambda: measured(Posterior.fit(described, x, y, noise=NOISE), x_test)
    given, n = matrix_of(x, x_test), len(x)

    def lookup(x1, x2, get):
        found = given[x1[:, 0].astype(int)][:, (x1 if x2 is None else x2)[:, 0].astype(int)]
        return found, found

    rows, test_rows = jnp.arange(float(n))[:, None], jnp.arange(float(n), float(n + len(x_test)))[:, None]
    q = given[:n, :n]

    def run():
        post = Posterior.from_kernel(net[2] if known else lookup, x if known else rows, y, q, noise=NOISE)
        if known:
            # The network's own kernel between test and training inputs; evaluated, where the others look it up.
            return measured(post, x_test)
        return measured(post, test_rows)

    return run


CONTENDERS = {
    "tinygp": tinygp,
    "ntkinfo": ours,
    "ntkinfo, kernel unknown": lambda *problem: ours(*problem, known=False),
    "ntkinfo, by eigenvalues": lambda *problem: ours(*problem, by_eigenvalues=True),
}


def contend(name, problem, n, m, repeats):
    """Cold and warm seconds of one contender and its results; in a process that has done nothing else."""
    arrays = data(n, m)
    run = jax.block_until_ready(CONTENDERS[name](problem, *arrays))
    seconds, result = [], ()
    for _ in range(1 + repeats):
        wall, processor = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(run())
        seconds.append({"wall": time.perf_counter() - wall, "processor": time.process_time() - processor})
    evidence, mean, variance = (np.asarray(part).ravel() for part in result)
    results = {"log evidence": float(evidence[0]), "mean": mean.tolist(), "variance": variance.tolist()}
    return {"cold": seconds[0], "warm": seconds[1:], "results": results}


def in_fresh_process(name, problem, options):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    arguments = "--contend", name, "--problem", problem, "--n", options.n, "--m", options.m
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments), "--repeats", str(options.repeats)],
        capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(runs, phase, clock):
    values = [run["cold"] for run in runs] if phase == "cold" else [each for run in runs for each in run["warm"]]
    return float(np.median([value[clock] for value in values]))


def largest_difference(run, other):
    return max(
        float(np.max(np.abs(np.asarray(run["results"][name]) - np.asarray(other["results"][name]))))
        for name in run["results"]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--m", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5, help="warm calls of a process")
    parser.add_argument("--processes", type=int, default=3, help="fresh processes of each contender")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "posterior.json")
    parser.add_argument("--contend", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--problem", choices=PROBLEMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        print(json.dumps(contend(options.contend, options.problem, options.n, options.m, options.repeats)))
        return
    record = {
        "n": options.n, "m": options.m, "noise": NOISE, "repeats": options.repeats, "processes": options.processes,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", "scipy", "tinygp")},
        "cores": os.cpu_count(), "machine": platform.machine(), "blas_threads": os.environ["OPENBLAS_NUM_THREADS"],
        "problems": {},
    }  # fmt: skip
    for problem in PROBLEMS:
        runs = {name: [] for name in CONTENDERS}
        for _ in range(options.processes):
            for name in CONTENDERS:
                runs[name].append(in_fresh_process(name, problem, options))
        peer = runs["tinygp"]
        rows = record["problems"][problem] = {}
        print(f"\n{problem}: n = {options.n}, m = {options.m}, float64, seconds (wall, processor)")
        for name, of_name in runs.items():
            row = rows[name] = {
                phase: {clock: median(of_name, phase, clock) for clock in ("wall", "processor")}
                for phase in ("cold", "warm")
            }
            # Within each round, so that a busy machine slows both alike.
            row["of tinygp, warm, per round"] = {
                clock: [median([run], "warm", clock) / median([other], "warm", clock)
                        for run, other in zip(of_name, peer, strict=True)]
                for clock in ("wall", "processor")
            }  # fmt: skip
            row["of tinygp, warm"] = {
                clock: float(np.median(values)) for clock, values in row["of tinygp, warm, per round"].items()
            }
            row["largest difference from tinygp"] = largest_difference(of_name[0], peer[0])
            phases = "   ".join(
                f"{phase} {row[phase]['wall']:7.3f} {row[phase]['processor']:7.3f}" for phase in ("cold", "warm")
            )
            ratio = row["of tinygp, warm"]
            print(f"{name:<26} {phases}   / tinygp {ratio['wall']:5.2f} {ratio['processor']:5.2f}"
                  f"   differs by {row['largest difference from tinygp']:.1e}")  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(1800, exit=True)
    main()
