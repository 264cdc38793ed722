"""A posterior in a file: its arrays, and what its network must be when it is given again."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ntkinfo import kernels
from ntkinfo.posterior._spectrum import Factor, Spectrum

if TYPE_CHECKING:
    from ntkinfo.posterior._posterior import Posterior

REMEDY = (
    "Networks of `ntkinfo.stax` are closures. Write it with `ni.save(post, path)` and read it with "
    "`ni.load(path, net)`, the network made again in the other process; or use cloudpickle, as joblib does for its "
    "processes."
)
_FUNCTIONS = ("kernel_fn", "mean_fn")
# How the kernel was taken apart: of either kind, or neither under tracing.
_PARTS = {"factor": Factor, "given_spectrum": Spectrum}


def to_stored(post: "Posterior") -> dict[str, Any]:
    """The fields that are no functions; what stood in the others is said by a flag and a number."""
    names = [name for name in post.__dataclass_fields__ if name not in (*_FUNCTIONS, *_PARTS)]
    fields = {name: getattr(post, name) for name in names}
    for part, kind in _PARTS.items():
        value = getattr(post, part)
        fields |= {f"{part}_{name}": None if value is None else getattr(value, name) for name in kind._fields}
    return fields | {"has_mean": post.mean_fn is not None, "kernel_factor": kernels.factor(post.kernel_fn)}


def from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "Posterior":
    """The posterior of these fields, with a network that has its kernel.

    Raises:
      ValueError: arrays that do not fit, no network, or another one.
    """
    n, k = np.shape(fields.get("y")) if np.ndim(fields.get("y")) == 2 else (-1, -1)
    shapes: dict[str, Any] = {
        "x": (n, *np.shape(fields.get("x"))[1:]),
        "y": (n, k),
        "q": (n, n),
        "noise": (k,) if np.ndim(fields.get("noise")) else (),
    }
    if fields.get("factor_lower") is not None:
        shapes |= {"factor_lower": (n, n), "factor_noise": ()}
    if fields.get("given_spectrum_eigenvalues") is not None:
        shapes |= {
            "given_spectrum_eigenvalues": (n,),
            "given_spectrum_eigenvectors": (n, n),
            "given_spectrum_y_rotated": (n, k),
        }
    parts = [f"{part}_{name}" for part, each in _PARTS.items() for name in each._fields]
    others = ("noise_fit", "prior", "prior_saw_data", "offset", "has_mean", "kernel_factor", *parts)
    kernels.check_stored("Posterior", fields, shapes, tuple(name for name in others if name not in shapes))
    if fields["prior"] not in ("nngp", "ntk"):
        raise ValueError("`path` holds a `Posterior` of no prior that this version knows.")
    number, has_mean = fields.pop("kernel_factor"), bool(fields.pop("has_mean"))
    for part, each in _PARTS.items():
        values = [fields.pop(f"{part}_{name}") for name in each._fields]
        fields[part] = None if values[0] is None else each(*values)
    kernel_fn, mean_fn = kernels.functions_again(net, mean, number, has_mean, "Posterior")
    rows = kernels.chosen_rows(n)
    offset, q = fields["offset"], np.asarray(fields["q"])
    stored_mean = None if offset is None else np.asarray(offset)[rows]
    expected = {fields["prior"]: q[np.ix_(rows, rows)]}
    kernels.check_same(kernel_fn, fields["x"][rows], expected, float(np.trace(q)), mean_fn, stored_mean)
    fields["prior_saw_data"] = bool(fields["prior_saw_data"])
    return kind(**fields, kernel_fn=kernel_fn, mean_fn=mean_fn)
