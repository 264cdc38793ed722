"""Results on disk: every class comes back bit by bit, and no file makes anything but a result or a ValueError."""

import ast
import concurrent.futures
import dataclasses
import io
import json
import multiprocessing
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo._common import parallel, registry
from tests import problems, results
from tests.fuzz import objects as o
from tests.test_package import ENTRIES, PACKAGE

# Results of any numbers serve here.
pytestmark = pytest.mark.usefixtures("little_time_to_compile")

# Classes that look like results and are none: parts of engines, specifications, rows of tables.
NO_RESULTS = {
    "_cli/generalization.py": {"Generalization"},
    "_cli/report.py": {"Report"},
    "_common/labels.py": {"Labels"},
    "_common/quantities.py": {"Quantity"},
    "_common/tables.py": {"Table"},
    "_neural_tangents/correlated.py": {"KernelTraits", "TangentAndHessian"},
    "_numerics/mlp.py": {"Layer"},
    "_numerics/spectral_filters.py": {"Filters", "PartedBasis"},
    "_numerics/decay_forms.py": {"Expansion"},
    "_numerics/refits.py": {"Whole", "Rows"},
    "bottleneck/_branch_and_bound.py": {"Bound"},
    "bottleneck/_curve.py": {"Measured"},
    "bottleneck/_duality_gap.py": {"Maximum"},
    "bottleneck/_sweeps.py": {"Solution"},
    "cmi/_moments.py": {"PairMoments", "Cell"},
    "ensemble/_moments.py": {"Coupled"},
    "ensemble/_projection.py": {"Projection", "Noise", "Level"},
    "ensemble/_spectral_sums.py": {"Measures"},
    "estimators/_statistic.py": {"Statistic"},
    "finite/_gradient_descent.py": {"Trajectory", "Config"},
    "finite/_sgd.py": {"Config", "Data", "Scales", "State", "Record", "Networks"},
    "kernels/_sharded.py": {"Totals", "StoredKernels", "EvaluatedKernels"},
    "posterior/_spectrum.py": {"Factor", "Spectrum"},
    # Its cells are files already; a band is made of them.
    "sweep/_grid.py": {"Band", "Grid"},
    "variational/_fit.py": {"Plan"},
    "variational/_objectives.py": {"Spec", "Terms"},
    "variational/_training_loop.py": {"Data", "Optimizer", "State", "Best", "Trained"},
    "variational/_validate.py": {"Rows"},
}


