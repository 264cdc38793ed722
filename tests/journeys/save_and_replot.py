"""Save, reload, replot: another process draws the same, and the ensemble goes on predicting with its network."""

import jax
import numpy as np

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
net = ni.stax.serial(ni.stax.Dense(64, 1.5, 0.1), ni.stax.Erf(), ni.stax.Dense(1, 1.5, 0.1))
data = ni.datasets.digits(30, 20)
ens = ni.Ensemble.fit(net, data)
ni.save(ens, "ensemble.npz")
ni.save({"first": ni.information.curve(ens, data, [1.0, 10.0])}, "curves.npz")
again, curves = ni.load("ensemble.npz", net), ni.load("curves.npz")
assert np.array_equal(again.predict(data.x_test, 3.0).mean, ens.predict(data.x_test, 3.0).mean)
ax = ni.plot.curve(curves, unit="bits")
assert np.isclose(ax.get_lines()[0].get_ydata()[-1] * np.log(2), curves["first"].input_information.value[-1])
