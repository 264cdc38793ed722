"""Networks of other libraries as one type: pairs (init, apply), and the kernel function of a stax network."""

import dataclasses
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import check

__all__ = ["Network", "from_equinox", "from_flax", "from_stax", "kernel_function"]


class Network(NamedTuple):
    """A network as two functions.

    Attributes:
      init: init(key, x) -> params; x a batch (n, ...).
      apply: apply(params, x) -> outputs (n, outputs).
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


def from_flax(module: Any) -> Network:
    """A Flax linen module as a `Network`: `module.init(key, x)` and `module.apply(variables, x)`.

    Only the collection "params" is trained. All others (the "batch_stats" of BatchNorm, fixed projections) are held at
    the values that `module.init` gives them for `jax.random.key(0)` and the inputs at hand; so BatchNorm must be made
    with `use_running_average=True`. Modules are called without random keys and without mutable collections: dropout
    must be deterministic.

    Args:
      module: `module.init(key, x)` returns a mapping of collections, `module.apply(variables, x)` the outputs.

    Returns:
      A `Network`, whose parameters are {"params": ...}.

    Raises:
      TypeError: no `init` or no `apply`; when parameters are made, an `init` that returns no collections.
      ValueError: when parameters are made, no collection "params".
    """
    if not (callable(getattr(module, "init", None)) and callable(getattr(module, "apply", None))):
        raise TypeError(
            f"`module` must have `init` and `apply`, as Flax linen modules do; got {type(module).__name__}."
        )

    return Network(_FlaxInit(module), _FlaxApply(module))


def from_equinox(make: Callable[[jax.Array], Any]) -> Network:
    """An Equinox module as a `Network`.

    Args:
      make: make(key) -> module, for instance `lambda key: eqx.nn.MLP(64, 16, 128, 2, key=key)`. The module is a pytree
        and a function of one input, over which it is mapped. Its floating-point arrays are trained; what else it has
        is held as `make(jax.random.key(0))` made it.

    Returns:
      A `Network`, whose parameters are the list of trained arrays.

    Raises:
      TypeError: `make` is a module itself, or does not make a function.
    """
    made = make(jax.random.key(0)) if callable(make) and not _arrays(make) and check.takes(make, 1) else None
    if not callable(made):
        raise TypeError(
            "`make` must be a function of a key that returns an Equinox module; got "
            f"{type(make).__name__}. For instance `from_equinox(lambda key: eqx.nn.MLP(..., key=key))`."
        )
    leaves, structure = jax.tree.flatten(made)
    trained = [_is_float(leaf) for leaf in leaves]

    def init(key, x):
        made = jax.tree.leaves(make(key))
        return [jnp.asarray(leaf, x.dtype) for leaf, is_trained in zip(made, trained, strict=True) if is_trained]

    def apply(params, x):
        arrays = iter(params)
        merged = [next(arrays) if is_trained else leaf for leaf, is_trained in zip(leaves, trained, strict=True)]
        return jax.vmap(jax.tree.unflatten(structure, merged))(x)

    return Network(init, apply)


def from_stax(network: tuple) -> Network:
    """A stax pair or triple as a `Network`: `init(key, input_shape) -> (output_shape, params)`, `apply(params, x)`.

    Args:
      network: a tuple that begins with these two functions.

    Returns:
      A `Network`, whose parameters have the dtype of the inputs.

    Raises:
      TypeError: not a tuple that begins with two functions.
    """
    if not (isinstance(network, tuple) and len(network) >= 2 and all(map(callable, network[:2]))):
        raise TypeError(f"`network` must be a stax tuple (init, apply, ...); got {type(network).__name__}.")
    return Network(_StaxInit(network[0]), _StaxApply(network[1]))


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


class _OfFlax:
    """Equal where the modules are, as Flax modules with equal fields; only to itself where they cannot be compared."""

    def __init__(self, module):
        self.module = module

    def __eq__(self, other):
        return type(other) is type(self) and _equal_modules(self.module, other.module)

    def __hash__(self):
        try:
            return hash((type(self), self.module))
        except TypeError:
            return hash((type(self), id(self.module)))


class _FlaxInit(_OfFlax):
    def __call__(self, key, x):
        variables = self.module.init(key, x)
        if not isinstance(variables, Mapping):
            raise TypeError(
                "`module.init` must return a mapping of collections, as Flax linen modules do; got "
                f"{type(variables).__name__}. A pair (init, apply) needs no adapter: `Network(init, apply)`."
            )
        if "params" not in variables:
            raise ValueError(
                "`module` must have a collection 'params', the only one that is trained; got "
                f"{', '.join(map(repr, variables)) or 'none'}. A pair (init, apply) needs no adapter: "
                "`Network(init, apply)`."
            )
        return {"params": variables["params"]}


class _FlaxApply(_OfFlax):
    def __call__(self, params, x):
        module, key = self.module, jax.random.key(0)
        # Which collections there are is known without computing them; most modules have no other.
        if set(jax.eval_shape(module.init, key, x)) == {"params"}:
            return module.apply(params, x)
        fixed = {name: value for name, value in module.init(key, x).items() if name != "params"}
        return module.apply({**fixed, **params}, x)


def _equal_modules(a, b) -> bool:
    if a is b:
        return True
    try:
        hash(a)
        # 1 and True and 1.0 are equal, and may make different programs; they read differently.
        return type(a) is type(b) and bool(a == b) and repr(a) == repr(b)
    # Fields that are arrays cannot be compared as a whole.
    except (TypeError, ValueError):
        return False


# Where the classes of other libraries are defined, and what makes a `Network` of their objects.
_LIBRARIES = {
    "flax.linen": ("Flax module", "from_flax(module)"),
    "flax.nnx": ("Flax nnx module", "Network(init, apply)` of `nnx.split` and `nnx.merge"),
    "equinox": ("Equinox module", "from_equinox(make)` of a function make(key) -> module"),
}


def refuse_module(name: str, value, wanted: str) -> None:
    """Refuses modules of other libraries as they are, and names the adapter; `wanted` says what must be given."""
    for base in type(value).__mro__:
        for library, (kind, adapter) in _LIBRARIES.items():
            if base.__module__ == library or base.__module__.startswith(library + "."):
                adapter = f"`ni.networks.{adapter}`"
                raise TypeError(
                    f"`{name}` must be {wanted}; got a {kind}, {type(value).__name__}. As a finite network it is taken "
                    f"through {adapter} (see `ni.networks`)."
                )


def reason(error: Exception) -> str:
    """The first line of an error of a network's own functions, and what to do about those that are known."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if "Dropout" in text:
        return 'its `Dropout` draws at random. Make it `Dropout(rate, mode="test")`: nothing here hands on random keys.'
    if "MaskedArray" in text:
        return "it returns a masked array. Take its apply function through `stax.unmask_fn`."
    names = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any("Aggregate" in name for name in names):
        return "its `Aggregate` needs a graph. Fix one for both functions: `functools.partial(kernel_fn, pattern=...)`."
    return text


