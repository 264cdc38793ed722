"""Checks of arguments: public functions begin with them, then call a pure, jittable core.

Every message says what must hold, what was given and what to do. Values are looked at only where they are
concrete: under `jit`, `vmap` or `grad` shapes and dtypes are still checked, values cannot be.
"""

import inspect
import itertools
import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import ArrayLike, Float

from ntkinfo._common import programs


def concrete(*values) -> bool:
    """Whether every value can be read now, that is, none is being traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def known(name: str, value) -> None:
    """Refuses a value that is being traced, where it is needed on the host."""
    try:
        traced = not concrete(value)
    except (TypeError, ValueError):
        # No tree, as dictionaries whose keys have no order: refused by whoever looks at it.
        return
    if traced:
        raise TypeError(
            f"`{name}` is being traced; this function runs on the host. Call it outside `jit`, `vmap` and `grad`, or "
            "close over what is known."
        )


def on_host(arguments: dict[str, object]) -> None:
    """Refuses traced arguments, of which all are given as `locals()` where a function begins that runs on the host."""
    for name, value in arguments.items():
        known(name, value)


def array(name: str, value, ndim: int | tuple[int, ...] | None = None, *, finite: bool = True) -> jax.Array:
    """`value` as a floating-point JAX array of an accepted rank, not empty and, where concrete, finite.

    Lists, tables and arrays of any byte order are taken; long doubles become float64.

    Raises:
      TypeError: not an array of floating-point numbers, or of half precision.
      ValueError: wrong rank, empty, masked, or (if `finite`) NaN or infinite entries.
    """
    value = native(name, value, ndim, finite=finite)
    dtype = jnp.result_type(float)
    if finite and dtype.itemsize < value.dtype.itemsize and concrete(value):
        largest = np.abs(np.asarray(value)).max()
        if largest > np.finfo(dtype).max:
            raise ValueError(
                f"`{name}` must stay within the range of {dtype}, in which JAX computes; got entries up to "
                f"{largest:.3g}. Scale it, or set jax_enable_x64."
            )
    return jnp.asarray(value)


def native(
    name: str, value, ndim: int | tuple[int, ...] | None = None, *, finite: bool = True, remedy: str | None = None
) -> jax.Array | np.ndarray:
    """`array`, but what is on the host stays there, in its own precision whatever JAX's.

    `remedy` is for whole numbers; None says how they are converted.
    """
    # Every public call comes through here, before it compiles anything.
    programs.relieve()
    value = values(name, value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        if not (jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == bool):
            remedy = ""
        elif remedy is None:
            remedy = f" Convert it first, for instance with `np.asarray({name}, float)`."
        raise TypeError(f"`{name}` must hold floating-point numbers; got dtype {value.dtype}.{remedy}")
    if value.dtype.itemsize < 4:
        raise TypeError(
            f"`{name}` must have the precision of float32 or float64; got dtype {value.dtype}. Convert it first, for "
            f"instance with `{name}.astype(np.float32)`."
        )
    ranks = (ndim,) if isinstance(ndim, int) else ndim
    if ranks is not None and value.ndim not in ranks:
        wanted = " or ".join(str(rank) for rank in ranks)
        raise ValueError(f"`{name}` must have rank {wanted}; got rank {value.ndim}, shape {value.shape}.")
    if value.size == 0:
        raise ValueError(f"`{name}` must not be empty; got shape {value.shape}.")
    if finite and concrete(value):
        # On the host: an eager device check would compile one more program for every new shape.
        bad = ~np.isfinite(np.asarray(value))
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"`{name}` must be finite; got {np.asarray(value)[first]} at index {first} "
                f"({int(bad.sum())} such entries). Remove or impute them first."
            )
    return value


def values(name: str, value) -> jax.Array | np.ndarray:
    """`value` as an array that JAX can read, of any dtype: native byte order, float64 for long doubles.

    Raises:
      TypeError, ValueError: no array, ragged rows, masked entries, random keys.
    """
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise TypeError(f"`{name}` must hold numbers; got {described(value)}.")
        return value
    if not concrete(value):
        return jnp.asarray(value)
    value = _host(name, value)
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        return value.astype(np.float64)
    return value.astype(value.dtype.newbyteorder("="), copy=False) if value.dtype.kind in "fiu" else value


def _host(name, value) -> np.ndarray:
    """What is concrete as a NumPy array, of any dtype."""
    if np.ma.is_masked(value):
        raise ValueError(
            f"`{name}` must have no masked entries; got {np.ma.count_masked(value)}. Remove or fill them first: the "
            "mask would be lost."
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be an array; got {type(value).__name__} with ragged rows.") from error
    except Exception as error:
        raise TypeError(f"`{name}` must be an array; got {described(value)}.") from error


def described(value) -> str:
    """What came, for messages: short values as they are, arrays by dtype and shape, the rest by type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, bool | int | float | complex | str):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} of dtype {value.dtype}, shape {value.shape}" if value.shape else f"{value!r}"
    return type(value).__name__


