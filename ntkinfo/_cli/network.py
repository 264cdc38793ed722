"""What one trained network knows, from the command line: `python -m ntkinfo network mine.py`.

The file is Python and says what the network is: a function `network()`, or a name `network`, that gives a `Network` of
`ni.networks`; and, if it likes, `data`, a `Dataset` or a function that gives one. Nothing is unpickled.
"""

import dataclasses
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ntkinfo import networks
from ntkinfo._cli import arguments, data_options, output
from ntkinfo._cli.arguments import integer, number, option
from ntkinfo._common import check, tables
from ntkinfo._common.data import FIELDS

_CAPTION = (
    "a: eigenvalues of the tangent kernel; those above the dashed line the data decide. b: the share of the labels, "
    "and of what the network still gets wrong, along the leading eigenvectors. c, d: training on from here, "
    "really and by the linearised network, and how far apart their predictions are."
)


def fixed_or_fit(text: str) -> float | str:
    """What an option of a variance accepts: a number, or "fit"."""
    return text if text == "fit" else number(1e-12, 1e12)(text)


@dataclasses.dataclass(frozen=True)
class Options(data_options.DataOptions):
    """The options of the job."""

    path: Path = option(
        None, arguments.path, "a Python file that defines network, a ni.networks.Network or a function that gives "
        "one, and perhaps data likewise (run as any Python file is)", positional=True,
    )  # fmt: skip
    data: str | None = option(
        None, arguments.name, "digits, gaussian, a .csv, an .npz, or a folder of MNIST files, in place of the file's "
        "own",
        group="data", default_text="what the file says, else digits",
    )  # fmt: skip
    noise: float | str = option("fit", fixed_or_fit, "variance σ² of the posterior, or fit: by evidence")
    prior_variance: float | str = option("fit", fixed_or_fit, "variance τ² of the prior, or fit: by evidence")
    origin: str | None = option(
        None, None, "where the parameters saw none of the training data, which bounds need", default_text="not said",
        choices=("initialisation", "split"),
    )  # fmt: skip
    delta: float = option(0.05, number(0, 1, ends=False), "probability with which a bound may fail")
    samples: int = option(
        64, integer(2, 10**6), "draws per input, where information is sampled (k > 1)", also=("n_samples",)
    )
    out: Path = arguments.out_option("ntkinfo-network")


def run(options: Options) -> None:
    """Prints a table and writes the page, its figure and report.csv."""
    import jax

    output.require_figures()
    started = time.perf_counter()
    # In the precision that its library has by itself: that of the file's saved parameters.
    net, data = read(options.path)
    net = networks.as_network("network", net)
    jax.config.update("jax_enable_x64", options.dtype == "float64")
    if options.data is not None or data is None:
        data = data_options.dataset(dataclasses.replace(options, data=options.data or "digits"))
    else:
        data = own_data(data, options)
    out = output.Output.of(options, "network", ("report.csv", "network.png", *output.PAGES))
    from ntkinfo import plot

    found = networks.report(
        net, data, key=jax.random.key(options.seed), noise=options.noise, prior_variance=options.prior_variance,
        origin=options.origin, delta=options.delta, n_samples=options.samples,
    )  # fmt: skip
    text = table(found, options.unit)
    print(text, flush=True)
    out.write("report.csv", lambda path: found.to_dataframe(unit=options.unit).to_csv(path, index=False))
    name = getattr(data, "name", "data")
    title = f"{options.path.name} on {name}: n = {found.n}, m = {found.m}, k = {found.k}"
    out.figure("network.png", plot.network(found, title=title))
    out.page(page(found, text, title, options, time.perf_counter() - started))
    print(out.finish())


def own_data(data: Any, options: Options) -> Any:
    """The file's data in the precision asked for.

    Raises:
      TypeError: no data set.
      ValueError: options that belong to other data.
    """
    for field in dataclasses.fields(data_options.DataOptions):
        if field.metadata["group"] == "data" and field.name not in ("data", "seed"):
            if getattr(options, field.name) != field.default:
                raise ValueError(
                    f"{arguments.flag(field.name)} belongs to --data; {options.path.name} brings data of its own. Give "
                    "--data as well, or leave it out"
                )
    check.fields("data", data, FIELDS, "Dataset", "`ni.datasets`")
    if not dataclasses.is_dataclass(data) or isinstance(data, type):
        return data
    return dataclasses.replace(data, **{name: np.asarray(getattr(data, name), options.dtype) for name in FIELDS})


