"""The figures: what is plotted where, in which unit, under which name; and what is refused."""

import ast
import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from ntkinfo import plot

T = np.array([0.0, 0.1, 10.0, 1000.0, np.inf])
LOG2 = np.log(2)


def information(value, *, band=0.0, stderr=0.0, method="exact"):
    value = np.asarray(value)
    return SimpleNamespace(
        value=value, lower=value - band, upper=value + band, stderr=np.full(value.shape, stderr), method=method
    )


def result(*, t=T, classes=True, band=0.0, stderr=0.0, method="exact", m=500, noise=True):
    n = len(t)
    rise = np.linspace(0, 1, n)
    losses = SimpleNamespace(
        gibbs_mse=2 - rise,
        mean_mse=1 - 0.5 * rise,
        gibbs_nll=3 - rise if noise else None,
        ensemble_nll=2 - rise if noise else None,
        gibbs_error=0.5 - 0.4 * rise if classes else None,
        mean_error=0.5 - 0.45 * rise if classes else None,
    )
    return SimpleNamespace(
        t=np.asarray(t),
        input_information=information(4 * rise, band=band, stderr=stderr, method=method),
        label_information=information(0.6 * rise, band=band / 2),
        output_divergence=10 * rise,
        output_divergence_joint=1000 * rise,
        parameter_distance=50 * rise,
        action=60 * rise,
        fisher_action=7000 * rise,
        fisher_trace=np.float64(1234.5),
        losses=losses,
        train_gibbs_mse=2.5 - 2.4 * rise,
        train_mean_mse=np.maximum(1 - rise, 1e-30),
        log_m=np.float64(np.log(m)),
        label_entropy=np.float64(LOG2),
        n=100,
        m=m,
        k=1,
    )


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    plt.close("all")


def line(ax, label):
    (found,) = [each for each in ax.get_lines() if each.get_label() == label]
    return found


def dashes(ax, color):
    """The points at t = 0 and t = ∞ of the series of this colour."""
    (found,) = [each for each in ax.get_lines() if each.get_markersize() == 10 and each.get_color() == color]
    return found.get_xydata()


def horizontals(ax):
    """Heights of the horizontal reference lines."""
    return [each.get_ydata()[0] for each in ax.get_lines() if np.array_equal(each.get_xdata(), [0, 1])]


def verticals(ax, style):
    return [
        each.get_xdata()[0]
        for each in ax.get_lines()
        if np.array_equal(each.get_ydata(), [0, 1]) and each.get_linestyle() == style
    ]


def texts(ax):
    return [each.get_text() for each in ax.texts]


def legend(ax):
    return [each.get_text() for each in ax.get_legend().get_texts()]


@pytest.mark.parametrize(("unit", "factor"), [("nats", 1.0), ("bits", 1 / LOG2)])
def test_curve_draws_both_informations_and_their_ceilings(unit, factor):
    ax = plot.curve(result(), unit=unit)
    for label, height in (("$I(X;Z|D)$", 4), ("$I(Y;Z|D)$", 0.6)):
        drawn = line(ax, label)
        np.testing.assert_array_equal(drawn.get_xdata(), T[1:4])
        np.testing.assert_allclose(drawn.get_ydata(), factor * height * np.array([0.25, 0.5, 0.75]))
        ends = dashes(ax, drawn.get_color())
        np.testing.assert_allclose(ends, [[0.01, 0], [10000, factor * height]], atol=1e-12)
    np.testing.assert_allclose(sorted(horizontals(ax)), [factor * LOG2, factor * np.log(500)])
    ceiling, entropy = (f"{factor * value:.3g} {unit}" for value in (np.log(500), LOG2))
    assert sorted(texts(ax)) == [f"$H(Y)$ = {entropy}", rf"$\log m$ = {ceiling}"]
    assert ax.get_ylim()[1] > factor * np.log(500)
    assert ax.get_ylabel() == f"information [{unit}]" and ax.get_xlabel() == "training time $t$"
    assert ax.get_xscale() == "log"
    assert legend(ax) == ["$I(X;Z|D)$", "$I(Y;Z|D)$"]


