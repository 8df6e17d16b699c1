"""Scores of MKQA by the paper's protocol, from what was found and which passages hold an answer. numpy only; tested against trec_eval.

R@k is that of RocketQA and the paper's table: the share of questions with at least one hit among the k nearest passages (trec_eval's
success_k), not the share of the relevant passages that are found.
"""

from collections.abc import Sequence

import numpy as np

from conan_lib.evaluation.statistics import bootstrap_interval

MEAN = "mean"
"""The language of rows that average the languages."""
METRICS = ("answer_recall_at_20", "answer_recall_at_100", "answer_ndcg_at_10")
"""Names of their own: mteb's recall_at_k and ndcg_at_k mean something else."""


def judge(rows: np.ndarray, asked: np.ndarray, pairs: np.ndarray, passages: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the passages found are relevant, and how many are in the whole corpus.

    Args:
        rows: passages found for each question, shape (Q, K).
        asked: each question's row in the list of distinct answers, shape (Q,).
        pairs: (answers, passage) of every match, shape (M, 2).
        passages: in the corpus.

    Returns:
        hits, bool, shape (Q, K); relevant, shape (Q,).
    """
    hits = np.isin(asked[:, None].astype(np.int64) * passages + rows, pairs[:, 0].astype(np.int64) * passages + pairs[:, 1])
    return hits, np.bincount(pairs[:, 0], minlength=asked.max() + 1)[asked]


def success_at(hits: np.ndarray, k: int) -> np.ndarray:
    """1 where one of the first k passages is a hit, else 0; shape (Q,)."""
    return hits[:, :k].any(1).astype(np.float64)


def ndcg_at(hits: np.ndarray, relevant: np.ndarray, k: int = 10) -> np.ndarray:
    """Discounted gain of the hits among the first k over that of an ideal ranking, which begins with min(k, relevant) hits.

    Args:
        hits: bool, shape (Q, K), best first.
        relevant: passages that a ranking could show, shape (Q,).

    Returns:
        Shape (Q,); 0 where nothing is relevant.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    gain = hits[:, :k] @ discounts[: hits.shape[1]]
    return np.divide(gain, ideal, out=np.zeros(len(hits)), where=ideal > 0)


def chance_success_at(relevant: np.ndarray, passages: int, k: int) -> np.ndarray:
    """Expected `success_at` of a random ranking: 1 - C(N - m, k) / C(N, k)."""
    left = passages - np.arange(min(k, passages))
    return 1 - np.prod(np.clip(left - relevant[:, None], 0, None) / left, axis=1)


def summarise(rows: Sequence[dict], resamples: int, seed: int) -> list[dict]:
    """Each language's mean of each metric, and the mean of the languages; intervals resample questions, in all languages together.

    Args:
        rows: of questions.parquet.

    Returns:
        Rows {language, metric, value, low, high, n, chance}; chance is a random ranking's, null for nDCG.
    """
    languages = list(dict.fromkeys(row["lang"] for row in rows))
    found = []
    for metric in METRICS:
        means, chances, weighted, clusters = [], [], [], []
        for lang in languages:
            own = [row for row in rows if row["lang"] == lang]
            values = [row[metric] for row in own]
            means.append(float(np.mean(values)))
            chances.append(float(np.mean([row[f"chance {metric}"] for row in own])) if f"chance {metric}" in own[0] else None)
            weighted += [value * len(rows) / len(languages) / len(own) for value in values]
            clusters += [row["id"] for row in own]
            found.append(_row(lang, metric, means[-1], bootstrap_interval(values, resamples, seed), len(own), chances[-1]))
        interval = bootstrap_interval(weighted, resamples, seed, clusters)
        found.append(_row(MEAN, metric, float(np.mean(means)), interval, len(rows), None if None in chances else float(np.mean(chances))))
    return found


def _row(language: str, metric: str, value: float, interval: tuple[float, float], n: int, chance: float | None) -> dict:
    return {"language": language, "metric": metric, "value": value, "low": interval[0], "high": interval[1], "n": n, "chance": chance}
