import dataclasses
import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkinfo import finite
from ntkinfo._numerics import mlp
from ntkinfo.finite import DivergedError, _sgd, _train_layers, _validate_layers, train_layers
from tests.compilations import counted

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(21, 3))
P_Y = RNG.dirichlet(np.ones(2), size=21)
RECORD = [0, 1, 2, 4]
ADAM = optax.adam(0.02)

# Batches of 6, 6 and 3 rows, each network with rows and labels of its own.
DRAWN = {"sizes": (3, 4, 3, 2), "x": X, "y": P_Y, "activation": ("tanh", "relu"), "learning_rate": 0.3,
         "batch_size": 6, "n_train": 15, "draw_labels": True}  # fmt: skip
# The same batches of 7 rows in every epoch.
FIXED = {"sizes": (3, 4, 2), "x": X, "y": RNG.normal(size=(21, 2)), "activation": "sigmoid", "optimizer": ADAM,
         "batch_size": 7, "loss": "mse", "shuffle": False, "x_test": X[:5] + 0.1,
         "y_test": RNG.normal(size=(5, 2))}  # fmt: skip
WHOLE = {"sizes": (3, 4, 2), "x": X, "y": (X[:, 0] > 0).astype(int), "activation": "linear", "batch_size": None}
CASES = {"drawn": DRAWN, "fixed": FIXED, "whole": WHOLE}


def train(case, **changes):
    arguments = {"epochs": 4, "n_networks": 3, "key": KEY, "record": RECORD, "chunk": 2, "progress": False}
    arguments |= CASES[case] | changes
    return train_layers(arguments.pop("sizes"), arguments.pop("x"), arguments.pop("y"), **arguments)


def settings(case, **changes):
    """What of the settings decides on rows, batches and labels."""
    n = CASES[case].get("n_train", len(X))
    return _sgd.Config((), (), None, "", n, CASES[case]["batch_size"] or n, n < len(X),
                        CASES[case].get("draw_labels", False), CASES[case].get("shuffle", True),
                        1)._replace(**changes)  # fmt: skip


def _keys(n):
    return jax.vmap(lambda index: _sgd.keys(KEY, index))(jnp.arange(n))


@pytest.fixture(scope="module")
def runs():
    return {name: train(name) for name in CASES}


def same(a, b, tolerance=0.0):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=tolerance)


# An independent reference: forward, backward and steps in NumPy

FUNCTIONS = {
    "tanh": (np.tanh, lambda t: 1 - t**2),
    "relu": (lambda z: np.maximum(z, 0), lambda t: (t > 0).astype(float)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda t: t * (1 - t)),
    "linear": (lambda z: z, np.ones_like),
}


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def forward(names, params, x):
    found = [x]
    for i, (w, b) in enumerate(params):
        z = found[-1] @ w + b
        found.append(FUNCTIONS[names[i]][0](z) if i < len(names) else z)
    return found


def loss_of(loss, outputs, y):
    if loss == "mse":
        return 0.5 * np.mean((outputs - y) ** 2)
    return -np.mean(np.sum(y * np.log(softmax(outputs)), axis=1))


def gradients_of(names, loss, params, x, y):
    found = forward(names, params, x)
    delta = (found[-1] - y) / y.shape[1] if loss == "mse" else softmax(found[-1]) - y
    delta, result = delta / len(x), []
    for i in reversed(range(len(params))):
        result.insert(0, (found[i].T @ delta, delta.sum(0)))
        if i:
            delta = delta @ params[i][0].T * FUNCTIONS[names[i - 1]][1](found[i])
    return result


class Descent:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, params, gradient):
        return [(w - self.rate * g, b - self.rate * h) for (w, b), (g, h) in zip(params, gradient, strict=True)]


class Adam(Descent):
    def __init__(self, rate):
        self.rate, self.count, self.first, self.second = rate, 0, {}, {}

    def __call__(self, params, gradient):
        self.count += 1
        result = []
        for i, layer in enumerate(zip(params, gradient, strict=True)):
            new = []
            for j, (value, g) in enumerate(zip(*layer, strict=True)):
                m = self.first[i, j] = 0.9 * self.first.get((i, j), 0) + 0.1 * g
                v = self.second[i, j] = 0.999 * self.second.get((i, j), 0) + 0.001 * g**2
                m, v = m / (1 - 0.9**self.count), v / (1 - 0.999**self.count)
                new.append(value - self.rate * m / (np.sqrt(v) + 1e-8))
            result.append(tuple(new))
        return result


