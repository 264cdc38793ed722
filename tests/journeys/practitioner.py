"""A practitioner with arrays of their own: text labels, a bound on the error, and networks that check it."""

import jax
import numpy as np

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
x = rng.normal(size=(60, 3))
data = ni.datasets.from_arrays(x, np.where(x[:, 0] > 0, "yes", "no"), n_train=40, n_test=20)
net = ni.stax.serial(ni.stax.Dense(64, 1.5, 0.1), ni.stax.Erf(), ni.stax.Dense(1, 1.5, 0.1))
ens = ni.Ensemble.fit(net, data)
found = ni.certificate(ens, data, [1.0, 10.0])
run = ni.finite.train(net, data, [10.0], n_networks=8, key=jax.random.key(0))
error = (np.sign(np.asarray(run.outputs)[:, 0]) != data.y_test[None]).mean()
assert data.classes == ("no", "yes") and abs(error - found.test_error[1]) < 0.15
assert (found.pac_bayes_kl > found.test_error).all()
