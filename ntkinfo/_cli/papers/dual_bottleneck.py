"""Piran, Shwartz-Ziv & Tishby 2020 (arXiv 2006.04641): the dual bottleneck beside the bottleneck."""

import numpy as np

from ntkinfo import bottleneck, datasets, plot, variational
from ntkinfo._cli.papers import error_exponents, variational_images
from ntkinfo._cli.papers.figure import Claim, Figure, Found

# β -> (I(X;Z)/H(X), I(Z;Y)/I(X;Y)) of the bottleneck and of the dual (Markov decoder). Source: theory, section 8.
POINTS = {
    64.0: ((0.8869, 0.9819), (0.8884, 0.9817)),
    16.0: ((0.4156, 0.7870), (0.4250, 0.7936)),
    8.0: ((0.2551, 0.6061), (0.2764, 0.6385)),
    4.0: ((0.0, 0.0), (0.0912, 0.2536)),
}
MUTUAL_INFORMATION = 0.12260
LOCAL = {"IB": 4.3655, "dual": 3.2517}


def toy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The joint table (x, y), the feature A(x) and the multipliers λ(y) of the paper's example."""
    features, multipliers = np.linspace(-1, 0.6, 5), np.array([1.0, -1.0])
    rows = np.exp(-np.outer(features, multipliers))
    return rows / rows.sum(axis=1, keepdims=True) / 5, features, multipliers


def curves(full: bool, seed: int) -> Found:
    """Both curves of the toy, every point certified."""
    p_xy, features, multipliers = toy()
    beta = np.unique(np.concatenate([np.geomspace(2, 150, 60 if full else 12), list(POINTS)]))
    family = {"features": features[:, None], "multipliers": multipliers[:, None]}
    found = {
        "IB": bottleneck.ib(p_xy, beta, certificate=True, progress=False),
        "dual": bottleneck.dual_ib(p_xy, beta, certificate=True, progress=False, **family),
    }
    entropy, i_xy = np.log(5), float(found["IB"].i_xy)
    claims = [Claim("I(X;Y) of the toy", i_xy, "equals", MUTUAL_INFORMATION, 5e-6, unit="nats")]
    for name, curve in found.items():
        proven = f"{name}: largest proven distance from the optimum"
        claims.append(Claim(proven, float(np.max(curve.gap)), "at most", 0.0, 1e-8, unit="nats"))
    for b, points in POINTS.items():
        i = int(np.argmin(np.abs(beta - b)))
        for (name, curve), (x, y) in zip(found.items(), points, strict=True):
            claims.append(Claim(f"{name}, beta = {b:g}: I(X;Z)/H(X)", curve.i_xz[i] / entropy, "equals", x, 1e-4))
            claims.append(Claim(f"{name}, beta = {b:g}: I(Z;Y)/I(X;Y)", curve.i_zy[i] / i_xy, "equals", y, 1e-4))
    # A point above the curve would have a smaller Lagrangian than the proven optimum, for some β.
    (best_xz, best_zy), (x, y) = ((np.asarray(c.i_xz), np.asarray(c.i_zy)) for c in found.values())
    above = np.max((best_xz - beta * best_zy)[:, None] - (x - beta[:, None] * y))
    beyond = "how far points of the dual lie beyond the bottleneck's curve"
    claims.append(Claim(beyond, above, "at most", 0.0, 1e-8, unit="nats"))
    numbers = {name: {"beta": c.beta, "i_xz": c.i_xz, "i_zy": c.i_zy, "gap": c.gap} for name, c in found.items()}

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained")
        plot.bottleneck(found, unit=unit, ax=left)
        for color, (name, curve) in zip(("C0", "C3"), found.items(), strict=True):
            right.semilogx(beta, np.asarray(curve.i_xz) / entropy, color=color, label=f"{name}: $I(X;Z)/H(X)$")
            right.semilogx(beta, np.asarray(curve.i_zy) / i_xy, "--", color=color, label=f"{name}: $I(Z;Y)/I(X;Y)$")
        right.set(xlabel=r"$\beta$", ylabel="share kept")
        right.legend(fontsize="small", frameon=False)
        return figure

    return Found(numbers, claims, draw, {"inputs": 5, "betas": len(beta)})


