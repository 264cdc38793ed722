"""A valid call of every public function, by name; arguments it leaves out are fuzzed from their defaults.

A new public function needs a line here, or a reason in `EXEMPT`; a new parameter a kind, by its name or in its call.
"""

import functools
import inspect
import struct
import tempfile
import types
from pathlib import Path

import jax
import numpy as np

import ntkinfo as ni
from ntkinfo._common import registry
from tests import results
from tests.fuzz import objects as o
from tests.fuzz.judge import Call, parameters

# The kind of an argument by its name, where a call does not say another.
KINDS = {
    "activations": "floats", "activation": "option", "adaptive": "flag", "alpha": "not negative", "anneal": "flag",
    "architecture": "option", "ax": "thing", "b_std": "not negative", "batch": "size", "batch_size": "size",
    "beta": "positive numbers", "beta_max": "positive", "bins": "size", "bound": "pair", "build": "function",
    "centred": "flag", "certificate": "flag", "checkpoint": "path", "chunk": "size", "control": "object",
    "correction": "option", "cov_noise": "floats", "cov_t": "floats", "cov_x": "floats", "cov_xy": "floats",
    "cov_y": "floats", "covariance": "floats", "critic": "option", "critical": "object", "cross": "floats",
    "curvature": "flag", "curve": "object", "decoder": "thing", "delta": "probability", "delta_s": "floats",
    "depth": "size", "devices": "thing", "dim": "size", "draw_labels": "flag", "dtype": "dtype", "dual": "flag",
    "engine": "option", "storage": "option", "mesh": "thing", "n_probes": "size",
    "early_stopping": "size", "embedding": "size", "encoder": "probabilities", "ens": "object", "ensemble": "object",
    "degree": "size", "epochs": "size", "epsilon": "probability", "estimator": "option", "estimators": "names",
    "features": "floats", "fisher_trace": "flag",
    "fit": "object", "flat": "flag", "folder": "path", "form": "option", "fraction": "probability",
    "gamma": "positive", "hessian": "floats", "hidden": "sizes", "i_xt": "floats", "i_xz": "not negative",
    "i_yz": "finite", "i_zy": "finite", "information": "object", "interval": "size", "joint": "flag", "k": "size",
    "kernel": "floats", "key": "key", "kind": "option", "kl": "numbers", "label": "count", "label_entropy": "finite",
    "label_covariance": "floats",
    "label_noise": "thing", "labels": "labels", "latent": "size", "latent_kind": "option", "learning_rate": "positive",
    "least": "not negative", "loss": "option", "m": "size", "make": "function", "matrix": "probabilities",
    "max_steps": "size", "max_sweeps": "size", "mean": "floats", "method": "option", "metric": "option",
    "multipliers": "floats", "n": "size", "n_classes": "size", "n_clusters": "size", "n_networks": "size",
    "n_partitions": "size", "n_records": "size", "n_samples": "size", "n_shuffles": "size", "n_test": "size",
    "n_train": "size", "n_values": "size", "parts": "sizes", "name": "name", "names": "names",
    "net": "network", "network": "thing", "networks": "flag", "noise": "positive", "norms": "tuple",
    "objective": "option", "one_hot": "floats", "optimizer": "thing", "outputs": "size", "own": "variances",
    "p": "probabilities", "p_x": "probabilities", "p_xy": "probabilities", "p_y": "probabilities",
    "p_zy": "probabilities",
    "p_y_given_x": "probabilities", "p_z_given_y": "probabilities", "path": "path", "phases": "object",
    "plane": "object", "points": "mapping", "post": "object", "prior": "option", "prior_saw_data": "flag",
    "priors": "size", "progress": "flag", "q": "probabilities",
    "quantities": "names", "quantity": "option", "range": "option", "record": "size", "relative": "flag",
    "repeats": "size", "restarts": "count", "result": "object", "results": "object", "rho": "number",
    "risk": "numbers", "run": "object", "sample": "thing", "samples": "size", "scale": "thing", "seed": "count",
    "seeds": "size", "shuffle": "flag", "side": "option", "side_by_side": "size", "singular": "option",
    "standardize": "flag", "steps": "size", "std": "positive", "stds": "positive numbers",
    "sub_gaussian": "positive numbers",
    "sweep": "object", "t": "times", "table": "probabilities", "task": "option", "temperature": "positive numbers",
    "test_fraction": "probability", "theta": "finite", "title": "text", "tolerance": "tolerance",
    "train_outputs": "flag", "unit": "option", "variance": "variances", "w_std": "positive", "weight": "floats",
    "weight_std": "positive", "width": "positive", "x": "floats", "x1": "floats", "x2": "floats", "x_test": "floats",
    "y": "floats", "y_test": "floats", "z": "object",
}  # fmt: skip

_ENGINE = "part of an engine: jittable, without checks, called by public functions that check"
_OF_EMPIRICAL = ("blocks", "diagonal", "mean", "member_outputs", "member_tangents", "rank_limit")
_OF_ENGINE = (
    "covariances", "filled", "filters", "means", "predictive", "rescaled_time", "rounding_errors", "spectral_sum",
    "time_basis",
)  # fmt: skip
_OF_FEATURES = ("blocks", "n_features", "n_unprojected", "scaled")
# Public callables that are not fuzzed, and why.
EXEMPT = {
    "ensemble.covariances": _ENGINE,
    "ensemble.means": _ENGINE,
    "ensemble.predictive": _ENGINE,
    "ensemble.rotate": _ENGINE,
    "ensemble.Ensemble.covariances": _ENGINE,
    "ensemble.Ensemble.filled": _ENGINE,
    "ensemble.Ensemble.filters": _ENGINE,
    "ensemble.Ensemble.means": _ENGINE,
    "ensemble.Ensemble.predictive": _ENGINE,
    "ensemble.Ensemble.rescaled_time": _ENGINE,
    "ensemble.Ensemble.rounding_errors": _ENGINE,
    "ensemble.Ensemble.spectral_sum": _ENGINE,
    "ensemble.Ensemble.time_basis": _ENGINE,
    "distributed.initialize": "takes no argument; its own tests have hostile environments",
    "ensemble.KrylovEnsemble.rescaled_time": _ENGINE,
    **dict.fromkeys((f"ensemble.FeatureEnsemble.{name}" for name in _OF_ENGINE), _ENGINE),
    **dict.fromkeys((f"ensemble.SpectralSums.{name}" for name in ("filters", "rescaled_time", "resolved")), _ENGINE),
    "ensemble.SpectralSums.spectral_sum": _ENGINE,
    "information.Estimate.reshape": "arithmetic of a result",
    "gaussian.cholesky": _ENGINE,
    "gaussian.joint_divergence": _ENGINE,
    "kernels.evaluate": _ENGINE,
    **dict.fromkeys(
        (f"kernels.EmpiricalKernel.{name}" for name in _OF_EMPIRICAL),
        _ENGINE,
    ),
    **dict.fromkeys((f"kernels.FeatureKernel.{name}" for name in _OF_FEATURES), _ENGINE),
    "networks.activations": "needs a module of Flax or Equinox; its own tests have hostile ones",
    "networks.from_haiku": "needs an object that Haiku made; its own tests have hostile ones",
    "networks.from_nnx": "needs a module of Flax; its own tests have hostile ones",
    "networks.Network.check": _ENGINE,
    "networks.Network.require_params": _ENGINE,
    "posterior.predictive": _ENGINE,
}
# Layers and combinators of neural-tangents, handed on: what they make is checked where kernels are evaluated.
# Estimators of scikit-learn go through its own checks.
EXEMPT_MODULES = ("sklearn", "stax")

