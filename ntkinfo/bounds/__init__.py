"""Infinite width. Generalization bounds: functions of plain numbers, each a theorem with its assumptions.

They take numbers or arrays that broadcast, and return float64 arrays computed on the host, whatever the precision of
JAX. A vacuous value (a risk above 1, a gap above 1) is returned as it is, never clipped.

Which bound may I use?

| function | you have | it bounds | holds | what it asks for |
| --- | --- | --- | --- | --- |
| `pac_bayes_kl` | training risk of a random network, KL to a prior | its true risk | with probability 1 - δ, for all posteriors at once | loss in [0, 1], i.i.d. data, a prior that did not see them |
| `mcallester` | the same | the same; never sharper, but in closed form | the same | the same |
| `catoni` | the same, perhaps a temperature chosen beforehand | the same; with the right temperature a little sharper | the same | the same; the temperature is paid for by a union over a grid unless given |
| `information_content` | the prior probability of all training labels | true risk of a prior network given that it fits them all | with probability 1 - δ | training error 0, labels a function of the input, the posterior the prior restricted |
| `xu_raginsky` | I(Θ;D), an average over data sets | the expected gap | on average over data sets | sub-Gaussian loss; one data set's KL is no substitute for its average |
| `conditional_compression` | p(z, y) of a representation of finitely many values | the expected gap of any decoder on it | on average over data sets | loss in [0, 1]; an encoder that did not see the data, or I(encoder; data) |
| `input_compression` | I(X;Z) | the gap, up to an unproven step | heuristically | a finite set of typical inputs; it ranks representations, it certifies none |

The KL is one between distributions of whole networks: `ntkinfo.Posterior.kl`, or the parameters' divergence of an
ensemble. The divergence of the outputs on a batch is smaller and gives no bound. All divergences are in nats.

A prior is the kernel, its scales and the inputs' scaling, not the noise of a posterior. Pass the `ntkinfo.Posterior`
itself where a divergence is asked for: one whose prior saw the data (`prior_saw_data`) is refused. A prior chosen with
the data from K fixed ones costs log K nats: `priors`. Independent examples are more than distinct ones: leaving repeated
inputs out, or drawing without replacement from a finite pool, keeps to the theorems only nearly.

Source: theory, section 6.
"""  # noqa: E501

from ntkinfo.bounds._binary_kl import binary_kl, binary_kl_inverse
from ntkinfo.bounds._bounds import (
    FORMS,
    TEMPERATURES,
    catoni,
    information_content,
    input_compression,
    mcallester,
    pac_bayes_kl,
    xu_raginsky,
)
from ntkinfo.bounds._conditional_compression import conditional_compression

__all__ = [
    "FORMS",
    "TEMPERATURES",
    "binary_kl",
    "binary_kl_inverse",
    "catoni",
    "conditional_compression",
    "information_content",
    "input_compression",
    "mcallester",
    "pac_bayes_kl",
    "xu_raginsky",
]
