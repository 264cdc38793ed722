"""What `ntkinfo.finite.train` accepts, and what it passes on."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo import networks
from ntkinfo._common import check, checkpoint
from ntkinfo.finite import _gradient_descent


def network(net):
    """The functions init(key, shape) and apply(params, x) of a network that has them."""
    if isinstance(net, tuple | list) and len(net) == 3 and all(map(callable, net)):
        return net[0], net[1]
    if isinstance(net, tuple) and len(net) == 2 and all(map(callable, net)):
        net = networks.Network(*net)
    if isinstance(net, networks.Network):
        return _gradient_descent.FromInputs(net.init), networks.Bound(*net.taken_apart)
    networks.refuse_module("net", net, "a network of `ntkinfo.stax`, a triple (init, apply, kernel)")
    raise TypeError(
        "`net` must be a network of `ntkinfo.stax`, a triple (init, apply, kernel), a `networks.Network` or a pair "
        f"(init, apply): a kernel function alone has no finite networks; got {check.described(net)}."
    )


def kernel_network(net) -> None:
    """Refuses what has no kernel of infinite width beside its finite networks."""
    network(net)
    if not isinstance(net, tuple | list) or len(net) != 3:
        raise TypeError("`net` must be a network of `ntkinfo.stax`, a triple (init, apply, kernel).")


def finite_times(t):
    """`t` as known, finite times: as given, and as numbers of the host."""
    if not check.concrete(t):
        raise ValueError("`t` must be known outside `jit`: it decides the number of steps. Close over it.")
    # Read before it is converted: under jit even a constant becomes a tracer.
    given = np.asarray(check.values("t", t))
    t = check.times("t", t)
    host = given.astype(np.float64)
    if not np.isfinite(host).all():
        raise ValueError(
            "`t` must be finite: finite networks are trained step by step; got inf. Take a late time instead, such as "
            "10 n k / λ for the smallest eigenvalue λ of the tangent kernel that matters (`Ensemble.eigenvalues`)."
        )
    return t, host


def outputs(config, x, y):
    """Refuses labels of another shape than the outputs of the network."""

    def of_network():
        return config.apply_fn(_gradient_descent.initialise(config.init_fn, jax.random.key(0), x), x)

    try:
        shape = jax.eval_shape(of_network).shape
    except Exception as error:
        if str(error).startswith("`"):
            raise
        raise ValueError(f"`net` cannot be applied to inputs of shape {x.shape}: {networks.reason(error)}") from error
    if shape != y.shape:
        raise ValueError(
            f"`y` must have the shape (n, k) of the outputs of `net`, {shape}; got {y.shape}. End the network with "
            f"`Dense({y.shape[1]})`."
        )


def learning_rate(given, net, x, y) -> tuple[float, float]:
    """The largest step and, where computed, the stability limit."""
    if given is not None:
        if not check.concrete(given):
            raise ValueError("`learning_rate` must be known outside `jit`: it decides the number of steps.")
        check.positive("learning_rate", given, scalar=True)
        return float(given), math.nan
    if not isinstance(net, tuple | list) or len(net) != 3:
        raise ValueError(
            "`learning_rate` must be given for a network without a kernel of infinite width; below 2 n k / λ, λ the "
            "largest eigenvalue of its empirical kernel, training is stable."
        )
    if not check.concrete(x):
        raise ValueError("`learning_rate` must be given under `jit`: by default it depends on the values of `x`.")
    limit = _gradient_descent.stability_limit(net[2], x, y)
    return _gradient_descent.STEP_SHARE * limit, limit


def checkpoint_arguments(config, chunk, key, arrays):
    """What a checkpoint must agree in, by the names of the arguments of `train`."""
    x, y, x_test, sizes, counts = (None if a is None else np.asarray(a) for a in arrays)
    params = jax.eval_shape(lambda: _gradient_descent.initialise(config.init_fn, jax.random.key(0), arrays[0]))
    start = checkpoint.fingerprint(
        lambda k: _gradient_descent.initialise(config.init_fn, k, arrays[0]), jax.random.key(0)
    )

    def derivative(params, x):
        # What trains is the derivative: rules of its own may hold arrays that the outputs alone do not show.
        return jax.value_and_grad(lambda p: jnp.sum(config.apply_fn(p, x)))(params)

    return {
        "net": checkpoint.content_hash(start + checkpoint.fingerprint(derivative, params, arrays[0])),
        "x": checkpoint.content_hash(x),
        "y": checkpoint.content_hash(y),
        "x_test": checkpoint.content_hash(x_test),
        "key": checkpoint.content_hash(checkpoint.key_data(key)),
        "t or learning_rate": checkpoint.content_hash(checkpoint.content_hash(sizes) + checkpoint.content_hash(counts)),
        "method": config.method,
        "train_outputs": str(config.train_outputs),
        "fisher_trace": str(config.fisher_trace),
        "chunk": str(chunk),
    }
