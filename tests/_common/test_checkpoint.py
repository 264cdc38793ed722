"""Checkpoints: what they refuse, what they survive, and which runs they take for the same."""

import errno
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import finite, stax
from ntkinfo._common import checkpoint
from ntkinfo._common.checkpoint import Checkpoint, content_hash, fingerprint

ARGUMENTS = {"x": "1", "chunk": "2"}
PART = {"a": np.arange(5.0), "b": np.array(3)}


# Which runs are the same.


def closing_over(array, how):
    """A function of (3,) that closes over an array: directly, or inside a program of a program."""
    functions = {
        "outer": lambda x: x * array,
        "jit": lambda x: jax.jit(lambda z: z * array)(x),
        "scan": lambda x: jax.lax.scan(lambda c, _: (c * array, None), x, None, length=2)[0],
        "cond": lambda x: jax.lax.cond(x[0] > 0, lambda z: z * array, lambda z: z, x),
        "vmap of jit": lambda x: jax.vmap(jax.jit(lambda z: z * jnp.asarray(array)))(x[None]),
        "checkpoint": lambda x: jax.checkpoint(lambda z: z * array)(x),
    }
    return functions[how]


@pytest.mark.parametrize("how", ["outer", "jit", "scan", "cond", "vmap of jit", "checkpoint"])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_a_fingerprint_is_of_the_arrays_closed_over(how, kind):
    x = jnp.ones(3)
    first, again, other = (fingerprint(closing_over(kind(a), how), x) for a in ([1.0, 2, 3], [1.0, 2, 3], [1.0, 2, 4]))
    assert first == again != other


def test_a_fingerprint_is_of_random_keys_and_numbers_closed_over():
    x = jnp.ones(3)
    keys = [
        fingerprint(lambda x, k=k: x + jax.random.normal(k, (3,)), x) for k in (*jax.random.split(jax.random.key(0)),)
    ]
    assert keys[0] != keys[1]
    numbers = [fingerprint(lambda x, c=c: c * x, x) for c in (1.0, np.nextafter(1.0, 2))]
    assert numbers[0] != numbers[1]


