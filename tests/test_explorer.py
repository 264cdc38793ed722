"""The explorer, without a window: sliders move what is drawn, and nothing is compiled again."""

import matplotlib
import numpy as np
import pytest

import ntkinfo as ni
from tests.scripts import script


class Programs:
    """Stands for the compiled programs: pictures that say which setting they are of."""

    def __init__(self, module):
        self.module, self.asked = module, []

    def __call__(self, activation, depth, n):
        def program(w_std):
            self.asked.append((activation, depth, n, w_std))
            t, m = self.module.TIMES, self.module.GRID
            each, few = np.linspace(0, 1, len(t)), np.linspace(0.1, 0.4, len(self.module.POSTERIOR_TIMES))
            mean = w_std * each[:, None] * np.ones(m)
            return self.module.Picture(mean, np.ones((len(t), m)), each, 0.5 * each, 0.5 - each / 2, each / 2, few, few)

        return program


def opened(patch, programs=None):
    matplotlib.use("Agg")
    module = script("examples/explorer.py")
    patch.setattr(module, "SIZES", (12, 25))
    if programs is not None:
        patch.setattr(module, "program", programs(module))
    return module, module.Explorer()


def test_sliders_move_what_is_drawn(monkeypatch):
    module, shown = opened(monkeypatch, Programs)
    assert shown.settings() == {"activation": "erf", "depth": 2, "w_std": 1.5, "n": 25}
    shown.widgets["w_std"].set_val(2.5)
    shown.widgets["depth"].set_val(3)
    shown.widgets["n"].set_val(12)
    shown.widgets["activation"].set_active(1)
    settings = [
        ("erf", 2, 25, 1.5),
        ("erf", 2, 25, 2.5),
        ("erf", 3, 25, 2.5),
        ("erf", 3, 12, 2.5),
        ("relu", 3, 12, 2.5),
    ]
    assert module.program.asked == settings
    # A time is chosen from what is there.
    shown.widgets["time"].set_val(np.log10(module.TIMES[16]))
    assert module.program.asked == settings
    at = np.linspace(0, 1, len(module.TIMES))[16]
    np.testing.assert_allclose(shown.lines["mean"].get_ydata(), 2.5 * at)
    np.testing.assert_allclose(shown.lines["above"].get_ydata(), 2.5 * at + 2)
    np.testing.assert_allclose([shown.lines["now"].get_xdata()[0], shown.lines["now"].get_ydata()[0]], [at, 0.5 * at])
    np.testing.assert_allclose(shown.lines["test"].get_ydata()[16], 0.05 + 0.9 * at / 2)
    bound = ni.bounds.pac_bayes_kl(0.1, 0.1, n=12, delta=0.05)
    np.testing.assert_allclose(shown.lines["posterior"].get_ydata()[0], bound)
    assert len(shown.lines["labels"].get_xdata()) == 12
    shown.figure.canvas.draw()


def test_a_move_draws_again_only_what_moved(monkeypatch):
    _, shown = opened(monkeypatch, Programs)
    canvas, whole = shown.figure.canvas, []
    canvas.draw()
    before = np.asarray(canvas.buffer_rgba()).copy()
    monkeypatch.setattr(canvas, "draw_idle", lambda: whole.append("idle"))
    monkeypatch.setattr(shown.axes[0].xaxis, "draw", lambda *_: whole.append("axis"))
    shown.widgets["w_std"].set_val(2.5)
    shown.widgets["time"].set_val(3.0)
    assert whole == []
    moved = np.asarray(canvas.buffer_rgba()).copy()
    assert (moved != before).any()
    monkeypatch.undo()
    matplotlib.use("Agg")
    # All of it, drawn from nothing, is the same picture.
    canvas.draw()
    np.testing.assert_array_equal(np.asarray(canvas.buffer_rgba()), moved)
    # Buttons do not move, so that a change of theirs draws the whole.
    monkeypatch.setattr(canvas, "draw_idle", lambda: whole.append("idle"))
    shown.show(whole=True)
    assert whole == ["idle"]


@pytest.fixture(scope="module")
def explorer():
    with pytest.MonkeyPatch.context() as patch:
        yield opened(patch)


@pytest.mark.slow
def test_a_move_of_the_weight_scale_compiles_nothing(explorer):
    module, shown = explorer
    before, programs = shown.lines["mean"].get_ydata().copy(), module.program("erf", 2, 25)
    assert programs._cache_size() == 1
    shown.widgets["w_std"].set_val(2.5)
    assert programs._cache_size() == 1 and not np.allclose(before, shown.lines["mean"].get_ydata())
    assert all(np.isfinite(part).all() for part in shown.picture)


@pytest.mark.slow
def test_what_is_drawn_is_what_the_library_says(explorer):
    module, _ = explorer
    found, data = module.move("erf", 2, 1.5, 25), module.problem(25)
    ens = ni.Ensemble.fit(ni.architectures.network(w_std=1.5), data.x, data.y, singular="project")
    z = ens.predict(data.x_grid, module.TIMES)
    np.testing.assert_allclose(found.mean, z.mean[..., 0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.std, z.std, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_other_settings_and_bounds(explorer):
    module, shown = explorer
    net = ni.architectures.network(w_std=1.5)
    data = module.problem(25)
    found = module.move("erf", 2, 1.5, 25)
    for noise, kl in zip(25 / module.POSTERIOR_TIMES, found.posterior_kl, strict=True):
        post = ni.Posterior.fit(net, data.x, data.y, noise=noise, prior="ntk")
        np.testing.assert_allclose(kl, post.kl, rtol=1e-5, atol=1e-8)
    assert np.all(module.posterior_bound(found, 25) >= found.posterior_train_error)
    shown.widgets["w_std"].set_val(1.5)
    shown.show_network_bound()
    drawn = shown.lines["network"].get_ydata()
    assert drawn.shape == module.TIMES.shape and np.all(drawn >= found.train_error - 1e-12)
    # A move takes the bound of another setting away; kinks have none.
    shown.widgets["n"].set_val(12)
    assert len(shown.lines["network"].get_xdata()) == 0 and len(shown.lines["labels"].get_xdata()) == 12
    shown.widgets["activation"].set_active(1)
    assert shown.settings()["activation"] == "relu"
    shown.show_network_bound()
    assert len(shown.lines["network"].get_xdata()) == 0 and "kinked" in shown.widgets["bound"].label.get_text()
    shown.figure.canvas.draw()


@pytest.fixture(autouse=True, scope="module")
def nothing_left_open():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")
