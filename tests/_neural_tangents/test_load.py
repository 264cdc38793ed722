"""neural-tangents on current JAX: what it computes is right, and its import leaves nothing behind."""

import os
import pathlib
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkinfo import stax
from ntkinfo._common import version as _version
from ntkinfo._neural_tangents import load, patches

ROOT = pathlib.Path(__file__).resolve().parents[2]
nt = load.load()


def in_new_process(script, *paths):
    """Run a script that has imported neither JAX nor ntkinfo; its assertions are the test's."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT]))}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What the import leaves behind.


def test_namespaces_of_jax_are_as_before():
    in_new_process("""
        import sys, types
        import jax, jax.core, jax.extend.core
        from jax.interpreters import ad

        names = {m: dict(vars(sys.modules[m])) for m in list(sys.modules) if m.split(".")[0] == "jax"}
        modules = set(sys.modules)
        from ntkinfo import stax
        for module, before in names.items():
            after = vars(sys.modules[module])
            assert all(after[name] is value for name, value in before.items()), module
            new = {name: after[name] for name in set(after) - set(before)}
            # A submodule that is imported becomes an attribute of its package; nothing else may appear.
            assert all(value is sys.modules.get(f"{module}.{name}") for name, value in new.items()), (module, new)
        # Extensions built by Cython share a module without a spec; stand-ins of ours have none either.
        new = {m for m in set(sys.modules) - modules if not m.startswith("_cython_")}
        assert all(sys.modules[m].__spec__ is not None for m in new)
        assert "jax.core" in names and "jax.interpreters.ad" in names
        assert "neural_tangents" in sys.modules and "neural_tangents.experimental" not in sys.modules
        assert not hasattr(sys.modules["neural_tangents"], "experimental")
    """)


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise RuntimeError('tensorflow was imported')\n")
    in_new_process(
        """
        import importlib.util
        from ntkinfo import stax
        stax.serial(stax.Dense(1))
        # The trap works, and neural-tangents' own TensorFlow part is found as before.
        try:
            import tensorflow
        except RuntimeError as error:
            assert "tensorflow was imported" in str(error)
        else:
            raise AssertionError("the trap is not on the path")
        assert importlib.util.find_spec("neural_tangents.experimental").origin.endswith("__init__.py")
        """,
        tmp_path,
    )


def test_import_is_light_and_quick():
    seconds = in_new_process("""
        import sys, time, jax
        before = set(sys.modules)
        start = time.process_time()
        import ntkinfo
        light = set(sys.modules) - before
        assert not any(m.split(".")[0] in ("neural_tangents", "scipy", "pandas", "matplotlib") for m in light), light
        from ntkinfo import stax
        print(time.process_time() - start)
        loaded = {m.split(".")[0] for m in sys.modules}
        assert not loaded & {"tensorflow", "matplotlib", "pandas", "sklearn"}, loaded
    """)
    assert float(seconds) < 2


@pytest.mark.parametrize("first", ["from ntkinfo import stax", "try_neural_tangents()"])
def test_the_users_own_import_gives_the_same_module(first):
    in_new_process(f"""
        def try_neural_tangents():
            # Alone it fails on JAX >= 0.6, half imported.
            try:
                import neural_tangents
            except Exception as error:
                print(error)

        {first}
        from ntkinfo import stax
        from ntkinfo._neural_tangents import load
        import neural_tangents as nt
        from neural_tangents import stax as theirs
        assert nt is load.load() and theirs.Relu is stax.Relu.__wrapped__
        assert theirs.ABRelu is stax.ABRelu.__wrapped__
        assert nt.empirical_ntk_fn is not None
    """)


def test_threads_that_load_at_once_get_one_module():
    in_new_process("""
        import threading, jax
        before = "Jaxpr" in vars(jax.core)
        from ntkinfo._neural_tangents import load, patches
        apply_patches, times, got = patches.apply_patches, [], []
        patches.apply_patches = lambda nt: (times.append(1), apply_patches(nt))
        threads = [threading.Thread(target=lambda: got.append(load.load())) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert len(got) == 4 and len(set(map(id, got))) == 1 and len(times) == 1
        assert ("Jaxpr" in vars(jax.core)) == before
    """)


def test_a_failed_import_takes_the_names_back():
    in_new_process("""
        import sys, jax
        from jax.interpreters import ad
        sys.modules["frozendict"] = None
        before = dict(vars(jax.core)), dict(vars(ad)), sys.modules.get("jax.util")
        for _ in range(2):
            try:
                from ntkinfo import stax
            except ImportError as error:
                assert "pip install frozendict" in str(error), error
            else:
                raise AssertionError("frozendict was not missed")
        assert before == (dict(vars(jax.core)), dict(vars(ad)), sys.modules.get("jax.util"))
        assert "neural_tangents.experimental" not in sys.modules
        del sys.modules["frozendict"]
        from ntkinfo import stax
        stax.serial(stax.Dense(1), stax.Relu())
    """)


# What is refused, and how.


def test_missing_neural_tangents(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_tangents", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps neural-tangents==0\.6\.5 .*ntkinfo\[nt\]"):
        load._load.__wrapped__()


def test_other_version_of_neural_tangents(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_tangents", types.SimpleNamespace(__version__="0.6.4"))
    with pytest.raises(ImportError, match=r"needs neural-tangents 0\.6\.5; got 0\.6\.4"):
        load._load.__wrapped__()


def test_import_that_fails_on_an_untested_jax(monkeypatch):
    def broken(nt):
        raise AttributeError("module 'jax' has no attribute 'linearize'")

    monkeypatch.setattr(patches, "apply_patches", broken)
    monkeypatch.setattr(jax, "__version__", "1.2.3")
    newest = r"0\.12\.0\.1" if sys.version_info >= (3, 12) else r"0\.10\.1"
    with pytest.raises(ImportError, match=rf"imported on jax 1\.2\.3; ntkinfo is tested up to jax {newest}") as caught:
        load._load.__wrapped__()
    assert isinstance(caught.value.__cause__, AttributeError)


@pytest.mark.parametrize("version", ["0.4.34", "0.4.9", "0.3.25"])
def test_jax_too_old(monkeypatch, version):
    monkeypatch.setattr(jax, "__version__", version)
    with pytest.raises(ImportError, match=rf"needs jax 0\.4\.35 or newer; got jax {version}"):
        _version.check_jax_version()


@pytest.mark.parametrize("module", ["jax", "jaxlib"])
@pytest.mark.parametrize("version", ["0.10.2", "0.10.2.dev20260101"])
def test_jax_that_computes_wrong_numbers(monkeypatch, module, version):
    monkeypatch.setattr(sys.modules[module], "__version__", version)
    with pytest.raises(
        ImportError, match=rf"refuses {module} 0\.10\.2.*wrong numbers on the CPU; got {module} {version}"
    ):
        _version.check_jax_version()
    with pytest.raises(ImportError, match=r"refuses"):
        load.load()


@pytest.mark.parametrize(
    "version", ["0.4.35", "0.9.2", "0.10.1", "0.10.3", "0.10.20", "0.11.2", "0.12.0.1", "1.0.0rc1"]
)
def test_jax_that_is_let_through(monkeypatch, version):
    monkeypatch.setattr(jax, "__version__", version)
    _version.check_jax_version()


def test_canary_of_jax_0_10_2():
    """The computation that JAX 0.10.2 gets wrong on the CPU (jax-ml/jax issue 39103): 23,616 of 40,000 rows."""
    rng = np.random.default_rng(0)
    h, rows = rng.normal(size=(3, 3)), rng.normal(size=(40_000, 3))
    got = np.asarray(jax.jit(jax.vmap(lambda e: jnp.sum((h @ e) ** 2)))(rows))
    want = ((rows @ h.T) ** 2).sum(1)
    assert np.sum(np.abs(got - want) > 1e-10 * want) == 0


# What it computes.


@pytest.fixture(scope="module")
def net():
    return stax.serial(stax.Dense(24, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(2, W_std=1.5, b_std=0.1))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(6, 5))


@pytest.fixture(scope="module")
def convolutional():
    branch = stax.serial(stax.Gelu(), stax.Conv(4, (3,), padding="SAME"))
    return stax.serial(
        *(stax.Conv(4, (3,), padding="SAME", b_std=0.1), stax.FanOut(2), stax.parallel(stax.Identity(), branch)),
        *(stax.FanInSum(), stax.LayerNorm(), stax.Relu(), stax.AvgPool((2,)), stax.Flatten(), stax.Dense(2, b_std=0.1)),
    )


def direct_ntk(apply_fn, params, x):
    """Σ_θ ∂f(x)∂f(x') averaged over outputs, from the full Jacobian."""
    leaves = jax.tree_util.tree_leaves(jax.jit(jax.jacobian(apply_fn))(params, x))
    flat = [np.asarray(j).reshape(*j.shape[:2], -1) for j in leaves]
    return sum(np.einsum("ikp,jkp->ij", j, j) for j in flat) / flat[0].shape[1]


IMPLEMENTATIONS = ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES")


@pytest.mark.parametrize("name", [*IMPLEMENTATIONS, "AUTO"])
def test_empirical_ntk_is_the_product_of_jacobians(net, x, name):
    init_fn, apply_fn, _ = net
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)
    ntk_fn = nt.empirical_ntk_fn(apply_fn, implementation=nt.NtkImplementation[name], vmap_axes=0)
    assert np.allclose(ntk_fn(x, None, params), direct_ntk(apply_fn, params, x), rtol=1e-10, atol=0)


@pytest.mark.filterwarnings("ignore:No Jacobian rule:UserWarning")
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_empirical_ntk_of_a_residual_convolutional_network_under_jit(convolutional, name):
    init_fn, apply_fn, _ = convolutional
    x = np.random.default_rng(1).normal(size=(3, 6, 2))
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)
    ntk_fn = nt.empirical_ntk_fn(apply_fn, implementation=nt.NtkImplementation[name], vmap_axes=0)
    got = jax.jit(lambda x1, x2, p: ntk_fn(x1, x2, p))(x, x[:2], params)
    assert np.allclose(got, direct_ntk(apply_fn, params, x)[:, :2], rtol=1e-10, atol=0)


