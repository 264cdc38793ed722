"""The notebooks are text that runs as it stands, draws, and says no figure that it does not compute."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1]


pytest.importorskip("jupytext")
DOCS = script("docs/notebooks.py")
NOTEBOOKS = DOCS.notebooks()


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def text(output):
    return output.get("text", "") + "".join(output.get("data", {}).get("text/plain", ""))


def cells(path, kind):
    return "\n".join(cell.source for cell in DOCS.read(path).cells if cell.cell_type == kind)


def test_notebooks_are_kept_as_text():
    assert len(NOTEBOOKS) == 7
    assert not [path for path in DOCS.FOLDER.iterdir() if path.suffix != ".py" and path.name != "__pycache__"]
    assert set(DOCS.SLOW) < {path.stem for path in NOTEBOOKS}
    for path in NOTEBOOKS:
        notebook = DOCS.read(path)
        nbformat.validate(notebook)
        assert {cell.cell_type for cell in notebook.cells} == {"code", "markdown"}
        assert notebook == DOCS.read(path)


def handwritten(prose, code):
    """Decimals and percentages of a text that are no parameter of the code, and so are results written by hand."""
    # Addresses of papers, and formulas, are no figures.
    prose = re.sub(r"(?:arXiv|reproduce) \d{4}\.\d{4,5}|\$\$.*?\$\$|chapters? \d+(\.\d+)*", "", prose, flags=re.DOTALL)
    parameters = {float(number) for number in re.findall(r"(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?(?![\w.])", code)}
    found = [(number, float(number)) for number in re.findall(r"(?<![\w.])\d+\.\d+", prose)]
    found += [(f"{number} %", float(number) / 100) for number in re.findall(r"(\d+(?:\.\d+)?) ?%", prose)]
    return [shown for shown, value in found if value not in parameters]


def test_figures_written_by_hand_are_found():
    assert handwritten("noise of 20 %, scale 0.1 (arXiv 2006.04641)", "noise = 0.2\nscale=0.1") == []
    assert handwritten("outputs hold 98 % of it, τ = 0.76", "x = 1.5") == ["0.76", "98 %"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_figure_is_written_by_hand(path):
    assert handwritten(cells(path, "markdown"), cells(path, "code")) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_public_names_only(path):
    code = cells(path, "code")
    assert not re.search(r"(ntkinfo|\bni)(\.\w+)*\._[a-z]|from ntkinfo\S* import _|from ntkinfo\._", code)


RUNS = [pytest.param(path, marks=pytest.mark.slow if path.stem in DOCS.SLOW else ()) for path in NOTEBOOKS]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_notebook_runs_draws_and_names_nothing_of_the_machine(path):
    notebook = DOCS.executed(path)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(figures(notebook)) >= 3
    for output in outputs(notebook):
        assert output.output_type != "error"
        # Warnings and progress bars come on stderr; what is left must not name the machine.
        assert output.get("name") != "stderr", output.text
        assert not re.search(r"(^|[\s'\"(])(/\w[\w.-]*/|[A-Z]:\\)|Warning|0x[0-9a-f]{6}", text(output)), text(output)
        # A result that cannot be computed is no result.
        assert not re.search(r"\bnan\b", text(output)), text(output)
    page, pictures = DOCS.page(notebook, path.stem)
    assert len(pictures) == len(figures(notebook)) == page.count("<img ") == page.count(' alt="Figure ')


def test_a_cell_that_fails_is_seen():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    with pytest.raises(CellExecutionError, match="AssertionError"):
        DOCS.execute(notebook)


def test_a_copy_is_found_as_long_as_nothing_changed(tmp_path, monkeypatch):
    (tmp_path / "00_a.py").write_text('# %% [markdown]\n# # A\n\n# %%\nprint("seen", 1 + 1)\n')
    path, ran = tmp_path / "00_a.py", []
    monkeypatch.setattr(DOCS, "execute", lambda notebook: ran.append(1) or notebook)
    for _ in range(2):
        assert DOCS.executed(path, tmp_path / "cache").cells[0].source == "# A"
    assert len(ran) == 1
    path.write_text(path.read_text().replace("1 + 1", "2 + 2"))
    DOCS.executed(path, tmp_path / "cache")
    assert len(ran) == 2 and len(list((tmp_path / "cache").iterdir())) == 1


def test_formulas_become_mathml_and_code_is_left():
    pytest.importorskip("latex2mathml")
    formulas = {}
    shown = DOCS.mathematics("of $a_1$ and `$b$`\n\n$$\\Big\\Vert c \\Big\\Vert$$\n\n```\n$d$\n```\n", formulas)
    assert "`$b$`" in shown and "$d$" in shown and "$a_1$" not in shown
    inline, display = formulas.values()
    assert "<msub>" in inline and 'display="block"' in display and "‖" in display and "\\" not in display


def test_bars_are_taken_away_and_warnings_are_not():
    said = [
        nbformat.v4.new_output("stream", name="stderr", text=text)
        for text in ("\rkernel: 100%|████| 1/1 [00:07<00:00]", "\n", "UserWarning: 20% of it\n")
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=said)])
    assert outputs(DOCS.without_bars(notebook)) == said[2:]
