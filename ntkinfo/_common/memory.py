"""Bytes of memory: how many there are, and a refusal of what needs more before anything is computed."""

import os
import re
from pathlib import Path

import jax

from ntkinfo._common import tracing

# What needs less is not worth a look at how much there is.
_SMALL = 2**26
_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes that a computation on JAX's default device may take now; None where that cannot be told.

    Of the host: what the system can give, within the limits of the control groups of this process and of its address
    space. Of an accelerator: what its allocator has left.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit, used = stats.get("bytes_limit"), stats.get("bytes_in_use", 0)
        return None if limit is None else max(int(limit - used), 0)
    bounds = [bound for bound in (_of_system(), _of_control_groups(), _of_address_space()) if bound is not None]
    return max(min(bounds), 0) if bounds else None


def require(what: str, n_bytes: float, remedy: str) -> None:
    """Refuses what needs more memory than there is. Nothing is checked under tracing, or where it cannot be told.

    Args:
      what: the argument and its size, such as "`x` with n = 100000 training inputs".
      n_bytes: bytes that it needs.
      remedy: what to do, as a sentence.

    Raises:
      ValueError: it needs more than there is.
    """
    there = shortage(n_bytes)
    if there is not None:
        raise ValueError(f"{what} needs about {readable(n_bytes)} of memory; {readable(there)} are free. {remedy}")


def shortage(n_bytes: float) -> int | None:
    """The bytes there are, where `n_bytes` are more than these; None where they fit, or where that cannot be told."""
    if n_bytes < _SMALL or tracing.is_tracing():
        return None
    there = available()
    return there if there is not None and n_bytes > there else None


def readable(n_bytes: float) -> str:
    """A number of bytes in units of 1000, with three digits: 1.23 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.3g} {unit}"


def _of_system() -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _read(_PROC / "meminfo") or "", re.MULTILINE)
    if match:
        return 1024 * int(match[1])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _of_control_groups() -> int | None:
    """The least that a control group of this process, or one above it, leaves."""
    bounds = []
    for line in (_read(_PROC / "self" / "cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, names = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root, names = _CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that outside of it: then only the root is there.
        group = root / path.strip("/")
        groups = [group, *(parent for parent in group.parents if parent == root or root in parent.parents)]
        for folder in {root, *groups}:
            limit, used = (_read(folder / name) for name in names[:2])
            if limit is None or used is None or not limit.strip().isdigit():
                continue
            # Files that the system only keeps in case they are read again make room.
            cached = re.search(rf"^{names[2]} (\d+)", _read(folder / "memory.stat") or "", re.MULTILINE)
            bounds.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
    return min(bounds, default=None)


def _of_address_space() -> int | None:
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    except (ImportError, OSError):
        return None
    match = re.search(r"^VmSize:\s+(\d+) kB", _read(_PROC / "self" / "status") or "", re.MULTILINE)
    if limit == resource.RLIM_INFINITY or match is None:
        return None
    return limit - 1024 * int(match[1])


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
