"""The bottleneck family: against plain iterations, closed forms, brute force and its own certificate."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import bottleneck
from ntkinfo._common import memory
from ntkinfo.bottleneck import _distortion, _partitions, _solver, _sweeps
from ntkinfo.bottleneck._distortion import Problem

TOY_FEATURE, TOY_MULTIPLIER = np.linspace(-1, 0.6, 5), np.array([1.0, -1.0])
TOY = np.exp(-TOY_FEATURE[:, None] * TOY_MULTIPLIER[None])
TOY = TOY / TOY.sum(1, keepdims=True) / 5
TOY_BETA = np.array([64.0, 16.0, 8.0, 4.0])


def joint(x, y, seed=0):
    table = (
        np.random.default_rng(seed).dirichlet(np.ones(y), x)
        * np.random.default_rng(seed + 1).dirichlet(np.full(x, 5.0))[:, None]
    )
    return table / table.sum()


def plain(p_xy, beta, dual, sweeps):
    """The self-consistent equations in NumPy from Z = X: encoder, and I(X;Z) + β E D after every sweep."""
    p_x = p_xy.sum(1)
    rows = p_xy / p_x[:, None]
    encoder, values = np.eye(len(p_x)), []
    for _ in range(sweeps):
        p_z = p_x @ encoder
        keep = p_z > 1e-200
        encoder, p_z = encoder[:, keep], p_z[keep]
        weights = (p_x[:, None] * encoder / p_z[None]).T
        if dual:
            s = np.exp(weights @ np.log(rows))
            s /= s.sum(1, keepdims=True)
            d = np.array([[np.sum(q * np.log(q / p)) for q in s] for p in rows])
        else:
            s = weights @ rows
            d = np.array([[np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])) for q in s] for p in rows])
        joint_xz = p_x[:, None] * encoder
        some = joint_xz > 0
        rate = np.sum(joint_xz[some] * np.log((encoder / p_z[None])[some]))
        values.append(rate + beta * np.sum(joint_xz * d))
        encoder = p_z[None] * np.exp(-beta * d)
        encoder /= encoder.sum(1, keepdims=True)
    return encoder, np.array(values)


def count_table():
    """Multinomial counts of few groups of alike inputs, many of them zero, as probabilities, (40, 3)."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(3, 0.3), 5)[rng.integers(5, size=40)] * rng.dirichlet(np.full(40, 2.0))[:, None]
    p = 0.9 * p / p.sum() + 0.1 * rng.dirichlet(np.ones(120)).reshape(40, 3)
    return rng.multinomial(400, p.ravel() / p.sum()).reshape(40, 3) / 400


@pytest.fixture(scope="module")
def toy():
    options = {"certificate": True}
    return bottleneck.ib(TOY, TOY_BETA, **options), bottleneck.dual_ib(
        TOY, TOY_BETA, features=TOY_FEATURE[:, None], multipliers=TOY_MULTIPLIER[:, None], **options
    )


@pytest.fixture(scope="module")
def certified():
    p_xy = joint(12, 3)
    return p_xy, bottleneck.ib(p_xy, np.geomspace(1.2, 200, 20), certificate=True)


def test_the_published_toy(toy):
    found = [np.stack([c.i_xz / np.log(5), c.i_zy / c.i_xy], 1) for c in toy]
    np.testing.assert_allclose(found[0], [[0.8869, 0.9819], [0.4156, 0.787], [0.2551, 0.6061], [0, 0]], atol=6e-5)
    np.testing.assert_allclose(
        found[1], [[0.8884, 0.9817], [0.425, 0.7936], [0.2764, 0.6385], [0.0912, 0.2536]], atol=6e-5
    )
    assert float(toy[0].i_xy) == pytest.approx(0.12260, abs=1e-5)


@pytest.mark.parametrize("dual", [False, True])
def test_plain_iterations_come_to_the_same_value_from_above(toy, dual):
    for i, beta in enumerate(TOY_BETA[:3]):
        values = plain(TOY, beta, dual, 2000)[1]
        assert (np.diff(values) < 1e-13).all()
        curve = toy[dual]
        assert -1e-13 < values[-1] - float(curve.lagrangian[i]) < 1e-9
        assert float(curve.lagrangian[i]) - float(curve.gap[i]) <= values[-1]


def test_every_point_of_a_random_joint_is_certified(certified):
    p_xy, curve = certified
    assert float(curve.gap.max()) < 1e-9
    assert bool(curve.converged.all()) and bool(curve.on_hull.all()) and bool(curve.strictly_concave)
    order = np.asarray(curve.beta)[[4, 12, 19]]
    for beta in order:
        i = int(np.argmin(np.abs(np.asarray(curve.beta) - beta)))
        assert plain(p_xy, beta, False, 300)[1][-1] > float(curve.lagrangian[i]) - 1e-9


