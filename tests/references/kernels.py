"""Kernels of fully connected networks by the textbook recursion, entry by entry, in plain NumPy."""

import math

import numpy as np


def _erf_moments(q12, q1, q2):
    """E[erf(u) erf(v)] and E[erf'(u) erf'(v)] for centred Gaussian u, v (Williams 1997)."""
    product = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / math.pi * math.asin(2 * q12 / math.sqrt(product)), 4 / math.pi / math.sqrt(product - 4 * q12**2)


def _relu_moments(q12, q1, q2):
    """E[relu(u) relu(v)] and E[1(u > 0) 1(v > 0)]: the arc-cosine kernels of degree 1 and 0 (Cho and Saul 2009)."""
    scale = math.sqrt(q1 * q2)
    angle = math.acos(min(1.0, max(-1.0, q12 / scale)))
    return (
        scale / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * math.cos(angle)),
        (math.pi - angle) / (2 * math.pi),
    )


MOMENTS = {"erf": _erf_moments, "relu": _relu_moments}


def fully_connected(x1, x2, stds, activation):
    """NNGP and NTK, (n1, n2) each, of dense layers with (W_std, b_std) in `stds` and the activation between them.

    A pair of points is followed through the layers with both variances; equal points have angle zero exactly.
    """
    moments = MOMENTS[activation]
    nngp, ntk = np.zeros((len(x1), len(x2))), np.zeros((len(x1), len(x2)))
    for i, a in enumerate(x1):
        for j, b in enumerate(x2):
            equal = np.array_equal(a, b)
            q12, q1, q2 = (sum(u * v for u, v in zip(*p, strict=True)) / len(a) for p in ((a, b), (a, a), (b, b)))
            theta = 0.0
            for layer, (w_std, b_std) in enumerate(stds):
                if layer > 0:
                    if equal and activation == "relu":
                        derivative, q12, q1, q2 = 0.5, q12 / 2, q1 / 2, q2 / 2
                    else:
                        q12, derivative = moments(q12, q1, q2)
                        q1, q2 = moments(q1, q1, q1)[0], moments(q2, q2, q2)[0]
                    theta *= derivative
                q12, q1, q2 = (w_std**2 * q + b_std**2 for q in (q12, q1, q2))
                # In the order of a forward pass: this layer's parameters add its own covariance.
                theta = q12 + w_std**2 * theta
            nngp[i, j], ntk[i, j] = q12, theta
    return nngp, ntk
