import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import ntkinfo as ni
from ntkinfo import information
from ntkinfo._common import labels
from ntkinfo._numerics import normal_rule
from ntkinfo.gaussian import Gaussian
from tests.problems import network, problem
from tests.references import ensemble as reference

TIMES = jnp.array([0.0, 0.5, 20.0, 1e3, jnp.inf])


@pytest.fixture(scope="module", params=[1, 3])
def trained(request):
    x, y, x_test, y_test = problem(np.random.default_rng(1), k=request.param)
    net = network(outputs=request.param)
    ens = ni.Ensemble.fit(net, x, y)
    return net, ens, x, y, x_test, y_test


def dense(net, x):
    both = ni.kernels.kernels(net, x)
    return np.asarray(both.nngp), np.asarray(both.ntk)


def test_geometry_is_the_reference(trained):
    net, ens, x, y, *_ = trained
    nngp, ntk = dense(net, x)
    np.testing.assert_allclose(information.fisher_trace(ens), y.shape[1] * np.trace(ntk), rtol=1e-12)
    for t in (0.0, 0.5, 20.0, 1e3, np.inf):
        expected = reference.parameter_distance(nngp, ntk, y, t)
        np.testing.assert_allclose(information.parameter_distance(ens, t), expected, rtol=1e-8, atol=1e-9)
    for t in (0.0, 0.5, 20.0):
        for metric in ("euclidean", "fisher"):
            expected = reference.action(nngp, ntk, y, t, metric)
            np.testing.assert_allclose(information.action(ens, t, metric=metric), expected, rtol=1e-8, atol=1e-12)


def test_geometry_grows_and_the_straight_line_is_shortest(trained):
    ens = trained[1]
    t = jnp.logspace(-2, 5, 60)
    distance, action = information.parameter_distance(ens, t), information.action(ens, t)
    assert bool(jnp.all(jnp.diff(distance) > -1e-12)) and bool(jnp.all(jnp.diff(action) > -1e-12))
    # Cauchy-Schwarz: |theta_t - theta_0|^2 <= s * action.
    assert bool(jnp.all(distance <= ens.rescaled_time(t) * action * (1 + 1e-12)))


@pytest.mark.parametrize("joint", [False, True])
def test_output_divergence_is_the_reference(trained, joint):
    net, ens, _, _, x_test, _ = trained
    z = ens.predict(x_test, TIMES, joint=True)
    prior = dense(net, x_test)[0]
    value = information.output_divergence(ens, x_test, TIMES, joint=joint)
    for i in range(len(TIMES)):
        mean, covariance = np.asarray(z.mean[i]), np.asarray(z.covariance[i])
        if joint:
            expected = reference.kl(mean, covariance, prior)
        else:
            points = [slice(j, j + 1) for j in range(len(x_test))]
            expected = np.mean([reference.kl(mean[j], covariance[j, j], prior[j, j]) for j in points])
        np.testing.assert_allclose(value[i], expected, rtol=1e-7, atol=1e-9)
    assert value[0] == pytest.approx(0.0, abs=1e-12)


def test_joint_divergence_is_at_least_any_single_one(trained):
    _, ens, _, _, x_test, _ = trained
    joint = information.output_divergence(ens, x_test, TIMES, joint=True)
    for j in range(len(x_test)):
        single = information.output_divergence(ens, x_test[j : j + 1], TIMES)
        assert bool(jnp.all(joint >= single - 1e-10))


def test_output_divergence_refuses_training_inputs_at_infinity(trained):
    _, ens, x, *_ = trained
    with pytest.raises(ValueError, match=r"not finite at t = (1000|inf) .* trained on"):
        information.output_divergence(ens, x[:3], TIMES, joint=True)


