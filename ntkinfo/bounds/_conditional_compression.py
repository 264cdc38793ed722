"""What a decoder can overfit on a representation of finitely many values, beside what its encoder knows of the data."""

import numpy as np
from jaxtyping import ArrayLike, Float, Num

from ntkinfo._common import check
from ntkinfo._common.check import real_numbers as numbers
from ntkinfo.bounds._bounds import _size


def conditional_compression(
    p_zy: Float[ArrayLike, "z y"], *, n: Num[ArrayLike, "..."], information: Num[ArrayLike, "..."] = 0.0
) -> Float[np.ndarray, "..."]:
    """Bound on the expected gap E[L - L̂] of any decoder on Z: ½ Σ E|p̂(z,y) - p(z,y)| + √(I(φ;S)/(2n)).

    p̂ are shares of n independent examples, whose mean deviation is that of a binomial. The first term is the most that
    a decoder chosen with the data gains on an encoder fixed before them, for the worst loss. It is at most
    ½ Σ_y √(p(y)/n) exp(½ H_½(Z|Y=y)), H_½ Rényi's entropy: exponential in what Z keeps of X beyond Y, of which
    I(X;Z|Y) = I(X;Z) - I(Z;Y) is the Shannon form for a deterministic encoder. The second term pays for the
    encoder φ, where it was trained on the same n examples S.

    This is our own derivation, in the form of the bound of Kawaguchi et al. (information kept at fixed label, and
    information of the encoder about the data). It is not their theorem, whose constants depend on the encoder. Without
    such constants √(I(X;Z|Y)/n) is no bound: a decoder that remembers every example exceeds any multiple of it.

    Assumes n independent examples of the distribution that p(z, y) is of (known exactly, not counted in the same data);
    a loss in [0, 1] that sees X through Z only; Z of finitely many values, so that bins are part of the network. For
    encoders that differ between data sets, average the first term over them.

    Args:
      p_zy: p(z, y), (Z, Y), sums to 1; cells of probability 0 are welcome.
      n: number of training examples, at least 1.
      information: I(φ;S) in nats, from 0 to infinity, or an upper bound on it, averaged over data sets as in
        `xu_raginsky`; 0 for an encoder that did not see the examples, such as layers as they were drawn, or trained on
        others.

    Returns:
      Array of the broadcast shape of `n` and `information`, in units of the loss; an upper bound on the average over
      data sets, above 1 when vacuous.

    Raises:
      TypeError, ValueError: no table of probabilities, not numbers, NaN, or outside the ranges above.

    Source: theory, section 6; after Kawaguchi et al. 2023 (arXiv 2305.18887); de Moivre for the binomial.

    Example:
      >>> round(float(conditional_compression(np.array([[0.4, 0.1], [0.1, 0.4]]), n=100)), 4)
      0.0627
    """
    check.known("p_zy", p_zy)
    check.probabilities("p_zy", p_zy, 2, axis=None)
    p = np.asarray(check.native("p_zy", p_zy, 2), np.float64)
    n, information = np.broadcast_arrays(_size(n), numbers("information", information, 0))
    p = np.unique(p[p > 0] / p.sum(), return_counts=True)
    deviation = np.array([_mean_deviation(p[0], size) @ p[1] for size in n.ravel()]).reshape(n.shape)
    return deviation / 2 + np.sqrt(information / (2 * n))


def _mean_deviation(p, n):
    """E|B/n - p| of a binomial B of n draws: 2p(1 - p) P(the integer part of np, in n - 1 draws)."""
    from scipy.stats import binom

    return 2 * p * (1 - p) * binom.pmf(np.minimum(np.floor(n * p), n - 1), n - 1, p)
