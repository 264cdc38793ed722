"""The figures of real results: what is drawn are the numbers of `Curve`, `Sweep` and `finite.summary`."""

import functools
from types import SimpleNamespace

import jax
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ntkinfo import datasets, finite, information, plot, stax, sweep
from ntkinfo.ensemble import Ensemble

T = np.array([0.0, 0.1, 3.0, 100.0, 1e4, np.inf])
INNER = slice(1, 5)
BITS = 1 / np.log(2)


def network(w_std, b_std, k=1):
    return stax.serial(stax.Dense(16, W_std=w_std, b_std=b_std), stax.Erf(), stax.Dense(k, W_std=w_std, b_std=b_std))


@functools.cache
def problem(task):
    """Data and ensemble: parity, three classes, or regression."""
    if task == "regression":
        data = datasets.gaussian(24, 15, dim=4)
        x, y, x_test, y_test = data.x_train, data.y_train, data.x_test, data.y_test
    else:
        data = datasets.digits(60, 40, task=task)
        train, test = data.labels_train < 3, data.labels_test < 3
        x, x_test = data.x_train[train], data.x_test[test]
        y, y_test = data.y_train[train], data.y_test[test]
        if task == "classes":
            y, y_test = (datasets.one_hot(each, 3) for each in (data.labels_train[train], data.labels_test[test]))
    return Ensemble.fit(network(1.5, 0.1, y.shape[1]), x, y), x_test, y_test


@functools.cache
def curve(task, joint=True):
    ens, x_test, y_test = problem(task)
    return information.curve(ens, x_test, y_test, T, key=jax.random.key(0), n_samples=4, joint=joint)


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    plt.close("all")


def drawn(ax, start):
    """The heights of the one line whose label starts so, and of its dashes at t = 0 and t = ∞."""
    (line,) = [each for each in ax.get_lines() if str(each.get_label()).startswith(start)]
    (ends,) = [each for each in ax.get_lines() if each.get_marker() == "_" and each.get_color() == line.get_color()]
    return np.asarray(line.get_ydata()), np.asarray(ends.get_ydata())


def bands(ax):
    """Lowest and highest point at each time between 0 and infinity, of every band."""
    found = []
    for each in ax.collections:
        if isinstance(each, matplotlib.collections.PolyCollection):
            vertices = each.get_paths()[0].vertices
            heights = [vertices[np.isclose(vertices[:, 0], t), 1] for t in T[INNER]]
            found += [[each.min() for each in heights], [each.max() for each in heights]]
    return np.array(found)


@pytest.mark.parametrize("task", ["parity", "classes", "regression"])
def test_curve_draws_the_information_of_every_kind_of_task(task):
    result = curve(task)
    ax = plot.curve(result, unit="bits")
    for name, label in (("input_information", "$I(X;Z|D)$"), ("label_information", "$I(Y;Z|D)$")):
        value = BITS * np.asarray(getattr(result, name).value)
        line, ends = drawn(ax, label)
        np.testing.assert_allclose(line, value[INNER])
        np.testing.assert_allclose(ends, value[[0, -1]])
    levels = [each.get_ydata()[0] for each in ax.get_lines() if np.array_equal(each.get_xdata(), [0, 1])]
    ceilings = [result.log_m] if task == "regression" else [result.log_m, result.label_entropy]
    # One that would flatten the curves is named at the edge instead.
    named = [float(text.get_text().split("= ")[1].split()[0]) for text in ax.texts if "↑" in text.get_text()]
    np.testing.assert_allclose(
        sorted([*levels, *named]), sorted(BITS * np.array([float(each) for each in ceilings])), rtol=5e-3
    )
    assert all(value > 2 * ax.get_ylim()[1] for value in named) and max(levels, default=0) <= ax.get_ylim()[1]


def test_sampled_information_has_its_standard_errors_as_bands():
    result = curve("classes")
    found = bands(plot.curve(result, "input_information"))
    of = result.input_information
    assert float(of.stderr[2]) > 0
    value, stderr = np.asarray(of.value), np.asarray(of.stderr)
    expected = [value - 2 * stderr, value + 2 * stderr]  # it bounds nothing
    np.testing.assert_allclose(found, np.array([np.asarray(each)[INNER] for each in expected]), atol=1e-12)


