"""Infinite width, and any other: networks of Flax, Equinox, Haiku, stax and plain functions as one type.

A `Network` is a pair (init, apply), with the parameters it has now and whatever it holds that does not train. None of
these libraries is needed by ntkinfo: an adapter takes the objects that its own library made.
"""

from ntkinfo.networks._activations import activations
from ntkinfo.networks._equinox import from_equinox
from ntkinfo.networks._flax import from_flax, from_nnx
from ntkinfo.networks._haiku import from_haiku
from ntkinfo.networks._kernel_function import kernel_function
from ntkinfo.networks._kernel_function import reason as reason
from ntkinfo.networks._kernel_function import refuse_module as refuse_module
from ntkinfo.networks._kernel_function import saw_data as saw_data
from ntkinfo.networks._network import Bound as Bound
from ntkinfo.networks._network import Network, from_apply, from_stax
from ntkinfo.networks._network import as_network as as_network
from ntkinfo.networks._network import cast as cast
from ntkinfo.networks._network import output_shape as output_shape
from ntkinfo.networks._report import NetworkReport, report

__all__ = [
    "Network",
    "NetworkReport",
    "activations",
    "from_apply",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_nnx",
    "from_stax",
    "kernel_function",
    "report",
]
