"""Which JAX this runs on: one too old, or known to compute wrong numbers, is refused before anything else happens."""

import sys

import jax
import jaxlib

OLDEST_JAX = (0, 4, 35)
# JAX 0.11 and later do not install on Python 3.11.
NEWEST_TESTED_JAX = (0, 12, 0, 1) if sys.version_info >= (3, 12) else (0, 10, 1)
BROKEN_JAX = ((0, 10, 2),)


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "0.10.2.dev3" -> (0, 10, 2)."""
    numbers = []
    for part in version.split(".")[:4]:
        digits = "".join(c for c in part if c.isdigit()) if part[:1].isdigit() else ""
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def check_jax_version() -> None:
    """Refuse a JAX that is too old, or whose results are known to be wrong.

    Raises:
        ImportError: JAX is older than 0.4.35; or JAX or jaxlib is 0.10.2, which silently computes wrong numbers on the
            CPU (jax-ml/jax issue 39103).
    """
    for name, version in (("jax", jax.__version__), ("jaxlib", jaxlib.__version__)):  # pyright: ignore[reportPrivateImportUsage]
        if _release(version)[:3] in BROKEN_JAX:
            raise ImportError(
                f"ntkinfo refuses {name} 0.10.2, which silently computes wrong numbers on the CPU; "
                f'got {name} {version}. Install another: pip install "jax!=0.10.2" "jaxlib!=0.10.2".'
            )
    if _release(jax.__version__) < OLDEST_JAX:
        oldest = ".".join(map(str, OLDEST_JAX))
        raise ImportError(
            f"ntkinfo needs jax {oldest} or newer; got jax {jax.__version__}. "
            f'Install one: pip install -U "jax>={oldest}".'
        )
