import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ntkinfo import bottleneck
from ntkinfo.bottleneck import _critical, _duality_gap
from ntkinfo.bottleneck._distortion import Problem, log_decode


def toy():
    """The toy of Piran et al.: A = x, lambda = +-1."""
    x = np.linspace(-1, 0.6, 5)
    weights = np.exp(-x[:, None] * np.array([1.0, -1.0])[None])
    return weights / weights.sum(axis=1, keepdims=True) / 5


def random_joint(seed, shape=(5, 3)):
    p_xy = np.random.default_rng(seed).dirichlet(np.ones(shape[0] * shape[1]) * 0.5).reshape(shape) + 1e-4
    return p_xy / p_xy.sum()


def parts(p_xy):
    p_x = p_xy.sum(axis=1)
    return p_x, p_xy / p_x[:, None]


def divergence(rows, decoders, dual):
    a, b = rows[:, None, :], decoders[None, :, :]
    return jnp.sum(b * jnp.log(b / a) if dual else a * jnp.log(a / b), axis=-1)


def decoded(weights, rows, dual):
    return jax.nn.softmax(weights @ jnp.log(rows), axis=-1) if dual else weights @ rows


@pytest.fixture(scope="module")
def found():
    return {dual: bottleneck.critical_betas(toy(), dual=dual, beta_max=30.0) for dual in (False, True)}


def test_toy_of_the_paper(found):
    np.testing.assert_allclose(found[False].local[0], 4.3655, atol=5e-5)
    np.testing.assert_allclose(found[True].local[0], 3.2517, atol=5e-5)


def test_closed_form_of_a_one_dimensional_family(found):
    x = np.linspace(-1, 0.6, 5)
    rate = np.exp(-np.mean(x) * np.array([1.0, -1.0]))
    s = rate / rate.sum()
    variance = s @ np.array([1.0, 1.0]) - (s @ np.array([1.0, -1.0])) ** 2
    np.testing.assert_allclose(found[True].local[0], 1 / (variance * np.var(x)), rtol=1e-10)


def test_trivial_eigenvalue_is_the_squared_maximal_correlation():
    p_xy = random_joint(0)
    p_x = p_xy.sum(axis=1)
    scaled = p_xy / np.sqrt(np.outer(p_x, p_xy.sum(axis=0)))
    np.testing.assert_allclose(
        _critical.stability(Problem.from_joint(np.asarray(p_xy), False), p_x)[0],
        np.linalg.svd(scaled)[1][1] ** 2,
        rtol=1e-10,
    )


@pytest.mark.parametrize("dual", [False, True])
def test_stability_against_the_matrix_of_theory(dual):
    p_xy = random_joint(3)
    rows = parts(p_xy)[1]
    w = np.random.default_rng(0).dirichlet(np.ones(5))
    if dual:
        s = np.asarray(decoded(w, jnp.asarray(rows), True))
        logs = np.log(rows)
        covariance = (logs * s) @ logs.T - np.outer(logs @ s, logs @ s)
        centre = np.eye(5) - np.outer(np.ones(5), w)
        wanted = np.linalg.eigvals(centre @ covariance @ centre.T * w[None]).real.max()
    else:
        s = w @ rows
        wanted = np.sort(np.linalg.eigvals((rows / s) @ rows.T * w[None]).real)[-2]
    np.testing.assert_allclose(_critical.stability(Problem.from_joint(np.asarray(p_xy), dual), w)[0], wanted, rtol=1e-9)


@pytest.mark.parametrize("dual", [False, True])
def test_hessian_at_the_trivial_solution_loses_definiteness_there(dual):
    # F(encoder) = I(X;Z) + beta E D with the decoder eliminated, two clusters, by automatic differentiation.
    p_x, rows = (jnp.asarray(each) for each in parts(random_joint(1)))

    def lagrangian(tilt, beta):
        e = jnp.stack([0.5 + tilt, 0.5 - tilt], axis=1)
        joint = p_x[:, None] * e
        prior = joint.sum(axis=0)
        decoders = decoded((joint / prior[None]).T, rows, dual)
        return jnp.sum(joint * (jnp.log(e / prior[None]) + beta * divergence(rows, decoders, dual)))

    hessian = jax.jit(jax.hessian(lagrangian))
    scale = 1 / np.sqrt(np.asarray(p_x))
    critical_beta = 1 / float(_critical.stability(Problem.from_joint(p_x[:, None] * rows, dual), p_x)[0])
    for factor, sign in ((0.999, 1), (1.001, -1)):
        h = np.asarray(hessian(jnp.zeros(5), factor * critical_beta)) * scale[:, None] * scale[None]
        # A common shift of all inputs changes nothing: one eigenvalue is zero, it is left out.
        flat = np.sqrt(np.asarray(p_x))
        assert sign * np.linalg.eigvalsh(h + 10 * np.outer(flat, flat))[0] > 0


