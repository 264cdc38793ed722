"""Claim: the empirical tangent kernel takes at most 1.2 times the processor time of the best of neural-tangents' ways.

Ours (`ni.kernels.empirical`, "trace") beside the three implementations of `neural_tangents.empirical_ntk_fn` (Jacobian
contraction, NTK-vector products, structured derivatives), jitted and with `vmap_axes=0`, as its documentation says, and
beside a plain `jacrev` and one product; float32, on five architectures. Every contender has a process of its own: cold
(compilation included), warm (the best of some calls, fewer of slow ones, in wall and in processor time) and the peak
of its memory. They take turns, round after round, and the medians over rounds are told. "largest" looks for the largest
n, of powers of two, within `--memory` GB; "digits" is a convolutional network of 100,000 parameters at n = 1000. A part
is written beside what was measured before.

    uv run python benchmarks/empirical.py
    uv run python benchmarks/empirical.py --n 512 --contenders ours "structured derivatives" "jacobian contraction"
    uv run python benchmarks/empirical.py largest
    uv run python benchmarks/empirical.py digits
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

import ntkinfo as ni

CONTENDERS = ("ours", "jacobian contraction", "ntk-vector products", "structured derivatives", "plain jacrev")
OUTPUTS = 10
# Processor seconds from which on a contender is not called again in a round.
MOST_SECONDS = 2.0


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32)


def dense(rng):
    def apply(p, x):
        for weight in p[:-1]:
            x = jax.nn.relu(x @ weight)
        return x @ p[-1]

    return apply, [normal(rng, 64, 192), normal(rng, 192, 192), normal(rng, 192, OUTPUTS)]


def convolution(rng, widths=(24, 24)):
    def apply(p, x):
        x = x.reshape(-1, 8, 8, 1)
        for kernel in p[:-1]:
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x)
        return jnp.mean(x, axis=(1, 2)) @ p[-1]

    return apply, [
        *(normal(rng, 3, 3, *sides) for sides in pairwise((1, *widths))),
        normal(rng, widths[-1], OUTPUTS),
    ]


def residual(rng):
    def apply(p, x):
        x = x @ p[0]
        for weight in p[1:-1]:
            x = x + jnp.tanh(x) @ weight
        return x @ p[-1]

    return apply, [normal(rng, 64, 128), *(normal(rng, 128, 128) for _ in range(4)), normal(rng, 128, OUTPUTS)]


def attention(rng):
    def apply(p, x):
        tokens = x.reshape(-1, 8, 8)
        q, k, v = (jnp.einsum("nld,de->nle", tokens, p[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("nle,nme->nlm", q, k) / 8, axis=-1)
        mixed = jnp.einsum("nlm,nme->nle", weights, v)
        return jnp.mean(jax.nn.gelu(jnp.einsum("nle,ef->nlf", mixed, p["o"])), axis=1) @ p["c"]

    shapes = {"q": (8, 64), "k": (8, 64), "v": (8, 64), "o": (64, 128), "c": (128, OUTPUTS)}
    return apply, {name: normal(rng, *shape) for name, shape in shapes.items()}


def layer_norm(rng):
    def apply(p, x):
        for weight, gain in p[:-1]:
            x = x @ weight
            x = x - jnp.mean(x, axis=1, keepdims=True)
            x = jax.nn.gelu(x / jnp.sqrt(jnp.mean(x**2, axis=1, keepdims=True) + 1e-5) * gain)
        return x @ p[-1]

    return apply, [(normal(rng, 64, 192), jnp.ones((1, 192))), (normal(rng, 192, 192), jnp.ones((1, 192))),
                   normal(rng, 192, OUTPUTS)]  # fmt: skip


ARCHITECTURES = {
    "dense": dense, "convolution": convolution, "residual": residual, "attention": attention, "layer norm": layer_norm,
}  # fmt: skip


def kernel_of(contender, apply, params):
    """A function x -> (n, n), the average over outputs of the tangent kernels, and its program for inputs, or None."""
    if contender == "ours":
        kernel = ni.kernels.empirical((apply, params))
        return lambda x: kernel(x, None, "ntk"), None
    if contender == "plain jacrev":

        @jax.jit
        def plain(params, x):
            tree = jax.jacrev(apply)(params, x)
            rows = jnp.concatenate([leaf.reshape(len(x), OUTPUTS, -1) for leaf in jax.tree.leaves(tree)], axis=2)
            return jnp.einsum("icp,jcp->ij", rows, rows, precision="highest") / OUTPUTS

        return lambda x: plain(params, x), lambda x: plain.lower(params, x)
    assert ni.stax.Dense is not None  # by way of it neural-tangents is imported on current JAX
    import neural_tangents as nt

    which = {
        "jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
        "ntk-vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
        "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    }[contender]
    traced = jax.jit(
        nt.empirical_ntk_fn(lambda p, x: apply(p, x), trace_axes=(-1,), vmap_axes=0, implementation=which),
    )
    return lambda x: traced(x, None, params), lambda x: traced.lower(x, None, params)


def measure(architecture, contender, n, calls):
    """In a process of its own: seconds, memory, and the kernel's first rows for comparison."""
    rng = np.random.default_rng(0)
    apply, params = ARCHITECTURES[architecture](rng)
    x = jnp.asarray(rng.normal(size=(n, 64)), jnp.float32)
    kernel, _ = kernel_of(contender, apply, params)
    start, cpu = time.perf_counter(), time.process_time()
    value = np.asarray(kernel(x))
    cold, cold_cpu = time.perf_counter() - start, time.process_time() - cpu
    walls, cpus = [], []
    for _ in range(calls):
        if sum(cpus) > MOST_SECONDS:
            break
        wall, cpu = time.perf_counter(), time.process_time()
        np.asarray(kernel(x))
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)), "n": n, "cold_s": cold,
        "cold_cpu_s": cold_cpu,
        "warm_s": min(walls) if calls else None, "warm_cpu_s": min(cpus) if calls else None,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "corner": value[:4, :4].astype(float).tolist(), "trace": float(np.trace(value)),
    }  # fmt: skip