def test_empirical_ntk_of_all_outputs(net, x):
    init_fn, apply_fn, _ = net
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)
    jacobian = jax.tree_util.tree_leaves(jax.jit(jax.jacobian(apply_fn))(params, x))
    want = sum(np.tensordot(j.reshape(6, 2, -1), j.reshape(6, 2, -1), (2, 2)).transpose(0, 2, 1, 3) for j in jacobian)
    for name in IMPLEMENTATIONS:
        ntk_fn = nt.empirical_ntk_fn(apply_fn, trace_axes=(), implementation=nt.NtkImplementation[name])
        assert np.allclose(jax.jit(lambda x, p, f=ntk_fn: f(x, None, p))(x, params), want, rtol=1e-10, atol=1e-12)


def test_linearize_and_taylor_expand_have_their_orders(net, x):
    init_fn, apply_fn, _ = net
    _, params = init_fn(jax.random.PRNGKey(0), x.shape)
    leaves, tree = jax.tree_util.tree_flatten(params)
    rng = np.random.default_rng(2)
    steps = [rng.normal(size=p.shape) for p in leaves]

    def order(expanded):
        errors = []
        for eps in (4e-3, 2e-3):
            there = jax.tree_util.tree_unflatten(tree, [p + eps * s for p, s in zip(leaves, steps, strict=True)])
            errors.append(np.max(np.abs(expanded(there, x) - apply_fn(there, x))))
        return np.log2(errors[0] / errors[1])

    assert order(nt.linearize(apply_fn, params)) == pytest.approx(2, abs=0.1)
    for degree in (1, 2, 3):
        assert order(nt.taylor_expand(apply_fn, params, degree)) == pytest.approx(degree + 1, abs=0.15)


