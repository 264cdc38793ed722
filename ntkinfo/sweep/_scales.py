"""Sweeps over the scales of weights and biases at initialisation, the σ_w and σ_b axes of the field.

The network is described by a function of the two scales; its kernels are compiled once, with the scales as inputs.
Finished cells are written to disk, and an interrupted sweep goes on where it stopped.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels, mixture, networks
from ntkinfo._common import check, checkpoint, compiling, data, labels, tables
from ntkinfo._common import progress as _progress
from ntkinfo._common.quantities import catalogue, in_nats, scaled
from ntkinfo._numerics import padding
from ntkinfo.datasets import Dataset
from ntkinfo.ensemble import Ensemble
from ntkinfo.information import QUANTITIES, Information, Losses, curve
from ntkinfo.kernels import Kernels

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr  # pyright: ignore[reportMissingImports]


class Sweep(NamedTuple):
    """Curves over a grid of W weight scales and B bias scales.

    Attributes:
      w_std: standard deviations of the weights, (W,).
      b_std: standard deviations of the biases, (B,).
      t: training times, (T,).
      values: name of a quantity, as in `Curve.columns`, to its values (W, B, T), information in nats; `nan` in the
        cells listed in `failed`.
      ceilings: "log_m" and "label_entropy" to their values in nats.
      failed: (w_std, b_std) of cells that could not be computed, to the reason.
    """

    w_std: np.ndarray
    b_std: np.ndarray
    t: np.ndarray
    values: dict[str, np.ndarray]
    ceilings: dict[str, float]
    failed: dict[tuple[float, float], str]

    quantities = catalogue
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas DataFrame with a row per cell and time and a column per quantity; `attrs` say unit and ceilings.

        Args:
          unit: "nats" or "bits", of information and negative log-likelihoods.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        w, b, t = np.meshgrid(self.w_std, self.b_std, self.t, indexing="ij")
        columns = {"w_std": w.ravel(), "b_std": b.ravel(), "t": t.ravel()}
        columns |= {name: value.ravel() for name, value in scaled(self.values, scale).items()}
        return tables.frame(columns, {name: scale * value for name, value in self.ceilings.items()}, unit)

    def to_xarray(self, *, unit: str = "nats") -> "xr.Dataset":
        """An xarray Dataset: a variable per quantity over the dimensions w_std, b_std and t, with its unit and meaning.

        Args:
          unit: "nats" or "bits", of information and negative log-likelihoods.

        Raises:
          ValueError: an unknown unit.
          ImportError: xarray is missing; the message says how to install it.
        """
        scale = tables.factor(unit)
        try:
            import xarray as xr  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("`to_xarray` needs xarray. Install it: pip install xarray.") from error
        dims, variables = ("w_std", "b_std", "t"), {}
        for name, value in scaled(self.values, scale).items():
            meaning = QUANTITIES[name].meaning if name in QUANTITIES else name
            variables[name] = (dims, value, {"units": unit if in_nats(name) else "", "long_name": meaning})
        ceilings = {name: scale * value for name, value in self.ceilings.items()}
        return xr.Dataset(variables, {name: getattr(self, name) for name in dims}, {"units": unit} | ceilings)

    def curve(self, w: float, b: float) -> "SweptCurve":
        """The curve of one cell, for `plot.curve`, `plot.plane` and `to_dataframe`.

        Args:
          w: its weight scale, one of `w_std`.
          b: its bias scale, one of `b_std`.

        Returns:
          A `SweptCurve`.

        Raises:
          TypeError, ValueError: scales that the sweep does not have, or a cell that could not be computed.
        """
        check.on_host({"w": w, "b": b})
        i, j = _at("w", w, self.w_std), _at("b", b, self.b_std)
        reason = self.failed.get((float(self.w_std[i]), float(self.b_std[j])))
        if reason is not None:
            raise ValueError(f"`w` and `b` must be of a cell that was computed; {w:g} and {b:g} failed: {reason}")
        columns = {name: value[i, j] for name, value in self.values.items()}
        return SweptCurve(self.t, columns, dict(self.ceilings), float(self.w_std[i]), float(self.b_std[j]))


class SweptCurve(NamedTuple):
    """One cell of a `Sweep`; quantities are attributes by name, as of a `Curve`. Made by `Sweep.curve`.

    Attributes:
      t: training times, (T,).
      values: name of a quantity, as in `Curve.columns`, to its values (T,), information in nats.
      ceilings: "log_m" and "label_entropy" to their values in nats.
      w_std: weight scale.
      b_std: bias scale.
    """

    t: np.ndarray
    values: dict[str, np.ndarray]
    ceilings: dict[str, float]
    w_std: float
    b_std: float

    quantities = catalogue
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def __getattr__(self, name: str):
        # Only what is no field comes here.
        if name in ("log_m", "label_entropy"):
            return self.ceilings[name]
        if name == "losses":
            return Losses(*(self.values.get(field) for field in Losses._fields))
        if name in ("input_information", "label_information"):
            return self._information(name)
        if name in QUANTITIES:
            return self.values.get(name)
        raise AttributeError(f"'SweptCurve' has no attribute {name!r}; its quantities are {', '.join(self.values)}")

    def _information(self, name: str) -> Information:
        value = self.values[name]
        lower = self.values.get(f"{name}_lower", np.full_like(value, -np.inf))
        upper = self.values.get(f"{name}_upper", np.full_like(value, np.inf))
        # Columns do not say the method; that of real labels is always the decoder's.
        method = "sampled" if f"{name}_stderr" in self.values else "exact"
        if name == "label_information" and "gibbs_error" not in self.values:
            method = "decoder"
        stderr = self.values.get(f"{name}_stderr", np.zeros_like(value))
        return Information(value, lower, upper, stderr, method)  # pyright: ignore[reportArgumentType]

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas DataFrame with a row per time and a column per quantity; `attrs` say unit, scales and ceilings.

        Args:
          unit: "nats" or "bits", of information and negative log-likelihoods.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        ceilings = {name: scale * value for name, value in self.ceilings.items()}
        return tables.frame(
            {"t": self.t} | scaled(self.values, scale), {"w_std": self.w_std, "b_std": self.b_std} | ceilings, unit
        )


def _at(name: str, value, scales: np.ndarray) -> int:
    """The index of a scale of the grid, equal up to rounding."""
    check.number(name, value)
    near = np.flatnonzero(np.isclose(scales, float(value), rtol=1e-6, atol=0))
    if not len(near):
        raise ValueError(f"`{name}` must be one of the scales {', '.join(f'{s:g}' for s in scales)}; got {value:g}.")
    return int(near[0])


# What `build` meets that makes Python or NumPy numbers of its scales.
_CONVERTED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@compiling.jit(static_argnums=0)
def _block(build, scales, x1, x2):
    try:
        return kernels.evaluate(networks.kernel_function(build(*scales)), x1, x2)
    except _CONVERTED as error:
        raise TypeError(
            "`build` must take floating-point numbers as they come: scales are inputs of its compiled kernels, and no "
            "Python numbers there. Leave out `float`, `int`, NumPy's functions (`jnp` has the same) and `if` on "
            f"them; what must be known is an axis of integers or text of `sweep.grid`. {str(error).splitlines()[0]}"
        ) from error


def scales(
    build: Callable[[float, float], Any],
    x: Float[ArrayLike, "n ..."] | Dataset,
    y: Float[ArrayLike, "n k"] | Float[ArrayLike, " n"] | Num[ArrayLike, "*T"] | None = None,
    x_test: Float[ArrayLike, "m ..."] | None = None,
    y_test: Float[ArrayLike, "m k"] | Float[ArrayLike, " m"] | None = None,
    t: Num[ArrayLike, "*T"] | None = None,
    *,
    w_std: ArrayLike | Sequence[float],
    b_std: ArrayLike | Sequence[float] = (0.0,),
    folder: str | Path | None = None,
    singular: str = "error",
    progress: bool | None = None,
    **options,
) -> Sweep:
    """Curves for every weight scale and bias scale of a grid.

    Args:
      build: `build(w_std, b_std)` returns a network of `ntkinfo.stax`, for instance
        `lambda w, b: stax.serial(stax.Dense(1, w, b), stax.Erf(), stax.Dense(1, w, b))`.
      x: training inputs, (n, ...); or a `Dataset`, then `t`: `scales(build, data, t, w_std=...)`.
      y: training labels, (n, k) or (n,).
      x_test: test inputs, (m, ...).
      y_test: test labels, (m, k) or (m,).
      t: training times, (T,).
      w_std: weight scales, (W,), positive.
      b_std: bias scales, (B,), not negative.
      folder: where finished cells are written as they come, one `.npz` each; a sweep started again with the same
        arguments reads them and computes the rest. None keeps everything in memory only.
      singular: as in `Ensemble.fit`.
      progress: whether to show a progress bar; None shows it after 3 seconds.
      **options: passed to `ntkinfo.information.curve`: noise, method, key, n_samples, joint, label_entropy, task.

    Returns:
      A `Sweep`. A cell that cannot be computed (a kernel that is singular at these scales) is `nan` and is listed
      with its reason in `failed`; it does not stop the others.

    Raises:
      TypeError: `build` is not callable, or options that `curve` does not have.
      ValueError: scales that are not positive, or repeated; a folder that holds a sweep with other arguments;
        everything `Ensemble.fit` and `curve` refuse, if every cell fails.

    Example:
      >>> s = scales(build, x, y, x_test, y_test, t, w_std=[0.5, 1.0, 2.0], b_std=[0.1], folder="sweep")
      >>> figure = ni.plot.sweep(s.values["input_information"][:, :, -1], s.w_std, s.b_std)
    """
    check.on_host(locals())
    check.function("build", build, "a function of (w_std, b_std) that returns a network", arguments=2)
    check.option("singular", singular, ("error", "project"))
    check.flag("progress", progress, none=True)
    folder = None if folder is None else check.path("folder", folder)
    check_options(options)
    w_grid, b_grid = _grid("w_std", w_std, zero=False), _grid("b_std", b_std, zero=True)
    try:
        networks.kernel_function(build(w_grid[0], b_grid[0]))
    except TypeError as error:
        raise TypeError(
            "`build` must return a network of `ntkinfo.stax`, or a kernel function, for two numbers (w_std, b_std); "
            f"for {w_grid[0]:g} and {b_grid[0]:g}: {error}"
        ) from error
    if data.is_dataset(x):
        data.refuse_beside(x_test=x_test, y_test=y_test)
        t = data.last("x", "y", y, "t", t)
        x, y, x_test, y_test = (getattr(x, field) for field in data.FIELDS)
    else:
        data.require("x", y=y, x_test=x_test, y_test=y_test, t=t)
    x = check.inputs("x", x)
    x_test = check.inputs_like("x_test", x_test, x)
    y, times = labels.real_targets("y", y, len(x)).astype(x.dtype), np.asarray(jnp.atleast_1d(check.times("t", t)))
    mixture.select_method(options.get("method"), y.shape[1], options.get("key"))
    store = None
    if folder is not None:
        arrays = {"x": x, "y": y, "x_test": x_test, "y_test": y_test, "t": times}
        store = checkpoint.Checkpoint(folder, _arguments(build, arrays, options, singular), argument="folder")
    cells = [(w, b) for w in w_grid for b in b_grid]
    results, failed, ceilings = {}, {}, {}
    for w, b in _progress.bar(cells, desc="sweep", unit="cell", progress=progress):
        columns = store.load(_name(w, b)) if store else None
        if columns is None:
            try:
                columns = curve_of(build, (w, b), x, y, x_test, y_test, times, singular, options)
            except ValueError as error:
                failed[w, b] = str(error)
                continue
            if store:
                store.save(_name(w, b), columns)
        ceilings = {name: float(columns.pop(name)) for name in ("log_m", "label_entropy")}
        results[w, b] = columns
    if not results:
        (w, b), reason = next(iter(failed.items()))
        raise ValueError(
            f"`w_std` and `b_std` must have a cell that can be computed; got for {w:g} and {b:g}: {reason}"
        )
    shape = (len(w_grid), len(b_grid), len(times))
    values = {name: np.full(shape, np.nan) for columns in results.values() for name in columns if name != "t"}
    for (w, b), columns in results.items():
        for name, value in columns.items():
            if name != "t":
                values[name][w_grid.index(w), b_grid.index(b)] = value
    return Sweep(np.array(w_grid), np.array(b_grid), times, values, ceilings, failed)


def _not_called(x1, x2, get):
    raise NotImplementedError("The kernels of a sweep are evaluated once for all cells.")


def curve_of(build, scales, x, y, x_test, y_test, t, singular, options) -> dict[str, np.ndarray]:
    """The columns and ceilings of the curve of `build(*scales)`; the scales are inputs of the compiled kernels."""

    def kernel_fn(x1, x2):
        return Kernels(*(np.asarray(part) for part in _blocks(build, scales, x1, x2)))

    # A kernel function of the cell's own would compile everything anew: it is never called, kernels are passed instead.
    ens = Ensemble.from_kernels(_not_called, x, y, jax.tree.map(jnp.asarray, kernel_fn(x, None)), singular=singular)
    prior = kernel_fn(x_test, None).nngp
    cross = ens.cross_kernels(kernel_fn(x_test, x), prior=prior, joint=options.get("joint") is not False)
    result = curve(ens, cross, y_test, t, **options)
    ceilings = {"log_m": np.asarray(result.log_m), "label_entropy": np.asarray(result.label_entropy)}
    return result.columns() | ceilings


def _blocks(build, scales, x1, x2):
    """Kernels in blocks of rows and columns that fit in memory, the scales being inputs of the one program."""
    size = kernels.block_size(x1)
    other = x1 if x2 is None else x2
    if max(len(x1), len(other)) <= size:
        # Filled up, so that neighbouring numbers of inputs share the program; entries of images are dear.
        full = [x if x is None or x.ndim > 2 else padding.repeat_last(np.asarray(x), min(padding.near(len(x)), size))
                for x in (x1, x2)]  # fmt: skip
        return Kernels(*(padding.cut(part, (len(x1), len(other))) for part in _block(build, scales, *full)))
    rows = [
        [_block(build, scales, x1[i : i + size], other[j : j + size]) for j in range(0, len(other), size)]
        for i in range(0, len(x1), size)
    ]
    return Kernels(*(jnp.block([[block[p] for block in row] for row in rows]) for p in (0, 1)))


def _grid(name, values, *, zero):
    values = np.atleast_1d(check.values(name, values))
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"`{name}` must be a vector of scales, not empty; got shape {values.shape}.")
    check.positive(name, values, zero=zero)
    check.real_numbers(name, values, high=check.LARGEST_SCALE)
    if len(np.unique(values)) != len(values):
        raise ValueError(f"`{name}` must not repeat a scale; got {values.tolist()}.")
    return [float(value) for value in values]


def _arguments(build, arrays, options, singular) -> dict[str, str]:
    """What a stored sweep must agree in; the network enters by the program of its kernels."""
    digests = {name: checkpoint.content_hash(np.asarray(array)) for name, array in arrays.items()}
    network = program(build, (1.25, 0.5), arrays["x"], arrays["x_test"])
    return digests | described(options) | {"build": network, "singular": singular}


def program(build, scales: tuple[float, ...], x, x_test) -> str:
    """A hash of the kernels of `build` as a function of the scales, whatever those are."""
    return checkpoint.fingerprint(functools.partial(_block, build), scales, x[:2], x_test[:3])


def described(options: dict[str, Any]) -> dict[str, str]:
    """Options of `curve` as text that tells them apart."""
    return {
        name: checkpoint.content_hash(checkpoint.key_data(value)) if name == "key" and value is not None else str(value)
        for name, value in options.items()
    }


def check_options(options: dict[str, Any]) -> None:
    """Refuses options that `curve` does not have, or that no cell could take."""
    if "checkpoint" in options:
        raise TypeError(
            "`options` must hold no `checkpoint`, in which one curve keeps what it has computed so far; a sweep keeps "
            "its finished cells. Pass `folder` in its place."
        )
    parameters = inspect.signature(curve).parameters.values()
    unknown = set(options) - {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if unknown:
        raise TypeError(f"`options` must be those of `information.curve`; got {', '.join(sorted(unknown))}.")
    # As `curve` does at its door: here before the first kernel.
    check.positive("noise", options.get("noise", 1.0), scalar=True)
    check.flag("joint", options.get("joint"), none=True)
    check.option("task", options.get("task", "auto"), labels.TASKS)
    check.integer("n_samples", options.get("n_samples", 1))
    if options.get("label_entropy") is not None:
        labels.check_entropy(options["label_entropy"])
    if options.get("batch_size") is not None:
        check.integer("batch_size", options["batch_size"])


def _name(w, b):
    return f"w{w!r}_b{b!r}"