def of(run, network, record):
    return [
        (np.asarray(w[network, record]), np.asarray(b[network, record]))
        for w, b in zip(run.weights, run.biases, strict=True)
    ]


def reference(case, run, network):
    """Per record: parameters, losses, errors, and norms of the mean and deviation of the gradients; from record 0."""
    given = CASES[case]
    loss, names = run.loss, run.activations
    rows = np.asarray(run.train_rows[network])
    others = np.setdiff1d(np.arange(len(X)), rows)
    y = np.eye(2)[np.asarray(given["y"])] if np.ndim(given["y"]) == 1 else given["y"]
    if run.labels is not None:
        y = np.eye(2)[np.asarray(run.labels[network])]
    tests = (given["x_test"], given["y_test"]) if "x_test" in given else (X[others], y[others])
    params = of(run, network, 0)
    update = Adam(0.02) if case == "fixed" else Descent(given.get("learning_rate", 0.1))
    size = given["batch_size"] or len(rows)

    def batches(epoch):
        order = rows[np.asarray(_sgd.order(settings(case), _sgd.keys(KEY, network), epoch))]
        return [order[i : i + size] for i in range(0, len(order), size)]

    def error(x, y):
        return np.mean(forward(names, params, x)[-1].argmax(1) != y.argmax(1))

    for epoch in range(max(RECORD) + 1):
        if epoch in RECORD:
            each = [gradients_of(names, loss, params, X[b], y[b]) for b in batches(epoch)]
            weights = [np.stack([g[layer][0] for g in each]) for layer in range(len(params))]
            truth = {
                "params": params,
                "train_loss": loss_of(loss, forward(names, params, X[rows])[-1], y[rows]),
                "train_error": error(X[rows], y[rows]),
                "gradient_mean": [np.linalg.norm(g.mean(0)) for g in weights],
                "gradient_std": [np.linalg.norm(g.std(0)) for g in weights],
                "weight_norm": [np.linalg.norm(w) for w, _ in params],
            }
            if len(tests[0]):
                truth |= {
                    "test_loss": loss_of(loss, forward(names, params, tests[0])[-1], tests[1]),
                    "test_error": error(*tests),
                }
            yield truth
        for batch in batches(epoch):
            params = update(params, gradients_of(names, loss, params, X[batch], y[batch]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("network", [0, 2])
def test_training_agrees_with_numpy(runs, case, network):
    run = runs[case]
    for record, truth in enumerate(reference(case, run, network)):
        params = truth.pop("params")
        same(of(run, network, record), params, 1e-10)
        for name, value in truth.items():
            np.testing.assert_allclose(getattr(run, name)[network, record], value, rtol=0, atol=1e-10, err_msg=name)
    assert (run.test_loss is None) == (case == "whole")


def test_training_changes_the_networks(runs):
    # Guards the comparison above against steps that do nothing.
    for run in runs.values():
        assert all(float(jnp.abs(w[:, -1] - w[:, 0]).max()) > 1e-2 for w in run.weights)
        assert (run.train_loss[:, -1] < run.train_loss[:, 0]).all()


# Networks, rows, labels, batches


@pytest.mark.parametrize(
    ("case", "changes"),
    [("drawn", {"n_networks": 4, "chunk": 1}), ("whole", {"n_networks": 4, "chunk": 4, "side_by_side": 2})],
)
def test_a_network_depends_on_the_key_and_its_index_alone(runs, case, changes):
    other = train(case, **changes)
    same(*(jax.tree.map(lambda leaf: leaf[:3], dataclasses.replace(r, epochs=())) for r in (runs[case], other)), 1e-12)


def test_networks_and_keys_differ(runs):
    w = runs["drawn"].weights[0]
    assert len(np.unique(np.asarray(w[:, 0, 0, 0]))) == 3
    other = train("drawn", key=jax.random.key(4)).weights[0]
    assert not np.allclose(w[:, 0], other[:, 0])


def test_rows_are_distinct_and_drawn_for_each_network(runs):
    rows = np.asarray(runs["drawn"].train_rows)
    assert rows.shape == (3, 15) and all(len(set(row)) == 15 for row in rows.tolist())
    assert len({frozenset(row) for row in rows.tolist()}) == 3
    assert np.array_equal(runs["whole"].train_rows, np.tile(np.arange(21), (3, 1)))


def test_labels_are_drawn_from_their_probabilities(runs):
    y = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.01, 0.0, 0.99]])
    n = 4000
    labels = _sgd.drawn(settings("drawn", vmap_size=n), _keys(n), jnp.asarray(y))
    frequency = (np.asarray(labels)[:, :, None] == np.arange(3)).mean(0)
    assert (np.abs(frequency - y) <= 5 * np.sqrt(y * (1 - y) / n)).all()
    own = _sgd.drawn(settings("drawn", vmap_size=3), _keys(3), jnp.asarray(P_Y))
    assert np.array_equal(own, runs["drawn"].labels) and runs["whole"].labels is None


