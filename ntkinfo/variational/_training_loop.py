"""Training of variational bottlenecks: a batch of fits side by side in one compiled loop, recorded and resumable.

The draws of step t come from fold_in(key, t) and nothing else, so that a run that stopped goes on exactly as it would
have. A fit whose loss or parameters are no longer finite stands still at its last good state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkinfo._common import checkpoint, compiling
from ntkinfo._numerics import padding
from ntkinfo.variational import _objectives, _predict
from ntkinfo.variational._objectives import Spec

# I(X;Z) during training is bounded on so many rows at most: its ceiling is the logarithm of their number.
BATCH = 512
# What is folded into the key for the first parameters and for the records: numbers that no step has.
_START, _RECORD = 2**32 - 1, 2**32 - 2


# Up to so many steps share a program.
_LEAST_STEPS = 4096


class Data(NamedTuple):
    """Rows to fit: inputs (n, ...), label distributions or targets (n, outputs), log p̃(y|x)."""

    x: Array
    y: Array
    noise: Array


class Optimizer(NamedTuple):
    """One of optax, and a number that its updates are multiplied by, which no program is compiled for."""

    transformation: optax.GradientTransformation
    rate: float


class State(NamedTuple):
    """Of each fit: parameters, state of the optimiser, and the first step that failed, -1 for none."""

    params: dict
    optimizer: object
    failed: Array


class Best(NamedTuple):
    """Of each fit: the state of least test loss, its loss and step, and records without improvement since."""

    params: dict
    loss: Array
    step: Array
    waited: Array


class Trained(NamedTuple):
    """What training leaves: the last state, the best one (None without early stopping), records (fits, T) by name."""

    state: State
    best: Best | None
    records: dict[str, np.ndarray]


@compiling.jit(static_argnums=(0, 1), once=True)
def start(spec: Spec, optimizer, keys, x) -> State:
    """The state before the first step, of each fit."""

    def start_one(key):
        params = _objectives.initial(spec, jax.random.fold_in(key, _START), x)
        return State(params, optimizer.init(params), jnp.full((), -1, int))

    return jax.vmap(start_one)(keys)


@compiling.jit(static_argnums=(0, 1, 2))
def advance(spec: Spec, optimizer, batch, state: State, first, last, betas, gammas, rate, keys, data: Data) -> State:
    """Steps first .. last - 1 of every fit; betas and gammas are (fits, steps) or longer, updates times `rate`."""

    def advance_one(state, beta, gamma, key):
        def step(t, state):
            key_rows, key_latent = jax.random.split(jax.random.fold_in(key, t))
            part = data
            if batch is not None:
                rows = jax.random.randint(key_rows, (batch,), 0, len(data.x))
                noise = data.noise[rows] if data.noise.ndim else data.noise
                part = Data(data.x[rows], data.y[rows], noise)

            def loss(params):
                return _objectives.total(_objectives.terms(spec, params, *part, key_latent), beta[t], gamma[t])

            value, grad = jax.value_and_grad(loss)(state.params)
            # Line searches ask for more than the gradient.
            updates, inner = optax.with_extra_args_support(optimizer).update(
                grad, state.optimizer, state.params, value=value, grad=grad, value_fn=loss
            )
            params = optax.apply_updates(state.params, jax.tree.map(lambda update: update * rate, updates))
            good = jnp.isfinite(value) & (state.failed < 0)
            for leaf in jax.tree.leaves(params):
                good &= jnp.all(jnp.isfinite(leaf))
            failed = jnp.where(good | (state.failed >= 0), state.failed, t)
            params, inner = jax.tree.map(
                lambda new, old: jnp.where(good, new, old), (params, inner), (state.params, state.optimizer)
            )
            return State(params, inner, failed)

        return jax.lax.fori_loop(first, last, step, state)

    return jax.vmap(advance_one)(state, betas, gammas, keys)


@compiling.jit(static_argnums=0)
def record(spec: Spec, params, beta, gamma, final, keys, data: Data, test: Data | None) -> dict[str, Array]:
    """What is recorded of every fit: terms, losses, errors, and bounds on I(X;Z) of the first rows.

    `final` are the last β and γ, under which the test loss is judged, or records under a schedule would not compare.
    """

    def record_one(params, beta, gamma, final, key):
        keys = jax.random.split(jax.random.fold_in(key, _RECORD), 5)
        encoded = _objectives.encode(spec, params, data.x)
        terms = _objectives.terms_encoded(spec, params, encoded, data.y, data.noise, keys[0])
        lower, upper, _, _ = _predict.information(spec, encoded, keys[1], BATCH)
        result = {name: jnp.mean(value) for name, value in terms._asdict().items()}
        result |= {"loss": _objectives.total(terms, beta, gamma), "i_xz_lower": lower, "i_xz_upper": upper}
        result["error"] = jnp.mean(_predict.errors(spec, params, encoded, data.y, keys[2]))
        if test is not None:
            encoded = _objectives.encode(spec, params, test.x)
            terms = _objectives.terms_encoded(spec, params, encoded, test.y, test.noise, keys[3])
            result["test_loss"] = _objectives.total(terms, *final)
            result["test_cross_entropy"] = jnp.mean(terms.cross_entropy)
            result["test_error"] = jnp.mean(_predict.errors(spec, params, encoded, test.y, keys[4]))
        return result

    return jax.vmap(record_one)(params, beta, gamma, final, keys)


def schedule(steps: int, records: int) -> np.ndarray:
    """The steps after which to record: 0, the last one, and evenly between."""
    return np.unique(np.round(np.linspace(0, steps, records + 1)).astype(int))


def train(spec, optimizer, data, test, keys, betas, gammas, *, records, batch, patience, folder, name, tick) -> Trained:
    """Trains all fits. `folder` keeps the state under `name` at every record; `tick` is told of steps done."""
    at = schedule(betas.shape[1], records)
    state = start(spec, optimizer.transformation, keys, data.x)
    dtype = data.x.dtype
    betas, gammas = betas.astype(dtype), gammas.astype(dtype)
    final = (betas[:, -1], gammas[:, -1])
    # Filled up, so that other numbers of steps share the program.
    length = padding.size(betas.shape[1], _LEAST_STEPS)
    coefficients = tuple(jnp.asarray(padding.repeat_last(values, length, axis=1)) for values in (betas, gammas))
    rate = np.asarray(optimizer.rate, dtype)
    fits = len(keys)
    best = None
    if patience is not None:
        best = Best(state.params, np.full(fits, np.inf), np.zeros(fits, int), np.zeros(fits, int))
    rows: list[dict] = []
    done = 0
    stored = folder.load(name) if folder is not None else None
    if stored is not None:
        state, best, rows = _restored(stored, state, best)
        done = len(rows)
        tick(int(at[done - 1]))
    for i in range(done, len(at)):
        if rows and best is not None and (best.waited >= patience).all():
            break
        if i:
            state = advance(
                spec, optimizer.transformation, batch, state, at[i - 1], at[i], *coefficients, rate, keys, data
            )
        t = max(int(at[i]) - 1, 0)
        now = (betas[:, t], gammas[:, t])
        recorded = record(spec, state.params, *now, final, keys, data, test)
        recorded = {name: np.asarray(value) for name, value in recorded.items()}
        rows.append(recorded | {"step": np.full(fits, at[i]), "beta": now[0], "gamma": now[1]})
        if best is not None:
            best = _improve(best, state, recorded["test_loss"], int(at[i]))
        if folder is not None:
            folder.save(name, _stored(state, best, rows))
        if i:
            tick(int(at[i] - at[i - 1]))
        if (np.asarray(state.failed) >= 0).all():
            break
    return Trained(state, best, {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]})


def _improve(best, state, loss, step) -> Best:
    better = (loss < best.loss) & (np.asarray(state.failed) < 0)

    def pick(new, old):
        return jnp.where(better.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    return Best(
        jax.tree.map(pick, state.params, best.params),
        np.where(better, loss, best.loss),
        np.where(better, step, best.step),
        np.where(better, 0, best.waited + 1),
    )


def _stored(state, best, rows) -> dict[str, np.ndarray]:
    """What a checkpoint keeps of a fit: both states and the records so far."""
    records = {f"record_{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
    return checkpoint.pack("state", state) | checkpoint.pack("best", best) | records


def _restored(stored, state, best):
    """The states, of the structure of these, and the records of a checkpoint."""
    names = [name for name in stored if name.startswith("record_")]
    rows = [{name.removeprefix("record_"): stored[name][i] for name in names} for i in range(len(stored[names[0]]))]
    return checkpoint.unpack("state", stored, state), checkpoint.unpack("best", stored, best), rows
