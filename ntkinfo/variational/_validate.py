"""What the variational bottlenecks accept, and what they say to the rest: rows are read here, once, then models built.

`read_rows` reads inputs and labels, `build` makes what is fixed during a fit, `with_noise` adds p̃(y|x) to the rows.
"""

import math
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import ArrayLike, Float, Integer

from ntkinfo import networks
from ntkinfo._common import check, checkpoint, interning, labels
from ntkinfo.networks import Network
from ntkinfo.variational import _objectives, _training_loop, encoders, label_noise
from ntkinfo.variational._objectives import Spec
from ntkinfo.variational.label_noise import LabelNoise

# What public functions take: inputs, and classes, distributions of labels, or targets of a regression.
Inputs = Float[ArrayLike, "n ..."]
Labels = Integer[ArrayLike, " n"] | Float[ArrayLike, " n"] | Float[ArrayLike, "n k"]
TestInputs = Float[ArrayLike, "m ..."]
TestLabels = Integer[ArrayLike, " m"] | Float[ArrayLike, " m"] | Float[ArrayLike, "m k"]

# One object: the rate is no part of it, so that no program is compiled for another rate.
# Of all parameters in one vector, or each of them adds a dozen loops to the program.
_ADAM = optax.flatten(optax.adam(1.0))


class Rows(NamedTuple):
    """Inputs (n, ...), and label distributions (n, classes) or targets (n, k) in their dtype."""

    x: Array
    y: Array


def _like(x, rows: int) -> jax.ShapeDtypeStruct:
    """What stands for so many rows of inputs where only shapes are asked for; slicing would compile a program."""
    return jax.ShapeDtypeStruct((min(rows, len(x)), *x.shape[1:]), x.dtype)


def read_rows(x, y, x_test, y_test, task: str, classes: int | None = None) -> tuple[Rows, Rows | None]:
    """The rows to fit and, where given, those to test on; `classes` counts the labels where `y` may lack some."""
    check.option("task", task, _objectives.TASKS)
    x = check.array("x", x)
    if x.ndim < 2 or len(x) < 2:
        raise ValueError(f"`x` must be two inputs or more, (n, d) or images; got shape {x.shape}.")
    check.small_enough("x", x)
    if (x_test is None) != (y_test is None):
        raise ValueError("`x_test` and `y_test` must be given together; got only one of them.")
    rows = Rows(x, read_labels("y", y, len(x), task, x.dtype, classes))
    if task == "classes" and rows.y.shape[1] < 2:
        raise ValueError(f"`y` must hold at least two classes; got {rows.y.shape[1]}.")
    if x_test is None:
        return rows, None
    x_test = check.array("x_test", x_test)
    check.small_enough("x_test", x_test)
    if x_test.shape[1:] != x.shape[1:]:
        raise ValueError(f"`x_test` must have rows of shape {x.shape[1:]}, as `x`; got {x_test.shape[1:]}.")
    test_labels = read_labels("y_test", y_test, len(x_test), task, x.dtype, rows.y.shape[1])
    return rows, Rows(x_test.astype(x.dtype), test_labels)


def read_labels(name: str, y, n: int, task: str, dtype, outputs: int | None = None) -> Array:
    """Labels as distributions (n, classes), or targets (n, k)."""
    if task == "regression":
        targets = labels.real_targets(name, y, n)
        if outputs is not None and targets.shape[1] != outputs:
            raise ValueError(f"`{name}` must have {outputs} columns, as `y`; got {targets.shape[1]}.")
        return targets.astype(dtype)
    try:
        return jnp.asarray(labels.distributions(name, y, n, outputs), dtype)
    except TypeError as error:
        raise TypeError(f"{error} For real targets (n, k) pass task='regression'.") from error


def read_like(spec: Spec, params, x, y) -> Rows:
    """Rows as a trained fit takes them."""
    dtype = jax.tree.leaves(params)[0].dtype
    x = read_inputs(spec, params, x).astype(dtype)
    return Rows(x, read_labels("y", y, len(x), spec.task, dtype, spec.outputs))


def read_inputs(spec: Spec, params, x) -> Array:
    """Inputs that the encoder of a trained fit takes."""
    x = check.inputs("x", x)
    try:
        jax.eval_shape(spec.encoder.apply, params["encoder"], _like(x, 1))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`x` must hold inputs of the kind the fit was trained on; got shape {x.shape}.") from error
    return x


