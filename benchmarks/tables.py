"""Claim: tables of thousands of inputs end, in seconds and little memory; what a certificate and transitions take.

Processor seconds of parts of a bottleneck and of exact informations, and by how much a call raises the peak memory of
its process: certificates of 24 β, transitions, hard clusters, large tables beside the exponentials of one sweep, and a
mixture of 20,000 points. Each row in a process of its own without a compilation cache; none but the last compiles.

    uv run python benchmarks/tables.py                  # all rows
    uv run python benchmarks/tables.py --rows critical  # some
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
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import mixture
from ntkinfo.bottleneck import _duality_gap, _solver
from ntkinfo.bottleneck._distortion import Problem

RESULTS = Path(__file__).parent / "results" / "tables.json"


def peak():
    """The largest memory of the process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def dirichlet(n, k, alpha=1.0):
    return np.random.default_rng(0).dirichlet(np.full(k, alpha), n) / n


def uniform(*shape):
    table = np.random.default_rng(0).random(shape)
    return table / table.sum()


def certificates():
    """The search behind the certificates of 24 β, 64 x 8, from all starts (target 0.1 s)."""
    problem, beta = Problem.from_joint(uniform(64, 8), False), np.geomspace(1.05, 300, 24)
    start = _solver.identity_start(problem, len(beta))
    solution = _solver.solve_fast(problem, beta, 1.0, *start, tolerance=1e-12, max_steps=6000)
    counts = _solver.n_used(solution)
    clusters = [(z[:n], s[:n]) for z, s, n in zip(solution.log_p_z, solution.log_p_y_given_z, counts, strict=True)]
    for name in ("first", "again", "once more"):
        yield name, lambda: _duality_gap.maxima(problem, beta, clusters)


def critical():
    """`bottleneck.critical_betas`, uniform random tables (targets 2 s and 60 s)."""
    for shape in ((6, 3), (16, 4)):
        yield f"{shape[0]} x {shape[1]}", lambda shape=shape: ni.bottleneck.critical_betas(uniform(*shape))


def partitions():
    """`bottleneck.deterministic_ib`, 1000 x 10 of Dirichlet rows, β = 20 (target 5 s)."""
    for name in ("first", "again"):
        yield name, lambda: ni.bottleneck.deterministic_ib(dirichlet(1000, 10), [20.0])


def wide():
    """`bottleneck.ib`, 2000 x 50 of Dirichlet rows, one β, without a certificate (it did not end in 250 s)."""
    yield "2000² exponentials", lambda: np.exp(np.full((2000, 2000), -1.0))
    for beta in (50.0, 18.0, 15.0):
        yield f"β = {beta:g}", lambda beta=beta: ni.bottleneck.ib(dirichlet(2000, 50), [beta])


def mixtures():
    """`mixture.exact`, 20,000 points (target 200 MB)."""
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=(20_000, 1)), rng.uniform(0.05, 1, size=20_000)
    # What JAX and its compiler take for themselves is not the call's.
    yield "10 points", lambda: mixture.exact(mean[:10], variance[:10]).value
    for name in ("first", "again"):
        yield name, lambda: mixture.exact(mean, variance).value


ROWS = {function.__name__: function for function in (certificates, critical, partitions, wide, mixtures)}


def cost(call):
    """Processor seconds of a call, by how much it raises the peak memory in MB, and what is found of it."""
    start, before = time.process_time(), peak()
    result = jax.block_until_ready(call())
    told = {"seconds": time.process_time() - start, "mb": peak() - before}
    if isinstance(result, ni.bottleneck.BottleneckCurve):
        told |= {"clusters": int(np.max(np.sum(np.asarray(result.prior) > 0, axis=-1)))}
        told |= {"converged": bool(np.all(result.converged))}
    elif hasattr(result, "global_"):
        told |= {"transitions": len(result.global_)}
    return told


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", choices=ROWS, nargs="+", default=list(ROWS), help="what to measure")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps([{"call": name, **cost(call)} for name, call in ROWS[options.row]()]))
        return
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    for name in options.rows:
        load = os.getloadavg()[0]
        command = [sys.executable, __file__, "--row", name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        calls = json.loads(done.stdout.strip().splitlines()[-1])
        print(ROWS[name].__doc__, *calls, sep="\n    ", flush=True)
        rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
        setting = {"jax": jax.__version__, "numpy": np.__version__, "cores": os.cpu_count(), "load": load}
        rows[name] = {"what": ROWS[name].__doc__, "machine": platform.machine(), **setting, "calls": calls}
        RESULTS.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(1800, exit=True)
    main()
