"""How long all 60,000 images of Fashion-MNIST, 100 test inputs and all times, take the Krylov engine: extrapolated.

Not run in full: a cost model, whose parts are measured one by one, is held against whole runs that it was not made of.
In float32, kernels evaluated tile by tile for every product (storage="none"), a fully connected ReLU network with three
hidden layers, tiles of 1024 rows:

    processor = first + tiles (steps · product + totals) + 8 n q² · flop + projections(q),      q = 101 · steps

first: compilation, and a whole run at n = 512 less what the model says of the rest; product: a tile of both kernels
evaluated and multiplied with 101 columns; totals: a tile summed; flop: of the products that keep the basis orthogonal;
projections: eigendecompositions (q, q) and means, variances and errors of the looks on the way and of the last one,
measured at each q. Steps are those of whole runs, carried on to 60,000 by a power of n: that is the extrapolation.
Beside it the features engine on all images (pixels and a constant: a linear network), exact, and run in full; and the
main job of the command line on 20,000 images, stopped in the middle of its kernels and resumed.

    uv run python benchmarks/fashion.py --part tiles
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo.ensemble import _projection
from ntkinfo.kernels import evaluated

OUT = Path(__file__).parent / "results" / "fashion.json"
N, M, TOLERANCE, TILE, SMALL = 60_000, 100, 1e-3, 1024, 512
TIMES = np.concatenate([[0.0], np.geomspace(0.1, 1e6, 58), [np.inf]]).astype(np.float32)
PARTS = ("tiles", "projections", "first", "steps", "whole", "features", "command")
# Seconds after which the command is stopped, for it to go on from its checkpoint.
STOPPED_AFTER = 60


def network():
    hidden = [part for _ in range(3) for part in (stax.Dense(512, W_std=2**0.5, b_std=0.1), stax.Relu())]
    return stax.serial(*hidden, stax.Dense(1, W_std=2**0.5, b_std=0.1))


def images(n):
    """n training images, labels (parity of the class), and the test images, in float32."""
    data = ni.datasets.fashion_mnist(n_train=n, n_test=M, seed=0)
    return [np.asarray(part, np.float32) for part in (data.x_train, data.y_train, data.x_test)]


def seconds(function, count=3):
    """Processor seconds of a call, the first one left out."""
    function()
    start = time.process_time()
    for _ in range(count):
        function()
    return (time.process_time() - start) / count


def tiles(n, count=3):
    """Processor seconds of a tile of both kernels of n images: evaluated and multiplied, and evaluated and summed."""
    few = jax.numpy.asarray(images(n)[0][-TILE * count :])
    held = evaluated(network()[2], few, batch_size=TILE)
    columns = np.random.default_rng(0).normal(size=(len(few), M + 1))
    pairs = count * (count + 1) // 2
    return {
        "product": seconds(lambda: held.products(columns, progress=False)) / pairs,
        "totals": seconds(lambda: held.totals(progress=False), 1) / pairs,
        "tiles measured": pairs,
    }


def projections(steps):
    """Processor seconds of all looks at the errors of a run of that many steps: of every second step, and the last."""
    rng, noise, taken = np.random.default_rng(0), _projection.Noise(1e-9, 1e-9, 1e-3, 1e-3, 1e-7), 0.0
    every = TIMES.astype(float)
    watched = every[np.unique(np.linspace(0, len(every) - 1, 16).astype(int))]
    for count, s in [*((count, watched) for count in range(2, steps + 1, 2)), (steps, every)]:
        q = count * (M + 1)
        a = rng.normal(size=(q, q)) / np.sqrt(q)
        parts = (a @ a.T + 1e-3 * np.eye(q), np.eye(q), a[:, :1], a[:, :M], a[:, :M], np.ones(M), a[: M + 1], M + 1)
        start = time.process_time()
        _projection.moments(_projection.Projection(*parts), s, lambda values: values, noise)
        taken += time.process_time() - start
    return taken


def krylov(n, storage):
    """A whole run: steps, and its processor seconds."""
    x, y, x_test = images(n)
    options = {"engine": "krylov", "storage": storage, "tolerance": TOLERANCE, "singular": "project"}
    wall, start = time.perf_counter(), time.process_time()
    ens = ni.Ensemble.fit(network(), x, y, progress=False, **options)
    z = ens.predict(x_test, TIMES, progress=False)
    return {
        "steps": max(z.steps),
        "reached": z.reached,
        "processor": time.process_time() - start,
        "wall": time.perf_counter() - wall,
        "largest error told of a mean": float(z.error.mean.max()),
    }


def linear(n):
    """The features engine: pixels and a constant."""
    x, y, x_test = images(n)
    start = time.process_time()
    kernel = ni.kernels.features(lambda x: np.concatenate([np.asarray(x), np.ones((len(x), 1), np.float32)], axis=1))
    ens = ni.Ensemble.fit(kernel, x, y, progress=False)
    z = ens.predict(x_test, TIMES)
    post = ni.Posterior.fit(kernel, x, y, noise="fit", progress=False)
    return {
        "processor": time.process_time() - start,
        "rank": ens.rank,
        "mean of the squared means at the end": float(np.mean(np.asarray(z.mean[-1]) ** 2)),
        "information gain": float(post.information_gain),
    }


def command(n):
    """`python -m ntkinfo` on n images with the options of the documentation, stopped once and resumed: each process."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "ntkinfo", "--engine", "krylov", "--n-train", str(n), "--data", "fashion"]
        line += ["--n-test", str(M), "--checkpoint", f"{folder}/kept", "--out", f"{folder}/out"]
        processes, told = [], Path(folder, "told")
        for limit in (STOPPED_AFTER, None):
            start = time.perf_counter()
            with told.open("w") as stream:
                child = subprocess.Popen(line, stdout=stream, stderr=stream)
            timer = threading.Timer(limit or 0.0, child.terminate)
            if limit:
                timer.start()
            _, status, used = os.wait4(child.pid, 0)
            timer.cancel()
            processes.append(
                {
                    "stopped": bool(status),
                    "wall": time.perf_counter() - start,
                    "processor": used.ru_utime + used.ru_stime,
                    "peak memory, GB": used.ru_maxrss / 1e6,
                }
            )
        curve = np.genfromtxt(f"{folder}/out/curve.csv", delimiter=",", names=True)
        return {"processes": processes} | errors_of(curve, told.read_text())


