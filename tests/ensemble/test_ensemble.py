import dataclasses
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import stax
from ntkinfo._numerics import spectral_filters, spectrum
from ntkinfo.ensemble import _ensemble
from tests.problems import network, problem
from tests.references import ensemble as reference

TIMES = np.array([0.0, 1e-3, 1.0, 30.0, 1e3, 1e5, np.inf])


def dense_kernels(net, x, x_test):
    both = ni.kernels.kernels(net, np.concatenate([x, x_test]))
    nngp, ntk = np.asarray(both.nngp), np.asarray(both.ntk)
    n = len(x)
    return nngp[:n, :n], ntk[:n, :n], nngp[n:, :n], ntk[n:, :n], nngp[n:, n:]


@pytest.mark.parametrize("k", [1, 3])
def test_predict_is_the_reference(rng, k):
    x, y, x_test, _ = problem(rng, k=k)
    net = network(outputs=k)
    z = ni.Ensemble.fit(net, x, y).predict(x_test, TIMES, joint=True)
    parts = dense_kernels(net, x, x_test)
    for i, t in enumerate(TIMES):
        mean, covariance = reference.predict(*parts, y, t)
        np.testing.assert_allclose(z.mean[i], mean, atol=1e-9)
        np.testing.assert_allclose(z.covariance[i], covariance, atol=1e-9)
        np.testing.assert_allclose(z.variance[i], np.diag(covariance), atol=1e-9)


def test_a_wrong_time_convention_would_be_seen(rng):
    x, y, x_test, _ = problem(rng, k=3)
    net = network(outputs=3)
    z = ni.Ensemble.fit(net, x, y).predict(x_test, 30.0)
    wrong, _ = reference.predict(*dense_kernels(net, x, x_test), y, 30.0 * y.shape[1])
    assert np.max(np.abs(z.mean - wrong)) > 1e-3


