"""The one list of activations of the command line: which job has which, and why one is missing."""

import argparse
from collections.abc import Callable

from ntkinfo._cli import arguments

_NO_KERNEL = "its kernel has no closed form"
_NOT_TRAINED = "`finite.train_layers` has no layer of that name"
# Name: why the closed forms lack it, and why the trained layers do; None where they have it.
ACTIVATIONS: dict[str, tuple[str | None, str | None]] = {
    "erf": (None, None),
    "relu": (None, None),
    "gelu": (None, None),
    "linear": (None, None),
    "leaky_relu": (None, _NOT_TRAINED),
    "sin": (None, _NOT_TRAINED),
    "abs": (None, _NOT_TRAINED),
    "tanh": (f"{_NO_KERNEL}; erf is the same within 2 % once scaled", None),
    "sigmoid": (f"{_NO_KERNEL}; erf has its shape, but for scale and offset", None),
    "elu": (f"{_NO_KERNEL}; gelu is the nearest", None),
    "softplus": (f"{_NO_KERNEL}; gelu is the nearest", None),
}
_KINDS = ("closed forms", "trained layers")


def reader(kind: str) -> Callable[[str], str]:
    """What --activation accepts: of "closed forms" or "trained layers"."""
    column = _KINDS.index(kind)
    has = [name for name, missing in ACTIVATIONS.items() if missing[column] is None]

    def read(text: str) -> str:
        if text in has:
            return text
        why = ACTIVATIONS[text][column] if text in ACTIVATIONS else None
        hint = f": {why}" if why else arguments.did_you_mean(text, has)
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(has)}; got {arguments.shown(text)}{hint}")

    return read


def listed(kind: str) -> str:
    """The list for the help of a job."""
    column = _KINDS.index(kind)
    lines = [f"  {name:12}{missing[column] or 'yes'}" for name, missing in ACTIVATIONS.items()]
    return f"activations ({kind}):\n" + "\n".join(lines)
