"""What feeds which language and task is known before anything runs, and verses feed no task by silence."""

import pytest
from pydantic import ValidationError
from smoke_data import ROOT

from conan_lib.data.catalogue import unfed
from conan_lib.params import load_params
from conan_lib.params.data import DataParams
from conan_lib.params.sets import FIELDS, DeclaredSet

PAPER = load_params(ROOT / "params" / "paper.yaml")


def test_the_papers_languages_all_have_text_and_weak_pairs():
    found = {lang: {row.task for row in PAPER.data.declared if lang in row.languages} for lang in PAPER.data.languages}
    assert len(found) == 26 and all({"text", "weak"} <= tasks for tasks in found.values())


def test_the_papers_plan_names_the_languages_without_a_set():
    found = unfed(PAPER.data, ("text", "weak", *PAPER.supervised.mix))
    assert "clr" not in found
    alone = PAPER.data.model_copy(update={"sets": tuple(row for row in PAPER.data.sets if row.source != "opus-100")})
    assert unfed(alone, ("clr",)) == {"clr": ["sv", "th", "ms", "nl", "km", "fi", "he", "hu", "no"]}
    assert "en" not in found["sts"] and "zh" not in found["sts"] and not {"text", "weak"} & set(found)


def test_the_papers_similarity_is_not_scripture():
    assert [task for task in FIELDS if PAPER.data.scripture_trains(task)] == ["clr"]


@pytest.mark.parametrize(
    ("sets", "tasks"),
    [
        (None, {"text", "sft", "weak", "clr", "sts"}),
        ([{"from": "embedded"}], {"text", "sft", "weak", "clr", "sts"}),
        ([{"from": "embedded/bible"}, {"from": "embedded/wiki"}], {"text", "sft", "weak", "clr", "sts"}),
        ([{"from": "embedded/bible", "task": "clr"}, {"from": "embedded/wiki"}], {"clr"}),
        ([{"from": "embedded/wiki"}], set()),
    ],
)
def test_verses_train_every_task_or_the_one_that_their_row_names(sets, tasks):
    params = DataParams.model_validate({"sets": sets})
    assert {task for task in ("text", "sft", "weak", "clr", "sts") if params.scripture_trains(task)} == tasks


@pytest.mark.parametrize(("name", "task"), [("embedded/bible", "retrieval"), ("embedded/wiki", "weak"), ("embedded", "clr")])
def test_no_other_packaged_text_takes_a_task(name, task):
    with pytest.raises(ValidationError, match=f"task: from: {name} takes no such key"):
        DeclaredSet.model_validate({"from": name, "task": task})