def test_a_decoder_bound_fills_nothing_above_itself():
    result = curve("regression")
    assert result.label_information.method == "decoder"
    assert bands(plot.curve(result, "label_information")).size == 0


@pytest.mark.parametrize("task", ["parity", "classes", "regression"])
def test_losses_are_drawn_and_fill_their_axis(task):
    result = curve(task)
    ax = plot.losses(result)
    expected = {
        "one network, test": result.losses.gibbs_mse,
        "ensemble mean, test": result.losses.mean_mse,
        "one network, train": result.train_gibbs_mse,
        "ensemble mean, train": result.train_mean_mse,
    }
    for label, value in expected.items():
        (line,) = [each for each in ax.get_lines() if each.get_label() == label]
        np.testing.assert_allclose(line.get_ydata(), np.asarray(value)[INNER])
    # Training errors at rounding must not take the axis, at either side of it.
    low, high = ax.get_ylim()
    top = max(float(np.max(each)) for each in expected.values())
    assert 0.9e-6 * top < low < top < high < 3 * top
    nll = plot.losses(result, "nll", unit="bits")
    np.testing.assert_allclose(drawn(nll, "ensemble")[0], BITS * np.asarray(result.losses.ensemble_nll)[INNER])
    if task == "regression":
        with pytest.raises(ValueError, match="'gibbs_error' must be in the results"):
            plot.losses(result, "error")
    else:
        errors = drawn(plot.losses(result, "error"), "one network")
        np.testing.assert_allclose(errors[0], np.asarray(result.losses.gibbs_error)[INNER])
        np.testing.assert_allclose(errors[1], np.asarray(result.losses.gibbs_error)[[0, -1]])


def test_divergence_and_geometry_are_drawn_without_time_zero():
    result = curve("parity")
    ax = plot.divergence(result)
    for label, value in (("mean", result.output_divergence), ("joint", result.output_divergence_joint)):
        line, end = drawn(ax, label)
        np.testing.assert_allclose(line, np.asarray(value)[INNER])
        np.testing.assert_allclose(end, np.asarray(value)[-1:])
    ax = plot.geometry(result)
    for label, value in (("action $", result.action), ("action, Fisher", result.fisher_action)):
        np.testing.assert_allclose(drawn(ax, label)[0], np.asarray(value)[INNER])
    assert ax.get_legend().get_title().get_text().endswith(f"= {float(result.fisher_trace):,.0f}")


def test_a_curve_without_joint_divergence_is_drawn_without_it():
    result = curve("parity", joint=False)
    assert result.output_divergence_joint is None
    ax = plot.divergence(result)
    assert [each.get_text() for each in ax.get_legend().get_texts()] == ["mean over test inputs"]
    plot.summary(result)
    with pytest.raises(ValueError, match="the joint divergence joint=True"):
        plot.curve(result, "output_divergence_joint")


@pytest.mark.parametrize("task", ["parity", "classes", "regression"])
def test_plane_has_a_point_for_every_time(task):
    result = curve(task)
    x, y = (BITS * np.asarray(each.value) for each in (result.input_information, result.label_information))
    ax = plot.plane(result, unit="bits")
    (points,) = [each for each in ax.collections if isinstance(each, matplotlib.collections.PathCollection)]
    np.testing.assert_allclose(points.get_offsets(), np.stack([x, y], 1)[INNER])
    np.testing.assert_array_equal(points.get_array(), T[INNER])
    ends = {each.get_marker(): each.get_xydata() for each in ax.get_lines() if each.get_xydata().shape == (1, 2)}
    np.testing.assert_allclose(ends["o"], [[x[0], y[0]]])
    np.testing.assert_allclose(ends["s"], [[x[-1], y[-1]]])
    ceiling = [each.get_xdata() for each in ax.get_lines() if each.get_linestyle() == "--"]
    if ceiling:
        np.testing.assert_allclose(ceiling, [[BITS * float(result.log_m)] * 2])
    else:
        assert BITS * float(result.log_m) > 2 * ax.get_xlim()[1]
        assert any(f"= {BITS * float(result.log_m):.3g} bits →" in text.get_text() for text in ax.texts)
    assert len(ax.containers) == (task == "classes")  # error bars where sampled


