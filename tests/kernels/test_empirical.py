"""Empirical kernels: J Jᵀ by reverse mode on networks of every kind, products, blocks, whose distribution it is."""

import functools
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import networks, stax
from ntkinfo.kernels import _empirical, _jacobian, _structured, empirical

KEY = jax.random.key(0)


def normal(*shape, seed=0, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed + sum(shape)).normal(size=shape))


def dense(p, x):
    return jnp.tanh(x @ p["a"] + p["b"][None]) @ p["c"]


def convolution(p, x):
    x = x.reshape(len(x), 4, 3, 1)
    value = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.mean(jax.nn.relu(value), axis=(1, 2)) @ p["c"]


def residual(p, x):
    hidden = x @ p["a"]
    return (hidden + jnp.sin(hidden @ p["w"])) @ p["c"]


def attention(p, x):
    tokens = x.reshape(len(x), 4, 3)
    q, k, v = (jnp.einsum("nld,de->nle", tokens, p[name]) for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("nle,nme->nlm", q, k), axis=-1)
    return jnp.mean(jnp.einsum("nlm,nme->nle", weights, v), axis=1) @ p["c"]


def layer_norm(p, x):
    hidden = x @ p["a"]
    hidden = (hidden - hidden.mean(1, keepdims=True)) / jnp.sqrt(hidden.var(1, keepdims=True) + 1e-5)
    return jax.nn.gelu(hidden * p["g"][None]) @ p["c"]


def shared(p, x):
    for _ in range(3):
        x = jnp.tanh(x @ p["w"])
    return x @ p["w"][:, :2]


NETWORKS = {
    "dense": (dense, {"a": normal(12, 5), "b": normal(5), "c": normal(5, 2)}),
    "convolution": (convolution, {"k": normal(3, 3, 1, 4), "c": normal(4, 2)}),
    "residual": (residual, {"a": normal(12, 4), "w": normal(4, 4), "c": normal(4, 2)}),
    "attention": (
        attention,
        {"q": normal(3, 4), "k": normal(3, 4, seed=1), "v": normal(3, 4, seed=2), "c": normal(4, 2)},
    ),
    "layer norm": (layer_norm, {"a": normal(12, 6), "g": normal(6), "c": normal(6, 2)}),
    "weight sharing": (shared, {"w": normal(12, 12, scale=0.3)}),
}
X1, X2 = normal(5, 12), normal(3, 12)


def by_reverse_mode(apply, params, x1, x2):
    """Θ̂ in blocks (a, b, k, k), from whole Jacobians of the batch."""
    jacobian, jacobians = jax.jit(jax.jacrev(apply)), []
    for x in (x1, x2):
        leaves = [np.asarray(leaf).reshape(len(x), 2, -1) for leaf in jax.tree.leaves(jacobian(params, x))]
        jacobians.append(np.concatenate(leaves, axis=2))
    return np.einsum("icp,jdp->ijcd", *jacobians)


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_are_products_of_jacobians(name):
    want = by_reverse_mode(*NETWORKS[name], X1, X2).transpose(0, 2, 1, 3).reshape(10, 6)
    kernel = empirical(NETWORKS[name], "full")
    rows1, rows2 = kernel.rows(X1), kernel.rows(X2)
    near = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12 * np.abs(want).max())
    near(kernel(rows1, rows2, "ntk"), want)
    near(kernel.product(rows1, rows2, jnp.eye(6)), want)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("outputs", ["trace", pytest.param("full", marks=pytest.mark.slow)])
def test_structured_derivatives_are_the_same(name, outputs):
    net = networks.from_apply(*NETWORKS[name])
    want, found = (empirical(net, outputs, method=method) for method in ("jacobian", "structured"))
    rows1, rows2 = want.rows(X1), want.rows(X2)
    square = want(rows1, None, "ntk")
    np.testing.assert_allclose(found(rows1, None, "ntk"), square, rtol=1e-12, atol=1e-12 * np.abs(square).max())
    small = ni.kernels.kernels(found, rows2, rows1, batch_size=2).ntk
    np.testing.assert_allclose(small, want(rows2, rows1, "ntk"), rtol=1e-12, atol=1e-12 * np.abs(square).max())


