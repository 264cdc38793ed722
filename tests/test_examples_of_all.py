"""Every public function has an example that runs: in its docstring, on a page, in a notebook or in a journey."""

import collections
import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import ntkinfo

ROOT = Path(__file__).parents[1]
# Those without one, and why.
CORES = "a jittable core without checks, for those who write such code; the function that checks has the example"
FILES = "needs files that the repository does not hold"
MINUTES = "trains networks; its own tests run it"
FIGURE = "draws what only trained networks give; the jobs and their tests run it"
WITHOUT = {
    **dict.fromkeys(("ensemble.covariances", "ensemble.means", "ensemble.rotate", "ensemble.predictive"), CORES),
    **dict.fromkeys(("ensemble.labels", "posterior.predictive"), CORES),
    **dict.fromkeys(("mixture.refuse_impossible", "mixture.warn_if_inaccurate"), CORES),
    **dict.fromkeys(("datasets.cifar10", "datasets.fashion_mnist"), FILES),
    **dict.fromkeys(("ensemble.standard_error", "finite.kernel_flow", "networks.activations"), MINUTES),
    **dict.fromkeys(("variational.error_under_noise", "variational.learning_curve"), MINUTES),
    **dict.fromkeys(("plot.animate", "plot.cmi", "plot.training"), FIGURE),
}


def functions():
    """Public functions and all their addresses; layers of `stax` are neural-tangents' own."""
    found = collections.defaultdict(list)
    for info in pkgutil.walk_packages(ntkinfo.__path__, "ntkinfo."):
        address = info.name.removeprefix("ntkinfo.")
        if not any(part.startswith("_") for part in address.split(".")) and address != "stax":
            module = importlib.import_module(info.name)
            for name in getattr(module, "__all__", ()):
                function = inspect.unwrap(getattr(module, name))
                if inspect.isfunction(function):
                    found[function].append(f"{address}.{name}")
    return found


def code():
    """All code that a reader may copy and a test runs."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").rglob("*.md")]:
        yield from re.findall(r"```(?:python|\{code-cell\}.*)\n(.*?)```", page.read_text(), re.DOTALL)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])
    for folder in ("notebooks", "tests/journeys", "examples", "ntkinfo"):
        for file in (ROOT / folder).rglob("*.py"):
            lines = file.read_text().splitlines()
            yield "\n".join(line for line in lines if folder != "ntkinfo" or re.match(r"\s*(>>>|\.\.\.) ", line))


def test_every_public_function_has_an_example():
    text = "\n".join(code())
    called = set(re.findall(r"\b(\w+\.\w+)\(", text))
    found = functions()
    assert len(found) > 150
    without = {
        addresses[0]
        for function, addresses in found.items()
        if ">>>" not in (inspect.getdoc(function) or "")
        and called.isdisjoint(".".join(address.split(".")[-2:]) for address in addresses)
    }
    assert without == set(WITHOUT)
