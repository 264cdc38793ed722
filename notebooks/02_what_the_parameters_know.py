# %% [markdown]
# # What the parameters know
#
# How much of its training data does a trained network carry in its parameters, and what does that say about its errors
# on other data? For infinitely wide networks the divergence of the parameters from their initialisation is a closed
# form. So are Bayesian posteriors and their information, and all of these go into generalization bounds, which are set
# beside the measured test error here.
#
# Two settings first: float64, which the kernels of this field need, and plots as pictures in the page.

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small factorisations starve each other with more, on the CPU

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import kendalltau

import ntkinfo as ni
from ntkinfo import bounds, stax

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

# %% [markdown]
# ## Data and a network
#
# Handwritten digits of 8 × 8 pixels, labelled $+1$ (even) or $-1$ (odd): $n = 200$ to train on and $m = 400$ to test on.
# A bound holds for a prior that was fixed before the training data were seen, and centring the inputs by their own mean
# would already break that. So the inputs are shifted and scaled by 1000 other digits, which are used for nothing else.

# %%
n, m = 200, 400
data = ni.datasets.digits(n_train=1000, n_test=n + m, task="parity")
x, y = data.x_test[:n], data.y_test[:n]
x_test, y_test = data.x_test[n:], data.y_test[n:]
x.shape, x_test.shape


# %% [markdown]
# The network has one hidden layer of erf units; all its weights have the scale $\sigma_w$. Erf is smooth, which matters
# here: what follows needs second derivatives.


# %%
@functools.cache
def network(w_std):
    layers = stax.Dense(512, W_std=w_std, b_std=0.1), stax.Erf(), stax.Dense(1, W_std=w_std, b_std=0.1)
    return stax.serial(*layers)


net = network(1.0)
ens = ni.Ensemble.fit(net, x, y)

# %% [markdown]
# ## The Hessian kernel
#
# Let $K(\rho)$ be the covariance between $f(x; \theta)$ and $f(x'; \rho\theta + \sqrt{1-\rho^2}\,\xi)$: two networks whose
# parameters have correlation $\rho$. Its derivatives at $\rho = 1$ are three kernels,
#
# $$K(1) = K, \qquad K'(1) = \Theta, \qquad
# K''(1) = H(x, x') = \mathrm{E}\,\big\langle \nabla^2_\theta f(x), \nabla^2_\theta f(x') \big\rangle_F .$$
#
# The third, the Hessian kernel, does not vanish at infinite width, although the tangent kernel $\Theta$ then stays
# constant during training.

# %%
kernels = ni.kernels.kernels(net, x)
hessian = ni.kernels.hessian(net, x)
order = np.argsort(y[:, 0], kind="stable")
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), layout="constrained")
for ax, kernel, name in zip(axes, (*kernels, hessian), ("NNGP $K$", r"NTK $\Theta$", "Hessian $H$"), strict=True):
    figure.colorbar(ax.imshow(np.asarray(kernel)[np.ix_(order, order)]), ax=ax, shrink=0.8)
    ax.set(title=name, xticks=[], yticks=[])

# %% [markdown]
# ## The divergence of the parameters
#
# With $s = t/nk$ and $A_t = \Theta^{-1}(I - e^{-s\Theta})$ the parameters $\theta_t$ of the trained networks are at the
# distance
#
# $$\mathrm{KL}\big[p(\theta_t | D) \,\big\Vert\, N(0, I)\big] =
# \underbrace{k\,\mathrm{tr}\big[s\Theta - (I - e^{-s\Theta})\big]
# + \tfrac12 \mathrm{tr}\big[(kK + YY^\top)\, \Theta A_t^2\big]}_{\text{linear}}
# + \underbrace{\tfrac12 \mathrm{tr}\big[(kK + YY^\top)\, A_t H A_t\big]}_{\text{curvature}}$$
#
# nats from their initialisation. Averaged over data sets it bounds $I(\Theta; D)$. It grows without end: the flow is
# deterministic and keeps contracting the directions that it has learned. Infinite times are therefore refused.
#
# Beside it stand the divergences of the outputs from their prior, of 100 test outputs together and of all training
# outputs together. The outputs are functions of the parameters, so neither can exceed the total. On the training inputs
# the variance soon vanishes to working precision, and the line ends there.

