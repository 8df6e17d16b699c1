"""Held-out queries: whole groups, the same in every set and order; nothing that trains shares an n-gram with what is asked."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from conan_lib.data.clean import Funnel
from conan_lib.data.declared.gather import SPLITS, Declared, asked, decontaminated, divided
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sampling import by_share, sample, stream_sample
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet

PARAMS = DataParams(languages=("en", "de"), heldout_share=0.2)


def declared(path, records, **given):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "en", **given})


def many(count):
    return [{"id": n, "query": f"question number {n}", "pos": [f"answer {n}", f"reply {n}"]} for n in range(count)]


def anchors(rows):
    found = {"train": [], "dev": [], "test": []}
    for row in rows:
        found[row["split"]].append(row["anchor"])
    return found


def gathered(params, folder):
    return Declared(params, folder, Funnel(), Funnel())


def test_queries_are_held_out_whole_by_share_and_whatever_their_order(tmp_path):
    own = anchors(divided(declared(tmp_path / "p.jsonl", many(500)), PARAMS, Funnel()))
    assert sum(map(len, own.values())) == 1000 and not set(own["train"]) & (set(own["test"]) | set(own["dev"]))
    assert 140 < len(own["test"]) < 260 and 140 < len(own["dev"]) < 260
    turned = anchors(divided(declared(tmp_path / "r.jsonl", many(500)[::-1]), PARAMS, Funnel()))
    assert {split: set(rows) for split, rows in turned.items()} == {split: set(rows) for split, rows in own.items()}


def test_a_query_and_its_translation_fall_on_one_side(tmp_path):
    clr = [
        {"query": f"Frage {n}", "query_lang": "de", "positive": f"answer {n}", "source_query": f"question number {n}"} for n in range(200)
    ]
    pairs = anchors(divided(declared(tmp_path / "p.jsonl", many(200)), PARAMS, Funnel()))
    translated = anchors(divided(declared(tmp_path / "c.jsonl", clr, task="clr", lang=None), PARAMS, Funnel()))
    for split in ("train", "dev", "test"):
        assert {name.split()[-1] for name in translated[split]} == {name.split()[-1] for name in pairs[split]}


def test_a_held_out_file_takes_the_place_of_a_share(tmp_path):
    declared(tmp_path / "h.jsonl", many(40))
    one = declared(tmp_path / "p.jsonl", [{"query": "another question", "pos": ["yes"]}], heldout=str(tmp_path / "h.jsonl"))
    own = anchors(divided(one, PARAMS, Funnel()))
    assert own["train"] == ["another question"] and len(own["dev"]) + len(own["test"]) == 80 and own["dev"] and own["test"]


def test_every_negative_of_a_file_of_triplets_stays_with_its_pair(tmp_path):
    """One negative in each record. A record that brings nothing new is a duplicate; where no negatives are taken the pair comes once."""
    texts = ["no", "never", "perhaps"]
    triplets = [{"anchor": "is it", "positive": "yes", "negative": text} for text in [*texts, "NO"]]
    triplets += [{"anchor": "is it", "positive": "yes"}, {"anchor": "was it", "positive": "yes", "negative": "no"}]
    for task, wanted in (("retrieval", texts), ("clr", texts), ("weak", texts[:1])):
        one = declared(tmp_path / "t.jsonl", triplets, task=task, heldout=0.0)
        rows = [row for row in divided(one, PARAMS, Funnel()) if row["anchor"] == "is it"]
        assert [row["negatives"] for row in rows] == [[text] for text in wanted]
        assert len({row["id"] for row in rows}) == len({row["group"] for row in rows}) * len(wanted) == len(wanted)


def test_weak_pairs_and_instructions_are_held_out_only_when_asked(tmp_path):
    assert not anchors(divided(declared(tmp_path / "p.jsonl", many(50), task="weak"), PARAMS, Funnel()))["test"]
    assert anchors(divided(declared(tmp_path / "p.jsonl", many(50), task="weak", heldout=0.2), PARAMS, Funnel()))["test"]


def test_language_model_text_becomes_documents_and_other_tasks_rows(tmp_path):
    (tmp_path / "book.txt").write_text("\n\n".join(f"Paragraph {n}." for n in range(50)))
    text = DeclaredSet.model_validate({"from": str(tmp_path / "book.txt"), "task": "text", "lang": "en", "kind": "news"})
    sets = (text, declared(tmp_path / "p.jsonl", many(50)))
    found = gathered(PARAMS.model_copy(update={"sets": sets}), tmp_path)
    assert sum(len(list(found.documents(split))) for split in SPLITS) == 50
    assert {d.kind for d in found.documents("train")} == {"news"}
    rows = list(found.rows(*SPLITS))
    assert {row["task"] for row in rows} == {"retrieval"} and {row["split"] for row in rows} == set(SPLITS)
    assert [(row["name"], row["documents"]) for row in found.records] == [("book", 50), ("p", 100)]


def test_what_is_asked_is_in_no_training_row_and_passages_may_be():
    question = "how many of the old stone bridges across the river were built before the war"
    test = {"task": "retrieval", "split": "test", "anchor": question, "positive": "seven", "lang": "en"}
    rows = [
        {"anchor": "bridges", "positive": f"Somebody asked {question}, I think.", "lang": "en", "split": "train"},
        {"anchor": question.upper(), "positive": "nine", "lang": "en", "split": "train"},
        {"anchor": "how many bridges", "positive": "seven", "lang": "en", "split": "train"},
        {"text": f"{question}.", "label": "rivers", "lang": "en", "split": "train"},
    ]
    index = EvaluationIndex(13)
    index.add(asked(test))
    assert list(decontaminated([*rows, test], index)) == [rows[2], test]
    assert [text for text, _ in asked(test)] == [question]
    assert len(asked({"task": "sts", "anchor": "a", "positive": "b", "lang": "en"})) == 2


def test_of_what_is_held_out_no_more_is_kept_than_evaluation_sets_draw_from(tmp_path):
    """The same queries in every order, whole with all their positives; the others neither train nor test."""
    params = PARAMS.model_copy(update={"heldout_documents": 20})
    found = []
    for name, records in (("p", many(500)), ("r", many(500)[::-1])):
        own = declared(tmp_path / f"{name}.jsonl", records)
        (tmp_path / name).mkdir()
        found.append(list(gathered(params.model_copy(update={"sets": (own,)}), tmp_path / name).rows(*SPLITS)))
    one, other = ({split: {row["anchor"] for row in rows if row["split"] == split} for split in SPLITS} for rows in found)
    assert one == other and len(one["test"]) == len(one["dev"]) == 20
    assert sum(row["split"] == "test" for row in found[0]) == 40
    assert len(one["train"]) < 400


def test_shares_are_kept_and_a_small_set_gives_what_it_has():
    counts = {"a": 100, "b": 100, "c": 3}
    assert by_share(counts, {"a": 2, "b": 1, "c": 1}, 33) == {"a": 20, "b": 10, "c": 3}
    assert sum(by_share(counts, {"a": 2, "b": 1, "c": 1}, 1000).values()) == 203
    assert by_share({"a": 0, "b": 1}, {"a": 1, "b": 1}, 5) == {"a": 0, "b": 1}


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(0, 20))
def test_a_stream_is_sampled_as_its_groups_are(groups, size):
    """Oracle: each group's rows in a list of its own."""
    rows = [{"group": group, "place": place} for place, group in enumerate(groups)]
    counts = Counter(groups)
    found = stream_sample(rows, counts, dict.fromkeys(counts, size), 0, lambda row: row["group"])
    own = [row for group in counts for row in sample([row for row in rows if row["group"] == group], size, 0)]
    assert list(found) == sorted(own, key=lambda row: row["place"])
