"""Layers in the information plane, against counting in plain Python on an own forward pass."""

import collections
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo.finite import information_plane

SIZES = (5, 4, 3, 2)


@pytest.fixture(scope="module")
def problem():
    """All patterns of five bits and a soft rule; three networks of two hidden layers at four epochs."""
    x = ((np.arange(32)[:, None] >> np.arange(5)[None]) & 1).astype(float)
    p = 1 / (1 + np.exp(-3 * (x.sum(1) - 2.4)))
    p = np.stack([1 - p, p], 1)
    run = ni.finite.train_layers(
        SIZES, x, p, epochs=40, n_networks=3, key=jax.random.key(1), activation=["tanh", "relu"], batch_size=8,
        learning_rate=0.5, record=[0, 3, 12, 40], progress=False,
    )  # fmt: skip
    curve = ni.bottleneck.ib(p / 32, np.geomspace(1.05, 100, 25), progress=False)
    return x, p, run, curve


def forward(run, x, network, record):
    """The layers of one network in NumPy."""
    found = []
    for i, (w, b) in enumerate(zip(run.weights, run.biases, strict=True)):
        x = x @ np.asarray(w[network, record]) + np.asarray(b[network, record])
        x = [np.tanh, lambda a: np.maximum(a, 0)][i](x) if i < 2 else np.exp(x) / np.exp(x).sum(1, keepdims=True)
        found.append(x)
    return found


def entropy(weights):
    return -sum(w * math.log(w) for w in weights if w > 0)


def counted(t, p, low, high, bins):
    """I(X;T) and I(T;Y) by dictionaries of cells."""
    cells = [tuple(min(int((v - low) / (high - low) * bins), bins - 1) for v in row) for row in t]
    mass, joint = collections.Counter(), collections.Counter()
    for cell, row in zip(cells, p, strict=True):
        mass[cell] += 1 / len(p)
        for y, q in enumerate(row):
            joint[cell, y] += q / len(p)
    return entropy(mass.values()), entropy(mass.values()) + entropy(p.mean(0)) - entropy(joint.values())


def test_binned_layers_against_dictionaries(problem):
    x, p, run, curve = problem
    found = information_plane(run, x, p, bins=6, curve=curve, progress=False)
    assert found.i_xt.shape == found.i_ty.shape == found.beta.shape == (3, 4, 3)
    tops = max(forward(run, x, i, r)[1].max() for i in range(3) for r in range(4))
    bottom = min(forward(run, x, i, r)[1].min() for i in range(3) for r in range(4))
    for i, r in ((0, 0), (2, 3), (1, 1)):
        for layer, t in enumerate(forward(run, x, i, r)):
            limits = ((-1, 1), (bottom, tops), (0, 1))[layer]
            want = counted(t, p, *limits, 6)
            np.testing.assert_allclose((found.i_xt[i, r, layer], found.i_ty[i, r, layer]), want, atol=1e-9)
    # A binned layer is a function of X: below the curve, and told from nothing better than the ceiling.
    assert (found.distance > -1e-9).all()
    assert found.log_n == pytest.approx(math.log(32))
    assert found.i_xy == pytest.approx(float(curve.i_xy))
    assert (found.i_xt < found.log_n + 1e-12).all()
    # The layer's own β, by its cells; another definition than the nearest point.
    cells = ni.estimators.layer_cells(forward(run, x, 2, 3)[0], bins=6, range=(-1, 1))
    alone = ni.bottleneck.own_beta(p / 32, cells)
    assert (found.own_beta[2, 3, 0], found.own_divergence[2, 3, 0]) == pytest.approx(tuple(alone), rel=1e-6)
    assert (found.own_beta >= 0).all() and (found.own_divergence >= 0).all() and found.own_beta.shape == (3, 4, 3)
    np.testing.assert_array_equal(found.saturated, found.i_xt.mean(0) >= 0.99 * math.log(32))


