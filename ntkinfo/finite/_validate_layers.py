"""What `ntkinfo.finite.train_layers` accepts, and what it says to the rest."""

import functools

import jax.numpy as jnp
import numpy as np
import optax

from ntkinfo._common import check, checkpoint
from ntkinfo._numerics.mlp import ACTIVATIONS, LOSSES
from ntkinfo.finite import _sgd


def data(x, y, x_test, y_test, loss, draw_labels, n_train) -> tuple[_sgd.Data, int]:
    check.option("loss", loss, LOSSES)
    x = jnp.asarray(check.array("x", x, 2))
    y = _targets("y", y, len(x), loss, None)
    if (x_test is None) != (y_test is None):
        raise ValueError("`x_test` and `y_test` must be given together; got one of them.")
    if x_test is not None:
        x_test = jnp.asarray(check.array("x_test", x_test, 2), x.dtype)
        if x_test.shape[1] != x.shape[1]:
            raise ValueError(f"`x_test` must have the {x.shape[1]} columns of `x`; got shape {x_test.shape}.")
        y_test = jnp.asarray(_targets("y_test", y_test, len(x_test), loss, y.shape[1]), x.dtype)
    if draw_labels and loss != "cross_entropy":
        raise ValueError(f"`draw_labels` must be False unless the loss is 'cross_entropy'; got loss {loss!r}.")
    count = len(x) if n_train is None else check.integer("n_train", n_train)
    if count > len(x):
        raise ValueError(f"`n_train` must be at most the {len(x)} rows of `x`; got {count}.")
    return _sgd.Data(x, jnp.asarray(y, x.dtype), x_test, y_test), count


def _targets(name, y, n, loss, n_outputs) -> np.ndarray:
    """Classes as one-hot rows, probabilities and numbers as they are: (n, c)."""
    host = np.asarray(y)
    if host.ndim == 1 and (np.issubdtype(host.dtype, np.integer) or host.dtype == bool):
        host = host.astype(np.int64)
        n_outputs = max(int(host.max(initial=0)) + 1, 2) if n_outputs is None else n_outputs
        if host.min(initial=0) < 0 or host.max(initial=0) >= n_outputs:
            raise ValueError(
                f"`{name}` must hold classes from 0 to {n_outputs - 1}; got {host.min()} to {host.max()}. Renumber "
                "them, for instance by `np.unique(y, return_inverse=True)[1]`."
            )
        host = np.eye(n_outputs)[host]
    elif loss == "cross_entropy" and (host.ndim != 2 or not np.issubdtype(host.dtype, np.floating)):
        raise TypeError(
            f"`{name}` must be (n,) integer classes, or p(y|x) of shape (n, c); got dtype {host.dtype}, shape "
            f"{host.shape}."
        )
    host = np.asarray(check.array(name, host, 2))
    if len(host) != n or (n_outputs is not None and host.shape[1] != n_outputs):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs"
            f"{'' if n_outputs is None else f' and {n_outputs} columns'}; got shape {host.shape}."
        )
    if loss == "cross_entropy" and ((host < 0).any() or (np.abs(host.sum(axis=1) - 1) > 1e-5).any()):
        raise ValueError(
            f"`{name}` must hold rows of probabilities that sum to 1; got min={host.min()}, sums from "
            f"{host.sum(axis=1).min()} to {host.sum(axis=1).max()}. Divide by the sums first, or use loss='mse'."
        )
    return host


def sizes(sizes, data) -> tuple[int, ...]:
    try:
        found = tuple(check.integer("sizes", size) for size in sizes)
    except TypeError as error:
        raise TypeError(f"`sizes` must be a list of positive integers; got {sizes!r}.") from error
    if len(found) < 2:
        raise ValueError(f"`sizes` must hold the inputs and the outputs at least; got {found}.")
    if found[0] != data.x.shape[1] or found[-1] != data.y.shape[1]:
        raise ValueError(
            f"`sizes` must begin with the {data.x.shape[1]} columns of `x` and end with the {data.y.shape[1]} outputs "
            f"of `y`; got {found}."
        )
    return found


def activations(activation, n) -> tuple[tuple, tuple]:
    """Names and functions of the n hidden layers."""
    several = isinstance(activation, list | tuple)
    each = tuple(activation) if several else (activation,) * n
    if len(each) != n:
        raise ValueError(f"`activation` must be one, or one for each of the {n} hidden layers; got {len(each)}.")
    for one in each:
        if isinstance(one, str):
            check.option("activation", one, tuple(sorted(ACTIVATIONS)))
        elif not callable(one):
            raise TypeError(f"`activation` must be a name or a function; got {type(one).__name__}.")
    return each, tuple(ACTIVATIONS[one] if isinstance(one, str) else one for one in each)


@functools.lru_cache
def _descent(learning_rate: float) -> optax.GradientTransformation:
    # The same object for the same rate: a new one would be compiled anew.
    return optax.sgd(learning_rate)


def optimizer(optimizer, learning_rate) -> optax.GradientTransformation:
    if optimizer is None:
        rate = 0.1 if learning_rate is None else learning_rate
        check.positive("learning_rate", rate)
        return _descent(float(rate))
    if learning_rate is not None:
        raise ValueError(
            f"`learning_rate` must be left out where an `optimizer` is given, which has its own; got {learning_rate}."
        )
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"`optimizer` must be one of optax, with `init` and `update`; got {type(optimizer).__name__}.")
    return optimizer


def schedule(record, epochs) -> np.ndarray:
    """The recorded epochs, ascending."""
    if np.ndim(record) == 0:
        count = check.integer("record", record, least=2)
        # Downwards: the last epoch is there even where there is but one.
        return np.unique(np.r_[0, np.geomspace(epochs, 1, count - 1).round()].astype(np.int64))
    found = np.asarray(record)
    if not np.issubdtype(found.dtype, np.integer) or found.ndim != 1 or not found.size:
        raise TypeError(f"`record` must be a number of epochs, or a list of whole ones; got {record!r}.")
    if found.min() < 0 or found.max() > epochs:
        raise ValueError(f"`record` must lie between 0 and `epochs` = {epochs}; got {found.min()} to {found.max()}.")
    return np.unique(found)


def checkpoint_arguments(settings, data, schedule, key, chunk) -> dict[str, str]:
    """What a checkpoint must agree in, by the names of the arguments."""
    arrays = {name: checkpoint.content_hash(None if a is None else np.asarray(a)) for name, a in data._asdict().items()}
    small = settings._replace(lanes=1)

    def epoch(key, data):
        start = _sgd.begin(small, key, jnp.arange(1), data)
        return _sgd.advance(small, key, jnp.arange(1), data, start, 1)

    return arrays | {
        "sizes, activation, optimizer, loss, n_train or batch_size": checkpoint.fingerprint(epoch, key, data),
        "key": checkpoint.content_hash(checkpoint.key_data(key)),
        "record or epochs": checkpoint.content_hash(schedule),
        "chunk": str(chunk),
    }