@pytest.mark.parametrize("n", [15, 70_000])
def test_every_epoch_takes_every_row_once_in_a_new_order(n):
    own = _sgd.keys(KEY, 0)
    orders = [np.asarray(_sgd.order(settings("drawn", n_train=n), own, epoch)) for epoch in (0, 1)]
    assert all(np.array_equal(np.sort(order), np.arange(n)) for order in orders)
    assert not np.array_equal(*orders)
    again = [np.asarray(_sgd.order(settings("drawn", n_train=n, shuffle=False), own, epoch)) for epoch in (0, 1)]
    assert np.array_equal(*again)


def test_every_row_is_as_often_in_every_batch():
    n_epochs = 3000
    orders = jax.vmap(lambda epoch: _sgd.order(settings("drawn"), _sgd.keys(KEY, 0), epoch))(jnp.arange(n_epochs))
    frequency = np.stack([(np.asarray(orders)[:, :6] == row).any(1).mean() for row in range(15)])
    assert (np.abs(frequency - 0.4) < 5 * np.sqrt(0.24 / n_epochs)).all()


def test_initial_weights_follow_their_law():
    params = mlp.initialise((50, 400, 3), 1.5, KEY, jnp.float64)
    w = np.asarray(params[0].weight) * np.sqrt(50) / 1.5
    # A normal law cut off at ±2 has variance 1 - 4 φ(2)/(Φ(2) - Φ(-2)).
    assert np.abs(w).max() <= 2 and np.abs(w).max() > 1.99
    assert abs(w.mean()) < 5 * w.std() / np.sqrt(w.size)
    assert abs((w**2).mean() - 0.77374) < 5 * (w**2).std() / np.sqrt(w.size)
    assert all(not layer.bias.any() for layer in params)


# Statistics, schedule, activations


def test_one_batch_has_no_deviation(runs):
    assert runs["whole"].steps_per_epoch == 1 and runs["drawn"].steps_per_epoch == 3
    assert (runs["whole"].gradient_std == 0).all() and (runs["drawn"].gradient_std > 0).all()


@pytest.mark.parametrize(
    ("record", "epochs", "expected"),
    [
        (2, 100, [0, 100]),
        (3, 100, [0, 1, 100]),
        (4, 100, [0, 1, 10, 100]),
        (60, 3, [0, 1, 2, 3]),
        ([5, 0, 5, 2], 9, [0, 2, 5]),
        (np.array([7]), 9, [7]),
    ],
)
def test_schedule(record, epochs, expected):
    assert _validate_layers.schedule(record, epochs).tolist() == expected