def build(rows: Rows, *, objective, encoder, latent, latent_kind, decoder, prior, task, samples) -> Spec:
    """What is fixed during a fit of these rows: objective, networks, sizes."""
    check.option("objective", objective, _objectives.OBJECTIVES)
    check.option("latent_kind", latent_kind, _objectives.LATENTS)
    check.option("prior", prior, (None, *_objectives.PRIORS))
    prior = prior or ("backward" if objective == "ceb" else "learned")
    accepted = {"vib": ("learned", "fixed"), "ceb": ("backward",), "dual": _objectives.PRIORS}[objective]
    if prior not in accepted:
        wanted = ", ".join(map(repr, accepted))
        raise ValueError(f"`prior` must be one of {wanted} for the objective {objective!r}; got {prior!r}.")
    latent = check.size("latent", latent, least=1 if latent_kind == "gaussian" else 2)
    x, outputs = rows.x, rows.y.shape[1]
    width = 2 * latent if latent_kind == "gaussian" else latent
    if encoder is None:
        encoder = encoders.conv(width) if x.ndim in (3, 4) else encoders.mlp(width)
    exact = latent_kind == "categorical" or (task == "regression" and decoder is None)
    decoder = encoders.linear(outputs) if decoder is None else decoder
    encoder, decoder = network("encoder", encoder), network("decoder", decoder)
    meant = f"2 x `latent` = {width} (mean and log standard deviation)"
    meant = meant if latent_kind == "gaussian" else f"`latent` = {width} (logits)"
    _check_outputs("encoder", encoder, x, width, meant)
    z = jnp.zeros((2, latent), x.dtype)
    _check_outputs("decoder", decoder, z, outputs, f"{outputs}, " + ("classes" if task == "classes" else "as y"))
    samples = check.integer("samples", samples)
    return Spec(objective, prior, latent_kind, latent, task, outputs, encoder, decoder, exact, samples)


def network(name, pair) -> Network:
    """An (init, apply) pair as a `Network`."""
    if isinstance(pair, Network):
        return pair
    if isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair)):
        return Network(*pair)
    networks.refuse_module(name, pair, "a pair (init, apply)")
    raise TypeError(
        f"`{name}` must be a pair (init, apply), init(key, x) -> params; got {type(pair).__name__}. "
        "`encoders.from_flax`, `from_equinox` and `from_stax` make one."
    )


def _check_outputs(name, pair, x, width, meant) -> None:
    try:
        params = jax.eval_shape(lambda x: pair.init(jax.random.key(0), x), _like(x, 2))
        shape = jax.eval_shape(lambda x: pair.apply(pair.init(jax.random.key(0), x), x), _like(x, 2)).shape
    except Exception as error:
        if str(error).startswith("`"):
            raise
        raise ValueError(
            f"`{name}` cannot be applied to rows of shape {x.shape[1:]}: {networks.reason(error)}"
        ) from error
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    check.entries(name, count, f"its {count} parameters")
    if shape != (2, width):
        raise ValueError(
            f"`{name}` must return {meant} numbers for each row; got outputs of shape {shape} for two rows."
        )


def with_noise(
    spec: Spec, noise: LabelNoise | None, rows: Rows, test: Rows | None
) -> tuple[_training_loop.Data, _training_loop.Data | None]:
    """The rows with log p̃(y|x) of the dual, (n, classes); of a regression its log standard deviation, ()."""
    data = _training_loop.Data(*rows, _log_noise(spec, noise, rows, "x"))
    return data, None if test is None else _training_loop.Data(*test, _log_noise(spec, noise, test, "x_test"))


def _log_noise(spec, noise, rows, name):
    if spec.objective != "dual":
        if noise is not None:
            raise ValueError(f"`label_noise` must be left out for {spec.objective!r}; only 'dual' has a noise model.")
        return jnp.zeros((), rows.x.dtype)
    if spec.task == "classes":
        return jnp.log(label_noise.probabilities(noise, rows.x, rows.y, name=name))
    if not isinstance(noise, LabelNoise) or noise.kind != "gaussian":
        raise ValueError("`label_noise` must be `label_noise.gaussian(std)` for the dual of a regression.")
    return jnp.asarray(np.log(noise.value), rows.x.dtype)