MODULES = (
    "architectures", "bottleneck", "bounds", "cmi", "compression", "content", "datasets", "discrete", "distributed",
    "ensemble", "estimators", "examples", "files", "finite", "gaussian", "information", "kernels", "layers", "learning",
    "mixture", "networks", "plot", "posterior", "sklearn", "stax", "sweep", "variational", "variational.encoders",
    "variational.label_noise",
)  # fmt: skip


def module(name: str):
    value = ni
    for part in name.split("."):
        value = getattr(value, part)
    return value


def public_callables() -> dict[str, object]:
    """Every public function, and every method of a public class that takes arguments, by name."""
    found = {}
    for name in MODULES:
        if name in EXEMPT_MODULES:
            continue
        for public in module(name).__all__:
            value = getattr(module(name), public)
            if inspect.isclass(value):
                for method in vars(value):
                    static = inspect.getattr_static(value, method)
                    if method.startswith("_") or not isinstance(
                        static, classmethod | staticmethod | types.FunctionType
                    ):
                        continue
                    if set(inspect.signature(getattr(value, method)).parameters) - {"self"}:
                        found[f"{name}.{public}.{method}"] = getattr(value, method)
            elif callable(value):
                found[f"{name}.{public}"] = value
    return found


def _data(*names):
    return {name: o.data()[("x", "y", "x_test", "y_test").index(name)] for name in names}


def _channel(outputs=1):
    mean = o.rng().normal(size=(4, outputs))
    return {"mean": mean, "variance": np.array([0.5, 1.0, 1.5, 2.0])}


CLASSES = np.array([0, 1, 0, 1])
ONE_HOT = np.eye(2)[CLASSES]
_SAMPLED = {"key": o.KEY, "n_samples": 4}
_SAMPLES = o.rng(1).normal(size=(40, 2))
_BITS = (o.rng(2).random(40) < 0.5).astype(int)


