"""Curves over a grid of networks, data and seeds: each cell a file, computed here, in processes or on a cluster."""

import dataclasses
import itertools
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import scipy.stats
from jaxtyping import ArrayLike, Num

from ntkinfo import datasets, networks
from ntkinfo._common import check, checkpoint, parallel, tables
from ntkinfo._common import progress as _progress
from ntkinfo._common.quantities import catalogue, scaled
from ntkinfo.datasets import Dataset
from ntkinfo.sweep import _scales

if TYPE_CHECKING:
    import pandas as pd

# Axes that say which data; all others are arguments of `build`.
DATA_AXES = ("n", "seed")
_CEILINGS = ("log_m", "label_entropy")
# How often unfinished cells of an executor are looked at.
_PATIENCE_S = 0.05


class Band(NamedTuple):
    """A quantity over replicates: its mean and what is known of it. Made by `Grid.band`. Arrays of the other axes, t.

    Attributes:
      mean: over replicates.
      std: their standard deviation (of one replicate, with R - 1).
      stderr: standard error of the mean, std/√R.
      lower: lower end of a band that covers the mean over draws with the probability asked for, by Student's t.
      upper: its upper end.
      n_replicates: R, how many there are, without cells that failed.
    """

    mean: np.ndarray
    std: np.ndarray
    stderr: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    n_replicates: np.ndarray

    __repr__ = tables.one_line
    _repr_html_ = tables.html