def test_a_wrong_solution_does_not_pass_the_certificate():
    problem = Problem.from_joint(joint(12, 3), False)
    beta = np.array([50.0])
    wrong = _solver.single_cluster(problem, beta)
    excess = wrong.free_energy[0] - bottleneck.ib(joint(12, 3), beta).lagrangian[0]
    gaps, _ = _solver._gaps(problem, beta, wrong)
    assert gaps[0] >= float(excess) > 0.1


def test_the_slope_of_the_free_energy_is_the_mean_distortion(certified):
    p_xy, _ = certified
    for beta in (12.0, 90.0):
        near = bottleneck.ib(p_xy, beta * np.array([1 - 1e-4, 1, 1 + 1e-4]))
        slope = float(near.lagrangian[2] - near.lagrangian[0]) / (2e-4 * beta)
        mean = float((near.lagrangian[1] - near.i_xz[1]) / beta)
        assert slope == pytest.approx(mean, rel=1e-5)


def test_data_processing_and_the_two_ends(certified):
    p_xy, curve = certified
    i_xz, i_zy = np.asarray(curve.i_xz), np.asarray(curve.i_zy)
    assert (i_zy <= i_xz + 1e-12).all() and (i_zy <= float(curve.i_xy) + 1e-12).all()
    assert (np.diff(i_xz) > -1e-9).all() and (np.diff(i_zy) > -1e-9).all()
    ends = bottleneck.ib(p_xy, np.array([0.9, 1e6]))
    np.testing.assert_allclose(ends.i_xz, [0, float(curve.h_x)], atol=1e-9)
    np.testing.assert_allclose(ends.i_zy, [0, float(curve.i_xy)], atol=1e-9)
    assert list(ends.n_clusters) == [1, 12]
    # Deterministic functions of the returned arrays: the encoder's own point is the point reported.
    for i in (3, 15):
        point = bottleneck.encoder_point(p_xy, np.asarray(curve.encoder[i]))
        np.testing.assert_allclose(point, (i_xz[i], i_zy[i]), rtol=1e-9, atol=1e-12)


def test_the_binary_symmetric_channel_has_the_curve_of_mrs_gerber():
    """X a fair bit, Y through a channel of crossover e: I(X;Z) = log 2 - h(d), I(Z;Y) = log 2 - h(d * e)."""

    def h(p):
        return -p * np.log(p) - (1 - p) * np.log(1 - p)

    e = 0.1
    curve = bottleneck.ib(np.array([[1 - e, e], [e, 1 - e]]) / 2, np.array([1.7, 2.5, 6.0]), certificate=True)
    assert float(curve.gap.max()) < 1e-12
    d = np.array([float(np.sort(np.asarray(each).ravel())[0]) for each in curve.encoder])
    through = d * (1 - e) + (1 - d) * e
    np.testing.assert_allclose(curve.i_xz, np.log(2) - h(d), atol=1e-9)
    np.testing.assert_allclose(curve.i_zy, np.log(2) - h(through), atol=1e-9)


def test_merged_inputs_change_nothing_and_get_equal_encoders():
    p_xy = joint(5, 3)
    twice = np.concatenate([0.3 * p_xy, 0.7 * p_xy])
    one, two = bottleneck.ib(p_xy, [20.0, 60.0]), bottleneck.ib(twice, [20.0, 60.0])
    np.testing.assert_allclose(one.lagrangian, two.lagrangian, rtol=1e-12)
    np.testing.assert_array_equal(two.encoder[:, :5], two.encoder[:, 5:])
    np.testing.assert_allclose(bottleneck.encoder_point(twice, np.asarray(two.encoder[1]))[1], two.i_zy[1], rtol=1e-9)


def test_the_exponential_family_keeps_its_form(toy):
    curve = toy[1]
    decoder = np.exp(-np.asarray(curve.features) @ TOY_MULTIPLIER[None])
    decoder /= decoder.sum(2, keepdims=True)
    used = np.asarray(curve.prior) > 0
    np.testing.assert_allclose(decoder[used], np.asarray(curve.decoder)[used], atol=1e-12)
    assert (np.asarray(curve.i_zy_model) != np.asarray(curve.i_zy)).any()
    np.testing.assert_allclose(toy[0].i_zy_model, toy[0].i_zy, atol=1e-12)


