"""Invariants: tasks are mteb's own classes on our files; cross-lingual subsets share one corpus and cut the same passages; scores equal an
independent computation; bad files are one clear line; a suite without a hub says so."""

import json
import shutil

import mteb
import numpy as np
import pytest

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder, iso_code, model_meta
from conan_lib.evaluation.scores import read_items, score
from conan_lib.evaluation.tasks import METRICS, language_of, load_suite, load_tasks
from conan_lib.params.evaluation import TasksParams

PARAMS = TasksParams(bootstrap=20, experiments=2)


def words(texts, is_query=False):
    """A bag of words in 64 hashed channels: good enough to be neither right nor wrong everywhere."""
    vectors = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, sum(map(ord, word)) % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    meta = model_meta("test/words", "0", parameters=64, dim=64, max_tokens=None, languages=["en"], licence="mit", framework=["NumPy"])
    return Encoder(words, meta)


def by_name(folder, **changes):
    return {task.metadata.name: task for task in load_tasks(folder, PARAMS, **changes)}


def test_tasks_are_mtebs_with_honest_metadata(data_folder):
    tasks = by_name(data_folder)
    assert isinstance(tasks["bible-clr"], mteb.abstasks.AbsTaskRetrieval) and isinstance(tasks["lee"], mteb.abstasks.AbsTaskSTS)
    for task in tasks.values():
        assert task.metadata.main_score == METRICS[task.kind][0] and task.metadata.dataset["revision"] == data_folder.name
        assert "made up" in task.metadata.description and task.metadata.license == "cc0-1.0"
    assert tasks["bible-clr"].metadata.eval_langs["zh-en"] == ["zho-Hans", "eng-Latn"]
    assert tasks["topics"].n_experiments == tasks["topics-clusters"].n_clusters == 2
    assert iso_code("de") == "deu-Latn" and iso_code("mul") is None and language_of("de-en") == "de"


def test_crosslingual_scores_equal_a_double_loop(data_folder, encoder, tmp_path):
    rows = score(encoder, [by_name(data_folder)["bible-clr"]], tmp_path, PARAMS, 8)
    folder = data_folder / "eval" / "test" / "bible-clr"
    corpus = read(folder / "corpus.parquet")
    right = {row["query_id"]: row["corpus_id"] for row in read(folder / "qrels.parquet")}
    scores = {row["id"]: words([row["text"]])[0] for row in corpus}
    for language in ("de", "fr", "zh"):
        found = []
        for query in read(folder / "queries.parquet"):
            if query["lang"] == language:
                mine = words([query["text"]])[0]
                ranked = sorted(scores, key=lambda passage, mine=mine: -float(mine @ scores[passage]))
                found.append(right[query["id"]] in ranked[:10])
        (value,) = [row["value"] for row in rows if row["subset"] == language and row["metric"] == "recall_at_10"]
        assert value == pytest.approx(np.mean(found), abs=0.06)  # ties at rank 10 may fall either way


def test_no_text_is_encoded_twice(data_folder, tmp_path):
    seen = []

    def counting(texts, is_query):
        seen.extend(texts)
        return words(texts)

    meta = model_meta("test/count", "0", parameters=1, dim=64, max_tokens=None, languages=[], licence="mit", framework=["NumPy"])
    score(Encoder(counting, meta), by_name(data_folder).values(), tmp_path, PARAMS, 8)
    assert len(seen) == len(set(seen)) > 100


def test_a_model_with_two_sides_gets_queries_and_passages(data_folder, tmp_path):
    sides = {True: set(), False: set()}

    def noting(texts, is_query):
        sides[is_query].update(texts)
        return words(texts)

    meta = model_meta("test/sides", "0", parameters=1, dim=64, max_tokens=None, languages=[], licence="mit", framework=["NumPy"])
    tasks = by_name(data_folder)
    score(Encoder(noting, meta, asymmetric=True), [tasks["wiki-retrieval"], tasks["lee"]], tmp_path, PARAMS, 8)
    folder = data_folder / "eval" / "test" / "wiki-retrieval"
    assert sides[False] == {row["text"] for row in read(folder / "corpus.parquet")}
    assert {row["text"] for row in read(folder / "queries.parquet")} < sides[True]


def test_fewer_queries_keep_all_candidates_and_the_same_passages(data_folder):
    task = by_name(data_folder, queries_per_language=5)["bible-clr"]
    task.load_data()
    passages = []
    for subset in task.hf_subsets:
        split = task.dataset[subset]["test"]
        assert len(split["queries"]) == 5 and len(split["corpus"]) == 24
        passages.append({passage for found in split["relevant_docs"].values() for passage in found})
    assert passages[0] == passages[1] == passages[2]


def test_items_average_to_the_score(data_folder, encoder, tmp_path):
    rows = score(encoder, by_name(data_folder).values(), tmp_path, PARAMS, 8)
    for row in rows:
        if row["subset"] == "default" and row["type"] in ("retrieval", "reranking", "classification"):
            items = read_items(tmp_path, "words", row["task"])["default"]
            assert np.mean(items[row["metric"]]) == pytest.approx(row["value"], abs=1e-5) and len(items["ids"]) == row["n"]


def test_reranking_ranks_its_candidates_alone(data_folder, encoder, tmp_path):
    rows = score(encoder, [by_name(data_folder)["wiki-reranking"]], tmp_path, PARAMS, 8)
    values = read_items(tmp_path, "words", "wiki-reranking")["default"]["map_at_1000"]
    assert rows[0]["metric"] == "map_at_1000" and min(values) >= 1 / 6  # one of six candidates is right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "tasks.json").unlink(), "no list of tasks"),
        (lambda f: (f / "tasks.json").write_text("[]"), "no tasks for split test"),
        (lambda f: (f / "tasks.json").write_text(json.dumps([{"name": "x", "type": "riddle", "lang": "en", "source": "s"}])), "riddle"),
        (lambda f: (f / "lee" / "test.parquet").unlink(), "no such table"),
        (lambda f: shutil.copy(f / "topics" / "test.parquet", f / "lee" / "test.parquet"), "no column score, sentence1, sentence2"),
    ],
)
def test_bad_files_are_one_clear_line(data_folder, tmp_path, change, message):
    shutil.copytree(data_folder / "eval", tmp_path / "eval")
    change(tmp_path / "eval" / "test")
    with pytest.raises(UserError, match=message):
        by_name(tmp_path)["lee"].load_data()


@pytest.mark.parametrize("suite", ["MTEB(eng, v2)", "MTEB(eng, v1)", "MTEB(cmn, v1)", "MKQA"])
def test_a_suite_without_a_hub_is_one_clear_line(suite, monkeypatch):
    """Everything but the download is real: the name resolves in mteb, its first data set is asked for."""
    asked = []

    def offline(repository, **kwargs):
        asked.append((repository, kwargs["revision"]))
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match="needs the Hugging Face hub"):
        load_suite(suite)
    assert len(asked) == 1 and "/" in asked[0][0] and asked[0][1]
