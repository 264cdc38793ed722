"""The main job: from real data and an architecture to a table, figures and a page that explains them.

python -m ntkinfo --data digits --activation erf --depth 2 --out ntkinfo-report
python -m ntkinfo plane          # layers of trained networks in the information plane
python -m ntkinfo variational    # variational bottlenecks on images
"""

import argparse
import importlib
import os
import sys
import warnings

# Many small factorisations: with a thread for each core they starve each other on a busy machine. Only where the
# user has not decided, and before JAX loads its linear algebra.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from ntkinfo._cli import main as main_job
from ntkinfo._cli.arguments import JOBS, Parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the main job with these command-line arguments; returns the exit status, 2 for bad options or data."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in JOBS:
        file, what = JOBS[arguments[0]]
        job = importlib.import_module(f"ntkinfo._cli.{file}")
        parser = Parser(
            prog=f"ntkinfo {arguments[0]}", description=what, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        job.add_arguments(parser)
        options, run = parser.parse_args(arguments[1:]), job.run
    else:
        options, run = main_job.parser().parse_args(arguments), main_job.run
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"ntkinfo: warning: {message}", file=sys.stderr)
            run(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        if os.environ.get("NTKINFO_DEBUG"):
            raise
        print(f"ntkinfo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ntkinfo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
