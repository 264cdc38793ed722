"""Shwartz-Ziv & Alemi 2019 (arXiv 1911.09189): losses over training time, on Gaussian data and of a convolution."""

import numpy as np

from ntkinfo import architectures, datasets, information, stax
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo._common import tables
from ntkinfo.ensemble import Ensemble

SCALES = (1.5, 1.0, 0.75, 0.5, 0.25)
# A step of the training loss up to rounding is none.
ROUNDING = 1e-9


def convolution(w_std: float):
    """Two convolutions, 5 x 5, with ReLU, and a dense readout."""
    layers = [(stax.Conv(256, (5, 5), W_std=w_std, b_std=0.1, padding="SAME"), stax.Relu())] * 2
    return stax.serial(*[layer for pair in layers for layer in pair], stax.Flatten(), stax.Dense(1, w_std, 0.1))


def over_time(net, data, t) -> dict[str, np.ndarray]:
    """Squared errors of one network and of the mean, on training and test rows, and both informations, over t."""
    ens = Ensemble.fit(net, data.x_train, data.y_train)
    z, trained = ens.predict(data.x_test, t), ens.predict_train(t)
    seen = trained._replace(variance=np.maximum(trained.variance, 0.0))
    test, train = information.losses(z, data.y_test), information.losses(seen, data.y_train)
    found = {"test": test.gibbs_mse, "test_of_mean": test.mean_mse, "train": train.gibbs_mse}
    if test.gibbs_error is not None:
        found |= {"error": test.gibbs_error, "i_xz": information.input_information(z).value,
                  "i_yz": information.label_information(z, data.y_test).value}  # fmt: skip
    return {name: np.asarray(value) for name, value in found.items()}


def half_time(t, loss) -> float:
    """The first time at which the excess over the last loss is half of that at the start, on a logarithmic line."""
    level = 0.5 * (loss[0] + loss[-1])
    at = int(np.argmax(loss <= level))
    share = (loss[at - 1] - level) / (loss[at - 1] - loss[at])
    return float(t[at - 1] * (t[at] / t[at - 1]) ** share)


def ceiling(curves: dict) -> float:
    """The upper end of an axis of losses."""
    return 1.5 * max(float(np.maximum(curve["train"], curve["test"]).max()) for curve in curves.values())


def training_claims(curves: dict, t) -> list[Claim]:
    """What gradient flow on a quadratic loss promises of every curve."""
    rise = max(float(np.diff(curve["train"]).max()) for curve in curves.values())
    gain = min(float((curve["test"] - curve["test_of_mean"]).min()) for curve in curves.values())
    return [
        Claim("the training loss never rises: its largest step up", rise, "at most", 0.0, ROUNDING),
        Claim("the mean is never worse than one network: its smallest gain", gain, "at least", 0.0, ROUNDING),
    ]


def losses(full: bool, seed: int) -> Found:
    """x ~ N(0, I_30), y = a.x + noise: squared errors over time for weight scales, with ReLU and with erf."""
    n, m, number = (1000, 1000, 61) if full else (80, 60, 25)
    scales = SCALES if full else SCALES[::2]
    t = np.logspace(-2, 9, number)
    data = datasets.gaussian(n, m, information=0.447, seed=seed)
    curves = {
        (activation, w): over_time(architectures.network(activation=activation, depth=2, w_std=w, b_std=0.1), data, t)
        for activation in ("relu", "erf")
        for w in scales
    }
    halves = {cell: half_time(t, curve["train"]) for cell, curve in curves.items()}
    claims = training_claims(curves, t)
    for activation in ("relu", "erf"):
        steps = np.diff(np.log([halves[activation, w] for w in scales]))
        claims.append(Claim(f"{activation}: smaller weights learn later: the smallest step of log t at half the loss",
                            float(steps.min()), "at least", 0.0))  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
        colors = plt.get_cmap("viridis")(np.linspace(0.95, 0.05, len(scales)))
        for ax, activation in zip(axes, ("relu", "erf"), strict=True):
            for w, color in zip(scales, colors, strict=True):
                curve = curves[activation, w]
                ax.plot(t, curve["train"], "--", color=color, lw=1)
                ax.plot(t, curve["test"], color=color, lw=1.5, label=rf"$\sigma_w$ = {w}")
            ax.set(xscale="log", yscale="log", xlabel="training time $t$", title=activation)
        axes[0].set_ylim(1e-3, ceiling(curves))
        axes[0].set_ylabel("squared error of one network; dashed: training")
        axes[1].legend(fontsize="small", frameon=False)
        return figure

    numbers = {"t": t, "curves": {f"{a}, sigma_w = {w}": curve for (a, w), curve in curves.items()},
               "half": {f"{a}, sigma_w = {w}": value for (a, w), value in halves.items()}}  # fmt: skip
    return Found(numbers, claims, draw, {"n_train": n, "n_test": m, "seed": seed, "b_std": 0.1, "I(X;Y)": 0.447})


