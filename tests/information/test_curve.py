import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import information
from tests.compilations import counted
from tests.problems import network, problem

TIMES = jnp.array([0.0, 0.5, 20.0, 1e3, jnp.inf])


def setting(k=1, regression=False):
    rng = np.random.default_rng(5)
    x, y, x_test, y_test = problem(rng, n=14, m=9, k=k)
    if regression:
        y, y_test = rng.normal(size=(14, k)), rng.normal(size=(9, k))
    return ni.Ensemble.fit(network(outputs=k), x, y), x_test, y_test


# With the joint divergence there is everything that there is without: the other kinds of labels without are slow.
ONE_BY_ONE = [(1, False, False), *((k, real, True) for k, real in ((1, False), (3, False), (1, True), (2, True)))]
ONE_BY_ONE += [pytest.param(*one, False, marks=pytest.mark.slow) for one in ((3, False), (1, True), (2, True))]


@pytest.mark.parametrize(("k", "regression", "joint"), ONE_BY_ONE)
def test_curve_is_its_quantities_one_by_one(k, regression, joint):
    ens, x_test, y_test = setting(k, regression)
    key = jax.random.key(0)
    curve = information.curve(ens, x_test, y_test, TIMES, key=key, joint=joint, noise=0.7)
    z = ens.predict(x_test, TIMES)
    about_x = information.input_information(z, key=key, n_samples=16)
    about_y = information.label_information(z, y_test, key=key, n_samples=16, noise=0.7)
    np.testing.assert_allclose(curve.input_information.value, about_x.value, atol=1e-8)
    np.testing.assert_allclose(curve.label_information.value, about_y.value, atol=1e-8)
    assert (curve.input_information.method, curve.label_information.method) == (about_x.method, about_y.method)
    pointwise = information.output_divergence(ens, x_test, TIMES)
    np.testing.assert_allclose(curve.output_divergence, pointwise, rtol=1e-8, atol=1e-10)
    if joint:
        together = information.output_divergence(ens, x_test, TIMES, joint=True)
        np.testing.assert_allclose(curve.output_divergence_joint, together, rtol=1e-8, atol=1e-10)
    else:
        assert curve.output_divergence_joint is None
    losses = information.losses(z, y_test, noise=0.7)
    for name, value in losses._asdict().items():
        if value is None:
            assert getattr(curve.losses, name) is None
        else:
            np.testing.assert_allclose(getattr(curve.losses, name), value, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(curve.parameter_distance, information.parameter_distance(ens, TIMES), rtol=1e-12)
    np.testing.assert_allclose(curve.fisher_action, information.action(ens, TIMES, metric="fisher"), rtol=1e-12)
    train = ens.predict_train(TIMES)
    gibbs = jnp.mean(jnp.sum((train.mean - ens.y[None]) ** 2, axis=2) + ens.k * train.variance, axis=1)
    np.testing.assert_allclose(curve.train_gibbs_mse, gibbs, rtol=1e-9, atol=1e-12)
    assert float(curve.log_m) == pytest.approx(np.log(9))


@pytest.mark.parametrize("k", [1, 3])
def test_neighbouring_sizes_share_programs(k):
    def run(n, m, times, **options):
        x, y, x_test, y_test = problem(np.random.default_rng(n + m), n=n, m=m, k=k)
        ens = ni.Ensemble.fit(network(outputs=k), x, y)
        with counted() as count:
            t = np.geomspace(0.1, 1e3, times)
            curve = information.curve(ens, x_test, y_test, t, key=jax.random.key(0), **options)
            z = ens.predict(x_test, t, joint=True)
        return count.number, ens, x_test, y_test, t, curve, z

    run(14, 9, 5)
    assert run(14, 9, 5)[0] == 0
    # Noise and label entropy are arguments, no constants.
    assert run(14, 9, 5, noise=0.3)[0] == 0
    for sizes in ((14, 10, 5), (14, 9, 6), (13, 9, 5)):
        # Only what turns kernels into the eigenbasis, and draws, are compiled for exact sizes.
        number, ens, x_test, y_test, t, curve, z = run(*sizes)
        assert number <= 1
    # What fills up says nothing: the values are those of arrays without.
    whole = jax.jit(lambda ens, t: information.curve(ens, x_test, y_test, t, key=jax.random.key(0)))(ens, t)
    for name, column in curve.columns().items():
        np.testing.assert_allclose(column, whole.columns()[name], rtol=1e-7, atol=1e-9, err_msg=name)
    exact = jax.jit(lambda ens, t: ens.predict(x_test, t, joint=True))(ens, t)
    for one, other in zip(z, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_dataframe_has_every_quantity_and_its_units():
    ens, x_test, y_test = setting()
    frame = information.curve(ens, x_test, y_test, TIMES).to_dataframe()
    assert len(frame) == len(TIMES) and frame.attrs["units"] == "nats" and frame.attrs["input_information"] == "exact"
    assert set(information.MEANING) <= set(frame.columns)
    assert not frame.isna().any().any()
    sampled = information.curve(ens, x_test, y_test, TIMES, method="minibatch", key=jax.random.key(0)).to_dataframe()
    assert {"input_information_lower", "input_information_upper", "input_information_stderr"} <= set(sampled.columns)


def test_kernels_evaluated_already_are_as_good_as_inputs():
    ens, x_test, y_test = setting()
    for joint in (False, True):
        curve = information.curve(ens, x_test, y_test, TIMES, joint=joint).columns()
        given = ni.kernels.kernels(ens.kernel_fn, x_test, ens.x)
        prior = ni.kernels.kernels(ens.kernel_fn, x_test).nngp
        for cross in (
            ens.cross_kernels(given, prior=prior, joint=joint),
            ens.cross_kernels(given, prior=prior, joint=True),
        ):
            again = information.curve(ens, cross, y_test, TIMES, joint=joint).columns()
            assert set(again) == set(curve)
            for name, column in curve.items():
                np.testing.assert_allclose(again[name], column, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"a prior matrix \(m, m\) for the joint divergence; got .*\(9,\)"):
        information.curve(ens, ens.cross_kernels(x_test), y_test, TIMES)


def test_every_quantity_is_one_row_of_the_table():
    """Columns, meanings, figures, report and documentation agree with it, row by row."""
    import matplotlib.pyplot as plt

    from ntkinfo import plot
    from ntkinfo._cli import generalization, main, report
    from ntkinfo._common import quantities

    ens, x_test, y_test = setting()
    t = TIMES[1:4]
    curve = information.curve(ens, x_test, y_test, t)
    assert list(curve.columns()) == ["t", *curve.quantities] and curve.quantities == information.QUANTITIES
    assert (Path(ni.__file__).parents[1] / "docs" / "quantities.md").read_text().endswith(quantities.markdown())
    docstrings = f"{information.Curve.__doc__}{information.Losses.__doc__}"
    certificate = information.Certificate(np.asarray(t), np.ones(3), *[None] * 6, delta=0.1, reason="none")
    nothing = generalization.Generalization(np.asarray(t), None, None, None, 0, ())
    written = report.Report(curve, SimpleNamespace(name="a", task="parity"), main.Options(), 1.0, certificate, nothing)
    page, table = written.page("nats", []), written.table()
    for name, quantity in information.QUANTITIES.items():
        assert quantity.name == name and information.MEANING[name] == quantity.description
        assert re.search(rf"^\s+{name}: ", docstrings, re.MULTILINE)
        assert f"| {name} | {quantity.description} |" in page.replace(r"\|", "|")
        assert quantity.heading in table.splitlines()[0]
        ax = plot.finite(curve, {name: (t, np.ones(3), np.ones(3))}, unit="bits")
        assert f"{quantity.symbol}, finite networks" in [text.get_text() for text in ax.get_legend().get_texts()]
        assert ("[bits]" in ax.get_ylabel()) == (quantity.unit == "nats")
        plt.close("all")


def test_curve_crosses_transformations():
    ens, x_test, y_test = setting()
    curve = information.curve(ens, x_test, y_test, TIMES)
    halved = jax.jit(lambda c: jax.tree.map(lambda a: a / 2, c))(curve)
    np.testing.assert_allclose(halved.input_information.value, curve.input_information.value / 2)


def test_training_inputs_at_late_times_are_refused():
    ens, *_ = setting()
    with pytest.raises(ValueError, match=r"variance must be positive; got 0 .* rows 0, 1, 2 of `x_test`.* trained on"):
        information.curve(ens, ens.x[:3] * 1.0, ens.y[:3], jnp.array([1.0, jnp.inf]))


def test_repeated_test_inputs_lose_the_joint_divergence_with_a_warning():
    ens, x_test, y_test = setting()
    doubled = np.concatenate([x_test, x_test[:1]]), np.concatenate([y_test, y_test[:1]])
    with pytest.warns(UserWarning, match="joint divergence is not finite and is left out"):
        curve = information.curve(ens, *doubled, TIMES)
    assert curve.output_divergence_joint is None and "output_divergence_joint" not in curve.columns()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": np.ones((9, 2))}, "`y_test` must have the 1 outputs trained on"),
        ({"y_test": np.ones(8)}, "`y_test` must have one row per input; got 8 rows for 9 inputs"),
        ({"t": [-1.0]}, "`t` must be times from 0 to infinity"),
        ({"noise": 0.0}, "`noise` must be positive"),
        ({"method": "monte_carlo"}, "`key` must be given"),
        ({"method": "best"}, "`method` must be one of"),
        ({"x_test": np.ones((9, 3))}, "inputs of the shape trained on"),
    ],
)
def test_bad_input(change, message):
    ens, x_test, y_test = setting()
    arguments = {"x_test": x_test, "y_test": y_test, "t": TIMES} | change
    with pytest.raises(ValueError, match=message):
        information.curve(ens, **arguments)
