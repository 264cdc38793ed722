"""Every class of results by the name it has in files, and where it is defined; a test holds that none is missing."""

import importlib

# "folder.Class" to the module it is defined in, which is imported when it is needed. A name stays: files hold it.
RESULTS = {
    "bottleneck.BayesError": "bottleneck._error_exponent",
    "bottleneck.Bifurcation": "bottleneck._critical",
    "bottleneck.BottleneckCurve": "bottleneck._curve",
    "bottleneck.Branch": "bottleneck._critical",
    "bottleneck.Closest": "bottleneck._information_curve",
    "bottleneck.OwnBeta": "bottleneck._own_beta",
    "bottleneck.ConfidenceBand": "bottleneck._confidence",
    "bottleneck.CriticalBetas": "bottleneck._critical",
    "bottleneck.Exponent": "bottleneck._error_exponent",
    "bottleneck.GaussianBottleneck": "bottleneck._gaussian",
    "cmi.LeaveOneOut": "cmi._leave_one_out",
    "cmi.Supersample": "cmi._supersample",
    "compression.RelaxationTimes": "compression",
    "content.Content": "content._content",
    "datasets.Dataset": "datasets._dataset",
    "datasets.TwelveBit": "datasets._twelve_bit",
    "discrete.JointTable": "discrete",
    "discrete.Names": "discrete",
    "ensemble.CrossFeatures": "ensemble._features",
    "ensemble.CrossKernels": "ensemble._moments",
    "ensemble.Ensemble": "ensemble._ensemble",
    "ensemble.FeatureEnsemble": "ensemble._features",
    "ensemble.KrylovEnsemble": "ensemble._krylov",
    "ensemble.Prediction": "ensemble._krylov",
    "ensemble.PredictiveError": "ensemble._jackknife",
    "ensemble.SpectralSums": "ensemble._spectral_sums",
    "estimators.Comparison": "estimators._compare",
    "estimators.Extrapolation": "estimators._extrapolate",
    "estimators.LayerInformation": "estimators._layers",
    "estimators.Significance": "estimators._significance",
    "examples.ExampleValue": "examples._value",
    "examples.GroupValue": "examples._value",
    "examples.Selection": "examples._select",
    "finite.GradientPhases": "finite._gradient_phases",
    "finite.LayerRun": "finite._layer_run",
    "finite.Plane": "finite._information_plane",
    "finite.Run": "finite._run",
    "gaussian.Gaussian": "gaussian",
    "information.Certificate": "information._certificate",
    "information.Curve": "information._curve",
    "information.Estimate": "_common.results",
    "information.Information": "_common.results",
    "information.Losses": "information._losses",
    "information.ParameterDivergence": "information._parameter_divergence",
    "kernels.Kernels": "kernels._kernels",
    "layers.LayerChannel": "layers",
    "learning.Alignment": "learning._forecast",
    "learning.Forecast": "learning._forecast",
    "learning.LearningCurve": "learning._curve",
    "networks.NetworkReport": "networks._report",
    "posterior.FeaturePosterior": "posterior._features",
    "posterior.KrylovPosterior": "posterior._krylov",
    "posterior.LearnedPosterior": "posterior._learn",
    "posterior.NoiseFit": "posterior._noise",
    "posterior.Posterior": "posterior._posterior",
    "sweep.Sweep": "sweep._scales",
    "sweep.SweptCurve": "sweep._scales",
    "variational.History": "variational._fit",
    "variational.LabelNoise": "variational.label_noise",
    "variational.LearningCurve": "variational._learning_curve",
    "variational.Measurement": "variational._measure",
    "variational.RequiredInformation": "variational._required_information",
    "variational.Sweep": "variational._sweep",
    "variational.VariationalFit": "variational._fit",
}
# What results hold in place of arrays: written with them, and by itself no result.
PARTS = {
    "bottleneck.Encoders": "bottleneck._encoders",
    "bottleneck.OfClusters": "bottleneck._encoders",
    "bottleneck.Problem": "bottleneck._distortion",
}
_ALL = RESULTS | PARTS
_NAMES = {(f"ntkinfo.{module}", name.split(".")[1]): name for name, module in _ALL.items()}


def name_of(kind: type) -> str | None:
    """The name of a class of results; None of any other."""
    name = name_in_files(kind)
    return name if name in RESULTS else None


def name_in_files(kind: type) -> str | None:
    """The name of a class of results, or of what they hold; None of any other."""
    return _NAMES.get((kind.__module__, kind.__qualname__))


def class_of(name: str) -> type:
    """The class of this name, of results or of what they hold.

    Raises:
      KeyError: there is none.
    """
    return getattr(importlib.import_module(f"ntkinfo.{_ALL[name]}"), name.split(".")[1])
