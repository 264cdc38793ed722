"""Infinite width. Many devices and hosts: a mesh to shard kernels over, and processes that work on one problem.

Thin over `jax.sharding` and `jax.distributed`: `Ensemble.fit(..., engine="krylov", mesh=distributed.mesh())` shards
the rows of both kernels over the devices of all processes, each of which evaluates its own rows. All processes call the
same functions with the same arguments.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from ntkinfo._common import check

__all__ = ["AXIS", "Processes", "initialize", "mesh"]

# The one axis of a mesh, over which rows are sharded.
AXIS = "rows"
# What the environment must hold for `jax.distributed` where no cluster manager is found.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# What cluster managers set, each of which `jax.distributed` reads by itself: all of a row, or it is not there.
_MANAGERS = {
    "SLURM": ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST"),
    "Open MPI": ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
}


@dataclasses.dataclass(frozen=True)
class Processes:
    """What `initialize` found.

    Attributes:
      count: number of processes, 1 where there is this one alone.
      index: number of this one, from 0.
      source: where that is from: "environment", "SLURM", "Open MPI", or "none".
      text: the same as a sentence.
    """

    count: int
    index: int
    source: str
    text: str


def mesh(devices: Sequence | None = None) -> jax.sharding.Mesh:
    """A mesh of one axis over devices, for the `mesh` of `Ensemble.fit`.

    Args:
      devices: the devices, each once; None takes all of all processes.

    Raises:
      TypeError: no list of devices.
      ValueError: no devices, or one of them twice.

    Example:
      >>> mesh().axis_names
      ('rows',)
    """
    if devices is None:
        devices = jax.devices()
    if not isinstance(devices, list | tuple) or not all(isinstance(device, jax.Device) for device in devices):
        raise TypeError(f"`devices` must be a list of devices, as of `jax.devices()`; got {check.described(devices)}.")
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"`devices` must be different ones, at least one; got {len(devices)} with repetitions.")
    # Its axis is of the type "auto", which is the default of a `Mesh`, though not of `jax.make_mesh`.
    return jax.sharding.Mesh(np.array(devices), (AXIS,))


def initialize() -> Processes:
    """Joins the processes of a cluster by `jax.distributed`, where the environment says completely which they are.

    To be called before anything else of JAX. The environment is that of SLURM or Open MPI, or the variables
    JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Where nothing is set, nothing is done.

    Returns:
      `Processes`: what was found.

    Raises:
      ValueError: an environment that says only part of it, or holds no numbers; the message says what is missing.
      RuntimeError: JAX has been used already (of JAX).

    Example:
      >>> initialize().count  # one process: nothing to join
      1
    """
    source = _source(os.environ)
    if source == "none":
        names = ", ".join(_VARIABLES)
        return Processes(1, 0, source, f"One process: neither {names} nor those of SLURM or Open MPI are set.")
    if source == "environment":
        address, count, index = (os.environ[name] for name in _VARIABLES)
        numbers = _whole(count, index)
        jax.distributed.initialize(address, numbers[0], numbers[1])
    else:
        jax.distributed.initialize()
    count, index = jax.process_count(), jax.process_index()
    text = f"Process {index} of {count}, by {source}: {jax.local_device_count()} of {jax.device_count()} devices here."
    return Processes(count, index, source, text)


def _source(environment: Mapping[str, str]) -> str:
    """Where the processes are named: "environment", a manager, or "none".

    Raises:
      ValueError: only in part.
    """
    given = [name for name in _VARIABLES if environment.get(name)]
    if len(given) == len(_VARIABLES):
        return "environment"
    if given:
        missing = [name for name in _VARIABLES if name not in given]
        raise ValueError(
            f"The environment must hold all of {', '.join(_VARIABLES)}, or none; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing."
        )
    for manager, names in _MANAGERS.items():
        # An allocation without a step, as in an interactive shell, is no set of processes.
        if all(environment.get(name) for name in names):
            return manager
    return "none"


def _whole(count: str, index: str) -> tuple[int, int]:
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers, the second below the first; got {count!r} "
            f"and {index!r}."
        )
    return int(count), int(index)
