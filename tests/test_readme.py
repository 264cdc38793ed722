import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs(tmp_path):
    script, _ = EXAMPLES
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "input_information" in done.stdout and (tmp_path / "summary.png").stat().st_size > 10_000


def test_the_example_of_your_own_network_runs(tmp_path):
    pytest.importorskip("flax")
    script = 'import jax\njax.config.update("jax_enable_x64", True)\n' + EXAMPLES[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "(2, 50, 1)" in done.stdout and "effective dimension" in done.stdout
    assert (tmp_path / "network.png").stat().st_size > 10_000


def test_the_page_for_users_of_neural_tangents_runs_and_is_short(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "coming_from_neural_tangents.md").read_text()
    assert len(page.splitlines()) <= 60 and "coming_from_neural_tangents.md" in README
    script = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    # Its assertions can fail: without the trace `noise` is another model.
    wrong = script.replace("noise=diag_reg * np.trace(kernel) / len(x)", "noise=diag_reg")
    assert wrong != script
    # Both in one process, which compiles once.
    both = f"exec({script!r}, {{}})\nprint('as it stands')\nexec({wrong!r}, {{}})\nprint('wrong')"
    done = subprocess.run([sys.executable, "-c", both], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert "as it stands" in done.stdout and "wrong" not in done.stdout, done.stderr
    assert done.returncode == 1 and "AssertionError" in done.stderr


def test_every_file_it_names_is_there():
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:benchmarks|notebooks)/\w+\.\w+)`|\]\(((?:benchmarks|notebooks)/[\w.]+)\)", README)
    assert named and all((root / (code or link)).exists() for code, link in named)


def test_the_ratio_it_tells_is_the_one_measured():
    result = json.loads((Path(__file__).parents[1] / "benchmarks" / "results" / "empirical.json").read_text())
    (told,) = re.findall(r"at most ([\d.]+) times the processor time .* with 128 and\s+512 inputs", README, re.DOTALL)
    ratios = [
        found["cpu_ratio_to_best_of_neural_tangents"]
        for n in (128, 512)
        for found in result[f"n = {n}"]["architectures"].values()
    ]
    assert len(ratios) == 10 and max(ratios) <= float(told) < max(ratios) + 0.1
