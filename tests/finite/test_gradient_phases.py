import dataclasses

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from ntkinfo.finite import GradientPhases, LayerRun, _sgd, gradient_phases, train_layers
from ntkinfo.plot._gradients import gradients

KEY = jax.random.key(0)
EPOCHS = np.array([0, 1, 3, 10, 30])


def synthetic(snr, epochs=EPOCHS):
    """A run of one network and layer, or more, whose ratios of gradient norms are given, (N, T, L)."""
    snr = jnp.asarray(snr, float)
    n, t, layers = snr.shape
    blank = {field.name: None for field in dataclasses.fields(LayerRun)}
    return LayerRun(**blank | {
        "epochs": jnp.asarray(epochs[:t]), "gradient_mean": 0.3 * snr, "gradient_std": jnp.full((n, t, layers), 0.3),
        "weight_norm": jnp.full((n, t, layers), 2.0), "steps_per_epoch": 4,
    })  # fmt: skip


def test_least_squares_by_hand():
    # f = w x + b with b = 0 at the start; batches {0, 1} and {2, 3}, in this order or the other.
    x, y = np.array([[1.0], [2.0], [-1.0], [3.0]]), np.array([[0.5], [-1.0], [2.0], [0.0]])
    run = train_layers((1, 1), x, y, epochs=1, n_networks=3, key=KEY, loss="mse", batch_size=2, shuffle=False,
                       record=[0], chunk=3, progress=False)  # fmt: skip
    phases = gradient_phases(run)
    settings = _sgd.Config((), (), None, "", 4, 2, False, False, False, 1)
    for network in range(3):
        w = float(run.weights[0][network, 0, 0, 0])
        order = np.asarray(_sgd.order(settings, _sgd.keys(KEY, network), 0))
        first, second = (np.mean((w * x[b] - y[b]) * x[b]) for b in (order[:2], order[2:]))
        np.testing.assert_allclose(phases.mean[network, 0, 0], abs(first + second) / 2 / abs(w), rtol=1e-12)
        np.testing.assert_allclose(phases.std[network, 0, 0], abs(first - second) / 2 / abs(w), rtol=1e-12)
        np.testing.assert_allclose(phases.snr[network, 0, 0], abs(first + second) / abs(first - second), rtol=1e-12)


def test_layers_stand_for_themselves():
    # Neither a sum over layers nor a second root: a change of one layer changes that one, in proportion.
    run = synthetic(np.arange(1.0, 13).reshape(1, 2, 6))
    phases = gradient_phases(run)
    np.testing.assert_allclose(phases.mean[0], 0.15 * np.arange(1.0, 13).reshape(2, 6))
    scale = jnp.asarray([1.0, 1, 4, 1, 1, 1])[None, None]
    other = dataclasses.replace(run, gradient_mean=run.gradient_mean * scale, weight_norm=run.weight_norm / 2)
    other = gradient_phases(other)
    np.testing.assert_allclose(other.mean, phases.mean * scale * 2)
    np.testing.assert_allclose(other.std, phases.std * 2)
    np.testing.assert_allclose(other.snr, phases.snr * scale)


@pytest.mark.parametrize(
    ("snr", "expected"),
    [
        ([5, 2, 0.5, 0.2, 0.1], 3),
        ([5, 0.5, 2, 0.2, 0.1], 10),
        ([0.9, 0.9, 0.9, 0.9, 0.9], 0),
        ([5, 2, 2, 2, 0.9], 30),
        ([0.1, 0.1, 0.1, 0.1, 2], -1),
        ([5, 4, 3, 2, 1.0], -1),
    ],
)
def test_transition(snr, expected):
    values = np.ones((2, 5, 2))
    values[1, :, 0] = snr
    transition = gradient_phases(synthetic(values)).transition
    assert jnp.issubdtype(transition.dtype, jnp.integer)
    assert transition.tolist() == [[-1, -1], [expected, -1]]


def test_phases_are_a_pytree_and_run_under_jit():
    run = synthetic([[[2.0], [0.5]]])
    run = dataclasses.replace(run, weights=(), biases=())
    phases, other = gradient_phases(run), jax.jit(gradient_phases)(run)
    assert isinstance(other, GradientPhases)
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (phases, other)), strict=True))


def test_dead_layers_are_told():
    run = synthetic(np.full((1, 2, 2), 0.5))
    dead = jnp.asarray([[[1.0, 0.0], [1.0, 0.0]]])
    run = dataclasses.replace(run, gradient_mean=dead * run.gradient_mean, gradient_std=dead * run.gradient_std)
    with pytest.warns(UserWarning, match="gradients of 2 of 4 .* vanish"):
        phases = gradient_phases(run)
    assert np.isnan(phases.snr[0, :, 1]).all() and phases.transition.tolist() == [[0, -1]]
    assert np.isfinite(phases.mean).all() and np.isfinite(phases.std).all()


def test_refusals():
    run = synthetic(np.ones((1, 2, 1)))
    with pytest.raises(ValueError, match=r"one batch has no standard deviation.*batch_size"):
        gradient_phases(dataclasses.replace(run, steps_per_epoch=1))
    with pytest.raises(ValueError, match="weights are all zero"):
        gradient_phases(dataclasses.replace(run, weight_norm=0 * run.weight_norm))
    with pytest.raises(TypeError, match="`run` must be of type `LayerRun`"):
        gradient_phases(run.gradient_mean)


@pytest.fixture
def axes():
    _, ax = plt.subplots()
    yield ax
    plt.close("all")


def test_figure(axes):
    snr = np.ones((3, 5, 2)) * np.array([5, 2, 0.5, 0.2, 0.1])[None, :, None]
    snr[:2, :, 1] = 2
    phases = gradient_phases(synthetic(snr))
    assert gradients(phases, ax=axes) is axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    lines = {(line.get_color(), line.get_linestyle()): line for line in axes.lines if len(line.get_xdata()) == 4}
    assert len(lines) == 4
    solid = lines["#0072B2", "-"]
    np.testing.assert_allclose(solid.get_xdata(), EPOCHS[1:])
    np.testing.assert_allclose(solid.get_ydata(), 0.15 * snr[0, 1:, 0])
    # The first layer has its circle at epoch 3; two of three networks of the second have no transition.
    circles = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [(c.get_xdata().item(), round(c.get_ydata().item(), 12)) for c in circles] == [(3.0, 0.075)]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["layer 1", "layer 2", "mean", "standard deviation", "drift to diffusion"]
    axes.figure.canvas.draw()


def test_figure_of_some_layers_of_one_network(axes):
    phases = gradient_phases(synthetic(np.ones((1, 5, 3)) / 2))
    gradients(phases, layers=2, ax=axes)
    assert axes.get_legend().get_texts()[0].get_text() == "layer 2"
    axes.figure.canvas.draw()
    for wrong in ([], 4, [0]):
        with pytest.raises(ValueError, match="`layers` must be numbers from 1 to 3"):
            gradients(phases, layers=wrong)
