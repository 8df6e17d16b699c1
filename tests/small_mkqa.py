"""A small corpus for MKQA's tests, words counted as vectors, and the metrics by trec_eval."""

import random

import numpy as np
import pytrec_eval

from conan_lib.topics.mkqa.data import Benchmark, Passage

WORDS = ["red", "blue", "green", "gold", "iron", "wood", "stone", "salt", "fire", "snow"]


def benchmark(size: int = 57) -> Benchmark:
    rng = random.Random(1)
    passages = [Passage(str(i), " ".join(rng.choices(WORDS, k=6))) for i in range(size)]
    return Benchmark("made up", [], lambda: iter(passages), size)


def encode(texts: list[str]) -> np.ndarray:
    """Counts of words: small whole numbers, so that inner products are exact and tie often."""
    return np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)


def trec(rows: np.ndarray, scores: np.ndarray, relevant: list[set[int]], passages: int) -> dict[str, np.ndarray]:
    """The three metrics by trec_eval, which breaks ties by the larger name: names fall with the row."""

    def name(row) -> str:
        return f"{passages - int(row):09}"

    run = {str(q): {name(row): float(s) for row, s in zip(rows[q], scores[q], strict=True)} for q in range(len(rows))}
    qrels = {str(q): {name(row): 1 for row in found} or {"none": 0} for q, found in enumerate(relevant)}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"success.20,100", "ndcg_cut.10"}).evaluate(run)
    return {metric: np.array([found[str(q)][metric] for q in range(len(rows))]) for metric in ("success_20", "success_100", "ndcg_cut_10")}
