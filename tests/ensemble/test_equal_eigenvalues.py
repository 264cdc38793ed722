import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import ntkinfo as ni
from ntkinfo import information
from ntkinfo._numerics import eigenspaces
from tests.differences import INPUTS, LOW_RANK, X_TEST, Derivative, Y, flat, scaled

TIMES = jnp.array([0.0, 2.0, 100.0])


def everything(a, x, last, d_w, d_x, d_y, linear=False):
    """All quantities with the scale of the weights, inputs or labels moving at given rates; `last` ends the times."""
    ens = ni.Ensemble.fit(scaled(1.5 + a * d_w, linear=linear), x + a * d_x, Y + a * d_y, singular="project")
    t = jnp.append(TIMES, last)
    joint = ens.predict(X_TEST, t, joint=True)
    divergence = information.parameter_divergence(ens, TIMES)
    values = flat(
        joint.mean,
        joint.covariance,
        ens.predict(X_TEST, t).variance,
        ens.predict_train(t, joint=True),
        ens.predict_train(t).variance,
        information.parameter_distance(ens, t),
        information.action(ens, t),
        information.action(ens, t, metric="fisher"),
        information.fisher_trace(ens),
        divergence.linear,
        divergence.curvature,
    )
    if linear:
        return values
    # A linear network has a singular prior.
    return flat(values, [information.output_divergence(ens, X_TEST, t, joint=joint) for joint in (False, True)])


DERIVATIVE = Derivative(everything)
STILL, LEAVING = np.zeros((8, 8)), np.random.default_rng(3).normal(size=(8, 8))


@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-6, 1e-4])
def test_functions_of_matrices_with_close_eigenvalues_have_their_derivative(gap):
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    matrix = (u * (np.array([0.5, 0.5, 1.0, 1.0, 1.0, 3.0]) + gap * np.arange(6))) @ u.T
    direction, left, right = rng.normal(size=(6, 6)), rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    direction = direction + direction.T

    @jax.jit
    def values(matrix):
        eigenvalues, vectors, coupling = eigenspaces.eigh(0.5 * (matrix + matrix.T), 6.0)
        parts = (lambda rates: jnp.exp(-2.0 * rates), eigenvalues)
        a, b = left @ vectors, vectors.T @ right
        quadratic = eigenspaces.quadratic(*parts, b, coupling)
        return eigenspaces.bilinear(a, *parts, b, coupling), eigenspaces.diagonal(a, *parts, coupling), quadratic

    frechet = scipy.linalg.expm_frechet(-2.0 * matrix, -2.0 * direction, compute_expm=False)
    expected = left @ frechet @ right, np.diag(left @ frechet @ left.T), np.trace(right.T @ frechet @ right)
    forward = jax.jit(lambda *at: jax.jvp(values, at[:1], at[1:])[1])(matrix, direction)
    for derivative, truth in zip(forward, expected, strict=True):
        np.testing.assert_allclose(derivative, truth, rtol=1e-8, atol=1e-9)
    reverse = jax.jit(jax.grad(lambda matrix: values(matrix)[2]))(jnp.asarray(matrix))
    np.testing.assert_allclose(jnp.vdot(reverse, direction), expected[2], rtol=1e-8)


@pytest.mark.parametrize("kind", INPUTS)
def test_derivatives_on_equal_eigenvalues(kind):
    DERIVATIVE.check(0.0, INPUTS[kind], jnp.inf, 1.0, STILL, 0.0)


@pytest.mark.parametrize("kind", INPUTS)
def test_derivatives_by_inputs_that_leave_the_symmetry(kind):
    DERIVATIVE.check(0.0, INPUTS[kind], 300.0, 0.0, LEAVING, 1.0, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_derivatives_on_kernels_of_low_rank():
    derivative = Derivative(functools.partial(everything, linear=True))
    derivative.check(0.0, LOW_RANK, jnp.inf, 1.0, STILL, 0.0)
    derivative.check(0.0, LOW_RANK, 300.0, 0.0, LEAVING, 1.0, rtol=1e-5, atol=1e-6)


def test_derivatives_of_information_losses_and_a_curve():
    y_test = np.array([1.0, -1.0, 1.0])

    def function(w_std):
        ens = ni.Ensemble.fit(scaled(w_std, outputs=1), INPUTS["circle"], Y[:, 0])
        curve = information.curve(ens, X_TEST, y_test, TIMES, noise=0.5, task="regression")
        return flat(
            curve.input_information.value,
            curve.label_information.value,
            curve.losses,
            curve.output_divergence,
            curve.output_divergence_joint,
            curve.parameter_distance,
            curve.train_gibbs_mse,
            curve.train_mean_mse,
        )

    Derivative(function).check(1.5, rtol=1e-5, atol=1e-6)


def test_an_own_sum_over_the_spectrum_has_a_derivative_too():
    def function(w_std, scale=0.3):
        ens = ni.Ensemble.fit(scaled(w_std), INPUTS["cube"], Y)
        filters = ens.filters(TIMES)
        return ens.spectral_sum(lambda f: scale * f.decay**3 * jnp.sqrt(f.rates)[None, :], "second_moment", filters)

    Derivative(function).check(1.5)
    # By what the function closes over as well.
    slope = jax.jit(jax.grad(lambda scale: jnp.sum(function(1.5, scale))))(0.3)
    np.testing.assert_allclose(slope, jnp.sum(function(1.5)) / 0.3, rtol=1e-9)


def test_second_derivatives_are_right_or_refused():
    def value(w_std, kind="distinct"):
        ens = ni.Ensemble.fit(scaled(w_std), INPUTS[kind], Y, singular="project")
        return jnp.sum(ens.predict(X_TEST, 5.0).variance)

    slope, step = jax.jit(jax.grad(value)), 1e-4
    numeric = (slope(1.5 + step) - slope(1.5 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.hessian(value))(1.5), numeric, rtol=1e-6)
    with pytest.raises(ValueError, match="Second derivatives need a kernel whose eigenvalues are distinct"):
        jax.hessian(lambda w_std: value(w_std, "circle"))(1.5)


def test_what_fit_refuses_it_refuses_under_differentiation():
    def value(w_std):
        return ni.Ensemble.fit(scaled(w_std), INPUTS["repeated"], Y).predict(X_TEST, 5.0).mean.sum()

    with pytest.raises(ValueError, match="rows 0 and 1 of `x` are equal"):
        jax.grad(value)(1.5)
    assert np.isnan(jax.jit(value)(1.5))


def test_nothing_is_carried_where_nothing_is_differentiated():
    assert ni.Ensemble.fit(scaled(1.5), INPUTS["distinct"], Y).coupling is None
