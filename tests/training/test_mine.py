"""Invariants: candidates are the best passages of the passage's language by cosine, in order, after the skipped ranks; never a positive,
its equal in text, or another positive of the same question; what a row brings stands first; a model that has not moved mines the same
again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from conan_lib.data.sets import SETS
from conan_lib.negatives import DhnmOptions, NegativePool
from conan_lib.params.training import MineParams
from conan_lib.stages import open_stage
from conan_lib.training import search as searching
from conan_lib.training.mine import Pools, Remining, load_pools, mine, mine_negatives, rank
from conan_lib.training.search import Query, Search, search
from tests.small_pairs import finish_weak, pair_params, tables


class Table:
    """An encoder with fixed unit vectors."""

    device, prompts, max_seq_length = torch.device("cpu"), {}, None

    def __init__(self, texts):
        vectors = np.random.default_rng(0).normal(size=(len(texts), 6))
        self.vectors = dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))

    def encode(self, texts, **_):
        return torch.tensor(np.array([self.vectors[text] for text in texts]))


@pytest.mark.parametrize("at_once", [1 << 17, 5])
def test_search_equals_sorting_all_scores(monkeypatch, at_once):
    """Also where the passages are compared some at a time, and the queries in blocks."""
    monkeypatch.setattr(searching, "AT_ONCE", at_once)
    monkeypatch.setattr(searching, "ASKED_AT_ONCE", 2)
    passages = [f"p{i}" for i in range(12)] + ["p3"]
    queries = [Query(f"{i}", f"q{i}", frozenset({"p3", f"p{i}"})) for i in range(5)]
    model = Table([*dict.fromkeys(passages), *(q.text for q in queries)])
    found, scores = search(model, queries, passages, wanted=12, skipped=2)
    for query, row, row_scores in zip(queries, found, scores, strict=True):
        allowed = [i for i, text in enumerate(passages) if text not in query.excluded]
        cosine = {i: float(model.vectors[query.text] @ model.vectors[passages[i]]) for i in allowed}
        expected = sorted(allowed, key=lambda i: -cosine[i])[2:]
        assert row.tolist() == expected + [-1] * (12 - len(expected))
        np.testing.assert_allclose(row_scores[: len(expected)], [cosine[i] for i in expected], rtol=1e-6)


def test_every_positive_of_a_repeated_question_is_excluded():
    rows = [{"anchor": "who", "positive": "a"}, {"anchor": "who", "positive": "b"}]
    own = Search({"retrieval": rows}, [{"text": "a", "lang": "en"}, {"text": "b", "lang": "en"}], MineParams())
    assert [query.excluded for query in own.queries] == [{"who", "a", "b"}] * 2


def test_given_negatives_stand_before_mined_ones_and_are_found_once():
    """Those of all rows of a pool, in order, without repeats and without what is a positive of the anchor; others may find them too."""
    texts = ["ada", "bob", "cy", "own", "shared"]
    corpus = [{"text": text, "lang": "en"} for text in texts[:3]]
    rows = [
        {"anchor": "who", "positive": "ada", "negatives": ["own", "cy", "own", "ada"]},
        {"anchor": "what", "positive": "bob", "negatives": []},
    ]
    own = Search({"retrieval": rows}, corpus, MineParams(candidates=3, skip_ranks=0))
    assert list(own.texts) == ["ada", "bob", "cy", "own"]
    pools = rank(own, Table([*texts, "who", "what"]))
    first, second = ([own.texts[row] for row in rows if row >= 0] for rows in pools.candidates)
    assert first == ["own", "cy", "bob"] and sorted(second) == ["ada", "cy", "own"]
    assert pools.candidates.shape == (2, 5) and (pools.candidates[:, 3:] == -1).all()
    vectors = Table([*texts, "who", "what"]).vectors
    np.testing.assert_allclose(pools.scores[0, :3], [vectors["who"] @ vectors[text] for text in first], rtol=1e-6)
    assert NegativePool(torch.from_numpy(pools.candidates), 3).draw(torch.tensor([0])).tolist() == [[3, 2, 1]]


def test_given_negatives_are_searched_beyond_the_limit_of_the_corpus_and_in_other_languages():
    """A negative may be another record's passage, wherever that stands in the corpus."""
    corpus = [{"text": text, "lang": lang} for text, lang in (("ada", "en"), ("bob", "en"), ("far", "en"), ("loin", "fr"))]
    rows = [{"anchor": "who", "positive": "ada", "negatives": ["far", "loin"]}]
    own = Search({"retrieval": rows}, corpus, MineParams(candidates=3, skip_ranks=0).model_copy(update={"max_corpus": 2}))
    pools = rank(own, Table(["ada", "bob", "far", "loin", "who"]))
    assert [own.texts[row] for row in pools.candidates[0] if row >= 0] == ["far", "loin", "bob"]


