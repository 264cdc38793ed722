"""That shapes in signatures are checked while the tests run: see `typed.py`."""

import inspect
import typing

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, ArrayLike, Float

from tests import typed

pytest.importorskip("beartype", reason="beartype is not installed: shapes in signatures are not checked")


def doubled(x: Float[ArrayLike, "n k"], y: Float[ArrayLike, " n"], wrong: bool = False) -> Float[Array, " n"]:
    return jnp.ones(len(y) + wrong)


def test_what_does_not_fit_is_seen():
    call, x, y = typed.checked(doubled), np.ones((3, 2)), np.ones(3)
    assert call(x, y).shape == (3,)
    for arguments, what in (((x[0], y), "`x`"), ((x, np.ones(4)), "`y`"), ((x, y, True), "the result")):
        with pytest.raises(AssertionError, match=f"doubled: {what} is"):
            call(*arguments)


def test_every_public_function_is_wrapped_and_its_annotations_are_known():
    functions = list(typed.public_functions())
    assert len(functions) > 80
    for module, name, function in functions:
        assert hasattr(function, "__wrapped__"), f"{module.__name__}.{name}"
        typing.get_type_hints(inspect.unwrap(function))


class Scaled:
    def __init__(self, x):
        self.x = x

    @property
    def row(self) -> Float[Array, " n"]:
        return self.x

    def times(self, y: Float[ArrayLike, " n"]) -> Float[Array, " n"]:
        return self.x


def test_what_does_not_fit_is_seen_of_methods_and_properties():
    row, times = typed.checked(Scaled.row.fget), typed.checked(Scaled.times)
    right, wrong = Scaled(jnp.ones(3)), Scaled(jnp.ones((3, 2)))
    assert row(right).shape == times(right, np.ones(3)).shape == (3,)
    for call, arguments, what in ((row, (wrong,), "the result"), (times, (right, np.ones(4)), "the result")):
        with pytest.raises(AssertionError, match=f"Scaled.{call.__name__}: {what} is"):
            call(*arguments)


def test_every_public_method_is_wrapped_and_its_annotations_are_known():
    methods = list(typed.public_methods())
    assert len(methods) > 80
    names = {f"{owner.__name__}.{name}" for owner, name, *_ in methods}
    assert {"Ensemble.fit", "Posterior.kl", "KrylovEnsemble.predict", "Gaussian.sample"} <= names
    for owner, name, _, function in methods:
        assert hasattr(function, "__wrapped__"), f"{owner.__name__}.{name}"
        typing.get_type_hints(inspect.unwrap(function))
