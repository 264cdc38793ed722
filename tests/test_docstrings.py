"""The examples of the docstrings give what they say."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo

# Their data is the reader's own, or they train for minutes.
NOT_RUN = {
    "ntkinfo._common.pytree.dataclass",
    "ntkinfo.bottleneck._ib.ib",
    "ntkinfo.bottleneck._information_curve.encoder_point",
    "ntkinfo.content._content.information_content",
    "ntkinfo.ensemble._ensemble.Ensemble.fit",
    "ntkinfo.finite._gradient_phases.gradient_phases",
    "ntkinfo.finite._information_plane.information_plane",
    "ntkinfo.finite._stability.stability_limit",
    "ntkinfo.finite._train.train",
    "ntkinfo.finite._train_layers.train_layers",
    "ntkinfo.information._curve.curve",
    "ntkinfo.information._parameter_divergence.parameter_divergence",
    "ntkinfo.kernels._kernels.hessian",
    "ntkinfo.posterior._posterior.Posterior.fit",
    "ntkinfo.sweep.scales",
    "ntkinfo.variational._fit.fit",
    "ntkinfo.variational._required_information.required_information",
}


def examples():
    for info in pkgutil.walk_packages(ntkinfo.__path__, "ntkinfo."):
        if info.name != "ntkinfo.__main__":
            module = importlib.import_module(info.name)
            for test in doctest.DocTestFinder().find(module):
                if test.examples:
                    yield test


EXAMPLES = {test.name: test for test in examples()}


def test_what_is_not_run_exists():
    assert set(EXAMPLES) >= NOT_RUN


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - NOT_RUN))
def test_examples(name):
    test = EXAMPLES[name]
    test.globs.update(ni=ntkinfo, jax=jax, jnp=jnp, np=np)
    printed = []
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    assert not failed, "".join(printed)
