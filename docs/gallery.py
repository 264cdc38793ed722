"""The gallery: pages of papers whose figures were computed again, from the records in `docs/gallery`.

    python docs/gallery.py 1911.09189 2      # computes a figure at full size and keeps it

A record is what `python -m ntkinfo reproduce PAPER --figure NAME --full` writes: numbers, claims, verdict, run time.
"""

import argparse
import html
import json
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "gallery"


def records() -> dict[str, list[dict]]:
    """The records of each paper, by its number at arXiv."""
    found: dict[str, list[dict]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(record["paper"], []).append(record)
    return found


def number(value) -> str:
    """A number as it is told."""
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)


def page(paper: list[dict]) -> str:
    """The page of a paper."""
    first = paper[0]
    parts = [
        f"# {first['title']}",
        f"{first['authors']}, [arXiv {first['paper']}](https://arxiv.org/abs/{first['paper']}).",
    ]
    for record in paper:
        name = f"{record['paper']}-{record['figure']}"
        alt = html.escape(f"Figure {record['figure']}: {record['shows']}", quote=True)
        rows = "\n".join(
            # A bar would end the cell.
            f"| {claim['text'].replace('|', '&#124;')} | {number(claim['found'])} | {claim['rule']} | "
            f"{claim['source']} | "
            f"{'yes' if claim['holds'] else '**no**'} |"
            for claim in record["claims"]
        )
        settings = ", ".join(f"{key} {value}" for key, value in record["settings"].items())
        parts += [
            f"## Figure {record['figure']}", record["shows"],
            f'<a href="../{name}.png"><img src="../{name}.png" alt="{alt}" loading="lazy"></a>',
            record["compares"], f"**Verdict, by rule: {record['verdict']}.**",
            f"| claim | found | expected | source | holds |\n| --- | --- | --- | --- | --- |\n{rows}",
            f"```sh\n{record['command']}\n```",
            f"{record['processor_seconds']:.0f} s of processor time; {settings}; JAX {record['versions']['JAX']}, "
            f"{record['versions']['device']}. Information is in nats. "
            f"[The record]({name}.json).",
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def index(found: dict[str, list[dict]]) -> str:
    """The list of all papers."""
    rows = "\n".join(
        f"| [{record['title']}]({paper}.md#figure-{record['figure']}) | {record['figure']} | {record['verdict']} |"
        for paper, several in found.items()
        for record in several
    )
    return (
        "# Gallery\n\nFigures of papers, computed again by one command each. A claim is a number, a rule and what it "
        "is compared with: a figure of the paper that was read off, its abstract, the theory of this library, or a "
        "finding of its notebooks; where no number of the paper is compared, the page says so.\n\n"
        f"| paper | figure | verdict, by rule |\n| --- | --- | --- |\n{rows}\n\n"
        "```sh\npython -m ntkinfo reproduce --help\n```\n"
    )


def pages() -> dict[str, str]:
    """All pages of the gallery, by address."""
    found = records()
    return {"gallery/index.md": index(found), **{f"gallery/{paper}.md": page(of) for paper, of in found.items()}}


def main() -> None:
    """Computes a figure at full size and keeps its record."""
    from ntkinfo.__main__ import main as ntkinfo

    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("paper")
    parser.add_argument("figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if ntkinfo(["reproduce", options.paper, f"--figure={options.figure}", "--full", f"--out={folder}/out"]):
            raise SystemExit(1)
        FOLDER.mkdir(exist_ok=True)
        for kind in ("json", "png"):
            shutil.copy(
                f"{folder}/out/figure-{options.figure}.{kind}", FOLDER / f"{options.paper}-{options.figure}.{kind}"
            )


if __name__ == "__main__":
    main()
