"""The parser of the command line, its jobs, and what its options accept."""

import argparse
import importlib
import math
import re
from collections.abc import Callable
from pathlib import Path

# Further jobs: their first word, the file with `add_arguments` and `run`, and what they do.
JOBS = {
    "plane": ("plane", "Layers of networks trained on the 12-bit task, in the information plane."),
    "variational": ("variational", "Variational bottlenecks on images, over their trade-offs."),
}
# Seeds of NumPy and of JAX's keys in either precision.
MOST_SEED = 2**32 - 1
# More values on one axis are a slip of the keyboard.
MOST_VALUES = 100_000


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One clear line instead of the usage, which --help shows."""
        message = re.sub(r"^argument (\S+): must", r"\1 must", one_line(message, 60))
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def parser(job: str | None = None) -> Parser:
    """The parser of a job of `JOBS`, or of the main one."""
    if job is None:
        from ntkinfo._cli import main

        return main.parser()
    file, what = JOBS[job]
    made = Parser(prog=f"ntkinfo {job}", description=what, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    importlib.import_module(f"ntkinfo._cli.{file}").add_arguments(made)
    return made


def add_output(parser, *, out: str, unit: str, resumes: str) -> None:
    """The options that every job has: unit, folders, and the cache of compiled programs."""
    output = parser.add_argument_group("output")
    output.add_argument("--unit", choices=("nats", "bits"), default=unit, help="of figures and of the printed table")
    output.add_argument("--out", type=path, default=Path(out), help="folder to write")
    output.add_argument("--checkpoint", type=path, help=f"folder to go on from: {resumes}")
    output.add_argument(
        "--no-compilation-cache", action="store_true",
        help="do not keep compiled programs in ~/.cache/ntkinfo/jax (or $XDG_CACHE_HOME/ntkinfo/jax, or where "
        "$JAX_COMPILATION_CACHE_DIR says), which spares later runs most of their compilation",
    )  # fmt: skip


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


def path(text: str) -> Path:
    """As `name`, a file or folder."""
    return Path(name(text))


def one_line(text: str, longest: int = 200) -> str:
    """A message on one line, words of more letters than `longest` cut off."""
    return re.sub(rf"(\S{{{longest - 3}}})\S{{4,}}", r"\1...", " ".join(text.split()))


def shown(text: str) -> str:
    """What was given, for messages: not longer than a line."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
