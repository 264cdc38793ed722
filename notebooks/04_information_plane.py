# %% [markdown]
# # Finite networks in the information plane: what of it is true
#
# The first half of the thesis (arXiv 2202.06749, chapters 2 and 3; arXiv 1703.00810) claims that training has two phases:
# first every layer learns about the label, then it *compresses*, forgetting the input, driven by the noise of the
# gradients; that compression is what makes networks generalise, and that depth is good because it makes it faster. Saxe et
# al. 2018, Goldfeld et al. 2019 and Kolchinsky et al. 2019 disagreed. This notebook trains the networks of both sides on the
# same task, measures them with the same estimators, and ends with a table of verdicts computed from the figures.
#
# A deterministic layer with continuous activations has $I(X;T) = \log n$, whatever it does. What the plane shows is the
# entropy of its *discretised* activations, or its information after noise is added: the estimator belongs to every number.

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import matplotlib.pyplot as plt
import numpy as np

import ntkinfo as ni

jax.config.update("jax_enable_x64", True)
# %matplotlib inline

task = ni.datasets.twelve_bit(dtype=np.float32)  # hard labels: y = 1 where the score is above its threshold
p_y_given_x = task.p_y_given_x.astype(float)
SIZES, BITS = (12, 10, 7, 5, 4, 3, 2), 1 / np.log(2)
FEW = {"n_networks": 2, "n_records": 6}  # for kernel densities, which look at every pair of patterns
print(f"{len(task.x)} patterns, p(y = 1) = {task.labels.mean():.5f}, I(X;Y) = {task.mutual_information * BITS:.5f} bit")


def train(sizes=SIZES, *, epochs=1500, **options):
    """Four networks by minibatch gradient descent: 85 % of the patterns, batches of 512."""
    options = {"n_train": 3481, "learning_rate": 0.1, "record": 30, "n_networks": 4, "progress": False} | options
    return ni.finite.train_layers(sizes, task.x, task.labels, epochs=epochs, key=jax.random.key(0), **options)


def plane(run, **options):
    return ni.finite.information_plane(run, task.x, p_y_given_x, progress=False, **options)


# %% [markdown]
# ## The original picture
#
# Tanh layers, thirty bins over (−1, 1). The black line is the information bottleneck of the task, with a certificate:
# nothing can lie above it. Labels are a function of the inputs, so that it is a straight line and a plateau: *every* point of
# the line belongs to one and the same $\beta$, and the plateau to $\beta = \infty$ (Kolchinsky et al. 2019).

# %%
curve = ni.bottleneck.ib(p_y_given_x / 4096, np.geomspace(1.02, 500, 30), certificate=True, progress=False)
print(f"certified to {float(curve.gap.max()):.0e} nats; strictly concave: {bool(curve.strictly_concave)}")
bound = ni.bottleneck.hull(curve)
runs = {"tanh": train()}
original = plane(runs["tanh"], curve=curve)
ni.plot.layers(original, bound=bound, unit="bits")
plt.show()

# %%
print("layer           I(X;T) start    most     end    I(T;Y) end   distance from the curve [bits]")
for i, name in enumerate(original.names):
    x, y = BITS * original.i_xt.mean(0)[:, i], BITS * original.i_ty.mean(0)[:, i]
    away = BITS * original.distance[:, -1, i].mean()
    print(f"{name:12s} {x[0]:12.2f} {x.max():10.2f} {x[-1]:7.2f} {y[-1]:12.3f} {away:14.4f}")

# %% [markdown]
# ## The same networks through other estimators
#
# The width of the bins decides how much there is to lose; bins that follow each unit's own range start at their full
# resolution when activations are small, and so show "compression" from the first epoch on. Kernel densities add noise of a
# stated variance instead, and bound the information from both sides.

