"""What became of a call with a hostile argument: a clear error, a sane result, or a fault."""

import inspect
import opcode
import re
import time
import traceback
import types
import typing
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ntkinfo
from tests.fuzz import hostile
from tests.fuzz.hostile import Traced, Value

PACKAGE = str(Path(ntkinfo.__file__).parent)
# Seconds of processor time that a call may take; who waits for ever is ended by the campaign.
LIMIT = 60.0
CLEAR, SANE = "clear error", "sane result"
# Faults: an error from inside that says nothing of the argument; an error of ours that does not name it; NaN or Inf
# where a valid call has none; a value accepted that must not be; another result for the same value, spelled in another
# way; longer than the limit; the end of the process.
RAW, UNNAMED, SILENT, ACCEPTED, OTHER, ENDLESS, ABORT = (
    "raw traceback", "argument not named", "silent NaN or Inf", "wrong input accepted", "another result", "too long",
    "abort",
)  # fmt: skip
FAULTS = (RAW, UNNAMED, SILENT, ACCEPTED, OTHER, ENDLESS, ABORT)
# How far results of the same value may lie apart: some are searched for, or summed in another order; in float32 more.
SAME_RESULT, SAME_RESULT_FLOAT32 = 1e-6, 1e-3


class Call(NamedTuple):
    """A valid call of a public function.

    Attributes:
      function: what is called, a method of an object bound to it.
      valid: its arguments by name.
      kinds: the kind of an argument, where its name does not say it.
      infinite: whether results may be infinite, as documented.
      samples: valid values of optional arguments that the call leaves out, from which hostile ones are made.
      nan: leaves of the result that may be NaN, as documented.
    """

    function: Any
    valid: dict[str, Any]
    kinds: dict[str, str] = {}  # noqa: RUF012 - never changed
    infinite: bool = False
    samples: dict[str, Any] = {}  # noqa: RUF012
    nan: tuple[str, ...] = ()


class Outcome(NamedTuple):
    kind: str
    text: str


def parameters(function) -> dict[str, inspect.Parameter]:
    """The parameters of a function but those that hand others on."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind not in variable}


def cases(call: Call, kinds: dict[str, str]) -> list[tuple[str, Value]]:
    """Every argument with every hostile value of its kind, those that ask for memory last."""
    pairs = []
    for name, parameter in parameters(call.function).items():
        default = None if parameter.default is parameter.empty else parameter.default
        valid = call.valid.get(name, call.samples.get(name, default))
        for value in hostile.KINDS[call.kinds.get(name) or kinds[name]](_example(valid)):
            # None is no hostile value where it is the default, or the signature says so.
            if value.value is None and parameter.default is not None and _takes_none(parameter.annotation):
                pairs.append((name, value._replace(refused=False)))
            elif value.value is not None or parameter.default is not None:
                pairs.append((name, value))
    return sorted(pairs, key=lambda pair: pair[1].tag in hostile.LATE)


def _takes_none(annotation) -> bool:
    return type(None) in typing.get_args(annotation)


def _example(valid):
    return np.ones(3) if valid is None else valid


def run(call: Call, name: str, value: Value) -> Outcome:
    """The outcome of one case."""
    start = time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = _called(call, name, value.value)
        except Exception as error:
            outcome = _judge_error(error, parameters(call.function))
        else:
            outcome = _judge_result(call, name, result, value, warned)
        finally:
            plt.close("all")
    seconds = time.process_time() - start
    return Outcome(ENDLESS, f"{seconds:.0f} s") if seconds > LIMIT else outcome


def _called(call, name, value):
    if not isinstance(value, Traced):
        return call.function(**{**call.valid, name: value})

    def traced(argument):
        call.function(**{**call.valid, name: argument})

    # What comes out is traced as well, and has no values to be judged.
    jax.eval_shape(traced, value.value)
    return None


def run_valid(call: Call) -> Outcome:
    """The outcome of the valid call itself."""
    try:
        call.function(**call.valid)
    except ImportError as error:
        # An optional library that is missing here, told by name with the remedy.
        clear = "Install it: pip install" in str(error)
        return Outcome(CLEAR if clear else RAW, f"a valid call: {type(error).__name__}: {error}")
    except Exception as error:
        return Outcome(RAW, f"a valid call: {type(error).__name__}: {error}")
    finally:
        plt.close("all")
    return Outcome(SANE, "")


def _judge_error(error, names) -> Outcome:
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, ValueError | TypeError | OSError) or isinstance(error, jax.errors.JAXTypeError):
        return Outcome(RAW, text)
    if re.search(rf"`(\w+: )?({'|'.join(names)})\b", str(error)):
        return Outcome(CLEAR, text)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    instructions = [index for _, index in _places(error.__traceback__)]
    ours = frames[-1].f_code.co_filename.startswith(PACKAGE)
    raised = frames[-1].f_code.co_code[instructions[-1]] == opcode.opmap["RAISE_VARARGS"]
    return Outcome(UNNAMED if ours and raised else RAW, text)


def _places(trace):
    while trace is not None:
        yield trace.tb_frame, trace.tb_lasti
        trace = trace.tb_next


def _judge_result(call, name, result, value, warned) -> Outcome:
    text = f"accepted, returned {type(result).__name__}"
    if value.refused:
        return Outcome(ACCEPTED, text)
    if any(issubclass(warning.category, UserWarning) for warning in warned):
        return Outcome(SANE, "with a warning")
    bad = _not_finite(result)
    if not bad:
        return _judge_same(call, name, result, value)
    known = _not_finite(call.function(**call.valid))
    # A result repeats its times, which may be infinite.
    silent = {
        place
        for place, what in bad.items()
        if place not in known
        and not (what == "inf" and (call.infinite or place.endswith(f".{name}")))
        and not (what == "nan" and place in call.nan)
    }
    if silent:
        return Outcome(SILENT, ", ".join(sorted(silent)))
    same = _judge_same(call, name, result, value)
    return same if same.kind == OTHER else Outcome(SANE, "not finite, as documented")


def _judge_same(call, name, result, value) -> Outcome:
    """Whether another spelling of the valid value has the valid result."""
    if not value.same:
        return Outcome(SANE, "")
    valid = call.valid.get(name, call.samples.get(name, _MISSING))
    if valid is _MISSING:
        return Outcome(SANE, "")
    wanted, got = (_numbers(each) for each in (call.function(**{**call.valid, name: valid}), result))
    near = SAME_RESULT if jax.config.jax_enable_x64 else SAME_RESULT_FLOAT32
    apart = [
        place
        for place, array in wanted.items()
        if place not in got
        or got[place].shape != array.shape
        or not np.allclose(got[place], array, near, near, equal_nan=True)
    ]
    return Outcome(OTHER, ", ".join(apart)) if apart else Outcome(SANE, "")


_MISSING = object()


def _numbers(result) -> dict[str, np.ndarray]:
    """The leaves of a result that are numbers, by place."""
    if isinstance(result, types.FunctionType):
        return {}
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]
        if jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), np.number)
    }


def _not_finite(result) -> dict[str, str]:
    """Which leaves of a result are not finite, and whether they are NaN."""
    bad = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(result)[0]:
        if jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), np.floating):
            if np.isnan(np.asarray(leaf)).any():
                bad[jax.tree_util.keystr(path)] = "nan"
            elif np.isinf(np.asarray(leaf)).any():
                bad[jax.tree_util.keystr(path)] = "inf"
    return bad