def test_batched_kernel_is_the_kernel(net, x):
    kernel_fn = net[2]
    batched = nt.batch(kernel_fn, batch_size=2, device_count=0)
    assert np.allclose(batched(x, None, "ntk"), kernel_fn(x, None, "ntk"), rtol=1e-12)
    assert np.allclose(batched(x, x[:4], "nngp"), kernel_fn(x, x[:4], "nngp"), rtol=1e-12)


def test_sampled_kernels_agree_within_their_error(x):
    """With one hidden layer both kernels are averages over independent neurons: unbiased at any width."""
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Dense(64, W_std=1.5, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.1)
    )
    x = x[:3]
    sampled = nt.monte_carlo_kernel_fn(init_fn, apply_fn, jax.random.PRNGKey(3), range(1, 81), vmap_axes=0)
    for get in ("nngp", "ntk"):
        means = np.stack([np.asarray(k) for k in sampled(x, None, get)])
        sums = means * np.arange(1, 81)[:, None, None]
        draws = np.diff(sums, axis=0, prepend=np.zeros((1, 3, 3)))
        z = (means[-1] - np.asarray(kernel_fn(x, None, get))) / (draws.std(0, ddof=1) / np.sqrt(len(draws)))
        assert np.max(np.abs(z)) < 5


@pytest.fixture(scope="module")
def prediction(net, x):
    """Test points, labels and the closed form of mean and covariance at three times."""
    kernel_fn = net[2]
    x_test, y = x[::-1][:3] + 0.5, np.sin(x[:, :1])
    cross, prior = kernel_fn(x_test, x, ("nngp", "ntk")), np.asarray(kernel_fn(x_test, None, "nngp"))
    train = kernel_fn(x, None, ("nngp", "ntk"))
    values, vectors = np.linalg.eigh(np.asarray(train.ntk))
    want = {}
    for t in (1.0, 100.0, np.inf):
        gain = (1 - np.exp(-values * t / y.size)) / values
        a = np.asarray(cross.ntk) @ (vectors * gain) @ vectors.T
        mixed = a @ np.asarray(cross.nngp).T
        want[t] = a @ y, prior + a @ np.asarray(train.nngp) @ a.T - mixed - mixed.T
    return x_test, y, want


