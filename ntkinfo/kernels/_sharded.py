"""Kernels of many inputs, for products with few columns only: stored by rows, on one device or sharded over a mesh.

Each is stored less its mean and its diagonal, which are kept in the precision of the inputs: what float32 rounds is
then small beside them. Where not even that fits, the kernels are evaluated anew for every product.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ntkinfo._common import check, parallel, pytree
from ntkinfo._common import progress as progress_bar
from ntkinfo._common.checkpoint import Checkpoint
from ntkinfo.kernels import _kernels
from ntkinfo.kernels._row_shards import RowShards

# Rows of a tile, which is turned into float64 when it is multiplied: large enough for fast products.
TILE_ROWS = 1024
# Inputs whose kernel gives the mean that is split off; any number near it serves.
_MEAN_INPUTS = 256
# Bytes that addresses of arrays are to be multiples of, for JAX to use them as they are.
_ALIGNMENT = 64


class Totals(NamedTuple):
    """Sums over all entries of two kernels, in float64: what estimates of traces are corrected by.

    Attributes:
      ntk_trace: tr Θ.
      ntk_square: ‖Θ‖²_F = tr Θ².
      nngp_trace: tr K.
      product: ⟨K, Θ⟩ = tr KΘ.
      ntk_spread: root mean square of the entries of Θ as they are stored: what its rounding is a share of.
      nngp_spread: the same of K.
      ntk_pair: the least (Θ_ii + Θ_jj)/2 - Θ_ij of two inputs: no less than the least eigenvalue, and near it where the
        most alike inputs are what makes the kernel ill-conditioned.
      nngp_pair: the same of K.
    """

    ntk_trace: float
    ntk_square: float
    nngp_trace: float
    product: float
    ntk_spread: float
    nngp_spread: float
    ntk_pair: float
    nngp_pair: float


@dataclasses.dataclass(frozen=True)
class OneKernel:
    """A kernel function whose two kernels are the same one of another's: it is stored and multiplied once.

    Attributes:
      kernel_fn: the kernel function with both.
      kernel: which of them, "nngp" or "ntk".
    """

    kernel_fn: Callable
    kernel: str

    def __call__(self, x1, x2, get):
        one = getattr(_kernels.evaluate(self.kernel_fn, x1, x2), self.kernel)
        return one, one


@pytree.dataclass("n", "nngp_mean", "ntk_mean")
class StoredKernels:
    """Both kernels of n inputs, symmetric, stored by rows. Made by `stored`.

    Attributes:
      nngp: K less its mean and diagonal, (tiles, devices, rows, n); rows beyond n are zero.
      ntk: Θ likewise.
      nngp_diagonal: K(x, x), (n,), in float64, on the host.
      ntk_diagonal: Θ(x, x), (n,).
      n: number of inputs.
      nngp_mean: the number split off the entries of K beside its diagonal.
      ntk_mean: the same of Θ.
    """

    nngp: Array
    ntk: Array
    nngp_diagonal: np.ndarray
    ntk_diagonal: np.ndarray
    n: int
    nngp_mean: float
    ntk_mean: float

    @property
    def epsilon(self) -> float:
        """The unit in the last place of what is stored."""
        return float(jnp.finfo(self.ntk.dtype).eps)

    def products(self, columns: np.ndarray, progress: bool | None = False) -> tuple[np.ndarray, np.ndarray]:
        """ΘV and KV for columns V (n, b), in float64 on the host."""
        with parallel.enable_x64(True):
            mesh = _mesh_of(self.ntk)
            multiply, v = _compiled(_product, mesh), _on_every_device(columns, mesh)
            both = [np.asarray(multiply(self.ntk, v))]
            both.append(both[0] if self.nngp is self.ntk else np.asarray(multiply(self.nngp, v)))
        total = columns.sum(axis=0)
        results = []
        for product, mean, diagonal in zip(
            both, (self.ntk_mean, self.nngp_mean), (self.ntk_diagonal, self.nngp_diagonal), strict=True
        ):
            rows = np.moveaxis(product, 0, 1).reshape(-1, columns.shape[1])[: self.n]
            results.append(rows + mean * total[None, :] + (diagonal - mean)[:, None] * columns)
        return results[0], results[1]

    def totals(self) -> Totals:
        """The sums over all entries."""
        with parallel.enable_x64(True):
            mesh = _mesh_of(self.ntk)
            halves = (
                _on_every_device(0.5 * (diagonal - mean), mesh)
                for diagonal, mean in ((self.nngp_diagonal, self.nngp_mean), (self.ntk_diagonal, self.ntk_mean))
            )
            sums = [float(value) for value in _compiled(_sums, mesh)(self.nngp, self.ntk, *halves)]
        return _totals(sums, self.nngp_mean, self.ntk_mean, self.nngp_diagonal, self.ntk_diagonal)


@pytree.dataclass("kernel_fn", "nngp_mean", "ntk_mean", "batch_size")
class EvaluatedKernels:
    """Both kernels of n inputs, evaluated anew, tile by tile, for every product. Made by `evaluated`."""

    x: Array
    nngp_diagonal: np.ndarray
    ntk_diagonal: np.ndarray
    kernel_fn: Callable
    nngp_mean: float
    ntk_mean: float
    batch_size: int

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.x)

    @property
    def epsilon(self) -> float:
        """The unit in the last place of the kernels."""
        return float(jnp.finfo(self.x.dtype).eps)

    def products(self, columns: np.ndarray, progress: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """ΘV and KV for columns V (n, b), in float64 on the host."""
        same = isinstance(self.kernel_fn, OneKernel)
        results = [np.zeros_like(columns) for _ in range(1 if same else 2)]
        for i, j, both in _tiles(self.kernel_fn, self.x, self.batch_size, progress, "products"):
            for result, tile in zip(results, (both.ntk, both.nngp), strict=False):
                tile = np.asarray(tile, np.float64)
                result[i] += tile @ columns[j]
                if i != j:
                    result[j] += tile.T @ columns[i]
        return results[0], results[-1]

    def totals(self, progress: bool | None = None) -> Totals:
        """The sums over all entries, by one more evaluation of the kernels."""
        sums, pairs = np.zeros(5), np.full(2, np.inf)
        for i, j, both in _tiles(self.kernel_fn, self.x, self.batch_size, progress, "kernels"):
            nngp, ntk = (
                np.asarray(part, np.float64) - mean
                for part, mean in zip(both, (self.nngp_mean, self.ntk_mean), strict=True)
            )
            for p, (part, diagonal, mean) in enumerate(
                ((nngp, self.nngp_diagonal, self.nngp_mean), (ntk, self.ntk_diagonal, self.ntk_mean))
            ):
                apart = 0.5 * (diagonal[i][:, None] + diagonal[j][None, :]) - mean - part
                if i == j:
                    np.fill_diagonal(part, 0.0)
                    np.fill_diagonal(apart, np.inf)
                pairs[p] = min(pairs[p], apart.min())
            twice = 1.0 if i == j else 2.0
            sums += twice * np.array([nngp.sum(), ntk.sum(), (nngp**2).sum(), (ntk**2).sum(), (nngp * ntk).sum()])
        return _totals([*sums, *pairs], self.nngp_mean, self.ntk_mean, self.nngp_diagonal, self.ntk_diagonal)


def stored(
    kernel_fn: Callable,
    x: Array,
    *,
    dtype,
    mesh: Mesh | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
    checkpoint: Checkpoint | None = None,
) -> StoredKernels:
    """Both kernels of inputs (n, ...), stored by rows in a dtype; with a mesh of one axis, rows sharded over it.

    On one device only tiles on and above the diagonal are evaluated. On a mesh every process evaluates the rows that
    its own devices hold, and nothing else. Rows that a `checkpoint` has are read, and written there as they come.
    """
    n, devices = len(x), 1 if mesh is None else mesh.size
    rows = min(TILE_ROWS, -(-n // devices))
    tiles = -(-n // (devices * rows))
    shape = (tiles, devices, rows, n)
    same = isinstance(kernel_fn, OneKernel)
    shards = None if checkpoint is None else RowShards(checkpoint, ("nngp",) if same else ("nngp", "ntk"))
    fixed = _fixed(kernel_fn, x) if shards is None else shards.fixed(lambda: _fixed(kernel_fn, x))
    diagonals, means = (fixed["nngp"], fixed["ntk"]), tuple(float(each) for each in fixed["means"])
    fields = (*diagonals, n, *means)
    if mesh is not None:
        sharding = NamedSharding(mesh, PartitionSpec(None, mesh.axis_names[0], None, None))
        held = {}

        def part(which):
            def block(index):
                # Both kernels of a device's rows come from one evaluation.
                device = index[1].start or 0
                if device not in held:
                    first = device * tiles * rows
                    own = (tiles, 1, rows, n)
                    held[device] = _row_blocks(kernel_fn, x, first, own, dtype, means, batch_size, shards)
                return held[device][which]

            return jax.make_array_from_callback(shape, sharding, block)

        first = part(0)
        return StoredKernels(first, first if same else part(1), *fields)
    size = _kernels.block_size(x) if batch_size is None else batch_size
    arrays = [_zeros((tiles * rows, n), dtype) for _ in range(1 if same else 2)]
    known = _known_blocks(shards, arrays, n, size)
    for i, j, both in _tiles(kernel_fn, x, size, progress, "kernels", known):
        for array, tile, mean in zip(arrays, both, means, strict=False):
            value = np.asarray(tile) - mean
            array[i, j] = value
            if i != j:
                array[j, i] = value.T
            else:
                np.fill_diagonal(array[i, j], 0.0)
        if shards is not None and j.stop == n:
            # Columns before the diagonal came with the rows above.
            shards.write(i.start, i.stop, [array[i] for array in arrays])
    # One at a time: the copy on the host goes when that on the device is there.
    on_device = []
    while arrays:
        on_device.append(_put(arrays.pop(0).reshape(shape), x))
    return StoredKernels(on_device[0], on_device[-1], *fields)


def rows_of(held: StoredKernels) -> list[np.ndarray]:
    """What is stored of K and Θ, (n, n) each on the host, the same array twice where they are one.

    Raises:
      ValueError: rows on devices of other processes.
    """
    if not (held.ntk.is_fully_addressable and held.nngp.is_fully_addressable):
        raise ValueError(
            "`result` must have its kernels in this process: their rows are sharded over devices of several. Write "
            "their rows with `checkpoint=`, or fit on one process."
        )
    theta = np.moveaxis(np.asarray(held.ntk), 0, 1).reshape(-1, held.n)[: held.n]
    if held.nngp is held.ntk:
        return [theta, theta]
    return [np.moveaxis(np.asarray(held.nngp), 0, 1).reshape(-1, held.n)[: held.n], theta]


def stored_of_rows(
    rows: Sequence[np.ndarray], diagonals: Sequence[np.ndarray], means: Sequence[float], x: Array
) -> StoredKernels:
    """Kernels stored on one device, of what `rows_of` gave of K and Θ; one array where the second is the first."""
    n = len(rows[0])
    size = min(TILE_ROWS, n)
    tiles = -(-n // size)

    def put(array):
        filled = _zeros((tiles * size, n), array.dtype)
        filled[:n] = array
        return _put(filled.reshape(tiles, 1, size, n), x)

    first = put(rows[0])
    second = first if rows[1] is rows[0] else put(rows[1])
    return StoredKernels(first, second, diagonals[0], diagonals[1], n, *means)


def evaluated(kernel_fn: Callable, x: Array, *, batch_size: int | None = None) -> EvaluatedKernels:
    """Both kernels of inputs (n, ...), stored nowhere."""
    size = _kernels.block_size(x) if batch_size is None else batch_size
    return EvaluatedKernels(x, *_diagonals(kernel_fn, x), kernel_fn, *_means(kernel_fn, x), size)


def _fixed(kernel_fn, x) -> dict[str, np.ndarray]:
    """Diagonals of both kernels, and the means that are split off the rest."""
    nngp, ntk = _diagonals(kernel_fn, x)
    return {"nngp": nngp, "ntk": ntk, "means": np.array(_means(kernel_fn, x))}


def _known_blocks(shards: RowShards | None, arrays: list[np.ndarray], n: int, size: int) -> set[int]:
    """Fills blocks of `size` rows, and their columns, that a checkpoint has whole; where these start."""
    known = set()
    if shards is None:
        return known
    for start in range(0, n, size):
        stop = min(start + size, n)
        if shards.missing(start, stop):
            continue
        shards.read(start, stop, [array[start:stop] for array in arrays])
        for array in arrays:
            array[stop:n, start:stop] = array[start:stop, stop:].T
        known.add(start)
    return known


def _zeros(shape: tuple[int, int], dtype) -> np.ndarray:
    """Zeros where JAX can take them over on a CPU: of other addresses it makes a copy, of the size of a kernel."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


