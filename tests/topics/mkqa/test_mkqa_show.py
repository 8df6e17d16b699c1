"""The two protocols of MKQA, and the paper's protocol on other data, never share a column; a missing cell says why."""

import pytest

from conan_lib.findings.blocks import Table
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.stages import open_stage
from conan_lib.topics.mkqa import show as mkqa
from tests.handmade import rewrite

LANGUAGES = [row[0] for row in published()["mkqa_languages"].rows]
MATCHED, JUDGED = 61.7, 23.9
"""Percent by the paper's protocol, and by mteb's judgements."""
METRICS = ("answer_recall_at_20", "answer_recall_at_100", "answer_ndcg_at_10")


def tables(file: str) -> dict[str, Table]:
    return {block.id: block for block in mkqa.show(Run.open(file)).values() if isinstance(block, Table)}


@pytest.fixture
def hub_run(fake_run):
    """A run with the paper's own data and mteb's MKQARetrieval, each with a number of its own."""
    file = fake_run("corpus", "sets", "heldout", "tokenizer", "pretrain", "sft", "teacher", "weak", "mine", "supervised", "evaluate")
    with open(file, "a", encoding="utf-8") as params:
        params.write("\nmkqa: {source: hub}\n")
    languages = [*LANGUAGES, "mean"]
    stage = open_stage("mkqa", file)
    with stage.work() as work:
        row = {"value": MATCHED / 100, "low": 0.6, "high": 0.7, "n": 6619, "chance": None}
        rewrite(stage, "scores.json", [row | {"language": lang, "metric": metric} for lang in languages for metric in METRICS])
        work.commit({"source": "hub", "benchmark": "MKQA", "passages": 2681468, "questions_scored": 165475, "max_length": 512})
    row = {"model": "supervised", "task": "MKQARetrieval", "type": "retrieval", "metric": "ndcg_at_10", "value": JUDGED / 100, "n": None}
    rewrite(open_stage("evaluate", file), "scores.json", [row | {"subset": lang, "low": None, "high": None} for lang in LANGUAGES])
    return file


def test_the_protocols_never_share_a_column(hub_run):
    found = tables(hub_run)
    assert set(found) == {"paper_mkqa", "paper_mkqa_languages"}
    holds = {
        (id, column): {value for value in table.frame[column] if value in (MATCHED, JUDGED)}
        for id, table in found.items()
        for column in table.frame
    }
    assert all(len(values) < 2 for values in holds.values())
    by_value = {value: [column for (id, column), values in holds.items() if values == {value}] for value in (MATCHED, JUDGED)}
    assert by_value[JUDGED] == ["mteb's MKQARetrieval, its own judgements: nDCG@10, ours"]
    assert by_value[MATCHED] == ["R@20", "R@100", "nDCG@10", "MKQA over NQ, answer match: R@20, ours"]
    assert JUDGED not in found["paper_mkqa"].frame.to_numpy()
    table = found["paper_mkqa_languages"].frame.set_index("language")
    assert len(table) == 25 and table.loc["th"].iloc[0] == 75.9 and table.loc["th"].iloc[1] == 70.8
    assert {column.split(":")[0] for column in table} == {mkqa.PAPER, mkqa.MTEB, "bible-clr, another task"}


def test_the_embedded_benchmark_has_a_table_of_its_own_and_the_papers_cells_say_why_they_are_empty(report):
    found = tables("params/tiny.yaml")
    assert (
        found["paper_mkqa"].frame["model"].iloc[-1] == "Conan-Embedding-v2"
        and "Ours: not run: needs the hub" in found["paper_mkqa"].caption
    )
    languages = found["paper_mkqa_languages"]
    for column, verdict in ((f"{mkqa.PAPER}: R@20, ours", mkqa.NO_HUB), (f"{mkqa.MTEB}: nDCG@10, ours", mkqa.NO_HUB)):
        assert languages.frame[column].isna().all() and languages.missing[column] == verdict
    own = found["mkqa_other_data"]
    assert list(own.frame["language"]) == ["en"] and own.frame.loc[0, ["R@20", "R@20 low", "R@20 high"]].tolist() == pytest.approx(
        [0.131, 0.081, 0.181]
    )
    assert own.frame["R@20, random ranking"][0] == 0.0655 and own.sources == (f"mkqa/{open_stage('mkqa', 'params/tiny.yaml').key}",)
    assert "Not to be compared" in own.caption and "Seen in training: 0 questions, 0 leads" in own.caption
    values = {0.131, 0.412, 0.077, 13.1, 41.2, 7.7}
    assert not values & {value for id in ("paper_mkqa", "paper_mkqa_languages") for value in found[id].frame.to_numpy().ravel()}
    page = (report / "report.md").read_text()
    assert "made-up trivia" in page and "never share" not in page and "MKQA has two protocols" in page


def test_before_the_stage_has_run_the_block_says_so(fake_run):
    missing = mkqa.show(Run.open(fake_run("corpus")))["other"]
    assert missing.kind == "missing" and "stage mkqa has not been computed yet" in missing.why
