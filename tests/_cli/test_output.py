"""The folder of a job, the cache of compiled programs, and what reaches the user's terminal."""

import hashlib
import json
import os
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from ntkinfo import __main__
from ntkinfo._cli import cache, output, plane
from ntkinfo._cli.output import Output

NAMES = ("a.csv", "b.png", "report.md")


def test_a_folder_never_holds_results_of_two_runs(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds mine.txt. .* or pass --force, which leaves them alone"):
        Output(tmp_path, NAMES)
    first = Output(tmp_path, NAMES, force=True)
    for name in NAMES:
        first.text(name, "first")
    assert first.finish() == f"\nWritten to {tmp_path}: a.csv, b.png, report.md"
    second = Output(tmp_path, NAMES, force=True)
    second.text("a.csv", "second")
    assert (tmp_path / "b.png").read_text() == "first"
    assert second.finish() == f"\nWritten to {tmp_path}: a.csv"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "manifest.json", "mine.txt"]
    assert (tmp_path / "a.csv").read_text() == "second" and (tmp_path / "mine.txt").read_text() == "mine"


def test_files_of_others_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(ValueError, match=r"--out must hold no files of others; .* holds report\.md"):
        Output(tmp_path, NAMES)
    (tmp_path / "report.md").unlink()
    # A link that leads nowhere is somebody's as well.
    (tmp_path / "a.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds a\.csv"):
        Output(tmp_path, NAMES)


def test_forced_files_are_replaced_and_what_is_the_runs_own_is_no_file_of_others(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / ".hidden").write_text("of an editor")
    with pytest.raises(ValueError, match=r"pass --force, which replaces report\.md"):
        Output(tmp_path, NAMES, keep=tmp_path / "checkpoint" / "below")
    out = Output(tmp_path, NAMES, keep=tmp_path / "checkpoint", force=True, about={"command": "of a test"})
    out.text("report.md", "new")
    out.finish()
    Output(tmp_path, NAMES, keep=tmp_path / "checkpoint")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["command"] == "of a test"
    digest = hashlib.sha256(b"new").hexdigest()
    assert manifest["files"] == {"report.md": {"bytes": 3, "sha256": digest}}


def test_folders_of_versions_before_are_gone_on_from(tmp_path):
    (tmp_path / ".ntkinfo.json").write_text('["a.csv", "b.png"]')
    for name in ("a.csv", "b.png"):
        (tmp_path / name).write_text("of a run")
    out = Output(tmp_path, NAMES)
    out.text("a.csv", "new")
    out.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "manifest.json"]


def test_links_are_replaced_and_not_written_through(tmp_path):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    Output(folder, NAMES).text("a.csv", "first")
    elsewhere.write_text("mine")
    (folder / "a.csv").unlink()
    (folder / "a.csv").symlink_to(elsewhere)
    Output(folder, NAMES).text("a.csv", "second")
    assert elsewhere.read_text() == "mine"
    assert (folder / "a.csv").read_text() == "second" and not (folder / "a.csv").is_symlink()


@pytest.mark.parametrize(
    "content", ["not json", "{}", '["../mine.txt", "/etc/passwd", 3, ".ntkinfo.json"]', "[" * 10**5,
                '{"files": {"../mine.txt": {}}}', '{"files": ["../mine.txt"]}']
)  # fmt: skip
@pytest.mark.parametrize("name", [".ntkinfo.json", "manifest.json"])
def test_a_list_of_files_is_not_trusted(tmp_path, content, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (folder / name).write_text(content)
    out = Output(folder, NAMES, force=True)
    assert out.earlier == set()
    out.finish()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    Output(tmp_path, NAMES).text("a.csv", "first")
    with pytest.raises(OSError, match="full"):
        Output(tmp_path, NAMES).write("a.csv", lambda path: (path.write_text("half"), _fail()))
    assert (tmp_path / "a.csv").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "manifest.json"]


def _fail():
    raise OSError("the disk is full")


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    with pytest.raises((ValueError, OSError), match="--out"):
        Output(tmp_path / place, NAMES)


def test_plane_says_what_is_missing_before_it_trains(tmp_path, monkeypatch, capsys, keep_settings):
    monkeypatch.setitem(sys.modules, "ntkinfo.stax", None)
    monkeypatch.setattr("ntkinfo.finite.train_layers", lambda *a, **k: pytest.fail("trained"))
    import ntkinfo

    monkeypatch.delitem(vars(ntkinfo), "stax", raising=False)
    assert __main__.main(["plane", "--out", str(tmp_path / "out")]) == 2
    assert "stax" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_figures_are_asked_for_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="figures need matplotlib"):
        output.require_figures()


