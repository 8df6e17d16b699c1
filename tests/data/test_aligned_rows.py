"""Held-out clr rows for the mixing of languages: every group has one text in each of the languages, whole groups alone; where few queries
are in all languages, the two that most have."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from conan_lib.data import records
from conan_lib.data.corpus import Corpus
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.heldout import mixing_texts
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams, HeldoutParams

SCHEMA = records.schema("anchor positive group lang split task positive_lang")


def row(group: int, lang: str, split: str = "test", task: str = "clr", positive_lang: str | None = None) -> dict:
    texts = {"anchor": f"query {group} {lang}", "positive": f"passage {group}"}
    return texts | {"group": f"g{group}", "lang": lang, "split": split, "task": task, "positive_lang": positive_lang}


def texts_of(rows: list[dict]) -> list[dict]:
    params = DataParams(languages=("en", "de", "fr", "it"), sets=({"from": "c.jsonl", "task": "clr"},))
    with TemporaryDirectory() as folder:
        records.write(Path(folder) / "rows.parquet", rows, SCHEMA)
        return mixing_texts(Corpus(params, Path(folder), SimpleNamespace(languages=()), EvaluationIndex(13)), HeldoutParams())


def test_each_whole_group_has_its_queries_and_the_passage_in_the_pivot():
    rows = [row(n, lang) for n in range(12) for lang in ("de", "fr")] + [row(12, "de"), row(13, "fr")]
    found = texts_of([*rows, row(14, "de", "dev"), row(15, "de", "train"), row(16, "de", task="retrieval")])
    expected = [{"text": f"query {n} de", "lang": "de", "group": f"g{n}"} for n in range(12)]
    assert [text for text in found if text["lang"] == "de"] == expected
    assert [text["text"] for text in found if text["lang"] == "en"] == [f"passage {n}" for n in range(12)]
    assert len(found) == 36 and {text["lang"] for text in found} == {"en", "de", "fr"}


def test_a_passage_may_say_its_own_language():
    found = texts_of([row(n, "de", positive_lang="it") for n in range(5)])
    assert {(text["lang"], text["text"].split()[0]) for text in found} == {("de", "query"), ("it", "passage")}


def test_of_queries_that_few_have_in_all_languages_the_commonest_pair_remains():
    rows = [row(n, "de") for n in range(9)] + [row(n, "fr") for n in range(9, 16)]
    found = texts_of(rows)
    assert {text["lang"] for text in found} == {"en", "de"} and {text["group"] for text in found} == {f"g{n}" for n in range(9)}


def test_too_few_queries_are_one_line_with_the_mend():
    with pytest.raises(
        UserError, match=r"data.sets: 3 queries of the clr rows are held out, and the mixing of languages needs 4: hold out"
    ):
        texts_of([row(n, "de") for n in range(3)])
