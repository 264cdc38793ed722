# %% [markdown]
# # The bottleneck: the curve that no representation can beat
#
# Given $p(x, y)$, how much can a representation $Z$ of $X$ know about $Y$ if it may know only so much about $X$? The
# information bottleneck answers with a curve, point by point in a trade-off $\beta$, and convex duality proves each point.
# This notebook walks along that curve: the bottleneck and its dual, where clusters split, the Gaussian case, and how far
# from the curve a given representation is.
#
# | you have | and want | use |
# | --- | --- | --- |
# | a table $p(x, y)$ | the limit itself, $I(Z;Y)$ against $I(X;Z)$ | `ni.bottleneck.ib` |
# | a table with $p(y|x) > 0$, few samples to predict with, or an exponential family | predictors that keep its form | `ni.bottleneck.dual_ib` |
# | a table | a partition of the inputs | `ni.bottleneck.deterministic_ib` |
# | $Y$ a function of $X$ | points inside the straight pieces of the curve | `ni.bottleneck.squared_ib` |
# | covariances of jointly Gaussian $X$, $Y$ | the limit, exact and continuous | `ni.bottleneck.gaussian_ib` |

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small factorisations starve each other with more, on the CPU

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ntkinfo as ni
from ntkinfo import stax

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

# %% [markdown]
# ## A small problem
#
# The toy of the paper on the dual bottleneck (arXiv 2006.04641): five equally likely inputs, and a label whose probability
# is an exponential family of one feature, $p(y|x) \propto e^{-\lambda(y) A(x)}$ with $A = x$ and $\lambda = \pm 1$.

# %%
features, multipliers = np.linspace(-1, 0.6, 5)[:, None], np.array([[1.0], [-1.0]])
p_y_given_x = np.exp(-features @ multipliers.T)
p_xy = p_y_given_x / p_y_given_x.sum(axis=1, keepdims=True) / 5

beta = np.geomspace(2, 150, 50)
family = {"features": features, "multipliers": multipliers}
curves = {
    "IB": ni.bottleneck.ib(p_xy, beta, certificate=True, progress=False),
    "dual": ni.bottleneck.dual_ib(p_xy, beta, certificate=True, progress=False, **family),
    "deterministic": ni.bottleneck.deterministic_ib(p_xy, beta),
}
for name in ("IB", "dual"):
    print(f"{name}: every Lagrangian proven to within {float(curves[name].gap.max()):.0e} nats of its optimum")

# %% [markdown]
# `gap` is the certificate. The optimum over all representations is a convex problem in the measure of decoders, and the
# largest value of the function $G$ over the simplex bounds how far any solution is from it. With two labels that largest
# value is itself proven, by branch and bound; with more it is searched for.
#
# The curve of the bottleneck is the largest $I(Z;Y)$ at each $I(X;Z)$. The dual minimises another distortion, so its points
# cannot lie above; the deterministic one offers a few partitions. Any encoder is a point: below, one that sees
# the sign of $x$ through 20 % noise. `closest` says how far it is from the curve, and which $\beta$ it resembles.

# %%
noisy_sign = np.where(features < 0, 0.2, 0.8)
encoder = np.concatenate([noisy_sign, 1 - noisy_sign], axis=1)
point = ni.bottleneck.encoder_point(p_xy, encoder)
near = ni.bottleneck.closest(curves["IB"], *point)
print(f"closest to beta = {float(near.beta):.1f}, {float(near.distance):.4f} nats from the curve")
print(f"and {float(near.deficit):.4f} nats less about Y than the curve allows")
ni.plot.bottleneck(curves, points={"a noisy sign": point})
plt.show()
dual = curves["dual"]
inside = np.asarray(dual.i_xz) > 1e-3
below = ni.bottleneck.closest(curves["IB"], dual.i_xz[inside], dual.i_zy[inside]).deficit
print(f"the dual's points know at most {float(below.max()):.4f} nats less about Y than the curve allows")

