"""Writes docs/validation.md: what was checked against what, every figure taken from a JSON of `benchmarks/results/`.

A figure that stands in no JSON stands not in the page. Run it after a benchmark has written its result; a test holds
the page to what this makes.

    python benchmarks/validation.py            # writes docs/validation.md
    python benchmarks/validation.py --check    # says whether the page is up to date, writes nothing
"""

# ruff: noqa: E501  (lines of prose, which are filled in and not read here)

import argparse
import json
import math
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "validation.md"

HEAD = """\
# What it was checked against

Each script in `benchmarks/` states a claim, prints a table and writes a JSON to `benchmarks/results/`. This page is made
from those files by `python benchmarks/validation.py`; do not edit it by hand. Times are of one machine, named beside
them; where we lose, the table says so. What the symbols mean: [notation](notation.md); the formulas: [theory](theory.md).
"""


def load(name: str):
    """The result of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def number(value: float, digits: int = 3) -> str:
    """Significant digits, with a minus sign that is one and a power of ten that is short."""
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text.replace("-", "−")
    mantissa, power = text.split("e")
    return f"{mantissa}e{int(power)}"


def signed(value: float, decimals: int = 3) -> str:
    """Fixed decimals, with its sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def section(anchor: str, title: str, *paragraphs: str) -> str:
    """A heading that links can find, and what stands under it."""
    return "\n\n".join([f'<a id="{anchor}"></a>', f"## {title}", *(text.strip() for text in paragraphs)])


def unmeasured(anchor: str, title: str, what: str, run: str) -> str:
    """The section of a benchmark whose record is not there, with what to run."""
    return section(anchor, title, what, f"**Not measured:** run {run}")


def listed(values: list[str]) -> str:
    """a, b and c."""
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def speed() -> str:
    """`benchmarks/predict.py`."""
    r = load("predict")
    values = {row["name"]: row["value"] for row in r["rows"]}
    rows = [
        [what, number(values[name]), target]
        for what, name, target in [
            ("(fit + predict) / (one `eigh` + kernel evaluation)", "(fit + predict) / (eigh + kernel)", "at most 2"),
            (f"predict at {10 * r['times']} times / at {r['times']}", "10 times as many times / predict", "at most 2"),
            (
                "what `curve` adds to fit + predict, joint divergence included",
                "what curve adds to fit + predict",
                "at most 0.3",
            ),
            (
                "memory of `predict` beyond the ensemble, in n × n matrices, by XLA's account",
                "temporary memory of predict, n x n matrices (XLA)",
                "below 3",
            ),
            (
                "kernel evaluation (three hidden erf layers) / a matrix product of that size",
                "kernel / matrix product n x n",
                "",
            ),
            ("`predict_train` / fit, wall", "predict_train / fit, n = 1000, wall", "at most 1.5"),
            ("`predict_train` / fit, processor", "predict_train / fit, n = 1000, processor", "at most 1.5"),
        ]
        # The last two came later than some results.
        if name in values
    ]
    setting = (
        f"`benchmarks/predict.py`; n = {r['n']} training and m = {r['m']} test inputs, {r['times']} times, one output, "
        f"float64, {r['cores']} cores, JAX {r['jax']}; median of {r['repeats']} rounds, later calls: compilation is not "
        f"counted. Fit took {number(r['seconds']['fit'])} s, predict {number(r['seconds']['predict'])} s."
    )
    if r.get("load", 0) > 1:
        setting += (
            f" Processes ready to run elsewhere on the machine when it began: {number(r['load'])}; seconds on the wall are "
            "then those of fewer cores."
        )
    means = values["largest difference of means from neural-tangents"]
    variances = values["largest difference of variances from neural-tangents"]
    agreement = (
        f"Beside neural-tangents' `gradient_descent_mse_ensemble` the means differ by at most {number(means, 1)} and the "
        f"variances by at most {number(variances, 1)}."
    )
    return section("speed", "Speed", setting, table(["what", "measured", "target"], rows), agreement, beside_peer(r))


def beside_peer(r) -> str:
    """The comparison with neural-tangents, if it was measured as its documentation says to call it."""
    if "beside_neural_tangents" not in r:
        return (
            "**Being remeasured:** the seconds beside neural-tangents. The measurement of this file called its predictor "
            "once for every time; the predictor takes a vector of times, and is faster so. `benchmarks/predict.py` now "
            "calls it with the vector, cold and warm, in wall and processor time; the row comes back with its next run on "
            "a quiet machine."
        )
    head = ["what", "call", "wall s", "processor s", "peer / it, wall", "peer / it, processor"]
    tables = [table(head, _ratios(r["beside_neural_tangents"]))]
    if "many_times" in r:
        many = r["many_times"]
        before = f", measured before {many['before']}" if "before" in many else ""
        tables += [
            f"The same at {many['times']} times{before}:",
            table(head, _ratios(many["beside_neural_tangents"])),
        ]
    text = (
        "Cold is fit and predict in a fresh process, compilation included; warm the same again; then predict alone. The "
        "peer is called with the vector of times and gives the covariance of all test inputs; ours is given with and "
        "without it. A ratio below 1 says that the peer is faster."
    )
    return "\n\n".join([text, *tables])


def _ratios(beside) -> list[list[str]]:
    """Seconds of every contender and call, and how many times as long the peer takes."""
    theirs = beside["neural-tangents, covariances"]
    rows = []
    for name, ours in beside.items():
        for phase in ours:
            wall, processor = ours[phase]["wall"], ours[phase]["processor"]
            ratio = theirs[phase]["wall"] / wall, theirs[phase]["processor"] / processor
            rows.append([name, phase, number(wall), number(processor), number(ratio[0], 2), number(ratio[1], 2)])
    return rows


# Processor seconds that were aimed at, by row and call of `first_calls.py`.
FIRST_CALLS = {
    "curve": {"first": 3, "one time more": 0.5, "one test input more": 0.5, "one training input more": 0.5},
    "layers": {"first": 5, "12 epochs": 0.5, "rate": 0.5},
    "bottleneck": {"first": 5, "120 steps": 0.5},
    "posterior": {"again": 0.02},
    "tables": {"first": 4, "a table of 9 x 4": 0.5},
}


