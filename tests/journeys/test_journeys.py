"""What seven users do, in at most fifteen lines each, with numbers that must come out."""

import ast
import runpy
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

JOURNEYS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))


def test_there_are_seven():
    assert len(JOURNEYS) == 7


# The command line compiles in a process of its own, which `tests/_cli` does in CI.
PARAMETERS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem == "command_line" else [])
    for path in JOURNEYS
]


@pytest.mark.parametrize("path", PARAMETERS)
def test_journey(path, tmp_path, monkeypatch):
    text = path.read_text()
    tree = ast.parse(text)
    # Without the docstring, at most fifteen lines of code.
    lines = [line for line in text.splitlines()[tree.body[0].end_lineno :] if line.strip()]
    assert len(lines) <= 15, f"{path.name} has {len(lines)} lines"
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    # In this process: what others have compiled is compiled.
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    plt.close("all")
