"""A kernel function given again to a result from a file: it must be the one that the result was made with."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkinfo import networks
from ntkinfo._common import check
from ntkinfo.kernels._empirical import EmpiricalKernel, Scaled, mean_function, scaled
from ntkinfo.kernels._features import FeatureKernel
from ntkinfo.kernels._kernels import kernels

# Training inputs that are looked at, and by how many roots of the rounding kernels of two machines may differ.
_ROWS, _TOLERANCE = 4, 4.0


def factor(kernel_fn: Callable) -> float | None:
    """What `scaled` has multiplied a kernel function by; None where it has not."""
    if isinstance(kernel_fn, Scaled | FeatureKernel):
        return float(kernel_fn.factor)
    if isinstance(kernel_fn, EmpiricalKernel) and kernel_fn.around == "laplace":
        return float(kernel_fn.prior_variance)
    return None


def functions_again(
    net: Any, mean: Any, number: float | None, has_mean: bool, kind: str
) -> tuple[Callable, Callable | None]:
    """Kernel and mean function of a network given again, times the `factor` of the first.

    Raises:
      ValueError: no network, or a mean too many or too few.
      TypeError: no network of a kind that has kernels.
    """
    if net is None:
        raise ValueError(
            f"`net` must be given: the file holds an `{kind}`, and functions are not written to files. Pass the "
            "network it was made with: ni.load(path, net)."
        )
    if (mean is not None) != has_mean:
        raise ValueError(
            f"`mean` must {'be given' if has_mean else 'be None'}: the `{kind}` of the file was made "
            f"{'with' if has_mean else 'without'} one."
        )
    kernel_fn = networks.kernel_function(net)
    if number is not None:
        if isinstance(kernel_fn, FeatureKernel):
            kernel_fn = kernel_fn.scaled(number / kernel_fn.factor)
        elif isinstance(kernel_fn, EmpiricalKernel) and kernel_fn.around != "ensemble":
            kernel_fn = scaled(kernel_fn, number / float(kernel_fn.prior_variance))
        elif not isinstance(kernel_fn, Scaled):
            kernel_fn = scaled(kernel_fn, number)
    return kernel_fn, mean_function(mean, kernel_fn)


def chosen_rows(n: int) -> np.ndarray:
    """The training inputs that `check_same` looks at, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, min(n, _ROWS)).round().astype(int))


def few_kernels(kernel_fn: Callable, x) -> dict[str, np.ndarray]:
    """Both kernels of some training inputs, by name: what a file says of a kernel whose matrix it does not hold."""
    both = kernels(kernel_fn, x[chosen_rows(len(x))], progress=False)
    return {name: np.asarray(part) for name, part in both._asdict().items()}


def check_same(kernel_fn: Callable, x, expected: dict[str, np.ndarray], size: float, mean_fn, mean) -> None:
    """Refuses a kernel function whose kernels of `x`, or whose means, are not those of the file.

    Args:
      kernel_fn: the one given again.
      x: some training inputs, (r, ...).
      expected: "nngp" and "ntk", or one of them, to what the file says, (r, r).
      size: the largest eigenvalue, by which the rounding of `expected` goes.
      mean_fn: the mean given again, or None.
      mean: what the file says of it, (r, k).

    Raises:
      ValueError: it is another.
    """
    eps = float(jnp.finfo(x.dtype).eps)
    found = kernels(kernel_fn, x, progress=False)._asdict()
    for name, wanted in expected.items():
        value, scale = np.asarray(found[name]), float(np.abs(wanted).max())
        tolerance = max(_TOLERANCE * eps**0.5 * scale, 10 * eps * size)
        error = float(np.abs(value - wanted).max())
        # NaN must fail.
        if not error <= tolerance:
            raise ValueError(
                f"`net` must be the network that the file's result was made with; its {name.upper()} kernel of the "
                f"first training input is {value[0, 0]:.6g}, and {wanted[0, 0]:.6g} in the file (largest difference "
                f"{error:.2g}). Check depth, activation, W_std, b_std and, of an empirical kernel, the parameters."
            )
    if mean_fn is not None:
        value = np.asarray(mean_fn(x))
        if value.shape != mean.shape or not np.abs(value - mean).max() <= _TOLERANCE * eps**0.5 * (
            1 + np.abs(mean).max()
        ):
            raise ValueError(
                "`mean` must be the mean function that the file's result was made with; it differs at the first "
                "training inputs."
            )


def check_stored(kind: str, fields: dict[str, Any], shapes: dict[str, tuple], optional: tuple[str, ...]) -> None:
    """Refuses fields of a file that are not those of `kind`, or arrays whose shapes do not fit each other.

    Raises:
      ValueError: they are not.
    """
    wanted = {*shapes, *optional}
    if set(fields) != wanted:
        names = ", ".join(sorted(set(fields) ^ wanted))[:100]
        raise ValueError(f"`path` must hold an `{kind}` of this version; it differs in the fields {names}.")
    for name, shape in shapes.items():
        if not hasattr(fields[name], "dtype") or np.shape(fields[name]) != shape or not check.concrete(fields[name]):
            raise ValueError(
                f"`path` holds an `{kind}` whose arrays do not fit: {name} must have shape {shape}; got "
                f"{check.described(fields[name])}."
            )