def result_like(path):
    """Names of the NamedTuples and registered dataclasses of a file that do not start with an underscore."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = {ast.unparse(base) for base in node.bases}
            made = any(ast.unparse(call).startswith("pytree.dataclass") for call in node.decorator_list)
            if made or "NamedTuple" in bases:
                yield node.name


def test_no_class_of_results_is_forgotten():
    """A new result is in the registry, or here with the parts of engines."""
    known = {(module, name.split(".")[1]) for name, module in registry.RESULTS.items()}
    for paths in ENTRIES.values():
        for path in paths:
            relative = path.relative_to(PACKAGE)
            module = ".".join(relative.with_suffix("").parts)
            for name in result_like(path):
                listed = name in NO_RESULTS.get(relative.as_posix(), ())
                assert listed != ((module, name) in known), f"{relative}: {name}"
    assert all(registry.class_of(name).__name__ == name.split(".")[1] for name in registry.RESULTS)


WITH_NETWORK = {
    **dict.fromkeys(("ensemble.Ensemble", "ensemble.KrylovEnsemble", "posterior.Posterior"), o.network()),
    "posterior.KrylovPosterior": o.network(),
    **dict.fromkeys(("ensemble.FeatureEnsemble", "posterior.FeaturePosterior"), o.feature_kernel()),
}


def network_of(name):
    # A learned posterior has the network of its own scale.
    return o.learned().posterior.kernel_fn if name == "posterior.LearnedPosterior" else WITH_NETWORK.get(name)


@pytest.mark.parametrize("name", registry.RESULTS)
def test_every_result_comes_back_bit_by_bit(name, tmp_path):
    result = results.of(name)
    ni.save(result, tmp_path / "result.npz")
    loaded = ni.load(tmp_path / "result.npz", network_of(name))
    assert type(loaded) is type(result)
    if name in WITH_NETWORK and hasattr(result, "kernel_fn"):
        assert loaded.kernel_fn == result.kernel_fn
    assert results.same(result, loaded)
    assert [each.name for each in tmp_path.iterdir()] == ["result.npz"]


def test_the_check_of_equality_can_fail():
    curve = o.curve()
    assert not results.same(curve, dataclasses.replace(curve, action=curve.action + 1e-12))
    assert not results.same(curve, dataclasses.replace(curve, action=np.asarray(curve.action)))


def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "curve.npz"
    ni.save(o.curve(), path)
    with np.load(path, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes().decode())
    assert (header["type"], header["unit"], header["dtype"]) == ("information.Curve", "nats", ["float64"])
    assert header["version"] == 1 and header["ntkinfo"] == ni.__version__ and header["options"]["n"] == 6
    x = np.repeat(np.arange(4), 25)
    ni.save(ni.estimators.binned(x, x, bins=4, unit="bits"), path)
    assert header_of(path)[0]["unit"] == "bits"


def test_several_results_in_one_file_and_values_that_json_has_not(tmp_path):
    path = str(tmp_path / "some.npz")
    gaussian = ni.gaussian.Gaussian(jnp.ones((2, 1), jnp.bfloat16), jnp.array([jnp.nan, jnp.inf]))
    task = dataclasses.replace(ni.datasets.twelve_bit(), gamma=float("inf"))
    for several in ([gaussian, task], {"first": gaussian, "second": task}, (gaussian,)):
        ni.save(several, path)
        loaded = ni.load(path)
        assert type(loaded) is type(several) and results.same(several, loaded)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "curve.npz"
    ni.save(o.curve(), path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"`path` cannot be written, .*No space left"):
        ni.save(o.z(), path)
    assert results.same(ni.load(path), o.curve()) and len(list(tmp_path.iterdir())) == 1


# Networks given again.


def test_another_network_is_refused(tmp_path):
    path = tmp_path / "ensemble.npz"
    rng = np.random.default_rng(0)
    x, y, x_test, _ = problems.problem(rng)
    net = problems.network()
    ens = ni.Ensemble.fit(net, x, y)
    ni.save(ens, path)
    again = ni.load(path, problems.network())
    assert np.array_equal(again.predict(x_test, 3.0).mean, ens.predict(x_test, 3.0).mean)
    for other in (
        problems.network(w_std=1.501),
        problems.network(depth=3),
        problems.network(activation=ni.stax.Relu()),
    ):
        with pytest.raises(
            ValueError, match="`net` must be the network that the file's result was made with; its NNGP"
        ):
            ni.load(path, other)
    with pytest.raises(ValueError, match="`net` must be given: the file holds an `Ensemble`"):
        ni.load(path)
    with pytest.raises(TypeError, match="`net` must be a network"):
        ni.load(path, 5)
    with pytest.raises(ValueError, match="`mean` must be None: the `Ensemble` of the file was made without one"):
        ni.load(path, net, mean=lambda x: x[:, :1])


def test_scaled_and_shifted_posteriors_come_back(tmp_path):
    path = tmp_path / "posterior.npz"
    x, y, x_test, _ = problems.problem(np.random.default_rng(0))
    net = problems.network()

    def mean(rows):
        return 0.5 * rows[:, :1]

    post = ni.Posterior.fit(net, x, y, noise="fit", scale=2.5, mean=mean)
    ni.save(post, path)
    again = ni.load(path, net, mean=mean)
    assert np.array_equal(again.predict(x_test).mean, post.predict(x_test).mean)
    assert results.same(again.noise_fit, post.noise_fit) and again.prior == "nngp"
    with pytest.raises(ValueError, match="`mean` must be the mean function that the file's result was made with"):
        ni.load(path, net, mean=lambda rows: rows[:, :1])
    with pytest.raises(ValueError, match="`mean` must be given"):
        ni.load(path, net)


def test_empirical_kernels_come_back_with_the_network_that_has_them(tmp_path):
    path = tmp_path / "laplace.npz"
    x, y, x_test, _ = o.data()
    kernel = o.finite_kernel()
    post = ni.Posterior.fit(kernel, x, y, noise=0.1, scale=3.0, mean=o.finite_network())
    ni.save(post, path)
    again = ni.load(path, kernel, mean=o.finite_network())
    assert np.array_equal(again.predict(x_test).mean, post.predict(x_test).mean)
    assert again.kernel_fn.prior_variance == post.kernel_fn.prior_variance and again.prior_saw_data


def test_fits_with_own_networks_take_them_again(tmp_path):
    path = tmp_path / "fit.npz"
    x, _ = o.variational_data()
    # The described network under another name: one that files cannot make.
    known = o.encoder()
    own = ni.networks.Network(known.init, lambda params, rows: known.apply(params, rows))
    fit = o.fit()
    fit = dataclasses.replace(fit, model=fit.model._replace(encoder=own))
    ni.save(fit, path)
    again = ni.load(path, (own, fit.model.decoder))
    assert all(np.array_equal(a, b) for a, b in zip(again.encode(x), fit.encode(x), strict=True))
    with pytest.raises(ValueError, match="`net` must be given: the encoder of this fit is a network of your own"):
        ni.load(path)
    with pytest.raises(ValueError, match=r"`net` must be the pair \(encoder, decoder\)"):
        ni.load(path, own)


# What no file may do.


def header_of(path):
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop("header").tobytes().decode()), arrays


def write(path, header, arrays):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8), **arrays)


HOSTILE = {
    "later": lambda h: h | {"version": 2},
    "version of text": lambda h: h | {"version": "1"},
    "another format": lambda h: h | {"format": "weights"},
    "no result": lambda h: {name: value for name, value in h.items() if name != "result"},
    "unknown class": lambda h: h | {"result": {"result": "os.system", "fields": {}}},
    "module outside": lambda h: h | {"result": {"result": "subprocess.Popen", "fields": {"args": "ls"}}},
    "unknown field": lambda h: h | {"result": h["result"] | {"fields": h["result"]["fields"] | {"extra": 1}}},
    "missing field": lambda h: h | {"result": h["result"] | {"fields": {}}},
    "text for an array": lambda h: h | {"result": h["result"] | {"fields": h["result"]["fields"] | {"mean": "x"}}},
    "unknown array": lambda h: (
        h | {"result": h["result"] | {"fields": h["result"]["fields"] | {"mean": {"array": "b"}}}}
    ),
    "array unnamed": lambda h: h | {"result": h["result"] | {"fields": h["result"]["fields"] | {"mean": 1}}},
    "no result but a number": lambda h: h | {"result": 3},
    "list of numbers": lambda h: h | {"result": {"list": [1, 2]}},
    "a list of nothing": lambda h: h | {"result": {"list": []}},
    "no kind of value": lambda h: h | {"result": {"__reduce__": ["os.system"]}},
    "no list": lambda h: h | {"result": {"list": "abc"}},
    "unhashable keys": lambda h: h | {"result": {"dict": [[{"list": []}, 1]]}},
    "a pair of three": lambda h: h | {"result": {"dict": [[1, 2, 3]]}},
    "no object": lambda h: [h],
    "not JSON": lambda h: b"{",
    "no text": lambda h: b"\xff\xfe",
    "not a number": lambda h: b'{"format": NaN}',
    "deep": lambda h: (
        b'{"format": "ntkinfo result", "version": 1, "result": ' + b'{"list": [' * 9000 + b"]}" * 9000 + b"}"
    ),
    "huge number": lambda h: b"[" + b"9" * 10_000 + b"]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_one_value_error(name, tmp_path):
    path = tmp_path / "gaussian.npz"
    ni.save(o.z(), path)
    header, arrays = header_of(path)
    write(path, header, arrays)
    assert results.same(ni.load(path), o.z())
    write(path, HOSTILE[name](header), arrays)
    with pytest.raises(ValueError, match="`path` must"):
        ni.load(path)


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "file.npz"
    for content in (b"", b"text", b"PK\x03\x04 no archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"`path` must be a file written by `ni\.save`"):
            ni.load(path)
    np.savez(path, x=np.ones(3), y=np.ones(3))
    with pytest.raises(ValueError, match=r"holds the arrays x, y and no header. Data are read by `ni.datasets.npz`"):
        ni.load(path)
    ni.save(o.z(), path)
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"`path` must be a file written by `ni\.save`"):
            ni.load(path)
    with pytest.raises(FileNotFoundError):
        ni.load(tmp_path / "missing.npz")
    with pytest.raises(TypeError, match="`path` must be a path"):
        ni.load(5)


def test_a_network_for_a_result_without_one_is_refused(tmp_path):
    path = tmp_path / "gaussian.npz"
    ni.save(o.z(), path)
    with pytest.raises(TypeError, match=r"`net` must be None: the file holds gaussian\.Gaussian, which has none"):
        ni.load(path, o.network())


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "pickle.npz"
    content = io.BytesIO()
    np.save(content, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", content.getvalue())
    with pytest.raises(ValueError, match="is no plain array"):
        ni.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"`path` must be a file written by `ni\.save`"):
        ni.load(path)


def test_ensembles_whose_arrays_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "ensemble.npz"
    ni.save(o.ens(), path)
    header, arrays = header_of(path)
    name = header["result"]["fields"]["eigenvalues"]["array"]
    write(path, header, arrays | {name: arrays[name][:-1]})
    with pytest.raises(ValueError, match="whose arrays do not fit: eigenvalues must have shape"):
        ni.load(path, o.network())


def test_what_cannot_be_saved_is_named(tmp_path):
    path = tmp_path / "result.npz"
    for value in (5, "text", None, [], [1.0], {1: o.z()}, np.ones(3), lambda x: x):
        with pytest.raises(TypeError, match="`result` must"):
            ni.save(value, path)
    run = dataclasses.replace(o.layer_run(), activations=(lambda x: x,))
    with pytest.raises(TypeError, match=r"`result.activations\[0\]` cannot be saved"):
        ni.save(run, path)
    with pytest.raises(TypeError, match="random keys are not written"):
        ni.save(o.z()._replace(mean=jax.random.key(0)), path)
    with pytest.raises(TypeError, match="`result` is being traced"):
        jax.jit(lambda z: ni.save(z, path))(o.z())
    with pytest.raises(OSError, match=r"`path` cannot be written"):
        ni.save(o.z(), tmp_path / "no" / "folder" / "file.npz")
    assert not path.exists()


@pytest.mark.any_precision
def test_double_precision_is_never_rounded_in_silence(tmp_path):
    path = tmp_path / "double.npz"
    jax_array = ni.gaussian.Gaussian(jnp.ones((2, 1), jnp.float32), jnp.ones(2, jnp.float32))
    ni.save(jax_array, path)
    assert ni.load(path).mean.dtype == jnp.float32
    header, arrays = header_of(path)
    write(path, header, {name: array.astype(np.float64) for name, array in arrays.items()})
    with parallel.enable_x64(True):
        assert ni.load(path).mean.dtype == jnp.float64
    with (
        parallel.enable_x64(False),
        pytest.raises(ValueError, match=r"`path` holds numbers in float64, which JAX would round to float32"),
    ):
        ni.load(path)


def test_krylov_ensembles_come_back_in_every_storage(tmp_path):
    x, y, x_test, _ = o.data()
    path = tmp_path / "krylov.npz"
    mean = named_mean
    for storage in ("none", "float32", "float64"):
        ens = ni.Ensemble.fit(o.network(), x, y, engine="krylov", storage=storage, mean=mean, progress=False)
        ni.save(ens, path)
        again = ni.load(path, o.network(), mean=mean)
        assert again.storage == storage and results.same(again, ens)
        assert results.same(again.predict(x_test, o.T), ens.predict(x_test, o.T))
    with pytest.raises(ValueError, match="`mean` must be given"):
        ni.load(path, o.network())
    with pytest.raises(ValueError, match="`mean` must be the mean function that the file"):
        ni.load(path, o.network(), mean=lambda x: x[:, :1] + 1.0)
    with pytest.raises(ValueError, match="`net` must be the network that the file's result was made with"):
        ni.load(path, ni.architectures.network(depth=2), mean=mean)
    post = ni.Posterior.fit(o.network(), x, y, engine="krylov", scale=2.0, noise=0.5, progress=False)
    ni.save(post, path)
    again = ni.load(path, o.network())
    assert results.same(again.kl, post.kl) and again.process.kernel_fn == post.process.kernel_fn
    with pytest.raises(ValueError, match="the file holds an `KrylovEnsemble`, and functions are not written"):
        ni.load(path)


def test_ensembles_of_features_come_back(tmp_path):
    x, y, x_test, _ = o.data()
    path = tmp_path / "features.npz"
    gradients = ni.kernels.empirical(o.finite_network())
    ens = ni.Ensemble.fit(gradients, x, y, engine="features", mean=o.finite_network())
    ni.save(ens, path)
    again = ni.load(path, gradients, mean=o.finite_network())
    assert results.same(again.predict(x_test, o.T), ens.predict(x_test, o.T))
    projected = ni.kernels.features(gradients, projection=2, key=o.KEY)
    post = ni.Posterior.fit(projected, x, y, noise=0.5, scale=2.0)
    ni.save(post, path)
    again = ni.load(path, ni.kernels.features(gradients, projection=2, key=o.KEY))
    assert results.same(again, post) and again.kl == post.kl
    for other in (gradients, ni.kernels.features(gradients, projection=2, key=jax.random.key(9))):
        with pytest.raises(ValueError, match="`net` must be the network that the file's result was made with"):
            ni.load(path, other)
    with pytest.raises(ValueError, match="must be a kernel with known features"):
        ni.load(path, o.network())


def named_mean(x):
    return x[:, :1]


# Pickle.


CLOSURES = {*WITH_NETWORK, "posterior.LearnedPosterior", "variational.VariationalFit"}


def through_joblib(result):
    joblib = pytest.importorskip("joblib")
    content = io.BytesIO()
    joblib.dump(result, content)
    content.seek(0)
    return joblib.load(content)


def through_pickle(result):
    return pickle.loads(pickle.dumps(result))


@pytest.mark.parametrize("through", [through_pickle, through_joblib])
@pytest.mark.parametrize("name", registry.RESULTS)
def test_results_can_be_pickled_or_say_how_they_are_kept(name, through):
    result = results.of(name)
    if name not in CLOSURES:
        assert results.same(through(result), result)
        return
    with pytest.raises(TypeError, match=r"cannot be pickled with its network: .*`ni\.load\(path.*cloudpickle"):
        through(result)
    cloudpickle = pytest.importorskip("cloudpickle")
    again = cloudpickle.loads(cloudpickle.dumps(result))
    # Functions made again by value are others, arrays are the same.
    leaves = (jax.tree.leaves(each) for each in (again, result))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(*leaves, strict=True))


def named_network(params, x):
    return x @ params


def test_networks_and_their_kernels_can_be_pickled_or_say_how():
    net = ni.networks.from_apply(named_network, jnp.ones((3, 1)))
    x = np.ones((2, 3))
    for made in (net, ni.kernels.empirical(net), ni.kernels.features(ni.kernels.empirical(net))):
        again = through_pickle(made)
        if made is net:
            assert np.array_equal(again.apply(again.params, x), net.apply(net.params, x))
        else:
            assert np.array_equal(again(x, None, "ntk"), made(x, None, "ntk"))
    closure = ni.networks.from_apply(lambda params, x: x @ params, jnp.ones((3, 1)))
    for made in (closure, ni.kernels.empirical(closure), ni.kernels.features(lambda x: x)):
        with pytest.raises(TypeError, match=r"cannot be pickled with its functions: .*top of a module.*cloudpickle"):
            pickle.dumps(made)
    ens = ni.Ensemble.fit(ni.kernels.features(named_features), x + np.eye(2, 3), np.ones((2, 1)))
    assert results.same(through_pickle(ens), ens)


def named_features(x):
    return x[:, :2]


@pytest.mark.slow
def test_results_go_through_spawned_processes():
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        post = ni.Posterior.fit(ni.kernels.features(named_features), np.eye(3), np.ones(3))
        # Of JAX in float32, as the other process has it.
        assert pool.submit(gain_of, post).result(timeout=300) == pytest.approx(float(post.information_gain), rel=1e-6)


def gain_of(post):
    return float(post.information_gain)


def _kernel(x1, x2, get):
    x2 = x1 if x2 is None else x2
    return type("Both", (), {"nngp": x1 @ x2.T + 1.0, "ntk": 2 * (x1 @ x2.T) + 1.0 + (x1 @ x2.T) ** 2})


def test_ensembles_of_named_kernel_functions_can_be_pickled():
    x = np.random.default_rng(0).normal(size=(4, 3))
    ens = ni.Ensemble.fit(_kernel, x, x[:, :1])
    again = pickle.loads(pickle.dumps(ens))
    assert again.kernel_fn is _kernel and results.same(again, ens)
