# %% [markdown]
# # Variational bottlenecks: from certified tables to images
#
# Where $p(x, y)$ is not a table but data, encoders are trained on a variational objective (theory, section 8):
#
# $$L = E[\log p(z|x) - \log b] + \beta\, E[-\log q(y|z)] + \gamma\, E\, D[q(y|z) \,\|\, \tilde p(y|x)].$$
#
# | objective | $b$ | what its optimum is, with unlimited capacity |
# | --- | --- | --- |
# | `"vib"` | prior $b(z)$ | $\min L = F_\mathrm{IB}(\beta) + \beta H(Y|X)$ |
# | `"ceb"` | backward encoder $b(z|y)$ | $\min L = F_\mathrm{IB}(\beta + 1) - (\beta + 1) I(X;Y) + \beta H(Y)$: CEB at $\beta$ is IB at $\beta + 1$ |
# | `"dual"`, $\beta = 0$ | prior $b(z)$ | $\min L = F_\mathrm{dual}(\gamma)$; with a backward encoder it is another problem |

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

v = ni.variational

# %% [markdown]
# ## Against the certificate
#
# Six inputs, three labels, and a categorical $Z$, for which every expectation is a sum. The gap of each fit is its loss less
# the certified optimum: capacity closes it, and no fit falls below.

# %%
rows = np.random.default_rng(0).dirichlet(np.full(3, 0.7), 6) * 0.98 + 0.02 / 3
p_y = rows.mean(0)
h_y, h_yx = -np.sum(p_y * np.log(p_y)), -np.mean(np.sum(rows * np.log(rows), 1))
beta = np.array([1.5, 3.0, 6.0])
exact = {"certificate": True, "progress": False}
ib, ceb_as_ib = ni.bottleneck.ib(rows / 6, beta, **exact), ni.bottleneck.ib(rows / 6, beta + 1, **exact)
dual = ni.bottleneck.dual_ib(rows / 6, beta, **exact)
optimum = {
    "vib": np.asarray(ib.lagrangian) + beta * h_yx,
    "ceb": np.asarray(ceb_as_ib.lagrangian) - (beta + 1) * (h_y - h_yx) + beta * h_y,
    "dual": np.asarray(dual.lagrangian),
}


def fit_table(objective, trade, latent):
    weights = {"beta": 0.0, "gamma": trade} if objective == "dual" else {"beta": trade}
    return v.fit(
        np.eye(6), rows, objective=objective, key=jax.random.key(0), latent=latent, latent_kind="categorical",
        encoder=v.encoders.linear(latent), batch_size=None, steps=2000, record=2, progress=False,
        optimizer=RULE, **weights,
    )  # fmt: skip


RULE = optax.adam(optax.cosine_decay_schedule(0.05, 2000))
print("loss less the certified optimum [nats], beta or gamma = 1.5, 3, 6")
found = {}
for objective in optimum:
    for latent in (2, 3, 6):
        gaps = [
            float(fit_table(objective, b, latent).history.loss[-1]) - o
            for b, o in zip(beta, optimum[objective], strict=True)
        ]
        found[objective, latent] = gaps
        print(f"{objective:5s} {latent} clusters: " + "  ".join(f"{gap:8.1e}" for gap in gaps))

# %% [markdown]
# ## Digits
#
# 1000 images to train on, 797 to test on; VIB, CEB and the pure dual with a noise model of 10 % label smoothing. Everything
# is measured on the test images. `i_xz_lower` is InfoNCE with the encoder's own $p(z|x)$, at most the logarithm of the number
# of images; `i_xz_upper` leaves one out; $I(Y;Z)$ is the decoder's lower bound. A backward encoder gives no rate: its
# `residual` bounds $I(X;Z|Y)$, and is named so.

# %%
data = ni.datasets.digits(1000, task="classes", dtype=np.float32)
sweep = v.sweep(
    data.x_train, data.labels_train, betas=np.geomspace(0.5, 500, 7), x_test=data.x_test, y_test=data.labels_test,
    key=jax.random.key(0), encoder=v.encoders.mlp(16, (64, 64)), steps=1000, record=10, progress=False,
)  # fmt: skip
ni.plot.variational(sweep)
plt.show()

# %%
_, axes = plt.subplots(1, 2, figsize=(9.6, 3.5), layout="constrained")
ni.plot.variational_error(sweep, ax=axes[0])
ni.plot.variational_error(sweep, "calibration_error", ax=axes[1])
plt.show()

# %% [markdown]
# ## During training
#
# $I(X;Z)$ on training images: it grows at once where the trade-off is high; where it is low, it is hardly ever bought.

# %%
_, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
for name, ax in zip(sweep.objectives, axes, strict=True):
    ni.plot.dynamics(sweep, name, ax=ax)

