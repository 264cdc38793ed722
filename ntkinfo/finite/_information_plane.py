"""The information plane of trained networks: I(X;T) and I(T;Y) of every layer over training.

Every number depends on the estimator, and on how it discretises or blurs the activations: a deterministic network with
continuous activations has I(X;T) = log n whatever it does. The estimator is therefore part of the result.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from ntkinfo import bottleneck, estimators
from ntkinfo._common import check, labels, parallel, pytree, tables
from ntkinfo._common import progress as _progress
from ntkinfo._numerics.entropy import entropy, plogp
from ntkinfo.finite import _layer_run
from ntkinfo.finite._run import Run

ESTIMATORS = ("binned", "kde", "quantised")
# Activations of a bounded range, which bins are then the same for at every epoch.
BOUNDS = {"tanh": (-1.0, 1.0), "erf": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}


@pytree.dataclass("names", "estimator")
class Plane:
    """Layers of N networks in the information plane at T epochs, L layers; nats. Made by `information_plane`.

    Attributes:
      epochs: (T,); training times of a `Run`.
      i_xt: I(X;T), (N, T, L): exact for the discretisation where "binned" or "quantised", else the upper bound.
      i_ty: I(T;Y), (N, T, L), likewise; for "kde" the estimate of the literature, between the bounds.
      i_xt_lower, i_xt_upper, i_ty_lower, i_ty_upper: bounds for activations plus noise, (N, T, L); None but for "kde".
      log_n: log of the number of inputs, the ceiling of I(X;T) (H(X) where they are not equally probable).
      label_entropy: H(Y).
      i_xy: I(X;Y).
      saturated: whether I(X;T), averaged over networks, is within 1 % of the ceiling, (T, L): inputs are told apart,
        and the number says little else.
      beta: the β of the bottleneck curve each point is closest to, (N, T, L); None without a curve.
      distance: its distance from the curve, nats, (N, T, L).
      names: of the layers.
      estimator: what was measured, in words, with its bins or its noise.
      own_beta: the β at which the encoder of the bottleneck made from the layer's own decoder is nearest to it,
        `bottleneck.own_beta`, (N, T, L): another definition than `beta`, and 1 for hard labels. None without a curve,
        and for "kde".
      own_divergence: how near, E_x D[p(t|x) ‖ p_β(t|x)] in nats, (N, T, L).
    """

    epochs: np.ndarray
    i_xt: np.ndarray
    i_ty: np.ndarray
    i_xt_lower: np.ndarray | None
    i_xt_upper: np.ndarray | None
    i_ty_lower: np.ndarray | None
    i_ty_upper: np.ndarray | None
    log_n: float
    label_entropy: float
    i_xy: float
    saturated: np.ndarray
    beta: np.ndarray | None
    distance: np.ndarray | None
    names: tuple[str, ...]
    estimator: str
    own_beta: np.ndarray | None = None
    own_divergence: np.ndarray | None = None

    _table = tables.Table(
        ("network", "epochs", "layer"),
        nats="i_xt i_ty i_xt_lower i_xt_upper i_ty_lower i_ty_upper distance own_divergence",
        plain="saturated beta own_beta",
        where={"saturated": ("epochs", "layer")},
        names={"layer": "names"},
        totals="log_n* label_entropy* i_xy* estimator",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def information_plane(
    run: _layer_run.LayerRun | Run | Mapping[str, ArrayLike],
    x: Float[ArrayLike, "n d"] | None,
    p_y_given_x: Float[ArrayLike, "n c"] | Int[ArrayLike, " n"],
    *,
    p_x: Float[ArrayLike, " n"] | None = None,
    estimator: str = "binned",
    bins: int = 30,
    width: float | None = None,
    range: str | Sequence = "activation",
    variance: float = 1e-3,
    n_networks: int | None = None,
    n_records: int | None = None,
    curve: bottleneck.BottleneckCurve | None = None,
    progress: bool | None = None,
) -> Plane:
    """I(X;T) and I(T;Y) of every layer T of trained networks, in nats, over training.

    X is uniform over the rows of `x` (or distributed as `p_x`) and p(y|x) is known, so that nothing is sampled but the
    networks: their average and its standard error are over the first axis.

    Args:
      run: a `LayerRun` of `finite.train_layers`; or a `Run` of `finite.train`, whose outputs on its test inputs are
        then the one layer, and `x` is not needed (None); or a mapping of names of layers to activations (epochs, n,
        units) of one network of any library, as of `networks.activations`: their epochs are numbered from 0, and the
        range "activation" is that of the layer.
      x: inputs, (n, d): all of them, seen in training or not.
      p_y_given_x: (n, c), rows that sum to 1, or (n,) integer classes.
      p_x: (n,), uniform if None; not for "kde".
      estimator: "binned", bins of each unit; "quantised", rows equal bit for bit are one; "kde", bounds for
        activations plus Gaussian noise of `variance`, O(n²) for each point.
      bins: number of equal bins for each unit.
      width: width of the bins instead.
      range: of the bins. "activation" takes the range of the activation function where that is bounded, else that of
        the layer; "layer" the least and the largest value of each layer in all networks and epochs; "unit" each unit's
        own, anew at every epoch (bins that adapt: growing activations do not show); (lo, hi) for all, or one pair for
        each layer. Values outside are an error.
      variance: of the noise, for "kde".
      n_networks: the first so many networks only; None for all.
      n_records: about so many of the recorded epochs, evenly chosen, with the first and the last; None for all.
      curve: a `BottleneckCurve` of the same p(x, y), to measure the distance of each point from; the own β of each
        layer then stands beside the β of the nearest point.
      progress: whether to show a bar over epochs; None shows it where it takes longer than 3 seconds.

    Returns:
      A `Plane`.

    Raises:
      TypeError: activations or probabilities that are not numbers.
      ValueError: an unknown estimator or range, probabilities that do not sum to 1, options that do not belong to the
        estimator, values outside of the bins.

    Source: theory, section 9; Shwartz-Ziv & Tishby 2017 (arXiv 1703.00810); Kolchinsky & Tracey 2017
    (arXiv 1706.02419); Saxe et al. 2019 for what bins do to ReLU.

    Example:
      >>> task = ni.datasets.twelve_bit()
      >>> run = ni.finite.train_layers((12, 5, 2), task.x, task.labels, epochs=20, n_networks=2, key=key)
      >>> plane = ni.finite.information_plane(run, task.x, task.p_y_given_x)
      >>> figure = ni.plot.layers(plane)
    """
    check.on_host(locals())
    check.option("estimator", estimator, ESTIMATORS)
    # Every option, whichever the estimator reads.
    check.integer("bins", bins)
    check.positive("variance", variance, scalar=True)
    if width is not None:
        check.positive("width", width, scalar=True)
    check.flag("progress", progress, none=True)
    if curve is not None:
        check.instance("curve", curve, bottleneck.BottleneckCurve, maker="`bottleneck.ib`")
    source = _Source(run, x, n_networks, n_records)
    p = _conditional(p_y_given_x, source.n_inputs)
    weights = _inputs(p_x, source.n_inputs)
    if estimator == "kde" and p_x is not None:
        raise ValueError("`p_x` must be left out for the estimator 'kde', whose inputs are equally probable.")
    limits = _limits(source, range) if estimator == "binned" and width is None else _given(source, range)
    mass = np.full(len(p), 1 / len(p)) if weights is None else weights
    p_xy = mass[:, None] * p
    label = _estimator_label(estimator, bins, width, range, variance)

    def measure(layer, values):
        if estimator == "binned":
            result = estimators.binned_layer(values, p, p_x=weights, bins=bins, width=width, range=limits[layer])
        elif estimator == "quantised":
            result = estimators.quantised_layer(values, p, p_x=weights)
        else:
            about_input, about_label = estimators.kde_pair(values, p, variance=variance, standardize=False)
            return (
                about_input.value, about_label.value,
                about_input.lower, about_input.upper, about_label.lower, about_label.upper,
            )  # fmt: skip
        if curve is None:
            return result.i_xt, result.i_ty
        return result.i_xt, result.i_ty, *own(layer, values[0])

    def own(layer, values):
        limits_of_bins = {} if estimator == "quantised" else {"width": width, "range": limits[layer]}
        cells = estimators.layer_cells(values, bins=None if estimator == "quantised" else bins, **limits_of_bins)
        return tuple(np.array([one]) for one in bottleneck.own_beta(p_xy, cells))

    points = []
    for record in _progress.bar(source.records, desc="information plane", unit="epoch", progress=progress):
        activations = source.activations(record)
        # Counting runs on the host, one network beside the other; distances fill the cores by themselves.
        jobs = [(i, values[j : j + 1]) for i, values in enumerate(activations) for j in np.arange(len(values))]
        done = parallel.map(lambda job: measure(*job), jobs) if estimator != "kde" else [measure(*job) for job in jobs]
        columns = [np.asarray([np.asarray(result[k])[0] for result in done]) for k in np.arange(len(done[0]))]
        points.append([column.reshape(len(activations), -1).T for column in columns])
    # (quantity, N, T, L)
    stacked = [np.stack([point[k] for point in points], axis=1) for k in np.arange(len(points[0]))]
    i_xt, i_ty, *bounds = stacked
    own_values = (None, None)
    if len(bounds) == 2:
        own_values, bounds = bounds, []
    ceiling = float(entropy(mass))
    label_entropy = float(entropy(mass @ p))
    i_xy = label_entropy + float(mass @ np.sum(plogp(p), axis=1))
    closest = None if curve is None else bottleneck.closest(curve, np.maximum(i_xt, 0), i_ty)
    return Plane(
        source.epochs,
        i_xt,
        i_ty,
        *(bounds or (None, None, None, None)),
        ceiling,
        label_entropy,
        i_xy,
        i_xt.mean(axis=0) >= 0.99 * ceiling,
        None if closest is None else closest.beta,
        None if closest is None else closest.distance,
        source.names,
        label,
        *own_values,
    )


class _Source:
    """Where activations come from: networks of layers, or outputs of `finite.train` as one layer."""

    def __init__(self, run, x, n_networks, n_records):
        self.run, self.layers = run, isinstance(run, _layer_run.LayerRun)
        if self.layers:
            epochs, self.n_all = np.asarray(run.epochs), run.weights[0].shape[0]
            if not np.isfinite(epochs).all():
                raise ValueError("`run` must have finite epochs; got NaN or infinite ones.")
            self.x = check.array("x", x, 2)
            check.small_enough("x", self.x)
            self.n_inputs = len(self.x)
            self.kinds = (*run.activations, "sigmoid" if run.loss == "cross_entropy" else "linear")
            self.names = tuple(
                f"{i + 1}: {size} {kind if isinstance(kind, str) else getattr(kind, '__name__', 'custom')}"
                for i, (size, kind) in enumerate(zip(run.sizes[1:], (*run.activations, "output"), strict=True))
            )
        elif isinstance(run, Run) and run.outputs is not None:
            epochs, self.n_all, self.n_inputs = np.asarray(run.t), run.outputs.shape[0], run.outputs.shape[2]
            self.kinds, self.names = ("linear",), ("output",)
        elif isinstance(run, Mapping):
            self.run = _recorded(run)
            self.names = tuple(self.run)
            self.kinds = ("linear",) * len(self.names)
            (n_epochs, self.n_inputs), self.n_all = next(iter(self.run.values())).shape[:2], 1
            epochs = np.arange(n_epochs)
        else:
            raise TypeError(
                "`run` must be a `LayerRun` of `finite.train_layers`, a `Run` of `finite.train` with test inputs, or a "
                f"mapping of layers to activations; got {check.described(run)}."
            )
        self.n = self.n_all if n_networks is None else min(check.integer("n_networks", n_networks), self.n_all)
        count = len(epochs) if n_records is None else min(check.integer("n_records", n_records), len(epochs))
        self.records = np.unique(np.linspace(0, len(epochs) - 1, count).round().astype(int))
        self.epochs = epochs[self.records]

    def activations(self, record) -> list[np.ndarray]:
        """Of each layer (N, n, units), at one record."""
        if isinstance(self.run, dict):
            return [values[record][None] for values in self.run.values()]
        if not self.layers:
            return [np.asarray(self.run.outputs[: self.n, record], np.float64)]
        layers = _layer_run.activations(self.run, self.x, index=int(record))
        return [np.asarray(layer[: self.n], np.float64) for layer in layers]

    @functools.cached_property
    def extremes(self) -> list[tuple[float, float]]:
        """The least and the largest value of each layer, over networks and records."""
        pairs = [[(layer.min(), layer.max()) for layer in self.activations(record)] for record in self.records]
        return [(min(low for low, _ in layer), max(high for _, high in layer)) for layer in zip(*pairs, strict=True)]


def _recorded(run: Mapping) -> dict[str, np.ndarray]:
    """Activations by layer, (epochs, n, units), float64 and checked."""
    layers = {
        str(name): np.asarray(check.array(f"run[{name!r}]", values, 3), np.float64) for name, values in run.items()
    }
    shapes = {values.shape[:2] for values in layers.values()}
    if len(shapes) != 1:
        raise ValueError(
            "`run` must map at least one layer to activations (epochs, n, units), with the same epochs and inputs for "
            f"all; got {sorted(shapes) or 'no layers'}."
        )
    return layers


def _conditional(p_y_given_x, n) -> np.ndarray:
    """p(y|x), (n, c), also from classes; checked where it is used first."""
    host = np.asarray(check.values("p_y_given_x", p_y_given_x))
    if np.issubdtype(host.dtype, np.integer) and host.ndim == 1:
        # Only which inputs share a class counts: class numbers may have gaps here, or be negative.
        host = np.unique(host, return_inverse=True)[1]
    p = np.asarray(labels.distributions("p_y_given_x", host, n))
    return p / p.sum(axis=1, keepdims=True)


def _inputs(p_x, n):
    if p_x is None:
        return None
    p_x = np.asarray(check.probabilities("p_x", p_x, 1), np.float64)
    if len(p_x) != n:
        raise ValueError(f"`p_x` must be {n} probabilities that sum to 1; got shape {p_x.shape}.")
    return p_x / p_x.sum()


def _given(source, limits) -> list:
    """The range of each layer where only a given one counts: None for the named ones."""
    return [None] * len(source.kinds) if isinstance(limits, str) else _limits(source, limits)


def _limits(source, limits) -> list:
    """The range of the bins of each layer; None where each unit has its own."""
    n = len(source.kinds)
    if isinstance(limits, str):
        check.option("range", limits, ("activation", "layer", "unit"))
        if limits == "unit":
            return [None] * n
        bounds = [
            BOUNDS.get(kind) if limits == "activation" and isinstance(kind, str) else None for kind in source.kinds
        ]
        if None in bounds:
            bounds = [given or _widened(pair) for given, pair in zip(bounds, source.extremes, strict=True)]
        return bounds
    if not isinstance(limits, list | tuple | np.ndarray):
        raise TypeError(f"`range` must be a name, (lo, hi) or one pair for each layer; got {check.described(limits)}.")
    pairs = list(limits)
    if len(pairs) == 2 and all(np.ndim(edge) == 0 for edge in pairs):
        return [tuple(pairs)] * n
    if len(pairs) != n:
        raise ValueError(f"`range` must be a name, (lo, hi) or one pair for each of the {n} layers; got {len(pairs)}.")
    return pairs


def _widened(pair) -> tuple[float, float]:
    """A range of positive width, also for a layer that never changes."""
    low, high = pair
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _estimator_label(estimator, bins, width, limits, variance) -> str:
    if estimator == "quantised":
        return "values as they are"
    if estimator == "kde":
        return f"kernel density, noise of variance {variance:g}"
    size = f"{bins} bins" if width is None else f"bins of width {width:g}"
    if isinstance(limits, str):
        return size if width is not None else f"{size}, range of the {limits}"
    return f"{size}, given range"