# %% [markdown]
# ## Where clusters split
#
# At small $\beta$ the best representation is constant. Two things can end that. A cluster becomes *locally* unstable where
# $\beta \lambda_2 = 1$ for its stability matrix; and a new cluster at a finite distance can become profitable before
# that, the *global* change. Annealing upwards sees the first only, and so lags behind: hysteresis.

# %%
critical = ni.bottleneck.critical_betas(p_xy, dual=True, beta_max=20.0)
print("local ", np.round(np.asarray(critical.local), 4))
print("global", np.round(np.asarray(critical.global_), 4))
branches = ni.bottleneck.bifurcation(p_xy, jnp.geomspace(2.8, 18, 30), dual=True)
ni.plot.bifurcation(branches, critical=critical)
plt.show()

# %% [markdown]
# ## What the dual is good for
#
# With $n$ observations of $Z$ the error of telling the two labels apart falls like $e^{-nC}$, $C$ the Chernoff information
# between $p(z|y_0)$ and $p(z|y_1)$. The figure compares it at equal $I(X;Z)$; the dashed line is that of $X$ itself. The claim
# for the dual is that its exponent is the larger one.

# %%
rates = {}
_, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
for name in ("IB", "dual"):
    curve = curves[name]
    rate = rates[name] = [float(ni.bottleneck.prediction_exponent(p_xy, each).mean) for each in curve.encoder]
    ax.plot(curve.i_xz, rate, "o-", ms=3, label=name)
everything = float(ni.bottleneck.prediction_exponent(p_xy, np.eye(5)).mean)
ax.axhline(everything, color="0.35", ls="--", lw=0.9, label="$Z = X$")
ax.set(xlabel="$I(X;Z)$ [nats]", ylabel="prediction-error exponent [nats]")
ax.legend()
plt.show()

# %%
grid = np.linspace(0.05, min(float(curves[name].i_xz.max()) for name in rates), 50)
exponents = {name: np.interp(grid, curves[name].i_xz, rates[name]) for name in rates}
difference = (exponents["dual"] - exponents["IB"]) / everything
verdict = (
    "the dual's is larger" if difference.min() >= 0 and difference.max() > 0.01
    else "they differ by less than a hundredth of that of X: no advantage shows here" if np.abs(difference).max() < 0.01
    else "neither is larger throughout"
)  # fmt: skip
print(f"dual less IB, over the exponent of X: {difference.min():+.4f} to {difference.max():+.4f}; {verdict}")

# %% [markdown]
# ## Gaussian variables, and a network beside the curve
#
# For jointly Gaussian $X$ and $Y$ the curve is closed form. Below it stands in the information plane of an infinite ensemble
# of infinitely wide networks trained on such data: the first corridor of the library, measured with the ruler of this one.
# $I(Y;Z|D)$ is a decoder's lower bound from a sample of test points, so only its mean over samples must stay below.

# %%
data = ni.datasets.gaussian(300, 200, dim=10, information=0.447)
net = stax.serial(stax.Dense(512, W_std=0.5), stax.Erf(), stax.Dense(1, W_std=0.5))
ensemble = ni.Ensemble.fit(net, data.x_train, data.y_train)
label_entropy = 0.5 * np.log(2 * np.pi * np.e) + data.mutual_information
t = np.geomspace(1e1, 1e6, 30)
curve = ni.information.curve(ensemble, data.x_test, data.y_test, t, label_entropy=label_entropy, task="regression")

# One mode carries everything: y depends on x through one direction.
correlation = np.sqrt(1 - np.exp(-2 * data.mutual_information))
i_xz = np.linspace(0.01, 5, 100)
i_zy = ni.bottleneck.gaussian_curve(1.0, 1.0, correlation, i_xz)
ni.plot.plane(curve, bound=(i_xz, i_zy))
plt.show()