class Grid(NamedTuple):
    """Curves over a grid of axes A, B, ... of any kind. Made by `grid`.

    Attributes:
      axes: names of the axes to their values, in order.
      t: training times, (T,).
      values: name of a quantity, as in `Curve.columns`, to its values (A, B, ..., T), information in nats; `nan` in the
        cells listed in `failed`.
      ceilings: "log_m" and "label_entropy" to their values in nats, (A, B, ...).
      failed: values of the axes of cells that could not be computed, to the reason.
    """

    axes: dict[str, tuple]
    t: np.ndarray
    values: dict[str, np.ndarray]
    ceilings: dict[str, np.ndarray]
    failed: dict[tuple, str]

    quantities = catalogue
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas DataFrame with a row per cell and time: the axes, t, a column per quantity, the ceilings.

        Args:
          unit: "nats" or "bits", of information and negative log-likelihoods.

        Raises:
          ValueError: an unknown unit.
        """
        scale = tables.factor(unit)
        cells = list(itertools.product(*self.axes.values()))
        times = len(self.t)
        columns: dict[str, Any] = {
            name: [value for cell in cells for value in [cell[i]] * times] for i, name in enumerate(self.axes)
        }
        columns["t"] = np.tile(self.t, len(cells))
        columns |= {name: value.ravel() for name, value in scaled(self.values, scale).items()}
        columns |= {name: scale * np.repeat(value.ravel(), times) for name, value in self.ceilings.items()}
        return tables.frame(columns, {}, unit)

    def band(self, quantity: str, over: str = "seed", *, coverage: float = 0.95) -> Band:
        """A quantity over the replicates along one axis, such as draws of the data.

        Args:
          quantity: its name, one of `values`.
          over: the axis of replicates.
          coverage: probability with which the band is to cover the mean over draws, for replicates that are independent
            and about normal.

        Raises:
          ValueError: a quantity or an axis that is not there, fewer than two replicates, a coverage outside (0, 1).
        """
        check.on_host({"coverage": coverage})
        check.option("quantity", quantity, tuple(self.values))
        check.option("over", over, tuple(self.axes))
        check.number("coverage", coverage, 0, 1, ends=False)
        axis = list(self.axes).index(over)
        values = np.moveaxis(self.values[quantity], axis, 0)
        count = np.sum(np.isfinite(values), axis=0)
        if len(values) < 2 or count.max(initial=0) < 2:
            raise ValueError(f"`over` must be an axis of at least two replicates; {over!r} has {len(values)}.")
        known = np.where(np.isfinite(values), values, 0.0)
        enough = count >= 2
        mean = np.where(enough, known.sum(axis=0) / np.maximum(count, 1), np.nan)
        squares = np.where(np.isfinite(values), (values - mean) ** 2, 0.0).sum(axis=0)
        std = np.sqrt(squares / np.maximum(count - 1, 1))
        stderr = np.where(enough, std / np.sqrt(np.maximum(count, 1)), np.nan)
        reach = scipy.stats.t.ppf(0.5 + 0.5 * float(coverage), np.maximum(count - 1, 1)) * stderr
        return Band(mean, np.where(enough, std, np.nan), stderr, mean - reach, mean + reach, count)


@dataclasses.dataclass(frozen=True)
class _Build:
    """`build` as a function of the scales alone: all cells that share the rest share one program."""

    build: Callable
    names: tuple[str, ...]
    fixed: tuple[tuple[str, Any], ...]

    def __call__(self, *scales):
        return self.build(**dict(zip(self.names, scales, strict=True)), **dict(self.fixed))


def grid(
    build: Callable,
    data: Dataset | Callable[..., Dataset],
    t: Num[ArrayLike, "*T"],
    *,
    axes: Mapping[str, Sequence],
    folder: str | Path | None = None,
    executor: Any = None,
    singular: str = "error",
    progress: bool | None = None,
    **options,
) -> Grid:
    """Curves for every cell of a grid of networks, numbers of training inputs and draws of the data.

    Axes of floating-point numbers, such as scales, are inputs of the compiled kernels: cells that differ in these alone
    share one program in each process. A folder may serve several grids: a cell is a file named by its content, and
    whatever grid asks for it next reads it.

    Args:
      build: `build(**axes)` returns a network of `ntkinfo.stax`; its arguments are the axes other than "n" and "seed".
      data: a `Dataset`, or a function of "n" and "seed", those of them that are axes, that returns one. Of a `Dataset`
        axis "n" takes the first n training rows; with axis "seed" they are drawn at random.
      t: training times, (T,).
      axes: names to values: numbers, text or booleans, at least one each. "n" and "seed" choose data.
      folder: where finished cells are written as they come; None keeps everything in memory only.
      executor: a `concurrent.futures.Executor`, or one that submits like it (of `submitit` or Dask); `build` and
        function `data` must then be importable there, no lambdas. None computes here. It is not shut down.
      singular: as in `Ensemble.fit`.
      progress: whether to show a progress bar; None shows it after 3 seconds.
      **options: passed to `ntkinfo.information.curve`: noise, method, key, n_samples, joint, label_entropy, task.

    Returns:
      A `Grid`. A cell that cannot be computed is `nan` and is listed with its reason in `failed`; it does not stop the
      others. A quantity that some cells do not have is `nan` there.

    Raises:
      TypeError: `build` or `data` are no functions, options that `curve` does not have, an executor that has no
        `submit`, functions that cannot be sent to it.
      ValueError: no axes, axes without values or with repeated ones, arguments that `build` does not have, a folder of
        something else; everything `Ensemble.fit` and `curve` refuse, if every cell fails.

    Example:
      >>> data, axes = datasets.gaussian(50, 10), {"w_std": [1.0, 2.0], "n": [20], "seed": range(2)}
      >>> swept = grid(lambda w_std: build(w_std, 0.1), data, t, axes=axes)
      >>> swept.band("mean_mse").mean.shape
      (2, 1, 2)
    """
    check.on_host({"t": t, "singular": singular})
    check.function("build", build, "a function of the axes that returns a network")
    check.option("singular", singular, ("error", "project"))
    check.flag("progress", progress, none=True)
    _scales.check_options(options)
    named = _axes(axes)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"`executor` must be a `concurrent.futures.Executor`; got {check.described(executor)}.")
    times = np.asarray(np.atleast_1d(check.times("t", t)))
    draws = _draws(data, named)
    # Scales are traced; what chooses layers is not.
    traced = tuple(
        name for name, values in named.items() if name not in DATA_AXES and all(type(v) is float for v in values)
    )
    store = None if folder is None else checkpoint.Checkpoint(
        check.path("folder", folder), {"kind": "cells of a grid"}, argument="folder"
    )  # fmt: skip
    cells = {cell: dict(zip(named, cell, strict=True)) for cell in itertools.product(*named.values())}
    jobs, names, found, failed, programs = {}, {}, {}, {}, {}
    for cell, chosen in cells.items():
        drawn = draws[tuple(chosen[name] for name in DATA_AXES if name in named)]
        fixed = tuple((name, v) for name, v in chosen.items() if name not in (*traced, *DATA_AXES))
        scales = tuple(chosen[name] for name in traced)
        jobs[cell] = (_Build(build, traced, fixed), scales, _arrays(drawn), times, singular, options)
        if len(jobs) == 1:
            _check_build(*jobs[cell][:2])
        if store is not None:
            try:
                names[cell] = _name(jobs[cell], programs)
            except ValueError as error:
                failed[cell] = str(error)
                continue
            columns = store.load(names[cell])
            if columns is not None:
                found[cell] = columns
    left = [cell for cell in cells if cell not in found and cell not in failed]
    for cell, columns, reason in _computed(jobs, left, executor, progress):
        if columns is None:
            failed[cell] = reason
            continue
        found[cell] = columns
        if store is not None:
            store.save(names[cell], columns)
    if not found:
        cell, reason = next(iter(failed.items()))
        raise ValueError(f"`axes` must have a cell that can be computed; got for {cells[cell]}: {reason}")
    return _assembled(named, times, found, {cell: failed[cell] for cell in cells if cell in failed})


def _check_build(build: _Build, scales: tuple) -> None:
    try:
        networks.kernel_function(build(*scales))
    except TypeError as error:
        axes = ", ".join((*build.names, *(name for name, _ in build.fixed))) or "nothing"
        raise TypeError(f"`build` must be a function of {axes} that returns a network: {error}") from error


def _computed(jobs, left, executor, progress):
    """Cells with their columns, or None and why not, as they come."""
    x64 = bool(jax.config.read("jax_enable_x64"))
    if executor is None:
        for cell in _progress.bar(left, desc="grid", unit="cell", progress=progress):
            yield cell, *_job(x64, *jobs[cell])
        return
    waiting = {cell: executor.submit(_job, x64, *_packed(jobs[cell])) for cell in left}
    try:
        for _ in _progress.bar(range(len(left)), desc="grid", unit="cell", progress=progress):
            while not (ready := [cell for cell, future in waiting.items() if future.done()]):
                time.sleep(_PATIENCE_S)
            try:
                yield ready[0], *waiting.pop(ready[0]).result()
            except (pickle.PicklingError, AttributeError) as error:
                if "pickle" not in str(error).lower() and not isinstance(error, pickle.PicklingError):
                    raise
                raise TypeError(
                    f"`build` and `data` must be functions that can be sent to `executor`, of a module: {error}"
                ) from error
    finally:
        # Nothing but an error leaves some.
        for future in waiting.values():
            future.cancel()


def _job(x64, build, scales, arrays, t, singular, options) -> tuple[dict[str, np.ndarray] | None, str]:
    """One cell, wherever it is computed: its columns, or None and why not."""
    options = dict(options)
    if isinstance(options.get("key"), tuple):
        words, kind = options["key"]
        options["key"] = jax.random.wrap_key_data(words, impl=kind) if kind else jax.numpy.asarray(words)
    with parallel.enable_x64(x64):
        try:
            return _scales.curve_of(build, scales, *map(jax.numpy.asarray, arrays), t, singular, options), ""
        except ValueError as error:
            return None, str(error)


def _packed(job):
    """A job whose random key, an array of a device, can be sent to another process."""
    *rest, options = job
    key = options.get("key")
    if key is None:
        return job
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return (*rest, options | {"key": (checkpoint.key_data(key), str(jax.random.key_impl(key)) if typed else "")})


def _axes(axes) -> dict[str, tuple]:
    """The axes with plain values, each kind of number of one type."""
    if not isinstance(axes, Mapping) or not axes or not all(isinstance(name, str) for name in axes):
        raise TypeError(f"`axes` must be a dictionary of names to values, not empty; got {check.described(axes)}.")
    named = {}
    for name, values in axes.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise TypeError(f"`axes` must hold sequences of values; got {check.described(values)} for {name!r}.")
        plain = [value.item() if isinstance(value, np.generic | jax.Array | np.ndarray) else value for value in values]
        if not plain or not all(isinstance(value, bool | int | float | str) for value in plain):
            raise ValueError(f"`axes` must hold numbers, text or booleans, at least one; got {plain!r} for {name!r}.")
        if any(isinstance(value, float) for value in plain):
            plain = [
                float(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in plain
            ]
        if any(isinstance(value, float) and not np.isfinite(value) for value in plain):
            raise ValueError(f"`axes` must hold finite numbers; got {plain!r} for {name!r}.")
        if len(set(plain)) != len(plain):
            raise ValueError(f"`axes` must not repeat a value; got {plain!r} for {name!r}.")
        if name in DATA_AXES:
            plain = [check.integer(f"axes[{name!r}]", value, least=int(name == "n")) for value in plain]
        named[name] = tuple(plain)
    return named


def _draws(data, named) -> dict[tuple, Dataset]:
    """The data for every choice along the axes of data."""
    chosen = [name for name in DATA_AXES if name in named]
    draws = {}
    for values in itertools.product(*(named[name] for name in chosen)):
        picked = dict(zip(chosen, values, strict=True))
        if isinstance(data, Dataset):
            draws[values] = _subset(data, **picked)
            continue
        check.function("data", data, "a `Dataset`, or a function of the axes n and seed that returns one")
        try:
            drawn = data(**picked)
        except TypeError as error:
            raise TypeError(f"`data` must be a function of {', '.join(chosen) or 'nothing'}: {error}") from error
        check.instance("data", drawn, Dataset, maker="`ntkinfo.datasets`")
        draws[values] = drawn
    return draws


def _subset(data: Dataset, n: int | None = None, seed: int | None = None) -> Dataset:
    """n of the training rows: the first, or drawn by `seed`."""
    rows = len(data.x_train)
    n = rows if n is None else n
    if n > rows:
        raise ValueError(f"`axes` must ask for at most the {rows} training rows of `data`; got n = {n}.")
    if seed is not None and n == rows:
        raise ValueError(
            f'`axes` must leave something to draw for "seed": give "n" below the {rows} training rows of `data`, or '
            "a function `data(n=..., seed=...)`."
        )
    at = np.arange(n) if seed is None else datasets.subsample(rows, [n], seed=seed)[0]
    labels = None if data.labels_train is None else data.labels_train[at]
    return dataclasses.replace(data, x_train=data.x_train[at], y_train=data.y_train[at], labels_train=labels)


def _arrays(data: Dataset) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(getattr(data, name)) for name in ("x_train", "y_train", "x_test", "y_test"))


def _name(job, programs: dict) -> str:
    """The file of a cell: by its kernels as a program, scales, data, times and options.

    Raises:
      ValueError: a network whose kernels cannot be evaluated.
    """
    build, scales, arrays, t, singular, options = job
    shapes = tuple(array.shape[1:] for array in arrays)
    if (build, shapes) not in programs:
        x, _, x_test, _ = map(jax.numpy.asarray, arrays)
        programs[build, shapes] = _scales.program(build, scales, x, x_test)
    content = [programs[build, shapes], repr(scales), *map(checkpoint.content_hash, (*arrays, t)), singular]
    content += [f"{name}={value}" for name, value in sorted(_scales.described(options).items())]
    return f"cell_{checkpoint.content_hash(' '.join(content))}"


def _assembled(named, times, found, failed) -> Grid:
    shape = tuple(len(values) for values in named.values())
    index = {cell: at for cell, at in zip(itertools.product(*named.values()), np.ndindex(*shape), strict=True)}
    quantities = dict.fromkeys(name for columns in found.values() for name in columns if name not in ("t", *_CEILINGS))
    values = {name: np.full((*shape, len(times)), np.nan) for name in quantities}
    ceilings = {name: np.full(shape, np.nan) for name in _CEILINGS}
    for cell, columns in found.items():
        for name in quantities:
            if name in columns:
                values[name][index[cell]] = columns[name]
        for name in _CEILINGS:
            ceilings[name][index[cell]] = float(columns[name])
    return Grid(named, times, values, ceilings, failed)
