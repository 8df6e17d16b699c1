"""Invariants: recall of every precision is a naive double loop's, in float64 and bit by bit; ties are broken at random, in expectation;
the whole vector in float32 scores as mteb does; bytes are counted by hand; intervals are paired. Systems take turns, each as often as the
others, and rates and ratios are those of a clock that the test winds. Killed and run again, the same numbers come out."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conan_lib.evaluation.statistics import paired_difference
from conan_lib.topics.retrieval.measure import checkpoint_encoder, evaluate
from conan_lib.topics.speed import measure as efficiency
from conan_lib.topics.speed import timing
from conan_lib.topics.speed.measure import measure_efficiency
from conan_lib.topics.speed.quality import PRECISIONS, _Split, as_scored, bytes_of, recall_at_k, truncate


@pytest.fixture(scope="module")
def stage(ready):
    return measure_efficiency(ready("efficiency"))


@pytest.fixture(scope="module")
def quality(stage):
    return json.loads((stage.path / "quality.json").read_text())


@pytest.fixture(scope="module")
def speed(stage):
    return {row["model"]: row for row in json.loads((stage.path / "speed.json").read_text())}


def naive_score(query: np.ndarray, passage: np.ndarray, corpus: np.ndarray, precision: str) -> float:
    """Channel by channel, in plain floats and whole numbers."""
    total = 0.0
    for channel, (q, p) in enumerate(zip(query.tolist(), passage.tolist(), strict=True)):
        if precision == "binary":
            total += (q > 0) == (p > 0)  # channels minus the Hamming distance
        elif precision == "binary, rescored":
            total += q if p > 0 else -q
        elif precision == "int8":
            low, high = float(corpus[:, channel].min()), float(corpus[:, channel].max())
            step = min(255, max(0, int((p - low) / ((high - low) / 255))))
            total += q * (low + (step + 0.5) * (high - low) / 255)
        else:
            total += q * p
    return total


@pytest.mark.parametrize("precision", PRECISIONS)
def test_recall_of_every_precision_is_a_double_loops(precision):
    rng = np.random.default_rng(0)
    queries, corpus = (truncate(rng.normal(size=(n, 12)).astype(np.float32), 9) for n in (20, 30))
    relevant = [set(rng.choice(30, rng.integers(1, 4), replace=False).tolist()) for _ in range(20)]
    found = recall_at_k(*as_scored(queries, corpus, precision), relevant, 5)
    for query, rows, value in zip(queries, relevant, found, strict=True):
        scores = [naive_score(query, passage, corpus, precision) for passage in corpus]
        hits = 0.0
        for row in rows:
            above, level = (sum(test(s - scores[row]) for s in scores) for test in (lambda d: d > 1e-6, lambda d: abs(d) <= 1e-6))
            hits += min(1, max(0, (5 - above) / level))
        assert value == pytest.approx(hits / len(rows), abs=1e-9)
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(20), abs=1e-6)


def test_int8_decodes_to_within_half_a_step():
    corpus = truncate(np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32), 16)
    _, decoded = as_scored(corpus[:3], corpus, "int8")
    step = (corpus.max(axis=0) - corpus.min(axis=0)) / 255
    assert (abs(decoded - corpus) <= step * 0.51).all() and abs(decoded - corpus).max() > 0


def test_a_tie_is_broken_at_random():
    """Against the mean over every order of the passages, ties going to the earlier one."""
    scores = np.array([[3, 2, 2, 2, 1]], dtype=np.float32)
    relevant = [{1, 4}]
    exact = []
    for order in itertools.permutations(range(5)):
        top = sorted(order, key=lambda row: -scores[0, row])[:2]
        exact.append(len({1, 4}.intersection(top)) / 2)
    assert recall_at_k(np.ones((1, 1), np.float32), scores.T, relevant, 2) == pytest.approx([np.mean(exact)])


def test_bytes_of_a_passage_and_megabytes_of_an_index(quality):
    assert [bytes_of(dim, precision) for dim in (4, 128) for precision in PRECISIONS] == [16, 4, 1, 1, 512, 128, 16, 16]
    for row in quality:
        assert row["index_mb"] == row["bytes"] * 1_000_000 / 1e6 == bytes_of(row["dim"], row["precision"])


def test_every_cell_is_there_and_the_whole_width_is_added(quality):
    cells = {(row["model"], row["task"], row["dim"], row["precision"]) for row in quality}
    assert cells == set(itertools.product(("weak", "supervised"), ("bible-clr", "wiki-retrieval"), (4, 16), PRECISIONS))


def test_the_whole_vector_in_float32_scores_as_mteb_does(ready, quality):
    rows = json.loads((evaluate(ready("evaluate")).path / "scores.json").read_text())
    for row in quality:
        if (row["dim"], row["precision"]) == (16, "float32"):
            subset = "mean" if row["task"] == "bible-clr" else "default"
            (mtebs,) = [r for r in rows if all(r[k] == row[k] for k in ("model", "task", "metric")) and r["subset"] == subset]
            assert row["value"] == pytest.approx(mtebs["value"], abs=1e-5) and row["n"] == mtebs["n"]
            assert (row["low"], row["high"]) == pytest.approx((mtebs["low"], mtebs["high"]), abs=1e-5)
            assert row["difference"] == row["difference_low"] == row["difference_high"] == 0


def test_differences_are_paired_over_passages(stage, quality):
    encoder = checkpoint_encoder(stage, "supervised", 32)
    (task,) = [task for task in efficiency.load_tasks(stage.inputs["data"].path, stage.tasks) if task.kind == "crosslingual"]
    task.load_data()
    splits = [_Split.of(encoder, task.metadata, subset["test"]) for subset in task.dataset.values()]
    whole, bits = (np.concatenate([split.recall(*cell) for split in splits]) for cell in ((16, "float32"), (4, "binary")))
    clusters = [cluster for split in splits for cluster in split.clusters]
    expected = paired_difference(whole, bits, stage.tasks.bootstrap, stage.tasks.seed, clusters)
    (row,) = [r for r in quality if (r["model"], r["task"], r["dim"], r["precision"]) == ("supervised", "bible-clr", 4, "binary")]
    assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx([expected[k] for k in ("difference", "low", "high")])
    assert row["kept"] == pytest.approx(bits.mean() / whole.mean()) and len(set(clusters)) == 24


def test_every_system_is_timed_beside_ours(speed):
    assert set(speed) == {"supervised", "wider", *efficiency.PEER_ENCODERS}
    for row in speed.values():
        assert row["low"] <= row["rate"] <= row["high"] and row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["repeats"] == 3 and 1 <= row["texts"] <= 16 and row["parameters"] > 0 and row["dim"] > 0
    assert {speed["supervised"][field] for field in ("ratio", "ratio_low", "ratio_high")} == {1.0} and speed["supervised"]["mrl"]
    assert (speed["wider"]["kind"], speed["wider"]["dim"], speed["wider"]["mrl"]) == ("random weights", 24, None)


def test_only_the_peers_that_are_asked_for_take_turns(stage):
    """A machine without the peers' packages says `peers: []`; that leaves tiers that say nothing with their keys."""
    assert stage.efficiency.peers is None and "peers" not in stage.efficiency.model_dump(exclude_none=True)
    for peers in ((), ("wordllama",)):
        section = stage.efficiency.model_copy(update={"peers": peers})
        own = replace(stage, params=stage.params.model_copy(update={"efficiency": section}))
        rows = efficiency._speed(own, checkpoint_encoder(own, "supervised", 8))
        assert [row["model"] for row in rows] == ["supervised", "wider", *peers]
        assert {row["device"] for row in rows} == {"cuda" if torch.cuda.is_available() else "cpu"}