def partitions(n):
    """All partitions of n inputs as vectors of cluster numbers."""
    for labels in itertools.product(range(n), repeat=n):
        if all(labels[i] <= max(labels[:i], default=-1) + 1 for i in range(n)):
            yield np.array(labels)


def test_the_deterministic_bottleneck_is_the_best_partition():
    beta = np.array([2.0, 8.0, 20.0, 60.0])
    for seed in range(4):
        p_xy = joint(6, 3, 10 * seed)
        curve = bottleneck.deterministic_ib(p_xy, beta)
        best = np.full(len(beta), np.inf)
        for labels in partitions(6):
            p_zy = np.array([p_xy[labels == z].sum(0) for z in range(6)])
            p_z = p_zy.sum(1)
            h_z = -sum(p * np.log(p) for p in p_z if p > 0)
            i_zy = sum(p * np.log(p / (p_z[z] * p_xy[:, y].sum())) for (z, y), p in np.ndenumerate(p_zy) if p > 0)
            best = np.minimum(best, h_z + beta * (float(curve.i_xy) - i_zy))
        np.testing.assert_allclose(curve.lagrangian, best, rtol=1e-10)
        assert set(np.unique(curve.encoder)) <= {0.0, 1.0}


@pytest.mark.parametrize("start", [np.arange(14), np.zeros(14, int)], ids=["all apart", "all together"])
def test_what_each_step_of_the_deterministic_search_changes_is_all_that_changes(start):
    p_xy, beta = joint(14, 4, 3), 15.0
    kept, n_steps = _partitions._Partition(p_xy, beta, start), 0
    while True:
        anew = _partitions._Partition(p_xy, beta, kept.assignment)
        if kept.n_clusters == kept.n_slots:
            kept = anew
        np.testing.assert_allclose(kept.cost.sum(), anew.cost.sum(), rtol=1e-13)
        np.testing.assert_allclose(kept.best()[0], anew.best()[0], rtol=1e-10, atol=1e-14)
        lowered, *step = kept.best()
        if lowered > -1e-12:
            break
        before, n_steps = kept.cost.sum(), n_steps + 1
        kept.step(*step)
        np.testing.assert_allclose(kept.cost.sum() - before, lowered, atol=1e-13)
    assert n_steps >= 2


def test_the_family_reaches_from_one_bottleneck_to_the_other():
    p_xy, beta = joint(6, 3), np.array([10.0, 40.0])
    ends = bottleneck.ib(p_xy, beta), bottleneck.deterministic_ib(p_xy, beta)
    between = [bottleneck.generalised_ib(p_xy, beta, alpha).lagrangian for alpha in (1.0, 0.5, 0.0)]
    np.testing.assert_allclose(between[0], ends[0].lagrangian, rtol=1e-12)
    np.testing.assert_allclose(between[2], ends[1].lagrangian, rtol=1e-12)
    assert (np.asarray(between[0]) <= between[1]).all() and (np.asarray(between[1]) <= between[2] + 1e-12).all()


def test_fewer_clusters_and_restarts(certified):
    p_xy, curve = certified
    two = bottleneck.ib(p_xy, curve.beta, n_clusters=2)
    assert two.encoder.shape[2] == 2
    assert (np.asarray(two.lagrangian) >= np.asarray(curve.lagrangian) - 1e-9).all()
    again = bottleneck.ib(p_xy, curve.beta[8:10], restarts=2, key=jax.random.key(0))
    assert (np.asarray(again.lagrangian) >= np.asarray(curve.lagrangian)[8:10] - 1e-9).all()


def test_where_y_is_a_function_of_x_the_squared_lagrangian_traces_the_line():
    p_xy = np.zeros((6, 3))
    p_xy[np.arange(6), np.arange(6) % 3] = [0.1, 0.2, 0.1, 0.2, 0.2, 0.2]
    h_y = -np.sum(p_xy.sum(0) * np.log(p_xy.sum(0)))
    assert not bool(bottleneck.ib(p_xy, [0.5, 2.0]).strictly_concave)
    beta = np.array([0.4, 1.0, 1.8, 4.0])
    curve = bottleneck.squared_ib(p_xy, beta)
    # On the line I(Z;Y) = I(X;Z) the optimum is β/2, up to H(Y).
    np.testing.assert_allclose(curve.i_xz, np.minimum(beta / 2, h_y), atol=1e-9)
    np.testing.assert_allclose(curve.i_zy, curve.i_xz, atol=1e-9)


