"""Whether JAX is tracing now, and what is known all the same; by its public names alone."""

import threading

import jax.core

from ntkinfo._common import check

try:
    from jax.extend.core import get_opaque_trace_state  # pyright: ignore
except ImportError:
    from jax.core import get_opaque_trace_state  # pyright: ignore

# Only the oldest JAX has it; there, states of two threads never compare equal.
_state_is_clean = vars(jax.core).get("trace_state_clean")


def _state():
    return get_opaque_trace_state(convention="nnx")


def _state_outside() -> list:
    """The state of a thread that has just begun, which traces nothing; this module may be imported while tracing."""
    found = []
    thread = threading.Thread(target=lambda: found.append(_state()))
    thread.start()
    thread.join()
    return found


_OUTSIDE = None if _state_is_clean else _state_outside()[0]


def is_tracing() -> bool:
    """Whether this thread is inside jit, grad, vmap or another transformation of JAX. About a microsecond."""
    return not _state_is_clean() if _state_is_clean else _state() != _OUTSIDE


def is_known(*values) -> bool:
    """Whether values are known, and so is all that is computed of them: nothing is being traced."""
    return check.concrete(values) and not is_tracing()
