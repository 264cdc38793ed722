# %% [markdown]
# # Generalization: the gap, what explains it, and which examples are wrong
#
# How much worse is one network on new examples than on those it was trained on, and what tells so beforehand? For a network
# drawn from the infinite ensemble both errors and all that follows are closed forms: no network is trained here. The data are
# digits, even against odd ones, some of whose labels are wrong (theory, sections 6, 12, 13 and 14).

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

n, m, share = 100, 200, 0.1
rng = np.random.default_rng(0)
data = ni.datasets.digits(n_train=2 * n, n_test=m)
wrong = rng.random(2 * n + m) < share
sign = np.where(wrong, -1.0, 1.0)[:, None]
x, y = data.x_train, data.y_train * sign[: 2 * n]
x_test, y_test = data.x_test, data.y_test * sign[2 * n :]
net = ni.architectures.network(depth=1, activation="erf", b_std=0.1)
ens = ni.Ensemble.fit(net, x[:n], y[:n])
print(f"{n} training and {m} test images; {wrong[:n].sum()} and {wrong[2 * n :].sum()} labels are wrong")

# %% [markdown]
# ## The gap over time, and bounds on it
#
# Three bounds that may be used here. PAC-Bayes-kl holds for this training set, with high probability: it certifies. The other
# two hold on average over data, from information between losses and which example was left out or trained on: they explain.

# %%
t = np.geomspace(0.3, 3000, 9)
certified = ni.certificate(ens, x_test, y_test, t)
pairs = ni.cmi.supersample(net, x, y, t, draws=64, key=jax.random.key(0))
left = ni.cmi.leave_one_out(ens, t)
gap = np.asarray(certified.test_error - certified.train_error)
bounds = {
    "PAC-Bayes-kl": np.asarray(certified.pac_bayes_kl - certified.train_error),
    "supersample, square root": np.asarray(pairs.square_root),
    "leave one out": np.asarray(left.bound - left.train_error),
}
_, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
ax.semilogx(t, gap, "k", label="gap measured on test images")
for (name, values), marker in zip(bounds.items(), "osd", strict=True):
    ax.semilogx(t, values, marker=marker, label=name)
ax.set(xlabel="training time $t$", ylabel="test error less training error", ylim=(0, 1.02))
ax.legend(fontsize="small")
pd.DataFrame({"gap": gap, **bounds}, index=pd.Index(t.round(1), name="t")).round(3)

# %% [markdown]
# ## When to stop
#
# The error at examples left out, of this training set alone, is an estimate of the error at new ones, at every time. Where labels
# are wrong it may have a minimum: that is when to stop.

# %%
forecast, measured = np.asarray(left.error), np.asarray(certified.test_error)
stop = int(np.argmin(forecast))
_, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
ax.semilogx(t, forecast, "o-", label="forecast from examples left out")
ax.semilogx(t, measured, "s-", label="test images")
ax.semilogx(t, np.asarray(certified.train_error), "^-", label="training images")
ax.axvline(t[stop], color="0.5", ls="--")
ax.set(xlabel="training time $t$", ylabel="0-1 error of one network", ylim=(0, None))
ax.legend(fontsize="small")
print(
    f"stop at t = {t[stop]:.0f}: forecast {forecast[stop]:.3f}, measured {measured[stop]:.3f}; "
    f"best in hindsight {measured.min():.3f} at t = {t[int(np.argmin(measured))]:.0f}; never stopping {measured[-1]:.3f}"
)

# %% [markdown]
# ## Which labels are wrong
#
# What one example tells about predictions, given all others, in nats; and how probable its label is from them. Both come from one
# factorisation, for every example at once.

# %%
post = ni.Posterior.fit(net, x, y, noise="fit")
value = ni.examples.value(post)
given_wrong = wrong[: 2 * n]


def auc(score):
    """Chance that a wrong label scores higher than a right one."""
    return float(np.mean(np.asarray(score)[given_wrong][:, None] > np.asarray(score)[~given_wrong][None, :]))


ranks = {
    "information": auc(value.information),
    "improbable label": auc(-np.asarray(value.probability)),
    "residual": auc(np.abs(np.asarray(value.residual)[:, 0])),
}
ax = ni.plot.examples(value)
worst = np.argsort(np.asarray(value.probability))[: int(given_wrong.sum())]
print(f"of the {len(worst)} least probable labels {given_wrong[worst].sum()} are wrong")
pd.Series(ranks, name="area under the curve").round(3)

# %% [markdown]
# ## What more examples would bring
#
# The squared error of the mean prediction over the number of training examples, predicted from the spectrum of the kernel on all of
# them, and measured on random training sets.

# %%
sizes = [12, 25, 50, 100]
learned = ni.learning.curve(net, x, y, sizes, float(post.noise), draws=20, key=jax.random.key(1))
ni.plot.learning(learned)
off = np.abs(np.asarray(learned.error) - np.asarray(learned.measured)) / np.asarray(learned.measured)
print("predicted", np.round(learned.error, 3), "\nmeasured ", np.round(learned.measured, 3))

# %% [markdown]
# ## Verdicts
#
# Each from the numbers above, by the rule that is printed with it: one data set, one architecture.


# %%
def verdict(text, rule, found, holds):
    print(
        f"- {text}\n    rule:     {rule}\n    measured: {found}\n    verdict:  {'holds' if holds else 'does not hold'}\n"
    )


noise = 2 * np.sqrt(measured * (1 - measured) / m)
least = {name: float((values - gap + noise).min()) for name, values in bounds.items()}
verdict(
    "No bound is below the gap.", "at every time, but for two standard errors of the test error",
    ", ".join(f"{name} {by:+.3f} at the nearest" for name, by in least.items()), min(least.values()) >= 0,
)  # fmt: skip
tightest = min(bounds, key=lambda name: float(np.mean(bounds[name])))
verdict(
    "What holds on average is nearer to the gap than what holds for this training set.", "by the mean over the times",
    f"{tightest} is nearest", tightest != "PAC-Bayes-kl",
)  # fmt: skip
late = float(measured[stop] - measured.min())
verdict(
    "Examples left out tell when to stop.", "at most 0.03 above the best time in hindsight", f"{late:.3f} above",
    late <= 0.03,
)  # fmt: skip
verdict(
    "Improbable labels are wrong ones.", "area under the curve of at least 0.9",
    f"{ranks['improbable label']:.3f}", ranks["improbable label"] >= 0.9,
)  # fmt: skip
verdict(
    "The spectrum tells the learning curve.", "within a tenth at every size", f"{off.max():.1%} off at most",
    off.max() < 0.1,
)  # fmt: skip