def test_structured_derivatives_are_taken_where_they_are_faster_and_right(monkeypatch):
    _structured._FOUND.clear()
    net, x = networks.from_apply(*NETWORKS["dense"]), normal(40, 12)
    kernel, want = empirical(net), np.asarray(empirical(net, method="jacobian")(normal(40, 12), None, "ntk"))
    used = []
    panels = _structured.panels
    monkeypatch.setattr(_structured, "panels", lambda *args: used.append(1) or panels(*args))
    # Work this short is not worth a trial.
    monkeypatch.setattr(_structured, "_WORTH_A_TRIAL", 1e9)
    np.testing.assert_allclose(kernel(x, None, "ntk"), want, rtol=1e-12)
    assert not used and list(_structured._FOUND.values()) == [False]
    monkeypatch.setattr(_structured, "_WORTH_A_TRIAL", 0.0)
    # Rows of the Jacobian cost a second, blocks nothing.
    monkeypatch.setattr(_jacobian, "seconds", lambda call: (call(), 1.0 if call().shape[0] == 16 else 1e-9)[1])
    _structured._FOUND.clear()
    np.testing.assert_allclose(kernel(x, None, "ntk"), want, rtol=1e-12)
    assert len(used) == 1
    kernel(x, None, "ntk")
    assert len(used) == 2 and len(_structured._FOUND) == 1
    # What says something else is not taken, however fast; nor is what fails.
    block = _structured._block
    for wrong in (lambda *args: 1.001 * block(*args), lambda *args: 1 / 0):
        _structured._FOUND.clear()
        monkeypatch.setattr(_structured, "_block", wrong)
        np.testing.assert_allclose(kernel(x, None, "ntk"), want, rtol=1e-12)
        assert len(used) == 2
    with pytest.raises(ValueError, match='`method` must be "jacobian" or "products" for this network'):
        empirical(net, method="structured")(x, None, "ntk")
    _structured._FOUND.clear()


def test_blocks_of_structured_derivatives_are_as_large_as_is_fastest(monkeypatch):
    for name, value in {"_MOST_ROWS": 8, "TRIAL_ROWS": 4, "_MANY_FLOPS": 0.0}.items():
        monkeypatch.setattr(_structured, name, value)
    _structured._ROWS.clear()
    x, net = normal(16, 12), networks.from_apply(*NETWORKS["convolution"])
    want = np.asarray(empirical(net, method="jacobian")(x, None, "ntk"))
    found = empirical(net, method="structured")(x, None, "ntk")
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())
    # Derivatives of a row are most of the work: they are taken once.
    assert list(_structured._ROWS.values()) == [16]
    _structured._ROWS.clear()
    arguments = net.taken_apart[0], "trace", net.params, None, x
    taken = _structured._temporary(_structured._program(*arguments, 8, False))
    for name, value, rows in (
        # If they cost nothing, small blocks leave out most of what is symmetric.
        ("_DERIVATIVES", 0.0, 8),
        # Memory for eight rows, for four, and for none.
        ("_BLOCK_BYTES", taken, 8),
        ("_BLOCK_BYTES", taken / 2, 4),
        ("_BLOCK_BYTES", 0, 1),
        ("_MANY_FLOPS", 1e15, 8),
        ("_MANY_FLOPS", 0.0, 16),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(_structured, name, value)
            assert _structured._fastest_rows(*arguments, None) == rows, name


def test_every_way_gives_one_kernel():
    apply, params = NETWORKS["layer norm"]
    blocks = by_reverse_mode(apply, params, X1, X1)
    near = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12 * np.abs(blocks).max())
    for outputs, want in (("trace", np.trace(blocks, axis1=2, axis2=3) / 2), (1, blocks[:, :, 1, 1])):
        near(empirical((apply, params), outputs)(X1, None, "ntk"), want)
        near(empirical((apply, params), outputs).product(X1, None, jnp.eye(5)), want)
    want = blocks.transpose(0, 2, 1, 3).reshape(10, 10)
    full = empirical((apply, params), "full")
    rows = full.rows(X1)
    near(ni.kernels.kernels(full, rows, batch_size=4).ntk, want)
    near(ni.kernels.kernels(empirical((apply, params), "full", method="products"), rows).ntk, want)
    near(ni.kernels.diagonal(full, rows, kernel="ntk"), np.diag(want))
    near(full.mean(rows)[:, 0], apply(params, X1).ravel())
    np.testing.assert_array_equal(full.targets(X1[:, :2])[:, 0], X1[:, :2].ravel())


