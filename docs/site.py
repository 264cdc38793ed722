"""The pages on their way into the site: reference and gallery, notebooks, drawings as tables, citations as links."""

import ast
import re
import sys
from pathlib import Path

from markdown import Extension
from markdown.inlinepatterns import SimpleTagInlineProcessor, SimpleTextInlineProcessor
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import gallery

import notebooks

PACKAGE = Path(__file__).parents[1] / "ntkinfo"
_EDGE = re.compile(r'(\w+)(?:\["([^"]+)"\])? --> (\w+)(?:\["([^"]+)"\])?')
_FLOWCHART = re.compile(r"```mermaid\nflowchart TD\n(.*?)```", re.DOTALL)
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
_OF_README = re.compile(r"<!-- README: (.+?) -->")
_CITED = re.compile(r"[Tt]heory,?\s+section\s+\d+|[Tt]heory,?\s+sections\s+\d+(?:(?:,|\s+and|\s+to|,\s+and)\s+\d+)*")
# What stands in the text for formulas until the page is HTML.
_formulas: dict[str, str] = {}


def _public(path: Path) -> list[str]:
    """`__all__` of a file, without running it."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__all__":
            return [e.value for e in getattr(statement.value, "elts", ()) if isinstance(e, ast.Constant)]
    return []


def reference() -> dict[str, str]:
    """The pages of the reference, by address: one for each public module, with all of its names."""
    pages = {}
    for name in _public(PACKAGE / "__init__.py"):
        path = next((p for p in (PACKAGE / f"{name}.py", PACKAGE / name / "__init__.py") if p.exists()), None)
        if path is None:  # a class or function handed on: it stands on the page of its module
            continue
        tree, public = ast.parse(path.read_text()), _public(path)
        found = {getattr(s, "name", None) for s in tree.body}
        found |= {alias.asname or alias.name for s in tree.body if isinstance(s, ast.ImportFrom) for alias in s.names}
        own = [f"::: ntkinfo.{name}.{n}" for n in public if n in found]
        handed_on = [f"`{n}`" for n in public if n not in found]
        if handed_on:
            own.append(f"## From neural-tangents\n\nAs its own documentation says: {', '.join(handed_on)}.")
        head = (
            f"# ni.{name}\n\n::: ntkinfo.{name}\n    options:\n      members: false\n      show_root_heading: false\n"
        )
        pages[f"reference/{name}.md"] = "\n\n".join([head, *own])
    return pages


class Subscripts(Extension):
    """Draws `e^{-t}` and `x_{ij}`, and keeps `K_*`, `[A]_i` and the like, of which Markdown takes a pair for emphasis.

    Docstrings and pages write formulas in plain text. So `_` after anything but a space or a bracket begins a
    subscript, with the stars behind it; `*emphasis*` and `**strong**` keep their meaning.
    """

    def extendMarkdown(self, md):
        """Registers the rule, as Python-Markdown asks for it."""
        # After code, links and HTML, before emphasis, which stands at 60.
        md.inlinePatterns.register(SimpleTextInlineProcessor(r"(?<=[^\s(])(_+\**)"), "subscripts", 65)
        braces = r"(\{)((?:[^{}\n]|\{[^{}\n]*\})+)\}"
        md.inlinePatterns.register(SimpleTagInlineProcessor(r"\^" + braces, "sup"), "upper", 66)
        md.inlinePatterns.register(SimpleTagInlineProcessor("_" + braces, "sub"), "lower", 66)


def on_config(config):
    """The shelves: gallery, notebooks and reference are made from files, so that none is forgotten."""
    config["markdown_extensions"].append(Subscripts())
    config["nav"].insert(2, {"Notebooks": [f"notebooks/{path.stem}.md" for path in notebooks.notebooks()]})
    config["nav"].insert(3, {"Gallery": list(gallery.pages())})
    config["nav"].insert(5, {"Reference": [{f"ni.{Path(page).stem}": page} for page in reference()]})
    return config


def on_files(files, config):
    """Adds the pages of the reference, the gallery and the notebooks, with their figures."""
    for page, content in {**reference(), **gallery.pages()}.items():
        files.append(File.generated(config, page, content=content))
    for path in notebooks.notebooks():
        text, figures = notebooks.page(notebooks.shown(path), path.stem)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, picture in figures.items():
            files.append(File.generated(config, f"notebooks/{path.stem}/{name}", content=picture))
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Drawings become tables; files of the repository that are no pages are named without a link."""
    markdown = _FLOWCHART.sub(_table, markdown)
    markdown = _OF_README.sub(_of_readme, markdown)
    if page.file.src_uri.startswith("notebooks/"):
        markdown = notebooks.mathematics(markdown, _formulas)
    return _OUTSIDE.sub(r"\1 (`\2`)", markdown) if "/" not in page.file.src_uri else markdown


def _of_readme(match: re.Match) -> str:
    """A section of the README, which is no page of the site."""
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(match[1])}\n.*?(?=^## )", text, re.MULTILINE | re.DOTALL)[0]


def _table(match: re.Match) -> str:
    """A drawing as a table: drawn in the browser, it would take a program fetched from elsewhere."""
    names: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for one, text, other, other_text in _EDGE.findall(match[1]):
        names[one], names[other] = text or names.get(one, one), other_text or names.get(other, other)
        below.setdefault(one, []).append(other)
    rows = [f"| {names[one]} | {', '.join(names[n].split(':')[0] for n in others)} |" for one, others in below.items()]
    return "\n".join(["| layer | may import |", "| --- | --- |", *rows])


def on_page_content(html: str, page, **_) -> str:
    """Sections of the theory that a docstring cites are links."""
    # Formulas within the text do not break: on a phone their paragraph scrolls, not the page.
    html = re.sub(r"<p>(?=(?:(?!</p>).)*formula[0-9a-f]{16}x)", '<p style="overflow:auto hidden">', html, flags=re.S)
    for word, formula in _formulas.items():
        html = html.replace(word, formula)
    if page.file.src_uri == "theory.md":
        return html
    theory = "../" * page.url.count("/") + "theory/"

    def link(match: re.Match) -> str:
        return re.sub(r"\d+", rf'<a href="{theory}#section-\g<0>">\g<0></a>', match[0])

    return _CITED.sub(link, html)