# %% [markdown]
# ## The published claim
#
# That the dual reaches the same $I(Y;Z)$ at a fraction of the $I(X;Z)$ that VIB needs (about 1 nat against 5 at the ceiling on
# FashionMNIST, arXiv 2006.04641). Here at equal $I(Y;Z)$, all by the same bounds; `benchmarks/variational.py` does it with
# three seeds, and on MNIST too.

# %%
needed = v.required_information(sweep)
i_xz = dict(zip(needed.objectives, needed.i_xz, strict=True))
listed = ", ".join(f"{name} {value:.2f}" for name, value in i_xz.items())
print(
    f"I(X;Z) needed for I(Y;Z) of {needed.i_yz:.3f} nats: {listed} nats; "
    f"the dual needs {i_xz['dual'] / i_xz['vib']:.2f} of what VIB needs."
)
names = list(sweep.objectives)
for name, i, j in (("VIB", 0, -1), ("dual", 2, -1), ("dual", 2, 3)):
    print(
        f"{name:4s} at {float(sweep.beta[j]):6.1f}: I(X;Z) {float(sweep.i_xz_lower[i, j, 0]):.2f}, "
        f"I(Y;Z) {float(sweep.i_yz_lower[i, j, 0]):.3f}, test error {float(sweep.error[i, j, 0]):.3f}"
    )

# %% [markdown]
# ## Noise and few images

# %%
fits = {
    name: v.fit(
        data.x_train,
        data.labels_train,
        objective=name,
        key=jax.random.key(1),
        steps=1000,
        record=2,
        progress=False,
        encoder=v.encoders.mlp(16, (64, 64)),
        **kind,
    )
    for name, kind in {
        "vib": {"beta": 30.0},
        "ceb": {"beta": 30.0},
        "dual": {"beta": 0.0, "gamma": 30.0, "label_noise": v.label_noise.smoothing(0.1)},
    }.items()
}
noise, under_noise = np.linspace(0, 3, 7), {}
_, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
for name, fit in fits.items():
    errors = v.error_under_noise(fit, data.x_test, data.labels_test, noise, key=jax.random.key(2))
    under_noise[name] = np.asarray(errors)
    ax.plot(noise, errors, "o-", ms=3, label=name)
    clean = v.measure(fit, data.x_test, data.labels_test, key=jax.random.key(3))
    print(f"{name:4s} test error {float(clean.error):.3f}, calibration error {float(clean.calibration_error):.3f}")
ax.set(xlabel="standard deviation of noise on the inputs", ylabel="test error")
ax.legend()

curve = v.learning_curve(
    data.x_train, data.labels_train, [50, 200, 1000], x_test=data.x_test, y_test=data.labels_test, repeats=2,
    key=jax.random.key(4), beta=30.0, steps=600, record=2, encoder=v.encoders.mlp(16, (64, 64)), progress=False,
)  # fmt: skip
print("VIB, test error with 50, 200, 1000 images:", curve.error.mean(1).round(3).tolist())

# %% [markdown]
# ## Verdicts
#
# Each from the numbers above, by the rule that is printed with it. One draw of one data set: a verdict says what happened
# here. `python -m ntkinfo reproduce 2006.04641 --figure images` does the same on Fashion-MNIST.


# %%
def verdict(text, rule, measured, holds):
    print(
        f"- {text}\n    rule:     {rule}\n    measured: {measured}\n    verdict:  {'holds' if holds else 'does not hold'}\n"
    )


least, full = min(map(min, found.values())), max(max(found[objective, 6]) for objective in optimum)
verdict(
    "No fit falls below the certified optimum.", "smallest gap at least -1e-5 nats", f"{least:.1e} nats", least >= -1e-5
)
verdict(
    "With a cluster for every input, fits reach it.", "largest gap at most 0.01 nats", f"{full:.1e} nats", full <= 0.01
)
ratio = i_xz["dual"] / i_xz["vib"]
verdict(
    "The dual needs a fraction of VIB's I(X;Z) for the same I(Y;Z).", "at most half", f"{ratio:.2f} of it", ratio <= 0.5
)
worst = {name: float(errors[-1]) for name, errors in under_noise.items()}
verdict(
    f"The dual errs less than VIB under noise of deviation {noise[-1]:g}.", "its error is below VIB's",
    ", ".join(f"{name} {error:.3f}" for name, error in worst.items()), worst["dual"] < worst["vib"],
)  # fmt: skip
few = curve.error.mean(1)
verdict(
    "More images help.", "test error falls at every size", ", ".join(f"{error:.3f}" for error in few),
    bool((np.diff(few) < 0).all()),
)  # fmt: skip