def test_another_size_is_our_model_with_another_backbone(stage, speed):
    encode, facts = efficiency._random(stage, stage.efficiency.sizes["wider"])
    vectors = encode(["one text", "another text that is longer"])
    assert vectors.shape == (2, 24) and np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert facts["parameters"] == speed["wider"]["parameters"] > facts["embedding_parameters"] == 400 * 24


def test_turns_rates_and_ratios_with_a_clock_of_our_own(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def system(name: str, seconds: float):
        def call():
            called.append(name)
            now[0] += seconds * (1 + called.count(name))  # slower from round to round

        return call

    seconds = timing.take_turns({"ours": system("ours", 0.5), "peer": system("peer", 2.0)}, 4, "cpu", seed=0)
    assert sorted(called) == ["ours"] * 4 + ["peer"] * 4
    assert all(set(called[turn : turn + 2]) == {"ours", "peer"} for turn in range(0, 8, 2))
    assert seconds == {"ours": pytest.approx([1.0, 1.5, 2.0, 2.5]), "peer": pytest.approx([4.0, 6.0, 8.0, 10.0])}
    rows = timing.rates(seconds, {"ours": 30, "peer": 12}, "ours")
    assert (rows["ours"]["rate"], rows["ours"]["low"], rows["ours"]["high"]) == pytest.approx((17.5, 12.0, 30.0))
    assert [rows["peer"][end] for end in ("ratio", "ratio_low", "ratio_high")] == pytest.approx([0.1] * 3) and rows["peer"]["repeats"] == 4


@pytest.mark.parametrize(("an_item", "most", "fits"), [(1.0, 512, 1), (0.01, 512, 32), (1e-6, 512, 512), (1e-6, 500, 500)])
def test_a_call_has_as_many_items_as_fit(monkeypatch, an_item, most, fits):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def call(n: int):
        now[0] += n * an_item

    assert timing.fitting(call, most, 0.5, "cpu") == fits


def test_killed_and_run_again_the_same_numbers_come_out(ready, params, stage, monkeypatch):
    changed = params.model_copy(update={"efficiency": params.efficiency.model_copy(update={"dims": (4, 8)})})
    again = ready("efficiency", changed)
    with monkeypatch.context() as patch:
        patch.setattr(efficiency, "take_turns", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            measure_efficiency(again)
    assert again.status == "partial"
    measure_efficiency(again)
    rows = json.loads((again.path / "quality.json").read_text())
    assert [row for row in rows if row["dim"] != 8] == json.loads((stage.path / "quality.json").read_text())
    timed = [json.loads((one.path / "speed.json").read_text()) for one in (again, stage)]
    sizes = [
        [{k: row[k] for k in ("model", "kind", "parameters", "embedding_parameters", "dim", "max_tokens", "mrl")} for row in one]
        for one in timed
    ]
    assert sizes[0] == sizes[1]


def test_a_suite_of_the_hub_has_no_quality_rows(ready, params):
    suite = params.model_copy(update={"tasks": params.tasks.model_copy(update={"suite": "MTEB(eng, v2)"})})
    assert efficiency._quality(ready("efficiency", suite), {}) == []