@pytest.mark.parametrize("dual", [False, True])
def test_small_perturbation_grows_above_and_shrinks_below(dual):
    p_x, rows = (jnp.asarray(each) for each in parts(random_joint(2)))
    critical_beta = 1 / float(_critical.stability(Problem.from_joint(p_x[:, None] * rows, dual), p_x)[0])
    start = decoded(p_x[None] * (1 + 1e-5 * np.random.default_rng(0).normal(size=(2, 5))), rows, dual)
    start = start / start.sum(axis=1, keepdims=True)
    for factor in (0.95, 1.05):
        s, prior, sizes = start, jnp.ones(2) / 2, []
        for _ in range(40):
            joint = p_x[:, None] * jax.nn.softmax(
                jnp.log(prior)[None] - factor * critical_beta * divergence(rows, s, dual)
            )
            prior = joint.sum(axis=0)
            s = decoded((joint / prior[None]).T, rows, dual)
            sizes.append(float(jnp.abs(s[0] - s[1]).max()))
        np.testing.assert_allclose(sizes[-1] / sizes[-2], factor, rtol=1e-3)


def test_global_before_local_and_hysteresis_of_later_splits(found):
    for dual in (False, True):
        assert found[dual].global_[0] <= found[dual].local[0] * (1 + 1e-12)
        assert list(found[dual].local_clusters) == [2, 3, 4]
        assert list(found[dual].global_clusters) == [2, 3, 4]
        # The bifurcations of this toy are all subcritical.
        assert (np.asarray(found[dual].global_) < np.asarray(found[dual].local)).all()


@pytest.mark.parametrize("dual", [False, True])
def test_first_global_against_brute_force(found, dual):
    # inf_w KL(w || p_x)/gain(w) over the tilted w of every decoder of a fine grid, at the beta reported and below.
    p_x, rows = parts(toy())
    s_0 = np.asarray(decoded(jnp.asarray(p_x), jnp.asarray(rows), dual))
    t = np.linspace(0, 1, 40_001)[1:-1]
    points = np.stack([1 - t, t], axis=1)
    saved = divergence(rows, s_0[None], dual) - divergence(rows, points, dual)
    beta = float(found[dual].global_[0])
    log_g = [float(np.log(np.max(p_x @ np.exp(factor * beta * np.asarray(saved))))) for factor in (0.9995, 1.0, 1.0005)]
    # The trivial decoder, between two points of the grid, holds G = 1: below the transition nothing else reaches it.
    assert abs(log_g[1]) < 1e-6 and log_g[0] <= 1e-9 and log_g[2] > 1e-7


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_global_on_random_joints_by_bisection(seed):
    p_xy = random_joint(seed)
    problem = Problem.from_joint(np.asarray(p_xy), False)
    local = 1 / float(_critical.stability(problem, problem.p_x)[0])
    by_ratio = _critical._first_global(problem, local)
    trivial = np.zeros(1), log_decode(problem, problem.p_x[None])
    low, high = 0.5 * by_ratio, local
    for _ in range(40):
        middle = (low + high) / 2
        profitable = float(_duality_gap.maximise(problem, middle, *trivial).log_g) > 1e-10
        low, high = (low, middle) if profitable else (middle, high)
    assert by_ratio <= local * (1 + 1e-12)
    np.testing.assert_allclose(by_ratio, high, rtol=1e-6)