# %%
planes = {
    "30 bins over (-1, 1)": original,
    "10 bins": plane(runs["tanh"], bins=10),
    "100 bins": plane(runs["tanh"], bins=100),
    "30 bins, each unit's own range": plane(runs["tanh"], range="unit"),
    "kernel density, variance 0.001": plane(runs["tanh"], estimator="kde", **FEW),
    "values as they are": plane(runs["tanh"], estimator="quantised", **FEW),
}
ni.plot.estimators(planes, bound=bound, unit="bits")
plt.show()

# %% [markdown]
# ## The controls of the critics
#
# ReLU and linear networks; gradient descent on all patterns at once, which has no gradient noise to diffuse by; small
# training sets. `fall` is $I(X;T)$ at its largest less its end, the mean over the hidden layers
# 3 to 5 and over networks, with its standard error; once in fixed bins and once in each unit's own range.

# %%
runs |= {
    "relu": train(activation="relu"),
    "linear": train(activation="linear"),
    "all patterns at once": train(batch_size=None, epochs=6000, learning_rate=0.3),
    "819 patterns": train(n_train=819, epochs=3000),
    "205 patterns": train(n_train=205, batch_size=205, epochs=6000),
}


def fall(found, layers=slice(2, 5)):
    """Largest less last I(X;T) of the hidden layers in bits: mean over networks and its standard error."""
    lost = BITS * (found.i_xt.max(1) - found.i_xt[:, -1])[:, layers].mean(1)
    return lost.mean(), lost.std(ddof=1) / len(lost) ** 0.5


fixed = {name: plane(run) for name, run in runs.items()}
own = {name: plane(run, range="unit") for name, run in runs.items()}
kde = {"tanh": planes["kernel density, variance 0.001"]}
kde |= {name: plane(runs[name], estimator="kde", **FEW) for name in ("relu", "linear")}
print(f"{'network':22s} {'fall, fixed bins':>18s} {'own range':>16s} {'test error':>12s} {'I(T;Y) of layer 5':>18s}")
for name, run in runs.items():
    shown = [f"{m:7.2f} ± {e:.2f}" for m, e in (fall(fixed[name]), fall(own[name]))]
    label = BITS * fixed[name].i_ty[:, -1, 4].mean()
    print(f"{name:22s} {shown[0]:>18s} {shown[1]:>16s} {float(run.test_error[:, -1].mean()):12.3f} {label:18.3f}")

# %%
chosen = ("tanh", "relu", "all patterns at once", "205 patterns")
_, axes = plt.subplots(2, 2, figsize=(10.5, 7.2), layout="constrained")
for ax, name in zip(axes.flat, chosen, strict=True):
    ni.plot.layers(fixed[name], bound=bound, unit="bits", title=name, ax=ax)

# %% [markdown]
# ## Gradients: drift and diffusion
#
# The norm of the mean of the minibatch gradients against that of their standard deviation, layer by layer, each over the
# norm of the weights (the original figures added layers up and took square roots twice).

# %%
phases = ni.finite.gradient_phases(runs["tanh"])
ni.plot.gradients(phases)
ratio = np.asarray(phases.snr).mean(0)
print("signal-to-noise ratio, first epoch:", ratio[0].round(2), " last:", ratio[-1].round(2))
print("epoch from which it stays below 1 (-1: never):", np.asarray(phases.transition).tolist())
epochs = np.asarray(original.epochs)
peak = epochs[original.i_xt.mean(0).argmax(0)]
print("epoch at which I(X;T) is largest, by layer:", peak.tolist())

# %% [markdown]
# ## Inputs that do not matter
#
# Six bits decide the label, six do not (Saxe et al. 2018). Compression of the irrelevant ones, $I(X_\mathrm{irr};T)$, can go on
# while the total does not fall: here for tanh and for ReLU layers.

