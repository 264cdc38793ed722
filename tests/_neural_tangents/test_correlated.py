"""Correlated parameters: K'(1) is the tangent kernel of every architecture, K''(1) that of products of Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import kernels, stax
from ntkinfo._neural_tangents import correlated, load
from tests.references.parameters import convolutional
from tests.references.parameters import correlated as reference

nt = load.load()

ACTIVATIONS = {"erf": stax.Erf, "gelu": stax.Gelu, "sin": stax.Sin}


def dense(w=1.3, b=0.3):
    return stax.Dense(4, W_std=w, b_std=b)


def conv(w=1.3, b=0.3, padding="SAME", **options):
    return stax.Conv(4, (3, 3), W_std=w, b_std=b, padding=padding, **options)


def residual(layer, activation, shortcut):
    branch = stax.serial(activation, layer())
    return stax.serial(stax.FanOut(2), stax.parallel(branch, shortcut), stax.FanInSum())


def flat(*layers):
    return stax.serial(dense(), *layers, dense(0.9, 0.2)), (4, 3)


def image(*layers, head=None):
    return stax.serial(*layers, *(head or [stax.GlobalAvgPool()]), dense()), (2, 3, 3, 2)


ARCHITECTURES = {
    "dense alone": lambda: (dense(), (4, 3)),
    "erf": lambda: flat(stax.Erf()),
    "no bias": lambda: (stax.serial(dense(b=None), stax.Erf(), dense(b=None)), (4, 3)),
    "three layers": lambda: flat(stax.Gelu(), dense(), stax.Sin(), dense(), stax.Erf()),
    "cos": lambda: flat(stax.Cos()),
    "gaussian": lambda: flat(stax.Gaussian()),
    "exp": lambda: (stax.serial(dense(0.4), stax.Exp(), dense()), (4, 3)),
    "rbf": lambda: flat(stax.Rbf()),
    "gabor": lambda: flat(stax.Gabor()),
    "sigmoid": lambda: flat(stax.Sigmoid_like()),
    "cubic": lambda: flat(stax.Monomial(3)),
    "polynomial": lambda: flat(stax.Polynomial([0.1, 1.0, 0.3])),
    "normalised": lambda: flat(stax.LayerNorm(), stax.Erf()),
    "residual, dense": lambda: flat(residual(dense, stax.Erf(), dense()), stax.Gelu()),
    "residual, identity": lambda: flat(residual(dense, stax.Erf(), stax.Identity()), stax.Erf()),
    "repeat": lambda: (stax.serial(dense(), stax.repeat(stax.serial(stax.Erf(), dense()), 3)), (4, 3)),
    "concatenated": lambda: (
        stax.serial(
            stax.FanOut(2),
            stax.parallel(dense(), stax.serial(dense(), stax.Erf(), dense())),
            stax.FanInConcat(),
            dense(),
        ),
        (4, 3),
    ),
    "conv, flatten": lambda: image(conv(), stax.Erf(), conv(), stax.Erf(), head=[stax.Flatten()]),
    "conv, pooling": lambda: image(conv(padding="CIRCULAR"), stax.Gelu(), stax.AvgPool((2, 2)), conv(), stax.Sin()),
    "conv, strides": lambda: image(conv(strides=(2, 2)), stax.Erf(), head=[stax.GlobalSumPool()]),
    "conv, residual": lambda: image(conv(), residual(conv, stax.Erf(), stax.Identity()), stax.Erf()),
    "locally connected": lambda: image(stax.ConvLocal(4, (3, 3), W_std=1.3, b_std=0.2), stax.Erf()),
    "transposed": lambda: image(stax.ConvTranspose(4, (2, 2), W_std=1.3, b_std=0.2), stax.Erf()),
}


def relative(got, want):
    return np.max(np.abs(np.asarray(got) - want)) / np.max(np.abs(want))


# Each is made of parts that others have.
SLOW = ("three layers", "residual, identity", "conv, strides", "conv, residual")
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in ARCHITECTURES]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_derivative_is_the_tangent_kernel(rng, name):
    """The proof of the construction, also for a batch with itself, where variance and cross-covariance coincide."""
    net, shape = ARCHITECTURES[name]()

    def plain(a, b):
        return kernels.evaluate(net[2], a, b), correlated.kernel(net[2], a, b, 1.0)

    def derivatives(a, b):
        return correlated.TangentAndHessian(net[2])(a, b)

    @jax.jit
    def together(a, b):
        return plain(a, b), derivatives(a, b)

    def apart(a, b):
        return plain(a, b), jax.jit(derivatives)(a, b)

    # Operation by operation dense layers share what they compile; the shapes of images are each layer's own.
    both = together if len(shape) > 2 else apart
    x1, x2 = rng.normal(size=shape), rng.normal(size=(3, *shape[1:]))
    for a, b in ((x1, None), (x1, x2)):
        ((nngp, ntk), at_one), (slope, bend) = both(a, b)
        assert relative(at_one, nngp) < 1e-12
        assert relative(slope, ntk) < 1e-10
        assert np.isfinite(bend).all()
    symmetric = np.asarray(kernels.hessian(net, x1))
    assert np.max(np.abs(symmetric - symmetric.T)) <= 1e-12 * np.abs(symmetric).max()
    assert np.linalg.eigvalsh(symmetric)[0] > -1e-10 * np.abs(symmetric).max() - 1e-300


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("stds", [[(1.5, 0.0), (1.2, 0.0)], [(1.1, 0.3), (0.8, 0.1), (1.3, 0.2)]])
def test_dense_kernels_are_those_of_quadrature(rng, activation, stds):
    x = rng.normal(size=(3, 4))
    layers = []
    for w, b in stds:
        layers += [stax.Dense(1, W_std=w, b_std=b), ACTIVATIONS[activation]()]
    net = stax.serial(*layers[:-1])
    nngp, ntk, hessian = reference(x, x, stds, activation)
    assert relative(correlated.kernel(net[2], x, None, 1.0), nngp) < 1e-8
    assert relative(kernels.kernels(net, x).ntk, ntk) < 1e-8
    assert relative(kernels.hessian(net, x), hessian) < 1e-8


def test_convolutions_are_those_of_loops_over_pixels(rng):
    x, stds = rng.normal(size=(2, 4, 2)), [(1.2, 0.3), (0.9, 0.2)]
    net = stax.serial(
        stax.Conv(1, (3,), W_std=1.2, b_std=0.3, padding="CIRCULAR", dimension_numbers=("NHC", "HIO", "NHC")),
        stax.Gelu(),
        stax.GlobalAvgPool(),
        stax.Dense(1, W_std=0.9, b_std=0.2),
    )
    nngp, ntk, hessian = convolutional(x, stds, "gelu")
    assert relative(kernels.kernels(net, x).nngp, nngp) < 1e-8
    assert relative(kernels.kernels(net, x).ntk, ntk) < 1e-8
    assert relative(kernels.hessian(net, x), hessian) < 1e-8


def test_linear_networks_have_no_curvature_but_deep_linear_ones_do(rng):
    """Two linear layers: K(ρ) = ρ²w⁴q, so H = 2w⁴q in closed form."""
    x = rng.normal(size=(4, 3))
    gram = x @ x.T / 3
    assert np.all(np.asarray(kernels.hessian(stax.Dense(1, W_std=1.5), x)) == 0)
    two = stax.serial(stax.Dense(8, W_std=1.5), stax.Dense(1, W_std=1.5))
    np.testing.assert_allclose(kernels.hessian(two, x), 2 * 1.5**4 * gram, rtol=1e-12)


def test_the_hessian_kernel_is_the_mean_of_products_of_hessians(rng):
    """Sampled networks of one hidden layer, exact at any width: within 5 standard errors."""
    x = rng.normal(size=(3, 2))
    init, apply, _ = net = stax.serial(stax.Dense(6, W_std=1.5, b_std=0.4), stax.Erf(), stax.Dense(1, W_std=1.2))

    def products(key):
        params, unravel = jax.flatten_util.ravel_pytree(init(key, x.shape)[1])
        second = jax.hessian(lambda p: apply(unravel(p), x)[:, 0])(params)
        return jnp.einsum("apq,bpq->ab", second, second)

    draws = np.asarray(jax.lax.map(products, jax.random.split(jax.random.key(3), 2000), batch_size=200))
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - kernels.hessian(net, x)) < 5 * error)
    # The check has teeth: the tangent kernel is another one.
    assert np.any(np.abs(draws.mean(axis=0) - kernels.kernels(net, x).ntk) > 5 * error)


@pytest.mark.parametrize("activation", [stax.Gelu, stax.Relu])
def test_correlated_networks_have_the_correlated_kernel(rng, activation):
    """f(x; θ) f(x'; ρθ + √(1 - ρ²) ξ) on average, within 5 standard errors; kinks are no hindrance for K(ρ) itself."""
    x, rho = rng.normal(size=(3, 2)), 0.6
    init, apply, kernel_fn = stax.serial(stax.Dense(6, W_std=1.5, b_std=0.8), activation(), stax.Dense(1, b_std=0.5))

    def product(key):
        one, two = (init(k, x.shape)[1] for k in jax.random.split(key))
        mixed = jax.tree.map(lambda a, b: rho * a + np.sqrt(1 - rho**2) * b, one, two)
        return apply(one, x) * apply(mixed, x)[:, 0][None, :]

    draws = np.asarray(jax.lax.map(product, jax.random.split(jax.random.key(4), 8000), batch_size=1000))
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - correlated.kernel(kernel_fn, x, None, rho)) < 5 * error)
    assert np.any(np.abs(draws.mean(axis=0) - correlated.kernel(kernel_fn, x, None, 0.8)) > 5 * error)


