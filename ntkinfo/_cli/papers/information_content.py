"""Bernstein & Yue 2021 (arXiv 2103.01045): the information content of labels, and the bound from it."""

import numpy as np

from ntkinfo import architectures, bounds, content, datasets, kernels
from ntkinfo._cli.papers.figure import Claim, Figure, Found

DELTA = 0.05
COLUMNS = ("content", "stderr", "lower", "upper", "bound", "closed_bound", "test_error", "effective_samples")


def network(depth: int):
    """Hidden layers of erf units."""
    return architectures.network(activation="erf", depth=depth, w_std=1.0, b_std=0.1)


def table(full: bool, seed: int) -> Found:
    """True and random labels of digits, for several n and depths."""
    import jax

    sizes, depths, samples, m = ((50, 100, 200), (1, 3), 4096, 400) if full else ((24,), (1,), 256, 60)
    data = datasets.digits(1000, max(sizes) + m, task="parity", seed=seed)
    x = data.x_test[: max(sizes)]
    true = data.y_test[:, 0]
    random = np.random.default_rng(seed).choice([-1.0, 1.0], size=len(true))
    key_content, key_test = jax.random.split(jax.random.key(seed))
    rows = []
    for depth in depths:
        every = kernels.kernels(network(depth), data.x_test).nngp
        for n in sizes:
            kernel, cross = every[:n, :n], every[len(x) :, :n]
            for name, labels in (("true", true), ("random", random)):
                c = content.of_kernel(kernel, labels[:n], key=key_content, n_samples=samples)
                positive, _ = content.positive_probability(
                    kernel, labels[:n], cross, np.diagonal(every)[len(x) :], key=key_test, n_samples=samples
                )
                wrong = np.where(labels[len(x) :] > 0, 1 - np.asarray(positive), np.asarray(positive))
                by = {
                    name: float(bounds.information_content(value, n=n, delta=DELTA, form="sharp"))
                    for name, value in (("bound", c.value + 3 * c.stderr), ("closed_bound", c.upper))
                }
                rows.append(
                    {"labels": name, "depth": depth, "n": n, "content": float(c.value), "stderr": float(c.stderr),
                     "lower": float(c.lower), "upper": float(c.upper), "test_error": float(wrong.mean()),
                     "effective_samples": float(c.effective_samples), "reliable": bool(c.reliable), **by}
                )  # fmt: skip
    n = sizes[0]
    nothing = content.of_kernel(np.eye(n), np.ones(n), key=key_content, n_samples=samples)
    of = {name: [row for row in rows if row["labels"] == name] for name in ("true", "random")}
    claims = [
        Claim(f"content of {n} labels for a kernel that knows nothing, over n log 2",
              float(nothing.value) / (n * np.log(2)), "equals", 1.0, 1e-6),
        Claim("largest lower bound less estimate, in standard errors",
              max((row["lower"] - row["content"]) / row["stderr"] for row in rows), "at most", 0.0, 3.0),
        Claim("largest estimate less upper bound, in standard errors",
              max((row["content"] - row["upper"]) / row["stderr"] for row in rows), "at most", 0.0, 3.0),
        Claim("content of true labels over that of random ones, at most",
              max(one["content"] / other["content"] for one, other in zip(of["true"], of["random"], strict=True)),
              "at most", 1.0),
        Claim("test error less its bound in closed form, at most",
              max(row["test_error"] - row["closed_bound"] for row in rows), "at most", 0.0),
        Claim("bound for true labels at the largest n, non-vacuous",
              min(row["bound"] for row in of["true"] if row["n"] == max(sizes)), "at most", 0.5, 0.0, "abstract"),
    ]  # fmt: skip
    if len(rows) > 4:
        errors, limits = ([row[field] for row in rows] for field in ("test_error", "closed_bound"))
        correlation = np.corrcoef(errors, limits)[0, 1]
        claims.append(
            Claim(
                "correlation of the bound in closed form with the test error",
                correlation,
                "at least",
                0.5,
                0.0,
                "abstract",
            )
        )

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, ax = plt.subplots(figsize=(7.2, 1.4 + 0.32 * len(rows)), layout="constrained")
        for place, row in enumerate(rows):
            first = place == 0
            ax.plot(row["test_error"], place, "C2o", label="test error" if first else None)
            # An estimate that is not to be believed is not drawn.
            if row["reliable"]:
                ax.plot(row["bound"], place, "ks", ms=5, label="bound, by the estimate" if first else None)
            ax.plot(row["closed_bound"], place, "k^", mfc="none", label="bound, in closed form" if first else None)
        names = [f"{row['labels']} labels, n = {row['n']}, {row['depth']} hidden" for row in rows]
        ax.set_yticks(range(len(rows)), names, fontsize="small")
        ax.invert_yaxis()
        ax.axvline(0.5, color="0.7", lw=1)
        ax.set(xlim=(0, 1), xlabel="0-1 error of a network of the prior that fits all labels")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure

    settings = {"n_samples": samples, "n_test": m, "delta": DELTA, "seed": seed, "w_std": 1.0, "b_std": 0.1}
    return Found({"rows": rows}, claims, draw, settings)


FIGURES = {
    "table": Figure(
        "Networks of the prior that fit all labels of n digits: their test error, and the bound on it from the "
        "information content of the labels, by an estimate and in closed form; true and random labels.",
        "The abstract says that the bounds are non-vacuous and correlated with the generalization at finite width; the "
        "numbers of its tables are not compared. The rest is compared with the theory of this library (section 6).",
        table,
    )
}
