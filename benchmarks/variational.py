"""Claim tested: the variational dual needs a fraction of VIB's I(X;Z) for the same I(Y;Z) (arXiv 2006.04641).

VIB, CEB and the dual (label smoothing 0.1, learned prior) over nine trade-offs and three seeds, on the digits and on
MNIST's test images (2000 to train, 2000 to test on), all measured by the same bounds on test images. Prints the tables
and the verdicts and writes a JSON.

    python benchmarks/variational.py [--mnist ../shared/data]
"""

import argparse
import faulthandler
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

from ntkinfo import datasets, variational
from ntkinfo.variational import encoders

RESULTS = Path(__file__).resolve().parent / "results" / "variational.json"
FIELDS = ("i_xz_lower", "i_xz_upper", "i_yz_lower", "error", "calibration_error")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    faulthandler.dump_traceback_later(1200, exit=True)
    common = {"task": "classes", "dtype": np.float32}
    problems = {"digits": datasets.digits(1000, **common)}
    if (options.mnist / "t10k-images-idx3-ubyte.gz").exists():
        problems["MNIST test images"] = datasets.mnist(options.mnist, 2000, 2000, **common)
    record = {}
    for name, data in problems.items():
        start = time.perf_counter()
        sweep = variational.sweep(
            data.x_train, data.labels_train, betas=np.geomspace(0.5, 500, 9), seeds=3, x_test=data.x_test,
            y_test=data.labels_test, key=jax.random.key(0), encoder=encoders.mlp(16, (128, 128)),
            steps=options.steps, record=5, progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        needed = variational.required_information(sweep)
        means = {field: np.asarray(getattr(sweep, field), float).mean(2).round(5).tolist() for field in FIELDS}
        print(f"\n{name}, {seconds:.0f} s\n{table(sweep, means)}\n{claim(needed)}")
        record[name] = {
            "claim": claim(needed),
            "beta": np.asarray(sweep.beta).tolist(),
            "objectives": sweep.objectives,
            "seconds": seconds,
        } | means
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def table(sweep, means) -> str:
    """Means over seeds for every objective and trade-off, in nats."""
    lines = [f"{'':6}{'beta':>20}" + "".join(f"{field:>20}" for field in FIELDS)]
    for i, name in enumerate(sweep.objectives):
        for b, beta in enumerate(np.asarray(sweep.beta)):
            lines.append(f"{name:6}{beta:20.4g}" + "".join(f"{means[field][i][b]:20.4g}" for field in FIELDS))
    return "\n".join(lines)


def claim(needed) -> str:
    """What each objective needs, and the share of VIB's that the dual needs."""
    i_xz = dict(zip(needed.objectives, needed.i_xz, strict=True))
    listed = ", ".join(f"{name} {value:.2f}" for name, value in i_xz.items())
    return (
        f"I(X;Z) needed for I(Y;Z) of {needed.i_yz:.3f} nats: {listed} nats. "
        f"The dual needs {i_xz['dual'] / i_xz['vib']:.2f} of what VIB needs."
    )


if __name__ == "__main__":
    main()
