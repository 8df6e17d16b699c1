"""Invariants: candidates are the best passages of the passage's language by cosine, in order, after the skipped ranks; never a positive,
its equal in text, or another positive of the same question; a model that has not moved mines the same again."""

from types import SimpleNamespace

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from conan_lib.negatives import DhnmOptions, NegativePool
from conan_lib.params.training import MineParams
from conan_lib.stages import open_stage
from conan_lib.training.mine import Remining, Search, _search, load_pools, mine_negatives
from tests.small_pairs import finish_weak, pair_params, tables


class Table:
    """An encoder with fixed unit vectors."""

    device, prompts = torch.device("cpu"), {}

    def __init__(self, texts):
        vectors = np.random.default_rng(0).normal(size=(len(texts), 6))
        self.vectors = dict(zip(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))

    def encode(self, texts, **_):
        return torch.tensor(np.array([self.vectors[text] for text in texts]))


def test_search_equals_sorting_all_scores():
    passages = [f"p{i}" for i in range(12)] + ["p3"]
    queries = [{"text": f"q{i}", "excluded": {"p3", f"p{i}"}} for i in range(5)]
    model = Table([*dict.fromkeys(passages), *(q["text"] for q in queries)])
    found, scores = _search(model, queries, passages, wanted=12, skipped=2)
    for query, row, row_scores in zip(queries, found, scores, strict=True):
        allowed = [i for i, text in enumerate(passages) if text not in query["excluded"]]
        cosine = {i: float(model.vectors[query["text"]] @ model.vectors[passages[i]]) for i in allowed}
        expected = sorted(allowed, key=lambda i: -cosine[i])[2:]
        assert row.tolist() == expected + [-1] * (12 - len(expected))
        np.testing.assert_allclose(row_scores[: len(expected)], [cosine[i] for i in expected], rtol=1e-6)


def test_every_positive_of_a_repeated_question_is_excluded():
    rows = [{"anchor": "who", "positive": "a"}, {"anchor": "who", "positive": "b"}]
    search = Search({"retrieval": rows}, [{"text": "a", "lang": "en"}, {"text": "b", "lang": "en"}], MineParams())
    assert [(query["excluded"], query["lang"]) for query in search.queries] == [({"who", "a", "b"}, "en")] * 2


def test_mined_pools_name_every_anchor_and_no_positive(tmp_path):
    params = pair_params(tmp_path)
    finish_weak(params)
    stage = mine_negatives(open_stage("mine", params))
    pools = load_pools(open_stage("supervised", params))
    place, candidates, texts = pools.place, pools.candidates, pools.texts
    assert stage.results["pools"] == len(place) == 20 + 40  # CLR pools belong to the passage, whatever the query's language
    for row in tables()["retrieval"] + tables()["clr"]:
        pool = place[row["positive_id"] if row["id"].startswith("clr") else row["id"]]
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
               for query, rows in zip(pools.search.queries, loss.pool.candidates, strict=True) for text in query["excluded"])  # fmt: skip
