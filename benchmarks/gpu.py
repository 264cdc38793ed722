"""How much faster compiled programs are on an accelerator than on the CPU beside it; claims nothing before a run.

Fit and predict, a curve, batches of informations over widths and times, and finite ensembles, on the accelerator and on
the CPU beside it, and the certified bottleneck, which runs on the host whatever there is. Beside them what the device
can do at most, measured on the spot: floating-point operations a second in a matrix product, bytes a second in a copy.
Cold is the first call, compilation included, warm the median of three later ones; wall seconds, as a device computes
while its host waits. Without an accelerator everything runs on the CPU, at small sizes, and the JSON says so.

    uv run python benchmarks/gpu.py                # writes benchmarks/results/gpu.json
    uv run python benchmarks/gpu.py --size 0.1     # a tenth of the rows of the full size
"""

import argparse
import faulthandler
import json
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A share of what is free when it is needed: other processes may use the device too.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import architectures, finite

RESULTS = Path(__file__).resolve().parent / "results" / "gpu.json"
KEY = jax.random.key(0)
# Rows of the full size, for an accelerator, and how much of them a CPU alone gets.
FULL, CPU_SHARE = 8000, 0.05


def data(n, m=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + m, 30))
    y = np.sign(x[:, :1] + rng.normal(size=(n + m, 1)))
    return x[:n], y[:n], x[n:], y[n:]


def fit_and_predict(n):
    """`Ensemble.fit` and `predict`, n inputs, 200 test inputs, 100 times."""
    x, y, x_test, _ = data(n)
    return lambda: ni.Ensemble.fit(architectures.network(depth=3), x, y).predict(x_test, jnp.logspace(-1, 8, 100))


def curve(n):
    """`information.curve` of an ensemble of n inputs, 200 test inputs, 30 times."""
    x, y, x_test, y_test = data(n)
    ens, t = ni.Ensemble.fit(architectures.network(depth=3), x, y), jnp.logspace(-1, 6, 30)
    return lambda: ni.information.curve(ens, x_test, y_test, t)


def informations(n):
    """Curves of 4 weight scales, n / 8 inputs, 200 test inputs, 30 times."""
    x, y, x_test, y_test = data(max(n // 8, 20))
    t, scales = jnp.logspace(-1, 6, 30), np.linspace(1.0, 2.0, 4)
    return lambda: [
        ni.information.curve(
            ni.Ensemble.fit(architectures.network(depth=3, w_std=float(scale)), x, y), x_test, y_test, t
        )
        for scale in scales
    ]


def finite_ensemble(n):
    """16 networks of three layers of 256 units, n / 8 inputs, trained to time 10."""
    x, y, *_ = data(max(n // 8, 20))
    net = architectures.network(width=256, depth=3)
    options = {"n_networks": 16, "key": KEY, "learning_rate": 0.5, "progress": False, "train_outputs": False}
    return lambda: finite.train(net, x, y, jnp.array([1.0, 10.0]), **options).loss


def certified_bottleneck(n):
    """Certified `bottleneck.ib`, 16 x 3, 20 β: on the host, whatever the device."""
    table = np.random.default_rng(0).dirichlet(np.ones(3), 16) / 16
    return lambda: ni.bottleneck.ib(table, np.geomspace(1.1, 60, 20), certificate=True, progress=False)


CASES = (fit_and_predict, curve, informations, finite_ensemble, certified_bottleneck)


def processor():
    """The CPU's name, where the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def wall(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def limits(device, n):
    """Floating-point operations a second of an n x n product, and bytes a second of a copy, in float64 and float32."""
    found = {}
    for dtype in (jnp.float64, jnp.float32):
        with jax.default_device(device):
            a = jnp.ones((n, n), dtype)
            product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
            for call in (product, copy):
                jax.block_until_ready(call(a))
            seconds = [min(wall(lambda call=call, a=a: call(a)) for _ in range(5)) for call in (product, copy)]
        found[jnp.dtype(dtype).name] = {
            "flops": 2 * n**3 / seconds[0],
            # Read once, written once.
            "bytes": 2 * a.nbytes / seconds[1],
        }
    return found


def measure(device, n):
    """Cold and warm seconds of every case on a device."""
    rows = []
    with jax.default_device(device):
        for case in CASES:
            call = case(n)
            cold, later = wall(call), [wall(call) for _ in range(3)]
            rows.append({"what": case.__doc__.rstrip("."), "cold": cold, "warm": float(np.median(later))})
            print(
                f"  {device.platform}: {rows[-1]['what']}: cold {cold:.2f} s, warm {rows[-1]['warm']:.3f} s", flush=True
            )
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, help="share of the full size; 1 on an accelerator, small on a CPU alone")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    accelerators = [device for device in jax.devices() if device.platform != "cpu"]
    n = max(int(FULL * (options.size or (1 if accelerators else CPU_SHARE))), 40)
    if not accelerators:
        print("no accelerator here: everything runs on the CPU, at small sizes")
    devices = [*accelerators[:1], jax.devices("cpu")[0]]
    record = {"n": n, "accelerator": bool(accelerators), "jax": jax.__version__, "cores": os.cpu_count(), "devices": []}
    record["load"] = os.getloadavg()[0]
    for device in devices:
        name = device.device_kind if device.platform != "cpu" else processor()
        product = min(2 * n, 8192) if device.platform != "cpu" else min(n, 2000)
        at_most, rows = limits(device, product), measure(device, n)
        # An eigendecomposition takes some 9 n³ operations, the products with its eigenvectors 2 n³ each.
        least = 11 * n**3 / at_most["float64"]["flops"]
        entry = {"name": name, "platform": device.platform, "limits": at_most, "product": product}
        record["devices"].append(entry | {"fit at the limit": least, "rows": rows})
        print(
            f"{name}: {at_most['float64']['flops'] / 1e9:.0f} GFlop/s and {at_most['float64']['bytes'] / 1e9:.0f} GB/s"
        )
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(1200, exit=True)
    main()
