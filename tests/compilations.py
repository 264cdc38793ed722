"""How many programs XLA compiles: for tests that a second call compiles none."""

import contextlib
import dataclasses

import jax


@dataclasses.dataclass
class Count:
    """Programs compiled, or read from a cache on disk, while it was open."""

    number: int = 0


_open: list[Count] = []


def _listen(event, duration, **kwargs):
    # From 0.11 on JAX compiles a copy for every shape of an array of NumPy that it takes in; it does no more.
    if "backend_compile" in event and kwargs.get("fun_name") != "jit(stage)":
        for count in _open:
            count.number += 1


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def counted():
    """Counts compilations of the block."""
    count = Count()
    _open.append(count)
    try:
        yield count
    finally:
        _open.remove(count)
