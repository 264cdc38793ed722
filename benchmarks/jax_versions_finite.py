"""Checks that `jax_versions_probe.py` runs: finite networks, their sampled and empirical kernels, their expansions."""

import importlib

import jax
import numpy as np


def neural_tangents():
    import ntkinfo.stax  # noqa: F401

    # What a user's own `import neural_tangents` gives after ours.
    return importlib.import_module("neural_tangents")


def inputs(n, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def fully_connected(width=32, outputs=1):
    from ntkinfo import stax

    return stax.serial(
        stax.Dense(width, W_std=1.5, b_std=0.1),
        stax.Erf(),
        stax.Dense(outputs, W_std=1.5, b_std=0.1),
    )


def monte_carlo():
    """Sampled kernels of finite networks approach the closed form."""
    agrees_with_samples(fully_connected(256), inputs(4, 5), "ntk", 60)


def agrees_with_samples(net, x, get, n_samples):
    init_fn, apply_fn, kernel_fn = net
    sampled = neural_tangents().monte_carlo_kernel_fn(init_fn, apply_fn, jax.random.PRNGKey(0), n_samples)
    want = np.asarray(kernel_fn(x, None, get))
    got = np.asarray(sampled(x, None, get))
    # Relative to the diagonal: a smoke test, the tests of the project measure the standard error.
    assert np.max(np.abs(got - want)) < 0.5 * np.max(np.abs(np.diagonal(want))), (
        got,
        want,
    )


def _finite(outputs=2):
    init_fn, apply_fn, _ = fully_connected(16, outputs)
    x = inputs(4, 5)
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)
    return apply_fn, jax.tree_util.tree_map(lambda p: p.astype(float), params), x


def _moved(params, eps):
    rng = np.random.default_rng(3)
    return jax.tree_util.tree_map(lambda p: p + eps * rng.normal(size=p.shape), params)


def _order_of(expand):
    """How the error of an expansion falls with the step: log2 of the ratio at a halved step."""
    apply_fn, params, x = _finite()
    errors = []
    for eps in (2e-2, 1e-2):
        there = _moved(params, eps)
        errors.append(np.max(np.abs(expand(apply_fn, params)(there, x) - apply_fn(there, x))))
    return np.log2(errors[0] / errors[1])


def linearize():
    """The error is of second order."""
    assert abs(_order_of(neural_tangents().linearize) - 2) < 0.2


def taylor_expand():
    """The error of degree 2 is of third order."""
    assert abs(_order_of(lambda f, p: neural_tangents().taylor_expand(f, p, 2)) - 3) < 0.3


def empirical(name):
    def run():
        nt = neural_tangents()
        for apply_fn, params, x in (_finite(), _finite_conv()):
            jacobian = jax.jacobian(apply_fn)(params, x)
            flat = [np.asarray(j).reshape(len(x), 2, -1) for j in jax.tree_util.tree_leaves(jacobian)]
            want = sum(np.einsum("ikp,jkp->ij", j, j) for j in flat) / 2
            ntk_fn = nt.empirical_ntk_fn(apply_fn, implementation=nt.NtkImplementation[name], vmap_axes=0)
            close(ntk_fn(x, None, params), want, 1e-10)
            close(jax.jit(lambda p, x, f=ntk_fn: f(x, None, p))(params, x), want, 1e-10)

    run.__name__ = f"ntk_{name.lower()}"
    return run


def _finite_conv():
    """Convolutions, GELU, ReLU, pooling, a residual branch and LayerNorm."""
    from ntkinfo import stax

    branch = stax.serial(stax.Gelu(), stax.Conv(6, (3,), padding="SAME"))
    init_fn, apply_fn, _ = stax.serial(
        stax.Conv(6, (3,), padding="SAME", b_std=0.1),
        stax.FanOut(2),
        stax.parallel(stax.Identity(), branch),
        stax.FanInSum(),
        stax.LayerNorm(),
        stax.Relu(),
        stax.AvgPool((2,)),
        stax.Flatten(),
        stax.Dense(2, b_std=0.1),
    )
    x = inputs(4, 6, 2)
    _, params = init_fn(jax.random.PRNGKey(1), x.shape)
    return apply_fn, jax.tree_util.tree_map(lambda p: p.astype(float), params), x


def close(got, want, tolerance):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    assert np.all(np.abs(got - want) <= tolerance * np.max(np.abs(want))), np.max(np.abs(got - want))
