"""The options of the command line: each job describes its own once, with types, and all else is made of that.

A job is a file with a dataclass `Options`, whose fields are made by `option`, and a function `run(options)`. Parsers,
help, defaults, the line of options in reports and the command that repeats a run come from these fields.
"""

import argparse
import dataclasses
import difflib
import importlib
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Jobs by their first word, None for a call without one: the file, and what the job does.
JOBS = {
    "curve": ("main", "Information in the infinite ensemble of infinitely wide networks, over the time of training."),
    "network": ("network", "What one trained network of Flax, Equinox, Haiku or a plain function knows about data."),
    "bottleneck": ("bottleneck", "The information bottleneck of a table of counts or probabilities."),
    "plane": ("plane", "Layers of networks trained on the 12-bit task, in the information plane."),
    "variational": ("variational", "Variational bottlenecks on images, over their trade-offs."),
    "reproduce": ("reproduce", "Figures of papers, computed again, with verdicts by rule."),
}
# Seeds of NumPy and of JAX's keys in either precision.
MOST_SEED = 2**32 - 1
# More values on one axis are a slip of the keyboard.
MOST_VALUES = 100_000


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One clear line instead of the usage, which --help shows."""
        message = re.sub(r"^argument ([\w-]+)(?:/[\w-]+)?: must", r"\1 must", one_line(message, 60))
        message = re.sub(r"^argument (--[\w-]+): ", r"\1: ", message)
        self.exit(2, f"{self.prog}: error: {message}{self._meant(message)} (see --help)\n")

    def _meant(self, message: str) -> str:
        """What a word that is no option, or no choice, is near to."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            return did_you_mean(unknown[1], [flag for action in self._actions for flag in action.option_strings])
        wrong = re.match(r"(--[\w-]+): invalid choice: '(.*?)'", message)
        if wrong:
            choices = next((a.choices for a in self._actions if wrong[1] in a.option_strings), None)
            return did_you_mean(wrong[2], choices or ())
        return ""


class Version(argparse.Action):
    """--version: ntkinfo, JAX, Python and the device that it computes on."""

    def __init__(self, option_strings, dest, **_):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="versions and device, and exit")

    def __call__(self, parser, *_):
        """Prints them and exits."""
        from ntkinfo._cli.output import versions

        print(", ".join(f"{name} {value}" for name, value in versions().items()))
        parser.exit()


def option(
    default: Any,
    read: Callable[[str], Any] | None,
    help: str,
    *,
    group: str = "computation",
    choices: Sequence[str] | None = None,
    default_text: str | None = None,
    place: bool = False,
    positional: bool = False,
    also: Sequence[str] = (),
) -> Any:
    """The field of one option: its default, what reads its text, and what it says.

    Args:
      default: the value where it is not given; False makes it a switch.
      read: text to value, raising `argparse.ArgumentTypeError`; None for `choices` and for text that the job reads.
      help: what it is.
      group: its heading in the help.
      choices: the only accepted words.
      default_text: the default in words, where the value does not say it.
      place: whether it says where things lie, and nothing about the result.
      positional: whether it is given without a name.
      also: what the library calls it, for its messages.
    """
    described = {"read": read, "help": help, "group": group, "choices": choices, "default_text": default_text,
                 "place": place, "positional": positional, "also": tuple(also)}  # fmt: skip
    if positional:
        return dataclasses.field(kw_only=False, metadata=described)
    return dataclasses.field(default=default, kw_only=True, metadata=described)


def path(text: str) -> Path:
    """As `name`, a file or folder."""
    return Path(name(text))


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """The options that every job has: unit, folders, and the cache of compiled programs."""

    unit: str = option("nats", None, "of figures and of the printed table", group="output", choices=("nats", "bits"))
    out: Path = option(Path("ntkinfo-report"), path, "folder to write", group="output", place=True)
    force: bool = option(
        False, None, "write into a folder with files of others; those under names of this job are replaced",
        group="output", place=True,
    )  # fmt: skip
    no_compilation_cache: bool = option(
        False, None, "do not keep compiled programs in ~/.cache/ntkinfo/jax (or $XDG_CACHE_HOME/ntkinfo/jax, or where "
        "$JAX_COMPILATION_CACHE_DIR says), which spares later runs most of their compilation",
        group="output", place=True,
    )  # fmt: skip


def checkpoint_option(resumes: str) -> Any:
    """The option of jobs that go on from where they were stopped."""
    return option(None, path, f"folder to go on from: {resumes}", group="output", default_text="none", place=True)


def out_option(folder: str) -> Any:
    """The folder that a job writes."""
    return option(Path(folder), path, "folder to write", group="output", place=True)


def options_of(job: str | None) -> type[OutputOptions]:
    """The description of a job's options."""
    return importlib.import_module(f"ntkinfo._cli.{JOBS[job or 'curve'][0]}").Options


