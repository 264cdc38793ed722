"""Every option of every job with values nobody should give: one line and status 2, or a result; never a traceback."""

import argparse

import pytest

from ntkinfo import __main__
from ntkinfo._cli import arguments

SMALL = {
    None: ["--n-train=20", "--n-test=8", "--depth=1", "--times=0,10"],
    "plane": ["--networks=1", "--epochs=2", "--records=2", "--hidden=3", "--kde-networks=0"],
    "network": ["mine.py", "--n-train=20", "--n-test=8", "--data=digits"],
    "bottleneck": ["mine.csv", "--betas=1,4"],
    "variational": ["--n-train=40", "--n-test=20", "--betas=1", "--steps=2", "--hidden=4", "--latent=2",
                    "--objectives=vib"],
    "reproduce": ["2006.04641", "--figure=bifurcation"],
}  # fmt: skip
HOSTILE = ("", " ", "x", "-1", "nan", "inf", "-inf", "1e308", "1e-320", "18446744073709551615", "9" * 5000, "1:2:3:4",
           "1:2:99999999999", ",", "0x10", "١", "1\n2")  # fmt: skip
PLACES = ("", " ", "a\0b", "file", "nowhere/\0", "file/below")
# What a parser accepts at its ends must be computed, too, or refused by the library.
ENDS = {
    (None, "--w-std"): ("1e6", "1e-6"),
    (None, "--b-std"): ("1e6",),
    (None, "--noise"): ("1e12", "1e-12"),
    (None, "--seed"): (str(arguments.MOST_SEED),),
    (None, "--n-train"): ("10000000",),
}


# Hostile in figures, too; with any other option those of a small job are the same (biases do there what weights do).
DRAWN = ("--w-std", "--noise", "--times", "--betas", "--learning-rate", "--unit")


# The main job under its name is the main job.
JOBS = (None, *(job for job in arguments.JOBS if job != "curve"))
# What jobs with an argument are given.
MINE = """
import numpy as np
import ntkinfo as ni

network = ni.networks.from_apply(lambda p, x: np.float32(1) * (x @ p), np.full((64, 1), 0.1))
"""


def cases():
    for job in JOBS:
        for action in arguments.parser(job)._actions:
            if not action.option_strings or action.nargs == 0:
                continue
            option = action.option_strings[-1]
            if action.choices is not None:
                values = ("", "zzz", "9" * 5000)
            elif action.type in (arguments.path, arguments.name):
                values = PLACES
            else:
                values = (*HOSTILE, *ENDS.get((job, option), ()))
            yield from (pytest.param(job, option, value, id=f"{job}{option}={value[:12]!r}") for value in values)


def test_every_option_is_tried():
    tried = {(case.values[0], case.values[1]) for case in cases()}
    for job in JOBS:
        actions = [action for action in arguments.parser(job)._actions if action.nargs != 0 and action.option_strings]
        assert {(job, action.option_strings[-1]) for action in actions} == {pair for pair in tried if pair[0] == job}
        # Text that nothing reads is not an option: what it accepts is said by its type.
        for action in actions:
            assert action.type is not None or action.choices or isinstance(action.default, str), action.option_strings


@pytest.mark.parametrize(("job", "option", "value"), list(cases()))
def test_no_value_of_an_option_ends_in_a_traceback(
    job, option, value, tmp_path, monkeypatch, capsys, keep_settings, recwarn, request
):
    if option not in DRAWN:
        request.getfixturevalue("undrawn")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("of the user")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine.csv").write_text(",a,b\nx,3,1\ny,1,4\n")
    given = [*([job] if job else []), *SMALL[job], "--out=out", f"{option}={value}"]
    try:
        status = __main__.main(given)
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status in (0, 2), error
    assert (tmp_path / "file").read_text() == "of the user"
    if status == 2:
        last = error.splitlines()[-1]
        assert last.startswith("ntkinfo") and ": error: " in last and len(last) < 500
        assert "Traceback" not in error
    else:
        assert (tmp_path / "out" / "report.md").is_file()


def test_what_nobody_foresaw_is_one_line_as_well(monkeypatch, capsys, tmp_path):
    def fail(options):
        raise ZeroDivisionError("by zero\nof all things")

    monkeypatch.setattr(__main__.main_job, "run", fail)
    assert __main__.main(["--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ntkinfo: error: ZeroDivisionError: by zero of all things (NTKINFO_DEBUG=1")
    assert error.count("\n") == 1
    monkeypatch.setenv("NTKINFO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        __main__.main(["--out", str(tmp_path / "out")])


def test_types_say_what_they_accept():
    for read, text in ((arguments.integer(1, 9), "10"), (arguments.number(0, 1, ends=False), "1")):
        with pytest.raises(argparse.ArgumentTypeError, match="must "):
            read(text)
    assert arguments.integer(1, 9)("9") == 9 and arguments.number(0, 1)("1") == 1.0