def test_losses_are_those_of_sampled_outputs(trained):
    _, ens, _, y, x_test, y_test = trained
    z = ens.predict(x_test, 20.0)
    noise, n = 0.5, 400_000
    draws = np.random.default_rng(2).normal(size=(n, *z.mean.shape))
    f = np.asarray(z.mean) + np.sqrt(np.asarray(z.variance))[:, None] * draws
    squared = np.sum((f - y_test) ** 2, axis=2)
    log_likelihood = norm.logpdf(y_test, f, np.sqrt(noise)).sum(axis=2)
    if y.shape[1] == 1:
        wrong = (np.sign(f) != y_test)[..., 0]
    else:
        wrong = np.argmax(f, axis=2) != np.argmax(y_test, axis=1)
    result = information.losses(z, y_test, noise=noise)

    def agrees(samples, exact):
        per_draw = samples.mean(axis=1)
        assert abs(per_draw.mean() - float(exact)) < 5 * per_draw.std() / np.sqrt(n)

    agrees(squared, result.gibbs_mse)
    agrees(-log_likelihood, result.gibbs_nll)
    agrees(wrong, result.gibbs_error)
    likelihood = np.exp(log_likelihood)
    error = np.sqrt(np.mean((likelihood.std(axis=0) / likelihood.mean(axis=0)) ** 2) / n)
    assert abs(-np.log(likelihood.mean(axis=0)).mean() - float(result.ensemble_nll)) < 5 * error
    np.testing.assert_allclose(result.mean_mse, np.mean(np.sum((np.asarray(z.mean) - y_test) ** 2, axis=1)))
    assert float(result.jensen_gap) > 0


def test_error_of_the_mean_shares_ties():
    z = Gaussian(jnp.array([[0.0], [1.0], [-1.0]]), jnp.ones(3))
    assert float(information.losses(z, np.array([1.0, 1.0, 1.0])).mean_error) == pytest.approx(0.5)
    z = Gaussian(jnp.array([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]), jnp.ones(2))
    assert float(information.losses(z, np.eye(3)[[0, 0]]).mean_error) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_losses_of_regression_have_no_errors(trained):
    _, ens, _, _, x_test, y_test = trained
    result = information.losses(ens.predict(x_test, TIMES), y_test + 0.1 * np.arange(len(y_test))[:, None])
    assert result.gibbs_error is None and result.mean_error is None and result.gibbs_nll is None
    assert result.jensen_gap is None and result.gibbs_mse.shape == TIMES.shape


def test_input_information_methods_agree(trained):
    _, ens, _, y, x_test, _ = trained
    z, key = ens.predict(x_test, TIMES), jax.random.key(0)
    sampled = information.input_information(z, method="monte_carlo", key=key, n_samples=4000)
    pairwise = information.input_information(z, method="pairwise")
    assert bool(jnp.all(pairwise.lower <= sampled.value + 5 * sampled.stderr))
    assert bool(jnp.all(pairwise.upper >= sampled.value - 5 * sampled.stderr))
    if y.shape[1] == 1:
        exact = information.input_information(z)
        assert exact.method == "exact"
        assert bool(jnp.all(jnp.abs(exact.value - sampled.value) < 5 * sampled.stderr + 1e-12))
        assert bool(jnp.all((exact.value >= -1e-12) & (exact.value <= np.log(len(x_test)))))


def test_label_information_of_classes(trained):
    _, ens, _, y, x_test, y_test = trained
    z, key = ens.predict(x_test, TIMES), jax.random.key(0)
    about_x = information.input_information(z, key=key, n_samples=2000)
    about_y = information.label_information(z, y_test, key=key, n_samples=2000)
    numbers = (y_test[:, 0] > 0).astype(int) if y.shape[1] == 1 else np.argmax(y_test, axis=1)
    by_number = information.label_information(z, numbers, key=key, n_samples=2000)
    np.testing.assert_allclose(by_number.value, about_y.value, atol=1e-12)
    slack = 5 * (about_x.stderr + about_y.stderr) + 1e-10
    share = np.bincount(numbers) / len(numbers)
    entropy = -np.sum(share[share > 0] * np.log(share[share > 0]))
    assert bool(jnp.all(about_y.value <= about_x.value + slack)) and bool(jnp.all(about_y.value <= entropy + slack))
    decoded = information.label_information(z, y_test, method="decoder", key=key, n_samples=2000)
    assert bool(jnp.all(decoded.value <= about_y.value + slack + 5 * decoded.stderr))


def test_normal_rule_has_the_moments_of_a_normal_variable():
    nodes, weights = normal_rule.trapezoid(step=0.1, reach=12.0)
    assert len(nodes) == 241 and nodes[0] == -nodes[-1] == pytest.approx(-12)
    for power, moment in ((0, 1), (1, 0), (2, 1), (4, 3), (6, 15)):
        assert weights @ nodes**power == pytest.approx(moment, rel=1e-14, abs=1e-14)
    assert weights @ np.cos(nodes) == pytest.approx(np.exp(-0.5), rel=1e-14)


