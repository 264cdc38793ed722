"""Pickle of what holds functions of other libraries: it works where they do, and says what to do where it does not."""

import io
import pickle
import sys

# Picklers that write functions by value: joblib's processes and Dask use the first, and closures are no trouble.
_BY_VALUE = ("cloudpickle", "dill")


class _Sink(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, b):  # pyright: ignore[reportIncompatibleMethodOverride]
        return len(b)


# What those say that are pickled with functions of their own.
AGAIN = (
    "Make it in the other process, of a function at the top of a module and of parameters, which are arrays; or use "
    "cloudpickle, as joblib does for its processes."
)


def reduce(self, protocol, functions: tuple, remedy: str, what: str = "network"):
    """What `__reduce_ex__` of an object returns that holds these functions.

    Raises:
      TypeError: one of them cannot be pickled; `remedy` says what to do.
    """
    if not _by_value():
        for function in functions:
            try:
                pickle.Pickler(_Sink(), protocol).dump(function)
            except Exception as error:
                raise TypeError(
                    f"This `{type(self).__name__}` cannot be pickled with its {what}: {error}. {remedy}"
                ) from error
    return object.__reduce_ex__(self, protocol)


def _by_value() -> bool:
    """Whether the pickler at work writes functions by value."""
    frame = sys._getframe(2)
    while frame is not None:
        if any(name in _BY_VALUE for name in str(frame.f_globals.get("__name__", "")).split(".")):
            return True
        frame = frame.f_back
    return False
