"""Claim: 50 networks x 10,000 epochs of the original 12-bit setting take under 10 minutes on 2 cores.

Networks (12, 10, 7, 5, 4, 3, 2), tanh, 3481 of the 4096 patterns, minibatches of 512, float32, gradient descent:
`ni.finite.train_layers`, beside one network after another by (a) a jitted JAX and optax step called for each minibatch,
(b) forward and backward passes written in NumPy, (c) scikit-learn's `MLPClassifier.partial_fit`, an epoch a call.
A network-step is one update of one network. All start from the weights of our first network and its rows; (a) and (b)
solve its problem in an order of their own, (c) with one logistic output, which moves at another rate. Ours takes every
core; seconds of the cores are given too, since those are what a busy machine leaves alone.

    uv run python benchmarks/sgd_ensemble.py           # some epochs of each, extrapolated
    uv run python benchmarks/sgd_ensemble.py --full    # and all 10,000 of ours, recorded 60 times
"""

import argparse
import faulthandler
import json
import os
import platform
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkinfo import datasets
from ntkinfo.finite import train_layers

SIZES = (12, 10, 7, 5, 4, 3, 2)
N_TRAIN, BATCH, RATE, SEED = 3481, 512, 0.1, 0
NETWORKS, EPOCHS = 50, 10_000
STEPS = -(-N_TRAIN // BATCH)


def clocks():
    """Seconds of the wall and of the cores."""
    return np.array([time.perf_counter(), time.process_time()])


def ours(task, n_networks, epochs, record, progress=False):
    return jax.block_until_ready(
        train_layers(
            SIZES, task.x, task.labels, epochs=epochs, n_networks=n_networks, key=jax.random.key(SEED),
            learning_rate=RATE, batch_size=BATCH, n_train=N_TRAIN, record=record, progress=progress,
        )
    )  # fmt: skip


def jax_loop(params, x, y, epochs):
    """One network: a jitted step for each minibatch, from Python."""
    optimizer = optax.sgd(RATE)

    def loss(params, x, y):
        for weight, bias in params[:-1]:
            x = jnp.tanh(x @ weight + bias)
        logits = x @ params[-1][0] + params[-1][1]
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(logits), axis=1))

    @jax.jit
    def step(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    params = [tuple(map(jnp.asarray, layer)) for layer in params]
    state = optimizer.init(params)
    for size in {BATCH, N_TRAIN % BATCH or BATCH}:
        jax.block_until_ready(step(params, state, x[:size], y[:size]))
    rng, start = np.random.default_rng(SEED), clocks()
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x), BATCH):
            params, state = step(params, state, x[order[i : i + BATCH]], y[order[i : i + BATCH]])
    jax.block_until_ready(params)
    return clocks() - start, float(loss(params, x, y))


def numpy_loop(params, x, y, epochs):
    """One network: forward and backward in NumPy."""
    params = [[weight.copy(), bias.copy()] for weight, bias in params]

    def forward(x):
        found = [x]
        for weight, bias in params[:-1]:
            found.append(np.tanh(found[-1] @ weight + bias))
        return found, found[-1] @ params[-1][0] + params[-1][1]

    def probabilities(logits):
        e = np.exp(logits - logits.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    rng, start = np.random.default_rng(SEED), clocks()
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x), BATCH):
            rows = order[i : i + BATCH]
            found, logits = forward(x[rows])
            delta = (probabilities(logits) - y[rows]) / np.float32(len(rows))
            for layer in reversed(range(len(params))):
                weight, bias = params[layer]
                below = delta @ weight.T * (1 - found[layer] ** 2) if layer else None
                weight -= np.float32(RATE) * (found[layer].T @ delta)
                bias -= np.float32(RATE) * delta.sum(0)
                delta = below
    seconds = clocks() - start
    return seconds, float(-np.mean(np.sum(y * np.log(probabilities(forward(x)[1])), axis=1)))


def sklearn_loop(params, x, y, epochs):
    """One network: scikit-learn, which shuffles and runs through an epoch itself. It has one logistic output."""
    from sklearn.neural_network import MLPClassifier

    labels = y.argmax(1)
    network = MLPClassifier(SIZES[1:-1], activation="tanh", solver="sgd", alpha=0.0, batch_size=BATCH,
                            learning_rate_init=RATE, momentum=0.0, random_state=SEED)  # fmt: skip
    network.partial_fit(x, labels, classes=[0, 1])
    network.coefs_[:-1] = [weight.copy() for weight, _ in params[:-1]]
    network.intercepts_[:-1] = [bias.copy() for _, bias in params[:-1]]
    # The difference of two logits is the logit of two classes.
    network.coefs_[-1] = params[-1][0][:, 1:] - params[-1][0][:, :1]
    network.intercepts_[-1] = params[-1][1][1:] - params[-1][1][:1]
    start = clocks()
    for _ in range(epochs):
        network.partial_fit(x, labels)
    seconds = clocks() - start
    return seconds, float(-np.mean(np.log(network.predict_proba(x)[np.arange(len(x)), labels])))


