"""A fit in a file: its parameters, and what its networks are; those that are not ours are given again."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkinfo._common import check
from ntkinfo.networks import Network
from ntkinfo.variational import _objectives, encoders

if TYPE_CHECKING:
    from ntkinfo.variational._fit import VariationalFit

REMEDY = (
    "Its networks are closures. Write it with `ni.save(fit, path)` and read it with `ni.load(path)`, networks of your "
    "own given again; or use cloudpickle, as joblib does for its processes."
)
_NETWORKS = ("encoder", "decoder")
_OPTIONS = {
    "objective": ("vib", "ceb", "dual"),
    "prior": _objectives.PRIORS,
    "kind": _objectives.LATENTS,
    "task": _objectives.TASKS,
}
# Rows of Z at which a decoder given again must say the same.
_ROWS = 4


def to_stored(fit: "VariationalFit") -> dict[str, Any]:
    """Parameters, history, and the model with its networks described where they are of `encoders`."""
    model = fit.model._asdict()
    recipes = {name: getattr(model.pop(name).apply, "recipe", None) for name in _NETWORKS}
    params = {
        # Trees of other libraries' own classes are kept by their leaves, and get their structure from the network.
        name: tree if _is_plain(tree) else {"leaves": jax.tree.leaves(tree)}
        for name, tree in fit.params.items()
    }
    probe = np.asarray(fit.decode(_probe(fit.model.latent, fit.beta.dtype)))
    fields = {name: getattr(fit, name) for name in ("history", "beta", "gamma", "step")}
    return fields | {"params": params, "model": model, "recipes": recipes, "probe": probe}


def from_stored(kind: type, fields: dict[str, Any], net: Any, mean: Any) -> "VariationalFit":
    """The fit of these fields, with its networks made again or given again.

    Raises:
      ValueError: fields that are not those of a fit; networks that are missing, or others.
    """
    if set(fields) != {"history", "beta", "gamma", "step", "params", "model", "recipes", "probe"}:
        raise ValueError("`path` must hold a `VariationalFit` of this version; its fields are others.")
    if mean is not None:
        raise ValueError("`mean` must be None: a `VariationalFit` has none.")
    model, recipes, params = (_dictionary(name, fields[name]) for name in ("model", "recipes", "params"))
    networks = {name: _made(recipes.get(name)) for name in _NETWORKS}
    if None in networks.values():
        networks |= _given(net, [name for name, made in networks.items() if made is None])
    for name, accepted in _OPTIONS.items():
        if model.get(name) not in accepted:
            raise ValueError(f"`path` holds a `VariationalFit` whose {name} is none that this version knows.")
    spec = _objectives.Spec(**model, **networks)
    trees = {name: _restored(name, tree, networks.get(name)) for name, tree in params.items()}
    fit = kind(trees, fields["history"], fields["beta"], fields["gamma"], fields["step"], spec)
    probe = np.asarray(fields["probe"])
    try:
        found = np.asarray(fit.decode(_probe(spec.latent, fit.beta.dtype)))
    except Exception as error:
        raise ValueError(
            f"`net` must be the networks that the fit was made with; its decoder cannot take the parameters: {error}"
        ) from error
    tolerance = 4 * float(jnp.finfo(fit.beta.dtype).eps) ** 0.5 * (1 + np.abs(probe).max())
    if found.shape != probe.shape or not np.abs(found - probe).max() <= tolerance:
        raise ValueError("`net` must be the networks that the fit was made with; its decoder returns other numbers.")
    return fit


def _probe(latent: int, dtype) -> np.ndarray:
    return np.eye(latent, dtype=dtype)[:_ROWS]


def _is_plain(tree) -> bool:
    """Whether a tree is made of dictionaries by text, lists and tuples of arrays alone."""
    if type(tree) is dict:
        return "leaves" not in tree and all(isinstance(name, str) and _is_plain(part) for name, part in tree.items())
    if type(tree) in (list, tuple):
        return all(map(_is_plain, tree))
    return tree is None or isinstance(tree, np.ndarray | jax.Array)


def _dictionary(name: str, value) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"`path` must hold a `VariationalFit` of this version; {name} is {check.described(value)}.")
    return value


def _made(recipe) -> Network | None:
    """A network of `encoders` from its description."""
    if recipe is None:
        return None
    if isinstance(recipe, dict) and len(recipe) == 1:
        ((name, sizes),) = recipe.items()
        if name == "mlp" and isinstance(sizes, list) and sizes:
            return encoders.mlp(sizes[-1], sizes[:-1])
        if name == "conv" and isinstance(sizes, list) and len(sizes) == 3:
            return encoders.conv(sizes[0], sizes[1], sizes[2])
    raise ValueError("`path` holds a `VariationalFit` with a network that this version cannot make.")


def _given(net: Any, missing: list[str]) -> dict[str, Network]:
    """Those networks of the pair (encoder, decoder) that the file does not describe."""
    if net is None:
        raise ValueError(
            f"`net` must be given: the {' and '.join(missing)} of this fit is a network of your own, and functions are "
            "not written to files. Pass the pair (encoder, decoder) it was made with."
        )
    if not isinstance(net, tuple | list) or len(net) != 2:
        raise ValueError(f"`net` must be the pair (encoder, decoder) of the fit; got {check.described(net)}.")
    pair = dict(zip(_NETWORKS, net, strict=True))
    for name in missing:
        check.instance(f"net: {name}", pair[name], Network, maker="`variational.encoders`")
    return {name: pair[name] for name in missing}


def _restored(name: str, tree, network: Network | None):
    if not (isinstance(tree, dict) and set(tree) == {"leaves"}):
        return tree
    if network is None or network.params is None:
        raise ValueError(
            f"`net` must have parameters, whose structure those of the {name} take; got a network without. Give its "
            "adapter the module with its variables."
        )
    structure = jax.tree.structure(network.params)
    if structure.num_leaves != len(tree["leaves"]):
        raise ValueError(
            f"`net` must be the networks that the fit was made with; the {name} of the file has {len(tree['leaves'])} "
            f"arrays of parameters, the one given {structure.num_leaves}."
        )
    return jax.tree.unflatten(structure, tree["leaves"])
