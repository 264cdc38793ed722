"""What seven users do, in at most fifteen lines each, with numbers that must come out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

JOURNEYS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))


def test_there_are_seven():
    assert len(JOURNEYS) == 7


@pytest.mark.parametrize("path", JOURNEYS, ids=lambda path: path.stem)
def test_journey(path, tmp_path):
    text = path.read_text()
    tree = ast.parse(text)
    # Without the docstring, at most fifteen lines of code.
    lines = [line for line in text.splitlines()[tree.body[0].end_lineno :] if line.strip()]
    assert len(lines) <= 15, f"{path.name} has {len(lines)} lines"
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    environment = {**__import__("os").environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