@pytest.mark.parametrize("task", ["parity", "classes", "regression"])
def test_summary_of_a_real_curve_is_saved(task, tmp_path):
    figure = plot.summary(curve(task), title=task)
    figure.savefig(tmp_path / "summary.png", dpi=40)
    assert (tmp_path / "summary.png").stat().st_size > 10_000
    kind = "negative log-likelihood [nats]" if task == "regression" else "0-1 error"
    assert kind in [ax.get_ylabel() for ax in figure.axes]


def test_sweep_draws_the_last_time_of_every_cell():
    ens, x_test, y_test = problem("parity")
    w_std, b_std = [0.5, 1.0, 2.0], [0.1, 0.5]
    found = sweep.scales(
        network, ens.x, ens.y, x_test, y_test, T, w_std=w_std, b_std=b_std, joint=False, progress=False
    )
    values = found.values["label_information"][:, :, -1]
    assert values.shape == (3, 2) and np.ptp(values) > 0
    ax = plot.sweep(values, found.w_std, found.b_std, "label_information", unit="bits")
    (mesh,) = ax.collections
    np.testing.assert_allclose(mesh.get_array().reshape(2, 3), BITS * values.T)
    assert [each.get_text() for each in ax.get_xticklabels()] == ["0.5", "1", "2"]
    by_row = plot.sweep(values, found.w_std, found.b_std, found.quantities["label_information"], unit="bits")
    assert by_row.figure.axes[1].get_ylabel() == ax.figure.axes[1].get_ylabel() == "$I(Y;Z|D)$ [bits]"


def test_a_result_brings_its_own_quantities():
    """A quantity that figures have never heard of is drawn from its row in the result's table."""
    own = SimpleNamespace(t=T, extra=np.arange(6.0), quantities={"extra": SimpleNamespace(
        kind="geometry", symbol="curvature", unit="")})  # fmt: skip
    ax = plot.finite(own, {"extra": (T, np.ones(6), np.ones(6))})
    assert ax.get_ylabel() == "distance, action"
    assert "curvature, finite networks" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_finite_networks_are_drawn_over_their_closed_form():
    ens, x_test, y_test = problem("parity")
    run = finite.train(
        network(1.5, 0.1), ens.x, ens.y, [0.0, 1.0, 3.0], n_networks=8, key=jax.random.key(0), x_test=x_test
    )
    sampled = finite.summary(run, y_test)
    names = ("parameter_distance", "action")
    ax = plot.finite(curve("parity"), {name: sampled[name] for name in names})
    for name, bars in zip(names, ax.containers, strict=True):
        t, mean, stderr = sampled[name]
        np.testing.assert_allclose(bars.lines[0].get_ydata(), mean)
        np.testing.assert_allclose(bars.lines[0].get_xdata()[1:], t[1:])
        segments = np.array(bars.lines[2][0].get_segments())
        np.testing.assert_allclose(np.ptp(segments[:, :, 1], axis=1), 4 * stderr, atol=1e-12)
    assert ax.get_ylabel() == "distance, action"


@pytest.mark.parametrize("value", [None, np.ones(3), "a", 3, {}, sweep.Sweep])
def test_what_is_no_result_is_named(value):
    calls = {
        "result": [plot.curve, plot.divergence, plot.losses, plot.geometry, plot.summary, plot.bifurcation],
        "results": [plot.plane],
        "curves": [plot.bottleneck],
        "plane": [plot.layers, plot.animate],
        "planes": [plot.estimators],
        "phases": [plot.gradients],
        "run": [plot.training],
        "sweep": [plot.variational, plot.variational_error, plot.dynamics],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises((TypeError, ValueError), match=f"`{name}` must (be a `|hold at least one)"):
                function(value)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": np.array(["nats", "nats"])}, "`unit` must be one of"),
        ({"ax": 3}, "`ax` must be of type `Axes`"),
        ({"values": np.array([["a"]])}, "`values` must hold real numbers"),
        ({"values": np.array([[np.inf]])}, "`values` must be finite, or NaN"),
        ({"w_std": ["a"]}, "`w_std`"),
        ({"quantity": "nonsense"}, "`quantity` must be one of"),
        ({"quantity": 3}, "`quantity` must be one of"),
    ],
)
def test_figures_of_sweeps_name_what_they_are_given(options, message):
    arguments = {"values": np.ones((1, 1)), "w_std": [1.0], "b_std": [0.1]} | options
    with pytest.raises((TypeError, ValueError), match=message):
        plot.sweep(**arguments)
