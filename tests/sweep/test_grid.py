"""`sweep.grid`: cells beside single curves, here and in other processes, resumed, with bands over draws of data."""

import concurrent.futures
import dataclasses
import multiprocessing

import jax
import numpy as np
import pytest
import scipy.stats

import ntkinfo as ni
from ntkinfo.sweep import _grid, _scales
from tests.problems import network

TIMES = np.array([0.0, 10.0, 1e3])


def build(w_std=1.5, depth=1, activation="erf"):
    return ni.architectures.network(w_std=w_std, b_std=0.1, depth=depth, activation=activation)


def draw(n=20, seed=0):
    return ni.datasets.gaussian(n, 8, seed=seed)


def test_cells_are_curves_of_their_network_and_data():
    found = ni.sweep.grid(
        build, draw, TIMES, axes={"n": [12, 20], "w_std": [1.0, 2.0], "activation": ["erf"], "seed": [3]}
    )
    assert found.values["gibbs_mse"].shape == (2, 2, 1, 1, 3) and not found.failed
    data = draw(20, 3)
    curve = ni.information.curve(ni.Ensemble.fit(build(2.0), data), data, TIMES)
    for name, column in curve.columns().items():
        if name != "t":
            np.testing.assert_allclose(found.values[name][1, 1, 0, 0], column, rtol=1e-8, atol=1e-10, err_msg=name)
    np.testing.assert_allclose(found.ceilings["log_m"], np.log(8))
    frame = found.to_dataframe(unit="bits")
    row = frame[(frame.n == 20) & (frame.w_std == 2.0) & (frame.t == 10.0)]
    assert len(frame) == 12 and set(row.activation) == {"erf"}
    np.testing.assert_allclose(row.output_divergence * np.log(2), curve.output_divergence[1])


