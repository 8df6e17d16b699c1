"""Texts that nobody would write on purpose are counted, left out or refused by their record, and what is left adds up to the input."""

import gzip
import json
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conan_lib.data.build import build_corpus, build_sets
from conan_lib.data.declared.files import records
from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.files import read_json
from conan_lib.stages import open_stage
from tests.data.test_declared_stages import params_of
from tests.small_own_sets import COLOURS, THINGS, lines, own_sets

WORDS = [f"the {colour} {thing} stood near the old road" for colour in COLOURS for thing in THINGS]
PROSE = " and ".join(WORDS[:9]) + "."
HOSTILE = {
    "empty": "",
    "spaces": " \t\u2003\n",
    "half a character": PROSE + "\ud800",
    "NUL": "\x00" + PROSE.replace("red", "red\x00") + "\x00",
    "long line": " ".join(f"{word} {number}" for number in range(4000) for word in WORDS)[:10_000_000],
    "one character": "a" * 100_000,
    "right to left": "\u202e" + PROSE.replace("red", "crimson") + "\u202c",
    "Arabic": "في البدء خلق الله السماوات والأرض. وكانت الأرض خربة وخالية، وعلى وجه الغمر ظلمة، وروح الله يرف على وجه المياه.",
    "combining": PROSE.replace("o", "o" + "\u0301\u0323" * 20),
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 200,
    "controls": PROSE.replace(" ", "\x07 \x1b[31m "),
    "copy": PROSE,
    "copy again": PROSE.upper(),
}
MAKES_NO_RECORD = {"empty", "spaces", "half a character"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus of such documents among good ones, and the folder of its run."""
    folder = tmp_path_factory.mktemp("hostile")
    good = [{"id": f"good {n}", "text": f"In the year {n} {WORDS[n]}, and {WORDS[-n]} for all to see."} for n in range(50)]
    bad = [{"id": name, "text": text} for name, text in HOSTILE.items()]
    texts = {"from": lines(folder / "book.jsonl", good + bad), "task": "text", "lang": "en", "heldout": 0.1, "bad_records": "skip"}
    sets = [row for row in own_sets(folder) if row["task"] != "text"]
    params = params_of(folder, [texts, *sets], near_duplicate_threshold=1)
    return build_corpus(open_stage("corpus", params)), len(good) + len(bad)


def test_what_is_left_adds_up_to_what_was_read(corpus):
    stage, written = corpus
    declared = {row["step"]: row["documents"] for row in read_json(stage.path / "declared.json") if row["source"] == "book"}
    assert declared["read"] == written and declared["read"] - declared["complete"] == len(MAKES_NO_RECORD)
    steps = [row for row in read_json(stage.path / "funnel.json") if row["source"] == "book"]
    counts = [row["documents"] for row in steps]
    kept = [row for row in read(stage.path / "documents.parquet") if row["source"] == "book"]
    left = [declared[step] for step in ("read", "complete", "scores", "languages", "exact duplicates")]
    assert left == sorted(left, reverse=True) and steps[0]["step"] == "read" and counts[0] == left[-1]
    assert counts[1:] == sorted(counts[1:], reverse=True), "after the division into pieces no step adds"
    assert counts[-1] == len(kept) and steps[-1]["chars"] == sum(len(row["text"]) for row in kept)


def test_no_hostile_sign_reaches_training(corpus):
    stage, _ = corpus
    kept = {row["id"]: row["text"] for row in read(stage.path / "documents.parquet") if row["source"] == "book"}
    assert not [name for name, text in kept.items() if "\x00" in text or "\u202e" in text or "\x1b" in text or len(text) > 4000]
    assert all(unicodedata.is_normalized("NFC", text) for text in kept.values())
    names = {name.partition("#")[0].removeprefix("book/") for name in kept}
    assert not names & {*MAKES_NO_RECORD, "one character", "Arabic", "emoji"}, "neither English nor prose"
    assert len(names & {"NUL", "controls", "copy", "copy again"}) <= 2, "of equal texts one stays"
    assert "right to left" in names


@pytest.mark.parametrize("name", sorted(MAKES_NO_RECORD))
def test_a_text_that_is_none_is_refused_with_its_record(tmp_path, name):
    texts = {"from": lines(tmp_path / "book.jsonl", [{"text": PROSE}, {"text": HOSTILE[name]}]), "task": "text", "lang": "en"}
    with pytest.raises(UserError, match=r"book\.jsonl, line 2: text (is empty|holds half a character)"):
        build_corpus(open_stage("corpus", params_of(tmp_path, [texts])))


def test_every_cut_of_a_file_is_a_line_or_whole_records(tmp_path):
    """Cut anywhere: JSONL may end after a record, gzip and parquet may not end early at all."""
    rows = [{"query": f"q {n}", "pos": [f"p {n}"]} for n in range(40)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "whole.parquet")
    for name, content in {
        "a.jsonl": text,
        "b.jsonl.gz": gzip.compress(text),
        "c.parquet": (tmp_path / "whole.parquet").read_bytes(),
    }.items():
        path = tmp_path / name
        for end in range(1, len(content), max(1, len(content) // 60)):
            path.write_bytes(content[:end])
            try:
                found = [row for _, row in records(path)]
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error)
            else:
                assert name == "a.jsonl" and found == rows[: len(found)]


def test_labels_of_one_class_are_refused_by_their_set(tmp_path):
    """There is no other label to be told from."""
    sets = own_sets(tmp_path)
    mood = next(row for row in sets if row["task"] == "classification")
    mood["from"] = lines(tmp_path / "mood.jsonl", ({"text": f"note {n} on a {THINGS[n % 10]}", "label": 1} for n in range(200)))
    params = params_of(tmp_path, sets)
    build_corpus(open_stage("corpus", params))
    with pytest.raises(UserError, match=r"data\.sets: mood: every label is bad, from which nothing is learnt"):
        build_sets(open_stage("sets", params))


def test_texts_in_a_language_that_the_identifier_does_not_know_are_trusted(tmp_path):
    book = [{"text": f"{n} " + " ".join(f"kupa{n * k % 97} wela{k}" for k in range(40)), "lang": "haw"} for n in range(30)]
    sets = [row | {"lang": "en"} if row["task"] == "weak" else row for row in own_sets(tmp_path)]
    sets.append({"from": lines(tmp_path / "haw.jsonl", book), "task": "text", "lang": "haw", "heldout": 0.1})
    stage = build_corpus(open_stage("corpus", params_of(tmp_path, sets, languages=["en", "de", "haw"])))
    assert sum(row["lang"] == "haw" for row in read(stage.path / "documents.parquet")) == len(book)
