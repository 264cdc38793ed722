"""Every public function with hostile arguments: a sample of the fuzz, and the whole with `--fuzz`."""

import inspect
import json
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.fuzz import calls, campaign, hostile, judge
from tests.fuzz.judge import Call, Outcome

# Faults that are known and not yet mended, by case, with the reason; the whole fuzz says which are none any more.
KNOWN: dict[str, str] = json.loads((Path(__file__).parent / "known.json").read_text())


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Users do not forbid the promotion of ranks, as the other tests do."""
    before = jax.config.jax_numpy_rank_promotion
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", before)


pytestmark = pytest.mark.usefixtures("little_time_to_compile")


def test_every_public_function_has_a_call_or_a_reason_against_it():
    public = set(calls.public_callables())
    listed = set(calls.TABLE) | set(calls.SAME) | set(calls.EXEMPT)
    assert public == listed, f"missing: {sorted(public - listed)}; no longer public: {sorted(listed - public)}"
    for name, same in calls.SAME.items():
        # Each may be wrapped for itself, to check its annotations.
        assert inspect.unwrap(calls.public_callables()[name]) is inspect.unwrap(calls.public_callables()[same])


def test_every_public_module_is_looked_at():
    import ntkinfo

    top = {name for name in ntkinfo.__all__ if name not in ("Ensemble", "Posterior", "certificate", "load", "save")}
    assert {name.split(".")[0] for name in calls.MODULES} == top


# Slow to make, or without arrays of floats: not in float32 but by `--fuzz`.
ONE_PRECISION = {"finite", "networks", "plot"}
SAMPLED = [
    pytest.param(name, marks=() if name in ONE_PRECISION else pytest.mark.any_precision) for name in campaign.modules()
]


@pytest.mark.parametrize("module", SAMPLED)
def test_a_sample_of_hostile_arguments_is_refused(module):
    """Of every argument one value that must not be accepted: the boundary is what is tried, nothing is computed."""
    faults = []
    for name in calls.TABLE:
        if campaign.module_of(name) != module:
            continue
        call = calls.call(name)
        assert not calls.unknown_parameters(name), f"{name}: no kind for {calls.unknown_parameters(name)}"
        refused: dict[str, list] = {}
        for argument, value in judge.cases(call, calls.KINDS):
            case = f"{name}:{argument}:{value.tag}"
            if value.refused and value.tag not in hostile.LATE and case not in KNOWN:
                refused.setdefault(argument, []).append((case, value))
        for argument, cases in refused.items():
            # The same every time, another for another argument.
            case, value = cases[zlib.crc32(f"{name}:{argument}".encode()) % len(cases)]
            outcome = judge.run(call, argument, value)
            if outcome.kind in judge.FAULTS:
                faults.append(f"{case}: {outcome.kind}: {outcome.text[:200]}")
    assert not faults, "\n".join(faults)


@pytest.mark.any_precision
@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("module", campaign.modules())
def test_the_whole_fuzz(module, capsys):
    outcomes = campaign.run_module(module, float32=not jax.config.jax_enable_x64)
    faults = {case: outcome for case, outcome in outcomes.items() if outcome[0] in judge.FAULTS}
    gone = sorted(case for case in KNOWN.keys() & set(outcomes) if case not in faults)
    with capsys.disabled():
        print(f"\n{campaign.table({module: campaign.counts(outcomes)})}")
        if gone:
            print("no faults any more, to be struck from known.json:", *gone, sep="\n  ")
    new = [f"{case}: {kind}: {text[:200]}" for case, (kind, text) in faults.items() if case not in KNOWN]
    assert not new, "\n".join(new)


# The judge itself: each kind of fault is found where there is one.


def _wrong(value):
    """Functions of one argument, each wrong in a way of its own."""
    return {
        judge.RAW: lambda noise: len(noise),
        judge.UNNAMED: _unnamed,
        judge.SILENT: lambda noise: float("nan") if noise == 7.0 else 1.0,
        judge.ACCEPTED: lambda noise: 1.0,
        judge.CLEAR: _clear,
        judge.SANE: lambda noise: 1.0,
    }[value]


def _unnamed(noise):
    import ntkinfo

    ntkinfo.mixture.select_method("nonsense", 1, None)


def _clear(noise):
    raise ValueError("`noise` must be positive.")


@pytest.mark.parametrize(
    ("kind", "refused"),
    [(judge.RAW, True), (judge.SILENT, False), (judge.ACCEPTED, True), (judge.CLEAR, True), (judge.SANE, False)],
)
def test_the_judge_tells_faults_from_errors_and_results(kind, refused):
    call = Call(_wrong(kind), {"noise": 1.0})
    assert judge.run(call, "noise", hostile.Value("seven", 7.0, refused)).kind == kind


def _square(noise):
    return {"square": np.sum(np.asarray(noise) ** 2)}


def test_the_judge_compares_other_spellings_of_a_value_and_traces():
    call = Call(_square, {"noise": np.array([1.0, 2.0])})
    assert judge.run(call, "noise", hostile.Value("list", [1.0, 2.0], False, True)).kind == judge.SANE
    assert judge.run(call, "noise", hostile.Value("list", [1.0, 3.0], False, True)) == (judge.OTHER, "['square']")
    # What may be another value is not compared, and neither what was left out.
    assert judge.run(call, "noise", hostile.Value("list", [1.0, 3.0], False)).kind == judge.SANE
    traced = hostile.Value("traced", hostile.Traced(np.ones(2)), False)
    assert judge.run(call, "noise", traced).kind == judge.RAW
    assert judge.run(Call(lambda noise: noise * 2, {"noise": 1.0}), "noise", traced).kind == judge.SANE


def test_none_is_no_hostile_value_where_the_signature_takes_it():
    def function(noise: float | None, width: int = 3):
        return noise

    kinds = {"noise": "positive", "width": "size"}
    refused = {
        name: value.refused for name, value in judge.cases(Call(function, {"noise": 1.0}), kinds) if value.tag == "None"
    }
    assert refused == {"noise": False, "width": True}


def test_the_judge_knows_errors_of_ours_that_name_nothing_and_errors_of_python_in_our_files():
    assert judge.run(Call(_unnamed, {"noise": 1.0}), "noise", hostile.Value("x", 7.0, True)).kind == judge.UNNAMED
    # No `raise` of ours: Python raises in our file, for an argument that it cannot take.
    from ntkinfo.ensemble import means

    call = Call(lambda functions: means(functions, None, None), {"functions": None})
    assert judge.run(call, "functions", hostile.Value("x", None, True)).kind == judge.RAW


def test_documented_infinities_are_no_faults():
    call = Call(lambda x: {"a": float("inf")}, {"x": 1.0}, infinite=True)
    assert judge.run(call, "x", hostile.Value("x", 2.0, False)).kind == judge.SANE
    call = Call(lambda x: {"a": float("inf") if x == 2.0 else 1.0}, {"x": 1.0})
    assert judge.run(call, "x", hostile.Value("x", 2.0, False)) == Outcome(judge.SILENT, "['a']")