def test_an_anchor_is_searched_under_its_rows_own_prompt_else_the_models():
    class Prompted(Table):
        """Another vector for a text under each prompt."""

        prompts = {"query": "ask: ", "document": "read: "}

        def encode(self, texts, prompt=None, **_):
            return super().encode([f"{prompt or ''}{text}" for text in texts])

    passages = [f"p{i}" for i in range(8)]
    rows = [{"anchor": "who", "positive": f"p{i}", **more} for i, more in enumerate(({"prompt": "name: "}, {"prompt": ""}, {}))]
    model = Prompted([f"read: {text}" for text in passages] + ["name: who", "ask: who"])
    own = Search({"retrieval": rows}, [{"text": text} for text in passages], MineParams(candidates=5, skip_ranks=0))
    pools = rank(own, model)
    for found, prompt in zip(pools.candidates, ("name: ", "ask: ", "ask: "), strict=True):
        cosine = {i: float(model.vectors[f"{prompt}who"] @ model.vectors[f"read: p{i}"]) for i in range(3, 8)}
        assert found.tolist() == sorted(cosine, key=cosine.get, reverse=True)
    assert pools.candidates[0].tolist() != pools.candidates[1].tolist()


def test_translations_share_what_any_of_them_was_given():
    rows = [{"anchor": language, "positive": "ada", "positive_id": "7", "negatives": [f"not {language}"]} for language in ("de", "fr")]
    own = Search({"clr": rows}, [{"id": "7", "text": "ada", "lang": "en"}], MineParams())
    assert list(own.queries) == [Query("7", "ada", frozenset({"ada"}), ("not de", "not fr"))]
    assert list(own.texts) == ["ada", "not de", "not fr"]


def test_own_rows_search_their_positives_and_the_corpus_that_is_given():
    rows = {"retrieval": [{"anchor": f"q{i}", "positive": f"p{i}"} for i in range(4)], "sts": []}
    model = Table([f"{letter}{i}" for letter in "qpx" for i in range(4)])
    pools = mine(model, rows, MineParams(candidates=9, skip_ranks=0), corpus=["x0", "p1", {"text": "x1"}])
    assert list(pools.texts) == ["x0", "p1", "x1", "p0", "p2", "p3"]
    assert [sorted(pools.texts[row] for row in own if row >= 0) for own in pools.candidates] == [
        sorted({"x0", "x1", "p0", "p1", "p2", "p3"} - {f"p{i}"}) for i in range(4)
    ]


def test_sets_without_an_anchor_have_no_pools_and_the_run_goes_on(tmp_path):
    params = pair_params(tmp_path)
    finish_weak(params)
    for name in ("retrieval", "clr"):
        SETS[name].write(open_stage("sets", params).path / f"{name}.parquet", [])
    stage = mine_negatives(open_stage("mine", params))
    assert stage.results == {"pools": 0, "passages": len(tables()["passages"])}
    assert load_pools(open_stage("supervised", params)).candidates.shape == (0, params.mine.candidates)


def test_pools_are_read_back(tmp_path):
    rows = {"retrieval": [{"anchor": f"q{i}", "positive": f"p{i}"} for i in range(4)]}
    pools = mine(Table([f"{letter}{i}" for letter in "qp" for i in range(4)]), rows, MineParams(candidates=2, skip_ranks=0))
    pools.save(tmp_path / "pools.npz")
    again = Pools.load(tmp_path / "pools.npz", pools.search)
    assert [again.number(f"retrieval-{i}") for i in range(5)] == [pools.number(f"retrieval-{i}") for i in range(5)] == [0, 1, 2, 3, None]
    assert np.array_equal(again.candidates, pools.candidates) and np.array_equal(again.scores, pools.scores)


def test_mined_pools_name_every_anchor_and_no_positive(tmp_path):
    params = pair_params(tmp_path)
    finish_weak(params)
    stage = mine_negatives(open_stage("mine", params))
    pools = load_pools(open_stage("supervised", params))
    candidates, texts = pools.candidates, pools.texts
    assert stage.results["pools"] == len(pools.ids) == 20 + 40  # CLR pools belong to the passage, whatever the query's language
    for row in tables()["retrieval"] + tables()["clr"]:
        pool = pools.number(row["positive_id"] if row["id"].startswith("clr") else row["id"])
        assert row["positive"] not in [texts[c] for c in candidates[pool]]
        assert (candidates[pool] >= 0).all()


def test_mining_again_follows_the_model_at_its_interval(tmp_path):
    params = pair_params(tmp_path, supervised={"dhnm": {"rule": "remined", "remine_interval": 4}})
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    stage = open_stage("supervised", params)
    pools = load_pools(stage)
    mined = torch.from_numpy(pools.candidates)
    model = SentenceTransformer(str(stage.inputs["weak"].path / "model"), device="cpu")
    loss = SimpleNamespace(pool=NegativePool(mined, 3, DhnmOptions(rule="remined", remine_interval=4)), seen={"swaps": 0}, world=1)
    callback = Remining(pools.search, model, loss)

    def step(number):
        state = SimpleNamespace(global_step=number, max_steps=12, is_world_process_zero=True)
        callback.on_step_end(None, state, None)
        return loss.pool.candidates

    assert torch.equal(step(4), mined) and loss.seen["swaps"] == 0
    torch.nn.init.normal_(model[0].model.embed_tokens.weight)
    assert torch.equal(step(5), mined)  # not due
    assert not torch.equal(step(8), mined) and loss.seen["swaps"] > 0
    assert all(text not in {pools.texts[row] for row in rows.tolist()}
               for query, rows in zip(pools.search.queries, loss.pool.candidates, strict=True) for text in query.excluded)  # fmt: skip
