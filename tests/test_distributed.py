"""Kernels sharded over devices and processes: the same numbers, and no device ever holds a whole kernel."""

import os
import re
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

# Rows that four devices have written are read by eight and by none, and nothing is evaluated again.
import tempfile, types
with tempfile.TemporaryDirectory() as folder:
    options = {"engine": "krylov", "checkpoint": folder}
    written = ni.Ensemble.fit(net, x, y, mesh=ni.distributed.mesh(jax.devices()[:4]), **options)
    real = _sharded._kernels
    _sharded._kernels = types.SimpleNamespace(block_size=real.block_size)
    for mesh in (ni.distributed.mesh(), None):
        read = ni.Ensemble.fit(net, x, y, mesh=mesh, **options)
        np.testing.assert_array_equal(*(_sharded.rows_of(each.stored)[1] for each in (read, written)))
    _sharded._kernels = real
print("same")
"""
PROCESSES = """
found = ni.distributed.initialize()
assert found.count == 2 and found.source == "environment", found
assert ni.distributed.mesh().size == 4
_, values = numbers(ni.distributed.mesh())
print("numbers", " ".join(value.hex() for value in values.tolist()))
"""


# A run that keeps what it has; a process that is told to dies in the middle of one of its two stages.
KEPT = """
import os
from ntkinfo._common.checkpoint import Checkpoint
found, (folder, dies_at) = ni.distributed.initialize(), os.environ["KEPT"].split("|")
whole, written = Checkpoint.save, []

def save(self, name, arrays):
    whole(self, name, arrays)
    written.append(name)
    if found.index == 1 and name.startswith(dies_at or "never"):
        os._exit(9)

Checkpoint.save = save
ens = ni.Ensemble.fit(
    net, x, y, engine="krylov", mesh=ni.distributed.mesh(), batch_size=16, checkpoint=folder + "/rows"
)
z = ens.predict(x_test, [1.0, 100.0, np.inf], batch_size=1, checkpoint=folder + "/predictions")
values = np.concatenate([np.ravel(part) for part in (z.mean, z.variance)])
print("numbers", *(value.hex() for value in values.tolist()))
print("written", *written)
"""


def environment(devices, **more):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
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
    one = PROBLEM + "_, values = numbers(None)\nprint('numbers', ' '.join(v.hex() for v in values.tolist()))"
    running = [subprocess.Popen([sys.executable, "-c", one], env=environment(1), stdout=subprocess.PIPE, text=True)]
    running += two_processes(PROBLEM + PROCESSES)
    alone, first, second = (numbers(text) for text in outputs(running))
    assert len(alone) > 10
    np.testing.assert_allclose(first, alone, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(first, second)


def two_processes(script, **variables):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for index in range(2):
        own = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
        command, env = [sys.executable, "-c", script], environment(2, **own, **variables)
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    return running


def outputs(running):
    """What processes print; they are ended in any case, since they do not end on a mere request."""
    try:
        return [process.communicate(timeout=250)[0] for process in running]
    finally:
        for process in running:
            process.kill()


def numbers(text):
    # Beside what the transport between the processes has to say.
    line = next(line for line in text.splitlines() if line.startswith("numbers"))
    return [float.fromhex(word) for word in line.split()[1:]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", ["rows", "batch"])
def test_a_process_killed_in_the_middle_and_both_restarted_give_the_same_numbers(stage, tmp_path):
    script = PROBLEM + KEPT
    whole = [numbers(text) for text in outputs(two_processes(script, KEPT=f"{tmp_path}/whole|"))]
    running = two_processes(script, KEPT=f"{tmp_path}/kept|{stage}")
    assert running[1].wait(timeout=250) == 9
    # The other waits for it, and is ended by whoever runs the job.
    for process in running:
        process.kill()
        process.communicate()
    before = {file.name for file in tmp_path.glob("kept/*/*.npz")}
    assert before and before < {file.name for file in tmp_path.glob("whole/*/*.npz")}
    texts = outputs(two_processes(script, KEPT=f"{tmp_path}/kept|"))
    for text, wanted in zip(texts, whole, strict=True):
        np.testing.assert_array_equal(numbers(text), wanted)
        written = next(line for line in text.splitlines() if line.startswith("written")).split()[1:]
        # What was there as a whole is not made again; a batch that only one had is.
        assert not {f"{name}.npz" for name in written if name.startswith("rows")} & before
    # Another number of processes reads the same rows.
    alone = subprocess.run(
        [sys.executable, "-c", script], env=environment(1, KEPT=f"{tmp_path}/alone|"), capture_output=True, text=True,
        timeout=250,
    )  # fmt: skip
    np.testing.assert_allclose(numbers(alone.stdout), whole[0], rtol=1e-10, atol=1e-10)


# What SLURM's own would start on two nodes, on this one.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_STEP_NUM_NODES=2 SLURM_STEP_NODELIST=127.0.0.1
SLURM_PROCID=0 "$@" &
first=$!
SLURM_PROCID=1 "$@" && wait $first
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_script_for_slurm_runs_its_program_in_two_processes(tmp_path):
    page = (ROOT / "docs" / "how_to" / "cluster.md").read_text()
    program, script = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("python", "bash"))
    (tmp_path / "many.py").write_text(program)
    (tmp_path / "job.sh").write_text(script)
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    search = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    # JAX takes the port of the coordinator from the number of the job.
    env = environment(1, PATH=search, SLURM_JOB_ID=str(os.getpid()))
    done = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {f"Process {i} of 2, by SLURM: 1 of 2 devices here." for i in range(2)} <= set(done.stdout.splitlines())
    z = ni.load(tmp_path / "prediction.npz")
    data = ni.datasets.digits(n_train=300, n_test=8)
    dense = ni.Ensemble.fit(ni.architectures.network(depth=2, activation="relu"), data)
    wanted = dense.predict(data.x_test, [1.0, 1e2, 1e4])
    assert z.reached and np.max(np.abs(z.mean - wanted.mean)) < 1e-3
    assert len(list(tmp_path.glob("kept/rows/rows_*.npz"))) == 2


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
