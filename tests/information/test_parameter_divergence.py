"""The divergence of the parameters: against dense matrix functions, limits, other divergences and trained networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import kernels, stax
from ntkinfo.information import _parameter_divergence
from tests.problems import network, problem
from tests.references.parameters import parameter_divergence as reference

TIMES = np.array([0.0, 1e-6, 0.1, 3.0, 40.0, 1e3])


@pytest.fixture(scope="module")
def ensembles():
    """Of one and of three outputs."""
    made = {}
    for k in (1, 3):
        x, y, *_ = problem(np.random.default_rng(1), n=6, d=3, k=k)
        net = network(outputs=k)
        made[k] = net, ni.Ensemble.fit(net, x, y)
    return made


@pytest.mark.parametrize("k", [1, 3])
def test_follows_the_theory(ensembles, k):
    """Matrix exponentials, and the integral of the theory by quadrature."""
    net, ens = ensembles[k]
    nngp, ntk = (np.asarray(part) for part in kernels.kernels(net, ens.x))
    hessian = np.asarray(kernels.hessian(net, ens.x))
    kl = ni.information.parameter_divergence(ens, TIMES[1:])
    want = np.array([reference(nngp, ntk, hessian, np.asarray(ens.y), t) for t in TIMES[1:]])
    # The reference itself cancels at the smallest time.
    np.testing.assert_allclose(kl.linear[1:], want[1:, 0], rtol=1e-9)
    np.testing.assert_allclose(kl.curvature[1:], want[1:, 1], rtol=1e-7)
    np.testing.assert_allclose(kl.curvature[0], want[0, 1], rtol=1e-4)
    np.testing.assert_allclose(kl.total, kl.linear + kl.curvature, rtol=1e-15)
    assert np.all(kl.curvature > 0.01 * kl.linear * (TIMES[1:] < 100))


@pytest.mark.parametrize("k", [1, 3])
def test_limits(ensembles, k):
    """Nothing at t = 0, s² times traces for small times, k s tr Θ for late ones; the linear part never decreases."""
    net, ens = ensembles[k]
    nngp, ntk = (np.asarray(part) for part in kernels.kernels(net, ens.x))
    hessian = np.asarray(kernels.hessian(net, ens.x))
    weight = k * nngp + np.asarray(ens.y @ ens.y.T)
    zero = ni.information.parameter_divergence(ens, 0.0)
    assert zero.linear == zero.curvature == zero.total == 0 and zero.total.shape == ()
    for s in (1e-150, 1e-30, 1e-9):
        kl = ni.information.parameter_divergence(ens, s * ens.n * k)
        np.testing.assert_allclose(kl.linear, s**2 / 2 * (k * np.trace(ntk @ ntk) + np.trace(weight @ ntk)), rtol=1e-6)
        np.testing.assert_allclose(kl.curvature, s**2 / 2 * np.trace(weight @ hessian), rtol=1e-6)
    s = 1e12
    late = ni.information.parameter_divergence(ens, s * ens.n * k)
    inverse = np.linalg.inv(ntk)
    np.testing.assert_allclose(late.linear, k * (s * np.trace(ntk) - ens.n) + np.trace(weight @ inverse) / 2)
    np.testing.assert_allclose(late.curvature, np.trace(weight @ inverse @ hessian @ inverse) / 2, rtol=1e-9)
    path = ni.information.parameter_divergence(ens, np.linspace(0, 60, 50))
    assert np.all(np.diff(path.linear) > 0)


def test_curvature_and_total_can_decrease():
    """Against matrix exponentials at both ends of the fall; the linear part rises all the while."""
    net = stax.serial(stax.Dense(1, 1.5, 0.5), stax.Erf(), stax.Dense(1, 1.5, 0.5))
    ens = ni.Ensemble.fit(net, np.array([[1.0], [2.0], [-0.5]]), np.array([-60.2, -76.2, 23.9]))
    t = np.concatenate([[0.0], np.geomspace(1e-2, 1e6, 400)])
    path = ni.information.parameter_divergence(ens, t)
    assert np.all(np.diff(path.linear) > 0)
    fall = np.maximum.accumulate(path.total) - path.total
    last = int(np.argmax(fall))
    first = int(np.argmax(np.where(np.arange(len(t)) <= last, path.total, -np.inf)))
    assert fall[last] > 5.8
    assert path.curvature[first] - path.curvature[last] > fall[last]  # the linear part rose
    nngp, ntk = (np.asarray(part) for part in kernels.kernels(net, ens.x))
    hessian = np.asarray(kernels.hessian(net, ens.x))
    peak, trough = (sum(reference(nngp, ntk, hessian, np.asarray(ens.y), t[i])) for i in (first, last))
    assert peak - trough == pytest.approx(float(fall[last]), rel=1e-4)


def test_the_excess_is_exact_to_rounding():
    """z²/2 - z³/6 + ... against exact rational arithmetic."""
    from fractions import Fraction
    from math import factorial

    z = np.array([1e-200, 1e-12, 1e-4, 0.1, 0.4999999, 0.5, 0.7, 3.0])
    want = [float(sum((-Fraction(v)) ** j / factorial(j) for j in range(2, 60))) for v in z]
    np.testing.assert_allclose(_parameter_divergence.excess(jnp.asarray(z)), want, rtol=1e-15 * 4, atol=0)
    assert _parameter_divergence.excess(jnp.asarray(1e6)) == 1e6 - 1
    slope = jax.jit(jax.vmap(jax.grad(_parameter_divergence.excess)))(jnp.asarray(z))
    np.testing.assert_allclose(slope, -np.expm1(-z), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_outputs_tell_at_most_what_parameters_tell(ensembles, k):
    """Data processing: the joint divergence of the outputs on any batch is below the total, not the linear part."""
    _, ens = ensembles[k]
    t = np.array([0.01, 0.3, 3.0])
    kl = ni.information.parameter_divergence(ens, t)
    test = np.random.default_rng(5).normal(size=(5, 3))
    for inputs in (test, np.asarray(ens.x)):
        outputs = ni.information.output_divergence(ens, inputs, t, joint=True)
        assert np.all(outputs < kl.total)
    # On the training inputs the inequality is nearly met, which the linear part alone would break.
    assert np.all(outputs > 0.8 * kl.total) and np.all(outputs > kl.linear)


def test_of_one_linear_layer_it_is_the_gaussian_divergence():
    """f = θ·x/√d is linear: θ_t is Gaussian, its divergence in closed form over the parameters themselves."""
    rng = np.random.default_rng(2)
    x, y, s = rng.normal(size=(3, 5)), rng.normal(size=(3, 1)), 0.7
    ens = ni.Ensemble.fit(stax.Dense(1), x, y)
    design = x / np.sqrt(5)
    rates, u = np.linalg.eigh(design.T @ design)
    decay = (u * np.exp(-s * rates)) @ u.T
    mean = np.linalg.pinv(design) @ (np.eye(3) - design @ decay @ np.linalg.pinv(design)) @ y
    covariance = decay @ decay
    want = 0.5 * (np.trace(covariance) + float(np.sum(mean**2)) - 5 - np.linalg.slogdet(covariance)[1])
    kl = ni.information.parameter_divergence(ens, s * 3)
    np.testing.assert_allclose(kl.total, want, rtol=1e-12)
    assert kl.curvature == 0


def test_repeated_inputs_projected_have_finite_divergence():
    """A null mode is never learned and carries no divergence, also at huge times."""
    x, y, *_ = problem(np.random.default_rng(1), n=5, d=3)
    twice = ni.Ensemble.fit(network(), np.vstack([x, x[:1]]), np.vstack([y, y[:1]]), singular="project")
    assert np.sum(np.asarray(twice.eigenvalues) == 0) == 1
    nngp, ntk = kernels.kernels(network(), twice.x)
    hessian = kernels.hessian(network(), twice.x)
    # Reference without the null direction: an orthonormal basis of its complement.
    basis = np.linalg.svd(np.asarray(ntk))[0][:, :5]
    project = lambda m: basis.T @ np.asarray(m) @ basis  # noqa: E731
    t = 12.0
    want = reference(project(nngp), project(ntk), project(hessian), basis.T @ np.asarray(twice.y), t * 5 / 6)
    kl = ni.information.parameter_divergence(twice, t)
    np.testing.assert_allclose([kl.linear, kl.curvature], want, rtol=1e-7)
    assert np.isfinite(ni.information.parameter_divergence(twice, 1e9)).all()


def measured(net, x, y, s, key, draws, steps):
    """KL of trained finite networks: ½(‖θ_s‖² - ‖θ_0‖²) + ∫ tr ∇²L, midpoint steps, one Hutchinson probe each."""
    init, apply, _ = net
    h = s / steps

    def one(key):
        start, unravel = jax.flatten_util.ravel_pytree(init(key, x.shape)[1])
        f = lambda theta: apply(unravel(theta), x)  # noqa: E731
        gradient = jax.grad(lambda theta: 0.5 * jnp.sum((f(theta) - y) ** 2))

        def step(theta, i):
            middle = theta - h / 2 * gradient(theta)
            z = jax.random.rademacher(jax.random.fold_in(key, i), theta.shape, theta.dtype)
            slope, along = jax.jvp(gradient, (middle,), (z,))
            return theta - h * slope, h * (z @ along)

        end, traces = jax.lax.scan(step, start, jnp.arange(steps))
        return 0.5 * (end @ end - start @ start) + jnp.sum(traces)

    values = np.asarray(jax.lax.map(one, jax.random.split(key, draws), batch_size=50))
    return values.mean(), values.std(ddof=1) / np.sqrt(draws)


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_trained_networks_have_it_and_not_the_linear_part_alone(k):
    """Within 3 standard errors of the total; the linear part is more than 5 away."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 2)), np.sign(rng.normal(size=(4, k)))
    net = stax.serial(stax.Dense(128, W_std=1.5), stax.Erf(), stax.Dense(k, W_std=1.5))
    ens = ni.Ensemble.fit(net, x, y)
    s = 0.8
    kl = ni.information.parameter_divergence(ens, s * y.size)
    mean, error = measured(net, x, y, s, jax.random.key(7), 1500, 40)
    assert abs(mean - kl.total) < 3 * error
    assert mean - kl.linear > 5 * error


