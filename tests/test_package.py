"""The package as a whole: light to import, imports in one direction, the notation of its documents."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ntkinfo

PACKAGE = Path(ntkinfo.__file__).parent
# An entry of the tree is a file, or a folder of them.
ENTRIES = {path.stem: [path] for path in PACKAGE.glob("*.py")} | {
    path.parent.name: sorted(path.parent.glob("*.py")) for path in PACKAGE.glob("*/__init__.py")
}
PUBLIC = sorted(name for name in ENTRIES if not name.startswith("_"))

# Who may import whom, layer by layer; docs/architecture.md has the drawing. Lower layers know nothing of higher ones.
GROUNDS = {"_common", "_numerics"}
DISTRIBUTIONS = {"gaussian", "discrete", "mixture", "estimators", "bounds", "datasets"}
NETWORKS = {"_neural_tangents", "stax", "networks", "kernels", "architectures"}
INFINITE = {"ensemble", "posterior", "content", "information", "sweep", "examples", "cmi", "learning", "layers"}
ALLOWED = {
    # Array code imports JAX and NumPy only; what is common imports only itself and array code.
    "_numerics": set(),
    "_common": {"_numerics"},
    # Distributions, data and estimators import the grounds only, and not each other.
    **dict.fromkeys(DISTRIBUTIONS, GROUNDS),
    # Networks: neural-tangents behind its own ground, then layers, kernels and networks by name.
    "_neural_tangents": {"_common"},
    "stax": {"_neural_tangents"},
    "networks": GROUNDS,
    "kernels": GROUNDS | {"_neural_tangents", "networks"},
    "architectures": {"_common", "stax"},
    # Infinite width, in closed form: each imports what stands before it.
    "ensemble": GROUNDS | DISTRIBUTIONS | NETWORKS,
    "posterior": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble"},
    "content": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble"},
    "information": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble", "posterior", "content"},
    "sweep": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble", "posterior", "content", "information"},
    "examples": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble", "posterior"},
    "cmi": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble", "posterior", "examples"},
    "learning": GROUNDS | DISTRIBUTIONS | NETWORKS | {"ensemble", "posterior", "examples"},
    "layers": GROUNDS | DISTRIBUTIONS | NETWORKS,
    # Estimators of scikit-learn put networks, posteriors and ensembles behind its methods.
    "sklearn": {"_common", "architectures", "ensemble", "gaussian", "posterior"},
    # No bottleneck knows a kernel or a trained finite network.
    "bottleneck": GROUNDS | {"discrete"},
    "variational": GROUNDS | {"discrete", "networks"},
    # Finite networks are compared with closed forms and with the bottleneck's curve.
    "finite": GROUNDS | DISTRIBUTIONS | NETWORKS | INFINITE | {"bottleneck"},
    "compression": GROUNDS,
    # A mesh and processes: thin over JAX.
    "distributed": GROUNDS,
    # Files name the classes of results, which are imported by these names where a file holds them.
    "files": {"_common"},
    # Figures read results by their fields, and what quantities are called.
    "plot": GROUNDS,
    # The command line may import everything, and only `__main__` imports it.
    "_cli": set(ENTRIES) - {"__main__", "__init__"},
    "__main__": {"_cli", "_common"},
    "__init__": {"_common", *PUBLIC},
}
# What a function imports where it is called, although its entry stands below: the report of a network is made of all
# that is known about it.
LATER = {"networks": INFINITE | DISTRIBUTIONS | {"kernels", "finite"}}


def imported(path: Path, *, top_level: bool = False):
    """The modules of ntkinfo that a file imports, as (dotted module, name)."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ntkinfo":
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "ntkinfo":
                    yield alias.name, ""


