"""The information bottleneck of jointly Gaussian X and Y, in closed form.

With ρ_i² = 1 - λ_i the squared canonical correlations, λ_i the eigenvalues of cov(X|Y) cov(X)⁻¹ in ascending order,
mode i of Z = A X + N(0, I) is active where β > β_i = 1/ρ_i². All informations in nats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float

from ntkinfo._common import check, compiling, tables


class GaussianBottleneck(NamedTuple):
    """The optimal Gaussian representations Z = A X + N(0, I) over a grid of β. Exact; informations in nats.

    Attributes:
      beta: (...) the trade-off, as given.
      i_xz: (...) I(X;Z).
      i_zy: (...) I(Z;Y).
      lagrangian: (...) I(X;Z) + β (I(X;Y) - I(Z;Y)), the convention of the discrete bottleneck.
      projection: (..., x, x) the matrix A; row i is mode i, zero while it is inactive.
      n_active: (...) the number of active modes.
      critical_betas: (x,) where each mode sets in, ascending; infinite for a mode without correlation.
      i_xy: () I(X;Y), the limit of I(Z;Y) at infinite β.
    """

    beta: Array
    i_xz: Array
    i_zy: Array
    lagrangian: Array
    projection: Array
    n_active: Array
    critical_betas: Array
    i_xy: Array

    _table = tables.Table((), nats="i_xz i_zy lagrangian", plain="beta n_active", totals="i_xy*")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def gaussian_ib(
    cov_x: Float[ArrayLike, "x x"] | Float[ArrayLike, ""],
    cov_y: Float[ArrayLike, "y y"] | Float[ArrayLike, ""],
    cov_xy: Float[ArrayLike, "x y"] | Float[ArrayLike, ""],
    beta: ArrayLike,
) -> GaussianBottleneck:
    """The optimum of I(X;Z) - β I(Z;Y) for jointly Gaussian X and Y, in nats.

        I(X;Z) = 1/2 Σ_i log[(β - 1)(1 - λ_i)/λ_i],  I(Z;Y) = I(X;Z) - 1/2 Σ_i log[β (1 - λ_i)]

    the sums over the active modes, β_i < β. No other representation, Gaussian or not, does better.

    Args:
      cov_x: covariance of X, (x, x), or a number.
      cov_y: covariance of Y, (y, y), or a number.
      cov_xy: cross-covariance, (x, y), or a number where both are numbers.
      beta: trade-off β > 0, scalar or (B,). Finite: at infinite β I(X;Z) diverges.

    Returns:
      A `GaussianBottleneck`, exact, leading axes those of `beta`. Under tracing covariances that are none give `nan`.
      Gradients with respect to the covariances are finite where the canonical correlations differ.

    Raises:
      TypeError: arguments that are not numbers.
      ValueError: wrong shapes; covariances not symmetric or not positive definite; a joint covariance that is
        singular (a direction of X is a function of Y: its information is infinite) or not a covariance at all.

    Source: Chechik, Globerson, Tishby & Weiss (2005), theorem 3.1; theory, section 7.

    Example:
      >>> curve = gaussian_ib(1.0, 1.0, 0.8, jnp.array([1.5, 2.0, 4.0]))
      >>> [int(k) for k in curve.n_active]
      [0, 1, 1]
    """
    cov_x, cov_y, cov_xy = _covariances(cov_x, cov_y, cov_xy)
    beta = _numbers("beta", beta, cov_x.dtype)
    check.positive("beta", beta)
    lam, result = _optimum(cov_x, cov_y, cov_xy, beta)
    _check_modes(lam)
    return result


def gaussian_curve(
    cov_x: Float[ArrayLike, "x x"] | Float[ArrayLike, ""],
    cov_y: Float[ArrayLike, "y y"] | Float[ArrayLike, ""],
    cov_xy: Float[ArrayLike, "x y"] | Float[ArrayLike, ""],
    i_xz: ArrayLike,
) -> Float[Array, "..."]:
    """The largest I(Z;Y) at a given I(X;Z) for jointly Gaussian X and Y, in nats.

    One mode: I(Z;Y) = I(X;Z) - 1/2 log(λ e^{2 I(X;Z)} + 1 - λ). With k active modes
    β - 1 = exp[(2 I(X;Z) - Σ_i log((1 - λ_i)/λ_i)) / k], i = 1..k, and I(Z;Y) = 1/2 Σ_i log[(1 - 1/β)/λ_i].

    Args:
      cov_x: covariance of X, (x, x), or a number.
      cov_y: covariance of Y, (y, y), or a number.
      cov_xy: cross-covariance, (x, y), or a number.
      i_xz: I(X;Z) ≥ 0 in nats, scalar or (B,). Finite: the limit is I(X;Y), field `i_xy` of `gaussian_ib`.

    Returns:
      I(Z;Y), nats, of the shape of `i_xz`; exact. Concave and increasing in `i_xz`.

    Raises:
      TypeError, ValueError: as `gaussian_ib`; `i_xz` negative or infinite.

    Source: Chechik et al. (2005), section 5; theory, section 7.

    Example:
      >>> rho = float(jnp.sqrt(1 - jnp.exp(-0.894)))
      >>> print(f"{float(gaussian_curve(1.0, 1.0, rho, 1.0)):.4f}")
      0.3577
    """
    cov_x, cov_y, cov_xy = _covariances(cov_x, cov_y, cov_xy)
    i_xz = _numbers("i_xz", i_xz, cov_x.dtype)
    check.positive("i_xz", i_xz, zero=True)
    lam, result = _largest(cov_x, cov_y, cov_xy, i_xz)
    _check_modes(lam)
    return result


def _covariances(cov_x, cov_y, cov_xy):
    """The three covariances as matrices of one dtype, checked."""
    given = {"cov_x": cov_x, "cov_y": cov_y, "cov_xy": cov_xy}
    given = {name: check.array(name, value, ndim=(0, 2)) for name, value in given.items()}
    given = {name: value.reshape(1, 1) if value.ndim == 0 else value for name, value in given.items()}
    dtype = jnp.result_type(*given.values())
    for name in ("cov_x", "cov_y"):
        _check_covariance(name, given[name])
    wanted = given["cov_x"].shape[0], given["cov_y"].shape[0]
    if given["cov_xy"].shape != wanted:
        raise ValueError(
            f"`cov_xy` must have shape {wanted}, rows for X and columns for Y; got {given['cov_xy'].shape}."
        )
    return tuple(value.astype(dtype) for value in given.values())


def _check_covariance(name: str, value) -> None:
    if value.shape[0] != value.shape[1]:
        raise ValueError(f"`{name}` must be a square matrix; got shape {value.shape}.")
    if not check.concrete(value):
        return
    host = np.asarray(value)
    variances = np.diagonal(host)
    if not variances.min() > 0:
        raise ValueError(
            f"`{name}` must be positive definite; got a variance of {variances.min():.3g} on its diagonal. Drop the "
            "directions without variance first."
        )
    correlation = _divided(host, np.sqrt(variances), np.sqrt(variances))
    resolution = host.shape[0] * np.finfo(host.dtype).eps * np.abs(correlation).max()
    skew = np.abs(correlation - correlation.T).max()
    if skew > 10 * resolution:
        raise ValueError(
            f"`{name}` must be symmetric; got max |R - Rᵀ| = {skew:.3g} of its correlations R. Use (C + C.T) / 2."
        )
    least = np.linalg.eigvalsh(correlation)[0]
    if least <= resolution:
        raise ValueError(
            f"`{name}` must be positive definite; got smallest eigenvalue {least:.3g} of its correlations (resolution "
            f"{resolution:.1g}). Drop the directions without variance first."
        )


def _divided(covariance, row, column):
    """A covariance over standard deviations, one after the other: their product may leave the dtype."""
    return covariance / row[:, None] / column[None, :]


def _check_modes(lam) -> None:
    if check.concrete(lam):
        least, limit = float(np.asarray(lam)[0]), 100 * lam.shape[0] * float(jnp.finfo(lam.dtype).eps)
        if not least > limit:
            raise ValueError(
                "`cov_xy` must leave X uncertain given Y: the joint covariance must be positive definite; got smallest "
                f"eigenvalue {least:.3g} of cov(X|Y) cov(X)⁻¹ (resolution {limit:.1g}). Where it is 0, part of X "
                "is a function of Y and I(X;Y) is infinite: add the measurement noise to `cov_y`. "
                "Where it is negative, this is no covariance."
            )


def _numbers(name: str, value, dtype):
    value = check.values(name, value)
    if value.ndim > 1:
        raise ValueError(f"`{name}` must be a scalar or a vector; got shape {value.shape}.")
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(f"`{name}` must be a number or a vector of numbers; got dtype {value.dtype}.")
    return jnp.asarray(value, dtype)


def _modes(cov_x, cov_y, cov_xy):
    """λ ascending, ρ² = 1 - λ, and rows v_i with v_i cov_x v_j = δ_ij: the left eigenvectors.

    By correlations: information does not depend on units, which may differ by many powers of ten.
    """
    std_x, std_y = jnp.sqrt(jnp.diagonal(cov_x)), jnp.sqrt(jnp.diagonal(cov_y))
    cov_x, cov_y, cov_xy = _divided(cov_x, std_x, std_x), _divided(cov_y, std_y, std_y), _divided(cov_xy, std_x, std_y)
    half_x, half_y = jnp.linalg.cholesky(cov_x), jnp.linalg.cholesky(cov_y)
    solve = jax.scipy.linalg.solve_triangular
    whitened = solve(half_y, solve(half_x, cov_xy, lower=True).T, lower=True)
    rho2, vectors = jnp.linalg.eigh(whitened.T @ whitened)
    rho2, vectors = rho2[::-1], vectors[:, ::-1]
    return 1 - rho2, rho2, solve(half_x, vectors, lower=True, trans="T").T / std_x[None, :]


def _thresholds(rho2):
    """β_i = 1/ρ_i²; a correlation at rounding level is none."""
    none = rho2 <= rho2.shape[0] * float(jnp.finfo(rho2.dtype).eps)
    return jnp.where(none, jnp.inf, 1 / jnp.where(none, 1, rho2))


@compiling.jit
def _optimum(cov_x, cov_y, cov_xy, beta):
    """λ, and the result: one program for each size."""
    lam, rho2, directions = _modes(cov_x, cov_y, cov_xy)
    return lam, _solve(lam, rho2, directions, beta)


@compiling.jit
def _largest(cov_x, cov_y, cov_xy, i_xz):
    lam, rho2, _ = _modes(cov_x, cov_y, cov_xy)
    return lam, _invert(lam, rho2, i_xz)


def _solve(lam, rho2, directions, beta) -> GaussianBottleneck:
    critical = _thresholds(rho2)
    per_mode = (1,) * beta.ndim + critical.shape
    lam_, rho2_, critical_ = lam.reshape(per_mode), rho2.reshape(per_mode), critical.reshape(per_mode)
    active = beta[..., None] > critical_
    # Inactive modes are computed at a harmless place, so that their gradient is 0 and not nan.
    gain = jnp.where(active, (beta[..., None] * rho2_ - 1) / lam_, 1.0)
    i_x = jnp.sum(jnp.where(active, jnp.log1p(gain), 0), axis=-1) / 2
    scaled_beta = jnp.where(active, beta[..., None] * rho2_, 1.0)
    i_y = jnp.sum(jnp.where(active, jnp.log1p(gain) - jnp.log(scaled_beta), 0), axis=-1) / 2
    projection = jnp.where(active, jnp.sqrt(gain), 0)[..., None] * directions.reshape(per_mode[:-1] + directions.shape)
    i_xy = -jnp.sum(jnp.log1p(-rho2)) / 2
    n_active = jnp.sum(active, axis=-1)
    return GaussianBottleneck(beta, i_x, i_y, i_x + beta * (i_xy - i_y), projection, n_active, critical, i_xy)


def _invert(lam, rho2, i_xz):
    critical = _thresholds(rho2)
    real = jnp.isfinite(critical)
    odds = jnp.where(real, jnp.log(jnp.where(real, rho2, 1.0)) - jnp.log(lam), 0)
    total, modes = jnp.cumsum(odds), jnp.arange(1, lam.shape[0] + 1)
    # Mode k sets in where β - 1 = λ_k/(1 - λ_k); the k modes then hold I(X;Z) = onset_k.
    onset = jnp.where(real, (total - modes * odds) / 2, jnp.inf)
    active = jnp.sum(i_xz[..., None] >= onset.reshape((1,) * i_xz.ndim + onset.shape), axis=-1)
    k = jnp.maximum(active, 1)
    log_excess = (2 * i_xz - total[k - 1]) / k
    # 1/2 Σ_i log[(1 - 1/β)/λ_i], 1 - 1/β = 1/(1 + 1/excess)
    i_y = (-k * jnp.logaddexp(0.0, -log_excess) - jnp.cumsum(jnp.log(lam))[k - 1]) / 2
    return jnp.where(real[0], i_y, 0.0 * i_xz)