def test_the_sides_of_the_time_axis_are_named_zero_and_infinity():
    ax = plot.curve(result())
    ticks = dict(zip(ax.get_xticks(), [each.get_text() for each in ax.get_xticklabels()], strict=True))
    assert ticks[0.01] == "0" and ticks[10000.0] == r"$\infty$" and ticks[0.1] == "$10^{-1}$"
    inner = plot.curve(result(t=T[1:4]))
    labels = [each.get_text() for each in inner.get_xticklabels()]
    assert "0" not in labels and r"$\infty$" not in labels
    assert [each for each in inner.get_lines() if each.get_marker() == "_"] == []


def test_times_out_of_order_are_drawn_in_order():
    shuffled = result(t=np.array([np.inf, 10.0, 0.1, 1000.0, 0.0]))
    drawn = line(plot.curve(shuffled), "$I(X;Z|D)$")
    np.testing.assert_array_equal(drawn.get_xdata(), [0.1, 10, 1000])
    np.testing.assert_array_equal(drawn.get_ydata(), [2, 1, 3])


@pytest.mark.parametrize("t", [[0.0], [np.inf], [3.0], [0.0, np.inf], [0.0, 3.0, np.inf]])
def test_few_times_are_drawn_too(t):
    figure = plot.summary(result(t=np.array(t)))
    figure.canvas.draw()
    points = np.concatenate(
        [each.get_ydata() for each in figure.axes[0].get_lines() if each.get_marker() in ("_", "o")]
    )
    assert len(points) == 2 * len(t)


def test_curve_draws_bounds_and_sampling_errors_as_bands():
    plain, bounded = plot.curve(result()), plot.curve(result(band=0.5, stderr=0.1, method="monte_carlo"), unit="bits")
    assert legend(bounded) == ["$I(X;Z|D)$, Monte Carlo", "$I(Y;Z|D)$"]
    bands = [each for each in bounded.collections if isinstance(each, matplotlib.collections.PolyCollection)]
    assert len(bands) == 3  # bounds of both, sampling error of the first
    assert len([each for each in plain.collections if isinstance(each, matplotlib.collections.PolyCollection)]) == 2
    at_ten = [band.get_paths()[0].vertices for band in bands]
    widths = [np.ptp(vertices[vertices[:, 0] == 10, 1]) * LOG2 for vertices in at_ten]
    np.testing.assert_allclose(widths, [1.0, 0.4, 0.5])


def test_curve_takes_names_and_reads_plain_arrays():
    ax = plot.curve(result(), "output_divergence", unit="bits")
    assert ax.get_ylabel().endswith("[bits]") and "KL" in ax.get_ylabel()
    assert horizontals(ax) == [] and texts(ax) == []
    (drawn,) = [each for each in ax.get_lines() if "KL" in str(each.get_label())]
    np.testing.assert_allclose(drawn.get_ydata(), np.array([2.5, 5, 7.5]) / LOG2)
    everything = plot.curve(result(), ["label_information", "output_divergence_joint"])
    assert len(legend(everything)) == 2 and len(horizontals(everything)) == 1


def test_regression_has_no_label_ceiling():
    ax = plot.curve(result(classes=False))
    np.testing.assert_allclose(horizontals(ax), [np.log(500)])
    assert not any("H(Y)" in each for each in texts(plot.plane(result(classes=False))))


def test_divergence_and_geometry_are_logarithmic_without_time_zero():
    ax = plot.divergence(result(), unit="bits")
    assert ax.get_yscale() == "log" and "[bits]" in ax.get_ylabel()
    np.testing.assert_allclose(
        line(ax, "joint over test inputs").get_ydata(), 1000 * np.array([0.25, 0.5, 0.75]) / LOG2
    )
    np.testing.assert_allclose(dashes(ax, line(ax, "mean over test inputs").get_color()), [[10000, 10 / LOG2]])
    ax = plot.geometry(result())
    assert ax.get_yscale() == "log"
    assert "0" not in [each.get_text() for each in ax.get_xticklabels()]
    assert ax.get_legend().get_title().get_text().endswith("= 1,234")
    heights = [np.asarray(each.get_ydata())[0] for each in ax.get_lines() if str(each.get_label())[0] != "_"]
    np.testing.assert_allclose(heights, [12.5, 15, 1750])


