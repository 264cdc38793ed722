"""Claim: every quantity of the infinite ensemble is the limit of trained finite networks, approached like 1/width.

Networks of widths 64 to 2048 are trained on digits (even against odd); every quantity is compared with its closed form
at infinite width. Theory: expectations deviate by O(1/width) at fixed time, single networks by O(1/sqrt(width)). Narrow
widths get more networks, for the same work at each width, so that their deviation stands out from the sampling error.

    python benchmarks/finite_width.py                     # some minutes; go on after an interruption: the same command
    python benchmarks/finite_width.py --widths 64 256 --networks 32 --activation relu --depth 2

The first table compares plain averages with the closed form: deviation and sampling error, both root mean square over
times relative to the largest value, and z = deviation / sampling error. The second takes most of the sampling error
away: it compares each network with its control, the same start trained with the infinite kernel, whose average has the
closed form as its expectation (exactly for one hidden layer; not for `gibbs_error`, as outputs are not Gaussian at
finite width). Slopes are of log deviation against log width over the widths where the deviation is above twice the
sampling error. Training by steps, not by flow, leaves a floor: 0.1 % of `action` and 0.2 % of `fisher_action` at the
defaults. Writes `finite_width.json` and, with matplotlib, a figure.
"""

import argparse
import faulthandler
import json
import os
import pathlib
import shutil
import time

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import ntkinfo as ni
from ntkinfo import finite, stax

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).resolve().parent
ACTIVATIONS = {"erf": stax.Erf, "relu": stax.Relu, "gelu": stax.Gelu}
# Times at which the fastest mode has decayed by e^-0.3 ... e^-30.
DECAYS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)


def network(width: int, options):
    layers = []
    for _ in range(options.depth):
        layers += [stax.Dense(width, W_std=options.w_std, b_std=options.b_std), ACTIVATIONS[options.activation]()]
    return stax.serial(*layers, stax.Dense(1, W_std=options.w_std, b_std=options.b_std))


