"""The one way to register a result: a frozen dataclass whose arrays cross jit, vmap and device_put."""

import dataclasses
from collections.abc import Callable
from typing import Any, dataclass_transform

import jax


@dataclass_transform(frozen_default=True)
def dataclass(*static: str) -> Callable[[type], type]:
    """Makes a class a frozen dataclass and a pytree; the fields named `static` are no arrays and are compared by value.

    Example:
      >>> @dataclass("method")
      ... class Result:
      ...     value: jax.Array
      ...     method: str
    """

    def register(cls: type) -> type:
        cls = dataclasses.dataclass(frozen=True)(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        data = [name for name in names if name not in static]
        return jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=list(static))

    return register


def field_names(result: Any) -> tuple[str, ...]:
    """Names of the fields of a result or of a class of results, a dataclass or a named tuple; none of anything else."""
    return tuple(getattr(result, "_fields", None) or getattr(result, "__dataclass_fields__", ()))
