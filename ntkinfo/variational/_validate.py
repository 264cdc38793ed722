"""What the variational bottlenecks accept, and what they say to the rest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkinfo import discrete
from ntkinfo._common import check, checkpoint, labels
from ntkinfo.networks import Network
from ntkinfo.variational import _objectives, _training_loop, encoders, label_noise
from ntkinfo.variational._objectives import Model
from ntkinfo.variational.label_noise import LabelNoise

_adam = functools.cache(optax.adam)


def prepare(
    x, y, x_test, y_test, noise, *, objective, encoder, latent, latent_kind, decoder, prior, task, samples
) -> tuple[Model, _training_loop.Data, _training_loop.Data | None]:
    """Checks what is fitted; the model, and the rows as arrays."""
    for name, value, accepted in (
        ("objective", objective, _objectives.OBJECTIVES),
        ("latent_kind", latent_kind, _objectives.LATENTS),
        ("task", task, _objectives.TASKS),
    ):
        check.option(name, value, accepted)
    prior = prior or ("backward" if objective == "ceb" else "learned")
    accepted = {"vib": ("learned", "fixed"), "ceb": ("backward",), "dual": _objectives.PRIORS}[objective]
    if prior not in accepted:
        wanted = ", ".join(map(repr, accepted))
        raise ValueError(f"`prior` must be one of {wanted} for the objective {objective!r}; got {prior!r}.")
    latent = check.integer("latent", latent, least=1 if latent_kind == "gaussian" else 2)
    x = check.array("x", x)
    if x.ndim < 2 or len(x) < 2:
        raise ValueError(f"`x` must be two inputs or more, (n, d) or images; got shape {x.shape}.")
    if (x_test is None) != (y_test is None):
        raise ValueError("`x_test` and `y_test` must be given together; got only one of them.")
    targets = labels_of("y", y, len(x), task, x.dtype)
    outputs = targets.shape[1]
    if task == "classes" and outputs < 2:
        raise ValueError(f"`y` must hold at least two classes; got {outputs}.")
    data = _training_loop.Data(x, targets, _noise(objective, noise, x, targets, task, "x"))
    test = None
    if x_test is not None:
        x_test = check.array("x_test", x_test)
        if x_test.shape[1:] != x.shape[1:]:
            raise ValueError(f"`x_test` must have rows of shape {x.shape[1:]}, as `x`; got {x_test.shape[1:]}.")
        of_test = labels_of("y_test", y_test, len(x_test), task, x.dtype, outputs)
        x_test = x_test.astype(x.dtype)
        test = _training_loop.Data(x_test, of_test, _noise(objective, noise, x_test, of_test, task, "x_test"))
    width = 2 * latent if latent_kind == "gaussian" else latent
    if encoder is None:
        encoder = encoders.conv(width) if x.ndim in (3, 4) else encoders.mlp(width)
    exact = latent_kind == "categorical" or (task == "regression" and decoder is None)
    decoder = encoders.linear(outputs) if decoder is None else decoder
    encoder, decoder = network("encoder", encoder), network("decoder", decoder)
    meant = f"2 x `latent` = {width} (mean and log standard deviation)"
    meant = meant if latent_kind == "gaussian" else f"`latent` = {width} (logits)"
    _check_outputs("encoder", encoder, x, width, meant)
    seen = jnp.zeros((2, latent), x.dtype)
    _check_outputs("decoder", decoder, seen, outputs, f"{outputs}, " + ("classes" if task == "classes" else "as y"))
    samples = check.integer("samples", samples)
    return Model(objective, prior, latent_kind, latent, task, outputs, encoder, decoder, exact, samples), data, test


def labels_of(name, y, n, task, dtype, outputs=None) -> Array:
    """Labels as distributions (n, classes), or targets (n, k)."""
    host = y if isinstance(y, jax.Array) else np.asarray(y)
    if host.ndim == 0 or len(host) != n:
        raise ValueError(f"`{name}` must have one entry for each of the {n} inputs; got shape {host.shape}.")
    if task == "regression":
        host = check.array(name, y, 2).astype(dtype)
    elif host.ndim == 1:
        if not np.issubdtype(host.dtype, np.integer):
            raise ValueError(
                f"`{name}` must be integer classes (n,) or distributions (n, classes); got dtype {host.dtype}. For "
                "real targets (n, k) pass task='regression'."
            )
        if int(np.min(host)) < 0:
            raise ValueError(f"`{name}` must be classes from 0 on; got {int(np.min(host))}.")
        classes = int(np.max(host)) + 1 if outputs is None else outputs
        if int(np.max(host)) >= classes:
            raise ValueError(f"`{name}` must be classes from 0 to {classes - 1}, as in `y`; got {int(np.max(host))}.")
        host = labels.one_hot(np.asarray(host), classes, dtype)
    else:
        host = discrete.check_conditional(name, y, (n, None)).astype(dtype)
    if outputs is not None and host.shape[1] != outputs:
        raise ValueError(f"`{name}` must have {outputs} columns, as `y`; got {host.shape[1]}.")
    return host


def network(name, pair) -> Network:
    """An (init, apply) pair as a `Network`."""
    if isinstance(pair, Network):
        return pair
    if isinstance(pair, tuple) and len(pair) == 2 and all(callable(each) for each in pair):
        return Network(*pair)
    raise TypeError(
        f"`{name}` must be a pair (init, apply), init(key, x) -> params; got {type(pair).__name__}. "
        "`encoders.from_flax`, `from_equinox` and `from_stax` make one."
    )


def _check_outputs(name, pair, x, width, meant) -> None:
    shape = jax.eval_shape(lambda x: pair.apply(pair.init(jax.random.key(0), x), x), x[:2]).shape
    if shape != (2, width):
        raise ValueError(
            f"`{name}` must return {meant} numbers for each row; got outputs of shape {shape} for two rows."
        )


def _noise(objective, noise, x, y, task, name):
    if objective != "dual":
        if noise is not None:
            raise ValueError(f"`label_noise` must be left out for {objective!r}; only 'dual' has a noise model.")
        return jnp.zeros((), x.dtype)
    if task == "classes":
        return jnp.log(label_noise.probabilities(noise, x, y, name=name))
    if not isinstance(noise, LabelNoise) or noise.kind != "gaussian":
        raise ValueError("`label_noise` must be `label_noise.gaussian(std)` for the dual of a regression.")
    return jnp.asarray(np.log(noise.value), x.dtype)


def gamma_of(objective, gamma) -> None:
    if objective == "dual" and gamma is None:
        raise ValueError("`gamma` must be given for the dual objective; got None.")
    if objective != "dual" and gamma is not None and (callable(gamma) or np.any(np.asarray(gamma) != 0)):
        raise ValueError(f"`gamma` must be 0 or left out for {objective!r}; got {gamma}. Or choose 'dual'.")


def coefficients(name: str, value, steps: int) -> np.ndarray:
    """β or γ at every step, (steps,): a number, or a function of the step."""
    if callable(value):
        value = jax.vmap(lambda t: jnp.asarray(value(t), float))(jnp.arange(steps))
    elif np.ndim(value):
        raise ValueError(f"`{name}` must be a number or a function of the step; got shape {np.shape(value)}.")
    host = np.broadcast_to(np.asarray(value, float), (steps,))
    check.positive(name, host, zero=True)
    return host


def optimiser(optimizer, learning_rate):
    """Optax's transformation, Adam by default."""
    if optimizer is None:
        check.positive("learning_rate", learning_rate)
        return _adam(float(learning_rate))
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"`optimizer` must be an optax optimiser; got {type(optimizer).__name__}.")
    return optimizer


def batch_of(batch_size, n: int) -> int | None:
    """Rows of a step, None for all."""
    if batch_size is None or check.integer("batch_size", batch_size) >= n:
        return None
    return batch_size


def arguments(model, rule, batch, data, test, keys, betas, gammas, record) -> dict[str, str]:
    """What must be the same for a run to go on where another stopped."""

    def step(keys, data, betas, gammas):
        start = _training_loop.start(model, rule, keys, data.x)
        return _training_loop.advance(model, rule, batch, start, 0, 1, betas, gammas, keys, data)

    coefficients = (jnp.asarray(betas, data.x.dtype), jnp.asarray(gammas, data.x.dtype))
    return {
        "model, networks, optimizer or batch_size": checkpoint.fingerprint(step, keys, data, *coefficients),
        "record": str(record),
        "key": checkpoint.content_hash(checkpoint.key_data(keys)),
        "beta": checkpoint.content_hash(np.asarray(betas)),
        "gamma": checkpoint.content_hash(np.asarray(gammas)),
        "x or y": " ".join(checkpoint.content_hash(np.asarray(each)) for each in data),
        "x_test or y_test": " ".join(checkpoint.content_hash(np.asarray(each)) for each in test or ()),
    }
