"""Claim: leaving one out, supersamples, values and moves of the explorer are quick; residuals find wrong labels.

Two parts, each written as it comes and kept where it was not asked for:

    python benchmarks/leaving_one_out.py --part speed      # each row of one process; wall and processor seconds
    python benchmarks/leaving_one_out.py --part labels     # Fashion-MNIST, one label in ten wrong

Speed is that of a first call, with all that it compiles and where no compilation cache is found, of digits and of
Fashion-MNIST. Wrong labels: what ranks them above right ones (area under the curve), by kernel and noise of a
posterior, and by gradient flow to the end; information is that of each label beyond all others (theory, section 12).
The amplitude of the prior is that of the network, or the one of largest evidence, which has a closed form.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import ntkinfo as ni

FILE = Path(__file__).resolve().parent / "results" / "leaving_one_out.json"
# Seconds that issue and documents ask for.
TARGETS = {"leave_one_out": 10.0, "supersample": 20.0, "value": 120.0, "explorer": 0.2}
NOISES = (1e-3, 0.01, 0.1, 1.0)
NETWORKS = {
    "ReLU, three layers": {"activation": "relu", "depth": 3},
    "erf, one layer": {"activation": "erf", "depth": 1},
}
MEASURES = ("information", "surprisal", "residual", "probability", "variance")


def network(outputs=1, **options):
    """Hidden layers of one scale, as in theory, section 12."""
    return ni.architectures.network("dense", w_std=1.5, b_std=0.1, outputs=outputs, **options)


def leave_one_out():
    """Leave-one-out information of n = 2000 at t = infinity, kernels and decomposition included."""
    data = ni.datasets.fashion_mnist(n_train=2000, n_test=2, task="parity")
    ens = ni.Ensemble.fit(network(activation="erf", depth=1), data.x_train, data.y_train)
    return ni.cmi.leave_one_out(ens).information


def supersample():
    """Supersample of 400 pairs, 128 draws, 100 times."""
    data = ni.datasets.digits(n_train=800, n_test=2, task="parity")
    times = np.logspace(-1, 5, 100)
    net = network(activation="erf", depth=1)
    return ni.cmi.supersample(net, data.x_train, data.y_train, times, draws=128, key=jax.random.key(0)).information


def value():
    """Values of 10,000 examples of ten classes, by a posterior."""
    data = ni.datasets.fashion_mnist(n_train=10_000, n_test=2, task="classes")
    post = ni.Posterior.fit(network(10, activation="relu", depth=3), data.x_train, data.y_train, noise=0.1)
    return ni.examples.value(post).information


def explorer():
    """Opens the explorer at n = 300; what is measured is a move of its weight scale, drawing included."""
    import matplotlib

    matplotlib.use("Agg")
    # The script beside the package, as it is started.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    from explorer import Explorer

    shown = Explorer()
    shown.widgets["n"].set_val(300)
    shown.figure.canvas.draw()
    scales = iter(np.linspace(0.8, 2.5, 30))
    shown.widgets["w_std"].set_val(next(scales))
    return lambda: shown.widgets["w_std"].set_val(next(scales))


ROWS = {"leave_one_out": leave_one_out, "supersample": supersample, "value": value, "explorer": explorer}
# Rows that hand back what is done again and again: the median of so many is told.
REPEATED = {"explorer": 15}
# Rows whose second call is told beside the first, which compiles.
AGAIN = ("supersample",)
WHAT = {
    "leave_one_out": "`cmi.leave_one_out`, n = 2000, t = ∞, kernels and decomposition included",
    "supersample": "`cmi.supersample`, 400 pairs, 128 draws, 100 times",
    "value": "`examples.value`, 10,000 examples of ten classes, kernels and posterior included",
    "explorer": "a move of the explorer's weight scale, n = 300, computed and drawn",
}


def seconds(call):
    """Wall and processor seconds of a call."""
    start, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return time.perf_counter() - start, time.process_time() - processor


def measure(row):
    """Wall and processor seconds of one row, in this process."""
    if row not in REPEATED:
        first = seconds(ROWS[row])
        return (*first, *seconds(ROWS[row])) if row in AGAIN else first
    again = ROWS[row]()
    return tuple(np.median([seconds(again) for _ in range(REPEATED[row])], axis=0))


def measured(row):
    """One row in a process of its own, without compilation cache."""
    environment = {name: text for name, text in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, __file__, "--measure", row]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = dict(
        zip(
            ("wall", "processor", "wall_again", "processor_again"),
            json.loads(done.stdout.splitlines()[-1]),
            strict=False,
        )
    )
    return found | {"what": WHAT[row], "target": TARGETS[row]}


def area(wrong, score):
    """Area under the curve: the probability that a wrong label scores above a right one, ties counted half."""
    from scipy.stats import rankdata

    ranks, n = rankdata(score), int(wrong.sum())
    return float((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (len(wrong) - n)))


def areas(found, wrong, noise):
    """The area of each measure of an `ExampleValue`."""
    squares = np.square(np.asarray(found.residual))
    spread = np.asarray(found.variance) + noise
    scores = {
        "information": found.information,
        # -log p of the label given all others, but for a constant, in nats.
        "surprisal": (0.5 * squares / spread[:, None] + 0.5 * np.log(spread)[:, None]).sum(1),
        "residual": squares.sum(1),
        "probability": None if found.probability is None else -np.asarray(found.probability),
        "variance": found.variance,
    }
    return {name: None if score is None else area(wrong, np.asarray(score)) for name, score in scores.items()}


def of_case(net, kernels, x, y, wrong, prior, noise, fitted):
    """Areas of one kernel, noise and amplitude."""
    if prior == "flow":
        return areas(ni.examples.value(ni.Ensemble.fit(net, x, y)), wrong, 0.0)
    kernel = kernels.nngp if prior == "nngp" else kernels.ntk
    # Noise beside a prior variance of one, mean over examples: kernels differ in scale.
    noise = noise * float(np.mean(np.diagonal(kernel)))
    amplitude = 1.0
    if fitted:
        # The evidence of labels of covariance a² (Q + noise) is largest at this a; labels over a have a = 1.
        inverse = np.linalg.solve(np.asarray(kernel) + noise * np.eye(len(y)), y)
        amplitude = float(np.sqrt(np.sum(y * inverse) / y.size))
    return areas(ni.examples.value(ni.Posterior.fit(net, x, y / amplitude, noise=noise, prior=prior)), wrong, noise)


def wrong_labels(n, draws):
    """Rows of kernel, noise and areas, means over draws of the data and of the wrong labels."""
    rows = []
    problems = []
    for seed in range(draws):
        data = ni.datasets.fashion_mnist(n_train=n, n_test=2, task="classes", seed=seed)
        rng = np.random.default_rng(seed)
        wrong = np.zeros(n, bool)
        wrong[rng.choice(n, n // 10, replace=False)] = True
        right = np.argmax(np.asarray(data.y_train), 1)
        given = np.where(wrong, (right + rng.integers(1, 10, n)) % 10, right)
        problems.append((data.x_train, np.eye(10)[given] - 0.1, wrong))
    for name, options in NETWORKS.items():
        net = network(10, **options)
        cases = [(prior, noise, fitted) for prior in ("nngp", "ntk") for noise in NOISES for fitted in (False, True)]
        cases.append(("flow", None, False))
        several = {case: [] for case in cases}
        for x, y, wrong in problems:
            kernels = ni.kernels.kernels(net, x)
            for case in cases:
                several[case].append(of_case(net, kernels, x, y, wrong, *case))
        for (prior, noise, fitted), found in several.items():
            mean = {
                measure: None if found[0][measure] is None else float(np.mean([one[measure] for one in found]))
                for measure in MEASURES
            }
            label = "gradient flow to the end" if prior == "flow" else f"posterior, {prior.upper()}"
            rows.append({"network": name, "source": label, "noise": noise, "fitted": fitted, "area": mean})
            print(name, label, noise, fitted, mean, flush=True)
    return rows


def main(arguments=None):
    """Runs the parts asked for and writes them beside those that are there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--part", choices=("speed", "labels"), nargs="+", default=["speed", "labels"])
    parser.add_argument("--rows", choices=tuple(ROWS), nargs="+", default=list(ROWS))
    parser.add_argument("--measure", choices=tuple(ROWS), help="one row in this process, printed and not kept")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    if "speed" in options.part:
        for row in options.rows:
            result.setdefault("speed", {})[row] = measured(row)
            print(row, result["speed"][row], flush=True)
            result |= {"cores": os.cpu_count(), "jax": jax.__version__, "python": platform.python_version()}
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    if "labels" in options.part:
        start = time.process_time()
        result["labels"] = {"n": options.n, "draws": options.draws, "rows": wrong_labels(options.n, options.draws)}
        result["labels"]["processor"] = time.process_time() - start
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