def images(full: bool, n: int, m: int, seed: int):
    """Parities of Fashion-MNIST's class numbers where its files are, else of digits; small sizes take digits."""
    if full:
        try:
            return "Fashion-MNIST", datasets.fashion_mnist(None, n, m, task="parity", flat=False, seed=seed)
        except FileNotFoundError:
            pass
    return "digits", datasets.digits(n, m, task="parity", flat=False, seed=seed)


def convolutional(full: bool, seed: int) -> Found:
    """Parity of images by a two-layer 5 x 5 convolutional network: losses and informations over time."""
    n, m, number = (300, 300, 41) if full else (60, 40, 13)
    scales = SCALES[:4] if full else (1.5, 0.75)
    t = np.logspace(-1, 8, number)
    name, data = images(full, n, m, seed)
    curves = {w: over_time(convolution(w), data, t) for w in scales}
    top = max(float(curve["i_xz"].max()) for curve in curves.values())
    claims = [
        *training_claims(curves, t),
        Claim("largest I(X;Z|D) of any curve, less log m", top - np.log(m), "at most", 0.0, 1e-6, unit="nats"),
        Claim("parity is learned: the largest error of one network at the last time",
              max(float(c["error"][-1]) for c in curves.values()), "at most", 0.4),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        scale = tables.factor(unit)
        figure, (loss, error, plane) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
        colors = plt.get_cmap("viridis")(np.linspace(0.95, 0.05, len(scales)))
        for w, color in zip(scales, colors, strict=True):
            curve = curves[w]
            loss.plot(t, curve["train"], "--", color=color, lw=1)
            loss.plot(t, curve["test"], color=color, lw=1.5, label=rf"$\sigma_w$ = {w}")
            error.plot(t, curve["error"], color=color, lw=1.5)
            plane.plot(scale * curve["i_xz"], scale * curve["i_yz"], ".-", color=color, lw=1.2, ms=3)
        loss.set(xscale="log", yscale="log", xlabel="training time $t$",
                 ylabel="squared error of one network; dashed: training")  # fmt: skip
        loss.set_ylim(1e-3, ceiling(curves))
        error.set(xscale="log", xlabel="training time $t$", ylabel="0-1 error of one network, test")
        plane.set(xlabel=f"$I(X;Z|D)$ [{unit}]", ylabel=f"$I(Y;Z|D)$ [{unit}]")
        loss.legend(fontsize="small", frameon=False)
        return figure

    numbers = {"t": t, "curves": {f"sigma_w = {w}": curve for w, curve in curves.items()}}
    return Found(numbers, claims, draw, {"data": name, "n_train": n, "n_test": m, "seed": seed, "b_std": 0.1})


FIGURES = {
    "1": Figure(
        "Losses over training time on Gaussian data: squared errors of one network in training and test for each "
        "weight scale, with ReLU and with erf.",
        "Held against what gradient flow on a quadratic loss promises. The paper does not say its sample, and no "
        "number was read off its figure: no claim of the paper is judged.",
        losses,
    ),
    "3": Figure(
        "Parity of images by a two-layer 5 x 5 convolutional network with ReLU: losses and errors over training time "
        "and the information plane, for each weight scale.",
        "The paper takes MNIST. Here it is Fashion-MNIST (parities of its class numbers) at full size where its files "
        "are, and digits else: no claim of the paper is judged.",
        convolutional,
    ),
}
