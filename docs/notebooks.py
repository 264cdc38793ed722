"""The notebooks: text in the repository, executed once for each content, shown with what they print and draw.

    python docs/notebooks.py                   # executes the quick ones
    python docs/notebooks.py --all             # and those that train networks for minutes
    python docs/notebooks.py 03 --out folder   # also writes the executed copy, as .ipynb

An executed copy is kept in `.cache/notebooks` under a digest of the notebook, of the package and of the versions it ran
with: the tests and the site share it, and a copy that is out of date is never found.
"""

import argparse
import hashlib
import html
import os
import re
import tempfile
from importlib import metadata
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
CACHE = ROOT / ".cache" / "notebooks"
# These train networks for minutes: CI leaves them out, and the site shows them without outputs unless asked for all.
SLOW = ("04_information_plane", "05_variational", "06_trained_network")
CELL_SECONDS = 800
_LIBRARIES = ("jax", "jaxlib", "numpy", "scipy", "matplotlib", "scikit-learn", "optax")
_MATH = re.compile(r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+?(?:\n[^$\n]+?)?)\$", re.DOTALL)
# Delimiters that the converter does not know after \big.
_DELIMITERS = {r"\Vert": "‖", r"\langle": "⟨", r"\rangle": "⟩"}


def notebooks() -> list[Path]:
    """All notebooks, in order."""
    return sorted(FOLDER.glob("*.py"))


def read(path: Path):
    """A notebook from its text, without outputs."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    # Random names of cells would make two readings differ.
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
    return notebook


def kept(path: Path, cache: Path = CACHE) -> Path:
    """Where the executed copy of a notebook as it stands now is, or would be."""
    digest = hashlib.sha256(path.read_bytes())
    for source in sorted((ROOT / "ntkinfo").rglob("*.py")):
        # The command line is in no notebook.
        if "_cli" not in source.parts:
            digest.update(source.read_bytes())
    for name in _LIBRARIES:
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    return cache / f"{path.stem}-{digest.hexdigest()[:24]}.ipynb"


def execute(notebook):
    """Runs a notebook in an empty folder, in place; an error in a cell is raised."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
        # What XLA says of programs compiled elsewhere is no output of the notebook.
        client.execute(env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    return without_bars(notebook)


def without_bars(notebook):
    """Takes progress bars away, in place: they come on slow machines only."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if not (output.get("name") == "stderr" and re.match(r"\r?[^\n|]*\d+%\||\s*$", output.text))
            ]
    return notebook


def executed(path: Path, cache: Path = CACHE):
    """A notebook with its outputs: the copy that is kept, or one executed and kept now."""
    place = kept(path, cache)
    if place.exists():
        return nbformat.read(place, 4)
    notebook = execute(read(path))
    for earlier in cache.glob(f"{path.stem}-*.ipynb"):
        earlier.unlink(missing_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    # Beside its place first: two processes may execute the same notebook.
    with tempfile.NamedTemporaryFile("w", dir=cache, suffix=".unfinished", delete=False, encoding="utf-8") as file:
        nbformat.write(notebook, file)
    os.replace(file.name, place)
    return notebook


def shown(path: Path):
    """What the site shows: a copy with outputs where one is kept or quick to make, else the text alone."""
    everything = os.environ.get("NTKINFO_NOTEBOOKS") == "all"
    return executed(path) if everything or path.stem not in SLOW or kept(path).exists() else read(path)


def page(notebook, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its figures by their file names."""
    import base64

    figures, parts, heading = {}, [], name
    has_outputs = any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            heading = headings[-1] if headings else heading
            parts.append(cell.source)
            if len(parts) == 1 and not has_outputs:
                parts.append(
                    "*Shown without outputs: it trains networks for minutes. `python docs/notebooks.py "
                    f"{name[:2]}` executes it.*"
                )
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}-{len(figures) + 1}.png"
                figures[file] = base64.b64decode(data["image/png"])
                about = html.escape(f"Figure {len(figures)}, of the part “{heading}”", quote=True)
                parts.append(f'<a href="{file}"><img src="{file}" alt="{about}" loading="lazy"></a>')
            elif "text/html" in data:
                table = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
                # A class of its own would keep the theme from drawing it, and from letting it scroll on a phone.
                table = re.sub(r"<table[^>]*>", "<table>", table)
                parts.append(re.sub(r"\n\s*", "", table))
            else:
                text = output.get("text") or data.get("text/plain", "")
                parts.append(f"```text\n{text.rstrip()}\n```")
    source = f"notebooks/{name}.py"
    parts.append(f"*This page is the notebook `{source}` of the repository; `jupytext --to ipynb {source}` makes an "
                 "`.ipynb` of it.*")  # fmt: skip
    return "\n\n".join(parts) + "\n", figures


def mathematics(markdown: str, formulas: dict[str, str]) -> str:
    """Replaces formulas by words that Markdown leaves alone; what they stand for, as MathML, goes into `formulas`.

    Browsers draw MathML by themselves: nothing has to be fetched.
    """
    from latex2mathml.converter import convert

    def word(match: re.Match) -> str:
        code, display, inline = match.groups()
        if code is not None:
            return code
        text = " ".join((display or inline).split())
        for delimiter, sign in _DELIMITERS.items():
            text = re.sub(rf"{re.escape(delimiter)}(?![a-zA-Z])", sign, text)
        token = f"formula{hashlib.sha256(match[0].encode()).hexdigest()[:16]}x"
        formula = convert(text, display="block" if display else "inline")
        # Wider than a phone: the formula scrolls, not the page.
        formulas[token] = f'<span style="display:block;overflow-x:auto">{formula}</span>' if display else formula
        return token

    return _MATH.sub(word, markdown)


def main() -> None:
    """Executes notebooks and keeps what they show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 03; default: the quick ones")
    parser.add_argument("--all", action="store_true", help="the slow ones too")
    parser.add_argument("--out", type=Path, help="a folder for the executed copies, as .ipynb")
    options = parser.parse_args()
    unknown = [name for name in options.names if not any(path.stem.startswith(name) for path in notebooks())]
    if unknown:
        parser.error(f"no notebook begins with {unknown[0]!r}; there are {', '.join(p.stem for p in notebooks())}")
    for path in notebooks():
        chosen = path.stem.startswith(tuple(options.names)) if options.names else options.all or path.stem not in SLOW
        if chosen:
            notebook = executed(path)
            print(kept(path).relative_to(ROOT))
            if options.out is not None:
                options.out.mkdir(parents=True, exist_ok=True)
                nbformat.write(notebook, options.out / f"{path.stem}.ipynb")


if __name__ == "__main__":
    main()
