"""Theory sections 1, 2, 4 and 5 in plain NumPy and SciPy, by matrix exponentials and solves; nothing of ntkinfo."""

import numpy as np
from scipy.linalg import expm


def propagator(ntk, cross_ntk, s):
    """A_t = Θ_* Θ⁻¹ (I - e^{-sΘ})."""
    decay = np.zeros_like(ntk) if np.isinf(s) else expm(-s * ntk)
    return cross_ntk @ np.linalg.solve(ntk, np.eye(len(ntk)) - decay)


def predict(nngp, ntk, cross_nngp, cross_ntk, prior, y, t):
    """Mean (m, k) and covariance (m, m) at time t."""
    a = propagator(ntk, cross_ntk, t / y.size)
    return a @ y, prior + a @ nngp @ a.T - a @ cross_nngp.T - cross_nngp @ a.T


def predict_train(nngp, ntk, y, t):
    decay = np.zeros_like(ntk) if np.isinf(t) else expm(-t / y.size * ntk)
    return y - decay @ y, decay @ nngp @ decay


def kl(mean, covariance, prior):
    """KL[N(mean, covariance ⊗ I_k) ‖ N(0, prior ⊗ I_k)]."""
    m, k = mean.shape
    solve = np.linalg.inv(prior)
    log_dets = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (k * np.trace(solve @ covariance) + np.trace(mean.T @ solve @ mean) - k * m + k * log_dets)


def parameter_distance(nngp, ntk, y, t):
    gone = np.eye(len(ntk)) - (np.zeros_like(ntk) if np.isinf(t) else expm(-t / y.size * ntk))
    return np.trace((y.shape[1] * nngp + y @ y.T) @ np.linalg.inv(ntk) @ gone @ gone)


def action(nngp, ntk, y, t, metric):
    """∫ E‖dθ/du‖² du by quadrature over u of tr[(kK + YYᵀ) Θ^p e^{-2uΘ}], p = 1 or 2: not the closed form."""
    source = y.shape[1] * nngp + y @ y.T
    power = ntk if metric == "euclidean" else ntk @ ntk
    nodes, weights = np.polynomial.legendre.leggauss(60)
    u = 0.5 * t / y.size * (nodes + 1)
    rates = [np.trace(source @ power @ expm(-2 * x * ntk)) for x in u]
    return 0.5 * t / y.size * np.dot(weights, rates)
