"""The one module that imports neural-tangents 0.6.5, whose last release predates the JAX it has to run on.

Names that JAX has moved or removed are added to it while it is imported and removed at once; the few functions of it
that call what JAX no longer has are replaced as attributes of its own modules. JAX itself stays as it was.
"""

import contextlib
import functools
import importlib
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import jax

from ntkinfo._common.version import NEWEST_TESTED_JAX, check_jax_version
from ntkinfo._neural_tangents import patches

INSTALL = "pip install --no-deps neural-tangents==0.6.5"
_lock = threading.RLock()


def load() -> types.ModuleType:
    """Import neural-tangents, patched for the JAX that is installed.

    A later `import neural_tangents` anywhere in the process gives the same module.

    Returns:
        The module `neural_tangents`.

    Raises:
        ImportError: JAX is refused by `check_jax_version`; neural-tangents 0.6.5 or frozendict is not installed; or
            neural-tangents cannot be imported on a JAX newer than those tested.
    """
    check_jax_version()
    with _lock:
        return _load()


@functools.cache
def _load() -> types.ModuleType:
    try:
        with temporary_names(), _without_tensorflow():
            nt = importlib.import_module("neural_tangents")
        if nt.__version__ == "0.6.5":
            patches.apply_patches(nt)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing == "neural_tangents":
            raise ImportError(
                f"`ntkinfo.stax` needs neural-tangents 0.6.5; it is not installed. Run: {INSTALL} "
                "(or `pip install ntkinfo[nt]`, which brings TensorFlow too, never imported)."
            ) from error
        if missing == "frozendict":
            raise ImportError(
                "neural-tangents needs frozendict; it is not installed. Run: pip install frozendict"
            ) from error
        newest = ".".join(map(str, NEWEST_TESTED_JAX))
        raise ImportError(
            f"neural-tangents 0.6.5 could not be imported on jax {jax.__version__}; ntkinfo is tested up to jax "
            f'{newest}. Install that: pip install "jax=={newest}" "jaxlib=={newest}".'
        ) from error
    if nt.__version__ != "0.6.5":
        raise ImportError(f"ntkinfo needs neural-tangents 0.6.5; got {nt.__version__}. Run: {INSTALL}")
    return nt


@contextlib.contextmanager
def temporary_names() -> Iterator[None]:
    """Give JAX the names that neural-tangents imports from it and that have moved; remove them on the way out."""
    import jax.extend.core as extend_core
    from jax.interpreters import ad

    added: list[tuple[types.ModuleType, str]] = []

    def add(module: types.ModuleType, name: str, value: Any) -> None:
        # vars(), not hasattr(): JAX answers for deprecated names with a warning, or with an error.
        if name not in vars(module):
            setattr(module, name, value)
            added.append((module, name))

    util = types.ModuleType("jax.util")
    util.safe_map, util.safe_zip = _safe_map, _safe_zip
    with _swapped_module("jax.util", util):
        try:
            for name in (
                "Jaxpr",
                "JaxprEqn",
                "Literal",
                "Var",
                "Primitive",
                "ClosedJaxpr",
            ):
                add(jax.core, name, getattr(extend_core, name))
            # A key of its tables of rules, and nothing else: no equation can hold it.
            add(ad, "zeros_like_p", extend_core.Primitive("zeros_like"))
            yield
        finally:
            for module, name in added:
                delattr(module, name)


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Put an empty module in place of `neural_tangents.experimental`, which alone needs TensorFlow."""
    name = "neural_tangents.experimental"
    if name in sys.modules:
        yield
        return
    with _swapped_module(name, types.ModuleType(name)):
        yield
    nt = sys.modules.get("neural_tangents")
    if nt is not None and "experimental" in vars(nt):
        del nt.experimental


@contextlib.contextmanager
def _swapped_module(name: str, module: types.ModuleType) -> Iterator[None]:
    missing = object()
    before = sys.modules.get(name, missing)
    sys.modules[name] = module
    try:
        yield
    finally:
        if before is missing:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before


def _safe_map(f, *args):
    return list(map(f, *_same_length(args)))


def _safe_zip(*args):
    return list(zip(*_same_length(args), strict=True))


def _same_length(args):
    args = [list(a) for a in args]
    if len({len(a) for a in args}) > 1:
        raise ValueError(f"lengths must agree; got {[len(a) for a in args]}.")
    return args