def first_calls() -> str:
    """`benchmarks/first_calls.py`."""
    what = (
        "`benchmarks/first_calls.py`: processor seconds and compiled programs of a first call in a fresh process without a "
        "compilation cache, of the same call again, and of calls of neighbouring sizes."
    )
    if not (RESULTS / "first_calls.json").exists():
        return unmeasured("first-calls", "First calls", what, "`python benchmarks/first_calls.py` on a quiet machine.")
    record = load("first_calls")
    rows = {name: row for name, row in record["rows"].items() if "calls" in row}
    settings = sorted({f"JAX {row['jax']}, {row['cores']} cores" for row in rows.values()})
    load_there = number(max(row["load"] for row in rows.values()))
    cells, missed = [], []
    for name, row in rows.items():
        for call in row["calls"]:
            target = FIRST_CALLS.get(name, {}).get(call["call"])
            what, seconds = row["what"].rstrip("."), number(call["seconds"])
            aim = "" if target is None else number(target)
            cells.append([what, call["call"], seconds, aim, str(call["programs"])])
            if target is not None and call["seconds"] > target:
                missed.append(
                    f"{what}, {call['call']}: {seconds} s, {number(call['seconds'] / target, 2)} of its target"
                )
    notes = [f"Missed: {'; '.join(missed)}."] if missed else []
    if "bottleneck" in rows:
        notes.append(
            "Another number of steps of `variational.fit` compiles nothing: what is left are the steps themselves and 41 "
            "records, each of which encodes all rows (7 GFLOP in all, as many as 120 steps) and bounds I(X;Z) on 512 of them."
        )
    if "classes" in rows:
        seconds = {call["call"]: call["seconds"] for call in rows["classes"]["calls"]}
        share = number(seconds["quadrature, again"] / seconds["curve, again"], 2)
        notes.append(f"Of a ten-class curve, kernels given, the quadrature takes a share of {share} (target: 0.25).")
    if "images" in rows:
        pairs = {c["call"]: 1000 * c["seconds"] / 48**2 for c in rows["images"]["calls"] if "again" in c["call"]}
        each = listed([f"{name.split(',')[0]} {number(ms, 2)} ms" for name, ms in pairs.items()])
        notes.append(f"A pair of images takes, once compiled: {each} (target: 0.07).")
    return section(
        "first-calls",
        "First calls",
        f"{what} {listed(settings)}; processes ready to run elsewhere on the machine: at most {load_there}.",
        table(["what", "call", "processor s", "target", "programs"], cells),
        *notes,
        *[part for version, others in record.get("versions", {}).items() for part in _first_calls_of(version, others)],
    )


def _first_calls_of(version: str, rows: dict) -> list[str]:
    """First calls with another version of JAX, and what options of its compiler bring."""
    cells, missed = [], []
    for name, row in rows.items():
        for call in row.get("calls", ()):
            target = FIRST_CALLS.get(name, {}).get(call["call"])
            what, seconds = row["what"].rstrip("."), number(call["seconds"])
            cells.append([what, call["call"], seconds, "" if target is None else number(target), str(call["programs"])])
            if target is not None and call["seconds"] > target:
                share = number(call["seconds"] / target, 2)
                missed.append(f"{what}, {call['call']}: {seconds} s, {share} of its target")
    load_there = number(max(row["load"] for row in rows.values()))
    parts = [
        f"With JAX {version}, processes ready to run elsewhere: at most {load_there}. Where it compiles "
        "more programs than above, they are copies of arrays of NumPy, one for each shape, of a few milliseconds.",
        table(["what", "call", "processor s", "target", "programs"], cells),
        *([f"Missed: {'; '.join(missed)}."] if missed else []),
    ]
    if "options" in rows:
        seconds = rows["options"]["seconds"]
        each = [
            f"{f'`{flags}`' if flags else 'as it is'}: {number(of['first'])} and {number(of['again'], 2)} s"
            for flags, of in seconds.items()
        ]
        parts.append(
            f"Options of its compiler, a first `curve` and the same again: {listed(each)}. Options it refuses are left out."
        )
    return parts


def tables_of_thousands() -> str:
    """`benchmarks/tables.py`."""
    what = (
        "`benchmarks/tables.py`: processor seconds, and by how much a call raises the peak memory of its process (0 where "
        "an earlier call took as much); what a bottleneck found."
    )
    rows = load("tables")["rows"].values()
    settings = sorted({f"JAX {row['jax']}, NumPy {row['numpy']}, {row['cores']} cores" for row in rows})
    load_there = number(max(row["load"] for row in rows))
    cells = []
    for row in rows:
        for call in row["calls"]:
            found = [f"{call[name]} {name}" for name in ("clusters", "transitions") if name in call]
            found += ["not converged"] * (not call.get("converged", True))
            cells.append(
                [row["what"].rstrip("."), call["call"], number(call["seconds"]), f"{call['mb']:.0f}", ", ".join(found)]
            )
    return section(
        "tables",
        "Large tables",
        f"{what} {listed(settings)}; processes ready to run elsewhere on the machine: at most {load_there}.",
        table(["what", "call", "processor s", "MB", "found"], cells),
    )


def posterior() -> str:
    """`benchmarks/posterior.py`."""
    r = load("posterior")
    parts = []
    for problem, contenders in r["problems"].items():
        rows = []
        for name, row in contenders.items():
            cold, warm, ratio = row["cold"], row["warm"], row["of tinygp, warm"]
            seconds = [number(each[clock], 2) for each in (cold, warm) for clock in ("wall", "processor")]
            rows.append([name, *seconds, number(ratio["wall"], 3), number(ratio["processor"], 3)])
        head = [problem, "cold, wall s", "processor s", "warm, wall s", "processor s", "it / tinygp, wall", "processor"]
        parts.append(table(head, rows))
    versions = ", ".join(f"{name} {version}" for name, version in r["versions"].items())
    setting = (
        f"`benchmarks/posterior.py`; log evidence, means and variances at m = {r['m']} inputs of n = {r['n']} labels with "
        f"given noise, float64, {r['cores']} cores, {versions}; {r['processes']} fresh process"
        f"{'es' * (r['processes'] > 1)} of each by turns, warm the median of {r['repeats']} later calls. Cold counts the "
        "compilation. A ratio above 1 says that tinygp is faster. With the kernel given both look up that "
        "of the training inputs, and ours evaluates that of the others; from inputs both evaluate the kernel of the same network, ours the tangent kernel with it. Of an unknown kernel a "
        "second factor proves that it is semidefinite."
    )
    return section("posterior", "Posterior beside tinygp", setting, *parts)


