"""What `jax_versions.py` runs under each JAX: features of neural-tangents and ntkinfo, each checked for its result.

Usage: python jax_versions_probe.py FEATURE ...   (or --list). One line per feature: ok, or the exception's name.
"""

import sys
import traceback
import types

import jax
import jax.numpy as jnp
import numpy as np
from jax_versions_finite import (
    agrees_with_samples,
    close,
    empirical,
    fully_connected,
    inputs,
    linearize,
    monte_carlo,
    neural_tangents,
    taylor_expand,
)


def namespaces_before() -> dict:
    """What JAX's modules hold before neural-tangents is imported. The modules it imports itself are loaded first."""
    import jax.example_libraries.stax
    import jax.experimental.ode
    import jax.extend.core
    import jax.extend.linear_util
    from jax.interpreters import ad

    modules = {
        "jax": jax,
        "jax.core": jax.core,
        "jax.interpreters.ad": ad,
        "jax.extend.core": jax.extend.core,
    }
    return {
        "names": {name: dict(vars(module)) for name, module in modules.items()},
        "util": sys.modules.get("jax.util"),
        "modules": modules,
    }


BEFORE: dict = {}


def the_import():
    """ntkinfo.stax loads without TensorFlow."""
    from ntkinfo import stax

    stax.serial(stax.Dense(1))
    assert "tensorflow" not in sys.modules


def namespaces():
    """JAX is as it was before."""
    for name, module in BEFORE["modules"].items():
        before, after = BEFORE["names"][name], vars(module)
        assert {k for k in before if k in after and before[k] is after[k]} == set(before), name
        # A submodule that was imported becomes an attribute of its package: that is Python's doing.
        new = {k for k in set(after) - set(before) if not isinstance(after[k], types.ModuleType)}
        assert not new, (name, new)
    assert sys.modules.get("jax.util") is BEFORE["util"]
    assert "neural_tangents.experimental" not in sys.modules


def stax_fc():
    """The kernels of one hidden erf layer against the formula, jitted and not."""
    x = inputs(6, 5)
    nngp = 2.25 * x @ x.T / 5 + 0.01
    d = 1 + 2 * np.diag(nngp)
    scale = np.sqrt(np.outer(d, d))
    activation = 2 / np.pi * np.arcsin(2 * nngp / scale)
    derivative = 4 / np.pi / np.sqrt(scale**2 - 4 * nngp**2)
    want = 2.25 * activation + 0.01 + 2.25 * derivative * nngp
    kernel_fn = fully_connected()[2]
    close(kernel_fn(x, None, "ntk"), want, 1e-12)
    close(jax.jit(lambda x: kernel_fn(x, None, "ntk"))(x), want, 1e-12)


def stax_relu_diagonal():
    """The exact diagonal of the ReLU NTK."""
    from ntkinfo import stax

    x = inputs(6, 5)
    _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Relu(), stax.Dense(1, W_std=2**0.5))
    close(kernel_fn(x, None, "ntk").diagonal(), 4 * (x**2).mean(1), 1e-13)


def stax_conv():
    """Convolution, pooling and a residual branch against sampled networks of finite width."""
    from ntkinfo import stax

    block = stax.serial(
        stax.FanOut(2),
        stax.parallel(
            stax.Identity(),
            stax.serial(stax.Relu(), stax.Conv(64, (3, 3), padding="SAME")),
        ),
        stax.FanInSum(),
    )
    net = stax.serial(
        stax.Conv(64, (3, 3), padding="SAME"),
        block,
        stax.AvgPool((2, 2)),
        stax.Relu(),
        stax.Flatten(),
        stax.Dense(1),
    )
    agrees_with_samples(net, inputs(3, 4, 4, 2), "nngp", 60)


def stax_attention():
    """Global self-attention with positional embeddings, under jit twice, and LayerNorm."""
    from ntkinfo import stax

    x = inputs(3, 5, 4)
    attention = stax.GlobalSelfAttention(
        n_chan_out=16,
        n_chan_key=16,
        n_chan_val=16,
        n_heads=4,
        linear_scaling=True,
        pos_emb_type="SUM",
    )
    net = stax.serial(
        stax.Conv(16, (3,), padding="SAME"),
        attention,
        stax.LayerNorm(),
        stax.GlobalAvgPool(),
        stax.Dense(1),
    )
    kernel_fn = net[2]
    want = kernel_fn(x, None, "ntk")
    for _ in range(2):
        # A new function each time, so that the second call traces again.
        close(jax.jit(lambda x: kernel_fn(x, None, "ntk"))(x), want, 1e-10)


def predict():
    """The ensemble predictor against the closed form, at a finite and an infinite time."""
    nt, x, y, x_test, want = _prediction()
    predictor = nt.predict.gradient_descent_mse_ensemble(fully_connected()[2], x, y)
    for t, w in want.items():
        z = predictor(t=None if np.isinf(t) else t, x_test=x_test, get="ntk", compute_cov=True)
        close(z.mean, w, 1e-8)
        assert z.covariance.shape == (3, 3)


