"""What each training example, or group of them, tells beyond all others: leave-one-out in closed form."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Num

from ntkinfo import kernels, posterior
from ntkinfo._common import check, compiling, labels, memory, pytree, tables
from ntkinfo._numerics import eigenspaces
from ntkinfo.ensemble import Ensemble
from ntkinfo.examples import _factor, _finite_time, _groups
from ntkinfo.posterior import Posterior, predictive


@pytree.dataclass()
class GroupValue:
    """What each group of examples tells beyond all other groups. Exact. Made by `value`.

    Arrays of numbers that depend on the training time have a leading axis for it where a vector of times was given.

    Attributes:
      group: the groups' numbers in ascending order, (g,).
      size: examples in each, (g,).
      information: KL[p(f | D) ‖ p(f | D without the group)] in nats, (g,): the part of what is known that is unique to
        the group. Over whole functions for a posterior; at test inputs where given, their mean. None for an ensemble
        without test inputs.
      shared: log p(Y_g | other labels) - log p(Y_g) in nats, (g,), of a posterior: what the labels of the group and the
        others tell about each other; negative where they contradict. None for an ensemble.
      error: 0-1 error of one network trained without the group, mean over its examples, (g,); None for real labels.
    """

    group: Array
    size: Array
    information: Array | None
    shared: Array | None
    error: Array | None

    _table = tables.Table(("group",), nats="information shared", plain="size error")
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


@pytree.dataclass()
class ExampleValue:
    """What each training example tells beyond all others. Exact at infinite width. Made by `value`.

    Arrays have a leading axis for training times where a vector of them was given.

    Attributes:
      information: KL[p(f | D) ‖ p(f | D without i)] in nats, (n,). Of a posterior over whole functions; where test
        inputs were given, of the outputs there, the mean over inputs. None for an ensemble without test inputs: a
        network trained to the end is certain of the label it was given, and the divergence over whole functions is
        infinite; at finite times it is not computed.
      shared: log p(y_i | other labels) - log p(y_i) in nats, (n,), of a posterior: what the label and the others tell
        about each other; `information` + `shared` is the contribution of an example that comes first to the divergence
        from the prior, `information` alone that of one that comes last. None for an ensemble.
      residual: y_i less the mean prediction of networks trained on all others, (n, k).
      variance: of the outputs f(x_i) of such networks, (n,), without noise.
      probability: that one such network names the class given, (n,); None for real labels.
      groups: the same of groups of examples, where asked for.
    """

    information: Array | None
    shared: Array | None
    residual: Array
    variance: Array
    probability: Array | None
    groups: GroupValue | None = None

    _table = tables.Table(
        ("example", "output"),
        nats="information shared",
        plain="residual variance probability",
        where=dict.fromkeys(("information", "shared", "variance", "probability"), ("example",)),
    )
    to_dataframe = tables.to_dataframe
    __repr__ = tables.one_line
    _repr_html_ = tables.html


def value(
    source: Posterior | Ensemble,
    test: Float[ArrayLike, "m ..."] | None = None,
    groups: ArrayLike | None = None,
    *,
    t: Num[ArrayLike, "*T"] | None = None,
    batch_size: int | None = None,
) -> ExampleValue:
    """What each training example tells beyond all others, in nats, and what networks trained without it say of it.

    All n leave-one-out distributions from the one decomposition that the fit has made; nothing is trained again. With
    C = (Q + σ²I)⁻¹, v_i = 1/C_ii - σ² and r_i = (CY)_i/C_ii, for a posterior, per output,

        information_i = ½ [log(1 + v_i/σ²) - v_i/(v_i + σ²) + v_i r_i²/(v_i + σ²)²];

    for an ensemble at t = ∞ residuals are [G(Y - f₀)]_i, G = diag(1/[Θ⁻¹]_ii) Θ⁻¹, with mean GY and variances
    diag(GKGᵀ). High information together with a low probability marks labels that may be wrong. Its worth is the unit,
    and that groups have one too; the size of the residual, or the probability, ranks wrong labels as well or better.
    Information ranks them as well only where the amplitude of the prior fits the labels: divide these by the root of
    the mean of their squares in the inverse of the prior's covariance with noise, for which evidence is largest.

    Args:
      source: a posterior; or an ensemble.
      test: inputs (m, ...) of the shape trained on: the information is then that of the outputs there, averaged over
        the inputs. None takes whole functions, which only a posterior has.
      groups: integers (n,), the group of each example: each group is left out as a whole as well.
      t: training times of an ensemble, scalar or (T,), as in `Ensemble.predict`; None is infinity, the end of training.
        Networks without an example train as long as those with all. At finite times no identity helps: every ensemble
        without an example is decomposed anew.
      batch_size: rows of a block of the evaluation of kernels at test inputs; None chooses.

    Returns:
      `ExampleValue`, exact.

    Raises:
      TypeError: neither a posterior nor an ensemble; groups that are no integers; arguments that are traced.
      ValueError: one training example alone; at t = ∞ a singular tangent kernel, which was projected; times of a
        posterior, or negative ones; kernels with one row for each output; groups of another length; a single group of
        all examples; test inputs where variances vanish.

    Cost: O(n²) for a posterior, O(n³) for an ensemble or groups; with m test inputs O(m n²). At finite times O(n⁴), and
      O(m n³) for each time: for some hundreds of examples.

    Example:
      >>> post = ni.Posterior.fit(net, x, y, noise=0.1)
      >>> worth = value(post)
      >>> worth.information.shape, worth.residual.shape
      ((12,), (12, 1))

    Source: theory, section 12.
    """
    source = posterior.dense("source", source, "`value`")
    check.known("source", source)
    if isinstance(source, Posterior) and np.ndim(source.noise):
        raise ValueError(
            f"`source` must have one noise for all labels; got noise of shape {source.noise.shape}. Fit a posterior of "
            "each label: what they say of an example adds up."
        )
    if source.n < 2:
        raise ValueError("`source` must have at least two training examples, so that one can be left out; got one.")
    kernels.refuse_full("source", source.kernel_fn)
    if batch_size is not None:
        check.integer("batch_size", batch_size)
    if test is not None:
        check.known("test", test)
        test = kernels.inputs_like("test", test, source.x, source.kernel_fn)
    # The inverse of the kernel, and products of the eigenvectors.
    memory.require(
        f"`source` with n = {source.n} training inputs", 4 * source.n**2 * source.x.dtype.itemsize, "Take fewer."
    )
    grouped = None if groups is None else _groups.read(groups, source.n)
    if t is not None:
        check.known("t", t)
        if isinstance(source, Posterior):
            raise ValueError("`t` must be left out where `source` is a posterior, which is not trained.")
        t = check.times("t", t)
    read = labels.read("y", source.y, source.n)
    if t is not None and isinstance(source, Ensemble) and np.isfinite(np.asarray(t)).any():
        return _at_times(source, t, test, grouped, read, batch_size)
    if isinstance(source, Posterior):
        parts = _posterior_parts(source, test, grouped, batch_size)
    else:
        parts = _ensemble_parts(source, test, grouped, batch_size)
    information, shared, residual, variance = parts[:4]
    probability = None
    if read.classes is not None:
        probability = jnp.asarray(1 - np.asarray(_groups.error_of(source.y, residual, variance, read.classes)))
    found = None
    if grouped is not None:
        found = GroupValue(*_groups.values(source, grouped, parts[4], read))
    result = ExampleValue(information, shared, residual, variance, probability, found)
    check.finite_result("the value of an example", result, "`source` and `test`")
    if t is None or t.ndim == 0:
        return result
    # Infinity, given as a vector.
    return _with_times(result, lambda part: jnp.broadcast_to(part, (t.size, *part.shape)))


def _at_times(ens: Ensemble, t: Array, test, grouped, read, batch_size) -> ExampleValue:
    """`value` of an ensemble at times of which some are finite."""
    times = np.asarray(t, np.float64).ravel()
    if np.isinf(times).any():
        require_interpolation("source", ens)
    information, residual, variance, parts = _finite_time.values(ens, times, test, grouped, read, batch_size)
    probability = None
    if read.classes is not None:
        error = _groups.error_of(ens.y, residual, variance, jnp.asarray(read.classes))
        probability = jnp.asarray(1 - np.asarray(error))
    groups = None if parts is None else GroupValue(*parts)
    result = ExampleValue(information, None, residual, variance, probability, groups)
    check.finite_result("the value of an example", result, "`source`, `test` and `t`")
    return result if t.ndim else _with_times(result, lambda part: part[0])


def _with_times(found: ExampleValue, function) -> ExampleValue:
    """`function` of all arrays that depend on the training time."""

    def of(part):
        return None if part is None else function(part)

    groups = found.groups
    if groups is not None:
        groups = GroupValue(groups.group, groups.size, *map(of, (groups.information, groups.shared, groups.error)))
    arrays = (found.information, found.shared, found.residual, found.variance, found.probability)
    return ExampleValue(*map(of, arrays), groups)


@compiling.jit
def _of_posterior(post):
    (q, u, y_rotated, coupling), noise = post.spectrum, post.noise

    def rest(q):
        return noise / (q + noise)

    def hat(q):
        return q / (q + noise)

    # As in `Posterior.leave_one_out`: diagonals that add up to one, neither the difference of large numbers.
    rests, hats = (eigenspaces.diagonal(u, function, q, coupling) for function in (rest, hat))
    own = eigenspaces.diagonal(u, lambda q: q, q, coupling)
    residual = eigenspaces.bilinear(u, rest, q, y_rotated, coupling) / rests[:, None]
    total, k = noise / rests, post.k
    squares = jnp.sum(residual**2, axis=1) / total
    information = 0.5 * (k * (jnp.log1p(hats / rests) - hats) + hats * squares)
    y = u @ y_rotated
    before = jnp.sum(y**2, axis=1) / (own + noise)
    shared = 0.5 * (k * (jnp.log(own + noise) - jnp.log(total)) + before - squares)
    return information, shared, residual, noise * hats / rests, total


def _posterior_parts(post: Posterior, test, grouped, batch_size):
    c = None
    if _factor.usable(post):
        c = _factor.inverse(post)
        information, shared, residual, variance, total = (jnp.asarray(part) for part in _factor.parts(post, c))
    else:
        post = post.with_spectrum()
        information, shared, residual, variance, total = _of_posterior(post)
    at_test = None
    if test is not None:
        cross = getattr(kernels.kernels(post.kernel_fn, test, post.x, batch_size=batch_size), post.prior)
        prior = kernels.diagonal(post.kernel_fn, test, kernel=post.prior)
        known = predictive(post, cross, prior, False).variance
        _groups.refuse_certain(known)
        if c is None:
            weights = _weights(cross, post.eigenvectors, 1 / (post.eigenvalues + post.noise))
        else:
            weights = jnp.asarray(np.asarray(cross) @ c)
        information = _test_information(weights, residual, total, known)
        at_test = (weights, known)
    found = None if grouped is None else _groups.OfPosterior(post, c, at_test)
    return information, shared, residual, variance, found


@compiling.on_host
def _weights(xp, cross, u, inverse):
    return ((cross @ u) * inverse[None, :]) @ u.T


@compiling.on_host
def _test_information(xp, weights, residual, total, known):
    # Without example i the variance at test input j is (1 + a_ji) times as large, and the mean W_ji r_i away.
    a = weights**2 * total[None, :] / known[:, None]
    moved = xp.sum(residual**2, axis=1) / total
    k = residual.shape[1]
    return 0.5 * xp.mean(k * (xp.log1p(a) - a / (1 + a)) + a / (1 + a) * moved[None, :], axis=0)


def require_interpolation(name: str, ens: Ensemble) -> None:
    """Refuses ensembles with null directions: networks trained to the end do not meet all their labels."""
    null = int(np.sum(~(np.asarray(ens.eigenvalues) > 0)))
    if null:
        raise ValueError(
            f"`{name}` must have a tangent kernel that is not singular, since its networks are trained to the end; got "
            f"{null} null directions, which were projected out. Leave repeated inputs out, or take a "
            "`Posterior` with noise."
        )


@compiling.on_host
def _leave_one_out(xp, u, rates, nngp, y):
    inverse = 1.0 / rates
    diagonal = u**2 @ inverse
    rows = u * inverse[None, :]
    spread = xp.sum((rows @ nngp) * rows, axis=1)
    return (rows @ y) / diagonal[:, None], xp.maximum(spread, 0.0) / diagonal**2, diagonal


def leave_one_out(ens: Ensemble) -> tuple[Array, Array, Array]:
    """Residuals (n, k), variances (n,) of each output without its example at t = ∞, and [Θ⁻¹]_ii (n,)."""
    return _leave_one_out(ens.eigenvectors, ens.eigenvalues, ens.nngp_rotated, ens.y_rotated)


def _ensemble_parts(ens: Ensemble, test, grouped, batch_size):
    require_interpolation("source", ens)
    residual, variance, diagonal = leave_one_out(ens)
    information = at_test = None
    if test is not None:
        cross = ens.cross_kernels(test, batch_size=batch_size)
        known = ens.predict(test, jnp.asarray([jnp.inf]), batch_size=batch_size).variance
        known = compiling.entries(known, index=0)
        _groups.refuse_certain(known)
        influence, joint = _influence(ens.eigenvectors, ens.eigenvalues, ens.nngp_rotated, cross.ntk, cross.nngp)
        information = _ensemble_information(influence, joint, diagonal, residual, variance, known)
        at_test = (influence, joint, known)
    found = None if grouped is None else _groups.OfEnsemble(ens, at_test)
    return information, None, residual, variance, found


@compiling.on_host
def _influence(xp, u, rates, nngp_rotated, ntk, nngp):
    """A = Θ_* Θ⁻¹ (m, n), and (K_* - A K) Θ⁻¹ (m, n): minus the covariance of outputs with residuals times [Θ⁻¹]_ii."""
    inverse = 1.0 / rates[None, :]
    a = ntk * inverse
    return a @ u.T, ((nngp - a @ nngp_rotated) * inverse) @ u.T


@compiling.on_host
def _ensemble_information(xp, influence, joint, diagonal, residual, variance, known):
    k, joint = residual.shape[1], joint / diagonal[None, :]
    without = known[:, None] + influence**2 * variance[None, :] + 2 * influence * joint
    # Not below rounding of what it is the difference of.
    without = xp.maximum(without, float(jnp.finfo(known.dtype).eps) * known[:, None])
    ratio = known[:, None] / without
    moved = influence**2 * xp.sum(residual**2, axis=1)[None, :] / without
    return 0.5 * xp.mean(k * (ratio - 1 - xp.log(ratio)) + moved, axis=0)