def noise_of_rows(noise: LabelNoise | None, rows: np.ndarray, n: int) -> LabelNoise | None:
    """The noise model of some of n rows: of a table, the same of its rows."""
    if not isinstance(noise, LabelNoise) or noise.kind != "model" or callable(noise.value):
        return noise
    if len(noise.value) != n:
        raise ValueError(
            f"`label_noise` must have a row for each of the {n} rows of `x`; its table has {len(noise.value)}."
        )
    return LabelNoise("model", noise.value[rows])


def check_gamma(objective, gamma) -> None:
    """Refuses a dual objective without γ, and γ with another objective."""
    if objective == "dual" and gamma is None:
        raise ValueError("`gamma` must be given for the dual objective; got None.")
    if gamma is not None and not callable(gamma):
        check.positive("gamma", gamma, zero=True, scalar=True)
    if objective != "dual" and gamma is not None and (callable(gamma) or gamma != 0):
        raise ValueError(f"`gamma` must be 0 or left out for {objective!r}; got {gamma}. Or choose 'dual'.")


def coefficients(name: str, value, steps: int) -> np.ndarray:
    """β or γ at every step, (steps,): a number, or a function of the step."""
    if callable(value):
        check.function(name, value, "a number, or a function of the step alone", arguments=1)
        try:
            value = jax.vmap(lambda t: jnp.asarray(value(t), float))(jnp.arange(steps))
        except (TypeError, ValueError) as error:
            raise TypeError(f"`{name}` must return a number for every step of optax's kind; got {error}") from error
        if value.shape != (steps,):
            raise TypeError(f"`{name}` must return one number for every step; got shape {value.shape[1:]}.")
        check.positive(name, value, zero=True)
    else:
        check.positive(name, value, zero=True, scalar=True)
    return np.broadcast_to(np.asarray(value, float), (steps,))


def warn_trivial(objective: str, betas: np.ndarray) -> None:
    """Says where the objective is least for a Z that knows nothing of x: VIB, I(Z;Y) ≤ I(X;Z), β of at most 1."""
    if objective == "vib" and betas.size and betas.max() <= 1:
        warnings.warn(
            f"`beta` of at most 1 makes a Z that is independent of x optimal under 'vib' (I(X;Z) is never below "
            f"I(Z;Y)); got at most {betas.max():.3g}. β multiplies the cross-entropy here; that of the VIB paper "
            "multiplies the rate, and is the inverse: pass 1/β.",
            stacklevel=4,
        )


def optimiser(optimizer, learning_rate) -> _training_loop.Optimizer:
    """Optax's transformation, Adam by default, and what its updates are multiplied by."""
    if optimizer is None:
        check.positive("learning_rate", learning_rate, scalar=True)
        return _training_loop.Optimizer(_ADAM, float(learning_rate))
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"`optimizer` must be an optax optimiser; got {type(optimizer).__name__}.")
    return _training_loop.Optimizer(interning.transformation(optimizer), 1.0)


def rows_of_a_step(batch_size, n: int) -> int | None:
    """Rows of a step, None for all."""
    if batch_size is None or check.integer("batch_size", batch_size) >= n:
        return None
    return batch_size


def arguments(spec, optimizer, batch, data, test, keys, betas, gammas, record) -> dict[str, str]:
    """What must be the same for a run to go on where another stopped."""

    def step(keys, data, betas, gammas):
        start = _training_loop.start(spec, optimizer.transformation, keys, data.x)
        return _training_loop.advance(
            spec, optimizer.transformation, batch, start, 0, 1, betas, gammas, optimizer.rate, keys, data
        )

    coefficients = (jnp.asarray(betas, data.x.dtype), jnp.asarray(gammas, data.x.dtype))
    return {
        "model, networks, optimizer or batch_size": checkpoint.fingerprint(step, keys, data, *coefficients),
        "optimizer or learning_rate": str(optimizer.rate),
        "record": str(record),
        "key": checkpoint.content_hash(checkpoint.key_data(keys)),
        "beta": checkpoint.content_hash(np.asarray(betas)),
        "gamma": checkpoint.content_hash(np.asarray(gammas)),
        "x or y": hashes(data[:2]),
        "x_test or y_test": hashes(() if test is None else test[:2]),
        "label_noise": hashes((data.noise,) if test is None else (data.noise, test.noise)),
    }


def hashes(arrays) -> str:
    """Hashes of arrays, for `arguments`."""
    return " ".join(checkpoint.content_hash(np.asarray(array)) for array in arrays)
