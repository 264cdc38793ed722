"""Claim: estimators from samples agree with infomeasure to 1e-9 nats wherever the formula is the same, ennemi to 1e-5.

Values, seconds and distance from the truth, each estimator on the same samples as its peer: counts under four stimuli
(plug-in, Miller-Madow, Grassberger, Chao-Shen; information, conditional information, entropy) and correlated normals
(nearest neighbours). Then the bias and spread of every correction over many small samples. Of Grassberger's
formulas infomeasure has that of 1988, ours is that of 2003, which is exact for Poisson counts. The peers run in a
Python of their own, which `--peers` names; without it only the truth stands beside ours. Ours reports a standard error
as well, which the peers do not.

    uv run python benchmarks/estimators.py --peers ../peers/bin/python
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

RESULTS = Path(__file__).parent / "results" / "estimators.json"
CORRECTIONS = (None, "miller_madow", "grassberger", "chao_shen")
# What infomeasure calls them.
APPROACH = {None: "discrete", "miller_madow": "miller_madow", "grassberger": "grassberger", "chao_shen": "chao_shen"}
REPEATS, RHO = 5, 0.8


def counts(n: int, seed: int):
    """Poisson counts of means 1 to 4 under four stimuli, and the sign of a third variable that half decides them."""
    rng = np.random.default_rng(seed)
    stimulus = rng.integers(0, 4, size=n)
    return rng.poisson(1.0 + stimulus), stimulus, (stimulus + rng.integers(0, 2, size=n)) % 2


def truth() -> float:
    """I of counts and stimulus in nats, from the table of the Poisson distributions."""
    c = np.arange(60)
    means = np.arange(1, 5.0)[:, None]
    p = np.exp(c * np.log(means) - means - np.array([math.lgamma(k + 1) for k in c])) / 4
    return float(np.sum(p * np.log(p / (0.25 * p.sum(axis=0)))))


def timed(call):
    """Value and processor seconds, the median of several calls after a first one."""
    value, seconds = call(), []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return {"value": float(value), "seconds": statistics.median(seconds)}


def cases(data):
    """Ours and the peers' calls by the name of the case; each is made in the interpreter that has the library."""
    x, y, z, a, b = (data[name] for name in ("x", "y", "z", "a", "b"))

    def ours():
        from ntkinfo import estimators

        for c in CORRECTIONS:
            yield f"information, {APPROACH[c]}", lambda c=c: estimators.binned(x, y, correction=c).value
            yield f"conditional, {APPROACH[c]}", lambda c=c: estimators.conditional(x, y, z, correction=c).value
            yield f"entropy, {APPROACH[c]}", lambda c=c: estimators.entropy(x, correction=c).value
        yield "information, neighbours", lambda: estimators.ksg(a, b, standardize=False).value
        yield "entropy, neighbours", lambda: estimators.differential_entropy(a, standardize=False).value

    def infomeasure():
        import infomeasure as im

        for name in APPROACH.values():
            yield f"information, {name}", lambda n=name: im.mutual_information(x, y, approach=n)
            yield f"conditional, {name}", lambda n=name: im.conditional_mutual_information(x, y, cond=z, approach=n)
            yield f"entropy, {name}", lambda n=name: im.entropy(x, approach=n)
        options = {"k": 3, "noise_level": 0, "minkowski_p": np.inf}
        yield "information, neighbours", lambda: im.mutual_information(a, b, approach="metric", **options)
        yield "entropy, neighbours", lambda: im.entropy(a, approach="metric", k=3, noise_level=0, minkowski_p=np.inf)

    def ennemi():
        import ennemi as en

        yield "information, neighbours", lambda: en.estimate_mi(b, a, k=3, preprocess=False).item()
        yield "entropy, neighbours", lambda: np.asarray(en.estimate_entropy(a, k=3)).item()

    return {"ntkinfo": ours, "infomeasure": infomeasure, "ennemi": ennemi}


def measure(path: str, names: list[str]):
    """What this interpreter has of the libraries, on the samples in a file."""
    import importlib.metadata
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    data, found = np.load(path), {}
    for library, make in cases(data).items():
        if library not in names:
            continue
        rows = found[library] = {"version": importlib.metadata.version(library) if library != "ntkinfo" else "this"}
        rows["values"] = values = {}
        for name, call in make():
            try:
                values[name] = timed(call)
            except Exception as error:
                values[name] = {"refused": f"{type(error).__name__}: {error}"[:200]}
    return found


def biases(repetitions: int):
    """Mean distance from the truth, spread and mean reported error of every correction, from samples of n."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ntkinfo import estimators

    rows, exact = [], truth()
    for n in (50, 100, 200, 400):
        for correction in (*CORRECTIONS, "panzeri_treves", "extrapolated"):
            values, errors = [], []
            for seed in range(repetitions):
                x, y, _ = counts(n, seed)
                if correction == "extrapolated":
                    found = estimators.extrapolate(x, y, key=jax.random.key(seed))
                else:
                    found = estimators.binned(x, y, correction=correction)
                values.append(float(found.value))
                errors.append(float(found.stderr))
            row = {"n": n, "correction": correction or "plug_in", "bias": statistics.mean(values) - exact}
            rows.append(row | {"spread": statistics.stdev(values), "reported": statistics.mean(errors)})
    return rows


def main():
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="a Python with infomeasure and ennemi")
    parser.add_argument("--n", type=int, default=2000, help="samples")
    parser.add_argument("--repetitions", type=int, default=100, help="small samples of each size")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, ["infomeasure", "ennemi"])))
        return
    x, y, z = counts(options.n, 0)
    a, noise = np.random.default_rng(1).normal(size=(2, options.n))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples.npz")
        np.savez(path, x=x, y=y, z=z, a=a, b=RHO * a + math.sqrt(1 - RHO**2) * noise)
        import jax

        jax.config.update("jax_enable_x64", True)
        found = measure(path, ["ntkinfo"])
        if options.peers:
            command = [options.peers, __file__, "--measure", path]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            found |= json.loads(done.stdout.splitlines()[-1])
    ours, differences = found["ntkinfo"]["values"], {}
    for library in set(found) - {"ntkinfo"}:
        for name, row in found[library]["values"].items():
            if "value" in row:
                differences[f"{name}: {library}"] = abs(row["value"] - ours[name]["value"])
    result = {
        "n": options.n,
        "truth": {"information, counts": truth(), "information, neighbours": -0.5 * math.log(1 - RHO**2)},
        "libraries": found,
        "differences": differences,
        "bias": biases(options.repetitions),
        "machine": {"python": platform.python_version(), "cpu": platform.machine(), "threads": 1},
    }
    result["truth"]["entropy, neighbours"] = 0.5 * math.log(2 * math.pi * math.e)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in ours.items():
        beside = [
            f"{library} {peer.get('value', math.nan):.9f} ({peer.get('seconds', 0):.4f} s)"
            for library, peers in found.items()
            if library != "ntkinfo" and (peer := peers["values"].get(name))
        ]
        print(f"{name:28} {row['value']:.9f} ({row['seconds']:.4f} s)  {'  '.join(beside)}")
    for row in result["bias"]:
        print("{n:5} {correction:15} bias {bias:+.4f}  spread {spread:.4f}  reported {reported:.4f}".format(**row))
    for library in ("infomeasure", "ennemi"):
        largest = [d for name, d in differences.items() if name.endswith(library) and "grassberger" not in name]
        print(f"largest difference from {library}, Grassberger's apart: {max(largest, default=math.nan):.3g}")


if __name__ == "__main__":
    sys.exit(main())
