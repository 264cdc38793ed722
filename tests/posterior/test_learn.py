"""Hyperparameters learned: gradients against differences, the optimum of scikit-learn, leaving out by refitting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from ntkinfo import Posterior, architectures
from ntkinfo._common import parallel
from ntkinfo.posterior import _learn

START = {"w_std": 1.3, "b_std": 0.3, "noise": 0.2}


def problem(n=24, outputs=1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    y = np.sin(2 * x[:, :1] + np.arange(outputs)) + 0.3 * rng.normal(size=(n, outputs))
    return x, y


def network(activation="erf"):
    return lambda p: architectures.network(activation=activation, depth=1, w_std=p["w_std"], b_std=p["b_std"])


def rbf(parameters):
    """A kernel of its own, of one length scale or one for each feature."""

    def kernel_fn(x1, x2, get):
        x2 = x1 if x2 is None else x2
        scaled = [x / jnp.reshape(parameters["length"], (1, -1)) for x in (x1, x2)]
        squares = jnp.sum((scaled[0][:, None] - scaled[1][None]) ** 2, axis=2)
        return (parameters["signal"] * jnp.exp(-squares / 2),) * 2

    return kernel_fn


@pytest.mark.parametrize("objective", _learn.OBJECTIVES)
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_gradients_against_differences(objective, activation):
    x, y = problem(8, outputs=2)
    # A repeated input, where the kernel of rectified linear units has its kink.
    x = np.concatenate([x, x[:1]])
    y = np.concatenate([y, y[1:2]])
    program = _learn._program(network(activation), None, tuple((name, ()) for name in START), objective, "ntk")
    function = functools.partial(program, noise=None)
    logs = np.log([START[name] for name in sorted(START)])
    value, slope = function(logs, x, y)
    expected = [
        (float(function(logs + step, x, y)[0]) - float(function(logs - step, x, y)[0])) / 2e-5
        for step in 1e-5 * np.eye(3)
    ]
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(value)


def test_the_optimum_is_that_of_scikit_learn():
    x, y = problem(30)
    kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1)
    theirs = GaussianProcessRegressor(kernel, alpha=0.0, n_restarts_optimizer=0).fit(x, y[:, 0])
    ours = Posterior.learn(rbf, x, y, {"signal": 1.0, "length": 1.0, "noise": 0.1})
    assert ours.converged and not ours.at_limit
    assert float(ours.value) == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-6)
    assert float(ours.value) >= theirs.log_marginal_likelihood_value_ - 1e-9
    found = [float(ours.parameters[name]) for name in ("signal", "length", "noise")]
    np.testing.assert_allclose(np.log(found), theirs.kernel_.theta, atol=2e-3)
    x_test = np.random.default_rng(1).normal(size=(5, 2))
    z = ours.posterior.predict(x_test)
    np.testing.assert_allclose(z.mean[:, 0], theirs.predict(x_test), atol=1e-3)
    # The posterior is the one of these parameters, and its evidence the value found.
    assert float(ours.posterior.log_marginal_likelihood) == pytest.approx(float(ours.value), abs=1e-9)
    assert float(ours.posterior.noise) == float(ours.parameters["noise"]) and ours.posterior.prior_saw_data
    assert (np.diff(ours.path) > 0).all() and len(ours.path) == ours.n_steps + 1
    assert max(abs(float(slope)) for slope in ours.gradient.values()) < 1e-3


def test_leave_one_out_is_that_of_refitting():
    x, y = problem(10, outputs=2)
    q = np.asarray(rbf({"length": 0.8, "signal": 1.2})(x, None, None)[0])
    total = 0.0
    for i in range(10):
        rest = np.arange(10) != i
        solved = np.linalg.solve(q[np.ix_(rest, rest)] + 0.3 * np.eye(9), np.c_[y[rest], q[rest, i]])
        mean, variance = q[i, rest] @ solved[:, :2], q[i, i] - q[i, rest] @ solved[:, 2] + 0.3
        total += np.sum(-0.5 * np.log(2 * np.pi * variance) - (y[i] - mean) ** 2 / (2 * variance))
    assert float(_learn.leave_one_out(jnp.asarray(q), jnp.asarray(y), 0.3)) == pytest.approx(total, abs=1e-10)
    dense = q + 0.3 * np.eye(10)
    log_p = -0.5 * np.sum(y * np.linalg.solve(dense, y)) - np.linalg.slogdet(2 * np.pi * dense)[1]
    assert float(_learn.evidence(jnp.asarray(q), jnp.asarray(y), 0.3)) == pytest.approx(log_p, abs=1e-10)
    # Better than where it started, and than the evidence's optimum by its own measure.
    start = {"length": 0.8, "signal": 1.2}
    both = {o: Posterior.learn(rbf, x, y, start, noise=0.3, objective=o) for o in _learn.OBJECTIVES}
    found = both["leave_one_out"]
    assert float(found.path[0]) == pytest.approx(total, abs=1e-9) and float(found.value) > total
    z, posterior = both["evidence"].posterior.leave_one_out(), both["evidence"].posterior
    spread = np.asarray(z.variance)[:, None] + 0.3
    own = np.sum(-0.5 * np.log(2 * np.pi * spread) - (y - np.asarray(z.mean)) ** 2 / (2 * spread))
    assert own < float(found.value) + 1e-9 and float(posterior.noise) == 0.3
    assert "noise" not in found.parameters


def test_networks_arrays_of_parameters_and_precision():
    x, y = problem(24)
    found = Posterior.learn(network(), x, y, START)
    assert found.converged and found.objective == "evidence" and found.posterior.prior == "nngp"
    table = found.to_dataframe()
    assert table.parameter.tolist() == ["b_std", "noise", "w_std"] and not table.at_limit.any()
    assert "evidence" in repr(found) and "converged" in repr(found)
    assert len(jax.tree.leaves(found)) > 10
    # One scale for each feature: the second says nothing, and its scale grows as far as it may.
    start = {"length": np.ones(2), "signal": 1.0, "noise": 0.1}
    with pytest.warns(UserWarning, match="the search for length had to end, 20 times the start"):
        scales = Posterior.learn(rbf, x, y, start, factor=20.0)
    assert scales.at_limit == ("length",) and scales.converged
    np.testing.assert_allclose(scales.parameters["length"][1], 20.0, rtol=1e-9)
    assert float(scales.parameters["length"][0]) < 1
    assert "length[1]" in scales.to_dataframe().parameter.tolist()
    with parallel.enable_x64(False):
        single = Posterior.learn(network(), x.astype(np.float32), y.astype(np.float32), START)
    # The search is in float64, so that it ends in the same place; the posterior is in the dtype of the data.
    assert single.converged and single.posterior.eigenvalues.dtype == np.float32
    np.testing.assert_allclose([*single.parameters.values()], [*found.parameters.values()], rtol=1e-3)


def test_what_has_no_best_value_is_told():
    x, y = problem(16)
    with pytest.warns(
        UserWarning, match="the evidence still grows where the search for noise and signal had to end, 2 times"
    ):
        found = Posterior.learn(rbf, x, y, {"length": 1.0, "signal": 1.0, "noise": 1e4}, factor=2.0)
    assert found.at_limit == ("noise", "signal")
    assert float(found.parameters["noise"]) == pytest.approx(5e3)
    with pytest.warns(UserWarning, match="is not at its largest value after 1 steps: see `gradient`"):
        found = Posterior.learn(rbf, x, y, {"length": 1.0, "signal": 1.0, "noise": 0.5}, max_steps=1)
    assert not found.converged and found.n_steps == 1


X, Y = problem(6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"build": 3}, TypeError, "`build` must be a function of the parameters"),
        ({"build": lambda p: 3}, TypeError, "`build` must return a network .* `net` must be"),
        ({"init": {"w_std": 1.0, "noise": 0.1}}, ValueError, "`init` must name every parameter .* none named 'b_std'"),
        ({"init": [1.0]}, TypeError, "`init` must be a dictionary of parameters"),
        ({"init": {}}, TypeError, "`init` must be a dictionary of parameters by name, not empty"),
        ({"init": START | {"w_std": 0.0}}, ValueError, "`init: w_std` must be positive"),
        ({"init": START | {"w_std": "a"}}, TypeError, "`init: w_std` must be a real number"),
        ({"init": START | {"noise": [0.1, 0.2]}}, ValueError, "`init: noise` must be one number"),
        ({"init": {"w_std": 1.0, "b_std": 1.0}}, ValueError, "`noise` must be given either here.*got neither"),
        ({"noise": 0.1}, ValueError, "`noise` must be given either here.*got both"),
        ({"objective": "likelihood"}, ValueError, "`objective` must be one of 'evidence', 'leave_one_out'"),
        ({"prior": "gp"}, ValueError, "`prior` must be one of"),
        ({"factor": 1.0}, ValueError, "`factor` must lie in"),
        ({"max_steps": 0}, ValueError, "`max_steps` must be at least 1"),
        ({"y": Y[:-1]}, ValueError, "`y` must have one row per input"),
        ({"x": X * np.nan}, ValueError, "`x` must be finite"),
        ({"x": np.zeros((6, 2)), "init": START | {"noise": 1e-30}}, ValueError, "`init` must give a finite objective"),
    ],
)
def test_refusals(change, error, message):
    arguments = {"build": network(), "x": X, "y": Y, "init": START} | change
    with pytest.raises(error, match=message):
        Posterior.learn(**arguments)
