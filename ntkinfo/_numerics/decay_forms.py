"""Quadratic forms of e^{-sλ} for many times: the variances of an ensemble at its own training inputs.

They decay to nothing, so an expansion that is right beside the prior is not right at late times. Here functions are
taken relative to the slowest mode, e^{-s(λ - λ₁)}, in panels of neighbouring eigenvalues. Within one of them all times
need some ten functions, and products with K̃ cost n³ flops for as many functions as one panel has. What that changes is
bounded for each variance, and where the bound does not hold what is promised, it is computed by itself.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Panels of equally many eigenvalues that are tried; the cheapest is taken.
_PANELS = (1, 4, 8, 16)
# Singular values of the functions of a panel below this are left out, and what that may change of a form at most.
_TOLERANCE = {"float64": (1e-13, 1e-8), "float32": (1e-8, 1e-4)}
# Entries of what is held at once, which the cache of a processor holds.
_ENTRIES = 2**18
# Below this many times as many flops as one by one an expansion is worth its bookkeeping.
_WORTH = 0.6
# A function is lost where its square is no number beside 1; those of which this share of the modes is left are cheap.
_LOST, _FEW = 1e-150, 0.25


class Expansion(NamedTuple):
    """e^{-s_t(λ_i - λ₁)} = Σ_a c_ta b_ai, (T, n), with functions b that are zero outside of a panel.

    Attributes:
      edges: where panels begin and end, P + 1 indices.
      functions: b of each panel, (r_p, n_p) each.
      coefficients: c, (T, R) with R = Σ r_p.
      error: what is missing of each entry, (T, n).
    """

    edges: list[int]
    functions: list[np.ndarray]
    coefficients: np.ndarray
    error: np.ndarray


def relative_decay(eigenvalues: np.ndarray, s: np.ndarray) -> np.ndarray:
    """e^{-s(λ - λ₁)} of eigenvalues ascending (n,) at rescaled times s (T,), (T, n) in float64; 1 at λ₁, also at ∞."""
    above = np.asarray(eigenvalues, np.float64) - float(eigenvalues[0])
    with np.errstate(invalid="ignore"):
        exponent = np.asarray(s, np.float64)[:, None] * above[None, :]
    return np.exp(-np.where(above[None, :] > 0, exponent, 0.0))


def expansion(eigenvalues: np.ndarray, values: np.ndarray) -> Expansion | None:
    """The cheapest `Expansion` of `relative_decay` (T, n) of eigenvalues (n,); None where none is worth it."""
    n = len(eigenvalues)
    tolerance = _TOLERANCE[str(eigenvalues.dtype)][0]
    best, least = None, _WORTH * len(values) * n
    for panels in _PANELS:
        edges = [n * i // panels for i in range(panels + 1)]
        parts = []
        for start, stop in itertools.pairwise(edges):
            left, weights, right = np.linalg.svd(values[:, start:stop], full_matrices=False)
            kept = max(1, int(np.sum(weights > tolerance * np.sqrt(stop - start))))
            parts.append((left[:, :kept] * weights[:kept], right[:kept]))
        widths = np.array([len(functions) for _, functions in parts])
        # Products with K̃, with functions, and with times; in units of n² flops.
        products = 2 * np.sum(widths * np.diff(edges) * (n - np.array(edges[:-1]))) / n
        cost = products + np.sum(widths) ** 2 * (1 + 2 * min(len(values), 64) / n)
        if cost < least:
            coefficients = np.concatenate([left for left, _ in parts], axis=1)
            best, least = (edges, [functions for _, functions in parts], coefficients), cost
    if best is None:
        return None
    edges, functions, coefficients = best
    at = np.cumsum([0, *map(len, functions)])
    spanned = [coefficients[:, at[p] : at[p + 1]] @ each for p, each in enumerate(functions)]
    return Expansion(edges, functions, coefficients, np.concatenate(spanned, axis=1) - values)


def _in_turn(function: Callable, items: list) -> list:
    return [function(item) for item in items]


def forms(rows: np.ndarray, nngp_rotated: np.ndarray, found: Expansion, each: Callable = _in_turn) -> np.ndarray:
    """Σ_ij h_ti b_xi K̃_ij b_xj h_tj of the functions h that were expanded, (T, m), for rows b (m, n).

    `each(function, items)` calls it with every item, chunks of rows: in turn, or at once on several cores.
    """
    edges, dtype = found.edges, rows.dtype
    functions = [function.astype(dtype) for function in found.functions]
    at = np.cumsum([0, *map(len, functions)])
    total, n = int(at[-1]), rows.shape[1]
    # Not in fewer functions of time still: late times would be small differences of early ones.
    coefficients = found.coefficients.astype(dtype)
    result = np.empty((len(coefficients), len(rows)), dtype)
    chunk = max(8, _ENTRIES // max(total**2, n * max(map(len, functions))))

    def of_chunk(first):
        b = rows[first : first + chunk]
        gram = np.zeros((len(b), total, total), dtype)
        for p, own in enumerate(functions):
            start, stop = edges[p], edges[p + 1]
            scaled = (own[:, None, :] * b[None, :, start:stop]).reshape(-1, stop - start)
            product = (scaled @ nngp_rotated[start:stop, start:]).reshape(len(own), len(b), -1)
            product *= b[None, :, start:]
            for q in range(p, len(functions)):
                low, high = edges[q] - start, edges[q + 1] - start
                block = product[:, :, low:high].reshape(-1, high - low) @ functions[q].T
                # K̃ is symmetric: what stands below the diagonal counts with what stands above.
                gram[:, at[p] : at[p + 1], at[q] : at[q + 1]] = (1 + (q > p)) * block.reshape(
                    len(own), len(b), -1
                ).transpose(1, 0, 2)
        halves = (gram.reshape(-1, total) @ coefficients.T).reshape(len(b), total, -1)
        result[:, first : first + chunk] = np.einsum("ta,xat->tx", coefficients, halves)

    each(of_chunk, list(range(0, len(rows), chunk)))
    return result


def one_by_one(
    rows: np.ndarray, nngp_rotated: np.ndarray, functions: np.ndarray, values: np.ndarray, where: np.ndarray
):
    """Puts `forms` of functions h (T, n) as they stand into values (T, m) `where` they are wanted, (T, m).

    Each with the modes that are left of it alone.
    """
    for h, left, value, wanted in zip(functions, left_of(functions), values, where, strict=True):
        if wanted.any():
            scaled = rows[wanted, :left] * h[:left].astype(rows.dtype)
            value[wanted] = np.sum((scaled @ nngp_rotated[:left, :left]) * scaled, axis=1)


def left_of(functions: np.ndarray) -> np.ndarray:
    """How many modes, from the slowest on, functions (T, n) that fall along them have not lost, (T,)."""
    return np.sum(functions > _LOST, axis=1)


def variances(
    eigenvalues: np.ndarray, rows: np.ndarray, nngp_rotated: np.ndarray, s: np.ndarray, each: Callable = _in_turn
) -> np.ndarray | None:
    """Σ_ij h_ti b_xi K̃_ij b_xj h_tj for h = e^{-s(λ - λ₁)}, (T, m); None where it is not done in fewer flops.

    Args:
      eigenvalues: λ ascending, (n,).
      rows: b, (m, n).
      nngp_rotated: K̃, (n, n), symmetric.
      s: rescaled times, (T,).
      each: as of `forms`.

    Cost: about 12 m n² flops for any number of times, where those one by one take m n² each; those in
    which the expansion could show (`doubtful`) are computed one by one, and so are late ones, of few modes left.
    """
    functions = relative_decay(eigenvalues, s)
    many = left_of(functions) > _FEW * len(eigenvalues)
    found = expansion(eigenvalues, functions[many])
    if found is None:
        return None
    result = np.empty((len(s), len(rows)), rows.dtype)
    result[many] = forms(rows, nngp_rotated, found, each)
    alone = np.broadcast_to(~many[:, None], result.shape).copy()
    alone[many] = doubtful(rows, nngp_rotated, found, result[many], functions[many])
    one_by_one(rows, nngp_rotated, functions, result, alone)
    return result


def doubtful(rows: np.ndarray, nngp_rotated: np.ndarray, found: Expansion, values: np.ndarray, functions) -> np.ndarray:
    """Where, (T, m), what the expansion leaves out may show in a form relative to its value.

    Args:
      rows: b, (m, n).
      nngp_rotated: K̃, (n, n).
      found: the expansion.
      values: what `forms` gave.
      functions: h, what was expanded, (T, n).

    Returns:
      True where the value is not large beside the bound

          2 (Σ_i |δ_ti b_xi| √K̃_ii)(Σ_j |h_tj b_xj| √K̃_jj) + 4 eps (Σ_ai |c_ta b_ai b_xi| √K̃_ii)²

      of what is missing and of the rounding of what is there.
    """
    eps = float(np.finfo(rows.dtype).eps)
    sizes = (np.abs(rows) * np.sqrt(np.maximum(np.diagonal(nngp_rotated), 0.0))).T.astype(np.float64)
    at = np.cumsum([0, *map(len, found.functions)])
    terms = [np.abs(found.coefficients[:, at[p] : at[p + 1]]) @ np.abs(each) for p, each in enumerate(found.functions)]
    missing, whole = np.abs(found.error) @ sizes, functions @ sizes
    bound = missing * (2 * whole + missing) + 4 * eps * (np.concatenate(terms, axis=1) @ sizes) ** 2
    return bound > _TOLERANCE[str(rows.dtype)][1] * np.maximum(values, 0.0)
