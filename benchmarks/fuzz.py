"""Claim: no argument of any public function ends in a raw traceback, in silent NaN, or in an accepted wrong input.

Every public function is called with each of its arguments replaced in turn by hostile values of its kind: arrays of
another rank or dtype, empty, NaN, infinite, huge, traced; numbers out of range; unknown options; what is no random key;
results of other functions. Other spellings of the same value (a list, pandas, another byte order) must give its result.
The table of calls stands in `tests/fuzz/calls.py`; a test fails for a public function without one.

    python benchmarks/fuzz.py                    # half an hour, with a compilation cache; else hours
    python benchmarks/fuzz.py bounds discrete    # some modules; those measured before are kept

Writes `fuzz.json`: the number of cases of each module by outcome, the faults by case, and the versions measured.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
# In the place of this folder, whose scripts have names of packages that pandas looks for.
sys.path[0] = str(ROOT)

import jax
import numpy as np

import ntkinfo as ni
from tests.fuzz import campaign, judge


def versions() -> dict[str, str]:
    """What was measured."""
    return {
        "ntkinfo": ni.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules of ntkinfo; all by default")
    for module in parser.parse_args().modules or campaign.modules():
        outcomes = campaign.run_module(module)
        # Read as late as this: others may measure other modules meanwhile.
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        result[module] = {
            "functions": len({case.split(":")[0] for case in outcomes}),
            "versions": versions(),
            "outcomes": campaign.counts(outcomes),
            "faults": {case: kind for case, (kind, _) in outcomes.items() if kind in judge.FAULTS},
        }
        RESULT.write_text(json.dumps(dict(sorted(result.items())), indent=1) + "\n")
        print(campaign.table({module: result[module]["outcomes"]}), flush=True)
    print(campaign.table({name: r["outcomes"] for name, r in sorted(json.loads(RESULT.read_text()).items())}))


if __name__ == "__main__":
    main()
