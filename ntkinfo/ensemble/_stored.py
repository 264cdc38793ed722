"""Ensembles of every engine in a file: their arrays, and what their network must be when it is given again."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ntkinfo import kernels

if TYPE_CHECKING:
    from ntkinfo.ensemble._ensemble import Ensemble
    from ntkinfo.ensemble._features import FeatureEnsemble
    from ntkinfo.ensemble._krylov import KrylovEnsemble

REMEDY = (
    "Networks of `ntkinfo.stax` are closures. Write it with `ni.save(ens, path)` and read it with "
    "`ni.load(path, net)`, the network made again in the other process; or use cloudpickle, as joblib does for its "
    "processes."
)
_FUNCTIONS = ("kernel_fn", "mean_fn")


def to_stored(ens: "Ensemble") -> dict[str, Any]:
    """The fields that are no functions; what stood in the others is said by a flag and a number."""
    fields = {name: getattr(ens, name) for name in ens.__dataclass_fields__ if name not in _FUNCTIONS}
    return fields | {"has_mean": ens.mean_fn is not None, "factor": kernels.factor(ens.kernel_fn)}


def from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "Ensemble":
    """The ensemble of these fields, with a network that has its kernels.

    Raises:
      ValueError: arrays that do not fit, no network, or another one.
    """
    n, k = np.shape(fields.get("y")) if np.ndim(fields.get("y")) == 2 else (-1, -1)
    shapes = {
        "x": (n, *np.shape(fields.get("x"))[1:]),
        "y": (n, k),
        "eigenvalues": (n,),
        "eigenvectors": (n, n),
        "nngp_rotated": (n, n),
        "y_rotated": (n, k),
    }
    kernels.check_stored("Ensemble", fields, shapes, ("prior_saw_data", "coupling", "has_mean", "factor"))
    number, has_mean = fields.pop("factor"), bool(fields.pop("has_mean"))
    kernel_fn, mean_fn = kernels.functions_again(net, mean, number, has_mean, "Ensemble")
    rows = kernels.chosen_rows(n)
    u, values = np.asarray(fields["eigenvectors"])[rows], np.asarray(fields["eigenvalues"])
    expected = {"nngp": u @ np.asarray(fields["nngp_rotated"]) @ u.T, "ntk": (u * values) @ u.T}
    stored_mean = np.asarray(fields["y"])[rows] - u @ np.asarray(fields["y_rotated"])
    kernels.check_same(kernel_fn, fields["x"][rows], expected, float(values.max()), mean_fn, stored_mean)
    fields["prior_saw_data"] = bool(fields["prior_saw_data"])
    return kind(**fields, kernel_fn=kernel_fn, mean_fn=mean_fn)


# Of the Krylov engine: kernels as they are held, if they are.
_OF_KERNELS = ("nngp_diagonal", "ntk_diagonal", "nngp_mean", "ntk_mean")


def krylov_to_stored(ens: "KrylovEnsemble") -> dict[str, Any]:
    """As `to_stored`, with the rows of the kernels where they are stored: n² numbers each."""
    names = ("x", "y", "targets", "prior_saw_data", "singular", "tolerance")
    kernel_fn, held = ens.kernel_fn, ens.stored
    one = isinstance(kernel_fn, kernels.OneKernel)
    fields = {name: getattr(ens, name) for name in names} | {name: getattr(held, name) for name in _OF_KERNELS}
    fields |= {f"few_{name}": part for name, part in kernels.few_kernels(kernel_fn, ens.x).items()}
    rows = kernels.rows_of(held) if isinstance(held, kernels.StoredKernels) else [None, None]
    return fields | {
        "has_mean": ens.mean_fn is not None,
        "factor": kernels.factor(kernel_fn.kernel_fn if one else kernel_fn),
        "kernel": kernel_fn.kernel if one else None,
        "batch_size": None if ens.storage != "none" else held.batch_size,  # pyright: ignore[reportAttributeAccessIssue]
        "nngp": None if rows[0] is rows[1] else rows[0],
        "ntk": rows[1],
    }


def krylov_from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "KrylovEnsemble":
    """The ensemble of these fields, with a network that has its kernels, on one device.

    Raises:
      ValueError: arrays that do not fit, no network, or another one.
    """
    n, shapes = _sizes(fields, "targets")
    shapes |= {"nngp_diagonal": (n,), "ntk_diagonal": (n,)}
    shapes |= {name: (n, n) for name in ("nngp", "ntk") if fields.get(name) is not None}
    others = ("prior_saw_data", "singular", "tolerance", "has_mean", "factor", "kernel", "batch_size", "nngp", "ntk",
              "nngp_mean", "ntk_mean")  # fmt: skip
    kernels.check_stored("KrylovEnsemble", fields, shapes, tuple(name for name in others if name not in shapes))
    kernel, held = fields.pop("kernel"), {name: fields.pop(name) for name in (*_OF_KERNELS, "batch_size")}
    rows = [fields.pop("nngp"), fields.pop("ntk")]
    if kernel not in (None, "nngp", "ntk") or fields["singular"] not in ("error", "project"):
        raise ValueError("`path` holds a `KrylovEnsemble` of options that this version does not know.")
    few = {name: fields.pop(f"few_{name}") for name in ("nngp", "ntk")}
    kernel_fn, mean_fn = _again(fields, few, net, mean, "KrylovEnsemble", fields["targets"], kernel)
    diagonals, means = ([held[f"{name}_{part}"] for name in ("nngp", "ntk")] for part in ("diagonal", "mean"))
    if rows[1] is None:
        own = (fields["x"], *diagonals, kernel_fn, *map(float, means), int(held["batch_size"]))
        stored: Any = kernels.EvaluatedKernels(*own)
    else:
        rows = [rows[1] if rows[0] is None else rows[0], rows[1]]
        stored = kernels.stored_of_rows(rows, diagonals, [float(each) for each in means], fields["x"])
    return kind(**fields, stored=stored, kernel_fn=kernel_fn, mean_fn=mean_fn)


def features_to_stored(ens: "FeatureEnsemble") -> dict[str, Any]:
    """As `to_stored`, with the kernels of a few inputs in the place of eigenvectors."""
    fields = {name: getattr(ens, name) for name in ens.__dataclass_fields__ if name not in _FUNCTIONS}
    kernel: Any = ens.kernel_fn
    fields |= {f"few_{name}": part for name, part in kernels.few_kernels(kernel, ens.x).items()}
    others = {"has_mean": ens.mean_fn is not None, "factor": kernels.factor(kernel), "is_prior": kernel.is_prior}
    return fields | others


def features_from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "FeatureEnsemble":
    """The ensemble of these fields, with a kernel that has its features.

    Raises:
      ValueError: arrays that do not fit, no kernel, or another one.
    """
    r = np.shape(fields.get("eigenvalues"))[:1]
    _, shapes = _sizes(fields)
    (k,), p = shapes["y"][1:], np.shape(fields.get("directions"))[:1]
    shapes |= {"eigenvalues": r, "directions": p + r, "y_rotated": (*r, k), "unexplained": (k,)}
    kernels.check_stored("FeatureEnsemble", fields, shapes, ("prior_saw_data", "has_mean", "factor", "is_prior"))
    few = {name: fields.pop(f"few_{name}") for name in ("nngp", "ntk")}
    kernel_fn, mean_fn = _again(fields, few, net, mean, "FeatureEnsemble", None, bool(fields.pop("is_prior")))
    return kind(**fields, kernel_fn=kernel_fn, mean_fn=mean_fn)


def _sizes(fields: dict[str, Any], *like_labels: str) -> tuple[int, dict[str, tuple]]:
    """n, and the shapes of inputs, labels and what is stored of a few kernels."""
    n, k = np.shape(fields.get("y")) if np.ndim(fields.get("y")) == 2 else (-1, -1)
    few = len(kernels.chosen_rows(n)) if n > 0 else 0
    shapes = {"x": (n, *np.shape(fields.get("x"))[1:]), "y": (n, k), "few_nngp": (few, few), "few_ntk": (few, few)}
    return n, shapes | dict.fromkeys(like_labels, (n, k))


def _again(fields, few, net, mean, kind: str, targets, form) -> tuple:
    """Kernel and mean function given again, in the form they had, checked against the kernels of a few inputs.

    `form` names the one kernel of a posterior's process (Krylov), or says whether features are those of a prior.
    """
    number, has_mean = fields.pop("factor"), bool(fields.pop("has_mean"))
    if isinstance(form, bool):
        net = kernels.as_features(kernels.kernel_function(net)) if net is not None else None
    kernel_fn, mean_fn = kernels.functions_again(net, mean, number, has_mean, kind)
    if form is True:
        kernel_fn = kernel_fn.as_prior()  # pyright: ignore[reportFunctionMemberAccess]
    elif isinstance(form, str):
        kernel_fn = kernels.OneKernel(kernel_fn, form)
    rows = kernels.chosen_rows(len(fields["x"]))
    stored_mean = None if targets is None else np.asarray(fields["y"], np.float64)[rows] - np.asarray(targets)[rows]
    size = float(np.abs(few["ntk"]).max())
    # Without the labels less the mean, the mean given again is not held against anything.
    held_mean = None if stored_mean is None else mean_fn
    kernels.check_same(kernel_fn, fields["x"][rows], few, size, held_mean, stored_mean)
    fields["prior_saw_data"] = bool(fields["prior_saw_data"])
    return kernel_fn, mean_fn