def empirical_kernels() -> str:
    """`benchmarks/empirical.py`."""
    r = load("empirical")
    parts = []
    for part, measured in r.items():
        if not part.startswith("n = "):
            continue
        rows = []
        for architecture, found in measured["architectures"].items():
            for name, row in found["contenders"].items():
                what = [f"{architecture}, {found['parameters']} parameters", name]
                if row is None:
                    rows.append([*what, "failed", "", "", ""])
                    continue
                warm = [1000 * row[key] for key in ("warm_cpu_s", "warm_s")]
                times = [f"{ms:.0f}" if ms > 100 else number(ms) for ms in warm] + [number(row["cold_cpu_s"], 2)]
                rows.append([*what, *times, number(row["peak_gb"], 2)])
        ratios = [
            [f"{name} {number(found[key], 2)}" for name, found in measured["architectures"].items()]
            for key in ("cpu_ratio_to_best_of_neural_tangents", "ratio_to_best_of_neural_tangents")
        ]
        rounds = "one round" if measured["rounds"] == 1 else f"{measured['rounds']} rounds, their medians"
        parts += [
            f"{part}, {rounds}, the best of {measured['calls']} later calls, load {number(measured['load_average'], 2)}:",
            table(["network", "contender", "processor ms", "wall ms", "cold, processor s", "GB"], rows),
            f"Processor time of ours / the best of neural-tangents': {listed(ratios[0])} (target: at most 1.2); "
            f"on the wall {listed(ratios[1])}.",
        ]
    if "largest" in r:
        found = r["largest"]
        rows = [
            [architecture, name, *(["none", "", ""] if row is None else
             [str(row["n"]), number(row["peak_gb"], 2), number(row["cold_cpu_s"], 2)])]
            for architecture, each in found["architectures"].items()
            for name, row in each.items()
        ]  # fmt: skip
        parts += [
            f"The largest n, of powers of two up to {found['most']}, of a kernel that takes no more than {number(found['memory_gb'])} GB, by the "
            "peak of its process, and the processor seconds of the first call there:",
            table(["network", "contender", "largest n", "GB", "cold, processor s"], rows),
        ]
    if "digits" in r:
        row = r["digits"]
        parts.append(
            f'Digits, n = {row["n"]}, a convolutional network of {row["parameters"]} parameters, "trace": '
            f"{number(row['wall_s'])} s on the wall at load {number(row['load_average'], 2)}, {number(row['processor_s'])} s of "
            f"processor time, {number(row['peak_gb'], 2)} GB (targets: 180 s, 2 GB)."
        )
    last = next(measured for part, measured in r.items() if part.startswith("n = "))
    setting = (
        f"`benchmarks/empirical.py`; inputs with themselves, {r['outputs']} outputs, {r['dtype']}, {last['cores']} cores, JAX "
        f"{last['jax']}; the load is that of other work. Each contender in a process of its own, by turns; cold counts the "
        "compilation, and ours the trial of what is faster. `jacobian contraction`, `ntk-vector products` and "
        "`structured derivatives` are those of neural-tangents."
    )
    return section("empirical", "Empirical kernels beside neural-tangents", setting, *parts)


def trained_network() -> str:
    """`benchmarks/trained_network.py`."""
    r, rows = load("trained_network"), []
    for name in ("effective dimension", "label alignment of 10", "I(X;Z)", "I(Y;Z)", "log evidence", "training error",
                 "test error", "test error of the linearised posterior", "disagreement"):  # fmt: skip
        cells = []
        for when in ("before", "after"):
            value = r[when][name]
            if name == "disagreement":
                value = value[-1][1]
            shown = f"{number(value[0])} ± {number(value[1], 2)}" if isinstance(value, list) else number(value)
            cells.append(shown)
        rows.append([name, *cells])
    for name in ("kernel, first", "kernel, again", "report"):
        rows.append([f"{name}, processor s", *(number(r[when][name]["processor_s"]) for when in ("before", "after"))])
    setting = (
        f"`benchmarks/trained_network.py`; {r['data']}, n = {r['n']}, m = {r['m']}, ten classes; a residual network of Flax "
        f"with {r['before']['parameters']} parameters, {r['dtype']}, {r['steps']} steps of Adam in "
        f"{number(r['training']['processor_s'])} s of processor time; {r['cores']} cores, JAX {r['jax']}, load "
        f"{number(r['load_average'], 2)}, at most {number(r['peak_gb'], 2)} GB. JPEG: the images were decoded from re-encoded files. Information in nats, of "
        "the linearised Laplace posterior; disagreement is of linearised from real training at the end of a short run, 0 for none. "
        f"I(X;Z) can be no more than ln {r['m']} = {number(math.log(r['m']))}."
    )
    return section("trained-network", "A trained residual network on CIFAR-10", setting,
                   table(["", "before training", "after"], rows))  # fmt: skip


def laplace() -> str:
    """`benchmarks/laplace.py`."""
    r, rows = load("laplace"), []
    for problem in r["rows"]:
        for name, row in problem["contenders"].items():
            what = [f"{problem['parameters']}", name]
            if row is None:
                rows.append([*what, "failed or stopped", *[""] * 5])
                continue
            seconds = [number(row[key], 2) for key in ("cold_cpu_s", "cold_s", "warm_cpu_s", "warm_s")]
            rows.append([*what, *seconds, number(row["peak_gb"], 2), number(row["difference"], 2)])
    setting = (
        f"`benchmarks/laplace.py`; standard deviations at {r['test']} inputs of the linearised Laplace posterior of a "
        f"multilayer perceptron with one output, n = {r['n']} training inputs, {r['dtype']}, {r['cores']} cores, JAX "
        f"{r['jax']}, laplax {r['laplax']}, load {number(r['load_average'], 2)} from other work. Each contender in a process of its own; "
        f"cold is fit and prediction with their compilation, warm the median of {r['calls']} later predictions. "
        "Ours solves with n × n, laplax in full with p × p, and the difference is that of its standard deviations from "
        "ours, relative, at most; Lanczos of rank 100 is an approximation. Ours gives means and evidence with them."
    )
    head = ["parameters", "contender", "cold, processor s", "wall s", "warm, processor s", "wall s", "GB", "difference"]
    return section("laplace", "Linearised Laplace posterior beside laplax", setting, table(head, rows))


def many_data() -> str:
    """`benchmarks/scale.py`."""
    r, rows = load("scale"), []
    for n, contenders in r["sizes"].items():
        for name, row in contenders.items():
            errors = row.get("errors", {}).get("mean")
            shown = ["", "", ""]
            if errors:
                shown = [number(errors[key], 2) for key in ("largest true", "largest shown")]
                shown.append(f"{100 * errors['covered']:.4g} %")
            cells = [number(row["processor"]), number(row["peak memory, GB"]), str(max(row.get("steps", [0])) or "")]
            rows.append([n, name, *cells, *shown])
    head = ["n", "engine", "processor s", "GB", "steps", "largest error of a mean", "as told", "covered"]
    alone = [n for n, contenders in r["sizes"].items() if all(row["alone"] for row in contenders.values())]
    both = {n: contenders for n, contenders in r["sizes"].items() if {"dense", "krylov"} <= set(contenders)}
    ratios = [f"{number(c['krylov']['processor'] / c['dense']['processor'], 2)} at n = {n}" for n, c in both.items()]
    largest = max(both, key=int)
    walls = [both[largest][name]["wall"] for name in ("krylov", "dense")]
    slopes = [
        f"{name} n^{number(slope['processor'], 2)} and n^{number(slope['peak memory, GB'], 2)}"
        for name, slope in r["slopes"].items()
    ]
    beyond = [n for n in r["sizes"] if n not in both]
    setting = (
        f"`benchmarks/scale.py`; the Krylov engine beside the dense one, on {r['data']}: fit and predictions at every time, {r['m']} "
        f"test inputs, {r['times']} times, and the errors that it tells beside the true ones. Krylov / dense in processor time: "
        f"{listed(ratios)}; on the wall at n = {largest}, where both had the machine to themselves, {number(walls[0] / walls[1], 2)} "
        f"({number(walls[0])} of {number(walls[1])} s). Slopes in processor time and memory, over the three largest sizes: {listed(slopes)}. "
        f"Measured with nothing beside it: n = {listed(alone)}; the others on a machine busy with other work, where processor times count."
    )
    if beyond:
        n = max(beyond, key=int)
        dense = 2.0 ** (3 * math.log2(int(n) / int(largest))) * both[largest]["dense"]["processor"]
        setting += (
            f" At n = {n} the dense engine was not run: it asks for {number(8 * 8 * int(n) ** 2 / 1e9)} GB, and would take "
            f"{number(dense, 2)} s if it goes on like n³ (extrapolated)."
        )
        if "reference" in r["sizes"][n]:
            setting += " True errors there are distances from the Krylov engine at a tolerance of 10⁻⁶ (reference)."
        else:
            setting += " True errors there were not measured."
    return section("many-data", "Many data", setting, table(head, rows), *told_errors(), *sixty_thousand())


