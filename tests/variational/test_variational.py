"""Variational bottlenecks against the certified optima of tables and Gaussians, and against plain loops."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

import ntkinfo as ni
from ntkinfo.variational import _objectives, _predict, _training_loop, _validate, encoders, label_noise
from tests.compilations import counted

V = ni.variational
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def table():
    rows = np.random.default_rng(0).dirichlet(np.full(3, 0.7), 6) * 0.98 + 0.02 / 3
    p_y = rows.mean(0)
    h_y, h_yx = -np.sum(p_y * np.log(p_y)), -np.mean(np.sum(rows * np.log(rows), 1))
    return rows, h_y, h_yx


def of_table(rows, objective, **options):
    """A fit of unlimited capacity on six inputs, all expectations exact."""
    return V.fit(
        np.eye(6), rows, objective=objective, key=KEY, latent=6, latent_kind="categorical",
        encoder=encoders.linear(6), batch_size=None, steps=2000,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 2000)), record=4, progress=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("beta", [1.5, 6.0])
def test_the_optima_are_those_of_the_certified_bottlenecks(table, beta):
    rows, h_y, h_yx = table
    exact = {"certificate": True, "progress": False}
    ib = ni.bottleneck.ib(rows / 6, [beta, beta + 1], **exact)
    dual = ni.bottleneck.dual_ib(rows / 6, [beta], **exact)
    assert ib.gap.max() < 1e-9 and dual.gap.max() < 1e-9
    vib = of_table(rows, "vib", beta=beta)
    ceb = of_table(rows, "ceb", beta=beta)
    pure = of_table(rows, "dual", beta=0.0, gamma=beta)
    for fit, want in (
        (vib, ib.lagrangian[0] + beta * h_yx),
        (ceb, ib.lagrangian[1] - (beta + 1) * (h_y - h_yx) + beta * h_y),
        (pure, dual.lagrangian[0]),
    ):
        # Never below the certified optimum, and close to it.
        assert -1e-9 < float(fit.history.loss[-1] - want) < 2e-4
    found = V.measure(vib, np.eye(6), rows, key=KEY)
    point = ni.bottleneck.encoder_point(rows / 6, np.exp(vib.encode(np.eye(6))))
    assert float(found.i_xz_lower) == pytest.approx(point[0], abs=1e-9)
    assert float(found.rate) >= point[0] - 1e-9 and float(found.i_yz_lower) <= point[1] + 1e-9
    if beta > 2:
        assert float(found.i_yz_lower) == pytest.approx(point[1], abs=1e-3)


def test_capacity_brings_the_optimum_closer(table):
    rows, _, h_yx = table
    want = float(ni.bottleneck.ib(rows / 6, [6.0], progress=False).lagrangian[0]) + 6.0 * h_yx
    gaps = []
    for latent in (2, 6):
        fit = V.fit(
            np.eye(6), rows, beta=6.0, key=KEY, latent=latent, latent_kind="categorical",
            encoder=encoders.linear(latent), batch_size=None, steps=1500, learning_rate=0.05, record=1, progress=False,
        )  # fmt: skip
        gaps.append(float(fit.history.loss[-1]) - want)
    assert gaps[0] > 0.05 > 1e-3 > gaps[1] > -1e-9


def test_a_gaussian_reaches_the_gaussian_bottleneck():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    x -= x.mean(0)
    noise = rng.normal(size=(200, 2))
    joint = np.concatenate([x, noise], 1) - np.concatenate([x, noise], 1).mean(0)
    # Exactly white, so that second moments, which decide everything here, are known.
    joint = joint @ np.linalg.inv(np.linalg.cholesky(joint.T @ joint / 200)).T
    x = joint[:, :3]
    y = x @ np.array([[1.5, 0.2], [0.3, 0.8], [0.0, 0.1]]) + joint[:, 3:] @ np.diag([0.5, 0.9])
    cov_x, cov_y, cov_xy = np.eye(3), y.T @ y / 200, x.T @ y / 200

    def init(key, x):
        return {"w": 0.3 * jax.random.normal(key, (x.shape[1], 2), x.dtype), "s": jnp.zeros(2, x.dtype)}

    def apply(params, x):
        return jnp.concatenate([x @ params["w"], jnp.broadcast_to(params["s"][None], (len(x), 2))], 1)

    for beta in (2.0, 8.0):
        fit = V.fit(
            x, y, beta=beta, key=KEY, latent=2, encoder=(init, apply), task="regression", batch_size=None, steps=3000,
            optimizer=optax.adam(optax.cosine_decay_schedule(0.03, 3000)), record=1, progress=False,
        )  # fmt: skip
        curve = ni.bottleneck.gaussian_ib(cov_x, cov_y, cov_xy, beta)
        want = float(np.squeeze(curve.i_xz)) - beta * float(np.squeeze(curve.i_zy))
        h_y = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * cov_y)[1]
        assert -1e-9 < float(fit.history.loss[-1]) - beta * h_y - want < 1e-3


def test_terms_against_a_loop(rng):
    x, y = rng.normal(size=(5, 4)), np.array([0, 2, 1, 1, 0])
    options = {
        "encoder": encoders.mlp(4, (3,)), "latent": 2, "latent_kind": "gaussian", "decoder": None, "task": "classes",
        "samples": 200_000,
    }  # fmt: skip
    for objective, prior, noise in (
        ("vib", "learned", None), ("ceb", None, None), ("dual", "backward", label_noise.smoothing(0.2))
    ):  # fmt: skip
        rows, _ = _validate.read_rows(x, y, None, None, "classes")
        spec = _validate.build(rows, objective=objective, prior=prior, **options)
        data, _ = _validate.with_noise(spec, noise, rows, None)
        params = _objectives.initial(spec, KEY, data.x)
        params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), params)
        terms = _objectives.terms(spec, params, *data, KEY)
        mean, log_std = (np.asarray(part) for part in _objectives.encode(spec, params, data.x))
        w = params["prior"]
        for i in range(5):
            b = np.asarray(w) if prior == "learned" else np.asarray(w[0]["w"])[y[i]] + np.asarray(w[0]["b"])
            z = mean[i] + np.exp(log_std[i]) * rng.normal(size=(200_000, 2))
            ratio = norm.logpdf(z, mean[i], np.exp(log_std[i])) - norm.logpdf(z, b[:2], np.exp(b[2:]))
            ratio = ratio.sum(1)
            logits = z @ np.asarray(params["decoder"][0]["w"]) + np.asarray(params["decoder"][0]["b"])
            log_q = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            target = np.full(3, 0.2 / 3)
            target[y[i]] += 0.8
            divergence = (np.exp(log_q) * (log_q - np.log(target))).sum(1) if objective == "dual" else 0 * ratio
            for got, values in zip(terms, (ratio, -log_q[:, y[i]], divergence), strict=True):
                assert abs(float(got[i]) - values.mean()) < 8 * values.std() / 200_000**0.5 + 1e-12


def problem(rng, n=60):
    y = rng.integers(0, 3, n)
    return rng.normal(size=(n, 4)) + 1.5 * np.eye(3, 4)[y], y


SMALL = {"encoder": encoders.mlp(4, (8,)), "latent": 2, "batch_size": 16, "progress": False}


def same(first, second):
    return all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(*map(jax.tree.leaves, (first, second)), strict=True)
    )


@pytest.mark.usefixtures("compiled_quickly")
def test_an_interrupted_fit_goes_on_bit_for_bit(rng, tmp_path, monkeypatch):
    x, y = problem(rng)
    options = {"beta": optax.linear_schedule(0.0, 5.0, 20), "steps": 30, "record": 6, "key": KEY, **SMALL}
    whole = V.fit(x, y, **options)
    record, calls = _training_loop.record, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return record(*args)

    monkeypatch.setattr(_training_loop, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        V.fit(x, y, checkpoint=tmp_path, **options)
    resumed = V.fit(x, y, checkpoint=tmp_path, **options)
    assert len(calls) < 4 + 7 and same((whole.params, whole.history), (resumed.params, resumed.history))
    with pytest.raises(ValueError, match="differs in beta"):
        V.fit(x, y, checkpoint=tmp_path, **options | {"beta": 2.0})
    np.testing.assert_allclose(whole.history.beta[:3], [0.0, 1.0, 2.25])


@pytest.mark.usefixtures("compiled_quickly")
def test_divergence_is_reported_with_the_last_good_state(rng):
    x, y = problem(rng)
    with pytest.raises(V.DivergedError, match="at step") as caught:
        V.fit(x, y, beta=5.0, key=KEY, steps=40, record=8, optimizer=optax.sgd(1e6), **SMALL)
    error = caught.value
    assert 0 < error.step < 40 and error.epoch is None and error.run is None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(error.fit.params))
    assert np.isfinite(float(V.measure(error.fit, x, y, key=KEY).error))


@pytest.mark.usefixtures("compiled_quickly")
def test_early_stopping_keeps_the_best_state(rng):
    x, y = problem(rng)
    flipped = (y + 1) % 3  # whatever is learned is wrong on the test rows
    fit = V.fit(x, y, beta=5.0, key=KEY, x_test=x, y_test=flipped, steps=400, record=20, learning_rate=0.02,
                early_stopping=3, **SMALL)  # fmt: skip
    losses = np.asarray(fit.history.test_loss)
    best = int(losses.argmin())
    assert len(losses) == best + 4 < 21
    assert int(fit.step) == int(fit.history.step[best])


def test_measurements(rng):
    x, y = problem(rng, 80)
    fit = V.fit(x, y, beta=10.0, key=KEY, steps=300, learning_rate=0.01, **SMALL)
    found = V.measure(fit, x, y, key=KEY, samples=64)
    # The exact information of X uniform over these rows, by sampling of another kind.
    mean, log_std = (np.asarray(each) for each in fit.encode(x))
    ratios = []
    for i in range(80):
        z = mean[i] + np.exp(log_std[i]) * rng.normal(size=(400, 2))
        logs = norm.logpdf(z[:, None], mean[None], np.exp(log_std)[None]).sum(-1)
        ratios.append(logs[:, i] - np.log(np.exp(logs).mean(1)))
    truth = np.mean(ratios)
    assert abs(float(found.i_xz_lower) - truth) < 5 * float(found.i_xz_lower_stderr)
    assert float(found.i_xz_lower) < float(found.i_xz_upper) and truth < float(found.rate) + 0.05
    assert float(found.ceiling) == pytest.approx(np.log(80))
    p = np.bincount(y) / 80
    assert float(found.i_yz_lower + found.cross_entropy) == pytest.approx(-np.sum(p * np.log(p)))
    assert found.residual is None
    guess = np.asarray(fit.predict(x, key=jax.random.key(3), samples=4000))
    assert float(found.error) == pytest.approx(np.mean(guess.argmax(1) != y), abs=0.03)
    assert float(found.log_loss) == pytest.approx(-np.mean(np.log(guess[np.arange(80), y])), abs=0.03)
    assert float(found.brier) == pytest.approx(np.mean(((guess - np.eye(3)[y]) ** 2).sum(1)), abs=0.02)
    ece = 0.0
    for low in np.arange(15) / 15:
        inside = (guess.max(1) >= low) & (guess.max(1) < low + 1 / 15)
        if inside.any():
            ece += inside.mean() * abs(guess.max(1)[inside].mean() - (guess.argmax(1) == y)[inside].mean())
    assert float(found.calibration_error) == pytest.approx(ece, abs=0.06)
    noisy = V.error_under_noise(fit, x, y, [0.0, 30.0], key=KEY)
    assert float(noisy[0]) == pytest.approx(float(found.error), abs=0.03) and float(noisy[1]) > 0.4
    backward = V.fit(x, y, objective="ceb", beta=3.0, key=KEY, steps=20, **SMALL)
    of_ceb = V.measure(backward, x, y, key=KEY)
    assert of_ceb.rate is None and backward.history.rate is None and float(of_ceb.residual) > 0


def test_scores_of_predictions_without_sampling(rng):
    # A categorical code is summed over, so that the scores are those of the predictions, to rounding.
    x, y = problem(rng, 80)
    options = SMALL | {"encoder": encoders.mlp(3, (8,)), "latent": 3, "latent_kind": "categorical"}
    fit = V.fit(x, y, beta=10.0, key=KEY, steps=60, learning_rate=0.01, **options)
    found, guess = V.measure(fit, x, y, key=KEY), np.asarray(fit.predict(x, key=KEY))
    confidence, hit = guess.max(1), guess.argmax(1) == y
    gaps = [np.sum((hit - confidence)[(confidence >= low / 15) & (confidence < (low + 1) / 15)]) for low in range(15)]
    assert float(found.calibration_error) == pytest.approx(np.sum(np.abs(gaps)) / 80, rel=1e-6)
    assert float(found.error) == pytest.approx(1 - hit.mean(), abs=1e-9)
    assert float(found.log_loss) == pytest.approx(-np.mean(np.log(guess[np.arange(80), y])), rel=1e-6)
    assert float(found.brier) == pytest.approx(np.mean(((guess - np.eye(3)[y]) ** 2).sum(1)), rel=1e-6)


@pytest.mark.slow
def test_a_sweep_is_its_fits_side_by_side(rng, tmp_path):
    x, y = problem(rng)
    options = {"steps": 20, "record": 2, "x_test": x[:20], "y_test": y[:20], "key": KEY} | SMALL
    found = V.sweep(x, y, betas=[0.5, 4.0], seeds=2, checkpoint=tmp_path, **options)
    assert found.objectives == ("vib", "ceb", "dual") and found.i_xz_lower.shape == (3, 2, 2)
    assert found.i_xz.shape == (3, 2, 2, 3)
    key = jax.random.fold_in(KEY, 1)
    smooth = label_noise.smoothing(0.1)
    for i, kind in enumerate(({"objective": "vib", "beta": 4.0}, {"objective": "ceb", "beta": 4.0},
                              {"objective": "dual", "beta": 0.0, "gamma": 4.0, "label_noise": smooth})):  # fmt: skip
        one = V.measure(V.fit(x, y, **options | kind | {"key": key}), x[:20], y[:20], key=jax.random.fold_in(KEY, 2))
        for name in ("i_xz_lower", "cross_entropy", "error", "brier"):
            np.testing.assert_allclose(getattr(found, name)[i, 1, 1], getattr(one, name), rtol=1e-6, atol=1e-9)
    assert np.isnan(found.rate[1]).all() and np.isnan(found.residual[0]).all() and (found.failed == -1).all()
    again = V.sweep(x, y, betas=[0.5, 4.0], seeds=2, checkpoint=tmp_path, **options)
    assert same(found, again)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_sweep_says_how_many_of_its_fits_diverged(rng):
    x, y = problem(rng)
    options = {"steps": 2, "record": 1, "key": KEY, "names": "vib"} | SMALL
    with pytest.warns(UserWarning, match=r"2 of 2 fits diverged: their `failed` is not -1.*`learning_rate`"):
        found = V.sweep(x, y, betas=[0.5, 4.0], learning_rate=1e300, **options)
    assert (found.failed >= 0).all()


@pytest.mark.usefixtures("compiled_quickly")
def test_learning_curve_goes_on(rng, tmp_path, monkeypatch):
    x, y = problem(rng)
    options = {"x_test": x, "y_test": y, "repeats": 2, "checkpoint": tmp_path, "key": KEY, "beta": 5.0, "steps": 60}
    options |= {"learning_rate": 0.02} | SMALL
    found = V.learning_curve(x, y, [5, 60], **options)
    assert found.error.shape == (2, 2) and found.error[1].mean() < found.error[0].mean()
    with pytest.raises(ValueError, match="differs in beta"):
        V.learning_curve(x, y, [5, 60], **options | {"beta": 2.0})
    with pytest.raises(ValueError, match="differs in x_test or y_test"):
        V.learning_curve(x, y, [5, 60], **options | {"y_test": (y + 1) % 3})
    # Another function of the same make, as in a new process, is the same network.
    network = encoders.mlp(4, (8,))
    options["encoder"] = encoders.Network(
        lambda key, x: network.init(key, x), lambda params, x: network.apply(params, x)
    )
    monkeypatch.setattr(_training_loop, "train", None)
    np.testing.assert_array_equal(V.learning_curve(x, y, [5, 60], **options).error, found.error)


@pytest.mark.usefixtures("compiled_quickly")
def test_a_learning_curve_of_a_regression_has_no_label_information(rng):
    x = rng.normal(size=(20, 3))
    curve = V.learning_curve(x, x[:, :1], [10], x_test=x, y_test=x[:, 0], task="regression", repeats=1, beta=2.0,
                             steps=2, key=KEY, encoder=encoders.linear(4), latent=2, progress=False)  # fmt: skip
    assert np.isfinite(curve.error).all() and np.isnan(curve.i_yz_lower).all()


def test_categorical_information_against_brute_force(rng):
    # Value 0 is never used, row 1 has value 1 almost to itself, the rest are anywhere.
    logits = 3 * rng.normal(size=(6, 5))
    logits[:, 0], logits[:, 1], logits[1] = -800.0, -60.0, [-800.0, 0.0, -70.0, -70.0, -70.0]
    log_p = np.asarray(jax.nn.log_softmax(logits))
    p = np.exp(log_p)
    lower, upper = [], []
    for i in range(6):
        terms = np.zeros((2, 5))
        for k in range(5):
            if p[i, k] > 0:
                terms[0, k] = p[i, k] * (log_p[i, k] - np.log(p[:, k].mean()))
                terms[1, k] = p[i, k] * (log_p[i, k] - np.log(np.delete(p[:, k], i).mean()))
        lower.append(terms[0].sum())
        upper.append(terms[1].sum())
    identity = encoders.Network(lambda key, x: None, lambda params, x: x)
    spec = _validate.build(
        _validate.Rows(jnp.asarray(logits), jnp.eye(6)), objective="vib", encoder=identity, latent=5,
        latent_kind="categorical", decoder=None, prior=None, task="classes", samples=1,
    )  # fmt: skip
    got = _predict.information(spec, jax.nn.log_softmax(jnp.asarray(logits)), KEY, 6)
    want = [np.mean(lower), np.mean(upper), np.std(lower, ddof=1) / 6**0.5, np.std(upper, ddof=1) / 6**0.5]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert 60.0 < upper[1] < 70.0


def test_required_information():
    # Two objectives, three trade-offs, two seeds whose means are told.
    def seeds(*rows):
        return np.stack([np.array(rows) - 0.1, np.array(rows) + 0.1], axis=2)

    sweep = V.Sweep(
        **dict.fromkeys(field.name for field in dataclasses.fields(V.Sweep))
        | {
            "objectives": ("vib", "dual"),
            "i_xz_lower": seeds([0.0, 1.0, 3.0], [0.5, 1.5, 4.0]),
            "i_yz_lower": seeds([0.0, 1.0, 2.0], [0.0, 1.9, 2.0]),
        }
    )
    needed = V.required_information(sweep)
    assert needed.i_yz == pytest.approx(1.9) and needed.objectives == ("vib", "dual")
    np.testing.assert_allclose(needed.i_xz, [2.8, 1.5])
    np.testing.assert_allclose(V.required_information(sweep, 1.5).i_xz, [2.0, 0.5 + 1.5 / 1.9])
    np.testing.assert_allclose(V.required_information(sweep, 0.0).i_xz, [0.0, 0.5])
    assert np.isnan(V.required_information(sweep, 2.5).i_xz).all()
    for level in (np.nan, np.inf, [1.0, 2.0]):
        with pytest.raises(ValueError, match="`i_yz`"):
            V.required_information(sweep, level)


class Flaxlike:
    def init(self, key, x):
        return {"params": jax.random.normal(key, (x.shape[1], 4))}

    def apply(self, variables, x):
        return x @ variables["params"]


class FlaxlikeWithState(Flaxlike):
    """Normalises by running averages, as BatchNorm does, after a fixed random projection."""

    def init(self, key, x):
        fixed = {"projection": {"w": jax.random.normal(key, (x.shape[1], x.shape[1]))}}
        return super().init(key, x) | fixed | {"batch_stats": {"mean": jnp.full(x.shape[1], 0.5)}}

    def apply(self, variables, x):
        return super().apply(variables, (x - variables["batch_stats"]["mean"][None]) @ variables["projection"]["w"])


def test_only_the_parameters_of_a_flax_module_are_trained(rng):
    x, y = problem(rng)
    module, plain = FlaxlikeWithState(), Flaxlike()
    network = encoders.from_flax(module)
    params = network.init(KEY, x)
    assert set(params) == {"params"} and same(params, encoders.from_flax(plain).init(KEY, x))
    fixed = module.init(jax.random.key(0), x)
    np.testing.assert_allclose(network.apply(params, x), module.apply(fixed | params, x))
    # Weight decay would move whatever the optimiser is handed.
    options = {"beta": 5.0, "steps": 20, "record": 1, "optimizer": optax.adamw(0.1, weight_decay=0.5)}
    fit = V.fit(x, y, key=KEY, **options | SMALL | {"encoder": network})
    assert set(fit.params["encoder"]) == {"params"}
    np.testing.assert_allclose(fit.encode(x)[0], module.apply(fixed | fit.params["encoder"], x)[:, :2])
    stateful = types.SimpleNamespace(init=lambda key, x: {"batch_stats": x}, apply=plain.apply)
    with pytest.raises(ValueError, match=r"collection 'params'.* got 'batch_stats'"):
        encoders.from_flax(stateful).init(KEY, x)
    with pytest.raises(TypeError, match="mapping of collections"):
        encoders.from_flax(types.SimpleNamespace(init=lambda key, x: [x], apply=plain.apply)).init(KEY, x)


def test_batch_norm_of_flax(rng):
    nn = pytest.importorskip("flax.linen")
    x, y = problem(rng)
    module = nn.Sequential([nn.Dense(8), nn.BatchNorm(use_running_average=True), nn.relu, nn.Dense(4)])
    fit = V.fit(x, y, beta=5.0, key=KEY, steps=5, record=1, **SMALL | {"encoder": encoders.from_flax(module)})
    assert set(fit.params["encoder"]) == {"params"}
    averages = module.init(KEY, x)["batch_stats"]
    want = module.apply({"batch_stats": averages} | fit.params["encoder"], x)[:, :2]
    np.testing.assert_allclose(fit.encode(x)[0], want, rtol=1e-5)


def test_networks_of_haiku_and_nnx(rng):
    hk, nnx = pytest.importorskip("haiku"), pytest.importorskip("flax.nnx")
    x, y = problem(rng)
    options = {"beta": 5.0, "key": KEY, "steps": 5, "record": 1}
    forward = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([8, 4])(x)))
    encoder = ni.networks.from_haiku(forward, forward.init(KEY, x))
    fit = V.fit(x, y, **options | SMALL | {"encoder": encoder})
    np.testing.assert_allclose(fit.encode(x)[0], forward.apply(fit.params["encoder"], x)[:, :2], rtol=1e-5)

    # A module of nnx has no random start of its own: it goes on from where it is.
    model = nnx.Sequential(nnx.Linear(x.shape[1], 8, rngs=nnx.Rngs(0)), jax.nn.relu, nnx.Linear(8, 4, rngs=nnx.Rngs(1)))
    net = ni.networks.from_nnx(model)
    with pytest.raises(ValueError, match="`net` has no random start of its own"):
        V.fit(x, y, **options | SMALL | {"encoder": net})
    fit = V.fit(x, y, **options | SMALL | {"encoder": net.continued()})
    graph, _ = nnx.split(model)
    want = nnx.merge(graph, fit.params["encoder"])(jnp.asarray(x))[:, :2]
    np.testing.assert_allclose(fit.encode(x)[0], want, rtol=1e-5)
    first = jax.tree.leaves(net.params)[0], jax.tree.leaves(fit.params["encoder"])[0]
    assert 0 < np.abs(first[0] - first[1]).max() < 0.1


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class Equinoxlike:
    weight: jax.Array

    def __call__(self, x):
        return x @ self.weight

    def tree_flatten(self):
        return (self.weight,), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def test_networks_of_others(rng):
    x, y = problem(rng)
    stax = ni.stax.serial(ni.stax.Dense(8), ni.stax.Relu(), ni.stax.Dense(4))
    for network in (
        encoders.from_equinox(lambda key: Equinoxlike(jax.random.normal(key, (4, 4)))),
        encoders.from_stax(stax),
    ):
        fit = V.fit(x, y, beta=5.0, key=KEY, steps=60, record=2, learning_rate=0.02, **SMALL | {"encoder": network})
        assert fit.history.loss[-1] < fit.history.loss[0]
    images = rng.normal(size=(20, 8, 8)).astype(np.float32)
    fit = V.fit(images, y[:20], beta=2.0, key=KEY, steps=2, latent=2, progress=False)
    assert fit.encode(images)[0].shape == (20, 2) and fit.encode(images)[0].dtype == np.float32


def test_label_noise(rng):
    y = np.eye(3)[[0, 2]]
    smooth = np.asarray(label_noise.probabilities(label_noise.smoothing(0.3), y, y))
    np.testing.assert_allclose(smooth, [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], rtol=1e-12)
    matrix = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    np.testing.assert_allclose(label_noise.probabilities(label_noise.confusion(matrix), y, y), matrix[[0, 2]])
    corner = np.eye(3)[0] + 0.6 * rng.normal(size=(200_000, 3))
    want = np.bincount(((corner[:, None] - np.eye(3)[None]) ** 2).sum(2).argmin(1), minlength=3) / 200_000
    got = np.asarray(label_noise.probabilities(label_noise.gaussian(0.6), y, y))[0]
    np.testing.assert_allclose(got, want, atol=5 * 0.5 / 200_000**0.5)
    given = label_noise.model(lambda x: np.full((len(x), 3), 1 / 3))
    np.testing.assert_allclose(label_noise.probabilities(given, y, y), 1 / 3)


X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"objective": "ib"}, ValueError, "`objective` must be one of"),
        ({"beta": -1.0}, ValueError, "`beta`"),
        ({"beta": 0.0}, ValueError, "positive at some step"),
        ({"gamma": 1.0}, ValueError, "`gamma` must be 0 or left out for 'vib'"),
        ({"objective": "dual"}, ValueError, "`gamma` must be given"),
        ({"objective": "dual", "gamma": -2.0, "label_noise": label_noise.smoothing(0.1)}, ValueError, "`gamma`"),
        ({"objective": "dual", "gamma": 1.0}, ValueError, "Smooth it first"),
        (
            {"objective": "dual", "gamma": 1.0, "label_noise": label_noise.confusion(np.eye(3))},
            ValueError,
            r"`matrix` of the confusion must be positive .* Smooth it first",
        ),
        ({"label_noise": label_noise.smoothing(0.1)}, ValueError, "only 'dual' has a noise model"),
        ({"prior": "backward"}, ValueError, "`prior` must be one of 'learned', 'fixed'"),
        ({"y": Y + 0.5}, TypeError, r"integer classes .* pass task='regression'"),
        ({"y": Y - 1}, ValueError, "classes from 0 on; got -1"),
        ({"y": 0 * Y}, ValueError, "at least two classes"),
        ({"y": Y[:3]}, ValueError, "one row for each of the 12 inputs"),
        ({"x": Y}, TypeError, "floating-point"),
        ({"encoder": encoders.mlp(3)}, ValueError, "`encoder` must return 2 x `latent` = 4"),
        ({"decoder": encoders.linear(2)}, ValueError, "`decoder` must return 3, classes"),
        ({"encoder": 3}, TypeError, "must be a pair"),
        ({"early_stopping": 3}, ValueError, "needs `x_test`"),
        ({"x_test": X}, ValueError, "given together"),
        ({"steps": 0}, ValueError, "`steps`"),
        ({"optimizer": 0.1}, TypeError, "optax"),
    ],
)
def test_refusals(options, error, message):
    given = {"x": X, "y": Y, "beta": 2.0, "key": KEY, "steps": 2, "latent": 2, "progress": False} | options
    with pytest.raises(error, match=message):
        V.fit(given.pop("x"), given.pop("y"), **given)


def test_refusals_of_the_rest(rng):
    small = {"key": KEY, "steps": 1, "latent": 2, "encoder": encoders.linear(4), "progress": False}
    fit = V.fit(X, Y, beta=2.0, **small)
    with pytest.raises(ValueError, match="kind the fit was trained on"):
        V.measure(fit, X[:, :2], Y, key=KEY)
    with pytest.raises(ValueError, match="classes from 0 to 2"):
        V.measure(fit, X, Y + 1, key=KEY)
    for entropy in (np.nan, -1.0, np.inf, [1.0, 1.0], 1.2, 1e308):
        with pytest.raises(ValueError, match="`label_entropy`"):
            V.measure(fit, X, Y, key=KEY, label_entropy=entropy)
    for call in (fit.encode, lambda x: fit.predict(x, key=KEY)):
        with pytest.raises(ValueError, match="kind the fit was trained on"):
            call(X[:, :2])
        with pytest.raises(ValueError, match="`x` must be finite"):
            call(np.nan * X)
        with pytest.raises(TypeError, match="floating-point"):
            call(Y[:, None])
        with pytest.raises(ValueError, match="axis of samples"):
            call(X[0])
    with pytest.raises(ValueError, match="`z` must have rows of 2 numbers"):
        fit.decode(X)
    with pytest.raises(ValueError, match="`z` must be finite"):
        fit.decode(np.full((1, 2), np.nan))
    with pytest.raises(TypeError, match="one random key"):
        fit.predict(X, key=0)
    with pytest.raises(TypeError, match="one random key"):
        V.fit(X, Y, beta=2.0, key=0)
    of_regression = V.fit(X, X[:, 0], beta=2.0, task="regression", **small)
    with pytest.raises(ValueError, match="`label_entropy`"):
        V.measure(of_regression, X, X[:, 0], key=KEY, label_entropy=np.nan)
    assert float(V.measure(of_regression, X, X[:, 0], key=KEY, label_entropy=-1.0).label_entropy) == -1.0
    with pytest.raises(ValueError, match="`stds`"):
        V.error_under_noise(fit, X, Y, [-1.0], key=KEY)
    with pytest.raises(ValueError, match="`betas`"):
        V.sweep(X, Y, betas=[0.0], key=KEY)
    with pytest.raises(ValueError, match="`names` must be one of"):
        V.sweep(X, Y, betas=[1.0], names="ib", key=KEY)
    with pytest.raises(ValueError, match="at most the 12 rows"):
        V.learning_curve(X, Y, [13], x_test=X, y_test=Y, key=KEY, beta=2.0)


def test_a_beta_that_trains_to_nothing_is_warned_of():
    options = dict(key=KEY, steps=1, latent=2, encoder=encoders.linear(4), progress=False)
    with pytest.warns(UserWarning, match="`beta` of at most 1 makes a Z that is independent of x optimal.*pass 1/β"):
        V.fit(X, Y, beta=1.0, **options)
    # No warning (an error here): CEB at β is the IB at β + 1, and a schedule may begin below 1.
    V.fit(X, Y, beta=0.5, objective="ceb", **options)
    V.fit(X, Y, beta=lambda t: 2.0 * t, **options | {"steps": 2})


def test_a_table_of_label_noise_follows_the_rows_of_a_learning_curve():
    table = np.full((12, 3), 0.1) + 0.7 * np.eye(3)[Y]
    options = dict(objective="dual", beta=0.0, gamma=5.0, latent=2, encoder=encoders.linear(4), steps=2, record=1)
    options |= dict(repeats=1, progress=False)
    both = [
        V.learning_curve(X, Y, [6], x_test=X, y_test=Y, key=KEY, label_noise=noise, **options)
        # The same p̃(y|x), as a function of the inputs.
        for noise in (V.label_noise.model(table), V.label_noise.model(lambda x: table[_rows_of(x)]))
    ]
    assert both[0].i_yz_lower == both[1].i_yz_lower
    with pytest.raises(
        ValueError, match="`label_noise` must have a row for each of the 12 rows of `x`; its table has 5"
    ):
        V.learning_curve(X, Y, [6], x_test=X, y_test=Y, key=KEY, label_noise=V.label_noise.model(table[:5]), **options)


def _rows_of(x):
    return [int(np.argmin(np.abs(X - row).sum(1))) for row in np.asarray(x)]


def test_sizes_and_objects_of_networks_are_refused_by_name():
    assert V.encoders.mlp(4, [8, 8]) is V.encoders.mlp(4, (8, 8))
    with pytest.raises(ValueError, match="`hidden` must be at most"):
        V.encoders.mlp(4, (2**62,))
    with pytest.raises(ValueError, match="`y` must number its classes without gaps"):
        V.fit(X, Y + 2**62, beta=2.0, key=KEY)
    with pytest.raises(ValueError, match="`encoder` must be smaller: its"):
        V.fit(X, Y, beta=2.0, key=KEY, latent=2, encoder=V.encoders.mlp(4, (2**14, 2**14)))
    with pytest.raises(ValueError, match="`encoder` cannot be applied to rows of shape"):
        V.fit(X, Y, beta=2.0, key=KEY, encoder=(lambda: 0, lambda: 0))
    with pytest.raises(TypeError, match="`beta` must be a real number"):
        V.fit(X, Y, beta="a", key=KEY)
    for call, name in ((lambda: V.measure(None, X, Y, key=KEY), "fit"), (lambda: V.required_information(X), "sweep")):
        with pytest.raises(TypeError, match=f"`{name}` must be of type .*`variational"):
            call()
    with pytest.raises(TypeError, match="`noise` must be of type `LabelNoise`"):
        V.sweep(X, Y, betas=[2.0], names="vib", key=KEY, noise=3)
    with pytest.raises(ValueError, match="`dual_prior` must be one of"):
        V.sweep(X, Y, betas=[2.0], names="vib", key=KEY, dual_prior="no")


def test_numbers_are_arguments_of_the_programs():
    def fit(**change):
        options = {"beta": 5.0, "steps": 6, "record": 2, "learning_rate": 1e-3} | change
        with counted() as count:
            V.fit(np.eye(6), np.arange(6) % 2, key=KEY, latent=2, encoder=encoders.linear(4), progress=False, **options)
        return count.number

    fit()
    for change in ({}, {"steps": 7}, {"beta": 2.0}, {"learning_rate": 1e-2}):
        assert fit(**change) == 0, change
