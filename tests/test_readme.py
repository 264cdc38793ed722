import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "input_information" in done.stdout and (tmp_path / "summary.png").stat().st_size > 10_000


def test_every_file_it_names_is_there():
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:benchmarks|notebooks)/\w+\.\w+)`|\]\(((?:benchmarks|notebooks)/[\w.]+)\)", README)
    assert named and all((root / (code or link)).exists() for code, link in named)