def test_plane_keeps_what_was_measured_before_a_fault(tmp_path, monkeypatch, capsys, keep_settings):
    monkeypatch.setattr(plane, "_infinite", lambda *_: _fail())
    out, folder = tmp_path / "out", tmp_path / "checkpoint"
    given = ["plane", "--networks=1", "--epochs=2", "--records=2", "--hidden=3", "--kde-networks=0"]
    given += [f"--out={out}", f"--checkpoint={folder}"]
    assert __main__.main(given) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert len((out / "plane.csv").read_text().splitlines()) > 4
    assert list(folder.glob("chunk_*.npz"))


def test_main_goes_on_from_a_checkpoint(tmp_path, capsys, keep_settings, monkeypatch, undrawn):
    given = ["--n-train=20", "--n-test=8", "--depth=1", "--times=0,10", "--finite=4", "--width=8", "--finite-steps=50"]
    given += [f"--out={tmp_path / 'out'}", f"--checkpoint={tmp_path / 'checkpoint'}"]
    assert __main__.main(given) == 0
    first = (tmp_path / "out" / "report.md").read_text()
    assert len(list((tmp_path / "checkpoint").glob("chunk_*.npz"))) == 4
    monkeypatch.setattr("ntkinfo.finite._gradient_descent.train_chunk", lambda *_: pytest.fail("trained again"))
    assert __main__.main(given) == 0
    second = (tmp_path / "out" / "report.md").read_text()
    assert [line for line in first.splitlines() if "took" not in line] == [
        line for line in second.splitlines() if "took" not in line
    ]


def test_dependencies_do_not_speak_to_the_user(monkeypatch, capsys, tmp_path):
    def noisy(options):
        warnings.simplefilter("always")
        for i in range(3):
            warnings.warn("old name", DeprecationWarning, stacklevel=1)
            warnings.warn("old name", FutureWarning, stacklevel=1)
            warnings.warn("two\nlines of `n_train`", UserWarning, stacklevel=1)
            warnings.warn(f"number {i % 2}", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(__main__.main_job, "run", noisy)
    assert __main__.main([]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"ntkinfo: warning: {text}" for text in ("two lines of --n-train", "number 0", "number 1")]


@pytest.fixture
def cache_of_programs():
    """As users have it: the tests do without."""
    jax.config.update("jax_enable_compilation_cache", True)
    yield
    jax.config.update("jax_enable_compilation_cache", False)


def test_the_cache_of_programs(monkeypatch, tmp_path, cache_of_programs):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # The user's own place wins, and so does the wish for none.
    with cache.used() as place:
        assert place is None and jax.config.jax_compilation_cache_dir == before
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    with cache.used() as place:
        assert place.parent == tmp_path / "ntkinfo" / "jax" and place.is_dir()
        assert place.name.startswith(jax.__version__)
        assert jax.config.jax_compilation_cache_dir == str(place)
    assert jax.config.jax_compilation_cache_dir == before
    with cache.used(False):
        assert not jax.config.jax_enable_compilation_cache
    assert jax.config.jax_enable_compilation_cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder().is_relative_to(tmp_path / "home" / ".cache" / "ntkinfo" / "jax")
    # A home that cannot be written costs the cache and nothing else.
    (tmp_path / "home").write_text("a file")
    with cache.used() as place:
        assert place is None


@pytest.mark.timeout(900)
def test_a_second_run_reads_its_programs_in_silence(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    # Every program gets a file, not those that took long on a busy machine.
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    given = ["--n-train=20", "--n-test=8", "--depth=1", "--times=0,10", f"--out={tmp_path / 'out'}"]
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "ntkinfo", *given], capture_output=True, text=True, timeout=400, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0 and done.stderr == ""
        files = {path for path in (tmp_path / "cache" / "ntkinfo" / "jax").rglob("*-cache")}
        runs.append((done.stdout, files))
    (first, written), (second, kept) = runs
    assert first == second and written == kept and written


def test_the_page_says_nothing_of_places(tmp_path, keep_settings, undrawn):
    given = ["--n-train=20", "--n-test=8", "--depth=1", "--times=0,10", f"--out={tmp_path / 'out'}"]
    assert __main__.main(given) == 0
    page = (tmp_path / "out" / "report.md").read_text()
    assert str(tmp_path) not in page and "no_compilation_cache" not in page and "times 0,10" in page
    assert np.isfinite(float(page.split("kernels and curve took ")[1].split()[0]))