# %%
t = np.geomspace(0.1, 1e4, 26)
kl = ni.information.parameter_divergence(ens, t, hessian=hessian)
on_test = ni.information.output_divergence(ens, x_test[:100], t, joint=True)
early = t[t < 20]
on_train = ni.information.output_divergence(ens, x, early, joint=True)

figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained")
for values, name, style in (
    (kl.total, "total", "k-"),
    (kl.linear, "linear", "C0--"),
    (kl.curvature, "curvature", "C1--"),
):
    axes[0].loglog(t, values, style, label=f"parameters: {name}")
axes[0].loglog(t, on_test, "C2", label="outputs, 100 test inputs")
axes[0].loglog(early, on_train, "C3", label="outputs, training inputs")
axes[0].set(xlabel="training time $t$", ylabel="divergence [nats]")
axes[0].legend(fontsize="small")
axes[1].semilogx(early, on_train / kl.total[: len(early)], "C3", label="outputs, training inputs")
axes[1].semilogx(t, on_test / kl.total, "C2", label="outputs, 100 test inputs")
axes[1].semilogx(t, kl.linear / kl.total, "C0--", label="parameters: linear")
axes[1].axhline(1, color="k")
axes[1].set(xlabel="training time $t$", ylabel="share of the total")
axes[1].legend(fontsize="small")
plt.show()

# %% [markdown]
# Is the linear part alone, the divergence of a network whose tangent features were frozen, a bound on what the outputs
# know? And with the curvature? Each answer is computed from the figures, by the rule that is printed with it.

# %%
print("      t    linear     total   outputs, train   outputs, test")
for i in (0, 4, 8, 11):
    print(f"{t[i]:7.2f} {kl.linear[i]:9.4g} {kl.total[i]:9.4g} {on_train[i]:16.4g} {on_test[i]:15.4g}")


def share_above(outputs, parameters):
    """At which share of the times the outputs know more than that, beyond rounding."""
    return float(np.mean(np.asarray(outputs) > np.asarray(parameters)[: len(outputs)] * (1 + 1e-9)))


for name, parameters in (("linear part", kl.linear), ("total", kl.total)):
    above = {"training": share_above(on_train, parameters), "test": share_above(on_test, parameters)}
    print(
        f"{name}: the outputs exceed it at {above['training']:.0%} (training inputs) and {above['test']:.0%} (test inputs) "
        f"of the times: {'no bound' if max(above.values()) > 0 else 'never exceeded'}"
    )
seen = np.asarray(on_train) / np.asarray(kl.total)[: len(early)]
print(f"the outputs on the training inputs hold {seen[early > 0.3].min():.1%} or more of the total from t = 0.3 to 20")


# %% [markdown]
# ## Bayesian posteriors
#
# `Posterior` conditions the prior on the labels instead of training: Gaussian-process regression with the covariance
# $Q = K$ (`prior="nngp"`) or $\Theta$ (`prior="ntk"`) and noise of variance $\sigma^2$, which `noise="fit"` chooses by
# marginal likelihood. Two informations come with it,
#
# $$I(f; Y | X) = \tfrac{k}{2} \log\det(I + Q/\sigma^2), \qquad
# \mathrm{KL}[\text{posterior} \,\Vert\, \text{prior}]
# = \tfrac12\big[k\,\mathrm{tr}(Q_\text{post} Q^{-1}) - kn + \mathrm{tr}(\mu^\top Q^{-1}\mu)\big] + I(f; Y | X).$$
#
# The information gain does not look at the labels; it is the divergence averaged over labels that the prior itself
# would draw. Leave-one-out predictions cost no refitting.


# %%
def zero_one(z, y):
    z = z._replace(variance=jnp.maximum(z.variance, 0.0))  # rounding, where a variance vanishes
    return np.asarray(ni.information.losses(z, y, task="classes").gibbs_error)


