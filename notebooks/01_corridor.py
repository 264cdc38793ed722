# %% [markdown]
# # From a network to the information plane
#
# One description of an architecture, one data set, and everything an infinitely wide network of that architecture
# would know about the data while it trains: in closed form, without training anything. At the end finite networks are
# trained after all, to see that they do the same.
#
# Two settings first: float64, which the kernels of this field need, and plots as pictures in the page.

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small factorisations starve each other with more, on the CPU

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import ntkinfo as ni
from ntkinfo import stax

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

# %% [markdown]
# ## Data and a network
#
# Handwritten digits of 8 × 8 pixels, labelled $+1$ (even) or $-1$ (odd): $n = 300$ to train on and $m = 200$ others.
# From each pixel its mean over the training images is taken away, and all are divided by one number; the picture shows some
# digits before that.

# %%
data = ni.datasets.digits(n_train=300, n_test=200, task="parity")
figure, axes = plt.subplots(1, 10, figsize=(9, 1.3))
for ax, image, digit in zip(axes, load_digits().images[10:], load_digits().target[10:], strict=False):
    ax.imshow(image, cmap="gray_r")
    ax.set_title(f"{digit}: {1 if digit % 2 == 0 else -1:+d}")
    ax.axis("off")
plt.show()
print(f"{len(data.x_train)} training and {len(data.x_test)} test images, {np.mean(data.y_test > 0):.0%} of these even")


# %% [markdown]
# The network is one of neural-tangents' `stax`: a hidden layer of erf units, weights and biases drawn from
# $N(0, \sigma_w^2)$ and $N(0, \sigma_b^2)$ with the scales 1 and 0.1. Its width, 256, is that of a finite network; the
# kernels below are those of infinite width, whatever is written there.


# %%
def network(w_std, b_std, width=256):
    return stax.serial(stax.Dense(width, W_std=w_std, b_std=b_std), stax.Erf(), stax.Dense(1, W_std=w_std, b_std=b_std))


net = network(1.0, 0.1)

# %% [markdown]
# ## Kernels
#
# At infinite width two kernels describe the network: the covariance of its output at initialisation (NNGP) and the
# tangent kernel (NTK), which says how a step on one input moves the output at another,
#
# $$K(x, x') = \mathrm{E}\, f(x)\, f(x'), \qquad \Theta(x, x') = \mathrm{E}\, \nabla_\theta f(x) \cdot \nabla_\theta f(x').$$
#
# With the inputs sorted by their label the tangent kernel shows what is to be learned. Its eigenvalues span decades: some
# directions are learned long before others.

# %%
kernels = ni.kernels.kernels(net, data.x_train)
order = np.argsort(data.labels_train, kind="stable")
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), layout="constrained", width_ratios=(1, 1, 1.1))
for ax, kernel, name in zip(axes, kernels, ("NNGP $K$", r"NTK $\Theta$"), strict=False):
    figure.colorbar(ax.imshow(kernel[np.ix_(order, order)]), ax=ax, shrink=0.8)
    ax.set(title=name, xticks=[], yticks=[])
for kernel, name in zip(kernels, ("$K$", r"$\Theta$"), strict=True):
    axes[2].semilogy(np.linalg.eigvalsh(kernel)[::-1], label=name)
axes[2].set(title="eigenvalues", xlabel="rank")
axes[2].legend()
plt.show()
spectrum = np.linalg.eigvalsh(kernels.ntk)
print(f"the eigenvalues of the tangent kernel span {np.log10(spectrum[-1] / spectrum[0]):.1f} decades")

# %% [markdown]
# ## The ensemble
#
# Trained by gradient flow on the squared error, networks of all initialisations together stay a Gaussian process. With
# $\Theta = U\,\mathrm{diag}(\lambda)\,U^\top$ on the training inputs, $s = t/nk$ and
# $A_t = \Theta_* U\,\mathrm{diag}\big((1 - e^{-s\lambda})/\lambda\big)\,U^\top$, the outputs at new inputs have
#
# $$\mu_t = A_t Y, \qquad \Sigma_t = K_{**} + A_t K A_t^\top - A_t K_*^\top - K_* A_t^\top.$$
#
# `fit` makes the one eigendecomposition; any number of times, from 0 (the prior) to infinity, then costs little. Time is
# that of neural-tangents: learning rate 1 on half the mean squared error.

# %%
ens = ni.Ensemble.fit(net, data.x_train, data.y_train)
t = jnp.concatenate([jnp.zeros(1), jnp.logspace(-1, 5, 49), jnp.array([jnp.inf])])
z = ens.predict(data.x_test, t)
z.mean.shape, z.variance.shape

# %% [markdown]
# Six test inputs: the mean of all networks, and where two thirds of the networks are.

# %%
figure, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for i in range(6):
    mean, deviation = z.mean[1:-1, i, 0], jnp.sqrt(z.variance[1:-1, i])
    (line,) = ax.semilogx(t[1:-1], mean, label=f"digit of label {data.y_test[i, 0]:+.0f}")
    ax.fill_between(t[1:-1], mean - deviation, mean + deviation, color=line.get_color(), alpha=0.12, lw=0)
ax.set(xlabel="training time $t$", ylabel="output $z$")
ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ## Information over time
#
# Let $X$ be one of the $m$ test inputs, each equally likely, and $Z$ the output at it of a network from the ensemble:
# $Z \mid x_i \sim p_i = N(\mu_t(x_i), \Sigma_t(x_i, x_i))$. What does $Z$ tell about which input it was, and about its label?
#
# $$I(X;Z|D) = \frac1m \sum_i \mathrm{KL}\Big(p_i \,\Big\Vert\, \frac1m\sum_j p_j\Big) \le \log m, \qquad
# I(Y;Z|D) = I(X;Z|D) - \sum_c p(c)\, I(X;Z|Y{=}c, D) \le H(Y).$$
#
# For one output both are computed exactly, by quadrature. `curve` computes these and everything below at once, in one
# compiled program. All information is in nats; plots also do bits.

