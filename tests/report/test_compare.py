"""Pins: a comparison of two runs shows both sides' verdicts, scores and different parameters; a difference is paired, and equals the mean
over the shared queries, only where both answered the same set; what is unfinished is said, and a run that has nothing is one clear line;
the same artefacts give the same bytes."""

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest

from conan_lib.errors import UserError
from conan_lib.report.compare import compare
from conan_lib.stages import Stage, open_stage
from conan_lib.table import RUN
from tests.handmade import WRITERS, finish, rewrite
from tests.report.test_report_build import Page, snapshot

OTHER = "params/other.yaml"
VALUES = {"params/tiny.yaml": 0.25, OTHER: 0.5}


def items(file: str) -> np.ndarray:
    return np.random.default_rng(0).random(60) * VALUES[file]


@pytest.fixture
def two(fake_run, tmp_path):
    """Two finished runs on the same data that differ in supervised.seed; single values of one task by one model."""
    (tmp_path / OTHER).write_text("base: tiny.yaml\ntier: other\nsupervised: {seed: 1}\n")
    for file in VALUES:
        finish(*(name for name in RUN if not open_stage(name, file).finished), file=file)
        one = {"ids": list(range(60)), "clusters": None, "ndcg_at_10": items(file).tolist()}
        path = open_stage("evaluate", file).path / "items" / "supervised" / "wiki-titles" / "default.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(one))
    return tuple(VALUES)


def rows(folder, name="scores") -> list[dict]:
    return list(csv.DictReader((folder / "tables" / f"{name}.csv").open()))


def test_a_difference_is_the_mean_over_the_same_queries(two, tmp_path):
    folder = compare(*two)
    assert folder == tmp_path / "runs/compare/tiny-other"
    by_cell = {(row["model"], row["task"]): row for row in rows(folder)}
    paired = by_cell["supervised", "wiki-titles"]
    low, value, high = (float(paired[f"other minus tiny{end}"]) for end in (" low", "", " high"))
    assert value == pytest.approx(np.mean(items(OTHER) - items("params/tiny.yaml"))) and 0 < low < value < high
    assert (paired["queries"], paired["pairing"]) == ("60", "all queries")
    unpaired = by_cell["weak", "wiki-titles"]
    assert (unpaired["queries"], unpaired["other minus tiny low"]) == ("", "")
    assert unpaired["pairing"] == "no values of single queries in both"
    assert float(by_cell["bm25", "bible-clr"]["other minus tiny"]) == 0


@pytest.mark.parametrize(
    ("texts", "pairing"),
    [(("one", "one"), {"no values of single queries in both"}), (("one", "two"), {"the runs' sets differ"})],
)
def test_only_equal_sets_are_paired_and_their_files_may_be_elsewhere(two, tmp_path, monkeypatch, texts, pairing):
    (tmp_path / OTHER).write_text("base: tiny.yaml\ntier: other\nheldout: {texts: 100}\n")
    for file, text in zip(("params/tiny.yaml", OTHER), texts, strict=True):
        shutil.rmtree(open_stage("heldout", file).path, ignore_errors=True)
        monkeypatch.setitem(WRITERS, "heldout", partial(write_set, text=text))
        finish("heldout", file=file)
    finish(*(name for name in RUN if not open_stage(name, OTHER).finished), file=OTHER)
    for file in ("params/tiny.yaml", OTHER):
        shutil.rmtree(open_stage("heldout", file).path / "eval")  # a parcel of results brings the manifest alone
    found = {row["pairing"] for row in rows(compare(*two)) if row["task"] == "wiki-titles" and row["model"] in ("supervised", "weak")}
    assert found == pairing


def write_set(stage: Stage, text: str) -> dict:
    folder = stage.path / "eval/test/wiki-titles"
    folder.mkdir(parents=True)
    (folder / "queries.parquet").write_text(text)
    return {"rows": {}}


def test_verdicts_and_different_parameters(two):
    folder = compare(*two)
    assert [(row["parameter"], row["tiny"], row["other"]) for row in rows(folder, "parameters")] == [("supervised.seed", "0", "1")]
    claims = rows(folder, "claims")
    assert claims[11]["tiny: verdict"] == claims[11]["other: verdict"] == "reproduced"
    page, text = Page((folder / "index.html").read_text()), (folder / "report.md").read_text()
    assert all(reference[1:] in page.ids if reference[0] == "#" else reference.startswith("data:") or (folder / reference).is_file()
               for reference in page.references)  # fmt: skip
    assert "supervised.seed" in text and "+0.705" not in text and not [c for c in snapshot(folder).values() if b"/tmp/" in c]


def test_same_artefacts_same_bytes(two):
    before = snapshot(compare(*two))
    assert snapshot(compare(*two)) == before


def test_an_unfinished_run_says_so(fake_run, tmp_path):
    (tmp_path / OTHER).write_text("base: tiny.yaml\ntier: other\npretrain: {seed: 5}\n")
    fake_run("corpus", "sets", "heldout", "tokenizer", "pretrain")
    text = (compare("params/tiny.yaml", OTHER) / "report.md").read_text()
    assert "other: pretrain, sft" in text and "Scores of both runs" in text


def test_a_run_without_results_or_compared_with_itself_is_one_line(fake_run, tmp_path):
    (tmp_path / OTHER).write_text("base: tiny.yaml\ntier: other\ndata: {seed: 1}\n")
    (tmp_path / "params/twin.yaml").write_text("base: tiny.yaml\ntier: twin\n")
    fake_run("corpus")
    for other, why in ((OTHER, "no stage of other has finished"), ("params/tiny.yaml", "twice"), ("params/twin.yaml", "are the same run")):
        with pytest.raises(UserError, match=why):
            compare("params/tiny.yaml", other)
    assert not (tmp_path / "runs").exists()


def test_rewritten_scores_change_the_table(two):
    stage = open_stage("evaluate", OTHER)
    scores = json.loads((stage.path / "scores.json").read_text())
    rewrite(stage, "scores.json", [row for row in scores if row["task"] != "lee50"])
    found = [row for row in rows(compare(*two)) if row["task"] == "lee50"]
    assert any(row["other"] == "" and row["tiny"] and row["pairing"] == "not measured in both" for row in found)
