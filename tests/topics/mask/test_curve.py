"""Invariants: nDCG@10 is mteb's of the same model; where nothing is left out the last point is what stage score_weak measures; the first
point is the start; a point's weights are those of a run that ended there; a causal stage's two readings are one; the choice is seeded."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from conan_lib.errors import UserError
from conan_lib.params.evaluation import CurveParams
from conan_lib.stages import compute, open_stage
from conan_lib.topics.mask.curve import dev_sets, measure_curve
from conan_lib.topics.mask.measure import soft_mask_shift
from conan_lib.topics.retrieval.measure import score_checkpoint
from tests.small_pairs import finish_inputs, pair_params
from tests.small_stages import VERSES, write_corpus, write_heldout


def prepared(root, **weak):
    """Parameters of a run whose stages before `weak` have finished; its development sets are the test sets of the other tests."""
    weak = {"max_steps": 8, "snapshots": [0.25, 0.5]} | weak
    params = pair_params(root, weak=weak, tasks={"max_length": 32, "split": "dev", "bootstrap": 20})
    finish_inputs(params)
    write_corpus(open_stage("corpus", params).path)
    with (heldout := open_stage("heldout", params)).work() as work:
        write_heldout(heldout.path)
        (heldout.path / "eval" / "test").rename(heldout.path / "eval" / "dev")
        work.commit({})
    return params


def opened(root, **weak):
    """Stage curve of a trained weak stage."""
    params = prepared(root, **weak)
    compute(open_stage("weak", params))
    return measure_curve(open_stage("curve", params))


def rows(stage) -> list[dict]:
    return json.loads((stage.path / "curve.json").read_text())


@pytest.fixture(scope="module")
def soft(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("soft"))


def test_the_last_point_is_what_mteb_measures_of_the_saved_model(soft):
    scored = score_checkpoint(open_stage("score_weak", soft.params))
    (wanted,) = [row["value"] for row in json.loads((scored.path / "scores.json").read_text())
                 if (row["task"], row["metric"], row["subset"]) == ("wiki-retrieval", "ndcg_at_10", "default")]  # fmt: skip
    last = rows(soft)[-1]
    assert last["saved"] == last["scheduled"] == {"wiki-retrieval": pytest.approx(wanted, abs=1e-5)} and 0 < wanted < 1


def test_the_points_run_from_the_start_to_the_end(soft):
    found = rows(soft)
    assert [(row["step"], row["alpha"]) for row in found] == [(0, 0), (2, 0.25), (4, 0.5), (8, 1)]
    assert [row["share"] for row in found] == [0, 0.25, 0.5, 1]
    first, *_, last = found
    assert (first["distance"], first["shift"]) == (0, 0) and first["cosine"] == pytest.approx(1, abs=1e-5) and last["cosine"] < 0.999
    history = json.loads((soft.inputs["weak"].path / "history.json").read_text())
    assert {row["step"]: row["distance"] for row in found[1:]} == {row["step"]: row["distance"] for row in history if "distance" in row}
    assert soft.results["saved_as"] == "bidirectional" and soft.results["sets"] == {"wiki-retrieval": {"queries": 24, "passages": 24}}


def test_a_point_has_the_weights_of_a_run_that_ends_there(soft, tmp_path):
    """The shift and the score of the snapshot after 4 steps, on the model of a run of the same schedule that is stopped there by hand."""
    whole = opened(tmp_path, snapshots=[0.5], soft_mask={"attention": "bidirectional"}, schedule="constant", warmup_ratio=0.0)
    short = opened(
        tmp_path / "4", max_steps=4, snapshots=None, soft_mask={"attention": "bidirectional"}, schedule="constant", warmup_ratio=0.0
    )
    (_, middle, _), (_, end) = rows(whole), rows(short)
    assert middle["distance"] == pytest.approx(end["distance"], rel=1e-5)
    assert middle["cosine"] == pytest.approx(end["cosine"], abs=1e-2) and middle["shift"] == pytest.approx(end["shift"], rel=2e-2)  # bf16
    model = SentenceTransformer(str(short.inputs["weak"].path / "model"), device="cpu")
    model.transformers_model.set_attn_implementation("soft_mask")
    texts = [one for found in dev_sets(short.inputs["heldout"].path / "eval/dev", short.curve) for one in found.passages]
    batch = model.tokenizer(texts, padding=True, return_tensors="pt", truncation=True, max_length=32)
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert end["shift"] == pytest.approx(soft_mask_shift(model.transformers_model, batch, [1.0])[0], rel=1e-4)


def test_a_causal_stage_has_one_reading(tmp_path):
    stage = opened(tmp_path, soft_mask={"attention": "causal"})
    assert stage.results["saved_as"] == "causal" and all(row["saved"] == row["scheduled"] and row["shift"] == 0 for row in rows(stage))


def test_a_smaller_set_keeps_the_passages_of_its_queries(soft):
    folder, params = soft.inputs["heldout"].path / "eval/dev", CurveParams(queries=5, passages=8)
    (one,), (again,), (other,) = (dev_sets(folder, p) for p in (params, params, params.model_copy(update={"seed": 1})))
    assert (len(one.queries), len(one.passages)) == (5, 8) and one.queries == again.queries != other.queries
    assert one.relevance.shape == (5, 8) and (one.relevance.sum(1) == 1).all()
    for row, query in enumerate(one.queries):  # a query is a place's name, its passage ends with it
        assert one.passages[int(np.argmax(one.relevance[row]))].endswith(f" {query}")
    (whole,) = dev_sets(folder, CurveParams(kinds=("crosslingual",), queries=1000, passages=5))
    assert len(whole.queries) == 3 * VERSES and len(whole.passages) == VERSES, "no query loses its passage"


def test_no_set_of_these_kinds_is_one_line(soft):
    folder = soft.inputs["heldout"].path / "eval/dev"
    (folder / "tasks.json").rename(folder / "kept.json")
    try:
        (folder / "tasks.json").write_text("[]")
        with pytest.raises(UserError, match=r"curve\.kinds: the development sets have no retrieval: name another kind"):
            dev_sets(folder, CurveParams())
    finally:
        (folder / "kept.json").rename(folder / "tasks.json")


def test_a_weak_stage_that_had_no_pairs_has_no_curve(tmp_path):
    params = prepared(tmp_path)
    with open_stage("weak", params).work() as work:
        work.commit({"passed_through": True})
    with pytest.raises(UserError, match="stage weak had no pairs and trained nothing"):
        measure_curve(open_stage("curve", params))
    assert open_stage("curve", params).status == "new"
