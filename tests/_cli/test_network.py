"""The job `python -m ntkinfo network`: the examples of each library, trained and saved; what is no network."""

import importlib.util
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ntkinfo as ni
from ntkinfo import __main__
from ntkinfo._cli import network

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDS = {"linen": "flax", "nnx": "flax", "equinox_mlp": "equinox", "haiku_mlp": "haiku", "plain": None}


@pytest.fixture
def saved(tmp_path, monkeypatch, request):
    """A copy of an example, trained."""
    name = request.param
    if NEEDS[name] is not None:
        pytest.importorskip(NEEDS[name])
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "training", raising=False)
    training = importlib.import_module("training")
    # Fewer of both: the job is what is tried.
    monkeypatch.setattr(training, "data", lambda: ni.datasets.digits(n_train=40, n_test=30, dtype=np.float32))
    monkeypatch.setattr(training.descend, "__kwdefaults__", {"steps": 3, "rate": 0.5})
    runpy.run_path(str(tmp_path / f"{name}.py"), run_name="__main__")
    yield tmp_path / f"{name}.py"
    sys.modules.pop("training", None)


def test_every_example_is_tried():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *NEEDS,
        "training",
        "explorer",
    }  # see tests/test_explorer.py


@pytest.mark.parametrize("saved", [*NEEDS], indirect=True)
def test_a_saved_network_of_each_library_is_read(saved, keep_settings):
    import jax

    jax.config.update("jax_enable_x64", False)
    net, data = network.read(saved)
    assert isinstance(net, ni.networks.Network) and len(data.x_train) == 40 and len(data.x_test) == 30
    outputs = np.asarray(net(data.x_test))
    assert outputs.shape == (30, 1) and np.isfinite(outputs).all() and outputs.std() > 0


# The report compiles for each anew, and takes what all of them have become: a function and parameters.
JOBS = [pytest.param(name, marks=() if name in ("nnx", "plain") else pytest.mark.slow) for name in NEEDS]


@pytest.mark.parametrize("saved", JOBS, indirect=True)
def test_the_report_of_a_saved_network(saved, tmp_path, capsys, keep_settings):
    import jax

    jax.config.update("jax_enable_x64", False)
    out = tmp_path / "out"
    given = ["network", str(saved), "--noise=0.1", "--prior-variance=0.5", f"--out={out}"]
    assert __main__.main([*given, "--origin=split", "--seed=1"]) == 0
    printed = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "report.csv", "network.png", "report.md", "report.html", "manifest.json",
    }  # fmt: skip
    frame = pd.read_csv(out / "report.csv").set_index("quantity")["value"]
    assert f"{frame['log evidence']:.4g}" in printed and 0 < frame["PAC-Bayes-kl"] <= 1
    # In float64, of the network as it was saved.
    jax.config.update("jax_enable_x64", False)
    net, data = network.read(saved)
    jax.config.update("jax_enable_x64", True)
    assert len(data.x_train) == 40
    kernel = ni.kernels.empirical(net, around="laplace", prior_variance=0.5, origin="split")
    x, y = data.x_train.astype(float), data.y_train.astype(float)
    post = ni.Posterior.fit(kernel, x, y, noise=0.1, mean=net)
    np.testing.assert_allclose(frame["log evidence"], float(post.log_marginal_likelihood), rtol=1e-9)
    assert frame["test error"] == np.mean(np.sign(np.asarray(net(data.x_test))) != data.y_test)


PLAIN = "import numpy as np\nimport ntkinfo as ni\nnet = ni.networks.from_apply(lambda p, x: x @ p, np.ones((64, 1)))\n"


@pytest.mark.parametrize(
    ("name", "text", "given", "message"),
    [
        ("mine.pkl", "", [], "a pickle would run whatever it holds"),
        ("mine.py", "x = 1", [], "mine.py must define `network`"),
        ("mine.py", "1 / 0", [], "mine.py cannot be run: ZeroDivisionError"),
        ("mine.py", "def network(: pass", [], "mine.py cannot be run: SyntaxError"),
        ("mine.py", "import nowhere_at_all", [], "No module named 'nowhere_at_all'"),
        ("mine.py", "network = 3", [], "`network` must be a `Network` with parameters"),
        ("mine.py", PLAIN + "network = net\ndata = 3", [], "--data must be a `Dataset`"),
        (
            "mine.py",
            PLAIN + "network = net\ndata = ni.datasets.digits(20, 10)",
            ["--n-train=10"],
            "--n-train belongs to --data; mine.py brings data of its own",
        ),
        ("mine.py", PLAIN + "network = net", ["--data=digit"], "did you mean digits?"),
        ("mine.py", PLAIN + "network = net", ["--noise=fitt"], "--noise must be from 1e-12 to 1e+12"),
    ],
)
def test_what_is_no_network_gets_one_line(name, text, given, message, tmp_path, capsys, keep_settings):
    (tmp_path / name).write_text(text)
    try:
        status = __main__.main(["network", str(tmp_path / name), *given, f"--out={tmp_path / 'out'}"])
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and message in error.splitlines()[-1] and not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_and_a_file_that_leaves_nothing_behind(tmp_path, capsys):
    assert __main__.main(["network", str(tmp_path / "mine.py")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text(PLAIN + "def network():\n    return net\n")
    before = list(sys.path), set(sys.modules)
    net, data = network.read(tmp_path / "mine.py")
    assert net.n_parameters == 64 and data is None
    assert list(sys.path) == before[0] and not [name for name in set(sys.modules) - before[1] if "mine" in name]
