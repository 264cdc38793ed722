"""Shared. Mutual information and entropies from samples: counts and bins, kernel-density bounds, neighbours, critics.

    compare               any variables     what all that fit these samples say, side by side: start here
    significance          any variables     whether there is information at all, by shuffling
    extrapolate           any variables     the bias against 1/n, and what is left without it
    binned, conditional   any variables     counts of the discretised variables, bias corrected by name, jackknife error
    binned_layer          layer activations exact for the discretisation; `quantised_layer` where values are few
    kde                   layer activations bounds for activations plus Gaussian noise, nothing sampled
    ksg                   few dimensions    nearest neighbours, small bias, with a standard error
    infonce               any variables     lower bound by a trained critic, with a standard error
    entropy               discrete          by counting, bias corrected by name
    differential_entropy  few dimensions    nearest neighbours

Floats are quantities; integers and text are labels, taken as they are. Results are in nats, or in bits with
`unit="bits"`. No estimate from n samples can exceed about log n, and `infonce` the logarithm of its batch size. Each
carries its own `ceiling`; `mixture.is_saturated(information)` says when one is that high, and then it says little more.
Units of samples do not matter to `ksg`, `infonce` and `binned` by number of bins, which take each column by its own
scale; they matter to `kde` and to bins of a given width. All but `kde` start on the host and cannot be traced.
"""

from ntkinfo.estimators._binned import binned, conditional
from ntkinfo.estimators._compare import Comparison, compare
from ntkinfo.estimators._entropy import differential_entropy, entropy
from ntkinfo.estimators._extrapolate import Extrapolation, extrapolate
from ntkinfo.estimators._infonce import infonce
from ntkinfo.estimators._kde import kde, kde_pair
from ntkinfo.estimators._ksg import ksg
from ntkinfo.estimators._layers import LayerInformation, binned_layer, layer_cells, quantised_layer
from ntkinfo.estimators._significance import Significance, significance

__all__ = [
    "Comparison",
    "Extrapolation",
    "LayerInformation",
    "Significance",
    "binned",
    "binned_layer",
    "compare",
    "conditional",
    "differential_entropy",
    "entropy",
    "extrapolate",
    "infonce",
    "kde",
    "kde_pair",
    "ksg",
    "layer_cells",
    "quantised_layer",
    "significance",
]