def test_losses_of_each_kind():
    ax = plot.losses(result())
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "squared error"
    np.testing.assert_allclose(line(ax, "one network, test").get_ydata(), [1.75, 1.5, 1.25])
    np.testing.assert_allclose(line(ax, "one network, train").get_ydata(), [1.9, 1.3, 0.7])
    assert line(ax, "ensemble mean, train").get_linestyle() == "--"
    assert ax.get_ylim()[0] == pytest.approx(2.5e-6)  # and not 1e-30
    ax = plot.losses(result(), "error", unit="bits")
    np.testing.assert_allclose(line(ax, "ensemble mean").get_ydata(), 0.5 - 0.45 * np.array([0.25, 0.5, 0.75]))
    assert ax.get_ylabel() == "0-1 error" and ax.get_ylim()[0] == 0
    ax = plot.losses(result(), "nll", unit="bits")
    np.testing.assert_allclose(line(ax, "one network").get_ydata(), np.array([2.75, 2.5, 2.25]) / LOG2)
    assert ax.get_ylabel() == "negative log-likelihood [bits]"


@pytest.mark.parametrize(("unit", "factor"), [("nats", 1.0), ("bits", 1 / LOG2)])
def test_plane_has_points_coloured_by_time_and_the_ceilings(unit, factor):
    bound = (np.linspace(0, 5, 7), 0.6 * np.linspace(0, 1, 7))
    ax = plot.plane(result(), unit=unit, bound=bound)
    (points,) = [each for each in ax.collections if isinstance(each, matplotlib.collections.PathCollection)]
    np.testing.assert_allclose(points.get_offsets(), factor * np.array([[1, 0.15], [2, 0.3], [3, 0.45]]))
    np.testing.assert_array_equal(points.get_array(), T[1:4])
    assert (points.norm.vmin, points.norm.vmax) == (0.1, 1000)
    np.testing.assert_allclose(verticals(ax, "--"), [factor * np.log(500)])
    np.testing.assert_allclose(horizontals(ax), [factor * LOG2])
    np.testing.assert_allclose(line(ax, "bottleneck bound").get_xydata(), factor * np.stack(bound, 1))
    assert legend(ax) == ["bottleneck bound", "$t=0$", r"$t=\infty$"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"$I(X;Z|D)$ [{unit}]", f"$I(Y;Z|D)$ [{unit}]")
    assert rf"$\log m$ = {factor * np.log(500):.3g} {unit}" in texts(ax)
    assert [each.get_ylabel() for each in ax.figure.axes[1:]] == ["training time $t$"]


def test_plane_of_several_curves_has_one_scale_of_time_and_every_ceiling():
    curves = {"wide": result(), "narrow": result(t=np.array([1.0, 1e5]), m=50, stderr=0.1)}
    ax = plot.plane(curves)
    first, second = [each for each in ax.collections if isinstance(each, matplotlib.collections.PathCollection)]
    assert (first.norm.vmin, first.norm.vmax) == (second.norm.vmin, second.norm.vmax) == (0.1, 1e5)
    np.testing.assert_allclose(verticals(ax, "--"), np.log([50, 500]))
    assert legend(ax) == ["wide", "narrow", "$t=0$", r"$t=\infty$"]
    assert len(ax.figure.axes) == 2
    (bars,) = ax.containers  # the second curve is sampled
    np.testing.assert_allclose(bars.lines[2][0].get_segments()[0], [[-0.2, 0], [0.2, 0]], atol=1e-12)
    assert legend(plot.plane(list(curves.values())))[:2] == ["1", "2"]
    assert legend(plot.plane([result()])) == ["$t=0$", r"$t=\infty$"]