# %%
curve = ni.information.curve(ens, data.x_test, data.y_test, t)
ni.plot.curve(curve)
plt.show()

# %% [markdown]
# Both rise while the ensemble turns from noise into a classifier. The distance of the two lines is $I(X;Z|Y,D)$: what the
# output says about the input beyond its label.
#
# ## Losses
#
# A network drawn from the ensemble is off by the error of the mean and its own deviation, the Gibbs loss
# $\mathrm{E}\,\Vert f(x) - y\Vert^2 = \Vert\mu_t(x) - y\Vert^2 + k\,\Sigma_t(x, x)$, and takes the wrong sign with probability
# $\Phi\big(-y\,\mu_t/\sqrt{\Sigma_t}\big)$. Both are exact.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
ni.plot.losses(curve, "mse", ax=axes[0])
ni.plot.losses(curve, "error", ax=axes[1])
plt.show()

# %% [markdown]
# ## How far training goes
#
# Three measures of it: how far the outputs are from their prior, which bounds what they know about the training data,
# $\mathrm{KL}[p_t(z|x, D)\,\Vert\,p_0(z|x)]$, on average an upper bound on $I(Z;D|X)$; how far the parameters have moved,
# $\mathrm{E}\,\Vert\theta_t - \theta_0\Vert^2 = \mathrm{tr}\big[(kK + YY^\top)\,\Theta^{-1}(I - e^{-s\Theta})^2\big]$; and the action,
# the integral of their squared speed. The trace of the Fisher information, $k\,\mathrm{tr}\,\Theta$, does not change.

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
ni.plot.divergence(curve, ax=axes[0])
ni.plot.geometry(curve, ax=axes[1])
plt.show()

# %% [markdown]
# ## The information plane
#
# The two informations against each other, in bits, a point for each time. The dashed line is the ceiling $\log m$:
# a value close to it would say only that all test inputs are told apart.

# %%
ni.plot.plane(curve, unit="bits")
plt.show()

# %% [markdown]
# ## A sweep over weight scales
#
# Larger weights make for larger kernels and a larger share of noise that training does not remove. `sweep.scales`
# computes the curve for every pair of scales (and, given a folder, writes each to disk and goes on after an interruption).

# %%
sweep = ni.sweep.scales(
    network, data.x_train, data.y_train, data.x_test, data.y_test, t[::2],
    w_std=[0.3, 0.6, 1.0, 1.5, 2.5], b_std=[0.1], joint=False, progress=False,
)  # fmt: skip
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
colors = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(sweep.w_std)))
for i, (w, color) in enumerate(zip(sweep.w_std, colors, strict=True)):
    information = [sweep.values[name][i, 0] for name in ("input_information", "label_information")]
    axes[0].plot(*information, color=color, label=rf"$\sigma_w$ = {w}")
    axes[0].plot(information[0][-1], information[1][-1], "s", color=color, mec="black", ms=5)
    axes[1].semilogx(sweep.t[1:-1], sweep.values["gibbs_error"][i, 0, 1:-1], color=color)
axes[0].axhline(sweep.ceilings["label_entropy"], color="0.35", lw=0.9, ls=":")
axes[0].axvline(sweep.ceilings["log_m"], color="0.35", lw=0.9, ls="--")
axes[0].set(xlabel="$I(X;Z|D)$ [nats]", ylabel="$I(Y;Z|D)$ [nats]")
axes[1].set(xlabel="training time $t$", ylabel="0-1 error of one network", ylim=(0, None))
axes[0].legend(fontsize="small")
plt.show()

# %% [markdown]
# Squares are $t = \infty$, the dotted line $H(Y)$, the dashed one $\log m$.
#
# ## Finite networks beside it
#
# Nothing has been trained so far. Here are 32 networks of width 256, trained by gradient descent on the first 100 digits
# from 32 random starts, and the same quantities from their sampled means and variances: points with two standard
# errors on the lines of the infinite ensemble.

# %%
small = ni.Ensemble.fit(net, data.x_train[:100], data.y_train[:100])
times = 100 / small.eigenvalues[-1] * jnp.array([0.0, 1.0, 3.0, 10.0, 30.0])
run = ni.finite.train(
    net, data.x_train[:100], data.y_train[:100], times,
    n_networks=32, key=jax.random.key(0), x_test=data.x_test, progress=False,
)  # fmt: skip
sampled = ni.finite.summary(run, data.y_test)
dense = jnp.concatenate([jnp.zeros(1), jnp.geomspace(times[1] / 3, times[-1] * 3, 30)])
closed = ni.information.curve(small, data.x_test, data.y_test, dense, joint=False)
figure, axes = plt.subplots(1, 3, figsize=(14, 3.8), layout="constrained")
for ax, names in zip(
    axes, (("input_information", "label_information"), ("gibbs_mse",), ("parameter_distance", "action")), strict=True
):
    ni.plot.finite(closed, {name: sampled[name] for name in names}, ax=ax)

# %% [markdown]
# ## As a table
#
# Every column of a curve, one row for each time.

# %%
table = curve.to_dataframe()[["t", "input_information", "label_information", "gibbs_mse", "gibbs_error", "mean_error"]]
table.iloc[::5].round(4)