def test_later_local_split_is_where_the_settled_cluster_loses_stability(found):
    # Independent of the bisection: settle two clusters just below and just above, and look at every cluster.
    p_x, rows = parts(toy())
    beta = float(found[False].local[1])
    values = []
    for factor in (1 - 1e-5, 1 + 1e-5):
        s, prior = np.stack([rows[0], rows[-1]]), np.ones(2) / 2
        for _ in range(3000):
            kernel = prior[None] * np.exp(-factor * beta * np.asarray(divergence(rows, s, False)))
            joint = p_x[:, None] * kernel / kernel.sum(axis=1, keepdims=True)
            prior = joint.sum(axis=0)
            s = (joint / prior[None]).T @ rows
        weights = (joint / prior[None]).T
        values.append(
            max(
                factor * beta * np.sort(np.linalg.eigvals((rows / q) @ rows.T * w[None]).real)[-2]
                for w, q in zip(weights, s, strict=True)
            )
        )
    assert values[0] < 1 < values[1]


def test_bifurcation_branches(found):
    beta = np.array([3.0, 4.364, 4.3652, 4.5, 13.0, 20.0])
    drawn = bottleneck.bifurcation(toy(), beta)
    assert list(drawn.upward.n_clusters) == [1, 1, 1, 2, 2, 3]
    assert list(drawn.optimum.n_clusters) == [1, 1, 2, 2, 3, 3]
    p_y = toy().sum(axis=0)
    for branch in drawn:
        # Every branch decodes the label's marginal: sum_z p(z) p(y|z) = p(y).
        total = np.nansum(np.asarray(branch.mass)[:, :, None] * np.asarray(branch.decoder), axis=1)
        np.testing.assert_allclose(total, np.tile(p_y, (6, 1)), atol=1e-6)
        assert (np.asarray(branch.n_clusters) == np.sum(np.asarray(branch.mass) > 0, axis=1)).all()


def test_independent_variables_have_none():
    none = bottleneck.critical_betas(np.full((3, 2), 1 / 6))
    assert none.local.shape == none.global_.shape == (0,)


@pytest.mark.parametrize("dual", [False, True])
def test_inputs_that_split_together_split_once(dual):
    # Each input has a label of its own, confused evenly: by symmetry all clusters set in at one β.
    n, error = 6, 0.3
    p_xy = np.full((n, n), error / (n - 1) / n)
    np.fill_diagonal(p_xy, (1 - error) / n)
    result = bottleneck.critical_betas(p_xy, dual=dual, beta_max=7.0)
    assert result.global_.shape == (1,) and list(result.global_clusters) == [n]
    p_x, rows = parts(p_xy)
    saved = divergence(rows, np.full((1, n), 1 / n), dual) - divergence(rows, rows[:1], dual)
    # At the transition the decoder of a single input has not quite reached G = 1 yet: that of some tilt of it has.
    beta = float(result.global_[0])
    assert np.log(p_x @ np.exp(beta * np.asarray(saved)[:, 0])) <= 1e-9
    assert beta < float(result.local[0])


def test_every_transition_changes_the_optimum():
    table = np.random.default_rng(2).dirichlet(np.ones(18)).reshape(6, 3) + 1e-4
    assert list(bottleneck.critical_betas(table / table.sum()).global_clusters) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("dual", [False, True])
def test_float32_tables_are_computed_in_float64(dual):
    wide, narrow = toy(), toy().astype(np.float32)
    critical, rounded = (bottleneck.critical_betas(p_xy, dual=dual, beta_max=15.0) for p_xy in (wide, narrow))
    assert rounded.local.dtype == rounded.global_.dtype == jnp.float32
    np.testing.assert_allclose(rounded.local, critical.local, rtol=1e-5)
    np.testing.assert_allclose(rounded.global_, critical.global_, rtol=1e-5)
    drawn = bottleneck.bifurcation(narrow, np.array([3.0, 20.0]), dual=dual)
    assert drawn.optimum.decoder.dtype == jnp.float32
    assert list(drawn.optimum.n_clusters) == list(
        bottleneck.bifurcation(wide, [3.0, 20.0], dual=dual).optimum.n_clusters
    )
    independent = bottleneck.critical_betas(np.outer([0.5, 0.3, 0.2], [0.4, 0.6]).astype(np.float32), dual=dual)
    assert independent.local.shape == (0,)