# %%
bits = task.x.astype(int)
relevant = (bits[:, :6].sum(1) > 2).astype(int)
number = 1 << np.arange(6)
about = {"relevant": np.eye(64)[bits[:, :6] @ number], "irrelevant": np.eye(64)[bits[:, 6:] @ number]}
irrelevant = {}
for kind in ("tanh", "relu"):
    run = ni.finite.train_layers(
        SIZES, task.x, relevant, epochs=600, n_networks=4, key=jax.random.key(1), activation=kind, n_train=3481,
        record=20, learning_rate=0.1, progress=False,
    )  # fmt: skip
    for part, p in about.items():
        found = ni.finite.information_plane(run, task.x, p, progress=False)
        t = BITS * found.i_ty.mean(0)[:, 3]  # I(part of X; T) of layer 4
        irrelevant[kind, part] = t
        print(f"{kind:5s} I({part:10s} bits; T4): most {t.max():.2f}, end {t[-1]:.2f} bits")
    total = BITS * found.i_xt.mean(0)[:, 3]
    irrelevant[kind, "total"] = total
    print(f"{kind:5s} I(X; T4):                 most {total.max():.2f}, end {total[-1]:.2f} bits")

# %% [markdown]
# ## Depth
#
# Does compression take fewer epochs with more hidden layers? The epoch at which the *last* hidden layer has lost half of
# what it will lose, for networks of one to five hidden layers; and how long they take to reach a training error of 10 %.

# %%
depths = {}
for hidden in ((10,), (10, 7), (10, 7, 5), (10, 7, 5, 4), SIZES[1:-1]):
    run = runs["tanh"] if len(hidden) == 5 else train((12, *hidden, 2))
    found = fixed["tanh"] if len(hidden) == 5 else plane(run)
    halfway = ni.compression.measured_compression_time(found.epochs, np.moveaxis(found.i_xt, 1, -1)[:, len(hidden) - 1])
    learnt = [run.epochs[np.argmax(e < 0.1)] if (e < 0.1).any() else -1 for e in np.asarray(run.train_error)]
    depths[len(hidden)] = np.asarray(halfway)
    print(f"{len(hidden)} hidden: half compressed at {depths[len(hidden)]}, error < 10 % at {[int(e) for e in learnt]}")

# %% [markdown]
# ## Bounds
#
# Under noise of deviation 0.1 on every weight, the Gaussian bound on $I(T_{k-1};T_k)$ over training; and the
# input-compression bound on the generalization gap, $\sqrt{(2^{I(X;T)} + \log 1/\delta)/2n}$ with $I$ in bits, against the gap.

# %%
run, noise, allowed = runs["tanh"], 0.1, {}
shown, _ = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
for layer in range(1, 6):
    values = []
    for record in range(1, len(run.epochs), 3):  # before training the pattern of zeros has no activations
        t = np.asarray(ni.finite.activations(run, task.x, index=record)[layer - 1], float)
        w = np.asarray(run.weights[layer][:, record], float)
        values.append(np.mean(ni.compression.weight_noise_bound(w, t, std=noise)))
    allowed[layer] = values
    plt.plot(np.asarray(run.epochs)[1::3], values, label=f"$I(T_{layer}; T_{layer + 1})$")
plt.gca().set(xscale="symlog", xlabel="epoch", ylabel="at most [nats]")
plt.legend(fontsize="small")

gap, limits = {}, {}
print("network                gap    input-compression bound, layers 3 and 5")
for name, run in runs.items():
    gap[name] = float(np.mean(run.test_error[:, -1] - run.train_error[:, -1]))
    n_train = run.train_rows.shape[1]
    limits[name] = [
        float(ni.bounds.input_compression(fixed[name].i_xt[:, -1, layer].mean(), n=n_train, delta=0.05))
        for layer in (2, 4)
    ]
    print(f"{name:22s} {gap[name]:6.3f} {limits[name][0]:10.3f} {limits[name][1]:8.3f}")

