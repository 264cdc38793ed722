"""Data of the command line: the options that name them, and the data set that they stand for."""

import dataclasses
from pathlib import Path

from ntkinfo._cli import arguments
from ntkinfo._cli.arguments import integer, option

DATA = ("digits", "gaussian", "fashion")
TASKS = ("parity", "binary", "classes", "regression")


@dataclasses.dataclass(frozen=True)
class DataOptions(arguments.OutputOptions):
    """The options of every job that takes data."""

    data: str | None = option(
        "digits", arguments.name, "digits, gaussian, fashion, a .csv with a line of names, an .npz with x and y, or a "
        "folder of MNIST files", group="data",
    )  # fmt: skip
    target: str | None = option(
        None, arguments.name, "the column of a .csv to be learned", group="data", default_text="none"
    )
    task: str | None = option(
        None, None, "what is learned", group="data", choices=TASKS,
        default_text="parity for images, regression for gaussian, by y for .csv and .npz",
    )  # fmt: skip
    n_train: int | None = option(
        None, integer(2, 10**7), "training inputs", group="data",
        default_text="1000 for images, 2000 for gaussian, four fifths of a table",
    )  # fmt: skip
    n_test: int | None = option(
        None, integer(1, 10**7), "test inputs", group="data", default_text="all the rest, or 1000"
    )
    scale: str = option(
        "auto", None, "of the inputs of a .csv or .npz: each column by its own, all by one; auto: by column for tables",
        group="data", choices=("auto", "columns", "global", "none"),
    )  # fmt: skip
    seed: int = option(
        0, integer(0, arguments.MOST_SEED), "of the split, of finite networks, of sampling", group="data"
    )
    dtype: str = option("float64", None, "precision", choices=("float64", "float32"))


def dataset(options, *, flat: bool = True):
    """The data set asked for, inputs as vectors where `flat`; the library refuses what does not fit.

    Raises:
      ValueError: data of no known kind, options that do not fit them.
    """
    from ntkinfo import datasets

    assert options.data is not None
    common = {"seed": options.seed, "dtype": options.dtype}
    if options.data == "gaussian":
        if options.task not in (None, "regression"):
            raise ValueError(f"--task must be regression for --data gaussian; got {options.task}")
        if not flat:
            raise ValueError("--architecture conv needs images; got --data gaussian")
        return datasets.gaussian(options.n_train or 2000, options.n_test or 1000, **common)
    if options.data == "digits":
        n_train = 1000 if options.n_train is None else options.n_train
        return datasets.digits(n_train, options.n_test, task=options.task or "parity", flat=flat, **common)
    if options.data == "fashion":
        sizes = (1000 if n is None else n for n in (options.n_train, options.n_test))
        return datasets.fashion_mnist(None, *sizes, task=options.task or "parity", flat=flat, **common)
    path = Path(options.data)
    if (path.suffix == ".csv") != (options.target is not None):
        raise ValueError("--target must name the column to be learned where --data is a .csv file, and only there")
    if path.is_dir():
        sizes = (1000 if n is None else n for n in (options.n_train, options.n_test))
        return datasets.mnist(path, *sizes, task=options.task or "parity", flat=flat, **common)
    scale = None if options.scale == "none" else options.scale
    if path.suffix == ".csv":
        if not flat:
            raise ValueError(f"--architecture conv needs images; got --data {options.data}")
        sizes = options.n_train, options.n_test
        return datasets.csv(path, options.target, *sizes, task=options.task, scale=scale, **common)
    if path.suffix == ".npz":
        return datasets.npz(path, options.n_train, options.n_test, task=options.task, flat=flat, scale=scale, **common)
    raise ValueError(
        f"--data must be {', '.join(DATA)}, a .csv or .npz file or a folder of MNIST files; got "
        f"{arguments.shown(options.data)}{arguments.did_you_mean(options.data, DATA)}"
    )
