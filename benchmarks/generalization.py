"""Claim: every bound that is legal holds beside the measured gap, over n, t and label noise; only averages are tight.

One hidden erf layer of infinite width on parities (odd against even) of digits and of Fashion-MNIST's class numbers.
Labels are flipped with a given probability, in training and in test alike: examples stay independent, so that theorems
apply, and the error that cannot be learned stands on both sides. Every cell draws several training sets; beside each
bound on the gap between test and training error of one network stands the gap measured on examples not drawn.

    python benchmarks/generalization.py                      # some minutes; goes on where it was interrupted
    python benchmarks/generalization.py --sizes 50 --draws 2 --data digits

What is legal here. Inputs are scaled by rows that are used for nothing else, so the prior is fixed before the data.
PAC-Bayes bounds take the divergence of the parameters, curvature included, and hold with probability 1 - delta for each
training set, at all times at once. Xu-Raginsky takes that divergence averaged over training sets, plus two of its
standard errors. Supersamples and leaving one out hold on average over data. Beside the ensemble stand a posterior and
the prior that fits all labels, with their own gaps: other networks. The information content asks for labels that are a
function of the input, so that it stands at noise 0 only. Input compression has an unproven step: it is left out, and so
are forecasts, which are estimates. The pool is finite: training sets share examples, and are independent only nearly.

The second part measures learning curves beside their prediction, and draws the information plane at six sizes. The
third stops training early where labels are wrong: by the nats of the parameters' divergence that are spent on noise and
on signal (theory, section 16), and by the error with one example left out; beside the best time in hindsight.

Writes `generalization.json`, `generalization.png` and `learning_curves.png`.
"""

import argparse
import faulthandler
import json
import os
import pathlib
import time
import warnings

# Before JAX loads: small factorisations starve each other when every one of them asks for all the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

import ntkinfo as ni
from ntkinfo import bounds

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).resolve().parent
DELTA, SCALE_ROWS = 0.05, 297
TIMES = [1.0, 10.0, 100.0, 1e3, np.inf]
NETWORK = {"depth": 1, "activation": "erf", "w_std": 1.5, "b_std": 0.1}
POSTERIOR_NOISE, CONTENT_ROWS = 0.3, 400
# Rules that choose when to stop, beside what is known in hindsight only.
RULES = {
    "hindsight": "best in hindsight",
    "noise_faster": "noise takes more nats than signal",
    "signal_most": "nats on signal are most",
    "leave_one_out": "leave-one-out error is least",
    "end": "latest time",
}
# What each bounds, and how it holds.
BOUNDS = {
    "pac_bayes_kl": ("PAC-Bayes-kl", "probability"),
    "mcallester": ("McAllester", "probability"),
    "catoni": ("Catoni", "probability"),
    "xu_raginsky": ("Xu–Raginsky", "average"),
    "square_root": ("supersample, square root", "average"),
    "supersample_kl": ("supersample, binary kl", "average"),
    "interpolation": ("supersample, interpolation", "average"),
    "leave_one_out": ("leave one out", "average"),
}
OTHERS = {
    "posterior_kl": ("PAC-Bayes-kl, posterior", "probability"),
    "content": ("information content, closed form", "probability"),
}


def load(name, rows):
    """Inputs and parities (rows,), scaled by `SCALE_ROWS` other rows."""
    make = {"digits": ni.datasets.digits, "fashion": ni.datasets.fashion_mnist}[name]
    data = make(n_train=SCALE_ROWS, n_test=rows, task="parity")
    return np.asarray(data.x_test), np.asarray(data.y_test)[:, 0]


def errors(z, y):
    """The 0-1 error of one network, as an array."""
    return np.asarray(ni.information.losses(z, y[:, None], task="classes").gibbs_error)


