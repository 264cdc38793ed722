import dataclasses
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest

import ntkinfo as ni
from ntkinfo import __main__
from ntkinfo._cli import arguments, data_options, generalization, main, report
from ntkinfo.ensemble import _krylov
from tests.problems import network, problem

# The sizes of the other files here, whose programs are then the same.
SMALL = ["--n-train", "20", "--n-test", "8", "--depth", "1", "--times", "0,1:1000:4,inf"]


def test_the_main_job_writes_table_figures_and_page(tmp_path, capsys, keep_settings):
    finite = ["--finite", "4", "--width", "8", "--finite-steps", "50"]
    assert __main__.main([*SMALL, *finite, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "parameters and bounds (nats)" in printed and "PAC-Bayes-kl" in printed
    assert (
        "examples left out (nats)" in printed and "0-1 error forecast" in printed and "leave-one-out I(L;U)" in printed
    )
    assert "I(X;Z|D)" in printed and "ceilings: log m = 2.079 nats" in printed
    frame = pd.read_csv(tmp_path / "curve.csv")
    assert len(frame) == 6 and np.isinf(frame.t.iloc[-1]) and not frame.isna().any().any()
    page = (tmp_path / "report.md").read_text()
    for name in ("summary", "information", "plane", "divergence", "generalization", "finite_losses", "finite_geometry"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000 and f"({name}.png)" in page
    assert f"{frame.gibbs_mse.iloc[-1]:.6g}" in page and "4 networks of width 8" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(line.replace("\\|", "").count("|") == 4 for line in rows)


def test_the_same_numbers_as_the_library(tmp_path, keep_settings, undrawn):
    import jax

    import ntkinfo as ni
    from ntkinfo import architectures

    assert __main__.main([*SMALL, "--out", str(tmp_path)]) == 0
    data = ni.datasets.digits(20, 8)
    jax.config.update("jax_enable_x64", True)
    ens = ni.Ensemble.fit(architectures.network(depth=1), data.x_train, data.y_train)
    curve = ni.information.curve(ens, data.x_test, data.y_test, main.parse_times("0,1:1000:4,inf"))
    frame = pd.read_csv(tmp_path / "curve.csv")
    for name, column in curve.columns().items():
        np.testing.assert_allclose(frame[name], column, rtol=1e-9, atol=1e-12)


def test_npz_and_bits_and_several_classes(tmp_path, rng, capsys, keep_settings, undrawn):
    x, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    given = ["--data", str(tmp_path / "mine.npz"), "--depth", "1", "--times", "1,10", "--unit", "bits"]
    assert __main__.main([*given, "--out", str(tmp_path / "out")]) == 0
    assert "log m = 3.322 bits" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "out" / "curve.csv")
    assert {"input_information_stderr", "label_information_stderr"} <= set(frame.columns)


def test_what_is_said_where_examples_cannot_be_left_out(rng):
    import jax

    data = ni.datasets.digits(60, 30)
    net = network(outputs=1)
    x, y = np.asarray(data.x_train), np.asarray(data.y_train)
    ens = ni.Ensemble.fit(net, x, y)
    found = generalization.of(net, ens, data, np.array([0.0, 10.0, np.inf]), jax.random.key(0))
    assert found.reasons == () and found.n_pairs == 30
    # As the library says.
    forecast, left_out = ni.learning.forecast(ens), ni.cmi.leave_one_out(ens)
    assert f"{float(forecast.error):.4g} ± {float(forecast.stderr):.2g}" in found.table()
    assert f"I(L;U)   {float(left_out.information) / np.log(2):.4g}, bound" in found.table("bits")
    pairs = ni.cmi.supersample(net, x, y, found.t, draws=32, key=jax.random.key(0))
    assert f"{float(pairs.error[1]):.4g}" in found.table() and f"{float(pairs.bound[-1]):.4g}" in found.table()
    singular = ni.Ensemble.fit(net, x.repeat(2, axis=0), y.repeat(2, axis=0), singular="project")
    found = generalization.of(net, singular, data, np.array([10.0, np.inf]), jax.random.key(0))
    assert found.forecast is None and found.left_out is None and found.pairs is not None
    assert len(found.t) == 1 and "singular" in found.sentences() and "singular" in found.table()
    numbers = dataclasses.replace(data, task="regression")
    found = generalization.of(net, ens, numbers, np.array([10.0]), jax.random.key(0))
    assert found.pairs is None and "labels here are numbers" in found.table() and found.forecast is not None


def test_times():
    np.testing.assert_allclose(main.parse_times("inf,0,1:100:3,10"), [0, 1, 10, 100, np.inf])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--data", "nowhere"],
            "--data must be digits, gaussian, fashion, a .csv or .npz file or a folder of MNIST files; got 'nowhere'",
        ),
        (["--data", "nowhere.npz"], "there is no file nowhere.npz"),
        (["--data", "gaussian", "--task", "parity"], "--task must be regression"),
        (["--data", "gaussian", "--architecture", "conv"], "--architecture conv needs images"),
        (["--task", "sorting"], "invalid choice: 'sorting'"),
        (["--times", "soon"], "--times must be numbers"),
        (["--times", "5:1:3"], "0 < first < last"),
        (["--times=-1"], "--times must be from 0 to inf"),
        (["--times", "inf"], "--times must hold at least one finite time"),
        (["--delta", "1"], "--delta must lie strictly between 0 and 1; got '1'"),
        (["--times", "nan"], "--times must be from 0 to inf"),
        (["--depth", "0"], "--depth must be a whole number from 1 to 100; got '0'"),
        (["--w-std", "nan"], "--w-std must be from 1e-06 to 1e+06; got 'nan'"),
        (["--n-train", "9999"], "at most 1797"),
        (["--n-test", "0"], "--n-test must be a whole number from 1"),
        (["--finite", "3"], "--finite must be 0, or at least 4"),
        (["--noise", "0", *SMALL], "--noise must be from 1e-12 to 1e+12; got '0'"),
        (["--checkpoint", "folder", *SMALL], "--checkpoint keeps finite networks and what --engine krylov"),
        (["--max-steps", "50", *SMALL], "--max-steps is of --engine krylov"),
        (["--storage", "float32", "--engine", "dense", *SMALL], "--storage is of --engine krylov"),
        (["--activation", "linear", *SMALL, "--n-train", "80"], "singular"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
        (["--activaton=relu"], "did you mean --activation?"),
        (["--activation", "rellu"], "did you mean relu?"),
        (["--activation", "tanh"], "its kernel has no closed form; erf"),
        (["--architecture", "densee"], "did you mean dense?"),
        (["--data", "digts"], "did you mean digits?"),
        (["--n-train", "1796", "--n-test", "100"], "--n-t"),
    ],
)
def test_bad_options_get_one_line_and_status_2(given, message, tmp_path, capsys, keep_settings):
    try:
        status = __main__.main([*given, "--out", str(tmp_path / "out")])
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error and error.count("\n") == 1 and error.startswith("ntkinfo: error: ")


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "ntkinfo", "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--activation" in done.stdout


