"""The explorer, without a window: sliders move what is drawn, and nothing is compiled again."""

import matplotlib
import numpy as np
import pytest

import ntkinfo as ni
from tests.scripts import script


@pytest.fixture(scope="module")
def explorer():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    module = script("examples/explorer.py")
    module.SIZES = (12, 25)
    shown = module.Explorer()
    yield module, shown
    plt.close(shown.figure)


def test_a_slider_moves_what_is_drawn_and_compiles_nothing(explorer):
    module, shown = explorer
    assert shown.settings() == {"activation": "erf", "depth": 2, "w_std": 1.5, "n": 25}
    before, programs = shown.lines["mean"].get_ydata().copy(), module.program("erf", 2, 25)
    assert programs._cache_size() == 1
    shown.widgets["w_std"].set_val(2.5)
    assert programs._cache_size() == 1 and not np.allclose(before, shown.lines["mean"].get_ydata())
    at = 16
    shown.widgets["time"].set_val(np.log10(module.TIMES[at]))
    np.testing.assert_array_equal(shown.lines["mean"].get_ydata(), shown.picture.mean[at])
    now = shown.picture.input_information[at], shown.picture.label_information[at]
    np.testing.assert_array_equal([shown.lines["now"].get_xdata()[0], shown.lines["now"].get_ydata()[0]], now)
    assert all(np.isfinite(part).all() for part in shown.picture)


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
