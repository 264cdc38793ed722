"""Block Lanczos: a symmetric matrix, known by its products alone, projected to the Krylov space of some columns.

On the host, in float64 whatever JAX's precision: the products are what costs.
"""

from collections.abc import Callable

import numpy as np

# Directions that a block adds below this share of it are taken for rounding.
_DEPENDENT = 1e-12


class BlockLanczos:
    """An orthonormal basis V (n, q) of span{B, ΘB, Θ²B, ...}, with H = VᵀΘV and G = VᵀKV; grown by `step`.

    Fully orthogonalised, twice. A block whose columns depend on each other, or on the basis, adds fewer: one-hot labels
    less their mean have rank k - 1. Leading principal parts of H and G are those of fewer steps (`sizes`).

    Args:
      start: B, (n, b); columns of zeros are allowed, not all of them.

    Attributes:
      basis: V, (n, q + pending): the last columns have not been multiplied yet.
      ntk: H, (q, q).
      nngp: G, (q, q); of zeros where products with K were left out.
      sizes: q after each step.
      exhausted: whether the space is closed under Θ: it has nothing to add, and functions of Θ are exact.

    Source: Golub & Van Loan, Matrix Computations, section 10.3; theory, section 15.
    """

    def __init__(self, start: np.ndarray):
        start = np.asarray(start, np.float64)
        norms = np.linalg.norm(start, axis=0)
        # Of columns of very different lengths none is lost: the space does not depend on them.
        block = _orthonormal(start / np.where(norms > 0, norms, 1.0), 1.0)
        self.basis = block
        self.ntk = np.zeros((0, 0))
        self.nngp = np.zeros((0, 0))
        self.sizes: list[int] = []
        self.exhausted = block.shape[1] == 0

    @property
    def pending(self) -> np.ndarray:
        """The columns of the basis that have not been multiplied yet, (n, b)."""
        done = self.sizes[-1] if self.sizes else 0
        return self.basis[:, done:]

    def step(self, products: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]) -> None:
        """Multiplies the pending block and adds the next one.

        Args:
          products: of columns (n, b): ΘV and KV, or ΘV and None.
        """
        image, other = products(self.pending)
        self._last_image = image
        self.ntk = _extended(self.ntk, self.basis.T @ image)
        self.nngp = _extended(self.nngp, np.zeros((0, 0)) if other is None else self.basis.T @ other)
        self.sizes.append(len(self.ntk))
        room = self.basis.shape[0] - self.basis.shape[1]
        block = self._beyond(image)[:, :room] if room else image[:, :0]
        self.exhausted = block.shape[1] == 0
        self.basis = np.concatenate([self.basis, block], axis=1)

    def beyond(self, size: int) -> np.ndarray:
        """V₊ᵀΘV for the first `size` columns V of the basis, V₊ the block that came next, (b, size)."""
        if size == 0 or size < self.sizes[-1]:
            following = next((later for later in self.sizes if later > size), size)
            return self.ntk[size:following, :size]
        block = self.pending
        coupling = np.zeros((block.shape[1], size))
        columns = self._last_image.shape[1]
        coupling[:, size - columns :] = block.T @ self._last_image
        return coupling

    def _beyond(self, image: np.ndarray) -> np.ndarray:
        """An orthonormal basis of what columns (n, b) have beyond the basis."""
        scale = float(np.linalg.norm(image))
        rest = image
        for _ in range(2):
            rest = rest - self.basis @ (self.basis.T @ rest)
        block = _orthonormal(rest, scale)
        # What was small has lost its orthogonality to the basis where it was scaled up.
        for _ in range(2):
            block = block - self.basis @ (self.basis.T @ block)
        return np.linalg.qr(block)[0]


def _orthonormal(columns: np.ndarray, scale: float) -> np.ndarray:
    """An orthonormal basis of columns (n, b), without directions below rounding of `scale`."""
    if columns.shape[1] == 0:
        return columns
    q, r = np.linalg.qr(columns)
    left, weight, _ = np.linalg.svd(r)
    return q @ left[:, : len(weight)][:, weight > _DEPENDENT * scale]


def _extended(matrix: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A symmetric matrix (q, q) with the columns (q + b, b) that come next, symmetrised."""
    q, b = len(matrix), columns.shape[1]
    grown = np.zeros((q + b, q + b))
    grown[:q, :q] = matrix
    grown[:q, q:] = columns[:q]
    grown[q:, :q] = columns[:q].T
    grown[q:, q:] = 0.5 * (columns[q:] + columns[q:].T)
    return grown
