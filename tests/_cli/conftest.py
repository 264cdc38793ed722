import jax
import pytest


@pytest.fixture(autouse=True)
def no_cache_of_the_user(monkeypatch):
    """The jobs here write nothing into the home of whoever runs the tests."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or "")


@pytest.fixture(scope="module", autouse=True)
def jobs_compiled_quickly(little_time_to_compile):
    """The numbers of jobs are those of the library; a job in a process of its own compiles as users have it."""


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of the numbers of a job: its figures, most of the time of a small one, are empty files."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: _empty(file))


def _empty(file):
    # Of a figure to be kept, the path; of a frame of the page, a stream.
    if hasattr(file, "write"):
        file.write(b"")
    else:
        file.write_bytes(b"")
