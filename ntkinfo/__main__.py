"""The main job: from real data and an architecture to a table, figures and a page that explains them.

python -m ntkinfo --data digits --activation erf --depth 2 --out ntkinfo-report
python -m ntkinfo network mine.py       # what a trained network of yours knows
python -m ntkinfo bottleneck table.csv  # the bottleneck of a table of counts or probabilities
python -m ntkinfo plane                 # layers of trained networks in the information plane
python -m ntkinfo variational           # variational bottlenecks on images
python -m ntkinfo reproduce 1911.09189  # figures of papers, computed again
"""

import importlib
import os
import sys
import warnings

# Many small factorisations: with a thread for each core they starve each other on a busy machine. Only where the
# user has not decided, and before JAX loads its linear algebra.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from ntkinfo._cli import arguments, cache
from ntkinfo._cli import main as main_job
from ntkinfo._cli.arguments import JOBS, one_line


def main(given: list[str] | None = None) -> int:
    """Runs a job with these command-line arguments; returns the exit status.

    0: done. 2: bad options or data. 130: interrupted. 1: a fault of ntkinfo, which NTKINFO_DEBUG=1 shows in full.
    """
    given = sys.argv[1:] if given is None else given
    job = None
    if given and not given[0].startswith("-"):
        job, *given = given
        if job not in JOBS:
            hint = arguments.did_you_mean(job, JOBS)
            shown = arguments.shown(one_line(job))
            print(f"ntkinfo: error: no job {shown}{hint} Jobs: {', '.join(JOBS)} (see --help)", file=sys.stderr)
            return 2
    options = arguments.parse(job, given)
    try:
        with warnings.catch_warnings(), cache.used(not options.no_compilation_cache):
            warnings.showwarning = _Warnings(job)
            _run(job)(options)
    except KeyboardInterrupt:
        print("ntkinfo: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("NTKINFO_DEBUG"):
            raise
        text = one_line(arguments.as_typed(str(error), job))
        if isinstance(error, ValueError | TypeError | OSError | ImportError):
            print(f"ntkinfo: error: {text}", file=sys.stderr)
            return 2
        what = f"{type(error).__name__}: {text[:300]}"
        print(f"ntkinfo: error: {what} (NTKINFO_DEBUG=1 shows where it comes from)", file=sys.stderr)
        return 1
    return 0


def _run(job):
    """What runs a job."""
    return importlib.import_module(f"ntkinfo._cli.{JOBS[job][0]}").run if job else main_job.run


class _Warnings:
    """Shows each warning for users once; what dependencies say to programmers, such as deprecations, never."""

    def __init__(self, job: str | None):
        self.job, self.seen = job, set()

    def __call__(self, message, category, *_, **__):
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning | RuntimeWarning) and text not in self.seen:
            self.seen.add(text)
            print(f"ntkinfo: warning: {arguments.as_typed(text, self.job)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
