"""Information through a Gaussian channel in plain NumPy and SciPy loops: the independent source of the tests."""

import itertools

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm


def density(z, mean, variance):
    return sum(norm.pdf(z, mu, np.sqrt(v)) for mu, v in zip(mean, variance, strict=True)) / len(mean)


def entropy(mean, variance):
    """Differential entropy of an equal mixture of one-dimensional Gaussians, by adaptive quadrature in pieces."""

    def integrand(z):
        p = density(z, mean, variance)
        return -p * np.log(p) if p > 0 else 0.0

    sd = np.sqrt(variance)
    knots = np.unique(np.concatenate([np.asarray(mean) + c * sd for c in np.arange(-10.0, 10.5, 1.0)]))
    return sum(quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in itertools.pairwise(knots))


def entropy_fine(mean, variance):
    """The same by many small Gauss-Legendre panels: for mixtures too large for `entropy`."""
    mean, sd = np.asarray(mean), np.sqrt(variance)
    knots = np.unique(np.concatenate([mean + c * sd for c in np.arange(-10.0, 10.25, 0.5)]))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    total = 0.0
    for a, b in itertools.pairwise(knots):
        z = 0.5 * (a + b) + 0.5 * (b - a) * nodes
        u = (z[:, None] - mean[None, :]) / sd[None, :]
        p = np.sum(np.exp(-0.5 * u**2) / sd[None, :], axis=1) / np.sqrt(2 * np.pi) / mean.size
        logs = np.log(p, where=p > 0, out=np.zeros_like(p))
        total -= 0.5 * (b - a) * np.sum(weights * p * logs)
    return total


def input_information(mean, variance, of=entropy):
    return of(mean, variance) - np.mean([0.5 * np.log(2 * np.pi * np.e * v) for v in variance])


def label_information(mean, variance, labels, of=entropy):
    result = of(mean, variance)
    for c in set(labels):
        of_class = np.flatnonzero(np.asarray(labels) == c)
        result -= len(of_class) / len(mean) * of(np.asarray(mean)[of_class], np.asarray(variance)[of_class])
    return result


def log_normal(z, mean, variance):
    """log N(z; mean, variance I) of one vector."""
    squared = sum((a - b) ** 2 for a, b in zip(z, mean, strict=True))
    return -0.5 * (squared / variance + len(z) * np.log(2 * np.pi * variance))


def minibatch(mean, variance, z):
    """InfoNCE and leave-one-out from given draws z (m, n_samples, k), by their formulas."""
    m, n_samples = z.shape[:2]
    nce, leave = [], []
    for i in range(m):
        for s in range(n_samples):
            score = [log_normal(z[i, s], mean[j], variance[j]) for j in range(m)]
            others = [score[j] for j in range(m) if j != i]
            nce.append(score[i] - np.logaddexp.reduce(score) + np.log(m))
            leave.append(score[i] - np.logaddexp.reduce(others) + np.log(m - 1))
    return np.reshape(nce, (m, n_samples)), np.reshape(leave, (m, n_samples))


def bhattacharyya(mean0, variance0, mean1, variance1):
    k = len(mean0)
    squared = np.sum((mean0 - mean1) ** 2)
    average = 0.5 * (variance0 + variance1)
    return squared / (8 * average) + 0.5 * k * np.log(average / np.sqrt(variance0 * variance1))


def divergence(mean0, variance0, mean1, variance1):
    k = len(mean0)
    squared = np.sum((mean0 - mean1) ** 2)
    return 0.5 * (k * variance0 / variance1 + squared / variance1 - k + k * np.log(variance1 / variance0))


def pairwise(mean, variance, distance):
    m = len(mean)
    total = 0.0
    for i in range(m):
        terms = [np.exp(-distance(mean[i], variance[i], mean[j], variance[j])) for j in range(m)]
        total -= np.log(np.mean(terms)) / m
    return total


def winning_probabilities(mean, variance):
    """P(class c wins) at one point, by adaptive quadrature over the noise of class c."""
    sd = np.sqrt(variance)
    result = []
    for c in range(len(mean)):
        others = [mean[j] for j in range(len(mean)) if j != c]

        def integrand(g, c=c, others=others):
            return norm.pdf(g) * np.prod([norm.cdf((mean[c] - mu) / sd + g) for mu in others])

        pieces = np.arange(-10.0, 10.5, 1.0)
        result.append(sum(quad(integrand, a, b, epsabs=1e-15, epsrel=1e-13)[0] for a, b in itertools.pairwise(pieces)))
    return np.array(result)