def siblings(name: str, *, top_level: bool = False) -> set[str]:
    """The entries that an entry imports, other than itself."""
    found = set()
    for path in ENTRIES[name]:
        for module, attribute in imported(path, top_level=top_level):
            found.add(module.split(".")[1] if "." in module else attribute)
    # `from ntkinfo import Ensemble` takes a class of an entry.
    return {{"Ensemble": "ensemble", "Posterior": "posterior"}.get(each, each) for each in found} - {name, ""}


def test_every_entry_has_a_layer():
    assert set(ALLOWED) == set(ENTRIES)
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 38


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_entries_import_only_what_they_may(name):
    assert siblings(name) <= ALLOWED[name] | LATER.get(name, set())
    assert siblings(name, top_level=True) <= ALLOWED[name]


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_only_public_names_cross_packages(name):
    for path in ENTRIES[name]:
        for module, attribute in imported(path):
            parts = [*module.split("."), attribute][1:]
            if parts[0] in {name, "_common", "_numerics", "_neural_tangents", "_cli"}:
                continue
            assert not any(part.startswith("_") for part in parts), f"{path.name}: {module}.{attribute}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_init_of_a_package_defines_nothing(path):
    first, *rest = ast.parse(path.read_text()).body
    assert isinstance(first, ast.Expr) and isinstance(first.value.value, str)
    for node in rest:
        names = [target.id for target in node.targets] if isinstance(node, ast.Assign) else None
        assert isinstance(node, ast.ImportFrom) or names == ["__all__"], ast.unparse(node)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_say_what_is_public(name):
    module = getattr(ntkinfo, name)
    assert set(module.__all__) <= set(dir(module))
    assert name in ntkinfo.__all__


def test_imports_have_no_circle():
    graph = {name: siblings(name, top_level=True) for name in sorted(ENTRIES) if name != "__init__"}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"circle: {' -> '.join([*open_, name])}"
        if name in done:
            return
        open_.append(name)
        for other in graph.get(name, ()):
            visit(other)
        done.add(open_.pop())

    for name in graph:
        visit(name)


