# %% [markdown]
# # One trained network: what it knows, and whether its linearisation tells the truth
#
# A network of Flax, trained as anyone would, on Fashion-MNIST (digits where the files are not there). Around its parameters
# $\theta_0$ it is nearly linear, $f(x; \theta) \approx f(x; \theta_0) + J(x)(\theta - \theta_0)$, and all that such a network
# does is said by its tangent kernel $\hat\Theta = J J^\top$ (theory, section 11). Three questions, before and after training:
# how has the kernel turned, what does the network know, and does training by the linear formulas tell what training does?

# %%
import os
import warnings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

# The folder of the four Fashion-MNIST files.
folder = os.environ.get("FASHION_MNIST")
data = ni.datasets.mnist(folder, 300, 300) if folder else ni.datasets.digits(300, 300)
name = "Fashion-MNIST" if folder else "digits"
x, y, x_test, y_test = (jnp.asarray(part) for part in (data.x_train, data.y_train, data.x_test, data.y_test))
print(f"{name}: {len(x)} training and {len(x_test)} test images of {x.shape[1]} pixels; even classes against odd ones")

# %% [markdown]
# ## Training
#
# Two hidden layers, Adam on half the mean squared error. What is kept on the way are the variables, as Flax has them.

# %%
module = nn.Sequential([nn.Dense(128), nn.tanh, nn.Dense(64), nn.tanh, nn.Dense(1)])
variables = module.init(jax.random.key(0), x)
adam = optax.adam(2e-3)
state = adam.init(variables)


@jax.jit
def step(variables, state):
    loss, gradient = jax.value_and_grad(lambda v: 0.5 * jnp.mean((module.apply(v, x) - y) ** 2))(variables)
    updates, state = adam.update(gradient, state)
    return optax.apply_updates(variables, updates), state, loss


def errors(variables):
    return [float(jnp.mean(jnp.sign(module.apply(variables, a)) != b)) for a, b in ((x, y), (x_test, y_test))]


kept, losses, wrong = {}, [], {}
for i in range(301):
    if i in (0, 3, 10, 30, 100, 300):
        kept[i], wrong[i] = variables, errors(variables)
    variables, state, loss = step(variables, state)
    losses.append(float(loss))

_, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
axes[0].semilogy(losses)
axes[0].set(xlabel="step", ylabel="half mean squared training error")
axes[1].plot(list(wrong), [train for train, _ in wrong.values()], "o-", label="training images")
axes[1].plot(list(wrong), [test for _, test in wrong.values()], "s-", label="test images")
axes[1].set(xlabel="step", ylabel="0-1 error", xscale="symlog", ylim=(0, None))
axes[1].legend()
print(
    f"after {max(kept)} steps: {wrong[300][0]:.1%} of the training and {wrong[300][1]:.1%} of the test images are wrong"
)

# %% [markdown]
# ## How the kernel turned
#
# $\hat\Theta$ on the training images at each of these steps: the angle to that of the start, and the share of the labels'
# squared norm that its ten leading eigenvectors carry. A kernel that stayed as it was would be that of an infinitely wide
# network; whether this one turns towards the labels is decided below.

# %%
nets = {i: ni.networks.from_flax(module, v) for i, v in kept.items()}
kernels = {i: np.asarray(ni.kernels.empirical(net)(x, None, "ntk")) for i, net in nets.items()}
spectra = {i: np.linalg.eigh(kernel) for i, kernel in kernels.items()}


def share(i, of, j=10):
    return float(np.sum((spectra[i][1][:, -j:].T @ of) ** 2) / np.sum(of**2))


turned = pd.DataFrame(
    {
        "cosine to the start": {
            i: np.sum(k * kernels[0]) / np.linalg.norm(k) / np.linalg.norm(kernels[0]) for i, k in kernels.items()
        },
        "trace": {i: np.trace(kernel) / len(x) for i, kernel in kernels.items()},
        "labels along 10 eigenvectors": {i: share(i, np.asarray(y)) for i in kernels},
        "residuals along 10 eigenvectors": {i: share(i, np.asarray(y - nets[i](x))) for i in kernels},
    }
).rename_axis("step")
turned.round(3)

# %%
_, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
for i, style in ((0, "-"), (30, "--"), (300, ":")):
    axes[0].loglog(np.arange(1, len(x) + 1), spectra[i][0][::-1], style, label=f"step {i}")
axes[0].set(xlabel="rank", ylabel=r"eigenvalue of $\hat\Theta$")
axes[0].legend()
for column, marker in (
    ("cosine to the start", "o-"),
    ("labels along 10 eigenvectors", "s-"),
    ("residuals along 10 eigenvectors", "^-"),
):
    axes[1].plot(turned.index, turned[column], marker, label=column)
axes[1].set(xlabel="step", xscale="symlog", ylim=(0, 1.02))
axes[1].legend(fontsize="small")
plt.show()

# %% [markdown]
# ## What the network knows
#
# The linearised Laplace posterior: parameters $\mathcal{N}(\theta_0, \tau^2 I)$ before the data, both variances by largest
# evidence around the random parameters, and the same two around the trained ones. Before training the parameters have seen
# nothing, and a bound on the error of a network drawn from the posterior is legal where $\tau^2$ is not fitted to these data;
# after training there is none, and the report says why.