# Probabilities sum to one within this, in float64: what a table computed in float32 keeps.
SUM_TOLERANCE = 1e-6


def probabilities(
    name: str, value, ndim: int | tuple[int, ...] | None = None, *, axis: int | tuple[int, ...] | None = -1
) -> jax.Array:
    """`value` as probabilities that sum to one along `axis` (one or several), or as a whole table where that is None.

    Raises:
      TypeError: not an array of floating-point numbers.
      ValueError: wrong rank, empty, negative, NaN or infinite entries, sums other than one.
    """
    counts = " Counts are no probabilities: `ni.discrete.from_counts` makes a table of them into one, with its names."
    value = native(name, value, ndim, remedy=counts)
    if concrete(value):
        host = np.asarray(value, np.float64)
        sums = host.sum(axis=axis)
        if host.min() < 0 or np.abs(sums - 1).max() > SUM_TOLERANCE:
            where = "" if axis is None else " in every row" if axis == -1 else f" along axis {axis}"
            total = f"sum={sums:.9g}" if sums.ndim == 0 else f"sums from {sums.min():.9g} to {sums.max():.9g}"
            raise ValueError(
                f"`{name}` must hold probabilities that sum to 1{where}; got min={host.min():.3g}, {total}. Divide by "
                "the sum first, once no entry is negative." + (counts if (host == np.rint(host)).all() else "")
            )
    return jnp.asarray(value)


def signs(name: str, y) -> None:
    """Refuses labels other than -1 and 1. Nothing is checked under tracing."""
    if concrete(y) and not (np.abs(np.asarray(y)) == 1).all():
        raise ValueError(f"`{name}` must hold -1 and 1 only; got values from {np.min(y)} to {np.max(y)}.")


def times(name: str, value) -> jax.Array:
    """`value` as a scalar or vector of training times: not negative, not NaN; infinity is allowed."""
    programs.relieve()
    value = values(name, value)
    if value.dtype == bool or not (
        jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    ):
        raise TypeError(f"`{name}` must be a number or a vector of numbers; got dtype {value.dtype}.")
    if value.ndim > 1:
        raise ValueError(f"`{name}` must be a scalar or a vector; got shape {value.shape}.")
    if value.size == 0:
        raise ValueError(f"`{name}` must not be empty; got shape {value.shape}.")
    if concrete(value):
        host = np.asarray(value)
        if np.isnan(host).any() or (host < 0).any():
            bad = host.ravel()[np.isnan(host.ravel()) | (host.ravel() < 0)][0]
            raise ValueError(f"`{name}` must be times from 0 to infinity; got {bad}.")
    return jnp.asarray(value, dtype=jnp.result_type(float))