def test_blocks_jit_and_float32(rng):
    x1, x2 = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    net = flat(stax.Erf())[0]
    whole = kernels.hessian(net, x1, x2)
    np.testing.assert_allclose(kernels.hessian(net, x1, x2, batch_size=3), whole, rtol=1e-12)
    np.testing.assert_allclose(kernels.hessian(net, x1, batch_size=3), kernels.hessian(net, x1), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda a, b: kernels.hessian(net, a, b))(x1, x2), whole, rtol=1e-12)
    loop = np.stack([kernels.hessian(net, row[None], x2)[0] for row in x1])
    vmapped = jax.jit(jax.vmap(lambda row: kernels.hessian(net, row[None], x2)[0]))(x1)
    np.testing.assert_allclose(vmapped, loop, rtol=1e-12)
    assert kernels.hessian(net, x1.astype(np.float32)).dtype == jnp.float32
    gradient = jax.jit(jax.grad(lambda a: jnp.sum(kernels.hessian(net, a, x2))))(jnp.asarray(x1))
    assert np.isfinite(gradient).all() and np.any(gradient != 0)


def test_layers_stay_what_they_were(rng):
    """Plain triples: neural-tangents' own functions take them, mix them with its own, and compute the same."""
    x = rng.normal(size=(4, 3))
    theirs = nt.stax.serial(nt.stax.Dense(8, W_std=1.3, b_std=0.2), nt.stax.Erf(), nt.stax.Dense(1))
    mine = stax.serial(stax.Dense(8, W_std=1.3, b_std=0.2), stax.Erf(), stax.Dense(1))
    mixed = nt.stax.serial(stax.Dense(8, W_std=1.3, b_std=0.2), stax.Erf(), nt.stax.Dense(1))
    want = theirs[2](x, None)
    for net in (mine, mixed):
        assert type(net) is tuple and len(net) == 3
        got = net[2](x, None)
        assert np.array_equal(got.nngp, want.nngp) and np.array_equal(got.ntk, want.ntk)
    batched = nt.batch(mine[2], batch_size=2)(x, None, "ntk")
    np.testing.assert_allclose(batched, want.ntk, rtol=1e-12)
    for a, b in zip(
        jax.tree.leaves(mine[0](jax.random.key(0), x.shape)),
        jax.tree.leaves(theirs[0](jax.random.key(0), x.shape)),
        strict=True,
    ):
        assert np.array_equal(a, b)
    predictor = nt.predict.gradient_descent_mse_ensemble(mine[2], x, np.ones((4, 1)))
    assert np.isfinite(predictor(t=1.0, x_test=x, get="ntk")).all()


