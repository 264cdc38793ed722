"""A student of the theory: information over training time, never above its ceilings, and the field's figure."""

import jax
import numpy as np

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
net = ni.stax.serial(ni.stax.Dense(512, 1.5, 0.1), ni.stax.Erf(), ni.stax.Dense(1, 1.5, 0.1))
data = ni.datasets.digits(40, 20)
ens = ni.Ensemble.fit(net, data)
curve = ni.information.curve(ens, data, np.logspace(-1, 4, 8))
table = curve.to_dataframe(unit="bits")
assert (table["label_information"] <= 1).all() and table["input_information"].iloc[-1] > 0.5
assert (table["label_information"] <= table["input_information"]).all()
ni.plot.plane(curve, unit="bits").figure.savefig("plane.png")