def parser(job: str | None = None) -> Parser:
    """The parser of a job of `JOBS`; of None that of the main job, called without its name, which lists the others."""
    described = options_of(job)
    file, what = JOBS[job or "curve"]
    epilog = getattr(importlib.import_module(f"ntkinfo._cli.{file}"), "EPILOG", "")
    if job is None:
        jobs = "\n".join(f"  ntkinfo {name:12} {does}" for name, (_, does) in JOBS.items())
        epilog = f"jobs (each has its own --help; without a name: curve):\n{jobs}\n\n{epilog}"
    made = Parser(
        prog="ntkinfo" if job is None else f"ntkinfo {job}", description=what, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--version", action=Version)
    groups: dict[str, Any] = {}
    # Where things go stands last in the help, though it is common to all.
    for field in sorted(dataclasses.fields(described), key=lambda field: field.metadata["group"] == "output"):
        about = field.metadata
        text = f"{about['help']} ({default_of(field)})".replace("%", "%%")
        if about["positional"]:
            made.add_argument(field.name, type=about["read"], help=about["help"].replace("%", "%%"))
            continue
        if about["group"] not in groups:
            groups[about["group"]] = made.add_argument_group(about["group"])
        group = groups[about["group"]]
        if field.default is False:
            group.add_argument(flag(field.name), action="store_true", help=text)
            continue
        kind = {} if about["read"] is None else {"type": about["read"]}
        group.add_argument(flag(field.name), default=field.default, choices=about["choices"], help=text, **kind)
    return made


def default_of(field: dataclasses.Field) -> str:
    """An option's default in words."""
    words = field.metadata["default_text"]
    return f"default: {words if words is not None else 'off' if field.default is False else field.default}"


def parse(job: str | None, given: Sequence[str]) -> Any:
    """The options of a job, as its dataclass."""
    return options_of(job)(**vars(parser(job).parse_args(given)))


def flag(name: str) -> str:
    """What an option is called on the command line."""
    return f"--{name.replace('_', '-')}"


def line(options: OutputOptions) -> str:
    """All options that say anything about the result, for the record of a report."""
    shown = (field.name for field in dataclasses.fields(options) if not field.metadata["place"])
    return ", ".join(f"{name} {getattr(options, name)}" for name in shown)


def command(job: str, options: OutputOptions) -> str:
    """The command that repeats a run: what differs from the defaults, but for the places."""
    fields = dataclasses.fields(options)
    words = ["python", "-m", "ntkinfo", *([] if job == "curve" else [job])]
    words += [str(getattr(options, field.name)) for field in fields if field.metadata["positional"]]
    for field in fields:
        value = getattr(options, field.name)
        if field.metadata["positional"]:
            continue
        if not field.metadata["place"] and value != field.default:
            # One word: a value may begin with a dash.
            words.append(flag(field.name) if value is True else f"{flag(field.name)}={value}")
    return shlex.join(words)


def as_typed(text: str, job: str | None) -> str:
    """A message of the library, with arguments that are options here named as they are typed."""
    for field in dataclasses.fields(options_of(job)):
        shown_name = field.name.upper() if field.metadata["positional"] else flag(field.name)
        for name in (field.name, *field.metadata["also"]):
            text = text.replace(f"`{name}`", shown_name)
    return text


def did_you_mean(word: str, known) -> str:
    """A question that names the nearest of the known words; nothing where none is near."""
    near = difflib.get_close_matches(word, [str(each) for each in known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def integer(least: int, most: int) -> Callable[[str], int]:
    """What an option of whole numbers accepts."""

    def read(text: str) -> int:
        try:
            # Digits of other alphabets are digits to Python.
            value = int(text) if text.isascii() else None
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}; got {shown(text)}")
        return value

    return read


def number(low: float, high: float, *, ends: bool = True) -> Callable[[str], float]:
    """What an option of real numbers accepts, with or without both ends."""

    def read(text: str) -> float:
        try:
            value = float(text) if text.isascii() else math.nan
        except ValueError:
            value = math.nan
        if not (low <= value <= high if ends else low < value < high):
            where = f"be from {low:g} to {high:g}" if ends else f"lie strictly between {low:g} and {high:g}"
            raise argparse.ArgumentTypeError(f"must {where}; got {shown(text)}")
        return value

    return read


def name(text: str) -> str:
    """What an option that names something accepts: not nothing, which would be the current folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must not be empty; got {shown(text)}")
    return text


def grid(typed: str, text: str) -> np.ndarray:
    """Positive numbers from "first:last:number", log-spaced, or numbers with commas, for the option `typed`.

    Raises:
      ValueError: neither.
    """
    try:
        if ":" in text:
            first, last, count = text.split(":")
            low, high, number_of = float(first), float(last), int(count)
            if not (0 < low < high < np.inf and 2 <= number_of <= MOST_VALUES):
                raise ValueError
            return np.geomspace(low, high, number_of)
        return np.array([float(part) for part in text.split(",")])
    except (ValueError, OverflowError):
        raise ValueError(
            f"{typed} must be first:last:number with 0 < first < last, or numbers with commas; got {shown(text)}"
        ) from None


def one_line(text: str, longest: int = 200) -> str:
    """A message on one line, words of more letters than `longest` cut off."""
    return re.sub(rf"(\S{{{longest - 3}}})\S{{4,}}", r"\1...", " ".join(text.split()))


def shown(text: str) -> str:
    """What was given, for messages: not longer than a line."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
