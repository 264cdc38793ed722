"""Wang & Mao 2023 (arXiv 2302.02432): bounds from loss differences at supersamples, evaluated exactly."""

import numpy as np

from ntkinfo import architectures, cmi, datasets
from ntkinfo._cli.papers.figure import Claim, Figure, Found

# n -> gap, ld-CMI in nats, square-root and interpolation bound at t = ∞. Source: theory, section 13.
PROTOTYPE = {200: (0.091, 0.072, 0.322, 0.103), 400: (0.056, 0.043, 0.228, 0.062)}
RANDOM_LABELS = {200: (0.501, 0.379, 0.857, 0.546)}
# By how much, of the value, another draw of digits and of choices may differ: the rule is ours.
RELATIVE = 0.25
SHOWN = ("gap", "information", "square_root", "interpolation", "binary_kl", "error", "e_information")


def network():
    """One hidden layer of erf units."""
    return architectures.network(activation="erf", depth=1, w_std=1.5, b_std=0.1)


def bounds(full: bool, seed: int) -> Found:
    """Digits parity at t = ∞: gap and bounds against n, true and random labels."""
    import jax

    sizes, draws = ((50, 100, 200, 400), 128) if full else ((24,), 16)
    data = datasets.digits(2 * max(sizes), task="parity", seed=seed)
    random = np.random.default_rng(seed).choice([-1.0, 1.0], size=2 * max(sizes))
    numbers: dict = {"n": list(sizes)}
    for name, labels in (("true", data.y_train[:, 0]), ("random", random)):
        rows = [
            cmi.supersample(network(), data.x_train[: 2 * n], labels[: 2 * n], np.inf, draws=draws,
                            key=jax.random.key(seed))
            for n in sizes
        ]  # fmt: skip
        numbers[name] = {field: np.array([float(getattr(row, field)) for row in rows]) for field in SHOWN}
    claims = []
    for name in ("true", "random"):
        of = numbers[name]
        margins = {
            "gap less the square-root bound": (np.abs(of["gap"]) - of["square_root"], ""),
            "error less the interpolation bound": (of["error"] - of["interpolation"], ""),
            "error less the binary-kl bound": (of["error"] - of["binary_kl"], ""),
            "ld-CMI less e-CMI": (of["information"] - of["e_information"], "nats"),
            "e-CMI less log 2": (of["e_information"] - np.log(2), "nats"),
        }
        claims += [
            Claim(f"{name} labels: largest {what}", values.max(), "at most", 0.0, 1e-9, unit=unit)
            for what, (values, unit) in margins.items()
        ]
    for name, prototype in (("true", PROTOTYPE), ("random", RANDOM_LABELS)):
        for n, expected in prototype.items():
            for field, value in zip(SHOWN[:4], expected, strict=True):
                if n in sizes:
                    claims.append(
                        Claim(f"{name} labels, n = {n}: {field}", numbers[name][field][sizes.index(n)], "equals", value,
                              RELATIVE * value, unit="nats" if field == "information" else "")
                    )  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained", sharey=True)
        styles = {"gap": "ko-", "square_root": "C0s--", "interpolation": "C1^--", "binary_kl": "C2v--"}
        for ax, name in zip(axes, ("true", "random"), strict=True):
            for field, style in styles.items():
                ax.plot(sizes, numbers[name][field], style, ms=4, label=field.replace("_", " "))
            ax.set(xscale="log", xlabel="training examples $n$", title=f"{name} labels")
            ax.set_xticks(sizes, [str(n) for n in sizes])
            ax.minorticks_off()
        axes[0].set_ylabel("0-1 error: gap, and bounds")
        axes[0].legend(fontsize="small")
        return figure

    return Found(numbers, claims, draw, {"draws": draws, "seed": seed, "w_std": 1.5, "b_std": 0.1})


FIGURES = {
    "bounds": Figure(
        "The generalization gap of infinitely wide networks trained to the end on n digits, and bounds on it from what "
        "the differences of losses tell about which of two examples was trained on; true and random labels.",
        "The paper estimates such bounds from trained networks, we compute them exactly for the infinite ensemble: the "
        "numbers are compared with the theory of this library alone (section 13), each bound with the measured gap.",
        bounds,
    )
}
