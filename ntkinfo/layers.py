"""Infinite width. Information in the layers: the noisy activations of a layer as a Gaussian channel with known means.

The m inputs have the Gram matrix K_l of layer l, so that distances of activations are known at infinite width; with
noise they make a mixture of m Gaussians in at most m - 1 dimensions.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels, mixture, stax
from ntkinfo._common import check, compiling, eigenproblems, memory, pytree, tables
from ntkinfo._common import labels as _labels
from ntkinfo._common.results import Information

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LayerChannel", "information", "of_activations"]


@pytree.dataclass()
class LayerChannel:
    """I(X;T) and I(T;Y) in nats of noisy layers T, in the order of the layers. Arrays (layers,).

    Attributes:
      i_xt: I(X;T), X uniform over the m inputs; at most log m.
      i_ty: I(T;Y) of the classes; 0 where no labels were given.
      noise: variance of the noise in every direction, for activations divided by the root of the width, (layers,).
    """

    i_xt: Information
    i_ty: Information
    noise: Array

    def to_dataframe(self, *, unit: str = "nats") -> "pd.DataFrame":
        """A pandas table with a row for each layer; `attrs` say unit and method.

        Columns: layer, i_xt and i_ty, each with its bounds and standard error, noise. By "pairwise", which estimates
        nothing, the values are the lower bounds.
        """
        scale, columns = tables.factor(unit), {"layer": np.arange(len(self.noise))}
        for name in ("i_xt", "i_ty"):
            found = getattr(self, name)
            parts = {"": found.value, "_lower": found.lower, "_upper": found.upper, "_stderr": found.stderr}
            columns |= {f"{name}{part}": scale * np.asarray(values) for part, values in parts.items()}
        return tables.frame(columns | {"noise": np.asarray(self.noise)}, {"method": self.i_xt.method}, unit)

    __repr__ = tables.one_line
    _repr_html_ = tables.html


def information(
    net: Sequence[Any],
    x: Float[ArrayLike, "m ..."],
    y: Num[ArrayLike, " m"] | Float[ArrayLike, "m k"] | None = None,
    *,
    snr: ArrayLike,
    method: str = "pairwise",
    key: Array | None = None,
    n_samples: int = 64,
) -> LayerChannel:
    """I(X;T_l) and I(T_l;Y) in nats of layers of infinite width, each with noise of the same relative size.

    T_l = a_l(x)/√N + noise, a_l the activations of layer l and N its width: as N grows, squared distances of means
    become K_ii + K_jj - 2 K_ij. The noise has in every direction the variance S/snr, S = (1/m) Σ K_ii
    the power of the noiseless layer, its mean square. In this limit layers do not move in training: what holds at
    initialisation holds throughout.

    Noise is added to each layer for itself, and is not handed on: the noisy layers are no Markov chain, and information
    may rise with depth, where layers pull inputs apart (large W_std). It falls where they draw them together.

    Args:
      net: the layers of `ntkinfo.stax`, in order, as they would be given to `stax.serial`; each is followed by its
        channel. The activations of a convolution are those of all positions together.
      x: inputs, (m, ...), at least two.
      y: labels that name classes, as in `information.label_information`; None leaves them out.
      snr: signal-to-noise ratio, positive.
      method: "pairwise" for bounds in closed form (`value` is the lower one), "monte_carlo" or "minibatch" for sampled
        values.
      key: random key, for the sampled methods.
      n_samples: draws for each input, for the sampled methods.

    Returns:
      `LayerChannel`: kernels are exact, information by `method`; 0 for a layer that is the same for all inputs.

    Raises:
      TypeError: `net` is no sequence of layers; inputs of a wrong kind.
      ValueError: one input, a signal-to-noise ratio that is not positive, labels that name no classes, an unknown
        method, a sampled method without a key.

    Example:
      >>> layers = [stax.Dense(64), stax.Erf(), stax.Dense(64), stax.Erf()]
      >>> found = information(layers, x, y, snr=10.0)
      >>> found.i_xt.lower.shape, bool(jnp.all(found.i_xt.lower <= found.i_xt.upper))
      ((4,), True)

    Source: theory, section 17; Kolchinsky & Tracey 2017 (arXiv 1706.02419).
    """
    if not isinstance(net, Sequence) or isinstance(net, str) or not net:
        raise TypeError(f"`net` must be a list of layers of `ntkinfo.stax`; got {check.described(net)}.")
    for layer in net:
        if not (isinstance(layer, tuple) and len(layer) == 3 and all(callable(part) for part in layer)):
            raise TypeError(
                "`net` must be a list of layers of `ntkinfo.stax`, triples of functions; got "
                f"{check.described(layer)} in it."
            )
    x = check.inputs("x", x)
    _check_options(len(x), len(net), x.dtype, snr, method, key, n_samples)
    of_layers = [kernels.kernels(_covariance(tuple(net[: depth + 1]), x.ndim), x).nngp for depth in range(len(net))]
    # Known arrays on the host, where nothing is compiled for their shapes.
    grams = jnp.asarray(np.stack(of_layers)) if check.concrete(*of_layers) else jnp.stack(of_layers)
    if check.concrete(x) and np.any(np.asarray(x)) and not np.any(np.asarray(grams)[0]):
        raise ValueError(
            f"`x` must be larger, or `net` not be zero: the kernel of its first layer underflows in {x.dtype}."
        )
    return _channel(grams, y, snr, method, key, n_samples)


# Kept, so that a later call for the same layers finds the programs of the one before.
@functools.lru_cache(maxsize=64)
def _covariance(net: tuple, rank: int):
    """The NNGP kernel of layers as a kernel function, of the positions of an image together; asks for no other kernel.

    Layers without parameters alone have no tangent kernel.
    """
    kernel_fn = stax.serial(*net, *([stax.Flatten()] if rank > 2 else []))[2]

    def both(x1, x2, get):
        kernel = kernel_fn(x1, x2, "nngp")
        return kernel, kernel

    return both


def of_activations(
    activations: Sequence[Float[ArrayLike, "m _"]],
    y: Num[ArrayLike, " m"] | Float[ArrayLike, "m k"] | None = None,
    *,
    snr: ArrayLike,
    method: str = "pairwise",
    key: Array | None = None,
    n_samples: int = 64,
) -> LayerChannel:
    """The same of recorded activations, (m, units) for each layer, as of a finite network; see `information`.

    Args:
      activations: the layers' activations at the same m inputs, at least two.
      y: labels that name classes; None leaves them out.
      snr: signal-to-noise ratio, positive.
      method: as in `information`.
      key: random key, for the sampled methods.
      n_samples: draws for each input, for the sampled methods.

    Returns:
      `LayerChannel`; no limit is taken.

    Raises:
      TypeError, ValueError: no sequence of arrays of the same m; as `information`.

    Example:
      >>> found = of_activations([x, jnp.tanh(x)], y, snr=10.0)
      >>> found.noise.shape
      (2,)

    Source: theory, section 17.
    """
    if not isinstance(activations, Sequence) or isinstance(activations, str) or not len(activations):
        raise TypeError(f"`activations` must be a list of arrays (m, units); got {check.described(activations)}.")
    layers = [check.array("activations", layer, 2) for layer in activations]
    m = len(layers[0])
    if any(len(layer) != m for layer in layers):
        raise ValueError(f"`activations` must be of the same inputs; got {[len(layer) for layer in layers]} rows.")
    for layer in layers:
        check.small_enough("activations", layer)
    dtype = jnp.result_type(*layers)
    _check_options(m, len(layers), dtype, snr, method, key, n_samples)
    largest, units, grams = _grams([layer.astype(dtype) for layer in layers])
    for number, layer in enumerate(layers):
        # Denormal numbers are 0 to XLA.
        if check.concrete(layer, largest) and np.any(np.asarray(layer)) and not np.asarray(largest)[number] > 0:
            _refuse_small(number, dtype)
    return _channel(grams, y, snr, method, key, n_samples, units**2)


@compiling.on_host
def _grams(xp, layers):
    """The largest entry of each layer, its unit, and Gram matrices (layers, m, m) in units of its square."""
    # In units of the largest, so that no product underflows; denormal numbers are 0, as they are to XLA.
    largest = xp.stack([xp.max(xp.abs(layer)) for layer in layers])
    largest = xp.where(largest < float(jnp.finfo(largest.dtype).tiny), 0.0, largest).astype(largest.dtype)
    units = xp.where(largest > 0, largest, 1.0).astype(largest.dtype)
    scaled = [layer / unit for layer, unit in zip(layers, units, strict=True)]
    return largest, units, xp.stack([layer @ layer.T / layer.shape[1] for layer in scaled])


@compiling.on_host
def _in_units(xp, grams, noise, units):
    return xp.where(xp.trace(grams, axis1=1, axis2=2) > 0, noise * units, noise)


def _check_options(m, n_layers, dtype, snr, method, key, n_samples):
    if m < 2:
        raise ValueError(f"`x` or `activations` must be of at least two inputs, which layers tell apart; got {m}.")
    check.positive("snr", snr, scalar=True)
    check.option("method", method, ("pairwise", "monte_carlo", "minibatch"))
    check.integer("n_samples", n_samples, least=2)
    if method != "pairwise":
        mixture.require_key(key, f"the {method} estimator")
    elif key is not None:
        check.key("key", key)
    # Gram matrices, their points, and eigenvectors of one with the solver's workspace.
    memory.require(
        f"`x` or `activations` of {m} inputs in {n_layers} layers",
        (3 * n_layers + 5) * m**2 * np.dtype(dtype).itemsize,
        "Take fewer inputs.",
    )
    eigenproblems.require("`x` or `activations` must be of at most {} inputs", m, dtype, "Take fewer.")


def _channel(grams, y, snr, method, key, n_samples, units=None) -> LayerChannel:
    """The channels of Gram matrices (layers, m, m), in units (layers,) of their entries, else of 1."""
    m = grams.shape[1]
    one_hot = jnp.asarray(np.ones((m, 1), grams.dtype))
    if y is not None:
        read = _labels.read("y", y, m, "classes")
        one_hot = _labels.one_hot(read.classes, read.n_classes, grams.dtype)
    means, variance = _embedded(grams, jnp.asarray(snr, grams.dtype))
    noise = compiling.entries(variance, index=(..., 0))
    options = {"method": method, "key": key, "n_samples": n_samples}
    _check_noise(grams, noise, units)
    i_xt, i_ty = mixture.pair(means, variance, one_hot, **options)
    if units is not None:
        noise = _in_units(grams, noise, units)
    return LayerChannel(i_xt, i_ty, noise)


def _check_noise(grams, noise, units) -> None:
    """Refuses layers whose power, or its noise, leaves the normal numbers: they would be 0 or infinite."""
    if not check.concrete(grams, noise):
        return
    power, limits = np.trace(np.asarray(grams), axis1=1, axis2=2), jnp.finfo(noise.dtype)
    least, scaled, noise = float(limits.tiny), np.asarray(1 if units is None else units), np.asarray(noise)
    for layer, (of_layer, of_noise, unit) in enumerate(np.broadcast(power, noise, scaled)):
        given = of_noise * unit if of_layer > 0 else of_noise
        if of_layer > 0 and (of_layer < least or unit < least or (of_noise >= least > given)):
            _refuse_small(layer, noise.dtype)
        if not (least <= of_noise <= float(limits.max) and least <= given <= float(limits.max)):
            raise ValueError(
                f"`snr` must leave a noise within the range of {noise.dtype}; got one of {of_noise:.3g} for layer "
                f"{layer}, of power {of_layer * unit / grams.shape[1]:.3g}. Take a ratio nearer to 1."
            )


def _refuse_small(layer, dtype):
    raise ValueError(
        f"`activations` or the kernels of `net` must be larger: the noise of layer {layer} underflows in {dtype}. "
        "Multiply them by a constant, which changes no information, or take float64."
    )


@compiling.on_host
def _embedded(xp, grams, snr):
    """Points (layers, m, m) with the distances of Gram matrices, and the variance of the noise (layers, m)."""
    # Denormal numbers are 0, as they are to XLA.
    snr = xp.where(snr < float(jnp.finfo(grams.dtype).tiny), 0.0, snr).astype(grams.dtype)

    def of_layer(gram):
        centred = gram - gram.mean(axis=0, keepdims=True) - gram.mean(axis=1, keepdims=True) + gram.mean()
        power = xp.trace(gram) / len(gram)
        values, vectors = xp.linalg.eigh(0.5 * (centred + centred.T))
        # What is left of equal rows is rounding, and must not pass for a signal.
        floor = len(gram) * float(jnp.finfo(gram.dtype).eps) * power
        points = vectors * xp.sqrt(xp.where(values > floor, values, 0.0))[None, :]
        # A layer of zeros tells nothing, at any noise.
        return points, xp.broadcast_to(xp.where(power > 0, power / snr, 1.0), len(gram)).astype(gram.dtype)

    if xp is jnp:
        return jax.lax.map(of_layer, grams)
    points, noise = zip(*map(of_layer, grams), strict=True)
    return np.stack(points), np.stack(noise)
