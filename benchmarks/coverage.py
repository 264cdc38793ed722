"""Claim: 99 % of the errors that the Krylov engine tells are no smaller than the true ones, none of them below a third.

Predictions, sums over the spectrum and posteriors at the same times, beside the dense engine: architectures x data x
storage x tolerance, each a row of the JSON, which is written as it grows; what it has already is kept, each of the four
kinds of numbers of a row by itself. Nothing is timed, so it may share a machine.

    uv run python benchmarks/coverage.py --sizes 300 2000
"""

import argparse
import dataclasses
import functools
import json
import os
import platform
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni
from ntkinfo import stax

OUT = Path(__file__).parent / "results" / "coverage.json"
TIMES = np.array([0.0, 0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e6, np.inf])
LAYERS = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}
KINDS = ("plain", "near-duplicates", "one-hot", "ill-conditioned")
NUMBERS = ("predictions", "sums", "posterior predictions", "posterior sums")
STORAGES, TOLERANCES = ("float64", "float32"), (1e-1, 1e-3, 1e-5)
NOISE, M = 0.1, 8
# What the dense engine itself rounds off, relative to a sum.
ROUNDING = 1e-10


def network(activation="relu"):
    hidden = [part for _ in range(2) for part in (stax.Dense(64, W_std=1.5, b_std=0.1), LAYERS[activation]())]
    return stax.serial(*hidden, stax.Dense(1, W_std=1.5, b_std=0.1))


