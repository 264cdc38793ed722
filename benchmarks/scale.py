"""Claim: at n = 8000 and 100 test inputs the Krylov engine takes at most 1/4 of the dense engine's processor time.

Both engines on Fashion-MNIST (parity of the class), a fully connected ReLU network with three hidden layers, all times
at once. Each contender has a process of its own, with the same number of threads and no compilation cache: fit and
predict together, compilation and kernels included, in wall and processor time, with the peak of its memory. Errors:
what the Krylov engine shows, and the distance of its predictions from the dense ones; where the dense engine was not
run, from the Krylov engine's own at a tolerance a thousand times smaller, whose errors are less than that.

Rows that the JSON has already are kept, so that it can be measured in pieces; --kept keeps predictions between these,
without which a later piece has none to compare with. --alone says of rows that nothing else ran beside them.

    uv run python benchmarks/scale.py --kept FOLDER
    uv run python benchmarks/scale.py --kept FOLDER --sizes 16000 --contenders krylov reference
"""

import argparse
import itertools
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
    "reference": {"engine": "krylov", "tolerance": 1e-6},
}


def network():
    hidden = [part for _ in range(3) for part in (stax.Dense(512, W_std=2**0.5, b_std=0.1), stax.Relu())]
    return stax.serial(*hidden, stax.Dense(1, W_std=2**0.5, b_std=0.1))


def one(options):
    """One contender in this process: fit and predict, timed."""
    data = ni.datasets.fashion_mnist(options.fashion, options.n, options.m, seed=0)
    x, y, x_test = data.x_train, data.y_train, data.x_test
    t = np.concatenate([[0.0], np.geomspace(0.1, 1e6, options.times - 2), [np.inf]])
    wall, processor = time.perf_counter(), time.process_time()
    chosen = {"tolerance": 1e-3} | CONTENDERS[options.contender]
    ens = ni.Ensemble.fit(network(), x, y, progress=False, **chosen)
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
    np.savez(options.kept / f"{options.n}, {options.contender}.npz", **arrays)
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


def slopes(sizes):
    """Exponents of n in processor time and memory, over the three largest sizes of a contender."""
    found = {}
    for contender in CONTENDERS:
        rows = [(int(n), row[contender]) for n, row in sizes.items() if contender in row][-3:]
        if len(rows) == 3:
            where = np.log([n for n, _ in rows])
            found[contender] = {
                name: float(np.polyfit(where, np.log([row[name] for _, row in rows]), 1)[0])
                for name in ("processor", "peak memory, GB")
            }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, help="folder of the IDX files; left out: where Debian puts them")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["dense", "krylov", "krylov, float32"])
    parser.add_argument("--m", type=int, default=100, help="test inputs")
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which no contender is started")
    parser.add_argument("--kept", type=Path, help="folder that keeps predictions")
    parser.add_argument("--alone", action="store_true", help="nothing else runs on this machine")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        one(options)
        return
    start = time.perf_counter()
    results = json.loads(options.out.read_text())["sizes"] if options.out.exists() else {}
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    with tempfile.TemporaryDirectory() as folder:
        kept = options.kept or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        for n, contender in itertools.product(options.sizes, options.contenders):
            if contender in results.get(str(n), {}):
                continue
            if time.perf_counter() - start > options.limit:
                break
            command = [sys.executable, __file__, "--m", options.m, "--times", options.times, "--kept", kept]
            command += ["--contender", contender, "--n", n]
            command += [] if options.fashion is None else ["--fashion", options.fashion]
            done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
            if not lines:
                raise RuntimeError(done.stderr[-2000:])
            row = json.loads(lines[0].removeprefix("RESULT")) | {"alone": options.alone}
            rows = results.setdefault(str(n), {})
            rows[contender] = row
            # Those of a piece before this one as well, which may have lacked what they are compared with.
            saved = {name: kept / f"{n}, {name}.npz" for name in rows}
            saved = {name: dict(np.load(file)) for name, file in saved.items() if file.exists()}
            exact = next((name for name in ("dense", "reference") if name in saved), None)
            for name in saved:
                if exact is not None and name != exact and name != "dense":
                    rows[name] |= {"beside": exact, "errors": errors(saved[exact], saved[name])}
            print(f"n = {n:5d} {contender:16s} {json.dumps(row)}", flush=True)
            ordered = {size: results[size] for size in sorted(results, key=int)}
            report = {
                "data": "Fashion-MNIST",
                "sizes": ordered,
                "slopes": slopes(ordered),
                "m": options.m,
                "times": options.times,
                "versions": {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
                "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            }
            options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
