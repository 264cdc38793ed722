"""The one type of a network: functions init and apply, parameters that train, and state that does not."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ntkinfo._common import check, compiling, pickling
from ntkinfo._numerics import padding
from ntkinfo.networks._kernel_function import reason, refuse_module

# Outputs of a row with and without its neighbours may differ by rounding, also that of TF32, and not by more.
_SAME_OUTPUT = 2e-2


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network as two functions, with the parameters it has now.

    Two networks are equal where their functions are and parameters and state are the same objects.

    Attributes:
      init: init(key, x) -> params; x a batch (n, ...).
      apply: apply(params, x) -> outputs (n, outputs), with the state held fixed.
      params: parameters that train, a pytree of arrays of one floating-point dtype; None where none are given.
      state: what does not train (running averages, constants, integers), held fixed; None where there is none.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any = None
    state: Any = None

    def __eq__(self, other):
        return (
            type(other) is type(self)
            and (self.init, self.apply) == (other.init, other.apply)
            and self.params is other.params
            and self.state is other.state
        )

    def __hash__(self):
        return hash((self.init, self.apply, id(self.params), id(self.state)))

    def __reduce_ex__(self, protocol):
        return pickling.reduce(self, protocol, (self.init, self.apply), pickling.AGAIN, "functions")

    def __repr__(self):
        held = "" if self.params is None else f" with {self.n_parameters} parameters"
        return f"Network{held}"

    @property
    def n_parameters(self) -> int:
        """P, the number of parameters that train."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))

    def at(self, params: Any) -> "Network":
        """This network with other parameters, of the same structure.

        Raises:
          TypeError, ValueError: no parameters, or of another structure.
        """
        checked_params("params", params)
        if self.params is not None and jax.tree.structure(params) != jax.tree.structure(self.params):
            raise ValueError("`params` must have the structure of the network's own parameters.")
        return dataclasses.replace(self, params=params)

    def continued(self) -> "Network":
        """This network as one that starts where it is: its `init` gives the parameters it has, whatever the key."""
        self.require_params("net")
        return dataclasses.replace(self, init=_Here(self))

    def __call__(self, x: Float[Array, "n ..."]) -> Float[Array, "n k"]:
        """f(x; θ) with the parameters it has, (n, k), in the dtype of the inputs.

        Raises:
          TypeError, ValueError: a network without parameters, or that cannot be applied to such inputs.
        """
        self.require_params("net")
        x = check.inputs("x", x)
        output_shape("net", self, x)
        function, state = self.taken_apart
        return function(self.params, state, x)

    @property
    def taken_apart(self) -> tuple[Callable[[Any, Any, jax.Array], jax.Array], Any]:
        """A function(params, state, x) -> (n, k) and the state: what is large is an argument of compiled programs."""
        if isinstance(self.apply, Bound):
            return Columns(self.apply.function), self.apply.state
        return Columns(Stateless(self.apply)), None

    def check(self, name: str, x: Array) -> int:
        """The number k of outputs on `x`, after refusing, under the name of an argument, what is no network of rows.

        Raises:
          TypeError, ValueError: no parameters, outputs other than (n, k), rows that depend on each other or on chance.
        """
        self.require_params(name)
        k = output_shape(name, self, x)
        require_rows_alone(name, self, x)
        return k

    def require_params(self, name: str) -> None:
        """Refuses a network without parameters, under the name of an argument."""
        if self.params is None:
            raise ValueError(
                f"`{name}` must have parameters; got a network without. Give them to its adapter, such as "
                "`from_flax(module, variables)`, or take `net.at(net.init(key, x))`."
            )


class Bound:
    """apply(params, x) of a function(params, state, x): the state apart, so that programs take it as an argument."""

    def __init__(self, function: Callable[[Any, Any, jax.Array], jax.Array], state: Any):
        self.function = function
        self.state = state

    def __call__(self, params, x):
        return self.function(params, self.state, x)

    def __eq__(self, other):
        return type(other) is type(self) and self.function == other.function and self.state is other.state

    def __hash__(self):
        return hash((type(self), self.function, id(self.state)))


