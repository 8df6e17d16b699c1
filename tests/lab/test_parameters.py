"""Parameters as a table, and what another value would compute again."""

import pytest

from conan_lib.errors import UserError
from conan_lib.lab import changes, parameters
from conan_lib.params import load_params
from conan_lib.stages import open_stage
from conan_lib.table import RUN

TINY = "params/tiny.yaml"


def rows(styler) -> dict[str, dict]:
    return {row[styler.data.columns[0]]: row for row in styler.data.to_dict("records")}


@pytest.mark.parametrize("name", RUN)
def test_every_parameter_of_a_stage_has_its_row_and_none_says_nan(name):
    stage = open_stage(name, TINY)
    shown = parameters(stage)
    for section in stage.sections:
        found = getattr(stage, section)
        for field in type(found).model_fields if found is not None else ():
            assert any(row == f"{section}.{field}" or row.startswith(f"{section}.{field}.") for row in rows(shown))
    html = shown.to_html()
    assert not [raw for raw in (">nan<", ">None<", ">True<", "{&#x27;", "{'", ">()<") if raw in html]


def test_a_row_says_unit_meaning_and_place_in_the_paper():
    row = rows(parameters(open_stage("weak", TINY)))["weak.batch_size"]
    assert row["unit"] == "rows" and row["meaning"].startswith("Sequences") and row["in the paper"].startswith("Paper: 256")


def test_another_value_computes_again_what_depends_on_it_and_nothing_else():
    kept = {name: row["with the change"] for name, row in rows(changes(TINY, weak__max_steps=7)).items()}
    assert {name for name, verdict in kept.items() if verdict == "kept"} == {
        "corpus", "sets", "heldout", "tokenizer", "pretrain", "sft", "teacher", "peers",
    }  # fmt: skip
    assert {row["with the change"] for row in rows(changes(TINY)).values()} == {"kept"}


@pytest.mark.parametrize("values, said", [
    ({"weak__max_stepz": 7}, "weak.max_stepz: unknown key, did you mean max_steps"),
    ({"weak__max_steps": 0}, "weak.max_steps: "),
    ({"weaker__max_steps": 7}, "weaker: params/tiny.yaml has no such section"),
])  # fmt: skip
def test_a_mistake_is_one_line(values, said):
    with pytest.raises(UserError, match=said):
        changes(TINY, **values)


def test_the_first_notebooks_change_is_one_that_the_tier_has():
    assert load_params(TINY).weak.max_steps != 60
