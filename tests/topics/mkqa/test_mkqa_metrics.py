"""Success, nDCG and the chance level are trec_eval's (pytrec_eval) and simulation's, ties included; languages weigh alike."""

import numpy as np
import pytest

from conan_lib.topics.mkqa.metrics import METRICS, chance_success_at, judge, ndcg_at, success_at, summarise
from tests.small_mkqa import trec


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_trec_evals(ties):
    rng = np.random.default_rng(3)
    passages, questions, k = 400, 50, 120
    scores = rng.integers(0, 12, (questions, passages)).astype(float) if ties else rng.normal(size=(questions, passages))
    rows = np.lexsort((np.arange(passages) * np.ones((questions, 1)), -scores))[:, :k]
    scores = np.take_along_axis(scores, rows, 1)
    relevant = [set(rng.choice(passages, size, replace=False).tolist()) for size in rng.integers(0, 15, questions)]
    pairs = np.array([(q, row) for q, found in enumerate(relevant) for row in found], dtype=np.int32)
    hits, counts = judge(rows, np.arange(questions), pairs, passages)
    assert counts.tolist() == list(map(len, relevant))
    expected = trec(rows, scores, relevant, passages)
    np.testing.assert_allclose(success_at(hits, 20), expected["success_20"])
    np.testing.assert_allclose(success_at(hits, 100), expected["success_100"])
    np.testing.assert_allclose(ndcg_at(hits, counts), expected["ndcg_cut_10"], atol=1e-9)
    assert 0 < success_at(hits, 20).mean() < 1


def test_questions_of_several_languages_share_their_answers():
    pairs = np.array([(0, 5), (1, 2), (1, 5)], dtype=np.int32)
    hits, relevant = judge(np.array([[5, 2], [5, 2], [2, 0]]), np.array([0, 1, 0]), pairs, 6)
    assert hits.tolist() == [[True, False], [True, True], [False, False]] and relevant.tolist() == [1, 2, 1]


def test_chance_is_what_random_rankings_find():
    rng = np.random.default_rng(0)
    relevant = np.array([0, 1, 7, 40])
    found = [[(rng.permutation(60)[:20] < m).any() for _ in range(4000)] for m in relevant]
    np.testing.assert_allclose(chance_success_at(relevant, 60, 20), np.mean(found, 1), atol=0.025)
    assert chance_success_at(np.array([1]), 5, 20) == [1.0]  # k beyond the corpus


def test_the_mean_of_languages_weighs_each_language_alike_and_resamples_questions_together():
    values = {"de": [1, 0, 0, 0], "th": [1, 1]}
    rows = [
        {"id": str(i), "lang": lang, **dict.fromkeys(METRICS, float(v))} | {f"chance {m}": 0.5 for m in METRICS[:2]}
        for lang, found in values.items()
        for i, v in enumerate(found)
    ]
    found = {(row["language"], row["metric"]): row for row in summarise(rows, 200, 0)}
    assert (
        found["de", METRICS[0]]["value"] == 0.25 and found["th", METRICS[0]]["value"] == 1 and found["mean", METRICS[0]]["value"] == 0.625
    )
    assert found["mean", METRICS[0]]["n"] == 6 and found["mean", METRICS[2]]["chance"] is None and found["de", METRICS[1]]["chance"] == 0.5
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
