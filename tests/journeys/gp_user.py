"""A user of Gaussian processes: noise by evidence, leave-one-out, samples of functions."""

import jax
import numpy as np

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
x = np.linspace(-1, 1, 20)[:, None]
y = np.sin(3 * x) + 0.1 * np.random.default_rng(0).normal(size=x.shape)
net = ni.stax.serial(ni.stax.Dense(512, 1.5, 0.5), ni.stax.Erf(), ni.stax.Dense(1, 1.5, 0.5))
post = ni.Posterior.fit(net, x, y, noise="fit")
z = post.predict(np.array([[0.3]]))
assert abs(float(z.mean[0, 0]) - np.sin(0.9)) < 3 * float(z.std[0]) + 0.1
assert 0.002 < float(post.noise) < 0.05 and post.leave_one_out().mean.shape == (20, 1)
assert post.predict(x, joint=True).sample(jax.random.key(0), (5,)).shape == (5, 20, 1)
ni.plot.posterior(post).figure.savefig("posterior.png")