def positive(name: str, value, *, zero: bool = False, scalar: bool = False) -> None:
    """Refuses numbers that are NaN, infinite, negative or (unless `zero`) zero; if `scalar`, more than one number.

    Of traced values only the shape and the dtype are looked at.
    """
    value = _real(name, value, scalar)
    if not concrete(value):
        return
    host = np.asarray(value)
    bad = ~np.isfinite(host) | (host < 0) | ((host == 0) & (not zero))
    if bad.any():
        wanted = "not negative" if zero else "positive"
        raise ValueError(f"`{name}` must be {wanted} and finite; got {host.ravel()[bad.ravel()][0]}.")


def number(name: str, value, low: float = -np.inf, high: float = np.inf, *, ends: bool = True) -> None:
    """Refuses what is not one real number between `low` and `high`, with or without the ends; NaN always."""
    value = _real(name, value, scalar=True)
    if concrete(value):
        real_numbers(name, value, low, high, ends=ends)


def _real(name, value, scalar):
    """`value` as real numbers, an array of JAX or of NumPy; if `scalar`, a single one."""
    given, value = value, values(name, value)
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        wanted = "a real number" if scalar else "a real number, or an array of them"
        raise TypeError(f"`{name}` must be {wanted}; got {described(given)}.")
    if scalar and value.ndim:
        raise ValueError(f"`{name}` must be one number; got {type(given).__name__} of shape {value.shape}.")
    if value.size == 0:
        raise ValueError(f"`{name}` must not be empty; got shape {value.shape}.")
    return value


def float_dtype(name: str, value) -> np.dtype:
    """float32 or float64, however it is spelled."""
    try:
        given = None if value is None else np.dtype(value).name
    except TypeError:
        given = None
    # By name: NumPy takes None for float64, in `dtype` and in comparisons.
    if given not in ("float32", "float64"):
        raise ValueError(f"`{name}` must be float32 or float64; got {described(value)}.")
    return np.dtype(given)


def fields(name: str, value, wanted: tuple[str, ...], kind: str, maker: str) -> None:
    """Refuses objects that lack one of the `wanted` fields of a result, `kind`, which `maker` makes."""
    if isinstance(value, type) or not all(hasattr(value, field) for field in wanted):
        raise TypeError(f"`{name}` must be a `{kind}`, as made by {maker}; got {described(value)}.")


# The square of a larger scale is no float64.
LARGEST_SCALE = 1e154
# No array of a larger size can be indexed by JAX without x64, and none that large is meant.
LARGEST = 2**31 - 1


