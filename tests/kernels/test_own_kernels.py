"""Own kernel functions, kernels already evaluated, and networks that are none: refused at the boundary, by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import stax

X, Y = np.random.default_rng(0).normal(size=(8, 3)), np.random.default_rng(1).normal(size=8)
KEY = jax.random.key(0)


def network(activation=stax.Erf, b_std=0.05):
    return stax.serial(stax.Dense(1, 1.5, b_std), activation(), stax.Dense(1, 1.5, b_std))


def linear(x1, x2, get):
    kernel = x1 @ (x1 if x2 is None else x2).T + jnp.eye(len(x1), len(x1 if x2 is None else x2))
    return kernel, kernel


def changed(change):
    """`linear` with its second kernel changed."""
    return lambda x1, x2, get: (linear(x1, x2, get)[0], change(linear(x1, x2, get)[1]))


HEADS = stax.serial(stax.Dense(1), stax.FanOut(2), stax.parallel(stax.Dense(1), stax.Dense(1)))


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (lambda x1, x2: None, TypeError, "`net` must be a network .* does not take three arguments"),
        (lambda x1, x2, get: linear(x1, x2, get)[0], TypeError, "`net` must return two kernels"),
        (lambda x1, x2, get: {"a": 1}, TypeError, "`net` must return two kernels .* returned dict"),
        (lambda x1, x2, get: (jnp.ones((3, 3)),) * 2, ValueError, r"got \(3, 3\) as the first"),
        (changed(jnp.diagonal), ValueError, r"kernels of shape \(8, 8\).*got \(8,\) as the second"),
        (changed(lambda k: k * jnp.nan), ValueError, "NTK kernel of `net` has NaN"),
        (HEADS, ValueError, "`net` must have one output; got 2 branches.*FanInConcat"),
        (stax.serial(stax.Conv(4, (3, 3))), ValueError, r"`net` has a kernel function that cannot be evaluated"),
    ],
)  # fmt: skip
def test_own_kernel_functions_are_refused_by_name(net, error, message):
    for fit in (ni.Ensemble.fit, ni.Posterior.fit):
        with pytest.raises(error, match=message):
            fit(net, X, Y)


def test_asymmetric_kernels_are_refused_and_rounding_is_not():
    with pytest.raises(ValueError, match="`net: NTK kernel` must be symmetric"):
        ni.Ensemble.fit(changed(jnp.triu), X, Y)
    rounded = changed(lambda kernel: kernel + 1e-12 * jnp.triu(kernel))
    assert ni.Ensemble.fit(rounded, X, Y).n == 8


def test_a_graph_and_images_without_an_end_say_what_is_missing():
    x = np.random.default_rng(2).normal(size=(4, 5, 3))
    graph = stax.serial(stax.Aggregate(aggregate_axis=1), stax.GlobalAvgPool(), stax.Dense(1))
    with pytest.raises(ValueError, match=r"`net` .*`Aggregate` needs a graph"):
        ni.Ensemble.fit(graph, x, Y[:4])
    with pytest.raises(ValueError, match=r"`net` must return kernels of shape \(4, 4\).*`Flatten`"):
        ni.Ensemble.fit(stax.serial(stax.Conv(2, (2,)), stax.Relu()), x, Y[:4])


def test_finite_networks_with_dropout_or_masks_say_what_to_do():
    train = functools.partial(ni.finite.train, t=[1.0], n_networks=2, key=KEY, learning_rate=0.1, progress=False)
    with pytest.raises(ValueError, match=r'`net` .*`Dropout` draws at random.*mode="test"'):
        train(stax.serial(stax.Dense(2), stax.Dropout(0.5), stax.Dense(1)), X, Y)
    init, apply, kernel = stax.serial(stax.Dense(2), stax.GlobalAvgPool(), stax.Dense(1))
    masked = init, functools.partial(apply, mask_constant=100.0), functools.partial(kernel, mask_constant=100.0)
    with pytest.raises(ValueError, match=r"`net` .*masked array.*`stax.unmask_fn`"):
        train(masked, np.random.default_rng(3).normal(size=(4, 5, 3)), Y[:4])


@pytest.mark.parametrize(
    ("library", "adapter"),
    [("flax.linen.module", "from_flax"), ("flax.nnx.module", "from_nnx"), ("equinox._module", "from_equinox")],
)
def test_modules_of_other_libraries_are_named_with_their_adapter(library, adapter):
    base = type("Module", (), {"__module__": library, "__call__": lambda self, x, y, z: x})
    module = type("Mine", (base,), {})()
    classes = (X[:, 0] > 0).astype(int)
    for call, name in (
        (lambda: ni.Ensemble.fit(module, X, Y), "net"),
        (lambda: ni.kernels.kernels(module, X), "net"),
        (lambda: ni.finite.train(module, X, Y, [1.0], n_networks=2, key=KEY), "net"),
        (lambda: ni.variational.fit(X, classes, beta=2.0, key=KEY, encoder=module), "encoder"),
    ):
        with pytest.raises(TypeError, match=f"`{name}` must be .*module, Mine.*{adapter}"):
            call()


def test_kernels_given_are_checked_and_a_vector_of_labels_is_taken():
    both, kernel_fn = ni.kernels.kernels(network(), X), network()[2]
    from_kernels = functools.partial(ni.Ensemble.from_kernels, kernel_fn)
    from_kernel = functools.partial(ni.Posterior.from_kernel, kernel_fn)
    given = from_kernels(X, Y, both)
    np.testing.assert_array_equal(
        given.predict(X + 1, 5.0).mean, ni.Ensemble.fit(network(), X, Y).predict(X + 1, 5.0).mean
    )
    posterior = from_kernel(X, Y, both.ntk, prior="ntk")
    assert float(posterior.kl) == float(ni.Posterior.fit(network(), X, Y, prior="ntk").kl)
    for call, error, message in (
        (lambda: from_kernels(X[:5], Y[:5], both), ValueError, r"`both: nngp` must have shape \(5, 5\)"),
        (lambda: from_kernels(X, Y, both.ntk), TypeError, "`both` must be of type `Kernels`"),
        (lambda: from_kernels(X, Y, both, singular="eror"), ValueError, "`singular` must be one of"),
        (lambda: from_kernel(X[:5], Y[:5], both.nngp), ValueError, r"`q` must have shape \(5, 5\)"),
        (lambda: from_kernel(X, Y, both.ntk, prior="NTK"), ValueError, "`prior` must be one of"),
        (lambda: from_kernel(X, Y, np.triu(both.nngp)), ValueError, "`q` must be symmetric"),
        (lambda: from_kernel(X, Y, both.nngp, noise=-1.0), ValueError, "`noise` must be positive"),
        (lambda: from_kernel(X, Y[:5], both.nngp), ValueError, "`y` must have one row per input"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (
            network(),
            np.linspace(-1, 1, 40)[:, None],
            "gradually below rounding.*40 inputs of 1 dimension are too alike",
        ),
        (network(stax.Identity), np.random.default_rng(0).normal(size=(12, 3)), "low rank, 4 .*linear in its d inputs"),
        (network(stax.Relu, 0.0), np.concatenate([X, 2 * X[:1]]), "rows 0 and 8 of `x` are parallel.*biases"),
        (network(stax.Relu), np.concatenate([X, X[:1]]), "rows 0 and 8 of `x` are equal"),
    ],
)
def test_a_singular_kernel_names_its_cause(net, x, message):
    with pytest.raises(ValueError, match=message):
        ni.Ensemble.fit(net, x, np.arange(float(len(x))))


def test_labels_that_are_no_numbers_are_told_what_to_do():
    with pytest.raises(TypeError, match=r"`y` must be numbers; got text.*np.unique\(y, return_inverse=True\)"):
        ni.Ensemble.fit(network(), X, np.array(list("abcdabcd")))
    with pytest.raises(TypeError, match=r"`y` must hold floating-point targets; got int64.*ni.datasets.one_hot\(y\)"):
        ni.Posterior.fit(network(), X, np.arange(8))


def test_an_offset_of_the_labels_taken_for_noise_is_warned_of():
    with pytest.warns(UserWarning, match='noise="fit" takes the offset of the labels for noise'):
        ni.Posterior.fit(network(), X, 1000 + Y, noise="fit")
    # No warning (an error here) of the same labels centred and noisy.
    ni.Posterior.fit(network(), X, X[:, 0] + 0.1 * (Y - Y.mean()), noise="fit")
