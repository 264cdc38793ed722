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
from ntkinfo._cli import variational as job
from ntkinfo.variational import encoders

RESULTS = Path(__file__).resolve().parent / "results" / "variational.json"


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
        found = variational.sweep(
            data.x_train, data.labels_train, betas=np.geomspace(0.5, 500, 9), seeds=3, x_test=data.x_test,
            y_test=data.labels_test, key=jax.random.key(0), encoder=encoders.mlp(16, (128, 128)),
            steps=options.steps, record=5, progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        print(f"\n{name}, {seconds:.0f} s\n{job.table(found)}\n{job.claim(found)}")
        record[name] = {
            "claim": job.claim(found),
            "beta": np.asarray(found.beta).tolist(),
            "objectives": found.objectives,
            "seconds": seconds,
        } | {
            field: np.asarray(getattr(found, field), float).mean(2).round(5).tolist()
            for field in ("i_xz_lower", "i_xz_upper", "i_yz_lower", "error", "calibration_error")
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
