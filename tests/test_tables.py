"""What all results answer to: tables against the arrays themselves, one line, escaped HTML."""

import dataclasses
import html.parser
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo._common import registry, tables
from tests import results
from tests.fuzz import objects as o

# Results of any numbers serve here.
pytestmark = pytest.mark.usefixtures("little_time_to_compile")

# Arrays for an engine, and a specification.
NO_TABLES = {
    "ensemble.CrossFeatures", "ensemble.CrossKernels", "ensemble.KrylovEnsemble", "ensemble.SpectralSums",
    "posterior.KrylovPosterior", "variational.LabelNoise", "discrete.Names",
}  # fmt: skip
LOG2 = np.log(2)


@pytest.mark.parametrize("name", registry.RESULTS)
def test_every_result_has_one_line_and_a_small_table(name):
    result = results.of(name)
    line, text = repr(result), result._repr_html_()
    assert line.startswith(name.split(".")[1] + "(") and "\n" not in line and len(line) < 250
    assert len(text) < 6000
    if name in NO_TABLES:
        return
    frame = result.to_dataframe()
    assert len(frame) > 0 and frame.attrs.get("units", "nats") == "nats"
    with pytest.raises(ValueError, match="`unit` must be one of 'nats', 'bits'"):
        result.to_dataframe(unit="hartleys")


@pytest.mark.parametrize("name", sorted(set(registry.RESULTS) - NO_TABLES))
def test_coordinates_of_a_table_are_values_not_numbers(name):
    """A row is at a time, a β or a size; only what has no coordinate is counted through."""
    result = results.of(name)
    table = getattr(result, "_table", None)
    for axis in {"t", "beta", "epochs", "sizes", "step"} & set(table.axes if table else ()):
        values = np.asarray(getattr(result, table.names.get(axis, axis)))
        if values.ndim:
            np.testing.assert_allclose(np.unique(result.to_dataframe()[axis]), np.unique(values), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(registry.RESULTS) - NO_TABLES))
def test_bits_are_nats_over_log_two_and_nothing_else_changes(name):
    result = results.of(name)
    nats, bits = result.to_dataframe(), result.to_dataframe(unit="bits")
    assert list(nats) == list(bits)
    table = getattr(result, "_table", None)
    for column in nats if table else ():
        factor = LOG2 if column in table.nats.split() else 1.0
        if nats[column].dtype.kind == "f":
            np.testing.assert_allclose(bits[column] * factor, nats[column], rtol=1e-12)
        else:
            assert (bits[column] == nats[column]).all()


def test_columns_are_the_arrays_along_their_axes():
    run = o.layer_run()
    frame = run.to_dataframe(unit="bits").set_index(["network", "epochs", "layer"])
    for i, t, j in ((0, 0, 0), (1, 1, 1), (1, 2, 0)):
        row = frame.loc[(i, int(run.epochs[t]), j)]
        assert row["train_loss"] == pytest.approx(float(run.train_loss[i, t]) / LOG2)
        assert row["gradient_mean"] == pytest.approx(float(run.gradient_mean[i, t, j]))
    z = o.z()
    frame = z.to_dataframe()
    assert list(frame["std"]) == pytest.approx(np.sqrt(np.asarray(z.variance)).tolist())
    plane = o.plane()
    frame = plane.to_dataframe().set_index(["network", "epochs", "layer"])
    assert frame.loc[(1, plane.epochs[1], plane.names[0])]["i_xt"] == plane.i_xt[1, 1, 0]
    fit = o.fit().to_dataframe(unit="bits")
    np.testing.assert_allclose(fit["loss"], np.asarray(o.fit().history.loss) / LOG2)
    assert o.bottleneck_curve().to_dataframe(unit="bits").attrs["i_xy"] == pytest.approx(
        float(o.bottleneck_curve().i_xy) / LOG2
    )


def test_curves_and_sweeps_in_bits():
    curve = o.curve()
    nats, bits = curve.to_dataframe(), curve.to_dataframe(unit="bits")
    for column in nats:
        name = column.removesuffix("_lower").removesuffix("_upper").removesuffix("_stderr")
        factor = LOG2 if name != "t" and curve.quantities[name].unit == "nats" else 1.0
        np.testing.assert_allclose(bits[column] * factor, nats[column], err_msg=column)
    assert bits.attrs["log_m"] == pytest.approx(np.log2(4)) and bits.attrs["units"] == "bits"
    swept = results.sweep()
    np.testing.assert_allclose(
        swept.to_dataframe(unit="bits")["input_information"] * LOG2, swept.values["input_information"].ravel()
    )
    assert (swept.to_dataframe(unit="bits")["gibbs_error"] == 0.5).all()


