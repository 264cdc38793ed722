"""The job `python -m ntkinfo variational` at a small size, and the figures of a sweep."""

import csv
import dataclasses

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import __main__

SMALL = ["--n-train", "100", "--n-test", "60", "--betas", "1,30", "--steps", "20", "--hidden", "8", "--latent", "2"]


def test_it_writes_what_it_says(tmp_path, capsys, keep_settings):
    out = tmp_path / "variational"
    assert __main__.main(["variational", *SMALL, "--objectives", "vib,dual", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    names = {path.name for path in out.iterdir()} - {"manifest.json", "report.html"}
    assert names == {"sweep.csv", "plane.png", "error.png", "calibration.png", "dynamics.png", "report.md"}
    assert all(f"![{name}]" in (out / "report.md").read_text() for name in names if name.endswith(".png"))
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["objective"], float(row["beta"])) for row in rows] == [
        (o, b) for o in ("vib", "dual") for b in (1, 30)
    ]
    for row in rows:
        assert f"{float(row['i_xz_lower']):.4g}" in printed and row["residual"] == "" and row["failed"] == "-1"
    assert "The claim that the dual needs a fraction" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--betas", "1:x"], "--betas must be first:last:number"),
        (["--betas", "-1"], "--betas must be positive"),
        (["--objectives", "ib"], "--objectives must be one of"),
        (["--epsilon", "2"], "--epsilon must lie strictly between 0 and 1"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_options_get_one_line_and_status_2(arguments, message, tmp_path, capsys, keep_settings):
    arguments = [f"{arguments[0]}={arguments[1]}"]
    try:
        status = __main__.main(["variational", *SMALL, *arguments, "--out", str(tmp_path / "out")])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def made_sweep():
    """Two objectives at three trade-offs, as if they had been trained: what is drawn are the numbers in it."""
    names = [field.name for field in dataclasses.fields(ni.variational.Sweep)]
    rng = np.random.default_rng(0)
    values = {name: jnp.asarray(rng.uniform(0.1, 1.0, size=(2, 3, 1))) for name in names}
    during = {name: jnp.asarray(rng.uniform(0.1, 1.0, size=(2, 3, 1, 3))) for name in ("i_xz", "i_yz")}
    rest = {"beta": jnp.array([0.3, 3.0, 30.0]), "step": jnp.array([0, 5, 10]), "objectives": ("vib", "dual")}
    rest |= {"ceiling": jnp.log(40.0), "label_entropy": jnp.log(3.0), "failed": jnp.full((2, 3, 1), -1)}
    return ni.variational.Sweep(**values | during | rest)


def test_figures():
    sweep = made_sweep()
    ax = ni.plot.variational(sweep, unit="bits")
    points = ax.containers[1].lines[0].get_xydata()
    np.testing.assert_allclose(points[:, 0], sweep.i_xz_lower[1, :, 0] / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(points[:, 1], sweep.i_yz_lower[1, :, 0] / np.log(2), rtol=1e-6)
    ax = ni.plot.variational_error(sweep)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), sweep.error[0].mean(1))
    ax = ni.plot.dynamics(sweep, "dual")
    np.testing.assert_allclose(ax.lines[2].get_ydata(), sweep.i_xz[1, 2, 0])
    with pytest.raises(ValueError, match="must be one of 'vib', 'dual'"):
        ni.plot.dynamics(sweep, "ceb")
    plt.close("all")