def predict_jit_twice():
    """One predictor inside two jitted functions."""
    nt, x, y, x_test, want = _prediction()
    predictor = nt.predict.gradient_descent_mse_ensemble(fully_connected()[2], x, y)
    for _ in range(2):
        jitted = jax.jit(lambda t, x: predictor(t=t, x_test=x, get="ntk", compute_cov=True))
        close(jitted(100.0, x_test).mean, want[100.0], 1e-8)
    kernel_fn = fully_connected()[2]
    single = nt.predict.gradient_descent_mse(kernel_fn(x, None, "ntk"), y)
    k_test = kernel_fn(x_test, x, "ntk")
    for _ in range(2):
        close(jax.jit(lambda t: single(t, None, 0.0, k_test))(100.0), want[100.0], 1e-8)


def predict_ode():
    """Gradient descent on any loss by the ODE solver, and the largest stable learning rate."""
    nt, x, y, x_test, want = _prediction()
    kernel_fn = fully_connected()[2]
    k = kernel_fn(x, None, "ntk")
    predictor = nt.predict.gradient_descent(lambda f, y: 0.5 * jnp.mean((f - y) ** 2), k, y)
    _, test = predictor(100.0, 0.0, jnp.zeros((3, 1)), kernel_fn(x_test, x, "ntk"))
    close(test, want[100.0], 1e-5)
    rate = nt.predict.max_learning_rate(k, y.size)
    close(rate, 2 * y.size / np.linalg.eigvalsh(np.asarray(k))[-1], 1e-8)


def _prediction():
    nt = neural_tangents()
    x, x_test = inputs(6, 5), inputs(3, 5, seed=1)
    y = np.sin(x[:, :1])
    kernel_fn = fully_connected()[2]
    values, vectors = np.linalg.eigh(np.asarray(kernel_fn(x, None, "ntk")))
    cross = np.asarray(kernel_fn(x_test, x, "ntk"))
    means = {}
    for t in (100.0, np.inf):
        means[t] = cross @ vectors @ ((1 - np.exp(-values * t / y.size))[:, None] / values[:, None] * (vectors.T @ y))
    return nt, x, y, x_test, means


def batch():
    """A kernel in batches."""
    nt, x = neural_tangents(), inputs(8, 5)
    kernel_fn = fully_connected()[2]
    batched = nt.batch(kernel_fn, batch_size=4, device_count=0)
    close(batched(x, None, "ntk"), kernel_fn(x, None, "ntk"), 1e-12)
    assert np.asarray(batched(x, x[:4], "nngp")).shape == (8, 4)


def ensemble():
    """ntkinfo.Ensemble against the closed form."""
    import ntkinfo

    _, x, y, x_test, want = _prediction()
    ens = ntkinfo.Ensemble.fit(fully_connected(), jnp.asarray(x), jnp.asarray(y))
    z = ens.predict(jnp.asarray(x_test), jnp.asarray(list(want)))
    for i, w in enumerate(want.values()):
        close(z.mean[i], w, 1e-8)


def canary():
    """The computation that JAX 0.10.2 gets wrong on the CPU (jax-ml/jax issue 39103)."""
    h, e = inputs(3, 3), inputs(40_000, 3, seed=1)
    got = jax.jit(jax.vmap(lambda e: ((h @ e) ** 2).sum()))(e)
    close(got, ((e @ h.T) ** 2).sum(1), 1e-10)


FEATURES = {
    "import": the_import,
    "namespaces": namespaces,
    **{f.__name__: f for f in (stax_fc, stax_relu_diagonal, stax_conv, stax_attention)},
    **{
        f.__name__: f
        for f in (
            predict,
            predict_jit_twice,
            predict_ode,
            batch,
            monte_carlo,
            linearize,
            taylor_expand,
        )
    },
    **{
        f"ntk_{name.lower()}": empirical(name)
        for name in (
            "JACOBIAN_CONTRACTION",
            "NTK_VECTOR_PRODUCTS",
            "STRUCTURED_DERIVATIVES",
            "AUTO",
        )
    },
    "ensemble": ensemble,
    "canary": canary,
}


def main() -> None:
    """Run the features named on the command line."""
    if sys.argv[1:] == ["--list"]:
        print("\n".join(FEATURES))
        return
    jax.config.update("jax_enable_x64", True)
    BEFORE.update(namespaces_before())
    for feature in sys.argv[1:]:
        try:
            FEATURES[feature]()
            result = "ok"
        except Exception as error:
            traceback.print_exc()
            result = type(error).__name__
        print(f"PROBE {feature} {result}", flush=True)


if __name__ == "__main__":
    main()
