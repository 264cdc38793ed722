"""JAX's cache of compiled programs on disk, for the command line: a second run compiles next to nothing."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

# Programs that compile faster are not worth a file; the environment may say otherwise.
_LEAST_SECONDS, _OTHERWISE = 0.1, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def folder() -> Path | None:
    """Where programs of this JAX for this kind of processor are kept; None where there is no home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    # A home may be shared by machines: a program for one processor may crash on another.
    kind = " ".join([platform.machine(), platform.processor(), *_features()])
    return base / "ntkinfo" / "jax" / f"{jax.__version__}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"


def _features() -> list[str]:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return []


@contextlib.contextmanager
def used(wanted: bool = True):
    """The cache, for the time of a job. `JAX_COMPILATION_CACHE_DIR` of the environment wins, even where it is empty."""
    place = folder() if wanted and "JAX_COMPILATION_CACHE_DIR" not in os.environ else None
    if place is not None:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            place = None
    settings = {} if place is None else {"jax_compilation_cache_dir": str(place)}
    if place is not None and _OTHERWISE not in os.environ:
        settings["jax_persistent_cache_min_compile_time_secs"] = _LEAST_SECONDS
    if not wanted:
        settings = {"jax_enable_compilation_cache": False}
    elif getattr(jax.config, "jax_logging_level", None) == "NOTSET":
        # XLA writes a page about the processor for every program that it reads from its cache; what fails is raised.
        settings["jax_logging_level"] = "CRITICAL"
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield place
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
