"""Modules of Flax as a `Network`: linen, whose variables stand apart, and nnx, whose modules hold them."""

from collections.abc import Mapping
from typing import Any

import jax

from ntkinfo.networks import _activations, _network
from ntkinfo.networks._kernel_function import TRAINING
from ntkinfo.networks._network import Bound, Network


def from_flax(module: Any, variables: Any = None, **call: Any) -> Network:
    """A Flax linen module as a `Network`: `module.init(key, x)` and `module.apply(variables, x)`.

    Only the collection "params" is trained. All others (the "batch_stats" of BatchNorm, fixed projections) are state:
    held at the values of `variables`, or, without any, at those that `module.init` gives them for `jax.random.key(0)`
    and the inputs at hand. BatchNorm must be made with `use_running_average=True`. Modules are called without random
    keys and without mutable collections: dropout must be deterministic.

    Args:
      module: `module.init(key, x)` returns a mapping of collections, `module.apply(variables, x)` the outputs.
      variables: its collections, as `module.init` or training left them; None for a network that is only drawn from.
      **call: arguments of the module's call, such as `train=False`.

    Returns:
      A `Network`, whose parameters are {"params": ...}.

    Raises:
      TypeError: no `init` or no `apply`; variables, or an `init`, that are no mapping of collections; parameters that
        are complex, or of several dtypes.
      ValueError: no collection "params" (without `variables`, when parameters are made); NaN or Inf.
    """
    if not (callable(getattr(module, "init", None)) and callable(getattr(module, "apply", None))):
        raise TypeError(
            f"`module` must have `init` and `apply`, as Flax linen modules do; got {type(module).__name__}."
        )
    init = _FlaxInit(module, call)
    if variables is None:
        return Network(init, _FlaxApply(module, call))
    collections = _collections("variables", variables)
    _network.checked_params("variables", collections["params"])
    trained, held = _network.parted({"params": collections["params"]})
    others = {name: value for name, value in collections.items() if name != "params"}
    if held is None and not others:
        return Network(init, Bound(_FlaxFunction(module, call), None), trained)
    state = (others, held)
    return Network(init, Bound(_FlaxFunction(module, call), state), trained, state)


def _collections(name: str, variables) -> dict:
    """Collections by name, of whatever mapping."""
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"`{name}` must be a mapping of collections, as Flax linen modules have; got {type(variables).__name__}. "
            "A pair (init, apply) needs no adapter: `Network(init, apply)`."
        )
    if "params" not in variables:
        raise ValueError(
            f"`{name}` must have a collection 'params', the only one that is trained; got "
            f"{', '.join(map(repr, variables)) or 'none'}. A pair (init, apply) needs no adapter: "
            "`Network(init, apply)`."
        )
    return dict(variables)


class _OfFlax:
    """Equal where the modules are, as Flax modules with equal fields; only to itself where they cannot be compared."""

    def __init__(self, module, call):
        self.module = module
        self.call = call

    def __eq__(self, other):
        return (
            type(other) is type(self)
            and _equal_modules(self.module, other.module)
            and self.call.keys() == other.call.keys()
            and all(_equal_modules(value, other.call[name]) for name, value in self.call.items())
        )

    def __hash__(self):
        try:
            return hash((type(self), self.module))
        except TypeError:
            return hash((type(self), id(self.module)))


class _FlaxInit(_OfFlax):
    def __call__(self, key, x):
        return {"params": _collections("module.init", self.module.init(key, x, **self.call))["params"]}


class _FlaxApply(_OfFlax):
    """apply(params, x) of a module without variables: its state is what `init` makes."""

    def __call__(self, params, x):
        module, key = self.module, jax.random.key(0)

        def init(key, x):
            return module.init(key, x, **self.call)

        # Which collections there are is known without computing them; most modules have no other.
        if set(jax.eval_shape(init, key, x)) == {"params"}:
            return module.apply(params, x, **self.call)
        fixed = {name: value for name, value in init(key, x).items() if name != "params"}
        return module.apply({**fixed, **params}, x, **self.call)


