"""Claim: training turns a residual network's kernel towards the labels of CIFAR-10 images; what it takes to see that.

A small residual network of Flax (plain blocks, no normalisation), trained by Adam on images of CIFAR-10 (JPEG: decoded
from re-encoded files, so that single pixels are lossy), ten classes. Before and after training: seconds of the
empirical kernel, and `ni.networks.report`: how the kernel turned, what the network knows, and how far linearised
training is from real training of the same network.

    uv run python benchmarks/trained_network.py --cifar ../shared/data/cifar10_jpeg.npz
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import ntkinfo as ni

WIDTHS = (16, 32, 64)


class Residual(nn.Module):
    """Three stages of one residual block each; each halves the sides of the image."""

    @nn.compact
    def __call__(self, x):
        """Ten outputs (n, 10) of images (n, 32, 32, 3)."""
        for width in WIDTHS:
            x = nn.relu(nn.Conv(width, (3, 3), strides=2)(x))
            x = x + nn.Conv(width, (3, 3))(nn.relu(nn.Conv(width, (3, 3))(x)))
        return nn.Dense(10)(jnp.mean(nn.relu(x), axis=(1, 2)))


def train(module, variables, data, steps):
    """The variables after Adam on mean squared errors, in batches of 32."""
    adam = optax.adam(1e-3)
    state = adam.init(variables)
    x, y = jnp.asarray(data.x_train), jnp.asarray(data.y_train)

    @jax.jit
    def step(variables, state, rows):
        loss, gradient = jax.value_and_grad(lambda v: jnp.mean((module.apply(v, x[rows]) - y[rows]) ** 2))(variables)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(variables, updates), state, loss

    rng = np.random.default_rng(0)
    for _ in range(steps):
        variables, state, _ = step(variables, state, rng.choice(len(x), min(32, len(x)), replace=False))
    return jax.block_until_ready(variables)


def timed(function):
    wall, processor = time.perf_counter(), time.process_time()
    value = function()
    return value, {"wall_s": time.perf_counter() - wall, "processor_s": time.process_time() - processor}


def measure(module, variables, data):
    """Seconds of the kernel, cold and warm, and the report's numbers."""
    net = ni.networks.from_flax(module, variables)
    x = jnp.asarray(data.x_train)

    def kernel():
        return np.asarray(ni.kernels.empirical(net)(x, None, "ntk"))

    row = {"kernel, first": timed(kernel)[1], "kernel, again": timed(kernel)[1]}
    found, row["report"] = timed(lambda: ni.networks.report(net, data, key=jax.random.key(1)))
    row |= {
        "parameters": found.n_parameters,
        "effective dimension": found.effective_dimension,
        "label alignment of 10": float(found.label_alignment[9]),
        "I(X;Z)": [float(found.input_information.value), float(found.input_information.stderr)],
        "I(Y;Z)": [float(found.label_information.value), float(found.label_information.stderr)],
        "log evidence": found.log_evidence, "training error": found.train_error, "test error": found.test_error,
        "test error of the linearised posterior": float(np.mean(np.argmax(found.mean, 1) != data.labels_test)),
        "disagreement": [[float(t), float(d)] for t, d in zip(found.t[1:], found.disagreement[1:], strict=True)],
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", type=Path, required=True, help="cifar10_jpeg.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("--n-train", type=int, default=60)
    parser.add_argument("--n-test", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "trained_network.json")
    options = parser.parse_args()
    with np.load(options.cifar) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    data = ni.datasets.from_arrays(
        arrays["x_train"], arrays["y_train"], options.n_train, options.n_test, x_test=arrays["x_test"],
        y_test=arrays["y_test"], task="classes", dtype=np.float32, name="CIFAR-10 (JPEG)",
    )  # fmt: skip
    module = Residual()
    start = module.init(jax.random.key(0), jnp.asarray(data.x_train[:1]))
    before = measure(module, start, data)
    trained, seconds = timed(lambda: train(module, start, data, options.steps))
    after = measure(module, trained, data)
    result = {
        "data": "CIFAR-10 (JPEG)", "n": options.n_train, "m": options.n_test, "steps": options.steps,
        "widths": WIDTHS, "dtype": "float32", "training": seconds, "before": before, "after": after,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "jax": jax.__version__,
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
