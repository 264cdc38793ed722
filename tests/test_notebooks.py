"""The notebooks run as they stand, and are kept with their figures and nothing of the machine that ran them."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 800


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def figures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def text(output):
    return output.get("text", "") + "".join(output.get("data", {}).get("text/plain", ""))


def execute(notebook, folder):
    NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_its_figures(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len(figures(notebook)) >= 3
    for output in outputs(notebook):
        assert output.output_type != "error"
        # Warnings and progress bars come on stderr; what is left must not name the machine.
        assert output.get("name") != "stderr", output.text
        assert not re.search(r"(^|[\s'\"(])(/\w[\w.-]*/|[A-Z]:\\)|Warning|0x[0-9a-f]{6}", text(output)), text(output)


# These train networks for minutes.
SLOW = ("04_information_plane", "05_variational", "06_trained_network")
RUNS = [pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else ()) for path in NOTEBOOKS]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_draws_what_is_kept(path, tmp_path):
    notebook = nbformat.read(path, 4)
    kept = len(figures(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    execute(notebook, tmp_path)
    assert len(figures(notebook)) == kept
    assert [each.text for each in outputs(notebook) if each.get("name") == "stderr"] == []


def test_a_cell_that_fails_is_seen(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 == 2")])
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(notebook, tmp_path)
