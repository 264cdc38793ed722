"""Which engine answers for an ensemble: eigenvectors, Krylov spaces where these do not fit, or known features."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import Array

from ntkinfo import kernels
from ntkinfo._common import check, eigenproblems, memory, tracing
from ntkinfo.ensemble import _krylov

ENGINES = ("auto", "dense", "krylov", "features")
# Matrices n x n held at once by the dense engine: both kernels, eigenvectors, and the workspace that finds them.
_DENSE_COPIES = 8


def choose(
    engine: str, kernel_fn: Callable, x: Array, devices: Sequence | None, *, tolerance: Any, storage: Any, mesh: Any
) -> str:
    """The engine, "dense", "krylov" or "features", for `Ensemble.fit`, whose options these are.

    Warns:
      UserWarning: "auto" has become "krylov".
    """
    check.option("engine", engine, ENGINES)
    check.option("storage", storage, _krylov.STORAGES)
    check.known("tolerance", tolerance)
    check.number("tolerance", tolerance)
    if not 0 < float(tolerance) < 1:
        raise ValueError(f"`tolerance` must be between 0 and 1, without the ends; got {float(tolerance)}.")
    if mesh is not None:
        kernels.check_mesh("mesh", mesh)
    if engine == "auto" and mesh is None and storage == "auto":
        if isinstance(kernel_fn, kernels.FeatureKernel) and devices is None and not tracing.is_tracing():
            return "features"
        reason = _why_not_dense(x)
        if reason is None or tracing.is_tracing() or isinstance(kernel_fn, kernels.EmpiricalKernel):
            return "dense"
        warnings.warn(
            f'engine="krylov" was chosen, since {reason}: predictions come with error bars, and what needs all '
            "eigenvectors is refused. Say which engine to take to be asked no more.",
            stacklevel=4,
        )
        return "krylov"
    if engine in ("dense", "features"):
        for name, given in (("mesh", mesh is not None), ("storage", storage != "auto")):
            if given:
                raise ValueError(f'`{name}` must be left out with engine="{engine}"; it is of engine="krylov".')
        if engine == "features" and devices is not None:
            raise ValueError('`devices` must be None with engine="features"; features are computed where `x` is.')
        return engine
    if devices is not None:
        raise ValueError('`devices` must be None with engine="krylov"; give a `mesh`, see `distributed.mesh`.')
    return "krylov"


def check_checkpoint(checkpoint: Any, chosen: str) -> None:
    """Refuses a folder for rows of kernels under an engine that has none to keep."""
    if checkpoint is None:
        return
    check.path("checkpoint", checkpoint)
    if chosen != "krylov":
        raise ValueError(
            f'`checkpoint` must be None with engine="{chosen}"; rows of kernels are kept by engine="krylov".'
        )


def _why_not_dense(x: Array) -> str | None:
    """Why n inputs are too many for the dense engine, or None."""
    n = len(x)
    limit = eigenproblems.limit(x.dtype)
    if n > limit:
        return f"n = {n} training inputs are more than the {limit} whose eigenvectors can be computed"
    needed = _DENSE_COPIES * n**2 * x.dtype.itemsize
    there = memory.shortage(needed)
    if there is not None:
        return (
            f'n = {n} training inputs need about {memory.readable(needed)} under engine="dense" and '
            f"{memory.readable(there)} are free"
        )
    return None


def require_dense(
    x: Array, kernel_fn: Callable, *, copies: int = _DENSE_COPIES, eigenvectors: bool = True, krylov: bool = True
) -> None:
    """Refuses more training inputs than a dense matrix can be made of, before anything is computed.

    Args:
      x: training inputs, (n, ...).
      kernel_fn: their kernel.
      copies: matrices n x n held at once.
      eigenvectors: whether these are what is computed, of which there are no more than the solver takes.
      krylov: whether engine="krylov" can take the place; never that of empirical kernels.
    """
    other = ', or engine="krylov"' if krylov and not isinstance(kernel_fn, kernels.EmpiricalKernel) else ""
    fewer = "Take fewer (memory grows with n²)" + (", or float32" if x.dtype == np.float64 else "")
    memory.require(
        f"`x` with n = {len(x)} training inputs", copies * len(x) ** 2 * x.dtype.itemsize, f"{fewer}{other}."
    )
    if eigenvectors:
        require_solver(x, f"Take fewer{other}.")


def require_solver(x: Array, remedy: str = "Take fewer.") -> None:
    """Refuses more training inputs, or rows of a kernel, than the solver of eigenproblems takes in their dtype."""
    eigenproblems.require("`x` must have at most {} training inputs", len(x), x.dtype, remedy)