def test_quantised_and_adaptive_bins(problem):
    x, p, run, _ = problem
    exact = information_plane(run, x, p, estimator="quantised", progress=False)
    # The first layer of generic weights tells all 32 inputs apart.
    np.testing.assert_allclose(exact.i_xt[:, :, 0], math.log(32))
    np.testing.assert_allclose(exact.i_ty[:, :, 0], exact.i_xy)
    unit = information_plane(run, x, p, bins=6, range="unit", progress=False)
    t = forward(run, x, 0, 3)[0]
    scaled = (t - t.min(0)) / np.ptp(t, axis=0)
    want = counted(scaled, p, 0, 1, 6)
    np.testing.assert_allclose((unit.i_xt[0, 3, 0], unit.i_ty[0, 3, 0]), want, atol=1e-9)
    fixed = information_plane(run, x, p, width=0.5, progress=False)
    assert "width 0.5" in fixed.estimator
    assert (fixed.i_xt <= exact.i_xt + 1e-12).all()


def test_kde_bounds_enclose_the_noisy_layer(problem, rng):
    x, p, run, _ = problem
    found = information_plane(run, x, p, estimator="kde", variance=0.05, progress=False, n_networks=1, n_records=2)
    assert found.i_xt.shape == (1, 2, 3)
    np.testing.assert_array_equal(found.epochs, [0, 40])
    t = forward(run, x, 0, 3)[2]
    # I(X;T + noise) by sampling: log-ratio of the component to the mixture.
    i = rng.integers(32, size=40000)
    z = t[i] + math.sqrt(0.05) * rng.normal(size=(len(i), 2))
    logs = -((z[:, None] - t[None]) ** 2).sum(-1) / 0.1
    ratio = logs[np.arange(len(i)), i] - np.log(np.exp(logs).mean(1))
    error = ratio.std() / len(i) ** 0.5
    assert found.i_xt_lower[0, 1, 2] - 5 * error < ratio.mean() < found.i_xt_upper[0, 1, 2] + 5 * error
    assert (found.i_ty_lower <= found.i_ty + 1e-12).all()
    assert (found.i_ty <= found.i_ty_upper + 1e-12).all()


def test_outputs_of_wide_networks_count_as_one_layer(rng):
    x, x_test = rng.normal(size=(6, 3)), rng.normal(size=(10, 3))
    net = ni.stax.serial(ni.stax.Dense(16), ni.stax.Erf(), ni.stax.Dense(1))
    run = ni.finite.train(
        net, x, x[:, :1], [0.0, 2.0], n_networks=3, key=jax.random.key(0), x_test=x_test, progress=False
    )
    labels = (x_test[:, 0] > 0).astype(int)
    found = information_plane(run, None, labels, bins=4, progress=False)
    assert found.i_xt.shape == (3, 2, 1)
    outputs = np.asarray(run.outputs)
    want = counted(outputs[1, 1], np.eye(2)[labels], outputs.min(), outputs.max(), 4)
    np.testing.assert_allclose((found.i_xt[1, 1, 0], found.i_ty[1, 1, 0]), want, atol=1e-9)


def test_unequal_inputs_and_pytrees(problem):
    x, p, run, _ = problem
    p_x = np.arange(1.0, 33) / np.arange(1.0, 33).sum()
    found = information_plane(run, x, p, p_x=p_x, estimator="quantised", n_networks=1, n_records=1, progress=False)
    assert found.log_n == pytest.approx(entropy(p_x))
    assert found.i_xt[0, 0, 0] == pytest.approx(entropy(p_x))
    assert found.i_xy == pytest.approx(float(ni.discrete.mutual_information(jnp.asarray(p_x[:, None] * p))))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, found)
    assert doubled.names == found.names
    np.testing.assert_allclose(doubled.i_xt, 2 * found.i_xt)