def test_decoder_of_signs_is_the_integral():
    mean, variance = np.array([0.7, -0.2]), np.array([0.3, 2.0])
    y, noise = np.array([1.0, -1.0]), 0.8
    z = Gaussian(jnp.asarray(mean)[:, None], jnp.asarray(variance))

    def integrand(f, m, v, s):
        return norm.pdf(f, m, v**0.5) * np.logaddexp(0, -2 * s * f / noise)

    loss = [quad(integrand, -15, 15, args, epsabs=1e-13)[0] for args in zip(mean, variance, y, strict=True)]
    bound = information.label_information(z, y, method="decoder", noise=noise)
    assert float(bound.value) == pytest.approx(np.log(2) - np.mean(loss), abs=1e-11)
    assert bound.method == "decoder" and float(bound.upper) == pytest.approx(np.log(2))


def test_decoder_of_classes_with_two_outputs_is_that_of_signs():
    # Difference of two outputs of variance v is one output of variance 2 v; softmax of two is the logistic function.
    rng = np.random.default_rng(3)
    mean, variance = rng.normal(size=(6, 2)), rng.uniform(0.2, 1.0, 6)
    classes = np.array([0, 1, 1, 0, 1, 0])
    bound = information.label_information(
        Gaussian(mean, variance), np.eye(2)[classes], method="decoder", key=jax.random.key(0), n_samples=4000
    )
    margin = (mean[np.arange(6), classes] - mean[np.arange(6), 1 - classes])[:, None] / 2
    signs = information.label_information(
        Gaussian(margin, variance / 2), np.ones(6), method="decoder", label_entropy=np.log(2)
    )
    assert abs(float(bound.value - signs.value)) < 5 * float(bound.stderr)
    assert 0 < float(bound.stderr) < 0.02


def test_standard_error_of_the_decoder_of_classes_is_honest():
    rng = np.random.default_rng(4)
    z, targets = Gaussian(rng.normal(size=(6, 3)), rng.uniform(0.2, 1.0, 6)), np.eye(3)[[0, 1, 2, 2, 1, 0]]
    one = lambda key: information.label_information(z, targets, method="decoder", key=key, n_samples=8)  # noqa: E731
    bounds = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), 1000))
    np.testing.assert_allclose(np.sqrt(np.mean(np.asarray(bounds.stderr) ** 2)), np.std(bounds.value), rtol=0.12)


def test_label_information_of_real_labels():
    rng = np.random.default_rng(4)
    mean, variance = rng.normal(size=(50, 1)), np.full(50, 0.2)
    y = mean + 0.3 * rng.normal(size=(50, 1))
    z = Gaussian(jnp.asarray(mean), jnp.asarray(variance))
    gibbs = float(information.losses(z, y, task="regression").gibbs_mse)
    h = 0.5 * np.log(2 * np.pi * np.e * np.var(y, ddof=1))
    unit = information.label_information(z, y)
    assert float(unit.value) == pytest.approx(h - 0.5 * np.log(2 * np.pi) - 0.5 * gibbs)
    fitted = information.label_information(z, y, noise="fit")
    assert float(fitted.value) == pytest.approx(h - 0.5 * np.log(2 * np.pi * np.e * gibbs))
    assert float(fitted.value) > float(unit.value)
    known = information.label_information(z, y, label_entropy=h + 1.0)
    assert float(known.value) == pytest.approx(float(unit.value) + 1.0)
    # An entropy assumed to be that of Gaussian labels is of another joint distribution than log m.
    assert unit.upper == fitted.upper == np.inf and float(known.upper) == pytest.approx(np.log(50))
    with pytest.raises(ValueError, match="`m` must be given"):
        information.is_saturated(unit)


def test_a_lower_bound_above_log_m_is_told():
    z, y = Gaussian(jnp.array([[0.0], [1.0], [2.0]]), jnp.full(3, 1e-12)), np.array([0.0, 1.0, 2.0])
    with pytest.warns(UserWarning, match=r"13\.8.* nats, is above log m = 1\.099.*taken for that of Gaussian labels"):
        found = information.label_information(z, y, noise="fit")
    assert float(found.lower) == pytest.approx(13.8, abs=0.1) and found.upper == np.inf
    with pytest.warns(UserWarning, match="the `label_entropy` given is not that of these labels"):
        found = information.label_information(z, y, noise="fit", label_entropy=1.0)
    assert float(found.upper) == pytest.approx(np.log(3)) and float(found.lower) > 11


