"""Programs that compile in less time: `jax.jit` with fewer of the compiler's optimisations, where they bring nothing.

Of the processor time of a first call 94 to 99 % is compilation.
"""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import tracing
from ntkinfo._numerics import padding

# LLVM's first level of optimisation instead of its third. Products of matrices, factorisations and sorts are calls of
# libraries, and loops over entries gain nothing from more: the quadrature, kernels and moments run as fast.
_LEVEL = {"xla_backend_optimization_level": 1}
# The emitters of loops that XLA had before those through MLIR: half the time for as fast programs. Newer versions have
# them no more, and the count below brings nothing there. And one module of machine code instead of one for each core,
# which share little.
_EMITTERS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
# The oldest versions take options at `.lower().compile()` only.
_ACCEPTED = "compiler_options" in inspect.signature(jax.jit).parameters


@functools.cache
def options() -> dict[str, int | bool]:
    """The options of the compiler for the CPU, as far as it knows them; what `XLA_FLAGS` says of one of them stays."""
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=_LEVEL | _EMITTERS)
        known = _LEVEL | _EMITTERS
    except RuntimeError:
        known = _LEVEL
    return {name: value for name, value in known.items() if name not in os.environ.get("XLA_FLAGS", "")}


def jit(function: Callable | None = None, *, once: bool = False, **settings) -> Any:
    """`jax.jit`, whose programs for the CPU are compiled with fewer optimisations.

    Inside another program, where the default backend is another, and with versions of JAX that take no such options it
    is `jax.jit`.

    Args:
      function: to compile.
      once: with none at all, for what runs once: it is compiled in less than half the time, and its loops are two to
        four times as slow.
      **settings: of `jax.jit`.

    Returns:
      The compiled function, or a decorator where `function` is left out.
    """
    if function is None:
        return functools.partial(jit, once=once, **settings)
    plain = jax.jit(function, **settings)
    if not _ACCEPTED:
        return plain

    @functools.cache
    def quick() -> Any:
        level = {"xla_backend_optimization_level": 0} if once else {}
        return jax.jit(function, compiler_options=options() | level, **settings)

    @functools.wraps(function)
    def call(*args, **kwargs):
        # Options may only be said of the outermost program.
        inside = tracing.is_tracing() or jax.default_backend() != "cpu"
        return (plain if inside else quick())(*args, **kwargs)

    # What tests ask of a program.
    call.__dict__.update(
        lower=lambda *args, **kwargs: quick().lower(*args, **kwargs), _cache_size=lambda: quick()._cache_size()
    )
    return call


def on_host(function: Callable | None = None, *, static_argnames: tuple[str, ...] = ()) -> Any:
    """`function(xp, *arrays)` in NumPy, which compiles nothing for a shape; else in one program of JAX.

    NumPy is taken for known arrays that lie on the host. For work that is small, or that BLAS and LAPACK do: what is
    elementwise over large arrays runs on all cores in JAX only.

    Args:
      function: of a namespace, `numpy` or `jax.numpy`, and arrays; arguments by keyword are static.
      static_argnames: names of those.

    Returns:
      A function of the arrays, which returns arrays of JAX in the floating dtype of those that came; or a decorator
      where `function` is left out.
    """
    if function is None:
        return functools.partial(on_host, static_argnames=static_argnames)
    program = jit(functools.partial(function, jnp), static_argnames=static_argnames)

    @functools.wraps(function)
    def call(*arrays, **static):
        leaves = jax.tree.leaves(arrays)
        if not (tracing.is_known(*leaves) and all(not isinstance(a, jax.Array) or padding.on_host(a) for a in leaves)):
            return program(*arrays, **static)
        host = jax.tree.map(lambda a: np.asarray(a) if isinstance(a, jax.Array) else a, arrays)
        floats = [leaf.dtype for leaf in leaves if hasattr(leaf, "dtype") and leaf.dtype.kind == "f"]
        with np.errstate(all="ignore"):
            found = jax.tree.map(np.asarray, function(np, *host, **static))
        # NumPy 1 makes float64 of numbers of float32 times a number of Python, where JAX does not.
        exact = np.result_type(*floats) if floats else np.dtype(float)
        return jax.tree.map(lambda a: jnp.asarray(a.astype(exact) if a.dtype.kind == "f" else a), found)

    return call


@on_host(static_argnames=("index",))
def entries(xp, values, *, index: Any) -> Any:
    """`values[index]`, an index that can be hashed."""
    return values[index]


@on_host
def diagonal(xp, matrix) -> Any:
    """The diagonal (n,) of a matrix (n, n)."""
    return xp.diagonal(matrix)