# %% [markdown]
# ## Infinite beside finite
#
# The closed-form ensemble of the same depth, erf in place of tanh, trained on 500 of the patterns and seen on 1000
# others. Its $Z$ is the output of a random member of the ensemble: stochastic, so that $I(X;Z|D)$ needs no bins.

# %%
order = np.random.default_rng(0).permutation(4096)
x, y = 2 * task.x.astype(float) - 1, 2.0 * task.labels[:, None] - 1
net = ni.architectures.network("dense", activation="erf", depth=5, w_std=1.5, b_std=0.1, outputs=1)
ensemble = ni.Ensemble.fit(net, x[order[:500]], y[order[:500]])
seen, t = order[500:1500], np.r_[0, np.geomspace(0.1, 1e4, 24)]
infinite = ni.information.curve(ensemble, x[seen], y[seen], t, key=jax.random.key(0))
ni.plot.layers(original, bound=bound, ensemble=infinite, unit="bits")
plt.show()


# %% [markdown]
# ## Verdicts
#
# Each from the numbers above, by the rule that is printed with it. Four networks, one task, short training: a verdict says what
# happened here, not what must happen.


# %%
def compresses(measure):
    lost, error = measure
    return lost > max(0.3, 3 * error)


def verdict(text, measured, outcome):
    print(f"- {text}\n    measured: {measured}\n    verdict:  {outcome}\n")


def choose(*rules):
    return next((outcome for holds, outcome in rules if holds), "not reproduced")


