"""An explorer: sliders move the predictive distribution, the information plane and bounds of an infinite ensemble.

    python examples/explorer.py          # a window of Matplotlib
    python examples/explorer.py --web    # a page of this machine, in a browser (needs tornado)

Nothing is trained: every move computes closed forms again. The weight scale is an input of the compiled program, so
that a move of it compiles nothing; the first visit of an activation, a depth or a size compiles for some seconds. The
bound of the network itself needs the Hessian kernel, which takes longer: it is computed when its button is pressed.
Always shown is that of the posterior whose noise is n/t, the regression that gradient flow up to t resembles.
"""

import argparse
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import ntkinfo as ni

ACTIVATIONS = ("erf", "relu", "gelu")
SIZES = (25, 50, 100, 200, 300)
# The largest time is where the smooth kernels of points on a circle have learned what float64 resolves.
TIMES = np.geomspace(0.1, 1e5, 25)
POSTERIOR_TIMES = TIMES[::3]
GRID, DELTA, WRONG = 80, 0.05, 0.05
LOWEST, HIGHEST = 0.6, 3.0


class Problem(NamedTuple):
    """Points of a circle, labelled by a wave, `WRONG` of them wrongly; and a grid of test points with right labels."""

    angle: np.ndarray
    x: jax.Array
    y: jax.Array
    grid: np.ndarray
    x_grid: jax.Array
    y_grid: jax.Array


class Picture(NamedTuple):
    """What is drawn of one setting: arrays over `TIMES`, the last two over `POSTERIOR_TIMES`."""

    mean: jax.Array
    std: jax.Array
    input_information: jax.Array
    label_information: jax.Array
    train_error: jax.Array
    test_error: jax.Array
    posterior_train_error: jax.Array
    posterior_kl: jax.Array


@functools.cache
def problem(n: int) -> Problem:
    """The data of n training examples."""
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(-np.pi, np.pi, n))
    y = np.sign(np.sin(2 * angle)) * np.where(rng.random(n) < WRONG, -1.0, 1.0)
    grid = -np.pi + 2 * np.pi * (np.arange(GRID) + 0.5) / GRID

    def points(angles):
        return jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))

    right = jnp.asarray(np.sign(np.sin(2 * grid)))[:, None]
    return Problem(angle, points(angle), jnp.asarray(y)[:, None], grid, points(grid), right)


@functools.cache
def program(activation: str, depth: int, n: int):
    """A compiled function of the weight scale, which is traced."""
    data, t = problem(n), jnp.asarray(TIMES)

    def picture(w_std) -> Picture:
        net = ni.architectures.network(activation=activation, depth=depth, w_std=w_std)
        ens = ni.Ensemble.fit(net, data.x, data.y, singular="project")
        z = ens.predict(data.x_grid, t)
        train = ni.information.losses(ens.predict_train(t), data.y).gibbs_error
        test = ni.information.losses(z, data.y_grid).gibbs_error
        told = ni.information.input_information(z).value, ni.information.label_information(z, data.y_grid).value
        ntk = ni.kernels.kernels(net, data.x).ntk

        def posterior(noise):
            post = ni.Posterior.from_kernel(ens.kernel_fn, data.x, data.y, ntk, noise=noise, prior="ntk")
            return ni.information.losses(post.predict_train(), data.y).gibbs_error, post.kl

        others = jax.lax.map(posterior, n / jnp.asarray(POSTERIOR_TIMES))
        return Picture(z.mean[..., 0], jnp.sqrt(jnp.maximum(z.variance, 0.0)), *told, train, test, *others)

    return jax.jit(picture)


def move(activation: str = "erf", depth: int = 2, w_std: float = 1.5, n: int = 100) -> Picture:
    """Everything of one setting, as NumPy arrays."""
    found = program(activation, depth, n)(float(w_std))
    return Picture(*(np.asarray(part) for part in found))


def posterior_bound(picture: Picture, n: int) -> np.ndarray:
    """PAC-Bayes-kl on the error of one network of the posterior, over `POSTERIOR_TIMES`: for all noises at once."""
    risk = np.clip(picture.posterior_train_error, 0.0, 1.0)
    return ni.bounds.pac_bayes_kl(risk, np.maximum(picture.posterior_kl, 0.0), n=n, delta=DELTA)


