"""Kernel functions, and what is said of networks that are none: modules as they are, errors of their own functions."""

import traceback
from collections.abc import Callable

import numpy as np

from ntkinfo._common import check

# Where the classes of other libraries are defined, and what makes a `Network` of their objects.
_LIBRARIES = {
    "flax.linen": ("Flax module", "from_flax(module)"),
    "flax.nnx": ("Flax nnx module", "from_nnx(model)"),
    "equinox": ("Equinox module", "from_equinox(module)"),
    "haiku": ("Haiku function", "from_haiku(transformed, params)"),
    "torch": ("PyTorch module", "from_apply(apply_fn, params)` of the same network in JAX"),
}
# Of states that begin in a dtype of their own, as recurrent layers' of float32 beside inputs of float64.
_ONE_DTYPE = "Make the initial state in the dtype of the inputs, or give inputs in that of the state (`x.astype(...)`)."
# Kernels are of floating-point inputs.
_NUMBERS = (
    "Give the numbers as floating-point inputs, and convert them inside: "
    "`from_apply(lambda params, x: apply(params, x.astype(int)), params)`."
)
# What batch norm and dropout do in training mode, and why that is no network with an output for each input.
TRAINING = "outputs then depend on the batch, or on chance."


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOU" else "a"


def refuse_module(name: str, value, wanted: str) -> None:
    """Refuses modules of other libraries as they are, and names the adapter; `wanted` says what must be given."""
    for base in type(value).__mro__:
        for library, (kind, adapter) in _LIBRARIES.items():
            if base.__module__ == library or base.__module__.startswith(library + "."):
                given = f"{_article(kind)} {kind}, {type(value).__name__}"
                raise TypeError(
                    f"`{name}` must be {wanted}; got {given}. As a finite network it is taken "
                    f"through `ni.networks.{adapter}`, and its own kernel is `ni.kernels.empirical` of that."
                )


def reason(error: Exception) -> str:
    """The first line of an error of a network's own functions, and what to do about those that are known."""
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    library = type(error).__module__.split(".")[0]
    if "is immutable" in text and library == "flax":
        return f"a layer is in training mode ({text.split(' (http')[0]}). Use running averages, and no mutable state."
    if ("PRNG" in text and library != "builtins") or "requires a key" in text or "RngCount" in text:
        drawn = f"it draws at random ({text.split(' (http')[0]}). Turn dropout off: nothing here hands on random keys."
        carry = " Recurrent layers of nnx draw where they are given no `initial_carry`."
        return drawn + carry if "RngCount" in text else drawn
    if "Dropout" in text:
        return 'its `Dropout` draws at random. Make it `Dropout(rate, mode="test")`: nothing here hands on random keys.'
    if "carry" in text and "equal types" in text:
        return f"{text[:-1] if text.endswith(':') else text}: parameters take the dtype of the inputs. {_ONE_DTYPE}"
    if "nteger" in text and any(word in text for word in ("Input type", "ndexer", "integer dtype")):
        return f"it looks entries up by number ({text.rstrip('.')}). {_NUMBERS}"
    if "MaskedArray" in text:
        return "it returns a masked array. Take its apply function through `stax.unmask_fn`."
    names = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any("Aggregate" in name for name in names):
        return "its `Aggregate` needs a graph. Fix one for both functions: `functools.partial(kernel_fn, pattern=...)`."
    return text


def kernel_function(net: tuple | list | Callable) -> Callable:
    """The kernel function of `net`: the third of a stax triple `(init, apply, kernel)`, or `net` itself.

    Args:
      net: a stax triple, or a function kernel_fn(x1, x2, get).

    Returns:
      A function kernel_fn(x1, x2, get).

    Raises:
      TypeError: `net` is neither.

    Example:
      >>> kernel_function(net) is net[2]
      True
    """
    if isinstance(net, tuple | list) and len(net) == 3 and callable(net[2]):
        return net[2]
    refuse_module("net", net, "a network of `ntkinfo.stax`: kernels are those of infinite width")
    if callable(net) and check.takes(net, 3):
        return net
    if hasattr(net, "taken_apart"):
        raise TypeError(
            "`net` must have kernels; got a `Network`. Those of the network itself are `ni.kernels.empirical(net)`; of "
            "infinite width only networks of `ntkinfo.stax` have them."
        )
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