PEERS = {"JAX and optax, step by step": jax_loop, "NumPy": numpy_loop, "scikit-learn": sklearn_loop}


def ratios(micro):
    return {name: float(np.median(np.array(values) / np.array(micro["ours"]))) for name, values in micro.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--epochs", type=int, default=200, help="epochs of ours in a round")
    parser.add_argument("--peer-epochs", type=int, default=50, help="epochs of a peer's one network in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sgd_ensemble.json")
    options = parser.parse_args()
    epochs, few = options.epochs, options.peer_epochs
    task = datasets.twelve_bit(dtype=np.float32)

    start = time.perf_counter()
    first = ours(task, NETWORKS, few, [0, few])
    first_call = time.perf_counter() - start
    rows = np.asarray(first.train_rows[0])
    params = [(np.array(w[0, 0]), np.array(b[0, 0])) for w, b in zip(first.weights, first.biases, strict=True)]
    x, y = np.asarray(task.x)[rows], np.eye(2, dtype=np.float32)[np.asarray(task.labels)[rows]]
    losses = {"ours": float(first.train_loss[0, 1]), "start": float(first.train_loss[0, 0])}

    # Interleaved, so that a busy machine slows all of them alike; ratios are taken within each round.
    micro = {name: [] for name in ("ours", *PEERS)}
    for _ in range(options.rounds):
        start = clocks()
        ours(task, NETWORKS, epochs, [0, epochs])
        micro["ours"].append(1e6 * (clocks() - start) / (NETWORKS * epochs * STEPS))
        for name, peer in PEERS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    seconds, losses[name] = peer(params, x, y, few)
                except ImportError:
                    continue
            micro[name].append(1e6 * seconds / (few * STEPS))
    micro, core = ({name: [float(v[i]) for v in values] for name, values in micro.items() if values} for i in (0, 1))
    total = NETWORKS * EPOCHS * STEPS / 1e6
    result = {
        "setting": {"sizes": SIZES, "n_train": N_TRAIN, "batch": BATCH, "networks": NETWORKS, "epochs": EPOCHS,
                    "network_steps": NETWORKS * EPOCHS * STEPS},
        "measured_epochs": epochs, "measured_epochs_of_peers": few, "rounds": options.rounds,
        "jax": jax.__version__, "cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg(),
        "first_call_seconds": first_call,
        "microseconds_per_network_step": micro, "core_microseconds_per_network_step": core,
        "extrapolated_seconds": {name: total * float(np.median(values)) for name, values in micro.items()},
        "ratio_to_ours": ratios(micro), "core_ratio_to_ours": ratios(core),
        f"loss_of_first_network_after_{few}_epochs": losses,
    }  # fmt: skip
    print(f"{'':28s} µs a network-step (of cores)   50 x 10,000 epochs   over ours (cores)   loss, {few} epochs")
    for name, values in micro.items():
        seconds, ratio = result["extrapolated_seconds"][name], result["ratio_to_ours"][name]
        used, over = np.median(core[name]), result["core_ratio_to_ours"][name]
        print(
            f"{name:28s} {np.median(values):17.1f} ({used:7.1f}) {seconds:19.0f} s "
            f"{ratio:11.1f} ({over:5.1f}) {losses[name]:17.4f}"
        )
    print(f"first call, with compilation: {first_call:.1f} s; loss before training {losses['start']:.4f}")
    if options.full:
        start = time.perf_counter()
        run = ours(task, NETWORKS, EPOCHS, 60, progress=None)
        result["full"] = {
            "seconds": time.perf_counter() - start,
            "records": len(run.epochs),
            "train_loss": float(run.train_loss[:, -1].mean()),
            "train_error": float(run.train_error[:, -1].mean()),
            "test_error": float(run.test_error[:, -1].mean()),
        }
        print(f"all {NETWORKS} x {EPOCHS} epochs, measured: {result['full']['seconds']:.0f} s (target: under 600)")
        print(f"test error {result['full']['test_error']:.4f}, training {result['full']['train_error']:.4f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    # Time limit in seconds: a run that hangs ends with a traceback of where.
    faulthandler.dump_traceback_later(2400, exit=True)
    main()