def test_inside_jit_and_rectangular_blocks():
    kernel = empirical(NETWORKS["dense"])
    want = np.asarray(kernel(X1, X2, "ntk"))
    inside = jax.jit(lambda x1, x2: ni.kernels.kernels(kernel, x1, x2))(X1, X2)
    np.testing.assert_allclose(inside.ntk, want, rtol=1e-12)
    assert not np.any(inside.nngp)
    for size in (1, 2, 4):
        both = ni.kernels.kernels(kernel, X1, X2, batch_size=size), ni.kernels.kernels(kernel, X2, X1, batch_size=size)
        np.testing.assert_allclose(both[0].ntk, want, rtol=1e-12)
        np.testing.assert_allclose(both[1].ntk, want.T, rtol=1e-12)
    single = empirical((dense, jax.tree.map(jnp.float32, NETWORKS["dense"][1])))
    # Parameters in float32, inputs in float64: gradients as precise as the inputs.
    rounded = empirical((dense, jax.tree.map(lambda leaf: jnp.float64(jnp.float32(leaf)), NETWORKS["dense"][1])))
    np.testing.assert_allclose(single(X1, X2, "ntk"), rounded(X1, X2, "ntk"), rtol=1e-12)
    assert single(X1.astype(np.float32), None, "ntk").dtype == np.float32


def test_the_faster_way_is_taken_where_it_matters(monkeypatch):
    # On a busy machine the derivatives of a few rows may take long enough for a trial of structured ones.
    monkeypatch.setattr(_structured, "_WORTH_A_TRIAL", np.inf)
    times = iter([10.0, 20.0, 0.001])
    monkeypatch.setattr(_empirical, "_seconds", lambda call: next(times))
    x = normal(40, 12)
    ways = []
    monkeypatch.setattr(_empirical, "_by_products", lambda *args: ways.append(1) or jnp.zeros((40, 40)))
    empirical(NETWORKS["dense"], 0)(x, None, "ntk")
    assert ways == [1]
    # On short work nothing but a few rows is timed.
    times = iter([1e-6])
    monkeypatch.undo()
    monkeypatch.setattr(_structured, "_WORTH_A_TRIAL", np.inf)
    monkeypatch.setattr(_empirical, "_seconds", lambda call: next(times))
    assert empirical(NETWORKS["dense"], 0)(x, None, "ntk").shape == (40, 40)


def test_a_panel_holds_what_memory_allows(monkeypatch):
    net = networks.from_apply(*NETWORKS["dense"])
    monkeypatch.setattr(_empirical, "_PANEL_BYTES", net.n_parameters * 8 * 10)
    assert _empirical._panel_rows(net, np.float64, 10) == 10 and _empirical._panel_rows(net, np.float64, 11) == 5
    x = normal(23, 12)
    got = empirical(net, 0)(x, None, "ntk")
    monkeypatch.undo()
    np.testing.assert_allclose(got, empirical(net, 0)(x, None, "ntk"), rtol=1e-12)