def network_bound(activation: str, depth: int, w_std: float, n: int) -> np.ndarray | None:
    """PAC-Bayes-kl on the error of one network of the ensemble, over `TIMES`; None for kinked activations."""
    data = problem(n)
    net = ni.architectures.network(activation=activation, depth=depth, w_std=w_std)
    ens = ni.Ensemble.fit(net, data.x, data.y, singular="project")
    return ni.certificate(ens, data.x_grid, data.y_grid, TIMES, delta=DELTA).pac_bayes_kl


class Explorer:
    """The figure with its sliders.

    Attributes:
      figure: of Matplotlib.
      widgets: sliders and buttons by name: w_std, depth, n, time, activation, bound.
      picture: what is shown.
    """

    def __init__(self):
        import matplotlib.pyplot as plt
        from matplotlib.widgets import Button, RadioButtons, Slider

        self.figure = plt.figure(figsize=(12, 5.6), dpi=80)
        self.axes = [self.figure.add_axes((left, 0.4, 0.26, 0.52)) for left in (0.06, 0.39, 0.72)]
        places = {name: self.figure.add_axes((0.16, 0.24 - 0.06 * i, 0.34, 0.04)) for i, name in enumerate(
            ("w_std", "depth", "n", "time"))}  # fmt: skip
        self.widgets = {
            "w_std": Slider(places["w_std"], "weight scale σ_w", LOWEST, HIGHEST, valinit=1.5, valstep=0.05),
            "depth": Slider(places["depth"], "hidden layers", 1, 5, valinit=2, valstep=1),
            "n": Slider(places["n"], "examples n", SIZES[0], SIZES[-1], valinit=min(100, SIZES[-1]), valstep=SIZES),
            "time": Slider(places["time"], "log₁₀ of the time t", -1, 5, valinit=2, valstep=0.25),
            "activation": RadioButtons(self.figure.add_axes((0.6, 0.03, 0.1, 0.26)), ACTIVATIONS),
            "bound": Button(self.figure.add_axes((0.76, 0.17, 0.18, 0.07)), "bound of the network"),
        }
        for widget in self.widgets.values():
            # One drawing for each move: ours.
            widget.drawon = False
        self._draw_empty()
        self._background = None
        self.figure.canvas.mpl_connect("draw_event", lambda _: self._drawn())
        for name in ("w_std", "depth", "n"):
            self.widgets[name].on_changed(lambda _: self.moved())
        self.widgets["activation"].on_clicked(lambda _: self.moved(whole=True))
        self.widgets["time"].on_changed(lambda _: self.show())
        self.widgets["bound"].on_clicked(lambda _: self.show_network_bound())
        self.moved()

    def settings(self) -> dict:
        """Activation, depth, weight scale and n, as the sliders say."""
        w = self.widgets
        return {"activation": w["activation"].value_selected, "depth": int(w["depth"].val),
                "w_std": float(w["w_std"].val), "n": int(w["n"].val)}  # fmt: skip

    def moved(self, whole: bool = False) -> None:
        """Computes again and shows."""
        self.picture = move(**self.settings())
        self.lines["network"].set_data([], [])
        self.show(whole)

    def show(self, whole: bool = False) -> None:
        """Puts the numbers into the figure, and draws what moves, or all of it."""
        n, time = self.settings()["n"], 10.0 ** self.widgets["time"].val
        data, at, found, lines = problem(n), int(np.argmin(np.abs(np.log(TIMES / time)))), self.picture, self.lines
        mean, std = found.mean[at], found.std[at]
        lines["mean"].set_data(data.grid, mean)
        lines["above"].set_data(data.grid, mean + 2 * std)
        lines["below"].set_data(data.grid, mean - 2 * std)
        lines["labels"].set_data(data.angle, np.asarray(data.y)[:, 0])
        lines["plane"].set_data(found.input_information, found.label_information)
        lines["now"].set_data([found.input_information[at]], [found.label_information[at]])
        lines["train"].set_data(TIMES, found.train_error)
        # What bounds are about: labels of which as many are wrong as in training.
        lines["test"].set_data(TIMES, WRONG + (1 - 2 * WRONG) * found.test_error)
        lines["posterior"].set_data(POSTERIOR_TIMES, posterior_bound(found, n))
        lines["time"].set_xdata([time, time])
        self.axes[1].title.set_text(
            f"{found.input_information[at]:.2f}, {found.label_information[at]:.2f} nats at t = {time:.3g}"
        )
        canvas = self.figure.canvas
        if whole or self._background is None:
            canvas.draw_idle()
            return
        canvas.restore_region(self._background)
        self._draw_moving()
        canvas.blit(self.figure.bbox)

    def _drawn(self) -> None:
        """Keeps what stands still: most of the time of a drawing is text. Canvases of pages always draw all."""
        canvas = self.figure.canvas
        if canvas.supports_blit:
            self._background = canvas.copy_from_bbox(self.figure.bbox)
        self._draw_moving()

    def _draw_moving(self) -> None:
        for artist in self._moving:
            self.figure.draw_artist(artist)

    def show_network_bound(self) -> None:
        """The bound of the network itself, for the setting shown."""
        bound = network_bound(**self.settings())
        self.lines["network"].set_data(([], []) if bound is None else (TIMES, bound))
        self.widgets["bound"].label.set_text("no Hessian kernel: kinked" if bound is None else "bound of the network")
        self.figure.canvas.draw_idle()

    def _draw_empty(self) -> None:
        predictive, plane, errors = self.axes

        def line(ax, *style, **more):
            return ax.plot([], [], *style, **more)[0]

        self.lines = {
            "mean": line(predictive, color="C0", label="mean"),
            "above": line(predictive, color="C0", lw=0.8, ls="--", label="± 2 standard deviations"),
            "below": line(predictive, color="C0", lw=0.8, ls="--"),
            "labels": line(predictive, "k.", ms=3, label="labels"),
            "plane": line(plane, ".-", ms=3),
            "now": line(plane, "o", ms=8),
            "train": line(errors, color="C0", label="error of one network, training"),
            "test": line(errors, color="C1", label="at new labels"),
            "posterior": line(errors, "k--", lw=1, label=f"PAC-Bayes-kl, posterior of noise n/t, δ = {DELTA}"),
            "network": line(errors, "C3--", lw=1, label="PAC-Bayes-kl, one network"),
            "time": errors.axvline(1.0, color="0.7", lw=1),
        }
        # Few ticks, no powers in mathematics: most of the time of a drawing is text.
        predictive.set_xticks([-3, 0, 3])
        plane.set_xticks([0, 1, 2, 3, 4])
        plane.set_yticks([0, 0.2, 0.4, 0.6])
        errors.set_xscale("log")
        errors.set_xticks([0.1, 10, 1000, 100000], ["0.1", "10", "1000", "10⁵"])
        errors.minorticks_off()
        predictive.set(xlabel="angle of the input", ylabel="output Z", xlim=(-np.pi, np.pi), ylim=(-3, 3))
        plane.set(
            xlabel="I(X;Z|D) (nats)", ylabel="I(Y;Z|D) (nats)", xlim=(0, np.log(GRID)), ylim=(0, 1.05 * np.log(2))
        )
        errors.set(xlabel="training time t", ylabel="0-1 error", xlim=TIMES[[0, -1]], ylim=(0, 1.02))
        predictive.legend(fontsize=7, loc="lower left")
        errors.legend(fontsize=7, loc="upper left")
        sliders = (self.widgets[name] for name in ("w_std", "depth", "n", "time"))
        parts = ((slider.poly, *slider.ax.lines, slider.valtext) for slider in sliders)
        self._moving = [*self.lines.values(), plane.title, *(artist for each in parts for artist in each)]
        for artist in self._moving:
            artist.set_animated(True)


def main() -> None:
    """Opens the explorer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--web", action="store_true", help="serve a page instead of opening a window")
    if parser.parse_args().web:
        matplotlib.use("WebAgg")
    jax.config.update("jax_enable_x64", True)
    import matplotlib.pyplot as plt

    # Widgets live as long as somebody holds them.
    explorer = Explorer()
    plt.show()
    del explorer


if __name__ == "__main__":
    main()