def told_errors() -> list[str]:
    """`benchmarks/coverage.py`."""
    r, rows = load("coverage"), []
    for n, size in r["sizes"].items():
        kinds = {name: part for name, part in size["summary"].items() if name != "refused"}
        for name, part in kinds.items():
            share = f"{100 * part['covered']:.4g} %"
            below = f"{part['rows below 99 %']} ({part['by more than two standard errors']})"
            usual = 1 / part["median of median shares"]
            rows.append([n, name, str(part["cells"]), share, below, number(part["largest share"], 3), number(usual, 2)])
    networks = listed([f"n = {n}: {', '.join(activations_of(size))}" for n, size in r["sizes"].items()])
    refused = sum(size["summary"]["refused"] for size in r["sizes"].values())
    lacking = [
        f"{name}, n = {n}" for n, size in r["sizes"].items() for name, row in size["rows"].items() if _lacks(row)
    ]
    text = (
        f"Are its errors told large enough? `benchmarks/coverage.py`; two hidden layers ({networks}), four kinds of data (plain, "
        "pairs of near-duplicates, one-hot labels, three dimensions), kernels in float64 and float32, tolerances 0.1 to 1e-5, "
        f"{len(r['times'])} times, beside the dense engine: the true error as a share of the one told. The target is 99 % covered and "
        f"none above 3, in every row of the JSON (one network, data, storage and tolerance); sums that are sampled are drawn {draws_of(r)}, "
        "and one draw that misses three standard errors misses most of its sums at once: the standard error of a row's share is that over draws "
        f"(in parentheses the rows that lie below by more than two of it). {refused} of the runs were refused by name (a kernel singular to rounding)."
    )
    if lacking:
        text += f" {len(lacking)} rows have no sums: {'; '.join(lacking)}."
    return [
        text,
        table(
            ["n", "numbers", "cells", "covered", "rows below 99 % (surely)", "largest share", "told / true, median"],
            rows,
        ),
    ]


def _lacks(row) -> bool:
    return "refused" not in row and "sums" not in row


def draws_of(r) -> str:
    """How many draws of the probes there are, of each n."""
    found = []
    for n, size in r["sizes"].items():
        draws = {row["sums"]["draws"] for row in size["rows"].values() if "draws" in row.get("sums", {})}
        few, most = (str(end(draws)) for end in (min, max))
        found.append(f"{few if few == most else f'{few} to {most}'} times at n = {n}")
    return listed(found)


def activations_of(size) -> list[str]:
    """Networks, with their data where these are not all four."""
    kinds = {}
    for name in size["rows"]:
        activation, kind = name.split(", ")[:2]
        kinds.setdefault(activation, {})[kind] = None
    return [name if len(own) == 4 else f"{name} ({', '.join(own)})" for name, own in kinds.items()]


def sixty_thousand() -> list[str]:
    """`benchmarks/fashion.py`."""
    r = load("fashion")
    m, whole = r["model"], r["model"]["whole runs"]
    checks = listed(
        [
            f"{number(row['by the model'], 3)} s against {number(row['measured'], 3)} measured at n = {n}"
            for n, row in whole.items()
        ]
    )
    runs = {n: row["steps"] for n, row in (r.get("steps", {}) | r["whole"]).items()}
    steps = listed([f"{runs[n]} at n = {n}" for n in sorted(runs, key=int)])
    parts = listed([f"{name} {number(value / 60, 3)}" for name, value in m["parts, processor seconds"].items()])
    tile = r["tiles"][max(r["tiles"], key=int)]
    exact = next(iter(r["features"].values()))
    return [
        f"All 60,000 images of Fashion-MNIST, `benchmarks/fashion.py`, **an extrapolation, not a run**: {number(m['processor hours'], 3)} "
        f"hours of processor in float32 for 100 test inputs at 60 times, kernels evaluated for every product; "
        f"{number(m['hours of two cores'], 2)} hours were two cores kept busy ({number(m['hours of two cores with half as many steps again'], 2)} "
        f"with half as many steps again; target 3). Minutes of processor by parts: {parts}. A tile of 1024 rows and columns takes "
        f"{number(tile['product'], 3)} s to be evaluated and multiplied with 101 columns, {number(tile['totals'], 3)} s to be summed. Steps: "
        f"{steps}, carried on like n^{number(m['exponent of the steps'], 2)} to {number(m['steps'], 3)}: that is extrapolated, the rest "
        f"measured. The model against whole runs: {checks}. Measured on a machine that was busy with other work.",
        f"The features engine was run on all 60,000 in full (pixels and a constant, p = {exact['rank']}, exact): predictions at 60 "
        f"times and a posterior with fitted noise in {number(exact['processor'], 3)} s of processor.",
        *(
            f"A run at n = {n} in float32 was once stopped after {row['steps']} steps without reaching the tolerance: eigenvalues below eps √n "
            "times the largest one were projected out, the criterion of a decomposition in float32, which is not made. What evaluation in "
            f"float32 rounds is far less: {r['rounding of evaluation']['of']} differs by {number(r['rounding of evaluation']['norm of the difference'], 2)} in norm "
            f"({number(r['rounding of evaluation']['told by the engine'], 2)} told), where the least eigenvalue is "
            f"{number(r['rounding of evaluation']['least eigenvalue'], 2)}. Without that the same images take {r['steps'][n]['steps']} steps and reach the tolerance at all "
            f"times (power law {number(m['unfinished'][n]['steps by the power law'], 3)}; kernels evaluated from float32 inputs and stored, "
            f"{number(r['steps'][n]['processor'])} s of processor). Tiles evaluated for every product have the same rounding of evaluation; they were run whole up to "
            "n = 8000."
            for n, row in r.get("unfinished", {}).items()
        ),
        *on_the_command_line(r["command"]),
    ]


def on_the_command_line(sizes) -> list[str]:
    """Runs of the main job, of `benchmarks/fashion.py`."""
    lines = []
    for n, row in sizes.items():
        processes = row["processes"]
        taken = [sum(process[name] for process in processes) for name in ("wall", "processor")]
        missed = row["error of the predictions, above the tolerance"]
        reached = (
            "it reached its tolerance" if missed is None else
            f"the most steps, 40, end at errors of {number(missed, 2)} of the labels' scale, above the tolerance of 0.001, and it says so"
        )  # fmt: skip
        lines.append(
            f"`python -m ntkinfo --engine krylov --n-train {n} --data fashion --n-test 100 --checkpoint kept` (float64, erf), stopped by "
            f"SIGTERM after {number(processes[0]['wall'], 2)} s among its kernels and started again: {number(taken[1])} s of processor, "
            f"{number(taken[0])} s on the wall of a busy machine, at most "
            f"{number(max(process['peak memory, GB'] for process in processes))} GB. The largest error of I(X;Z|D) is "
            f"{number(row['largest error of I(X;Z|D)'], 2)} nats; {reached}."
        )
    return lines