def test_records_do_not_depend_on_the_schedule(runs):
    other = train("drawn", record=[2, 4])
    for name in ("weights", "train_loss", "test_error", "gradient_mean", "gradient_std"):
        same(getattr(other, name), jax.tree.map(lambda leaf: leaf[:, 2:], getattr(runs["drawn"], name)), 1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("index", [None, -1])
def test_activations_agree_with_numpy(runs, case, index):
    run = runs[case]
    got = finite.activations(run, X[:4], index=index)
    assert len(got) == len(run.sizes) - 1
    for network, record in itertools.product(range(3), range(4) if index is None else [3]):
        params = of(run, network, record)
        truth = forward(run.activations, params, X[:4])[1:]
        if run.loss == "cross_entropy":
            truth[-1] = softmax(truth[-1])
        same([leaf[network, record] if index is None else leaf[network] for leaf in got], truth, 1e-12)


def test_functions_are_activations_too(runs):
    other = train("whole", activation=lambda x: x)
    same(other.weights, runs["whole"].weights, 1e-12)
    same(finite.activations(other, X), finite.activations(runs["whole"], X), 1e-12)


def test_a_run_is_a_pytree(runs):
    run = runs["drawn"]
    leaves, structure = jax.tree.flatten(run)
    back = jax.tree.unflatten(structure, leaves)
    for name in {field.name for field in dataclasses.fields(run)} - {"weights", "biases"}:
        assert getattr(back, name) is getattr(run, name)
    doubled = jax.jit(lambda run: jax.tree.map(lambda leaf: 2 * leaf, run))(run)
    assert doubled.activations == ("tanh", "relu") and doubled.loss == "cross_entropy"
    same(doubled.biases, [2 * b for b in run.biases])


# Checkpoints


class Stopped(RuntimeError):
    pass


def test_an_interrupted_run_ends_bit_for_bit_the_same(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(_train_layers, "_SAVED_EVERY", -1.0)
    advance, count, lock = _sgd.advance, itertools.count(), threading.Lock()

    def until(limit):
        def stopping(*args):
            with lock:
                # Neither the call that is hashed nor the one that compiles trains.
                if not isinstance(args[1].rows, jax.core.Tracer) and args[-1] and next(count) >= limit:
                    raise Stopped
            return advance(*args)

        return stopping

    with monkeypatch.context() as patch:
        patch.setattr(_sgd, "advance", until(3))
        with pytest.raises(Stopped):
            train("drawn", checkpoint=tmp_path)
    held = {p.name: int(np.load(p)["count"]) for p in tmp_path.glob("*.npz")}
    # Record 0 needs no step: 2 chunks, 3 steps done of 6.
    assert sum(held.values()) - len(held) == 3
    count = itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(_sgd, "advance", until(3))
        run = train("drawn", checkpoint=tmp_path, chunk=None)
    assert next(count) == 3
    same(run, runs["drawn"])
    # All is there: nothing is trained any more.
    with monkeypatch.context() as patch:
        patch.setattr(_sgd, "advance", until(0))
        same(train("drawn", checkpoint=tmp_path), run)
        same(train("drawn", checkpoint=tmp_path, n_networks=4).weights[0][:3], run.weights[0])


def test_a_checkpoint_grows_by_networks(runs, tmp_path):
    train("drawn", n_networks=1, checkpoint=tmp_path)
    same(train("drawn", checkpoint=tmp_path), runs["drawn"])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"key": jax.random.key(4)}, "key"),
        ({"x": X + 1}, "x"),
        ({"y": P_Y[::-1]}, "y"),
        ({"record": [0, 4]}, "record"),
        ({"chunk": 3}, "chunk"),
        ({"learning_rate": 0.2}, "optimizer"),
        ({"activation": "tanh"}, "activation"),
        ({"weight_std": 2.0}, "sizes"),
        ({"draw_labels": False}, "sizes"),
    ],
)
def test_a_checkpoint_of_other_arguments_is_refused(tmp_path_factory, changes, name):
    folder = tmp_path_factory.getbasetemp() / "layered"
    if not folder.exists():
        train("drawn", checkpoint=folder)
    with pytest.raises(ValueError, match=rf"`checkpoint` must be of a run with the same arguments.*differs in.*{name}"):
        train("drawn", checkpoint=folder, **changes)


