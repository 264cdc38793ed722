"""Functions transformed by Haiku as a `Network`."""

import inspect
from typing import Any

from ntkinfo._common import check
from ntkinfo.networks import _network
from ntkinfo.networks._network import Bound, Network


def from_haiku(transformed: Any, params: Any = None, state: Any = None, **call: Any) -> Network:
    """A function transformed by `hk.transform` or `hk.transform_with_state` as a `Network`.

    It is called without a random key: dropout must be off. Its state is held fixed.

    Args:
      transformed: the pair (init, apply) that Haiku returns, also through `hk.without_apply_rng`.
      params: its parameters; None for a network that is only drawn from.
      state: of `hk.transform_with_state`.
      **call: arguments of the function besides the inputs, such as `is_training=False`.

    Returns:
      A `Network`.

    Raises:
      TypeError: no such pair; parameters that are complex, or of several dtypes.
      ValueError: a state that is missing or not asked for; NaN or Inf.
    """
    init, apply = getattr(transformed, "init", None), getattr(transformed, "apply", None)
    if not (callable(init) and callable(apply)):
        raise TypeError(
            "`transformed` must be what `hk.transform` or `hk.transform_with_state` returns; got "
            f"{check.described(transformed)}."
        )
    names = list(inspect.signature(apply).parameters)
    stateful, keyed = "state" in names[:2], "rng" in names[:3]
    if state is None and stateful and params is not None:
        raise ValueError("`state` must be given for a function of `hk.transform_with_state`; `init` returns it.")
    if state is not None and not stateful:
        raise ValueError("`state` must be left out for a function of `hk.transform`, which has none.")
    start = _Init(init, stateful, call)
    function = _Function(apply, stateful, keyed, call)
    if params is None:
        if stateful:
            raise ValueError("`params` and `state` must be given for a function of `hk.transform_with_state`.")
        return Network(start, Bound(function, (None, None)))
    _network.checked_params("params", params)
    trained, held = _network.parted(params)
    kept = (state, held) if stateful or held is not None else None
    return Network(start, Bound(function, kept or (None, None)), trained, kept)


class _OfHaiku:
    """Equal where made of the same functions."""

    def __init__(self, *parts):
        *self.parts, self.call = parts

    def __eq__(self, other):
        return type(other) is type(self) and self.parts == other.parts and repr(self.call) == repr(other.call)

    def __hash__(self):
        return hash((type(self), *self.parts))


class _Init(_OfHaiku):
    def __call__(self, key, x):
        init, stateful = self.parts
        made = init(key, x, **self.call)
        return _network.parted(made[0] if stateful else made)[0]


class _Function(_OfHaiku):
    def __call__(self, params, state, x):
        apply, stateful, keyed = self.parts
        others, held = state
        arguments = [_network.joined(params, held), *([others] if stateful else []), *([None] if keyed else [])]
        value = apply(*arguments, x, **self.call)
        return value[0] if stateful else value
