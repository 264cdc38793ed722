"""Training of variational bottlenecks: several fits (lanes) side by side in one compiled loop, recorded and resumable.

The draws of step t come from fold_in(key, t) and nothing else, so that a run that stopped goes on exactly as it would
have. A lane whose loss or parameters are no longer finite stands still at its last good state.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ntkinfo.variational import _objectives, _predict
from ntkinfo.variational._objectives import Model

# I(X;Z) during training is bounded on so many rows at most: its ceiling is the logarithm of their number.
BATCH = 512
# What is folded into the key for the first parameters and for the records: numbers that no step has.
_START, _RECORD = 2**32 - 1, 2**32 - 2


class Data(NamedTuple):
    """Rows to fit: inputs (n, ...), label distributions or targets (n, outputs), log p̃(y|x)."""

    x: Array
    y: Array
    noise: Array


class State(NamedTuple):
    """Of each lane: parameters, state of the optimiser, and the first step that failed, -1 for none."""

    params: dict
    optimizer: object
    failed: Array


class Best(NamedTuple):
    """Of each lane: the state of least test loss, its loss and step, and records without improvement since."""

    params: dict
    loss: Array
    step: Array
    waited: Array


class Trained(NamedTuple):
    """What training leaves: the last state, the best one (None without early stopping), records (lanes, T) by name."""

    state: State
    best: Best | None
    records: dict[str, np.ndarray]


@functools.partial(jax.jit, static_argnums=(0, 1))
def start(model: Model, optimizer, keys, x) -> State:
    """The state before the first step, of each lane."""

    def one(key):
        params = _objectives.initial(model, jax.random.fold_in(key, _START), x)
        return State(params, optimizer.init(params), jnp.asarray(-1))

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def advance(model: Model, optimizer, batch, state: State, first, last, betas, gammas, keys, data: Data) -> State:
    """Steps first .. last - 1 of every lane; betas and gammas are (lanes, steps)."""

    def one(state, beta, gamma, key):
        def step(t, state):
            of_rows, of_latent = jax.random.split(jax.random.fold_in(key, t))
            part = data
            if batch is not None:
                rows = jax.random.randint(of_rows, (batch,), 0, len(data.x))
                noise = data.noise[rows] if data.noise.ndim else data.noise
                part = Data(data.x[rows], data.y[rows], noise)

            def loss(params):
                return _objectives.total(_objectives.terms(model, params, *part, of_latent), beta[t], gamma[t])

            value, grad = jax.value_and_grad(loss)(state.params)
            # Line searches ask for more than the gradient.
            updates, inner = optax.with_extra_args_support(optimizer).update(
                grad, state.optimizer, state.params, value=value, grad=grad, value_fn=loss
            )
            params = optax.apply_updates(state.params, updates)
            good = jnp.isfinite(value) & (state.failed < 0)
            for leaf in jax.tree.leaves(params):
                good &= jnp.all(jnp.isfinite(leaf))
            failed = jnp.where(good | (state.failed >= 0), state.failed, t)
            params, inner = jax.tree.map(
                lambda new, old: jnp.where(good, new, old), (params, inner), (state.params, state.optimizer)
            )
            return State(params, inner, failed)

        return jax.lax.fori_loop(first, last, step, state)

    return jax.vmap(one)(state, betas, gammas, keys)


@functools.partial(jax.jit, static_argnums=0)
def record(model: Model, params, beta, gamma, final, keys, data: Data, test: Data | None) -> dict[str, Array]:
    """What is recorded of every lane: terms, losses, errors, and bounds on I(X;Z) of the first rows.

    `final` are the last β and γ, under which the test loss is judged, or records under a schedule would not compare.
    """

    def one(params, beta, gamma, final, key):
        keys = jax.random.split(jax.random.fold_in(key, _RECORD), 5)
        found = _objectives.terms(model, params, *data, keys[0])
        part = data.x[:BATCH]
        lower, upper, _, _ = _predict.information(model, params, part, keys[1])
        result = {name: jnp.mean(value) for name, value in found._asdict().items()}
        result |= {"loss": _objectives.total(found, beta, gamma), "i_xz_lower": lower, "i_xz_upper": upper}
        result["error"] = jnp.mean(_predict.errors(model, params, data.x, data.y, keys[2]))
        if test is not None:
            found = _objectives.terms(model, params, *test, keys[3])
            result["test_loss"] = _objectives.total(found, *final)
            result["test_cross_entropy"] = jnp.mean(found.cross_entropy)
            result["test_error"] = jnp.mean(_predict.errors(model, params, test.x, test.y, keys[4]))
        return result

    return jax.vmap(one)(params, beta, gamma, final, keys)


def schedule(steps: int, records: int) -> np.ndarray:
    """The steps after which to record: 0, the last one, and evenly between."""
    return np.unique(np.round(np.linspace(0, steps, records + 1)).astype(int))


def train(
    model, optimizer, data, test, keys, betas, gammas, *, records, batch, patience, folder, name, tick
) -> Trained:
    """Trains all lanes. `folder` keeps the state under `name` at every record; `tick` is told of steps done."""
    at = schedule(betas.shape[1], records)
    state = start(model, optimizer, keys, data.x)
    dtype = data.x.dtype
    final = (jnp.asarray(betas[:, -1], dtype), jnp.asarray(gammas[:, -1], dtype))
    coefficients = (jnp.asarray(betas, dtype), jnp.asarray(gammas, dtype))
    lanes = len(keys)
    best = None
    if patience is not None:
        best = Best(state.params, np.full(lanes, np.inf), np.zeros(lanes, int), np.zeros(lanes, int))
    rows: list[dict] = []
    done = 0
    stored = folder.load(name) if folder is not None else None
    if stored is not None:
        state, best, rows = _unpack(stored, state, best)
        done = len(rows)
        tick(int(at[done - 1]))
    for i in range(done, len(at)):
        if rows and best is not None and (best.waited >= patience).all():
            break
        if i:
            state = advance(model, optimizer, batch, state, at[i - 1], at[i], *coefficients, keys, data)
        t = max(int(at[i]) - 1, 0)
        now = (coefficients[0][:, t], coefficients[1][:, t])
        found = {k: np.asarray(v) for k, v in record(model, state.params, *now, final, keys, data, test).items()}
        rows.append(found | {"step": np.full(lanes, at[i]), "beta": np.asarray(now[0]), "gamma": np.asarray(now[1])})
        if best is not None:
            best = _improve(best, state, found["test_loss"], int(at[i]))
        if folder is not None:
            folder.save(name, _pack(state, best, rows))
        if i:
            tick(int(at[i] - at[i - 1]))
        if (np.asarray(state.failed) >= 0).all():
            break
    return Trained(state, best, {k: np.stack([row[k] for row in rows], axis=1) for k in rows[0]})


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


def _pack(state, best, rows) -> dict[str, np.ndarray]:
    arrays = {f"state{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    arrays |= {f"best{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(best))}
    return arrays | {f"record_{name}": np.stack([row[name] for row in rows]) for name in rows[0]}


def _unpack(stored, state, best):
    def fill(tree, prefix):
        leaves, structure = jax.tree.flatten(tree)
        new = [
            stored[f"{prefix}{i}"] if isinstance(leaf, np.ndarray) else jnp.asarray(stored[f"{prefix}{i}"])
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, new)

    names = [name for name in stored if name.startswith("record_")]
    count = len(stored[names[0]])
    rows = [{name.removeprefix("record_"): stored[name][i] for name in names} for i in range(count)]
    return fill(state, "state"), fill(best, "best"), rows