def errors_of(curve, told):
    """Of a curve.csv: the largest errors over time, and what was said of the tolerance."""
    error = np.maximum(
        curve["input_information"] - curve["input_information_lower"],
        curve["input_information_upper"] - curve["input_information"],
    )
    missed = re.search(r"error of the predictions is up to ([0-9.e-]+)", told)
    return {
        "largest error of I(X;Z|D)": float(error.max()),
        "largest error of the mean's squared error": float(curve["mean_mse_truncation"].max()),
        "error of the predictions, above the tolerance": float(missed[1]) if missed else None,
    }


def model(results):
    """The extrapolation to N, from what is there; and the same for sizes that were run whole."""
    runs = results.get("steps", {}) | results.get("whole", {})
    steps = {int(n): row["steps"] for n, row in runs.items() if int(n) > SMALL}
    if len(steps) < 3 or str(N) not in results.get("tiles", {}) or not results.get("projections"):
        return {}
    sizes = np.array(sorted(steps))
    slope, level = np.polyfit(np.log(sizes), np.log([steps[n] for n in sizes]), 1)
    known = {int(count): value for count, value in results["projections"].items()}

    def rest(n, count):
        near = min((there for there in results["tiles"] if int(there) >= n), key=int)
        rates, blocks, q = results["tiles"][near], -(-n // TILE), count * (M + 1)
        # The last tile of a row is less than whole.
        pairs = n * (n + TILE) / (2 * TILE**2) if blocks > 1 else (n / TILE) ** 2
        counts, taken = np.log(sorted(known)), np.log([known[c] for c in sorted(known)])
        more = max(np.log(count) - counts[-1], 0.0) * (taken[-1] - taken[-2]) / (counts[-1] - counts[-2])
        looks = float(np.exp(np.interp(np.log(count), counts, taken) + more))
        return {
            "products": count * pairs * rates["product"],
            "totals": pairs * rates["totals"],
            "orthogonal": 8 * n * q**2 * results["seconds per flop"],
            "projections": looks,
        }

    first = 0.0
    if "first" in results:
        small = results["first"][str(SMALL)]
        first = max(small["processor"] - sum(rest(SMALL, small["steps"]).values()), 0.0)

    def processor(n, count):
        return {"first": first} | rest(n, count)

    expected = float(np.exp(level) * N**slope)
    parts, more = processor(N, expected), processor(N, 1.5 * expected)
    checks = {}
    for n, row in results.get("whole", {}).items():
        told = processor(int(n), row["steps"])
        checks[n] = {
            "measured": row["processor"],
            "by the model": sum(told.values()),
            "ratio": row["processor"] / sum(told.values()),
        }
    stopped = {
        n: {"steps by the power law": float(np.exp(level) * int(n) ** slope)}
        | {"by the model for the steps taken": sum(processor(int(n), row["steps"]).values())}
        for n, row in results.get("unfinished", {}).items()
    }
    return {
        "extrapolated": True,
        "exponent of the steps": float(slope),
        "steps": expected,
        "parts, processor seconds": parts,
        "processor hours": sum(parts.values()) / 3600,
        "hours of two cores": sum(parts.values()) / 7200,
        # Half as many steps again, as a margin of the power law.
        "hours of two cores with half as many steps again": sum(more.values()) / 7200,
        "whole runs": checks,
        "unfinished": stopped,
    }


def seconds_per_flop():
    """Of float64 products of the shapes that a basis is made orthogonal by."""
    a = np.random.default_rng(0).normal(size=(20_000, 400))
    return seconds(lambda: a.T @ a[:, : M + 1], 4) / (2 * 20_000 * 400 * (M + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    defaults = {
        "tiles": [8000, N],
        "projections": [4, 8, 14, 22],
        "first": [SMALL],
        "steps": [2000, 4000, 8000],
        "whole": [2000, 4000, 8000],
        "features": [N],
        "command": [20_000],
    }
    measure = {
        "tiles": tiles,
        "projections": projections,
        "first": lambda n: krylov(n, "none"),
        "steps": lambda n: krylov(n, "float32"),
        "whole": lambda n: krylov(n, "none"),
        "features": linear,
        "command": command,
    }[options.part]
    for n in options.sizes or defaults[options.part]:
        results.setdefault(options.part, {})[str(n)] = measure(n)
        results.setdefault("seconds per flop", seconds_per_flop())
        results["model"] = model(results)
        results["versions"] = {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}
        print(options.part, n, json.dumps(results[options.part][str(n)]), flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["model"], indent=1))


if __name__ == "__main__":
    main()