def counted_samples() -> str:
    """`benchmarks/estimators.py`."""
    r = load("estimators")
    ours, peers = r["libraries"]["ntkinfo"]["values"], {k: v for k, v in r["libraries"].items() if k != "ntkinfo"}
    rows = []
    for name, found in ours.items():
        row = [name, number(found["value"], 6)]
        for peer in peers.values():
            other = peer["values"].get(name)
            row.append("" if other is None else number(abs(other["value"] - found["value"]), 2))
        rows.append(row)
    head = ["estimate", "ntkinfo, nats", *(f"difference of {name} {peer['version']}" for name, peer in peers.items())]
    setting = (
        f"`benchmarks/estimators.py`; n = {r['n']} samples, the same for all, in one run. infomeasure's Grassberger is the earlier "
        "formula of 1988. On counts the peers are mostly faster than we are."
    )
    return section("samples", "Estimates from samples", setting, table(head, rows))


def finite_networks() -> str:
    """`benchmarks/finite_width.py`."""
    r = load("finite_width")
    s, widths = r["settings"], sorted(map(int, r["widths"]))
    widest = r["widths"][str(widths[-1])]
    z = {name: v["z_rms"] for name, v in widest["plain"].items() if not name.startswith("output ")}
    worst = max(z, key=z.get)
    slopes = r["slopes"]["difference"]
    rows = [
        [f"`{name}`", "none" if v["slope"] is None else number(v["slope"], 2), str(v["widths"])]
        for name, v in slopes.items()
        if name in z
    ]
    return section(
        "finite-networks",
        "Finite networks",
        f"`benchmarks/finite_width.py`; digits, even against odd, n = {s['n_train']}, {s['depth']} hidden {s['activation']} "
        f"layer, widths {widths[0]} to {widths[-1]}, {widest['networks']} networks at the widest, {s['dtype']}. At width "
        f"{widths[-1]} the largest root mean square z-score (deviation over sampling error) of the {len(z)} scalar "
        f"quantities is {number(z[worst], 2)} (`{worst}`): all agree with the closed form within sampling error.",
        "With the same networks trained under the infinite kernel as a control variate, the deviation should fall like "
        "1/width, slope −1. The slope is fitted over the widths whose deviation is above twice the sampling error; of two "
        "or three widths it says little.",
        table(["quantity", "slope", "widths used"], rows),
        "Training goes in steps, not by flow, which leaves a floor: the slope of `action` is flatter for it.",
    )


def published_figure() -> str:
    """`benchmarks/paper_figure2.py`."""
    r = load("paper_figure2")
    rows, far = [], []
    for scale, point in r["end_points"].items():
        (xz, yz), (mean_xz, mean_yz), (d_xz, d_yz) = point["published"], point["mean"], point["difference"]
        rows.append([scale, f"{xz}", f"{mean_xz:.3f}", signed(d_xz), f"{yz}", f"{mean_yz:.3f}", signed(d_yz)])
        ratio = abs(d_xz) / point["standard_deviation"][0]
        if ratio > 3:
            far.append((f"W_std {scale} ({number(ratio, 2)})", ratio))
    beyond = listed([name for name, _ in far])
    return section(
        "published-figure",
        "A published figure",
        f"`benchmarks/paper_figure2.py`; Fig. 2 of arXiv 1911.09189 at t → ∞, mean over {len(r['seeds'])} draws of the data, "
        f"n = {r['settings']['n_train']}, m = {r['settings']['n_test']}. Published values are read off the figure; "
        "InfoNCE for I(X;Z|D), the decoder of unit variance for I(Y;Z); nats.",
        table(
            ["W_std", "I(X;Z|D) published", "here", "difference", "I(Y;Z) published", "here", "difference"],
            rows,
        ),
        f"Differences in I(X;Z|D) beyond three standard deviations of our draws: {beyond}. The figure was read off, and "
        "the paper does not state all its settings.",
    )


def parameters() -> str:
    """`benchmarks/parameter_divergence.py`."""
    records = load("parameter_divergence")["records"]
    smooth = [r for r in records if r["curvature"] is not None]
    wide = max(r["width"] for r in smooth)
    at_wide = [r for r in smooth if r["width"] == wide]
    outside = [r for r in smooth if abs(r["z_total"]) > 3]
    linear = [abs(r["z_linear"]) for r in smooth]
    fewest = min(r["networks"] for r in at_wide)
    few = sorted({r["case"] for r in at_wide if r["networks"] == fewest})
    named = (
        listed([f"{r['case']} at width {r['width']}: {number(r['z_total'], 2)}" for r in outside]) if outside else ""
    )
    kinked = [r for r in records if r["case"] == "relu-1" and r["width"] == wide and r["s"] == 4.0]
    kinked = ", ".join(f"{r['measured']:.1f} ± {r['stderr']:.1f} at ε = {r['eps']}" for r in kinked)
    return section(
        "parameters",
        "Divergence of the parameters",
        "`benchmarks/parameter_divergence.py`; one and two hidden layers, erf and GELU, with and without biases (`-b`), "
        f"widths {listed([str(w) for w in sorted({r['width'] for r in smooth})])}, two times. z is (measured − closed form) / "
        "standard error.",
        f"At width {wide} the largest |z| of the {len(at_wide)} comparisons is "
        f"{number(max(abs(r['z_total']) for r in at_wide), 2)}. Of all {len(smooth)}, {len(outside)} lies outside three "
        f"({named}). The linear part alone is off by {number(min(linear), 2)} to {number(max(linear), 2)} standard errors: "
        f"the curvature part has to be there. {listed(few)} at width {wide} rest on {fewest} networks only.",
        "For ReLU there is no curvature part to report: the measured divergence grows as the finite step ε of its second "
        f"derivative shrinks ({kinked} nats, one hidden layer, width {wide}).",
    )


