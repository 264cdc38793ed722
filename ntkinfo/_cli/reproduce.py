"""Figures of papers from the command line: `python -m ntkinfo reproduce 1911.09189 --figure 2`.

Writes each figure with its numbers, what it is compared with, what was found, and a verdict by rule.
"""

import dataclasses
import json
import re
import time
from pathlib import Path

from ntkinfo._cli import arguments, output
from ntkinfo._cli.arguments import option
from ntkinfo._cli.papers import registry
from ntkinfo._cli.papers.figure import SOURCES, Claim, Figure, Found, judged, plain, verdict
from ntkinfo._common import tables

EPILOG = "papers, and their figures:\n" + "\n".join(
    f"  {number}  {each.title} ({', '.join(each.figures)})" for number, each in registry.PAPERS.items()
)


@dataclasses.dataclass(frozen=True)
class Options(arguments.OutputOptions):
    """The options of the job."""

    paper: str = option(None, arguments.name, "number of the paper at arXiv; listed below", positional=True)
    figure: str | None = option(
        None, arguments.name, "which figure of the paper; listed below", default_text="all of them"
    )
    full: bool = option(False, None, "the sizes of the gallery: minutes, where small sizes take seconds")
    seed: int = option(
        0, arguments.integer(0, arguments.MOST_SEED), "of data, of weights, of what is drawn"
    )  # fmt: skip
    out: Path = arguments.out_option("ntkinfo-reproduce")


def run(options: Options) -> None:
    """Computes the figures, prints the claims, and writes the folder."""
    names = registry.figures(options.paper, options.figure)
    paper = registry.paper(options.paper)
    output.require_figures()

    import jax

    jax.config.update("jax_enable_x64", True)
    files = [f"figure-{name}.{kind}" for name in names for kind in ("png", "json")]
    out = output.Output.of(options, "reproduce", (*files, *output.PAGES))
    page = [f"# {paper.title}", "", f"{paper.authors}, arXiv {options.paper}."]
    for name in names:
        figure = paper.figure(name)
        started = time.process_time()
        found = figure.compute(options.full, options.seed)
        seconds = time.process_time() - started
        one = dataclasses.replace(options, figure=name)
        record = record_of(one, figure, found, seconds)
        text = table(judged(found.claims, options.full), options.unit)
        print(f"{options.paper}, figure {name}: {record['verdict']}\n{text}\n", flush=True)
        out.figure(f"figure-{name}.png", found.draw(options.unit))
        out.text(f"figure-{name}.json", as_json(record))
        page += ["", f"## Figure {name}", "", figure.shows, "", f"![figure {name}](figure-{name}.png)", "",
                 figure.compares, "", f"Verdict, by rule: {record['verdict']}. {seconds:.3g} s of processor time.", "",
                 "```", text, "```"]  # fmt: skip
    page += ["", f"Options: {arguments.line(options)}.", ""]
    out.page("\n".join(page))
    print(out.finish())


def record_of(options: Options, figure: Figure, found: Found, seconds: float) -> dict:
    """What is kept of a figure, as JSON: information in nats."""
    paper = registry.paper(options.paper)
    claims = judged(found.claims, options.full)
    told = [{**plain(dataclasses.asdict(claim)), "rule": claim.rule(), "holds": claim.holds()} for claim in claims]
    return {
        "paper": options.paper, "authors": paper.authors, "title": paper.title, "figure": options.figure,
        "shows": figure.shows, "compares": figure.compares, "full": options.full,
        "command": arguments.command("reproduce", options), "verdict": verdict(claims, options.full), "claims": told,
        "processor_seconds": plain(seconds), "settings": plain(found.settings), "versions": output.versions(),
        "numbers": plain(found.numbers),
    }  # fmt: skip


def as_json(record: dict) -> str:
    """JSON that can be read and compared: a line for each name, lists of numbers on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[\n\s*([^\[\]{}\"]*?)\n\s*\]", lambda m: f"[{' '.join(m[1].split())}]", text) + "\n"


def table(claims: list[Claim], unit: str) -> str:
    """The claims as a table, information in `unit`."""
    lines = [f"{'claim':<74}{'found':>12}  {'expected':<34}{'source':<10}holds"]
    for claim in claims:
        scale = tables.factor(unit) if claim.unit else 1.0
        shown = dataclasses.replace(
            claim, found=scale * claim.found, expected=scale * claim.expected, tolerance=scale * claim.tolerance,
            unit=unit if claim.unit else "",
        )  # fmt: skip
        holds = "yes" if claim.holds() else "no"
        lines.append(f"{claim.text:<74}{shown.found:>12.5g}  {shown.rule():<34}{claim.source:<10}{holds}")
    lines += [f"{name}: {said}" for name, said in SOURCES.items() if any(claim.source == name for claim in claims)]
    return "\n".join(lines)