def n_networks(width: int, options) -> int:
    """Equal work at each width, but not more networks than `--most`."""
    return min(options.most, options.networks * max(options.widths) // width)


def closed_form(data, options) -> tuple[ni.Ensemble, np.ndarray, dict[str, np.ndarray]]:
    """The ensemble, times, and quantities at infinite width: (T,), means of outputs (T, m, k), variances (T, m)."""
    ens = ni.Ensemble.fit(network(1, options), data.x_train, data.y_train)
    t = np.array(DECAYS) * ens.n * ens.k / float(ens.eigenvalues[-1])
    curve = ni.information.curve(ens, data.x_test, data.y_test, t, joint=False)
    found = curve.columns() | {"fisher_trace": np.full(len(t), float(curve.fisher_trace))}
    z = ens.predict(data.x_test, t)
    return ens, t, found | {"output mean": np.asarray(z.mean), "output variance": np.asarray(z.variance)}


def sample(width: int, data, ens, t, options, folder) -> tuple[finite.Run, dict, dict]:
    """The run at one width; of each quantity estimate and standard error, plain and as difference from the control."""
    dtype = np.dtype(options.dtype)
    run = finite.train(
        network(width, options), data.x_train.astype(dtype), data.y_train.astype(dtype), t, x_test=data.x_test,
        n_networks=n_networks(width, options), key=jax.random.key(options.seed + width), method=options.method,
        fisher_trace=True, checkpoint=folder,
    )  # fmt: skip
    control = finite.kernel_flow(run, ens, data.x_test)
    plain = finite.summary(run, data.y_test)
    difference = finite.summary(run, data.y_test, control=control)
    outputs, others = np.asarray(run.outputs, np.float64), np.asarray(control.outputs)
    plain = {name: parts[1:] for name, parts in plain.items()} | outputs_of(outputs)
    difference = {name: parts[1:] for name, parts in difference.items()} | outputs_of(outputs, others)
    return run, plain, difference


def outputs_of(outputs, control=None) -> dict:
    """Mean and variance of the outputs at each input, with standard errors; of the difference from a control."""

    def squared(values):
        return np.mean((values - values.mean(axis=0)) ** 2, axis=-1) * len(values) / (len(values) - 1)

    mean, variance = outputs, squared(outputs)
    if control is not None:
        mean, variance = outputs - control, variance - squared(control)
    root = np.sqrt(len(outputs))
    parts = {"output mean": mean, "output variance": variance}
    return {name: (part.mean(axis=0), part.std(axis=0, ddof=1) / root) for name, part in parts.items()}


def compare(run, found, exact, difference: bool) -> dict[str, dict]:
    """Deviation, sampling error and z of each quantity at one width; of tr F the spread over networks as well."""
    rows = {}
    for name, (estimate, stderr) in found.items():
        scale = np.max(np.abs(exact[name]))
        deviation = estimate if difference else estimate - exact[name]
        # At t = 0 some quantities are 0 for every network, and every difference is, but for rounding.
        sampled = stderr > 1e-6 * scale
        z = deviation[sampled] / stderr[sampled]
        rows[name] = {
            "error": root_mean_square(deviation[sampled]) / scale,
            "noise": root_mean_square(stderr[sampled]) / scale,
            "z_rms": root_mean_square(z),
            "z_max": float(np.max(np.abs(z))),
            "z_last": float(z.ravel()[-1]),
        }
        if z.size <= len(DECAYS):
            rows[name] |= {"estimate": estimate.tolist(), "stderr": stderr.tolist(), "exact": exact[name].tolist()}
    trace = np.asarray(run.fisher_trace, np.float64)
    rows["fisher_trace"]["spread"] = float(trace[:, 0].std(ddof=1) / trace[:, 0].mean())
    rows["fisher_trace"]["change"] = float(np.mean(np.abs(trace[:, -1] / trace[:, 0] - 1)))
    return rows


def root_mean_square(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def slope(widths, errors, noises) -> tuple[float | None, int]:
    """Slope of log error against log width where the error exceeds twice the noise, and over how many widths."""
    seen = [(w, np.sqrt(e**2 - s**2)) for w, e, s in zip(widths, errors, noises, strict=True) if e > 2 * s]
    if len(seen) < 2:
        return None, len(seen)
    return float(np.polyfit(*np.log(np.array(seen)).T, 1)[0]), len(seen)


def summarise(results: dict[str, dict], kind: str) -> dict[str, dict]:
    """Slope of each quantity over the widths done so far."""
    widths = sorted(map(int, results))
    slopes = {}
    for name in results[str(widths[0])][kind]:
        rows = [results[str(width)][kind][name] for width in widths]
        fit, points = slope(widths, [row["error"] for row in rows], [row["noise"] for row in rows])
        slopes[name] = {"slope": fit, "widths": points}
    for name in ("spread", "change"):
        values = [results[str(width)][kind]["fisher_trace"][name] for width in widths]
        fit, points = slope(widths, values, [0.0] * len(values))
        slopes[f"fisher_trace, {name} of one network"] = {"slope": fit, "widths": points}
    return slopes


def table(results, slopes, kind: str) -> str:
    """Deviation / sampling error in per cent for each width; at the widest, z over times; and the slope."""
    widths = sorted(map(int, results))
    wide = str(widths[-1])
    lines = ["| quantity | " + " | ".join(f"{w}" for w in widths) + f" | z at {wide}: rms, max | slope (widths) |"]
    lines.append("|---" * (len(widths) + 3) + "|")
    for name, fit in slopes.items():
        text = "-" if fit["slope"] is None else f"{fit['slope']:.2f}"
        if name not in results[wide][kind]:
            values = [results[str(w)][kind]["fisher_trace"][name.split()[1]] for w in widths]
            cells, z = [f"{100 * value:.2f}" for value in values], ""
        else:
            rows = [results[str(w)][kind][name] for w in widths]
            cells = [f"{100 * row['error']:.2f} / {100 * row['noise']:.2f}" for row in rows]
            z = f"{rows[-1]['z_rms']:.2f}, {rows[-1]['z_max']:.2f}"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {z} | {text} ({fit['widths']}) |")
    return "\n".join(lines)


def figure(results, slopes, path) -> bool:
    """Deviation from the control and its sampling error against width, a panel a quantity; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    widths = sorted(map(int, results))
    names = list(results[str(widths[0])]["difference"])
    columns = 4
    fig, axes = plt.subplots(-(-len(names) // columns), columns, figsize=(12, 11), sharex=True, layout="constrained")
    for ax, name in zip(axes.ravel(), names, strict=False):
        rows = [results[str(width)]["difference"][name] for width in widths]
        ax.loglog(widths, [row["error"] for row in rows], "o-", ms=4, label="deviation from infinite width")
        ax.loglog(widths, [row["noise"] for row in rows], "--", color="0.5", label="sampling error")
        guide = rows[0]["error"] * widths[0] / np.array(widths)
        ax.loglog(widths, guide, ":", color="0.7", label="1 / width")
        fit = slopes[name]["slope"]
        ax.set_title(name.replace("_", " ") + ("" if fit is None else f", slope {fit:.2f}"), fontsize=9)
        ax.set_xticks(widths, [str(width) for width in widths], minor=False)
        ax.minorticks_off()
    for ax in axes.ravel()[len(names) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel("width")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative error")
    axes[0, 0].legend(fontsize=7)
    fig.savefig(path, dpi=120)
    plt.close(fig)
    return True


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--networks", type=int, default=96, help="networks at the largest width")
    parser.add_argument("--most", type=int, default=2048, help="networks at any width")
    parser.add_argument("--n-train", type=int, default=64)
    parser.add_argument("--n-test", type=int, default=50)
    parser.add_argument("--depth", type=int, default=1, help="hidden layers")
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="erf")
    parser.add_argument("--w-std", type=float, default=1.5)
    parser.add_argument("--b-std", type=float, default=0.1)
    parser.add_argument("--method", choices=("euler", "heun"), default="heun")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the finite networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    data = ni.datasets.digits(options.n_train, options.n_test, task="parity")
    ens, t, exact = closed_form(data, options)
    settings = {name: value for name, value in vars(options).items() if name not in ("widths", "out")}
    # How many networks a width gets depends on the largest one.
    settings |= {"widest": max(options.widths), "decays": list(DECAYS)}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "finite_width.json"
    results = {}
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            results = stored["widths"]
        else:
            print(f"{path} is of other settings and will be replaced.")
    for width in sorted(options.widths):
        if str(width) in results:
            continue
        began, folder = time.time(), options.out / f"finite_width_{width}.unfinished"
        run, plain, difference = sample(width, data, ens, t, options, folder)
        results[str(width)] = {
            "networks": len(run.loss),
            "learning_rate": float(run.learning_rate),
            "stability_limit": float(run.stability_limit),
            "steps": np.asarray(run.steps).tolist(),
            "seconds": round(time.time() - began, 1),
            "plain": compare(run, plain, exact, False),
            "difference": compare(run, difference, exact, True),
        }
        slopes = {kind: summarise(results, kind) for kind in ("plain", "difference")}
        versions = {"jax": jax.__version__, "ntkinfo": ni.__version__, "backend": jax.default_backend()}
        record = {"settings": settings, "versions": versions, "t": t.tolist(), "slopes": slopes, "widths": results}
        path.write_text(json.dumps(record, indent=1))
        shutil.rmtree(folder)
        print(f"width {width}: {len(run.loss)} networks, {results[str(width)]['seconds']} s", flush=True)
    slopes = {kind: summarise(results, kind) for kind in ("plain", "difference")}
    print("\nPer cent of the largest value, root mean square over times.")
    print("\nDeviation / sampling error, plain averages against the closed form:\n")
    print(table(results, slopes["plain"], "plain"))
    print("\nDeviation / sampling error, networks against their controls:\n")
    print(table(results, slopes["difference"], "difference"))
    if figure(results, slopes["difference"], options.out / "finite_width.png"):
        print(f"\nFigure: {options.out / 'finite_width.png'}")


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
