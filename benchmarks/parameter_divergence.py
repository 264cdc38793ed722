"""Claim: KL[p(θ_t | D) ‖ N(0, I)] of trained finite networks is the closed form, curvature part included.

Gradient flow is deterministic, so for every network KL_t = E[½(‖θ_t‖² - ‖θ_0‖²)] + E∫₀^s tr ∇²L(θ_u) du with
L = ½‖f - Y‖², s = t/(nk). Both are measured on networks of one and two hidden layers and compared with
`parameter_divergence` and with its linear part alone. The curvature part has to be there for the numbers to agree.

    python benchmarks/parameter_divergence.py                        # some minutes
    python benchmarks/parameter_divergence.py --widths 64 --networks 100 --cases erf-1 relu-1

The flow is followed by Runge-Kutta steps of fourth order; the integral is a Gauss-Legendre sum over panels that grow
geometrically. tr ∇²L = ‖J‖² + Σ r Δf: the first exactly, the second by Hutchinson probes, one layer at a time: the
blocks between layers have no part in the trace and most of the noise. Control variates from the networks at
initialisation (their means from many more networks) take sampling error away without bias; the coefficients are fitted
on the other half of the networks. z = (measured - closed form) / standard error.

ReLU: its gradient jumps, so Δf is measured at a finite step eps of the parameters, as the divergence of a smoothed
gradient field. There is no curvature part to compare with; the Hessian kernel is infinite on the diagonal.
"""

import argparse
import faulthandler
import functools
import json
import os
import pathlib
import time

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

import ntkinfo as ni
from ntkinfo import stax

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).resolve().parent
ACTIVATIONS = {"erf": stax.Erf, "gelu": stax.Gelu, "relu": stax.Relu}
# activation - hidden layers - b: with biases.
CASES = ("erf-1", "erf-1-b", "erf-2", "erf-2-b", "gelu-1", "gelu-1-b", "gelu-2", "gelu-2-b", "relu-1", "relu-1-b")
W_STD, B_STD = 1.5, 0.5
# Growth of the panels of the integral, each with two Gauss-Legendre nodes; first panel and steps in units of 1/λ_max.
GROWTH, FIRST_PANEL, STEP = 1.6, 0.25, 1.5
# Below this many networks one control is all whose coefficient can be fitted.
_FEW = 60


def network(case: str, width: int, outputs: int = 1):
    activation, hidden, *bias = case.split("-")
    b_std = B_STD if bias else None
    layers = []
    for _ in range(int(hidden)):
        layers += [stax.Dense(width, W_std=W_STD, b_std=b_std), ACTIVATIONS[activation]()]
    return stax.serial(*layers, stax.Dense(outputs, W_std=W_STD, b_std=b_std))


def problem(seed: int, n: int = 6, d: int = 3, k: int = 1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), np.sign(rng.normal(size=(n, k)))


def schedule(s: np.ndarray, fastest: float):
    """Steps (size, number, weight in the integral) that stop at every Gauss node and every time in `s` (ascending)."""
    edges, low = [0.0], s[0]
    for high in s:
        inner = [high]
        while edges == [0.0] and inner[-1] > FIRST_PANEL / fastest:
            inner.append(inner[-1] / GROWTH)
        while edges != [0.0] and inner[-1] > low * GROWTH:
            inner.append(inner[-1] / GROWTH)
        edges, low = edges + inner[::-1], high
    edges = np.array(edges)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    offset = half / np.sqrt(3.0)
    stops = np.stack([middle - offset, middle + offset, edges[1:]], axis=1).ravel()
    weights = np.stack([half, half, 0 * half], axis=1).ravel()
    gaps = np.diff(stops, prepend=0.0)
    counts = np.maximum(np.ceil(gaps * fastest / STEP), 1)
    report = 3 * np.searchsorted(edges[1:], s * (1 - 1e-9)) + 2
    return gaps / counts, counts.astype(int), weights, report


def add(a, b, scale=1.0):
    return jax.tree.map(lambda u, v: u + scale * v, a, b)