@dataclasses.dataclass(frozen=True)
class Stateless:
    """function(params, state, x) of an apply(params, x)."""

    apply: Callable

    def __call__(self, params, state, x):
        return self.apply(params, x)


@dataclasses.dataclass(frozen=True)
class Joined:
    """function(params, state, x) of an apply(params, x) some of whose parameters do not train: they are the state."""

    apply: Callable

    def __call__(self, params, state, x):
        return self.apply(joined(params, state), x)


@dataclasses.dataclass(frozen=True)
class NoInit:
    """In place of init where a library gives none."""

    remedy: str

    def __call__(self, key, x):
        raise ValueError(f"`net` has no random start of its own. {self.remedy}")


@dataclasses.dataclass(frozen=True)
class Columns:
    """function(params, state, x) with outputs (n, k), a vector (n,) being one column, in the dtype of the inputs.

    Products are as precise as that dtype: on GPUs those of float32 have the precision of TF32 unless asked for more.
    """

    function: Callable

    def __call__(self, params, state, x):
        with jax.default_matmul_precision("highest"):
            value = self.function(cast(params, x.dtype), state, x)
        return (value[:, None] if value.ndim == 1 else value).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class _Here:
    """init of a network that starts where it is."""

    net: Network

    def __call__(self, key, x):
        return cast(self.net.params, x.dtype)


