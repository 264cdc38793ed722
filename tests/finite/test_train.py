"""ntkinfo.finite: gradient descent is exact where it can be solved, and wide networks follow the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import finite, mixture, stax
from ntkinfo.finite import _gradient_descent, _summary
from tests.references.kernels import fully_connected

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(8, 4)), rng.normal(size=(5, 4))
    return x, np.where(x[:, :1] > 0, 1.0, -1.0), x_test, np.where(x_test[:, :1] > 0, 1.0, -1.0)


def one_layer(width=16, activation=stax.Erf, k=1):
    return stax.serial(stax.Dense(width, W_std=1.5), activation(), stax.Dense(k, W_std=1.5))


# A linear network: everything along its path is known for each network, from its outputs at the start.

LINEAR = stax.Dense(2, W_std=1.3, b_std=0.4)


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 7)), rng.normal(size=(5, 2))
    return x, y, 1.3**2 * x @ x.T / 7 + 0.4**2


def flow(theta, residual, s):
    """Residual, squared distance and the two actions of gradient flow from a residual (n, k) at rescaled time s."""
    rates, u = np.linalg.eigh(theta)
    power = np.sum((u.T @ residual) ** 2, axis=1)
    return (
        u @ (np.exp(-s * rates)[:, None] * (u.T @ residual)),
        np.sum(power * (1 - np.exp(-s * rates)) ** 2 / rates),
        0.5 * np.sum(power * (1 - np.exp(-2 * s * rates))),
        0.5 * np.sum(power * rates * (1 - np.exp(-2 * s * rates))),
    )


def linear_run(linear, t, **options):
    x, y, _ = linear
    return finite.train(LINEAR, x, y, t, n_networks=3, key=KEY, x_test=x, **options)


def test_time_is_learning_rate_times_steps(linear):
    _, y, theta = linear
    run = linear_run(linear, [0.0, 0.5, 2.0], learning_rate=0.25, fisher_trace=True)
    assert run.steps.tolist() == [0, 2, 8]
    assert float(run.learning_rate) == 0.25
    step = np.eye(5) - 0.25 / 10 * theta
    for network in range(3):
        residual = np.asarray(run.train_outputs[network, 0]) - y
        action = fisher_action = 0.0
        for j in range(9):
            if j in (0, 2, 8):
                i = (0, 2, 8).index(j)
                np.testing.assert_allclose(run.train_outputs[network, i], residual + y, rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(run.loss[network, i], np.mean(residual**2) / 2, rtol=1e-10)
                np.testing.assert_allclose(run.action[network, i], action, rtol=1e-10)
                np.testing.assert_allclose(run.fisher_action[network, i], fisher_action, rtol=1e-10)
            action += 0.025 * np.sum(residual * (theta @ residual))
            fisher_action += 0.025 * np.sum((theta @ residual) ** 2)
            residual = step @ residual
    np.testing.assert_allclose(run.outputs, run.train_outputs, rtol=1e-12)
    np.testing.assert_allclose(run.fisher_trace, np.full((3, 3), 2 * np.trace(theta)), rtol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_discretisation_error_shrinks_with_the_step(linear, method, order):
    _, y, theta = linear

    def errors(rate):
        run = linear_run(linear, [0.0, 6.0], learning_rate=rate, method=method)
        found = []
        for network in range(3):
            want = flow(theta, np.asarray(run.train_outputs[network, 0]) - y, 6.0 / 10)
            got = (
                run.train_outputs[network, 1] - y,
                run.parameter_distance[network, 1],
                run.action[network, 1],
                run.fisher_action[network, 1],
            )
            found.append([np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(got, want, strict=True)])
        return np.array(found)

    coarse, fine = errors(0.2), errors(0.1)
    np.testing.assert_allclose(coarse / fine, 2.0**order, rtol=0.2)
    assert np.max(fine) < {1: 0.05, 2: 0.002}[order]


def test_the_default_step_is_a_twentieth_of_the_stability_limit(linear):
    _, y, theta = linear
    limit = 2 * y.size / np.linalg.eigvalsh(theta)[-1]
    run = linear_run(linear, 10.0)
    np.testing.assert_allclose(run.stability_limit, limit, rtol=1e-6)
    assert run.outputs.shape == (3, 5, 2) and run.loss.shape == (3,)
    assert int(run.steps) == np.ceil(10.0 / (0.05 * limit))
    np.testing.assert_allclose(run.learning_rate, 10.0 / int(run.steps))


def test_times_are_hit_exactly_whatever_the_step():
    t = np.array([0.0, 0.1, 0.3, 0.3, 1.0, 7.7])
    sizes, counts = _gradient_descent.segments(t, 0.25)
    np.testing.assert_allclose(np.cumsum(sizes * counts), t, rtol=1e-14)
    assert sizes.max() <= 0.25
    assert counts.tolist() == [0, 1, 1, 0, 3, 27]
    # Multiples of the learning rate, as rounded, take exactly that many steps.
    assert _gradient_descent.segments(0.1 * np.arange(50), 0.1)[1].tolist() == [0.0] + [1.0] * 49


def test_times_come_in_any_order(linear):
    t = [2.0, 0.0, 0.5, 2.0]
    run, ordered = (linear_run(linear, times, learning_rate=0.25) for times in (t, [0.0, 0.5, 2.0]))
    for name in ("outputs", "train_outputs", "loss", "action"):
        np.testing.assert_array_equal(getattr(run, name), getattr(ordered, name)[:, jnp.array([2, 0, 1, 2])])
    assert run.t.tolist() == t and run.steps.tolist() == [8, 0, 2, 8]


# Wide networks against the closed forms.


@pytest.fixture(scope="module")
def wide(data):
    x, y, x_test, y_test = data
    net = one_layer(512, stax.Relu)
    ens = ni.Ensemble.fit(net, x, y)
    t = np.array([0.0, 0.5, 2.0, 6.0, 16.0]) * 8 / float(ens.eigenvalues[-1])
    options = {"n_networks": 200, "key": jax.random.key(3), "x_test": x_test, "method": "heun", "fisher_trace": True}
    run = finite.train(net, x, y, t, **options)
    return ens, t, run, finite.summary(run, y_test), ni.information.curve(ens, x_test, y_test, t)


def worst(estimates, exact):
    """Largest deviation in standard errors of averages over the first axis."""
    stderr = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    return np.max(np.abs(estimates.mean(axis=0) - exact) / stderr)


def test_networks_start_at_the_prior(data, wide):
    x, _, x_test, _ = data
    both = np.concatenate([x, x_test])
    start = np.concatenate([wide[2].train_outputs, wide[2].outputs], axis=2)[:, 0, :, 0]
    nngp, _ = fully_connected(both, both, [(1.5, 0.0), (1.5, 0.0)], "relu")
    assert worst(start, 0.0) < 5
    assert worst(start[:, :, None] * start[:, None, :], nngp) < 5
    assert worst(start[:, :, None] * start[:, None, :], 1.5 * nngp) > 5


def test_mean_and_covariance_follow_the_ensemble(data, wide):
    ens, t, run, _, _ = wide
    z = ens.predict(data[2], t, joint=True)
    outputs = np.asarray(run.outputs[..., 0])
    assert worst(outputs, z.mean[..., 0]) < 5
    centred = (outputs - outputs.mean(axis=0)) * np.sqrt(len(outputs) / (len(outputs) - 1))
    assert worst(centred[..., :, None] * centred[..., None, :], z.covariance) < 5
    # The check can fail: another time convention is far off.
    assert worst(outputs, ens.predict(data[2], t / 8).mean[..., 0]) > 10


def test_every_quantity_follows_its_closed_form(wide):
    _, t, _, found, curve = wide
    exact = curve.columns() | {"fisher_trace": np.full(len(t), float(curve.fisher_trace))}
    assert set(found) == {
        "train_gibbs_mse", "train_mean_mse", "gibbs_mse", "mean_mse", "gibbs_nll", "ensemble_nll", "gibbs_error",
        "parameter_distance", "action", "fisher_action", "fisher_trace", "output_divergence", "input_information",
        "label_information",
    }  # fmt: skip
    for name, (times, mean, stderr) in found.items():
        np.testing.assert_array_equal(times, t)
        if name in ("parameter_distance", "action", "fisher_action"):
            assert mean[0] == stderr[0] == 0
        assert np.all(np.abs(mean - exact[name])[1:] < 5 * stderr[1:] + 0.01 * np.max(np.abs(exact[name]))), name
    for name in ("parameter_distance", "action", "fisher_action"):
        # Sharp enough to tell a factor of two in time or size.
        assert np.all(found[name][2][1:] < 0.1 * exact[name][1:])


def test_the_control_is_the_flow_of_the_infinite_kernel(data, wide):
    ens, t, run, _, curve = wide
    control = finite.kernel_flow(run, ens, data[2])
    x, y = data[:2]
    _, theta = fully_connected(x, x, [(1.5, 0.0), (1.5, 0.0)], "relu")
    _, across = fully_connected(data[2], x, [(1.5, 0.0), (1.5, 0.0)], "relu")
    for network in (0, 7):
        start = np.asarray(run.train_outputs[network, 0]) - y
        for i in range(len(t)):
            residual, distance, action, fisher_action = flow(theta, start, t[i] / 8)
            np.testing.assert_allclose(control.train_outputs[network, i], residual + y, atol=1e-9)
            np.testing.assert_allclose(control.loss[network, i], np.mean(residual**2) / 2, atol=1e-9)
            np.testing.assert_allclose(control.parameter_distance[network, i], distance, atol=1e-9)
            np.testing.assert_allclose(control.action[network, i], action, atol=1e-9)
            np.testing.assert_allclose(control.fisher_action[network, i], fisher_action, atol=1e-9)
            learned = across @ np.linalg.solve(theta, start - residual)
            np.testing.assert_allclose(control.outputs[network, i], run.outputs[network, 0] - learned, atol=1e-8)
    np.testing.assert_allclose(control.fisher_trace, np.full((200, 5), float(curve.fisher_trace)))
    # Networks follow it closely, so that their difference says more than either.
    plain, difference = finite.summary(run, data[3]), finite.summary(run, data[3], control=control)
    for name in ("parameter_distance", "action", "fisher_action", "gibbs_mse", "mean_mse"):
        assert np.all(difference[name][2][1:] < 0.6 * plain[name][2][1:]), name
        assert np.all(np.abs(difference[name][1][1:]) < 0.05 * np.max(np.abs(plain[name][1]))), name


def test_controls_need_the_start(data, wide):
    ens, _, run, _, _ = wide
    with pytest.raises(ValueError, match="`run` must hold the networks at t = 0"):
        finite.kernel_flow(run._replace(t=run.t + 1), ens, data[2])
    with pytest.raises(ValueError, match="`x_test` must be the 5 test inputs of `run`; got None"):
        finite.kernel_flow(run, ens)
    with pytest.raises(ValueError, match=r"`ens` must be fitted on the data of `run`, labels \(3, 1\); got \(8, 1\)"):
        finite.kernel_flow(run._replace(y=run.y[:3]), ens, data[2])


# Chunks, checkpoints.


@pytest.fixture(scope="module")
def small(data):
    x, y, x_test, _ = data

    def train(**options):
        options = {"n_networks": 7, "key": KEY, "x_test": x_test, "learning_rate": 0.2, "chunk": 3} | options
        return finite.train(NET, x, y, options.pop("t", [0.0, 1.0, 3.0]), **options)

    return train


NET = one_layer()


def assert_same(a, b, rtol=0.0):
    for name, left, right in zip(a._fields, a, b, strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol, err_msg=name) if left is not None else None


def test_chunks_change_nothing(small):
    whole = small(chunk=7)
    assert_same(small(), whole, 1e-10)
    assert_same(small(chunk=None, side_by_side=1, progress=True), whole, 1e-10)
    fewer = small(n_networks=4)
    np.testing.assert_allclose(fewer.outputs, whole.outputs[:4], rtol=1e-10)
    assert np.unique(np.asarray(whole.outputs[:, 0, 0, 0])).size == 7


def test_an_interrupted_run_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    folder, calls, original = tmp_path / "run", [], _gradient_descent.train_chunk

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(_gradient_descent, "train_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small(checkpoint=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["arguments.json", "chunk_00000.npz"]
    resumed = small(checkpoint=folder, chunk=None)
    assert len(calls) == 4
    assert_same(resumed, small())
    del calls[:]
    small(checkpoint=folder, n_networks=9)
    assert not calls


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"t": [0.0, 1.0, 4.0]}, "t or learning_rate"),
        ({"key": jax.random.key(1)}, "key"),
        ({"method": "heun"}, "method"),
        ({"train_outputs": False}, "train_outputs"),
        ({"x_test": None, "chunk": 2}, "chunk, x_test"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(small, tmp_path, change, names):
    small(n_networks=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=f"`checkpoint` must be of a run with the same arguments; .* in {names}"):
        small(n_networks=1, checkpoint=tmp_path, **change)


def test_a_checkpoint_of_another_network_is_refused(data, tmp_path):
    for name, net in (("width", one_layer(17)), ("activation", one_layer(activation=stax.Relu))):
        options = {"n_networks": 1, "key": KEY, "learning_rate": 0.2, "checkpoint": tmp_path / name}
        finite.train(NET, data[0], data[1], 1.0, **options)
        with pytest.raises(ValueError, match="differs in net"):
            finite.train(net, data[0], data[1], 1.0, **options)


def test_checkpoints_that_cannot_be_used(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`checkpoint` must be a folder, or not exist yet"):
        small(checkpoint=tmp_path / "file")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds \.npz files but no arguments\.json"):
        small(checkpoint=tmp_path / "data")
    small(n_networks=1, checkpoint=tmp_path / "run")
    (tmp_path / "run" / "chunk_00000.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged file, .*chunk_00000\.npz"):
        small(n_networks=1, checkpoint=tmp_path / "run")
    (tmp_path / "run" / "arguments.json").write_text("{")
    with pytest.raises(ValueError, match="`checkpoint` cannot be read"):
        small(checkpoint=tmp_path / "run")


# Divergence, tracing, refusals.


def test_divergence_is_reported_with_its_time_and_what_was_before(linear):
    x, y, theta = linear
    rate = 4.0 * y.size / np.linalg.eigvalsh(theta)[-1]
    with pytest.raises(finite.DivergedError, match=r"diverged at t = .* in 3 of .*`learning_rate` was .* 2 times") as e:
        linear_run(linear, [0.0, 2 * rate, 1000 * rate], learning_rate=rate)
    assert isinstance(e.value, ValueError)
    # The fastest mode grows by -3 a step, so 10^4 in power takes between 4 and 10 of them.
    assert 4 * rate < e.value.time < 10 * rate
    run = e.value.run
    assert run.t.tolist() == [0.0, 2 * rate] and run.outputs.shape == (3, 2, 5, 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run._replace(stability_limit=0.0)))
    with pytest.raises(finite.DivergedError, match="nothing was finished before"):
        linear_run(linear, 1000 * rate, learning_rate=rate)
    traced = jax.jit(lambda x: finite.train(LINEAR, x, y, 12 * rate, n_networks=3, key=KEY, learning_rate=rate))(x)
    assert np.isnan(traced.loss).all()


def test_jit_equals_eager(small, data):
    x, y, x_test, _ = data
    options = {"n_networks": 7, "key": KEY, "x_test": x_test, "learning_rate": 0.2, "chunk": 7}
    assert_same(jax.jit(lambda x: finite.train(NET, x, y, [0.0, 1.0, 3.0], **options))(x), small(chunk=7), 1e-10)


def test_float32_stays_float32(small, data):
    x, y, x_test, _ = (a.astype(np.float32) for a in data)
    options = {"n_networks": 7, "key": KEY, "x_test": x_test, "learning_rate": 0.2, "chunk": 7}
    run, wide = finite.train(NET, x, y, [0.0, 1.0, 3.0], **options), small(chunk=7)
    assert run.outputs.dtype == run.action.dtype == run.loss.dtype == jnp.float32
    # The same networks, but for rounding.
    for name in ("outputs", "loss", "action", "fisher_action"):
        np.testing.assert_allclose(getattr(run, name), getattr(wide, name), rtol=1e-4, atol=1e-4)


def test_convolutions_with_several_outputs():
    rng = np.random.default_rng(0)
    net = stax.serial(stax.Conv(4, (3, 3), padding="SAME"), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(3))
    x, y = rng.normal(size=(6, 5, 5, 1)).astype(np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    run = finite.train(net, x, y, [0.0, 5.0], n_networks=5, key=KEY, x_test=x)
    found = finite.summary(run, y, key=KEY)
    assert run.outputs.dtype == jnp.float32 and run.outputs.shape == (5, 2, 6, 3)
    np.testing.assert_allclose(run.outputs, run.train_outputs, atol=1e-6)
    assert all(np.isfinite(part).all() for parts in found.values() for part in parts)
    wrong = np.argmax(np.asarray(run.outputs), axis=-1) != np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(found["gibbs_error"][1], wrong.mean(axis=(0, 2)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t": jnp.inf}, ValueError, "`t` must be finite: .* got inf. Take a late time instead"),
        ({"t": [1.0, -1.0]}, ValueError, "`t` must be times from 0"),
        ({"t": "late"}, TypeError, "`t` must be a number or a vector"),
        ({"t": 1e9}, ValueError, r"`max_steps` = 1000000 steps; t = 1e\+09 needs 5e\+09 at learning rate 0.2"),
        ({"method": "adam"}, ValueError, "`method` must be one of 'euler', 'heun'; got 'adam'"),
        ({"n_networks": 0}, ValueError, "`n_networks` must be at least 1"),
        ({"chunk": 0}, ValueError, "`chunk` must be at least 1"),
        ({"side_by_side": 1.5}, TypeError, "`side_by_side` must be an integer"),
        ({"key": 0}, TypeError, "`key` must be one random key"),
        ({"key": jax.random.split(KEY)}, TypeError, r"`key` must be one random key.*shape \(2,\)"),
        ({"learning_rate": -0.1}, ValueError, "`learning_rate` must be positive"),
        ({"learning_rate": np.ones(2)}, ValueError, "`learning_rate` must be one number"),
        ({"x_test": np.ones((2, 3))}, ValueError, r"`x_test` must hold inputs of the shape of `x`, \(4,\)"),
        ({"x_test": np.full((2, 4), np.nan)}, ValueError, "`x_test` must be finite"),
    ],
)
def test_bad_arguments(small, change, error, message):
    with pytest.raises(error, match=message):
        small(**change)


def test_bad_networks_labels_and_tracers(data):
    x, y, _, _ = data
    options = {"n_networks": 2, "key": KEY}
    with pytest.raises(TypeError, match="a kernel function alone has no finite networks; got function"):
        finite.train(NET[2], x, y, 1.0, **options)
    with pytest.raises(ValueError, match=r"`y` must have the shape \(n, k\) of the outputs of `net`, \(8, 1\)"):
        finite.train(NET, x, np.ones((8, 2)), 1.0, **options)
    with pytest.raises(ValueError, match="`y` must have one row per input; got 3 rows"):
        finite.train(NET, x, y[:3], 1.0, **options)
    with pytest.raises(TypeError, match="`x` must hold floating-point numbers"):
        finite.train(NET, x.astype(int), y, 1.0, **options)
    with pytest.raises(ValueError, match="`learning_rate` must be given under `jit`"):
        jax.jit(lambda x: finite.train(NET, x, y, 1.0, **options).loss)(x)
    with pytest.raises(ValueError, match="`t` must be known outside `jit`"):
        jax.jit(lambda t: finite.train(NET, x, y, t, **options).loss)(1.0)
    with pytest.raises(ValueError, match="`learning_rate` must be known outside `jit`"):
        jax.jit(lambda r: finite.train(NET, x, y, 1.0, learning_rate=r, **options).loss)(1.0)
    with pytest.raises(ValueError, match="`checkpoint` must be None under jit"):
        jax.jit(lambda x: finite.train(NET, x, y, 1.0, learning_rate=0.1, checkpoint="x", **options).loss)(x)


# The summary, on samples whose distribution is known.

MEAN = np.array([[-1.0], [0.2], [0.6], [2.0]])
SCALE = np.array([0.5, 0.7, 0.4, 1.0])
Y = np.array([[-1.0], [1.0], [1.0], [-1.0]])


def drawn(rng, n_networks):
    """A run at t = 3 and t = 0: Gaussian outputs of mean `MEAN` or 0, and twice the spread at first."""
    noise = rng.normal(size=(n_networks, 2, 4, 1)) * SCALE[:, None]
    outputs = np.stack([MEAN + noise[:, 0], 2 * noise[:, 1]], axis=1)
    scalars = [rng.exponential(size=(n_networks, 2))] * 4
    return finite.Run(jnp.array([3.0, 0.0]), outputs, outputs, Y, *scalars, None, 0.1, 1.0, jnp.array([9, 0]))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(9, 3, 1, 1))
    z = _summary._moments(outputs)
    mean, stderr = _summary._jackknife(z.mean[..., 0, 0], np.array([9] + [8] * 9))
    np.testing.assert_allclose(mean, outputs.mean(axis=0)[:, 0, 0], atol=1e-14)
    np.testing.assert_allclose(stderr, outputs.std(axis=0, ddof=1)[:, 0, 0] / 3, rtol=1e-12)
    # Leaving one out leaves the moments of the rest.
    np.testing.assert_allclose(z.mean[3], outputs[np.arange(9) != 2].mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(z.variance[3], outputs[np.arange(9) != 2].var(axis=0, ddof=1)[..., 0], rtol=1e-12)


def test_estimates_are_unbiased_and_their_errors_honest():
    rng = np.random.default_rng(0)
    squared = np.sum((MEAN - Y) ** 2, axis=1)
    variance, prior = SCALE**2, 4 * SCALE**2
    ratio = variance / prior
    normal_cdf = jax.scipy.stats.norm.cdf
    truth = {
        "mean_mse": squared.mean(),
        "train_mean_mse": squared.mean(),
        "gibbs_mse": (squared + variance).mean(),
        "train_gibbs_mse": 2.0,
        "parameter_distance": 1.0,
        "gibbs_error": np.mean(normal_cdf(-(Y * MEAN)[:, 0] / SCALE)),
        "ensemble_nll": np.mean(0.5 * (np.log(2 * np.pi * (variance + 1)) + squared / (variance + 1))),
        "output_divergence": np.mean(0.5 * (ratio - 1 - np.log(ratio) + MEAN[:, 0] ** 2 / prior)),
        "input_information": float(mixture.exact(MEAN, variance).value),
        "label_information": float(mixture.label_exact(MEAN, variance, np.array([0, 1, 1, 0]), 2).value),
    }
    # 70 networks are left out in groups of unequal size.
    runs = [finite.summary(drawn(rng, 70), Y) for _ in range(50)]
    for name, exact in truth.items():
        t = runs[0][name][0]
        assert t.tolist() == [0.0, 3.0]
        estimates, errors = (np.array([run[name][part][1] for run in runs]) for part in (1, 2))
        assert abs(estimates.mean() - exact) < 4 * estimates.std(ddof=1) / np.sqrt(50), name
        assert 0.75 < errors.mean() / estimates.std(ddof=1) < 1.35, name


def test_the_mean_is_corrected_for_its_own_variance():
    # With few networks the squared error of the sampled mean is far too large.
    rng = np.random.default_rng(1)
    runs = [drawn(rng, 5) for _ in range(100)]
    # Labels at the mean, whose squared error is then 0.
    corrected = np.array(
        [finite.summary(run, MEAN, task="regression", method="pairwise")["mean_mse"][1][1] for run in runs]
    )
    raw = np.array([np.mean((run.outputs[:, 0].mean(axis=0) - MEAN) ** 2) for run in runs])
    assert abs(corrected.mean()) < 4 * corrected.std() / 10
    assert raw.mean() > 4 * raw.std() / 10


def test_a_difference_has_the_error_of_the_difference():
    rng = np.random.default_rng(3)
    run = drawn(rng, 40)
    other = run._replace(
        outputs=run.outputs + 0.01 * rng.normal(size=run.outputs.shape), action=run.action + 0.1, t=run.t[::-1]
    )
    other = other._replace(**{name: getattr(other, name)[:, ::-1] for name in _gradient_descent.Trajectory._fields[:6]})
    both = finite.summary(run, Y), finite.summary(other, Y)
    difference = finite.summary(other, Y, control=run)
    for name, (_, mean, stderr) in difference.items():
        np.testing.assert_allclose(mean, both[1][name][1] - both[0][name][1], atol=1e-10, err_msg=name)
        assert np.all(stderr < 0.1 * both[0][name][2]), name
    np.testing.assert_allclose(difference["action"][1:], [[0.1, 0.1], [0, 0]], atol=1e-12)
    with pytest.raises(ValueError, match=r"`control` must hold the networks and times of `run`, \(40, 2\)"):
        finite.summary(run, Y, control=drawn(rng, 30))


def test_what_a_summary_leaves_out():
    run = drawn(np.random.default_rng(2), 10)
    assert "label_information" not in finite.summary(run, method="pairwise")
    late = run._replace(t=jnp.array([3.0, 1.0]))
    assert "output_divergence" not in finite.summary(late, Y, method="pairwise")
    assert "output_divergence" in finite.summary(late, Y, prior=np.ones(4), method="pairwise")
    bare = finite.summary(run._replace(outputs=None, train_outputs=None), Y)
    assert set(bare) == {"train_gibbs_mse", "parameter_distance", "action", "fisher_action"}
    real = finite.summary(run, Y + np.arange(4.0)[:, None], label_entropy=1.0, noise=2.0, method="pairwise")
    assert "gibbs_error" not in real
    np.testing.assert_allclose(real["label_information"][1], 1.0 - real["gibbs_nll"][1], rtol=1e-10)


def test_summaries_refuse_what_they_cannot_use():
    run = drawn(np.random.default_rng(2), 10)
    with pytest.raises(ValueError, match="`run` must hold at least 4 networks for standard errors; got 3"):
        finite.summary(drawn(np.random.default_rng(2), 3), Y)
    with pytest.raises(ValueError, match=r"`y_test` must be floating-point targets of shape \(m, k\) = \(4, 1\)"):
        finite.summary(run, np.array([0, 1, 1, 0]))
    with pytest.raises(ValueError, match=r"`prior` must have shape \(m,\) = \(4,\); got \(3,\)"):
        finite.summary(run, Y, prior=np.ones(3))
    with pytest.raises(ValueError, match="`noise` must be positive"):
        finite.summary(run, Y, noise=0.0)
    with pytest.raises(ValueError, match="`key` must be given"):
        finite.summary(run, Y, method="monte_carlo")


def test_large_convolutions_are_trained_by_a_program_for_each_step(monkeypatch):
    rng = np.random.default_rng(0)
    net = stax.serial(stax.Conv(2, (3, 3), padding="SAME"), stax.Relu(), stax.Flatten(), stax.Dense(1))
    x, y = rng.normal(size=(4, 3, 3, 1)), rng.normal(size=(4, 1))
    options = {"n_networks": 2, "key": KEY, "x_test": x[:2], "learning_rate": 0.5, "method": "heun"}
    want = finite.train(net, x, y, [0.0, 1.0, 3.0], **options)
    used, by_steps = [], _gradient_descent._train_by_steps
    monkeypatch.setattr(_gradient_descent, "_train_by_steps", lambda *args: used.append(1) or by_steps(*args))
    # No two networks fit beside each other: on the CPU, those with convolutions.
    monkeypatch.setattr(_gradient_descent, "_VMAP_BYTES", 0)
    run = finite.train(net, x, y, [0.0, 1.0, 3.0], **options)
    assert bool(used) == (jax.default_backend() == "cpu")
    for one, other in zip(jax.tree.leaves(run), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    used.clear()
    finite.train(one_layer(), x.reshape(4, -1), y, [0.0, 1.0], n_networks=2, key=KEY, learning_rate=0.5)
    assert not used