def test_points_below_the_curve_find_their_beta_and_distance(certified):
    _, curve = certified
    i, step = 12, 0.01
    beta = float(curve.beta[i])
    normal = step * np.array([1, -beta]) / np.hypot(1, beta)
    found = bottleneck.closest(curve, float(curve.i_xz[i]) + normal[0], float(curve.i_zy[i]) + normal[1])
    # The curve is known by chords, which lie a little below it: the nearest point is on one beside the vertex.
    assert step * (1 - 1e-4) < float(found.distance) <= step
    assert float(curve.beta[i - 1]) < float(found.beta) < float(curve.beta[i + 1])
    assert float(found.deficit) > step
    on = bottleneck.closest(curve, curve.i_xz, curve.i_zy)
    np.testing.assert_allclose(on.distance, 0, atol=1e-12)
    late = bottleneck.closest(curve, [float(curve.h_x) + 1], [float(curve.i_xy) - 0.02])
    np.testing.assert_allclose([*late.distance, *late.deficit], 0.02, rtol=1e-9)
    assert np.isinf(late.beta).all()


def test_distances_on_both_sides_of_the_curve_are_those_of_a_search(certified, rng):
    _, curve = certified
    x, y = bottleneck.hull(curve)
    x, y = np.append(x, x[-1] + 2), np.append(y, y[-1])
    share = np.linspace(0, 1, 2001)[:, None]
    edges = [(v[:-1] + share * np.diff(v)).ravel() for v in (x, y)]
    points = rng.uniform((0, 0), (float(curve.h_x) + 0.5, float(curve.i_xy) + 0.4), (40, 2))
    least = np.min(
        np.hypot(*(edge[None] - point[:, None] for edge, point in zip(edges, points.T, strict=True))), axis=1
    )
    above = points[:, 1] > np.interp(points[:, 0], x, y)
    assert 10 < above.sum() < 35
    found = bottleneck.closest(curve, *points.T)
    np.testing.assert_allclose(found.distance, np.where(above, -least, least), rtol=1e-4, atol=1e-6)


def test_independent_variables_have_nothing_to_keep():
    curve = bottleneck.ib(np.outer([0.5, 0.3, 0.2], [0.4, 0.6]), [2.0, 1e3], certificate=True)
    np.testing.assert_allclose(curve.i_xz, 0, atol=1e-12)
    assert list(curve.n_clusters) == [1, 1]


