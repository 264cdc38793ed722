"""An estimator as a function of the rows taken of x and of y, which shuffling and subsampling ask for many times."""

import inspect
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ntkinfo._common import check, checkpoint, results
from ntkinfo._common.results import Information
from ntkinfo.estimators import _counting, _ksg, _samples
from ntkinfo.estimators._binned import binned, discretised
from ntkinfo.estimators._ksg import ksg

ESTIMATORS = {"binned": binned, "ksg": ksg}


class Statistic(NamedTuple):
    """An estimator of I(X;Y) and the samples it is applied to.

    Attributes:
      value: the estimate in nats of the rows of x and the rows of y given, both (m,).
      n: number of samples.
    """

    value: Callable[[np.ndarray, np.ndarray], float]
    n: int


def statistic(x, y, estimator: str | Callable, options: dict) -> Statistic:
    """The estimator of a name, or a function of x and y that returns `Information` or a number, with its options.

    Bins are those of all samples, so that what is shuffled or left out does not move them.
    """
    if not callable(estimator):
        if not isinstance(estimator, str):
            raise TypeError(f"`estimator` must be a name or a function of x and y; got {check.described(estimator)}.")
        check.option("estimator", estimator, tuple(ESTIMATORS))
    function = ESTIMATORS[estimator] if isinstance(estimator, str) else estimator
    _check_options(function, options, estimator)
    columns = list(map(_samples.renumbered, _samples.samples(x=x, y=y)))
    n = len(columns[0])
    if isinstance(estimator, str):
        # Refuses what it cannot estimate, and says what it finds odd, once.
        function(x, y, **options)
    if estimator == "ksg":
        return Statistic(_of_points(*columns, **options), n)
    if estimator == "binned":
        correction = options.get("correction")
        bins = {name: value for name, value in options.items() if name != "correction"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = discretised({"x": x, "y": y}, **bins)
        return Statistic(_of_codes(*codes, correction), n)
    left, right = np.asarray(x), np.asarray(y)
    return Statistic(lambda rows_x, rows_y: _nats(function(left[rows_x], right[rows_y], **options)), n)


def _check_options(function, options, estimator) -> None:
    if "unit" in options:
        raise TypeError("`unit` must be given once, to the function called; got it among the options as well.")
    try:
        inspect.signature(function).bind(None, None, **options)
    except TypeError as error:
        name = estimator if isinstance(estimator, str) else getattr(estimator, "__name__", "a function")
        raise TypeError(f"`estimator` {name} must take x, y and the options given; got: {error}.") from error
    except ValueError:
        # Some compiled functions do not say what they take.
        return


def _nats(result) -> float:
    if isinstance(result, Information):
        result = results.in_unit(result, "nats").value
    result = np.asarray(check.values("estimator", result))
    if result.shape != () or result.dtype.kind not in "fiu" or not np.isfinite(result):
        raise ValueError(
            f"`estimator` must return `Information` or one finite number for each x and y; got "
            f"{check.described(result)}."
        )
    return float(result)


def _of_codes(x, y, correction):
    most = int(y.max()) + 1
    cells = (int(x.max()) + 1) * most

    def value(rows_x, rows_y):
        left, right = x[rows_x], y[rows_y]
        if correction == "panzeri_treves":
            table = _counting.Table(left, right)
            return table.information(table.cells, correction)
        # Neither variable has more symbols than there are samples: their pairs fit.
        both = left * most + right
        both = np.bincount(both) if cells < 4 * len(x) else np.unique(both, return_counts=True)[1]
        margins = (_counting.entropy(np.bincount(one), correction) for one in (left, right))
        return sum(margins) - _counting.entropy(both, correction)

    return value


def _of_points(x, y, k: int = 3, standardize: bool = True):
    def value(rows_x, rows_y):
        return _ksg.value(x[rows_x], y[rows_y], k, standardize)

    return value


def generator(key) -> np.random.Generator:
    """A generator of the host from a random key of JAX."""
    check.known("key", key)
    return np.random.default_rng(checkpoint.key_data(check.key("key", key)).ravel())