def describe(noise, prior="nngp"):
    post = ni.Posterior.fit(net, x, y, noise=noise, prior=prior)
    train, test = zero_one(post.predict_train(), y), zero_one(post.predict(x_test), y_test)
    bound = bounds.pac_bayes_kl(train, post.kl, n=n, delta=0.05)
    numbers = post.noise, post.information_gain, post.kl, train, zero_one(post.leave_one_out(), y), test, bound
    return [float(value) for value in numbers]


print("prior   noise    gain      KL   train error   leave-one-out   test error   PAC-Bayes-kl")
for prior in ("nngp", "ntk"):
    print("{:5} {:7.3f} {:7.1f} {:7.1f} {:13.3f} {:15.3f} {:12.3f} {:14.3f}".format(prior, *describe("fit", prior)))

# %% [markdown]
# Errors are 0-1 errors of one network drawn from the posterior. Which noise is best depends on what is asked: the evidence
# chooses one, the test error another, and the bound, which pays for every nat of the divergence, a third.

# %%
noises = np.geomspace(0.01, 10, 10)
_, gain, divergence, train, loo, test, bound = np.array([describe(noise) for noise in noises]).T
best = describe("fit")[0]
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.4), layout="constrained")
axes[0].loglog(noises, gain, label="information gain")
axes[0].loglog(noises, divergence, label="KL[posterior ‖ prior]")
axes[0].set(xlabel=r"noise $\sigma^2$", ylabel="nats")
for values, name, style in (
    (train, "training error", "C0--"), (loo, "leave-one-out error", "C1:"), (test, "test error", "C2"),
    (bound, "PAC-Bayes-kl", "k"),
):  # fmt: skip
    axes[1].semilogx(noises, values, style, label=name)
axes[1].set(xlabel=r"noise $\sigma^2$", ylabel="0-1 error of one network", ylim=(0, 1))
for ax in axes:
    ax.axvline(best, color="0.7", lw=1, label=r"$\sigma^2$ of largest evidence")
    ax.legend(fontsize="small")
plt.show()
print(f"noise of largest evidence {best:.2g}, of least test error {noises[test.argmin()]:.2g}, "
      f"of the lowest bound {noises[bound.argmin()]:.2g}")  # fmt: skip
print(f"leave-one-out less test error: {np.min(loo - test):+.3f} to {np.max(loo - test):+.3f} over these noises")


# %% [markdown]
# ## Bounds
#
# Which bound may I use?
#
# | function | you have | it bounds | holds |
# | --- | --- | --- | --- |
# | `pac_bayes_kl` | training error of a random network, its KL to a prior | its true error | with probability $1 - \delta$, for all posteriors at once |
# | `mcallester` | the same | the same, never sharper, in closed form | the same |
# | `catoni` | the same | the same | the same |
# | `information_content` | prior probability of all training labels | the error of a prior network, given that it fits them | with probability $1 - \delta$ |
# | `xu_raginsky` | $I(\Theta; D)$, an average over data sets | the expected gap | on average; one data set's KL is no substitute |
# | `input_compression` | $I(X; Z)$ | the gap | heuristically: one step has no proof |
#
# All ask for independent examples: digits drawn from a finite pool, repeated images left out, are that only nearly, and so
# are bounds for all times at once. The loss here is the 0-1 error. The KL must be one between whole networks: that of the parameters,
# curvature included, or that of a posterior. A value above 1 says nothing and is returned as it is.
#
# For the ensemble the posterior is the distribution of one trained network at time $t$, the prior that of its
# initialisation, and the error that of one network, not of the mean of all.


# %%
def against_errors(ens, kl, t, x_test, y_test):
    z = ens.predict(x_test, t)
    information = np.asarray(ni.information.input_information(z).value)
    train, test = zero_one(ens.predict_train(t), ens.y), zero_one(z, y_test)
    rows = {"training error": train, "test error": test}
    for name in ("pac_bayes_kl", "mcallester", "catoni"):
        rows[name] = getattr(bounds, name)(train, kl, n=ens.n, delta=0.05)
    rows["input_compression"] = train + bounds.input_compression(information, n=ens.n, delta=0.05)
    return rows | {"I(X;Z)": information}


