import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo.sweep import _scales as sweep
from tests.problems import network, problem

TIMES = np.array([0.0, 10.0, 1e3])


def build(w_std, b_std):
    return network(w_std=w_std, b_std=b_std)


@pytest.fixture
def data(rng):
    x, y, x_test, y_test = problem(rng)
    return x, y, x_test, y_test, TIMES


def test_cells_are_curves(data):
    swept = sweep.scales(build, *data, w_std=[1.0, 2.0], b_std=[0.1, 0.5, 1.0])
    x, y, x_test, y_test, t = data
    assert swept.values["input_information"].shape == (2, 3, 3) and not swept.failed
    curve = ni.information.curve(ni.Ensemble.fit(build(2.0, 0.5), x, y), x_test, y_test, t)
    for name, column in curve.columns().items():
        if name != "t":
            np.testing.assert_allclose(swept.values[name][1, 1], column, rtol=1e-8, atol=1e-10)
    frame = swept.to_dataframe()
    row = frame[(frame.w_std == 2.0) & (frame.b_std == 0.5) & (frame.t == 10.0)]
    assert float(row.gibbs_mse.iloc[0]) == pytest.approx(float(curve.losses.gibbs_mse[1]), rel=1e-8)


def test_kernels_are_compiled_once(data):
    sweep.scales(build, *data, w_std=[1.0])
    size = sweep._block._cache_size()
    sweep.scales(build, *data, w_std=[1.1, 1.2, 1.3])
    assert sweep._block._cache_size() == size


def test_blocks_are_the_whole(data, monkeypatch):
    whole = sweep.scales(build, *data, w_std=[1.5])
    monkeypatch.setattr(ni.kernels, "block_size", lambda x: 5)
    blocked = sweep.scales(build, *data, w_std=[1.5])
    for name, value in whole.values.items():
        np.testing.assert_allclose(blocked.values[name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("convert", [float, np.sqrt, lambda w: w if w > 1 else 2 * w], ids=["float", "numpy", "if"])
def test_scales_that_are_made_numbers_of_are_named(data, convert):
    for swept in (
        lambda: sweep.scales(lambda w, b: network(w_std=convert(w)), *data, w_std=[1.0]),
        lambda: ni.sweep.grid(
            lambda w: network(w_std=convert(w)), ni.datasets.gaussian(12, 4), TIMES, axes={"w": [1.0, 2.0]}
        ),
    ):
        with pytest.raises(TypeError, match="`build` must take floating-point numbers as they come"):
            swept()


def test_interrupted_sweep_goes_on(data, tmp_path, monkeypatch):
    computed = []
    cell = sweep.curve_of

    def failing(build, scales, *rest):
        w = scales[0]
        if w == 3.0 and len(computed) < 3:
            raise KeyboardInterrupt
        computed.append(w)
        return cell(build, scales, *rest)

    monkeypatch.setattr(sweep, "curve_of", failing)
    with pytest.raises(KeyboardInterrupt):
        sweep.scales(build, *data, w_std=[1.0, 2.0, 3.0], folder=tmp_path / "cells")
    assert computed == [1.0, 2.0]
    computed.append(None)
    resumed = sweep.scales(build, *data, w_std=[1.0, 2.0, 3.0], folder=tmp_path / "cells")
    assert computed == [1.0, 2.0, None, 3.0]
    straight = sweep.scales(build, *data, w_std=[1.0, 2.0, 3.0])
    for name, value in straight.values.items():
        np.testing.assert_array_equal(resumed.values[name], value)
    assert resumed.ceilings == straight.ceilings


def test_a_folder_of_another_sweep_is_refused(data, tmp_path):
    sweep.scales(build, *data, w_std=[1.0], folder=tmp_path)
    x, y, *rest = data
    with pytest.raises(ValueError, match=r"`folder` must be of a run with the same arguments; .* differs in y\."):
        sweep.scales(build, x, -y, *rest, w_std=[1.0], folder=tmp_path)
    with pytest.raises(ValueError, match=r"differs in build\."):
        sweep.scales(lambda w, b: network(w_std=w, b_std=b, depth=3), *data, w_std=[1.0], folder=tmp_path)


def test_failed_cells_are_listed_and_do_not_stop_the_rest(data):
    def sometimes_singular(w_std, b_std):
        # Without a bias a linear network has a kernel of rank 4 on 12 inputs.
        return stax.Dense(1, W_std=w_std, b_std=b_std)

    with pytest.raises(ValueError, match="singular to rounding"):
        sweep.scales(sometimes_singular, *data, w_std=[1.0])

    def narrow(w_std, b_std):
        kernel = network(w_std=1.5, b_std=0.3)[2]

        def scaled(x1, x2, get):
            both = kernel(x1, x2, get)
            return both.nngp, jnp.where(w_std > 1.5, 0.0, 1.0) * both.ntk

        return scaled

    swept = sweep.scales(narrow, *data, w_std=[1.0, 2.0])
    assert list(swept.failed) == [(2.0, 0.0)] and "positive semidefinite" in swept.failed[2.0, 0.0]
    assert np.isnan(swept.values["gibbs_mse"][1]).all() and np.isfinite(swept.values["gibbs_mse"][0]).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"w_std": []}, ValueError, "`w_std` must be a vector of scales, not empty"),
        ({"w_std": [0.0]}, ValueError, "`w_std` must be positive"),
        ({"w_std": [1.0, 1.0]}, ValueError, "`w_std` must not repeat a scale"),
        ({"b_std": [-1.0]}, ValueError, "`b_std` must be not negative"),
        ({"build": 3}, TypeError, "`build` must be a function"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_bad_input(data, change, error, message):
    arguments = {"build": build, "w_std": [1.0]} | change
    with pytest.raises(error, match=message):
        sweep.scales(arguments.pop("build"), *data, **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"singular": "eror"}, "`singular` must be one of 'error', 'project'"),
        ({"progress": "no"}, "`progress` must be True or False or None"),
        ({"folder": 3.5}, "`folder` must be a path"),
        ({"nois": 1.0}, "`options` must be those of `information.curve`; got nois"),
        ({"ens": 3}, "`options` must be those of `information.curve`; got ens"),
        ({"w_std": ["a"]}, "`w_std`"),
        ({"checkpoint": "folder"}, "`options` must hold no `checkpoint`.*`folder`"),
        ({"noise": -1.0}, "^`noise` must be positive"),
        ({"joint": "no"}, "^`joint` must be True or False or None"),
        ({"task": "clases"}, "^`task` must be one of"),
        ({"method": "exakt"}, "^`method` must be one of"),
        ({"method": "minibatch"}, "^`key` must be given"),
        ({"n_samples": 0}, "^`n_samples` must be"),
        ({"label_entropy": np.nan}, "^`label_entropy` must"),
        ({"batch_size": 1.5}, "^`batch_size` must be"),
    ],
)
def test_options_are_checked_before_any_cell(data, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sweep.scales(build, *data, **{"w_std": [1.0]} | options)


@pytest.mark.parametrize("make", [lambda: 3, lambda w, b: None, lambda w, b: "a", lambda w: w])
def test_what_makes_no_network_is_named(data, make):
    with pytest.raises(TypeError, match="`build` must "):
        sweep.scales(make, *data, w_std=[1.0])