def of_draw(net, x, y, n, noise, seed):
    """Errors and bounds on the gap for one training set: lists over `TIMES`; and (gap, bound) of other networks."""
    rng = np.random.default_rng(seed)
    y = y * np.where(rng.random(len(y)) < noise, -1.0, 1.0)
    order = rng.permutation(len(y))
    pairs, train, rest = order[: 2 * n], order[:n], order[2 * n :]
    t, finite = np.array(TIMES), np.isfinite(TIMES)
    ens = ni.Ensemble.fit(net, x[train], y[train])
    # At the end every label is met.
    risk = np.zeros(len(t))
    risk[finite] = np.clip(errors(ens.predict_train(t[finite]), y[train]), 0.0, 1.0)
    found = {"train_error": risk, "test_error": errors(ens.predict(x[rest], t), y[rest])}
    kl = np.full(len(t), np.inf)
    kl[finite] = ni.information.parameter_divergence(ens, t[finite]).total
    found["divergence"] = kl
    for name in ("pac_bayes_kl", "mcallester", "catoni"):
        found[name] = getattr(bounds, name)(risk, kl, n=n, delta=DELTA) - risk
    sample = ni.cmi.supersample(net, x[pairs], y[pairs], t, draws=32, key=jax.random.key(seed))
    found["square_root"] = sample.square_root
    found["supersample_kl"] = sample.binary_kl - sample.train_error
    found["interpolation"] = sample.interpolation - sample.train_error
    left = ni.cmi.leave_one_out(ens, t)
    found["leave_one_out"] = left.bound - left.train_error
    post = ni.Posterior.fit(net, x[train], y[train], noise=POSTERIOR_NOISE, prior="nngp")
    own = float(errors(post.predict_train(), y[train]))
    bound = float(bounds.pac_bayes_kl(own, post, n=n, delta=DELTA))
    other = {"posterior_kl": (float(errors(post.predict(x[rest]), y[rest])) - own, bound - own)}
    if noise == 0:
        other["content"] = content(net, x, y, post, train, rest[:CONTENT_ROWS], seed)
    return {name: np.asarray(value, float) for name, value in found.items()}, other


def content(net, x, y, post, train, rest, seed):
    """Error of the prior given that it fits all labels, by importance sampling, and its bound in closed form."""
    cross = ni.kernels.kernels(net, x[rest], x[train]).nngp
    own = jnp.diagonal(ni.kernels.kernels(net, x[rest]).nngp)
    positive, _ = ni.content.positive_probability(
        post.q, y[train], cross, own, key=jax.random.key(seed), n_samples=2048
    )
    closed = ni.content.upper_bound(post.q, y[train])
    bound = bounds.information_content(float(closed), n=len(train), delta=DELTA, form="sharp")
    return float(np.mean(np.where(y[rest] > 0, 1 - positive, positive))), float(bound)


def cell(name, net, x, y, n, noise, options):
    """One cell: means over training sets of the gap and of each bound, and how often a bound fell below its gap."""
    draws = [of_draw(net, x, y, n, noise, options.seed + 1000 * i + n) for i in range(options.draws)]
    stacked = {key: np.stack([found[key] for found, _ in draws]) for key in draws[0][0]}
    gaps = stacked["test_error"] - stacked["train_error"]
    kl = stacked.pop("divergence")
    mean, stderr = kl.mean(axis=0), np.zeros(kl.shape[1])
    stderr[np.isfinite(mean)] = kl[:, np.isfinite(mean)].std(axis=0, ddof=1) / np.sqrt(len(kl))
    averaged = bounds.xu_raginsky(mean + 2 * stderr, n=n, sub_gaussian=0.5)
    stacked["xu_raginsky"] = np.broadcast_to(averaged, kl.shape)
    row = {
        "data": name, "n": n, "noise": noise, "t": TIMES,
        "train_error": stacked["train_error"].mean(axis=0), "test_error": stacked["test_error"].mean(axis=0),
        "gap": gaps.mean(axis=0), "gap_stderr": gaps.std(axis=0, ddof=1) / np.sqrt(len(gaps)),
        "divergence": mean, "bounds": {}, "others": {},
    }  # fmt: skip
    for key, (_, kind) in BOUNDS.items():
        values = stacked[key]
        # A bound for each training set against its gap; one on average against the mean, less two standard errors.
        below = (values < gaps).sum(axis=0)
        if kind == "average":
            below = (values.mean(axis=0) < row["gap"] - 2 * row["gap_stderr"]).astype(int)
        row["bounds"][key] = {"value": values.mean(axis=0), "below": below}
    for key in draws[0][1]:
        gap, value = np.array([other[key] for _, other in draws]).T
        row["others"][key] = {"gap": gap.mean(), "value": value.mean(), "below": int((value < gap).sum())}
    return plain(row)


