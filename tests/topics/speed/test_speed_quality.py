"""Smaller vectors: recall of every precision is a naive double loop's, in float64 and bit by bit; ties are broken at random, in
expectation; the whole vector in float32 scores as mteb does; bytes are counted by hand; intervals are paired."""

import itertools
import json

import numpy as np
import pytest

from conan_lib.evaluation.statistics import paired_difference
from conan_lib.topics.retrieval.measure import checkpoint_encoder, evaluate
from conan_lib.topics.speed import measure as efficiency
from conan_lib.topics.speed.measure import measure_efficiency
from conan_lib.topics.speed.quality import PRECISIONS, _Split, as_scored, bytes_of, recall_at_k, truncate


@pytest.fixture(scope="module")
def stage(ready):
    return measure_efficiency(ready("efficiency"))


@pytest.fixture(scope="module")
def quality(stage):
    return json.loads((stage.path / "quality.json").read_text())


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
    (task,) = [task for task in efficiency.load_tasks(stage.inputs["heldout"].path, stage.tasks) if task.kind == "crosslingual"]
    task.load_data()
    splits = [_Split.of(encoder, task.metadata, subset["test"]) for subset in task.dataset.values()]
    whole, bits = (np.concatenate([split.recall(*cell) for split in splits]) for cell in ((16, "float32"), (4, "binary")))
    clusters = [cluster for split in splits for cluster in split.clusters]
    expected = paired_difference(whole, bits, stage.tasks.bootstrap, stage.tasks.seed, clusters)
    (row,) = [r for r in quality if (r["model"], r["task"], r["dim"], r["precision"]) == ("supervised", "bible-clr", 4, "binary")]
    assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == pytest.approx([expected[k] for k in ("difference", "low", "high")])
    assert row["kept"] == pytest.approx(bits.mean() / whole.mean()) and len(set(clusters)) == 24