@pytest.mark.slow
def test_two_hidden_gelu_layers_trained():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), np.sign(rng.normal(size=(4, 1)))
    layers = [stax.Dense(256, W_std=1.5, b_std=0.5), stax.Gelu()] * 2
    net = stax.serial(*layers, stax.Dense(1, W_std=1.5, b_std=0.5))
    ens = ni.Ensemble.fit(net, x, y)
    kl = ni.information.parameter_divergence(ens, 1.0 * 4)
    mean, error = measured(net, x, y, 1.0, jax.random.key(8), 1000, 60)
    assert abs(mean - kl.total) < 3 * error
    assert mean - kl.linear > 3 * error


def test_transformations_agree(ensembles):
    _, ens = ensembles[3]
    eager = ni.information.parameter_divergence(ens, TIMES)
    assert all(part.shape == TIMES.shape for part in eager)
    jitted = jax.jit(lambda e, t: ni.information.parameter_divergence(e, t))(ens, TIMES)
    loop = [ni.information.parameter_divergence(ens, t) for t in TIMES]
    vmapped = jax.jit(jax.vmap(lambda t: ni.information.parameter_divergence(ens, t)))(TIMES)
    for i, part in enumerate(eager):
        np.testing.assert_allclose(jitted[i], part, rtol=1e-10)
        np.testing.assert_allclose(vmapped[i], part, rtol=1e-10)
        np.testing.assert_allclose([one[i] for one in loop], part, rtol=1e-10)
    slope = jax.vmap(jax.grad(lambda t: ni.information.parameter_divergence(ens, t).total))
    slope = jax.jit(slope)(jnp.asarray(TIMES))
    assert np.isfinite(slope).all() and np.all(np.asarray(slope)[1:] > 0)
    # Infinite times cannot be refused under tracing; the linear part then says what is true.
    late = jax.jit(lambda t: ni.information.parameter_divergence(ens, t))(jnp.inf)
    assert np.isinf(late.linear) and np.isinf(late.total) and np.isfinite(late.curvature)


