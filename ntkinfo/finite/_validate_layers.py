"""What `ntkinfo.finite.train_layers` accepts, and what it passes on."""

import jax.numpy as jnp
import numpy as np
import optax

from ntkinfo._common import check, checkpoint, interning, labels
from ntkinfo._numerics.mlp import ACTIVATIONS, LOSSES
from ntkinfo.finite import _sgd


def data(x, y, x_test, y_test, loss, draw_labels, n_train) -> tuple[_sgd.Data, int]:
    check.option("loss", loss, LOSSES)
    x = check.array("x", x, 2)
    check.small_enough("x", x)
    y = _targets("y", y, len(x), loss, None)
    if (x_test is None) != (y_test is None):
        raise ValueError("`x_test` and `y_test` must be given together; got one of them.")
    if x_test is not None:
        x_test = jnp.asarray(check.array("x_test", x_test, 2), x.dtype)
        check.small_enough("x_test", x_test)
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
    host = np.asarray(check.values(name, y))
    if host.ndim == 1 and (np.issubdtype(host.dtype, np.integer) or host.dtype == bool):
        host = host.astype(np.int64)
        # Labels that are all 0 are of one class of two.
        count = 2 if n_outputs is None and host.max(initial=0) < 2 else n_outputs
        return np.asarray(labels.distributions(name, host, n, count))
    if loss == "cross_entropy":
        return np.asarray(labels.distributions(name, host, n, n_outputs))
    host = np.asarray(check.array(name, host, 2))
    if len(host) != n or (n_outputs is not None and host.shape[1] != n_outputs):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs"
            f"{'' if n_outputs is None else f' and {n_outputs} columns'}; got shape {host.shape}."
        )
    return host


def sizes(sizes, data) -> tuple[int, ...]:
    units = check.widths("sizes", sizes)
    if len(units) < 2:
        raise ValueError(f"`sizes` must hold the inputs and the outputs at least; got {units}.")
    if units[0] != data.x.shape[1] or units[-1] != data.y.shape[1]:
        raise ValueError(
            f"`sizes` must begin with the {data.x.shape[1]} columns of `x` and end with the {data.y.shape[1]} outputs "
            f"of `y`; got {units}."
        )
    return units


def activations(activation, n) -> tuple[tuple, tuple]:
    """Names and functions of the n hidden layers."""
    several = isinstance(activation, list | tuple)
    if isinstance(activation, np.ndarray):
        raise TypeError(
            f"`activation` must be a name, a function or a list of those; got {check.described(activation)}."
        )
    names = tuple(activation) if several else (activation,) * n
    if len(names) != n:
        raise ValueError(f"`activation` must be one, or one for each of the {n} hidden layers; got {len(names)}.")
    for name in names:
        if isinstance(name, str):
            check.option("activation", name, tuple(sorted(ACTIVATIONS)))
        elif not callable(name):
            raise TypeError(f"`activation` must be a name or a function; got {type(name).__name__}.")
    return names, tuple(ACTIVATIONS[name] if isinstance(name, str) else name for name in names)


# One object: the rate is no part of it, so that no program is compiled for another rate.
_DESCENT = optax.sgd(1.0)


def optimizer(optimizer, learning_rate) -> tuple[optax.GradientTransformation, float]:
    """Optax's transformation, and what its updates are multiplied by."""
    if optimizer is None:
        rate = 0.1 if learning_rate is None else learning_rate
        check.positive("learning_rate", rate, scalar=True)
        return _DESCENT, float(rate)
    if learning_rate is not None:
        raise ValueError(
            f"`learning_rate` must be left out where an `optimizer` is given, which has its own; got {learning_rate}."
        )
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"`optimizer` must be one of optax, with `init` and `update`; got {type(optimizer).__name__}.")
    return interning.transformation(optimizer), 1.0


def schedule(record, epochs) -> np.ndarray:
    """The recorded epochs, ascending."""
    if np.ndim(record) == 0:
        count = check.integer("record", record, least=2)
        # From the last epoch down to the first: where only one is asked for besides 0, it is the last.
        return np.unique(np.r_[0, np.geomspace(epochs, 1, count - 1).round()].astype(np.int64))
    epochs_given = np.asarray(check.values("record", record))
    if not np.issubdtype(epochs_given.dtype, np.integer) or epochs_given.ndim != 1 or not epochs_given.size:
        raise TypeError(f"`record` must be a number of epochs, or a list of whole ones; got {record!r}.")
    if epochs_given.min() < 0 or epochs_given.max() > epochs:
        raise ValueError(
            f"`record` must lie between 0 and `epochs` = {epochs}; got {epochs_given.min()} to {epochs_given.max()}."
        )
    return np.unique(epochs_given)


def checkpoint_arguments(config, scales, data, schedule, key, chunk) -> dict[str, str]:
    """What a checkpoint must agree in, by the names of the arguments."""
    arrays = {name: checkpoint.content_hash(None if a is None else np.asarray(a)) for name, a in data._asdict().items()}
    small = config._replace(vmap_size=1)

    def epoch(key, data):
        networks = _sgd.networks(small, key, jnp.arange(1), len(data.x))
        return _sgd.advance(small, networks, data, scales, _sgd.begin(small, networks, data, scales), 1)

    return arrays | {
        "sizes, activation, optimizer, loss, n_train or batch_size": checkpoint.fingerprint(epoch, key, data),
        "optimizer, learning_rate or weight_std": " ".join(str(float(scale)) for scale in scales),
        "key": checkpoint.content_hash(checkpoint.key_data(key)),
        "record or epochs": checkpoint.content_hash(schedule),
        "chunk": str(chunk),
    }
