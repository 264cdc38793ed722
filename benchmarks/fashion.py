"""How long all 60,000 images of Fashion-MNIST, 100 test inputs and all times, take the Krylov engine: extrapolated.

Not run in full: measured at smaller n and carried on by a cost model, which is an extrapolation. In float32, kernels
evaluated tile by tile for every product (storage="none"), a fully connected ReLU network with three hidden layers:

    processor = (steps + 1) tiles (seconds per tile) + (seconds per flop) 8 n q²,      q = columns of the basis

The seconds of a tile are measured at each n, on tiles of the 60,000 images as well; steps are measured with stored
kernels and carried on by a power of n. The model is held against whole runs that it was not made of. Beside it the
features engine on all images (pixels and a constant: a linear network), which is exact and is run in full.

    uv run python benchmarks/fashion.py --part tiles
"""

import argparse
import json
import os
import platform
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo.kernels import evaluated

OUT = Path(__file__).parent / "results" / "fashion.json"
N, M, TOLERANCE, TILE = 60_000, 100, 1e-3, 1024
TIMES = np.concatenate([[0.0], np.geomspace(0.1, 1e6, 58), [np.inf]]).astype(np.float32)
PARTS = ("tiles", "steps", "whole", "features")


def network():
    hidden = [part for _ in range(3) for part in (stax.Dense(512, W_std=2**0.5, b_std=0.1), stax.Relu())]
    return stax.serial(*hidden, stax.Dense(1, W_std=2**0.5, b_std=0.1))


def images(n):
    """n training images, labels (parity of the class), and the test images, in float32."""
    data = ni.datasets.fashion_mnist(n_train=n, n_test=M, seed=0)
    return [np.asarray(part, np.float32) for part in (data.x_train, data.y_train, data.x_test)]


def tiles(n, count=3):
    """Processor seconds of a tile of both kernels, evaluated and multiplied with M + 1 columns."""
    x, _, _ = images(n)
    rows = np.linspace(0, n - TILE * count, 1).astype(int)[0]
    few = jax.numpy.asarray(x[rows : rows + TILE * count])
    held = evaluated(network()[2], few, batch_size=TILE)
    columns = np.random.default_rng(0).normal(size=(len(few), M + 1))
    held.products(columns, progress=False)
    start = time.process_time()
    held.products(columns, progress=False)
    pairs = count * (count + 1) // 2
    return {"seconds per tile": (time.process_time() - start) / pairs, "tiles measured": pairs}


def krylov(n, storage):
    """A whole run: steps, and its processor seconds."""
    x, y, x_test = images(n)
    options = {"engine": "krylov", "storage": storage, "tolerance": TOLERANCE, "singular": "project"}
    start = time.process_time()
    ens = ni.Ensemble.fit(network(), x, y, progress=False, **options)
    z = ens.predict(x_test, TIMES, progress=False)
    seconds = time.process_time() - start
    return {
        "steps": max(z.steps),
        "reached": z.reached,
        "processor": seconds,
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


def model(results):
    """The extrapolation to N, from what is there; and the same for sizes that were run whole."""
    steps = {int(n): row["steps"] for n, row in results.get("steps", {}).items()}
    rates = {int(n): row["seconds per tile"] for n, row in results.get("tiles", {}).items()}
    if len(steps) < 3 or not rates:
        return {}
    sizes = np.array(sorted(steps))
    slope, level = np.polyfit(np.log(sizes), np.log([steps[n] for n in sizes]), 1)
    rate = rates.get(N, max(rates.values()))

    def processor(n, count):
        blocks, q = -(-n // TILE), min(count * (M + 1), n)
        return (count + 1) * blocks * (blocks + 1) / 2 * rate + 8 * n * q**2 * results["seconds per flop"]

    expected = float(np.exp(level) * N**slope)
    checks = {
        n: {"measured": row["processor"], "by the model": processor(int(n), row["steps"])}
        for n, row in results.get("whole", {}).items()
    }
    return {
        "extrapolated": True,
        "exponent of the steps": float(slope),
        "steps": expected,
        "seconds per tile": rate,
        "processor hours": processor(N, expected) / 3600,
        "hours of two cores": processor(N, expected) / 7200,
        # Half as many steps again, as a margin of the power law.
        "hours of two cores with half as many steps again": processor(N, 1.5 * expected) / 7200,
        "whole runs": checks,
    }


def seconds_per_flop():
    """Of float64 products of the shapes that a basis is made orthogonal by."""
    a = np.random.default_rng(0).normal(size=(20_000, 400))
    a.T @ a[:, : M + 1]
    start = time.process_time()
    for _ in range(4):
        a.T @ a[:, : M + 1]
    return (time.process_time() - start) / (4 * 2 * 20_000 * 400 * (M + 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    defaults = {"tiles": [8000, N], "steps": [2000, 4000, 8000], "whole": [2000, 4000], "features": [N]}
    measure = {
        "tiles": tiles,
        "steps": lambda n: krylov(n, "float32"),
        "whole": lambda n: krylov(n, "none"),
        "features": linear,
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
