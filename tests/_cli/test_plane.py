"""The job `python -m ntkinfo plane` at a small size: what it prints and writes, and how it refuses."""

import csv

import numpy as np
import pytest

from ntkinfo import __main__

SMALL = ["--networks", "2", "--epochs", "12", "--records", "2", "--hidden", "4,3", "--kde-networks", "1"]


def test_it_writes_what_it_says(tmp_path, capsys, keep_settings):
    out = tmp_path / "plane"
    assert __main__.main(["plane", *SMALL, "--out", str(out), "--unit", "nats"]) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in out.iterdir()} - {"manifest.json", "report.html"}
    assert names == {"plane.csv", "plane.png", "estimators.png", "gradients.png", "training.png", "report.md"}
    page = (out / "report.md").read_text()
    assert all(f"![{name}]" in page for name in names if name.endswith(".png"))
    with (out / "plane.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Four estimators of two networks and one of a single one, at two epochs (0 and 12), in three layers.
    assert {row["epoch"] for row in rows} == {"0", "12"} and len(rows) == (4 * 2 + 1) * 2 * 3
    first = [row for row in rows if row["estimator"].startswith("30 bins, range of the activation")]
    end = [float(row["i_ty"]) for row in first if row["epoch"] == "12" and row["layer"].startswith("3")]
    assert f"{np.mean(end):.4g}" in printed
    assert max(float(row["i_xt"]) for row in rows) <= np.log(4096) + 1e-6
    assert min(float(row["distance"]) for row in rows if "kernel" not in row["estimator"]) > -1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "4,x"], "--hidden must be numbers of units"),
        (["--hidden", "0"], "--hidden must be numbers of units from 1"),
        (["--activation", "step"], "--activation must be one of"),
        (["--n-train", "5000"], "--n-train must be a whole number from 2 to 4096"),
        (["--epochs", "0"], "--epochs must be a whole number from 1"),
        (["--labels", "none"], "invalid choice"),
        (["--learning-rate", "1e30", "--epochs", "3"], "diverged at step"),
    ],
)
def test_bad_options_get_one_line_and_status_2(arguments, message, tmp_path, capsys, keep_settings):
    try:
        status = __main__.main(["plane", *SMALL, *arguments, "--out", str(tmp_path / "out")])
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2
    # Above it a slow machine may have shown a progress bar.
    assert message in error.splitlines()[-1]
