"""Figures of sweeps, replicates, certificates, posteriors and encoders: what is drawn is what the results hold."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection, QuadMesh

import ntkinfo as ni
from ntkinfo.information import Certificate, Information
from tests import results
from tests.fuzz import objects as o

T = np.array([0.5, 5.0, 50.0])
LOG2 = np.log(2)


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    plt.close("all")


COORDINATES = ("input_information", "label_information")


def names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_sweep_in_the_plane_has_a_line_for_each_cell():
    sweep = results.sweep()
    ax = ni.plot.plane(sweep, unit="bits")
    (line,) = [each for each in ax.get_lines() if len(each.get_xdata()) == 3]
    np.testing.assert_allclose(line.get_xdata(), sweep.values["input_information"][0, 0] / LOG2)
    np.testing.assert_allclose(line.get_ydata(), sweep.values["label_information"][0, 0] / LOG2)
    assert ax.figure.axes[1].get_ylabel() == r"weight scale $\sigma_w$"
    assert ax.get_ylabel() == "$I(Y;Z|D)$ [bits]"


def test_sweeps_over_one_grid_are_replicates_with_bands():
    sweep = results.sweep()
    other = sweep._replace(values={name: value + 0.2 for name, value in sweep.values.items()})
    ax = ni.plot.plane([sweep, other])
    (line,) = [each for each in ax.get_lines() if len(each.get_xdata()) == 3]
    y = sweep.values["label_information"][0, 0] + 0.1
    np.testing.assert_allclose(line.get_ydata(), y)
    band = next(each for each in ax.collections if isinstance(each, PolyCollection) and each.get_paths())
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [y.min() - 0.1, y.max() + 0.1])
    assert "± 1 std over 2 replicates" in names(ax)
    with pytest.raises(ValueError, match="must be sweeps over one grid of scales and times"):
        ni.plot.plane([sweep, sweep._replace(t=sweep.t + 1)])


def grid(**axes):
    """A grid of two times, as if it had been computed: I(X;Z|D) counts the cells."""
    shape = (*(len(values) for values in axes.values()), 2)
    values = {name: np.arange(float(np.prod(shape))).reshape(shape) / 10 for name in COORDINATES}
    ceilings = {name: np.full(shape[:-1], 3.0) for name in ("log_m", "label_entropy")}
    return ni.sweep.Grid(axes, np.array([10.0, 0.0]), values, ceilings, {})


def test_a_grid_of_sizes_in_the_plane_with_draws_as_bands():
    found = grid(n=(5, 10, 20), seed=(0, 1), depth=(1, 2))
    ax = ni.plot.plane(found, unit="bits")
    lines = [each for each in ax.get_lines() if len(each.get_xdata()) == 2 and each.get_marker() == "."]
    assert len(lines) == 6 and len({line.get_linestyle() for line in lines}) == 2
    # Times in order, means over the draws.
    want = found.values["input_information"][1, :, 0, ::-1].mean(axis=0) / LOG2
    np.testing.assert_allclose(lines[2].get_xdata(), want)
    assert names(ax)[:3] == ["n = 5", "n = 10", "n = 20"] and names(ax)[-1] == "± 1 std over 2 draws"
    assert ax.get_ylabel() == r"$I(Y;Z|D)$ $\geq$ [bits]"
    found.values["input_information"][0] = np.nan
    assert len([each for each in ni.plot.plane(found).get_lines() if each.get_marker() == "."]) == 4
    with pytest.raises(ValueError, match="at most two axes beside 'seed', for colour and kind of line; got a, b, c"):
        ni.plot.plane(grid(a=(1, 2), b=(1, 2), c=(1, 2)))
    found.values["input_information"][:] = np.nan
    with pytest.raises(ValueError, match="must have a cell that was computed"):
        ni.plot.plane(found)


def test_finite_networks_on_the_plane():
    samples = {name: (T, T / 10, T / 100) for name in ("input_information", "label_information")}
    for several in (samples, [samples, samples]):
        ax = ni.plot.plane(results.sweep(), samples=several)
        assert len(ax.containers) == (2 if isinstance(several, list) else 1)
        np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata(), T / 10)
    assert ni.plot.plane(o.curve(), samples=samples).containers
    with pytest.raises(ValueError, match="`samples` must hold input_information and label_information"):
        ni.plot.plane(o.curve(), samples={"gibbs_mse": (T, T, T)})
    with pytest.raises(TypeError, match=r"`samples` must be what `finite\.summary` returns"):
        ni.plot.plane(o.curve(), samples=3)


def test_several_curves_on_one_axis():
    curve, cell = o.curve(), results.sweep().curve(1.0, 0.1)
    ax = ni.plot.curve({"whole": curve, "cell": cell}, "input_information")
    assert names(ax)[0].startswith("whole: $I(X;Z|D)$") and names(ax)[1] == "cell: $I(X;Z|D)$"
    assert len({line.get_color() for line in ax.get_lines() if line.get_label().startswith(("whole", "cell"))}) == 2
    assert len(names(ni.plot.curve([cell, cell]))) == 4
    assert ni.plot.plane(cell) is not None


def test_lower_bounds_say_so():
    sweep = results.sweep()
    values = {name: value for name, value in sweep.values.items() if name != "gibbs_error"}
    real = sweep._replace(values=values)
    assert ni.plot.plane(real).get_ylabel() == r"$I(Y;Z|D)$ $\geq$ [nats]"
    cell = real.curve(1.0, 0.1)
    assert isinstance(cell.label_information, Information) and cell.label_information.method == "decoder"
    assert ni.plot.curve(cell, "label_information").get_ylabel() == r"$I(Y;Z|D)$ $\geq$ [nats]"
    assert any(name.endswith("≥") for name in names(ni.plot.curve(cell)))
    assert r"\geq" in ni.plot.plane(cell).get_ylabel() and r"\geq" not in ni.plot.plane(cell).get_xlabel()


def certificate(**changed):
    rise = np.array([0.1, 0.4, 1.7])
    fields = {
        "t": T,
        "linear": rise,
        "total": 2 * rise,
        "train_error": 0.1 * rise,
        "test_error": 0.2 * rise,
        "pac_bayes_kl": 0.5 * rise,
        "mcallester": 0.6 * rise,
        "catoni": 0.55 * rise,
        "delta": 0.05,
        "reason": None,
    }
    return Certificate(**(fields | changed))


def test_bounds_beside_the_errors():
    ax = ni.plot.bounds(certificate())
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    np.testing.assert_allclose(lines["PAC-Bayes-kl"], [0.05, 0.2, 0.85])
    np.testing.assert_allclose(lines["McAllester"], [0.06, 0.24, 1.0])
    np.testing.assert_allclose(lines["training error"], [0.01, 0.04, 0.17])
    assert ax.get_ylabel() == "0-1 error, bounds with probability 0.95"
    with pytest.raises(ValueError, match="`certificate` must have bounds to be drawn; there are none: ReLU has kinks"):
        ni.plot.bounds(certificate(pac_bayes_kl=None, reason="ReLU has kinks"))
    with pytest.raises(TypeError, match="`certificate` must"):
        ni.plot.bounds(o.curve())


def test_divergence_of_the_parameters():
    divergence = ni.information.ParameterDivergence(T, T / 10, 1.1 * T)
    ax = ni.plot.parameter_divergence(divergence, T, unit="bits")
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
    np.testing.assert_allclose(lines["total"], 1.1 * T / LOG2)
    np.testing.assert_allclose(lines["curvature part"], T / 10 / LOG2)
    assert ni.plot.parameter_divergence(certificate()).get_yscale() == "log"
    with pytest.raises(ValueError, match="`t` must be given with a `ParameterDivergence`"):
        ni.plot.parameter_divergence(divergence)
    with pytest.raises(ValueError, match="`t` must have the 3 times of `result`"):
        ni.plot.parameter_divergence(divergence, T[:2])


def test_posteriors_over_one_input_and_over_several():
    x = np.linspace(-1, 1, 6)[:, None]
    post = ni.Posterior.fit(o.network(), x, np.sin(3 * x), noise=0.02)
    ax = ni.plot.posterior(post)
    mean = next(line for line in ax.get_lines() if line.get_label() == "posterior mean")
    grid = mean.get_xdata()
    np.testing.assert_allclose(mean.get_ydata()[::50], np.asarray(post.predict(grid[::50, None]).mean)[:, 0], atol=1e-9)
    assert names(ax) == ["± 2 std of a label", "± 2 std of the function", "posterior mean", "training labels"]
    post = o.posterior()
    points = ni.plot.posterior(post).containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata(), np.asarray(post.leave_one_out().mean)[:, 0])
    np.testing.assert_allclose(points.get_xdata(), np.asarray(post.y)[:, 0])
    with pytest.raises(ValueError, match="`output` must be at most 0; got 1"):
        ni.plot.posterior(post, output=1)
    with pytest.raises(TypeError, match="`post` must"):
        ni.plot.posterior(o.curve())


def test_an_encoder_with_the_names_of_its_table():
    rows, columns = ["cat", "dog", "car", "boat"], ["pet", "road", "water"]
    table = pd.DataFrame([[20, 3, 0], [18, 4, 1], [2, 30, 5], [1, 6, 25]], rows, columns)
    curve = ni.bottleneck.ib(ni.discrete.from_counts(table), [2.0, 5.0])
    ax = ni.plot.clusters(curve)
    (mesh,) = [each for each in ax.collections if isinstance(each, QuadMesh)]
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert sorted(shown) == sorted(rows)
    wanted = curve.encoder_table(1).loc[shown].to_numpy()
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(wanted.shape), wanted)
    assert {text.get_text().split(": ")[1] for text in ax.get_xticklabels()} <= set(columns)
    plain = ni.plot.clusters(o.bottleneck_curve(), 0)
    assert {text.get_text() for text in plain.get_yticklabels()} == {"0", "1", "2"}
    with pytest.raises(ValueError, match="`index` must be at most 1; got 2"):
        ni.plot.clusters(curve, 2)


def test_legends_stand_above_the_axes():
    for draw in (ni.plot.curve, ni.plot.divergence, ni.plot.losses, ni.plot.geometry):
        ax = draw(o.curve())
        ax.figure.canvas.draw()
        assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 1


def test_legends_stand_above_titles_given_before_and_after():
    _, axes = plt.subplots(1, 3)
    axes[0].set_title("before")
    axes[1].set_title("before", loc="left")
    for ax in axes:
        ni.plot.curve(o.curve(), ax=ax)
    axes[2].set_title("after,\non two lines")
    axes[0].figure.canvas.draw()
    for ax, title in zip(axes, (axes[0].title, axes[1]._left_title, axes[2].title), strict=True):
        assert ax.get_legend().get_window_extent().y0 >= title.get_window_extent().y1 - 1


def test_loaded_results_are_drawn_as_they_were(tmp_path):
    sweep = results.sweep()
    saved = {"sweep": sweep, "curve": o.curve(), "certificate": certificate()}
    ni.save(saved, tmp_path / "all.npz")
    loaded = ni.load(tmp_path / "all.npz")
    for name, draw in (("sweep", ni.plot.plane), ("curve", ni.plot.curve), ("certificate", ni.plot.bounds)):
        one, two = draw(saved[name]), draw(loaded[name])
        for a, b in zip(one.get_lines(), two.get_lines(), strict=True):
            np.testing.assert_array_equal(a.get_xydata(), b.get_xydata())