def bounds() -> str:
    """`benchmarks/bounds.py`."""
    r = load("bounds")
    cells = [cell for group in r["cells"].values() for cell in group]
    proven: dict[str, list[tuple[float, float]]] = {}
    heuristic: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        e = cell["ensemble"]
        for name in ("pac_bayes_kl", "mcallester", "catoni"):
            proven.setdefault(f"`{name}`, ensemble", []).extend(zip(e[name], e["test_error"], strict=True))
            pairs = [(p[name], p["test_error"]) for p in cell["posterior"]]
            proven.setdefault(f"`{name}`, Bayesian posterior", []).extend(pairs)
        for name in ("input_compression", "xu_raginsky"):
            heuristic.setdefault(f"`{name}`, ensemble", []).extend(zip(e[name], e["test_error"], strict=True))
        c = cell["content"]
        for form in ("sharp", "published"):
            content = proven.setdefault(f"`information_content`, closed form, {form}", [])
            content.append((c[f"closed form, {form}"], c["test_error"]))
            estimate = heuristic.setdefault(f"`information_content`, estimate, {form}", [])
            estimate.append((c[f"estimate, {form}"], c["test_error"]))
    rows = [
        [name, kind, str(len(pairs)), f"{100 * sum(b < e for b, e in pairs) / len(pairs):.0f} %",
         f"{100 * sum(b < 0.5 for b, _ in pairs) / len(pairs):.0f} %"]
        for kind, group in (("proven", proven), ("not a certificate", heuristic))
        for name, pairs in group.items()
    ]  # fmt: skip
    names = {
        "parameter_divergence/n": "divergence of the parameters / n",
        "train_error": "training error",
        "information_gain/n": "information gain / n",
        "input_compression_gap": "input-compression gap",
        "content/n": "information content / n",
    }
    tau = [[names[name], number(r["tau"][name]["true labels"], 2)] for name in names]
    o = r["options"]
    return section(
        "bounds",
        "Bounds",
        f"`benchmarks/bounds.py`; digits and MNIST, true and random labels, {len(cells)} settings and {len(o['times'])} times, "
        f"n from {min(o['sizes'])} to {max(o['sizes'])}, δ = {o['delta']}, one seed. How often a bound fell below the "
        "measured test error, and how often it says anything (below ½):",
        table(["bound", "kind", "rows", "below the test error", "below ½"], rows),
        "Not certificates: input compression has an unproven step; Xu–Raginsky is given the divergence of one data set for "
        "its average; the estimate of the information content has a sampling error, where the closed form is a bound. The "
        "theorems ask for independent examples: here they come from a finite pool, repeated inputs left out, and are that "
        "only nearly. Inputs are scaled by rows used for nothing else, so that the prior did not see the data.",
        "Kendall's τ with the generalization gap, true labels (1: ranks it perfectly, 0: not at all, −1: reversed):",
        table(["predictor", "τ"], tau),
        "What certifies generalization is not what ranks it: the training error, which certifies nothing, stands among them.",
    )


def generalization() -> str:
    """`benchmarks/generalization.py`."""
    r = load("generalization")
    cells, o = list(r["cells"].values()), r["options"]
    kinds = {"probability": f"with probability 1 − δ = {1 - o['delta']:g}", "average": "on average over data"}
    rows = []
    for name, (label, kind) in r["bounds"].items():
        told = []
        for cell in cells:
            bound = cell["bounds"][name]
            rows_of = zip(bound["value"], bound["below"], cell["gap"], cell["gap_stderr"], strict=True)
            told += [each for each in rows_of if each[0] is not None]
        cases = len(told) * (o["draws"] if kind == "probability" else 1)
        # Ratios to a gap that is clear of its own error.
        ratios = [value / gap for value, _, gap, stderr in told if gap > 4 * stderr]
        rows.append([label, kinds[kind], *judged([each[:2] for each in told], cases, ratios)])
    for name, (label, kind) in r["others"].items():
        told = [cell["others"][name] for cell in cells if name in cell["others"]]
        pairs, ratios = (
            [(each["value"], each["below"]) for each in told],
            [each["value"] / each["gap"] for each in told],
        )
        rows.append([f"{label}, on its own gap", kinds[kind], *judged(pairs, len(told) * o["draws"], ratios)])
    curves = [
        [c["data"], str(n), number(error), f"{number(seen)} ± {number(stderr, 1)}", f"{signed(100 * (error / seen - 1), 0)} %"]
        for c in r["learning"]
        for n, error, seen, stderr in zip(c["n"], c["error"], c["measured"], c["stderr"], strict=True)
    ]  # fmt: skip
    stopped = [
        [row["data"], f"{100 * row['noise']:.0f} %",
         *(f"{row['error'][rule]:.3f} (t = {number(row['t'][rule], 2)})" for rule in r["rules"])]
        for row in r["stopping"]
    ]  # fmt: skip
    worst = [
        f"{max(row['error'][rule] - row['error']['hindsight'] for row in r['stopping']):.3f} ({label})"
        for rule, label in r["rules"].items()
        if rule != "hindsight"
    ]
    called = {"digits": "digits", "fashion": "Fashion-MNIST's class numbers"}
    names = [called[name] for name in dict.fromkeys(cell["data"] for cell in cells)]
    sizes = [str(n) for n in sorted({cell["n"] for cell in cells})]
    noises = [number(noise) for noise in sorted({cell["noise"] for cell in cells})]
    first = r["learning"][0]
    return section(
        "generalization",
        "Generalization",
        f"`benchmarks/generalization.py`; one hidden erf layer, parities of {listed(names)}, n of {listed(sizes)}, labels wrong "
        f"with probability {listed(noises)} in training and test alike, {len(cells[0]['t'])} times, {o['draws']} training sets of "
        f"each, JAX {r['jax']}. Every legal bound on the gap between test and training error of one network, beside the gap measured:",
        table(["bound on the gap", "holds", "cases", "below the gap", "below 1", "bound / gap, median"], rows),
        "A bound with probability 1 − δ is compared for each training set, one on average with the mean over them, less two "
        "standard errors. Xu–Raginsky is given the divergence averaged over the training sets, plus two standard errors. Leaving "
        "one out bounds networks trained on n − 1. Left out: input compression, whose step is unproven, and the information "
        "content where labels are wrong, which asks for labels that are a function of the input.",
        f"Learning curves: squared error of the mean at t = ∞, predicted from the spectrum of a pool of {first['pool']} and "
        f"measured over {first['draws']} training sets (± standard error):",
        table(["data", "n", "predicted", "measured", "predicted / measured − 1"], curves),
        f"Stopping early: test error against right labels, n = {r['stopping'][0]['n']}, {r['stopping'][0]['draws']} training sets, at "
        "the time that each rule chooses (geometric mean). Nats are those of the linear part of the parameters' divergence "
        "([theory 16](theory.md#section-16)); the probability of a wrong label is told to these two rules, and not to leaving one out.",
        table(["data", "wrong labels", *r["rules"].values()], stopped),
        f"Largest excess over the best in hindsight: {listed(worst)}. Where nats on noise and on signal are equal says when noise "
        "is memorised, not when to stop: it sits in modes of small eigenvalues, which cost many nats and move predictions little.",
    )