def _is_float(leaf) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _arrays(tree) -> bool:
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(tree))


def kernel_function(net: tuple | list | Callable) -> Callable:
    """The kernel function of `net`: the third of a stax triple `(init, apply, kernel)`, or `net` itself.

    Args:
      net: a stax triple, or a function kernel_fn(x1, x2, get).

    Returns:
      A function kernel_fn(x1, x2, get).

    Raises:
      TypeError: `net` is neither.
    """
    if isinstance(net, tuple | list) and len(net) == 3 and callable(net[2]):
        return net[2]
    refuse_module("net", net, "a network of `ntkinfo.stax`: kernels are those of infinite width")
    if callable(net) and check.takes(net, 3):
        return net
    raise TypeError(
        "`net` must be a network of `ntkinfo.stax`, that is a triple (init, apply, kernel), "
        f"or a function kernel_fn(x1, x2, get); got {check.described(net)}"
        f"{', which does not take three arguments' if callable(net) else ''}."
    )


def saw_data(kernel_fn: Callable, stated: bool | None = None) -> bool:
    """Whether a kernel function was learned from the data it is used on: as `stated`, else as it says itself.

    Args:
      kernel_fn: the kernel function; one that was learned carries `prior_saw_data = True`.
      stated: what the caller knows; None asks the function, and takes one that says nothing for fixed beforehand.

    Returns:
      True or False.

    Raises:
      TypeError: neither a boolean nor None.
    """
    answer = getattr(kernel_fn, "prior_saw_data", False) if stated is None else stated
    if not isinstance(answer, bool | np.bool_):
        raise TypeError(f"`prior_saw_data` must be True, False or None; got {answer!r}.")
    return bool(answer)
