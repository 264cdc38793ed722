"""Encoders over β that are computed when they are asked for: of large tables all of them together would not fit."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from ntkinfo._common import memory
from ntkinfo.bottleneck import _solver
from ntkinfo.bottleneck._distortion import Problem


@dataclasses.dataclass(frozen=True)
class OfClusters:
    """p(z|x), (x, z), at the β of a number, of its clusters: what `Encoders` asks, and what a file holds.

    Attributes:
      problem: the table that was compressed.
      beta: (B,).
      alpha: of the family of bottlenecks, 1 for `ib`.
      log_p_z: log p(z), (B, z).
      log_p_y_given_z: log p(y|z), (B, z, y).
    """

    problem: Problem
    beta: np.ndarray
    alpha: float
    log_p_z: np.ndarray
    log_p_y_given_z: np.ndarray

    def __call__(self, i: int) -> np.ndarray:
        clusters = self.log_p_z[i], self.log_p_y_given_z[i]
        return _solver.encoder(self.problem, float(self.beta[i]), self.alpha, *clusters)


@dataclasses.dataclass(frozen=True)
class Encoders:
    """p(z|x) over β, (B, x, z), in place of an array: `encoders[i]` computes (x, z) of one β, and keeps nothing.

    Indexed, sliced along β and converted (`numpy.asarray`, where it fits) as an array is.

    Attributes:
      of_beta: the encoder (inputs, z) at the β of a number.
      chosen: numbers of the β, (B,).
      rows: of the inputs among those of `of_beta`, (x,).
      width: clusters, z.
      dtype: of the arrays returned.
    """

    of_beta: Callable[[int], np.ndarray]
    chosen: np.ndarray
    rows: np.ndarray
    width: int
    dtype: np.dtype = dataclasses.field(default_factory=lambda: np.dtype(np.float64))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, x, z)."""
        return len(self.chosen), len(self.rows), self.width

    @property
    def ndim(self) -> int:
        """3, as of the array."""
        return 3

    @property
    def nbytes(self) -> int:
        """What all of them take as one array."""
        return int(np.prod(self.shape, dtype=float)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key) -> "np.ndarray | Encoders":
        first, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(first, slice | list | np.ndarray) and first is not Ellipsis:
            found = self.of_beta(int(self.chosen[first]))[self.rows].astype(self.dtype)
            return found[tuple(rest)] if rest else found
        if rest or first is Ellipsis:
            return np.asarray(self)[key]
        return dataclasses.replace(self, chosen=self.chosen[first])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("`encoder` is computed when it is asked for: there is no array to look at without a copy.")
        memory.require(
            f"`encoder` of {len(self)} values of `beta`", self.nbytes, "Take one β at a time: `curve.encoder[i]`."
        )
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)

    def astype(self, dtype) -> "Encoders":
        """The same in another precision."""
        return dataclasses.replace(self, dtype=np.dtype(dtype))

    def __repr__(self) -> str:
        return f"Encoders of shape {self.shape}, {self.dtype}, each computed when asked for"
