"""The variational dual on the paper's data (arXiv 2006.04641): the plane, noise on the inputs, and few images."""

import numpy as np

from ntkinfo import datasets, plot, variational
from ntkinfo._cli.papers.figure import Claim, Figure, Found

TRADE = 30.0
# One network that names classes, and the pure dual with the noise model of `variational.sweep`.
FITTED = {"vib": {"objective": "vib", "beta": TRADE}, "dual": {"objective": "dual", "beta": 0.0, "gamma": TRADE}}


def images(full: bool, seed: int):
    """Fashion-MNIST where its files are, else digits; small sizes take digits."""
    n, m = (2000, 1000) if full else (150, 100)
    if full:
        try:
            return "Fashion-MNIST", datasets.fashion_mnist(None, n, m, task="classes", dtype=np.float32, seed=seed)
        except FileNotFoundError:
            n = 1000
    return "digits", datasets.digits(n, min(m, 1797 - n), task="classes", dtype=np.float32, seed=seed)


def in_the_plane(sweep, m: int) -> tuple[list[Claim], dict]:
    """Claims about a sweep on m test images of ten classes in the information plane, and its numbers."""
    needed = variational.required_information(sweep)
    i_xz = dict(zip(needed.objectives, np.asarray(needed.i_xz), strict=True))
    claims = [
        Claim("largest lower bound on I(Y;Z), less log 10", float(np.max(sweep.i_yz_lower)) - np.log(10), "at most", 0,
              1e-6, unit="nats"),
        Claim("largest lower bound on I(X;Z), less log m", float(np.max(sweep.i_xz_lower)) - np.log(m),
              "at most", 0.0, 1e-4, unit="nats"),
        Claim(f"I(X;Z) that the dual needs over what VIB needs, at I(Y;Z) = {float(needed.i_yz):.3f} nats",
              i_xz["dual"] / i_xz["vib"], "at most", 0.5, 0.0, "abstract"),
    ]  # fmt: skip
    fields = ("beta", "i_xz_lower", "i_xz_upper", "i_yz_lower", "error")
    numbers = {field: getattr(sweep, field) for field in fields}
    return claims, numbers | {"objectives": list(sweep.objectives), "needed": i_xz}


def trained(full: bool, seed: int) -> Found:
    """VIB, CEB and the dual: I(X;Z) needed for the same I(Y;Z); errors under noise, and with few images."""
    import jax

    name, data = images(full, seed)
    steps, betas, width, repeats = (1500, 7, 128, 2) if full else (100, 3, 32, 1)
    encoder, n = variational.encoders.mlp(16, (width, width)), len(data.x_train)
    key_sweep, key_fit, key_noise, key_sizes = jax.random.split(jax.random.key(seed), 4)
    test = {"x_test": data.x_test, "y_test": data.labels_test}
    sweep = variational.sweep(
        data.x_train, data.labels_train, betas=np.geomspace(0.5, 500, betas), **test, key=key_sweep, encoder=encoder,
        steps=steps, record=5, progress=False,
    )  # fmt: skip
    spread, sizes = np.array([0.0, 0.5, 1.0, 2.0]), [n // 20, n // 4, n]
    noisy, errors = {}, {}
    for which, options in FITTED.items():
        more = {"encoder": encoder, "steps": steps, "record": 2, "progress": False} | options
        if which == "dual":
            more["label_noise"] = variational.label_noise.smoothing(0.1)
        fit = variational.fit(data.x_train, data.labels_train, key=key_fit, **more)
        noisy[which] = variational.error_under_noise(fit, data.x_test, data.labels_test, spread, key=key_noise)
        curve = variational.learning_curve(
            data.x_train, data.labels_train, sizes, **test, repeats=repeats, key=key_sizes, **more
        )
        errors[which] = np.asarray(curve.error).mean(1)
    noisy = {which: np.asarray(values) for which, values in noisy.items()}
    claims, numbers = in_the_plane(sweep, len(data.x_test))
    claims += [
        Claim(f"test error under noise of deviation {spread[-1]:g}: the dual's less VIB's",
              noisy["dual"][-1] - noisy["vib"][-1], "at most", 0.0, 0.0, "question"),
        Claim(f"test error with {sizes[0]} images: the dual's less VIB's", errors["dual"][0] - errors["vib"][0],
              "at most", 0.0, 0.0, "question"),
    ]  # fmt: skip
    numbers |= {"noise": {"deviation": spread, **noisy}, "images": {"n": sizes, **errors}}

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
        plot.variational(sweep, unit=unit, ax=axes[0])
        for which in FITTED:
            axes[1].plot(spread, noisy[which], "o-", label=which)
            axes[2].plot(sizes, errors[which], "o-", label=which)
        axes[1].set(xlabel="deviation of noise on the inputs", ylabel="test error", ylim=(0, None))
        axes[2].set(xlabel="training images", ylabel="test error", xscale="log", ylim=(0, None))
        axes[1].legend()
        return figure

    settings = {"data": name, "n_train": n, "n_test": len(data.x_test), "steps": steps, "betas": betas,
                "hidden": [width, width], "trade_off": TRADE, "repeats": repeats, "seed": seed}  # fmt: skip
    return Found(numbers, claims, draw, settings)


IMAGES = Figure(
    "VIB, CEB and the variational dual on images: the plane on test images, the error with noise on the inputs, and "
    "the error against the number of training images.",
    "The abstract says that the variational dual has superior properties in the information plane; the rule here: it "
    "needs at most half of VIB's I(X;Z) for the same I(Y;Z), all by the same bounds. Fashion-MNIST at full size where "
    "its files are, 2000 of its images; noise and few images are asked by us. One draw.",
    trained,
)
