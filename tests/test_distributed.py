"""Kernels sharded over devices and processes: the same numbers, and no device ever holds a whole kernel."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import ntkinfo as ni

ROOT = Path(__file__).parents[1]
# A problem whose rows no number of devices divides.
PROBLEM = """
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import ntkinfo as ni
from ntkinfo import stax

rng = np.random.default_rng(0)
x, x_test = rng.normal(size=(203, 5)), rng.normal(size=(4, 5))
y = np.sign(x[:, :1])
net = stax.serial(stax.Dense(64, W_std=1.5, b_std=0.1), stax.Relu(), stax.Dense(1, W_std=1.5, b_std=0.1))

def numbers(mesh):
    ens = ni.Ensemble.fit(net, x, y, engine="krylov", mesh=mesh)
    z = ens.predict(x_test, [1.0, 100.0, np.inf])
    distance = ni.information.parameter_distance(ens, [1.0, 100.0])
    return ens, np.concatenate([np.ravel(part) for part in (z.mean, z.variance, distance.value, distance.stderr)])
"""
FORCED = """
_, alone = numbers(None)
for count in (1, 4, 8):
    ens, sharded = numbers(ni.distributed.mesh(jax.devices()[:count]))
    np.testing.assert_allclose(sharded, alone, rtol=1e-10, atol=1e-10)
    rows = {shard.data.shape[1] for shard in ens.stored.ntk.addressable_shards}
    assert len(ens.stored.ntk.sharding.device_set) == count and rows == {1}, rows

# The compiled product gathers its result, n x b, and nothing larger.
import re
from ntkinfo.kernels import _sharded
mesh = ni.distributed.mesh()
columns = np.ones((203, 3))
text = _sharded._compiled(_sharded._product, mesh).lower(
    ens.stored.ntk, _sharded._on_every_device(columns, mesh)
).compile().as_text()
gathered = re.findall(r"= \\(?f64\\[([\\d,]*)\\][^\\n]* all-gather(?:-start)?\\(", text)
assert gathered, "no all-gather at all"
assert all(np.prod([int(size) for size in shape.split(",")]) <= 208 * 3 for shape in gathered), gathered
assert "all-to-all" not in text and "collective-permute" not in text
print("same")
"""
PROCESSES = """
found = ni.distributed.initialize()
assert found.count == 2 and found.source == "environment", found
assert ni.distributed.mesh().size == 4
_, values = numbers(ni.distributed.mesh())
print("numbers", " ".join(value.hex() for value in values.tolist()))
"""


def environment(devices, **more):
    flags = f"--xla_force_host_platform_device_count={devices}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "JAX_COORD"))}
    return kept | {"XLA_FLAGS": flags, "PJRT_NPROC": "16", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | more


@pytest.mark.timeout(300)
def test_kernels_sharded_over_devices_give_the_same_numbers_and_are_never_gathered():
    done = subprocess.run(
        [sys.executable, "-c", PROBLEM + FORCED], env=environment(8), capture_output=True, text=True, timeout=280
    )
    assert done.stdout.strip() == "same", done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_give_the_numbers_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = PROBLEM + "_, values = numbers(None)\nprint('numbers', ' '.join(v.hex() for v in values.tolist()))"
    running = [subprocess.Popen([sys.executable, "-c", one], env=environment(1), stdout=subprocess.PIPE, text=True)]
    for index in range(2):
        variables = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(index),
        }
        command = [sys.executable, "-c", PROBLEM + PROCESSES]
        running.append(subprocess.Popen(command, env=environment(2, **variables), stdout=subprocess.PIPE, text=True))
    try:
        texts = [process.communicate(timeout=280)[0] for process in running]
    finally:
        # They do not end on a mere request.
        for process in running:
            process.kill()
    # Beside what the transport between the processes has to say.
    lines = [next(line for line in text.splitlines() if line.startswith("numbers")) for text in texts]
    alone, first, second = ([float.fromhex(word) for word in line.split()[1:]] for line in lines)
    assert len(alone) > 10
    np.testing.assert_allclose(first, alone, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(first, second)


def test_the_environment_is_read_whole_or_refused(monkeypatch):
    for name in [*ni.distributed._VARIABLES, *(n for names in ni.distributed._MANAGERS.values() for n in names)]:
        monkeypatch.delenv(name, raising=False)
    found = ni.distributed.initialize()
    assert (found.count, found.index, found.source) == (1, 0, "none") and "One process" in found.text
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID are missing"):
        ni.distributed.initialize()
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_PROCESS_ID", "2")
    with pytest.raises(ValueError, match="whole numbers, the second below the first"):
        ni.distributed.initialize()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ni.distributed._VARIABLES:
        monkeypatch.delenv(name)
    # An allocation without a step is no set of processes.
    assert ni.distributed.initialize().source == "none"


def test_a_mesh_has_one_axis_and_different_devices():
    mesh = ni.distributed.mesh()
    assert mesh.axis_names == (ni.distributed.AXIS,) and mesh.size == jax.device_count()
    device = jax.devices()[0]
    with pytest.raises(ValueError, match="with repetitions"):
        ni.distributed.mesh([device, device])
    with pytest.raises(TypeError, match="list of devices"):
        ni.distributed.mesh(3)
    x, y = np.eye(3), np.ones((3, 1))
    net = ni.stax.serial(ni.stax.Dense(1))
    two = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("a", "b"))
    with pytest.raises(ValueError, match="one axis"):
        ni.Ensemble.fit(net, x, y, engine="krylov", mesh=two)
    with pytest.raises(ValueError, match="`mesh` must be None with storage"):
        ni.Ensemble.fit(net, x, y, engine="krylov", storage="none", mesh=mesh)
