"""Shared. Mutual information from samples: bins, kernel-density bounds, nearest neighbours and critics, in nats.

    binned           any variables     plug-in value of the discretised variables, with jackknife error
    binned_layer     layer activations exact for the discretisation; `quantised_layer` where values are few
    kde              layer activations bounds for activations plus Gaussian noise, nothing sampled
    ksg              few dimensions    nearest neighbours, small bias, with a standard error
    infonce          any variables     lower bound by a trained critic, with a standard error

No estimate from n samples can exceed about log n, and `infonce` the logarithm of its batch size. Each carries its own
`ceiling`; `mixture.is_saturated(information)` says when one is that high, and then it says little more. Units of
samples do not matter to `ksg`, `infonce` and `binned` by number of bins, which take each column by its own scale; they
matter to `kde` and to bins of a given width. `binned*`, `quantised_layer`, `ksg` and `infonce` start on the host and
cannot be traced.
"""

from ntkinfo.estimators._binned import binned
from ntkinfo.estimators._infonce import infonce
from ntkinfo.estimators._kde import kde, kde_pair
from ntkinfo.estimators._ksg import ksg
from ntkinfo.estimators._layers import LayerInformation, binned_layer, quantised_layer

__all__ = ["LayerInformation", "binned", "binned_layer", "infonce", "kde", "kde_pair", "ksg", "quantised_layer"]