def test_float32_tables_get_float64_accuracy_and_float32_results():
    p_xy = joint(5, 3).astype(np.float32)
    curve = bottleneck.ib(p_xy, np.float32(40.0), certificate=True)
    assert curve.lagrangian.dtype == jnp.float32
    assert float(curve.gap[0]) < 1e-9
    np.testing.assert_allclose(curve.lagrangian, bottleneck.ib(joint(5, 3), 40.0).lagrangian, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bottleneck.ib(TOY, 0.0), ValueError, "`beta` must be positive"),
        (lambda: bottleneck.ib(TOY, [2.0, -1.0]), ValueError, "`beta` must be positive and finite; got -1"),
        (
            lambda: bottleneck.ib(2 * TOY, 2.0),
            ValueError,
            "`p_xy` must hold probabilities that sum to 1; got min=.*sum=2",
        ),
        (lambda: bottleneck.ib(TOY, 2.0, n_clusters=6), ValueError, "at most the number of inputs, 5; got 6"),
        (lambda: bottleneck.ib(TOY, 2.0, n_clusters=2, certificate=True), ValueError, "`certificate` must be False"),
        (lambda: bottleneck.ib(TOY, 2.0, restarts=1), ValueError, "`key` must be given"),
        (lambda: bottleneck.ib(TOY, 2.0, tolerance=1e308), ValueError, r"`tolerance` must lie in \(0, 1\)"),
        (lambda: bottleneck.dual_ib(TOY, 2.0, tolerance=1.0), ValueError, r"`tolerance` must lie in \(0, 1\)"),
        (
            lambda: jax.eval_shape(lambda e: bottleneck.encoder_point(TOY, e), np.eye(5)),
            TypeError,
            "`encoder` is being",
        ),
        (lambda: bottleneck.dual_ib(np.eye(2) / 2, 2.0), ValueError, "smooth"),
        (lambda: bottleneck.dual_ib(TOY, 2.0, features=np.ones((5, 1))), ValueError, "given together"),
        (
            lambda: bottleneck.dual_ib(TOY, 2.0, features=np.ones((5, 1)), multipliers=np.ones((2, 1))),
            ValueError,
            "must give p",
        ),
        (lambda: bottleneck.generalised_ib(TOY, 2.0, 1.5), ValueError, r"`alpha` must lie in \[0, 1\]"),
        (lambda: bottleneck.generalised_ib(TOY, 2.0, 1e-308), ValueError, "`alpha` must be 0, or at least 1e-100"),
        (
            lambda: bottleneck.encoder_point(TOY, np.ones((5, 2))),
            ValueError,
            "`encoder` must hold probabilities that sum to 1 in every row",
        ),
        (lambda: jax.jit(lambda b: bottleneck.ib(TOY, b))(2.0), ValueError, "outside `jit`"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_names_promised_are_there():
    for name in ("ib", "deterministic_ib", "dual_ib", "critical_betas", "gaussian_ib"):
        assert callable(getattr(ni.bottleneck, name))


def test_a_cluster_of_many_alike_rows_is_found():
    """Two groups of classes that are confused evenly: at one β alone the centre of a group lies in no row's basin."""
    q, e = 16, 0.6
    block = np.full((q, q), e / (q - 1))
    np.fill_diagonal(block, 1 - e)
    p_xy = np.kron(np.eye(2), block) / (2 * q)
    curve = bottleneck.ib(p_xy, np.array([4.6]), certificate=True)
    # The partition in the two groups is one of the representations.
    groups = np.log(2) + 4.6 * (float(curve.i_xy) - np.log(2))
    assert float(curve.lagrangian[0]) <= groups + 1e-9
    assert not curve.certified[0]


def test_what_is_proven_says_so(certified, rng):
    assert bool(certified[1].certified.all())
    for labels, proven in ((2, True), (4, True), (5, False)):
        curve = bottleneck.ib(rng.dirichlet(np.ones(5 * labels)).reshape(5, labels), np.array([3.0]), certificate=True)
        assert bool(curve.certified.all()) is proven
    assert bottleneck.ib(TOY, 2.0).certified is None


@pytest.mark.parametrize(
    ("dual", "betas"), [(False, [5.888547304130838, 8.305698296492611]), (True, [36.34241185664282])]
)
def test_one_beta_alone_reaches_what_a_grid_and_the_certificate_reach(dual, betas):
    table = count_table()
    table, method = (bottleneck.smooth(table, 1e-3), bottleneck.dual_ib) if dual else (table, bottleneck.ib)
    certified = method(table, betas, certificate=True)
    assert (certified.gap < 1e-9).all() and certified.certified.all()
    alone = [float(method(table, beta).lagrangian[0]) for beta in betas]
    np.testing.assert_allclose(alone, certified.lagrangian, rtol=0, atol=1e-8)
    grid = method(table, [beta * share for beta in betas for share in (0.957, 1.0, 1.045)])
    np.testing.assert_allclose(grid.lagrangian[1::3], certified.lagrangian, rtol=0, atol=1e-8)


def test_clusters_are_merged_wherever_an_empty_one_stands():
    decoders = np.log([[0.5, 0.5], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    masses = np.array([0.0, 0.2, 0.3, 0.5])
    for order in itertools.permutations(range(4)):
        arrays = _distortion.log_floored(masses[list(order)]), decoders[list(order)]
        log_p_z, log_p_y_given_z, count = _sweeps.merge(np.ones(1), *(array[None] for array in arrays))
        assert int(count[0]) == 2
        np.testing.assert_allclose(np.exp(log_p_z[0, :2]), [0.7, 0.3])
        np.testing.assert_allclose(np.exp(log_p_y_given_z[0, :2]), [[0.1, 0.9], [0.9, 0.1]])


def test_what_does_not_fit_into_memory_is_refused_with_bytes_and_remedy(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10**8)
    with pytest.raises(
        ValueError, match=r"`beta` with 100000 values .* needs about .* MB .*Pass fewer values of `beta`"
    ):
        bottleneck.ib(joint(12, 3), np.geomspace(1, 9, 100_000))


@pytest.mark.parametrize("function", [bottleneck.ib, bottleneck.dual_ib])
def test_at_large_beta_everything_is_kept_apart_at_the_cost_of_the_entropy(function):
    """Rounding of the distortion times β is no cost; and where it could hide anything β is refused."""
    p = np.array([[0.24, 0.08, 0.02], [0.04, 0.4, 0.04], [0.02, 0.02, 0.14]])
    curve = function(p, np.array([1e6, 1e9, 1e12]))
    p_x = p.sum(axis=1)
    np.testing.assert_allclose(curve.lagrangian, np.full(3, -(p_x * np.log(p_x)).sum()), rtol=1e-12)
    with pytest.raises(ValueError, match=r"`beta` must be at most 1e\+12; got 1e\+300"):
        function(p, 1e300)
