"""What is made of a job's one description: parsers, defaults, help, records, the command that repeats a run."""

import dataclasses
import shlex

import pytest

from ntkinfo import __main__, architectures
from ntkinfo._cli import activations, arguments
from ntkinfo._numerics.mlp import ACTIVATIONS as TRAINED

ARGUMENT = {"network": ["mine.py"], "bottleneck": ["mine.csv"], "reproduce": ["2006.04641"]}


@pytest.mark.parametrize("job", [None, *arguments.JOBS])
def test_every_default_is_shown_and_every_option_recorded(job, capsys):
    with pytest.raises(SystemExit) as stopped:
        __main__.main([*([job] if job else []), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    options = arguments.parse(job, ARGUMENT.get(job, []))
    line = arguments.line(options)
    for field in dataclasses.fields(options):
        assert field.type not in ("Any", None) and field.metadata["help"]
        if not field.metadata["positional"]:
            assert arguments.flag(field.name) in shown and f"({arguments.default_of(field)})" in shown
        assert (f"{field.name} " in line) != field.metadata["place"] or field.name in ("force", "out")


@pytest.mark.parametrize("job", [*arguments.JOBS])
def test_the_command_repeats_a_run(job):
    given = [*ARGUMENT.get(job, []), "--unit=nats", "--out=elsewhere", "--force"]
    given += {"curve": ["--times=0,1 ", "--w-std=2"], "plane": ["--hidden=4,3"]}.get(job, [])
    options = arguments.parse(job, given)
    command = shlex.split(arguments.command(job, options))
    assert command[:3] == ["python", "-m", "ntkinfo"] and "elsewhere" not in " ".join(command)
    words = command[4:] if job != "curve" else command[3:]
    again = arguments.parse(job, words)
    assert dataclasses.replace(again, out=options.out, force=True) == options


def test_versions(capsys):
    for job in (None, "plane"):
        with pytest.raises(SystemExit) as stopped:
            __main__.main([*([job] if job else []), "--version"])
        assert stopped.value.code == 0
        said = capsys.readouterr().out
        assert said.startswith("ntkinfo ") and "JAX " in said and "device cpu" in said


def test_a_job_that_there_is_none_of(capsys):
    assert __main__.main(["variatonal"]) == 2
    error = capsys.readouterr().err
    assert "no job 'variatonal'; did you mean variational?" in error and error.count("\n") == 1


def test_the_main_job_has_a_name_too():
    assert arguments.parse("curve", ["--depth=3"]) == arguments.parse(None, ["--depth=3"])


def test_one_list_of_activations():
    for column, has in enumerate((architectures.ACTIVATIONS, TRAINED)):
        assert {name for name, missing in activations.ACTIVATIONS.items() if missing[column] is None} == set(has)
    assert "tanh" in activations.listed("closed forms")
    assert activations.reader("trained layers")("tanh") == "tanh"


def test_messages_of_the_library_name_what_was_typed():
    said = arguments.as_typed("`n_train` must be at most 5; `names`, `data.x` and `n_clusters` not", "variational")
    assert said == "--n-train must be at most 5; --objectives, `data.x` and `n_clusters` not"