def test_one_cell_of_a_sweep_is_a_curve():
    swept = results.sweep()
    cell = swept.curve(1, 0.1)
    assert cell.input_information.value.tolist() == [0.0, 1.0, 2.0] and cell.log_m == 3.0
    assert cell.losses.gibbs_error.tolist() == [0.5] * 3 and cell.output_divergence is None
    assert cell.to_dataframe()["label_information"].tolist() == [0.0, 0.1, 0.2]
    with pytest.raises(ValueError, match=r"`w` must be one of the scales 1, 2; got 1.5"):
        swept.curve(1.5, 0.1)
    with pytest.raises(
        ValueError, match=r"`w` and `b` must be of a cell that was computed; 2 and 0.1 failed: singular"
    ):
        swept.curve(2.0, 0.1)
    with pytest.raises(
        AttributeError, match="'SweptCurve' has no attribute 'gap'; its quantities are input_information"
    ):
        _ = cell.gap


def test_a_sweep_as_xarray(monkeypatch):
    swept = results.sweep()
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"`to_xarray` needs xarray. Install it: pip install xarray"):
        swept.to_xarray()
    monkeypatch.undo()
    pytest.importorskip("xarray")
    data = swept.to_xarray(unit="bits")
    assert data["input_information"].dims == ("w_std", "b_std", "t")
    assert data["input_information"].attrs["units"] == "bits" and data["gibbs_error"].attrs["units"] == ""
    np.testing.assert_allclose(data["input_information"].sel(w_std=1.0) * LOG2, swept.values["input_information"][0])


def test_pandas_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"`to_dataframe` needs pandas. Install it: pip install pandas"):
        o.z().to_dataframe()


def test_text_is_escaped():
    class Parser(html.parser.HTMLParser):
        found = ""

        def handle_starttag(self, tag, attrs):
            self.found += tag + " "

    plane = dataclasses.replace(o.plane(), estimator="<script>alert(1)</script>")
    parser = Parser()
    parser.feed(plane._repr_html_())
    assert set(parser.found.split()) == {"table", "caption", "thead", "tr", "th", "tbody", "td"}


def test_large_and_traced_results_stay_on_one_line():
    z = ni.gaussian.Gaussian(np.zeros((1000, 50, 10)), np.zeros((1000, 50)), np.zeros((50, 50)))
    assert repr(z) == "Gaussian(mean=float64[1000, 50, 10], variance=float64[1000, 50], covariance=float64[50, 50])"
    lines = []
    jax.jit(lambda z: lines.append(repr(z)) or z.mean)(o.z())
    assert lines[0].startswith("Gaussian(mean=float64[4, 1]")
    with pytest.raises(TypeError, match="`self` is being traced"):
        jax.jit(lambda z: z.to_dataframe())(o.z())


def test_a_single_time_and_leading_axes():
    run = o.run()._replace(**{name: getattr(o.run(), name)[:, 0] for name in ("loss", "parameter_distance", "action",
                              "fisher_action")}, t=np.float64(0.0), steps=np.int32(0))  # fmt: skip
    assert len(run.to_dataframe()) == 4 and (run.to_dataframe()["steps"] == 0).all()
    information = ni.information.Information(*np.arange(24.0).reshape(4, 2, 3), "exact")
    frame = information.to_dataframe().set_index(["axis_0", "axis_1"])
    assert frame.loc[(1, 2)]["upper"] == 17.0 and frame.attrs["method"] == "exact"
    assert tables.Table((), nats="a").where == {}


def test_a_column_of_fewer_leading_axes_has_the_first_of_them():
    """All lengths equal, so that nothing but the order of the axes tells one from another."""

    class Result(NamedTuple):
        t: np.ndarray
        all_axes: np.ndarray
        first: np.ndarray
        times: np.ndarray

        _table = tables.Table(("t",), plain="all_axes first times")

    result = Result(np.array([5.0, 7.0]), np.arange(8.0).reshape(2, 2, 2), 10 * np.arange(4.0).reshape(2, 2),
                    np.array([0.1, 0.2]))  # fmt: skip
    frame = tables.to_dataframe(result)
    assert list(frame)[:3] == ["axis_0", "axis_1", "t"] and len(frame) == 8
    for _, row in frame.iterrows():
        i, j, t = int(row["axis_0"]), int(row["axis_1"]), list(result.t).index(row["t"])
        assert row["all_axes"] == result.all_axes[i, j, t]
        assert row["first"] == result.first[i, t] and row["times"] == result.times[t]