@pytest.mark.parametrize("name", ["Relu", "Abs", "Sign"])
def test_kinks_are_refused_by_name(rng, name):
    net = stax.serial(dense(), getattr(stax, name)(), dense())
    with pytest.raises(ValueError, match=rf"must have smooth activations .*; got {name}: .*curvature=False"):
        ni.kernels.hessian(net, rng.normal(size=(3, 2)))


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: stax.LeakyRelu(0.1), "LeakyRelu"),
        (lambda: stax.ABRelu(0.1, 1), "ABRelu"),
        (lambda: stax.RectifiedMonomial(2), "RectifiedMonomial"),
        (
            lambda: stax.Elementwise(jnp.sin, lambda c, p, q: c, lambda c, p, q: 1.0),
            "Elementwise: whether it is smooth",
        ),
        (lambda: stax.ExpNormalized(do_clip=True), "ExpNormalized"),
    ],
)
def test_other_activations_without_trusted_derivatives_are_refused(rng, layer, words):
    net = stax.serial(dense(), stax.parallel(layer()), dense())
    with pytest.raises(ValueError, match=f"smooth activations .*; got {words}"):
        kernels.hessian(net, rng.normal(size=(3, 2)))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: nt.stax.serial(nt.stax.Dense(1), nt.stax.Erf(), nt.stax.Dense(1)), r"serial \(not built by ntkinfo"),
        (lambda: stax.serial(stax.Dense(1), nt.stax.Erf(), stax.Dense(1)), r"in the way: Erf \(not built by ntkinfo"),
        (lambda: stax.serial(dense(), stax.repeat(nt.stax.Dense(1), 2)), r"Dense \(not built by ntkinfo"),
        (lambda: lambda a, b, get: (a @ a.T, a @ a.T), r"lambda.* \(not built by ntkinfo"),
        (lambda: stax.serial(stax.Dense(1, parameterization="standard")), "Dense with parameterization='standard'"),
        (lambda: stax.serial(conv(), stax.GlobalSelfAttention(1, 1, 1, 1)), "in the way: GlobalSelfAttention"),
        (lambda: stax.serial(dense(), stax.Dropout(0.5), dense()), "in the way: Dropout"),
    ],
)
@pytest.mark.filterwarnings("ignore:Linear scaling")
def test_networks_without_a_correlated_kernel_are_refused(rng, net, words):
    x = rng.normal(size=(3, 2))
    with pytest.raises(ValueError, match=words):
        kernels.hessian(net(), x)
    made = net()
    with pytest.raises(ValueError, match=r"built from the layers of `ntkinfo\.stax` alone"):
        correlated.kernel(made[2] if isinstance(made, tuple) else made, x, None, 0.5)