# %%
key = jax.random.key(1)
fixed = {"noise": 0.1, "prior_variance": 0.001, "origin": "initialisation"}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    before = ni.networks.report(nets[0], data, key=key, progress=False)
for each in said:
    print(f"The report says of its variances: {each.message}")
same = {"noise": before.noise, "prior_variance": before.prior_variance}
reports = {
    "before, variances fixed": ni.networks.report(nets[0], data, key=key, progress=False, **fixed),
    "before": before,
    "after": ni.networks.report(nets[300], data, key=key, progress=False, **same),
}
table = pd.DataFrame({which: found.to_dataframe().set_index("quantity")["value"] for which, found in reports.items()})
for which, found in reports.items():
    print(f"{which}: {found.no_bounds or 'bounds hold'}")
table.loc[reports["before, variances fixed"].to_dataframe()["quantity"]].map(
    lambda value: "none" if np.isnan(value) else f"{value:.4g}"
)

# %%
ni.plot.network(reports["before"], title=f"{name}, before training")
ni.plot.network(reports["after"], title=f"{name}, after training")
plt.show()

# %%
first, last = reports["before"], reports["after"]
print(
    f"Before training the data decide {first.effective_dimension:.0f} directions of {first.n_parameters} parameters, "
    f"after it {last.effective_dimension:.0f}.\n"
    f"The output tells {float(last.label_information.value):.3f} nats about the label after training, "
    f"{float(first.label_information.value):.3f} where the same data go into the posterior around random parameters.\n"
    f"90 % intervals hold {first.coverage[0.9]:.0%} of the test labels around random parameters, and "
    f"{last.coverage[0.9]:.0%} around trained ones."
)

# %% [markdown]
# ## Does linearised training tell the truth?
#
# Two trainings from the same parameters, with the same steps of gradient descent: of the network, and of its linearisation.
# How far apart are they on test images, as a share of how far the linear one moved? And to the end: the linearised network at
# $t = \infty$ against the network that Adam trained.

# %%
_, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
for which, marker in (("before", "o-"), ("after", "s-")):
    ax.loglog(reports[which].t[1:], reports[which].disagreement[1:], marker, label=f"{which} training")
ax.set(xlabel=r"time from $\theta_0$", ylabel=r"$\Vert f_\mathrm{lin} - f\Vert / \Vert f_\mathrm{lin} - f_0\Vert$")
ax.legend()

rows = {"network, trained": wrong[300][1]}
for i in (0, 30, 300):
    kernel = ni.kernels.empirical(nets[i])
    ens = ni.Ensemble.fit(kernel, x, y, mean=nets[i], singular="project")
    mean = np.asarray(ens.predict(x_test, np.inf).mean)
    rows[f"linearised at step {i}, to the end"] = float(np.mean(np.sign(mean) != y_test))
infinite = ni.stax.serial(ni.stax.Dense(1), ni.stax.Erf(), ni.stax.Dense(1), ni.stax.Erf(), ni.stax.Dense(1))
ens = ni.Ensemble.fit(infinite, x, y)
rows["infinitely wide, to the end"] = float(np.mean(np.sign(np.asarray(ens.predict(x_test, np.inf).mean)) != y_test))
for which, error in rows.items():
    print(f"{which:36} {error:.1%} of the test images are wrong")

# %% [markdown]
# ## Verdicts
#
# Each from the numbers above, by the rule that is printed with it: one network, one data set.


# %%
def verdict(text, rule, measured, holds):
    print(
        f"- {text}\n    rule:     {rule}\n    measured: {measured}\n    verdict:  {'holds' if holds else 'does not hold'}\n"
    )


early, late = (float(reports[which].disagreement[-1]) for which in ("before", "after"))
end = {which: found.t[-1] for which, found in reports.items()}
cosine, along = turned["cosine to the start"], turned["labels along 10 eigenvectors"]
verdict(
    "The kernel turns in training.", "cosine to the start below 0.9 at the end", f"{cosine.iloc[-1]:.2f}",
    cosine.iloc[-1] < 0.9,
)  # fmt: skip
verdict(
    "It turns towards the labels.", "its ten leading eigenvectors carry more of them than at the start",
    f"{along.iloc[0]:.2f}, then {along.iloc[-1]:.2f}", along.iloc[-1] > along.iloc[0],
)  # fmt: skip
verdict(
    "Training by the linear formulas tells what training does, from random parameters.", "off by less than a tenth",
    f"{early:.1%} off at t = {end['before']:.3g}", early < 0.1,
)  # fmt: skip
verdict(
    "And from trained parameters on.",
    "off by less than a tenth",
    f"{late:.1%} off at t = {end['after']:.3g}",
    late < 0.1,
)
linear, trained = rows["linearised at step 0, to the end"], rows["network, trained"]
verdict(
    "Linearised at random parameters, the network is as good as trained.", "at most 2 points more test error",
    f"{linear:.1%} against {trained:.1%}", linear <= trained + 0.02,
)  # fmt: skip
