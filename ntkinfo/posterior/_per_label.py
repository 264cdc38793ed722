"""One noise for each label: all have one prior kernel, decomposed once, and each is conditioned on by itself."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ntkinfo._common import check, tracing
from ntkinfo._numerics import padding
from ntkinfo.posterior import _noise

if TYPE_CHECKING:
    from ntkinfo.posterior._posterior import Posterior

# What `noise` may be in words.
FITTED = ("fit", "fit_each")


def given(noise: Any) -> bool:
    """Whether this is a noise for each label."""
    return not isinstance(noise, str) and np.ndim(noise) > 0


def check_noise(noise: Any, k: int, name: str = "noise") -> None:
    """Refuses what is neither a positive number, nor k of them, nor a word of `FITTED`."""
    if isinstance(noise, str):
        check.option(name, noise, FITTED)
        return
    shape = np.shape(check.values(name, noise))
    if shape not in ((), (k,)):
        raise ValueError(
            f"`{name}` must be one number, or one for each label, of shape ({k},); got shape {shape}. An empirical "
            "kernel with outputs='full' makes one column of all labels, which have one noise."
        )
    check.positive(name, noise)


@functools.partial(jax.jit, static_argnums=(0, 3))
def each(core: Callable, post: "Posterior", arguments: tuple = (), options: tuple = ()) -> Any:
    """`core(posterior, *arguments, *options)` of the posterior of each label alone, with a leading axis (k, ...).

    One after the other: intermediate arrays are as large as those of one label. `post` has its spectrum.
    """

    def of_one(parts):
        y, y_rotated, noise = parts
        spectrum = post.spectrum._replace(y_rotated=y_rotated[:, None])
        alone = dataclasses.replace(
            post, y=y[:, None], noise=noise, noise_fit=None, offset=None, factor=None, given_spectrum=spectrum
        )
        return core(alone, *arguments, *options)

    return jax.lax.map(of_one, (post.y.T, post.y_rotated.T, post.noise))


def total(core: Callable, post: "Posterior") -> Array:
    """A scalar of the posterior of all labels, of a `core` that takes one noise: labels are independent."""
    return jnp.sum(each(core, post.with_spectrum())) if given(post.noise) else core(post)


def maximise(eigenvalues: Array, squares: Array) -> tuple[Array, _noise.NoiseFit]:
    """σ² (k,) of largest marginal likelihood of each label, and how they were fitted, arrays (k,). Jittable.

    Args:
      eigenvalues: of the prior kernel on the training inputs, ascending, (n,).
      squares: (UᵀY)², (n, k).
    """
    weights = np.ones(eigenvalues.shape, eigenvalues.dtype)
    values = (eigenvalues, squares, weights)
    if tracing.is_known(values):
        rows = padding.near(len(weights))
        values = tuple(padding.fill(value, (rows, *value.shape[1:])) for value in values)
    return _maximised(*values)


@jax.jit
def _maximised(eigenvalues, squares, weights):
    one = np.ones((), eigenvalues.dtype)
    return jax.lax.map(lambda column: _noise.maximised(eigenvalues, column, weights, one), squares.T)


def warn_fit(noise: Array, fit: _noise.NoiseFit, residual: Array) -> None:
    """`_noise.warn_fit` of each label, by its number."""
    parts = [np.asarray(part) for part in fit]
    for c, one in enumerate(np.asarray(noise)):
        own = _noise.NoiseFit(*(part[c] for part in parts))
        _noise.warn_fit(one, own, residual[:, c : c + 1], f'noise="fit_each", label {c},', stacklevel=5)