def test_ensemble_predictor_follows_the_closed_form(net, x, prediction):
    x_test, y, want = prediction
    predictor = nt.predict.gradient_descent_mse_ensemble(net[2], x, y)
    for t, (mean, covariance) in want.items():
        z = predictor(t=None if np.isinf(t) else t, x_test=x_test, get="ntk", compute_cov=True)
        assert np.allclose(z.mean, mean, rtol=1e-8, atol=1e-10)
        assert np.allclose(z.covariance, covariance, rtol=1e-8, atol=1e-10)


def test_one_predictor_in_two_jitted_functions(net, x, prediction):
    """Its caches must not keep the tracers of the first: before, during and after calls without jit."""
    x_test, y, want = prediction
    makers = {
        "ensemble": lambda: nt.predict.gradient_descent_mse_ensemble(net[2], x, y),
        "inference": lambda: nt.predict.gp_inference(net[2](x, None, ("nngp", "ntk")), y),
        "single": lambda: nt.predict.gradient_descent_mse(net[2](x, None, "ntk"), y),
    }
    calls = {
        "ensemble": lambda f, t, x: f(t=t, x_test=x, get="ntk", compute_cov=True).mean,
        "inference": lambda f, t, x: f(get="ntk", k_test_train=net[2](x, makers_x, ("nngp", "ntk"))) + 0 * t,
        "single": lambda f, t, x: f(t, None, 0.0, net[2](x, makers_x, "ntk")),
    }
    makers_x = x
    for name, make in makers.items():
        predictor = make()
        t = 100.0
        mean = want[np.inf if name == "inference" else t][0]
        for _ in range(2):
            jitted = jax.jit(lambda t, x, f=predictor, call=calls[name]: call(f, t, x))
            assert np.allclose(jitted(t, x_test), mean, rtol=1e-8, atol=1e-10)
        assert np.allclose(calls[name](predictor, t, x_test), mean, rtol=1e-8, atol=1e-10)


def test_predictor_built_while_tracing(net, x, prediction):
    x_test, y, want = prediction

    @jax.jit
    def mean(x, y):
        return nt.predict.gradient_descent_mse_ensemble(net[2], x, y)(t=100.0, x_test=x_test, get="ntk")

    assert np.allclose(mean(x, y), want[100.0][0], rtol=1e-8, atol=1e-10)


def test_gradient_through_a_predictor_is_finite(net, x, prediction):
    x_test, y, _ = prediction
    predictor = nt.predict.gradient_descent_mse_ensemble(net[2], x, y)
    slope = jax.grad(lambda t: predictor(t=t, x_test=x_test, get="ntk").sum())(1.0)
    around = [float(predictor(t=t, x_test=x_test, get="ntk").sum()) for t in (1 - 1e-4, 1 + 1e-4)]
    assert float(slope) == pytest.approx((around[1] - around[0]) / 2e-4, rel=1e-5)


def test_other_predictors(net, x, prediction):
    x_test, y, want = prediction
    k, k_test = net[2](x, None, "ntk"), net[2](x_test, x, "ntk")
    rate = nt.predict.max_learning_rate(k, y.size)
    assert float(rate) == pytest.approx(2 * y.size / np.linalg.eigvalsh(np.asarray(k))[-1], rel=1e-8)
    half_mse = nt.predict.gradient_descent(lambda f, y: 0.5 * jnp.mean((f - y) ** 2), k, y)
    _, test = half_mse(1.0, 0.0, jnp.zeros((3, 1)), k_test)
    assert np.allclose(test, want[1.0][0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Linear scaling attention:UserWarning")
def test_attention_under_two_jits():
    x = np.random.default_rng(4).normal(size=(3, 5, 4))
    attention = stax.GlobalSelfAttention(8, 8, 8, 2, linear_scaling=True, pos_emb_type="SUM")
    _, _, kernel_fn = stax.serial(stax.Conv(8, (3,)), attention, stax.GlobalAvgPool(), stax.Dense(1))
    want = kernel_fn(x, None, "ntk")
    for _ in range(2):
        assert np.allclose(jax.jit(lambda x: kernel_fn(x, None, "ntk"))(x), want, rtol=1e-10)
