"""Small valid objects that calls are made from, each computed once."""

import functools
import os
import tempfile
import types
import warnings

import jax
import numpy as np

import ntkinfo as ni

KEY = jax.random.key(0)
T = np.array([0.5, 5.0, 50.0])
once = functools.cache


def rng(seed=0):
    return np.random.default_rng(seed)


@once
def data():
    """x (6, 3), y (6, 1) of ±1, x_test (4, 3), y_test (4, 1)."""
    r = rng()
    return r.normal(size=(6, 3)), np.array([[1.0], [-1.0]] * 3), r.normal(size=(4, 3)), np.array([[1.0], [-1.0]] * 2)


@once
def network():
    stax = ni.stax
    return stax.serial(stax.Dense(8, W_std=1.5, b_std=0.3), stax.Erf(), stax.Dense(1, W_std=1.5, b_std=0.3))


@once
def finite_network():
    return ni.networks.from_apply(lambda params, x: x @ params, np.ones((3, 1)))


@once
def finite_data():
    x, y, x_test, y_test = data()
    return types.SimpleNamespace(x_train=x, y_train=y, x_test=x_test, y_test=y_test, task="parity")


@once
def network_report():
    options = {"key": KEY, "noise": 0.1, "prior_variance": 1.0, "progress": False}
    return ni.networks.report(finite_network(), finite_data(), **options)


@once
def finite_kernel():
    return ni.kernels.empirical(finite_network())


@once
def finite_ensemble():
    nets = [finite_network().at(np.full((3, 1), scale)) for scale in (1.0, 2.0, 4.0)]
    return ni.kernels.empirical(nets, around="ensemble")


@once
def ens_of_networks():
    x, y, _, _ = data()
    return ni.Ensemble.fit(finite_ensemble(), x, y, singular="project", progress=False)


@once
def ens():
    x, y, _, _ = data()
    return ni.Ensemble.fit(network(), x, y, progress=False)


@once
def krylov():
    x, y, _, _ = data()
    return ni.Ensemble.fit(network(), x, y, engine="krylov", progress=False)


@once
def krylov_posterior():
    x, y, _, _ = data()
    return ni.Posterior.fit(network(), x, y, engine="krylov", progress=False)


@once
def feature_kernel():
    return ni.kernels.features(lambda x: x[:, :2])


@once
def of_features():
    x, y, _, _ = data()
    return ni.Ensemble.fit(feature_kernel(), x, y, progress=False)


@once
def feature_posterior():
    x, y, _, _ = data()
    return ni.Posterior.fit(feature_kernel(), x, y, progress=False)


@once
def posterior():
    x, y, _, _ = data()
    return ni.Posterior.fit(network(), x, y, progress=False)


def of_scale(parameters):
    return ni.architectures.network(depth=1, w_std=parameters["w_std"])


@once
def learned():
    x, y, _, _ = data()
    with warnings.catch_warnings():
        # Two steps are few.
        warnings.simplefilter("ignore")
        return ni.Posterior.learn(of_scale, x, y, {"w_std": 1.0, "noise": 0.1}, max_steps=2, progress=False)


@once
def kernel(both=False):
    both_kernels = ni.kernels.kernels(network(), data()[0])
    return both_kernels if both else both_kernels.nngp


@once
def z(joint=False):
    return ens().predict(data()[2], 5.0, joint)


@once
def information():
    # Bounds compile less than quadratures do.
    return ni.information.input_information(z(), method="pairwise")


@once
def curve():
    _, _, x_test, y_test = data()
    return ni.information.curve(ens(), x_test, y_test, T, method="pairwise")


@once
def supersample():
    x, y, _, _ = data()
    return ni.cmi.supersample(network(), x, y, T, draws=8)


@once
def relaxation():
    return ni.compression.relaxation_times(np.array([1.0, 2.0]))


@once
def run():
    x, y, x_test, _ = data()
    return ni.finite.train(network(), x, y, [0.0, 1.0], n_networks=4, key=KEY, x_test=x_test, progress=False)


@once
def layer_task():
    """x (8, 3) and classes (8,)."""
    x = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], float) * 2 - 1
    return x, (x.sum(1) > 0).astype(int)


@once
def layer_run():
    x, y = layer_task()
    return ni.finite.train_layers(
        (3, 2, 2), x, y, epochs=2, n_networks=2, key=KEY, batch_size=4, record=2, progress=False
    )


@once
def phases():
    return ni.finite.gradient_phases(layer_run())


@once
def plane():
    x, y = layer_task()
    return ni.finite.information_plane(layer_run(), x, np.eye(2)[y], bins=3, progress=False)


@once
def joint():
    """p(x, y), (3, 2)."""
    return np.array([[0.3, 0.05], [0.1, 0.2], [0.05, 0.3]])


@once
def bottleneck_curve():
    # The bottleneck that compiles least.
    return ni.bottleneck.deterministic_ib(joint(), np.array([2.0, 5.0]))


@once
def bifurcation():
    return ni.bottleneck.bifurcation(joint(), np.array([2.0, 5.0]))


@once
def covariances():
    """cov_x (2, 2), cov_y (1, 1), cov_xy (2, 1)."""
    return np.array([[1.0, 0.2], [0.2, 1.0]]), np.array([[1.0]]), np.array([[0.5], [0.3]])


VARIATIONAL = dict(latent=2, steps=2, record=1, batch_size=None, progress=False)


def encoder():
    return ni.variational.encoders.linear(4)


@once
def variational_data():
    x = rng().normal(size=(12, 3))
    return x, (x[:, 0] > 0).astype(int)


@once
def fit():
    x, y = variational_data()
    return ni.variational.fit(x, y, beta=5.0, key=KEY, encoder=encoder(), **VARIATIONAL)


@once
def variational_sweep():
    x, y = variational_data()
    # One trade-off, that of `fit`: its program is there already.
    return ni.variational.sweep(
        x, y, betas=[5.0], key=KEY, names="vib", encoder=encoder(), x_test=x, y_test=y, **VARIATIONAL
    )


def build(w, b):
    stax = ni.stax
    return stax.serial(stax.Dense(1, w, b), stax.Erf(), stax.Dense(1, w, b))


@once
def csv_file():
    """A CSV file of two inputs and a label."""
    path = os.path.join(tempfile.mkdtemp(), "data.csv")
    with open(path, "w") as file:
        file.write("a,b,label\n" + "".join(f"{i},{i * i},{'no' if i % 3 else 'yes'}\n" for i in range(12)))
    return path


@once
def table_file():
    """An .npz of data."""
    x = rng().normal(size=(12, 3))
    path = os.path.join(tempfile.mkdtemp(), "data.npz")
    np.savez(path, x=x, y=(x[:, 0] > 0).astype(int))
    return path


@once
def result_file():
    """A file of a result."""
    path = os.path.join(tempfile.mkdtemp(), "result.npz")
    ni.save(z(), path)
    return path


@once
def certificate():
    """A certificate as if it had been computed."""
    rise = np.array([0.1, 0.4])
    return ni.information.Certificate(np.array([0.5, 5.0]), rise, rise, rise, rise, rise, rise, rise, 0.05, None)
