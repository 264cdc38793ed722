"""The job `python -m ntkinfo reproduce`: figures of papers at small sizes, and the records that the gallery shows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ntkinfo import __main__
from ntkinfo._cli import reproduce
from ntkinfo._cli.papers import figure, registry
from ntkinfo._cli.papers.figure import Claim
from tests.scripts import script

ROOT = Path(__file__).resolve().parents[2]
ALL = [(paper, name) for paper, about in registry.PAPERS.items() for name in about.figures]
# Some seconds of compilation or training each, or computed by another test below; others are small enough for CI.
SLOW = {("2006.04641", name) for name in ("curves", "bifurcation", "exponents", "images")}
SLOW |= {("2305.18887", "ranking"), ("1703.00810", "weights"), ("1703.00810", "images")}
SLOW |= {("1911.09189", name) for name in "13"}


def gallery():
    """The script that makes the pages."""
    return script("docs/gallery.py")


def test_claims_are_decided_by_their_rule():
    def holds(found, relation, tolerance=0.0):
        return Claim("", found, relation, 1.0, tolerance).holds()

    assert holds(1.05, "equals", 0.1) and not holds(1.2, "equals", 0.1) and not holds(0.8, "equals", 0.1)
    assert holds(0.5, "at most") and not holds(1.05, "at most") and holds(1.05, "at most", 0.1)
    assert holds(1.5, "at least") and not holds(0.95, "at least") and holds(0.95, "at least", 0.1)
    assert not any(holds(np.nan, relation, 1.0) for relation in figure.RELATIONS)


def test_a_verdict_counts():
    yes, no = Claim("", 0.0, "at most", 1.0), Claim("", 2.0, "at most", 1.0, source="abstract")
    said = Claim("", 0.0, "at most", 1.0, source="abstract")
    assert figure.verdict([yes, said], True) == "reproduced" and figure.verdict([no], True) == "not reproduced"
    assert "no claim of the paper is judged" in figure.verdict([yes, yes], True)
    assert figure.verdict([yes, no], True) == "in part: 1 of 2 claims hold"
    assert figure.judged([yes, no], False) == [yes] and figure.judged([yes, no], True) == [yes, no]
    assert "small sizes: 1 of 1" in figure.verdict([yes], False)


def test_what_there_is_not_is_refused_with_what_there_is(capsys):
    for given, said in (
        (["1911.0918"], "did you mean 1911.09189? They are 1911.09189 (figures 1, 2, 3); 2006.04641"),
        (["1911.09189", "--figure=7"], "--figure must be one of 1, 2, 3 for 1911.09189; got '7'"),
        (["2006.04641", "--figure=curve"], "one of curves, bifurcation, exponents, variational, images"),
    ):
        assert __main__.main(["reproduce", *given]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_it_writes_what_it_says(tmp_path, capsys, keep_settings):
    given = ["reproduce", "2006.04641", "--figure=bifurcation", f"--out={tmp_path / 'out'}", "--unit=bits"]
    assert __main__.main(given) == 0
    printed = capsys.readouterr().out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"figure-bifurcation.png", "figure-bifurcation.json", "report.md", "report.html", "manifest.json"}
    record = json.loads((tmp_path / "out" / "figure-bifurcation.json").read_text())
    assert record["paper"] == "2006.04641" and not record["full"] and record["verdict"] in printed
    assert record["command"] == "python -m ntkinfo reproduce 2006.04641 --unit=bits --figure=bifurcation"
    assert record["processor_seconds"] > 0 and all(claim["holds"] for claim in record["claims"])
    kept = json.loads((ROOT / "docs" / "gallery" / "2006.04641-bifurcation.json").read_text())
    for way in ("IB", "dual"):
        for kind in ("local", "global"):
            # Critical β do not depend on the size of the figure.
            assert record["numbers"][way][kind] == pytest.approx(kept["numbers"][way][kind], rel=1e-5)


@pytest.mark.parametrize(
    ("paper", "name"), [pytest.param(*one, marks=pytest.mark.slow if one in SLOW else ()) for one in ALL]
)
def test_small_sizes_hold_what_theory_says(paper, name, keep_settings):
    import jax
    import matplotlib.pyplot as plt

    jax.config.update("jax_enable_x64", True)
    one = registry.paper(paper).figure(name)
    found = one.compute(False, 0)
    claims = figure.judged(found.claims, False)
    assert claims and [claim.text for claim in claims if not claim.holds()] == []
    assert {claim.source for claim in found.claims} <= set(figure.SOURCES)
    assert {claim.relation for claim in found.claims} <= set(figure.RELATIONS)
    assert "nan" not in json.dumps(figure.plain(found.numbers)).lower()
    drawn = found.draw("bits")
    assert any(ax.has_data() for ax in drawn.axes)
    plt.close(drawn)


def test_every_figure_is_found_by_its_name():
    for paper, name in ALL:
        one = registry.paper(paper).figure(name)
        assert one.shows and one.compares and callable(one.compute)


RECORDS = sorted((ROOT / "docs" / "gallery").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_says_what_its_numbers_say(path):
    record = json.loads(path.read_text())
    one = registry.paper(record["paper"]).figure(record["figure"])
    assert path.stem == f"{record['paper']}-{record['figure']}" and path.with_suffix(".png").exists() and record["full"]
    assert (record["shows"], record["compares"]) == (one.shows, one.compares)
    fields = [field.name for field in dataclasses.fields(Claim)]
    claims = [Claim(**{name: claim[name] for name in fields}) for claim in record["claims"]]
    assert [claim["holds"] for claim in record["claims"]] == [claim.holds() for claim in claims]
    assert [claim["rule"] for claim in record["claims"]] == [claim.rule() for claim in claims]
    assert record["verdict"] == figure.verdict(claims, True)
    page = gallery().pages()[f"gallery/{record['paper']}.md"]
    assert record["verdict"] in page and record["command"] in page and f'alt="Figure {record["figure"]}' in page


def test_a_record_is_what_is_computed_today(keep_settings):
    import jax

    jax.config.update("jax_enable_x64", True)
    record = json.loads((ROOT / "docs" / "gallery" / "2006.04641-curves.json").read_text())
    found = figure.plain(registry.paper("2006.04641").figure("curves").compute(True, 0).numbers)
    for way in ("IB", "dual"):
        for quantity in ("i_xz", "i_zy"):
            np.testing.assert_allclose(found[way][quantity], record["numbers"][way][quantity], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
# An estimate that cannot be believed says so, and is not drawn.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_claims_of_a_record_are_decided_today_as_they_were(path, keep_settings):
    import jax

    record = json.loads(path.read_text())
    quick = jax.config.read("jax_disable_most_optimizations")
    try:
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_disable_most_optimizations", False)
        found = registry.paper(record["paper"]).figure(record["figure"]).compute(True, 0)
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)
    if found.settings.get("data") != record["settings"].get("data"):
        pytest.skip("made from files that are not here")
    decided = [(claim.text, claim.rule(), claim.holds()) for claim in found.claims]
    assert decided == [(claim["text"], claim["rule"], claim["holds"]) for claim in record["claims"]]


def test_json_is_read_back_as_it_was():
    record = {"a": [1.5, 2, None], "b": {"c": [[1, 2], [3, 4]], "text": "[ x ]"}, "d": []}
    text = reproduce.as_json(record)
    assert json.loads(text) == record and "[1.5, 2, null]" in text