rows = against_errors(ens, kl.total, t, x_test, y_test)
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
styles = {"training error": "C0--", "test error": "C2", "pac_bayes_kl": "k", "mcallester": "C4", "catoni": "C5:"}
del rows["I(X;Z)"]
for name, values in rows.items():
    ax.semilogx(t, values, styles.get(name, "C1-."), label=name + (" (no proof)" if "input" in name else ""))
ax.axhline(0.5, color="0.7", lw=1)
ax.set(xlabel="training time $t$", ylabel="0-1 error of one network", ylim=(0, 1.3))
ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %%
i = int(np.argmin(rows["pac_bayes_kl"]))
print(f"best time for the bound: t = {t[i]:.3g}, KL = {kl.total[i]:.1f} nats")
for name, values in rows.items():
    print(f"  {name:18} {values[i]:.3f}")
below = np.mean(rows["input_compression"] < rows["test error"])
print(f"input compression is below the test error at {below:.0%} of the times")
late, best_bound = rows["pac_bayes_kl"][-1], rows["pac_bayes_kl"][i]
falls = rows["test error"][-1] < rows["test error"][i]
print(
    f"from there to the end the bound goes from {best_bound:.3f} to {late:.3f}, the test error from "
    f"{rows['test error'][i]:.3f} to {rows['test error'][-1]:.3f}: "
    f"{'late training helps the error and costs the bound' if falls and late > best_bound else 'both go the same way'}"
)

# %% [markdown]
# Early, the network has not learned; late, it pays for a divergence that does little for its errors. The time may be picked
# by looking: the theorem holds for all posteriors at once, as long as the prior is one. Choosing among $K$ values of
# $\sigma_w$ costs $\log K$ nats (`priors=K`). The noise of a posterior may be fitted, since the prior does not depend on it.
# Input compression has no proof.

# %% [markdown]
# ## Information content
#
# For networks that fit all labels, another quantity decides: the prior probability of doing so by chance,
#
# $$C = -\log P\big(\operatorname{sign} f(x_i) = y_i \text{ for all } i\big), \qquad f \sim N(0, K),$$
#
# the probability of an orthant. It is estimated by importance sampling, and the estimate says whether to believe it;
# `lower` and `upper` are closed forms. A kernel that knows nothing, $K = I$, gives $n \log 2$.

# %%
small = 80
rng = np.random.default_rng(0)
random_labels = rng.choice([-1.0, 1.0], n + m)
kernel = kernels.nngp[:small, :small]
contents = {}
for name, labels in (("true", y[:small, 0]), ("random", random_labels[:small])):
    c = contents[name] = ni.content.information_content(net, x[:small], labels, key=jax.random.key(0), n_samples=1024)
    published = ni.content.upper_bound(kernel, labels, form="published")
    print(
        f"{name:6} labels: {c.value:6.2f} ± {c.stderr:.2f} nats of {small * np.log(2):.1f}, "
        f"between {c.lower:.1f} and {c.upper:.1f} (published form {published:.1f}); "
        f"{c.effective_samples:.0f} effective samples, reliable: {bool(c.reliable)}"
    )

# %% [markdown]
# The bound on the error of a network drawn from the prior and kept if it fits all labels, beside the error of such
# networks on the test inputs, itself an estimate by importance sampling:

# %%
cross = ni.kernels.kernels(net, x_test, x).nngp[:, :small]
own = jnp.diagonal(ni.kernels.kernels(net, x_test).nngp)
figure, ax = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
labels = {"true": (y[:small, 0], y_test[:, 0]), "random": (random_labels[:small], random_labels[n:])}
for place, (name, (on_train, on_test)) in enumerate(labels.items()):
    c = contents[name]
    positive, _ = ni.content.positive_probability(kernel, on_train, cross, own, key=jax.random.key(1), n_samples=1024)
    error = float(np.mean(np.where(on_test > 0, 1 - positive, positive)))
    estimate, closed = (
        float(bounds.information_content(value, n=small, delta=0.05, form="sharp"))
        for value in (c.value + 3 * c.stderr, c.upper)
    )
    print(
        f"{name:6} labels: test error {error:.3f}, bound by the estimate {estimate:.3f}, "
        f"by the closed form {closed:.3f}"
    )
    for value, marker, text in (
        (error, "C2o", "test error"),
        (estimate, "ks", "estimate"),
        (closed, "k^", "closed form"),
    ):
        ax.plot(value, place, marker, label=text if place == 0 else None)
