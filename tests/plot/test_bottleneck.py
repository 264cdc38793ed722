"""Figures of the bottleneck: what is drawn is what is in the results."""

from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ntkinfo import plot

CURVE = SimpleNamespace(
    i_xz=np.array([1.0, 0.0, 0.5]), i_zy=np.array([0.3, 0.0, 0.1]), on_hull=np.array([True, True, False]), i_xy=0.31
)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def branch(mass):
    decoder = np.where(np.asarray(mass)[:, :, None] > 0, np.array([[0.2, 0.8], [0.6, 0.4]])[None], np.nan)
    return SimpleNamespace(beta=np.array([2.0, 4.0]), mass=np.asarray(mass), decoder=decoder)


def test_the_curve_is_drawn_in_order_and_in_the_unit():
    ax = plot.bottleneck({"IB": CURVE}, points={"layer": (0.7, 0.2)}, unit="bits")
    line, kept, open_points, layer = ax.get_lines()[:4]
    np.testing.assert_allclose(line.get_xdata(), np.array([0, 0.5, 1]) / np.log(2))
    np.testing.assert_allclose(line.get_ydata(), np.array([0, 0.1, 0.3]) / np.log(2))
    assert len(kept.get_xdata()) == 2 and open_points.get_markerfacecolor() == "white"
    np.testing.assert_allclose(open_points.get_xdata(), [0.5 / np.log(2)])
    np.testing.assert_allclose(layer.get_ydata(), 0.2 / np.log(2))
    assert "bits" in ax.get_xlabel() and "bits" in ax.get_ylabel()


def test_the_clusters_of_each_branch_are_drawn_with_the_critical_values():
    result = SimpleNamespace(
        upward=branch([[1, 0], [1, 0]]), downward=branch([[1, 0], [0.5, 0.5]]), optimum=branch([[1, 0], [0.4, 0.6]])
    )
    ax = plot.bifurcation(result, critical=SimpleNamespace(local=[3.0], global_=[2.5, 3.5]))
    downward, upward, optimum = (each.get_offsets() for each in ax.collections)
    np.testing.assert_allclose(downward, [[2, 0.8], [4, 0.8], [4, 0.4]])
    np.testing.assert_allclose(upward, [[2, 0.8], [4, 0.8]])
    assert len(optimum) == 3
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [3.0, 2.5, 3.5]


def test_what_cannot_be_drawn_is_refused_before_a_figure_opens():
    with pytest.raises(ValueError, match="`unit` must be one of"):
        plot.bottleneck(CURVE, unit="bans")
    with pytest.raises(ValueError, match="at least one `BottleneckCurve`"):
        plot.bottleneck({})
    same = branch([[1, 0], [1, 0]])
    with pytest.raises(ValueError, match="`label` must be from 0 to 1; got 2"):
        plot.bifurcation(SimpleNamespace(upward=same, downward=same, optimum=same), label=2)
    assert plt.get_fignums() == []