def data(kind="plain", n=300, m=M, seed=0):
    """x, y, x_test: random inputs, pairs of near-duplicates, labels of four classes, or three dimensions."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + m, 3 if kind == "ill-conditioned" else 8))
    y = np.sign(x[:, :1] * x[:, 1:2])
    if kind == "near-duplicates":
        x[1::2] = x[::2] + 1e-3 * rng.normal(size=x[::2].shape)
    if kind == "one-hot":
        y = np.eye(4)[rng.integers(0, 4, n + m)]
        y = y - y.mean(axis=0)
    order = rng.permutation(n + m)
    x, y = x[order], y[order]
    return x[:n], y[:n], x[n:]


def of_predictions(found, wanted, own):
    """True errors as shares of those told, of means and variances; `own` of the dense variances is none of them."""
    mean = np.maximum(np.abs(found.mean - wanted.mean) - 1e-11, 0) / np.maximum(found.error.mean, 1e-30)
    variance = np.maximum(np.abs(found.variance - wanted.variance) - own, 0) / np.maximum(found.error.variance, 1e-30)
    return np.concatenate([np.ravel(mean), np.ravel(variance)])


def sums(ens, t):
    """Every sum over the spectrum, by name, an array or an `Estimate`."""
    information = ni.information
    return {
        "parameter_distance": information.parameter_distance(ens, t),
        "action": information.action(ens, t),
        "fisher_action": information.action(ens, t, metric="fisher"),
        "divergence": information.parameter_divergence(ens, t[np.isfinite(t)], curvature=False).linear,
    }


def of_sums(found, wanted):
    """True errors of estimates as shares of truncation and three standard errors."""
    shares = []
    for name, value in found.items():
        exact = np.asarray(wanted[name])
        told = np.asarray(value.truncation) + 3 * np.asarray(value.stderr)
        error = np.maximum(np.abs(np.asarray(value.value) - exact) - ROUNDING * np.abs(exact), 0)
        shares.append(np.ravel(error / np.maximum(told, 1e-30)))
    return np.concatenate(shares)


def judged(shares):
    """What shares (cells,), or (draws, cells) of draws of the probes, come to.

    Cells of one draw miss together: the standard error of what is covered is that over draws.
    """
    seen = shares[shares > 0]
    found = {
        "cells": shares.size,
        "covered": float(np.mean(shares <= 1)),
        "largest share": float(shares.max()),
        # How generous errors are: 0.1 is ten times too large.
        "median share": float(np.median(seen)) if len(seen) else 0.0,
    }
    if shares.ndim == 2 and len(shares) > 1:
        by_draw = np.mean(shares <= 1, axis=1)
        found |= {"draws": len(shares), "draws with misses": int(np.sum(by_draw < 1))}
        found["standard error"] = float(np.std(by_draw, ddof=1) / np.sqrt(len(shares)))
    return found


def posterior_of(post):
    return {name: getattr(post, name) for name in ("log_marginal_likelihood", "information_gain", "kl")}


def names_of(activation, kind):
    """Names of the rows of every storage and tolerance."""
    return [f"{activation}, {kind}, {storage}, {tolerance:g}" for storage in STORAGES for tolerance in TOLERANCES]


def is_whole(row, kinds=NUMBERS):
    """Whether a row has all kinds of numbers, or says why not."""
    return "refused" in row or all(kind in row for kind in kinds)


def rows_of(activation, kind, n, keys, known, numbers=NUMBERS):
    """Name and row of every storage and tolerance; `numbers` that the `known` rows have are not computed again."""
    net, (x, y, x_test) = network(activation), data(kind, n)

    @functools.cache
    def dense():
        ens = ni.Ensemble.fit(net, x, y, engine="dense", singular="project", progress=False)
        wanted, exact = ens.predict(x_test, TIMES), sums(ens, TIMES)
        s = ens.filters(ens.rescaled_time(TIMES))
        return wanted, exact, np.asarray(ens.rounding_errors(ens.cross_kernels(x_test), s))

    @functools.cache
    def bayes():
        post = ni.Posterior.fit(net, x, y, noise=NOISE, prior="ntk", engine="dense", progress=False)
        return post.predict(x_test), posterior_of(post)

    @functools.cache
    def fitted(storage):
        return ni.Ensemble.fit(net, x, y, engine="krylov", storage=storage, progress=False)

    @functools.cache
    def posterior(storage):
        options = {"engine": "krylov", "storage": storage, "progress": False}
        return ni.Posterior.fit(net, x, y, noise=NOISE, prior="ntk", **options)

    def numbers_of(storage, tolerance):
        # The same kernels, judged anew.
        ens = dataclasses.replace(fitted(storage), tolerance=tolerance)

        def post():
            found: Any = posterior(storage)
            return dataclasses.replace(found, process=dataclasses.replace(found.process, tolerance=tolerance))

        return {
            "predictions": lambda: of_predictions(ens.predict(x_test, TIMES), dense()[0], dense()[2]),
            "sums": lambda: of_draws(ens, keys, dense()[1]),
            "posterior predictions": lambda: of_predictions(post().predict(x_test), bayes()[0], 1e-13),
            "posterior sums": lambda: of_sums(posterior_of(post()), bayes()[1]),
        }

    for storage in STORAGES:
        for tolerance in TOLERANCES:
            name = f"{activation}, {kind}, {storage}, {tolerance:g}"
            row = dict(known.get(name, {}))
            if is_whole(row, numbers):
                continue
            try:
                for number, shares in numbers_of(storage, tolerance).items():
                    if number in numbers and number not in row:
                        row[number] = judged(shares())
            except ValueError as error:
                # float32 does not hold it, and says so.
                row["refused"] = str(error)[:80]
            yield name, row


def of_draws(ens, keys, exact):
    """`of_sums` of so many draws of the probes."""
    found = []
    for i in range(keys):
        drawn = ens.spectral_sums(key=jax.random.key(i))
        found.append(of_sums(sums(drawn, TIMES), exact))
        if drawn.exhausted:
            # Nothing is sampled of a whole spectrum.
            break
    return np.stack(found)


def summary(rows):
    """Cells, share covered and largest share of each kind of number, over all rows."""
    found = {}
    for row in rows.values():
        for name, part in row.items():
            if name == "refused":
                continue
            total = found.setdefault(name, {"cells": 0, "covered": 0.0, "largest share": 0.0})
            total["cells"] += part["cells"]
            total["covered"] += part["cells"] * part["covered"]
            total["largest share"] = max(total["largest share"], part["largest share"])
            below = part["covered"] < 0.99, part["covered"] + 2 * part.get("standard error", 0.0) < 0.99
            for label, one in zip(("rows below 99 %", "by more than two standard errors"), below, strict=True):
                total[label] = total.get(label, 0) + int(one)
            total.setdefault("median shares", []).append(part["median share"])
    for total in found.values():
        total["covered"] /= total["cells"]
        total["median of median shares"] = float(np.median(total.pop("median shares")))
    return found | {"refused": sum("refused" in row for row in rows.values())}


def write(sizes, out):
    for size in sizes.values():
        size["summary"] = summary(size["rows"])
    report = {
        "sizes": sizes,
        "times": [float(t) for t in TIMES[:-1]] + ["inf"],
        "noise": NOISE,
        "test inputs": M,
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    out.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 2000])
    parser.add_argument("--activations", nargs="+", default=["relu", "erf"], choices=LAYERS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="of data")
    parser.add_argument("--keys", type=int, default=60, help="draws of the probes; all sums of one miss together")
    parser.add_argument("--numbers", nargs="+", default=NUMBERS, choices=NUMBERS, help="of these only")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sizes = json.loads(options.out.read_text())["sizes"] if options.out.exists() else {}
    for n in options.sizes:
        rows = sizes.setdefault(str(n), {"rows": {}})["rows"]
        for activation in options.activations:
            for kind in options.kinds:
                if all(is_whole(rows.get(name, {}), options.numbers) for name in names_of(activation, kind)):
                    continue
                for name, row in rows_of(activation, kind, n, options.keys, rows, options.numbers):
                    rows[name] = row
                    print(n, name, json.dumps(row), flush=True)
                    write(sizes, options.out)
        print(n, json.dumps(sizes[str(n)].get("summary")), flush=True)


if __name__ == "__main__":
    main()