def leaving_one_out() -> str:
    """`benchmarks/leaving_one_out.py`."""
    r = load("leaving_one_out")
    rows = []
    for each in r["speed"].values():
        for again in ("", "_again"):
            if f"wall{again}" in each:
                told = (f"{number(each[name])} s" for name in (f"wall{again}", f"processor{again}", "target"))
                rows.append([f"{each['what']}{', called again' if again else ''}", *told])
    labels, measures = r["labels"], ("information", "surprisal", "residual", "probability")
    cells = [
        [row["network"], row["source"], "–" if row["noise"] is None else number(row["noise"]),
         "–" if row["noise"] is None else "largest evidence" if row["fitted"] else "the network's",
         *("–" if row["area"][name] is None else f"{row['area'][name]:.3f}" for name in measures)]
        for row in labels["rows"]
    ]  # fmt: skip
    most = {name: max(row["area"][name] or 0.0 for row in labels["rows"]) for name in measures}
    own = max(row["area"]["information"] or 0.0 for row in labels["rows"] if not row["fitted"])
    return section(
        "leaving-one-out",
        "Leaving one out",
        f"`benchmarks/leaving_one_out.py --part speed`; first calls, with all that they compile, on {r['cores']} cores, JAX "
        f"{r['jax']}; of the explorer the median move, after the first:",
        table(["what", "wall", "processor", "target (wall)"], rows),
        f"Which labels are wrong: Fashion-MNIST, n = {labels['n']}, ten classes, one label in ten wrong, means over "
        f"{labels['draws']} draws. Area under the curve of what ranks wrong labels first: the information of an example beyond all "
        "others (a divergence, in nats), the surprisal −log p of its label given all others, the size of the residual, and one "
        "less the probability that a network without the example names its label. Noise is in units of the mean prior variance:",
        table(
            ["network", "source", "noise", "amplitude", "information", "surprisal", "residual", "probability"], cells
        ),
        f"The most that any reaches: {listed([f'{name} {most[name]:.3f}' for name in measures])}. With the network's own amplitude the "
        "prior expects larger labels than there are, the residual hardly counts beside the variance, and the information ranks at "
        f"most with {own:.3f}; with the amplitude of largest evidence it finds wrong labels as the residual does. Its worth beyond that "
        "is the unit, that it adds up, and groups ([theory 12](theory.md#section-12)).",
    )