def test_rows_of_a_data_set_are_the_first_or_drawn():
    data = draw(30)
    first = _grid._subset(data, n=10)
    np.testing.assert_array_equal(first.x_train, data.x_train[:10])
    one, two = (_grid._subset(data, n=10, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.x_train, two.x_train) and len(one.y_train) == 10
    np.testing.assert_array_equal(one.x_train, _grid._subset(data, n=10, seed=0).x_train)
    with pytest.raises(ValueError, match="at most the 30 training rows"):
        ni.sweep.grid(build, data, TIMES, axes={"n": [31]})
    with pytest.raises(ValueError, match="leave something to draw"):
        ni.sweep.grid(build, data, TIMES, axes={"seed": [0, 1]})


def test_scales_share_a_program_and_finished_cells_are_read(tmp_path, monkeypatch):
    axes = {"w_std": [1.0, 1.5, 2.0], "n": [20]}
    ni.sweep.grid(build, draw, TIMES, axes=axes | {"w_std": [1.0]}, folder=tmp_path)
    size, computed = _scales._block._cache_size(), []
    curve_of = _scales.curve_of

    def counted(build, scales, *rest):
        if len(computed) == 1 and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        computed.append(scales)
        return curve_of(build, scales, *rest)

    monkeypatch.setattr(_scales, "curve_of", counted)
    with pytest.raises(KeyboardInterrupt):
        ni.sweep.grid(build, draw, TIMES, axes=axes, folder=tmp_path)
    resumed = ni.sweep.grid(build, draw, TIMES, axes=axes, folder=tmp_path)
    assert computed == [(1.5,), (2.0,)] and _scales._block._cache_size() == size
    monkeypatch.undo()
    whole = ni.sweep.grid(build, draw, TIMES, axes=axes)
    for name, value in whole.values.items():
        np.testing.assert_array_equal(resumed.values[name], value)
    # The same folder serves another grid: other times are other cells.
    other = ni.sweep.grid(build, draw, TIMES[:2], axes=axes | {"w_std": [1.0]}, folder=tmp_path)
    assert other.values["gibbs_mse"].shape == (1, 1, 2) and len(list(tmp_path.glob("cell_*.npz"))) == 4


@pytest.mark.slow
def test_threads_give_the_same_numbers():
    axes = {"w_std": [1.0, 2.0], "n": [20]}
    options = {"method": "monte_carlo", "key": jax.random.key(1), "n_samples": 4}
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        found = ni.sweep.grid(build, draw, TIMES, axes=axes, executor=executor, **options)
    here = ni.sweep.grid(build, draw, TIMES, axes=axes, **options)
    for name, value in here.values.items():
        np.testing.assert_allclose(found.values[name], value, rtol=1e-12, err_msg=name)


@pytest.mark.slow
def test_processes_give_the_same_numbers(tmp_path):
    axes = {"w_std": [1.0, 2.0], "depth": [1, 2], "n": [20]}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        found = ni.sweep.grid(build, draw, TIMES, axes=axes, folder=tmp_path, executor=executor)
        with pytest.raises(TypeError, match="`build` and `data` must be functions that can be sent"):
            ni.sweep.grid(lambda w_std: build(w_std), draw, TIMES, axes={"w_std": [1.0]}, executor=executor)
    here = ni.sweep.grid(build, draw, TIMES, axes=axes)
    for name, value in here.values.items():
        np.testing.assert_allclose(found.values[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    assert len(list(tmp_path.glob("cell_*.npz"))) == 4


def _in_other_processes(executor, folder):
    """What an executor of a cluster must do: numbers, reasons of cells that fail, files, and no cell twice."""
    axes = {"w_std": [1.0, 2.0], "activation": ["erf", "relu"], "n": [20]}
    options = {"method": "monte_carlo", "key": jax.random.key(1), "n_samples": 4}
    found = ni.sweep.grid(build, draw, TIMES, axes=axes, folder=folder, executor=executor, progress=False, **options)
    here = ni.sweep.grid(build, draw, TIMES, axes=axes, progress=False, **options)
    assert not found.failed
    for name, value in here.values.items():
        np.testing.assert_allclose(found.values[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    assert len(list(folder.glob("cell_*.npz"))) == 4

    class Nothing:
        def submit(self, *_):
            raise AssertionError("a finished cell was submitted again")

    again = ni.sweep.grid(build, draw, TIMES, axes=axes, folder=folder, executor=Nothing(), progress=False, **options)
    for name, value in found.values.items():
        np.testing.assert_array_equal(again.values[name], value)
    repeated = dataclasses.replace(draw(20), x_train=np.ones((20, 8)))
    with pytest.raises(ValueError, match="must have a cell that can be computed"):
        ni.sweep.grid(build, repeated, TIMES, axes={"w_std": [1.0]}, executor=executor, progress=False)


@pytest.mark.slow
def test_submitit_gives_the_same_numbers(tmp_path):
    submitit = pytest.importorskip("submitit")
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs")
    executor.update_parameters(timeout_min=10)
    _in_other_processes(executor, tmp_path / "cells")


@pytest.mark.slow
def test_dask_gives_the_same_numbers(tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        _in_other_processes(client.get_executor(), tmp_path / "cells")


def test_bands_over_draws_are_student_intervals():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 4, 3))
    values[1, 2] = np.nan
    found = _grid.Grid({"n": (5, 9), "seed": (0, 1, 2, 3)}, TIMES, {"mean_mse": values}, {}, {(9, 2): "singular"})
    band = found.band("mean_mse", coverage=0.9)
    np.testing.assert_allclose(band.mean[0], values[0].mean(axis=0))
    low, high = scipy.stats.t.interval(0.9, 3, values[0].mean(axis=0), scipy.stats.sem(values[0], axis=0))
    np.testing.assert_allclose([band.lower[0], band.upper[0]], [low, high])
    kept = np.delete(values[1], 2, axis=0)
    np.testing.assert_allclose(band.stderr[1], scipy.stats.sem(kept, axis=0))
    np.testing.assert_array_equal(band.n_replicates, [[4] * 3, [3] * 3])
    for given in (
        {"quantity": "colour"},
        {"quantity": "mean_mse", "over": "w"},
        {"quantity": "mean_mse", "coverage": 1},
    ):
        with pytest.raises(ValueError, match=r"`(quantity|over|coverage)`"):
            found.band(**given)


def test_a_cell_that_fails_does_not_stop_the_others(tmp_path):
    data = draw(20)
    repeated = dataclasses.replace(data, x_train=data.x_train[[0, *range(19)]])
    found = ni.sweep.grid(
        build, lambda n, seed: repeated if seed else data, TIMES, axes={"n": [20], "seed": [0, 1], "w_std": [1.0]}
    )
    assert list(found.failed) == [(20, 1, 1.0)] and "singular" in found.failed[20, 1, 1.0]
    assert np.isnan(found.values["gibbs_mse"][0, 1]).all() and np.isfinite(found.values["gibbs_mse"][0, 0]).all()
    # Projected it can be computed, and what is written of it is not taken where that was not asked for.
    axes = {"n": [20], "seed": [1], "w_std": [1.0]}
    options = {"axes": axes, "folder": tmp_path}
    assert not ni.sweep.grid(build, lambda n, seed: repeated, TIMES, singular="project", **options).failed
    with pytest.raises(ValueError, match=r"`axes` must have a cell that can be computed.*singular"):
        ni.sweep.grid(build, lambda n, seed: repeated, TIMES, **options)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"axes": {}}, TypeError, "`axes` must be a dictionary"),
        ({"axes": {"w_std": 1.0}}, TypeError, "`axes` must hold sequences"),
        ({"axes": {"activation": "erf"}}, TypeError, "`axes` must hold sequences"),
        ({"axes": {"w_std": []}}, ValueError, "at least one"),
        ({"axes": {"w_std": [1.0, 1]}}, ValueError, "must not repeat"),
        ({"axes": {"w_std": [np.nan]}}, ValueError, "must hold finite numbers"),
        ({"axes": {"n": [0]}}, ValueError, "n"),
        ({"axes": {"colour": ["red"]}}, TypeError, "`build` must be a function of colour"),
        ({"axes": {"w_std": [1.0]}, "data": 3}, TypeError, "`data`"),
        ({"axes": {"w_std": [1.0]}, "data": lambda: 3}, TypeError, "`data`"),
        ({"axes": {"w_std": [1.0]}, "executor": 3}, TypeError, "`executor`"),
        ({"axes": {"w_std": [1.0]}, "colour": 3}, TypeError, "`options`"),
        ({"axes": {"w_std": [1.0]}, "build": network()}, TypeError, "`build`"),
    ],
)
def test_arguments_are_checked(given, error, match):
    arguments = {"build": build, "data": draw, "t": TIMES} | given
    with pytest.raises(error, match=match):
        ni.sweep.grid(**arguments)