def test_whose_distribution_it_is():
    net = networks.from_apply(*NETWORKS["dense"])
    tangent = np.asarray(empirical(net)(X1, None, "ntk"))
    laplace = empirical(net, around="laplace", prior_variance=0.3)
    np.testing.assert_allclose(laplace(X1, None, "nngp"), 0.3 * tangent, rtol=1e-12)
    np.testing.assert_allclose(laplace(X1, None, "ntk"), 0.3 * tangent, rtol=1e-12)
    np.testing.assert_allclose(laplace.product(X1, None, jnp.eye(5)), 0.3 * tangent, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ni.kernels.diagonal(laplace, X1), 0.3 * np.diag(tangent), rtol=1e-12)
    nets = [net.at(jax.tree.map(lambda leaf, s=s: leaf + s, net.params)) for s in (0.0, 0.1, 0.3)]
    ensemble = empirical(nets, around="ensemble", origin="initialisation")
    outputs = np.stack([dense(one.params, X1) for one in nets])
    covariance = np.mean([np.cov(outputs[:, :, c].T) for c in (0, 1)], axis=0)
    tangents = np.stack([empirical(one)(X1, None, "ntk") for one in nets])
    k, theta = ensemble(X1)
    np.testing.assert_allclose(k, covariance, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(theta, tangents.mean(0), rtol=1e-12)
    np.testing.assert_allclose(ni.kernels.diagonal(ensemble, X1), np.diag(covariance), rtol=1e-10)
    np.testing.assert_allclose(ensemble.mean(X1), outputs.mean(0), rtol=1e-12)
    errors = ensemble.standard_error(X1)
    np.testing.assert_allclose(errors[1], tangents.std(0, ddof=1) / 3**0.5, rtol=1e-10)
    products = np.stack([(o - outputs.mean(0)) @ (o - outputs.mean(0)).T for o in outputs]) * 3 / (2 * 2)
    np.testing.assert_allclose(errors[0], products.std(0, ddof=1) / 3**0.5, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(ensemble.leaving_out(1)(X1)[1], (tangents[0] + tangents[2]) / 2, rtol=1e-12)
    assert not ensemble.prior_saw_data and laplace.prior_saw_data
    assert not empirical(net, origin="split").prior_saw_data


@pytest.mark.timeout(300)
def test_rows_are_dealt_out_to_devices():
    script = textwrap.dedent(
        """
        import jax
        jax.config.update("jax_enable_x64", True)
        import numpy as np, jax.numpy as jnp
        import ntkinfo as ni
        from ntkinfo.kernels import _empirical

        assert len(jax.devices()) == 4
        rng = np.random.default_rng(0)
        params = {"a": rng.normal(size=(6, 5)), "c": rng.normal(size=(5, 2)), "shift": np.arange(2)}
        net = ni.networks.from_apply(lambda p, x: jnp.tanh(x @ p["a"]) @ p["c"] + p["shift"][None], params)
        x, other = rng.normal(size=(11, 6)), rng.normal(size=(7, 6))
        used = set()
        gram = _empirical._gram
        _empirical._gram = lambda a, b: used.update(a.devices() | b.devices()) or gram(a, b)
        for outputs in ("trace", "full"):
            kernel = ni.kernels.empirical(net, outputs)
            rows, others = kernel.rows(x), kernel.rows(other)
            for second in (None, others):
                one = ni.kernels.kernels(kernel, rows, second)
                used.clear()
                dealt = ni.kernels.kernels(kernel, rows, second, devices=jax.devices())
                np.testing.assert_allclose(dealt.ntk, one.ntk, rtol=1e-12)
                assert len(used) == 4, used
                small = ni.kernels.kernels(kernel, rows, second, devices=jax.devices()[:3], batch_size=2)
                np.testing.assert_allclose(small.ntk, one.ntk, rtol=1e-12)
            few = ni.kernels.kernels(kernel, rows[:2], devices=jax.devices())
            np.testing.assert_allclose(few.ntk, kernel(rows[:2], None, "ntk"), rtol=1e-12)
        ens = ni.Ensemble.fit(ni.kernels.empirical(net), x, rng.normal(size=(11, 2)), devices=jax.devices(), mean=net)
        assert np.isfinite(np.asarray(ens.predict(other, 1.0).mean)).all()
        """
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PJRT_NPROC": "16"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]


def roots(p, x):
    return jnp.sqrt(jnp.abs(x @ p))


ONES = jnp.ones((12, 1))


def named(value):
    """A network with a leaf beside its weights."""
    return lambda p, x: x @ p[0], [ONES, np.asarray(value) if isinstance(value, complex) else value]


def many():
    return np.random.default_rng(0).normal(size=(13, 12))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net: empirical(net, "all"), ValueError, "`outputs` must be one of 'trace', 'full'"),
        (lambda net: empirical(net, 2)(X1), ValueError, "`outputs` must be one of the 2 outputs, from 0; got 2"),
        (lambda net: empirical(net, around="both"), ValueError, "`around` must be one of"),
        (lambda net: empirical(net, around="ensemble"), ValueError, "`net` must be a list of two networks or more"),
        (lambda net: empirical([net]), ValueError, "and one network otherwise; got a list of 1"),
        (lambda net: empirical(net, prior_variance=2.0), ValueError, '`prior_variance` .* belongs to "laplace"'),
        (lambda net: empirical(net, origin="mine"), ValueError, "`origin` must be one of None, 'initialisation'"),
        (lambda net: empirical(3), TypeError, "`net` must be a `Network` with parameters"),
        (lambda net: empirical(net, "full")(X1), ValueError, r'outputs="full" must be its rows.*kernel.rows\(x\)'),
        (lambda net: empirical(net)(X1, None, "both"), ValueError, "`get` must be one of 'nngp', 'ntk'"),
        (lambda net: empirical(net).standard_error(X1), ValueError, '`around` must be "ensemble" for a standard error'),
        (lambda net: empirical(net).product(X1, X2, jnp.ones(5)), ValueError, "`v` must have a row for each of the 3"),
        (lambda net: empirical((roots, jnp.zeros((12, 1))))(X1), ValueError, "`net` must have finite gradients"),
        (
            lambda net: empirical((lambda p, x: (x - x.mean(0)[None]) @ p, jnp.ones((12, 1))))(X1),
            ValueError,
            "`net` must give each input an output of its own",
        ),
        (lambda net: ni.Ensemble.fit(net, X1, X1[:, :2]), TypeError, r"`net` .*`ni.kernels.empirical\(net\)`"),
        (lambda net: empirical(net)(np.arange(12)[None]), TypeError, "`x1` and `x2` must hold .*; got dtype int"),
        (lambda net: empirical(named("relu")), TypeError, "`params` must hold arrays; got 'relu' among them"),
        (lambda net: empirical(named(1.0 + 0j)), TypeError, "`params` must be real; got dtype complex"),
        (
            lambda net: empirical(named(jnp.ones(1, jnp.float32))),
            TypeError,
            "`params` must be all float32 or all float64",
        ),
        (lambda net: empirical(named(jnp.ones(1, jnp.bfloat16))), TypeError, "all float64; got bfloat16 and float64"),
        (lambda net: empirical((lambda p, x: (x @ p, x @ p), ONES))(X1), TypeError, "one array of outputs; got tuple"),
        (
            lambda net: empirical((lambda p, x: {"y": x @ p}, ONES))(X1),
            TypeError,
            "one array of outputs; got dict of 1",
        ),
        (
            lambda net: ni.Ensemble.fit(empirical((lambda p, x: x @ p, ONES), "full"), many(), many()[:, :1]),
            ValueError,
            "`x` must have at most 12 rows: the tangent kernel .* has no larger rank",
        ),
        (lambda net: ni.kernels.hessian(empirical(net), X1), ValueError, '`net` must be of around="laplace"'),
        (lambda net: ni.kernels.kernels(empirical(net), X1, devices=[3]), TypeError, "`devices` must be a list of dev"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(networks.from_apply(*NETWORKS["dense"]))


def test_infinite_width_is_approached_with_slope_minus_one():
    x = normal(6, 3)
    squares = []
    for width in (32, 512):
        net = stax.serial(stax.Dense(width, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1))
        drawn = networks.from_stax(net)
        keys = jax.random.split(KEY, 30)
        kernels = [empirical(drawn.at(drawn.init(key, x)), origin="initialisation")(x, None, "ntk") for key in keys]
        errors = np.stack(kernels) - np.asarray(ni.kernels.kernels(net, x).ntk)
        squares.append(np.mean(errors**2))
    slopes = np.diff(np.log(squares)) / np.log(16)
    np.testing.assert_allclose(slopes, -1.0, atol=0.2)


@functools.cache
def flax_mlp(width):
    nn = pytest.importorskip("flax.linen")

    class NTKDense(nn.Module):
        """A layer in the parameterization of the theory: parameters from N(0, 1), scales in front of them."""

        features: int

        @nn.compact
        def __call__(self, x):
            w = self.param("w", nn.initializers.normal(1.0), (x.shape[1], self.features))
            b = self.param("b", nn.initializers.normal(1.0), (self.features,))
            return 1.5 * x @ w / x.shape[1] ** 0.5 + 0.1 * b[None]

    class Mine(nn.Module):
        @nn.compact
        def __call__(self, x):
            hidden = jax.scipy.special.erf(NTKDense(width)(x))
            return NTKDense(1)(hidden)

    return Mine()


def test_a_flax_network_is_the_stax_network_of_the_same_description():
    x, width = normal(6, 3), 64
    triple = stax.serial(stax.Dense(width, 1.5, 0.1), stax.Erf(), stax.Dense(1, 1.5, 0.1))
    (w1, b1), _, (w2, b2) = triple[0](KEY, x.shape)[1]
    layers = {"NTKDense_0": {"w": w1, "b": b1.ravel()}, "NTKDense_1": {"w": w2, "b": b2.ravel()}}
    flax = networks.from_flax(flax_mlp(width), {"params": layers})
    theirs = networks.from_stax(triple, [(w1, b1), (), (w2, b2)])
    np.testing.assert_allclose(flax(x), theirs(x), rtol=1e-12)
    np.testing.assert_allclose(empirical(flax)(x, None, "ntk"), empirical(theirs)(x, None, "ntk"), rtol=1e-12)
    # As ensembles both are samples of the same infinite network.
    drawn = [flax.at(flax.init(key, x)) for key in jax.random.split(KEY, 30)]
    k, theta = empirical(drawn, around="ensemble", origin="initialisation")(x)
    errors = empirical(drawn, around="ensemble").standard_error(x)
    want = ni.kernels.kernels(triple, x)
    for got, error, infinite in zip((k, theta), errors, want, strict=True):
        assert (np.abs(got - infinite) < 5 * np.asarray(error)).all()


def test_products_and_errors_name_the_argument_that_does_not_fit():
    kernel = empirical((dense, NETWORKS["dense"][1]))
    v = np.ones((3, 2))
    wanted = kernel.product(X1, X2, v)
    assert wanted.dtype == np.float64
    np.testing.assert_allclose(kernel.product(X1, X2.astype(np.float32), v), wanted, rtol=1e-5)
    for name, arguments in (("x1", (X1[None], X2, v)), ("x2", (X1, X2[None], v[:1]))):
        with pytest.raises(ValueError, match=f"`{name}` must hold inputs of the networks: `net`"):
            kernel.product(*arguments)
    several = empirical(
        [(dense, jax.tree.map(lambda leaf, a=a: a * leaf, NETWORKS["dense"][1])) for a in (1.0, 2.0)], around="ensemble"
    )
    with pytest.raises(ValueError, match="`x1` must hold inputs of the networks"):
        several.standard_error(X1[None])
    with pytest.raises(TypeError, match="`x1` is being traced"):
        jax.jit(several.standard_error)(X1)
