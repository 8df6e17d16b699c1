"""Held-out queries: whole groups, the same in every set and order; nothing that trains shares an n-gram with what is asked."""

import json

from conan_lib.data.clean import Funnel
from conan_lib.data.declared.split import asked, decontaminated, divided, held_out
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sampling import by_share
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet

PARAMS = DataParams(languages=("en", "de"), heldout_share=0.2, heldout_documents=1000)


def declared(path, records, **given):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "en", **given})


def many(count):
    return [{"id": n, "query": f"question number {n}", "pos": [f"answer {n}", f"reply {n}"]} for n in range(count)]


def anchors(found):
    return {split: [row["anchor"] for row in rows] for split, rows in found.items()}


def test_queries_are_held_out_whole_by_share_and_whatever_their_order(tmp_path):
    found = divided(declared(tmp_path / "p.jsonl", many(500)), PARAMS, Funnel(), 10_000)
    own = anchors(found)
    assert sum(map(len, own.values())) == 1000 and not set(own["train"]) & (set(own["test"]) | set(own["dev"]))
    assert 140 < len(own["test"]) < 260 and 140 < len(own["dev"]) < 260
    turned = divided(declared(tmp_path / "r.jsonl", many(500)[::-1]), PARAMS, Funnel(), 10_000)
    assert {split: set(rows) for split, rows in anchors(turned).items()} == {split: set(rows) for split, rows in own.items()}


def test_a_query_and_its_translation_fall_on_one_side(tmp_path):
    clr = [
        {"query": f"Frage {n}", "query_lang": "de", "positive": f"answer {n}", "source_query": f"question number {n}"} for n in range(200)
    ]
    pairs = anchors(divided(declared(tmp_path / "p.jsonl", many(200)), PARAMS, Funnel(), 10_000))
    translated = anchors(divided(declared(tmp_path / "c.jsonl", clr, task="clr", lang=None), PARAMS, Funnel(), 10_000))
    for split in ("train", "dev", "test"):
        assert {name.split()[-1] for name in translated[split]} == {name.split()[-1] for name in pairs[split]}


def test_a_held_out_file_takes_the_place_of_a_share(tmp_path):
    declared(tmp_path / "h.jsonl", many(40))
    one = declared(tmp_path / "p.jsonl", [{"query": "another question", "pos": ["yes"]}], heldout=str(tmp_path / "h.jsonl"))
    own = anchors(divided(one, PARAMS, Funnel(), 100))
    assert own["train"] == ["another question"] and len(own["dev"]) + len(own["test"]) == 80 and own["dev"] and own["test"]


def test_weak_pairs_and_instructions_are_held_out_only_when_asked(tmp_path):
    assert not divided(declared(tmp_path / "p.jsonl", many(50), task="weak"), PARAMS, Funnel(), 100)["test"]
    assert divided(declared(tmp_path / "p.jsonl", many(50), task="weak", heldout=0.2), PARAMS, Funnel(), 100)["test"]


def test_training_rows_are_a_draw_that_depends_on_ids_alone(tmp_path):
    params = PARAMS.model_copy(update={"heldout_share": 0.001})
    one = divided(declared(tmp_path / "p.jsonl", many(100)), params, Funnel(), 20)["train"]
    other = divided(declared(tmp_path / "p.jsonl", many(100)[::-1]), params, Funnel(), 20)["train"]
    assert len(one) == 20 and {row["id"] for row in one} == {row["id"] for row in other}
    assert [int(row["anchor"].split()[-1]) for row in one] == sorted(int(row["anchor"].split()[-1]) for row in one)


def test_what_is_asked_is_in_no_training_row_and_passages_may_be(tmp_path):
    question = "how many of the old stone bridges across the river were built before the war"
    test = [{"anchor": question, "positive": "seven", "positive_id": "7", "lang": "en"}]
    rows = [
        {"anchor": "bridges", "positive": f"Somebody asked {question}, I think.", "lang": "en", "source": "a"},
        {"anchor": question.upper(), "positive": "nine", "lang": "en", "source": "a"},
        {"anchor": "how many bridges", "positive": "seven", "lang": "en", "source": "a"},
        {"text": f"{question}.", "label": "rivers", "lang": "en", "source": "a"},
    ]
    index, funnel = EvaluationIndex(13), Funnel()
    held_out(test, index)
    assert decontaminated(rows, index, funnel) == rows[2:3]
    assert funnel.rows()[0]["documents"] == 1
    assert [text for text, _ in asked(test[0])] == [question]
    assert len(list(asked({"anchor": "a", "positive": "b", "score": 1.0, "lang": "en"}))) == 2


def test_shares_are_kept_and_a_small_set_gives_what_it_has():
    groups = {"a": list("a" * 100), "b": list("b" * 100), "c": list("c" * 3)}
    found = by_share(groups, {"a": 2, "b": 1, "c": 1}, 33, 0)
    assert [found.count(name) for name in "abc"] == [20, 10, 3]
    assert len(by_share(groups, {"a": 2, "b": 1, "c": 1}, 1000, 0)) == 203
    assert by_share({"a": [], "b": [1]}, {"a": 1, "b": 1}, 5, 0) == [1]
