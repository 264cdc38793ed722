import jax
import pytest


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch):
    """The jobs here write nothing into the home of whoever runs the tests."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or "")