def bifurcation(full: bool, seed: int) -> Found:
    """Decoders over β and the critical β, local and global."""
    p_xy, features, multipliers = toy()
    p_y = p_xy.sum(axis=0)
    beta = np.geomspace(2.8, 18, 80 if full else 16)
    found = {
        name: (bottleneck.bifurcation(p_xy, beta, dual=dual), bottleneck.critical_betas(p_xy, dual=dual, beta_max=18.0))
        for name, dual in (("IB", False), ("dual", True))
    }
    claims = []
    for name, (_, critical) in found.items():
        local, everywhere = float(critical.local[0]), float(critical.global_[0])
        claims.append(Claim(f"{name}: first local critical beta", local, "equals", LOCAL[name], 1e-4))
        claims.append(
            Claim(f"{name}: global critical beta less the local one", everywhere - local, "at most", 0.0, 1e-6)
        )
    # A one-dimensional family: β = 1/(Var_y λ · Var_x A), the variance of λ under the trivial decoder.
    geometric = np.exp(np.log(p_xy / p_xy.sum(axis=1, keepdims=True)).mean(axis=0))
    geometric /= geometric.sum()
    spread = geometric @ multipliers**2 - (geometric @ multipliers) ** 2
    claims.append(Claim("dual: local critical beta times Var(lambda) Var(A)",
                        float(found["dual"][1].local[0]) * spread * features.var(), "equals", 1.0, 1e-6))  # fmt: skip
    numbers = {
        name: {"local": critical.local, "global": critical.global_, "p_y": p_y} for name, (_, critical) in found.items()
    }

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(10.5, 4), layout="constrained", sharey=True)
        for ax, (name, (branches, critical)) in zip(axes, found.items(), strict=True):
            plot.bifurcation(branches, critical=critical, ax=ax)
            ax.set_title(name)
        return figure

    return Found(numbers, claims, draw, {"inputs": 5, "betas": len(beta)})


def trained(full: bool, seed: int) -> Found:
    """VIB, CEB and the dual on digits, over their trade-offs."""
    import jax

    # The small ones are of the shapes that the test of the command line compiles.
    n, m, steps, betas, width, latent = (1000, None, 2000, 9, 128, 8) if full else (100, 60, 400, 2, 8, 2)
    data = datasets.digits(n, m, task="classes", dtype=np.float32, seed=seed)
    sweep = variational.sweep(
        data.x_train, data.labels_train, betas=np.geomspace(0.5, 500, betas), x_test=data.x_test,
        y_test=data.labels_test, key=jax.random.key(seed),
        names=("vib", "ceb", "dual") if full else ("vib", "dual"), latent=latent,
        encoder=variational.encoders.mlp(2 * latent, (width, width)), steps=steps, record=5 if full else 20,
        progress=False,
    )  # fmt: skip
    claims, numbers = variational_images.in_the_plane(sweep, len(data.x_test))
    settings = {"n_train": n, "steps": steps, "betas": betas, "hidden": [width, width], "seed": seed}
    return Found(numbers, claims, lambda unit: plot.variational(sweep, unit=unit).figure, settings)


_TOY = "The paper's example of five inputs and two labels is computed; its figure is not read off, so that the numbers "
FIGURES = error_exponents.FIGURES | {
    "curves": Figure(
        "The paper's example in the information plane, the bottleneck and its dual, and how much of either information "
        "each keeps at each beta.",
        _TOY + "are compared with the theory of this library alone (section 8), and each point is proven optimal.",
        curves,
    ),
    "bifurcation": Figure(
        "Decoders p(y|z) of all clusters over beta, for the bottleneck and for its dual: where they split, and where "
        "the optimum first changes.",
        _TOY + "are compared with the theory of this library alone (section 8).",
        bifurcation,
    ),
    "variational": Figure(
        "VIB, CEB and the variational dual trained on digits: what each encoder knows about the input and about the "
        "label of test images, a point for each trade-off.",
        "The abstract says that the variational dual has superior properties in the information plane; the rule here: "
        "it needs at most half of VIB's I(X;Z) for the same I(Y;Z), all by the same bounds. Digits, not the paper's "
        "data; one draw.",
        trained,
    ),
    "images": variational_images.IMAGES,
}
