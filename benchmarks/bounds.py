"""Claim: the bounds hold on real data, some are not vacuous, and what ranks generalization is not what certifies it.

Infinite ensembles and Bayesian posteriors on digits and MNIST (even against odd), with true and random labels, over
depths, weight scales, training times and sample sizes. Beside every bound stand the measured test error and gap of the
same network; Kendall's tau says how each information quantity ranks the gap, with train accuracy among the predictors.

    python benchmarks/bounds.py --mnist ../shared/data    # some minutes; go on after an interruption: the same command
    python benchmarks/bounds.py --sizes 100 --depths 1

What is a valid bound here. Inputs are shifted and scaled by rows that are used for nothing else, so every prior is
fixed before the training data are seen. Ensembles: PAC-Bayes with the divergence of the parameters, curvature included
(erf networks), and the 0-1 error of one network drawn from the ensemble. Posteriors: PAC-Bayes with the divergence of
the process. Information content: for the prior conditioned on the right signs, whose test error is
measured by importance sampling. Each holds with probability 1 - delta for
one configuration; whoever picks the best of many must share delta among them. Shown without being bounds: input
compression (an unproven step), Xu-Raginsky (the divergence for one data set in place of its average over data sets),
and the divergence of the outputs, which is no divergence between hypotheses and enters the ranking only.

Writes `bounds.json` and two figures beside it.
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
from scipy.stats import kendalltau

import ntkinfo as ni
from ntkinfo import bounds, content, kernels, posterior, stax
from ntkinfo.ensemble import Ensemble
from ntkinfo.information import parameter_divergence

jax.config.update("jax_enable_x64", True)
HERE = pathlib.Path(__file__).resolve().parent
DELTA = 0.05
TEST = 400
# The first one's quantities enter the ranking.
NOISES = (0.1, 1.0, 10.0, "fit", 1e-3)
ENSEMBLE_BOUNDS = {
    "pac_bayes_kl": "PAC-Bayes-kl",
    "mcallester": "McAllester",
    "catoni": "Catoni",
    "input_compression": "input compression (no proof)",
    "xu_raginsky": "Xu-Raginsky (one data set)",
}
PREDICTORS = (
    "train_error", "input_information", "label_information", "output_divergence", "parameter_divergence",
    "parameter_divergence_linear", "parameter_distance", "action", "input_compression_gap", "parameter_divergence/n",
    "parameter_distance/n", "content/n", "posterior_kl/n", "information_gain/n",
)  # fmt: skip


def unknown_kernel(x1, x2, get):
    """One name for kernels evaluated already: programs are then compiled once for all networks."""
    raise NotImplementedError


def network(depth, w_std, b_std):
    hidden = [layer for _ in range(depth) for layer in (stax.Dense(512, W_std=w_std, b_std=b_std), stax.Erf())]
    return stax.serial(*hidden, stax.Dense(1, W_std=w_std, b_std=b_std))


def load(name, options):
    """Inputs and parities of `max(sizes) + TEST` rows, shifted and scaled by other rows."""
    rows = max(options.sizes) + TEST
    if name == "digits":
        data = ni.datasets.digits(1797 - rows, rows)
    else:
        data = ni.datasets.mnist(options.mnist, 1000, rows)
    return data.x_test, data.y_test[:, 0]


def ensemble_rows(k, hessian, x, y, n, options):
    """Bounds, errors and information of the ensemble at every time, a dictionary of lists."""
    train, test = slice(0, n), slice(len(y) - TEST, len(y))
    block = kernels.Kernels(k.nngp[train, train], k.ntk[train, train])
    ens = Ensemble.from_kernels(unknown_kernel, jnp.asarray(x[train]), jnp.asarray(y[train, None]), block)
    cross = kernels.Kernels(k.nngp[test, train], k.ntk[test, train])
    prior = jnp.diagonal(k.nngp)[test]
    t = np.array(options.times)
    curve = ni.information.curve(ens, ens.cross_kernels(cross, prior=prior), jnp.asarray(y[test, None]), t, joint=False)
    kl = parameter_divergence(ens, t, hessian=hessian[train, train])
    z = ens.predict_train(t)
    # At late times the variance on the training inputs vanishes to rounding and may come out below zero.
    z = z._replace(variance=jnp.maximum(z.variance, 0.0))
    risk = np.asarray(ni.information.losses(z, y[train, None], task="classes").gibbs_error)
    columns = curve.columns()
    found = {"t": t, "train_error": risk, "test_error": columns["gibbs_error"], "gap": columns["gibbs_error"] - risk}
    for name in ("input_information", "label_information", "output_divergence", "parameter_distance", "action"):
        found[name] = columns[name]
    found |= {"parameter_divergence": kl.total, "parameter_divergence_linear": kl.linear}
    for name in ("pac_bayes_kl", "mcallester", "catoni"):
        found[name] = getattr(bounds, name)(risk, kl.total, n=n, delta=DELTA)
    found["input_compression_gap"] = bounds.input_compression(columns["input_information"], n=n, delta=DELTA)
    found["input_compression"] = risk + found["input_compression_gap"]
    found["xu_raginsky"] = risk + bounds.xu_raginsky(kl.total, n=n, sub_gaussian=0.5)
    return {name: np.asarray(value).tolist() for name, value in found.items()}


def posterior_rows(k, x, y, n):
    """Bounds and errors of NNGP and NTKGP posteriors at several noises."""
    rows = []
    train, test = slice(0, n), slice(len(y) - TEST, len(y))
    for prior in posterior.PRIORS:
        q = getattr(k, prior)
        for noise in NOISES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                post = posterior.Posterior.from_kernel(
                    unknown_kernel,
                    jnp.asarray(x[train]),
                    jnp.asarray(y[train, None]),
                    q[train, train],
                    noise=noise,
                    prior=prior,
                )
            z = posterior.predictive(post, q[test, train], jnp.diagonal(q)[test], False)
            of = [ni.information.losses(*p, task="classes") for p in ((post.predict_train(), y[train]), (z, y[test]))]
            risk, error = (float(losses.gibbs_error) for losses in of)
            rows.append(
                {"prior": prior, "noise": noise, "sigma2": float(post.noise), "kl": float(post.kl),
                 "information_gain": float(post.information_gain), "train_error": risk, "test_error": error,
                 "gap": error - risk, "evidence": float(post.log_marginal_likelihood)}
                | {name: float(getattr(bounds, name)(risk, float(post.kl), n=n, delta=DELTA))
                   for name in ("pac_bayes_kl", "mcallester", "catoni")}
            )  # fmt: skip
    return rows


def content_row(k, y, n, key):
    """Information content of the labels and its bounds, published and sharp, estimated and in closed form."""
    kernel = k.nngp[:n, :n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        c = content.of_kernel(kernel, jnp.asarray(y[:n]), key=key, n_samples=2048)
    closed = float(content.upper_bound(kernel, jnp.asarray(y[:n]), form="published"))
    row = {name: float(value) for name, value in c._asdict().items()} | {"published_closed_form": closed}
    test = slice(len(y) - TEST, len(y))
    positive, _ = content.positive_probability(
        kernel, jnp.asarray(y[:n]), k.nngp[test, :n], jnp.diagonal(k.nngp)[test], key=key, n_samples=2048
    )
    row["test_error"] = float(np.mean(np.where(y[test] > 0, 1 - positive, positive)))
    estimate = row["value"] + 3 * row["stderr"]
    for name, value, form in (
        ("estimate, sharp", estimate, "sharp"), ("estimate, published", estimate, "published"),
        ("closed form, sharp", row["upper"], "sharp"), ("closed form, published", closed, "published"),
    ):  # fmt: skip
        row[name] = float(bounds.information_content(max(value, 0.0), n=n, delta=DELTA, form=form))
    return row


def cells(name, depth, w_std, x, labels, options):
    """All sizes and labels of one network on one data set: the kernels are evaluated once."""
    net = network(depth, w_std, options.b_std)
    k = kernels.kernels(net, jnp.asarray(x))
    hessian = kernels.hessian(net, jnp.asarray(x[: max(options.sizes)]))
    for kind, y in labels.items():
        for n in options.sizes:
            ensemble = ensemble_rows(k, hessian, x, y, n, options)
            row = content_row(k, y, n, jax.random.key(options.seed))
            cell = {"data": name, "labels": kind, "depth": depth, "w_std": w_std, "n": n, "ensemble": ensemble}
            yield cell | {"posterior": posterior_rows(k, x, y, n), "content": row}


def flat(results):
    """One row per configuration and time, with the quantities that have no time repeated."""
    rows = []
    for cell in results:
        n = cell["n"]
        nngp = next(p for p in cell["posterior"] if p["prior"] == "nngp" and p["noise"] == 0.1)
        constant = {name: cell[name] for name in ("data", "labels", "depth", "w_std", "n")} | {
            "content/n": cell["content"]["value"] / n, "posterior_kl/n": nngp["kl"] / n,
            "information_gain/n": nngp["information_gain"] / n,
        }  # fmt: skip
        for i in range(len(cell["ensemble"]["t"])):
            row = constant | {name: values[i] for name, values in cell["ensemble"].items()}
            for name in ("parameter_divergence", "parameter_distance"):
                row[f"{name}/n"] = row[name] / n
            rows.append(row)
    return rows


def ranking(rows):
    """Kendall's tau of every predictor with the gap: over all rows, and its mean over groups where one thing varies."""
    keys = ("data", "labels", "depth", "w_std", "n", "t")

    def tau(some, name):
        with np.errstate(all="ignore"):
            return float(kendalltau([r[name] for r in some], [r["gap"] for r in some]).statistic)

    def within(some, name, varies):
        groups = {}
        for r in some:
            groups.setdefault(tuple(r[key] for key in keys if key not in varies), []).append(r)
        values = [tau(group, name) for group in groups.values() if len(group) > 1]
        values = [v for v in values if np.isfinite(v)]
        return float(np.mean(values)) if values else None

    true = [r for r in rows if r["labels"] == "true"]
    table = {}
    for name in PREDICTORS:
        table[name] = {
            "all": tau(rows, name),
            "true labels": tau(true, name),
            "over times": within(true, name, ("t",)),
            "over architectures": within(true, name, ("depth", "w_std")),
            "over n": within(true, name, ("n",)),
            "true or random": within(rows, name, ("labels",)),
        }
    return table