def test_refusals():
    with pytest.raises(ValueError, match="positive for the dual"):
        bottleneck.critical_betas(np.eye(2) / 2, dual=True)
    with pytest.raises(ValueError, match="must increase"):
        bottleneck.bifurcation(toy(), np.array([2.0, 1.0]))
    with pytest.raises(ValueError, match="beta_max"):
        bottleneck.critical_betas(toy(), beta_max=-1.0)


@pytest.mark.parametrize("dual", [False, True])
def test_the_optimum_changes_where_the_certified_bottleneck_does(dual):
    p_xy = random_joint(3, (5, 3))
    critical = bottleneck.critical_betas(p_xy, dual=dual)
    assert critical.certified.all() and len(critical.global_) == len(critical.certified) >= 2
    beta = np.asarray(critical.global_)
    solve = bottleneck.dual_ib if dual else bottleneck.ib
    counts = [solve(p_xy, beta * factor, certificate=True).n_clusters for factor in (1 - 1e-4, 1 + 1e-4)]
    after = np.asarray(critical.global_clusters)
    np.testing.assert_array_equal(counts[0], [1, *after[:-1]])
    np.testing.assert_array_equal(counts[1], after)


def test_groups_of_alike_rows_come_apart_first():
    # Two groups of six: the certificate of a solution without them must find their centres.
    q, error = 6, 0.6
    block = np.full((q, q), error / (q - 1))
    np.fill_diagonal(block, 1 - error)
    p_xy = np.kron(np.eye(2), block) / (2 * q)
    critical = bottleneck.critical_betas(p_xy, beta_max=3.0)
    np.testing.assert_allclose(critical.global_, [1.0], rtol=1e-7)  # the group is known from y: λ₂ = 1
    assert list(critical.global_clusters) == [2] and not critical.certified.any()
    drawn = bottleneck.bifurcation(p_xy, [2.0])
    assert list(drawn.optimum.n_clusters) == [2]


def test_the_proof_finds_what_the_search_overlooks():
    p_xy = random_joint(1, (5, 3))
    problem = Problem.from_joint(np.asarray(p_xy), False)
    trivial = _critical._trivial(problem)
    beta = float(bottleneck.critical_betas(p_xy, beta_max=1.6).global_[0]) * 1.01
    found = _critical._largest_g(problem, beta, trivial)
    assert found.log_g_found > 1e-6
    blind = found._replace(s=trivial.p_y_given_z[0], log_g_found=0.0, log_g_candidates=0 * found.log_g_candidates)
    proven = _critical._prove(problem, beta, trivial, blind, 1e-8)
    np.testing.assert_allclose(proven.log_g_found, found.log_g_found, atol=1e-8)
    assert proven.bound >= found.log_g_found
    np.testing.assert_allclose(proven.s, found.s, atol=1e-3)


def test_where_y_is_a_function_of_x_all_labels_come_apart_at_one():
    p = np.array([0.1, 0.2, 0.3, 0.15, 0.25])[:, None] * np.eye(3)[[0, 1, 1, 2, 0]]
    for table in (p, p.astype(np.float32), np.eye(60) / 60):
        critical, n = bottleneck.critical_betas(table), table.shape[1]
        assert critical.local.tolist() == critical.global_.tolist() == [1.0] and critical.local.dtype == table.dtype
        assert critical.local_clusters.tolist() == critical.global_clusters.tolist() == [n]
        assert critical.certified.tolist() == [True]
    assert len(bottleneck.critical_betas(p, beta_max=0.9).local) == 0
    # The branches are followed, and end there as well.
    branches = bottleneck.bifurcation(np.eye(4) / 4, np.array([0.5, 1.1, 1.5]))
    assert branches.upward.n_clusters.tolist() == branches.optimum.n_clusters.tolist() == [1, 4, 4]


@pytest.mark.filterwarnings("error")
def test_parts_without_a_common_label_come_apart_at_one_and_split_as_each_alone():
    e = 0.1
    p = scipy.linalg.block_diag([[0.2 * (1 - e), 0.2 * e], [0.2 * e, 0.2 * (1 - e)]], 0.3, 0.3)
    local = _critical._transitions(Problem.from_joint(p, False), 1.0, 3.0, optimal=False)
    np.testing.assert_allclose([each.beta for each in local], [1.0, 1 / (1 - 2 * e) ** 2], rtol=1e-7)
    assert [each.n_clusters for each in local] == [3, 4]