def test_a_checkpoint_of_another_kind_of_run_is_refused(tmp_path):
    (tmp_path / "arguments.json").write_text('{"net": "1"}')
    with pytest.raises(ValueError, match="`checkpoint` must be of a run with the same arguments"):
        train("drawn", checkpoint=tmp_path, chunk=None)


# Divergence: one row of large input, on which training diverges; a network has it or not

SPIKE = np.array([[1.0], [1.1], [0.9], [1.2], [10.0], [0.8]])
SPIKE_Y = np.array([[0.3], [0.2], [0.5], [0.1], [0.4], [0.6]])


def diverge(n_networks, record, **changes):
    arguments = {"epochs": 12, "n_networks": n_networks, "key": jax.random.key(12), "record": record, "chunk": 2,
                 "loss": "mse", "batch_size": None, "n_train": 3, "progress": False}  # fmt: skip
    return train_layers((1, 1), SPIKE, SPIKE_Y, **(arguments | changes))


def first_failure(rows, w, rate=0.1):
    """The first step whose loss is more than 10⁴ times that at the start and of zero outputs; -1 if none."""
    x, y, b = SPIKE[rows, 0], SPIKE_Y[rows, 0], 0.0
    start = 0.5 * np.mean((w * x - y) ** 2) + 0.5 * np.mean(y**2)
    for step in range(13):
        if 0.5 * np.mean((w * x + b - y) ** 2) > 1e4 * start:
            return step
        residual = w * x + b - y
        w, b = w - rate * np.mean(residual * x), b - rate * np.mean(residual)
    return -1


@pytest.fixture(scope="module")
def failures():
    start = diverge(12, [0])
    steps = [first_failure(np.asarray(start.train_rows[i]), float(start.weights[0][i, 0, 0, 0])) for i in range(12)]
    assert -1 in steps and max(steps) > 1
    return steps


def test_divergence_is_reported_with_its_step_and_what_was_before(failures):
    n = 2 * (1 + next(i for i in range(6) if max(failures[2 * i : 2 * i + 2]) >= 0))
    step = min(each for each in failures[:n] if each >= 0)
    with pytest.raises(DivergedError, match=rf"diverged at step {step} \(epoch {step}\)") as caught:
        diverge(n, list(range(13)))
    error = caught.value
    assert (error.step, error.epoch) == (step, step) and isinstance(error, ValueError)
    kept = error.run.epochs.tolist()
    assert kept == list(range(len(kept))) and 0 < len(kept) <= step
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(error.run))
    with pytest.raises(DivergedError, match="nothing") as caught:
        diverge(n, [12])
    assert caught.value.run is None


def test_the_last_update_may_be_the_one_that_diverges(failures):
    at = next(i for i, step in enumerate(failures) if step >= 0)
    step = failures[at]
    others = [each for each in failures[: at + 1] if each >= 0]
    assert others == [step]
    # No step after it looks at the loss; the record does.
    with pytest.raises(DivergedError) as caught:
        diverge(at + 1, [0, step], epochs=step)
    assert caught.value.step == step and caught.value.run.epochs.tolist() == [0]


def test_networks_that_fill_up_a_chunk_may_diverge(failures, tmp_path):
    pair = next(i for i in range(6) if failures[2 * i] < 0 <= failures[2 * i + 1] and max(failures[: 2 * i + 1]) < 0)
    n = 2 * pair + 1
    run = diverge(n, [0, 5, 12], checkpoint=tmp_path)
    assert np.isfinite(run.train_loss).all() and run.train_loss.shape == (n, 3)
    # Once it is asked for, it has diverged, and the checkpoint says when.
    with pytest.raises(DivergedError) as caught:
        diverge(n + 1, [0, 5, 12], checkpoint=tmp_path)
    step = failures[n]
    assert caught.value.step == step
    assert caught.value.run.epochs.tolist() == [epoch for epoch in (0, 5, 12) if epoch < step]


# Refusals