def _mnist():
    folder = Path(tempfile.mkdtemp())
    for part, n in (("train", 20), ("t10k", 10)):
        pictures = o.rng(n).integers(0, 256, (n, 3, 3), dtype=np.uint8)
        for what, array in (("images-idx3", pictures), ("labels-idx1", (np.arange(n) % 10).astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{what}-ubyte").write_bytes(head + array.tobytes())
    return folder


def _cifar():
    folder = Path(tempfile.mkdtemp())
    for name, n in (("data_batch_1.bin", 20), ("test_batch.bin", 10)):
        records = o.rng(n).integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(n) % 10
        (folder / name).write_bytes(records.tobytes())
    return folder


def _bottleneck(function, **arguments):
    valid = {"p_xy": o.joint(), "beta": np.array([2.0, 5.0])} | arguments
    samples = {"n_clusters": 3, "restarts": 0}
    return Call(function, {k: v for k, v in valid.items() if v is not None}, samples=samples, infinite=True)


def _variational(function, y_kind="classes", **arguments):
    x, y = o.variational_data()
    kinds = {"x": "floats", "y": y_kind, "y_test": y_kind, "gamma": "not negative", "encoder": "thing",
             "prior": "option", "noise": "thing", "stds": "positive numbers", "beta": "number or schedule"}  # fmt: skip
    kinds |= {"betas": "positive numbers", "dual_prior": "option", "dual_beta": "not negative", "sizes": "sizes"}
    samples = {"x_test": x, "y_test": y, "prior": "learned"}
    return Call(function, {"x": x, "y": y} | arguments, kinds, samples=samples)


def _of_result(function, kinds=None, infinite=True, samples=None, **arguments):
    return Call(function, arguments, kinds or {}, infinite, samples or {})


_BINS = {"width": "positive", "range": "tuple", "x": "samples", "y": "samples", "p_x": "probabilities"}
_FITTED = {"encoder": o.encoder(), "latent": 2, "steps": 2, "record": 1, "batch_size": None, "progress": False}
_SWEPT = {"x_test": "floats", "betas": "positive numbers"}

# Results that are no tables, and those that have a line of their own.
_NO_TABLES = (
    "networks.NetworkReport", "discrete.Names", "ensemble.CrossFeatures", "ensemble.CrossKernels",
    "ensemble.KrylovEnsemble", "ensemble.SpectralSums", "posterior.KrylovPosterior", "variational.LabelNoise",
)  # fmt: skip


def _table_of(name):
    return Call(results.of(name).to_dataframe, {}, infinite=True)


def _grid():
    return ni.sweep.Grid({"seed": (0, 1)}, np.array([1.0]), {"action": np.ones((2, 1))}, {}, {})


TABLE = {
    "architectures.network": lambda: Call(ni.architectures.network, {"depth": 1, "width": 4}, {"width": "size"}),
    "networks.from_apply": lambda: Call(
        ni.networks.from_apply,
        {"apply_fn": lambda params, x: x @ params, "params": np.ones((3, 1))},
        {"apply_fn": "object", "params": "floats", "init": "thing"},
    ),
    "networks.from_equinox": lambda: Call(
        ni.networks.from_equinox, {"make": lambda key: lambda x: x}, {"make": "function", "state": "thing"}
    ),
    "networks.from_flax": lambda: Call(
        ni.networks.from_flax,
        {"module": types.SimpleNamespace(init=lambda key, x: {"params": {}}, apply=lambda p, x: x)},
        {"module": "object", "variables": "thing"},
    ),
    "networks.from_stax": lambda: Call(
        ni.networks.from_stax, {"network": o.network()}, {"network": "object", "params": "thing"}
    ),
    "networks.report": lambda: Call(
        ni.networks.report,
        {"net": o.finite_network(), "data": o.finite_data(), "key": o.KEY, "progress": False},
        {"net": "thing", "data": "object", "noise": "noise", "prior_variance": "noise", "origin": "option"},
    ),
    "networks.NetworkReport.to_dataframe": lambda: Call(o.network_report().to_dataframe, {}),
    **{
        f"{name}.to_dataframe": functools.partial(_table_of, name)
        for name in registry.RESULTS
        if name not in _NO_TABLES and name.split(".")[1] in module(name.split(".")[0]).__all__
    },
    "discrete.from_counts": lambda: Call(
        ni.discrete.from_counts, {"table": np.array([[3, 1], [0, 2]])}, {"table": "thing", "empty": "option"}
    ),
    "bottleneck.BottleneckCurve.assignments": lambda: Call(
        o.bottleneck_curve().assignments, {"index": 0}, {"index": "thing"}
    ),
    "bottleneck.BottleneckCurve.encoder_table": lambda: Call(
        o.bottleneck_curve().encoder_table, {"index": 0}, {"index": "thing"}
    ),
    "bottleneck.BottleneckCurve.decoder_table": lambda: Call(
        o.bottleneck_curve().decoder_table, {"index": 0}, {"index": "thing"}
    ),
    "datasets.fashion_mnist": lambda: Call(
        ni.datasets.fashion_mnist, {"folder": _mnist(), "n_train": 8, "n_test": 4}, {"n_test": "size"}
    ),
    "datasets.cifar10": lambda: Call(
        ni.datasets.cifar10, {"folder": _cifar(), "n_train": 8, "n_test": 4}, {"n_test": "size"}
    ),
    "plot.bounds": lambda: _of_result(ni.plot.bounds, {"certificate": "object"}, certificate=o.certificate()),
    "plot.clusters": lambda: _of_result(ni.plot.clusters, {"index": "thing"}, curve=o.bottleneck_curve(), index=0),
    "plot.parameter_divergence": lambda: _of_result(
        ni.plot.parameter_divergence, {"t": "times"}, result=o.certificate()._replace(t=None), t=np.array([0.5, 5.0])
    ),
    "plot.posterior": lambda: _of_result(ni.plot.posterior, {"output": "count"}, post=o.posterior()),
    "files.load": lambda: Call(
        ni.files.load, {"path": o.result_file()}, {"net": "thing", "mean": "thing"}, infinite=True
    ),
    "files.save": lambda: Call(ni.files.save, {"result": o.z(), "path": o.result_file()}, {"result": "any result"}),
    "information.certificate": lambda: Call(
        ni.information.certificate,
        {"ens": o.ens(), "x_test": o.data()[2], "y_test": o.data()[3], "t": np.array([0.5, 5.0])},
        samples={"task": "classes"},
    ),
    "sweep.Sweep.curve": lambda: Call(results.sweep().curve, {"w": 1.0, "b": 0.1}, {"w": "positive", "b": "positive"}),
    "sweep.Sweep.to_xarray": lambda: Call(results.sweep().to_xarray, {}, infinite=True),
    "networks.Network.at": lambda: Call(o.finite_network().at, {"params": np.ones((3, 1))}, {"params": "floats"}),
    "networks.kernel_function": lambda: Call(ni.networks.kernel_function, {"net": o.network()}, {"net": "thing"}),
    # Kernels.
    "kernels.empirical": lambda: Call(
        ni.kernels.empirical,
        {"net": o.finite_network()},
        {"net": "thing", "outputs": "output", "around": "option", "prior_variance": "positive", "origin": "option"},
    ),
    "kernels.EmpiricalKernel.leaving_out": lambda: Call(
        o.finite_ensemble().leaving_out, {"index": 0}, {"index": "count"}
    ),
    "kernels.EmpiricalKernel.product": lambda: Call(
        o.finite_kernel().product, {"x1": o.data()[0], "x2": o.data()[2], "v": np.ones((4, 2))}, {"v": "floats"}
    ),
    "kernels.EmpiricalKernel.rows": lambda: Call(o.finite_kernel().rows, {"x": o.data()[0]}),
    "kernels.EmpiricalKernel.standard_error": lambda: Call(
        o.finite_ensemble().standard_error, {"x1": o.data()[0]}, samples={"x2": o.data()[2]}
    ),
    "kernels.EmpiricalKernel.targets": lambda: Call(o.finite_kernel().targets, {"y": o.data()[1]}),
    "kernels.features": lambda: Call(
        ni.kernels.features,
        {"function": o.finite_kernel(), "projection": 2, "key": o.KEY},
        {"function": "thing", "projection": "size"},
    ),
    "kernels.FeatureKernel.of": lambda: Call(o.feature_kernel().of, {"x": o.data()[0]}),
    "kernels.block_size": lambda: Call(ni.kernels.block_size, {"x": o.data()[0]}),
    "kernels.correlated": lambda: Call(
        ni.kernels.correlated,
        {"net": o.network(), "x1": o.data()[0], "rho": 0.5},
        {"rho": "finite"},
        samples={"x2": o.data()[2]},
    ),
    "kernels.diagonal": lambda: Call(
        ni.kernels.diagonal, {"net": o.network(), "x": o.data()[0], "kernel": "nngp"}, {"kernel": "option"}
    ),
    "kernels.has_hessian": lambda: Call(ni.kernels.has_hessian, {"net": o.network()}, {"net": "thing"}),
    "kernels.hessian": lambda: _kernels(ni.kernels.hessian),
    "kernels.kernels": lambda: _kernels(ni.kernels.kernels),
    "kernels.inputs": lambda: Call(ni.kernels.inputs, {"name": "x", "x": o.data()[0]}),
    # Ensembles and posteriors.
    "ensemble.labels": lambda: Call(ni.ensemble.labels, {"name": "y", "y": o.data()[1], "n": 6}),
    "ensemble.Ensemble.fit": lambda: Call(
        ni.Ensemble.fit,
        {"net": o.network(), "progress": False, **_data("x", "y")},
        {"mean": "thing"},
        samples={"batch_size": 4},
    ),
    "ensemble.Ensemble.from_kernels": lambda: Call(
        ni.Ensemble.from_kernels,
        {"kernel_fn": o.network()[2], "both": o.kernel(True), **_data("x", "y")},
        {"kernel_fn": "callable", "both": "object", "mean": "thing"},
    ),
    "ensemble.Ensemble.check_inputs": lambda: Call(o.ens().check_inputs, {"name": "x", "x": o.data()[2]}),
    "ensemble.Ensemble.cross_kernels": lambda: Call(
        o.ens().cross_kernels,
        _data("x_test"),
        {"prior": "floats", "offset": "floats"},
        samples={"batch_size": 4, "prior": np.ones(4), "offset": np.ones((4, 1))},
    ),
    "ensemble.standard_error": lambda: Call(
        ni.ensemble.standard_error, {"ens": o.ens_of_networks(), "t": o.T, **_data("x_test")}, {"ens": "object"}
    ),
    "ensemble.Ensemble.predict": lambda: Call(o.ens().predict, {"t": o.T, **_data("x_test")}),
    "ensemble.Ensemble.predict_train": lambda: Call(o.ens().predict_train, {"t": o.T}),
    "ensemble.KrylovEnsemble.check_inputs": lambda: Call(o.krylov().check_inputs, {"name": "x", "x": o.data()[2]}),
    "ensemble.KrylovEnsemble.predict": lambda: Call(
        o.krylov().predict, {"t": o.T, **_data("x_test")}, samples={"batch_size": 4, "max_steps": 4}
    ),
    "ensemble.KrylovEnsemble.predict_train": lambda: Call(o.krylov().predict_train, {"t": o.T}),
    "ensemble.KrylovEnsemble.spectral_sums": lambda: Call(o.krylov().spectral_sums, {"key": o.KEY, "n_probes": 8}),
    "ensemble.SpectralSums.training_losses": lambda: Call(o.krylov().default_sums.training_losses, {"t": o.T}),
    "ensemble.SpectralSums.log_det": lambda: Call(o.krylov().default_sums.log_det, {"noise": 0.1}),
    "ensemble.SpectralSums.log_marginal_likelihood": lambda: Call(
        o.krylov().default_sums.log_marginal_likelihood, {"noise": 0.1}
    ),
    "ensemble.SpectralSums.information_gain": lambda: Call(o.krylov().default_sums.information_gain, {"noise": 0.1}),
    "ensemble.SpectralSums.posterior_divergence": lambda: Call(
        o.krylov().default_sums.posterior_divergence, {"noise": 0.1}
    ),
    "ensemble.FeatureEnsemble.check_inputs": lambda: Call(
        o.of_features().check_inputs, {"name": "x", "x": o.data()[2]}
    ),
    "ensemble.FeatureEnsemble.cross_kernels": lambda: Call(
        o.of_features().cross_kernels, _data("x_test"), samples={"batch_size": 4}
    ),
    "ensemble.FeatureEnsemble.predict": lambda: Call(
        o.of_features().predict, {"t": o.T, **_data("x_test")}, samples={"batch_size": 4}
    ),
    "ensemble.FeatureEnsemble.predict_train": lambda: Call(o.of_features().predict_train, {"t": o.T}),
    "posterior.FeaturePosterior.leave_one_out": lambda: Call(
        o.feature_posterior().leave_one_out, {}, samples={"batch_size": 4}
    ),
    "posterior.FeaturePosterior.predict": lambda: Call(
        o.feature_posterior().predict, _data("x_test"), samples={"batch_size": 4}
    ),
    "posterior.FeaturePosterior.predict_train": lambda: Call(o.feature_posterior().predict_train, {}),
    "posterior.KrylovPosterior.predict": lambda: Call(
        o.krylov_posterior().predict, _data("x_test"), samples={"batch_size": 4, "max_steps": 4}
    ),
    "posterior.KrylovPosterior.predict_train": lambda: Call(o.krylov_posterior().predict_train, {}),
    "distributed.mesh": lambda: Call(ni.distributed.mesh, {"devices": jax.devices()}, {"devices": "thing"}),
    "posterior.Posterior.fit": lambda: Call(
        ni.Posterior.fit,
        {"net": o.network(), "progress": False, **_data("x", "y")},
        {"noise": "noises", "mean": "thing", "scale": "noise"},
        samples={"batch_size": 4},
    ),
    "posterior.Posterior.from_kernel": lambda: Call(
        ni.Posterior.from_kernel,
        {"kernel_fn": o.network()[2], "q": o.kernel(), **_data("x", "y")},
        {"kernel_fn": "callable", "noise": "noises", "q": "floats", "mean": "thing", "scale": "noise"},
    ),
    "posterior.Posterior.learn": lambda: Call(
        ni.Posterior.learn,
        {
            "build": o.of_scale,
            "init": {"w_std": 1.0},
            "noise": 0.1,
            "max_steps": 2,
            "progress": False,
            **_data("x", "y"),
        },
        {"init": "mapping", "factor": "positive", "noise": "noises"},
    ),
    "posterior.Posterior.predict": lambda: Call(o.posterior().predict, _data("x_test")),
    "posterior.Posterior.predict_train": lambda: Call(o.posterior().predict_train, {}),
    # Information.
    "information.action": lambda: Call(ni.information.action, {"ens": o.ens(), "t": o.T}),
    "information.curve": lambda: Call(
        ni.information.curve, {"ens": o.ens(), "t": o.T, **_data("x_test", "y_test")}, samples={"method": "exact"}
    ),
    "information.fisher_trace": lambda: Call(ni.information.fisher_trace, {"ens": o.ens()}),
    "information.input_information": lambda: Call(
        ni.information.input_information, {"z": o.z()}, samples={"method": "exact"}
    ),
    "information.is_saturated": lambda: Call(ni.information.is_saturated, {"information": o.information(), "m": 4}),
    "information.label_information": lambda: Call(
        ni.information.label_information,
        {"z": o.z(), "labels": o.data()[3]},
        {"noise": "noise"},
        samples={"method": "exact"},
    ),
    "information.losses": lambda: Call(ni.information.losses, {"z": o.z(), "y": o.data()[3]}),
    "information.output_divergence": lambda: Call(
        ni.information.output_divergence,
        {"ens": o.ens(), "t": o.T, **_data("x_test")},
        samples={"label_covariance": np.eye(6)},
    ),
    "information.parameter_distance": lambda: Call(ni.information.parameter_distance, {"ens": o.ens(), "t": o.T}),
    "information.parameter_divergence": lambda: Call(
        ni.information.parameter_divergence,
        {"ens": o.ens(), "t": o.T},
        {"t": "finite times"},
        samples={"hessian": np.eye(6), "batch_size": 4, "label_covariance": np.eye(6)},
    ),
    "information.data_information": lambda: Call(
        ni.information.data_information,
        {"ens": o.ens(), "t": o.T, "label_covariance": np.eye(6), **_data("x_test")},
    ),
    # Examples, conditional mutual information, learning curves, layers.
    "examples.value": lambda: Call(
        ni.examples.value,
        {"source": o.ens(), "t": o.T},
        {"source": "object", "test": "floats", "groups": "groups"},
        infinite=True,
        samples={"test": o.data()[2], "groups": np.array([0, 1, 0, 1, 2, 2]), "batch_size": 4},
    ),
    "examples.select": lambda: Call(
        ni.examples.select, {"net": o.network(), "x": o.data()[0], "n": 2}, samples={"batch_size": 4}
    ),
    "cmi.leave_one_out": lambda: Call(ni.cmi.leave_one_out, {"ens": o.ens()}, infinite=True, samples={"t": o.T}),
    "cmi.supersample": lambda: Call(
        ni.cmi.supersample,
        {"net": o.network(), "t": o.T, "draws": 8, "key": o.KEY, **_data("x", "y")},
        {"draws": "size", "outputs": "flag"},
        infinite=True,
        samples={"batch_size": 4},
    ),
    "learning.curve": lambda: Call(
        ni.learning.curve,
        {"net": o.network(), "n": np.array([2, 3]), "noise": 0.1, "key": o.KEY, **_data("x", "y")},
        {"n": "size or sizes", "noise": "not negative", "draws": "count"},
        samples={"batch_size": 4, "draws": 2},
    ),
    "learning.forecast": lambda: Call(ni.learning.forecast, {"source": o.ens()}, {"source": "object"}),
    "learning.alignment": lambda: Call(ni.learning.alignment, {"source": o.ens()}, {"source": "object"}),
    "layers.information": lambda: Call(
        ni.layers.information,
        {"net": [ni.stax.Dense(4), ni.stax.Erf()], "x": o.data()[0], "snr": 2.0},
        {"net": "object", "y": "labels", "snr": "positive"},
        samples={"y": np.array([0, 1, 0, 1, 0, 1]), "key": o.KEY},
    ),
    "layers.of_activations": lambda: Call(
        ni.layers.of_activations,
        {"activations": [o.data()[0], o.data()[0]], "snr": 2.0},
        {"activations": "object", "y": "labels", "snr": "positive"},
        samples={"y": np.array([0, 1, 0, 1, 0, 1]), "key": o.KEY},
    ),
    "sweep.grid": lambda: Call(
        ni.sweep.grid,
        {
            "build": o.build,
            "data": ni.datasets.gaussian(6, 4),
            "t": o.T,
            "axes": {"w": [1.0], "b": [0.1]},
            "progress": False,
        },
        {"data": "object", "axes": "object", "executor": "thing"},
    ),
    "sweep.Grid.band": lambda: Call(
        _grid().band, {"quantity": "action"}, {"over": "option", "coverage": "probability"}
    ),
    "sweep.Grid.to_dataframe": lambda: Call(_grid().to_dataframe, {}),
    "sweep.scales": lambda: Call(
        ni.sweep.scales,
        {"build": o.build, "t": o.T, "w_std": [1.0], "progress": False, **_data("x", "y", "x_test", "y_test")},
        {"w_std": "positive numbers", "b_std": "positive numbers"},
        samples={"b_std": np.array([0.1])},
    ),
    # Content and bounds.
    "content.information_content": lambda: Call(
        ni.content.information_content,
        {"net": o.network(), "x": o.data()[0], "labels": o.data()[1], "key": o.KEY, "n_samples": 512},
    ),
    "content.of_kernel": lambda: Call(
        ni.content.of_kernel, {"kernel": o.kernel(), "labels": o.data()[1], "key": o.KEY, "n_samples": 512}
    ),
    "content.positive_probability": lambda: Call(
        ni.content.positive_probability,
        {"kernel": o.kernel(), "labels": o.data()[1], "cross": np.full((2, 6), 0.1), "own": np.full(2, 3.0)}
        | {"key": o.KEY, "n_samples": 512},
    ),
    "content.upper_bound": lambda: Call(ni.content.upper_bound, {"kernel": o.kernel(), "labels": o.data()[1]}),
    "bounds.binary_kl": lambda: _bound(ni.bounds.binary_kl, q=0.1, p=0.2),
    "bounds.binary_kl_inverse": lambda: _bound(ni.bounds.binary_kl_inverse, q=0.1, bound=0.2),
    "bounds.catoni": lambda: _bound(ni.bounds.catoni, risk=0.1, kl=3.0, n=100),
    "bounds.conditional_compression": lambda: _bound(ni.bounds.conditional_compression, p_zy=o.joint(), n=100),
    "bounds.information_content": lambda: _bound(ni.bounds.information_content, content=3.0, n=100),
    "bounds.input_compression": lambda: _bound(ni.bounds.input_compression, information=3.0, n=100),
    "bounds.mcallester": lambda: _bound(ni.bounds.mcallester, risk=0.1, kl=3.0, n=100),
    "bounds.pac_bayes_kl": lambda: _bound(ni.bounds.pac_bayes_kl, risk=0.1, kl=3.0, n=100),
    "bounds.xu_raginsky": lambda: _bound(ni.bounds.xu_raginsky, information=3.0, n=100, sub_gaussian=0.5),
    # Finite networks.
    "finite.activations": lambda: Call(
        ni.finite.activations,
        {"run": o.layer_run(), "x": o.layer_task()[0]},
        {"index": "tuple"},
        samples={"index": (0, 0)},
    ),
    "finite.gradient_phases": lambda: Call(ni.finite.gradient_phases, {"run": o.layer_run()}),
    "finite.information_plane": lambda: Call(
        ni.finite.information_plane,
        {"run": o.layer_run(), "x": o.layer_task()[0], "p_y_given_x": np.eye(2)[o.layer_task()[1]], "bins": 3}
        | {"progress": False},
        {"variance": "positive"},
        samples={"p_x": np.full(8, 1 / 8)},
    ),
    "finite.kernel_flow": lambda: Call(ni.finite.kernel_flow, {"run": o.run(), "ens": o.ens(), **_data("x_test")}),
    "finite.stability_limit": lambda: Call(ni.finite.stability_limit, {"net": o.network(), **_data("x", "y")}),
    "finite.summary": lambda: Call(
        ni.finite.summary,
        {"run": o.run(), **_data("y_test")},
        {"prior": "variances"},
        samples={"prior": np.ones(4), "method": "exact"},
    ),
    "finite.train": lambda: Call(
        ni.finite.train,
        {"net": o.network(), "t": np.array([0.0, 1.0]), "n_networks": 2, "key": o.KEY, "progress": False}
        | _data("x", "y", "x_test"),
        {"t": "finite times"},
        nan=(".stability_limit",),
    ),
    "finite.train_layers": lambda: Call(
        ni.finite.train_layers,
        {"sizes": (3, 2, 2), "x": o.layer_task()[0], "y": o.layer_task()[1], "epochs": 2, "n_networks": 2}
        | {"key": o.KEY, "batch_size": 4, "record": 2, "progress": False},
        {"y": "classes or booleans", "y_test": "classes or booleans", "sizes": "sizes", "activation": "options"}
        | {"record": "size or sizes"},
        samples={"x_test": o.layer_task()[0], "y_test": o.layer_task()[1]},
    ),
    # Compression.
    "compression.gaussian_layer_bound": lambda: Call(
        ni.compression.gaussian_layer_bound, {"weight": np.ones((3, 2)), "cov_t": np.eye(3), "cov_noise": np.eye(2)}
    ),
    "compression.measured_compression_time": lambda: Call(
        ni.compression.measured_compression_time,
        {"epochs": np.array([0, 1, 10, 100]), "i_xt": np.array([1.0, 3.0, 2.0, 1.0])},
        {"epochs": "finite numbers"},
    ),
    "compression.relaxation_times": lambda: Call(
        ni.compression.relaxation_times, {"delta_s": np.array([1.0, 2.0])}, {"delta_s": "variances"}, True
    ),
    "compression.weight_noise_bound": lambda: Call(
        ni.compression.weight_noise_bound,
        {"weight": np.ones((3, 2)), "activations": o.rng().normal(size=(5, 3)), "std": 0.1},
    ),
    # Bottlenecks.
    "bottleneck.confidence_band": lambda: Call(
        ni.bottleneck.confidence_band,
        {"counts": np.array([[30.0, 10.0], [5.0, 55.0]]), "encoder": np.eye(2)},
        {"counts": "floats", "draws": "size"},
        samples={"key": o.KEY},
    ),
    "bottleneck.bayes_error": lambda: Call(
        ni.bottleneck.bayes_error,
        {"p_z_given_y": np.array([[0.9, 0.1], [0.2, 0.8]]), "p_y": np.array([0.5, 0.5]), "n": 3},
    ),
    "bottleneck.bifurcation": lambda: _bottleneck(ni.bottleneck.bifurcation),
    "bottleneck.chernoff": lambda: Call(
        ni.bottleneck.chernoff, {"p": np.array([0.9, 0.1]), "q": np.array([0.2, 0.8])}, infinite=True
    ),
    "bottleneck.closest": lambda: Call(
        ni.bottleneck.closest,
        {"curve": o.bottleneck_curve(), "i_xz": 0.3, "i_zy": 0.05},
        {"i_xz": "positive numbers", "i_zy": "finite numbers"},
        True,
    ),
    "bottleneck.critical_betas": lambda: Call(ni.bottleneck.critical_betas, {"p_xy": o.joint(), "beta_max": 5.0}),
    "bottleneck.deterministic_ib": lambda: _bottleneck(ni.bottleneck.deterministic_ib),
    "bottleneck.dual_ib": lambda: _bottleneck(ni.bottleneck.dual_ib, progress=False),
    "bottleneck.encoder_point": lambda: Call(
        ni.bottleneck.encoder_point, {"p_xy": o.joint(), "encoder": np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])}
    ),
    "bottleneck.gaussian_curve": lambda: _gaussian(
        ni.bottleneck.gaussian_curve, i_xz=np.array([0.1, 0.5]), kinds={"i_xz": "positive numbers"}
    ),
    "bottleneck.gaussian_ib": lambda: _gaussian(ni.bottleneck.gaussian_ib, beta=np.array([2.0, 20.0])),
    "bottleneck.generalised_ib": lambda: _bottleneck(ni.bottleneck.generalised_ib, alpha=0.5, progress=False),
    "bottleneck.hull": lambda: Call(ni.bottleneck.hull, {"curve": o.bottleneck_curve()}),
    "bottleneck.ib": lambda: _bottleneck(ni.bottleneck.ib, progress=False),
    "bottleneck.own_beta": lambda: Call(
        ni.bottleneck.own_beta,
        {"p_xy": o.joint(), "encoder": np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])},
        infinite=True,
    ),
    "bottleneck.prediction_exponent": lambda: Call(
        ni.bottleneck.prediction_exponent,
        {"p_xy": o.joint(), "encoder": np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])},
        infinite=True,
    ),
    "bottleneck.smooth": lambda: Call(ni.bottleneck.smooth, {"p_xy": o.joint(), "epsilon": 0.1}),
    "bottleneck.squared_ib": lambda: _bottleneck(ni.bottleneck.squared_ib),
    # Distributions.
    "discrete.check_conditional": lambda: Call(
        ni.discrete.check_conditional,
        {"name": "table", "table": np.array([[0.9, 0.1], [0.2, 0.8]]), "shape": (2, None)},
        {"shape": "shape"},
    ),
    "discrete.check_joint": lambda: Call(ni.discrete.check_joint, {"name": "p_xy", "p_xy": o.joint()}),
    "discrete.entropy": lambda: Call(ni.discrete.entropy, {"p": np.array([0.9, 0.1])}, {"axis": "axis"}),
    "discrete.is_deterministic": lambda: Call(ni.discrete.is_deterministic, {"p_xy": o.joint()}),
    "discrete.kl": lambda: Call(
        ni.discrete.kl, {"p": np.array([0.9, 0.1]), "q": np.array([0.2, 0.8])}, {"axis": "axis"}, True
    ),
    "discrete.merge_rows": lambda: Call(ni.discrete.merge_rows, {"p_xy": o.joint()}),
    "discrete.mutual_information": lambda: Call(ni.discrete.mutual_information, {"p_xy": o.joint()}),
    "discrete.smooth": lambda: Call(ni.discrete.smooth, {"p_xy": o.joint(), "epsilon": 0.1}),
    "gaussian.Gaussian.log_prob": lambda: Call(o.z().log_prob, {"y": o.data()[3]}, {"noise": "not negative"}),
    "gaussian.Gaussian.sample": lambda: Call(o.z(True).sample, {"key": o.KEY, "shape": (2,)}, {"shape": "sizes"}),
    "gaussian.check_marginals": lambda: Call(
        ni.gaussian.check_marginals, {"name": "p", "p": o.z()}, {"p": "object", "zero": "flag"}
    ),
    "gaussian.entropy": lambda: Call(ni.gaussian.entropy, {"p": o.z(True)}, {"p": "object"}),
    "gaussian.kl_divergence": lambda: Call(
        ni.gaussian.kl_divergence, {"p": o.z(True), "q": o.z(True)}, {"p": "object", "q": "object"}
    ),
    "gaussian.log_prob": lambda: Call(
        ni.gaussian.log_prob, {"p": o.z(), "y": o.data()[3]}, {"p": "object", "noise": "not negative"}
    ),
    "gaussian.sign_error": lambda: Call(ni.gaussian.sign_error, {"p": o.z(), "y": o.data()[3]}, {"p": "object"}),
    "gaussian.winning_probabilities": lambda: Call(ni.gaussian.winning_probabilities, _channel(2)),
    "mixture.exact": lambda: Call(ni.mixture.exact, _channel()),
    "mixture.exact_pair": lambda: Call(ni.mixture.exact_pair, _channel() | {"one_hot": ONE_HOT}),
    "mixture.is_saturated": lambda: Call(ni.mixture.is_saturated, {"information": o.information(), "m": 4}),
    "mixture.label_exact": lambda: _labelled(ni.mixture.label_exact, 1),
    "mixture.label_minibatch": lambda: _labelled(ni.mixture.label_minibatch, **_SAMPLED),
    "mixture.label_monte_carlo": lambda: _labelled(ni.mixture.label_monte_carlo, **_SAMPLED),
    "mixture.label_pairwise": lambda: _labelled(ni.mixture.label_pairwise),
    "mixture.minibatch": lambda: Call(ni.mixture.minibatch, _channel(2) | _SAMPLED),
    "mixture.minibatch_pair": lambda: Call(ni.mixture.minibatch_pair, _channel(2) | {"one_hot": ONE_HOT} | _SAMPLED),
    "mixture.monte_carlo": lambda: Call(ni.mixture.monte_carlo, _channel(2) | _SAMPLED),
    "mixture.monte_carlo_pair": lambda: Call(
        ni.mixture.monte_carlo_pair, _channel(2) | {"one_hot": ONE_HOT} | _SAMPLED
    ),
    "mixture.one_hot": lambda: Call(ni.mixture.one_hot, {"labels": CLASSES, "n_classes": 2}, {"labels": "classes"}),
    "mixture.pair": lambda: Call(
        ni.mixture.pair, _channel(2) | {"one_hot": ONE_HOT} | _SAMPLED, samples={"method": "monte_carlo"}
    ),
    "mixture.pairwise": lambda: Call(ni.mixture.pairwise, _channel(2)),
    "mixture.pairwise_pair": lambda: Call(ni.mixture.pairwise_pair, _channel(2) | {"one_hot": ONE_HOT}),
    "mixture.require_key": lambda: Call(ni.mixture.require_key, {"key": o.KEY, "what": "this"}, {"what": "name"}),
    "mixture.refuse_impossible": lambda: Call(ni.mixture.refuse_impossible, {"information": o.information(), "m": 4}),
    "mixture.select_method": lambda: Call(
        ni.mixture.select_method,
        {"method": "exact", "k": 1, "key": None},
        {"method": "option or None", "key": "key or None"},
    ),
    "mixture.warn_if_inaccurate": lambda: Call(ni.mixture.warn_if_inaccurate, {"information": o.information()}),
    # Estimators from samples.
    "estimators.binned": lambda: Call(
        ni.estimators.binned, {"x": _SAMPLES, "y": _BITS}, _BINS, samples={"range": (-1.0, 1.0)}
    ),
    "estimators.conditional": lambda: Call(
        ni.estimators.conditional,
        {"x": _SAMPLES, "y": _BITS, "z": _BITS[::-1], "bins": 3},
        {"x": "samples", "y": "samples", "z": "samples"},
    ),
    "estimators.compare": lambda: Call(
        ni.estimators.compare,
        {"x": _SAMPLES[:, 0], "y": _SAMPLES[:, 1], "bins": 3, "estimators": ["plug_in", "ksg"]},
        {"x": "samples", "y": "samples", "key": "key or None"},
        True,
    ),
    "estimators.Comparison.to_dataframe": lambda: Call(
        ni.estimators.compare(_SAMPLES[:, 0], _BITS, bins=3).to_dataframe, {"unit": "bits"}, {"unit": "option or None"}
    ),
    "estimators.Extrapolation.to_dataframe": lambda: Call(
        ni.estimators.extrapolate(_SAMPLES[:, 0], _BITS, bins=3, key=o.KEY).to_dataframe,
        {"unit": "bits"},
        {"unit": "option or None"},
        True,
    ),
    "estimators.Significance.to_dataframe": lambda: Call(
        ni.estimators.significance(_SAMPLES[:, 0], _BITS, bins=3, key=o.KEY, n_shuffles=9).to_dataframe,
        {"unit": "bits"},
        {"unit": "option or None"},
    ),
    "estimators.differential_entropy": lambda: Call(
        ni.estimators.differential_entropy, {"x": _SAMPLES}, {"x": "samples"}, True
    ),
    "estimators.entropy": lambda: Call(
        ni.estimators.entropy, {"x": _BITS}, {"x": "samples"}, True, samples={"n_values": 5}
    ),
    "estimators.extrapolate": lambda: Call(
        ni.estimators.extrapolate,
        {"x": _SAMPLES[:, 0], "y": _BITS, "key": o.KEY, "n_partitions": 2},
        {"x": "samples", "y": "samples"},
    ),
    "estimators.significance": lambda: Call(
        ni.estimators.significance,
        {"x": _SAMPLES[:, 0], "y": _BITS, "key": o.KEY, "n_shuffles": 9},
        {"x": "samples", "y": "samples"},
    ),
    "estimators.layer_cells": lambda: Call(
        ni.estimators.layer_cells,
        {"activations": o.rng(3).normal(size=(5, 2))},
        _BINS,
        samples={"range": (-5.0, 5.0)},
    ),
    "estimators.binned_layer": lambda: _layer(ni.estimators.binned_layer),
    "estimators.quantised_layer": lambda: _layer(ni.estimators.quantised_layer),
    "estimators.infonce": lambda: Call(
        ni.estimators.infonce,
        {"x": _SAMPLES, "t": _SAMPLES, "key": o.KEY, "hidden": (4,), "embedding": 2, "batch_size": 8, "steps": 2}
        | {"progress": False},
        {"x": "samples", "t": "samples"},
        True,
    ),
    "estimators.kde": lambda: Call(
        ni.estimators.kde,
        {"t": _SAMPLES, "y": _BITS, "variance": 0.1},
        {"t": "floats", "y": "samples", "variance": "positive"},
    ),
    "estimators.kde_pair": lambda: Call(
        ni.estimators.kde_pair,
        {"t": _SAMPLES, "y": _BITS, "variance": 0.1},
        {"t": "floats", "y": "samples", "variance": "positive"},
    ),
    "estimators.ksg": lambda: Call(ni.estimators.ksg, {"x": _SAMPLES, "y": _SAMPLES}, {"x": "samples", "y": "samples"}),
    # Data.
    "datasets.TwelveBit.draw": lambda: Call(ni.datasets.twelve_bit().draw, {"seed": 0}),
    "datasets.csv": lambda: Call(
        ni.datasets.csv,
        {"path": o.csv_file(), "target": "label", "n_train": 8, "n_test": 4},
        {"target": "options", "columns": "columns"},
    ),
    "datasets.digits": lambda: Call(ni.datasets.digits, {"n_train": 20, "n_test": 10}),
    "datasets.from_arrays": lambda: Call(
        ni.datasets.from_arrays,
        {"x": o.rng().normal(size=(12, 3)), "y": np.arange(12) % 2, "n_train": 8, "n_test": 4},
        {"x": "floats", "y": "labels"},
    ),
    "datasets.gaussian": lambda: Call(
        ni.datasets.gaussian, {"n_train": 20, "n_test": 10, "dim": 3}, {"information": "not negative"}
    ),
    "datasets.mnist": lambda: Call(ni.datasets.mnist, {"folder": _mnist(), "n_train": 10, "n_test": 5}),
    "datasets.npz": lambda: Call(ni.datasets.npz, {"path": o.table_file(), "n_train": 8, "n_test": 4}),
    "datasets.one_hot": lambda: Call(ni.datasets.one_hot, {"labels": CLASSES}, {"labels": "classes"}),
    # Any two values are two classes, and negative numbers are even or odd as well.
    "datasets.parity": lambda: Call(ni.datasets.parity, {"labels": CLASSES}, {"labels": "samples"}),
    "datasets.subsample": lambda: Call(ni.datasets.subsample, {"n": 10, "sizes": (3, 2)}, {"sizes": "sizes"}),
    "datasets.twelve_bit": lambda: Call(
        ni.datasets.twelve_bit, {"labels": "soft"}, {"labels": "option", "information": "positive"}
    ),
    # Figures.
    "plot.animate": lambda: _of_result(ni.plot.animate, plane=o.plane()),
    "plot.bifurcation": lambda: _of_result(ni.plot.bifurcation, result=o.bifurcation()),
    "plot.bottleneck": lambda: _of_result(ni.plot.bottleneck, {"curves": "object"}, curves=o.bottleneck_curve()),
    "plot.curve": lambda: _of_result(ni.plot.curve, result=o.curve()),
    "plot.divergence": lambda: _of_result(ni.plot.divergence, result=o.curve()),
    "plot.dynamics": lambda: _of_result(ni.plot.dynamics, sweep=o.variational_sweep(), samples={"objective": "vib"}),
    "plot.estimators": lambda: _of_result(
        ni.plot.estimators, {"planes": "object", "columns": "size"}, planes=[o.plane()]
    ),
    "plot.finite": lambda: Call(
        ni.plot.finite,
        {"result": o.curve(), "samples": {"gibbs_mse": (o.T, np.ones(3), np.full(3, 0.1))}},
        {"samples": "object"},
    ),
    "plot.geometry": lambda: _of_result(ni.plot.geometry, result=o.curve()),
    "plot.examples": lambda: _of_result(ni.plot.examples, {"value": "object"}, value=ni.examples.value(o.posterior())),
    "plot.cmi": lambda: _of_result(ni.plot.cmi, {"found": "object"}, found=o.supersample(), t=o.T),
    "plot.learning": lambda: _of_result(
        ni.plot.learning,
        {"found": "object"},
        found=ni.learning.curve(o.network(), *o.data()[:2], np.array([2, 3]), 0.1),
    ),
    "plot.gradients": lambda: _of_result(ni.plot.gradients, {"layers": "sizes"}, phases=o.phases()),
    "plot.layers": lambda: _of_result(ni.plot.layers, plane=o.plane()),
    "plot.losses": lambda: _of_result(ni.plot.losses, result=o.curve()),
    "plot.network": lambda: _of_result(ni.plot.network, {"report": "object"}, report=o.network_report()),
    "plot.plane": lambda: _of_result(ni.plot.plane, results=o.curve()),
    "plot.summary": lambda: _of_result(ni.plot.summary, result=o.curve()),
    "plot.sweep": lambda: _of_result(
        ni.plot.sweep,
        {"values": "floats or nan", "w_std": "positive numbers", "b_std": "positive numbers"},
        values=np.ones((2, 1)),
        w_std=np.array([1.0, 2.0]),
        b_std=np.array([0.1]),
    ),
    "plot.training": lambda: _of_result(ni.plot.training, run=o.layer_run()),
    "plot.variational": lambda: _of_result(ni.plot.variational, sweep=o.variational_sweep()),
    "plot.variational_error": lambda: _of_result(ni.plot.variational_error, sweep=o.variational_sweep()),
    # Variational bottlenecks.
    "variational.VariationalFit.decode": lambda: Call(o.fit().decode, {"z": np.ones((5, 2))}, {"z": "floats"}),
    "variational.VariationalFit.encode": lambda: Call(o.fit().encode, {"x": o.variational_data()[0]}),
    "variational.VariationalFit.predict": lambda: Call(o.fit().predict, {"x": o.variational_data()[0], "key": o.KEY}),
    "variational.error_under_noise": lambda: _variational(
        ni.variational.error_under_noise, fit=o.fit(), stds=np.array([0.1]), key=o.KEY
    ),
    "variational.fit": lambda: _variational(ni.variational.fit, beta=5.0, key=o.KEY, **_FITTED),
    "variational.learning_curve": lambda: _variational(
        functools.partial(ni.variational.learning_curve, beta=5.0, encoder=o.encoder(), latent=2, steps=2, record=1),
        sizes=(4, 6),
        x_test=o.variational_data()[0],
        y_test=o.variational_data()[1],
        key=o.KEY,
        repeats=1,
        progress=False,
    ),
    "variational.measure": lambda: _variational(ni.variational.measure, fit=o.fit(), key=o.KEY),
    "variational.required_information": lambda: Call(
        ni.variational.required_information, {"sweep": o.variational_sweep()}, infinite=True
    ),
    "variational.sweep": lambda: _variational(
        ni.variational.sweep, betas=np.array([2.0, 5.0]), key=o.KEY, names="vib", **_FITTED
    ),
    "variational.encoders.conv": lambda: Call(
        ni.variational.encoders.conv, {"outputs": 4}, {"channels": "sizes", "hidden": "size"}
    ),
    "variational.encoders.linear": lambda: Call(ni.variational.encoders.linear, {"outputs": 4}),
    "variational.encoders.mlp": lambda: Call(ni.variational.encoders.mlp, {"outputs": 4}),
    "variational.label_noise.confusion": lambda: Call(
        ni.variational.label_noise.confusion, {"matrix": np.array([[0.9, 0.1], [0.2, 0.8]])}
    ),
    "variational.label_noise.gaussian": lambda: Call(ni.variational.label_noise.gaussian, {"std": 0.5}),
    "variational.label_noise.model": lambda: Call(
        ni.variational.label_noise.model,
        {"probabilities": np.array([[0.9, 0.1], [0.2, 0.8]])},
        {"probabilities": "probabilities"},
    ),
    "variational.label_noise.smoothing": lambda: Call(ni.variational.label_noise.smoothing, {"epsilon": 0.1}),
}
# Handed on from another module: the same function, fuzzed once.
SAME = {
    "kernels.kernel_function": "networks.kernel_function",
    "mixture.Information.to_dataframe": "information.Information.to_dataframe",
    **{
        f"variational.encoders.Network.{name}": f"networks.Network.{name}" for name in ("at", "check", "require_params")
    },
    "variational.encoders.from_equinox": "networks.from_equinox",
    "variational.encoders.from_flax": "networks.from_flax",
    "variational.encoders.from_stax": "networks.from_stax",
}