def test_finite_networks_lie_over_the_closed_form():
    t = np.array([0.0, 10.0, 1e6, np.inf])
    samples = {
        "input_information": (t, np.arange(4.0), np.full(4, 0.1)),
        "label_information": (t, np.zeros(4), np.zeros(4)),
    }
    ax = plot.finite(result(), samples, unit="bits")
    drawn = line(ax, "$I(X;Z|D)$, infinite width")
    np.testing.assert_allclose(drawn.get_ydata(), np.array([1, 2, 3]) / LOG2)
    bars = ax.containers[0]
    # The side places of both come from the longest times of all: 1e6, not 1000.
    np.testing.assert_allclose(bars.lines[0].get_xydata(), np.stack([[0.01, 10, 1e6, 1e7], np.arange(4) / LOG2], 1))
    np.testing.assert_allclose(np.ptp(bars.lines[2][0].get_segments()[1][:, 1]), 0.4 / LOG2)
    assert dashes(ax, drawn.get_color())[1, 0] == 1e7
    assert to_rgba(bars.lines[0].get_color()) == to_rgba(drawn.get_color())
    assert len(legend(ax)) == 4 and ax.get_ylabel() == "information [bits]"
    ax = plot.finite(result(), {"gibbs_mse": ([1.0], [2.0], [0.5])}, unit="bits")
    np.testing.assert_array_equal(ax.containers[0].lines[0].get_xydata(), [[1, 2]])  # no unit to change
    assert ax.get_ylabel() == "squared error"


@pytest.mark.parametrize(("unit", "factor"), [("nats", 1.0), ("bits", 1 / LOG2)])
def test_sweep_puts_weights_across_and_biases_up(unit, factor):
    values = np.arange(6.0).reshape(3, 2)
    values[2, 1] = np.nan
    ax = plot.sweep(values, [0.5, 1, 2], [0, 0.1], unit=unit)
    (mesh,) = ax.collections
    cells = mesh.get_array().reshape(2, 3)
    np.testing.assert_allclose(cells[0], factor * np.array([0, 2, 4]))
    np.testing.assert_allclose(cells[1, :2], factor * np.array([1, 3]))
    assert cells.mask.tolist() == [[False, False, False], [False, False, True]]
    assert [each.get_text() for each in ax.get_xticklabels()] == ["0.5", "1", "2"]
    assert [each.get_text() for each in ax.get_yticklabels()] == ["0", "0.1"]
    assert ax.figure.axes[1].get_ylabel() == f"$I(X;Z|D)$ [{unit}]"
    other = plot.sweep(values, [0.5, 1, 2], [0, 0.1], "gibbs_error", unit=unit)
    np.testing.assert_allclose(other.collections[0].get_array().ravel()[:2], [0, 2])
    assert other.figure.axes[1].get_ylabel() == "0-1 error, one network"


def test_summary_holds_six_panels(tmp_path):
    figure = plot.summary(result(), unit="bits", title="a title")
    panels = [each for each in figure.axes if each.get_xlabel()]
    assert [each.get_ylabel() for each in panels] == [
        "information [bits]",
        "$I(Y;Z|D)$ [bits]",
        plot.divergence(result(), unit="bits").get_ylabel(),
        "squared error",
        "0-1 error",
        "distance, action",
    ]
    assert figure.get_suptitle() == "a title"
    figure.savefig(tmp_path / "summary.png")
    panels = [each.get_ylabel() for each in plot.summary(result(classes=False)).axes]
    assert "negative log-likelihood [nats]" in panels and "0-1 error" not in panels
    silent = plot.summary(result(classes=False, noise=False)).axes
    assert not {"negative log-likelihood [nats]", "0-1 error"} & {each.get_ylabel() for each in silent}
    assert sum(not each.axison for each in silent) == 1


