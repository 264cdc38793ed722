"""Layers and gradients beyond the 12-bit task (arXiv 1703.00810): dense and convolutional networks on images."""

import numpy as np

from ntkinfo import datasets, finite, plot
from ntkinfo._cli.papers.figure import Claim, Figure, Found

FILTERS, WINDOW = (4, 8), (3, 3)


def images(full: bool, seed: int):
    """Fashion-MNIST, every second pixel, where its files are; else digits; small sizes take digits. (n, h, w, 1)."""
    n, m = (1000, 500) if full else (120, 60)
    if full:
        try:
            data = datasets.fashion_mnist(None, n, m, task="classes", flat=False, dtype=np.float32, seed=seed)
            x, x_test = (np.asarray(part).reshape(-1, 28, 28, 1)[:, ::2, ::2] for part in (data.x_train, data.x_test))
            return "Fashion-MNIST", x, data.labels_train, x_test, data.labels_test
        except FileNotFoundError:
            pass
    data = datasets.digits(n, m, task="classes", flat=False, dtype=np.float32, seed=seed)
    x, x_test = (np.asarray(part).reshape(-1, 8, 8, 1) for part in (data.x_train, data.x_test))
    return "digits", x, data.labels_train, x_test, data.labels_test


def convolutional(x, labels, x_test, epochs: int, batch: int, rate: float, record, seed: int):
    """A network of two convolutions and a readout, trained: gradients' ratios, activations, and its test error.

    Returns:
      Ratios of the mean of the minibatch gradients to their deviation, (T, 3); activations on the test images by layer,
      (T, m, units); classes named there at the end.
    """
    import jax
    import jax.numpy as jnp

    def layers(params, x):
        found = []
        for w in params[:-1]:
            x = jnp.tanh(jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
            found.append(x.reshape(len(x), -1))
        return [*found, found[-1] @ params[-1]]

    def loss(params, x, y):
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(layers(params, x)[-1]), axis=1))

    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(*WINDOW, 1, FILTERS[0]), (*WINDOW, *FILTERS)]
    final = -(-x.shape[1] // 4) * -(-x.shape[2] // 4) * FILTERS[1]
    shapes.append((final, 10))
    params = [
        jax.random.normal(k, s, x.dtype) / float(np.prod(s[:-1])) ** 0.5 for k, s in zip(keys, shapes, strict=False)
    ]
    y, starts = jnp.eye(10, dtype=x.dtype)[labels], len(x) // batch
    x = jnp.asarray(x)

    @jax.jit
    def epoch(params, key):
        rows = jax.random.permutation(key, len(x))[: starts * batch].reshape(starts, batch)
        # At the weights that the epoch starts from.
        each = jax.lax.map(lambda some: jax.grad(loss)(params, x[some], y[some]), rows)
        ratio = [jnp.linalg.norm(g.mean(0)) / jnp.sqrt(jnp.var(g, axis=0).sum()) for g in each]

        def step(params, some):
            return jax.tree.map(lambda w, g: w - rate * g, params, jax.grad(loss)(params, x[some], y[some])), None

        return jax.lax.scan(step, params, rows)[0], jnp.stack(ratio)

    ratios, activations = [], []
    for i in range(epochs + 1):
        after, ratio = epoch(params, jax.random.fold_in(keys[3], i))
        if i in record:
            ratios.append(np.asarray(ratio))
            # Probabilities of the classes, as the dense networks' last layer.
            *hidden, output = layers(params, jnp.asarray(x_test))
            activations.append([np.asarray(part) for part in (*hidden, jax.nn.softmax(output))])
        if i < epochs:
            params = after
    named = np.argmax(activations[-1][-1], axis=1)
    return np.array(ratios), [np.stack(parts) for parts in zip(*activations, strict=True)], named


def beyond(full: bool, seed: int) -> Found:
    """Dense and convolutional networks on images of ten classes: layers in the plane, and phases of gradients."""
    import jax

    name, x, labels, x_test, labels_test = images(full, seed)
    epochs, batch = (300, 50) if full else (6, 30)
    record = np.unique(np.geomspace(1, epochs, 14 if full else 3).round().astype(int))
    record = np.concatenate([[0], record])
    flat, flat_test = (part.reshape(len(part), -1) for part in (x, x_test))
    run = finite.train_layers(
        (flat.shape[1], 32, 16, 10), flat, labels, x_test=flat_test, y_test=labels_test, epochs=epochs,
        n_networks=3 if full else 2, key=jax.random.key(seed), batch_size=batch, learning_rate=0.1, record=record,
        progress=False,
    )  # fmt: skip
    dense = finite.information_plane(run, flat_test, labels_test, estimator="kde", variance=0.1, progress=False)
    ratio = {"dense": np.asarray(finite.gradient_phases(run).snr).mean(0)}
    ratio["convolutional"], parts, named = convolutional(x, labels, x_test, epochs, batch, 0.1, set(record), seed)
    layers = {f"{i + 1}": part for i, part in enumerate(parts)}
    conv = finite.information_plane(layers, None, labels_test, estimator="kde", variance=0.1, progress=False)
    planes = {"dense": dense, "convolutional": conv}
    error = {"dense": float(np.asarray(run.test_error)[:, -1].mean()),
             "convolutional": float(np.mean(named != np.asarray(labels_test)))}  # fmt: skip
    fall = {key: float((p.i_xt.max(1) - p.i_xt[:, -1])[:, :-1].mean()) for key, p in planes.items()}
    claims = []
    for key, plane in planes.items():
        claims += [
            Claim(f"{key}: largest I(X;T) of any layer, less log m", float(plane.i_xt.max()) - np.log(len(x_test)),
                  "at most", 0.0, 1e-4, unit="nats"),
            Claim(f"{key}: signal-to-noise ratio at the first epoch, median over layers",
                  float(np.median(ratio[key][0])), "at least", 1.0, 0.0, "question"),
            Claim(f"{key}: signal-to-noise ratio at the end, median over layers", float(np.median(ratio[key][-1])),
                  "at most", 1.0, 0.0, "question"),
            Claim(f"{key}: fall of I(X;T) after its peak, mean over hidden layers", fall[key], "at least", 0.2, 0.0,
                  "question", "nats"),
        ]  # fmt: skip

    def draw(unit: str):
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
        for ax, (key, plane) in zip(axes, planes.items(), strict=False):
            plot.layers(plane, unit=unit, ax=ax)
            ax.set_title(key)
        for key, style in (("dense", "-"), ("convolutional", "--")):
            for layer, values in enumerate(ratio[key].T):
                axes[2].plot(record, values, style, color=f"C{layer}", label=f"{key}, layer {layer + 1}")
        axes[2].axhline(1, color="black", lw=0.8)
        axes[2].set(xscale="symlog", yscale="log", xlabel="epoch", ylabel="signal-to-noise ratio", xlim=(0, None))
        axes[2].legend(fontsize="small")
        return figure

    numbers = {"epochs": record, "snr": ratio, "test_error": error, "fall": fall,
               "i_xt": {key: p.i_xt.mean(0) for key, p in planes.items()},
               "i_ty": {key: p.i_ty.mean(0) for key, p in planes.items()}}  # fmt: skip
    settings = {"data": name, "n_train": len(x), "n_test": len(x_test), "dense": list(run.sizes),
                "filters": list(FILTERS), "window": list(WINDOW), "epochs": epochs, "batch_size": batch,
                "learning_rate": 0.1, "noise_variance": 0.1, "seed": seed}  # fmt: skip
    return Found(numbers, claims, draw, settings)


IMAGES = Figure(
    "Ten classes of images, a dense tanh network and one of two convolutions: the layers in the information plane over "
    "the epochs, by kernel densities, and the signal-to-noise ratios of their gradients.",
    "The paper trains on the 12-bit task; whether its phases are seen beyond it is asked by us, by the rules of its "
    "figures 2 and 4 here. Fashion-MNIST, every second pixel, at full size where its files are, and digits else. "
    "Informations are upper bounds for activations with noise, over the test images.",
    beyond,
)