def dot(a, b):
    return sum(jnp.sum(u * v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class Field:
    """The gradient field of one architecture on one data set."""

    def __init__(self, net, x, y, probes: int, eps: float | None):
        init_fn, apply_fn, _ = net
        x, self.y = jnp.asarray(x), jnp.asarray(y).ravel()
        self.dtype, self.probes, self.eps = x.dtype, probes, eps
        self.init = lambda key: jax.tree.map(lambda leaf: leaf.astype(x.dtype), init_fn(key, x.shape)[1])
        self.f = lambda theta: apply_fn(theta, x).ravel().astype(x.dtype)

    def velocity(self, theta):
        """-∇L."""
        f, pull = jax.vjp(self.f, theta)
        return pull(self.y - f)[0]

    def step(self, start, moved, h):
        """One Runge-Kutta step of what has moved since the start."""
        a = self.velocity(add(start, moved))
        b = self.velocity(add(start, add(moved, a, h / 2)))
        c = self.velocity(add(start, add(moved, b, h / 2)))
        d = self.velocity(add(start, add(moved, c, h)))
        return jax.tree.map(lambda m, a, b, c, d: m + h / 6 * (a + 2 * b + 2 * c + d), moved, a, b, c, d)

    def tangent_trace(self, theta):
        """‖J‖², one output at a time."""
        _, pull = jax.vjp(self.f, theta)

        def of_output(e):
            gradient = pull(e)[0]
            return dot(gradient, gradient)

        return jnp.sum(jax.lax.map(of_output, jnp.eye(self.y.size, dtype=self.dtype)))

    def laplacian(self, theta, c, key):
        """Hutchinson estimate of Δ(c·f), one layer at a time; the last one is linear in its parameters."""
        layers = [i for i, layer in enumerate(theta) if jax.tree.leaves(layer)][:-1]

        def probe(key):
            total = jnp.zeros((), self.dtype)
            for i in layers:
                leaves, structure = jax.tree.flatten(theta[i])
                keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
                signs = [jax.random.rademacher(k, w.shape, w.dtype) for k, w in zip(keys, leaves, strict=True)]
                total = total + self.second(theta, c, i, jax.tree.unflatten(structure, signs))
            return total

        return jnp.mean(jax.lax.map(probe, jax.random.split(key, self.probes)))

    def second(self, theta, c, layer, z):
        """zᵀ∇²(c·f)z along parameters of one layer, or its finite difference of gradients where they jump."""
        one = jnp.ones((), self.dtype)

        def at(e):
            return c @ self.f([add(part, z, e) if i == layer else part for i, part in enumerate(theta)])

        def slope(e):
            return jax.jvp(at, (e,), (one,))[1]

        if self.eps is None:
            return jax.jvp(slope, (0 * one,), (one,))[1]
        return (slope(self.eps * one) - slope(-self.eps * one)) / (2 * self.eps)

    @functools.partial(jax.jit, static_argnums=0)
    def measured(self, keys, sizes, counts, weights):
        """½(‖θ_s‖² - ‖θ_0‖²) + ∫ tr ∇²L at every stop, (networks, stops)."""

        def one(key):
            start = self.init(key)

            def advance(state, item):
                moved, integral = state
                size, count, weight, index = item
                # What has moved, not where it is: rounding would add up beside a million parameters of order 1.
                moved = jax.lax.fori_loop(0, count, lambda _, m: self.step(start, m, size), moved)

                def trace():
                    theta = add(start, moved)
                    curvature = self.laplacian(theta, self.f(theta) - self.y, jax.random.fold_in(key, index))
                    return self.tangent_trace(theta) + curvature

                zero = jnp.zeros((), self.dtype)
                integral = integral + weight * jax.lax.cond(weight > 0, trace, lambda: zero)
                return (moved, integral), dot(moved, add(start, moved, 0.5)) + integral

            items = (sizes, counts, weights, jnp.arange(1, len(sizes) + 1))
            still = jax.tree.map(jnp.zeros_like, start)
            return jax.lax.scan(advance, (still, jnp.zeros((), self.dtype)), items)[1]

        return jax.lax.map(one, keys)

    @functools.partial(jax.jit, static_argnums=0)
    def controls(self, keys, times, averages):
        """Of networks at initialisation, for times (T,) and A at them (T, n, n): what the closed form averages."""

        def one(key):
            theta = self.init(key)
            f, pull = jax.vjp(self.f, theta)
            residual, trace = f - self.y, self.tangent_trace(theta)

            def at(item):
                time, average = item
                c = average @ residual
                gradient = pull(c)[0]
                generator = self.laplacian(theta, c, jax.random.fold_in(key, 0)) - dot(theta, gradient)
                return jnp.stack([trace * time + generator, dot(gradient, gradient), c @ residual])

            return jax.lax.map(at, (times, averages))

        return jax.lax.map(one, keys)


def controlled(values, controls, many):
    """Mean and standard error of `values` (N,) with `controls` (N, c) whose means are those of `many` (M, c).

    Coefficients come from the other half of the networks: no bias from fitting.
    """
    if len(values) < _FEW:
        controls, many = controls[:, :1], many[:, :1]
    expected, parts, residuals = many.mean(0), [], []
    half = np.arange(len(values)) % 2 == 0
    coefficients = []
    for chosen in (half, ~half):
        design = np.column_stack([np.ones((~chosen).sum()), controls[~chosen] - expected])
        beta = np.linalg.lstsq(design, values[~chosen], rcond=None)[0][1:]
        parts.append(values[chosen] - (controls[chosen] - expected) @ beta)
        residuals.append(parts[-1] - parts[-1].mean())
        coefficients.append(beta)
    n = len(values)
    variance = np.sum(np.concatenate(residuals) ** 2) / (n - 2) / n
    beta = np.mean(coefficients, axis=0)
    variance += beta @ np.atleast_2d(np.cov(many.T)) @ beta / len(many)
    return np.concatenate(parts).mean(), np.sqrt(variance)


def measure(case, width, x, y, s, *, networks, probes, seed, eps=None, many=20, dtype=np.float64):
    """The closed form and the measurement at rescaled times `s`, one record each."""
    k = y.shape[1]
    net = network(case, width, k)
    ens = ni.Ensemble.fit(net, x, y)
    smooth = not case.startswith("relu")
    kl = ni.information.parameter_divergence(ens, s * y.size, curvature=smooth)
    sizes, counts, weights, report = schedule(s, float(ens.eigenvalues[-1]))
    field = Field(net, x.astype(dtype), y.astype(dtype), probes, eps)
    sizes, weights = sizes.astype(dtype), weights.astype(dtype)
    start = time.perf_counter()
    keys = jax.random.split(jax.random.key(seed), networks)
    values = np.asarray(field.measured(keys, sizes, counts, weights), np.float64)[:, report]
    u, rates = np.asarray(ens.eigenvectors), np.asarray(ens.eigenvalues)
    averages = np.stack([(u * -np.expm1(-si * rates) / rates) @ u.T for si in s])
    averages = np.stack([np.kron(average, np.eye(k)) for average in averages]).astype(dtype)
    times = s.astype(dtype)
    own = np.asarray(field.controls(keys, times, averages), np.float64)
    # Networks at initialisation are cheap beside trained ones.
    others = jax.random.split(jax.random.key(seed + 1), many * networks)
    many_controls = np.asarray(field.controls(others, times, averages), np.float64)
    seconds = time.perf_counter() - start
    records = []
    for i in range(len(s)):
        value, error = controlled(values[:, i], own[:, i], many_controls[:, i])
        linear = float(kl.linear[i])
        records.append({
            "case": case, "width": width, "networks": networks, "s": float(s[i]), "eps": eps, "measured": value,
            "stderr": error, "plain": values[:, i].mean(), "plain_stderr": values[:, i].std(ddof=1) / networks**0.5,
            "linear": linear, "curvature": float(kl.curvature[i]) if smooth else None,
            "total": float(kl.total[i]) if smooth else None,
            "z_total": (value - float(kl.total[i])) / error if smooth else None, "z_linear": (value - linear) / error,
            "seconds": seconds,
        })  # fmt: skip
    return records


def row(r):
    total = f"{r['total']:9.3f} {r['z_total']:6.1f}" if r["total"] is not None else f"{'-':>9} {'-':>6}"
    name = r["case"] + (f" eps {r['eps']:g}" if r["eps"] else "")
    measured = f"{r['measured']:9.3f} ± {r['stderr']:.3f} ({r['plain']:8.2f} ± {r['plain_stderr']:.2f})"
    linear = f"{r['linear']:9.3f} {r['z_linear']:7.1f}"
    return f"{name:16} {r['width']:5} {r['networks']:4} {r['s']:5.2f} {measured} {total} {linear} {r['seconds']:6.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--widths", nargs="+", type=int, default=[128, 1024])
    parser.add_argument("--networks", type=int, default=120, help="a sixth of it for wide deep networks")
    parser.add_argument("--probes", type=int, default=2)
    parser.add_argument("--eps", nargs="+", type=float, default=[0.3, 0.03], help="steps of the ReLU measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "parameter_divergence.json")
    options = parser.parse_args()
    x, y = problem(options.seed)
    s = np.array([0.4, 4.0])
    print(
        f"{'case':16} width    N     s  measured ± stderr (without controls)  closed form   z    linear z linear    sec"
    )
    records = []
    for case in options.cases:
        for width in options.widths:
            # A million parameters each: fewer networks, in float32.
            large = "-2" in case and width >= 512
            networks = max(options.networks // (6 if large else 1), 20)
            for eps in options.eps if case.startswith("relu") else [None]:
                found = measure(
                    case, width, x, y, s, networks=networks, probes=options.probes, seed=options.seed + width, eps=eps,
                    many=5 if large else 20, dtype=np.float32 if large else np.float64,
                )  # fmt: skip
                for record in found:
                    print(row(record), flush=True)
                records += found
                options.out.parent.mkdir(exist_ok=True)
                options.out.write_text(json.dumps({"jax": jax.__version__, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
