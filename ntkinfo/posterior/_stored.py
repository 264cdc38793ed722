"""A posterior in a file: its arrays, and what its network must be when it is given again."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ntkinfo import kernels

if TYPE_CHECKING:
    from ntkinfo.posterior._posterior import Posterior

REMEDY = (
    "Networks of `ntkinfo.stax` are closures. Write it with `ni.save(post, path)` and read it with "
    "`ni.load(path, net)`, the network made again in the other process; or use cloudpickle, as joblib does for its "
    "processes."
)
_FUNCTIONS = ("kernel_fn", "mean_fn")


def to_stored(post: "Posterior") -> dict[str, Any]:
    """The fields that are no functions; what stood in the others is said by a flag and a number."""
    fields = {name: getattr(post, name) for name in post.__dataclass_fields__ if name not in _FUNCTIONS}
    return fields | {"has_mean": post.mean_fn is not None, "factor": kernels.factor(post.kernel_fn)}


def from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "Posterior":
    """The posterior of these fields, with a network that has its kernel.

    Raises:
      ValueError: arrays that do not fit, no network, or another one.
    """
    n, k = np.shape(fields.get("y")) if np.ndim(fields.get("y")) == 2 else (-1, -1)
    shapes = {
        "x": (n, *np.shape(fields.get("x"))[1:]),
        "y": (n, k),
        "eigenvalues": (n,),
        "eigenvectors": (n, n),
        "y_rotated": (n, k),
        "noise": (),
    }
    others = ("noise_fit", "prior", "prior_saw_data", "coupling", "offset", "has_mean", "factor")
    kernels.check_stored("Posterior", fields, shapes, others)
    if fields["prior"] not in ("nngp", "ntk"):
        raise ValueError("`path` holds a `Posterior` of no prior that this version knows.")
    number, has_mean = fields.pop("factor"), bool(fields.pop("has_mean"))
    kernel_fn, mean_fn = kernels.functions_again(net, mean, number, has_mean, "Posterior")
    rows = kernels.chosen_rows(n)
    u, values = np.asarray(fields["eigenvectors"])[rows], np.asarray(fields["eigenvalues"])
    offset = fields["offset"]
    stored_mean = None if offset is None else np.asarray(offset)[rows]
    expected = {fields["prior"]: (u * values) @ u.T}
    kernels.check_same(kernel_fn, fields["x"][rows], expected, float(values.max()), mean_fn, stored_mean)
    fields["prior_saw_data"] = bool(fields["prior_saw_data"])
    return kind(**fields, kernel_fn=kernel_fn, mean_fn=mean_fn)