def cast(params: Any, dtype) -> Any:
    """Floating-point leaves in a dtype: gradients are then as precise as the inputs."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if is_float(leaf) else leaf, params)


def output_shape(name: str, net: Network, x: Array) -> int:
    """The number k of outputs on `x`.

    Raises:
      TypeError: outputs that are no single floating-point array.
      ValueError: outputs of another shape, a network that cannot be applied, layers in training mode.
    """
    try:
        value = jax.eval_shape(lambda params, x: net.apply(cast(params, x.dtype), x), net.params, x)
    except Exception as error:
        if str(error).startswith("`"):
            raise
        raise ValueError(f"`{name}` cannot be applied to inputs of shape {x.shape}: {reason(error)}") from error
    if not hasattr(value, "shape"):
        raise TypeError(
            f"`{name}` must return one array of outputs; got {_kind(value)}. Wrap it in a function that returns one "
            "of them, and take that through `from_apply`."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`{name}` must return floating-point outputs; got dtype {value.dtype}.")
    if value.shape not in ((len(x),), (len(x), *value.shape[-1:])):
        raise ValueError(f"`{name}` must return outputs of shape (n, k), n = {len(x)}; got {value.shape}.")
    return value.shape[1] if len(value.shape) == 2 else 1


def _kind(value) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list | dict) else str(type(value))


# Of two rows, once: what compiles in less time is what is fastest.
@functools.partial(compiling.jit, static_argnums=0)
def called(function: Callable, params: Any, state: Any, x: Any) -> Any:
    """`function(params, state, x)` as one program."""
    return function(params, state, x)


def require_rows_alone(name: str, net: Network, x: Array) -> None:
    """Refuses networks whose output for a row depends on the other rows, or on chance; nothing under tracing.

    Batch norm in training mode and dropout do, whatever the library.
    """
    if len(x) < 2 or not check.concrete(x, net.params, net.state):
        return
    function, state = net.taken_apart
    # Inside a traced function known values are computed with, not traced.
    with jax.ensure_compile_time_eval():
        ends = np.asarray(x) if padding.on_host(x) else x
        pair = np.stack([np.asarray(ends[0]), np.asarray(ends[-1])])
        together = np.asarray(called(function, net.params, state, pair))
        alone = np.concatenate([np.asarray(called(function, net.params, state, pair[i : i + 1])) for i in (0, 1)])
    if not np.isfinite(together).all():
        raise ValueError(f"`{name}` must have finite outputs; got NaN or infinite ones for the first or last input.")
    if np.abs(together - alone).max() > _SAME_OUTPUT * max(np.abs(alone).max(), np.finfo(alone.dtype).tiny):
        raise ValueError(
            f"`{name}` must give each input an output of its own; got outputs that change with the rest of the batch. "
            "Batch norm must be in inference mode (running averages), and dropout off."
        )


def checked_params(name: str, params: Any) -> None:
    """Refuses parameters that are not arrays of one floating-point dtype, finite.

    Raises:
      TypeError: leaves that are no arrays of numbers, complex numbers, half precision, several dtypes.
      ValueError: no parameters, NaN or Inf.
    """
    leaves = jax.tree.leaves(params)
    for leaf in leaves:
        if not (hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)):
            raise TypeError(
                f"`{name}` must hold arrays; got {check.described(leaf)} among them. What is no number, such as the "
                "name of an activation, belongs into the function."
            )
        if np.ma.is_masked(leaf):
            raise ValueError(f"`{name}` must have no masked entries; got {np.ma.count_masked(leaf)}. Fill them first.")
    leaves = [leaf for leaf in leaves if hasattr(leaf, "dtype")]
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(
                f"`{name}` must be real; got dtype {leaf.dtype}. Keep real and imaginary parts as two parameters."
            )
    trained = [leaf for leaf in leaves if is_float(leaf)]
    if not trained or not sum(int(np.size(leaf)) for leaf in trained):
        raise ValueError(f"`{name}` must hold floating-point arrays that train; got none.")
    dtypes = sorted({np.dtype(leaf.dtype).name for leaf in trained})
    if len(dtypes) > 1 or np.dtype(trained[0].dtype).itemsize < 4:
        raise TypeError(
            f"`{name}` must be all float32 or all float64; got {' and '.join(dtypes)}. Convert them: "
            "`jax.tree.map(lambda leaf: leaf.astype(np.float32), params)`."
        )
    if check.concrete(trained) and not all(np.isfinite(np.asarray(leaf)).all() for leaf in trained):
        raise ValueError(f"`{name}` must be finite; got NaN or infinite entries.")


def is_float(leaf) -> bool:
    """Whether a leaf is an array of floating-point numbers."""
    return isinstance(leaf, jax.Array | np.ndarray | Tracer) and jnp.issubdtype(leaf.dtype, jnp.floating)


def parted(tree: Any) -> tuple[Any, Any]:
    """Leaves that train, and the others, each a tree with None in place of what is not its own; (tree, None) if all."""
    leaves, structure = jax.tree.flatten(tree)
    if all(map(is_float, leaves)):
        return tree, None
    trained = [leaf if is_float(leaf) else None for leaf in leaves]
    held = [None if is_float(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, trained), jax.tree.unflatten(structure, held)


def joined(trained: Any, held: Any) -> Any:
    """The tree that `parted` took apart."""
    if held is None:
        return trained
    return jax.tree.map(lambda a, b: b if a is None else a, trained, held, is_leaf=lambda leaf: leaf is None)


def from_apply(
    apply_fn: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    *,
    init: Callable[[jax.Array, jax.Array], Any] | None = None,
) -> Network:
    """A plain function apply_fn(params, x) with its parameters as a `Network`.

    Args:
      apply_fn: apply_fn(params, x) -> outputs (n, k) or (n,), each row by itself.
      params: a pytree of arrays. Those of floating point train; integers and booleans are held fixed.
      init: init(key, x) -> params of another random start; None where there is none.

    Returns:
      A `Network`.

    Raises:
      TypeError: not a function of two arguments; parameters that are complex, or of several dtypes.
      ValueError: no parameters that train, NaN or Inf.
    """
    if inspect.isclass(apply_fn) or not callable(apply_fn) or not check.takes(apply_fn, 2):
        refuse_module("apply_fn", apply_fn, "a function apply_fn(params, x)")
        if inspect.isclass(apply_fn):
            raise TypeError(f"`apply_fn` must be a function apply_fn(params, x); got the class {apply_fn.__name__}.")
        check.function("apply_fn", apply_fn, "a function apply_fn(params, x)", arguments=2)
    if init is None:
        init = NoInit("Give one: `from_apply(apply_fn, params, init=...)`.")
    else:
        check.function("init", init, "a function init(key, x)", arguments=2)
    checked_params("params", params)
    trained, held = parted(params)
    if held is None:
        return Network(init, apply_fn, trained)
    start = init if isinstance(init, NoInit) else _PartedInit(init)
    return Network(start, Bound(Joined(apply_fn), held), trained, held)


def from_stax(network: tuple, params: Any = None) -> Network:
    """A stax pair or triple as a `Network`: `init(key, input_shape) -> (output_shape, params)`, `apply(params, x)`.

    Args:
      network: a tuple that begins with these two functions.
      params: its parameters, as `init` returns them; None for a network that is only drawn from.

    Returns:
      A `Network`, whose parameters have the dtype of the inputs.

    Raises:
      TypeError: not a tuple that begins with two functions; parameters that are complex, or of several dtypes.
      ValueError: parameters that are not finite, or that are not as many arrays as `init` returns.

    Example:
      >>> network = from_stax(net)
      >>> network.apply(network.init(key, x), x).shape
      (12, 1)
    """
    if not (isinstance(network, tuple) and len(network) >= 2 and all(map(callable, network[:2]))):
        raise TypeError(f"`network` must be a stax tuple (init, apply, ...); got {type(network).__name__}.")
    if params is not None:
        checked_params("params", params)
        _require_as_drawn(network[0], params)
    return Network(_StaxInit(network[0]), _StaxApply(network[1]), params)


# Shapes of a row for which a network may say what its parameters are: vectors, images, sequences, volumes.
_ROWS = ((8,), (32, 32, 3), (32, 8), (8, 8, 8, 3))


def _require_as_drawn(init: Callable, params: Any) -> None:
    """Refuses parameters of another number of arrays than those of `init`, where it says so for some shape of inputs.

    What the arrays are differs with the inputs, how many there are does not.
    """
    for row in _ROWS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn = jax.eval_shape(lambda key, row=row: init(key, (-1, *row))[1], jax.random.key(0))
        except Exception:
            # A network of other inputs, or one that draws by other means.
            continue
        wanted, got = (len(jax.tree.leaves(tree)) for tree in (drawn, params))
        bare = jax.tree_util.treedef_is_leaf(jax.tree.structure(params))
        if got != wanted or bare != jax.tree_util.treedef_is_leaf(jax.tree.structure(drawn)):
            raise ValueError(
                f"`params` must be as `init` of `network` returns them, {wanted} arrays in {_kind(drawn)}; got "
                f"{got} in {check.described(params)}."
            )
        return


@dataclasses.dataclass(frozen=True)
class _PartedInit:
    init: Callable

    def __call__(self, key, x):
        return parted(self.init(key, x))[0]


# Functions as objects that compare by what they were made of: a program compiled for one is found by its equals. No
# tuples, which JAX would take apart.


@dataclasses.dataclass(frozen=True)
class _StaxInit:
    init: Callable

    def __call__(self, key, x):
        return jax.tree.map(lambda leaf: leaf.astype(x.dtype), self.init(key, (-1, *x.shape[1:]))[1])


@dataclasses.dataclass(frozen=True)
class _StaxApply:
    apply: Callable

    def __call__(self, params, x):
        return self.apply(params, x)


def as_network(name: str, value: Any) -> Network:
    """`value` as a `Network` with parameters: one, or a pair (apply_fn, params).

    Raises:
      TypeError, ValueError: neither, or without parameters.
    """
    if isinstance(value, Network):
        value.require_params(name)
        return value
    if isinstance(value, tuple) and len(value) == 2 and callable(value[0]) and not callable(value[1]):
        return from_apply(*value)
    refuse_module(name, value, "a `Network` with parameters, or a pair (apply_fn, params)")
    raise TypeError(
        f"`{name}` must be a `Network` with parameters, as of `ni.networks.from_apply`, or a pair (apply_fn, params); "
        f"got {check.described(value)}."
    )