ax.set(yticks=[0, 1], yticklabels=labels, ylim=(-0.6, 1.6), xlim=(0, 1), xlabel="0-1 error and its bounds")
ax.legend(fontsize="small", loc="lower right")
plt.show()

# %% [markdown]
# Labels cheaper than $n \log 2$ are those that this prior expects; random ones should cost more, since the network expects
# neighbours to agree. Then the bound tells the two apart, although the networks fit all their labels in both cases.

# %%
for name, c in contents.items():
    low, high, chance = float(c.value - 3 * c.stderr), float(c.value + 3 * c.stderr), small * np.log(2)
    verdict = "cheaper than" if high < chance else "dearer than" if low > chance else "not to be told from"
    print(f"{name:6} labels: {c.value:.1f} ± {c.stderr:.1f} nats, {verdict} n log 2 = {chance:.1f} (3 standard errors)")

# %% [markdown]
# ## What ranks, and what certifies
#
# A bound can be true and useless for choosing among networks; a number can rank networks well and certify nothing. A
# small study, live: three weight scales, true and random labels, eight times. For each of the 48, the gap between test and
# training error, and Kendall's $\tau$ of some quantities with it ($+1$: the larger the quantity, the larger the gap).

# %%
times = np.array([0.3, 1, 3, 10, 30, 100, 1000, 10000])
cells = []
for w_std in (0.75, 1.5, 3.0):
    h = ni.kernels.hessian(network(w_std), x)
    targets = {"true": (y, y_test), "random": (random_labels[:n, None], random_labels[n:, None])}
    for name, (on_train, on_test) in targets.items():
        e = ni.Ensemble.fit(network(w_std), x, on_train)
        d = ni.information.parameter_divergence(e, times, hessian=h)
        row = against_errors(e, d.total, times, x_test, on_test)
        row |= {"labels": name, "gap": row["test error"] - row["training error"], "w_std": w_std}
        cells.append(row | {"parameter divergence": np.asarray(d.total)})

print("tau with the gap        true labels   true and random")
for name in ("parameter divergence", "training error", "I(X;Z)"):
    tau = []
    for kept in (("true",), ("true", "random")):
        some = [cell for cell in cells if cell["labels"] in kept]
        tau.append(kendalltau(*(np.concatenate([cell[key] for cell in some]) for key in (name, "gap"))).statistic)
    print(f"{name:22} {tau[0]:12.2f} {tau[1]:17.2f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
for cell in cells:
    color, marker = {"true": "C2", "random": "C3"}[cell["labels"]], {0.75: "o", 1.5: "s", 3.0: "^"}[cell["w_std"]]
    label = rf"{cell['labels']} labels, $\sigma_w$ = {cell['w_std']}"
    axes[0].plot(cell["parameter divergence"] / n, cell["gap"], marker, color=color, ms=5, label=label)
    for ax, name in zip(axes[1:], ("pac_bayes_kl", "input_compression"), strict=True):
        ax.plot(cell["test error"], np.minimum(cell[name], 1.5), marker, color=color, ms=5)
axes[0].set(xscale="log", xlabel="parameter divergence / $n$ [nats]", ylabel="test error − training error")
axes[0].legend(fontsize="x-small")
for ax, name in zip(axes[1:], ("PAC-Bayes-kl", "input compression (no proof), cut at 1.5"), strict=True):
    ax.plot([0, 0.6], [0, 0.6], "k", lw=1)
    ax.set(xlabel="test error", ylabel=name, ylim=(0, 1.55))
for name in ("pac_bayes_kl", "catoni", "input_compression"):
    under = np.mean([cell[name] < cell["test error"] for cell in cells])
    print(f"{name:18} below the test error in {under:.0%} of {sum(cell['gap'].size for cell in cells)} rows")

# %% [markdown]
# The benchmark `benchmarks/bounds.py` does this at length, on digits and MNIST, with posteriors beside the ensembles. What it
# found stands on the page of arXiv 2207.09408 in the gallery, with the verdicts.
