"""Bottlenecks. The information bottleneck and its family: the curve that no representation exceeds, with a certificate.

Given p(x, y), `ib` minimises I(X;Z) + β E D[p(y|x) ‖ p(y|z)] over all encoders p(z|x); `dual_ib` swaps the arguments
of the divergence, `deterministic_ib` asks for hard assignments, `gaussian_ib` is the closed form for Gaussians.

Which one? `ib` for the limit itself: the largest I(Z;Y) at each I(X;Z). `dual_ib` where Z is to predict with few
samples, or p(y|x) is an exponential family whose form the representation should keep. `deterministic_ib` for a
partition of the inputs. `gaussian_ib` where X and Y are jointly Gaussian: exact, continuous, and fast.

The searches compute in float64 whatever the dtype of the table, in which their results come back: β multiplies the
rounding of a divergence.
"""

from ntkinfo.bottleneck._confidence import ConfidenceBand, confidence_band
from ntkinfo.bottleneck._critical import bifurcation, critical_betas
from ntkinfo.bottleneck._curve import BottleneckCurve
from ntkinfo.bottleneck._deterministic import deterministic_ib
from ntkinfo.bottleneck._error_exponent import bayes_error, chernoff, prediction_exponent
from ntkinfo.bottleneck._gaussian import gaussian_curve, gaussian_ib
from ntkinfo.bottleneck._ib import dual_ib, generalised_ib, ib
from ntkinfo.bottleneck._information_curve import closest, encoder_point, hull
from ntkinfo.bottleneck._own_beta import own_beta
from ntkinfo.bottleneck._squared import squared_ib
from ntkinfo.discrete import smooth

__all__ = [
    "BottleneckCurve",
    "ConfidenceBand",
    "bayes_error",
    "bifurcation",
    "chernoff",
    "closest",
    "confidence_band",
    "critical_betas",
    "deterministic_ib",
    "dual_ib",
    "encoder_point",
    "gaussian_curve",
    "gaussian_ib",
    "generalised_ib",
    "hull",
    "ib",
    "own_beta",
    "prediction_exponent",
    "smooth",
    "squared_ib",
]
