"""Claim: at n = 8000 and 100 test inputs the Krylov engine takes at most 1/4 of the dense engine's processor time.

Both engines on images of digits (split from the 10,000 MNIST test images), a fully connected ReLU network with three
hidden layers, all times at once. Each contender has a process of its own, by turns, with the same number of threads and
no compilation cache: fit and predict together, compilation and kernels included, in wall and processor time, with the
peak of its memory. Errors: what the Krylov engine shows, and the distance of its predictions from the dense ones. Sizes
that the JSON has already are kept.

    uv run python benchmarks/scale.py --mnist FOLDER
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import stax

OUT = Path(__file__).parent / "results" / "scale.json"
CONTENDERS = {
    "dense": {"engine": "dense"},
    "krylov": {"engine": "krylov"},
    "krylov, float32": {"engine": "krylov", "storage": "float32"},
}


def network():
    hidden = [part for _ in range(3) for part in (stax.Dense(512, W_std=2**0.5, b_std=0.1), stax.Relu())]
    return stax.serial(*hidden, stax.Dense(1, W_std=2**0.5, b_std=0.1))


def problem(folder, n, m):
    """Training inputs and labels (parity of the digit), and test inputs, from the 10,000 test images."""
    data = ni.datasets.mnist(folder, n, m, seed=0)
    return data.x_train, data.y_train, data.x_test


def one(options):
    """One contender in this process: fit and predict, timed."""
    x, y, x_test = problem(options.mnist, options.n, options.m)
    t = np.concatenate([[0.0], np.geomspace(0.1, 1e6, options.times - 2), [np.inf]])
    wall, processor = time.perf_counter(), time.process_time()
    ens = ni.Ensemble.fit(network(), x, y, progress=False, tolerance=1e-3, **CONTENDERS[options.contender])
    fitted = time.process_time() - processor
    z = ens.predict(x_test, t)
    jax.block_until_ready(z)
    result = {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "processor of the fit": fitted,
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    arrays = {"mean": z.mean, "variance": z.variance}
    if options.contender != "dense":
        result |= {"steps": list(z.steps), "reached": z.reached}
        arrays |= {"mean_error": z.error.mean, "variance_error": z.error.variance}
    np.savez(options.save, **arrays)
    print("RESULT", json.dumps(result), flush=True)


def errors(exact, other):
    """Errors shown and true of one contender beside the dense engine."""
    result = {}
    for name in ("mean", "variance"):
        true, shown = np.abs(exact[name] - other[name]), other[f"{name}_error"]
        result[name] = {
            "largest true": float(true.max()),
            "largest shown": float(shown.max()),
            # What both engines round off alike is no error of either.
            "covered": float(np.mean(true <= shown + 1e-10)),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the IDX files of the test images")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    parser.add_argument("--m", type=int, default=100, help="test inputs")
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which no contender is started")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        one(options)
        return
    start = time.perf_counter()
    results = json.loads(options.out.read_text())["sizes"] if options.out.exists() else {}
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    with tempfile.TemporaryDirectory() as folder:
        for n in [n for n in options.sizes if str(n) not in results]:
            saved = {}
            for contender in CONTENDERS:
                if time.perf_counter() - start > options.limit:
                    break
                file = Path(folder) / f"{contender}.npz"
                command = [
                    sys.executable,
                    __file__,
                    "--mnist",
                    options.mnist,
                    "--m",
                    options.m,
                    "--times",
                    options.times,
                ]
                command += ["--contender", contender, "--n", n, "--save", file]
                done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
                lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
                if not lines:
                    raise RuntimeError(done.stderr[-2000:])
                row = json.loads(lines[0].removeprefix("RESULT"))
                saved[contender] = dict(np.load(file))
                if contender != "dense" and "dense" in saved:
                    row["errors"] = errors(saved["dense"], saved[contender])
                results.setdefault(str(n), {})[contender] = row
                print(f"n = {n:5d} {contender:16s} {json.dumps(row)}", flush=True)
                report = {
                    "sizes": {size: results[size] for size in sorted(results, key=int)},
                    "m": options.m,
                    "times": options.times,
                    "versions": {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
                    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                }
                options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
