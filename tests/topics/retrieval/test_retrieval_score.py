"""Stage score gives the rows that stage evaluate gives for the last checkpoint, without the other models."""

import json

import pytest

from conan_lib.topics.retrieval.measure import evaluate, score_checkpoint


@pytest.fixture(scope="module")
def stage(ready):
    return score_checkpoint(ready("score"))


def test_the_rows_are_those_of_evaluate(stage, ready):
    whole = evaluate(ready("evaluate"))
    own = [row for row in json.loads((whole.path / "scores.json").read_text()) if row["model"] == "supervised"]
    assert json.loads((stage.path / "scores.json").read_text()) == own and len(own) > 10


def test_only_the_last_checkpoint_is_looked_at(stage):
    assert set(stage.inputs) == {"corpus", "heldout", "supervised"} and stage.results["scores"]["bible-clr"] is not None
    assert [path.name for path in (stage.path / "items").iterdir()] == ["supervised"]


def test_every_query_has_a_value(stage):
    items = json.loads((stage.path / "items/supervised/bible-clr/de-en.json").read_text())
    assert len(items["ids"]) == len(items["clusters"]) == len(items["recall_at_10"]) == 24