def test_axes_given_are_the_axes_drawn_into():
    figure, ax = plt.subplots()
    for draw in (
        lambda: plot.curve(result(), ax=ax),
        lambda: plot.divergence(result(), ax=ax),
        lambda: plot.losses(result(), ax=ax),
        lambda: plot.geometry(result(), ax=ax),
        lambda: plot.finite(result(), {"action": (T, np.ones(5), np.ones(5))}, ax=ax),
        lambda: plot.plane(result(), ax=ax),
        lambda: plot.sweep(np.ones((1, 1)), [1], [1], ax=ax),
    ):
        ax.clear()
        before = dict(matplotlib.rcParams)
        assert draw() is ax
        assert plt.get_fignums() == [figure.number] and dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.curve(result(), unit="bit"), "`unit` must be one of 'nats', 'bits'; got 'bit'"),
        (lambda: plot.divergence(result(), unit=None), "`unit` must be one of 'nats', 'bits'; got None"),
        (lambda: plot.losses(result(), unit="shannon"), "`unit` must be one of"),
        (lambda: plot.plane(result(), unit="hartley"), "`unit` must be one of"),
        (lambda: plot.finite(result(), {"action": (T, T, T)}, unit=""), "`unit` must be one of"),
        (lambda: plot.sweep([[1.0]], [1], [1], unit=2), "`unit` must be one of"),
        (lambda: plot.summary(result(), unit="bit"), "`unit` must be one of"),
        (lambda: plot.curve(result(), ["mi"]), "`quantities` must be one of 'input_information', .*; got 'mi'"),
        (lambda: plot.curve(result(), ["action"]), "`quantities` must be one of .*; got 'action'"),
        (lambda: plot.curve(result(), []), "`quantities` must name at least one of 'input_information'"),
        (lambda: plot.losses(result(), "mae"), "`kind` must be one of 'mse', 'nll', 'error'; got 'mae'"),
        (lambda: plot.losses(result(classes=False), "error"), "'gibbs_error' must be in the results.*need classes"),
        (lambda: plot.losses(result(noise=False), "nll"), "'gibbs_nll' must be in the results.*a noise"),
        (lambda: plot.plane([]), "`results` must hold at least one `Curve`; got none"),
        (lambda: plot.plane({}), "`results` must hold at least one `Curve`; got none"),
        (lambda: plot.plane(result(), bound=(T, T[:2])), r"`bound` must be \(i_xz, i_zy\).*got shapes \(5,\), \(2,\)"),
        (lambda: plot.summary(result(), bound=(T,)), r"`bound` must be \(i_xz, i_zy\).*got shapes \(5,\)"),
        (lambda: plot.finite(result(), {}), "`samples` must name at least one of"),
        (lambda: plot.finite(result(), {"loss": (T, T, T)}), "`samples` must be one of .*; got 'loss'"),
        (lambda: plot.finite(result(), {"action": (T, T)}), r"`samples\['action'\]` must be \(t, mean, stderr\)"),
        (lambda: plot.finite(result(), {"action": (T, T, T[:1])}), r"got shapes \(5,\), \(5,\), \(1,\)"),
        (
            lambda: plot.finite(result(), {"action": (T, T, T), "mean_mse": (T, T, T)}),
            "`samples` must be quantities of one kind for one axis; got geometry and mse",
        ),
        (lambda: plot.sweep(np.ones((2, 3)), [1, 2, 3], [1, 2]), r"shape \(W, B\) = \(3, 2\).*got \(2, 3\)"),
        (lambda: plot.sweep([[1.0]], [1], [1], "sigma"), "`quantity` must be one of .*; got 'sigma'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_figure_opens(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
    assert plt.get_fignums() == []


def test_plot_imports_no_sibling():
    modules = set()
    for path in Path(plot.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(".".join(node.module.split(".")[:2]))
    ours = {each for each in modules if each.startswith("ntkinfo")}
    assert ours == {"ntkinfo.plot", "ntkinfo._common"}
    others = {each.partition(".")[0] for each in modules - ours}
    assert others - sys.stdlib_module_names == {"matplotlib", "numpy"}


def test_device_arrays_and_dataclasses_are_read_like_any_other():
    import jax.numpy as jnp

    @dataclasses.dataclass(frozen=True)
    class Frozen:
        t: object
        input_information: object
        label_information: object
        log_m: object
        label_entropy: object
        losses: object

    source = result()
    frozen = Frozen(*(getattr(source, field.name) for field in dataclasses.fields(Frozen)))
    frozen = dataclasses.replace(frozen, t=jnp.asarray(T), log_m=jnp.log(500.0))
    np.testing.assert_allclose(line(plot.curve(frozen), "$I(X;Z|D)$").get_ydata(), [1, 2, 3])