def integer(name: str, value, *, least: int = 1, most: int = LARGEST) -> int:
    """`value` as an int of at least `least` and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer; got {described(value)}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")
    if value > most:
        raise ValueError(f"`{name}` must be at most {most}; got {described(int(value))}.")
    return int(value)


# More units in a layer, dimensions or layers are meant by nobody; more numbers than the second fit no machine at once.
LARGEST_SIZE, MOST_ENTRIES = 2**20, 2**28


def size(name: str, value, *, least: int = 1, most: int = LARGEST_SIZE) -> int:
    """`value` as an int that arrays can be made of: units, dimensions, layers."""
    return integer(name, value, least=least, most=most)


def entries(name: str, count: int, what: str) -> None:
    """Refuses arguments that ask for arrays of more than `MOST_ENTRIES` numbers; `what` says which."""
    if count > MOST_ENTRIES:
        raise ValueError(f"`{name}` must be smaller: {what} are more than {MOST_ENTRIES}, and fit in no memory.")


def widths(name: str, value, *, least: int = 0) -> tuple[int, ...]:
    """Units of the layers of a network, at least so many layers, from a number, a list, a tuple or a vector.

    Raises:
      TypeError, ValueError: no positive integers; layers of more weights than fit in memory.
    """
    given = values(name, value)
    if given.ndim > 1 or (given.size and given.dtype.kind not in "iu" and given.dtype != object):
        raise TypeError(f"`{name}` must be a list of positive integers; got {described(value)}.")
    units = tuple(size(name, one) for one in np.atleast_1d(np.asarray(given)).tolist())
    if len(units) < least:
        raise ValueError(f"`{name}` must hold at least {least}; got {len(units)}.")
    for before, after in itertools.pairwise(units):
        entries(name, before * after, f"{before} x {after} weights")
    return units


def option(name: str, value, accepted) -> None:
    """Refuses a `value` outside the names in `accepted`, None among them where it is one."""
    # An array among the values compared would be asked for its truth, a list for its hash.
    if not (value is None or isinstance(value, str)) or value not in accepted:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, accepted))}; got {described(value)}.")


def flag(name: str, value, *, none: bool = False) -> None:
    """Refuses what is neither True nor False (nor None, where that is `none`)."""
    if not (isinstance(value, bool | np.bool_) or (none and value is None)):
        raise TypeError(f"`{name}` must be True or False{' or None' if none else ''}; got {described(value)}.")


def function(name: str, value, meaning: str = "a function", *, arguments: int | None = None) -> None:
    """Refuses what cannot be called (with so many `arguments`); `meaning` says what it is called with and returns."""
    if not callable(value):
        raise TypeError(f"`{name}` must be {meaning}; got {described(value)}.")
    if arguments is not None and not takes(value, arguments):
        raise TypeError(f"`{name}` must be {meaning}; got one that does not take {arguments} arguments.")


def takes(function: Callable, count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as it says."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        # Some compiled functions do not say.
        return True
    return True


def path(name: str, value) -> pathlib.Path:
    """`value` as a path, of text or of `pathlib`."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"`{name}` must be a path; got {described(value)}.")
    if not os.fspath(value):
        raise ValueError(f"`{name}` must be a path, and not empty: '.' is the current folder; got ''.")
    if "\0" in os.fspath(value):
        raise ValueError(f"`{name}` must be a path, which has no zero bytes; got {os.fspath(value)!r}.")
    return pathlib.Path(value)


def instance(name: str, value, kind: type | tuple[type, ...], maker: str = "") -> None:
    """Refuses objects of another type than `kind` (one, or several); `maker` names what makes such an object."""
    if not isinstance(value, kind):
        kinds = " or ".join(f"`{one.__name__}`" for one in (kind if isinstance(kind, tuple) else (kind,)))
        made = f", as made by {maker}" if maker else ""
        raise TypeError(f"`{name}` must be of type {kinds}{made}; got {described(value)}.")


def symmetric(name: str, matrix: Array) -> None:
    """Refuses a square matrix that differs from its transpose by more than the root of its rounding; not under tracing.

    Own kernel functions round as they please; one that is wrong differs by more.
    """
    if concrete(matrix):
        host = np.asarray(matrix)
        skew, most = np.abs(host - host.T).max(), np.abs(host).max()
        if skew > np.sqrt(np.finfo(host.dtype).eps) * most:
            raise ValueError(
                f"`{name}` must be symmetric; got entries up to {most:.3g} that differ from those of the transpose by "
                f"up to {skew:.3g}."
            )


def semidefinite(name: str, matrix: Array) -> None:
    """Refuses a symmetric matrix with eigenvalues below 0 by more than the root of rounding; not under tracing."""
    if concrete(matrix):
        host = np.asarray(matrix)
        eigenvalues = np.linalg.eigvalsh(host)
        if eigenvalues[0] < -np.sqrt(np.finfo(host.dtype).eps) * np.abs(eigenvalues).max():
            raise ValueError(
                f"`{name}` must be positive semidefinite; got eigenvalues from {eigenvalues[0]:.3g} to "
                f"{eigenvalues[-1]:.3g}."
            )


def square(name: str, value, n: int, dtype) -> Array:
    """`value` as a symmetric matrix (n, n), finite, of a dtype."""
    value = array(name, value, 2)
    if value.shape != (n, n):
        raise ValueError(f"`{name}` must have shape ({n}, {n}), training inputs by training inputs; got {value.shape}.")
    symmetric(name, value)
    return value.astype(dtype)


