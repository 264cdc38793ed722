"""Claim: neural-tangents, and ntkinfo on it, run on every JAX from 0.4.35 to 0.12.0.1, except 0.10.2.

Each version is installed in a temporary environment of its own; each feature is run there under a time limit and
checked for its result, not only for ending. Prints version x feature and writes `results/jax_versions.json`.

    python benchmarks/jax_versions.py                      # all versions
    python benchmarks/jax_versions.py 0.9.2 0.10.1 --features stax_fc predict
"""

import argparse
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

VERSIONS = (
    "0.4.35",
    "0.4.38",
    "0.5.3",
    "0.6.2",
    "0.7.2",
    "0.8.3",
    "0.9.2",
    "0.10.1",
    "0.11.0",
    "0.11.1",
    "0.11.2",
    "0.12.0.1",
)
HERE = pathlib.Path(__file__).resolve().parent
PROBE = HERE / "jax_versions_probe.py"


def python_of(version: str) -> str:
    """A Python that this JAX supports."""
    return "3.13" if [int(number) for number in version.split(".")] >= [0, 11] else "3.11"


def install(version: str, folder: pathlib.Path, python: str) -> pathlib.Path:
    """Make an environment with that JAX, neural-tangents without its requirements, and what ntkinfo computes with."""
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    uv = shutil.which("uv")
    if uv:
        commands = [[uv, "venv", "-q", "--python", python, str(folder)]]
        pip = [uv, "pip", "install", "-q", "--python", str(interpreter)]
    else:
        commands = [[sys.executable, "-m", "venv", str(folder)]]
        pip = [str(interpreter), "-m", "pip", "install", "-q"]
    commands += [
        [
            *pip,
            f"jax=={version}",
            f"jaxlib=={version}",
            "numpy",
            "scipy",
            "frozendict",
            "tqdm",
        ],
        [*pip, "--no-deps", "neural-tangents==0.6.5"],
    ]
    for command in commands:
        # Away from the checkout: uv would apply the constraints of its pyproject.toml.
        subprocess.run(command, check=True, timeout=900, cwd=folder.parent)
    return interpreter


def probe(interpreter: pathlib.Path, features: list[str] | None, limit: float) -> dict[str, str]:
    """Run the features in one process; where one hangs or kills it, start again behind that feature."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if features is None:
        command = [str(interpreter), str(PROBE), "--list"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        features = listed.stdout.split()
    results: dict[str, str] = {}
    while left := [f for f in features if f not in results]:
        process = subprocess.Popen(
            [str(interpreter), str(PROBE), *left],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        why = "process died"
        try:
            while (line := lines.get(timeout=limit)) is not None:
                if line.startswith("PROBE "):
                    feature, result = line[len("PROBE ") :].split(" ", 1)
                    results[feature] = result.strip()
        except queue.Empty:
            why = f"over {limit:g} s"
        process.kill()
        process.wait()
        unfinished = [f for f in left if f not in results]
        if unfinished:
            results[unfinished[0]] = why
    return {f: results[f] for f in features}


def _read(process: subprocess.Popen, lines: queue.Queue) -> None:
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def table(results: dict[str, dict[str, str]]) -> str:
    """Markdown: one row per version, one column per feature."""
    features = list(dict.fromkeys(f for row in results.values() for f in row))
    lines = [
        "| JAX | " + " | ".join(features) + " |",
        "| --- " * (len(features) + 1) + "|",
    ]
    for version, row in results.items():
        lines.append(f"| {version} | " + " | ".join(row.get(f, "") for f in features) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="JAX versions")
    parser.add_argument("--features", nargs="+", help="only these (see jax_versions_probe.py)")
    parser.add_argument("--python", help="the Python of the environments; else 3.11, and 3.13 from JAX 0.11 on")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds for each feature")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "results" / "jax_versions.json")
    options = parser.parse_args()

    results: dict[str, dict[str, str]] = {}
    for version in options.versions:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="jax_versions_") as folder:
            try:
                interpreter = install(version, pathlib.Path(folder) / version, options.python or python_of(version))
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                results[version] = {"import": "not installed"}
            else:
                results[version] = probe(interpreter, options.features, options.limit)
        failed = {f: r for f, r in results[version].items() if r != "ok"}
        print(
            f"{version}: {time.perf_counter() - start:.0f} s, not ok: {failed or 'none'}",
            file=sys.stderr,
            flush=True,
        )
    print(table(results))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.output.exists():
        # Rows of versions not run now stay, in the order of the table.
        results = json.loads(options.output.read_text()) | results
        results = {v: results[v] for v in sorted(results, key=lambda v: [int(n) for n in v.split(".")])}
    options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