def test_import_is_light():
    script = (
        "import sys, time, jax; start = time.perf_counter(); import ntkinfo; seconds = time.perf_counter() - start;"
        "heavy = {'tensorflow', 'matplotlib', 'pandas', 'sklearn', 'neural_tangents'} & set(sys.modules);"
        "assert not heavy, heavy; assert not jax._src.xla_bridge._backends; assert seconds < 2, seconds;"
        "assert not jax.config.jax_enable_x64;"
        "from ntkinfo import stax; assert not {'tensorflow', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Every public name of version 0.1.0: a promise.
PROMISED = {
    "architectures": "ACTIVATIONS ARCHITECTURES network",
    "bottleneck": """
        BottleneckCurve ConfidenceBand bayes_error bifurcation chernoff closest
        confidence_band critical_betas deterministic_ib dual_ib
        encoder_point gaussian_curve gaussian_ib generalised_ib hull ib own_beta prediction_exponent smooth
        squared_ib
    """,
    "bounds": """
        FORMS TEMPERATURES binary_kl binary_kl_inverse catoni conditional_compression information_content
        input_compression mcallester pac_bayes_kl xu_raginsky
    """,
    "cmi": "LeaveOneOut Supersample leave_one_out supersample",
    "compression": """
        RelaxationTimes gaussian_layer_bound measured_compression_time relaxation_times weight_noise_bound
    """,
    "content": """
        BELIEVED Content FORMS METHODS MIN_EFFECTIVE_SAMPLES information_content of_kernel positive_probability
        upper_bound
    """,
    "datasets": """
        Dataset TASKS TwelveBit cifar10 csv digits fashion_mnist from_arrays gaussian mnist npz one_hot parity subsample
        twelve_bit
    """,
    "discrete": """
        JointTable Names check_conditional check_joint entropy from_counts is_deterministic kl merge_rows
        mutual_information smooth
    """,
    "distributed": "AXIS Processes initialize mesh",
    "ensemble": """
        CrossFeatures CrossKernels Ensemble FeatureEnsemble KrylovEnsemble Prediction PredictiveError SpectralSums
        covariances labels means predictive rotate standard_error
    """,
    "estimators": "LayerInformation binned binned_layer infonce kde kde_pair ksg layer_cells quantised_layer",
    "examples": "ExampleValue GroupValue Selection select value",
    "files": "load save",
    "finite": """
        DivergedError GradientPhases LayerRun Plane Run activations gradient_phases information_plane
        kernel_flow stability_limit summary train train_layers
    """,
    "gaussian": """
        Gaussian STEP VALUES cholesky entropy joint_divergence kl_divergence log_prob sign_error
        winning_probabilities
    """,
    "information": """
        Certificate Curve Information Losses MEANING ParameterDivergence QUANTITIES Quantity action certificate curve
        data_information fisher_trace
        input_information is_saturated label_information losses output_divergence parameter_distance
        parameter_divergence
    """,
    "kernels": """
        EmpiricalKernel FeatureKernel Kernels block_size correlated diagonal empirical evaluate features has_hessian
        hessian inputs kernel_function kernels
    """,
    "layers": "LayerChannel information of_activations",
    "learning": "Alignment Forecast LearningCurve alignment curve forecast",
    "networks": """
        Network NetworkReport activations from_apply from_equinox from_flax from_haiku from_nnx from_stax
        kernel_function report
    """,
    "mixture": """
        ACCURACY Information exact exact_pair is_saturated label_exact label_minibatch label_monte_carlo
        label_pairwise minibatch minibatch_pair monte_carlo monte_carlo_pair one_hot pair pairwise pairwise_pair
        require_key select_method warn_if_inaccurate
    """,
    "plot": """
        animate bifurcation bottleneck bounds clusters cmi curve divergence dynamics estimators examples finite geometry
        gradients layers learning losses network parameter_divergence plane posterior summary sweep training variational
        variational_error
    """,
    "posterior": "FeaturePosterior KrylovPosterior PRIORS Posterior predictive",
    "stax": """
        ABRelu Abs Aggregate AggregateImplementation AttentionMechanism AvgPool Bool Conv ConvLocal
        ConvTranspose Cos Dense Diagonal DotGeneral Dropout Elementwise ElementwiseNumerical Erf Exp
        ExpNormalized FanInConcat FanInProd FanInSum FanOut Flatten Gabor Gaussian Gelu GlobalAvgPool
        GlobalSelfAttention GlobalSumPool Hermite Identity ImageResize Index LayerNorm LeakyRelu MaskedArray
        Monomial Padding Polynomial PositionalEmbedding Rbf RectifiedMonomial Relu Sigmoid_like Sign Sin
        Slice SumPool layer parallel repeat requires serial supports_masking unmask_fn
    """,
    "sweep": "Band Grid Sweep SweptCurve grid scales",
    "variational": """
        DivergedError History LearningCurve Measurement RequiredInformation Sweep VariationalFit encoders
        error_under_noise fit label_noise learning_curve measure required_information sweep
    """,
}


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_every_promised_name_is_there(name):
    module = getattr(ntkinfo, name)
    assert not [each for each in PROMISED[name].split() if not hasattr(module, each)]


def test_every_public_name_is_there():
    for name in ntkinfo.__all__:
        assert getattr(ntkinfo, name) is not None
    assert set(ntkinfo.__all__) <= set(dir(ntkinfo))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ntkinfo.nothing


@pytest.mark.parametrize("path", [*PACKAGE.rglob("*.py"), PACKAGE.parent / "README.md"], ids=lambda path: path.name)
def test_no_machine_stands_in_the_text(path):
    assert not re.search(r"/(work|root|home|tmp)/", path.read_text())


def test_one_version_number():
    """Hatch reads it from `ntkinfo.__version__`; nobody writes it a second time."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert "version" not in project and project["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", ntkinfo.__version__)