def read(path: Path) -> tuple[Any, Any]:
    """The network and the data (or None) that a Python file defines.

    Raises:
      OSError: no such file.
      ValueError: no Python file, none that runs, or one that defines no network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"PATH must be a Python file; there is no file {path}")
    if path.suffix != ".py":
        raise ValueError(
            f"PATH must be a Python file that defines `network`; got {path.name}. Saved parameters are read by their "
            "own library in such a file; a pickle would run whatever it holds."
        )
    spec = importlib.util.spec_from_file_location(f"ntkinfo_network_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses and its neighbours are looked up by these.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
        network, data = (_given(module, name) for name in ("network", "data"))
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"{path.name} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
        del sys.modules[spec.name]
    if network is None:
        raise ValueError(
            f"{path.name} must define `network`, a Network of `ni.networks` such as from_flax(module, variables) or a "
            "function that gives one; it does not."
        )
    return network, data


def _given(module, name: str):
    """What a module calls so, or what its function of no arguments gives; None where there is no such name."""
    from ntkinfo.networks import Network

    value = getattr(module, name, None)
    # Modules of some libraries can be called, too: what they are is said by the message about adapters.
    return value() if callable(value) and not isinstance(value, Network) and hasattr(value, "__code__") else value


def table(found, unit: str) -> str:
    """The numbers of a report, aligned."""
    frame = found.to_dataframe(unit=unit)
    rows = zip(frame["quantity"], frame["value"], frame["unit"], frame["what"], strict=True)
    return "\n".join(f"{name:<38}{value:>12.4g} {kind:<5} {what}" for name, value, kind, what in rows)


def page(found, text: str, title: str, options: Options, seconds: float) -> str:
    """The text of `report.md`."""
    scale = tables.factor(options.unit)
    share = 100 * found.effective_dimension / (found.n * found.k)
    last = found.disagreement[-1]
    truth = (
        "training diverged, or nothing moved" if not np.isfinite(last) else
        f"after the time shown it is {100 * last:.3g} % of the change off: "
        + ("the linearised network tells what training does" if last < 0.1 else
           "roughly what training does" if last < 0.5 else "no guide to what training does")
    )  # fmt: skip
    errors = (
        "" if found.test_error is None else
        f" It errs on {100 * found.train_error:.3g} % of the training and {100 * found.test_error:.3g} % of the test "
        "inputs."
    )  # fmt: skip
    kind = "at least " if found.test_error is None else ""
    bounds = (
        ", ".join(f"{name} {value:.3g}" for name, value in found.bounds.items())
        + f": each holds for a network drawn from the posterior with probability {1 - options.delta:.2g}."
        if found.bounds else f"None. {found.no_bounds}"
    )  # fmt: skip
    lines = [
        "# What a network knows", "",
        f"{title}; {found.n_parameters} parameters. {seconds:.0f} s.", "",
        "A trained network is taken together with all networks near it: the parameters may vary as far as the data "
        "leave them free (the Laplace posterior of the linearised network). How much its outputs then tell about input "
        f"and label, and how sure they are, is computed from its tangent kernel.{errors}", "",
        "![network](network.png)", "", _CAPTION, "",
        f"## Numbers (information in {options.unit})", "", "```", text, "```", "",
        "## What the numbers say", "",
        f"- The data decide {found.effective_dimension:.4g} directions, {share:.3g} % of the {found.n * found.k} "
        f"labels; the rest of the {found.n_parameters} parameters is as before.",
        f"- The output tells {scale * float(found.input_information.value):.4g} {options.unit} about which of the "
        f"{found.m} test inputs was shown, and {kind}{scale * float(found.label_information.value):.4g} about its "
        "label.",
        f"- Training from here, by the linearised network: {truth}.",
        *(f"- {level:.0%} intervals hold {100 * value:.3g} % of the test labels." for level, value in
          found.coverage.items()),
        "", "## Bounds on the 0-1 error", "", bounds, "",
        f"Options: {arguments.line(options)}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