def test_predict_is_the_predictor_of_neural_tangents(rng):
    import neural_tangents

    x, y, x_test, _ = problem(rng, n=20, m=9, k=2)
    net = network(outputs=2)
    theirs = neural_tangents.predict.gradient_descent_mse_ensemble(net[2], x, y, diag_reg=0.0)
    ens = ni.Ensemble.fit(net, x, y)
    for t in (0.0, 0.5, 20.0, 1e3, 1e6, None):
        expected = theirs(t=t, x_test=x_test, get="ntk", compute_cov=True)
        scale = np.abs(expected.covariance).max()
        for joint in (False, True):
            z = ens.predict(x_test, jnp.inf if t is None else t, joint=joint)
            np.testing.assert_allclose(z.mean, expected.mean, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(z.variance, np.diag(expected.covariance), rtol=1e-8, atol=1e-8 * scale)
        np.testing.assert_allclose(z.covariance, expected.covariance, rtol=1e-8, atol=1e-8 * scale)


def test_predict_train_is_the_reference(rng):
    x, y, x_test, _ = problem(rng, k=2)
    net = network(outputs=2)
    nngp, ntk, *_ = dense_kernels(net, x, x_test)
    z = ni.Ensemble.fit(net, x, y).predict_train(TIMES, joint=True)
    marginal = ni.Ensemble.fit(net, x, y).predict_train(TIMES)
    for i, t in enumerate(TIMES):
        mean, covariance = reference.predict_train(nngp, ntk, y, t)
        np.testing.assert_allclose(z.mean[i], mean, atol=1e-10)
        np.testing.assert_allclose(z.covariance[i], covariance, atol=1e-10)
        np.testing.assert_allclose(marginal.variance[i], np.diag(covariance), atol=1e-10)


def test_prior_at_time_zero_and_labels_met_at_infinity(rng):
    x, y, x_test, _ = problem(rng)
    net = network()
    ens = ni.Ensemble.fit(net, x, y)
    prior = ens.predict(x_test, 0.0)
    np.testing.assert_array_equal(prior.mean, 0.0)
    np.testing.assert_allclose(prior.variance, ni.kernels.diagonal(net, x_test), rtol=1e-12)
    met = ens.predict(x, jnp.inf)
    np.testing.assert_allclose(met.mean, y, atol=1e-8)
    np.testing.assert_allclose(met.variance, 0.0, atol=1e-8)


@pytest.mark.parametrize("decades", [4, 9, 14])
def test_many_times_in_few_functions_are_the_times_one_by_one(rng, decades):
    x, y, x_test, _ = problem(rng, n=60, m=11, d=3)
    ens = ni.Ensemble.fit(network(depth=3), x, y)
    t = np.concatenate([[0.0], np.logspace(-2, decades - 2, 300), [np.inf]])
    assert ens.time_basis(jnp.asarray(t)).shape[1] < 100
    many = ens.predict(x_test, t).variance
    one_by_one = jnp.concatenate([ens.predict(x_test, part).variance for part in np.array_split(t, 12)])
    # 1e-8 of the predictor's scale, the prior variance, is promised.
    np.testing.assert_allclose(many, one_by_one, atol=1e-9 * float(one_by_one.max()), rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_functions_of_blocks_of_eigenvalues_are_the_times_one_by_one(rng, monkeypatch, dtype):
    monkeypatch.setattr(_ensemble, "_MAX_FILLED", 16)
    x, y, x_test, _ = (part.astype(dtype) for part in problem(rng, n=60, m=11, d=20))
    ens = ni.Ensemble.fit(network(depth=3), x, y)
    t = np.concatenate([[0.0], np.logspace(-2, 7, 94), [np.inf]]).astype(dtype)
    s, eigenvalues = np.asarray(ens.rescaled_time(t)), np.asarray(ens.eigenvalues)
    whole = np.asarray(ens.time_basis(jnp.asarray(t)))
    parts = spectral_filters.parted(whole, eigenvalues, s)
    assert len(parts.parts) == 8 and max(part.shape[1] for part in parts.parts) < whole.shape[1]
    # What blocks keep spans the functions of time at their eigenvalues.
    functions = np.asarray(spectral_filters.growth(eigenvalues, s))
    within = 1e-9 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(parts.spanned(functions), functions, atol=within)
    many = ens.predict(x_test, t).variance
    assert many.dtype == dtype
    one_by_one = jnp.concatenate([ens.predict(x_test, part).variance for part in np.split(t, 4)])
    scale = float(one_by_one.max())
    np.testing.assert_allclose(many, one_by_one, atol=within * scale, rtol=10 * within)
    # Covariances: to rounding.
    fine = spectral_filters.parted(np.asarray(ens.time_basis(t, joint_with=11)), eigenvalues, s, fine=True)
    assert sum(part.shape[1] for part in fine.parts) < 8 * fine.whole.shape[1]
    many = ens.predict(x_test, t, joint=True).covariance
    one_by_one = jnp.concatenate([ens.predict(x_test, part, joint=True).covariance for part in np.split(t, 4)])
    np.testing.assert_allclose(many, one_by_one, rtol=0, atol=(1e-13 if dtype is np.float64 else 1e-5) * scale)


def test_products_of_a_rotation_are_symmetric(rng):
    a = rng.normal(size=(21, 21))
    k, u = a @ a.T, np.linalg.qr(rng.normal(size=(21, 21)))[0]
    found = np.asarray(spectral_filters.symmetric_product(u, k @ u))
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, u.T @ k @ u, atol=1e-12)


def test_scalar_and_vector_times_and_one_output_as_a_vector(rng):
    x, y, x_test, _ = problem(rng)
    ens = ni.Ensemble.fit(network(), x, y)
    one, many = ens.predict(x_test, 5), ens.predict(x_test, [5.0])
    assert one.mean.shape == (7, 1) and one.variance.shape == (7,) and many.mean.shape == (1, 7, 1)
    np.testing.assert_array_equal(one.variance, many.variance[0])
    flat = ni.Ensemble.fit(network(), x, y[:, 0]).predict(x_test, 5.0)
    np.testing.assert_array_equal(flat.mean, one.mean)


def test_one_training_point(rng):
    x, y, x_test, _ = problem(rng, n=1, m=3)
    z = ni.Ensemble.fit(network(), x, y).predict(x_test, TIMES, joint=True)
    parts = dense_kernels(network(), x, x_test)
    mean, covariance = reference.predict(*parts, y, TIMES[3])
    np.testing.assert_allclose(z.mean[3], mean, atol=1e-12)
    np.testing.assert_allclose(z.covariance[3], covariance, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Linear scaling attention")
@pytest.mark.parametrize("architecture", ["convolution", "residual", "attention"])
def test_other_architectures(rng, architecture):
    conv = [stax.Conv(8, (3, 3), padding="SAME"), stax.Erf()]
    if architecture == "convolution":
        net = stax.serial(*conv, stax.Flatten(), stax.Dense(1))
    elif architecture == "residual":
        branch = stax.serial(stax.Erf(), stax.Conv(8, (3, 3), padding="SAME"))
        block = [stax.FanOut(2), stax.parallel(branch, stax.Identity()), stax.FanInSum()]
        net = stax.serial(conv[0], *block, stax.GlobalAvgPool(), stax.Dense(1))
    else:
        net = stax.serial(
            stax.Conv(8, (3, 3), padding="SAME"), stax.GlobalSelfAttention(8, 8, 8, 2), stax.Flatten(), stax.Dense(1)
        )
    x, x_test = rng.normal(size=(6, 4, 4, 2)), rng.normal(size=(3, 4, 4, 2))
    y = rng.normal(size=(6, 1))
    z = ni.Ensemble.fit(net, x, y).predict(x_test, 50.0, joint=True)
    mean, covariance = reference.predict(*dense_kernels(net, x, x_test), y, 50.0)
    np.testing.assert_allclose(z.mean, mean, atol=1e-9)
    np.testing.assert_allclose(z.covariance, covariance, atol=1e-9)


def test_any_kernel_function(rng):
    x, y, x_test, _ = problem(rng)

    def gaussian_kernel(x1, x2, get):
        x2 = x1 if x2 is None else x2
        squared = jnp.sum((x1[:, None, :] - x2[None, :, :]) ** 2, axis=-1)
        return jnp.exp(-0.5 * squared), 2 * jnp.exp(-0.25 * squared)

    z = ni.Ensemble.fit(gaussian_kernel, x, y).predict(x_test, 10.0, joint=True)
    mean, covariance = reference.predict(*dense_kernels(gaussian_kernel, x, x_test), y, 10.0)
    np.testing.assert_allclose(z.mean, mean, atol=1e-10)
    np.testing.assert_allclose(z.covariance, covariance, atol=1e-10)


def test_low_rank_kernels_are_refused_or_projected(rng):
    x, y, x_test, _ = problem(rng, n=12, d=4)
    linear = stax.Dense(1, W_std=1.0, b_std=None)
    with pytest.raises(
        ValueError, match=r"singular to rounding: 8 of 12 eigenvalues .* low rank, 4 .*singular=\"project\""
    ):
        ni.Ensemble.fit(linear, x, y)
    z = ni.Ensemble.fit(linear, x, y, singular="project").predict(x_test, jnp.inf)
    # Flow from zero on a linear model ends in the least-squares solution of least norm.
    np.testing.assert_allclose(z.mean, x_test @ np.linalg.pinv(x) @ y, atol=1e-9)


@pytest.mark.parametrize("n", [40, 200])
def test_all_null_modes_of_a_matrix_of_low_rank_are_seen(n):
    for seed in range(4):
        factor = np.random.default_rng(seed).normal(size=(n, 3))
        eigenvalues = np.linalg.eigvalsh(factor @ factor.T)
        assert np.count_nonzero(spectrum.check_spectrum(eigenvalues, factor, n, "project")) == 3


def test_repeated_inputs_are_named_or_projected(rng):
    x, y, x_test, _ = problem(rng)
    doubled, labels = np.concatenate([x, x[3:4]]), np.concatenate([y, -y[3:4]])
    with pytest.raises(ValueError, match="rows 3 and 12 of `x` are equal"):
        ni.Ensemble.fit(network(), doubled, labels)
    z = ni.Ensemble.fit(network(), doubled, labels, singular="project").predict(x_test, jnp.inf)
    averaged = y.copy()
    averaged[3] = 0.0
    expected = ni.Ensemble.fit(network(), x, averaged).predict(x_test, jnp.inf)
    np.testing.assert_allclose(z.mean, expected.mean, atol=1e-7)
    np.testing.assert_allclose(z.variance, expected.variance, atol=1e-7)


def test_indefinite_kernel_is_refused(rng):
    x, y, *_ = problem(rng)

    def indefinite(x1, x2, get):
        x2 = x1 if x2 is None else x2
        return x1 @ x2.T, -(x1 @ x2.T)

    with pytest.raises(ValueError, match="must be positive semidefinite and not zero; got eigenvalues from"):
        ni.Ensemble.fit(indefinite, x, y)


def test_float32_works_and_warns_when_it_cannot_resolve(rng):
    x, y, x_test, _ = problem(rng, d=3)
    net = network(depth=2, w_std=2.0, b_std=1.0)
    in32 = [a.astype(np.float32) for a in (x, y, x_test)]
    z = ni.Ensemble.fit(net, in32[0], in32[1]).predict(in32[2], TIMES[:4])
    expected = ni.Ensemble.fit(net, x, y).predict(x_test, TIMES[:4])
    assert z.mean.dtype == z.variance.dtype == jnp.float32
    np.testing.assert_allclose(z.mean, expected.mean, atol=2e-3)
    np.testing.assert_allclose(z.variance, expected.variance, atol=2e-3)
    close = in32[0].copy()
    close[1] = close[0] + 0.02
    with pytest.warns(UserWarning, match=r"float32 resolves the slowest modes .*jax_enable_x64"):
        ni.Ensemble.fit(net, close, in32[1])


def test_jit_vmap_and_grad_of_predict(rng):
    x, y, x_test, _ = problem(rng)
    ens = ni.Ensemble.fit(network(), x, y)
    compiled = []

    @jax.jit
    def variance(ens, x_test, t):
        compiled.append(None)
        return ens.predict(x_test, t).variance

    eager = ens.predict(x_test, TIMES).variance
    np.testing.assert_allclose(variance(ens, x_test, jnp.asarray(TIMES)), eager, atol=1e-13)
    other = dataclasses.replace(ens, y_rotated=ens.y_rotated + 1.0)
    variance(other, x_test, jnp.asarray(TIMES))
    assert len(compiled) == 1
    mapped = jax.jit(jax.vmap(lambda t: ens.predict(x_test, t).variance))(jnp.asarray(TIMES))
    np.testing.assert_allclose(mapped, eager, atol=1e-13)

    def total(t, x_test):
        z = ens.predict(x_test, t)
        return jnp.sum(z.variance) + jnp.sum(z.mean**2)

    by_t, by_x = jax.jit(jax.grad(total, argnums=(0, 1)))(3.0, jnp.asarray(x_test))
    step = 1e-5
    np.testing.assert_allclose(by_t, (total(3.0 + step, x_test) - total(3.0 - step, x_test)) / (2 * step), rtol=1e-6)
    bump = np.zeros_like(x_test)
    bump[2, 1] = step
    np.testing.assert_allclose(
        by_x[2, 1], (total(3.0, x_test + bump) - total(3.0, x_test - bump)) / (2 * step), rtol=1e-5
    )
    grads = jax.jit(jax.grad(lambda ens: jnp.sum(ens.predict(x_test, 3.0).variance)))(ens)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(grads))


def test_fit_inside_jit(rng):
    x, y, x_test, _ = problem(rng)
    net = network()
    inside = jax.jit(lambda x, y: ni.Ensemble.fit(net, x, y).predict(x_test, 4.0))(x, y)
    np.testing.assert_allclose(inside.variance, ni.Ensemble.fit(net, x, y).predict(x_test, 4.0).variance, atol=1e-12)


def test_eight_devices_give_the_same(tmp_path):
    script = textwrap.dedent(
        """
        import jax, jax.numpy as jnp, numpy as np
        jax.config.update("jax_enable_x64", True)
        from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
        import ntkinfo as ni
        from ntkinfo import stax
        assert len(jax.devices()) == 8
        rng = np.random.default_rng(0)
        x, y, x_test = rng.normal(size=(40, 5)), rng.normal(size=(40, 1)), rng.normal(size=(16, 5))
        net = stax.serial(stax.Dense(8), stax.Erf(), stax.Dense(1))
        t = jnp.logspace(0, 3, 5)
        one = ni.Ensemble.fit(net, x, y).predict(x_test, t)
        dealt = ni.Ensemble.fit(net, x, y, batch_size=8, devices=jax.devices())
        np.testing.assert_allclose(dealt.predict(x_test, t).variance, one.variance, atol=1e-12)
        mesh = Mesh(np.array(jax.devices()), ("i",))
        sharded = jax.device_put(x_test, NamedSharding(mesh, P("i")))
        replicated = jax.device_put(ni.Ensemble.fit(net, x, y), NamedSharding(mesh, P()))
        z = jax.jit(lambda e, a: e.predict(a, t))(replicated, sharded)
        np.testing.assert_allclose(z.variance, one.variance, atol=1e-12)

        # What comes of arrays on another device, or on several, stays there.
        whole = ni.gaussian.entropy(one)
        for place in (jax.devices()[1], NamedSharding(mesh, P(None, "i"))):
            moved = jax.tree.map(lambda a: jax.device_put(a, place), ni.gaussian.Gaussian(one.mean, one.variance))
            entropy = ni.gaussian.entropy(moved)
            np.testing.assert_allclose(entropy, whole, rtol=1e-12)
            assert entropy.devices() == moved.variance.devices(), (place, entropy.devices())
        apart = [jax.device_put(a, jax.devices()[1]) for a in (x, y, x_test)]
        z = ni.Ensemble.fit(net, *apart[:2]).predict(apart[2], t)
        assert z.variance.devices() == {jax.devices()[1]}
        np.testing.assert_allclose(z.variance, one.variance, atol=1e-12)
        with jax.default_device(jax.devices()[1]):
            assert ni.Ensemble.fit(net, x, y).predict(x_test, t).mean.devices() == {jax.devices()[1]}
        """
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]


X, Y = np.linspace(0.1, 1.0, 12).reshape(6, 2), np.linspace(-1.0, 1.0, 6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": "relu"}, TypeError, "`net` must be a network"),
        ({"x": X[:, 0]}, ValueError, r"`x` must have an axis of samples .* got shape \(6,\)"),
        ({"x": X[:0]}, ValueError, "`x` must not be empty"),
        ({"x": np.where(X > 0.9, np.nan, X)}, ValueError, "`x` must be finite; got nan at index"),
        ({"x": X.astype(int)}, TypeError, "`x` must hold floating-point numbers; got dtype int64"),
        ({"y": Y[:5]}, ValueError, "`y` must have one row per input; got 5 rows for 6 inputs"),
        ({"y": np.where(Y > 0.9, np.inf, Y)}, ValueError, r"`y` must be finite; got inf at index \(5,\)"),
        ({"y": Y.astype(int)}, TypeError, "`y` must hold floating-point targets"),
        ({"y": Y.reshape(6, 1, 1)}, ValueError, "`y` must have rank 1 or 2; got rank 3"),
        ({"singular": "ignore"}, ValueError, "`singular` must be one of 'error', 'project'; got 'ignore'"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1; got 0"),
    ],
)
def test_bad_input_of_fit(change, error, message):
    arguments = {"net": network(), "x": X, "y": Y} | change
    with pytest.raises(error, match=message):
        ni.Ensemble.fit(**arguments)


@pytest.mark.parametrize(
    ("x_test", "t", "error", "message"),
    [
        (X[:, :1], 1.0, ValueError, r"`x_test` must hold inputs of the shape trained on, \(m, 2,\); got \(6, 1\)"),
        (X, -1.0, ValueError, "`t` must be times from 0 to infinity; got -1"),
        (X, [0.0, np.nan], ValueError, "`t` must be times from 0 to infinity; got nan"),
        (X, [], ValueError, "`t` must not be empty"),
        (X, [[1.0]], ValueError, "`t` must be a scalar or a vector"),
        (X, "late", TypeError, "`t` must be a number or a vector of numbers"),
    ],
)
def test_bad_input_of_predict(x_test, t, error, message):
    ens = ni.Ensemble.fit(network(), X, Y)
    with pytest.raises(error, match=message):
        ens.predict(x_test, t)


def test_constant_labels_are_learned_as_any_others(rng):
    x, _, x_test, _ = problem(rng)
    ens = ni.Ensemble.fit(network(), x, np.ones(len(x)))
    np.testing.assert_allclose(ens.predict_train(jnp.inf).mean, 1.0)
    assert np.isfinite(np.asarray(ens.predict(x_test, jnp.inf).mean)).all()


def test_sums_over_the_spectrum_are_traces(rng):
    from scipy.linalg import expm

    x, y, x_test, _ = problem(rng, k=2)
    net = network(outputs=2)
    ens = ni.Ensemble.fit(net, x, y)
    nngp, ntk, *_ = dense_kernels(net, x, x_test)
    s = jnp.array([0.0, 0.3, 2.0])
    filters = ens.filters(s)
    weights = {"trace": np.eye(12), "nngp": nngp, "labels": y @ y.T, "second_moment": 2 * nngp + y @ y.T}
    for weight, matrix in weights.items():
        sums = ens.spectral_sum(lambda filters: filters.decay, weight, filters)
        np.testing.assert_allclose(sums, [np.trace(matrix @ expm(-float(time) * ntk)) for time in s], rtol=1e-9)
    np.testing.assert_allclose(filters.growth_twice, 1 - filters.decay**2, atol=1e-12)
    np.testing.assert_array_equal(ens.k_tilde, ens.nngp_rotated)
    np.testing.assert_array_equal(ens.y_tilde, ens.y_rotated)


def test_null_modes_neither_grow_nor_decay():
    from ntkinfo._numerics import spectral_filters

    filters = spectral_filters.filters(jnp.array([0.0, 2.0]), jnp.array([0.0, 1.0, jnp.inf]))
    np.testing.assert_array_equal(filters.growth[:, 0], 0.0)
    np.testing.assert_array_equal(filters.decay[:, 0], 1.0)
    np.testing.assert_allclose(filters.growth[:, 1], [0.0, 1 - np.exp(-2), 1.0])
    np.testing.assert_array_equal(filters.pseudo_inverse, [0.0, 0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "come with `prior`.*and no prior"),
        ({"prior": jnp.ones(3)}, r"`prior`, \(m,\) or \(m, m\); got \(4, 6\), \(4, 6\) and \(3,\)"),
        ({"prior": jnp.ones(4), "joint": True}, r"`prior` must be the matrix .* \(4, 4\); got \(4,\)"),
        ({"prior": -jnp.ones(4)}, "`prior` must be not negative"),
        ({"prior": -jnp.eye(4), "joint": True}, "`prior` must be not negative"),
    ],
)
def test_bad_kernels_evaluated_already(options, message):
    ens = ni.Ensemble.fit(network(), X, Y)
    with pytest.raises(ValueError, match=message):
        ens.cross_kernels(ni.kernels.kernels(network(), X[:4] + 0.05, X), **options)
    with pytest.raises(ValueError, match="`prior` must be left out where `x_test` are inputs"):
        ens.cross_kernels(X[:4] + 0.05, prior=jnp.ones(4))