def test_a_hessian_of_ones_own_and_none(ensembles):
    net, ens = ensembles[1]
    full = ni.information.parameter_divergence(ens, TIMES)
    given = ni.information.parameter_divergence(ens, TIMES, hessian=kernels.hessian(net, ens.x))
    np.testing.assert_allclose(given.total, full.total, rtol=1e-13)
    linear = ni.information.parameter_divergence(ens, TIMES, curvature=False)
    assert linear.curvature is None and linear.total is None
    np.testing.assert_array_equal(linear.linear, full.linear)


def test_bad_input(ensembles):
    _, ens = ensembles[1]
    kl = ni.information.parameter_divergence
    with pytest.raises(ValueError, match=r"`t` must be finite; got inf.*grows like t tr Θ / n"):
        kl(ens, [1.0, np.inf])
    with pytest.raises(ValueError, match=r"`t` must be times from 0 to infinity; got -1\.0"):
        kl(ens, -1.0)
    with pytest.raises(ValueError, match=r"`t` must be times from 0 to infinity; got nan"):
        kl(ens, np.nan)
    with pytest.raises(ValueError, match=r"`hessian` must have shape \(6, 6\).*; got \(5, 5\)"):
        kl(ens, 1.0, hessian=np.eye(5))
    with pytest.raises(ValueError, match="`hessian` must be positive semidefinite; got eigenvalues from -1 to 1"):
        kl(ens, 1.0, hessian=np.diag([1.0, 1, 1, 1, 1, -1]))
    with pytest.raises(ValueError, match="`hessian` must be None with `curvature=False`"):
        kl(ens, 1.0, curvature=False, hessian=np.eye(6))
    relu = ni.Ensemble.fit(network(activation=stax.Relu()), ens.x, ens.y)
    with pytest.raises(ValueError, match="must have smooth activations for the Hessian kernel; got Relu"):
        kl(relu, 1.0)
    assert kl(relu, 1.0, curvature=False).linear > 0
    bare = ni.Ensemble.fit(lambda a, b, get: network()[2](a, b, get), ens.x, ens.y)
    with pytest.raises(ValueError, match="not built by ntkinfo"):
        kl(bare, 1.0)
    assert kl(bare, 1.0, curvature=False).linear > 0