def stopping(name, noise, options):
    """Test errors at the times that each rule chooses, against right labels, and the times: means over draws."""
    n, t = options.stopping_size, np.geomspace(1, 1e4, 25)
    net, (x, y) = ni.architectures.network(**NETWORK), load(name, options.rows)
    errors_of, times = {rule: [] for rule in RULES}, {rule: [] for rule in RULES}
    for draw in range(options.draws):
        rng = np.random.default_rng(options.seed + 1000 * draw)
        order = rng.permutation(len(y))
        train, rest = order[:n], order[n:]
        ens = ni.Ensemble.fit(net, x[train], y[train] * np.where(rng.random(n) < noise, -1.0, 1.0))

        # A label of ±1 that is wrong with probability p has variance 4p(1 - p) around its mean.
        covariances = (np.zeros((n, n)), 4 * noise * (1 - noise) * np.eye(n), None)
        without, noise_alone, total = (
            np.asarray(ni.information.parameter_divergence(ens, t, curvature=False, label_covariance=covariance).linear)
            for covariance in covariances
        )
        on_noise, on_signal = noise_alone - without, total - noise_alone
        rates = [np.gradient(values, np.log(t)) for values in (on_noise, on_signal)]
        faster = rates[0] > rates[1]
        error = errors(ens.predict(x[rest], t), y[rest])
        chosen = {
            "hindsight": np.argmin(error),
            "noise_faster": np.argmax(faster) if faster.any() else len(t) - 1,
            "signal_most": np.argmax(on_signal),
            "leave_one_out": np.argmin(ni.cmi.leave_one_out(ens, t).error),
            "end": len(t) - 1,
        }
        for rule, at in chosen.items():
            errors_of[rule].append(error[at])
            times[rule].append(t[at])
    row = {"data": name, "n": n, "noise": noise, "draws": options.draws}
    row["error"] = {rule: np.mean(values) for rule, values in errors_of.items()}
    row["excess_stderr"] = {
        rule: np.std(np.subtract(values, errors_of["hindsight"]), ddof=1) / np.sqrt(len(values))
        for rule, values in errors_of.items()
    }
    row["t"] = {rule: np.exp(np.mean(np.log(values))) for rule, values in times.items()}
    return plain(row)


def learning(name, options):
    """Predicted and measured errors over n, and the information plane of the six sizes, of one data set."""
    pool, test, sizes = options.pool, options.test, np.array(options.learning_sizes)
    net = ni.architectures.network(**NETWORK)
    x, y = load(name, pool + test)
    found = ni.learning.curve(
        net, x[:pool], y[:pool], sizes, draws=options.learning_draws, key=jax.random.key(options.seed)
    )
    noisy = ni.learning.curve(net, x[:pool], y[:pool], sizes, POSTERIOR_NOISE)
    row = {"data": name, "pool": pool, "n": sizes, "draws": options.learning_draws}
    row |= {field: getattr(found, field) for field in ("error", "measured", "stderr")}
    row |= {"information": noisy.information, "effective_dimension": found.effective_dimension}
    data = ni.datasets.from_arrays(x[:pool], y[:pool], x_test=x[pool:], y_test=y[pool:], scale=None)
    t = np.concatenate([[0.0], np.geomspace(0.1, 1e5, 25)])
    grid = ni.sweep.grid(lambda: net, data, t, axes={"n": sizes.tolist(), "seed": [0, 1, 2]}, joint=False)
    return plain(row | {"log_m": np.log(test)}), grid


