"""Galloway et al. 2022 (arXiv 2207.09408): what ranks networks by their generalization gap."""

import numpy as np

from ntkinfo import architectures, bounds, datasets, information, kernels
from ntkinfo._cli.papers.figure import Claim, Figure, Found
from ntkinfo.ensemble import Ensemble

DELTA = 0.05
SCALES = (0.75, 1.5, 3.0)
RANKED = ("parameter_divergence", "train_error", "input_information", "input_compression")


def network(depth: int, w_std: float):
    """Hidden layers of erf units, all of one weight scale."""
    return architectures.network(activation="erf", depth=depth, w_std=w_std, b_std=0.1)


def ranking(full: bool, seed: int) -> Found:
    """Digits parity: scales, depths, sizes and times, true and random labels."""
    from scipy.stats import kendalltau

    sizes, depths, m = ((100, 200, 400), (1, 3), 400) if full else ((40,), (1,), 80)
    scales = SCALES if full else SCALES[1:2]
    times = np.array([1, 10, 100, 1000]) if not full else np.array([0.3, 1, 3, 10, 30, 100, 300, 1000, 10000])
    rows = max(sizes) + m
    # Shifted and scaled by the rows that are used for nothing else.
    data = datasets.digits(1797 - rows, rows, task="parity", seed=seed)
    x, x_test = data.x_test[: max(sizes)], data.x_test[max(sizes) :]
    random = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(data.x_test), 1))
    columns: dict[str, list] = {name: [] for name in ("labels", "n", "depth", "w_std", "t", "gap", *RANKED)}
    for depth in depths:
        for w in scales:
            net = network(depth, w)
            hessian = kernels.hessian(net, x)
            for n in sizes:
                for name, y in (("true", data.y_test), ("random", random)):
                    ens = Ensemble.fit(net, x[:n], y[:n])
                    divergence = information.parameter_divergence(ens, times, hessian=hessian[:n, :n])
                    z = ens.predict(x_test, times)
                    seen = ens.predict_train(times)
                    # Rounding, where a variance vanishes.
                    seen = seen._replace(variance=np.maximum(seen.variance, 0.0))
                    risk, error = (
                        np.asarray(information.losses(*pair, task="classes").gibbs_error)
                        for pair in ((seen, y[:n]), (z, y[len(x) :]))
                    )
                    i_xz = np.asarray(information.input_information(z).value)
                    found = {"t": times, "gap": error - risk, "parameter_divergence": np.asarray(divergence.total) / n,
                             "train_error": risk, "input_information": i_xz,
                             "input_compression": np.asarray(bounds.input_compression(i_xz, n=n, delta=DELTA)),
                             "labels": [name] * len(times), "n": [n] * len(times), "depth": [depth] * len(times),
                             "w_std": [w] * len(times)}  # fmt: skip
                    for column, values in found.items():
                        columns[column].extend(values)
    of = {name: np.array(values) for name, values in columns.items()}
    true = of["labels"] == "true"
    tau = {name: float(kendalltau(of[name][true], of["gap"][true])[0]) for name in RANKED}
    # Rows stand in the same order for both labels.
    apart = float(np.mean(of["input_compression"][~true] > of["input_compression"][true]))
    exceeded = float(np.mean(of["gap"] > of["input_compression"]))
    best = true & (of["train_error"] + of["gap"] <= np.quantile((of["train_error"] + of["gap"])[true], 0.1))
    claims = [
        Claim("share of rows where the gap exceeds the input-compression bound", exceeded, "at most", 0.0, 0.0,
              "abstract"),
        Claim("share where the bound of random labels is the larger one", apart, "at least", 0.5, 0.0, "abstract"),
        Claim("bound less gap, mean of the tenth of least test error: tight",
              float(np.mean((of["input_compression"] - of["gap"])[best])), "at most", 0.1, 0.0, "abstract"),
        Claim("tau with the gap: parameter divergence less input-compression bound",
              tau["parameter_divergence"] - tau["input_compression"], "at least", 0.0, 0.0, "notebook"),
        Claim("largest I(X;Z|D), less log m", float(of["input_information"].max() - np.log(m)), "at most", 0.0, 1e-6,
              unit="nats"),
        Claim("largest I(X;Z|D) below 0", float(-of["input_information"].min()), "at most", 0.0, 1e-6, unit="nats"),
    ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
        names = {"parameter_divergence": "parameter divergence / $n$", "train_error": "training error",
                 "input_information": "$I(X;Z|D)$", "input_compression": "input-compression bound"}  # fmt: skip
        values = [tau[name] for name in names]
        axes[0].barh(list(names.values()), values, color=["C0" if value > 0 else "C1" for value in values])
        axes[0].axvline(0, color="black", lw=0.8)
        axes[0].set(xlabel=r"Kendall's $\tau$ with the gap, true labels", xlim=(-1, 1))
        axes[0].invert_yaxis()
        for name, color, marker in (("true", "C2", "o"), ("random", "C3", "^")):
            some = of["labels"] == name
            axes[1].plot(of["gap"][some], of["input_compression"][some], marker, color=color, ms=4,
                         label=f"{name} labels")  # fmt: skip
        axes[1].plot([0, 0.7], [0, 0.7], color="black", lw=1, label="gap = bound")
        axes[1].set(xlabel="gap of 0-1 errors", ylabel="input-compression bound", ylim=(0, None))
        axes[1].legend(fontsize="small")
        return figure

    settings = {"n": sizes, "depths": depths, "w_std": scales, "b_std": 0.1, "n_test": m, "seed": seed, "delta": DELTA}
    return Found({"tau": tau, "rows": len(of["gap"]), "exceeded": exceeded, "apart": apart}, claims, draw, settings)


FIGURES = {
    "ranking": Figure(
        "How well quantities of the infinite ensemble rank networks by their generalization gap, and the "
        "input-compression bound against the gap, for true and random labels.",
        "The abstract says that the bound is often tight for the best models and detects random labels in many cases; "
        "what is often, and tight, is set by the rules below. Digits, dense networks and our sizes, not those of the "
        "paper; a step of the bound has no proof.",
        ranking,
    )
}