def judged(pairs, cases, ratios) -> list[str]:
    """Cells of a table: how many cases, how often below, the share of means below 1, the median ratio."""
    share = sum(value < 1 for value, _ in pairs) / len(pairs)
    below = sum(count for _, count in pairs)
    return [str(cases), str(below), f"{100 * share:.0f} %", number(sorted(ratios)[len(ratios) // 2], 2)]


def bottleneck() -> str:
    """`benchmarks/bottleneck.py`."""
    problems = load("bottleneck")["problems"]
    rows, certified, cold_ratios, warm_embo = [], [], [], []
    for p in problems:
        methods = {m["name"]: m for m in p["methods"]}
        ours = [m for m in p["methods"] if m["name"].startswith("ours")]
        for name, ratios in p["ratios"].items():
            peer, mean = methods[name], ratios["mean_excess"]
            seconds = methods[mean["ours"]]["seconds"]
            # The first call of the process, or where that has more excess the first of a setting that has not.
            enough = ours[0]["mean_excess"] <= max(peer["mean_excess"], 1e-11)
            cold = ours[0]["first_call"] if enough else methods[mean["ours"]]["first_call"]
            cold_ratio = peer["seconds"] / cold
            cold_ratios.append(cold_ratio)
            warm_embo += [mean["ratio"]] if name.startswith("embo") else []
            rows.append([
                p["problem"], name, number(peer["mean_excess"], 2), number(peer["seconds"]), number(cold_ratio, 2),
                mean["ours"].removeprefix("ours, "), number(seconds, 2), number(mean["ratio"], 3),
            ])  # fmt: skip
        c = methods["ours, certified"]
        certified.append([
            p["problem"], str(p["n_beta"]), number(p["worst_gap"], 1), "yes" if "x 2" in p["problem"] else "no, searched",
            number(c["first_call"]), number(c["seconds"], 2),
        ])  # fmt: skip
    failed = {(m["name"].split(" ")[0].rstrip(","), m["failed"]) for m in problems[-1]["methods"] if "failed" in m}
    names = sorted({name for name, _ in failed})
    dit = next(m for m in problems[0]["methods"] if m["name"].startswith("dit"))
    return section(
        "bottleneck",
        "Bottleneck",
        "`benchmarks/bottleneck.py`; excess of the Lagrangian over our lower bound, in nats, recomputed from each peer's "
        "encoder. All run one thread, and none of them compiles. Two ratios, both at no more mean excess: cold, the peer's "
        "seconds over a first call of ours; warm, over a later one. Below 1 the peer is faster.",
        table(
            ["problem", "peer", "its mean excess", "its seconds", "cold ratio", "ours at no more excess", "seconds, later call",
             "warm ratio"],
            rows,
        ),
        f"Cold we lose in {len([c for c in cold_ratios if c < 1])} of {len(cold_ratios)} rows. The smallest warm ratio beside "
        f"embo is {number(min(warm_embo), 3)}.",
        "With a certificate:",
        table(["problem", "β", "worst gap, nats", "proven", "first call, s", "later call, s"], certified),
        "With two to four labels the gap is proven; with more the maximum behind it was searched for, which can miss it.",
        f"On the 12-bit task {listed(names)} ended with: {listed(sorted({why for _, why in failed}))}. They are given the whole "
        "table; ours merges inputs of equal p(y|x) first, which is exact. dit took "
        f"{number(dit['seconds'], 2)} s for one β of the 64 × 8 table, with an excess of {number(dit['excess_of_first'], 1)}.",
    )  # fmt: skip


def accelerator() -> str:
    """`benchmarks/gpu.py`."""
    what = (
        "`benchmarks/gpu.py`: the same calls on an accelerator and on the CPU beside it, beside what the device can do at "
        "most (a matrix product, a copy)."
    )
    if not (RESULTS / "gpu.json").exists():
        return unmeasured("accelerator", "Accelerators", what, "`python benchmarks/gpu.py`.")
    r = load("gpu")
    there = (
        ""
        if r["accelerator"]
        else " No accelerator was at hand when this was measured: these are figures of a CPU alone, "
        "at small sizes, and say nothing about a GPU."
    )
    cells = [
        [device["name"], row["what"], number(row["cold"]), number(row["warm"])]
        for device in r["devices"]
        for row in device["rows"]
    ]
    limits = [
        f"{device['name']}: {number(device['limits'][dtype]['flops'] / 1e9)} GFlop/s in a product of {device['product']} "
        f"x {device['product']}, {number(device['limits'][dtype]['bytes'] / 1e9)} GB/s, {dtype}"
        for device in r["devices"]
        for dtype in device["limits"]
    ]
    return section(
        "accelerator",
        "Accelerators",
        f"{what}{there} n = {r['n']}, float64, JAX {r['jax']}, {r['cores']} cores; wall seconds.",
        table(["device", "what", "cold, s", "warm, s"], cells),
        f"{'; '.join(limits)}.",
    )


def layered() -> str:
    """`benchmarks/sgd_ensemble.py`."""
    r = load("sgd_ensemble")
    s = r["setting"]
    rows = [
        [name, number(r["core_ratio_to_ours"][name], 2), number(r["ratio_to_ours"][name], 3),
         f"{r['extrapolated_seconds'][name]:,.0f}"]
        for name in r["ratio_to_ours"]
    ]  # fmt: skip
    return section(
        "layered-networks",
        "Layered networks",
        f"`benchmarks/sgd_ensemble.py --full`; {'-'.join(map(str, s['sizes']))}, {s['n_train']} patterns in batches of "
        f"{s['batch']}, float32, {r['cores']} cores. {s['networks']} networks × {s['epochs']:,} epochs took "
        f"{r['full']['seconds']:.0f} s (target: under 600), after a first call of {r['first_call_seconds']:.0f} s that compiles.",
        f"Beside peers, {r['measured_epochs']} epochs of ours and {r['measured_epochs_of_peers']} of theirs, extrapolated, "
        f"without compilation; the machine was shared (load {listed([number(v, 2) for v in r['load']])}, which is why "
        "the same run extrapolates to more seconds than it took): trust the processor time. Ours takes every core.",
        table(
            ["what", "processor time / ours", "wall time / ours", "extrapolated wall s, on the busy machine"],
            rows,
        ),
        "Which claims about compression hold, and with which estimator, is told in "
        "[notebook 4](../notebooks/04_information_plane.py).",
    )


def variational() -> str:
    """`benchmarks/variational.py`."""
    rows, dual, shares = [], [], []
    for data, r in load("variational").items():
        needed = dict(re.findall(r"(\w+) (\d+\.\d+)(?:, | nats)", r["claim"].split(":", 1)[1]))
        level = re.search(r"for I\(Y;Z\) of ([\d.]+)", r["claim"])[1]
        shares.append(re.search(r"([\d.]+) of it", r["claim"])[1])
        for i, name in enumerate(r["objectives"]):
            error, calibration = r["error"][i], r["calibration_error"][i]
            rows.append([
                data, level, name, needed[name], f"{min(error):.4f}", f"{calibration[-1]:.3f}",
            ])  # fmt: skip
            if name == "dual":
                trained = [j for j, e in enumerate(error) if e < 0.25]
                best = min(trained, key=calibration.__getitem__)
                dual.append(
                    f"{data}: {calibration[best]:.3f} at γ = {number(r['beta'][best], 2)}, {calibration[-1]:.3f} at "
                    f"γ = {number(r['beta'][-1], 3)}"
                )
    return section(
        "variational",
        "Variational bottlenecks",
        "`benchmarks/variational.py`; digits and MNIST's test images, nine trade-offs, three seeds, measured on test images. The "
        "published claim (arXiv 2006.04641) is that the dual needs a fraction of VIB's I(X;Z) for the same I(Y;Z).",
        table(
            ["data", "I(Y;Z) to reach, nats", "objective", "I(X;Z) needed, nats", "lowest test error",
             "calibration error, last trade-off"],
            rows,
        ),
        f"The claim does not hold here: the dual needs {listed(shares)} of VIB's. Its calibration error falls until its networks are "
        f"trained, then grows with the trade-off γ towards that of its label noise ({'; '.join(dual)}).",
        "On tables the fits are held against the certified optimum, given enough clusters, in the tests of "
        "`ni.variational` and in [notebook 5](../notebooks/05_variational.py).",
    )  # fmt: skip


COLUMNS = {
    "import, namespaces kept": ("import", "namespaces"),
    "stax: dense, conv, pooling, residual, attention": ("stax_fc", "stax_relu_diagonal", "stax_conv", "stax_attention"),
    "predict, also twice under jit": ("predict", "predict_jit_twice", "predict_ode"),
    "batch, monte_carlo": ("batch", "monte_carlo"),
    "linearize, taylor_expand": ("linearize", "taylor_expand"),
    "four empirical NTKs": (
        "ntk_jacobian_contraction",
        "ntk_ntk_vector_products",
        "ntk_structured_derivatives",
        "ntk_auto",
    ),
    "Ensemble": ("ensemble", "canary"),
}
REFUSED = "0.10.2"


def release(version: str) -> tuple[int, ...]:
    """0.10.1 as (0, 10, 1)."""
    return tuple(map(int, version.split(".")))


def jax_versions() -> str:
    """`benchmarks/jax_versions.py`."""
    results = load("jax_versions")
    grouped = {name for features in COLUMNS.values() for name in features}
    # What the groups do not know yet has a column of its own.
    others = list(dict.fromkeys(name for row in results.values() for name in row if name not in grouped))
    rows = []
    for version in sorted({*results, REFUSED}, key=release):
        if version == REFUSED:
            rows.append([version, "refused", *[""] * (len(COLUMNS) + len(others) - 1)])
            continue
        cells = []
        for features in COLUMNS.values():
            bad = [f"{name}: {results[version][name]}" for name in features if results[version].get(name, "ok") != "ok"]
            there = any(name in results[version] for name in features)
            cells.append("; ".join(bad) if bad else "ok" if there else "not measured")
        rows.append([version, *cells, *(str(results[version].get(name, "not measured")) for name in others)])
    return section(
        "jax-versions",
        "JAX versions",
        "`benchmarks/jax_versions.py` installs each version in an environment of its own and checks the results of each "
        f"feature, not only that it runs. {REFUSED} silently computes wrong results on the CPU "
        "([jax-ml/jax 39103](https://github.com/jax-ml/jax/issues/39103)) and is refused at import.",
        table(["JAX", *COLUMNS, *others], rows),
    )


def hostile_arguments() -> str:
    """`benchmarks/fuzz.py`."""
    what = (
        "`benchmarks/fuzz.py` calls every public function with each of its arguments replaced in turn by hostile values: "
        "arrays of another rank or dtype, empty, NaN, infinite, huge or traced; numbers out of range; unknown options; what "
        "is no random key; results of other functions. Right is a `ValueError` or `TypeError` that names the argument "
        "(clear error), or a result that is finite or, as documented, not, and the same for other spellings of the same "
        "value (sane result). All other columns are faults."
    )
    if not (RESULTS / "fuzz.json").exists():
        run = "`python benchmarks/fuzz.py`. Known faults: `tests/fuzz/known.json`."
        return unmeasured("hostile-arguments", "Hostile arguments", what, run)
    result = load("fuzz")
    measured = sorted(
        {", ".join(f"{name} {version}" for name, version in r["versions"].items()) for r in result.values()}
    )
    outcomes = list(next(iter(result.values()))["outcomes"])
    rows = [
        [name, str(r["functions"]), str(sum(r["outcomes"].values())), *(str(r["outcomes"][kind]) for kind in outcomes)]
        for name, r in result.items()
    ]
    total = [str(sum(int(row[i]) for row in rows)) for i in range(1, len(rows[0]))]
    return section(
        "hostile-arguments",
        "Hostile arguments",
        what,
        table(["module", "functions", "cases", *outcomes], [*rows, ["all", *total]]),
        f"Measured in float64 with {'; '.join(measured)}. A fault that is known stands in `tests/fuzz/known.json`.",
        "A sample of it runs with the tests, which fail for a public function that has no call in the table. The layers "
        "of `stax` are neural-tangents' and are not among them.",
    )


def page() -> str:
    """The whole page."""
    sections = (
        speed, first_calls, tables_of_thousands, posterior, empirical_kernels, trained_network, laplace, many_data, counted_samples, finite_networks, published_figure, parameters, bounds, generalization, leaving_one_out, bottleneck, layered, variational,
        accelerator, jax_versions, hostile_arguments,
    )  # fmt: skip
    text = "\n\n".join([HEAD.strip(), *(make() for make in sections)]) + "\n"
    assert not re.search(r"\b(nan|inf)\b", text), "a result holds no number"
    return re.sub(r"\n{3,}", "\n\n", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail where the page is not what the results make")
    if parser.parse_args().check:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == page() else f"{PAGE.name} is out of date: run this script")
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
