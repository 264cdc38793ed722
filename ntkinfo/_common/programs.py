"""Memory maps of compiled programs: JAX's caches are cleared before Linux refuses this process another map.

Every compiled program takes dozens to hundreds of maps, JAX keeps every program, and Linux allows 65,530 maps by
default; beyond, LLVM aborts the process.
"""

import gc
import threading
import time
import warnings
from pathlib import Path

import jax

from ntkinfo._common import tracing

# Of the maps allowed, how many may be taken before caches are cleared. What is left must last until the next look.
_SHARE = 0.8
# After caches are cleared, so many more of those allowed must be taken before they are cleared again.
_GROWTH = 0.05
# Between two looks, in seconds, and in units of what a look costs: about 2000 maps can be taken in a second.
_PAUSE_S, _PAUSE_COST = 1.0, 30.0

_MAPS, _LIMIT = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_lock = threading.Lock()


class _Guard:
    next_look = 0.0
    floor = 0.0
    warned = False


def maps() -> tuple[int, int] | None:
    """How many memory maps this process has, and how many it may have; None where that cannot be told."""
    try:
        return _MAPS.read_bytes().count(b"\n"), int(_LIMIT.read_text())
    except (OSError, ValueError):
        return None


def relieve() -> None:
    """Clears JAX's caches where most memory maps are taken; for the start of public calls, never inside a trace.

    Looks at most once a second, so that it costs nothing to call. What was compiled is compiled again where needed.

    Warns:
      UserWarning: the first time that caches are cleared.
    """
    now = time.monotonic()
    if now < _Guard.next_look or tracing.is_tracing() or not _lock.acquire(blocking=False):
        return
    try:
        found = maps()
        if found is None:
            # Not Linux, or no /proc: nothing to guard.
            _Guard.next_look = float("inf")
            return
        _Guard.next_look = now + max(_PAUSE_S, _PAUSE_COST * (time.monotonic() - now))
        count, limit = found
        if count <= max(_SHARE * limit, _Guard.floor):
            return
        jax.clear_caches()
        gc.collect()
        left = maps() or found
        _Guard.floor = left[0] + _GROWTH * limit
        first, _Guard.warned = not _Guard.warned, True
    finally:
        _lock.release()
    if first:
        warnings.warn(
            f"this process had {count} of the {limit} memory maps that Linux allows it, nearly all taken by compiled "
            f"programs: JAX's caches were cleared, which left {left[0]}, and what is used again is compiled again. "
            "Fewer networks and shapes, or a larger vm.max_map_count, avoid that.",
            stacklevel=3,
        )
