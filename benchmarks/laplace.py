"""Claim: the linearised Laplace posterior of laplax in full, to the same numbers, from n × n instead of p × p.

The predictive standard deviations of a multilayer perceptron's linearised Laplace posterior on test inputs, by
`ni.kernels.empirical(net, around="laplace")` and `ni.Posterior` (exact; means and evidence come with them), beside
laplax: `laplax.api.laplace` with `curv_type="full"` (exact too) and with "lanczos" (low rank, an approximation), its
predictions by `set_lin_pushforward`, vectorised and jitted. Every contender has a process of its own: cold (fit and
prediction, compilation included), warm (the same prediction again), the peak of its memory, and the largest relative
difference of its standard deviations from ours. Float64. laplax needs Python 3.12.

    uv run --python 3.13 --with laplax python benchmarks/laplace.py
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

CONTENDERS = ("ours", "laplax, full", "laplax, lanczos")
INPUTS, TEST, NOISE, PRIOR_VARIANCE = 16, 200, 0.05, 0.7


def network(width):
    """A trained-like network of one output: function of rows and parameters, the parameters."""
    rng = np.random.default_rng(0)
    sizes = (INPUTS, width, width, 1)
    params = [
        {"w": jnp.asarray(rng.normal(size=(a, b)) / np.sqrt(a)), "b": jnp.asarray(0.1 * rng.normal(size=b))}
        for a, b in itertools.pairwise(sizes)
    ]

    def apply(params, x):
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return apply, params


def ours(apply, params, x, y):
    """Standard deviations at test inputs, as a function of them."""
    import ntkinfo as ni

    kernel = ni.kernels.empirical((apply, params), around="laplace", prior_variance=PRIOR_VARIANCE)
    post = ni.Posterior.fit(kernel, x, y, noise=NOISE, mean=(apply, params))
    return lambda x_test: jnp.sqrt(post.predict(x_test).variance)


def laplax(curvature, apply, params, x, y):
    """Likewise, by laplax."""
    from laplax import api  # pyright: ignore
    from laplax.eval import pushforward  # pyright: ignore

    def model(input, params):
        return apply(params, input)

    more = {} if curvature == "full" else {"key": jax.random.key(0), "rank": 100}
    posterior, _ = api.laplace(
        model, params, {"input": x, "target": y}, loss_fn="mse", curv_type=curvature, curv_mv_jit=True, **more
    )
    predict = pushforward.set_lin_pushforward(
        model_fn=model,
        mean_params=params,
        posterior_fn=posterior,
        # Their loss is the squared error without its half.
        prior_arguments={"prior_prec": 1 / PRIOR_VARIANCE, "sigma_squared": 0.5 / NOISE},
        pushforward_fns=[pushforward.lin_setup, pushforward.lin_pred_mean, pushforward.lin_pred_std],
    )
    vectorised = jax.jit(jax.vmap(predict))
    return lambda x_test: vectorised(x_test)["pred_std"]


def measure(contender, width, n, calls):
    """In a process of its own: seconds, memory, and the standard deviations."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(1)
    apply, params = network(width)
    x, x_test = jnp.asarray(rng.normal(size=(n, INPUTS))), jnp.asarray(rng.normal(size=(TEST, INPUTS)))
    y = jnp.sin(x[:, :1]) + 0.2 * jnp.asarray(rng.normal(size=(n, 1)))
    wall, processor = time.perf_counter(), time.process_time()
    if contender == "ours":
        predict = ours(apply, params, x, y)
    else:
        predict = laplax(contender.removeprefix("laplax, "), apply, params, x, y)
    value = np.asarray(predict(x_test), float).ravel()
    cold = time.perf_counter() - wall, time.process_time() - processor
    seconds = []
    for _ in range(calls):
        wall, processor = time.perf_counter(), time.process_time()
        np.asarray(predict(x_test))
        seconds.append((time.perf_counter() - wall, time.process_time() - processor))
    warm = np.median(seconds, axis=0)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "cold_s": cold[0], "cold_cpu_s": cold[1], "warm_s": warm[0], "warm_cpu_s": warm[1],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "deviations": value.tolist(),
    }  # fmt: skip


def in_process(contender, width, n, calls, timeout):
    """`measure` in a process; None, with its last line told, where it fails or takes too long."""
    command = [
        sys.executable,
        __file__,
        "--one",
        contender,
        "--width",
        str(width),
        "--n",
        str(n),
        "--calls",
        str(calls),
    ]
    # Cold is with nothing compiled before.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=environment
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{contender}, n = {n}: took longer than {timeout} s", file=sys.stderr)
        return None
    if done.returncode:
        print(f"{contender}, n = {n}: {(done.stderr or 'no word').strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "laplace.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.width, options.n, options.calls)))
        return
    rows = []
    for width in options.widths:
        found = {name: in_process(name, width, options.n, options.calls, options.timeout) for name in CONTENDERS}
        reference = found["ours"]
        assert reference is not None, "our own side failed"
        want = np.array(reference["deviations"])
        for row in found.values():
            if row:
                got = np.array(row.pop("deviations"))
                row["difference"] = float(np.abs(got / want - 1).max())
        rows.append({"width": width, "parameters": reference["parameters"], "contenders": found})
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "n": options.n, "test": TEST, "outputs": 1, "dtype": "float64", "calls": options.calls, "jax": jax.__version__,
        "laplax": metadata.version("laplax"), "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "load_average": os.getloadavg()[0], "rows": rows,
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
