"""Kernels of a network at infinite width, in blocks: the covariance of its outputs and its tangent kernel.

`kernels` takes any network of `ntkinfo.stax`, or any function `kernel_fn(x1, x2, get)`, and returns both kernels,
evaluated block by block so that memory stays bounded; on several devices the blocks are dealt out in turn. `hessian`
does the same for the Hessian kernel.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ntkinfo import networks
from ntkinfo._common import check, compiling, memory, tables
from ntkinfo._common import progress as progress_bar
from ntkinfo._neural_tangents import correlated as _correlated
from ntkinfo._numerics import padding
from ntkinfo.kernels._empirical import EmpiricalKernel
from ntkinfo.kernels._features import FeatureKernel

# A block holds about this many kernel entries: large enough to keep the processor busy, small beside n x n matrices.
_ENTRIES = 2**20
_LARGEST_BLOCK = 1024
# Rows of a block of a symmetric matrix: smaller ones hold fewer entries that are known or beyond the matrix.
_SYMMETRIC_BLOCK = 512
# Rows of a block of images that are flattened: from some eight on a pair takes as long in larger ones.
_POSITIONS_BLOCK = 16
# Matrices of all pairs held at once: both kernels, and their blocks while they are put together.
_COPIES = 6

AnyArray = Array | np.ndarray
Inputs = Float[ArrayLike, "a d ..."]
OtherInputs = Float[ArrayLike, "b d ..."]


class Kernels(NamedTuple):
    """NNGP kernel K and tangent kernel Θ between two batches of inputs, or of a batch with itself."""

    nngp: Float[Array, "a b"]
    ntk: Float[Array, "a b"]

    _table = tables.Table(("row", "column"), plain="nngp ntk")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def evaluate(
    kernel_fn: Callable, x1: Float[AnyArray, "a d ..."], x2: Float[AnyArray, "b d ..."] | None = None
) -> Kernels:
    """Both kernels in one piece, K(x1, x2) and Θ(x1, x2), each (a, b); jittable. `x2=None` stands for `x1`.

    Example:
      >>> evaluate(net[2], x_test, x).ntk.shape
      (7, 12)
    """
    try:
        both = kernel_fn(x1, x2, ("nngp", "ntk"))
    except Exception as error:
        if str(error).startswith("`"):
            raise
        raise ValueError(
            f"`net` has a kernel function that cannot be evaluated on inputs of shape {x1.shape}: "
            f"{networks.reason(error)}"
        ) from error
    both = _two(both)
    shape = (len(x1), len(x1 if x2 is None else x2))
    for name, kernel in zip(("first (NNGP)", "second (NTK)"), both, strict=True):
        if kernel.shape != shape:
            remedy = " End a convolutional network with `Flatten` or `GlobalAvgPool`." if x1.ndim > 2 else ""
            raise ValueError(
                f"`net` must return kernels of shape {shape}, samples by samples, for inputs of shape {x1.shape}; got "
                f"{kernel.shape} as the {name}.{remedy}"
            )
    # A kernel function may promote float32 inputs; the promise is the dtype of the inputs.
    return Kernels(*(jnp.asarray(kernel, x1.dtype) for kernel in both))


def _two(both) -> tuple:
    """What a kernel function has returned, as two arrays."""
    if hasattr(both, "nngp") and hasattr(both, "ntk"):
        both = both.nngp, both.ntk
    if isinstance(both, tuple | list) and both and all(hasattr(one, "nngp") for one in both):
        raise ValueError(
            f"`net` must have one output; got {len(both)} branches side by side. Join them with `FanInConcat` or "
            "`FanInSum`, or take one of them."
        )
    if not (isinstance(both, tuple | list) and len(both) == 2):
        got = f"{type(both).__name__} of {len(both)}" if isinstance(both, tuple | list) else check.described(both)
        raise TypeError(
            '`net` must return two kernels for get=("nngp", "ntk"), as a pair or as an object with fields `nngp` and '
            f"`ntk`; its kernel function returned {got}."
        )
    for kernel in both:
        if not jnp.issubdtype(getattr(kernel, "dtype", object), jnp.floating):
            raise TypeError(f"`net` must return kernels of floating-point numbers; got {check.described(kernel)}.")
    return tuple(both)


@compiling.jit(static_argnums=0)
def _block(kernel_fn, x1, x2):
    return evaluate(kernel_fn, x1, x2)


@compiling.jit(static_argnums=(0, 1))
def _diagonal_blocks(kernel_fn, kernel, blocks):
    return jax.lax.map(lambda x: jnp.diagonal(getattr(evaluate(kernel_fn, x), kernel)), blocks).ravel()


def block_size(x: Float[AnyArray, "a d ..."]) -> int:
    """Rows of a block for inputs like `x`: a layer before pooling holds a value per pair of positions of two inputs.

    Raises:
      TypeError, ValueError: no inputs (a, ...) of floating point.

    Example:
      >>> block_size(np.ones((10, 3))) >= 1
      True
    """
    return _block_size(check.inputs("x", x))


def _block_size(x, kernel_fn: Callable | None = None) -> int:
    positions = math.prod(x.shape[1:-1]) if x.ndim > 2 else 1
    if _keeps_positions(kernel_fn):
        return max(_block_size(x), min(_POSITIONS_BLOCK, math.isqrt(_ENTRIES // positions)), 1)
    return max(1, min(_LARGEST_BLOCK, math.isqrt(_ENTRIES // positions**2) if positions**2 < _ENTRIES else 1))


def kernels(
    net,
    x1: Inputs,
    x2: OtherInputs | None = None,
    *,
    batch_size: int | None = None,
    devices: Sequence | None = None,
    progress: bool | None = None,
) -> Kernels:
    """NNGP kernel K(x1, x2) and tangent kernel Θ(x1, x2) at infinite width.

    Of a symmetric matrix (`x2=None`) only the blocks on and above the diagonal are evaluated.

    Args:
      net: a network of `ntkinfo.stax`, or any `kernel_fn(x1, x2, get)` which returns the two kernels for
        `get=("nngp", "ntk")`, as a pair or as an object with fields `nngp` and `ntk`.
      x1: inputs, (a, ...), floating point.
      x2: inputs, (b, ...), or None for `x1`.
      batch_size: rows of a block; None chooses by the size of an input.
      devices: devices to deal the blocks out to; None computes where the inputs are.
      progress: whether to show a progress bar; None shows it for work longer than three seconds.

    Returns:
      `Kernels` of two arrays (a, b), in the dtype of the inputs.

    Raises:
      TypeError: `net` is no network; inputs are not floating-point numbers.
      ValueError: empty inputs, mismatched shapes, NaN or Inf in the inputs or in the kernels.

    Source: Lee et al. 2018 (arXiv 1711.00165) for K; Jacot et al. 2018 (arXiv 1806.07572) for Θ; theory, section 1.
    """
    return _evaluated(networks.kernel_function(net), x1, x2, batch_size, devices, progress)


def hessian(
    net,
    x1: Inputs,
    x2: OtherInputs | None = None,
    *,
    batch_size: int | None = None,
    devices: Sequence | None = None,
    progress: bool | None = None,
) -> Float[Array, "a b"]:
    """Hessian kernel H(x1, x2) = E⟨∇²f(x1), ∇²f(x2)⟩ of one output at infinite width, over parameters from N(0, I).

    H = K''(1), the second derivative of the kernel of correlated parameters (`correlated`), by forward
    mode. It does not vanish at infinite width; it is the source of the curvature part of the parameter divergence.

    Args:
      net: a network of `ntkinfo.stax` with smooth activations (Erf, Gelu, Sin, Cos, Gaussian, ...), or its kernel
        function, in the default parameterization "ntk"; or an empirical kernel of around="laplace", or given
        `features`, whose networks are linear in their parameters: H is exactly 0.
      x1: inputs, (a, ...), floating point.
      x2: inputs, (b, ...), or None for `x1`.
      batch_size: rows of a block; None chooses by the size of an input.
      devices: devices to deal the blocks out to; None computes where the inputs are.
      progress: whether to show a progress bar; None shows it for work longer than three seconds.

    Returns:
      H, (a, b), in the dtype of the inputs; symmetric positive semidefinite for `x2=None`. Exact at infinite width.

    Raises:
      TypeError: `net` is no network; inputs are not floating-point numbers.
      ValueError: kinked activations, layers not built by `ntkinfo.stax`, attention and dropout (the message names
        what is in the way); empty inputs, mismatched shapes, NaN or Inf.

    Example:
      >>> net = stax.serial(stax.Dense(512), stax.Erf(), stax.Dense(1))
      >>> h = hessian(net, x)

    Source: theory, section 4.
    """
    kernel_fn = networks.kernel_function(net)
    if isinstance(kernel_fn, EmpiricalKernel | FeatureKernel):
        return _hessian_of_linear(kernel_fn, x1, x2)
    _correlated.require(kernel_fn, smooth=True)
    return _evaluated(
        _correlated.TangentAndHessian(kernel_fn), x1, x2, batch_size, devices, progress, ("tangent", "Hessian")
    )[1]


def _hessian_of_linear(kernel_fn: EmpiricalKernel | FeatureKernel, x1, x2) -> Array:
    """Zero: a linearised network has no second derivatives, whatever the network that it comes from."""
    if kernel_fn.around != "laplace":
        raise ValueError(
            f'`net` must be of around="laplace" for a Hessian kernel, which is 0 there; it is {kernel_fn.around!r}: '
            "one network has no distribution of parameters, and initialisations have curvature that is not known here."
        )
    x1 = check.inputs("x1", x1)
    x2 = x1 if x2 is None else check.inputs("x2", x2)
    return jnp.zeros((len(x1), len(x2)), x1.dtype)


def correlated(net, x1: Inputs, x2: OtherInputs | None = None, *, rho: ArrayLike) -> Float[Array, "a b"]:
    """K(ρ): covariance of f(x1; θ) with f(x2; ρθ + √(1 - ρ²) ξ), for independent θ and ξ from N(0, I).

    K(1) is the NNGP kernel, K'(1) the tangent kernel Θ, K''(1) the Hessian kernel (`hessian`).

    Args:
      net: a network of `ntkinfo.stax`, kinked activations included, or its kernel function.
      x1: inputs, (a, ...), floating point.
      x2: inputs, (b, ...), or None for `x1`.
      rho: correlation ρ of the parameters, from -1 to 1, a number.

    Returns:
      K(ρ), (a, b), in one piece; jittable, and differentiable in ρ where activations are smooth. Exact at infinite
      width.

    Raises:
      TypeError: `net` is no network; inputs are not floating-point numbers.
      ValueError: layers without a correlated kernel, inputs of two shapes, ρ outside [-1, 1].

    Source: theory, section 4.

    Example:
      >>> bool(jnp.allclose(correlated(net, x, rho=1.0), ni.kernels.kernels(net, x).nngp))  # the same network twice
      True
    """
    kernel_fn = networks.kernel_function(net)
    x1 = check.inputs("x1", x1)
    x2 = None if x2 is None else check.inputs("x2", x2)
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        raise ValueError(f"`x1` and `x2` must hold inputs of one shape; got {x1.shape[1:]} and {x2.shape[1:]}.")
    check.number("rho", rho, -1, 1)
    result = _correlated_kernel(kernel_fn, x1, x2, jnp.asarray(rho, x1.dtype))
    check.finite_result("the kernel", result, "`x1`, `x2` and the scales of `net`")
    return result


_correlated_kernel = compiling.jit(_correlated.kernel, static_argnums=0)


def has_hessian(net) -> bool:
    """Whether `hessian` knows the Hessian kernel: of smooth layers of `ntkinfo.stax`, and of linearised networks.

    Example:
      >>> has_hessian(net)
      True
    """
    kernel_fn = networks.kernel_function(net)
    if isinstance(kernel_fn, EmpiricalKernel | FeatureKernel):
        return kernel_fn.around == "laplace"
    try:
        _correlated.require(kernel_fn, smooth=True)
    except ValueError:
        return False
    return True


def are_covariances(net) -> bool:
    """Whether both kernels are positive semidefinite by construction: those of layers of `ntkinfo.stax`, and J Jᵀ.

    False of any other function, and of activations of the user's (`Elementwise`): nothing is known of them.

    Raises:
      TypeError: `net` is no network.
    """
    kernel_fn = networks.kernel_function(net)
    return isinstance(kernel_fn, EmpiricalKernel | FeatureKernel) or _correlated.has_given_kernels(kernel_fn)


def _evaluated(kernel_fn, x1, x2, batch_size, devices, progress, names=("NNGP", "NTK")) -> Kernels:
    """What `kernel_fn` returns, two kernels, with inputs checked and in blocks; `names` are for error messages."""
    check.flag("progress", progress, none=True)
    _check_devices(devices)
    x1 = check.inputs("x1", x1)
    x2 = None if x2 is None else check.inputs("x2", x2)
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        raise ValueError(f"`x1` and `x2` must hold inputs of one shape; got {x1.shape[1:]} and {x2.shape[1:]}.")
    size = _block_size(x1, kernel_fn) if batch_size is None else check.integer("batch_size", batch_size)
    if not check.concrete(x1, x2):
        return evaluate(kernel_fn, x1, x2)
    a, b = len(x1), len(x1 if x2 is None else x2)
    given = batch_size if batch_size is None else size
    memory.require(
        f"`x1` with {a} inputs" if x2 is None else f"`x1` and `x2` with {a} and {b} inputs",
        _COPIES * a * b * x1.dtype.itemsize,
        "Take fewer inputs (the kernels have an entry for each pair), or float32.",
    )
    rows = _starts(len(x1), size)
    if isinstance(kernel_fn, EmpiricalKernel):
        both = Kernels(*kernel_fn.blocks(x1, x2, batch_size=given, devices=devices, progress=progress))
    elif len(rows) == 1 and (x2 is None or len(x2) <= size) and not devices:
        both = _one_block(kernel_fn, x1, x2, size)
    elif x2 is None:
        if batch_size is None and not devices:
            size = min(size, _SYMMETRIC_BLOCK)
            rows = _starts(len(x1), size)
        both = _symmetric(kernel_fn, x1, rows, size, devices, progress)
    else:
        both = _rectangular(kernel_fn, x1, x2, size, devices, progress)
    both = _finite(both, names)
    if x2 is None:
        for name, kernel in zip(names, both, strict=True):
            check.symmetric(f"net: {name} kernel", kernel)
    return both


def diagonal(net, x: Inputs, *, kernel: str = "nngp") -> Float[Array, " a"]:
    """K(x, x), or Θ(x, x) for `kernel="ntk"`, at each input, (a,), without the matrix between the inputs.

    Example:
      >>> bool(jnp.allclose(diagonal(net, x), jnp.diag(ni.kernels.kernels(net, x).nngp)))
      True
    """
    check.option("kernel", kernel, Kernels._fields)
    kernel_fn = networks.kernel_function(net)
    x = check.inputs("x", x)
    if isinstance(kernel_fn, EmpiricalKernel) and check.concrete(x):
        return kernel_fn.diagonal(x, kernel)
    size = min(32, _block_size(x), padding.near(len(x)) if x.ndim == 2 else len(x))
    filled = _repeated(x, size * padding.near(-(-len(x) // size))) if check.concrete(x) else _padded(x, size)
    result = _diagonal_blocks(kernel_fn, kernel, filled.reshape(-1, size, *x.shape[1:]))
    result = padding.cut(result, (len(x),)) if check.concrete(result) else result[: len(x)]
    check.finite_result("the kernel", result, "`x` and the scales of `net`")
    return result


def _check_devices(devices) -> None:
    if devices is not None and not (
        isinstance(devices, list | tuple) and all(isinstance(device, jax.Device) for device in devices)
    ):
        raise TypeError(f"`devices` must be a list of devices, as of `jax.devices()`; got {check.described(devices)}.")


def _keeps_positions(kernel_fn) -> bool:
    """Whether a network of stax needs no pairs of positions: it flattens, and pools nothing before."""
    required = getattr(kernel_fn, "input_req", {})
    diagonal = required.get("diagonal_spatial") if isinstance(required, Mapping) else None
    return getattr(getattr(diagonal, "input", None), "name", "") == "YES"


def _starts(length, size):
    return list(range(0, length, size))


def _padded(x, size):
    """`x` with its last row repeated up to a multiple of `size`: every block then has the one shape compiled for."""
    extra = -len(x) % size
    return jnp.concatenate([x, jnp.repeat(x[-1:], extra, axis=0)]) if extra else x


def _repeated(x, length):
    """`_padded` of known inputs to a length; compiles nothing on the host."""
    return padding.repeat_last(np.asarray(x), length) if padding.on_host(x) else _padded(x, length)


def _one_block(kernel_fn, x1, x2, size):
    """All pairs in one block, whose size serves those of neighbouring numbers of inputs as well."""
    a, b = len(x1), len(x1 if x2 is None else x2)
    # Entries of images are dear, each of them: more of them would take longer than to compile.
    if x1.ndim > 2 or not (padding.on_host(x1) and (x2 is None or padding.on_host(x2))):
        return _block(kernel_fn, x1, x2)
    x1, x2 = (None if x is None else _repeated(x, max(len(x), min(padding.near(len(x)), size))) for x in (x1, x2))
    both = _block(kernel_fn, x1, x2)
    return Kernels(*(padding.cut(kernel, (a, b)) if check.concrete(kernel) else kernel[:a, :b] for kernel in both))


def _deal(kernel_fn, pairs, devices, progress):
    """Blocks for `pairs` of inputs, on one device after the other; all come back to the first."""
    results = []
    for index, (x1, x2) in enumerate(progress_bar.bar(pairs, desc="kernels", unit="block", progress=progress)):
        if devices:
            x1, x2 = jax.device_put((x1, x2), devices[index % len(devices)])
        results.append(_block(kernel_fn, x1, x2))
        # Dispatch is asynchronous: waiting keeps the bar true and bounds what is in flight.
        if index >= (behind := max(1, len(devices or ()))):
            jax.block_until_ready(results[index - behind])
    return [jax.device_put(block, devices[0]) for block in results] if devices else results


def _symmetric(kernel_fn, x, starts, size, devices, progress):
    padded = _padded(x, size)
    blocks = [padded[start : start + size] for start in starts]
    pairs = [(i, j) for i in range(len(blocks)) for j in range(i, len(blocks))]
    values = _deal(kernel_fn, [(blocks[i], None if i == j else blocks[j]) for i, j in pairs], devices, progress)
    upper = {(starts[i], starts[j]): value for (i, j), value in zip(pairs, values, strict=True)}

    def assemble(part):
        blocks = {at: value[part] for at, value in upper.items()}
        lower = {(j, i): block.T for (i, j), block in blocks.items() if i != j}
        return _assembled(blocks | lower, (len(x), len(x)))

    return Kernels(assemble(0), assemble(1))


def _assembled(blocks: dict[tuple[int, int], jax.Array], shape: tuple[int, int]) -> jax.Array:
    """The matrix of blocks that begin at given rows and columns; what reaches beyond it is left out."""
    if all(padding.on_host(block) for block in blocks.values()):
        # Written once each: what JAX puts together outside of a program is copied for every row of blocks.
        matrix = np.empty(shape, next(iter(blocks.values())).dtype)
        for (row, column), block in blocks.items():
            inside = matrix[row : row + block.shape[0], column : column + block.shape[1]]
            inside[...] = np.asarray(block)[: inside.shape[0], : inside.shape[1]]
        return jnp.asarray(matrix)
    rows = sorted({row for row, _ in blocks})
    grid = [[blocks[at] for at in sorted(blocks) if at[0] == row] for row in rows]
    return jnp.block(grid)[: shape[0], : shape[1]]


def _rectangular(kernel_fn, x1, x2, size, devices, progress):
    # Few rows are not filled up to a block.
    size, size2 = min(size, padding.near(len(x1))), min(size, len(x2))
    starts = _starts(len(x1), size)
    padded1, padded2 = _padded(x1, size), _padded(x2, size2)
    columns = _starts(len(x2), size2)
    at = [(i, j) for i in starts for j in columns]
    pairs = [(padded1[i : i + size], padded2[j : j + size2]) for i, j in at]
    values = _deal(kernel_fn, pairs, devices, progress)
    shape = len(x1), len(x2)
    return Kernels(*(_assembled({a: v[part] for a, v in zip(at, values, strict=True)}, shape) for part in (0, 1)))


def _sum(kernel):
    return np.asarray(kernel).sum() if padding.on_host(kernel) else jnp.sum(kernel)


def _finite(both: Kernels, names) -> Kernels:
    for name, kernel in zip(names, both, strict=True):
        # Inputs that a jitted function closes over are concrete, what is computed from them is not.
        if check.concrete(kernel) and not np.isfinite(float(_sum(kernel))):
            raise ValueError(
                f"The {name} kernel of `net` has NaN or infinite entries. Scale the inputs, or lower W_std: "
                "a deep network with a large W_std overflows."
            )
    return both