def plain(value):
    """Six digits of every number, as plain lists; what is infinite becomes None."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray | jax.Array) and np.ndim(value):
        return [plain(each) for each in value]
    if isinstance(value, str | bool | int):
        return value
    number = np.asarray(value).item()
    if isinstance(number, int):
        return number
    return float(f"{number:.6g}") if np.isfinite(number) else None


def report(cells, curves, stopped):
    """The tables that are printed."""
    lines = ["| data | n | noise | t | train | gap | " + " | ".join(label for label, _ in BOUNDS.values()) + " |"]
    lines.append("|---" * (6 + len(BOUNDS)) + "|")
    for row in cells:
        for i, t in enumerate(TIMES):
            values = [row["bounds"][key]["value"][i] for key in BOUNDS]
            head = [row["data"], row["n"], row["noise"], f"{t:g}", f"{row['train_error'][i]:.3f}",
                    f"{row['gap'][i]:.3f} ± {row['gap_stderr'][i]:.3f}"]  # fmt: skip
            lines.append(
                "| " + " | ".join([*map(str, head), *("-" if v is None else f"{v:.2f}" for v in values)]) + " |"
            )
    lines += ["", "| data | n | predicted | measured | ratio |", "|---|---|---|---|---|"]
    for row in curves:
        for n, error, measured, stderr in zip(row["n"], row["error"], row["measured"], row["stderr"], strict=True):
            lines.append(
                f"| {row['data']} | {n} | {error:.3f} | {measured:.3f} ± {stderr:.3f} | {error / measured:.3f} |"
            )
    lines += ["", "| data | noise | " + " | ".join(RULES.values()) + " |", "|---" * (2 + len(RULES)) + "|"]
    for row in stopped:
        shown = [f"{row['error'][rule]:.3f} (t = {row['t'][rule]:.3g})" for rule in RULES]
        lines.append("| " + " | ".join([row["data"], f"{row['noise']:g}", *shown]) + " |")
    return "\n".join(lines)


def figure(cells, folder, options):
    """Gap and bounds over time, over label noise and over n, on each data set."""
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["data"] for row in cells))
    n, clean, noisy = max(options.sizes), min(options.noises), max(options.noises)
    at = {(row["data"], row["n"], row["noise"]): row for row in cells}
    late = TIMES.index(1e3)
    shown = [key for key in BOUNDS if key not in ("mcallester", "catoni")]
    fig, axes = plt.subplots(
        len(names), 4, figsize=(15, 3.6 * len(names)), sharey=True, squeeze=False, layout="constrained"
    )

    def line(ax, places, rows, index):
        for color, key in enumerate(shown):
            values = [row["bounds"][key]["value"][i] for row, i in zip(rows, index, strict=True)]
            values = np.array([np.nan if v is None else v for v in values])
            ax.plot(places, values, ".--", color=f"C{color}", lw=1.1, ms=5, label=BOUNDS[key][0])
        gap, stderr = (
            np.array([row[key][i] for row, i in zip(rows, index, strict=True)]) for key in ("gap", "gap_stderr")
        )
        ax.errorbar(places, gap, 2 * stderr, fmt="ko-", lw=1.6, ms=4, label="measured gap, ± 2 standard errors")
        ax.axhline(1, color="0.6", lw=0.8)
        ax.set_yscale("log")
        ax.set_ylim(0.005, 12)

    for name, (over_t, over_noisy_t, over_noise, over_n) in zip(names, axes, strict=True):
        for ax, noise in ((over_t, clean), (over_noisy_t, noisy)):
            line(ax, np.arange(len(TIMES)), [at[name, n, noise]] * len(TIMES), range(len(TIMES)))
            ax.set_xticks(np.arange(len(TIMES)), ["∞" if np.isinf(t) else f"{t:g}" for t in TIMES])
            ax.set(title=f"{name}, n = {n}, noise {noise:g}", xlabel="training time t")
        line(over_noise, options.noises, [at[name, n, noise] for noise in options.noises], [late] * len(options.noises))
        over_noise.set(title=f"{name}, n = {n}, t = 1000", xlabel="probability of a wrong label")
        line(over_n, options.sizes, [at[name, size, clean] for size in options.sizes], [late] * len(options.sizes))
        over_n.set(title=f"{name}, noise {clean:g}, t = 1000", xlabel="training examples n", xscale="log")
        sizes_on(over_n, options.sizes)
        over_t.set_ylabel("gap of the 0-1 error, and bounds on it")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    fig.savefig(folder / "generalization.png", dpi=100)
    plt.close(fig)


def sizes_on(ax, sizes):
    """Numbers of examples on a logarithmic axis."""
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()


def figure_of_sizes(curves, grids, folder):
    """Learning curves and information gain over n, and the information plane at every n."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    (curve, gain), planes = axes
    for color, row in enumerate(curves):
        n, bars = np.array(row["n"]), 2 * np.array(row["stderr"])
        curve.plot(n, row["error"], color=f"C{color}", label=f"{row['data']}, predicted")
        curve.errorbar(n, row["measured"], bars, fmt="o", color=f"C{color}", ms=4, label=f"{row['data']}, measured")
        gain.plot(n, row["information"], ".-", color=f"C{color}", label=row["data"])
    curve.set(xscale="log", yscale="log", ylabel="squared error of the mean, t = ∞")
    curve.set_yticks([0.1, 0.2, 0.3, 0.4, 0.6], ["0.1", "0.2", "0.3", "0.4", "0.6"])
    gain.set(xscale="log", yscale="log", ylabel=f"information gain (nats), σ² = {POSTERIOR_NOISE}")
    gain.set_yticks([20, 50, 100, 200, 400], ["20", "50", "100", "200", "400"])
    for ax in (curve, gain):
        ax.set_xlabel("training examples n")
        sizes_on(ax, curves[0]["n"])
        ax.legend(fontsize="small", frameon=False)
    for ax, row, grid in zip(planes, curves, grids, strict=False):
        ni.plot.plane(grid, ax=ax)
        ax.annotate(row["data"], (0.97, 0.1), xycoords="axes fraction", ha="right")
    fig.savefig(folder / "learning_curves.png", dpi=80)
    plt.close(fig)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=["digits", "fashion"], default=["digits", "fashion"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument(
        "--noises", type=float, nargs="+", default=[0.0, 0.1, 0.3], help="probabilities of a wrong label"
    )
    parser.add_argument("--draws", type=int, default=6, help="training sets of each cell, at least 2")
    parser.add_argument("--rows", type=int, default=1500, help="rows of the pool that training sets are drawn from")
    parser.add_argument("--learning-sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--learning-draws", type=int, default=20, help="training sets of each size, at least 2")
    parser.add_argument("--stopping-size", type=int, default=200, help="training examples where training stops early")
    parser.add_argument(
        "--wrong", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4], help="shares of wrong labels there"
    )
    parser.add_argument("--pool", type=int, default=1200, help="rows whose spectrum predicts the learning curve")
    parser.add_argument("--test", type=int, default=300, help="test rows of the information plane")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "generalization.json"
    same = {"draws": options.draws, "rows": options.rows, "seed": options.seed, "delta": DELTA, "network": NETWORK}
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored = stored if stored.get("options") == same else {}
    done = stored.get("cells", {})
    net = ni.architectures.network(**NETWORK)
    wanted = [(name, n, noise) for name in options.data for noise in options.noises for n in options.sizes]
    for name, n, noise in wanted:
        label = f"{name}, n {n}, noise {noise:g}"
        if label in done:
            continue
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done[label] = cell(name, net, *load(name, options.rows), n, noise, options)
        print(f"{label}: {time.process_time() - start:.0f} s of processor time", flush=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(stored | {"options": same, "cells": done}))
        unfinished.replace(path)
    curves, grids = zip(*(learning(name, options) for name in options.data), strict=True)
    cells = [done[f"{name}, n {n}, noise {noise:g}"] for name, n, noise in wanted]
    # Rows of an earlier run stay.
    kept = {(row["data"], row["noise"], row["n"]): row for row in stored.get("stopping", [])}
    stopped = [
        kept.get((name, noise, options.stopping_size)) or stopping(name, noise, options)
        for name in options.data
        for noise in options.wrong
    ]
    print(report(cells, curves, stopped))
    result = {"options": same, "cells": done, "learning": list(curves), "stopping": stopped}
    result |= {"bounds": BOUNDS, "others": OTHERS, "rules": RULES, "jax": jax.__version__}
    path.write_text(json.dumps(result))
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    figure(cells, options.out, options)
    figure_of_sizes(curves, grids, options.out)


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
