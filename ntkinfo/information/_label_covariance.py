"""Averages over data sets: training labels with a known covariance in place of those of one data set."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import ensemble
from ntkinfo._common import check, compiling, memory
from ntkinfo._common.results import Information, full
from ntkinfo._numerics import cholesky
from ntkinfo._numerics.spectral_filters import Filters
from ntkinfo.ensemble import CrossKernels, Ensemble


def averaged(ens: Ensemble, label_covariance) -> Ensemble:
    """The ensemble with (UᵀY)(UᵀY)ᵀ replaced by its average k UᵀCU: divergences are linear in it. Checked.

    Raises:
      TypeError, ValueError: no symmetric positive semidefinite matrix (n, n).
    """
    c = _checked(ens, label_covariance)
    return dataclasses.replace(ens, y_rotated=ens.eigenvectors.T @ _root(ens.k * c))


def _checked(ens: Ensemble, label_covariance) -> Array:
    c = check.square("label_covariance", label_covariance, ens.n, ens.x.dtype)
    check.semidefinite("label_covariance", c)
    return c


@jax.custom_jvp
@compiling.jit
def _root(c):
    """R with R Rᵀ = C."""
    values, vectors = jnp.linalg.eigh(c)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]


@_root.defjvp
def _root_derivative(primals, tangents):
    """Any dR with dR Rᵀ + R dRᵀ = dC: that of `eigh` is none where eigenvalues are equal. `nan` where C is singular."""
    values, vectors = jnp.linalg.eigh(*primals)
    inverse = jnp.where(values > 0, 1 / jnp.sqrt(jnp.where(values > 0, values, 1.0)), jnp.nan)
    return _root(*primals), 0.5 * tangents[0] @ (vectors * inverse[None, :])


def learned(ens: Ensemble, cross: CrossKernels, filters: Filters) -> Float[Array, "T m n"]:
    """√k A_t C^½ for an ensemble as of `averaged`: E (μ - f₀)(μ - f₀)ᵀ is this times its transpose."""
    return ens.means(cross._replace(offset=None), filters)


def data_information(
    ens: Ensemble,
    x_test: Float[ArrayLike, "m ..."],
    t: Num[ArrayLike, "*T"],
    *,
    label_covariance: Float[ArrayLike, "n n"],
) -> Information:
    """I(Z;D|X) in nats: what the outputs of one network on a batch tell about the labels it was trained on.

    Inputs are fixed; the labels of each output are N(f₀, C), independent: C = K + σ²I where a teacher is drawn from the
    kernel and observed with noise, σ²I for noise alone. Then Z | Y ~ N(A_t Y, Σ_t) and

        I(Z;D|X) = ½ k [log det(Σ_t + A_t C A_tᵀ) - log det Σ_t].

    The average over data sets of `output_divergence(..., joint=True)` exceeds it by the divergence of the marginal of Z
    from the prior.

    Args:
      ens: the ensemble; its own labels play no part, but for their number.
      x_test: inputs, (m, ...): the outputs there together.
      t: training times, scalar or (T,), as in `Ensemble.predict`.
      label_covariance: C of the training labels of one output, (n, n), positive semidefinite; with a mean before
        training that of the labels less this mean.

    Returns:
      `Information` like `t`, exact at infinite width for such labels: 0 at t = 0; a batch never tells less than a part
      of it.

    Raises:
      TypeError: arguments of a wrong kind.
      ValueError: a covariance of another shape, not symmetric or not semidefinite; inputs of another shape than trained
        on; negative times; a covariance Σ_t singular to rounding: inputs trained on at late times, repeated inputs. The
        information is then infinite.

    Cost: O(m n²) once and O(m² n + m³) for each time.

    Example:
      >>> told = data_information(ens, x_test, [1.0, 10.0], label_covariance=jnp.eye(12))
      >>> told.value.shape, told.method
      ((2,), 'exact')

    Source: theory, section 16.
    """
    ens = ensemble.dense("ens", ens, "`data_information`")
    x_test = ens.check_inputs("x_test", x_test)
    t = check.times("t", t)
    c, m = _checked(ens, label_covariance), len(x_test)
    memory.require(
        f"`x_test` with m = {m} inputs at {t.size} times",
        t.size * m * ens.n * x_test.dtype.itemsize,
        "Take fewer inputs or times.",
    )
    cross = ens.cross_kernels(x_test, joint=True)
    basis = ens.time_basis(t, joint_with=m)
    value = _data_information(ens, c, cross, ens.rescaled_time(jnp.atleast_1d(t)), basis)
    if check.concrete(value) and not np.isfinite(np.asarray(value)).all():
        bad = np.atleast_1d(np.asarray(t))[~np.isfinite(np.asarray(value))]
        raise ValueError(
            f"The information at `x_test` is not finite at t = {bad[0]:.4g} ({bad.size} of {value.size} times): the "
            "covariance of the outputs given the labels is singular to working precision. Leave out test inputs that "
            "repeat or that were trained on, or use earlier times or float64."
        )
    value = value.reshape(t.shape)
    return Information(value, value, value, full(value, 0.0), "exact")


@compiling.jit
def _data_information(ens, c, cross, s, basis):
    filters = ens.filters(s)
    # A_t itself: means of labels that are unit vectors.
    moved = learned(dataclasses.replace(ens, y_rotated=ens.eigenvectors.T), cross, filters)

    def of_time(index, covariance):
        # log det(I + Σ⁻¹ACAᵀ) by itself, so that little information is no difference of large numbers.
        white = jax.scipy.linalg.solve_triangular(cholesky.cholesky(covariance), moved[index], lower=True)
        told = white @ c @ white.T
        total = jnp.eye(len(white), dtype=white.dtype) + 0.5 * (told + told.T)
        return jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(total))))

    return ens.k * ens.covariances(cross, filters, of_time, basis)
