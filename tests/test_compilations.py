"""How many programs public entries compile: none again, none for new values, at most one for a neighbouring size.

Sizes are rounded up to few (`ntkinfo/_numerics/padding.py`), and neighbours share one of them; small work is done by
NumPy, which compiles nothing. Where more is compiled, `COMPILED` says how much and why.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkinfo as ni
from ntkinfo import (
    architectures,
    bottleneck,
    cmi,
    content,
    estimators,
    examples,
    finite,
    information,
    kernels,
    learning,
    mixture,
    stax,
    variational,
)
from ntkinfo.sklearn import NTKClassifier, NTKRegressor
from tests.compilations import counted

RNG = np.random.default_rng(0)
X, X_TEST, KEY, T = RNG.normal(size=(16, 3)), RNG.normal(size=(16, 3)), jax.random.key(0), np.array([1.0, 10.0])
Y, Y_TEST, THREE = np.sign(X[:, :1]), np.sign(X_TEST[:, :1]), np.eye(3)[np.arange(16) % 3]
CLASSES = (Y[:, 0] > 0).astype(int)
NET = architectures.network(depth=1)
HALF, TABLE, LAYERS = np.full((16, 2), 0.5), RNG.random((16, 3)), [stax.Dense(4), stax.Erf()]
FINITE = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))
OWN = ni.networks.from_apply(lambda params, x: jnp.tanh(x @ params), np.ones((3, 1)))
LAPLACE = kernels.empirical(OWN, around="laplace", prior_variance=1.0)
SEVERAL = kernels.empirical([OWN.at(np.full((3, 1), scale)) for scale in (0.3, 0.5, 1.0)], around="ensemble")
FEATURES = kernels.features(lambda x: x[:, :2])
ENCODER = variational.encoders.linear(4)
FIT = {"latent": 2, "steps": 4, "record": 2, "progress": False, "key": KEY}
SILENT = {"progress": False}


# What calls are made of: fitted before anything is counted.
@functools.cache
def ens(n, scale):
    return ni.Ensemble.fit(NET, scale * X[:n], Y[:n], progress=False)


@functools.cache
def posterior(n, scale):
    return ni.Posterior.fit(NET, scale * X[:n], Y[:n], noise=0.1, progress=False)


@functools.cache
def krylov(n, scale):
    return ni.Ensemble.fit(NET, scale * X[:n], Y[:n], engine="krylov", progress=False)


@functools.cache
def featured(n, scale):
    return ni.Ensemble.fit(FEATURES, scale * X[:n], Y[:n], progress=False)


@functools.cache
def z(n, scale, joint=False):
    return ens(n, scale).predict(x_test(n), T, joint)


@functools.cache
def layers_run(n, scale):
    return train_layers(n, scale)


@functools.cache
def encoder_of(n, scale):
    return variational.fit(scale * X[:n], CLASSES[:n], beta=5.0, encoder=ENCODER, **FIT)


def x_test(n):
    return X_TEST[: n - 6]


def y_test(n):
    return Y_TEST[: n - 6]


def table(n, scale):
    values = TABLE[:n] ** scale
    return values / values.sum()


def rows(n, scale):
    values = TABLE[:n] ** scale
    return values / values.sum(axis=1, keepdims=True)


class Data:
    """Arrays of a data set."""

    def __init__(self, n, scale):
        self.x_train, self.y_train, self.x_test, self.y_test = scale * X[:n], Y[:n], x_test(n), y_test(n)


def train_layers(n, scale):
    return finite.train_layers(
        (3, 2, 2), scale * X[:n], CLASSES[:n], epochs=2, n_networks=2, key=KEY, batch_size=4, record=2, progress=False
    )


def of_scale(parameters):
    return architectures.network(depth=1, w_std=parameters["w_std"])


def of_scales(w_std, b_std):
    return architectures.network(depth=1, w_std=w_std, b_std=b_std)


def channel(n, scale, k=1):
    return scale * X[:n, :k], np.full(n, 0.1)


# A call for `n` training inputs (samples, rows of a table) times `scale`, with n - 6 test inputs.
CALLS = {
    "fit": lambda n, scale: ni.Ensemble.fit(NET, scale * X[:n], np.tile(Y[:n], 2), **SILENT),
    "predict": lambda n, scale: ens(n, scale).predict(x_test(n), T),
    "predict, joint": lambda n, scale: ens(n, scale).predict(x_test(n), T, joint=True),
    "predict, times": lambda n, scale: ens(n, scale).predict(x_test(n), np.geomspace(0.1, 100 * scale, n)),
    "predict_train": lambda n, scale: ens(n, scale).predict_train(T),
    "krylov.fit": lambda n, scale: ni.Ensemble.fit(NET, scale * X[:n], Y[:n], engine="krylov", **SILENT),
    "krylov.predict": lambda n, scale: krylov(n, scale).predict(x_test(n), T),
    "krylov.predict_train": lambda n, scale: krylov(n, scale).predict_train(T),
    "krylov.spectral_sums": lambda n, scale: krylov(n, scale).spectral_sums(key=KEY, n_probes=8).log_det(0.1),
    "krylov.curve": lambda n, scale: information.curve(krylov(n, scale), x_test(n), y_test(n), T, method="pairwise"),
    "features.fit": lambda n, scale: ni.Ensemble.fit(FEATURES, scale * X[:n], Y[:n], **SILENT),
    "features.predict": lambda n, scale: featured(n, scale).predict(x_test(n), T),
    "features.curve": lambda n, scale: information.curve(
        featured(n, scale), x_test(n), y_test(n), T, method="pairwise"
    ),
    "posterior": lambda n, scale: ni.Posterior.fit(NET, scale * X[:n], Y[:n], noise=0.1).predict(x_test(n)),
    "posterior.fit, noise fitted": lambda n, scale: ni.Posterior.fit(NET, scale * X[:n], Y[:n], noise="fit"),
    "posterior.predict, joint": lambda n, scale: posterior(n, scale).predict(x_test(n), joint=True),
    "posterior.predict_train": lambda n, scale: posterior(n, scale).predict_train(),
    "posterior.leave_one_out": lambda n, scale: posterior(n, scale).leave_one_out(),
    "posterior.log_marginal_likelihood": lambda n, scale: posterior(n, scale).log_marginal_likelihood,
    "posterior.information_gain": lambda n, scale: posterior(n, scale).information_gain,
    "posterior.kl": lambda n, scale: posterior(n, scale).kl,
    "posterior.learn": lambda n, scale: ni.Posterior.learn(
        of_scale, scale * X[:n], Y[:n], {"w_std": 1.0, "noise": 0.1}, max_steps=2, progress=False
    ),
    "kernels": lambda n, scale: kernels.kernels(NET, scale * X[:n], x_test(n)),
    "kernels.hessian": lambda n, scale: kernels.hessian(NET, scale * X[:n]),
    "kernels.correlated": lambda n, scale: kernels.correlated(NET, scale * X[:n], rho=0.5),
    "kernels.diagonal": lambda n, scale: kernels.diagonal(NET, scale * X[:n]),
    "kernels.empirical": lambda n, scale: kernels.kernels(LAPLACE, scale * X[:n], x_test(n)),
    "kernels.empirical, ensemble": lambda n, scale: kernels.kernels(SEVERAL, scale * X[:n]),
    "kernels.empirical, product": lambda n, scale: LAPLACE.product(scale * X[:n], x_test(n), np.ones((n - 6, 2))),
    "kernels.features": lambda n, scale: kernels.kernels(FEATURES, scale * X[:n], x_test(n)),
    "action": lambda n, scale: information.action(ens(n, scale), T),
    "fisher_trace": lambda n, scale: information.fisher_trace(ens(n, scale)),
    "parameter_distance": lambda n, scale: information.parameter_distance(ens(n, scale), T),
    "curve": lambda n, scale: information.curve(ens(n, scale), x_test(n), y_test(n), T),
    "curve, pairwise": lambda n, scale: information.curve(ens(n, scale), x_test(n), y_test(n), T, method="pairwise"),
    "input_information": lambda n, scale: information.input_information(z(n, scale)),
    "label_information": lambda n, scale: information.label_information(z(n, scale), y_test(n)),
    "losses": lambda n, scale: information.losses(z(n, scale), y_test(n), noise=0.1),
    "output_divergence": lambda n, scale: information.output_divergence(ens(n, scale), x_test(n), T),
    "parameter_divergence": lambda n, scale: information.parameter_divergence(ens(n, scale), T),
    "data_information": lambda n, scale: information.data_information(
        ens(n, scale), x_test(n), T, label_covariance=np.eye(n)
    ),
    "certificate": lambda n, scale: information.certificate(ens(n, scale), x_test(n), y_test(n), T),
    "sweep": lambda n, scale: ni.sweep.scales(
        of_scales, scale * X[:n], Y[:n], x_test(n), y_test(n), T, w_std=[1.0, 1.5], b_std=[0.1], progress=False
    ),
    "value": lambda n, scale: examples.value(ens(n, scale), x_test(n)),
    "value, groups": lambda n, scale: examples.value(ens(n, scale), x_test(n), np.arange(n) % 3),
    "value, times": lambda n, scale: examples.value(ens(n, scale), x_test(n), t=T),
    "value, posterior": lambda n, scale: examples.value(posterior(n, scale), x_test(n), np.arange(n) % 3),
    "select": lambda n, scale: examples.select(NET, scale * X[:n], n - 8),
    "leave_one_out": lambda n, scale: cmi.leave_one_out(ens(n, scale)),
    "leave_one_out, times": lambda n, scale: cmi.leave_one_out(ens(n, scale), T),
    "supersample": lambda n, scale: cmi.supersample(NET, scale * X[: 2 * n - 12], Y[: 2 * n - 12], T, draws=4, key=KEY),
    "supersample, outputs": lambda n, scale: cmi.supersample(
        NET, scale * X[: 2 * n - 12], THREE[: 2 * n - 12], T, draws=4, key=KEY, outputs=True
    ),
    "learning.curve": lambda n, scale: learning.curve(NET, scale * X[:n], Y[:n], [2, n - 6], 0.1, draws=2, key=KEY),
    "forecast": lambda n, scale: learning.forecast(ens(n, scale)),
    "alignment": lambda n, scale: learning.alignment(ens(n, scale)),
    "layers": lambda n, scale: ni.layers.information(LAYERS, scale * X[:n], CLASSES[:n], snr=10.0),
    "layers, sampled": lambda n, scale: ni.layers.information(
        LAYERS, scale * X[:n], snr=10.0, method="monte_carlo", key=KEY
    ),
    "layers.of_activations": lambda n, scale: ni.layers.of_activations([scale * X[:n], X[:n] ** 2], snr=10.0),
    "content": lambda n, scale: content.information_content(NET, scale * X[:n], Y[:n], key=KEY, n_samples=512),
    "content.upper_bound": lambda n, scale: content.upper_bound(posterior(n, scale).q, Y[:n]),
    "content.positive_probability": lambda n, scale: content.positive_probability(
        posterior(n, scale).q, Y[:n], np.full((n - 6, n), 0.01), np.full(n - 6, 3.0), key=KEY, n_samples=512
    ),
    "compression.gaussian_layer_bound": lambda n, scale: ni.compression.gaussian_layer_bound(
        scale * X[:n, :2], np.eye(n) + 0.2, np.eye(2)
    ),
    "compression.weight_noise_bound": lambda n, scale: ni.compression.weight_noise_bound(
        np.ones((3, 2)), scale * X[:n], std=0.1
    ),
    "compression.relaxation_times": lambda n, scale: ni.compression.relaxation_times(np.full(n, scale)),
    "train": lambda n, scale: finite.train(
        FINITE, scale * X[:n], Y[:n], T, n_networks=2, key=KEY, learning_rate=0.1, x_test=x_test(n), progress=False
    ),
    "stability_limit": lambda n, scale: finite.stability_limit(FINITE, scale * X[:n], Y[:n]),
    "train_layers": train_layers,
    "gradient_phases": lambda n, scale: finite.gradient_phases(layers_run(n, scale)),
    "activations": lambda n, scale: finite.activations(layers_run(n, scale), scale * X[:n]),
    "information_plane": lambda n, scale: finite.information_plane(
        layers_run(n, scale), scale * X[:n], np.eye(2)[CLASSES[:n]], bins=3, progress=False
    ),
    "ib": lambda n, scale: bottleneck.ib(table(n, scale), [2.0, 9.0], certificate=True),
    "dual_ib": lambda n, scale: bottleneck.dual_ib(table(n, scale), [2.0, 9.0], certificate=True),
    "generalised_ib": lambda n, scale: bottleneck.generalised_ib(table(n, scale), [2.0, 9.0], alpha=0.5),
    "squared_ib": lambda n, scale: bottleneck.squared_ib(table(n, scale), [2.0, 9.0]),
    "deterministic_ib": lambda n, scale: bottleneck.deterministic_ib(table(n, scale), [2.0, 9.0]),
    "critical_betas": lambda n, scale: bottleneck.critical_betas(
        table(n - 8, scale)[:, :2] / table(n - 8, scale)[:, :2].sum(), beta_max=5.0
    ),
    "own_beta": lambda n, scale: bottleneck.own_beta(table(n, scale), rows(n, scale)),
    "encoder_point": lambda n, scale: bottleneck.encoder_point(table(n, scale), rows(n, scale)),
    "prediction_exponent": lambda n, scale: bottleneck.prediction_exponent(table(n, scale), rows(n, scale)),
    "chernoff": lambda n, scale: bottleneck.chernoff(*(rows(n, scale).T / rows(n, scale).sum(axis=0)[:, None])[:2]),
    "bayes_error": lambda n, scale: bottleneck.bayes_error(
        rows(n, scale).T / rows(n, scale).sum(axis=0)[:, None], np.full(3, 1 / 3), n=3
    ),
    "gaussian_ib": lambda n, scale: bottleneck.gaussian_ib(*GAUSSIAN(n, scale), [2.0, 20.0]),
    "gaussian_curve": lambda n, scale: bottleneck.gaussian_curve(*GAUSSIAN(n, scale), i_xz=[0.1, 0.5]),
    "discrete.entropy": lambda n, scale: ni.discrete.entropy(rows(n, scale)),
    "discrete.kl": lambda n, scale: ni.discrete.kl(rows(n, scale), rows(n, 1.0)),
    "discrete.mutual_information": lambda n, scale: ni.discrete.mutual_information(table(n, scale)),
    "discrete.smooth": lambda n, scale: ni.discrete.smooth(table(n, scale), 0.1),
    "gaussian.entropy": lambda n, scale: ni.gaussian.entropy(z(n, scale, True)),
    "gaussian.log_prob": lambda n, scale: ni.gaussian.log_prob(z(n, scale), y_test(n), noise=0.1),
    "gaussian.kl_divergence": lambda n, scale: ni.gaussian.kl_divergence(z(n, scale), z(n, 1.0)),
    "gaussian.sign_error": lambda n, scale: ni.gaussian.sign_error(z(n, scale), y_test(n)),
    "gaussian.winning_probabilities": lambda n, scale: ni.gaussian.winning_probabilities(
        scale * X[:n], np.full(n, 0.1)
    ),
    "gaussian.sample": lambda n, scale: z(n, scale, True).sample(KEY, (2,)),
    "mixture.exact_pair": lambda n, scale: mixture.exact_pair(*channel(n, scale), THREE[:n]),
    "mixture.pairwise_pair": lambda n, scale: mixture.pairwise_pair(*channel(n, scale, 3), THREE[:n]),
    "mixture.monte_carlo_pair": lambda n, scale: mixture.monte_carlo_pair(
        *channel(n, scale, 3), THREE[:n], key=KEY, n_samples=4
    ),
    "mixture.label_minibatch": lambda n, scale: mixture.label_minibatch(
        *channel(n, scale, 3), CLASSES[:n], 2, key=KEY, n_samples=4
    ),
    "ksg": lambda n, scale: estimators.ksg(scale * X[:n, 0], X[:n, 1]),
    "differential_entropy": lambda n, scale: estimators.differential_entropy(scale * X[:n]),
    "conditional": lambda n, scale: estimators.conditional(scale * X[:n, 0], X[:n, 1], X[:n, 2]),
    "kde": lambda n, scale: estimators.kde(scale * X[:n], variance=0.1, standardize=False),
    "kde_pair": lambda n, scale: estimators.kde_pair(scale * X[:n], Y[:n, 0] > 0, variance=0.1, standardize=True),
    "binned_layer": lambda n, scale: estimators.binned_layer(scale * X[:n], HALF[:n], bins=4),
    "infonce": lambda n, scale: estimators.infonce(
        scale * X[:n], X[:n], key=KEY, hidden=(4,), embedding=2, batch_size=2, steps=2, test_fraction=0.3, **SILENT
    ),
    "infonce, steps": lambda n, scale: estimators.infonce(
        scale * X, X, key=KEY, hidden=(4,), embedding=2, batch_size=4, steps=n, progress=False
    ),
    "variational.fit": lambda n, scale: variational.fit(
        scale * X[:n], CLASSES[:n], beta=5.0 * scale, encoder=ENCODER, **FIT
    ),
    "variational.fit, steps": lambda n, scale: variational.fit(
        scale * X, CLASSES, beta=5.0 * scale, encoder=ENCODER, **FIT | {"steps": n}
    ),
    "variational.measure": lambda n, scale: variational.measure(
        encoder_of(11, 1.0), scale * X[:n], CLASSES[:n], key=KEY
    ),
    "variational.predict": lambda n, scale: encoder_of(11, 1.0).predict(scale * X[:n], key=KEY),
    "networks.report": lambda n, scale: ni.networks.report(
        OWN, Data(n, scale), key=KEY, noise=0.1, prior_variance=1.0, progress=False
    ),
    "sklearn.NTKRegressor": lambda n, scale: NTKRegressor(noise=0.1).fit(scale * X[:n], Y[:n, 0]).predict(x_test(n)),
    "sklearn.NTKClassifier": lambda n, scale: NTKClassifier().fit(scale * X[:n], CLASSES[:n]).predict_proba(x_test(n)),
}


def GAUSSIAN(n, scale):
    covariance = scale * (np.eye(n) + 0.2)
    return covariance, covariance, 0.5 * covariance


_TRAINING = "steps are compiled for the exact data: batches are drawn of its rows, and filled in rows would train"
_PRODUCTS = "products are compiled for each width of a block of vectors; kernels, n², have no memory to fill up"
# What a neighbouring size compiles, where it is more than one program, and why.
COMPILED = {
    "train_layers": (4, f"start, first record, epochs, records; {_TRAINING}"),
    "variational.fit": (3, f"start, records, steps; {_TRAINING}"),
    "krylov.predict": (2, _PRODUCTS),
    "krylov.spectral_sums": (2, _PRODUCTS),
    "krylov.curve": (4, f"{_PRODUCTS}; pairs of inputs and their derivatives beside them"),
    "features.curve": (2, "predictions with losses, and pairs of inputs"),
    "posterior.learn": (2, "the objective with its gradient, and the spectrum of the kernel where the noise is small"),
    "networks.report": (7, f"outputs, spectrum, three posteriors, two runs: {_TRAINING}"),
}

# In every run: what compiles nothing, and what most calls are made of.
QUICK = ("predict", "predict_train", "forecast", "leave_one_out", "losses", "ksg", "kde", "ib", "own_beta", "select",
         "discrete.kl", "gaussian.log_prob")  # fmt: skip


# Two steps of learning end nowhere, and need not.
@pytest.mark.filterwarnings("ignore:the evidence is not at its largest value")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CALLS]
)
def test_a_call_like_the_one_before_compiles_nothing_and_a_neighbouring_size_little(name, request):
    call, (most, _) = CALLS[name], COMPILED.get(name, (1, ""))
    for n, scale in ((11, 1.0), (11, 1.1), (12, 1.0)):
        for made in (ens, posterior):
            made(n, scale)
    if request.config.getoption("--slow"):
        # What other entries left behind would not be counted.
        for n, scale in ((11, 1.0), (11, 1.1), (12, 1.0)):
            call(n, scale)
        jax.clear_caches()
    call(11, 1.0)
    with counted() as again:
        call(11, 1.0)
    with counted() as values:
        call(11, 1.1)
    with counted() as neighbour:
        call(12, 1.0)
    assert (again.number, values.number) == (0, 0)
    assert neighbour.number <= most