def test_a_noise_far_from_the_error_is_told():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(50, 1))
    y = mean + 0.3 * rng.normal(size=(50, 1))
    for scale in (167.0, 1e-3):  # raw prices, or small numbers: at noise 1 both say nothing
        z = Gaussian(jnp.asarray(scale * mean), jnp.full(50, (0.3 * scale) ** 2))
        with pytest.warns(UserWarning, match=r'bound on I\(Y;Z\) is -.* which says nothing.*noise="fit"'):
            information.label_information(z, scale * y)
        fitted = information.label_information(z, scale * y, noise="fit")
        unit = information.label_information(Gaussian(z.mean / scale, z.variance / scale**2), y, noise="fit")
        assert float(fitted.value) == pytest.approx(float(unit.value)) and float(unit.value) > 0.5
    # Of several times only where none is of use; never under tracing.
    several = Gaussian(jnp.stack([z.mean, 1e3 * z.mean]), jnp.stack([z.variance, 1e6 * z.variance]))
    information.label_information(several, 1e3 * scale * y)
    jax.jit(lambda z: information.label_information(z, scale * y, task="regression").value)(z)


def test_constant_labels_carry_nothing(trained):
    _, ens, _, _, x_test, _ = trained
    z = ens.predict(x_test, 20.0)
    numbers = np.zeros(len(x_test), int)
    result = information.label_information(z, numbers, key=jax.random.key(0), n_samples=10)
    assert float(result.value) == pytest.approx(0.0, abs=1e-10)


def test_quantities_jit_and_differentiate(trained):
    _, ens, _, _, x_test, y_test = trained
    key = jax.random.key(0)

    def quantities(ens, t):
        z = ens.predict(x_test, t)
        return (
            information.input_information(z, key=key, n_samples=8).value,
            information.label_information(z, y_test, key=key, n_samples=8).value,
            information.losses(z, y_test, noise=1.0).ensemble_nll,
            information.output_divergence(ens, x_test, t),
            information.output_divergence(ens, x_test, t, joint=True),
            information.parameter_distance(ens, t),
            information.action(ens, t),
        )

    # One program for the values and, weighted by what each may be off, all slopes in one.
    step, eager = 1e-3, np.stack(quantities(ens, 20.0))
    numeric = (np.stack(quantities(ens, 20.0 + step)) - np.stack(quantities(ens, 20.0 - step))) / (2 * step)
    weights = np.random.default_rng(4).uniform(1, 2, size=len(eager)) / (1e-7 + 2e-4 * np.abs(numeric))

    @jax.jit
    def values_and_slope(ens, t):
        values, pull = jax.vjp(lambda t: jnp.stack(quantities(ens, t)), t)
        return values, pull(jnp.asarray(weights))[0]

    jitted, slope = values_and_slope(ens, 20.0)
    np.testing.assert_allclose(jitted, eager, rtol=1e-9, atol=1e-11)
    assert abs(slope - weights @ numeric) < len(weights)