def test_a_decorated_kernel_function_is_not_taken_for_the_original(rng):
    import functools

    kernel_fn = flat(stax.Erf())[0][2]

    @functools.wraps(kernel_fn)
    def doubled(x1, x2, get):
        return jax.tree.map(lambda k: 2 * k, kernel_fn(x1, x2, get))

    with pytest.raises(ValueError, match=r"not built by ntkinfo\.stax"):
        kernels.hessian(doubled, rng.normal(size=(3, 3)))
    # A test-time dropout layer is none.
    assert np.isfinite(kernels.hessian(flat(stax.Erf(), dense(), stax.Dropout(0.5, mode="test"))[0], np.eye(3))).all()


def test_bad_inputs_of_the_hessian_kernel(rng):
    net = flat(stax.Erf())[0]
    with pytest.raises(TypeError, match="`net` must be a network"):
        kernels.hessian(3, np.eye(3))
    with pytest.raises(ValueError, match="`x1` and `x2` must hold inputs of one shape"):
        kernels.hessian(net, np.eye(3), np.ones((2, 4)))
    with pytest.raises(ValueError, match="`x1` must be finite"):
        kernels.hessian(net, np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="`net` must return kernels of shape"):
        kernels.hessian(stax.serial(conv(), stax.Erf()), rng.normal(size=(2, 3, 3, 2)))
