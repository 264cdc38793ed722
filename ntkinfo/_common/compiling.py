"""Programs that compile in less time: `jax.jit` with fewer of the compiler's optimisations, where they bring nothing.

Of the processor time of a first call 94 to 99 % is compilation.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from ntkinfo._common import tracing

# LLVM's first level of optimisation instead of its third. Products of matrices, factorisations and sorts are calls of
# libraries, and loops over entries gain nothing from more: the quadrature, kernels and moments run as fast.
_OPTIONS = {"xla_backend_optimization_level": 1}
# The oldest versions take options at `.lower().compile()` only.
_ACCEPTED = "compiler_options" in inspect.signature(jax.jit).parameters


def jit(function: Callable | None = None, **options) -> Any:
    """`jax.jit`, whose programs for the CPU are compiled with fewer optimisations.

    Inside another program, where the default backend is another, and with versions of JAX that take no such options it
    is `jax.jit`.

    Args:
      function: to compile.
      **options: of `jax.jit`.

    Returns:
      The compiled function, or a decorator where `function` is left out.
    """
    if function is None:
        return functools.partial(jit, **options)
    plain = jax.jit(function, **options)
    if not _ACCEPTED:
        return plain
    quick = jax.jit(function, compiler_options=_OPTIONS, **options)

    @functools.wraps(function)
    def call(*args, **kwargs):
        # Options may only be said of the outermost program.
        inside = tracing.is_tracing() or jax.default_backend() != "cpu"
        return (plain if inside else quick)(*args, **kwargs)

    # What tests ask of a program.
    call.__dict__.update({name: getattr(quick, name) for name in ("lower", "_cache_size")})
    return call
