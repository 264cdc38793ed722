"""Networks with correlated parameters: the kernels K(ρ), whose derivatives at ρ = 1 are the tangent and Hessian kernel.

K(ρ) is the covariance of f(x; θ) with f(x'; θ'), θ' = ρθ + √(1 - ρ²) ξ for an independent draw ξ. It follows from the
recursion of the NNGP kernel if every layer with parameters multiplies its cross-covariance by ρ and leaves both
variances alone. `ntkinfo.stax` builds its layers here: ρ travels through a network as the keyword `correlation` of the
kernel function, and a register says of every kernel function what is in the way of K(ρ) or of its second derivative.
"""

import functools
import inspect
import itertools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ntkinfo._common import check, interning


class KernelTraits(NamedTuple):
    """Why a network has no correlated kernel, and why no Hessian kernel: nothing in the way where both are empty."""

    unknown: tuple[str, ...] = ()
    nonsmooth: tuple[str, ...] = ()


# By kernel function itself, not as an attribute of it: decorators copy attributes to functions that compute otherwise.
_registry: weakref.WeakKeyDictionary[Callable, KernelTraits] = weakref.WeakKeyDictionary()
# By kernel function, of layers that are one object whenever they are made: the two other functions, and a number that
# stands for the layer in descriptions of what is composed of it.
_shared: weakref.WeakKeyDictionary[Callable, tuple[weakref.ref, weakref.ref, int]] = weakref.WeakKeyDictionary()
_numbers = itertools.count()
_KINK = "its Hessian kernel is singular where two inputs agree"


def parametrised(constructor: Callable) -> Callable:
    """A layer of weights and biases: multiplies its cross-covariance by ρ."""
    signature = inspect.signature(constructor)

    def make(*args, **kwargs):
        _check_layer(signature.bind(*args, **kwargs).arguments)
        init_fn, apply_fn, inner = constructor(*args, **kwargs)

        @functools.wraps(inner)
        def kernel_fn(x1_or_kernel, x2=None, get=None, *, correlation=None, **options):
            out = inner(x1_or_kernel, x2, get, **options)
            if correlation is None:
                return out
            # A lone layer asked for get="nngp" returns the array; inside a network it is a `Kernel`.
            return out.replace(nngp=correlation * out.nngp) if hasattr(out, "nngp") else correlation * out

        given = signature.bind(*args, **kwargs).arguments.get("parameterization", "ntk").lower()
        # K'(1) is the tangent kernel for parameters from N(0, I) alone.
        unknown = () if given == "ntk" else (f"{constructor.__name__} with parameterization={given!r}",)
        return init_fn, apply_fn, _registered(kernel_fn, KernelTraits(unknown))

    return _interned(make, constructor)


def _check_layer(arguments) -> None:
    """Refuses numbers of units that are none, and scales that are NaN or whose squares overflow."""
    for name in ("out_dim", "out_chan"):
        if name in arguments:
            check.integer(name, arguments[name])
    for name in ("W_std", "b_std"):
        if arguments.get(name) is not None:
            check.number(name, arguments[name], -check.LARGEST_SCALE, check.LARGEST_SCALE)


def without_parameters(constructor: Callable) -> Callable:
    """A layer without parameters whose kernels are smooth in the cross-covariance: ρ passes through."""
    return _made(constructor, lambda made: KernelTraits())


def nonsmooth(constructor: Callable, why: str = _KINK) -> Callable:
    """An activation for which K(ρ) exists, but not a second derivative that could be trusted."""
    return _made(constructor, lambda made: KernelTraits(nonsmooth=(f"{constructor.__name__}: {why}",)))


def unsupported(constructor: Callable) -> Callable:
    """A layer whose correlated kernel is not derived: it stays usable for everything else."""
    return _made(constructor, lambda made: KernelTraits(unknown=(constructor.__name__,)))