def inputs(name: str, x: Float[ArrayLike, "n d ..."]) -> Float[Array, "n d ..."]:
    """`x` as a batch of inputs: floating point, an axis of samples and at least one of features.

    Example:
      >>> inputs('x', np.ones((3, 2))).shape
      (3, 2)
    """
    x = array(name, x)
    if x.ndim < 2:
        raise ValueError(
            f"`{name}` must have an axis of samples and at least one of features; got shape {x.shape}. "
            f"Use `{name}[:, None]` for scalar inputs."
        )
    small_enough(name, x)
    return x


def small_enough(name: str, value) -> None:
    """Refuses finite numbers whose squares add up to more than their dtype holds; not under tracing."""
    if concrete(value):
        with np.errstate(over="ignore"):
            squares = np.sum(np.square(np.asarray(value)))
        if not np.isfinite(squares):
            raise ValueError(
                f"`{name}` must not be so large that its squares leave the range of {value.dtype}; got entries up to "
                f"{np.abs(np.asarray(value)).max():.3g}. Scale it first."
            )


def inputs_like(name: str, x: Array, trained_on: Array) -> Array:
    """`x` as inputs of the shape trained on, in the dtype of those, (n, ...)."""
    x = inputs(name, x)
    if x.shape[1:] != trained_on.shape[1:]:
        raise ValueError(
            f"`{name}` must hold inputs of the shape trained on, (m, {str(trained_on.shape[1:])[1:]}; got {x.shape}."
        )
    return x.astype(trained_on.dtype)


def real_numbers(name: str, value, low: float = -np.inf, high: float = np.inf, *, ends: bool = True) -> np.ndarray:
    """`value` as float64 numbers between `low` and `high`, with or without the ends; never NaN.

    Raises:
      TypeError: a traced value, or not real numbers.
      ValueError: NaN, or outside.
    """
    if not concrete(value):
        raise TypeError(
            f"`{name}` must be known numbers; got a traced value. Bounds are computed on the host in float64: "
            "call them outside jit, vmap and grad; they take arrays."
        )
    host = np.asarray(_real(name, value, scalar=False))
    host = host.astype(np.float64)
    inside = (host >= low) & (host <= high) if ends else (host > low) & (host < high)
    if not inside.all():
        left, right = "[]" if ends and np.isfinite(low) else "()", "[]" if ends and np.isfinite(high) else "()"
        raise ValueError(
            f"`{name}` must lie in {left[0]}{low:g}, {high:g}{right[1]} and not be NaN; got {host[~inside].flat[0]}."
        )
    return host


def finite_result(what: str, value, names: str) -> None:
    """Refuses a result that is not finite although the arguments in `names` were; not under tracing."""
    if not concrete(value):
        return
    for leaf in jax.tree.leaves(value):
        host = np.asarray(leaf)
        if host.dtype.kind == "f" and not np.isfinite(host).all():
            remedy = "Scale them" if host.dtype.itemsize > 4 else "Scale them, or compute in float64"
            raise ValueError(
                f"{names} must not be so large or so small that {what} leaves the range of {host.dtype}; got "
                f"{host[~np.isfinite(host)].flat[0]}. {remedy}."
            )


def key(name: str, value) -> Array:
    """`value` as one random key: typed, as of `jax.random.key`, or raw, as of `jax.random.PRNGKey`."""
    if isinstance(value, jax.Array | np.ndarray):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            if value.shape == ():
                return value
        elif value.dtype == np.uint32 and value.shape == jax.eval_shape(lambda: jax.random.PRNGKey(0)).shape:
            return jnp.asarray(value)
    raise TypeError(f"`{name}` must be one random key, as of `jax.random.key(0)`; got {described(value)}.")
