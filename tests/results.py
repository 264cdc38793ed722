"""An object of every class of results: from small calls where it has a network, else from its annotations."""

import types
import typing

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import cmi, datasets, discrete, ensemble, estimators, examples, layers, learning
from ntkinfo._common import registry
from ntkinfo._common.results import Information
from ntkinfo.bottleneck import gaussian_ib
from ntkinfo.gaussian import Gaussian
from ntkinfo.variational import LearningCurve
from tests.fuzz import objects as o

# What has functions or objects in it is computed; the fuzz has them already.
COMPUTED = {
    "ensemble.Ensemble": o.ens,
    "ensemble.FeatureEnsemble": o.of_features,
    "ensemble.KrylovEnsemble": o.krylov,
    "ensemble.SpectralSums": lambda: o.krylov().default_sums,
    "posterior.FeaturePosterior": o.feature_posterior,
    "posterior.KrylovPosterior": o.krylov_posterior,
    "posterior.LearnedPosterior": o.learned,
    "posterior.Posterior": o.posterior,
    "variational.VariationalFit": o.fit,
    "information.Curve": o.curve,
    "finite.LayerRun": o.layer_run,
    "finite.Run": o.run,
    "finite.Plane": o.plane,
    "bottleneck.BottleneckCurve": o.bottleneck_curve,
    "bottleneck.Bifurcation": o.bifurcation,
    "gaussian.Gaussian": lambda: o.z(True),
    "networks.NetworkReport": o.network_report,
    "discrete.JointTable": lambda: discrete.from_counts([[3, 1], [0, 2]]),
    "finite.GradientPhases": o.phases,
    "variational.Sweep": o.variational_sweep,
    "kernels.Kernels": lambda: o.kernel(True),
    "bottleneck.Branch": lambda: o.bifurcation().optimum,
    "bottleneck.GaussianBottleneck": lambda: gaussian_ib(*o.covariances(), np.array([2.0, 5.0])),
    "datasets.Dataset": lambda: datasets.gaussian(4, 2, dim=3),
    "variational.LearningCurve": lambda: LearningCurve(np.array([2, 4]), *np.arange(12.0).reshape(3, 2, 2)),
    # Axes of their own, or a unit.
    "information.Information": lambda: information(),
    "ensemble.Prediction": lambda: ensemble.Prediction(
        random(2, 3, 1), random(2, 3), Gaussian(random(2, 3, 1), random(2, 3)), 1e-3, (4,), True
    ),
    "ensemble.PredictiveError": lambda: ensemble.PredictiveError(random(2, 3, 1), random(2, 3)),
    "examples.ExampleValue": lambda: examples.ExampleValue(random(3), random(3), random(3, 1), random(3), random(3)),
    "examples.Selection": lambda: examples.Selection(np.array([2, 0]), random(2), np.float64(3.0)),
    "cmi.Supersample": lambda: cmi.Supersample(*(random(2) for _ in range(12)), True, random(2)),
    "layers.LayerChannel": lambda: layers.LayerChannel(information(2), information(2), random(2)),
    "learning.Alignment": lambda: learning.Alignment(random(3), random(3), np.float64(0.5), np.float64(2.0)),
    "estimators.Comparison": lambda: estimators.Comparison(
        (information(),), ("ksg",), (("kde", "two samples are equal"),), 20, 0.1
    ),
    "estimators.Extrapolation": lambda: estimators.Extrapolation(
        np.float64(0.3), np.float64(0.01), np.array([8, 4]), random(2), random(2)
    ),
    "estimators.Significance": lambda: estimators.Significance(np.float64(0.3), np.float64(0.1), random(9)),
    "sweep.SweptCurve": lambda: sweep().curve(1.0, 0.1),
    "sweep.Sweep": lambda: sweep(),
}


def random(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).uniform(size=shape))


def information(*shape):
    """An information as an estimator gives it."""
    return Information(random(*shape), random(*shape), random(*shape), random(*shape), "ksg")


def sweep():
    """A sweep of two scales and a cell that failed, as if it had been computed."""
    import ntkinfo as ni

    t = np.array([0.0, 1.0, np.inf])
    values = {
        "input_information": np.arange(6.0).reshape(2, 1, 3),
        "label_information": np.arange(6.0).reshape(2, 1, 3) / 10,
        "gibbs_error": np.full((2, 1, 3), 0.5),
        "gibbs_mse": np.full((2, 1, 3), 0.5),
    }
    values["input_information"][1] = np.nan
    ceilings = {"log_m": 3.0, "label_entropy": 0.69}
    return ni.sweep.Sweep(np.array([1.0, 2.0]), np.array([0.1]), t, values, ceilings, {(2.0, 0.1): "singular"})


def of(name: str):
    """A result by its name in the registry."""
    return COMPUTED[name]() if name in COMPUTED else synthetic(registry.class_of(name))


def synthetic(kind: type):
    """An object with a value of the annotated kind in every field; arrays are (2,)."""
    rng = np.random.default_rng(0)
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], rng) for name in getattr(kind, "_fields", None) or hints})


def _value(hint, rng):
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _value(typing.get_args(hint)[0], rng)
    kind = typing.get_origin(hint) or hint
    if kind is np.ndarray:
        return rng.normal(size=2)
    if kind is str:
        return "text"
    if kind in (int, float, bool):
        return kind(1)
    if kind is tuple:
        return ("a", "b")
    if kind is dict:
        return {"a": rng.normal(size=2)}
    if isinstance(kind, type) and registry.name_of(kind):
        return synthetic(kind)
    return jnp.asarray(rng.normal(size=2))


def same(a, b) -> bool:
    """Whether two results are equal bit by bit, their arrays of the same kinds."""
    (one, one_tree), (two, two_tree) = jax.tree.flatten(a), jax.tree.flatten(b)
    return one_tree == two_tree and all(_same_leaf(x, y) for x, y in zip(one, two, strict=True))


def _same_leaf(x, y):
    if not isinstance(x, np.ndarray | np.generic | jax.Array):
        # NetworkReport is no pytree: one leaf.
        if hasattr(x, "__dataclass_fields__"):
            return type(x) is type(y) and all(
                same(getattr(x, name), getattr(y, name)) for name in x.__dataclass_fields__
            )
        return type(x) is type(y) and (x == y or x != x)
    x_host, y_host = np.asarray(x), np.asarray(y)
    kinds = all(isinstance(x, kind) == isinstance(y, kind) for kind in (jax.Array, np.generic))
    return (
        kinds and x_host.dtype == y_host.dtype and x_host.shape == y_host.shape and x_host.tobytes() == y_host.tobytes()
    )