def _kernels(function):
    valid = {"net": o.network(), "x1": o.data()[0], "progress": False}
    return Call(function, valid, samples={"x2": o.data()[2], "batch_size": 4})


def _bound(function, **arguments):
    return Call(
        function,
        arguments,
        {"q": "numbers", "p": "numbers", "bound": "numbers", "content": "numbers", "n": "positive numbers"}
        | {"information": "numbers", "delta": "positive numbers"},
        True,
    )


def _gaussian(function, kinds=None, **arguments):
    cov_x, cov_y, cov_xy = o.covariances()
    # Y has one dimension: its variance may be a number.
    kinds = {"cov_y": "number or floats"} | (kinds or {})
    return Call(function, {"cov_x": cov_x, "cov_y": cov_y, "cov_xy": cov_xy} | arguments, kinds, True)


def _labelled(function, outputs=2, **arguments):
    return Call(function, _channel(outputs) | {"labels": CLASSES, "n_classes": 2} | arguments, {"labels": "classes"})


def _layer(function):
    valid = {"activations": o.rng(3).normal(size=(5, 2)), "p_y_given_x": np.eye(2)[[0, 1, 0, 1, 0]]}
    return Call(function, valid, _BINS, samples={"range": (-1.0, 1.0), "p_x": np.full(5, 0.2)})


def call(name: str) -> Call:
    return TABLE[name]()


def unknown_parameters(name: str) -> list[str]:
    """Parameters of a call that have no kind."""
    this = call(name)
    return [each for each in parameters(this.function) if each not in this.kinds and each not in KINDS]