def rounded(value):
    """Six digits of every number: the file stays small."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def text(value):
    return "-" if value is None or not np.isfinite(value) else f"{value:.2f}"


def report(results, table):
    lines = [f"Test error, and upper bounds on it that hold with probability {1 - DELTA} each; the best of the times "
             "and noises is shown for each (picking it costs a union not counted here).", ""]  # fmt: skip
    names = ("PAC-Bayes-kl, ensemble", "its test error", "PAC-Bayes-kl, NNGP", "its test error", "PAC-Bayes-kl, NTKGP",
             "its test error", "content: estimate", "closed form", "published", "its test error")  # fmt: skip
    lines += ["| data | labels | n | depth | W_std | " + " | ".join(names) + " |", "|---" * (5 + len(names)) + "|"]
    for cell in results:
        e, row = cell["ensemble"], []
        i = int(np.argmin(e["pac_bayes_kl"]))
        row += [e["pac_bayes_kl"][i], e["test_error"][i]]
        for prior in posterior.PRIORS:
            best = min((p for p in cell["posterior"] if p["prior"] == prior), key=lambda p: p["pac_bayes_kl"])
            row += [best["pac_bayes_kl"], best["test_error"]]
        c = cell["content"]
        row += [c["estimate, sharp"], c["closed form, sharp"], c["closed form, published"]]
        row += [c["test_error"]]
        head = (cell["data"], cell["labels"], cell["n"], cell["depth"], cell["w_std"])
        lines.append("| " + " | ".join([*map(str, head), *map(text, row)]) + " |")
    lines += ["", "Share of bounds below 1/2, of bounds below the test error, and median excess over it:", ""]
    lines += ["| bound | below 1/2 | below the test error | median excess |", "|---|---|---|---|"]
    for name, (values, errors) in held(results).items():
        lines.append(f"| {name} | {np.mean(values < 0.5):.2f} | {np.mean(values < errors):.3f} | "
                     f"{np.median(values - errors):.2f} |")  # fmt: skip
    columns = next(iter(table.values()))
    lines += ["", "Kendall's tau with the gap (positive: larger means a larger gap):", ""]
    lines += ["| predictor | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name, row in sorted(table.items(), key=lambda item: -abs(item[1]["true labels"])):
        lines.append(f"| {name} | " + " | ".join(text(value) for value in row.values()) + " |")
    return "\n".join(lines)


def held(results):
    """Every bound and the error it is set beside, over all configurations."""
    found = {}
    rows = flat(results)
    for name, label in ENSEMBLE_BOUNDS.items():
        found[f"{label}, ensemble"] = [(r[name], r["test_error"]) for r in rows]
    for prior in posterior.PRIORS:
        for name in ("pac_bayes_kl", "mcallester", "catoni"):
            label = f"{ENSEMBLE_BOUNDS[name]}, {prior} posterior"
            found[label] = [(p[name], p["test_error"]) for c in results for p in c["posterior"] if p["prior"] == prior]
    for form in ("estimate, sharp", "estimate, published", "closed form, sharp", "closed form, published"):
        found[f"information content, {form}"] = [(c["content"][form], c["content"]["test_error"]) for c in results]
    return {name: tuple(np.array(pairs).T) for name, pairs in found.items()}


def figures(results, table, folder):
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pairs = held(results)
    chosen = [name for name in pairs if "McAllester" not in name and "Catoni" not in name and "published" not in name]
    fig, axes = plt.subplots(2, 4, figsize=(15, 7), sharex=True, constrained_layout=True)
    for ax, name in zip(axes.flat, chosen, strict=False):
        values, errors = pairs[name]
        ax.plot(errors, np.minimum(values, 3), ".", ms=4, alpha=0.5)
        ax.plot([0, 0.6], [0, 0.6], "k-", lw=0.8)
        ax.axhline(0.5, color="0.6", lw=0.8, ls="--")
        ax.set(title=name, ylim=(0, 3.05 if "ensemble" in name and values.max() > 1.2 else 1.05))
    for ax in axes.flat[len(chosen) :]:
        ax.set_axis_off()
    fig.supxlabel("measured test error (line: bound = error; dashed: a coin)")
    fig.supylabel("bound (values above 3 drawn at 3)")
    fig.savefig(folder / "bounds.png", dpi=110)
    names = sorted(table, key=lambda name: table[name]["true labels"])
    fig, ax = plt.subplots(figsize=(8, 6), constrained_layout=True)
    for shift, column in ((-0.2, "true labels"), (0.2, "all")):
        ax.barh(np.arange(len(names)) + shift, [table[name][column] for name in names], 0.38, label=column)
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(xlabel="Kendall's tau with the gap")
    ax.axvline(0, color="k", lw=0.8)
    ax.legend()
    fig.savefig(folder / "bounds_ranking.png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=pathlib.Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 600])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3], help="numbers of hidden layers")
    parser.add_argument("--w-std", type=float, nargs="+", default=[0.75, 1.5, 3.0])
    parser.add_argument("--b-std", type=float, default=0.1)
    parser.add_argument("--times", type=float, nargs="+", default=[0.1, 0.3, 1, 3, 10, 30, 100, 1000, 10000])
    parser.add_argument("--seed", type=int, default=0, help="of the random labels")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    options = parser.parse_args()
    names = ["digits"]
    if any(options.mnist.glob("*images-idx3-ubyte*")):
        names.append("mnist")
    else:
        print(f"No MNIST files in {options.mnist.name}: digits only.")

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "bounds.json"
    same = {"sizes": options.sizes, "b_std": options.b_std, "times": options.times, "seed": options.seed,
            "delta": DELTA}  # fmt: skip
    stored = json.loads(path.read_text()) if path.exists() else {}
    done = stored.get("cells", {}) if stored.get("options") == same else {}
    wanted = [(name, depth, w_std) for name in names for depth in options.depths for w_std in options.w_std]
    for name, depth, w_std in wanted:
        label = f"{name}, depth {depth}, W_std {w_std}"
        if label in done:
            continue
        start = time.perf_counter()
        x, y = load(name, options)
        # The random labels of train and test alike: nothing can be learned.
        coin = np.random.default_rng(options.seed).choice([-1.0, 1.0], size=len(y))
        done[label] = rounded(list(cells(name, depth, w_std, x, {"true": y, "random": coin}, options)))
        print(f"{label}: {time.perf_counter() - start:.0f} s", flush=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps({"options": same, "cells": done}))
        unfinished.replace(path)
    results = [cell for key in wanted for cell in done[f"{key[0]}, depth {key[1]}, W_std {key[2]}"]]
    table = ranking(flat(results))
    print(report(results, table))
    path.write_text(json.dumps({"options": same, "tau": rounded(table), "cells": rounded(done)}))
    figures(results, table, options.out)


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(3600, exit=True)
    main()
