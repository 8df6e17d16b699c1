"""Stages that score one checkpoint give the rows that stage evaluate gives for it, without the other models. Plain training is compared
with ours query by query, and a report shows it where somebody asked for it."""

import json

import pytest

from conan_lib.evaluation.scores import read_items
from conan_lib.findings.run import Run
from conan_lib.table import SCORED
from conan_lib.topics.retrieval import show
from conan_lib.topics.retrieval.measure import evaluate, score_checkpoint


@pytest.fixture(scope="module", params=[name for name, checkpoint in SCORED.items() if checkpoint != "plain"])
def stage(ready, request):
    return score_checkpoint(ready(request.param))


def test_the_rows_are_those_of_evaluate(stage, ready):
    whole = evaluate(ready("evaluate"))
    own = [row for row in json.loads((whole.path / "scores.json").read_text()) if row["model"] == SCORED[stage.name]]
    assert json.loads((stage.path / "scores.json").read_text()) == own and len(own) > 10


def test_no_other_checkpoint_is_looked_at(stage):
    assert set(stage.inputs) == {"corpus", "heldout", SCORED[stage.name]} and stage.results["scores"]["bible-clr"] is not None
    assert [path.name for path in (stage.path / "items").iterdir()] == [SCORED[stage.name]]


def test_every_query_has_a_value(stage):
    items = json.loads((stage.path / "items" / SCORED[stage.name] / "bible-clr/de-en.json").read_text())
    assert len(items["ids"]) == len(items["clusters"]) == len(items["recall_at_10"]) == 24


@pytest.fixture(scope="module")
def plain(ready):
    return evaluate(ready("evaluate")), score_checkpoint(ready("score_plain"))


def test_plain_training_is_compared_query_by_query(plain):
    ours, theirs = plain
    table = show.against_table(ours, theirs)
    assert table["task"].tolist() == ["bible-clr", "wiki-retrieval"]
    for row in table.itertuples():
        before, after = (
            {(subset, item): value for subset, one in read_items(folder, model, row.task).items()
             for item, value in zip(one["ids"], one[row.metric], strict=True)}
            for folder, model in ((theirs.path, "plain"), (ours.path, "supervised"))
        )  # fmt: skip
        assert row.queries == len(before) and before.keys() == after.keys()
        assert row.difference == pytest.approx(sum(after[key] - before[key] for key in before) / len(before))


def test_a_report_shows_plain_training_where_it_was_asked_for(plain):
    ours, theirs = plain
    run = Run.of(ours.params, "small.yaml")
    assert {"supervised", "plain"} <= {row["model"] for row in run.scores}
    (table,) = show._plain(run)
    assert table.frame.equals(show.against_table(ours, theirs)) and run.key("score_plain") in table.sources
    assert "1 times our rates" in table.caption and "causal" in table.caption
    other = Run.of(ours.params.model_copy(update={"plain": theirs.params.plain.model_copy(update={"rate": 2.0})}), "small.yaml")
    assert show._plain(other) == [] and "plain" not in {row["model"] for row in other.scores}
