"""Pins: a user's pairs and translations are the same from JSONL, with or without a byte order mark, and from Parquet; each mistake in
them is one line with its place, before anything is written."""

import pytest
from small_phrases import write_lines

from conan_lib.data import records
from conan_lib.data.translate.inputs import read_pairs, read_translations
from conan_lib.errors import UserError

PAIR = {"id": "a", "query": "what", "passage": "this", "lang": "en"}
BAD_PAIRS = {
    "a missing field": ([PAIR | {"id": "b"}, {"id": "a", "query": "q", "lang": "en"}], "line 2: no field passage; it has id, query, lang"),
    "an empty query": ([PAIR | {"query": " "}], "line 1: query is ' ', where a text is needed"),
    "a query that is no text": ([PAIR | {"query": 3}], "line 1: query is 3"),
    "an id twice": ([PAIR, PAIR], "line 2: id a occurs twice"),
    "a list": ([[1, 2]], "line 1: expected an object with id, query, passage, lang"),
    "a truth value as id": ([PAIR | {"id": True}], "line 1: id is True, where a text is needed"),
    "a list as passage_id": ([PAIR | {"passage_id": [1]}], "line 1: passage_id is [1], where a text is needed"),
    "a number as passage_lang": ([PAIR, PAIR | {"id": "b", "passage_lang": 5}], "line 2: passage_lang is 5, where a text is needed"),
    "half a character": ([PAIR | {"query": "\ud800 how tall"}], "line 1: query holds half a character (a lone surrogate)"),
    "a passage_id for two passages": (
        [PAIR | {"passage_id": 7}, PAIR | {"id": "b", "passage_id": 7}, PAIR | {"id": "c", "passage_id": "7", "passage": "that"}],
        "line 3: passage_id 7 names another passage above",
    ),
    "no rows": ([], "no pairs in it"),
    "a language unknown": ([PAIR | {"lang": "xx"}], "language xx: py3langid does not know it"),
}


@pytest.mark.parametrize("rows, message", BAD_PAIRS.values(), ids=BAD_PAIRS.keys())
def test_bad_pairs_are_one_line_with_exit_code_2(conan, tmp_path, rows, message):
    code, _, err = conan("translate", write_lines(tmp_path / "pairs.jsonl", rows), tmp_path / "out")
    assert code == 2 and err.startswith("conan-lib: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "out").exists()


def test_a_parquet_file_and_a_byte_order_mark_change_nothing(tmp_path):
    rows = [PAIR, PAIR | {"id": "b", "query": "où"}]
    pairs = read_pairs(write_lines(tmp_path / "pairs.jsonl", rows))
    records.write(tmp_path / "pairs.parquet", rows, records.schema("id query passage lang"))
    (tmp_path / "marked.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "pairs.jsonl").read_bytes())
    assert pairs == read_pairs(tmp_path / "pairs.parquet") == read_pairs(tmp_path / "marked.jsonl")


def test_a_users_table_is_not_to_be_deleted(tmp_path):
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"not a parquet table \(.*\); save it as parquet again, or as \.jsonl"):
        read_pairs(tmp_path / "pairs.parquet")


def test_a_file_without_translations_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no translations in it"):
        read_translations(write_lines(tmp_path / "none.jsonl", []))


def test_equal_passages_are_one_and_given_fields_win(tmp_path):
    rows = [PAIR, PAIR | {"id": 2}, PAIR | {"id": "c", "passage_id": 7, "passage_lang": "de"}]
    first, second, third = read_pairs(write_lines(tmp_path / "pairs.jsonl", rows))
    assert first.positive_id == second.positive_id and (second.id, first.positive_lang) == ("2", "en")
    assert (third.positive_id, third.lang, third.positive_lang) == ("7", "en", "de")