def z_of(k=1):
    return Gaussian(jnp.zeros((4, k)), jnp.ones(4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: information.input_information(z_of(2)), ValueError, "`key` must be given"),
        (lambda: information.input_information(z_of(2), method="exact"), ValueError, "is for one output"),
        (lambda: information.input_information(z_of(), method="guess"), ValueError, "`method` must be one of 'exact'"),
        (lambda: information.input_information(Gaussian(jnp.zeros((4, 1)), jnp.zeros(4))), ValueError, "`variance`"),
        (lambda: information.label_information(z_of(), [0, 1]), ValueError, "`labels` must have one entry per input"),
        (lambda: information.label_information(z_of(), [0, 1, -1, 1]), ValueError, "class numbers from 0; got -1"),
        (lambda: information.label_information(z_of(), ["a"] * 4), TypeError, "`labels` must be numbers; got text"),
        (lambda: information.label_information(z_of(), np.arange(4.0), method="exact"), ValueError, '"decoder"'),
        (lambda: information.label_information(z_of(), np.ones(4), task="classes", noise=-1.0, method="decoder"),
         ValueError, "`noise` must be positive and finite; got -1"),
        (lambda: information.label_information(z_of(), np.arange(4.0), task="classes"), ValueError, "name classes"),
        (lambda: information.label_information(z_of(), [0, 1, 1, 0], noise="fit"), ValueError, "a number for classes"),
        (lambda: information.label_information(z_of(), [0, 1, 1, 0], noise="best"), ValueError, "one of 'fit'"),
        (lambda: information.label_information(z_of(), [0, 1, 1, 0], noise=-1.0), ValueError, "must be positive"),
        (lambda: information.label_information(z_of(), np.full(4, 0.5)), ValueError, "`label_entropy` must be given"),
        # Constant up to rounding: the mean of 0.3 is not 0.3.
        (
            lambda: labels.entropy(labels.read("y", np.full((30, 1), 0.3), 30, "regression")),
            ValueError,
            "constant or linearly dependent",
        ),
        (
            lambda: labels.entropy(labels.read("y", np.arange(30.0)[:, None] / 7 @ [[1, 3.1]] + 0.1, 30, "regression")),
            ValueError,
            "constant or linearly dependent",
        ),
        (lambda: information.losses(z_of(), np.ones((4, 2))), ValueError, r"= \(4, 1\) of the predictions"),
        (lambda: information.losses(z_of(), np.ones(4), noise=0.0), ValueError, "`noise` must be positive"),
        (lambda: information.losses(z_of(), np.array([1, 0, 1, 0])), TypeError, "floating-point targets; got integers"),
        (lambda: information.losses(z_of(), np.ones(4), task="sorting"), ValueError, "`task` must be one of 'auto'"),
        (lambda: jax.jit(lambda y: information.losses(z_of(), y))(np.ones(4)), ValueError, "outside `jit`"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_unknown_metric(trained):
    with pytest.raises(ValueError, match="`metric` must be one of 'euclidean', 'fisher'; got 'taxicab'"):
        information.action(trained[1], 1.0, metric="taxicab")


def test_losses_and_the_decoder_take_leading_axes_of_moments(rng):
    """As `ntkinfo.finite.summary` asks: moments of groups of networks at several times, real labels."""
    z = Gaussian(jnp.asarray(rng.normal(size=(3, 4, 6, 2))), jnp.asarray(rng.uniform(0.5, 2.0, size=(3, 4, 6))))
    y = rng.normal(size=(6, 2))
    losses = information.losses(z, y, noise=0.7, task="regression")
    decoded = information.label_information(z, y, method="decoder", noise=0.7, label_entropy=1.3, task="regression")
    assert losses.ensemble_nll.shape == decoded.value.shape == (3, 4) and losses.gibbs_error is None
    alone = Gaussian(z.mean[1, 2], z.variance[1, 2])
    np.testing.assert_allclose(losses.ensemble_nll[1, 2], information.losses(alone, y, noise=0.7).ensemble_nll)
    of_alone = information.label_information(alone, y, method="decoder", noise=0.7, label_entropy=1.3)
    np.testing.assert_allclose(decoded.value[1, 2], of_alone.value)
    expected = np.mean(np.sum((np.asarray(z.mean) - y) ** 2, axis=-1) + 2 * np.asarray(z.variance), axis=-1)
    np.testing.assert_allclose(decoded.value, 1.3 - np.log(2 * np.pi * 0.7) - 0.5 * expected / 0.7, rtol=1e-12)


@pytest.mark.parametrize("value", [None, np.ones(3), "a", (np.ones((2, 1)), np.ones(2), None)])
def test_what_is_no_prediction_or_ensemble_is_named(value):
    for call in (
        lambda: information.input_information(value),
        lambda: information.label_information(value, np.ones(3)),
        lambda: information.losses(value, np.ones(3)),
    ):
        with pytest.raises(TypeError, match="`z` must be of type `Gaussian`, as made by"):
            call()
    for call in (
        lambda: information.curve(value, np.ones((2, 1)), np.ones(2), 1.0),
        lambda: information.fisher_trace(value),
        lambda: information.parameter_distance(value, 1.0),
        lambda: information.action(value, 1.0),
        lambda: information.output_divergence(value, np.ones((2, 1)), 1.0),
        lambda: information.parameter_divergence(value, 1.0),
    ):
        with pytest.raises(TypeError, match="`ens` must be of type `Ensemble`, as made by"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nonsense"}, "`method` must be one of"),
        ({"method": np.array(["exact", "exact"])}, "`method` must be one of"),
        ({"key": 0}, "`key` must be one random key"),
        ({"n_samples": 0}, "`n_samples` must be at least 1"),
        ({"noise": -1.0}, "`noise` must be positive"),
        ({"noise": [1.0]}, "`noise` must be one number"),
        ({"noise": "best"}, "`noise` must be one of 'fit'"),
        ({"label_entropy": np.nan}, "`label_entropy` must lie"),
        ({"task": "nonsense"}, "`task` must be one of"),
    ],
)
def test_options_are_checked_where_they_are_not_used(options, message):
    z = Gaussian(np.array([[0.0], [1.0]]), np.ones(2))
    with pytest.raises((TypeError, ValueError), match=message):
        information.label_information(z, np.array([[1.0], [-1.0]]), **options)
