"""Pins: a run's other seeds are found by key; three of them allow `reproduced`, for the claims that one run can speak to; the interval over
seeds covers what it says, and one seed keeps its own; the table has each seed's number."""

import shutil
from statistics import fmean

import numpy as np
import pytest

from conan_lib.findings.blocks import Missing
from conan_lib.findings.run import Run
from conan_lib.params import load_params, with_seed
from conan_lib.params.load import SEEDED
from conan_lib.topics import judge
from conan_lib.topics.retrieval import show as retrieval
from tests.handmade import LANGUAGES, RECALL, hits, rewrite


@pytest.fixture
def three(fake_run):
    """A run that has finished with three seeds; each seed's R@10 and gains by CLR are a little apart."""
    run = Run.open(fake_run())
    for number, seed in enumerate((2, 5), 1):
        fake_run(seed=seed)
        other = Run.of(with_seed(run.params, seed), run.params_file)
        mixing = other.file("mix", "mixing.json")
        for paired in mixing["with CLR - without CLR"].values():
            paired["difference"] += 0.01 * number
        rewrite(other.stages["mix"], "mixing.json", mixing)
        scores = other.file("evaluate", "scores.json")
        rewrite(other.stages["evaluate"], "scores.json", [row | {"value": row["value"] + 0.01 * number} for row in scores])
    return Run.open(run.params_file)


def test_only_what_trains_gets_another_seed(report):
    params = load_params("params/tiny.yaml")
    other = with_seed(params, 3)
    changed = {name for name in type(params).model_fields if getattr(other, name) != getattr(params, name)}
    assert changed == set(SEEDED["all"]) and with_seed(other, 0) == params
    keys = [{name: stage.key for name, stage in Run.of(tree, "").stages.items()} for tree in (params, other)]
    same = {name for name in keys[0] if keys[0][name] == keys[1][name]}
    assert same == {"corpus", "sets", "heldout", "tokenizer", "teacher", "peers"}


def test_a_run_finds_its_other_seeds(three):
    assert [run.params.weak.seed for run in three.with_seeds("mix")] == [0, 2, 5]
    middle = Run.of(with_seed(three.params, 2), "")
    assert [run.params.weak.seed for run in middle.with_seeds("mix")] == [2, 0, 5]
    shutil.rmtree(middle.stages["mix"].path)
    assert [run.params.weak.seed for run in three.with_seeds("mix")] == [0, 5]


def test_contrastive_seeds_share_the_language_model(fake_run):
    """Where more runs differ in weak and supervised alone, these are the seeds, and the report says so."""
    run = Run.open(fake_run())
    for seed in (1, 2):
        fake_run(seed=seed, where="contrastive")
    runs = Run.open(run.params_file).with_seeds("evaluate")
    assert [one.params.supervised.seed for one in runs] == [0, 1, 2] and len({one.key("sft") for one in runs}) == 1
    assert retrieval.show(Run.open(run.params_file))["reseeded"] == ["weak", "supervised"]


def test_three_seeds_allow_reproduced(three):
    found = {claim.id: finding for claim, finding in judge(three)}
    assert {found[id].verdict for id in ("C2", "C3", "C10", "C11")} == {"reproduced"}
    assert all(found[id].seeds == 3 and "3 seeds" in found[id].text for id in ("C2", "C3", "C10", "C11"))
    assert len(found["C2"].keys) == 3 and found["C2"].effect == pytest.approx(0.41)
    low, high = found["C2"].interval
    item, seed = 0.03 + 0.01, 4.303 * 0.01 / 3**0.5  # the means of value - low (which moved with the value) and of high - value
    assert (0.41 - low, high - 0.41) == pytest.approx((np.hypot(item, seed), np.hypot(0.03 - 0.01, seed)), rel=1e-3)


def test_languages_that_ask_about_the_same_verses_are_paired(three):
    """Where all languages find the same verses, their difference has no interval, however wide each one's is."""
    for run in three.with_seeds("evaluate"):
        for language in LANGUAGES:
            hits(run.stages["evaluate"], language, 0.5)
    finding = next(finding for claim, finding in judge(three) if claim.id == "C11")
    assert (finding.effect, finding.interval) == (0, (0, 0)) and finding.verdict == "undecided at this scale"


def test_against_the_claim_with_three_seeds_is_contradicted(three):
    for run in three.with_seeds("mix"):
        mixing = run.file("mix", "mixing.json")
        mixing["with CLR - without CLR"]["mean_r1"] = {"difference": -0.2, "low": -0.25, "high": -0.15}
        rewrite(run.stages["mix"], "mixing.json", mixing)
    finding = next(finding for claim, finding in judge(three) if claim.id == "C3")
    assert finding.verdict == "contradicted" and finding.interval == pytest.approx((-0.25, -0.15))


def test_the_table_has_each_seed(three, fake_run):
    table = retrieval.show(three)["seeds"]
    assert len(table.sources) == 3
    rows = table.frame.set_index(["model", "score"]).loc["supervised"]
    each, across = ["seed 0", "seed 2", "seed 5"], rows.loc["R@10 across languages"]
    assert across[each].tolist() == pytest.approx([across["seed 0"], across["seed 0"] + 0.01, across["seed 0"] + 0.02])
    assert across["mean"] == pytest.approx(fmean(across[each])) and across["mean low"] < across["mean"] < across["mean high"]
    white = rows.loc["R@10 across languages, whitened", each].tolist()
    assert white == pytest.approx([0.9 * across["seed 0"]] * 3)  # the fixture moves what is as it is
    assert rows.loc["nDCG@10 within a language", "mean"] == pytest.approx(0.3 + RECALL["supervised"] / 2 + 0.01)


def test_one_seed_says_what_would_run_more(fake_run):
    block = retrieval.show(Run.open(fake_run()))["seeds"]
    assert isinstance(block, Missing) and "seeds" in block.why