def conditional(constructor: Callable, argument: str, accepted: Any, otherwise: Callable) -> Callable:
    """A layer without parameters as long as an `argument` has the value `accepted`, else as `otherwise` makes it."""
    signature = inspect.signature(constructor)
    plain, other = without_parameters(constructor), otherwise(constructor)

    @functools.wraps(constructor)
    def make(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return (plain if bound.arguments[argument] == accepted else other)(*args, **kwargs)

    return make


def combinator(constructor: Callable) -> Callable:
    """Layers composed of layers: in the way is what is in the way of any of them."""

    def make(*layers, **kwargs):
        made = constructor(*layers, **kwargs)
        if "layer" in kwargs:
            layers = (kwargs["layer"],)
        parts = [_traits(layer[2]) for layer in layers if isinstance(layer, tuple | list)]
        _registered(
            made[2], KernelTraits(*(tuple(dict.fromkeys(sum(names, ()))) for names in zip(*parts, strict=True)))
        )
        return made

    return _interned(make, constructor)


def _made(constructor: Callable, traits: Callable) -> Callable:
    def make(*args, **kwargs):
        made = constructor(*args, **kwargs)
        _registered(made[2], traits(made))
        return made

    return _interned(make, constructor)


def _interned(make: Callable, constructor: Callable) -> Callable:
    """Layers made again with equal arguments, and compositions of such layers, are one object: one compiled program."""
    return interning.interned(make, constructor, describe=_describe, remember=_remember)


def _describe(value: Any) -> Any:
    """As `interning.describe`; a layer that is one object whenever it is made is its number."""
    if not isinstance(value, tuple | list):
        return interning.describe(value)
    if len(value) == 3 and callable(value[2]):
        known = _shared.get(value[2])
        if known is None or known[0]() is not value[0] or known[1]() is not value[1]:
            raise interning.UnknownError
        return "layer", known[2]
    return type(value), tuple(_describe(item) for item in value)


def _remember(made: tuple) -> None:
    _shared.setdefault(made[2], (weakref.ref(made[0]), weakref.ref(made[1]), next(_numbers)))


def _registered(kernel_fn: Callable, traits: KernelTraits) -> Callable:
    _registry[kernel_fn] = traits
    return kernel_fn


def _traits(kernel_fn: Callable) -> KernelTraits:
    try:
        return _registry[kernel_fn]
    except (KeyError, TypeError):
        return KernelTraits(unknown=(f"{getattr(kernel_fn, '__name__', repr(kernel_fn))} (not built by ntkinfo.stax)",))


def require(kernel_fn: Callable, *, smooth: bool) -> None:
    """Refuses a kernel function that has no K(ρ) or, if `smooth`, no K''(1) that could be trusted.

    Raises:
      ValueError: the message names the layers in the way.
    """
    traits = _traits(kernel_fn)
    if traits.unknown:
        raise ValueError(
            "`net` must be built from the layers of `ntkinfo.stax` alone for a correlated-parameter kernel, with "
            f"parameters from N(0, 1); in the way: {', '.join(traits.unknown)}. Build the network from `ntkinfo.stax` "
            "(Dense, Conv, pooling, smooth activations, serial, parallel, repeat, FanOut, FanInSum), or take the "
            "linear part alone (`parameter_divergence(..., curvature=False)`)."
        )
    if smooth and traits.nonsmooth:
        raise ValueError(
            f"`net` must have smooth activations for the Hessian kernel; got {'; '.join(traits.nonsmooth)}. Use Erf, "
            "Gelu or Sin, or take the linear part alone (`parameter_divergence(..., curvature=False)`)."
        )


def has_given_kernels(kernel_fn: Callable) -> bool:
    """Whether a kernel function is made of layers that are formulas: none of the user's, none by quadrature."""
    traits = _traits(kernel_fn)
    return not traits.unknown and not any(name.startswith("Elementwise") for name in traits.nonsmooth)


def kernel(kernel_fn: Callable, x1: Array, x2: Array | None, rho: Array) -> Array:
    """K(ρ): covariance of f(x1; θ) with f(x2; ρθ + √(1 - ρ²) ξ), for independent θ and ξ from N(0, I).

    K(1) is the NNGP kernel, K'(1) the tangent kernel Θ, K''(1) the Hessian kernel (`ntkinfo.kernels.hessian`).

    Args:
      kernel_fn: kernel function of a network of `ntkinfo.stax`, kinked activations included.
      x1: inputs, (a, ...).
      x2: inputs, (b, ...), or None for `x1`.
      rho: correlation ρ of the parameters, from -1 to 1, a scalar.

    Returns:
      K(ρ), (a, b), in one piece; jittable, and differentiable in ρ where activations are smooth. Exact at infinite
      width.

    Raises:
      ValueError: layers without a correlated kernel.

    Source: theory, section 4.
    """
    require(kernel_fn, smooth=False)
    # Never x2=None, even for x2 = x1: a batch with itself at other parameters has a cross-covariance of its own.
    return kernel_fn(x1, x1 if x2 is None else x2, "nngp", correlation=rho)


class TangentAndHessian(NamedTuple):
    """K'(1) = Θ and K''(1) = H in the place of both kernels, for the blocks of `ntkinfo.kernels`."""

    kernel_fn: Callable

    def __call__(self, x1: Array, x2: Array | None = None, get=None) -> tuple[Array, Array]:
        """(K'(1), K''(1)), (a, b) each."""
        one = jnp.ones((), jnp.result_type(float))

        def slope(rho):
            return jax.jvp(functools.partial(kernel, self.kernel_fn, x1, x2), (rho,), (one,))[1]

        return jax.jvp(slope, (one,), (one,))
