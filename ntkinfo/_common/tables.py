"""What every result answers to: a table of its columns, one line on a prompt, a small table in a notebook.

A class of results names its axes once, in `_table`; the three functions are handed on as its methods:

    _table = tables.Table(("networks", "t"), nats="i_xt", plain="loss")
    to_dataframe, __repr__, _repr_html_ = tables.to_dataframe, tables.one_line, tables.html
"""

import html as _escape
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ntkinfo._common import check, pytree

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"nats": 1.0, "bits": 1 / math.log(2)}
# A line of a prompt, and arrays of which it shows the numbers themselves.
_WIDTH, _SHOWN = 160, 4


class Table(NamedTuple):
    """Which fields of a result are columns, and what their axes are.

    Attributes:
      axes: names of the trailing axes of the columns, in order; axes before them are numbered.
      nats: columns in nats, names apart by spaces.
      plain: columns without a unit.
      where: column to those of `axes` that it has, where it lacks some.
      names: axis to the field with its coordinates, where the field has another name than the axis.
      totals: fields that hold for the whole table, which go to `attrs`; in nats where they end in "*".
    """

    axes: tuple[str, ...]
    nats: str = ""
    plain: str = ""
    where: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    names: dict[str, str] = {}  # noqa: RUF012
    totals: str = ""


def factor(unit: str) -> float:
    """What nats are multiplied by for `unit`.

    Raises:
      ValueError: a unit other than "nats" or "bits".
    """
    check.option("unit", unit, UNITS)
    return UNITS[unit]


def frame(columns: dict[str, Any], attributes: dict[str, Any], unit: str) -> "pd.DataFrame":
    """A DataFrame of columns, whose `attrs` say the unit and what holds for all rows.

    Raises:
      ImportError: pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("`to_dataframe` needs pandas. Install it: pip install pandas.") from error
    made = pd.DataFrame(columns)
    made.attrs.update({"units": unit} | attributes)
    return made


def to_dataframe(self: Any, *, unit: str = "nats") -> "pd.DataFrame":
    """A pandas table with a column per quantity and a row per entry of its axes; `attrs` say unit and totals.

    Args:
      self: the result.
      unit: "nats" or "bits", of information.

    Raises:
      ValueError: an unknown unit.
      TypeError: a result that is being traced.
      ImportError: pandas is missing.
    """
    scale, table = factor(unit) / factor(getattr(self, "unit", "nats")), self._table
    check.known("self", self)
    columns = {
        column: (np.asarray(value), name in table.nats.split())
        for name in [*table.nats.split(), *table.plain.split()]
        for column, value in _parts(name, getattr(self, name)).items()
    }
    lengths, n_free = _lengths(columns, table)
    free = [f"axis_{i}" for i in range(n_free)]
    axes = [*free, *(axis for axis in table.axes if axis in lengths)]
    shape = tuple(lengths[axis] for axis in axes)
    made = {}
    for i, axis in enumerate(axes):
        labels = _coordinates(self, table, axis, lengths[axis])
        made[axis] = np.broadcast_to(labels.reshape([-1 if j == i else 1 for j in range(len(axes))]), shape).ravel()
    for name, (values, in_nats) in columns.items():
        trailing = table.where.get(name, table.axes)
        own = [*free[: values.ndim - len(trailing)], *trailing] if values.ndim >= len(trailing) else []
        values = values.reshape([lengths[axis] if axis in own else 1 for axis in axes] if own else [1] * len(axes))
        values = scale * values if in_nats and values.dtype.kind == "f" else values
        made[name] = np.broadcast_to(values, shape).ravel()
    totals = {}
    for name in table.totals.split():
        value = getattr(self, name.rstrip("*"))
        if value is not None:
            totals[name.rstrip("*")] = scale * float(value) if name.endswith("*") else _plain(value)
    return frame(made, totals, unit)


def _parts(name: str, value) -> dict[str, Any]:
    """The columns of a field: none where it is None, and of an `Estimate` its errors beside it."""
    if value is None:
        return {}
    if hasattr(value, "truncation"):
        return {name: value.value, f"{name}_stderr": value.stderr, f"{name}_truncation": value.truncation}
    return {name: value}


def _lengths(columns, table: Table) -> tuple[dict[str, int], int]:
    """The length of every axis there is, and how many come before those with a name."""
    lengths: dict[str, int] = {}
    n_free = 0
    for name, (values, _) in columns.items():
        trailing = table.where.get(name, table.axes)
        # A column at one time alone has no axis of times.
        if values.ndim < len(trailing):
            continue
        before = values.ndim - len(trailing)
        n_free = max(n_free, before)
        lengths |= {f"axis_{i}": values.shape[i] for i in range(before)}
        lengths |= dict(zip(trailing, values.shape[before:], strict=True))
    return lengths, n_free


def _coordinates(result, table: Table, axis: str, length: int) -> np.ndarray:
    """What the entries of an axis are called: a field of the result of this length, else their numbers."""
    values = getattr(result, table.names.get(axis, axis), None)
    if values is not None and np.shape(values) == (length,):
        return np.asarray(values)
    return np.arange(length)


def _plain(value):
    """A total of the whole table as pandas can compare it: a number, or a tuple of them."""
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        return value
    return value.item() if np.size(value) == 1 else tuple(np.ravel(value).tolist())


def one_line(self: Any) -> str:
    """Name, fields with their shapes and, of short ones, numbers; in one line, whatever the size."""
    parts = []
    for name, value in _fields(self):
        text = _short(value)
        if text is not None:
            parts.append(f"{name}={text}")
    shown, room = [], _WIDTH - len(type(self).__name__) - 4
    for part in parts:
        room -= len(part) + 2
        if room < 0:
            shown.append("…")
            break
        shown.append(part)
    return f"{type(self).__name__}({', '.join(shown)})"


def html(self: Any) -> str:
    """The same as a small table for notebooks, with smallest and largest numbers; all text is escaped."""
    rows = []
    for name, value in _fields(self):
        text = _short(value)
        if text is not None:
            cells = (name, text, _range(value))
            rows.append("<tr>" + "".join(f"<td>{_escape.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>field</th><th>value</th><th>range</th></tr>"
    title = _escape.escape(type(self).__name__)
    return f"<table><caption>{title}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _fields(result) -> Sequence[tuple[str, Any]]:
    return [(name, getattr(result, name, None)) for name in pytree.field_names(result)]


def _short(value) -> str | None:
    """A value in a few characters; None for what says nothing on a prompt."""
    if value is None or (callable(value) and not isinstance(value, np.ndarray | jax.Array)):
        return None
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if check.concrete(value) and value.dtype.kind in "fiub" and value.ndim <= 1 and value.size <= _SHOWN:
            numbers = np.asarray(value)
            return _number(numbers.item()) if numbers.ndim == 0 else f"[{', '.join(map(_number, numbers.tolist()))}]"
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    if isinstance(value, bool | int | float):
        return _number(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    if hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__"):
        return f"{type(value).__name__}(…)"
    if isinstance(value, dict | list | tuple):
        short = isinstance(value, tuple) and len(value) <= _SHOWN and all(isinstance(item, str | int) for item in value)
        if short and len(repr(value)) <= 60:
            return repr(value)
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _number(value) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _range(value) -> str:
    if not isinstance(value, np.ndarray | jax.Array) or not check.concrete(value) or value.dtype.kind not in "fiu":
        return ""
    numbers = np.asarray(value)
    numbers = numbers[~np.isnan(numbers)] if numbers.dtype.kind == "f" else numbers
    return f"{_number(numbers.min().item())} to {_number(numbers.max().item())}" if numbers.size > 1 else ""