class _FlaxFunction(_OfFlax):
    """function(params, state, x) of a module, its state the other collections and parameters that do not train."""

    def __call__(self, params, state, x):
        others, held = ({}, None) if state is None else state
        return self.module.apply({**others, **_network.joined(params, held)}, x, **self.call)

    def activations(self, params, state, x):
        """Outputs of the submodules, by name."""
        others, held = ({}, None) if state is None else state
        variables = {**others, **_network.joined(params, held)}
        options = {"capture_intermediates": True, "mutable": ["intermediates"]}
        _, values = self.module.apply(variables, x, **options, **self.call)
        return _activations.numbered(_activations.flattened(values["intermediates"]))


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


def from_nnx(model: Any, **call: Any) -> Network:
    """A Flax nnx module as a `Network`, with the parameters it holds now.

    Its `nnx.Param` are trained. All other variables are state, held as they are: running averages, keys, caches. The
    module itself stays as it is. It has no random start of its own: `Network.init` refuses.

    Args:
      model: an `nnx.Module`, in inference mode: `model.eval()`.
      **call: arguments of its call.

    Returns:
      A `Network`, whose parameters are an `nnx.State`.

    Raises:
      TypeError: no nnx module; parameters that are complex, or of several dtypes.
      ValueError: batch norm or dropout in training mode; no parameters, NaN or Inf.
    """
    kinds = [base.__module__ for base in type(model).__mro__]
    if not any(kind == "flax.nnx" or kind.startswith("flax.nnx.") for kind in kinds):
        raise TypeError(f"`model` must be a module of `flax.nnx`; got {type(model).__name__}.")
    from flax import nnx  # pyright: ignore[reportMissingImports] - there, as its module is

    for path, part in _modules(model):
        averages = getattr(part, "use_running_average", True)
        rate = getattr(part, "rate", getattr(part, "dropout_rate", 0.0)) or 0.0
        drops = rate > 0 and getattr(part, "deterministic", True) is False
        if averages is False or drops:
            where = ".".join(map(str, path)) or type(part).__name__
            raise ValueError(
                f"`model` must be in inference mode; got {type(part).__name__} in training mode ({where}): "
                f"{TRAINING} Call `model.eval()` first."
            )
    structure, params, state = nnx.split(model, nnx.Param, ...)
    _network.checked_params("model", params)
    trained, held = _network.parted(params)
    function = _NnxFunction(structure, call)
    kept = (state, held) if jax.tree.leaves(state) or held is not None else None
    init = _network.NoInit("Make modules of other seeds, and take `from_nnx` of each.")
    return Network(init, Bound(function, kept if kept is not None else (state, held)), trained, kept)


def _modules(model):
    """Paths and modules of a module of nnx, itself the last."""
    from flax import nnx  # pyright: ignore[reportMissingImports]

    return list(nnx.iter_modules(model) if hasattr(nnx, "iter_modules") else model.iter_modules())


class _NnxFunction:
    """function(params, state, x) of the structure that `nnx.split` leaves."""

    def __init__(self, structure, call):
        self.structure = structure
        self.call = call

    def __call__(self, params, state, x):
        from flax import nnx  # pyright: ignore[reportMissingImports]

        others, held = state
        return nnx.merge(self.structure, _network.joined(params, held), others)(x, **self.call)

    def activations(self, params, state, x):
        """Outputs of the submodules, by name."""
        from flax import nnx  # pyright: ignore[reportMissingImports]

        others, held = state
        model = nnx.merge(self.structure, _network.joined(params, held), others)
        parts = {id(part): ".".join(map(str, path)) or "output" for path, part in _modules(model)}
        with _activations.recorded(parts, [type(part) for _, part in _modules(model)]) as calls:
            model(x, **self.call)
        return _activations.numbered(calls)

    def __eq__(self, other):
        same_call = type(other) is type(self) and repr(self.call) == repr(other.call)
        return same_call and _equal_modules(self.structure, other.structure)

    def __hash__(self):
        try:
            return hash((type(self), self.structure))
        except TypeError:
            return hash((type(self), id(self.structure)))
