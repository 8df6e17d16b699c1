"""Stages score and score_weak give the rows that stage evaluate gives for their checkpoint, without the other models."""

import json

import pytest

from conan_lib.table import SCORED
from conan_lib.topics.retrieval.measure import evaluate, score_checkpoint


@pytest.fixture(scope="module", params=SCORED)
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