def in_process(arguments, timeout):
    """This script with other arguments, in a process of its own; None where it fails or takes too long."""
    command = [sys.executable, __file__, *map(str, arguments)]
    # Cold is with nothing compiled before.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(f"{arguments}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(lines[-1])


def median(rounds, name):
    return float(np.median([each[name] for each in rounds]))


def compare(options):
    """Seconds and memory of every contender on every architecture, by turns."""
    found = {}
    for architecture in ARCHITECTURES:
        rounds = {name: [] for name in options.contenders}
        for _ in range(options.rounds):
            for name in options.contenders:
                one = in_process(["--one", architecture, name, "--n", options.n, "--calls", options.calls], 600)
                rounds[name] += [] if one is None else [one]
        row = {}
        ours = np.array(rounds["ours"][0]["corner"])
        for name, each in rounds.items():
            if not each:
                row[name] = None
                continue
            row[name] = {key: median(each, key) for key in ("cold_s", "cold_cpu_s", "warm_s", "warm_cpu_s", "peak_gb")}
            row[name]["disagreement"] = float(np.abs(np.array(each[0]["corner"]) - ours).max() / np.abs(ours).max())
        peers = [row[name] for name in CONTENDERS[1:4] if row.get(name)]
        found[architecture] = {
            "parameters": rounds["ours"][0]["parameters"], "contenders": row,
            "ratio_to_best_of_neural_tangents": row["ours"]["warm_s"] / min(one["warm_s"] for one in peers),
            "cpu_ratio_to_best_of_neural_tangents": row["ours"]["warm_cpu_s"] / min(one["warm_cpu_s"] for one in peers),
        }  # fmt: skip
        print(json.dumps({architecture: found[architecture]}), flush=True)
    return {"rounds": options.rounds, "calls": options.calls, "architectures": found}


def largest(options):
    """The largest n, of powers of two, whose kernel takes no more than so much memory, measured."""
    found = {}
    for architecture in ARCHITECTURES:
        found[architecture] = {}
        for name in options.contenders:
            # What XLA plans says where to begin; what the process took, whether it is true.
            planned = in_process(
                ["--plan", architecture, name, "--memory", options.memory, "--most", options.most], 600
            )
            n, row = (options.most if planned is None else planned["n"]), None
            while n >= 16:
                one = in_process(["--one", architecture, name, "--n", n, "--calls", 0], 850)
                if one and one["peak_gb"] <= options.memory:
                    row = {"n": n, "peak_gb": one["peak_gb"], "cold_cpu_s": one["cold_cpu_s"]}
                    break
                n //= 2
            found[architecture][name] = row
            print(json.dumps({architecture: {name: row}}), flush=True)
        # What was measured is kept where the rest is stopped.
        write(options, {"memory_gb": options.memory, "most": options.most, "architectures": found})
    return {"memory_gb": options.memory, "most": options.most, "architectures": found}


def plan(architecture, contender, memory, most):
    """The largest n, a power of two from 32 to `most`, whose memory is no more than allowed as XLA plans it."""
    rng = np.random.default_rng(0)
    apply, params = ARCHITECTURES[architecture](rng)
    _, program = kernel_of(contender, apply, params)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    n = 32
    while n < most:
        if contender == "ours":
            # A result on the host and one on the device, and truth values of its entries.
            planned = 9 * (2 * n) ** 2
        else:
            found = program(jax.ShapeDtypeStruct((2 * n, 64), jnp.float32)).compile().memory_analysis()
            planned = found.temp_size_in_bytes + found.output_size_in_bytes
        if before + planned / 2**30 > memory:
            break
        n *= 2
    return {"n": n}


def digits(options):
    """n = 1000 digits, a convolutional network of 100,000 parameters, "trace", in a process of its own."""
    return in_process(["--digits-alone"], 600)


def digits_alone():
    """Seconds and memory of it, compilation included."""
    from sklearn.datasets import load_digits

    apply, params = convolution(np.random.default_rng(0), (32, 64, 140))
    x = jnp.asarray(load_digits().data[:1000] / 16, jnp.float32)
    kernel = ni.kernels.empirical((apply, params))
    wall, processor = time.perf_counter(), time.process_time()
    value = np.asarray(kernel(x, None, "ntk"))
    seconds = time.perf_counter() - wall, time.process_time() - processor
    assert np.isfinite(value).all()
    return {
        "n": len(x), "parameters": sum(leaf.size for leaf in params), "wall_s": seconds[0], "processor_s": seconds[1],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=("compare", "largest", "digits"), default="compare")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--digits-alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--memory", type=float, default=2.0, help="GB of the largest n")
    parser.add_argument("--most", type=int, default=4096, help="no larger n is looked at")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "empirical.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.n, options.calls)))
        return
    if options.plan:
        print(json.dumps(plan(*options.plan, options.memory, options.most)))
        return
    if options.digits_alone:
        print(json.dumps(digits_alone()))
        return
    # Each kernel shares its processor with nobody but these processes, which run one at a time.
    found = {"compare": compare, "largest": largest, "digits": digits}[options.part](options)
    write(options, found)


def write(options, found):
    """A part of the result, beside those that were measured before."""
    found = found | {
        "jax": jax.__version__, "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    name = f"n = {options.n}" if options.part == "compare" else options.part
    there = json.loads(options.out.read_text()) if options.out.exists() else {}
    result = {"outputs": OUTPUTS, "dtype": "float32"} | there | {name: found}
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
