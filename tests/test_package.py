"""The package as a whole: light to import, imports in one direction, the notation of its documents."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ntkinfo

PACKAGE = Path(ntkinfo.__file__).parent
# A room is a file, or a folder of them.
ROOMS = {path.stem: [path] for path in PACKAGE.glob("*.py")} | {
    path.parent.name: sorted(path.parent.glob("*.py")) for path in PACKAGE.glob("*/__init__.py")
}

# What each room may import of its siblings, at the top of the file. Imports point one way.
ALLOWED = {
    "plot": set(),
    "bounds": {"_check", "binary_kl"},
    "gaussian": {"_check"},
    "mixture": {"_check", "quadrature", "scores"},
    "flow": set(),
    "kernels": {"_check", "correlated"},
    "labels": {"_check"},
    "datasets": {"_check", "_files", "_targets", "twelve_bit"},
    "twelve_bit": {"_check", "_targets"},
    "discrete": {"_check"},
    "distortion": set(),
    "optimality": {"distortion"},
    "critical": {"_check", "discrete", "distortion", "optimality"},
    "exponent": {"_check", "discrete"},
    "gaussian_bottleneck": {"_check"},
    "annealing": {"optimality", "parallel"},
    "parallel": set(),
    "partitions": set(),
    "estimators": {"_check", "mixture", "binning", "contrastive", "kde", "neighbours"},
    "contrastive": {"_check", "estimators", "mixture", "perceptron"},
    "kde": {"_check", "mixture", "scores"},
    "binning": set(),
    "compression": {"_check"},
    "objectives": {"encoders"},
    "encoders": {"_check"},
    "label_noise": {"_check", "discrete"},
    "variational_training": {"objectives"},
    "_variational_door": {
        *("_check", "_checkpoint", "discrete", "encoders", "label_noise", "mixture", "objectives"),
        "variational_training",
    },
    "variational": {"encoders", "label_noise", "measurements", "variational_fit", "variational_sweep"},
    "perceptron": set(),
    "sgd": {"perceptron"},
    "layered": {"_check", "_checkpoint", "_finite_door", "parallel", "perceptron", "sgd"},
    "gradients": {"_check", "layered"},
    "plane": {"_check", "bottleneck", "estimators", "layered", "parallel"},
    "neighbours": set(),
}


def siblings(name: str, *, top_level: bool) -> set[str]:
    trees = [ast.parse(path.read_text()) for path in ROOMS[name]]
    found = set()
    for node in (node for tree in trees for node in (tree.body if top_level else ast.walk(tree))):
        if isinstance(node, ast.ImportFrom) and node.module == "ntkinfo":
            found |= {alias.name for alias in node.names if alias.name in ROOMS}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ntkinfo."):
            found.add(node.module.split(".")[1])
    return found - {name}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_rooms_import_only_what_they_may(name):
    assert siblings(name, top_level=False) <= ALLOWED[name]


def test_imports_have_no_circle():
    graph = {name: siblings(name, top_level=True) for name in sorted(ROOMS) if name != "__init__"}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {' -> '.join([*open_, name])}"
        if name in done:
            return
        open_.append(name)
        for other in graph.get(name, ()):
            visit(other)
        done.add(open_.pop())

    for name in graph:
        visit(name)


def test_import_is_light():
    script = (
        "import sys, time, jax; start = time.perf_counter(); import ntkinfo; seconds = time.perf_counter() - start;"
        "heavy = {'tensorflow', 'matplotlib', 'pandas', 'sklearn', 'neural_tangents'} & set(sys.modules);"
        "assert not heavy, heavy; assert not jax._src.xla_bridge._backends; assert seconds < 2, seconds;"
        "assert not jax.config.jax_enable_x64;"
        "from ntkinfo import stax; assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for name in ntkinfo.__all__:
        assert getattr(ntkinfo, name) is not None
    assert set(ntkinfo.__all__) <= set(dir(ntkinfo))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ntkinfo.nothing


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), PACKAGE.parent / "README.md"], ids=lambda path: path.name)
def test_no_machine_stands_in_the_text(path):
    assert not re.search(r"/(work|root|home|tmp)/", path.read_text())