def test_figures(problem):
    x, p, run, curve = problem
    found = information_plane(run, x, p, bins=6, progress=False)
    ax = ni.plot.layers(found, bound=ni.bottleneck.hull(curve), unit="bits")
    assert ax.get_title() == found.estimator
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 0], found.i_xt.mean(0)[:, 0] / math.log(2))
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 1], found.i_ty.mean(0)[:, 1] / math.log(2))
    axes = ni.plot.estimators({"six": found, "three": information_plane(run, x, p, bins=3, progress=False)})
    assert [each.get_title() for each in axes.flat] == ["six", "three"]
    film = ni.plot.animate(found)
    points = film._func(3)
    np.testing.assert_allclose(points[1].get_xdata(), found.i_xt[:, 3, 1])
    film._draw_was_started = True  # It is not to be shown.
    axes = ni.plot.training(run)
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), run.train_loss.mean(0))
    assert [each.get_xlabel() for each in axes] == ["epoch", "epoch"] and len(axes[1].lines) == 1
    with pytest.raises(ValueError, match="at least one `Plane`"):
        ni.plot.estimators([])
    plt.close("all")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimator": "infonce"}, ValueError, "`estimator` must be one of"),
        ({"range": "epoch"}, ValueError, "`range` must be one of"),
        ({"range": (-0.1, 0.1)}, ValueError, "Widen the range"),
        ({"range": [(-1, 1)] * 2}, ValueError, "one pair for each of the 3 layers"),
        ({"bins": 0}, ValueError, "`bins`"),
        ({"n_networks": 0}, ValueError, "`n_networks`"),
        ({"p_x": np.ones(32)}, ValueError, "sum to 1"),
        ({"p_x": np.ones(32) / 32, "estimator": "kde"}, ValueError, "must be left out for the estimator 'kde'"),
        ({"p_y_given_x": np.ones((32, 2))}, ValueError, "probabilities that sum to 1 in every row"),
        ({"p_y_given_x": np.ones((3, 1))}, ValueError, "one row for each of the 32 inputs"),
        ({"x": np.ones((32, 4))}, ValueError, "5 columns"),
        ({"run": 3}, TypeError, "`run` must be a `LayerRun`"),
    ],
)
def test_refusals(problem, options, error, message):
    x, p, run, _ = problem
    given = {"run": run, "x": x, "p_y_given_x": p, "progress": False} | options
    with pytest.raises(error, match=message):
        information_plane(given.pop("run"), given.pop("x"), given.pop("p_y_given_x"), **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": -1}, "`variance` must be positive"),
        ({"bins": 0, "estimator": "quantised"}, "`bins` must be at least 1"),
        ({"width": -1.0, "estimator": "kde"}, "`width` must be positive"),
        ({"curve": np.ones(3)}, "`curve` must be of type `BottleneckCurve`"),
    ],
)
def test_options_are_checked_whichever_the_estimator_reads(problem, options, message):
    x, p, run, _ = problem
    with pytest.raises((ValueError, TypeError), match=message):
        information_plane(run, x, p, progress=False, **options)


def test_epochs_that_are_no_numbers_are_refused(problem):
    x, p, run, _ = problem
    broken = type(run)(**{**vars(run), "epochs": np.array([0.0, np.nan, 1.0, 2.0])})
    with pytest.raises(ValueError, match="`run` must have finite epochs"):
        information_plane(broken, x, p, progress=False)


def test_objects_of_a_wrong_kind_are_refused_with_their_maker():
    for call, name, maker in (
        (lambda: ni.finite.summary(None), "run", "finite.train"),
        (lambda: ni.finite.kernel_flow(np.ones(3), None), "run", "finite.train"),
        (lambda: ni.finite.activations(3, np.ones((2, 2))), "run", "finite.train_layers"),
        (lambda: ni.finite.gradient_phases({}), "run", "finite.train_layers"),
        (lambda: ni.bottleneck.hull(None), "curve", "bottleneck.ib"),
        (lambda: ni.bottleneck.closest((1, 2), 0.1, 0.1), "curve", "bottleneck.ib"),
    ):
        with pytest.raises(TypeError, match=f"`{name}` must be of type .*`{maker}`"):
            call()
