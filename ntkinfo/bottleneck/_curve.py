"""Optimal representations over β: the result of every bottleneck, and what follows from its encoders."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo import discrete
from ntkinfo._common import check, parallel, tables
from ntkinfo._numerics import entropy
from ntkinfo.bottleneck import _sweeps
from ntkinfo.bottleneck._distortion import Problem, decoder, distortion, log_decoder, slopes
from ntkinfo.bottleneck._encoders import Encoders

if TYPE_CHECKING:
    import pandas as pd

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_double(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`function` of a table, computed in float64 within the call; results in the dtype of the table."""

    @functools.wraps(function)
    def wrapped(p_xy, *args, **kwargs):
        names = p_xy.names if isinstance(p_xy, discrete.JointTable) else None
        p_xy = p_xy.p_xy if isinstance(p_xy, discrete.JointTable) else p_xy
        p_xy = discrete.check_joint("p_xy", p_xy)
        if not check.concrete(p_xy, args, kwargs):
            raise ValueError("`p_xy` and `beta` must be known: the search runs on the host. Call it outside `jit`.")
        host = np.asarray(p_xy, np.float64)
        # A context, not a setting: what other code computes in is left alone.
        with parallel.enable_x64(True):
            result = function(host / host.sum(), *args, **kwargs)

        def cast(leaf):
            if isinstance(leaf, Encoders):
                return leaf.astype(p_xy.dtype)
            host = np.asarray(leaf)
            return jnp.asarray(host.astype(p_xy.dtype) if host.dtype.kind == "f" else host)

        made = jax.tree.map(cast, result)
        return made._replace(names=names) if isinstance(made, BottleneckCurve) else made

    return wrapped


