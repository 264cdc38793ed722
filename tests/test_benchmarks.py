"""What the benchmarks say and do: their claims are those of their results, and run again they compute again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.scripts import script

ROOT = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_bottleneck_claims_no_more_than_its_result():
    first = (ROOT / "bottleneck.py").read_text().splitlines()[0]
    claimed = float(re.search(r"at least (\d+) times as fast as embo", first)[1])
    problems = json.loads((ROOT / "results" / "bottleneck.json").read_text())["problems"]
    ratios = [
        ratio["mean_excess"]["ratio"]
        for problem in problems
        for peer, ratio in problem["ratios"].items()
        if peer.startswith("embo")
    ]
    assert ratios and claimed <= min(ratios)


def test_the_scale_claims_no_more_than_its_result():
    first = (ROOT / "scale.py").read_text().splitlines()[0]
    n, share = re.search(r"at n = (\d+) .* at most (1/\d+) of", first).groups()
    rows = json.loads((ROOT / "results" / "scale.json").read_text())["sizes"][n]
    assert rows["krylov"]["processor"] <= rows["dense"]["processor"] / int(share.removeprefix("1/"))
    assert rows["krylov"]["reached"] and min(e["covered"] for e in rows["krylov"]["errors"].values()) >= 0.99


def test_bounds_on_the_gap_hold_in_their_result():
    """Averages may miss by chance, bounds of high probability with probability δ; nothing else is legal."""
    module = script("benchmarks/generalization.py")
    result = json.loads((ROOT / "results" / "generalization.json").read_text())
    cells = list(result["cells"].values())
    assert {(cell["n"], cell["noise"]) for cell in cells if cell["data"] == "fashion"} >= {(50, 0.0), (200, 0.3)}
    for name, (_, kind) in module.BOUNDS.items():
        below = [count for cell in cells for count in cell["bounds"][name]["below"]]
        draws = result["options"]["draws"] if kind == "probability" else 1
        assert sum(below) <= module.DELTA * draws * len(below)
    # What the first line says: averages come near the gap where the others say nothing.
    late = [cell for cell in cells if cell["noise"] == 0]
    for cell in late:
        assert cell["bounds"]["interpolation"]["value"][-1] < 1.3 * cell["gap"][-1]
        assert cell["bounds"]["pac_bayes_kl"]["value"][-2] > 0.9
    for row in result["learning"]:
        ratio = [error / seen for error, seen in zip(row["error"], row["measured"], strict=True)]
        slack = [3 * stderr / seen for stderr, seen in zip(row["stderr"], row["measured"], strict=True)]
        assert all(abs(each - 1) <= 0.12 + more for each, more in zip(ratio, slack, strict=True))
    # Stopping where nats on signal are most is near the best in hindsight, where noise takes more nats it is not.
    for row in result["stopping"]:
        excess = {rule: error - row["error"]["hindsight"] for rule, error in row["error"].items()}
        assert min(excess.values()) == 0 and excess["signal_most"] < 0.015 < 0.03 < excess["noise_faster"]
    told = module.report(cells, result["learning"], result["stopping"])
    assert told.count("\n") > 5 * len(cells) and "nan" not in told


def test_leaving_one_out_is_as_quick_and_as_sure_as_its_result():
    module = script("benchmarks/leaving_one_out.py")
    result = json.loads((ROOT / "results" / "leaving_one_out.json").read_text())
    assert set(result["speed"]) == set(module.ROWS) == set(module.WHAT)
    for name, row in result["speed"].items():
        assert row["target"] == module.TARGETS[name] and row["what"] == module.WHAT[name]
        assert min(row["wall"], row.get("wall_again", row["wall"])) < row["target"]
    rows = result["labels"]["rows"]
    own, fitted = ([row["area"]["information"] or 0.0 for row in rows if row["fitted"] is f] for f in (False, True))
    # What theory, section 12 says.
    assert max(fitted) > 0.98 > 0.97 > max(own)
    assert max(row["area"]["residual"] for row in rows) > 0.98
    assert module.area(np.array([True, False, True, False]), np.array([3.0, 1.0, 2.0, 2.0])) == 0.875


@pytest.fixture
def figure(monkeypatch):
    module = script("benchmarks/paper_figure2.py")
    calls = []

    def informations(w, data, t, key, options):
        calls.append(w)
        return {name: [float(len(calls))] * len(t) for name in ("infonce", "infonce_stderr", "exact", "label")}

    monkeypatch.setattr(module, "informations", informations)
    monkeypatch.setattr(module, "figure", lambda *arguments: None)
    return module, calls


def test_the_published_figure_is_computed_again_unless_asked_to_resume(figure, tmp_path, capsys):
    module, calls = figure
    scales, small = len(module.PUBLISHED), ["--n-train", "5", "--n-test", "4", "--out", str(tmp_path)]
    module.main(["--seeds", "1", *small])
    assert len(calls) == scales
    module.main(["--seeds", "2", "--resume", *small])
    assert len(calls) == 2 * scales
    module.main(["--seeds", "2", *small])
    assert len(calls) == 4 * scales
    assert list(json.loads((tmp_path / "paper_figure2.json").read_text())["seeds"]) == ["0", "1"]
    capsys.readouterr()


def test_the_accelerator_is_compared_with_what_it_can_do_or_its_absence_is_said(monkeypatch, tmp_path, capsys):
    module = script("benchmarks/gpu.py")
    # The bottleneck compiles nothing.
    monkeypatch.setattr(module, "CASES", (module.certified_bottleneck,))
    module.main(["--size", "0.001", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["accelerator"] or "no accelerator here" in capsys.readouterr().out
    for device in found["devices"]:
        assert device["name"] and all(limit["flops"] > 0 and limit["bytes"] > 0 for limit in device["limits"].values())
        assert [row["cold"] > 0 and row["warm"] > 0 for row in device["rows"]] == [True]