def test_a_fingerprint_is_the_same_in_another_process(capsys):
    program = """
        import numpy as np, jax
        jax.config.update("jax_enable_x64", True)
        from ntkinfo._common.checkpoint import fingerprint
        mask = np.array([1.0, 0.0, 2.0])
        print(fingerprint(lambda x: jax.nn.relu(jax.jit(lambda z: z * mask)(x)), np.ones(3)))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    exec(textwrap.dedent(program), {})
    assert capsys.readouterr().out == run.stdout != ""


def test_content_is_hashed_whole():
    many = np.zeros(10_000)
    other = many.copy()
    other[5000] = 1e-300
    assert content_hash(many) != content_hash(other)
    assert content_hash(jnp.asarray(many)) == content_hash(many) != content_hash(many.astype(np.float32))


def test_networks_that_differ_in_a_fixed_array_are_not_one_run(tmp_path):
    def network(mask):
        init, apply, kernel = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))
        return init, lambda params, x, **options: apply(params, x * mask, **options), kernel

    x, y = np.ones((3, 2)), np.ones((3, 1))
    options = {"n_networks": 1, "key": jax.random.key(0), "learning_rate": 0.1, "checkpoint": tmp_path}
    finite.train(network(np.array([[1.0, 0.0]])), x, y, 0.2, **options)
    finite.train(network(np.array([[1.0, 0.0]])), x, y, 0.2, **options)
    with pytest.raises(ValueError, match="differs in net"):
        finite.train(network(np.array([[0.0, 1.0]])), x, y, 0.2, **options)


def test_networks_that_differ_in_their_derivative_only_are_not_one_run(tmp_path):
    def network(scale):
        @jax.custom_vjp
        def scaled(z):
            return z

        scaled.defvjp(lambda z: (z, None), lambda _, slope: (slope * scale,))
        init, apply, kernel = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))
        return init, lambda params, x, **options: scaled(apply(params, x, **options)), kernel

    x, y = np.ones((3, 2)), np.ones((3, 1))
    options = {"n_networks": 1, "key": jax.random.key(0), "learning_rate": 0.1, "checkpoint": tmp_path}
    finite.train(network(np.array([[1.0]])), x, y, 0.2, **options)
    finite.train(network(np.array([[1.0]])), x, y, 0.2, **options)
    with pytest.raises(ValueError, match="differs in net"):
        finite.train(network(np.array([[2.0]])), x, y, 0.2, **options)


# Parts.


def test_parts_come_back_as_they_were_saved(tmp_path):
    Checkpoint(tmp_path, ARGUMENTS).save("part", PART)
    stored = Checkpoint(tmp_path, ARGUMENTS).load("part")
    assert stored is not None and stored.keys() == PART.keys()
    for name, array in PART.items():
        np.testing.assert_array_equal(stored[name], array)
    assert Checkpoint(tmp_path, ARGUMENTS).load("other") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arguments.json", "part.npz"]


def test_a_part_under_another_name_or_of_another_run_is_refused(tmp_path):
    ours, theirs = Checkpoint(tmp_path / "ours", ARGUMENTS), Checkpoint(tmp_path / "theirs", {**ARGUMENTS, "x": "2"})
    for folder in (ours, theirs):
        folder.save("one", PART)
    (ours.path / "two.npz").write_bytes((ours.path / "one.npz").read_bytes())
    with pytest.raises(ValueError, match=r"`checkpoint` holds a file .* another name or by another run, .*two\.npz"):
        ours.load("two")
    (ours.path / "one.npz").write_bytes((theirs.path / "one.npz").read_bytes())
    with pytest.raises(ValueError, match=r"another name or by another run, .*one\.npz"):
        ours.load("one")
    np.savez(ours.path / "three.npz", **PART)
    with pytest.raises(ValueError, match=r"another name or by another run, .*three\.npz"):
        ours.load("three")


@pytest.mark.parametrize("cut", [0, 1, 30, 200, 500])
def test_a_damaged_part_is_named(tmp_path, cut):
    folder = Checkpoint(tmp_path, ARGUMENTS, argument="folder")
    folder.save("part", PART)
    (tmp_path / "part.npz").write_bytes((tmp_path / "part.npz").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"`folder` holds a damaged file, .*part\.npz.*Delete that file"):
        folder.load("part")


# Folders of something else.


@pytest.mark.parametrize("text", ["[1]", "null", '"a"', "3", '{"x": 1}', '{"x": null}', "[" * 100_000, "{", "\x00"])
def test_arguments_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "arguments.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"`checkpoint` (cannot be read|must be a folder of an earlier run).*arguments\."
    ):
        Checkpoint(tmp_path, ARGUMENTS)
    with pytest.raises(ValueError, match=r"`checkpoint` (cannot be read|must be a folder of an earlier run)"):
        Checkpoint.stored_integer(tmp_path, "chunk")


def test_arguments_that_lack_some_are_refused(tmp_path):
    (tmp_path / "arguments.json").write_text('{"x": "1"}')
    with pytest.raises(ValueError, match=r"must be of a run with the same arguments; .* differs in chunk"):
        Checkpoint(tmp_path, ARGUMENTS)


@pytest.mark.parametrize("stored", ["{}", '{"x": "1"}', '{"chunk": "many"}', '{"chunk": "0"}', '{"chunk": "-1"}'])
def test_training_refuses_folders_without_a_chunk(tmp_path, stored):
    (tmp_path / "arguments.json").write_text(stored)
    net = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))
    x, y, key = np.ones((3, 2)), np.ones((3, 1)), jax.random.key(0)
    message = "`checkpoint` must be of a run with the same arguments; .* holds no whole number `chunk`"
    with pytest.raises(ValueError, match=message):
        finite.train(net, x, y, 0.2, n_networks=1, key=key, learning_rate=0.1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=message):
        finite.train_layers(
            (2, 2), x, np.zeros(3, int), epochs=1, n_networks=1, key=key, batch_size=3, checkpoint=tmp_path
        )


# Disks and interruptions.


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    folder = Checkpoint(tmp_path, ARGUMENTS, argument="folder")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match=r"`folder` cannot be written to .*: No space left on device") as caught:
        folder.save("part", PART)
    assert caught.value.errno == errno.ENOSPC and str(tmp_path) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["arguments.json"]


def test_an_interruption_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    folder = Checkpoint(tmp_path, ARGUMENTS)
    folder.save("part", PART)

    def interrupted(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.save("part", {"a": np.zeros(5)})
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arguments.json", "part.npz"]
    np.testing.assert_array_equal((folder.load("part") or {})["a"], PART["a"])


def test_leftovers_of_dead_runs_are_removed_and_no_others(tmp_path):
    folder = Checkpoint(tmp_path, ARGUMENTS)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    host = "".join(c if c.isascii() and c.isalnum() else "_" for c in os.uname().nodename)
    name = ".part.npz.{}-{}-1-ab.tmp"
    names = {
        "dead": name.format(host, dead.pid),
        "same number": name.format(host, os.getpid()),
        "alive": name.format(host, alive.pid),
        "elsewhere": name.format("otherhost", 1),
        "long ago elsewhere": name.format("otherhost", 2),
        "user's": ".notes.tmp",
    }
    try:
        for file in names.values():
            (tmp_path / file).write_text("half")
        long_ago = time.time() - 2 * 3600
        os.utime(tmp_path / names["long ago elsewhere"], (long_ago, long_ago))
        os.utime(tmp_path / names["user's"], (long_ago, long_ago))
        Checkpoint(tmp_path, ARGUMENTS)
        left = {file.name for file in folder.path.glob(".*")}
        assert left == {names["alive"], names["elsewhere"], names["user's"]}
    finally:
        alive.kill()
        alive.wait()


def test_threads_share_a_folder(tmp_path):
    errors, start = [], threading.Barrier(8)

    def work():
        try:
            start.wait()
            folder = Checkpoint(tmp_path / "run", ARGUMENTS)
            for i in range(20):
                folder.save(f"part{i % 4}", {"a": np.full(500, float(i % 4))})
                stored = folder.load(f"part{i % 4}")
                assert stored is not None and (stored["a"] == i % 4).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "arguments.json",
        *(f"part{i}.npz" for i in range(4)),
    ]


# A run whose state goes from part to part, as one that goes on where it stopped.
RUN = """
    import sys, time
    import numpy as np
    from ntkinfo._common.checkpoint import Checkpoint
    folder, state = Checkpoint(sys.argv[1], {"x": "1"}), np.ones(2000)
    print("ready", flush=True)
    for i in range(60):
        stored = folder.load(f"part{i}")
        if stored is None:
            time.sleep(0.002)
            stored = {"state": np.sin(1 + state * (i + np.arange(2000)))}
            folder.save(f"part{i}", stored)
        state = stored["state"]
"""


def start(folder: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(RUN), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    parts = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as stored:
            parts[file.name] = b"".join(stored[name].tobytes() for name in sorted(stored))
    return parts


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The parts of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder))
    return contents(folder)


# Each run imports JAX, which is what it takes.
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_ends_bit_for_bit_the_same(tmp_path, whole, kills):
    moments = random.Random(kills)
    for _ in range(kills):
        process = start(tmp_path / "killed")
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path / "killed"))
    assert contents(tmp_path / "killed") == whole
    assert len(whole) == 60
    assert not list((tmp_path / "killed").glob(".*"))


def test_processes_share_a_folder(tmp_path, whole):
    both = [start(tmp_path / "both") for _ in range(2)]
    for process in both:
        finish(process)
    assert contents(tmp_path / "both") == whole
    assert json.loads((tmp_path / "both" / "arguments.json").read_text()) == {"x": "1"}
