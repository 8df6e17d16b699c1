"""Files as other tools write them need no `columns`: every format becomes the same canonical rows; a record that cannot is one line."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import check
from conan_lib.data.translate.build import build_clr
from conan_lib.errors import UserError
from conan_lib.params.data import TranslateParams
from conan_lib.params.sets import DeclaredSet
from tests.small_declared import lines, read_all


def pairs(found):
    return [(row["anchor"], row["positive"], row["negatives"]) for row in found]


WANTED = [("how tall is it", "It is 330 m tall.", ["It is red.", "It is old."])]
Q, P, N = WANTED[0]
PAIR_RECORDS = {
    "FlagEmbedding": {"query": Q, "pos": [P], "neg": N, "pos_scores": [0.9], "neg_scores": [0.2, 0.1], "prompt": "Find: "},
    "sentence-transformers": {"anchor": Q, "positive": P, "negative_1": N[0], "negative_2": N[1]},
    "lists under sentence-transformers' names": {"anchor": Q, "positive": P, "negative": N},
    "Tevatron": {
        "query_id": "7", "query": Q, "positive_passages": [{"docid": "d1", "title": "It is", "text": "330 m tall."}],
        "negative_passages": [{"docid": "d2", "title": "It", "text": "is red."}, {"docid": "d3", "title": "", "text": "It is old."}],
    },
    "F2LLM": {"query": Q, "passage": P, **{f"negative_{k}": N[k - 1] if k < 3 else None for k in range(1, 25)}},
    "Automodel": {"query": Q, "pos_doc": P, "neg_doc": N},
    "GritLM": {"query": ["Find: ", Q], "pos": [["", P]], "neg": [["", N[0]], ["", N[1]]]},
    "ms-swift": {
        "messages": [{"role": "system", "content": "Find: "}, {"role": "user", "content": Q}],
        "positive_messages": [[{"role": "user", "content": P}]],
        "negative_messages": [[{"role": "user", "content": text}] for text in N],
    },
}  # fmt: skip


@pytest.mark.parametrize("form", PAIR_RECORDS)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_pairs_of_every_tool_are_the_same_rows(tmp_path, form, suffix):
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".jsonl":
        lines(path, PAIR_RECORDS[form])
    else:
        pq.write_table(pa.Table.from_pylist([PAIR_RECORDS[form]]), path)
    (row,) = read_all(path)
    assert pairs([row]) == WANTED
    assert row["prompt"] == ("Find: " if form in ("FlagEmbedding", "GritLM", "ms-swift") else "")
    assert row["id"] == ("pairs/7" if form == "Tevatron" else "pairs/1") and row["source"] == "pairs" and row["lang"] == "en"
    assert row["positive_id"] == "pairs/d1" or (form != "Tevatron" and row["positive_id"].startswith("text/"))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_columns_reach_into_fields_and_name_the_language(tmp_path, suffix):
    """Parallel text as OPUS-100 has it: a field of fields, named by languages."""
    records = [{"translation": {"en": f"the house {n}", "de": f"das Haus {n}"}} for n in range(2)]
    path = tmp_path / f"pairs{suffix}"
    pq.write_table(pa.Table.from_pylist(records), path) if suffix == ".parquet" else lines(path, *records)
    columns = {"anchor": "translation.{lang}", "positive": "translation.en"}
    found = read_all(path, task="clr", lang="de", columns=columns)
    assert [(row["anchor"], row["positive"], row["lang"]) for row in found] == [(f"das Haus {n}", f"the house {n}", "de") for n in range(2)]
    with pytest.raises(UserError, match=r"no field translation\.ja, which columns\.anchor names; it has en, de|it has de, en"):
        read_all(path, task="clr", lang="ja", columns=columns)
    with pytest.raises(UserError, match=r"no field translation\.en\.x, which columns\.positive names; it has str"):
        read_all(path, task="clr", lang="de", columns=columns | {"positive": "translation.en.x"})


def test_several_positives_are_a_row_each_of_one_group_with_their_scores(tmp_path):
    record = {"query": Q, "pos": [P, "330 m.", "Tall."], "neg": N, "pos_scores": [0.9, 0.6, 0.1]}
    found = read_all(lines(tmp_path / "p.jsonl", record))
    assert [row["positive"] for row in found] == record["pos"] and [row["score"] for row in found] == record["pos_scores"]
    assert len({row["id"] for row in found}) == 3 and len({row["group"] for row in found}) == 1
    assert all(row["negatives"] == N for row in found)


def test_given_scores_filter_positives_and_negatives(tmp_path):
    record = {"query": Q, "pos": [P, "330 m."], "neg": N, "pos_scores": [0.9, 0.3], "neg_scores": [0.2, 0.8]}
    funnel = Funnel()
    found = read_all(lines(tmp_path / "p.jsonl", record), funnel, min_positive_score=0.4, max_negative_score=0.7)
    assert pairs(found) == [(Q, P, N[:1])]
    assert {row["step"]: row["documents"] for row in funnel.rows()} == {
        "read": 1, "complete": 1, "scores": 1, "languages": 1, "exact duplicates": 1,
    }  # fmt: skip


def test_an_empty_cell_is_no_negative(tmp_path):
    """A table has no other way to leave one out."""
    for column in ("negative", "negative_1"):
        (tmp_path / "p.csv").write_text(f"anchor,positive,{column}\n{Q},{P},\n{P},{Q},no\n")
        assert pairs(read_all(tmp_path / "p.csv")) == [(Q, P, []), (P, Q, ["no"])]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_cell_that_holds_a_list_is_a_list(tmp_path, suffix):
    """As in .jsonl: none of it becomes a text with brackets; what is no list of texts stays as it is."""
    path, delimiter = tmp_path / f"p{suffix}", "\t" if suffix == ".tsv" else ","

    def written(*rows):
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([("query", "pos", "neg", "pos_scores", "neg_scores"), *rows])
        return path

    lists = [json.dumps(value) for value in ([P, "330 m."], N, [0.9, 0.8], [0.1, 0.2])]
    found = read_all(written((Q, *lists), ("q", "[1]", "[[a page]]", "", ""), ("r", '["Tall" is it]', "[]", "1", "")))
    assert pairs(found) == [(Q, P, N), (Q, "330 m.", N), ("q", "[1]", ["[[a page]]"]), ("r", '["Tall" is it]', [])]
    assert [row["score"] for row in found] == [0.9, 0.8, None, 1.0]
    for cell in (str([P, "330 m."]), "['a' 'b'\n 'c']", str([P, None]), str([{"text": P}])):
        with pytest.raises(UserError, match=rf"p{suffix}, line \d: pos looks like a list, .*: save the records as .jsonl or .parquet"):
            read_all(written((Q, cell, "", "", "")))
        assert pairs(read_all(written((Q, cell, "", "", ""), (Q, P, N[0], "", "")), bad_records="skip")) == [(Q, P, N[:1])]
    with pytest.raises(UserError, match="line 2: pos is an empty list"):
        read_all(written((Q, "[]", "", "", "")))


def test_a_score_that_filters_must_be_there(tmp_path):
    """It may have a name of its own, and is in the order of negatives that are numbered."""
    record = {"query": Q, "pos": [P], "negative_1": N[0], "negative_2": None, "negative_3": N[1]}
    path = lines(tmp_path / "p.jsonl", record)
    with pytest.raises(UserError, match=r"line 1: no field pos_scores or score .*name its own in columns: \{score: ...\}"):
        read_all(path, min_positive_score=0.5)
    with pytest.raises(UserError, match=r"line 1: no field neg_scores .*name its own in columns: \{negative_scores: ...\}"):
        read_all(path, max_negative_score=0.5)
    own = lines(tmp_path / "o.jsonl", record | {"sims": [0.9, 0.1], "sim": 0.7})
    given = {"columns": {"negative_scores": "sims", "score": "sim"}, "max_negative_score": 0.5}
    assert pairs(read_all(own, min_positive_score=0.5, **given)) == [(Q, P, N[1:])]
    assert read_all(own, min_positive_score=0.8, **given) == []
    with pytest.raises(UserError, match="line 1: sims has 2 scores for 1 passages"):
        read_all(lines(own, {"query": Q, "pos": [P], "neg": N[:1], "sims": [0.9, 0.1], "sim": 1}), **given)
    with pytest.raises(UserError, match="line 1: sims is empty: fill it"):
        read_all(lines(own, {"query": Q, "pos": [P], "neg": N, "sims": None, "sim": 1}), **given)
    (tmp_path / "p.csv").write_text("query,pos,pos_scores\na,b,0.9\nc,d,\n")
    with pytest.raises(UserError, match=r"p.csv, line 3: pos_scores is empty: fill it"):
        read_all(tmp_path / "p.csv", min_positive_score=0.5)
    assert pairs(read_all(lines(path, {"query": Q, "pos": [P]}), max_negative_score=0.5)) == [(Q, P, [])], "no negative needs no score"


def test_a_positive_among_the_negatives_is_none(tmp_path):
    found = read_all(lines(tmp_path / "p.jsonl", {"query": Q, "pos": [P, "330 m."], "neg": ["330 m.", Q, *N, N[0]]}))
    assert [row["negatives"] for row in found] == [N, N]


@pytest.mark.parametrize("form", ["Tevatron", "Automodel"])
def test_passages_named_by_ids_are_looked_up_in_a_corpus(tmp_path, form):
    corpus = lines(tmp_path / "corpus.jsonl", {"docid": "1", "title": "It is", "text": "330 m tall."}, {"docid": 2, "text": N[0]})
    record = {
        "Tevatron": {"query_id": 1, "query_text": Q, "positive_document_ids": ["1"], "negative_document_ids": ["2"]},
        "Automodel": {"question_id": "1", "question": Q, "pos_doc": [{"id": "1"}], "neg_doc": [{"id": "2"}]},
    }[form]
    path = lines(tmp_path / "p.jsonl", record)
    (row,) = read_all(path, corpus=str(corpus))
    assert pairs([row]) == [(Q, P, N[:1])] and row["positive_id"] == "p/1"
    with pytest.raises(UserError, match=r"p.jsonl, line 1: \w+ holds ids and no texts: name the file of passages in `corpus`"):
        read_all(path)
    lines(corpus, {"docid": "1", "text": P})
    with pytest.raises(UserError, match=r"line 1: \w+: passage '2' is not in .*corpus.jsonl: add it there"):
        read_all(path, corpus=str(corpus))


def test_title_and_content_are_a_weak_pair(tmp_path):
    found = read_all(lines(tmp_path / "news.jsonl", {"title": "Rain", "content": "It rains.", "url": "x"}), task="weak")
    assert pairs(found) == [("Rain", "It rains.", [])]


@pytest.mark.parametrize(
    "record",
    [
        {"sentence1": "a dog", "sentence2": "a cat", "score": 2.5},
        {"text1": "a dog", "text2": "a cat", "label": 2.5},
        {"anchor": "a dog", "positive": "a cat", "score": "2.5"},
    ],
    ids=lambda record: next(iter(record)),
)
def test_graded_pairs_are_scaled_to_0_and_1(tmp_path, record):
    path = lines(tmp_path / "sts.jsonl", record)
    (row,) = read_all(path, task="sts", score_range=[0, 5])
    assert (row["anchor"], row["positive"], row["score"]) == ("a dog", "a cat", 0.5)
    with pytest.raises(UserError, match=r"sts.jsonl, line 1: \w+ 2.5 is outside 0 to 1: give the set's score_range"):
        read_all(path, task="sts")


def test_labels_are_words_by_name_or_by_number(tmp_path):
    path = lines(tmp_path / "l.jsonl", {"text": "good", "label": 1, "label_text": "praise"}, {"text": "bad", "label": 0})
    assert [row["label"] for row in read_all(path, task="classification")] == ["praise", "0"]
    names = read_all(path, task="clustering", label_names=["blame", "praise"], columns={"label": "label"})
    assert [row["label"] for row in names] == ["praise", "blame"]
    with pytest.raises(UserError, match="line 1: label is 1, and label_names has 1 names"):
        read_all(path, task="classification", label_names=["blame"], columns={"label": "label"})


def test_what_translate_writes_is_read_with_the_languages_of_its_records(tmp_path):
    source = lines(tmp_path / "q.jsonl", {"id": "q1", "query": "how tall is the eiffel tower", "passage": P, "lang": "en"})
    texts = lines(tmp_path / "t.jsonl", {"id": "q1", "lang": "de", "text": "wie hoch ist der Eiffelturm"})
    shares = {"shares": {"de": 1, "ja": 1}, "languages_per_query": 0, "translator": "aligned"}
    build_clr(source, tmp_path / "clr", TranslateParams(**shares), texts)
    (row,) = read_all(tmp_path / "clr", task="clr", lang=None)
    assert (row["anchor"], row["positive"], row["lang"], row["positive_lang"]) == ("wie hoch ist der Eiffelturm", P, "de", "en")
    (own,) = read_all(source, columns={"positive": "passage"})
    assert row["group"] == own["group"], "a query and its translation are held out together"


def test_columns_go_before_known_names(tmp_path):
    path = lines(tmp_path / "p.jsonl", {"query": "other", "Frage": Q, "Antwort": P, "Sprache": "de"})
    (row,) = read_all(path, columns={"anchor": "Frage", "positive": "Antwort", "lang": "Sprache"}, lang=None)
    assert pairs([row]) == [(Q, P, [])] and row["lang"] == "de"


def test_code_keeps_every_character_where_it_is_not_cleaned(tmp_path):
    code = "def f():\n    return  1\n"
    path = lines(tmp_path / "p.jsonl", {"query": "f", "pos": [code]})
    assert read_all(path, clean=False)[0]["positive"] == code
    assert read_all(path)[0]["positive"] == "def f():\nreturn 1"


WRONG = {
    "no such field": ({"q": Q, "pos": [P]}, r"no field anchor or query or .*; it has q, pos: name its own in columns: \{anchor: ...\}"),
    "an empty text": ({"query": " ", "pos": [P]}, "query is empty: fill it"),
    "a number for a text": ({"query": 3, "pos": [P]}, "query is '3', where a text is needed: correct it"),
    "no positive": ({"query": Q, "pos": []}, "pos is an empty list: every record needs a positive"),
    "a null among negatives": ({"query": Q, "pos": [P], "neg": ["x", None]}, "neg is 'None', where a text is needed"),
    "scores that do not fit": ({"query": Q, "pos": [P], "pos_scores": [1, 2]}, "pos_scores has 2 scores for 1 passages: give one for each"),
    "a score that is none": ({"query": Q, "pos": [P], "pos_scores": ["high"]}, "pos_scores is 'high', where a number is needed"),
    "a score without end": ({"query": Q, "pos": [P], "pos_scores": [10**400]}, "pos_scores is 1000.*, where a number is needed"),
    "a title that is none": ({"query": Q, "pos": [{"title": 3, "text": P}]}, r"pos is .*, where a text is needed"),
    "half a character": ({"query": "\ud800", "pos": [P]}, "query holds half a character"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_record_is_one_line_or_skipped_and_counted(tmp_path, case):
    record, message = WRONG[case]
    path, funnel = tmp_path / "p.jsonl", Funnel()
    path.write_text(json.dumps({"query": "first", "pos": ["one"]}) + "\n" + json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"^[^\n]*p.jsonl, line 2: {message}[^\n]*, or set bad_records: skip$"):
        read_all(path)
    assert len(read_all(path, funnel, bad_records="skip")) == 1
    assert {row["step"]: row["documents"] for row in funnel.rows() if row["step"] in ("read", "complete")} == {"read": 2, "complete": 1}


def test_a_record_without_a_language_says_what_to_give(tmp_path):
    with pytest.raises(UserError, match="line 1: no field lang or query_lang or language; it has query, pos: give the set's lang"):
        read_all(lines(tmp_path / "p.jsonl", {"query": Q, "pos": [P]}), lang=None)


def test_a_record_names_its_language_by_a_known_code(tmp_path):
    pair = {"query": Q, "pos": [P], "lang": "en"}
    path = lines(tmp_path / "p.jsonl", pair, pair | {"lang": "English"})
    with pytest.raises(UserError, match="line 2: lang: 'English' is no language code of ISO 639-1: did you mean en"):
        read_all(path, lang=None)
    assert len(read_all(path, lang=None, bad_records="skip")) == 1
    with pytest.raises(UserError, match=r"line 1: positive_lang: 'cn' is no .* did you mean zh"):
        read_all(lines(path, pair | {"positive_lang": "cn"}))
    with pytest.raises(UserError, match=r"^p: lang: 'jp' is no language code of ISO 639-1: did you mean ja"):
        read_all(path, lang="jp")


def test_a_named_column_must_be_there(tmp_path):
    with pytest.raises(UserError, match=r"line 1: no field Frage, which columns.anchor names; it has query, pos"):
        read_all(lines(tmp_path / "p.jsonl", {"query": Q, "pos": [P]}), columns={"anchor": "Frage"})


def test_duplicates_and_other_languages_are_counted(tmp_path):
    records = [
        {"query": Q, "pos": [P], "lang": "en"},
        {"query": Q.upper(), "pos": [P], "lang": "en"},
        {"query": Q, "pos": [P], "lang": "fr"},
    ]
    funnel = Funnel()
    assert len(read_all(lines(tmp_path / "p.jsonl", *records), funnel, lang=None)) == 1
    assert {row["step"]: row["documents"] for row in funnel.rows() if row["lang"] == "en"}["exact duplicates"] == 1
    assert {row["step"] for row in funnel.rows() if row["lang"] == "fr"} == {"scores"}


def test_a_set_without_a_language_of_the_run_is_refused_beforehand(tmp_path):
    path = lines(tmp_path / "p.jsonl", {"query": Q, "pos": [P]})
    declared = DeclaredSet.model_validate({"from": str(path), "task": "retrieval", "lang": "fr"})
    with pytest.raises(
        UserError, match=r"no record of use in en, de \(read 1, .*, languages 0\): correct its lang, or add its language to"
    ):
        check(declared, ("en", "de"))


def test_the_head_of_a_file_is_not_taken_for_all_of_it(tmp_path, monkeypatch):
    """Sorted by label, and with a text twice, so that fewer rows are of use than were read."""
    monkeypatch.setattr("conan_lib.data.declared.CHECKED", 10)
    records = [{"text": f"text {n % 9}", "label": "first" if n < 10 else "second"} for n in range(20)]
    for count, known in ((20, None), (9, UserError)):
        path = lines(tmp_path / "labels.jsonl", *records[:count])
        declared = DeclaredSet.model_validate({"from": str(path), "task": "classification", "lang": "en"})
        if known is None:
            assert check(declared, ("en",)) is None
        else:
            with pytest.raises(UserError, match="every label is first"):
                check(declared, ("en",))


def test_an_empty_file_and_a_held_out_file_without_the_fields_are_refused_beforehand(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty.jsonl: no record of use in en \(read 0, complete 0, .*\): look into the file"):
        check(DeclaredSet.model_validate({"from": str(tmp_path / "empty.jsonl"), "task": "retrieval", "lang": "en"}), ("en",))
    given = {"from": str(lines(tmp_path / "p.jsonl", {"query": Q, "pos": [P]})), "task": "retrieval", "lang": "en"}
    held = lines(tmp_path / "held.jsonl", {"query": Q, "answers": [P]})
    with pytest.raises(UserError, match=r"held.jsonl, line 1: no field positive or .*; it has query, answers"):
        check(DeclaredSet.model_validate(given | {"heldout": str(held)}), ("en",))


def test_records_that_share_an_id_are_told_apart_and_none_looks_like_a_part_of_another(tmp_path):
    records = [{"id": "a#1", "query": f"q {n}", "pos": [f"p {n}", f"r {n}"]} for n in range(3)]
    found = [row["id"] for row in read_all(lines(tmp_path / "p.jsonl", *records))]
    assert len(set(found)) == 6 and found[0] == "p/a_1"
    (text,) = read_all(lines(tmp_path / "t.jsonl", {"id": "page#part", "title": "A", "text": "B"}), task="text")
    assert "#" not in text["id"], "a document whose id has # is taken for a later piece of a long one"
