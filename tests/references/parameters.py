"""Kernels of correlated parameters and the divergence of the parameters, from their definitions, in plain NumPy."""

import itertools
import math

import numpy as np
from scipy.linalg import expm

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _phi(u):
    return np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)


_erf = np.vectorize(math.erf)

# An activation with its first two derivatives.
DERIVATIVES = {
    "erf": (
        _erf,
        lambda u: 2 / math.sqrt(math.pi) * np.exp(-(u**2)),
        lambda u: -4 / math.sqrt(math.pi) * u * np.exp(-(u**2)),
    ),
    "gelu": (
        lambda u: u * (1 + _erf(u / math.sqrt(2))) / 2,
        lambda u: (1 + _erf(u / math.sqrt(2))) / 2 + u * _phi(u),
        lambda u: (2 - u**2) * _phi(u),
    ),
    "sin": (np.sin, np.cos, lambda u: -np.sin(u)),
}


def moments(activation, q12, q1, q2):
    """E[φ(u)φ(v)], E[φ'(u)φ'(v)], E[φ''(u)φ''(v)] for centred Gaussian (u, v), by Gauss-Hermite quadrature."""
    u = math.sqrt(q1) * _NODES[:, None]
    v = q12 / math.sqrt(q1) * _NODES[:, None] + math.sqrt(max(q2 - q12**2 / q1, 0.0)) * _NODES[None, :]
    return [float(_WEIGHTS @ (f(u) * f(v)) @ _WEIGHTS) for f in DERIVATIVES[activation]]


def correlated(x1, x2, stds, activation):
    """K(1), K'(1) and K''(1) of dense layers with (W_std, b_std) in `stds`, entry by entry: (n1, n2) each.

    A layer maps the cross-covariance c to ρ(w²c + b²), an activation to E[φφ]; both are followed with two derivatives
    in ρ by the chain rule and E[φφ]' = E[φ'φ'].
    """
    out = np.zeros((3, len(x1), len(x2)))
    for i, a in enumerate(x1):
        for j, b in enumerate(x2):
            c, c1, c2 = a @ b / len(a), 0.0, 0.0
            qa, qb = a @ a / len(a), b @ b / len(b)
            for layer, (w, bias) in enumerate(stds):
                if layer > 0:
                    k0, k1, k2 = moments(activation, c, qa, qb)
                    qa, qb = moments(activation, qa, qa, qa)[0], moments(activation, qb, qb, qb)[0]
                    c, c1, c2 = k0, k1 * c1, k2 * c1**2 + k1 * c2
                plain, slope, bend = w**2 * c + bias**2, w**2 * c1, w**2 * c2
                qa, qb = w**2 * qa + bias**2, w**2 * qb + bias**2
                c, c1, c2 = plain, plain + slope, 2 * slope + bend
            out[:, i, j] = c, c1, c2
    return out


def convolutional(x, stds, activation):
    """The same for a circular one-dimensional convolution of 3 positions, activation, average over positions, dense.

    x: (n, positions, channels).
    """
    (w, bias), (w_out, b_out) = stds
    n, p, _ = x.shape
    out = np.zeros((3, n, n))

    def patch(a, b, i, j):
        return w**2 * sum(a[(i + o) % p] @ b[(j + o) % p] for o in (-1, 0, 1)) / 3 / x.shape[2] + bias**2

    for m, a in enumerate(x):
        for o, b in enumerate(x):
            mean = np.zeros(3)
            for i in range(p):
                for j in range(p):
                    # After the first layer the cross-covariance is ρ times that of equal parameters.
                    c = c1 = patch(a, b, i, j)
                    k0, k1, k2 = moments(activation, c, patch(a, a, i, i), patch(b, b, j, j))
                    mean += np.array([k0, k1 * c1, k2 * c1**2]) / p**2
            plain, slope, bend = w_out**2 * mean + np.array([b_out**2, 0, 0])
            out[:, m, o] = plain, plain + slope, 2 * slope + bend
    return out


def parameter_divergence(nngp, ntk, hessian, y, t):
    """Linear and curvature part of KL[p(θ_t | D) ‖ N(0, I)]: dense matrix functions, the integral over u by quadrature.

    Follows section 4 of the theory to the letter: Θ⁻¹ by solving, no eigenbasis, no closed form of the integral.
    """
    n, k = y.shape
    s, eye = t / (n * k), np.eye(n)
    weight = k * nngp + y @ y.T
    gone = eye - expm(-s * ntk)
    linear = k * (s * np.trace(ntk) - np.trace(gone)) + np.trace(weight @ np.linalg.solve(ntk, gone @ gone)) / 2
    nodes, weights = np.polynomial.legendre.leggauss(12)
    edges = np.concatenate([[0.0], s * np.geomspace(1e-4, 1, 30)])
    curvature = 0.0
    for low, high in itertools.pairwise(edges):
        for node, share in zip(nodes, weights, strict=True):
            u = (low + high) / 2 + (high - low) / 2 * node
            left = expm(-u * ntk)
            value = np.trace(weight @ left @ hessian @ np.linalg.solve(ntk, eye - left))
            curvature += share * (high - low) / 2 * value
    return linear, curvature