@pytest.mark.parametrize(("entropy", "said"), [(None, "0.3 nats, if labels are Gaussian, by"), (1.4, "0.3 nats, by")])
def test_the_report_says_for_which_labels_its_bound_holds(rng, entropy, said):
    x, _, x_test, _ = problem(rng)
    ens = ni.Ensemble.fit(network(), x, rng.normal(size=(len(x), 1)))
    y_test = rng.normal(size=(len(x_test), 1))
    curve = ni.information.curve(ens, x_test, y_test, [1.0, 10.0], label_entropy=entropy)
    page = report.Report(curve, None, None, 0.0, None, None)
    assert f"at least {said}" in page._labels(1.0, "nats", {"label_information": 0.3})


def test_columns_of_a_table_reach_the_kernel_alike(tmp_path, rng):
    path = tmp_path / "table.npz"
    np.savez(path, x=rng.normal(size=(40, 2)) * [1.0, 1e-4], y=rng.normal(size=40))
    spread = {}
    for scale in ("auto", "none"):
        data = data_options.dataset(arguments.parse(None, ["--data", str(path), "--scale", scale]))
        spread[scale] = data.x_train.std(axis=0)
    np.testing.assert_allclose(spread["auto"], 1)
    assert spread["none"][1] < 1e-3
    with pytest.warns(UserWarning, match="scale='columns'"):
        data_options.dataset(arguments.parse(None, ["--data", str(path), "--scale", "global"]))


@pytest.mark.slow
def test_many_data_are_written_as_they_come_and_read_again(tmp_path, capsys, keep_settings):
    given = ["--engine", "krylov", "--n-train", "200", "--n-test", "12", "--activation", "relu", "--depth", "1"]
    given += ["--times", "0,1:1e4:4", "--checkpoint", str(tmp_path / "kept"), "--out", str(tmp_path / "out")]
    given += ["--max-steps", "39", "--storage", "float32"]
    assert __main__.main(given) == 0
    told = capsys.readouterr().out
    assert "largest errors over all times" in told and "KL params" not in told
    table = pd.read_csv(tmp_path / "out" / "curve.csv")
    assert {"output_divergence_truncation", "action_truncation", "input_information_lower"} <= set(table)
    page = (tmp_path / "out" / "report.md").read_text()
    assert "Exact predictive" not in page and "curvature part needs all eigenvectors" in page
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npz")}
    # What all rows share, one block of rows, one batch of predictions, and sums.
    assert len(kept) == 4
    assert '"max_steps": "39"' in (tmp_path / "kept" / "curve" / "predictions" / "arguments.json").read_text()
    assert __main__.main(given) == 0
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.npz")}
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "out" / "curve.csv"))


def test_the_engines_are_those_of_the_library():
    # Features are of kernels given by them, which a job on data has none of.
    assert (*main.ENGINES, "features") == ni.ensemble.ENGINES
    assert main.STORAGES == _krylov.STORAGES


def test_a_distance_is_told_as_far_as_it_is_known():
    t, squared = np.array([0.0, 1.0, 10.0, np.inf]), np.array([0.0, 4.0, 16.0, 25.0])
    curve = types.SimpleNamespace(output_divergence=types.SimpleNamespace(truncation=0.0))
    page = report.Report(curve, *[None] * 5)

    def told(errors):
        return page._distance({"t": t, "parameter_distance": squared, "parameter_distance_truncation": errors})

    assert told(np.array([0.0, 0.1, 0.2, 1.0])) == (
        "- The parameters have travelled a root mean square distance of 5 ± 0.1"
    )
    assert told(np.array([0.0, 0.1, 0.8, 30.0])).endswith(
        "distance of 4 ± 0.1 up to t = 10, and how far at the end of the times shown is not known"
    )
    assert "is not known: its error" in told(np.array([0.0, 1.0, 8.0, 30.0]))
    exact = page._distance({"t": t, "parameter_distance": squared})
    assert exact == "- The parameters have travelled a root mean square distance of 5"