class BottleneckCurve(NamedTuple):
    """Optimal representations over β; arrays over β in the order given, informations in nats.

    Attributes:
      beta: (B,).
      i_xz: I(X;Z), (B,).
      i_zy: I(Z;Y) with the Markov decoder Σ_x p(y|x) p(x|z): the true information about Y, (B,).
      i_zy_model: with Ŷ drawn from the method's own decoder, I(Z;Ŷ), (B,); for IB the same as `i_zy`, for the dual
        that of the geometric decoder.
      lagrangian: I(X;Z) + β E D, of the method's own distortion and decoder, (B,); H(Z) - α H(Z|X) + β E D for
        `generalised_ib` and `deterministic_ib`.
      gap: upper bound on how far `lagrangian` is above the global optimum, (B,); None unless asked for. Proven where
        `certified`, else from the largest violation that a search has found.
      encoder: p(z|x), (B, x, z); clusters in order of mass, those not in use at the end with probability 0. Where all
        of them would take more than 1 GB each is computed when it is asked for: `encoder[i]`, (x, z), of one β.
      n_clusters: clusters in use, (B,).
      converged: whether the iterations converged to the tolerance, or, where clusters are many, a search of the dual
        finds no more than 5e-10 nats to gain, (B,).
      decoder: the method's own p(y|z), (B, z, y).
      prior: p(z), (B, z).
      on_hull: whether the point lies on the concave hull of all points, (B,); False marks a branch that is not optimal.
      strictly_concave: False where Y is a function of X: the curve is then piecewise linear, the Lagrangian finds its
        corners only, and `squared_ib` traces it.
      i_xy: I(X;Y).
      h_x: H of X with inputs of equal p(y|x) taken as one, the largest I(X;Z) worth having.
      features: A_r(z), (B, z, r), where the dual was given features; else None.
      certified: whether `gap` is proven up to rounding, (B,): for two, three and four labels; None where `gap` is.
      names: of inputs and labels, where the table had them (`discrete.from_counts`); else None.
    """

    beta: Array
    i_xz: Array
    i_zy: Array
    i_zy_model: Array
    lagrangian: Array
    gap: Array | None
    encoder: Array | Encoders
    n_clusters: Array
    converged: Array
    decoder: Array
    prior: Array
    on_hull: Array
    strictly_concave: Array
    i_xy: Array
    h_x: Array
    features: Array | None = None
    certified: Array | None = None
    names: discrete.Names | None = None

    _table = tables.Table(
        ("beta",),
        nats="i_xz i_zy i_zy_model lagrangian gap",
        plain="n_clusters converged on_hull certified",
        totals="i_xy* h_x* strictly_concave",
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html

    def assignments(self, index: int | None = None) -> "pd.DataFrame":
        """The likeliest cluster of every input, and how likely it is: columns beta, x, cluster, probability.

        Args:
          index: of one β; None for all.

        Returns:
          A pandas table with a row per β and input, under the names of the table where it had any.

        Raises:
          TypeError, ValueError: an index that is none of the curve's.
        """
        chosen = list(range(len(self.beta))) if index is None else [_position(index, len(self.beta))]
        names, likeliest = self._names()[0], []
        for i in chosen:
            encoder = np.asarray(self.encoder[i])
            likeliest.append((encoder.argmax(axis=1), encoder.max(axis=1)))
        columns = {
            "beta": np.repeat(np.asarray(self.beta)[chosen], len(names)),
            "x": list(names) * len(chosen),
            "cluster": np.concatenate([cluster for cluster, _ in likeliest]),
            "probability": np.concatenate([probability for _, probability in likeliest]),
        }
        return tables.frame(columns, {}, "nats")

    def encoder_table(self, index: int) -> "pd.DataFrame":
        """p(z|x) at one β: inputs in rows, under their names, clusters in use in columns.

        Args:
          index: of the β.

        Raises:
          TypeError, ValueError: an index that is none of the curve's.
        """
        index = _position(index, len(self.beta))
        encoder = np.asarray(self.encoder[index])[:, : int(self.n_clusters[index])]
        made = tables.frame({f"z{j}": encoder[:, j] for j in range(encoder.shape[1])}, {}, "nats")
        made.index = self._names()[0]
        return made

    def decoder_table(self, index: int) -> "pd.DataFrame":
        """p(y|z) at one β: clusters in use in rows, labels in columns, under their names.

        Args:
          index: of the β.

        Raises:
          TypeError, ValueError: an index that is none of the curve's.
        """
        index = _position(index, len(self.beta))
        decoder = np.asarray(self.decoder)[index, : int(self.n_clusters[index])]
        made = tables.frame(dict(zip(self._names()[1], decoder.T, strict=True)), {}, "nats")
        made.index = [f"z{j}" for j in range(len(decoder))]
        return made

    def _names(self) -> tuple[list[str], list[str]]:
        if self.names is not None:
            return list(self.names.rows), list(self.names.columns)
        return [str(i) for i in range(self.encoder.shape[1])], [str(j) for j in range(self.decoder.shape[2])]


def _position(index, length: int) -> int:
    """An index of a curve, counted from the end where it is negative."""
    return check.integer("index", index, least=-length, most=length - 1) % length


def validate(beta: ArrayLike) -> np.ndarray:
    """The grid of β as a vector."""
    check.positive("beta", beta)
    return np.asarray(check.array("beta", np.atleast_1d(np.asarray(check.values("beta", beta), np.float64)), 1))


def check_dual(p_xy: np.ndarray | Array) -> None:
    """Refuses zeros, where the distortion of the dual bottleneck is infinite."""
    n_zeros = int((np.asarray(p_xy) == 0).sum())
    if n_zeros:
        raise ValueError(
            "`p_xy` must be positive for the dual bottleneck, whose distortion is infinite at zeros; got "
            f"{n_zeros} zeros. Smooth it first: `ni.bottleneck.smooth(p_xy, 1e-6)`."
        )


class Measured(NamedTuple):
    """What follows from the encoders over β: the fields of a `BottleneckCurve` of these names."""

    i_xz: Array
    i_zy: Array
    i_zy_model: Array
    lagrangian: Array
    decoder: Array
    prior: Array
    n_clusters: Array


def measure(problem: Problem, beta: Float[np.ndarray, " b"], alpha: float, encoders: np.ndarray) -> Measured:
    """Everything that follows from encoders (B, x, z) of the problem, each at its β."""
    p_xz = problem.p_x[:, None] * encoders
    moments = p_xz.swapaxes(1, 2) @ np.insert(problem.features, 0, 1.0, axis=1)
    p_z = moments[:, :, 0]
    used = p_z > 0
    mean = moments[:, :, 1:] / np.where(used, p_z, 1)[:, :, None]
    if not used.all():
        mean = np.where(used[:, :, None], mean, problem.p_x @ problem.features)
    of_y, log_p_y_given_z = decoder(problem, mean), log_decoder(problem, mean)
    pairs = distortion(problem, log_p_y_given_z)
    # A difference of two sums: below their rounding it is none, however large the β it is multiplied by.
    sums = 1 + np.abs(problem.own)[:, None]
    if problem.dual:
        sums = sums + np.abs(slopes(problem, log_p_y_given_z)[1])[:, None, :]
    pairs *= pairs > 4 * float(np.finfo(float).eps) * sums
    i_xz = entropy.mutual_information(p_xz)
    # I(X;Z), or H(Z) - α H(Z|X) for α below 1.
    rate = i_xz if alpha == 1 else i_xz + (1 - alpha) * (entropy.entropy(p_z) - i_xz)
    return Measured(
        i_xz,
        entropy.mutual_information(p_xz.swapaxes(1, 2) @ problem.p_y_given_x),
        entropy.mutual_information(p_z[:, :, None] * of_y),
        rate + beta * np.einsum("bxz,bxz->b", p_xz, pairs),
        of_y,
        p_z,
        np.sum(used, axis=1),
    )


def measure_all(problem: Problem, beta: Float[np.ndarray, " b"], alpha: float, encoders) -> Measured:
    """`measure` in parts of what a core's cache holds; encoders may be computed as they are asked for."""
    parts = _sweeps.slices(len(beta), encoders.shape[1] * encoders.shape[2])

    def run(part):
        return measure(problem, beta[part], alpha, np.asarray(encoders[part]))

    # Threads that do little wait for one another.
    large = encoders.shape[1] * encoders.shape[2] >= _sweeps.THREADED
    found = list((parallel.map if large else map)(run, parts))
    return Measured(*(np.concatenate(field) for field in zip(*found, strict=True)))


def finish(
    p_xy: Float[np.ndarray, "x y"],
    beta: Float[np.ndarray, " b"],
    encoders: Float[np.ndarray, "b m z"] | Encoders,
    measured: Measured,
    index: np.ndarray,
    converged: np.ndarray,
    gaps: np.ndarray | None = None,
    certified: np.ndarray | None = None,
) -> BottleneckCurve:
    """The result: encoders of the inputs as they were given, `index` their rows among the merged ones, (x,)."""
    merged_mass = np.bincount(index, weights=p_xy.sum(1))
    if isinstance(encoders, Encoders):
        encoders = dataclasses.replace(encoders, rows=index)
    elif not np.array_equal(index, np.arange(encoders.shape[1])):
        encoders = encoders[:, index]
    i_xy, h_x = entropy.mutual_information(p_xy), entropy.entropy(merged_mass)
    corners = concave_hull(measured.i_xz, measured.i_zy, h_x, i_xy)
    # Points of a branch that is not optimal lie below the hull.
    below = np.interp(measured.i_xz, *corners) - measured.i_zy
    return BottleneckCurve(
        beta=beta,
        gap=gaps,
        certified=certified,
        encoder=encoders,
        converged=converged,
        on_hull=below <= 1e-7 * max(1.0, float(i_xy)),
        strictly_concave=np.asarray(not discrete.is_deterministic(p_xy)),
        i_xy=i_xy,
        h_x=h_x,
        **measured._asdict(),
    )


def concave_hull(
    i_xz: Float[ArrayLike, " b"], i_zy: Float[ArrayLike, " b"], h_x: ArrayLike, i_xy: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Corners, ascending, of the upper concave hull of points, of (0, 0) and of (H(X'), I(X;Y))."""
    x = np.concatenate([[0.0], np.atleast_1d(np.asarray(i_xz, float)), [float(h_x)]])
    y = np.concatenate([[0.0], np.atleast_1d(np.asarray(i_zy, float)), [float(i_xy)]])
    kept: list[int] = []
    for i in np.lexsort((-y, x)):
        if kept and (y[i] <= y[kept[-1]] or x[i] - x[kept[-1]] <= 1e-15):
            continue
        while len(kept) > 1 and (y[kept[-1]] - y[kept[-2]]) * (x[i] - x[kept[-2]]) <= (y[i] - y[kept[-2]]) * (
            x[kept[-1]] - x[kept[-2]]
        ):
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]