def _put(array: np.ndarray, x: Array) -> Array:
    # float64 stays float64 where JAX is set to float32.
    with parallel.enable_x64(True):
        # What is copied is copied in the background: the next one must not begin before this one is let go.
        return jax.block_until_ready(jax.device_put(array, next(iter(x.devices()))))


def _diagonals(kernel_fn, x):
    return tuple(np.asarray(_kernels.diagonal(kernel_fn, x, kernel=name), np.float64) for name in ("nngp", "ntk"))


def _means(kernel_fn, x) -> tuple[float, float]:
    few = x[:: max(1, len(x) // _MEAN_INPUTS)][:_MEAN_INPUTS]
    both = _kernels.kernels(kernel_fn, few, progress=False)
    return float(np.mean(np.asarray(both.nngp, np.float64))), float(np.mean(np.asarray(both.ntk, np.float64)))


def _tiles(kernel_fn, x, size, progress, desc, known=()):
    """Slices i, j with i ≤ j, and both kernels between these inputs, tile by tile; but for `known` starts of i."""
    slices = [slice(start, min(start + size, len(x))) for start in range(0, len(x), size)]
    wanted = [i for i in range(len(slices)) if slices[i].start not in known]
    pairs = [(i, j) for i in wanted for j in range(i, len(slices))]
    for i, j in progress_bar.bar(pairs, desc=desc, unit="tile", progress=progress):
        other = None if i == j else x[slices[j]]
        both = _kernels.kernels(kernel_fn, x[slices[i]], other, batch_size=size, progress=False)
        yield slices[i], slices[j], both


def _row_blocks(kernel_fn, x, first, shape, dtype, means, batch_size, shards=None):
    """Rows of both kernels from `first` on, (tiles, 1, rows, n) each, zero beyond n."""
    n = len(x)
    arrays = [np.zeros((shape[0] * shape[2], n), dtype) for _ in range(1 if isinstance(kernel_fn, OneKernel) else 2)]
    size = _kernels.block_size(x) if batch_size is None else batch_size
    end = min(first + len(arrays[0]), n)
    gaps = [(first, end)] if shards is None else shards.missing(first, end)
    if shards is not None and first < end:
        shards.read(first, end, arrays)
    blocks = [(start, min(start + size, last)) for begin, last in gaps for start in range(begin, last, size)]
    for start, stop in blocks:
        both = _kernels.kernels(kernel_fn, x[start:stop], x, batch_size=size, progress=False)
        own = np.arange(start, stop)
        for array, tile, mean in zip(arrays, both, means, strict=False):
            array[start - first : stop - first] = np.asarray(tile) - mean
            array[own - first, own] = 0.0
        if shards is not None:
            shards.write(start, stop, [array[start - first : stop - first] for array in arrays])
    return [array.reshape(shape) for array in arrays]


def _product(tiles: Array, columns: Array) -> Array:
    """Rows (tiles, devices, rows, n) times columns (n, b), each tile turned into the dtype of the columns by itself.

    Where rows are sharded, the result, which is small, is gathered; the rows never are.
    """

    def of_tile(_, tile):
        product = jnp.einsum("drn,nb->drb", tile.astype(columns.dtype), columns, precision=jax.lax.Precision.HIGHEST)
        return None, product

    return jax.lax.scan(of_tile, None, tiles)[1]


def _sums(nngp: Array, ntk: Array, nngp_halves: Array, ntk_halves: Array) -> Array:
    """Sums of K, Θ, K², Θ² and KΘ, entry by entry, and the least pairs of both, (7,), in float64.

    Args:
      nngp: K, (tiles, devices, rows, n), less its mean, with zeros on the diagonal.
      ntk: Θ likewise.
      nngp_halves: half the diagonal of K less its mean, (n,).
      ntk_halves: the same of Θ.
    """
    tiles, devices, rows, n = ntk.shape

    def of_tile(carry, item):
        total, least = carry
        index, tile_k, tile_theta = item
        k, theta = tile_k.astype(jnp.float64), tile_theta.astype(jnp.float64)
        parts = [jnp.sum(k), jnp.sum(theta), jnp.sum(k * k), jnp.sum(theta * theta), jnp.sum(k * theta)]
        own = (jnp.arange(devices)[:, None] * tiles + index) * rows + jnp.arange(rows)[None, :]
        apart = (own[:, :, None] != jnp.arange(n)[None, None, :]) & (own < n)[:, :, None]
        pairs = []
        for value, halves in ((k, nngp_halves), (theta, ntk_halves)):
            sides = halves[jnp.minimum(own, n - 1)][:, :, None] + halves[None, None, :]
            pairs.append(jnp.min(jnp.where(apart, sides - value, jnp.inf)))
        return (total + jnp.stack(parts), jnp.minimum(least, jnp.stack(pairs))), None

    start = jnp.zeros(5, jnp.float64), jnp.full(2, jnp.inf, jnp.float64)
    return jnp.concatenate(jax.lax.scan(of_tile, start, (jnp.arange(tiles), nngp, ntk))[0])


def _totals(sums, nngp_mean, ntk_mean, nngp_diagonal, ntk_diagonal) -> Totals:
    """`Totals` from the sums of `_sums` of what is left beside means and diagonals."""
    nngp, ntk, nngp_square, ntk_square, both, nngp_pair, ntk_pair = sums
    n = len(ntk_diagonal)
    pairs = n * (n - 1)
    square = ntk_square + 2 * ntk_mean * ntk + pairs * ntk_mean**2 + float(np.sum(ntk_diagonal**2))
    product = both + nngp_mean * ntk + ntk_mean * nngp + pairs * nngp_mean * ntk_mean
    product += float(np.sum(nngp_diagonal * ntk_diagonal))
    return Totals(
        float(ntk_diagonal.sum()),
        square,
        float(nngp_diagonal.sum()),
        product,
        float(np.sqrt(ntk_square / max(pairs, 1))),
        float(np.sqrt(nngp_square / max(pairs, 1))),
        max(float(ntk_pair), 0.0),
        max(float(nngp_pair), 0.0),
    )


@functools.cache
def _compiled(function: Callable, mesh: Mesh | None) -> Callable:
    """The function compiled; on a mesh its results, which are small, end up on every device."""
    return jax.jit(function, out_shardings=None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def _mesh_of(array: Array) -> Mesh | None:
    sharding = array.sharding
    return sharding.mesh if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh) else None


def _on_every_device(columns: np.ndarray, mesh: Mesh | None) -> Array:
    if mesh is None:
        return jnp.asarray(columns, jnp.float64)
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.make_array_from_callback(columns.shape, everywhere, lambda index: columns[index])


def check_mesh(name: str, mesh) -> None:
    """Refuses what is no mesh of one axis."""
    check.instance(name, mesh, Mesh, maker="`distributed.mesh`")
    if len(mesh.axis_names) != 1:
        raise ValueError(f"`{name}` must have one axis, over which rows are sharded; got {mesh.axis_names}.")