tanh, relu, linear, full = (fall(fixed[name]) for name in ("tanh", "relu", "linear", "all patterns at once"))
early = [BITS * original.i_ty.mean(0)[np.searchsorted(epochs, e), 4] for e in (0, 100, 1500)]
verdict(
    "Every layer first learns about the label.",
    f"I(T5;Y) {early[0]:.2f}, {early[1]:.2f}, {early[2]:.2f} bits at epochs 0, 100, 1500",
    "reproduced" if early[0] < 0.3 < early[2] - early[0] else "not reproduced",
)
verdict(
    "Then I(X;T) falls: compression (tanh, fixed bins).",
    f"fall {tanh[0]:.2f} ± {tanh[1]:.2f} bits; kernel density {fall(kde['tanh'])[0]:.2f}; values as they are "
    f"{fall(planes['values as they are'])[0]:.2f}",
    "reproduced only with bins or noise of a fixed size" if compresses(tanh) else "not reproduced",
)
verdict(
    "Compression happens in every network (ReLU, linear).",
    f"fixed bins: ReLU {relu[0]:.2f} ± {relu[1]:.2f}, linear {linear[0]:.2f} ± {linear[1]:.2f}; each unit's own range: "
    f"ReLU {fall(own['relu'])[0]:.2f}, linear {fall(own['linear'])[0]:.2f}; kernel density: ReLU "
    f"{fall(kde['relu'])[0]:.2f}, linear {fall(kde['linear'])[0]:.2f}",
    choose(
        (compresses(relu) and compresses(linear), "reproduced"),
        (compresses(fall(own["relu"])), "reproduced only with bins that follow the range"),
    ),
)
verdict(
    "The noise of minibatches drives compression.",
    f"fall with minibatches {tanh[0]:.2f} ± {tanh[1]:.2f}, with all patterns at once {full[0]:.2f} ± {full[1]:.2f}",
    "not reproduced: it compresses without gradient noise" if compresses(full) else "reproduced",
)
transition = np.asarray(phases.transition)
verdict(
    "Compression begins where gradients pass from drift to diffusion (SNR below 1 for good).",
    f"the SNR falls below 1 for good in {(transition >= 0).sum()} of {transition.size} layers, at epoch "
    f"{np.median(transition[transition >= 0]):.0f}; I(X;T) is largest at epochs {peak[2:5].tolist()} in layers 3 to 5",
    "not reproduced: layers compress while the SNR is above 1" if (transition < 0).any() else "see the figure",
)
errors = {name: float(run.test_error[:, -1].mean()) for name, run in runs.items()}
verdict(
    "Compression is what makes networks generalise.",
    f"test error: tanh {errors['tanh']:.3f} (fall {tanh[0]:.2f}), ReLU {errors['relu']:.3f} (fall {relu[0]:.2f}), "
    f"205 patterns {errors['205 patterns']:.3f} (fall {fall(fixed['205 patterns'])[0]:.2f})",
    "not reproduced" if errors["relu"] < errors["tanh"] + 0.02 and relu[0] < tanh[0] / 2 else "not excluded",
)
few = BITS * np.array([fixed[name].i_ty[:, :, 4].mean(0)[[-1]] for name in ("tanh", "819 patterns", "205 patterns")])
verdict(
    "With few patterns compression loses information about the label.",
    f"I(T5;Y) at the end {few[0, 0]:.2f}, {few[1, 0]:.2f}, {few[2, 0]:.2f} bits with 3481, 819, 205 patterns",
    "reproduced" if few[0, 0] > few[1, 0] > few[2, 0] else "not reproduced",
)
last = BITS * original.distance[:, -1].mean(0)
beyond = np.round(BITS * original.i_xt[:, -1].mean(0) - 1, 1).tolist()
verdict(
    "Trained layers come close to the bottleneck curve.",
    f"distances at the end {np.round(last, 3).tolist()} bits, but {beyond} bits to the right of the corner; the labels "
    "are deterministic, so every point of the plateau is as close",
    "cannot be told with deterministic labels",
)
irr, rel = irrelevant["tanh", "irrelevant"], irrelevant["tanh", "relevant"]
lost = {kind: irrelevant[kind, "irrelevant"].max() - irrelevant[kind, "irrelevant"][-1] for kind in ("tanh", "relu")}
verdict(
    "What is forgotten is what does not matter (Saxe et al.).",
    f"I(irrelevant bits; T4) falls by {lost['tanh']:.2f} (tanh) and {lost['relu']:.2f} bits (ReLU)",
    choose((min(lost.values()) > 0.3, "reproduced"), (lost["tanh"] > 0.3, "reproduced for tanh only")),
)
middle = [float(np.median(depths[k][depths[k] >= 0])) if (depths[k] >= 0).any() else np.inf for k in sorted(depths)]
verdict(
    "More hidden layers compress sooner.",
    f"median epoch of half the fall of the last hidden layer, 1 to 5 layers: {middle}",
    "reproduced" if (np.diff(np.minimum(middle, 1e9)) <= 0).all() else "not reproduced",
)
rises = [values[-1] - values[0] for values in allowed.values()]
verdict(
    "Under noise of a fixed size the information that passes from layer to layer falls.",
    f"the Gaussian bound changes by {np.round(rises, 2).tolist()} nats over training: the weights grow",
    "not reproduced" if min(rises) > 0 else "reproduced",
)
broken = [f"{name} ({gap[name]:.3f} > {both[1]:.3f})" for name, both in limits.items() if gap[name] > both[1]]
verdict(
    "The generalization gap is at most the input-compression bound (layer 5).",
    f"exceeded by {', '.join(broken) if broken else 'none'}",
    "not a bound" if broken else "held here; its proof has a gap",
)
times = ni.compression.relaxation_times(np.array([[0.0, 0.0], [2 * np.log(2), 0.0], [2.0, 2.0]]))
verdict(
    "Relaxation times add up to less in layers: sum exp dS <= exp sum dS.",
    f"dS = (0, 0): {float(times.layers[0]):.0f} against {float(times.single[0]):.0f}; (2 log 2, 0): "
    f"{float(times.layers[1]):.0f} against {float(times.single[1]):.0f}; (2, 2): {float(times.layers[2]):.1f} against "
    f"{float(times.single[2]):.1f}",
    "false as stated; true for what exceeds one unit a layer",
)
