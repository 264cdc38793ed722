"""The whole fuzz, a module of the package after the other, each in a process of its own that may die.

    python -m tests.fuzz.campaign information kernels     # a table of outcomes, and every fault
    python -m tests.fuzz.campaign --float32 kernels       # with JAX as it is by default

As a worker (`--worker MODULE --skip N`) it prints one line of JSON before and after every case.
"""

import argparse
import collections
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from tests.fuzz.calls import EXEMPT_MODULES, KINDS, MODULES, TABLE, call
from tests.fuzz.judge import ABORT, CLEAR, ENDLESS, FAULTS, LIMIT, SANE, cases, run, run_valid

ROOT = Path(__file__).resolve().parents[2]
# Bytes of address space of a worker: what asks for more is refused by the system, not taken from others.
MEMORY = 24 * 2**30
# The first case of a function makes its valid arguments, which may compile for long.
PATIENCE = 4 * LIMIT
COLUMNS = (CLEAR, SANE, *FAULTS)


def module_of(name: str) -> str:
    """The module of the table of outcomes in which a function is counted."""
    return name.split(".")[0]


def modules() -> list[str]:
    return sorted({module_of(name) for name in MODULES if name not in EXEMPT_MODULES})


def all_cases(module: str):
    """(id, call, argument, value) of every case of a module, in a fixed order; of a valid call first, without them."""
    for name in TABLE:
        if module_of(name) == module:
            this = call(name)
            yield f"{name}::valid", this, None, None
            for argument, value in cases(this, KINDS):
                yield f"{name}:{argument}:{value.tag}", this, argument, value


def work(module: str, skip: int, float32: bool) -> None:
    """Runs the cases of a module from the `skip`-th on."""
    import resource

    import jax

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    jax.config.update("jax_enable_x64", not float32)
    for index, (name, this, argument, value) in enumerate(all_cases(module)):
        if index >= skip:
            print(json.dumps({"start": name}), flush=True)
            outcome = run(this, argument, value) if argument else run_valid(this)
            print(json.dumps({"case": name, "kind": outcome.kind, "text": outcome.text[:300]}), flush=True)
            _forget(index)


def _forget(index: int) -> None:
    """Drops compiled programs in time: each takes memory maps, of which Linux allows 65530."""
    import jax

    maps = Path("/proc/self/maps")
    if index % 50 == 0 and maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


def run_module(module: str, say=lambda line: None, float32: bool = False) -> dict[str, tuple[str, str]]:
    """The outcome (kind, text) of every case of a module by its id; a process that dies goes on behind that case."""
    outcomes: dict[str, tuple[str, str]] = {}
    done = 0
    while True:
        command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.campaign", "--worker", module, "--skip", str(done)]
        command += ["--float32"] if float32 else []
        environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        lines: queue.Queue = queue.Queue()
        errors: collections.deque = collections.deque(maxlen=3)
        readers = [
            threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True),
            threading.Thread(target=_read, args=(process.stderr, errors.append), daemon=True),
        ]
        for reader in readers:
            reader.start()
        current, late = None, False
        while True:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                late = True
                process.kill()
                break
            if line is None:
                break
            if not line.startswith("{"):
                continue
            record = json.loads(line)
            if "start" in record:
                current = record["start"]
            else:
                outcomes[record["case"]] = (record["kind"], record["text"])
                current, done = None, done + 1
                say(record)
        code = process.wait()
        if code == 0 and not late:
            return outcomes
        if current is None:
            raise RuntimeError(f"the fuzz of {module} ended before a case: {' '.join(filter(None, errors))}")
        outcomes[current] = (ENDLESS, f"beyond {PATIENCE:.0f} s") if late else (ABORT, " ".join(filter(None, errors)))
        say({"case": current, "kind": outcomes[current][0], "text": outcomes[current][1]})
        done += 1


def _read(stream, put):
    for line in stream:
        put(line)
    put(None)


def counts(outcomes: dict[str, tuple[str, str]]) -> dict[str, int]:
    """How many cases had each outcome."""
    counter = collections.Counter(kind for kind, _ in outcomes.values())
    return {column: counter[column] for column in COLUMNS}


def table(by_module: dict[str, dict[str, int]]) -> str:
    """Outcomes per module, as text."""
    rows = [("module", "cases", *COLUMNS)]
    total: collections.Counter = collections.Counter()
    for module, numbers in by_module.items():
        rows.append((module, sum(numbers.values()), *numbers.values()))
        total.update(numbers)
    rows.append(("all", sum(total.values()), *(total[column] for column in COLUMNS)))
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules of ntkinfo; all by default")
    parser.add_argument("--worker", help="run the cases of this module here")
    parser.add_argument("--skip", type=int, default=0, help="cases to leave out at the start")
    parser.add_argument("--float32", action="store_true", help="leave JAX in float32")
    parser.add_argument("--log", type=Path, help="write every outcome to this file as it comes, one JSON a line")
    options = parser.parse_args(arguments)
    if options.worker:
        work(options.worker, options.skip, options.float32)
        return
    by_module = {}
    for module in options.modules or modules():
        log = options.log.open("a") if options.log else None

        def say(record, log=log):
            if log:
                print(json.dumps(record), file=log, flush=True)
            if record["kind"] in FAULTS:
                print(f"{record['case']}: {record['kind']}: {record['text'][:200]}", flush=True)

        by_module[module] = counts(run_module(module, say, options.float32))
        if log:
            log.close()
    print(table(by_module))


if __name__ == "__main__":
    main()
