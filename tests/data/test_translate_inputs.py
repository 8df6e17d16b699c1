"""Pins: a user's pairs and translations are the same from every kind of file, with or without a byte order mark, and from records in
memory; each mistake in them is one line with its place, before anything is written."""

import csv
import gzip

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
    "a list": ([[1, 2]], "line 1: found list where a record is needed"),
    "a truth value as id": ([PAIR | {"id": True}], "line 1: id is True, where a text is needed"),
    "a list as passage_id": ([PAIR | {"passage_id": [1]}], "line 1: passage_id is [1], where a text is needed"),
    "a number as passage_lang": ([PAIR, PAIR | {"id": "b", "passage_lang": 5}], "line 2: passage_lang is 5, where a text is needed"),
    "half a character": ([PAIR | {"query": "\ud800 how tall"}], "line 1: query holds half a character (a lone surrogate)"),
    "a passage_id for two passages": (
        [PAIR | {"passage_id": 7}, PAIR | {"id": "b", "passage_id": 7}, PAIR | {"id": "c", "passage_id": "7", "passage": "that"}],
        "line 3: passage_id 7 names another passage above",
    ),
    "no rows": ([], "no pairs in it"),
    "a language unknown": ([PAIR | {"lang": "xx"}], "line 1: lang: 'xx' is no language code of ISO 639-1: give two letters"),
    "a country's code": ([PAIR, PAIR | {"id": "b", "lang": "jp"}], "line 2: lang: 'jp' is no language code of ISO 639-1: did you mean ja?"),
    "a code in capitals": ([PAIR | {"lang": "EN"}], "line 1: lang: 'EN' is no language code of ISO 639-1: did you mean en?"),
    "a code with a country": (
        [PAIR | {"passage_lang": "zh-CN"}],
        "line 1: passage_lang: 'zh-CN' is no language code of ISO 639-1: did",
    ),
    "a language that cannot be identified": ([PAIR | {"lang": "haw"}], "language haw: py3langid does not know it"),
    "a misspelt optional field": ([PAIR | {"pasage_id": 7}], "line 1: unknown field pasage_id, did you mean passage_id? Rename it"),
}


@pytest.mark.parametrize("rows, message", BAD_PAIRS.values(), ids=BAD_PAIRS.keys())
def test_bad_pairs_are_one_line_with_exit_code_2(conan, tmp_path, rows, message):
    code, _, err = conan("translate", write_lines(tmp_path / "pairs.jsonl", rows), tmp_path / "out")
    assert code == 2 and err.startswith("conan-lib: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "out").exists()


def test_the_kind_of_file_and_a_byte_order_mark_change_nothing(tmp_path):
    rows = [PAIR, PAIR | {"id": "b", "query": "où"}]
    pairs = read_pairs(write_lines(tmp_path / "pairs.jsonl", rows))
    records.write(tmp_path / "pairs.parquet", rows, records.schema("id query passage lang"))
    (tmp_path / "marked.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "pairs.jsonl").read_bytes())
    assert pairs == read_pairs(tmp_path / "pairs.parquet") == read_pairs(tmp_path / "marked.jsonl") == read_pairs(rows)
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "pairs.jsonl").read_bytes()))
    for name, delimiter in (("pairs.csv", ","), ("PAIRS.TSV", "\t")):
        with open(tmp_path / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, PAIR, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        assert pairs == read_pairs(tmp_path / name)
    assert pairs == read_pairs(tmp_path / "packed.jsonl.gz")


NO_SOURCES = {
    "None": (None, "pairs: found NoneType: give a file, or a list of records"),
    "one record": (PAIR, "pairs: found dict: give a file, or a list of records"),
    "texts": (["a"], "pairs, record 1: found str where a record is needed: give a dict with named fields"),
    "a mistake in a record": ([PAIR, PAIR], "pairs, record 2: id a occurs twice"),
    "nothing": ([], "pairs: no pairs in it"),
}


@pytest.mark.parametrize("source, message", NO_SOURCES.values(), ids=NO_SOURCES.keys())
def test_records_in_memory_that_are_none_are_one_line(source, message):
    with pytest.raises(UserError, match=f"^{message}"):
        read_pairs(source)


def test_translations_of_another_shape_and_folders_are_told(tmp_path):
    with pytest.raises(UserError, match=r"^translations: give a file .*=AlignedTranslations\(\{lang: \{id: text\}\}\) instead$"):
        read_translations({"de": {"a": "b"}})
    assert read_translations([{"id": "a", "lang": "de", "text": "b"}]) == {"de": {"a": "b"}}
    with pytest.raises(UserError, match="record 1: lang: 'cn' is no language code of ISO 639-1: did you mean zh"):
        read_translations([{"id": "a", "lang": "cn", "text": "b"}])
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(UserError, match=r"x\.jsonl: is a folder: name a file"):
        read_pairs(tmp_path / "x.jsonl")
    (tmp_path / "x.csv").write_text("id;query;passage;lang\na;b;c, d;en\n")
    with pytest.raises(UserError, match=r"x\.csv, line 2: 2 fields under 1 names; its columns seem to be divided by ';': save it as"):
        read_pairs(tmp_path / "x.csv")


def test_a_users_table_is_not_to_be_deleted(tmp_path):
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match=r"not a parquet table \(.*\): save it as parquet again, or as \.jsonl"):
        read_pairs(tmp_path / "pairs.parquet")


def test_a_file_without_translations_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no translations in it"):
        read_translations(write_lines(tmp_path / "none.jsonl", []))


def test_equal_passages_are_one_and_given_fields_win(tmp_path):
    rows = [PAIR, PAIR | {"id": 2}, PAIR | {"id": "c", "passage_id": 7, "passage_lang": "de"}]
    first, second, third = read_pairs(write_lines(tmp_path / "pairs.jsonl", rows))
    assert first.positive_id == second.positive_id and (second.id, first.positive_lang) == ("2", "en")
    assert (third.positive_id, third.lang, third.positive_lang) == ("7", "en", "de")
