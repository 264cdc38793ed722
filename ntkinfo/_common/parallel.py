"""Compiled calls at once on the cores of the host, and the precision they compute in.

XLA runs a program of small operations on one core; threads, which its programs leave free, let others do the rest.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jax

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:
    from jax.experimental import enable_x64  # pyright: ignore


def cores() -> int:
    """How many compiled calls are worth running at once: the cores of the host, 1 on an accelerator."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map(function: Callable, items: list) -> list:
    """`function` of every item, in order; at once where there are cores for it.

    Args:
      function: of one item; waited for where it returns arrays of JAX.
      items: what to call it with.

    Returns:
      The results, in the order of the items.
    """
    threads = min(cores(), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    # The precision is a setting of the thread.
    x64 = jax.config.jax_enable_x64  # pyright: ignore

    def call(item):
        with enable_x64(x64):
            return jax.block_until_ready(function(item))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, items))