NAN = X.copy()
NAN[2, 1] = np.nan


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"sizes": (3,)}, ValueError, "`sizes` must hold the inputs and the outputs"),
        ({"sizes": (4, 4, 2)}, ValueError, "`sizes` must begin with the 3 columns"),
        ({"sizes": (3, 4, 5)}, ValueError, "`sizes` must begin .* 2 outputs"),
        ({"sizes": (3, 0, 2)}, ValueError, "`sizes` must be at least 1"),
        ({"sizes": (3, 4.5, 2)}, TypeError, "`sizes` must be a list of positive integers"),
        ({"sizes": 3}, ValueError, "`sizes` must hold the inputs and the outputs"),
        ({"activation": "tanhh"}, ValueError, "`activation` must be one of .*'tanh'.*; got 'tanhh'"),
        ({"activation": ("tanh", "tanh")}, ValueError, "`activation` must be one, or one for each of the 1 hidden"),
        ({"activation": 3}, TypeError, "`activation` must be a name or a function"),
        ({"x": NAN}, ValueError, "`x` must be finite"),
        ({"x": X.astype(int)}, TypeError, "`x` must hold floating-point numbers"),
        ({"x": X[:, 0]}, ValueError, "`x` must have rank 2"),
        ({"y": np.zeros(20, int)}, ValueError, "`y` must have one row for each of the 21 inputs"),
        ({"y": -np.ones(21, int)}, ValueError, "`y` must be classes from 0 to 1; got -1"),
        ({"y": X[:, 0]}, TypeError, r"`y` must be integer classes \(n,\)"),
        ({"y": 2 * P_Y}, ValueError, "`y` must hold probabilities that sum to 1 in every row"),
        ({"y": np.c_[P_Y[:, :1] + 1, -P_Y[:, :1]]}, ValueError, "`y` must hold probabilities"),
        ({"epochs": 0}, ValueError, "`epochs` must be at least 1"),
        ({"n_networks": 2.0}, TypeError, "`n_networks` must be an integer"),
        ({"key": 0}, TypeError, "`key` must be one random key"),
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` must be positive"),
        ({"learning_rate": 0.1, "optimizer": ADAM}, ValueError, "`learning_rate` must be left out"),
        ({"optimizer": 0.1}, TypeError, "`optimizer` must be one of optax"),
        ({"batch_size": 22}, ValueError, "`batch_size` must be at most the 21 training rows"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"loss": "hinge"}, ValueError, "`loss` must be one of"),
        ({"n_train": 22}, ValueError, "`n_train` must be at most the 21 rows"),
        ({"x_test": X}, ValueError, "`x_test` and `y_test` must be given together"),
        ({"x_test": X[:, :2], "y_test": P_Y}, ValueError, "`x_test` must have the 3 columns"),
        ({"x_test": X[:4], "y_test": np.full(4, 2)}, ValueError, "`y_test` must be classes from 0 to 1"),
        ({"x_test": X[:4], "y_test": P_Y[:5]}, ValueError, "`y_test` must have one row for each of the 4 inputs"),
        ({"draw_labels": True, "loss": "mse"}, ValueError, "`draw_labels` must be False"),
        ({"record": 1}, ValueError, "`record` must be at least 2"),
        ({"record": [0, 5]}, ValueError, "`record` must lie between 0 and `epochs` = 4"),
        ({"record": [0.5]}, TypeError, "`record` must be a number of epochs"),
        ({"record": []}, TypeError, "`record` must be a number of epochs"),
        ({"weight_std": 0.0}, ValueError, "`weight_std` must be positive"),
        ({"chunk": 0}, ValueError, "`chunk` must be at least 1"),
        ({"side_by_side": 0}, ValueError, "`side_by_side` must be at least 1"),
    ],
)
def test_refusals(changes, error, match):
    with pytest.raises(error, match=match):
        train("whole", **changes)


def test_activations_refuse_other_inputs_and_records(runs):
    with pytest.raises(ValueError, match="`x` must have 3 columns"):
        finite.activations(runs["whole"], X[:, :2])
    with pytest.raises(ValueError, match="`index` must be at most 3; got 4"):
        finite.activations(runs["whole"], X, index=4)


def test_numbers_are_arguments_of_the_programs():
    train("drawn")
    for change in ({}, {"epochs": 5, "record": 3}, {"learning_rate": 0.2}, {"weight_std": 0.7}):
        with counted() as count:
            train("drawn", **change)
        assert count.number == 0, change
